"""Codex, the real program, against the scripted model."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mini_server
import psutil
import pytest
from openai_model import OpenAiModel, Used

from orchestrion.runs.agents.agent import Assignment, Event, Kind, McpServer, Permissions, Tally, Usage, Verdict
from orchestrion.runs.agents.codex import CodexAgent, CodexDialogue
from waiting import wait_for

#: So long a test waits for what must come, in seconds.
PATIENCE_S = 60.0
CONFIGURATION = """
model = "fake-model"
model_provider = "scripted"
[model_providers.scripted]
name = "scripted"
base_url = "URL/v1"
wire_api = "responses"
env_key = "SCRIPTED_KEY"
request_max_retries = 1
stream_max_retries = 1
[analytics]
enabled = false
"""


@dataclass
class Go:
    """One process, and what it tells."""

    dialogue: CodexDialogue
    process: subprocess.Popen[str]
    events: list[Event] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def follow(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            for event in self.dialogue.hear(line):
                self.tally.add(event)
                self.events.append(event)

    def end(self) -> Verdict:
        self.reader.join(PATIENCE_S)
        assert not self.reader.is_alive(), "it does not end"
        assert self.process.stderr
        return self.dialogue.judge(self.process.wait(PATIENCE_S), self.process.stderr.read())

    def told(self, kind: Kind) -> list[str]:
        return [event.text for event in self.events if event.kind is kind]

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self.follow, daemon=True)
        self.reader.start()


@dataclass
class Stage:
    """A workspace and a home in which Codex knows of nothing but the scripted model."""

    root: Path
    programs: Path
    url: str
    goes: list[Go] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder, self.home = self.root / "workspace", self.root / "home"
        self.folder.mkdir()
        (self.home / ".codex").mkdir(parents=True)
        self.know(self.url)

    def know(self, url: str) -> None:
        (self.home / ".codex" / "config.toml").write_text(CONFIGURATION.replace("URL", url))

    def environ(self) -> dict[str, str]:
        mark = {"ORCHESTRION_RUN": f"test/{self.root}"}
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "SCRIPTED_KEY": "key", **mark}

    def start(self, prompt: str, **asked: Any) -> Go:
        asked = {"permissions": Permissions.ALL, **asked}
        program = (str(self.programs / "codex"),)
        dialogue = CodexAgent().begin(Assignment(prompt, self.folder, self.root, program=program, **asked))
        process = subprocess.Popen(
            dialogue.argv(),
            cwd=self.folder,
            env={**dialogue.environment(self.environ()), "ORCHESTRION_RUN": f"test/{self.root}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        go = Go(dialogue, process)
        self.goes.append(go)
        assert process.stdin
        process.stdin.write(dialogue.opening())
        process.stdin.close()
        return go

    def play(self, *steps: dict[str, Any], **asked: Any) -> tuple[Go, Verdict]:
        go = self.start(script(*steps), **asked)
        return go, go.end()

    def clear(self) -> None:
        for process in self.family():
            process.kill()
        for go in self.goes:
            go.process.kill()
            go.process.wait()
            go.reader.join()
            for stream in (go.process.stdout, go.process.stderr):
                assert stream
                stream.close()

    def family(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("ORCHESTRION_RUN") == f"test/{self.root}" and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:
                continue
        return found


def script(*steps: dict[str, Any]) -> str:
    return f"Do it. [[script: {json.dumps(steps)}]]"


def shell(command: str, **more: Any) -> dict[str, Any]:
    return {"tool": "exec_command", "input": {"cmd": command, "yield_time_ms": 60_000}, **more}


def usage(used: Used) -> Usage:
    fresh = used.input - used.cached - used.written
    return Usage(used.answers, fresh, used.output, used.cached, used.written)


@pytest.fixture
def model() -> Iterator[OpenAiModel]:
    with OpenAiModel() as model:
        yield model


@pytest.fixture
def stage(tmp_path: Path, programs: Path, model: OpenAiModel) -> Iterator[Stage]:
    stage = Stage(tmp_path, programs, model.url)
    yield stage
    stage.clear()


def test_it_writes_a_file_and_runs_commands(stage: Stage, model: OpenAiModel) -> None:
    go, verdict = stage.play(
        shell(
            "echo 'print(42)' > hello.py",
            text="Working",
            usage={"input": 1000, "cached": 600, "written": 100, "output": 50, "reasoning": 30},
        ),
        {"tools": [shell("python3 hello.py"), shell("exit 3")]},
        {"text": "all done"},
    )
    assert verdict == Verdict(None, "all done")
    assert (stage.folder / "hello.py").read_text() == "print(42)\n"
    assert go.told(Kind.TEXT) == ["Working", "all done"]
    assert "42" in go.told(Kind.TOOL_RESULT)
    # Tools of one answer work side by side.
    assert sorted(event.failed for event in go.events if event.kind is Kind.TOOL_RESULT) == [False, False, True]
    assert go.tally.tools == {"shell": 3}
    assert go.tally.model == "fake-model"
    assert go.events[-1].kind is Kind.RESULT
    assert go.tally.usage == usage(model.used()) == Usage(3, 500, 90, 600, 100)
    assert {asked.key for asked in model.asked()} == {"key"}


def test_session_goes_on_and_every_go_counts_its_own(stage: Stage, model: OpenAiModel) -> None:
    first, _ = stage.play(shell("echo one"), {"text": "first", "usage": {"input": 77, "output": 7}})
    session, spent = first.tally.session, first.tally.usage
    second, failed = stage.play(shell("echo two"), {"http": 401}, session=session, spent=spent)
    assert failed.code == "auth_failed"
    spent += second.tally.usage
    # Resuming is allowed with other permissions than before.
    third, verdict = stage.play(
        {"text": "third", "usage": {"input": 9, "cached": 4}},
        session=session,
        spent=spent,
        permissions=Permissions.READ,
    )
    assert verdict == Verdict(None, "third")
    assert {go.tally.session for go in (first, second, third)} == {session}
    assert "first" in json.dumps(model.asked("third")[-1].body)
    for go, words in ((first, "first"), (second, "echo two"), (third, "third")):
        assert go.tally.usage == usage(model.used(words))
    assert second.tally.usage == Usage(1, 100, 20)


def test_session_that_is_gone(stage: Stage) -> None:
    _, verdict = stage.play({"text": "x"}, session="01a1fc52-792a-79b3-b647-469b1f362000")
    assert verdict.code == "session_lost"


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"http": 401}, "auth_failed"),
        ({"http": 429}, "rate_limited"),
        ({"http": 500}, "network"),
        ({"cut": True}, "network"),
        ({"http": 400}, "agent_failed"),
    ],
)
def test_service_that_fails(stage: Stage, model: OpenAiModel, step: dict[str, Any], code: str) -> None:
    go, verdict = stage.play(shell("echo before"), step)
    assert verdict.code == code
    assert go.tally.usage == usage(model.used()) == Usage(1, 100, 20)


def test_service_that_recovers(stage: Stage, model: OpenAiModel) -> None:
    go, verdict = stage.play({"http": 500, "times": 1, "text": "fine"})
    assert verdict == Verdict(None, "fine")
    assert go.tally.usage == usage(model.used()) == Usage(1, 100, 20)


def test_network_that_is_cut_is_not_waited_for(stage: Stage) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        stage.know(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        _, verdict = stage.play({"text": "x"})
    assert verdict.code == "network"


def test_long_brief(stage: Stage, model: OpenAiModel) -> None:
    go = stage.start("x" * 200_000 + script({"text": "read"}))
    assert go.end() == Verdict(None, "read")
    assert "x" * 200_000 in json.dumps(model.asked("read")[0].body)


def test_commands_have_the_path_of_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{stage.root}")
    go, _ = stage.play(shell('echo "${PATH##*:}"'))
    assert go.told(Kind.TOOL_RESULT) == [str(stage.root)]


def test_permissions(stage: Stage) -> None:
    stage.play(shell("echo x > read.txt"), permissions=Permissions.READ)
    stage.play(shell(f"echo x > edit.txt; echo x > {stage.home}/no.txt; :"), permissions=Permissions.EDIT)
    assert [file.name for file in stage.folder.iterdir()] == ["edit.txt"]


@pytest.mark.parametrize(("allowed", "told"), [((), "requires approval"), (("mcp__mini__create",), "made with s3cret")])
def test_tools_of_a_server_that_is_slow_to_start(stage: Stage, allowed: tuple[str, ...], told: str) -> None:
    server = McpServer("mini", mini_server.COMMAND, {"TOKEN": "s3cret"})
    go, verdict = stage.play(
        {"tool": "create", "namespace": "mcp__mini", "input": {}},
        {"text": "done"},
        servers=(server,),
        allowed_tools=allowed,
        permissions=Permissions.EDIT,
    )
    assert verdict == Verdict(None, "done")
    assert told in go.told(Kind.TOOL_RESULT)[0]
    assert bool(go.told(Kind.PERMISSION)) is not bool(allowed)
    assert go.tally.tools == {"mcp__mini__create": 1}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_killed_while_a_tool_works(stage: Stage, model: OpenAiModel, how: signal.Signals) -> None:
    go = stage.start(script(shell("echo one"), shell("touch begun; sleep 50"), {"text": "never"}))
    wait_for(lambda: (stage.folder / "begun").exists() and go.tally.usage.turns == 2, "it began its second turn")
    if how is signal.SIGTERM:
        go.process.terminate()
    else:
        for process in stage.family():
            process.kill()
    assert go.end() == Verdict("agent_crashed", f"ended by {how.name}")
    assert go.tally.usage == usage(model.used()) == Usage(2, 200, 40)
    wait_for(lambda: not stage.family(), "no process is left")


def test_many_at_once(stage: Stage, model: OpenAiModel) -> None:
    goes = [stage.start(script(shell(f"echo {n} > {n}.txt"), {"text": f"number {n}!"})) for n in range(6)]
    assert [go.end() for go in goes] == [Verdict(None, f"number {n}!") for n in range(6)]
    for n, go in enumerate(goes):
        assert go.tally.usage == usage(model.used(f"number {n}!")) == Usage(2, 200, 40)
    assert len({go.tally.session for go in goes}) == 6


def test_it_is_examined_without_spending(stage: Stage, model: OpenAiModel) -> None:
    program = (str(stage.programs / "codex"),)
    health = CodexAgent().examine(stage.environ(), program)
    assert (health.program, health.signed_in, health.advice) == (program[0], True, "")
    assert health.version
    assert health.version[0].isdigit()
    (stage.home / ".codex" / "config.toml").unlink()
    assert CodexAgent().examine(stage.environ(), program).signed_in is False
    assert model.asked() == []
