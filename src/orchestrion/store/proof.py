"""The second proof: whether every row of a SQLite store can be read, and fits its table.

What SQLite's own check reports need not be so: release 3.40 calls rows damaged that are not,
and what is wrong with an index alone has cost nobody a row. So all rows are copied, read
without any index, into new tables, which no such check has looked at. They have the constraints
that the migrations make, whatever somebody made of them: what fits here can be rebuilt.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from orchestrion.store import migrate
from orchestrion.store.misfits import Misfit, Proof

#: Whether an entry ``m`` of a schema is a table for full-text search, or one of those that SQLite keeps it in.
OF_SEARCH = """exists (select 1 from seen.sqlite_schema s
    where s.sql like 'create virtual table%'
    and (m.name = s.name or substr(m.name, 1, length(s.name) + 1) = s.name || '_'))"""
#: Tables of our own (the full-text search is made from one of them), then what must be unique in them; which index has
#: the rows, if any has. ``pragma_table_list`` would open the search, which may be damaged.
_MADE = f"""select m.type, m.name, m.sql, case when m.sql like '%without rowid'
    then (select 'indexed by "' || i.name || '"' from pragma_index_list(m.name, 'seen') i where i.origin = 'pk')
    else 'not indexed' end
from seen.sqlite_schema m
where (m.type = 'table' and m.name not like 'sqlite^_%' escape '^' and not {OF_SEARCH})
    or (m.type = 'index' and m.sql like 'create unique index%')
order by m.type desc, m.name"""
#: What a schema has, but for what SQLite makes by itself; searches, with tables of their own, before what is made from
#: rows. Tables in which a search is kept are its own.
_SCHEMA = f"""select m.type, m.name, m.tbl_name, m.sql from {{0}}.sqlite_schema m
where m.sql is not null and m.name not like 'sqlite^_%' escape '^'
    and (m.sql like 'create virtual table%' or not {OF_SEARCH.replace("seen", "{0}")})
order by m.type <> 'table', m.rowid"""
_VERSION = "select max(version) from seen.migrations"
#: How the text of what must be there before the rows begins.
FIRST = ("create table", "CREATE TABLE", "create unique index", "CREATE UNIQUE INDEX")
#: Row by row: without the limit SQLite copies the pages of indexes, too, where both tables are made alike.
COPY_ROWS = 'insert into main."{0}" ({2}) select {2} from seen."{0}" {1} limit -1'
_COPY_ROW = 'insert into main."{0}" ({1}) select {1} from seen."{0}" where {2}'
#: Kind of a column in a strict table -> what ``typeof`` says of its values.
_KINDS = {"INTEGER": "'integer'", "REAL": "'real', 'integer'", "TEXT": "'text'", "BLOB": "'blob'"}
#: Tables that grow with all that happens.
_LONG = ("events", "metrics", "artifacts", "messages", "texts")
#: So many rows of a table that do not fit are named.
NAMED = 10
#: What SQLite raises for what it cannot read; its own words may hold the damage, and be no text.
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)


class Part(NamedTuple):
    """A table, an index, a trigger or a view."""

    kind: str
    name: str
    #: The table it is about.
    table: str
    sql: str

    def __str__(self) -> str:
        return f"the {self.kind} {self.name}"


#: Name -> a part of a schema.
Parts = dict[str, Part]
#: Name of a table or an index -> its text.
Texts = Mapping[str, str]


def of_file(file: Path) -> Proof:
    """What cannot be read or does not fit. The file is not written to."""
    # The copy is on the disk, and gone with the connection.
    with closing(sqlite3.connect("", uri=True, isolation_level=None)) as copy:
        try:
            copy.execute("attach ? as seen", (f"{file.as_uri()}?mode=ro",))
            copy.execute("begin")
            found = schema(copy, "seen")
            made = texts(found, wanted(copy, found))
        except UNREADABLE as problem:
            return Proof(_unlisted(problem))
        return copied(copy, made)


def odd_row(file: Path) -> Misfit | None:
    """A row with a value of another kind than its column has in a strict table, or with none where one must be.

    The first of the smallest tables that have one; None: there is none, or it cannot be read.
    """
    with closing(sqlite3.connect("", uri=True, isolation_level=None)) as connection:
        try:
            connection.execute("attach ? as seen", (f"{file.as_uri()}?mode=ro",))
            connection.execute("begin")
            return next(_odd_rows(connection), None)
        except UNREADABLE:
            return None


def _odd_rows(connection: sqlite3.Connection) -> Iterator[Misfit]:
    there = schema(connection, "seen")
    with closing(migrate.in_memory()) as empty:
        strict = [one.name for one in schema(empty, "main").values() if one.sql.endswith(("strict", "without rowid"))]
        made = {table: empty.execute(f'pragma table_info("{table}")').fetchall() for table in strict}
    for table in sorted(made.keys() & there.keys(), key=lambda table: table in _LONG):
        shared = columns(connection, "seen", table)
        for _, column, kind, is_needed, *_ in made[table]:
            if column not in shared or kind not in _KINDS:
                continue
            kinds = _KINDS[kind] if is_needed else f"{_KINDS[kind]}, 'null'"
            fits = f'typeof("{column}") in ({kinds})'
            found = connection.execute(
                f'select typeof("{column}") from seen."{table}" where not {fits} limit 1'
            ).fetchone()
            if found:
                none = f"NOT NULL constraint failed: {table}.{column}"
                said = f"cannot store {found[0].upper()} value in {kind} column {table}.{column}"
                row = _row(connection, table, f"not {fits} limit 1", ())
                yield Misfit(table, row, none if found[0] == "null" else said)


def schema(connection: sqlite3.Connection, of: str) -> Parts:
    """What a database has, by its name among those that are attached. Raises what is ``UNREADABLE``."""
    return {row[1]: Part(*row) for row in connection.execute(_SCHEMA.format(of))}


def wanted(copy: sqlite3.Connection, found: Parts) -> Parts:
    """What the copy is to have: all that the migrations make, and tables of others with their indexes; all that there
    is where the schema is not this program's.
    """
    try:
        version = copy.execute(_VERSION).fetchone()[0]
    except sqlite3.OperationalError:
        version = None
    if version != migrate.scripts("sqlite")[-1].version:
        return found
    with closing(migrate.in_memory()) as empty:
        ours = schema(empty, "main")
    strange = {one.name for one in found.values() if one.kind == "table" and one.name not in ours}
    others = {one.name: one for one in found.values() if one.table in strange and one.kind in ("table", "index")}
    return ours | others


def texts(found: Parts, wanted: Parts) -> Texts:
    """Of what is wanted the texts of tables and unique indexes; empty: it is what is there."""
    return {one.name: one.sql for one in wanted.values() if one.sql.startswith(FIRST)} if wanted != found else {}


def copied(copy: sqlite3.Connection, wanted: Texts) -> Proof:
    """Copies all rows of the database that is attached as ``seen``; what of it cannot be, as above.

    Tables and unique indexes are made by the texts ``wanted``, by name, and others as they are there.
    """
    try:
        made = copy.execute(_MADE).fetchall()
    except UNREADABLE as problem:
        return Proof(_unlisted(problem))
    misfits: list[Misfit] = []
    there = {name for _, name, _, _ in made}
    anew = [(sql.split()[1].lower(), name, sql, "") for name, sql in wanted.items() if name not in there]
    for kind, name, sql, rows in sorted([*made, *anew], key=lambda one: one[0] != "table"):
        if kind == "table" or name in wanted or not wanted:
            try:
                misfits += _uncopied(copy, "table" if kind == "table" else "index", name, wanted.get(name, sql), rows)
            except UNREADABLE as problem:
                return Proof(f"{kind} {name} cannot be copied: {problem}")
    return Proof(_numbers(copy), tuple(misfits))


def _unlisted(problem: Exception) -> str:
    return f"the list of its tables cannot be read: {problem}"


def _numbers(copy: sqlite3.Connection) -> str:
    """Which numbers were given stands in a table of SQLite's own; without it some would be given again."""
    try:
        copy.execute("select name, seq from seen.sqlite_sequence").fetchall()
    except UNREADABLE as problem:
        return f"table sqlite_sequence cannot be read: {problem}"
    return ""


def _uncopied(copy: sqlite3.Connection, kind: str, name: str, sql: str, rows: str) -> list[Misfit]:
    """Rows that do not fit; a table without ``rows`` is not there yet. Raises what is ``UNREADABLE``."""
    try:
        copy.execute(sql)
        if kind == "table" and rows:
            copy.execute(COPY_ROWS.format(name, rows, shared_columns(copy, name)))
    except sqlite3.IntegrityError as problem:
        return list(_one_by_one(copy, name) if kind == "table" else _twice(copy, sql, str(problem)))
    return []


def columns(copy: sqlite3.Connection, schema: str, table: str) -> list[str]:
    """Names of a table's columns."""
    return [row[1] for row in copy.execute(f'pragma {schema}.table_info("{table}")')]


def shared_columns(copy: sqlite3.Connection, table: str) -> str:
    """Columns that a table has in both databases, for a statement."""
    made = columns(copy, "main", table)
    return ", ".join(f'"{column}"' for column in columns(copy, "seen", table) if column in made)


def _one_by_one(copy: sqlite3.Connection, table: str) -> Iterator[Misfit]:
    """Copies the rows of a table that do fit, and tells the others."""
    key = [row[1] for row in copy.execute(f'pragma main.table_info("{table}")') if row[5]] or ["rowid"]
    where, shared = " and ".join(f'"{column}" = ?' for column in key), shared_columns(copy, table)
    found = 0
    for values in copy.execute(f'select {", ".join(key)} from seen."{table}"').fetchall():
        try:
            copy.execute(_COPY_ROW.format(table, shared, where), values)
        except sqlite3.IntegrityError as problem:
            found += 1
            if found <= NAMED:
                yield Misfit(table, _row(copy, table, where, values), str(problem))


def _twice(copy: sqlite3.Connection, sql: str, said: str) -> Iterator[Misfit]:
    """Rows that are the same in what must be unique."""
    named = re.search(r" on \"?(\w+)\"? \(([^)]*)\)(?: (where .*))?", " ".join(sql.split()), re.IGNORECASE)
    if named is None:
        return
    table, unique, where = named[1], named[2], named[3] or ""
    same = f'select {unique} from main."{table}" {where} group by {unique} having count(*) > 1 limit {NAMED}'
    for values in copy.execute(same).fetchall():
        is_one = " and ".join(f"{column} = ?" for column in unique.split(", "))
        yield Misfit(table, _row(copy, table, is_one, values), said)


def _row(copy: sqlite3.Connection, table: str, where: str, values: tuple[object, ...]) -> dict[str, object]:
    before = copy.text_factory
    copy.text_factory = lambda stored: stored.decode("utf-8", "backslashreplace")
    try:
        row = copy.execute(f'select * from seen."{table}" where {where}', values).fetchone()
    finally:
        copy.text_factory = before
    return dict(zip(columns(copy, "seen", table), row, strict=True))
