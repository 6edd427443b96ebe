"""Gathers from the store what the agent of one task should know, as the parts of its brief."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrion.core.errors import NotFound
from orchestrion.core.model import name
from orchestrion.memory.brief import ArtifactText, Attempt, BriefParts, Feedback, Place, Result, TaskRef, compose
from orchestrion.memory.roles import Role, load_role
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: A brief names at most so many tasks of each kind.
NAMED = 20


def brief(tx: Transaction, task: int, run: int, *, root: Path | None, checks: tuple[str, ...] | None = None) -> str:
    """The brief for ``run`` of ``task``; ``root`` is where the project's roles are."""
    row = tx.the("task", id=task)
    attempt = tx.the("run", id=run)
    return compose(
        BriefParts(
            run=name("R", run),
            attempt=attempt["attempt"],
            task=name("T", task),
            title=row["title"],
            description=row["description"],
            checks=checks if checks is not None else tuple(json.loads(row["checks"])),
            supervised=bool(attempt["supervised"]),
            role=_role(root, row["role"]),
            place=_place(tx, row),
            results=_results(tx, task),
            attempts=_attempts(tx, task, run),
            feedback=_feedback(row),
        )
    )


def _role(root: Path | None, role: str) -> Role | None:
    if not role:
        return None
    try:
        return load_role(root, role)
    except NotFound:
        # The role's file went after the task was made; the task can be done without it.
        return None


def _place(tx: Transaction, row: Row) -> Place:
    above = [tx.the("task", id=a["id"]) for a in tx.all("ancestors", id=row["id"])]
    waiting = tx.all("dependents", ids=[row["id"]])[:NAMED]
    return Place(
        plan=row["plan_name"],
        parents=tuple(_ref(parent) for parent in reversed(above)),
        unblocks=tuple(_ref(tx.the("task", id=d["id"])) for d in waiting),
    )


def _results(tx: Transaction, task: int) -> tuple[Result, ...]:
    found = []
    for edge in tx.all("edges_of", task=task, limit=200):
        if edge["prerequisite"] is None or edge["kind"] == "child" or edge["state"] != "met":
            continue
        other = tx.the("task", id=edge["prerequisite"])
        texts = _artifacts(tx, other["id"]) if edge["kind"] == "data" else ()
        if other["summary"] or texts:
            found.append(Result(_ref(other), other["summary"] or "", texts))
    return tuple(found[:NAMED])


def _artifacts(tx: Transaction, task: int) -> tuple[ArtifactText, ...]:
    newest: dict[str, int] = {row["name"]: row["id"] for row in tx.all("artifacts_of", ids=[task])}
    rows = [tx.the("artifact", id=artifact) for artifact in newest.values()]
    return tuple(ArtifactText(name("A", row["id"]), row["name"], row["content"]) for row in rows)


def _attempts(tx: Transaction, task: int, run: int) -> tuple[Attempt, ...]:
    earlier = [row for row in tx.all("runs_of_task", task=task) if row["id"] != run and row["code"]]
    return tuple(
        Attempt(name("R", row["id"]), row["code"], row["reason"] or "", row["branch"] if row["head_commit"] else None)
        for row in reversed(earlier[-NAMED:])
    )


def _feedback(row: Row) -> tuple[Feedback, ...]:
    if not row["feedback"]:
        return ()
    return (Feedback("the last attempt was sent back", row["feedback"], f"orchestrion show {name('T', row['id'])}"),)


def _ref(row: Row) -> TaskRef:
    return TaskRef(name("T", row["id"]), row["title"])
