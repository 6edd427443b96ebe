"""A supervisor waits in readiness: it takes the first run at once, and is gone with its worker."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrion.runs import launch, points, processes
from orchestrion.runs.launch import Launcher
from orchestrion.worker import Worker
from stage import Stage, wait_for


@pytest.fixture
def worker(stage: Stage) -> Worker:
    """A worker in this process, that did not begin yet."""
    project = stage.orchestrion.project
    return Worker(stage.orchestrion.store, project, stage.orchestrion.config, stage.environ, 1)


def ready_one(launcher: Launcher) -> subprocess.Popen[bytes]:
    launcher.make_ready()
    child = launcher._ready
    assert child is not None
    return child


def in_readiness(worker: int) -> list[int]:
    """Supervisors of a worker that have no run yet."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = stat.with_name("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == worker and command[-3:-1] == [b"supervise", b"-"]:
            found.append(int(stat.parent.name))
    return found


def test_the_one_in_readiness_takes_the_run(stage: Stage, worker: Worker) -> None:
    child = ready_one(worker._launcher)
    stage.add("echo hello")
    assert worker.work(drain=True).all_completed
    assert stage.run()["pid"] == child.pid
    assert stage.lines() == ["hello"]
    assert (stage.run_folder() / launch.SAID).read_bytes() == b""
    wait_for(lambda: child.poll() is not None, "its supervisor is over")


def test_there_is_one_at_most(worker: Worker) -> None:
    first = ready_one(worker._launcher)
    assert ready_one(worker._launcher) is first
    worker._launcher.close()
    assert first.returncode == 0
    again = ready_one(worker._launcher)
    assert again is not first
    worker._launcher.close()
    worker._launcher.close()
    assert again.returncode == 0


def test_one_that_died_is_not_missed(stage: Stage, worker: Worker) -> None:
    child = ready_one(worker._launcher)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    stage.add("true")
    assert worker.work(drain=True).all_completed
    assert [run["state"] for run in stage.runs()] == ["succeeded"]
    assert stage.run()["pid"] != child.pid


def test_no_room_for_it_is_no_harm(stage: Stage, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Launcher._start

    def no_room(self: Launcher, run: str, *rest: Any) -> Any:
        if run == launch.AWAITED:
            raise OSError(errno.EAGAIN, "no more processes")
        return real(self, run, *rest)

    monkeypatch.setattr(Launcher, "_start", no_room)
    stage.add("true")
    assert worker.work(drain=True).all_completed


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_it_goes_with_its_worker(stage: Stage, end: signal.Signals) -> None:
    with stage.worker(drain=False) as process:
        wait_for(lambda: in_readiness(process.pid), "one is ready")
        (child,) = in_readiness(process.pid)
        started = processes.start_time(child)
        process.send_signal(end)
        process.wait(60)
        wait_for(lambda: not processes.is_alive(child, started), "it is gone")


def test_a_worker_that_dies_before_it_says_which_run(stage: Stage) -> None:
    stage.add("true")
    accident = {points.VARIABLE: "launch.introduced:once", points.DIARY: str(stage.folder / "accidents")}
    with stage.worker(**accident) as first:
        first.wait(60)
    assert first.returncode == -signal.SIGKILL
    assert stage.drain().all_completed
    # Without one in readiness the supervisor is on its way already.
    assert [run["state"] for run in stage.runs()] in (["lost", "succeeded"], ["succeeded"])
