"""What an agent is told when it takes up a task: the truth about what it builds on, and no more than fits."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.model import NewTask
from orchestrion.memory.brief import DEFAULT_TOKENS
from orchestrion.scheduler import create
from orchestrion.store import Transaction

BUDGET = DEFAULT_TOKENS * 4


def section(brief: str, heading: str) -> str:
    """What stands under a heading."""
    return brief.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_how_each_dependency_stands_is_told_as_it_is(orchestrion: Orchestrator) -> None:
    for title in ("Done", "Broken", "Dropped", "Not needed"):
        orchestrion.add(title)
    orchestrion.done(orchestrion.claim("T1")["run"], "all of it")
    orchestrion.fail(orchestrion.claim("T2")["run"], "the disk is full")
    orchestrion.cancel("T3", "nobody wants it")
    soft = orchestrion.add("Build on it", after=["T1"], soft_after=["T2", "T3"], after_failure=["T2"])
    orchestrion.add_dependency(soft.as_json()["id"], "T4")
    orchestrion.waive_dependency("T5", "T4", "done by hand")
    told = section(orchestrion.claim("T5")["brief"], "Results you build on")
    assert "**T1** Done:\n\nall of it" in told
    assert "**T2** Broken (failed, client_failed; this task is here because of it):\n\nthe disk is full" in told
    assert "**T3** Dropped (cancelled" in told
    assert "nobody wants it" in told
    assert "**T4** Not needed (ready; it need not be waited for: done by hand)" in told


def test_artifacts_come_whole_for_data_and_by_name_else(orchestrion: Orchestrator) -> None:
    for title in ("Measure", "Look"):
        orchestrion.add(title)
    orchestrion.done(orchestrion.claim("T1")["run"], "measured", detail="12 ms")
    orchestrion.done(orchestrion.claim("T2")["run"], "looked", detail="nothing there")
    orchestrion.add("Use it", after=["T2"])
    orchestrion.add_dependency("T3", "T1", "data")
    told = section(orchestrion.claim("T3")["brief"], "Results you build on")
    assert "Artifact A1 of T1, detail:\n\n```\n12 ms\n```" in told
    assert "- Artifact A2 of T2, detail (13 bytes): `orchestrion artifact A2`" in told
    assert "nothing there" not in told


def test_a_huge_artifact_is_cut_and_its_length_is_true(orchestrion: Orchestrator) -> None:
    orchestrion.add("Measure")
    orchestrion.done(orchestrion.claim("T1")["run"], "measured", detail="ä" * 3_000_000)
    orchestrion.add("Use it")
    orchestrion.add_dependency("T2", "T1", "data")
    brief = orchestrion.claim("T2")["brief"]
    assert len(brief.encode()) <= BUDGET
    assert "of 3,000,000 characters left out for length: `orchestrion artifact A1`" in brief


def test_the_answer_to_a_question_is_in_the_next_brief(orchestrion: Orchestrator) -> None:
    orchestrion.add("Choose")
    orchestrion.done(orchestrion.claim()["run"], "Which of the two?", next_action="blocked")
    orchestrion.open_gate("G1", answer="the second")
    told = section(orchestrion.claim("T1")["brief"], "Answers to what was asked")
    assert told.strip() == "**G1** Which of the two?\n\nthe second"


def test_what_was_handed_over_is_in_the_next_brief(orchestrion: Orchestrator) -> None:
    orchestrion.add("Write it", tags=("docs",))
    orchestrion.handoff(task="T1", text="first this")
    orchestrion.handoff(task="T1", text="# Mind\n\nthe gap")
    orchestrion.handoff(tag="docs", text="short sentences")
    orchestrion.handoff(text="something else")
    told = section(orchestrion.claim("T1")["brief"].replace("# Mind", "Mind"), "Handed over")
    assert "**H2**, this task, by" in told
    assert "the gap" in told
    assert "**H3**, work stream docs, by" in told
    assert "short sentences" in told
    assert "first this" not in told
    assert "something else" not in told


def test_decisions_with_the_words_of_the_task_come_before_newer_ones(orchestrion: Orchestrator) -> None:
    orchestrion.add("Everything")
    orchestrion.decide("Recursive descent for parsers", decision="No generator.", files=["src/parse.py"])
    orchestrion.decide("Our elders decide", task="T1")
    for number in range(60):
        orchestrion.decide(f"Number {number}", decision="about something else")
    orchestrion.decide("Parser generator", status="rejected")
    orchestrion.add("Write the parser", parent="T1")
    told = section(orchestrion.claim("T2")["brief"], "Decisions that hold")
    assert told.index("**D2** Our elders decide") < told.index("**D1** Recursive descent") < told.index("**D62**")
    assert "Parser generator" not in told
    assert told.count("**D") == 20


def test_files_that_matter_are_named_with_what_became_of_them(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("Before")
    orchestrion.add("Other")
    (project / "base.py").write_text("base\n")
    orchestrion.done(orchestrion.claim("T1")["run"], "done", files=["base.py"])
    orchestrion.done(orchestrion.claim("T2")["run"], "done", files=["README"])
    orchestrion.decide("Streams", files=["src/streams.py"])
    orchestrion.add("Read streams", description="as README says.", after=["T1"])
    told = section(orchestrion.claim("T3")["brief"], "Files that matter")
    assert told.split("\n\n")[0].strip().splitlines() == ["- base.py (created by T1)", "- src/streams.py (D1)"]
    orchestrion.add("Read ./README. And src/streams.py, x/README")
    (project / "docs").mkdir()
    (project / "docs" / "a.md").write_text("a\n")
    orchestrion.add("Third")
    orchestrion.done(orchestrion.claim("T5")["run"], "done", files=["docs/a.md"])
    orchestrion.add("Mend docs/a.md.")
    assert "- docs/a.md (created by T5)" in orchestrion.claim("T6")["brief"]


def test_a_brief_of_everything_that_is_huge_fits(orchestrion: Orchestrator, project: Path) -> None:
    huge = "日本語 word " * 20_000
    orchestrion.add("Before", description=huge, tags=("docs",))
    for number in range(25):
        orchestrion.decide(f"{number} " + "ü" * 200, decision=huge, files=[f"f{n}.py" for n in range(100)])
    orchestrion.done(orchestrion.claim("T1")["run"], huge, detail=huge)
    orchestrion.add("After", description=huge, tags=("docs",), after=["T1"], max_retries=9)
    orchestrion.add_dependency("T2", "T1", "data")
    orchestrion.handoff(tag="docs", text=huge)
    orchestrion.fail(orchestrion.claim("T2")["run"], huge)
    orchestrion.retry("T2")
    orchestrion.done(orchestrion.claim("T2")["run"], huge, next_action="needs_revision")
    orchestrion.reject("T2", huge)
    claimed = orchestrion.claim("T2")
    brief = claimed["brief"]
    assert len(brief.encode()) <= BUDGET
    assert brief.startswith("# T2: After\n")
    for heading in (
        "Not accepted yet",
        "What is to be done",
        "Results you build on",
        "Handed over",
        "Decisions that hold",
    ):
        assert f"## {heading}" in brief
    assert f"orchestrion done {claimed['run']}" in brief
    assert brief.count("left out for length") >= 5


@pytest.mark.parametrize("tasks", [10, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_fresh_session_is_told_at_once_whatever_there_is(orchestrion: Orchestrator, tasks: int) -> None:
    """The number of questions to the database is what we can hold on any machine; milliseconds are the benchmark's."""
    fill(orchestrion, tasks)
    text = orchestrion.prime()
    assert len(text.encode()) <= 1_500 * 4
    assert "Decisions that hold" in text
    assert f"- and {tasks - 25 - 8} more: `orchestrion ready`" in text or tasks == 10
    asked: list[str] = []

    def count(tx: Transaction) -> None:
        for way in ("one", "all"):
            ask = getattr(tx, way)
            setattr(tx, way, lambda name, /, _ask=ask, **given: asked.append(name) or _ask(name, **given))
        from orchestrion.memory import prime

        prime.compose(tx, prime.Wanted("x"))

    orchestrion.store.read(count)
    assert len(asked) == len(set(asked)) <= 12
    took = statistics.median(_seconds(orchestrion) for _ in range(5))
    assert took < 0.5


def _seconds(orchestrion: Orchestrator) -> float:
    began = time.perf_counter()
    orchestrion.prime()
    return time.perf_counter() - began


def fill(orchestrion: Orchestrator, tasks: int) -> None:
    """So many tasks, 500 decisions, 25 runs at work."""

    def work(tx: Transaction) -> Any:
        create.create_all(tx, [NewTask(f"Task {number} " + "x" * 100) for number in range(tasks)])

    orchestrion.store.write(work)
    for number in range(500 if tasks > 10 else 5):
        orchestrion.decide(f"Decision {number}", decision="so it is, and not otherwise")
    for _ in range(25 if tasks > 10 else 1):
        orchestrion.claim()
