"""Lines of the journal in words, and the page they are written on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrion import Orchestrator
from orchestrion.demo.live import Live, Words
from orchestrion.demo.page import Page
from orchestrion.demo.stage import set_up


def event(kind: str, second: int = 0, **facts: Any) -> dict[str, Any]:
    return {"kind": kind, "at": f"2026-11-20T12:00:{second:02}.000Z", "task": None, "run": None, "data": None, **facts}


def test_an_attempt_is_counted_from_the_second_on() -> None:
    words = Words({"T9": "Arrange it"})
    assert words.of(event("task.in_progress", task="T9", run="R9")) == "   0.0 s  T9   R9   begins: Arrange it"
    again = words.of(event("task.in_progress", 12, task="T9", run="R11"))
    assert again == "  12.0 s  T9   R11  begins: Arrange it (attempt 2)"


def test_working_again_means_that_the_check_failed() -> None:
    words = Words({})
    assert words.of(event("run.phase", run="R1", data={"phase": "working"})) is None
    assert words.of(event("run.phase", run="R2", data={"phase": "working"})) is None
    assert words.of(event("run.phase", run="R1", data={"phase": "checking"})) is None
    assert "R1   its check failed" in str(words.of(event("run.phase", run="R1", data={"phase": "working"})))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (event("task.completed", task="T1", data={"by": "children"}), "T1        completed"),
        (event("task.completed", task="T2", run="R3"), "T2   R3   completed"),
        (event("task.cancelled", task="T3", data={"code": "not_needed"}), "T3        not needed: "),
        (event("task.failed", task="T4", run="R4", data={"code": "stalled"}), "T4   R4   failed: stalled"),
        (
            event("demo.killed", run="R9", data={"supervisor": 7, "agent": [8, 9]}),
            "     R9   KILLED by the demo: supervisor 7, agent 8, 9",
        ),
    ],
)
def test_what_people_should_know_is_told(found: dict[str, Any], words: str) -> None:
    assert Words({}).of(found) == f"   0.0 s  {words}"


@pytest.mark.parametrize("kind", ["task.created", "task.ready", "run.starting", "run.running", "run.succeeded"])
def test_what_they_need_not_know_is_not(kind: str) -> None:
    assert Words({}).of(event(kind, task="T1", run="R1")) is None


def test_a_page_wraps_paragraphs_and_aligns_rows() -> None:
    out = io.StringIO()
    page = Page(out)
    page.paragraph("word " * 40, "Label.")
    page.rows([(("a", ""), ("long", "")), (("bbb", "dim"), ("c", ""))])
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("  Label. word")
    assert all(len(line) <= 100 for line in lines)
    assert lines[-2:] == ["  a    long", "  bbb  c"]


def test_a_command_is_never_broken() -> None:
    out = io.StringIO()
    Page(out).line("x" * 300)
    assert out.getvalue() == "x" * 300 + "\n"


def test_a_terminal_without_our_signs_gets_others() -> None:
    raw = io.BytesIO()
    page = Page(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    page.line("✓ done")
    assert raw.getvalue() == b"? done\n"


def test_the_tree_says_what_each_task_waits_for(tmp_path: Path) -> None:
    stage = set_up(tmp_path / "demo", {})
    out = io.StringIO()
    page = Page(out)
    page.console = Console(file=out, force_terminal=True, width=100, height=50, no_color=True)
    with Orchestrator.open(stage.repository, environ=stage.environ) as opened, Live(opened, page) as live:
        opened.claim(stage.tasks["waves"])
        live.update()
    lines = Console(file=io.StringIO(), width=100).render_str(out.getvalue()).plain.splitlines()
    [waves] = {line.strip() for line in lines if "T2 " in line and "▶" in line}
    assert "Write the wave forms" in waves
    assert any("○ T11" in line and "waits for T1, T7" in line for line in lines)
    assert any("○ T15" in line and "waits for T12, T14" in line for line in lines), "its own wait and its parent's"
    assert any("○ T1 " in line and "waits for its children" in line for line in lines)
    assert any("0 of 18 tasks, agents at work: 1" in line for line in lines)
