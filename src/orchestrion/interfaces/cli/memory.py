"""Commands that remember: prime, context, handoff, decide, decisions, verify, search, sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import FOLDER, command, refuse_besides, tasks, things, usage
from orchestrion.interfaces.cli.errors import NOT_ALL_COMPLETED, OK
from orchestrion.interfaces.cli.source import piped
from orchestrion.memory.decisions import change_said, changes_of

if TYPE_CHECKING:
    from orchestrion.orchestrator import Orchestrator

#: How many files ``context`` and ``verify`` name for people, and characters of a handoff in a list.
_NAMED, _SAID = 50, 100


@command("prime", "orchestrion prime", "orchestrion prime --role tester --tokens 500")
@click.option("--session", metavar="S", help="Name the tasks of this session too.")
@click.option("--tag", metavar="WORD", help="Only this work stream.")
@click.option("--role", metavar="NAME", help="Offer only tasks of this role.")
@click.option("--tokens", "budget_tokens", metavar="N", type=int, default=1500, show_default=True, help="At most.")
def prime(call: Call, **wanted: Any) -> None:
    """For the beginning of a session: what runs, what needs a person, what was finished and decided, what
    is ready, and how to go on. It fits into so many tokens whatever the project holds.
    """
    with call.open() as orchestrion:
        text = orchestrion.prime(**wanted)
    call.answer({"text": text}, lambda: [output.block(text).rstrip()])


@command("context", "orchestrion context T12", "orchestrion context S3 --json", "orchestrion context --tag docs")
@click.argument("thing", metavar="[T|R|S]", required=False, shell_complete=things)
@click.option("--tag", metavar="WORD", help="Of this work stream: all tasks that have the tag.")
def context(call: Call, thing: str | None, tag: str | None) -> None:
    """To go on with a task, a session or a work stream in a new process: its files, held against what is
    there, key decisions, what was tried, risks, what to do next.
    """
    if (thing is None) == (tag is None):
        raise usage("of what? Name a task, run or session (T12, R31, S3), or a --tag.")
    with call.open() as orchestrion:
        found = orchestrion.recover(thing) if thing is not None else orchestrion.recover_stream(tag or "")
    call.answer(found, lambda: [output.block(found["text"]).rstrip()])


@command(
    "handoff",
    "orchestrion handoff --text 'the parser is done, its tests are not'",
    "orchestrion handoff T12 --text -",
    "orchestrion handoff --last",
    "orchestrion handoff T12 --list",
)
@click.argument("thing", metavar="[T|S]", required=False, shell_complete=things)
@click.option("--text", metavar="TEXT", default="", help="What the next one should know; - reads standard input.")
@click.option("--tag", metavar="WORD", help="The work stream it is about.")
@click.option("--last", is_flag=True, help="Show what was left last.")
@click.option("--list", "listed", is_flag=True, help="List handoffs, the newest first: all, or of T, S or the tag.")
@click.option("--limit", metavar="N", type=int, default=20, show_default=True, help="List at most so many.")
@click.option("--cursor", metavar="H", help="List those before this handoff.")
def handoff(call: Call, thing: str | None, text: str, tag: str | None, last: bool, listed: bool, **page: Any) -> None:
    """TEXT is kept with where the task, the session or all stands. The next `orchestrion prime` shows the last one
    for everybody, for each work stream and for each open task.
    """
    if last:
        refuse_besides("--last", "tag")
    elif listed:
        refuse_besides("--list", "thing", "tag", "limit", "cursor")
    else:
        refuse_besides("a handoff that is written", "thing", "text", "tag")
    about: dict[str, Any] = {"session" if (thing or "")[:1].upper() == "S" else "task": thing}
    with call.open() as orchestrion:
        if listed:
            found = orchestrion.list_handoffs(tag=tag, **about, **page)
            call.answer(found, lambda: _handoffs(found))
            return
        if last:
            found = orchestrion.last_handoff(tag)
        else:
            found = orchestrion.handoff(text=piped() if text == "-" else text, tag=tag, **about)
    call.answer(found, lambda: [output.heading(found["id"]), output.block(found["text"]).rstrip()])


@command(
    "decide",
    "orchestrion decide 'Use SQLite' --decision 'one file' --rationale 'no server' --impact high --file src/store.py",
    "orchestrion decide 'Use PostgreSQL' --supersedes D1",
    "orchestrion decide D4 --status implemented",
)
@click.argument("title", metavar="TITLE|D")
@click.option("--decision", metavar="TEXT", help="What was decided, in full; - reads standard input.")
@click.option("--context", metavar="TEXT", help="What asked for a decision.")
@click.option("--rationale", metavar="TEXT", help="Why it was decided so.")
@click.option("--status", metavar="WORD", help="proposed, accepted (if not said), implemented or rejected.")
@click.option("--category", metavar="WORD", help="Kind of decision, for finding it.")
@click.option("--impact", metavar="WORD", help="low, medium, high or critical.")
@click.option(
    "--alternative",
    "alternatives",
    metavar="TEXT|JSON",
    multiple=True,
    help='What else there was; or {"name": ..., "pros": [...], "cons": [...]}. Repeatable.',
)
@click.option("--file", "files", metavar="PATH", multiple=True, help="A file it is about. Repeatable.")
@click.option("--component", "components", metavar="NAME", multiple=True, help="A part it is about. Repeatable.")
@click.option("--trade-off", "trade_offs", metavar="TEXT", multiple=True, help="What it costs. Repeatable.")
@click.option(
    "--risk",
    "risks",
    metavar="TEXT|JSON",
    multiple=True,
    help='What may go wrong; or {"risk": ..., "mitigation": ...}. Repeatable.',
)
@click.option("--criterion", "criteria", metavar="TEXT", multiple=True, help="How success shows. Repeatable.")
@click.option("--task", metavar="T", help="The task it was taken in.", shell_complete=tasks)
@click.option("--supersedes", metavar="D", help="The decision that no longer holds.")
@click.option("--refines", metavar="D", help="The decision that this one adds to.")
@click.option("--reverses", metavar="D", help="The decision that was wrong.")
def decide(call: Call, title: str, status: str | None, **values: Any) -> None:
    """Decisions are numbered and stay; one that is superseded or reversed is kept and says so. With the
    number of a decision (D4) and --status, that one gets another status.
    """
    given = {field: value for field, value in values.items() if value not in (None, ())}
    for field in ("alternatives", "risks"):
        if field in given:
            given[field] = [_entry(text) for text in given[field]]
    if given.get("decision") == "-":
        given["decision"] = piped()
    with call.open(create=True) as orchestrion:
        if _is_number(title):
            if given or not status:
                raise usage("a recorded decision only gets another --status; supersede it to change it.")
            found = orchestrion.change_decision(title, status)
        else:
            found = orchestrion.decide(title, **given, **({"status": status} if status else {}))
    call.answer(found, lambda: [_in_a_line(found)])


@command(
    "decisions",
    "orchestrion decisions --search 'cache size' --impact high",
    "orchestrion decisions D4",
    "orchestrion decisions --export docs/decisions",
)
@click.argument("decision", metavar="[D]", required=False)
@click.option("--search", metavar="TEXT", help="Only those with all these words, or with this id.")
@click.option("--category", metavar="WORD", help="Only of this kind.")
@click.option("--impact", metavar="WORD", help="Only of this impact.")
@click.option("--file", metavar="PATH", help="Only those about this file.")
@click.option("--status", metavar="WORD", help="Only in this status.")
@click.option("--task", metavar="T", help="Only those of this task.", shell_complete=tasks)
@click.option("--limit", metavar="N", type=int, default=20, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="D", help="Go on behind this decision.")
@click.option("--export", metavar="DIR", type=FOLDER, help="Write each as a Markdown file into this folder.")
def decisions(call: Call, decision: str | None, export: str | None, **wanted: Any) -> None:
    """Newest first. With a number all about one, with the chain of those it changed; --export writes files
    named 0004-use-sqlite.md.
    """
    if export is not None:
        refuse_besides("--export")
    elif decision is not None:
        refuse_besides("a decision that is shown", "decision")
    with call.open() as orchestrion:
        if export is not None:
            exported = orchestrion.export_decisions(export)
            said = output.count(len(exported["written"]), "decision")
            call.answer(exported, lambda: [f"{said} written to {output.plain(exported['folder'])}"])
            return
        if decision is not None:
            text, found = orchestrion.adr(decision), orchestrion.decision(decision)
            call.answer(found, lambda: [*output.block(text).rstrip().splitlines(), *_chain(found)])
            return
        page = orchestrion.decisions(**wanted)
    call.answer(page, lambda: _decisions(page))


@command("verify", "orchestrion verify T12", "orchestrion verify S3 --json", "orchestrion verify --tag docs")
@click.argument("thing", metavar="[T|R|S]", required=False, shell_complete=things)
@click.option("--tag", metavar="WORD", help="Of this work stream: all tasks that have the tag.")
def verify(call: Call, thing: str | None, tag: str | None) -> int:
    """Each recorded file is held against the plan it was merged into, else against its commit or the
    folder. Ends with 8 if one is not as it was recorded.
    """
    if (thing is None) == (tag is None):
        raise usage("whose files? Name a task, run or session (T12, R31, S3), or a --tag.")
    what = {"R": "run", "S": "session"}.get((thing or "")[:1].upper(), "task") if thing is not None else "tag"
    whose: dict[str, Any] = {what: thing if thing is not None else tag}
    with call.open() as orchestrion:
        found = orchestrion.verify(**whose)
    call.answer(found, lambda: files(found))
    return NOT_ALL_COMPLETED if any(file["status"] in ("failed", "partial") for file in found["files"]) else OK


@command("search", "orchestrion search 'retry delay'", "orchestrion search cache --kind decision")
@click.argument("text", metavar="TEXT")
@click.option(
    "--kind", "kinds", metavar="WORD", multiple=True, help="Only a decision, task, artifact or handoff. Repeatable."
)
@click.option("--limit", metavar="N", type=int, default=20, show_default=True, help="At most so many.")
def search(call: Call, text: str, kinds: tuple[str, ...], limit: int) -> None:
    """All the words must occur, or words that begin so; those that fit best come first."""
    with call.open() as orchestrion:
        found = orchestrion.search(text, kinds=kinds, limit=limit)
    call.answer(found, lambda: [*_results(found["results"]), *filter(None, [found["note"]])])


@command(
    "sessions",
    "orchestrion sessions",
    "orchestrion sessions --start docs",
    "orchestrion sessions S3 --end --summary 'all written'",
    "orchestrion sessions --clean-up all --older-than 30 --apply",
)
@click.argument("session", metavar="[S]", required=False)
@click.option("--all", "include_ended", is_flag=True, help="Ended sessions as well.")
@click.option("--limit", metavar="N", type=int, default=10, show_default=True, help="At most so many.")
@click.option("--start", metavar="NAME", help="Begin a session of this name.")
@click.option("--resume", is_flag=True, help="Take over the session S; says how, and what to know.")
@click.option("--end", is_flag=True, help="The session S is over.")
@click.option("--summary", metavar="TEXT", help="What is said of a session that ends.")
@click.option("--clean-up", "kind", metavar="KIND", help="completed, orphaned, old or all; only shown without --apply.")
@click.option("--older-than", metavar="DAYS", type=float, default=7, show_default=True, help="What is cleaned up.")
@click.option("--apply", is_flag=True, help="Clean up, do not only show what would be.")
def sessions(call: Call, session: str | None, include_ended: bool, limit: int, **asked: Any) -> None:
    """What is done with ORCHESTRION_SESSION=S3 in the environment belongs to session S3. --resume gives what it
    holds to you alone: its first line, `export ORCHESTRION_SESSION=S3.1`, makes a shell its own, and whoever
    had the session before is told so at the next change.
    """
    if (asked["resume"] or asked["end"]) and session is None:
        raise usage("which session? Name it (S3).")
    if asked["end"]:
        refuse_besides("--end", "session", "summary")
    elif asked["resume"]:
        refuse_besides("--resume", "session")
    elif asked["start"] is not None:
        refuse_besides("--start")
    elif asked["kind"] is not None:
        refuse_besides("--clean-up", "older_than", "apply")
    elif session is not None:
        refuse_besides("a session that is shown", "session")
    else:
        refuse_besides("a list of sessions", "include_ended", "limit")
    with call.open(create=bool(asked["start"])) as orchestrion:
        if session is not None:
            _one_session(call, orchestrion, session, asked)
        elif asked["start"] is not None:
            begun = orchestrion.start_session(asked["start"], client="cli", folder=str(orchestrion.project.root))
            call.answer(begun, lambda: [_export(begun)])
        elif asked["kind"] is not None:
            cleaned = orchestrion.clean_up_sessions(asked["kind"], asked["older_than"], not asked["apply"])
            call.answer(cleaned, lambda: _cleaned(cleaned))
        else:
            page = orchestrion.list_sessions(include_ended, limit)
            call.answer(page, lambda: _sessions(page, include_ended))


def _one_session(call: Call, orchestrion: Orchestrator, session: str, asked: Mapping[str, Any]) -> None:
    if asked["end"]:
        ended = orchestrion.end_session(session, asked["summary"])
        call.answer(ended, lambda: [f"{ended['id']} has ended"])
    elif asked["resume"]:
        resumed = orchestrion.resume_session(session)
        said = [_export(resumed), *filter(None, [output.plain(resumed["warning"])])]
        call.answer(resumed, lambda: [*said, output.block(resumed["context"]["text"]).rstrip()])
    else:
        found = orchestrion.session_detail(session)
        call.answer(found, lambda: session_facts(found))


def _export(given: Mapping[str, Any]) -> str:
    return f"export ORCHESTRION_SESSION={given['handle']}"


COMMANDS = {
    "prime": prime,
    "context": context,
    "handoff": handoff,
    "decide": decide,
    "decisions": decisions,
    "verify": verify,
    "search": search,
    "sessions": sessions,
}


def _entry(text: str) -> Any:
    """An entry in words, or taken apart as JSON."""
    if not text.startswith("{"):
        return text
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError as broken:
        raise usage(f"{text[:60]!r} is no JSON: {broken.msg} at column {broken.colno}.") from broken


def _is_number(text: str) -> bool:
    return text[:1].upper() == "D" and text[1:].isascii() and text[1:].isdigit()


# -- for people -------------------------------------------------------------------------------


def files(found: Mapping[str, Any]) -> Iterator[str]:
    """A task's or session's files with what came of holding them against what is there."""
    whose = found.get("task") or found.get("session") or output.plain(found["tag"])
    if not found["files"]:
        yield f"{whose}: no file is recorded"
        return
    yield f"{whose}: {output.count(found['total'], 'file')}, {_status(found['status'])}"
    yield from output.table([_file(file) for file in found["files"][:_NAMED]])
    if found["total"] > _NAMED:
        yield output.faint(f"and {found['total'] - _NAMED} more; --json shows them")


def _file(file: Mapping[str, Any]) -> tuple[str, ...]:
    path = output.plain(file["path"]) + (f" (was {output.plain(file['old_path'])})" if file["old_path"] else "")
    return _status(file["status"]), file["op"], file["run"] or "", path, output.plain(file["detail"] or "")


def _status(status: str) -> str:
    styles = {"verified": "green", "failed": "red", "partial": "yellow"}
    return output.paint(status, styles.get(status, "dim"))


def _handoffs(page: Mapping[str, Any]) -> Iterator[str]:
    if not page["handoffs"]:
        yield "nothing was handed over; `orchestrion handoff --text TEXT` leaves a word"
        return
    yield from output.table([_handoff(one) for one in page["handoffs"]])
    if page["next_cursor"]:
        shown, total = len(page["handoffs"]), page["total"]
        yield output.faint(f"{shown} of {total} handoffs; go on with --cursor {page['next_cursor']}")


def _handoff(one: Mapping[str, Any]) -> tuple[str, ...]:
    said = output.plain(" ".join(one["said"].split())[:_SAID])
    return one["id"], output.moment(one["created_at"]), output.plain(one["actor"]), output.plain(one["about"]), said


def _decisions(page: Mapping[str, Any]) -> Iterator[str]:
    if not page["decisions"]:
        yield "no decision matches; `orchestrion decide TITLE` records one"
        return
    yield from output.table([_decision(one) for one in page["decisions"]])
    if page["next_cursor"]:
        shown, total = len(page["decisions"]), page["total"]
        yield output.faint(f"{shown} of {total} decisions; go on with --cursor {page['next_cursor']}")


def _decision(one: Mapping[str, Any]) -> tuple[str, ...]:
    return one["id"], one["status"], one["impact"], one["category"], output.plain(one["title"]), change_said(one)


def _in_a_line(one: Mapping[str, Any]) -> str:
    change = f"; {change_said(one)}" if one["replaces"] else ""
    return f"{output.heading(one['id'])} is {one['status']}: {output.plain(one['title'])}{change}"


def decision_facts(found: Mapping[str, Any]) -> Iterator[str]:
    """All about a decision."""
    yield _in_a_line(found)
    facts = ("category", "impact", "task", "run", "session", "actor")
    yield from output.fields(
        [
            *((fact, output.plain(found[fact] or "")) for fact in facts),
            ("recorded", output.moment(found["created_at"])),
            *((what.lower(), other) for what, other in changes_of(found)),
            ("files", ", ".join(output.plain(path) for path in found["files"])),
        ]
    )
    for part in ("context", "decision", "rationale"):
        if found[part]:
            yield from ("", output.heading(part.capitalize()), output.block(found[part]).rstrip())
    yield from _chain(found)


def _chain(found: Mapping[str, Any]) -> Iterator[str]:
    if found["chain"]:
        yield ""
    for older in found["chain"]:
        yield output.faint(f"goes back to {older['id']} ({older['status']}): {output.plain(older['title'])}")


def _results(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not results:
        yield "nothing has all of these words"
    for one in results:
        state = output.faint(f"  {one['state']}") if one["state"] else ""
        yield f"{output.heading(one['id'])}  {output.plain(one['title'])}{state}"
        if one["excerpt"]:
            yield f"  {output.faint(output.plain(one['excerpt']))}"


def session_facts(found: Mapping[str, Any]) -> Iterator[str]:
    """All about a session."""
    yield f"{output.heading(found['id'])}  {output.heading(output.plain(found['name']))}"
    yield from output.fields(
        [
            ("state", found["state"]),
            ("client", output.plain(found["client"])),
            ("folder", output.plain(found["folder"])),
            ("started", output.moment(found["started_at"])),
            ("seen", output.moment(found["seen_at"])),
            ("ended", output.moment(found["ended_at"])),
            ("summary", output.plain(found["summary"] or "")),
            ("tasks", ", ".join(found["tasks"])),
            ("decisions", found["decisions"] or None),
            ("files", ", ".join(f"{count} {op}" for op, count in found["files"].items())),
            ("handoff", found["handoff"]),
        ]
    )


def _sessions(page: Mapping[str, Any], include_ended: bool) -> Iterator[str]:
    if not page["sessions"]:
        more = "no session is active; `orchestrion sessions --all` shows those that ended"
        yield "there was no session yet" if include_ended else more
        return
    yield from output.table([_session(one) for one in page["sessions"]])
    if page["total"] > len(page["sessions"]):
        yield output.faint(f"{len(page['sessions'])} of {page['total']} sessions; more with --limit")


def _session(one: Mapping[str, Any]) -> tuple[str, ...]:
    words = (output.plain(one["client"]), output.plain(one["name"]), output.plain(one["summary"] or ""))
    return one["id"], one["state"], output.moment(one["seen_at"]), *words


def _cleaned(cleaned: Mapping[str, Any]) -> Iterator[str]:
    would = "would be " if cleaned["dry_run"] else ""
    for what in ("ended", "removed"):
        if cleaned[what]:
            yield f"{would}{what}: {', '.join(cleaned[what])}"
    if not cleaned["ended"] and not cleaned["removed"]:
        yield "there is nothing to clean up"
    elif cleaned["dry_run"]:
        yield output.faint("--apply does it")
