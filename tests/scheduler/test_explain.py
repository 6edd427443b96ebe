"""Why a task is not running: there is an answer for every task, and it is the true one."""

from __future__ import annotations

import pytest
from board import MINUTE, Board

from orchestrion.core.errors import NotFound
from orchestrion.core.model import NewGate
from orchestrion.core.states import EdgeKind
from orchestrion.scheduler import explain, finish


def kinds(board: Board, task: int) -> list[str]:
    return [kind for kind, _ in board.why(task)]


def detail(board: Board, task: int) -> str:
    return "; ".join(text for _, text in board.why(task))


def test_an_unknown_task_is_not_found(board: Board) -> None:
    with pytest.raises(NotFound):
        board.store.read(lambda tx: explain.why(tx, 999))


def test_a_ready_task_knows_its_place(board: Board) -> None:
    first, second, third = (board.add(priority=one, command="true") for one in (9, 5, 5))
    assert "next" in detail(board, first)
    assert "1 ready task" in detail(board, second)
    assert "2 ready tasks" in detail(board, third)


def test_a_ready_task_says_which_limit_is_used_up_and_that_the_queue_is_paused(board: Board) -> None:
    board.limit("role:tester", 0)
    board.limit("role:writer", 0)
    task = board.add(role="tester", needs=("gpu",))
    board.take(board.add(needs=("gpu",)))
    board.store.write(lambda tx: tx.run("pause", paused=1))
    assert kinds(board, task).count("limit") == 2
    assert "paused" in kinds(board, task)
    assert "role:tester" in detail(board, task)
    assert "resource:gpu" in detail(board, task)
    assert "role:writer" not in detail(board, task)


def test_a_waiting_task_names_what_it_waits_for(board: Board) -> None:
    first = board.add("the first")
    task = board.add(after=[first, (board.add("soft one"), EdgeKind.SOFT)])
    assert kinds(board, task) == ["dependency", "dependency"]
    assert f"T{first} (the first) is ready" in detail(board, task)
    state, reasons = board.store.read(lambda tx: explain.why(tx, task))
    assert state == "pending"
    assert reasons[0].as_json() == {"kind": "dependency", "detail": reasons[0].detail, "ids": [f"T{first}"]}


def test_an_inherited_wait_says_from_whom(board: Board) -> None:
    first = board.add("first")
    parent = board.add(after=[first])
    child = board.add(parent=parent)
    assert f"inherited from T{parent}" in detail(board, child)
    assert kinds(board, parent) == ["dependency", "child"]


def test_a_blocked_task_names_what_failed_and_what_is_open(board: Board) -> None:
    failed = board.add("broken")
    task = board.add(after=[failed], gates=(NewGate(EdgeKind.APPROVAL, "ship it?"),))
    board.spoil(failed)
    assert sorted(kinds(board, task)) == ["dead_dependency", "gate"]
    assert "ship it?" in detail(board, task)
    assert "is failed" in detail(board, task)


def test_a_time_gate_says_until_when(board: Board) -> None:
    task = board.add(gates=(NewGate(EdgeKind.TIME, "", 253_402_300_799_999),))
    assert kinds(board, task) == ["gate"]
    assert "until" in detail(board, task)
    assert "the next claim" not in detail(board, task)


def test_what_was_due_since_the_last_claim_says_so(board: Board) -> None:
    gated = board.add(gates=(NewGate(EdgeKind.TIME, "", board.store.now + MINUTE),))
    retried = board.add()
    board.fail(board.take(retried), code="network")
    for task in (gated, retried):
        assert "the next claim" not in detail(board, task)
    board.pass_time(2 * MINUTE)
    assert "until 2026-11-20T00:01:00.000Z, and the next claim lets it go on" in detail(board, gated)
    assert "was due at 2026-11-20T00:01:00.000Z, and the next claim lets it go on" in detail(board, retried)


def test_a_task_in_progress_names_its_run_and_lease(board: Board) -> None:
    task = board.add()
    run = board.take(task, lease_ms=MINUTE)
    assert kinds(board, task) == ["run"]
    assert f"R{run}" in detail(board, task)
    assert "2026-11-20T00:01:00.000Z" in detail(board, task)


def test_a_retrying_task_says_when_and_why(board: Board) -> None:
    task = board.add()
    board.fail(board.take(task), code="network")
    assert kinds(board, task) == ["retry"]
    assert "network" in detail(board, task)
    assert "2026-11-20T00:01:00.000Z" in detail(board, task)


def test_work_in_review_says_for_what_it_waits(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    board.store.write(lambda tx: finish.hand_in(tx, run, code="merge_conflict", reason="a.py"))
    assert kinds(board, task) == ["review"]
    assert "a.py" in detail(board, task)


def test_what_is_over_says_how_it_ended(board: Board) -> None:
    done, failed, cancelled = board.add(), board.add(), board.add()
    board.complete(board.take(done), summary="all green")
    board.fail(board.take(failed), error="exit code 3")
    board.cancel(cancelled, "not wanted")
    for task, words in ((done, "all green"), (failed, "exit code 3"), (cancelled, "not wanted")):
        assert kinds(board, task) == ["ended"]
        assert words in detail(board, task)


def test_a_parent_names_its_children(board: Board) -> None:
    parent = board.add()
    children = [board.add(f"child {n}", parent=parent) for n in range(3)]
    assert kinds(board, parent) == ["child"] * 3
    board.do(children[0])
    assert kinds(board, parent) == ["child"] * 2


def test_a_crowd_is_counted_and_not_listed(board: Board) -> None:
    firsts = [board.add() for _ in range(60)]
    task = board.add(after=firsts)
    reasons = board.why(task)
    assert len(reasons) == explain.SHOWN + 1
    assert "10 more" in reasons[-1][1]


def test_a_long_queue_is_counted_up_to_a_bound(board: Board) -> None:
    from orchestrion.core.model import NewTask
    from orchestrion.scheduler import create

    ids = board.store.write(lambda tx: create.create_all(tx, [NewTask("t", command="true")] * 1100))
    assert "1000+" in detail(board, ids[-1])
