"""Brings a database to this program's schema: numbered scripts, forward only, under a lock.

Both databases have the same numbers. A database that is newer than this program is
refused, unless its newest script says that older programs may go on: a line
``-- serves programs from: N`` names the oldest one.

A SQLite file is copied before it is changed, and only if that succeeds. PostgreSQL changes
its schema in one transaction; copying it is the business of its own tools. Programs of the
older version may be at work meanwhile, where the newest script says that it serves them.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrion.core import private
from orchestrion.core.errors import StoreProblem

if TYPE_CHECKING:
    import sqlite3

    import psycopg

FOLDER = Path(__file__).parent / "sql"
#: Tells our SQLite files from others' ("ORCH").
APPLICATION_ID = 0x4F524348
#: The command that makes the file of a SQLite store anew.
REBUILD = "`orchestrion rebuild`"
#: Any number will do, as long as all programs use the same one.
LOCK_KEY = 0x6F726368

_BOOK = """create table if not exists migrations (
    version integer primary key, name text not null, serves_from integer not null, applied_at bigint not null)"""
_NEWEST = "select version, serves_from from migrations order by version desc limit 1"
_HAS_BOOK = "select name from sqlite_master where type = 'table' and name = 'migrations'"
#: What a script makes that is found by name.
_MADE = re.compile(r"^create (?:unique |virtual )?(?:table|index) (\w+)", re.MULTILINE)
_RENAMED = re.compile(r"^alter table (\w+) rename to", re.MULTILINE)
_WRITE = "insert into migrations (version, name, serves_from, applied_at) values"
#: Workers that said a moment ago that they are there, and runs that hold their lease.
_AT_WORK = """select 'worker ' || host || '/' || pid from workers where seen_at > {now} - 120000
    union all select 'R' || id from runs where state in ('starting', 'running') and lease_until > {now}
    order by 1 limit 10""".replace("{now}", "(extract(epoch from clock_timestamp()) * 1000)")
#: Sessions of others, but for those that came to do the same.
_SESSIONS = f"""from pg_stat_activity where datname = current_database() and backend_type = 'client backend'
    and pid <> pg_backend_pid() and pid not in (select pid from pg_locks where locktype = 'advisory'
        and database = (select oid from pg_database where datname = current_database()) and objid = {LOCK_KEY})"""
#: Each is waited for, in milliseconds.
_END_SESSIONS = f"select pg_terminate_backend(pid, 5000) {_SESSIONS} and usename = current_user"
_OTHER_USERS = f"select distinct usename {_SESSIONS} and usename <> current_user order by 1"


class Migration(NamedTuple):
    """One numbered script."""

    version: int
    name: str
    #: The oldest schema number whose programs still run on this one.
    serves_from: int
    script: str


class Upgrade(NamedTuple):
    """What opening an older store did to it."""

    #: Schema numbers before and now.
    before: int
    now: int
    #: The copy of the store as it was; None: this database is copied by its own tools.
    copy: Path | None

    def __str__(self) -> str:
        kept = (
            f"as it was: {self.copy}" if self.copy else "no copy was made, and one made from now on has the new schema"
        )
        return f"the store was brought from schema {self.before} to {self.now}; {kept}"


def scripts(dialect: str) -> list[Migration]:
    """All migrations of ``dialect``, oldest first."""
    return [_read(file) for file in sorted((FOLDER / dialect).glob("[0-9]*.sql"))]


def in_memory() -> sqlite3.Connection:
    """A SQLite database without rows that has all that the scripts make."""
    import sqlite3  # which a supervisor on PostgreSQL does without

    empty = sqlite3.connect(":memory:")
    empty.execute(_BOOK)
    for migration in scripts("sqlite"):
        for statement in split(migration.script):
            empty.execute(statement)
    return empty


def sqlite(
    connection: sqlite3.Connection,
    *,
    create: bool,
    file: Path | None = None,
    known: list[Migration] | None = None,
    writes: bool = True,
) -> tuple[bool, Upgrade | None]:
    """Migrates a SQLite database under its write lock; two at once do it once.

    Returns whether there is a store (only ``create`` makes one), and what was done to an older one.
    ``file`` is where it lies: an older store is copied beside it first. Raises StoreProblem for an older one
    that the connection only reads (not ``writes``).
    """
    known = known if known is not None else scripts("sqlite")
    newest = _sqlite_version(connection)
    if _is_current(newest, known):
        return True, None
    newest = _certain(lambda: _sqlite_names(connection), lambda: _sqlite_version(connection), known)
    if newest is None and not create:
        return False, None
    if newest and not writes:
        raise _outdated(str(file), newest[0], known)
    connection.execute("begin immediate")
    try:
        connection.execute(_BOOK)
        newest = connection.execute(_NEWEST).fetchone()
        missing = _missing(newest, known)
        copy = _copied(file, newest[0]) if newest and missing and file else None
        for migration in missing:
            for statement in split(migration.script):
                connection.execute(statement)
            connection.execute(f"{_WRITE} (?, ?, ?, ?)", _line(migration))
            if migration.version == 1:
                connection.execute(f"pragma application_id = {APPLICATION_ID}")
                connection.execute("insert into meta (key, value) values ('uuid', ?)", (_new_uuid(),))
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
    return True, _upgrade(newest, missing, copy)


def postgres(
    connection: psycopg.Connection[Any], *, create: bool, known: list[Migration] | None = None
) -> tuple[bool, Upgrade | None]:
    """Migrates a PostgreSQL database under an advisory lock, once, in one transaction. Returns as ``sqlite`` does."""
    known = known if known is not None else scripts("postgres")
    newest = _postgres_version(connection)
    if _is_current(newest, known):
        return True, None
    newest = _certain(lambda: _postgres_names(connection), lambda: _postgres_version(connection), known)
    if newest is None and not create:
        return False, None
    if newest and _is_read_only(connection):
        raise _outdated(f"{connection.info.host}/{connection.info.dbname}", newest[0], known)
    with connection.transaction():
        connection.execute(f"select pg_advisory_xact_lock({LOCK_KEY})")
        connection.execute(_BOOK)
        newest = _postgres_version(connection)
        missing = _missing(newest, known)
        if newest and missing:
            # Nobody is in the middle of something, so that nobody waits for us while we wait for them.
            _part_from_older_programs(connection, newest[0], missing[-1])
        for migration in missing:
            connection.execute(migration.script.encode())
            connection.execute(f"{_WRITE} (%s, %s, %s, %s)".encode(), _line(migration))
            if migration.version == 1:
                connection.execute("insert into meta (key, value) values ('uuid', %s)", (_new_uuid(),))
        if newest and missing:
            # PostgreSQL fails what a session prepared before a table had other columns; who connects now will wait.
            _part_from_older_programs(connection, newest[0], missing[-1])
    return True, _upgrade(newest, missing, None)


def _outdated(where: str, version: int, known: list[Migration]) -> StoreProblem:
    """The error for an older store that may only be read here."""
    return StoreProblem(
        f"the store {where} has schema {version}, this program needs {known[-1].version}, and it may only be read here",
        hint="call this once as a user who may write it: that brings it up to date; or read it with the older program",
        code="store_read_only",
    )


def _part_from_older_programs(connection: psycopg.Connection[Any], before: int, newest: Migration) -> None:
    """Ends the other sessions of this database user. Programs of the older version take that for a short absence of
    the server: they connect anew, and wait until this transaction has ended. Raises StoreProblem while programs are
    at work whose sessions are another user's, or that could not go on.
    """
    from psycopg.rows import tuple_row

    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(_END_SESSIONS.encode())
        others = cursor.execute(_OTHER_USERS.encode()).fetchall()
        is_served = not others and before >= newest.serves_from
        found = [] if is_served else cursor.execute(_AT_WORK.encode()).fetchall()
    if found:
        as_whom = f" as the database's user {others[0][0]}" if others else ""
        raise StoreProblem(
            f"the store has schema {before}, this program needs {newest.version}, and the older one is still at work "
            f"there{as_whom}: {', '.join(word for (word,) in found)}",
            hint="stop these workers and let their runs end (who was killed counts for two minutes)"
            f"{', or open it as that user' if others else ''}; then call this again",
            code="upgrade_refused",
        )


def _upgrade(newest: tuple[int, int] | None, missing: list[Migration], copy: Path | None) -> Upgrade | None:
    return Upgrade(newest[0], missing[-1].version, copy) if newest and missing else None


def _copied(file: Path, version: int) -> Path:
    """A whole copy of the store beside it, made while nobody else can write. Raises StoreProblem."""
    import sqlite3  # which a supervisor on PostgreSQL does without

    copy = _free_name(file.with_name(f"{file.name}.schema-{version}"))
    half = copy.with_name(f"{copy.name}.half-{os.getpid()}")
    try:
        _drop_half_copies(file)
        half.touch(mode=stat.S_IMODE(file.stat().st_mode))
        # Another connection: this one holds the write lock, and readers see what was committed.
        private.make_file(half)
        source, target = sqlite3.connect(file), sqlite3.connect(half)
        try:
            source.backup(target, pages=-1)
        finally:
            source.close()
            target.close()
        with half.open("rb") as written:
            os.fsync(written.fileno())
        if made := _equal_copy(file, version, half):
            half.unlink()
            return made
        half.replace(copy)
    except (sqlite3.Error, OSError) as problem:
        for left in (half, half.with_name(f"{half.name}-journal")):
            left.unlink(missing_ok=True)
        raise StoreProblem(
            f"the store {file} has schema {version} and cannot be copied before it is upgraded: {problem}",
            hint="nothing was changed; free space, or see who may write to its folder, and call this again",
            code="upgrade_refused",
        ) from problem
    return copy


def _equal_copy(file: Path, version: int, half: Path) -> Path | None:
    """The copy that an upgrade made which did not come to its end, if the store has not changed since."""
    import filecmp  # needed once

    copies = file.parent.glob(f"{file.name}.schema-{version}*")
    return next((one for one in copies if one != half and filecmp.cmp(one, half, shallow=False)), None)


def _drop_half_copies(file: Path) -> None:
    """Of those who were killed; nobody else copies it now, for we hold its write lock."""
    for left in file.parent.iterdir():
        if left.name.startswith(f"{file.name}.schema-") and ".half-" in left.name:
            left.unlink()


def _free_name(path: Path) -> Path:
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _new_uuid() -> str:
    import uuid  # takes as long to load as a hook takes to do its work, and is needed once

    return str(uuid.uuid4())


def split(script: str) -> Iterator[str]:
    """The statements of a SQLite script; a trigger's body stays in one piece."""
    import sqlite3

    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _is_current(newest: tuple[int, int] | None, known: list[Migration]) -> bool:
    if newest is None:
        return False
    version, serves_from = newest
    ours = known[-1].version
    if version > ours and serves_from > ours:
        raise StoreProblem(
            f"the store has schema {version}, this program knows {ours}",
            hint="install the newer orchestrion that wrote it, or restore a backup made before",
            code="store_too_new",
            schema=version,
            known=ours,
        )
    return version >= ours


def _certain(
    look: Callable[[], set[str]], ask: Callable[[], tuple[int, int] | None], known: list[Migration]
) -> tuple[int, int] | None:
    """The newest script that the database says it has. Raises StoreProblem if what the next one makes is there, too.

    What there is is read before what is said of it: somebody who migrates it between the two makes no difference.
    """
    there = look()
    newest = ask()
    missing = _missing(newest, known)
    if missing and _is_applied(missing[0], known, there):
        raise StoreProblem(
            f"the store lacks a row that it always has: migrations of schema {missing[0].version}, "
            "whose tables and indexes are there",
            hint="something else than this program took it away: stop the programs, copy the store, "
            "and put a whole copy of before in its place",
            code="store_corrupt",
        )
    return newest


def _is_applied(script: Migration, known: list[Migration], there: set[str]) -> bool:
    """Whether a script was applied, by the names that no earlier one makes."""
    earlier = {name for one in known if one.version < script.version for name in _makes(one)}
    made = _makes(script) - earlier
    return bool(made) and made <= there


def _makes(migration: Migration) -> set[str]:
    """Tables and indexes that are there after a script."""
    made = set(_MADE.findall(migration.script))
    return made - set(_RENAMED.findall(migration.script))


def _missing(newest: tuple[int, int] | None, known: list[Migration]) -> list[Migration]:
    have = newest[0] if newest else 0
    return [migration for migration in known if migration.version > have]


def refuse_foreign(connection: sqlite3.Connection, schema: str = "main") -> bool:
    """Refuses a SQLite file of another program, which it only reads. Returns whether there is anything in it."""
    if connection.execute(f"select name from {schema}.sqlite_master where type = 'table' limit 1").fetchone() is None:
        return False
    owner = connection.execute(f"pragma {schema}.application_id").fetchone()[0]
    if owner != APPLICATION_ID:
        raise StoreProblem(
            "this SQLite database belongs to another program",
            hint="name another file with --db",
            code="store_foreign",
        )
    return True


def _sqlite_version(connection: sqlite3.Connection) -> tuple[int, int] | None:
    has_book = refuse_foreign(connection) and connection.execute(_HAS_BOOK).fetchone()
    row = connection.execute(_NEWEST).fetchone() if has_book else None
    return tuple(row) if row else None


def _sqlite_names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("select name from sqlite_master where type in ('table', 'index')")}


def _postgres_version(connection: psycopg.Connection[Any]) -> tuple[int, int] | None:
    from psycopg.rows import tuple_row

    with connection.cursor(row_factory=tuple_row) as cursor:
        known = cursor.execute("select to_regclass('migrations') is not null").fetchone()
        return cursor.execute(_NEWEST).fetchone() if known and known[0] else None


def _postgres_names(connection: psycopg.Connection[Any]) -> set[str]:
    from psycopg.rows import tuple_row

    with connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute("select relname from pg_class where relnamespace = current_schema()::regnamespace")
        return {name for (name,) in rows}


def _is_read_only(connection: psycopg.Connection[Any]) -> bool:
    """Whether this user may not change the schema there: a standby, a session that only reads, another's tables."""
    from psycopg.rows import tuple_row

    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(
            "select current_setting('transaction_read_only') = 'on'"
            " or not pg_has_role((select relowner from pg_class where oid = to_regclass('migrations')), 'usage')"
        ).fetchone()
    return bool(row and row[0])


def _read(file: Path) -> Migration:
    script = file.read_text(encoding="utf-8")
    number, _, name = file.stem.partition("_")
    serves = script.partition("\n-- serves programs from: ")[2].partition("\n")[0]
    return Migration(int(number), name, int(serves or number), script)


def _line(migration: Migration) -> tuple[int, str, int, int]:
    return migration.version, migration.name, migration.serves_from, time.time_ns() // 1_000_000
