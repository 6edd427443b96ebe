"""Who holds a task: whoever speaks for the session of its run, or names the run."""

from __future__ import annotations

from typing import NamedTuple

from orchestrion.core.errors import AlreadyTaken
from orchestrion.core.model import name
from orchestrion.memory import sessions, successors
from orchestrion.scheduler import claim, finish
from orchestrion.scheduler.unknown import unknown_task
from orchestrion.store import Transaction
from orchestrion.store.store import Row


class Held(NamedTuple):
    """A task that the caller holds."""

    task: int
    run: int
    #: Milliseconds since 1970.
    lease_until: int
    #: Whether the caller had it before.
    again: bool = False


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
    is_own = not run["supervised"] and successors.holder(tx, run).is_own
    if is_own or named == run["id"] or actor == f"run:{name('R', run['id'])}":
        return int(run["id"])
    return None


def keeps_no_session(actor: str) -> bool:
    """Whether an actor is a client of MCP that nobody can know again."""
    return actor.startswith("mcp:") and "/" not in actor


def claim_task(tx: Transaction, task: int, claimant: claim.Claimant, lease_ms: int | None = None) -> Held:
    """Takes the named task; ``again`` if the caller holds it already, whose lease is renewed.

    ``lease_ms`` is how long it lasts then; None: as long as before. Raises what the scheduler raises; who is refused
    is told how to take the holder's place.
    """
    _is_alive(tx)
    held = run_of_caller(tx, task)
    if held is None:
        try:
            return _held(claim.claim_task(tx, task, claimant))
        except AlreadyTaken as refused:
            # Perhaps by another call of the same client, at the same moment.
            held = run_of_caller(tx, task)
            if held is None:
                refused.hint = "; or ".join(filter(None, [told(tx, task), refused.hint]))
                raise
    if lease_ms is not None:
        tx.put("lease_lasts", run=held, lease_ms=lease_ms)
    return Held(task, held, finish.renew(tx, held), again=True)


def claim_next(tx: Transaction, claimant: claim.Claimant) -> Held:
    """Takes the best task that is ready. Raises NothingReady."""
    _is_alive(tx)
    taken = claim.claim(tx, claimant)
    if taken is None:
        raise claim.nothing_ready(tx)
    return _held(taken)


def renew(tx: Transaction, run: int) -> int:
    """A sign of life of a run and of the caller's session: until when the lease lasts now. Raises StaleRun."""
    _is_alive(tx)
    return finish.renew(tx, run)


def _is_alive(tx: Transaction) -> None:
    """The caller's session is seen. Its row is locked first, as where files are reported: no deadlock."""
    sessions.touch(tx, sessions.current(tx))


def _held(taken: claim.Claim) -> Held:
    return Held(taken.task, taken.run, taken.lease_until)


def told(tx: Transaction, task: int) -> str:
    """Which client holds a task, and how whoever asks goes on; empty: none does. Raises NotFound."""
    run = current_run(tx, task)
    return "" if run is None or run["supervised"] else successors.holder(tx, run).said()
