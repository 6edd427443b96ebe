"""Times that none can be: a row with one is found, and named with its column.

Times are milliseconds since 1970. Nothing of ours writes one before that or behind the year 9999, and no
calendar shows one; a door that meets one shows the nearest that there is (``core.values.iso``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from orchestrion.core.values import LAST_MOMENT
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: The rule that such a time breaks.
RULE = "times_are_of_the_years_1970_to_9999"
#: Statements that find rows with one -> what a row is called.
TABLES = {
    "times_of_projects": "the project {name}",
    "times_of_plans": "plan {name}",
    "times_of_tasks": "T{id}",
    "times_of_gates": "G{id} of T{task}",
    "times_of_edges": "dependency {id} of T{task}",
    "times_of_runs": "R{id}",
    "times_of_metrics": "metric {id} of R{run}",
    "times_of_breakers": "the breaker of {agent}",
    "times_of_messages": "message {id} to R{run}",
    "times_of_changes": "the change of {path} by R{run}",
    "times_of_meetings": "the meeting of R{run} and R{other} at {path}",
    "times_of_checks": "check {id} of R{run}",
    "times_of_artifacts": "A{id}",
    "times_of_events": "line {id} of the journal",
    "times_of_sessions": "S{id}",
    "times_of_decisions": "D{number}",
    "times_of_files": "record {id} of the file {path}",
    "times_of_handoffs": "H{id}",
    "times_of_maintenance": "M{id}",
    "times_of_workers": "the worker {host}/{pid}",
    "times_of_leases": "the lease {name}",
    "times_of_tokens": "the token {name}",
    "times_of_requests": "the request {label} of {actor}",
    "times_of_alerts": "alert {id}",
    "times_of_permissions": "permission {id}",
    "times_of_logins": "login {id}",
}
#: Those that are about some tasks.
_OF_TASKS = ("times_of_tasks", "times_of_gates", "times_of_edges", "times_of_runs")
#: What `orchestrion cleanup` bounds: a lease of an active run, a breaker.
_BOUNDED = {"times_of_runs": "lease_until", "times_of_breakers": "until"}
_ACTIVE = ("starting", "running")


class WrongTime(NamedTuple):
    """A time that none can be."""

    #: The row's name.
    thing: str
    column: str
    #: A number of milliseconds; in a table that somebody made lenient, anything.
    value: object
    #: The command that sets the column; empty: there is none.
    command: str


def wrong(
    tx: Transaction, ids: Sequence[int] | None, *, limit: int, newest: int | None = None, lines: int | None = None
) -> Iterator[WrongTime]:
    """Wrong times, at most of ``limit`` rows of each table.

    ``ids``: of these tasks alone; with ``newest``, also of so many rows of all else, of the journal ``lines``.
    """
    for statement, called in TABLES.items():
        is_of_tasks = statement in _OF_TASKS
        if ids is not None and not is_of_tasks and newest is None:
            continue
        asked: dict[str, Any] = {"ids": list(ids)} if ids is not None and is_of_tasks else {"newest": newest}
        if statement == "times_of_events" and lines is not None:
            asked["newest"] = lines
        for row in tx.all(statement, last=LAST_MOMENT, limit=limit, **asked):
            yield from _of_row(statement, called.format_map(dict(row)), row)


def is_time(column: str) -> bool:
    """Whether a column of this name holds a time."""
    return column in ("at", "until", "lease_until") or column.endswith("_at")


def _of_row(statement: str, thing: str, row: Row) -> Iterator[WrongTime]:
    for column in filter(is_time, row.keys()):
        value = row[column]
        if value is not None and not (isinstance(value, int | float) and 0 <= value <= LAST_MOMENT):
            yield WrongTime(thing, column, value, _command(statement, column, thing, row))


def _command(statement: str, column: str, thing: str, row: Row) -> str:
    if column == "due_at":
        return f"`orchestrion update {thing} --no-due` clears it"
    is_number = isinstance(row[column], int | float)
    is_bounded = _BOUNDED.get(statement) == column and is_number and row[column] > LAST_MOMENT
    if is_bounded and (column == "until" or row["state"] in _ACTIVE):
        return "`orchestrion cleanup` sets it right"
    return ""
