"""The ground that a scenario plays on: a stage, a healthy neighbour, trouble, and the proof that all ended well.

A scenario adds the task that gets into trouble. Beside it a neighbour works all the while, slowly
and well, until the trouble is over: it must complete with its first run. What must hold at the end
of every scenario, whatever happened, is in ``prove``.
"""

from __future__ import annotations

import os
import random
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import stage as stages
from chaos.server import PostgresServer
from direct import RawPostgres
from orchestrion import Orchestrator
from orchestrion.core.retry import FAILURES
from orchestrion.runs import launch
from scheduler.invariants import look, violations
from stage import Stage, wait_for

HERE = Path(__file__).parent
#: What a scenario may take in all before its worker counts as stuck, in seconds.
STUCK_S = 60.0
#: A supervisor with all it has loaded is smaller than this, whatever its agent does, in MB (10^6 bytes).
SUPERVISOR_MB = 80.0


class Impossible(Exception):
    """A scenario cannot be played on this machine; says why, and what it needs."""


@dataclass
class Play:
    """What all scenarios of one play share."""

    #: Where grounds are made, one below it for each scenario.
    folder: Path
    #: Whether there is time to do it at length: larger floods, longer cuts, and what needs root.
    long: bool = False
    seed: int = 0
    _server: PostgresServer | None = None

    @property
    def server(self) -> PostgresServer:
        """A PostgreSQL server of this play alone: scenarios stop it."""
        if self._server is None:
            self._server = PostgresServer()
        return self._server

    def close(self) -> None:
        """Ends the server, if there is one."""
        if self._server is not None:
            self._server.close()

    def perform(self, scenario: Callable[[Ground], None]) -> None:
        """Plays one scenario on a ground of its own. Raises what is wrong."""
        ground = Ground(self, scenario.__name__)
        try:
            scenario(ground)
            ground.prove()
        except BaseException as wrong:
            wrong.add_note(ground.told())
            raise
        finally:
            ground.close()


class Ground:
    """One stage with a healthy neighbour."""

    def __init__(self, play: Play, name: str) -> None:
        self.play = play
        self.long = play.long
        self.random = random.Random(f"{play.seed}/{name}")
        self.folder = play.folder / name
        # The store itself reads the environment in some places: nothing of ours may lead it astray.
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        self.stage = Stage(self.folder, environ)
        self.workers: list[subprocess.Popen[str]] = []
        self.announced: set[int] = set()
        #: The most memory that a supervisor of a task in trouble held, in MB.
        self.peak_mb = 0.0
        #: The same of one that a supervisor started: an agent, or who stands before it.
        self.peak_of_child_mb = 0.0
        #: Names of the healthy tasks.
        self.neighbours: list[str] = []
        self._url: str | None = None
        self._for_workers: dict[str, str] = {}
        self._on_close = ExitStack()
        self.before: Mapping[str, Any] = {}
        self.open()

    def open(self, *, url: str | None = None, direct: str | None = None, **settings: Any) -> None:
        """Opens the store, again if need be: retries at once, short grace.

        ``url`` names a database in PostgreSQL for the workers; ``direct`` the same one for us, who
        look on while its network is cut.
        """
        if self.stage.orchestrion is not None:
            self.stage.close()
        self._url = direct or url
        chosen: dict[str, Any] = {"retry__delay_s": 0, "retry__max": 2, "run__grace_s": 0.5, **settings}
        if url:
            self.stage.environ["ORCHESTRION_DB"] = str(self._url)
            self._for_workers["ORCHESTRION_DB"] = url
        self.stage.open(**chosen)
        self.before = self.stage.user_sees()

    def reconnect(self) -> None:
        """Opens the same store anew: our own connection was cut too, and we are nobody who must outlive that."""
        self.stage.close()
        self.stage.orchestrion = Orchestrator.open(self.stage.root, environ=self.stage.environ)

    def close(self) -> None:
        """Ends what is left, also when the scenario failed."""
        self._on_close.close()
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        for left in self.strangers():
            with suppress(psutil.Error):
                left.kill()
        self.stage.close()

    def at_close(self, end: Callable[[], object]) -> None:
        """``end`` is called when the ground is left."""
        self._on_close.callback(end)

    # -- what is worked on ------------------------------------------------------------------------

    def neighbour(self) -> str:
        """A healthy task that works all through the trouble, until ``calm``; its name."""
        number = len(self.neighbours)
        task = self.stage.add(
            f"for i in $(seq 3000); do test -f {self.folder}/calm && break; echo $i; sleep 0.1; done;"
            f" echo $ORCHESTRION_ATTEMPT > neighbour-{number}.txt",
            title=f"healthy neighbour {number}",
            checks=(f"test -f neighbour-{number}.txt",),
        )
        self.neighbours.append(task)
        return task

    def calm(self) -> None:
        """The trouble is over: neighbours finish."""
        (self.folder / "calm").touch()

    def trouble(self, command: str, *, alone: bool = False, **values: Any) -> str:
        """The task that gets into trouble; it waits until the neighbour works beside it, unless ``alone``. Its name."""
        self.start()
        if not alone:
            neighbour = self.neighbours[0] if self.neighbours else self.neighbour()
            wait_for(lambda: self.is_working(neighbour), "the neighbour works")
        if not command:
            return str(self.stage.orchestrion.add(**values).as_json()["id"])
        return self.stage.add(command, **values)

    def is_working(self, task: str) -> bool:
        """Whether the agent of a task's last run is at work."""
        runs = self.stage.runs(task)
        return bool(runs) and self.stage.run(runs[-1]["id"])["phase"] == "working"

    def open_for(self, adapter: str, script: str, *behaviours: str, **settings: Any) -> None:
        """Opens the store with an agent for each behaviour: one of our programs, behind a real adapter."""
        agents = {
            behaviour: {
                "adapter": adapter,
                "program": shlex.join([sys.executable, str(HERE / script), behaviour, str(self.folder)]),
                "permissions": "all",
            }
            for behaviour in behaviours
        }
        self.open(agents=agents, **settings)

    def tell(self, agent: str, **values: Any) -> str:
        """The task in trouble, for an agent of ``open_for``; it waits until the neighbour works. Its name."""
        return self.trouble("", title=f"something for {agent}", agent=agent, **values)

    # -- workers -----------------------------------------------------------------------------------

    def start(self, limits: Mapping[int, int] | None = None, *, slots: int = 3, **extra: str) -> subprocess.Popen[str]:
        """A worker process that goes on until it is stopped; ``limits`` are those of ``setrlimit``."""
        living = [worker for worker in self.workers if worker.poll() is None]
        if living and limits is None and not extra:
            return living[0]

        def bound() -> None:
            for what, most in (limits or {}).items():
                resource.setrlimit(what, (most, most))

        with (self.folder / "workers.log").open("a") as log:
            worker = subprocess.Popen(
                [sys.executable, stages.__file__, str(self.stage.root), str(slots)],
                env={**self.stage.environ, **self._for_workers, **extra},
                stdout=log,
                stderr=log,
                text=True,
                cwd=self.folder,
                preexec_fn=bound if limits else None,
            )
        self.workers.append(worker)
        return worker

    def stop_workers(self) -> None:
        """Workers are asked to stop; all of them must, and end as they promise."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                code = worker.wait(STUCK_S)
                assert code in (0, 8), f"a worker ended with {code}"

    # -- what happens --------------------------------------------------------------------------------

    def await_end(
        self, task: str, state: str, code: str | None, *, runs: int | None = None, within_s: float = STUCK_S
    ) -> dict[str, Any]:
        """The task's row, once it has come to its end, which must be this one."""

        def ended() -> bool:
            self._weigh(task)
            return self.stage.task(task)["state"] in ("completed", "failed", "cancelled", "review")

        try:
            wait_for(ended, f"{task} ends", within_s)
        except AssertionError as never:
            raise AssertionError(f"{never}: {self.stage.task(task)['state']}, {self.ends(task)}") from None
        row = self.stage.task(task)
        assert (row["state"], row["code"]) == (state, code), f"{task} {row['state']} {row['code']}: {row['error']}"
        if runs is not None:
            assert len(self.stage.runs(task)) == runs, [(run["state"], run["code"]) for run in self.stage.runs(task)]
        return row

    def ends(self, task: str) -> list[tuple[str, str | None]]:
        """How each run of a task ended, oldest first."""
        return [(run["state"], run["code"]) for run in self.stage.runs(task)]

    def _weigh(self, task: str) -> None:
        """Remembers the most memory that a supervisor of the task ever held, and each of its children."""
        for run in self.stage.runs(task)[-1:]:
            with suppress(OSError, IndexError):
                pid = int(self.stage.run(run["id"])["pid"] or 0)
                self.peak_mb = max(self.peak_mb, _peak_mb(pid))
                for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    self.peak_of_child_mb = max(self.peak_of_child_mb, _peak_mb(int(child)))

    def await_run(self, task: str, number: int = 1) -> str:
        """The name of a task's run, once its agent is at work."""

        def working() -> str | None:
            runs = self.stage.runs(task)
            return str(runs[number - 1]["id"]) if len(runs) >= number and self.is_working(task) else None

        return str(wait_for(working, f"run {number} of {task} works"))

    def announcements(self, run: str, count: int) -> list[int]:
        """Process ids that an agent and its children wrote down (``agent_said``); they must be gone at the end."""
        file = self.folder / f"pids-{self.stage.run(run)['task']}"

        def said() -> list[int] | None:
            pids = [int(line) for line in file.read_text().splitlines()] if file.exists() else []
            return pids if len(pids) >= count else None

        pids = list(wait_for(said, f"{run} wrote {count} process ids"))
        self.announced.update(pids)
        return pids

    @property
    def pid_file(self) -> str:
        """Where a task's agents write process ids, as a shell spells it."""
        return f"{self.folder}/pids-$ORCHESTRION_TASK"

    # -- the proof -------------------------------------------------------------------------------------

    def prove(self) -> None:
        """What must hold at the end of every scenario."""
        self.calm()
        self.start()
        for task in self.neighbours:
            self.await_end(task, "completed", None)
        self._prove_health()
        self.stop_workers()
        self._prove_order()
        self._prove_emptiness()

    def _prove_health(self) -> None:
        """Neighbours were not disturbed; and a new task is done as if nothing had ever happened."""
        for number, task in enumerate(self.neighbours):
            assert self.stage.merged(f"neighbour-{number}.txt") == "1\n", f"{task} was done anew: {self.ends(task)}"
        last = self.stage.add("echo afterwards > afterwards.txt", title="afterwards")
        self.await_end(last, "completed", None, runs=1)
        assert self.stage.merged("afterwards.txt") == "afterwards\n"

    def _prove_order(self) -> None:
        """The database is sound, no slot is held, the user's checkout is as it was, and every code is a known one."""
        assert violations(self._moment()) == []
        held = [slot for slot in self.stage.orchestrion.slots() if slot["used"]]
        assert held == []
        assert self.stage.user_sees() == self.before
        runs = [run.as_json() for run in self.stage.orchestrion.list_runs(limit=1000).items]
        assert [run for run in runs if run["state"] in ("starting", "running")] == []
        assert {run["code"] for run in runs if run["code"]} <= FAILURES.keys()
        self._prove_that_work_is_kept(runs)

    def _prove_that_work_is_kept(self, runs: list[dict[str, Any]]) -> None:
        for run in runs:
            head = self.stage.run(run["id"])["head_commit"]
            if head:
                branch = f"refs/heads/orchestrion/run/{run['id']}"
                self.stage.git("merge-base", "--is-ancestor", head, branch)

    def _moment(self) -> Any:
        if self._url is None:
            with self.stage.direct() as database:
                return look(database)
        with RawPostgres(self._url) as database:
            return look(database)

    def _prove_emptiness(self) -> None:
        wait_for(lambda: not self.strangers(), f"nobody is left: {self.strangers()}", 10)
        assert not self.stage.carriers()
        folders = self.stage.orchestrion.project.store_dir / "runs"
        assert [run.name for run in folders.iterdir() if launch.is_supervised(run)] == []
        left = [pid for pid in self.announced if _lives(pid)]
        assert not left, f"processes {left} outlived their run"

    def strangers(self) -> list[psutil.Process]:
        """All processes that have anything to do with this ground: by their environment, folder or command line."""
        mine, here = f"{self.folder}/", os.getpid()
        workers = {worker.pid for worker in self.workers}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.pid != here and process.pid not in workers and process.status() != psutil.STATUS_ZOMBIE:
                    texts = [*process.environ().values(), *process.cmdline(), process.cwd() + "/"]
                    found += [process] if any(mine in f"{text}/" for text in texts) else []
        return found

    def told(self) -> str:
        """What happened on this ground, for who has to find out why it went wrong."""
        parts = []
        with suppress(Exception):
            for run in self.stage.orchestrion.list_runs(limit=20).items[::-1]:
                row = dict(run.row)
                parts.append(f"R{row['id']} of T{row['task']}: {row['state']} {row['code']} {str(row['reason'])[:300]}")
        runs = self.stage.orchestrion.project.store_dir / "runs"
        for log in [self.folder / "workers.log", *runs.glob("*/supervisor.log")]:
            with suppress(OSError):
                if lines := log.read_text().splitlines()[-2:]:
                    parts.append(f"{log.parent.name}/{log.name}: {' | '.join(lines)[-400:]}")
        return "\n".join(parts)


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def _lives(pid: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
