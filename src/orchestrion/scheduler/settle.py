"""What follows from a change, carried on until nothing follows any more.

A change of a task's state changes the edges of its direct dependants; edges change their
tasks' counters (the database sees to that); counters decide where a waiting task stands;
and where that matters to others, it goes round again. Iteratively, in the transaction of
the change: whoever sees the change sees all that follows from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrion.core.model import name
from orchestrion.core.states import (
    GATE_KINDS,
    SETTLED_TASK,
    TaskState,
    is_legal_task_move,
    standing,
    waiting_state,
)
from orchestrion.store import Transaction
from orchestrion.store.store import Row


def settle(tx: Transaction, *, changed: Iterable[int] = (), waiting: Iterable[int] = ()) -> list[int]:
    """Carries a change through the graph.

    ``changed`` are tasks whose state just changed; ``waiting`` are tasks that just came to
    wait, or whose edges changed. Returns the tasks that became ready, in order of number.
    """
    became_ready: set[int] = set()
    frontier, waiters = list(changed), set(waiting)
    while frontier or waiters:
        if frontier:
            waiters.update(row["task"] for row in tx.all("edges_follow", ids=sorted(frontier)))
            if unblocked := became_ready.intersection(frontier):
                # What waited softly for a blocked task waits for it again: it blocks others, and counts more.
                tx.put("rerank", ids=sorted(unblocked))
        frontier = _place(tx, waiters, became_ready) if waiters else []
        waiters = set()
    return sorted(became_ready)


def _place(tx: Transaction, ids: Collection[int], became_ready: set[int]) -> list[int]:
    """Moves waiting tasks to where their counters say; those whose move matters to others."""
    moves: dict[TaskState, list[Row]] = {}
    still_blocked: list[Row] = []
    for task in tx.all("waiting_tasks", ids=sorted(ids)):
        target = _target(task)
        if target != task["state"]:
            moves.setdefault(target, []).append(task)
        elif target is TaskState.BLOCKED:
            still_blocked.append(task)
    became_ready.difference_update(task["id"] for tasks in moves.values() for task in tasks)
    matters = _leave_for_pending(tx, moves)
    matters += _become_blocked(tx, moves.get(TaskState.BLOCKED, []), still_blocked)
    matters += _become_unneeded(tx, moves.get(TaskState.CANCELLED, []))
    matters += _parents_end(tx, moves.get(TaskState.COMPLETED, []))
    _become_ready(tx, [task["id"] for task in moves.get(TaskState.READY, [])], became_ready)
    return matters


def _target(task: Row) -> TaskState:
    if task["not_needed"] and task["state"] != TaskState.COMPLETED:
        return TaskState.CANCELLED
    target = waiting_state(unmet=task["unmet"], dead=task["dead"], held=task["held"])
    if target is TaskState.READY and task["children"] and not task["owed"]:
        return TaskState.COMPLETED
    return target


def _leave_for_pending(tx: Transaction, moves: dict[TaskState, list[Row]]) -> list[int]:
    """What cannot go straight to where it belongs goes to pending first, and on in the same transaction."""
    back = [
        task
        for target, tasks in moves.items()
        for task in tasks
        if target is TaskState.PENDING or not is_legal_task_move(TaskState(task["state"]), target)
    ]
    if not back:
        return []
    tx.put("tasks_become_pending", ids=[task["id"] for task in back])
    unarchive(tx, [task["id"] for task in back if task["state"] in SETTLED_TASK])
    for task in back:
        tx.event("task.pending", task=task["id"], found=task["state"], to=TaskState.PENDING)
    return [task["id"] for task in back if task["state"] != TaskState.READY]


def unarchive(tx: Transaction, ids: Collection[int]) -> None:
    """Settled tasks that are taken up again are in the lists again."""
    if ids:
        for row in tx.all("unarchive", ids=sorted(ids)):
            tx.event("task.unarchived", task=row["id"])


def _become_blocked(tx: Transaction, tasks: list[Row], still_blocked: list[Row]) -> list[int]:
    """Blocks tasks; those that were blocked before may be so for another reason now."""
    if not tasks and not still_blocked:
        return []
    said = _why_blocked(tx, [*tasks, *still_blocked])
    tx.each("task_becomes_blocked", [{"id": task, **why} for task, why in said.items()])
    for task in tasks:
        tx.event(
            "task.blocked",
            task=task["id"],
            found=TaskState.READY if task["state"] == TaskState.READY else TaskState.PENDING,
            to=TaskState.BLOCKED,
            data=said[task["id"]],
        )
    return [task["id"] for task in tasks]


def _why_blocked(tx: Transaction, tasks: list[Row]) -> dict[int, dict[str, str | None]]:
    causes: dict[int, list[str]] = {}
    for edge in tx.all("dead_edges", ids=[task["id"] for task in tasks]):
        causes.setdefault(edge["task"], []).append(_cause(edge))
    return {
        task["id"]: {
            "code": "dependency_failed" if task["dead"] else "decision_needed",
            "reason": "; ".join(causes.get(task["id"], [])[:5]) or None,
        }
        for task in tasks
    }


def _cause(edge: Row) -> str:
    if edge["kind"] in GATE_KINDS:
        return f"{edge['kind']} {name('G', edge['gate'])} is {standing(edge['state'], is_gate=True)}"
    return f"{name('T', edge['prerequisite'])} failed or was cancelled"


def _become_unneeded(tx: Transaction, tasks: list[Row]) -> list[int]:
    if tasks:
        tx.put(
            "tasks_become_cancelled",
            ids=[task["id"] for task in tasks],
            code="not_needed",
            reason="what it was to handle did not fail",
        )
    for task in tasks:
        tx.event(
            "task.cancelled",
            task=task["id"],
            found=task["state"],
            to=TaskState.CANCELLED,
            data={"code": "not_needed"},
        )
    return [task["id"] for task in tasks]


def _parents_end(tx: Transaction, parents: list[Row]) -> list[int]:
    """A parent is completed with its children, or cancelled when all of them were."""
    if not parents:
        return []
    ids = [task["id"] for task in parents]
    fruitful = {row["id"] for row in tx.all("has_completed_child", ids=ids)}
    tx.put("parents_become_completed", ids=sorted(fruitful))
    barren = [one for one in ids if one not in fruitful]
    if barren:
        tx.put(
            "tasks_become_cancelled", ids=barren, code="children_cancelled", reason="all of its children were cancelled"
        )
    for task in ids:
        to = TaskState.COMPLETED if task in fruitful else TaskState.CANCELLED
        tx.event(f"task.{to}", task=task, found=TaskState.PENDING, to=to, data={"by": "children"})
    return ids


def _become_ready(tx: Transaction, ids: list[int], became_ready: set[int]) -> None:
    if not ids:
        return
    tx.put("tasks_become_ready", ids=ids)
    for task in ids:
        tx.event("task.ready", task=task, found=TaskState.PENDING, to=TaskState.READY)
    became_ready.update(ids)
