"""Which files active runs have changed so far, and where two of them are at the same file.

Each supervisor tells now and then what its agent has changed. Two active runs at one path
will meet at the merge; both, and whoever watches, learn of it before. Each meeting is told
once for each pair of runs and path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from orchestrion.core.model import name
from orchestrion.store import Transaction
from orchestrion.store.store import Row


class Change(Protocol):
    """A changed file."""

    @property
    def path(self) -> str:
        """From the root of the repository."""
        ...

    @property
    def kind(self) -> str:
        """``created``, ``modified``, ``deleted``, ``moved`` or ``copied``."""
        ...


def note_changes(tx: Transaction, run: int, changes: Sequence[Change]) -> None:
    """These are the files that the run has changed until now; what it changed back is forgotten."""
    found = {_storable(change.path): change.kind for change in changes}
    known = {row["path"]: row["kind"] for row in tx.all("changes_of_run", run=run)}
    tx.each("forget_change", [{"run": run, "path": path} for path in known.keys() - found.keys()])
    news = sorted(path for path, kind in found.items() if known.get(path) != kind)
    tx.each("note_change", [{"run": run, "path": path, "kind": found[path]} for path in news])
    if new := sorted(found.keys() - known.keys()):
        _report(tx, run, new)


def of_run(tx: Transaction, run: int) -> list[Row]:
    """The files that a run has changed until now: ``path``, ``kind``, ``seen_at``."""
    return tx.all("changes_of_run", run=run)


def overlaps(tx: Transaction) -> list[Mapping[str, object]]:
    """Paths that more than one active run has changed, and by whom."""
    found: dict[str, list[str]] = {}
    for row in tx.all("overlaps"):
        found.setdefault(row["path"], []).append(name("R", row["run"]))
    return [{"path": path, "runs": runs} for path, runs in found.items()]


def _report(tx: Transaction, run: int, paths: Sequence[str]) -> None:
    """Tells the journal, for both runs, which other runs are at these paths."""
    for row in tx.all("others_at", run=run, paths=list(paths)):
        for one, task, other in ((run, row["own_task"], row["run"]), (row["run"], row["task"], run)):
            tx.event("run.overlap", task=task, run=one, data={"path": row["path"], "with": name("R", other)})


def _storable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\ufffd")
