"""Finds work that nobody does any more: tasks, parents, claims, sessions that were left lying.

How long a task may lie untouched depends on its role. A task that waits for a person or for
another task is told apart from one that nobody takes: only the latter, and what is left of a
parent that was given up, may be put away without asking.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from orchestrion.core.model import iso, name
from orchestrion.store import Transaction
from orchestrion.store.store import Row

HOUR_MS = 3_600_000
#: A task that waits for another may do so longer than its role's age, by this factor.
WAITING_FACTOR = 1.5
#: Below this share of completed parts a parent that rests counts as abandoned.
HARDLY_BEGUN = 0.1
#: So many of each kind are named; all are counted.
NAMED = 200

#: Reason -> what is recommended.
ADVICE = {
    "inactivity_timeout": "archive_stale_task",
    "orphaned_task": "remove_orphaned_task",
    "dependency_failure": "resolve_dependencies_or_archive",
    "stale_dependency": "resolve_dependencies_or_archive",
    "awaits_decision": "immediate_review_required",
    "failed_task": "manual_review_recommended",
    "specialist_unavailable": "manual_review_recommended",
    "abandoned_workflow": "archive_workflow",
    "expired_claim": "end_claim",
}
#: Reasons for which a task may be put away without asking anybody.
BY_ITSELF = ("inactivity_timeout", "orphaned_task")


@dataclass(frozen=True)
class Ages:
    """When work counts as stale."""

    #: Hours for a task whose role is not among ``roles``.
    hours: float
    #: Role -> hours.
    roles: Mapping[str, float]
    #: Hours for a parent below which nothing moves.
    parents_h: float

    def of(self, role: str) -> float:
        """Hours for a role."""
        return float(self.roles.get(role, self.hours))


class Stale(NamedTuple):
    """One thing that was left lying."""

    task: int
    title: str
    state: str
    role: str
    reason: str
    #: When somebody touched it last, in milliseconds.
    since: int
    #: Whether it may be put away without asking: nobody waits for it, and no one is to decide.
    removable: bool
    #: More about the reason.
    detail: str = ""

    @classmethod
    def of(cls, row: Row, reason: str, *, removable: bool, detail: str) -> Self:
        """A task's row, and what is with it."""
        since = row["updated_at"]
        return cls(row["id"], row["title"], row["state"], row["role"], reason, since, removable, detail)

    def as_json(self) -> dict[str, Any]:
        """For every door."""
        return {
            "task": name("T", self.task),
            "title": self.title[:120],
            "state": self.state,
            "role": self.role,
            "reason": self.reason,
            "detail": self.detail,
            "untouched_since": iso(self.since),
            "recommended": ADVICE[self.reason],
        }


def find(tx: Transaction, ages: Ages, known_roles: Collection[str], only: Sequence[int] | None) -> list[Stale]:
    """Everything stale, of the tasks ``only`` if some are meant; each task once, the gravest reason first."""
    ids = None if only is None else list(only)
    found: dict[int, Stale] = {}
    for one in (*_orphans(tx, ids), *_idle(tx, ages, known_roles, ids), *_abandoned(tx, ages, ids)):
        found.setdefault(one.task, one)
    return list(found.values())


def _orphans(tx: Transaction, ids: list[int] | None) -> list[Stale]:
    return [
        Stale.of(
            row,
            "orphaned_task",
            removable=True,
            detail=f"its parent {name('T', row['parent'])} is {_put_away(row)}",
        )
        for row in tx.all("open_orphans", ids=ids, limit=NAMED)
    ]


def _put_away(row: Row) -> str:
    return "cancelled" if row["parent_state"] == "cancelled" else "archived"


def _idle(tx: Transaction, ages: Ages, known: Collection[str], ids: list[int] | None) -> list[Stale]:
    found = []
    for role in [row["role"] for row in tx.all("open_roles")]:
        hours = ages.of(role)
        for states, factor in ((["ready", "blocked", "review", "failed"], 1.0), (["pending"], WAITING_FACTOR)):
            age_ms = int(hours * factor * HOUR_MS)
            rows = tx.all("idle_tasks", role=role, states=states, age_ms=age_ms, ids=ids, limit=NAMED)
            found += [_judged(row, not role or role in known) for row in rows]
    return found


def _judged(row: Row, is_known: bool) -> Stale:
    reason, detail = _reason(row, is_known)
    removable = reason in BY_ITSELF and not row["claimed"]
    if reason == "inactivity_timeout" and row["claimed"]:
        detail = "other tasks wait for it"
    return Stale.of(row, reason, removable=removable, detail=detail)


def _reason(row: Row, is_known: bool) -> tuple[str, str]:
    if row["state"] == "review" or row["held"]:
        return "awaits_decision", "a person is to decide"
    if row["state"] == "failed":
        return "failed_task", "retry it, or cancel it"
    if row["dead"]:
        return "dependency_failure", "what it waits for failed or was cancelled"
    if row["state"] == "pending":
        return "stale_dependency", "what it waits for does not get done"
    if not is_known:
        return "specialist_unavailable", "no role of this name is there any more"
    return "inactivity_timeout", "nobody took it"


def _abandoned(tx: Transaction, ages: Ages, ids: list[int] | None) -> list[Stale]:
    rows = tx.all("idle_parents", age_ms=int(ages.parents_h * HOUR_MS), ids=ids, limit=NAMED)
    return [
        Stale.of(
            row,
            "abandoned_workflow",
            removable=False,
            detail=f"{row['done']} of {row['parts']} parts are completed",
        )
        for row in rows
        if row["done"] < row["parts"] * HARDLY_BEGUN
    ]
