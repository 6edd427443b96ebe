"""Requests that may be sent twice and are done once: their sender gives each a key, and the answer is kept.

A request that was begun and has no answer is still being done, or whoever did it is gone. Then
the journal knows: if anything was written under the request's correlation id, it was done and
only its answer is lost, which is said; if nothing was, it is done now.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrion.core.errors import Conflict, InvalidInput
from orchestrion.core.model import name
from orchestrion.store import Store, Transaction
from orchestrion.store.store import Row

#: Answers are kept for so long, in milliseconds: a day.
KEPT_MS = 86_400_000
#: Whoever does a request on another machine is gone when it took so long, in milliseconds.
GONE_MS = 900_000
#: A longer answer is not kept, in characters; who asks again is told that it was done.
ANSWER_LIMIT = 1_000_000
_KEY = re.compile(r"[\x21-\x7e]{1,100}")


@dataclass(frozen=True)
class Sent:
    """A request, as its sender marked it."""

    actor: str
    #: The sender's key.
    label: str
    #: Hash of what was asked: the same key for something else is a mistake.
    fingerprint: str
    #: Who does it now: host, process and when that began.
    holder: str
    #: Under which the journal has what it does.
    correlation: str


@dataclass(frozen=True)
class Kept:
    """An answer that was given before."""

    status: int
    media: str
    body: str


def check_key(key: str) -> None:
    """Refuses a key that is none."""
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            f"Idempotency-Key {key[:60]!r} is not a key",
            hint="1 to 100 printable ASCII characters, for example a UUID",
            code="invalid_key",
        )


def begin(store: Store, sent: Sent, is_gone: Callable[[str, int], bool]) -> Kept | None:
    """The answer of before, or None: do it now.

    ``is_gone`` says whether a holder is gone, given for how many milliseconds it has been at it.
    Raises InvalidInput (``key_reused``), Conflict (``in_progress``, ``already_done``).
    """
    facts = {
        "actor": sent.actor,
        "label": sent.label,
        "fingerprint": sent.fingerprint,
        "holder": sent.holder,
        "correlation": sent.correlation,
    }

    def enter(tx: Transaction) -> Row | None:
        if tx.one("begin_request", **facts) is not None:
            return None
        before = tx.the("request", actor=sent.actor, label=sent.label)
        if before["fingerprint"] == sent.fingerprint and before["status"] is None:
            _take_over(tx, sent, before, is_gone)
            return None
        return before

    before = store.write(enter)
    if before is None:
        return None
    if before["fingerprint"] != sent.fingerprint:
        raise InvalidInput(
            f"the key {sent.label!r} was used for another request",
            hint="a key belongs to one request; choose a new one",
            code="key_reused",
        )
    return Kept(before["status"], before["media"], before["body"])


def _take_over(tx: Transaction, sent: Sent, before: Row, is_gone: Callable[[str, int], bool]) -> None:
    if not is_gone(before["holder"], before["now"] - before["at"]):
        raise Conflict(
            f"the request with the key {sent.label!r} is being done",
            hint="ask again in a moment, with the same key",
            code="in_progress",
            retry_after_s=1.0,
        )
    refuse_done(tx, sent.label, before["correlation"])
    tx.put(
        "take_over_request",
        actor=sent.actor,
        label=sent.label,
        before=before["holder"],
        holder=sent.holder,
        correlation=sent.correlation,
    )


def refuse_done(tx: Transaction, label: str, correlation: str) -> None:
    """Raises Conflict (``already_done``) if the journal has anything under a correlation id."""
    lines = tx.all("done_under", correlation=correlation)
    if not lines:
        return
    things: dict[str, Any] = {
        "tasks": sorted({name("T", row["task"]) for row in lines if row["task"]}),
        "runs": sorted({name("R", row["run"]) for row in lines if row["run"]}),
        "events": sorted({row["kind"] for row in lines}),
    }
    raise Conflict(
        f"the request with the key {label!r} was done, but its answer is lost",
        hint="look at what it did; do not send it again",
        code="already_done",
        **things,
    )


def finish(store: Store, sent: Sent, answer: Kept) -> None:
    """Keeps the answer of a request that succeeded."""
    if len(answer.body) > ANSWER_LIMIT:
        return
    store.write(
        lambda tx: tx.put(
            "finish_request",
            actor=sent.actor,
            label=sent.label,
            holder=sent.holder,
            status=answer.status,
            media=answer.media,
            body=answer.body,
        )
    )


def give_up(store: Store, sent: Sent) -> None:
    """A request that was refused may be sent anew with its key, unless it did something all the same."""

    def drop(tx: Transaction) -> None:
        if not tx.all("done_under", correlation=sent.correlation):
            tx.put("drop_request", actor=sent.actor, label=sent.label, holder=sent.holder)

    store.write(drop)


def forget(store: Store) -> int:
    """Drops answers that nobody asks for any more; how many."""
    return store.write(lambda tx: tx.run("forget_requests", age_ms=KEPT_MS))
