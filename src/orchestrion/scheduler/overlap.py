"""Which files runs have changed so far, and where two of them are at the same file.

Each supervisor tells now and then what its agent has changed. Two runs at one path will
meet at the merge: two that are at work, or one at work and one whose work waits in
review. Both, and whoever watches, learn of it before; each of them is told once of the
other and the path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from orchestrion.core.values import name
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: The first so many files of a run are kept in sight. What it changed in all is known when it ends.
MOST_FILES = 5_000
#: So many lines are told at once; the rest at the next look.
MOST_TOLD = 200
#: What is kept of a changed file.
_FACTS = ("kind", "lines_added", "lines_removed")


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

    @property
    def lines_added(self) -> int | None:
        """None: unknown, or no text."""
        ...

    @property
    def lines_removed(self) -> int | None:
        """None as above."""
        ...


def note_changes(tx: Transaction, run: int, changes: Sequence[Change]) -> None:
    """These are the files that the run has changed until now; what it changed back is forgotten."""
    found = {storable(one.path): (one.kind, one.lines_added, one.lines_removed) for one in islice(changes, MOST_FILES)}
    known = {row["path"]: tuple(row[fact] for fact in _FACTS) for row in of_run(tx, run)}
    tx.each("forget_change", ({"run": run, "path": path} for path in sorted(known.keys() - found.keys())))
    news = sorted(path for path, facts in found.items() if known.get(path) != facts)
    tx.each("note_change", ({"run": run, "path": path, **dict(zip(_FACTS, found[path], strict=True))} for path in news))
    if found:
        _tell_overlaps(tx, run)


def note_reported(tx: Transaction, run: int, changes: Mapping[str, str]) -> None:
    """A client says that its run has changed these files: path -> kind, as ``Change`` has it."""
    known = {row["path"]: row["kind"] for row in of_run(tx, run)}
    news = sorted(path for path, kind in changes.items() if known.get(path) != kind)[: max(0, MOST_FILES - len(known))]
    unknown = {"lines_added": None, "lines_removed": None}
    tx.each("note_change", ({"run": run, "path": path, "kind": changes[path], **unknown} for path in news))
    if news:
        _tell_overlaps(tx, run)


def of_run(tx: Transaction, run: int) -> list[Row]:
    """The files that a run has changed until now: ``path``, ``seen_at``, and what ``Change`` has."""
    return tx.all("changes_of_run", run=run)


def overlaps(tx: Transaction, run: int | None = None) -> list[Mapping[str, Any]]:
    """Paths that more than one run has changed, one of them at work: ``path``, ``runs``. With ``run`` only its own."""
    found: dict[str, list[str]] = {}
    for row in tx.all("overlaps", run=run):
        found.setdefault(row["path"], []).append(name("R", row["run"]))
    return [{"path": path, "runs": runs} for path, runs in found.items()]


def _tell_overlaps(tx: Transaction, run: int) -> None:
    """Tells the journal of both runs. It looks at all files, for two that came at one moment did not see each other."""
    for row in tx.all("tell_overlaps", run=run, limit=MOST_TOLD):
        data = {"path": row["path"], "with": name("R", row["other"])}
        tx.event("run.overlap", task=row["task"], run=row["run"], data=data)


def storable(path: str) -> str:
    """A path as every database can keep it: bytes that are no text are written out."""
    if path.isascii() and "\0" not in path:
        return path
    return path.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\ufffd")
