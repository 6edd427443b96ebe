"""Stores as earlier versions left them, in the middle of their work: every table has rows, and there are 10,000 tasks.

The rows are made by this program, once; a store of an earlier schema gets those columns of
them that it has. What a real earlier version wrote is in ``version-0.1.0.sql``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from direct import Raw, connect_raw
from orchestrion.core.model import NewGate, NewTask, Wait
from orchestrion.core.states import EdgeKind
from orchestrion.memory import artifacts, decisions
from orchestrion.scheduler import claim, create, finish, meter, slots
from orchestrion.store import Store, migrate, open_store

TASKS = 10_000
SCHEMAS = range(1, len(migrate.scripts("sqlite")))

Table = list[dict[str, Any]]

#: In the order in which they may be written: whatever a row names is there before it.
TABLES = (
    "projects", "plans", "lanes", "tasks", "tags", "gates", "edges", "runs", "metrics", "slots", "holds", "breakers",
    "messages", "changes", "meetings", "checks", "artifacts", "events", "sessions", "decisions", "files", "handoffs",
    "maintenance", "workers", "leases", "tokens", "requests", "alerts", "permissions", "texts",
)  # fmt: skip
#: What nothing else here makes.
_MORE = (
    "insert into sessions (project, name, external, started_at, seen_at) values (1, 'a sitting', 'x', 1, 1)",
    "insert into breakers (project, agent, failures, trips) values (1, 'claude', 2, 1)",
    "insert into changes (run, path, kind, seen_at) values (1, 'a.txt', 'created', 1)",
    "insert into meetings (run, other, path, seen_at) values (1, 2, 'a.txt', 1)",
    "insert into messages (project, run, text, created_at) values (1, 3, 'faster', 1)",
    "insert into checks (run, stage, go, command, output, at, duration_ms) values (1, 'check', 1, 'make', 'ok', 1, 1)",
    "insert into files (project, task, run, op, path, source, seen_at) values (1, 1, 1, 'created', 'a', 'reported', 1)",
    "insert into handoffs (project, text, said, created_at) values (1, 'go on there', 2, 1)",
    "insert into maintenance (project, action, dry_run, at) values (1, 'retention', 0, 1)",
    "insert into workers (project, host, pid, pid_start, slots, started_at, seen_at) values (1, 'h', 7, 1.5, 1, 1, 1)",
    "insert into leases (project, name, holder, until) values (1, 'maintenance', 'h/7', 1)",
    "insert into tokens (project, name, role, hash, created_at) values (1, 'ci', 'read', 'abc', 1)",
    "insert into requests (project, actor, label, fingerprint, holder, correlation, at)"
    " values (1, 'a', 'b', 'c', '', '', 1)",
    "insert into alerts (project, rule, subject, said, opened_at, seen_at) values (1, 'sla', 'T1', 'late', 1, 1)",
    "insert into permissions (project, task, run, tool, said, asked_at) values (1, 1, 1, 'Bash', 'ls', 1)",
)


def rows_of_work(file: Path) -> dict[str, Table]:
    """All rows of a store in the middle of its work, by table."""
    with_work = open_store(str(file))
    _work(with_work)
    with_work.close()
    with connect_raw(str(file)) as raw:
        for statement in _MORE:
            raw.run(statement)
        return rows(raw)


def _work(store: Store) -> None:
    for first in range(0, TASKS, 1000):
        batch = [
            NewTask(f"task {n}", role=("", "tester")[n % 2], tags=("big",), waits=(Wait(n - 999),) if first else ())
            for n in range(first, first + 1000)
        ]
        store.write(lambda tx, batch=batch: create.create_all(tx, batch))
    store.write(lambda tx: slots.set_capacity(tx, "global", 10))
    parent = store.write(lambda tx: create.create(tx, NewTask("parent", waits=(Wait(1),))))
    gates = (NewGate(EdgeKind.APPROVAL, "so?"), NewGate(EdgeKind.TIME, "later", 10**13))
    store.write(lambda tx: create.create(tx, NewTask("part", parent=parent, gates=gates)))
    store.write(lambda tx: create.create(tx, NewTask("on the gpu", needs=("gpu",), priority=10)))
    for supervised in (False, False, True, False):
        who = claim.Claimant(lease_ms=10**9, agent="claude", host="h", supervised=supervised)
        taken = store.write(lambda tx, who=who: claim.claim(tx, who))
        assert taken is not None
        store.write(lambda tx, run=taken.run: meter.add(tx, run, turns=1, tokens_input=10, cost_usd=1.0))
    task = store.read(lambda tx: tx.the("run", id=2)["task"])
    store.write(lambda tx: artifacts.keep(tx, task, 2, "a result", called="detail", kind="general"))
    store.write(lambda tx: finish.complete(tx, 2, summary="done"))
    store.write(lambda tx: decisions.record(tx, decisions.NewDecision("this way")))


def rows(raw: Raw) -> dict[str, Table]:
    """Every row of every table of ours that is not about the schema."""
    return {table: _ordered(raw.rows(f"select * from {table}")) for table in TABLES}


def _ordered(table: Table) -> Table:
    return sorted(table, key=lambda row: json.dumps(row, sort_keys=True))


def store_of(schema: int, url: str, content: dict[str, Table]) -> None:
    """Makes the store of an earlier schema, with those columns of ``content`` that it has."""
    if url.startswith("postgres"):
        _postgres_store_of(schema, url, content)
    else:
        _sqlite_store_of(schema, url, content)


def _sqlite_store_of(schema: int, url: str, content: dict[str, Table]) -> None:
    with closing(sqlite3.connect(url, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        migrate.sqlite(connection, create=True, known=migrate.scripts("sqlite")[:schema])
        # What is written by hand is not counted and refused once more.
        triggers = connection.execute("select name, sql from sqlite_schema where type = 'trigger'").fetchall()
        connection.execute("begin")
        for name, _ in triggers:
            if not name.startswith("texts"):
                connection.execute(f"drop trigger {name}")
        for table, names, values in _as_it_was(content, lambda t: _columns(connection, t)):
            marks = ", ".join("?" * len(names))
            connection.executemany(f"insert into {table} ({', '.join(names)}) values ({marks})", values)
        for name, made in triggers:
            if not name.startswith("texts"):
                connection.execute(made)
        connection.execute("commit")


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"pragma table_info({table})")]


def _postgres_store_of(schema: int, url: str, content: dict[str, Table]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        migrate.postgres(connection, create=True, known=migrate.scripts("postgres")[:schema])
        connection.execute("set session_replication_role = replica")

        def columns(table: str) -> list[str]:
            return [one.name for one in connection.execute(f"select * from {table} limit 0".encode()).description or ()]

        for table, names, values in _as_it_was(content, columns):
            with connection.cursor().copy(f"copy {table} ({', '.join(names)}) from stdin".encode()) as copy:
                for row in values:
                    copy.write_row(row)
            if "id" in names and values:
                connection.execute(_NEXT.replace("{table}", table).encode())


_NEXT = """select setval(s, (select max(id) from {table})) from pg_get_serial_sequence('{table}', 'id') s
    where s is not null"""


def _as_it_was(
    content: dict[str, Table], columns: Callable[[str], list[str]]
) -> Iterator[tuple[str, list[str], list[tuple[Any, ...]]]]:
    for table, there in content.items():
        had = columns(table)
        names = [name for name in had if there and name in there[0]]
        if names:
            yield table, names, [tuple(row[name] for name in names) for row in there]
