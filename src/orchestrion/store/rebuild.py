"""Making the SQLite file of a store anew from its rows, for one whose indexes are damaged.

SQLite's own ``reindex`` and ``vacuum`` read the pages of indexes, and fail at a damaged one. Here all
rows are read without any index into another file. Tables, triggers and indexes are as the migrations
make them, whatever somebody made of them: what is missing is there again, what is foreign stays behind.
It takes the old one's place as the last step, while nobody has the store open, and is the same store.

A store whose schema is not this program's gets what it has.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from orchestrion.core import private
from orchestrion.core.errors import Conflict, StoreProblem
from orchestrion.store import disk, migrate, proof
from orchestrion.store.misfits import Misfit
from orchestrion.store.proof import FIRST, Part, Parts
from orchestrion.store.relocation import hold, in_use
from orchestrion.store.sqlite_file import DatabaseFile, is_busy

#: What is put behind the old file's name once its place is taken, and behind the new one's until then.
ASIDE, _HALF = ".damaged", f".half-{os.getpid()}"

#: Numbers of SQLite's errors that say what cannot be done now, and nothing of what is in the file.
_NOT_DAMAGE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
)


class Rebuilt(NamedTuple):
    """What was done."""

    #: Where the old file is.
    kept: Path
    #: What was gone, or another than the migrations make.
    made: list[str]
    #: What is none that the migrations make.
    left_out: list[str]


def rebuild(file: Path) -> Rebuilt:
    """Puts a file with the same rows in the place of the store ``file``, and keeps the old one.

    Raises Conflict (``store_in_use``, ``kept_already``), StoreProblem (``store_missing``, ``store_corrupt``: rows are
    lost, ``store_not_rebuilt``); then the store is as it was.
    """
    aside, half = (file.with_name(f"{file.name}{end}") for end in (ASIDE, _HALF))
    try:
        _refuse(file, aside)
        half.unlink(missing_ok=True)
        private.make_file(half)
        with closing(sqlite3.connect(half.as_uri(), uri=True, timeout=0, isolation_level=None)) as new:
            made, left_out = _write(new, file)
            _sync(half)
            os.link(file, aside)
            half.replace(file)
    except (sqlite3.Error, OSError) as problem:
        if getattr(problem, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise _damaged(file, str(problem)) from problem
        raise _prevented(file, problem) from problem
    finally:
        half.unlink(missing_ok=True)
    return Rebuilt(aside, made, left_out)


def _prevented(file: Path, problem: Exception) -> StoreProblem:
    if getattr(problem, "errno", 0) == errno.ENOSPC or disk.is_full(file.parent):
        return StoreProblem(
            f"the store {file} cannot be made anew, its disk is full: {problem}",
            hint="it is as it was; free as much space as it has, and call this again",
            code="disk_full",
        )
    return StoreProblem(
        f"the store {file} cannot be made anew: {problem}",
        hint="it is as it was; see who may write to its folder, and call this again",
        code="store_not_rebuilt",
    )


def _refuse(file: Path, aside: Path) -> None:
    DatabaseFile(file).refuse_no_file()
    if not file.exists():
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
        if getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _NOT_DAMAGE:
            raise
        raise _damaged(file, f"its tables cannot be listed: {problem}") from problem
    try:
        hold(new, "seen")
    except sqlite3.OperationalError as problem:
        if is_busy(problem):
            raise in_use(file) from problem
        raise


def _write(new: sqlite3.Connection, file: Path) -> tuple[list[str], list[str]]:
    """Writes all of the store into a new file; nobody else has the store until that is closed. What was made that it
    lacked, and what was left out.
    """
    _hold(new, file)
    new.execute(f"pragma main.application_id = {migrate.APPLICATION_ID}")
    new.execute("begin immediate")
    try:
        found = proof.schema(new, "seen")
        wanted = proof.wanted(new, found)
    except proof.UNREADABLE as problem:
        raise _damaged(file, f"its tables cannot be listed: {problem}") from problem
    result = proof.copied(new, proof.texts(found, wanted))
    if result.lost:
        raise _damaged(file, result.lost)
    if result.misfits:
        raise _unfit(file, result.misfits[0])
    new.execute("delete from main.texts")
    made = {one.name for one in proof.schema(new, "main").values()}
    for one in (one for one in wanted.values() if one.name not in made):
        new.execute(one.sql)
    # Now with the triggers from which the search has its words.
    if "texts" in found:
        new.execute(proof.COPY_ROWS.format("texts", "not indexed", proof.shared_columns(new, "texts")))
    new.execute("delete from main.sqlite_sequence")
    new.execute(proof.COPY_ROWS.format("sqlite_sequence", "", "name, seq"))
    new.execute("commit")
    return list(_made(new, found, wanted)), list(_left_out(new, found, wanted))


def _made(new: sqlite3.Connection, found: Parts, wanted: Parts) -> Iterator[str]:
    for one in wanted.values():
        there = found.get(one.name)
        if there is None:
            yield f"{one}{', without rows' if one.kind == 'table' else ''}"
        elif lacking := _lacking(new, one, "seen", "main"):
            yield from (f"the column {column} of {one}" for column in lacking)
        elif _plain(there.sql) != _plain(one.sql):
            yield f"{one}, which was another"


def _left_out(new: sqlite3.Connection, found: Parts, wanted: Parts) -> Iterator[str]:
    for one in found.values():
        if one.name not in wanted:
            yield str(one)
        else:
            yield from (f"the column {column} of {one}" for column in _lacking(new, one, "main", "seen"))


def _lacking(new: sqlite3.Connection, one: Part, schema: str, other: str) -> list[str]:
    """Columns that a table lacks in one database and has in another; a search is not opened, it may be damaged."""
    if not one.sql.startswith(FIRST[:2]):
        return []
    there = proof.columns(new, schema, one.name)
    return [column for column in proof.columns(new, other, one.name) if column not in there]


def _plain(sql: str) -> str:
    """The text as every release of SQLite keeps it."""
    return " ".join(sql.replace('"', "").lower().split())


def _unfit(file: Path, row: Misfit) -> StoreProblem:
    return StoreProblem(
        f"the store {file} cannot be made anew: {_named(row)} does not fit its table: {row.said}",
        hint="it is as it was; `orchestrion health` names the row, and what sets it right; then call this again",
        code="store_not_rebuilt",
    )


def _named(row: Misfit) -> str:
    """A row by the columns that tell it from others."""
    key = [f"{column} {row.row[column]}" for column in ("id", "run", "name", "key") if column in row.row][:1]
    return f"the row with {key[0]} of the table {row.table}" if key else f"a row of the table {row.table}"


def _damaged(file: Path, lost: str) -> StoreProblem:
    return StoreProblem(
        f"the store {file} is damaged, and not in its indexes alone: {lost}",
        hint="it is as it was; keep it, and put a whole copy of before in its place",
        code="store_corrupt",
    )


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())
