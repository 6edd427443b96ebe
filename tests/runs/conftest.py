"""A user's repository, and the user's own git in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.runs.workspace.places import Workspace


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the workspaces go."""
    return tmp_path / "state" / "workspaces"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit: a.txt, b.txt, src/main.py and a .gitignore."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user" / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "user" / ".gitconfig").write_text(
        "[user]\n name = User\n email = user@example.org\n[init]\n defaultBranch = main\n"
    )
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "a.txt").write_text("a\n" * 20)
    (folder / "b.txt").write_text("b\n" * 20)
    (folder / "src" / "main.py").write_text("print('hello')\n")
    (folder / ".gitignore").write_text("*.log\n.env\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def user(project: Path) -> UserGit:
    """git in the project, or in another folder with ``at=``."""

    def git(*args: str | Path, at: Path = project) -> str:
        done = subprocess.run(["git", *args], cwd=at, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    return git


@pytest.fixture
def seam(project: Path, home: Path) -> RunSeam:
    """Workspaces of that project."""
    return RunSeam(project, home)


@pytest.fixture
def base(user: UserGit) -> str:
    """The project's commit."""
    return user("rev-parse", "HEAD")


@pytest.fixture
def workspace(seam: RunSeam, base: str) -> Workspace:
    """A workspace at that commit."""
    return seam.prepare("R1", base)
