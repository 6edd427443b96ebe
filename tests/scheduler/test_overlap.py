"""Two runs at one file learn of it before they meet at the merge, and are told once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from board import Board

from orchestrion.scheduler import finish, overlap


@dataclass(frozen=True)
class Change:
    path: str
    kind: str = "modified"
    lines_added: int | None = 1
    lines_removed: int | None = 0


def start(board: Board, **fields: Any) -> int:
    run = board.take(board.add(**fields), supervised=True)
    board.store.write(lambda tx: finish.start(tx, run, pid=1, pid_start=1, host="here"))
    return run


def note(board: Board, run: int, *paths: str) -> None:
    board.store.write(lambda tx: overlap.note_changes(tx, run, [Change(path) for path in paths]))


def met(board: Board) -> list[tuple[str, list[str]]]:
    return [(one["path"], one["runs"]) for one in board.store.read(overlap.overlaps)]


def told(board: Board) -> list[tuple[int, str]]:
    events = board.store.read(lambda tx: tx.all("events", since=0, limit=1000))
    return sorted((row["run"], row["data"]) for row in events if row["kind"] == "run.overlap")


def test_two_runs_at_one_file_are_told_once(board: Board) -> None:
    one, two = start(board), start(board)
    note(board, one, "a.py", "b.py")
    note(board, two, "c.py")
    assert met(board) == []
    for _ in range(3):
        note(board, two, "b.py", "c.py")
    assert met(board) == [("b.py", [f"R{one}", f"R{two}"])]
    assert [run for run, _ in told(board)] == [one, two]
    note(board, one, "a.py")
    assert met(board) == []
    note(board, one, "a.py", "b.py")
    assert len(told(board)) == 2


def test_what_ended_is_in_nobodys_way(board: Board) -> None:
    one, two = start(board), start(board)
    note(board, one, "a.py")
    note(board, two, "a.py")
    board.complete(two)
    assert met(board) == []
    assert [row["path"] for row in board.store.read(lambda tx: overlap.of_run(tx, one))] == ["a.py"]


def test_work_in_review_still_is(board: Board) -> None:
    waits, works = start(board), start(board)
    note(board, waits, "a.py", "b.py")
    board.store.write(lambda tx: finish.hand_in(tx, waits, code="needs_revision", reason="look", summary=None))
    assert met(board) == []
    note(board, works, "b.py")
    assert met(board) == [("b.py", [f"R{waits}", f"R{works}"])]
    assert [run for run, _ in told(board)] == [waits, works]
    # Two that both wait are met by the merge queue, not by each other.
    board.store.write(lambda tx: finish.hand_in(tx, works, code="needs_revision", reason="look", summary=None))
    assert met(board) == []


def test_one_run_can_be_asked_for(board: Board) -> None:
    one, two, three = start(board), start(board), start(board)
    note(board, one, "a.py")
    note(board, two, "a.py", "b.py")
    note(board, three, "b.py")
    found = board.store.read(lambda tx: overlap.overlaps(tx, one))
    assert found == [{"path": "a.py", "runs": [f"R{one}", f"R{two}"]}]


def test_a_flood_of_files_is_bounded(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MOST_FILES", 10)
    monkeypatch.setattr(overlap, "MOST_TOLD", 4)
    one, two = start(board), start(board)
    paths = [f"{number:03}" for number in range(50)]
    note(board, one, *paths)
    note(board, two, *paths)
    assert len(board.store.read(lambda tx: overlap.of_run(tx, one))) == 10
    assert len(told(board)) == 4
    for _ in range(10):
        note(board, two, *paths)
    assert len(told(board)) == 20  # 10 files, two runs each


def test_names_that_are_no_text_are_kept_readable(board: Board) -> None:
    run = start(board)
    note(board, run, "\udcff.py", "nul\0")
    assert [row["path"] for row in board.store.read(lambda tx: overlap.of_run(tx, run))] == ["\\udcff.py", "nul\ufffd"]
