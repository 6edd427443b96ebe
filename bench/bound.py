"""The bound of row 1: the same graph drained by the bare driver, as well as we can write it.

What it does, for each task and in two commits, as the product does:

* claim: the best ready task by (rank, id) goes to in_progress; its run is inserted; the
  claim's lines go into the journal
* finish: the run ends, the task is completed (both only if the run still holds it), the
  edges to its dependants are met, their counters fall, those at zero become ready with a
  rank and a time; all lines go into the journal

The rows are the product's: as many tasks, runs, edges and events, with all their columns
and the same states, numbers, times and references in them (how many and which events, it
learns from the product at the start of the run). So it pays for the same disk and the same
promises: WAL and the same ``synchronous`` on SQLite, ``fsync`` on PostgreSQL.

What it leaves out is what the product does for its users beyond that: no triggers that
refuse illegal moves, no foreign keys and CHECKs, no second and third index for other
questions (by state, by plan, by run), one graph per database, no lanes, roles, slots,
retries, timers, gates, kinds of edges, actors or waiving, no wake-up of waiting workers,
no translation of errors.

Both databases get the same few statements, prepared once, with plain tuples, and clock
and counters from Python. ``PostgresAtOnce`` is what a single statement for each commit
could do on PostgreSQL, one journey and no transaction around it: nothing that raises
errors, joins a larger change or serves two databases can be written so, but it shows how
far there is to go.
"""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import psycopg

from bench.graph import Graph

#: kind, from_state, to_state
Line = tuple[str, str | None, str | None]
#: at, kind, task, run, from_state, to_state
EventRow = tuple[int, str, int, int | None, str | None, str | None]

LEASE_MS = 900_000
#: One step of priority, in milliseconds of waiting.
STEP_MS = 3_600_000
PRIORITY = 5


@dataclass(frozen=True)
class Journal:
    """The lines that the product writes."""

    #: At each claim.
    claim: list[Line]
    #: At each finish.
    finish: list[Line]
    #: For each task that becomes ready.
    ready: Line


class Bound(ABC):
    """The bare program on one database."""

    @abstractmethod
    def __init__(self, url: str, journal: Journal, *, durable: bool) -> None:
        """Connects; ``durable`` commits wait for the disk."""

    @abstractmethod
    def load(self, graph: Graph) -> None:
        """Writes the graph."""

    @abstractmethod
    def claim(self) -> tuple[int, int] | None:
        """Takes the best task; its run and its number, or None."""

    @abstractmethod
    def finish(self, number: int, task: int) -> None:
        """Completes a task."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Number of completed tasks, of runs, met edges and events."""

    @abstractmethod
    def close(self) -> None:
        """Ends the connection."""

    def step(self) -> bool:
        """Claims and finishes one task; whether there was one."""
        taken = self.claim()
        if taken is None:
            return False
        self.finish(*taken)
        return True


_TABLES = """
create table tasks (
    id {serial}, project {number} not null, plan {number} not null default 1, lane {number} not null default 1,
    parent {number}, state text not null, run {number}, unmet {number} not null, dead {number} not null default 0,
    held {number} not null default 0, children {number} not null default 0, priority {number} not null,
    urgent {number} not null default 0, rank {number} not null default 0, ready_at {number}, retry_at {number},
    due_at {number}, retries {number} not null default 0, attempts {number} not null default 0,
    max_retries {number} not null default 3, retry_delay_s double precision not null default 60,
    timeout_s double precision, key text, title text not null, description text not null default '',
    type text not null default 'standard', complexity text not null default 'moderate', effort_min double precision,
    command text, checks text not null default '[]', setup text, merge text not null default 'auto',
    tags text not null default '[]', context text not null default '{{}}', metadata text not null default '{{}}',
    code text, reason text, error text, feedback text, summary text, result text, work_run {number},
    created_at {number} not null, updated_at {number} not null, started_at {number}, completed_at {number},
    archived_at {number});
create index tasks_ready on tasks (rank, id) where state = 'ready';
create table runs (
    id {serial}, project {number} not null, task {number} not null, attempt {number} not null, state text not null,
    phase text not null, supervised {number} not null, agent text not null, role text not null default '',
    actor text not null default '', host text not null default '', worker_pid {number}, worker_start double precision,
    pid {number}, pid_start double precision, lease_ms {number} not null, lease_until {number} not null, code text,
    reason text, workspace text, branch text, base_commit text, head_commit text, session_id text, next_action text,
    summary text, queued_at {number}, claimed_at {number} not null, started_at {number}, ended_at {number},
    turns {number}, tokens_input {number}, tokens_output {number}, tokens_cache_read {number},
    tokens_cache_write {number}, cost_usd double precision, files_changed {number}, lines_added {number},
    lines_removed {number}, exit_code {number});
create table edges (
    id {serial}, task {number} not null, prerequisite {number} not null, gate {number}, kind text not null,
    state text not null, heir_of {number} not null default 1, reason text, created_at {number} not null);
create index edges_to on edges (prerequisite);
create table events (
    id {serial}, project {number} not null, at {number} not null, kind text not null, task {number}, run {number},
    from_state text, to_state text, actor text not null, session text, correlation text, data text)
"""
_COUNTS = """select (select count(*) from tasks where state = 'completed') as completed,
    (select count(*) from runs where state = 'succeeded') as runs,
    (select count(*) from edges where state = 'met') as edges, (select count(*) from events) as events"""


def _statements(serial: str, number: str) -> list[str]:
    return _TABLES.format(serial=serial, number=number).split(";")


def _task_rows(graph: Graph, now: int) -> list[tuple[object, ...]]:
    rank = now - STEP_MS * PRIORITY
    return [
        (i + 1, 1, f"Task {i}", "pending" if parents else "ready", len(parents), PRIORITY, rank, now, now, now)
        for i, parents in enumerate(graph)
    ]


def _edge_rows(graph: Graph, now: int) -> list[tuple[object, ...]]:
    return [(i + 1, parent + 1, "blocks", "open", now) for i, parents in enumerate(graph) for parent in parents]


_TASK_COLUMNS = "id, project, title, state, unmet, priority, rank, created_at, updated_at, ready_at"
_EDGE_COLUMNS = "task, prerequisite, kind, state, created_at"
_EVENT_COLUMNS = "project, at, kind, task, run, from_state, to_state, actor"


class SqliteBound(Bound):
    """On one SQLite file."""

    def __init__(self, url: str, journal: Journal, *, durable: bool) -> None:
        self._db = sqlite3.connect(url, isolation_level=None)
        self._journal = journal
        self._db.execute("pragma journal_mode = wal")
        self._db.execute(f"pragma synchronous = {'full' if durable else 'normal'}")

    def load(self, graph: Graph) -> None:
        now = _now()
        self._db.execute("begin immediate")
        for statement in _statements("integer primary key", "integer"):
            self._db.execute(statement)
        self._db.executemany(
            f"insert into tasks ({_TASK_COLUMNS}) values (?,?,?,?,?,?,?,?,?,?)", _task_rows(graph, now)
        )
        self._db.executemany(f"insert into edges ({_EDGE_COLUMNS}) values (?,?,?,?,?)", _edge_rows(graph, now))
        self._db.execute("commit")

    def claim(self) -> tuple[int, int] | None:
        run, now = self._db.execute, _now()
        run("begin immediate")
        head = run(
            """update tasks set state = 'in_progress', run = (select coalesce(max(id), 0) + 1 from runs),
            attempts = attempts + 1, started_at = coalesce(started_at, ?1), updated_at = ?1
            where id = (select id from tasks where state = 'ready' order by rank, id limit 1)
            returning run, id, attempts, ready_at""",
            (now,),
        ).fetchone()
        if head is None:
            run("rollback")
            return None
        number, task, attempt, ready_at = head
        run(
            """insert into runs (id, project, task, attempt, state, phase, supervised, agent, lease_ms, lease_until,
            queued_at, claimed_at) values (?, 1, ?, ?, 'starting', 'preparing', 0, '', ?, ?, ?, ?)""",
            (number, task, attempt, LEASE_MS, now + LEASE_MS, ready_at, now),
        )
        self._write([(now, kind, task, number, found, to) for kind, found, to in self._journal.claim])
        run("commit")
        return number, task

    def finish(self, number: int, task: int) -> None:
        run, now = self._db.execute, _now()
        run("begin immediate")
        ended = run(
            """update runs set state = 'succeeded', started_at = claimed_at, ended_at = ?
            where id = ? and state = 'starting'""",
            (now, number),
        )
        moved = run(
            """update tasks set state = 'completed', run = null, work_run = ?2, completed_at = ?1, updated_at = ?1
            where id = ?3 and run = ?2 and state = 'in_progress'""",
            (now, number, task),
        )
        if ended.rowcount != 1 or moved.rowcount != 1:
            raise RuntimeError(f"run {number} does not hold task {task}")
        lines: list[EventRow] = [(now, kind, task, number, found, to) for kind, found, to in self._journal.finish]
        if run("update edges set state = 'met' where prerequisite = ? and state = 'open'", (task,)).rowcount:
            kind, found, to = self._journal.ready
            lines += [(now, kind, one, None, found, to) for one in self._count_down(task, now)]
        self._write(lines)
        run("commit")

    def _count_down(self, task: int, now: int) -> list[int]:
        rows = self._db.execute(
            """update tasks set unmet = unmet - 1, updated_at = ?1,
            state = case when unmet = 1 then 'ready' else state end,
            ready_at = case when unmet = 1 then ?1 end, rank = ?1 - ?2 * priority
            where id in (select task from edges where prerequisite = ?3) returning id, state""",
            (now, STEP_MS, task),
        ).fetchall()
        return [one for one, state in rows if state == "ready"]

    def _write(self, lines: list[EventRow]) -> None:
        self._db.executemany(f"insert into events ({_EVENT_COLUMNS}) values (1,?,?,?,?,?,?,'')", lines)

    def counts(self) -> dict[str, int]:
        cursor = self._db.execute(_COUNTS)
        return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))

    def close(self) -> None:
        self._db.close()


class PostgresBound(Bound):
    """On one PostgreSQL database, by the statements that ``SqliteBound`` uses."""

    def __init__(self, url: str, journal: Journal, *, durable: bool) -> None:
        self._db = psycopg.connect(url, autocommit=True)
        self._db.execute(f"set synchronous_commit = {'on' if durable else 'off'}".encode())
        self._journal = journal

    def load(self, graph: Graph) -> None:
        now = _now()
        with self._db.transaction(), self._db.cursor() as cursor:
            for statement in _statements("bigint generated by default as identity primary key", "bigint"):
                cursor.execute(statement.encode())
            with cursor.copy(f"copy tasks ({_TASK_COLUMNS}) from stdin".encode()) as copy:
                for row in _task_rows(graph, now):
                    copy.write_row(row)
            with cursor.copy(f"copy edges ({_EDGE_COLUMNS}) from stdin".encode()) as copy:
                for row in _edge_rows(graph, now):
                    copy.write_row(row)

    def claim(self) -> tuple[int, int] | None:
        now = _now()
        with self._db.transaction():
            head = self._run(
                """select id, attempts + 1, ready_at from tasks where state = 'ready' order by rank, id limit 1
                for update skip locked"""
            ).fetchone()
            if head is None:
                return None
            task, attempt, ready_at = head
            begun = self._run(
                """insert into runs (project, task, attempt, state, phase, supervised, agent, lease_ms, lease_until,
                queued_at, claimed_at) values (1, %s, %s, 'starting', 'preparing', 0, '', %s, %s, %s, %s)
                returning id""",
                (task, attempt, LEASE_MS, now + LEASE_MS, ready_at, now),
            ).fetchone()
            assert begun is not None
            number = begun[0]
            self._run(
                """update tasks set state = 'in_progress', run = %s, attempts = %s,
                started_at = coalesce(started_at, %s), updated_at = %s where id = %s""",
                (number, attempt, now, now, task),
            )
            self._write([(now, kind, task, number, found, to) for kind, found, to in self._journal.claim])
        return number, task

    def finish(self, number: int, task: int) -> None:
        now = _now()
        with self._db.transaction():
            ended = self._run(
                """update runs set state = 'succeeded', started_at = claimed_at, ended_at = %s
                where id = %s and state = 'starting'""",
                (now, number),
            )
            moved = self._run(
                """update tasks set state = 'completed', run = null, work_run = %s, completed_at = %s, updated_at = %s
                where id = %s and run = %s and state = 'in_progress'""",
                (number, now, now, task, number),
            )
            if ended.rowcount != 1 or moved.rowcount != 1:
                raise RuntimeError(f"run {number} does not hold task {task}")
            lines: list[EventRow] = [(now, kind, task, number, found, to) for kind, found, to in self._journal.finish]
            met = self._run("update edges set state = 'met' where prerequisite = %s and state = 'open'", (task,))
            if met.rowcount:
                kind, found, to = self._journal.ready
                lines += [(now, kind, one, None, found, to) for one in self._count_down(task, now)]
            self._write(lines)

    def _count_down(self, task: int, now: int) -> list[int]:
        rows = self._run(
            """update tasks set unmet = unmet - 1, updated_at = %s, rank = %s - %s * priority,
            state = case when unmet = 1 then 'ready' else state end,
            ready_at = case when unmet = 1 then %s::bigint end
            where id in (select task from edges where prerequisite = %s) returning id, state""",
            (now, now, STEP_MS, now, task),
        ).fetchall()
        return [one for one, state in rows if state == "ready"]

    def _write(self, lines: list[EventRow]) -> None:
        for line in lines:
            self._run(f"insert into events ({_EVENT_COLUMNS}) values (1, %s, %s, %s, %s, %s, %s, '')", line)

    def _run(self, text: str, given: tuple[object, ...] = ()) -> psycopg.Cursor[Any]:
        return self._db.execute(text.encode(), given, prepare=True)

    def counts(self) -> dict[str, int]:
        cursor = self._db.execute(_COUNTS.encode())
        row = cursor.fetchone()
        assert row is not None
        return dict(zip([column.name for column in cursor.description or ()], row, strict=True))

    def close(self) -> None:
        self._db.close()


class PostgresAtOnce(PostgresBound):
    """The same with one statement, so one journey, for each commit."""

    def __init__(self, url: str, journal: Journal, *, durable: bool) -> None:
        super().__init__(url, journal, durable=durable)
        self._claim = _CLAIM.format(lines=_values(journal.claim), lease=LEASE_MS, now=_CLOCK)
        kind, found, to = map(_quoted, journal.ready)
        self._finish = _FINISH.format(
            lines=_values(journal.finish), kind=kind, found=found, to=to, step=STEP_MS, now=_CLOCK
        ).encode()

    def claim(self) -> tuple[int, int] | None:
        return self._run(self._claim).fetchone()

    def finish(self, number: int, task: int) -> None:
        row = self._db.execute(self._finish, {"run": number, "task": task}, prepare=True).fetchone()
        if row is None or row[0] != 1:
            raise RuntimeError(f"run {number} does not hold task {task}")


_CLOCK = "(extract(epoch from clock_timestamp()) * 1000)::bigint"
_CLAIM = """
with clock as materialized (select {now} as now),
head as (
    select id, attempts + 1 as attempt, ready_at from tasks where state = 'ready' order by rank, id limit 1
    for update skip locked),
begun as (
    insert into runs (project, task, attempt, state, phase, supervised, agent, lease_ms, lease_until, queued_at,
        claimed_at)
    select 1, id, attempt, 'starting', 'preparing', 0, '', {lease}, now + {lease}, ready_at, now from head, clock
    returning id, task, attempt),
taken as (
    update tasks t set state = 'in_progress', run = begun.id, attempts = begun.attempt,
        started_at = coalesce(started_at, now), updated_at = now
    from begun, clock where t.id = begun.task),
written as (
    insert into events (project, at, kind, task, run, from_state, to_state, actor)
    select 1, now, line.kind, begun.task, begun.id, line.found, line.becomes, ''
    from begun, clock, (values {lines}) line (kind, found, becomes))
select id, task from begun
"""
_FINISH = """
with clock as materialized (select {now} as now),
ended as (
    update runs set state = 'succeeded', started_at = claimed_at, ended_at = now from clock
    where id = %(run)s and state = 'starting' returning id),
done as (
    update tasks t set state = 'completed', run = null, work_run = ended.id, completed_at = now, updated_at = now
    from ended, clock where t.id = %(task)s and t.run = ended.id and t.state = 'in_progress' returning t.id),
held as materialized (
    select id from tasks where id in (select task from edges where prerequisite = %(task)s and state = 'open')
    order by id for update),
met as (
    update edges set state = 'met' from done where prerequisite = done.id and state = 'open' returning task),
counted as (
    update tasks t set unmet = unmet - 1, updated_at = now, rank = now - {step} * priority,
        state = case when unmet = 1 then 'ready' else state end, ready_at = case when unmet = 1 then now end
    from met, clock where t.id = met.task and t.id in (select id from held) returning t.id, t.state),
written as (
    insert into events (project, at, kind, task, run, from_state, to_state, actor)
    select 1, now, line.kind, done.id, %(run)s, line.found, line.becomes, ''
    from done, clock, (values {lines}) line (kind, found, becomes)
    union all
    select 1, now, {kind}, id, null, {found}, {to}, '' from counted, clock where state = 'ready')
select (select count(*) from done)
"""


def _values(lines: list[Line]) -> str:
    return ", ".join("(" + ", ".join(map(_quoted, line)) + ")" for line in lines)


def _quoted(text: str | None) -> str:
    """As an SQL literal; the words come from the product's own journal and have no quotes in them."""
    return "null::text" if text is None else f"'{text}'::text"


def _now() -> int:
    return time.time_ns() // 1_000_000
