"""Use cases about talking to agents and seeing their files: message, permissions, files, run a role at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from orchestrion.core.errors import Conflict, GitProblem
from orchestrion.core.model import iso, name, number
from orchestrion.core.states import ACTIVE_RUN, TaskState
from orchestrion.orchestrator import older_copies, views
from orchestrion.orchestrator.finding import bounded
from orchestrion.orchestrator.metrics import MetricCases
from orchestrion.orchestrator.remains import dead_runs
from orchestrion.scheduler import decide, messages, overlap, permissions
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: So long ``message`` waits to learn what became of it, in seconds: a supervisor looks every second.
DELIVERY_S = 3.0


class TalkCases(MetricCases):
    """Messages to agents, and what they touch while they work."""

    def permissions(
        self, *, pending: bool = True, task: str | None = None, run: str | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """What agents asked for and were denied, the latest first: ``permissions``, ``total``.

        ``pending``: only what nobody decided about, of tasks that are not over. Raises InvalidInput, NotFound.
        """
        bound = bounded(limit)
        given = {
            "pending": 1 if pending else None,
            "task": number(task, "T") if task else None,
            "run": number(run, "R") if run else None,
        }
        if task:
            self.task(task)
        if run:
            self.run(run)
        rows, total = self.store.read(
            lambda tx: (tx.all("list_permissions", limit=bound, **given), tx.the("count_permissions", **given)["total"])
        )
        return {"permissions": [permissions.as_json(row) for row in rows], "total": total}

    def allow(self, permission: int) -> dict[str, Any]:
        """The next attempts of its task may do that. A task that failed is tried again, in its session if it had one.

        Returns the permission, and ``retried``. Raises NotFound, Conflict (``no_rule``, ``decided``).
        """

        def write(tx: Transaction) -> dict[str, Any]:
            row = permissions.allow(tx, permission)
            retried = row["task_state"] == TaskState.FAILED
            if retried:
                decide.retry(tx, row["task"], resume=tx.one("last_session", task=row["task"]) is not None)
            return {**permissions.as_json(tx.the("permission", id=permission)), "retried": retried}

        return self.store.write(write)

    def refuse(self, permission: int) -> dict[str, Any]:
        """It stays denied, and nobody is asked again. Raises NotFound, Conflict (``decided``)."""
        return self.store.write(lambda tx: permissions.as_json(permissions.refuse(tx, permission)))

    def message(self, run: str, text: str, *, wait_s: float = DELIVERY_S) -> dict[str, Any]:
        """Says something to a run's agent, and waits a moment for it to be heard.

        ``state`` is then ``given`` (``how``: while_running) or still ``waiting``, for the agent's
        next turn. Raises NotFound, Conflict when the run is over, dead or held by a client, InvalidInput.
        """
        one = number(run, "R")
        self._refuse_dead(one)
        sent = self.store.write(lambda tx: messages.send(tx, one, text))
        end = time.monotonic() + wait_s
        while True:
            found = next(row for row in self._messages(one) if row["id"] == sent)
            left = end - time.monotonic()
            if found["state"] != "waiting" or left <= 0:
                return views.message(found)
            self.store.wait_for_change(min(left, 0.25))

    def _refuse_dead(self, run: int) -> None:
        row = self.store.read(lambda tx: tx.one("run", id=run))
        if row is None or row["state"] not in ACTIVE_RUN or not row["supervised"]:
            return  # what is said of these stands in the transaction that sends
        dead = dead_runs(self)
        if dead.has_left(row) and dead.is_dead(row):
            label = name("R", run)
            raise Conflict(
                f"the supervisor of {label} died: there is nobody to hear",
                hint=f"`orchestrion kill {label}` ends what is left of it; `orchestrion work` tries its task again",
                code="supervisor_died",
            )

    def messages_to(self, run: str) -> list[dict[str, Any]]:
        """All that was said to a run's agent, oldest first."""
        return [views.message(row) for row in self._messages(number(run, "R"))]

    def _messages(self, run: int) -> list[Row]:
        return self.store.read(lambda tx: messages.of_run(tx, run))

    def files_of(self, run: str) -> list[dict[str, Any]]:
        """Files that a run has changed: those of its diff once it has committed, else as they were seen last.

        ``path``, ``kind``, ``lines_added`` and ``lines_removed`` (None: no text), ``seen_at``. Raises NotFound.
        """
        row = self.run(run).row
        committed = self._committed(row)
        if committed is not None:
            return committed
        rows = self.store.read(lambda tx: overlap.of_run(tx, row["id"]))
        return [
            {
                "path": row["path"],
                "kind": row["kind"],
                "lines_added": row["lines_added"],
                "lines_removed": row["lines_removed"],
                "seen_at": iso(row["seen_at"]),
            }
            for row in rows
        ]

    def _committed(self, row: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """The files between the commits of a run; None while it has none, or when they are not here (any more)."""
        from orchestrion.runs.git import Git
        from orchestrion.runs.workspace.changes import changes

        base, head = row["base_commit"], row["head_commit"]
        if not base or not head or self.project.git_root is None:
            return None
        git = Git(self.project.git_root)
        try:
            found = changes(git, base, head, measured=False) if git.tip(base) and git.tip(head) else None
        except GitProblem:
            return None
        return (
            None
            if found is None
            else [
                {
                    "path": overlap.storable(one.path),
                    "kind": one.kind,
                    "lines_added": one.lines_added,
                    "lines_removed": one.lines_removed,
                    "seen_at": iso(row["ended_at"]),
                }
                for one in found
            ]
        )

    def overlaps(self) -> list[dict[str, Any]]:
        """Files that a run at work and another one, at work or in review, have changed: ``path`` and ``runs``."""
        return [dict(one) for one in self.store.read(overlap.overlaps)]

    def run_role(
        self,
        role: str,
        text: str,
        *,
        seen: Callable[[], None] = lambda: None,
        worker: Callable[[Any], None] = lambda _: None,
        **values: Any,
    ) -> dict[str, Any]:
        """Makes a task of ``text`` for a role, starts it at once and sees it to its end.

        ``values`` are further fields of a new task. Returns the task and its last run. Raises
        NotFound for an unknown role or agent, InvalidInput (``command_missing`` among others), Backpressure when
        there is no room, Conflict (``older_copy``).
        """
        from orchestrion.core.model import TITLE_LIMIT
        from orchestrion.worker import Worker

        title = (text.strip().splitlines() or [""])[0][:TITLE_LIMIT]
        wanted = {"role": self.role_name(role), "agent": values.get("agent"), "command": values.get("command")}
        self._refuse_unknown_agent(wanted["agent"])
        self.refuse_idle(wanted)
        older_copies.refuse(self)
        task = self.add(title, role=role, description=text, priority=10, **values)
        one = Worker(self.store, self.project, self.config, self.environ, 1, None, seen)
        worker(one)
        one.work_on(task.id)
        return self.store.read(lambda tx: _outcome(tx, task.id))


def _outcome(tx: Any, task: int) -> dict[str, Any]:
    from orchestrion.core.model import Run

    last = tx.all("runs_of_task", task=task)
    return {"task": views.task(tx, task).as_json(), "run": Run(last[-1]).as_json() if last else None}
