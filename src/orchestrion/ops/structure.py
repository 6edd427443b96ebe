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
from collections.abc import Callable, Sequence
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


def examine(store: Store, level: str, only: Sequence[int] | None) -> Verdict:
    """All rules of a level, over the tasks ``only`` if some are meant."""
    ids = None if only is None else list(only)
    rules = [rule for known in LEVELS[: LEVELS.index(level) + 1] for rule in _RULES[known]]
    if ids is not None:
        rules = [rule for rule in rules if rule not in _OF_ALL]
    problems = store.read(lambda tx: [problem for rule in rules for problem in rule(tx, ids)])
    names = [rule.__name__.strip("_") for rule in rules]
    if level == "full_audit":
        names.append("results_are_as_they_were_stored")
        problems += _changed_results(store, ids)
    return Verdict(names, problems)


def _edges_follow_their_prerequisites(tx: Transaction, ids: Ids) -> list[Problem]:
    return [
        _problem("edges_follow_their_prerequisites", row["task"], f"waits for {_t(row['prerequisite'])} ({row['kind']})"
                 f" as {row['state']}, which does not follow from that task's state")
        for row in tx.all("wrong_edges", ids=ids, limit=NAMED)
    ]  # fmt: skip


def _gates_are_followed(tx: Transaction, ids: Ids) -> list[Problem]:
    return [
        _problem("gates_are_followed", row["task"], f"waits for G{row['gate']} as {row['state']}, the gate says else")
        for row in tx.all("wrong_gate_edges", ids=ids, limit=NAMED)
    ]


def _counters_equal_their_edges(tx: Transaction, ids: Ids) -> list[Problem]:
    return [
        _problem("counters_equal_their_edges", row["task"], "counts other edges than it has")
        for row in tx.all("wrong_counters", ids=ids, limit=NAMED)
    ]


def _waiting_tasks_are_where_their_counters_say(tx: Transaction, ids: Ids) -> list[Problem]:
    return [
        _problem("waiting_tasks_are_where_their_counters_say", row["task"], f"is {row['state']} against its counters")
        for row in tx.all("wrong_waiting", ids=ids, limit=NAMED)
    ]


def _tasks_in_progress_have_one_run(tx: Transaction, ids: Ids) -> list[Problem]:
    return [
        _problem("tasks_in_progress_have_one_run", row["task"], "and its active run do not know each other")
        for row in tx.all("wrong_holders", ids=ids, limit=NAMED)
    ]


def _parents_wait_for_their_children(tx: Transaction, ids: Ids) -> list[Problem]:
    early = tx.all("wrong_parents", ids=ids, limit=NAMED)
    loose = tx.all("wrong_hierarchy", ids=ids, limit=NAMED)
    rule = "parents_wait_for_their_children"
    return [
        *(_problem(rule, row["task"], f"is completed, its part {_t(row['prerequisite'])} is not") for row in early),
        *(_problem(rule, row["task"], f"and {_t(row['parent'])} disagree on being part and whole") for row in loose),
    ]


def _nothing_waits_in_a_circle(tx: Transaction, ids: Ids) -> list[Problem]:
    waits: dict[int, list[int]] = defaultdict(list)
    for row in tx.all("open_edges"):
        waits[row["task"]].append(row["prerequisite"])
    circle = find_cycle(waits)
    if not circle:
        return []
    return [_problem("nothing_waits_in_a_circle", circle[0], f"waits for itself: {' -> '.join(map(_t, circle))}")]


def _limits_count_their_holders(tx: Transaction, ids: Ids) -> list[Problem]:
    rule = "limits_count_their_holders"
    wrong = [
        Problem(
            rule, row["name"], f"says {row['used']} are used, {row['holds']} hold it; `orchestrion cleanup` mends it"
        )
        for row in tx.all("wrong_slots", limit=NAMED)
    ]
    kept = [
        Problem(rule, name("R", row["run"]), f"has ended and still holds {row['slot']}; `orchestrion cleanup` frees it")
        for row in tx.all("wrong_holds", limit=NAMED)
    ]
    return wrong + kept


def _the_journal_ends_where_tasks_are(tx: Transaction, ids: Ids) -> list[Problem]:
    return [
        _problem("the_journal_ends_where_tasks_are", row["task"], f"is {row['state']}, the journal's last line about it"
                 f" says {row['to_state']}")
        for row in tx.all("wrong_journal", kind="task.%", ids=ids, limit=NAMED)
    ]  # fmt: skip


def _the_database_is_whole(tx: Transaction, ids: Ids) -> list[Problem]:
    return [Problem("the_database_is_whole", "", str(row["problem"])) for row in tx.all("deep_integrity")]


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


def _problem(rule: str, task: int, said: str) -> Problem:
    return Problem(rule, _t(task), f"{_t(task)} {said}")


def _t(task: int) -> str:
    return name("T", task)


_RULES: dict[str, tuple[Callable[[Transaction, Ids], list[Problem]], ...]] = {
    "basic": (
        _edges_follow_their_prerequisites,
        _gates_are_followed,
        _counters_equal_their_edges,
        _waiting_tasks_are_where_their_counters_say,
        _tasks_in_progress_have_one_run,
        _parents_wait_for_their_children,
    ),
    "comprehensive": (
        _nothing_waits_in_a_circle,
        _limits_count_their_holders,
        _the_journal_ends_where_tasks_are,
    ),
    "full_audit": (_the_database_is_whole,),
}
#: Rules that are about everything together; they mean nothing for some tasks alone.
_OF_ALL = (_nothing_waits_in_a_circle, _limits_count_their_holders, _the_database_is_whole)
