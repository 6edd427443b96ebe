"""Commands whose exit code decides: run one, keep the evidence, leave nothing behind.

A check gets its own session, no input and a time limit. What it prints goes to its log
and, shortened in the middle, into the evidence, both without secrets. When it ends, however it ends, every
process it started ends with it: a server left on a port would spoil the next check.
"""

from __future__ import annotations

import codecs
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.errors import EnvironmentProblem
from orchestrion.core.masking import MaskedStream, Masker
from orchestrion.runs import processes

#: Bytes of output that the evidence keeps: one half from the start, one from the end.
KEPT_BYTES = 64 * 1024
#: Bytes of output that the log file keeps.
LOG_BYTES = 64 * 1024 * 1024
#: The exit code of a command that ran out of time, as timeout(1) has it.
TIMED_OUT = 124

#: Marks the processes of one check, as ORCHESTRION_RUN marks those of a run.
_MARKER = "ORCHESTRION_CHECK"
#: Says in which folder a check runs: whoever takes the folder over ends what was left there.
_FOLDER = "ORCHESTRION_CHECK_FOLDER"
_GRACE_S = 2.0
_PULSE_S = 0.25
_PIECE_BYTES = 64 * 1024
_PIECES = 64
#: A line without its end waits up to so many characters: what it says is looked at whole.
_LINE = 32_768


@dataclass(frozen=True)
class Evidence:
    """What a check did and said."""

    #: As it was given to the shell.
    command: str
    #: The shell's exit code; 128 + n after signal n, ``TIMED_OUT`` when the time was up.
    exit_code: int
    #: Everything it printed, or the start and the end of it with a line between that says what is left out.
    output: str
    #: When it began, in milliseconds since 1970.
    started_at_ms: int
    #: How long it took, in milliseconds.
    duration_ms: int
    #: Whether it was ended because its time was up.
    timed_out: bool

    @property
    def passed(self) -> bool:
        """Whether the work may be accepted as far as this check goes."""
        return self.exit_code == 0 and not self.timed_out


def told(failed: Iterable[Evidence]) -> str:
    """What failed and what it printed, for an agent or a person."""
    parts = []
    for evidence in failed:
        how = "did not end in time" if evidence.timed_out else f"exit code {evidence.exit_code}"
        said = evidence.output[-6000:].rstrip()
        parts.append(
            f"`{evidence.command}` failed ({how})" + (f":\n\n```\n{said}\n```" if said else " and said nothing")
        )
    return "\n\n".join(parts)


def run_check(
    command: str,
    folder: Path,
    environ: Mapping[str, str],
    timeout_s: float | None = None,
    log: Path | None = None,
    *,
    pulse: Callable[[], object] = lambda: None,
    now: Callable[[], float] = time.time,
) -> Evidence:
    """Run ``command`` with /bin/sh in ``folder``; a command that fails is an answer, not an error.

    ``pulse`` is called several times a second while it runs, to renew a lease say; what
    it raises ends the command and comes out here. ``now`` gives seconds since 1970.
    Raises EnvironmentProblem when the shell cannot start or the log cannot be written.
    """
    started_at, begun = now(), time.monotonic()
    deadline = None if timeout_s is None else begun + timeout_s
    with _Output(log, Masker(environ)) as output, _started(command, folder, environ, output) as process:
        timed_out = not _follow(process, output, deadline, pulse)
        code = TIMED_OUT if timed_out else _exit_code(process)
        duration = time.monotonic() - begun
    return Evidence(
        command=command,
        exit_code=code,
        output=output.text(),
        started_at_ms=int(started_at * 1000),
        duration_ms=int(duration * 1000),
        timed_out=timed_out,
    )


def end_left_behind(folder: Path) -> None:
    """Ends the checks in ``folder`` of a process that is gone; the folder must be ours alone."""
    processes.end_tree([], str(folder), _GRACE_S, name=_FOLDER)


@contextmanager
def _started(
    command: str, folder: Path, environ: Mapping[str, str], output: _Output
) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process; all that it started is gone when the block is left."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    process = _start(command, folder, {**environ, _MARKER: mark, _FOLDER: str(folder)})
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    with processes.owned(process.pid), process:
        root = (process.pid, processes.start_time(process.pid) or 0)
        try:
            yield process
        finally:
            with processes.ended_at_worst(process):
                processes.end_tree([root], mark, _GRACE_S, name=_MARKER)
            _drain(process.stdout.fileno(), output)


def _start(command: str, folder: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as problem:
        raise EnvironmentProblem(
            f"cannot start the command {command!r}: {problem}",
            hint="check that its folder exists and that this machine has a /bin/sh",
            code="cannot_start_command",
            command=command,
        ) from problem


def _follow(
    process: subprocess.Popen[bytes], output: _Output, deadline: float | None, pulse: Callable[[], object]
) -> bool:
    """Take what the command prints until it ends or ``deadline`` comes; whether it ended.

    It ends when the shell does: a child in the background may hold the pipe for ever.
    """
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    readable = select.poll()
    readable.register(pipe, select.POLLIN)
    is_open, next_pulse = True, time.monotonic() + _PULSE_S
    while process.poll() is None:
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return False
        left = max(0.0, min(next_pulse, deadline or next_pulse) - now)
        if is_open:
            readable.poll(left * 1000)
            is_open = _drain(pipe, output)
        else:
            with suppress(subprocess.TimeoutExpired):
                process.wait(left)
        if time.monotonic() >= next_pulse:
            pulse()
            next_pulse = time.monotonic() + _PULSE_S
    return True


def _drain(pipe: int, output: _Output) -> bool:
    """Take what is there now, at most a round number of pieces; whether there may be more later."""
    for _ in range(_PIECES):
        try:
            piece = os.read(pipe, _PIECE_BYTES)
        except BlockingIOError:
            return True
        if not piece:
            return False
        output.add(piece)
    return True


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    code = process.wait()
    return code if code >= 0 else 128 - code


class _Output:
    """What a command printed: all of it in the log up to a limit, both ends of it in memory."""

    def __init__(self, log: Path | None, masker: Masker) -> None:
        self._path = log
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._masked = MaskedStream(masker)
        self._log: FileIO | None = None
        self._logged = 0
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._total = 0

    def __enter__(self) -> _Output:
        if self._path:
            with self._writing():
                self._path.parent.mkdir(mode=private.FOLDER_MODE, exist_ok=True)
                self._log = FileIO(self._path, "a", opener=private.opener)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.finish()
        finally:
            if self._log:
                self._log.close()

    def add(self, piece: bytes) -> None:
        self._keep(self._masked.add(self._decoder.decode(piece), _LINE))

    def finish(self) -> None:
        """Nothing more comes."""
        self._keep(self._masked.add(self._decoder.decode(b"", final=True), _LINE))
        self._keep(self._masked.finish())

    def _keep(self, text: str) -> None:
        piece = text.encode("utf-8", "surrogateescape")
        self._total += len(piece)
        self._write(piece)
        room = KEPT_BYTES // 2 - len(self._head)
        self._head += piece[:room]
        self._tail.append(piece[max(0, room) :])
        self._tail_bytes += len(self._tail[-1])
        while self._tail_bytes - len(self._tail[0]) >= KEPT_BYTES // 2:
            self._tail_bytes -= len(self._tail.popleft())

    def text(self) -> str:
        """The start and the end, and how much lies between; bytes that are no text are replaced."""
        tail = b"".join(self._tail)[-(KEPT_BYTES // 2) :]
        gone = self._total - len(self._head) - len(tail)
        if not gone:
            return (self._head + tail).decode(errors="replace")
        where = "; the log has more" if self._log else ""
        note = f"\n[... {gone:,} bytes left out{where} ...]\n"
        return self._head.decode(errors="replace") + note + tail.decode(errors="replace")

    def _write(self, piece: bytes) -> None:
        if self._log is None or self._logged >= LOG_BYTES:
            return
        piece = piece[: LOG_BYTES - self._logged]
        self._logged += len(piece)
        if self._logged == LOG_BYTES:
            piece += f"\n[the log ends here: it keeps {LOG_BYTES:,} bytes]\n".encode()
        with self._writing():
            while piece:
                piece = piece[self._log.write(piece) :]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise EnvironmentProblem(
                f"cannot write the log of a check: {problem.strerror}",
                hint="free some space, or check who may write there",
                code="cannot_write_log",
                file=str(self._path),
            ) from problem
