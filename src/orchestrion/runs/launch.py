"""Starts ``orchestrion supervise R31`` as a process of its own.

The seam for cluster engines: here a supervisor is a local process in its own session, so
that nothing that happens to the worker happens to it. It inherits no marker of another
run, and no password on its command line. Who it is stands in the run's folder from its
first moment on, so that another worker knows it before it has announced itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrion.core.model import name
from orchestrion.runs import processes
from orchestrion.runs.processes import MARKER

#: This very program, whatever is in the folder it is started in: a repository may have a ``yaml.py``.
OURSELVES = (sys.executable, "-P", "-m", "orchestrion")


def launch(run: int, *, project: Path, db: str, place: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts the supervisor of a run; what it says about itself goes to a file in the run's folder ``place``."""
    environment = without_marker(environ) | {"ORCHESTRION_DB": db, "ORCHESTRION_PROJECT": str(project)}
    with (place / "supervisor.log").open("ab") as said:
        child = subprocess.Popen(
            [*OURSELVES, "supervise", name("R", run)],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    _record(place).write([(child.pid, processes.start_time(child.pid) or 0)])
    return child


def is_supervised(place: Path) -> bool:
    """Whether a supervisor that was launched for the run's folder ``place`` lives, announced or not."""
    return any(processes.is_alive(*supervisor) for supervisor in _record(place).read())


def without_marker(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for our own long-lived programs: a worker started by an agent is not part of its run."""
    return {key: value for key, value in environ.items() if key != MARKER}


def leave_run() -> None:
    """Restarts this very program without an inherited marker, so that a sweep of the run does not end it."""
    if MARKER in os.environ:
        os.execve(sys.executable, [*OURSELVES, *sys.argv[1:]], without_marker(os.environ))


def _record(place: Path) -> processes.Record:
    return processes.Record(place / "supervisor")
