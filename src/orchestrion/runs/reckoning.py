"""What a run used, by its log: the same lines once more, counted by the same code.

A supervisor that is killed takes with it what it had not told the database yet. Its log
is still there. Each go begins with a line of the stream ``go``, from which a dialogue like
the one of then is made; it hears the go's lines of ``out`` again, and what its events add up
to is what the go used. What the database does not know of that is appended as one difference.

Where the agent's last word is in the log, the log is right, even where less was used than
had been told before. Where it is not, there may have been more: then nothing is taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrion.runs import log
from orchestrion.runs.agents.agent import Dialogue, Kind, Tally, Usage
from orchestrion.runs.agents.known import agent_named
from orchestrion.runs.go import assignment_of
from orchestrion.runs.watch import MOST_HEARD
from orchestrion.scheduler import meter
from orchestrion.scheduler.meter import Totals
from orchestrion.store import Store, Transaction

#: Makes the dialogue of a go from the line that the log has of its beginning.
Begin = Callable[[str], Dialogue]


@dataclass(frozen=True)
class Reckoning:
    """What a log says of a run."""

    usage: Usage
    #: Tool -> how often it was called.
    tools: Mapping[str, int]
    #: The agent's session, and the model: those of the last go.
    session: str | None
    model: str | None
    #: Whether every go's agent had its last word.
    whole: bool


def reckon(file: Path, begin: Begin) -> Reckoning | None:
    """What the run of a log used; None if the log knows of no go."""
    goes = list(_goes(file, begin))
    if not goes:
        return None
    usage, tools = Usage(), Counter[str]()
    for go in goes:
        usage += go.tally.usage
        tools.update(go.tally.tools)
    last = goes[-1].tally
    return Reckoning(usage, dict(tools), last.session, last.model, all(go.had_last_word for go in goes))


def reconcile(store: Store, run: int, file: Path, begin: Begin) -> bool:
    """Appends what the log knows of a run and the database does not. Whether there was anything.

    Only for a run whose supervisor is gone: a living one still has to tell what it knows.
    Doing it again changes nothing. Raises NotFound, StoreProblem, and NotPlain for a log that was bent.
    """
    found = reckon(file, begin)
    return found is not None and store.write(lambda tx: _append_missing(tx, run, found))


def begin_again(line: str) -> Dialogue:
    """The dialogue of a go, as far as counting needs it, from the line that the supervisor wrote."""
    agent, settings, assignment = assignment_of(line)
    return agent_named(agent, settings).begin(assignment)


@dataclass
class _Go:
    """One go that is heard again."""

    dialogue: Dialogue
    tally: Tally = field(default_factory=Tally)
    had_last_word: bool = False

    def hear(self, line: str) -> None:
        for event in self.dialogue.hear(line):
            self.tally.add(event)
            self.had_last_word = event.kind is Kind.RESULT


def _goes(file: Path, begin: Begin) -> Iterator[_Go]:
    """The goes of a log, each when all of its lines were heard."""
    go: _Go | None = None
    for stream, text in _lines(file):
        if stream == "go":
            if go:
                yield go
            go = _Go(begin(text))
        elif go:
            go.hear(text)
    if go:
        yield go


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Lines of the streams ``go`` and ``out``, whole: pieces are joined, and what nobody heard is left out."""
    pieces: dict[str, list[str]] = {"go": [], "out": []}
    for _, line in log.read(file):
        stream = line.get("stream")
        if stream not in pieces or not isinstance(line.get("text"), str):
            continue
        if stream == "go":
            pieces["out"].clear()  # the end of that line was never written
        pieces[stream].append(line["text"])
        if line.get("more"):
            continue
        text = "".join(pieces[stream])
        pieces[stream].clear()
        if len(text) <= MOST_HEARD:
            yield stream, text


def _append_missing(tx: Transaction, run: int, found: Reckoning) -> bool:
    tx.one("metered_run", run=run)  # held: another one may be reckoning too
    known = meter.observed(tx, run)
    missing = _difference(found, known)
    if missing == Totals():
        return False
    return meter.add(
        tx,
        run,
        **{count: getattr(missing, count) for count in meter.COUNTS},
        cost_usd=missing.cost_usd,
        tools=missing.tools,
        model=found.model,
        session_id=found.session,
        source="log",
    )


def _difference(found: Reckoning, known: Totals) -> Totals:
    """What has to be added to what is known; less than nothing only if the log is sure of it."""
    least = float("-inf") if found.whole else 0
    usage = found.usage
    said = (usage.turns, usage.input, usage.output, usage.cache_read, usage.cache_write)
    counts = {
        count: int(max(least, number - getattr(known, count))) for count, number in zip(meter.COUNTS, said, strict=True)
    }
    calls = {
        tool: int(more)
        for tool in {**found.tools, **known.tools}
        if (more := max(least, found.tools.get(tool, 0) - known.tools.get(tool, 0)))
    }
    return Totals(**counts, cost_usd=_missing_cost(usage.cost_usd, known.cost_usd, least), tools=calls)


def _missing_cost(found: float | None, known: float | None, least: float) -> float | None:
    if found is None or known is None:
        return found
    return max(least, round(found - known, meter.DECIMALS)) or None
