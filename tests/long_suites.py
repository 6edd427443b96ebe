"""The long suites: `make test` plays a part of each, `make test-all` plays them whole.

A test is long by its marker, most often of a whole file. With ``--part 15`` fifteen of a hundred
long tests of each file are played, at least one; a seed chooses them. It is new each time and
printed at the end, so that the same part can be played again with ``--seed``.
"""

from __future__ import annotations

import math
import random
import secrets
from collections import defaultdict
from typing import Any

import pytest

_SEED = "orchestrion_seed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options; without them everything is played."""
    parser.addoption("--part", type=float, default=100.0, help="percent of the long tests of each file to play")
    parser.addoption("--seed", type=int, default=None, help="which part; without it another one each time")


def pytest_configure(config: pytest.Config) -> None:
    """All processes of a run choose by the same seed."""
    given = getattr(config, "workerinput", {}).get(_SEED, config.getoption("seed"))
    config.stash[SEED] = secrets.randbelow(1_000_000) if given is None else given


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called for each process of xdist."""
    node.workerinput[_SEED] = node.config.stash[SEED]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Takes away the long tests that are not of the part."""
    part = config.getoption("part")
    if part >= 100:
        return
    left_out = _left_out(items, part, config.stash[SEED])
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Says which part it was."""
    part = config.getoption("part")
    if part < 100:
        terminalreporter.write_line(
            f"of the long tests {part:g} % were played: --part {part:g} --seed {config.stash[SEED]}"
        )


SEED = pytest.StashKey[int]()


def _left_out(items: list[pytest.Item], part: float, seed: int) -> set[pytest.Item]:
    by_file: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("long"):
            by_file[item.location[0]].append(item)
    left_out = set()
    for file, long in by_file.items():
        played = random.Random(f"{seed} {file}").sample(range(len(long)), math.ceil(len(long) * part / 100))
        left_out |= {item for place, item in enumerate(long) if place not in played}
    return left_out
