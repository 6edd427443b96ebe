"""Use cases for a client that wants to know: which tasks answer a question, who belongs to them, what is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.core.model import name, number
from orchestrion.core.states import SETTLED_TASK
from orchestrion.memory import artifacts
from orchestrion.orchestrator import views
from orchestrion.orchestrator.finding import bounded, pattern_of
from orchestrion.orchestrator.handoffs import HandoffCases
from orchestrion.store import Transaction


@dataclass(frozen=True)
class Question:
    """What a client wants to know of tasks; None: it does not matter."""

    states: tuple[str, ...] | None = None
    #: Whether archived tasks are meant: None no, ``also`` besides the states, ``only`` nothing else.
    archived: str | None = None
    types: tuple[str, ...] | None = None
    #: The empty role is a task without one.
    roles: tuple[str, ...] | None = None
    complexities: tuple[str, ...] | None = None
    parent: str | None = None
    task: str | None = None
    plan: str | None = None
    search: str | None = None
    #: In milliseconds.
    created_after: int | None = None
    created_before: int | None = None


class AskingCases(HandoffCases):
    """What a client asks about tasks."""

    def ask(self, question: Question, *, limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """Tasks that answer a question, oldest first, from ``offset`` on; ``total`` counts all of them.

        Raises NotFound for a task or a role that is not there, InvalidInput.
        """
        given = self._where(question)
        bound = bounded(limit)
        if not 0 <= offset < 2**31:
            raise InvalidInput(
                f"an offset is from 0 to {2**31 - 1}, not {offset}",
                hint="begin at 0, then take what each page names as the next",
                code="invalid_offset",
            )

        def read(tx: Transaction) -> dict[str, Any]:
            for named in (given["task"], given["parent"]):
                if named is not None:
                    views.task(tx, named)
            rows = tx.all("query_tasks", limit=bound, offset=offset, **given)
            return {
                "tasks": [task.as_json() for task in views.tasks(tx, rows)],
                "total": tx.the("count_query", **given)["total"],
            }

        return self.store.read(read)

    def _where(self, question: Question) -> dict[str, Any]:
        states = list(question.states) if question.states else None
        also = question.archived == "also"
        return {
            "states": None if also or question.archived == "only" else states,
            "either": states if also else None,
            "unarchived": None if question.archived else 1,
            "archived": 1 if question.archived == "only" else None,
            "types": _listed(question.types),
            "roles": None
            if question.roles is None
            else [self.role_name(role) if role else "" for role in question.roles],
            "complexities": _listed(question.complexities),
            "parent": number(question.parent, "T") if question.parent else None,
            "task": number(question.task, "T") if question.task else None,
            "plan": question.plan,
            "pattern": pattern_of(question.search),
            "created_after": question.created_after,
            "created_before": question.created_before,
        }

    def family(self, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Children and artifacts of tasks, by task."""

        def read(tx: Transaction) -> dict[str, dict[str, Any]]:
            return {
                one: {
                    "children": [name("T", row["id"]) for row in tx.all("children", parent=number(one, "T"))],
                    "artifacts": [artifacts.facts(row) for row in tx.all("artifacts_of", ids=[number(one, "T")])],
                }
                for one in tasks
            }

        return self.store.read(read)

    def load(self, *, completed: int = 0, offset: int = 0) -> dict[str, Any]:
        """Open tasks by role and state, and the ``completed`` last completed ones."""

        def read(tx: Transaction) -> dict[str, Any]:
            roles: dict[str, int] = {}
            for row in tx.all("count_roles"):
                if row["state"] not in SETTLED_TASK:
                    roles[row["role"]] = roles.get(row["role"], 0) + row["total"]
            done = tx.all("last_completed", limit=completed, offset=offset) if completed else []
            return {"roles": roles, "completed": [task.as_json() for task in views.tasks(tx, done)]}

        return self.store.read(read)


def _listed(values: Sequence[str] | None) -> list[str] | None:
    return list(values) if values else None
