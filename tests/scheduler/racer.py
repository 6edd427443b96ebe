"""A process of its own that races others on one store: ``python racer.py URL WHAT [NUMBER]``.

It says what it did in one JSON line each, at once, so that nothing is lost when it is killed.
"""

from __future__ import annotations

import json
import random
import sys
import time

from orchestrion.core.errors import OrchestrionError, StaleRun
from orchestrion.core.model import NewTask
from orchestrion.core.states import EdgeKind
from orchestrion.scheduler import claim, create, finish, reap, shape
from orchestrion.store import Store, open_store

#: Short, so that the tasks of killed racers come back soon; longer than a living one ever takes.
LEASE_MS = 1500


def say(**said: object) -> None:
    print(json.dumps(said), flush=True)


def creates(store: Store, number: int) -> None:
    """Ten tasks, one transaction each."""
    for n in range(10):
        say(task=store.write(lambda tx, n=n: create.create(tx, NewTask(f"task {number}.{n}"))))


def claims(store: Store, number: int) -> None:
    """Takes and completes tasks until all are completed."""
    who = claim.Claimant(lease_ms=LEASE_MS, agent=f"racer{number}")
    while _open(store):
        got = store.write(lambda tx: claim.claim(tx, who))
        if got is None:
            store.write(lambda tx: [finish.lose(tx, run["id"], "lease ran out") for run in reap.expired(tx)])
            time.sleep(0.02)
            continue
        say(claimed=got.task, run=got.run)
        time.sleep(random.random() * 0.01)
        try:
            store.write(lambda tx, got=got: finish.complete(tx, got.run, summary=f"by {number}"))
            say(completed=got.task, run=got.run)
        except StaleRun:
            say(stale=got.task, run=got.run)


def depends(store: Store, number: int) -> None:
    """Adds every edge it can think of between the tasks there are, and moves them about."""
    chance = random.Random(number)
    tasks = [row["id"] for row in store.read(lambda tx: tx.all("list_tasks", after=0, limit=100))]
    for _ in range(40):
        one, other = chance.choice(tasks), chance.choice(tasks)
        try:
            if chance.random() < 0.7:
                store.write(lambda tx, a=one, b=other: shape.add_dependency(tx, a, b, EdgeKind.SOFT))
            else:
                store.write(lambda tx, a=one, b=other: shape.move(tx, a, b))
            say(added=[one, other])
        except OrchestrionError as refused:
            say(refused=refused.code)


def _open(store: Store) -> bool:
    counts = {row["state"]: row["total"] for row in store.read(lambda tx: tx.all("count_states"))}
    return bool(set(counts) - {"completed"})


def main() -> None:
    url, what, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    store = open_store(url)
    {"creates": creates, "claims": claims, "depends": depends}[what](store, number)
    store.close()


if __name__ == "__main__":
    main()
