"""What a run has used so far, and what of it the database knows.

Numbers are told now and then while an agent works, and all of them when a go is over. What
could not be told, because the database was away, is part of what is told next: nothing is
lost or counted twice as long as this process lives, and after its death the log is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrion.runs.agents.agent import Tally, Usage


class Spent(Exception):
    """A limit that the supervisor watches over is used up."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        #: Of the failure taxonomy.
        self.code = code


@dataclass(frozen=True)
class _News:
    """What is told at once, and what the database knows when it was."""

    row: dict[str, object]
    used: Usage
    tools: Counter[str]
    session: str | None


@dataclass
class Account:
    """The numbers of one run, over all of its goes."""

    #: Distinguishes this process from another one that tells about the same run.
    name: str = ""
    #: Turns of the run at most; None: any.
    max_turns: int | None = None
    #: Cost of the run at most, in US dollars; None: any.
    budget_usd: float | None = None
    #: Of the goes that are over.
    _before: Usage = field(default_factory=Usage)
    _tools_before: Counter[str] = field(default_factory=Counter)
    #: Of the go that is on.
    _tally: Tally = field(default_factory=Tally)
    _told: Usage = field(default_factory=Usage)
    _tools_told: Counter[str] = field(default_factory=Counter)
    _session_told: str | None = None
    #: What was given to be written and not confirmed yet.
    _news: _News | None = None
    _count: int = 0

    def begin(self, tally: Tally) -> None:
        """A new go, which adds to ``tally``."""
        self._before = self.used()
        self._tools_before = self._tools()
        self._tally = tally

    def used(self) -> Usage:
        """What the run has used."""
        return self._before + self._tally.usage

    def left_usd(self) -> float | None:
        """What the next go may cost; None: as much as it will."""
        return None if self.budget_usd is None else max(0.0, self.budget_usd - (self.used().cost_usd or 0.0))

    def refuse_spent(self) -> None:
        """Raises Spent when a limit is passed."""
        used = self.used()
        if self.max_turns is not None and used.turns > self.max_turns:
            raise Spent(f"it took {used.turns} turns of {self.max_turns}", code="max_turns")
        if self.budget_usd is not None and (used.cost_usd or 0.0) >= self.budget_usd:
            raise Spent(f"it cost {used.cost_usd:.4f} of {self.budget_usd:g} USD", code="budget_exhausted")

    def tell(self, write: Callable[[dict[str, object]], None]) -> None:
        """Gives ``write`` what the database does not know yet, if there is anything.

        News that may have arrived although ``write`` raised is told again word for word, under
        the same name (``once``), so that it counts once.
        """
        if self._news is not None:
            self._deliver(write, self._news)
        news = self._fresh()
        if news is not None:
            self._news = news
            self._deliver(write, news)

    def _deliver(self, write: Callable[[dict[str, object]], None], news: _News) -> None:
        write(news.row)
        self._told, self._tools_told, self._session_told = news.used, news.tools, news.session
        self._news = None

    def _fresh(self) -> _News | None:
        used, tools, session = self.used(), self._tools(), self._tally.session
        more = used - self._told
        called = {tool: count for tool, count in (tools - self._tools_told).items() if count}
        if more == Usage(cost_usd=more.cost_usd) and not more.cost_usd and not called and session == self._session_told:
            return None
        self._count += 1
        row = _as_row(more, called, self._tally) | {"once": f"{self.name}/{self._count}"}
        return _News(row, used, tools, session)

    def _tools(self) -> Counter[str]:
        return self._tools_before + Counter(self._tally.tools)


def _as_row(news: Usage, called: dict[str, int], tally: Tally) -> dict[str, object]:
    shrunk = min(news.turns, news.input, news.output, news.cache_read, news.cache_write, news.cost_usd or 0.0) < 0
    return {
        "turns": news.turns,
        "tokens_input": news.input,
        "tokens_output": news.output,
        "tokens_cache_read": news.cache_read,
        "tokens_cache_write": news.cache_write,
        "cost_usd": news.cost_usd,
        "tools": called,
        "model": tally.model,
        "session_id": tally.session,
        # An agent's last word may be less than what its single messages added up to.
        "source": "correction" if shrunk else "stream",
    }
