"""An accident on purpose: one run is killed half-way, as a crash or a power cut would.

Which process that is comes from the store; who belongs to the run, from the marker that
its processes carry. The journal gets a line about it, so that the story can be read there.
"""

from __future__ import annotations

from orchestrion.core.model import Run
from orchestrion.core.states import Phase, RunState
from orchestrion.orchestrator import Orchestrator
from orchestrion.runs import processes

#: The line of the journal.
EVENT = "demo.killed"


class Accident:
    """Waits until a task is half done, then kills whoever is at it; once."""

    def __init__(self, opened: Orchestrator, task: str, half_way: str) -> None:
        self._opened = opened
        self._task = task
        #: What the agent has written when it is half-way.
        self._half_way = half_way
        self._happened = False

    def look(self) -> None:
        """Lets it happen, if now is the moment."""
        if self._happened:
            return
        for run in self._opened.list_runs(task=self._task, states=[RunState.RUNNING]).items:
            if isinstance(run, Run) and self._is_half_way(run):
                self._happened = True
                self._kill(run)

    def _is_half_way(self, run: Run) -> bool:
        row = run.row
        if row["phase"] != Phase.WORKING or not row["pid"] or not self._opened.host.sees(row):
            return False
        lines = [line["text"] for line in self._opened.log(run.as_json()["id"])]
        return any(self._half_way in line for line in lines)

    def _kill(self, run: Run) -> None:
        supervisor = (run.row["pid"], run.row["pid_start"])
        marker = f"{self._opened.store.uuid}/R{run.id}"
        agent = [pid for pid, _ in processes.marked(marker)]
        facts = {"signal": "SIGKILL", "supervisor": supervisor[0], "agent": agent, "after": self._half_way}
        self._opened.store.write(lambda tx: tx.event(EVENT, task=run.row["task"], run=run.id, data=facts))
        processes.end_tree([supervisor], marker, grace_s=0)
