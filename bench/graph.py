"""The graphs that are measured, and how they get into a store."""

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


def pairs(size: int) -> Graph:
    """``size`` tasks of which the first half is ready, and each of the others waits for one of them."""
    half = (size + 1) // 2
    return [[] if place < half else [place - half] for place in range(size)]


def write_graph(store: Store, graph: Graph) -> list[int]:
    """Writes the graph as a plan file is written: rows, edges, settled once. The tasks' numbers, by place."""

    def work(tx: Transaction) -> list[int]:
        ids = write_rows(tx, [NewTask(f"Task {place}") for place in range(len(graph))], Limits())
        tx.each("add_edge", [_edge(ids[place], ids[one]) for place, parents in enumerate(graph) for one in parents])
        settle(tx, waiting=ids)
        return ids

    return store.write(work)


def _edge(task: int, prerequisite: int) -> dict[str, object]:
    return {
        "task": task,
        "prerequisite": prerequisite,
        "kind": "blocks",
        "waived": 0,
        "reason": None,
        "heir_of": task,
    }
