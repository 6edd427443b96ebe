"""History that an agent's repository cut off, or that was never fetched, does not come into the user's as a hole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import GitProblem
from orchestrion.runs.workspace import work
from orchestrion.runs.workspace.places import Workspace

Cloned = Callable[..., tuple[Path, RunSeam]]


@pytest.fixture
def cloned(tmp_path: Path, user: UserGit) -> Cloned:
    """Clones an upstream repository of two branches, of three commits each since they parted."""
    up = tmp_path / "up"
    up.mkdir()
    user("init", "-q", "-b", "main", at=up)
    user("config", "uploadpack.allowFilter", "true", at=up)
    user("config", "uploadpack.allowAnySHA1InWant", "true", at=up)

    def commit(branch: str) -> None:
        for number in (1, 2, 3):
            (up / branch).write_text(f"{number}\n")
            (up / f"{branch}-{number}").write_text("x")
            user("add", ".", at=up)
            user("commit", "-qm", f"{branch} {number}", at=up)

    user("commit", "-qm", "first", "--allow-empty", at=up)
    user("branch", "side", at=up)
    commit("main")
    user("switch", "-q", "side", at=up)
    commit("side")
    user("switch", "-q", "main", at=up)

    def clone(*options: str) -> tuple[Path, RunSeam]:
        shop = tmp_path / "shop"
        user("clone", "-q", *options, f"file://{up}", shop)
        return shop, RunSeam(shop, tmp_path / "home")

    return clone


def prepared(seam: RunSeam, user: UserGit, shop: Path) -> Workspace:
    return seam.prepare("R1", user("rev-parse", "HEAD", at=shop))


@pytest.mark.parametrize("options", [(), ("--depth=2",)], ids=["whole", "shallow"])
def test_work_on_history_that_was_cut_off_is_refused_and_its_files_are_saved(
    cloned: Cloned, user: UserGit, options: tuple[str, ...]
) -> None:
    shop, seam = cloned("--single-branch", *options)
    workspace = prepared(seam, user, shop)
    user("fetch", "-q", "--depth=1", "origin", "side", at=workspace.path)
    user("merge", "-q", "--allow-unrelated-histories", "-m", "both", "FETCH_HEAD", at=workspace.path)
    with pytest.raises(GitProblem, match="history that is cut off") as refused:
        seam.collect(workspace)
    assert refused.value.code == "workspace_broken"
    saved = work.salvage(seam.project, workspace, seam.authorship())
    seam.publish(workspace, saved.head)
    assert user("show", f"{saved.head}:side", at=shop) == "3"
    user("fsck", at=shop)
    user("gc", "-q", at=shop)


def test_side_work_on_such_history_is_left_out_and_said(cloned: Cloned, user: UserGit) -> None:
    shop, seam = cloned("--single-branch")
    workspace = prepared(seam, user, shop)
    user("fetch", "-q", "--depth=1", "origin", "side", at=workspace.path)
    tree = user("rev-parse", "FETCH_HEAD^{tree}", at=workspace.path)
    user(
        "branch",
        "mine",
        user("commit-tree", tree, "-p", "FETCH_HEAD", "-m", "mine", at=workspace.path),
        at=workspace.path,
    )
    (workspace.path / "new").write_text("new\n")
    made = seam.hand_over(workspace)
    assert [(remark.code, "it is not kept" in remark.message) for remark in made.remarks] == [
        ("side_work_left_out", True)
    ]
    assert user("show", f"{made.head}:new", at=shop) == "new"
    user("fsck", at=shop)


@pytest.mark.parametrize(
    "options",
    [(), ("--depth=1",), ("--filter=blob:none",), ("--filter=tree:0",)],
    ids=["whole", "shallow", "partial", "treeless"],
)
@pytest.mark.parametrize("branches", ["--single-branch", "--no-single-branch"])
def test_work_on_history_that_was_fetched_whole_comes_in(
    cloned: Cloned, user: UserGit, options: tuple[str, ...], branches: str
) -> None:
    """Also where the user has the other branch already, without all that is in it."""
    shop, seam = cloned(*options, branches)
    user("lfs", "install", "--local", at=shop)
    workspace = prepared(seam, user, shop)
    deeper = ("--unshallow",) if "--depth=1" in options else ()
    user("fetch", "-q", *deeper, "origin", "side", at=workspace.path)
    user("merge", "-q", "-m", "both", "FETCH_HEAD", at=workspace.path)
    made = seam.hand_over(workspace)
    assert user("show", f"{made.head}:side", at=shop) == "3"
    user("fsck", at=shop)
    user("gc", "-q", at=shop)
