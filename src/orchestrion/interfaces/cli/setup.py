"""Commands for other programs: one makes them start our server, one answers their hooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command, refuse_besides


@command(
    "setup",
    "orchestrion setup claude",
    "orchestrion setup vscode --scope project --dry-run",
    "orchestrion setup cursor --undo",
)
@click.argument("client", metavar="CLIENT")
@click.option("--scope", metavar="user|project", default="user", show_default=True, help="All projects, or this one.")
@click.option("--tools", metavar="core|full", help="The tools that the server offers.")
@click.option("--no-agents-md", is_flag=True, help="Leave the project's AGENTS.md as it is.")
@click.option("--dry-run", is_flag=True, help="Show what would change, as a diff.")
@click.option("--undo", is_flag=True, help="Take exactly that out again.")
def setup(call: Call, client: str, no_agents_md: bool, **wanted: Any) -> None:
    """CLIENT is claude, claude-desktop, cursor, windsurf, vscode, codex, gemini, qwen or opencode. Each file is
    backed up first; other servers, comments and the layout stay. Claude Code also gets hooks: a session
    begins with what is going on, files are recorded as they are written, unfinished work is not left
    silently. A project's AGENTS.md gets a block that tells agents how to begin.
    """
    from orchestrion.orchestrator.settingup import set_up

    if wanted["undo"]:
        refuse_besides("--undo", "client", "scope", "no_agents_md", "dry_run")
    done = set_up(client, folder=call.folder, agents_md=not no_agents_md, **wanted)
    call.answer(done, lambda: _diffs(done) if done["dry_run"] else _done(done))


@command("hook", "cat input.json | orchestrion hook SessionStart", "cat input.json | orchestrion hook Stop")
@click.argument("event", metavar="[EVENT]", required=False)
def hook(call: Call, event: str | None) -> int:
    """Called by Claude Code, with JSON on standard input; `orchestrion setup claude` sees to it. SessionStart tells
    what is going on, PostToolUse records a file that was written, Stop and TaskCompleted hold back a session
    that leaves a task behind which it claimed. It never fails: what is wrong is said on stderr.
    """
    from orchestrion.interfaces.hook import main

    return main([event] if event else [], call.folder)


COMMANDS = {"setup": setup, "hook": hook}


def _diffs(done: Mapping[str, Any]) -> Iterator[str]:
    for file in done["files"]:
        if file["diff"]:
            yield output.block(file["diff"]).rstrip("\n")
        else:
            yield f"{output.plain(file['path'])} stays as it is"


def _done(done: Mapping[str, Any]) -> Iterator[str]:
    for file in done["files"]:
        yield f"{file['state']}: {output.plain(file['path'])} ({file['part']})"
        if file["backup"]:
            yield f"  as it was: {output.plain(file['backup'])}"
    if not done["undo"] and any(file["state"] != "unchanged" for file in done["files"]):
        yield f"now {done['then']}"
