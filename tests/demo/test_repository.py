"""The repository of the demo is the same everywhere, and sound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrion.demo import repository
from orchestrion.runs.git import Git


def test_has_a_history_by_several_people(tmp_path: Path) -> None:
    head = repository.make(tmp_path / "one")
    log = Git(tmp_path / "one").run("log", "--format=%an|%aI|%s", head).stdout.splitlines()
    authors, dates, subjects = zip(*(line.split("|") for line in log), strict=True)
    assert (len(log), len(set(authors)), len(set(dates)), len(set(subjects))) == (5, 3, 5, 5)


def test_every_commit_passes_its_tests(tmp_path: Path) -> None:
    head = repository.make(tmp_path / "one")
    git = Git(tmp_path / "one")
    for commit in git.run("rev-list", head).stdout.split():
        git.run("checkout", "--quiet", "--detach", commit)
        command = [sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", "."]
        tested = subprocess.run(command, cwd=git.folder, capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr


def test_is_the_same_whatever_the_users_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = repository.make(tmp_path / "plain")
    config = tmp_path / "gitconfig"
    config.write_text(
        "[user]\n  name = Somebody\n  email = some@body\n[commit]\n  gpgsign = true\n[core]\n  autocrlf = true\n"
        f"  excludesFile = {tmp_path / 'ignored'}\n[init]\n  defaultBranch = trunk\n  defaultObjectFormat = sha256\n"
        "[i18n]\n  commitEncoding = latin1\n"
    )
    (tmp_path / "ignored").write_text("*.md\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert repository.make(tmp_path / "other") == plain
