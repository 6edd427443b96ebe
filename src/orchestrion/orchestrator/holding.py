"""Who holds a task: a client is known by its conversation, and so is who goes on with it."""

from __future__ import annotations

from orchestrion.core.errors import AlreadyTaken
from orchestrion.core.model import name
from orchestrion.memory import sessions, successors
from orchestrion.scheduler import claim, finish
from orchestrion.scheduler.unknown import unknown_task
from orchestrion.store import Transaction
from orchestrion.store.store import Row


def current_run(tx: Transaction, task: int) -> Row | None:
    """The active run of a task; None if nobody works on it. Raises NotFound."""
    row = tx.one("task", id=task)
    if row is None:
        raise unknown_task(task)
    return None if row["run"] is None else tx.the("run", id=row["run"])


def run_of_caller(tx: Transaction, task: int, named: int | None = None) -> int | None:
    """The run by which the caller holds a task; None: it does not. Whoever has the run ``named`` does. Raises NotFound.

    Who had an agent do it holds nothing: the agent does.
    """
    run, actor = current_run(tx, task), tx.origin.actor
    if run is None:
        return None
    called = name("R", run["id"])
    mine = not run["supervised"] and _same_conversation(actor, run["actor"])
    if mine or named == run["id"] or actor == f"run:{called}" or _goes_on_with(tx, run):
        return int(run["id"])
    return None


def _same_conversation(one: str, other: str) -> bool:
    """Whether two actors are the same conversation: that follows the ``/``, whatever program speaks in it."""
    conversation = one.partition("/")[2]
    return conversation != "" and conversation == other.partition("/")[2]


def _goes_on_with(tx: Transaction, run: Row) -> bool:
    own = sessions.current(tx)
    if own is None and keeps_no_session(tx.origin.actor):
        return False
    return successors.is_own(tx, run, name("S", own) if own else None)


def keeps_no_session(actor: str) -> bool:
    """Whether an actor is a client of MCP that nobody can know again."""
    return actor.startswith("mcp:") and "/" not in actor


def claim_task(
    tx: Transaction, task: int, claimant: claim.Claimant, lease_ms: int | None = None
) -> tuple[int, int, bool]:
    """The run of the named task, until when it holds it, and whether the caller had it before, whose lease is renewed.

    ``lease_ms`` is how long it lasts then; None: as long as before. Raises what the scheduler raises; who is refused
    is told how to take the holder's place.
    """
    held = run_of_caller(tx, task)
    if held is None:
        try:
            taken = claim.claim_task(tx, task, claimant)
        except AlreadyTaken as refused:
            # Perhaps by another call of the same client, at the same moment.
            held = run_of_caller(tx, task)
            if held is None:
                refused.hint = f"{_way_of(tx, task)}{refused.hint}"
                raise
        else:
            return taken.run, taken.lease_until, False
    if lease_ms is not None:
        tx.put("lease_lasts", run=held, lease_ms=lease_ms)
    return held, finish.renew(tx, held), True


def _way_of(tx: Transaction, task: int) -> str:
    run = current_run(tx, task)
    return "" if run is None or run["supervised"] else f"{sessions.holder(tx, run).said()}; or "
