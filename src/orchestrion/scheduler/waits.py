"""What tasks wait for, where a hand wrote what follows from other rows: it is made to follow from them again.

Edges follow from the states of their prerequisites, a task's counters from its edges, and where it waits from its
counters. Only what follows is written anew, and only where nothing else about the task's waiting is odd: of an edge
that is gone, or of a gate that its edge contradicts, nobody can tell which of the two is right, and a task must not
start, nor a parent be completed, because one of them was believed. A counter that is higher than its edges is the last
trace of an edge that is gone. From a state that the journal does not know nothing follows either.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrion.scheduler.settle import settle
from orchestrion.store import Transaction

#: So many of each kind are seen to at once.
_AT_ONCE = 1000
#: Statements that find tasks about whose waiting something is odd that does not follow from other rows.
_ODD = (
    "wrong_gate_edges",
    "wrong_gates",
    "wrong_parents",
    "wrong_inheritance",
    "wrong_references",
    "lost_parents",
    "own_ancestors",
    "lost_edges",
    "wrong_holders",
    "wrong_journal",
)


@dataclass(frozen=True)
class Wrong:
    """What can be set right."""

    #: Tasks with edges that do not follow from their prerequisites, and those prerequisites.
    edges: frozenset[int]
    prerequisites: frozenset[int]
    #: Tasks that count fewer edges than they have.
    counters: frozenset[int]
    #: Tasks that are not where their counters say.
    waiting: frozenset[int]

    @property
    def tasks(self) -> frozenset[int]:
        """All of them."""
        return self.edges | self.counters | self.waiting


def wrong(tx: Transaction, ids: list[int] | None = None) -> Wrong:
    """What can be set right, of the tasks ``ids`` if some are meant."""
    edges = tx.all("wrong_edges", ids=ids, limit=_AT_ONCE)
    counters = [row["task"] for row in tx.all("wrong_counters", ids=ids, limit=_AT_ONCE)]
    waiting = [row["task"] for row in tx.all("wrong_waiting", ids=ids, limit=_AT_ONCE)]
    found = {*(row["task"] for row in edges), *counters, *waiting}
    if not found:
        return Wrong(frozenset(), frozenset(), frozenset(), frozenset())
    about = sorted(found | {row["prerequisite"] for row in edges})
    odd = {row["task"] for statement in _ODD for row in tx.all(statement, ids=about, after=0, limit=_AT_ONCE)}
    for row in tx.all("wrong_hierarchy", limit=_AT_ONCE):  # both the part and the whole
        odd |= {row["task"], row["parent"]}
    sound = [row for row in edges if not odd & {row["task"], row["prerequisite"]}]
    # One wrong edge of an odd prerequisite leaves all of its task as it is.
    odd |= {row["task"] for row in edges} - {row["task"] for row in sound}
    return Wrong(
        frozenset(row["task"] for row in sound),
        frozenset(row["prerequisite"] for row in sound),
        frozenset(counters) - odd,
        frozenset(waiting) - odd,
    )


def put_right(tx: Transaction) -> list[int]:
    """Sets right what can be; the tasks that it was."""
    if not wrong(tx).tasks:
        return []
    tx.one("lock_shape")  # now nobody else changes what waits for what
    found = wrong(tx)
    # The database counts on from there with each edge that changes.
    tx.run("recount_edges", ids=sorted(found.edges | found.counters))
    tx.all("edges_follow", ids=sorted(found.prerequisites))
    settle(tx, waiting=found.tasks)
    return sorted(found.tasks)
