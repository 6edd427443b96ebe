"""Row 5: from the commit that makes a task ready to the first moment of its agent.

A worker waits in another process. The agent is a shell command that writes the time as
its first act. In a folder without git the agent works in place; in a repository of 1,000
files it gets a workspace first. The bound is what no orchestrator can save: the same
command started by hand, after the same ``git clone --shared`` where there is a workspace.
Of the other kinds of agents a stand-in is started, in place; its bound is the same.
"""

from __future__ import annotations

import subprocess
import time
from itertools import count
from pathlib import Path

from bench import stand_in
from bench.databases import Databases
from bench.measure import Measurement, alternate, median
from bench.project import BenchProject, until
from orchestrion import Orchestrator
from orchestrion.core.model import NewTask
from orchestrion.scheduler.create import create

FULL_ROUNDS, QUICK_ROUNDS = 30, 5
FILES = 1_000
#: The most that half of the starts may take, in milliseconds.
TARGET_IN_PLACE, TARGET_WITH_WORKSPACE = 150.0, 400.0


def measure(databases: Databases, folder: Path, *, quick: bool = False) -> list[Measurement]:
    """The measurements of row 5 on one kind of database."""
    rounds = QUICK_ROUNDS if quick else FULL_ROUNDS
    return [
        _in_place(databases, folder, rounds),
        _with_workspace(databases, folder, rounds),
        *(_of_agent(agent, databases, folder, rounds) for agent in stand_in.AGENTS),
    ]


def _in_place(databases: Databases, folder: Path, rounds: int) -> Measurement:
    project = BenchProject(folder / f"launch-{databases.dialect}", databases)
    samples = _samples(project, rounds)
    return _measurement(databases, "in_place", "without workspace", samples, "sh -c", TARGET_IN_PLACE)


def _with_workspace(databases: Databases, folder: Path, rounds: int) -> Measurement:
    project = BenchProject(folder / f"launch-{databases.dialect}-git", databases)
    project.make_repository(FILES)
    samples = _samples(project, rounds, clone=True)
    return _measurement(
        databases,
        "workspace",
        f"with a workspace of {FILES:,} files",
        samples,
        "git clone --shared; sh -c",
        TARGET_WITH_WORKSPACE,
    )


def _of_agent(agent: str, databases: Databases, folder: Path, rounds: int) -> Measurement:
    project = BenchProject(folder / f"launch-{databases.dialect}-{agent}", databases)
    stamp = stand_in.put_in_place(project, agent)
    project.call("init")
    with project.open() as opened, project.worker():
        _start_agent(opened, agent, stamp)
        samples = alternate(
            rounds,
            {
                "ours": lambda: _start_agent(opened, agent, stamp),
                "bound": lambda: _start_by_hand(project, stamp, False),
            },
        )
    project.drop()
    return _measurement(databases, agent, f"agent {agent}", samples, "sh -c", TARGET_IN_PLACE)


def _start_agent(opened: Orchestrator, agent: str, stamp: Path) -> float:
    stamp.unlink(missing_ok=True)
    # What it says is no result of such an agent: its run fails, which costs nothing here.
    return _start(opened, NewTask("Say when", agent=agent, max_retries=0), stamp, ends="failed")


def _samples(project: BenchProject, rounds: int, *, clone: bool = False) -> dict[str, list[float]]:
    project.call("init")
    numbers = count(1)
    with project.open() as opened, project.worker():
        # The first start finds cold caches; it is not counted.
        _start_by_worker(opened, project.folder / "stamp0")
        samples = alternate(
            rounds,
            {
                "ours": lambda: _start_by_worker(opened, project.folder / f"stamp{next(numbers)}"),
                "bound": lambda: _start_by_hand(project, project.folder / f"stamp{next(numbers)}", clone),
            },
        )
    project.drop()
    return samples


def _start_by_worker(opened: Orchestrator, stamp: Path) -> float:
    return _start(opened, NewTask("Say when", command=_say_when(stamp), max_retries=0), stamp, ends="completed")


def _start(opened: Orchestrator, new: NewTask, stamp: Path, *, ends: str) -> float:
    """Milliseconds from the commit to the agent; comes back when the worker is idle again."""
    task = opened.store.write(lambda tx: create(tx, new))
    committed = time.time_ns()
    until(lambda: _state(opened, task) not in ("ready", "in_progress"), f"the task that writes {stamp}")
    if _state(opened, task) != ends:
        raise SystemExit(f"bench: the task that writes {stamp} is {_state(opened, task)}")
    # The worker sees the end of the run a moment later.
    time.sleep(0.1)
    return _milliseconds_between(committed, stamp)


def _start_by_hand(project: BenchProject, stamp: Path, clone: bool) -> float:
    # Left where it is: a disk that has just deleted a thousand files is slow to make the next thousand.
    workspace = stamp.with_suffix(".by-hand")
    began = time.time_ns()
    if clone:
        project.git("clone", "-q", "--shared", str(project.tree), str(workspace))
    subprocess.run(["/bin/sh", "-c", _say_when(stamp)], check=True)
    return _milliseconds_between(began, stamp)


def _say_when(stamp: Path) -> str:
    """A command that writes the time; ``date`` starts faster than anything that knows nanoseconds everywhere."""
    return f"date +%s%N > '{stamp}'"


def _milliseconds_between(began: int, stamp: Path) -> float:
    return (int(stamp.read_text(encoding="ascii")) - began) / 1e6


def _state(opened: Orchestrator, task: int) -> str:
    return str(opened.store.read(lambda tx: tx.the("task", id=task))["state"])


def _measurement(
    databases: Databases, key: str, how: str, samples: dict[str, list[float]], bound_is: str, target: float
) -> Measurement:
    return Measurement(
        row=5,
        key=f"launch.{databases.dialect}.{key}",
        what=f"{databases.title}: ready -> agent started, {how}, p50",
        value=median(samples["ours"]),
        unit="ms",
        bound=median(samples["bound"]),
        bound_is=bound_is,
        target=target,
        judged="value",
    )
