"""Use cases for whoever watches over a project: what asks for attention, and numbers for a monitor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.core.model import iso, name
from orchestrion.core.states import RunState
from orchestrion.ops import alerts, leases
from orchestrion.ops.alerts import Change, Finding
from orchestrion.orchestrator.finding import bounded
from orchestrion.orchestrator.guarding import GuardingCases
from orchestrion.store import Transaction

DAY_MS = 86_400_000
#: So many late tasks are looked at.
_LATE = 1000
#: Who looks is the only one for so many rounds, in case it dies.
_ROUNDS = 3


class WatchingCases(GuardingCases):
    """Watching over a project."""

    # -- alerts -------------------------------------------------------------------------------

    def look_for_alerts(self) -> list[Change]:
        """Looks at all rules, unless another process does; opens, closes and tells alerts. What changed."""
        holder = f"{socket.gethostname()}/{os.getpid()}"
        if not leases.take(self.store, alerts.LEASE, holder, _ROUNDS * self.config["alerts.every_s"]):
            return []
        changes = alerts.settle(self.store, self._findings())
        for change in changes:
            alerts.tell(self.store, change, self.config["alerts.command"], self.config["alerts.webhook"], self.environ)
        return changes

    def alerts(self, *, unclosed: bool = False, limit: int = 20, cursor: str | None = None) -> dict[str, Any]:
        """What asks, or asked, for attention, the latest first: ``alerts``, ``total``, ``next_cursor``."""
        bound = bounded(limit)
        if cursor is not None and not (cursor.isdecimal() and len(cursor) < 18):
            raise InvalidInput(f"{cursor[:60]!r} is no cursor", hint="use next_cursor of a page", code="invalid_cursor")
        before = int(cursor) if cursor else None
        rows, total = alerts.history(self.store, unclosed=unclosed, before=before, limit=bound + 1)
        more = str(rows[bound - 1]["id"]) if len(rows) > bound else None
        return {"alerts": [alerts.as_json(row) for row in rows[:bound]], "total": total, "next_cursor": more}

    def forget_alerts(self) -> int:
        """Drops alerts that are over long since; how many."""
        return alerts.forget(self.store)

    def _findings(self) -> Iterator[Finding]:
        health = self.health()
        yield from _unwell(health)
        yield from self._little_space(health)
        yield from self._late()
        yield from self._many_failures()
        yield from self._money()

    def _little_space(self, health: Mapping[str, Any]) -> Iterator[Finding]:
        least = 1e9 * self.config["alerts.disk_gb"]
        for what, free in health["components"].get("disk", {}).get("free_bytes", {}).items():
            if free < least:
                yield Finding("disk", what, f"{free / 1e9:.2f} GB free for {what}")

    def _late(self) -> Iterator[Finding]:
        limits = self.config["alerts.sla"]
        if not limits:
            return
        rows = self.store.read(lambda tx: tx.all("late_tasks", roles=list(limits), limit=_LATE))
        for row in rows:
            waited = (row["now"] - row["ready_at"]) / 60_000
            if waited > limits[row["role"]]:
                said = (
                    f"{row['title'][:80]}: {row['state']} {waited:.0f} min after it was ready; "
                    f"{row['role']} has {limits[row['role']]:g}"
                )
                yield Finding("sla", name("T", row["id"]), said)

    def _many_failures(self) -> Iterator[Finding]:
        rows = self.store.read(lambda tx: tx.all("ended_since", age_ms=DAY_MS))
        ended = {row["state"]: row["total"] for row in rows if row["state"] != RunState.KILLED}
        total = sum(ended.values())
        failed = total - ended.get(RunState.SUCCEEDED, 0)
        if total >= self.config["alerts.failure_runs"] and failed >= self.config["alerts.failure_share"] * total:
            yield Finding("failures", "runs", f"{failed} of {total} runs of the last day failed")

    def _money(self) -> Iterator[Finding]:
        found, share = self.status()["budget"], self.config["alerts.budget_share"]
        if found is None:
            return
        accounts = [("day", found["day"])] if found["day"] else []
        accounts += [(one["plan"], one) for one in found["plans"]]
        for subject, one in accounts:
            if one["spent_usd"] >= share * one["limit_usd"]:
                yield Finding("budget", subject, f"${one['spent_usd']:.2f} of ${one['limit_usd']:g} are spent")

    # -- numbers for a monitor ------------------------------------------------------------------

    def measures(self) -> dict[str, Any]:
        """Counts for a monitor: ``health``, ``runs`` by agent and state with what they took, ``alerts`` by rule."""

        def read(tx: Transaction) -> dict[str, Any]:
            open_ones = tx.all("open_alerts", limit=alerts.MOST)
            return {
                "runs": [dict(row) for row in tx.all("run_totals")],
                "alerts": {
                    rule: sum(row["rule"] == rule for row in open_ones) for rule in {row["rule"] for row in open_ones}
                },
                "journal": int(tx.the("last_event")["id"]),
                "at": iso(tx.the("clock")["now"]),
            }

        return {"health": self.health(), **self.store.read(read)}


def _unwell(health: Mapping[str, Any]) -> Iterator[Finding]:
    """Runs that are stuck or silent, breakers that are open, parts that do not work."""
    for run in health.get("runs", {}).get("runs", []):
        if run["status"] in ("stuck", "silent"):
            said = f"{run['status']}; waits for {run['awaits']}; last sign of life {run['last_sign_of_life']}"
            yield Finding("stuck", run["run"], said)
    for one in health["components"].get("breakers", {}).get("breakers", []):
        yield Finding("breaker", one["agent"], f"{one['state']} after {one['failures']} failures ({one['code']})")
    for part, found in health["components"].items():
        if found["status"] == "unhealthy":
            yield Finding("health", part, found["said"])
