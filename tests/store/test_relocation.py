"""A store moves whole with what lies beside it, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrion.core.errors import Conflict, StoreProblem
from orchestrion.core.model import NewTask
from orchestrion.scheduler.create import create
from orchestrion.store import open_store, relocation
from orchestrion.store.relocation import relocate

BESIDE = ("runs", "id")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store with a task, and a run's folder and an id beside it."""
    folder = tmp_path / "old"
    (folder / "runs" / "R1").mkdir(parents=True)
    (folder / "runs" / "R1" / "log.jsonl").write_text("{}\n")
    (folder / "id").write_text("x\n")
    store = open_store(str(folder / "orchestrion.db"))
    store.write(lambda tx: create(tx, NewTask("kept")))
    store.close()
    return folder / "orchestrion.db"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new" / "orchestrion.db"


@pytest.fixture
def opened(old: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection."""
    connection = sqlite3.connect(old)
    connection.execute("select * from tasks").fetchall()
    yield connection
    connection.close()


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def titles(file: Path) -> list[str]:
    with sqlite3.connect(file) as connection:
        return [row[0] for row in connection.execute("select title from tasks")]


def test_all_of_it_moves(old: Path, new: Path) -> None:
    moved = relocate(old, new, BESIDE)
    assert moved == [(old.with_name(name), new.with_name(name)) for name in ("orchestrion.db", "runs", "id")]
    assert files(old.parent) == []
    assert files(new.parent) == ["id", "orchestrion.db", "orchestrion.db.moved", "runs/R1/log.jsonl"]
    assert titles(new) == ["kept"]
    assert relocate(old, new, BESIDE) == []


@pytest.mark.parametrize("failing", ["_write", "_carry"])
def test_a_failure_moves_nothing(old: Path, new: Path, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(relocation, failing)

    def full(*given: Any) -> None:
        if failing == "_write" or given[0].name == "id":
            raise OSError(28, "No space left on device")
        real(*given)

    before = files(old.parent)
    monkeypatch.setattr(relocation, failing, full)
    with pytest.raises(StoreProblem, match="No space left") as caught:
        relocate(old, new, BESIDE)
    assert caught.value.code == "store_not_moved"
    assert (files(old.parent), files(new.parent), titles(old)) == (before, [], ["kept"])


def test_a_store_that_another_process_has_open_stays(
    old: Path, new: Path, opened: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relocation, "PATIENCE_S", 0.1)
    with pytest.raises(Conflict) as caught:
        relocate(old, new, BESIDE)
    assert caught.value.code == "store_in_use"
    assert not new.parent.exists()
    opened.execute("update tasks set title = 'still mine'")
    opened.commit()
    assert titles(old) == ["still mine"]


def test_on_two_disks_it_is_copied_whole(old: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def across(self: Path, target: Path) -> Path:
        if self.parent != target.parent:
            raise OSError(18, "Invalid cross-device link")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", across)
    relocate(old, new, BESIDE)
    assert files(old.parent) == []
    assert files(new.parent) == ["id", "orchestrion.db", "orchestrion.db.moved", "runs/R1/log.jsonl"]
