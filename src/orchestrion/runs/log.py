"""The log of a run: one JSON line per line that the agent wrote, readable while it runs.

Lines are ``{"at": ms, "stream": "out" | "err" | "note", "text": "..."}``. The log is a
file of the run's folder, not rows of the database.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from json.encoder import encode_basestring as quoted
from pathlib import Path
from typing import Any

#: A longer line is kept in pieces of this many characters.
PIECE = 32_768
#: A flooding agent fills the log to here; what follows is counted, not kept.
MOST_BYTES = 256 * 1024 * 1024
#: Lines that make an agent's "last words".
LAST_WORDS = 12


class RunLog:
    """Writes the log of one run and remembers its last lines."""

    def __init__(self, file: Path) -> None:
        # Names of files may come in as bytes that are no text; they are shown, not refused.
        self._file = file.open("a", encoding="utf-8", errors="backslashreplace")
        self._size = file.stat().st_size
        self._dropped = 0
        self._last: deque[str] = deque(maxlen=LAST_WORDS)

    def add(self, stream: str, text: str) -> None:
        """Writes one line; it can be read after ``flush``."""
        self.add_all(stream, [text])

    def add_all(self, stream: str, lines: Sequence[str]) -> None:
        """Writes lines that came together; a very long one as several. They can be read after ``flush``."""
        pieces = [line[start : start + PIECE] for line in lines for start in range(0, max(len(line), 1), PIECE)]
        if self._size > MOST_BYTES:
            self._dropped += len(pieces)
        else:
            self._put(stream, pieces)
        if stream != "note":
            words = (line[:2000] for line in reversed(lines) if line.strip())
            self._last.extend(reversed(list(islice(words, LAST_WORDS))))

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
        if self._dropped:
            self._put("note", [f"{self._dropped} further lines were not kept: the log is full"])
        with suppress(OSError):
            self._file.close()

    def _put(self, stream: str, lines: Sequence[str]) -> None:
        # A flooding agent writes tens of thousands of lines at once: no call per line but the quoting.
        head = f'{{"at": {time.time_ns() // 1_000_000}, "stream": "{stream}", "text": '
        self._size += self._file.write("".join([f"{head}{quoted(line)}}}\n" for line in lines]))


def read(file: Path, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole lines of a log from a byte offset on, each with the offset behind it.

    A line that a kill or a full disk cut short, and another was written behind, is left out.
    """
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        return
    with stream:
        stream.seek(offset)
        for raw in stream:
            if not raw.endswith(b"\n"):
                return
            offset += len(raw)
            if (line := _parsed(raw)) is not None:
                yield offset, line


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
