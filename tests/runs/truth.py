"""What runs of the scripted agent really used, counted without a line of the product's code.

There are three accounts of it: the ledger that the agent itself kept (it knows what it
printed), the run's log (it knows what arrived), and what the store says. The log is the
beginning of the ledger; the store says what the log says, to the unit, once, on every
surface.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrion import Orchestrator

#: The agent that speaks in events.
AGENT = "claude"
_STREAMED = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_EXACT = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
_TOKENS = ("input", "output", "cache_read", "cache_write")


@dataclass(frozen=True)
class Said:
    """One line of the agent."""

    uuid: str
    kind: str
    #: The message's id.
    id: str = ""
    #: Tokens: those that the message came with; behind a result the exact ones since the last.
    tokens: tuple[int, ...] = (0, 0, 0, 0)
    #: Calls of tools, by id.
    tools: tuple[tuple[str, str], ...] = ()
    #: Millionths of a US dollar since the last result.
    micros: int = 0


@dataclass
class Count:
    """What was used."""

    turns: int = 0
    tokens: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    #: None: nobody said.
    micros: int | None = None
    tools: Counter[str] = field(default_factory=Counter)

    def add(self, other: Count) -> None:
        self.turns += other.turns
        self.tokens = [one + more for one, more in zip(self.tokens, other.tokens, strict=True)]
        if other.micros is not None:
            self.micros = (self.micros or 0) + other.micros
        self.tools.update(other.tools)


@dataclass(frozen=True)
class Process:
    """The ledger of one process."""

    #: What it was about to print, in this order.
    begun: tuple[Said, ...]
    #: How many of them it had printed and flushed.
    printed: int


def counted(goes: Iterable[Sequence[Said]]) -> Count:
    """Goes added up: each message once; what a result says takes the place of its messages' numbers."""
    whole = Count()
    for go in goes:
        whole.add(_counted(go))
    return whole


def _counted(go: Sequence[Said]) -> Count:
    exact, final, open_ = Count(), set[str](), dict[str, tuple[int, ...]]()
    calls: dict[str, str] = {}
    for said in go:
        calls.update(said.tools)
        if said.kind == "assistant" and said.id not in final:
            open_[said.id] = said.tokens
        if said.kind == "result":
            exact.add(Count(tokens=list(said.tokens), micros=said.micros))
            final |= open_.keys()
            open_.clear()
    for tokens in open_.values():
        exact.add(Count(tokens=list(tokens)))
    return Count(len(final) + len(open_), exact.tokens, exact.micros, Counter(calls.values()))


# -- the three accounts ---------------------------------------------------------------------------


def of_log(file: Path) -> list[list[Said]]:
    """The goes of a log, each as what arrived of its agent's lines."""
    goes: list[list[Said]] = []
    half = ""
    for line in _whole_lines(file):
        if line["stream"] == "go":
            goes.append([])
            half = ""
        if line["stream"] != "out":
            continue
        half += line["text"]
        if not line.get("more"):
            if goes and (said := _understood(half)):
                goes[-1].append(said)
            half = ""
    return goes


def _whole_lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.exists():
        return
    for raw in file.read_bytes().split(b"\n")[:-1]:
        try:
            yield json.loads(raw)
        except ValueError:
            continue  # a kill cut it short


def _understood(text: str) -> Said | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if line["type"] == "assistant":
        message = line["message"]
        tools = tuple((one["id"], one["name"]) for one in message["content"] if one["type"] == "tool_use")
        tokens = tuple(message["usage"][name] for name in _STREAMED)
        return Said(line["uuid"], "assistant", message["id"], tokens, tools)
    if line["type"] == "result":
        models = line["model_usage_since_last_result"].values()
        tokens = tuple(sum(model[name] for model in models) for name in _EXACT)
        return Said(line["uuid"], "result", tokens=tokens, micros=sum(round(one["costUSD"] * 1e6) for one in models))
    return Said(line["uuid"], line["type"])


def of_ledger(folder: Path, run: str) -> list[Process]:
    """The processes that worked in a run, oldest first."""
    found = sorted(folder.glob(f"{run}-*.jsonl"), key=lambda file: int(file.name.split("-")[1]))
    return [_process(file) for file in found]


def _process(file: Path) -> Process:
    lines = list(_whole_lines(file))
    begun = tuple(
        Said(
            line["uuid"],
            line["kind"],
            line.get("id", ""),
            tuple(line.get("usage") or line.get("exact") or (0, 0, 0, 0)),
            tuple((call, tool) for call, tool in line.get("tools", ())),
            line.get("micros", 0),
        )
        for line in lines
        if line["when"] == "before"
    )
    return Process(begun, sum(line["when"] == "after" for line in lines))


def of_run(run: dict[str, Any]) -> Count:
    """What the store says, as every surface shows it."""
    micros = None if run["cost_usd"] is None else _micros(run["cost_usd"])
    tools = Counter({tool: calls for tool, calls in run.get("tools", {}).items() if calls})
    return Count(run["turns"] or 0, [run["tokens"][kind] or 0 for kind in _TOKENS], micros, tools)


def _micros(usd: float) -> int:
    found = round(usd * 1e6)
    assert abs(usd - found / 1e6) < 1e-9, f"{usd} USD is no number of millionths"
    return found


# -- what is wrong ----------------------------------------------------------------------------------


def wrong_numbers(orchestrion: Orchestrator, ledger: Path, lived: Collection[str]) -> list[str]:
    """Everything that the accounts do not agree on. ``lived``: runs whose supervisor saw them to their end."""
    runs = list(orchestrion.all_runs())
    told = _by_run(orchestrion)
    wrong: list[str] = []
    for run in runs:
        place = orchestrion.project.store_dir / "runs" / run["id"]
        goes = of_log(place / "log.jsonl") if run["agent"] == AGENT else []
        processes = of_ledger(ledger, run["id"])
        wrong += [f"{run['id']}: {one}" for one in _wrong_log(goes, processes, run["id"] in lived)]
        expected = counted(goes)
        for surface, found in (("the run", of_run(run)), ("its differences", told.get(run["id"], Count()))):
            if found != expected:
                wrong.append(f"{run['id']} ({run['state']}): {surface}: {found}; its log: {expected}")
    return wrong + _wrong_sums(orchestrion, runs) + _wrong_mending(orchestrion)


def _by_run(orchestrion: Orchestrator) -> dict[str, Count]:
    found: dict[str, Count] = {}
    for difference in orchestrion.metric_events():
        found.setdefault(difference["run"], Count()).add(of_run(difference))
    for count in found.values():
        count.tools = Counter({tool: calls for tool, calls in count.tools.items() if calls})
    return found


def _wrong_log(goes: list[list[Said]], processes: list[Process], supervisor_lived: bool) -> Iterator[str]:
    """What arrived is the beginning of what was printed; all of it, if there was somebody to the end."""
    of_uuid = {process.begun[0].uuid: process for process in processes if process.begun}
    arrived: dict[str, int] = {}
    for go in filter(None, goes):
        process = of_uuid.get(go[0].uuid)
        if process is None or go[0].uuid in arrived:
            yield f"a go of its log begins with {go[0]}, which nobody printed first, or twice"
        elif tuple(go) != process.begun[: len(go)]:
            yield f"its log has {len(go)} lines that are not the first {len(go)} that were printed"
        else:
            arrived[go[0].uuid] = len(go)
    for number, process in of_uuid.items():
        if supervisor_lived and arrived.get(number, 0) < process.printed:
            yield f"{process.printed} lines were printed, {arrived.get(number, 0)} are in its log"
    least = counted(process.begun[: arrived.get(number, 0)] for number, process in of_uuid.items())
    if counted(goes) != least:
        yield f"its log adds up to {counted(goes)}, its ledger to {least}"


def _wrong_sums(orchestrion: Orchestrator, runs: list[dict[str, Any]]) -> list[str]:
    """The aggregates are the sums of the runs."""
    stats = orchestrion.stats()
    groups = [("all", stats, runs)]
    for agent in stats["by_agent"]:
        groups.append((agent["agent"], agent, [run for run in runs if run["agent"] == agent["agent"]]))
    wrong = []
    for who, figures, members in groups:
        whole = Count()
        for run in members:
            whole.add(of_run(run))
        shown = Count(*_figures(figures), tools=whole.tools)
        if shown != whole or figures["runs"] != len(members):
            wrong.append(f"stats of {who}: {shown} of {figures['runs']} runs; the runs: {whole}, {len(members)}")
        if who == "all" and Counter(figures["tools"]) != whole.tools:
            wrong.append(f"stats: tools {figures['tools']}; the runs: {whole.tools}")
    return wrong


def _figures(figures: dict[str, Any]) -> tuple[int, list[int], int | None]:
    one = of_run({**figures, "tools": {}})
    return one.turns, one.tokens, one.micros


def _wrong_mending(orchestrion: Orchestrator) -> list[str]:
    """Nothing is left to be mended from the logs, and a correction moves the sums by what was corrected, no more."""
    wrong = [f"{run}: was mended from its log afterwards" for run in orchestrion.reconcile()["mended"]]
    one = next((run for run in orchestrion.all_runs() if run["agent"] == AGENT and run["turns"]), None)
    if one is None:
        return [*wrong, "no run of the scripted agent used anything"]
    before = orchestrion.stats()
    orchestrion.correct(one["id"], {"turns": one["turns"] + 7, "cost_usd": 0.5}, "somebody counted")
    after = orchestrion.stats()
    if after["turns"] - before["turns"] != 7:
        wrong.append(f"{one['id']} was corrected by 7 turns, the sum by {after['turns'] - before['turns']}")
    more = _micros(after["cost_usd"]) - _micros(before["cost_usd"])
    if more != 500_000 - _micros(one["cost_usd"] or 0.0):
        wrong.append(f"{one['id']} was corrected to 0.5 USD, the sum by {more} millionths")
    wrong += [f"{run}: a correction was mended away" for run in orchestrion.reconcile()["mended"]]
    if of_run(orchestrion.run(one["id"]).as_json()).turns != one["turns"] + 7:
        wrong.append(f"{one['id']}: a correction did not stay")
    return wrong
