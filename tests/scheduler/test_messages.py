"""Messages to agents and the files they touch: nothing is called heard that was not."""

from __future__ import annotations

import pytest
from board import Board

from orchestrion.core.errors import Conflict, InvalidInput, NotFound
from orchestrion.scheduler import decide, finish, messages


def start(board: Board) -> int:
    run = board.take(board.add(), supervised=True)
    board.store.write(lambda tx: finish.start(tx, run, pid=1, pid_start=1, host="here"))
    return run


def states(board: Board, run: int) -> list[tuple[str, str | None]]:
    return [(row["state"], row["how"]) for row in board.store.read(lambda tx: messages.of_run(tx, run))]


def test_a_message_waits_until_it_is_given_once(board: Board) -> None:
    run = start(board)
    first = board.store.write(lambda tx: messages.send(tx, run, "one"))
    second = board.store.write(lambda tx: messages.send(tx, run, "two"))
    waiting = board.store.read(lambda tx: messages.waiting(tx, run))
    assert [(row["id"], row["text"]) for row in waiting] == [(first, "one"), (second, "two")]
    board.store.write(lambda tx: messages.given(tx, [first], messages.WHILE_RUNNING))
    board.store.write(lambda tx: messages.given(tx, [first, second], messages.NEXT_TURN))
    assert states(board, run) == [("given", "while_running"), ("given", "next_turn")]
    kinds = [row["kind"] for row in board.store.read(lambda tx: tx.all("events", since=0, limit=100))]
    assert kinds.count("run.message") == kinds.count("run.message_given") == 2


@pytest.mark.parametrize("end", ["complete", "fail", "kill"])
def test_what_was_not_heard_when_the_run_ends_is_dropped(board: Board, end: str) -> None:
    run = start(board)
    board.store.write(lambda tx: messages.send(tx, run, "late"))
    if end == "complete":
        board.complete(run)
    elif end == "fail":
        board.fail(run, code="agent_failed")
    else:
        board.store.write(lambda tx: finish.kill(tx, run, "enough"))
    assert states(board, run) == [("dropped", None)]


def test_who_cannot_hear(board: Board) -> None:
    run = start(board)
    for text in ("", "  \n", "a\0b", "x" * 2_000_000):
        with pytest.raises(InvalidInput):
            board.store.write(lambda tx, text=text: messages.send(tx, run, text))
    with pytest.raises(NotFound):
        board.store.write(lambda tx: messages.send(tx, 999, "hello"))
    board.complete(run)
    with pytest.raises(Conflict, match="nobody to hear"):
        board.store.write(lambda tx: messages.send(tx, run, "hello"))
    held = board.take(board.add())
    with pytest.raises(Conflict, match="held by a client"):
        board.store.write(lambda tx: messages.send(tx, held, "hello"))
    assert states(board, run) == []


def test_a_retry_goes_on_with_a_session_only_when_it_is_asked_to(board: Board) -> None:
    task = board.add()
    run = board.take(task, supervised=True)
    board.store.write(lambda tx: finish.start(tx, run, pid=1, pid_start=1, host="here"))
    board.fail(run, code="agent_failed")
    with pytest.raises(Conflict, match="no run of"):
        board.store.write(lambda tx: decide.retry(tx, task, resume=True))
    board.store.write(lambda tx: decide.retry(tx, task))
    again = board.take(task, supervised=True)
    board.store.write(lambda tx: finish.note(tx, again, session_id="s1"))
    board.fail(again, code="agent_failed")
    board.store.write(lambda tx: decide.retry(tx, task, resume=True))
    assert board.store.read(lambda tx: tx.the("task", id=task))["session"] == "s1"
    board.fail(board.take(task, supervised=True), code="agent_failed")
    board.store.write(lambda tx: decide.retry(tx, task))
    assert board.store.read(lambda tx: tx.the("task", id=task))["session"] is None
