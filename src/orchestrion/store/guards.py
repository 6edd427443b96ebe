"""What the migrations make: tables with their columns, and what the database refuses by itself, whoever writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import NamedTuple

from orchestrion.store import migrate
from orchestrion.store.statements import Statements
from orchestrion.store.store import Transaction

#: A trigger or a unique index with its text, a function of PostgreSQL's with its body, or the end of one of them.
_MADE = re.compile(
    r"^create (?:or replace )?(trigger) (\w+) .*?(?:^end|execute function \w+\(\));"
    r"|^create (unique index) (\w+) [^;]*;"
    r"|^create (?:or replace )?(function) (\w+)\(\) returns trigger .*?\$\$(.*?)\$\$;"
    r"|^drop (?:trigger|index) (\w+)",
    re.MULTILINE | re.DOTALL,
)
_CHECK = re.compile(r"\bcheck \(")
_FUNCTION = re.compile(r"execute function (\w+)\(\)")
#: What PostgreSQL adds to the text of an index, and what it spells otherwise: its kind, the type of a text, ``in``.
_ADDED = re.compile(r"\busing btree\b|::text\b|\bany\b|\barray\b|\bin\b|[()\[\]=]", re.IGNORECASE)
_OPEN = "what must not be is not refused any more"


class Guard(NamedTuple):
    """Something that stands in the way of a row that must not be."""

    #: ``trigger`` or ``unique index``.
    kind: str
    #: What it does, so that two texts which mean the same are equal.
    text: str


class Guards(NamedTuple):
    """All that stands in the way."""

    named: dict[str, Guard]
    #: How many CHECKs the tables have.
    checks: int


@cache
def made(dialect: str) -> Guards:
    """What the migrations of ``dialect`` make."""
    named: dict[str, Guard] = {}
    bodies: dict[str, str] = {}
    script = "\n".join(migration.script for migration in migrate.scripts(dialect))
    for found in _MADE.finditer(script):
        trigger, trigger_name, index, index_name, function, function_name, body, dropped = found.groups()
        if function:
            bodies[function_name] = body
        elif dropped:
            named.pop(dropped, None)
        elif trigger:
            named[trigger_name] = Guard(trigger, found[0])
        else:
            named[index_name] = Guard(index, found[0])
    for name, guard in named.items():
        called = _FUNCTION.search(guard.text)
        named[name] = Guard(guard.kind, _plain(guard.kind, guard.text, bodies[called[1]] if called else ""))
    return Guards(named, len(_CHECK.findall(script)))


@cache
def _columns() -> frozenset[tuple[str, str, str]]:
    """(table, column, "") of each column, (table, column, other) of each that must name a row of another table.

    Both databases have the same: SQLite makes them in memory.
    """
    statement = Statements("sqlite", {}, lambda name, _: name, "").text("columns_of_tables", {})
    with closing(migrate.in_memory()) as empty:
        return frozenset(empty.execute(statement))


def _plain(kind: str, text: str, body: str) -> str:
    """The text as every release of a database keeps it, with that of the function that a trigger calls."""
    text = _ADDED.sub("", text) if kind == "unique index" else text
    return " ".join(text.lower().split()).rstrip(";") + body


def lost_columns(tx: Transaction) -> Iterator[str]:
    """Tables and columns that the migrations make and that are gone, each in words; nothing of a newer schema."""
    if tx.the("schema")["version"] > migrate.scripts(tx.dialect)[-1].version:
        return
    found = {(row["table"], row["column"], row["other"]) for row in tx.all("columns_of_tables")}
    tables = {table for table, _, _ in found}
    lost = _columns() - found
    yield from (f"the table {table} is gone" for table in sorted({table for table, _, _ in lost} - tables))
    for table, column, other in sorted(lost):
        if table in tables and other and (table, column, "") in found:
            yield f"{table}.{column} need not name a row of {other} any more: {_OPEN}"
        elif table in tables and not other:
            yield f"the column {column} of the table {table} is gone"


def how_to_remake(dialect: str) -> str:
    """What makes a guard as the migrations do, in words; empty: no command does."""
    return (
        f"{migrate.REBUILD} makes it as it should be, once no program has the store open" if dialect == "sqlite" else ""
    )


def how_to_remake_tables(dialect: str) -> str:
    """What makes a table or a column anew, in words; empty: no command does."""
    said = f"{migrate.REBUILD} makes it anew, without what stood in it: that only a copy of before has"
    return said if dialect == "sqlite" else ""


def lost_row(tx: Transaction) -> Iterator[str]:
    """That the row is gone which says that the schema is this program's, in words."""
    newest = migrate.scripts(tx.dialect)[-1].version
    if tx.the("schema")["version"] < newest:
        yield f"the row of schema {newest} in migrations is gone: who opens the store next is refused"


def missing(tx: Transaction) -> Iterator[str]:
    """Guards that are gone, switched off or others than the migrations make, each in words.

    What a schema has that is not this program's is not known here.
    """
    if tx.the("schema")["version"] != migrate.scripts(tx.dialect)[-1].version:
        return
    wanted = made(tx.dialect)
    found = {row["name"]: row for row in tx.all("guards")}
    for name, guard in wanted.named.items():
        row = found.get(name)
        if row is None:
            yield f"the {guard.kind} {name} is gone or switched off: {_OPEN}"
        elif _plain(guard.kind, row["text"], row["body"]) != guard.text:
            yield f"the {guard.kind} {name} is another than the migrations make: {_OPEN}"
    for name, row in found.items():
        if name not in wanted.named and row["text"].lower().startswith(("create trigger", "create constraint trigger")):
            yield f"the trigger {name} is none that the migrations make: what it does to rows nobody knows"
    if (lost := wanted.checks - tx.the("checks_of_tables")["total"]) > 0:
        yield f"{lost} of {wanted.checks} CHECKs are gone: {_OPEN}"
