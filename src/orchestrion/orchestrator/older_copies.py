"""Whether a project's store is an older copy of itself, for the use cases that say so or refuse to begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrion.core.errors import GitProblem
from orchestrion.orchestrator.opening import Opening
from orchestrion.orchestrator.remains import settle_merged

if TYPE_CHECKING:
    from orchestrion.runs.git import Git
    from orchestrion.runs.older_copy import Missed


def missed(opened: Opening) -> Missed:
    """What was done here and the store does not know. Raises GitProblem, StoreProblem."""
    from orchestrion.runs import older_copy

    return older_copy.missed(opened.store, opened.ledger, _git(opened))


def told(opened: Opening) -> str:
    """The same in words, with what to do; empty: nothing, or git cannot say."""
    try:
        found = missed(opened)
    except GitProblem:
        return ""
    return f"{found}; {runbook()}" if found.is_any else ""


def runbook() -> str:
    """What to do about it before anything else."""
    from orchestrion.runs import older_copy

    return older_copy.RUNBOOK


def refuse(opened: Opening) -> None:
    """Raises Conflict (``older_copy``) where runs began here that the store does not know."""
    from orchestrion.runs import older_copy

    older_copy.refuse(opened.store, opened.ledger)


def accept(opened: Opening) -> None:
    """Somebody looked at what the store does not know, and goes on. What is dead and in its plan is settled first, as
    long as it can be told where the plan was. Raises GitProblem, StoreProblem.
    """
    from orchestrion.runs import older_copy

    for run in opened.store.read(lambda tx: tx.all("active_runs", supervised=1)):
        settle_merged(opened, run)
    older_copy.accept(opened.store, opened.ledger, _git(opened))


def _git(opened: Opening) -> Git | None:
    from orchestrion.runs.git import Git

    return Git(opened.project.root) if opened.project.git_root is not None else None
