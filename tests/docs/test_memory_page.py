"""The page about memory is played: its commands run, one after the other, and say what it says; its tables are true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from orchestrion.memory.brief import DEFAULT_TOKENS
from orchestrion.memory.decisions import MOVES
from orchestrion.memory.files import STATUSES
from orchestrion.memory.prime import TOKENS

PAGE = (Path(__file__).parents[2] / "docs" / "concepts" / "memory.md").read_text(encoding="utf-8")


def calls() -> list[tuple[list[str], list[str]]]:
    """Each command of the page's console, and lines that it says."""
    found: list[tuple[list[str], list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((shlex.split(line[2:]), []))
            else:
                found[-1][1].append(line)
    return found


def test_its_commands_say_what_it_says(tmp_path: Path) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRION_", "GIT_"))}
    environ |= {"HOME": str(tmp_path / "home"), "XDG_STATE_HOME": str(tmp_path / "state")}
    root = tmp_path / "project"
    (root / ".orchestrion").mkdir(parents=True)
    assert len(calls()) > 8
    for command, lines in calls():
        program = [sys.executable, "-m", *command] if command[0] == "orchestrion" else command
        done = subprocess.run(program, cwd=root, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        for line in lines:
            assert line in done.stdout.splitlines(), (command, done.stdout)


def test_its_numbers_and_tables_are_those_of_the_program() -> None:
    assert f"{TOKENS:,} tokens at most" in PAGE
    assert f"{DEFAULT_TOKENS:,} tokens at most" in PAGE
    assert sorted(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == sorted([*MOVES, *STATUSES])
    for status, following in MOVES.items():
        if following:
            assert re.search(rf"^\| `{status}` .*\| {', '.join(following)} \|$", PAGE, re.MULTILINE), status
