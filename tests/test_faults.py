"""Faults of the repository that are certain: the run fails at once, and `why` has the cause."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import GitProblem
from stage import Stage, python
from waiting import wait_for

pytestmark = [pytest.mark.long, pytest.mark.users_repository_changes]

Fault = Callable[[Stage], AbstractContextManager[None]]


@contextmanager
def owned_by_somebody_else(stage: Stage) -> Iterator[None]:
    """git believes so; it has a switch for its own tests, which a program in its place sets."""
    programs = stage.folder / "programs"
    programs.mkdir()
    git = programs / "git"
    git.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec "{shutil.which("git")}" "$@"\n')
    git.chmod(0o755)
    stage.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    yield
    git.unlink()


@contextmanager
def with_a_broken_head(stage: Stage) -> Iterator[None]:
    head = stage.root / ".git" / "HEAD"
    before = head.read_bytes()
    head.write_text("nonsense\n")
    yield
    head.write_bytes(before)


@contextmanager
def with_a_missing_filter(stage: Stage) -> Iterator[None]:
    (stage.root / ".gitattributes").write_text("*.txt filter=secret\n")
    stage.git("add", ".gitattributes")
    stage.git("commit", "-qm", "a filter")
    stage.git("config", "filter.secret.clean", "no-such-program clean")
    stage.git("config", "filter.secret.smudge", "no-such-program smudge")
    yield


@contextmanager
def with_a_file_in_place_of_workspaces(stage: Stage) -> Iterator[None]:
    (stage.folder / "state").write_text("in the way\n")
    yield


CERTAIN: list[tuple[Fault, str]] = [
    (owned_by_somebody_else, "not_trusted"),
    (with_a_broken_head, "not_a_repository"),
    (with_a_missing_filter, "filter_missing"),
    (with_a_file_in_place_of_workspaces, "not_permitted"),
]


@pytest.mark.parametrize(("fault", "code"), CERTAIN, ids=lambda one: getattr(one, "__name__", one))
def test_what_is_certain_fails_at_once_and_says_why(stage: Stage, fault: Fault, code: str) -> None:
    stage.add("echo done > done.txt")
    with fault(stage), stage.worker(slots=1) as worker:
        assert worker.wait(60) == 8
        runs = stage.runs()
        assert [(run["state"], run["code"]) for run in runs] == [("failed", code)]
        assert stage.task()["state"] == "failed"
        reasons = stage.orchestrion.why("T1")["reasons"]
        assert code in str(reasons)


def test_it_goes_on_when_it_is_mended(stage: Stage) -> None:
    stage.add("echo done > done.txt")
    with with_a_missing_filter(stage):
        assert stage.drain(slots=1).failed == 1
    stage.git("config", "filter.secret.clean", "cat")
    stage.git("config", "filter.secret.smudge", "cat")
    stage.orchestrion.retry("T1")
    assert stage.drain(slots=1).all_completed
    assert stage.merged("done.txt") == "done\n"


def test_a_git_directory_without_its_objects_is_not_passed_over(stage: Stage) -> None:
    """Whoever looked further would find an empty store, and work on nothing with success."""
    stage.add("echo done > done.txt")
    objects = stage.root / ".git" / "objects"
    objects.rename(stage.folder / "objects")
    with pytest.raises(GitProblem) as refused:
        Orchestrator.open(stage.root, environ=stage.environ)
    assert refused.value.code == "broken_repository"
    (stage.folder / "objects").rename(objects)
    assert stage.drain(slots=1).all_completed


def test_the_user_s_broken_index_is_theirs(stage: Stage) -> None:
    """No run needs it, and none mends it."""
    index = stage.root / ".git" / "index"
    index.write_bytes(b"broken")
    stage.add("echo done > done.txt")
    assert stage.drain(slots=1).all_completed
    assert index.read_bytes() == b"broken"
    with pytest.raises(GitProblem) as refused:
        stage.orchestrion.land("default")
    assert refused.value.code == "broken_index"
    assert index.read_bytes() == b"broken"


def test_a_repository_that_breaks_while_an_agent_works(stage: Stage) -> None:
    """What the agent did is in its workspace, which stays."""
    head = stage.root / ".git" / "HEAD"
    said, ready = stage.folder / "ready", stage.folder / "go"
    stage.add(f"echo done > done.txt; touch {said}; while [ ! -e {ready} ]; do sleep 0.05; done")
    with stage.worker(slots=1) as worker:
        wait_for(said.exists, "the agent works")
        before = head.read_bytes()
        head.write_text("nonsense\n")
        ready.touch()
        worker.wait(60)
        head.write_bytes(before)
    runs = stage.runs()
    assert [(run["state"], run["code"]) for run in runs] == [("failed", "not_a_repository")]
    assert (Path(str(runs[0]["workspace"])) / "done.txt").read_text() == "done\n"


def test_a_lock_that_somebody_left_is_waited_for(stage: Stage) -> None:
    """It passes: no try is spent on it."""
    lock = stage.root / ".git" / "refs" / "orchestrion" / "plans" / "default.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    unlock = python(f"import pathlib; pathlib.Path({str(lock)!r}).unlink()")
    stage.add(f"(sleep 1; {unlock}) & echo done > done.txt")
    assert stage.drain(slots=1).all_completed
    assert len(stage.runs()) == 1


def test_a_file_that_git_reads_for_ever_holds_up_neither_kill_nor_worker(stage: Stage) -> None:
    """Its supervisor saves the work of its agent, learns that it was ended, and goes."""
    with stage.open():
        stage.add("truncate -s 300G sparse")
        with stage.worker(slots=1, drain=False):
            wait_for(lambda: any("work.ended" in line for line in _steps(stage)), "the agent has ended")
            supervisor = stage.supervisor()
            stage.orchestrion.kill("R1")
            wait_for(lambda: not psutil.pid_exists(supervisor), "its supervisor has gone")
            stage.orchestrion.retry("T1")
            wait_for(lambda: any("work.ended" in line for line in _steps(stage, "R2")), "the agent has ended again")
            os.kill(stage.supervisor("R2"), signal.SIGKILL)
            stage.add("true", title="another")
            wait_for(lambda: stage.task("T2")["state"] == "completed", "the worker does what else there is")
            stage.orchestrion.cancel("T1", "it has no end")
        assert (stage.workspace("R2") / "sparse").exists()


def _steps(stage: Stage, run: str = "R1") -> list[str]:
    steps = stage.run_folder(run) / "steps"
    return steps.read_text().splitlines() if steps.exists() else []
