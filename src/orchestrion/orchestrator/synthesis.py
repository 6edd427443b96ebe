"""The result of a task, joined from what its subtasks reported; it says honestly what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrion.core.model import name
from orchestrion.core.states import TaskState
from orchestrion.memory import artifacts
from orchestrion.orchestrator import views
from orchestrion.store import Transaction

#: The artifact that holds a synthesis.
SYNTHESIS = "synthesis"


def join(tx: Transaction, task: int) -> dict[str, Any]:
    """The task's result as text, the parts it is made of and those that are missing; kept as an artifact."""
    above = views.task(tx, task).as_json()
    parts = [_part(tx, row["id"]) for row in tx.all("descendants", id=task) if not row["children"]]
    own = not parts
    parts = parts or [_part(tx, task)]
    missing = [part for part in parts if part["state"] != TaskState.COMPLETED]
    text = _synthesis(above, parts)
    return {
        "task": above,
        "own": own,
        "parts": parts,
        "complete": not missing,
        "missing": missing,
        "text": text,
        "artifact": name("A", _kept_once(tx, task, text)),
    }


def _part(tx: Transaction, task: int) -> dict[str, Any]:
    """What one task contributes to a synthesis."""
    row = tx.the("task", id=task)
    kept = [artifacts.facts(one) for one in tx.all("artifacts_of", ids=[task]) if one["name"] != SYNTHESIS]
    return {
        "id": name("T", task),
        "title": row["title"],
        "role": row["role"],
        "state": row["state"],
        "summary": row["summary"],
        "reason": row["reason"] or row["error"],
        "artifacts": kept,
    }


def _synthesis(task: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> str:
    """The joined result as Markdown."""
    done = [part for part in parts if part["state"] == TaskState.COMPLETED]
    missing = [part for part in parts if part["state"] != TaskState.COMPLETED]
    lines = [f"# {task['id']}: {task['title']}", "", f"{len(done)} of {len(parts)} parts are completed."]
    lines += ["", "## Results"] if done else []
    for part in done:
        lines += ["", f"### {part['id']}: {part['title']}", "", part["summary"] or "(nothing was reported)"]
        lines += [f"- {one['id']} {one['name']} ({one['type']}, {one['size']} bytes)" for one in part["artifacts"]]
    lines += ["", "## Missing"] if missing else []
    for part in missing:
        because = f": {part['reason']}" if part["reason"] else ""
        lines.append(f"- {part['id']} {part['title']} is {part['state']}{because}")
    return "\n".join(lines) + "\n"


def _kept_once(tx: Transaction, task: int, text: str) -> int:
    """Number of the artifact that holds ``text``; kept only if the newest version says something else."""
    versions = [row for row in tx.all("artifacts_of", ids=[task]) if row["name"] == SYNTHESIS]
    if versions and tx.the("artifact", id=versions[-1]["id"])["content"] == text:
        return int(versions[-1]["id"])
    return artifacts.keep(tx, task, None, text, called=SYNTHESIS, kind="documentation")
