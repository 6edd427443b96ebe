"""Whether the store is an older copy of itself: what was done here since it was made is in git and in the runs'
folders, and it does not know of it.

A copy that was put back has the store's own id, so nothing else tells. Each run's folder has the order that its worker
wrote, with that id: a run with such an order that is not in the store was begun after the copy was made. And a plan's
ref goes ahead of what the store knows of the plan only while a run is at its merge. Whoever has looked at what is there
accepts it: then those runs count as known to be missing, and plans are where their refs are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from orchestrion.core import private
from orchestrion.core.errors import Conflict
from orchestrion.core.states import Phase
from orchestrion.core.values import name, number_named
from orchestrion.runs import given, order
from orchestrion.runs.commits import RUN_TRAILER
from orchestrion.runs.git import Git
from orchestrion.runs.plan_start import begins_at, never_began
from orchestrion.runs.plan_tip import tips
from orchestrion.scheduler import clones
from orchestrion.store import Store, Transaction
from orchestrion.store.store import Row

#: What to do about it before anything else.
RUNBOOK = 'see "A copy of before" in docs/runbooks/damaged-database.md before a worker is started'
#: So many runs and plans are named.
_NAMED = 10
#: The store is asked about so many runs at once.
_AT_ONCE = 500
#: Begins each line that tells of a commit.
_COMMIT = "commit"
#: The step from which on a run has a commit that it started from.
_BEGUN = " prepare.begun"


class Missed(NamedTuple):
    """What was done here and the store does not know."""

    #: Names of runs, the first one first.
    runs: list[str]
    #: Plans whose refs are ahead of it.
    plans: list[str]

    @property
    def is_any(self) -> bool:
        """Whether there is anything."""
        return bool(self.runs or self.plans)

    def __str__(self) -> str:
        of_runs = f"{_listed(self.runs)} began here, and this store does not know of it" if self.runs else ""
        of_plans = f"work is in the plan's ref that this store does not know: {_listed(self.plans)}"
        said = "; ".join(filter(None, (of_runs, of_plans if self.plans else "")))
        return f"{said}: an older copy of it was put back{'' if self.runs else ', or somebody moved the ref'}"


def missed(store: Store, ledger: given.Ledger, git: Git | None) -> Missed:
    """What the store does not know of this clone, unless it was accepted. Raises GitProblem, StoreProblem."""
    runs = [name("R", run) for run in unknown_runs(store, ledger)]
    return Missed(runs, [row["name"] for row, _ in _ahead(store, ledger.store_dir, git)] if git else [])


def refuse(store: Store, ledger: given.Ledger) -> None:
    """Raises Conflict (``older_copy``) where runs began here that the store does not know, unless that was accepted."""
    if runs := [name("R", run) for run in unknown_runs(store, ledger)]:
        raise Conflict(
            f"{Missed(runs, [])}: what was done since would be done again; nothing was claimed",
            hint=f"{RUNBOOK}; then `orchestrion work --older-copy` goes on",
            code="older_copy",
            runs=runs,
        )


def accept(store: Store, ledger: given.Ledger, git: Git | None) -> None:
    """Somebody looked at what the store does not know: it counts no more. Raises GitProblem, StoreProblem."""
    unknown, ahead = unknown_runs(store, ledger), _ahead(store, ledger.store_dir, git) if git else []

    def accepted(tx: Transaction) -> None:
        if unknown:
            tx.put("older_copy_is_accepted", key=_key(tx), value=str(unknown[-1]))
        for row, commit in ahead:
            tx.run("plan_moves", plan=row["id"], tip=commit)

    if unknown or ahead:
        store.write(accepted)
    given.forget_lost(ledger, store.uuid)


def unknown_runs(store: Store, ledger: given.Ledger) -> list[int]:
    """Numbers of runs of this very store that were here and are not in it, unless that was accepted."""
    folders, here = {*_folders(ledger.store_dir)}, given.of(ledger, store.uuid)
    # Looked at first: what begins from now on is in the store before it has a folder.
    if not folders and not here.run:
        return []

    def look(tx: Transaction) -> list[int]:
        row = tx.one("meta", key=_key(tx))
        without_folder = {*here.lost, *_lost_now(tx, here.run)} - folders
        asked = sorted(one for one in folders | without_folder if one > (int(row["value"]) if row else 0))
        pieces = (asked[start : start + _AT_ONCE] for start in range(0, len(asked), _AT_ONCE))
        known = {row["id"] for piece in pieces for row in tx.all("runs_anywhere", ids=piece)}
        lost = (run for run in asked if run not in known)
        return [run for run in lost if run in without_folder or _is_of(store, ledger.store_dir, run)]

    return store.read(look)


def keep_in_mind(store: Store, ledger: given.Ledger) -> list[str]:
    """Before a client's run gets a number above runs that the store does not know: they are written down, for of some
    nothing else tells. Their names.
    """
    unknown = unknown_runs(store, ledger)
    given.note(ledger, store.uuid, lost=unknown)
    return [name("R", run) for run in unknown]


def remembered(store: Store, ledger: given.Ledger) -> list[str]:
    """Runs that the store does not know, by name, if a client took up something since; until that is accepted."""
    if not given.of(ledger, store.uuid).lost:
        return []
    return [name("R", run) for run in unknown_runs(store, ledger)]


def _lost_now(tx: Transaction, last: int) -> Iterable[int]:
    """Numbers above all runs of the store, up to the last one that a client's run got there."""
    highest = tx.the("last_run_anywhere")["id"]
    return range(max(highest + 1, last - given.MOST_LOST + 1), last + 1)


def _is_of(store: Store, store_dir: Path, run: int) -> bool:
    return bool(_order_of(store_dir, run).get("store") == store.uuid)


def has_begun(store_dir: Path, uuid: str, clone: str | None, plan: str) -> bool:
    """Whether a run of a plan of the store ``uuid`` had a commit to start from in this ``clone``, whatever the store
    knows; what a clone was copied from is another.
    """
    return any(
        found.get("store") == uuid
        and found.get("clone") in (None, clone)
        and found.get("plan") == plan
        and _had_start(store_dir, run)
        for run in _folders(store_dir)
        if (found := _order_of(store_dir, run))
    )


def _ahead(store: Store, store_dir: Path, git: Git) -> list[tuple[Row, str]]:
    """Plans of this clone whose refs have more than the store knows while no run moves them, and where the refs are."""
    at = tips(git)  # first: a run that moved one of them is at its merge still, or told of it
    rows, active = store.read(lambda tx: (tx.all("plans_of_clone"), tx.all("active_runs", supervised=1)))
    phases = {(run["plan_name"], run["phase"]) for run in active}
    found = [(row, at[row["name"]]) for row in rows if at.get(row["name"]) not in (None, *_known(row))]
    absent = git.missing(row["tip"] for row, _ in found if row["tip"])
    return [
        (row, commit)
        for row, commit in found
        if (row["name"], Phase.MERGING) not in phases
        and not ((row["name"], Phase.PREPARING) in phases and begins_at(git, row) == commit)
        and row["tip"] not in absent
        and _is_beyond(store, store_dir, git, row, commit)
    ]


def _is_beyond(store: Store, store_dir: Path, git: Git, row: Row, commit: str) -> bool:
    """Whether a plan's ref, which is at ``commit``, goes on from where the store knows the plan to be, with work that
    it does not know.
    """
    if row["tip"]:
        return git.is_ancestor(row["tip"], commit) and _has_unknown(store, store_dir, git, row, commit)
    is_new = never_began(row, lambda: store.read(lambda tx: tx.one("run_that_began", plan=row["id"])) is not None)
    return is_new and has_begun(store_dir, store.uuid, store.clone, row["name"])


def _has_unknown(store: Store, store_dir: Path, git: Git, row: Row, commit: str) -> bool:
    known = {*_known(row), *store.read(lambda tx: clones.accepted(tx, row))}
    known -= git.missing(known)
    asked = "".join(f"{one}\n" for one in (commit, *(f"^{one}" for one in known)))
    named = f"--format={_COMMIT} %(trailers:key={RUN_TRAILER},valueonly,separator=%x20)"
    found = git.run("log", "--no-merges", named, "--stdin", input=asked).stdout.split()
    return bool(found) and not _are_of_another_store(store, store_dir, [one for one in found if one != _COMMIT])


def _are_of_another_store(store: Store, store_dir: Path, runs: list[str]) -> bool:
    """Whether runs that commits name are those of another store of this clone, which has a plan of the same name."""
    numbers = {number_named(run, "R") for run in runs}
    return bool(numbers) and all(
        one is not None and _order_of(store_dir, one).get("store", store.uuid) != store.uuid for one in numbers
    )


def _known(row: Row) -> tuple[str, ...]:
    """Commits of a plan that the store knows."""
    return tuple(row[one] for one in ("tip", "landed_commit", "began_commit") if row[one])


def _key(tx: Transaction) -> str:
    return f"older copy accepted {tx.clone or ''}"


def _folders(store_dir: Path) -> Iterator[int]:
    """Numbers of the runs that have a folder here."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in (store_dir / "runs").iterdir():
            number = number_named(entry.name, "R")
            if number and entry.name == name("R", number):
                yield number


def _order_of(store_dir: Path, run: int) -> Mapping[str, Any]:
    """The order of a run as it was written, by whatever version; empty: there is none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(private.read(order.folder(store_dir, run) / "order.json"))
        return found if isinstance(found, dict) else {}
    return {}


def _had_start(store_dir: Path, run: int) -> bool:
    with suppress(OSError, ValueError):
        lines = private.read(order.folder(store_dir, run) / order.STEPS).splitlines()
        return any(line.endswith(_BEGUN) for line in lines)
    return False


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
