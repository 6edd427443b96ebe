"""Tools for doing the work: take a task up, report it, join what was reported."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.core.states import in_words
from orchestrion.core.values import count
from orchestrion.interfaces.mcp import vocabulary
from orchestrion.interfaces.mcp.desk import ToolCall
from orchestrion.interfaces.mcp.replies import fitted, pages, shortened
from orchestrion.interfaces.mcp.tools import shapes

_NEXT_STEPS = {
    "complete": "orchestrator_execute_task on the recommended task, or orchestrator_query_tasks",
    "continue": "orchestrator_execute_task on the recommended task",
    "needs_revision": "a person approves or rejects it; go on with another task",
    "blocked": "somebody answers; go on with another task",
}
_INSIDE_A_RUN = "this run does one task: conclude; its work is taken as you leave it when you end"


def execute(call: ToolCall) -> dict[str, Any]:
    """Claims a task and gives what is needed to do it."""
    return _taken(call.cases.take_up(call.given["task_id"].strip(), run=call.given.get("run")), call)


def claim(call: ToolCall) -> dict[str, Any]:
    """Claims the best ready task."""
    given = call.given
    roles = [given["specialist_type"]] if given["specialist_type"] else []
    return _taken(call.cases.take_next(roles=roles, agent=given["agent"], tag=given["tag"]), call)


def _taken(found: Mapping[str, Any], call: ToolCall) -> dict[str, Any]:
    task, run, role = found["task"], found["run"], found["role"]
    whole = f"orchestrion://briefs/{run['id']}"
    hard = [one for one in found["dependencies"] if one["kind"] != "soft"]
    reply = {
        "status": "ready_for_execution",
        "run": run["id"],
        "lease_until": run["lease_until"],
        "again": found["again"],
        "task_id": task["id"],
        "task_title": task["title"],
        "task_status": vocabulary.status(task),
        "task_description": shortened(task["description"], 1000, f"orchestrion://tasks/{task['id']}"),
        "specialist_type": vocabulary.specialist(task["role"]),
        "specialist_context": _context(role, whole),
        "specialist_prompts": [shortened(line, 200, whole) for line in (role["approach"] if role else ())][:6],
        "execution_instructions": [
            f"Report with orchestrator_complete_task, naming the run {run['id']}.",
            f"It is yours until {run['lease_until']}; this call again, or naming {run['id']} in another, renews that.",
        ],
        "checks": task["checks"],
        "context": shapes.bounded(task["context"], task["id"], 600),
        "dependencies_completed": all(one["met"] for one in hard),
        "dependencies": [_dependency(one) for one in found["dependencies"]],
        "feedback": shortened(found["feedback"], 500, whole),
        "handoffs": [{**one, "text": shortened(one["text"], 500, whole)} for one in found["handoffs"]],
        "files_left": found["files"][:20],
        "earlier_failures": [{**one, "error": shortened(one["error"], 200, whole)} for one in found["failures"][:3]],
        "estimated_effort": None if task["effort_min"] is None else f"{task['effort_min']:.10g} min",
        "brief": whole,
        "next_steps": ["do the work", f"read {whole} for all of the brief", "orchestrator_complete_task"],
    }
    if "warning" in found:
        reply["warning"] = call.advised(found["warning"], task=task["id"])
    lists = ("dependencies", "specialist_prompts", "files_left", "handoffs", "checks")
    cut = fitted(reply, lists, ("task_description", "feedback"))
    if not call.given.get("include_brief"):
        return cut
    return {**cut, "brief_text": call.cases.brief_of(run["id"], partial(call.advised, task=task["id"]))}


def _context(role: Mapping[str, Any] | None, whole: str) -> dict[str, Any]:
    if role is None:
        return {}
    return {
        "role": role["name"],
        "definition": shortened(role["role_definition"], 500, whole),
        "expertise": [line[:120] for line in role["expertise"]][:6],
        "output_format": shortened(role["output_format"], 200, whole),
    }


def _dependency(one: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        "id": one["id"],
        "title": one["title"][:80],
        "status": vocabulary.status_of(one["state"]),
        "met": one["met"],
        "kind": one["kind"],
        "summary": shortened(one["summary"], 300, f"orchestrion://tasks/{one['id']}"),
        "artifacts": one["artifacts"][:10],
    }
    return shown | ({"waived": True} if one["waived"] else {})


def complete(call: ToolCall) -> dict[str, Any]:
    """Reports a task as done."""
    from orchestrion.interfaces.mcp import arguments
    from orchestrion.interfaces.mcp.catalogue import DECISION
    from orchestrion.interfaces.mcp.tools.memory import decision_of

    given = call.given
    if not given["summary"].strip():
        raise InvalidInput(
            "orchestrator_complete_task: summary is empty",
            hint="say in a sentence what was done",
            code="invalid_parameters",
            problems=[{"parameter": "summary", "problem": "is empty"}],
        )
    decided = [decision_of(arguments.read(DECISION, one)) for one in given.get("decisions") or ()]
    call.report(0, 2, "verifying files and running checks")
    outcome = call.cases.report(
        given["task_id"].strip(),
        given["summary"],
        run=given["run"],
        detail=given["detailed_work"],
        kind=given["artifact_type"],
        files=given["file_paths"] or (),
        further=given["legacy_artifacts"] or (),
        decided=decided,
        next_action=given["next_action"],
    )
    call.report(2, 2, "settled")
    return _reported(call, outcome)


def _reported(call: ToolCall, outcome: Mapping[str, Any]) -> dict[str, Any]:
    task, run, following = outcome["task"], outcome["run"], outcome["next"]
    kept = outcome["artifacts"]
    may_go_on = call.project.caller.may("claim")
    reply: dict[str, Any] = {
        "status": "success",
        "task_id": task["id"],
        "task_status": vocabulary.status(task),
        "state": task["state"],
        "run": run["id"],
        "summary": shortened(call.given["summary"], 400, f"orchestrion://tasks/{task['id']}"),
        "reason": shortened(task["reason"], 400, f"orchestrion://tasks/{task['id']}"),
        "artifact_count": len(kept),
        "artifact_references": [_reference(one) for one in kept],
        "next_action": call.given["next_action"],
        "completion_time": task["completed_at"],
        "unblocked": outcome["unblocked"],
        "unblocked_total": outcome["unblocked_total"],
        "parent_task_progress": outcome["parent"],
        "next_recommended_task": shapes.brief_task(following) if following and may_go_on else None,
        "next_steps": [_NEXT_STEPS[call.given["next_action"]] if may_go_on else _INSIDE_A_RUN],
        "message": _message(outcome),
    }
    reply |= {"decisions": outcome["decisions"]} if outcome["decisions"] else {}
    reply |= {key: outcome[key] for key in ("recorded", "verification") if key in outcome}
    return fitted(reply, ("artifact_references", "unblocked"), ("summary", "reason"))


def _reference(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": one["id"],
        "type": one["type"],
        "name": one["name"],
        "size": one["size"],
        "path": f"orchestrion://artifacts/{one['id']}",
    }


def _message(outcome: Mapping[str, Any]) -> str:
    task = outcome["task"]
    if "recorded" in outcome:
        return f"{task['id']}: the report is recorded; {outcome['recorded']}"
    if task["state"] == "completed":
        return f"{task['id']} is completed; {count(outcome['unblocked_total'], 'task')} became ready"
    return f"{task['id']} is {in_words(task['state'])}" + (f": {task['reason']}"[:300] if task["reason"] else "")


def complete_subtask(call: ToolCall) -> dict[str, Any]:
    """As older releases reported: ``results`` and ``artifacts`` instead of the detailed work."""
    given = call.given
    given["detailed_work"] = given["detailed_work"] or given["results"] or ""
    given["legacy_artifacts"] = [*(given["legacy_artifacts"] or ()), *(given["artifacts"] or ())]
    return complete(call)


def synthesize(call: ToolCall) -> dict[str, Any]:
    """Joins what a task's subtasks reported."""
    found = call.cases.synthesize(call.given["parent_task_id"].strip())
    task, parts = found["task"], found["parts"]
    done = [part for part in parts if part["state"] == "completed"]
    artifacts = [one for part in parts for one in part["artifacts"]]
    whole = f"orchestrion://artifacts/{found['artifact']}"
    reply: dict[str, Any] = {
        "synthesis_complete": found["complete"],
        "parent_task_id": task["id"],
        "task_title": task["title"][:120],
        "task_description": shortened(task["description"], 300, f"orchestrion://tasks/{task['id']}"),
        "status": vocabulary.status(task),
        "state": task["state"],
        "completed_subtasks": 0 if found["own"] else len(done),
        "total_subtasks": 0 if found["own"] else len(parts),
        "synthesis": {
            "overview": f"{len(done)} of {len(parts)} parts are completed"
            + ("" if found["complete"] else f"; {len(found['missing'])} are missing"),
            "report": whole,
            "next_steps": _left(found),
        },
        "artifacts": {
            "total": len(artifacts),
            "access_instructions": f"read {whole} for the whole report, orchestrion://artifacts/A1 for one result",
            "created": [one["id"] for one in artifacts[:40]],
        },
        "missing_total": len(found["missing"]),
        "missing": [],
        "key_deliverables": [],
    }
    deliverables = [
        {"task_id": part["id"], "title": part["title"][:80], "summary": shortened(part["summary"], 240, whole)}
        for part in done
    ]
    listed = [("missing", _missing(part)) for part in found["missing"]]
    listed += [("key_deliverables", one) for one in deliverables]
    return pages(reply, listed[call.given["offset"] :], total=len(listed), offset=call.given["offset"])


def _left(found: Mapping[str, Any]) -> list[str]:
    if found["complete"]:
        return ["nothing is missing"]
    return [f"{part['id']} is {in_words(part['state'])}" for part in found["missing"][:5]]


def _missing(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task_id": part["id"],
        "title": part["title"][:80],
        "status": vocabulary.status_of(part["state"]),
        "reason": (part["reason"] or "")[:160] or None,
    }
