"""New tasks: where they come to stand, what is refused, and that a refusal leaves nothing."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest
from board import HOUR, Board

from orchestrion.core.errors import Backpressure, Conflict, CycleRefused, InvalidInput, NotFound
from orchestrion.core.model import NewGate, NewTask, Wait
from orchestrion.core.states import EdgeKind
from orchestrion.scheduler import create, settle
from orchestrion.scheduler.create import Limits
from orchestrion.store import open_store


def test_a_task_that_waits_for_nothing_is_ready_at_once(board: Board) -> None:
    task = board.add("Write it", priority=7, tags=("b", "a", "b"), needs=("gpu",))
    row = board.task(task)
    assert row["state"] == "ready"
    assert [event["to_state"] for event in board.events(task)] == ["pending", "ready"]
    assert (row["priority"], row["tags"], row["needs"]) == (7, '["b", "a", "b"]', '["gpu"]')
    assert board.slots() == {"resource:gpu": (0, 1)}


@pytest.mark.parametrize(
    ("kind", "how", "state"),
    [
        (EdgeKind.BLOCKS, "open", "pending"),
        (EdgeKind.BLOCKS, "completed", "ready"),
        (EdgeKind.BLOCKS, "failed", "blocked"),
        (EdgeKind.BLOCKS, "cancelled", "blocked"),
        (EdgeKind.DATA, "completed", "ready"),
        (EdgeKind.DATA, "failed", "blocked"),
        (EdgeKind.SOFT, "open", "pending"),
        (EdgeKind.SOFT, "completed", "ready"),
        (EdgeKind.SOFT, "failed", "ready"),
        (EdgeKind.SOFT, "cancelled", "ready"),
        (EdgeKind.SOFT, "blocked", "ready"),
        (EdgeKind.ON_FAILURE, "open", "pending"),
        (EdgeKind.ON_FAILURE, "failed", "ready"),
        (EdgeKind.ON_FAILURE, "completed", "cancelled"),
        (EdgeKind.ON_FAILURE, "cancelled", "cancelled"),
    ],
)
def test_a_task_stands_where_its_prerequisite_puts_it_from_the_beginning(
    board: Board, kind: EdgeKind, how: str, state: str
) -> None:
    first = board.add("first")
    if how == "completed":
        board.do(first)
    elif how == "failed":
        board.spoil(first)
    elif how == "cancelled":
        board.cancel(first)
    elif how == "blocked":
        board.gate(first)
    task = board.add("second", after=[(first, kind)])
    assert board.state(task) == state
    assert board.task(task)["code"] == {"cancelled": "not_needed", "blocked": "dependency_failed"}.get(state)


def test_a_waived_wait_does_not_bind(board: Board) -> None:
    first = board.add()
    task = board.add(after=[(first, EdgeKind.BLOCKS, "it is only nice to have")])
    assert board.state(task) == "ready"
    assert board.edges(task) == {first: "waived"}


@pytest.mark.parametrize("kind", [EdgeKind.APPROVAL, EdgeKind.QUESTION])
def test_a_task_born_behind_a_decision_is_blocked(board: Board, kind: EdgeKind) -> None:
    task = board.add(gates=(NewGate(kind, "may I?"),))
    assert board.state(task) == "blocked"
    assert board.task(task)["code"] == "decision_needed"


def test_a_task_born_behind_time_or_a_fact_is_pending(board: Board) -> None:
    assert board.state(board.add(gates=(NewGate(EdgeKind.EXTERNAL, "deployed"),))) == "pending"
    assert board.state(board.add(gates=(NewGate(EdgeKind.TIME, "", board.store.now + HOUR),))) == "pending"  # type: ignore[operator]


def test_a_time_gate_has_a_moment_and_no_other_gate_has(board: Board) -> None:
    for gate in (NewGate(EdgeKind.TIME), NewGate(EdgeKind.APPROVAL, "", 5)):
        with pytest.raises(InvalidInput) as refused:
            board.add(gates=(gate,))
        assert refused.value.code == "invalid_gate"
    assert board.raw.rows("select * from tasks") == []


def test_a_task_may_be_born_completed(board: Board) -> None:
    done = board.add(completed=True)
    assert board.state(done) == "completed"
    assert board.task(done)["completed_at"] == board.store.now
    assert board.state(board.add(after=[done])) == "ready"
    waiting = board.add(after=[board.add()], completed=True)
    assert board.state(waiting) == "completed"


def test_the_same_wait_twice_is_one_edge(board: Board) -> None:
    first = board.add()
    task = board.add(after=[first, first, (first, EdgeKind.DATA)])
    assert len(board.raw.rows("select * from edges where task = ?", task)) == 2
    assert board.task(task)["unmet"] == 2


def test_unknown_numbers_are_refused_and_nothing_is_written(board: Board) -> None:
    for fields in ({"after": [999]}, {"parent": 999}, {"after": [-1]}, {"parent": 2**62}):
        with pytest.raises(NotFound) as refused:
            board.add(**fields)
        assert refused.value.code == "no_task"
    assert board.raw.rows("select * from tasks") == []
    assert board.raw.rows("select * from events") == []


def test_many_are_all_or_nothing(board: Board) -> None:
    with pytest.raises(NotFound):
        board.store.write(lambda tx: create.create_all(tx, [NewTask("one"), NewTask("two", waits=(Wait(999),))]))
    assert board.raw.rows("select * from tasks") == []


def test_none_at_all_is_nothing_to_do(board: Board) -> None:
    assert board.store.write(lambda tx: create.create_all(tx, [])) == []


def test_a_child_of_a_task_that_waits_waits_with_it(board: Board) -> None:
    first = board.add("first")
    parent = board.add("parent", after=[first])
    child = board.add("child", parent=parent)
    assert board.states(parent, child) == ["pending", "pending"]
    assert board.edges(child) == {first: "open"}
    board.do(first)
    assert board.states(parent, child) == ["pending", "ready"]


def test_a_ready_task_that_gets_a_child_waits_for_it(board: Board) -> None:
    parent = board.add("parent")
    child = board.add("child", parent=parent)
    assert board.states(parent, child) == ["pending", "ready"]


def test_a_completed_task_that_gets_a_child_is_no_longer_completed(board: Board) -> None:
    parent = board.add("parent")
    board.do(parent)
    child = board.add("child", parent=parent)
    assert board.states(parent, child) == ["pending", "ready"]
    board.do(child)
    assert board.state(parent) == "completed"


def test_a_cancelled_task_takes_no_children(board: Board) -> None:
    parent = board.add()
    board.cancel(parent)
    with pytest.raises(Conflict) as refused:
        board.add(parent=parent)
    assert refused.value.code == "parent_cancelled"


@pytest.mark.parametrize("kind", [EdgeKind.BLOCKS, EdgeKind.SOFT, EdgeKind.ON_FAILURE])
def test_a_child_that_would_wait_for_its_own_parent_is_refused(board: Board, kind: EdgeKind) -> None:
    """The parent waits for the child, so this is a circle, however long the way."""
    grandparent = board.add("grandparent")
    parent = board.add("parent", parent=grandparent)
    after_parent = board.add("later", after=[parent])
    later_still = board.add("later still", after=[after_parent])
    for on in (parent, grandparent, after_parent, later_still):
        with pytest.raises(CycleRefused) as refused:
            board.add("child", parent=parent, after=[(on, kind)])
        circle = refused.value.details["cycle"]
        assert circle[0] == circle[-1]
        assert f"T{parent}" in circle
        assert f"T{on}" in circle
    assert board.states(parent, after_parent, later_still) == ["ready", "pending", "pending"]


def test_a_child_may_wait_for_its_sibling(board: Board) -> None:
    parent = board.add("parent")
    first = board.add("first", parent=parent)
    second = board.add("second", parent=parent, after=[first])
    assert board.states(parent, first, second) == ["pending", "ready", "pending"]


def test_depth_and_number_of_children_are_limited(board: Board) -> None:
    limits = Limits(max_depth=3, max_children=2)
    top = board.add(limits=limits)
    middle = board.add(parent=top, limits=limits)
    board.add(parent=middle, limits=limits)
    lowest = board.add(parent=middle, limits=limits)
    with pytest.raises(InvalidInput) as refused:
        board.add(parent=lowest, limits=limits)
    assert refused.value.code == "too_deep"
    with pytest.raises(InvalidInput) as refused:
        board.add(parent=middle, limits=limits)
    assert refused.value.code == "too_many_children"
    with pytest.raises(InvalidInput):
        board.store.write(lambda tx: create.create_all(tx, [NewTask("t", parent=top)] * 2, limits))


def test_a_full_queue_says_when_to_come_back_and_stores_nothing(board: Board) -> None:
    limits = Limits(max_open=3)
    tasks = [board.add(limits=limits) for _ in range(3)]
    with pytest.raises(Backpressure) as refused:
        board.add(limits=limits)
    assert refused.value.details["retry_after_s"] > 0
    assert len(board.raw.rows("select * from tasks")) == 3
    run = board.take(tasks[0])
    board.add(limits=limits)
    with pytest.raises(Backpressure):
        board.store.write(lambda tx: create.create_all(tx, [NewTask("t")] * 4, limits))
    board.complete(run)


def test_many_who_fill_a_queue_at_once_fill_it_exactly(board: Board, store_url: str) -> None:
    limits, refused = Limits(max_open=30), []

    def fill(number: int) -> None:
        with closing(open_store(store_url)) as store:
            try:
                for step in range(30):
                    new = [NewTask(f"{number}.{step}.{one}") for one in range(1 + (number + step) % 3)]
                    store.write(lambda tx, new=new: create.create_all(tx, new, limits))  # type: ignore[misc]
            except Backpressure as full:
                refused.append(full)

    fillers = [threading.Thread(target=fill, args=(number,)) for number in range(6)]
    for filler in fillers:
        filler.start()
    for filler in fillers:
        filler.join()
    assert len(refused) == 6
    assert 28 <= len(board.raw.rows("select 1 from tasks")) <= 30


def test_open_tasks_are_counted_only_where_the_room_may_be_gone(board: Board) -> None:
    limits = Limits(max_open=50)
    counted = "select waiting_counted, waiting_up_to from projects"
    tasks = [board.add(limits=limits) for _ in range(40)]
    assert [tuple(row.values()) for row in board.raw.rows(counted)] == [(0, 0)]
    for _ in range(30):
        board.complete(board.take(tasks.pop(0)))
    for _ in range(40):
        board.add(limits=limits)
    [known] = board.raw.rows(counted)
    assert known["waiting_up_to"] == 50
    assert known["waiting_counted"] == 20
    with pytest.raises(Backpressure):
        board.add(limits=limits)


def test_a_key_is_taken_once_in_a_plan(board: Board) -> None:
    task = board.add(plan="p", key="k")
    with pytest.raises(Conflict) as refused:
        board.add(plan="p", key="k")
    assert refused.value.code == "key_taken"
    assert f"T{task}" in refused.value.message
    assert board.add(plan="q", key="k") > task
    with pytest.raises(Conflict):
        board.store.write(lambda tx: create.create_all(tx, [NewTask("t", key="x"), NewTask("t", key="x")]))


def test_of_many_who_want_a_key_at_once_one_gets_it(store_url: str, raw: Any) -> None:
    """On PostgreSQL all look before any of them writes; the others are told who was first, not what the index said."""
    open_store(store_url).close()
    answers: list[object] = []
    go = threading.Barrier(6, timeout=20)

    def want() -> None:
        mine = open_store(store_url)
        go.wait()
        try:
            answers.append(mine.write(lambda tx: create.create(tx, NewTask("t", key="k"))))
        except Conflict as refused:
            answers.append(refused.code)
        mine.close()

    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, answers)) == sorted(["1", *["key_taken"] * 5]) or len(raw.rows("select * from tasks")) == 1
    assert [a for a in answers if a != "key_taken"] == [a for a in answers if isinstance(a, int)]
    assert len(answers) == 6


def test_many_who_wait_for_one_ready_task_do_not_get_in_each_others_way(store_url: str, raw: Any) -> None:
    """Each of them changes the rank of the task it waits for; none may pay for a deadlock with its work."""
    store = open_store(store_url)
    first = store.write(lambda tx: create.create(tx, NewTask("first")))
    errors: list[BaseException] = []

    def work() -> None:
        mine = open_store(store_url)
        try:
            for _ in range(10):
                mine.write(lambda tx: create.create(tx, NewTask("t", waits=(Wait(first),))))
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
        finally:
            mine.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert errors == []
    assert raw.rows("select count(*) as n from edges where prerequisite = ?", first)[0]["n"] == 80


@pytest.mark.parametrize(
    "text",
    [
        "ÄÖÜ ß 日本語 🎼",
        "'; drop table tasks; --",
        "%s %(x)s :now {now} {ids[]}",
        "a\tb".replace("\t", " "),
        "a\u202eb",
    ],
)
def test_what_people_write_is_kept_letter_by_letter(board: Board, text: str) -> None:
    task = board.add(text, description=text * 100, context={text: text}, metadata={"x": [text]})
    row = board.task(task)
    assert (row["title"], row["description"]) == (text, text * 100)
    assert board.store.read(lambda tx: tx.all("list_tasks", after=0, limit=5))[0]["title"] == text


@pytest.mark.parametrize(
    "fields",
    [
        {"title": ""},
        {"title": " \n"},
        {"title": "x" * 256},
        {"title": "a\0b"},
        {"title": "a\nb"},
        {"title": "\ud800"},
        {"description": "a\0b"},
        {"description": "\udfff"},
        {"priority": 0},
        {"priority": 11},
        {"priority": float("nan")},
        {"max_retries": -1},
        {"retry_delay_s": -1},
        {"timeout_s": 0},
        {"effort_min": -1},
        {"plan": "run"},
        {"plan": "../etc"},
        {"plan": ""},
        {"role": "a b"},
        {"role": "../x"},
        {"tags": ("",)},
        {"tags": ("x" * 200,)},
        {"needs": ("a b",)},
        {"complexity": "hard"},
        {"merge": "maybe"},
        {"checks": ("",)},
        {"command": " "},
        {"gates": (NewGate(EdgeKind.APPROVAL, "a\0b"),)},
        {"gates": (NewGate(EdgeKind.APPROVAL, "\ud800"),)},
        {"after": [(1, EdgeKind.BLOCKS, "a\0b")]},
        {"due_at": 2**80},
        {"due_at": 10**15},
        {"gates": (NewGate(EdgeKind.TIME, "", 10**15),)},
    ],
)
def test_hostile_values_are_refused_in_words_and_leave_nothing(board: Board, fields: dict[str, Any]) -> None:
    board.add("the first")
    with pytest.raises(InvalidInput) as refused:
        board.add(**fields)
    assert refused.value.message
    assert refused.value.hint
    assert len(board.raw.rows("select * from tasks")) == 1


# --- size -------------------------------------------------------------------------------------------------------------

SIZES = {"sqlite": 100_000, "postgres": 10_000}


@pytest.mark.long
def test_a_chain_of_100_000_is_made_and_moves_on_step_by_step(dialect: str, board: Board) -> None:
    size = SIZES[dialect]
    _fast(board)
    ids = board.store.write(lambda tx: _chain(tx, size))
    assert board.states(ids[0], ids[1], ids[-1]) == ["ready", "pending", "pending"]
    assert board.do(ids[0]) == [ids[1]]
    assert board.do(ids[1]) == [ids[2]]
    with pytest.raises(CycleRefused) as refused:
        board.depend(ids[5], ids[-1])
    assert len(refused.value.message) < 2000
    assert refused.value.details["cycle"][:2] == [f"T{ids[5]}", f"T{ids[-1]}"]
    # Failure is not carried past the direct dependant: that one is blocked, and nothing behind it can go on.
    board.spoil(ids[2])
    assert board.states(ids[3], ids[4]) == ["blocked", "pending"]


@pytest.mark.long
def test_a_fan_of_100_000_is_made_and_released_at_once(dialect: str, board: Board) -> None:
    size = SIZES[dialect]
    _fast(board)
    root = board.add("root")
    ids = board.store.write(
        lambda tx: create.create_all(tx, [NewTask(f"t{n}", waits=(Wait(root),)) for n in range(size)])
    )
    assert board.do(root) == ids
    last = board.add("last", after=ids[:1000])
    board.cancel(ids[0])
    assert board.state(last) == "blocked"
    assert len(board.why(last)) < 100


def _fast(board: Board) -> None:
    """Durability is not what this test asks for."""
    if board.store.dialect == "sqlite":
        board.store._connection().execute("pragma synchronous = off")  # type: ignore[attr-defined]


def _chain(tx: Any, size: int) -> list[int]:
    ids = create.write_rows(tx, [NewTask(f"t{n}") for n in range(size)], Limits())
    edge = {"kind": "blocks", "waived": 0, "reason": None}
    pairs = zip(ids[1:], ids, strict=False)
    tx.each("add_edge", [{**edge, "task": task, "prerequisite": on, "heir_of": task} for task, on in pairs])
    settle.settle(tx, waiting=ids)
    return ids
