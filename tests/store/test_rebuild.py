"""A damaged SQLite store is made anew from its rows, or stays as it is."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from orchestrion.core.errors import OrchestrionError
from orchestrion.core.model import NewTask
from orchestrion.scheduler.create import create
from orchestrion.store import open_store, rebuild
from small_disk import fill, small_disk

PAGE = 2048
#: What is no row of ours: indexes of each kind, and what the full-text search keeps.
INDEXES = """select name, rootpage from sqlite_schema
where rootpage > 0 and (type = 'index' or name like '%^_found^_%' escape '^') order by name"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A store with tasks, something that is searched for, and numbers that are given out already."""
    file = tmp_path / "orchestrion.db"
    store = open_store(str(file))
    store.write(lambda tx: [create(tx, NewTask(f"task {n}", tags=("a", "b"))) for n in range(3)])
    store.close()
    with sqlite3.connect(file) as connection:
        for kind in "TD":
            connection.execute(
                "insert into texts (project, kind, thing, title, words) values (1, ?, 1, 'x', 'needle')", kind
            )
        connection.execute("update sqlite_sequence set seq = 70 where name = 'tasks'")
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    return file


def content(file: Path) -> dict[str, Any]:
    """All that a store has: its schema, its rows, and what searches find."""
    connection = sqlite3.connect(file)
    found: dict[str, Any] = dict(connection.execute("select type || ' ' || name, sql from sqlite_schema"))
    for kind, _, name in [entry.partition(" ") for entry in found]:
        if kind == "table" and "_found" not in name and not name.startswith("sqlite_stat"):
            found[f"rows of {name}"] = connection.execute(f'select * from "{name}" not indexed').fetchall()
    for search in ("texts_found", "decisions_found"):
        found[search] = connection.execute(f"select rowid from {search} where {search} match 'needle'").fetchall()
    found |= {pragma: connection.execute(f"pragma {pragma}").fetchone() for pragma in ("page_size", "application_id")}
    connection.close()
    return found


def spoil(file: Path, page: int) -> None:
    with file.open("r+b") as opened:
        opened.seek((page - 1) * PAGE)
        opened.write(b"\xff" * PAGE)


def page_of(file: Path, name: str) -> int:
    connection = sqlite3.connect(file)
    [(page,)] = connection.execute("select rootpage from sqlite_schema where name = ?", (name,)).fetchall()
    connection.close()
    return int(page)


def test_whatever_index_is_damaged_nothing_is_lost(file: Path) -> None:
    whole, bytes_before = content(file), file.read_bytes()
    connection = sqlite3.connect(file)
    indexes = connection.execute(INDEXES).fetchall()
    connection.close()
    assert len(indexes) > 60
    for name, page in indexes:
        file.write_bytes(bytes_before)
        spoil(file, page)
        damaged = file.read_bytes()
        kept = rebuild.rebuild(file).kept
        made = content(file)
        assert {key for key in made | whole if made.get(key) != whole.get(key)} == set(), name
        connection = sqlite3.connect(file)
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        connection.close()
        # But for the header, which says that it has no log now.
        assert kept.read_bytes()[PAGE:] == damaged[PAGE:]
        kept.unlink()
    assert sorted(one.name for one in file.parent.iterdir()) == ["orchestrion.db"]


def test_it_is_the_same_store_with_all_its_numbers(file: Path) -> None:
    spoil(file, page_of(file, "tasks_by_key"))
    rebuild.rebuild(file)
    assert file.stat().st_mode & 0o777 == 0o600
    store = open_store(str(file), create=False)
    assert store.write(lambda tx: create(tx, NewTask("next"))) is not None
    assert store.read(lambda tx: tx.the("task", id=71))["title"] == "next"
    store.close()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("tasks", "table tasks cannot be copied"),
        ("holds", "table holds cannot be copied"),
        ("sqlite_sequence", "table sqlite_sequence cannot be read"),
        ("sqlite_schema", "its tables cannot be listed"),
    ],
)
def test_where_rows_are_lost_nothing_is_changed(file: Path, table: str, said: str) -> None:
    spoil(file, 1 if table == "sqlite_schema" else page_of(file, table))
    before = file.read_bytes()
    with pytest.raises(OrchestrionError, match="damaged, and not in its indexes alone") as refused:
        rebuild.rebuild(file)
    assert refused.value.code == "store_corrupt"
    assert said in refused.value.message
    assert file.read_bytes()[PAGE:] == before[PAGE:]
    assert [one.name for one in file.parent.iterdir()] == ["orchestrion.db"]


def test_a_store_that_somebody_has_open_stays(file: Path) -> None:
    opened = sqlite3.connect(file)
    opened.execute("select * from tasks").fetchall()
    with pytest.raises(OrchestrionError, match="has the store") as refused:
        rebuild.rebuild(file)
    assert refused.value.code == "store_in_use"
    opened.close()
    rebuild.rebuild(file)


@pytest.mark.parametrize(
    ("code", "bend"),
    [
        ("store_missing", lambda file: file.unlink()),
        ("store_missing", lambda file: file.write_bytes(b"")),
        ("kept_already", lambda file: file.with_name("orchestrion.db.damaged").touch()),
        ("store_foreign", lambda file: sqlite3.connect(file).execute("pragma application_id = 1").connection.close()),
    ],
)
def test_what_cannot_be_is_refused(file: Path, code: str, bend: Any) -> None:
    bend(file)
    before = sorted((one, one.read_bytes()) for one in file.parent.iterdir())
    with pytest.raises(OrchestrionError) as refused:
        rebuild.rebuild(file)
    assert refused.value.code == code
    assert sorted((one, one.read_bytes()) for one in file.parent.iterdir()) == before


def test_a_disk_that_is_full_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rebuild, "_sync", full)
    before = content(file)
    with pytest.raises(OrchestrionError, match="No space left") as refused:
        rebuild.rebuild(file)
    assert refused.value.code == "disk_full"
    assert [one.name for one in file.parent.iterdir()] == ["orchestrion.db"]
    assert content(file) == before


def test_a_disk_that_was_full_before_is_no_damage(file: Path, tmp_path: Path) -> None:
    """Not even its tables can be listed then: SQLite wants room for what it shares of the log."""
    with small_disk(tmp_path / "small", 4 * 1024 * 1024):
        moved = tmp_path / "small" / file.name
        shutil.copy(file, moved)
        filler = fill(moved.parent)
        with pytest.raises(OrchestrionError, match="its disk is full") as refused:
            rebuild.rebuild(moved)
        assert refused.value.code == "disk_full"
        filler.unlink()
        rebuild.rebuild(moved)
