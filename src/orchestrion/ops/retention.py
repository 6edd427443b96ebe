"""Keeps a project small: what is settled is archived, what is long past is forgotten, and sizes are known.

Nothing that anybody still needs goes: a settled task stays in the lists while an open task
waits for it, the journal keeps every line about tasks that are not archived, a run's log stays
while its task is open, and of what a run used its sum is kept for ever. Each part works in
small transactions, so that nobody waits for it, and may be done again after it was cut off.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrion.core.config import Config
from orchestrion.core.values import name, number_named
from orchestrion.store import Store, Transaction

DAY_MS = 86_400_000
#: Rows of one transaction.
BATCH = 500
#: So many things are named in a report.
NAMED = 50
#: Lines of the journal of one transaction.
_LINES = 5_000
#: A worker that was silent for so long is gone, even if its machine cannot be asked.
LOST_MS = 600_000


@dataclass(frozen=True)
class Doers:
    """What is done by those whose business it is."""

    #: Puts a settled task away.
    archive: Callable[[Transaction, int], None]
    #: Makes one sum of what a run used; number of rows that it replaced.
    sum_up: Callable[[Transaction, int], int]


def archive(
    store: Store, config: Config, doers: Doers, *, dry_run: bool, only: Sequence[int] | None = None
) -> dict[str, list[str]]:
    """Archives settled tasks past their age. State -> their names (of a dry run: of the first batch)."""
    return {
        state: [name("T", one) for one in _archived(store, doers, state, days, dry_run=dry_run, only=only)]
        for state in ("completed", "failed", "cancelled")
        if (days := config[f"retention.{state}_days"])
    }


def _archived(
    store: Store, doers: Doers, state: str, days: float, *, dry_run: bool, only: Sequence[int] | None
) -> list[int]:
    ids = None if only is None else list(only)

    def some(tx: Transaction) -> list[int]:
        rows = tx.all("tasks_to_archive", state=state, age_ms=int(days * DAY_MS), ids=ids, limit=BATCH)
        return [int(row["id"]) for row in rows]

    def put_away(tx: Transaction) -> list[int]:
        chosen = some(tx)
        for task in chosen:
            doers.archive(tx, task)
        return chosen

    if dry_run:
        return store.read(some)
    done: list[int] = []
    while found := store.write(put_away):
        done += found
    return done


def forget(store: Store, config: Config, doers: Doers, *, dry_run: bool) -> dict[str, int]:
    """Forgets what is past its age in the database. What -> number of rows."""
    events, metrics = config["retention.events_days"], config["retention.metrics_days"]
    return {
        "events": _purged(store, int(events * DAY_MS), dry_run) if events else 0,
        "metrics": _summed_up(store, doers, int(metrics * DAY_MS), dry_run) if metrics else 0,
        "records": _old_records(store, int(events * DAY_MS), dry_run) if events else 0,
    }


def _purged(store: Store, age_ms: int, dry_run: bool) -> int:
    def purge(tx: Transaction) -> int:
        found = tx.the("events_to_purge", age_ms=age_ms, limit=_LINES)
        if found["total"] and not dry_run:
            tx.put("purge_events", last=found["last"], age_ms=age_ms)
        return int(found["total"])

    if dry_run:
        return store.read(purge)
    done = 0
    while found := store.write(purge):
        done += found
    return done


def _summed_up(store: Store, doers: Doers, age_ms: int, dry_run: bool) -> int:
    def look(tx: Transaction) -> list[Any]:
        return tx.all("runs_to_sum_up", age_ms=age_ms, limit=BATCH)

    def sum_up(tx: Transaction) -> tuple[int, int]:
        runs = look(tx)
        return len(runs), sum(doers.sum_up(tx, run["run"]) for run in runs)

    if dry_run:
        return sum(row["total"] for row in store.read(look))
    done = 0
    while (found := store.write(sum_up))[0]:
        done += found[1]
    return done


def _old_records(store: Store, age_ms: int, dry_run: bool) -> int:
    if dry_run:
        return int(store.read(lambda tx: tx.the("maintenance_to_forget", age_ms=age_ms))["total"])
    return store.write(lambda tx: tx.run("forget_maintenance", age_ms=age_ms))


def drop_logs(store: Store, store_dir: Path, days: float, *, dry_run: bool) -> dict[str, int]:
    """Removes the folders of runs that ended long ago, of this machine: ``runs`` and ``bytes``."""
    here = _run_folders(store_dir)
    done, freed, after = 0, 0, 0
    asked = {"age_ms": int(days * DAY_MS), "limit": BATCH}
    while days and here:
        runs = store.read(lambda tx, a=after: tx.all("settled_runs", after=a, **asked))  # type: ignore[misc]
        for run in runs:
            place = here.pop(run["id"], None)
            if place is not None:
                done, freed = done + 1, freed + size_of(place)
                if not dry_run:
                    shutil.rmtree(place, ignore_errors=True)
        if len(runs) < BATCH:
            break
        after = runs[-1]["id"]
    return {"runs": done, "bytes": freed}


def _run_folders(store_dir: Path) -> dict[int, Path]:
    """Number of a run -> its folder."""
    folder = store_dir / "runs"
    paths = list(folder.iterdir()) if folder.is_dir() else []
    numbered = {number: path for path in paths if (number := number_named(path.name, "R"))}
    return {number: path for number, path in numbered.items() if path.name == name("R", number) and path.is_dir()}


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed; what cannot be read counts nothing."""
    total = 0
    for place, _, files in os.walk(folder, onerror=lambda _: None):
        for file in files:
            try:
                total += os.lstat(os.path.join(place, file)).st_size  # noqa: PTH118 - many files: this is quick
            except OSError:
                continue
    return total


def sizes(store: Store, store_dir: Path) -> dict[str, int]:
    """How much the project holds, in rows and bytes, measured now."""

    def look(tx: Transaction) -> dict[str, int]:
        size = tx.the("store_size")
        return {
            **{key: int(value) for key, value in dict(tx.the("count_things")).items()},
            "database_bytes": int(size["bytes"]),
            "unused_bytes": int(size["unused"]),
        }

    return {**store.read(look), "logs_bytes": size_of(store_dir / "runs")}
