"""A project as programs find it from outside: a repository, settings, an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrion import Orchestrator

PROGRAM = [sys.executable, "-m", "orchestrion"]


def clean_environ(folder: Path) -> dict[str, str]:
    """An environment with a home of its own in ``folder``: no other project, run or setting."""
    home = folder / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n name = User\n email = user@example.org\n[init]\n defaultBranch = main\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRION_", "GIT_", "XDG_"))}
    # Every process would compile all of it anew.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"HOME": str(home), "XDG_STATE_HOME": str(folder / "state"), "GIT_CONFIG_NOSYSTEM": "1"}


@contextmanager
def nobody() -> Iterator[None]:
    """Gives up root's rights over files for a moment; an ordinary user has none to give up."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def key_of(root: Path) -> str:
    """The key of a project's servers."""
    return (root / ".git" / "orchestrion" / "key").read_text().strip()


class Premises:
    """A folder with a project."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        self.environ = dict(environ)

    def make(self, config: Mapping[str, Any] | None = None) -> None:
        """Makes it a git repository with one commit, and a project."""
        self.root.mkdir()
        (self.root / "a.txt").write_text("a\n")
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
            subprocess.run(["git", *arguments], cwd=self.root, env=self.environ, check=True)
        if config:
            self.configure(config)
        self.open().close()

    def configure(self, config: Mapping[str, Any]) -> None:
        """Writes the project's settings."""
        (self.root / ".orchestrion").mkdir(exist_ok=True)
        (self.root / ".orchestrion" / "config.yaml").write_text(json.dumps(config))

    def open(self) -> Orchestrator:
        """The use cases, as somebody at the command line."""
        return Orchestrator.open(self.root, environ=self.environ, actor="user:ada")
