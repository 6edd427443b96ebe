"""What the bridge to an agent of the Agent Client Protocol is told first, and how it says that it cannot go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class Failed(Exception):
    """The conversation cannot go on; ``code`` is ours, or ``error`` where only words tell."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Start:
    """The first order."""

    #: The agent's command line.
    command: list[str]
    #: The workspace.
    folder: str
    prompt: str
    #: The session to go on with; None: a new one.
    session: str | None = None
    #: Servers of tools, as ``McpServer`` has them.
    servers: list[dict[str, Any]] = field(default_factory=list)
    permissions: str = "edit"
    allowed_tools: list[str] = field(default_factory=list)
    model: str | None = None
    #: (variable, method) to sign in with.
    signs_in: list[tuple[str, str]] = field(default_factory=list)
    #: Whether it reads and writes files through us.
    serves_files: bool = True
    #: Whether the tokens told are those of all its answers.
    counts_tokens: bool = True
