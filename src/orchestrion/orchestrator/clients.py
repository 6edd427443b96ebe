"""Use cases for clients that look after the plan: give tasks new values and states, take them away, join results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrion.core.errors import Conflict, IllegalMove
from orchestrion.core.model import name, number
from orchestrion.core.states import SETTLED_TASK, TASK_MOVES, TaskState
from orchestrion.orchestrator import synthesis
from orchestrion.orchestrator.starting import StartingCases
from orchestrion.orchestrator.tasks import nothing_to_change
from orchestrion.scheduler import decide, shape
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Goal of a change of state -> the states that are there already.
_THERE: dict[str, tuple[TaskState, ...]] = {
    "pending": (TaskState.PENDING, TaskState.READY, TaskState.RETRYING),
    "review": (TaskState.REVIEW,),
    "blocked": (TaskState.BLOCKED,),
    "completed": (TaskState.COMPLETED,),
    "failed": (TaskState.FAILED,),
    "cancelled": (TaskState.CANCELLED,),
}


class ClientCases(StartingCases):
    """What a client asks for that works by itself."""

    def change(
        self, task: str, fields: Mapping[str, Any], goal: str | None = None, *, reason: str = "", run: str | None = None
    ) -> list[str]:
        """New values (None clears a field) and a new state, all or nothing where that can be foreseen; what changed.

        ``goal``: pending, in_progress, review, blocked, completed, failed, cancelled or archived.
        Raises IllegalMove when no way leads there from the state found.
        """
        if not fields and goal is None:
            raise nothing_to_change()
        given, limits, one = self._changes(fields), self._limits(), number(task, "T")
        self.task(task)
        if given:
            self.store.rehearse(lambda tx: decide.update(tx, one, given, limits))
        changed = ["status"] if goal is not None and self._bring_to(task, goal, reason, run) else []
        return changed + (self.store.write(lambda tx: decide.update(tx, one, given, limits)) if given else [])

    def _bring_to(self, task: str, goal: str, reason: str, run: str | None) -> bool:
        found = self.task(task)
        if goal == "archived":
            self.archive(task)
            return True
        if found.state in _THERE.get(goal, ()):
            return False
        if goal == "in_progress":
            return not self.take_up(task, run=run)["again"]
        if goal == "cancelled":
            self.cancel(task, reason or "cancelled by a client")
            return True
        ways = {"pending": self._back, "review": self._hand_in, "blocked": self._block}
        ways |= {"completed": self._finish, "failed": self._give_up}
        if not ways[goal](task, found.state, reason, run):
            if TaskState(goal) in TASK_MOVES[found.state]:
                raise Conflict(
                    f"{task} is {found.state}; it becomes {goal} by itself when what it waits for is decided",
                    hint=f"`orchestrion why {task}` says what that is and how",
                    code="not_decided",
                )
            raise IllegalMove(task, found.state, goal, TASK_MOVES[found.state], hint=f"`orchestrion why {task}`")
        return True

    def _back(self, task: str, found: TaskState, reason: str, run: str | None) -> bool:
        said = reason or "sent back by a client"
        if found is TaskState.COMPLETED:
            self.reopen(task, said)
        elif found is TaskState.FAILED:
            self.retry(task)
        elif found is TaskState.REVIEW:
            self.reject(task, said)
        elif found is TaskState.IN_PROGRESS:
            self.release(self._run_to_report(task, run), said)
        else:
            return False
        return True

    def _hand_in(self, task: str, found: TaskState, reason: str, run: str | None) -> bool:
        if found not in (TaskState.READY, TaskState.IN_PROGRESS):
            return False
        self.done(self._run_now(task, found, run), reason or "handed in for review", next_action="needs_revision")
        return True

    def _block(self, task: str, found: TaskState, reason: str, run: str | None) -> bool:
        said = reason or "blocked by a client; it waits for an answer"
        if found is TaskState.IN_PROGRESS:
            self.done(self._run_to_report(task, run), said, next_action="blocked")
        elif found in (TaskState.PENDING, TaskState.READY):
            self.add_gate(task, "question", called=said)
        else:
            return False
        return True

    def _finish(self, task: str, found: TaskState, reason: str, run: str | None) -> bool:
        if found is TaskState.REVIEW:
            self.approve(task)
        elif found in (TaskState.READY, TaskState.IN_PROGRESS, TaskState.PENDING):
            self.done(self._run_now(task, found, run), reason or "reported as completed by a client")
        else:
            return False
        return True

    def _give_up(self, task: str, found: TaskState, reason: str, run: str | None) -> bool:
        if found not in (TaskState.READY, TaskState.IN_PROGRESS):
            return False
        self.fail(self._run_now(task, found, run), reason or "reported as failed by a client")
        return True

    def _run_now(self, task: str, found: TaskState, run: str | None) -> str:
        """The run to report; a task that nobody began is claimed for the purpose."""
        if found is TaskState.IN_PROGRESS:
            return self._run_to_report(task, run)
        return str(self.take_up(task)["run"]["id"])

    def discard(self, task: str, *, force: bool = False, archive_instead: bool = True) -> dict[str, Any]:
        """Takes a task away: archived, cancelled first if it is open; or deleted if it was never tried.

        Without ``force`` nothing happens while others wait for it or somebody works on it
        (Conflict ``has_dependents``, ``in_progress``). Returns the action and its side effects.
        """
        one = number(task, "T")
        waiting = self.store.read(lambda tx: _open_dependents(tx, one))
        self._refuse_loss(self.task(task).row, waiting, force)
        if not archive_instead and not self._has_history(one):
            self.judge("delete")
            self.store.write(lambda tx: _delete(tx, one, waiting))
            return {"action": "deleted", "dependents": [name("T", other) for other in waiting], "warnings": []}
        warnings = [] if archive_instead else ["it has children or runs: their history stays, so it was archived"]
        found = self.task(task).state
        if found not in SETTLED_TASK:
            cancelled = self.cancel_all(task, "deleted by a client")
            warnings.append(f"it was {found} and was cancelled first")
            warnings += [f"that ended {one['run']} of {one['holder']}" for one in cancelled.ended[:20]]
        self.archive(task)
        if waiting:
            warnings.append("tasks that wait for it are blocked now")
        return {"action": "archived", "dependents": [name("T", other) for other in waiting], "warnings": warnings}

    def _refuse_loss(self, row: Row, waiting: Sequence[int], force: bool) -> None:
        if force:
            return
        task = name("T", row["id"])
        if waiting:
            free = f"orchestrion dep rm {name('T', waiting[0])} {task}"
            raise Conflict(
                f"{task} is awaited by {', '.join(name('T', other) for other in waiting[:20])}; nothing was deleted",
                hint=f"`{free}` takes a dependency away; or repeat with force",
                code="has_dependents",
                action_taken="blocked",
                dependent_tasks=[name("T", other) for other in waiting[:50]],
            )
        if row["state"] == TaskState.IN_PROGRESS:
            raise Conflict(
                f"{task} is being done by {name('R', row['run'])}; nothing was deleted",
                hint="cancel it first, or repeat with force, which ends the run",
                code="in_progress",
                action_taken="blocked",
            )

    def _has_history(self, task: int) -> bool:
        def read(tx: Transaction) -> bool:
            row = tx.one("task", id=task)
            return bool(row and row["children"]) or tx.one("delete_runs_of", task=task) is not None

        return self.store.read(read)

    def drop_artifacts(self, task: str) -> int:
        """Throws a task's stored results away, for good. Returns how many there were."""
        one = number(task, "T")

        def drop(tx: Transaction) -> int:
            gone = tx.run("drop_artifacts_of", task=one)
            if gone:
                tx.event("artifacts.dropped", task=one, data={"count": gone})
            return gone

        return self.store.write(drop)

    def synthesize(self, parent: str) -> dict[str, Any]:
        """The parent's result, made of what its children reported; kept as its artifact ``synthesis``.

        ``complete`` is whether nothing is missing; ``missing`` says what is. A task without
        children is its own only part. The same result is not kept twice. Raises NotFound.
        """
        one = number(parent, "T")
        return self.store.write(lambda tx: synthesis.join(tx, one))


def _open_dependents(tx: Transaction, task: int) -> list[int]:
    """Tasks that are still to be done and wait for ``task`` by edges of their own."""
    waiting = {edge["id"] for edge in tx.all("dependents", ids=[task]) if edge["kind"] != "child"}
    return [one for one in sorted(waiting) if tx.the("task", id=one)["state"] not in SETTLED_TASK]


def _delete(tx: Transaction, task: int, waiting: Sequence[int]) -> None:
    for other in waiting:
        shape.remove_dependency(tx, other, task)
    decide.delete(tx, task)
