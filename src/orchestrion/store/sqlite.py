"""The store in one SQLite file: the default, for one machine.

WAL and ``synchronous=FULL``: a success that was reported survives a power cut. Writers
queue on the file's one write lock; the built-in wait is unfair to patient writers, so
after a short one we step back for a random moment and try again.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from orchestrion.core.errors import IllegalMove, InvalidInput, StoreProblem
from orchestrion.store import migrate
from orchestrion.store.statements import Statements
from orchestrion.store.store import Answer, Origin, Row, Store, Transaction, missing_store, refuse_nested, unstorable

Result = TypeVar("Result")

OLDEST_SQLITE = (3, 37, 0)
#: How long a writer waits for the file's write lock, in seconds.
PATIENCE_S = 30.0
#: How often a waiting process looks for changes of others, in seconds.
GLANCE_S = 0.02
#: Size of a page in a new file, in bytes.
PAGE_BYTES = 2048
#: Space that nobody uses is given back if it is more than this, and more than this share of the file.
WORTH_BYTES, WORTH_SHARE = 16 * 1024 * 1024, 0.25
#: In a larger file that would keep writers waiting for longer than they are patient.
LONG_BYTES = 1024 * 1024 * 1024
#: Pages in the write-ahead log after which they are copied into the file (8 MB): a page changed often is copied once.
CHECKPOINT_PAGES = 4096

_SPELLING = {
    "greatest": "max",
    "for_update": "",
    "skip_locked": "",
    "for_update_of_t": "",
    "as_int": "",
    # The file's machine is ours, and so is its clock; it is read once the write lock is held.
    "now": ":now",
}
_PROBLEMS = {
    sqlite3.SQLITE_BUSY: ("store_locked", "another process holds it; look for one that hangs, then try again"),
    sqlite3.SQLITE_LOCKED: ("store_locked", "another process holds it; look for one that hangs, then try again"),
    sqlite3.SQLITE_READONLY: ("store_read_only", "give write permission to the file and its folder"),
    sqlite3.SQLITE_FULL: ("disk_full", "free some disk space; nothing was half-written"),
    sqlite3.SQLITE_CORRUPT: (
        "store_corrupt",
        "{copy}; then try again, for one reading alone does not prove that anything is lost",
    ),
    sqlite3.SQLITE_NOTADB: (
        "store_corrupt",
        "this file is not a SQLite database, or its first page is damaged: name another, or {copy}",
    ),
    sqlite3.SQLITE_CANTOPEN: ("store_unreachable", "check that the folder exists and may be written"),
    sqlite3.SQLITE_IOERR: ("store_unreachable", "check the disk"),
}


class SqliteStore(Store):
    """A store in the file ``path``."""

    dialect = "sqlite"

    def __init__(self, path: str, *, create: bool = True, now: int | None = None) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreProblem(
                f"SQLite {sqlite3.sqlite_version} is too old",
                hint="use a Python whose SQLite is 3.37 or newer",
                code="sqlite_too_old",
            )
        if "\0" in path:
            raise InvalidInput("a path cannot contain a NUL character", code="invalid_path")
        super().__init__(path, Statements("sqlite", _SPELLING, _spell_list, r":\1"), now=now)
        self._path = Path(path).absolute()
        self._create = create
        try:
            with _translated(self.url):
                connection = self._connection()
                found, self.upgrade = _patiently(
                    lambda: migrate.sqlite(connection, create=create, file=self._path), PATIENCE_S
                )
            if not found:
                raise missing_store(path)
        except BaseException:
            self.close()
            raise

    def _write_once(self, work: Callable[[Transaction], Result], origin: Origin) -> Result:
        with _translated(self.url):
            connection = self._connection()
            refuse_nested(connection.in_transaction)
            _patiently(lambda: connection.execute("begin immediate"), PATIENCE_S)
            try:
                transaction = SqliteTransaction(connection, self._statements, self._constants(), origin)
                result = work(transaction)
                transaction.finish()
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
            return result

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        with _translated(self.url):
            # A process that closes the file last has all of it for a moment; work that only reads may begin again.
            return _patiently(lambda: self._read_once(work), PATIENCE_S)

    def _read_once(self, work: Callable[[Transaction], Result]) -> Result:
        connection = self._connection()
        refuse_nested(connection.in_transaction)
        connection.execute("begin")
        try:
            return work(SqliteTransaction(connection, self._statements, self._constants(), self.origin))
        finally:
            connection.execute("rollback")

    def wait_for_change(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self._has_changed():
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(GLANCE_S, left))
        return True

    def _has_changed(self) -> bool:
        """Whether another connection committed since this thread asked last; the number means nothing to others."""
        with _translated(self.url):
            look = self._connection().execute
            version = _patiently(lambda: look("pragma data_version").fetchone()[0], PATIENCE_S)
        before = getattr(self._local, "version", None)
        self._local.version = version
        return bool(version != before)

    def tidy_up(self) -> None:
        with _translated(self.url):
            connection = self._connection()
            refuse_nested(connection.in_transaction)
            _patiently(lambda: connection.execute("pragma optimize"), PATIENCE_S)
            unused, whole = (connection.execute(f"pragma {p}").fetchone()[0] for p in ("freelist_count", "page_count"))
            if WORTH_BYTES < unused * PAGE_BYTES < LONG_BYTES and unused > whole * WORTH_SHARE:
                _patiently(lambda: connection.execute("vacuum"), PATIENCE_S)

    def second_look(self) -> str:
        from orchestrion.store import proof  # which hardly anybody ever needs

        return proof.of_file(self._path)

    @property
    def how_to_copy(self) -> str:
        return _how_to_copy(self._path)

    @property
    def how_to_reindex(self) -> str:
        return f"""`python3 -c 'import sqlite3; sqlite3.connect("{self._path}").execute("reindex")'`"""

    def _constants(self) -> dict[str, Any]:
        return {"project": self._project, "now": time.time_ns() // 1_000_000 if self.now is None else self.now}

    def close(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            del self._local.connection
            self._local.version = None

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection

    def _connect(self) -> sqlite3.Connection:
        if not self._create and not self._path.exists():
            raise missing_store(self.url)
        connection = sqlite3.connect(
            self._path, timeout=GLANCE_S, isolation_level=None, cached_statements=400, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        try:
            _patiently(lambda: migrate.refuse_foreign(connection), PATIENCE_S)
            _configure(connection)
        except BaseException:
            connection.close()
            raise
        return connection


class SqliteTransaction(Transaction):
    """A transaction on one connection; lists travel as JSON text."""

    def __init__(
        self, connection: sqlite3.Connection, statements: Statements, constants: Mapping[str, Any], origin: Origin
    ) -> None:
        super().__init__(statements, constants, origin)
        self._connection = connection

    def _ask(self, text: str, given: dict[str, Any]) -> Answer:
        cursor = self._connection.execute(text, _bindable(given))
        return _Answer(cursor.fetchall(), cursor.rowcount)

    def put(self, name: str, /, **given: Any) -> None:
        self._connection.execute(self._statements.text(name, given), _bindable({**self._constants, **given}))

    def _query(self, text: str, given: dict[str, Any]) -> list[Row]:
        return self._connection.execute(text, _bindable(given)).fetchall()

    def _execute(self, text: str, given: dict[str, Any]) -> int:
        return self._connection.execute(text, _bindable(given)).rowcount

    def _execute_each(self, text: str, rows: list[dict[str, Any]]) -> None:
        self._connection.executemany(text, rows)


class _Answer:
    """SQLite answers at once."""

    def __init__(self, rows: list[Row], count: int) -> None:
        self._rows = rows
        self._count = count

    def rows(self) -> list[Row]:
        return self._rows

    def count(self) -> int:
        return self._count


def _spell_list(name: str, _type: str) -> str:
    return f"(select value from json_each(:{name}))"


def _bindable(given: dict[str, Any]) -> dict[str, Any]:
    if list in map(type, given.values()):
        for name, value in given.items():
            if type(value) is list:
                numbers = value and type(value[0]) is int
                given[name] = f"[{','.join(map(str, value))}]" if numbers else json.dumps(value)
    return given


def _configure(connection: sqlite3.Connection) -> None:
    # A commit copies each page it touched into the log: rows are small, so small pages write less. New files only.
    connection.execute(f"pragma page_size = {PAGE_BYTES}")
    connection.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
    _patiently(lambda: connection.execute("pragma journal_mode = wal"), PATIENCE_S)
    connection.execute("pragma synchronous = full")
    connection.execute("pragma foreign_keys = on")
    if sys.platform == "darwin":
        connection.execute("pragma fullfsync = on")


def _patiently(act: Callable[[], Result], patience_s: float) -> Result:
    end = time.monotonic() + patience_s
    pause = 0.001
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > end:
                raise
            time.sleep(pause * random.random())
            pause = min(pause * 1.5, 0.05)


class _translated:  # noqa: N801 - reads as a word: with _translated(url)
    """Turns SQLite's errors into ours: ``with _translated(url): ...``."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            _raise_ours(error, self._url)
        if isinstance(error, UnicodeEncodeError | OverflowError):
            raise unstorable(error) from error


def _raise_ours(error: sqlite3.Error, url: str) -> NoReturn:
    if "illegal_move" in str(error):
        raise IllegalMove("the row", "as it is", str(error).partition(": ")[2], []) from error
    code, hint = _PROBLEMS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, ("", ""))
    if not code:
        raise error
    hint = hint.format(copy=_how_to_copy(Path(url).absolute()))
    raise StoreProblem(f"the store {url} cannot be used: {error}", hint=hint, code=code) from error


def _how_to_copy(file: Path) -> str:
    return f"stop every program that has it open, and copy `{file}` and, if it is there, `{file}-wal` elsewhere"
