"""The shape of the graph: dependencies, gates and the hierarchy, and that it has no circle.

A dependency of a parent holds for its descendants: each of them has a row of its own,
marked with the ancestor it is inherited from, and all those rows are added, removed and
waived together. Changes of shape happen one at a time (``lock_shape``), so that two
edges cannot close a circle behind each other's backs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrion.core.errors import Conflict, CycleRefused, InvalidInput, NotFound
from orchestrion.core.graph import path
from orchestrion.core.model import NewGate, check_moment, check_text, name
from orchestrion.core.states import SETTLED_TASK, EdgeKind, TaskState, standing
from orchestrion.core.values import is_blank
from orchestrion.scheduler.settle import settle
from orchestrion.store import Transaction
from orchestrion.store.store import Row

if TYPE_CHECKING:
    from orchestrion.scheduler.limits import Limits


def add_dependency(tx: Transaction, task: int, on: int, kind: EdgeKind = EdgeKind.BLOCKS) -> None:
    """``task`` waits for ``on`` from now on; so do its descendants. Asking again changes nothing.

    Raises NotFound, Conflict when the task is over, CycleRefused naming the whole circle.
    """
    tx.one("lock_shape")
    rows = _both(tx, task, on)
    _refuse_when_over(rows[task])
    heirs = [task, *(row["id"] for row in tx.all("descendants", id=task))]
    refuse_cycle(tx, [on], heirs, task)
    tx.each("add_edge", [_edge_row(heir, on, kind, task) for heir in heirs])
    tx.event("task.dependency_added", task=task, data={"on": name("T", on), "kind": str(kind)})
    tx.put("rerank", ids=[on])
    settle(tx, waiting=heirs)


def remove_dependency(tx: Transaction, task: int, on: int, kind: EdgeKind | None = None) -> None:
    """``task`` and its descendants no longer wait for ``on``. Raises NotFound when they did not."""
    edges = _dependency(tx, task, on, kind)
    tx.put("remove_edges", ids=[edge["id"] for edge in edges])
    tx.event("task.dependency_removed", task=task, data={"on": name("T", on)})
    tx.put("rerank", ids=[on])
    settle(tx, waiting=[edge["task"] for edge in edges])


def waive_dependency(tx: Transaction, task: int, on: int, reason: str) -> None:
    """The wait for ``on`` no longer binds, for a reason that is kept; this is final."""
    if is_blank(reason):
        raise InvalidInput("waiving a dependency needs a reason", hint="say why", code="reason_missing")
    check_text("reason", reason)
    edges = _dependency(tx, task, on, None)
    tx.put("waive_edges", ids=[edge["id"] for edge in edges], reason=reason)
    tx.event("task.dependency_waived", task=task, data={"on": name("T", on), "reason": reason})
    tx.put("rerank", ids=[on])
    settle(tx, waiting=[edge["task"] for edge in edges])


def add_gate(tx: Transaction, task: int, gate: NewGate) -> int:
    """The task and its descendants wait for the gate. Returns the gate's number."""
    tx.one("lock_shape")
    _refuse_when_over(_task(tx, task))
    heirs = [row["id"] for row in tx.all("descendants", id=task)]
    number = put_gate(tx, task, gate, heirs)
    settle(tx, waiting=[task, *heirs])
    return number


def put_gate(tx: Transaction, task: int, gate: NewGate, heirs: Sequence[int] = ()) -> int:
    """Writes a gate and the edges of the task and its heirs to it; settling is the caller's.

    Its name is what somebody says or asks: secrets in it are replaced.
    """
    check_text("gate's name", gate.name)
    check_moment("moment", gate.opens_at)
    if (gate.kind == EdgeKind.TIME) != (gate.opens_at is not None):
        raise InvalidInput(
            "a time gate needs its moment, and only a time gate has one",
            hint="say when it opens, or choose another kind of gate",
            code="invalid_gate",
        )
    called = tx.said(gate.name)
    row = tx.the("add_gate", task=task, kind=str(gate.kind), name=called, opens_at=gate.opens_at)
    edges = [{"task": one, "gate": row["id"], "kind": str(gate.kind), "heir_of": task} for one in (task, *heirs)]
    tx.each("add_gate_edge", edges)
    tx.event("gate.added", task=task, data={"gate": name("G", row["id"]), "kind": str(gate.kind), "name": called})
    return int(row["id"])


def find_gate(tx: Transaction, gate: int) -> Row:
    """A gate. Raises NotFound."""
    row = tx.one("gate", id=gate)
    if row is None:
        raise NotFound(
            f"there is no gate {name('G', gate)}", hint="`orchestrion show TASK` lists gates", code="no_gate"
        )
    return row


def decide_gate(tx: Transaction, gate: int, *, opened: bool, answer: str | None, decided_by: str) -> int:
    """Opens a gate, or refuses what it asks. Returns the task it belongs to.

    Raises NotFound, Conflict when it was decided before, or its task is over.
    """
    check_text("answer", answer or "")
    check_text("name of who decides", decided_by)
    tx.one("lock_shape")
    row = find_gate(tx, gate)
    if row["decided_by"] is None:
        _refuse_when_over(_task(tx, row["task"]))
    state = "met" if opened else "dead"
    if not tx.run("open_gate", gate=gate, state=state, answer=answer, decided_by=decided_by):
        raise _decided(row)
    tx.event(
        "gate.opened" if opened else "gate.refused", task=row["task"], data={"gate": name("G", gate), "answer": answer}
    )
    settle(tx, waiting=[edge["task"] for edge in tx.all("gate_edges_follow", gates=[gate], state=state)])
    return int(row["task"])


def _decided(gate: Row) -> Conflict:
    """The error for who decides a gate after somebody else."""
    said = f": {gate['answer']}" if gate["answer"] else ""
    return Conflict(
        f"{name('G', gate['id'])} was {standing(gate['state'], is_gate=True)} by {gate['decided_by']} before{said}",
        hint=f"that stands, and yours was not kept; `orchestrion show {name('T', gate['task'])}` has all of it",
        code="gate_decided",
        state=gate["state"],
        decided_by=gate["decided_by"],
        answer=gate["answer"],
    )


def adopt(tx: Transaction, parent: int, child: int) -> None:
    """``parent`` waits for ``child``, and ``child`` for all that ``parent`` waits for; settling is the caller's."""
    tx.put(
        "add_edge",
        task=parent,
        prerequisite=child,
        kind=str(EdgeKind.CHILD),
        waived=0,
        reason=None,
        heir_of=parent,
    )
    tx.put("inherit_edges", task=child, parent=parent)


def move(tx: Transaction, task: int, parent: int | None, limits: Limits | None = None) -> None:
    """Puts the task, with all below it, under another parent (None: under none).

    Raises NotFound, Conflict (a cancelled parent, ``settles_parent``), CycleRefused, InvalidInput (too deep).
    """
    tx.one("lock_shape")
    row = _task(tx, task)
    if row["parent"] == parent:
        return
    old = row["parent"]
    below = tx.all("descendants", id=task)
    subtree = [task, *(one["id"] for one in below)]
    _leave_parent(tx, task, old, subtree)
    if parent is not None:
        _refuse_parent(tx, task, parent, below, limits)
        _refuse_to_settle(tx, row, parent)
    tx.put("set_parent", id=task, parent=parent)
    if parent is not None:
        _join_parent(tx, parent, subtree)
    tx.event("task.moved", task=task, data={"parent": name("T", parent) if parent else None})
    settle(tx, waiting=[*subtree, *(one for one in (old, parent) if one)])


def _leave_parent(tx: Transaction, task: int, old: int | None, subtree: list[int]) -> None:
    if old is None:
        return
    ancestors = [row["id"] for row in tx.all("ancestors", id=task)]
    tx.put("remove_inherited", ids=subtree, ancestors=ancestors)
    tx.put("remove_child_edge", parent=old, child=task)


def _refuse_parent(tx: Transaction, task: int, parent: int, below: list[Row], limits: Limits | None) -> None:
    subtree = [task, *(one["id"] for one in below)]
    if parent in subtree:
        raise CycleRefused([name("T", task), name("T", parent), name("T", task)], hint="choose a parent outside it")
    _task(tx, parent)
    refuse_cancelled(tx, [parent])
    if limits is not None:
        refuse_too_deep(tx, parent, 1, limits, height=_height(task, below))
    refuse_cycle(tx, [task], [parent], parent)
    inherited = [row["prerequisite"] for row in tx.all("prerequisites_to_inherit", ids=[parent])]
    tx.all("lock_tasks", ids=inherited)
    refuse_cycle(tx, inherited, subtree, task)


def _refuse_to_settle(tx: Transaction, row: Row, parent: int) -> None:
    """A task that is over would be the only child: what is to be done in its parent itself would never be."""
    above = _task(tx, parent)
    if row["state"] not in (TaskState.COMPLETED, TaskState.CANCELLED) or above["state"] in SETTLED_TASK:
        return
    if not tx.all("children", parent=parent):
        raise Conflict(
            f"{name('T', parent)} would be {row['state']} at once, as its only child {name('T', row['id'])} is, and "
            "nothing of its own would be done",
            hint=f"first add what is to be done below it: `orchestrion add TITLE --parent {name('T', parent)}`",
            code="settles_parent",
        )


def _height(task: int, below: list[Row]) -> int:
    """Number of levels of a subtree, its root included."""
    children: dict[int, list[int]] = {}
    for one in below:
        children.setdefault(one["parent"], []).append(one["id"])
    height, level = 0, [task]
    while level:
        height, level = height + 1, [child for one in level for child in children.get(one, ())]
    return height


def _join_parent(tx: Transaction, parent: int, subtree: list[int]) -> None:
    adopt(tx, parent, subtree[0])
    for below in subtree[1:]:
        tx.put("inherit_edges", task=below, parent=parent)


def refuse_cancelled(tx: Transaction, parents: Iterable[int]) -> None:
    """Refuses parents that are cancelled; the others keep their state until the transaction ends."""
    for row in tx.all("lock_tasks", ids=sorted(parents)):
        if row["state"] == TaskState.CANCELLED:
            raise Conflict(
                f"{name('T', row['id'])} is cancelled and takes no children",
                hint="choose another parent",
                code="parent_cancelled",
            )


def refuse_to_reopen(tx: Transaction, parent: int) -> None:
    """Refuses a parent that is completed: with a child that is to be done it would not be, nor what is above it."""
    tx.all("lock_tasks", ids=[parent])
    found = tx.all("completed_above", ids=[parent])
    if found:
        names = [name("T", row["id"]) for row in found]
        raise Conflict(
            f"a new child would reopen {', '.join(names)}, which is completed",
            hint="choose another parent; if that is meant, a command says `--reopen`, and REST `reopen`",
            code="parent_completed",
            reopens=names,
        )


def refuse_too_deep(tx: Transaction, parent: int, more: int, limits: Limits, *, height: int = 1) -> None:
    """Refuses children (``height`` levels with what is below them) that would break the limits of the hierarchy."""
    if limits.max_depth is not None:
        depth = len(tx.all("ancestors", id=parent)) + 1 + height
        if depth > limits.max_depth:
            raise InvalidInput(
                f"under {name('T', parent)} the hierarchy would have depth {depth}; the limit is {limits.max_depth}",
                hint="choose a parent higher up, or raise hierarchy.max_depth",
                code="too_deep",
            )
    if limits.max_children is not None:
        count = len(tx.all("children", parent=parent)) + more
        if count > limits.max_children:
            raise InvalidInput(
                f"{name('T', parent)} would have {count} children; the limit is {limits.max_children}",
                hint="group them under further parents, or raise hierarchy.max_children",
                code="too_many_children",
            )


def refuse_cycle(tx: Transaction, starts: Iterable[int], targets: list[int], via: int) -> None:
    """Refuses what would make ``via`` wait for ``starts`` while one of them waits for a target."""
    starts = list(starts)
    if not starts or tx.one("reaches", starts=starts, targets=targets) is None:
        return
    for start in starts:
        row = tx.one("reaches", starts=[start], targets=targets)
        if row is not None:
            raise CycleRefused(_shown(_circle(tx, start, int(row["id"]), via)))


def _circle(tx: Transaction, start: int, goal: int, via: int) -> list[int]:
    waits: dict[int, list[int]] = {}
    for edge in tx.all("reach_edges", start=start):
        waits.setdefault(edge["task"], []).append(edge["prerequisite"])
    there = path(waits, start, goal) or [start]
    circle = [via, *there]
    return circle if there[-1] == via else [*circle, via]


def _shown(circle: list[int]) -> list[str]:
    names = [name("T", one) for one in circle]
    return names if len(names) <= 60 else [*names[:30], f"... {len(names) - 60} more ...", *names[-30:]]


def _both(tx: Transaction, task: int, on: int) -> dict[int, Row]:
    rows = {row["id"]: row for row in tx.all("lock_tasks", ids=sorted({task, on}))}
    for one in (task, on):
        if one not in rows:
            raise NotFound(
                f"there is no task {name('T', one)}", hint="`orchestrion list` shows the tasks", code="no_task"
            )
    return rows


def _task(tx: Transaction, task: int) -> Row:
    row = tx.one("task_for_update", id=task)
    if row is None:
        raise NotFound(f"there is no task {name('T', task)}", hint="`orchestrion list` shows the tasks", code="no_task")
    return row


def _refuse_when_over(row: Row) -> None:
    if row["state"] in (TaskState.COMPLETED, TaskState.CANCELLED):
        raise Conflict(
            f"{name('T', row['id'])} is {row['state']}; it waits for nothing any more",
            hint="reopen it first" if row["state"] == TaskState.COMPLETED else "create a new task",
            code="task_over",
        )


def _dependency(tx: Transaction, task: int, on: int, kind: EdgeKind | None) -> list[Row]:
    tx.one("lock_shape")
    _both(tx, task, on)
    edges = tx.all("dependency", task=task, on=on, kind=str(kind) if kind else None)
    if not edges:
        raise NotFound(
            f"{name('T', task)} has no dependency of its own on {name('T', on)}",
            hint=f"`orchestrion why {name('T', task)}` shows what it waits for",
            code="no_dependency",
        )
    return edges


def _edge_row(heir: int, on: int, kind: EdgeKind, of: int) -> dict[str, object]:
    return {"task": heir, "prerequisite": on, "kind": str(kind), "waived": 0, "reason": None, "heir_of": of}
