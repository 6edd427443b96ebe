"""Plans are bound to a clone: the work of their runs meets in a ref of one repository.

Of one project there may be several clones, on one machine or on many. A plan belongs to the
one in which it began, known by the id in its git directory; a run elsewhere would begin from
a tip of its own, and the plan would fall apart. So its tasks are claimed there alone, and so
are landing and approval; tasks whose work goes into no plan are for everybody.

Older programs did not write down where a plan is. Until a clone is found that has its accepted
work, such a plan belongs to one that is not known, so that nobody begins without that work.
"""

from __future__ import annotations

from orchestrion.core.errors import Conflict
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Stands for the clone that has a plan's accepted work, as long as it is not known which one that is.
UNKNOWN = "?"


def is_bound(plan: Row) -> bool:
    """Whether it is known which clone a plan (its row) belongs to."""
    return plan["began_clone"] not in (None, UNKNOWN)


def is_elsewhere(tx: Transaction, plan: Row) -> bool:
    """Whether another clone has the work of a plan (its row)."""
    return plan["began_clone"] is not None and plan["began_clone"] != tx.clone


def place_of(plan: Row) -> str:
    """Where the clone is that has a plan's work, as far as it was written down."""
    return f"{plan['began_host'] or 'an unknown host'}:{plan['began_checkout'] or '(unknown folder)'}"


def reason(plan: Row) -> str:
    """Why this clone is not the one, for a plan (its row) that is elsewhere."""
    if not is_bound(plan):
        return f"the accepted work of plan {plan['name']} was not found in this clone, and no clone has the plan yet"
    return f"plan {plan['name']} belongs to the clone {place_of(plan)}"


def refuse_elsewhere(tx: Transaction, plan: Row, asked: str) -> None:
    """Raises Conflict (``other_clone``) when ``asked`` can only be done in another clone."""
    if is_elsewhere(tx, plan):
        take_over = f"`orchestrion take-over {plan['name']}`"
        where, hint = ", where its work is", f"do it there; or, if that clone is gone for good, {take_over} here"
        if not is_bound(plan):
            where, hint = "", f"call {take_over} in the clone that has its work; here it says what to fetch or merge"
        raise Conflict(
            f"{asked} cannot be done in this clone: {reason(plan)}{where}",
            hint=hint,
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


def leave(tx: Transaction, plan: Row) -> None:
    """A plan of no clone (its row) belongs to one that is not known from now on, for its work is not in this one."""
    if tx.run("plan_is_elsewhere", plan=plan["id"], unknown=UNKNOWN):
        tx.run("tasks_go_with_plan", plan=plan["id"])


def accepted(tx: Transaction, plan: Row) -> list[str]:
    """Commits of the completed tasks of a plan (its row) that are to be in it and were not landed yet."""
    return [row["head_commit"] for row in tx.all("accepted_work", plan=plan["id"])]
