"""The servers of tools that an agent is given: those of the settings, and our own if it is asked for.

Our own server is a process beside each agent. It carries the run's environment, so that its
tools know the run and its task without being told, and so that it is ended with the run.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrion.runs.agents.agent import McpServer
from orchestrion.runs.launch import OURSELVES
from orchestrion.runs.order import Order

#: Our server's name, and so the beginning of its tools' names.
NAME = "orchestrion"


def servers(order: Order, environ: Mapping[str, str]) -> tuple[McpServer, ...]:
    """All servers; ``environ`` is what tells ours to which run it belongs."""
    named = [McpServer(**{**one, "command": tuple(one.get("command", ()))}) for one in order.servers]
    if _has_ours(order):
        named.append(McpServer(NAME, (*OURSELVES, "mcp", "--tools", str(order.tools)), dict(environ)))
    return tuple(named)


def allowed(order: Order) -> tuple[str, ...]:
    """What the agent may use unasked: what its role says, and every tool of ours."""
    return (*order.allowed_tools, f"mcp__{NAME}") if _has_ours(order) else tuple(order.allowed_tools)


def _has_ours(order: Order) -> bool:
    """Whether ours is added; a server that the settings call by its name stands in its place."""
    return order.tools is not None and all(one["name"] != NAME for one in order.servers)
