"""Whether an active run is looked after, for whoever shows it: on this host its supervisor's process is asked, as
``health`` does, for a lease goes on for a while after its death.
"""

from __future__ import annotations

from orchestrion.core.model import Run, name
from orchestrion.orchestrator.opening import Opening
from orchestrion.store.store import Row


def is_dead(opened: Opening, run: Row) -> bool:
    """Whether nobody supervises an active run of this host; one that cannot be seen from here is not called dead."""
    if not run["supervised"] or run["ended_at"] is not None or not opened.host.sees(run):
        return False
    from orchestrion.runs import order
    from orchestrion.runs.dead import supervisor_lives, worker_lives
    from orchestrion.runs.launch import is_supervised

    if run["pid"] is not None:
        return not supervisor_lives(run)
    # Claimed and not announced yet: it is on its way while its worker lives.
    if worker_lives(run) or not opened.has_left(run):
        return False
    return not is_supervised(order.folder(opened.project.store_dir, run["id"]))


def awaits(opened: Opening, run: Row) -> str | None:
    """What an active run of this host waits for whose supervisor died; None: it is looked after."""
    if not is_dead(opened, run):
        return None
    label = name("R", run["id"])
    return (
        f"its supervisor died: the next worker settles it (`orchestrion work`), or `orchestrion kill {label}` ends it"
    )


def shown(opened: Opening, run: Row) -> Run:
    """A run with what it waits for, if its supervisor died."""
    return Run(run, awaits(opened, run))


def reported(opened: Opening, run: Row) -> str:
    """What becomes of the report of a supervised run."""
    if is_dead(opened, run):
        return (
            "its supervisor died, so nobody checks or merges its work: the report is kept; a worker (`orchestrion "
            "work`) completes the task if the work is in the plan already, else keeps it and tries the task again"
        )
    return "the run is supervised: when its agent ends its work is checked and merged, and its files are recorded"
