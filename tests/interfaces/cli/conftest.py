"""A project to call the command line in: a real repository, its own home, nothing of the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from place import GIT_SETTINGS, Place


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of this process and of those it starts: without anything of the user's."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(GIT_SETTINGS)
    for name in list(os.environ):
        if name.startswith(("ORCHESTRION_", "GIT_", "XDG_", "LC_")) or name in ("COLUMNS", "LINES", "NO_COLOR"):
            monkeypatch.delenv(name)
    # Every process would compile all of it anew.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    return dict(os.environ)


@pytest.fixture
def bare(tmp_path: Path, environ: dict[str, str]) -> Place:
    """A folder that is no project."""
    root = tmp_path / "bare"
    root.mkdir()
    return Place(root, environ)


@pytest.fixture
def project(tmp_path: Path, environ: dict[str, str]) -> Place:
    """A git repository with one commit, made a project."""
    root = tmp_path / "project"
    root.mkdir()
    place = Place(root, environ)
    (root / "a.txt").write_text("a\n")
    place.git("init", "-q")
    place.git("add", ".")
    place.git("commit", "-qm", "one")
    place("init")
    return place
