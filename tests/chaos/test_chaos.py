"""The short form of every scenario, each as a test of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.all import SCENARIOS, Impossible, Play, short

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """One play for all of a worker's tests: they share its PostgreSQL server."""
    shared = Play(tmp_path_factory.mktemp("chaos"))
    yield shared
    shared.close()


@pytest.mark.parametrize("name", short())
def test_it_ends_as_it_must(play: Play, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario says what trouble there is, and what must hold."""
    for variable in ("ORCHESTRION_DB", "ORCHESTRION_PROJECT", "ORCHESTRION_RUN"):
        monkeypatch.delenv(variable, raising=False)
    try:
        play.perform(SCENARIOS[name])
    except Impossible as impossible:
        pytest.fail(f"a scenario of the short form must be playable everywhere: {impossible}")
