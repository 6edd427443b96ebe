"""Starts ``orchestrion supervise R31`` as a process of its own.

The seam for cluster engines: here a supervisor is a local process in its own session, so
that nothing that happens to the worker happens to it. It inherits no marker of another
run, and no password on its command line. Who it is stands in the run's folder from its
first moment on, so that another worker knows it before it has announced itself.

Most of the time until an agent starts would be spent on loading this program. So one
supervisor waits in readiness: ``orchestrion supervise -`` has everything loaded and reads
from its standard input which run is its own. If the worker dies before it knows, there is
nothing more to read, and it goes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from orchestrion.core import private
from orchestrion.core.model import name
from orchestrion.runs import processes
from orchestrion.runs.points import reach
from orchestrion.runs.processes import MARKER

#: This very program, whatever is in the folder it is started in: a repository may have a ``yaml.py``.
OURSELVES = (sys.executable, "-P", "-m", "orchestrion")
#: In place of a run: it is read from standard input.
AWAITED = "-"
#: The file in a run's folder with what its supervisor says about itself.
SAID = "supervisor.log"
#: How long the one in readiness may take to go, in seconds.
_GOES_S = 10.0


@dataclass
class Launcher:
    """Starts the supervisors of one worker."""

    project: Path
    #: Address of the store.
    db: str
    environ: Mapping[str, str]
    _ready: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def launch(self, run: int, place: Path) -> subprocess.Popen[bytes]:
        """Starts the supervisor of a run whose order is in the folder ``place``."""
        child, self._ready = self._ready, None
        if child is None or not _assign(child, run, place):
            with open(place / SAID, "ab", opener=private.opener) as said:
                child = self._start(name("R", run), subprocess.DEVNULL, said)
            _introduce(child, place)
        return child

    def make_ready(self) -> None:
        """Loads the next supervisor, so that it starts at once when there is a run for it."""
        if self._ready is not None and self._ready.poll() is None:
            return
        with suppress(OSError):  # no room for it: the next one is started when it is needed, and says so
            self._ready = self._start(AWAITED, subprocess.PIPE, subprocess.DEVNULL)

    def close(self) -> None:
        """Sends the one in readiness home; runs go on."""
        child, self._ready = self._ready, None
        if child is not None:
            _dismiss(child)

    def _start(self, run: str, told_by: int, said: int | IO[bytes]) -> subprocess.Popen[bytes]:
        environment = without_marker(self.environ) | places(self.project, self.db)
        return subprocess.Popen(
            [*OURSELVES, "supervise", run],
            cwd=self.project,
            env=environment,
            stdin=told_by,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def places(project: Path, db: str) -> dict[str, str]:
    """What tells the processes of a project's runs, in one store, from those of another's."""
    return {"ORCHESTRION_PROJECT": str(project), "ORCHESTRION_DB": db}


def _assign(child: subprocess.Popen[bytes], run: int, place: Path) -> bool:
    """Gives the run to the supervisor in readiness; False when it is gone."""
    assert child.stdin is not None
    _introduce(child, place)
    try:
        child.stdin.write(f"{name('R', run)}\n".encode())
        child.stdin.close()
    except BrokenPipeError:
        _dismiss(child)
        return False
    return child.poll() is None


def _dismiss(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(_GOES_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def await_run() -> str:
    """In readiness: the name of the run that the worker gives this process; empty when it never will."""
    return sys.stdin.readline().strip()


def speak_to(place: Path) -> None:
    """What this process says from now on goes to a file in the run's folder ``place``."""
    said = private.opener(str(place / SAID), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for number, meant in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(number, meant)
    os.close(said)
    os.close(nothing)


def is_supervised(place: Path) -> bool:
    """Whether a supervisor that was launched for the run's folder ``place`` lives, announced or not."""
    return any(processes.is_alive(*supervisor) for supervisor in launched(place))


def launched(place: Path) -> set[processes.Process]:
    """The supervisors that were launched for the run's folder ``place``, living or not."""
    return _record(place).read()


def without_marker(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for our own long-lived programs: a worker started by an agent is not part of its run."""
    return {key: value for key, value in environ.items() if key != MARKER}


def leave_run() -> None:
    """Restarts this very program without an inherited marker, so that a sweep of the run does not end it."""
    if MARKER in os.environ:
        os.execve(sys.executable, [*OURSELVES, *sys.argv[1:]], without_marker(os.environ))


def _introduce(child: subprocess.Popen[bytes], place: Path) -> None:
    _record(place).write([(child.pid, processes.start_time(child.pid) or 0)])
    reach("launch.introduced")


def _record(place: Path) -> processes.Record:
    return processes.Record(place / "supervisor")
