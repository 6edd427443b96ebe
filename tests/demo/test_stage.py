"""The folder of a demo: what is put there, and what stays out."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import Conflict, EnvironmentProblem, GitProblem
from orchestrion.demo.stage import set_up


def test_commands_survive_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = '/opt/py 3: it\'s #1 \\ "so"/$HOME/bin/pythön'
    monkeypatch.setattr(sys, "executable", python)
    stage = set_up(tmp_path / "a 'demo'", {})
    with Orchestrator.open(stage.repository, environ=stage.environ) as opened:
        tasks = {task.row["key"]: task.as_json() for task in opened.list_tasks(limit=100).items}
    assert shlex.split(tasks["waves"]["run_command"]) == [
        python,
        f"{tmp_path}/a 'demo'/agents/implementer.py",
        "waves",
    ]
    assert shlex.split(tasks["waves"]["checks"][0]) == [python, "-m", "unittest", "tests.test_waves"]
    assert "{python}" not in stage.plan.read_text()


def test_what_means_other_projects_stays_out(tmp_path: Path) -> None:
    foreign = {"ORCHESTRION_DB": "postgresql://elsewhere/x", "ORCHESTRION_RUN": "u/R1", "GIT_DIR": "/x"}
    stage = set_up(tmp_path / "demo", {**foreign, "A": "b"})
    ours = {"XDG_STATE_HOME": str(stage.folder / "state"), "PYTHONDONTWRITEBYTECODE": "1"}
    assert stage.environ == {"A": "b", **ours}
    assert (stage.repository / ".git" / "orchestrion" / "orchestrion.db").exists()


def test_the_users_own_settings_do_not_change_the_story(tmp_path: Path) -> None:
    config = tmp_path / "config" / "orchestrion" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("run: {feedback: 0}\nworkspace: {setup: 'exit 1'}\nslots: {host: 1}\n")
    stage = set_up(tmp_path / "demo", {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)})
    with Orchestrator.open(stage.repository, environ=stage.environ) as opened:
        found = [opened.config[name] for name in ("run.feedback", "workspace.setup", "slots.host")]
    assert found == [2, None, None]


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        set_up(tmp_path, os.environ)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="no folder for the demo"):
        set_up(tmp_path / "file" / "demo", os.environ)


def test_without_git_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitProblem, match="git is not installed"):
        set_up(tmp_path / "demo", os.environ)
    assert not (tmp_path / "demo").exists()
