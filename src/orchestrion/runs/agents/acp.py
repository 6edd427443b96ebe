"""Agents that speak the Agent Client Protocol: Gemini, Qwen, OpenCode, and whatever comes.

The protocol is a conversation in both directions: the agent asks for files and permissions
while it works. A bridge (``acp_bridge``) holds that conversation in a small process of its
own, between the supervisor and the agent, and tells of it in lines; here is what those
lines mean, how the bridge is started, and what is known of some agents.

What the bridge hears: ``{"start": {...}}``, then any of ``{"say": text}``, ``{"cancel": true}``
and ``{"end": true}``; the end of its input ends it too. What it says has an ``event`` each.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from orchestrion.core.errors import AgentProblem
from orchestrion.core.extras import install
from orchestrion.runs.agents import agent
from orchestrion.runs.agents.agent import (
    Assignment,
    Event,
    Health,
    Kind,
    Permissions,
    Usage,
    Verdict,
    signalled,
)

#: How long an agent may take to tell its version, in seconds.
VERSION_S = 10.0
_BRIDGE = "orchestrion.runs.agents.acp_bridge"
_INSTALL = f"install what speaks the protocol: {install('acp')}"


@dataclass(frozen=True)
class AcpPreset:
    """What is known of one agent program."""

    #: Its command line.
    command: tuple[str, ...]
    #: What it needs of our environment beside what all need; see ``inherited``.
    also: tuple[str, ...] = ()
    #: (variable, method): how to sign in, if the agent asks for it, where that variable is set.
    signs_in: tuple[tuple[str, str], ...] = ()
    #: The option with which it is given a model; empty: it offers a choice itself, or none.
    model_option: str = ""
    #: Whether the tokens that it tells are those of all its answers; if not they are left out.
    counts_tokens: bool = True
    #: Whether it goes on with an earlier session in a new process.
    resumes: bool = True
    #: Whether it reads and writes the workspace's files through us.
    serves_files: bool = True
    #: Added to its environment, so that it asks before it acts.
    cautions: Mapping[Permissions, Mapping[str, str]] = field(default_factory=dict)
    #: Options that fence it: what it would have to ask for is denied.
    fences: Mapping[Permissions, Sequence[str]] = field(default_factory=dict)
    #: Added to its environment for root, as whom it refuses to run otherwise.
    as_root: Mapping[str, str] = field(default_factory=dict)
    #: How to get it.
    advice: str = ""


def _opencode_cautions() -> dict[Permissions, dict[str, str]]:
    # It asks for nothing of its own accord.
    asking = json.dumps({"*": "ask"})
    return {permissions: {"OPENCODE_PERMISSION": asking} for permissions in (Permissions.READ, Permissions.EDIT)}


def _codex_fences() -> dict[Permissions, tuple[str, ...]]:
    """Its own sandbox, as of Codex itself; and its commands have the path of the run, not that of a login."""
    sandboxes = {
        Permissions.READ: ("read-only", "never"),
        Permissions.EDIT: ("workspace-write", "never"),
        Permissions.ALL: ("danger-full-access", "never"),
    }
    return {
        permissions: (
            *("-c", f'sandbox_mode="{sandbox}"'),
            *("-c", f'approval_policy="{policy}"'),
            *("-c", "allow_login_shell=false"),
        )
        for permissions, (sandbox, policy) in sandboxes.items()
    }


PRESETS: dict[str, AcpPreset] = {
    "gemini": AcpPreset(
        ("gemini", "--acp"),
        ("GEMINI_*", "GOOGLE_*"),
        signs_in=(("GEMINI_API_KEY", "gemini-api-key"), ("GOOGLE_API_KEY", "vertex-ai")),
        model_option="--model",
        resumes=False,  # it overwrites the session that it is to load
        serves_files=False,  # it understands no answer for a file that is not there yet, and could make none
        advice="npm install -g @google/gemini-cli, then sign in with `gemini` or set GEMINI_API_KEY",
    ),
    "qwen": AcpPreset(
        ("qwen", "--acp"),
        ("QWEN_*", "OPENAI_*", "DASHSCOPE_*", "BAILIAN_*"),
        signs_in=(("OPENAI_API_KEY", "openai"),),
        model_option="--model",
        advice="npm install -g @qwen-code/qwen-code, then sign in with `qwen` or set OPENAI_API_KEY",
    ),
    "opencode": AcpPreset(
        ("opencode", "acp"),
        ("OPENCODE_*", "OPENAI_*", "ANTHROPIC_*", "GEMINI_*", "GOOGLE_*", "OPENROUTER_*", "GROQ_*", "AWS_*"),
        counts_tokens=False,  # it tells those of its last answer alone
        cautions=_opencode_cautions(),
        advice="npm install -g opencode-ai, then sign in with `opencode auth login`",
    ),
    "claude-acp": AcpPreset(
        ("claude-agent-acp",),
        ("ANTHROPIC_*", "CLAUDE_*", "AWS_*", "GOOGLE_*", "IS_SANDBOX", "DISABLE_*"),
        as_root={"IS_SANDBOX": "1"},
        advice="npm install -g @agentclientprotocol/claude-agent-acp, then sign in with `claude`",
    ),
    "codex-acp": AcpPreset(
        ("codex-acp",),
        ("CODEX_*", "OPENAI_*"),
        signs_in=(("CODEX_API_KEY", "codex-api-key"), ("OPENAI_API_KEY", "openai-api-key")),
        counts_tokens=False,  # it tells none
        fences=_codex_fences(),
        advice="npm install -g @zed-industries/codex-acp, then sign in with `codex login`; "
        "its sandbox on Linux needs bubblewrap (`bwrap`)",
    ),
}


def acp_agent(name: str) -> AcpAgent:
    """The agent of a preset; of any other name, one that is known by its command line alone."""
    return AcpAgent(preset=PRESETS.get(name))


class AcpAgent:
    """Any agent that speaks the protocol: by its command line, or one that is known better."""

    def __init__(self, command: Sequence[str] = (), also: Sequence[str] = (), preset: AcpPreset | None = None) -> None:
        self._preset = preset or AcpPreset(tuple(command), tuple(also))
        self.resumes = self._preset.resumes

    def begin(self, assignment: Assignment) -> AcpDialogue:
        """A new go."""
        return AcpDialogue(_known(self._preset, assignment.program), assignment)

    def examine(self, environ: Mapping[str, str], program: Sequence[str] = ()) -> Health:
        """Whether its program is there, and which version; whether it is signed in only it knows."""
        preset = _known(self._preset, program)
        command = tuple(program) or preset.command
        found = shutil.which(command[0], path=environ.get("PATH")) if command else None
        if found is None:
            return Health(None, advice=preset.advice or "install it, or set its `program`")
        version = _version(found, agent.inherited(environ, preset.also))
        return Health(found, version, advice="" if _can_bridge() else _INSTALL)


def _known(preset: AcpPreset, program: Sequence[str]) -> AcpPreset:
    """What is known of a program that the settings name: all of a preset, else where its keys are.

    A program ``mine`` gets the variables that begin with ``MINE_``.
    """
    if preset.command or not program:
        return preset
    name = Path(program[0]).name
    own = re.sub(r"\W", "_", name).upper()
    return _BY_PROGRAM.get(name) or AcpPreset(tuple(program), (*preset.also, f"{own}_*"))


_BY_PROGRAM = {preset.command[0]: preset for preset in PRESETS.values()}


class AcpDialogue:
    """One go of an agent, by way of the bridge."""

    def __init__(self, preset: AcpPreset, assignment: Assignment) -> None:
        self._preset = preset
        self._assignment = assignment
        #: What was asked, and how much of it was answered.
        self._prompts, self._answers = 1, 0
        self._stop, self._text = "", ""
        self._failure: Verdict | None = None
        self._denied = ""
        #: What the session had cost before this go, in the agent's own count; None: not known yet.
        self._cost_before: float | None = None

    def argv(self) -> list[str]:
        """The bridge. Raises AgentProblem when it or the agent itself is not there."""
        command = self._command()
        if not command or shutil.which(command[0]) is None:
            raise AgentProblem(
                f"the agent's program {command[0] if command else ''!r} was not found",
                hint=self._preset.advice or "install it, or correct `program` in the settings of the agent",
                code="agent_missing",
            )
        if not _can_bridge():
            raise AgentProblem(
                "the agent speaks ACP, and the library for it is missing", hint=_INSTALL, code="agent_missing"
            )
        return [sys.executable, "-P", "-m", _BRIDGE]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What the agent needs of ours; the bridge, which hands it on, needs nothing."""
        cautions = self._preset.cautions.get(self._assignment.permissions, {})
        as_root = self._preset.as_root if os.geteuid() == 0 else {}
        return agent.inherited(inherited, self._preset.also) | dict(cautions) | dict(as_root)

    def opening(self) -> str:
        """All that the bridge has to know."""
        asked = self._assignment
        start = {
            "command": _native(self._command()),
            "folder": str(asked.folder),
            "prompt": asked.prompt,
            "session": asked.session,
            "servers": [asdict(server) for server in asked.servers],
            "permissions": str(asked.permissions),
            "allowed_tools": list(asked.allowed_tools),
            "model": None if self._preset.model_option else asked.model,
            "signs_in": [list(way) for way in self._preset.signs_in],
            "serves_files": self._preset.serves_files,
            "counts_tokens": self._preset.counts_tokens,
        }
        return _line({"start": start})

    def _command(self) -> list[str]:
        command = [*(self._assignment.program or self._preset.command)]
        command += self._preset.fences.get(self._assignment.permissions, ())
        if self._assignment.model and self._preset.model_option:
            command += [self._preset.model_option, self._assignment.model]
        return command

    def hear(self, line: str) -> list[Event]:
        """What the bridge tells; a line of somebody else gives no event."""
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            return []
        hearer = self._hearers().get(str(told.get("event"))) if isinstance(told, dict) else None
        return [hearer(told)] if hearer else []

    def _hearers(self) -> dict[str, Callable[[dict[str, Any]], Event]]:
        return {
            "session": lambda told: Event(Kind.SESSION, _text(told, "model"), id=_text(told, "id")),
            "text": lambda told: Event(Kind.TEXT, _text(told, "text")),
            "tool": lambda told: Event(Kind.TOOL, _text(told, "text"), _text(told, "id"), _text(told, "tool")),
            "tool_result": self._hear_tool_result,
            "plan": lambda told: Event(Kind.PLAN, _text(told, "text")),
            "permission": self._hear_permission,
            "usage": self._hear_usage,
            "notice": lambda told: Event(Kind.NOTICE, _text(told, "text")),
            "result": self._hear_result,
            "error": self._hear_error,
        }

    def _hear_tool_result(self, told: dict[str, Any]) -> Event:
        failed = told.get("failed") is True
        return Event(Kind.TOOL_RESULT, _text(told, "text"), _text(told, "id"), _text(told, "tool"), failed=failed)

    def _hear_permission(self, told: dict[str, Any]) -> Event:
        self._denied = f"{_text(told, 'tool')} {_text(told, 'text')}".strip()
        return Event(Kind.PERMISSION, _text(told, "text"), _text(told, "id"), _text(told, "tool"), failed=True)

    def _hear_usage(self, told: dict[str, Any]) -> Event:
        names = ("turns", "input", "output", "cache_read", "cache_write")
        turns, given, output, read, written = (int(_number(told, name)) for name in names)
        return Event(Kind.USAGE, usage=Usage(turns, given, output, read, written, self._own_cost(told)))

    def _own_cost(self, told: dict[str, Any]) -> float | None:
        """The cost of this go: agents tell that of the whole session, or begin anew with each process."""
        if not isinstance(told.get("session_cost"), int | float):
            return None
        cost = _number(told, "session_cost")
        if self._cost_before is None:
            spent = (self._assignment.spent.cost_usd or 0.0) if self._assignment.session else 0.0
            # A count that is below what was spent already has begun anew.
            self._cost_before = spent if cost >= spent - 1e-9 else 0.0
        return max(0.0, round(cost - self._cost_before, 9))

    def _hear_result(self, told: dict[str, Any]) -> Event:
        self._answers += 1
        self._stop, self._text = _text(told, "stop"), _text(told, "text")
        return Event(Kind.RESULT, self._text, failed=self._stop != "end_turn")

    def _hear_error(self, told: dict[str, Any]) -> Event:
        self._failure = _failure(_text(told, "code"), _text(told, "text"))
        return Event(Kind.RESULT, self._failure.text, failed=True)

    def say(self, text: str) -> str | None:
        """The next prompt of the session; the bridge keeps it until the agent has answered the one before."""
        if self.is_over():
            return None
        self._prompts += 1
        return _line({"say": text})

    def is_over(self) -> bool:
        """Whether every prompt has its answer, or none will come any more."""
        return self._failure is not None or self._answers >= self._prompts

    def judge(self, exit_code: int, last_words: str) -> Verdict:
        """By why the agent stopped, as it says itself; a bridge that ended before that ended early."""
        if self._failure:
            return self._failure
        if not self.is_over():
            return signalled(exit_code) or Verdict(
                "agent_crashed", last_words or f"it ended early, exit code {exit_code}"
            )
        if self._stop == "end_turn":
            return Verdict(None, self._text or last_words)
        if self._stop == "cancelled" and self._denied:
            return Verdict("permission_denied", f"it stopped when it was denied {self._denied}")
        code, words = _STOPS.get(self._stop, ("agent_failed", f"it stopped: {self._stop}"))
        return Verdict(code, f"{words}: {self._text}" if self._text else words)


#: Why a prompt ended, in the protocol's words -> what that is called here.
_STOPS = {
    "max_tokens": ("agent_failed", "its answer was cut off: the model gave all the tokens it may"),
    "max_turn_requests": ("max_turns", "it asked the model as often as it may"),
    "refusal": ("agent_failed", "it refused"),
    "cancelled": ("interrupted", "it was cancelled"),
}

#: What an error's text tells of its cause, the first that matches.
_CAUSES = (
    ("rate_limited", r"\b(429|529)\b|rate.?limit|too many requests|quota|resource.?exhausted|overloaded"),
    ("auth_failed", r"\b(401|403)\b|unauthori[sz]ed|authenticat|api.?key|credential|log.?in|sign.?in"),
    (
        "network",
        r"ECONN|ENOTFOUND|ETIMEDOUT|EAI_AGAIN|fetch failed|network|socket|connection (error|refused|reset)|\b50[234]\b",
    ),
)


def _failure(code: str, text: str) -> Verdict:
    """The verdict on an error; one without a code of ours is known by its words."""
    if code == "error":
        code = next((cause for cause, words in _CAUSES if re.search(words, text, re.I)), "agent_failed")
    return Verdict(code or "agent_failed", text, _retry_after(text) if code == "rate_limited" else None)


def _retry_after(text: str) -> float | None:
    found = re.search(r"retry[^0-9]{0,20}(\d+(?:\.\d+)?)\s*(ms|s|m)?", text, re.I)
    if found is None:
        return None
    return float(found[1]) * {"ms": 0.001, "m": 60.0}.get(found[2] or "s", 1.0)


def _native(command: list[str]) -> list[str]:
    """Without a wrapper that would die alone: codex-acp's leaves the real program running behind it."""
    found = shutil.which(command[0])
    if found is None or Path(found).resolve().name != "codex-acp.js":
        return command
    package = Path(found).resolve().parent.parent
    system, machine = os.uname().sysname.lower(), os.uname().machine
    kind = f"codex-acp-{system}-{ {'x86_64': 'x64', 'aarch64': 'arm64'}.get(machine, machine) }"
    places = (package.parent / kind, package / "node_modules" / package.parent.name / kind)
    natives = [place / "bin" / "codex-acp" for place in places]
    return next(([str(native), *command[1:]] for native in natives if os.access(native, os.X_OK)), command)


def _can_bridge() -> bool:
    from importlib.util import find_spec

    return find_spec("acp") is not None


def _version(program: str, environment: Mapping[str, str]) -> str | None:
    """What the program says of its version; None: nothing in time."""
    import subprocess

    try:
        done = subprocess.run(
            [program, "--version"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=VERSION_S,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+\.\d+[\w.+-]*", done.stdout)
    return found[0] if found else None


def _line(order: dict[str, Any]) -> str:
    return json.dumps(order) + "\n"


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""


def _number(told: dict[str, Any], name: str) -> float:
    value = told.get(name)
    return max(0.0, float(value)) if isinstance(value, int | float) and isfinite(value) else 0.0
