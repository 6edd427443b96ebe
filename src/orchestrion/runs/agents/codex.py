"""Codex, by ``codex exec --json``: one prompt in, events out.

It reads its prompt from standard input to the end and hears nothing afterwards; what people
say meanwhile is told at its next turn. Its numbers are those of the whole thread, over all
processes that worked on it, and its input tokens include those that came from a cache. It
reckons in no currency.

Its events do not tell one answer of the model from the next. A *turn* is counted where an
item begins behind the end of a tool, and at the beginning; an answer that shows no item at
all is therefore not counted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrion.core.errors import AgentProblem
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

#: How long it may take to tell its version, in seconds.
VERSION_S = 10.0
_ALSO = ("OPENAI_*", "CODEX_HOME", "CODEX_API_KEY", "AZURE_*", "RUST_LOG")
_INSTALL = "install it: npm install -g @openai/codex"
_SANDBOX = {Permissions.READ: "read-only", Permissions.EDIT: "workspace-write"}
_TOOLS = ("command_execution", "file_change", "mcp_tool_call", "web_search")
_STATUS = re.compile(r"\b([45]\d\d)\b")
_RETRY_AFTER = re.compile(r"(?:try again|retry) (?:in|after) (\d+(?:\.\d+)?)\s*(ms|s|m)?", re.IGNORECASE)


class CodexAgent:
    """Runs ``codex exec``."""

    resumes = True

    def begin(self, assignment: Assignment) -> CodexDialogue:
        """A new go."""
        return CodexDialogue(assignment)

    def examine(self, environ: Mapping[str, str], program: Sequence[str] = ()) -> Health:
        """Whether it is there, which version, and whether there is a key or a login on file."""
        command = _program(program, environ.get("PATH"))
        if command is None:
            return Health(None, advice=_INSTALL)
        signed_in = _is_signed_in(environ)
        advice = "" if signed_in else "sign in: `codex login`, or set OPENAI_API_KEY"
        return Health(command[0], _version(command, environ), signed_in, advice)


class CodexDialogue:
    """One go of Codex."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._turns = 0
        #: Whether a tool has ended since the last item of the model began.
        self._between = True
        #: What the thread has used so far, as the program says it.
        self._thread: Usage | None = None
        self._text = ""
        self._completed = False
        self._failure = ""

    def argv(self) -> list[str]:
        """The command line; the values of servers' variables travel in the environment."""
        asked = self._assignment
        command = _program(asked.program, os.environ.get("PATH"))
        if command is None:
            raise AgentProblem("Codex is not installed", hint=_INSTALL, code="agent_missing")
        options = ["--json", "--skip-git-repo-check", *_permissions(asked.permissions)]
        options += ["-m", asked.model] if asked.model else []
        options += [part for server in asked.servers for part in _server(server)]
        if asked.session:
            return [*command, "exec", "resume", *options, asked.session, "-"]
        return [*command, "exec", *options, "-C", str(asked.folder), "-"]

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Keys and settings of Codex, nothing of a sandbox that we may ourselves be in."""
        own = inherited(environ, (*_ALSO, *_keys_of_providers(environ)))
        for server in self._assignment.servers:
            own |= dict(server.env)
            own |= {_variable(server.name, header): value for header, value in server.headers.items()}
        return own

    def opening(self) -> str:
        """The prompt, after which its input ends."""
        return self._assignment.prompt

    def say(self, text: str) -> None:
        """It cannot hear while it works."""

    def is_over(self) -> bool:
        """From the beginning: it starts when its input has ended."""
        return True

    def hear(self, line: str) -> list[Event]:
        """What a line means."""
        try:
            found = json.loads(line)
        except ValueError:
            return []
        if not isinstance(found, dict):
            return []
        kind = str(found.get("type"))
        if kind == "thread.started":
            return [Event(Kind.SESSION, self._assignment.model or "", id=str(found.get("thread_id") or ""))]
        if kind.startswith("item."):
            return self._item(kind, _mapping(found.get("item")))
        if kind == "turn.completed":
            return self._end(_mapping(found.get("usage")))
        if kind in ("turn.failed", "error"):
            return self._fail(found)
        return []

    def judge(self, exit_code: int, last_words: str) -> Verdict:
        """By how its turn ended; the exit code only tells what ended it from outside."""
        if self._failure:
            return Verdict(_code_of(self._failure), self._failure, _retry_after(self._failure))
        if crashed := signalled(exit_code):
            return crashed
        if self._completed and exit_code == 0:
            return Verdict(None, self._text or last_words)
        if "no rollout found" in last_words.lower() or "thread not found" in last_words.lower():
            return Verdict("session_lost", last_words)
        if exit_code == 0:
            return Verdict("invalid_output", last_words or "it ended without a result")
        return Verdict(_code_of(last_words), last_words or f"exit code {exit_code}", _retry_after(last_words))

    # -- what each kind of line means ---------------------------------------------------------

    def _item(self, phase: str, item: Mapping[str, Any]) -> list[Event]:
        kind, number = str(item.get("type")), str(item.get("id") or "")
        if kind == "error":
            return [Event(Kind.NOTICE, str(item.get("message") or ""), id=number)]
        if kind == "todo_list":
            steps = [_mapping(step) for step in item.get("items") or ()]
            plan = "\n".join(f"[{'x' if step.get('completed') else ' '}] {step.get('text')}" for step in steps)
            return [Event(Kind.PLAN, plan, id=number)]
        events = self._counted()
        if kind == "agent_message" and phase == "item.completed":
            self._text = str(item.get("text") or "")
            events.append(Event(Kind.TEXT, self._text, id=number))
        if kind in _TOOLS:
            events += self._tool(phase, kind, number, item)
        return events

    def _tool(self, phase: str, kind: str, number: str, item: Mapping[str, Any]) -> list[Event]:
        called = Event(Kind.TOOL, _said(kind, item), id=number, tool=_tool_name(kind, item))
        if phase != "item.completed":
            return [called] if phase == "item.started" else []
        self._between = True
        failed = str(item.get("status")) in ("failed", "declined") or bool(item.get("exit_code"))
        told = item.get("aggregated_output") or item.get("error") or item.get("result") or item.get("status") or ""
        # Some tools are told of only when they have ended; a call that is told of twice counts once.
        return [called, Event(Kind.TOOL_RESULT, short(told), id=number, failed=failed)]

    def _counted(self) -> list[Event]:
        if not self._between:
            return []
        self._between = False
        self._turns += 1
        return [Event(Kind.USAGE, usage=self._so_far())]

    def _end(self, usage: Mapping[str, Any]) -> list[Event]:
        self._completed, self._failure = True, ""
        cached, written = _number(usage.get("cached_input_tokens")), _number(usage.get("cache_write_input_tokens"))
        self._thread = Usage(
            0,
            max(0, _number(usage.get("input_tokens")) - cached - written),
            _number(usage.get("output_tokens")),
            cached,
            written,
        )
        return [Event(Kind.RESULT, self._text, usage=self._so_far())]

    def _fail(self, found: Mapping[str, Any]) -> list[Event]:
        text = str(found.get("message") or _mapping(found.get("error")).get("message") or "it failed")
        if found.get("type") == "error":
            # It may still try again by itself; how the turn ends says whether that helped.
            self._failure = self._failure or text
            return [Event(Kind.NOTICE, text, failed=True)]
        self._failure = text
        return [Event(Kind.RESULT, text, usage=self._so_far(), failed=True)]

    def _so_far(self) -> Usage:
        if self._thread is None:
            return Usage(self._turns)
        spent, thread = self._assignment.spent, self._thread
        return Usage(
            self._turns,
            max(0, thread.input - spent.input),
            max(0, thread.output - spent.output),
            max(0, thread.cache_read - spent.cache_read),
            max(0, thread.cache_write - spent.cache_write),
        )


def _program(named: Sequence[str], path: str | None) -> list[str] | None:
    if named:
        return list(named) if shutil.which(named[0], path=path) else None
    found = shutil.which("codex", path=path)
    return [found] if found else None


def _permissions(permissions: Permissions) -> list[str]:
    if permissions is Permissions.ALL:
        return ["--dangerously-bypass-approvals-and-sandbox"]
    return ["-c", f'sandbox_mode="{_SANDBOX[permissions]}"', "-c", 'approval_policy="never"']


def _server(server: McpServer) -> list[str]:
    """A server of tools as settings on the command line, without its secrets."""
    place = f"mcp_servers.{server.name}"
    settings: dict[str, object]
    if server.url:
        headers = {header: _variable(server.name, header) for header in server.headers}
        settings = {"url": server.url, "env_http_headers": headers}
    else:
        program, *arguments = server.command
        settings = {"command": program, "args": arguments, "env_vars": list(server.env)}
    return [part for key, value in settings.items() for part in ("-c", f"{place}.{key}={_toml(value)}")]


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def _variable(server: str, header: str) -> str:
    return "MCP_" + re.sub(r"\W", "_", f"{server}_{header}").upper()


def _keys_of_providers(environ: Mapping[str, str]) -> list[str]:
    """Variables that its configuration names as keys of model providers."""
    file = _home(environ) / "config.toml"
    try:
        import tomllib

        providers = tomllib.loads(file.read_text(encoding="utf-8")).get("model_providers", {})
    except (OSError, ValueError):
        return []  # it will say itself what is wrong with its configuration
    return [str(one["env_key"]) for one in map(_mapping, providers.values()) if one.get("env_key")]


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("CODEX_HOME") or Path(environ.get("HOME", "/")) / ".codex")


def _said(kind: str, item: Mapping[str, Any]) -> str:
    if kind == "file_change":
        changes = [_mapping(change) for change in item.get("changes") or ()]
        return short(", ".join(f"{change.get('kind')} {change.get('path')}" for change in changes))
    return short(item.get("command") or item.get("query") or item.get("arguments") or "")


def _tool_name(kind: str, item: Mapping[str, Any]) -> str:
    if kind == "mcp_tool_call":
        return f"mcp__{item.get('server')}__{item.get('tool')}"
    return {"command_execution": "shell", "file_change": "edit"}.get(kind, kind)


def _code_of(text: str) -> str:
    found, low = _STATUS.search(text), text.lower()
    status = int(found[1]) if found else 0
    if status in (401, 403) or "unauthorized" in low or "not logged in" in low:
        return "auth_failed"
    if status == 429 or "rate limit" in low or "usage limit" in low or "overloaded" in low:
        return "rate_limited"
    if status >= 500 or "stream disconnected" in low or "connection" in low or "error sending request" in low:
        return "network"
    return "agent_failed"


def _retry_after(text: str) -> float | None:
    found = _RETRY_AFTER.search(text)
    return float(found[1]) * {"ms": 0.001, "m": 60.0}.get(found[2] or "s", 1.0) if found else None


def _is_signed_in(environ: Mapping[str, str]) -> bool:
    keys = ("OPENAI_API_KEY", "CODEX_API_KEY", *_keys_of_providers(environ))
    return any(environ.get(key) for key in keys) or (_home(environ) / "auth.json").is_file()


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


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
