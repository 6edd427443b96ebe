"""What follows from a change: the edge table walked through with real tasks, and how far it is carried."""

from __future__ import annotations

import pytest
from board import Board

from orchestrion.core.model import NewGate
from orchestrion.core.states import EdgeKind, TaskState

BLOCKS, DATA, SOFT, ON_FAILURE = EdgeKind.BLOCKS, EdgeKind.DATA, EdgeKind.SOFT, EdgeKind.ON_FAILURE

#: kind -> state of the prerequisite -> (state of the edge, state of the task that waits by it alone)
TABLE = {
    BLOCKS: {"completed": ("met", "ready"), "failed": ("dead", "blocked"), "cancelled": ("dead", "blocked")},
    DATA: {"completed": ("met", "ready"), "failed": ("dead", "blocked"), "cancelled": ("dead", "blocked")},
    SOFT: {
        "completed": ("met", "ready"),
        "failed": ("met", "ready"),
        "cancelled": ("met", "ready"),
        "blocked": ("met", "ready"),
    },
    ON_FAILURE: {"completed": ("dead", "cancelled"), "failed": ("met", "ready"), "cancelled": ("dead", "cancelled")},
}
OPEN = ("open", "pending")


def bring(board: Board, task: int, state: str) -> None:
    """Brings a ready task to a state by the scheduler's own verbs."""
    match TaskState(state):
        case TaskState.COMPLETED:
            board.do(task)
        case TaskState.FAILED:
            board.spoil(task)
        case TaskState.CANCELLED:
            board.cancel(task)
        case TaskState.BLOCKED:
            board.gate(task)
        case TaskState.IN_PROGRESS:
            board.take(task)
        case TaskState.RETRYING:
            board.fail(board.take(task), code="rate_limited")
        case TaskState.PENDING:
            board.depend(task, board.add("yet another"))
        case TaskState.REVIEW:
            _hand_in(board, task)
        case TaskState.READY:
            pass
    assert board.state(task) == state


def _hand_in(board: Board, task: int) -> None:
    from orchestrion.scheduler import finish

    run = board.take(task)
    board.store.write(lambda tx: finish.hand_in(tx, run, code="merge_conflict", reason="a.py"))


@pytest.mark.parametrize("state", list(TaskState))
@pytest.mark.parametrize("kind", list(TABLE))
def test_an_edge_follows_its_prerequisite_and_the_task_its_edge(board: Board, kind: EdgeKind, state: str) -> None:
    first = board.add("first")
    second = board.add("second", after=[(first, kind)])
    third = board.add("third", after=[(second, SOFT)])
    bring(board, first, state)
    edge, stands = TABLE[kind].get(state, OPEN)
    assert (board.edges(second)[first], board.state(second)) == (edge, stands)
    ended = ("cancelled", "blocked")
    assert board.state(third) == ("ready" if stands in ended else "pending")


def test_the_last_of_several_waits_makes_a_task_ready(board: Board) -> None:
    firsts = [board.add() for _ in range(3)]
    task = board.add(after=firsts)
    for number, first in enumerate(firsts):
        assert board.state(task) == "pending"
        assert board.do(first) == ([task] if number == 2 else [])
    assert board.state(task) == "ready"


def test_a_blocked_task_says_what_blocks_it_now(board: Board) -> None:
    one, two = board.add("one"), board.add("two")
    task = board.add("task", after=[one, two])
    board.spoil(one)
    board.cancel(two)
    assert board.task(task)["reason"] == f"T{one} failed or was cancelled; T{two} failed or was cancelled"
    board.retry(one)
    assert board.task(task)["reason"] == f"T{two} failed or was cancelled"
    assert [event["kind"] for event in board.events(task)].count("task.blocked") == 1


def test_a_task_with_one_dead_wait_is_blocked_whatever_the_others_do(board: Board) -> None:
    good, bad = board.add("good"), board.add("bad")
    task = board.add(after=[good, bad])
    board.spoil(bad)
    assert board.state(task) == "blocked"
    assert f"T{bad}" in board.task(task)["reason"]
    board.do(good)
    assert board.state(task) == "blocked"
    board.retry(bad)
    assert board.states(bad, task) == ["ready", "pending"]
    assert board.task(task)["reason"] is None
    assert board.do(bad) == [task]


def test_recovery_goes_as_far_as_the_failure_went(board: Board) -> None:
    """A failure blocks its dependants; soft ones behind them go ahead; all wait again when it is retried."""
    root = board.add("root")
    middle = board.add("middle", after=[root])
    soft = board.add("soft", after=[(middle, SOFT)])
    hard = board.add("hard", after=[middle])
    board.spoil(root)
    assert board.states(middle, soft, hard) == ["blocked", "ready", "pending"]
    board.retry(root)
    assert board.states(middle, soft, hard) == ["pending", "pending", "pending"]
    board.do(root)
    board.do(middle)
    assert board.states(soft, hard) == ["ready", "ready"]


def test_what_handles_a_failure_is_cancelled_when_there_is_none_and_nobody_misses_it(board: Board) -> None:
    parent = board.add("parent")
    work = board.add("work", parent=parent)
    repair = board.add("repair", parent=parent, after=[(work, ON_FAILURE)])
    board.do(work)
    assert board.states(repair, parent) == ["cancelled", "completed"]
    assert board.task(repair)["code"] == "not_needed"
    assert board.task(repair)["completed_at"] == board.store.now


def test_what_handles_a_failure_runs_when_there_is_one(board: Board) -> None:
    work = board.add("work")
    repair = board.add("repair", after=[(work, ON_FAILURE)])
    after_both = board.add("after", after=[(work, SOFT), (repair, SOFT)])
    board.spoil(work)
    assert board.states(repair, after_both) == ["ready", "pending"]
    board.retry(work)
    assert board.states(repair, after_both) == ["pending", "pending"]
    board.do(work)
    assert board.states(repair, after_both) == ["cancelled", "ready"]


def test_a_blocked_task_that_becomes_unneeded_is_cancelled(board: Board) -> None:
    work, other = board.add("work"), board.add("other")
    repair = board.add("repair", after=[(work, ON_FAILURE), other])
    board.spoil(other)
    assert board.state(repair) == "blocked"
    board.do(work)
    assert board.state(repair) == "cancelled"


def test_children_of_what_is_not_needed_are_not_needed_either(board: Board) -> None:
    work = board.add("work")
    repair = board.add("repair", after=[(work, ON_FAILURE)])
    child = board.add("child", parent=repair)
    board.do(work)
    assert board.states(repair, child) == ["cancelled", "cancelled"]
    assert board.task(child)["code"] == "not_needed"


# --- parents ----------------------------------------------------------------------------------------------------------


def test_a_parent_is_completed_with_its_last_child_and_so_on_upwards(board: Board) -> None:
    top = board.add("top")
    middle = board.add("middle", parent=top)
    leaves = [board.add("leaf", parent=middle) for _ in range(2)]
    later = board.add("later", after=[top])
    board.do(leaves[0])
    assert board.states(middle, top, later) == ["pending", "pending", "pending"]
    assert board.do(leaves[1]) == [later]
    assert board.states(middle, top, later) == ["completed", "completed", "ready"]


def test_a_parent_is_blocked_by_a_failed_child_and_recovers_with_it(board: Board) -> None:
    parent = board.add("parent")
    one, two = board.add("one", parent=parent), board.add("two", parent=parent)
    board.spoil(one)
    assert board.states(parent, two) == ["blocked", "ready"]
    board.do(two)
    assert board.state(parent) == "blocked"
    board.retry(one)
    assert board.state(parent) == "pending"
    board.do(one)
    assert board.state(parent) == "completed"


def test_a_parent_whose_children_are_all_cancelled_is_cancelled(board: Board) -> None:
    parent = board.add("parent")
    children = [board.add("child", parent=parent) for _ in range(2)]
    board.cancel(children[0])
    assert board.state(parent) == "pending"
    board.cancel(children[1])
    assert board.state(parent) == "cancelled"
    assert board.task(parent)["code"] == "children_cancelled"


def test_a_parent_of_some_cancelled_and_some_completed_children_is_completed(board: Board) -> None:
    parent = board.add("parent")
    children = [board.add("child", parent=parent) for _ in range(2)]
    board.cancel(children[0])
    board.do(children[1])
    assert board.state(parent) == "completed"


def test_a_parent_waits_for_its_gate_even_when_all_children_are_done(board: Board) -> None:
    parent = board.add("parent")
    child = board.add("child", parent=parent)
    board.do(child)
    assert board.state(parent) == "completed"
    second = board.add("second", parent=parent)
    board.do(second)
    other = board.add("parent", gates=(NewGate(EdgeKind.EXTERNAL, "deployed"),))
    inner = board.add("child", parent=other)
    assert board.states(other, inner) == ["pending", "pending"]


def test_a_completed_parent_comes_back_with_its_child(board: Board) -> None:
    top = board.add("top")
    parent = board.add("parent", parent=top)
    child = board.add("child", parent=parent)
    later = board.add("later", after=[top])
    board.do(child)
    assert board.states(parent, top, later) == ["completed", "completed", "ready"]
    board.reopen(child)
    assert board.states(child, parent, top, later) == ["ready", "pending", "pending", "pending"]
    board.spoil(child)
    assert board.states(parent, top) == ["blocked", "pending"]
    board.retry(child)
    board.do(child)
    assert board.states(parent, top, later) == ["completed", "completed", "ready"]


def test_a_completed_parent_stays_when_only_what_came_before_it_is_reopened(board: Board) -> None:
    """Its children did their work; like them it is marked stale and keeps it."""
    before = board.add("before")
    parent = board.add("parent", after=[before])
    child = board.add("child", parent=parent)
    board.do(before)
    board.do(child)
    board.reopen(before)
    assert board.states(before, parent, child) == ["ready", "completed", "completed"]
    assert board.edges(parent)[before] == "open"
    assert ("stale", "a prerequisite was reopened or failed after this was started") in board.why(parent)
    board.spoil(before)
    assert board.states(parent, child) == ["completed", "completed"]


def test_a_failed_child_that_joins_a_completed_parent_blocks_it(board: Board) -> None:
    parent, child = board.add("parent"), board.add("child")
    board.do(board.add("first", parent=parent))
    board.spoil(child)
    board.move(child, parent)
    assert board.states(parent, child) == ["blocked", "failed"]


def test_a_ready_task_that_is_given_finished_children_is_finished_too(board: Board) -> None:
    task = board.add("task")
    board.add("child", parent=task, completed=True)
    assert board.state(task) == "completed"
    for state, result in (("completed", "completed"), ("cancelled", "completed"), ("failed", "blocked")):
        task, child = board.add("task"), board.add("child")
        other = board.add("another child", parent=task)
        bring(board, child, state)
        board.move(child, task)
        board.do(other)
        assert board.state(task) == result


# --- reopening --------------------------------------------------------------------------------------------------------


def test_reopening_takes_back_what_has_not_started_and_leaves_the_rest(board: Board) -> None:
    first = board.add("first")
    ready, running, done, failed = (board.add(name, after=[first]) for name in ("ready", "running", "done", "failed"))
    board.do(first)
    run = board.take(running)
    board.do(done)
    board.spoil(failed)
    after_done = board.add("after done", after=[done])
    board.reopen(first)
    assert board.states(first, ready, running, done, failed) == [
        "ready",
        "pending",
        "in_progress",
        "completed",
        "failed",
    ]
    assert board.state(after_done) == "ready", "what waits for a task that keeps its work is not held up"
    assert {board.edges(task)[first] for task in (ready, running, done, failed)} == {"open"}
    for task in (running, done):
        assert [kind for kind, _ in board.why(task)].count("stale") == 1
    board.complete(run)
    assert board.state(running) == "completed"
    board.retry(failed)
    assert board.state(failed) == "pending"
    assert sorted(board.do(first)) == [ready, failed]
    assert "stale" not in [kind for kind, _ in board.why(done)]


def test_a_waiver_survives_everything(board: Board) -> None:
    first = board.add("first")
    task = board.add("task", after=[first])
    board.waive(task, first)
    for act in (board.do, board.reopen, board.spoil, board.retry, board.cancel):
        act(first)
        assert board.edges(task) == {first: "waived"}
        assert board.state(task) == "ready"


def test_a_soft_dependants_prerequisite_that_comes_unblocked_counts_as_blocking_again(board: Board) -> None:
    """The order of claims is right even where a round of settling changes it again."""
    first = board.add("first")
    gate = board.gate(first)
    soft = board.add("soft", after=[(first, SOFT)])
    assert board.states(first, soft) == ["blocked", "ready"]
    board.open_gate(gate)
    assert board.states(first, soft) == ["ready", "pending"]
    assert board.task(first)["rank"] == board.store.now - 6 * 3_600_000  # type: ignore[operator]


def test_what_is_called_ready_in_the_answer_is_ready_at_the_end(board: Board) -> None:
    """A task that became ready on the way and went back is not announced as unblocked."""
    a = board.add("a")
    b = board.add("b", after=[a])
    board.spoil(a)
    c = board.add("c", after=[(b, SOFT)])
    assert board.states(b, c) == ["blocked", "ready"]
    board.retry(a)
    unblocked = board.do(a)
    assert unblocked == [b]
    assert board.states(b, c) == ["ready", "pending"]


def test_every_step_is_in_the_journal_in_order(board: Board) -> None:
    first = board.add("first")
    task = board.add("task", after=[first])
    board.spoil(first)
    board.retry(first)
    board.do(first)
    board.do(task)
    steps = [event["to_state"] for event in board.events(task) if event["kind"].startswith("task.")]
    assert steps == ["pending", "blocked", "pending", "ready", "in_progress", "completed"]
