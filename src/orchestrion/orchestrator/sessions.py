"""Use cases of sessions: they begin, are resumed by another client, end, and are cleaned up."""

from __future__ import annotations

from typing import Any

from orchestrion.core.model import name, number
from orchestrion.memory import files, recovery, sessions, successors
from orchestrion.orchestrator.examine import ExamineCases
from orchestrion.orchestrator.finding import bounded
from orchestrion.orchestrator.judging import refuse_session
from orchestrion.store import Transaction


class SessionCases(ExamineCases):
    """Sittings of clients, and who speaks for them."""

    def start_session(
        self, name: str = "", *, client: str = "", external: str | None = None, folder: str = "", fresh: bool = False
    ) -> dict[str, Any]:
        """A session, with its ``handle``, and ``resumed``: whether it is that of the client's own name ``external``,
        which goes on unless ``fresh``.

        Raises InvalidInput (``not_for_runs``) inside a run to which that one does not belong.
        """

        from orchestrion.runs import given

        ledger, store = self.ledger, self.store.uuid

        def start(tx: Transaction) -> dict[str, Any]:
            known = tx.one("session_by_external", external=external) if external else None
            if known:
                refuse_session(tx, self.caller, sessions.as_json(known)["id"])
            session, resumed = sessions.begin(
                tx,
                called=name,
                client=client,
                external=external,
                folder=folder,
                fresh=fresh,
                last=lambda: given.of(ledger, store).session,
            )
            begun = {**sessions.as_json(sessions.of(tx, session)), "resumed": resumed}
            return {**begun, "handle": successors.handle(tx, session)}

        begun = self.store.write(start)
        given.note(ledger, store, session=number(begun["id"], "S"))
        return begun

    def end_session(self, session: str, summary: str | None = None) -> dict[str, Any]:
        """The session is over; ``summary`` is what its client says of it. Raises NotFound."""
        one = number(session, "S")
        return self.store.write(lambda tx: sessions.as_json(sessions.end(tx, one, summary)))

    def list_sessions(self, include_ended: bool = False, limit: int = 10, offset: int = 0) -> dict[str, Any]:
        """Sessions, those seen last first: ``sessions``, ``total``."""
        rows, total = self.store.read(
            lambda tx: sessions.listing(tx, include_ended=include_ended, limit=bounded(limit), offset=offset)
        )
        return {"sessions": [sessions.as_json(row) for row in rows], "total": total}

    def session_detail(self, session: str) -> dict[str, Any]:
        """A session with the tasks it had to do with, and how much it decided and changed. Raises NotFound."""
        one = number(session, "S")

        def read(tx: Transaction) -> dict[str, Any]:
            row = sessions.of(tx, one)
            touched = tx.all("tasks_of_session", session=name("S", one), limit=recovery.NAMED)
            left = tx.one("last_handoff", session=one)
            changed = tx.all("count_files", session=one)
            return {
                **sessions.as_json(row),
                "tasks": [name("T", task["id"]) for task in touched],
                "decisions": tx.the("count_decisions", session=one)["total"],
                "files": {
                    op: sum(row["total"] for row in changed if row["op"] == op)
                    for op in files.OPS
                    if any(row["op"] == op for row in changed)
                },
                "handoff": name("H", left["id"]) if left else None,
            }

        return self.store.read(read)

    def session_warning(self, session: str) -> str:
        """What to know before working in a session that another client may be at work in; empty: nothing."""
        return self.store.read(lambda tx: sessions.warning(tx, number(session, "S")))

    def held_by_clients(self, limit: int = 20, session: str | None = None) -> list[dict[str, Any]]:
        """Who holds a task, the newest claim first: the run, the session and when it was seen, and how to go on.

        ``is_own``: whether it is ``session``.
        """

        def read(tx: Transaction) -> list[dict[str, Any]]:
            rows = tx.all("running_now", supervised=0, limit=bounded(limit))
            asking = session or self.store.origin.session
            return [sessions.holder(tx, row, is_own=successors.is_own(tx, row, asking)).as_json() for row in rows]

        return self.store.read(read)

    def clean_up_sessions(
        self, kind: str = "completed", older_than_days: float = 7, dry_run: bool = True
    ) -> dict[str, Any]:
        """Ends sessions that nobody saw for so long, removes ended ones of which nothing is remembered."""
        act = self.store.read if dry_run else self.store.write
        done = act(lambda tx: sessions.clean_up(tx, kind, older_than_days, dry_run=dry_run))
        return {
            "kind": kind,
            "older_than_days": older_than_days,
            "dry_run": dry_run,
            "ended": [name("S", one) for one in done.ended],
            "removed": [name("S", one) for one in done.removed],
        }
