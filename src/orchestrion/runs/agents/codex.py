"""Codex, by ``codex exec --json``: one prompt in, events out.

It reads its prompt from standard input to the end and hears nothing afterwards; what people
say meanwhile is told at its next turn. Its tokens of the prompt include those that came from
a cache, those of its answers what it thought; it reckons in no currency.

Its events tell neither one answer of the model from the next, nor what was used before the
end, nor anything of that when the go fails. Its record of the session does, answer by answer
and at once. So Codex is started by a small program (``codex_relay``) that passes the events
on and puts a line of its own between them for every answer. Without such lines, from
a Codex that keeps no such record, numbers are those of the last event less what the session
had used before, and a *turn* is counted at the beginning and behind the end of tools.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
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
from orchestrion.runs.agents.codex_relay import ANSWER, MODEL, RELAY, home
from orchestrion.runs.agents.told import mapping, number, parsed, sequence

#: How long it may take to tell its version, or whether it is signed in, in seconds.
VERSION_S = 10.0
#: How long its servers of tools may take to start, in seconds.
SERVERS_S = 60
_ALSO = (
    "OPENAI_*",
    "CODEX_HOME",
    "CODEX_SQLITE_HOME",
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_CA_CERTIFICATE",
    "CODEX_OSS_*",
    "AZURE_*",
    "RUST_LOG",
)
#: Any of these signs it in; it asks for no OPENAI_API_KEY unless its configuration says so.
_KEYS = ("CODEX_API_KEY", "CODEX_ACCESS_TOKEN")
_INSTALL = "install it: npm install -g @openai/codex"
_SANDBOX = {Permissions.READ: "read-only", Permissions.EDIT: "workspace-write"}
#: Kinds of items that are tools -> what the tool is called, where that is always the same.
_TOOLS = {
    "command_execution": "shell",
    "file_change": "edit",
    "web_search": "web_search",
    "mcp_tool_call": "",
    "collab_tool_call": "",
}


class CodexAgent:
    """Runs ``codex exec``."""

    resumes = True

    def begin(self, assignment: Assignment) -> CodexDialogue:
        """A new go."""
        return CodexDialogue(assignment)

    def examine(self, environ: Mapping[str, str], program: Sequence[str] = ()) -> Health:
        """Whether it is there, which version, and whether there is a key or a login."""
        command = _program(program, environ.get("PATH"))
        if command is None:
            return Health(None, advice=_INSTALL)
        found = _asked([*command, "--version"], environ)
        version = found[1].split()[-1] if found and found[0] == 0 and found[1] else None
        signed_in = _is_signed_in(command, environ)
        advice = "sign in: `codex login`, or set CODEX_API_KEY" if signed_in is False else ""
        return Health(command[0], version, signed_in, advice)


class CodexDialogue:
    """One go of Codex."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        #: What each answer of the model used, by its id.
        self._answers: dict[str, Usage] = {}
        #: What the thread has used in all, by the last event.
        self._thread: Usage | None = None
        #: Turns as events show them, and whether a tool has ended since the last one.
        self._shown, self._between = 0, True
        self._calls: set[str] = set()
        self._text, self._plan = "", ""
        self._completed = False
        #: Why the turn failed; and what went wrong meanwhile.
        self._failure, self._trouble = "", ""

    def argv(self) -> list[str]:
        """The command line; what may be secret of its servers of tools travels in the environment."""
        asked = self._assignment
        command = _program(asked.program, os.environ.get("PATH"))
        if command is None:
            raise AgentProblem("Codex is not installed", hint=_INSTALL, code="agent_missing")
        options = ["--json", "--skip-git-repo-check", *_permissions(asked.permissions)]
        # Else it waits for a network that is cut as long as it takes.
        options += _setting("features.unbounded_connection_retries", False)
        # Else its commands have the path of a login, and do not find what is on the run's.
        options += _setting("allow_login_shell", False)
        options += ["-m", asked.model] if asked.model else []
        options += [part for server in asked.servers for part in _server(server, asked.allowed_tools)]
        go_on = ["resume", asked.session] if asked.session else []
        start = [sys.executable, "-P", "-m", RELAY]
        return [*start, *command, "exec", "-C", str(asked.folder), *go_on, *options, "-"]

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Keys and settings of Codex, nothing of a session or sandbox that we may ourselves be in."""
        own = inherited(environ, (*_ALSO, *_keys_of_providers(environ)))
        for server in self._assignment.servers:
            secrets = {**server.env, **server.headers}
            own |= {_variable(server.name, name): value for name, value in secrets.items()}
        return own

    def opening(self) -> str:
        """The prompt, after which its input ends."""
        return self._assignment.prompt

    def say(self, text: str) -> None:
        """It cannot hear while it works."""

    def is_over(self) -> bool:
        """From the beginning: Codex starts when its input has ended."""
        return True

    def hear(self, line: str) -> list[Event]:
        """What a line means."""
        found = parsed(line)
        kind = str(found.get("type"))
        if kind.startswith("item."):
            return self._item(kind, mapping(found.get("item")))
        return _HEARD.get(kind, CodexDialogue._nothing)(self, found)

    def judge(self, exit_code: int, last_words: str) -> Verdict:
        """By how its turn ended; the exit code only tells what ended it from outside."""
        if self._failure:
            return _verdict_on(self._failure)
        if self._completed and exit_code == 0:
            return Verdict(None, self._text or last_words)
        if crashed := signalled(exit_code):
            return crashed
        if "no rollout found" in last_words.lower() or "thread not found" in last_words.lower():
            return Verdict("session_lost", last_words)
        if exit_code == 0:
            return Verdict("invalid_output", last_words or "it ended without a result")
        return _verdict_on(self._trouble or last_words or f"exit code {exit_code}")

    # -- what each kind of line means ---------------------------------------------------------

    def _nothing(self, found: Mapping[str, Any]) -> list[Event]:
        return []

    def _start(self, found: Mapping[str, Any]) -> list[Event]:
        return [Event(Kind.SESSION, str(found.get("model") or ""), id=str(found.get("thread_id") or ""))]

    def _item(self, phase: str, item: Mapping[str, Any]) -> list[Event]:
        kind, number = str(item.get("type")), str(item.get("id") or "")
        if kind == "error":
            return [Event(Kind.NOTICE, str(item.get("message") or ""), id=number)]
        if kind == "todo_list":
            return self._planned(number, item)
        self._count()
        events = []
        if kind == "agent_message" and phase == "item.completed":
            self._text = str(item.get("text") or "")
            events.append(Event(Kind.TEXT, self._text, id=number))
        if kind in _TOOLS:
            events += self._tool(phase, kind, number, item)
        return events

    def _planned(self, number: str, item: Mapping[str, Any]) -> list[Event]:
        steps = [mapping(step) for step in sequence(item.get("items"))]
        plan = "\n".join(f"[{'x' if step.get('completed') else ' '}] {step.get('text')}" for step in steps)
        if plan == self._plan:
            return []
        self._plan = plan
        return [Event(Kind.PLAN, plan, id=number)]

    def _tool(self, phase: str, kind: str, number: str, item: Mapping[str, Any]) -> list[Event]:
        name, events = _tool_name(kind, item), []
        # Some tools are told of only when they have ended.
        if number not in self._calls and phase != "item.updated":
            self._calls.add(number)
            events.append(Event(Kind.TOOL, _said(kind, item), id=number, tool=name))
        if phase == "item.completed":
            self._between = True
            events += _outcome(number, name, item)
        return events

    def _count(self) -> None:
        """An item of the model: the first one, and the first behind the end of a tool, begins a turn."""
        self._shown += self._between
        self._between = False

    def _answer(self, found: Mapping[str, Any]) -> list[Event]:
        self._answers[str(found.get("id"))] = _usage(mapping(found.get("usage")), turns=1)
        return [Event(Kind.USAGE, usage=self._so_far())]

    def _end(self, found: Mapping[str, Any]) -> list[Event]:
        self._completed = True
        self._thread = _usage(mapping(found.get("usage")))
        return [Event(Kind.RESULT, self._text, usage=self._so_far())]

    def _fail(self, found: Mapping[str, Any]) -> list[Event]:
        self._failure = str(mapping(found.get("error")).get("message") or self._trouble or "it failed")
        return [Event(Kind.RESULT, self._failure, usage=self._so_far(), failed=True)]

    def _hear_of_trouble(self, found: Mapping[str, Any]) -> list[Event]:
        """It may try again by itself; how the turn ends says whether that helped."""
        self._trouble = str(found.get("message") or "")
        return [Event(Kind.NOTICE, self._trouble, failed=True)]

    def _so_far(self) -> Usage:
        if self._answers:
            return sum(self._answers.values(), Usage())
        if self._thread is None:
            return Usage()
        spent = self._assignment.spent if self._assignment.session else Usage()
        return Usage(
            self._shown,
            max(0, self._thread.input - spent.input),
            max(0, self._thread.output - spent.output),
            max(0, self._thread.cache_read - spent.cache_read),
            max(0, self._thread.cache_write - spent.cache_write),
        )


_HEARD = {
    "thread.started": CodexDialogue._start,
    MODEL: CodexDialogue._start,
    ANSWER: CodexDialogue._answer,
    "turn.completed": CodexDialogue._end,
    "turn.failed": CodexDialogue._fail,
    "error": CodexDialogue._hear_of_trouble,
}


def _usage(told: Mapping[str, Any], turns: int = 0) -> Usage:
    """Tokens in our count: those of the prompt without those that came from or went to a cache."""
    cached, written = number(told.get("cached_input_tokens")), number(told.get("cache_write_input_tokens"))
    fresh = max(0, number(told.get("input_tokens")) - cached - written)
    return Usage(turns, fresh, number(told.get("output_tokens")), cached, written)


def _said(kind: str, item: Mapping[str, Any]) -> str:
    if kind == "file_change":
        changes = [mapping(change) for change in sequence(item.get("changes"))]
        return short(", ".join(f"{change.get('kind')} {change.get('path')}" for change in changes))
    return short(item.get("command") or item.get("query") or item.get("arguments") or item.get("prompt") or "")


def _tool_name(kind: str, item: Mapping[str, Any]) -> str:
    if kind == "mcp_tool_call":
        return f"mcp__{item.get('server')}__{item.get('tool')}"
    return _TOOLS[kind] or str(item.get("tool") or kind)


def _outcome(number: str, name: str, item: Mapping[str, Any]) -> list[Event]:
    status = str(item.get("status") or "")
    told = short(item.get("aggregated_output") or _words(item.get("error")) or _words(item.get("result")) or status)
    denied = status == "declined" or "requires approval" in told
    failed = denied or status == "failed" or bool(item.get("exit_code"))
    events = [Event(Kind.PERMISSION, told, id=number, tool=name, failed=True)] if denied else []
    return [*events, Event(Kind.TOOL_RESULT, told, id=number, tool=name, failed=failed)]


def _words(told: object) -> str:
    """The text in what a tool of a server gave, or in what went wrong."""
    found = mapping(told)
    if isinstance(found.get("message"), str):
        return str(found["message"])
    parts = [str(mapping(part).get("text") or "") for part in sequence(found.get("content"))]
    return "\n".join(part for part in parts if part)


# -- its command line and environment -------------------------------------------------------------


def _program(named: Sequence[str], path: str | None) -> list[str] | None:
    if named:
        return list(named) if shutil.which(named[0], path=path) else None
    found = shutil.which("codex", path=path)
    return [found] if found else None


def _permissions(permissions: Permissions) -> list[str]:
    """Its sandbox; with one, what would have to be asked for is denied. There are no rules for single commands."""
    if permissions is Permissions.ALL:
        return ["--dangerously-bypass-approvals-and-sandbox"]
    return [*_setting("sandbox_mode", _SANDBOX[permissions]), *_setting("approval_policy", "never")]


def _server(server: McpServer, allowed: Sequence[str]) -> list[str]:
    """A server of tools as settings on the command line, without its secrets."""
    settings: dict[str, object] = {
        # Else it does not wait for a server, and the model finds no such tool.
        "required": True,
        "startup_timeout_sec": SERVERS_S,
        **(_by_address(server) if server.url else _by_command(server)),
    }
    for tool in _allowed_of(server.name, allowed):
        settings[f"tools.{tool}.approval_mode" if tool else "default_tools_approval_mode"] = "approve"
    place = f"mcp_servers.{server.name}"
    return [part for key, value in settings.items() for part in _setting(f"{place}.{key}", value)]


def _by_address(server: McpServer) -> dict[str, object]:
    return {"url": server.url, "env_http_headers": {name: _variable(server.name, name) for name in server.headers}}


def _by_command(server: McpServer) -> dict[str, object]:
    """Its variables come under names of their own: they are not Codex's, nor another server's."""
    if not server.env:
        return {"command": server.command[0], "args": list(server.command[1:])}
    carriers = {name: _variable(server.name, name) for name in server.env}
    script = [f'export {name}="${carrier}"; unset {carrier}' for name, carrier in carriers.items()]
    script.append('exec "$0" "$@"')
    return {
        "command": "/bin/sh",
        "args": ["-c", "; ".join(script), *server.command],
        "env_vars": list(carriers.values()),
    }


def _allowed_of(server: str, allowed: Sequence[str]) -> list[str]:
    """The tools of a server that a list names as ``mcp__server__tool``; empty for all: ``mcp__server``."""
    whole, start = f"mcp__{server}", f"mcp__{server}__"
    named = [entry.removeprefix(start) for entry in allowed if entry.startswith(start)]
    return ["" if name in ("", "*") else name for name in named] + ([""] if whole in allowed else [])


def _setting(name: str, value: object) -> list[str]:
    return ["-c", f"{name}={_toml(value)}"]


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def _variable(server: str, name: str) -> str:
    return "ORCHESTRION_MCP_" + re.sub(r"\W", "_", f"{server}_{name}").upper()


def _keys_of_providers(environ: Mapping[str, str]) -> list[str]:
    """Variables that its configuration names as keys of model providers."""
    providers = [mapping(one) for one in mapping(_configuration(environ).get("model_providers")).values()]
    headers = [name for one in providers for name in mapping(one.get("env_http_headers")).values()]
    return [str(name) for name in (*(one.get("env_key") for one in providers), *headers) if name]


def _configuration(environ: Mapping[str, str]) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads((home(environ) / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it will say itself what is wrong with its configuration


# -- what its words mean, and whether it is signed in -----------------------------------------------

#: What an error's text tells of its cause, the first that matches.
_CAUSES = (
    (
        "auth_failed",
        r"status:? 40[13]\b|unauthorized|not logged in|missing environment variable|api.?key|"
        r"refresh.{0,20}token|sign in again|log in again",
    ),
    ("rate_limited", r"status:? (429|529)\b|rate.?limit|usage limit|quota|too many requests|overloaded|at capacity"),
    (
        "network",
        r"status:? 5\d\d\b|high demand|stream disconnected|connection|network|error sending request|timed? ?out|"
        r"idle timeout|internal server error",
    ),
)
_WAIT = re.compile(r"(?:try again|retry) (?:in|after)((?: *\d+(?:\.\d+)? *(?:ms|[smhd])[a-z]*,?(?: and)?)+)", re.I)
_SPAN = re.compile(r"(\d+(?:\.\d+)?) *(ms|[smhd])", re.I)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _verdict_on(text: str) -> Verdict:
    code = next((cause for cause, words in _CAUSES if re.search(words, text, re.I)), "agent_failed")
    return Verdict(code, text, _retry_after(text) if code == "rate_limited" else None)


def _retry_after(text: str) -> float | None:
    """Seconds, of words such as ``try again in 1h 5m`` or ``in 2 days 3 hours``."""
    found = _WAIT.search(text)
    return sum(float(span[1]) * _SECONDS[span[2].lower()] for span in _SPAN.finditer(found[1])) if found else None


def _is_signed_in(command: Sequence[str], environ: Mapping[str, str]) -> bool | None:
    """By the provider that its configuration chooses, a key, or what it says itself; None: it says nothing."""
    configuration = _configuration(environ)
    provider = mapping(mapping(configuration.get("model_providers")).get(str(configuration.get("model_provider"))))
    if provider.get("env_key"):
        return bool(environ.get(str(provider["env_key"])))
    if any(environ.get(key) for key in _KEYS) or (provider and not provider.get("requires_openai_auth")):
        return True
    found = _asked([*command, "login", "status"], environ)
    return None if found is None else found[0] == 0


def _asked(command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str] | None:
    """The exit code and output of a short command; None: nothing in time."""
    try:
        done = subprocess.run(
            command,
            env=inherited(environ, _ALSO),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=VERSION_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode, done.stdout.strip()
