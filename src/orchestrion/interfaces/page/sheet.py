"""Filling templates. Whatever goes into one is escaped; only templates themselves say what is markup."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from orchestrion import __version__
from orchestrion.core.model import all_tokens
from orchestrion.core.rights import KEYLESS, LOCAL
from orchestrion.core.states import MARKS
from orchestrion.core.states import standing as standing_of
from orchestrion.core.values import count as counted
from orchestrion.core.values import in_words, without_escapes
from orchestrion.interfaces.page.wording import here
from orchestrion.interfaces.web.security import CALLER_HEADER, path_to_login, signature

if TYPE_CHECKING:
    from fastapi import Request
    from fastapi.responses import HTMLResponse
    from jinja2 import Environment

FOLDER = Path(__file__).parent
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: Times in the texts of use cases: moments in ISO 8601, and spans in seconds.
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
#: A word as our texts begin with, and no name of a setting, no id and nothing between quotes.
_WORD = re.compile(r"[a-z]+[ ,]")
_SPAN = re.compile(r"(?<![\d.,\w])(\d+(?:\.\d+)?) s\b")
#: The views, in the order of the bar: path, label, and the letter that goes there after a ``g``.
VIEWS = (
    ("/", "Board", "b"),
    ("/graph", "Graph", "g"),
    ("/timeline", "Timeline", "t"),
    ("/decisions", "Decisions", "d"),
    ("/files", "Files", "f"),
    ("/stats", "Statistics", "s"),
    ("/health", "Health", "h"),
)
_RUN_MARKS = {
    "starting": "◌",
    "running": "▶",
    "succeeded": "✓",
    "failed": "✗",
    "timed_out": "✗",
    "killed": "–",
    "lost": "?",
}


def filled(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A template as an answer. A request of the page itself gets the view without what surrounds it."""
    from fastapi.responses import HTMLResponse

    part = "hx-request" in request.headers and "hx-history-restore-request" not in request.headers
    text = (
        templates()
        .get_template(template)
        .render(
            frame="part.html" if part else "frame.html",
            here=request.url.path,
            may=request.state.caller.may,
            who=_who(request),
            caller=signature(request.state.caller),
            login=path_to_login(request.scope),
            **values,
        )
    )
    headers = {"Vary": "HX-Request", "Cache-Control": "no-store", CALLER_HEADER: signature(request.state.caller)}
    return HTMLResponse(text, status_code=status, headers=headers)


def _who(request: Request) -> str:
    """Who looks at the page, in words; empty: nobody who may do more than that."""
    caller = request.state.caller
    if caller.actor == KEYLESS:
        return ""
    name = request.app.state.house.user if caller.actor == LOCAL else caller.actor.partition(":")[2]
    return f"{name}, {caller.role}"


@cache
def templates() -> Environment:
    """The page's templates, which escape everything."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "seconds": seconds,
        "count": count,
        "counted": counted,
        "tokens": all_tokens,
        "sentence": sentence,
        "told": told,
        "measured": measured,
        "path": path,
        "usd": usd,
        "percent": percent,
        "bytes": size,
        "words": words,
        "ticked": ticked,
        "compact": compact,
        "printed": printed,
        "here": here,
        "standing": standing,
        "number": "{:,}".format,
        "query": query,
        "ago": ago,
        "at": at,
    }
    marks = {str(state): mark for state, mark in MARKS.items()} | _RUN_MARKS
    made.globals |= {"views": VIEWS, "marks": marks, "version": __version__}
    return made


def _readable(value: object) -> object:
    """Signs that would turn the direction of what follows are written out: a title cannot look like another one."""
    if not isinstance(value, str) or value.isascii() or not _TURNING.search(value):
        return value
    return type(value)(_TURNING.sub(lambda found: f"\\u{ord(found[0]):04x}", value))


def seconds(value: float | None) -> str:
    """``4.2 s``, ``3 min 12 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if value is None:
        return "–"
    if value < 0.05:
        return "0 s"
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes = int(value // 60)
    if minutes < 60:
        return f"{minutes} min {int(value % 60)} s"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def count(value: float | None) -> str:
    """``950``, ``12.3k``, ``4.1M``; an en dash for what is unknown."""
    if value is None:
        return "–"
    for bound, unit in ((1_000_000, "M"), (10_000, "k")):
        if value >= bound:
            return f"{value / (1_000_000 if unit == 'M' else 1000):.1f}{unit}"
    return f"{value:,.0f}"


def usd(value: float | None) -> str:
    """``$0.42``; more digits below a cent."""
    if value is None:
        return "–"
    return f"${value:.4f}" if 0 < value < 0.01 else f"${value:,.2f}"


def percent(value: float | None) -> str:
    """A share of 1 as percent."""
    return "–" if value is None else f"{value * 100:.0f} %" if value in (0, 1) else f"{value * 100:.1f} %"


def size(value: float | None) -> str:
    """Bytes in a readable unit."""
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def words(value: object) -> str:
    """A state or a code as words: ``in_progress`` is ``in progress``."""
    return str(value).replace("_", " ").replace(".", " ")


def ticked(value: object) -> str:
    """Text in which `what stands between backticks` is code."""
    from markupsafe import Markup, escape

    pieces = (escape(piece) for piece in str(value).split("`"))
    return Markup("").join(
        Markup(f"<code>{piece}</code>") if place % 2 else piece for place, piece in enumerate(pieces)
    )


def sentence(text: str) -> str:
    """A refusal on a line of its own begins with a capital letter; a name or what somebody wrote stays as it is."""
    return text[:1].upper() + text[1:] if _WORD.match(text) else text


def told(text: object) -> str:
    """``ticked``, with its moments as the page shows them within a sentence."""
    from markupsafe import Markup

    return Markup(_MOMENT.sub(lambda found: at(found[0]), ticked(text)))


def measured(text: object) -> str:
    """A text of ours with its long spans of time as the page shows all of them."""
    return _SPAN.sub(lambda found: seconds(float(found[1])) if float(found[1]) >= 60 else found[0], str(text))


def at(moment: str) -> str:
    """A moment within a sentence, as markup: behind "since", "until" or "at" stands a time of the browser's clock."""
    from markupsafe import Markup

    return Markup('<time datetime="{}" data-at>{}</time>').format(moment, moment[:16].replace("T", " "))


def ago(at: str) -> str:
    """A moment as markup; the browser says how long ago that is and keeps it current."""
    from markupsafe import Markup

    return Markup('<time datetime="{}" data-ago>{}</time>').format(at, at[:16].replace("T", " "))


def path(name: object) -> str:
    """A file's name, in which a tab or the end of a line is written out: it is not taken for a space."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(name))


def compact(value: object) -> str:
    """Data on one line."""
    return in_words(value)


def printed(value: object) -> str:
    """What a program wrote, without what is meant for a terminal."""
    return without_escapes(str(value))


def standing(edge: Mapping[str, Any], kind: str = "") -> str:
    """How far an edge is, or a gate."""
    is_gate = kind == "gate" or str(edge.get("on", "")).startswith("G")
    return standing_of(edge["state"], is_gate=is_gate)


def query(values: dict[str, Any]) -> str:
    """Parameters of an address, those without a value left out."""
    given = {name: value for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""
