"""Sessions: sittings of clients, which group what was done and can be gone on with.

A client that names its own session (``external``) finds it again by that name, in any
process. A session ends when its client says so, or when somebody cleans up; what it
decided, changed and left for the next one stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrion.core.errors import NotFound
from orchestrion.core.rights import IN_A_SHELL, RUN, is_run
from orchestrion.core.values import check_choice, check_number, check_text, iso, name, number, number_named, readable
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: What can be cleaned up: ended sessions of which nothing is remembered, active ones that nobody saw for long, both
#: by when they were seen last, both by when they began.
CLEAN_UPS = ("completed", "orphaned", "all", "old")
DAY_MS = 86_400_000
#: A session that was seen within this time may have its client still: the servers of clients say so once a minute.
ALIVE_MS = 120_000
#: So begins what is said of a session that a clean-up ended.
CLEANED_UP = "ended by a clean-up"
#: Letters of a session's name, client and folder at most.
_LONGEST = 4096


class Cleaned(NamedTuple):
    """What a clean-up did, or would do: numbers of sessions."""

    ended: list[int]
    removed: list[int]


class Holder(NamedTuple):
    """A client that holds a task: alive or gone, nobody knows, but when it was seen is known."""

    #: As ``R3``, and ``T2``.
    run: str
    task: str
    actor: str
    #: As ``S1``; None: it has none.
    session: str | None
    #: Milliseconds, all of them.
    seen_at: int | None
    lease_until: int
    now: int
    #: Whether it is whoever asks.
    is_own: bool = False

    def seen(self) -> str:
        """How long ago its session was seen, in words; empty: it has none."""
        return f"seen {_ago(self.now - self.seen_at)}" if self.seen_at is not None else ""

    def said(self) -> str:
        """All of it in words, with how whoever asks goes on."""
        if self.is_own:
            return self.own()
        over = self.lease_until <= self.now
        lease = f"its lease {'ended' if over else 'ends'} at {iso(self.lease_until)}"
        take = f"`orchestrion claim {self.task}` takes {self.task}{'' if over else ' then'}"
        resume = f"{self.resuming()} goes on with it{IN_A_SHELL}" if self.session else ""
        who = ", ".join(filter(None, [f"{self.run} of {self.task} is held by {self.actor}", self.seen(), lease]))
        return f"{who}: {'; '.join(filter(None, [resume, take]))}"

    def resuming(self) -> str:
        """How its session is taken over."""
        return f"`orchestrion sessions {self.session} --resume`"

    def own(self) -> str:
        """How its holder goes on."""
        again = f"`orchestrion claim {self.task}` gives it again, with its brief"
        report = f"`orchestrion done {self.run} --summary TEXT` reports it"
        return f"{self.run} of {self.task} is yours: {again}; {report}"

    def as_json(self) -> dict[str, Any]:
        """The same as every door shows it."""
        return {
            "run": self.run,
            "task": self.task,
            "held_by": self.actor,
            "session": self.session,
            "session_seen_at": iso(self.seen_at),
            "lease_until": iso(self.lease_until),
            "lease_ended": self.lease_until <= self.now,
            "is_own": self.is_own,
            "said": self.said(),
        }


def _ago(ms: int) -> str:
    seconds = max(0, ms) // 1000
    return f"{seconds} s ago" if seconds < 120 else f"{seconds // 60} min ago"


def begin(
    tx: Transaction,
    *,
    called: str = "",
    client: str = "",
    external: str | None = None,
    folder: str = "",
    fresh: bool,
    last: Callable[[], int],
) -> tuple[int, bool]:
    """A session's number, and whether it was there before: that of ``external``, unless a ``fresh`` one is wanted.

    A new one is above ``last``, the highest that was given here: the store may be an older copy.
    """
    for what, text in (("name", called), ("client", client), ("session", external or ""), ("folder", folder)):
        check_text(what, text)
        check_number(f"{what}_length", len(text), 0, _LONGEST)
    called = tx.said(called)
    known = tx.one("session_by_external", external=external) if external else None
    if known and not fresh:
        go_on(tx, known["id"])
        if called:
            tx.put("name_session", id=known["id"], name=called)
        return int(known["id"]), True
    if known:
        tx.put("end_session", id=known["id"], summary=None)
        tx.put("release_external", id=known["id"])
    if given := last():
        tx.run("sessions_begin", last=given)
        tx.run("sessions_follow", last=given)
    row = tx.the("add_session", name=called, client=client, external=external or None, folder=folder)
    called = name("S", row["id"])
    tx.event("session.started", session=called, data={"session": called, "client": client})
    return int(row["id"]), False


def go_on(tx: Transaction, session: int) -> Row:
    """A session is active again, or still. Raises NotFound."""
    before = of(tx, session)
    tx.put("session_goes_on", id=session, cleaned_up=f"{CLEANED_UP}%")
    if before["state"] == "ended":
        tx.event("session.resumed", data={"session": name("S", session)})
    return of(tx, session)


def warning(tx: Transaction, session: int) -> str:
    """What to know before working in a session of a client that was seen a moment ago; empty: nobody else is there."""
    row = of(tx, session)
    since = tx.the("clock")["now"] - row["seen_at"]
    is_own = current(tx) == session
    if is_own or row["state"] != "active" or since > ALIVE_MS:
        return ""
    who = f"{row['client'] or 'a client'}{f' ({external})' if (external := row['external']) else ''}"
    return f"{name('S', session)} was seen {_ago(since)} by {who}, which may be at work in it still"


def current(tx: Transaction) -> int | None:
    """The session that the transaction's origin names, if this project knows it."""
    return named(tx, tx.origin.session or "")


def named(tx: Transaction, text: str) -> int | None:
    """The session that a text names; None: this project has no such one."""
    one = number_named(text, "S")
    row = tx.one("session", id=one) if one else None
    return int(row["id"]) if row else None


def is_of_run(tx: Transaction, session: int, run: int) -> bool:
    """Whether a run began a session, or an earlier attempt at its task did, with whose agent it goes on."""
    called = name("S", session)
    line = tx.one("session_began", session=called)
    began = number_named(line["actor"].removeprefix(RUN), "R") if line and is_run(line["actor"]) else None
    if line is None or began is None or readable(line, f"event {line['id']}", "data")["data"].get("session") != called:
        return False
    before, now = tx.one("run", id=began), tx.one("run", id=run)
    return before is not None and now is not None and before["task"] == now["task"]


def touch(tx: Transaction, session: int | None) -> None:
    """A sign of life of a session, if there is one and it is active."""
    if session is not None:
        tx.put("touch_session", id=session)


def end(tx: Transaction, session: int, summary: str | None = None) -> Row:
    """The client is gone; ``summary`` is what it said. Ending a session again changes nothing. Raises NotFound."""
    check_text("summary", summary or "")
    before = of(tx, session)
    if before["state"] == "active":
        tx.put("end_session", id=session, summary=summary)
        tx.event("session.ended", data={"session": name("S", session)})
    return of(tx, session)


def of(tx: Transaction, session: int) -> Row:
    """One session. Raises NotFound."""
    row = tx.one("session", id=session)
    if row is None:
        raise NotFound(
            f"there is no session {name('S', session)}",
            hint="`orchestrion sessions --all` shows the sessions",
            code="no_session",
        )
    return row


def has_ended(tx: Transaction, session: int) -> bool:
    """Whether a session is over. Raises NotFound."""
    return bool(of(tx, session)["state"] == "ended")


def session_of(run: Row) -> str | None:
    """The session of the client that holds a run, as ``S3``; None: it has none, or a supervisor looks after the run."""
    conversation = str(run["actor"]).partition("/")[2]
    return conversation if not run["supervised"] and number_named(conversation, "S") else None


def holder(tx: Transaction, run: Row, *, is_own: bool = False) -> Holder:
    """Who holds a run that a client took, and when they were seen last; ``is_own``: whether it is whoever asks."""
    called = session_of(run)
    row = tx.one("session", id=number(called, "S")) if called else None
    return Holder(
        run=name("R", run["id"]),
        task=name("T", run["task"]),
        actor=run["actor"],
        session=called if row else None,
        seen_at=row["seen_at"] if row else None,
        lease_until=run["lease_until"],
        now=run["now"],
        is_own=is_own,
    )


def listing(tx: Transaction, *, include_ended: bool, limit: int, offset: int = 0) -> tuple[list[Row], int]:
    """Sessions, those seen last first, and how many there are."""
    state = None if include_ended else "active"
    rows = tx.all("list_sessions", state=state, limit=limit, offset=offset or None)
    return rows, int(tx.the("count_sessions", state=state)["total"])


def clean_up(tx: Transaction, kind: str, older_than_days: float, *, dry_run: bool) -> Cleaned:
    """Ends active sessions that nobody saw for so long; removes ended ones of which nothing is remembered.

    The session from which the call comes goes on in any case.
    """
    check_choice("kind", kind, CLEAN_UPS)
    check_number("older_than_days", older_than_days, 0, 36_500)
    age = {"age_ms": int(older_than_days * DAY_MS), "by_start": 1 if kind == "old" else 0}
    own = current(tx)
    silent = [] if kind == "completed" else [row for row in tx.all("sessions_to_end", **age) if row["id"] != own]
    ended = [int(row["id"]) for row in silent]
    removed = [] if kind == "orphaned" else [int(row["id"]) for row in tx.all("sessions_to_remove", **age)]
    if not dry_run:
        for row in silent:
            end(tx, int(row["id"]), f"{CLEANED_UP}; last seen {iso(row['seen_at'])}")
        tx.each("remove_session", [{"id": session} for session in removed])
    return Cleaned(ended, removed)


def as_json(row: Row) -> dict[str, Any]:
    """A session as every door shows it."""
    return {
        "id": name("S", row["id"]),
        "name": row["name"],
        "client": row["client"],
        "external": row["external"],
        "folder": row["folder"],
        "state": row["state"],
        "started_at": iso(row["started_at"]),
        "seen_at": iso(row["seen_at"]),
        "ended_at": iso(row["ended_at"]),
        "summary": row["summary"],
    }
