"""The breaker of an agent: it opens, lets one run try, closes; and nobody's task is spent meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from board import Board

from orchestrion.core.errors import Backpressure
from orchestrion.scheduler import breaker, claim, explain, finish
from orchestrion.scheduler.breaker import Rules

RULES = Rules(failures=3, cooldown_s=60)


def claimant(**given: Any) -> claim.Claimant:
    return claim.Claimant(lease_ms=60_000, agent="claude", supervised=True, host="here", **given)


def take(board: Board, **given: Any) -> claim.Claim | None:
    return board.store.write(lambda tx: claim.claim(tx, claimant(**given)))


def fail(board: Board, code: str = "auth_failed", agent: str = "claude") -> None:
    board.store.write(lambda tx: breaker.failed(tx, agent, code, RULES))


def states(board: Board) -> list[tuple[str, str]]:
    return [(one["agent"], one["state"]) for one in board.store.read(breaker.overview)]


def end(board: Board, taken: claim.Claim, code: str | None) -> None:
    """As the supervisor ends a run: both in one transaction."""

    def ended(tx: Any) -> None:
        if code is None:
            finish.complete(tx, taken.run)
            breaker.succeeded(tx, taken.agent)
        else:
            finish.fail(tx, taken.run, code=code, error="x")
            breaker.failed(tx, taken.agent, code, RULES)

    board.store.write(lambda tx: finish.start(tx, taken.run, pid=1, pid_start=1, host="here"))
    board.store.write(ended)


def test_it_opens_after_failures_in_a_row_of_the_agent_itself(board: Board) -> None:
    fail(board)
    fail(board, "network")
    fail(board, "check_failed")  # the agent worked
    fail(board)
    fail(board)
    for silent in ("killed", "interrupted"):
        fail(board, silent)
    assert states(board) == []
    fail(board, agent="codex")
    fail(board)
    assert states(board) == [("claude", "open")]


def test_an_open_breaker_keeps_tasks_from_the_agent_but_not_from_its_fallback(board: Board) -> None:
    task, other = board.add(role="tester", command="true"), board.add(agent="codex")
    for _ in range(3):
        fail(board)
    taken = take(board)
    assert taken is not None
    assert (taken.task, taken.agent) == (other, "codex")
    assert take(board) is None
    kinds = [reason.kind for reason in board.store.read(lambda tx: explain.why(tx, task))[1]]
    assert "queue" in kinds
    stand_in = take(board, fallback_of_role={"tester": "codex"})
    assert stand_in is not None
    assert (stand_in.task, stand_in.agent) == (task, "codex")


def test_one_run_tries_and_its_success_closes(board: Board) -> None:
    for _ in range(3):
        board.add()
        fail(board)
    assert take(board) is None
    board.pass_time(61_000)
    assert states(board) == [("claude", "half_open")]
    probe = take(board)
    assert probe is not None
    assert take(board) is None
    with pytest.raises(Backpressure):
        board.store.write(lambda tx: breaker.try_out(tx, "claude", probe.run + 1))
    end(board, probe, None)
    assert states(board) == []
    assert take(board) is not None


def test_a_probe_that_fails_opens_it_for_twice_as_long(board: Board) -> None:
    for _ in range(3):
        board.add()
        fail(board)
    board.pass_time(61_000)
    probe = take(board)
    assert probe is not None
    end(board, probe, "auth_failed")
    board.pass_time(61_000)
    assert states(board) == [("claude", "open")]
    board.pass_time(60_000)
    assert take(board) is not None


def test_a_probe_that_is_lost_lets_another_try(board: Board) -> None:
    for _ in range(3):
        board.add()
        fail(board)
    board.pass_time(61_000)
    probe = take(board)
    assert probe is not None
    board.store.write(lambda tx: finish.lose(tx, probe.run, "gone"))
    again = take(board)
    assert again is not None
    assert again.run != probe.run


def test_a_person_closes_it(board: Board) -> None:
    board.add()
    for _ in range(3):
        fail(board)
    assert board.store.write(lambda tx: breaker.close(tx, "claude"))
    assert not board.store.write(lambda tx: breaker.close(tx, "claude"))
    assert take(board) is not None


def test_what_older_runs_say_changes_nothing_while_it_is_open(board: Board) -> None:
    board.add()
    for _ in range(7):  # four more than were needed
        fail(board)
    board.store.write(lambda tx: breaker.succeeded(tx, "claude"))
    assert states(board) == [("claude", "open")]
    board.pass_time(61_000)
    assert states(board) == [("claude", "half_open")]


def limited(board: Board, retry_after_s: float | None = None) -> None:
    board.store.write(lambda tx: breaker.failed(tx, "claude", "rate_limited", RULES, retry_after_s))


def test_a_service_that_wants_less_is_left_alone_at_once(board: Board) -> None:
    task = board.add(agent="claude")
    limited(board, 300)
    limited(board, 4000)  # begun before
    assert take(board) is None
    found = board.store.read(breaker.overview)
    assert [(one["code"], one["state"]) for one in found] == [("rate_limited", "open")]
    assert "rate_limited" in dict(board.why(task))["breaker"]
    board.pass_time(301_000)
    probe = take(board)
    assert probe is not None
    board.store.write(lambda tx: finish.start(tx, probe.run, pid=1, pid_start=1, host="here"))
    limited(board, 10)  # twice as long as at first, by our own rules
    board.pass_time(119_000)
    assert states(board) == [("claude", "open")]


def test_waiting_for_a_service_is_not_the_end(board: Board) -> None:
    board.add()
    assert board.store.read(lambda tx: tx.one("comes_back")) is None
    limited(board)
    assert board.store.read(lambda tx: tx.one("comes_back")) is not None
    board.pass_time(61_000)
    assert board.store.read(lambda tx: tx.one("comes_back")) is None
