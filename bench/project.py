"""A project on disk and the commands of an installed Orchestrion, for the rows that start processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.databases import Databases
from orchestrion import Orchestrator

#: The program that a user types.
PROGRAM = str(Path(sys.executable).with_name("orchestrion"))
#: How long anything may take before the measurement is given up, in seconds.
PATIENCE_S = 60.0


class BenchProject:
    """A folder that is a project, with a database of its own."""

    def __init__(self, folder: Path, databases: Databases) -> None:
        self.folder = folder
        self.url = databases.fresh()
        self._databases = databases
        (folder / "state").mkdir(parents=True)
        (folder / "tree").mkdir()
        #: The project's folder; beside it lies all that is written for it elsewhere.
        self.tree = folder / "tree"
        self.environment = _environment(folder) | {"ORCHESTRION_DB": self.url}

    def make_repository(self, files: int) -> None:
        """Makes the tree a git repository with so many small files, in folders of a hundred."""
        for number in range(files):
            file = self.tree / f"part{number // 100}" / f"file{number}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"This is file {number}.\n" * 20, encoding="utf-8")
        for arguments in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "All files")):
            self.git(*arguments)

    def git(self, *arguments: str) -> None:
        """Runs git in the tree."""
        identity = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org", "-c", "gc.auto=0")
        subprocess.run(["git", *identity, *arguments], cwd=self.tree, env=self.environment, check=True)

    def call(self, *arguments: str) -> None:
        """Runs an ``orchestrion`` command in the project; its answer is thrown away."""
        subprocess.run(
            [PROGRAM, *arguments], cwd=self.tree, env=self.environment, check=True, stdout=subprocess.DEVNULL
        )

    def open(self) -> Orchestrator:
        """The project's use cases, in this process."""
        return Orchestrator.open(self.tree, db=self.url, environ=self.environment)

    @contextmanager
    def worker(self, *options: str) -> Iterator[int]:
        """A worker that runs one task at a time, or as ``options`` say, until the end of the block; its process id."""
        with (self.folder / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                [PROGRAM, "work", *(options or ("--slots", "1"))],
                cwd=self.tree,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                yield process.pid
            finally:
                process.terminate()
                process.wait(PATIENCE_S)

    def drop(self) -> None:
        """Removes the database; the folder goes with whatever it lies in."""
        self._databases.drop(self.url)


def until(true: Callable[[], bool], what: str, *, glance_s: float = 0.005) -> None:
    """Waits until something is true; ends the program when it does not become true."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"bench: waited {PATIENCE_S:.0f} s for {what}")
        time.sleep(glance_s)


def _environment(folder: Path) -> dict[str, str]:
    """The environment without anything that would lead the commands to another project, run or setting."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRION_", "GIT_"))}
    return kept | {
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
