"""Row 4: how long a command takes from nothing to its answer, against an empty Python.

Hooks call the command line at every tool call of an agent. The bound is the same
interpreter doing nothing: ``python -c pass``. The page cache and the bytecode are warm.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
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
#: A hook does on PostgreSQL what ``ready`` does, and writes.
HOOK_TARGETS = {"sqlite": 5.0, "postgres": 25.0}
#: Called at every file that an agent writes; the others once in a session or turn.
FREQUENT = ("PostToolUse",)


def measure_version(*, quick: bool = False) -> list[Measurement]:
    """``orchestrion --version``, which needs no project."""
    samples = alternate(
        QUICK_ROUNDS if quick else FULL_ROUNDS,
        {"ours": lambda: _time([PROGRAM, "--version"]), "bound": _empty_python},
    )
    return [_measurement("version", "orchestrion --version", samples, "ours", VERSION_TARGET)]


def measure_hook(databases: Databases, folder: Path, *, quick: bool = False) -> list[Measurement]:
    """``orchestrion hook``, each of those that an agent waits for, in a session that has claimed nothing."""
    project = _project(databases, folder / f"hook-{databases.dialect}", FEW)
    file = project.tree / "file.txt"
    file.write_text("a line\n" * 100, encoding="utf-8")
    asked: dict[str, dict[str, object]] = {
        "SessionStart": {"source": "resume"},
        "PostToolUse": {"tool_name": "Write", "tool_input": {"file_path": str(file)}, "tool_response": {}},
        "Stop": {},
    }
    ours = {event: partial(_hook, project, event, asked[event], count()) for event in asked}
    samples = alternate(QUICK_ROUNDS if quick else FULL_ROUNDS, {**ours, "bound": _empty_python})
    project.drop()
    return [
        _measurement(
            f"hook.{databases.dialect}.{event}",
            f"{databases.title}: orchestrion hook {event}",
            samples,
            event,
            HOOK_TARGETS[databases.dialect] if event in FREQUENT else None,
        )
        for event in asked
    ]


def _hook(project: BenchProject, event: str, fields: Mapping[str, object], sessions: Iterator[int]) -> float:
    """Each sample is of a session of its own: a start is told what is going on only once."""
    asked = {"session_id": f"session-{next(sessions)}", "cwd": str(project.tree), "hook_event_name": event, **fields}
    file = project.folder / f"{event}.json"
    file.write_text(json.dumps(asked), encoding="utf-8")
    with file.open("rb") as said:
        return milliseconds_of(
            lambda: subprocess.run(
                [PROGRAM, "hook", event],
                cwd=project.tree,
                env=project.environment,
                stdin=said,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        )


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


def _measurement(key: str, what: str, samples: dict[str, list[float]], side: str, target: float | None) -> Measurement:
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
