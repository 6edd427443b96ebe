"""Commands that talk to agents, start a role at once, and look whether all is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from place import Place

from orchestrion import Orchestrator
from orchestrion.runs.points import POINTS
from orchestrion.scheduler import permissions
from orchestrion.scheduler.permissions import Ask


def test_a_role_works_at_once(project: Place) -> None:
    answer = project.json(
        "run", "implementer", "Write it\nas a file", "--run", "echo hi > made.txt", "--check", "test -s made.txt"
    )
    assert (answer["task"]["title"], answer["task"]["role"]) == ("Write it", "implementer")
    assert (answer["task"]["state"], answer["run"]["state"]) == ("completed", "succeeded")


def test_a_role_that_fails_and_one_that_is_not_there(project: Place) -> None:
    assert project.json("run", "tester", "Break", "--run", "exit 3", code=8)["run"]["code"] == "agent_failed"
    assert project("run", "implementr", "x", "--run", "true", "--json", code=4).error["code"] == "no_role"
    assert "title" in project("run", "tester", "  ", "--run", "true", "--json", code=6).error["message"]


def test_messages_that_nobody_can_hear(project: Place) -> None:
    project("add", "first")
    project("claim")
    assert project("message", "R1", "hello", "--json", code=5).error["code"] == "run_unsupervised"
    assert project("message", "R9", "hello", "--json", code=4).error["code"] == "no_run"
    assert project("message", "R1", "-", "--json", stdin=b" \n", code=6).error["code"]
    project("done", "R1", "--summary", "x")
    assert project("message", "R1", "hello", "--json", code=5).error["code"] == "run_over"


def test_what_agents_were_denied_is_decided(project: Place) -> None:
    assert project("permissions").out == "no agent waits for a permission\n"
    project("add", "Release it")
    project("claim", "--agent", "claude")
    with Orchestrator.open(project.root, environ=project.environ) as opened:
        asks = [Ask("Bash", "make release"), Ask("Bash", "make; rm x")]
        opened.store.write(lambda tx: permissions.note(tx, 1, 1, asks))
    listed = project("permissions").out
    assert "Bash make release" in listed
    assert "no single rule allows it" in listed
    assert "2 permissions that agents asked for" in project("status").out
    assert project("permissions", "--allow", "1").out == "allowed: Bash make release for T1\n"
    assert project("permissions", "--allow", "2", "--json", code=5).error["code"] == "no_rule"
    assert project("permissions", "--refuse", "1", "--json", code=5).error["code"] == "decided"
    assert project.json("permissions", "--refuse", "2")["state"] == "refused"
    assert project.json("permissions")["total"] == 0
    assert [one["state"] for one in project.json("permissions", "--all")["permissions"]] == ["refused", "allowed"]
    assert project("permissions", "--allow", "7", "--json", code=4).error["code"] == "no_permission"
    for wrong in (["--allow", "x"], ["--allow", "1", "--all"], ["--refuse", "1", "--allow", "1"]):
        project("permissions", *wrong, code=2)


def test_all_that_is_known_of_a_run(project: Place) -> None:
    project("add", "Write it", "--run", "echo hi > made.txt; echo said", "--check", "test -s made.txt")
    project.process("work", "--drain")
    found = project.json("debug", "R1")
    steps = [one["step"] for one in found["steps"]]
    assert steps == [point for point in POINTS if point in steps]
    assert {"prepare.done", "work.ended", "check.done", "merge.done", "settle.done"} <= set(steps)
    assert all(one["after_s"] >= 0 for one in found["steps"])
    assert (found["run"]["state"], found["correlation"], found["processes"]) == ("succeeded", "R1", [])
    assert found["journal"][-1]["kind"] == "task.completed"
    assert found["last_words"][-1].endswith("out: said")
    assert {"brief.md", "log.jsonl", "order.json"} <= set(found["files"])
    told = project("debug", "R1").out
    assert all(part in told for part in ("Steps", "settle.done", "Journal", "Last words", "Files"))
    assert project("debug", "R9", "--json", code=4).error["code"] == "no_run"
    for nothing in ("../R1", "a/b/R1", "/R1", "T1", "R1/.."):
        assert project("debug", nothing, "--json", code=6).error["code"] == "invalid_id"


def test_nobody_who_is_told_of_a_run_learns_a_secret(project: Place) -> None:
    settings = project.root / ".orchestrion" / "config.yaml"
    settings.parent.mkdir(exist_ok=True)
    server = "{command: /bin/true, env: {SHOP_KEY: hunter2hunter2}}"
    settings.write_text(f"servers:\n  shop: {server}\n")
    project("add", "x", "--run", "true")
    project.process("work", "--drain")
    order = project.root / ".git" / "orchestrion" / "runs" / "R1" / "order.json"
    assert "hunter2hunter2" in order.read_text()
    found = project.json("debug", "R1")
    assert "hunter2hunter2" not in json.dumps(found)
    assert "SHOP_KEY" in json.dumps(found["order"])


def test_files_of_a_run(project: Place) -> None:
    project("add", "first")
    project("claim")
    assert project.json("files", "R1") == {"run": "R1", "files": []}
    assert project("files", "R1").out == "R1 has changed no file, as far as is known\n"
    assert project.json("files", "--overlaps") == {"overlaps": []}
    assert project("files", "R9", "--json", code=4).error["code"] == "no_run"


def test_a_retry_without_a_session(project: Place) -> None:
    project("add", "first", "--run", "false")
    project("work", "--drain", code=8)
    assert project("retry", "T1", "--resume", "--json", code=5).error["code"] == "no_session"
    assert project.json("retry", "T1")["state"] == "ready"


@pytest.fixture
def programs(project: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake programs, before all others on the path, and no key of anybody."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_doctor(project: Place, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs, "claude", "echo '2.0 (Claude Code)'")
    found = json.loads(project("doctor", "--json", code=7).out)
    claude = next(one for one in found["agents"] if one["agent"] == "claude")
    assert (claude["version"], claude["signed_in"]) == ("2.0 (Claude Code)", False)
    assert "sign in" in claude["advice"]
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    healthy = project("doctor")
    assert "nothing to do" in healthy.out
    assert "a-key" not in healthy.out


@pytest.mark.parametrize("text", ["exit 3", "head -c 3000 /dev/urandom", "kill -9 $$"])
def test_doctor_with_a_program_that_is_broken(project: Place, programs: Path, text: str) -> None:
    program(programs, "claude", text)
    found = json.loads(project("doctor", "claude", "--json", code=7).out)
    assert found["agents"][0]["program"] == str(programs / "claude")


def test_doctor_of_an_agent_that_nobody_knows(project: Place) -> None:
    [found] = json.loads(project("doctor", "clod", "--json", code=7).out)["agents"]
    assert "there is no agent 'clod'" in found["advice"]


def test_a_role_without_an_agent_leaves_no_task(project: Place) -> None:
    error = project("run", "reviewer", "Look", "--json", code=6).error
    assert (error["code"], "--agent claude" in error["hint"]) == ("command_missing", True)
    assert project.json("list")["total"] == 0
