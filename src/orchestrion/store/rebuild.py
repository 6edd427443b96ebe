"""Making the SQLite file of a store anew from its rows, for one whose indexes are damaged.

SQLite's own ``reindex`` and ``vacuum`` read the pages of indexes, and fail at a damaged one. Here all
rows are read without any index into another file, which gets everything else that the old one has. It
takes the old one's place as the last step, while nobody has the store open, and is the same store.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.errors import Conflict, StoreProblem
from orchestrion.store import migrate, proof
from orchestrion.store.relocation import hold, in_use
from orchestrion.store.sqlite_file import is_busy

#: What is put behind the old file's name once its place is taken, and behind the new one's until then.
ASIDE, _HALF = ".damaged", f".half-{os.getpid()}"

#: What is not there once the rows are: searches, with tables of their own, then all that is made from rows.
_REST = """select m.sql from seen.sqlite_schema m
where m.sql is not null and (m.type <> 'table' or m.sql like 'create virtual table%')
    and not exists (select 1 from main.sqlite_schema h where h.name = m.name)
order by m.type <> 'table', m.rowid"""


def rebuild(file: Path) -> Path:
    """Puts a file with the same rows in the place of the store ``file``; where the old one is kept.

    Raises Conflict (``store_in_use``, ``kept_already``), StoreProblem (``store_missing``, ``store_corrupt``: rows are
    lost, ``store_not_rebuilt``); then the store is as it was.
    """
    aside, half = (file.with_name(f"{file.name}{end}") for end in (ASIDE, _HALF))
    try:
        _refuse(file, aside)
        half.unlink(missing_ok=True)
        private.make_file(half)
        with closing(sqlite3.connect(half.as_uri(), uri=True, timeout=0, isolation_level=None)) as new:
            _write(new, file)
            _sync(half)
            os.link(file, aside)
            half.replace(file)
    except (sqlite3.Error, OSError) as problem:
        if getattr(problem, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise _damaged(file, str(problem)) from problem
        raise StoreProblem(
            f"the store {file} cannot be made anew: {problem}",
            hint="it is as it was; free space, or see who may write to its folder, and call this again",
            code="store_not_rebuilt",
        ) from problem
    finally:
        half.unlink(missing_ok=True)
    return aside


def _refuse(file: Path, aside: Path) -> None:
    if not file.is_file():
        raise StoreProblem(f"there is no store at {file}", hint="put it back where it was", code="store_missing")
    if os.path.lexists(aside):
        raise Conflict(
            f"{aside} is there: a damaged store is kept already",
            hint="move it elsewhere, and call this again",
            code="kept_already",
        )
    if not os.access(file, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, "this user may not read and write it", str(file))


def _hold(new: sqlite3.Connection, file: Path) -> None:
    """Attaches the store as ``seen``, and leaves it to nobody else until the connection is closed."""
    try:
        new.execute("attach ? as seen", (f"{file.as_uri()}?mode=rw",))
        if not migrate.refuse_foreign(new, "seen"):
            raise StoreProblem(
                f"there is no store in {file}: it is empty",
                hint="put the store back in its place",
                code="store_missing",
            )
        new.execute(f"pragma main.page_size = {new.execute('pragma seen.page_size').fetchone()[0]}")
    except proof.UNREADABLE as problem:
        if is_busy(problem):
            raise in_use(file) from problem
        raise _damaged(file, f"its tables cannot be listed: {problem}") from problem
    try:
        hold(new, "seen")
    except sqlite3.OperationalError as problem:
        if is_busy(problem):
            raise in_use(file) from problem
        raise


def _write(new: sqlite3.Connection, file: Path) -> None:
    """Writes all of the store into a new file; nobody else has the store until that is closed."""
    _hold(new, file)
    new.execute(f"pragma main.application_id = {migrate.APPLICATION_ID}")
    new.execute("begin immediate")
    if lost := proof.copied(new):
        raise _damaged(file, lost)
    new.execute("delete from main.texts")
    for (sql,) in new.execute(_REST).fetchall():
        new.execute(sql)
    # Now with the triggers from which the search has its words.
    new.execute(proof.COPY_ROWS.format("texts", "not indexed"))
    new.execute("delete from main.sqlite_sequence")
    new.execute(proof.COPY_ROWS.format("sqlite_sequence", ""))
    new.execute("commit")


def _damaged(file: Path, lost: str) -> StoreProblem:
    return StoreProblem(
        f"the store {file} is damaged, and not in its indexes alone: {lost}",
        hint="it is as it was; keep it, and put a whole copy of before in its place",
        code="store_corrupt",
    )


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())
