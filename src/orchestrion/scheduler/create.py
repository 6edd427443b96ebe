"""New tasks, one or a hundred thousand, in one transaction.

Rows are written first, then the edges, then everything is settled once: so a task may
wait for another that is written with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from orchestrion.core.errors import Backpressure, Conflict, InvalidInput
from orchestrion.core.model import NewTask, Wait, check_text, name
from orchestrion.core.states import GATE_KINDS, TaskState
from orchestrion.scheduler import clones, shape, slots
from orchestrion.scheduler.limits import Limits as Limits
from orchestrion.scheduler.settle import settle
from orchestrion.scheduler.unknown import unknown_task
from orchestrion.store import Transaction
from orchestrion.store.store import Again, Row

#: Seconds after which a caller refused for a full queue may ask again.
RETRY_AFTER_S = 5.0


class Began(NamedTuple):
    """Where a plan begins: where the caller stood who gave it its first task."""

    #: Short name of the branch; None: a detached HEAD.
    branch: str | None
    #: None: the branch has no commit yet.
    commit: str | None
    #: Folder of the checkout.
    checkout: str
    #: Name of the host; its clone is the one from which the store was opened.
    host: str


def create(tx: Transaction, new: NewTask, limits: Limits | None = None, began: Began | None = None) -> int:
    """Writes one task with its edges and gates, settled. Returns its number.

    A plan that is made by it, or of which all is landed, begins at ``began``.

    Raises NotFound for a missing parent or prerequisite, Conflict for a key in use or a
    parent that is cancelled, Backpressure when the queue is full, InvalidInput.
    """
    return create_all(tx, [new], limits, began)[0]


def create_all(
    tx: Transaction, new: Sequence[NewTask], limits: Limits | None = None, began: Began | None = None
) -> list[int]:
    """Writes many tasks at once; all or nothing. Returns their numbers in order."""
    limits = limits or Limits()
    if any(task.parent for task in new):
        tx.one("lock_shape")
    prerequisites = _prerequisites(tx, new)
    parents = _parents(tx, new, limits)
    ids = write_rows(tx, new, limits, began)
    for task, parent in zip(ids, (n.parent for n in new), strict=True):
        if parent:
            shape.adopt(tx, parent, task)
    _refuse_cycles(tx, ids, new)
    tx.each("add_edge", [_edge(task, wait) for task, n in zip(ids, new, strict=True) for wait in n.waits])
    for task, n in zip(ids, new, strict=True):
        for gate in n.gates:
            shape.put_gate(tx, task, gate)
    ready_prerequisites = [one for one, state in prerequisites.items() if state == TaskState.READY]
    if ready_prerequisites:
        tx.put("rerank", ids=ready_prerequisites)
    born_completed = [task for task, n in zip(ids, new, strict=True) if n.completed]
    settle(tx, changed=born_completed, waiting=[*ids, *parents])
    return ids


def write_rows(tx: Transaction, new: Sequence[NewTask], limits: Limits, began: Began | None = None) -> list[int]:
    """Writes the rows alone: no edges, nothing settled. For whoever adds edges among them next.

    Raises Backpressure when the queue has no room for all of them.
    """
    highest = _highest_number(tx, len(new), limits)
    ids = [row["id"] for row in tx.all("reserve_tasks", count=len(new))] if new else []
    if ids and highest is not None and ids[-1] > highest:
        raise Again  # others took the last room meanwhile; asked once more, it is counted
    lanes = _Lanes(tx, limits)
    plans: dict[str, int] = {}
    rows = []
    for task, n in zip(ids, new, strict=True):
        if n.plan not in plans:
            plans[n.plan] = plan_number(tx, n.plan, began=began)
        lane = lanes.number(n.role, n.agent, n.needs, n.command is not None)
        rows.append({**_row(task, n, plans[n.plan], lane), "correlation": tx.origin.correlation})
    _refuse_known_keys(tx, new, plans)
    tx.each("add_task", rows)
    tx.each("add_tag", [{"task": task, "tag": tag} for task, n in zip(ids, new, strict=True) for tag in set(n.tags)])
    for task, row in zip(ids, rows, strict=True):
        tx.event("task.created", task=task, to=row["state"])
    return ids


def plan_number(tx: Transaction, plan: str, title: str = "", *, began: Began | None = None) -> int:
    """Number of the plan of that name, which is made if need be; a new one, or one that is landed, begins here."""
    row = tx.one("plan_by_name", name=plan)
    made = None if row else tx.one("add_plan", name=plan, title=title)
    row = row or made or tx.the("plan_by_name", name=plan)
    if began is not None and (made is not None or _begins_anew(tx, row)):
        tx.put("plan_begins", plan=row["id"], **began._asdict())
        tx.put("tasks_go_with_plan", plan=row["id"])
    return int(row["id"])


def _begins_anew(tx: Transaction, plan: Row) -> bool:
    """Whether all of a plan is landed and nothing of it is left to do. It stays with the clone that has its commits."""
    is_landed = plan["tip"] is not None and plan["landed_commit"] == plan["tip"]
    return is_landed and not clones.is_elsewhere(tx, plan) and tx.one("open_task_of_plan", plan=plan["id"]) is None


def lane_number(
    tx: Transaction,
    role: str,
    agent: str,
    needs: Sequence[str],
    limits: Limits | None = None,
    *,
    has_command: bool = False,
) -> int:
    """Number of the lane for a role, an agent and needs; made if need be, with its resources' slots."""
    return _Lanes(tx, limits or Limits()).number(role, agent, tuple(needs), has_command)


class _Lanes:
    """Lanes looked up once per transaction."""

    def __init__(self, tx: Transaction, limits: Limits) -> None:
        self._tx = tx
        self._limits = limits
        self._known: dict[tuple[str, str, tuple[str, ...], bool], int] = {}

    def number(self, role: str, agent: str, needs: tuple[str, ...], has_command: bool) -> int:
        value = (role, agent, tuple(sorted(set(needs))), has_command)
        if value not in self._known:
            self._known[value] = self._find(*value)
        return self._known[value]

    def _find(self, role: str, agent: str, needs: tuple[str, ...], has_command: bool) -> int:
        given = {"role": role, "agent": agent, "needs": json.dumps(needs), "command": int(has_command)}
        row = self._tx.one("lane_by_value", **given)
        if row is None:
            for need in needs:
                slots.provide(self._tx, f"resource:{need}", self._limits.resources.get(need, 1))
            row = self._tx.one("add_lane", **given) or self._tx.the("lane_by_value", **given)
        return int(row["id"])


def _highest_number(tx: Transaction, count: int, limits: Limits) -> int | None:
    """Up to which number new tasks fit into the queue; None: it has no limit. Raises Backpressure.

    Since they were counted last there came no more tasks than numbers were given. Only where that may be too many
    they are counted anew, while nobody else writes new ones.
    """
    if limits.max_open is None:
        return None
    known = tx.the("waiting_known")
    if known["counted"] is not None and known["counted"] + known["last"] - known["up_to"] + count <= limits.max_open:
        tx.one("share_room")
    else:
        tx.one("lock_room")
        tx.put("count_waiting", last=tx.the("waiting_known")["last"])
        known = tx.the("waiting_known")
    highest = int(known["up_to"] + limits.max_open - known["counted"])
    if known["last"] + count > highest:
        raise Backpressure(
            f"the queue holds at most {limits.max_open} open tasks and has no room for {count} more",
            retry_after_s=RETRY_AFTER_S,
            hint="wait until some are done, or raise queue.max_open",
            max_open=limits.max_open,
        )
    return highest


def _parents(tx: Transaction, new: Sequence[NewTask], limits: Limits) -> list[int]:
    wanted = sorted({task.parent for task in new if task.parent})
    found = {row["id"] for row in tx.all("lock_tasks", ids=wanted)} if wanted else set()
    shape.refuse_cancelled(tx, found)
    for parent in wanted:
        if parent not in found:
            raise unknown_task(parent)
        shape.refuse_too_deep(tx, parent, sum(task.parent == parent for task in new), limits)
    return wanted


def _prerequisites(tx: Transaction, new: Sequence[NewTask]) -> dict[int, str]:
    """States of all that the new tasks will wait for, held; inherited waits are held with them."""
    wanted = {wait.on for task in new for wait in task.waits}
    parents = sorted({task.parent for task in new if task.parent})
    inherited = tx.all("prerequisites_to_inherit", ids=parents) if parents else []
    held = sorted(wanted.union(row["prerequisite"] for row in inherited))
    found = {row["id"]: row["state"] for row in tx.all("lock_tasks", ids=held)} if held else {}
    for one in sorted(wanted):
        if one not in found:
            raise unknown_task(one)
    return found


def _refuse_cycles(tx: Transaction, ids: Sequence[int], new: Sequence[NewTask]) -> None:
    """A new task waits in a circle only when it waits for something that waits for its parent."""
    starts: dict[int, dict[int, list[int]]] = {}
    for task, n in zip(ids, new, strict=True):
        if n.parent and n.waits:
            starts.setdefault(n.parent, {})[task] = [wait.on for wait in n.waits]
    for parent, children in starts.items():
        if tx.one("reaches", starts=sorted({on for ons in children.values() for on in ons}), targets=[parent]):
            for task, ons in children.items():
                shape.refuse_cycle(tx, ons, [parent], task)


def _refuse_known_keys(tx: Transaction, new: Sequence[NewTask], plans: Mapping[str, int]) -> None:
    known: dict[tuple[int, str], int] = {}
    for plan in {task.plan for task in new if task.key}:
        keys = [task.key for task in new if task.key and task.plan == plan]
        rows = tx.all("keys_of_plan", plan=plans[plan], keys=keys)
        known |= {(plans[plan], row["key"]): row["id"] for row in rows}
    for task in new:
        if task.key is None:
            continue
        place = (plans[task.plan], task.key)
        if place in known:
            owner = name("T", known[place]) if known[place] else "another task of this call"
            raise Conflict(
                f"the key {task.key!r} of plan {task.plan!r} belongs to {owner}",
                hint="choose another key, or change that task with `orchestrion update`",
                code="key_taken",
            )
        known[place] = 0


def _row(task: int, new: NewTask, plan: int, lane: int) -> dict[str, Any]:
    return {
        "id": task,
        "plan": plan,
        "lane": lane,
        "parent": new.parent,
        "state": str(TaskState.COMPLETED if new.completed else TaskState.PENDING),
        "priority": new.priority,
        "due_at": new.due_at,
        "max_retries": new.max_retries,
        "retry_delay_s": new.retry_delay_s,
        "timeout_s": new.timeout_s,
        "key": new.key,
        "title": new.title,
        "description": new.description,
        "type": new.type,
        "complexity": new.complexity,
        "effort_min": new.effort_min,
        "command": new.command,
        "checks": json.dumps(new.checks),
        "setup": new.setup,
        "merge": new.merge,
        "tags": json.dumps(new.tags),
        "context": json.dumps(new.context),
        "metadata": json.dumps(new.metadata),
    }


def _edge(task: int, wait: Wait) -> dict[str, object]:
    check_text("reason", wait.waived or "")
    if wait.on == task or wait.kind in GATE_KINDS:
        raise InvalidInput(f"{name('T', task)} cannot wait for itself", hint="leave this dependency out", code="cycle")
    return {
        "task": task,
        "prerequisite": wait.on,
        "kind": str(wait.kind),
        "waived": int(wait.waived is not None),
        "reason": wait.waived,
        "heir_of": task,
    }
