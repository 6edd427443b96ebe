"""Commands about the numbers of runs: stats, and correct."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from orchestrion.core.errors import InvalidInput
from orchestrion.core.model import TOKENS, all_tokens
from orchestrion.interfaces.cli import output, used
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command, once, plans, reason_option, refuse_besides, runs, usage

FORMATS = ("text", "csv", "json")


@command(
    "stats",
    "orchestrion stats",
    "orchestrion stats --since 24h --plan text-tools --json",
    "orchestrion stats --runs --format csv > runs.csv",
    "orchestrion stats --levels --since 24h",
)
@click.option("--since", metavar="TIME", help="Only runs claimed since then: ISO 8601, or an age as 90s, 24h, 7d.")
@click.option("--agent", metavar="NAME", help="Only runs of this agent.")
@click.option("--role", metavar="ROLE", help="Only runs in this role.")
@click.option("--plan", metavar="PLAN", help="Only runs of this plan.", shell_complete=plans)
@click.option("--runs", "each_run", is_flag=True, help="Export the runs: one per line, with all their numbers.")
@click.option("--events", "each_event", is_flag=True, help="Export what those numbers are made of, as it was told.")
@click.option("--levels", is_flag=True, help="From ready to completed, by role, against alerts.sla; 7d unless --since.")
@click.option("--reconcile", is_flag=True, help="First read the logs of ended runs again, and add what was missed.")
@click.option("--format", "form", metavar="FORMAT", help="text, csv or json; csv, for an export, unless said.")
def stats(
    call: Call,
    each_run: bool,
    each_event: bool,
    levels: bool,
    reconcile: bool,
    form: str | None,
    **asked: str | None,
) -> None:
    """Success, duration (median and 95th percentile), queue wait, turns, tokens and cost; in all, and by
    agent, role and plan. An export has a line for each run or event: CSV with a head, or a JSON document.
    """
    if each_run + each_event + levels > 1:
        raise usage("--runs, --events and --levels are different things; choose one.")
    if levels:
        refuse_besides("--levels", "since", "reconcile", "form")
    chosen = _form(call, form, export=each_run or each_event)
    with call.open() as orchestrion:
        mended = orchestrion.reconcile(**asked) if reconcile else None
        if mended:
            output.note(_mended(mended))
        if each_run or each_event:
            _export(orchestrion.all_runs(**asked) if each_run else orchestrion.metric_events(**asked), chosen)
            return
        found = orchestrion.service_levels(since=asked["since"] or "7d") if levels else orchestrion.stats(**asked)
    if chosen == "json":
        output.document(found)
    else:
        output.lines(_levels(found) if levels else _stats(found))


@command("correct", "orchestrion correct R31 turns=12 cost_usd=0.42 --reason 'as the bill says'")
@click.argument("run", metavar="R", shell_complete=runs)
@click.argument("changes", metavar="FIELD=N...", nargs=-1, required=True)
@reason_option("How it is known; it is kept.")
def correct(call: Call, run: str, changes: tuple[str, ...], reason: str) -> None:
    """FIELD is turns, tokens_input, tokens_output, tokens_cache_read, tokens_cache_write or cost_usd. What was
    said before is kept, with who corrected it.
    """
    wanted = once(map(_change, changes))
    with call.open() as orchestrion:
        found = orchestrion.correct(run, wanted, reason).as_json()
    call.answer(found, lambda: [f"{found['id']} corrected: {', '.join(output.plain(change) for change in changes)}"])


COMMANDS = {"stats": stats, "correct": correct}


def _form(call: Call, form: str | None, *, export: bool) -> str:
    from orchestrion.core.model import check_choice

    if form is not None:
        check_choice("format", form, FORMATS)
    chosen = form or ("json" if call.json else "csv" if export else "text")
    if call.json and chosen != "json":
        raise usage(f"--json and --format {chosen} contradict each other.")
    if (chosen == "csv") != export and chosen != "json":
        raise usage("--format csv needs --runs or --events." if chosen == "csv" else "an export is csv or json.")
    return chosen


def _change(text: str) -> tuple[str, float]:
    field, separator, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    # Python counts more than digits as a number; a sign, a space or a word is a slip of the pen.
    if not separator or value < 0 or not number[:1].isdigit() or "_" in number or not number.isascii():
        raise InvalidInput(f"{text[:80]!r} is not FIELD=N", hint="for example turns=12", code="invalid_metric")
    return field, int(number) if number.isdigit() else value


# -- export -----------------------------------------------------------------------------------


def _export(found: Iterable[Mapping[str, Any]], form: str) -> None:
    if form == "json":
        for one in found:
            output.record(one)
        return
    columns: list[str] | None = None
    for one in found:
        flat = _flat(one)
        if columns is None:
            columns = list(flat)
            _csv_line(columns)
        _csv_line(flat[column] for column in columns)
    if columns is None:
        output.note("no run matches")


def _flat(one: Mapping[str, Any]) -> dict[str, Any]:
    """One line of CSV: tokens in columns of their own, what has a structure as JSON."""
    flat: dict[str, Any] = {}
    for column, value in one.items():
        if column == "tokens":
            flat.update({f"tokens_{kind}": value[kind] for kind in TOKENS})
        else:
            structured = isinstance(value, dict | list)
            flat[column] = json.dumps(value, ensure_ascii=False, sort_keys=True) if structured else value
    return flat


def _cell(value: Any) -> Any:
    """What an agent wrote is text to a spreadsheet too, and no formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return "" if value is None else value


def _csv_line(cells: Iterable[Any]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(_cell, cells))
    line = text.getvalue()
    output.exactly(output.block(line) if output.is_terminal(sys.stdout) else line)


# -- for people -------------------------------------------------------------------------------


def _mended(mended: Mapping[str, Any]) -> str:
    runs = mended["mended"]
    what = f"{output.count(len(runs), 'run')} mended ({', '.join(runs[:20])})" if runs else "nothing was missing"
    bent = mended["bent"]
    unread = f"; not read, for something else has its place: the log of {', '.join(bent[:20])}" if bent else ""
    return f"{output.count(mended['read'], 'log')} read again: {what}{unread}"


def _stats(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["runs"]:
        yield "no run matches; `orchestrion work` starts some"
        return
    since = f" since {output.moment(found['since'])}" if found["since"] else ""
    states = output.tally(found["states"], found["states"])
    yield f"{output.heading(output.count(found['runs'], 'run'))}{since}: {states}"
    yield from output.fields(
        [
            ("success", _share(found["success_rate"])),
            ("duration", _spread(found["duration_s"])),
            ("queue wait", _spread(found["queue_wait_s"])),
            *used.facts(found),
            ("of unknown cost", _silent(found)),
        ]
    )
    for noun in ("agent", "role", "plan"):
        yield from _group(noun, found[f"by_{noun}"])


def _levels(found: Mapping[str, Any]) -> Iterator[str]:
    head = ("Role", "allowed", "kept", "completed", "p50", "p95", "open", "late", "oldest")
    rows = [tuple(output.heading(cell) for cell in head)]
    for one in found["levels"]:
        times = [output.seconds(one[key]) if one[key] is not None else "" for key in ("p50_s", "p95_s", "oldest_s")]
        rows.append(
            (
                output.plain(one["role"] or "none"),
                "" if one["limit_s"] is None else output.seconds(one["limit_s"]),
                _share(one["within"]),
                f"{one['completed']:,}",
                *times[:2],
                f"{one['open']:,}",
                f"{one['late']:,}",
                times[2],
            )
        )
    since = output.moment(found["since"])
    if not found["levels"]:
        yield f"no task was ready since {since}"
        return
    yield f"From ready to completed since {since}"
    yield from output.table(rows, right=range(1, len(head)))


def _group(noun: str, groups: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    head = (f"By {noun}", "runs", "success", "p50", "p95", "waits p50", "turns", "tokens", "cost")
    rows = [tuple(output.heading(cell) for cell in head)]
    for group in groups:
        row = (
            output.plain(group[noun] or ("client" if noun == "agent" else "none")),
            f"{group['runs']:,}",
            _share(group["success_rate"]),
            output.seconds(group["duration_s"]["p50"]),
            output.seconds(group["duration_s"]["p95"]),
            output.seconds(group["queue_wait_s"]["p50"]),
            used.number(group["turns"]),
            used.number(all_tokens(group["tokens"])),
            used.usd(group["cost_usd"]),
        )
        rows.append(row)
    yield from output.table(rows, right=range(1, len(head)))


def _share(rate: float | None) -> str:
    return "" if rate is None else f"{rate * 100:.1f} %"


def _spread(spread: Mapping[str, float | None]) -> str:
    if spread["p50"] is None:
        return ""
    return f"median {output.seconds(spread['p50'])}, 95 % within {output.seconds(spread['p95'])}"


def _silent(found: Mapping[str, Any]) -> str:
    """Runs that the sum is without, if there is a sum."""
    silent = found["runs_without_cost"]
    return output.count(silent, "run") if silent and found["cost_usd"] is not None else ""
