"""Tasks of a plan that another clone has are out of every claim's sight, and whoever names one hears where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from board import LEASE, Board

from orchestrion.core.errors import Conflict
from orchestrion.core.model import NewTask
from orchestrion.scheduler import claim, clones, create, decide, explain

ADA, BOB = "a" * 32, "b" * 32


@contextmanager
def in_clone(board: Board, clone: str) -> Iterator[None]:
    before, board.store.clone = board.store.clone, clone
    yield
    board.store.clone = before


def add(board: Board, plan: str = "p", merge: str = "auto", began: bool = True, **given: object) -> int:
    """A task that is added in the clone that the store stands in."""
    place = create.Began("main", "c0", f"/{board.store.clone}", "box") if began else None
    new = NewTask(title="a task", command="true", plan=plan, merge=merge, **given)  # type: ignore[arg-type]
    return board.store.write(lambda tx: create.create(tx, new, began=place))


def claimed(board: Board, clone: str, **given: object) -> list[int]:
    """All that a claim there gets, one after the other."""
    found = []
    with in_clone(board, clone):
        while one := board.store.write(lambda tx: claim.claim(tx, claim.Claimant(LEASE, **given))):  # type: ignore[arg-type]
            found.append(one.task)
    return found


@pytest.mark.parametrize("given", [{}, {"supervised": True}, {"tag": "x"}, {"only_agent": "claude"}])
def test_a_claim_passes_over_what_is_elsewhere(board: Board, given: dict[str, object]) -> None:
    with in_clone(board, ADA):
        bound, free = add(board, tags=("x",)), add(board, merge="none", tags=("x",))
    with in_clone(board, BOB):
        own = add(board, "q", tags=("x",))
        later = add(board, tags=("x",))  # its plan is the other's, whoever adds to it
    unbound = add(board, "r", began=False, tags=("x",))
    assert sorted(claimed(board, BOB, **given)) == [free, own, unbound]
    assert sorted(claimed(board, ADA, **given)) == [bound, later]


def test_a_named_one_is_refused_with_the_place_that_can(board: Board) -> None:
    with in_clone(board, ADA):
        task = add(board)
    with in_clone(board, BOB):
        with pytest.raises(Conflict) as refused:
            board.store.write(lambda tx: claim.claim_task(tx, task, claim.Claimant(LEASE)))
        assert refused.value.code == "other_clone"
        assert (refused.value.details["host"], refused.value.details["folder"]) == ("box", f"/{ADA}")
        kinds = [kind for kind, _ in board.why(task)]
        assert kinds == ["other_clone"]
        assert [row["id"] for row, _ in board.store.read(lambda tx: explain.elsewhere(tx, 20))] == [task]
        assert board.store.read(lambda tx: explain.ready(tx, 20)) == []
        assert board.store.read(lambda tx: tx.the("count_ready"))["total"] == 0
    with in_clone(board, ADA):
        assert [kind for kind, _ in board.why(task)] == ["queue"]
        assert [row["id"] for row in board.store.read(lambda tx: explain.ready(tx, 20))] == [task]
    assert claimed(board, ADA) == [task]


def test_it_follows_from_whether_the_work_is_merged(board: Board) -> None:
    with in_clone(board, ADA):
        first, second = add(board), add(board, merge="none")
        board.store.write(lambda tx: decide.update(tx, first, {"merge": "none"}))
        board.store.write(lambda tx: decide.update(tx, second, {"merge": "auto"}))
    assert claimed(board, BOB) == [first]
    assert claimed(board, ADA) == [second]


def test_a_plan_is_bound_once_and_its_tasks_go_with_it(board: Board) -> None:
    task, free = add(board, began=False), add(board, merge="none", began=False)
    plan = board.store.read(lambda tx: tx.the("plan_by_name", name="p"))
    for clone, first in ((ADA, True), (BOB, False)):
        with in_clone(board, clone):
            assert board.store.write(lambda tx: clones.bind(tx, plan, "box")) == first
    assert claimed(board, BOB) == [free]
    assert claimed(board, ADA) == [task]


def test_a_landed_plan_stays_with_the_clone_that_has_its_commits(board: Board) -> None:
    with in_clone(board, ADA):
        task = add(board)
        plan = board.store.read(lambda tx: tx.the("plan_by_name", name="p"))["id"]
        assert claimed(board, ADA) == [task]
        board.store.write(lambda tx: decide.cancel(tx, task, "done by hand"))
        board.store.write(lambda tx: tx.run("plan_is_landed", plan=plan, branch="main", commit="c1"))
    with in_clone(board, BOB):
        later = add(board)
    row = board.store.read(lambda tx: tx.the("plan_by_name", name="p"))
    assert (row["began_clone"], row["began_commit"]) == (ADA, "c0")
    assert (claimed(board, BOB), claimed(board, ADA)) == ([], [later])


def test_a_claim_finds_its_tasks_through_the_index(board: Board) -> None:
    """So that a crowd of another clone's costs nothing."""
    if board.store.dialect != "sqlite":
        pytest.skip("PostgreSQL plans by the rows that are there")
    add(board)
    text = board.store.read(lambda tx: tx._statements.text("take_best", {}))
    text = text.replace(":project", "1").replace(":clone", f"'{ADA}'")
    plan = [row["detail"] for row in board.raw.rows(f"explain query plan {text}")]
    assert any("tasks_to_claim (lane=? AND clone=?)" in line for line in plan), plan
    assert sum("TEMP B-TREE" in line for line in plan) == 1, "only the lanes' heads are put in order"
