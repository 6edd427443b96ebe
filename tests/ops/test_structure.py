"""A store that somebody damaged by hand is found out, by the rule that was broken and with the task's name."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrion.core.model import NewTask, Wait
from orchestrion.memory import artifacts
from orchestrion.ops import structure
from orchestrion.scheduler import claim, create, finish, shape
from orchestrion.store import Store


def add(store: Store, title: str = "a task", **given: Any) -> int:
    return store.write(lambda tx: create.create(tx, NewTask(title, **given)))


@pytest.fixture
def graph(store: Store) -> dict[str, int]:
    """A parent with two parts, a chain, a run that goes on and one that is over."""
    first = add(store, "first")
    second = add(store, "second", waits=(Wait(first),))
    parent = add(store, "parent")
    part = add(store, "part", parent=parent)
    other = add(store, "other part", parent=parent)
    running = add(store, "running")
    claimant = claim.Claimant(lease_ms=60_000, agent="me")
    run = store.write(lambda tx: claim.claim_task(tx, running, claimant).run)
    over = add(store, "over")
    ended = store.write(lambda tx: claim.claim_task(tx, over, claimant).run)
    store.write(lambda tx: artifacts.keep(tx, over, ended, "a result", called="detail", kind="general"))
    store.write(lambda tx: finish.complete(tx, ended, summary="done"))
    return {"first": first, "second": second, "parent": parent, "part": part, "other": other, "run": run, "over": over}


@pytest.mark.parametrize("level", structure.LEVELS)
def test_a_sound_store_has_no_problems(store: Store, graph: dict[str, int], level: str) -> None:
    verdict = structure.examine(store, level, None)
    assert verdict.problems == []
    assert len(verdict.rules) == {"basic": 15, "comprehensive": 40, "full_audit": 44}[level]


def damaged(store: Store, raw: Any, sql: str, *values: object, level: str = "basic") -> list[structure.Problem]:
    assert raw.run(sql, *values) > 0
    return structure.examine(store, level, None).problems


def test_wrong_counters_are_found(store: Store, raw: Any, graph: dict[str, int]) -> None:
    for counter in ("unmet", "children"):
        problems = damaged(store, raw, f"update tasks set {counter} = {counter} + 1 where id = ?", graph["second"])
        assert ("counters_equal_their_edges", f"T{graph['second']}") in [(one.rule, one.thing) for one in problems]
        raw.run(f"update tasks set {counter} = {counter} - 1 where id = ?", graph["second"])


def test_an_edge_that_does_not_follow_is_found(store: Store, raw: Any, graph: dict[str, int]) -> None:
    [edge, *_] = damaged(store, raw, "update edges set state = 'met' where task = ?", graph["second"])
    assert (edge.rule, edge.thing) == ("edges_follow_their_prerequisites", f"T{graph['second']}")
    assert f"T{graph['first']}" in edge.said


def test_a_task_that_waits_against_its_counters_is_found(store: Store, raw: Any, graph: dict[str, int]) -> None:
    [problem] = damaged(store, raw, "update tasks set state = 'pending' where id = ?", graph["first"])
    assert problem.rule == "waiting_tasks_are_where_their_counters_say"


def test_a_part_that_its_parent_does_not_know_is_found(store: Store, raw: Any, graph: dict[str, int]) -> None:
    problems = damaged(store, raw, "update tasks set parent = null where id = ?", graph["part"])
    assert [one.rule for one in problems] == ["parents_wait_for_their_children"]
    assert problems[0].thing == f"T{graph['part']}"


def test_a_completed_parent_with_an_open_part_is_found(store: Store, raw: Any, graph: dict[str, int]) -> None:
    problems = damaged(store, raw, "update tasks set state = 'completed' where id = ?", graph["parent"])
    assert "parents_wait_for_their_children" in [one.rule for one in problems]


def test_a_whole_that_lost_its_parts_is_no_problem(store: Store) -> None:
    """The storm found it: a task that is completed, has no part any more and was never run."""
    parent, elsewhere = add(store, "parent"), add(store, "elsewhere")
    part = add(store, "part", parent=parent)
    run = store.write(lambda tx: claim.claim_task(tx, part, claim.Claimant(lease_ms=60_000, agent="me")).run)
    store.write(lambda tx: finish.complete(tx, run, summary="done"))
    add(store, "is not done", parent=elsewhere)
    store.write(lambda tx: shape.move(tx, part, elsewhere))
    assert store.read(lambda tx: tx.the("task", id=parent)["state"]) == "completed"
    assert structure.examine(store, "comprehensive", None).problems == []


def test_a_wrong_limit_is_found(store: Store, raw: Any, graph: dict[str, int]) -> None:
    raw.run("insert into slots (project, name, capacity, used) select id, 'global', 5, 3 from projects")
    found = structure.examine(store, "comprehensive", None).problems
    assert [(one.rule, one.thing) for one in found] == [("limits_count_their_holders", "global")]
    assert structure.examine(store, "basic", None).problems == []


def test_a_journal_that_says_something_else_is_found(store: Store, raw: Any, graph: dict[str, int]) -> None:
    raw.run("insert into events (project, at, kind, task, to_state) select id, 0, 'task.failed', ?, 'failed'"
            " from projects", graph["first"])  # fmt: skip
    found = structure.examine(store, "comprehensive", None).problems
    rules = ["the_journal_ends_where_tasks_are", "the_journal_has_no_gap"]
    assert [(one.rule, one.thing) for one in found] == [(rule, f"T{graph['first']}") for rule in rules]


def test_a_circle_is_found_and_named_whole(store: Store, raw: Any, graph: dict[str, int]) -> None:
    first, second = graph["first"], graph["second"]
    row = "values (?, ?, 'blocks', 'open', ?, 0)"
    raw.run(f"insert into edges (task, prerequisite, kind, state, heir_of, created_at) {row}", first, second, first)
    found = [one for one in structure.examine(store, "comprehensive", None).problems if "circle" in one.rule]
    assert len(found) == 1
    assert f"T{first}" in found[0].said
    assert f"T{second}" in found[0].said


def test_a_stored_result_that_was_changed_is_found(store: Store, raw: Any, graph: dict[str, int]) -> None:
    raw.run("update artifacts set content = 'another result'")
    [found] = structure.examine(store, "full_audit", None).problems
    assert (found.rule, found.thing) == ("results_are_as_they_were_stored", "A1")
    assert structure.examine(store, "full_audit", [graph["first"]]).problems == []


def test_only_the_tasks_that_are_meant_are_judged(store: Store, raw: Any, graph: dict[str, int]) -> None:
    raw.run("update tasks set unmet = unmet + 1 where id = ?", graph["second"])
    assert structure.examine(store, "full_audit", [graph["second"]]).problems != []
    assert structure.examine(store, "full_audit", [graph["first"], graph["part"]]).problems == []
