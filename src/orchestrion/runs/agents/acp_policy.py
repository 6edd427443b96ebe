"""What an agent that speaks the Agent Client Protocol may do, decided from a call of a tool.

Each agent describes its tools in its own words. The protocol's *kind* of a tool says most;
names are matched as they stand in lists of allowed tools, which are written for all agents.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

#: Most characters of a tool's input or output that are told.
_SHORT = 200


def short(value: object) -> str:
    """A tool's input or output on one line, for people."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


@dataclass
class Tool:
    """One call of a tool, as far as it is known."""

    id: str
    name: str = ""
    kind: str = ""
    title: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    output: str = ""
    #: Whether it was told of, and whether its end was.
    is_told: bool = False
    is_over: bool = False

    def command(self) -> str:
        """What a shell is to do; empty: this is no shell."""
        found = self.input.get("command", self.input.get("cmd", ""))
        if isinstance(found, list):
            return " ".join(str(part) for part in found)
        return str(found) or (self.title.strip("`") if self.kind == "execute" else "")

    def is_described(self) -> bool:
        """Whether it is known what it is to do, not only that something will be done."""
        return bool(self.input.get("command") if self.kind == "execute" else self.input or self.paths)

    def acts(self) -> bool:
        """Whether it changes files or runs something."""
        return self.kind in _WRITES or self.kind == "execute"

    def short(self) -> str:
        """Its input on one line."""
        return short(self.command() or next(iter(sorted(self.paths)), "") or self.title or dict(self.input))


#: Kinds of tools that only look.
_LOOKS = frozenset({"read", "search", "think"})
#: Kinds of tools that change files.
_WRITES = frozenset({"edit", "delete", "move"})
#: What a kind of tool is called in lists of allowed tools.
_NAMES = {
    "execute": ("Bash", "Shell"),
    "edit": ("Edit", "Write"),
    "read": ("Read",),
    "search": ("Grep", "Glob"),
    "fetch": ("WebFetch", "WebSearch"),
}
#: With one of these a shell does more than the beginning of its command says.
_MORE_THAN_ONE = re.compile(r"[;&|<>`\n]|\$\(")


class Policy:
    """What the agent may do: there is nobody to ask, and what is not allowed is denied."""

    def __init__(self, folder: str, permissions: str, allowed: list[str]) -> None:
        self._folder = Path(os.path.realpath(folder))
        self._permissions = permissions
        self._allowed = allowed

    def allows(self, tool: Tool) -> bool:
        """By the run's permissions, else because it is named in the list."""
        if self._permissions == "all" or tool.kind in _LOOKS:
            return True
        if self._permissions == "edit" and tool.kind in _WRITES and self._is_inside(tool):
            return True
        return any(_matches(one, tool) for one in self._allowed)

    def _is_inside(self, tool: Tool) -> bool:
        return bool(tool.paths) and all(
            self._holds(file) and self.may_write(file) for file in (self._real(path) for path in tool.paths)
        )

    def within(self, path: str) -> Path:
        """The file that is really meant, links followed. Refuses one outside the workspace."""
        file = self._real(path)
        if not self._holds(file):
            raise PermissionError(f"{path} is outside the workspace {self._folder}")
        return file

    def may_write(self, file: Path) -> bool:
        """Whether a file of the workspace may be changed: never git's own, which could run as a hook."""
        return self._permissions != "read" and ".git" not in file.relative_to(self._folder).parts

    def _real(self, path: str) -> Path:
        return Path(os.path.realpath(self._folder / path))

    def _holds(self, file: Path) -> bool:
        return file.is_relative_to(self._folder)


def _matches(allowed: str, tool: Tool) -> bool:
    """Whether an entry of the list names a tool: ``Bash``, ``Bash(git *)``, ``mcp__server__tool``, ``mcp__server``."""
    name, _, pattern = allowed.partition("(")
    if not any(fnmatchcase(known.lower(), name.strip().lower()) for known in _known_as(tool)):
        return _is_of_server(name, tool)
    if not pattern:
        return True
    pattern, command = pattern.removesuffix(")").replace(":*", "*"), tool.command()
    return not _MORE_THAN_ONE.search(command) and fnmatchcase(command, pattern)


def _known_as(tool: Tool) -> tuple[str, ...]:
    """Its names; not the title of one that acts: there a model writes what it likes, its command for instance."""
    name = "" if tool.acts() and tool.name == tool.title else tool.name
    return tuple(one for one in (name, tool.kind, *_NAMES.get(tool.kind, ())) if one)


def _is_of_server(allowed: str, tool: Tool) -> bool:
    """Each agent names a tool of a server in its own way; a title counts where nothing else tells what it does."""
    if not allowed.startswith("mcp__") or tool.acts():
        return False
    server, _, wanted = allowed.removeprefix("mcp__").partition("__")
    called = {tool.name, tool.title, tool.title.partition(":")[0].strip()}
    if not wanted or wanted == "*":
        begins = tuple(f"{start}{server}{end}" for start in ("mcp__", "mcp_", "") for end in ("__", "_", ".", "/"))
        return any(name.startswith(begins) or name.endswith(f"({server} MCP Server)") for name in called)
    forms = {f"{start}{server}{middle}{wanted}" for start in ("mcp__", "mcp_", "") for middle in ("__", "_", ".", "/")}
    return bool(called & {*forms, f"{wanted} ({server} MCP Server)"})
