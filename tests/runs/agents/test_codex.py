"""The adapter for Codex, by lines that it writes; and the program that starts it, with a stand-in for Codex."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrion.core.errors import AgentProblem
from orchestrion.core.retry import FAILURES
from orchestrion.runs.agents.agent import (
    Assignment,
    Dialogue,
    Event,
    Kind,
    McpServer,
    Permissions,
    Tally,
    Usage,
    Verdict,
)
from orchestrion.runs.agents.codex import CodexAgent, CodexDialogue

#: So long a test waits for what must come, in seconds.
PATIENCE_S = 30.0
COMPLETED = {"type": "turn.completed", "usage": {"input_tokens": 300, "cached_input_tokens": 100, "output_tokens": 60}}


def assignment(**asked: Any) -> Assignment:
    place = Path("/nowhere")
    return Assignment(**{"prompt": "Do it.", "folder": place / "w", "place": place, "program": ("/bin/true",), **asked})


def dialogue(**asked: Any) -> CodexDialogue:
    return CodexAgent().begin(assignment(**asked))


def heard(talk: CodexDialogue, *lines: Mapping[str, Any]) -> list[Event]:
    return [event for line in lines for event in talk.hear(json.dumps(line))]


def tally(events: list[Event]) -> Tally:
    result = Tally()
    for event in events:
        result.add(event)
    return result


def item(phase: str, kind: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {"type": f"item.{phase}", "item": {"id": f"item_{number}", "type": kind, **more}}


def message(text: str, number: int = 0) -> dict[str, Any]:
    return item("completed", "agent_message", number, text=text)


def command(phase: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return item(phase, "command_execution", number, command="ls", **more)


def answer(name: str, given: int, output: int, cached: int = 0, written: int = 0) -> dict[str, Any]:
    usage = {"input_tokens": given, "cached_input_tokens": cached, "cache_write_input_tokens": written}
    return {"type": "orchestrion.answer", "id": name, "usage": {**usage, "output_tokens": output}}


class TestHearing:
    def test_session_and_model(self) -> None:
        events = heard(
            dialogue(), {"type": "thread.started", "thread_id": "t-1"}, {"type": "orchestrion.model", "model": "best"}
        )
        assert (tally(events).session, tally(events).model) == ("t-1", "best")

    def test_command_is_told_once_with_its_result(self) -> None:
        talk = dialogue()
        events = heard(
            talk,
            command("started", status="in_progress"),
            item("updated", "command_execution", aggregated_output="a"),
            command("completed", aggregated_output="a\nb\n", exit_code=3, status="failed"),
        )
        assert events == [
            Event(Kind.TOOL, "ls", id="item_1", tool="shell"),
            Event(Kind.TOOL_RESULT, "a b", id="item_1", tool="shell", failed=True),
        ]

    def test_file_change_is_told_only_when_it_is_over(self) -> None:
        changes = [{"path": "/w/a.py", "kind": "add"}, {"path": "/w/b.py", "kind": "update"}]
        events = heard(dialogue(), item("completed", "file_change", changes=changes, status="completed"))
        assert events[0] == Event(Kind.TOOL, "add /w/a.py, update /w/b.py", id="item_1", tool="edit")
        assert events[1].kind is Kind.TOOL_RESULT
        assert not events[1].failed

    def test_tool_of_a_server(self) -> None:
        called: dict[str, Any] = {"server": "mini", "tool": "create", "arguments": {"title": "x"}}
        result = {"content": [{"type": "text", "text": "made it"}]}
        events = heard(
            dialogue(),
            item("started", "mcp_tool_call", **called),
            item("completed", "mcp_tool_call", **called, result=result, error=None, status="completed"),
        )
        assert events[0] == Event(Kind.TOOL, "x", id="item_1", tool="mcp__mini__create")
        assert events[1].text == "made it"
        assert tally(events).tools == {"mcp__mini__create": 1}

    def test_what_was_not_allowed_is_a_permission(self) -> None:
        error = {"message": "MCP tool call requires approval, but approval policy is never"}
        events = heard(
            dialogue(),
            item("completed", "mcp_tool_call", 1, server="mini", tool="create", error=error, status="failed"),
            command("completed", 2, status="declined"),
        )
        denied = [event for event in events if event.kind is Kind.PERMISSION]
        assert [(event.tool, event.failed) for event in denied] == [("mcp__mini__create", True), ("shell", True)]

    def test_plan_is_told_when_it_changes(self) -> None:
        def todo(phase: str, *done: bool) -> dict[str, Any]:
            steps = [{"text": f"step {place}", "completed": one} for place, one in enumerate(done)]
            return item(phase, "todo_list", items=steps)

        events = heard(
            dialogue(), todo("started", False, False), todo("updated", True, False), todo("completed", True, False)
        )
        assert [event.text for event in events] == ["[ ] step 0\n[ ] step 1", "[x] step 0\n[ ] step 1"]

    def test_other_items(self) -> None:
        events = heard(
            dialogue(),
            item("completed", "error", message="Model metadata not found"),
            item("completed", "reasoning", 2, text="hm"),
            item("completed", "web_search", 3, query="cats"),
            item("started", "collab_tool_call", 4, tool="spawn_agent", prompt="help"),
        )
        assert [(event.kind, event.tool, event.text) for event in events] == [
            (Kind.NOTICE, "", "Model metadata not found"),
            (Kind.TOOL, "web_search", "cats"),
            (Kind.TOOL_RESULT, "web_search", ""),
            (Kind.TOOL, "spawn_agent", "help"),
        ]

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "words",
            "[1]",
            "null",
            "{",
            '{"type": 3}',
            '{"type": "item.completed", "item": 7}',
            '{"type": "item.completed", "item": {"type": "todo_list", "items": 7}}',
            '{"type": "item.completed", "item": {"type": "file_change", "changes": 7}}',
            '{"type": "item.completed", "item": {"type": "mcp_tool_call", "result": {"content": 7}}}',
            '{"type": "turn.completed", "usage": null}',
            '{"type": "turn.completed", "usage": {"input_tokens": "many"}}',
            '{"type": "turn.failed", "error": "text"}',
            '{"type": "orchestrion.answer", "usage": 3}',
            "[" * 100_000,
        ],
    )
    def test_nonsense_raises_nothing(self, line: str) -> None:
        for event in dialogue().hear(line):
            assert event.usage is None or min(event.usage.input, event.usage.output) == 0


class TestNumbers:
    def test_answers_are_counted_one_by_one_while_it_works(self) -> None:
        talk = dialogue()
        first = heard(talk, answer("r1", 1000, 50, cached=600, written=100))[0]
        assert first.kind is Kind.USAGE
        assert first.usage == Usage(1, 300, 50, 600, 100)
        again = heard(talk, answer("r1", 1000, 50, cached=600, written=100), answer("r2", 10, 5))[-1]
        assert again.usage == Usage(2, 310, 55, 600, 100)

    def test_answers_count_for_more_than_the_last_event(self) -> None:
        talk = dialogue(session="t-1", spent=Usage(3, 5000))
        events = heard(talk, answer("r1", 100, 20), COMPLETED)
        assert events[-1].kind is Kind.RESULT
        assert tally(events).usage == Usage(1, 100, 20)

    def test_failed_go_has_its_numbers_too(self) -> None:
        failed = {"type": "turn.failed", "error": {"message": "no"}}
        assert heard(dialogue(), answer("r1", 100, 20), failed)[-1].usage == Usage(1, 100, 20)

    def test_without_answers_the_last_event_counts_less_what_the_session_had_used(self) -> None:
        talk = dialogue(session="t-1", spent=Usage(2, 50, 10, 100))
        told = heard(talk, message("a"), command("started"), command("completed"), message("b", 2), COMPLETED)
        assert tally(told).usage == Usage(2, 150, 50)

    def test_new_session_has_used_nothing_before(self) -> None:
        told = heard(dialogue(spent=Usage(9, 999, 999)), message("a"), COMPLETED)
        assert tally(told).usage == Usage(1, 200, 60, 100)

    def test_numbers_never_fall_below_nothing(self) -> None:
        told = heard(dialogue(session="t-1", spent=Usage(9, 999, 999, 999)), COMPLETED)
        assert tally(told).usage == Usage()

    def test_there_is_no_cost(self) -> None:
        assert tally(heard(dialogue(), answer("r1", 1, 1), COMPLETED)).usage.cost_usd is None


class TestVerdict:
    def test_done(self) -> None:
        talk = dialogue()
        heard(talk, message("all done"), COMPLETED)
        assert talk.judge(0, "last") == Verdict(None, "all done")

    def test_trouble_that_it_got_over_does_not_count(self) -> None:
        talk = dialogue()
        events = heard(
            talk, {"type": "error", "message": "Reconnecting... 1/5 (status: 429)"}, message("ok"), COMPLETED
        )
        assert (events[0].kind, events[0].failed) == (Kind.NOTICE, True)
        assert talk.judge(0, "") == Verdict(None, "ok")

    def test_result_without_a_last_event_is_none(self) -> None:
        talk = dialogue()
        heard(talk, message("all done"))
        assert talk.judge(0, "") == Verdict("invalid_output", "it ended without a result")

    @pytest.mark.parametrize(
        ("words", "code", "wait"),
        [
            ("unexpected status 401 Unauthorized: bad key, url: http://127.0.0.1:5001/v1", "auth_failed", None),
            ("Missing environment variable: `MY_KEY`.", "auth_failed", None),
            ("exceeded retry limit, last status: 429 Too Many Requests", "rate_limited", None),
            ("Rate limit reached. Please try again in 1.5s.", "rate_limited", 1.5),
            ("Rate limit reached. Please try again in 250ms.", "rate_limited", 0.25),
            ("You've hit your usage limit. Try again in 2 days 3 hours 5 minutes.", "rate_limited", 183_900.0),
            ("Quota exceeded. Check your plan and billing details.", "rate_limited", None),
            ("We’re currently experiencing high demand, which may cause temporary errors.", "network", None),
            ("unexpected status 503 Service Unavailable", "network", None),
            ("stream disconnected before completion: error decoding response body", "network", None),
            ("Connection failed: error sending request", "network", None),
            ('{"error": {"message": "no such model", "code": 400}}', "agent_failed", None),
        ],
    )
    def test_failed_turn_by_its_words(self, words: str, code: str, wait: float | None) -> None:
        talk = dialogue()
        events = heard(talk, {"type": "error", "message": words}, {"type": "turn.failed", "error": {"message": words}})
        assert talk.judge(1, "") == Verdict(code, words, wait)
        assert (events[-1].kind, events[-1].failed) == (Kind.RESULT, True)
        assert code in FAILURES

    def test_end_by_a_signal(self) -> None:
        talk = dialogue()
        heard(talk, {"type": "error", "message": "Reconnecting... 1/5 (status: 500)"})
        assert talk.judge(-9, "") == Verdict("agent_crashed", "ended by SIGKILL")

    def test_session_that_it_does_not_know(self) -> None:
        words = "Error: thread/resume failed: no rollout found for thread id 01a1 (code -32600)"
        assert dialogue(session="01a1").judge(1, words) == Verdict("session_lost", words)

    def test_other_words_on_its_error_output(self) -> None:
        words = "error: unexpected argument '--nonsense' found"
        assert dialogue().judge(2, words) == Verdict("agent_failed", words)


class TestStart:
    def options(self, **asked: Any) -> list[str]:
        argv = list(dialogue(**asked).argv())
        return argv[argv.index("/bin/true") :]

    def settings(self, options: list[str]) -> dict[str, Any]:
        """The settings as Codex reads them."""
        found: dict[str, Any] = {}
        for one, setting in pairwise(options):
            if one == "-c":
                found |= {setting.partition("=")[0]: tomllib.loads(f"v = {setting.partition('=')[2]}")["v"]}
        return found

    def test_new_session(self) -> None:
        options = self.options(model="best")
        assert options[:6] == ["/bin/true", "exec", "-C", "/nowhere/w", "--json", "--skip-git-repo-check"]
        assert options[options.index("-m") + 1] == "best"
        assert options[-1] == "-"
        assert self.settings(options) == {
            "sandbox_mode": "workspace-write",
            "approval_policy": "never",
            "features.unbounded_connection_retries": False,
            "allow_login_shell": False,
        }

    def test_earlier_session(self) -> None:
        options = self.options(session="t-1")
        assert options[1:7] == ["exec", "-C", "/nowhere/w", "resume", "t-1", "--json"]

    def test_permissions(self) -> None:
        assert self.settings(self.options(permissions=Permissions.READ))["sandbox_mode"] == "read-only"
        everything = self.options(permissions=Permissions.ALL)
        assert "--dangerously-bypass-approvals-and-sandbox" in everything
        assert "sandbox_mode" not in self.settings(everything)

    def test_prompt_comes_by_its_input_which_is_closed_then(self) -> None:
        talk: Dialogue = dialogue(prompt="x" * 1_000_000)
        assert talk.opening() == "x" * 1_000_000
        assert talk.is_over()
        assert talk.say("more") is None
        assert "x" * 100 not in " ".join(talk.argv())

    def test_servers_without_their_secrets(self) -> None:
        quiet = McpServer("quiet", ("run", "it"))
        mini = McpServer("mini", ("python", "mini.py"), {"TOKEN": "s3cret", "PATH": "/x"})
        far = McpServer("far", url="http://far/mcp", headers={"X-Key": "s3cret"})
        talk = dialogue(servers=(quiet, mini, far))
        assert "s3cret" not in " ".join(talk.argv())
        settings = self.settings(list(talk.argv()))
        assert (settings["mcp_servers.quiet.command"], settings["mcp_servers.quiet.args"]) == ("run", ["it"])
        assert settings["mcp_servers.far.env_http_headers"] == {"X-Key": "ORCHESTRION_MCP_FAR_X_KEY"}
        assert settings["mcp_servers.mini.required"] is True
        environment = talk.environment({"PATH": "/bin"})
        assert environment["PATH"] == "/bin"
        assert environment["ORCHESTRION_MCP_FAR_X_KEY"] == "s3cret"

    def test_server_of_a_command_finds_its_variables(self) -> None:
        server = McpServer("mini", ("env",), {"TOKEN": 'a "b" $c', "HOME": "/elsewhere"})
        talk = dialogue(servers=(server,))
        settings = self.settings(list(talk.argv()))
        given = talk.environment({})
        command = [settings["mcp_servers.mini.command"], *settings["mcp_servers.mini.args"]]
        passed = {name: given[name] for name in settings["mcp_servers.mini.env_vars"]}
        shown = subprocess.run(command, env={"PATH": os.defpath, **passed}, capture_output=True, text=True, check=True)
        assert 'TOKEN=a "b" $c' in shown.stdout.splitlines()
        assert "HOME=/elsewhere" in shown.stdout.splitlines()
        assert "ORCHESTRION_MCP" not in shown.stdout

    @pytest.mark.parametrize(
        ("allowed", "approved"),
        [
            ((), {}),
            (("Bash", "mcp__other"), {}),
            (("mcp__mini",), {"default_tools_approval_mode": "approve"}),
            (("mcp__mini__*",), {"default_tools_approval_mode": "approve"}),
            (("mcp__mini__make", "mcp__mini2__x"), {"tools.make.approval_mode": "approve"}),
        ],
    )
    def test_tools_of_servers_that_are_allowed(self, allowed: tuple[str, ...], approved: dict[str, str]) -> None:
        settings = self.settings(self.options(servers=(McpServer("mini", ("run",)),), allowed_tools=allowed))
        found = {key.removeprefix("mcp_servers.mini."): value for key, value in settings.items() if "approval" in key}
        assert {key: value for key, value in found.items() if key != "approval_policy"} == approved

    def test_environment_has_its_keys_and_nothing_of_others(self, tmp_path: Path) -> None:
        (tmp_path / "config.toml").write_text(
            '[model_providers.mine]\nenv_key = "MY_KEY"\nenv_http_headers = {"X-Org" = "MY_ORG"}\n'
        )
        mine = {"HOME": "/h", "CODEX_HOME": str(tmp_path), "CODEX_API_KEY": "k", "MY_KEY": "k", "MY_ORG": "o"}
        others = {"CODEX_SANDBOX": "seatbelt", "CODEX_SANDBOX_NETWORK_DISABLED": "1", "CODEX_THREAD_ID": "t"}
        others |= {"ANTHROPIC_API_KEY": "x", "GIT_DIR": "/g", "PYTHONPATH": "/p", "YOUR_KEY": "k"}
        assert dialogue().environment({**mine, **others}) == mine

    def test_broken_configuration_is_left_to_codex(self, tmp_path: Path) -> None:
        (tmp_path / "config.toml").write_text("[[[")
        assert dialogue().environment({"CODEX_HOME": str(tmp_path)}) == {"CODEX_HOME": str(tmp_path)}

    def test_missing_program(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(AgentProblem) as problem:
            dialogue(program=()).argv()
        assert problem.value.code == "agent_missing"


def program(folder: Path, text: str) -> Path:
    """A stand-in for Codex, in Python."""
    file = folder / "codex"
    file.write_text(f"#!{sys.executable}\n{text}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


#: Writes events and a record as Codex does: what stands in the record is there a little later.
STAND_IN = """
import json, os, pathlib, signal, sys, time
def say(**event): print(json.dumps(event, separators=(",", ":")), flush=True)
def note(at, kind, **payload):
    with open(record, "a") as file: file.write(json.dumps({"timestamp": at, "type": kind, "payload": payload}) + "\\n")
place = pathlib.Path(os.environ["CODEX_HOME"], "sessions/2026/01/02")
place.mkdir(parents=True, exist_ok=True)
record = place / "rollout-2026-01-02T03-04-05-t-1.jsonl"
old, new = "2026-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"
def answered(at, name, tokens): note(at, "token_usage_record", response_id=name, usage={"input_tokens": tokens})
answered(old, "earlier", 77)
say(type="thread.started", thread_id="t-1")
note(new, "turn_context", model="best")
answered(new, "r1", 5)
def text(words): say(type="item.completed", item={"type": "agent_message", "id": "i", "text": words})
"""


class TestRelay:
    def play(self, folder: Path, text: str, stand_in: str = STAND_IN) -> tuple[list[str], int, CodexDialogue]:
        talk = dialogue(program=(str(program(folder, stand_in + text)),), folder=folder)
        environment = talk.environment({"PATH": os.defpath, "CODEX_HOME": str(folder)})
        done = subprocess.run(
            talk.argv(), env=environment, input=talk.opening(), capture_output=True, text=True, timeout=PATIENCE_S
        )
        return done.stdout.splitlines(), done.returncode, talk

    def test_answers_come_before_the_end_however_late_they_are_written_down(self, tmp_path: Path) -> None:
        late = """
text("a")
if os.fork() == 0:
    time.sleep(0.3); answered(new, "r2", 7); note(new, "event_msg", type="task_complete"); os._exit(0)
say(type="turn.completed", usage={"input_tokens": 12})
os.wait()
"""
        lines, exit_code, talk = self.play(tmp_path, late)
        events = [event for line in lines for event in talk.hear(line)]
        assert exit_code == 0
        assert events[-1].kind is Kind.RESULT
        assert (tally(events).usage, tally(events).model) == (Usage(2, 12), "best")
        assert talk.judge(exit_code, "") == Verdict(None, "a")

    def test_prompt_goes_through_and_half_lines_come_out(self, tmp_path: Path) -> None:
        lines, exit_code, _ = self.play(tmp_path, 'text(sys.stdin.read()); print("half", end=""); sys.exit(3)')
        assert exit_code == 3
        assert json.loads(lines[-2])["item"]["text"] == "Do it."
        assert lines[-1] == "half"

    def test_signal_that_ended_codex_is_told(self, tmp_path: Path) -> None:
        lines, exit_code, talk = self.play(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
        assert exit_code == -signal.SIGKILL
        assert tally([event for line in lines for event in talk.hear(line)]).usage == Usage(1, 5)

    def test_signal_to_end_is_passed_on(self, tmp_path: Path) -> None:
        waits = """
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"bye"), os._exit(4)))
text("ready")
time.sleep(60)
"""
        talk = dialogue(program=(str(program(tmp_path, STAND_IN + waits)),), folder=tmp_path)
        environment = talk.environment({"PATH": os.defpath, "CODEX_HOME": str(tmp_path)})
        with subprocess.Popen(
            talk.argv(), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            while "ready" not in process.stdout.readline():
                assert process.poll() is None
            process.terminate()
            rest = process.stdout.read()
        assert "bye" in rest
        assert process.returncode == 4

    def test_no_record_at_all(self, tmp_path: Path) -> None:
        lines, exit_code, talk = self.play(tmp_path, "", stand_in=f"print({json.dumps(COMPLETED)!r})")
        assert (exit_code, lines) == (0, [json.dumps(COMPLETED)])
        assert tally(talk.hear(lines[0])).usage == Usage(0, 200, 60, 100)


class TestHealth:
    def examine(self, folder: Path, text: str = "", **environ: str) -> Any:
        file = program(folder, text or 'import sys; print("codex-cli 0.169.0"); sys.exit("login" in sys.argv)')
        return CodexAgent().examine({"PATH": os.defpath, "CODEX_HOME": str(folder), **environ}, (str(file),))

    def test_missing(self, tmp_path: Path) -> None:
        health = CodexAgent().examine({"PATH": str(tmp_path)})
        assert health.program is None
        assert "npm install" in health.advice

    def test_not_signed_in(self, tmp_path: Path) -> None:
        health = self.examine(tmp_path, OPENAI_API_KEY="k")
        assert (health.version, health.signed_in) == ("0.169.0", False)
        assert "codex login" in health.advice

    def test_key(self, tmp_path: Path) -> None:
        health = self.examine(tmp_path, CODEX_API_KEY="k")
        assert (health.signed_in, health.advice) == (True, "")

    def test_what_it_says_itself(self, tmp_path: Path) -> None:
        assert self.examine(tmp_path, 'print("codex-cli 0.169.0")').signed_in is True

    @pytest.mark.parametrize(("environ", "signed_in"), [({}, False), ({"MY_KEY": "k"}, True)])
    def test_provider_with_a_key_of_its_own(self, tmp_path: Path, environ: dict[str, str], signed_in: bool) -> None:
        (tmp_path / "config.toml").write_text('model_provider = "mine"\n[model_providers.mine]\nenv_key = "MY_KEY"\n')
        assert self.examine(tmp_path, **environ).signed_in is signed_in

    def test_provider_that_needs_no_key(self, tmp_path: Path) -> None:
        (tmp_path / "config.toml").write_text('model_provider = "own"\n[model_providers.own]\nbase_url = "http://x"\n')
        assert self.examine(tmp_path).signed_in is True

    def test_program_that_cannot_be_started(self, tmp_path: Path) -> None:
        file = tmp_path / "codex"
        file.write_bytes(b"\x00\x01")
        file.chmod(0o755)
        health = CodexAgent().examine({"PATH": os.defpath, "CODEX_HOME": str(tmp_path)}, (str(file),))
        assert (health.program, health.version, health.signed_in) == (str(file), None, None)
