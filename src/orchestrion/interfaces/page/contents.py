"""What each view shows: facts that the use cases gave, under the names that its template knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrion.core.errors import DamagedRow, InvalidInput, NotFound
from orchestrion.interfaces.page import board, charts, deeds, graph, patch, timeline, transcript
from orchestrion.memory.decisions import changes_of
from orchestrion.orchestrator import Orchestrator

#: So many lines of a history, and files of a run, are shown.
HISTORY, FILES = 200, 300
#: The board names so many alerts; the view of health has them all.
ALERTS = 3
#: The timeline shows so many runs.
RUNS = 300

#: Filters of a view by their names; an absent one is empty.
Asked = Mapping[str, str]
Found = dict[str, Any]


def of_board(cases: Orchestrator, asked: Asked, shown: Mapping[str, int], may_act: bool) -> Found:
    """``shown``: column -> how many of its tasks."""
    found = cases.board(search=asked["q"], plan=asked["plan"], role=asked["role"], shown=shown)
    return {
        "board": found,
        "columns": board.columns(found, may_act),
        "asks": board.asks(found, may_act),
        "alerts": cases.alerts(unclosed=True, limit=ALERTS),
        "asked": asked,
    }


def of_graph(cases: Orchestrator, asked: Asked) -> Found:
    """The graph of one plan, or of all."""
    whole = cases.graph(asked["plan"] or None, "json")
    standing = cases.status()
    assert isinstance(whole, Mapping)
    titles = {task["id"]: task for task in whole["tasks"]}
    return {
        "asked": asked,
        "picture": graph.picture(whole, standing["runs"], asked["q"]),
        "path": [titles[one] for one in whole["critical_path"]][: graph.DRAWN],
        "speed_up": whole["speed_up"],
        "left": sum(map(len, whole["parallel_groups"])),
        "dead_ends": whole["dead_ends"],
        "plans": [one["plan"] for one in standing["plans"]],
        "total": len(whole["tasks"]),
    }


def of_timeline(cases: Orchestrator, asked: Asked) -> Found:
    """Runs by when they worked."""
    found = cases.timeline(
        since=asked["since"], plan=asked["plan"], agent=asked["agent"], search=asked["q"], limit=RUNS
    )
    return {
        "asked": asked,
        "found": found,
        "lanes": timeline.lanes(found),
        "axis": timeline.axis(found),
        "spans": timeline.SPANS,
    }


def of_statistics(cases: Orchestrator, asked: Asked) -> Found:
    """Success, time and cost."""
    plan = asked["plan"] or None
    return {
        "asked": asked,
        "stats": cases.stats(since=asked["since"], plan=plan),
        "series": charts.series(cases.trend(since=asked["since"], plan=plan)),
        "plans": [one["plan"] for one in cases.status()["plans"]],
        "spans": timeline.SPANS,
        "widest": charts.widest,
    }


def of_health(cases: Orchestrator) -> Found:
    """Every component, service level, limit and alert."""
    return {
        "health": cases.health(),
        "levels": cases.service_levels()["levels"],
        "limits": cases.limits_in_force(),
        "alerts": cases.alerts(limit=20),
        "open_alerts": cases.alerts(unclosed=True, limit=1)["total"],
    }


def of_task(cases: Orchestrator, task: str, may_act: bool) -> Found:
    """One task with all that is known of it."""
    found = cases.show(task)
    return {
        "task": found,
        "why": cases.why(task)["reasons"],
        "related": _related(cases, found),
        "brief": _brief(cases, task),
        "decisions": cases.decisions(task=task, limit=50)["decisions"],
        "files": cases.task_files(task),
        "history": cases.events(task=task, limit=HISTORY),
        "buttons": _task_buttons(found) if may_act else [],
    }


def _brief(cases: Orchestrator, task: str) -> str | None:
    """What its agent is told; why that cannot be said, of a task that somebody bent."""
    try:
        return cases.brief_of_task(task)
    except DamagedRow as damaged:
        return f"{damaged.message}\n{damaged.hint}"


def of_run(cases: Orchestrator, run: str, may_act: bool) -> Found:
    """One run with the end of its log."""
    found = cases.run_detail(run)
    files = cases.files_of(run)
    task = cases.show(found["task"])
    page = cases.log_tail(run)
    active = found["ended_at"] is None
    return {
        "run": found,
        "task": task,
        "files": files[:FILES],
        "files_total": max(len(files), found["files_changed"] or 0),
        "steps": task["steps"] if found["remedy"] else [],
        "log": page,
        "entries": transcript.entries(page["lines"], plain=page["plain"]),
        "buttons": _run_buttons(found, task, active) if may_act else [],
        "active": active,
    }


def of_log(cases: Orchestrator, run: str, offset: int) -> Found:
    """A page of a log, from ``offset`` in bytes."""
    page = cases.log_tail(run, offset)
    return {"log": page, "entries": transcript.entries(page["lines"], plain=page["plain"])}


def of_diff(cases: Orchestrator, run: str, skip: int) -> Found:
    """Files of a run's diff behind the first ``skip``; ``files`` is None while it has committed nothing."""
    try:
        page = cases.run_diff(run).page(replace(patch.BOUNDS, skip=skip))
    except NotFound as problem:
        if problem.code != "no_commits":
            raise
        return {"files": None, "active": cases.run(run).row["ended_at"] is None}
    return {"run": run, "files": [patch.file(one) for one in page], "skip": skip, "page": page}


def of_decisions(cases: Orchestrator, asked: Asked, limit: int) -> Found:
    """Decisions, newest first."""
    status, impact = asked["status"] or None, asked["impact"] or None
    found = _decisions(cases, asked["q"], status=status, impact=impact, limit=limit)
    return {"asked": asked, "found": found, "limit": limit}


def of_decision(cases: Orchestrator, name: str) -> Found:
    """A decision, and what later ones do to it."""
    decision = cases.decision(name)
    return {"decision": decision, "changes": changes_of(decision)}


def of_search(cases: Orchestrator, text: str) -> list[dict[str, str]]:
    """Tasks and decisions that answer the search of the bar."""
    columns = cases.board(search=text, shown=dict.fromkeys(board.HEADINGS, 6))["columns"]
    tasks = [task for column in columns.values() for task in column["tasks"]][:12]
    decisions = _decisions(cases, text, limit=6)["decisions"]
    return [_hit("tasks", one, one["state"]) for one in tasks] + [
        _hit("decisions", one, one["status"]) for one in decisions
    ]


def _decisions(cases: Orchestrator, search: str, **asked: Any) -> dict[str, Any]:
    """As the use case; while no word has been written yet, nothing matches."""
    try:
        return cases.decisions(search or None, **asked)
    except InvalidInput as problem:
        if problem.code != "invalid_search":
            raise
        return {"decisions": [], "total": 0, "next_cursor": None}


def _hit(kind: str, one: Mapping[str, Any], state: str) -> dict[str, str]:
    return {"path": f"/{kind}/{one['id']}", "id": one["id"], "title": one["title"], "state": state}


def _related(cases: Orchestrator, task: Mapping[str, Any]) -> dict[str, Any]:
    """Titles and states of the tasks that a task names."""
    named = [task["parent"], *task["children"][:50], *task["dependents"][:50]]
    named += [edge["on"] for edge in task["edges"] if edge["on"].startswith("T")][:100]
    return {one: cases.task(one).as_json() for one in dict.fromkeys(named) if one}


def _task_buttons(task: Mapping[str, Any]) -> list[deeds.Button]:
    gates = [gate for gate in task["gates"] if gate["state"] == "open"]
    supervised = any(run["supervised"] for run in task["runs"] if run["id"] == task["run"])
    return deeds.for_task(
        task["id"], task["state"], gates, task["run"], supervised=supervised, has_session=_has_session(task)
    )


def _has_session(task: Mapping[str, Any]) -> bool:
    return any(run["session_id"] for run in task["runs"])


def _run_buttons(run: Mapping[str, Any], task: Mapping[str, Any], active: bool) -> list[deeds.Button]:
    if active:
        return deeds.for_run(run["id"], supervised=run["supervised"])
    offered = deeds.for_task(task["id"], task["state"], has_session=_has_session(task))
    return offered if task["state"] in ("failed", "review") else []
