"""Use cases that find tasks and explain them: the ones that are called most, and need least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from orchestrion.core import config as settings
from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.core.model import Task, check_choice, check_text, name, number
from orchestrion.core.states import TaskState
from orchestrion.orchestrator import standing, views
from orchestrion.orchestrator.opening import Opening
from orchestrion.orchestrator.views import Page
from orchestrion.scheduler import budget, explain
from orchestrion.scheduler.budget import Budgets
from orchestrion.scheduler.explain import Reason
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: A list has at most so many entries at a time.
PAGE_LIMIT = 1000
#: Characters of what is searched for, at most; databases have no patterns of any length.
SEARCH_LIMIT = 1000


class Finding(Opening):
    """What can be asked about tasks."""

    def list_tasks(
        self,
        *,
        states: Sequence[str] = (),
        role: str | None = None,
        parent: str | None = None,
        plan: str | None = None,
        tag: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's name
        search: str | None = None,
        archived: bool = False,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Tasks, oldest first; ``cursor`` goes on where the last page ended. An empty filter is none.

        Raises NotFound for an unknown plan, parent or role: an empty list would say that they have no tasks.
        """
        for state in states:
            check_choice("state", state, tuple(TaskState))
        given = {
            "states": list(states) or None,
            "role": self.role_name(role) if role else None,
            "parent": number(parent, "T") if parent else None,
            "plan": plan or None,
            "tag": tag or None,
            "type": type or None,
            "pattern": pattern_of(search),
            "unarchived": None if archived else 1,
        }
        start = number(cursor, "T") if cursor else 0
        bound = bounded(limit)

        def read(tx: Transaction) -> Page:
            if plan:
                plan_named(tx, plan)
            if parent:
                views.task(tx, number(parent, "T"))
            rows = tx.all("list_tasks", after=start, limit=bound + 1, **given)
            total = tx.the("count_tasks", **given)["total"]
            found = views.tasks(tx, rows[:bound])
            return Page(found, total, name("T", found[-1].id) if len(rows) > bound else None)

        return self.store.read(read)

    def ready(self, limit: int = 20) -> Page:
        """Tasks that may be claimed, in the order in which they will be."""
        bound = bounded(limit)
        return self.store.read(
            lambda tx: Page(views.tasks(tx, explain.ready(tx, bound)), tx.the("count_ready")["total"], None)
        )

    def role_name(self, role: str) -> str:
        """The name under which a role is kept; empty for ``generic``. Raises NotFound for an unknown one."""
        from orchestrion.memory.roles import load_role

        known = load_role(self.project.root, role)
        return known.name if known else ""

    def task(self, task: str) -> Task:
        """One task. Raises NotFound."""
        return self.store.read(lambda tx: views.task(tx, number(task, "T")))

    def why(self, task: str) -> dict[str, Any]:
        """Why a task is not running, as CONTRACT promises it."""
        from orchestrion.runs.agents.known import self_sufficient

        able = self_sufficient(self.config["agents"])
        one = number(task, "T")

        def read(tx: Transaction) -> dict[str, Any]:
            state, reasons = explain.why(tx, one, self.budgets(), self._agent_of, able, partial(standing.awaits, self))
            remedy = views.remedy_of_task(tx, tx.the("task", id=one))
            said = [_with_holder(tx, one, reason).as_json() for reason in reasons]
            return {"task": name("T", one), "state": str(state), "reasons": said, "remedy": remedy}

        return self.store.read(read)

    def _agent_of(self, task: Mapping[str, Any]) -> str:
        """The agent that a worker would give a task to."""
        from orchestrion.memory.roles import load_roles

        role = load_roles(self.project.root).get(task["role"]) if task["role"] and not task["agent"] else None
        return str(task["agent"] or (role.agent if role else None) or self.config["agent.default"])

    def refuse_idle(self, task: Mapping[str, Any]) -> None:
        """Raises InvalidInput (``command_missing``) for a task with neither a command nor an agent that needs none."""
        from orchestrion.runs.agents.known import needs_no_command

        agent = self._agent_of(task)
        if not task["command"] and not needs_no_command(agent, self.config["agents"]):
            raise InvalidInput(
                f"the agent {agent!r} needs a command, and there is none",
                hint="give it one (`--run CMD`), or name an agent (`--agent claude`, say); the setting agent.default "
                "chooses one for all",
                code="command_missing",
                agent=agent,
            )

    def _named_checks(self) -> Mapping[str, str]:
        return settings.named_checks(self.config, self.project.root, self.environ)

    def budgets(self) -> Budgets | None:
        """What may be spent by a plan and in a day, as the settings have it; None: any sum."""
        return budget.budgets(self.config["budget.plan_usd"], self.config["budget.day_usd"])


def _with_holder(tx: Transaction, task: int, reason: Reason) -> Reason:
    """A run at work, if a client has it, with who that is and how to take its place."""
    if reason.kind != "run":
        return reason
    from orchestrion.orchestrator import holding  # hardly anything is held by a client

    told = holding.told(tx, task)
    return reason._replace(detail=told) if told else reason


def plan_named(tx: Transaction, plan: str) -> Row:
    """A plan. Raises NotFound (``no_plan``)."""
    row = tx.one("plan_by_name", name=plan)
    if row is None:
        raise NotFound(f"there is no plan {plan!r}", hint="`orchestrion status` names the plans", code="no_plan")
    return row


def searched(search: str | None) -> str | None:
    """What is searched for, which has bounds; None: nothing. Raises InvalidInput."""
    if search and len(search) > SEARCH_LIMIT:
        raise InvalidInput(
            f"a search has at most {SEARCH_LIMIT} characters, not {len(search)}",
            hint="search for fewer words",
            code="invalid_search",
        )
    check_text("search", search or "")
    return search or None


def pattern_of(search: str | None) -> str | None:
    """What a text that has ``search`` in it is like. Raises InvalidInput."""
    if not searched(search):
        return None
    assert search
    escaped = search.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def bounded(limit: int) -> int:
    """A page's size, which has bounds. Raises InvalidInput."""
    if not 1 <= limit <= PAGE_LIMIT:
        raise InvalidInput(
            f"a limit must be from 1 to {PAGE_LIMIT}, not {limit}",
            hint="ask for fewer, then go on",
            code="invalid_limit",
        )
    return limit
