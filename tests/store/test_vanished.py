"""The store one opened, or an error: what vanished is not made anew, what was replaced is not used."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrion import worker
from orchestrion.core.errors import NotFound, StoreProblem
from orchestrion.core.model import NewTask
from orchestrion.ops import health
from orchestrion.scheduler.create import create
from orchestrion.store import Store, Transaction, open_store
from stage import Stage
from waiting import wait_for


def add(title: str) -> Callable[[Transaction], int]:
    return lambda tx: create(tx, NewTask(title))


def titles(store: Store) -> list[str]:
    return [row["title"] for row in store.read(lambda tx: tx.all("list_tasks", after=0, limit=50))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder / "a.db"


@pytest.fixture
def opened(file: Path) -> Iterator[Store]:
    store = open_store(str(file))
    store.write(add("first"))
    yield store
    store.close()


def test_a_file_that_vanished_is_missed_by_every_thread_and_not_made_anew(file: Path, opened: Store) -> None:
    away = file.with_name("away.db")
    file.rename(away)
    for act in (lambda: opened.write(add("lost")), lambda: titles(opened), lambda: opened.wait_for_change(0.1)):
        assert refused(act) == "store_missing"
        assert in_another_thread(lambda act=act: refused(act)) == "store_missing"
    part = health.of_store(opened)
    assert (part.status, part.facts["code"]) == ("unhealthy", "store_missing")
    assert not file.exists()

    away.rename(file)
    assert opened.write(add("second")) == 2
    assert in_another_thread(lambda: titles(opened)) == ["first", "second"]
    assert health.of_store(opened).status == "healthy"


def test_a_deleted_file_is_not_written_to(file: Path, opened: Store) -> None:
    """The system would let the connection go on, into a file without a name."""
    file.unlink()
    assert refused(lambda: opened.write(add("lost"))) == "store_missing"
    assert not file.exists()


def test_a_file_that_vanishes_in_a_transaction_takes_no_commit(file: Path, opened: Store) -> None:
    away = file.with_name("away.db")

    def work(tx: Transaction) -> None:
        create(tx, NewTask("lost"))
        file.rename(away)

    assert refused(lambda: opened.write(work)) == "store_missing"
    away.rename(file)
    assert titles(opened) == ["first"]


def test_the_same_store_may_be_put_back_as_a_copy(file: Path, opened: Store) -> None:
    """As it is restored from a backup: another file, of the same id."""
    backup = file.with_name("backup.db")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    file.unlink()
    assert refused(lambda: opened.write(add("lost"))) == "store_missing"
    Path(f"{file}-wal").unlink()
    Path(f"{file}-shm").unlink()
    shutil.copyfile(backup, file)
    assert in_another_thread(lambda: titles(opened)) == ["first"]
    opened.write(add("second"))
    opened.close()
    with closing(open_store(str(file))) as later:
        assert titles(later) == ["first", "second"]


@pytest.mark.parametrize("what", ["another store", "an empty file", "a folder", "another program's"])
def test_what_was_put_in_its_place_is_not_used(file: Path, opened: Store, what: str) -> None:
    for part in file.parent.iterdir():
        part.unlink()
    if what == "another store":
        with closing(open_store(str(file))) as other:
            other.write(add("of another"))
    elif what == "an empty file":
        file.touch()
    elif what == "a folder":
        file.mkdir()
    else:
        with closing(sqlite3.connect(file)) as other:
            other.execute("create table theirs (x)")
    before = file.read_bytes() if file.is_file() else None
    for _ in range(2):
        code = refused(lambda: opened.write(add("lost")))
        assert code == ("store_foreign" if what == "another program's" else "store_replaced")
        assert in_another_thread(lambda: refused(lambda: titles(opened))) == code
    assert before == (file.read_bytes() if file.is_file() else None)


def test_a_log_that_was_removed_is_left_behind_with_nothing_lost(file: Path, opened: Store) -> None:
    log = Path(f"{file}-wal")
    assert log.stat().st_size > 0
    log.unlink()
    Path(f"{file}-shm").unlink()
    assert opened.write(add("second")) == 2
    opened.close()
    with closing(open_store(str(file))) as later:
        assert titles(later) == ["first", "second"]


def test_an_index_that_was_removed_is_left_before_two_write_one_log(file: Path, opened: Store) -> None:
    program = "import sys; from orchestrion.store import open_store; from orchestrion.scheduler.create import create\n"
    program += "from orchestrion.core.model import NewTask; s = open_store(sys.argv[1])\n"
    program += "for line in sys.stdin: print(s.write(lambda tx: create(tx, NewTask(line.strip()))), flush=True)\n"
    command = [sys.executable, "-c", program, str(file)]

    def told(to: subprocess.Popen[str], title: str) -> int:
        assert to.stdin is not None
        assert to.stdout is not None
        to.stdin.write(f"{title}\n")
        to.stdin.flush()
        return int(to.stdout.readline())

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert told(other, "second") == 2
        Path(f"{file}-shm").unlink()
        subprocess.run(command, input="third\n", text=True, check=True, capture_output=True)
        assert opened.write(add("fourth")) == 4
        assert told(other, "fifth") == 5
        assert opened.write(add("sixth")) == 6
        assert titles(opened) == ["first", "second", "third", "fourth", "fifth", "sixth"]
        other.communicate()


def test_garbage_in_its_place_is_another_store(file: Path, opened: Store) -> None:
    away = file.with_name("away.db")
    file.rename(away)
    file.write_bytes(b"garbage" * 999)
    assert refused(lambda: opened.write(add("lost"))) == "store_replaced"
    away.replace(file)
    assert opened.write(add("second")) == 2


def test_looking_writes_nothing_into_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "empty.db"
    file.touch()
    for _ in range(2):
        with pytest.raises(NotFound):
            open_store(str(file), create=False)
        assert file.read_bytes() == b""


def test_a_log_that_was_removed_is_left_by_all_threads_before_another_is_begun(file: Path, opened: Store) -> None:
    done, answers = threading.Event(), []
    may_look = threading.Event()

    def other() -> None:
        titles(opened)
        done.set()
        may_look.wait(30)
        answers.append(refused(lambda: opened.write(add("third"))))
        opened.close()

    thread = threading.Thread(target=other)
    thread.start()
    done.wait(30)
    Path(f"{file}-wal").unlink()
    Path(f"{file}-shm").unlink()
    assert refused(lambda: opened.write(add("second"))) == "store_missing"
    may_look.set()
    thread.join()
    assert answers == [None]  # it was the last
    assert opened.write(add("fourth")) == 3
    opened.close()
    with closing(open_store(str(file))) as later:
        assert titles(later) == ["first", "third", "fourth"]
    with closing(sqlite3.connect(file)) as look:
        assert look.execute("pragma integrity_check").fetchone()[0] == "ok"


def test_no_new_file_is_made_beside_the_log_of_one_that_is_gone(file: Path, opened: Store) -> None:
    """SQLite would delete that log, and what stands only in it."""
    log = Path(f"{file}-wal")
    kept = log.read_bytes()
    away = file.with_name("away.db")
    file.rename(away)
    assert refused(lambda: open_store(str(file))) == "store_missing"
    assert not file.exists()
    assert log.read_bytes() == kept
    away.rename(file)
    assert titles(opened) == ["first"]


@pytest.mark.parametrize("what", ["the file", "its folder"])
def test_a_worker_goes_on_when_its_store_is_put_back(stage: Stage, caplog: pytest.LogCaptureFixture, what: str) -> None:
    one = stage.open()
    stage.add("true")
    folder = one.project.store_dir
    file, away = (folder / "orchestrion.db", folder / "away.db")
    if what == "its folder":
        file, away = folder, stage.folder / "away"
    at_work = worker.Worker(one.store, one.project, one.config, one.environ, 1)
    thread = threading.Thread(target=lambda: at_work.work(drain=False))
    thread.start()
    try:
        wait_for(lambda: stage.task()["state"] == "completed", "it works")
        file.rename(away)
        wait_for(lambda: f"waiting for the store: {file} is gone" in caplog.text, "it misses its store")
        assert not file.exists()
        away.rename(file)
        stage.add("true")
        wait_for(lambda: stage.task("T2")["state"] == "completed", "it works again")
        wait_for(lambda: not at_work._children, "its supervisors are over")
    finally:
        at_work.stop()
        thread.join()


def test_a_worker_ends_when_its_store_is_not_put_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MENDING_S", 0.5)
    stage.open()
    one = stage.orchestrion
    file = one.project.store_dir / "orchestrion.db"
    looks = []

    def seen() -> None:
        looks.append(file)
        file.rename(file.with_name(f"away-{len(looks)}.db"))

    with pytest.raises(StoreProblem) as refused:
        worker.Worker(one.store, one.project, one.config, one.environ, 1, seen=seen).work(drain=False)
    assert refused.value.code == "store_missing"
    assert len(looks) == 1
    file.with_name("away-1.db").rename(file)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(postgres: Any) -> Iterator[tuple[str, Store]]:
    url = postgres.new()
    store = open_store(url)
    store.write(add("first"))
    yield url, store
    store.close()


def test_a_dropped_database_is_missed(postgres: Any, database: tuple[str, Store]) -> None:
    url, store = database
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    postgres.shut(name)
    postgres._do(f"alter database {name} rename to {name}_away")
    with pytest.raises(StoreProblem):
        store.write(add("lost"))
    assert refused(lambda: store.write(add("lost"))) == "store_missing"
    assert in_another_thread(lambda: refused(lambda: titles(store))) == "store_missing"
    part = health.of_store(store)
    assert (part.status, part.facts["code"]) == ("unhealthy", "store_missing")

    postgres._do(f"alter database {name}_away rename to {name}")
    postgres.admit(name)
    assert store.write(add("second")) > 1
    assert titles(store) == ["first", "second"]


def test_a_database_without_our_tables_is_missed(database: tuple[str, Store]) -> None:
    url, store = database
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("alter schema public rename to away")
    assert refused(lambda: store.write(add("lost"))) == "store_missing"
    assert in_another_thread(lambda: refused(lambda: titles(store))) == "store_missing"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("alter schema away rename to public")
    assert titles(store) == ["first"]


def test_another_database_in_its_place_is_not_used(database: tuple[str, Store]) -> None:
    url, store = database
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("drop schema public cascade")
        server.execute("create schema public")
    with closing(open_store(url)) as other:
        other.write(add("of another"))
    assert in_another_thread(lambda: refused(lambda: store.write(add("lost")))) == "store_replaced"
    with closing(open_store(url)) as other:
        assert titles(other) == ["of another"]


# --- tools of these tests ---------------------------------------------------------------------------------------------


def refused(act: Callable[[], object]) -> str | None:
    """The code of the refusal; None: it was done."""
    try:
        act()
    except StoreProblem as problem:
        return problem.code if problem.hint else "no hint"
    return None


def in_another_thread(act: Callable[[], Any]) -> Any:
    answers = []
    thread = threading.Thread(target=lambda: answers.append(act()))
    thread.start()
    thread.join()
    return answers[0]
