"""A project with a store, for servers of the Model Context Protocol: nothing of the user's is in their environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import InProcess, Site


@pytest.fixture
def site(tmp_path: Path, environ: dict[str, str], store_url: str) -> Site:
    """A git repository with one commit, made a project; its store is of either kind."""
    made = Site(tmp_path / "project", environ | {"ORCHESTRION_DB": store_url})
    made.make()
    return made


@pytest.fixture
def peer(site: Site) -> Iterator[InProcess]:
    """A client whose calls are answered in this process."""
    with InProcess(site) as one:
        yield one
