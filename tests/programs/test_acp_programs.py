"""Gemini, Qwen and OpenCode, the real programs, driven through the one adapter for ACP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mini_server
import psutil
import pytest
from openai_model import OpenAiModel

from orchestrion.runs.agents.acp import AcpDialogue, acp_agent
from orchestrion.runs.agents.agent import Assignment, Event, Kind, McpServer, Permissions, Tally, Usage, Verdict
from waiting import wait_for

#: These programs take seconds to start, the more the busier the machine is.
PATIENCE_S = 100.0
NAMES = ("gemini", "qwen", "opencode")
#: What each of them calls its tools: to write a file, its argument for the path, to run a command.
TOOLS = {
    "gemini": ("write_file", "file_path", "run_shell_command"),
    "qwen": ("write_file", "file_path", "run_shell_command"),
    "opencode": ("write", "filePath", "bash"),
}

#: What each of them calls the tool ``create`` of the server ``mini``.
SERVER_TOOLS = {"gemini": "mcp_mini_create", "qwen": "mcp__mini__create", "opencode": "mini_create"}


@dataclass
class Played:
    """A go that is over."""

    verdict: Verdict
    events: list[Event]
    tally: Tally


class Stage:
    """A workspace and a home in which the programs know of nothing but the scripted model."""

    def __init__(self, root: Path, programs: Path, url: str) -> None:
        self.folder, self.home = root / "workspace", root / "home"
        self.mark = f"test/{root}"
        self.environ = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "GEMINI_API_KEY": "test-key",
            "GOOGLE_GEMINI_BASE_URL": url,
            "OPENAI_API_KEY": "test-key",
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_MODEL": "fake-model",
            **{f"OPENCODE_DISABLE_{what}": "1" for what in ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "SHARE")},
        }
        for folder in (self.folder, self.home):
            folder.mkdir()
        self._configure(url)

    def _configure(self, url: str) -> None:
        quiet = {"general": {"enableAutoUpdate": False}, "privacy": {"usageStatisticsEnabled": False}}
        gemini = {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}}
        self._write(".gemini/settings.json", {**quiet, "security": gemini})
        self._write(".qwen/settings.json", {**quiet, "security": {"auth": {"selectedType": "openai"}}, "$version": 4})
        model = {"name": "Fake", "limit": {"context": 128000, "output": 8000}, "cost": {"input": 1, "output": 2}}
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Fake",
            "options": {"baseURL": f"{url}/v1", "apiKey": "test-key"},
            "models": {"fake-model": model},
        }
        chosen = {"model": "fake/fake-model", "small_model": "fake/fake-model"}
        self._write(".config/opencode/opencode.json", {**chosen, "provider": {"fake": provider}})

    def _write(self, name: str, settings: dict[str, Any]) -> None:
        file = self.home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))

    def write(self, agent: str, file: str, content: str) -> dict[str, Any]:
        """A step that writes a file of the workspace."""
        tool, key, _ = TOOLS[agent]
        return {"tool": tool, "input": {key: str(self.folder / file), "content": content}}

    def run(self, agent: str, command: str) -> dict[str, Any]:
        """A step that runs a command."""
        more = {"is_background": False} if agent == "qwen" else {}
        return {"tool": TOOLS[agent][2], "input": {"command": command, "description": "run", **more}}

    def begin(self, agent: str, *steps: dict[str, Any], **asked: Any) -> AcpDialogue:
        return acp_agent(agent).begin(Assignment(script(*steps), self.folder, self.home, **asked))

    def start(self, dialogue: AcpDialogue) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            dialogue.argv(),
            cwd=self.folder,
            env={**dialogue.environment(self.environ), "ORCHESTRION_RUN": self.mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdin
        process.stdin.write(dialogue.opening())
        process.stdin.flush()
        return process

    def play(self, agent: str, *steps: dict[str, Any], say: str | None = None, **asked: Any) -> Played:
        dialogue = self.begin(agent, *steps, **asked)
        events: list[Event] = []
        with self.start(dialogue) as process:
            assert process.stdin
            assert process.stdout
            if say:
                process.stdin.write(dialogue.say(say) or "")
                process.stdin.flush()
            for line in process.stdout:
                events += dialogue.hear(line)
                if dialogue.is_over() and not process.stdin.closed:
                    process.stdin.close()
            tally = Tally()
            for event in events:
                tally.add(event)
            return Played(dialogue.judge(process.wait(PATIENCE_S), ""), events, tally)

    def processes(self) -> list[int]:
        """Everybody who works for this test."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("ORCHESTRION_RUN") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


def script(*steps: dict[str, Any]) -> str:
    return f"Do it. [[script: {json.dumps(steps)} ]]"


@pytest.fixture
def model() -> Iterator[OpenAiModel]:
    with OpenAiModel() as model:
        yield model


@pytest.fixture
def stage(tmp_path: Path, programs: Path, model: OpenAiModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(tmp_path, programs, model.url)
    monkeypatch.setenv("PATH", stage.environ["PATH"])
    yield stage
    for pid in stage.processes():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("agent", NAMES)
def test_program_completes_a_real_edit(stage: Stage, agent: str) -> None:
    steps = (
        stage.write(agent, "hello.py", "open('out', 'w').write('42')\n"),
        stage.run(agent, "python3 hello.py"),
        {"text": "all done"},
    )
    played = stage.play(agent, *steps, allowed_tools=("Bash(python3 *)",))
    assert played.verdict == Verdict(None, "all done")
    assert (stage.folder / "hello.py").read_text() == "open('out', 'w').write('42')\n"
    assert (stage.folder / "out").read_text() == "42"
    assert played.tally.session
    assert played.tally.tools == {steps[0]["tool"]: 1, steps[1]["tool"]: 1}
    assert stage.processes() == []
    assert (
        played.tally.usage
        == {
            "gemini": Usage(turns=3, input=300, output=60),
            "qwen": Usage(turns=3, input=300, output=60),
            "opencode": Usage(turns=3, cost_usd=pytest.approx(0.00042)),
        }[agent]
    )


@pytest.mark.parametrize("agent", NAMES)
def test_what_is_not_allowed_is_denied_and_told(stage: Stage, agent: str) -> None:
    steps = (stage.run(agent, "touch made"), stage.write(agent, "new.py", ""), {"text": "done"})
    played = stage.play(agent, *steps, permissions=Permissions.READ)
    assert [event.text for event in played.events if event.kind is Kind.PERMISSION][:1] == ["touch made"]
    assert list(stage.folder.iterdir()) == []


@pytest.mark.parametrize("agent", NAMES)
@pytest.mark.parametrize("allowed", [(), ("mcp__mini__create",)])
def test_tools_of_a_server_are_there_and_under_the_policy(stage: Stage, agent: str, allowed: tuple[str, ...]) -> None:
    played = stage.play(
        agent,
        {"text": "let it start", "tool": SERVER_TOOLS[agent], "input": {}, "delay": 2},
        {"text": "done"},
        servers=(McpServer("mini", mini_server.COMMAND, {"TOKEN": "s3cret"}),),
        allowed_tools=allowed,
    )
    assert played.verdict.code is None
    results = [event.text for event in played.events if event.kind is Kind.TOOL_RESULT]
    assert any("made with s3cret" in text for text in results) is bool(allowed), results
    assert any(event.kind is Kind.PERMISSION for event in played.events) is not bool(allowed)


@pytest.mark.parametrize("agent", ["qwen", "opencode"])
def test_session_is_resumed_and_counted_once(stage: Stage, model: OpenAiModel, agent: str) -> None:
    first = stage.play(agent, {"text": "first"})
    again = stage.play(agent, {"text": "second"}, session=first.tally.session, spent=first.tally.usage)
    assert (again.verdict.text, again.tally.session) == ("second", first.tally.session)
    assert (
        again.tally.usage
        == {
            "qwen": Usage(turns=1, input=100, output=20),
            "opencode": Usage(turns=1, cost_usd=pytest.approx(0.00014)),
        }[agent]
    )
    assert "first" in json.dumps(model.asked("second")[-1].body)


@pytest.mark.parametrize("agent", NAMES)
def test_message_while_it_works_is_heard(stage: Stage, agent: str) -> None:
    played = stage.play(agent, {"text": "first", "delay": 1}, say=script({"text": "second"}))
    assert [event.text for event in played.events if event.kind is Kind.RESULT] == ["first", "second"]
    assert played.verdict.code is None


@pytest.mark.parametrize("agent", NAMES)
@pytest.mark.parametrize("how", ["SIGTERM", "end of input"])
def test_nothing_is_left_of_a_program_that_is_stopped(stage: Stage, agent: str, how: str) -> None:
    steps = (stage.run(agent, "sh -c 'touch begun; setsid sh -c \"sleep 300; true\"'"), {"text": "done"})
    dialogue = stage.begin(agent, *steps, permissions=Permissions.ALL)
    with stage.start(dialogue) as process:
        wait_for((stage.folder / "begun").exists, "it began")
        assert len(stage.processes()) > 2
        if how == "SIGTERM":
            process.terminate()
        else:
            assert process.stdin
            process.stdin.close()
        assert process.wait(PATIENCE_S) == 143
    wait_for(lambda: stage.processes() == [], "no process is left")


@pytest.mark.parametrize("agent", NAMES)
def test_refused_key_is_told(stage: Stage, agent: str) -> None:
    played = stage.play(agent, {"http": 401, "message": "Incorrect API key provided"})
    assert played.verdict.code == "auth_failed"


@pytest.mark.parametrize("agent", NAMES)
def test_examine_finds_the_program_and_its_version(stage: Stage, programs: Path, agent: str) -> None:
    health = acp_agent(agent).examine(stage.environ)
    assert health.program == str(programs / agent)
    assert health.version
    assert health.version[0].isdigit()
    assert health.advice == ""
