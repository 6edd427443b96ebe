"""What dead runs left on this host, for the use cases that end runs: there may be no worker that would see to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrion.core.errors import OrchestrionError
from orchestrion.core.masking import masked
from orchestrion.orchestrator.opening import Opening
from orchestrion.orchestrator.standing import is_dead
from orchestrion.store.store import Row

if TYPE_CHECKING:
    from orchestrion.runs.dead import DeadRuns


def dead_runs(opened: Opening) -> DeadRuns:
    """The dead runs of this host and clone."""
    from orchestrion.orchestrator.repository import repository_of
    from orchestrion.runs.dead import DeadRuns

    repository = None if opened.project.git_root is None else repository_of(opened)
    return DeadRuns(opened.store, opened.project, repository, opened.config, opened.environ, opened.host, _warn)


def end_remains(opened: Opening) -> None:
    """Ends what is left of runs that were ended a moment ago and whose supervisor cannot do so.

    What cannot be done now is left to the next worker: that the runs are over stands in the store already.
    """
    if not opened.store.read(lambda tx: tx.all("unswept_runs")):
        return
    try:
        dead_runs(opened).recover_interrupted()
    except OrchestrionError as problem:
        _warn(f"what ended runs left is seen to by the next worker: {problem.message}")


def settle_merged(opened: Opening, run: Row) -> None:
    """Completes an active run that died here with its work in the plan: to end it would have it done again."""
    if is_dead(opened, run):
        dead_runs(opened).settle_if_merged(run)


def elsewhere(opened: Opening, run: Row) -> str | None:
    """Who ends the processes of a run that ended, where that is nobody here; None: they are seen to here."""
    if not run["supervised"] or not run["host"] or opened.host.sees(run):
        return None
    return (
        f"its processes are on {run['host']} and are ended there: by its supervisor, or, if that died, "
        "by the next `orchestrion work` there"
    )


def _warn(said: str) -> None:
    import logging  # few commands have something to say

    logging.getLogger(__name__).warning(masked(said))
