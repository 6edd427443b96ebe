"""What happens by itself: back-offs, moments, deadlines, and claims without a sign of life."""

from __future__ import annotations

import threading

import pytest
from board import HOUR, LEASE, MINUTE, Board

from orchestrion.core.errors import AlreadyTaken, InvalidInput, StaleRun
from orchestrion.core.model import NewGate, NewTask, Run
from orchestrion.core.states import EdgeKind
from orchestrion.ops import leases
from orchestrion.scheduler import breaker, claim, create, explain, finish, reap
from orchestrion.store import Transaction, open_store


def clean_up(board: Board, age_s: float = 3600, alive: tuple[int, ...] = ()) -> int:
    def looked_for(tx: Transaction) -> int:
        return reap.cleanup_stale_locks(tx, age_s, {row["id"] for row in reap.silent(tx, age_s)} - set(alive))

    return board.store.write(looked_for)


def test_nothing_is_due_in_an_empty_store(board: Board) -> None:
    assert board.reap() == 0
    assert board.store.read(reap.next_timer) is None
    assert clean_up(board) == 0


def test_a_time_gate_opens_at_its_moment_and_not_before(board: Board) -> None:
    now = board.store.now
    assert now is not None
    parent = board.add(gates=(NewGate(EdgeKind.TIME, "", now + HOUR),))
    child = board.add(parent=parent)
    assert board.store.read(reap.next_timer) == now + HOUR
    board.pass_time(HOUR - 1)
    assert board.reap() == 0
    assert board.states(parent, child) == ["pending", "pending"]
    board.pass_time(1)
    assert board.reap() == 1
    assert board.states(parent, child) == ["pending", "ready"]
    assert board.raw.rows("select * from gates")[0]["decided_by"] == "clock"


def test_a_moment_that_has_passed_opens_at_the_next_look(board: Board) -> None:
    task = board.add(gates=(NewGate(EdgeKind.TIME, "", 5),))
    got = board.claim()
    assert got is not None
    assert got.task == task


def test_the_next_timer_is_the_nearest_of_all(board: Board) -> None:
    now = board.store.now
    assert now is not None
    task = board.add()
    board.fail(board.take(task), code="network")
    assert board.store.read(reap.next_timer) == now + MINUTE
    board.add(gates=(NewGate(EdgeKind.TIME, "", now + 10),))
    assert board.store.read(reap.next_timer) == now + 10


def test_a_crowd_is_moved_on_a_hundred_at_a_time(board: Board) -> None:
    moment = board.store.now + 5  # type: ignore[operator]
    new = [NewTask("t", gates=(NewGate(EdgeKind.TIME, "", moment),))] * 250
    board.store.write(lambda tx: create.create_all(tx, new))
    board.pass_time(10)
    assert [board.reap() for _ in range(4)] == [100, 100, 50, 0]


def test_many_who_look_at_once_move_each_task_once(store_url: str, raw: object, board: Board) -> None:
    """Every claim looks for what is due; on PostgreSQL several see the same back-off end."""
    tasks = [board.add() for _ in range(10)]
    for task in tasks:
        board.fail(board.take(task), code="network")
    go = threading.Barrier(6, timeout=20)

    def look() -> None:
        mine = open_store(store_url, now=board.store.now + MINUTE)  # type: ignore[operator]
        go.wait()
        mine.write(reap.due)
        mine.close()

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for task in tasks:
        moves = [e["to_state"] for e in board.events(task) if e["from_state"] == "retrying"]
        assert moves == ["pending"]
        assert board.state(task) == "ready"


# --- stale locks ------------------------------------------------------------------------------------------------------


def test_a_claim_is_stale_when_its_lease_is_over_or_it_was_silent_too_long(board: Board) -> None:
    expired, silent, fresh = board.add(), board.add(), board.add()
    board.take(expired, lease_ms=10 * MINUTE, supervised=True)
    board.take(silent, lease_ms=100 * HOUR)
    board.pass_time(HOUR)
    run = board.take(fresh, lease_ms=100 * HOUR)
    assert clean_up(board, 3601) == 1
    assert board.states(expired, silent, fresh) == ["retrying", "in_progress", "in_progress"]
    assert clean_up(board, 3600) == 1
    assert board.states(silent, fresh) == ["ready", "in_progress"]
    assert clean_up(board, 0, alive=(run,)) == 0
    assert clean_up(board, 0) == 1
    assert board.state(fresh) == "ready"
    assert clean_up(board, 0) == 0


@pytest.mark.parametrize("takes", ["the best", "by name"])
def test_a_claim_takes_what_a_client_held_whose_lease_is_over(board: Board, takes: str) -> None:
    """No worker is needed for it. What a supervisor holds is its host's to give up."""
    ours, theirs = board.add(), board.add()
    gone = board.take(ours, lease_ms=MINUTE)
    board.take(theirs, lease_ms=MINUTE, supervised=True)
    board.pass_time(MINUTE - 1)
    claimant = claim.Claimant(lease_ms=LEASE)
    with pytest.raises(AlreadyTaken):
        board.take(ours)
    assert board.store.write(lambda tx: claim.claim(tx, claimant)) is None
    board.pass_time(1)
    [why] = board.store.read(lambda tx: explain.why(tx, ours))[1]
    assert "the next claim frees it" in why.detail
    if takes == "by name":
        run = board.take(ours)
    else:
        taken = board.store.write(lambda tx: claim.claim(tx, claimant))
        assert taken is not None
        run = taken.run
    assert (board.run(run)["task"], board.run(gone)["state"], board.run(gone)["reason"]) == (
        ours,
        "lost",
        reap.LEASE_OVER,
    )
    assert board.state(theirs) == "in_progress"
    with pytest.raises(StaleRun):
        board.complete(gone)


def test_a_heartbeat_keeps_a_claim_fresh(board: Board) -> None:
    task = board.add()
    run = board.take(task, lease_ms=2 * HOUR)
    board.pass_time(HOUR)
    board.store.write(lambda tx: finish.renew(tx, run))
    board.pass_time(HOUR - 1)
    assert clean_up(board) == 0
    board.pass_time(1)
    assert clean_up(board) == 1
    assert (board.run(run)["state"], board.run(run)["reason"]) == ("lost", "no sign of life")


def test_a_run_that_is_known_to_live_keeps_its_task_even_with_an_expired_lease(board: Board) -> None:
    task = board.add()
    run = board.take(task, lease_ms=MINUTE)
    board.pass_time(HOUR)
    assert clean_up(board, alive=(run,)) == 0
    assert board.state(task) == "in_progress"


def test_a_task_whose_claims_go_stale_again_and_again_fails(board: Board) -> None:
    task = board.add(max_retries=1)
    for _ in range(2):
        board.take(task)
        board.pass_time(LEASE)
        assert clean_up(board) == 1
    assert (board.state(task), board.task(task)["code"]) == ("failed", "lost_repeatedly")


def test_cleaning_up_frees_what_ended_runs_still_hold(board: Board) -> None:
    board.limit("global", 2)
    run = board.take(board.add(), supervised=True)
    board.store.write(lambda tx: finish.kill(tx, run, "so"))
    board.raw.run("insert into holds (run, project, slot) values (?, 1, 'global')", run)
    assert board.slots()["global"] == (1, 2)
    assert clean_up(board) == 1
    assert board.slots()["global"] == (0, 2)


@pytest.mark.parametrize("age", [-1, float("nan"), float("inf"), 1e10])
def test_ages_that_mean_nothing_are_refused(board: Board, age: float) -> None:
    with pytest.raises(InvalidInput) as refused:
        clean_up(board, age)
    assert refused.value.code == "invalid_age"


def test_another_projects_claims_are_left_alone(store_url: str) -> None:
    one, two = (open_store(store_url, project=name, now=10**12) for name in ("one", "two"))
    one.write(lambda tx: create.create(tx, NewTask("t")))
    assert one.write(lambda tx: claim.claim(tx, claim.Claimant(lease_ms=5)))
    two.now = 10**13
    assert two.read(reap.expired) == []
    assert two.write(lambda tx: reap.cleanup_stale_locks(tx, 0, ())) == 0
    assert len(one.read(lambda tx: tx.all("active_runs"))) == 1
    one.close()
    two.close()


# -- a clock that ran ahead ------------------------------------------------------------------------------------

YEAR = 365 * 24 * HOUR


def ahead(board: Board) -> int:
    """The clock runs a year ahead from now on; what time it is in truth."""
    now = board.store.now
    assert now is not None
    board.store.now = now + YEAR
    return now


def test_a_claim_of_a_clock_that_ran_ahead_lasts_for_a_lease_once_it_is_right(board: Board) -> None:
    task = board.add()
    now = ahead(board)
    run = board.take(task)
    board.store.now = now
    assert board.store.write(reap.bound) == 1
    row = board.raw.rows("select lease_until, lease_ms from runs where id = ?", run)[0]
    assert row["lease_until"] == now + row["lease_ms"]
    assert board.store.read(reap.is_ahead) is False
    assert board.store.read(reap.expired) == []
    board.pass_time(row["lease_ms"])
    assert [one["id"] for one in board.store.read(reap.expired)] == [run]
    assert [one["data"] for one in board.raw.rows("select data from events where kind = 'clock.set_back'")] == [
        '{"runs": 1, "tasks": 0, "breakers": 0}'
    ]


def test_a_cleanup_leaves_such_a_claim_for_as_long_as_one_of_a_clock_that_is_right(board: Board) -> None:
    task = board.add()
    now = ahead(board)
    run = board.take(task)
    board.store.now = now
    assert clean_up(board, 60) == 0
    lease = board.raw.rows("select lease_until - lease_ms as given from runs where id = ?", run)[0]
    assert lease["given"] == now
    board.pass_time(MINUTE - 1)
    assert clean_up(board, 60) == 0
    board.pass_time(1)
    assert clean_up(board, 60, alive=(run,)) == 0
    assert clean_up(board, 60) == 1
    assert board.states(task) != ["in_progress"]


def test_a_small_jump_of_the_clock_changes_nothing(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    lease_ms = board.raw.rows("select lease_ms from runs where id = ?", run)[0]["lease_ms"]
    board.store.now -= lease_ms  # type: ignore[operator]
    assert board.store.write(reap.bound) == 0
    assert board.store.write(lambda tx: reap.cleanup_stale_locks(tx, 1e6, ())) == 0


def test_a_back_off_begun_under_a_clock_that_ran_ahead_is_as_long_as_it_was_to_be(board: Board) -> None:
    task = board.add()
    now = ahead(board)
    board.fail(board.take(task), code="network")
    board.store.now = now
    for _ in range(2):
        board.store.write(reap.bound)
        assert board.store.read(reap.next_timer) == now + MINUTE
    board.pass_time(MINUTE)
    assert board.reap() == 1
    assert board.states(task) == ["ready"]


def test_a_breaker_opened_under_a_clock_that_ran_ahead_is_open_for_as_long_as_any_may_be(board: Board) -> None:
    now = ahead(board)
    rules = breaker.Rules(failures=1)
    board.store.write(lambda tx: breaker.failed(tx, "claude", "auth_failed", rules))
    board.store.now = now
    assert board.store.write(reap.bound) == 1
    assert board.store.read(breaker.blocked) == {"claude"}
    board.pass_time(int(breaker.LONGEST_ASKED_S * 1000))
    assert board.store.read(breaker.blocked) == frozenset()


def test_a_lease_of_the_house_taken_under_such_a_clock_is_over(board: Board) -> None:
    now = ahead(board)
    assert leases.take(board.store, "maintenance", "one", 60)
    board.store.now = now
    assert leases.take(board.store, "maintenance", "two", 60)
    assert not leases.take(board.store, "maintenance", "three", 60)


def test_a_run_that_began_in_the_future_took_no_time(board: Board) -> None:
    task = board.add()
    now = ahead(board)
    run = board.take(task)
    board.store.now = now
    assert board.store.read(lambda tx: Run(tx.the("run", id=run))).as_json()["duration_s"] == 0
