"""The files of a run, as git has them: recorded by those who keep its work.

A run's record is written anew as a whole each time its work is committed, so what an agent
changed back is not in it. Whether it is still true is asked later, against git.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from orchestrion.scheduler.overlap import storable
from orchestrion.store import Transaction


class Measured(Protocol):
    """A changed file with what git knows of its content."""

    @property
    def path(self) -> str:
        """From the root of the repository."""
        ...

    @property
    def kind(self) -> str:
        """``created``, ``modified``, ``deleted``, ``moved`` or ``copied``."""
        ...

    @property
    def old_path(self) -> str | None:
        """Where a moved file was, or what a copied one was copied from."""
        ...

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the content, of a link its target; None when deleted or a submodule."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes of the content; None as above."""
        ...

    @property
    def mode(self) -> str | None:
        """As git writes it, ``100644``; None when deleted."""
        ...


def note_git(tx: Transaction, run: int, head: str, changes: Sequence[Measured]) -> None:
    """These files, and no others, are what the run changed; ``head`` is the commit that has them."""
    tx.put("forget_files_of_run", run=run)
    tx.each("add_git_file", ({"run": run, "head": head, **_facts(one)} for one in changes))


def _facts(change: Measured) -> dict[str, Any]:
    return {
        "op": change.kind,
        "path": storable(change.path),
        "old_path": storable(change.old_path) if change.old_path else None,
        "sha256": change.sha256,
        "size": change.size,
        "mode": change.mode,
    }
