"""The performance: a worker in a process of its own works on the plan, and is watched through the store."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrion.core.errors import EnvironmentProblem
from orchestrion.core.states import ACTIVE_RUN
from orchestrion.demo.accident import Accident
from orchestrion.demo.live import Live
from orchestrion.demo.page import Page
from orchestrion.demo.stage import Stage
from orchestrion.orchestrator import Orchestrator
from orchestrion.runs import processes

SLOTS = 4
#: The task that is killed at its first attempt, and what its agent has written by then.
VICTIM, HALF_WAY = "second-voice", "bar 4 of 8 written"
#: A demo that takes longer is broken, in seconds.
LONGEST_S = 600.0
#: The store is looked at this often at least, in seconds.
GLANCE_S = 0.1
#: How long processes may take to stop when they are told to, in seconds.
PATIENCE_S = 5.0


@dataclass(frozen=True)
class Played:
    """What the worker said when it was done."""

    #: 0: everything completed; 8: not everything.
    exit_code: int
    #: ``{completed, failed, blocked, runs, seconds}``.
    summary: dict[str, Any]


def play(stage: Stage, opened: Orchestrator, page: Page) -> Played:
    """Works on the plan until nothing is left. Raises EnvironmentProblem when the worker breaks.

    Whatever happens, no process of the demo is left behind.
    """
    accident = Accident(opened, stage.tasks[VICTIM], HALF_WAY)
    deadline = time.monotonic() + LONGEST_S
    with _nothing_left_behind(opened), _worker(stage) as worker, Live(opened, page) as live:
        while worker.poll() is None:
            live.update()
            accident.look()
            if time.monotonic() > deadline:
                raise _broken(stage, f"did not end within {LONGEST_S:g} s")
            opened.store.wait_for_change(GLANCE_S)
        live.update()
        said, _ = worker.communicate()
    return _played(stage, worker.returncode, said)


def _played(stage: Stage, exit_code: int, said: str) -> Played:
    try:
        return Played(exit_code, json.loads(said))
    except ValueError as problem:
        raise _broken(stage, f"ended with exit code {exit_code} and without a summary") from problem


@contextlib.contextmanager
def _worker(stage: Stage) -> Iterator[subprocess.Popen[str]]:
    """``orchestrion work`` in a process of its own."""
    with (stage.folder / "worker.log").open("w", encoding="utf-8") as log:
        worker = subprocess.Popen(
            _command(stage),
            cwd=stage.folder,
            env=dict(stage.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    with worker:
        try:
            yield worker
        finally:
            _stop(worker)


def _command(stage: Stage) -> list[str]:
    """As anybody would type it."""
    program = [sys.executable, "-P", "-m", "orchestrion", "-C", str(stage.repository)]
    return [*program, "work", "--slots", str(SLOTS), "--drain", "--json"]


def _stop(worker: subprocess.Popen[str]) -> None:
    """Ends a worker that still works, with all that it started."""
    if worker.poll() is None:
        processes.end_tree([(worker.pid, processes.start_time(worker.pid) or 0)], grace_s=PATIENCE_S)


@contextlib.contextmanager
def _nothing_left_behind(opened: Orchestrator) -> Iterator[None]:
    """Runs go on without their worker; those of a demo that is broken off do not."""
    try:
        yield
    finally:
        runs = opened.list_runs(states=sorted(ACTIVE_RUN), limit=100).items
        supervisors = [(run.row["pid"], run.row["pid_start"]) for run in runs if run.row["pid"]]
        processes.end_tree(supervisors, grace_s=PATIENCE_S)
        for run, carriers in processes.of_store(opened.store.uuid).items():
            processes.end_tree(carriers, f"{opened.store.uuid}/{run}", grace_s=0)


def _broken(stage: Stage, what: str) -> EnvironmentProblem:
    log = stage.folder / "worker.log"
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return EnvironmentProblem(
        f"the worker {what}" + (f": {said[-1]}" if said else ""),
        hint=f"{log} has what it said; the folder is kept",
        code="demo_worker",
        folder=str(stage.folder),
    )
