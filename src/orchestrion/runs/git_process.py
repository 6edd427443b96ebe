"""One process of git, to its end; and what goes on meanwhile.

What git has to read an agent made: a file of no end, say, or one of which the disk holds nothing. Whoever
waits for git has a clock of its own, which must not stand still for that.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from orchestrion.core.errors import GitProblem

#: So often the pulse beats, in seconds.
PULSE_S = 0.25
#: So much a pipe takes at once, in bytes, whether or not anybody reads.
_FITS = 4096
_pulse: ContextVar[Callable[[], object] | None] = ContextVar("pulse", default=None)


@contextmanager
def pulsing(pulse: Callable[[], object]) -> Iterator[None]:
    """While git works in here, ``pulse`` is called several times a second; what it raises ends that git."""
    before = _pulse.set(pulse)
    try:
        yield
    finally:
        _pulse.reset(before)


@contextmanager
def together_within(seconds: float) -> Iterator[None]:
    """All git in here takes no longer, together: then it raises GitProblem (``git_timeout``)."""
    end = time.monotonic() + seconds

    def refuse_late() -> None:
        if time.monotonic() > end:
            raise too_slow("git", seconds)

    with pulsing(refuse_late):
        yield


class NotStarted(Exception):
    """The system cannot start the process; why is its cause."""


def complete(
    command: Sequence[str | bytes],
    folder: Path,
    environ: Mapping[str, str],
    said: bytes | None = None,
    longest_s: float | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in ``folder``, with ``said`` as its input, and takes what it says.

    Raises NotStarted, TimeoutExpired after ``longest_s``, and what the pulse raises.
    """
    pulse = _pulse.get()
    end = None if longest_s is None else time.monotonic() + longest_s
    with _started(command, folder, environ, said) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    out, err = process.communicate(timeout=_wait(end, pulse is not None))
                    return subprocess.CompletedProcess(command, process.returncode, out, err)
                if longest_s is not None and end is not None and time.monotonic() >= end:
                    raise subprocess.TimeoutExpired(command, longest_s)
                if pulse is not None:
                    pulse()
        except BaseException:
            process.kill()
            raise


def _started(
    command: Sequence[str | bytes], folder: Path, environ: Mapping[str, str], said: bytes | None
) -> subprocess.Popen[bytes]:
    stdin = subprocess.DEVNULL if said is None else subprocess.PIPE
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdin=stdin, stdout=pipe, stderr=pipe)
    except (OSError, ValueError) as problem:
        raise NotStarted from problem
    if said is not None:
        # Whoever asks a process several times for what it says cannot go on giving it its input.
        stream, process.stdin = process.stdin, None
        if len(said) <= _FITS:
            _feed(stream, said)
        else:
            threading.Thread(target=_feed, args=(stream, said), daemon=True).start()
    return process


def _feed(stream: IO[bytes] | None, said: bytes) -> None:
    assert stream is not None
    with suppress(BrokenPipeError), stream:
        stream.write(said)


def too_slow(asked: str, seconds: float) -> GitProblem:
    """The error for git that is not waited for any longer."""
    return GitProblem(
        f"{asked} took longer than {seconds:g} s",
        hint="is the disk or the network busy, or is there a very large file?",
        code="git_timeout",
    )


def _wait(end: float | None, has_pulse: bool) -> float | None:
    """How long to wait before the next look, in seconds."""
    left = None if end is None else max(0.0, end - time.monotonic())
    if not has_pulse:
        return left
    return PULSE_S if left is None else min(PULSE_S, left)
