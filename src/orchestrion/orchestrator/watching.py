"""Use cases for whoever watches over a project: what asks for attention, and numbers for a monitor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from orchestrion import __version__
from orchestrion.core.errors import InvalidInput
from orchestrion.core.model import iso, name
from orchestrion.core.states import RunState
from orchestrion.ops import alerts, leases, traces
from orchestrion.ops.alerts import Change, Finding
from orchestrion.ops.telemetry import Exporter
from orchestrion.orchestrator.finding import bounded
from orchestrion.orchestrator.guarding import GuardingCases
from orchestrion.orchestrator.judging import ODD
from orchestrion.orchestrator.metrics import moment_or_age, quantiles
from orchestrion.store import Transaction
from orchestrion.store.store import Row

DAY_MS = 86_400_000
#: So many late tasks are looked at.
_LATE = 1000
#: So many tasks, the latest, count for service levels.
_WAITS = 20_000
#: Who sends traces is the only one for so long, in seconds.
_TRACES, _TRACES_S = "traces", 60.0
#: Who looks is the only one for so many rounds, in case it dies.
_ROUNDS = 3


class WatchingCases(GuardingCases):
    """Watching over a project."""

    # -- alerts -------------------------------------------------------------------------------

    def look_for_alerts(self) -> list[Change]:
        """Looks at all rules, unless another process does; opens, closes and tells alerts. What changed."""
        if not leases.take(self.store, alerts.LEASE, self.host.process(), _ROUNDS * self.config["alerts.every_s"]):
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

    def service_levels(self, *, since: str = "7d") -> dict[str, Any]:
        """How long tasks of each role took from ready to completed, against ``alerts.sla``: ``since``, ``levels``.

        Of those completed since then: ``completed``, ``p50_s`` and ``p95_s``, and ``within``, the share that kept
        the limit (None without one). Of open ones: ``open``, ``late``, and ``oldest_s``. Raises InvalidInput.
        """

        def read(tx: Transaction) -> dict[str, Any]:
            start = moment_or_age(since, int(tx.the("clock")["now"]))
            rows = tx.all("waits_by_role", since=start, limit=_WAITS)
            limits = self.config["alerts.sla"]
            roles = sorted({row["role"] for row in rows} | set(limits))
            levels = [_level(role, limits.get(role), [row for row in rows if row["role"] == role]) for role in roles]
            return {"since": iso(start), "levels": levels}

        return self.store.read(read)

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

    # -- traces -------------------------------------------------------------------------------

    @cached_property
    def collector(self) -> Exporter | None:
        """Who takes traces; None: nobody. Raises EnvironmentProblem if what that needs is not installed."""
        endpoint = self.config["telemetry.endpoint"]
        if not endpoint:
            return None
        if not endpoint.startswith(("http://", "https://")):
            raise InvalidInput(
                f"telemetry.endpoint is no address: {endpoint[:80]!r}",
                hint="for example http://localhost:4318",
                code="invalid_endpoint",
            )
        return Exporter(endpoint, self.store.project_name, __version__)

    def send_traces(self) -> int:
        """Sends what ended since the last time, unless another process does. How many spans.

        Raises EnvironmentProblem (``collector_away``); then they are sent the next time.
        """
        collector = self.collector
        # A project in which nothing happens is read only.
        if collector is None or self._ended()[1] is None:
            return 0
        if not leases.take(self.store, _TRACES, self.host.process(), _TRACES_S):
            return 0
        sent = 0
        while True:
            spans, upto = self._ended()
            if upto is None:
                return sent
            if spans:
                collector.send(spans)
            self.store.write(lambda tx, line=upto: traces.note_sent(tx, line))  # type: ignore[misc]
            sent += len(spans)

    def _ended(self) -> tuple[list[traces.Span], int | None]:
        return self.store.read(lambda tx: traces.next_ones(tx, self.store.uuid))

    # -- numbers for a monitor ------------------------------------------------------------------

    def measures(self) -> dict[str, Any]:
        """Counts for a monitor: ``health``, ``levels`` by role, ``runs`` by agent and state with what
        they took, ``alerts`` by rule."""

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

        try:
            levels = self.service_levels()["levels"]
        except ODD:
            if self.store.odd_row() is None:
                raise
            levels = []  # health names the row
        return {"health": self.health(), "levels": levels, **self.store.read(read)}


def _level(role: str, limit_min: float | None, rows: Sequence[Row]) -> dict[str, Any]:
    """The service level of one role."""
    took = [row["ms"] / 1000 for row in rows if row["completed_at"] is not None]
    waits = [row["ms"] / 1000 for row in rows if row["completed_at"] is None]
    limit_s = None if limit_min is None else limit_min * 60
    kept = [value for value in took if limit_s is not None and value <= limit_s]
    spread = quantiles(took)
    return {
        "role": role,
        "limit_s": limit_s,
        "completed": len(took),
        "p50_s": spread["p50"],
        "p95_s": spread["p95"],
        "within": round(len(kept) / len(took), 4) if took and limit_s is not None else None,
        "open": len(waits),
        "late": sum(limit_s is not None and value > limit_s for value in waits),
        "oldest_s": round(max(waits), 3) if waits else None,
    }


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
