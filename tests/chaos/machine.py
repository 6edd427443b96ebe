"""A machine that has no more to give: disk, memory, file handles, processes."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from chaos.ground import Ground, Impossible
from chaos.scenario import at_length, scenario
from orchestrion.orchestrator.repository import workspaces_home_of
from small_disk import full_file
from stage import python, wait_for

_MB = 1_000_000

#: Takes so much memory, writes to all of it, and says so.
_GREEDY = "import sys; all = bytearray({mb} * 1_000_000); print('took it', flush=True); sys.stdin.read()"


def _start_limited(ground: Ground, **limits: int) -> None:
    """The only worker there is: one whose limits its supervisors and agents inherit. ``nofile=64``."""
    ground.neighbour()
    ground.start({getattr(resource, f"RLIMIT_{name.upper()}"): most for name, most in limits.items()})


# -- disk --------------------------------------------------------------------------------------------------


@scenario
def file_too_large(ground: Ground) -> None:
    """No file may grow beyond 8 MB, the agent's and the log of the run included: that is a full disk, and passes."""
    _start_limited(ground, fsize=8 * _MB)
    wrote = ground.trouble("head -c 20000000 /dev/zero > large.bin || exit 75; echo never", max_retries=1)
    said = ground.trouble("yes some words of an agent that talks too much | head -c 20000000", max_retries=1)
    ground.await_end(wrote, "failed", "agent_tempfail", runs=2)
    ground.await_end(said, "failed", "disk_full", runs=2)


@scenario
def log_cannot_be_written(ground: Ground) -> None:
    """The disk is full for what an agent says: the run fails as disk_full, its agent ends, its work is kept."""
    task = _with_full_disk(ground, "log.jsonl", "echo $ORCHESTRION_ATTEMPT > part.txt; echo on; sleep 600")
    assert ground.stage.on_branch("part.txt", ground.stage.runs(task)[0]["id"]) == "1"


@scenario
def record_cannot_be_written(ground: Ground) -> None:
    """The disk is full when an agent has just been started: its run fails as disk_full at once, and it ends."""
    _with_full_disk(ground, "processes", "sleep 600")


def _with_full_disk(ground: Ground, file: str, command: str) -> str:
    """Whatever is written to this file of the first run cannot be."""
    ground.neighbour()
    with full_file(ground.stage.run_folder("R2") / file, ground.stage.folder / "disk"):
        task = ground.trouble(
            f"test $ORCHESTRION_ATTEMPT = 1 || exit 0; echo $$ >> {ground.pid_file}; {command}", timeout_s=20
        )
        try:
            wait_for(lambda: len(ground.stage.runs(task)) > 1, "the run ends", 8)
        finally:
            ground.announcements("R2", 1)
    ground.await_end(task, "completed", None)
    assert ground.ends(task) == [("failed", "disk_full"), ("succeeded", None)]
    return task


@at_length
def workspaces_full(ground: Ground) -> None:
    """The disk of the workspaces is full when an agent writes: that is told as it is, and passes with the trouble."""
    home = workspaces_home_of(ground.stage.orchestrion)
    home.mkdir(parents=True)
    _mount(ground, home, 16)
    write = "test -f full.bin || head -c 1000000 /dev/urandom > full.bin || exit 75"
    task = ground.trouble(
        f"while ! test -f {ground.folder}/full; do echo on; sleep 0.1; done; {write}", max_retries=100
    )
    ground.await_run(task)
    food = _fill(home)
    (ground.folder / "full").touch()
    wait_for(lambda: ground.ends(task)[0][1], "it fails for want of room")
    food.unlink()
    ground.await_end(task, "completed", None)
    assert {code for _, code in ground.ends(task)[:-1]} <= {"agent_tempfail", "disk_full"}, ground.ends(task)


@at_length
def store_full(ground: Ground) -> None:
    """The disk of the store fills up while runs work and settle: all wait for room, and the work is in the plan."""
    store = ground.stage.orchestrion.project.store_dir
    ground.stage.close()
    shutil.copytree(store, ground.folder / "kept")
    _mount(ground, store, 16)
    shutil.copytree(ground.folder / "kept", store, dirs_exist_ok=True)
    ground.open()
    tasks = [
        ground.trouble(f"sleep 0.5; echo $ORCHESTRION_ATTEMPT > f{number}.txt", max_retries=100) for number in range(4)
    ]
    ground.await_run(tasks[0])
    food = _fill(store)
    time.sleep(5)
    food.unlink()
    for number, task in enumerate(tasks):
        ground.await_end(task, "completed", None)
        assert {code for _, code in ground.ends(task)[:-1]} <= {"disk_full"}, ground.ends(task)
        assert ground.stage.merged(f"f{number}.txt")


def _fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    food = folder / "food"
    with food.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 65_536)
    assert os.statvfs(folder).f_bavail == 0
    return food


def _mount(ground: Ground, where: Path, megabytes: int) -> None:
    """A disk of its own, so small that it is soon full."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", where],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Impossible(f"a small disk must be mounted for it, as root: {done.stderr.strip()}")
    ground.at_close(lambda: subprocess.run(["umount", "-l", where], check=True))


# -- memory ------------------------------------------------------------------------------------------------


@scenario
def memory_limit_of_a_run(ground: Ground) -> None:
    """An agent that takes more than ``run.memory_mb`` is ended as out_of_memory, its children too; others stay."""
    ground.open(run__memory_mb=200, retry__max=1)
    greedy = python(_GREEDY.format(mb=300).replace("sys.stdin.read()", "import time; time.sleep(600)"))
    task = ground.trouble(f"echo partly > partly.txt; {greedy}")
    ground.await_end(task, "failed", "out_of_memory", runs=2)
    assert ground.stage.on_branch("partly.txt", ground.stage.runs(task)[0]["id"]) == "partly"


@scenario
def low_memory(ground: Ground) -> None:
    """No process gets more than 250 MB: who asks for more fails alone, and worker and supervisors work on."""
    _start_limited(ground, **{"as": 250 * _MB})
    task = ground.trouble(python(_GREEDY.format(mb=400)))
    row = ground.await_end(task, "failed", "agent_failed", runs=1)
    assert "MemoryError" in row["error"]
    ground.await_end(
        ground.trouble("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo well"), "completed", None, runs=1
    )


@scenario
def too_little_memory_to_work(ground: Ground) -> None:
    """Supervisors may take hardly more memory than they have: however far each comes, its run ends, and its agent."""
    tasks, used = [], set[int]()
    for more in (0, 50_000, 200_000, 400_000, 700_000, 1 * _MB, 2 * _MB, 4 * _MB)[:: 1 if ground.long else 3]:
        pid = _ready_supervisor(ground, used)
        most = _data_of(pid) + more
        resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))
        tasks.append(_give(ground, f"{more} bytes more"))
    _prove_all_end(ground, tasks, "out_of_memory")


@scenario
def memory_gone_while_it_works(ground: Ground) -> None:
    """A supervisor gets no more memory while its agent talks much: the run ends as out_of_memory, and is done anew."""
    ground.open_for("claude", "fake_claude.py", "talkative")
    task = ground.tell("talkative")
    run = ground.await_run(task)
    ground.announcements(run, 1)
    pid = ground.stage.supervisor(run)
    resource.prlimit(pid, resource.RLIMIT_DATA, (most := _data_of(pid) + 2 * _MB, most))
    (ground.folder / "go").touch()
    wait_for(lambda: len(ground.stage.runs(task)) > 1, "it is done anew", 30)
    ground.await_end(task, "completed", None)
    assert ground.ends(task)[0] in (("failed", "out_of_memory"), ("lost", "lost")), ground.ends(task)
    assert ground.stage.on_branch("part.txt", run) == "1"


def _data_of(pid: int) -> int:
    """What a process holds of the memory that RLIMIT_DATA bounds, in bytes."""
    return 1024 * int(Path(f"/proc/{pid}/status").read_text().partition("VmData:")[2].split()[0])


# -- handles and processes -----------------------------------------------------------------------------------


@scenario
def no_more_file_handles(ground: Ground) -> None:
    """Supervisors may open hardly more files than they have: however far each comes, its run ends, and its agent."""
    tasks, used = [], set[int]()
    for more in range(0, 14, 1 if ground.long else 4):
        pid = _ready_supervisor(ground, used)
        most = 1 + max(int(handle.name) for handle in Path(f"/proc/{pid}/fd").iterdir()) + more
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        tasks.append(_give(ground, f"{more} handles more"))
    _prove_all_end(ground, tasks, "host_exhausted")


def _ready_supervisor(ground: Ground, used: set[int]) -> int:
    """The supervisor that waits for its run, and has done nothing yet; none of those that were ``used``."""
    ground.neighbours or ground.neighbour()
    ground.start(slots=20)

    def ready() -> int | None:
        for one in ground.strangers():
            with suppress(psutil.Error):
                # It sleeps when it has loaded all that it needs.
                waits = one.cmdline()[-2:] == ["supervise", "-"] and one.status() == psutil.STATUS_SLEEPING
                if waits and one.pid not in used:
                    return one.pid
        return None

    pid = int(wait_for(ready, "a supervisor waits"))
    used.add(pid)
    return pid


def _give(ground: Ground, title: str) -> str:
    """A task whose agent never ends, as soon as a supervisor has it."""
    task = ground.stage.add(f"echo $$ >> {ground.pid_file}; sleep 600", title=title, timeout_s=2, max_retries=0)
    wait_for(lambda: ground.stage.runs(task), "it is claimed")
    return task


def _ended(ground: Ground, task: str) -> dict[str, Any] | None:
    row = ground.stage.task(task)
    return row if row["state"] in ("completed", "failed") else None


def _prove_all_end(ground: Ground, tasks: list[str], code: str) -> None:
    for task in tasks:
        title = ground.stage.task(task)["title"]
        row = wait_for(partial(_ended, ground, task), f"the run with {title} ends", 30)
        told = (title, row["code"], row["error"])
        assert row["code"] in ("timed_out", code, "lost", "lost_repeatedly"), told
        pids = ground.folder / f"pids-{task}"
        ground.announced.update(map(int, pids.read_text().split()) if pids.exists() else ())


@scenario
def handles_gone_while_it_works(ground: Ground) -> None:
    """A supervisor runs out of file handles while its agent works: the run ends, its agent too; it is done anew."""
    task = ground.trouble("echo $ORCHESTRION_ATTEMPT > h.txt; test $ORCHESTRION_ATTEMPT = 1 || exit 0; echo $$ >> "
                          f"{ground.pid_file}; while true; do echo on; sleep 0.1; done")  # fmt: skip
    run = ground.await_run(task)
    ground.announcements(run, 1)
    pid = ground.stage.supervisor(run)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, 4))
    wait_for(lambda: len(ground.stage.runs(task)) > 1, "it is done anew", 30)
    ground.await_end(task, "completed", None)
    assert ground.ends(task)[0] in (("failed", "host_exhausted"), ("lost", "lost")), ground.ends(task)


@at_length
def no_more_processes(ground: Ground) -> None:
    """The machine has no process left for a while: what cannot be started is tried again."""
    if os.geteuid() == 0:
        raise Impossible("root may start as many processes as it likes: play it as another user")
    ground.neighbour()
    task = ground.trouble("echo $ORCHESTRION_ATTEMPT > p.txt", max_retries=100)
    for worker in ground.workers:
        resource.prlimit(worker.pid, resource.RLIMIT_NPROC, (1, 1))
    more = ground.stage.add("echo more > more.txt", title="more", max_retries=100)
    wait_for(lambda: len(ground.stage.runs(more)) > 2, "it is tried again")
    for worker in ground.workers:
        resource.prlimit(worker.pid, resource.RLIMIT_NPROC, (100_000, 100_000))
    ground.await_end(more, "completed", None)
    ground.await_end(task, "completed", None)
