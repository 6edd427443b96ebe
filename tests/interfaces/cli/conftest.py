"""A project to call the command line in: a real repository, its own home, nothing of the user's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrion.interfaces.cli.app import run

GIT_SETTINGS = "[user]\n name = User\n email = user@example.org\n[init]\n defaultBranch = main\n"


@dataclass(frozen=True)
class Answer:
    """What a call printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error on stderr."""
        found: dict[str, Any] = json.loads(self.err)["error"]
        return found


class Place:
    """A folder to call the command line in."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        self.environ = dict(environ)

    def __call__(self, *arguments: str, stdin: bytes = b"", code: int | None = 0) -> Answer:
        """Calls the command line in this process; ``code`` is the exit code it must end with."""
        before = Path.cwd()
        os.chdir(self.root)
        try:
            with CliRunner().isolation(input=stdin) as (out, err, _):
                ended = run(arguments)
                answer = Answer(ended, out.getvalue().decode(), err.getvalue().decode())
        finally:
            os.chdir(before)
        assert code is None or ended == code, (arguments, answer)
        return answer

    def json(self, *arguments: str, **given: Any) -> Any:
        """The document that a call with ``--json`` prints."""
        return self(*arguments, "--json", **given).json

    def start(self, *arguments: str | bytes, **given: Any) -> subprocess.Popen[bytes]:
        """Starts the program as a process of its own."""
        settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrion", *arguments], cwd=self.root, env=self.environ, **settings | given
        )

    def process(self, *arguments: str | bytes, **given: Any) -> Answer:
        """Runs the program as a process of its own."""
        with self.start(*arguments, **given) as process:
            out, err = process.communicate(timeout=60)
        return Answer(process.returncode, (out or b"").decode(), (err or b"").decode())

    def git(self, *arguments: str) -> str:
        """Asks git in this folder."""
        done = subprocess.run(["git", *arguments], cwd=self.root, env=self.environ, capture_output=True, check=True)
        return done.stdout.decode()


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of this process and of those it starts: without anything of the user's."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(GIT_SETTINGS)
    for name in list(os.environ):
        if name.startswith(("ORCHESTRION_", "GIT_", "XDG_", "LC_")) or name in ("COLUMNS", "NO_COLOR"):
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
def project(tmp_path: Path, environ: dict[str, str]) -> Iterator[Place]:
    """A git repository with one commit, made a project."""
    root = tmp_path / "project"
    root.mkdir()
    place = Place(root, environ)
    (root / "a.txt").write_text("a\n")
    place.git("init", "-q")
    place.git("add", ".")
    place.git("commit", "-qm", "one")
    place("init")
    yield place
