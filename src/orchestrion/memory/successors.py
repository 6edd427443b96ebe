"""Who goes on with a session: what it holds is theirs.

A session whose client is gone is resumed by another one. From then on the name of that one's
client leads to it, so its hooks and tools belong to it; what it held before, and what it types
in a shell that knows its former session, is found through the journal, where the resuming stands.
"""

from __future__ import annotations

from orchestrion.core.values import name, stored_json
from orchestrion.memory import sessions
from orchestrion.store import Transaction
from orchestrion.store.store import Row


def resume(tx: Transaction, session: int, external: str | None = None) -> str:
    """A session goes on with the caller, whose client has the name ``external``, or that of the caller's session.

    Returns what ``sessions.warning`` says. Raises NotFound.
    """
    warning, called, own = sessions.warning(tx, session), name("S", session), sessions.current(tx)
    before = sessions.go_on(tx, session)
    if own != session:
        data = {"session": called, "by": name("S", own) if own else None}
        tx.event("session.taken_over", session=called, data=data)
    external = external or (sessions.of(tx, own)["external"] if own else None)
    if external and external != before["external"]:
        if known := tx.one("session_by_external", external=external):
            tx.put("release_external", id=known["id"])
        tx.put("call_session", id=session, external=external)
    return warning


def held_by(tx: Transaction, session: str) -> list[Row]:
    """Runs that a session holds, oldest first, with those of the session from which its client came."""
    before, _ = _taken_over(tx, session)
    return tx.all("held_by_session", sessions=[session, before] if before else [session])


def is_own(tx: Transaction, run: Row, session: str | None) -> bool:
    """Whether a run that a client holds is that of a session, or of one with which it goes on.

    Without a session it is that of the actor who went on with the run's session last.
    """
    if run["supervised"]:
        return False
    holder = sessions.session_of(run)
    by, actor = _taken_over(tx, holder) if holder else (None, None)
    if session is None:
        return actor is not None and actor == tx.origin.actor
    return session in (holder, by) or any(held["id"] == run["id"] for held in held_by(tx, session))


def _taken_over(tx: Transaction, session: str) -> tuple[str | None, str | None]:
    """Who went on with a session last: their own session, or if they had none their actor."""
    line = tx.one("session_taken_over", session=session)
    if line is None:
        return None, None
    by = stored_json(line, "data", f"event {line['id']}").get("by")
    return (by, None) if by else (None, line["actor"])
