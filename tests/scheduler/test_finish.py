"""How runs end: what becomes of the task, and that a run which is over writes nothing any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from board import HOUR, LEASE, MINUTE, Board

from orchestrion.core import retry
from orchestrion.core.errors import Conflict, IllegalMove, InvalidInput, NotFound, OrchestrionError, StaleRun
from orchestrion.core.model import NewTask
from orchestrion.core.states import RunState, TaskState
from orchestrion.scheduler import claim, create, decide, finish, reap
from orchestrion.scheduler.finish import BackOff
from orchestrion.store import Transaction, open_store


def test_completing_stores_what_was_done_and_frees_what_waited(board: Board) -> None:
    task = board.add()
    later = board.add(after=[task])
    run = board.take(task)
    board.pass_time(MINUTE)
    assert board.complete(run, summary="wrote it", result="at length") == [later]
    row, ended = board.task(task), board.run(run)
    assert (row["state"], row["run"], row["work_run"]) == ("completed", None, run)
    assert (row["summary"], row["result"], row["completed_at"]) == ("wrote it", "at length", board.store.now)
    assert (ended["state"], ended["ended_at"], ended["summary"]) == ("succeeded", board.store.now, "wrote it")
    assert ended["ended_at"] - ended["started_at"] == MINUTE


def test_what_a_run_noted_before_stands_when_it_ends_without_a_word(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    board.store.write(lambda tx: finish.note(tx, run, summary="noted", head_commit="abc"))
    board.complete(run)
    assert (board.task(task)["summary"], board.run(run)["head_commit"]) == ("noted", "abc")


def test_work_handed_in_waits_for_a_person(board: Board) -> None:
    task = board.add()
    later = board.add(after=[task])
    run = board.take(task)
    board.store.write(lambda tx: finish.hand_in(tx, run, code="merge_conflict", reason="a.py", summary="done"))
    assert board.states(task, later) == ["review", "pending"]
    assert board.run(run)["state"] == "succeeded"
    assert (board.task(task)["code"], board.task(task)["reason"]) == ("merge_conflict", "a.py")


def test_a_question_blocks_the_task_until_it_is_answered(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    gate = board.store.write(lambda tx: finish.ask(tx, run, "which colour?", summary="half"))
    assert (board.state(task), board.run(run)["state"]) == ("blocked", "succeeded")
    board.open_gate(gate, answer="blue")
    assert board.state(task) == "ready"
    assert board.task(task)["attempts"] == 1


# --- failing and trying again -----------------------------------------------------------------------------------------


def test_the_delay_doubles_up_to_the_cap(board: Board) -> None:
    task = board.add(max_retries=9)
    delays = []
    for _ in range(9):
        at = board.fail(board.take(task), code="network")
        assert at is not None
        assert board.task(task)["retry_at"] == at
        delays.append((at - board.store.now) // 1000)  # type: ignore[operator]
        board.pass_time(at - board.store.now - 1)  # type: ignore[operator]
        assert board.reap() == 0
        assert board.state(task) == "retrying"
        board.pass_time(1)
        assert board.reap() == 1
        assert board.state(task) == "ready"
    assert delays == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert board.fail(board.take(task), code="network") is None
    row = board.task(task)
    assert (row["state"], row["attempts"], row["retries"], row["code"]) == ("failed", 10, 9, "network")


def test_a_service_that_asks_for_patience_costs_no_retry(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "MOST_DELAYS", 3)
    task = board.add(max_retries=0)
    for wait_s, asked_s in ((60, None), (300, 300), (240, 10)):
        at = board.fail(board.take(task), code="rate_limited", retry_after_s=asked_s)
        assert at == board.store.now + wait_s * 1000  # type: ignore[operator]
        assert board.task(task)["retries"] == 0
        board.pass_time(wait_s * 1000)
        board.reap()
    assert board.fail(board.take(task), code="rate_limited") is None
    assert board.state(task) == "failed"


def test_after_a_delay_the_agent_goes_on_where_it_was(board: Board) -> None:
    task = board.add()
    for session, turns in (("first", 3), ("second", 0)):
        run = board.take(task, supervised=True)
        board.store.write(lambda tx, run=run: finish.start(tx, run, pid=1, pid_start=1, host="here"))
        board.raw.run("update runs set session_id = ?, turns = ? where id = ?", session, turns, run)
        board.fail(run, code="rate_limited")
        # A session in which nothing was said yet is nothing to go on with.
        assert board.task(task)["session"] == "first"
        board.pass_time(300_000)
        board.reap()


def test_base_cap_and_jitter_are_given(board: Board) -> None:
    task = board.add(retry_delay_s=10)
    back_off = BackOff(cap_s=15, jitter=0.5, random=lambda: 1.0)
    at = board.fail(board.take(task), code="network", back_off=back_off)
    assert at == board.store.now + 15_000  # type: ignore[operator]
    board.pass_time(15_000)
    board.reap()
    assert board.fail(board.take(task), code="network", back_off=back_off) == board.store.now + 22_500  # type: ignore[operator]


def test_a_claim_takes_up_what_is_due_by_itself(board: Board) -> None:
    task = board.add()
    board.fail(board.take(task), code="network")
    board.pass_time(59_999)
    assert board.claim() is None
    board.pass_time(1)
    got = board.claim()
    assert got is not None
    assert got.task == task


@pytest.mark.parametrize("code", ["agent_failed", "check_failed", "timed_out", "max_turns", "auth_failed", "killed"])
def test_a_permanent_failure_fails_at_once(board: Board, code: str) -> None:
    task = board.add()
    later = board.add(after=[task])
    assert board.fail(board.take(task), code=code, error="because") is None
    row = board.task(task)
    assert (row["state"], row["code"], row["error"], row["retries"]) == ("failed", code, "because", 0)
    assert board.state(later) == "blocked"


def test_the_caller_may_overrule_the_taxonomy(board: Board) -> None:
    one, two = board.add(), board.add()
    assert board.fail(board.take(one), code="agent_failed", transient=True) is not None
    assert board.fail(board.take(two), code="network", transient=False) is None


def test_a_task_without_retries_fails_at_its_first_transient_failure(board: Board) -> None:
    task = board.add(max_retries=0)
    assert board.fail(board.take(task), code="network") is None
    assert board.state(task) == "failed"


def test_a_code_nobody_knows_is_refused_and_the_run_goes_on(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    with pytest.raises(InvalidInput) as refused:
        board.fail(run, code="agent_faild")
    assert refused.value.code == "unknown_failure_code"
    assert board.state(task) == "in_progress"


def test_a_limit_ends_a_run_as_timed_out_only_once_it_runs(board: Board) -> None:
    task = board.add()
    run = board.take(task, supervised=True)
    with pytest.raises(IllegalMove):
        board.fail(run, code="timed_out", state=RunState.TIMED_OUT)
    assert (board.state(task), board.run(run)["state"]) == ("in_progress", "starting")
    board.store.write(lambda tx: finish.start(tx, run, pid=5, pid_start=1, host="here"))
    board.fail(run, code="timed_out", state=RunState.TIMED_OUT)
    assert board.run(run)["state"] == "timed_out"


def test_a_run_that_never_started_succeeds_in_nothing(board: Board) -> None:
    task = board.add()
    run = board.take(task, supervised=True)
    with pytest.raises(IllegalMove):
        board.complete(run)
    assert board.state(task) == "in_progress"
    assert board.fail(run, code="workspace_failed") is not None


def test_a_retrying_task_whose_prerequisite_comes_back_waits_for_it(board: Board) -> None:
    first = board.add("first")
    task = board.add("task", after=[first])
    board.do(first)
    board.fail(board.take(task), code="network")
    board.reopen(first)
    assert board.state(task) == "retrying"
    board.pass_time(HOUR)
    board.reap()
    assert board.state(task) == "pending"


# --- giving back, losing, killing -------------------------------------------------------------------------------------


def test_giving_back_costs_no_retry(board: Board) -> None:
    task = board.add()
    for attempt in range(1, 6):
        run = board.take(task)
        board.store.write(lambda tx, run=run: finish.release(tx, run))
        assert board.state(task) == "ready"
        assert (board.task(task)["retries"], board.task(task)["attempts"]) == (0, attempt)
        assert (board.run(run)["state"], board.run(run)["code"]) == ("killed", "released")


def test_a_lost_run_returns_its_task_a_bounded_number_of_times(board: Board) -> None:
    task = board.add(max_retries=2)
    went = [board.lose(board.take(task)) for _ in range(3)]
    assert went == [TaskState.PENDING, TaskState.PENDING, TaskState.FAILED]
    row = board.task(task)
    assert (row["state"], row["code"], row["attempts"]) == ("failed", "lost_repeatedly", 3)
    assert {r["state"] for r in board.raw.rows("select state from runs")} == {"lost"}
    board.retry(task)
    assert board.lose(board.take(task)) == TaskState.PENDING, "a manual retry gives all attempts again"


def test_a_task_whose_supervisor_vanished_waits_each_time_twice_as_long(board: Board) -> None:
    task = board.add(max_retries=3)
    waited = []
    for _ in range(3):
        assert board.lose(board.take(task, supervised=True)) == TaskState.RETRYING
        row = board.task(task)
        waited.append((row["retry_at"] - board.store.now) / 1000)
        board.pass_time(row["retry_at"] - board.store.now)
        board.store.write(reap.due)
    assert waited == [finish.LOST_DELAY_S * 2**n for n in range(3)]
    assert board.lose(board.take(task, supervised=True)) == TaskState.FAILED


def test_a_task_that_is_to_wait_less_waits_less(board: Board) -> None:
    task = board.add(retry_delay_s=0.5)
    board.lose(board.take(task, supervised=True))
    assert board.task(task)["retry_at"] - board.store.now == 500


def test_lost_and_failed_attempts_are_counted_together(board: Board) -> None:
    task = board.add(max_retries=1)
    assert board.lose(board.take(task)) == TaskState.PENDING
    assert board.fail(board.take(task), code="network") is None


def test_a_run_is_lost_once(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    assert board.lose(run) == TaskState.PENDING
    assert board.lose(run) is None
    assert board.lose(999) is None
    second = board.take(task)
    assert board.lose(run) is None
    assert board.task(task)["run"] == second


def test_a_killed_run_leaves_a_failed_task(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    board.store.write(lambda tx: finish.kill(tx, run, "enough"))
    assert (board.state(task), board.run(run)["state"]) == ("failed", "killed")
    assert (board.task(task)["code"], board.task(task)["error"]) == ("killed", "killed: enough")
    board.retry(task)
    assert board.state(task) == "ready"


def test_nobody_ends_a_run_whose_work_goes_into_the_plan(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    board.store.write(lambda tx: finish.seal(tx, run))
    for end in (lambda tx: finish.kill(tx, run, "enough"), lambda tx: decide.cancel(tx, task, "not wanted")):
        with pytest.raises(Conflict, match="at this moment") as refused:
            board.store.write(end)
        assert refused.value.code == "run_landing"
        assert "reopen" in str(refused.value.hint)
    assert (board.state(task), board.run(run)["state"]) == ("in_progress", "running")
    board.store.write(lambda tx: finish.unseal(tx, run))  # the plan had moved on meanwhile
    board.store.write(lambda tx: finish.kill(tx, run, "enough"))
    assert (board.state(task), board.run(run)["state"]) == ("failed", "killed")


def test_a_sealed_run_that_is_lost_gives_its_task_back(board: Board) -> None:
    run = board.take(task := board.add())
    board.store.write(lambda tx: finish.seal(tx, run))
    assert board.lose(run) == TaskState.PENDING
    assert board.state(task) == "ready"


@pytest.mark.parametrize("supervised", [True, False])
@pytest.mark.parametrize("end", ["killed", "cancelled", "given up", "completed"])
def test_what_others_ended_is_seen_to(board: Board, end: str, supervised: bool) -> None:
    task = board.add()
    run = board.take(task, supervised=supervised, host="here")
    if supervised:
        board.store.write(lambda tx: finish.start(tx, run, pid=1, pid_start=1, host="here"))
    board.store.write(lambda tx: ENDS[end](tx, run))

    def unswept() -> list[int]:
        return board.store.read(lambda tx: [row["id"] for row in tx.all("unswept_runs")])

    assert unswept() == ([run] if supervised and end != "completed" else [])
    board.store.write(lambda tx: tx.run("run_swept", run=run))
    assert unswept() == []


# --- the run is the fence ---------------------------------------------------------------------------------------------

WRITES: dict[str, Callable[[Transaction, int], Any]] = {
    "complete": lambda tx, run: finish.complete(tx, run, summary="late"),
    "hand_in": lambda tx, run: finish.hand_in(tx, run, code="merge_conflict", reason="late"),
    "ask": lambda tx, run: finish.ask(tx, run, "late?"),
    "fail": lambda tx, run: finish.fail(tx, run, code="agent_failed", error="late"),
    "fail, transient": lambda tx, run: finish.fail(tx, run, code="network", error="late"),
    "release": finish.release,
    "kill": lambda tx, run: finish.kill(tx, run, "late"),
    "renew": finish.renew,
    "note": lambda tx, run: finish.note(tx, run, phase="merging", summary="late"),
    "seal": finish.seal,
    "unseal": finish.unseal,
    "start": lambda tx, run: finish.start(tx, run, pid=1, pid_start=1, host="there"),
}
ENDS: dict[str, Callable[[Transaction, int], Any]] = {
    "completed": finish.complete,
    "handed in": lambda tx, run: finish.hand_in(tx, run, code="merge_conflict", reason="x"),
    "failed": lambda tx, run: finish.fail(tx, run, code="agent_failed", error="x"),
    "retried": lambda tx, run: finish.fail(tx, run, code="network", error="x"),
    "released": finish.release,
    "killed": lambda tx, run: finish.kill(tx, run, "x"),
    "lost": lambda tx, run: finish.lose(tx, run, "x"),
    "given up": lambda tx, run: finish.give_up(tx, run, "x"),
    "cancelled": lambda tx, run: decide.cancel(tx, tx.the("run", id=run)["task"], "x"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_is_over_can_write_nothing(board: Board, end: str) -> None:
    task = board.add()
    run = board.take(task)
    board.store.write(lambda tx: ENDS[end](tx, run))
    tables = ("tasks", "runs", "edges", "gates", "events")
    before = [board.raw.rows(f"select * from {table} order by id") for table in tables]
    for name, write in WRITES.items():
        with pytest.raises(StaleRun) as refused:
            board.store.write(lambda tx, write=write: write(tx, run))
        assert refused.value.code == "stale_run", name
        assert refused.value.details["run"] == f"R{run}"
        assert refused.value.details["state"] == board.state(task)
    assert [board.raw.rows(f"select * from {table} order by id") for table in tables] == before


def test_a_run_whose_task_another_holds_can_write_nothing(board: Board) -> None:
    task = board.add()
    old = board.take(task)
    board.lose(old)
    new = board.take(task)
    for write in WRITES.values():
        with pytest.raises(StaleRun) as refused:
            board.store.write(lambda tx, write=write: write(tx, old))
        assert f"R{new}" in refused.value.message
    assert (board.task(task)["run"], board.run(new)["state"]) == (new, "running")
    board.complete(new)


def test_a_run_that_never_was_is_not_found(board: Board) -> None:
    for run in (0, -1, 999, 2**62):
        for write in WRITES.values():
            with pytest.raises(NotFound) as refused:
                board.store.write(lambda tx, write=write, run=run: write(tx, run))
            assert refused.value.code == "no_run"


def test_of_two_who_end_a_run_one_does(store_url: str, raw: Any) -> None:
    """kill against complete, kill against kill, complete against lose: the second is told so."""
    store = open_store(store_url)
    pairs = [
        ("kill", "complete"),
        ("kill", "kill"),
        ("complete", "complete"),
        ("fail", "complete"),
        ("release", "kill"),
    ]
    for pair in pairs * 3:
        task = store.write(lambda tx: create.create(tx, NewTask("t")))
        run = store.write(lambda tx, t=task: claim.claim_task(tx, t, claim.Claimant(lease_ms=LEASE))).run
        answers: list[str] = []
        go = threading.Barrier(2, timeout=20)

        def end(how: str, run: int = run, go: threading.Barrier = go, answers: list[str] = answers) -> None:
            mine = open_store(store_url)
            go.wait()
            try:
                mine.write(lambda tx: WRITES[how](tx, run))
                answers.append("did")
            except OrchestrionError as refused:
                answers.append(refused.code)
            finally:
                mine.close()

        threads = [threading.Thread(target=end, args=(how,)) for how in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == ["did", "stale_run"], pair
        ends = raw.rows("select kind from events where run = ? and from_state = 'running'", run)
        assert len(ends) == 1, ends
    store.close()


# --- signs of life ----------------------------------------------------------------------------------------------------


def test_a_heartbeat_extends_the_lease_by_its_own_length(board: Board) -> None:
    run = board.take(board.add(), lease_ms=MINUTE)
    board.pass_time(30_000)
    until = board.store.write(lambda tx: finish.renew(tx, run))
    assert until == board.store.now + MINUTE == board.run(run)["lease_until"]  # type: ignore[operator]


def test_every_note_is_a_sign_of_life(board: Board) -> None:
    run = board.take(board.add(), lease_ms=MINUTE, supervised=True)
    board.pass_time(1000)
    board.store.write(lambda tx: finish.start(tx, run, pid=7, pid_start=1.5, host="here"))
    assert board.run(run)["lease_until"] == board.store.now + MINUTE  # type: ignore[operator]
    board.pass_time(1000)
    board.store.write(lambda tx: finish.note(tx, run, phase="checking", workspace="/w", files_changed=3))
    row = board.run(run)
    assert row["lease_until"] == board.store.now + MINUTE  # type: ignore[operator]
    assert (row["phase"], row["workspace"], row["files_changed"], row["pid"]) == ("checking", "/w", 3, 7)
    board.store.write(lambda tx: finish.note(tx, run, branch="b"))
    assert board.run(run)["workspace"] == "/w", "what is not named stays"


def test_an_expired_lease_that_nobody_reaped_can_still_be_renewed(board: Board) -> None:
    """A laptop that slept goes on where it was, as long as nobody else took the task."""
    run = board.take(board.add(), lease_ms=MINUTE)
    board.pass_time(HOUR)
    board.store.write(lambda tx: finish.renew(tx, run))
    board.complete(run)


def test_a_run_is_started_once(board: Board) -> None:
    run = board.take(board.add(), supervised=True)
    board.store.write(lambda tx: finish.start(tx, run, pid=1, pid_start=1, host="here"))
    with pytest.raises(Conflict) as refused:
        board.store.write(lambda tx: finish.start(tx, run, pid=2, pid_start=2, host="there"))
    assert refused.value.code == "run_started"
    assert board.run(run)["pid"] == 1


def test_a_fact_that_runs_do_not_have_is_a_mistake(board: Board) -> None:
    run = board.take(board.add())
    with pytest.raises(TypeError):
        board.store.write(lambda tx: finish.note(tx, run, colour="blue"))


@pytest.mark.parametrize("said", ["a\0b", "\ud800 broken", "x" * 2_000_000, "'; drop table runs; --", "ÄÖ 🎼"])
def test_whatever_an_agent_says_its_run_can_end(board: Board, said: str) -> None:
    for end in (
        lambda run: board.complete(run, summary=said, result=said),
        lambda run: board.fail(run, error=said),
        lambda run: board.store.write(lambda tx: finish.kill(tx, run, said)),
        lambda run: board.store.write(lambda tx: finish.ask(tx, run, said)),
        lambda run: board.store.write(lambda tx: finish.hand_in(tx, run, code="merge_conflict", reason=said)),
        lambda run: board.store.write(lambda tx: finish.release(tx, run, said)),
        lambda run: board.store.write(lambda tx: finish.lose(tx, run, said)),
    ):
        run = board.take(board.add())
        board.store.write(lambda tx, run=run: finish.note(tx, run, summary=said))
        end(run)
        assert board.run(run)["ended_at"] == board.store.now
    if "\0" not in said and len(said) < 100 and "\ud800" not in said:
        assert board.run(1)["summary"] == said


# --- a task that works and has children -------------------------------------------------------------------------------


def test_a_running_task_that_was_given_children_is_completed_with_them(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    child = board.add(parent=task)
    assert board.states(task, child) == ["in_progress", "ready"]
    board.complete(run, summary="planned it")
    assert board.states(task, child) == ["pending", "ready"]
    assert (board.task(task)["work_run"], board.task(task)["completed_at"]) == (run, None)
    board.do(child)
    assert board.state(task) == "completed"
    assert board.task(task)["summary"] == "planned it"


@pytest.mark.parametrize("how", ["fails", "is lost"])
def test_a_run_that_did_not_succeed_is_tried_again_behind_the_children_that_came_meanwhile(
    board: Board, how: str
) -> None:
    """Else its agent could have its task called completed, with no check run, by splitting it and stopping."""
    task = board.add()
    run = board.take(task)
    board.pass_time(1)
    child = board.add(parent=task)
    board.pass_time(1)
    if how == "fails":
        board.fail(run, code="agent_tempfail")
    else:
        board.lose(run)
    board.pass_time(HOUR)
    board.do(child)
    taken = board.store.write(lambda tx: claim.claim(tx, claim.Claimant(lease_ms=LEASE)))
    assert taken is not None
    assert taken.task == task
    board.complete(taken.run, summary="split it")
    assert board.state(task) == "completed"


def test_a_task_that_failed_and_is_split_by_a_person_is_completed_with_its_children(board: Board) -> None:
    task = board.add(max_retries=0)
    board.fail(board.take(task))
    board.pass_time(MINUTE)
    child = board.add(parent=task)
    board.retry(task)
    board.do(child)
    assert board.state(task) == "completed"


def test_work_in_review_whose_children_are_open_waits_for_them_when_approved(board: Board) -> None:
    task = board.add()
    run = board.take(task)
    child = board.add(parent=task)
    board.store.write(lambda tx: finish.hand_in(tx, run, code="merge_conflict", reason="x"))
    board.store.write(lambda tx: decide.approve(tx, task))
    assert board.states(task, child) == ["pending", "ready"]
    board.do(child)
    assert board.state(task) == "completed"
