"""Landing: the one place where the user's checkout is touched, and only as they asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from run_seam import RunSeam
from test_merge import PLAN, Refused, _refuse, _snapshot, accept
from user_git import UserGit

from orchestrion.core.errors import Conflict, GitProblem, MergeConflict, NotFound
from orchestrion.runs.landing import Landed


@pytest.fixture
def base(seam: RunSeam, user: UserGit) -> str:
    return seam.tip(PLAN).create(user("rev-parse", "HEAD"))


@pytest.fixture
def plan(seam: RunSeam, base: str) -> Callable[..., str]:
    """Lets a run write files, and merges them into the plan; the plan's tip."""

    def plan(files: dict[str, str]) -> str:
        workspace = seam.prepare("R1", base)
        for name, content in files.items():
            (workspace.path / name).write_text(content)
            user_adds = ["git", "add", "--force", name]
            subprocess.run(user_adds, cwd=workspace.path, check=True)
        return seam.merge(PLAN, "R1", seam.hand_over(workspace).head, "one", accept).tip_after

    return plan


def test_landing_moves_the_users_branch_forward(
    seam: RunSeam, project: Path, user: UserGit, plan: Callable[..., str], base: str
) -> None:
    head = plan({"a.txt": "landed\n"})
    (project / "untracked.txt").write_text("mine")

    assert seam.land(PLAN, _refuse) == Landed("main", base, head, merged=False)
    assert user("rev-parse", "main") == head
    assert (project / "a.txt").read_text() == "landed\n"
    assert user("status", "--porcelain") == "?? untracked.txt"
    assert not seam.land(PLAN, _refuse).moved


def test_a_branch_that_moved_on_is_merged_and_checked_first(
    seam: RunSeam, project: Path, user: UserGit, plan: Callable[..., str]
) -> None:
    head = plan({"1.txt": "1"})
    (project / "b.txt").write_text("moved on\n")
    user("commit", "-qam", "moved on")
    mine, checked = user("rev-parse", "HEAD"), list[bool]()

    with pytest.raises(Refused):
        seam.land(PLAN, _refuse)
    assert user("rev-parse", "HEAD") == mine
    assert seam.tip(PLAN).read() == head
    result = seam.land(PLAN, lambda folder: checked.append((folder / "1.txt").exists()))

    assert checked == [True]
    assert (result.moved, result.merged) == (True, True)
    assert user("rev-list", "--parents", "-1", "HEAD").split()[1:] == [head, mine]
    assert seam.tip(PLAN).read() == user("rev-parse", "main")
    assert (project / "1.txt").exists()
    assert user("status", "--porcelain") == ""


def test_a_landing_that_conflicts_changes_nothing(
    seam: RunSeam, project: Path, user: UserGit, plan: Callable[..., str]
) -> None:
    plan({"a.txt": "theirs\n"})
    (project / "a.txt").write_text("mine\n")
    user("commit", "-qam", "mine")
    before = _snapshot(project)

    with pytest.raises(MergeConflict) as refused:
        seam.land(PLAN, accept)

    assert refused.value.details["files"] == ["a.txt"]
    assert _snapshot(project) == before


@pytest.mark.parametrize("way", ["file", "ignored file", "ignored folder", "ignored file for a folder", "link"])
def test_what_is_in_the_way_is_named_and_stays(
    seam: RunSeam, project: Path, user: UserGit, plan: Callable[..., str], way: str
) -> None:
    name = "new.log" if "ignored" in way else "new.txt"
    if way == "ignored file for a folder":
        (project / ".git" / "info" / "exclude").write_text("docs\n")
    plan({name: "of the plan"})
    mine = project / name
    if way == "ignored folder":
        mine.mkdir()
        (mine / "precious").write_text("mine")
    elif way == "link":
        mine.symlink_to("a.txt")
    else:
        mine.write_text("mine")
    before = _snapshot(project)
    with pytest.raises(Conflict) as refused:
        seam.land(PLAN, accept)
    assert refused.value.code == "in_the_way"
    assert any(file.startswith(name) for file in refused.value.details["files"])
    assert _snapshot(project) == before


def test_a_tree_that_is_not_clean_is_refused(
    seam: RunSeam, project: Path, user: UserGit, plan: Callable[..., str]
) -> None:
    plan({"new.txt": "new"})
    (project / "a.txt").write_text("dirty")
    for add in (False, True):
        if add:
            user("add", "a.txt")
        before = _snapshot(project)
        with pytest.raises(Conflict) as refused:
            seam.land(PLAN, accept)
        assert refused.value.code == "dirty_tree"
        assert _snapshot(project) == before


def test_only_the_checkout_that_is_meant_moves(
    seam: RunSeam, project: Path, user: UserGit, plan: Callable[..., str], tmp_path: Path
) -> None:
    head = plan({"new.txt": "new"})
    user("worktree", "add", "-q", "-b", "feat", tmp_path / "feat")
    user("branch", "idle")
    main = user("rev-parse", "main")
    (tmp_path / "feat" / "a.txt").write_text("dirty")

    with pytest.raises(Conflict) as elsewhere:
        seam.land(PLAN, accept, "feat")
    assert elsewhere.value.code == "branch_in_use"
    assert elsewhere.value.details["folder"] == str(tmp_path / "feat")
    user("checkout", "-q", "a.txt", at=tmp_path / "feat")
    assert seam.land(PLAN, accept, "feat", tmp_path / "feat").tip_after == head
    assert (tmp_path / "feat" / "new.txt").exists()
    assert user("rev-parse", "main") == main

    (project / "a.txt").write_text("dirty, and not in question")
    assert seam.land(PLAN, accept, "idle").tip_after == head
    assert user("rev-parse", "idle") == head
    assert user("rev-parse", "main") == main
    with pytest.raises(NotFound) as unknown:
        seam.land(PLAN, accept, "nowhere")
    assert unknown.value.code == "no_branch"


def test_a_folder_that_is_no_repository(seam: RunSeam, plan: Callable[..., str], tmp_path: Path) -> None:
    plan({"new.txt": "new"})
    with pytest.raises(GitProblem):
        seam.land(PLAN, accept, folder=tmp_path)
