"""The second proof: whether every row of a SQLite store can be read, and fits its table.

What SQLite's own check reports need not be so: release 3.40 calls rows damaged that are not,
and what is wrong with an index alone has cost nobody a row. So all rows are copied, read
without any index, into new tables with the same constraints, which no such check has looked at.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

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
#: Row by row: without the limit SQLite copies the pages of indexes, too, where both tables are made alike.
COPY_ROWS = 'insert into main."{0}" select * from seen."{0}" {1} limit -1'
#: What SQLite raises for what it cannot read; its own words may hold the damage, and be no text.
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)


def of_file(file: Path) -> str:
    """What cannot be read or does not fit, in a line; empty: all is there. The file is not written to."""
    # The copy is on the disk, and gone with the connection.
    with closing(sqlite3.connect("", uri=True, isolation_level=None)) as copy:
        try:
            copy.execute("attach ? as seen", (f"{file.as_uri()}?mode=ro",))
            copy.execute("begin")
        except UNREADABLE as problem:
            return _unlisted(problem)
        return copied(copy)


def copied(copy: sqlite3.Connection) -> str:
    """Copies all rows of the database that is attached as ``seen``; what of it cannot be, as above."""
    try:
        made = copy.execute(_MADE).fetchall()
    except UNREADABLE as problem:
        return _unlisted(problem)
    said = (_uncopied(copy, *one) for one in made)
    return next((one for one in said if one), "") or _numbers(copy)


def _unlisted(problem: Exception) -> str:
    return f"the list of its tables cannot be read: {problem}"


def _numbers(copy: sqlite3.Connection) -> str:
    """Which numbers were given stands in a table of SQLite's own; without it some would be given again."""
    try:
        copy.execute("select name, seq from seen.sqlite_sequence").fetchall()
    except UNREADABLE as problem:
        return f"table sqlite_sequence cannot be read: {problem}"
    return ""


def _uncopied(copy: sqlite3.Connection, kind: str, name: str, sql: str, rows: str) -> str:
    try:
        copy.execute(sql)
        if kind == "table":
            copy.execute(COPY_ROWS.format(name, rows))
    except sqlite3.IntegrityError as problem:
        whose = f"table {name}" if kind == "table" else f"unique index {name}"
        return f"a row does not fit the rules of {whose}: {problem}"
    except UNREADABLE as problem:
        return f"{kind} {name} cannot be copied: {problem}"
    return ""
