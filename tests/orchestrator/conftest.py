"""A project in git, open on either database, and the same as somebody sees it who comes later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import git

from orchestrion import Orchestrator


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRION_", "GIT_"))}
    return {**kept, "HOME": str(tmp_path / "home"), "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    (root / "README").write_text("hello\n")
    (root / "old.txt").write_text("old\n" * 20)
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    (root / "link").symlink_to("/etc")
    (root / "loop").symlink_to("loop")
    return root


@pytest.fixture
def orchestrion(project: Path, store_url: str, environ: dict[str, str]) -> Iterator[Orchestrator]:
    with Orchestrator.open(project, db=store_url, environ=environ) as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository without a commit."""
    made = tmp_path / "project"
    made.mkdir()
    git(made, "init", "-q")
    return made


@pytest.fixture
def one(root: Path, store_url: str, environ: dict[str, str]) -> Iterator[Orchestrator]:
    """A project in which nothing has happened."""
    with Orchestrator.open(root, db=store_url, environ=environ) as opened:
        yield opened


@pytest.fixture
def later(project: Path, store_url: str, environ: dict[str, str], orchestrion: Orchestrator) -> Iterator[Orchestrator]:
    """The same project, opened by somebody who was not there before."""
    with Orchestrator.open(project, db=store_url, environ=environ) as opened:
        yield opened
