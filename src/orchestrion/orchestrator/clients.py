"""Use cases for clients that look after the plan: give tasks new values and states, take them away, join results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrion.core.errors import Conflict, IllegalMove, InvalidInput
from orchestrion.core.model import name, number
from orchestrion.core.states import SETTLED_TASK, TASK_MOVES, EdgeState, TaskState, in_words
from orchestrion.orchestrator import synthesis
from orchestrion.orchestrator.starting import StartingCases
from orchestrion.orchestrator.tasks import nothing_to_change
from orchestrion.scheduler import decide, finish, shape
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
#: The same -> the states from which a client can bring a task there.
_FROM: dict[str, tuple[TaskState, ...]] = {
    "pending": (TaskState.COMPLETED, TaskState.FAILED, TaskState.REVIEW, TaskState.IN_PROGRESS),
    "review": (TaskState.READY, TaskState.IN_PROGRESS),
    "blocked": (TaskState.IN_PROGRESS, TaskState.PENDING, TaskState.READY),
    "completed": (TaskState.REVIEW, TaskState.READY, TaskState.IN_PROGRESS, TaskState.PENDING),
    "failed": (TaskState.READY, TaskState.IN_PROGRESS),
    "cancelled": tuple(state for state, moves in TASK_MOVES.items() if TaskState.CANCELLED in moves),
    "archived": SETTLED_TASK,
}


class ClientCases(StartingCases):
    """What a client asks for that works by itself."""

    def change(
        self, task: str, fields: Mapping[str, Any], goal: str | None = None, *, reason: str = "", run: str | None = None
    ) -> list[str]:
        """New values (None clears a field) and a new state, all or nothing where that can be foreseen; what changed.

        ``goal``: pending, in_progress, review, blocked, completed, failed, cancelled or archived; ``reason`` is kept
        where whoever goes on reads it, or refused (``reason_unread``).
        Raises IllegalMove when no way leads there from the state found.
        """
        if not fields and goal is None:
            raise nothing_to_change()
        if reason and goal is None:
            raise InvalidInput(
                "a reason is why a status changes, and none is named", hint=_said_elsewhere(task), code="reason_unread"
            )
        given, limits, one = self._changes(fields), self._limits(), number(task, "T")
        self.task(task)
        if given:
            self.store.rehearse(lambda tx: decide.update(tx, one, given, limits))
        changed = self._bring_to(task, goal, reason, run) if goal is not None else []
        return changed + (self.store.write(lambda tx: decide.update(tx, one, given, limits)) if given else [])

    def _bring_to(self, task: str, goal: str, reason: str, run: str | None) -> list[str]:
        found = self.task(task).state
        if found in _THERE.get(goal, ()):
            return self._stay(task, found, reason)
        if goal == "in_progress":
            return self._take(task, reason, run)
        ways = {"pending": self._back, "review": self._hand_in, "blocked": self._block, "completed": self._finish}
        ways |= {"failed": self._give_up, "cancelled": self._cancel, "archived": self._archive}
        if found in _FROM[goal] or goal == "archived":
            ways[goal](task, found, reason, run)
            return ["status"]
        reasons = "; ".join(str(one["detail"]) for one in self.why(task)["reasons"][:5])
        if found is TaskState.BLOCKED and goal == "pending":
            raise Conflict(
                f"{task} is blocked; it becomes pending by itself when nothing blocks it any more",
                hint=reasons,
                code="not_decided",
            )
        possible = [other for other, states in _FROM.items() if found in states]
        raise IllegalMove(task, found, goal, possible, hint=reasons)

    def _take(self, task: str, reason: str, run: str | None) -> list[str]:
        """The caller holds the task; what it says of that is its run's summary until it reports."""
        taken = self.take_up(task, run=run)
        if reason:
            held = number(taken["run"]["id"], "R")
            self.store.write(lambda tx: finish.note(tx, held, summary=reason))
        return [*([] if taken["again"] else ["status"]), *(["reason"] if reason else [])]

    def _stay(self, task: str, found: TaskState, reason: str) -> list[str]:
        """The task is where it was to be brought: what the reason says is asked of a blocked one, or stands there."""
        row, detail = self.task(task).row, self.show(task)
        asked = [gate["name"] for gate in detail["gates"] if gate["state"] == EdgeState.OPEN]
        said = [row[field] for field in ("reason", "summary", "error", "feedback")]
        if not reason or self.store.masker(reason) in (*asked, *said, *(run["reason"] for run in detail["runs"][-1:])):
            return []
        if found is TaskState.BLOCKED:
            self.add_gate(task, "question", called=reason)
            return ["question"]
        raise _unread(task, f"{task} is {in_words(found)} already")

    def _back(self, task: str, found: TaskState, reason: str, run: str | None) -> None:
        said = reason or "sent back by a client"
        if found is TaskState.COMPLETED:
            self.reopen(task, said)
        elif found is TaskState.FAILED:
            self.retry(task, reason=reason)
        elif found is TaskState.REVIEW:
            self.reject(task, said)
        else:
            self.release(self._run_to_report(task, run), said)

    def _hand_in(self, task: str, found: TaskState, reason: str, run: str | None) -> None:
        self.done(self._run_now(task, found, run), reason or "handed in for review", next_action="needs_revision")

    def _block(self, task: str, found: TaskState, reason: str, run: str | None) -> None:
        said = reason or "blocked by a client; it waits for an answer"
        if found is TaskState.IN_PROGRESS:
            self.done(self._run_to_report(task, run), said, next_action="blocked")
        else:
            self.add_gate(task, "question", called=said)

    def _finish(self, task: str, found: TaskState, reason: str, run: str | None) -> None:
        if found is TaskState.REVIEW:
            self._refuse_own(task)
            self._check_in_review(task)
            self.approve(task, reason)
        else:
            self.done(self._run_now(task, found, run), reason or "reported as completed by a client")

    def _refuse_own(self, task: str) -> None:
        """Whoever did the work does not accept it, too. Raises Conflict (``own_work``)."""
        me, runs = self.store.origin, self.show(task)["runs"]
        if me.session and runs and self.run(runs[-1]["id"]).row["actor"] == me.holder:
            raise Conflict(
                f"{task} waits for somebody else to look at it: its work was done here",
                hint="a person approves or rejects it, on the page or in a shell; go on with another task",
                code="own_work",
            )

    def _give_up(self, task: str, found: TaskState, reason: str, run: str | None) -> None:
        self.fail(self._run_now(task, found, run), reason or "reported as failed by a client")

    def _cancel(self, task: str, found: TaskState, reason: str, run: str | None) -> None:
        self.cancel(task, reason or "cancelled by a client")

    def _archive(self, task: str, found: TaskState, reason: str, run: str | None) -> None:
        self.archive(task, reason)

    def _run_now(self, task: str, found: TaskState, run: str | None) -> str:
        """The run to report; a task that nobody began is claimed for the purpose."""
        if found is TaskState.IN_PROGRESS:
            return self._run_to_report(task, run)
        return str(self.take_up(task)["run"]["id"])

    def discard(self, task: str, *, force: bool = False, archive_instead: bool = True) -> dict[str, Any]:
        """Takes a task away: archived, cancelled first if it is open; or deleted if it was never tried.

        Without ``force`` nothing happens while others wait for it or for what goes with it, or somebody
        works on one of them (Conflict ``has_dependents``, ``in_progress``). Returns the action and its side effects.
        """
        one = number(task, "T")
        found = self.task(task).state
        awaited, held = self.store.read(lambda tx: _lost_with(tx, one))
        if not force:
            _refuse_loss(one, awaited, held)
        dependents = list(dict.fromkeys(name("T", edge["id"]) for edge in awaited))
        if not archive_instead and not self._has_history(one):
            self.judge("delete")
            self.store.write(lambda tx: _delete(tx, one, awaited))
            return {"action": "deleted", "dependents": dependents, "cancelled_with_it": [], "warnings": []}
        warnings = [] if archive_instead else ["it has children or runs: their history stays, so it was archived"]
        others: list[str] = []
        if found not in SETTLED_TASK:
            cancelled = self.cancel_all(task, "deleted by a client")
            others = cancelled.others
            warnings.append(f"it was {found} and was cancelled first" + (", with what is below it" if others else ""))
            warnings += [f"that ended {run['run']} of {run['holder']}" for run in cancelled.ended[:20]]
        self.archive(task)
        if awaited:
            warnings.append("tasks that wait for it are blocked now")
        return {"action": "archived", "dependents": dependents, "cancelled_with_it": others, "warnings": warnings}

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


def _unread(task: str, why: str) -> Conflict:
    """The refusal of a text that nobody would read."""
    return Conflict(f"{why}: nobody would read the reason", hint=_said_elsewhere(task), code="reason_unread")


def _said_elsewhere(task: str) -> str:
    return f"leave it out; `orchestrion handoff {task} --text TEXT` says it to whoever does the task next"


def _lost_with(tx: Transaction, task: int) -> tuple[list[Row], list[Row]]:
    """What taking a task away takes from others, with what is still open below it, which goes with it.

    The edges of open tasks that wait for any of these from outside, and those of these that somebody works on.
    """
    row = tx.the("task", id=task)
    below = [] if row["state"] in SETTLED_TASK else tx.all("descendants", id=task)
    going = {task, *(one["id"] for one in below if one["state"] not in SETTLED_TASK)}
    edges = tx.all("dependents", ids=sorted(going))
    awaited = [edge for edge in edges if edge["id"] not in going and edge["state"] not in SETTLED_TASK]
    held = [one["id"] for one in (row, *below) if one["state"] == TaskState.IN_PROGRESS]
    return awaited, [tx.the("task", id=one) for one in held]


def _refuse_loss(task: int, awaited: Sequence[Row], held: Sequence[Row]) -> None:
    if not awaited and not held:
        return
    waiting: dict[int, dict[str, None]] = {}
    for edge in awaited:
        waiting.setdefault(edge["prerequisite"], {})[name("T", edge["id"])] = None
    said = [f"{_below(one, task)} is awaited by {', '.join(list(ids)[:20])}" for one, ids in waiting.items()]
    said += [f"{_below(one['id'], task)} is being done by {name('R', one['run'])}" for one in held]
    message = f"{'; '.join(said[:20])}; nothing was deleted"
    if not awaited:
        hint = f"cancel {name('T', held[0]['id'])} first, or repeat with force, which ends the run"
        raise Conflict(message, hint=hint, code="in_progress", action_taken="blocked")
    free = f"orchestrion dep rm {name('T', awaited[0]['heir_of'])} {name('T', awaited[0]['prerequisite'])}"
    raise Conflict(
        message,
        hint=f"`{free}` takes a dependency away; or repeat with force",
        code="has_dependents",
        action_taken="blocked",
        dependent_tasks=list(dict.fromkeys(name("T", edge["id"]) for edge in awaited))[:50],
    )


def _below(task: int, ancestor: int) -> str:
    return name("T", task) + (f" (below {name('T', ancestor)})" if task != ancestor else "")


def _delete(tx: Transaction, task: int, awaited: Sequence[Row]) -> None:
    for owner in sorted({edge["heir_of"] for edge in awaited}):
        shape.remove_dependency(tx, owner, task)
    decide.delete(tx, task)
