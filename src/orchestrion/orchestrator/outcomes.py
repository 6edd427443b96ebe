"""What a report did, as the use cases give it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrion.core.model import Run, name
from orchestrion.orchestrator import views
from orchestrion.store import Transaction

#: So many of the tasks that became ready are named.
UNBLOCKED_SHOWN = 20


def outcome(
    tx: Transaction, task: int, run: int, ready: Sequence[int], *, recorded: str | None = None
) -> dict[str, Any]:
    """The task and the run as they are now, and what became ready; ``recorded``: what becomes of a mere report."""
    found = {"task": views.task(tx, task).as_json(), "run": Run(tx.the("run", id=run)).as_json(), **unblocked(ready)}
    return {**found, "recorded": recorded} if recorded else found


def unblocked(ready: Sequence[int]) -> dict[str, Any]:
    """Tasks that became ready: the first of them, and how many."""
    return {"unblocked": [name("T", one) for one in ready[:UNBLOCKED_SHOWN]], "unblocked_total": len(ready)}
