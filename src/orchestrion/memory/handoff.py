"""What a session leaves for the next one: what it says, and where things stand, as one kept text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrion.core.errors import NotFound
from orchestrion.core.model import check_text, check_word, iso, name
from orchestrion.memory import prime
from orchestrion.memory.prime import Wanted
from orchestrion.store import Transaction

#: Tokens of what is added by ourselves.
_STAND_TOKENS = 1_000


def compose(tx: Transaction, wanted: Wanted, said: str, context: str) -> str:
    """The text: the words of who leaves first, then the ``context`` of the task or session, else how all stands."""
    check_text("handoff", said)
    stand = context or prime.compose(tx, replace(wanted, session=None, handoff=False), _STAND_TOKENS)
    return "\n\n".join(filter(None, [said.strip(), stand.strip()])) + "\n"


def keep(tx: Transaction, text: str, *, said: str, task: int | None, session: int | None, tag: str | None) -> int:
    """Keeps a handoff that begins with what was ``said``. Returns its number."""
    check_word("tag", tag or "")
    length, actor = len(said.strip()), tx.origin.actor
    row = tx.the("add_handoff", task=task, session=session, tag=tag or None, text=text, said=length, actor=actor)
    tx.event("handoff.kept", task=task, data={"handoff": name("H", row["id"])})
    return int(row["id"])


def last(tx: Transaction, *, tag: str | None = None) -> dict[str, Any]:
    """The newest handoff, of a work stream if one is named. Raises NotFound."""
    row = tx.one("last_handoff", tag=tag)
    if row is None:
        raise NotFound(
            "there is no handoff yet", hint="`orchestrion handoff --text TEXT` leaves one", code="no_handoff"
        )
    return as_json(tx.the("handoff", id=row["id"]))


def one(tx: Transaction, number: int) -> dict[str, Any]:
    """A handoff by its number. Raises NotFound."""
    row = tx.one("handoff", id=number)
    if row is None:
        raise NotFound(
            f"there is no handoff {name('H', number)}",
            hint="`orchestrion handoff --last` shows the last",
            code="no_handoff",
        )
    return as_json(row)


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A handoff as every door shows it."""
    return {
        "id": name("H", row["id"]),
        "task": name("T", row["task"]) if row["task"] else None,
        "session": name("S", row["session"]) if row["session"] else None,
        "tag": row["tag"],
        "text": row["text"],
        "actor": row["actor"],
        "created_at": iso(row["created_at"]),
    }
