"""What runs use: turns, tokens, money, tools. Counted once, never forgotten, and open to be checked.

Whatever becomes known is appended as a *difference*; what the table ``runs`` says is the sum of a
run's differences, and can be made again from them. Numbers may come late, when a database was
away or a log is read again: whether the run is over does not matter, and nothing here moves it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.core.model import check_choice, check_text, name
from orchestrion.core.values import is_blank, stored_json
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Where a difference comes from: the agent's output while it ran, its log read again, or a better word since.
SOURCES = ("stream", "log", "correction")
COUNTS = ("turns", "tokens_input", "tokens_output", "tokens_cache_read", "tokens_cache_write")
#: What a person can correct.
FIELDS = (*COUNTS, "cost_usd")

#: More than any run uses; beyond it a number is a mistake, and sums would not fit.
MOST = 10**12
#: Decimals of a US dollar that are kept: programs say more of them than they know.
DECIMALS = 12
TOOL_LIMIT = 200


@dataclass(frozen=True)
class Totals:
    """What was used, in all."""

    turns: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    tokens_cache_read: int = 0
    tokens_cache_write: int = 0
    #: None: unknown.
    cost_usd: float | None = None
    #: Tool -> how often it was called.
    tools: Mapping[str, int] = field(default_factory=dict)


def add(
    tx: Transaction,
    run: int,
    *,
    turns: int = 0,
    tokens_input: int = 0,
    tokens_output: int = 0,
    tokens_cache_read: int = 0,
    tokens_cache_write: int = 0,
    cost_usd: float | None = None,
    tools: Mapping[str, int] | None = None,
    model: str | None = None,
    session_id: str | None = None,
    source: str = "stream",
    once: str | None = None,
) -> bool:
    """The run used so much more than was known. False if there was nothing to count: the news ``once`` had been told
    before, or what is to be taken back is not there.

    Only a log that was read again and a correction may take something back, and of that only what is there.
    Raises NotFound, InvalidInput (``invalid_metric``: nothing is counted).
    """
    check_choice("source", source, SOURCES)
    counts = dict(zip(COUNTS, (turns, tokens_input, tokens_output, tokens_cache_read, tokens_cache_write), strict=True))
    more = _checked(Totals(**counts, cost_usd=cost_usd, tools=_named(tools or {})), may_shrink=source != "stream")
    before = _metered(tx, run)
    if once is not None and tx.one("news_known", run=run, once=once):
        return False
    there = _without_more_than(before, more)
    if there != more and _is_nothing(there):
        return False
    _append(tx, before, there, source=source, once=once, model=_word(model), session_id=_word(session_id))
    return True


def correct(
    tx: Transaction, run: int, *, field: str, new: float, reason: str, actor: str | None = None
) -> tuple[float | None, float]:
    """Somebody knows better: ``field`` of the run is ``new``. Old, new, who and why are kept. Returns old and new.

    Raises NotFound, InvalidInput.
    """
    check_choice("field", field, FIELDS)
    check_text("reason", reason)
    if is_blank(reason):
        raise InvalidInput("a correction needs a reason", hint="say how it is known", code="reason_missing")
    value = _valid(field, new, may_shrink=False)
    before = _metered(tx, run)
    old = before[field]
    difference = value - (old or 0)
    more = Totals(**{field: round(difference, DECIMALS) if field == "cost_usd" else difference})  # type: ignore[arg-type]
    facts = {"field": field, "old_value": None if old is None else json.dumps(old), "new_value": json.dumps(value)}
    _append(tx, before, more, source="correction", actor=actor, reason=reason, **facts)
    data = {"field": field, "old": old, "new": value, "reason": reason}
    tx.event("run.corrected", task=before["task"], run=run, data=data)
    return old, value


def rebuild(tx: Transaction, run: int) -> bool:
    """Makes the run's numbers again from its differences. Whether they had been others. Raises NotFound."""
    before = _metered(tx, run)
    rows = tx.all("metrics_of_run", run=run)
    if not rows:
        return False
    after = total(rows)
    model = next((row["model"] for row in reversed(rows) if row["model"]), None)
    if after == _said(before, run) and model in (None, before["model"]):
        return False
    _store(tx, run, after, model=model, session_id=None)
    return True


def sum_up(tx: Transaction, run: int) -> int:
    """Keeps one sum for each session and model of a run that is long over, instead of all its differences.

    What people corrected stays as it is. Returns how many differences went.
    """
    rows = [row for row in tx.all("metrics_of_run", run=run) if row["source"] in ("stream", "log")]
    parts: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        parts.setdefault((row["plan"], row["session_id"], row["model"]), []).append(row)
    for (plan, session_id, model), part in parts.items():
        facts = {"plan": plan, "session_id": session_id, "model": model, "at": max(row["at"] for row in part)}
        tx.put("add_sum", run=run, **facts, **_columns(total(part)))
    tx.put("drop_summed", run=run, last=rows[-1]["id"])
    return len(rows)


def of_session(tx: Transaction, session_id: str, agent: str) -> dict[str, Any]:
    """What one session of an agent has used until now, whichever runs it worked in; by the names of ``Usage``.

    As its program counts it: what people corrected is left out.
    """
    rows = tx.all("metrics_of_session", session_id=session_id, agent=agent)
    used = total(row for row in rows if row["field"] is None)
    return {
        "turns": used.turns,
        "input": used.tokens_input,
        "output": used.tokens_output,
        "cache_read": used.tokens_cache_read,
        "cache_write": used.tokens_cache_write,
        "cost_usd": used.cost_usd,
    }


def observed(tx: Transaction, run: int) -> Totals:
    """What is known from the run's own output: what people corrected is left out."""
    return total(row for row in tx.all("metrics_of_run", run=run) if row["field"] is None)


def total(rows: Iterable[Row]) -> Totals:
    """The sum of differences."""
    found = Totals()
    for row in rows:
        found = _sum(found, _said(row, row["run"]))
    return found


def _metered(tx: Transaction, run: int) -> Row:
    row = tx.one("metered_run", run=run)
    if row is None:
        raise NotFound(f"there is no run {name('R', run)}", hint="`orchestrion runs` shows the runs", code="no_run")
    return row


def _append(
    tx: Transaction,
    before: Row,
    more: Totals,
    *,
    source: str,
    once: str | None = None,
    model: str | None = None,
    session_id: str | None = None,
    actor: str | None = None,
    **correction: str | None,
) -> None:
    """One difference, and the sum with it."""
    after = _sum(_said(before, before["id"]), more)
    facts = {**dict.fromkeys(("field", "old_value", "new_value", "reason")), **correction}
    tx.put(
        "add_metric",
        plan=before["plan"],
        run=before["id"],
        source=source,
        once=once,
        session_id=session_id or before["session_id"],
        model=model,
        actor=tx.origin.actor if actor is None else actor,
        **_columns(more),
        **facts,
    )
    _store(tx, before["id"], after, model=model, session_id=session_id)


def _store(tx: Transaction, run: int, after: Totals, *, model: str | None, session_id: str | None) -> None:
    tx.put("run_used", run=run, model=model, session_id=session_id, **_columns(after))


def _columns(totals: Totals) -> dict[str, Any]:
    counts = {count: getattr(totals, count) for count in COUNTS}
    return {**counts, "cost_usd": totals.cost_usd, "tools": json.dumps(totals.tools, ensure_ascii=False)}


def _said(row: Row, run: int) -> Totals:
    counts = {count: row[count] or 0 for count in COUNTS}
    return Totals(**counts, cost_usd=row["cost_usd"], tools=stored_json(row, "tools", name("R", run)))


def _sum(one: Totals, other: Totals) -> Totals:
    counts = {count: getattr(one, count) + getattr(other, count) for count in COUNTS}
    called = {tool: one.tools.get(tool, 0) + other.tools.get(tool, 0) for tool in {**one.tools, **other.tools}}
    costs = [cost for cost in (one.cost_usd, other.cost_usd) if cost is not None]
    # Rounded at every step, so that the sum is the same in whichever order it is made, and never a hair below 0.
    cost = round(sum(costs), DECIMALS) + 0.0 if costs else None
    return Totals(**counts, cost_usd=cost, tools={tool: called[tool] for tool in sorted(called) if called[tool]})


# -- what is refused ----------------------------------------------------------------------------


def _checked(more: Totals, *, may_shrink: bool) -> Totals:
    for count in COUNTS:
        _valid(count, getattr(more, count), may_shrink=may_shrink)
    for tool, calls in more.tools.items():
        _valid(f"calls of {tool}", calls, may_shrink=may_shrink)
    if more.cost_usd is None:
        return more
    return replace(more, cost_usd=_valid("cost_usd", more.cost_usd, may_shrink=may_shrink))


def _valid(what: str, value: float, *, may_shrink: bool) -> float:
    whole = what != "cost_usd"
    sound = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if sound and (-MOST if may_shrink else 0) <= value <= MOST:
        return value if whole else round(float(value), DECIMALS)
    raise InvalidInput(
        f"{what} cannot be {str(value)[:60]}",
        hint=f"{'a whole number' if whole else 'a number'} from 0 to {MOST:,}",
        code="invalid_metric",
    )


def _without_more_than(before: Row, more: Totals) -> Totals:
    """``more``, but nothing is taken back of which there is less: somebody may have corrected it meanwhile."""
    have = _said(before, before["id"])
    counts = {count: max(-getattr(have, count), getattr(more, count)) for count in COUNTS}
    cost = more.cost_usd
    if cost is not None and cost < 0:
        cost = None if have.cost_usd is None else max(-have.cost_usd, cost)
    return Totals(
        **counts,
        cost_usd=cost,
        tools={tool: max(-have.tools.get(tool, 0), calls) for tool, calls in more.tools.items()},
    )


def _is_nothing(more: Totals) -> bool:
    return not (more.cost_usd or any(more.tools.values()) or any(getattr(more, count) for count in COUNTS))


def _named(tools: Mapping[str, int]) -> dict[str, int]:
    """Calls by tool, under names that every database can keep; a tool that was not called is left out."""
    counted: dict[str, int] = {}
    for tool, calls in tools.items():
        if calls != 0:
            known = _word(tool) or "?"
            counted[known] = counted.get(known, 0) + calls
    return counted


def _word(said: str | None) -> str | None:
    """A name that an agent's program gave, cut and mended: what it calls things must not keep it from being counted."""
    if not said:
        return None
    return said[:TOOL_LIMIT].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
