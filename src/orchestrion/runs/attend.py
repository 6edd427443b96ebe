"""While an agent works: it hears what people say to it, and they see what it does.

The supervisor calls this at every beat; how often git and the database are really asked
is decided here. A database that is away is told at the next turn: the run's lease decides
how long that may last, not this.
"""

from __future__ import annotations

import os
from typing import Any

from orchestrion.core.errors import InvalidInput, OrchestrionError, StoreProblem
from orchestrion.runs import processes
from orchestrion.runs.account import Account, Spent
from orchestrion.runs.go import Go
from orchestrion.runs.log import RunLog
from orchestrion.runs.workspace import live
from orchestrion.runs.workspace.places import Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.scheduler import messages, meter, overlap, permissions
from orchestrion.store import Store

#: The database learns this often what the agent has used, and the agent what it was told, in seconds.
TELL_S = 1.0
#: And the database which files it has changed, in seconds; git is asked for that.
FILES_S = 5.0
#: The memory of all its processes is looked at this often, in seconds.
MEMORY_S = 1.0


class Attendant:
    """Stands by the agent of one run."""

    def __init__(
        self,
        store: Store,
        task: int,
        run: int,
        account: Account,
        log: RunLog,
        memory_mb: float | None,
        project: ProjectRepository | None,
    ) -> None:
        """``project`` is the repository whose files the run works on, if there is one."""
        self._store = store
        self._project = project
        self._task = task
        #: What the run asked for and was told of.
        self._asked: set[permissions.Ask] = set()
        self._run = run
        self._account = account
        self._log = log
        self._memory_mb = memory_mb
        self._told = self._listed = self._weighed = float("-inf")
        #: Why its files could not be listed the last time.
        self._in_the_way = ""

    def attend(self, go: Go, workspace: Workspace | None, now: float) -> None:
        """Does what is due at ``now`` (monotonic). Raises Spent when the run has used up a limit."""
        self._account.refuse_spent()
        if self._memory_mb is not None and now - self._weighed > MEMORY_S:
            self._weighed = now
            self._weigh(self._memory_mb)
        try:
            if now - self._told > TELL_S:
                self._told = now
                self._tell(go)
            if self._project and workspace and now - self._listed > FILES_S:
                self._listed = now
                self._list_files(self._project, workspace)
        except StoreProblem:
            return

    def tell_used(self) -> None:
        """Tells the database what the run has used since it was told last."""
        self._account.tell(self._write)

    def tell_denied(self, go: Go) -> None:
        """Tells the database what the agent asked for and was denied since it was told last."""
        asks = [one for one in (permissions.Ask(*each) for each in dict.fromkeys(go.denied)) if one not in self._asked]
        asks = asks[: permissions.MOST - len(self._asked)]
        if asks:
            self._store.write(lambda tx: permissions.note(tx, self._task, self._run, asks))
            self._asked.update(asks)
        go.denied.clear()

    def _write(self, news: dict[str, Any]) -> None:
        try:
            self._store.write(lambda tx: meter.add(tx, self._run, **news))
        except InvalidInput as nonsense:
            # A program that reports impossible numbers loses these numbers, not its work.
            self._log.note(f"not counted: {nonsense.message}")

    def _list_files(self, project: ProjectRepository, workspace: Workspace) -> None:
        """Tells the database which files the run has changed until now."""
        try:
            found = live.touched(project, workspace)
        except (OrchestrionError, OSError, ValueError) as problem:
            # Looking must never end a run: what is in the way now is gone at the next look, or told at the end.
            if str(problem) != self._in_the_way:
                self._in_the_way = str(problem)
                self._log.note(f"its files cannot be listed now: {problem}")
            if getattr(problem, "code", "") == "git_timeout":
                self._listed = float("inf")  # it would take as long again and again; they are known at the end
            return
        self._store.write(lambda tx: overlap.note_changes(tx, self._run, found))

    def unheard(self) -> str | None:
        """What people said and the agent did not hear yet, as it is told at its next turn; None: nothing."""
        waiting = self._store.read(lambda tx: messages.waiting(tx, self._run))
        if not waiting:
            return None
        self._store.write(lambda tx: messages.given(tx, [one["id"] for one in waiting], "next_turn"))
        return "\n\n".join(one["text"] for one in waiting)

    def _tell(self, go: Go) -> None:
        self.tell_used()
        self.tell_denied(go)
        waiting = self._store.read(lambda tx: messages.waiting(tx, self._run))
        heard = [one["id"] for one in waiting if go.say(one["text"])]
        if heard:
            self._store.write(lambda tx: messages.given(tx, heard, "while_running"))

    def _weigh(self, most: float) -> None:
        used = processes.memory_mb(processes.descendants(os.getpid()))
        if used > most:
            raise Spent(f"its processes used {used:.0f} MB of {most:g}", code="out_of_memory")
