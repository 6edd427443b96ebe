"""One go of an agent: its process from start to end, every line of it, and nothing of it left over.

The agent runs in a session of its own. Its lines go to the log as they come; several
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
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import AgentProblem
from orchestrion.runs import processes
from orchestrion.runs.log import PIECE, RunLog

#: How often the beat is called while the agent is silent, in seconds.
BEAT_S = 0.1
#: Most that is read at once.
_CHUNK = 65_536


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
) -> int:
    """Runs an agent's process to its end. Returns its exit code; the negative number of a signal.

    Raises TimeUp, Silent, AgentProblem when it cannot start, and whatever ``beat`` raises.
    """
    process = _start(argv, folder, environ)
    with processes.owned(process.pid), process:
        root = (process.pid, processes.start_time(process.pid) or 0)
        record.write([root])
        started()
        lines = _Lines(process, log)
        try:
            _follow(process, lines, limits, beat)
        finally:
            processes.end_tree([root, *processes.descendants(os.getpid())], marker, limits.grace_s)
            process.wait()
            lines.finish()
            processes.reap_adopted()
    return process.returncode


def _start(argv: Sequence[str], folder: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
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


def _follow(process: subprocess.Popen[bytes], lines: _Lines, limits: Ended, beat: Callable[[], None]) -> None:
    heard = time.monotonic()
    while process.poll() is None:
        if lines.read(BEAT_S):
            heard = time.monotonic()
        now = time.monotonic()
        if now > limits.deadline:
            raise TimeUp(f"it ran longer than {limits.timeout_s:g} s")
        if limits.stall_s is not None and now - heard > limits.stall_s:
            raise Silent(f"it wrote nothing for {limits.stall_s:g} s")
        beat()


class _Lines:
    """Both outputs of a process, cut into lines for the log."""

    def __init__(self, process: subprocess.Popen[bytes], log: RunLog) -> None:
        self._log = log
        self._selector = selectors.DefaultSelector()
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"out": decoder("replace"), "err": decoder("replace")}
        self._half = {"out": "", "err": ""}
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
        for stream, half in self._half.items():
            if half := half + self._decoders[stream].decode(b"", final=True):
                self._log.add(stream, half)
        self._log.flush()
        self._selector.close()

    def _take(self, stream: str, chunk: bytes) -> None:
        """The whole lines of a chunk; what is behind the last line end waits for the next chunk."""
        *lines, half = (self._half[stream] + self._decoders[stream].decode(chunk)).split("\n")
        if lines:
            self._log.add_all(stream, [line.removesuffix("\r") for line in lines])
        if len(half) > PIECE:
            self._log.add(stream, half)
            half = ""
        self._half[stream] = half
        self._log.flush()


def _read(fd: int) -> bytes | None:
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None
