"""SQL beside the store: what no program of ours would write, and what tests look up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

import psycopg
from psycopg.rows import dict_row

#: How long somebody else's lock is waited for, in seconds.
PATIENCE_S = 60.0


class Raw(Protocol):
    """A connection beside the store."""

    #: What the driver raises.
    error: type[Exception]

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Result of a query; ``?`` stands for a value."""

    def run(self, sql: str, *values: object) -> int:
        """Executes a statement at once; number of rows it changed."""

    def close(self) -> None:
        """Gives the connection back."""


class _Closing:
    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawSqlite(_Closing):
    """Direct SQL on a SQLite file."""

    error = sqlite3.Error

    def __init__(self, path: str, patience_s: float = PATIENCE_S) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=patience_s)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("pragma foreign_keys = on")

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(sql, values)]

    def run(self, sql: str, *values: object) -> int:
        return self._connection.execute(sql, values).rowcount

    def close(self) -> None:
        self._connection.close()


class RawPostgres(_Closing):
    """Direct SQL on a PostgreSQL database."""

    error = psycopg.Error

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        return self._connection.execute(sql.replace("?", "%s").encode(), values or None).fetchall()

    def run(self, sql: str, *values: object) -> int:
        return self._connection.execute(sql.replace("?", "%s").encode(), values or None).rowcount

    def close(self) -> None:
        self._connection.close()


def connect_raw(url: str) -> Raw:
    """Direct SQL on the database at ``url``."""
    return RawPostgres(url) if url.startswith("postgres") else RawSqlite(url)


class Hand:
    """Bends rows while whatever refuses is switched off."""

    def __init__(self, raw: Raw, dialect: str) -> None:
        self.rows = raw.rows
        self._raw = raw
        self._is_sqlite = dialect == "sqlite"
        raw.run("pragma foreign_keys = off" if self._is_sqlite else "set session_replication_role = replica")

    def run(self, sql: str, *values: object) -> None:
        triggers = self.rows(_TRIGGERS) if self._is_sqlite else []
        for trigger in triggers:
            self._raw.run(f"drop trigger {trigger['name']}")
        self._raw.run(sql, *values)
        for trigger in triggers:
            self._raw.run(trigger["sql"])

    def unfit(self, table: str, sql: str, *values: object) -> None:
        """The same with what the table's own checks refuse, which PostgreSQL then has no more."""
        if self._is_sqlite:
            self._raw.run("pragma ignore_check_constraints = on")
        else:
            for check in self.rows(_CHECKS.format(table)):
                self._raw.run(f"alter table {table} drop constraint {check['name']}")
        self.run(sql, *values)


@contextmanager
def lenient(file: str, *, is_strict_again: bool) -> Iterator[Hand]:
    """A hand on a store whose tables take what they would refuse, until it is done or for ever."""
    with RawSqlite(file) as raw:
        tables = raw.rows(_STRICT)
        raw.run("pragma writable_schema = on")
        raw.run("update sqlite_schema set sql = replace(sql, ') strict', ')') where type = 'table'")
    with RawSqlite(file) as raw:
        raw.run("pragma ignore_check_constraints = on")
        yield Hand(raw, "sqlite")
        raw.run("pragma writable_schema = on")
        for table in tables if is_strict_again else []:
            raw.run("update sqlite_schema set sql = ? where name = ?", table["sql"], table["name"])


_TRIGGERS = "select name, sql from sqlite_schema where type = 'trigger'"
_STRICT = "select name, sql from sqlite_schema where type = 'table' and sql like '%) strict%'"
_CHECKS = "select conname as name from pg_constraint where contype = 'c' and conrelid = '{}'::regclass"
