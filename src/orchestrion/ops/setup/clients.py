"""The programs that can be set up: where each keeps its servers, and how it writes one down.

A line of the table is all there is to know about a client. Places in braces are folders that
the environment decides, see ``_expanded``; where several are named, the one that exists counts,
else the last. Windows is reached through WSL, where paths are those of Linux.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrion.core.errors import InvalidInput

#: Our entry's name in every client.
NAME = "orchestrion"
Entry = dict[str, Any]


def _plain(command: Sequence[str]) -> Entry:
    return {"command": command[0], "args": list(command[1:])}


def _typed(command: Sequence[str]) -> Entry:
    return {"type": "stdio", **_plain(command)}


def _codex(command: Sequence[str]) -> Entry:
    # Codex keeps its environment from servers: one of a supervised run would not know that it belongs to it.
    return {**_plain(command), "env_vars": ["ORCHESTRION_RUN", "ORCHESTRION_PROJECT", "ORCHESTRION_DB"]}


def _opencode(command: Sequence[str]) -> Entry:
    return {"type": "local", "command": list(command), "enabled": True}


@dataclass(frozen=True)
class Client:
    """A program that starts servers of tools."""

    #: As it is named on the command line.
    name: str
    #: As its makers write it.
    title: str
    #: Its configuration for all of a user's projects.
    user: tuple[str, ...]
    #: Its configuration in a project's folder; empty: it knows no projects.
    project: tuple[str, ...]
    #: Where servers stand in it.
    section: str = "mcpServers"
    #: How it writes a server that is started by a command.
    entry: Callable[[Sequence[str]], Entry] = _plain
    #: ``json``, ``jsonc`` (comments are allowed) or ``toml``.
    format: str = "json"
    #: Where it keeps hooks, by scope; only Claude Code has them.
    hooks: tuple[tuple[str, str], ...] = ()
    #: How a project's configuration names its folder; empty: servers are started there.
    here: str = ""
    #: What is left for a person to do.
    then: str = "restart it"
    #: What it will ask where a project's configuration was written.
    asks: str = ""

    @property
    def path(self) -> tuple[str, str]:
        """Where our entry stands in the configuration."""
        return self.section, NAME


CLIENTS: tuple[Client, ...] = (
    Client(
        "claude",
        "Claude Code",
        user=("{claude_home}/.claude.json",),
        project=(".mcp.json",),
        entry=_typed,
        # The file of a project that is not shared: the hooks name a program of this machine.
        hooks=(("user", "{claude}/settings.json"), ("project", ".claude/settings.local.json")),
        then="start a new session",
        asks="it asks once whether to trust the server",
    ),
    Client(
        "claude-desktop", "Claude Desktop", user=("{support}/Claude/claude_desktop_config.json",), project=(),
        then="quit it and start it again",
    ),
    Client(
        "cursor", "Cursor", user=("{home}/.cursor/mcp.json",), project=(".cursor/mcp.json",), format="jsonc",
        here="${workspaceFolder}",
        then="switch the server on in its settings, under MCP",
    ),
    Client(
        "windsurf", "Windsurf", user=("{home}/.codeium/windsurf/mcp_config.json",), project=(), format="jsonc",
        then="refresh the servers in Cascade",
    ),
    Client(
        "vscode", "VS Code", user=("{support}/Code/User/mcp.json",), project=(".vscode/mcp.json",),
        section="servers", entry=_typed, format="jsonc", here="${workspaceFolder}",
        then="start the server when it asks",
    ),
    Client(
        "codex", "Codex", user=("{codex}/config.toml",), project=(".codex/config.toml",),
        section="mcp_servers", entry=_codex, format="toml",
        then="start a new session",
        asks="it reads the file if it trusts the project",
    ),
    Client(
        "gemini", "Gemini CLI", user=("{home}/.gemini/settings.json",), project=(".gemini/settings.json",),
        format="jsonc", then="start a new session",
    ),
    Client(
        "qwen", "Qwen Code", user=("{home}/.qwen/settings.json",), project=(".qwen/settings.json",),
        format="jsonc", then="start a new session",
    ),
    Client(
        "opencode", "OpenCode", user=("{config}/opencode/opencode.jsonc", "{config}/opencode/opencode.json"),
        project=("opencode.jsonc", "opencode.json"), section="mcp", entry=_opencode, format="jsonc",
        then="start a new session",
    ),
)  # fmt: skip

SCOPES = ("user", "project")


def client_named(name: str) -> Client:
    """The client of a name. Raises InvalidInput that lists them."""
    found = next((client for client in CLIENTS if client.name == name), None)
    if found is None:
        names = [client.name for client in CLIENTS]
        raise InvalidInput(
            f"there is no client {name[:60]!r}; known are {', '.join(names)}",
            hint="name one of them; any other client can be told to start `orchestrion mcp`",
            code="unknown_client",
            allowed=names,
        )
    return found


def config_file(client: Client, scope: str, project: Path | None, environ: Mapping[str, str], platform: str) -> Path:
    """The client's file for a scope. Raises InvalidInput if it has none there."""
    if scope == "user":
        return _chosen([_expanded(place, environ, platform) for place in client.user])
    if not client.project:
        raise InvalidInput(
            f"{client.title} has no configuration of single projects",
            hint=f"`orchestrion setup {client.name} --scope user`",
            code="no_such_scope",
        )
    assert project is not None
    return _chosen([project / place for place in client.project])


def hooks_file(client: Client, scope: str, project: Path | None, environ: Mapping[str, str], platform: str) -> Path:
    """The file with the client's hooks for a scope."""
    place = dict(client.hooks)[scope]
    return _expanded(place, environ, platform) if project is None or scope == "user" else project / place


def _chosen(files: Sequence[Path]) -> Path:
    """The file that exists; a new one gets the last name, which is the plain one."""
    return next((file for file in files if file.exists() or file.is_symlink()), files[-1])


def _expanded(place: str, environ: Mapping[str, str], platform: str) -> Path:
    home = environ.get("HOME") or str(Path.home())
    config = _absolute(environ.get("XDG_CONFIG_HOME")) or f"{home}/.config"
    claude = environ.get("CLAUDE_CONFIG_DIR")
    folders = {
        "home": home,
        "config": config,
        "support": f"{home}/Library/Application Support" if platform == "darwin" else config,
        "claude": claude or f"{home}/.claude",
        "claude_home": claude or home,
        "codex": environ.get("CODEX_HOME") or f"{home}/.codex",
    }
    return Path(place.format(**folders)).absolute()


def _absolute(path: str | None) -> str | None:
    return path if path and path.startswith("/") else None
