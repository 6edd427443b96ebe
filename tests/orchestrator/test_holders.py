"""A task and a run that a hand made disagree: cleanup does what health says it does, and no live claim ends for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from test_bending import CLEANUP, ill
from test_mending import advice, cli

from direct import Hand
from orchestrion import Orchestrator
from orchestrion.core.errors import IllegalMove, StaleRun
from orchestrion.core.model import NewTask
from orchestrion.scheduler import breaker, claim, create, finish


@pytest.fixture
def store_url(new_database: Callable[[], str]) -> str:
    """A database of its own for each test: what refuses is taken away."""
    return new_database()


class Scene(NamedTuple):
    """A task in progress, and others; numbers."""

    #: In progress, and the run that holds it, by a client's live lease; its first attempt was lost.
    task: int
    run: int
    before: int
    #: Ready, never tried.
    ready: int
    #: Completed, and its run.
    over: int
    ended: int
    #: In progress with a live run of its own, too.
    beside: int
    live: int


@pytest.fixture
def scene(one: Orchestrator) -> Scene:
    client = claim.Claimant(lease_ms=600_000, agent="me")

    def do(act: Callable[..., Any], *values: Any, **given: Any) -> Any:
        return one.store.write(lambda tx: act(tx, *values, **given))

    def add(title: str) -> int:
        return int(do(create.create, NewTask(title, needs=("gpu",) if title == "held" else ())))

    over, task, ready, beside = add("over"), add("held"), add("ready"), add("beside")
    ended = do(claim.claim_task, over, client).run
    do(finish.complete, ended, summary="done")
    before = do(claim.claim_task, task, client).run
    do(finish.lose, before, "no sign of life")
    run = do(claim.claim_task, task, client).run
    return Scene(task, run, before, ready, over, ended, beside, do(claim.claim_task, beside, client).run)


def bend(hand: Hand, scene: Scene, sql: str) -> None:
    for statement in sql.split(";"):
        hand.run(statement.format_map(scene._asdict()))


def is_well(one: Orchestrator) -> bool:
    return ill(one) == {} and one.maintain("validate_structure", level="full_audit")["found"]["valid"]


def holder(hand: Hand, task: int) -> tuple[str, int | None]:
    row = hand.rows("select state, run from tasks where id = ?", task)[0]
    return row["state"], row["run"]


OWN = "an ended run of its own"
OTHER_HOLDERS = {
    "an ended run of another task": "update tasks set run = {ended} where id = {task}",
    OWN: "update tasks set run = {before} where id = {task}",
    "a live run of another task": "update tasks set run = {live} where id = {task}",
    "a run that is not there": "update tasks set run = 900 where id = {task}",
    "none, it is ready": "update tasks set run = null, state = 'ready', ready_at = updated_at,"
    " rank = updated_at - 18000000 where id = {task}",
    "each other's": "update tasks set run = {live} where id = {task}; update tasks set run = {run} where id = {beside}",
}


@pytest.mark.parametrize("bent", OTHER_HOLDERS)
def test_a_live_run_gets_its_task_back(one: Orchestrator, scene: Scene, hand: Hand, bent: str) -> None:
    bend(hand, scene, OTHER_HOLDERS[bent])
    assert advice(one, "structure") == CLEANUP
    done = cli(one, "cleanup").stdout
    assert f"R{scene.run} holds T{scene.task} again" in done.splitlines()
    assert is_well(one)
    assert holder(hand, scene.task) == ("in_progress", scene.run)
    assert holder(hand, scene.beside) == ("in_progress", scene.live)
    assert hand.rows("select task, run from events where kind = 'task.held_again' order by id desc limit 1")
    one.done(f"R{scene.run}", "done")
    one.done(f"R{scene.live}", "done")
    assert holder(hand, scene.task) == ("completed", None)
    assert is_well(one)
    assert one.clean_up_locks() == {"freed": 0, "righted": 0, "mended": [], "notes": []}


def test_a_run_without_a_sign_of_life_gets_its_task_back_and_is_lost_as_any(
    one: Orchestrator, scene: Scene, hand: Hand
) -> None:
    bend(hand, scene, OTHER_HOLDERS[OWN])
    hand.run("update runs set lease_until = claimed_at - 1 where id = ?", scene.run)
    done = one.clean_up_locks()
    assert (done["freed"], done["mended"]) == (1, [f"R{scene.run} holds T{scene.task} again"])
    assert holder(hand, scene.task) == ("ready", None)
    assert is_well(one)


ENDS = "update runs set state = '{}', ended_at = claimed_at where id = {{run}}"
NOBODY = {
    "lost": (ENDS.format("lost"), "ready"),
    "failed": (ENDS.format("failed"), "ready"),
    "killed": (ENDS.format("killed"), "ready"),
    "succeeded": (ENDS.format("succeeded"), "in review"),
    "supervised": (ENDS.format("lost") + "; update runs set supervised = 1 where id = {run}", "retrying"),
    "for the last time": (ENDS.format("lost") + "; update tasks set retries = 3 where id = {task}", "failed"),
}


@pytest.mark.parametrize("bent", NOBODY)
def test_a_task_in_progress_without_an_active_run_goes_back(
    one: Orchestrator, scene: Scene, hand: Hand, bent: str
) -> None:
    sql, state = NOBODY[bent]
    bend(hand, scene, sql)
    found = one.health()["components"]["structure"]["problems"]
    about_it = [problem for problem in found if problem["thing"] == f"T{scene.task}"]
    assert {problem.get("mend") for problem in about_it if "results" not in problem["rule"]} == {CLEANUP}
    said = hand.rows("select state from runs where id = ?", scene.run)[0]["state"]
    done = one.clean_up_locks()
    assert done["mended"] == [f"T{scene.task} was in progress, and R{scene.run} is {said}: it is {state}"]
    assert holder(hand, scene.task) == ({"in review": "review"}.get(state, state), None)
    assert is_well(one)
    lines = hand.rows("select kind from events where run = ? order by id desc limit 2", scene.run)
    assert {line["kind"] for line in lines} >= {f"run.{said}"}
    assert one.clean_up_locks() == {"freed": 0, "righted": 0, "mended": [], "notes": []}
    if state == "ready":
        one.done(one.claim(f"T{scene.task}")["run"], "done")
        assert is_well(one)
    elif state == "failed":
        one.retry(f"T{scene.task}")
        assert is_well(one)


@pytest.mark.parametrize("other", ["over", "ready"])
def test_a_task_whose_run_was_given_to_another_goes_back(
    one: Orchestrator, scene: Scene, hand: Hand, other: str
) -> None:
    to = getattr(scene, other)
    bend(hand, scene, f"update runs set task = {to} where id = {{run}}")
    assert advice(one, "structure") == CLEANUP
    done = one.clean_up_locks()
    assert done["mended"] == [
        f"R{scene.run} is lost: T{to} does not know of it",
        f"T{scene.task} was in progress, and no run of it is active: it is ready",
    ]
    assert holder(hand, to)[0] == {"over": "completed"}.get(other, other)
    assert is_well(one)
    one.done(one.claim(f"T{scene.task}")["run"], "done")
    if other == "ready":
        one.done(one.claim(f"T{to}")["run"], "done")
    assert is_well(one)


@pytest.mark.parametrize(("bent", "state"), [("over", "completed"), ("ready", "ready")])
def test_a_task_that_nobody_took_is_where_the_journal_says(
    one: Orchestrator, scene: Scene, hand: Hand, bent: str, state: str
) -> None:
    task = getattr(scene, bent)
    one.done(f"R{scene.run}", "done")
    bend(hand, scene, f"update tasks set state = 'in_progress', run = {{ended}} where id = {task}")
    assert CLEANUP in advice(one, "structure")
    assert one.clean_up_locks()["mended"] == [f"T{task} is {state} again: no run had taken it"]
    assert holder(hand, task) == (state, None)
    assert is_well(one)


# -- without cleanup -----------------------------------------------------------------------------

DISAGREE = {
    "another's run": OTHER_HOLDERS["an ended run of another task"],
    "a live run of another": OTHER_HOLDERS["a live run of another task"],
    "lost": NOBODY["lost"][0],
    "succeeded": NOBODY["succeeded"][0],
}


@pytest.mark.parametrize("bent", DISAGREE)
def test_cancelling_ends_the_task_and_its_own_run_alone(one: Orchestrator, scene: Scene, hand: Hand, bent: str) -> None:
    bend(hand, scene, DISAGREE[bent])
    one.cancel(f"T{scene.task}", "not wanted")
    assert holder(hand, scene.task) == ("cancelled", None)
    assert holder(hand, scene.beside) == ("in_progress", scene.live)
    one.clean_up_locks()
    assert is_well(one)
    assert hand.rows("select state from runs where id = ?", scene.ended) == [{"state": "succeeded"}]


def test_cancelling_a_task_whose_run_was_given_away_leaves_that_run_to_cleanup(
    one: Orchestrator, scene: Scene, hand: Hand
) -> None:
    bend(hand, scene, "update runs set task = {over} where id = {run}")
    one.cancel(f"T{scene.task}", "not wanted")
    assert holder(hand, scene.task) == ("cancelled", None)
    assert one.clean_up_locks()["mended"] == [f"R{scene.run} is lost: T{scene.over} does not know of it"]
    assert is_well(one)


def test_a_decision_or_a_report_that_is_refused_says_what_helps(one: Orchestrator, scene: Scene, hand: Hand) -> None:
    task, run = f"T{scene.task}", f"R{scene.run}"
    for bent in (OTHER_HOLDERS["a run that is not there"], f"{OTHER_HOLDERS[OWN]}; {NOBODY['lost'][0]}"):
        bend(hand, scene, bent)
        said = f"it is in progress, and names no active run of its own: {CLEANUP}"
        assert [reason["detail"] for reason in one.why(task)["reasons"]] == [said]
    bend(hand, scene, "update tasks set run = {run} where id = {task}")
    with pytest.raises(IllegalMove) as refused:
        one.retry(task)
    assert refused.value.hint == f"{task} names no active run of its own: {CLEANUP}, and says where {task} is then"
    with pytest.raises(StaleRun) as stale:
        one.release(run)
    assert stale.value.message == f"{run} is lost, and {task} is still said to be held by it"
    assert f"{CLEANUP}, and {task} goes back" in stale.value.hint
    assert one.clean_up_locks()["righted"]
    one.claim(task)


def test_a_report_of_a_run_whose_task_names_another_says_what_helps(
    one: Orchestrator, scene: Scene, hand: Hand
) -> None:
    task, run = f"T{scene.task}", f"R{scene.run}"
    bend(hand, scene, OTHER_HOLDERS["an ended run of another task"])
    with pytest.raises(StaleRun) as stale:
        one.done(run, "done")
    assert stale.value.message == (
        f"{run} is running, and {task} does not know of it: it is now held by R{scene.ended}"
    )
    assert f"{CLEANUP}, and says whether the run holds a task" in stale.value.hint
    one.clean_up_locks()
    one.done(run, "done")
    assert is_well(one)


# -- breakers ------------------------------------------------------------------------------------


def test_a_breaker_that_a_hand_opened_is_closed_as_is_advised(one: Orchestrator, hand: Hand, dialect: str) -> None:
    one.store.write(lambda tx: breaker.failed(tx, "command", "rate_limited", breaker.Rules()))
    hand.unfit("breakers", "update breakers set failures = -4, until = until + 900000000000")
    closes = "`orchestrion resume --agent command` closes it"
    parts = one.health()["components"]
    assert closes in parts["breakers"]["advice"]
    if dialect == "sqlite":
        assert closes in parts["store"]["advice"]
    assert one.resume("command")
    assert not {"breakers", "store"} & ill(one).keys()
