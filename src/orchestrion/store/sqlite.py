"""The store in one SQLite file: the default, for one machine.

WAL and ``synchronous=FULL``: a success that was reported survives a power cut. Writers
queue on the file's one write lock; the built-in wait is unfair to patient writers, so
after a short one we step back for a random moment and try again.

The file that was opened is the store, and no other: where it vanished or was replaced
nothing is written and nothing made, and when it is put back the work goes on.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from orchestrion.core import private
from orchestrion.core.errors import EnvironmentProblem, IllegalMove, InvalidInput, StoreProblem
from orchestrion.core.masking import Masker
from orchestrion.store import disk, migrate
from orchestrion.store.sqlite_file import (
    LITTLE_ROOM,
    ROOM,
    Connected,
    DatabaseFile,
    Mark,
    Room,
    is_busy,
    is_refusal_to_write,
)
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
    replaced_store,
    unstorable,
    vanished_store,
)

if TYPE_CHECKING:
    from orchestrion.store.misfits import Misfit, Proof

Result = TypeVar("Result")

#: All of 3.37 refuse a whole number for a REAL column of a strict table that has a trigger before updates.
OLDEST_SQLITE = (3, 38, 2)
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
#: Ends of the names of a store's files: the database, its log, and what processes share of that.
_FILES = ("", "-wal", "-shm")

_SPELLING = {
    "greatest": "max",
    "for_update": "",
    "skip_locked": "",
    "for_update_of_t": "",
    "as_int": "",
    # The file's machine is ours, and so is its clock; it is read once the write lock is held.
    "now": ":now",
    "new_run": "max(:least, (select coalesce(max(id), 0) + 1 from runs))",
}
READ_ONLY_HINT = "reading works; to change something, give write permission to the file and its folder"
FULL_HINT = "free some space on its disk, then try again; the store is as it was before"
#: What SQLite says where a file cannot grow or be made, for one reason or another.
_PERHAPS_FULL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
#: And of a table or a column that somebody took away, which has no number of its own.
_LACKS = ("no such table", "no such column")
#: What Python says where a row has not the column that it is asked for.
_NO_COLUMN = "No item with that key"
#: And of a value that a table refuses; what we write ourselves was looked at before.
_UNFIT = ("CHECK constraint failed", "cannot store ")
_PROBLEMS = {
    sqlite3.SQLITE_BUSY: ("store_locked", "another process holds it; look for one that hangs, then try again"),
    sqlite3.SQLITE_LOCKED: ("store_locked", "another process holds it; look for one that hangs, then try again"),
    sqlite3.SQLITE_READONLY: ("store_read_only", READ_ONLY_HINT),
    sqlite3.SQLITE_FULL: ("disk_full", FULL_HINT),
    sqlite3.SQLITE_CORRUPT: (
        "store_corrupt",
        f"{{copy}}; then {migrate.REBUILD} makes it anew from its rows, or says what of them is lost",
    ),
    sqlite3.SQLITE_NOTADB: (
        "store_corrupt",
        "this file is not a SQLite database, or its first page is damaged: name another, or {copy}",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "store_unreachable",
        "check that the file may be read and written, and that its folder exists and may be written",
    ),
    sqlite3.SQLITE_IOERR: ("store_unreachable", "check the disk"),
}


class SqliteStore(Store):
    """A store in the file ``path``."""

    dialect = "sqlite"

    def __init__(self, path: str, *, create: bool = True, now: int | None = None) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreProblem(
                f"SQLite {sqlite3.sqlite_version} is too old",
                hint=f"use a Python whose SQLite is {'.'.join(map(str, OLDEST_SQLITE))} or newer",
                code="sqlite_too_old",
            )
        if "\0" in path:
            raise InvalidInput("a path cannot contain a NUL character", code="invalid_path")
        super().__init__(path, Statements("sqlite", _SPELLING, _spell_list, r":\1"), now=now)
        self._path = self.file = Path(path).absolute()
        self._file = DatabaseFile(self._path)
        self._translated = _Translated(self.url, self._path.parent, self._show_no_text)
        self._create = create
        self._first_room = ROOM
        #: Connections of all threads: a log that was removed is left by all of them before it is begun anew.
        self._open: WeakSet[Connected] = WeakSet()
        try:
            with self._translated:
                held = self._held()
                found, self.upgrade = _patiently(
                    lambda: migrate.sqlite(
                        held.connection, create=create and held.writes, file=self._path, writes=held.writes
                    ),
                    PATIENCE_S,
                )
            if not found:
                raise missing_store(path)
            self._tighten()
        except BaseException:
            self.close()
            raise
        self._is_known = True
        self._first = held.marks.file

    def _tighten(self) -> None:
        """The files of a store belong to one user, also those that an earlier version made for everybody to read."""
        copies = self._path.parent.glob(f"{self._path.name}.schema-*") if self.upgrade else ()
        for file in (*(self._path.with_name(f"{self._path.name}{end}") for end in _FILES), *copies):
            private.tighten(file)

    def _write_once(self, work: Callable[[Transaction], Result], origin: Origin) -> Result:
        with self._translated:
            held = self._held_to_write()
            connection = held.connection
            refuse_nested(connection.in_transaction)
            _patiently(lambda: connection.execute("begin immediate"), PATIENCE_S)
            try:
                transaction = SqliteTransaction(connection, self._statements, self._constants(), origin, self.masker)
                result = work(transaction)
                transaction.finish()
                if not self._file.has_still(held):
                    held.sure_until = 0.0
                    raise Again(vanished_store(self.url))  # who begins again looks what there is
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
            return result

    def _read_once(self, work: Callable[[Transaction], Result]) -> Result:
        with self._translated:
            # A process that closes the file last has all of it for a moment; work that only reads may begin again.
            return _patiently(lambda: self._looked(work), PATIENCE_S)

    def _looked(self, work: Callable[[Transaction], Result]) -> Result:
        connection = self._connection()
        refuse_nested(connection.in_transaction)
        connection.execute("begin")
        try:
            return work(SqliteTransaction(connection, self._statements, self._constants(), self.origin, self.masker))
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
        with self._translated:
            look = self._connection().execute
            version = _patiently(lambda: look("pragma data_version").fetchone()[0], PATIENCE_S)
        before, self._local.version = getattr(self._local, "version", None), version
        return bool(version != before)

    def keep_little(self) -> None:
        self._first_room = LITTLE_ROOM
        self._connection().execute(f"pragma cache_size = -{LITTLE_ROOM.pages_kb}")

    def tidy_up(self) -> None:
        with self._translated:
            connection = self._held_to_write().connection
            refuse_nested(connection.in_transaction)
            _patiently(lambda: connection.execute("pragma optimize"), PATIENCE_S)
            unused, whole = (connection.execute(f"pragma {p}").fetchone()[0] for p in ("freelist_count", "page_count"))
            if WORTH_BYTES < unused * PAGE_BYTES < LONG_BYTES and unused > whole * WORTH_SHARE:
                _patiently(lambda: connection.execute("vacuum"), PATIENCE_S)

    def second_look(self) -> Proof:
        from orchestrion.store import proof  # which hardly anybody ever needs

        return proof.of_file(self._path)

    def odd_row(self) -> Misfit | None:
        from orchestrion.store import proof

        return proof.odd_row(self._path)

    @property
    def how_to_copy(self) -> str:
        return _how_to_copy(self._path)

    @property
    def how_to_reindex(self) -> str:
        return migrate.REBUILD

    def _constants(self) -> dict[str, Any]:
        return {**super()._constants(), "now": time.time_ns() // 1_000_000 if self.now is None else self.now}

    def close(self) -> None:
        held: Connected | None = getattr(self._local, "held", None)
        if held is not None:
            self._local.held = self._local.version = None
            self._open.discard(held)
            held.connection.close()

    def _connection(self) -> sqlite3.Connection:
        return self._held().connection

    def _held_to_write(self) -> Connected:
        """This thread's connection. Raises StoreProblem where it can only read."""
        held = self._held()
        if not held.writes:
            self.close()  # perhaps it may be written by now
            held = self._held()
        if not held.writes and disk.is_full(self._path.parent):
            raise StoreProblem(
                f"the store {self.url} cannot be written: its disk is full", hint=FULL_HINT, code="disk_full"
            )
        if not held.writes:
            raise StoreProblem(
                f"the store {self.url} may only be read here", hint=READ_ONLY_HINT, code="store_read_only"
            )
        return held

    def _held(self) -> Connected:
        """This thread's connection, to the file that was opened. Raises StoreProblem when that is not there."""
        held: Connected | None = getattr(self._local, "held", None)
        if held is not None and self._was_left(held):
            held = None
        if held is None:
            held = self._local.held = self._connect()
            self._open.add(held)
        return held

    def _was_left(self, held: Connected) -> bool:
        """Whether it led to another file or log than those that are there now, and was closed. Not asked each time:
        a commit makes sure by itself.
        """
        moment = time.monotonic()
        if moment < held.sure_until:
            return False
        found = self._file.marks(follows=held.follows)
        if held.marks == found:
            held.sure_until = moment + GLANCE_S
            return False
        if held.follows and held.marks.file == found.file and not held.connection.in_transaction:
            self._leave_log(held, is_free=found.log is None)
        self.close()
        return True

    def _leave_log(self, held: Connected, *, is_free: bool) -> None:
        """Leaves a log or its index that was removed. Two of one process would share the index of one, and spoil the
        file."""
        if is_free and held.writes:  # whoever began another has not seen what stands in this one
            _patiently(lambda: held.connection.execute("pragma wal_checkpoint(full)"), PATIENCE_S)
        self.close()
        if len(self._open):
            raise vanished_store(f"{self.url}-wal")

    def _connect(self) -> Connected:
        is_first = not self._is_known
        found = self._file.marks()
        if is_first:
            self._refuse_to_begin(found.file is not None)
        elif found.file is None:
            raise vanished_store(self.url)
        elif self._file.is_no_file():
            raise replaced_store(self.url)
        if not self._file.may_be_written():
            return self._connect_to_read()
        try:
            return self._connect_to_write(found.file, create=is_first and self._create)
        except sqlite3.OperationalError as error:
            if not (is_refusal_to_write(error) and self._path.is_file()):
                raise
            return self._connect_to_read()

    def _refuse_to_begin(self, is_there: bool) -> None:
        self._file.refuse_no_file()
        if not is_there and not self._create:
            raise missing_store(self.url)
        if self._file.has_only_a_log():
            raise StoreProblem(
                f"there is no {self.url}, and its log {self.url}-wal is there: it was moved or deleted while in use",
                hint="put it back beside its log; to begin anew without it, move the log away too",
                code="store_missing",
            )

    def _connect_to_write(self, file: Mark | None, *, create: bool) -> Connected:
        if create:
            private.make_file(self._path)
        room = self._room()
        connection = self._file.connect(create=create, room=room)
        try:
            is_ours = self._refuse_another(connection)
            if not (is_ours or create):
                raise missing_store(self.url)  # and nothing is written into an empty file
            _configure(connection, room)
        except BaseException:
            connection.close()
            raise
        made = self._file.marks()
        return Connected(connection, made._replace(file=file or made.file))

    def _room(self) -> Room:
        return LITTLE_ROOM if len(self._open) else self._first_room

    def _connect_to_read(self) -> Connected:
        room = self._room()
        held = _patiently(lambda: self._file.connect_to_read(room), PATIENCE_S)
        try:
            self._refuse_another(held.connection)
            held.connection.execute(f"pragma cache_size = -{room.pages_kb}")
        except BaseException:
            held.connection.close()
            raise
        return held

    def _refuse_another(self, connection: sqlite3.Connection) -> bool:
        """Refuses what is not the store that was opened, before anything is set up in it. Whether it is a store."""
        try:
            is_ours = _patiently(lambda: migrate.refuse_foreign(connection), PATIENCE_S)
        except sqlite3.DatabaseError as error:
            is_none = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB
            if is_none and self._is_known and self._file.marks().file != self._first:
                raise replaced_store(self.url) from error
            raise
        if self._is_known and not is_ours:
            raise replaced_store(self.url)
        if self.uuid:
            row = connection.execute("select value from meta where key = 'uuid'").fetchone()
            if row is None or row[0] != self.uuid:
                raise replaced_store(self.url)
        return is_ours

    def _show_no_text(self) -> None:
        """From now on this thread shows bytes that are no text as ``\\xff``: their row can be named and mended."""
        self._connection().text_factory = lambda stored: stored.decode("utf-8", "backslashreplace")


class SqliteTransaction(Transaction):
    """A transaction on one connection; lists travel as JSON text."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        statements: Statements,
        constants: Mapping[str, Any],
        origin: Origin,
        masker: Masker,
    ) -> None:
        super().__init__(statements, constants, origin, masker)
        self._connection = connection

    def _ask(self, text: str, given: dict[str, Any]) -> Answer:
        cursor = self._connection.execute(text, _bindable(given))
        return _Answer(cursor.fetchall(), cursor.rowcount)

    def put(self, name: str, /, **given: Any) -> None:
        self._connection.execute(self._statements.text(name, given), _bindable(self._bound(given)))

    def _query(self, text: str, given: dict[str, Any]) -> list[Row]:
        return self._connection.execute(text, _bindable(given)).fetchall()

    def _execute(self, text: str, given: dict[str, Any]) -> int:
        return self._connection.execute(text, _bindable(given)).rowcount

    def _execute_each(self, text: str, rows: Iterable[dict[str, Any]]) -> None:
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


def _configure(connection: sqlite3.Connection, room: Room) -> None:
    # A commit copies each page it touched into the log: rows are small, so small pages write less. New files only.
    connection.execute(f"pragma page_size = {PAGE_BYTES}")
    connection.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
    _patiently(lambda: connection.execute("pragma journal_mode = wal"), PATIENCE_S)
    connection.execute("pragma synchronous = full")
    connection.execute("pragma foreign_keys = on")
    connection.execute(f"pragma cache_size = -{room.pages_kb}")
    if sys.platform == "darwin":
        connection.execute("pragma fullfsync = on")


def _patiently(act: Callable[[], Result], patience_s: float) -> Result:
    end = time.monotonic() + patience_s
    pause = 0.001
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > end:
                raise
            time.sleep(pause * random.random())
            pause = min(pause * 1.5, 0.05)


class _Translated:
    """Turns SQLite's errors into ours for a block, for any number of threads at once."""

    def __init__(self, url: str, folder: Path, show_no_text: Callable[[], None]) -> None:
        self._url = url
        self._folder = folder
        self._show_no_text = show_no_text

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            ours = self._ours(error)
            if ours is not error:
                raise ours from error
        if isinstance(error, UnicodeEncodeError | OverflowError):
            raise unstorable(error) from error
        if isinstance(error, IndexError) and str(error) == _NO_COLUMN:
            raise self._lacking("a row has not all of its columns") from error

    def _ours(self, error: sqlite3.Error) -> Exception:
        if str(error).startswith("illegal_move: ") and str(error).endswith("never replaced"):
            return number_given(str(error).partition(": ")[2])
        if "illegal_move" in str(error):
            return IllegalMove("the row", "as it is", str(error).partition(": ")[2], [])
        if str(error).startswith(_UNFIT):
            return EnvironmentProblem(
                f"the row would not fit its table: {error}",
                hint="`orchestrion health` names values that do not fit; one command must set all those of a row",
                code="row_damaged",
            )
        if str(error).startswith("Could not decode to UTF-8"):  # Python's word, which has no number
            self._show_no_text()
            return Again()
        whole = getattr(error, "sqlite_errorcode", 0)
        if whole == sqlite3.SQLITE_READONLY_DBMOVED:
            return vanished_store(self._url)
        number = whole & 0xFF
        if number in _PERHAPS_FULL and disk.is_full(self._folder):
            number = sqlite3.SQLITE_FULL
        if str(error).startswith(_LACKS):
            return self._lacking(str(error))
        code, hint = _PROBLEMS.get(number, ("", ""))
        if not code:
            return error
        hint = hint.format(copy=_how_to_copy(Path(self._url).absolute()))
        return StoreProblem(f"the store {self._url} cannot be used: {error}", hint=hint, code=code)

    def _lacking(self, said: str) -> StoreProblem:
        copy = _how_to_copy(Path(self._url).absolute())
        return StoreProblem(
            f"the store {self._url} cannot be used: {said}",
            hint=f"a part of it is gone: {copy}; then `orchestrion rebuild` makes it anew",
            code="store_missing",
        )


def _how_to_copy(file: Path) -> str:
    return f"stop every program that has it open, and copy `{file}` and, if it is there, `{file}-wal` elsewhere"
