"""Claude Code, Codex, Gemini, Qwen and OpenCode work through our tools, as `orchestrion setup` made them start us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic_model import AnthropicModel
from desk import Desk, script
from openai_model import OpenAiModel

Step = dict[str, Any]

#: Else its model has answered before a server of tools has started. A model that thinks needs no such thing.
CODEX_WAITS = ("-c", "mcp_servers.orchestrion.required=true")
#: Client -> how it is asked something without a person before it.
ASKED = {
    "claude": lambda prompt: ["claude", "-p", prompt, "--allowedTools", "mcp__orchestrion"],
    "codex": lambda prompt: [
        "codex",
        "exec",
        "--json",
        *CODEX_WAITS,
        "--dangerously-bypass-approvals-and-sandbox",
        prompt,
    ],
    "gemini": lambda prompt: ["gemini", "-p", prompt, "-m", "gemini-2.5-pro", "--yolo", "-o", "stream-json"],
    "qwen": lambda prompt: ["qwen", "-p", prompt, "--auth-type", "openai", "--yolo", "-o", "stream-json"],
    "opencode": lambda prompt: ["opencode", "run", "--format", "json", "-m", "fake/fake-model", prompt],
}
#: Client -> what it calls itself.
CALLED = {"claude": "claude-code", "codex": "codex", "gemini": "gemini", "qwen": "qwen", "opencode": "opencode"}
#: Client -> how it names a tool of ours.
NAMED: dict[str, Callable[[str], Step]] = {
    "claude": lambda tool: {"tool": f"mcp__orchestrion__{tool}"},
    "codex": lambda tool: {"tool": tool, "namespace": "mcp__orchestrion"},
    "gemini": lambda tool: {"tool": f"mcp_orchestrion_{tool}"},
    "qwen": lambda tool: {"tool": f"mcp__orchestrion__{tool}"},
    "opencode": lambda tool: {"tool": f"orchestrion_{tool}"},
}


@pytest.fixture
def claude_model() -> Iterator[AnthropicModel]:
    with AnthropicModel() as model:
        yield model


@pytest.fixture
def model() -> Iterator[OpenAiModel]:
    with OpenAiModel() as model:
        yield model


@pytest.fixture
def desk(tmp_path: Path, programs: Path, claude_model: AnthropicModel, model: OpenAiModel) -> Iterator[Desk]:
    desk = Desk(tmp_path, programs, claude_model.url, model.url)
    yield desk
    desk.orchestrion.close()


def work(client: str) -> list[Step]:
    """A whole sitting: plan, claim, record, report, look."""
    calls: list[tuple[str, dict[str, Any]]] = [
        ("initialize_session", {"session_name": f"work of {client}"}),
        ("plan_task", {"title": "Write it", "description": "A page.", "specialist_type": "documenter"}),
        ("plan_task", {"title": "Read it", "description": "As a stranger.", "dependencies": ["T1"]}),
        ("execute_task", {"task_id": "T1"}),
        (
            "complete_task",
            {
                "task_id": "T1",
                "run": "R1",
                "summary": "written",
                "detailed_work": "all of the page",
                "file_paths": ["page.md"],
                "next_action": "complete",
            },
        ),
        ("query_tasks", {"status": ["completed"]}),
    ]
    steps = [NAMED[client](f"orchestrator_{tool}") | {"input": given} for tool, given in calls]
    return [*steps, {"text": "all done"}]


@pytest.mark.parametrize("client", ASKED)
def test_it_plans_works_and_reports(desk: Desk, client: str) -> None:
    desk.set_up(client, agents_md=False)
    (desk.root / "page.md").write_text("a page\n")
    said = desk.run(*ASKED[client](script(work(client)))).stdout
    assert "all done" in said
    first, second = (desk.orchestrion.task(name).as_json() for name in ("T1", "T2"))
    assert (first["state"], first["summary"], first["role"]) == ("completed", "written", "documenter")
    assert second["state"] == "ready"
    run = desk.orchestrion.run("R1").as_json()
    assert run["state"] == "succeeded"
    [file] = desk.orchestrion.verify(task="T1")["files"]
    assert (file["path"], file["status"]) == ("page.md", "verified")
    [session] = desk.orchestrion.list_sessions()["sessions"]
    assert session["name"] == f"work of {client}"
    assert CALLED[client] in session["client"]


@pytest.mark.parametrize(
    ("client", "asks"),
    [
        ("claude", ["claude", "mcp", "get", "orchestrion"]),
        ("codex", ["codex", "mcp", "get", "orchestrion"]),
        ("gemini", ["gemini", "mcp", "list"]),
        ("qwen", ["qwen", "mcp", "list"]),
        ("opencode", ["opencode", "mcp", "list"]),
    ],
)
def test_it_finds_the_server_of_a_project(desk: Desk, client: str, asks: list[str]) -> None:
    desk.set_up(client, "project", program=("/no/such/orchestrion",), agents_md=False)
    codex = desk.home / ".codex" / "config.toml"  # it reads a project's file if its user trusts the project
    codex.write_text(f'{codex.read_text()}[projects."{desk.root}"]\ntrust_level = "trusted"\n')
    said = desk.run(*asks)
    assert "/no/such/orchestrion" in said.stdout + said.stderr
