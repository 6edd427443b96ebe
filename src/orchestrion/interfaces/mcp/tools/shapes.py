"""How tasks are shown to clients: with the names that they rely on, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrion.interfaces.mcp import vocabulary
from orchestrion.interfaces.mcp.replies import shortened

#: Characters of a description and of a summary in a list, in a reply about one task.
LISTED, ALONE = 160, 900
#: What else a task can be given; shown where it was.
_SET = (
    *("plan", "key", "agent", "run_command", "checks", "setup", "merge", "needs", "tags"),
    *("max_retries", "retry_delay_s", "timeout_s"),
)


def task(found: Mapping[str, Any], most: int = LISTED) -> dict[str, Any]:
    """A task as lists show it: what is not set is left out, long texts are by reference."""
    whole = f"orchestrion://tasks/{found['id']}"
    shown = {
        "id": found["id"],
        "title": shortened(found["title"], most, whole),
        "status": vocabulary.status(found),
        "state": found["state"],
        "description": shortened(found["description"], most, whole),
        "task_type": found["type"],
        "complexity": found["complexity"],
        "specialist_type": vocabulary.specialist(found["role"]),
        "parent_task_id": found["parent"],
        "dependencies": list(dict.fromkeys(found["after"]))[:20],
        "run": found["run"],
        "summary": shortened(found["summary"], most, whole),
        "reason": shortened(found["reason"] or found["error"], most, whole),
        "progress": found["progress"],
        "created_at": found["created_at"],
        "due_date": found["due_at"],
        "completed_at": found["completed_at"],
        "ended_at": None if found["completed_at"] else found["ended_at"],
        "damaged": found.get("damaged"),
    }
    return {key: value for key, value in shown.items() if value not in (None, "", [])}


def whole_task(found: Mapping[str, Any]) -> dict[str, Any]:
    """The common task object: every key is there."""
    return {
        "task_id": found["id"],
        **dict.fromkeys(("parent_task_id", "completed_at", "due_date", "progress"), None),
        "description": "",
        **task(found, ALONE),
        "estimated_effort": None if found["effort_min"] is None else f"{found['effort_min']:.10g} min",
        "priority": found["priority"],
        **{key: found[key] for key in _SET if found[key] not in (None, [], {})},
        "updated_at": found["updated_at"],
        **{key: bounded(found[key], found["id"], ALONE) for key in ("context", "metadata")},
    }


def bounded(value: Mapping[str, Any], task: str, most: int) -> Mapping[str, Any]:
    """Free data of a task, or where all of it is."""
    return value if len(str(value)) < most else {"left_out": f"too long; all: orchestrion://tasks/{task}"}


def brief_task(found: Mapping[str, Any]) -> dict[str, Any]:
    """A task in a word or two."""
    return {
        "id": found["id"],
        "title": shortened(found["title"], 80, f"orchestrion://tasks/{found['id']}"),
        "status": vocabulary.status(found),
        "state": found["state"],
        "specialist_type": vocabulary.specialist(found["role"]),
    }
