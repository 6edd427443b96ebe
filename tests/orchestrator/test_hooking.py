"""What hooks tell and ask, on both databases and with a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrion import Orchestrator
from orchestrion.orchestrator.hooking import MOST_HELD_BACK, SAME_START_MS, FileHooks, SessionHooks, Sitting

NOW = 1_795_132_800_000
SITTING = Sitting("a-session", folder="/somewhere")


@pytest.fixture
def orchestrion(tmp_path: Path, store_url: str) -> Iterator[Orchestrator]:
    root = tmp_path / "project"
    (root / ".orchestrion").mkdir(parents=True)
    with Orchestrator.open(root, db=store_url, environ={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}) as opened:
        yield opened.as_(opened.caller._replace(session="S1"))


def files_of(orchestrion: Orchestrator) -> FileHooks:
    return FileHooks(
        orchestrion.project, orchestrion.config, orchestrion.store, orchestrion.environ, orchestrion.caller
    )


def test_a_start_is_told_once_and_the_next_one_again(orchestrion: Orchestrator) -> None:
    hooks = SessionHooks(orchestrion)
    if orchestrion.store.dialect == "sqlite":
        orchestrion.store.now = NOW
    session, text = hooks.begins(SITTING, "resume")
    assert session == "S1"
    assert text
    assert hooks.begins(SITTING, "resume") == ("S1", None)
    assert hooks.begins(SITTING, "compact")[1]
    if orchestrion.store.now is not None:
        orchestrion.store.now += SAME_START_MS
        assert hooks.begins(SITTING, "resume")[1]


def test_a_file_goes_to_the_run_that_was_claimed_last(orchestrion: Orchestrator) -> None:
    hooks = files_of(orchestrion)
    (orchestrion.project.root / "a.txt").write_text("x")
    hooks.written(SITTING, "a.txt", "created")
    for title in ("one", "two"):
        orchestrion.add(title)
        orchestrion.claim()
    hooks.written(SITTING, str(orchestrion.project.root / "a.txt"), "modified")
    assert orchestrion.task_files("T1")["total"] == 0
    assert [file["path"] for file in orchestrion.task_files("T2")["files"]] == ["a.txt"]
    assert orchestrion.session_detail("S1")["tasks"] == ["T2", "T1"]


def test_a_session_is_held_back_for_each_of_its_runs_and_then_let_go(orchestrion: Orchestrator) -> None:
    hooks = SessionHooks(orchestrion)
    hooks.begins(SITTING, "startup")
    for title in ("one", "two"):
        orchestrion.add(title)
        orchestrion.claim()
    asked = [hooks.may_stop(SITTING, "stop") for _ in range(2 * MOST_HELD_BACK + 1)]
    assert [reason and reason[:2] for reason in asked] == ["R1"] * MOST_HELD_BACK + ["R2"] * MOST_HELD_BACK + [None]
    assert (hooks.may_stop(SITTING, "task") or "").startswith("R1 still holds T1 (one)")
    assert hooks.may_stop(Sitting("another"), "stop") is None
    held = [event for event in orchestrion.events() if event["kind"] == "session.held_back_at_stop"]
    assert {(event["run"], event["session"]) for event in held} == {("R1", "S1"), ("R2", "S1")}


def test_a_run_that_ended_holds_nobody_back(orchestrion: Orchestrator) -> None:
    hooks = SessionHooks(orchestrion)
    hooks.begins(SITTING, "startup")
    orchestrion.add("one")
    orchestrion.claim()
    orchestrion.fail("R1", "cannot be done")
    assert hooks.may_stop(SITTING, "stop") is None
