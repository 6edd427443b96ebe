"""How a browser comes in without anybody typing: a one-time link becomes a session, which ends at the server.

What the browser shows is random; the store has only its hash. So sessions outlive a restart of
the server, and a link that was followed once opens nothing again.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.ops import tokens
from orchestrion.store import Store, Transaction

#: A link can be followed for so long, a session lasts so long, in milliseconds.
LINK_MS, SESSION_MS = 3_600_000, 30 * tokens.DAY_MS


def link(store: Store) -> str:
    """What opens the page once, within an hour."""
    return store.write(lambda tx: _begin(tx, "link", LINK_MS))


def follow(store: Store, shown: str) -> str:
    """The session that a link opens. Raises InvalidInput (``link_used``)."""

    def write(tx: Transaction) -> str:
        if tx.one("follow_link", hash=_hash(shown)) is None:
            raise InvalidInput(
                "this address was opened before, or its hour is over",
                hint="`orchestrion open` makes another",
                code="link_used",
            )
        return _begin(tx, "session", SESSION_MS)

    return store.write(write)


def begin(store: Store, token: str) -> str:
    """The session of whoever shows a token. Raises InvalidInput (``unauthenticated``)."""
    holder = tokens.holder_of(store, token)
    return store.write(lambda tx: _begin(tx, "session", SESSION_MS, holder["id"]))


def visitor(store: Store, session: str) -> dict[str, Any] | None:
    """Name and role of the token that a session is of, both None if it is of the key; None: it is over."""
    row = store.read(lambda tx: tx.one("session_by_hash", hash=_hash(session)))
    return None if row is None else {"name": row["name"], "role": row["role"]}


def end(store: Store, session: str) -> None:
    """From now on the session opens nothing."""
    store.write(lambda tx: tx.run("end_login", hash=_hash(session)))


def _begin(tx: Transaction, kind: str, age_ms: int, token: int | None = None) -> str:
    tx.run("forget_logins")
    shown = secrets.token_urlsafe(32)
    tx.run("add_login", kind=kind, hash=_hash(shown), token=token, age_ms=age_ms)
    return shown


def _hash(shown: str) -> str:
    return hashlib.sha256(shown.encode("utf-8", "replace")).hexdigest()
