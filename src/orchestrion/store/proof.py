"""The second proof: whether every row of a SQLite store can be read, and fits its table.

What SQLite's own check reports need not be so: release 3.40 calls rows damaged that are not,
and what is wrong with an index alone has cost nobody a row. So all rows are copied, read
without any index, into new tables with the same constraints, which no such check has looked at.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

#: Tables of our own (the full-text search is made from one of them), then what must be unique in them.
_MADE = """select m.type, m.name, m.sql from seen.sqlite_schema m
left join pragma_table_list l on l.schema = 'seen' and l.name = m.name
where (m.type = 'table' and l.type = 'table' and m.name not like 'sqlite^_%' escape '^')
    or (m.type = 'index' and m.sql like 'create unique index%')
order by m.type desc, m.name"""


def of_file(file: Path) -> str:
    """What cannot be read or does not fit, in a line; empty: all is there. The file is not written to."""
    # The copy is on the disk, and gone with the connection.
    with closing(sqlite3.connect("", uri=True, isolation_level=None)) as copy:
        try:
            copy.execute("attach ? as seen", (f"{file.as_uri()}?mode=ro",))
            copy.execute("begin")
            made = copy.execute(_MADE).fetchall()
        except sqlite3.Error as problem:
            return f"the list of its tables cannot be read: {problem}"
        said = (_uncopied(copy, kind, name, sql) for kind, name, sql in made)
        return next((one for one in said if one), "")


def _uncopied(copy: sqlite3.Connection, kind: str, name: str, sql: str) -> str:
    try:
        copy.execute(sql)
        if kind == "table":
            copy.execute(f'insert into main."{name}" select * from seen."{name}" not indexed')
    except sqlite3.IntegrityError as problem:
        whose = f"table {name}" if kind == "table" else f"unique index {name}"
        return f"a row does not fit the rules of {whose}: {problem}"
    except sqlite3.Error as problem:
        return f"{kind} {name} cannot be copied: {problem}"
    return ""
