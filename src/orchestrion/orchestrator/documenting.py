"""What maintenance writes down: where a project stands, what it decided and did, and a package to hand over.

Only facts of the store, and no time of writing: a document about a project in which nothing
happened stays the same to the letter. Other people's words are put on one line each, so that
none of them becomes a heading or a tag of the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrion.core.errors import NotFound
from orchestrion.core.model import iso, name
from orchestrion.core.values import count
from orchestrion.memory import artifacts, decisions
from orchestrion.memory.handoff import about
from orchestrion.memory.prime import cut
from orchestrion.ops.maintenance import LEVELS

if TYPE_CHECKING:
    from orchestrion.orchestrator.checking import HealthCases
    from orchestrion.store import Transaction
    from orchestrion.store.store import Row

#: So many things of each kind stand in a document or package; all are counted.
NAMED = 100
#: Completed tasks that the record of work names, the latest first.
WORK_NAMED = 1_000
#: Bytes of somebody's words on one line, and in a package.
_LINE, _SAID = 240, 400
_OPEN = ("in_progress", "review", "blocked", "failed", "retrying", "ready", "pending")


def documents(cases: HealthCases, level: str, *, task: str | None, session: str | None) -> dict[str, str]:
    """File name -> text: the stand, from ``comprehensive`` on the decisions, with ``full_audit`` work and handover.

    With a task it is that task's page, with its decisions; with a session its decisions.
    """
    reach = LEVELS.index(level)
    texts = {f"{task}.md": _page_of(cases, task)} if task else {"STATUS.md": _status(cases)}
    if reach >= LEVELS.index("comprehensive"):
        texts |= _decisions(cases, task, session)
    if reach >= LEVELS.index("full_audit") and task is None:
        texts |= {"WORK.md": _work(cases), **_handover(cases)}
    return texts


# -- where the project stands -------------------------------------------------------------------


def _status(cases: HealthCases) -> str:
    found = cases.status()
    counts = found["tasks"]
    told = ", ".join(
        f"{counts[state]} {state.replace('_', ' ')}"
        for state in (*_OPEN, "completed", "cancelled")
        if counts.get(state)
    )
    parts = [
        f"# Where {plain(cases.store.project_name)} stands",
        f"{count(sum(counts.values()), 'task')}: {told}." if told else "No tasks yet.",
        _section("Plans", [f"{plain(one['plan'])}: {count(one['tasks'], 'task')}" for one in found["plans"]]),
        _section("Needs a person", [_needs(one) for one in found["needs_you"]]),
        _section("In progress", [_runs(one) for one in found["runs"][:NAMED]]),
        _section("Ready", [f"{one['id']} {plain(one['title'])}" for one in cases.ready(20).as_json("tasks")["tasks"]]),
        _section("Done last", [_done(one) for one in _completed(cases, 20)]),
        _section("Decided last", [_decided(one) for one in cases.decisions(limit=20)["decisions"]]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _needs(one: Mapping[str, Any]) -> str:
    return f"{one['task']} {plain(one['title'])} ({one['state']})" + (
        f": {plain(one['reason'])}" if one["reason"] else ""
    )


def _runs(one: Mapping[str, Any]) -> str:
    return f"{one['task']} {plain(one['title'])}, by {one['id']} ({plain(one['agent'] or 'a client')})"


def _done(one: Mapping[str, Any]) -> str:
    return f"{one['id']} {plain(one['title'])}" + (f": {plain(one['summary'])}" if one["summary"] else "")


def _decided(one: Mapping[str, Any]) -> str:
    return f"{one['id']} {plain(one['title'])} ({one['status']})"


def _completed(cases: HealthCases, most: int) -> list[dict[str, Any]]:
    return list(cases.load(completed=most)["completed"])


def _page_of(cases: HealthCases, task: str) -> str:
    return str(cases.recover(task)["text"])


# -- what was decided and done ------------------------------------------------------------------


def _decisions(cases: HealthCases, task: str | None, session: str | None) -> dict[str, str]:
    found = list(_all_decisions(cases, task, session))
    texts = {f"decisions/{_file(one)}": cases.adr(one["id"]) for one in found}
    if task is None and session is None and found:
        index = [f"[{one['id']} {plain(one['title'])}]({_file(one)}), {one['status']}" for one in reversed(found)]
        texts["decisions/README.md"] = f"{_section('Decisions', index, '#')}\n"
    return texts


def _all_decisions(cases: HealthCases, task: str | None, session: str | None) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        page = cases.decisions(task=task, session=session, limit=500, cursor=cursor)
        yield from page["decisions"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _file(one: Mapping[str, Any]) -> str:
    return decisions.slug(int(one["id"][1:]), one["title"])


def _work(cases: HealthCases) -> str:
    done = _completed(cases, WORK_NAMED)
    plans: dict[str, list[str]] = {}
    for one in done:
        day = (one["completed_at"] or "")[:10]
        plans.setdefault(one["plan"], []).append(f"{day} {_done(one)}")
    parts = [f"# Work done\n\n{count(len(done), 'task')}, the latest first in each plan."]
    return "\n\n".join([*parts, *(_section(plain(plan), lines) for plan, lines in sorted(plans.items()))]) + "\n"


def _handover(cases: HealthCases) -> dict[str, str]:
    left = cases.standing_handoffs() or _last(cases)
    parts = [f"{one['id']} {plain(one['about'])}, {_by(one)}\n\n{_quoted(one['text'])}" for one in left]
    return {"HANDOVER.md": "\n\n".join(["# Handover", *parts]) + "\n"} if left else {}


def _last(cases: HealthCases) -> list[dict[str, Any]]:
    """What was left last of work that is over, or without a word."""
    try:
        left = cases.last_handoff()
    except NotFound:
        return []
    return [{**left, "about": about(left)}]


def _by(left: Mapping[str, Any]) -> str:
    return f"{left['created_at'][:10]}, by {plain(left['actor'])}"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.rstrip().splitlines())


# -- to hand over -------------------------------------------------------------------------------


def package(
    cases: HealthCases, level: str, *, only: Sequence[int] | None, task: str | None, session: str | None
) -> dict[str, Any]:
    """What the next one needs: summary, tasks done and going on, next steps; with more level also decisions,
    what was learned, and where results are.
    """
    rows = cases.store.read(lambda tx: _tasks_meant(tx, only))
    done = [row for row in rows if row["state"] == "completed"]
    going = [row for row in rows if row["state"] in _OPEN]
    about = task or session
    context = cases.recover(about) if about else None
    found: dict[str, Any] = {
        "session_summary": context["summary"] if context else _counted(rows),
        "completed_total": len(done),
        "completed_tasks": [_short(row) for row in done[-NAMED:]],
        "in_progress_total": len(going),
        "in_progress_tasks": [_short(row) for row in sorted(going, key=_urgency)[:NAMED]],
        "next_steps": context["next_steps"] if context else _next_steps(going),
    }
    if LEVELS.index(level) >= LEVELS.index("comprehensive"):
        listed = cases.decisions(task=task, session=session, limit=NAMED)
        found["decisions_log"] = [
            {"id": one["id"], "title": one["title"], "status": one["status"]} for one in listed["decisions"]
        ]
        found["learnings_summary"] = [
            _lesson(row) for row in rows if row["attempts"] > 1 or row["feedback"] or row["error"]
        ][:NAMED]
    if level == "full_audit":
        found["artifacts"] = cases.store.read(lambda tx: _results(tx, [row["id"] for row in done]))
    return found


def _tasks_meant(tx: Transaction, only: Sequence[int] | None) -> list[Row]:
    """Tasks in order of their last change, the latest last; of a whole project the last ones alone."""
    if only is not None:
        found = [row for row in (tx.one("task", id=one) for one in only) if row is not None]
        return sorted(found, key=lambda row: row["updated_at"])
    finished = tx.all("last_completed", limit=NAMED, offset=0)
    return [*reversed(finished), *tx.all("list_tasks", after=0, limit=1000, states=list(_OPEN), unarchived=1)]


def _urgency(row: Row) -> tuple[int, int]:
    return _OPEN.index(row["state"]), row["id"]


def _counted(rows: Sequence[Row]) -> str:
    counts = {state: sum(row["state"] == state for row in rows) for state in ("completed", *_OPEN)}
    return ", ".join(f"{total} {state.replace('_', ' ')}" for state, total in counts.items() if total) or "no tasks"


def _short(row: Row) -> dict[str, Any]:
    said = {"summary": cut(row["summary"], _SAID)} if row["summary"] else {}
    return {
        "id": name("T", row["id"]),
        "title": row["title"],
        "state": row["state"],
        "updated_at": iso(row["updated_at"]),
        **said,
    }


_NEXT = {
    "review": "`orchestrion show {0}` says what to do",
    "failed": "`orchestrion retry {0}`, or cancel it",
    "blocked": "`orchestrion why {0}` says which decision it needs",
    "ready": "`orchestrion claim {0}`",
    "in_progress": "`orchestrion show {0}`: somebody works on it",
}


def _next_steps(going: Sequence[Row]) -> list[str]:
    steps = [
        f"{_NEXT[row['state']].format(name('T', row['id']))} ({plain(row['title'])[:80]})"
        for row in sorted(going, key=_urgency)
        if row["state"] in _NEXT
    ]
    return steps[:20] or ["nothing is left to do"]


def _lesson(row: Row) -> dict[str, Any]:
    return {
        "task": name("T", row["id"]),
        "attempts": row["attempts"],
        "code": row["code"],
        "said": cut(row["feedback"] or row["error"] or row["reason"] or "", _SAID),
    }


def _results(tx: Transaction, tasks: list[int]) -> list[dict[str, Any]]:
    return [artifacts.facts(row) for row in tx.all("artifacts_of", ids=tasks)][-NAMED:]


# -- words --------------------------------------------------------------------------------------


def _section(heading: str, lines: Sequence[str], mark: str = "##") -> str:
    return "\n".join([f"{mark} {heading}", "", *(f"- {line}" for line in lines)]) if lines else ""


def plain(text: str) -> str:
    """Somebody's words as they can stand in a line of a page."""
    words = " ".join(text.split())
    return cut(words, _LINE).replace("<", "&lt;").replace("[", "\\[").replace("`", "'")
