"""Commands that keep a project in order: health, alerts, maintain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command, refuse_besides, tasks, usage
from orchestrion.interfaces.cli.errors import ENVIRONMENT, OK

#: Short word -> the action it means; the whole names are understood too.
_ACTIONS = {
    "scan": "scan_cleanup",
    "validate": "validate_structure",
    "document": "update_documentation",
    "handover": "prepare_handover",
    "retention": "retention",
}
#: How each status looks.
_COLOUR = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}


@command("health", "orchestrion health", "orchestrion health --ready --json", "orchestrion health --strict")
@click.option("--ready", is_flag=True, help="Ask only whether work can be done now; ends with 7 if not.")
@click.option("--strict", is_flag=True, help="End with 7 also if something is merely degraded.")
def health(call: Call, ready: bool, strict: bool) -> int:
    """Everything is measured now: the store is read and written, free space, git, workers and supervisors
    are looked at, and each run and task that waits says for what and since when. Ends with 7 if
    something is unhealthy.
    """
    from orchestrion.orchestrator import Orchestrator

    if ready:
        refuse_besides("--ready")
    found = Orchestrator.health_of(call.folder, db=call.db)
    call.answer(found, lambda: _told(found))
    if ready:
        return OK if found["ready"] else ENVIRONMENT
    return OK if found["status"] == "healthy" or (found["healthy"] and not strict) else ENVIRONMENT


@command(
    "maintain",
    "orchestrion maintain",
    "orchestrion maintain scan --level comprehensive --dry-run",
    "orchestrion maintain validate --level full_audit",
    "orchestrion maintain document",
    "orchestrion maintain handover --scope specific_subtask --task T12 --text 'the parser is next'",
    "orchestrion maintain retention",
    "orchestrion maintain --history",
)
@click.argument("action", metavar="[ACTION]", required=False)
@click.option(
    "--scope",
    metavar="WORD",
    help="full_project (the default), current_session or specific_subtask (with --task).",
)
@click.option(
    "--level", metavar="WORD", default="basic", show_default=True, help="How far: basic, comprehensive or full_audit."
)
@click.option("--task", metavar="T", help="The task, with all below it.", shell_complete=tasks)
@click.option("--session", metavar="S", help="The session that current_session means.")
@click.option("--text", metavar="TEXT", default="", help="With handover: what the next one should know.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--history", is_flag=True, help="Show what was found and done before.")
def maintain(
    call: Call,
    action: str | None,
    scope: str | None,
    level: str,
    task: str | None,
    session: str | None,
    text: str,
    dry_run: bool,
    history: bool,
) -> int:
    """ACTION is scan (stale work, the default), validate (the structure of the store), document (writes pages
    about the project), handover (a word for the next session) or retention (archives what is settled,
    forgets what is long past). Level basic only looks; comprehensive also cleans up; full_audit goes
    through everything. A worker does the retention by itself. Ends with 7 if the structure is damaged.
    """
    asked = _ACTIONS.get(action or "", action)
    if history:
        refuse_besides("--history", "action")
    if text and asked != "prepare_handover":
        raise usage("--text goes with handover.")
    if session and (task or scope not in (None, "current_session")):
        raise usage("--session is what current_session means; leave --task and other scopes out.")
    with call.open() as orchestrion:
        if history:
            before = orchestrion.maintenance_history(asked)
            call.answer(before, lambda: _before(before, asked))
            return OK
        chosen = scope or ("specific_subtask" if task else "current_session" if session else "full_project")
        given: dict[str, Any] = {
            "scope": chosen,
            "level": level,
            "task": task,
            "session": session,
            "dry_run": dry_run,
            "text": text,
        }
        found = orchestrion.maintain(asked or "scan_cleanup", **given)
    call.answer(found, lambda: _maintained(found))
    return OK if found["found"].get("valid", True) else ENVIRONMENT


@command("rebuild", "orchestrion rebuild")
def rebuild(call: Call) -> None:
    """Where indexes are damaged and all rows can be read, or triggers, indexes or tables are gone, puts a new file
    with the same rows in the store's place, and keeps the old one beside it. It has what the store should have:
    what was gone and what is left out is said. Stop all programs that have the store open first. Where rows are
    lost it says which, and changes nothing.
    """
    from orchestrion.orchestrator import Orchestrator

    made = Orchestrator.rebuild(call.folder, db=call.db)
    call.answer(made, lambda: _rebuilt(made))


@command("alerts", "orchestrion alerts", "orchestrion alerts --all --limit 50", "orchestrion alerts --look")
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@click.option("--limit", metavar="N", type=int, default=20, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="N", help="Go on behind this one.")
@click.option("--look", is_flag=True, help="Look at all rules first, as a server does by itself.")
def alerts(call: Call, everything: bool, limit: int, cursor: str | None, look: bool) -> None:
    """The latest first: runs that are stuck, tasks that take too long, many failures, open breakers, little
    space, budgets, parts that do not work. A server looks every alerts.every_s seconds, and tells.
    """
    with call.open() as orchestrion:
        if look:
            orchestrion.look_for_alerts()
        found = orchestrion.alerts(unclosed=not everything, limit=limit, cursor=cursor)
    call.answer(found, lambda: _alerts(found))


COMMANDS = {"health": health, "maintain": maintain, "rebuild": rebuild, "alerts": alerts}


# -- health -------------------------------------------------------------------------------------


def _told(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{output.paint(found['status'], _COLOUR[found['status']])}, {'ready' if found['ready'] else 'not ready'}"
    rows = [
        (name, output.paint(part["status"], _COLOUR[part["status"]]), output.plain(part["said"]))
        for name, part in found["components"].items()
    ]
    yield from output.table(rows)
    yield from _stuck(found.get("runs", {}).get("runs", []))
    yield from _waiting(found.get("waiting_tasks", {}))
    advice = [(name, output.plain(part["advice"])) for name, part in found["components"].items() if part.get("advice")]
    if advice:
        yield output.heading("To do")
        yield from output.table(advice)


def _stuck(runs: list[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (run["run"], run["task"], run["status"], output.plain(f"waits for {run['awaits']}"),
         f"last sign of life {output.moment(run['last_sign_of_life'])}")
        for run in runs
        if run["status"] != "working"
    ]  # fmt: skip
    if rows:
        yield output.heading("Runs that do not work")
        yield from output.table(rows)


def _waiting(found: Mapping[str, Any]) -> Iterator[str]:
    if found.get("total"):
        yield output.heading(f"Waiting ({found['total']})")
        yield from output.table(
            [
                (one["task"], one["state"], output.plain(one["awaits"]), f"since {output.moment(one['since'])}")
                for one in found["tasks"][:10]
            ]
        )


def _alerts(found: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (one["rule"], one["subject"], output.plain(one["said"]), f"since {output.moment(one['opened_at'])}",
         f"over {output.moment(one['closed_at'])}" if one["closed_at"] else "")
        for one in found["alerts"]
    ]  # fmt: skip
    yield from output.table(rows) if rows else ["nothing asks for attention"]


def _rebuilt(made: Mapping[str, Any]) -> Iterator[str]:
    yield f"made anew: {output.plain(made['db'])}"
    yield from (f"it has again: {output.plain(one)}" for one in made["made"])
    yield from (f"left out: {output.plain(one)}" for one in made["left_out"])
    yield f"the old one is kept: {output.plain(made['kept'])}"


# -- maintain -----------------------------------------------------------------------------------


def _maintained(found: Mapping[str, Any]) -> Iterator[str]:
    would = " (dry run)" if found["dry_run"] else ""
    yield f"{output.heading(found['id'] or 'unrecorded')} {found['action']}, {found['scope']}, {found['level']}{would}"
    for note in found["notes"]:
        yield output.faint(note)
    yield from output.table([(what, output.plain(_short(value))) for what, value in found["found"].items()])
    done = found.get("done", found.get("would_do", []))
    yield output.heading("Would be done" if found["dry_run"] else "Done")
    yield from [f"  {_line(one)}" for one in done] or ["  nothing"]
    if found["recommendations"]:
        yield output.heading("To do")
        yield from [f"  {output.plain(line)}" for line in found["recommendations"]]


def _short(value: Any) -> str:
    """A finding in a line: numbers by name, the first few of a list."""
    if isinstance(value, dict) and value and all(isinstance(one, list) for one in value.values()):
        return "; ".join(f"{key} because of {', '.join(map(str, one[:3]))}" for key, one in list(value.items())[:3])
    if isinstance(value, dict):
        plain = {key: one for key, one in value.items() if not isinstance(one, list | dict)}
        inner = {key: one for one in value.values() if isinstance(one, dict) for key, one in one.items()}
        return ", ".join(f"{key.replace('_', ' ')} {one}" for key, one in {**plain, **inner}.items()) or "none"
    if isinstance(value, list):
        return f"{len(value)}" + "".join(f"; {_first(one)}" for one in value[:3]) if value else "none"
    return str(value)


def _first(one: Any) -> str:
    if isinstance(one, dict):
        facts = [str(part) for part in list(one.values())[:3]]
        return " ".join(fact for n, fact in enumerate(facts) if not any(fact in later for later in facts[n + 1 :]))
    return str(one)


def _line(one: Mapping[str, Any]) -> str:
    words = [str(one["did"]).replace("_", " ")]
    words += [f"{_short(value)}" for key, value in one.items() if key not in ("did", "tasks") and value is not None]
    if one.get("tasks"):
        words.append(f"({', '.join(one['tasks'][:10])}{', ...' if len(one['tasks']) > 10 else ''})")
    return output.plain(" ".join(words))


def _before(found: Mapping[str, Any], action: str | None) -> Iterator[str]:
    none = f"{action} was not done yet" if action else "nothing was maintained yet"
    rows = [
        (one["id"], output.moment(one["at"]), one["action"], one["scope"], one["level"],
         "dry run" if one["dry_run"] else f"{len(one['done'])} done", output.plain(one["actor"]))
        for one in found["maintenance"]
    ]  # fmt: skip
    yield from output.table(rows) if rows else [none]
