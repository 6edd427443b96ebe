"""Tools about tasks: plan, query, update, cancel, delete, and where everything stands."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrion.core.errors import IllegalMove, InvalidInput
from orchestrion.core.model import check_moment, iso, moment
from orchestrion.interfaces.mcp import catalogue, vocabulary
from orchestrion.interfaces.mcp.desk import ToolCall
from orchestrion.interfaces.mcp.replies import fitted, page
from orchestrion.interfaces.mcp.tools import shapes
from orchestrion.orchestrator.asking import Question

#: Completed tasks that a status looks at, runs and tasks for a person that it names; subtasks that a new plan names.
COMPLETED, RUNS, NEEDS, SUBTASKS = 50, 10, 8, 100


def plan(call: ToolCall) -> dict[str, Any]:
    """Creates one task."""
    given = call.given
    created = call.cases.add(
        given["title"],
        description=given["description"],
        type=given["task_type"],
        parent=_id(given["parent_task_id"]),
        complexity=given["complexity"],
        role=given["specialist_type"],
        effort_min=vocabulary.minutes(given["estimated_effort"]),
        due_at=_time("due_date", given["due_date"]),
        context=given["context"],
        after=[one.strip() for one in given["dependencies"] or ()],
        data_after=[one.strip() for one in given["data_dependencies"] or ()],
        priority=given["priority"],
        checks=tuple(given["checks"] or ()),
        command=given["run_command"],
        tags=tuple(given["tags"] or ()),
        plan=given["plan"],
        key=given["key"],
    ).as_json()
    shown = shapes.whole_task(created)
    return fitted(
        {
            **shown,
            "operation": "create_task",
            "message": f"{created['id']} is created and {created['state']}",
            "timestamp": created["created_at"],
        },
        ("dependencies",),
        ("description",),
    )


def _id(text: str | None) -> str | None:
    """A task's id as we write it; an empty one is none."""
    return text.strip() if text and text.strip() else None


def _time(name: str, text: str | None) -> int | None:
    """A time in milliseconds; an empty one is none. Raises InvalidInput that names the parameter."""
    if text is None or not text.strip():
        return None
    try:
        at = moment(text)
    except InvalidInput as problem:
        problem.message = f"{name}: {problem.message}"
        raise
    check_moment(name, at)
    return at


def plan_breakdown(call: ToolCall) -> dict[str, Any]:
    """A parent with its subtasks, as older releases had it: all or nothing."""
    subtasks = _subtasks(call.given["subtasks_json"])
    title = call.given["title"] or call.given["description"].strip().splitlines()[0][:200]
    document = {
        "plan": call.cases.config["plan.default"],
        "tasks": [
            {
                "title": title,
                "key": _key("breakdown", time.time_ns()),
                "description": call.given["description"],
                "type": "breakdown",
                "complexity": call.given["complexity_level"],
                "context": {"text": call.given["context"]} if call.given["context"] else {},
                "children": subtasks,
            }
        ],
    }
    applied = call.cases.apply(json.dumps(document).encode(), "subtasks_json")
    ids = list(applied["tasks"].values())
    shown = ({"task_id": one, **shapes.brief_task(call.cases.task(one).as_json())} for one in ids[1 : SUBTASKS + 1])
    return fitted(
        {
            "task_created": True,
            "parent_task_id": ids[0],
            "task_id": ids[0],
            "description": title,
            "complexity": call.given["complexity_level"],
            "next_steps": [
                "orchestrator_execute_task on a subtask that is ready",
                f"orchestrator_query_tasks with parent_task_id {ids[0]} lists all of them",
            ],
            "subtasks_total": len(ids) - 1,
            "subtasks": list(shown),
        },
        ("subtasks",),
    )


def _subtasks(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_subtasks(f"is no JSON: {error}") from error
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise _no_subtasks("is not a list of objects")
    given = [_given(one, place) for place, one in enumerate(found, 1)]
    stem = time.time_ns()
    keys = {one["title"]: _key("sub", stem + place) for place, one in enumerate(given)}
    if len(keys) < len(given):
        raise _no_subtasks("has two subtasks of the same title")
    return [_subtask(one, keys) for one in given]


def _given(sent: Mapping[str, Any], place: int) -> dict[str, Any]:
    """A subtask's values, read as those of a call. Raises InvalidInput that names what is unknown or wrong."""
    from orchestrion.interfaces.mcp import arguments

    return arguments.read(replace(catalogue.SUBTASK, name=f"{catalogue.SUBTASK.name}: subtask {place}"), sent)


def _subtask(given: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """A subtask as a plan file has it."""
    before, data = given["dependencies"] or (), given["data_dependencies"] or ()
    if unknown := [other for other in (*before, *data) if other not in keys]:
        raise _no_subtasks(f"names a dependency {unknown[0][:80]!r} that is no title of a subtask")
    _time("due_date", given["due_date"])
    subtask = {
        "title": given["title"],
        "key": keys[given["title"]],
        "description": given["description"],
        "type": given["task_type"],
        "complexity": given["complexity"],
        "role": given["specialist_type"],
        "effort_min": vocabulary.minutes(given["estimated_effort"]),
        "due": given["due_date"],
        "context": given["context"],
        "priority": given["priority"],
        "check": given["checks"],
        "tags": given["tags"],
        "run": given["run_command"],
        "after": [*(keys[one] for one in before), *({"task": keys[one], "kind": "data"} for one in data)],
    }
    return {key: value for key, value in subtask.items() if value}


def _key(word: str, number: int) -> str:
    return f"{word}-{number:x}"


def _no_subtasks(what: str) -> InvalidInput:
    return InvalidInput(
        f"subtasks_json {what}",
        hint='[{"title": "...", "description": "...", "specialist_type": "coder", "dependencies": ["other title"]}]',
        code="invalid_parameters",
        problems=[{"parameter": "subtasks_json", "problem": what}],
    )


def query(call: ToolCall) -> dict[str, Any]:
    """Tasks that match, as many as there is room for."""
    given = call.given
    found = call.cases.ask(_question(given), limit=given["limit"], offset=given["offset"])
    more: dict[str, dict[str, Any]] = {}
    if given["include_children"] or given["include_artifacts"]:
        more = call.cases.family([task["id"] for task in found["tasks"][:100]])
    shown = [shapes.task(task) | _relatives(given, more.get(task["id"])) for task in found["tasks"]]
    filters = {key: given[key] for key in _FILTERS if given[key] not in (None, False, [])}
    reply = {
        "total_count": found["total"],
        **_pages(given["limit"], given["offset"], found["total"]),
        "offset": given["offset"],
        "limit": given["limit"],
        "filters_applied": filters,
        "query_metadata": {"found": len(found["tasks"])},
    }
    cut = page(reply, "tasks", shown, total=found["total"], offset=given["offset"])
    return {**cut, **_pages(len(cut["tasks"]) if cut["has_more"] else given["limit"], given["offset"], found["total"])}


def _pages(size: int, offset: int, total: int) -> dict[str, int]:
    """Where a page of ``size`` tasks stands: what is before it and what follows, in pages as long as this one."""
    before, behind = -(-min(offset, total) // size), -(-max(0, total - offset) // size)
    return {"page_size": size, "page_count": before + behind, "current_page": before + 1}


_FILTERS = (
    "status",
    "task_type",
    "specialist_type",
    "parent_task_id",
    "complexity",
    "search_text",
    "created_after",
    "created_before",
    "task_id",
    "plan",
)


def _question(given: Mapping[str, Any]) -> Question:
    statuses = given["status"] or ()
    states = vocabulary.states(statuses)
    archived = None
    if vocabulary.ARCHIVED in statuses:
        archived = "also" if states else "only"
    elif given["task_id"]:
        archived = "also"
    roles = given["specialist_type"]
    return Question(
        states=tuple(states) or None,
        archived=archived,
        types=tuple(given["task_type"] or ()) or None,
        roles=None if not roles else tuple("" if role == "generic" else role for role in roles),
        complexities=tuple(given["complexity"] or ()) or None,
        parent=_id(given["parent_task_id"]),
        task=_id(given["task_id"]),
        plan=given["plan"],
        search=given["search_text"],
        created_after=_time("created_after", given["created_after"]),
        created_before=_time("created_before", given["created_before"]),
    )


def _relatives(given: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    if found is None:
        return {}
    shown: dict[str, Any] = {}
    if given["include_children"]:
        shown["children"] = found["children"][:50]
    if given["include_artifacts"]:
        kept = ("id", "name", "type", "size")
        shown["artifacts"] = [{key: one[key] for key in kept} for one in found["artifacts"][:20]]
    return shown


def update(call: ToolCall) -> dict[str, Any]:
    """New values and a new status."""
    given = call.given
    task = given["task_id"].strip()
    fields = _changes(call)
    goal = "review" if given["status"] == "active" else given["status"]
    more, fewer = given["add_dependencies"] or (), given["remove_dependencies"] or ()
    changed = []
    ended = _run_of(call, task) if goal == "cancelled" else {}
    if goal or fields or not (more or fewer):
        changed = _change(call, task, fields, goal)
    for other in more:
        call.cases.add_dependency(task, other)
    for other in fewer:
        call.cases.remove_dependency(task, other)
    changed += ["dependencies"] if more or fewer else []
    shown = shapes.whole_task(call.cases.task(task).as_json())
    names = {field: parameter for parameter, field in catalogue.CLEARED.items()} | {"type": "task_type"}
    applied = sorted(names.get(one, one) for one in changed)
    return fitted({**shown, "changes_applied": applied, **ended}, ("dependencies",), ("description", "summary"))


def _change(call: ToolCall, task: str, fields: Mapping[str, Any], goal: str | None) -> list[str]:
    try:
        return call.cases.change(task, fields, goal, reason=call.given["reason"] or "", run=call.given["run"])
    except InvalidInput as problem:
        if problem.code == "nothing_to_change":
            problem.hint += f", or in clear what is to be emptied: {', '.join(catalogue.CLEARED)}"
        raise
    except IllegalMove as refused:
        facts = refused.details
        if facts["asked"] != goal or goal == call.given["status"]:
            raise
        # In this door's words: what is in review is active here.
        raise IllegalMove(task, facts["found"], call.given["status"], facts["possible"], hint=refused.hint) from refused


def _run_of(call: ToolCall, task: str) -> dict[str, Any]:
    """The run that a task ends when it is cancelled, and whose it is."""
    run = call.cases.task(task).as_json()["run"]
    return {"ended_run": run, "held_by": call.cases.run(run).row["actor"]} if run else {}


def _changes(call: ToolCall) -> dict[str, Any]:
    """The values that were given, and None for what ``clear`` names or an empty text says."""
    given = call.given
    values = {
        "title": given["title"],
        "description": given["description"],
        "role": given["specialist_type"],
        "complexity": given["complexity"],
        "effort_min": vocabulary.minutes(given["estimated_effort"]),
        "due_at": _time("due_date", given["due_date"]),
        "context": given["context"],
        "priority": given["priority"],
        "type": given["task_type"],
        "checks": None if given["checks"] is None else tuple(given["checks"]),
        "tags": None if given["tags"] is None else tuple(given["tags"]),
        "command": given["run_command"],
    }
    emptied = [one for one, field in catalogue.CLEARED.items() if given.get(one) is not None and values[field] is None]
    clear = [*emptied, *(given["clear"] or ())]
    if both := [one for one in clear if values.get(catalogue.CLEARED[one]) is not None]:
        raise InvalidInput(
            f"{', '.join(both)}: a new value, and named in clear", hint="give one of the two", code="invalid_parameters"
        )
    named = {field: value for field, value in values.items() if value is not None}
    return named | {catalogue.CLEARED[one]: None for one in clear}


def cancel(call: ToolCall) -> dict[str, Any]:
    """Gives a task up, and what is below it."""
    task = call.given["task_id"].strip()
    before = call.cases.task(task).as_json()
    reason = call.given["reason"] or "cancelled by a client"
    done = call.cases.cancel_all(task, reason, dependents=call.given["dependents"])
    cancelled = done.task.as_json()
    detail = call.cases.show(task)
    dropped = 0 if call.given["preserve_work"] else call.cases.drop_artifacts(task)
    return fitted(
        {
            "task_id": cancelled["id"],
            "status": "cancelled",
            "state": cancelled["state"],
            "previous_status": vocabulary.status(before),
            "reason": reason,
            "work_preserved": call.given["preserve_work"],
            "artifact_count": len(detail["artifacts"]) - dropped,
            "artifacts_dropped": dropped,
            "branches_kept": [run["branch"] for run in detail["runs"] if run["head_commit"]],
            "dependent_tasks_updated": detail["dependents"],
            "cancelled_with_it_total": len(done.others),
            "cancelled_with_it": done.others[:50],
            "ended_runs": done.ended[:20],
            "cancelled_at": cancelled["ended_at"],
            "message": f"{cancelled['id']} is cancelled; tasks that wait for it are "
            + ("cancelled too" if call.given["dependents"] == "cancel" else "blocked, with the reason"),
        },
        ("dependent_tasks_updated", "branches_kept", "cancelled_with_it", "ended_runs"),
        ("reason",),
    )


def delete(call: ToolCall) -> dict[str, Any]:
    """Takes a task away: archived, or deleted."""
    given = call.given
    done = call.cases.discard(given["task_id"].strip(), force=given["force"], archive_instead=given["archive_instead"])
    return fitted(
        {
            "task_id": given["task_id"].strip(),
            "action": done["action"],
            "action_taken": done["action"],
            "dependent_tasks": done["dependents"],
            "cancelled_with_it_total": len(done["cancelled_with_it"]),
            "cancelled_with_it": done["cancelled_with_it"][:50],
            "warnings": done["warnings"],
            "force_applied": given["force"] and bool(done["dependents"]),
            "metadata": {},
            "message": f"{given['task_id'].strip()} is {done['action']}",
        },
        ("dependent_tasks", "cancelled_with_it"),
    )


def status(call: ToolCall) -> dict[str, Any]:
    """Where everything stands, measured now."""
    given, cases = call.given, call.cases
    found = cases.status()
    offset = given["offset"]
    load = cases.load(completed=COMPLETED if given["include_completed"] else 0, offset=offset)
    held = {one["run"]: one for one in cases.held_by_clients(100)}
    statuses: dict[str, int] = {}
    for state, count in found["tasks"].items():
        word = vocabulary.status_of(state)
        statuses[word] = statuses.get(word, 0) + count
    seat = call.seat
    reply: dict[str, Any] = {
        "session_info": {
            "session_id": cases.store.origin.session,
            "started_at": iso(int(call.desk.started_at * 1000)),
            "uptime_seconds": round(time.time() - call.desk.started_at, 3),
            "client": seat.client,
        },
        "project": cases.project.root.name,
        "total_tasks": sum(found["tasks"].values()),
        "active_tasks": found["tasks"].get("in_progress", 0),
        "task_status": {
            "active": found["tasks"].get("in_progress", 0),
            "completed": found["tasks"].get("completed", 0),
            "ready": found["tasks"].get("ready", 0),
            "tasks_by_status": statuses,
            "tasks_by_state": found["tasks"],
            "tasks_by_specialist": {vocabulary.specialist(role): count for role, count in load["roles"].items()},
        },
        "paused_at": found["paused_at"],
        "runs_total": len(found["runs"]),
        "runs": [_run(run) | _held(held.get(run["id"])) for run in found["runs"][:RUNS]],
        "needs_you_total": found["needs_you_total"],
        "needs_you": [{**one, "reason": (one["reason"] or "")[:120]} for one in found["needs_you"][:NEEDS]],
    }
    reply |= {"performance_metrics": _performance(cases)} if given["include_performance_metrics"] else {}
    reply |= {"resource_usage": _resources(call)} if given["include_resource_usage"] else {}
    reply = fitted(reply, ("runs", "needs_you"))
    if not given["include_completed"]:
        return reply
    total = found["tasks"].get("completed", 0)
    return page(reply, "completed_tasks", map(shapes.brief_task, load["completed"]), total=total, offset=offset)


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("id", "task", "agent", "phase", "duration_s")
    return {key: run[key] for key in kept} | {"title": run["title"][:60]}


def _held(holder: Mapping[str, Any] | None) -> dict[str, Any]:
    """Who holds a run that no supervisor looks after, and until when."""
    kept = ("held_by", "session", "session_seen_at", "lease_until")
    return {key: holder[key] for key in kept if holder[key]} if holder else {}


def _performance(cases: Any) -> dict[str, Any]:
    """What the runs of the last day took."""
    stats = cases.stats(since="24h")
    return {key: value for key, value in stats.items() if key not in ("tools", "by_agent", "by_role", "by_plan")}


def _resources(call: ToolCall) -> dict[str, Any]:
    """What this server uses now."""
    import psutil

    one = psutil.Process()
    with one.oneshot():
        used = one.cpu_times()
        return {
            "pid": os.getpid(),
            "rss_mb": round(one.memory_info().rss / 1e6, 1),
            "cpu_seconds": round(used.user + used.system, 3),
            "threads": one.num_threads(),
            "open_files": one.num_fds(),
            "requests_in_flight": call.desk.in_flight,
        }
