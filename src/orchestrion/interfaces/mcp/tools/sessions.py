"""Tools about sessions: begin, list, resume, look at, clean up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrion.core.errors import NotFound, OrchestrionError
from orchestrion.interfaces.mcp.desk import ONLY_READS, ToolCall
from orchestrion.interfaces.mcp.replies import fitted, page, shortened, size
from orchestrion.interfaces.mcp.tools import shapes

if TYPE_CHECKING:
    from orchestrion.orchestrator import Orchestrator

#: Files that make a folder look like somebody's project.
MARKERS = (
    "pyproject.toml",
    "setup.py",
    "package.json",
    "Cargo.toml",
    "go.mod",
    "pom.xml",
    "build.gradle",
    "CMakeLists.txt",
    "Gemfile",
    "composer.json",
    "Makefile",
    "requirements.txt",
    "Dockerfile",
    ".vscode",
    ".idea",
    "README.md",
)
#: Bytes of the text that tells what is going on.
_PRIME = 1800


def initialize(call: ToolCall) -> dict[str, Any]:
    """Opens the project and a session in it, and tells what is going on."""
    folder = (call.given["working_directory"] or "").strip()
    created = _is_without_store(call, folder)
    if folder:
        created |= _choose(call, folder)
    project = call.project
    try:
        session, unrecorded = _begin(call, project), ""
    except OrchestrionError as refused:
        if refused.code not in ONLY_READS:
            raise
        session, unrecorded = None, f"no session was recorded: {refused.message}"
    return _welcome(call, project, session, created, unrecorded)


def _is_without_store(call: ToolCall, folder: str) -> bool:
    """Whether a project is there, or a git repository, in which nothing was ever remembered."""
    from orchestrion.core.project import find_project

    start = Path(folder or call.seat.folder or call.desk.folder or Path.cwd())
    try:
        start = start.expanduser()
        return not find_project(start, None, call.desk.environ).store_dir.is_dir()
    except (OrchestrionError, RuntimeError, ValueError):  # which choosing it says
        return False


def _choose(call: ToolCall, folder: str) -> bool:
    """Takes the folder that the client named; whether it had to be made a project first."""
    try:
        call.desk.choose(call.seat, folder)
    except NotFound as problem:
        if problem.code != "no_project" or call.desk.confined:
            raise
        _make_project(Path(folder).expanduser(), problem)
        call.desk.choose(call.seat, folder)
        return True
    return False


def _make_project(folder: Path, problem: NotFound) -> None:
    """An existing folder that a client named outright becomes a project, unless it holds everything there is."""
    if folder.resolve() in (Path("/"), Path.home().resolve()):
        raise problem
    from orchestrion.orchestrator import Orchestrator

    Orchestrator.init(folder)


def _begin(call: ToolCall, project: Orchestrator) -> Mapping[str, Any]:
    seat = call.seat
    session = project.start_session(
        call.given["session_name"] or "",
        client=seat.client,
        external=seat.external or None,
        folder=str(project.project.root),
        fresh=bool(call.given["force_new_session"]),
    )
    if seat.external:
        seat.sit(session)
    return session


def _welcome(
    call: ToolCall, project: Orchestrator, session: Mapping[str, Any] | None, created: bool, unrecorded: str
) -> dict[str, Any]:
    root = project.project.root
    roles = {role["name"]: _task_of(role["role_definition"]) for role in project.roles()}
    active = project.list_tasks(states=["in_progress", "review", "blocked", "failed"], limit=20).as_json("tasks")
    said = project.prime(session=session["id"] if session else None, budget_tokens=_PRIME // 4)
    held = project.held_by_clients(session=session["id"]) if session and not project.caller.run else []
    mine, others = ([one["said"] for one in held if one["is_own"] is own] for own in (True, False))
    reply: dict[str, Any] = {
        "status": "session_initialized" if session else "not_recorded",
        "session_initialized": session is not None,
        "session_id": session["id"] if session else None,
        "session_name": session["name"] if session else None,
        "resumed": session is not None and session["resumed"],
        "working_directory": str(root),
        "detection": {
            "method": _method(call, project),
            "project_markers": [one for one in MARKERS if (root / one).exists()],
            "git_root": str(project.project.git_root) if project.project.git_root else None,
            "created": created,
        },
        "database_status": {"connected": True, **project.schema()},
        "specialist_roles": roles,
        "active_tasks": [shapes.brief_task(one) for one in active["tasks"]],
        "active_total": active["total"],
        "next_steps": [call.advised(step) for step in [*mine[:3], *_next_steps(project, unrecorded), *others[:3]]],
        "instructions": call.advised(said),
    }
    if session and not call.seat.external:
        reply["next_steps"].insert(
            0, f"name session={session['id']} in each call: your connection has no id of its own"
        )
    return fitted(reply, ("active_tasks",), ("instructions",))


def _next_steps(project: Orchestrator, unrecorded: str) -> list[str]:
    recover = "orchestrator_recover_context when you continue earlier work"
    if unrecorded:
        return [f"{unrecorded}; reading works", recover]
    if project.caller.run:
        return ["do the task of your run; orchestrator_complete_task reports it", recover]
    return [
        "orchestrator_plan_task for each step, with dependencies",
        "orchestrator_execute_task claims one; orchestrator_complete_task reports it",
        recover,
    ]


def _task_of(definition: str) -> str:
    """What a role does: the sentence after the one that says its name."""
    who, _, rest = definition.partition(". ")
    return (rest or who).partition(". ")[0][:90]


def _method(call: ToolCall, project: Orchestrator) -> str:
    if call.given["working_directory"]:
        return "working_directory"
    if call.desk.folder:
        return "-C"
    if call.desk.environ.get("ORCHESTRION_PROJECT"):
        return "ORCHESTRION_PROJECT"
    return "git" if project.project.git_root else "marker"


def listing(call: ToolCall) -> dict[str, Any]:
    """Sessions, those seen last first."""
    given = call.given
    found = call.cases.list_sessions(given["include_completed"], given["limit"], given["offset"])
    reply = {"total_count": found["total"], "limit": given["limit"], "offset": given["offset"]}
    return page(reply, "sessions", map(_session, found["sessions"]), total=found["total"], offset=given["offset"])


def _session(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "session_id": found["id"],
        "name": shortened(found["name"], 80, "orchestrator_session_status"),
        "client": found["client"],
        "status": "completed" if found["state"] == "ended" else "active",
        "working_directory": found["folder"],
        "created_at": found["started_at"],
        "last_activity": found["seen_at"],
        "completed_at": found["ended_at"],
        "summary": shortened(found["summary"], 200, "orchestrator_session_status"),
    }


def detail(call: ToolCall) -> dict[str, Any]:
    """One session, with what it did."""
    found = call.cases.session_detail(call.given["session_id"].strip())
    more = {key: value for key, value in found.items() if key in ("tasks", "decisions", "files", "handoff")}
    return fitted({**_session(found), **more}, ("tasks",), ("summary",))


def resume(call: ToolCall) -> dict[str, Any]:
    """The caller works in an earlier session from now on; tells how it stands."""
    session = call.given["session_id"].strip()
    found = call.cases.resume_session(session, call.seat.external or None)
    if call.seat.external:
        call.seat.sit(found)
    context = found["context"]
    reply = {
        **_session(found),
        "status": "active",
        "resumed": True,
        **({"warning": found["warning"]} if found["warning"] else {}),
        "tasks": found.get("tasks", []),
        "recovery": recovery(call, context),
    }
    return fitted(reply, ("tasks",))


def recovery(call: ToolCall, context: Mapping[str, Any], room: int = 2600) -> dict[str, Any]:
    """What a recovery found, in so many bytes: the facts where they fit, and the text that tells them."""
    lists = {key: value for key, value in context.items() if key != "text" and value not in (None, "", [], {})}
    lists |= {"next_steps": [call.advised(step) for step in context["next_steps"]]}
    text = call.advised(context["text"])
    shown: dict[str, Any] = {"text": text.encode()[: room // 2].decode("utf-8", "ignore")}
    left = []
    for key, value in lists.items():
        if size({**shown, key: value}) <= room:
            shown[key] = value
        else:
            left.append(key)
    return shown | ({"left_out": left} if left else {})


def clean_up(call: ToolCall) -> dict[str, Any]:
    """Ends and removes sessions; a dry run only says which."""
    given = call.given
    done = call.cases.clean_up_sessions(given["cleanup_type"], given["older_than_days"], given["dry_run"])
    ended, removed = done["ended"], done["removed"]
    reply = {
        "status": "cleanup_completed",
        "cleanup_type": given["cleanup_type"],
        "older_than_days": given["older_than_days"],
        "dry_run": given["dry_run"],
        "ended_total": len(ended),
        "removed_total": len(removed),
        "cleaned_up": 0 if given["dry_run"] else len(ended) + len(removed),
        "ended": ended[:200],
        "removed": removed[:200],
    }
    return fitted(reply, ("ended", "removed"))
