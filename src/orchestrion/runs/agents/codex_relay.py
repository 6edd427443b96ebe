"""The small program that starts Codex, and makes its events tell one answer of the model from the next.

``python -m orchestrion.runs.agents.codex_relay COMMAND...`` passes on what Codex writes. Beside
that it reads Codex's own record of the session, and for every answer that is written down
there it puts a line of its own between the events.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from orchestrion.runs.agents.told import mapping, parsed

#: Types of the lines that are put between: the model that works, and what one answer of it used.
MODEL, ANSWER = "orchestrion.model", "orchestrion.answer"
#: How this module is started.
RELAY = "orchestrion.runs.agents.codex_relay"
#: The session's record is read so often while Codex is silent, in seconds.
LOOK_S = 0.25
#: A longer line is passed on before its end has come, in bytes.
MOST_KEPT = 1024 * 1024
#: So long the record may lag behind the last event, in seconds.
LAG_S = 2.0


def relay(command: Sequence[str], output: IO[bytes], sessions: Path) -> int:
    """Runs Codex, passes its lines on, and puts one between them for every answer in the session's record.

    Returns its exit code; the negative number of a signal. A signal to end is passed on.
    """
    record = _Record(sessions, datetime.now(UTC))
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: process.send_signal(number))
    assert process.stdout is not None
    for begins, piece in _pieces(process.stdout):
        for one in (*(record.answers_before(piece) if begins else ()), piece):
            output.write(one)
        output.flush()
    return process.wait()


def _pieces(stream: IO[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Lines as they come, each with whether a line begins; an empty one now and then while there are none.

    A very long one comes in several pieces, and the last one may have no end.
    """
    import selectors

    half: list[bytes] = []
    size, begins = 0, True
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(LOOK_S):
                yield begins and not half, b""
                continue
            chunk = os.read(stream.fileno(), 65_536)
            if not chunk:
                break
            first, *others = chunk.split(b"\n")
            half.append(first)
            size += len(first)
            if others:
                yield begins, b"".join([*half, b"\n"])
                yield from ((True, line + b"\n") for line in others[:-1])
                half, size, begins = [others[-1]], len(others[-1]), True
            elif size > MOST_KEPT:
                yield begins, b"".join(half)
                half, size, begins = [], 0, False
    yield begins, b"".join(half)


class _Record:
    """What Codex itself writes down of a session, from the moment that this process began."""

    def __init__(self, sessions: Path, since: datetime) -> None:
        self._sessions = sessions
        self._since = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._thread = ""
        self._file: IO[bytes] | None = None
        self._half = b""
        self._is_whole = False

    def answers_before(self, line: bytes) -> list[bytes]:
        """Lines for answers that were written down by now; all of them before the event that ends the turn."""
        if b'"thread.started"' in line[:40]:
            self._thread = str(parsed(line).get("thread_id") or "")
        found = list(self._news())
        if line.startswith((b'{"type":"turn.completed"', b'{"type":"turn.failed"')):
            end = time.monotonic() + LAG_S
            while not self._is_whole and time.monotonic() < end:
                time.sleep(0.01)
                found += self._news()
        return found

    def _news(self) -> Iterator[bytes]:
        self._file = self._file or self._found()
        if self._file is None:
            return
        *whole, self._half = (self._half + self._file.read()).split(b"\n")
        for line in whole:
            # Only these are read: a record may be long.
            if any(mark in line for mark in _MARKS):
                yield from self._understood(parsed(line))

    def _understood(self, entry: Mapping[str, Any]) -> Iterator[bytes]:
        told = mapping(entry.get("payload"))
        if str(entry.get("timestamp")) < self._since:
            return
        if entry.get("type") == "turn_context":
            yield _own({"type": MODEL, "model": told.get("model")})
        if entry.get("type") == "token_usage_record":
            yield _own({"type": ANSWER, "id": told.get("response_id"), "usage": told.get("usage")})
        if told.get("type") in ("task_complete", "turn_aborted"):
            self._is_whole = True

    def _found(self) -> IO[bytes] | None:
        """The record of the thread, as soon as there is one."""
        if not re.fullmatch(r"[\w-]+", self._thread):
            return None
        files = sorted(self._sessions.glob(f"*/*/*/rollout-*-{self._thread}.jsonl"))
        return files[-1].open("rb") if files else None


#: What lines of the record that matter contain.
_MARKS = (b'"turn_context"', b'"token_usage_record"', b'"task_complete"', b'"turn_aborted"')


def _own(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def main(command: Sequence[str]) -> int:
    """Ends as Codex ended, by the same signal if it was one."""
    exit_code = relay(command, sys.stdout.buffer, home(os.environ) / "sessions")
    if exit_code < 0:
        if -exit_code != signal.SIGKILL:
            signal.signal(-exit_code, signal.SIG_DFL)
        os.kill(os.getpid(), -exit_code)
    return exit_code


def home(environ: Mapping[str, str]) -> Path:
    """Where Codex keeps its settings and sessions."""
    return Path(environ.get("CODEX_HOME") or Path(environ.get("HOME", "/")) / ".codex")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
