"""Row 6: the most memory that a supervisor ever holds, for a run with workspace, check and merge.

There is one supervisor for each agent at work. The bridge to an agent that speaks the Agent
Client Protocol counts with it; Codex's relay, which is a part of the agent's own tree, is
told beside it. The bound is an empty Python. RSS counts shared pages in full; PSS, shown beside it, counts
each process's share of them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench import stand_in
from bench.databases import Databases
from bench.measure import Measurement, median
from bench.project import BenchProject, until
from orchestrion import Orchestrator
from orchestrion.core.model import NewTask
from orchestrion.scheduler.create import create

FULL_ROUNDS, QUICK_ROUNDS = 5, 2
FILES = 100
#: Megabytes (10^6 bytes) that a supervisor may hold on each kind of database; and with an ACP agent's bridge.
TARGETS, TARGET_ACP = {"sqlite": 25.0, "postgres": 35.0}, 90.0
GLANCE_S = 0.005


@dataclass
class Peak:
    """The most that was seen of a process, in megabytes."""

    rss: float = 0.0
    pss: float = 0.0

    def __add__(self, other: Peak) -> Peak:
        return Peak(self.rss + other.rss, self.pss + other.pss)

    def look(self, pid: int) -> bool:
        """Looks at the process once; whether there was anything to see."""
        status = _sizes(Path(f"/proc/{pid}/status"))
        rollup = _sizes(Path(f"/proc/{pid}/smaps_rollup"))
        self.rss = max(self.rss, status.get("VmHWM", 0.0))
        self.pss = max(self.pss, rollup.get("Pss", 0.0))
        return bool(status.get("VmHWM"))


def measure(databases: Databases, folder: Path, *, quick: bool = False) -> list[Measurement]:
    """The measurement of row 6 on one kind of database; none where there is no /proc."""
    if not Path("/proc/self/smaps_rollup").exists():
        return []
    rounds = QUICK_ROUNDS if quick else FULL_ROUNDS
    target = TARGETS[databases.dialect]
    project = BenchProject(folder / f"memory-{databases.dialect}", databases)
    project.make_repository(FILES)
    project.call("init")
    with project.open() as opened, project.worker():
        ours = [_peak_of_supervisor(opened, number) for number in range(rounds)]
    project.drop()
    empty = [_peak_of_empty_python() for _ in range(rounds)]
    claude, codex, bridged = (_peaks_of_agent(databases, folder, agent, rounds) for agent in stand_in.AGENTS)
    relay = median([helper.rss for _, helper in codex])
    return [
        _measurement(databases, "supervisor", "a supervisor", ours, empty, target),
        _measurement(databases, "claude", "one of claude", [peak for peak, _ in claude], empty, target),
        _measurement(
            databases, "codex", f"one of codex, beside a relay of {relay:.1f} MB", [p for p, _ in codex], empty, target
        ),
        _measurement(
            databases, "acp", "one of an ACP agent, with its bridge", [p + h for p, h in bridged], empty, TARGET_ACP
        ),
    ]


def _peaks_of_agent(databases: Databases, folder: Path, agent: str, rounds: int) -> list[tuple[Peak, Peak]]:
    project = BenchProject(folder / f"memory-{databases.dialect}-{agent}", databases)
    stand_in.put_in_place(project, agent, works=True)
    project.call("init")
    with project.open() as opened, project.worker():
        peaks = [_peak(opened, NewTask("Be there", agent=agent, max_retries=0)) for _ in range(rounds)]
    project.drop()
    return peaks


def _peak_of_supervisor(opened: Orchestrator, number: int) -> Peak:
    new = NewTask(
        f"Write file {number}",
        command=f"sleep 0.5; echo {number} > written{number}.txt",
        checks=(f"test -f written{number}.txt",),
        max_retries=0,
    )
    peak, _ = _peak(opened, new)
    state = opened.store.read(lambda tx: tx.all("list_tasks", after=number, limit=1))[0]["state"]
    if state != "completed":
        raise SystemExit(f"bench: the task of the supervisor that was watched is {state}")
    return peak


def _peak(opened: Orchestrator, new: NewTask) -> tuple[Peak, Peak]:
    """Of the supervisor of a new task, and of what it starts of ours beside it, from the claim to its end."""
    opened.store.write(lambda tx: create(tx, new))
    until(lambda: _supervisor(opened) is not None, "a supervisor")
    supervisor = _supervisor(opened)
    assert supervisor is not None
    peaks = {supervisor: Peak()}
    while peaks[supervisor].look(supervisor):
        for pid in _helpers(supervisor):
            peaks.setdefault(pid, Peak()).look(pid)
        time.sleep(GLANCE_S)
    return peaks.pop(supervisor), sum(peaks.values(), Peak())


def _helpers(supervisor: int) -> list[int]:
    """Processes of our own program that a supervisor has started."""
    try:
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text(encoding="ascii").split()
        return [int(pid) for pid in children if b"orchestrion.runs" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except OSError:
        return []


def _supervisor(opened: Orchestrator) -> int | None:
    runs = opened.store.read(lambda tx: tx.all("active_runs"))
    return next((int(run["pid"]) for run in runs if run["pid"]), None)


def _peak_of_empty_python() -> Peak:
    peak = Peak()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as python:
        time.sleep(0.2)
        peak.look(python.pid)
        python.communicate(b"\n")
    return peak


def _sizes(file: Path) -> dict[str, float]:
    """The lines ``Name:  123 kB`` of a file below /proc, in megabytes; nothing of a process that is gone."""
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    parts = (line.replace(":", " ").split() for line in lines)
    return {part[0]: int(part[1]) * 1024 / 1e6 for part in parts if len(part) == 3 and part[2] == "kB"}


def _measurement(
    databases: Databases, key: str, who: str, ours: list[Peak], empty: list[Peak], target: float
) -> Measurement:
    pss, empty_pss = median([peak.pss for peak in ours]), median([peak.pss for peak in empty])
    return Measurement(
        row=6,
        key=f"memory.{databases.dialect}.{key}",
        what=f"{databases.title}: peak RSS of {who} (PSS {pss:.1f} MB)",
        value=median([peak.rss for peak in ours]),
        unit="MB",
        bound=median([peak.rss for peak in empty]),
        bound_is=f"an empty Python (PSS {empty_pss:.1f} MB)",
        target=target,
        judged="value",
    )
