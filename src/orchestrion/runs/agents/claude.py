"""Claude Code, by its command line: JSON lines in and out.

What its output means is taken from what it does, not from what it calls it: a failed call
of the API ends as ``subtype: success`` with ``is_error``; one message of the model arrives
as several lines with the same id, whose output tokens are not final; costs are added up
over all processes of a session, so that only the difference since the last result is this
go's. It hears messages while it works: each is a further line of its input, which it takes
up at the next opportunity, and which stays open until it has answered.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orchestrion.core import private
from orchestrion.core.errors import AgentProblem
from orchestrion.core.extras import install
from orchestrion.runs.agents.agent import (
    Assignment,
    Event,
    Health,
    Kind,
    McpServer,
    Permissions,
    Usage,
    Verdict,
    inherited,
    short,
    signalled,
)
from orchestrion.runs.agents.told import amount, mapping, number, parsed, sequence

#: How long it may take to tell its version, in seconds.
VERSION_S = 10.0
_ALSO = (
    "ANTHROPIC_*",
    "AWS_*",
    "GOOGLE_*",
    "CLOUD_ML_REGION",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_*",
    "CLAUDE_CODE_MAX_*",
    "CLAUDE_CODE_SKIP_*",
    "CLAUDE_CODE_DISABLE_*",
    "BASH_DEFAULT_TIMEOUT_MS",
    "BASH_MAX_*",
    "MAX_THINKING_TOKENS",
    "MCP_TIMEOUT",
    "MCP_TOOL_TIMEOUT",
    "DISABLE_*",
    "IS_SANDBOX",
)
#: Any of these signs it in.
_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_ELSEWHERE = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
_INSTALL = f"install it: npm install -g @anthropic-ai/claude-code, or {install('claude')}"
#: Its own ten tries make three minutes of a wrong key; our retries come on top.
_TRIES = "3"
_WRITING_TOOLS = ("Edit", "Write", "NotebookEdit", "Bash")


class ClaudeAgent:
    """Runs ``claude -p``."""

    resumes = True

    def begin(self, assignment: Assignment) -> ClaudeDialogue:
        """A new go."""
        return ClaudeDialogue(assignment)

    def examine(self, environ: Mapping[str, str], program: Sequence[str] = ()) -> Health:
        """Whether it is there, which version, and whether there is a key or a login on file."""
        command = _program(program, environ.get("PATH"))
        if command is None:
            return Health(None, advice=_INSTALL)
        signed_in = _is_signed_in(environ)
        advice = "sign in: start `claude` once, or set ANTHROPIC_API_KEY" if signed_in is False else ""
        return Health(command[0], _version(command, environ), signed_in, advice)


class ClaudeDialogue:
    """One go of Claude Code."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        #: Messages of the model by id -> what their lines said of their tokens.
        self._messages: dict[str, Usage] = {}
        #: Of all results so far, in the program's own exact numbers.
        self._exact: Usage | None = None
        self._turns_before_result = 0
        self._result: Mapping[str, Any] | None = None
        self._waiting = False

    def argv(self) -> list[str]:
        """The command line; servers of tools stand in a file that only their owner may read, as keys may be in it."""
        asked = self._assignment
        command = _program(asked.program, os.environ.get("PATH"))
        if command is None:
            raise AgentProblem("Claude Code is not installed", hint=_INSTALL, code="agent_missing")
        options = ["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
        options += _valued("--resume", asked.session) + _valued("--model", asked.model)
        options += _valued("--max-turns", asked.max_turns) + _valued("--max-budget-usd", asked.budget_usd)
        options += _permissions(asked)
        if asked.servers:
            options += ["--mcp-config", str(_write_servers(asked.place, asked.servers)), "--strict-mcp-config"]
        return [*command, *options]

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Keys and settings of Claude Code, nothing of a session that we may ourselves be part of."""
        own = inherited(environ, _ALSO)
        own.setdefault("CLAUDE_CODE_MAX_RETRIES", _TRIES)
        if self._assignment.permissions is Permissions.ALL and os.geteuid() == 0:
            own["IS_SANDBOX"] = "1"  # else it refuses to run unasked as root
        return own | {"DISABLE_AUTOUPDATER": "1"}

    def opening(self) -> str:
        """The prompt."""
        return _message(self._assignment.prompt)

    def say(self, text: str) -> str | None:
        """A further message; it is answered before the go is over."""
        if self.is_over():
            return None
        self._waiting = True
        return _message(text)

    def is_over(self) -> bool:
        """After a result behind which nothing waits."""
        return self._result is not None and not self._waiting

    def hear(self, line: str) -> list[Event]:
        """What a line means."""
        found = parsed(line)
        if found.get("type") == "assistant":
            self._result = None
        return _HEARD.get(str(found.get("type")), ClaudeDialogue._nothing)(self, found)

    def judge(self, exit_code: int, last_words: str) -> Verdict:
        """By the last result; a process that ended without one was interrupted."""
        if self._result is None:
            return signalled(exit_code) or _without_result(exit_code, last_words)
        return _judged(self._result)

    # -- what each kind of line means ---------------------------------------------------------

    def _nothing(self, found: Mapping[str, Any]) -> list[Event]:
        return []

    def _system(self, found: Mapping[str, Any]) -> list[Event]:
        subtype = found.get("subtype")
        if subtype == "init":
            return [Event(Kind.SESSION, str(found.get("model") or ""), id=str(found.get("session_id") or ""))]
        if subtype == "api_retry":
            status = found.get("error_status") or "no connection"
            return [Event(Kind.NOTICE, f"the API answered {status}; try {found.get('attempt')}", failed=True)]
        return []

    def _assistant(self, found: Mapping[str, Any]) -> list[Event]:
        message = mapping(found.get("message"))
        events = [event for block in _blocks(message) for event in _spoken(block)]
        message_id = str(message.get("id") or "")
        if message_id and message.get("model") != "<synthetic>":
            self._messages[message_id] = _of_message(mapping(message.get("usage")))
            events.append(Event(Kind.USAGE, usage=self._so_far()))
        return events

    def _user(self, found: Mapping[str, Any]) -> list[Event]:
        denied = {
            str(one.get("id"))
            for one in map(mapping, sequence(found.get("tool_result_meta")))
            if mapping(one.get("permission_decision")).get("decision") not in (None, "accept")
        }
        events = []
        for block in _blocks(mapping(found.get("message"))):
            if block.get("type") == "tool_result":
                tool_id, text = str(block.get("tool_use_id") or ""), short(_text_of(block.get("content")))
                if tool_id in denied:
                    events.append(Event(Kind.PERMISSION, text, id=tool_id, failed=True))
                events.append(Event(Kind.TOOL_RESULT, text, id=tool_id, failed=bool(block.get("is_error"))))
        return events

    def _end(self, found: Mapping[str, Any]) -> list[Event]:
        self._result = found
        self._waiting = number(found.get("queued_turn_count")) > 0
        exact = _since_last_result(found)
        if exact is not None:
            self._exact = (self._exact or Usage()) + exact
        self._turns_before_result = len(self._messages)
        text = str(found.get("result") or "; ".join(map(str, sequence(found.get("errors")))))
        return [Event(Kind.RESULT, text, usage=self._so_far(), failed=bool(found.get("is_error")))]

    def _so_far(self) -> Usage:
        """Exact up to the last result; behind it, what single messages say."""
        new = list(self._messages.values())[self._turns_before_result if self._exact else 0 :]
        base = self._exact or Usage()
        tokens = sum(new, Usage())
        return Usage(
            len(self._messages),
            base.input + tokens.input,
            base.output + tokens.output,
            base.cache_read + tokens.cache_read,
            base.cache_write + tokens.cache_write,
            base.cost_usd,
        )


_HEARD = {
    "system": ClaudeDialogue._system,
    "assistant": ClaudeDialogue._assistant,
    "user": ClaudeDialogue._user,
    "result": ClaudeDialogue._end,
}


def _program(named: Sequence[str], path: str | None) -> list[str] | None:
    """The command line of the program: the one that the settings name, on PATH, or of the SDK's package."""
    if named:
        return list(named) if shutil.which(named[0], path=path) else None
    found = shutil.which("claude", path=path) or bundled()
    return [found] if found else None


def bundled() -> str | None:
    """The program that the SDK's package has in it, which is our extra ``claude``; None: it is not installed."""
    package = find_spec("claude_agent_sdk")
    program = Path(package.origin).parent / "_bundled" / "claude" if package and package.origin else None
    return str(program) if program and os.access(program, os.X_OK) else None


def _permissions(asked: Assignment) -> list[str]:
    options = ["--allowedTools", *asked.allowed_tools] if asked.allowed_tools else []
    if asked.permissions is Permissions.ALL:
        return ["--permission-mode", "bypassPermissions"]
    if asked.permissions is Permissions.EDIT:
        return ["--permission-mode", "acceptEdits", *options]
    return ["--permission-mode", "default", "--disallowedTools", *_WRITING_TOOLS, *options]


def _write_servers(place: Path, servers: Sequence[McpServer]) -> Path:
    file = place / "mcp.json"
    text = json.dumps({"mcpServers": {server.name: _server(server) for server in servers}})
    private.write(file, text)
    return file


def _server(server: McpServer) -> dict[str, object]:
    if server.url:
        return {"type": "http", "url": server.url, "headers": dict(server.headers)}
    program, *arguments = server.command
    return {"type": "stdio", "command": program, "args": arguments, "env": dict(server.env)}


def _valued(option: str, value: object) -> list[str]:
    return [] if value is None else [option, str(value)]


def _message(text: str) -> str:
    message = {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": text}]}}
    return json.dumps(message, ensure_ascii=False) + "\n"


def _spoken(block: Mapping[str, Any]) -> list[Event]:
    kind = block.get("type")
    if kind == "text" and str(block.get("text") or "").strip():
        return [Event(Kind.TEXT, str(block["text"]))]
    if kind != "tool_use":
        return []
    tool, given = str(block.get("name") or "?"), mapping(block.get("input"))
    events = [Event(Kind.TOOL, short(given), id=str(block.get("id") or ""), tool=tool)]
    if tool == "TodoWrite":
        marks = {"completed": "x", "in_progress": "-"}
        steps = [mapping(step) for step in sequence(given.get("todos"))]
        plan = "\n".join(f"[{marks.get(str(step.get('status')), ' ')}] {step.get('content')}" for step in steps)
        events.append(Event(Kind.PLAN, plan))
    return events


def _of_message(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        1,
        number(usage.get("input_tokens")),
        number(usage.get("output_tokens")),
        number(usage.get("cache_read_input_tokens")),
        number(usage.get("cache_creation_input_tokens")),
    )


def _since_last_result(found: Mapping[str, Any]) -> Usage | None:
    """What all models together used since the result before, subagents included; None if the program does not say."""
    models = found.get("model_usage_since_last_result")
    if not isinstance(models, dict):
        return None
    parts = [
        Usage(
            0,
            number(one.get("inputTokens")),
            number(one.get("outputTokens")),
            number(one.get("cacheReadInputTokens")),
            number(one.get("cacheCreationInputTokens")),
            amount(one.get("costUSD")),
        )
        for one in map(mapping, models.values())
    ]
    return sum(parts, Usage())


def _judged(result: Mapping[str, Any]) -> Verdict:
    text = str(result.get("result") or "; ".join(map(str, sequence(result.get("errors")))) or result.get("subtype"))
    subtype, reason = str(result.get("subtype") or ""), str(result.get("terminal_reason") or "")
    if not result.get("is_error") and reason in ("", "completed"):
        return Verdict(None, text)
    if "max_turns" in subtype or reason == "max_turns":
        return Verdict("max_turns", text)
    if "budget" in subtype or "budget" in reason:
        return Verdict("budget_exhausted", text)
    if reason.startswith("aborted"):
        return Verdict("interrupted", text)
    if "no conversation found" in text.lower():
        return Verdict("session_lost", text)
    return Verdict(_code_of(number(result.get("api_error_status")), text, reason), text)


def _code_of(status: int, text: str, reason: str) -> str:
    if status in (401, 403) or "/login" in text:
        return "auth_failed"
    if status in (429, 503, 529) or "overloaded" in text.lower():
        return "rate_limited"
    if reason == "api_error" and (status == 0 or status >= 500):
        return "network"
    return "agent_failed"


def _without_result(exit_code: int, last_words: str) -> Verdict:
    if "No conversation found" in last_words:
        return Verdict("session_lost", last_words)
    if exit_code in (0, 130, 143):
        return Verdict("interrupted", last_words or "it ended without a result")
    return Verdict("invalid_output", last_words or f"exit code {exit_code}, and no result")


def _is_signed_in(environ: Mapping[str, str]) -> bool | None:
    if any(environ.get(key) for key in (*_KEYS, *_ELSEWHERE)):
        return True
    home = Path(environ.get("CLAUDE_CONFIG_DIR") or Path(environ.get("HOME", "/")) / ".claude")
    if (home / ".credentials.json").is_file():
        return True
    # A Mac keeps the login in its keychain, where nobody looks unasked.
    return None if sys.platform == "darwin" else False


def _version(command: Sequence[str], environ: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            [*command, "--version"],
            env=inherited(environ, _ALSO),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def _blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [mapping(block) for block in sequence(message.get("content"))]


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(mapping(part).get("text") or "") for part in sequence(content))
