"""Work comes into the project as refs of ours, and goes with them when it is not needed any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import GitProblem
from orchestrion.runs.workspace.places import ISOLATIONS
from orchestrion.runs.workspace.publish import run_tip


@pytest.fixture
def base(user: UserGit) -> str:
    return user("rev-parse", "HEAD")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_publishing_again_replaces_it(seam: RunSeam, project: Path, user: UserGit, base: str, isolation: str) -> None:
    workspace = seam.prepare("R1", base, isolation)
    for go in ("one", "two"):
        user("checkout", "-q", "-B", f"go-{go}", base, at=workspace.path)  # Not the branch it was given.
        (workspace.path / "go.txt").write_text(go)
        seam.hand_over(workspace, go)
        assert user("show", "refs/orchestrion/runs/R1:go.txt") == go
    assert not (project / ".git" / "FETCH_HEAD").exists()
    seam.remove(workspace.path)
    assert user("show", "orchestrion/run/R1:go.txt") == "two"


def test_a_branch_that_is_checked_out_stays(seam: RunSeam, user: UserGit, base: str) -> None:
    workspace = seam.prepare("R1", base)
    seam.publish(workspace, base)
    user("checkout", "-q", "orchestrion/run/R1")
    (workspace.path / "a.txt").write_text("work\n")

    head = seam.hand_over(workspace).head

    assert user("rev-parse", "HEAD") == base
    assert user("status", "--porcelain") == ""
    assert user("rev-parse", "refs/orchestrion/runs/R1") == head
    assert seam.remove(workspace.path), "the work is in the project all the same"


@pytest.mark.parametrize(
    "way", ["branch orchestrion", "branch orchestrion/run", "tag orchestrion", "branch orchestrion/run/R1/x"]
)
def test_names_of_the_user_s_stop_nothing(seam: RunSeam, user: UserGit, base: str, way: str) -> None:
    user(*way.split())
    before = user("for-each-ref")
    workspace = seam.prepare("R1", base)
    (workspace.path / "x").write_text("x")
    head = seam.hand_over(workspace).head
    assert user("rev-parse", "refs/orchestrion/runs/R1") == head
    assert run_tip(seam.project.git, "R1") == head
    assert seam.tip("p").create(base) == base
    assert set(before.splitlines()) <= set(user("for-each-ref").splitlines())


def test_a_person_may_go_on_on_the_branch(seam: RunSeam, project: Path, user: UserGit, base: str) -> None:
    workspace = seam.prepare("R1", base)
    (workspace.path / "x").write_text("x")
    seam.hand_over(workspace)
    user("checkout", "-q", "orchestrion/run/R1")
    user("commit", "-q", "--allow-empty", "-m", "mended")
    assert run_tip(seam.project.git, "R1") == user("rev-parse", "HEAD")


def test_a_branch_of_the_user_s_with_this_name_is_theirs(seam: RunSeam, user: UserGit, base: str) -> None:
    user("switch", "-qc", "orchestrion/run/R1")
    user("commit", "-q", "--allow-empty", "-m", "mine")
    mine = user("rev-parse", "HEAD")
    user("switch", "-q", "main")
    workspace = seam.prepare("R1", base)
    (workspace.path / "new.txt").write_text("new")
    head = seam.hand_over(workspace).head
    assert user("rev-parse", "refs/heads/orchestrion/run/R1") == mine
    assert run_tip(seam.project.git, "R1") == user("rev-parse", "refs/orchestrion/runs/R1") == head


def test_what_a_store_that_was_lost_had_under_this_name_is_kept(seam: RunSeam, user: UserGit, base: str) -> None:
    first = seam.prepare("R1", base)
    (first.path / "old.txt").write_text("old")
    old = seam.hand_over(first).head
    assert seam.remove(first.path)
    again = seam.prepare("R1", base)
    (again.path / "new.txt").write_text("new")
    head = seam.hand_over(again).head
    assert user("rev-parse", "refs/orchestrion/runs/R1") == head
    assert user("rev-parse", f"refs/orchestrion/kept/R1/earlier/{old[:12]}") == old
    assert user("rev-parse", "refs/heads/orchestrion/run/R1") == head


@pytest.mark.parametrize("left_out", ["blob:none", "tree:0"])
def test_in_a_partial_clone_what_new_folders_name_is_fetched(
    project: Path, user: UserGit, tmp_path: Path, home: Path, left_out: str
) -> None:
    for folder in ("docs", "lib/deep"):
        (project / folder).mkdir(parents=True)
        for number in (1, 2):
            (project / folder / f"{number}.txt").write_text(f"{folder} {number}")
    user("add", ".")
    user("commit", "-qm", "folders")
    for setting in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        user("config", setting, "true")
    clone = tmp_path / "clone"
    user("clone", "-q", f"--filter={left_out}", "--sparse", f"file://{project}", clone)
    user("sparse-checkout", "set", "docs", at=clone)
    seam = RunSeam(clone, home)
    workspace = seam.prepare("R1", user("rev-parse", "HEAD", at=clone))
    (workspace.path / "lib" / "new.txt").write_text("new")
    head = seam.hand_over(workspace).head
    assert user("ls-tree", "--name-only", f"{head}:lib", at=clone).split() == ["deep", "new.txt"]
    assert user("show", f"{head}:lib/deep/2.txt", at=clone) == "lib/deep 2"


def test_what_git_refuses_is_named(seam: RunSeam, base: str) -> None:
    workspace = seam.prepare("R1", base)
    (workspace.path / ".gitmodules").write_text('[submodule "../x"]\n path = zz\n url = ./y\n')
    with pytest.raises(GitProblem) as refused:
        seam.hand_over(workspace)
    assert refused.value.code == "objects_refused"
    assert "(.gitmodules)" in refused.value.message
