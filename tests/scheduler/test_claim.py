"""Taking tasks: the order, who may have which, limits that do not hide others, and one winner."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from board import HOUR, LEASE, MINUTE, Board

from orchestrion.core.errors import AlreadyTaken, Backpressure, Conflict, InvalidInput, NotFound, NothingReady
from orchestrion.core.model import NewTask
from orchestrion.core.states import EdgeKind
from orchestrion.scheduler import claim, create, reap
from orchestrion.store import open_store


def order(board: Board) -> list[int]:
    """Claims until nothing is ready: the tasks in the order in which they were given out."""
    taken = []
    while got := board.claim():
        taken.append(got.task)
    return taken


def test_a_claim_is_a_run_that_holds_the_task(board: Board) -> None:
    task = board.add(role="tester")
    got = board.claim(agent="claude", host="here")
    assert got is not None
    assert (got.task, got.attempt, got.agent, got.role) == (task, 1, "claude", "tester")
    assert got.lease_until == board.store.now + LEASE  # type: ignore[operator]
    row, run = board.task(task), board.run(got.run)
    assert (row["state"], row["run"], row["attempts"], row["started_at"]) == (
        "in_progress",
        got.run,
        1,
        board.store.now,
    )
    assert (run["task"], run["attempt"], run["agent"], run["host"]) == (task, 1, "claude", "here")
    assert (run["queued_at"], run["claimed_at"]) == (board.store.now, board.store.now)
    assert board.claim() is None


def test_a_clients_run_works_from_its_claim_on_a_workers_run_from_its_start(board: Board) -> None:
    board.add()
    board.add()
    mine, theirs = board.claim(), board.claim(supervised=True)
    assert mine is not None
    assert theirs is not None
    assert board.run(mine.run)["state"] == "running"
    assert board.run(mine.run)["started_at"] == board.store.now
    assert board.run(theirs.run)["state"] == "starting"
    assert board.run(theirs.run)["started_at"] is None


def test_nothing_ready_is_an_answer_that_says_what_there_is(board: Board) -> None:
    assert board.claim() is None
    first = board.add()
    board.fail(board.take(first), code="network")
    answer = board.store.read(claim.nothing_ready)
    assert answer.code == "nothing_ready"
    assert answer.details["next_timer"]


# --- order ------------------------------------------------------------------------------------------------------------


def test_higher_priority_first_then_older_first(board: Board) -> None:
    low, high, middle, high2 = (board.add(priority=p) for p in (1, 9, 5, 9))
    assert order(board) == [high, high2, middle, low]


def test_one_step_of_priority_outweighs_one_hour_of_waiting_and_no_more(board: Board) -> None:
    old = board.add("old", priority=5)
    board.pass_time(HOUR - 1)
    just = board.add("just within the hour", priority=6)
    board.pass_time(2)
    late = board.add("an hour later", priority=6)
    assert order(board) == [just, old, late]


def test_nothing_starves(board: Board) -> None:
    """After nine hours a task of the lowest priority goes before new ones of the highest."""
    patient = board.add(priority=1)
    board.pass_time(9 * HOUR + 1)
    board.add(priority=10)
    assert order(board)[0] == patient


def test_a_deadline_within_the_hour_counts_two_steps(board: Board) -> None:
    other = board.add(priority=6)
    soon = board.add(priority=5, due_at=board.store.now + HOUR)  # type: ignore[operator]
    later = board.add(priority=5, due_at=board.store.now + 3 * HOUR)  # type: ignore[operator]
    assert order(board) == [soon, other, later]


def test_a_deadline_that_comes_near_promotes_a_task_that_was_ready_before(board: Board) -> None:
    due = board.add(priority=5, due_at=board.store.now + 2 * HOUR)  # type: ignore[operator]
    other = board.add(priority=6)
    board.pass_time(HOUR - MINUTE)
    assert board.reap() == 0
    board.pass_time(2 * MINUTE)
    assert board.reap() == 1
    assert board.reap() == 0, "once"
    assert order(board) == [due, other]


def test_a_claim_promotes_by_itself_and_not_twice(board: Board) -> None:
    due = board.add(priority=5, due_at=board.store.now + 2 * HOUR)  # type: ignore[operator]
    high = board.add(priority=8)
    seven = board.add(priority=6)
    board.pass_time(HOUR + MINUTE)
    board.add(after=[due])
    assert board.task(due)["rank"] == board.task(due)["ready_at"] - 8 * HOUR
    assert order(board)[:3] == [due, high, seven]


def test_a_deadline_that_is_put_off_counts_no_more(board: Board) -> None:
    now = board.store.now
    assert now is not None
    due = board.add(priority=5, due_at=now + HOUR)
    other = board.add(priority=6)
    board.update(due, due_at=now + 9 * HOUR)
    assert board.task(due)["urgent"] == 0
    assert order(board) == [other, due]


def test_promotion_of_a_crowd_is_bounded_and_goes_on(board: Board) -> None:
    due_at = board.store.now + 2 * HOUR  # type: ignore[operator]
    board.store.write(lambda tx: create.create_all(tx, [NewTask("t", due_at=due_at)] * 150))
    board.pass_time(HOUR)
    assert [board.reap() for _ in range(3)] == [100, 50, 0]


def test_what_blocks_others_goes_first(board: Board) -> None:
    plain, blocking = board.add("plain"), board.add("blocking")
    waiting = board.add(after=[blocking])
    assert order(board) == [blocking, plain]
    assert board.state(waiting) == "pending"


def test_a_boost_ends_with_the_wait_that_gave_it(board: Board) -> None:
    for end in (board.undepend, board.waive):
        plain, blocking = board.add("plain"), board.add("blocking")
        task = board.add("waits", after=[blocking])
        end(task, blocking)
        assert board.task(blocking)["rank"] == board.task(plain)["rank"]
        deleted = board.add("waits", after=[blocking])
        from orchestrion.scheduler import decide

        board.store.write(lambda tx, d=deleted: decide.delete(tx, d))
        assert board.task(blocking)["rank"] == board.task(plain)["rank"]
        board.depend(task, blocking, EdgeKind.SOFT)
        assert board.task(blocking)["rank"] == board.task(plain)["rank"] - HOUR
        board.cancel(task)


def test_after_a_retry_a_task_goes_behind_its_equals_but_not_below_one(board: Board) -> None:
    task, lowest = board.add("task"), board.add("lowest", priority=1)
    for one in (task, lowest):
        board.fail(board.take(one), code="network")
    board.pass_time(MINUTE)
    equal, equally_low = board.add("equal"), board.add("equally low", priority=1)
    assert order(board) == [equal, task, lowest, equally_low]


def test_a_new_priority_holds_at_once(board: Board) -> None:
    first, second = board.add(), board.add()
    board.update(second, priority=6)
    assert order(board) == [second, first]


# --- who may have which -----------------------------------------------------------------------------------------------


def test_by_role_by_tag_by_agent(board: Board) -> None:
    plain = board.add("plain", priority=9)
    tester = board.add("tester", role="tester", tags=("ui",))
    codex = board.add("codex", agent="codex", tags=("ui",))

    def first(**who: Any) -> int | None:
        got = board.store.rehearse(lambda tx: claim.claim(tx, claim.Claimant(lease_ms=LEASE, **who)))
        return got.task if got else None

    assert first() == plain
    assert first(roles=("tester",)) == tester
    assert first(roles=("writer",)) is None
    assert first(tag="ui") == tester
    assert first(tag="ui", roles=("", "writer")) == codex
    assert first(tag="nothing") is None
    assert first(only_agent="codex") == plain
    assert first(only_agent="codex", tag="ui") == tester
    assert first(roles=("",), only_agent="gemini") == plain
    assert first(tag="ui", roles=("",), only_agent="gemini") is None
    assert first(agent_of_role={"tester": "gemini"}, roles=("tester",), only_agent="codex") is None


def test_the_agent_is_the_tasks_the_roles_or_the_claimants(board: Board) -> None:
    given, of_role, free = board.add(agent="codex"), board.add(role="tester"), board.add()
    agents = {}
    for _ in range(3):
        got = board.claim(agent="claude", agent_of_role={"tester": "gemini", "": ""})
        assert got is not None
        agents[got.task] = got.agent
    assert agents == {given: "codex", of_role: "gemini", free: "claude"}


def test_a_paused_queue_starts_no_supervised_run(board: Board) -> None:
    board.add()
    board.store.write(lambda tx: tx.run("pause", paused=1))
    assert board.claim(supervised=True) is None
    board.store.write(lambda tx: tx.run("pause", paused=0))
    assert board.claim(supervised=True) is not None


def test_a_parent_is_never_claimed(board: Board) -> None:
    parent = board.add(priority=10)
    child = board.add(parent=parent)
    assert order(board) == [child]
    with pytest.raises(NothingReady):
        board.take(parent)


# --- one by name ------------------------------------------------------------------------------------------------------


def test_a_named_task_is_taken_whatever_its_place(board: Board) -> None:
    board.add(priority=10)
    task = board.add(priority=1, role="tester", agent="codex")
    run = board.take(task, agent="claude", only_agent="gemini")
    assert board.run(run)["agent"] == "codex" or board.run(run)["agent"] == "gemini"


def test_a_named_task_that_cannot_be_taken_says_why(board: Board) -> None:
    with pytest.raises(NotFound):
        board.take(999)
    task, first = board.add(), board.add()
    run = board.take(task)
    with pytest.raises(AlreadyTaken) as taken:
        board.take(task)
    assert taken.value.details["run"] == f"R{run}"
    waiting = board.add(after=[first])
    with pytest.raises(NothingReady) as waits:
        board.take(waiting)
    assert waits.value.details["state"] == "pending"
    board.limit("global", 0)
    with pytest.raises(Backpressure) as full:
        board.take(first, supervised=True)
    assert "global" in full.value.message
    assert full.value.details["retry_after_s"] > 0
    assert board.state(first) == "ready"


def test_of_many_who_name_a_task_one_gets_it_and_the_others_hear_who(store_url: str, raw: Any) -> None:
    store = open_store(store_url)
    task = store.write(lambda tx: create.create(tx, NewTask("t")))
    answers: list[object] = []
    go = threading.Barrier(8, timeout=20)

    def want() -> None:
        mine = open_store(store_url)
        go.wait()
        try:
            answers.append(mine.write(lambda tx: claim.claim_task(tx, task, claim.Claimant(lease_ms=LEASE))).run)
        except Conflict as refused:
            answers.append((refused.code, refused.details["run"]))
        finally:
            mine.close()

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    winner = next(answer for answer in answers if isinstance(answer, int))
    assert sorted(map(str, answers)) == sorted(map(str, [winner, *[("already_taken", f"R{winner}")] * 7]))
    assert len(raw.rows("select * from runs")) == 1


# --- limits hide nothing ----------------------------------------------------------------------------------------------


def test_a_full_lane_does_not_hide_the_others(board: Board) -> None:
    board.limit("role:tester", 1)
    board.limit("agent:codex", 0)
    for _ in range(3):
        board.add(role="tester", priority=10)
        board.add(agent="codex", priority=9)
    plain = [board.add(priority=1), board.add(priority=1)]
    got = []
    while one := board.claim(supervised=True, agent="claude"):
        got.append(one.task)
    assert got[1:] == plain
    assert len(got) == 3
    assert board.slots()["role:tester"] == (1, 1)


def test_a_full_resource_does_not_hide_what_needs_none_of_it(board: Board) -> None:
    one, two = board.add(needs=("gpu",), priority=9), board.add(needs=("gpu", "desk"), priority=9)
    desk = board.add(needs=("desk",), priority=1)
    assert order(board) == [one, desk]
    assert board.state(two) == "ready"


def test_a_crowd_of_tagged_tasks_in_full_lanes_hides_nothing(board: Board) -> None:
    """However many tasks of other roles or full limits have the tag, the one that can be taken is found."""
    board.limit("role:tester", 0)
    crowd = [NewTask("t", role="tester", tags=("ui",), priority=9)] * 150
    board.store.write(lambda tx: create.create_all(tx, crowd))
    task = board.add(role="writer", tags=("ui",), priority=1)
    got = board.claim(tag="ui", supervised=True)
    assert got is not None
    assert got.task == task
    again = board.add(role="writer", tags=("ui",), priority=1)
    got = board.claim(tag="ui", roles=("writer",))
    assert got is not None
    assert got.task == again


def test_a_lane_whose_tasks_others_are_just_taking_does_not_hide_the_next_lane(dialect: str, board: Board) -> None:
    best = [board.add(role="tester", priority=9), board.add(role="tester", priority=9)]
    other = board.add(role="writer", priority=1)
    if dialect == "postgres":
        board.raw.run("begin")
        board.raw.rows("select id from tasks where id in (?, ?) for update", *best)
        got = board.claim()
        board.raw.run("rollback")
        assert got is not None
        assert got.task == other
    assert order(board)[:2] == best


def test_a_claim_that_finds_no_room_leaves_nothing_behind(board: Board) -> None:
    board.limit("global", 1)
    board.add()
    task = board.add()
    assert board.claim(supervised=True) is not None
    assert board.claim(supervised=True) is None
    assert board.state(task) == "ready"
    assert len(board.raw.rows("select * from runs")) == 1
    assert board.claim() is not None, "a client is not bound by the global limit"


# --- leases -----------------------------------------------------------------------------------------------------------


def test_a_lease_that_ran_out_returns_the_task_to_the_next_claim(board: Board) -> None:
    task = board.add()
    first = board.take(task, lease_ms=MINUTE)
    board.pass_time(MINUTE - 1)
    assert board.store.read(reap.expired) == []
    board.pass_time(1)
    assert [run["id"] for run in board.store.read(reap.expired)] == [first]
    assert board.lose(first) == "pending"
    got = board.claim()
    assert got is not None
    assert (got.task, got.attempt) == (task, 2)
    assert got.run > first


def test_two_projects_do_not_claim_each_others_tasks(store_url: str) -> None:
    one, two = open_store(store_url, project="one"), open_store(store_url, project="two")
    task = one.write(lambda tx: create.create(tx, NewTask("t")))
    who = claim.Claimant(lease_ms=LEASE)
    assert two.write(lambda tx: claim.claim(tx, who)) is None
    with pytest.raises(NotFound):
        two.write(lambda tx: claim.claim_task(tx, task, who))
    assert one.write(lambda tx: claim.claim(tx, who)).task == task  # type: ignore[union-attr]
    one.close()
    two.close()


@pytest.mark.parametrize("who", ["agent", "only_agent"])
@pytest.mark.parametrize("named", ["evil\x1b]0;pwn\a\nY", "a\0b", "two words", "../up"])
def test_who_claims_has_a_name_that_a_task_could_give_it(board: Board, who: str, named: str) -> None:
    task = board.add()
    with pytest.raises(InvalidInput) as refused:
        board.claim(**{who: named})
    assert refused.value.code == "invalid_agent"
    assert board.state(task) == "ready"
