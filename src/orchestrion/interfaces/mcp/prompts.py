"""Prompts: what a person has a client begin with. Each is written with what is true now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.interfaces.mcp import advice

if TYPE_CHECKING:
    from orchestrion.interfaces.mcp.desk import Desk, Seat
    from orchestrion.orchestrator import Orchestrator

PROMPTS: tuple[dict[str, Any], ...] = (
    {
        "name": "plan",
        "description": "Break a goal into tasks with dependencies",
        "arguments": [{"name": "goal", "description": "What is to be reached", "required": True}],
    },
    {
        "name": "work-next",
        "description": "Do the next ready task",
        "arguments": [{"name": "role", "description": "Only tasks of this role", "required": False}],
    },
    {
        "name": "review",
        "description": "Review a task's work",
        "arguments": [{"name": "task", "description": "As T12; all in review if left out", "required": False}],
    },
    {
        "name": "handoff",
        "description": "Leave what the next session needs",
        "arguments": [{"name": "note", "description": "What to say besides", "required": False}],
    },
)
BY_NAME: dict[str, dict[str, Any]] = {one["name"]: one for one in PROMPTS}


def write(desk: Desk, seat: Seat, name: str, given: Mapping[str, str]) -> str:
    """The text of a prompt. Raises NotFound, InvalidInput."""
    prompt = BY_NAME.get(name)
    if prompt is None:
        raise NotFound(f"there is no prompt {name[:80]!r}", hint=f"there are {', '.join(BY_NAME)}", code="no_prompt")
    known = {one["name"]: one["required"] for one in prompt["arguments"]}
    wrong = [one for one in given if one not in known]
    wrong += [one for one, required in known.items() if required and not given.get(one, "").strip()]
    if wrong:
        raise InvalidInput(
            f"prompt {name}: {wrong[0][:60]!r} is missing or not one of its arguments",
            hint=f"it takes {', '.join(known)}",
            code="invalid_parameters",
        )
    return _WRITERS[name](desk.project(seat.folder), given, desk.profile)


def _plan(cases: Orchestrator, given: Mapping[str, str], profile: str) -> str:
    roles = ", ".join(role["name"] for role in cases.roles())
    return (
        f"Plan this: {given['goal']}\n\n"
        "Look at the repository first. Then create one task for each step with orchestrator_plan_task: a parent for "
        "the goal, children with parent_task_id, dependencies between those that build on each other, none between "
        f"those that can be done at once. Roles: {roles}. Say in each description how one will see that it is done. "
        "Record decisions that others rely on with orchestrator_record_decision. Show the plan when it is made.\n\n"
        f"{advice.for_client(cases.prime(budget_tokens=600), profile)}"
    )


def _work_next(cases: Orchestrator, given: Mapping[str, str], profile: str) -> str:
    role = given.get("role", "").strip()
    wanted = cases.role_name(role) if role else None
    ready = cases.ready(limit=5).as_json("tasks")["tasks"]
    fitting = [task for task in ready if not role or task["role"] == (wanted or None)]
    listed = "\n".join(f"- {task['id']} {task['title']}" for task in fitting) or "- none is ready"
    return (
        "Take the first of these tasks with orchestrator_execute_task, do it as its context says, and report it with "
        "orchestrator_complete_task, naming the run. If it cannot be done, say why with next_action blocked.\n\n"
        f"Ready now:\n{listed}"
    )


def _review(cases: Orchestrator, given: Mapping[str, str], profile: str) -> str:
    task = given.get("task", "").strip()
    states = ["review"]
    tasks = (
        [cases.task(task).as_json()] if task else cases.list_tasks(states=states, limit=10).as_json("tasks")["tasks"]
    )
    listed = "\n".join(f"- {one['id']} {one['title']} ({one['state']}): {one['summary'] or ''}" for one in tasks)
    return (
        f"Review this work:\n{listed or '- nothing waits for a review'}\n\n"
        "Read each task (orchestrion://tasks/ID), the diff of its run (orchestrion://runs/ID/diff) and its files. "
        "Accept it with orchestrator_update_task status completed, or send it back with status pending and a reason "
        "that says what is to be changed."
    )


def _handoff(cases: Orchestrator, given: Mapping[str, str], profile: str) -> str:
    return (
        "End this session so that the next one loses nothing: report what you hold with orchestrator_complete_task and "
        "the files that you changed (file_paths), or give it back with orchestrator_update_task status pending; record "
        "decisions that are not recorded yet with orchestrator_record_decision; then call "
        "orchestrator_recover_context with handoff saying what was done, what is open and what to do first. "
        f"{given.get('note', '')}\n\n{advice.for_client(cases.prime(budget_tokens=600), profile)}"
    )


_WRITERS: dict[str, Callable[[Orchestrator, Mapping[str, str], str], str]] = {
    "plan": _plan,
    "work-next": _work_next,
    "review": _review,
    "handoff": _handoff,
}
