"""What a session leaves for the next one: what it says, and where things stand, as one kept text.

It is for everybody, for a work stream or for a task. In each of these the newest one stands; what a run leaves does not
put aside what a person said there, so that one stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrion.core.errors import NotFound
from orchestrion.core.model import check_word, iso, name
from orchestrion.core.rights import RUN
from orchestrion.store import Transaction
from orchestrion.store.store import Row


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


def latest(tx: Transaction, **scope: Any) -> list[Row]:
    """What stands of a ``task``, a ``session`` or of a work stream (``tag``), the newest first."""
    return tx.all("handoffs_last", run=RUN, **scope)


def standing(tx: Transaction, *, limit: int, tag: str | None = None) -> list[Row]:
    """What stands of every scope, those for everybody first; with ``tag`` that of the work stream and its tasks."""
    return tx.all("handoffs_standing", run=RUN, tag=tag, limit=limit)


def listing(
    tx: Transaction, *, limit: int, before: int | None = None, **scope: int | str | None
) -> tuple[list[Row], int]:
    """Handoffs, the newest first, and how many there are; ``scope`` as of ``latest``."""
    rows = tx.all("list_handoffs", before=before, limit=limit, **scope)
    return rows, int(tx.the("count_handoffs", **scope)["total"])


def one(tx: Transaction, number: int) -> dict[str, Any]:
    """A handoff by its number. Raises NotFound."""
    row = tx.one("handoff", id=number)
    if row is None:
        raise NotFound(
            f"there is no handoff {name('H', number)}",
            hint="`orchestrion handoff --list` shows all",
            code="no_handoff",
        )
    return as_json(row)


def about(row: Mapping[str, Any]) -> str:
    """For whom it is."""
    scopes = [name("T", row["task"])] if row["task"] else []
    scopes += [f"work stream {row['tag']}"] if row["tag"] else []
    return f"for {' and '.join(scopes) or 'everybody'}"


def in_short(row: Mapping[str, Any]) -> dict[str, Any]:
    """A handoff in a list: with the beginning of what was said, ``said``, in place of its ``text``."""
    whole = as_json({**row, "text": ""})
    del whole["text"]
    return {**whole, "about": about(row), "said": row["said"]}


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
