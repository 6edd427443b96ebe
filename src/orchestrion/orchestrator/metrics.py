"""Use cases about numbers: what runs took, used and cost; single runs for export; what was wrong, made right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from orchestrion.core import private
from orchestrion.core.errors import InvalidInput
from orchestrion.core.model import LAST_MOMENT, TOKENS, Run, iso, moment, name, number, seconds_between
from orchestrion.core.states import ACTIVE_RUN, RunState
from orchestrion.core.values import readable
from orchestrion.orchestrator.finding import plan_named
from orchestrion.orchestrator.landing import LandingCases
from orchestrion.scheduler import meter
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Runs and their metrics are read in pages of this size.
PAGE = 500
_AGE = re.compile(r"([0-9]{1,6})(s|min|h|d|w)", re.ASCII)
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
#: Ways to end that say nothing about the work: a person ended it.
_STOPPED = (RunState.KILLED,)


class MetricCases(LandingCases):
    """What can be asked about the numbers of runs, and done about them."""

    def stats(
        self, *, since: str | None = None, agent: str | None = None, role: str | None = None, plan: str | None = None
    ) -> dict[str, Any]:
        """Success, durations, queue wait, turns, tokens and cost: of all runs, and by agent, role and plan.

        ``since`` is a time or an age (``24h``); runs that were claimed earlier do not count.
        Raises InvalidInput, NotFound (no such plan).
        """

        def read(tx: Transaction) -> dict[str, Any]:
            asked = self._asked(tx, since, agent, role, plan)
            rows = tx.all("measured_runs", **asked)
            now = int(tx.the("clock")["now"])
            return {
                "since": iso(asked["since"]),
                "until": iso(now),
                **figures(rows),
                "tools": _tools(rows),
                "by_agent": _by(rows, "agent", lambda row: row["agent"] or None),
                "by_role": _by(rows, "role", lambda row: row["role"] or None),
                "by_plan": _by(rows, "plan", lambda row: row["plan_name"]),
            }

        return self.store.read(read)

    def all_runs(
        self, *, since: str | None = None, agent: str | None = None, role: str | None = None, plan: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every run as ``runs`` shows it, with its plan and title; oldest first. Raises what ``stats`` raises."""
        for row in self._pages("runs_forward", self.store.read(lambda tx: self._asked(tx, since, agent, role, plan))):
            yield {**Run(row).as_json(), "plan": row["plan_name"], "title": row["title"]}

    def metric_events(
        self, *, since: str | None = None, agent: str | None = None, role: str | None = None, plan: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every difference that the numbers of runs are made of, as it was told. Raises what ``stats`` raises."""
        for row in self._pages("metrics", self.store.read(lambda tx: self._asked(tx, since, agent, role, plan))):
            yield _metric(row)

    def correct(self, run: str, changes: Mapping[str, float], reason: str) -> Run:
        """Says what a run really used, by field; old, new, who and why are kept. Raises NotFound, InvalidInput."""
        one = number(run, "R")
        if not changes:
            raise InvalidInput("a correction names what is wrong", hint="for example turns=12", code="invalid_metric")

        def corrected(tx: Transaction) -> Run:
            for field, new in changes.items():
                meter.correct(tx, one, field=field, new=new, reason=reason)
            return Run(tx.the("run", id=one))

        return self.store.write(corrected)

    def reconcile(
        self, *, since: str | None = None, agent: str | None = None, role: str | None = None, plan: str | None = None
    ) -> dict[str, Any]:
        """Reads the logs of this machine's ended runs again, and adds what the store had missed of them.

        The sums are made again too. Returns ``{"read": how many logs, "mended": [runs], "bent": [runs]}``; no log that
        was bent is read.
        """
        from orchestrion.runs import launch, order, reckoning

        asked = self.store.read(lambda tx: self._asked(tx, since, agent, role, plan))
        read = 0
        mended: list[str] = []
        bent: list[str] = []
        for row in self._pages("runs_forward", asked):
            place = order.folder(self.project.store_dir, row["id"])
            mine = row["supervised"] and self.has_left(row) and (place / "log.jsonl").exists()
            over = row["state"] not in ACTIVE_RUN and not launch.is_supervised(place)
            found = False
            if mine and over:
                try:
                    found = reckoning.reconcile(self.store, row["id"], place / "log.jsonl", reckoning.begin_again)
                    read += 1
                except private.NotPlain:
                    bent.append(name("R", row["id"]))
            if self.store.write(lambda tx, one=row["id"]: meter.rebuild(tx, one)) or found:  # type: ignore[misc]
                mended.append(name("R", row["id"]))
        return {"read": read, "mended": mended, "bent": bent}

    def _asked(
        self, tx: Transaction, since: str | None, agent: str | None, role: str | None, plan: str | None
    ) -> dict[str, Any]:
        """Filters as the statements take them."""
        if plan is not None:
            plan_named(tx, plan)
        start = None if since is None else moment_or_age(since, int(tx.the("clock")["now"]))
        return {"since": start, "agent": agent, "role": self.role_name(role) if role else None, "plan": plan}

    def _pages(self, statement: str, asked: Mapping[str, Any]) -> Iterator[Row]:
        """Rows of a long list, page by page: whoever prints them slowly keeps nobody from writing."""
        last = 0
        while rows := self._page(statement, last, asked):
            yield from rows
            last = rows[-1]["id"]

    def _page(self, statement: str, after: int, asked: Mapping[str, Any]) -> Sequence[Row]:
        return self.store.read(lambda tx: tx.all(statement, after=after, limit=PAGE, **asked))


def moment_or_age(text: str, now: int) -> int:
    """A time as ISO 8601, or how long ago: ``90s``, ``30min``, ``24h``, ``7d``, ``2w``; of the years 1970 to 9999."""
    age = _AGE.fullmatch(text.strip())
    if age:
        return max(0, now - round(timedelta(**{_UNITS[age[2]]: int(age[1])}).total_seconds() * 1000))
    try:
        return max(0, min(LAST_MOMENT, moment(text.strip())))
    except InvalidInput as error:
        error.hint = "write ISO 8601, for example 2026-11-20T18:00:00Z, or how long ago: 90s, 30min, 24h, 7d, 2w"
        raise


def _by(rows: Sequence[Row], noun: str, key: Callable[[Row], str | None]) -> list[dict[str, Any]]:
    """The figures of each group, the one with most runs first."""
    groups: dict[str | None, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0] or ""))
    return [{noun: one, **figures(members)} for one, members in ordered]


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """What some runs came to: success, durations, waits, turns, tokens and cost."""
    states = Counter(row["state"] for row in rows)
    ended = [row for row in rows if row["ended_at"] is not None]
    judged = sum(count for state, count in states.items() if state not in (*ACTIVE_RUN, *_STOPPED))
    return {
        "runs": len(rows),
        "active": len(rows) - len(ended),
        "states": {str(state): states[state] for state in RunState if states[state]},
        # Of those that ended by themselves: a run that a person stopped neither succeeded nor failed.
        "success_rate": round(states[RunState.SUCCEEDED] / judged, 4) if judged else None,
        "duration_s": quantiles(
            seconds_between(row["started_at"] or row["claimed_at"], row["ended_at"]) for row in ended
        ),
        "queue_wait_s": quantiles(
            seconds_between(row["queued_at"], row["claimed_at"]) for row in rows if row["queued_at"] is not None
        ),
        "turns": _sum(row["turns"] for row in rows),
        "tokens": {kind: _sum(row[f"tokens_{kind}"] for row in rows) for kind in TOKENS},
        "cost_usd": _sum(row["cost_usd"] for row in rows),
        "runs_without_cost": sum(row["cost_usd"] is None for row in rows),
    }


def quantiles(seconds: Iterable[float]) -> dict[str, float | None]:
    """``p50`` and ``p95`` by nearest rank: the smallest value that so many of a hundred do not exceed."""
    values = sorted(max(0.0, value) for value in seconds)
    return {f"p{share}": round(values[-(-len(values) * share // 100) - 1], 3) if values else None for share in (50, 95)}


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    total = sum(known)
    return (round(total, 9) if isinstance(total, float) else total) if known else None


def _tools(rows: Sequence[Row]) -> dict[str, int]:
    """How often each tool was called, the most used first."""
    called: Counter[str] = Counter()
    for row in rows:
        if row["tools"] != "{}":
            called.update(readable(row, name("R", row["id"]), "tools")["tools"])
    return dict(sorted(called.items(), key=lambda one: (-one[1], one[0])))


def _shown(row: Row, column: str) -> Any:
    return readable(row, name("R", row["run"]), column)[column]


def _metric(row: Row) -> dict[str, Any]:
    correction = {"field": row["field"], "reason": row["reason"]}
    for word in ("old", "new"):
        value = row[f"{word}_value"]
        correction[word] = None if value is None else _shown(row, f"{word}_value")
    return {
        "id": row["id"],
        "run": name("R", row["run"]),
        "task": name("T", row["task"]),
        "plan": row["plan_name"],
        "agent": row["agent"],
        "role": row["role"],
        "at": iso(row["at"]),
        "source": row["source"],
        "actor": row["actor"],
        "session_id": row["session_id"],
        "model": row["model"],
        "turns": row["turns"],
        "tokens": {kind: row[f"tokens_{kind}"] for kind in TOKENS},
        "cost_usd": row["cost_usd"],
        **readable(row, name("R", row["run"]), "tools"),
        "correction": correction if row["field"] else None,
    }
