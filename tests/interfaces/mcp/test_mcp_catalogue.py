"""What is listed: the names, parameters, enums and defaults that clients rely on, in few characters."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest
from peers import PREFIX

from orchestrion.interfaces.mcp import advice, catalogue, prompts, resources, server

EIGHTEEN = [
    *("initialize_session", "get_status", "synthesize_results", "plan_task", "execute_task", "complete_task"),
    *("query_tasks", "update_task", "delete_task", "cancel_task", "list_sessions", "resume_session"),
    *("maintenance_coordinator", "restart_server", "health_check", "shutdown_prepare", "reconnect_test"),
    "restart_status",
]
FURTHER = [
    *("claim_task", "heartbeat_run", "record_decision", "search_decisions", "track_files", "recover_context"),
    *("start_run", "run_status", "kill_run", "message_run"),
]

#: The first orchestrator's schemas: ``name:type``, ``!`` required, ``=default``, ``|`` separates the words of an enum.
STATUS = "pending|active|in_progress|blocked|completed|failed|cancelled|archived"
TYPE = "standard|breakdown|milestone|review|approval|research|implementation|testing|documentation|deployment|custom"
ROLE = "analyst|coder|tester|documenter|reviewer|architect|devops|researcher|coordinator|generic"
SIZE = "trivial|simple|moderate|complex|very_complex"
CONTRACT: dict[str, str] = {
    "initialize_session": "working_directory:string",
    "synthesize_results": "parent_task_id:string!",
    "get_status": "include_completed:boolean=false",
    "plan_task": f"title:string! description:string! task_type:{TYPE}=standard parent_task_id:string "
    f"complexity:{SIZE}=moderate specialist_type:{ROLE} estimated_effort:string due_date:string context:object "
    "dependencies:array",
    "update_task": f"task_id:string! title:string description:string status:{STATUS} specialist_type:{ROLE} "
    f"complexity:{SIZE} estimated_effort:string due_date:string context:object",
    "delete_task": "task_id:string! force:boolean=false archive_instead:boolean=true",
    "cancel_task": "task_id:string! reason:string preserve_work:boolean=true",
    "query_tasks": f"status:[{STATUS}] task_type:[{TYPE}] specialist_type:[{ROLE}] parent_task_id:string "
    f"complexity:[{SIZE}] search_text:string created_after:string created_before:string "
    "include_children:boolean=false include_artifacts:boolean=false limit:integer=100 offset:integer=0",
    "execute_task": "task_id:string!",
    "complete_task": "task_id:string! summary:string! detailed_work:string! file_paths:array "
    "artifact_type:code|documentation|analysis|design|test|config|general=general "
    "next_action:continue|needs_revision|blocked|complete! legacy_artifacts:array",
    "list_sessions": "include_completed:boolean=false limit:integer=10",
    "resume_session": "session_id:string!",
    "cleanup_sessions": "cleanup_type:completed|orphaned|old|all=completed older_than_days:integer=7 "
    "dry_run:boolean=true",
    "session_status": "session_id:string!",
    "maintenance_coordinator": "action:scan_cleanup|validate_structure|update_documentation|prepare_handover! "
    "scope:current_session|full_project|specific_subtask=current_session "
    "validation_level:basic|comprehensive|full_audit=basic target_task_id:string",
    "restart_server": "graceful:boolean=true preserve_state:boolean=true timeout:integer=30 reason:"
    "configuration_update|schema_migration|error_recovery|manual_request|emergency_shutdown=manual_request",
    "health_check": "include_reboot_readiness:boolean=true include_connection_status:boolean=true "
    "include_database_status:boolean=true",
    "shutdown_prepare": "check_active_tasks:boolean=true check_database_state:boolean=true "
    "check_client_connections:boolean=true",
    "reconnect_test": "session_id:string include_buffer_status:boolean=true include_reconnection_stats:boolean=true",
    "restart_status": "include_history:boolean=false include_error_details:boolean=true",
}


def listed(profile: str) -> dict[str, dict[str, Any]]:
    return {one["name"].removeprefix(PREFIX): one for one in catalogue.definitions(profile)}


def as_contract(name: str, schema: dict[str, Any], required: bool) -> str:
    words = schema.get("enum")
    items = schema.get("items", {})
    kind = "|".join(words) if words else schema["type"]
    kind = f"[{'|'.join(items['enum'])}]" if "enum" in items else kind
    default = schema.get("default")
    shown = "" if default is None else f"={str(default).lower() if isinstance(default, bool) else default}"
    return f"{name}:{kind}{'!' if required else ''}{shown}"


@pytest.mark.parametrize("tool", CONTRACT)
def test_a_tool_takes_what_the_first_orchestrators_clients_send(tool: str) -> None:
    schema = listed("full")[tool]["inputSchema"]
    ours = {as_contract(name, one, name in schema.get("required", ())) for name, one in schema["properties"].items()}
    assert set(CONTRACT[tool].split()) <= ours
    known = {one.partition(":")[0] for one in CONTRACT[tool].split()}
    # What we ask for beyond that is optional.
    assert set(schema.get("required", ())) <= known


def test_all_tools_are_listed_and_have_a_function() -> None:
    assert set(listed("full")) == {*EIGHTEEN, *FURTHER, "cleanup_sessions", "session_status"}
    assert set(listed("core")) < set(listed("full"))
    for tool in (*catalogue.TOOLS, catalogue.BREAKDOWN):
        module, _, name = tool.function.partition(".")
        assert callable(getattr(import_module(f"orchestrion.interfaces.mcp.tools.{module}"), name)), tool.name


def test_the_lists_are_short() -> None:
    for profile, tokens in (("core", 1300), ("full", 4500)):
        size = len(json.dumps({"tools": catalogue.definitions(profile)}, separators=(",", ":")).encode())
        assert size / 4 <= tokens, f"{profile}: {size / 4:.0f} tokens"
    assert len(server.INSTRUCTIONS.encode()) < 500
    listings = json.dumps([resources.FIXED, resources.TEMPLATES, prompts.PROMPTS])
    assert len(listings) / 4 <= 600


@pytest.mark.parametrize("profile", catalogue.PROFILES)
def test_schemas_are_schemas(profile: str) -> None:
    from jsonschema import Draft202012Validator

    for name, one in listed(profile).items():
        Draft202012Validator.check_schema(one["inputSchema"])
        Draft202012Validator.check_schema(one["outputSchema"])
        assert one["description"], name
        assert one["annotations"], name


def test_what_a_tool_does_to_the_world_is_said() -> None:
    hints = {name: one["annotations"] for name, one in listed("full").items()}
    readers = {name for name, one in hints.items() if one.get("readOnlyHint")}
    assert readers == {
        *("get_status", "query_tasks", "list_sessions", "session_status", "search_decisions", "run_status"),
        *("health_check", "shutdown_prepare", "reconnect_test", "restart_status"),
    }
    taking = {name for name, one in hints.items() if one.get("destructiveHint")}
    assert {"delete_task", "cancel_task", "kill_run", "update_task", "cleanup_sessions"} <= taking
    assert not taking & {"plan_task", "complete_task", "execute_task", "record_decision"}


def test_roles_of_the_project_join_the_enum() -> None:
    plan = next(one for one in catalogue.definitions("core", ("translator",)) if one["name"].endswith("plan_task"))
    assert plan["inputSchema"]["properties"]["specialist_type"]["enum"][-2:] == ["generic", "translator"]
    assert "translator" not in str(catalogue.definitions("core"))


@pytest.mark.parametrize(
    ("text", "core", "full"),
    [
        ("`orchestrion claim T4`", "`orchestrator_execute_task(task_id=T4)`", None),
        ("`orchestrion claim`", "`orchestrion claim`", "`orchestrator_claim_task()`"),
        ("`orchestrion approve T4`", "`orchestrator_update_task(task_id=T4, status=completed)`", None),
        ("`orchestrion sessions S1 --resume`", "`orchestrator_resume_session(session_id=S1)`", None),
        ("`orchestrion sessions --all`", "`orchestrion sessions --all`", "`orchestrator_list_sessions()`"),
        ("`orchestrion why T4` says", "`orchestrion://tasks/T4` says", None),
        ("`orchestrion heartbeat R1`", "`orchestrion heartbeat R1`", "`orchestrator_heartbeat_run(run_id=R1)`"),
        (
            '`orchestrion done R1 --next blocked --summary "WHY"`',
            "`orchestrator_complete_task(task_id=TASK, run=R1, summary=TEXT, detailed_work=TEXT, next_action=blocked)`",
            None,
        ),
        ("`orchestrion init`", "`orchestrion init`", None),
        ("`orchestrion init DIR`", "`orchestrator_initialize_session(working_directory=DIR)`", None),
        (
            "`orchestrion handoff T4 --text TEXT`",
            "`orchestrator_recover_context(task_id=T4, handoff=TEXT)`",
            None,
        ),
        ("`orchestrion handoff --list`", "`orchestrion://handoffs`", None),
        ("`orchestrion handoff T4 --list`", "`orchestrion://handoffs`", None),
        ("`orchestrion show H2`", "`orchestrion://handoffs/H2`", None),
        ("`orchestrion gate open G1`", "`orchestrion gate open G1`", None),
        ("`orchestrion dep rm T2 T1`", "`orchestrion dep rm T2 T1`", None),
        ("orchestrion claim T4", "orchestrion claim T4", None),
    ],
)
def test_advice_names_what_a_client_was_given(text: str, core: str, full: str | None) -> None:
    assert advice.for_client(text, "core") == core
    assert advice.for_client(text, "full") == (full or core)


def test_advice_names_tools_parameters_and_addresses_that_exist() -> None:
    patterns = {str(one["uriTemplate"]) for one in resources.TEMPLATES} | {one["uri"] for one in resources.FIXED}
    for _, place, values in advice._INSTEAD:
        if "://" in place:
            assert place.replace("{}", "{id}") in patterns
            continue
        tool = catalogue.BY_NAME[PREFIX + place]
        given = {one.partition("=")[0] for one in values.split(", ") if one}
        assert given <= {param.name for param in tool.params}, place
        if given:
            assert {param.name for param in tool.params if param.required} <= given, place
