"""Every wrong parameter is refused with an error that names it and the values that would have been right."""

from __future__ import annotations

from typing import Any

import pytest
from peers import InProcess

from orchestrion.core.errors import InvalidInput
from orchestrion.interfaces.mcp import arguments, catalogue
from orchestrion.interfaces.mcp.catalogue import BY_NAME, Param, Tool

pytestmark = pytest.mark.long

#: kind -> values of other kinds.
OTHERS: dict[str, list[Any]] = {
    "string": [1, True, ["x"], {"a": 1}],
    "boolean": ["true", 1, []],
    "integer": ["5", 1.5, True, {}, float("inf"), float("nan")],
    "object": ["x", [1], 3],
    "strings": [[1], [None], {"a": 1}, 7],
    "objects": [["x"], "x", [[]]],
    "entries": [[1], 1, [[]], [None]],
}
TOOLS = [*catalogue.TOOLS, catalogue.BREAKDOWN]
PARAMS = [(tool, param) for tool in TOOLS for param in tool.params]
NAMES = [f"{tool.name}.{param.name}" for tool, param in PARAMS]


def valid(tool: Tool) -> dict[str, Any]:
    """The least that a tool takes."""
    return {param.name: param.choices[0] if param.choices else "T1" for param in tool.params if param.required}


def refusal(tool: Tool, given: dict[str, Any]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        arguments.read(tool, given)
    assert caught.value.code == "invalid_parameters"
    return caught.value


def problem_of(error: InvalidInput, name: str) -> dict[str, Any]:
    found = [one for one in error.details["problems"] if one["parameter"] == name]
    assert len(found) == 1, error.details
    assert name in error.message
    return dict(found[0])


@pytest.mark.parametrize(("tool", "param"), PARAMS, ids=NAMES)
def test_a_value_of_another_kind_is_refused(tool: Tool, param: Param) -> None:
    for value in OTHERS[param.kind]:
        found = problem_of(refusal(tool, valid(tool) | {param.name: value}), param.name)
        assert "must be" in found["problem"]


@pytest.mark.parametrize(("tool", "param"), PARAMS, ids=NAMES)
def test_a_value_outside_of_what_is_understood_is_refused(tool: Tool, param: Param) -> None:
    for value in wrong_values(param):
        found = problem_of(refusal(tool, valid(tool) | {param.name: value}), param.name)
        if param.choices:
            assert found["allowed"] == list(param.choices)
            assert all(choice in found["problem"] for choice in param.choices)
        else:
            assert str(param.least) in found["problem"]


def wrong_values(param: Param) -> list[Any]:
    if param.choices and not param.open:
        return (
            [["wrong"], [param.choices[0], "wrong"]] if param.kind == "strings" else ["wrong", param.choices[0].upper()]
        )
    below = [param.least - 1] if param.least is not None else []
    return below + ([param.most + 1, 10**30] if param.most is not None else [])


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_what_is_missing_is_named(tool: Tool) -> None:
    for param in tool.params:
        if param.required:
            for given in ({}, {param.name: None}):
                rest = {key: value for key, value in valid(tool).items() if key != param.name}
                assert "is required" in problem_of(refusal(tool, rest | given), param.name)["problem"]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_what_is_unknown_is_named_with_what_is_known(tool: Tool) -> None:
    found = problem_of(refusal(tool, valid(tool) | {"no_such_thing": 1}), "no_such_thing")
    shown = [param.name for param in tool.params if param.listed != "hidden"]
    assert found["known"] == shown
    if shown:
        name = shown[0]
        assert f"did you mean {name}?" in str(refusal(tool, valid(tool) | {name[:-1] + "x": 1}))


def test_all_that_is_wrong_is_said_at_once() -> None:
    tool = BY_NAME["orchestrator_query_tasks"]
    error = refusal(tool, {"status": ["done"], "limit": 0, "offset": -1, "titel": "x"})
    assert {one["parameter"] for one in error.details["problems"]} == {"status", "limit", "offset", "titel"}
    many = refusal(tool, {f"x{number}": 1 for number in range(50)})
    assert len(many.details["problems"]) == 20
    assert "and 45 more" in many.message


def test_defaults_are_filled_in_and_small_mistakes_forgiven() -> None:
    tool = BY_NAME["orchestrator_query_tasks"]
    read = arguments.read(tool, {"status": "pending", "limit": 5.0, "search_text": None})
    assert (read["status"], read["limit"], read["offset"], read["search_text"]) == (["pending"], 5, 0, None)
    assert arguments.read(tool, None)["limit"] == 100
    assert "at most 1000" in refusal(tool, {"status": ["pending"] * 1001}).message


#: Values of the right kind that only the use cases can judge: tool, parameters, code, what the message names.
JUDGED = [
    ("plan_task", {"title": "", "description": ""}, "invalid_title", "title"),
    ("plan_task", {"title": "x" * 10_000, "description": ""}, "invalid_title", "title"),
    ("plan_task", {"title": "x", "description": "", "due_date": "next week"}, "invalid_time", "due_date"),
    ("plan_task", {"title": "x", "description": "", "estimated_effort": "long"}, "invalid_effort", "estimated_effort"),
    ("plan_task", {"title": "x", "description": "", "specialist_type": "wizard"}, "no_role", "wizard"),
    ("plan_task", {"title": "x", "description": "", "parent_task_id": "T99"}, "no_task", "T99"),
    ("plan_task", {"title": "x", "description": "", "dependencies": ["T99"]}, "no_task", "T99"),
    ("plan_task", {"title": "x", "description": "", "dependencies": ["one"]}, "invalid_id", "one"),
    ("plan_task", {"title": "x", "description": "", "checks": ["ls"]}, "commands_refused", "ls"),
    ("plan_task", {"title": "x", "description": "", "plan": "run"}, None, "run"),
    ("plan_task", {"description": "x", "subtasks_json": "{"}, "invalid_parameters", "subtasks_json"),
    ("plan_task", {"description": "x", "subtasks_json": "[]"}, "invalid_parameters", "subtasks_json"),
    ("plan_task", {"description": "x", "subtasks_json": '[{"title":"a"},{"title":"a"}]'}, None, "subtasks_json"),
    ("plan_task", {"description": "x", "subtasks_json": '[{"title":"a","dependencies":["b"]}]'}, None, "'b'"),
    ("plan_task", {"description": "x", "subtasks_json": "[" * 50_000}, "invalid_parameters", "subtasks_json"),
    ("execute_task", {"task_id": "T99"}, "no_task", "T99"),
    ("execute_task", {"task_id": "../../etc/passwd"}, "invalid_id", "../../etc/passwd"),
    ("execute_task", {"task_id": "T1\0"}, "invalid_id", "T1"),
    ("execute_task", {"task_id": "T" + "9" * 400}, None, "T999"),
    ("execute_task", {"task_id": "T1", "run": "R99"}, "no_run", "R99"),
    ("complete_task", {"task_id": "T99"}, "no_task", "T99"),
    ("complete_task", {"task_id": "T1", "summary": " "}, "invalid_parameters", "summary"),
    ("complete_task", {"task_id": "T1"}, "not_claimed", "T1"),
    ("plan_task", {"title": "x", "description": "y", "estimated_effort": "12345678"}, "invalid_effort", "12345678"),
    ("plan_task", {"title": "x", "description": "y", "estimated_effort": "12345678h"}, "invalid_effort", "12345678h"),
    ("plan_task", {"title": "x", "description": "y", "estimated_effort": "9999999 weeks"}, "invalid_effort", "effort"),
    ("plan_task", {"title": "x", "description": "y", "context": {"n": float("nan")}}, "invalid_context", "NaN"),
    ("plan_task", {"title": "x", "description": "y", "due_date": "1066-10-14"}, "invalid_due_date", "due_date must be"),
    ("query_tasks", {"created_after": "0001-01-01"}, "invalid_created_after", "created_after must be a time"),
    ("update_task", {"task_id": "T1"}, "nothing_to_change", "nothing"),
    ("update_task", {"task_id": "T1", "due_date": "soon"}, "invalid_time", "due_date"),
    ("update_task", {"task_id": "T1", "add_dependencies": ["T1"]}, None, "T1"),
    ("cancel_task", {"task_id": "T99"}, "no_task", "T99"),
    ("delete_task", {"task_id": "T99"}, "no_task", "T99"),
    ("query_tasks", {"created_after": "yesterday"}, "invalid_time", "created_after"),
    ("query_tasks", {"created_before": "yesterday"}, "invalid_time", "created_before"),
    ("query_tasks", {"parent_task_id": "X"}, "invalid_id", "X"),
    ("query_tasks", {"specialist_type": ["wizard"]}, "no_role", "wizard"),
    ("query_tasks", {"offset": 2**40}, "invalid_offset", f"from 0 to {2**31 - 1}, not {2**40}"),
    ("synthesize_results", {"parent_task_id": "T99"}, "no_task", "T99"),
    ("resume_session", {"session_id": "S99"}, "no_session", "S99"),
    ("session_status", {"session_id": "session_1"}, "invalid_id", "session_1"),
    ("initialize_session", {"working_directory": "/no/such/folder"}, None, "/no/such/folder"),
    ("initialize_session", {"working_directory": "relative"}, "invalid_path", "relative"),
    ("record_decision", {"title": " ", "decision": "x"}, "invalid_title", "title"),
    ("record_decision", {"title": "x", "decision": "x", "task_id": "T99"}, "no_task", "T99"),
    ("record_decision", {"title": "x", "decision": "x", "supersedes": "D9"}, "no_decision", "D9"),
    ("record_decision", {"title": "x", "decision": "x", "status": "superseded"}, "invalid_parameters", "status"),
    ("record_decision", {"title": "x", "decision": "x", "alternatives": [1]}, "invalid_parameters", "texts or objects"),
    ("record_decision", {"title": "x", "decision": "x", "files": ["../../x"]}, None, "../../x"),
    ("search_decisions", {"task_id": "T99"}, None, "T99"),
    ("search_decisions", {"cursor": "x"}, None, "x"),
    ("query_tasks", {"parent_task_id": "T99"}, "no_task", "T99"),
    ("query_tasks", {"task_id": "T99"}, "no_task", "T99"),
    ("track_files", {"files": [{"path": "/etc/passwd", "operation": "modified"}], "task_id": "T1"}, None, "passwd"),
    ("track_files", {"files": [{"path": "a", "operation": "burned"}], "task_id": "T1"}, None, "burned"),
    ("track_files", {"files": [{"path": "a", "mode": 1}], "task_id": "T1"}, "invalid_parameters", "mode"),
    ("recover_context", {"task_id": "T99"}, "no_task", "T99"),
    ("recover_context", {"session_id": "S99"}, "no_session", "S99"),
    ("start_run", {"task_id": "T99"}, "no_task", "T99"),
    ("start_run", {"task_id": "T1", "agent": "no-such-agent"}, None, "no-such-agent"),
    ("run_status", {"run_id": "R99"}, "no_run", "R99"),
    ("run_status", {"include_log": True}, "invalid_parameters", "run_id"),
    ("kill_run", {"run_id": "R99"}, "no_run", "R99"),
    ("message_run", {"run_id": "R99", "text": "x"}, "no_run", "R99"),
    ("heartbeat_run", {"run_id": "R99"}, "no_run", "R99"),
    ("claim_task", {"specialist_type": "wizard"}, "no_role", "wizard"),
]


@pytest.mark.parametrize(
    ("tool", "given", "code", "named"), JUDGED, ids=[f"{one[0]}-{place}" for place, one in enumerate(JUDGED)]
)
def test_what_only_the_project_knows_is_refused_as_clearly(
    peer: InProcess, tool: str, given: dict[str, Any], code: str | None, named: str
) -> None:
    peer.call("plan_task", title="One", description="One")
    if tool == "complete_task":
        given = {"summary": "s", "detailed_work": "", "next_action": "complete"} | given
    before = peer.call("get_status")["task_status"]
    error = peer.refused(tool, **given)
    assert code is None or error["code"] == code, error
    assert named in error["message"] + str(error["details"]), error
    assert error["hint"]
    assert "Traceback" not in str(error)
    assert peer.call("get_status")["task_status"] == before


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_tool_refuses_over_the_door_too(peer: InProcess, tool: Tool) -> None:
    """Not only when it is read: what is wrong comes back as an error of the call."""
    error = peer.refused(tool.name, **(valid(tool) | {"no_such_thing": 1}))
    assert error["code"] == "invalid_parameters"
    assert "no_such_thing" in error["message"]
