"""Holds what the store says against what must be true of it, in the database itself.

Nothing of this should ever be found: triggers and transactions see to it. It is looked for
all the same, because a database can be damaged, restored in part, or written by hand. What is
looked at depends on the level: ``basic`` reads what decides about every task, ``comprehensive``
also the graph as a whole, the journal and the limits, ``full_audit`` every stored result and
every page of the database.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from orchestrion.core.graph import find_cycle
from orchestrion.core.model import name
from orchestrion.store import Store, Transaction

LEVELS = ("basic", "comprehensive", "full_audit")
#: So many problems of each rule are named.
NAMED = 50
#: Stored results that are read at a time.
_AT_ONCE = 100


class Problem(NamedTuple):
    """Something that does not hold."""

    rule: str
    #: What it is about, as ``T12``; empty: all.
    thing: str
    said: str

    def as_json(self) -> dict[str, str]:
        """For every door."""
        return self._asdict()


class Verdict(NamedTuple):
    """What was looked at, and what was found."""

    #: Names of the rules, in order.
    rules: list[str]
    problems: list[Problem]


Ids = list[int] | None

#: Rule -> the statements that find tasks against which it is broken, and what is said of such a task.
_OF_TASKS: dict[str, dict[str, str]] = {
    "edges_follow_their_prerequisites": {
        "wrong_edges": "waits for {prerequisite} ({kind}) as {state}, which does not follow from that task's state"
    },
    "gates_are_followed": {"wrong_gate_edges": "waits for G{gate} as {state}, the gate says else"},
    "counters_equal_their_edges": {"wrong_counters": "counts other edges than it has"},
    "waiting_tasks_are_where_their_counters_say": {"wrong_waiting": "is {state} against its counters"},
    "tasks_in_progress_have_one_run": {"wrong_holders": "and its active run do not know each other"},
    "parents_wait_for_their_children": {
        "wrong_parents": "is completed, its part {prerequisite} is not",
        "wrong_hierarchy": "and {parent} disagree on being part and whole",
    },
    "the_journal_ends_where_tasks_are": {
        "wrong_journal": "is {state}, the journal's last line about it says {to_state}"
    },
}


def examine(store: Store, level: str, only: Sequence[int] | None) -> Verdict:
    """All rules of a level, over the tasks ``only`` if some are meant."""
    ids = None if only is None else list(only)
    rules = [rule for known in LEVELS[: LEVELS.index(level) + 1] for rule in _RULES[known]]
    if ids is not None:
        rules = [rule for rule in rules if rule in _OF_TASKS]
    problems = store.read(lambda tx: [problem for rule in rules for problem in _broken(tx, rule, ids)])
    if level == "full_audit":
        rules.append("results_are_as_they_were_stored")
        problems += _changed_results(store, ids)
    return Verdict(rules, problems)


def _broken(tx: Transaction, rule: str, ids: Ids) -> list[Problem]:
    if rule in _OF_ALL:
        return [Problem(rule, thing, said) for thing, said in _OF_ALL[rule](tx)]
    found = []
    for statement, says in _OF_TASKS[rule].items():
        for row in tx.all(statement, ids=ids, limit=NAMED):
            task = _t(row["task"])
            facts = {key: _t(value) if key in ("prerequisite", "parent") else value for key, value in dict(row).items()}
            found.append(Problem(rule, task, f"{task} {says.format_map(facts)}"))
    return found


def _nothing_waits_in_a_circle(tx: Transaction) -> Iterator[tuple[str, str]]:
    waits: dict[int, list[int]] = defaultdict(list)
    for row in tx.all("open_edges"):
        waits[row["task"]].append(row["prerequisite"])
    if circle := find_cycle(waits):
        yield _t(circle[0]), f"{_t(circle[0])} waits for itself: {' -> '.join(map(_t, circle))}"


def _limits_count_their_holders(tx: Transaction) -> Iterator[tuple[str, str]]:
    for row in tx.all("wrong_slots", limit=NAMED):
        yield row["name"], f"says {row['used']} are used, {row['holds']} hold it; `orchestrion cleanup` mends it"
    for row in tx.all("wrong_holds", limit=NAMED):
        yield name("R", row["run"]), f"has ended and still holds {row['slot']}; `orchestrion cleanup` frees it"


def _the_database_is_whole(tx: Transaction) -> Iterator[tuple[str, str]]:
    for row in tx.all("integrity"):
        yield "", str(row["problem"])


def _changed_results(store: Store, ids: Ids) -> list[Problem]:
    """Stored results whose content is not what was hashed; read a few at a time."""
    found: list[Problem] = []
    after = 0
    while True:
        rows = store.read(lambda tx, a=after: tx.all("artifacts_after", after=a, limit=_AT_ONCE))  # type: ignore[misc]
        for row in rows:
            data = row["content"].encode()
            whole = len(data) == row["size"] and hashlib.sha256(data).hexdigest() == row["sha256"]
            if not whole and (ids is None or row["task"] in ids):
                said = f"{row['name']!r} of {_t(row['task'])} is not what was stored"
                found.append(Problem("results_are_as_they_were_stored", name("A", row["id"]), said))
        if len(rows) < _AT_ONCE:
            return found[:NAMED]
        after = rows[-1]["id"]


def _t(task: int) -> str:
    return name("T", task)


#: Rules that are about everything together; they mean nothing for some tasks alone.
_OF_ALL: dict[str, Callable[[Transaction], Iterator[tuple[str, str]]]] = {
    "nothing_waits_in_a_circle": _nothing_waits_in_a_circle,
    "limits_count_their_holders": _limits_count_their_holders,
    "the_database_is_whole": _the_database_is_whole,
}
_RULES: dict[str, tuple[str, ...]] = {
    "basic": (
        "edges_follow_their_prerequisites",
        "gates_are_followed",
        "counters_equal_their_edges",
        "waiting_tasks_are_where_their_counters_say",
        "tasks_in_progress_have_one_run",
        "parents_wait_for_their_children",
    ),
    "comprehensive": (
        "nothing_waits_in_a_circle",
        "limits_count_their_holders",
        "the_journal_ends_where_tasks_are",
    ),
    "full_audit": ("the_database_is_whole",),
}
