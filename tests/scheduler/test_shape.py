"""Dependencies, gates and the hierarchy as they are added, removed, waived and moved; and that no circle closes."""

from __future__ import annotations

import pytest
from board import HOUR, Board

from orchestrion.core.errors import Conflict, CycleRefused, InvalidInput, NotFound
from orchestrion.core.model import NewGate, NewTask
from orchestrion.core.states import EdgeKind, TaskState
from orchestrion.scheduler import create, finish
from orchestrion.scheduler.create import Limits

# --- dependencies -----------------------------------------------------------------------------------------------------


def test_adding_and_removing_a_dependency_moves_the_task(board: Board) -> None:
    first, task = board.add("first"), board.add("task")
    board.depend(task, first)
    assert board.state(task) == "pending"
    board.depend(task, first)
    assert board.task(task)["unmet"] == 1
    board.undepend(task, first)
    assert board.state(task) == "ready"
    with pytest.raises(NotFound) as refused:
        board.undepend(task, first)
    assert refused.value.code == "no_dependency"


def test_removing_one_kind_leaves_the_others(board: Board) -> None:
    first, task = board.add("first"), board.add("task")
    board.depend(task, first)
    board.depend(task, first, EdgeKind.SOFT)
    board.undepend(task, first, EdgeKind.BLOCKS)
    assert (board.state(task), board.task(task)["unmet"]) == ("pending", 1)
    board.spoil(first)
    assert board.state(task) == "ready"
    with pytest.raises(NotFound):
        board.undepend(task, first, EdgeKind.DATA)
    board.undepend(task, first)
    assert board.edges(task) == {}


def test_a_dead_dependency_that_is_removed_or_waived_blocks_no_more(board: Board) -> None:
    for act in (board.undepend, board.waive):
        first = board.add("first")
        task = board.add("task", after=[first])
        board.spoil(first)
        assert board.state(task) == "blocked"
        act(task, first)
        assert board.state(task) == "ready"


def test_a_waiver_needs_a_reason_and_keeps_it(board: Board) -> None:
    first = board.add("first")
    task = board.add("task", after=[first])
    for reason in ("", "  \n"):
        with pytest.raises(InvalidInput) as refused:
            board.waive(task, first, reason)
        assert refused.value.code == "reason_missing"
    board.waive(task, first, "done by hand")
    assert board.raw.rows("select reason from edges")[0]["reason"] == "done by hand"
    with pytest.raises(NotFound):
        board.waive(task, board.add())


def test_a_waived_dependency_is_not_brought_back_by_asking_again(board: Board) -> None:
    first = board.add("first")
    task = board.add("task", after=[first])
    board.waive(task, first)
    board.depend(task, first)
    assert board.state(task) == "ready"


@pytest.mark.parametrize("kind", [EdgeKind.BLOCKS, EdgeKind.SOFT, EdgeKind.ON_FAILURE, EdgeKind.DATA])
def test_a_circle_is_refused_and_named_whole(board: Board, kind: EdgeKind) -> None:
    ids = [board.add("t1")]
    for number in range(2, 6):
        ids.append(board.add(f"t{number}", after=[(ids[-1], kind)]))
    before = board.raw.rows("select * from edges order by id")
    with pytest.raises(CycleRefused) as refused:
        board.depend(ids[0], ids[-1], EdgeKind.SOFT)
    assert refused.value.details["cycle"] == [f"T{n}" for n in (1, 5, 4, 3, 2, 1)]
    assert "T1 -> T5 -> T4 -> T3 -> T2 -> T1" in refused.value.message
    assert board.raw.rows("select * from edges order by id") == before


def test_a_task_does_not_wait_for_itself(board: Board) -> None:
    task = board.add()
    with pytest.raises(CycleRefused) as refused:
        board.depend(task, task)
    assert refused.value.details["cycle"] == ["T1", "T1"]


def test_a_waived_edge_still_counts_for_circles(board: Board) -> None:
    """A waiver says that a wait does not bind, not that the order is the other way round."""
    first = board.add()
    task = board.add(after=[first])
    board.waive(task, first)
    with pytest.raises(CycleRefused):
        board.depend(first, task)


def test_a_parent_may_not_wait_for_what_is_below_it_nor_a_child_for_what_is_above(board: Board) -> None:
    top = board.add("top")
    middle = board.add("middle", parent=top)
    leaf = board.add("leaf", parent=middle)
    for task, on in ((top, leaf), (top, middle), (middle, leaf), (leaf, top), (leaf, middle), (middle, top)):
        with pytest.raises(CycleRefused):
            board.depend(task, on)
        with pytest.raises(CycleRefused):
            board.depend(task, on, EdgeKind.SOFT)


def test_a_circle_through_the_hierarchy_is_seen(board: Board) -> None:
    """A child inherits its parent's waits: one that waits for the child closes a circle through both."""
    parent = board.add("parent")
    child = board.add("child", parent=parent)
    uncle = board.add("uncle", after=[child])
    with pytest.raises(CycleRefused) as refused:
        board.depend(parent, uncle)
    assert {f"T{parent}", f"T{uncle}", f"T{child}"} <= set(refused.value.details["cycle"])
    cousin = board.add("cousin")
    board.depend(child, cousin)
    with pytest.raises(CycleRefused):
        board.depend(cousin, parent)


def test_a_long_circle_is_named_by_its_ends(board: Board) -> None:
    ids = [board.add()]
    for _ in range(199):
        ids.append(board.add(after=[ids[-1]]))
    with pytest.raises(CycleRefused) as refused:
        board.depend(ids[0], ids[-1])
    cycle = refused.value.details["cycle"]
    assert len(cycle) == 61
    assert cycle[0] == cycle[-1] == "T1"
    assert "more" in cycle[30]


def test_tasks_that_are_over_wait_for_nothing_new(board: Board) -> None:
    done, cancelled, other = board.add(completed=True), board.add(), board.add()
    board.cancel(cancelled)
    for task in (done, cancelled):
        with pytest.raises(Conflict) as refused:
            board.depend(task, other)
        assert refused.value.code == "task_over"
        with pytest.raises(Conflict):
            board.gate(task)


def test_a_task_in_progress_may_be_given_a_dependency_and_goes_on(board: Board) -> None:
    task, other = board.add(), board.add()
    run = board.take(task)
    board.depend(task, other)
    assert board.state(task) == "in_progress"
    assert "stale" in [kind for kind, _ in board.why(task)]
    board.complete(run)
    assert board.state(task) == "completed"


def test_a_released_task_waits_for_what_it_was_given_meanwhile(board: Board) -> None:
    task, other = board.add(), board.add()
    run = board.take(task)
    board.depend(task, other)
    board.store.write(lambda tx: finish.release(tx, run))
    assert board.state(task) == "pending"


def test_unknown_numbers_are_not_found(board: Board) -> None:
    task = board.add()
    for act in (
        lambda: board.depend(task, 999),
        lambda: board.depend(999, task),
        lambda: board.undepend(999, task),
        lambda: board.waive(task, 999),
        lambda: board.move(task, 999),
        lambda: board.move(999, task),
        lambda: board.gate(999),
        lambda: board.open_gate(999),
        lambda: board.depend(task, 2**63 - 1),
        lambda: board.move(999, None),
    ):
        with pytest.raises(NotFound):
            act()


# --- what children inherit --------------------------------------------------------------------------------------------


def test_children_wait_for_what_their_parent_waits_for_at_any_depth(board: Board) -> None:
    first, second = board.add("first"), board.add("second")
    top = board.add("top", after=[first])
    middle = board.add("middle", parent=top)
    leaf = board.add("leaf", parent=middle)
    board.depend(middle, second)
    assert board.edges(leaf) == {first: "open", second: "open"}
    assert board.edges(top) == {first: "open", middle: "open"}
    board.do(first)
    assert board.states(middle, leaf) == ["pending", "pending"]
    board.undepend(middle, second)
    assert board.edges(leaf) == {first: "met"}
    assert board.state(leaf) == "ready"


def test_what_was_inherited_is_not_removed_at_the_child(board: Board) -> None:
    first = board.add("first")
    parent = board.add("parent", after=[first])
    child = board.add("child", parent=parent)
    with pytest.raises(NotFound):
        board.undepend(child, first)
    with pytest.raises(NotFound):
        board.waive(child, first)
    board.depend(child, first)
    board.undepend(parent, first)
    assert board.edges(child) == {first: "open"}, "its own wait stays"


def test_a_waiver_of_the_parent_holds_for_its_children_also_later_ones(board: Board) -> None:
    first = board.add("first")
    parent = board.add("parent", after=[first])
    child = board.add("child", parent=parent)
    board.waive(parent, first)
    later = board.add("later", parent=parent)
    assert board.edges(child) == board.edges(later) == {first: "waived"}
    assert board.states(child, later) == ["ready", "ready"]


@pytest.mark.parametrize("kind", [EdgeKind.APPROVAL, EdgeKind.QUESTION, EdgeKind.EXTERNAL])
def test_a_gate_of_the_parent_holds_its_children_too_and_lets_them_go_together(board: Board, kind: EdgeKind) -> None:
    parent = board.add("parent")
    child = board.add("child", parent=parent)
    gate = board.gate(parent, kind)
    later = board.add("later", parent=child)
    held = "pending" if kind is EdgeKind.EXTERNAL else "blocked"
    assert board.states(parent, child, later) == [held] * 3
    board.open_gate(gate, answer="yes")
    assert board.states(parent, child, later) == ["pending", "pending", "ready"]


def test_a_refused_gate_of_the_parent_blocks_its_children(board: Board) -> None:
    parent = board.add("parent")
    child = board.add("child", parent=parent)
    board.open_gate(board.gate(parent), refuse=True)
    assert board.states(parent, child) == ["blocked", "blocked"]
    assert board.task(child)["code"] == "dependency_failed"


def test_a_question_that_a_running_parent_asks_holds_its_children(board: Board) -> None:
    parent = board.add("parent")
    run = board.take(parent)
    child = board.add("child", parent=parent)
    gate = board.store.write(lambda tx: finish.ask(tx, run, "which colour?"))
    assert board.states(parent, child) == ["blocked", "blocked"]
    board.open_gate(gate, answer="blue")
    assert board.states(parent, child) == ["pending", "ready"]


# --- gates ------------------------------------------------------------------------------------------------------------


def test_a_gate_is_decided_once(board: Board) -> None:
    task = board.add()
    gate = board.gate(task, EdgeKind.QUESTION, "which?")
    board.open_gate(gate, answer="this")
    for refuse in (True, False):
        with pytest.raises(Conflict) as refused:
            board.open_gate(gate, refuse=refuse)
        assert refused.value.code == "gate_decided"
    row = board.raw.rows("select * from gates")[0]
    assert (row["answer"], row["decided_by"], row["state"]) == ("this", "user:ada", "met")


@pytest.mark.parametrize("at", [-1, 253_402_300_800_000, float("nan")])
def test_a_moment_that_no_clock_shows_is_refused_in_dates(board: Board, at: int) -> None:
    task = board.add()
    with pytest.raises(InvalidInput) as refused:
        board.gate(task, EdgeKind.TIME, opens_at=at)
    assert refused.value.code == "invalid_moment"
    assert "from 1970-01-01 to 9999-12-31" in refused.value.message


@pytest.mark.parametrize("kind", [EdgeKind.QUESTION, EdgeKind.APPROVAL, EdgeKind.EXTERNAL])
def test_what_a_gate_asks_is_kept_without_secrets(board: Board, kind: EdgeKind) -> None:
    asked = "may I use ghp_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789?"
    task = board.add()
    board.gate(task, kind, asked)
    board.store.write(lambda tx: create.create(tx, NewTask("born with it", gates=(NewGate(kind, asked),))))
    assert {row["name"] for row in board.raw.rows("select name from gates")} == {"may I use ghp_***?"}
    assert "ABCDEFGHIJKLMNOP" not in str(board.raw.rows("select * from events"))


def test_a_task_waits_for_all_of_its_gates(board: Board) -> None:
    task = board.add()
    approval, fact = board.gate(task), board.gate(task, EdgeKind.EXTERNAL)
    board.open_gate(approval)
    assert board.state(task) == "pending"
    board.open_gate(fact)
    assert board.state(task) == "ready"


def test_a_refused_approval_blocks_and_says_so(board: Board) -> None:
    task = board.add()
    gate = board.gate(task)
    assert board.task(task)["reason"] == f"approval G{gate} is waiting"
    board.open_gate(gate, refuse=True)
    assert board.state(task) == "blocked"
    assert board.task(task)["reason"] == f"approval G{gate} is refused"
    said = f"approval G{gate} is refused; that is final: `orchestrion cancel T{task} --reason TEXT` ends T{task}"
    assert ("gate", said) in board.why(task)


def test_a_time_gate_may_be_opened_early(board: Board) -> None:
    task = board.add()
    gate = board.gate(task, EdgeKind.TIME, opens_at=board.store.now + HOUR)  # type: ignore[operator]
    assert board.state(task) == "pending"
    board.open_gate(gate)
    assert board.state(task) == "ready"


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_answers_that_no_database_holds_are_refused(board: Board, text: str) -> None:
    gate = board.gate(board.add())
    with pytest.raises(InvalidInput):
        board.open_gate(gate, answer=text)
    with pytest.raises(InvalidInput):
        board.gate(board.add(), name=text)


# --- moving -----------------------------------------------------------------------------------------------------------


def test_moving_changes_what_is_inherited_and_who_waits(board: Board) -> None:
    one, two = board.add("one"), board.add("two")
    old = board.add("old", after=[one])
    new = board.add("new", after=[two])
    branch = board.add("branch", parent=old)
    leaf = board.add("leaf", parent=branch)
    assert board.edges(leaf) == {one: "open"}
    board.move(branch, new)
    assert board.edges(leaf) == {two: "open"}
    assert board.edges(old) == {one: "open"}
    assert board.edges(new) == {two: "open", branch: "open"}
    assert board.task(branch)["parent"] == new
    board.do(one)
    assert board.state(old) == "ready", "without children it is a task like any other"
    board.move(branch, None)
    assert board.edges(branch) == {leaf: "open"}
    assert board.states(branch, leaf) == ["pending", "ready"]


def test_moving_to_where_it_is_changes_nothing(board: Board) -> None:
    parent = board.add()
    child = board.add(parent=parent)
    before = board.raw.rows("select * from tasks order by id")
    board.move(child, parent)
    board.move(parent, None)
    assert board.raw.rows("select * from tasks order by id") == before


def test_moving_the_last_open_child_away_completes_the_parent(board: Board) -> None:
    parent = board.add("parent")
    done, child = board.add("done", parent=parent), board.add("child", parent=parent)
    board.do(done)
    board.move(child, None)
    assert board.states(parent, child) == ["completed", "ready"]


def test_a_task_moves_under_none_of_its_own(board: Board) -> None:
    top = board.add("top")
    middle = board.add("middle", parent=top)
    leaf = board.add("leaf", parent=middle)
    for task, parent in ((top, leaf), (top, middle), (top, top), (middle, leaf)):
        with pytest.raises(CycleRefused):
            board.move(task, parent)
    assert [board.task(t)["parent"] for t in (top, middle, leaf)] == [None, top, middle]


def test_a_move_that_would_close_a_circle_is_refused_and_changes_nothing(board: Board) -> None:
    parent, child = board.add("parent"), board.add("child")
    later = board.add("later", after=[parent])
    board.depend(child, later)
    before = board.raw.rows("select * from edges order by id")
    with pytest.raises(CycleRefused) as refused:
        board.move(child, parent)
    assert {f"T{parent}", f"T{child}", f"T{later}"} <= set(refused.value.details["cycle"])
    assert board.raw.rows("select * from edges order by id") == before
    assert board.task(child)["parent"] is None


def test_a_move_under_a_parent_that_waits_for_the_moved_is_refused(board: Board) -> None:
    """The parent's wait would be inherited by the very task it waits for."""
    child = board.add("child")
    leaf = board.add("leaf", parent=child)
    for on in (child, leaf):
        parent = board.add("parent", after=[on])
        with pytest.raises(CycleRefused):
            board.move(child, parent)
        between = board.add("between", after=[on])
        far = board.add("far", after=[between])
        with pytest.raises(CycleRefused):
            board.move(child, far)


def test_a_cancelled_parent_takes_no_children_by_move(board: Board) -> None:
    parent, child = board.add(), board.add()
    board.cancel(parent)
    with pytest.raises(Conflict) as refused:
        board.move(child, parent)
    assert refused.value.code == "parent_cancelled"


def test_a_move_keeps_to_the_limits_with_all_that_is_below(board: Board) -> None:
    limits = Limits(max_depth=3, max_children=2)
    top = board.add()
    middle = board.add(parent=top)
    branch = board.add()
    board.add(parent=branch)
    with pytest.raises(InvalidInput) as refused:
        board.move(branch, middle, limits)
    assert refused.value.code == "too_deep"
    board.move(branch, top, limits)
    with pytest.raises(InvalidInput) as refused:
        board.move(board.add(), top, limits)
    assert refused.value.code == "too_many_children"


def test_a_finished_task_moves_with_its_state(board: Board) -> None:
    parent = board.add("parent")
    open_child = board.add("open", parent=parent)
    done = board.add(completed=True)
    board.move(done, parent)
    assert board.states(parent, done) == ["pending", "completed"]
    board.do(open_child)
    assert board.state(parent) == "completed"


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_a_finished_task_becomes_nobody_s_only_child(board: Board, end: str) -> None:
    parent, other = board.add("to be done"), board.add("over")
    later = board.add("later", after=[parent])
    board.do(other) if end == "completed" else board.cancel(other)
    with pytest.raises(Conflict) as refused:
        board.move(other, parent)
    assert refused.value.code == "settles_parent"
    assert board.states(parent, other, later) == ["ready", end, "pending"]
    board.add("a child", parent=parent)
    board.move(other, parent)
    assert board.states(parent, other) == ["pending", end]


def test_a_task_in_progress_may_move(board: Board) -> None:
    first = board.add("first")
    parent, task = board.add("parent", after=[first]), board.add("task")
    run = board.take(task)
    board.move(task, parent)
    assert board.states(parent, task) == ["pending", "in_progress"]
    board.complete(run)
    assert board.states(parent, task) == ["pending", "completed"]
    board.do(first)
    assert board.state(parent) == "completed"


def test_a_wide_hierarchy_is_walked_once(board: Board) -> None:
    parent = board.add("parent")
    children = board.store.write(
        lambda tx: create.create_all(tx, [NewTask(f"t{n}", parent=parent, gates=()) for n in range(300)])
    )
    first = board.add("first")
    board.depend(parent, first)
    assert board.raw.rows("select count(*) as n from edges where prerequisite = ?", first)[0]["n"] == 301
    assert board.state(children[-1]) == TaskState.PENDING
    board.do(first)
    assert board.state(children[-1]) == TaskState.READY
    assert NewGate(EdgeKind.APPROVAL).name == ""
