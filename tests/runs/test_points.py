"""Accidents happen where, as often and as reproducibly as they were asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrion.runs import points

SOURCES = Path(points.__file__).parents[1]


def passes(wish: str | None, *names: str, diary: Path | None = None) -> list[str]:
    """The points that a process comes past alive."""
    program = (
        "import sys; from orchestrion.runs.points import reach\n"
        "for point in sys.argv[1:]: reach(point); print(point, flush=True)"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRION_")}
    environ |= {points.VARIABLE: wish} if wish else {}
    environ |= {points.DIARY: str(diary)} if diary else {}
    done = subprocess.run(
        [sys.executable, "-c", program, *names], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == (0 if len(done.stdout.split()) == len(names) else -9)
    return done.stdout.split()


def test_nothing_happens_unasked() -> None:
    assert passes(None, *points.POINTS) == list(points.POINTS)


def test_an_accident_at_a_named_point(tmp_path: Path) -> None:
    assert passes("b", "a", "b", "c", diary=tmp_path / "diary") == ["a"]
    assert (tmp_path / "diary").read_text() == "b\n"


def test_only_once(tmp_path: Path) -> None:
    assert passes("b:once", "a", "b", "c", diary=tmp_path / "diary") == ["a"]
    assert passes("b:once", "a", "b", "c", diary=tmp_path / "diary") == ["a", "b", "c"]


def test_by_chance() -> None:
    assert passes("any:0:7", "a", "b") == ["a", "b"]
    assert passes("any:1:7", "a", "b") == []


@pytest.mark.parametrize("file", ["worker.py", "runs/supervise.py", "runs/merge.py"])
def test_every_point_that_is_reached_is_listed(file: str) -> None:
    reached = re.findall(r'(?:reach|point)\("([a-z.]+)"\)', (SOURCES / file).read_text())
    assert reached
    assert set(reached) <= set(points.POINTS)
