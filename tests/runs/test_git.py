"""Git: real repositories, and environments made to disturb."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest
from user_git import UserGit

from orchestrion.core.errors import GitProblem
from orchestrion.runs import git as module
from orchestrion.runs import git_process
from orchestrion.runs.git import Git


def test_it_answers_without_the_last_line_end(project: Path, user: UserGit) -> None:
    assert Git(project).run("log", "--format=%s%n%n").stdout == "first\n\n"
    assert Git(project).toplevel() == project.resolve()
    assert Git(project / "src").toplevel() == project.resolve()
    assert Git(project / "src").common_dir() == (project / ".git").resolve()


def test_input_and_paths_may_be_any_bytes(project: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n \xff")
    (project / name).write_text("x")

    git = Git(project)
    git.run("add", "--", name)

    assert git.lines("diff", "--cached", "--name-only", "-z") == [name]
    oid = git.run("hash-object", "-w", "--stdin", input=name).stdout
    assert next(git.blobs([oid])).sha256 == hashlib.sha256(b"caf\xe9\n \xff").hexdigest()


def test_a_refusal_says_what_was_asked_and_what_git_said(project: Path, tmp_path: Path) -> None:
    with pytest.raises(GitProblem) as refused:
        Git(project).run("checkout", "--quiet", "no-such-branch")
    assert "git checkout --quiet no-such-branch failed with exit code 1" in refused.value.message
    assert "did not match" in refused.value.message
    assert refused.value.hint

    assert Git(project).run("checkout", "no-such-branch", check=False).returncode == 1
    with pytest.raises(GitProblem) as refused:
        Git(tmp_path).tip("HEAD")
    assert refused.value.code == "not_a_repository"
    with pytest.raises(GitProblem) as refused:
        Git(tmp_path / "gone").tip("HEAD")
    assert refused.value.code == "no_such_folder"
    with pytest.raises(GitProblem):
        Git(project).run("log", "a\0b")


def test_a_refusal_shows_no_password(project: Path) -> None:
    with pytest.raises(GitProblem) as refused:
        Git(project).run("fetch", "nowhere://me:secret@example.org/x")
    assert "secret" not in refused.value.message


def test_it_does_not_wait_for_ever(project: Path) -> None:
    with pytest.raises(GitProblem) as refused:
        Git(project).run("-c", "alias.wait=!sleep 3", "wait", timeout=0.1)
    assert refused.value.code == "git_timeout"


def test_what_goes_on_meanwhile_goes_on_and_can_end_it(project: Path) -> None:
    beats: list[float] = []

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 3:
            raise InterruptedError("enough")

    with git_process.pulsing(beat), pytest.raises(InterruptedError, match="enough"):
        Git(project).run("-c", "alias.wait=!sleep 60", "wait")
    assert len(beats) == 3
    assert Git(project).run("-c", "alias.wait=!sleep 0.6; cat", "wait", input="said").stdout == "said"
    assert len(beats) == 3  # outside nothing beats


def test_what_is_given_to_git_is_given_once_however_long_it_takes(project: Path) -> None:
    text = "x" * 300_000
    with git_process.pulsing(lambda: None):
        assert Git(project).run("-c", "alias.slow=!sleep 0.7; cat", "slow", input=text).stdout == text


def test_several_calls_together_are_not_waited_for_for_ever(project: Path) -> None:
    with git_process.together_within(0.5):
        Git(project).run("-c", "alias.wait=!sleep 0.1", "wait")
        with pytest.raises(GitProblem) as refused:
            Git(project).run("-c", "alias.wait=!sleep 60", "wait")
    assert refused.value.code == "git_timeout"


def test_inherited_variables_do_not_lead_elsewhere(project: Path, tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "GIT_DIR": "/nowhere",
        "GIT_WORK_TREE": "/nowhere",
        "GIT_INDEX_FILE": "/nowhere/index",
        "GIT_OBJECT_DIRECTORY": "/nowhere",
        "GIT_CONFIG_PARAMETERS": "'core.bare=true'",
        "GIT_AUTHOR_NAME": "Somebody",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "test.kept",
        "GIT_CONFIG_VALUE_0": "yes",
        "LC_ALL": "de_DE.UTF-8",
    }
    git = Git(project, environ)

    assert Path(git.run("rev-parse", "--show-toplevel").stdout) == project.resolve()
    git.run("commit", "--allow-empty", "-m", "mine")
    # Who commits is decided elsewhere, from settings and environment (``commits``).
    assert git.run("log", "-1", "--format=%an %cn").stdout == "User User"
    assert git.run("config", "test.kept").stdout == "yes"


def test_a_pinned_repository_is_never_searched_further_up(project: Path) -> None:
    with pytest.raises(GitProblem) as refused:
        Git(project / "src", git_dir=project / "src" / ".git").tip("HEAD")
    assert refused.value.code == "not_a_repository"


def test_a_machine_without_git_or_with_an_old_one_is_told_so(project: Path, tmp_path: Path) -> None:
    with pytest.raises(GitProblem) as refused:
        Git(project, {"PATH": str(tmp_path)}).tip("HEAD")
    assert refused.value.code == "git_missing"

    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "git").write_text("#!/bin/sh\necho git version 2.29.7\n")
    (tmp_path / "old" / "git").chmod(0o755)
    with pytest.raises(GitProblem) as refused:
        Git(project, {"PATH": str(tmp_path / "old")}).tip("HEAD")
    assert refused.value.code == "git_too_old"
    assert "2.29.7" in refused.value.message


def test_tips_and_ancestors(project: Path, user: UserGit) -> None:
    git, first = Git(project), user("rev-parse", "HEAD")
    user("commit", "--allow-empty", "-qm", "second")
    second = user("rev-parse", "HEAD")

    assert git.tip("HEAD") == git.tip("refs/heads/main") == second
    assert git.tip("refs/heads/none") is None
    assert git.is_ancestor(first, second)
    assert git.is_ancestor(second, second)
    assert not git.is_ancestor(second, first)
    with pytest.raises(GitProblem):
        git.is_ancestor("0" * 40, first)


def test_a_repository_without_commits(project: Path, user: UserGit, tmp_path: Path) -> None:
    user("init", "-q", tmp_path / "empty")
    assert Git(project).has_commits()
    assert not Git(tmp_path / "empty").has_commits()


def test_a_ref_is_swapped_only_by_who_knows_it(project: Path, user: UserGit) -> None:
    git, first = Git(project), user("rev-parse", "HEAD")
    user("commit", "--allow-empty", "-qm", "second")
    second, ref = user("rev-parse", "HEAD"), "refs/orchestrion/plans/p"

    assert not git.swap_ref(ref, second, first)
    assert git.swap_ref(ref, first, None)
    assert not git.swap_ref(ref, second, None)
    assert not git.swap_ref(ref, second, "")
    assert not git.swap_ref(ref, second, "0" * 40)
    assert not git.swap_ref(ref, second, second)
    assert git.tip(ref) == first
    assert git.swap_ref(ref, second, first)
    assert git.tip(ref) == second
    with pytest.raises(GitProblem):
        git.swap_ref("refs/orchestrion/plans/p/below", second, None)


def test_many_swap_at_once_and_one_wins(project: Path, user: UserGit) -> None:
    first, ref = user("rev-parse", "HEAD"), "refs/orchestrion/plans/p"
    user("update-ref", ref, first)
    commits = [user("commit-tree", "-p", first, "-m", str(n), f"{first}^{{tree}}") for n in range(6)]
    won: list[str] = []

    def swap(commit: str) -> None:
        if Git(project).swap_ref(ref, commit, first):
            won.append(commit)

    threads = [threading.Thread(target=swap, args=(commit,)) for commit in commits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert Git(project).tip(ref) == won[0]


def test_a_lock_that_a_killed_git_left_does_not_hold_a_plan_for_ever(
    project: Path, user: UserGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, ref = user("rev-parse", "HEAD"), "refs/orchestrion/plans/p"
    lock = project / ".git" / f"{ref}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (time.time() - 60, time.time() - 60))

    assert Git(project).swap_ref(ref, first, None)

    theirs = project / ".git" / "refs" / "heads" / "main.lock"
    theirs.touch()
    os.utime(theirs, (time.time() - 60, time.time() - 60))
    monkeypatch.setattr(module, "_LOCK_TRIES", 2)
    with pytest.raises(GitProblem) as refused:
        Git(project).swap_ref("refs/heads/main", user("commit-tree", "-m", "x", f"{first}^{{tree}}"), first)
    assert refused.value.code == "locked"
    assert theirs.exists()


def test_branches_that_are_checked_out(project: Path, user: UserGit, tmp_path: Path) -> None:
    user("worktree", "add", "-q", "-b", "side", tmp_path / "side")
    user("worktree", "add", "-q", "--detach", tmp_path / "loose")
    user("branch", "free")

    assert Git(project).checked_out_branches() == {"refs/heads/main", "refs/heads/side"}


def test_clean_means_nothing_tracked_differs(project: Path, user: UserGit) -> None:
    git = Git(project)
    (project / "untracked").write_text("x")
    assert git.is_clean()

    (project / "a.txt").write_text("changed")
    assert not git.is_clean()
    user("add", "a.txt")
    assert not git.is_clean()
    user("commit", "-qm", "second")
    assert git.is_clean()

    (project / ".git" / "MERGE_HEAD").write_text(user("rev-parse", "HEAD") + "\n")
    assert not git.is_clean()


def test_asking_does_not_write_the_index(project: Path) -> None:
    index = project / ".git" / "index"
    before = index.read_bytes()
    os.utime(project / "a.txt", (1, 1))

    assert Git(project).is_clean()

    assert index.read_bytes() == before


def test_blobs_are_measured_in_order(project: Path, user: UserGit) -> None:
    contents = [b"", b"one\n", b"\0\xff" * 2_000_000]
    oids = []
    for content in contents:
        (project / "blob").write_bytes(content)
        oids.append(user("hash-object", "-w", "blob"))

    blobs = list(Git(project).blobs(oids))

    assert [blob.size for blob in blobs] == [len(content) for content in contents]
    assert [blob.sha256 for blob in blobs] == [hashlib.sha256(content).hexdigest() for content in contents]
    with pytest.raises(GitProblem):
        list(Git(project).blobs([oids[0], "0" * 40]))


def test_a_git_that_is_killed_has_not_said_that_there_is_no_commit(project: Path, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\ntest "$1" = --version && { echo git version 2.40.0; exit; }\nkill -9 $$\n')
    fake.chmod(0o755)
    git = Git(project, {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"})
    for ask in (lambda: git.tip("HEAD"), lambda: git.is_ancestor("HEAD", "HEAD")):
        with pytest.raises(GitProblem):
            ask()
