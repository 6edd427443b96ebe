"""The real Claude Code with our hooks in its settings: it is told once, and its files are recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic_model import AnthropicModel
from desk import PROGRAM, Desk

#: How Claude Code tells its model of a hook that holds it back; it tells it in other words as well.
HELD_BACK = "Stop hook feedback:\\n"


@pytest.fixture
def model() -> Iterator[AnthropicModel]:
    with AnthropicModel() as model:
        yield model


@pytest.fixture
def desk(tmp_path: Path, programs: Path, model: AnthropicModel) -> Iterator[Desk]:
    desk = Desk(tmp_path, programs, anthropic=model.url)
    yield desk
    desk.orchestrion.close()


def heard(asked: dict[str, Any], words: str) -> int:
    """How often the model was told ``words`` in one request."""
    return json.dumps(asked).count(words)


def write(desk: Desk, name: str) -> dict[str, Any]:
    return {"tool": "Write", "input": {"file_path": str(desk.root / name), "content": "x\n"}}


def shell(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command, "description": "a command"}}


@pytest.mark.parametrize("scopes", [["user"], ["project"], ["user", "project"]], ids="+".join)
def test_a_session_is_told_once_and_its_files_are_recorded(
    desk: Desk, model: AnthropicModel, scopes: list[str]
) -> None:
    desk.orchestrion.add("A task with a MEMORABLE title")
    for scope in scopes:
        desk.set_up("claude", scope, agents_md=False)
    said = desk.claude([write(desk, "a.txt"), {**write(desk, "b.txt"), "text": "on"}, {"text": "done"}])
    assert said["result"] == "done"
    assert [heard(asked, "MEMORABLE") for asked in model.asked] == [1, 1, 1]
    [session] = desk.orchestrion.list_sessions()["sessions"]
    assert (session["client"], session["external"]) == ("claude-code", said["session_id"])
    found = desk.orchestrion.verify(session="S1")
    assert found["status"] == "verified"
    assert [(file["path"], file["op"]) for file in found["files"]] == [("a.txt", "created"), ("b.txt", "created")]


def test_a_session_that_is_resumed_is_told_again_and_goes_on(desk: Desk, model: AnthropicModel) -> None:
    desk.set_up("claude", agents_md=False)
    first = desk.claude([{"text": "one"}])
    desk.orchestrion.add("A task with a MEMORABLE title")
    tool = {"tool": "mcp__orchestrion__orchestrator_plan_task", "input": {"title": "More", "description": "."}}
    desk.claude([write(desk, "a.txt"), tool, {"text": "two"}], "--resume", first["session_id"])
    assert heard(model.asked[0], "MEMORABLE") == 0
    assert [heard(asked, "MEMORABLE") for asked in model.asked[1:3]] == [1, 1]
    assert desk.orchestrion.task("T2").as_json()["title"] == "More"
    assert desk.orchestrion.list_sessions()["total"] == 1


def test_a_session_that_is_compacted_is_told_again(desk: Desk, model: AnthropicModel) -> None:
    desk.set_up("claude", agents_md=False)
    first = desk.claude([{"text": "one"}])
    desk.orchestrion.add("A task with a MEMORABLE title")
    desk.run("claude", "-p", "/compact", "--resume", first["session_id"])
    kinds = [event["kind"] for event in desk.orchestrion.events() if event["session"] == "S1"]
    assert kinds == ["session.started", "session.startup", "session.resume", "session.compact"]
    desk.claude([{"text": "two"}], "--resume", first["session_id"])
    assert heard(model.asked[-1], "MEMORABLE") == 1


def test_a_session_does_not_leave_a_claimed_task_behind(desk: Desk, model: AnthropicModel) -> None:
    """It claims by a command, writes, wants to stop, hears that the check fails, mends, and reports."""
    desk.set_up("claude", agents_md=False)
    desk.orchestrion.add("Write it", checks=["echo no-such-file; test -f right.txt"])
    program = " ".join(PROGRAM)
    script = [
        shell(f"{program} claim"),
        write(desk, "wrong.txt"),
        {"text": "done"},
        write(desk, "right.txt"),
        shell(f"{program} done R1 --summary 'written' --file right.txt"),
        {"text": "really done"},
    ]
    said = desk.claude(script)
    assert said["result"] == "really done"
    assert heard(model.asked[3], f"{HELD_BACK}R1 still holds T1") == 1
    assert heard(model.asked[3], "no-such-file") >= 1
    assert desk.orchestrion.task("T1").as_json()["state"] == "completed"
    assert sorted(file["path"] for file in desk.orchestrion.task_files("T1")["files"]) == ["right.txt", "wrong.txt"]


def test_a_task_claimed_by_a_tool_is_not_left_behind_either(desk: Desk, model: AnthropicModel) -> None:
    """Hooks and server are of one session: it claims by a tool, wants to stop, is held back, and reports by a tool."""
    desk.set_up("claude", agents_md=False)
    desk.orchestrion.add("Write it", checks=["test -f right.txt"])
    tool = "mcp__orchestrion__orchestrator_"
    report = {
        "task_id": "T1",
        "run": "R1",
        "summary": "written",
        "detailed_work": "",
        "file_paths": ["right.txt"],
        "next_action": "complete",
    }
    script = [
        {"tool": f"{tool}execute_task", "input": {"task_id": "T1"}},
        {"text": "done"},
        write(desk, "right.txt"),
        {"tool": f"{tool}complete_task", "input": report},
        {"text": "really done"},
    ]
    said = desk.claude(script)
    assert said["result"] == "really done"
    assert heard(model.asked[2], f"{HELD_BACK}R1 still holds T1") == 1
    assert desk.orchestrion.task("T1").as_json()["state"] == "completed"
    [session] = desk.orchestrion.list_sessions()["sessions"]
    assert session["external"] == said["session_id"]
    [file] = desk.orchestrion.task_files("T1")["files"]
    assert (file["path"], file["run"]) == ("right.txt", "R1")
