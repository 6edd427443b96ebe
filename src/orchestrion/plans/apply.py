"""A plan document becomes tasks: all of it or nothing, and again as often as one likes.

Keys are unique within the plan: a key that is known means that very task, which takes
the values of the document; a task that was started keeps its state. A key that is gone
from the document is left alone, and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrion.core.errors import NotFound
from orchestrion.core.model import NewGate, NewTask, name, number
from orchestrion.core.states import SETTLED_TASK, EdgeKind
from orchestrion.plans.document import PlanDocument, PlannedTask
from orchestrion.plans.fields import PlannedWait
from orchestrion.scheduler import create, decide, shape
from orchestrion.scheduler.settle import settle
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Attribute of PlannedTask -> field of NewTask, where they differ.
_NEW_TASK = {"run": "command", "due": "due_at", "timeout": "timeout_s"}


@dataclass
class Applied:
    """What applying a document did."""

    plan: str
    #: key -> number, for every task of the document.
    tasks: dict[str, int] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    #: Keys of the plan that the document does not have; their tasks are as they were.
    missing: list[str] = field(default_factory=list)
    #: Tasks that were completed, and are not any more because they have new children.
    reopened: list[int] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As CONTRACT promises it."""
        return {
            "plan": self.plan,
            "tasks": {key: name("T", task) for key, task in self.tasks.items()},
            "created": len(self.created),
            "updated": len(self.updated),
            "unchanged": len(self.unchanged),
            "missing": self.missing,
            "reopened": [name("T", task) for task in self.reopened],
        }


@dataclass(frozen=True)
class Defaults:
    """What a task has when neither it nor its plan says anything."""

    max_retries: int = 3
    retry_delay_s: float = 60.0
    #: role as written -> name under which it is kept.
    roles: Mapping[str, str] = field(default_factory=dict)


def apply(
    tx: Transaction,
    document: PlanDocument,
    defaults: Defaults,
    limits: create.Limits | None = None,
    began: create.Began | None = None,
) -> Applied:
    """Writes the document's tasks. Raises NotFound for an ``after`` that names no task, and what creating raises."""
    plan = create.plan_number(tx, document.name, document.title, began=began)
    known = {row["key"]: row for row in tx.all("keys_of_plan", plan=plan)}
    wanted = {task.key: (task, parent) for task, parent in document.walk()}
    applied = Applied(document.name, missing=[key for key in known if key not in wanted])
    applied.tasks = {key: row["id"] for key, row in known.items() if key in wanted}

    new = [task for task, _ in wanted.values() if task.key not in known]
    _create(tx, new, wanted, document.name, applied, defaults, limits or create.Limits())
    for key, (task, parent) in wanted.items():
        if key in known:
            changed = _update(tx, known[key], task, parent, applied.tasks, defaults, limits)
            (applied.updated if changed else applied.unchanged).append(key)
    applied.tasks = {key: applied.tasks[key] for key in wanted}
    return applied


def _create(
    tx: Transaction,
    new: list[PlannedTask],
    wanted: Mapping[str, tuple[PlannedTask, str | None]],
    plan: str,
    applied: Applied,
    defaults: Defaults,
    limits: create.Limits,
) -> None:
    """Rows first, then waits, then parents (who hand their waits down), then all is settled at once."""
    if not new:
        return
    tx.one("lock_shape")
    known = set(applied.tasks)
    above = {task.key: applied.tasks[p] for task in new if (p := wanted[task.key][1]) in known}
    shape.refuse_cancelled(tx, set(above.values()))
    open_ones = {above[task.key] for task in new if task.key in above and not task.completed}
    applied.reopened = [row["id"] for row in tx.all("completed_above", ids=sorted(open_ones))]
    ids = create.write_rows(tx, [_as_new(task, plan, defaults) for task in new], limits)
    applied.tasks |= dict(zip((task.key for task in new), ids, strict=True))
    applied.created = [task.key for task in new]
    outside = _add_waits(tx, new, applied.tasks, set(ids))
    parents = _add_parents(tx, new, wanted, applied.tasks)
    for parent in parents:
        shape.refuse_too_deep(tx, parent, 0, limits)
    _refuse_cycles(tx, outside, parents)
    tx.put("rerank", ids=sorted({on for _, on in outside}))
    completed = [applied.tasks[task.key] for task in new if task.completed]
    settle(tx, changed=completed, waiting=[*ids, *parents])


def _add_waits(
    tx: Transaction, new: list[PlannedTask], tasks: Mapping[str, int], ids: set[int]
) -> list[tuple[int, int]]:
    """Writes dependencies and gates; those (task, on) that lead to tasks that were there before."""
    waits = [(tasks[task.key], wait, _target(tx, wait, tasks)) for task in new for wait in task.after]
    tx.each("add_edge", [_edge(task, wait, on) for task, wait, on in waits])
    for task in new:
        for gate in task.gates:
            shape.put_gate(tx, tasks[task.key], NewGate(gate.kind, gate.name, gate.opens_at))
    return [(task, on) for task, _, on in waits if on not in ids]


def _add_parents(
    tx: Transaction,
    new: list[PlannedTask],
    wanted: Mapping[str, tuple[PlannedTask, str | None]],
    tasks: Mapping[str, int],
) -> list[int]:
    """Puts new tasks under their parents, from the top down, so that waits are handed on. The parents."""
    parents: dict[int, None] = {}
    for task in new:
        parent = wanted[task.key][1]
        if parent is not None:
            one, above = tasks[task.key], tasks[parent]
            tx.put("set_parent", id=one, parent=above)
            shape.adopt(tx, above, one)
            parents[above] = None
    return list(parents)


def _refuse_cycles(tx: Transaction, outside: list[tuple[int, int]], parents: list[int]) -> None:
    """The document has no circle of its own; one can close only through a task that was there before."""
    starts = sorted({on for _, on in outside})
    if parents and starts and tx.one("reaches", starts=starts, targets=parents):
        for task, on in outside:
            shape.refuse_cycle(tx, [on], [task], task)


def _as_new(task: PlannedTask, plan: str, defaults: Defaults) -> NewTask:
    return NewTask(plan=plan, key=task.key, completed=task.completed, **_values(task, defaults))


def _values(task: PlannedTask, defaults: Defaults) -> dict[str, Any]:
    return {
        "title": task.title,
        "description": task.description,
        "role": defaults.roles.get(task.role, task.role),
        "agent": task.agent,
        "command": task.run,
        "checks": task.checks,
        "priority": task.priority,
        "type": task.type,
        "complexity": task.complexity,
        "effort_min": task.effort_min,
        "due_at": task.due,
        "max_retries": defaults.max_retries if task.max_retries is None else task.max_retries,
        "retry_delay_s": float(defaults.retry_delay_s if task.retry_delay is None else task.retry_delay),
        "timeout_s": None if task.timeout is None else float(task.timeout),
        "needs": task.needs,
        "tags": task.tags,
        "merge": task.merge,
        "setup": task.setup,
        "context": task.context,
        "metadata": task.metadata,
    }


def _target(tx: Transaction, wait: PlannedWait, tasks: Mapping[str, int]) -> int:
    """The task that a wait names: by key within the plan, else by id."""
    if wait.task in tasks:
        return tasks[wait.task]
    one = number(wait.task, "T")
    if not tx.all("lock_tasks", ids=[one]):
        raise NotFound(
            f"the plan waits for {wait.task}, but there is no such task",
            hint="name a key of this plan, or the id of a task that exists",
            code="no_task",
        )
    return one


def _edge(task: int, wait: PlannedWait, on: int) -> dict[str, object]:
    return {
        "task": task,
        "prerequisite": on,
        "kind": str(wait.kind),
        "waived": int(wait.waived is not None),
        "reason": wait.waived,
        "heir_of": task,
    }


def _update(
    tx: Transaction,
    row: Row,
    task: PlannedTask,
    parent: str | None,
    tasks: Mapping[str, int],
    defaults: Defaults,
    limits: create.Limits | None,
) -> bool:
    """Gives a known task the document's values and, unless it is over, its waits. Whether anything changed."""
    one = tasks[task.key]
    cleared = {_NEW_TASK.get(attribute, attribute) for attribute in task.nulls}
    values = {field: value for field, value in _values(task, defaults).items() if value is not None or field in cleared}
    changed = bool(decide.update(tx, one, values, limits))
    if row["state"] in SETTLED_TASK:
        return changed
    return _update_waits(tx, one, task, tasks) | _update_parent(tx, one, parent, tasks, limits) | changed


def _update_waits(tx: Transaction, one: int, task: PlannedTask, tasks: Mapping[str, int]) -> bool:
    wanted = {(_target(tx, wait, tasks), str(wait.kind)): wait for wait in task.after}
    found = {(edge["prerequisite"], edge["kind"]) for edge in _own_waits(tx, one)}
    extra, lacking = sorted(found - wanted.keys()), sorted(wanted.keys() - found)
    if extra:
        # A wait for a task of another plan was added by hand; the file knows nothing of it.
        ours = set(tasks.values())
        extra = [(on, kind) for on, kind in extra if on in ours]
    for on, kind in extra:
        shape.remove_dependency(tx, one, on, EdgeKind(kind))
    for on, kind in lacking:
        shape.add_dependency(tx, one, on, EdgeKind(kind))
    return bool(extra or lacking)


def _own_waits(tx: Transaction, one: int) -> list[Row]:
    return [
        edge
        for edge in tx.all("edges_of", task=one, limit=1_000_000)
        if edge["prerequisite"] and edge["kind"] != EdgeKind.CHILD and edge["heir_of"] == one
    ]


def _update_parent(
    tx: Transaction, one: int, parent: str | None, tasks: Mapping[str, int], limits: create.Limits | None
) -> bool:
    above = tasks[parent] if parent else None
    if above is None or tx.the("task", id=one)["parent"] == above:
        return False
    shape.move(tx, one, above, limits)
    return True
