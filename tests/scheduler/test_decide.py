"""What people decide: retry, reopen, approve, reject, cancel, archive, delete, update."""

from __future__ import annotations

from typing import Any

import pytest
from board import Board

from orchestrion.core.errors import Conflict, IllegalMove, InvalidInput, NotFound
from orchestrion.core.model import NewGate
from orchestrion.core.states import EdgeKind, TaskState
from orchestrion.ops import structure
from orchestrion.scheduler import decide, finish


def in_state(board: Board, state: str) -> int:
    """A task in this state."""
    task = board.add("the task")
    if state in ("in_progress", "review", "retrying", "failed", "completed"):
        run = board.take(task)
        match state:
            case "review":
                board.store.write(lambda tx: finish.hand_in(tx, run, code="merge_conflict", reason="a.py"))
            case "retrying":
                board.fail(run, code="network")
            case "failed":
                board.fail(run)
            case "completed":
                board.complete(run)
    elif state == "cancelled":
        board.cancel(task)
    elif state == "blocked":
        board.gate(task)
    elif state == "pending":
        board.depend(task, board.add())
    assert board.state(task) == state
    return task


ACTS: dict[str, Any] = {
    "retry": (decide.retry, ("failed", "retrying"), "ready"),
    "reopen": (lambda tx, task: decide.reopen(tx, task, "why"), ("completed",), "ready"),
    "approve": (decide.approve, ("review",), "completed"),
    "reject": (lambda tx, task: decide.reject(tx, task, "why"), ("review",), "ready"),
    "cancel": (
        lambda tx, task: decide.cancel(tx, task, "why"),
        ("pending", "ready", "in_progress", "retrying", "blocked", "review", "failed"),
        "cancelled",
    ),
}


@pytest.mark.parametrize("state", list(TaskState))
@pytest.mark.parametrize("act", ACTS)
def test_each_decision_works_from_the_states_it_is_meant_for_and_no_other(board: Board, act: str, state: str) -> None:
    do, allowed, result = ACTS[act]
    task = in_state(board, state)
    before = board.task(task)
    if state in allowed:
        board.store.write(lambda tx: do(tx, task))
        assert board.state(task) == result
        return
    with pytest.raises(IllegalMove) as refused:
        board.store.write(lambda tx: do(tx, task))
    assert refused.value.details["found"] == state
    assert refused.value.details["what"] == f"T{task}"
    assert isinstance(refused.value.details["possible"], list)
    assert refused.value.hint
    assert board.task(task) == before


def test_decisions_about_unknown_tasks_are_not_found(board: Board) -> None:
    board.add()
    acts = [*(do for do, _, _ in ACTS.values()), decide.archive, decide.delete, lambda tx, t: decide.update(tx, t, {})]
    for do in acts:
        for task in (0, -1, 999, 2**62):
            with pytest.raises(NotFound):
                board.store.write(lambda tx, do=do, task=task: do(tx, task))


@pytest.mark.parametrize("act", ["reopen", "reject"])
@pytest.mark.parametrize("reason", ["", "  ", "a\0b", "\ud800"])
def test_a_reason_is_needed_and_is_text(board: Board, act: str, reason: str) -> None:
    task = in_state(board, "completed" if act == "reopen" else "review")
    with pytest.raises(InvalidInput):
        board.store.write(lambda tx: getattr(decide, act)(tx, task, reason))


# --- retry, reopen, review --------------------------------------------------------------------------------------------


def test_a_manual_retry_gives_all_attempts_again(board: Board) -> None:
    task = board.add(max_retries=1)
    board.fail(board.take(task), code="network")
    board.retry(task)
    row = board.task(task)
    assert (row["state"], row["retries"], row["retry_at"], row["attempts"]) == ("ready", 0, None, 1)
    assert board.fail(board.take(task), code="network") is not None
    assert board.task(task)["attempts"] == 2


def test_a_retried_task_stands_where_its_waits_say(board: Board) -> None:
    first = board.add()
    task = board.add()
    board.spoil(task)
    board.depend(task, first)
    board.retry(task)
    assert board.state(task) == "pending"
    board.spoil(first)
    assert board.state(task) == "blocked"


def test_reopening_keeps_what_was_done_and_says_why(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    board.complete(run, summary="first version")
    board.reopen(task, "the colour is wrong")
    row = board.task(task)
    assert (row["state"], row["summary"], row["feedback"]) == ("ready", "first version", "the colour is wrong")
    assert (row["completed_at"], row["work_run"]) == (None, run)
    second = board.take(task)
    assert board.run(second)["attempt"] == 2


def test_a_parent_is_reopened_by_its_child(board: Board) -> None:
    parent = board.add()
    child = board.add(parent=parent)
    board.do(child)
    with pytest.raises(Conflict) as refused:
        board.reopen(parent)
    assert refused.value.code == "parent"
    board.reopen(child)
    assert board.state(parent) == "pending"


def test_approved_work_frees_what_waits_and_rejected_work_comes_back_with_the_reason(board: Board) -> None:
    task = in_state(board, "review")
    later = board.add(after=[task])
    board.store.write(lambda tx: decide.reject(tx, task, "no tests"))
    assert (board.state(task), board.task(task)["feedback"]) == ("ready", "no tests")
    run = board.take(task)
    board.store.write(lambda tx: finish.hand_in(tx, run, code="merge_conflict", reason="again"))
    assert board.store.write(lambda tx: decide.approve(tx, task, "user:ada")) == [later]
    row = board.task(task)
    assert (row["state"], row["code"], row["reason"], row["feedback"]) == (
        "completed",
        "approved",
        "user:ada",
        "no tests",
    )


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_cancelling_ends_all_that_is_below_and_kills_who_works_on_it(board: Board) -> None:
    top = board.add()
    middle = board.add(parent=top)
    waiting, running, done = (board.add(parent=middle) for _ in range(3))
    board.do(done)
    run = board.take(running, supervised=True)
    later = board.add(after=[top])
    cancelled = board.cancel(top, "no money")
    assert sorted(cancelled) == [top, middle, waiting, running]
    assert board.states(top, middle, waiting, running, done) == ["cancelled"] * 4 + ["completed"]
    assert (board.run(run)["state"], board.run(run)["code"], board.run(run)["reason"]) == (
        "killed",
        "cancelled",
        "no money",
    )
    assert board.task(running)["reason"] == "no money"
    assert board.state(later) == "blocked"


def test_dependants_are_blocked_or_cancelled_as_asked(board: Board) -> None:
    for how in (False, True):
        first = board.add("first")
        hard, data = board.add(after=[first]), board.add(after=[(first, EdgeKind.DATA)])
        soft = board.add(after=[(first, EdgeKind.SOFT)])
        waived = board.add(after=[first])
        board.waive(waived, first)
        further = board.add(after=[hard])
        running = board.add()
        run = board.take(running)
        board.depend(running, hard)
        cancelled = board.cancel(first, cancel_dependents=how)
        if how:
            assert sorted(cancelled) == sorted([first, hard, data, further, running])
            assert board.run(run)["state"] == "killed"
        else:
            assert cancelled == [first]
            assert board.states(hard, data, further, running) == ["blocked", "blocked", "pending", "in_progress"]
        assert board.states(soft, waived) == ["ready", "ready"]


def test_a_dependant_that_is_cancelled_takes_what_is_below_it_along(board: Board) -> None:
    first = board.add("first")
    parent = board.add("parent", after=[first])
    child = board.add("child", parent=parent)
    grandchild = board.add("grandchild", parent=child)
    board.cancel(first, cancel_dependents=True)
    assert board.states(parent, child, grandchild) == ["cancelled"] * 3


def test_cancelling_frees_slots(board: Board) -> None:
    board.limit("global", 1)
    task = board.add(needs=("gpu",))
    board.take(task, supervised=True)
    assert board.slots() == {"global": (1, 1), "resource:gpu": (1, 1)}
    board.cancel(task)
    assert board.slots() == {"global": (0, 1), "resource:gpu": (0, 1)}


def test_a_cancelled_task_is_cancelled_for_good(board: Board) -> None:
    first = board.add()
    task = board.add(after=[first])
    board.cancel(task)
    board.do(first)
    board.reopen(first)
    assert board.state(task) == "cancelled"


@pytest.mark.parametrize("reason", ["a\0b", "\udfff"])
def test_a_reason_for_cancelling_is_text(board: Board, reason: str) -> None:
    with pytest.raises(InvalidInput):
        board.cancel(board.add(), reason)


def test_cancelling_the_middle_of_a_long_chain_is_one_step(board: Board) -> None:
    ids = [board.add()]
    for _ in range(60):
        ids.append(board.add(after=[ids[-1]]))
    assert board.cancel(ids[10]) == [ids[10]]
    assert board.states(ids[9], ids[11], ids[12]) == ["pending", "blocked", "pending"]
    assert sorted(board.cancel(ids[11], cancel_dependents=True)) == ids[11:]


# --- archive and delete -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(TaskState))
def test_only_what_is_over_is_archived(board: Board, state: str) -> None:
    task = in_state(board, state)
    if state in ("completed", "failed", "cancelled"):
        board.store.write(lambda tx: decide.archive(tx, task))
        at = board.task(task)["archived_at"]
        assert at == board.store.now
        board.pass_time(1000)
        told = board.store.read(lambda tx: tx.the("last_event")["id"])
        board.store.write(lambda tx: decide.archive(tx, task))
        assert board.task(task)["archived_at"] == at
        assert board.store.read(lambda tx: tx.the("last_event")["id"]) == told
        shown = board.store.read(lambda tx: tx.all("list_tasks", after=0, limit=9, unarchived=1))
        assert task not in [row["id"] for row in shown]
    else:
        with pytest.raises(Conflict) as refused:
            board.store.write(lambda tx: decide.archive(tx, task))
        assert refused.value.code == "not_settled"


def test_needs_that_a_task_gets_while_it_runs_bind_its_next_run(board: Board) -> None:
    task = board.add()
    board.add(needs=("gpu",))
    run = board.take(task)
    board.update(task, needs=["gpu"])
    assert structure.examine(board.store, "full_audit", None).problems == []
    assert board.slots()["resource:gpu"] == (0, 1)
    board.store.write(lambda tx: finish.release(tx, run))
    board.take(task)
    assert board.slots()["resource:gpu"] == (1, 1)


def test_a_task_that_nothing_refers_to_is_deleted_with_its_edges_tags_and_gates(board: Board) -> None:
    first, parent = board.add(), board.add()
    gates = (NewGate(EdgeKind.APPROVAL, "ok?"),)
    task = board.add("goes", after=[first], tags=("ui",), gates=gates, parent=parent)
    board.store.write(lambda tx: decide.delete(tx, task))
    for table in ("edges", "tags", "gates"):
        assert board.raw.rows(f"select * from {table}") == []
    assert board.states(first, parent) == ["ready", "ready"]
    with pytest.raises(NotFound):
        board.store.write(lambda tx: decide.delete(tx, task))
    assert board.add("comes") > task, "its number is not given again"


def test_a_task_with_a_history_is_not_deleted(board: Board) -> None:
    tried = board.add()
    run = board.take(tried)
    board.store.write(lambda tx: finish.release(tx, run))
    awaited, parent = board.add(), board.add()
    dependent = board.add(after=[awaited])
    board.add(parent=parent)
    waived = board.add()
    board.depend(waived, awaited)
    board.waive(waived, awaited)
    for task in (tried, awaited, parent):
        with pytest.raises(Conflict) as refused:
            board.store.write(lambda tx, task=task: decide.delete(tx, task))
        assert refused.value.code == "in_use"
    assert f"T{dependent}" in _refusal(board, awaited).details["dependents"]


def _refusal(board: Board, task: int) -> Conflict:
    with pytest.raises(Conflict) as refused:
        board.store.write(lambda tx: decide.delete(tx, task))
    return refused.value


# --- update -----------------------------------------------------------------------------------------------------------


def test_what_changes_is_said_and_the_rest_stays(board: Board) -> None:
    task = board.add("old", role="tester", tags=("a",), checks=("true",), due_at=5)
    changed = board.update(task, title="new", tags=("b", "c"), priority=5, role="writer", context={"x": 1})
    assert changed == ["context", "role", "tags", "title"]
    row = board.task(task)
    assert (row["title"], row["role"], row["tags"], row["checks"]) == ("new", "writer", '["b", "c"]', '["true"]')
    assert {r["tag"] for r in board.raw.rows("select tag from tags")} == {"b", "c"}
    assert board.update(task, title="new") == []
    assert [e["kind"] for e in board.events(task)].count("task.updated") == 1


def test_a_task_that_works_keeps_its_state_and_its_slots(board: Board) -> None:
    task = board.add(needs=("gpu",))
    run = board.take(task)
    board.update(task, needs=("desk",), priority=9)
    assert board.state(task) == "in_progress"
    assert board.slots() == {"resource:desk": (0, 1), "resource:gpu": (1, 1)}
    board.complete(run)
    assert board.slots() == {"resource:desk": (0, 1), "resource:gpu": (0, 1)}


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "completed"},
        {"run": 1},
        {"id": 5},
        {"plan": "other"},
        {"key": "k"},
        {"nonsense": 1},
        {"title": ""},
        {"title": "a\0b"},
        {"priority": 11},
        {"priority": 5.5e300},
        {"role": "a b"},
        {"tags": ("a b",)},
        {"complexity": "hard"},
        {"max_retries": -1},
        {"description": "\ud800"},
    ],
)
def test_changes_that_no_task_may_have_are_refused_and_change_nothing(board: Board, changes: dict[str, Any]) -> None:
    task = board.add()
    before = board.task(task)
    with pytest.raises(InvalidInput):
        board.update(task, **changes)
    assert board.task(task) == before


def test_what_is_not_named_stays_and_null_clears(board: Board) -> None:
    task = board.add(role="tester", agent="codex", needs=("gpu",), due_at=5, command="true")
    assert board.update(task) == []
    assert board.update(task, role=None, needs=None) == ["needs", "role"]
    row = board.task(task)
    assert (row["role"], row["agent"], row["needs"], row["due_at"]) == ("", "codex", "[]", 5)
    assert board.update(task, due_at=None, command=None) == ["command", "due_at"]
    assert (board.task(task)["due_at"], board.task(task)["command"]) == (None, None)
    assert board.update(task, due_at=None) == []


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("title", "give it another one; it has no default"),
        ("priority", "set it to its default, 5"),
        ("merge", "set it to its default, auto"),
        ("max_retries", "set it to its default, which is the setting retry.max"),
    ],
)
def test_what_every_task_has_cannot_be_cleared(board: Board, field: str, hint: str) -> None:
    task = board.add(due_at=5)
    with pytest.raises(InvalidInput) as refused:
        board.update(task, **{field: None, "due_at": None})
    assert (refused.value.code, refused.value.hint) == ("not_clearable", hint)
    assert board.task(task)["due_at"] == 5
