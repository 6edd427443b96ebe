"""Budgets: at the limit nothing starts, everything else does, and people are told why."""

from __future__ import annotations

from typing import Any

import pytest
from board import HOUR, Board

from orchestrion.core.errors import Conflict
from orchestrion.scheduler import budget, explain, meter
from orchestrion.scheduler.budget import Budgets

WORKER: dict[str, Any] = {"supervised": True, "host": "here"}


def spend(board: Board, usd: float, *, plan: str = "default") -> int:
    """A run of the plan, not over yet, that cost so much."""
    run = board.take(board.add(plan=plan))
    board.store.write(lambda tx: meter.add(tx, run, cost_usd=usd))
    return run


def claimed(board: Board, limits: Budgets | None, **claimant: Any) -> int | None:
    got = board.claim(**WORKER, budgets=limits, **claimant)
    return got.task if got else None


def test_no_budget_is_none_at_all() -> None:
    assert budget.budgets(None, None) is None
    assert budget.budgets(None, 0) == Budgets(day_usd=0)
    assert budget.budgets(1.5, None) == Budgets(plan_usd=1.5)


def test_a_day_ends_at_its_limit_for_everybody(board: Board) -> None:
    task = board.add()
    spend(board, 1.5, plan="one")
    assert claimed(board, Budgets(day_usd=2)) == task
    other = board.add()
    spend(board, 0.5, plan="two")
    assert claimed(board, Budgets(day_usd=2)) is None
    assert claimed(board, Budgets(day_usd=2.01)) == other


def test_the_next_day_begins_at_midnight_utc(board: Board) -> None:
    task = board.add()
    board.pass_time(23 * HOUR)
    spend(board, 5)
    limits = Budgets(day_usd=5)
    assert claimed(board, limits) is None
    board.pass_time(HOUR - 1)
    assert claimed(board, limits) is None
    board.pass_time(1)
    assert board.store.read(budget.of_day) == 0
    assert claimed(board, limits) == task


def test_money_counts_on_the_day_on_which_it_became_known(board: Board) -> None:
    run = spend(board, 1)
    board.pass_time(24 * HOUR)
    board.store.write(lambda tx: meter.add(tx, run, cost_usd=0.25))
    assert board.store.read(budget.of_day) == 0.25
    plan = board.task(board.run(run)["task"])["plan"]
    assert board.store.read(lambda tx: budget.of_plan(tx, plan)) == 1.25


def test_a_plan_at_its_limit_is_passed_over_and_others_are_not(board: Board) -> None:
    spent = [board.add(plan="dear", priority=9) for _ in range(3)]
    cheap = board.add(plan="cheap", priority=1)
    spend(board, 1, plan="dear")
    limits = Budgets(plan_usd=1)
    assert claimed(board, limits) == cheap
    assert claimed(board, limits) is None
    assert claimed(board, Budgets(plan_usd=1.1)) == spent[0]
    assert claimed(board, None) == spent[1]


def test_a_plan_is_passed_over_in_claims_by_tag_too(board: Board) -> None:
    board.add(plan="dear", priority=9, tags=("t",))
    cheap = board.add(plan="cheap", tags=("t",))
    spend(board, 1, plan="dear")
    assert claimed(board, Budgets(plan_usd=1), tag="t") == cheap
    assert claimed(board, Budgets(plan_usd=1), tag="t") is None


def test_ten_times_a_tenth_is_one(board: Board) -> None:
    board.add()
    run = spend(board, 0)
    for _ in range(10):
        board.store.write(lambda tx: meter.add(tx, run, cost_usd=0.1))
    assert claimed(board, Budgets(plan_usd=1)) is None
    assert claimed(board, Budgets(day_usd=1)) is None


def test_a_budget_of_nothing_starts_nothing(board: Board) -> None:
    task = board.add()
    assert claimed(board, Budgets(plan_usd=0)) is None
    assert claimed(board, Budgets(day_usd=0)) is None
    assert claimed(board, Budgets(plan_usd=0.01, day_usd=0.01)) == task


def test_a_correction_gives_money_back(board: Board) -> None:
    task = board.add()
    run = spend(board, 3)
    limits = Budgets(plan_usd=2, day_usd=2)
    assert claimed(board, limits) is None
    board.store.write(lambda tx: meter.correct(tx, run, field="cost_usd", new=1, reason="the bill"))
    assert claimed(board, limits) == task


def test_what_people_do_themselves_costs_no_budget(board: Board) -> None:
    task, named = board.add(), board.add()
    spend(board, 9)
    limits = Budgets(plan_usd=1, day_usd=1)
    assert board.take(named, budgets=limits)
    got = board.claim(budgets=limits, agent="me")
    assert got is not None
    assert got.task == task


def test_a_worker_that_asks_for_a_task_by_name_is_told(board: Board) -> None:
    task = board.add()
    spend(board, 1.25)
    with pytest.raises(Conflict) as refused:
        board.take(task, **WORKER, budgets=Budgets(plan_usd=1))
    assert refused.value.code == "budget_exhausted"
    assert "$1.25 of $1" in refused.value.message
    assert board.state(task) == "ready"


def test_without_a_budget_a_claim_asks_nothing_more(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("nobody set a budget")

    for name in ("of_day", "of_plan", "spent_plans"):
        monkeypatch.setattr(budget, name, refuse)
    task = board.add()
    assert claimed(board, None) == task
    board.add()
    assert board.claim(budgets=Budgets(1, 1)) is not None


def test_refusals_name_the_sum_and_the_setting(board: Board) -> None:
    run = spend(board, 2.5, plan="dear")
    plan = board.task(board.run(run)["task"])["plan"]
    other = board.task(board.add(plan="cheap"))["plan"]

    def said(plan: int | None, **limits: float) -> str | None:
        return board.store.read(lambda tx: budget.refusal(tx, plan, Budgets(**limits)))

    assert said(plan, plan_usd=2) == "the plan's budget is used up: $2.5 of $2 (budget.plan_usd)"
    assert said(other, plan_usd=2) is None
    assert said(None, plan_usd=2) is None
    assert said(plan, plan_usd=3, day_usd=3) is None
    for one in (plan, other, None):
        assert said(one, plan_usd=2, day_usd=2) == "today's budget is used up: $2.5 of $2 (budget.day_usd)"


def test_a_ready_task_says_that_its_plan_has_no_money_left(board: Board) -> None:
    task = board.add(plan="dear")
    other = board.add(plan="cheap")
    spend(board, 2, plan="dear")

    def kinds(task: int, limits: Budgets | None) -> list[str]:
        return [reason.kind for reason in board.store.read(lambda tx: explain.why(tx, task, limits))[1]]

    assert "budget" in kinds(task, Budgets(plan_usd=1))
    assert "budget" not in kinds(task, Budgets(plan_usd=3))
    assert "budget" not in kinds(task, None)
    assert "budget" not in kinds(other, Budgets(plan_usd=1))
    assert "budget" in kinds(other, Budgets(day_usd=1))


def test_an_overview_for_those_who_watch(board: Board) -> None:
    spend(board, 2, plan="dear")
    spend(board, 0.5, plan="cheap")
    board.add(plan="free")
    seen = board.store.read(lambda tx: budget.overview(tx, Budgets(plan_usd=1, day_usd=5)))
    assert seen == {
        "day": {"spent_usd": 2.5, "limit_usd": 5, "reached": False},
        "plans": [
            {"plan": "dear", "spent_usd": 2.0, "limit_usd": 1, "reached": True},
            {"plan": "cheap", "spent_usd": 0.5, "limit_usd": 1, "reached": False},
        ],
        "plan_usd": 1,
    }
    assert board.store.read(lambda tx: budget.overview(tx, None)) is None
    only_day = board.store.read(lambda tx: budget.overview(tx, Budgets(day_usd=1)))
    assert only_day is not None
    assert only_day["plans"] == []
