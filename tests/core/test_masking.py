"""Secrets are found by their shape, wherever a text is cut; what only looks a little like one stays."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import random
import re
import secrets
import string
import uuid
from collections.abc import Callable
from urllib.parse import quote

import pytest

from orchestrion.core import masking
from orchestrion.core.masking import MASK, MaskedStream, Masker, masked, masked_value
from orchestrion.ops.tokens import PREFIX

ALNUM = string.ascii_letters + string.digits


def letters(count: int, of: str = ALNUM) -> str:
    return "".join(random.Random(count).choice(of) for _ in range(count - 2)) + "Z7"[: min(2, count)]


#: name of the shape -> a secret of it: what stays of it, and what may not.
SECRETS = {
    "token of ours": ("orch_", secrets.token_urlsafe(32) + "A1"),
    "GitHub token": ("ghs_", letters(36)),
    "GitHub fine-grained token": ("github_pat_", f"11{letters(20)}_{letters(59)}"),
    "GitLab token": ("glpat-", letters(20)),
    "GitLab runner token": ("glrt-", f"t3_{letters(27)}.01.{letters(9)}"),
    "npm token": ("npm_", letters(36)),
    "PyPI token": ("pypi-", f"AgEIcHlwaS5vcmcC{letters(120)}"),
    "Hugging Face token": ("hf_", letters(34)),
    "Anthropic key": ("sk-ant-", f"api03-{letters(90)}-{letters(8)}AA"),
    "OpenAI project key": ("sk-proj-", f"{letters(70)}_{letters(70)}"),
    "OpenAI service key": ("sk-svcacct-", letters(90)),
    "OpenAI admin key": ("sk-admin-", letters(90)),
    "Groq key": ("gsk_", letters(52)),
    "xAI key": ("xai-", letters(80)),
    "Perplexity key": ("pplx-", letters(48)),
    "Replicate token": ("r8_", letters(37)),
    "OpenRouter key": ("sk-or-v1-", hashlib.sha256(b"x").hexdigest()),
    "key of a model service": ("sk-", letters(48)),
    "Stripe key": ("rk_live_", letters(24)),
    "Stripe webhook secret": ("whsec_", letters(32)),
    "Slack token": ("xoxb-", f"123456789012-1234567890123-{letters(24)}"),
    "Slack app token": ("xapp-", f"1-A012345-1234567890-{letters(40)}"),
    "AWS access key": ("AKIA", "IOSFODNN7EXAMPLE"),
    "AWS secret key": ("aws_secret_access_key = ", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "AWS session token": ("aws_session_token=", f"IQoJb3JpZ2luX2VjE{letters(300)}="),
    "AWS session token in JSON or XML": ("<SessionToken>", f"IQoJb3JpZ2luX2VjE{letters(300)}="),
    "Azure account key": ("AccountKey=", f"{letters(86)}=="),
    "Google client secret": ("GOCSPX-", letters(28)),
    "Slack webhook": ("https://hooks.slack.com/services/", f"T0123ABCD/B0123ABCD/{letters(24)}"),
    "Discord webhook": ("https://discord.com/api/webhooks/123456789012345678/", letters(68)),
    "Telegram token": ("123456789:AA", letters(33)),
    "Vault token": ("hvs.", f"CAESI{letters(90)}"),
    "Docker token": ("dckr_pat_", letters(27)),
    "Atlassian token": ("ATATT3", f"xFfGF0{letters(170)}=1A2B3C4D"),
    "Databricks token": ("dapi", hashlib.md5(b"x").hexdigest()),
    "Shopify token": ("shpat_", hashlib.md5(b"y").hexdigest()),
    "token in an address": ("https://", letters(40)),
    "AWS secret key in JSON or XML": ("SecretAccessKey: ", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "Google API key": ("AIza", f"Sy{letters(33)}"),
    "Google access token": ("ya29.", f"a0Af{letters(120)}"),
    "SendGrid key": ("SG.", f"{letters(22)}.{letters(43)}"),
    "DigitalOcean token": ("dop_v1_", hashlib.sha256(b"y").hexdigest()),
    "Linear key": ("lin_api_", letters(40)),
    "Notion token": ("ntn_", letters(46)),
    "Notion secret": ("secret_", letters(43)),
    "Fly token": ("fm2_", f"lJPECAAAAAAAAAAA{base64.b64encode(hashlib.sha512(b'f').digest() * 4).decode()}"),
    "Fly macaroon": ("fm1a_", base64.b64encode(hashlib.sha512(b"m").digest()).decode()),
    "age key": ("AGE-SECRET-KEY-1", letters(58, string.ascii_uppercase + string.digits)),
    "Twilio key": ("SK", hashlib.md5(b"z").hexdigest()),
    "authorization header without a scheme": ("Authorization: ", letters(40)),
    "digest in a header": (
        "Authorization: Digest username=ada, response=",
        hashlib.md5(b"r").hexdigest(),
    ),
    "AWS signature": ("Signature=", hashlib.sha256(b"s").hexdigest()),
    "header with a key": ("X-Api-Key: ", letters(32)),
    "cookies in a header": ("Set-Cookie: session=", letters(32)),
    "JSON web token": ("eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
    "authorization header": ("Authorization: Basic ", base64.b64encode(b"user:pass").decode()),
    "bearer token": ("bearer ", letters(40)),
    "encoded bearer token": ("Bearer%20", letters(40)),
    "password in an address": ("postgres://ada:", "hunter2"),
    "password in an escaped address": (r"postgresql:\/\/bob:", "hunter2"),
}
KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join([letters(64)] * 20) + "\nab+/c==\n-----END RSA PRIVATE KEY-----"
KEY_OF_SSH = KEY.replace("RSA", "OPENSSH")
AROUND = ("{}", "token={}", "x {} y", '"{}"', "'{}',", "line\n{}\nline", "({})", "export A={}; run", "a/{} b")


def whole(shape: str) -> str:
    kept, secret = SECRETS[shape]
    return f"{kept}{secret}{'@db.example/app' if 'in an' in shape and 'address' in shape else ''}"


def test_headers_and_addresses_as_programs_write_them() -> None:
    for said, kept in (
        ("Cookie: lang=en; session=abcdef0123456789", "Cookie: lang=***"),
        ('curl -H "Cookie: session=abcdef0123456789" x', 'curl -H "Cookie: session=***" x'),
        (
            'Authorization: Digest username="u", response="0123456789abcdef0123456789abcdef"',
            'Authorization: Digest username="u", response="***"',
        ),
        ("postgres://user:p/a/ss@host/db", "postgres://user:***@host/db"),
        ("PRIVATE-TOKEN: 1234567890abcdefghij", "PRIVATE-TOKEN: ***"),
        ("X-API-KEY: required", "X-API-KEY: required"),
        ("X-Api-Key: YOUR_API_KEY", "X-Api-Key: YOUR_API_KEY"),
        ("authorization: none-of-them-needed", "authorization: none-of-them-needed"),
        ("the cookie: it is a=b", "the cookie: it is a=b"),
        ("http://localhost:8080/path@2x", "http://localhost:8080/path@2x"),
        ("https://unpkg.example/@scope/a@1.2", "https://unpkg.example/@scope/a@1.2"),
    ):
        assert masked(said) == kept
    assert Masker({"DATABASE_URL": "x://user:p/a/ssw0rd@host"})("it is p/a/ssw0rd") == f"it is {MASK}"


def test_there_is_a_secret_of_every_shape() -> None:
    assert set(SECRETS) == {shape.name for shape in masking.SHAPES}
    assert any(PREFIX in shape.prefixes for shape in masking.SHAPES)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("shape", SECRETS)
def test_a_secret_is_replaced_and_its_kind_stays(shape: str, around: str) -> None:
    kept, secret = SECRETS[shape]
    text = around.format(whole(shape))
    assert masked(text) == text.replace(f"{kept}{secret}", f"{kept}{MASK}")
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    "prefix", ["ghp_", "github_pat_", "glpat-", "sk-ant-api03-", "sk-proj-", "sk-svcacct-", "sk-admin-"]
)
def test_a_letter_before_it_hides_no_secret(prefix: str) -> None:
    secret = "aB3xYz" * 10
    assert secret not in masked(f"xx{prefix}{secret}")


@pytest.mark.parametrize("shape", SECRETS)
def test_a_secret_in_json_is_replaced_and_json_it_stays(shape: str) -> None:
    document = {"text": f'first\n{whole(shape)}\n"quoted" \t{whole(shape)}\\', "more": json.dumps({"a": whole(shape)})}
    for ascii_only in (True, False):
        said = json.dumps(document, ensure_ascii=ascii_only)
        assert SECRETS[shape][1] not in masked(said)
        assert json.loads(masked(said)).keys() == document.keys()
        assert masked(said).replace("\\", "").count(f"{SECRETS[shape][0]}{MASK}".replace("\\", "")) == 3


@pytest.mark.parametrize(
    "text",
    [
        "risk-assessment-of-the-new-payment-provider-2026 task-1234567890abcdef1234567890abcdef",
        "disk-abcdefghijklmnopqrstuvwxyz0123456789ABCD",
        "sk-loading-indicator-with-a-long-class-name-v2",
        hashlib.sha1(b"commit").hexdigest() + " " + hashlib.sha256(b"x").hexdigest(),
        str(uuid.UUID(int=2**100 + 12345)),
        f"data:image/png;base64,{base64.b64encode(random.Random(7).randbytes(60_000)).decode()}",
        base64.urlsafe_b64encode(random.Random(8).randbytes(60_000)).decode(),
        f"integrity sha512-{base64.b64encode(hashlib.sha512(b'x').digest()).decode()}",
        "orch_a_function_name_that_is_quite_long_and_has_no_digit_in_it()",
        "the bearer of this letter, a bearer token, Bearer authentication, Basic understanding",
        "Authorization: Bearer $TOKEN and Authorization: Bearer <token>",
        "https://example.org:8080/a@b git@github.com:a/b.git ssh://git@host/x http://[::1]:80/",
        "postgres://ada:$PASSWORD@db/app postgres://ada:***@db/app postgres://ada:<password>@db/app",
        "npm_config_registry=https://registry.npmjs.org npm_lifecycle_event=test",
        "ghp_short github_pat_ hf_transfer hf_hub_download_and_a_bit_more",
        "the header is -----BEGIN PRIVATE KEY----- and so on, see RFC 7468 for more",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END CERTIFICATE-----",
        "pypi-server-configuration-documentation-guide-and-more",
        "\x1b[1;32mok\x1b[0m \x1b[31mthe bearer of this\x1b[0m \\u001b[1mghp_short\\u001b[0m C:\\e[x",
        "CHAKIAIOSFODNN7EXAMPLES AKIA AKIAshort 1.SG.2",
        "eyJhbGciOiJIUzI1NiJ9 alone is only an object",
        "task-ant-colony-optimisation-of-the-long-way disk-proj-of-a-name-that-is-long-enough-to-be-one",
        "https://a-person@host.example/x https://github-actions[bot]@users.example ssh://deploy-2024@host:22/x",
        "10:AAB the session_token = None, SessionToken: null, dapi dapifoo r8_ gsk_ hvs.example.org the xai-project",
        "glrt-runner glft-a whsec_ whsec_of_the_endpoint fm2_band",
        "fm2_radio_station_with_a_name_that_is_long_enough_to_be_one_of_theirs",
        "secret_name secret_access_key_of_the_user_in_the_other_account_2026 SECRET_ secret_manager_v2",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


def coloured(text: str, cuts: tuple[float, ...], begin: str, end: str) -> str:
    """``text`` with a sequence before it, at the cuts, and behind it."""
    at = [0, *(int(len(text) * cut) for cut in cuts), len(text)]
    return begin + f"{end}{begin}".join(text[a:b] for a, b in itertools.pairwise(at)) + end


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("\x1b[1;32m", "\x1b[0m"),
        ("\x1b[38;5;196m\x1b[1m", "\x1b(B\x1b[m"),
        ("\x1b]8;;https://x.example/\x1b\\", "\x1b]8;;\x07"),
        ("\\u001b[31m", "\\u001b[0m"),
        ("\\\\u001B[31m", "\\\\u001b[K"),
        ("\\033[31m", "\\x1b[0m"),
        ("\x1b[1m\\e[31m", "\\e[0m"),
    ],
)
@pytest.mark.parametrize("cuts", [(), (0.5,), (0.2, 0.7), (0.1, 0.11, 0.95)])
@pytest.mark.parametrize("shape", SECRETS)
def test_a_coloured_secret_is_replaced_and_the_colours_stay(
    shape: str, cuts: tuple[float, ...], begin: str, end: str
) -> None:
    kept, secret = SECRETS[shape]
    for around in ("{}", "a {} b", "line\n{}\nline", *(() if cuts else ("word{}",))):
        text = around.format(coloured(whole(shape), cuts, begin, end))
        clean = masked(text)
        assert clean.replace(begin, "").replace(end, "") == around.format(whole(shape)).replace(
            kept + secret, kept + MASK
        )
        assert (clean.count(begin), clean.count(end)) == (text.count(begin), text.count(end))
        assert masked(clean) == clean


def test_colours_between_kind_and_secret_and_links_hide_none() -> None:
    secret = letters(40)
    for text in (
        f"Authorization: \x1b[1mBearer\x1b[0m {secret}",
        f"Authorization:\x1b[1m Bearer \x1b[0m{secret}",
        f"\x1b[31mghp_\x1b[0m{secret}",
        f"\x1b]8;;https://ada:{secret}@x.example/\x1b\\the page\x1b]8;;\x1b\\",
        json.dumps({"text": f"\x1b[31mghp_\x1b[0m{secret}"}),
        json.dumps(json.dumps({"text": f"\x1b[31mghp_{secret[:20]}\x1b[0m{secret[20:]}"})),
    ):
        assert secret[:20] not in masked(text)
        assert secret[20:] not in masked(text)
        assert masked(text).count("\x1b") == text.count("\x1b")
    assert masked(f"\x1b[1mtoken{secret}\x1b[0m") == f"\x1b[1mtoken{secret}\x1b[0m"
    assert secret not in Masker({"API_KEY": secret})(f"a{secret[:9]}\x1b[0m{secret[9:]}").replace("\x1b[0m", "")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"a%3Aghp_{letters(36)}", "a%3Aghp_***"),
        (f"a\\u003dghp_{letters(36)}", "a\\u003dghp_***"),
        (f"AUTHORIZATION: BEARER {letters(20)}", "AUTHORIZATION: BEARER ***"),
        (f"HTTP_AUTHORIZATION=basic {letters(20)}", "HTTP_AUTHORIZATION=basic ***"),
        (f"BEARER {letters(20)}", "BEARER ***"),
        (f"AWS_SECRET_ACCESS_KEY={letters(40)}", "AWS_SECRET_ACCESS_KEY=***"),
        (f"ghp_{letters(36)}ghp_{letters(36)}", "ghp_***"),
        (f"ghp_{letters(36)}npm_{letters(36)}", "ghp_***"),
        ("AKIAIOSFODNN7EXAMPLEAKIAIOSFODNN7EXAMPLE", "AKIA***"),
        ("postgresql://u:p@ssWnsCGRlr@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p@@s@s@h/db?mail=a@b", "postgresql://u:***@h/db?mail=a@b"),
        ("https://u:pw@h?mail=a@b x:y@z", "https://u:***@h?mail=a@b x:y@z"),
        ("postgres://a:b@h1,postgres://c:d@h2", "postgres://a:***@h1,postgres://c:***@h2"),
    ],
)
def test_what_stands_around_a_secret_hides_it_not(text: str, clean: str) -> None:
    assert masked(text) == clean


@pytest.mark.parametrize("key", [KEY, KEY_OF_SSH, KEY.replace("RSA ", ""), KEY.replace("\n", "\r\n")])
def test_of_a_private_key_only_the_first_and_the_last_line_stay(key: str) -> None:
    for text in (f"before\n{key}\nbehind", json.dumps({"key": f"before\n{key}\nbehind"}), json.dumps(json.dumps(key))):
        clean = masked(text)
        assert not re.search("[A-Za-z0-9+/=]{16,}", clean), clean
        assert "ab+/c==" not in clean
        assert clean.count("\n") == text.count("\n")
        assert ("behind" in clean) == ("behind" in text)
        if not text.startswith("before"):
            json.loads(clean)


@pytest.mark.parametrize("size", [1, 7, 40, 64, 200, 1000])
def test_a_key_that_comes_line_by_line_or_in_pieces_is_replaced(size: int) -> None:
    text = f"before\n{KEY}\nbehind {hashlib.sha1(b'commit').hexdigest()}\n"
    by_line, in_pieces = MaskedStream(Masker()), MaskedStream(Masker())
    lines = "\n".join(by_line.whole(line) for line in text.split("\n"))
    pieces = [in_pieces.add(text[at : at + size], 32_768) for at in range(0, len(text), size)]
    for clean in (lines, "".join([*pieces, in_pieces.finish()])):
        assert letters(64)[:16] not in clean
        assert clean.startswith("before\n-----BEGIN")
        assert clean.endswith(f"behind {hashlib.sha1(b'commit').hexdigest()}\n")


def test_what_follows_a_key_without_an_end_stays() -> None:
    stream = MaskedStream(Masker())
    assert stream.whole("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"
    assert letters(64) not in stream.whole(letters(64))
    assert stream.whole("Error: that was all") == "Error: that was all"
    assert stream.whole(letters(64)) == letters(64)


@pytest.mark.parametrize("shape", SECRETS)
def test_a_secret_in_an_endless_line_is_replaced_wherever_it_is_cut(shape: str) -> None:
    kept, secret = SECRETS[shape]
    most = 8192
    for before in (most - len(kept) - 3, most - 1, most + 5, 3 * most - 2):
        stream = MaskedStream(Masker())
        text = "." * before + " " + whole(shape) + " " + "." * 20_000
        clean = "".join(stream.add(text[at : at + 1500], most) for at in range(0, len(text), 1500)) + stream.finish()
        assert clean == text.replace(kept + secret, kept + MASK)


@pytest.mark.parametrize("shape", SECRETS)
def test_a_coloured_secret_in_an_endless_line_is_replaced_wherever_it_is_cut(shape: str) -> None:
    kept, secret = SECRETS[shape]
    most = 8192
    told = coloured(whole(shape), (0.3, 0.6), "\x1b[1;31m", "\x1b[0m")
    for before in (most - len(kept) - 3, most - 1, most + 5, 3 * most - 2):
        stream = MaskedStream(Masker())
        text = "." * before + " " + told + " " + "." * 20_000
        clean = "".join(stream.add(text[at : at + 1500], most) for at in range(0, len(text), 1500)) + stream.finish()
        assert re.sub("\x1b[^m]*m", "", clean) == f"{'.' * before} {whole(shape)} {'.' * 20_000}".replace(
            kept + secret, kept + MASK
        )


@pytest.mark.parametrize("begin", ["\x1b[33m", "\\u001b[33m"])
def test_a_coloured_key_is_replaced(begin: str) -> None:
    lines = [f"{begin}{line}{begin.replace('33', '0')}" for line in KEY.split("\n")]
    stream = MaskedStream(Masker())
    for clean in (masked("\n".join(lines)), "\n".join(stream.whole(line) for line in lines)):
        assert not re.search("[A-Za-z0-9+/=]{16,}", clean)


def test_values_of_secret_variables_are_replaced_also_where_a_line_is_cut() -> None:
    masker = Masker({"API_KEY": "a plain value", "KEY_FILE": "/a/path/to/it", "PAGE_TOKEN": "12345678", "AUTH": "no"})
    assert masker("a plain value, /a/path/to/it 12345678 no") == f"{MASK}, /a/path/to/it 12345678 no"
    stream = MaskedStream(masker)
    clean = "".join(stream.add(part, 4096) for part in ("x" * 4090 + "a pla", "in value", "y" * 9000)) + stream.finish()
    assert clean == f"{'x' * 4090}{MASK}{'y' * 9000}"


@pytest.mark.parametrize("between", ["\n", "\r\n", "\n\n  "])
def test_the_lines_of_a_value_are_replaced_when_they_come_apart(between: str) -> None:
    first, second = "line one, hidden", "second <line> of it"
    masker = Masker({"DB_PWD": f"{first}{between}{second}\n"})
    lines, letters_ = MaskedStream(masker), MaskedStream(masker)
    assert [lines.whole(line) for line in (first, "between", f"a {second}")] == [MASK, "between", f"a {MASK}"]
    text = f"before {first}{between}{second} behind\n"
    by_letter = "".join(letters_.add(letter, 4096) for letter in text) + letters_.finish()
    for clean in (by_letter, masker(text), masker(as_go(text)), masker(json.dumps(json.dumps(text)))):
        assert MASK in clean
        assert not re.search("hidden|second", clean)


@pytest.mark.parametrize(
    "value", ["one hidden line\nshort\nand another", "a line\n/a/path/to/something", "one hidden line\n123456789", KEY]
)
def test_lines_that_alone_would_be_no_secret_are_replaced_only_with_the_others(value: str) -> None:
    masker = Masker({"DB_PWD": value})
    assert masker(f"it is {value}") == f"it is {MASK}"
    lines = value.split("\n")
    assert masker(lines[0]) == lines[0]
    assert masker(lines[-1]) == lines[-1]


ODD = 'say "no" to C:\\new & <Zoë>\tor/else\n'


def as_go(value: str) -> str:
    """What Go makes of a text: HTML can hold it."""
    return re.sub("[<>&]", lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(value, ensure_ascii=False))


JSON_WRITERS: dict[str, Callable[[str], str]] = {
    "Python": json.dumps,
    "JavaScript": lambda value: json.dumps(value, ensure_ascii=False),
    "Go": as_go,
    "PHP": lambda value: json.dumps(value).replace("/", "\\/"),
}


@pytest.mark.parametrize("inner", JSON_WRITERS.values(), ids=JSON_WRITERS)
@pytest.mark.parametrize("outer", JSON_WRITERS.values(), ids=JSON_WRITERS)
def test_a_value_in_json_is_replaced_and_json_it_stays(
    inner: Callable[[str], str], outer: Callable[[str], str]
) -> None:
    masker = Masker({"API_KEY": ODD})
    assert json.loads(masker(inner(f'"{ODD}"'))) == f'"{MASK}"'
    assert json.loads(json.loads(masker(outer(inner(f"\\{ODD}\\"))))) == f"\\{MASK}\\"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("GOOGLE_CREDENTIALS", '{"type": "service", "client_secret": "hidden\\"here"}', 'hidden"here'),
        ("CONFIG", '[{"a": {"smtpPass": ["hidden here"]}}]', "hidden here"),
        ("CACHE", "redis://:hidden%21here@host:1/0", "hidden!here"),
        ("DATABASE", "postgresql://u@h/d?sslmode=require&password=hidden-here", "hidden-here"),
        *((name, "hidden here", "hidden here") for name in ("SMTP_PASS", "DBPASS", "passphrase", "MYSQL_PWD")),
        *((name, "hidden here", "hidden here") for name in ("SESSION_COOKIE", "COOKIES", "PASS_1", "PASS2")),
    ],
)
def test_what_a_variable_holds_that_is_secret_is_replaced(name: str, value: str, secret: str) -> None:
    assert Masker({name: value})(f"it is {secret}.") == f"it is {MASK}."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONFIG", '{"user": "somebody known", "broken'),
        ("CONFIG", '{"user": "somebody known"}'),
        ("TOKENS", '{"limit": 12345678}'),
        ("SMTP_PASS", "1234567"),
        ("PWD", "/home/somebody known"),
        ("OLDPWD", "/home/somebody known"),
        *((name, "somebody known") for name in ("BYPASS", "COMPASS", "PASSTHROUGH", "PASSED")),
        ("PROXY", "http://somebody known:80/a@b"),
    ],
)
def test_what_a_variable_holds_that_is_no_secret_stays(name: str, value: str) -> None:
    text = "somebody known, service, 1234567, 12345678, /home/somebody known"
    assert Masker({name: value})(text) == text


@pytest.mark.parametrize("kept", [quote(ODD), base64.b64encode(ODD.encode()).decode(), ODD.upper()])
def test_other_spellings_of_a_value_are_kept(kept: str) -> None:
    assert Masker({"API_KEY": ODD})(kept) == kept


def test_values_of_json_are_masked_wherever_they_stand() -> None:
    kept, secret = SECRETS["GitHub token"]
    told = {"a": [kept + secret, 3, None, ("postgres://u:p/w@h/d",)], "b": {"password": "x password=secret y"}}
    assert masked_value(told) == {
        "a": [kept + MASK, 3, None, ["postgres://u:***@h/d"]],
        "b": {"password": "x password=*** y"},
    }
