"""Tools that remember: decisions, changed files, and what is needed to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.interfaces.mcp.desk import ToolCall
from orchestrion.interfaces.mcp.replies import fitted, page, shortened
from orchestrion.interfaces.mcp.tools.sessions import recovery

#: Characters of a path in a reply.
_PATH = 160
#: Fields of a decision that are passed on as they are.
_FIELDS = (
    "decision",
    "rationale",
    "context",
    "status",
    "category",
    "impact",
    "alternatives",
    "files",
    "components",
    "trade_offs",
    "risks",
    "criteria",
    "supersedes",
    "refines",
    "reverses",
)


def record_decision(call: ToolCall) -> dict[str, Any]:
    """Records a decision; with ``decision_id`` only its status changes, and whatever else came is refused."""
    given = call.given
    if given["decision_id"]:
        _refuse_besides_status(given, call.cases.decision(given["decision_id"]))
        found = call.cases.change_decision(given["decision_id"], given["status"])
    else:
        found = call.cases.decide(
            **decision_of(given), task=given["task_id"], run=given["run"], session=call.cases.store.origin.session
        )
    return fitted({"decision_id": found["id"], **_decision(found, 600, 20)}, ("files",), ("decision", "rationale"))


def _refuse_besides_status(given: Mapping[str, Any], stands: Mapping[str, Any]) -> None:
    """Title and decision must be named: they are what stands, or ``-``. Raises InvalidInput."""
    others = [field for field in ("title", "decision") if given[field] not in ("-", stands[field])]
    others += [
        field
        for field in (*_FIELDS, "task_id", "run")
        if field not in ("decision", "status") and given[field] is not None
    ]
    if others:
        raise InvalidInput(
            f"of {stands['id']} only the status can change, and there came {', '.join(others)}",
            hint=f'leave it out (title and decision: "-"), or record a new one with supersedes: "{stands["id"]}"',
            code="invalid_parameters",
        )


def decision_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """A decision as the use case takes it."""
    if not str(given.get("title") or "").strip():
        raise InvalidInput("a decision needs a title", hint="say it in a few words", code="invalid_title")
    return {"title": given["title"]} | {field: given[field] for field in _FIELDS if given.get(field) is not None}


def _decision(found: Mapping[str, Any], most: int, files: int) -> dict[str, Any]:
    """A decision with its texts and its list of files cut; the resource has all of it."""
    whole = f"orchestrion://decisions/{found['id']}"
    shown = {
        "id": found["id"],
        "title": shortened(found["title"], 160, whole),
        "status": found["status"],
        "category": found["category"],
        "impact": found["impact"],
        "decision": shortened(found["decision"], most, whole),
        "rationale": shortened(found["rationale"], most, whole),
        "files": [file[:_PATH] for file in found["files"][:files]],
        "task": found["task"],
        "replaces": found.get("replaces"),
        "created_at": found["created_at"],
        "resource": whole,
    }
    return {key: value for key, value in shown.items() if value not in (None, "", [])}


def search_decisions(call: ToolCall) -> dict[str, Any]:
    """Decisions that match, newest first."""
    given = call.given
    if given["task_id"]:
        call.cases.task(given["task_id"])
    found = call.cases.decisions(
        given["search_text"],
        category=given["category"],
        impact=given["impact"],
        file=given["file"],
        status=given["status"],
        task=given["task_id"],
        limit=given["limit"],
        offset=given["offset"],
    )
    shown = [_decision(one, 240, 5) for one in found["decisions"]]
    reply: dict[str, Any] = {"total_count": found["total"]}
    return page(reply, "decisions", shown, total=found["total"], offset=given["offset"])


def track_files(call: ToolCall) -> dict[str, Any]:
    """Records changed files, and holds what is recorded against the disk or git."""
    given, cases = call.given, call.cases
    session = cases.store.origin.session
    run = given["run"] or (None if given["task_id"] else cases.caller.run)
    changes = [_change(one) for one in given["files"] or ()]
    found: dict[str, Any] = {}
    if changes:
        found = cases.report_changed(changes, task=given["task_id"], run=run, session=session)
    if given["verify"] or not changes:
        task = given["task_id"] or (f"T{cases.run(run).row['task']}" if run else None)
        if task is None and session is None:
            raise InvalidInput(
                "orchestrator_track_files: whose files?",
                hint="give files, or name task_id, run or session",
                code="invalid_parameters",
                problems=[{"parameter": "files", "problem": "is required, unless task_id or run is named"}],
            )
        found = cases.verify(task, None if task else session, offset=given["offset"])
    else:
        found = {**found, "total": len(found["files"]), "files": found["files"][given["offset"] :]}
    reply: dict[str, Any] = {"verification_status": found["status"], "reported": len(changes)}
    reply["total_count"] = found["total"]
    if not found["total"]:
        reply["note"] = "no file is recorded: there was nothing to verify"
    return page(reply, "files", map(_file, found["files"]), total=found["total"], offset=given["offset"])


def _change(one: Mapping[str, Any]) -> dict[str, Any]:
    known = {"path", "op", "operation", "old_path"}
    unknown = sorted(set(one) - known)
    if unknown:
        raise InvalidInput(
            f"orchestrator_track_files: files: {unknown[0]!r} is not a field of a file",
            hint="path, operation (created, modified, deleted, moved, copied), old_path",
            code="invalid_parameters",
            problems=[{"parameter": "files", "problem": f"has the unknown field {unknown[0]!r}"}],
        )
    op = one.get("operation") or one.get("op")
    return {"path": one.get("path"), "op": op, "old_path": one.get("old_path")}


def _file(one: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        key: one.get(key) for key in ("path", "op", "status", "detail", "old_path", "sha256", "size", "task", "run")
    }
    return {key: value for key, value in shown.items() if value is not None}


def recover(call: ToolCall) -> dict[str, Any]:
    """What is needed to go on with a task, a session, or the project."""
    given, cases = call.given, call.cases
    about = given["task_id"] or given["session_id"]
    left: dict[str, Any] = {}
    if given["handoff"]:
        left = cases.handoff(task=given["task_id"], session=given["session_id"], text=given["handoff"])
    reply: dict[str, Any] = {"handoff_id": left.get("id")} if left else {}
    if about:
        return {**reply, "context_of": about.strip(), **recovery(call, cases.recover(about.strip()), 3600)}
    said = cases.prime(session=cases.store.origin.session, budget_tokens=900)
    return {**reply, "context_of": cases.project.root.name, "text": call.advised(said)}
