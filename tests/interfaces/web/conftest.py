"""A project behind a server: in this process for most tests, in one of its own where that is what is tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from visitors import Site, Visitor

from orchestrion.interfaces.web.house import House


@pytest.fixture
def site(tmp_path: Path, environ: dict[str, str], store_url: str) -> Site:
    """A git repository with one commit, made a project; its store is of either kind."""
    made = Site(tmp_path / "project", environ | {"ORCHESTRION_DB": store_url})
    made.make()
    return made


@pytest.fixture
def house(site: Site) -> Iterator[House]:
    """The server's project."""
    opened = House.open(str(site.root), None, site.environ)
    yield opened
    opened.close()


@pytest.fixture
def visitor(house: House, site: Site) -> Iterator[Visitor]:
    """The user of this machine, who has the key."""
    with Visitor(house, site.key) as one:
        yield one


@pytest.fixture
def stranger(house: House) -> Iterator[Visitor]:
    """Somebody on this machine without the key."""
    with Visitor(house) as one:
        yield one
