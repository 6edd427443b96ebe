"""Who speaks for a session: whoever it was given to last.

A session is given by its *handle*: ``S1`` to who began it, ``S1.1`` to the first who resumed it,
``S1.2`` to the next. Shells have it in ``ORCHESTRION_SESSION``, a connection of MCP remembers it.
An older handle speaks for nobody, and who uses it is told so when it would change something.
What a session holds is its speaker's, and so is what the session holds from which its client came
by resuming: that stands in the journal, where the numbers of the handles stand too.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrion.core.errors import Conflict
from orchestrion.core.rights import Voice
from orchestrion.core.values import iso, name, readable
from orchestrion.memory import sessions
from orchestrion.store import Transaction
from orchestrion.store.store import Row


class _TakenOver(NamedTuple):
    """The last time that a session was resumed by another; all None and 0: never."""

    #: The session of who did, as ``S5``.
    by: str | None = None
    turn: int = 0
    actor: str | None = None
    at: int | None = None


def voice(tx: Transaction, handle: str) -> Voice:
    """For which session a handle speaks now. What this project has not, or what is no handle, speaks for none."""
    called, dot, turn = handle.strip().partition(".")
    session = sessions.named(tx, called)
    if session is None or (dot and not (turn.isascii() and turn.isdecimal() and len(turn) < 10)):
        return Voice()
    own = name("S", session)
    told, given = int(turn or 0), _taken_over(tx, own).turn
    if told > given:  # nobody was given that
        return Voice()
    return Voice(taken_over=own) if told < given else Voice(own)


def handle(tx: Transaction, session: int) -> str:
    """By what a session is spoken for now."""
    called = name("S", session)
    return _handle(called, _taken_over(tx, called).turn)


def refusal(tx: Transaction, session: str) -> Conflict:
    """The error for who would change something for a session that was given to another since."""
    last = _taken_over(tx, session)
    return Conflict(
        f"{session} was resumed by {last.actor} at {iso(last.at)} and is no longer yours; nothing was changed",
        hint=f"`orchestrion sessions --start NAME` begins another session; "
        f"`orchestrion sessions {session} --resume` takes {session} back",
        code="session_taken_over",
        session=session,
    )


def resume(tx: Transaction, session: int, external: str | None = None) -> tuple[str, str]:
    """A session goes on with the caller, whose client has the name ``external``, or that of the caller's session.

    Returns the handle that is the caller's from now on, and what ``sessions.warning`` says. Raises NotFound.
    """
    warning, called, own = sessions.warning(tx, session), name("S", session), sessions.current(tx)
    sessions.go_on(tx, session)
    if own == session:
        return handle(tx, session), warning
    turn = _taken_over(tx, called).turn + 1
    data = {"session": called, "by": name("S", own) if own else None, "turn": turn}
    tx.event("session.taken_over", session=called, data=data)
    external = external or (sessions.of(tx, own)["external"] if own else None)
    if external and (known := tx.one("session_by_external", external=external)):
        tx.put("release_external", id=known["id"])
    tx.put("call_session", id=session, external=external)
    return _handle(called, turn), warning


def held_by(tx: Transaction, session: str) -> list[Row]:
    """Runs that a session holds, oldest first, with those of the session from which its client came."""
    before = _taken_over(tx, session).by
    return tx.all("held_by_session", sessions=[session, before] if before else [session])


def is_own(tx: Transaction, run: Row, session: str | None) -> bool:
    """Whether a run that a client holds is that of a session, or of one with which it goes on."""
    if run["supervised"] or session is None:
        return False
    holder = sessions.session_of(run)
    if holder is not None and session in (holder, _taken_over(tx, holder).by):
        return True
    return any(held["id"] == run["id"] for held in held_by(tx, session))


def holder(tx: Transaction, run: Row) -> sessions.Holder:
    """Who holds a run that a client took, and whether it is whoever asks."""
    own = sessions.current(tx)
    return sessions.holder(tx, run, is_own=is_own(tx, run, name("S", own) if own else None))


def _handle(session: str, turn: int) -> str:
    return f"{session}.{turn}" if turn else session


def _taken_over(tx: Transaction, session: str) -> _TakenOver:
    line = tx.one("session_taken_over", session=session)
    if line is None:
        return _TakenOver()
    data = readable(line, f"event {line['id']}", "data")["data"]
    return _TakenOver(data.get("by"), data.get("turn", 0), line["actor"], line["at"])
