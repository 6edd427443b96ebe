"""Every tool there is, as data: its name, its parameters, what it does to the world, where its function lies.

The names, parameters, enums and defaults of the first orchestrator's tools are kept, and those
of its older releases are understood as hidden aliases. The profile ``core`` lists what an agent
needs all day in the fewest characters, ``full`` lists everything; a tool that is not listed may
be called all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

PREFIX = "orchestrator_"
PROFILES = ("core", "full")

STATUSES = ("pending", "active", "in_progress", "blocked", "completed", "failed", "cancelled", "archived")
TYPES = (
    "standard",
    "breakdown",
    "milestone",
    "review",
    "approval",
    "research",
    "implementation",
    "testing",
    "documentation",
    "deployment",
    "custom",
)
COMPLEXITIES = ("trivial", "simple", "moderate", "complex", "very_complex")
SPECIALISTS = (
    "analyst",
    "coder",
    "tester",
    "documenter",
    "reviewer",
    "architect",
    "devops",
    "researcher",
    "coordinator",
    "generic",
)
ARTIFACTS = ("code", "documentation", "analysis", "design", "test", "config", "general")
NEXT = ("continue", "needs_revision", "blocked", "complete")
DECISION_STATUSES = ("proposed", "accepted", "implemented", "superseded", "rejected")
#: Those that one may be recorded with: another decision supersedes it.
NEW_STATUSES = tuple(status for status in DECISION_STATUSES if status != "superseded")
IMPACTS = ("critical", "high", "medium", "low")
OPERATIONS = ("created", "modified", "deleted", "moved", "copied")


#: Kinds that are lists -> what JSON Schema calls an entry.
LISTS: dict[str, str | list[str]] = {"strings": "string", "objects": "object", "entries": ["string", "object"]}


@dataclass(frozen=True)
class Param:
    """One parameter of a tool."""

    name: str
    #: ``string``, ``boolean``, ``integer``, ``object``, ``strings`` (a list of texts) or ``objects``.
    kind: str = "string"
    #: Values that are understood; empty: any. Roles are open: a project has its own.
    choices: tuple[str, ...] = ()
    required: bool = False
    default: Any = None
    least: int | None = None
    most: int | None = None
    #: What it means, where the name does not say it.
    says: str = ""
    #: ``core``: listed in both profiles; ``full``: in that one only; ``hidden``: understood, but not listed.
    listed: str = "core"
    #: Whether further values are for the tool to judge.
    open: bool = False

    def schema(self) -> dict[str, Any]:
        """The parameter as JSON Schema, in as few characters as possible."""
        one: dict[str, Any] = {"type": LISTS.get(self.kind, self.kind)}
        if self.choices:
            one["enum"] = list(self.choices)
        whole: dict[str, Any] = {"type": "array", "items": one} if self.kind in LISTS else one
        for key, value in (("minimum", self.least or None), ("maximum", self.most), ("default", self.default)):
            if value is not None:
                whole[key] = value
        if self.says:
            whole["description"] = self.says
        return whole


@dataclass(frozen=True)
class Tool:
    """One tool."""

    #: Without the common prefix.
    name: str
    says: str
    #: ``module.function`` below ``tools``.
    function: str
    params: tuple[Param, ...] = ()
    #: ``read``: changes nothing; ``add``: only adds; ``change``: may take away.
    effect: str = "add"
    #: Whether calling it again changes nothing more.
    again: bool = False
    #: As for parameters; ``part``: no tool, but what a parameter of one is read by.
    listed: str = "full"

    @property
    def full_name(self) -> str:
        """As clients call it."""
        return PREFIX + self.name

    def params_of(self, profile: str) -> list[Param]:
        """Parameters that a profile lists."""
        return [one for one in self.params if one.listed == "core" or one.listed == profile]

    def schema(self, profile: str) -> dict[str, Any]:
        """What the tool takes, as JSON Schema."""
        shown = self.params_of(profile)
        schema: dict[str, Any] = {"type": "object", "properties": {one.name: one.schema() for one in shown}}
        required = [one.name for one in shown if one.required]
        schema |= {"required": required} if required else {}
        # Unknown parameters are refused in any case; the short profile does not pay for saying so.
        return schema | ({"additionalProperties": False} if profile == "full" else {})

    def hints(self) -> dict[str, bool]:
        """What a client may show before it asks its user; what is not said has the protocol's default."""
        if self.effect == "read":
            return {"readOnlyHint": True}
        hints = {"destructiveHint": self.effect == "change"}
        return hints | ({"idempotentHint": True} if self.again else {})


#: What every tool gives back: one small schema for all of them.
OUTPUT: Mapping[str, Any] = {"type": "object", "required": ["success"]}

_TASK = Param("task_id", required=True)
_RUN = Param("run_id", required=True)
_SESSION = Param("session_id", required=True)
#: Taken by every tool whose reply ends with ``next_offset``.
_OFFSET = Param("offset", "integer", default=0, least=0)
#: Understood by every tool: the session on whose behalf a client without one of its own calls.
CALLER = Param("session", listed="hidden")


def _flag(name: str, default: bool, listed: str = "core") -> Param:
    return Param(name, "boolean", default=default, listed=listed)


def _extra(name: str, kind: str = "string", **more: Any) -> Param:
    return Param(name, kind, listed=more.pop("listed", "full"), **more)


_PLAN = (
    Param("title", required=True),
    Param("description", required=True),
    Param("task_type", choices=TYPES, default="standard"),
    Param("parent_task_id"),
    Param("complexity", choices=COMPLEXITIES, default="moderate"),
    Param("specialist_type", choices=SPECIALISTS, open=True),
    Param("estimated_effort", says="2h, 30 min"),
    Param("due_date", says="ISO 8601"),
    Param("context", "object"),
    Param("dependencies", "strings"),
    _extra("priority", "integer", least=1, most=10),
    _extra("data_dependencies", "strings", listed="hidden"),
    _extra("checks", "strings", says="names from the config"),
    _extra("tags", "strings", listed="hidden"),
    _extra("run_command", listed="hidden"),
    _extra("plan", listed="hidden"),
    _extra("key", listed="hidden"),
)
#: What a task can be without, as clients call it -> the field that ``clear`` empties.
CLEARED: Mapping[str, str] = {
    "description": "description",
    "specialist_type": "role",
    "estimated_effort": "effort_min",
    "due_date": "due_at",
    "context": "context",
    "checks": "checks",
    "tags": "tags",
    "run_command": "command",
    "agent": "agent",
    "needs": "needs",
    "setup": "setup",
    "timeout_s": "timeout_s",
    "metadata": "metadata",
}
_UPDATE = (
    _TASK,
    Param("title"),
    Param("description"),
    Param("status", choices=STATUSES),
    Param("specialist_type", choices=SPECIALISTS, open=True, listed="full"),
    Param("complexity", choices=COMPLEXITIES, listed="full"),
    Param("estimated_effort", listed="full"),
    Param("due_date", listed="full"),
    Param("context", "object"),
    _extra("reason"),
    _extra("priority", "integer", least=1, most=10),
    _extra("clear", "strings", choices=tuple(CLEARED), says="to empty; null changes nothing"),
    _extra("task_type", choices=TYPES, listed="hidden"),
    _extra("checks", "strings", listed="hidden"),
    _extra("tags", "strings", listed="hidden"),
    _extra("run_command", listed="hidden"),
    _extra("run", listed="hidden"),
    _extra("add_dependencies", "strings", listed="hidden"),
    _extra("remove_dependencies", "strings", listed="hidden"),
)
_QUERY = (
    Param("status", "strings", choices=STATUSES),
    Param("task_type", "strings", choices=TYPES, listed="full"),
    Param("specialist_type", "strings", choices=SPECIALISTS, open=True, listed="full"),
    Param("parent_task_id"),
    Param("complexity", "strings", choices=COMPLEXITIES, listed="full"),
    Param("search_text"),
    Param("created_after", listed="full"),
    Param("created_before", listed="full"),
    _flag("include_children", False, "full"),
    _flag("include_artifacts", False, "full"),
    Param("limit", "integer", default=100, least=1, most=1000),
    _OFFSET,
    _extra("task_id", listed="hidden"),
    _extra("plan", listed="hidden"),
)
_NEXT = "continue: names the next task; needs_revision: to review; blocked: summary asks"
_COMPLETE = (
    _TASK,
    Param("summary", required=True),
    Param("detailed_work", required=True, says="kept whole as an artifact"),
    Param("file_paths", "strings"),
    Param("artifact_type", choices=ARTIFACTS, default="general", listed="full"),
    Param("next_action", choices=NEXT, required=True, says=_NEXT),
    Param("legacy_artifacts", "strings", listed="full"),
    _extra("run", listed="core", says="from execute_task"),
    _extra("decisions", "objects", listed="hidden"),
)
_RECORD = (
    Param("title", required=True),
    Param("decision", required=True),
    Param("rationale"),
    Param("context"),
    Param("status", choices=NEW_STATUSES, default="accepted", listed="full"),
    Param("category", listed="full"),
    Param("impact", choices=IMPACTS, listed="full"),
    Param("alternatives", "entries", listed="full", says="name, pros, cons"),
    Param("files", "strings"),
    _extra("components", "strings"),
    _extra("trade_offs", "strings"),
    _extra("risks", "strings"),
    _extra("criteria", "strings", says="of success"),
    Param("task_id"),
    _extra("run", listed="hidden"),
    Param("supersedes", listed="full"),
    _extra("refines"),
    _extra("reverses"),
    _extra("decision_id", listed="hidden"),
)

#: One of the decisions that come with a report: a call within a call.
DECISION = Tool(
    "complete_task, decisions",
    "",
    "memory.record_decision",
    tuple(one for one in _RECORD if one.name not in ("task_id", "run", "decision_id")),
    listed="part",
)
#: One of the subtasks of ``subtasks_json``: as ``plan_task`` takes a task, with titles as dependencies.
SUBTASK = Tool(
    "plan_task, subtasks_json",
    "",
    "tasks.plan",
    (
        Param("title", required=True),
        Param("description", default=""),
        *(one for one in _PLAN if one.name not in ("title", "description", "parent_task_id", "plan", "key")),
    ),
    listed="part",
)

TOOLS: tuple[Tool, ...] = (
    Tool(
        "initialize_session",
        "Start here: opens the project, says what is going on.",
        "sessions.initialize",
        (
            Param("working_directory"),
            _extra("session_name"),
            _extra("force_new_session", "boolean", default=False),
        ),
        listed="core",
    ),
    Tool(
        "get_status",
        "Where everything stands.",
        "tasks.status",
        (
            _flag("include_completed", False),
            _flag("include_performance_metrics", False, "full"),
            _flag("include_resource_usage", False, "full"),
            _OFFSET,
        ),
        effect="read",
        listed="core",
    ),
    Tool(
        "plan_task",
        "Create a task, ready when its dependencies are completed.",
        "tasks.plan",
        _PLAN,
        listed="core",
    ),
    Tool(
        "execute_task",
        "Claim a task: gives a run, the role's context, results to build on.",
        "work.execute",
        (_TASK, _extra("run", listed="hidden"), _flag("include_brief", False, "full")),
        again=True,
        listed="core",
    ),
    Tool(
        "complete_task",
        "Report a task as done; checks files, unblocks, recommends the next.",
        "work.complete",
        _COMPLETE,
        listed="core",
    ),
    Tool("query_tasks", "Find tasks.", "tasks.query", _QUERY, effect="read", listed="core"),
    Tool("update_task", "Change a task.", "tasks.update", _UPDATE, effect="change", listed="core"),
    Tool(
        "synthesize_results",
        "Join the results of subtasks; says what is missing.",
        "work.synthesize",
        (Param("parent_task_id", required=True), _OFFSET),
        again=True,
        listed="core",
    ),
    Tool(
        "cancel_task",
        "Give up a task and what is below it.",
        "tasks.cancel",
        (
            _TASK,
            Param("reason"),
            _flag("preserve_work", True),
            _extra("dependents", choices=("block", "cancel"), default="block"),
        ),
        effect="change",
    ),
    Tool(
        "delete_task",
        "Delete or archive a task.",
        "tasks.delete",
        (_TASK, _flag("force", False), _flag("archive_instead", True)),
        effect="change",
    ),
    Tool(
        "claim_task",
        "Claim the best ready task.",
        "work.claim",
        (Param("specialist_type", choices=SPECIALISTS, open=True), Param("tag"), Param("agent")),
    ),
    Tool("heartbeat_run", "Renew a run's lease.", "runs.heartbeat", (_RUN,), again=True),
    Tool(
        "list_sessions",
        "Sessions of the project.",
        "sessions.listing",
        (
            _flag("include_completed", False),
            Param("limit", "integer", default=10, least=1, most=1000),
            _OFFSET,
        ),
        effect="read",
    ),
    Tool("resume_session", "Take over a session and its runs.", "sessions.resume", (_SESSION,), listed="core"),
    Tool(
        "cleanup_sessions",
        "End or remove old sessions.",
        "sessions.clean_up",
        (
            Param("cleanup_type", choices=("completed", "orphaned", "old", "all"), default="completed"),
            Param("older_than_days", "integer", default=7, least=0, most=36500),
            _flag("dry_run", True),
        ),
        effect="change",
    ),
    Tool("session_status", "One session in detail.", "sessions.detail", (_SESSION,), effect="read"),
    Tool("record_decision", "Record what was decided and why.", "memory.record_decision", _RECORD, listed="core"),
    Tool(
        "search_decisions",
        "Find decisions.",
        "memory.search_decisions",
        (
            Param("search_text"),
            Param("category"),
            Param("impact", choices=IMPACTS),
            Param("file"),
            Param("status", choices=DECISION_STATUSES),
            Param("task_id"),
            Param("limit", "integer", default=20, least=1, most=1000),
            _OFFSET,
        ),
        effect="read",
    ),
    Tool(
        "track_files",
        "Report changed files; without files: verify those of a task.",
        "memory.track_files",
        (
            Param("files", "objects", says="path, operation (created, modified, deleted, moved, copied), old_path"),
            Param("task_id"),
            Param("run"),
            _flag("verify", False),
            _OFFSET,
        ),
    ),
    Tool(
        "recover_context",
        "What was done, decided and left, of a task, session or project.",
        "memory.recover",
        (Param("task_id"), Param("session_id"), _extra("handoff", says="text to leave for the next session")),
        listed="core",
    ),
    Tool(
        "start_run",
        "Have an agent of this machine do a task.",
        "runs.start",
        (_TASK, Param("agent")),
    ),
    Tool(
        "run_status",
        "A run, its log and files.",
        "runs.status",
        (
            Param("run_id"),
            Param("task_id"),
            _flag("include_log", False),
            _OFFSET,
        ),
        effect="read",
    ),
    Tool("kill_run", "End a run.", "runs.kill", (_RUN, Param("reason")), effect="change"),
    Tool("message_run", "Say something to a run's agent.", "runs.message", (_RUN, Param("text", required=True))),
    Tool(
        "maintenance_coordinator",
        "Find and clean up stale work, validate, document, hand over.",
        "operate.maintain",
        (
            Param(
                "action",
                choices=("scan_cleanup", "validate_structure", "update_documentation", "prepare_handover"),
                required=True,
            ),
            Param("scope", choices=("current_session", "full_project", "specific_subtask"), default="current_session"),
            Param("validation_level", choices=("basic", "comprehensive", "full_audit"), default="basic"),
            Param("target_task_id"),
            _extra("dry_run", "boolean", default=False),
        ),
        effect="change",
    ),
    Tool(
        "health_check",
        "Measured health of this server.",
        "operate.health",
        (
            _flag("include_reboot_readiness", True),
            _flag("include_connection_status", True),
            _flag("include_database_status", True),
        ),
        effect="read",
    ),
    Tool(
        "restart_server",
        "Restart this server; connections survive.",
        "operate.restart",
        (
            _flag("graceful", True),
            _flag("preserve_state", True),
            Param("timeout", "integer", default=30, least=10, most=300),
            Param(
                "reason",
                choices=(
                    "configuration_update",
                    "schema_migration",
                    "error_recovery",
                    "manual_request",
                    "emergency_shutdown",
                ),
                default="manual_request",
            ),
        ),
    ),
    Tool(
        "shutdown_prepare",
        "Whether the server may be stopped.",
        "operate.shutdown_prepare",
        (
            _flag("check_active_tasks", True),
            _flag("check_database_state", True),
            _flag("check_client_connections", True),
        ),
        effect="read",
    ),
    Tool(
        "reconnect_test",
        "Tests the store and the client's session.",
        "operate.reconnect_test",
        (
            Param("session_id"),
            _flag("include_buffer_status", True),
            _flag("include_reconnection_stats", True),
        ),
        effect="read",
    ),
    Tool(
        "restart_status",
        "The last restart and its phases.",
        "operate.restart_status",
        (_flag("include_history", False), _flag("include_error_details", True)),
        effect="read",
    ),
    # Names of older releases.
    Tool("execute_subtask", "", "work.execute", (_TASK, _flag("include_brief", False, "hidden")), listed="hidden"),
    Tool(
        "complete_subtask",
        "",
        "work.complete_subtask",
        (
            _TASK,
            Param("summary", required=True),
            Param("detailed_work"),
            Param("results"),
            Param("artifacts", "strings"),
            Param("file_paths", "strings"),
            Param("artifact_type", choices=ARTIFACTS, default="general"),
            Param("next_action", choices=NEXT, default="complete"),
            Param("legacy_artifacts", "strings"),
            Param("run"),
        ),
        listed="hidden",
    ),
    Tool("create_generic_task", "", "tasks.plan", _PLAN, listed="hidden"),
)

#: ``plan_task`` as older releases had it: a whole breakdown in one call.
BREAKDOWN = Tool(
    "plan_task",
    "",
    "tasks.plan_breakdown",
    (
        Param("description", required=True),
        Param("subtasks_json", required=True),
        Param("title"),
        Param("complexity_level", choices=COMPLEXITIES, default="moderate"),
        Param("context"),
    ),
    listed="hidden",
)

BY_NAME: dict[str, Tool] = {tool.full_name: tool for tool in TOOLS}


def listed(profile: str) -> list[Tool]:
    """The tools that a profile lists, in order."""
    return [tool for tool in TOOLS if tool.listed in ("core", profile)]


@cache
def definitions(profile: str, roles: tuple[str, ...] = ()) -> tuple[dict[str, Any], ...]:
    """The tools of a profile as the protocol describes them; ``roles`` are a project's own."""
    return tuple(
        {
            "name": tool.full_name,
            "description": tool.says,
            "inputSchema": _with_roles(tool.schema(profile), roles),
            "outputSchema": dict(OUTPUT),
            "annotations": tool.hints(),
        }
        for tool in listed(profile)
    )


def _with_roles(schema: dict[str, Any], roles: tuple[str, ...]) -> dict[str, Any]:
    found = schema["properties"].get("specialist_type")
    if found and roles:
        place = found.get("items", found)
        place["enum"] = [*place["enum"], *(role for role in roles if role not in place["enum"])]
    return schema
