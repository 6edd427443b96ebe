"""The commands ``setup`` and ``hook``, as people and programs call them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from place import Place

from orchestrion.ops.setup.clients import CLIENTS


def test_setting_up_and_undoing(project: Place) -> None:
    answer = project("setup", "cursor")
    file = Path(project.environ["HOME"]) / ".cursor" / "mcp.json"
    assert f"created: {file} (server)" in answer.out
    assert "switch the server on" in answer.out
    server = json.loads(file.read_text())["mcpServers"]["orchestrion"]
    assert Path(server["command"]).is_absolute()
    assert server["args"][-1:] == ["mcp"]
    again = project.json("setup", "cursor")
    assert [one["state"] for one in again["files"]] == ["unchanged", "unchanged"]
    assert project("setup", "cursor", "--undo").out.startswith(f"removed: {file} (server)\n")
    assert not file.exists()
    assert not (project.root / "AGENTS.md").exists()


def test_a_rehearsal_prints_a_diff(project: Place) -> None:
    answer = project("setup", "vscode", "--scope", "project", "--tools", "core", "--dry-run", "--no-agents-md")
    assert answer.out.startswith(f"--- /dev/null\n+++ {project.root}/.vscode/mcp.json\n")
    assert '+        "-C",' in answer.out.splitlines()
    assert "AGENTS.md" not in answer.out
    assert not (project.root / ".vscode").exists()


def test_without_the_library_an_unknown_client_is_told_first(project: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert project("setup", "emacs", "--json", code=6).error["code"] == "unknown_client"
    assert project("setup", "claude", "--json", code=7).error["code"] == "extra_missing"


def test_what_is_wrong_is_said(project: Place, bare: Place) -> None:
    assert project("setup", "emacs", "--json", code=6).error["code"] == "unknown_client"
    assert project("setup", "windsurf", "--scope", "project", "--json", code=6).error["code"] == "no_such_scope"
    assert bare("setup", "cursor", "--scope", "project", "--json", code=4).error["code"] == "no_project"
    (project.root / ".mcp.json").write_text('{\n  "mcpServers": {,}\n}')
    error = project("setup", "claude", "--scope", "project", "--json", code=6).error
    assert error["code"] == "broken_client_config"
    assert (error["details"]["line"], error["details"]["column"]) == (2, 18)


def test_a_hook_never_fails(project: Place) -> None:
    answer = project("hook", "Stop", stdin=b"nonsense")
    assert answer.out == ""
    assert answer.err.startswith("orchestrion hook: the input is not JSON")


def test_the_help_names_every_client(project: Place) -> None:
    text = project("setup", "--help").out
    assert all(client.name in text for client in CLIENTS)
