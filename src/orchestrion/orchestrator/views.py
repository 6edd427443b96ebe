"""What the use cases give back: tasks and runs with the facts that lie beside their rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from orchestrion.core.graph import progress
from orchestrion.core.model import Run, Task, iso, name
from orchestrion.core.retry import remedy
from orchestrion.core.states import TaskState
from orchestrion.scheduler.unknown import unknown_task
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: What a leaf's state says about its progress; None: unknown.
_DONE: dict[str, float | None] = {TaskState.COMPLETED: 1.0, TaskState.CANCELLED: 1.0, TaskState.IN_PROGRESS: None}


class Page(NamedTuple):
    """A bounded piece of a longer list."""

    items: Sequence[Task] | Sequence[Run]
    total: int
    next_cursor: str | None

    def as_json(self, noun: str) -> dict[str, Any]:
        """As CONTRACT promises it; ``noun`` names the list."""
        return {noun: [item.as_json() for item in self.items], "total": self.total, "next_cursor": self.next_cursor}


def task(tx: Transaction, number: int) -> Task:
    """One task. Raises NotFound."""
    row = tx.one("task", id=number)
    if row is None:
        raise unknown_task(number)
    return tasks(tx, [row])[0]


def tasks(tx: Transaction, rows: Sequence[Row]) -> list[Task]:
    """Tasks of rows, with what each waits for and how far it is."""
    after: dict[int, list[int]] = {}
    for edge in tx.all("own_prerequisites", ids=[row["id"] for row in rows]) if rows else []:
        after.setdefault(edge["task"], []).append(edge["prerequisite"])
    return [Task(row, tuple(dict.fromkeys(after.get(row["id"], ()))), _progress(tx, row)) for row in rows]


def _progress(tx: Transaction, row: Mapping[str, Any]) -> float | None:
    if not row["children"]:
        return 1.0 if row["state"] == TaskState.COMPLETED else None if row["state"] == TaskState.IN_PROGRESS else 0.0
    below = tx.all("descendants", id=row["id"])
    children: dict[int, list[int]] = {}
    for one in below:
        children.setdefault(one["parent"], []).append(one["id"])
    leaves = [one for one in below if not one["children"]]
    share = progress(
        children,
        {one["id"]: one["effort_min"] for one in leaves},
        {one["id"]: _DONE.get(one["state"], 0.0) or 0.0 for one in leaves},
    )
    percent = share.get(row["id"])
    return None if percent is None else round(percent / 100, 4)


def detail(tx: Transaction, number: int, shown: Callable[[Row], Run] = Run) -> dict[str, Any]:
    """A task with its edges, gates, runs (each as it is ``shown``) and artifacts, as JSON."""
    from orchestrion.memory import artifacts

    found = task(tx, number)
    runs = [shown({**dict(row), "title": found.row["title"]}) for row in tx.all("runs_of_task", task=number)]
    return {
        **found.as_json(),
        "children": [name("T", row["id"]) for row in tx.all("children", parent=number)],
        "dependents": [name("T", row["id"]) for row in tx.all("dependents", ids=[number])[:50]],
        "edges": [_edge(edge) for edge in tx.all("edges_of", task=number, limit=200)],
        "gates": [gate(row) for row in tx.all("gates_of", task=number)],
        "runs": [run.as_json() for run in runs],
        "artifacts": [artifacts.facts(row) for row in tx.all("artifacts_of", ids=[number])],
        "remedy": remedy_of_task(tx, found.row),
    }


def remedy_of_task(tx: Transaction, row: Mapping[str, Any]) -> str | None:
    """What a person can do about a task that failed; None for any other."""
    if row["state"] not in (TaskState.FAILED, TaskState.RETRYING):
        return None
    runs = tx.all("runs_of_task", task=row["id"])
    return remedy(row["code"], name("T", row["id"]), name("R", runs[-1]["id"]) if runs else None)


def remedy_of_run(tx: Transaction, row: Mapping[str, Any]) -> str | None:
    """What a person can do about a run that ended badly, as long as it is its task's last and the task waits for it."""
    state, task = tx.the("task", id=row["task"])["state"], name("T", row["task"])
    if tx.all("runs_of_task", task=row["task"])[-1]["id"] != row["id"]:
        return None
    if state == TaskState.REVIEW:
        return f"`orchestrion show {task}` says what to do"
    return remedy(row["code"], task, name("R", row["id"])) if state in (TaskState.FAILED, TaskState.RETRYING) else None


def version(detail: Mapping[str, Any]) -> str:
    """A word for a task's detail; how long its runs last and wait does not count, for that changes by itself."""
    runs = [
        {key: value for key, value in run.items() if key not in ("duration_s", "lease_until", "awaits")}
        for run in detail["runs"]
    ]
    import hashlib

    text = json.dumps({**detail, "runs": runs}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _edge(edge: Row) -> dict[str, Any]:
    return {
        "on": name("T", edge["prerequisite"]) if edge["prerequisite"] else name("G", edge["gate"]),
        "kind": edge["kind"],
        "state": edge["state"],
        "inherited_from": name("T", edge["heir_of"]) if edge["heir_of"] != edge["task"] else None,
        "reason": edge["reason"],
    }


def gate(row: Row) -> dict[str, Any]:
    """A gate, as JSON."""
    return {
        "id": name("G", row["id"]),
        "kind": row["kind"],
        "state": row["state"],
        "name": row["name"],
        "opens_at": iso(row["opens_at"]),
        "answer": row["answer"],
        "decided_by": row["decided_by"],
        "decided_at": iso(row["decided_at"]),
    }


def message(row: Row) -> dict[str, Any]:
    """Something that was said to a run's agent, as JSON."""
    return {
        "run": name("R", row["run"]),
        "message": row["id"],
        "text": row["text"],
        "actor": row["actor"],
        "state": row["state"],
        "how": row["how"],
        "created_at": iso(row["created_at"]),
        "given_at": iso(row["given_at"]),
    }
