"""The real Claude Code and the real Codex, from a task to merged work, and everything they used."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mini_server
import psutil
import pytest
from anthropic_model import AnthropicModel
from openai_model import OpenAiModel

from waiting import wait_for

PATIENCE_S = 100.0
PROGRAM = str(Path(sys.executable).with_name("orchestrion"))


class Place:
    """A project whose agents know of nothing but the scripted models."""

    def __init__(self, root: Path, programs: Path, claude_url: str, codex_url: str) -> None:
        self.folder, home = root / "project", root / "home"
        (home / ".codex").mkdir(parents=True)
        self.folder.mkdir()
        (home / ".codex" / "config.toml").write_text(
            'model = "fake-model"\nmodel_provider = "fake"\ncheck_for_update_on_startup = false\n'
            f'[model_providers.fake]\nname = "fake"\nbase_url = "{codex_url}/v1"\nwire_api = "responses"\n'
            'env_key = "FAKE_KEY"\nrequest_max_retries = 0\nstream_max_retries = 0\n[analytics]\nenabled = false\n'
        )
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRION_", "GIT_", "CLAUDE"))
        }
        self.environ = kept | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "ANTHROPIC_BASE_URL": claude_url,
            "ANTHROPIC_API_KEY": "a-key-that-nobody-may-see",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "FAKE_KEY": "another-secret-key",
        }
        for command in (["git", "init", "-q", "-b", "main"], ["git", "commit", "-q", "--allow-empty", "-m", "first"]):
            identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
            subprocess.run([command[0], *identity, *command[1:]], cwd=self.folder, env=self.environ, check=True)
        self.call("init")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments], cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=PATIENCE_S
        )

    def call(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode in (0, 8), done.stderr
        return json.loads(done.stdout)

    def add(self, agent: str, script: list[dict[str, Any]], *more: str) -> str:
        text = f"Do it. [[script: {json.dumps(script)} ]]"
        return str(self.call("add", "A task", "--agent", agent, "--description", text, *more)["id"])

    def check(self, script: str) -> str:
        """A check whose text does not stand in the brief: what it prints is a script for the model."""
        file = Path(self.environ["HOME"]) / "check.sh"
        file.write_text(script)
        return f"sh {file}"

    def last_run(self) -> Any:
        return self.call("runs")["runs"][0]

    def start_worker(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [PROGRAM, "work", "--drain"],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def leftovers(self) -> list[int]:
        """Processes that work somewhere below the project's home."""
        home, found = self.environ["HOME"], []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.cwd().startswith(home):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def claude_model() -> Iterator[AnthropicModel]:
    with AnthropicModel() as model:
        yield model


@pytest.fixture
def codex_model() -> Iterator[OpenAiModel]:
    with OpenAiModel() as model:
        yield model


@pytest.fixture
def place(tmp_path: Path, programs: Path, claude_model: AnthropicModel, codex_model: OpenAiModel) -> Iterator[Place]:
    place = Place(tmp_path, programs, claude_model.url, codex_model.url)
    yield place
    wait_for(lambda: not place.leftovers(), "the end of every process of an agent")


def write(file: str, text: str) -> dict[str, Any]:
    return {"tool": "Write", "input": {"file_path": file, "content": text}}


def shell(command: str) -> dict[str, Any]:
    return {"tool": "exec_command", "input": {"cmd": command}}


def test_claude_code_works_is_corrected_and_counted_to_the_unit(place: Place, claude_model: AnthropicModel) -> None:
    again = json.dumps([write("a.txt", "right"), {"text": "now right", "usage": {"output_tokens": 7}}])
    check = f"grep -q right a.txt || {{ echo 'not right [[script: {again} ]]'; exit 1; }}"
    usage = {"input_tokens": 11, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3}
    script = [{**write("a.txt", "wrong\n"), "usage": usage}, {"text": "done"}]
    place.add("claude", script, "--check", place.check(check))
    assert place.call("work", "--drain")["completed"] == 1
    run = place.last_run()
    sums = {name: sum(used[name] for used in claude_model.used) for name in claude_model.used[0]}
    assert run["turns"] == len(claude_model.used) == 4
    assert run["tokens"] == {
        "input": sums["input_tokens"],
        "output": sums["output_tokens"],
        "cache_read": sums["cache_read_input_tokens"],
        "cache_write": sums["cache_creation_input_tokens"],
    }
    assert run["cost_usd"] > 0
    assert run["tools"] == {"Write": 2}
    assert run["session_id"]
    assert run["summary"] == "now right"
    log = (place.folder / ".git/orchestrion/runs/R1/log.jsonl").read_text()
    assert "a-key-that-nobody-may-see" not in log
    assert "> Write" in place.run("log", "R1").stdout


def test_a_later_attempt_goes_on_with_the_session_and_counts_only_its_own(
    place: Place, claude_model: AnthropicModel
) -> None:
    task = place.add("claude", [write("a.txt", "1\n"), {"text": "first"}], "--check", "test -f b.txt")
    place.environ["ORCHESTRION_RUN_FEEDBACK"] = "0"
    assert place.call("work", "--drain")["failed"] == 1
    first = place.last_run()
    before = len(claude_model.used)
    place.call(
        "update", task, "--description", f"Go on. [[script: {json.dumps([write('b.txt', '2'), {'text': 'second'}])} ]]"
    )
    place.call("retry", task, "--resume")
    assert place.call("work", "--drain")["completed"] == 1
    second = place.last_run()
    assert second["id"] != first["id"]
    assert second["session_id"] == first["session_id"]
    assert second["turns"] == len(claude_model.used) - before == 2
    assert second["tokens"]["input"] == 200
    assert second["cost_usd"] == pytest.approx(first["cost_usd"], rel=0.01)
    files = place.run("diff", second["id"]).stdout
    assert "a.txt" in files
    assert "b.txt" in files


@pytest.mark.parametrize(("status", "code"), [(401, "auth_failed"), (500, "network")])
def test_what_the_service_refuses_has_its_code(place: Place, status: int, code: str) -> None:
    place.add("claude", [{"http": status}], "--max-retries", "0")
    assert place.call("work", "--drain")["failed"] == 1
    assert place.last_run()["code"] == code


def test_a_service_that_asks_for_patience_delays_and_the_session_goes_on(
    place: Place, claude_model: AnthropicModel
) -> None:
    place.environ["ORCHESTRION_BREAKER_COOLDOWN_S"] = "0.5"
    claude_model.refused = {2: 429}
    task = place.add("claude", [write("a.txt", "1\n"), {"text": "done"}], "--max-retries", "0", "--retry-delay", "0.2")
    assert place.call("work", "--drain")["completed"] == 1
    last, first = place.call("runs")["runs"]
    assert (first["code"], last["state"]) == ("rate_limited", "succeeded")
    assert first["session_id"] == last["session_id"]
    assert first["turns"] + last["turns"] == len(claude_model.used)
    assert place.call("show", task)["retries"] == 0
    assert "a.txt" in place.run("diff", last["id"]).stdout
    kinds = [json.loads(event)["kind"] for event in place.run("events", "--json").stdout.splitlines()]
    assert kinds.count("breaker.opened") == kinds.count("breaker.closed") == 1


def test_servers_of_the_settings_are_there(place: Place) -> None:
    settings = {
        "agents": {"claude": {"permissions": "all"}},
        "servers": {"mini": {"command": shlex.join(mini_server.COMMAND), "env": {"TOKEN": "s3cret"}}},
    }
    (place.folder / ".orchestrion" / "config.yaml").write_text(json.dumps(settings))
    place.add("claude", [{"tool": "mcp__mini__create", "input": {}, "delay": 2}, {"text": "done"}])
    assert place.call("work", "--drain")["completed"] == 1
    assert place.last_run()["tools"] == {"mcp__mini__create": 1}
    assert "made with s3cret" in place.run("log", "R1", "--raw").stdout


def test_eight_at_once(place: Place, claude_model: AnthropicModel) -> None:
    """Each writes when all of them have begun: nothing of one is in another, and nothing is lost or counted twice."""
    for number in range(8):
        step = {**write("mine.txt", f"{number}\n"), "meet": 8, "usage": {"output_tokens": 100 + number}}
        place.add("claude", [step, {"text": f"it was {number}"}])
    done = place.call("work", "--drain", "--slots", "8")
    runs = place.call("runs", "--limit", "20")["runs"]
    assert [run["state"] for run in runs] == ["succeeded"] * 8
    # They all wrote the same file: the first is merged, the others wait for a person.
    assert done["completed"] == 1
    assert sorted(run["summary"] for run in runs) == [f"it was {number}" for number in range(8)]
    for run in runs:
        number = int(run["summary"][-1])
        assert f"+{number}" in place.run("diff", run["id"]).stdout.splitlines()
        assert (run["turns"], run["tokens"]["output"], run["tools"]) == (2, 120 + number, {"Write": 1})
    assert sum(run["turns"] for run in runs) == len(claude_model.used)


def test_a_message_is_heard_while_it_works(place: Place, claude_model: AnthropicModel) -> None:
    place.add("claude", [{**write("a.txt", "1\n"), "delay": 4}, {"text": "heard", "delay": 1}])
    worker = place.start_worker()
    wait_for(lambda: claude_model.asked, "the first question")
    answer = place.call("message", "R1", "mind the MARGINS please")
    assert (answer["state"], answer["how"]) == ("given", "while_running")
    assert worker.wait(PATIENCE_S) == 0
    assert "mind the MARGINS" in json.dumps(claude_model.asked[-1])


def test_a_kill_leaves_nothing(place: Place, claude_model: AnthropicModel) -> None:
    place.add("claude", [{"text": "never", "delay": 60}])
    worker = place.start_worker()
    wait_for(lambda: claude_model.asked, "the first question")
    assert place.leftovers()
    place.call("kill", "R1", "--reason", "enough")
    wait_for(lambda: not place.leftovers(), "the end of the agent")
    assert worker.wait(PATIENCE_S) == 8
    assert place.last_run()["code"] == "killed"


def test_codex_works_is_corrected_and_counted_to_the_unit(place: Place, codex_model: OpenAiModel) -> None:
    again = json.dumps([shell("printf right > a.txt"), {"text": "now right"}])
    check = f"grep -q right a.txt || {{ echo 'not right [[script: {again} ]]'; exit 1; }}"
    usage = {"usage": {"input": 50, "cached": 30, "output": 9, "reasoning": 4}}
    script = [{**shell("printf wrong > a.txt"), **usage}, {"text": "done"}]
    place.add("codex", script, "--check", place.check(check))
    assert place.call("work", "--drain")["completed"] == 1
    run, used = place.last_run(), codex_model.used()
    assert run["tokens"]["input"] == used.input - used.cached
    assert run["tokens"]["cache_read"] == used.cached
    assert run["tokens"]["output"] == used.output
    assert run["turns"] == used.answers == 4
    assert run["cost_usd"] is None
    assert run["summary"] == "now right"


def test_codex_is_told_at_its_next_turn(place: Place, codex_model: OpenAiModel) -> None:
    place.add("codex", [{"text": "first", "delay": 8}])
    worker = place.start_worker()
    wait_for(lambda: place.call("runs")["runs"] and place.last_run()["session_id"], "its session")
    more = json.dumps([shell("printf 1 > heard.txt"), {"text": "second"}])
    answer = place.call("message", "R1", f"one thing more [[script: {more} ]]")
    assert answer["state"] == "waiting", place.last_run()
    assert worker.wait(PATIENCE_S) == 0
    assert "heard.txt" in place.run("diff", "R1").stdout


def test_codex_refused(place: Place) -> None:
    place.add("codex", [{"http": 401, "message": "no such key"}], "--max-retries", "0")
    assert place.call("work", "--drain")["failed"] == 1
    assert place.last_run()["code"] == "auth_failed"


@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_our_own_tools_know_the_run(place: Place, agent: str) -> None:
    """A run's agent takes its own task up again, decides, and reports: by tools, naming no run."""
    tools = {
        "claude": lambda tool: {"tool": f"mcp__orchestrion__{tool}"},
        "codex": lambda tool: {"tool": tool, "namespace": "mcp__orchestrion"},
    }
    (place.folder / ".orchestrion" / "config.yaml").write_text("run: {tools: core}\n")
    report = {"task_id": "T1", "summary": "said by a tool", "detailed_work": "at length", "next_action": "complete"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("orchestrator_execute_task", {"task_id": "T1"}),
        ("orchestrator_record_decision", {"title": "Blue", "decision": "It is blue.", "task_id": "T1"}),
        ("orchestrator_complete_task", report),
    ]
    script = [tools[agent](tool) | {"input": given} for tool, given in calls]
    place.add(agent, [*script, {"text": "its last words"}])
    assert place.call("work", "--drain")["completed"] == 1
    run = place.last_run()
    assert (run["state"], run["summary"]) == ("succeeded", "said by a tool")
    assert run["tools"] == {f"mcp__orchestrion__{tool}": 1 for tool, _ in calls}
    [decided] = place.call("decisions")["decisions"]
    assert (decided["task"], decided["run"], decided["actor"]) == ("T1", "R1", "run:R1")
    assert place.call("artifact", "A1")["text"] == "at length"
