"""The command ``mcp``: serves a project's tasks and memory to agents."""

from __future__ import annotations

import os
import sys

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command, refuse_besides


@command("mcp", "orchestrion mcp", "orchestrion mcp --tools full", "orchestrion mcp --http --port 7117")
@click.option(
    "--tools",
    "profile",
    type=click.Choice(["core", "full"]),
    default="core",
    show_default=True,
    help="Which tools are listed; the others may be called all the same.",
)
@click.option("--http", is_flag=True, help="Serve HTTP at /mcp instead of stdio.")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="With --http: where.")
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=7117, show_default=True, help="With it.")
def mcp(call: Call, profile: str, http: bool, host: str, port: int) -> int:
    """Speaks the Model Context Protocol on stdin and stdout, for a client that starts it; the client's
    configuration names this command. It ends when the client closes its side.

    With --http it listens on this machine alone, and ends on Ctrl-C or SIGTERM.
    """
    from orchestrion.interfaces.mcp import run

    if not http:
        refuse_besides("a server on stdio", "profile")
    if http:
        run.over_http(call.folder, call.db, dict(os.environ), profile, host, port)
    else:
        if sys.stdin.isatty():
            output.note("waits for a client that speaks MCP; `orchestrion setup` has one start this; Ctrl-D ends it")
        run.over_stdio(call.folder, call.db, dict(os.environ), profile)
    return 0


COMMANDS = {"mcp": mcp}
