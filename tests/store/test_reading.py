"""A store that may only be read: everything that looks works and tells what is so, and changes are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrion.core.errors import StoreProblem
from orchestrion.core.model import NewTask
from orchestrion.ops import health
from orchestrion.scheduler.create import create
from orchestrion.store import Store, Transaction, migrate, open_store
from premises import nobody


def add(title: str) -> Callable[[Transaction], int]:
    return lambda tx: create(tx, NewTask(title))


def titles(store: Store) -> list[str]:
    return [row["title"] for row in store.read(lambda tx: tx.all("list_tasks", after=0, limit=50))]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """The same folder once more, at another place and on a file system that is mounted read-only."""
    place = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "--bind", folder, place], capture_output=True, check=False)
    if mounted.returncode:
        place.rmdir()
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


def refused(act: Callable[[], object]) -> str | None:
    try:
        act()
    except StoreProblem as problem:
        return problem.code if problem.hint else "no hint"
    return None


@contextmanager
def copies_in(folder: Path) -> Iterator[None]:
    """Where files for a moment are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield


def _opened(folder: Path) -> Store:
    return open_store(str(folder / "a.db"))


def show_to_others(folder: Path) -> None:
    """Lets everybody read a store, which is its owner's alone when it is made."""
    for file in folder.iterdir():
        file.chmod(0o644)


def left_behind(copy: Path, file: Path) -> None:
    """What a killed program leaves: the file, and a log in which the last changes stand alone."""
    shutil.copyfile(file, copy)
    shutil.copyfile(f"{file}-wal", f"{copy}-wal")


def test_a_store_on_a_read_only_file_system_is_read(folder: Path) -> None:
    with closing(open_store(str(folder / "a.db"))) as store:
        store.write(add("first"))
    with read_only(folder) as place, closing(open_store(str(place / "a.db"))) as reader:
        assert titles(reader) == ["first"]
        assert refused(lambda: reader.write(add("refused"))) == "store_read_only"
        part = health.of_store(reader)
        assert (part.status, part.facts["code"]) == ("unhealthy", "store_read_only")
        assert sorted(file.name for file in folder.iterdir()) == ["a.db"]


def test_what_others_write_there_is_seen(folder: Path) -> None:
    """The same files may be writable at another place, as a host's are for a container."""
    with closing(open_store(str(folder / "a.db"))) as writer:
        writer.write(add("first"))
        with read_only(folder) as place, closing(open_store(str(place / "a.db"))) as reader:
            assert titles(reader) == ["first"]
            writer.write(add("second"))
            assert titles(reader) == ["first", "second"]
            reader.wait_for_change(0.05)
            writer.write(add("third"))
            assert reader.wait_for_change(5)
            writer.close()
            assert titles(reader) == ["first", "second", "third"]
            writer.write(add("fourth"))
            assert titles(reader) == ["first", "second", "third", "fourth"]
            writer.close()  # as long as this process holds locks, SQLite closes none of its files


def test_changes_that_stand_in_the_log_alone_are_seen(folder: Path, tmp_path: Path) -> None:
    """Read without it, an old state would be shown as the present one."""
    with closing(open_store(str(tmp_path / "a.db"))) as store:
        store.write(add("first"))
        left_behind(folder / "a.db", tmp_path / "a.db")
        before = {file.name: file.read_bytes() for file in folder.iterdir()}
        (tmp_path / "copies").mkdir()
        with read_only(folder) as place, copies_in(tmp_path / "copies"), closing(_opened(place)) as reader:
            assert titles(reader) == ["first"]
            assert refused(lambda: reader.write(add("refused"))) == "store_read_only"
            assert list((tmp_path / "copies").iterdir()) == []
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_where_no_copy_can_be_made_it_says_so_instead_of_showing_what_was(folder: Path) -> None:
    with closing(open_store(str(folder / "a.db"))) as store, tempfile.TemporaryDirectory() as other:
        store.write(add("first"))
        left_behind(Path(other) / "a.db", folder / "a.db")
        with read_only(Path(other)) as place, copies_in(Path("/nonexistent")):
            assert refused(lambda: open_store(str(place / "a.db"))) == "store_read_only"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize("live", [False, True])
def test_another_user_without_the_right_to_write_reads(folder: Path, what: str, live: bool) -> None:
    path = folder / "a.db"
    store = open_store(str(path))
    store.write(add("first"))
    if not live:
        store.close()
    show_to_others(folder)
    path.chmod(0o444 if what == "file" else 0o644)
    folder.chmod(0o777 if what == "file" else 0o755)
    before = sorted(file.name for file in folder.iterdir())
    with nobody(), closing(open_store(str(path))) as reader:
        assert titles(reader) == ["first"]
        assert refused(lambda: reader.write(add("refused"))) == "store_read_only"
    # It leaves nothing that would be in the owner's way.
    assert sorted(file.name for file in folder.iterdir()) == before
    assert store.write(add("second")) == 2
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_store_that_may_be_written_by_now_is_written(folder: Path) -> None:
    path = folder / "a.db"
    open_store(str(path)).close()
    show_to_others(folder)
    with nobody(), closing(open_store(str(path))) as reader:
        assert refused(lambda: reader.write(add("refused"))) == "store_read_only"
        os.seteuid(0)
        path.chmod(0o666)
        folder.chmod(0o777)
        os.seteuid(65534)
        assert reader.write(add("done")) == 1


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes this program a newer one, whose schema no store has yet."""

    known = {dialect: migrate.scripts(dialect) for dialect in ("sqlite", "postgres")}
    later = migrate.Migration(99, "later", 1, "create table later (id integer);")

    def become() -> None:
        monkeypatch.setattr(migrate, "scripts", lambda dialect: [*known[dialect], later])

    return become


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_an_older_store_cannot_be_brought_up_to_date_there(folder: Path, newer: Callable[[], None]) -> None:
    path = folder / "a.db"
    open_store(str(path)).close()
    newer()
    show_to_others(folder)
    with nobody():
        with pytest.raises(StoreProblem, match=r"has schema .* this program needs .* may only be read here") as error:
            open_store(str(path))
        assert error.value.code == "store_read_only"


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture
def as_reader(postgres: Any) -> Iterator[tuple[str, str]]:
    """Addresses of a database: its owner's, and that of a role which may only read."""
    url = postgres.new()
    with closing(open_store(url)) as store:
        store.write(add("first"))
    info = psycopg.conninfo.conninfo_to_dict(url)
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("create role reader login in role pg_read_all_data")
    yield url, f"postgresql:///{info['dbname']}?user=reader&host={info['host']}"
    with psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off") as server:
        server.execute("drop role reader")


def test_a_role_that_may_only_read_reads(as_reader: tuple[str, str]) -> None:
    with closing(open_store(as_reader[1])) as reader:
        assert titles(reader) == ["first"]
        assert refused(lambda: reader.write(add("refused"))) == "store_read_only"
        part = health.of_store(reader)
        assert (part.status, part.facts["code"]) == ("unhealthy", "store_read_only")


@pytest.mark.parametrize("who", ["a role", "a session"])
def test_an_older_database_cannot_be_brought_up_to_date_by_one_who_reads(
    as_reader: tuple[str, str], newer: Callable[[], None], who: str
) -> None:
    owner, reader = as_reader
    newer()
    with psycopg.connect(owner, autocommit=True) as server:
        if who == "a session":
            server.execute(f"alter database {server.info.dbname} set default_transaction_read_only = on".encode())
    with pytest.raises(StoreProblem, match=r"has schema .* may only be read here") as error:
        open_store(reader if who == "a role" else owner)
    assert error.value.code == "store_read_only"
