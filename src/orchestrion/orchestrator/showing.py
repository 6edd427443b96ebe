"""Use cases for whoever watches a screen: the board, the timeline, the log as it grows, files, how it went over time.

Everything here is bounded by the database, so a board of 10,000 tasks costs no more to draw
than one of 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrion.core.model import TOKENS, all_tokens, check_choice, check_number, iso, name, number
from orchestrion.core.states import TaskState
from orchestrion.core.values import number_named
from orchestrion.memory import context
from orchestrion.orchestrator.finding import bounded, pattern_of
from orchestrion.orchestrator.maintaining import MaintenanceCases
from orchestrion.orchestrator.metrics import figures, moment_or_age
from orchestrion.scheduler import breaker, overlap, permissions
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Columns of the board: the states that belong to each, and in what order it shows them.
COLUMNS: dict[str, tuple[tuple[TaskState, ...], str]] = {
    "needs": ((TaskState.REVIEW, TaskState.BLOCKED, TaskState.FAILED), "urgent"),
    "ready": ((TaskState.READY,), "ranked"),
    "working": ((TaskState.IN_PROGRESS,), "oldest"),
    "waiting": ((TaskState.PENDING, TaskState.RETRYING), "oldest"),
    "done": ((TaskState.COMPLETED, TaskState.CANCELLED), "newest"),
}
#: A column shows so many tasks unless more are asked for.
SHOWN = 20
#: Bytes of a log that are read at once.
LOG_PIECE = 128 * 1024
#: So many overlaps, and permissions that agents ask for, are named on the board.
_OVERLAPS = _ASKS = 20


class ShowingCases(MaintenanceCases):
    """What a screen shows."""

    def board(
        self,
        *,
        search: str | None = None,
        plan: str | None = None,
        role: str | None = None,
        shown: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Tasks by column, each with its ``total`` and the first ``shown`` cards, and what needs a person besides.

        ``search`` finds a task by its id (T12) or by words. Raises InvalidInput.
        """
        asked = {**_sought(search, "T"), "plan": plan or None, "role": role or None}
        bounds = {column: bounded((shown or {}).get(column, SHOWN)) for column in COLUMNS}

        def read(tx: Transaction) -> dict[str, Any]:
            totals = {row["state"]: row["total"] for row in tx.all("board_counts", **asked)}
            met = overlap.overlaps(tx)
            asks = tx.all("list_permissions", pending=1, limit=_ASKS)
            return {
                "columns": {one: _column(tx, one, bounds[one], totals, asked) for one in COLUMNS},
                "overlaps": [dict(one) for one in met[:_OVERLAPS]],
                "overlaps_total": len(met),
                "permissions": [permissions.as_json(row) for row in asks],
                "permissions_total": tx.the("count_permissions", pending=1)["total"],
                "paused_at": iso(tx.the("paused")["paused_at"]),
                "breakers": [dict(one) for one in breaker.overview(tx)],
                "plans": [row["name"] for row in tx.all("plans", limit=50)],
                "roles": sorted({row["role"] for row in tx.all("lanes") if row["role"]}),
            }

        return self.store.read(read)

    def timeline(
        self,
        *,
        since: str = "6h",
        plan: str | None = None,
        agent: str | None = None,
        search: str | None = None,
        limit: int = 200,
    ) -> dict[str, Any]:
        """Runs that were active since a time or within an age (``6h``), newest first, bounded. Raises InvalidInput."""

        def read(tx: Transaction) -> dict[str, Any]:
            now = int(tx.the("clock")["now"])
            start = moment_or_age(since, now)
            asked = {**_sought(search, "T", "R"), "plan": plan or None, "agent": agent or None}
            rows = tx.all("runs_within", since=start, limit=bounded(limit), **asked)
            return {
                "since": start,
                "now": now,
                "total": rows[0]["total"] if rows else 0,
                "runs": [_bar(row) for row in rows],
                "plans": [row["name"] for row in tx.all("plans", limit=50)],
            }

        return self.store.read(read)

    def trend(self, *, since: str = "7d", buckets: int = 28, plan: str | None = None) -> dict[str, Any]:
        """The figures of ``stats`` for equal pieces of the time since then: ``at`` is where each begins, in ms.

        Raises InvalidInput, NotFound (no such plan).
        """
        check_number("buckets", buckets, 1, 200)

        def read(tx: Transaction) -> dict[str, Any]:
            now = int(tx.the("clock")["now"])
            start = moment_or_age(since, now)
            asked = self._asked(tx, since, None, None, plan)
            width = max(1, -(-(now - start) // buckets))
            groups: list[list[Row]] = [[] for _ in range(buckets)]
            for row in tx.all("measured_runs", **asked):
                groups[min(buckets - 1, max(0, row["claimed_at"] - start) // width)].append(row)
            return {
                "at": [start + width * place for place in range(buckets)],
                "pieces": [figures(one) for one in groups],
            }

        return self.store.read(read)

    def log_tail(self, run: str, offset: int | None = None, limit: int = 500) -> dict[str, Any]:
        """As ``log_page``, and without an offset the last piece of a log.

        ``cut`` says that earlier lines are left out, ``more`` that there are further ones already, ``plain`` that
        what the agent wrote means what it says. Raises NotFound, InvalidInput.
        """
        from orchestrion.runs import log, order
        from orchestrion.runs.agents.known import speaks_in_events

        row = self.run(run).row
        file = order.folder(self.project.store_dir, row["id"]) / "log.jsonl"
        end = log.size(file)
        start = max(0, end - LOG_PIECE) if offset is None else offset
        page = self.log_page(run, start, limit)
        return {
            **page,
            "cut": offset is None and start > 0,
            "more": bool(page["lines"]) and page["next_offset"] < end,
            "plain": not speaks_in_events(row["agent"], self.config["agents"].get(row["agent"], {})),
        }

    def brief_of_task(self, task: str) -> str | None:
        """What the last attempt at a task was told, composed anew; None: nobody tried. Raises NotFound."""
        one = number(task, "T")

        def read(tx: Transaction) -> str | None:
            runs = tx.all("runs_of_task", task=one)
            return (
                context.brief(tx, one, runs[-1]["id"], root=self.project.root, named=self._named_checks())
                if runs
                else None
            )

        return self.store.read(read)

    def touched_files(self, *, search: str | None = None, limit: int = 100) -> dict[str, Any]:
        """Files at which runs are now, where they meet, and what was changed last. Raises InvalidInput."""
        pattern, bound = pattern_of(search), bounded(limit)

        def read(tx: Transaction) -> dict[str, Any]:
            rows = tx.all("files_touched", pattern=pattern, limit=bound)
            return {
                "now": [_file(row) for row in tx.all("files_being_changed", pattern=pattern, limit=bound)],
                "overlaps": [dict(one) for one in overlap.overlaps(tx)],
                "changed": [_file(row) for row in rows],
                "total": rows[0]["total"] if rows else 0,
            }

        return self.store.read(read)

    def limits_in_force(self) -> dict[str, Any]:
        """Limits with their use, what may be spent, and agents that are left alone."""
        found = self.status()
        return {key: found[key] for key in ("slots", "budget", "breakers", "paused_at")}


def _sought(search: str | None, *letters: str) -> dict[str, Any]:
    """Words, or the number of a thing whose name begins with one of ``letters``."""
    text = (search or "").strip()
    return {"pattern": pattern_of(text), "wanted": number_named(text, *letters) or 0}


def _column(
    tx: Transaction, column: str, bound: int, totals: Mapping[str, int], asked: Mapping[str, Any]
) -> dict[str, Any]:
    states, order = COLUMNS[column]
    check_choice("order", order, ("urgent", "ranked", "newest", "oldest"))
    total = sum(totals.get(state, 0) for state in states)
    rows = tx.all("board_tasks", states=list(states), limit=bound, **asked, **{order: 1}) if total else []
    gates: dict[int, list[dict[str, Any]]] = {}
    held = [row["id"] for row in rows if row["state"] in (TaskState.BLOCKED, TaskState.PENDING)]
    for gate in tx.all("gates_awaited", ids=held) if held else ():
        gates.setdefault(gate["task"], []).append(_gate(gate))
    return {"total": total, "tasks": [_card(row, gates.get(row["id"], [])) for row in rows]}


def _gate(row: Row) -> dict[str, Any]:
    return {"id": name("G", row["id"]), "kind": row["kind"], "name": row["name"], "opens_at": iso(row["opens_at"])}


def _card(row: Row, gates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    run = None
    if row["run"]:
        run = {
            "id": name("R", row["run"]),
            "agent": row["run_agent"],
            "supervised": bool(row["supervised"]),
            "phase": row["phase"] if row["supervised"] else None,
            "began_at": iso(row["began_at"]),
            "turns": row["turns"],
            "tokens": all_tokens({kind: row[f"tokens_{kind}"] for kind in TOKENS}),
            "cost_usd": row["cost_usd"],
        }
    return {
        "id": name("T", row["id"]),
        "title": row["title"],
        "state": row["state"],
        "plan": row["plan_name"],
        "role": row["role"] or None,
        "agent": row["agent"] or None,
        "priority": row["priority"],
        "code": row["code"],
        "said": row["error"] or row["reason"] or (row["summary"] if row["state"] != TaskState.PENDING else None),
        "unmet": row["unmet"],
        "attempts": row["attempts"],
        "retry_at": iso(row["retry_at"]),
        "due_at": iso(row["due_at"]),
        "updated_at": iso(row["updated_at"]),
        "run": run,
        "gates": list(gates),
    }


def _bar(row: Row) -> dict[str, Any]:
    return {
        "id": name("R", row["id"]),
        "task": name("T", row["task"]),
        "title": row["title"],
        "plan": row["plan_name"],
        "attempt": row["attempt"],
        "agent": row["agent"],
        "role": row["role"] or None,
        "state": row["state"],
        "phase": row["phase"],
        "code": row["code"],
        "reason": row["reason"],
        "cost_usd": row["cost_usd"],
        "began_at": row["began_at"],
        "ended_at": row["ended_at"],
    }


def _file(row: Row) -> dict[str, Any]:
    found = dict(row)
    found.pop("total", None)
    return {
        **found,
        "task": name("T", row["task"]) if row["task"] else None,
        "run": name("R", row["run"]) if row["run"] else None,
        "seen_at": iso(row["seen_at"]),
    }
