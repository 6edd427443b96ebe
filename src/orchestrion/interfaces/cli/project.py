"""Commands about the project as a whole: init, config, events, roles, cleanup, migrate, completion, demo."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from orchestrion.core.rights import refuse_runs
from orchestrion.core.values import in_words
from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import FOLDER, command, group, tasks
from orchestrion.interfaces.cli.errors import OK

#: The journal is read in pages of this size.
_PAGE = 1000
SHELLS = ("bash", "zsh", "fish")


@command("init", "orchestrion init", "orchestrion init ~/src/my-app")
@click.argument("folder", metavar="[DIR]", required=False, type=FOLDER)
def init(call: Call, folder: str | None) -> None:
    """Makes the store and .orchestrion/config.yaml, and looks which agents are installed. Doing it again
    changes nothing. After `git init` in a project it moves the store into the git directory.
    """
    from orchestrion.orchestrator import Orchestrator

    made = Orchestrator.init(folder or call.folder, db=call.db)
    call.answer(made, lambda: _made(made))


@command("events", "orchestrion events --task T12", "orchestrion events --since 1200 --json")
@click.option("--since", metavar="N", type=int, default=0, help="Only events after this number.")
@click.option("--task", metavar="T", help="Only events of this task.", shell_complete=tasks)
@click.option("--run", metavar="R", help="Only events of this run.")
@click.option("--limit", metavar="N", type=int, default=100, show_default=True, help="At most so many.")
def events(call: Call, **asked: Any) -> None:
    """Every move of every task and run, oldest first; who caused it, and when. With --json each line is a
    document.
    """
    with call.open() as orchestrion:
        found = orchestrion.events(**asked)
    if call.json:
        for event in found:
            output.record(event)
    else:
        output.lines(_events(found))


@command("roles", "orchestrion roles", "orchestrion roles --json")
def roles(call: Call) -> None:
    """Packaged ones, and those of the project's .orchestrion/roles/."""
    with call.open() as orchestrion:
        found = orchestrion.roles()
    call.answer({"roles": found, "total": len(found)}, lambda: _roles(found))


config = group(
    "config",
    "A value comes from a flag, the environment, the project's file, the user's, or the default.",
    "orchestrion config show",
)


@command(
    "show",
    "orchestrion config show",
    "orchestrion config show --json",
    group=config,
    summary="list every setting with its value and its origin",
)
def config_show(call: Call) -> None:
    """Opens no database. Passwords are not shown."""
    from orchestrion.orchestrator import Orchestrator

    rows = Orchestrator.settings_in_force(call.folder, db=call.db)
    call.answer({"settings": [row._asdict() for row in rows]}, lambda: _settings(rows))


@command("cleanup", "orchestrion cleanup", "orchestrion cleanup --max-age 600")
@click.option(
    "--max-age", metavar="S", type=float, default=3600, show_default=True, help="Seconds without a sign of life."
)
def cleanup(call: Call, max_age: float) -> None:
    """Ends claims that gave no sign of life for so long, and frees what ended runs still hold. A run of
    this machine whose process lives is never touched; what is left of one whose supervisor died is ended, and
    its work kept. Where something else than this program made a task and its run disagree, it says what it did:
    an active run holds its task again, and a task without one goes back.
    """
    with call.open() as orchestrion:
        done = orchestrion.clean_up_locks(max_age)
    said = f"{output.count(done['freed'], 'stale lock')} freed" if done["freed"] else "nothing was stale"
    righted = f", {output.count(done['righted'], 'value')} set right" if done["righted"] else ""
    call.answer(done, lambda: [said + righted, *map(output.plain, [*done["mended"], *done["notes"]])])


@command("migrate", "orchestrion migrate")
def migrate(call: Call) -> None:
    """Every command does so by itself; this one says which schema the store has. A store of a newer program
    is refused.
    """
    with call.open() as orchestrion:
        orchestrion.judge("migrate")
        found = orchestrion.schema()
    call.answer(found, lambda: [f"schema {found['schema']} ({found['name']}): {output.plain(found['db'])}"])


@command("completion", 'eval "$(orchestrion completion bash)"', "orchestrion completion fish | source")
@click.argument("shell", metavar="|".join(SHELLS), type=click.Choice(SHELLS))
def completion(call: Call, shell: str) -> None:
    """Prints it for you to source: commands, options, ids of tasks and runs and names of plans complete."""
    from orchestrion.interfaces.cli import complete

    script = complete.script(click.get_current_context().find_root().command, shell)
    call.answer({"shell": shell, "script": script}, lambda: [script.rstrip("\n")])


@command("demo", "orchestrion demo", "orchestrion demo ./demo")
@click.argument("folder", metavar="[DIR]", required=False, type=FOLDER)
def demo(call: Call, folder: str | None) -> int:
    """Makes a small repository in DIR, or in a temporary folder, and works on a plan of dependent tasks in
    it with four agents at once. Needs no key and no login, and takes less than two minutes; everything
    can be looked at afterwards.
    """
    from orchestrion.demo import run

    refuse_runs(os.environ, "demo")
    code = run(Path(folder) if folder else None, keep=folder is not None, out=sys.stderr if call.json else sys.stdout)
    if call.json:
        output.document({"proven": code == OK, "folder": folder})
    return code


COMMANDS = {
    "init": init,
    "events": events,
    "roles": roles,
    "config": config,
    "cleanup": cleanup,
    "migrate": migrate,
    "completion": completion,
    "demo": demo,
}


def _made(made: Mapping[str, Any]) -> Iterator[str]:
    done = "is a project now" if made["created"] else "is a project already; nothing was changed"
    if made["moved"]:
        done = "is in git now; its store was moved:"
    if renamed := made["renamed"]:
        done = f"is called {output.plain(renamed['to'])} now, and no longer {output.plain(renamed['from'])}"
    yield f"{output.heading(output.plain(made['project']))} {done}"
    yield from (f"  {output.plain(one['from'])} -> {output.plain(one['to'])}" for one in made["moved"])
    agents = ", ".join(made["agents"]) or "none of the known ones; tasks can run commands (`--run`)"
    yield from output.fields([("database", output.plain(made["db"])), ("agents", agents)])
    yield from (f"note: {note}" for note in made["notes"])
    agent = f" or `--agent {made['agents'][0]}`" if made["agents"] else ""
    yield f"next: `orchestrion add TITLE --run CMD`{agent}, or `orchestrion apply FILE`;"
    yield "then `orchestrion work --drain`; or `orchestrion setup CLIENT`,"
    yield "and plan and work from inside Claude Code, Codex, Cursor and others"


def _events(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not found:
        yield "no events"
    rows = [
        (
            str(e["id"]),
            output.moment(e["at"]),
            e["task"] or "",
            e["run"] or "",
            e["kind"],
            output.plain(e["actor"]),
            _data(e),
        )
        for e in found
    ]
    yield from output.table(rows, right=(0,))


def _data(event: Mapping[str, Any]) -> str:
    given = {key: value for key, value in (event["data"] or {}).items() if value is not None}
    return " ".join(f"{key}={output.plain(_short(value))}" for key, value in given.items())


def _short(value: Any) -> str:
    text = in_words(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _roles(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (
            role["name"],
            role["agent"] or "",
            output.plain(role["origin"]),
            output.plain(", ".join(role["expertise"][:4])),
        )
        for role in found
    ]
    yield from output.table(rows)


def _settings(rows: Sequence[Any]) -> Iterator[str]:
    shown = [(row.name, output.plain(_value(row)), output.faint(output.plain(row.origin))) for row in rows]
    yield from output.table(shown)


def _value(row: Any) -> str:
    if row.value is None:
        return f"none ({row.instead})" if row.instead else "none"
    text = row.value if isinstance(row.value, str) else json.dumps(row.value, ensure_ascii=False)
    return (
        f"{text} {row.unit}".strip() if isinstance(row.value, int | float) and not isinstance(row.value, bool) else text
    )
