"""Whoever is killed or stopped: worker, supervisor, agent, what stands between them, and the agent's children."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

import psutil

from chaos.agents import deaf
from chaos.ground import Ground
from chaos.scenario import at_length, scenario
from orchestrion.core.host import Host
from orchestrion.worker import Worker
from runs.kills import KILLED_INSIDE
from stage import wait_for

#: Done at once when it is tried again; else it says who it is and works until it is told to be done.
_PATIENT = (
    "echo $ORCHESTRION_ATTEMPT > part.txt; test $ORCHESTRION_ATTEMPT = 1 || exit 0; echo $$ >> {pids};"
    " while ! test -f {folder}/go; do echo on; sleep 0.1; done"
)


def patient(ground: Ground) -> str:
    """A command that works until there is a file ``go``; at once, in a second attempt."""
    return _PATIENT.format(pids=ground.pid_file, folder=ground.folder)


def go(ground: Ground) -> None:
    """Patient agents may be done now."""
    (ground.folder / "go").touch()


@scenario
def kill_worker(ground: Ground) -> None:
    """A worker dies by SIGKILL: its runs go on without it, and settle; nothing is done twice."""
    task = ground.trouble(patient(ground))
    ground.announcements(ground.await_run(task), 1)
    ground.workers[0].kill()
    ground.workers[0].wait()
    go(ground)
    ground.await_end(task, "completed", None, runs=1)
    ground.start()
    assert ground.stage.merged("part.txt") == "1\n"


@scenario
def kill_supervisor(ground: Ground) -> None:
    """A supervisor dies by SIGKILL: its agent is ended, its work is kept, its task is done anew."""
    task = ground.trouble(f"({deaf(ground, 'T2')} &); {patient(ground)}")
    run = ground.await_run(task)
    ground.announcements(run, 2)
    os.kill(ground.stage.supervisor(run), signal.SIGKILL)
    _prove_done_anew(ground, task, "lost", "lost")


@scenario
def kill_agent(ground: Ground) -> None:
    """An agent dies by SIGKILL: that is a crash, its children end with it, its task is done anew."""
    task = ground.trouble(f"({deaf(ground, 'T2')} &); {patient(ground)}")
    run = ground.await_run(task)
    ground.announcements(run, 2)
    os.kill(_children(ground.stage.supervisor(run))[0], signal.SIGKILL)
    _prove_done_anew(ground, task, "failed", "agent_crashed")


@scenario
def kill_agent_and_supervisor(ground: Ground) -> None:
    """Both die at the same moment, and their children are deaf: the next look of a worker ends and mends it all."""
    task = ground.trouble(f"({deaf(ground, 'T2')} &); {patient(ground)}")
    run = ground.await_run(task)
    ground.announcements(run, 2)
    supervisor = ground.stage.supervisor(run)
    for pid in (supervisor, *_children(supervisor)[:1]):
        os.kill(pid, signal.SIGKILL)
    _prove_done_anew(ground, task, "lost", "lost")


@scenario
def kill_child(ground: Ground) -> None:
    """A child of an agent dies by SIGKILL: that is the agent's affair, and its run completes."""
    child = deaf(ground, "T2")
    task = ground.trouble(f"{child} & wait $!; echo ended by $? > child.txt; true")
    run = ground.await_run(task)
    os.kill(ground.announcements(run, 1)[0], signal.SIGKILL)
    ground.await_end(task, "completed", None, runs=1)
    assert ground.stage.merged("child.txt") == "ended by 137\n"


@scenario
def kill_relay(ground: Ground) -> None:
    """The program between us and Codex dies: Codex is ended, deaf as it is, and the task is done anew."""
    _kill_between(ground, "codex", "fake_codex.py", victim=1)


@at_length
def kill_codex(ground: Ground) -> None:
    """Codex itself dies: the program before it says so, and the task is done anew."""
    _kill_between(ground, "codex", "fake_codex.py", victim=0)


@scenario
def kill_bridge(ground: Ground) -> None:
    """The bridge to an agent of ACP dies: the agent is ended, deaf as it is, and the task is done anew."""
    _kill_between(ground, "acp", "fake_acp.py", victim=1)


@at_length
def kill_acp_agent(ground: Ground) -> None:
    """An agent of ACP dies: the bridge says so, and the task is done anew."""
    _kill_between(ground, "acp", "fake_acp.py", victim=0)


def _kill_between(ground: Ground, adapter: str, script: str, victim: int) -> None:
    """``victim``: 0 is the agent itself, 1 who started it."""
    ground.open_for(adapter, script, "patient")
    task = ground.tell("patient")
    os.kill(ground.announcements(ground.await_run(task), 2)[victim], signal.SIGKILL)
    _prove_done_anew(ground, task, "failed", "agent_crashed")


def _prove_done_anew(ground: Ground, task: str, state: str, code: str) -> None:
    ground.await_end(task, "completed", None)
    assert ground.ends(task) == [(state, code), ("succeeded", None)]
    first, second = ground.stage.runs(task)
    assert ground.stage.on_branch("part.txt", first["id"]) == "1"
    assert ground.stage.merged("part.txt") == "2\n"
    assert first["head_commit"] != second["head_commit"]


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


@scenario
def kill_at_random(ground: Ground) -> None:
    """Everybody is killed at any moment, drawn from the seed: each task completes and its work is in the plan."""
    command = "echo $ORCHESTRION_ATTEMPT > {0}.txt; sleep 0.3"
    tasks = {f"r{number}": ground.trouble(command.format(f"r{number}"), max_retries=100) for number in range(6)}
    end = time.monotonic() + (20 if ground.long else 3)
    while time.monotonic() < end and _left(ground, tasks.values()):
        _kill_somebody(ground)
        ground.start()
        time.sleep(ground.random.uniform(0.02, 0.3))
    wait_for(lambda: not _left(ground, tasks.values()), "all of them complete")
    assert [file for file in tasks if not ground.stage.merged(f"{file}.txt")] == []


def _left(ground: Ground, tasks: Iterable[str]) -> list[str]:
    """Those that are not completed; one that failed because a program of its own was killed is tried again by hand."""
    ground.start()
    left = []
    for task in tasks:
        row = ground.stage.task(task)
        left += [] if row["state"] == "completed" else [task]
        if row["state"] == "failed":
            assert row["code"] in KILLED_INSIDE, f"{task}: {row['code']}, {row['error']}"
            ground.stage.orchestrion.retry(task)
    return left


def _kill_somebody(ground: Ground) -> None:
    """Anybody but the neighbour's own: worker, supervisors, agents."""
    spared = _family_of_neighbours(ground)
    living = [one.pid for one in ground.strangers() if one.pid not in spared]
    workers = [worker.pid for worker in ground.workers if worker.poll() is None]
    pids = sorted(living) + (workers if ground.random.random() < 0.3 else [])
    if pids:
        try:
            os.kill(ground.random.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return


def _family_of_neighbours(ground: Ground) -> set[int]:
    family: set[int] = set()
    for run in ground.stage.runs(ground.neighbours[0]):
        pid = ground.stage.run(run["id"])["pid"]
        if pid and psutil.pid_exists(pid):
            family |= {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    return family


# -- stopped, and gone on later ----------------------------------------------------------------------------


@scenario
def stop_supervisor_on_its_own_host(ground: Ground) -> None:
    """A supervisor is stopped for longer than its lease: its own host sees that it lives, and nothing is lost."""
    ground.open(lease__run_s=1)
    task = ground.trouble(patient(ground))
    run = ground.await_run(task)
    pid = ground.stage.supervisor(run)
    ground.stage.suspend(pid)
    wait_for(lambda: _lease_is_over(ground, run, 500), "its lease is long over")
    assert ground.stage.run(run)["state"] == "running"
    go(ground)
    os.kill(pid, signal.SIGCONT)
    ground.await_end(task, "completed", None, runs=1)


@scenario
def stop_supervisor_until_another_host_settles(ground: Ground) -> None:
    """Stopped past its lease, settled by another host, done anew: back again, it ends its agent and tells nothing."""
    ground.open(lease__run_s=1)
    task = ground.trouble(f"({deaf(ground, 'T2')} &); {patient(ground)}")
    run = ground.await_run(task)
    ground.announcements(run, 2)
    pid = ground.stage.supervisor(run)
    ground.stage.suspend(pid)
    wait_for(lambda: _lease_is_over(ground, run, 0), "its lease is over")
    _settle_from_elsewhere(ground, run)
    ground.await_end(task, "completed", None, runs=2)
    told = _told_of(ground, run)
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not psutil.pid_exists(pid) or _is_zombie(pid), "the supervisor notices and goes", 20)
    assert _told_of(ground, run) == told
    assert ground.ends(task) == [("lost", "lost"), ("succeeded", None)]
    assert ground.stage.merged("part.txt") == "2\n"
    assert ground.stage.on_branch("part.txt", run) == "1"


def _lease_is_over(ground: Ground, run: str, since_ms: int) -> bool:
    now = ground.stage.orchestrion.store.read(lambda tx: tx.the("clock")["now"])
    return bool(now > ground.stage.orchestrion.run(run).row["lease_until"] + since_ms)


def _settle_from_elsewhere(ground: Ground, run: str) -> None:
    """What a worker on another host does, which sees the database alone and no process of this one."""
    one = ground.stage.orchestrion
    elsewhere = Worker(one.store, one.project, one.config, one.environ, 1)
    elsewhere._host = Host("elsewhere", "elsewhere", "elsewhere-0-0")
    elsewhere._look_after_runs()
    assert ground.stage.run(run)["state"] == "lost"


def _told_of(ground: Ground, run: str) -> list[str]:
    """The journal of a run, and how it ended; where its work is kept may be added later."""
    row = ground.stage.run(run)
    ended = [str(row[key]) for key in ("state", "code", "reason", "ended_at", "summary")]
    return [
        *ended,
        *(f"{event['id']} {event['kind']}" for event in ground.stage.orchestrion.events(run=run, limit=1000)),
    ]


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
