"""What a store promises, whichever database is behind it: whole transactions, stable refusals, one migration."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrion.core.errors import Conflict, InvalidInput, NotFound, StoreProblem
from orchestrion.core.model import NewTask
from orchestrion.scheduler.create import create
from orchestrion.store import Origin, ProjectKey, Store, Transaction, migrate, open_store, postgres, sqlite
from orchestrion.store.sqlite_file import LITTLE_ROOM
from premises import nobody


class Broken(Exception):
    """Raised by a test in the middle of a transaction."""


def add(title: str) -> Callable[[Transaction], int]:
    return lambda tx: create(tx, NewTask(title))


def titles(raw: Any) -> list[str]:
    return [row["title"] for row in raw.rows("select title from tasks order by id")]


# --- transactions -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_there_with_its_event(store: Store, raw: Any) -> None:
    task = store.write(add("kept"), origin=Origin("user:ada", "S1", "C1"))
    event = raw.rows("select * from events where task = ? and kind = 'task.created'", task)[0]
    assert titles(raw) == ["kept"]
    assert (event["actor"], event["session"], event["correlation"]) == ("user:ada", "S1", "C1")
    assert event["to_state"] == "pending"


def test_a_transaction_that_raises_leaves_nothing(store: Store, raw: Any) -> None:
    def half(tx: Transaction) -> None:
        create(tx, NewTask("half"))
        tx.event("note", data={"never": "seen"})
        raise Broken

    with pytest.raises(Broken):
        store.write(half)
    assert titles(raw) == []
    assert raw.rows("select * from events") == []
    assert store.write(add("next")) > 0


def test_a_statement_that_is_refused_leaves_nothing_either(store: Store, raw: Any) -> None:
    def half(tx: Transaction) -> None:
        create(tx, NewTask("half"))
        tx.run("add_tag", task=999_999, tag="of nobody")

    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.ForeignKeyViolation)):
        store.write(half)
    assert titles(raw) == []
    assert store.write(add("next")) > 0


def test_the_journal_is_written_last_and_in_order(store: Store, raw: Any) -> None:
    def three(tx: Transaction) -> None:
        for number in range(3):
            tx.event("note", data={"number": number})
        assert tx.all("events", since=0, limit=10) == []

    store.write(three)
    assert [row["data"] for row in raw.rows("select data from events order by id")] == [
        '{"number": 0}',
        '{"number": 1}',
        '{"number": 2}',
    ]


@pytest.mark.parametrize("outer", ["write", "read"])
@pytest.mark.parametrize("inner", ["write", "read"])
def test_a_transaction_within_a_transaction_is_a_mistake_and_is_said_so(
    store: Store, raw: Any, outer: str, inner: str
) -> None:
    def nested(_tx: Transaction) -> None:
        getattr(store, inner)(lambda tx: tx.one("meta", key="uuid"))

    with pytest.raises(RuntimeError, match="inside"):
        getattr(store, outer)(nested)
    assert store.write(add("the store still works")) > 0
    assert len(titles(raw)) == 1


def test_reading_sees_one_moment(store: Store, store_url: str) -> None:
    def count_twice(tx: Transaction) -> tuple[int, int]:
        before = tx.the("count_tasks")["total"]
        _in_another_thread(lambda: _add_to(store_url, "meanwhile"))
        return before, tx.the("count_tasks")["total"]

    assert store.read(count_twice) == (0, 0)
    assert store.read(lambda tx: tx.the("count_tasks")["total"]) == 1


def test_reading_cannot_write(store: Store, raw: Any) -> None:
    with suppress(StoreProblem):
        store.read(lambda tx: tx.run("add_plan", name="p", title=""))
    assert raw.rows("select * from plans") == []


def test_every_thread_has_its_own_transaction(store: Store, raw: Any) -> None:
    """Eight threads on one store object do not see each other's halves."""

    def work() -> None:
        for _ in range(5):
            store.write(add("by a thread"))
        store.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(titles(raw)) == 40


def test_a_store_can_be_used_again_after_close(store: Store) -> None:
    store.close()
    store.close()
    assert store.write(add("again")) == 1


def test_numbers_are_never_used_twice(store: Store, raw: Any) -> None:
    first = store.write(add("goes"))
    store.write(lambda tx: tx.run("delete_edges_of", id=first) + tx.run("delete_task", id=first))
    assert store.write(add("comes")) > first


def test_two_projects_share_a_database_and_see_nothing_of_each_other(store_url: str) -> None:
    stores = [open_store(store_url, project=name) for name in ("one", "two", "one")]
    stores[0].write(add("of one"))
    counts = [s.read(lambda tx: tx.the("count_tasks")["total"]) for s in stores]
    assert counts == [1, 0, 1]
    assert len({s.uuid for s in stores}) == 1
    for one in stores:
        one.close()


def test_a_project_is_known_by_its_id_whatever_its_folder_is_called(store_url: str) -> None:
    with closing(open_store(store_url, project=ProjectKey("shop", "a" * 32, is_set=False))) as store:
        store.write(add("kept"))
    with closing(open_store(store_url, project=ProjectKey("renamed", "a" * 32, is_set=False))) as store:
        assert store.project_name == "shop"
        assert store.read(lambda tx: tx.the("count_tasks")["total"]) == 1


def test_folders_of_one_name_are_two_projects(store_url: str) -> None:
    names = []
    for uid in ("a" * 32, "b" * 32, "a" * 32):
        with closing(open_store(store_url, project=ProjectKey("shop", uid, is_set=False))) as store:
            names.append(store.project_name)
    assert names == ["shop", "shop-bbbbbbbb", "shop"]


def test_clones_that_set_one_name_share_a_project(store_url: str) -> None:
    for uid in ("a" * 32, "b" * 32):
        with closing(open_store(store_url, project=ProjectKey("shop", uid))) as store:
            store.write(add(f"of {uid[0]}"))
            assert store.project_name == "shop"
    with closing(open_store(store_url, project="shop")) as store:
        assert store.read(lambda tx: tx.the("count_tasks")["total"]) == 2


def test_a_project_keeps_its_tasks_when_it_gets_a_name(store_url: str) -> None:
    with closing(open_store(store_url, project=ProjectKey("folder", "a" * 32, is_set=False))) as store:
        store.write(add("kept"))
    with closing(open_store(store_url, project=ProjectKey("shop", "a" * 32))) as store:
        assert store.read(lambda tx: tx.the("count_tasks")["total"]) == 1


@pytest.mark.parametrize("is_set", [True, False])
def test_a_name_that_no_project_has_begins_none_and_renames_none(store_url: str, is_set: bool) -> None:
    with closing(open_store(store_url, project=ProjectKey("shop", "a" * 32))) as store:
        store.write(add("kept"))
    uid = "a" * 32 if is_set else "b" * 32
    with pytest.raises(NotFound) as refused:
        open_store(store_url, project=ProjectKey("evil", uid, is_set=is_set, begins=False))
    assert (refused.value.code, "one of shop (" in refused.value.hint) == ("no_project", True)
    assert ("there this clone's is called 'shop'" in refused.value.message) is is_set
    with closing(open_store(store_url, project=ProjectKey("shop", "b" * 32, begins=False))) as store:
        assert store.read(lambda tx: [row["name"] for row in tx.all("projects")]) == ["shop"]
        assert store.read(lambda tx: tx.the("count_tasks")["total"]) == 1


def test_a_project_that_was_renamed_is_said_and_found_by_its_number(store_url: str) -> None:
    with closing(open_store(store_url, project=ProjectKey("shop", "a" * 32))) as store:
        number = store.project_number
        assert store.former_name is None
    with closing(open_store(store_url, project=ProjectKey("shpo", "a" * 32))) as store:
        assert (store.former_name, store.project_number) == ("shop", number)
    with closing(open_store(store_url, project=ProjectKey("shop", begins=False, number=number))) as store:
        assert (store.project_name, store.project_number) == ("shpo", number)


def test_a_store_of_its_own_is_opened_by_whatever_name_and_renamed_by_none_that_is_taken(store_url: str) -> None:
    key = ProjectKey("shop", "a" * 32, own_store=True)
    with closing(open_store(store_url, project=key)) as store:
        store.write(add("kept"))
    with closing(open_store(store_url, project=key._replace(name="evil", begins=False))) as store:
        assert (store.project_name, store.read(lambda tx: tx.the("count_tasks")["total"])) == ("shop", 1)
    with closing(open_store(store_url, project=ProjectKey("other", "b" * 32))) as store:
        assert store.project_name == "other"
    with pytest.raises(Conflict, match="'shop' cannot be called 'other'") as refused:
        open_store(store_url, project=key._replace(name="other"))
    assert refused.value.code == "project_name_taken"
    with closing(open_store(store_url, project=key._replace(name="new"))) as store:
        assert (store.project_name, store.read(lambda tx: tx.the("count_tasks")["total"])) == ("new", 1)


def test_a_store_of_before_there_were_ids_is_taken_over_by_its_project_alone(store_url: str) -> None:
    with closing(open_store(store_url, project="old folder")) as store:
        store.write(add("kept"))
    with closing(open_store(store_url, project=ProjectKey("another", "b" * 32, is_set=False))) as store:
        assert store.read(lambda tx: tx.the("count_tasks")["total"]) == 0, "a shared database has many projects"
    with closing(open_store(store_url, project=ProjectKey("old folder", "a" * 32, is_set=False))) as store:
        assert store.read(lambda tx: tx.the("count_tasks")["total"]) == 1
    with closing(open_store(store_url, project=ProjectKey("new folder", "a" * 32, is_set=False))) as store:
        assert store.project_name == "old folder"


def test_a_store_that_was_copied_with_its_project_is_another(tmp_path: Path) -> None:
    file = tmp_path / "orchestrion.db"
    key = ProjectKey("shop", "a" * 32, is_set=False, own_store=True)
    with closing(open_store(str(file), project=key)) as store:
        store.write(add("kept"))
        first = store.uuid
        assert not store.is_copy
    for is_copy in (True, False):
        with closing(open_store(str(file), project=key._replace(uid="b" * 32))) as store:
            assert (store.is_copy, store.uuid == first) == (is_copy, False)
            assert store.read(lambda tx: tx.the("count_tasks")["total"]) == 1


def test_a_store_of_its_own_is_its_project_whatever_its_name_was(store_url: str) -> None:
    with closing(open_store(store_url, project="old folder")) as store:
        store.write(add("kept"))
    key = ProjectKey("new folder", "a" * 32, is_set=False, own_store=True)
    with closing(open_store(store_url, project=key)) as store:
        assert (store.project_name, store.read(lambda tx: tx.the("count_tasks")["total"])) == ("old folder", 1)


def test_a_deadlock_begins_the_transaction_again(store: Store, raw: Any, dialect: str, store_url: str) -> None:
    """Two writers who take two rows in opposite orders: both succeed, and nothing is written twice."""
    if dialect == "sqlite":
        # One writer at a time: there is no order to get wrong.
        assert store.write(add("a")) == 1
        return
    a, b = store.write(add("a")), store.write(add("b"))
    meet = threading.Barrier(2, timeout=20)
    goes: list[int] = []

    def take(first: int, second: int) -> Callable[[Transaction], None]:
        def work(tx: Transaction) -> None:
            goes.append(first)
            tx.one("task_for_update", id=first)
            if len(goes) <= 2:
                meet.wait()
            tx.one("task_for_update", id=second)
            tx.event("took", task=first)

        return work

    def writer(first: int, second: int) -> None:
        store.write(take(first, second))
        store.close()

    threads = [threading.Thread(target=writer, args=pair) for pair in ((a, b), (b, a))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(goes) == 3
    assert sorted(r["task"] for r in raw.rows("select task from events where kind = 'took'")) == [a, b]


def test_a_deadlock_that_never_ends_is_a_store_problem(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrion.store.store import Again

    def always(_tx: Transaction) -> None:
        raise Again

    with pytest.raises(StoreProblem) as refused:
        store.write(always)
    assert refused.value.code == "store_busy"


def test_two_processes_write_one_after_the_other(store_url: str, raw: Any) -> None:
    open_store(store_url).close()
    programs = [
        _python("for n in range(25): store.write(lambda tx: create(tx, NewTask('t')))", store_url) for _ in "ab"
    ]
    assert [program.wait(60) for program in programs] == [0, 0]
    assert [row["id"] for row in raw.rows("select id from tasks order by id")] == list(range(1, 51))


# --- waiting for others -----------------------------------------------------------------------------------------------


def test_waiting_ends_when_another_process_commits(store: Store, store_url: str) -> None:
    _drain(store)
    assert store.wait_for_change(0.05) is False
    other = _python("store.write(lambda tx: create(tx, NewTask('t')))", store_url)
    assert store.wait_for_change(30) is True
    assert other.wait(30) == 0
    _drain(store)
    assert store.wait_for_change(0.05) is False


def test_waiting_returns_in_time_when_nothing_happens(store: Store) -> None:
    _drain(store)
    began = time.monotonic()
    assert store.wait_for_change(0.2) is False
    assert 0.15 < time.monotonic() - began < 5


def test_every_waiting_thread_of_a_store_hears_of_a_change(store: Store, store_url: str) -> None:
    """Two threads of a server wait on the same store: neither takes the other's wake-up away."""
    heard: list[bool] = []
    ready = threading.Barrier(3, timeout=20)

    def wait() -> None:
        _drain(store)
        ready.wait()
        heard.append(store.wait_for_change(20))
        store.close()

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.monotonic()
    other = open_store(store_url)
    while len(heard) < 2 and time.monotonic() - began < 10:
        other.write(add("t"))
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    other.close()
    assert heard == [True, True]


# --- opening and migrating --------------------------------------------------------------------------------------------


def test_both_databases_have_the_same_tables_and_columns(postgres: Any, tmp_path: Path) -> None:
    path, url = str(tmp_path / "a.db"), postgres.new()
    open_store(path).close()
    open_store(url).close()
    assert _sqlite_shape(path) == _postgres_shape(url)


def test_both_databases_have_the_same_indexes(postgres: Any, tmp_path: Path) -> None:
    path, url = str(tmp_path / "a.db"), postgres.new()
    open_store(path).close()
    open_store(url).close()
    with _sqlite(path) as connection:
        ours = {
            name for (name,) in connection.execute("select name from sqlite_master where type = 'index' and sql > ''")
        }
    with psycopg.connect(url) as server:
        theirs = {name for (name,) in server.execute(_NAMED_INDEXES.encode())}
    assert ours
    assert theirs - {"texts_by_word", "texts_of_decisions"} == ours


def test_migrations_have_the_same_numbers_on_both_databases() -> None:
    numbers = {d: [(m.version, m.name) for m in migrate.scripts(d)] for d in ("sqlite", "postgres")}
    assert numbers["sqlite"] == numbers["postgres"]
    assert [number for number, _ in numbers["sqlite"]] == list(range(1, len(numbers["sqlite"]) + 1))


_WORKER = (
    "insert into workers (project, host, pid, pid_start, slots, started_at, seen_at) values (1, 'h', 7, 0, 1, 0, {now})"
)
_RUN = (
    "insert into runs (project, task, attempt, supervised, lease_ms, lease_until, queued_at, claimed_at) "
    "values (1, 1, 1, 1, 60000, {now} + 60000, 0, 0)"
)


@pytest.mark.parametrize(("at_work", "who"), [(_WORKER, "worker h/7"), (_RUN, "R1")])
@pytest.mark.parametrize("is_anothers", [True, False], ids=["anothers", "not-served"])
def test_a_database_is_not_changed_under_programs_that_cannot_go_on(
    postgres: Any, at_work: str, who: str, is_anothers: bool
) -> None:
    """Their sessions are another user's, who cannot be parted from it, or the newer schema does not serve them."""
    url, known = str(postgres.new()), migrate.scripts("postgres")
    if not is_anothers:
        known[-1] = known[-1]._replace(serves_from=known[-1].version)
    with psycopg.connect(url, autocommit=True) as server:
        migrate.postgres(server, create=True, known=known[:1])
        server.execute("set session_replication_role = replica")  # the rows that these belong to do not matter
        server.execute(at_work.format(now="(extract(epoch from now()) * 1000)::bigint").encode())
        server.execute(_LOGIN.encode())
        with psycopg.connect(url, user="another" if is_anothers else None):
            with pytest.raises(StoreProblem, match=f"still at work there.*: {who}") as refused:
                migrate.postgres(server, create=True, known=known)
            assert refused.value.code == "upgrade_refused"
        assert _migrations(url) == [(1, 1)]
        server.execute("update workers set seen_at = 0")
        server.execute("update runs set lease_until = 0")
        migrate.postgres(server, create=True, known=known)
    assert len(_migrations(url)) == len(known)


_LOGIN = "do $$ begin create role another login; exception when duplicate_object then null; end $$"


def test_programs_of_an_older_version_go_on_after_they_connected_anew(postgres: Any) -> None:
    """What they prepared would fail from now on, and what they have begun and hold would never let us begin."""
    url, known = str(postgres.new()), migrate.scripts("postgres")
    with psycopg.connect(url, autocommit=True) as server:
        migrate.postgres(server, create=True, known=known[:1])
    older, holder = psycopg.connect(url, autocommit=True), psycopg.connect(url)
    for _ in range(7):
        older.execute("select * from runs")
    holder.execute("lock table runs, projects in row exclusive mode")
    open_store(url).close()
    for session in (older, holder):
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("select * from runs")
        session.close()
    assert len(_migrations(url)) == len(known)


def test_threads_that_open_an_older_database_at_once_upgrade_it_once(postgres: Any) -> None:
    url, known = str(postgres.new()), migrate.scripts("postgres")
    with psycopg.connect(url, autocommit=True) as server:
        migrate.postgres(server, create=True, known=known[:1])
    upgrades: list[object] = []

    def work() -> None:
        opened = open_store(url)
        upgrades.append(opened.upgrade)
        opened.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(upgrades) == 8
    assert len([one for one in upgrades if one]) == 1


def test_keys_stand_first_in_tables_that_are_their_own_index(tmp_path: Path) -> None:
    """SQLite 3.40 calls every row of another such table damaged when it is asked."""
    path = str(tmp_path / "a.db")
    open_store(path).close()
    with _sqlite(path) as connection:
        tables = [
            name for name, is_keyed in connection.execute("select name, wr from pragma_table_list where type = 'table'")
            if is_keyed
        ]  # fmt: skip
        for table in tables:
            columns = connection.execute(f"select name, pk from pragma_table_info('{table}')").fetchall()
            keys = [name for name, place in sorted(columns, key=lambda column: column[1]) if place]
            assert [name for name, _ in columns][: len(keys)] == keys, table
    assert "holds" in tables


def test_opening_again_changes_nothing(new_database: Callable[[], str]) -> None:
    url = new_database()
    first = open_store(url)
    first.write(add("kept"))
    again = open_store(url)
    assert again.uuid == first.uuid
    assert again.read(lambda tx: tx.the("count_tasks")["total"]) == 1
    assert len(_migrations(url)) == len(migrate.scripts("sqlite"))
    first.close()
    again.close()


def test_eight_processes_that_open_a_new_database_at_once_migrate_it_once(new_database: Callable[[], str]) -> None:
    url = new_database()
    programs = [_python("print(store.uuid)", url, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    said = {program.communicate(timeout=60)[0] for program in programs}
    assert [program.returncode for program in programs] == [0] * 8
    assert len(said) == 1
    assert len(_migrations(url)) == len(migrate.scripts("sqlite"))


def test_threads_that_open_a_new_database_at_once_all_succeed(new_database: Callable[[], str]) -> None:
    url = new_database()
    uuids: list[str] = []

    def work() -> None:
        opened = open_store(url)
        uuids.append(opened.uuid)
        opened.close()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(uuids) == 12
    assert len(set(uuids)) == 1


def test_a_newer_database_is_refused(new_database: Callable[[], str]) -> None:
    url = new_database()
    open_store(url).close()
    _add_migration(url, version=99, serves_from=99)
    with pytest.raises(StoreProblem) as refused:
        open_store(url)
    assert refused.value.code == "store_too_new"
    assert refused.value.details["schema"] == 99
    with pytest.raises(StoreProblem):
        open_store(url, create=False)


def test_a_newer_database_that_serves_this_program_is_used(new_database: Callable[[], str]) -> None:
    url = new_database()
    open_store(url).close()
    _add_migration(url, version=99, serves_from=1)
    store = open_store(url)
    assert store.write(add("works")) == 1
    store.close()
    assert [row[0] for row in _migrations(url)][-1] == 99


def test_a_script_says_from_which_program_on_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sqlite").mkdir()
    (tmp_path / "sqlite" / "0001_begin.sql").write_text("create table a (b);\n")
    (tmp_path / "sqlite" / "0002_more.sql").write_text("-- More.\n-- serves programs from: 1\ncreate table c (d);\n")
    monkeypatch.setattr(migrate, "FOLDER", tmp_path)
    assert [(m.version, m.name, m.serves_from) for m in migrate.scripts("sqlite")] == [(1, "begin", 1), (2, "more", 1)]


def test_an_older_database_is_brought_forward_and_a_broken_script_leaves_it_as_it_was(
    new_database: Callable[[], str], dialect: str
) -> None:
    url = new_database()
    open_store(url).close()
    known = migrate.scripts(dialect)
    number = known[-1].version + 1
    more = migrate.Migration(number, "more", number, "create table more (id integer);")
    broken = migrate.Migration(number, "broken", number, "create table half (id integer);\ncreate nonsense;")
    with pytest.raises((sqlite3.Error, psycopg.Error)):
        _migrate(url, dialect, [*known, broken])
    assert "half" not in _tables(url)
    assert _migrations(url)[-1][0] == number - 1
    _migrate(url, dialect, [*known, more])
    _migrate(url, dialect, [*known, more])
    assert "more" in _tables(url)
    assert [row[0] for row in _migrations(url)] == list(range(1, number + 1))


def test_a_missing_database_is_not_made_unless_asked(new_database: Callable[[], str], dialect: str) -> None:
    url = new_database()
    with pytest.raises(NotFound) as refused:
        open_store(url, create=False)
    assert refused.value.code == "no_store"
    assert refused.value.hint
    if dialect == "sqlite":
        assert not Path(url).exists()
    else:
        assert _tables(url) == set()


def test_an_empty_file_is_no_store_until_it_is_made_one(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(NotFound):
        open_store(str(path), create=False)
    store = open_store(str(path))
    assert store.write(add("now")) == 1
    store.close()


def test_a_sqlite_file_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with _sqlite(path) as connection:
        connection.execute("create table theirs (a)")
    before = path.read_bytes()
    for create_it in (True, False):
        with pytest.raises(StoreProblem) as refused:
            open_store(str(path), create=create_it)
        assert refused.value.code == "store_foreign"
    assert path.read_bytes() == before
    assert _tables(str(path)) == {"theirs"}


# --- what the machine refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["mysql://host/db", "https://example.org", "file://x"])
def test_other_databases_are_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        open_store(url)
    assert refused.value.code == "invalid_store_url"


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite://a.db", "sqlite:///:memory:", "sqlite:///a?mode=ro"]
)
def test_an_address_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        open_store(url)
    assert refused.value.code == "invalid_store_url"


@pytest.mark.parametrize("begin", ["", "sqlite://", "sqlite:///", "/", "//"])
def test_a_scheme_and_slashes_may_begin_the_path(tmp_path: Path, begin: str) -> None:
    store = open_store(f"{begin}{tmp_path}/a.db")
    assert store.write(add("there")) == 1
    store.close()
    assert (tmp_path / "a.db").exists()


def test_a_path_with_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        open_store(f"{tmp_path}/a\0b.db")
    assert refused.value.code == "invalid_path"


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreProblem) as refused:
        open_store(str(tmp_path))
    assert refused.value.code == "store_replaced"


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreProblem) as refused:
        open_store(str(tmp_path / "nowhere" / "a.db"))
    assert refused.value.code == "store_unreachable"
    assert not (tmp_path / "nowhere").exists()


def test_a_path_means_the_same_file_after_the_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("here.db")
    store.write(add("one"))
    store.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.write(add("two")) == 2
    store.close()


def test_no_name_of_a_file_means_a_database_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(":memory:")
    store.close()
    assert (tmp_path / ":memory:").exists()


@pytest.mark.parametrize("content", [b"this is not a database at all" * 200, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_corrupt_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.db"
    path.write_bytes(content)
    with pytest.raises(StoreProblem) as refused:
        open_store(str(path))
    assert refused.value.code == "store_corrupt"
    assert path.read_bytes() == content


def test_corruption_that_shows_later_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "bad.db"
    store = open_store(str(path))
    for _ in range(50):
        store.write(add("x" * 200))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"\xa5" * (len(content) - 4096 * 2)
    path.write_bytes(content)
    with pytest.raises(StoreProblem) as refused:
        _add_to(str(path), "more")
    assert refused.value.code == "store_corrupt"


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_read_only_store_is_said_to_be_so(what: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = folder / "a.db"
        store = open_store(str(path))
        store.write(add("kept"))
        store.close()
        path.chmod(0o444)
        folder.chmod(0o555 if what == "folder" else 0o777)
        with nobody(), pytest.raises(StoreProblem) as refused:
            _add_to(str(path), "refused")
        assert refused.value.code in ("store_read_only", "store_unreachable")
        folder.chmod(0o755)
        assert titles_of(str(path)) == ["kept"]


def test_a_read_only_user_is_said_to_be_so(postgres: Any) -> None:
    url = postgres.new()
    open_store(url).close()
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("alter database " + server.info.dbname + " set default_transaction_read_only = on")
    store = open_store(url, project="default")
    with pytest.raises(StoreProblem) as refused:
        store.write(add("refused"))
    store.close()
    assert refused.value.code == "store_read_only"
    with pytest.raises(StoreProblem):
        open_store(url, project="one that would have to be made")


def test_a_full_disk_is_said_to_be_so_and_nothing_is_half_written(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    store = open_store(path)
    store.write(add("first"))
    with _sqlite(path) as connection:
        pages = connection.execute("pragma page_count").fetchone()[0]
    store._connection().execute(f"pragma max_page_count = {pages + 2}")  # type: ignore[attr-defined]

    def fill() -> None:
        for _ in range(1000):
            store.write(lambda tx: [create(tx, NewTask("t", description="x" * 3000)) for _ in range(5)])

    with pytest.raises(StoreProblem) as refused:
        fill()
    assert refused.value.code == "disk_full"
    store._connection().execute("pragma max_page_count = 1000000")  # type: ignore[attr-defined]
    assert (len(titles_of(path)) - 1) % 5 == 0
    store.write(add("there is room again"))
    store.close()


def test_a_file_that_may_not_grow_is_said_to_be_full_or_unreachable(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    open_store(path).close()
    code = (
        "from orchestrion.core.errors import StoreProblem\n"
        "try:\n"
        "    for _ in range(1000): store.write(lambda tx: create(tx, NewTask('t', description='x' * 3000)))\n"
        "except StoreProblem as error: print(error.code)\n"
    )

    def shrink() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    program = _python(code, path, stdout=subprocess.PIPE, text=True, preexec_fn=shrink)
    assert program.communicate(timeout=60)[0].strip() in ("disk_full", "store_unreachable")
    with _sqlite(path) as connection:
        assert connection.execute("pragma integrity_check").fetchone()[0] == "ok"


def test_a_locked_store_is_said_to_be_so(
    dialect: str, store_url: str, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE_S", 0.2)
    monkeypatch.setattr(postgres, "LOCK_TIMEOUT_MS", 200)
    store = open_store(store_url)
    task = store.write(add("held"))
    raw.run("begin immediate" if dialect == "sqlite" else "begin")
    raw.run("update tasks set title = 'mine' where id = ?", task)
    with pytest.raises(StoreProblem) as refused:
        store.write(lambda tx: tx.run("set_parent", id=task, parent=None))
    assert refused.value.code == "store_locked"
    raw.run("rollback")
    assert store.write(lambda tx: tx.run("set_parent", id=task, parent=None)) == 1
    store.close()


def test_readers_are_not_kept_out_by_a_writer(dialect: str, store: Store, raw: Any) -> None:
    task = store.write(add("old"))
    raw.run("begin immediate" if dialect == "sqlite" else "begin")
    raw.run("update tasks set title = 'new' where id = ?", task)
    assert store.read(lambda tx: tx.the("task", id=task)["title"]) == "old"
    raw.run("rollback")


def test_a_reader_waits_for_one_who_has_the_whole_file(tmp_path: Path) -> None:
    """As a process has that closes the file last, or recovers it after a crash."""
    path = str(tmp_path / "a.db")
    store = open_store(path)
    store.write(add("there"))
    store.close()
    with _sqlite(path) as other:
        other.execute("pragma locking_mode = exclusive")
        other.execute("begin immediate")
        other.execute("update tasks set title = 'still there'")
        other.execute("commit")
        freed = threading.Timer(0.3, other.close)
        freed.start()
        assert store.read(lambda tx: tx.all("list_tasks", after=0, limit=5))[0]["title"] == "still there"
        freed.join()
    store.close()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://ada:secret@localhost:1/nothing", "store_unreachable"),
        ("postgresql://ada:secret@localhost:notaport/x", "store_unreachable"),
        ("postgresql://ada:secret@localhost/x?nonsense=1", "invalid_store_url"),
        ("postgresql://[ada:secret@/", "store_unreachable"),
    ],
)
def test_a_server_that_cannot_be_reached_is_said_to_be_so_without_the_password(url: str, code: str) -> None:
    with pytest.raises((StoreProblem, InvalidInput)) as refused:
        open_store(url)
    assert refused.value.code == code
    assert "secret" not in "".join(traceback.format_exception(refused.value))


def test_a_database_that_does_not_exist_is_said_to_be_so(postgres: Any) -> None:
    with pytest.raises(StoreProblem) as refused:
        open_store(postgres.url("no_such_database"))
    assert refused.value.code == "store_missing"
    assert "no_such_database" in refused.value.message


def test_a_connection_that_the_server_ended_is_made_anew(postgres: Any) -> None:
    url = postgres.new()
    store = open_store(url)
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert store.write(add("found")) > 0
    assert store.read(lambda tx: tx.all("list_tasks", after=0, limit=9))
    store.close()


# --- tools of these tests ---------------------------------------------------------------------------------------------


def _python(code: str, url: str, **how: Any) -> subprocess.Popen[Any]:
    """A process that opens the store and runs ``code``."""
    program = (
        "import sys\n"
        "from orchestrion.store import open_store\n"
        "from orchestrion.core.model import NewTask\n"
        "from orchestrion.scheduler.create import create\n"
        f"store = open_store(sys.argv[1])\n{code}\nstore.close()\n"
    )
    return subprocess.Popen([sys.executable, "-c", program, url], **how)


def _in_another_thread(act: Callable[[], None]) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def _add_to(url: str, title: str) -> None:
    store = open_store(url)
    try:
        store.write(add(title))
    finally:
        store.close()


def _drain(store: Store) -> None:
    while store.wait_for_change(0.05):
        pass


def titles_of(path: str) -> list[str]:
    with _sqlite(path) as connection:
        return [title for (title,) in connection.execute("select title from tasks order by id")]


@contextmanager
def _sqlite(path: object) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
    try:
        yield connection
    finally:
        connection.close()


def _ask(url: str, sql: str) -> list[Any]:
    if url.startswith("postgres"):
        with psycopg.connect(url) as server:
            return server.execute(sql.encode()).fetchall()
    with _sqlite(url) as connection:
        return connection.execute(sql).fetchall()


def _migrations(url: str) -> list[Any]:
    return _ask(url, "select version, serves_from from migrations order by version")


def _tables(url: str) -> set[str]:
    if url.startswith("postgres"):
        return {name for (name,) in _ask(url, "select tablename from pg_tables where schemaname = 'public'")}
    # The tables in which SQLite finds words are an index to PostgreSQL.
    theirs = ("sqlite_", "texts_found", "decisions_found")
    names = {name for (name,) in _ask(url, "select name from sqlite_master where type = 'table'")}
    return {name for name in names if not name.startswith(theirs)}


def _add_migration(url: str, *, version: int, serves_from: int) -> None:
    sql = (
        f"insert into migrations (version, name, serves_from, applied_at) values ({version}, 'later', {serves_from}, 0)"
    )
    if url.startswith("postgres"):
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(sql.encode())
        return
    with _sqlite(url) as connection:
        connection.execute(sql)


def _migrate(url: str, dialect: str, known: list[migrate.Migration]) -> None:
    if dialect == "postgres":
        with psycopg.connect(url, autocommit=True) as server:
            assert migrate.postgres(server, create=True, known=known)
        return
    with _sqlite(url) as connection:
        migrate.sqlite(connection, create=True, known=known)


_KINDS = {"integer": "number", "bigint": "number", "text": "text", "real": "fraction", "double precision": "fraction"}


#: Indexes of PostgreSQL that no constraint made; those it names itself.
_NAMED_INDEXES = """
    select c.relname
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and not exists (select 1 from pg_constraint where conindid = i.indexrelid)"""


def _sqlite_shape(path: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Table -> its columns by name: kind, may be missing. A primary key never is, whatever SQLite says of it."""
    with _sqlite(path) as connection:
        return {
            table: sorted(
                (name, _KINDS[kind.lower()], not (required or key))
                for _, name, kind, required, _, key in connection.execute(f"pragma table_info({table})")
            )
            for table in sorted(_tables(path))
        }


def _postgres_shape(url: str) -> dict[str, list[tuple[str, str, bool]]]:
    rows = _ask(
        url,
        "select table_name, column_name, data_type, is_nullable from information_schema.columns"
        " where table_schema = 'public' order by table_name, column_name collate \"C\"",
    )
    shape: dict[str, list[tuple[str, str, bool]]] = {}
    for table, column, kind, nullable in rows:
        shape.setdefault(table, []).append((column, _KINDS[kind], nullable == "YES"))
    return shape


def test_a_store_that_keeps_little_goes_on(store: Store, dialect: str) -> None:
    store.keep_little()
    assert store.write(lambda tx: tx.the("clock"))["now"]
    if dialect == "sqlite":
        pages = store.read(lambda tx: tx._query("pragma cache_size", {})[0][0])
        assert pages == -LITTLE_ROOM.pages_kb
