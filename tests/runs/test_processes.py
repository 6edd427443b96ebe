"""Processes: real trees that do not want to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrion.runs import processes
from orchestrion.runs.processes import Process, Record
from waiting import wait_for

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def marker() -> Iterator[str]:
    value = f"test-{uuid.uuid4()}/R1"
    yield value
    for pid, _ in processes.marked(value):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def start(marker: str) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a shell command that carries the marker; its Popen is collected at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: str, **environ: str) -> subprocess.Popen[bytes]:
        environ = {"PATH": os.environ["PATH"], processes.MARKER: marker, **environ}
        started.append(subprocess.Popen(["/bin/sh", "-c", command], env=environ, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_process_is_its_pid_and_its_start(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = start("exec sleep 1000")
    started = _start_of(process.pid)

    assert processes.is_alive(process.pid, started)
    assert not processes.is_alive(process.pid, started + 1)
    assert processes.start_time(process.pid) == started

    process.kill()
    wait_for(lambda: not processes.is_alive(process.pid, started))  # A zombie by now: nobody has waited for it.
    assert processes.start_time(process.pid) == started
    process.wait()
    assert processes.start_time(process.pid) is None


@linux_only
def test_a_name_with_brackets_and_blanks_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 (x"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "1000"])
    try:
        assert (process.pid, _start_of(process.pid)) in processes.descendants(os.getpid())
    finally:
        process.kill()
        process.wait()


def test_descendants_are_all_generations(start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    process = start(f"sh -c 'sh -c \"echo \\$\\$ > {tmp_path}/pid; sleep 1000; :\"; :'; :")
    deepest = _pid_from(tmp_path / "pid")

    below = processes.descendants(process.pid)

    assert (deepest, _start_of(deepest)) in below
    assert len(below) >= 3
    assert process.pid not in [pid for pid, _ in below]


def test_the_marker_finds_a_daemon_of_the_run_and_nobody_else(
    start: Callable[..., subprocess.Popen[bytes]], marker: str, tmp_path: Path
) -> None:
    _daemon(start, tmp_path / "pid")
    daemon = _pid_from(tmp_path / "pid")
    start("exec sleep 1000", **{processes.MARKER: marker + "1"})
    start("exec sleep 1000", **{processes.MARKER: "x", "OTHER": marker})

    assert processes.marked(marker) == [(daemon, _start_of(daemon))]
    assert processes.marked(marker[:-1]) == []


def test_a_tree_that_listens_ends_by_sigterm(start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    process = start(
        f"trap 'echo bye > {tmp_path}/bye; exit 0' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done"
    )
    _pid_from(tmp_path / "pid")

    assert processes.end_tree([(process.pid, _start_of(process.pid))], grace_s=20) == []

    assert process.wait(10) == 0
    assert (tmp_path / "bye").read_text() == "bye\n"


def test_a_tree_that_is_stopped_hears_sigterm(start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    process = start(f"trap 'exit 5' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done")
    _pid_from(tmp_path / "pid")
    os.kill(process.pid, signal.SIGSTOP)

    assert processes.end_tree([(process.pid, _start_of(process.pid))], grace_s=20) == []

    assert process.wait(10) == 5


def test_those_who_ignore_sigterm_and_hide_in_sessions_end_too(
    start: Callable[..., subprocess.Popen[bytes]], marker: str, tmp_path: Path
) -> None:
    stubborn = 'trap "" TERM HUP INT; echo $$ > {}; while :; do sleep 0.05; done'
    process = start(
        f"(setsid sh -c '{stubborn.format(tmp_path / 'a')}' &)\n"
        f"setsid sh -c '{stubborn.format(tmp_path / 'b')}' &\n"
        f"{stubborn.format(tmp_path / 'c')}"
    )
    pids = [_pid_from(tmp_path / name) for name in "abc"]
    seen = [(pid, _start_of(pid)) for pid in pids]

    survivors = processes.end_tree(iter([(process.pid, _start_of(process.pid))]), marker, grace_s=0.2)

    assert survivors == []
    assert [process for process in seen if processes.is_alive(*process)] == []
    assert processes.marked(marker) == []


def test_a_daemon_that_lost_marker_and_parent_ends_when_it_was_recorded(
    start: Callable[..., subprocess.Popen[bytes]], marker: str, tmp_path: Path
) -> None:
    process = start(f"env -i setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000' & wait")
    hidden = _pid_from(tmp_path / "pid")
    wait_for(lambda: hidden not in [pid for pid, _ in processes.marked(marker)])
    record = Record(tmp_path / "processes")
    record.write(processes.descendants(process.pid))
    daemon = (hidden, _start_of(hidden))
    process.kill()
    process.wait()

    assert processes.sweep(marker, tmp_path / "processes", grace_s=0.5) == 1

    assert not processes.is_alive(*daemon)
    assert processes.sweep(marker, tmp_path / "processes") == 0


def test_a_fork_bomb_ends_without_marker_and_grace(tmp_path: Path) -> None:
    bomb = """
import os, pathlib, sys, time
folder, deadline = pathlib.Path(sys.argv[1]), time.monotonic() + 10
for _ in range(50):
    if os.fork() == 0:
        os.setsid()
        while time.monotonic() < deadline:  # Each one is replaced by its child, over and over.
            (folder / str(os.getpid())).touch()
            if os.fork():
                os._exit(0)
            time.sleep(0.02)
        os._exit(0)
time.sleep(10)
"""
    environ = {name: value for name, value in os.environ.items() if name != processes.MARKER}
    script = f"""
import subprocess, sys, os, time, json, pathlib
from orchestrion.runs import processes
assert processes.become_subreaper()
bomb = subprocess.Popen([sys.executable, "-c", {bomb!r}, {str(tmp_path)!r}])
with processes.owned(bomb.pid):
    while len(os.listdir({str(tmp_path)!r})) < 200:
        processes.reap_adopted()
        time.sleep(0.01)
    survivors = processes.end_tree([(os.getpid(), processes.start_time(os.getpid()))], grace_s=0)
    code = bomb.wait()
    while processes.reap_adopted():
        pass
print(json.dumps([survivors, code, processes.descendants(os.getpid())]))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ)
    assert json.loads(answer.stdout) == [[], -9, []]


def test_it_never_ends_itself_its_ancestors_or_a_pid_with_a_new_owner(
    start: Callable[..., subprocess.Popen[bytes]], marker: str
) -> None:
    innocent = start("exec sleep 1000", **{processes.MARKER: "somebody-else"})
    script = f"""
import os
from orchestrion.runs import processes
roots = [(pid, processes.start_time(pid)) for pid in (os.getpid(), os.getppid())]
roots.append(({innocent.pid}, {_start_of(innocent.pid)} + 1))
print(processes.end_tree(roots[:1] + roots[2:], {marker!r}, grace_s=0))
print(processes.end_tree(roots[:1] + roots[2:], {marker!r}, grace_s=0.1))
"""
    parent = f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {script!r}]).returncode)"
    environ = {**os.environ, processes.MARKER: marker}

    answer = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True, env=environ)

    assert answer.stdout.split() == ["[]", "[]", "0"]
    assert processes.is_alive(innocent.pid, _start_of(innocent.pid))


@linux_only
def test_a_subreaper_adopts_orphans_and_collects_them_one_by_one() -> None:
    script = """
import os, signal, subprocess, time, json
from orchestrion.runs import processes
processes.become_subreaper()
ours = subprocess.Popen(["/bin/sh", "-c", "exit 7"])
subprocess.Popen(["/bin/sh", "-c", "(exec sleep 1000) & exit 0"]).wait()
[(orphan, _)] = [process for process in processes.descendants(os.getpid()) if process[0] != ours.pid]
os.kill(orphan, signal.SIGKILL)
reaped = []
while not reaped:
    reaped = processes.reap_adopted({ours.pid})
    time.sleep(0.01)
print(json.dumps([reaped == [orphan], ours.wait(), processes.reap_adopted()]))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == [True, 7, []]


def test_a_record_keeps_each_process_once_and_survives_a_torn_line(tmp_path: Path) -> None:
    file = tmp_path / "processes"
    record = Record(file)
    assert record.read() == set()

    record.write([(11, 100), (12, 200)])
    record.write([(12, 200), (13, 300.25)])
    assert file.read_text().count("\n") == 3

    with file.open("a") as torn:
        torn.write("not a line\n14 40")
    assert Record(file).read() == {(11, 100), (12, 200), (13, 300.25)}


def test_a_sweep_without_a_file_or_anybody_ends_nobody(tmp_path: Path, marker: str) -> None:
    assert processes.sweep(marker, tmp_path / "none") == 0


@linux_only
def test_neither_psutil_nor_ctypes_is_loaded_until_needed() -> None:
    script = (
        "import os, sys; from orchestrion.runs import processes as p; p.descendants(os.getpid()); p.marked('x'); "
        "p.end_tree([], 'nobody', 0); p.reap_adopted(); print([m for m in ('psutil', 'ctypes') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_psutil_tells_the_same_where_there_is_no_proc(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., subprocess.Popen[bytes]], marker: str, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "_LINUX", False)
    process = start(f"setsid sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done' & wait")
    inner = _pid_from(tmp_path / "pid")
    root: Process = (process.pid, _start_of(process.pid))

    assert not processes.become_subreaper()
    assert (inner, _start_of(inner)) in processes.descendants(process.pid)
    assert (inner, _start_of(inner)) in processes.marked(marker)
    assert processes.end_tree([root], marker, grace_s=0.1) == []
    assert not processes.is_alive(*root)
    assert processes.start_time(2**22 + 1) is None


def _daemon(start: Callable[..., subprocess.Popen[bytes]], pid_file: Path) -> None:
    start(f"(setsid sh -c 'echo $$ > {pid_file}; exec sleep 1000' &) ; exit 0").wait()


def _start_of(pid: int) -> float:
    started = processes.start_time(pid)
    assert started is not None
    return started


def _pid_from(file: Path) -> int:
    wait_for(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def test_children_are_ours_and_alive() -> None:
    with subprocess.Popen(["sleep", "60"]) as child, subprocess.Popen(["true"]) as over:
        os.waitid(os.P_PID, over.pid, os.WEXITED | os.WNOWAIT)
        found = [pid for pid, _ in processes.children()]
        child.kill()
    assert child.pid in found
    assert over.pid not in found
