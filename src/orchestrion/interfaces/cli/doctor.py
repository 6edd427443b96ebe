"""The command that looks whether everything a run needs is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command
from orchestrion.interfaces.cli.errors import ENVIRONMENT, OK


@command("doctor", "orchestrion doctor", "orchestrion doctor claude codex --json")
@click.argument("agents", metavar="[AGENT]...", nargs=-1)
def doctor(call: Call, agents: tuple[str, ...]) -> int:
    """Looks at the agents that are installed or set (or those named), at git, the store and the disk. Whether
    an agent is signed in is told as far as that is possible without spending anything. Ends with 7 if
    something needs you.
    """
    with call.open() as orchestrion:
        found = orchestrion.doctor(agents)
    call.answer(found, lambda: _told(found))
    return OK if found["healthy"] else ENVIRONMENT


COMMANDS = {"doctor": doctor}


def _told(found: Mapping[str, Any]) -> Iterator[str]:
    yield output.heading("Agents")
    rows = [
        (one["agent"], one["version"] or "-", _signed(one), output.plain(one["program"] or "-"))
        for one in found["agents"]
    ]
    yield from output.table(rows)
    yield output.heading("Beside them")
    yield from output.table([(one["part"], output.plain(one["found"]), one["note"]) for one in found["parts"]])
    advice = [
        (one.get("agent") or one["part"], one["advice"]) for one in [*found["agents"], *found["parts"]] if one["advice"]
    ]
    if advice:
        yield output.heading("To do")
        yield from output.table([(name, output.plain(text)) for name, text in advice])
    else:
        yield output.paint("nothing to do", "green")


def _signed(one: Mapping[str, Any]) -> str:
    return {True: "signed in", False: "not signed in", None: ""}[one["signed_in"]] if one["program"] else "not found"
