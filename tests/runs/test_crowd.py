"""A short form of ``crowd.py``: twelve agents at once, with three workers on SQLite and with one on PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
AGENTS = 12


@pytest.mark.timeout(600)
def test_all_are_active_at_once_and_each_is_alone(store_url: str, dialect: str) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "tests.runs.crowd", "--agents", str(AGENTS)]
    command += ["--workers", "3"] if dialect == "sqlite" else ["--db", store_url]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout} {done.stderr[-4000:]}"
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert told["all at once"]["active runs"] == AGENTS
    assert told["all at once"]["by agent"] == {"claude": AGENTS // 2, "command": AGENTS // 2}
