"""Claude Code and Codex behind their adapters for ACP, the real ones, driven through the one adapter of ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mini_server
import psutil
import pytest
from anthropic_model import AnthropicModel
from desk import PATIENCE_S, Desk, script
from openai_model import OpenAiModel

from orchestrion.runs.agents.acp import acp_agent
from orchestrion.runs.agents.agent import Assignment, Event, Kind, McpServer, Permissions, Tally, Usage, Verdict

Step = dict[str, Any]


@dataclass
class Go:
    """A go that is over."""

    verdict: Verdict
    events: list[Event]
    tally: Tally

    def told(self, kind: Kind) -> list[str]:
        return [event.text for event in self.events if event.kind is kind]


class Stage(Desk):
    """A workspace in which an adapter works."""

    def play(self, agent: str, *steps: Step, **asked: Any) -> Go:
        dialogue = acp_agent(agent).begin(Assignment(script(steps), self.root, self.home, **asked))
        environ = dialogue.environment(self.environ) | {
            # Its adapter brings none along, where the tests were installed.
            "CLAUDE_CODE_EXECUTABLE": str(Path(self.environ["PATH"].split(os.pathsep)[0]) / "claude"),
            "FAKE_KEY": "key",
            "ORCHESTRION_RUN": f"test/{self.root}",
        }
        events: list[Event] = []
        tally = Tally()
        with subprocess.Popen(
            dialogue.argv(), cwd=self.root, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(dialogue.opening())
            process.stdin.flush()
            for line in process.stdout:
                events += dialogue.hear(line)
                if dialogue.is_over() and not process.stdin.closed:
                    process.stdin.close()
            for event in events:
                tally.add(event)
            return Go(dialogue.judge(process.wait(PATIENCE_S), ""), events, tally)

    def processes(self) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("ORCHESTRION_RUN") == f"test/{self.root}" and process.status() != "zombie":
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def write(self, file: str) -> Step:
        return {"tool": "Write", "input": {"file_path": str(self.root / file), "content": "42\n"}}


def bash(command: str) -> Step:
    return {"tool": "Bash", "input": {"command": command, "description": "a command"}}


def shell(command: str) -> Step:
    return {"tool": "exec_command", "input": {"cmd": command}}


@pytest.fixture
def stage(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with AnthropicModel() as claude_model, OpenAiModel() as model:
        stage = Stage(tmp_path, programs, claude_model.url, model.url)
        monkeypatch.setenv("PATH", stage.environ["PATH"])
        yield stage
        stage.orchestrion.close()
        assert stage.processes() == []


def test_claude_code_works_under_the_policy_and_is_counted(stage: Stage) -> None:
    steps = (stage.write("a.txt"), bash("cat a.txt > b.txt"), bash("touch c.txt"), {"text": "all done"})
    go = stage.play("claude-acp", *steps, allowed_tools=("Bash(touch *)",))
    assert go.verdict == Verdict(None, "all done")
    assert {file.name for file in stage.root.iterdir()} == {".git", "a.txt", "c.txt"}
    assert go.told(Kind.PERMISSION) == ["cat a.txt > b.txt"]
    assert go.tally.tools == {"Write": 1, "Bash": 2}
    assert go.tally.usage == Usage(turns=4, input=400, output=80, cost_usd=go.tally.usage.cost_usd)
    assert go.tally.usage.cost_usd
    again = stage.play("claude-acp", {"text": "second"}, session=go.tally.session, spent=go.tally.usage)
    assert (again.verdict.text, again.tally.session) == ("second", go.tally.session)
    assert again.tally.usage.input == 100


def test_claude_code_that_may_only_read(stage: Stage) -> None:
    go = stage.play("claude-acp", stage.write("a.txt"), {"text": "done"}, permissions=Permissions.READ)
    assert go.told(Kind.PERMISSION) == [str(stage.root / "a.txt")]
    assert [file.name for file in stage.root.iterdir()] == [".git"]


@pytest.mark.parametrize("permissions", [Permissions.EDIT, Permissions.ALL])
def test_codex_works_in_its_sandbox(stage: Stage, permissions: Permissions) -> None:
    beyond = stage.root / ".git" / "beyond.txt"
    steps = (shell("echo 42 > a.txt"), shell(f"echo 42 > {beyond}; :"), {"text": "all done"})
    go = stage.play("codex-acp", *steps, permissions=permissions)
    assert go.verdict.code is None
    assert go.verdict.text.endswith("all done")
    assert (stage.root / "a.txt").read_text() == "42\n"
    assert beyond.exists() is (permissions is Permissions.ALL)
    assert go.tally.tools == {"execute": 2}
    again = stage.play("codex-acp", {"text": "second"}, session=go.tally.session, permissions=permissions)
    assert again.verdict.text.endswith("second")
    assert again.tally.session == go.tally.session


def test_codex_that_may_only_read(stage: Stage) -> None:
    go = stage.play("codex-acp", shell("echo 42 > a.txt; :"), {"text": "done"}, permissions=Permissions.READ)
    assert go.verdict.code is None
    assert [file.name for file in stage.root.iterdir()] == [".git"]


@pytest.mark.parametrize("agent", ["claude-acp", "codex-acp"])
def test_tools_of_a_server_are_there(stage: Stage, agent: str) -> None:
    server = McpServer("mini", mini_server.COMMAND, {"TOKEN": "s3cret"})
    named = {
        "claude-acp": {"tool": "mcp__mini__create", "input": {}},
        "codex-acp": {"tool": "create", "namespace": "mcp__mini", "input": {}, "delay": 4},
    }
    go = stage.play(
        agent,
        named[agent],
        {"text": "done"},
        servers=(server,),
        allowed_tools=("mcp__mini",),
        permissions=Permissions.ALL,
    )
    assert go.verdict.code is None
    assert any("made with s3cret" in text for text in go.told(Kind.TOOL_RESULT)), go.events


@pytest.mark.parametrize(("agent", "program"), [("claude-acp", "claude-agent-acp"), ("codex-acp", "codex-acp")])
def test_examine_finds_the_program(stage: Stage, programs: Path, agent: str, program: str) -> None:
    health = acp_agent(agent).examine(stage.environ)
    assert (health.program, health.advice) == (str(programs / program), "")
