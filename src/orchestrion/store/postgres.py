"""The store in PostgreSQL: shared by several people and machines.

A transaction runs at READ COMMITTED. What two transactions must not do at once they
order by locking: a prerequisite's row (adding an edge against settling it), the rows of
dependants in order of id (two settlements), and one advisory lock for changes of the
graph's shape (two edges that together would close a circle). A deadlock that remains is
the database's to break and ours to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

from orchestrion.core.errors import IllegalMove, InvalidInput, StoreProblem
from orchestrion.core.settings import masked
from orchestrion.store import migrate
from orchestrion.store.migrate import Upgrade
from orchestrion.store.statements import Statements
from orchestrion.store.store import (
    Again,
    Answer,
    Origin,
    Row,
    Store,
    Transaction,
    missing_store,
    refuse_nested,
    unstorable,
)

Result = TypeVar("Result")

#: How long a statement waits for another's lock, in milliseconds.
LOCK_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_S = 10

_SPELLING = {
    "greatest": "greatest",
    "for_update": "for no key update",
    "skip_locked": "skip locked",
    "for_update_of_t": "for no key update of t",
    "as_int": "::int",
    "now": "coalesce(:now::bigint, (extract(epoch from clock_timestamp()) * 1000)::bigint)",
}
#: Somebody was first, between our look and our write: looking again shows it.
_LOST_RACES = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.UniqueViolation,
)


_OUR_TABLES = """select oid::regclass::text as name from pg_class
    where relkind = 'r' and relnamespace = current_schema()::regnamespace"""


class PostgresStore(Store):
    """A store in the database that ``url`` names."""

    dialect = "postgres"

    def __init__(self, url: str, *, create: bool = True, now: int | None = None) -> None:
        super().__init__(url, Statements("postgres", _SPELLING, _spell_list, r"%(\1)s"), now=now)
        _refuse_broken(url)
        try:
            found, self.upgrade = self._until_won(lambda: self._migrate(create))
            if not found:
                raise missing_store(_without_password(url))
        except BaseException:
            self.close()
            raise

    def _migrate(self, create: bool) -> tuple[bool, Upgrade | None]:
        with _translated(self.url):
            connection = self._connection()
            try:
                return migrate.postgres(connection, create=create)
            except psycopg.OperationalError as lost:
                if connection.closed:  # by who migrates it now
                    raise Again from lost
                raise

    def _write_once(self, work: Callable[[Transaction], Result], origin: Origin) -> Result:
        with _translated(self.url):
            connection = self._connection()
            refuse_nested(_in_transaction(connection))
            try:
                with connection.pipeline():
                    connection.execute("begin")
                    transaction = PostgresTransaction(connection, self._statements, self._constants(), origin)
                    result = work(transaction)
                    transaction.finish()
                    connection.execute("commit")
            except BaseException:
                _roll_back(connection)
                raise
            return result

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        with _translated(self.url):
            connection = self._connection()
            refuse_nested(_in_transaction(connection))
            with connection.transaction():
                connection.execute("set transaction isolation level repeatable read read only")
                return work(PostgresTransaction(connection, self._statements, self._constants(), self.origin))

    def wait_for_change(self, seconds: float) -> bool:
        with _translated(self.url):
            listener: psycopg.Connection[DictRow] | None = getattr(self._local, "listener", None)
            if listener is None or listener.closed:
                self._local.listener = _connect(self.url)
                self._local.listener.execute("listen orchestrion")
                return True
            return bool(list(listener.notifies(timeout=seconds, stop_after=1)))

    def tidy_up(self) -> None:
        with _translated(self.url):
            connection = self._connection()
            refuse_nested(_in_transaction(connection))
            for table in ("tasks", "edges", "runs", "events", "metrics"):
                connection.execute(f"vacuum (analyze, skip_locked) {table}".encode())

    def second_look(self) -> str:
        with _translated(self.url):
            connection = self._connection()
            refuse_nested(_in_transaction(connection))
            for row in connection.execute(_OUR_TABLES).fetchall():
                try:
                    connection.execute(f"select count(t::text) from {row['name']} t".encode())
                except (psycopg.InternalError, psycopg.DataError) as problem:
                    return f"table {row['name']} cannot be read: {_first_line(problem)}"
        return ""

    @property
    def how_to_copy(self) -> str:
        return f"copy it: `pg_dump --format=custom --file=orchestrion.dump '{masked(self.url)}'`"

    @property
    def how_to_reindex(self) -> str:
        return f"`psql '{masked(self.url)}' -c 'reindex schema public'`"

    def close(self) -> None:
        for connection in (getattr(self._local, "connection", None), getattr(self._local, "listener", None)):
            if connection is not None:
                connection.close()
        self._local.connection = self._local.listener = None

    def _connection(self) -> psycopg.Connection[DictRow]:
        connection: psycopg.Connection[DictRow] | None = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = self._local.connection = _connect(self.url)
        return connection


class PostgresTransaction(Transaction):
    """A transaction on one connection; lists travel as arrays."""

    def __init__(
        self,
        connection: psycopg.Connection[DictRow],
        statements: Statements,
        constants: Mapping[str, Any],
        origin: Origin,
    ) -> None:
        super().__init__(statements, constants, origin)
        self._connection = connection

    def _ask(self, text: str, given: dict[str, Any]) -> Answer:
        return _Answer(self._connection.execute(text.encode(), given))

    def _query(self, text: str, given: dict[str, Any]) -> list[Row]:
        return list(self._connection.execute(text.encode(), given).fetchall())

    def _execute(self, text: str, given: dict[str, Any]) -> int:
        return self._ask(text, given).count()

    def _execute_each(self, text: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._ask(text, row)


class _Answer:
    """PostgreSQL answers when the statement's turn in the pipeline has come."""

    def __init__(self, cursor: psycopg.Cursor[DictRow]) -> None:
        self._cursor = cursor

    def rows(self) -> list[Row]:
        return list(self._cursor.fetchall())

    def count(self) -> int:
        # Only fetching waits for the pipeline; that there is nothing to fetch is said by the plain ProgrammingError.
        try:
            self._cursor.fetchone()
        except psycopg.ProgrammingError as error:
            if type(error) is not psycopg.ProgrammingError:
                raise
        return self._cursor.rowcount


def _spell_list(name: str, kind: str) -> str:
    return f"(select unnest(cast(:{name} as {kind}[])))"


def _connect(url: str) -> psycopg.Connection[DictRow]:
    connection = psycopg.connect(
        url,
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=CONNECT_TIMEOUT_S,
        # A cut network is noticed well before a run's lease ends.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=2,
        tcp_user_timeout=20_000,
    )
    connection.execute(f"set lock_timeout = {LOCK_TIMEOUT_MS}".encode())
    # Every statement goes through an index that was made for it; planning it anew each time only costs.
    connection.execute("set plan_cache_mode = force_generic_plan")
    return connection


def _roll_back(connection: psycopg.Connection[DictRow]) -> None:
    if not connection.closed:
        connection.rollback()


def _in_transaction(connection: psycopg.Connection[DictRow]) -> bool:
    return connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.ACTIVE)


def _refuse_broken(url: str) -> None:
    """Refuses what is no address at all; what libpq says of it would show the password."""
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise InvalidInput(
            "this is not the address of a PostgreSQL database",
            hint="it looks like postgresql://user@host:5432/database",
            code="invalid_store_url",
        ) from None


class _translated:  # noqa: N801 - reads as a word: with _translated(url)
    """Turns PostgreSQL's errors into ours: ``with _translated(url): ...``."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.DataError | UnicodeEncodeError):
            raise unstorable(error) from error
        if isinstance(error, psycopg.Error):
            _raise_ours(error, self._url)


def _raise_ours(error: psycopg.Error, url: str) -> NoReturn:
    if "illegal_move" in str(error):
        said = str(error).splitlines()[0].partition("illegal_move: ")[2]
        raise IllegalMove("the row", "as it is", said, []) from error
    if isinstance(error, _LOST_RACES):
        raise Again from error
    where = _without_password(url)
    if isinstance(error, psycopg.errors.LockNotAvailable):
        raise StoreProblem(
            f"the store {where} cannot be used: another transaction holds a lock",
            hint="look for one that hangs, then try again",
            code="store_locked",
        ) from error
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction | psycopg.errors.InsufficientPrivilege):
        raise StoreProblem(
            f"the store {where} cannot be written: {_first_line(error)}",
            hint="give this database user the right to write",
            code="store_read_only",
        ) from error
    if isinstance(error, psycopg.OperationalError):
        raise StoreProblem(
            f"the store {where} cannot be reached: {_first_line(error)}",
            hint="check that the server runs and the address is right",
            code="store_unreachable",
        ) from error
    raise error


def _without_password(url: str) -> str:
    info = psycopg.conninfo.conninfo_to_dict(url)
    return f"postgresql://{info.get('host', '')}/{info.get('dbname', '')}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
