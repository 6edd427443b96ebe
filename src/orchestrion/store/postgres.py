"""The store in PostgreSQL: shared by several people and machines.

A transaction runs at READ COMMITTED. What two transactions must not do at once they
order by locking: a prerequisite's row (adding an edge against settling it), the rows of
dependants in order of id (two settlements), and one advisory lock for changes of the
graph's shape (two edges that together would close a circle). A deadlock that remains is
the database's to break and ours to try again.

What a server may say, and whether it passes, is one table of its SQLSTATE codes. A new
connection is used only if it leads to the database that was opened.
"""

from __future__ import annotations

import logging
import re
import select
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

from orchestrion.core.errors import IllegalMove, InvalidInput, StoreProblem
from orchestrion.core.masking import Masker, masked_address
from orchestrion.store import migrate
from orchestrion.store.migrate import Upgrade
from orchestrion.store.misfits import Proof
from orchestrion.store.statements import Statements
from orchestrion.store.store import (
    Again,
    Answer,
    Origin,
    Row,
    Store,
    Transaction,
    missing_store,
    number_given,
    refuse_nested,
    repeated,
    replaced_store,
    unstorable,
)

Result = TypeVar("Result")

#: How long a statement waits for another's lock, in milliseconds.
LOCK_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_S = 10
# What the driver says of connections that break reaches people as our errors, and not on stderr beside them.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

_SPELLING = {
    "greatest": "greatest",
    "for_update": "for no key update",
    "skip_locked": "skip locked",
    "for_update_of_t": "for no key update of t",
    "as_int": "::int",
    "now": "coalesce(:now::bigint, (extract(epoch from clock_timestamp()) * 1000)::bigint)",
    "new_run": "(select max(nextval(pg_get_serial_sequence('runs', 'id'))) from"
    " generate_series(1, greatest(1, :least::bigint - (select last_value from runs_id_seq))))",
}


class Refusal(NamedTuple):
    """What it means that the server refuses, and what to do."""

    code: str
    said: str
    hint: str
    #: Whether nothing was written for certain, and beginning again at once may do.
    again: bool = False


_RUNS = "check that the server runs and the address is right"
_AWAY = Refusal("store_unreachable", "cannot be reached", _RUNS)
_RACE = Refusal(
    "store_busy", "is so busy that this was begun several times in vain", "nothing was written; try again", again=True
)
_CUT = Refusal(
    "store_timeout",
    "ended our connection because it was idle",
    "raise idle_in_transaction_session_timeout or idle_session_timeout for this database or user",
    again=True,
)
_FORGOTTEN = Refusal(
    "store_unreachable",
    "does not know what was prepared on a connection, each time anew",
    "let a connection pooler before it pool whole sessions, or keep prepared statements",
    again=True,
)
_MISSING = Refusal(
    "store_missing", "is not there", "restore it, and the work goes on; or make a new one with `createdb`"
)
_DAMAGED = Refusal(
    "store_corrupt",
    "is damaged",
    "stop the workers, and look into the server's log; an index is made anew by `reindex schema public`",
)
_READ_ONLY = Refusal(
    "store_read_only",
    "only reads",
    "reading works; to change something name the server that takes changes, or end default_transaction_read_only",
)
#: A server's SQLSTATE, whole or the class of it (its first two characters) -> what it means.
REFUSALS = {
    # Somebody was first, between our look and our write: looking again shows it.
    "40001": _RACE,
    "40P01": _RACE,
    "23505": _RACE,
    "25P03": _CUT,
    "57P05": _CUT,
    "26000": _FORGOTTEN,
    "42P05": _FORGOTTEN,
    "25P04": Refusal(
        "store_timeout",
        "ended a transaction that took too long",
        "raise transaction_timeout for this database or user",
    ),
    "57014": Refusal(
        "store_timeout",
        "gave up a statement",
        "raise statement_timeout for this database or user, or look who cancelled it",
    ),
    "55P03": Refusal("store_locked", "is held by another transaction", "look for one that hangs, then try again"),
    "53100": Refusal(
        "disk_full",
        "has no room left on the server's disk",
        "free some there, then try again; the store is as it was before",
    ),
    "53300": Refusal(
        "store_busy",
        "has all its connections in use",
        "end some, raise max_connections of the server, or put a connection pooler before it",
    ),
    "53": Refusal("store_busy", "has not enough of something", "look into the server's log and at its machine"),
    "25006": _READ_ONLY,
    "42501": Refusal(
        "store_read_only",
        "does not allow this user to do that",
        "give this database user the rights on its tables; to read, select is enough",
    ),
    "57P04": _MISSING,
    "3D000": _MISSING,
    "3F000": _MISSING,
    "42P01": _MISSING,
    "42703": _MISSING,
    "57": _AWAY,
    "08": _AWAY,
    "28": Refusal("store_unreachable", "does not let this user in", "check the user and the password in the address"),
    "58": Refusal("store_unreachable", "cannot read or write its files", "look into the server's log and at its disk"),
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}
#: After these another connection is begun: after a failover the same address may lead to the server that takes
#: changes, and what was prepared on this one is not known any more.
_LEFT_AFTER = (
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
)
#: While a connection is begun there is no SQLSTATE, only words -> the one they stand for.
_WORDS = {
    "too many connections": "53300",
    "remaining connection slots": "53300",
    "too many clients": "53300",
    "database .* does not exist": "3D000",
}


_OUR_TABLES = """select oid::regclass::text as name from pg_class
    where relkind = 'r' and relnamespace = current_schema()::regnamespace"""


#: How a connection tells that the server ended it while it was begun: in the server's words, or in those of libpq.
_ENDED = ("terminating connection", "server closed the connection")


class PostgresStore(Store):
    """A store in the database that ``url`` names."""

    dialect = "postgres"

    def __init__(self, url: str, *, create: bool = True, now: int | None = None) -> None:
        super().__init__(url, Statements("postgres", _SPELLING, _spell_list, r"%(\1)s"), now=now)
        _refuse_broken(url)
        try:
            found, self.upgrade = repeated(lambda: self._migrate(create))
            if not found:
                raise missing_store(_without_password(url))
        except BaseException:
            self.close()
            raise
        self._is_known = True

    def _migrate(self, create: bool) -> tuple[bool, Upgrade | None]:
        with _translated(self.url):
            try:
                connection = self._connection()
            except (StoreProblem, psycopg.OperationalError) as lost:
                if any(said in str(lost) for said in _ENDED):  # by who migrates it now, while it was begun
                    raise Again(lost if isinstance(lost, StoreProblem) else _problem(lost, self.url)) from lost
                raise
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
                    transaction = PostgresTransaction(
                        connection, self._statements, self._constants(), origin, self.masker
                    )
                    result = work(transaction)
                    transaction.finish()
                    connection.execute("commit")
            except BaseException as error:
                _roll_back(connection)
                if isinstance(error, _LEFT_AFTER):
                    self.close()
                raise
            return result

    def _read_once(self, work: Callable[[Transaction], Result]) -> Result:
        with _translated(self.url):
            connection = self._connection()
            refuse_nested(_in_transaction(connection))
            try:
                with connection.transaction():
                    connection.execute("set transaction isolation level repeatable read read only")
                    return work(self._transaction(connection, self.origin))
            except _LEFT_AFTER:
                self.close()
                raise
            except psycopg.OperationalError as error:
                if not connection.closed:
                    raise
                raise Again(_problem(error, self.url)) from error  # one that only reads may, whatever was the cause

    def _transaction(self, connection: psycopg.Connection[DictRow], origin: Origin) -> PostgresTransaction:
        return PostgresTransaction(connection, self._statements, self._constants(), origin, self.masker)

    def wait_for_change(self, seconds: float) -> bool:
        with _translated(self.url):
            listener: psycopg.Connection[DictRow] | None = getattr(self._local, "listener", None)
            if listener is None or listener.closed:
                self._local.listener = self._listening()
                return True
            try:
                return bool(list(listener.notifies(timeout=seconds, stop_after=1)))
            except psycopg.OperationalError:
                listener.close()
                return True  # what was said when nobody listened is not known

    def _listening(self) -> psycopg.Connection[DictRow]:
        listener = self._connected()
        try:
            listener.execute("listen orchestrion")
        except BaseException:
            listener.close()
            raise
        return listener

    def tidy_up(self) -> None:
        with _translated(self.url):
            connection = self._connection()
            refuse_nested(_in_transaction(connection))
            for table in ("tasks", "edges", "runs", "events", "metrics"):
                connection.execute(f"vacuum (analyze, skip_locked) {table}".encode(), prepare=False)

    def second_look(self) -> Proof:
        with _translated(self.url):
            connection = self._connection()
            refuse_nested(_in_transaction(connection))
            for row in connection.execute(_OUR_TABLES).fetchall():
                try:
                    connection.execute(f"select count(t::text) from {row['name']} t".encode(), prepare=False)
                except (psycopg.InternalError, psycopg.DataError) as problem:
                    return Proof(f"table {row['name']} cannot be read: {_first_line(problem)}")
        return Proof()

    @property
    def how_to_copy(self) -> str:
        return f"copy it: `pg_dump --format=custom --file=orchestrion.dump '{masked_address(self.url)}'`"

    @property
    def how_to_reindex(self) -> str:
        return f"`psql '{masked_address(self.url)}' -c 'reindex schema public'`"

    def close(self) -> None:
        for connection in (getattr(self._local, "connection", None), getattr(self._local, "listener", None)):
            if connection is not None:
                connection.close()
        self._local.connection = self._local.listener = None

    def _connection(self) -> psycopg.Connection[DictRow]:
        connection: psycopg.Connection[DictRow] | None = getattr(self._local, "connection", None)
        if connection is None or _was_ended(connection):
            connection = self._local.connection = self._connected()
        return connection

    def _connected(self) -> psycopg.Connection[DictRow]:
        """A new connection. Raises StoreProblem unless it leads to the database that was opened."""
        connection = _connect(self.url)
        try:
            connection.execute(f"set lock_timeout = {LOCK_TIMEOUT_MS}".encode())
            # Every statement goes through an index that was made for it; planning it anew each time only costs.
            connection.execute("set plan_cache_mode = force_generic_plan")
            if self.uuid:
                row = connection.execute("select value from meta where key = 'uuid'").fetchone()
                if row is None or row["value"] != self.uuid:
                    raise replaced_store(_without_password(self.url))
        except BaseException:
            connection.close()
            raise
        return connection


class PostgresTransaction(Transaction):
    """A transaction on one connection; lists travel as arrays."""

    def __init__(
        self,
        connection: psycopg.Connection[DictRow],
        statements: Statements,
        constants: Mapping[str, Any],
        origin: Origin,
        masker: Masker,
    ) -> None:
        super().__init__(statements, constants, origin, masker)
        self._connection = connection

    def _ask(self, text: str, given: dict[str, Any]) -> Answer:
        return _Answer(self._connection.execute(text.encode(), given))

    def _query(self, text: str, given: dict[str, Any]) -> list[Row]:
        return list(self._connection.execute(text.encode(), given).fetchall())

    def _execute(self, text: str, given: dict[str, Any]) -> int:
        return self._ask(text, given).count()

    def _execute_each(self, text: str, rows: Iterable[dict[str, Any]]) -> None:
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
    return psycopg.connect(
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


def _was_ended(connection: psycopg.Connection[DictRow]) -> bool:
    """Whether the server ended it: to one who asks nothing it says nothing else."""
    if connection.closed or _in_transaction(connection):
        return bool(connection.closed)
    looked = select.poll()
    looked.register(connection.fileno(), select.POLLIN)
    if ended := bool(looked.poll(0)):
        connection.close()
    return ended


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
            ours = _ours(error, self._url)
            if ours is not error:
                raise ours from error


def _ours(error: psycopg.Error, url: str) -> Exception:
    if "illegal_move" in str(error):
        said = str(error).splitlines()[0].partition("illegal_move: ")[2]
        return IllegalMove("the row", "as it is", said, [])
    refusal = _refusal(error)
    if refusal is None:
        return error
    if "(id)=" in (error.diag.message_detail or "") and error.sqlstate == "23505":
        return Again(number_given(_first_line(error)))  # each try takes the next number
    problem = _problem(error, url)
    return Again(problem) if refusal.again else problem


def _problem(error: psycopg.Error, url: str) -> StoreProblem:
    refusal = _refusal(error) or _AWAY
    return StoreProblem(
        f"the store {_without_password(url)} {refusal.said}: {_first_line(error)}", hint=refusal.hint, code=refusal.code
    )


def _refusal(error: psycopg.Error) -> Refusal | None:
    """What it means; None: nobody thought of it."""
    words = str(error)
    state = error.sqlstate or next((found for said, found in _WORDS.items() if re.search(said, words)), "")
    known = REFUSALS.get(state) or REFUSALS.get(state[:2])
    return known or (_AWAY if isinstance(error, psycopg.OperationalError) else None)


def _without_password(url: str) -> str:
    info = psycopg.conninfo.conninfo_to_dict(url)
    return f"postgresql://{info.get('host', '')}/{info.get('dbname', '')}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
