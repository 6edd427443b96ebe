"""The adapter for ACP with its bridge, against a real process that speaks the protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrion.core.errors import AgentProblem
from orchestrion.runs.agents.acp import PRESETS, AcpAgent, AcpDialogue, AcpPreset, acp_agent
from orchestrion.runs.agents.acp_policy import Policy, Tool
from orchestrion.runs.agents.agent import Assignment, Event, Kind, McpServer, Permissions, Tally, Usage, Verdict
from waiting import wait_for

pytestmark = pytest.mark.long

FAKE = (sys.executable, str(Path(__file__).parent / "fake_acp_agent.py"))
#: So long a test waits for what must come, in seconds.
PATIENCE_S = 30.0


@dataclass
class Played:
    """A go that is over."""

    verdict: Verdict
    events: list[Event]
    errors: str
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        for event in self.events:
            self.tally.add(event)

    def texts(self, kind: Kind = Kind.TEXT) -> list[str]:
        return [event.text for event in self.events if event.kind is kind]


class Stage:
    """Plays goes as the supervisor does, line by line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def assignment(self, steps: list[dict[str, Any]], *options: str, **asked: Any) -> Assignment:
        return Assignment(json.dumps(steps), self.folder, self.folder.parent, program=(*FAKE, *options), **asked)

    def start(self, dialogue: AcpDialogue, environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            dialogue.argv(),
            cwd=self.folder,
            env=dialogue.environment({**os.environ, **(environ or {})}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        assert process.stdin
        process.stdin.write(dialogue.opening())
        process.stdin.flush()
        return process

    def play(
        self,
        *steps: dict[str, Any],
        options: tuple[str, ...] = (),
        say: list[dict[str, Any]] | None = None,
        preset: AcpPreset | None = None,
        environ: dict[str, str] | None = None,
        **asked: Any,
    ) -> Played:
        dialogue = AcpAgent(preset=preset).begin(self.assignment(list(steps), *options, **asked))
        process = self.start(dialogue, environ)
        assert process.stdin
        assert process.stdout
        assert process.stderr
        if say is not None:
            process.stdin.write(dialogue.say(json.dumps(say)) or "")
            process.stdin.flush()
        events = []
        for line in process.stdout:
            events += dialogue.hear(line)
            if dialogue.is_over() and not process.stdin.closed:
                process.stdin.close()
        status = process.wait(PATIENCE_S)
        return Played(dialogue.judge(status, ""), events, process.stderr.read())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "workspace").mkdir()
    stage = Stage(tmp_path / "workspace")
    yield stage
    for process in stage.processes:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream and not stream.closed:
                stream.close()
        if process.poll() is None:
            process.kill()
            process.wait()


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def tool(name: str, kind: str, **given: str) -> dict[str, Any]:
    return {"tool": {"id": f"c-{name}", "name": name, "kind": kind, "input": given, "output": f"{name} did it"}}


# -- what is told --------------------------------------------------------------------------


def test_go_is_told_as_whole_messages_tools_and_a_result(stage: Stage) -> None:
    played = stage.play(
        {"say": ["I will ", "look.\n"]},
        {"plan": {"look": "completed", "write": "in_progress", "rest": "pending"}},
        tool("bash", "execute", command="ls -l"),
        {"say": ["All ", "done."]},
    )
    assert played.verdict == Verdict(None, "All done.")
    assert played.texts() == ["I will look.", "All done."]
    assert played.texts(Kind.PLAN) == ["[x] look\n[~] write\n[ ] rest"]
    assert [(e.tool, e.text, e.id) for e in played.events if e.kind is Kind.TOOL] == [("bash", "ls -l", "c-bash")]
    assert played.texts(Kind.TOOL_RESULT) == ["bash did it"]
    assert played.events[-1] == Event(Kind.RESULT, "All done.")
    assert (played.tally.session, played.tally.tools, played.tally.usage.turns) == ("s-1", {"bash": 1}, 2)
    assert "closed" in played.errors


def test_failed_tool_and_noise_do_not_end_a_go(stage: Stage) -> None:
    step = tool("edit", "edit", path="x")
    step["tool"]["status"] = "failed"
    played = stage.play({"noise": "Loading..."}, step, {"say": ["went on"]})
    assert [e.failed for e in played.events if e.kind is Kind.TOOL_RESULT] == [True]
    assert played.verdict.code is None


def test_message_while_it_works_is_the_next_prompt_of_the_session(stage: Stage) -> None:
    played = stage.play({"say": ["first"]}, say=[{"say": ["second"]}])
    assert played.texts(Kind.RESULT) == ["first", "second"]
    assert played.verdict == Verdict(None, "second")


def test_nothing_is_said_to_an_agent_that_is_over(stage: Stage) -> None:
    dialogue = AcpAgent().begin(stage.assignment([]))
    assert dialogue.say("more") is not None
    dialogue.hear('{"event": "result", "stop": "end_turn", "text": ""}')
    assert not dialogue.is_over()
    dialogue.hear('{"event": "result", "stop": "end_turn", "text": ""}')
    assert dialogue.is_over()
    assert dialogue.say("more") is None


@pytest.mark.parametrize(
    "line", ["", "Loading", "[]", "7", '{"event": 7}', '{"event": "usage", "turns": 1e999}', "[" * 5000]
)
def test_line_that_means_nothing_gives_no_harm(stage: Stage, line: str) -> None:
    dialogue = AcpAgent().begin(stage.assignment([]))
    assert all(event.usage == Usage() for event in dialogue.hear(line))


# -- numbers -------------------------------------------------------------------------------


def test_tokens_of_each_answer_are_added_and_count_as_turns(stage: Stage) -> None:
    spent = {"inputTokens": 100, "outputTokens": 20, "totalTokens": 120, "cachedReadTokens": 60}
    played = stage.play({"call_usage": spent}, {"say": ["x"]}, {"call_usage": spent}, {"usage": _usage(999, 999)})
    assert played.tally.usage == Usage(turns=2, input=80, output=40, cache_read=120)


def test_tokens_of_a_prompt_are_added_over_prompts(stage: Stage) -> None:
    spent = {"usage": _usage(100, 20, cached_read_tokens=7, cached_write_tokens=5, total_tokens=132)}
    played = stage.play({"say": ["a"]}, spent, say=[{"say": ["b"]}, {"quota": {"input_tokens": 3, "output_tokens": 2}}])
    assert played.tally.usage == Usage(turns=2, input=103, output=22, cache_read=7, cache_write=5)


def _usage(given: int, output: int, **more: int) -> dict[str, int]:
    return {"input_tokens": given, "output_tokens": output, "total_tokens": given + output, **more}


def test_tokens_that_are_those_of_the_last_answer_alone_are_left_out(stage: Stage) -> None:
    known = AcpPreset(FAKE, counts_tokens=False)
    played = stage.play({"say": ["a"]}, {"cost": 0.5}, {"usage": _usage(100, 20)}, preset=known)
    assert played.tally.usage == Usage(turns=1, cost_usd=0.5)


@pytest.mark.parametrize(
    ("session", "told", "own"),
    [("s-1", [1.25, 1.5], 0.5), ("s-1", [0.25, 0.75], 0.75), (None, [1.25], 1.25)],
    ids=["cumulative over processes", "anew with each process", "new session"],
)
def test_cost_is_that_of_this_go(stage: Stage, session: str | None, told: list[float], own: float) -> None:
    played = stage.play(*({"cost": cost} for cost in told), session=session, spent=Usage(cost_usd=1.0))
    assert played.tally.usage.cost_usd == pytest.approx(own)


def test_numbers_from_the_log_are_those_of_the_run(tmp_path: Path) -> None:
    told = [{"event": "usage", "turns": 1, "input": 7, "session_cost": 1.25}, {"event": "result", "stop": "end_turn"}]
    lived, read = (
        acp_agent("acp").begin(Assignment(prompt, tmp_path, tmp_path, session="s-1", spent=Usage(cost_usd=1.0)))
        for prompt in ("Do it.", "")
    )
    lived.say("more")
    heard = [[dialogue.hear(json.dumps(line)) for line in (*told, *told)] for dialogue in (lived, read)]
    assert heard[0] == heard[1]
    assert heard[0][0][0].usage == Usage(turns=1, input=7, cost_usd=0.25)


# -- sessions ------------------------------------------------------------------------------


def test_session_is_resumed_under_the_same_id(stage: Stage) -> None:
    played = stage.play({"say": ["on"]}, session="s-1")
    assert (played.verdict.code, played.tally.session) == (None, "s-1")


def test_session_that_is_told_once_more_is_not_counted_again(stage: Stage) -> None:
    played = stage.play({"say": ["on"]}, session="s-1", options=("--loads",))
    assert played.texts() == ["on"]
    assert played.tally.tools == {}


@pytest.mark.parametrize(("session", "options"), [("s-2", ()), ("s-1", ("--forgets",))])
def test_lost_session_is_told(stage: Stage, session: str, options: tuple[str, ...]) -> None:
    played = stage.play({"say": ["on"]}, session=session, options=options)
    assert played.verdict.code == "session_lost"
    assert session in played.verdict.text


def test_servers_reach_the_agent_and_one_it_cannot_use_is_told(stage: Stage) -> None:
    servers = (McpServer("mini", ("sh", "-c", "x"), env={"A": "1"}), McpServer("far", url="http://127.0.0.1:1/mcp"))
    played = stage.play({"tell": "servers"}, servers=servers)
    told = json.loads(played.verdict.text)
    assert told == [
        {"name": "mini", "command": "/bin/sh", "args": ["-c", "x"], "env": [{"name": "A", "value": "1"}]}
    ] or (told[0]["command"].endswith("/sh") and len(told) == 1)
    assert "far" in played.texts(Kind.NOTICE)[0]


def test_agent_gets_its_own_variables_and_no_others(stage: Stage) -> None:
    preset = AcpPreset(FAKE, ("FAKE_*",))
    environ = {"FAKE_KEY": "1", "OTHER_KEY": "2", "PYTHONPATH": "/nowhere"}
    played = stage.play(
        {"tell": "FAKE_KEY"}, {"tell": "OTHER_KEY"}, {"tell": "PYTHONPATH"}, preset=preset, environ=environ
    )
    assert played.verdict.text == '"1"nullnull'


def test_mode_in_which_it_asks_is_chosen(stage: Stage) -> None:
    assert stage.play({"tell": "mode"}, options=("--asks",)).verdict.text == '"default"'


def test_model_that_cannot_be_chosen_is_told(stage: Stage) -> None:
    assert "opus" in stage.play({"say": ["x"]}, model="opus").texts(Kind.NOTICE)[0]


# -- permissions ---------------------------------------------------------------------------


def calls(folder: Path) -> list[Tool]:
    (folder / "out").symlink_to("/etc")
    return [
        Tool("look", kind="read", paths={"/etc/hosts"}),
        Tool("inside", kind="edit", paths={str(folder / "new.py")}),
        Tool("relative", kind="delete", paths={"src/new.py"}),
        Tool("outside", kind="edit", paths={str(folder / "new.py"), "/etc/hosts"}),
        Tool("through", kind="edit", paths={str(folder / "out" / "hosts")}),
        Tool("nowhere", kind="edit"),
        Tool("hook", kind="edit", paths={str(folder / ".git" / "hooks" / "x")}),
        Tool("git", kind="execute", input={"command": "git status"}),
        Tool("more", kind="execute", input={"command": "git status; rm -rf /"}),
        Tool("other", kind="execute", title="rm x"),
        Tool("odd", kind="other", name="task"),
    ]


@pytest.mark.parametrize(
    ("permissions", "allowed", "granted"),
    [
        ("read", [], "look"),
        ("read", ["Bash(git *)"], "look git"),
        ("edit", [], "look inside relative"),
        ("edit", ["Bash(git *)", "Task"], "look inside relative git odd"),
        ("edit", ["Bash(git:*)"], "look inside relative git"),
        ("edit", ["execute"], "look inside relative git more other"),
        ("all", [], "look inside relative outside through nowhere hook git more other odd"),
    ],
)
def test_permissions_decide(tmp_path: Path, permissions: str, allowed: list[str], granted: str) -> None:
    policy = Policy(str(tmp_path), permissions, allowed)
    assert [call.id for call in calls(tmp_path) if policy.allows(call)] == granted.split()


@pytest.mark.parametrize("allowed", ["mcp__mini__make", "mcp__mini", "mcp__mini__*"])
def test_tools_of_a_server_are_allowed_by_name(tmp_path: Path, allowed: str) -> None:
    policy = Policy(str(tmp_path), "edit", [allowed])
    for own in ("mcp__mini__make", "mcp_mini_make", "mini_make", "make (mini MCP Server)", "mcp__mini__make: {}"):
        assert policy.allows(Tool("1", kind="other", title=own))
        assert policy.allows(Tool("1", kind="", name=own.partition(":")[0]))
    assert policy.allows(Tool("1", title="mcp__mini__drop")) == (allowed != "mcp__mini__make")
    assert not policy.allows(Tool("1", title="mcp__maxi__make"))
    # Titles of commands are written by the model.
    command = Tool("1", "mcp__mini__make", "execute", "mcp__mini__make", {"command": "mcp__mini__make"})
    assert not policy.allows(command)


def ask(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"ask": {"id": name, "kind": kind, **more}}


def test_agent_is_answered_for_this_once_and_denials_are_told(stage: Stage) -> None:
    played = stage.play(
        ask("inside", "edit", input={"path": str(stage.folder / "new.py")}),
        ask("outside", "edit", input={"path": "/etc/hosts"}),
        ask("git", "execute", input={"command": "git status"}),
        allowed_tools=("Bash(git *)",),
    )
    assert played.texts() == ["inside:allow_once", "outside:reject_once", "git:allow_once"]
    denied = [(event.id, event.text, event.failed) for event in played.events if event.kind is Kind.PERMISSION]
    assert denied == [("outside", "/etc/hosts", True)]
    assert played.tally.tools == {"inside": 1, "outside": 1, "git": 1}


def test_agent_that_stops_when_it_is_denied_failed_for_that(stage: Stage) -> None:
    played = stage.play(ask("rm", "execute", input={"command": "rm x"}, options=["allow_once"]), {"stop": "cancelled"})
    assert played.texts() == ["rm:cancelled"]
    assert played.verdict.code == "permission_denied"
    assert "rm x" in played.verdict.text


# -- files ---------------------------------------------------------------------------------


def test_files_of_the_workspace_are_served(stage: Stage) -> None:
    new = str(stage.folder / "deep" / "new.py")
    played = stage.play({"read": new}, {"write": [new, "é\r\n"]}, {"read": new})
    assert "".join(played.texts()) == "read error -32002\nwritten\nread 'é\\r\\n'"
    assert Path(new).read_bytes() == "é\r\n".encode()


@pytest.mark.parametrize("path", ["../secret", "/etc/hosts", "link/secret", "link-to-file"])
def test_files_outside_the_workspace_are_refused(stage: Stage, path: str) -> None:
    secret = stage.folder.parent / "secret"
    secret.write_text("secret")
    (stage.folder / "link").symlink_to(stage.folder.parent)
    (stage.folder / "link-to-file").symlink_to(secret)
    played = stage.play({"read": str(stage.folder / path)}, {"write": [str(stage.folder / path), "mine"]})
    assert "".join(played.texts()) == "read error -32602\nwrite error -32602"
    assert secret.read_text() == "secret"


def test_nothing_is_written_where_only_reading_is_allowed(stage: Stage) -> None:
    played = stage.play({"write": [str(stage.folder / "x"), "1"]}, permissions=Permissions.READ)
    assert played.texts() == ["write error -32602"]
    assert list(stage.folder.iterdir()) == []


# -- how it ends ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"event": "result", "stop": "refusal"}, "agent_failed"),
        ({"event": "result", "stop": "max_tokens"}, "agent_failed"),
        ({"event": "result", "stop": "something new"}, "agent_failed"),
        ({"event": "result", "stop": "max_turn_requests"}, "max_turns"),
        ({"event": "result", "stop": "cancelled"}, "interrupted"),
        ({"event": "error", "code": "error", "text": "Internal error: API key not valid"}, "auth_failed"),
        ({"event": "error", "code": "error", "text": "Too busy (429), retry in 12s"}, "rate_limited"),
        ({"event": "error", "code": "error", "text": "fetch failed: ECONNREFUSED"}, "network"),
        ({"event": "error", "code": "error", "text": "Internal error"}, "agent_failed"),
        ({"event": "error", "code": "session_lost", "text": "rate limit"}, "session_lost"),
    ],
)
def test_end_is_judged_by_what_the_agent_says(tmp_path: Path, told: dict[str, str], code: str) -> None:
    dialogue = AcpAgent().begin(Assignment("", tmp_path, tmp_path))
    (event,) = dialogue.hear(json.dumps(told))
    assert (event.kind, event.failed, dialogue.is_over()) == (Kind.RESULT, True, True)
    verdict = dialogue.judge(0, "")
    assert verdict.code == code
    assert verdict.retry_after_s == (12.0 if code == "rate_limited" else None)


@pytest.mark.parametrize(
    ("step", "code", "words"),
    [
        ({"fail": [-32000, "Authentication required"]}, "auth_failed", "Authentication required"),
        (
            {"fail": [429, "Busy", {"details": "retry in 12s"}]},
            "rate_limited",
            'Busy (429): {"details": "retry in 12s"}',
        ),
        ({"die": 3}, "agent_crashed", "the agent ended with exit code 3 in the midst of its work"),
        ({"die": -9}, "agent_crashed", "the agent was ended by signal 9 in the midst of its work"),
    ],
)
def test_what_went_wrong_is_told(stage: Stage, step: dict[str, Any], code: str, words: str) -> None:
    played = stage.play({"say": ["so far"]}, step)
    assert (played.verdict.code, played.verdict.text) == (code, words)
    assert played.texts() == ["so far"]
    assert played.tally.usage.turns == 1


def test_agent_that_wants_a_key_is_signed_in_to_with_the_one_that_is_there(stage: Stage) -> None:
    preset = AcpPreset(FAKE, ("FAKE_*",), signs_in=(("FAKE_KEY", "key"),))
    asked = {"options": ("--locked",), "preset": preset}
    assert stage.play({"say": ["in"]}, environ={"FAKE_KEY": "1"}, **asked).verdict.code is None
    assert stage.play({"say": ["in"]}, **asked).verdict.code == "auth_failed"


def test_agent_of_another_version_is_refused(stage: Stage) -> None:
    assert stage.play(options=("--newer",)).verdict.code == "agent_not_started"


def test_missing_program_is_told_before_anything_starts(stage: Stage) -> None:
    dialogue = AcpAgent().begin(Assignment("", stage.folder, stage.folder, program=("no-such-agent", "--acp")))
    with pytest.raises(AgentProblem, match="no-such-agent") as problem:
        dialogue.argv()
    assert problem.value.code == "agent_missing"


def test_program_that_goes_missing_is_told(stage: Stage) -> None:
    here, gone = (AcpAgent().begin(Assignment("", stage.folder, stage.folder, program=p)) for p in (FAKE, ("gone",)))
    here.opening = gone.opening  # type: ignore[method-assign]
    process = stage.start(here)
    assert process.stdout
    for line in process.stdout:
        here.hear(line)
    assert here.judge(process.wait(PATIENCE_S), "").code == "agent_missing"


def test_bridge_that_is_killed_crashed(stage: Stage) -> None:
    dialogue = AcpAgent().begin(stage.assignment([]))
    assert dialogue.judge(-9, "").code == "agent_crashed"
    assert dialogue.judge(1, "oh").text == "oh"


@pytest.mark.parametrize("how", ["SIGTERM", "end of input"])
@pytest.mark.parametrize("options", [(), ("--deaf",)], ids=["obedient", "deaf"])
def test_nothing_survives_a_bridge_that_is_told_to_stop(stage: Stage, how: str, options: tuple[str, ...]) -> None:
    file = stage.folder / "pids"
    dialogue = AcpAgent().begin(stage.assignment([{"detach": str(file)}, {"hang": 1}], *options))
    process = stage.start(dialogue)
    pids = [int(pid) for pid in wait_for(lambda: file.exists() and file.read_text(), "it says its processes").split()]
    assert all(is_alive(pid) for pid in pids)
    if how == "SIGTERM":
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # who is in a hurry must not stop it from tidying up
    else:
        assert process.stdin
        process.stdin.close()
    assert process.wait(PATIENCE_S) == 143
    assert not any(is_alive(pid) for pid in pids)
    assert dialogue.judge(143, "").code == "agent_crashed"


def test_agent_that_would_not_end_is_ended_after_its_result(stage: Stage) -> None:
    began = time.monotonic()
    played = stage.play({"say": ["done"]}, options=("--deaf",))
    assert played.verdict == Verdict(None, "done")
    assert time.monotonic() - began < 10.0


def test_cancelled_prompt_gives_its_result(stage: Stage) -> None:
    dialogue = AcpAgent().begin(stage.assignment([{"say": ["x"]}, {"plan": {"wait": "pending"}}, {"hang": 1}]))
    process = stage.start(dialogue)
    assert process.stdin
    assert process.stdout
    for line in process.stdout:
        if '"plan"' in line:
            process.stdin.write('{"cancel": true}\n')
            process.stdin.flush()
        dialogue.hear(line)
        if dialogue.is_over() and not process.stdin.closed:
            process.stdin.close()
    assert dialogue.judge(process.wait(PATIENCE_S), "").code == "interrupted"


def test_bridge_is_small(stage: Stage) -> None:
    """Together with a supervisor of 40 MB it has to stay below 90 MB."""
    dialogue = AcpAgent().begin(stage.assignment([{"plan": {"wait": "pending"}}, {"hang": 1}]))
    process = stage.start(dialogue)
    assert process.stdout
    wait_for(lambda: '"plan"' in process.stdout.readline(), "it made its plan")  # type: ignore[union-attr]
    assert psutil.Process(process.pid).memory_info().rss < 50e6


# -- what is installed ---------------------------------------------------------------------


def test_examine_tells_the_version_without_starting_a_session(stage: Stage) -> None:
    program = stage.folder / "mine"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE[1]}" "$@"\n')
    program.chmod(0o755)
    health = acp_agent("acp").examine({"PATH": f"{stage.folder}:{os.environ['PATH']}"}, ("mine", "--acp"))
    assert (health.program, health.version, health.signed_in, health.advice) == (str(program), "1.2.3", None, "")


@pytest.mark.parametrize("name", PRESETS)
def test_examine_says_how_to_get_an_agent(name: str) -> None:
    health = acp_agent(name).examine({"PATH": "/nonexistent"})
    assert health.program is None
    assert "npm install" in health.advice


def test_program_of_the_settings_is_known_by_its_name(tmp_path: Path) -> None:
    def environment(*program: str) -> dict[str, str]:
        dialogue = acp_agent("mine").begin(Assignment("", tmp_path, tmp_path, program=program))
        return dialogue.environment({"GEMINI_API_KEY": "1", "MY_AGENT_KEY": "2", "PATH": "/bin"})

    assert environment("/opt/gemini", "--acp") == {"GEMINI_API_KEY": "1", "PATH": "/bin"}
    assert environment("my-agent") == {"MY_AGENT_KEY": "2", "PATH": "/bin"}


def test_model_goes_on_the_command_line_where_that_is_the_way(tmp_path: Path) -> None:
    dialogue = acp_agent("qwen").begin(Assignment("", tmp_path, tmp_path, model="coder"))
    start = json.loads(dialogue.opening())["start"]
    assert start["command"] == ["qwen", "--acp", "--model", "coder"]
    assert start["model"] is None


def test_native_codex_is_started_instead_of_its_wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "node_modules" / "@zed-industries"
    system, machine = os.uname().sysname.lower(), {"x86_64": "x64", "aarch64": "arm64"}.get(os.uname().machine, "")
    native = modules / f"codex-acp-{system}-{machine or os.uname().machine}" / "bin" / "codex-acp"
    wrapper = modules / "codex-acp" / "bin" / "codex-acp.js"
    for file in (native, wrapper):
        file.parent.mkdir(parents=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    (tmp_path / "codex-acp").symlink_to(wrapper)
    monkeypatch.setenv("PATH", str(tmp_path))
    dialogue = acp_agent("codex-acp").begin(Assignment("", tmp_path, tmp_path))
    assert json.loads(dialogue.opening())["start"]["command"][0] == str(native)


@pytest.mark.parametrize(
    ("permissions", "sandbox"),
    [(Permissions.READ, "read-only"), (Permissions.EDIT, "workspace-write"), (Permissions.ALL, "danger-full-access")],
)
def test_codex_is_fenced_by_its_own_sandbox(tmp_path: Path, permissions: Permissions, sandbox: str) -> None:
    dialogue = acp_agent("codex-acp").begin(Assignment("", tmp_path, tmp_path, permissions=permissions))
    command = json.loads(dialogue.opening())["start"]["command"]
    assert f'sandbox_mode="{sandbox}"' in command
    assert 'approval_policy="never"' in command


@pytest.mark.parametrize(("uid", "told"), [(0, "1"), (1000, None)])
def test_claude_code_is_told_that_root_may_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, told: str | None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    dialogue = acp_agent("claude-acp").begin(Assignment("", tmp_path, tmp_path))
    assert dialogue.environment({}).get("IS_SANDBOX") == told
