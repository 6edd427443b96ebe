"""``orchestrion work`` as people and machines start it: real processes, signals, terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest
from place import Answer, Place

from waiting import wait_for

pytestmark = pytest.mark.long

#: A condition that does not come true in this time never will, in seconds.
PATIENCE_S = 60.0


def add_patient_task(project: Place, title: str = "patient") -> Path:
    """A task that works until the file named by the result exists."""
    go = project.root.parent / f"go-{title}"
    project("add", title, "--run", f"while [ ! -e '{go}' ]; do sleep 0.05; done; echo done > {title}.txt")
    return go


# -- elsewhere: lines, and JSON ---------------------------------------------------------------


def test_nothing_to_do_is_all_completed(project: Place) -> None:
    summary = project.json("work", "--drain")
    assert (summary["completed"], summary["failed"], summary["blocked"], summary["runs"]) == (0, 0, 0, 0)


def test_events_are_lines_that_can_be_parsed(project: Place) -> None:
    project("add", "one", "--run", "echo 1 > one.txt", "--priority", "9")
    project("add", "two", "--run", "exit 3")
    project("add", "three", "--after", "T2", "--run", "true")
    answer = project.process("work", "--drain", "--slots", "1")
    assert answer.code == 8
    assert answer.err == ""
    lines = answer.out.splitlines()
    assert lines[0] == "T1 in_progress R1"
    for line in lines[:5]:
        assert re.fullmatch(r"T\d+ [a-z_]+( R\d+)?( \d+\.\ds)?( code=\w+)?", line), line
    assert re.fullmatch(r"T1 completed R1 \d+\.\ds", lines[1])
    assert re.fullmatch(r"T2 failed R2 \d+\.\ds code=agent_failed", lines[3])
    assert lines[4].startswith("T3 blocked")
    assert "1 completed, 1 failed, 1 left; 2 runs in" in answer.out
    assert "orchestrion why T3" in answer.out or "orchestrion status" in answer.out


def test_with_json_only_the_summary(project: Place) -> None:
    project("add", "one", "--run", "true")
    answer = project.process("work", "--drain", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert set(answer.json) == {"completed", "failed", "cancelled", "blocked", "runs", "seconds"}
    assert (answer.json["completed"], answer.json["runs"]) == (1, 1)
    project("add", "two", "--run", "false")
    answer = project.process("work", "--drain", "--json")
    assert (answer.code, answer.json["failed"]) == (8, 1)
    assert project("work", "--slots", "0", "--json", code=6).error["code"] == "invalid_slots"


def test_sigterm_stops_claiming_and_runs_go_on(project: Place) -> None:
    go = add_patient_task(project)
    project("add", "later", "--run", "true", "--after", "T1")
    with project.running("work", "--drain") as worker:
        assert worker.stdout is not None
        assert worker.stderr is not None
        assert worker.stdout.readline() == b"T1 in_progress R1\n"
        wait_for(lambda: project.json("show", "R1")["phase"] == "working")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 8
        assert b"runs go on" in worker.stderr.read()
    assert project.json("show", "R1")["state"] == "running"
    go.touch()
    wait_for(lambda: project.json("show", "T1")["state"] == "completed")
    assert project.json("show", "T2")["attempts"] == 0
    assert project.process("work", "--drain", "--json").json["completed"] == 1


def test_a_service_that_is_stopped_ends_well(project: Place) -> None:
    project("add", "one", "--run", "true")
    with project.running("work") as worker:
        wait_for(lambda: project.json("show", "T1")["state"] == "completed")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("command", ["work", "serve", "up", "run coder x", "demo"])
def test_what_starts_agents_or_a_server_is_not_for_runs(
    project: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRION_RUN", "R7")
    before = sorted(tmp_path.iterdir())
    assert project(*command.split(), "--json", code=6).error["code"] == "not_for_runs"
    assert sorted(tmp_path.iterdir()) == before


# -- on a terminal ----------------------------------------------------------------------------


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, place: Place, *arguments: str, rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.master)
        self.process = place.start(
            *arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**place.environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""

    def read_until(self, pattern: bytes) -> None:
        """Reads until something was drawn that matches ``pattern``."""
        wait_for(lambda: re.search(pattern, self.text()))

    def finish(self) -> Answer:
        """Reads on to the end."""
        wait_for(lambda: self._more() is not None and self.process.poll() is not None)
        self._more()
        return Answer(self.process.wait(), self.seen.decode(), "")

    def text(self) -> bytes:
        """What was drawn until now, without its colours."""
        return re.sub(rb"\x1b\[[0-9;]*m", b"", self._more())

    def _more(self) -> bytes:
        while select.select([self.master], [], [], 0.02)[0]:
            try:
                found = os.read(self.master, 65_536)
            except OSError:  # the other end is closed
                break
            if not found:
                break
            self.seen += found
        return self.seen


@contextmanager
def terminal(place: Place, *arguments: str, rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    """A program on a terminal; none is left behind."""
    one = Terminal(place, *arguments, rows=rows, columns=columns)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        os.close(one.master)


def test_the_drawing_shows_what_happens_and_ends_clean(project: Place) -> None:
    go = add_patient_task(project)
    project("add", "after [bold]it[/bold] :smile:", "--run", "true", "--after", "T1")
    project("add", "asks", "--run", "true")
    project("gate", "add", "T3", "--approval", "Ship it?")
    with terminal(project, "work", "--drain") as shown:
        shown.read_until(rb"T1 .*patient.*R1 command working \d")
        shown.read_until(rb"waits: .*T3 for approval \(Ship it\?\): orchestrion gate open G1")
        shown.read_until(rb"0 of 3 completed")
        assert b"after [bold]it[/bold] :smile:" in shown.text()
        # Times run although nothing happens.
        second = re.findall(rb"working (\d+\.\d) s", shown.text())[-1]
        wait_for(lambda: re.findall(rb"working (\d+\.\d) s", shown.text())[-1] != second)
        go.touch()
        answer = shown.finish()
        after = termios.tcgetattr(shown.master)
    assert answer.code == 8
    assert "2 completed" in answer.out
    assert answer.out.rindex("\x1b[?25h") > answer.out.rindex("\x1b[?25l"), "the cursor is back"
    assert "\x1b[?1049" not in answer.out, "the screen is not taken over"
    assert after == shown.before, "the terminal is as it was"
    assert "2 completed, 1 left; 2 runs in" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", answer.out).replace("\r", "")


def test_a_long_tree_fits_the_screen(project: Place) -> None:
    go = add_patient_task(project)
    for number in range(40):
        project("add", f"task {number} with a title that is longer than the screen is wide", "--after", "T1")
    with terminal(project, "work", rows=12, columns=40) as shown:
        shown.read_until(rb"R1 command working")
        shown.read_until("… and 3\\d pending".encode())
        shown.process.send_signal(signal.SIGTERM)
        answer = shown.finish()
    go.touch()
    assert answer.code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", answer.out).replace("\r", "")
    assert all(len(line) <= 40 for line in plain.split("\n") if "task" in line)
    wait_for(lambda: project.json("show", "T1")["state"] == "completed")


def test_ctrl_c_stops_claiming_and_a_second_one_ends_at_once(project: Place) -> None:
    go = add_patient_task(project)
    with terminal(project, "work", "--drain") as shown:
        shown.read_until(rb"R1 command working")
        # The keys of a person: the terminal sends the signal to whoever is in front.
        shown.process.send_signal(signal.SIGINT)
        shown.process.send_signal(signal.SIGINT)
        answer = shown.finish()
    assert answer.code in (130, 8)  # 8: the first one was enough before the second came
    assert answer.out.rindex("\x1b[?25h") > answer.out.rindex("\x1b[?25l")
    assert "Traceback" not in answer.out
    assert project.json("show", "R1")["state"] == "running"
    go.touch()
    wait_for(lambda: project.json("show", "T1")["state"] == "completed")


def test_runs_are_watched_on_a_terminal(project: Place) -> None:
    project("add", "x")
    with terminal(project, "runs", "--watch") as shown:
        shown.read_until(rb"no run matches")
        project("claim")
        shown.read_until(rb"R1 +T1 .*running")
        shown.process.send_signal(signal.SIGINT)
        assert shown.finish().code == 130
        assert shown.seen.rindex(b"\x1b[?25h") > shown.seen.rindex(b"\x1b[?25l")


def test_a_dumb_terminal_gets_lines(project: Place) -> None:
    project("add", "x", "--run", "true")
    script = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    done = subprocess.run(
        [sys.executable, "-c", script, sys.executable, "-m", "orchestrion", "work", "--drain"],
        cwd=project.root,
        env={**project.environ, "TERM": "dumb"},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(b"T1 in_progress R1\r\n")
    assert b"\x1b" not in done.stdout


def test_watching_with_json_is_a_document_per_change(project: Place) -> None:
    project("add", "x")
    project("claim")
    with project.running("runs", "--watch", "--json") as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["state"] == "running"
        project("release", "R1")
        assert json.loads(watching.stdout.readline())["state"] == "killed"
