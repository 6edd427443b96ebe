"""A unified diff, taken apart by file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: So many lines of one file, and so many files, are shown; the others are counted.
MOST_LINES, MOST_FILES = 1500, 200
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)")


@dataclass
class Line:
    """One line of a diff."""

    #: ``add``, ``del``, ``same`` or ``hunk``.
    kind: str
    #: Its number before and after; None: it was not there.
    old: int | None
    new: int | None
    text: str


@dataclass
class File:
    """What became of one file."""

    path: str
    #: What git says of it besides: ``new file``, ``deleted file``, ``renamed``, ``binary``; empty: it was changed.
    note: str = ""
    added: int = 0
    removed: int = 0
    lines: list[Line] = field(default_factory=list)
    #: Lines that are not shown.
    hidden: int = 0


def files(diff: str) -> list[File]:
    """Files of a diff, in its order."""
    found: list[File] = []
    old = new = 0
    in_hunk = False
    for text in diff.split("\n"):
        if text.startswith("diff --git "):
            found.append(File(_path_of(text)))
            in_hunk = False
        elif not found:
            continue
        elif hunk := _HUNK.match(text):
            old, new, in_hunk = int(hunk[1]), int(hunk[2]), True
            _keep(found[-1], Line("hunk", None, None, hunk[3].strip()))
        elif not in_hunk:
            _head(found[-1], text)
        elif text.startswith("+"):
            found[-1].added += 1
            _keep(found[-1], Line("add", None, new, text[1:]))
            new += 1
        elif text.startswith("-"):
            found[-1].removed += 1
            _keep(found[-1], Line("del", old, None, text[1:]))
            old += 1
        elif text.startswith(" "):
            _keep(found[-1], Line("same", old, new, text[1:]))
            old, new = old + 1, new + 1
    return found


def _path_of(head: str) -> str:
    """A first guess from ``diff --git a/x b/x``; the lines below say it better."""
    return head.rpartition(" b/")[2]


def _head(file: File, text: str) -> None:
    if text.startswith("+++ b/"):
        file.path = text[6:].rstrip("\t")
    elif text.startswith(("new file", "deleted file")):
        file.note = text.rpartition(" mode")[0]
    elif text.startswith("rename from "):
        file.note = f"renamed from {text[12:]}"
    elif text.startswith("Binary files"):
        file.note = "binary"


def _keep(file: File, line: Line) -> None:
    if len(file.lines) < MOST_LINES:
        file.lines.append(line)
    else:
        file.hidden += 1
