"""Rows 2 and 3: what a single call takes, and that neither open nor finished tasks slow it down."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import psycopg

from bench.databases import Databases
from bench.graph import pairs, write_graph
from bench.measure import Measurement, median, milliseconds_of, percentile
from orchestrion.core.model import NewTask, Wait
from orchestrion.scheduler import finish
from orchestrion.scheduler.claim import Claim, Claimant, claim
from orchestrion.scheduler.create import create, create_all
from orchestrion.scheduler.explain import ready
from orchestrion.store import Store

Result = TypeVar("Result")

CLAIMANT = Claimant(lease_ms=900_000)
CALLS = ("create", "claim", "finish", "ready")
#: How many tasks a list of ready tasks shows: as many as the smallest crowd has, so that all give the same answer.
SHOWN = 5

#: Open tasks, and samples at each.
FULL_SIZES, FULL_CYCLES = (10, 100, 1_000, 10_000, 100_000), 400
QUICK_SIZES, QUICK_CYCLES = (10, 1_000, 10_000), 100
GROWTH_TARGET = 1.5

#: Finished tasks, and claims beside them.
FULL_HISTORY, FULL_CLAIMS = 1_000_000, 3_000
QUICK_HISTORY, QUICK_CLAIMS = 50_000, 500
#: The most that the slowest of a hundred claims may take, in milliseconds.
CLAIM_TARGETS = {"sqlite": 5.0, "postgres": 10.0}


# -- row 2: open tasks ---------------------------------------------------------------------------


@dataclass
class Crowd:
    """A store with a constant number of open tasks, half of them ready."""

    store: Store
    #: Ready tasks in the order in which they became it.
    ready: dict[int, None]
    #: Milliseconds of each call.
    samples: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CALLS})

    def cycle(self) -> None:
        """One task more, one task less, and a look at the list."""
        newest = next(reversed(self.ready))
        new = NewTask("One more", waits=(Wait(newest),))
        self._time("create", lambda: self.store.write(lambda tx: create(tx, new)))
        taken = self._time("claim", lambda: self.store.write(lambda tx: claim(tx, CLAIMANT)))
        assert taken is not None
        released = self._time("finish", lambda: self.store.write(lambda tx: finish.complete(tx, taken.run)))
        self._time("ready", lambda: self.store.read(lambda tx: ready(tx, SHOWN)))
        del self.ready[taken.task]
        self.ready.update(dict.fromkeys(released))

    def _time(self, name: str, call: Callable[[], Result]) -> Result:
        kept: list[Result] = []
        self.samples[name].append(milliseconds_of(lambda: kept.append(call())))
        return kept[0]


def measure_open(databases: Databases, *, quick: bool = False) -> list[Measurement]:
    """The measurements of row 2; the crowds take turns."""
    sizes, cycles = (QUICK_SIZES, QUICK_CYCLES) if quick else (FULL_SIZES, FULL_CYCLES)
    urls = {size: databases.fresh() for size in sizes}
    crowds = {size: _crowd(databases, urls[size], size) for size in sizes}
    for _ in range(cycles):
        for crowd in crowds.values():
            crowd.cycle()
    for size, crowd in crowds.items():
        crowd.store.close()
        databases.drop(urls[size])
    return [_growth(databases, call, crowds) for call in CALLS]


def _crowd(databases: Databases, url: str, size: int) -> Crowd:
    store = databases.open(url)
    graph = pairs(size)
    ids = write_graph(store, graph)
    databases.analyse(url)
    return Crowd(store, {task: None for task, parents in zip(ids, graph, strict=True) if not parents})


def _growth(databases: Databases, call: str, crowds: dict[int, Crowd]) -> Measurement:
    middle = {size: median(crowd.samples[call]) for size, crowd in crowds.items()}
    smallest, *between, largest = middle
    shown = "".join(f", {middle[size]:.2f} of {size:,}" for size in between)
    return Measurement(
        row=2,
        key=f"open.{databases.dialect}.{call}",
        what=f"{databases.title}: p50 of {call} among {largest:,} open tasks",
        value=middle[largest],
        unit="ms",
        bound=middle[smallest],
        bound_is=f"among {smallest:,}{shown}",
        target=GROWTH_TARGET,
    )


# -- row 3: finished tasks -----------------------------------------------------------------------


def measure_history(databases: Databases, *, quick: bool = False) -> list[Measurement]:
    """The measurement of row 3: claims with a long history and claims with none, in turn."""
    history, claims = (QUICK_HISTORY, QUICK_CLAIMS) if quick else (FULL_HISTORY, FULL_CLAIMS)
    urls = [databases.fresh(), databases.fresh()]
    old, young = stores = [databases.open(url) for url in urls]
    for store in stores:
        store.write(lambda tx: create_all(tx, [NewTask(f"Task {number}") for number in range(claims)]))
    write_history(databases, urls[0], history)
    databases.analyse(urls[1])
    samples: dict[int, list[float]] = {id(old): [], id(young): []}
    for _ in range(claims):
        for store in stores:
            samples[id(store)].append(_claim_and_finish(store))
    for store, url in zip(stores, urls, strict=True):
        store.close()
        databases.drop(url)
    return [_slowest(databases, samples[id(old)], samples[id(young)], history)]


def write_history(databases: Databases, url: str, size: int) -> None:
    """Finished tasks with a run and a line in the journal each, past everything that writes one at a time."""
    if databases.dialect == "sqlite":
        with sqlite3.connect(url, isolation_level=None) as file:
            series = _SERIES["sqlite"].format(size=size)
            for statement in ("begin", *(one.format(series=series) for one in _HISTORY), "commit", *_TIDY["sqlite"]):
                file.execute(statement)
        file.close()
    else:
        with psycopg.connect(url, autocommit=True) as server:
            series = _SERIES["postgres"].format(size=size)
            for statement in (*(one.format(series=series) for one in _HISTORY), *_TIDY["postgres"]):
                server.execute(statement.encode())


_SERIES = {
    "sqlite": "(with recursive n(i) as (select 1 union all select i + 1 from n where i < {size}) select i from n) n",
    "postgres": "generate_series(1, {size}) n(i)",
}
#: A year ago, so that the history is older than what is measured.
_THEN = 1_763_640_000_000
_HISTORY = (
    f"""insert into tasks (project, plan, lane, state, title, attempts, created_at, updated_at, started_at,
        completed_at)
    select t.project, t.plan, t.lane, 'completed', 'Old task ' || n.i, 1, {_THEN}, {_THEN}, {_THEN}, {_THEN}
    from (select * from tasks order by id limit 1) t, {{series}}""",
    f"""insert into runs (project, task, attempt, state, supervised, lease_ms, lease_until, claimed_at, started_at)
    select project, id, 1, 'running', 0, 60000, {_THEN}, {_THEN}, {_THEN} from tasks where state = 'completed'""",
    f"update runs set state = 'succeeded', ended_at = {_THEN}",
    f"""insert into events (project, at, kind, task, run, from_state, to_state)
    select project, {_THEN}, 'task.completed', task, id, 'in_progress', 'completed' from runs""",
)
#: What the database does by itself when a history grows over months instead of at once.
_TIDY = {"sqlite": ("pragma wal_checkpoint(truncate)",), "postgres": ("vacuum analyze", "checkpoint")}


def _claim_and_finish(store: Store) -> float:
    """Milliseconds of the claim alone."""
    taken: list[Claim | None] = []
    took = milliseconds_of(lambda: taken.append(store.write(lambda tx: claim(tx, CLAIMANT))))
    claimed = taken[0]
    assert claimed is not None
    store.write(lambda tx: finish.complete(tx, claimed.run))
    return took


def _slowest(databases: Databases, old: list[float], young: list[float], history: int) -> Measurement:
    return Measurement(
        row=3,
        key=f"history.{databases.dialect}.claim",
        what=f"{databases.title}: p99 of claim beside {history:,} finished tasks (p50 {median(old):.2f} ms)",
        value=percentile(old, 0.99),
        unit="ms",
        bound=percentile(young, 0.99),
        bound_is=f"beside none (p50 {median(young):.2f} ms)",
        target=CLAIM_TARGETS[databases.dialect],
        judged="value",
    )
