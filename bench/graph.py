"""The random graph of row 1, and how it gets into a store."""

from __future__ import annotations

import random

from orchestrion.core.model import NewTask
from orchestrion.scheduler.create import Limits, write_rows
from orchestrion.scheduler.settle import settle
from orchestrion.store import Store, Transaction

#: Parents of each task of a graph, by its place; parents come earlier.
Graph = list[list[int]]

PARENTS = 3
SEED = 20_261_120


def random_graph(size: int) -> Graph:
    """``size`` tasks, each with three parents drawn from all that come before it."""
    chance = random.Random(SEED)
    return [chance.sample(range(place), min(place, PARENTS)) for place in range(size)]


def write_graph(store: Store, graph: Graph) -> None:
    """Writes the graph as a plan file is written: rows, edges, settled once; one transaction."""

    def work(tx: Transaction) -> None:
        ids = write_rows(tx, [NewTask(f"Task {place}") for place in range(len(graph))], Limits())
        tx.each("add_edge", [_edge(ids[place], ids[one]) for place, parents in enumerate(graph) for one in parents])
        settle(tx, waiting=ids)

    store.write(work)


def _edge(task: int, prerequisite: int) -> dict[str, object]:
    return {
        "task": task,
        "prerequisite": prerequisite,
        "kind": "blocks",
        "waived": 0,
        "reason": None,
        "heir_of": task,
    }
