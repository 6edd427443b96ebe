"""What ended, as spans of a distributed trace, read from the store when it is over.

A task is a trace: its own span lasts from when it was made until it ended, each of its runs is a
span in it, and each check a span in its run. They are reckoned from rows that are there anyway, so
nothing is lost when a process dies. Names and attributes are OpenTelemetry's semantic conventions
for generative AI where those have a word (https://opentelemetry.io/docs/specs/semconv/gen-ai/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrion.core.model import name
from orchestrion.core.tracing import span_id, trace_id
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Lines of the journal that are looked at in one go.
LINES = 2000


@dataclass(frozen=True)
class Span:
    """Something that took time."""

    name: str
    #: 32 hexadecimal digits.
    trace: str
    #: 16 hexadecimal digits.
    id: str
    #: The span it is part of, 16 hexadecimal digits; None: it is the whole.
    parent: str | None
    #: In milliseconds since 1970.
    began: int
    ended: int
    attributes: Mapping[str, str | int | float | bool]
    #: What went wrong; None: nothing.
    error: str | None = None


def next_ones(tx: Transaction, store: str) -> tuple[list[Span], int | None]:
    """Spans of what ended since the last time, and the journal's line up to which these are all; None: no news.

    ``store`` is the store's UUID. What ended before spans were sent for the first time is left out.
    """
    since = tx.the("traced")["traced"]
    if since is None:
        return [], int(tx.the("last_event")["id"])
    upto = tx.the("lines_told", since=since, limit=LINES)["settled"]
    if upto is None:
        return [], None
    ended = tx.all("ended_between", since=since, upto=upto)
    runs = sorted({row["run"] for row in ended if row["kind"].startswith("run.") and row["run"]})
    tasks = sorted({row["task"] for row in ended if row["kind"].startswith("task.")})
    return [*_of_runs(tx, store, runs), *_of_tasks(tx, store, tasks)], int(upto)


def note_sent(tx: Transaction, upto: int) -> None:
    """So far they were sent."""
    tx.put("note_traced", line=upto)


def _of_runs(tx: Transaction, store: str, ids: list[int]) -> Iterator[Span]:
    if not ids:
        return
    checks: dict[int, list[Row]] = {}
    for check in tx.all("checks_to_trace", ids=ids):
        checks.setdefault(check["run"], []).append(check)
    for row in tx.all("runs_to_trace", ids=ids):
        trace, own = trace_id(store, name("T", row["task"])), span_id(store, name("R", row["id"]))
        yield Span(
            f"invoke_agent {row['agent'] or 'client'}",
            trace,
            own,
            span_id(store, name("T", row["task"])),
            row["claimed_at"],
            row["ended_at"],
            _known(_facts_of_run(row)),
            None if row["state"] == "succeeded" else row["code"] or row["state"],
        )
        for check in checks.get(row["id"], []):
            yield _of_check(store, trace, own, row["id"], check)


def _facts_of_run(row: Row) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": row["agent"] or "client",
        "gen_ai.conversation.id": row["session_id"],
        "gen_ai.request.model": row["model"],
        "gen_ai.usage.input_tokens": row["tokens_input"],
        "gen_ai.usage.output_tokens": row["tokens_output"],
        "gen_ai.usage.cache_read.input_tokens": row["tokens_cache_read"],
        "gen_ai.usage.cache_creation.input_tokens": row["tokens_cache_write"],
        "orchestrion.run": name("R", row["id"]),
        "orchestrion.task": name("T", row["task"]),
        "orchestrion.plan": row["plan_name"],
        "orchestrion.role": row["role"],
        "orchestrion.attempt": row["attempt"],
        "orchestrion.state": row["state"],
        "orchestrion.correlation": row["correlation"],
        "orchestrion.cost_usd": row["cost_usd"],
        "orchestrion.turns": row["turns"],
        "orchestrion.queued_ms": None if row["queued_at"] is None else row["claimed_at"] - row["queued_at"],
        "orchestrion.commit": row["head_commit"],
        "host.name": row["host"],
    }


def _of_check(store: str, trace: str, parent: str, run: int, row: Row) -> Span:
    passed = row["exit_code"] == 0
    return Span(
        row["stage"],
        trace,
        span_id(store, f"{name('R', run)}/check/{row['id']}"),
        parent,
        row["at"] - row["duration_ms"],
        row["at"],
        {"process.command_line": row["command"][:1000], "process.exit.code": row["exit_code"]},
        None if passed else f"exit code {row['exit_code']}",
    )


def _of_tasks(tx: Transaction, store: str, ids: list[int]) -> Iterator[Span]:
    for row in tx.all("tasks_to_trace", ids=ids) if ids else ():
        task = name("T", row["id"])
        facts = {
            "orchestrion.task": task,
            "orchestrion.title": row["title"],
            "orchestrion.plan": row["plan_name"],
            "orchestrion.role": row["role"],
            "orchestrion.state": row["state"],
            "orchestrion.attempts": row["attempts"],
            "orchestrion.correlation": row["correlation"],
        }
        ended = row["completed_at"] or row["updated_at"]
        error = (row["code"] or "failed") if row["state"] == "failed" else None
        own = span_id(store, task)
        yield Span("task", trace_id(store, task), own, None, row["created_at"], ended, _known(facts), error)


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value not in (None, "")}
