"""Which runs the kills of a play touched, so that the others can be held to account.

Whom the play kills itself it knows. Accidents at named points only write down the point;
but whether a process has one is drawn from its worker's seed, its pid and the point, so
that it can be drawn again. A run that ended badly and cannot be explained so was failed by
the product.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from orchestrion.runs import points

#: Points that a supervisor passes before its run is over; the others are a worker's.
_BEFORE = [one for one in points.POINTS if one.split(".")[0] not in ("claim", "launch", "settle", "dead")]
_ENDS = ("run.succeeded", "run.failed", "run.timed_out", "run.killed", "run.lost")


@dataclass(frozen=True)
class Shift:
    """One worker process."""

    pid: int
    #: When it was started, in milliseconds.
    born: int
    #: What its accidents are drawn from; empty: it has none.
    seed: str
    #: What had an accident, in it and in its supervisors.
    diary: Path

    def accidents(self) -> list[str]:
        """The points, in the order of the accidents."""
        return self.diary.read_text().split() if self.diary.exists() else []


@dataclass
class Casualties:
    """Everybody who died."""

    chance: float
    shifts: list[Shift] = field(default_factory=list)
    #: Pids of workers that were ended by SIGKILL.
    fallen: set[int] = field(default_factory=set)
    #: Runs of which a process was killed: agent, its tools, its git, or supervisor.
    direct: set[str] = field(default_factory=set)
    #: Runs that a person ended.
    stopped: set[str] = field(default_factory=set)

    def accidents(self) -> list[str]:
        """All points at which somebody had an accident."""
        return [point for shift in self.shifts for point in shift.accidents()]

    def verdicts(self, runs: list[dict[str, Any]], events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """The runs by what befell them: ``killed``, ``worker`` (only that died), ``asked`` (to fail), ``untouched``."""
        of_run: dict[int, list[dict[str, Any]]] = collections.defaultdict(list)
        for event in events:
            if event["run"] and event["kind"].startswith("run."):
                of_run[event["run"]].append(event)
        found: dict[str, list[dict[str, Any]]] = {"killed": [], "worker": [], "asked": [], "untouched": []}
        for run in runs:
            found[self._befell(run, of_run[run["id"]])].append(run)
        return found

    def _befell(self, run: dict[str, Any], events: list[dict[str, Any]]) -> str:
        name = f"R{run['id']}"
        if name in self.direct or name in self.stopped:
            return "killed"
        shift = self._shift(events[0])
        end = next((event for event in events if event["kind"] in _ENDS), None)
        if shift and end and end["actor"] != f"run:{name}" and self._had_accident(run["pid"], shift):
            return "killed"
        lost_before = run["pid"] is None and run["state"] == "lost" and shift and shift.pid in self.fallen
        if lost_before or any(event["kind"] == "run.adopted" for event in events):
            return "worker"
        asked = run["code"] in ("agent_tempfail", "rate_limited") and run["attempt"] == 1
        return "asked" if asked else "untouched"

    def _shift(self, claim: dict[str, Any]) -> Shift | None:
        """The worker that claimed a run."""
        pid = int(claim["actor"].rpartition("/")[2]) if claim["actor"].startswith("worker:") else 0
        known = [shift for shift in self.shifts if shift.pid == pid and shift.born <= claim["at"] + 1000]
        return known[-1] if known else None

    def _had_accident(self, pid: int | None, shift: Shift) -> bool:
        """Whether the supervisor died at a point, as its worker's diary has it."""
        if pid is None or not shift.seed:
            return False
        happened = set(shift.accidents())
        return any(one in happened and Random(f"{shift.seed}/{pid}/{one}").random() < self.chance for one in _BEFORE)


def ended_by_themselves(runs: list[dict[str, Any]], events: list[dict[str, Any]]) -> set[str]:
    """Runs whose own supervisor told how they ended."""
    told = {(event["run"], event["actor"]) for event in events if event["kind"] in _ENDS}
    return {f"R{run['id']}" for run in runs if (run["id"], f"run:R{run['id']}") in told}
