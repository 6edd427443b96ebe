"""A user with a home of their own, a project, and one call that sets a client up there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from asked import PROGRAM, SetUp

from orchestrion.orchestrator.settingup import set_up


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home without anything."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that is a project."""
    project = tmp_path / "project"
    (project / ".orchestrion").mkdir(parents=True)
    return project


@pytest.fixture
def setup(home: Path, project: Path) -> SetUp:
    """Sets up or undoes; ``platform`` and ``environ`` may be given."""

    def call(client: str, *, environ: dict[str, str] | None = None, **asked: Any) -> dict[str, Any]:
        own = {"HOME": str(home), "PATH": os.defpath, **(environ or {})}
        return set_up(client, **{"folder": project, "environ": own, "program": PROGRAM, "platform": "linux", **asked})

    return call
