"""What the caller closed, filled or set: the work is done all the same, and what comes out says what is so."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from place import Place

from orchestrion.runs.launch import OURSELVES

CLOSED = (">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-")
#: Locales under which Python takes names and arguments for ASCII, or prints nothing else.
POOR = (
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    {"LANG": "", "PYTHONIOENCODING": "ascii"},
)


def shell(place: Place, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of the shell in which ``orchestrion`` is this program."""
    program = f'orchestrion() {{ {shlex.join(OURSELVES)} "$@"; }}\n{command}'
    return subprocess.run(
        ["bash", "-c", program],
        cwd=place.root,
        env={**place.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.mark.long
@pytest.mark.parametrize("closed", CLOSED)
def test_closed_streams_change_nothing(project: Place, closed: str) -> None:
    """The database must not be opened under the number of a stream: what is printed would go into it."""
    project("add", "one", "--run", "echo one > one.txt")
    for command, code in (
        ("list", 0),
        ("list --json", 0),
        ("add two --run true", 0),
        ("show T99", 4),
        ("nonsense", 2),
        ("--version", 0),
        ("work --drain", 0),
        ("supervise R999", 7),
        ("mcp </dev/null", 0),
        ("hook Stop", 0),
    ):
        done = shell(project, f"orchestrion {command} {closed}")
        assert done.returncode == code, (command, done)
        assert "Traceback" not in done.stdout + done.stderr
    assert {task["state"] for task in project.json("list")["tasks"]} == {"completed"}
    project("maintain", "validate", "--level", "full_audit", code=0)


def test_an_answer_without_room_is_all_that_is_lost(project: Place) -> None:
    done = shell(project, "orchestrion add kept --json > /dev/full")
    assert done.returncode == 7
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error["hint"]) == ("disk_full", "only the answer is lost: what was asked for is done")
    assert [task["title"] for task in project.json("list")["tasks"]] == ["kept"]


@pytest.mark.parametrize("lost", ["> /dev/full", "| head -0", "| head -1"])
def test_work_goes_on_when_nobody_reads_of_it(project: Place, lost: str) -> None:
    for number in range(3):
        project("add", f"task {number}", "--run", f"sleep 0.2; echo > {number}.txt")
    done = shell(project, f"set -o pipefail; orchestrion work --drain --slots 1 {lost}")
    assert done.returncode == 0, done
    assert "nothing more is told on stdout" in done.stderr
    assert {task["state"] for task in project.json("list")["tasks"]} == {"completed"}


def test_what_cannot_be_said_changes_no_exit_code(project: Place) -> None:
    assert shell(project, "orchestrion show T99 2> /dev/full").returncode == 4
    assert shell(project, "orchestrion nonsense > /dev/full 2>&1").returncode == 2


@pytest.mark.parametrize("poor", POOR, ids=" ".join)
def test_names_are_utf8_whatever_the_locale(project: Place, poor: dict[str, str]) -> None:
    (project.root / "plän.yaml").write_text("plan: masse\ntasks: [{title: Maß, run: 'echo grün; echo ö > ü.txt'}]\n")
    for command in ("apply plän.yaml", "add 'Überschrift ✓ 日本' --run true", "work --drain", "log R1", "diff R1"):
        done = shell(project, f"orchestrion {command}", **poor)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), (command, done)
    assert {task["title"] for task in project.json("list")["tasks"]} == {"Maß", "Überschrift ✓ 日本"}
    assert project.json("show", "R1")["files_changed"] == 1
    refused = shell(project, "orchestrion show 'T1ö'", **poor)
    assert refused.returncode == 6
    assert "udcc3" not in refused.stderr
