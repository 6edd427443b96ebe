"""Secrets in text that comes from outside: found by their shape, and replaced before the text is kept or shown.

Agents, checks and git print what they read, so a token of the user's stands in a log sooner or later. What a
secret of each kind looks like stands in one table. A shape says by which few letters it is found: text is
searched for those first, which is quick, and only around them for the rest. What tells the kind of a secret
(``ghp_``, ``Bearer``, the user in an address) stays, the rest becomes ``***``; no quote and no backslash is
ever taken away, so JSON stays JSON. What colours a text for a terminal may stand within a secret: the text is
read as if that was not there, and it stays.

A private key has many lines, and the end of it may come with the next read: ``MaskedStream`` remembers that
one is open. Secrets without a shape are known by the variable that holds them: ``Masker`` takes an environment,
and finds its values, whole and line by line, as they are and as JSON spells them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

#: Stands in the place of a secret.
MASK = "***"


class Shape(NamedTuple):
    """What a secret of one kind looks like: a prefix that tells the kind, then the secret."""

    name: str
    #: Each of them of the same length.
    prefixes: tuple[str, ...]
    #: The pattern of what is replaced.
    secret: str
    #: The pattern of what stands between the two, and stays.
    shown: str = ""
    #: Whether the prefix begins a word; ``sk-`` does not in ``task-``.
    begins: bool = True
    #: The pattern of what is replaced where it does not begin one; empty: nothing is.
    glued: str = ""


_WORD = "[A-Za-z0-9_-]"
#: A digit and a capital letter, as chance has them, and names of variables seldom.
_MIXED = f"(?={_WORD}{{0,60}}[0-9])(?={_WORD}{{0,60}}[A-Z])"
#: Routable ones have parts behind points.
_GITLAB = f"{_WORD}{{20,300}}(?:[.][0-9a-z]{{2}}[.][A-Za-z0-9]{{7,12}})?"
_FLY = "(?=[A-Za-z+/_-]{0,60}[0-9])(?=[a-z0-9+/_-]{0,60}[A-Z])[A-Za-z0-9+/_-]{40,3000}={0,2}"
_CREDENTIALS = "[A-Za-z0-9._~+/=-]"
_HAS_DIGIT = "(?=[A-Za-z._~+/=-]{0,60}[0-9])"
_QUOTE = r"""(?:\\{0,8}["'])?"""
_IS = rf"{_QUOTE}\s{{0,4}}[:=]\s{{0,4}}{_QUOTE}"
#: Ends of names of headers, and what stands behind them; a word without a digit is none.
_KEY_HEADERS = ("-Api-Key", "-api-key", "-API-KEY", "te-Token", "te-token", "TE-TOKEN")
_OF_HEADER = rf"{_QUOTE}\s{{0,4}}:\s{{0,4}}{_QUOTE}"
_HEADER_VALUE = f"{_HAS_DIGIT}{_CREDENTIALS}{{12,4000}}"
_TO_RESPONSE = rf"{_OF_HEADER}(?i:digest)\s[^\n]{{0,1000}}?\bresponse=\\{{0,8}}\"?"
_COOKIE_NAME, _SIGN = "[A-Za-z0-9_.~!$%&*+^|-]{1,100}", "[A-Za-z0-9._~+/=%&|!*$^:-]"
_COOKIES = rf"(?:{_SIGN}{{6,4000}}|{_SIGN}{{0,5}}(?=;))(?:;\s?{_COOKIE_NAME}={_SIGN}{{1,4000}}){{0,50}}"
_AWS_SECRET = "[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"
_AWS_SESSION = "[A-Za-z0-9/+=]{100,3000}"
#: Behind a letter ``sk-`` may be the end of ``task-``: there a key is known by its rest alone.
_GLUED_KEY = f"{_MIXED}{_WORD}{{40,300}}"
_USER = r"""[^\s:/?#@"'<>\\]{0,256}:"""
#: Up to the last ``@`` of the authority; or with slashes, where no port begins a path.
_PASSWORD = r"""(?![$<{*])(?:[^\s/@"'<>\\]{1,256}(?:@[^\s/?#@"'<>\\]{0,256}){0,16}"""
_PASSWORD += r"""|(?![0-9]{0,5}/)[^\s@"'<>\\]{1,256})(?=@[^\s@"'\\])"""
#: A user so long, with a digit, is none.
_TOKEN_USER = r"""(?=[^\s:/?#@"'<>\\]{0,60}[0-9])[A-Za-z0-9._~+=-]{20,256}(?=@[A-Za-z0-9])"""

SHAPES = (
    Shape("token of ours", ("orch_",), f"{_MIXED}{_WORD}{{40,200}}"),
    Shape(
        "GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        "[A-Za-z0-9]{30,300}(?:_[A-Za-z0-9]{30,300}){0,9}",
        begins=False,
    ),
    Shape("GitHub fine-grained token", ("github_pat_",), "[A-Za-z0-9_]{40,300}", begins=False),
    Shape("GitLab token", ("glpat-", "glptt-", "glcbt-", "glimt-", "gloas-"), _GITLAB, begins=False),
    Shape("GitLab runner token", ("glrt-", "gldt-", "glft-"), _GITLAB, begins=False),
    Shape("npm token", ("npm_",), "[A-Za-z0-9]{36,100}"),
    Shape("PyPI token", ("pypi-",), f"AgE[IN]{_WORD}{{36,400}}"),
    Shape("Hugging Face token", ("hf_",), "[A-Za-z0-9]{30,100}"),
    Shape("Anthropic key", ("sk-ant-",), f"{_WORD}{{20,300}}", glued=_GLUED_KEY),
    Shape("OpenAI project key", ("sk-proj-",), f"{_WORD}{{20,300}}", glued=_GLUED_KEY),
    Shape("OpenAI service key", ("sk-svcacct-",), f"{_WORD}{{20,300}}", glued=_GLUED_KEY),
    Shape("OpenAI admin key", ("sk-admin-",), f"{_WORD}{{20,300}}", glued=_GLUED_KEY),
    Shape("Groq key", ("gsk_",), "[A-Za-z0-9]{40,100}"),
    Shape("xAI key", ("xai-",), "[A-Za-z0-9]{40,120}"),
    Shape("Perplexity key", ("pplx-",), "[A-Za-z0-9]{32,100}"),
    Shape("Replicate token", ("r8_",), "[A-Za-z0-9]{32,60}"),
    Shape("OpenRouter key", ("sk-or-v1-",), "[a-f0-9]{40,100}"),
    Shape("key of a model service", ("sk-",), f"[A-Za-z0-9]{{32,100}}(?!{_WORD})"),
    Shape("Stripe key", ("sk_live_", "rk_live_", "sk_test_", "rk_test_"), "[A-Za-z0-9]{20,300}"),
    Shape("Stripe webhook secret", ("whsec_",), "[A-Za-z0-9+/]{24,100}={0,2}"),
    Shape("Slack token", ("xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-"), "[A-Za-z0-9-]{12,300}"),
    Shape("Slack app token", ("xapp-",), "[0-9]-[A-Za-z0-9-]{10,300}"),
    Shape("AWS access key", ("AKIA", "ASIA"), "[A-Z0-9]{16}(?:A[KS]IA[A-Z0-9]{16}){0,9}(?![A-Za-z0-9])"),
    Shape("AWS secret key", ("ecret_access_key", "ECRET_ACCESS_KEY"), _AWS_SECRET, shown=_IS, begins=False),
    Shape("AWS secret key in JSON or XML", ("ecretAccessKey",), _AWS_SECRET, shown=f"(?:{_IS}|>)", begins=False),
    Shape("AWS session token", ("ession_token", "ESSION_TOKEN"), _AWS_SESSION, shown=_IS, begins=False),
    Shape("AWS session token in JSON or XML", ("essionToken",), _AWS_SESSION, shown=f"(?:{_IS}|>)", begins=False),
    Shape("Azure account key", ("AccountKey=",), "[A-Za-z0-9+/]{40,100}={0,2}", begins=False),
    Shape("Google API key", ("AIza",), f"{_WORD}{{35}}(?!{_WORD})"),
    Shape("Google client secret", ("GOCSPX",), f"{_WORD}{{20,100}}", shown="-"),
    Shape("Google access token", ("ya29.",), "[A-Za-z0-9_.-]{20,1000}"),
    Shape("SendGrid key", ("SG.",), f"{_WORD}{{16,64}}[.]{_WORD}{{16,64}}"),
    Shape(
        "Slack webhook", ("hooks.slack.com/",), "[A-Z0-9]{6,20}/[A-Z0-9]{6,20}/[A-Za-z0-9]{16,60}", shown="services/"
    ),
    Shape("Discord webhook", ("/api/webhooks/",), f"{_WORD}{{40,100}}", shown="[0-9]{10,25}/", begins=False),
    Shape("Telegram token", (":AA",), f"{_WORD}{{33}}(?!{_WORD})", begins=False),
    Shape("Vault token", ("hvs.", "hvb.", "hvr."), f"{_WORD}{{24,400}}"),
    Shape("Docker token", ("dckr_pat_", "dckr_oat_"), f"{_WORD}{{20,100}}"),
    Shape("Atlassian token", ("ATATT3",), "[A-Za-z0-9_=-]{40,400}"),
    Shape("Databricks token", ("dapi",), "[a-f0-9]{32}(?:-[0-9]{1,2})?(?![A-Za-z0-9])"),
    Shape("Shopify token", ("shpat_", "shpca_", "shppa_", "shpss_"), "[a-fA-F0-9]{32,64}"),
    Shape("DigitalOcean token", ("dop_v1_", "doo_v1_", "dor_v1_"), "[a-f0-9]{40,100}"),
    Shape("Linear key", ("lin_api_",), "[A-Za-z0-9]{32,100}"),
    Shape("Notion token", ("ntn_",), "[A-Za-z0-9]{36,100}"),
    Shape("Notion secret", ("secret_",), f"{_MIXED}[A-Za-z0-9]{{43}}(?!{_WORD})"),
    Shape("Fly token", ("fm2_",), _FLY),
    Shape("Fly macaroon", ("fm1a_", "fm1r_"), _FLY),
    Shape("age key", ("AGE-SECRET-KEY-1",), "[0-9A-Z]{50,70}"),
    Shape("Twilio key", ("SK",), "[0-9a-f]{32}(?![A-Za-z0-9])"),
    Shape("JSON web token", ("eyJ",), f"{_WORD}{{8,1000}}[.]eyJ{_WORD}{{4,4000}}(?:[.]{_WORD}{{0,1500}})?"),
    Shape(
        "authorization header",
        ("uthorization", "UTHORIZATION"),
        f"{_CREDENTIALS}{{6,4000}}",
        shown=rf"{_IS}(?i:bearer|basic|token)\s{{1,4}}",
        begins=False,
    ),
    Shape("authorization header without a scheme", ("uthorization", "UTHORIZATION"), _HEADER_VALUE, _OF_HEADER, False),
    Shape("digest in a header", ("uthorization", "UTHORIZATION"), "[0-9a-fA-F]{16,128}", _TO_RESPONSE, False),
    Shape("AWS signature", ("Signature=",), "[0-9a-f]{64}(?![A-Za-z0-9])", begins=False),
    Shape("header with a key", _KEY_HEADERS, _HEADER_VALUE, _OF_HEADER, False),
    Shape("cookies in a header", ("ookie", "OOKIE"), _COOKIES, f"{_OF_HEADER}{_COOKIE_NAME}=", False),
    Shape("bearer token", ("earer ", "EARER "), f"{_HAS_DIGIT}{_CREDENTIALS}{{16,4000}}", begins=False),
    Shape("encoded bearer token", ("earer%20",), f"{_HAS_DIGIT}(?:%|{_CREDENTIALS}){{16,4000}}", begins=False),
    Shape("password in an address", ("://",), _PASSWORD, shown=_USER, begins=False),
    Shape("token in an address", ("://",), _TOKEN_USER, begins=False),
    Shape("password in an escaped address", (r"\/",), _PASSWORD, shown=rf"\\{{1,8}}/{_USER}", begins=False),
)

#: So much of a text that goes on may belong to a secret that is not recognised yet.
UNDECIDED = 1024
#: A word begins here: after no letter or digit, unless that is the end of an escaped or encoded sign.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4}))"
#: What is left of a second token that began right behind the first.
_GLUED = r"(?<=\*\*\*)_[A-Za-z0-9]{30,300}"
#: One of these is in every text with a terminal's sequence, as it is or escaped.
_TERMINAL_MARKS = ("\x1b", "\\u001", "\\x1", "\\033", "\\e[")
_ESC = r"(?:\x1b|\\{1,8}(?:u001[bB]|x1[bB]|033|e(?=\[)))"
#: What a terminal does not show: colours and moves, titles and links, sets of signs.
_TERMINAL = (
    rf"{_ESC}(?:\[[0-?]{{0,64}}[ -/]{{0,4}}[@-~]"
    rf"|[\]PX^_][^\x07\x1b\\]{{0,2048}}(?:\x07|\\{{1,8}}(?:u0007|x07|a)|{_ESC}\\{{1,8}})"
    r"|[ -/]{1,4}[0-~])|\x1b[0-~]"
)
#: Signs that are frequent, and what is around them at a secret: it is looked at before all prefixes are.
_LIKELY = {mark: f"(?<=[a-z0-9]{mark})(?={_WORD}{{12}})" for mark in "_-"}
#: In a shorter text it is quicker to look for all prefixes first than to have the patterns made.
_SHORT = 4096
#: So far before what is searched for does a prefix begin, at most.
_LONGEST_PREFIX = 64
#: A key is no longer than this.
_LONGEST_KEY = 24_000
_KEY = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_KEY_BEGIN, _KEY_END = "-----BEGIN ", "-----END"
_ESCAPE = r"\\{1,8}[nrt]"
#: Lines of a key, as they are or as one line with escaped line ends.
_KEY_BODY = (
    rf"(?:\s|{_TERMINAL}|{_ESCAPE}|(?:Proc-Type|DEK-Info|Version|Comment):[^\n\\]*|[A-Za-z0-9+/]{{16,}}={{0,2}})*"
)
_KEY_LINE = rf"({_TERMINAL}|{_ESCAPE})?[A-Za-z0-9+/]{{16,}}={{0,2}}"
_KEY_LAST_LINE = (
    rf"(^|\n|{_TERMINAL}|{_ESCAPE})([^\S\n]*)[A-Za-z0-9+/]{{1,15}}={{0,2}}(?=(?:\s|{_TERMINAL}|{_ESCAPE})*$)"
)

#: Names of variables whose values are nobody's business; those of authors are no secret.
_SECRET_NAME = (
    "(?i)KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH(?!OR(?!I[ZS]))"
    # These end a word, or are one: ``DBPASS``, ``SESSION_COOKIE_1``; not ``COMPASS``, ``passthrough``.
    "|(?:(?<!BY)(?<!COM)PASS|PASSPHRASE|PWD|COOKIES?)(?=_|[0-9]*$)"
)
#: The password in an address of any variable.
_ADDRESS = r"(?i)://[^\s:/?#@]*:([^\s/]+|(?![0-9]{0,5}/)[^\s@]+)@|[?&](?:ssl)?password=([^&\s]+)"
#: Shorter values are words that may stand anywhere.
_LEAST_SECRET = 8
#: Shorter texts are none of the shapes.
_LEAST_TEXT = 12


def masked(text: str) -> str:
    """``text`` with every secret of a known shape replaced."""
    if len(text) < _LEAST_TEXT:
        return text
    return _without_keys(_without_tokens(text), False)[0]


def masked_address(text: str) -> str:
    """``text`` without the password of a database's address."""
    text = re.sub(r"(://[^:/?#\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"((?:^|[?&\s])(?:ssl)?password=)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)


def masked_value(value: Any) -> Any:
    """A value of JSON without secrets and passwords, wherever in it they stand; keys of mappings stay."""
    if isinstance(value, str):
        return masked(masked_address(value) if "://" in value or "password" in value else value)
    if isinstance(value, dict):
        return {key: masked_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [masked_value(one) for one in value]
    return value


class Masker:
    """Knows the shapes, and the values of an environment's secret variables."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        #: Values of secret variables, in all their spellings.
        self._spellings = _values(environ or {})

    @property
    def knows_values(self) -> bool:
        """Whether it knows more than the shapes."""
        return bool(self._spellings)

    def __call__(self, text: str) -> str:
        """``text`` without its secrets."""
        return masked(self.without_values(text))

    def without_values(self, text: str) -> str:
        """``text`` without the values of secret variables."""
        return _replaced(text, [self._values]) if self._is_value_in(text) else text

    def _is_value_in(self, text: str) -> bool:
        """Whether a value stands there, which is seldom, and quicker to tell than to find out where."""
        views = [text]
        if self._spellings and _is_for_terminals(text):
            views += [re.sub(_TERMINAL, instead, text) for instead in ("", " ")]
        return any(spelling in view for view in views for spelling in self._spellings)

    @cached_property
    def _values(self) -> re.Pattern[str]:
        """Finds every value; most processes never need it."""
        return re.compile("|".join(map(re.escape, self._spellings)))

    def in_data(self, data: Any) -> str:
        """A value as JSON, without its secrets."""
        import json  # which a command that only reads settings does without

        return masked(json.dumps(self._data(data)))

    def _data(self, value: Any) -> Any:
        if not self._spellings:
            return value
        if isinstance(value, str):
            return self.without_values(value)
        if isinstance(value, dict):
            return {key: self._data(one) for key, one in value.items()}
        return [self._data(one) for one in value] if isinstance(value, list | tuple) else value

    def decided(self, text: str) -> int:
        """How many characters of a text that goes on hold no part of a secret whose rest may come."""
        patterns = [*_patterns(), *map(re.compile, (_KEY, _TERMINAL)), *([self._values] if self._spellings else [])]
        end = max(0, len(text) - UNDECIDED)
        near = max(0, end - 8 * UNDECIDED)
        found = [span for view in _views(text[near:]) for span in view.spans(patterns, whole=True)]
        for start, stop in sorted(found, reverse=True):
            if near + start - _LONGEST_PREFIX < end < near + stop:
                end = max(0, near + start - _LONGEST_PREFIX)
        return end


class MaskedStream:
    """Text that comes in pieces: a key that is open at the end of one goes on in the next."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._is_in_key = False
        self._held = ""

    def whole(self, text: str) -> str:
        """The next lines, all of them whole, without their secrets."""
        text, self._is_in_key = _without_keys(_without_tokens(self._masker.without_values(text)), self._is_in_key)
        return text

    def add(self, text: str, most: int) -> str:
        """What may be kept of all that came until now; a line without its end waits up to ``most`` characters."""
        self._held += text
        end = self._held.rfind("\n") + 1
        if not end and len(self._held) > most:
            end = self._masker.decided(self._held)
        ready, self._held = self._held[:end], self._held[end:]
        return self.whole(ready)

    def finish(self) -> str:
        """The rest."""
        rest, self._held = self._held, ""
        return self.whole(rest)


def _without_tokens(text: str) -> str:
    if len(text) < _SHORT:
        read = text + re.sub(_TERMINAL, "", text) if _is_for_terminals(text) else text
        if not any(prefix in read for shape in SHAPES for prefix in shape.prefixes):
            return text
    text = _replaced(text, _patterns())
    return re.sub(_GLUED, "", text) if f"{MASK}_" in text else text


def _is_for_terminals(text: str) -> bool:
    return any(mark in text for mark in _TERMINAL_MARKS)


def _replaced(text: str, patterns: Sequence[re.Pattern[str]]) -> str:
    """``text`` without what the patterns find, however it is coloured."""
    if _is_for_terminals(text):
        for instead in ("", " "):
            text = _masked_at(text, sorted(_View(text, instead).spans(patterns)))
    for pattern in patterns:
        text = pattern.sub(_as_shown, text)
    return text


def _as_shown(match: re.Match[str]) -> str:
    return f"{match[0][: match.start(match.lastindex or 0) - match.start()]}{MASK}"


def _masked_at(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """``text`` with a mask at each of the places, which may overlap; a terminal's sequences within them stay."""
    parts: list[str] = []
    at = 0
    for start, stop in spans:
        if start >= at:
            parts += [text[at:start], MASK]
        if stop > at:
            parts += re.findall(_TERMINAL, text[max(start, at) : stop])
            at = stop
    return "".join([*parts, text[at:]])


class _View:
    """A text as it reads with something else in the place of each terminal's sequence; None: as it is."""

    def __init__(self, text: str, instead: str | None) -> None:
        told = () if instead is None else (match.span() for match in re.finditer(_TERMINAL, text))
        pieces: list[str] = []
        #: Where each piece begins in the view, and where in the text.
        self._shown_at: list[int] = []
        self._at: list[int] = []
        shown, at = 0, 0
        for start, stop in (*told, (len(text), len(text))):
            pieces.append(text[at:start])
            self._shown_at.append(shown)
            self._at.append(at)
            shown, at = shown + start - at + len(instead or ""), stop
        self._text = (instead or "").join(pieces)

    def spans(self, patterns: Iterable[re.Pattern[str]], *, whole: bool = False) -> Iterator[tuple[int, int]]:
        """Where in the text secrets stand; ``whole``: with what tells their kinds."""
        for pattern in patterns:
            for match in pattern.finditer(self._text):
                start, stop = match.span() if whole else match.span(match.lastindex or 0)
                yield self._place(start), self._place(stop - 1) + 1

    def _place(self, shown: int) -> int:
        piece = bisect_right(self._shown_at, shown) - 1
        return self._at[piece] + shown - self._shown_at[piece]


def _views(text: str) -> Iterator[_View]:
    for instead in ("", " ", None) if _is_for_terminals(text) else (None,):
        yield _View(text, instead)


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """All shapes that have the same mark in one pattern: it begins with the mark, for which it is quick to search."""
    by_mark: dict[str, list[str]] = {}
    for shape in SHAPES:
        for mark in dict.fromkeys(map(_mark, shape.prefixes)):
            prefixes = "|".join(re.escape(prefix) for prefix in shape.prefixes if prefix.endswith(mark))
            start = _START if shape.begins else ""
            by_mark.setdefault(mark, []).append(f"(?<={start}(?:{prefixes})){shape.shown}({shape.secret})")
            if shape.glued:
                by_mark[mark].append(f"(?<=(?:{prefixes})){shape.shown}({shape.glued})")
    return tuple(
        re.compile(f"{re.escape(mark)}{_LIKELY.get(mark, '')}(?:{'|'.join(rest)})") for mark, rest in by_mark.items()
    )


def _mark(prefix: str) -> str:
    """What is searched for: the sign at which many prefixes end, or the last two of a short one, which are rare."""
    if prefix[-1] in _LIKELY:
        return prefix[-1]
    return prefix[-2:] if len(prefix) <= 5 else prefix


def _without_keys(text: str, is_in_key: bool) -> tuple[str, bool]:
    """``text`` without private keys, and whether one is still open at its end; ``is_in_key``: at its beginning."""
    if not is_in_key and _KEY_BEGIN not in text:
        return text, False
    key = re.compile(_KEY)
    parts: list[str] = []
    at = 0
    while is_in_key or (begin := key.search(text, at)):
        if not is_in_key and begin:
            parts.append(text[at : begin.end()])
            at = begin.end()
        end = _end_of_key(text, at)
        parts.append(_masked_lines(text[at:end]))
        at = end
        is_in_key = end == len(text)
        if is_in_key:
            break
    return "".join([*parts, text[at:]]), is_in_key


def _end_of_key(text: str, begin: int) -> int:
    """Where the key that has begun ends: at its last line, else where something stands that no key contains."""
    end = text.find(_KEY_END, begin, begin + _LONGEST_KEY)
    if end >= 0 and _KEY_BEGIN not in text[begin:end]:
        return end
    body = re.compile(_KEY_BODY).match(text, begin)
    return body.end() if body else begin


def _masked_lines(body: str) -> str:
    long = re.sub(_KEY_LINE, lambda line: f"{line[1] or ''}{MASK}", body)
    return re.sub(_KEY_LAST_LINE, rf"\1\2{MASK}", long)


def _values(environ: Mapping[str, str]) -> list[str]:
    """The values of secret variables in all their spellings, longest first."""
    secrets = {one for name, value in environ.items() for one in _secrets_of(name, value)}
    kept = {part for one in filter(_is_secret, secrets) for part in (one, *_lines(one))}
    return sorted({spelling for one in kept for spelling in _spellings(one)}, key=len, reverse=True)


def _is_secret(value: str) -> bool:
    """A short value is a word that may stand anywhere; a path to a key file, or a number, is no secret."""
    return len(value) >= _LEAST_SECRET and not value.startswith("/") and not value.isdigit()


def _lines(value: str) -> list[str]:
    """The lines of a value, for one may come long after the other; none where one of them alone would be no secret.

    A private key is known by its shape: its first line is every key's.
    """
    lines = [line for line in map(str.strip, value.splitlines()) if line]
    return lines if _KEY_BEGIN not in value and all(map(_is_secret, lines)) else []


def _secrets_of(name: str, value: Any) -> Iterator[str]:
    """What of a variable, or of a member of one that holds JSON, is secret."""
    if isinstance(value, str):
        if re.search(_SECRET_NAME, name):
            yield value
        yield from _passwords_of(value) if ":" in value or "password" in value else ()
        if value.lstrip().startswith(("{", "[")):
            value = _from_json(value)
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _secrets_of(key, one)
    elif isinstance(value, list):
        for one in value:
            yield from _secrets_of(name, one)


def _passwords_of(address: str) -> Iterator[str]:
    from urllib.parse import unquote  # few variables hold an address

    for found in re.finditer(_ADDRESS, address):
        password = found[1] or found[2]
        yield from (password, unquote(password))


def _from_json(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _spellings(secret: str) -> set[str]:
    """A value as it is, as it stands in JSON, and as that stands in JSON again."""
    once = {secret, *_in_json(secret)}
    return once.union(*map(_in_json, once))


def _in_json(text: str) -> Iterator[str]:
    """How a text stands in a string of JSON: of Python, of JavaScript, and of Go and PHP, which escape more."""
    if text.isalnum() and text.isascii():
        return
    import json  # which a command that only reads settings does without

    for ascii_alone in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_alone)[1:-1]
        yield escaped
        yield re.sub("[<>&]", lambda sign: f"\\u{ord(sign[0]):04x}", escaped)
        yield escaped.replace("/", "\\/")
