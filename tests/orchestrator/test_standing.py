"""A run of this host is judged by its supervisor's process, wherever it is shown; its lease may go on for long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from orchestrion.orchestrator import views
from stage import Stage, wait_for

DEAD = "its supervisor died"


@pytest.fixture
def stage_with_a_dead_run(stage: Stage) -> Stage:
    """R1 works on T1, and its worker and its supervisor were killed; its lease lasts."""
    stage.open(lease__run_s=600)
    stage.add("echo 1 > f; sleep 600")
    with stage.worker(slots=1) as worker:
        wait_for(lambda: [run["phase"] for run in stage.runs()] == ["working"], "it works")
        supervisor = stage.supervisor()
        worker.kill()
        os.kill(supervisor, signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(supervisor), "it is gone")
    return stage


def printed(stage: Stage, *words: str) -> str:
    """What a command says."""
    told = [sys.executable, "-P", "-m", "orchestrion", *words]
    return subprocess.run(told, cwd=stage.root, env=stage.environ, check=True, capture_output=True, text=True).stdout


def test_a_run_that_lives_waits_for_nothing(stage: Stage) -> None:
    go = stage.folder / "go"
    stage.add(f"while [ ! -e {go} ]; do sleep 0.05; done")
    with stage.worker(slots=1) as worker:
        wait_for(lambda: [run["phase"] for run in stage.runs()] == ["working"], "it works")
        assert stage.run()["awaits"] is None
        assert "works on it (working)" in stage.orchestrion.why("T1")["reasons"][0]["detail"]
        assert "checked and merged" in stage.orchestrion.done("R1", "soon done")["recorded"]
        go.touch()
        assert worker.wait(60) == 0
    assert stage.run()["awaits"] is None


def test_a_dead_run_is_called_so_with_what_settles_it_wherever_it_is_shown(stage_with_a_dead_run: Stage) -> None:
    stage = stage_with_a_dead_run
    orchestrion = stage.orchestrion
    [reason] = orchestrion.why("T1")["reasons"]
    assert (reason["kind"], reason["ids"]) == ("run", ["R1"])
    for said in (
        reason["detail"],
        orchestrion.status()["runs"][0]["awaits"],
        orchestrion.list_runs().as_json("runs")["runs"][0]["awaits"],
        orchestrion.show("R1")["awaits"],
        orchestrion.show("T1")["runs"][0]["awaits"],
    ):
        assert DEAD in said
        assert "`orchestrion work`" in said
        assert "`orchestrion kill R1`" in said
    for words in (("why", "T1"), ("status",), ("runs",), ("show", "R1"), ("show", "T1")):
        assert DEAD in printed(stage, *words), words
    assert "stuck" in printed(stage, "runs")
    assert json.loads(printed(stage, "runs", "--json"))["runs"][0]["state"] == "running"
    seen = views.version(orchestrion.show("T1"))
    assert seen == orchestrion.store.read(lambda tx: views.version({**views.detail(tx, 1), "steps": []}))
    orchestrion.kill("R1")
    assert orchestrion.show("R1")["awaits"] is None


@pytest.mark.parametrize("reported", ["done", "fail"])
def test_a_report_to_a_dead_supervisor_promises_and_renews_nothing(stage_with_a_dead_run: Stage, reported: str) -> None:
    stage = stage_with_a_dead_run
    before = stage.run()["lease_until"]
    outcome = getattr(stage.orchestrion, reported)("R1", "all of it")
    assert "supervisor died" in outcome["recorded"]
    assert "tries the task again" in outcome["recorded"]
    assert (outcome["run"]["summary"], outcome["run"]["lease_until"]) == ("all of it", before)
    assert stage.task()["state"] == "in_progress"
    stage.orchestrion.kill("R1")
    assert stage.run()["summary"] == "all of it"
