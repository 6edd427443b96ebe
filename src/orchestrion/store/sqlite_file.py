"""The file of a SQLite store: that it is the one that was opened, and how it is read where nothing may be written.

The system lets a program go on writing into a file that was deleted or replaced, and nobody
would ever see what it wrote. So each connection notes which file and which write-ahead log
it has, and which index of it all processes share, and is used only as long as these three lie at
their places: two indexes of one log make programs write over each other's changes.

SQLite needs a place for its locks beside the file. Where it may not have one, there are
three ways to read: with the locks of whoever writes there; without any, if no log holds
news; else a copy of file and log, which nobody else sees.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from pathlib import Path
from typing import NamedTuple

from orchestrion.core.errors import StoreProblem

#: How long SQLite itself waits for a lock, in seconds.
LOCK_S = 0.02
#: Two changes of a folder within so many nanoseconds may have the same time.
_TICK_NS = 100_000_000
#: How often a file and its log are copied until nobody wrote meanwhile.
_COPIES = 5
#: What SQLite says where it may not have its files, or may not write.
_NO_WRITING = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)

Mark = tuple[int, ...]


class Marks(NamedTuple):
    """What tells a file, its log and the shared index of that from others at the same place; None: there is none."""

    file: Mark | None
    log: Mark | None
    shared: Mark | None


class Connected:
    """One thread's connection."""

    def __init__(
        self, connection: sqlite3.Connection, marks: Marks, *, writes: bool = True, follows: bool = True
    ) -> None:
        self.connection = connection
        #: What it was made for.
        self.marks = marks
        #: The folder as it was when these were last found there.
        self.folder: Mark | None = None
        #: Whether it can write.
        self.writes = writes
        #: Whether it sees what others write; else it is good for as long as nobody does.
        self.follows = follows
        #: Until then nobody looks again, by the monotonic clock in seconds.
        self.sure_until = 0.0


class Room(NamedTuple):
    """What a connection may keep in memory."""

    #: Of the file's pages, in kilobytes.
    pages_kb: int
    #: Statements that are prepared.
    statements: int


#: The first connection of a process holds what a claim touches (with half of that a task costs 5 % more); more is
#: hardly quicker, for the system holds the file, and fills up over hours. Those of further threads, of which a server
#: has a dozen, hold little: with SQLite's usual 2 MB each, a server of 95 MB had 125 MB after two hours.
ROOM, LITTLE_ROOM = Room(800, 400), Room(100, 64)


class DatabaseFile:
    """A database's file with what SQLite keeps beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._names = str(path), f"{path}-wal", f"{path}-shm"
        self._folder = str(path.parent)

    def marks(self, *, follows: bool = True) -> Marks:
        """What lies there now; without ``follows`` also how it was changed last, but not the index: nobody uses it."""
        file, log, index = self._names
        return Marks(_mark(file, follows), _mark(log, follows), _mark(index, follows) if follows else None)

    def has_still(self, held: Connected) -> bool:
        """Whether what a connection was made for lies there, asked before each commit.

        Nothing comes or goes without a new time of its folder, and the files are looked at now and then anyhow. Where
        somebody asked for a log's times, Linux 6.13 notes its next change to the nanosecond, which commits would write.
        """
        folder = _mark(self._folder, follows=False)
        if folder is None or folder != held.folder:
            if held.marks != self.marks():
                return False
            is_settled = folder is not None and time.time_ns() - folder[-1] > _TICK_NS
            held.folder = folder if is_settled else None
        return True

    def is_no_file(self) -> bool:
        """Whether a folder, a pipe or a device lies in its place, or a link that leads to one."""
        return self.path.exists() and not self.path.is_file()

    def refuse_no_file(self) -> None:
        """Raises StoreProblem (``store_replaced``) for what can be no store, in the place of one."""
        if self.is_no_file():
            what = "a folder" if self.path.is_dir() else "a pipe or a device"
            raise StoreProblem(
                f"{self.path} is {what}, not the file of a store; it is left alone",
                hint="put the store back in its place, or name another one with --db",
                code="store_replaced",
            )

    def has_only_a_log(self) -> bool:
        """Whether the file is gone and its log is not: SQLite would delete that beside a new file."""
        return self._log.exists() and not _size(self.path)  # in this order: who makes a store makes its log last

    def may_be_written(self) -> bool:
        """Whether this user may write it, as far as that shows before it is tried."""
        return not self.path.exists() or _may_write(self.path)

    def connect(self, *, create: bool, room: Room = ROOM) -> sqlite3.Connection:
        """A connection that writes; only with ``create`` a file that is not there is made."""
        return self._connected(f"mode={'rwc' if create else 'rw'}", room)

    def connect_to_read(self, room: Room = ROOM) -> Connected:
        """A connection that changes nothing, not even beside the file. Raises StoreProblem, sqlite3.Error."""
        if not _size(self._log):
            seen = self.marks(follows=False)
            return Connected(_tried(self._connected("mode=ro&immutable=1", room)), seen, writes=False, follows=False)
        try:
            reader = _tried(self._connected("mode=ro&readonly_shm=1", room))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NO_WRITING:
                raise
            return self._copied()
        return Connected(reader, self.marks(), writes=False)

    def _connected(self, how: str, room: Room) -> sqlite3.Connection:
        place = str(self.path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        connection = sqlite3.connect(
            f"file://{place}?{how}",
            uri=True,
            timeout=LOCK_S,
            isolation_level=None,
            cached_statements=room.statements,
            check_same_thread=False,
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _copied(self) -> Connected:
        """Reads a copy of file and log: what others wrote last stands in the log alone."""
        import shutil  # what is beside it is needed here alone
        import tempfile

        try:
            folder = Path(tempfile.mkdtemp(prefix="orchestrion-read-"))
            try:
                for _ in range(_COPIES):
                    seen = self.marks(follows=False)
                    copy = DatabaseFile(folder / "copy.db")
                    shutil.copyfile(self.path, copy.path)
                    shutil.copyfile(self._log, copy._log)
                    if seen == self.marks(follows=False):
                        # Open files stay when their names go, so nothing is left behind, whatever ends this process.
                        return Connected(_tried(copy.connect(create=False)), seen, writes=False, follows=False)
            finally:
                shutil.rmtree(folder)
        except OSError as problem:
            raise self._unreadable(str(problem)) from problem
        raise self._unreadable("somebody writes to it all the time")

    def _unreadable(self, why: str) -> StoreProblem:
        return StoreProblem(
            f"the store {self.path} may only be read here, its last changes stand in {self._log}, and these two "
            f"cannot be copied to be read: {why}",
            hint="give write permission to the folder, or set TMPDIR to a place with room",
            code="store_read_only",
        )


def is_busy(error: Exception) -> bool:
    """Whether SQLite waits for somebody else."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_refusal_to_write(error: sqlite3.Error) -> bool:
    """Whether SQLite says that it may not write there, or not even have its locks."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _NO_WRITING


def _tried(connection: sqlite3.Connection) -> sqlite3.Connection:
    """The connection, once it has really opened the file and its log."""
    try:
        connection.execute("select count(*) from sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _mark(path: str, follows: bool) -> Mark | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - asked at every transaction
    except (FileNotFoundError, NotADirectoryError):
        return None
    same = (found.st_dev, found.st_ino, stat.S_IFMT(found.st_mode))
    return same if follows else (*same, found.st_size, found.st_mtime_ns)


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
