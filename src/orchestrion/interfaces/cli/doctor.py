"""Commands that look whether everything a run needs is there, and what became of one: doctor, debug."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command, runs
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


@command("debug", "orchestrion debug R31", "orchestrion debug R31 --json > R31.json")
@click.argument("run", metavar="R", shell_complete=runs)
def debug(call: Call, run: str) -> None:
    """Everything that is known of a run: the steps that it came to and how long each took, what its supervisor
    was told, its lines of the journal, the end of its log, and who of it lives. Of environments and headers
    only the names are told, so it can be sent to somebody who helps.
    """
    with call.open() as orchestrion:
        found = orchestrion.debug(run)
    call.answer(found, lambda: _debugged(found))


COMMANDS = {"doctor": doctor, "debug": debug}


def _debugged(found: Mapping[str, Any]) -> Iterator[str]:
    run = found["run"]
    yield f"{output.heading(run['id'])} {run['state']} {output.first_line(run['reason'] or run['code'] or '')}".rstrip()
    yield from output.fields(
        [
            ("folder", output.plain(found["folder"])),
            ("correlation", found["correlation"]),
            ("traceparent", found["trace"]),
            ("host", output.plain(found["host"])),
        ]
    )
    sections: dict[str, list[tuple[str, ...]]] = {
        "Not to be read": [(output.plain(line),) for line in found["bent"]],
        "Steps": [(one["step"], f"{one['after_s']:.3f} s", one["at"]) for one in found["steps"]],
        "Journal": [(one["at"], one["kind"], output.plain(one["actor"])) for one in found["journal"]],
        "Notes": [(output.plain(line),) for line in found["notes"]],
        "Last words": [(output.plain(line),) for line in found["last_words"]],
        "Processes": [(str(one["pid"]),) for one in found["processes"]],
        "Files": [(output.plain(file), f"{size:,} bytes") for file, size in found["files"].items()],
    }
    for heading, rows in sections.items():
        if rows:
            yield output.heading(heading)
            yield from output.table(rows)


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
