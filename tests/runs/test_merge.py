"""Merging into a plan: real repositories, real conflicts, and a user who must not notice."""

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
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import AlreadyTaken, GitProblem, InvalidInput, MergeConflict, NotFound
from orchestrion.runs import merge as merging
from orchestrion.runs.git import Git
from orchestrion.runs.merge import MergeResult
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.workspace.changes import changes_of
from orchestrion.runs.workspace.places import ISOLATIONS

pytestmark = pytest.mark.long

PLAN = "text-tools"
BRANCH = f"refs/heads/orchestrion/{PLAN}"


def accept(_folder: Path) -> None:
    """A recheck that finds nothing to object to."""


@pytest.fixture
def base(seam: RunSeam, user: UserGit) -> str:
    return seam.tip(PLAN).create(user("rev-parse", "HEAD"))


@pytest.fixture
def work(seam: RunSeam, base: str) -> Callable[..., str]:
    """Let a run write files, and publish them; the run's head commit."""

    def work(run: str, files: dict[str, str], isolation: str = "clone") -> str:
        workspace = seam.prepare(run, base, isolation)
        for name, content in files.items():
            (workspace.path / name).write_text(content)
        return seam.hand_over(workspace, f"work of {run}").head

    return work


# -- plans --------------------------------------------------------------------------------


def test_a_plan_begins_once(seam: RunSeam, user: UserGit) -> None:
    first = user("rev-parse", "HEAD")
    tip = seam.tip(PLAN)
    assert tip.read() is None
    with pytest.raises(NotFound):
        tip.get()

    assert tip.create(first) == first
    user("commit", "--allow-empty", "-qm", "second")
    assert tip.create(user("rev-parse", "HEAD")) == first

    assert tip.read() == first == user("rev-parse", BRANCH)


def test_a_plan_moves_by_comparing(seam: RunSeam, user: UserGit) -> None:
    first = user("rev-parse", "HEAD")
    user("commit", "--allow-empty", "-qm", "second")
    second = user("rev-parse", "HEAD")
    tip = seam.tip(PLAN)
    tip.create(first)
    assert not tip.move(second, second)
    assert not tip.contains(second)
    assert tip.move(second, first)
    assert tip.contains(first)
    assert not tip.move(second, first)


@pytest.mark.parametrize("plan", ["run", "", "../heads/main", "a/b", "A", "x.lock", "-x", "a..b", "a b", "x\0"])
def test_a_plan_name_must_be_fit_for_a_branch(seam: RunSeam, plan: str) -> None:
    with pytest.raises(InvalidInput):
        seam.tip(plan)


# -- merge --------------------------------------------------------------------------------


def test_the_first_result_moves_the_plan_forward(
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str], base: str
) -> None:
    head, points = work("R1", {"new.txt": "new"}), list[str]()

    result = seam.merge(PLAN, "R1", head, "message", _refuse, point=points.append)

    assert result == MergeResult(base, head, merged=True, fast_forward=True)
    assert seam.tip(PLAN).read() == head == user("rev-parse", BRANCH)
    assert points == ["merge.begun", "merge.rechecked", "merge.swapped"]


def test_results_that_went_apart_are_merged_and_checked(
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    first, second, third = (work(f"R{n}", {f"{n}.txt": str(n), "note.log": "ignored"}) for n in (1, 2, 3))
    seam.merge(PLAN, "R1", first, "one", accept)
    points, checked = list[str](), list[str]()

    def recheck(folder: Path) -> None:
        checked.extend(sorted(path.name for path in folder.iterdir() if path.name != ".git"))
        (folder / "left.log").write_text("by a check")
        (folder / "a.txt").write_text("by a check")
        assert seam.tip(PLAN).read() == first
        assert user("rev-parse", "--abbrev-ref", "HEAD", at=folder) == "HEAD"
        assert user("log", "-1", "--format=%s", at=folder) == "Title"
        # A check is an agent's code: what it sets is not there the next time.
        user("config", "filter.evil.smudge", f"touch {home}/evil; cat", at=folder)
        (folder / ".git" / "info" / "attributes").write_text("* filter=evil\n")

    result = seam.merge(PLAN, "R2", second, "Title\n\n# two", recheck, point=points.append)

    assert result == MergeResult(first, seam.tip(PLAN).read() or "", merged=True, fast_forward=False)
    assert user("rev-list", "--parents", "-1", BRANCH).split() == [result.tip_after, first, second]
    assert user("log", "-1", "--format=%an|%ce|%B", BRANCH).startswith("User|user@example.org|Title\n\n")
    assert checked == [".gitignore", "1.txt", "2.txt", "a.txt", "b.txt", "src"]
    assert points == ["merge.begun", "merge.merged", "merge.rechecked", "merge.swapped"]

    checked.clear()
    inode = (home / f"merge-{PLAN}").stat().st_ino
    seam.merge(PLAN, "R3", third, "three", lambda folder: checked.extend(p.name for p in folder.iterdir()))
    assert "left.log" not in checked
    assert not (home / "evil").exists()
    assert (home / f"merge-{PLAN}").stat().st_ino == inode
    assert user("show", f"{BRANCH}:a.txt") == "a\n" * 19 + "a"


def test_nothing_is_merged_twice(seam: RunSeam, project: Path, home: Path, work: Callable[..., str]) -> None:
    first, second = work("R1", {"1.txt": "1"}), work("R2", {"2.txt": "2"})
    seam.merge(PLAN, "R1", first, "one", accept)
    tip = seam.merge(PLAN, "R2", second, "two", accept).tip_after

    for run, head in (("R1", first), ("R2", second)):
        assert seam.merge(PLAN, run, head, "again", _refuse) == MergeResult(tip, tip, False, False)
    assert seam.tip(PLAN).read() == tip


def test_a_conflict_names_the_files_and_leaves_the_plan(
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    strange = os.fsdecode(b"caf\xe9\n.txt")
    first = work("R1", {"a.txt": "one\n", strange: "one\n", "1.txt": "1"})
    second = work("R2", {"a.txt": "two\n", strange: "two\n"})
    third = work("R3", {"3.txt": "3"})
    seam.merge(PLAN, "R1", first, "one", accept)

    with pytest.raises(MergeConflict) as refused:
        seam.merge(PLAN, "R2", second, "two", _refuse)

    assert refused.value.details["files"] == ["a.txt", strange]
    assert seam.tip(PLAN).read() == first == user("rev-parse", BRANCH)
    assert seam.merge(PLAN, "R3", third, "three", accept).merged


def test_a_recheck_that_objects_leaves_the_plan(
    seam: RunSeam, project: Path, home: Path, work: Callable[..., str]
) -> None:
    first, second = work("R1", {"1.txt": "1"}), work("R2", {"2.txt": "2"})
    seam.merge(PLAN, "R1", first, "one", accept)

    with pytest.raises(Refused):
        seam.merge(PLAN, "R2", second, "two", _refuse)

    assert seam.tip(PLAN).read() == first
    assert seam.merge(PLAN, "R2", second, "two", accept).merged


def test_histories_that_share_nothing_are_refused(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str
) -> None:
    stranger = user("commit-tree", "-m", "stranger", f"{base}^{{tree}}")
    with pytest.raises(GitProblem) as refused:
        seam.merge(PLAN, "R1", stranger, "x", accept)
    assert "unrelated histories" in refused.value.message
    assert seam.tip(PLAN).read() == base


def test_a_branch_that_cannot_follow_is_no_failure_of_the_merge(
    seam: RunSeam, user: UserGit, work: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = work("R1", {"one.txt": "1\n"})

    def killed(tip: PlanTip) -> bool:
        raise GitProblem("git was killed")

    with monkeypatch.context() as patch:
        patch.setattr(PlanTip, "follow", killed)
        assert seam.merge(PLAN, "R1", head, "one", lambda _: None).merged
    assert seam.tip(PLAN).read() == head
    assert user("rev-parse", BRANCH) != head
    assert seam.tip(PLAN).follow()


def test_a_plan_that_others_move_is_merged_again_from_its_new_tip(
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    heads = [work(f"R{n}", {f"{n}.txt": str(n)}) for n in (1, 2, 3)]
    seam.merge(PLAN, "R1", heads[0], "one", accept)
    rivals = [heads[2]]

    def rival(_: Path) -> None:
        if rivals:
            seam.merge(PLAN, "R3", rivals.pop(), "three", accept)

    result = seam.merge(PLAN, "R2", heads[1], "two", rival)

    assert result.merged
    assert all(Git(project).is_ancestor(head, result.tip_after) for head in heads)
    assert user("rev-list", "--merges", "--count", BRANCH) == "2"


def test_a_plan_that_never_rests_is_given_up(
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str], base: str
) -> None:
    head, moves = work("R1", {"1.txt": "1"}), list[str]()

    def rival(_: Path) -> None:
        tip = seam.tip(PLAN).read() or ""
        moves.append(user("commit-tree", "-p", tip, "-m", str(len(moves)), f"{tip}^{{tree}}"))
        user("update-ref", f"refs/orchestrion/plans/{PLAN}", moves[-1])

    rival(project)
    with pytest.raises(AlreadyTaken) as refused:
        seam.merge(PLAN, "R1", head, "one", rival)

    assert refused.value.code == "plan_moves"
    assert len(moves) == 1 + merging.TRIES
    assert seam.tip(PLAN).read() == moves[-1]


def test_many_merge_at_once_and_nothing_is_lost(
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "TRIES", 100)
    heads = {f"R{n}": work(f"R{n}", {f"{n}.txt": str(n)}) for n in range(1, 7)}
    problems = []

    def one(run: str) -> None:
        try:
            seam.merge(PLAN, run, heads[run], run, accept)
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
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str], where: str
) -> None:
    first, second = work("R1", {"1.txt": "1"}), work("R2", {"2.txt": "2"})
    seam.merge(PLAN, "R1", first, "one", accept)
    script = f"""
import os, signal
from pathlib import Path
from run_seam import RunSeam
def point(name):
    if name == {where!r}:
        os.kill(os.getpid(), signal.SIGKILL)
RunSeam(Path({str(project)!r}), Path({str(home)!r})).merge(
    {PLAN!r}, "R2", {second!r}, "two", lambda _: None, point=point
)
"""
    beside = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    assert subprocess.run([sys.executable, "-c", script], env=beside).returncode == -signal.SIGKILL
    (home / f"merge-{PLAN}" / ".git").mkdir(parents=True, exist_ok=True)
    (home / f"merge-{PLAN}" / ".git" / "index.lock").touch()
    (home / f"merge-{PLAN}.git").mkdir(exist_ok=True)
    (home / f"merge-{PLAN}.git" / "index.lock").touch()

    result = seam.merge(PLAN, "R2", second, "two", accept)

    assert result.merged == (where != "merge.swapped")
    assert user("rev-list", "--merges", "--parents", BRANCH).split()[1:] == [first, second]


def test_a_merge_workspace_in_any_state_is_made_usable(
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str]
) -> None:
    heads = [work(f"R{n}", {f"{n}.txt": str(n)}) for n in (1, 2, 3)]
    seam.merge(PLAN, "R1", heads[0], "one", accept)
    folder = home / f"merge-{PLAN}"
    folder.mkdir()
    (folder / "rubbish").write_text("no repository at all")
    seam.merge(PLAN, "R2", heads[1], "two", accept)
    ours = home / f"merge-{PLAN}.git"
    (ours / "HEAD").write_text("broken")
    (ours / "index").write_text("broken")
    assert seam.merge(PLAN, "R3", heads[2], "three", accept).merged


# -- follow -------------------------------------------------------------------------------


def test_a_check_that_a_killed_merge_left_running_spoils_none_after_it(
    seam: RunSeam, home: Path, work: Callable[..., str]
) -> None:
    heads = [work(f"R{number}", {f"{number}.txt": "x"}) for number in (1, 2, 3)]
    left: list[subprocess.Popen[bytes]] = []

    def killed(folder: Path) -> None:
        environ = {**os.environ, "ORCHESTRION_CHECK_FOLDER": str(folder)}
        left.append(subprocess.Popen(["sleep", "60"], env=environ, cwd=folder))
        raise KeyboardInterrupt

    seam.merge(PLAN, "R1", heads[0], "one", accept)
    with pytest.raises(KeyboardInterrupt):
        seam.merge(PLAN, "R2", heads[1], "two", killed)
    seam.merge(PLAN, "R3", heads[2], "three", lambda folder: None)
    left[0].wait(10)


def test_the_branch_stays_while_it_is_checked_out(
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str], base: str, tmp_path: Path
) -> None:
    user("worktree", "add", "-q", tmp_path / "look", f"orchestrion/{PLAN}")
    head = work("R1", {"1.txt": "1"})

    seam.merge(PLAN, "R1", head, "one", accept)

    assert user("rev-parse", BRANCH) == base
    assert user("status", "--porcelain", at=tmp_path / "look") == ""
    assert not seam.tip(PLAN).follow()
    user("checkout", "-q", "--detach", at=tmp_path / "look")
    assert seam.tip(PLAN).follow()
    assert user("rev-parse", BRANCH) == head


def test_the_branch_stays_when_the_user_committed_to_it(
    seam: RunSeam, project: Path, home: Path, user: UserGit, work: Callable[..., str], base: str
) -> None:
    mine = user("commit-tree", "-p", base, "-m", "mine", f"{base}^{{tree}}")
    user("update-ref", BRANCH, mine)

    seam.merge(PLAN, "R1", work("R1", {"1.txt": "1"}), "one", accept)

    assert user("rev-parse", BRANCH) == mine


def test_a_plan_that_is_not_there_is_not_followed(seam: RunSeam, project: Path) -> None:
    assert not seam.tip("none-yet").follow()


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


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_the_user_notices_nothing(
    seam: RunSeam, project: Path, home: Path, user: UserGit, base: str, isolation: str
) -> None:
    """A dirty tree, a stash, failing hooks, broken signing: all byte for byte as before, and the work is done."""
    _make_delicate(project, user)
    before = _snapshot(project)

    heads = []
    for run in ("R1", "R2", "R3"):
        workspace = seam.prepare(run, base, isolation)
        (workspace.path / f"{run}.txt").write_text(run)
        (workspace.path / "a.txt").write_text(f"{'run' if run == 'R3' else ''}\n" + "a\n" * 19)
        heads.append(seam.hand_over(workspace, run).head)
        changes_of(seam.project, workspace, heads[-1])
        merged = _merged_or_conflict(seam, run, heads[-1])
        assert merged == (run != "R3")
        assert seam.remove(workspace.path)
    seam.sweep(set(), 0, 0, 1e12)

    assert _snapshot(project) == before
    assert Git(project).is_ancestor(heads[1], seam.tip(PLAN).read() or "")
    refs = {ref for ref in user("for-each-ref", "--format=%(refname)").splitlines() if "orchestrion" in ref}
    assert refs == {
        f"refs/orchestrion/plans/{PLAN}",
        BRANCH,
        *(f"refs/{place}/R{n}" for place in ("heads/orchestrion/run", "orchestrion/runs") for n in (1, 2, 3)),
    }


def _merged_or_conflict(seam: RunSeam, run: str, head: str) -> bool:
    try:
        return seam.merge(PLAN, run, head, run, accept).merged
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


def test_the_snapshot_sees_a_touch(seam: RunSeam, project: Path) -> None:
    before = _snapshot(project)
    os.utime(project / ".git" / "index")
    assert _snapshot(project) != before
