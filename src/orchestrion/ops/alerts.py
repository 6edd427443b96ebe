"""Alerts: what asks for attention, noticed once, told once, and kept.

A rule and its subject make an alert. It is open as long as the rule finds the subject, and is
told when it opens and when it closes: to the log by whoever looks, to a command on its input,
to an address as JSON. What could not be told is tried again a few times, and how that went is kept.
"""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrion.core.model import iso
from orchestrion.core.values import readable
from orchestrion.store import Store, Transaction
from orchestrion.store.store import Row

#: Whoever looks for alerts is the only one.
LEASE = "alerts"
#: Attempts to tell somebody.
TRIES = 3
#: A command or an address gets so long, in seconds.
PATIENCE_S = 15.0
#: Alerts that are open at the same time at most; the rest shows when these are over.
MOST = 500
#: Closed alerts are kept for so long, in milliseconds: 90 days.
KEPT_MS = 90 * 86_400_000


@dataclass(frozen=True)
class Finding:
    """What a rule found."""

    #: stuck, sla, failures, breaker, disk, budget or health.
    rule: str
    #: What it is about: ``R31``, ``T12``, the name of an agent, a plan or a part.
    subject: str
    #: In a line.
    said: str


@dataclass(frozen=True)
class Change:
    """An alert that opened or closed."""

    id: int
    rule: str
    subject: str
    said: str
    #: ``opened`` or ``closed``.
    what: str
    at: str

    def as_json(self) -> dict[str, Any]:
        """What a command or an address is given."""
        return {
            "alert": self.id,
            "rule": self.rule,
            "subject": self.subject,
            "said": self.said,
            "what": self.what,
            "at": self.at,
        }


def settle(store: Store, findings: Iterable[Finding]) -> list[Change]:
    """Opens an alert for each finding that has none, closes those that nobody finds any more."""
    found = {(one.rule, one.subject): one for one in list(findings)[:MOST]}

    def write(tx: Transaction) -> list[Change]:
        before = {(row["rule"], row["subject"]): row for row in tx.all("open_alerts", limit=2 * MOST)}
        changes = [_opened(tx, one) for key, one in found.items() if key not in before]
        for key in found.keys() & before.keys():
            tx.put("see_alert", rule=key[0], subject=key[1], said=found[key].said)
        changes += [_closed(tx, row) for key, row in before.items() if key not in found]
        return [change for change in changes if change is not None]

    return store.write(write)


def _opened(tx: Transaction, one: Finding) -> Change | None:
    row = tx.one("open_alert", rule=one.rule, subject=one.subject, said=one.said)
    if row is None:
        return None
    tx.event("alert.opened", data={"alert": row["id"], "rule": one.rule, "subject": one.subject})
    return Change(row["id"], one.rule, one.subject, one.said, "opened", iso(row["opened_at"]) or "")


def _closed(tx: Transaction, row: Row) -> Change:
    tx.put("close_alert", id=row["id"])
    tx.event("alert.closed", data={"alert": row["id"], "rule": row["rule"], "subject": row["subject"]})
    now = tx.the("clock")["now"]
    return Change(row["id"], row["rule"], row["subject"], row["said"], "closed", iso(now) or "")


def tell(store: Store, change: Change, command: str | None, webhook: str | None, environ: Mapping[str, str]) -> None:
    """Tells a change to a command and an address, if there are any, and keeps how that went."""
    told = []
    if command:
        told.append({"to": "command", "what": change.what, **_tried(lambda: _by_command(command, change, environ))})
    if webhook:
        told.append({"to": "webhook", "what": change.what, **_tried(lambda: _by_webhook(webhook, change))})
    if told:
        store.write(lambda tx: _keep(tx, change.id, told))


def _tried(act: Any) -> dict[str, Any]:
    error = ""
    for attempt in range(1, TRIES + 1):
        error = act()
        if not error:
            return {"ok": True, "tries": attempt}
    return {"ok": False, "tries": TRIES, "error": error}


def _by_command(command: str, change: Change, environ: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            input=json.dumps(change.as_json()) + "\n",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            env=dict(environ),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:300]
    return f"exit code {done.returncode}: {done.stderr.strip()[-200:]}" if done.returncode else ""


def _by_webhook(address: str, change: Change) -> str:
    if not address.startswith(("http://", "https://")):
        return "the address does not begin with http:// or https://"
    request = urllib.request.Request(
        address, json.dumps(change.as_json()).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            answer.read(1)
    except (OSError, ValueError, urllib.error.URLError) as error:
        return str(error)[:300]
    return ""


def _keep(tx: Transaction, alert: int, told: list[dict[str, Any]]) -> None:
    row = next((one for one in tx.all("alerts", before=alert + 1, limit=1) if one["id"] == alert), None)
    before = readable(row, f"alert {alert}", "told")["told"] if row else []
    tx.put("tell_alert", id=alert, told=json.dumps([*before, *told]))


def history(store: Store, *, unclosed: bool, before: int | None, limit: int) -> tuple[list[Row], int]:
    """Alerts, the latest first, and how many there are in all."""
    only = 1 if unclosed else None
    return store.read(
        lambda tx: (
            tx.all("alerts", before=before, unclosed=only, limit=limit),
            int(tx.the("count_alerts", unclosed=only)["total"]),
        )
    )


def as_json(row: Row) -> dict[str, Any]:
    """An alert, for every door."""
    return {
        "id": row["id"],
        "rule": row["rule"],
        "subject": row["subject"],
        "said": row["said"],
        "opened_at": iso(row["opened_at"]),
        "seen_at": iso(row["seen_at"]),
        "closed_at": iso(row["closed_at"]),
        **readable(row, f"alert {row['id']}", "told"),
    }


def forget(store: Store) -> int:
    """Drops alerts that are over long since; how many."""
    return store.write(lambda tx: tx.run("forget_alerts", age_ms=KEPT_MS))
