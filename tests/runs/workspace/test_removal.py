"""Workspaces go, and nothing with them that exists nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.runs.workspace import places, removal
from orchestrion.runs.workspace.places import ISOLATIONS

both = pytest.mark.parametrize("isolation", ISOLATIONS)


@pytest.fixture
def base(user: UserGit) -> str:
    return user("rev-parse", "HEAD")


@both
def test_only_saved_work_may_go(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str, isolation: str
) -> None:
    workspace = seam.prepare("R1", base, isolation)
    path = workspace.path

    (path / "new.txt").write_text("new")
    assert not seam.remove(path)
    user("checkout", "-q", "--detach", at=path)
    collected = seam.collect(workspace)
    assert not seam.remove(path)
    seam.publish(workspace, collected)
    (path / "a.txt").unlink()
    assert not seam.remove(path)
    user("checkout", "-q", "a.txt", at=path)
    (path / "build.log").write_text("ignored files are no work")

    assert seam.remove(path)

    assert list(home.iterdir()) == []
    assert user("show", "orchestrion/run/R1:new.txt") == "new"
    assert user("worktree", "list", "--porcelain").count("worktree ") == 1
    assert seam.remove(path)


def test_commits_on_a_side_branch_or_in_the_stash_keep_a_workspace(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str
) -> None:
    for run, commands in {
        "R1": (["checkout", "-qb", "side"], ["commit", "-qam", "side"], ["checkout", "-q", base]),
        "R2": (["stash", "-q"],),
        "R3": (["commit", "-qam", "tagged"], ["tag", "t"], ["reset", "-q", "--hard", base]),
        "R4": (["worktree", "add", "-q", "-b", "x", "../elsewhere"], ["checkout", "-q", "a.txt"]),
    }.items():
        path = seam.prepare(run, base).path
        (path / "a.txt").write_text("work")
        for command in commands:
            user(*command, at=path)
        if run == "R4":
            (home / "elsewhere" / "a.txt").write_text("more")
        assert user("status", "--porcelain", at=path) == ""
        assert not seam.remove(path), run


def test_what_came_from_upstream_is_not_work(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str, tmp_path: Path
) -> None:
    user("clone", "-q", project, tmp_path / "upstream")
    user("remote", "add", "origin", tmp_path / "upstream")
    user("commit", "--allow-empty", "-qm", "newer", at=tmp_path / "upstream")
    workspace = seam.prepare("R1", base)
    user("fetch", "-q", at=workspace.path)

    assert seam.remove(workspace.path)


def test_removing_never_means_the_project(seam: RunSeam, project: Path, user: UserGit, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    for path in (project, project.parent, tmp_path / "link"):
        assert not seam.remove(path)
    assert (project / ".git").is_dir()


def test_other_stale_worktrees_of_the_user_are_not_pruned(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str, tmp_path: Path
) -> None:
    user("worktree", "add", "-q", "-b", "usb", tmp_path / "usb")
    (tmp_path / "usb").rename(tmp_path / "unplugged")
    workspace = seam.prepare("R1", base, "worktree")

    assert seam.remove(workspace.path)

    assert [entry.name for entry in (project / ".git" / "worktrees").iterdir()] == ["usb"]


def test_folders_without_permissions_go_too(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "z").touch()
    (tmp_path / "x" / "y").chmod(0o000)
    (tmp_path / "x").chmod(0o500)
    removal.delete_tree(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_sweep_takes_the_old_and_then_the_oldest(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str
) -> None:
    now = time.time()
    for number in range(1, 7):
        path = seam.prepare(f"R{number}", base).path
        if number == 2:
            (path / "work.txt").write_text("work")
        _age(path, now - 1000 * (10 - number))
    (home / ".removed-R0-1").mkdir()
    (home / "merge-p").mkdir()
    _age(home / "merge-p", now - 9000)
    size = removal._size(home / "R1")

    assert seam.sweep({"R1"}, None, None, now) == []
    assert not (home / ".removed-R0-1").exists()
    # Older than 7,500 s: merge-p, R1 (kept), R2 (holds work).
    assert seam.sweep({"R1"}, 7_500, None, now) == ["merge-p"]
    assert seam.sweep(set(), 7_500, None, now) == ["R1"]
    # R2 is counted but stays; R3 and R4 make room, R5 and R6 fit.
    assert seam.sweep(set(), 7_500, 3 * size + size // 2, now) == ["R3", "R4"]
    assert sorted(entry.name for entry in home.iterdir() if entry.suffix not in (".git", ".lock")) == ["R2", "R5", "R6"]
    assert RunSeam(project, home / "none").sweep(set(), 1, 1, now) == []


def _age(path: Path, moment: float) -> None:
    for top in (path, places.git_dir_beside(path)):
        for folder, _, files in os.walk(top, topdown=False):
            for name in files:
                os.utime(Path(folder, name), (moment, moment))
            os.utime(folder, (moment, moment))


def test_a_git_directory_of_ours_without_its_workspace_goes_in_time(seam: RunSeam, home: Path) -> None:
    (home / "R7.git").mkdir(parents=True)
    assert seam.sweep(set(), None, None, time.time()) == []
    assert (home / "R7.git").exists(), "a workspace may be about to be made beside it"
    seam.sweep(set(), None, None, time.time() + 7200)
    assert not (home / "R7.git").exists()


def _as_version_0_1_0_made_it(project: Path, path: Path, base: str, *, finished: bool = True) -> None:
    """A clone with a note in its own repository, and nothing beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run = path.name
    commands = [
        ["git", "clone", "-q", "--shared", "--no-checkout", "--template=", project, path],
        ["git", "-C", path, "symbolic-ref", "HEAD", f"refs/heads/orchestrion/run/{run}"],
        ["git", "-C", path, "reset", "-q", "--hard", base],
    ]
    for command in commands:
        subprocess.run(command, check=True)
    (path / ".git" / "orchestrion-project").write_text(f"{project}\n")
    note = (
        f'{{"base": "{base}", "branch": "orchestrion/run/{run}", "finished": {str(finished).lower()}, "included": []}}'
    )
    (path / ".git" / "orchestrion.json").write_text(note)


def test_workspaces_of_version_0_1_0_are_kept_collected_and_removed(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str
) -> None:
    for run in ("R1", "R2", "R3"):
        _as_version_0_1_0_made_it(project, home / run, base, finished=run != "R3")
    (home / "R1" / "work.txt").write_text("work")
    user("commit", "-q", "--allow-empty", "-m", "own", at=home / "R1")
    workspace = places.Workspace(home / "R1", "orchestrion/run/R1", base, "clone")
    assert not seam.remove(home / "R1")
    seam.hand_over(workspace)
    assert user("diff", "--name-only", base, "orchestrion/run/R1") == "work.txt"
    assert [seam.remove(home / run) for run in ("R1", "R2", "R3")] == [True, True, True]
    assert list(home.iterdir()) == []


def test_a_workspace_of_version_0_1_0_that_was_cut_short_gives_way(
    seam: RunSeam, project: Path, home: Path, base: str
) -> None:
    _as_version_0_1_0_made_it(project, home / "R1", base, finished=False)
    shutil.rmtree(home / "R1" / "src")
    assert seam.prepare("R1", base).path.is_dir()
    assert sorted(entry.name for entry in home.iterdir()) == ["R1", "R1.git"]
