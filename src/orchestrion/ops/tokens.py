"""Keys to the server: made once, shown once, kept as a hash.

A token is 256 random bits, so that a plain SHA-256 of it tells a thief of the database
nothing. It has a name, by which the journal knows who used it, a role, and perhaps an end.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from orchestrion.core.errors import Conflict, InvalidInput, NotFound
from orchestrion.core.model import check_choice, check_number, check_word, iso
from orchestrion.store import Store, Transaction
from orchestrion.store.store import Row

ROLES = ("read", "operate", "admin")
#: What a token begins with, so that scanners of secrets know it.
PREFIX = "orch_"
DAY_MS = 86_400_000
#: ``used_at`` is written at most so often, in milliseconds.
_NOTED_MS = 60_000


def create(store: Store, name: str, role: str, days: float | None) -> dict[str, Any]:
    """A new token; the only time that it is shown. Raises InvalidInput, Conflict (the name is taken)."""
    check_word("name", name, empty=False)
    check_choice("role", role, ROLES)
    check_number("days", days, 0.0001, 36_500)
    token = PREFIX + secrets.token_urlsafe(32)

    def add(tx: Transaction) -> int:
        row = tx.one(
            "add_token",
            name=name,
            role=role,
            hash=_hash(token),
            actor=tx.origin.actor,
            age_ms=int((days or 0) * DAY_MS),
        )
        if row is None:
            raise Conflict(
                f"there is a token {name!r} already",
                hint=f"choose another name, or revoke it first: `orchestrion token revoke {name}`",
                code="token_exists",
            )
        tx.event("token.created", data={"token": name, "role": role})
        return int(row["id"])

    made = store.write(add)
    return {**next(one for one in listing(store) if one["id"] == made), "token": token}


def listing(store: Store) -> list[dict[str, Any]]:
    """All tokens, without what opens doors."""
    return [_shown(row) for row in store.read(lambda tx: tx.all("tokens"))]


def revoke(store: Store, named: str) -> dict[str, Any]:
    """From now on it opens nothing. Raises NotFound."""

    def end(tx: Transaction) -> int:
        row = tx.one("revoke_token", name=named, id=int(named) if named.isdecimal() and len(named) < 15 else 0)
        if row is None:
            raise NotFound(
                f"there is no token {named[:80]!r} that opens anything",
                hint="`orchestrion token list`",
                code="no_token",
            )
        tx.event("token.revoked", data={"token": row["name"]})
        return int(row["id"])

    gone = store.write(end)
    return next(one for one in listing(store) if one["id"] == gone)


def holder_of(store: Store, token: str) -> dict[str, Any]:
    """Name and role of a token that a caller showed. Raises InvalidInput (``unauthenticated``)."""
    row = store.read(lambda tx: tx.one("token_by_hash", hash=_hash(token)))
    if row is None or _status(row) != "valid":
        what = "is not known" if row is None else f"has {_status(row)}" if _status(row) == "expired" else "was revoked"
        raise InvalidInput(f"the token {what}", hint="`orchestrion token create` makes another", code="unauthenticated")
    if row["now"] - (row["used_at"] or 0) > _NOTED_MS:
        store.write(lambda tx: tx.put("use_token", id=row["id"]))
    return {"id": row["id"], "name": row["name"], "role": row["role"]}


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _status(row: Row) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    return "expired" if row["expires_at"] is not None and row["expires_at"] <= row["now"] else "valid"


def _shown(row: Row) -> dict[str, Any]:
    times = {key: iso(row[key]) for key in ("created_at", "expires_at", "revoked_at", "used_at")}
    return {
        "id": row["id"],
        "name": row["name"],
        "role": row["role"],
        "status": _status(row),
        "created_by": row["actor"],
        **times,
    }
