"""Merging and landing: real repositories, real conflicts, and a user who must not notice."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from user_git import UserGit

from orchestrion.core.errors import AlreadyTaken, Conflict, GitProblem, InvalidInput, MergeConflict, NotFound
from orchestrion.runs import merge as merging
from orchestrion.runs import workspaces
from orchestrion.runs.git import Git
from orchestrion.runs.merge import MergeResult, ensure_plan, follow, land, merge, plan_tip

PLAN = "text-tools"
BRANCH = f"refs/heads/orchestrion/{PLAN}"


def accept(_folder: Path) -> None:
    """A recheck that finds nothing to object to."""


@pytest.fixture
def base(project: Path) -> str:
    return ensure_plan(project, PLAN, "HEAD")


@pytest.fixture
def work(project: Path, home: Path, base: str) -> Callable[..., str]:
    """Let a run write files, and publish them; the run's head commit."""

    def work(run: str, files: dict[str, str], isolation: str = "clone") -> str:
        workspace = workspaces.prepare(project, home, run, base, isolation)
        for name, content in files.items():
            (workspace.path / name).write_text(content)
        head = workspaces.commit_leftovers(workspace, f"work of {run}")
        workspaces.publish(project, workspace, head)
        return head

    return work


# -- plans --------------------------------------------------------------------------------


def test_a_plan_begins_once(project: Path, user: UserGit) -> None:
    first = user("rev-parse", "HEAD")
    assert plan_tip(project, PLAN) is None

    assert ensure_plan(project, PLAN, "HEAD") == first
    user("commit", "--allow-empty", "-qm", "second")
    assert ensure_plan(project, PLAN, "HEAD") == first

    assert plan_tip(project, PLAN) == first == user("rev-parse", BRANCH)
    with pytest.raises(NotFound):
        ensure_plan(project, "other", "no-such-commit")


@pytest.mark.parametrize("plan", ["run", "", "../heads/main", "a/b", "A", "x.lock", "-x", "a..b", "a b", "x\0"])
def test_a_plan_name_must_be_fit_for_a_branch(project: Path, plan: str) -> None:
    with pytest.raises(InvalidInput):
        ensure_plan(project, plan, "HEAD")


# -- merge --------------------------------------------------------------------------------


def test_the_first_result_moves_the_plan_forward(
    project: Path, home: Path, user: UserGit, work: Callable[..., str], base: str
) -> None:
    head, points = work("R1", {"new.txt": "new"}), list[str]()

    result = merge(project, home, PLAN, "R1", head, "message", _refuse, point=points.append)

    assert result == MergeResult(base, head, merged=True, fast_forward=True)
    assert plan_tip(project, PLAN) == head == user("rev-parse", BRANCH)
    assert points == ["merge.begun", "merge.swapped"]


def test_results_that_went_apart_are_merged_and_checked(
    project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    first, second, third = (work(f"R{n}", {f"{n}.txt": str(n), "note.log": "ignored"}) for n in (1, 2, 3))
    merge(project, home, PLAN, "R1", first, "one", accept)
    points, checked = list[str](), list[str]()

    def recheck(folder: Path) -> None:
        checked.extend(sorted(path.name for path in folder.iterdir() if path.name != ".git"))
        (folder / "left.log").write_text("by a check")
        (folder / "a.txt").write_text("by a check")
        assert plan_tip(project, PLAN) == first
        assert user("rev-parse", "--abbrev-ref", "HEAD", at=folder) == "HEAD"

    result = merge(project, home, PLAN, "R2", second, "Title\n\n# two", recheck, point=points.append)

    assert result == MergeResult(first, plan_tip(project, PLAN) or "", merged=True, fast_forward=False)
    assert user("rev-list", "--parents", "-1", BRANCH).split() == [result.tip_after, first, second]
    assert user("log", "-1", "--format=%an|%ce|%B", BRANCH).startswith("Orchestrion|orchestrion@localhost|Title\n\n")
    assert checked == [".gitignore", "1.txt", "2.txt", "a.txt", "b.txt", "src"]
    assert points == ["merge.begun", "merge.merged", "merge.rechecked", "merge.swapped"]

    checked.clear()
    inode = (home / f"merge-{PLAN}").stat().st_ino
    merge(project, home, PLAN, "R3", third, "three", lambda folder: checked.extend(p.name for p in folder.iterdir()))
    assert "left.log" not in checked
    assert (home / f"merge-{PLAN}").stat().st_ino == inode
    assert user("show", f"{BRANCH}:a.txt") == "a\n" * 19 + "a"


def test_nothing_is_merged_twice(project: Path, home: Path, work: Callable[..., str]) -> None:
    first, second = work("R1", {"1.txt": "1"}), work("R2", {"2.txt": "2"})
    merge(project, home, PLAN, "R1", first, "one", accept)
    tip = merge(project, home, PLAN, "R2", second, "two", accept).tip_after

    for run, head in (("R1", first), ("R2", second)):
        assert merge(project, home, PLAN, run, head, "again", _refuse) == MergeResult(tip, tip, False, False)
    assert plan_tip(project, PLAN) == tip


def test_a_conflict_names_the_files_and_leaves_the_plan(
    project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    strange = os.fsdecode(b"caf\xe9\n.txt")
    first = work("R1", {"a.txt": "one\n", strange: "one\n", "1.txt": "1"})
    second = work("R2", {"a.txt": "two\n", strange: "two\n"})
    third = work("R3", {"3.txt": "3"})
    merge(project, home, PLAN, "R1", first, "one", accept)

    with pytest.raises(MergeConflict) as refused:
        merge(project, home, PLAN, "R2", second, "two", _refuse)

    assert refused.value.details["files"] == ["a.txt", strange]
    assert plan_tip(project, PLAN) == first == user("rev-parse", BRANCH)
    assert merge(project, home, PLAN, "R3", third, "three", accept).merged


def test_a_recheck_that_objects_leaves_the_plan(project: Path, home: Path, work: Callable[..., str]) -> None:
    first, second = work("R1", {"1.txt": "1"}), work("R2", {"2.txt": "2"})
    merge(project, home, PLAN, "R1", first, "one", accept)

    with pytest.raises(Refused):
        merge(project, home, PLAN, "R2", second, "two", _refuse)

    assert plan_tip(project, PLAN) == first
    assert merge(project, home, PLAN, "R2", second, "two", accept).merged


def test_histories_that_share_nothing_are_refused(project: Path, home: Path, user: UserGit, base: str) -> None:
    stranger = user("commit-tree", "-m", "stranger", f"{base}^{{tree}}")
    with pytest.raises(GitProblem) as refused:
        merge(project, home, PLAN, "R1", stranger, "x", accept)
    assert "unrelated histories" in refused.value.message
    assert plan_tip(project, PLAN) == base


def test_a_branch_that_cannot_follow_is_no_failure_of_the_merge(
    project: Path, home: Path, work: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = work("R1", {"one.txt": "1\n"})
    follow = merging.follow

    def killed(project: Path, plan: str) -> bool:
        raise GitProblem("git was killed")

    monkeypatch.setattr(merging, "follow", killed)
    assert merge(project, home, PLAN, "R1", head, "one", lambda _: None).merged
    assert plan_tip(project, PLAN) == head
    monkeypatch.setattr(merging, "follow", follow)
    assert follow(project, PLAN)


def test_a_plan_that_others_move_is_merged_again_from_its_new_tip(
    project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    heads = [work(f"R{n}", {f"{n}.txt": str(n)}) for n in (1, 2, 3)]
    merge(project, home, PLAN, "R1", heads[0], "one", accept)
    rivals = [heads[2]]

    def rival(_: Path) -> None:
        if rivals:
            merge(project, home, PLAN, "R3", rivals.pop(), "three", accept)

    result = merge(project, home, PLAN, "R2", heads[1], "two", rival)

    assert result.merged
    assert all(Git(project).is_ancestor(head, result.tip_after) for head in heads)
    assert user("rev-list", "--merges", "--count", BRANCH) == "2"


def test_a_plan_that_never_rests_is_given_up(
    project: Path, home: Path, user: UserGit, work: Callable[..., str], base: str
) -> None:
    head, moves = work("R1", {"1.txt": "1"}), list[str]()

    def rival(_: Path) -> None:
        tip = plan_tip(project, PLAN) or ""
        moves.append(user("commit-tree", "-p", tip, "-m", str(len(moves)), f"{tip}^{{tree}}"))
        user("update-ref", f"refs/orchestrion/plans/{PLAN}", moves[-1])

    rival(project)
    with pytest.raises(AlreadyTaken) as refused:
        merge(project, home, PLAN, "R1", head, "one", rival)

    assert refused.value.code == "plan_moves"
    assert len(moves) == 1 + merging.TRIES
    assert plan_tip(project, PLAN) == moves[-1]


def test_many_merge_at_once_and_nothing_is_lost(
    project: Path, home: Path, user: UserGit, work: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "TRIES", 100)
    heads = {f"R{n}": work(f"R{n}", {f"{n}.txt": str(n)}) for n in range(1, 7)}
    problems = []

    def one(run: str) -> None:
        try:
            merge(project, home, PLAN, run, heads[run], run, accept)
        except Exception as problem:  # noqa: BLE001 - to be shown by the test's own thread
            problems.append(problem)

    threads = [threading.Thread(target=one, args=(run,)) for run in heads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert {f"{n}.txt" for n in range(1, 7)} <= set(user("ls-tree", "--name-only", BRANCH).splitlines())
    for head in heads.values():
        assert user("rev-list", "--merges", "--parents", BRANCH).count(head) <= 1


@pytest.mark.parametrize("where", ["merge.begun", "merge.merged", "merge.rechecked", "merge.swapped"])
def test_a_kill_anywhere_and_a_second_call_merge_once(
    project: Path, home: Path, user: UserGit, work: Callable[..., str], where: str
) -> None:
    first, second = work("R1", {"1.txt": "1"}), work("R2", {"2.txt": "2"})
    merge(project, home, PLAN, "R1", first, "one", accept)
    script = f"""
import os, signal
from pathlib import Path
from orchestrion.runs.merge import merge
def point(name):
    if name == {where!r}:
        os.kill(os.getpid(), signal.SIGKILL)
merge(Path({str(project)!r}), Path({str(home)!r}), {PLAN!r}, "R2", {second!r}, "two", lambda _: None, point=point)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    (home / f"merge-{PLAN}" / ".git").mkdir(parents=True, exist_ok=True)
    (home / f"merge-{PLAN}" / ".git" / "index.lock").touch()

    result = merge(project, home, PLAN, "R2", second, "two", accept)

    assert result.merged == (where != "merge.swapped")
    assert user("rev-list", "--merges", "--parents", BRANCH).split()[1:] == [first, second]


def test_a_merge_workspace_in_any_state_is_made_usable(
    project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    heads = [work(f"R{n}", {f"{n}.txt": str(n)}) for n in (1, 2, 3)]
    merge(project, home, PLAN, "R1", heads[0], "one", accept)
    folder = home / f"merge-{PLAN}"
    folder.mkdir()
    (folder / "rubbish").write_text("no repository at all")
    merge(project, home, PLAN, "R2", heads[1], "two", accept)
    (folder / ".git" / "HEAD").write_text("broken")
    assert merge(project, home, PLAN, "R3", heads[2], "three", accept).merged


# -- follow -------------------------------------------------------------------------------


def test_the_branch_stays_while_it_is_checked_out(
    project: Path, home: Path, user: UserGit, work: Callable[..., str], base: str, tmp_path: Path
) -> None:
    user("worktree", "add", "-q", tmp_path / "look", f"orchestrion/{PLAN}")
    head = work("R1", {"1.txt": "1"})

    merge(project, home, PLAN, "R1", head, "one", accept)

    assert user("rev-parse", BRANCH) == base
    assert user("status", "--porcelain", at=tmp_path / "look") == ""
    assert not follow(project, PLAN)
    user("checkout", "-q", "--detach", at=tmp_path / "look")
    assert follow(project, PLAN)
    assert user("rev-parse", BRANCH) == head


def test_the_branch_stays_when_the_user_committed_to_it(
    project: Path, home: Path, user: UserGit, work: Callable[..., str], base: str
) -> None:
    mine = user("commit-tree", "-p", base, "-m", "mine", f"{base}^{{tree}}")
    user("update-ref", BRANCH, mine)

    merge(project, home, PLAN, "R1", work("R1", {"1.txt": "1"}), "one", accept)

    assert user("rev-parse", BRANCH) == mine


def test_a_plan_that_is_not_there_is_not_followed(project: Path) -> None:
    assert not follow(project, "none-yet")


# -- land ---------------------------------------------------------------------------------


def test_landing_moves_the_users_branch_forward(
    project: Path, home: Path, user: UserGit, work: Callable[..., str], base: str
) -> None:
    head = work("R1", {"a.txt": "landed\n"})
    merge(project, home, PLAN, "R1", head, "one", accept)
    (project / "untracked.txt").write_text("mine")

    result = land(project, home, PLAN, _refuse)

    assert result == merging.LandResult("main", base, head, landed=True, merged=False, pushed=False)
    assert user("rev-parse", "main") == head
    assert (project / "a.txt").read_text() == "landed\n"
    assert user("status", "--porcelain") == "?? untracked.txt"
    assert land(project, home, PLAN, _refuse) == merging.LandResult("main", head, head, False, False, False)


def test_a_branch_that_moved_on_is_merged_and_checked_first(
    project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    head = work("R1", {"1.txt": "1"})
    merge(project, home, PLAN, "R1", head, "one", accept)
    (project / "b.txt").write_text("moved on\n")
    user("commit", "-qam", "moved on")
    mine, checked = user("rev-parse", "HEAD"), list[bool]()

    with pytest.raises(Refused):
        land(project, home, PLAN, _refuse)
    assert user("rev-parse", "HEAD") == mine
    assert plan_tip(project, PLAN) == head
    result = land(project, home, PLAN, lambda folder: checked.append((folder / "1.txt").exists()))

    assert checked == [True]
    assert (result.landed, result.merged) == (True, True)
    assert user("rev-list", "--parents", "-1", "HEAD").split()[1:] == [head, mine]
    assert plan_tip(project, PLAN) == user("rev-parse", "main")
    assert (project / "1.txt").exists()
    assert user("status", "--porcelain") == ""


def test_a_landing_that_conflicts_changes_nothing(
    project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    head = work("R1", {"a.txt": "theirs\n"})
    merge(project, home, PLAN, "R1", head, "one", accept)
    (project / "a.txt").write_text("mine\n")
    user("commit", "-qam", "mine")
    before = _snapshot(project)

    with pytest.raises(MergeConflict) as refused:
        land(project, home, PLAN, accept)

    assert refused.value.details["files"] == ["a.txt"]
    assert _snapshot(project) == before


def test_landing_refuses_what_it_could_spoil(
    project: Path, home: Path, user: UserGit, work: Callable[..., str], tmp_path: Path
) -> None:
    merge(project, home, PLAN, "R1", work("R1", {"new.txt": "new"}), "one", accept)

    def refused() -> str:
        before = _snapshot(project)
        with pytest.raises(Conflict) as caught:
            land(project, home, PLAN, accept)
        assert _snapshot(project) == before
        assert caught.value.hint
        return caught.value.code

    (project / "a.txt").write_text("dirty")
    assert refused() == "dirty_tree"
    user("add", "a.txt")
    assert refused() == "dirty_tree"
    user("reset", "-q", "--hard")
    (project / "new.txt").write_text("in the way")
    assert refused() == "in_the_way"
    (project / "new.txt").unlink()
    user("checkout", "-q", "--detach")
    assert refused() == "detached_head"
    user("checkout", "-q", "main")
    with pytest.raises(NotFound):
        land(project, home, "no-such-plan", accept)
    with pytest.raises(GitProblem):
        land(tmp_path, home, PLAN, accept)


def test_landing_pushes_when_asked(
    project: Path, home: Path, user: UserGit, work: Callable[..., str], tmp_path: Path
) -> None:
    head = work("R1", {"new.txt": "new"})
    merge(project, home, PLAN, "R1", head, "one", accept)
    with pytest.raises(Conflict) as refused:
        land(project, home, PLAN, accept, push=True)
    assert refused.value.code == "no_upstream"
    assert user("rev-parse", "main") != head
    user("init", "-q", "--bare", tmp_path / "upstream.git")
    user("remote", "add", "origin", tmp_path / "upstream.git")
    user("push", "-q", "-u", "origin", "main:trunk")

    assert land(project, home, PLAN, accept, push=True).pushed
    assert user("rev-parse", "trunk", at=tmp_path / "upstream.git") == head

    user("update-ref", "-d", "refs/heads/trunk", at=tmp_path / "upstream.git")
    other = user("commit-tree", "-m", "other", f"{head}^{{tree}}", at=tmp_path / "upstream.git")
    user("update-ref", "refs/heads/trunk", other, at=tmp_path / "upstream.git")
    with pytest.raises(GitProblem) as rejected:
        land(project, home, PLAN, accept, push=True)
    assert rejected.value.code == "push_refused"


# -- what the user must not notice --------------------------------------------------------

HOOKS = [
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-receive",
    "post-rewrite",
    "post-update",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "pre-receive",
    "prepare-commit-msg",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
    "update",
]


@pytest.mark.parametrize("isolation", workspaces.ISOLATIONS)
def test_the_user_notices_nothing(project: Path, home: Path, user: UserGit, base: str, isolation: str) -> None:
    """A dirty tree, a stash, failing hooks, broken signing: all byte for byte as before, and the work is done."""
    _make_delicate(project, user)
    before = _snapshot(project)

    heads = []
    for run in ("R1", "R2", "R3"):
        workspace = workspaces.prepare(project, home, run, base, isolation)
        (workspace.path / f"{run}.txt").write_text(run)
        (workspace.path / "a.txt").write_text(f"{'run' if run == 'R3' else ''}\n" + "a\n" * 19)
        heads.append(workspaces.commit_leftovers(workspace, run))
        workspaces.publish(project, workspace, heads[-1])
        workspaces.changes(workspace, base, heads[-1])
        merged = _merged_or_conflict(project, home, run, heads[-1])
        assert merged == (run != "R3")
        assert workspaces.remove(project, workspace.path)
    workspaces.sweep(project, home, set(), 0, 0, 1e12)

    assert _snapshot(project) == before
    assert Git(project).is_ancestor(heads[1], plan_tip(project, PLAN) or "")
    refs = {ref for ref in user("for-each-ref", "--format=%(refname)").splitlines() if "orchestrion" in ref}
    assert refs == {f"refs/orchestrion/plans/{PLAN}", BRANCH, *(f"refs/heads/orchestrion/run/R{n}" for n in (1, 2, 3))}


def _merged_or_conflict(project: Path, home: Path, run: str, head: str) -> bool:
    try:
        return merge(project, home, PLAN, run, head, run, accept).merged
    except MergeConflict:
        return False


def _make_delicate(project: Path, user: UserGit) -> None:
    (project / "a.txt").write_text("stashed\n")
    user("stash", "-q")
    (project / "a.txt").write_text("staged\n")
    user("add", "a.txt")
    (project / "a.txt").write_text("and changed again\n")
    (project / "b.txt").unlink()
    (project / os.fsdecode(b"untracked \xff")).write_text("untracked")
    (project / "ignored.log").write_text("ignored")
    (project / ".git" / "FETCH_HEAD").write_text("fetched\n")
    (project / ".git" / "ORIG_HEAD").write_text(user("rev-parse", "HEAD") + "\n")
    (project / ".git" / "hooks").mkdir(exist_ok=True)
    for name in HOOKS:
        hook = project / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\necho {name} >> {project}/hooks-ran\nexit 1\n")
        hook.chmod(0o755)
    for name, value in {
        "commit.gpgSign": "true",
        "tag.gpgSign": "true",
        "gpg.program": "/nowhere/gpg",
        "core.fsmonitor": str(project / ".git" / "hooks" / "fsmonitor-watchman"),
        "merge.ff": "only",
        "fetch.prune": "true",
        "gc.auto": "1",
        "gc.autoDetach": "false",
        "submodule.recurse": "true",
        "status.showUntrackedFiles": "no",
        "branch.autoSetupMerge": "always",
        "core.hooksPath": str(project / ".git" / "hooks"),
    }.items():
        # Their own settings, and as bad as they can be for all repositories.
        user("config", name, value)
        user("config", "--global", name, value)


def _snapshot(project: Path) -> dict[str, object]:
    """Everything of a repository but what is ours to write: objects, our refs and our reflogs."""
    git_dir = project / ".git"
    ours = (git_dir / "objects", git_dir / "worktrees")
    found: dict[str, object] = {}
    for path in sorted(project.rglob("*")):
        name = str(path.relative_to(project))
        if path.is_relative_to(ours[0]) or path.is_relative_to(ours[1]) or "orchestrion" in name:
            continue
        facts = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        when = facts.st_mtime_ns if stat.S_ISREG(facts.st_mode) else 0
        found[name] = (facts.st_mode, content, when)
    return found


class Refused(Exception):
    """A recheck that objects."""


def _refuse(_folder: Path) -> None:
    raise Refused


def test_the_snapshot_sees_a_touch(project: Path) -> None:
    before = _snapshot(project)
    os.utime(project / ".git" / "index")
    assert _snapshot(project) != before
