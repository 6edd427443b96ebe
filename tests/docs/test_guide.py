"""The guide "five minutes" is done as it stands: its commands in a shell, its calls by a client of the protocol."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters, stdio_client

from orchestrion.ops.setup.clients import CLIENTS, SCOPES, config_file, hooks_file

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "guides" / "five-minutes.md").read_text(encoding="utf-8")
PATIENCE_S = 60
#: What is done in place of Claude: it builds on what the reader committed, and on what was merged before.
WRITES = """--run 'cat outline.md >> page.md; echo "The page." >> page.md'"""


def steps() -> dict[str, list[str]]:
    """The commands of each chapter."""
    found: dict[str, list[str]] = {}
    for chapter in GUIDE.split("\n## ")[1:]:
        title = chapter.partition("\n")[0]
        blocks = re.findall(r"```console\n(.*?)```", chapter, re.DOTALL)
        found[title] = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return found


def calls() -> list[dict[str, Any]]:
    block = re.search(r"<!-- calls -->\n```json\n(.*?)```", GUIDE, re.DOTALL)
    assert block
    found: list[dict[str, Any]] = json.loads(block[1])
    return found


class Reader:
    """Somebody who reads the guide from the top."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        (self.home / ".gitconfig").write_text("[user]\n name = Ada\n email = ada@example.org\n")
        own = Path(sys.executable).parent
        self.environ = {"HOME": str(self.home), "PATH": f"{own}{os.pathsep}{os.defpath}"} | {
            key: value for key, value in os.environ.items() if key in ("PYTHONPATH", "LANG")
        }

    def does(self, commands: list[str]) -> str:
        """What they print."""
        script = "\n".join(["set -e", *commands])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def calls(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers of the server that the set-up wrote down."""
        told = json.loads((self.home / ".claude.json").read_text())["mcpServers"]["orchestrion"]
        server = StdioServerParameters(
            command=told["command"], args=told["args"], env=self.environ, cwd=str(self.folder)
        )
        async with stdio_client(server) as (reading, writing), ClientSession(reading, writing) as session:
            await session.initialize()
            answers = [await session.call_tool(one["name"], one["arguments"]) for one in calls]
        assert [answer.is_error for answer in answers] == [False] * len(calls), answers
        return [dict(answer.structured_content or {}) for answer in answers]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_it_leads_from_an_empty_folder_to_a_completed_task(reader: Reader) -> None:
    install, project, client, work, look, tomorrow, workers, _ = steps().values()
    assert "pip install './orchestrion[mcp]'" in install[2]
    reader.does(project)
    reader.folder /= "tuning"
    rehearsed = reader.does(client[:1])
    assert rehearsed.startswith(f"--- /dev/null\n+++ {reader.home}/.claude.json")
    reader.does(client[1:])
    assert not work
    (reader.folder / "outline.md").write_text("# Tuning\n")
    answers = anyio.run(reader.calls, calls())
    assert answers[0]["working_directory"] == str(reader.folder)
    assert (answers[4]["run"], answers[6]["unblocked"]) == ("R1", ["T2"])
    assert [(task["id"], task["state"]) for task in answers[7]["tasks"]] == [
        ("T1", "completed"),
        ("T2", "ready"),
        ("T3", "pending"),
    ]
    shown = reader.does(look)
    for word in ("T1  completed", "Three headings", "verified  created  R1  outline.md", "Equal temperament only"):
        assert word in shown
    told = reader.does(tomorrow)
    for word in ("T2 Write the page", "created outline.md [verified]", "Equal temperament only", "H1"):
        assert word in told
    assert sum("--agent claude" in command for command in workers) == 2
    reader.does([command.replace("--agent claude", WRITES) for command in workers])
    assert json.loads(reader.does(["orchestrion list --state completed --json"]))["total"] == 3
    assert (reader.folder / "page.md").read_text() == "# Tuning\nThe page.\n" * 2
    reader.does(["orchestrion mcp </dev/null", "orchestrion why T2", "orchestrion setup claude --undo"])
    assert not (reader.home / ".claude.json").exists()


def test_the_page_of_clients_names_every_file() -> None:
    page = (DOCS / "concepts" / "clients.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| ([^|]+) \| ([^|]*)\|$", page.split("<!-- clients -->")[1], re.M)
    assert [(row[0], row[1]) for row in rows] == [(client.name, client.title) for client in CLIENTS]
    for client, row in zip(CLIENTS, rows, strict=True):
        for scope, cell in zip(SCOPES, row[2:], strict=True):
            where = (Path("/p"), {"HOME": "/h"}, "linux")
            if scope == "project" and not client.project:
                assert not cell.strip()
                continue
            files = [config_file(client, scope, *where)]
            files += [hooks_file(client, scope, *where)] if client.hooks else []
            shown = [str(file).replace("/h/", "~/").removeprefix("/p/") for file in files]
            assert re.findall(r"`([^`]+)`", cell) == shown
