"""The short form of every scenario, each as a test of its own; one of each kind is in ``make test``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.all import SCENARIOS, Impossible, Play, short

#: One or two of each kind of trouble.
BRIEF = (
    *("crash", "hang", "flood", "half_lines", "deaf_to_sigterm", "detached_children", "lies"),
    *("network_cut_when_the_agent_ends", "sqlite_locked", "postgres_crashes"),
    *("kill_supervisor", "kill_agent_and_supervisor", "stop_supervisor_until_another_host_settles"),
    *("file_too_large", "memory_limit_of_a_run", "handles_gone_while_it_works"),
)
PLAYED = [pytest.param(name, marks=() if name in BRIEF else pytest.mark.long) for name in short()]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """One play for all of a worker's tests: they share its PostgreSQL server."""
    shared = Play(tmp_path_factory.mktemp("chaos"))
    yield shared
    shared.close()


@pytest.mark.parametrize("name", PLAYED)
def test_it_ends_as_it_must(play: Play, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario says what trouble there is, and what must hold."""
    for variable in ("ORCHESTRION_DB", "ORCHESTRION_PROJECT", "ORCHESTRION_RUN"):
        monkeypatch.delenv(variable, raising=False)
    try:
        play.perform(SCENARIOS[name])
    except Impossible as impossible:
        pytest.fail(f"a scenario of the short form must be playable everywhere: {impossible}")
