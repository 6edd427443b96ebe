"""Row 1: how long a random graph of 10,000 tasks takes from full to empty, by one process.

The product drains through its public path, two transactions a task: ``claim`` and
``finish.complete``, each in ``store.write``. ``bound`` says what it is compared with.
Both start from a fresh database; they take turns.
"""

from __future__ import annotations

from bench.bound import Bound, Journal, Line, PostgresBound, SqliteBound
from bench.databases import Databases
from bench.graph import PARENTS, Graph, random_graph, write_graph
from bench.measure import Cost, Measurement, cost_of, median
from orchestrion.core.model import NewTask, Wait
from orchestrion.scheduler import finish
from orchestrion.scheduler.claim import Claimant, claim
from orchestrion.scheduler.create import create
from orchestrion.store import Store

CLAIMANT = Claimant(lease_ms=900_000)
#: Drain of so many tasks, so often; and sizes between which the cost per task must not grow.
FULL = (10_000, 3, (1_000, 10_000, 100_000))
QUICK = (2_000, 1, (1_000, 5_000))

WALL_TARGET = 1.5
CPU_TARGET = 3.0
#: "Flat" in numbers.
GROWTH_TARGET = 1.5


def measure(databases: Databases, *, quick: bool = False) -> list[Measurement]:
    """The measurements of row 1 on one kind of database."""
    size, rounds, sizes = QUICK if quick else FULL
    journal = learn_journal(databases)
    durable = _compare(databases, journal, size, rounds, durable=True)
    found = [_wall(databases, size, durable)]
    if databases.dialect == "sqlite":
        relaxed = _compare(databases, journal, size, rounds, durable=False)
        found.append(_cpu(databases, size, relaxed))
    return [*found, _growth(databases, sizes, rounds)]


def learn_journal(databases: Databases) -> Journal:
    """Which lines the product writes for a claim, a finish and a task that becomes ready."""
    url = databases.fresh()
    store = databases.open(url)
    first = store.write(lambda tx: create(tx, NewTask("first")))
    store.write(lambda tx: create(tx, NewTask("second", waits=(Wait(first),))))
    before = _lines(store)
    taken = store.write(lambda tx: claim(tx, CLAIMANT))
    assert taken is not None
    claimed = _lines(store)
    store.write(lambda tx: finish.complete(tx, taken.run))
    finished = _lines(store)
    store.close()
    databases.drop(url)
    ended = finished[len(claimed) :]
    ready = [line for line in ended if line[0] == "task.ready"]
    return Journal(claimed[len(before) :], [line for line in ended if line not in ready], ready[0])


def product(databases: Databases, graph: Graph, *, durable: bool) -> Cost:
    """What the drain costs the product."""
    url = databases.fresh()
    store = databases.open(url, durable=durable)
    write_graph(store, graph)
    databases.analyse(url)
    cost = cost_of(lambda: drain(store))
    _refuse_unfinished(store, len(graph))
    store.close()
    databases.drop(url)
    return cost


def bound(databases: Databases, journal: Journal, graph: Graph, *, durable: bool) -> Cost:
    """What the drain costs the bare driver."""
    url = databases.fresh()
    program: Bound
    if databases.dialect == "sqlite":
        program = SqliteBound(url, journal, durable=durable)
    else:
        program = PostgresBound(url, journal)
    program.load(graph)
    databases.analyse(url)
    cost = cost_of(program.drain)
    _refuse_other_rows(program.counts(), journal, graph)
    program.close()
    databases.drop(url)
    return cost


def drain(store: Store) -> None:
    """Claims and completes until nothing is ready."""
    while taken := store.write(lambda tx: claim(tx, CLAIMANT)):
        run = taken.run
        store.write(lambda tx: finish.complete(tx, run))  # noqa: B023 - called at once


def _compare(
    databases: Databases, journal: Journal, size: int, rounds: int, *, durable: bool
) -> tuple[list[Cost], list[Cost]]:
    graph = random_graph(size)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(product(databases, graph, durable=durable))
        theirs.append(bound(databases, journal, graph, durable=durable))
    return ours, theirs


def _wall(databases: Databases, size: int, costs: tuple[list[Cost], list[Cost]]) -> Measurement:
    ours, theirs = ([cost.wall for cost in side] for side in costs)
    return Measurement(
        row=1,
        key=f"drain.{databases.dialect}.durable",
        what=f"{databases.title}, durable: drain {size:,} tasks",
        value=median(ours),
        unit="s",
        bound=median(theirs),
        bound_is="bare driver, same rows",
        target=WALL_TARGET,
    )


def _cpu(databases: Databases, size: int, costs: tuple[list[Cost], list[Cost]]) -> Measurement:
    ours, theirs = ([cost.cpu for cost in side] for side in costs)
    return Measurement(
        row=1,
        key=f"drain.{databases.dialect}.cpu",
        what=f"{databases.title}, {databases.relaxed}: client CPU to drain {size:,} tasks",
        value=median(ours),
        unit="s CPU",
        bound=median(theirs),
        bound_is="bare driver, same rows",
        target=CPU_TARGET,
    )


def _growth(databases: Databases, sizes: tuple[int, ...], rounds: int) -> Measurement:
    """Cost per task of the largest graph as a multiple of the smallest, without waiting for the disk."""
    per_task = {}
    for size in sizes:
        graph = random_graph(size)
        # A small drain is soon done and easily disturbed; a large one disturbs itself evenly.
        costs = [product(databases, graph, durable=False).wall for _ in range(1 if size > 10_000 else rounds)]
        per_task[size] = median(costs) / size * 1000
    shown = ", ".join(f"{size:,}: {per_task[size]:.2f}" for size in sizes)
    return Measurement(
        row=1,
        key=f"drain.{databases.dialect}.growth",
        what=f"{databases.title}, {databases.relaxed}: per task of {sizes[-1]:,} ({shown})",
        value=per_task[sizes[-1]],
        unit="ms",
        bound=per_task[sizes[0]],
        bound_is=f"per task of {sizes[0]:,}",
        target=GROWTH_TARGET,
    )


def _lines(store: Store) -> list[Line]:
    rows = store.read(lambda tx: tx.all("events", since=0, limit=1000))
    return [(row["kind"], row["from_state"], row["to_state"]) for row in rows]


def _refuse_unfinished(store: Store, size: int) -> None:
    counts = {row["state"]: row["total"] for row in store.read(lambda tx: tx.all("count_states"))}
    if counts != {"completed": size}:
        raise SystemExit(f"bench: the drain left {counts} instead of {size} completed tasks")


def _refuse_other_rows(counts: dict[str, int], journal: Journal, graph: Graph) -> None:
    size = len(graph)
    born_ready = sum(not parents for parents in graph)
    expected = {
        "completed": size,
        "runs": size,
        "edges": sum(map(len, graph)),
        "events": size * (len(journal.claim) + len(journal.finish)) + size - born_ready,
    }
    if counts != expected:
        raise SystemExit(f"bench: the bound left {counts} instead of {expected}")


__all__ = ["PARENTS", "bound", "drain", "learn_journal", "measure", "product"]
