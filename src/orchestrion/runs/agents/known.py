"""Which agents there are: those we know by name, and those that the settings describe.

An adapter is imported when it is needed and not before. A new kind of agent is one file
behind ``agent.py`` and one line here.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from orchestrion.core.config import nearest
from orchestrion.core.errors import AgentProblem, NotFound
from orchestrion.runs.agents.agent import Agent

#: Name -> module of this folder, class in it, and the program that is looked for on PATH.
_NATIVE = {
    "claude": ("claude", "ClaudeAgent", "claude"),
    "codex": ("codex", "CodexAgent", "codex"),
}
#: Agents that speak the Agent Client Protocol -> their program.
_ACP = {
    "gemini": "gemini",
    "qwen": "qwen",
    "opencode": "opencode",
    "claude-acp": "claude-agent-acp",
    "codex-acp": "codex-acp",
}
_COMMAND = "command"


def agent_named(name: str, settings: Mapping[str, Any]) -> Agent:
    """The agent of that name, as its settings describe it. Raises AgentProblem (``agent_missing``)."""
    adapter = _adapter(name, settings)
    if adapter in _NATIVE:
        module, kind, _ = _NATIVE[adapter]
        return _imported(module, kind)()  # type: ignore[no-any-return]
    if adapter == "acp" or adapter in _ACP:
        return _imported("acp", "acp_agent")(adapter)  # type: ignore[no-any-return]
    if adapter == _COMMAND:
        return _imported("command", "CommandAgent")()  # type: ignore[no-any-return]
    raise AgentProblem(
        f"there is no agent {name!r}",
        hint=f"name one of {', '.join(names())}, or describe it under `agents:` in .orchestrion/config.yaml",
        code="agent_missing",
    )


def refuse_unknown(name: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises NotFound (``no_agent``) for a name that is neither known nor described by the settings."""
    known = [*dict.fromkeys([*names(), *settings])]
    if name not in known:
        near = nearest(name, known)
        raise NotFound(
            f"there is no agent {name!r}; there are {', '.join(known)}",
            hint=f"did you mean {near}?" if near else "describe it under `agents:` in .orchestrion/config.yaml",
            code="no_agent",
            agent=name,
            known=known,
        )


def names() -> list[str]:
    """The agents that are known without any settings."""
    return [_COMMAND, *_NATIVE, *_ACP]


def installed(environ: Mapping[str, str]) -> list[str]:
    """Those of them whose program is on PATH, or came with an extra of ours."""
    programs = {name: program for name, (_, _, program) in _NATIVE.items()} | _ACP
    path = environ.get("PATH")
    return [name for name, program in programs.items() if shutil.which(program, path=path) or _is_bundled(name)]


def _is_bundled(name: str) -> bool:
    return name == "claude" and _imported("claude", "bundled")() is not None


def self_sufficient(settings: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """The agents that need no command of a task's own."""
    return frozenset({*_NATIVE, *_ACP, *settings})


def needs_no_command(name: str, settings: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the agent knows by itself what to run."""
    return name in self_sufficient(settings)


def speaks_in_events(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether we understand what the agent writes; a command's lines are its own."""
    return _adapter(name, settings) != _COMMAND


def _adapter(name: str, settings: Mapping[str, Any]) -> str:
    return settings.get("adapter") or (_COMMAND if "command" in settings else name)


def _imported(module: str, what: str) -> Any:
    return getattr(import_module(f"orchestrion.runs.agents.{module}"), what)
