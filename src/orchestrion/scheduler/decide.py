"""What people and programs decide about tasks that no run holds: retry, reopen, cancel, approve, ...

Each decision checks the transition table, moves the row if it is still as it was found,
writes the event, and settles what follows.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from orchestrion.core.errors import CLEANUP, Conflict, IllegalMove, InvalidInput
from orchestrion.core.model import CHANGEABLE, NewTask, check_text, cleared, name
from orchestrion.core.states import (
    SETTLED_TASK,
    TASK_MOVES,
    EdgeKind,
    TaskState,
    is_legal_task_move,
)
from orchestrion.core.values import is_blank, stored_json
from orchestrion.scheduler import create, finish, holders
from orchestrion.scheduler.settle import settle, unarchive
from orchestrion.scheduler.unknown import unknown_task
from orchestrion.store import Transaction
from orchestrion.store.store import Row


def retry(tx: Transaction, task: int, *, resume: bool = False, reason: str = "") -> None:
    """A failed or waiting-to-be-retried task gets all its attempts again, at once; ``reason`` stands in the next brief.

    With ``resume`` the next attempt goes on with the agent session of the last one, and with
    its work; else it starts afresh. Raises Conflict (``no_session``) when there is none.
    """
    row = find(tx, task)
    last = tx.one("last_session", task=task) if resume else None
    if resume and last is None:
        raise Conflict(
            f"no run of {name('T', task)} had a session of its agent",
            hint=f"start afresh: `orchestrion retry {name('T', task)}`",
            code="no_session",
        )
    tx.put("choose_session", task=task, session=last["session_id"] if last else None)
    said = reason or None
    only = (TaskState.FAILED, TaskState.RETRYING)
    _move(tx, row, TaskState.PENDING, only=only, reason=said, feedback=said, reset=True)


def reopen(tx: Transaction, task: int, reason: str) -> None:
    """A completed task is to be done again. Dependants that did not start wait for it; the others keep their work."""
    row = find(tx, task)
    _need(reason, "reopening a task")
    if row["children"]:
        raise Conflict(
            f"{name('T', task)} is completed by its children",
            hint="reopen the child that is to be done again",
            code="parent",
        )
    _move(
        tx,
        row,
        TaskState.PENDING,
        only=(TaskState.COMPLETED,),
        code="reopened",
        reason=reason,
        feedback=reason,
        reset=True,
    )


def approve(tx: Transaction, task: int, by: str = "", said: str = "") -> list[int]:
    """Work in review is accepted, by somebody who ``said`` something. Returns the tasks that became ready.

    A task whose children are still open waits for them and is completed with them.
    """
    row = find(tx, task)
    to = TaskState.PENDING if row["children"] and row["unmet"] else TaskState.COMPLETED
    return _move(
        tx, row, to, only=(TaskState.REVIEW,), code="approved", reason=": ".join(filter(None, (by, said))) or None
    )


def reject(tx: Transaction, task: int, reason: str) -> None:
    """Work in review is sent back; the reason stands in the next brief."""
    row = find(tx, task)
    _need(reason, "rejecting work")
    _move(tx, row, TaskState.PENDING, only=(TaskState.REVIEW,), code="rejected", reason=reason, feedback=reason)


def cancel(tx: Transaction, task: int, reason: str, *, cancel_dependents: bool = False) -> list[int]:
    """Nobody wants the task any more, nor what is below it. Returns all tasks that were cancelled.

    A run that holds one of them is killed. Dependants are blocked, with the reason; with
    ``cancel_dependents`` they are cancelled too, and theirs. Raises IllegalMove when it is over.
    """
    check_text("reason", reason)
    tx.one("lock_shape")
    find(tx, task)
    below = [one["id"] for one in tx.all("descendants", id=task)]
    holders.put_right(tx, [task, *below])
    row = find(tx, task)
    only = tuple(state for state in TaskState if is_legal_task_move(state, TaskState.CANCELLED))
    _refuse_illegal(tx, row, TaskState.CANCELLED, only)
    wanted = deque([row, *(find(tx, one) for one in below)])
    cancelled: dict[int, Row] = {}
    while wanted:
        one = wanted.popleft()
        if one["id"] in cancelled or not is_legal_task_move(TaskState(one["state"]), TaskState.CANCELLED):
            continue
        cancelled[one["id"]] = one
        if cancel_dependents:
            wanted.extend(_hard_dependents(tx, one["id"]))
    for one in cancelled.values():
        _cancel_one(tx, one, reason)
    settle(tx, changed=list(cancelled))
    return list(cancelled)


def archive(tx: Transaction, task: int, reason: str = "") -> None:
    """Takes a settled task out of the lists; its history stays, and says the ``reason``. One that is out stays out."""
    check_text("reason", reason)
    row = find(tx, task)
    if row["archived_at"] is not None:
        return
    if row["state"] not in SETTLED_TASK:
        raise Conflict(
            f"{name('T', task)} is {row['state']} and cannot be archived",
            hint="only completed, failed and cancelled tasks can; cancel it first",
            code="not_settled",
            state=row["state"],
        )
    tx.put("archive", id=task)
    tx.event("task.archived", task=task, data={"reason": reason} if reason else None)


def delete(tx: Transaction, task: int) -> None:
    """Removes a task that was never tried and that nothing refers to. Raises Conflict otherwise."""
    tx.one("lock_shape")
    row = find(tx, task)
    dependents = sorted({d["id"] for d in tx.all("dependents", ids=[task])})
    if row["children"] or dependents or tx.one("delete_runs_of", task=task):
        raise Conflict(
            f"{name('T', task)} has children, dependants or runs; deleting it would falsify their history",
            hint=f"`orchestrion cancel {name('T', task)}` ends it, `orchestrion archive` hides it",
            code="in_use",
            dependents=[name("T", d) for d in dependents[:20]],
        )
    prerequisites = [edge["prerequisite"] for edge in tx.all("prerequisites_to_inherit", ids=[task])]
    tx.all("lock_tasks", ids=prerequisites)
    tx.put("delete_edges_of", id=task)
    tx.put("delete_task", id=task)
    tx.event("task.deleted", task=task, found=row["state"], data={"title": row["title"]})
    tx.put("rerank", ids=prerequisites)
    if row["parent"]:
        settle(tx, waiting=[row["parent"]])


def update(tx: Transaction, task: int, changes: Mapping[str, Any], limits: create.Limits | None = None) -> list[str]:
    """Gives a task new values; keys as in ``core.model.NewTask``, None clears the field. Returns what changed.

    Values are checked as those of a new task. A task that was started keeps its state. Raises InvalidInput
    (``invalid_field``, ``not_clearable``), NotFound.
    """
    find(tx, task)
    row = tx.the("task", id=task)
    unknown = changes.keys() - CHANGEABLE.keys()
    if unknown:
        raise InvalidInput(
            f"{', '.join(sorted(unknown))} cannot be changed",
            hint=f"what can: {', '.join(sorted(CHANGEABLE))}",
            code="invalid_field",
        )
    given = {field: cleared(field) if value is None else value for field, value in changes.items()}
    NewTask(**{"title": row["title"], **given})
    values = {field: _as_kept(field, given[field]) if field in given else row[field] for field in CHANGEABLE}
    changed = sorted(field for field in given if values[field] != row[field])
    if not changed:
        return []
    lane = create.lane_number(
        tx,
        values.pop("role"),
        values.pop("agent"),
        stored_json(values, "needs", name("T", task)),
        limits,
        has_command=values["command"] is not None,
    )
    tx.put("change_task", id=task, lane=lane, **values)
    if "tags" in changed:
        tx.put("remove_tags", task=task)
        tx.each("add_tag", [{"task": task, "tag": tag} for tag in sorted(set(given["tags"]))])
    tx.put("rerank", ids=[task])
    tx.event("task.updated", task=task, data={"changed": changed})
    return changed


def _as_kept(field: str, value: Any) -> Any:
    """A value as the task's row has it; needs are a set there."""
    if field == "needs":
        value = sorted(set(value))
    return json.dumps(value) if isinstance(value, list | tuple | Mapping) else value


#: What to do instead of a decision or a claim that does not work on a task in this state.
INSTEAD = dict.fromkeys(TaskState, "`orchestrion why {0}` says what it waits for") | {
    TaskState.COMPLETED: '`orchestrion reopen {0} --reason "..."` has it done again',
    TaskState.FAILED: "`orchestrion retry {0}` has it tried again",
    TaskState.REVIEW: "`orchestrion show {0}` says how to decide about it",
    TaskState.CANCELLED: "make a new task if it is wanted after all",
}


def find(tx: Transaction, task: int) -> Row:
    """The task's row, held until the transaction ends. Raises NotFound."""
    return tx.one("task_for_update", id=task) or _missing(task)


def _missing(task: int) -> Row:
    raise unknown_task(task)


def _hard_dependents(tx: Transaction, task: int) -> list[Row]:
    hard = (EdgeKind.BLOCKS, EdgeKind.DATA)
    ids = [d["id"] for d in tx.all("dependents", ids=[task]) if d["kind"] in hard and d["edge_state"] != "waived"]
    holders.put_right(tx, ids)
    return [find(tx, one) for one in ids]


def _cancel_one(tx: Transaction, row: Row, reason: str) -> None:
    if row["run"]:
        finish.end_with_cancelled_task(tx, row["run"], reason)
    tx.put("tasks_become_cancelled", ids=[row["id"]], code="cancelled", reason=reason)
    tx.event(
        "task.cancelled",
        task=row["id"],
        run=row["run"],
        found=row["state"],
        to=TaskState.CANCELLED,
        data={"reason": reason},
    )


def _need(reason: str, what: str) -> None:
    if is_blank(reason):
        raise InvalidInput(f"{what} needs a reason", hint="say why", code="reason_missing")


def _refuse_illegal(tx: Transaction, row: Row, to: TaskState, only: tuple[TaskState, ...]) -> None:
    found = TaskState(row["state"])
    if found not in only:
        task = name("T", row["id"])
        hint = INSTEAD[found].format(task)
        if holders.is_unheld(tx, row["id"]):
            hint = f"{task} names no active run of its own: {CLEANUP}, and says where {task} is then"
        raise IllegalMove(task, found, to, TASK_MOVES[found], only=only, hint=hint)


def _move(
    tx: Transaction,
    row: Row,
    to: TaskState,
    *,
    only: tuple[TaskState, ...],
    code: str | None = None,
    reason: str | None = None,
    feedback: str | None = None,
    reset: bool = False,
) -> list[int]:
    check_text("reason", reason or "")
    _refuse_illegal(tx, row, to, only)
    moved = tx.run(
        "decided_task_moves",
        id=row["id"],
        found=row["state"],
        to=str(to),
        code=code,
        reason=reason,
        feedback=feedback,
        reset=int(reset),
        correlation=tx.origin.correlation,
    )
    if not moved:
        raise Conflict(f"{name('T', row['id'])} was changed by somebody else", hint="look again", code="changed")
    tx.event(f"task.{to}", task=row["id"], found=row["state"], to=to, data={"code": code, "reason": reason})
    waiting = [row["id"]] if to is TaskState.PENDING else []
    if row["state"] in SETTLED_TASK:
        unarchive(tx, waiting)
    return settle(tx, changed=[row["id"]], waiting=waiting)
