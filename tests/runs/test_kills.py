"""Short plays of ``kills.py``: twenty of everybody die, and nothing is lost."""

from __future__ import annotations

import collections
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
KILLS = 20


@pytest.mark.timeout(600)
@pytest.mark.parametrize("play", range(4))
def test_whoever_is_killed_nothing_is_lost(play: int) -> None:
    """Runs as a program of its own; the seed is new each time, and told when something is wrong."""
    seed = secrets.randbelow(1_000_000)
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "tests.runs.kills", "--kills", str(KILLS), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stdout} {done.stderr[-4000:]}"
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert told["kills"] >= KILLS
    assert set(told["tasks"]) == {"completed"}
    assert set(told["runs by agent"]) == {"claude", "command"}
    died = collections.Counter(told["at points"]) + collections.Counter(told["at any moment"])
    assert len(died) >= 4, died
