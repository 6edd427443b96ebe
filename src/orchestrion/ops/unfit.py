"""Rows that their table would refuse: which they are, what in them does not fit, and which command sets it right."""

from __future__ import annotations

import json
import re
from typing import Any

from orchestrion.core.errors import EnvironmentProblem
from orchestrion.store.misfits import Misfit

#: The rule that such a row breaks.
RULE = "rows_fit_their_tables"
#: Table -> what a row of it is called.
_CALLED = {"tasks": "T{id}", "runs": "R{id}", "gates": "G{id}", "artifacts": "A{id}", "decisions": "D{number}",
           "sessions": "S{id}", "handoffs": "H{id}", "slots": "the limit {name}", "breakers": "the breaker of {agent}",
           "events": "line {id} of the journal", "maintenance": "M{id}", "tokens": "the token {name}"}  # fmt: skip
#: (table, column) -> what sets it, a value that does as an example.
_SET_BY = {
    ("tasks", "title"): "`orchestrion update T{id} --title TEXT` sets it",
    ("tasks", "priority"): "`orchestrion update T{id} --priority 5` sets it",
    ("tasks", "max_retries"): "`orchestrion update T{id} --max-retries 3` sets it",
    ("tasks", "retry_delay_s"): "`orchestrion update T{id} --retry-delay 60` sets it",
    ("tasks", "retry_at"): "`orchestrion retry T{id}` has it tried again now",
    ("tasks", "timeout_s"): "`orchestrion update T{id} --no-timeout` clears it",
    ("tasks", "effort_min"): "`orchestrion update T{id} --no-effort` clears it",
    ("tasks", "merge"): "`orchestrion update T{id} --merge auto` sets it",
    ("slots", "capacity"): "`orchestrion slots {name}=8`, or as many as may run, sets it",
    ("slots", "used"): "`orchestrion cleanup` sets it right",
    ("breakers", "failures"): "`orchestrion resume --agent {agent}` closes it, and it counts anew",
    ("breakers", "trips"): "`orchestrion resume --agent {agent}` closes it, and it counts anew",
}
_CHECK = "CHECK constraint failed: "
#: So a strict table refuses a value of another kind than its column has.
_KIND = re.compile(r"cannot store \w+ value in (\w+) column [\w.]+")
#: So SQLite's own check says of a table, or of a column, what is said of its rows here.
_DOUBTS = re.compile(
    r"CHECK constraint failed in |NULL value in |non-unique entry in index "
    r"|(non-)?(INTEGER|REAL|TEXT|BLOB|NUMERIC) value in "
)
_LONGEST = 80


def called(misfit: Misfit) -> str:
    """What its row is called."""
    pattern = _CALLED.get(misfit.table)
    if pattern is not None:
        return pattern.format_map(misfit.row)
    key = misfit.row.get("id", misfit.row.get("run", ""))
    return f"row {key} of the table {misfit.table}"


def said_of(misfit: Misfit) -> str:
    """What does not fit, in a sentence that names the row."""
    rule = _KIND.sub(r"the kind of its column, \1", " ".join(misfit.said.removeprefix(_CHECK).split()))
    values = " and ".join(f"{column} is {_shown(misfit.row[column])}" for column in _columns(misfit))
    return f"{called(misfit)} does not fit its table: {values + ', ' if values else ''}against {rule}"


def mend_of(misfit: Misfit) -> str:
    """The command that sets it right; empty: there is none."""
    ways = [way for column in _columns(misfit) if (way := _SET_BY.get((misfit.table, column)))]
    return ways[0].format_map(misfit.row) if len(ways) == 1 else ""


def refusal(misfit: Misfit) -> EnvironmentProblem:
    """The error for what cannot be reckoned because of such a row."""
    mend = mend_of(misfit)
    way = f", or {mend}" if mend else ""
    return EnvironmentProblem(
        said_of(misfit),
        hint="something else than this program changed it: copy the store, then put in its place what a copy of before "
        f"has there{way}; `orchestrion health` names all that it finds",
        code="row_damaged",
        thing=called(misfit),
    )


def is_about(doubt: str) -> bool:
    """Whether a line of SQLite's own check says of a table what is said of its rows here."""
    return bool(_DOUBTS.match(doubt))


def _columns(misfit: Misfit) -> list[str]:
    """Columns that what the database says is about."""
    words = dict.fromkeys(re.findall(r"\w+", re.sub(r"'[^']*'", "", misfit.said)))
    return [word for word in words if word in misfit.row]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)[:_LONGEST]
