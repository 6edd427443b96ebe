"""Claude Code's lines: what they mean, what they add up to, and how its end is judged."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from orchestrion.core.errors import AgentProblem
from orchestrion.runs.agents.agent import Assignment, Kind, McpServer, Permissions, Tally, Usage
from orchestrion.runs.agents.claude import ClaudeAgent, ClaudeDialogue


def begin(tmp_path: Path, **given: Any) -> ClaudeDialogue:
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\necho '9.9.9 (Claude Code)'\n")
    program.chmod(0o755)
    return ClaudeAgent().begin(Assignment("Do it", tmp_path, tmp_path, program=(str(program),), **given))


def assistant(number: str, *blocks: dict[str, Any], tokens: int = 10) -> str:
    usage = {"input_tokens": tokens, "output_tokens": 1, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 3}
    return json.dumps({"type": "assistant", "message": {"id": number, "content": list(blocks), "usage": usage}})


def result(**fields: Any) -> str:
    models = {
        name: {"inputTokens": 20, "outputTokens": 7, "cacheReadInputTokens": 4, "costUSD": 0.5} for name in ("a", "b")
    }
    plain = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": "done",
        "terminal_reason": "completed",
    }
    return json.dumps({**plain, "model_usage_since_last_result": models, **fields})


def heard(dialogue: ClaudeDialogue, *lines: str) -> Tally:
    tally = Tally()
    for line in lines:
        for event in dialogue.hear(line):
            tally.add(event)
    return tally


def test_a_message_in_several_lines_counts_once(tmp_path: Path) -> None:
    tool = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "make  test"}}
    dialogue = begin(tmp_path)
    tally = heard(
        dialogue,
        '{"type": "system", "subtype": "init", "session_id": "s1", "model": "sonnet"}',
        assistant("m1", {"type": "text", "text": "first"}),
        assistant("m1", tool),
        assistant("m2", {"type": "text", "text": "second"}),
    )
    assert tally.usage == Usage(turns=2, input=20, output=2, cache_read=4, cache_write=6)
    assert (tally.session, tally.model, tally.tools) == ("s1", "sonnet", {"Bash": 1})
    assert [event.text for event in dialogue.hear(assistant("m1", tool)) if event.kind is Kind.TOOL] == ["make test"]


def test_a_result_is_exact_over_all_models_and_results_add_up(tmp_path: Path) -> None:
    dialogue = begin(tmp_path)
    once = heard(dialogue, assistant("m1"), result())
    assert once.usage == Usage(turns=1, input=40, output=14, cache_read=8, cost_usd=1.0)
    more = heard(dialogue, assistant("m2", tokens=5))
    assert more.usage == Usage(turns=2, input=45, output=15, cache_read=10, cache_write=3, cost_usd=1.0)
    assert heard(dialogue, result()).usage == Usage(turns=2, input=80, output=28, cache_read=16, cost_usd=2.0)


def test_it_is_over_when_nothing_waits_behind_its_result(tmp_path: Path) -> None:
    dialogue = begin(tmp_path)
    assert json.loads(dialogue.opening())["message"]["content"][0]["text"] == "Do it"
    assert dialogue.say("and this") is not None
    heard(dialogue, assistant("m1"), result(queued_turn_count=1))
    assert not dialogue.is_over()
    heard(dialogue, assistant("m2"), result())
    assert dialogue.is_over()
    assert dialogue.say("too late") is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, None),
        ({"is_error": True, "terminal_reason": "api_error", "api_error_status": 401}, "auth_failed"),
        ({"is_error": True, "terminal_reason": "api_error", "api_error_status": 429}, "rate_limited"),
        ({"is_error": True, "terminal_reason": "api_error", "api_error_status": 500}, "network"),
        ({"is_error": True, "terminal_reason": "api_error", "api_error_status": None}, "network"),
        ({"is_error": True, "subtype": "error_max_turns", "terminal_reason": "max_turns"}, "max_turns"),
        (
            {"is_error": True, "subtype": "error_max_budget_usd", "terminal_reason": "budget_exhausted"},
            "budget_exhausted",
        ),
        ({"is_error": True, "subtype": "error_during_execution", "terminal_reason": "aborted_tools"}, "interrupted"),
        ({"is_error": True, "result": "", "errors": ["No conversation found with session ID: x"]}, "session_lost"),
        ({"is_error": True, "result": "something else"}, "agent_failed"),
    ],
)
def test_a_success_by_name_is_none(tmp_path: Path, fields: dict[str, Any], code: str | None) -> None:
    dialogue = begin(tmp_path)
    heard(dialogue, result(**fields))
    assert dialogue.judge(0, "").code == code


@pytest.mark.parametrize(
    ("exit_code", "words", "code"),
    [(0, "", "interrupted"), (143, "", "interrupted"), (-9, "", "agent_crashed"), (1, "broken", "invalid_output")],
)
def test_an_end_without_a_result(tmp_path: Path, exit_code: int, words: str, code: str) -> None:
    assert begin(tmp_path).judge(exit_code, words).code == code


@pytest.mark.parametrize("line", ["", "{", "null", "[]", '{"type": 3}', '{"type": "assistant", "message": 7}', "\0"])
def test_lines_that_mean_nothing(tmp_path: Path, line: str) -> None:
    assert [event for event in begin(tmp_path).hear(line) if event.kind is not Kind.USAGE] == []


def test_its_command_line_holds_no_secret(tmp_path: Path) -> None:
    server = McpServer("board", ("board", "--stdio"), {"TOKEN": "very-secret"})
    limits = {"session": "s1", "model": "opus", "max_turns": 5, "budget_usd": 0.5}
    argv = begin(tmp_path, servers=(server,), allowed_tools=("Bash(make *)",), **limits).argv()
    assert argv[argv.index("--resume") + 1] == "s1"
    assert argv[argv.index("--max-turns") + 1] == "5"
    assert argv[argv.index("--max-budget-usd") + 1] == "0.5"
    assert argv[argv.index("--allowedTools") + 1] == "Bash(make *)"
    assert "very-secret" not in " ".join(argv)
    file = Path(argv[argv.index("--mcp-config") + 1])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["mcpServers"]["board"]["env"] == {"TOKEN": "very-secret"}


def test_its_environment_is_an_allow_list(tmp_path: Path) -> None:
    ours = {
        "ANTHROPIC_API_KEY": "k",
        "CLAUDECODE": "1",
        "CLAUDE_CODE_ENTRYPOINT": "cli",
        "OPENAI_API_KEY": "o",
        "PATH": "/bin",
    }
    own = begin(tmp_path, permissions=Permissions.EDIT).environment({**ours, "GIT_DIR": "x", "ORCHESTRION_RUN": "u/R1"})
    assert own["ANTHROPIC_API_KEY"] == "k"
    assert not own.keys() & {"CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "OPENAI_API_KEY", "GIT_DIR", "ORCHESTRION_RUN"}


def test_examination(tmp_path: Path) -> None:
    begin(tmp_path)
    there = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    health = ClaudeAgent().examine({**there, "ANTHROPIC_API_KEY": "k"})
    assert (health.program, health.version, health.signed_in) == (str(tmp_path / "claude"), "9.9.9 (Claude Code)", True)
    missing = ClaudeAgent().examine(there, ("no-such-program",))
    assert missing.program is None
    assert "install" in missing.advice


def test_a_program_that_is_missing(tmp_path: Path) -> None:
    dialogue = ClaudeAgent().begin(Assignment("Do it", tmp_path, tmp_path, program=("no-such-program",)))
    with pytest.raises(AgentProblem) as missing:
        dialogue.argv()
    assert missing.value.code == "agent_missing"
