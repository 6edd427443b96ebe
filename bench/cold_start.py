"""Row 4: how long a command takes from nothing to its answer, against an empty Python.

Hooks call the command line at every tool call of an agent. The bound is the same
interpreter doing nothing: ``python -c pass``. The page cache and the bytecode are warm.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.databases import Databases
from bench.measure import Measurement, alternate, median, milliseconds_of
from bench.project import PROGRAM, BenchProject
from orchestrion.core.model import NewTask
from orchestrion.scheduler.create import create_all

FULL_ROUNDS, QUICK_ROUNDS = 40, 10
FEW, MANY = 10, 10_000
VERSION_TARGET = 5.0
READY_TARGETS = {"sqlite": 8.0, "postgres": 25.0}


def measure_version(*, quick: bool = False) -> list[Measurement]:
    """``orchestrion --version``, which needs no project."""
    samples = alternate(
        QUICK_ROUNDS if quick else FULL_ROUNDS,
        {"ours": lambda: _time([PROGRAM, "--version"]), "bound": _empty_python},
    )
    return [_measurement("version", "orchestrion --version", samples, "ours", VERSION_TARGET)]


def measure_ready(databases: Databases, folder: Path, *, quick: bool = False) -> list[Measurement]:
    """``orchestrion ready`` in a project with few tasks and in one with many."""
    few, many = (_project(databases, folder / f"cold-{databases.dialect}-{size}", size) for size in (FEW, MANY))
    samples = alternate(
        QUICK_ROUNDS if quick else FULL_ROUNDS,
        {
            "few": lambda: milliseconds_of(lambda: few.call("ready")),
            "many": lambda: milliseconds_of(lambda: many.call("ready")),
            "bound": _empty_python,
        },
    )
    few.drop()
    many.drop()
    return [
        _measurement(
            f"ready.{databases.dialect}.{size}",
            f"{databases.title}: orchestrion ready, {size:,} tasks",
            samples,
            side,
            READY_TARGETS[databases.dialect],
        )
        for side, size in (("few", FEW), ("many", MANY))
    ]


def _project(databases: Databases, folder: Path, size: int) -> BenchProject:
    project = BenchProject(folder, databases)
    project.call("init")
    with project.open() as opened:
        opened.store.write(lambda tx: create_all(tx, [NewTask(f"Task {number}") for number in range(size)]))
    databases.analyse(project.url)
    project.call("ready")
    return project


def _empty_python() -> float:
    return _time([sys.executable, "-c", "pass"])


def _time(command: list[str]) -> float:
    return milliseconds_of(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def _measurement(key: str, what: str, samples: dict[str, list[float]], side: str, target: float) -> Measurement:
    return Measurement(
        row=4,
        key=f"cold.{key}",
        what=what,
        value=median(samples[side]),
        unit="ms",
        bound=median(samples["bound"]),
        bound_is="python -c pass",
        target=target,
    )
