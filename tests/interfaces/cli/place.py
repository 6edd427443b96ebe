"""A folder to call the command line in, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    @contextmanager
    def running(self, *arguments: str | bytes, **given: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Runs the program for a block; a test that fails leaves no process behind."""
        with self.start(*arguments, **given) as process:
            try:
                yield process
            finally:
                process.kill()

    def start(self, *arguments: str | bytes, **given: Any) -> subprocess.Popen[bytes]:
        """Starts the program as a process of its own."""
        settings: dict[str, Any] = {
            "cwd": self.root,
            "env": self.environ,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "stdin": subprocess.DEVNULL,
            # Tests that run in the background are started with Ctrl-C ignored.
            "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        }
        return subprocess.Popen([sys.executable, "-m", "orchestrion", *arguments], **settings | given)

    def process(self, *arguments: str | bytes, **given: Any) -> Answer:
        """Runs the program as a process of its own, to its end."""
        with self.running(*arguments, **given) as process:
            out, err = process.communicate(timeout=60)
        return Answer(process.returncode, (out or b"").decode(), (err or b"").decode())

    def git(self, *arguments: str) -> str:
        """Asks git in this folder."""
        done = subprocess.run(["git", *arguments], cwd=self.root, env=self.environ, capture_output=True, check=True)
        return done.stdout.decode()
