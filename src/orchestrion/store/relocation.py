"""Moving the SQLite file of a project to another folder, with what lies beside it: all of it, or nothing.

Nobody else may have the file open: who had would go on writing into the one that was put aside.
The new file is written under another name, and gets its own as the last step but one. Whoever is
killed before has left the old store in force, and the next call begins anew.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.errors import Conflict, StoreProblem
from orchestrion.core.model import name
from orchestrion.store.migrate import refuse_foreign

#: So long another process may take to close the file, in seconds.
PATIENCE_S = 5.0
#: What is put behind the old file's name once its place is taken.
ASIDE = ".moved"

#: Only these have processes and workspaces; what a client holds is in the rows that move.
_ACTIVE = "select id from runs where state in ('starting', 'running') and supervised = 1 order by id"
_Move = tuple[Path, Path]


def relocate(old: Path, new: Path, beside: Sequence[str]) -> list[_Move]:
    """Moves the store ``old`` to ``new``, and what of ``beside`` lies beside it; what went where, the store first.

    The old file stays beside the new one, with ``ASIDE`` behind its name. Empty: another call was first.
    Raises Conflict (``runs_active``, ``store_in_use``), StoreProblem (``store_not_moved``); nothing is moved then.
    """
    try:
        with _alone(old) as connection:
            return [] if new.exists() else _moved(connection, old, new, beside)
    except (sqlite3.Error, OSError) as problem:
        if new.exists() and not old.exists():
            return []
        raise StoreProblem(
            f"the store {old} cannot be moved to {new}: {problem}",
            hint="nothing was moved; free space, or see who may write to both folders, and call this again",
            code="store_not_moved",
        ) from problem


@contextmanager
def _alone(file: Path) -> Iterator[sqlite3.Connection]:
    """The store, as long as nobody else has it open. Raises Conflict (``store_in_use``)."""
    connection = sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=PATIENCE_S, isolation_level=None)
    try:
        refuse_foreign(connection)
        _refuse_active(connection)
        try:
            hold(connection, "main")
        except sqlite3.OperationalError as problem:
            raise in_use(file) from problem
        _refuse_active(connection)
        yield connection
    finally:
        connection.close()


def hold(connection: sqlite3.Connection, schema: str) -> None:
    """Leaves a database to nobody else until the connection is closed. Raises sqlite3.OperationalError."""
    # Without its log it is one file; SQLite allows this only if no other connection is open.
    connection.execute(f"pragma {schema}.journal_mode = delete")
    # The lock stays when the transaction ends; in one SQLite copies nothing.
    connection.execute(f"pragma {schema}.locking_mode = exclusive")
    connection.execute("begin exclusive")
    connection.execute("commit")


def _refuse_active(connection: sqlite3.Connection) -> None:
    active = [name("R", row[0]) for row in connection.execute(_ACTIVE)]
    if active:
        raise Conflict(
            f"the store cannot be moved while {', '.join(active[:10])} {'is' if len(active) == 1 else 'are'} active",
            hint="wait until they have ended, or end them, then call this again",
            code="runs_active",
            runs=active,
        )


def in_use(file: Path) -> Conflict:
    """The error for a store that somebody else has open."""
    return Conflict(
        f"another process has the store {file} open",
        hint="stop the project's workers and servers (`orchestrion work`, `serve`, `mcp`), let its runs end "
        "(`orchestrion runs` shows them), then call this again",
        code="store_in_use",
    )


def _moved(connection: sqlite3.Connection, old: Path, new: Path, beside: Sequence[str]) -> list[_Move]:
    private.make_folder(new.parent)
    half = new.with_name(f"{new.name}.half")
    moves: list[_Move] = []
    try:
        _write(connection, half)
        for source in [old.with_name(one) for one in beside]:
            if source.exists():
                _carry(source, new.with_name(source.name))
                moves.append((source, new.with_name(source.name)))
        half.replace(new)
    except BaseException:
        half.unlink(missing_ok=True)
        for source, target in reversed(moves):
            _carry(target, source)
        raise
    _carry(old, new.with_name(f"{new.name}{ASIDE}"))
    return [(old, new), *moves]


def _write(connection: sqlite3.Connection, half: Path) -> None:
    """A whole copy, safe on the disk."""
    half.unlink(missing_ok=True)
    private.make_file(half)
    target = sqlite3.connect(half)
    try:
        connection.backup(target, pages=-1)
    finally:
        target.close()
    with half.open("rb") as written:
        os.fsync(written.fileno())


def _carry(source: Path, target: Path) -> None:
    """Renames a file or folder, or if it lies on another disk, copies it whole and then takes it away."""
    try:
        source.replace(target)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        half = target.with_name(f"{target.name}.half")
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, half)
        half.replace(target)
        shutil.rmtree(source) if source.is_dir() else source.unlink()
