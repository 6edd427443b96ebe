"""What a worker's call had to do with: the tasks that could come to it, and what became of them.

A task could come to it if it is of the plan and for the agent that the call was asked for, and was
not held up, itself or through others, by a result of before: by a failure, or by work that is in
review. So an old failure is no reason for a new call to end badly; a failure in this call is one,
and so is a task that waits for a gate, which may open at any moment, or for another's lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrion.core.states import TaskState
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: States in which only a person moves a task on.
NEEDS_SOMEBODY = (TaskState.REVIEW, TaskState.BLOCKED, TaskState.FAILED)


@dataclass(frozen=True)
class Mark:
    """Where a call began."""

    #: Number of the last event before it.
    event: int
    #: Tasks that could not come to it then.
    beyond: Sequence[int]


@dataclass(frozen=True)
class Tally:
    """Tasks that a call could work on, by what became of them since its beginning."""

    completed: int
    failed: int
    #: By somebody; those that nobody needs any more are not counted.
    cancelled: int
    #: Waiting, ready, running or in review.
    left: int


def mark(tx: Transaction) -> Mark:
    """The beginning of a call."""
    return Mark(int(tx.the("last_event")["id"]), [row["id"] for row in tx.all("tasks_behind_results")])


def tally(tx: Transaction, since: Mark, plan: int | None, lanes: Sequence[int] | None) -> Tally:
    """What became of the tasks of a plan (None: of all) in some lanes (None: in all) since the call began."""
    rows = tx.all("tally", since=since.event, beyond=list(since.beyond), plan=plan, lanes=lanes and list(lanes))
    states = {row["state"]: int(row["total"]) for row in rows}
    completed, failed = states.pop(TaskState.COMPLETED, 0), states.pop(TaskState.FAILED, 0)
    cancelled = states.pop(TaskState.CANCELLED, 0)
    return Tally(completed, failed, cancelled, left=sum(states.values()))


def named(
    tx: Transaction,
    since: Mark,
    plan: int | None,
    lanes: Sequence[int] | None,
    states: Sequence[TaskState],
    limit: int,
) -> list[Row]:
    """The first of those tasks that are in some states; each row has the ``total`` of them."""
    given = {"since": since.event, "beyond": list(since.beyond), "plan": plan, "lanes": lanes and list(lanes)}
    return tx.all("tally_named", states=list(states), limit=limit, **given)
