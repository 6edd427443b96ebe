"""A go: an agent's lines become events, numbers and the log; what is said to it goes out once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from orchestrion.runs import log
from orchestrion.runs.agents.agent import Assignment, Event, Kind, Usage, Verdict
from orchestrion.runs.go import Go, assignment_of, first_line
from orchestrion.runs.log import RunLog


class Parrot:
    """A dialogue for tests: each line is an event in JSON; it hears while it has no result."""

    def __init__(self) -> None:
        self.answered = False

    def argv(self) -> list[str]:
        return ["parrot"]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        return dict(inherited)

    def opening(self) -> str:
        return "hello\n"

    def hear(self, line: str) -> list[Event]:
        found = json.loads(line)
        usage = Usage(turns=found.pop("turns")) if "turns" in found else None
        event = Event(Kind(found.pop("kind")), usage=usage, **found)
        self.answered = self.answered or event.kind is Kind.RESULT
        return [event]

    def say(self, text: str) -> str | None:
        return None if self.answered else f"{text}\n"

    def is_over(self) -> bool:
        return self.answered

    def judge(self, exit_code: int, last_words: str) -> Verdict:
        return Verdict(None, last_words)


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Go]:
    kept = RunLog(tmp_path / "log.jsonl")
    yield Go(Parrot(), kept)
    kept.close()


def hear(go: Go, **event: object) -> None:
    go.hear(json.dumps(event))
    go.log.flush()


def test_events_are_counted_and_logged(go: Go, tmp_path: Path) -> None:
    hear(go, kind="session", id="s7", text="a-model")
    hear(go, kind="tool", tool="Bash", id="c1", text="make test")
    hear(go, kind="tool", tool="Bash", id="c1", text="make test")
    hear(go, kind="tool", tool="Bash", id="c2", text="ls")
    hear(go, kind="usage", turns=2)
    hear(go, kind="tool_result", text="no such file", failed=True)
    assert (go.tally.session, go.tally.model, go.tally.tools) == ("s7", "a-model", {"Bash": 2})
    assert go.tally.usage.turns == 2
    logged = [line for _, line in log.read(tmp_path / "log.jsonl")]
    assert [line["kind"] for line in logged] == ["session", "tool", "tool", "tool", "tool_result"]
    assert logged[1]["tool"] == "Bash"
    assert logged[-1]["failed"] is True


def test_what_is_said_goes_out_once_and_not_after_the_end(go: Go) -> None:
    assert go.opening() == "hello\n"
    assert go.say("also the docs")
    assert not go.is_over()
    assert go.outgoing() == "also the docs\n"
    assert go.outgoing() == ""
    hear(go, kind="result", text="all done")
    assert go.is_over()
    assert go.had_last_word()
    assert not go.say("too late")
    assert go.words() == "all done"


def test_without_a_result_the_last_lines_are_its_words(go: Go) -> None:
    go.log.add("out", "bye")
    assert not go.had_last_word()
    assert go.words() == "bye"


def test_the_log_holds_what_is_needed_to_count_again(tmp_path: Path) -> None:
    spent = Usage(3, 10, 20, 1, 2, 0.5)
    assignment = Assignment("Do it", tmp_path, tmp_path, session="s1", spent=spent)
    agent, settings, again = assignment_of(first_line(2, "claude", {"model": "m"}, assignment))
    assert (agent, settings) == ("claude", {"model": "m"})
    assert (again.session, again.spent) == ("s1", spent)
