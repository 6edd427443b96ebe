"""Plans are bound to a clone: the work of their runs meets in a ref of one repository.

Of one project there may be several clones, on one machine or on many. A plan belongs to the
one in which it began, known by the id in its git directory; a run elsewhere would begin from
a tip of its own, and the plan would fall apart. So its tasks are claimed there alone, and so
are landing and approval; tasks whose work goes into no plan are for everybody.
"""

from __future__ import annotations

from orchestrion.core.errors import Conflict
from orchestrion.store import Transaction
from orchestrion.store.store import Row


def is_elsewhere(tx: Transaction, plan: Row) -> bool:
    """Whether another clone has the work of a plan (its row)."""
    return plan["began_clone"] is not None and plan["began_clone"] != tx.clone


def place_of(plan: Row) -> str:
    """Where the clone is that has a plan's work, as far as it was written down."""
    return f"{plan['began_host'] or 'an unknown host'}:{plan['began_checkout'] or '(unknown folder)'}"


def reason(plan: Row) -> str:
    """Why this clone is not the one, for a plan (its row) that is elsewhere."""
    return f"plan {plan['name']} belongs to the clone {place_of(plan)}"


def refuse_elsewhere(tx: Transaction, plan: Row, asked: str) -> None:
    """Raises Conflict (``other_clone``) when ``asked`` can only be done in another clone."""
    if is_elsewhere(tx, plan):
        raise Conflict(
            f"{asked} cannot be done in this clone: {reason(plan)}, where its work is",
            hint=f"do it there; or, if that clone is gone for good, `orchestrion take-over {plan['name']}` here",
            code="other_clone",
            plan=plan["name"],
            host=plan["began_host"],
            folder=plan["began_checkout"],
        )


def bind(tx: Transaction, plan: Row, host: str, checkout: str | None = None) -> bool:
    """The plan (its row) belongs to this clone from now on, and so do its tasks; False: somebody else was first."""
    bound = tx.run("plan_is_bound", plan=plan["id"], before=plan["began_clone"], host=host, checkout=checkout)
    if bound:
        tx.run("tasks_go_with_plan", plan=plan["id"])
        tx.event(
            "plan.bound", data={"plan": plan["name"], "clone": tx.clone, "host": host, "before": plan["began_clone"]}
        )
    return bool(bound)
