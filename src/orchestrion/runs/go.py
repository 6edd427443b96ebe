"""One go of a run: what the agent is told, what it tells, and what that adds up to.

A go joins an agent's dialogue, which only knows what lines mean, to the run's log and to
its tally. It is what ``watch`` talks to. Nothing is decided here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrion.runs.agents.agent import Assignment, Dialogue, Event, Kind, Tally, Usage
from orchestrion.runs.log import RunLog

#: Kinds that stand in the log as they come; numbers are in the tally.
_SILENT = frozenset({Kind.USAGE})


#: So many denials wait to be told; of an agent that asks without end the rest is in the log alone.
MOST_DENIED = 1000


@dataclass
class Go:
    """One go, from its first word to its last."""

    dialogue: Dialogue
    log: RunLog
    #: Whether the agent speaks in events; else its lines are its own.
    understands: bool = True
    #: What its events add up to.
    tally: Tally = field(default_factory=Tally)
    #: What it was denied, as the tool and its input in short; what was told of is taken away.
    denied: list[tuple[str, str]] = field(default_factory=list)
    #: The last thing of any weight that it told, for people who watch.
    last: str = ""
    _outgoing: str = ""
    _result: Event | None = None

    def opening(self) -> str | None:
        """What the agent is told first."""
        return self.dialogue.opening()

    def hear(self, line: str) -> None:
        """Counts and logs what a line means."""
        for event in self.dialogue.hear(line):
            self.tally.add(event)
            if event.kind is Kind.RESULT:
                self._result = event
            if event.kind is Kind.PERMISSION and event.failed and len(self.denied) < MOST_DENIED:
                self.denied.append(self.tally.called(event))
            if event.kind not in _SILENT:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        facts: dict[str, object] = {}
        if event.tool:
            facts["tool"] = event.tool
        if event.failed:
            facts["failed"] = True
        self.log.event(str(event.kind), event.text, **facts)
        self.last = f"{event.tool} {event.text}".strip() or self.last

    def say(self, text: str) -> bool:
        """Tells the agent something while it works; False when it cannot hear now."""
        words = self.dialogue.say(text)
        if words is None:
            return False
        self._outgoing += words
        return True

    def outgoing(self) -> str:
        """What is to be written now."""
        words, self._outgoing = self._outgoing, ""
        return words

    def is_over(self) -> bool:
        """Whether nothing more will be said."""
        return not self._outgoing and self.dialogue.is_over()

    def had_last_word(self) -> bool:
        """Whether the agent gave its result, and owes no other."""
        return self._result is not None and self.dialogue.is_over()

    def words(self) -> str:
        """What the agent said at the end: its result, else the last lines that it wrote."""
        return self._result.text if self._result and self._result.text else self.log.last_words()


def first_line(number: int, agent: str, settings: Mapping[str, Any], assignment: Assignment) -> str:
    """What the log needs of a go so that its lines can be understood again."""
    return json.dumps(
        {
            "go": number,
            "agent": agent,
            "settings": dict(settings),
            "session": assignment.session,
            "spent": asdict(assignment.spent),
        },
        ensure_ascii=False,
    )


def assignment_of(line: str) -> tuple[str, Mapping[str, Any], Assignment]:
    """The agent, its settings and as much of the assignment as counting needs, from ``first_line``."""
    from pathlib import Path

    facts = json.loads(line)
    nowhere = Path("/")
    again = Assignment("", nowhere, nowhere, session=facts["session"], spent=Usage(**facts["spent"]))
    return facts["agent"], facts["settings"], again
