"""One go of an agent: its process from start to end, every line of it, and nothing of it left over.

The agent runs in a session of its own. Its lines go to the log as they come, and whole to
whoever understands them (``Talk``), who may also have something to say to it; several
times a second ``beat`` is called, and what that raises ends the agent. However a go ends,
all that descends from it has ended too when it is over.
"""

from __future__ import annotations

import codecs
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrion.core.errors import AgentProblem
from orchestrion.runs import processes
from orchestrion.runs.log import PIECE, RunLog

#: How often the beat is called while the agent is silent, in seconds.
BEAT_S = 0.1
#: Most that is read at once.
_CHUNK = 65_536
#: A longer line is not understood any more, only logged, in characters.
MOST_HEARD = 4 * 1024 * 1024
#: An agent that had its last word ends by itself within this time, in seconds, or is ended.
LINGER_S = 10.0


class TimeUp(Exception):
    """The run's total time is over."""


class Silent(Exception):
    """The agent wrote nothing for too long."""


@dataclass(frozen=True)
class Ended:
    """When a go is ended from outside."""

    #: On the monotonic clock, in seconds.
    deadline: float
    #: The total time that the deadline stands for.
    timeout_s: float
    #: Longest silence; None: any.
    stall_s: float | None
    #: Time to end politely, before it is killed.
    grace_s: float


class Talk(Protocol):
    """Who understands an agent's output and speaks to it."""

    #: Whether its lines mean anything; else a long one need not be kept together.
    understands: bool

    def opening(self) -> str | None:
        """What it is told first; None: it gets no input at all."""
        ...

    def hear(self, line: str) -> None:
        """One whole line of its standard output."""
        ...

    def outgoing(self) -> str:
        """What it is to be told now; empty: nothing."""
        ...

    def is_over(self) -> bool:
        """Whether nothing more will be said to it, so that its standard input is closed."""
        ...

    def had_last_word(self) -> bool:
        """Whether the agent said all it has to say."""
        ...


def watch(
    argv: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    log: RunLog,
    record: processes.Record,
    marker: str,
    limits: Ended,
    beat: Callable[[], None],
    started: Callable[[], None] = lambda: None,
    talk: Talk | None = None,
) -> int:
    """Runs an agent's process to its end. Returns its exit code; the negative number of a signal.

    An agent that had its last word and does not end is ended, and counts as ended by itself (0).
    Raises TimeUp, Silent, AgentProblem when it cannot start, and whatever ``beat`` raises.
    """
    opening = talk.opening() if talk else None
    process = _start(argv, folder, environ, with_input=opening is not None)
    with processes.owned(process.pid), process:
        root = (process.pid, processes.start_time(process.pid) or 0)
        lines: _Lines | None = None
        mouth: _Mouth | None = None
        try:
            record.write([root])
            started()
            lines = _Lines(process, log, talk)
            mouth = _Mouth(process, opening, talk) if talk and opening is not None else None
            lingered = _follow(process, lines, mouth, talk, limits, beat)
        finally:
            with processes.ended_at_worst(process):
                family, places = [root, *processes.descendants(os.getpid())], processes.places_in(environ)
                processes.end_tree(family, marker, limits.grace_s, places=places)
            process.wait()
            if lines:
                lines.finish()
            if mouth:
                mouth.close()
            processes.reap_adopted()
    return 0 if lingered else process.returncode


def _start(
    argv: Sequence[str], folder: Path, environ: Mapping[str, str], *, with_input: bool
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise AgentProblem(
            f"the agent cannot be started: {error}",
            hint="check that its program is there and executable",
            code="agent_not_started",
        ) from error


def _follow(
    process: subprocess.Popen[bytes],
    lines: _Lines,
    mouth: _Mouth | None,
    talk: Talk | None,
    limits: Ended,
    beat: Callable[[], None],
) -> bool:
    """Until the process ends; True if it had its last word and would not end."""
    heard: float = time.monotonic()
    last_word: float | None = None
    while process.poll() is None:
        if mouth:
            mouth.speak()
        if lines.read(BEAT_S):
            heard = time.monotonic()
        now = time.monotonic()
        last_word = (last_word or now) if talk and talk.had_last_word() else None
        if last_word is not None and now - last_word > LINGER_S:
            return True
        if now > limits.deadline:
            raise TimeUp(f"it ran longer than {limits.timeout_s:g} s")
        if limits.stall_s is not None and now - heard > limits.stall_s:
            raise Silent(f"it wrote nothing for {limits.stall_s:g} s")
        beat()
    return False


class _Mouth:
    """The agent's standard input: what is to be said waits here until the agent takes it."""

    def __init__(self, process: subprocess.Popen[bytes], opening: str, talk: Talk) -> None:
        assert process.stdin is not None
        self._stream = process.stdin
        self._talk = talk
        self._waiting = opening.encode("utf-8", "replace")
        os.set_blocking(self._stream.fileno(), False)

    def speak(self) -> None:
        """Writes what the agent takes now, and closes its input when all is said."""
        if self._stream.closed:
            return
        self._waiting += self._talk.outgoing().encode("utf-8", "replace")
        try:
            if self._waiting:
                self._waiting = self._waiting[os.write(self._stream.fileno(), self._waiting) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.close()
            return
        if not self._waiting and self._talk.is_over():
            self.close()

    def close(self) -> None:
        """Nothing more is said."""
        with suppress(OSError):
            self._stream.close()


class _Lines:
    """Both outputs of a process, cut into lines for the log and for whoever understands them."""

    def __init__(self, process: subprocess.Popen[bytes], log: RunLog, talk: Talk | None = None) -> None:
        self._log = log
        self._talk = talk
        self._selector = selectors.DefaultSelector()
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"out": decoder("replace"), "err": decoder("replace")}
        self._half: dict[str, list[str]] = {"out": [], "err": []}
        self._size = {"out": 0, "err": 0}
        for name, stream in (("out", process.stdout), ("err", process.stderr)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream.fileno(), selectors.EVENT_READ, name)

    def read(self, wait_s: float) -> bool:
        """Waits for output and takes what there is; whether there was any."""
        if not self._selector.get_map():
            time.sleep(min(wait_s, 0.02))
            return False
        heard = False
        for key, _ in self._selector.select(wait_s):
            chunk = _read(key.fd)
            if chunk is None:
                continue
            if not chunk:
                self._selector.unregister(key.fd)
                continue
            heard = True
            self._take(key.data, chunk)
        return heard

    def finish(self) -> None:
        """Takes what is left after the process ended, a half line included."""
        while self._selector.get_map() and self.read(0):
            continue
        for stream in self._half:
            if half := self._whole(stream, self._decoders[stream].decode(b"", final=True)):
                self._tell(stream, [half])
        self._log.flush()
        self._selector.close()

    def _take(self, stream: str, chunk: bytes) -> None:
        """The whole lines of a chunk; what is behind the last line end waits for the next chunk."""
        first, *others = self._decoders[stream].decode(chunk).split("\n")
        if others:
            lines = [self._whole(stream, first), *others[:-1]]
            self._tell(stream, [line.removesuffix("\r") for line in lines])
            first = others[-1]
        self._keep(stream, first)
        self._log.flush()

    def _keep(self, stream: str, half: str) -> None:
        """The beginning of a line; a very long one goes to the log before it is whole."""
        if half:
            self._half[stream].append(half)
            self._size[stream] += len(half)
        most = MOST_HEARD if self._talk and self._talk.understands and stream == "out" else PIECE
        if self._size[stream] > most:
            whole = self._whole(stream, "")
            end = self._log.decided(whole)
            self._log.add(stream, whole[:end], more=True)
            self._half[stream].append(whole[end:])
            self._size[stream] = len(whole) - end

    def _whole(self, stream: str, end: str) -> str:
        line = "".join([*self._half[stream], end])
        self._half[stream].clear()
        self._size[stream] = 0
        return line

    def _tell(self, stream: str, lines: list[str]) -> None:
        self._log.add_all(stream, lines)
        if self._talk and self._talk.understands and stream == "out":
            for line in lines:
                self._talk.hear(line)


def _read(fd: int) -> bytes | None:
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None
