"""The log of a run: one JSON line per line that the agent wrote, readable while it runs.

Lines are ``{"at": ms, "stream": ..., "text": "..."}``. The streams are ``out`` and ``err``,
word for word; ``event``, what the lines of ``out`` mean, for agents whose output we
understand; ``go``, the beginning of a go, with what is needed to understand its lines
again; and ``note``, our own words. A long line is kept in pieces, all but the last of
which carry ``"more": true``. The log is a file of the run's folder, not rows of the
database.

What looks like a secret, or is one of the environment, is masked before it is written.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from json.encoder import encode_basestring as quoted
from pathlib import Path
from typing import Any, NamedTuple

from orchestrion.core import private
from orchestrion.core.masking import MaskedStream, Masker
from orchestrion.core.values import LAST_MOMENT

#: A longer line is kept in pieces of this many characters.
PIECE = 32_768
#: A flooding agent fills the log to here; what follows is counted, not kept.
MOST_BYTES = 256 * 1024 * 1024
#: A page of a log has no more bytes than this, unless it is one line.
PAGE_BYTES = 256 * 1024
#: No line of ours is longer, in bytes.
_LONGEST = 64 * 1024 * 1024
#: Lines are counted in pieces of so many bytes.
_PIECE = 1024 * 1024
#: Lines that make an agent's "last words".
LAST_WORDS = 12


class RunLog:
    """Writes the log of one run and remembers its last lines."""

    def __init__(self, file: Path, environ: Mapping[str, str] | None = None) -> None:
        # Names of files may come in as bytes that are no text; they are shown, not refused.
        self._file = open(  # noqa: SIM115 - ``close`` does
            file, "a", encoding="utf-8", errors="backslashreplace", opener=private.opener
        )
        self._size = os.fstat(self._file.fileno()).st_size
        self._dropped = 0
        self._last: deque[str] = deque(maxlen=LAST_WORDS)
        self._masker = Masker(environ)
        self._streams: defaultdict[str, MaskedStream] = defaultdict(lambda: MaskedStream(self._masker))

    def add(self, stream: str, text: str, *, more: bool = False) -> None:
        """Writes one line, or with ``more`` the beginning of one; it can be read after ``flush``."""
        self._put_all(stream, [text], more=more)

    def event(self, kind: str, text: str, **facts: object) -> None:
        """Writes what a line of the agent meant; it can be read after ``flush``."""
        if self._size <= MOST_BYTES:
            fields = {"at": _now(), "stream": "event", "kind": kind, "text": self._masker(text), **facts}
            self._size += self._file.write(json.dumps(fields, ensure_ascii=False) + "\n")

    def add_all(self, stream: str, lines: Sequence[str]) -> None:
        """Writes lines that came together; a very long one as several. They can be read after ``flush``."""
        self._put_all(stream, lines, more=False)

    def _put_all(self, stream: str, lines: Sequence[str], *, more: bool) -> None:
        text = self._streams[stream].whole("\n".join(lines))
        lines = text.split("\n") if len(lines) > 1 else [text]
        if self._size > MOST_BYTES:
            self._dropped += len(lines)
        else:
            self._put(stream, lines, more=more)
        if stream not in ("note", "go"):
            words = (line[:2000] for line in reversed(lines) if line.strip())
            self._last.extend(reversed(list(islice(words, LAST_WORDS))))

    def decided(self, beginning: str) -> int:
        """How much of the beginning of a line can be added before the rest is there: no secret is cut in two."""
        return self._masker.decided(beginning)

    def note(self, text: str) -> None:
        """Writes a line of our own, if it can be written: a full disk must not keep a run from being settled."""
        with suppress(OSError):
            self.add("note", text)
            self.flush()

    def flush(self) -> None:
        """Lets readers see what was written."""
        self._file.flush()

    def begin_go(self) -> None:
        """The next lines belong to a new go; earlier last words are over."""
        self._last.clear()

    def last_words(self) -> str:
        """The last lines of this go, as one text."""
        return "\n".join(self._last)

    def close(self) -> None:
        """Ends the log; says how much a flood cost."""
        with suppress(OSError):
            if self._dropped:
                self._put("note", [f"{self._dropped} further lines were not kept: the log is full"])
        with suppress(OSError):
            self._file.close()

    def _put(self, stream: str, lines: Sequence[str], *, more: bool = False) -> None:
        # A flooding agent writes tens of thousands of lines at once: no call per line but the quoting.
        head = f'{{"at": {_now()}, "stream": "{stream}", "text": '
        parts: list[str] = []
        for line in lines:
            while len(line) > PIECE:
                parts.append(f'{head}{quoted(line[:PIECE])}, "more": true}}\n')
                line = line[PIECE:]
            parts.append(f"{head}{quoted(line)}{_MORE if more else ''}}}\n")
        self._size += self._file.write("".join(parts))


_MORE = ', "more": true'


def _now() -> int:
    return time.time_ns() // 1_000_000


def read(file: Path, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole lines of a log from a byte offset on, each with the offset behind it.

    A line that a kill or a full disk cut short, and another was written behind, is left out. Raises NotPlain.
    """
    try:
        stream = private.opened(file)
    except FileNotFoundError:
        return
    with stream:
        stream.seek(offset)
        while raw := stream.readline(_LONGEST):
            if not raw.endswith(b"\n"):
                return
            offset += len(raw)
            if (line := _parsed(raw)) is not None:
                yield offset, line


def size(file: Path) -> int:
    """Its bytes; none, if it is no plain file."""
    try:
        found = file.lstat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def in_its_place(problem: private.NotPlain) -> dict[str, Any]:
    """The line that stands for a log that somebody bent."""
    return {"at": _now(), "stream": "note", "text": bent(problem)}


def bent(problem: private.NotPlain) -> str:
    """What is wrong with a file of a run, with the code of the taxonomy."""
    return f"run_folder_bent: {problem.strerror}: {problem.filename}"


class Numbered(NamedTuple):
    """Some lines of a log, found by their number."""

    lines: list[dict[str, Any]]
    #: How many lines are behind these or among them.
    next: int
    #: How many the whole log has.
    total: int


def page(file: Path, offset: int, lines: int) -> tuple[list[dict[str, Any]], int]:
    """At most so many lines from a byte offset on, and the next offset; long lines make the page shorter."""
    found: list[dict[str, Any]] = []
    behind = offset
    for end, line in islice(read(file, offset), lines):
        if found and end - offset > PAGE_BYTES:
            break
        found.append(line)
        behind = end
    return found, behind


def numbered(file: Path, skip: int, lines: int) -> Numbered:
    """At most so many lines behind the first ``skip``, of which nothing is parsed; long ones make it fewer."""
    found: list[dict[str, Any]] = []
    size, behind = 0, skip
    try:
        stream = private.opened(file)
    except FileNotFoundError:
        return Numbered([], skip, 0)
    with stream:
        for number, raw in enumerate(islice(stream, skip + lines)):
            size += len(raw) if number >= skip else 0
            if number >= skip and (size <= PAGE_BYTES or number == skip):
                behind = number + 1
                found += [line for line in [_parsed(raw)] if line is not None]
        stream.seek(0)
        return Numbered(found, behind, sum(piece.count(b"\n") for piece in iter(lambda: stream.read(_PIECE), b"")))


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and _is_ours(line) else None


def _is_ours(line: dict[str, Any]) -> bool:
    """Whether a line has what all of ours have: an agent can write others into the log of its run."""
    at, stream, text = (line.get(key) for key in ("at", "stream", "text"))
    return isinstance(at, int) and 0 <= at <= LAST_MOMENT and isinstance(stream, str) and isinstance(text, str)
