"""One file of a run's diff, taken apart by line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from orchestrion.runs.failures import printable
from orchestrion.runs.patches import Bounds, FilePatch

#: What is shown at once; the rest is counted and comes when it is asked for.
BOUNDS = Bounds(files=25, file_bytes=30_000, max_bytes=60_000)
#: What git's escapes stand for; three octal digits are a byte.
_SIGNS = {bytes([sign]): bytes([real]) for sign, real in zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True)}
_ESCAPE = re.compile(rb'\\([abtnvfr"\\]|[0-7]{3})')
#: What a file is by its mode, as git writes it.
_KINDS = {"100644": "file", "100755": "executable file", "120000": "link", "160000": "submodule"}
_MODE = re.compile(r"(old|new|new file|deleted file) mode (\d+)")
_PARTICIPLES = {"rename": "renamed", "copy": "copied"}
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)")


@dataclass
class Line:
    """One line of a diff."""

    #: ``add``, ``del``, ``same``, ``hunk``, or ``end``: what git says of the end of the line above.
    kind: str
    #: Its number before and after; None: it was not there.
    old: int | None
    new: int | None
    text: str


@dataclass
class File:
    """What became of one file."""

    path: str
    #: Its mode before and after, as far as git tells them: of a file that is new there is none before.
    old_mode: str | None = None
    new_mode: str | None = None
    #: ``renamed from`` or ``copied from`` another one; empty: neither.
    origin: str = ""
    #: Its content is no text: its lines are not known.
    binary: bool = False
    added: int = 0
    removed: int = 0
    lines: list[Line] = field(default_factory=list)
    #: Lines that are not shown.
    hidden: int = 0

    @property
    def note(self) -> str:
        """What became of it besides its lines: ``new link``, ``deleted file, binary``; empty: nothing."""
        said = (self.origin, _said_of_modes(self.old_mode, self.new_mode), "binary" if self.binary else "")
        return ", ".join(filter(None, said))


def file(patch: FilePatch) -> File:
    """A file of a run's diff."""
    head, *lines = bytes(patch.text).split(b"\n")
    found = File(_path_of(_words(head)), added=patch.added, removed=patch.removed, hidden=patch.hidden)
    old = new = 0
    in_hunk = False
    for line in lines:
        text = line.decode("utf-8", "replace")
        if hunk := _HUNK.match(text):
            old, new, in_hunk = int(hunk[1]), int(hunk[2]), True
            found.lines.append(Line("hunk", None, None, hunk[3].strip()))
        elif text.startswith("diff --git "):
            in_hunk = False
        elif not in_hunk:
            _head(found, _words(line))
        elif text.startswith("+"):
            found.lines.append(Line("add", None, new, text[1:]))
            new += 1
        elif text.startswith("-"):
            found.lines.append(Line("del", old, None, text[1:]))
            old += 1
        elif text.startswith(" "):
            found.lines.append(Line("same", old, new, text[1:]))
            old, new = old + 1, new + 1
        elif text.startswith("\\ "):
            found.lines.append(Line("end", None, None, text[2:]))
    return found


def _words(line: bytes) -> str:
    """A line with names in it; bytes of theirs that are no text are told as they are everywhere."""
    return printable(line.decode("utf-8", "surrogateescape"))


def _said_of_modes(old: str | None, new: str | None) -> str:
    if old == new:
        return ""
    before, after = (_KINDS.get(mode or "", f"file of mode {mode}") for mode in (old, new))
    if old is None or new is None:
        return f"new {after}" if old is None else f"deleted {before}"
    if {old, new} == {"100644", "100755"}:
        return "made executable" if new == "100755" else "no longer executable"
    return f"{before} replaced by a{'n' if after[0] in 'aeiou' else ''} {after}"


def _path_of(head: str) -> str:
    """A first guess from ``diff --git a/x b/x``; the lines below say it better."""
    before, _, after = head.rpartition(' "b/' if head.endswith('"') else " b/")
    return unquoted(f'"{after}' if head.endswith('"') else after) if before else head


def unquoted(name: str) -> str:
    """A name as it is, which git writes between quotes and in C's escapes if it has odd signs."""
    if not (len(name) > 1 and name.startswith('"') and name.endswith('"')):
        return name
    plain = _ESCAPE.sub(lambda found: _SIGNS.get(found[1]) or bytes([int(found[1], 8) & 255]), name[1:-1].encode())
    return _words(plain)


def _head(file: File, text: str) -> None:
    if text.startswith(("+++ b/", '+++ "b/')):
        file.path = unquoted(text[4:].rstrip("\t")).removeprefix("b/")
    elif mode := _MODE.match(text):
        # A file that became a link is deleted in the first part and new in the second.
        if mode[1] in ("old", "deleted file"):
            file.old_mode = mode[2]
        else:
            file.new_mode = mode[2]
    elif text.startswith(("rename from ", "copy from ")):
        word, _, name = text.partition(" from ")
        file.origin = f"{_PARTICIPLES[word]} from {unquoted(name)}"
    elif text.startswith(("rename to ", "copy to ")):
        file.path = unquoted(text.partition(" to ")[2])
    elif text.startswith("Binary files"):
        file.binary = True
