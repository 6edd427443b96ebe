"""Commands that talk to agents and show their files: message, permissions, files, run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from orchestrion.core.rights import RUN_VARIABLE, refuse_runs
from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call, own_run
from orchestrion.interfaces.cli.command import command, refuse_besides, things, usage
from orchestrion.interfaces.cli.errors import NOT_ALL_COMPLETED, OK
from orchestrion.interfaces.cli.source import piped


@command("message", "orchestrion message R31 'also update the docs'", "orchestrion message R31 -")
@click.argument("run", metavar="R")
@click.argument("text", metavar="TEXT")
def message(call: Call, run: str, text: str) -> None:
    """An agent that can hear while it works is told at once; any other at its next turn. The answer says
    which. TEXT of - reads standard input.
    """
    words = piped() if text == "-" else text
    with call.open() as orchestrion:
        found = orchestrion.message(own_run(run, orchestrion.caller), words)
    call.answer(found, lambda: [_delivery(found)])


@command(
    "permissions", "orchestrion permissions", "orchestrion permissions --allow 7", "orchestrion permissions --refuse 7"
)
@click.option("--allow", type=int, metavar="N", help="The next attempts of its task may; a failed task is tried again.")
@click.option("--refuse", type=int, metavar="N", help="It stays denied, and nobody is asked again.")
@click.option("--all", "every", is_flag=True, help="Also what was decided, and what is over.")
def permissions(call: Call, allow: int | None, refuse: int | None, every: bool) -> None:
    """Nobody sits beside an agent: what it may not do is denied at once, and it goes on as well as it can.
    What it asked for is kept, for somebody to decide.
    """
    if (allow is not None) + (refuse is not None) + every > 1:
        raise usage("--allow, --refuse and --all are different things; choose one.")
    with call.open() as orchestrion:
        if allow is None and refuse is None:
            listed = orchestrion.permissions(pending=not every)
            call.answer(listed, lambda: _permissions(listed))
            return
        found = orchestrion.refuse(refuse) if refuse is not None else orchestrion.allow(allow or 0)
    again = "; it is tried again" if found.get("retried") else ""
    call.answer(found, lambda: [f"{found['state']}: {_wanted(found)} for {found['task']}{again}"])


@command("files", "orchestrion files R31", "orchestrion files T12", "orchestrion files --overlaps")
@click.argument("thing", metavar="[R|T]", required=False, shell_complete=things)
@click.option("--overlaps", is_flag=True, help="Files that two runs have changed: at work, or one in review.")
def files(call: Call, thing: str | None, overlaps: bool) -> None:
    """What a run has changed, also while it works; its supervisor looks every few seconds. Of a task (T12):
    what is recorded of its files, held against what is there.
    """
    if overlaps:
        refuse_besides("--overlaps")
    with call.open() as orchestrion:
        if overlaps:
            met = orchestrion.overlaps()
            call.answer({"overlaps": met}, lambda: _overlaps(met))
            return
        if (thing or "")[:1].upper() in ("T", "S"):
            from orchestrion.interfaces.cli import memory

            whose: dict[str, Any] = {"task" if str(thing)[0].upper() == "T" else "session": thing}
            kept = orchestrion.verify(**whose)
            call.answer(kept, lambda: memory.files(kept))
            return
        one = own_run(_named(thing), orchestrion.caller)
        found = {"run": one.rpartition("/")[2].upper(), "files": orchestrion.files_of(one)}
    call.answer(found, lambda: _files(found))


def _named(run: str | None) -> str | None:
    if run is None and not os.environ.get(RUN_VARIABLE):
        raise usage(f"which run or task? Name it (R31, T12); inside a run, {RUN_VARIABLE} does.")
    return run


@command(
    "run", "orchestrion run reviewer 'Look for races in src/queue.py'", "orchestrion run coder 'Fix #12' --agent codex"
)
@click.argument("role", metavar="ROLE")
@click.argument("text", metavar="TEXT")
@click.option("--agent", metavar="NAME", help="The agent, if not that of the role.")
@click.option("--plan", metavar="PLAN", help="The plan that its work goes to.")
@click.option("--run", "command_", metavar="CMD", help="What the agent `command` runs.")
@click.option("--check", "checks", metavar="CMD", multiple=True, help="Must pass before it counts. Repeatable.")
def run(
    call: Call, role: str, text: str, agent: str | None, plan: str | None, command_: str | None, checks: tuple[str, ...]
) -> int:
    """Makes a task of TEXT, starts it here and now, and stays until it is over; Ctrl-C leaves the run to
    the next worker. Ends with 8 if it is not completed.
    """
    from orchestrion.interfaces.cli.progress import progress
    from orchestrion.interfaces.cli.work import Stop

    refuse_runs(os.environ, "run_role")
    with call.open(create=True) as orchestrion, progress(orchestrion, as_json=call.json) as shown, Stop(shown) as stop:
        found = orchestrion.run_role(
            role,
            piped() if text == "-" else text,
            agent=agent,
            plan=plan,
            command=command_,
            checks=tuple(checks),
            seen=shown.look,
            worker=stop.watch,
        )
        shown.look()
    call.answer(found, lambda: _outcome(found))
    return OK if found["task"]["state"] == "completed" else NOT_ALL_COMPLETED


def _permissions(found: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (
            str(one["permission"]),
            one["task"],
            one["run"],
            output.plain(_wanted(one)),
            _standing(one),
            output.moment(one["asked_at"]),
        )
        for one in found["permissions"]
    ]
    yield from output.table(rows) if rows else ["no agent waits for a permission"]


def _standing(one: Mapping[str, Any]) -> str:
    if one["state"] != "open":
        return str(one["state"])
    return "waiting" if one["rule"] else "no single rule allows it"


def _wanted(one: Mapping[str, Any]) -> str:
    return f"{one['tool']} {one['said']}".strip()


COMMANDS = {"message": message, "permissions": permissions, "files": files, "run": run}


def _delivery(found: Mapping[str, Any]) -> str:
    if found["state"] == "given":
        return f"{found['run']}: given to the agent"
    if found["state"] == "dropped":
        return f"{found['run']} ended before it was heard"
    return f"{found['run']}: queued; the agent hears it at its next turn"


def _files(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["files"]:
        yield f"{found['run']} has changed no file, as far as is known"
    yield from output.table([(file["kind"], _lines(file), output.plain(file["path"])) for file in found["files"]])


def _lines(file: Mapping[str, Any]) -> str:
    return "" if file["lines_added"] is None else f"+{file['lines_added']} -{file['lines_removed']}"


def _overlaps(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not found:
        yield "no two runs are at the same file"
    yield from output.table([(output.plain(one["path"]), " ".join(one["runs"])) for one in found])


def _outcome(found: Mapping[str, Any]) -> Iterator[str]:
    task, last = found["task"], found["run"]
    yield f"{task['id']} {output.state(task['state'])}"
    if last and (last["summary"] or last["reason"]):
        yield output.block(str(last["summary"] or last["reason"]))
