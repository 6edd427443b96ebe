"""The page with the numbers, the ratios that are stored, and the comparison with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.measure import Measurement

#: A ratio may be this much of the stored one before it counts as worse.
TOLERANCE = 1.3

TITLES = {
    1: "Draining a graph",
    2: "Single calls among open tasks",
    3: "Claims beside a long history",
    4: "Cold start of the command line",
    5: "From ready to the agent's start",
    6: "Memory of a supervisor",
    7: "Start of the MCP server, and what its tools cost to read",
    8: "Calls of MCP tools",
    9: "The page",
    10: "The server in a crowd",
}
_MADE_OF = {
    1: "A random graph, three parents a task, is drained by one process: claim and complete, two commits a task. "
    "The bound writes the same rows with the bare driver, as well as we can; `bench/bound.py` says what it does and "
    "what it leaves out. The two take turns, a hundred tasks each. Durable means `synchronous=FULL` on SQLite, "
    "`fsync` and `synchronous_commit` on PostgreSQL.",
    2: "The number of open tasks stays the same while tasks are created, claimed, finished and listed, half of them "
    "ready. The crowds take turns, call by call. The bound is the same call in the smallest crowd.",
    3: "Claims in a store with many finished tasks, each with its run and its line in the journal; the bound is the "
    "same claim in a store without them, in turn.",
    4: "The whole process, from its start to its end, page cache and bytecode warm.",
    5: "A worker waits in a process of its own. Time from the commit that makes a task ready until its agent, a shell "
    "command, writes the time. The bound is that command started by hand, after a shared clone where there is a "
    "workspace.",
    6: "The largest resident size of `orchestrion supervise` over a whole run with workspace, check and merge. "
    "1 MB is a million bytes.",
    7: "A client on stdio starts the server and waits for the answer to its first request; the bound is a server of "
    "the official library with one tool that does nothing. A token is four bytes.",
    8: "One client on stdio plans a task, takes it up, asks for others and reports it, in turn with calls of a tool "
    "that does nothing on a bare server of the official library. The other tasks are ready and stay so.",
    9: "A Chromium without a screen or a cache looks at the board. First paint is the browser's own mark; an event "
    "shows when a new task, committed by another connection, stands in the page. The bound is that of a tiny project.",
    10: "For two minutes 200 clients read the events of `orchestrion serve` while 50 requests a second come, each on "
    "a connection of its own, one in five making a task; every event must reach every reader. Memory is the resident "
    "size of the server. Readers and requests share the machine with it.",
}
_SOAK = (
    "`make soak` uses everything at once for two hours (`HOURS=8` for longer, `DATABASE=postgres` for the other "
    "database): 200 readers of events stay connected, small tasks are run, checked and merged, an agent works by MCP, "
    "pages, REST, diffs and logs are looked at. It fails where the resident size of server, worker or MCP server "
    "grows by more than 1 MB an hour over the second half, where the server or a supervisor ever held more than it "
    "may, or where anything asked was not answered. 1 MB is a million bytes."
)
#: Lines of the table that shows a curve.
_CURVE_LINES = 12
_HOW_TO_READ = """\
Each line has a value, a bound that was measured beside it in the same run, and their ratio. The ratio is what can be
carried from one machine to another; milliseconds cannot. A target with `x` is for the ratio, one with a unit is for
the value itself. Values are medians unless the line says otherwise.

`make bench` measures all of this again (some twenty minutes) and writes this page and `bench/stored.json`;
`python -m bench --rows 1,4` measures single rows, `--quick` gives a first idea and writes nothing. `make bench-check`
measures and fails where a ratio has become more than 30 % worse than the stored one; what looks worse is measured a
second time first. Nothing else should run on the machine meanwhile."""


@dataclass(frozen=True)
class Machine:
    """What the numbers were measured on."""

    #: Name of a fact -> the fact, in the order in which they are shown.
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Worse:
    """A ratio that left its tolerance."""

    key: str
    what: str
    stored: float
    found: float

    def __str__(self) -> str:
        share = (self.found / self.stored - 1) * 100
        return f"{self.key}: ratio {self.found:.2f}, stored {self.stored:.2f} ({share:.0f} % worse): {self.what}"


def worse(measured: Iterable[Measurement], stored: Mapping[str, float]) -> list[Worse]:
    """The measurements whose ratio is more than 30 % worse than the stored one; those not stored cannot be."""
    return [
        Worse(one.key, one.what, stored[one.key], one.ratio)
        for one in measured
        if one.key in stored and one.ratio > stored[one.key] * TOLERANCE
    ]


def page(
    measured: Sequence[Measurement], machine: Machine, date: str, soaked: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """docs/benchmarks.md; ``soaked`` is what `make soak` found, by database."""
    parts = ["# Benchmarks", f"Measured on {date}.", _facts(machine), "## How to read and repeat this", _HOW_TO_READ]
    for row, title in TITLES.items():
        ours = [one for one in measured if one.row == row]
        if ours:
            before = f" Measured on {ours[0].measured_on}." if ours[0].measured_on else ""
            parts += [f"## {row}. {title}", _MADE_OF[row] + before, table(ours)]
    parts += ["## Everything at once, for hours", _SOAK]
    for database, found in (soaked or {}).items():
        parts += [f"{database}, {found['hours']:g} hours, {found['date']}:", _judged(found), _curve(found["curve"])]
    return "\n\n".join(parts) + "\n"


def _judged(found: Mapping[str, Any]) -> str:
    return "\n".join(
        f"- {one['what']}: {_number(one['value'])} {one['unit']} "
        f"({'at least' if one['at_least'] else 'at most'} {one['target']:g}){'' if _is_met(one) else ': **not met**'}"
        for one in found["verdicts"]
    )


def _is_met(verdict: Mapping[str, Any]) -> bool:
    value, target = verdict["value"], verdict["target"]
    return bool(value >= target if verdict["at_least"] else value <= target)


def _curve(points: Sequence[Mapping[str, float]]) -> str:
    """Some points of a curve as a table: hours, and MB of each process."""
    shown = points[:: max(1, len(points) // _CURVE_LINES)]
    names = list(shown[0])
    head = ["| " + " | ".join(names) + " |", "|" + "---:|" * len(names)]
    return "\n".join([*head, *("| " + " | ".join(f"{point[name]:.2f}" for name in names) + " |" for point in shown)])


def table(measured: Iterable[Measurement]) -> str:
    """The measurements as a Markdown table."""
    head = ["| what | value | bound | ratio | target | met |", "|---|---:|---:|---:|---:|---|"]
    return "\n".join([*head, *(_line(one) for one in measured)])


def read_stored(file: Path) -> list[Measurement]:
    """The measurements that were stored last; none if there is no file."""
    if not file.exists():
        return []
    return [Measurement(**one) for one in json.loads(file.read_text(encoding="utf-8"))["measured"]]


def of_before(file: Path) -> list[Measurement]:
    """The stored measurements, each with when and on what it was measured: the page's head is about newer ones."""
    if not file.exists():
        return []
    document = json.loads(file.read_text(encoding="utf-8"))
    then = f"{document['date']}, {document['machine'].get('processors', 'another machine')}"
    return [replace(one, measured_on=one.measured_on or then) for one in read_stored(file)]


def write_stored(file: Path, measured: Iterable[Measurement], machine: Machine, date: str) -> None:
    """Stores the measurements with their ratios, for the next comparison."""
    document = {"date": date, "machine": dict(machine.facts), "measured": [asdict(one) for one in measured]}
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def merged(stored: Iterable[Measurement], measured: Iterable[Measurement]) -> list[Measurement]:
    """What is stored, with the new measurements in the places of their rows."""
    new = list(measured)
    rows = {one.row for one in new}
    return sorted([*(one for one in stored if one.row not in rows), *new], key=lambda one: one.row)


def _line(one: Measurement) -> str:
    met = {None: "", True: "yes", False: "**no**"}[one.met]
    cells = [
        one.what,
        f"{_number(one.value)} {one.unit}",
        f"{_number(one.bound)} {one.unit} ({one.bound_is})",
        f"{one.ratio:.2f}",
        _target(one),
        met,
    ]
    return "| " + " | ".join(cells) + " |"


def _target(one: Measurement) -> str:
    if one.target is None:
        return ""
    return f"<= {one.target:g}x" if one.judged == "ratio" else f"<= {one.target:g} {one.unit}"


def _number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _facts(machine: Machine) -> str:
    return "\n".join(f"- {name}: {fact}" for name, fact in machine.facts.items())
