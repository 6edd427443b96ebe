"""The demo, played for real once, under conditions that are not kind to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrion import Orchestrator, demo
from orchestrion.core.errors import OrchestrionError
from orchestrion.demo import play
from orchestrion.runs import processes
from orchestrion.runs.git import Git
from orchestrion.runs.plan_tip import PlanTip
from waiting import wait_for

pytestmark = pytest.mark.long

#: Settings that would break a program which asks git carelessly; and no identity.
GITCONFIG = """\
[commit]
    gpgsign = true
[gpg]
    program = /bin/false
[core]
    hooksPath = /nonexistent/hooks
    autocrlf = true
[init]
    defaultBranch = trunk
"""
PROGRAM = "import sys; from pathlib import Path; from orchestrion.demo import run; "


@dataclass(frozen=True)
class Show:
    """A demo that was played to its end."""

    folder: Path
    home: Path
    exit_code: int
    said: str
    errors: str
    seconds: float
    opened: Orchestrator

    @property
    def repository(self) -> Path:
        return self.folder / "music-box"

    def task(self, key: str) -> dict[str, Any]:
        found = [task.as_json() for task in self.opened.list_tasks(limit=100).items]
        return self.opened.show(next(task["id"] for task in found if task["key"] == key))

    def runs(self, key: str) -> list[dict[str, Any]]:
        return [self.opened.run_detail(run["id"]) for run in self.task(key)["runs"]]

    def file(self, path: str) -> str:
        """A file of the merged branch."""
        return Git(self.repository).run("show", f"orchestrion/play:{path}").stdout


def _environment(folder: Path) -> dict[str, str]:
    """Nearly empty; what is there leads astray."""
    home = folder / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(GITCONFIG)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(folder),
        "ORCHESTRION_DB": "postgresql://nobody@127.0.0.1:1/nothing",
        "GIT_DIR": "/nonexistent",
    }


def _command(folder: Path, *, keep: bool) -> list[str]:
    """A Python whose path has a space in it, with the demo."""
    prefix = folder.parent / f"{folder.name} python"
    if not prefix.exists():
        prefix.symlink_to(sys.prefix)
    python = prefix / "bin" / Path(sys.executable).name
    return [str(python), "-c", f"{PROGRAM} sys.exit(run(Path({str(folder)!r}), keep={keep}, out=sys.stdout))"]


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Show]:
    place = tmp_path_factory.mktemp("demo")
    folder, environ = place / "the demo", _environment(place)
    began = time.monotonic()
    done = subprocess.run(
        _command(folder, keep=True), env=environ, cwd=place, capture_output=True, text=True, timeout=180, check=False
    )
    seconds = time.monotonic() - began
    with Orchestrator.open(folder / "music-box", environ={}) as opened:
        yield Show(folder, place / "home", done.returncode, done.stdout, done.stderr, seconds, opened)


def test_ends_well_in_time(show: Show) -> None:
    assert (show.exit_code, show.errors) == (0, "")
    assert show.seconds < 120
    states = [task.row["state"] for task in show.opened.list_tasks(limit=100).items]
    assert (states.count("completed"), states.count("cancelled"), len(states)) == (17, 1, 18)


def test_the_branch_has_the_work_and_passes_its_tests(show: Show, tmp_path: Path) -> None:
    git = Git(show.repository)
    assert git.tip("orchestrion/play") == PlanTip(git, "play").read()
    git.run("clone", "--quiet", "--branch", "orchestrion/play", show.repository, tmp_path / "fresh")
    tested = subprocess.run(
        [sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", "."],
        cwd=tmp_path / "fresh", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stderr
    assert "Ran 33 tests" in tested.stderr
    assert "musicbox play" in show.file("README.md")
    assert "Turn notes into sound" in show.file("CHANGELOG.md")


def test_the_failed_check_was_repaired_by_its_output(show: Show) -> None:
    [run] = show.runs("scales")
    first, second = [check for check in run["checks"] if check["stage"] == "check"]
    assert (first["go"], first["exit_code"], second["go"], second["exit_code"]) == (1, 1, 2, 0)
    assert "'A4 B4 C5 D5 E5 F#5 G5' != 'A4 B4 C5 D5 E5 F5 G5'" in first["output"]
    assert '"minor": (2, 1, 2, 2, 1, 2, 2)' in show.file("src/musicbox/scales.py")


def test_the_killed_run_was_lost_and_its_work_went_on(show: Show) -> None:
    killed, second = show.runs("second-voice")
    assert (killed["state"], killed["code"], killed["attempt"]) == ("lost", "lost", 1)
    assert (second["state"], second["attempt"]) == ("succeeded", 2)
    [event] = [event for event in show.opened.events(run=killed["id"]) if event["kind"] == "demo.killed"]
    assert event["data"]["supervisor"] == killed["pid"]
    assert event["data"]["agent"]
    kept = Git(show.repository).run("show", f"{killed['branch']}:tunes/ode-second.txt").stdout
    bars = kept.count("|")
    assert 4 <= bars < 8
    assert show.file("tunes/ode-second.txt").startswith(kept)
    said = [line["text"] for line in show.opened.log(second["id"])]
    assert said[-1] == f"wrote a second voice of 8 bars, the first {bars} by the agent before"
    assert "bar 1 of 8 written" not in said


def test_merges_were_serial(show: Show) -> None:
    events = show.opened.events(limit=1000)
    began = {e["run"]: e["id"] for e in events if (e["data"] or {}).get("phase") == "merging"}
    ended = {e["run"]: e["id"] for e in events if e["kind"] == "run.succeeded"}
    spans = sorted((begin, ended[run]) for run, begin in began.items())
    assert len(spans) == 15
    assert all(one[1] < other[0] for one, other in pairwise(spans))


def test_two_tasks_changed_one_file(show: Show) -> None:
    register = show.file("src/musicbox/instruments.py")
    assert '"flute"' in register
    assert '"bell"' in register
    git = Git(show.repository)
    for key in ("flute", "bell"):
        [run] = show.runs(key)
        changed = git.lines("diff", "--name-only", "-z", run["base_commit"], run["head_commit"])
        assert "src/musicbox/instruments.py" in changed
        assert git.is_ancestor(run["head_commit"], "orchestrion/play")


def test_a_result_went_into_a_brief(show: Show) -> None:
    [artifact] = show.task("survey")["artifacts"]
    [run] = show.runs("api")
    brief = (show.opened.project.store_dir / "runs" / run["id"] / "brief.md").read_text()
    assert f"Artifact {artifact['id']} of {show.task('survey')['id']}" in brief
    assert "`scale(tonic, kind='major')`" in show.file("docs/api.md")


def test_the_task_for_the_failure_was_not_needed(show: Show) -> None:
    task = show.task("one-voice")
    assert (task["state"], task["code"], task["runs"]) == ("cancelled", "not_needed", [])


def test_every_leaf_has_checks_that_passed(show: Show) -> None:
    leaves = [task.as_json()["key"] for task in show.opened.list_tasks(limit=100).items if not task.row["children"]]
    assert len(leaves) == 16
    for key in leaves:
        task = show.task(key)
        assert task["checks"]
        if task["state"] == "completed":
            assert [check["exit_code"] for check in show.runs(key)[-1]["checks"]][-1] == 0


def test_it_tells_the_whole_story(show: Show) -> None:
    for heading in (
        "Side by side.", "Repaired by feedback.", "Killed and recovered.", "One merge at a time.",
        "A result handed on.", "Not needed.",
    ):  # fmt: skip
        assert heading in show.said
    assert "KILLED by the demo" in show.said
    assert "✗" not in show.said
    assert f"-C '{show.repository}' land play" in show.said
    assert "Done in" in show.said
    assert "rm -r" not in show.said


def test_no_process_is_left(show: Show) -> None:
    assert processes.of_store(show.opened.store.uuid) == {}
    assert show.opened.status()["runs"] == []
    assert _mentioning(show.folder) == []


def test_nothing_outside_of_the_folder_changed(show: Show) -> None:
    assert (show.home / ".gitconfig").read_text() == GITCONFIG
    assert sorted(path.name for path in show.home.iterdir()) == [".gitconfig"]
    beside = sorted(path.name for path in show.folder.parent.iterdir())
    assert beside == ["home", "the demo", "the demo python"]
    git = Git(show.repository)
    assert git.run("symbolic-ref", "--short", "HEAD").stdout == "main"
    assert git.run("status", "--porcelain", "--", ".", ":(exclude).orchestrion").stdout == ""


def test_broken_off_it_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "the demo"
    command = _command(folder, keep=False)
    with subprocess.Popen(
        command, env=_environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for(lambda: len(_mentioning(folder / "agents")) >= 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode != 0
    assert _mentioning(folder) == []
    assert folder.exists()


def test_a_demo_that_did_not_work_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A plan on which nobody worked: every look finds what is missing.
    summary = {"completed": 0, "failed": 0, "blocked": 18, "runs": 0, "seconds": 0.0}
    monkeypatch.setattr(play, "play", lambda *_: play.Played(8, summary))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said = StringIO()
    assert demo.run(None, keep=False, out=said) == 8
    assert "This demo failed" in said.getvalue()
    assert "0 of 18 tasks are completed" in said.getvalue()
    for claim in ("Done in", "Side by side", "Repaired", "Killed", "One merge", "Not needed"):
        assert claim not in said.getvalue()
    [folder] = tmp_path.iterdir()
    assert f"The folder {folder} is kept" in said.getvalue().replace("\n  ", " ")


def test_a_worker_that_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(play, "_command", lambda _: ["/bin/sh", "-c", "echo alas >&2; exit 7"])
    with pytest.raises(OrchestrionError, match=r"exit code 7.*alas"):
        demo.run(tmp_path / "demo", keep=True, out=StringIO())


def _mentioning(path: Path) -> list[str]:
    """Command lines of other processes that name a path."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if f"{path}/" in f"{line} " and process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found
