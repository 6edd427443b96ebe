"""Use cases for a client that has a task done by an agent of this machine.

The agent gets a worker of its own: a process that claims this one task and sees it to its end.
It is nobody's child, so a server's or a client's end does not end it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

from orchestrion.core import private
from orchestrion.core.errors import Conflict
from orchestrion.core.model import number
from orchestrion.core.states import TaskState
from orchestrion.orchestrator import older_copies
from orchestrion.orchestrator.opening import CORRELATION
from orchestrion.orchestrator.taking import TakingCases
from orchestrion.scheduler import decide

#: So long a start waits for the run to be there, in seconds.
START_S = 20.0
_PROGRAM = "import sys; from orchestrion.orchestrator.starting import main; sys.exit(main(*sys.argv[1:]))"


class StartingCases(TakingCases):
    """How a task gets an agent and a worker at once."""

    def start_run(self, task: str, *, agent: str | None = None) -> dict[str, Any]:
        """Has an agent of this machine do a task; the run, as soon as it is there.

        ``agent``: instead of the task's own. Raises NotFound, InvalidInput (``command_missing``),
        Conflict (``not_ready``, ``not_started``, ``older_copy``).
        """
        older_copies.refuse(self)
        before = self.task(task)
        self._refuse_unknown_agent(agent)
        if before.state is not TaskState.READY:
            raise Conflict(
                f"{task} is {before.state}, not ready",
                hint=decide.INSTEAD[before.state].format(task),
                code="not_ready",
                state=str(before.state),
                reasons=self.why(task)["reasons"][:5],
            )
        self.refuse_idle({**before.row, "agent": agent or before.row["agent"]})
        if agent and agent != before.row["agent"]:
            self.update(task, agent=agent)
        return self._begun(task, before.row["attempts"], self._worker(task))

    def _worker(self, task: str) -> subprocess.Popen[bytes]:
        log = self.project.store_dir / "worker.log"
        environ = {key: value for key, value in self.environ.items() if key != "ORCHESTRION_RUN"}
        # Not as an argument: an address may hold a password, and everybody sees arguments.
        environ["ORCHESTRION_DB"] = self.store.url
        environ[CORRELATION] = self.store.origin.correlation or ""
        with open(log, "ab", opener=private.opener) as said:
            worker = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(self.project.root), task, self.store.origin.actor],
                cwd=self.project.root,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        # Somebody must take its exit code, whenever that is.
        threading.Thread(target=worker.wait, daemon=True).start()
        return worker

    def _begun(self, task: str, attempts: int, worker: subprocess.Popen[bytes]) -> dict[str, Any]:
        """The run that was not there before. Raises Conflict when the worker gives up, or takes too long."""
        end = time.monotonic() + START_S
        while time.monotonic() < end and worker.poll() is None:
            runs = self.show(task)["runs"]
            if len(runs) > attempts:
                return dict(runs[-1])
            self.store.wait_for_change(0.2)
        runs = self.show(task)["runs"]
        if len(runs) > attempts:
            return dict(runs[-1])
        raise Conflict(
            f"no run of {task} began within {START_S:g} s",
            hint=f"`orchestrion why {task}` says what it waits for; `orchestrion doctor` whether its agent is there",
            code="not_started",
            reasons=self.why(task)["reasons"][:5],
        )

    def work_on(self, task: str) -> bool:
        """Does one task here and now, and stays until it is over; whether it is completed.

        Raises NotFound, NothingReady, Backpressure, Conflict (``older_copy``).
        """
        from orchestrion.worker import Worker

        one = number(task, "T")
        older_copies.refuse(self)
        Worker(self.store, self.project, self.config, self.environ, 1, None, lambda: None).work_on(one)
        return self.task(task).state is TaskState.COMPLETED


def main(root: str, task: str, actor: str) -> int:
    """The worker's process: sees ``task`` to its end. 0: completed, 8: not."""
    from orchestrion.orchestrator import Orchestrator
    from orchestrion.runs.launch import leave_run

    leave_run()
    with Orchestrator.open(root, create=False, actor=actor) as orchestrion:
        return 0 if orchestrion.work_on(task) else 8
