"""What stands on the screen: aligned text for people, one JSON document for programs.

Titles, logs and errors are other people's text: whatever could move a cursor, turn the
direction of reading or break a line is written out (``\\x1b``) before it is printed. A
stream that cannot show a character gets a plain one instead of a crash. Colours only on a
terminal, and not if ``NO_COLOR`` is set.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from orchestrion.core.errors import EnvironmentProblem
from orchestrion.core.values import as_it_stood
from orchestrion.core.values import count as count

_STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36}
#: Colours of states of tasks and runs.
_STATE_STYLE = {
    "ready": "cyan",
    "in_progress": "blue",
    "starting": "blue",
    "running": "blue",
    "retrying": "yellow",
    "blocked": "yellow",
    "review": "magenta",
    "completed": "green",
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "lost": "red",
    "killed": "red",
    "pending": "dim",
    "cancelled": "dim",
}
#: What stands for a sign on a screen that has only ASCII.
_PLAIN_SIGNS = {
    "…": "...", "·": "-", "→": "->", "×": "x", "–": "-", "│": "|", "├": "|", "└": "`", "─": "-", "█": "#", "░": ".",
    "○": "o", "◎": "*", "▶": ">", "↻": "~", "■": "!", "◆": "?", "✓": "+", "✗": "x",
}  # fmt: skip
#: Colours in an agent's log; they are left out, everything else is written out.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Where a line of a text ends, with the space around it.
_BREAK = re.compile(r"[ \t]*[\r\n][ \t\r\n]*|\t+")
#: Characters that JSON leaves as they are, but a terminal may obey.
_RISKY_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
#: The joiners of emoji and scripts: the invisible signs that text needs.
_JOINERS = "\u200c\u200d"


class Unwritten(EnvironmentProblem):
    """What was asked for was done, and there is no room for the answer."""

    def __init__(self, refused: OSError) -> None:
        full = refused.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        super().__init__(
            f"the answer cannot be written to where stdout leads: {refused.strerror}",
            hint="only the answer is lost: what was asked for is done",
            code="disk_full" if full else "os_error",
        )


def prepare_streams() -> None:
    """Makes stdout and stderr print anything: what they cannot show becomes plain."""
    codecs.register_error("orchestrion", _as_plain)
    for stream in (sys.stdout, sys.stderr):
        # A replaced stream (a test's, a host program's) may not be a file.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="orchestrion")


def drop() -> None:
    """Lets what is still to be printed go nowhere, so that the interpreter's last flush cannot fail."""
    _lead_nowhere(sys.stdout, sys.stderr)


def drop_answers() -> None:
    """The same for stdout alone."""
    _lead_nowhere(sys.stdout)


def _lead_nowhere(*streams: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        # A replaced stream (a test's, a host program's) may not be a file.
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


def _as_plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_PLAIN_SIGNS.get(sign) or _written_out(sign) for sign in signs), error.end


def _written_out(sign: str) -> str:
    number = ord(sign)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


# -- for programs -----------------------------------------------------------------------------


def document(value: Any, stream: TextIO | None = None) -> None:
    """One JSON document."""
    _put(as_json(value, indent=2) + "\n", stream or sys.stdout)


def record(value: Any) -> None:
    """One JSON document on a line of its own, at once."""
    _put(as_json(value) + "\n", sys.stdout)
    flush()


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON that no terminal obeys and that every encoding can hold."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    return _RISKY_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# -- for people -------------------------------------------------------------------------------


def lines(texts: Iterable[str]) -> None:
    """Prints lines that are safe already: made by the functions of this module."""
    for text in texts:
        _put(f"{text}\n", sys.stdout)


def exactly(text: str | bytes) -> None:
    """Prints a text byte for byte, whatever the encoding of stdout; for pipes and files."""
    flush()
    with _answering():
        sys.stdout.buffer.write(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
    flush()


def note(text: str) -> None:
    """A line beside the answer: on stderr."""
    _put(f"{text}\n", sys.stderr)


def _put(text: str, stream: TextIO) -> None:
    if stream is sys.stderr:
        with suppress(OSError):  # what cannot be said beside the answer changes nothing
            stream.write(text)
        return
    with _answering():
        stream.write(text)


def flush() -> None:
    """Lets everything go out that was printed. Raises Unwritten, and BrokenPipeError when nobody reads it."""
    with _answering():
        sys.stdout.flush()


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as refused:
        raise Unwritten(refused) from refused


def plain(text: object) -> str:
    """Somebody's text as one line that no terminal obeys; where it has line ends the line has spaces."""
    given = str(text)
    if given.isprintable():
        return given
    return "".join(_harmless(sign) for sign in _BREAK.sub(" ", _COLOUR.sub("", given)))


def first_line(text: object) -> str:
    """The first line of somebody's text, where there is room for one."""
    return plain(str(text).strip().partition("\n")[0].rstrip())


def block(text: str) -> str:
    """The same for a text of several lines; its line ends and tabs stay, and nothing of it is hidden."""
    clean = _COLOUR.sub("", text.replace("\r\n", "\n"))
    return "".join(sign if sign in "\n\t" else _harmless(sign) for sign in clean)


def written(text: str) -> str:
    """The same for what a program wrote: of a line that was written anew the last writing, and how many there were."""
    if "\r" not in text:
        return block(text)
    return "\n".join(_last_writing(line.rstrip("\r")) for line in text.split("\n"))


def _last_writing(line: str) -> str:
    over = line.count("\r")
    return block(as_it_stood(line)) + (f" (writing {over + 1} of this line; --json has all)" if over else "")


def _harmless(sign: str) -> str:
    if sign.isprintable() or sign in _JOINERS:
        return sign
    # Zs are the spaces of other scripts; Co and Cn are signs without a meaning of their own.
    if unicodedata.category(sign) in ("Zs", "Co", "Cn"):
        return sign
    return _written_out(sign)


def paint(text: str, *styles: str, stream: TextIO | None = None) -> str:
    """``text`` in a colour, where colours are shown."""
    codes = [str(_STYLES[style]) for style in styles if style]
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes and has_colours(stream or sys.stdout) else text


def has_colours(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that shows colours, and nobody forbids them."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at ``stream``."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def state(word: str) -> str:
    """A state in its colour; ``in_progress`` reads "in progress"."""
    return paint(word.replace("_", " "), _STATE_STYLE.get(word, ""))


def heading(text: str) -> str:
    """The title of a part."""
    return paint(text, "bold")


def faint(text: str) -> str:
    """What matters less."""
    return paint(text, "dim")


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Iterator[str]:
    """Columns under each other; the last one is as long as it is, or as the terminal has room.

    ``right`` are the columns set to the right. A column that is empty in every row is left out.
    """
    columns = max((len(row) for row in rows), default=0)
    widths = [max((width(row[c]) for row in rows if c < len(row)), default=0) for c in range(columns)]
    room = _room()
    for row in rows:
        cells = [(c, cell) for c, cell in enumerate(row) if widths[c]]
        texts = [_set(cell, widths[c], c in right, last=c == len(row) - 1) for c, cell in cells]
        line = "  ".join(texts).rstrip()
        yield line if room is None else shorten(line, room)


def _set(cell: str, size: int, right: bool, last: bool) -> str:
    fill = " " * (size - width(cell))
    if right:
        return fill + cell
    return cell if last else cell + fill


def fields(pairs: Iterable[tuple[str, object]], indent: str = "  ") -> Iterator[str]:
    """``name  value`` lines; those without a value are left out."""
    given = [(name, str(value)) for name, value in pairs if value not in (None, "", [], {})]
    size = max((len(name) for name, _ in given), default=0)
    for name, value in given:
        yield f"{indent}{faint(name.ljust(size))}  {value}"


def width(text: str) -> int:
    """Columns that a text takes on a terminal; colours take none."""
    bare = _COLOUR.sub("", text)
    return len(bare) if bare.isascii() else sum(_cells(sign) for sign in bare)


def _cells(sign: str) -> int:
    if unicodedata.combining(sign) or sign in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def shorten(text: str, room: int) -> str:
    """``text`` in at most ``room`` columns; a text that is cut ends in ``…`` and loses its colours behind it."""
    if width(text) <= room:
        return text
    kept, used, place = [], 0, 0
    coloured = False
    while place < len(text):
        colour = _COLOUR.match(text, place)
        if colour:
            kept.append(colour[0])
            coloured, place = True, colour.end()
            continue
        used += _cells(text[place])
        if used > room - 1:
            break
        kept.append(text[place])
        place += 1
    return "".join(kept) + "…" + ("\x1b[0m" if coloured else "")


def _room() -> int | None:
    """Columns of the terminal; None when nobody looks, so nothing needs to be cut."""
    if not is_terminal(sys.stdout):
        return None
    import shutil

    return max(20, shutil.get_terminal_size().columns)


def seconds(value: float | None) -> str:
    """A duration as people say it: ``1.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if value is None:
        return ""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(iso: str | None) -> str:
    """A time as people read it, still in UTC."""
    return "" if not iso else f"{iso[:10]} {iso[11:19]} UTC"


def damage(thing: Mapping[str, Any]) -> str:
    """What of a task or a run cannot be read, to be put behind its name; empty: all can."""
    return f" (its {' and '.join(thing['damaged'])} cannot be read)" if "damaged" in thing else ""


def tally(counts: Mapping[str, int], order: Iterable[str]) -> str:
    """``3 completed · 1 failed``: the numbers that are not zero, in the order given."""
    return " · ".join(f"{counts[word]} {state(word)}" for word in order if counts.get(word))
