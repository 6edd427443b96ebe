"""Row 1: how long a random graph of 10,000 tasks takes from full to empty, by one process.

The product drains through its public path, two transactions a task: ``claim`` and
``finish.complete``, each in ``store.write``. ``bound`` says what it is compared with.
Both start from a fresh database and take turns, a hundred tasks each, so that a slow
moment of the machine hits both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from bench.bound import Bound, Journal, Line, PostgresAtOnce, PostgresBound, SqliteBound
from bench.databases import Databases
from bench.graph import Graph, random_graph, write_graph
from bench.measure import Cost, Measurement, median
from orchestrion.core.model import NewTask, Wait
from orchestrion.scheduler import finish
from orchestrion.scheduler.claim import Claimant, claim
from orchestrion.scheduler.create import create
from orchestrion.store import Store

CLAIMANT = Claimant(lease_ms=900_000)
#: Tasks that one side drains before it is the other's turn.
TURN = 100

WALL_TARGET = 1.5
CPU_TARGET = 3.0
#: "Flat" in numbers.
GROWTH_TARGET = 1.5


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    #: Tasks of the graph that both sides drain.
    tasks: int
    #: How often.
    rounds: int
    #: Sizes of graph between which the cost of a task must not grow.
    small: int
    large: int


FULL = Sizes(10_000, 3, 1_000, 100_000)
QUICK = Sizes(2_000, 1, 1_000, 5_000)
#: How many small graphs are drained while the large one is.
SMALL_ONES = 10


@dataclass
class Contender:
    """One side of the race on its own database."""

    url: str
    step: Callable[[], bool]
    close: Callable[[], None]
    #: Ends the program if the drain left other rows than it should.
    verify: Callable[[], None]
    cost: Cost = field(default_factory=Cost)

    def turn(self) -> bool:
        """Drains some tasks; whether there are more."""
        return self.cost.add(lambda: all(self.step() for _ in range(TURN)))

    def end(self, databases: Databases) -> None:
        """Verifies what is left and removes it."""
        self.verify()
        self.close()
        databases.drop(self.url)


def measure(databases: Databases, *, quick: bool = False) -> list[Measurement]:
    """The measurements of row 1 on one kind of database."""
    sizes = QUICK if quick else FULL
    journal = learn_journal(databases)
    rivals = [SqliteBound] if databases.dialect == "sqlite" else [PostgresBound, PostgresAtOnce]
    ours, *theirs = race(databases, journal, sizes, rivals, durable=True)
    found = [_wall(databases, sizes, ours, theirs[0])]
    if databases.dialect == "sqlite":
        found.append(_cpu(databases, sizes, *race(databases, journal, sizes, rivals, durable=False)))
    else:
        found.append(_at_once(databases, sizes, ours, theirs[1]))
    return [*found, _growth(databases, sizes)]


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
    ended = _lines(store)[len(claimed) :]
    store.close()
    databases.drop(url)
    ready = [line for line in ended if line[0] == "task.ready"]
    return Journal(claimed[len(before) :], [line for line in ended if line not in ready], ready[0])


def race(
    databases: Databases, journal: Journal, sizes: Sizes, rivals: Sequence[type[Bound]], *, durable: bool
) -> list[list[Cost]]:
    """What the drain costs the product and each of its rivals, once for each round."""
    graph = random_graph(sizes.tasks)
    costs: list[list[Cost]] = [[] for _ in range(1 + len(rivals))]
    for _ in range(sizes.rounds):
        sides = [product(databases, graph, durable=durable)]
        sides += [bound(databases, rival, journal, graph, durable=durable) for rival in rivals]
        _take_turns(sides)
        for side, its in zip(sides, costs, strict=True):
            side.end(databases)
            its.append(side.cost)
    return costs


def product(databases: Databases, graph: Graph, *, durable: bool) -> Contender:
    """The product before a full graph."""
    url = databases.fresh()
    store = databases.open(url, durable=durable)
    write_graph(store, graph)
    databases.analyse(url)
    return Contender(url, lambda: _step(store), store.close, lambda: _refuse_unfinished(store, len(graph)))


def bound(databases: Databases, kind: type[Bound], journal: Journal, graph: Graph, *, durable: bool) -> Contender:
    """The bare driver before the same graph."""
    url = databases.fresh()
    program = kind(url, journal, durable=durable)
    program.load(graph)
    databases.analyse(url)
    return Contender(url, program.step, program.close, lambda: _refuse_other_rows(program.counts(), journal, graph))


def _step(store: Store) -> bool:
    taken = store.write(lambda tx: claim(tx, CLAIMANT))
    if taken is None:
        return False
    store.write(lambda tx: finish.complete(tx, taken.run))
    return True


def _take_turns(sides: list[Contender]) -> None:
    left = sides
    while left:
        left = [side for side in left if side.turn()]


def _wall(databases: Databases, sizes: Sizes, ours: list[Cost], theirs: list[Cost]) -> Measurement:
    return Measurement(
        row=1,
        key=f"drain.{databases.dialect}.durable",
        what=f"{databases.title}, durable: drain {sizes.tasks:,} tasks",
        value=median([cost.wall for cost in ours]),
        unit="s",
        bound=median([cost.wall for cost in theirs]),
        bound_is="bare driver, same rows",
        target=WALL_TARGET,
    )


def _at_once(databases: Databases, sizes: Sizes, ours: list[Cost], theirs: list[Cost]) -> Measurement:
    return Measurement(
        row=1,
        key=f"drain.{databases.dialect}.at_once",
        what=f"{databases.title}, durable: the same drain",
        value=median([cost.wall for cost in ours]),
        unit="s",
        bound=median([cost.wall for cost in theirs]),
        bound_is="one statement a commit, same rows",
        target=None,
    )


def _cpu(databases: Databases, sizes: Sizes, ours: list[Cost], theirs: list[Cost]) -> Measurement:
    return Measurement(
        row=1,
        key=f"drain.{databases.dialect}.cpu",
        what=f"{databases.title}, {databases.relaxed}: client CPU to drain {sizes.tasks:,} tasks",
        value=median([cost.cpu for cost in ours]),
        unit="s CPU",
        bound=median([cost.cpu for cost in theirs]),
        bound_is="bare driver, same rows",
        target=CPU_TARGET,
    )


def _growth(databases: Databases, sizes: Sizes) -> Measurement:
    """Cost of a task in a large graph as a multiple of that in a small one, without waiting for the disk.

    Small graphs are drained now and then while the large one is, so that both see the same machine.
    """
    large = product(databases, random_graph(sizes.large), durable=False)
    small, small_tasks = Cost(), 0
    for turn in count():
        if turn % (sizes.large // TURN // SMALL_ONES) == 0:
            small.include(_drained(databases, sizes.small))
            small_tasks += sizes.small
        if not large.turn():
            break
    large.end(databases)
    return Measurement(
        row=1,
        key=f"drain.{databases.dialect}.growth",
        what=f"{databases.title}, {databases.relaxed}: a task of {sizes.large:,}",
        value=large.cost.wall / sizes.large * 1000,
        unit="ms",
        bound=small.wall / small_tasks * 1000,
        bound_is=f"a task of {sizes.small:,}",
        target=GROWTH_TARGET,
    )


def _drained(databases: Databases, size: int) -> Cost:
    side = product(databases, random_graph(size), durable=False)
    while side.turn():
        pass
    side.end(databases)
    return side.cost


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
