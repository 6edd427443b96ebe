"""The published conformance suite of the Model Context Protocol, and its Inspector, against our server.

The suite's scenarios for libraries ask a server for fixtures of its own (a tool ``test_simple_text``
and the like). A product has none; which scenarios these are, and what else does not apply to us,
stands here with the reason. All other scenarios must pass, and what stands here must still fail.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.interfaces.mcp import catalogue, resources

PATIENCE_S = 100.0
PROGRAM = [sys.executable, "-m", "orchestrion"]

_FIXTURE = "asks for a tool, prompt or resource that is the suite's own"
_TASKS = "the extension io.modelcontextprotocol/tasks is not offered: our tasks are tools"
#: Scenario -> why it does not apply.
NOT_APPLICABLE: dict[str, str] = {
    "completion-complete": "completions are not offered",
    "logging-set-level": "logging is not offered; the newest revision has given it up",
    "resources-subscribe": "subscriptions are not offered; the newest revision has given them up",
    "resources-unsubscribe": "subscriptions are not offered; the newest revision has given them up",
    "tools-call-simple-text": _FIXTURE,
    "tools-call-image": _FIXTURE,
    "tools-call-audio": _FIXTURE,
    "tools-call-embedded-resource": _FIXTURE,
    "tools-call-mixed-content": _FIXTURE,
    "tools-call-with-logging": _FIXTURE,
    "tools-call-error": _FIXTURE,
    "tools-call-with-progress": _FIXTURE,
    "tools-call-sampling": _FIXTURE,
    "tools-call-elicitation": _FIXTURE,
    "elicitation-sep1034-defaults": _FIXTURE,
    "elicitation-sep1330-enums": _FIXTURE,
    "resources-read-text": _FIXTURE,
    "resources-read-binary": _FIXTURE,
    "resources-templates-read": _FIXTURE,
    "prompts-get-simple": _FIXTURE,
    "prompts-get-with-args": _FIXTURE,
    "prompts-get-embedded-resource": _FIXTURE,
    "prompts-get-with-image": _FIXTURE,
    "json-schema-2020-12": _FIXTURE,
    "input-required-result-basic-elicitation": _FIXTURE,
    "input-required-result-basic-sampling": _FIXTURE,
    "input-required-result-basic-list-roots": _FIXTURE,
    "input-required-result-request-state": _FIXTURE,
    "input-required-result-multiple-input-requests": _FIXTURE,
    "input-required-result-multi-round": _FIXTURE,
    "input-required-result-non-tool-request": _FIXTURE,
    "input-required-result-result-type": _FIXTURE,
    "input-required-result-tampered-state": _FIXTURE,
    "input-required-result-capability-check": _FIXTURE,
    "http-custom-header-server-validation": "no tool of ours takes parameters as headers",
    "tasks-lifecycle": _TASKS,
    "tasks-capability-negotiation": _TASKS,
    "tasks-wire-fields": _TASKS,
    "tasks-request-state-removal": _TASKS,
    "tasks-mrtr-input": _TASKS,
    "tasks-request-headers": _TASKS,
    "tasks-dispatch-and-envelope": _TASKS,
    "tasks-required-task-error": _TASKS,
    "tasks-mrtr-composition": _TASKS,
}
#: The revisions, and how the suite is told to test them.
REVISIONS = {
    "2025-06-18": ["--spec-version", "2025-06-18"],
    "2025-11-25": ["--requirements", "2025-11-25"],
    "2026-07-28": ["--requirements", "2026-07-28"],
}
#: What must be among the scenarios that passed, so that an empty run is no success.
MEANT: dict[str, set[str]] = {
    "2025-06-18": {"server-initialize", "ping", "tools-list", "resources-list", "prompts-list"},
    "2025-11-25": {"server-initialize", "tools-list", "dns-rebinding-protection", "server-session-lifecycle"},
    "2026-07-28": {"server-stateless", "caching", "http-header-validation", "sep-2164-resource-not-found"},
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRION_", "GIT_"))}
    return kept | {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def project(tmp_path: Path, environ: dict[str, str]) -> Path:
    root = tmp_path / "project"
    (root / ".orchestrion").mkdir(parents=True)
    Orchestrator.open(root, environ=environ).close()
    return root


@pytest.fixture
def address(project: Path, environ: dict[str, str]) -> Iterator[str]:
    """A server that listens."""
    command = [*PROGRAM, "mcp", "--http", "--port", "0", "--tools", "full"]
    with subprocess.Popen(command, cwd=project, env=environ, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            said = server.stderr.readline()
            assert said.startswith("listening on "), said + server.stderr.read()
            yield said.split()[-1]
        finally:
            server.terminate()


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_published_suite_passes_on_all_that_applies(
    programs: Path, address: str, revision: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    results = tmp_path / "results"
    command = [str(programs / "conformance"), "server", "--url", address, *REVISIONS[revision], "-o", str(results)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=PATIENCE_S)
    failed, passed = _judged(results)
    assert not {name: told for name, told in failed.items() if name not in NOT_APPLICABLE}
    assert passed >= MEANT[revision], done.stdout + done.stderr
    assert not passed & set(NOT_APPLICABLE), "these pass; take them off the list"


def _judged(results: Path) -> tuple[dict[str, list[str]], set[str]]:
    """What failed, by scenario, and the scenarios that did not. A check that says it cannot be made is none."""
    failed: dict[str, list[str]] = {}
    passed: set[str] = set()
    for folder in results.iterdir():
        name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[^/]*$", "", folder.name)
        checks = json.loads((folder / "checks.json").read_text())
        bad = [f"{one['id']}: {one.get('errorMessage')}" for one in checks if one["status"] == "FAILURE"]
        told = bad if name in NOT_APPLICABLE else [one for one in bad if "Not testable" not in one]
        if told:
            failed[name] = told
        elif any(one["status"] == "SUCCESS" for one in checks):
            passed.add(name)
    return failed, passed


#: What no tool says that is called as it is listed, with the key.
UNFORESEEN = ("unexpected", "invalid_parameters", "key_needed")


def by_http(address: str, project: Path) -> list[str]:
    """How the Inspector is told of the server at an address, and of its key."""
    key = (project / ".orchestrion" / "key").read_text().strip()
    return [address, "--transport", "http", "--header", f"Authorization: Bearer {key}"]


class Inspector:
    """The Inspector's command line, on one server."""

    def __init__(self, programs: Path, project: Path, environ: dict[str, str]) -> None:
        self._program = str(programs / "mcp-inspector")
        self._project = project
        self._environ = environ

    def ask(self, server: list[str], method: str, *more: str, code: int | None = 0) -> Any:
        """The document that it prints; ``code`` is how it must end, None: as with any answer of a tool."""
        command = [self._program, "--cli", *server, "--method", method, *more]
        done = subprocess.run(
            command, cwd=self._project, env=self._environ, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode in ((0, 5) if code is None else (code,)), done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.mark.timeout(400)  # each call starts node, which takes seconds on a busy machine
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_inspector_lists_and_calls(
    programs: Path, project: Path, environ: dict[str, str], address: str, transport: str
) -> None:
    inspector = Inspector(programs, project, environ)
    # It gives a server that it starts no environment but what it is told.
    told = [f"{key}={environ[key]}" for key in ("HOME", "XDG_STATE_HOME", "PYTHONPATH") if key in environ]
    started = [*PROGRAM, "-C", str(project), "mcp", "--tools", "full"]
    server = by_http(address, project) if transport == "http" else started
    options = [] if transport == "http" else [part for pair in told for part in ("-e", pair)]

    def ask(method: str, *more: str, code: int = 0) -> Any:
        return inspector.ask(server, method, *more, *options, code=code)

    def call(tool: str, *given: str, code: int = 0) -> Any:
        named = ["--tool-arg", *given] if given else []
        answer = ask("tools/call", "--tool-name", f"{catalogue.PREFIX}{tool}", *named, code=code)
        return answer["structuredContent"]

    names = {tool["name"] for tool in ask("tools/list")["tools"]}
    assert names == {tool.full_name for tool in catalogue.TOOLS if tool.listed != "hidden"}
    task = call("plan_task", "title=Inspect", "description=Look at it")["task_id"]
    run = call("execute_task", f"task_id={task}")["run"]
    report = [f"task_id={task}", f"run={run}", "summary=Seen", "detailed_work=All of it", "next_action=complete"]
    assert call("complete_task", *report)["state"] == "completed"
    assert call("query_tasks", "limit=5", "include_artifacts=true")["total_count"] == 1
    for reader in (tool for tool in catalogue.TOOLS if tool.effect == "read" and tool.listed != "hidden"):
        given = [f"{param.name}=S1" for param in reader.params if param.required]
        if reader.name != "session_status" or transport == "stdio":
            assert call(reader.name, *given)["success"] is True
    assert call("plan_task", "title=x", code=5)["error"]["code"] == "invalid_parameters"
    assert {one["name"] for one in ask("prompts/list")["prompts"]} == {"plan", "work-next", "review", "handoff"}
    said = ask("prompts/get", "--prompt-name", "plan", "--prompt-args", "goal=World peace")
    assert "World peace" in said["messages"][0]["content"]["text"]
    assert ask("resources/list")["resources"] == list(resources.FIXED)
    assert ask("resources/templates/list")["resourceTemplates"] == list(resources.TEMPLATES)
    read = ask("resources/read", "--uri", f"orchestrion://tasks/{task}")
    assert json.loads(read["contents"][0]["text"])["state"] == "completed"


#: What tools are given that ask for it.
GIVEN = {"parent_task_id": "T1", "task_id": "T1", "run_id": "R1", "session_id": "S1"}


@pytest.mark.timeout(400)
def test_the_inspector_calls_every_tool(programs: Path, project: Path, environ: dict[str, str], address: str) -> None:
    """With what each requires. What has nothing to work on says so with a code; nothing is unexpected."""
    inspector = Inspector(programs, project, environ)
    listed = [tool for tool in catalogue.TOOLS if tool.listed != "hidden"]
    # The restart comes last: it is the same process at the same address all the same.
    for tool in sorted(listed, key=lambda one: one.name == "restart_server"):
        required = [param for param in tool.params if param.required]
        given = [f"{one.name}={GIVEN.get(one.name) or (one.choices or ('x',))[0]}" for one in required]
        given += ["task_id=T1"] if tool.name == "track_files" else []  # the one that asks for one of two
        more = ["--tool-arg", *given] if given else []
        command = ["--tool-name", tool.full_name, *more]
        answer = inspector.ask(by_http(address, project), "tools/call", *command, code=None)
        reply = answer["structuredContent"]
        assert reply["success"] is True or reply["error"]["code"] not in UNFORESEEN, reply
