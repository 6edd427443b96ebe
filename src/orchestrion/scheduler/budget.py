"""Budgets: at the limit nothing starts.

What was spent is what runs are known to have cost (see ``meter``), whether they are over or
not; a run whose program does not say what it costs counts as nothing. A day is one of UTC.
Budgets bind what workers start; what people do themselves they may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrion.store import Transaction

DAY_MS = 86_400_000
#: Sums of money are compared to a millionth of a cent: a budget of 1 is used up by ten times 0.1.
_GRAIN = 1e-8


@dataclass(frozen=True)
class Budgets:
    """The most that may be spent, in US dollars; None: any sum."""

    #: By each plan.
    plan_usd: float | None = None
    #: By all of the project, each day.
    day_usd: float | None = None


def budgets(plan_usd: float | None, day_usd: float | None) -> Budgets | None:
    """Budgets as the settings have them; None when none is set, so that nobody has to look."""
    return None if plan_usd is None and day_usd is None else Budgets(plan_usd, day_usd)


def refusal(tx: Transaction, plan: int | None, limits: Budgets) -> str | None:
    """Why nothing of this plan may start, in words; None: it may. Without a plan only the day counts."""
    if limits.day_usd is not None and is_reached(spent := of_day(tx), limits.day_usd):
        return f"today's budget is used up: {_usd(spent)} of {_usd(limits.day_usd)} (budget.day_usd)"
    if plan is not None and limits.plan_usd is not None and is_reached(spent := of_plan(tx, plan), limits.plan_usd):
        return f"the plan's budget is used up: {_usd(spent)} of {_usd(limits.plan_usd)} (budget.plan_usd)"
    return None


def is_day_over(tx: Transaction, limits: Budgets) -> bool:
    """Whether nothing at all may start today."""
    return limits.day_usd is not None and is_reached(of_day(tx), limits.day_usd)


def spent_plans(tx: Transaction, limits: Budgets) -> list[int]:
    """Numbers of the plans of which nothing may start."""
    if limits.plan_usd is None:
        return []
    if is_reached(0.0, limits.plan_usd):
        return [row["id"] for row in tx.all("plans", limit=1_000_000)]
    return [row["plan"] for row in tx.all("spent_by_plan") if is_reached(row["usd"], limits.plan_usd)]


def of_day(tx: Transaction) -> float:
    """What was spent since midnight (UTC), in US dollars."""
    now = int(tx.the("clock")["now"])
    return float(tx.the("spent_since", since=now - now % DAY_MS)["usd"])


def of_plan(tx: Transaction, plan: int) -> float:
    """What a plan cost so far, in US dollars."""
    return float(tx.the("spent_of_plan", plan=plan)["usd"])


def is_reached(spent: float, limit: float) -> bool:
    """Whether that is all there is to spend."""
    return spent >= limit - _GRAIN


def overview(tx: Transaction, limits: Budgets | None) -> dict[str, Any] | None:
    """Budgets and what was spent of them, for people who watch; None when none is set."""
    if limits is None:
        return None
    plans = tx.all("spent_by_plan") if limits.plan_usd is not None else []
    return {
        "day": None if limits.day_usd is None else _account(of_day(tx), limits.day_usd),
        "plans": [{"plan": row["name"], **_account(row["usd"], limits.plan_usd or 0.0)} for row in plans],
        "plan_usd": limits.plan_usd,
    }


def _account(spent: float, limit: float) -> dict[str, Any]:
    return {"spent_usd": round(spent, 9), "limit_usd": limit, "reached": is_reached(spent, limit)}


def _usd(amount: float) -> str:
    return f"${amount:.4f}".rstrip("0").rstrip(".") if amount % 1 else f"${amount:.0f}"
