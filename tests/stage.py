"""A project on which tests let agents play: a real repository, a real store, real processes.

``python tests/stage.py FOLDER SLOTS [--drain]`` is a worker of its own, for tests that
stop or kill one.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from direct import RawSqlite
from orchestrion import Orchestrator
from orchestrion.runs import processes
from orchestrion.worker import Summary, Worker
from scheduler.invariants import look, violations
from waiting import PATIENCE_S, wait_for


class Stage:
    """One project and its store. ``environ`` belongs to it alone: own home, own state folder."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *, git: bool = True) -> None:
        self.folder = folder
        self.root = folder / "project"
        self.environ = {key: value for key, value in environ.items() if not key.startswith(("GIT_", "ORCHESTRION_"))}
        # Every run starts an interpreter; compiling all of it anew each time would double the time of the tests.
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environ |= {
            "HOME": str(folder / "home"),
            "XDG_CONFIG_HOME": str(folder / "home" / ".config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        (folder / "home").mkdir(parents=True)
        self.root.mkdir()
        if git:
            self._make_repository()
        else:
            (self.root / ".orchestrion").mkdir()
        self.orchestrion: Orchestrator = None  # type: ignore[assignment]

    def _make_repository(self) -> None:
        settings = "[user]\n name = User\n email = user@example.org\n[init]\n defaultBranch = main\n"
        (self.folder / "home" / ".gitconfig").write_text(settings)
        (self.root / "a.txt").write_text("a\n" * 10)
        (self.root / ".gitignore").write_text("*.log\n.env\n")
        for command in ("init -q", "add .", "commit -qm first"):
            self.git(*command.split())

    def open(self, **settings: Any) -> Orchestrator:
        """Opens the store; ``settings`` as in the configuration, ``run__stall_s=1``."""
        shared = self.root / ".orchestrion"
        shared.mkdir(exist_ok=True)
        chosen: dict[str, Any] = {"project": {"name": "stage"}}
        for setting, value in settings.items():
            section, _, key = setting.partition("__")
            if key:
                chosen.setdefault(section, {})[key] = value
            else:
                chosen[section] = value
        (shared / "config.yaml").write_text(json.dumps(chosen))
        if (self.root / ".git").exists():
            (self.root / ".git" / "info" / "exclude").write_text(".orchestrion/\n")
        self.orchestrion = Orchestrator.open(self.root, environ=self.environ)
        return self.orchestrion

    def close(self) -> None:
        """Closes the store."""
        self.orchestrion.close()

    # -- what there is to do and to see -----------------------------------------------------------

    def add(self, command: str, **values: Any) -> str:
        """A task that runs ``command``; its name."""
        title = values.pop("title", command.splitlines()[0][:100] or "a task")
        return str(self.orchestrion.add(title, command=command, **values).as_json()["id"])

    def drain(self, slots: int = 4) -> Summary:
        """Works in this process until nothing is left to run."""
        done = self.orchestrion.work(slots=slots, drain=True)
        assert isinstance(done, Summary)
        return done

    def task(self, task: str = "T1") -> dict[str, Any]:
        """The task's row."""
        return dict(self.orchestrion.task(task).row)

    def run(self, run: str = "R1") -> dict[str, Any]:
        """The run as JSON with its evidence."""
        return self.orchestrion.run_detail(run)

    def runs(self, task: str = "T1") -> list[dict[str, Any]]:
        """All runs of a task, oldest first."""
        return [run.as_json() for run in reversed(self.orchestrion.list_runs(task=task, limit=100).items)]

    def kinds(self, **of: str) -> list[str]:
        """The journal's kinds of events."""
        return [event["kind"] for event in self.orchestrion.events(limit=1000, **of)]

    def lines(self, run: str = "R1", stream: str = "out") -> list[str]:
        """What the agent wrote."""
        return [line["text"] for line in self.orchestrion.log(run) if line["stream"] == stream]

    def run_folder(self, run: str = "R1") -> Path:
        """Where the run's log and brief are."""
        return self.orchestrion.project.store_dir / "runs" / run

    def workspace(self, run: str = "R1") -> Path:
        """Where the run works."""
        return Path(self.run(run)["workspace"])

    # -- git -----------------------------------------------------------------------------------------

    def git(self, *args: str | Path, at: Path | None = None) -> str:
        """The user's own git."""
        done = subprocess.run(
            ["git", *args], cwd=at or self.root, env=self.environ, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout.strip()

    def add_submodule(self, path: str) -> None:
        """The user's repository gets a submodule with one file, ``lib.c``."""
        library = self.folder / "library"
        self.git("init", "-q", library)
        (library / "lib.c").write_text("c\n")
        self.git("add", ".", at=library)
        self.git("commit", "-qm", "lib", at=library)
        self.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, path)
        self.git("commit", "-qm", "sub")

    def merged(self, file: str, plan: str = "default") -> str | None:
        """Content of a file in the plan; None when it has none."""
        answer = subprocess.run(
            ["git", "show", f"refs/orchestrion/plans/{plan}:{file}"],
            cwd=self.root, env=self.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return answer.stdout if answer.returncode == 0 else None

    def on_branch(self, file: str, run: str = "R1") -> str:
        """Content of a file on the branch that keeps a run's work."""
        return self.git("show", f"orchestrion/run/{run}:{file}")

    def user_sees(self) -> dict[str, Any]:
        """What the user has in their checkout and repository, ours aside."""
        if not (self.root / ".git").exists():
            return {}
        ours = ("refs/heads/orchestrion/", "refs/orchestrion/")
        refs = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        git_dir = self.root / ".git"
        files = [path for path in self.root.rglob("*") if path.is_file() and git_dir not in path.parents]
        return {
            "tree": {str(path): path.read_bytes() for path in files if ".orchestrion" not in path.parts},
            "refs": [ref for ref in refs if not ref.startswith(ours)],
            "git": {
                name: (git_dir / name).read_bytes()
                for name in ("HEAD", "index", "config", "logs/HEAD", "FETCH_HEAD", "ORIG_HEAD", "packed-refs")
                if (git_dir / name).exists()
            },
        }

    def direct(self, patience_s: float = PATIENCE_S) -> RawSqlite:
        """SQL on the project's database, beside the store."""
        return RawSqlite(str(self.orchestrion.project.store_dir / "orchestrion.db"), patience_s)

    def check(self, before: Mapping[str, Any]) -> None:
        """The database is sound, no process of a run is left, and the user's checkout is as it was."""
        with self.direct() as database:
            assert violations(look(database)) == []
        wait_for(lambda: not self.carriers(), "no process of a run is left", 10)
        assert self.user_sees() == before

    # -- processes ----------------------------------------------------------------------------------

    @contextmanager
    def worker(self, *, slots: int = 2, drain: bool = True, **extra: str) -> Iterator[subprocess.Popen[str]]:
        """A worker process; it is killed when the block is left. ``extra`` goes into its environment."""
        process = self.start_worker(slots=slots, drain=drain, **extra)
        with process:
            try:
                yield process
            finally:
                process.kill()

    def start_worker(self, *, slots: int = 2, drain: bool = True, **extra: str) -> subprocess.Popen[str]:
        """A worker process that the caller ends."""
        command = [sys.executable, __file__, str(self.root), str(slots), *(["--drain"] if drain else [])]
        return subprocess.Popen(
            command, env={**self.environ, **extra}, stdout=subprocess.PIPE, text=True, cwd=self.folder
        )

    def carriers(self) -> dict[str, list[processes.Process]]:
        """Processes that belong to runs of this store."""
        return processes.of_store(self.orchestrion.store.uuid)

    def supervisor(self, run: str = "R1") -> int:
        """The process id of a run's supervisor, once there is one."""
        return int(wait_for(lambda: self.run(run)["pid"], f"{run} has a supervisor"))

    def suspend(self, pid: int) -> None:
        """Stops a process at a moment when it holds no lock of the database: with one, it would stop us all."""
        with self.direct(patience_s=0) as database:

            def stopped_without_lock() -> bool:
                os.kill(pid, signal.SIGSTOP)
                wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it is stopped")
                try:
                    database.run("begin immediate")
                except sqlite3.OperationalError:
                    os.kill(pid, signal.SIGCONT)
                    return False
                database.run("rollback")
                return True

            wait_for(stopped_without_lock, "it can be stopped without a lock")

    def await_lines(self, count: int = 1, run: str = "R1") -> list[str]:
        """What the agent wrote, once it has written so many lines."""

        def enough() -> list[str] | None:
            try:
                lines = self.lines(run)
            except LookupError:
                return None
            return lines if len(lines) >= count else None

        wait_for(lambda: (self.run_folder(run) / "log.jsonl").exists(), f"{run} has a log")
        return list(wait_for(enough, f"{run} wrote {count} lines"))


def python(program: str) -> str:
    """A command that runs a Python program."""
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"


def main(folder: str, slots: str, *options: str) -> int:
    """A worker until it is told to stop; ends as the command line does."""
    with Orchestrator.open(Path(folder)) as orchestrion:

        def heed_sigterm(worker: Worker) -> None:
            signal.signal(signal.SIGTERM, lambda *_: worker.stop())
            print("working", flush=True)

        summary = orchestrion.work(slots=int(slots), drain="--drain" in options, worker=heed_sigterm)
    print(json.dumps(summary.as_json()))
    return 0 if summary.all_completed else 8


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    sys.exit(main(*sys.argv[1:]))
