"""Use cases of handoffs: what somebody who leaves says to whoever is next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrion.core.model import check_text, check_word, number
from orchestrion.memory import handoff, prime, sessions
from orchestrion.memory.prime import Wanted
from orchestrion.orchestrator.finding import bounded
from orchestrion.orchestrator.remembering import MemoryCases
from orchestrion.scheduler.unknown import unknown_task
from orchestrion.store import Transaction

#: Tokens of how all stands, which is kept with what is said.
_STAND_TOKENS = 1_000
#: Handoffs that stand and are shown whole.
_STANDING = 20


class HandoffCases(MemoryCases):
    """What one session leaves for the next."""

    def handoff(
        self, *, task: str | None = None, session: str | None = None, tag: str | None = None, text: str = ""
    ) -> dict[str, Any]:
        """Leaves for the next session what ``text`` says, and where a task, a session, a work stream or all stands."""
        context = self._left_behind(task or session, tag)

        def keep(tx: Transaction) -> dict[str, Any]:
            owner = self._owner(tx, task, None, session)
            whole = _composed(tx, self._wanted(tx, None, tag, None), text, context)
            kept = handoff.keep(tx, whole, said=text, task=owner.task, session=owner.session, tag=tag)
            sessions.touch(tx, owner.session)
            return handoff.as_json(tx.the("handoff", id=kept))

        return self.store.write(keep)

    def _left_behind(self, about: str | None, tag: str | None) -> str:
        """The context of what is handed over; empty: it is about all, or a work stream that has no task yet."""
        # Another one will read it: nothing in it is "yours".
        anybody = self.as_(self.caller._replace(actor="", session=None))
        if about:
            return str(anybody.recover(about)["text"])
        check_word("tag", tag or "")
        there = tag and self.store.read(lambda tx: tx.all("states_of_tag", tag=tag))
        return str(anybody.recover_stream(tag)["text"]) if tag and there else ""

    def last_handoff(self, tag: str | None = None) -> dict[str, Any]:
        """What was left last, for a work stream if one is named. Raises NotFound."""
        return self.store.read(lambda tx: handoff.last(tx, tag=tag))

    def list_handoffs(
        self,
        *,
        task: str | None = None,
        session: str | None = None,
        tag: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Handoffs, the newest first, of a task, a session or a work stream if one is named: ``handoffs``, ``total``,
        ``next_cursor``. Raises NotFound.
        """
        before = number(cursor, "H") if cursor else None

        def read(tx: Transaction) -> dict[str, Any]:
            rows, total = handoff.listing(tx, limit=bounded(limit) + 1, before=before, **_scope(tx, task, session, tag))
            shown = [handoff.in_short(row) for row in rows[:limit]]
            more = shown[-1]["id"] if len(rows) > limit else None
            return {"handoffs": shown, "total": total, "next_cursor": more}

        return self.store.read(read)

    def standing_handoffs(self) -> list[dict[str, Any]]:
        """Those that stand, whole: the last of each scope, those for everybody first."""

        def read(tx: Transaction) -> list[Mapping[str, Any]]:
            return [tx.the("handoff", id=row["id"]) for row in handoff.standing(tx, limit=_STANDING)]

        return [{**handoff.as_json(row), "about": handoff.about(row)} for row in self.store.read(read)]

    def show(self, thing: str) -> dict[str, Any]:
        """Everything about a task, run, artifact, decision or session, and about a handoff (H2)."""
        if thing[:1].upper() == "H":
            return self.store.read(lambda tx: handoff.one(tx, number(thing, "H")))
        return super().show(thing)


def _scope(tx: Transaction, task: str | None, session: str | None, tag: str | None) -> dict[str, int | str]:
    """What is named, as the statements want it. Raises NotFound."""
    scope: dict[str, int | str] = {"tag": tag} if tag else {}
    if task:
        scope["task"] = number(task, "T")
        if tx.one("task", id=scope["task"]) is None:
            raise unknown_task(number(task, "T"))
    if session:
        scope["session"] = sessions.of(tx, number(session, "S"))["id"]
    return scope


def _composed(tx: Transaction, wanted: Wanted, said: str, context: str) -> str:
    """The words of who leaves, then the ``context`` of the task or session, else how all stands."""
    check_text("handoff", said)
    stand = context or prime.compose(tx, replace(wanted, session=None, handoff=False), _STAND_TOKENS)
    return "\n\n".join(filter(None, [said.strip(), stand.strip()])) + "\n"
