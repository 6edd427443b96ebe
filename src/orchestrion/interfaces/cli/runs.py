"""Commands about runs: runs, log, diff, kill; and what steers them: pause, resume, slots; and artifact."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrion.core.errors import InvalidInput
from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call, own_run
from orchestrion.interfaces.cli.command import command, once, reason_option, run_argument, split, tasks

if TYPE_CHECKING:
    from orchestrion.orchestrator import Orchestrator

#: ``runs --watch`` looks this often even if nothing changes, in seconds.
GLANCE_S = 1.0


@command("runs", "orchestrion runs --state running", "orchestrion runs --watch", "orchestrion runs --task T12 --json")
@click.option("--task", metavar="T", help="Only attempts at this task.", shell_complete=tasks)
@click.option("--state", "states", metavar="STATE", multiple=True, help="Only runs in this state. Repeatable.")
@click.option("--limit", metavar="N", type=int, default=20, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="R", help="Go on behind this run.")
@click.option("--watch", is_flag=True, help="Stay, and show changes as they happen, until Ctrl-C.")
def runs(call: Call, states: tuple[str, ...], watch: bool, **filters: Any) -> None:
    """Newest first. On a terminal --watch draws the list anew; elsewhere, and with --json, it prints a
    line for each run that changed.
    """
    with call.open() as orchestrion:
        asked = {"states": split(states), **filters}
        if watch:
            _watch(call, orchestrion, asked)
        page = orchestrion.list_runs(**asked).as_json("runs")
    call.answer(page, lambda: _list(page))


@command("log", "orchestrion log R31", "orchestrion log R31 --follow", "orchestrion log R31 --json")
@run_argument()
@click.option("--follow", "-f", is_flag=True, help="Stay until the run is over.")
@click.option("--raw", is_flag=True, help="What the agent's program wrote, word for word, not what it means.")
def log(call: Call, run: str | None, follow: bool, raw: bool) -> None:
    """Lines marked `--` are notes of orchestrion itself. Of an agent whose output is understood it shows
    what it said and did. With --json each line is a document, the raw ones included.
    """
    with call.open() as orchestrion:
        one = own_run(run, orchestrion.caller)
        silent, hidden = True, ("event",) if raw or _is_plain(orchestrion, one) else ("out",)
        for line in orchestrion.log(one, follow=follow):
            silent = False
            if call.json or (line["stream"] not in (*hidden, "go") and not _is_repeated(line)):
                _log_line(call, line, follow)
    if silent and not call.json:
        output.note(f"{output.plain(one)} has written nothing")


@command("diff", "orchestrion diff R31", "orchestrion diff R31 | git apply")
@run_argument()
def diff(call: Call, run: str | None) -> None:
    """A unified diff from the commit it started from to what it made of it. Into a pipe it goes exactly
    as it is, on a terminal without control characters. With --json a large one is cut, and says so.
    """
    with call.open() as orchestrion:
        one = own_run(run, orchestrion.caller)
        if call.json:
            name = one.rpartition("/")[2].upper()
            text = orchestrion.diff(one, rest=f"`orchestrion diff {name}` shows all")
            output.document({"run": name, "diff": text})
        elif output.is_terminal(sys.stdout):
            output.lines(_coloured(orchestrion.run_diff(one).whole()))
        else:
            for piece in orchestrion.run_diff(one).whole(binary=True):
                output.exactly(piece)


@command("kill", "orchestrion kill R31 --reason 'wrong branch'")
@run_argument()
@reason_option("Why; it is kept.", required=False)
def kill(call: Call, run: str | None, reason: str | None) -> None:
    """Its agent is stopped within a second. The task fails and waits for `orchestrion retry`."""
    with call.open() as orchestrion:
        given = {"reason": reason} if reason else {}
        killed = orchestrion.kill(own_run(run, orchestrion.caller), **given)
        found = killed.as_json()
        note = orchestrion.ended_elsewhere(found["id"])
    said = [f"{found['id']} is {output.state('killed')}; `orchestrion retry {found['task']}` goes on"]
    held = [] if found["supervised"] else [f"  {output.plain(killed.row['actor'])} held it"]
    call.answer({**found, "note": note}, lambda: [*said, *held, *([output.plain(note)] if note else [])])


@command("pause", "orchestrion pause")
def pause(call: Call) -> None:
    """Runs that are active go on; clients can still claim."""
    with call.open() as orchestrion:
        orchestrion.pause()
    call.answer({"paused": True}, lambda: ["paused: workers claim nothing until `orchestrion resume`"])


@command("resume", "orchestrion resume", "orchestrion resume --agent claude")
@click.option("--agent", metavar="NAME", help="Close the breaker of this agent, which failed too often.")
def resume(call: Call, agent: str | None) -> None:
    """The end of `orchestrion pause`, or of a breaker's patience with an agent."""
    with call.open() as orchestrion:
        was_open = orchestrion.resume(agent)
    if agent is None:
        call.answer({"paused": False}, lambda: ["resumed: workers claim again"])
        return
    said = "closed: workers use it again" if was_open else "was not open"
    call.answer({"agent": agent, "was_open": was_open}, lambda: [f"the breaker of {output.plain(agent)} {said}"])


@command(
    "slots",
    "orchestrion slots",
    "orchestrion slots global=8 agent:claude=2 resource:gpu=1",
    "orchestrion slots agent:claude=none",
)
@click.argument("changes", metavar="[NAME=N]...", nargs=-1)
def slots(call: Call, changes: tuple[str, ...]) -> None:
    """Names are global, host:NAME, agent:NAME, role:NAME and resource:NAME; NAME=none takes a limit away. A
    change holds at once; runs that are active stay, even if they are more than it allows.
    """
    wanted = once(map(_change, changes))
    with call.open() as orchestrion:
        found = orchestrion.set_slots(wanted) if wanted else orchestrion.slots()
        notes = orchestrion.limits_that_return(wanted)
    call.answer({"slots": found, "notes": notes}, lambda: [*_slots(found), *map(output.plain, notes)])


@command("artifact", "orchestrion artifact A7", "orchestrion artifact A7 --json --offset 16000")
@click.argument("artifact", metavar="A")
@click.option("--offset", metavar="N", type=int, default=0, help="Begin at this character.")
def artifact(call: Call, artifact: str, offset: int) -> None:
    """All of it; with --json a page, and where the next one begins. Into a pipe it goes exactly as it is."""
    with call.open() as orchestrion:
        page = orchestrion.artifact(artifact, offset)
        if call.json:
            output.document(page)
            return
        for text in _pages(orchestrion, artifact, page):
            output.exactly(output.block(text) if output.is_terminal(sys.stdout) else text)


COMMANDS = {
    "runs": runs,
    "log": log,
    "diff": diff,
    "kill": kill,
    "pause": pause,
    "resume": resume,
    "slots": slots,
    "artifact": artifact,
}


# -- watching ---------------------------------------------------------------------------------


def _watch(call: Call, orchestrion: Orchestrator, asked: Mapping[str, Any]) -> None:
    """Never returns: Ctrl-C ends it."""
    if output.is_terminal(sys.stdout) and not call.json:
        from orchestrion.interfaces.cli.progress import watch_runs

        watch_runs(orchestrion, lambda: _list(orchestrion.list_runs(**asked).as_json("runs")))
    seen: dict[str, tuple[str, ...]] = {}
    while True:
        for run in reversed(orchestrion.list_runs(**asked).as_json("runs")["runs"]):
            phase = _phase(run) if run["supervised"] else None
            now = (run["state"], phase or "-", run["code"] or "-")
            if seen.get(run["id"]) != now:
                seen[run["id"]] = now
                _changed(call, run, now)
        orchestrion.store.wait_for_change(GLANCE_S)


def _changed(call: Call, run: Mapping[str, Any], now: Sequence[str]) -> None:
    if call.json:
        output.record(run)
    else:
        output.lines([" ".join([run["id"], run["task"], *now])])
        output.flush()


# -- for people -------------------------------------------------------------------------------


def _list(page: Mapping[str, Any]) -> Iterator[str]:
    if not page["runs"]:
        yield "no run matches; `orchestrion work` starts some"
        return
    yield from output.table([_row(run) for run in page["runs"]], right=(3,))
    shown, total = len(page["runs"]), page["total"]
    if page["next_cursor"]:
        yield output.faint(f"{shown} of {total} runs; go on with --cursor {page['next_cursor']}")


def _row(run: Mapping[str, Any]) -> tuple[str, ...]:
    active = run["ended_at"] is None
    what = (_phase(run) if run["supervised"] else "held") if active else run["code"]
    said = output.first_line(run["awaits"] or run["reason"] or run["summary"] or "")
    took = "" if active else output.seconds(run["duration_s"])
    said += output.damage(run)
    agent = output.plain(run["agent"] or "client")
    return run["id"], run["task"], output.state(run["state"]), took, agent, what or "", said


def _phase(run: Mapping[str, Any]) -> str:
    return "stuck" if run["awaits"] else str(run["phase"])


def _is_plain(orchestrion: Orchestrator, run: str) -> bool:
    """Whether the run's agent is a command, whose lines mean what they say."""
    from orchestrion.runs.agents.known import speaks_in_events

    agent = orchestrion.run(run.rpartition("/")[2]).as_json()["agent"]
    return not speaks_in_events(agent, orchestrion.config["agents"].get(agent, {}))


def _log_line(call: Call, line: Mapping[str, Any], at_once: bool) -> None:
    if call.json:
        output.record(line)
        return
    output.lines([_EVENTS.get(line["stream"], _said)(line)])
    if at_once:
        output.flush()


def _is_repeated(line: Mapping[str, Any]) -> bool:
    """An agent's result is what it said last."""
    return bool(line.get("kind") == "result" and not line.get("failed"))


def _said(line: Mapping[str, Any]) -> str:
    return output.written(line["text"])


def _noted(line: Mapping[str, Any]) -> str:
    return output.faint(f"-- {output.written(line['text'])}")


def _happened(line: Mapping[str, Any]) -> str:
    """One event of an agent, on a line if it is not its own words."""
    kind, text = line.get("kind"), output.written(line["text"])
    if kind == "tool":
        return f"{output.paint('>', 'cyan')} {output.plain(line.get('tool', ''))} {text}"
    if kind in ("tool_result", "permission", "notice"):
        return output.paint(f"  {text}", "red") if line.get("failed") else output.faint(f"  {text}")
    return output.faint(f"-- {kind} {text}") if kind in ("session", "plan") else text


_EVENTS = {"note": _noted, "event": _happened}


def _coloured(pieces: Iterator[bytes]) -> Iterator[str]:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in _lines(pieces):
        head = line.startswith(("diff ", "index ", "--- ", "+++ "))
        yield output.paint(output.block(line), "bold" if head else styles.get(line[:1], ""))


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    behind = b""
    for piece in pieces:
        *whole, behind = (behind + piece).split(b"\n")
        yield from (line.decode("utf-8", "surrogateescape") for line in whole)
    if behind:
        yield behind.decode("utf-8", "surrogateescape")


def _change(text: str) -> tuple[str, int | None]:
    name, separator, number = text.rpartition("=")
    if separator and number == "none":
        return name, None
    if separator and number.isascii() and number.isdigit() and len(number) < 10:
        return name, int(number)
    raise InvalidInput(f"{text[:80]!r} is not NAME=N", hint="for example global=8, or global=none", code="invalid_slot")


def _slots(slots: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not slots:
        yield "no limits are set; `orchestrion slots global=8` sets one"
        return
    rows = [(slot["name"], f"{slot['used']} used", f"{slot['free']} free", f"of {slot['capacity']}") for slot in slots]
    yield from output.table(rows, right=(1, 2, 3))


def _pages(orchestrion: Orchestrator, artifact: str, page: Mapping[str, Any]) -> Iterator[str]:
    yield page["text"]
    while page["next_offset"] is not None:
        page = orchestrion.artifact(artifact, page["next_offset"])
        yield page["text"]
