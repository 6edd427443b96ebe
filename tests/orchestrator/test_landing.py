"""``land`` as people call it: which plan, whereto, what must not move, and what is said."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrion import Orchestrator
from orchestrion.core import private
from orchestrion.core.errors import (
    Conflict,
    EnvironmentProblem,
    GitProblem,
    InvalidInput,
    MergeConflict,
    NotFound,
    NothingReady,
    OrchestrionError,
)
from small_disk import small_disk
from stage import Stage
from waiting import wait_for

pytestmark = [pytest.mark.long, pytest.mark.users_repository_changes]

Refused = Callable[..., OrchestrionError]


@pytest.fixture
def refused(stage: Stage) -> Iterator[Refused]:
    """The error of a landing, after which everything is as it was before."""

    def refused(*args: Any, **options: Any) -> OrchestrionError:
        before = everything(stage)
        with pytest.raises(OrchestrionError) as error:
            stage.orchestrion.land(*args, **options)
        assert everything(stage) == before
        return error.value

    return refused  # type: ignore[return-value]


def everything(stage: Stage) -> dict[str, Any]:
    """What the user has, here and at the remote, and where the plans are."""
    seen = stage.user_sees()
    seen["plans"] = stage.git("for-each-ref", "refs/orchestrion/plans")
    if (stage.folder / "remote").exists():
        seen["remote"] = stage.git("for-each-ref", at=stage.folder / "remote")
    return seen


def done(stage: Stage, plan: str = "default", file: str = "b.txt", command: str = "", **values: Any) -> None:
    """A plan with accepted work."""
    stage.add(command or f"echo b > {file}", plan=plan, **values)
    stage.drain()


@pytest.fixture
def remote(stage: Stage) -> Path:
    """A remote that has the user's branch."""
    folder = stage.folder / "remote"
    stage.git("init", "-q", "--bare", folder)
    stage.git("remote", "add", "origin", folder)
    stage.git("push", "-qu", "origin", "main")
    return folder


@pytest.fixture
def gh(stage: Stage) -> Path:
    """A program that does as gh does; what it was told is in ``told``."""
    folder = stage.folder / "bin"
    folder.mkdir()
    program = folder / "gh"
    program.write_text(
        f"#!/bin/sh\nif [ $1 = repo ]; then test ! -f {folder}/signed-out; exit; fi\n"
        f'printf "%s\\n" "$@" > {folder}/told; cat > {folder}/body\n'
        f"if [ -f {folder}/fail ]; then cat {folder}/fail >&2; exit 1; fi\n"
        "echo https://example.org/pull/1\n"
    )
    program.chmod(0o755)
    stage.orchestrion.close()
    stage.environ["PATH"] = f"{folder}{os.pathsep}{stage.environ['PATH']}"
    stage.open()
    return folder


# -- which plan -------------------------------------------------------------------------------------


def test_the_only_one_that_is_not_landed(stage: Stage) -> None:
    done(stage, "one")
    landed = stage.orchestrion.land()
    assert (landed["plan"], landed["branch"], landed["landed"], landed["pull_request"]) == ("one", "main", True, None)
    assert landed["commit"] == stage.git("rev-parse", "main") == landed["tip_after"]
    done(stage, "two", "c.txt")
    assert stage.orchestrion.land()["plan"] == "two"


def test_a_repository_that_may_only_be_read_is_said(
    stage: Stage, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(stage)

    def deny(path: str, _flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(private, "opener", deny)
    error = refused()
    assert isinstance(error, GitProblem)
    assert error.code == "repository_read_only"
    assert "the repository may only be read here: Permission denied" in error.message
    monkeypatch.undo()
    assert stage.orchestrion.land()["landed"] is True


def test_several_are_listed(stage: Stage, refused: Refused) -> None:
    done(stage, "one")
    done(stage, "two", "c.txt")
    error = refused()
    assert isinstance(error, InvalidInput)
    assert (error.code, error.details["plans"]) == ("several_plans", ["one", "two"])
    assert "orchestrion land one" in error.hint


@pytest.mark.parametrize("what", ["no plan", "no work", "landed", "merged by hand", "none"])
def test_nothing_to_land(stage: Stage, refused: Refused, what: str) -> None:
    if what == "no work":
        stage.add("true")
        stage.drain()
    if what == "none":
        done(stage, command="true")
    if what in ("landed", "merged by hand"):
        done(stage)
        stage.orchestrion.land() if what == "landed" else stage.git("merge", "-q", "orchestrion/default")
    error = refused()
    assert isinstance(error, NothingReady)
    assert error.code == "nothing_to_land"
    if what != "no plan":
        assert refused("default").code == "nothing_to_land"


def test_one_that_is_not_there(stage: Stage, refused: Refused) -> None:
    assert isinstance(refused("nosuch"), NotFound)
    assert isinstance(refused("../x"), InvalidInput)


def test_a_plan_goes_on_after_it_was_landed(stage: Stage) -> None:
    done(stage)
    first = stage.orchestrion.land()["commit"]
    (stage.root / "mine.txt").write_text("mine")
    stage.git("add", ".")
    stage.git("commit", "-qm", "mine")
    # The next work begins where the user is now.
    done(stage, file="c.txt", command="cat mine.txt > c.txt")
    landed = stage.orchestrion.land()
    assert (landed["tip_before"] != first, landed["merged"]) == (True, False)
    assert (stage.root / "c.txt").read_text() == "mine"


# -- whether it is done --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["ready", "review", "blocked", "pending"])
def test_open_tasks_are_named_and_need_partial(stage: Stage, refused: Refused, state: str) -> None:
    done(stage)
    if state == "review":
        stage.add("orchestrion done --summary look --next needs_revision", title="look")
        stage.drain()
    else:
        stage.add("true", title="more")
        if state != "ready":
            stage.orchestrion.add_gate("T2", "approval" if state == "blocked" else "external")
    error = refused()
    assert isinstance(error, Conflict)
    assert (error.code, error.details["tasks"]) == ("open_tasks", ["T2"])
    assert f"T2 ({state})" in error.message
    assert stage.orchestrion.land(partial=True)["landed"]


def test_failed_and_cancelled_tasks_hold_nothing_up_and_are_named(stage: Stage) -> None:
    done(stage)
    stage.add("exit 1", title="broken")
    stage.add("true", title="unwanted")
    stage.orchestrion.cancel("T3", "not needed")
    stage.drain()
    landed = stage.orchestrion.land()
    assert landed["notes"] == ["T2 failed and is not part of it: broken"]


# -- whereto --------------------------------------------------------------------------------------------


def in_worktree(stage: Stage, branch: str = "feat") -> Orchestrator:
    """The same project, from a linked worktree with a commit of its own."""
    folder = stage.folder / "linked"
    stage.git("worktree", "add", "-q", "-b", branch, folder)
    (folder / "own.txt").write_text("own")
    stage.git("add", ".", at=folder)
    stage.git("commit", "-qm", "own", at=folder)
    return Orchestrator.open(folder, environ=stage.environ)


def test_work_begins_and_lands_where_the_user_stands(stage: Stage) -> None:
    main = stage.git("rev-parse", "main")
    with in_worktree(stage) as linked:
        linked.add("From here", command="cat own.txt > b.txt")
        assert linked.work(slots=1, drain=True).all_completed
        landed = linked.land()
    assert landed["branch"] == "feat"
    assert (stage.folder / "linked" / "b.txt").read_text() == "own"
    assert stage.git("rev-parse", "main") == main
    assert not (stage.root / "b.txt").exists()


def test_work_began_elsewhere_is_refused_and_led_there(stage: Stage, refused: Refused) -> None:
    with in_worktree(stage) as linked:
        linked.add("From there", command="echo b > b.txt")
        linked.work(slots=1, drain=True)
    error = refused()
    assert (error.code, error.details["began"], error.details["here"]) == ("other_branch", "feat", "main")
    assert error.details["began_in"] == str(stage.folder / "linked")
    landed = stage.orchestrion.land(onto="main")
    assert (landed["branch"], (stage.root / "own.txt").exists()) == ("main", True)


def test_a_branch_that_is_checked_out_elsewhere_is_landed_there(stage: Stage, refused: Refused) -> None:
    done(stage)
    in_worktree(stage).close()
    error = refused(onto="feat")
    assert (error.code, error.details["folder"]) == ("branch_in_use", str(stage.folder / "linked"))
    assert f"orchestrion -C {stage.folder / 'linked'} land default --onto feat" in error.hint


def test_a_branch_that_nobody_has_checked_out(stage: Stage) -> None:
    done(stage)
    stage.git("branch", "release")
    before = stage.user_sees()["tree"]
    assert stage.orchestrion.land(onto="release")["branch"] == "release"
    assert stage.git("show", "release:b.txt") == "b"
    assert stage.user_sees()["tree"] == before
    assert stage.git("rev-parse", "main") != stage.git("rev-parse", "release")


@pytest.mark.parametrize("options", [{}, {"push": True}])
def test_without_a_branch(stage: Stage, refused: Refused, options: dict[str, Any]) -> None:
    done(stage)
    stage.git("checkout", "-q", "--detach")
    error = refused(**options)
    assert isinstance(error, EnvironmentProblem)
    assert error.code == "detached_head"


def test_where_it_began_and_was_landed_is_remembered(stage: Stage) -> None:
    begun = stage.git("rev-parse", "HEAD")
    done(stage)
    commit = stage.orchestrion.land()["commit"]
    row = stage.orchestrion.store.read(lambda tx: tx.the("plan_by_name", name="default"))
    assert (row["began_branch"], row["began_commit"], row["began_checkout"]) == ("main", begun, str(stage.root))
    assert (row["tip"], row["landed_branch"], row["landed_commit"]) == (commit, "main", commit)
    assert row["landed_at"]
    assert "plan.landed" in stage.kinds()


def test_the_folder_may_be_renamed_at_any_time(stage: Stage) -> None:
    done(stage)
    stage.close()
    shutil.move(stage.root / ".orchestrion", stage.folder / "settings")  # the name is not set by hand
    moved = stage.folder / "elsewhere"
    stage.root.rename(moved)
    with Orchestrator.open(moved, environ=stage.environ) as again:
        assert again.task("T1").state == "completed"
        assert again.land()["landed"]
    moved.rename(stage.root)
    stage.open()


# -- what is in the way -----------------------------------------------------------------------------------


def test_a_conflict_with_the_user_s_branch_changes_nothing(stage: Stage, refused: Refused) -> None:
    done(stage, command="echo theirs > a.txt")
    (stage.root / "a.txt").write_text("mine\n")
    stage.git("commit", "-qam", "mine")
    error = refused()
    assert isinstance(error, MergeConflict)
    assert error.details["files"] == ["a.txt"]


def test_a_conflict_is_resolved_by_hand_as_it_is_said(stage: Stage, refused: Refused) -> None:
    done(stage, command="echo theirs > a.txt")
    (stage.root / "a.txt").write_text("mine\n")
    stage.git("commit", "-qam", "mine")
    merge, add, commit = as_said(refused())
    assert subprocess.run(merge, shell=True, cwd=stage.root, env=stage.environ, check=False).returncode == 1
    (stage.root / "a.txt").write_text("both\n")
    for command in (add, commit):
        subprocess.run(command, shell=True, cwd=stage.root, env=stage.environ, check=True)
    with pytest.raises(NothingReady, match="is on main already"):
        stage.orchestrion.land("default")
    assert (stage.root / "a.txt").read_text() == "both\n"


def test_a_check_that_fails_after_the_merge_is_mended_by_hand_as_it_is_said(stage: Stage, refused: Refused) -> None:
    done(stage, command="echo b > b.txt", checks=("test ! -e blocker",))
    (stage.root / "blocker").touch()
    for command in ("add .", "commit -qm blocker"):
        stage.git(*command.split())
    error = refused()
    assert error.code == "merge_recheck_failed"
    merge, add, commit = as_said(error)
    for command in (merge, "git rm -q blocker", add, commit):
        subprocess.run(command, shell=True, cwd=stage.root, env=stage.environ, check=True)
    with pytest.raises(NothingReady, match="is on main already"):
        stage.orchestrion.land("default")


def as_said(error: OrchestrionError) -> list[str]:
    """The commands in a hint."""
    return re.findall("`(git [^`]+)`", error.hint)


def test_a_branch_in_the_middle_of_a_rebase_is_not_moved(stage: Stage, refused: Refused) -> None:
    done(stage)
    stage.git("commit", "-q", "--allow-empty", "-m", "own")
    stage.environ["GIT_SEQUENCE_EDITOR"] = "sed -i 1s/pick/edit/"
    stage.git("rebase", "-q", "-i", "--keep-empty", "HEAD~1")
    error = refused()
    assert (error.code, "main is being rebased" in error.message) == ("detached_head", True)
    assert "--onto" not in error.hint
    assert refused(onto="main").code == "branch_in_use"


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("file", ["new/b.txt", "new"])
def test_a_folder_or_file_in_the_way_is_found_before_the_plan_moves(
    stage: Stage, refused: Refused, file: str, merged: bool
) -> None:
    done(stage, command="mkdir new; echo theirs > new/b.txt")
    if merged:
        stage.git("commit", "-q", "--allow-empty", "-m", "own")
    (stage.root / file).parent.mkdir(exist_ok=True)
    (stage.root / file).write_text("mine")
    error = refused()
    assert (error.code, error.details["files"]) == ("in_the_way", [file])


def test_a_conflict_in_a_submodule_is_resolved_by_hand_as_it_is_said(stage: Stage, refused: Refused) -> None:
    stage.add_submodule("lib")
    done(stage, command="cd lib && echo theirs > theirs.c && git add . && git commit -qm theirs")
    (stage.root / "lib" / "mine.c").write_text("mine")
    for command in ("-C lib add .", "-C lib commit -qm mine", "commit -qam mine"):
        stage.git(*command.split())
    for command in as_said(refused()):
        subprocess.run(command, shell=True, cwd=stage.root, env=stage.environ, check=" merge --no-ff" not in command)
    with pytest.raises(NothingReady, match="is on main already"):
        stage.orchestrion.land("default")
    files = stage.git("ls-tree", "--name-only", stage.git("rev-parse", "HEAD:lib"), at=stage.root / "lib").split()
    assert files == ["lib.c", "mine.c", "theirs.c"]


def filtered(stage: Stage, smudge: str, command: str) -> None:
    """Work of which git gives the user the files through a filter that cannot be done without."""
    for key, value in (("clean", "cat"), ("smudge", "cat"), ("required", "true")):
        stage.git("config", f"filter.f.{key}", value)
    (stage.root / ".gitattributes").write_text("*.f filter=f\n")
    for number in range(4):
        (stage.root / f"{number}.f").write_text(f"o{number}\n")
    for words in ("add .", "commit -qm filtered"):
        stage.git(*words.split())
    done(stage, command=command)
    stage.git("config", "filter.f.smudge", smudge)


def seen_but_times(stage: Stage) -> dict[str, Any]:
    """What the user has; the index knows other times of the same files."""
    seen = stage.user_sees()
    del seen["git"]["index"]
    return {**seen, "status": stage.git("status", "--porcelain")}


def test_a_filter_that_fails_while_landing_leaves_the_tree_as_it_was(stage: Stage) -> None:
    down = stage.folder / "down"
    filtered(
        stage,
        f"read x; [ $x = n2 ] && touch '{down}'; [ -e '{down}' ] && exit 1; echo $x",
        "for n in 0 1 2 3; do echo n$n > $n.f; done; echo m >> a.txt; rm .gitignore; mkdir d; echo d > d/d.f",
    )
    before = seen_but_times(stage)
    with pytest.raises(OrchestrionError) as error:
        stage.orchestrion.land("default")
    assert error.value.code == "filter_failed"
    assert seen_but_times(stage) == before
    assert not list((stage.root / ".git" / "orchestrion").glob("landing-*"))
    stage.git("config", "filter.f.smudge", "cat")
    assert stage.orchestrion.land("default")["landed"]
    assert (stage.root / "d" / "d.f").read_text() == "d\n"


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whom", [os.kill, os.killpg])
def test_whoever_stops_it_half_way_leaves_the_tree_as_it_was(
    stage: Stage, told: signal.Signals, whom: Callable[[int, int], None]
) -> None:
    filtered(stage, "sleep 0.3; cat", "for n in 5 6 7 8 9; do echo n$n > $n.f; done; echo more >> a.txt")
    before = seen_but_times(stage)
    command = [sys.executable, "-m", "orchestrion", "land"]
    heard = {one: signal.signal(one, signal.SIG_DFL) for one in (signal.SIGHUP,)}  # who runs us may not hear it
    with subprocess.Popen(command, cwd=stage.root, env=stage.environ, start_new_session=True) as landing:
        signal.signal(signal.SIGHUP, heard[signal.SIGHUP])
        wait_for((stage.root / "5.f").exists, "it is under way")
        whom(landing.pid, told)
        assert landing.wait(30) in (130, -told)
    assert seen_but_times(stage) == before
    assert not list((stage.root / ".git" / "orchestrion").glob("landing-*"))
    stage.git("config", "filter.f.smudge", "cat")
    assert stage.orchestrion.land("default")["landed"]


def test_a_landing_that_was_killed_with_its_git_is_put_back_by_the_next(stage: Stage) -> None:
    filtered(stage, "sleep 0.3; cat", "for n in 5 6 7 8 9; do echo n$n > $n.f; done; echo more >> a.txt")
    command = [sys.executable, "-m", "orchestrion", "land"]
    with subprocess.Popen(command, cwd=stage.root, env=stage.environ) as landing:
        wait_for((stage.root / "5.f").exists, "it is under way")
        assert not half_landed(stage)
        landing.kill()
        os.kill(git_at_work(stage), signal.SIGKILL)
    wait_for(lambda: half_landed(stage) == [str(stage.root)], "health names it")
    (stage.root / "notes.txt").write_text("mine\n")
    with pytest.raises(GitProblem) as locked:
        stage.orchestrion.land("default")
    [unlock] = re.findall("`(rm [^`]+)`", locked.value.hint)
    subprocess.run(unlock, shell=True, cwd="/", env=stage.environ, check=True)
    stage.git("config", "filter.f.smudge", "cat")
    assert stage.orchestrion.land("default")["landed"]
    assert not half_landed(stage)
    assert [(stage.root / f"{n}.f").read_text() for n in range(5, 10)] == [f"n{n}\n" for n in range(5, 10)]
    assert stage.git("status", "--porcelain") == "?? notes.txt"
    assert not list((stage.root / ".git" / "orchestrion").glob("landing-*"))


def half_landed(stage: Stage) -> list[str]:
    """Checkouts of which health says that a landing was killed there."""
    work = stage.orchestrion.health()["components"]["work"]
    assert (work["status"] == "degraded") is bool(work["half_landed"])
    return list(work["half_landed"])


def interrupt(stage: Stage, command: str) -> None:
    """A power cut while a plan lands whose one task ran a command that makes 5.f to 9.f."""
    filtered(stage, "sleep 0.3; cat", command)
    with subprocess.Popen([sys.executable, "-m", "orchestrion", "land"], cwd=stage.root, env=stage.environ) as landing:
        wait_for((stage.root / "5.f").exists, "it is under way")
        landing.kill()
        os.kill(git_at_work(stage), signal.SIGKILL)
    (stage.root / ".git" / "index.lock").unlink()
    stage.git("config", "filter.f.smudge", "cat")


def test_putting_a_landing_back_goes_behind_no_link(stage: Stage) -> None:
    """A folder that the plan takes out, and one that it makes, are links of the user's since."""
    for name in ("old", "elsewhere"):
        (stage.root / name).mkdir()
    (stage.root / "elsewhere").rename(stage.folder / "elsewhere")
    (stage.root / "old" / "o.txt").write_text("old\n")
    stage.git("add", ".")
    stage.git("commit", "-qm", "old")
    interrupt(stage, "rm -r old; mkdir 0; echo new > 0/n; for n in 5 6 7 8 9; do echo n$n > $n.f; done")
    shutil.rmtree(stage.root / "old", ignore_errors=True)
    shutil.rmtree(stage.root / "0", ignore_errors=True)
    (stage.folder / "elsewhere" / "n").write_text("new\n")
    for name in ("old", "0"):
        (stage.root / name).symlink_to(stage.folder / "elsewhere")
    with pytest.raises(OrchestrionError):
        stage.orchestrion.land("default")
    assert {file.name: file.read_text() for file in (stage.folder / "elsewhere").iterdir()} == {"n": "new\n"}
    assert (stage.root / "old").is_symlink()


def test_putting_a_landing_back_leaves_alone_what_was_staged_or_merged_since(stage: Stage) -> None:
    interrupt(stage, "for n in 5 6 7 8 9; do echo n$n > $n.f; done; echo more >> a.txt")
    stage.git("reset", "-q", "--hard")
    stage.git("clean", "-qfd")
    (stage.root / "a.txt").write_text("staged\n")
    stage.git("add", "a.txt")
    before = stage.git("ls-files", "--stage")
    with pytest.raises(Conflict) as refused:
        stage.orchestrion.land("default")
    assert refused.value.code == "dirty_tree"
    assert stage.git("ls-files", "--stage") == before
    stage.git("reset", "-q", "--hard")
    assert stage.orchestrion.land("default")["landed"]


def test_a_pipe_where_a_landing_was_interrupted_stops_nobody(stage: Stage) -> None:
    interrupt(stage, "for n in 5 6 7 8 9; do echo n$n > $n.f; done; echo more >> a.txt")
    (stage.root / "6.f").unlink(missing_ok=True)
    os.mkfifo(stage.root / "6.f")
    with pytest.raises(Conflict) as refused:
        stage.orchestrion.land("default")
    assert refused.value.code in ("in_the_way", "dirty_tree")
    (stage.root / "6.f").unlink()
    assert stage.orchestrion.land("default")["landed"]


def test_what_was_merged_by_hand_since_is_no_interrupted_landing(stage: Stage) -> None:
    interrupt(stage, "for n in 5 6 7 8 9; do echo n$n > $n.f; done; echo more >> a.txt")
    wait_for(lambda: half_landed(stage), "health names it")
    stage.git("reset", "-q", "--hard")
    stage.git("clean", "-qfd")
    stage.git("merge", "-q", "orchestrion/default")
    assert not half_landed(stage)


def test_of_an_interrupted_landing_what_the_user_wrote_stays(stage: Stage) -> None:
    interrupt(stage, "for n in 5 6 7 8 9; do echo n$n > $n.f; done; echo more >> a.txt")
    (stage.root / "5.f").write_text("an hour of work\n")
    with pytest.raises(Conflict) as refused:
        stage.orchestrion.land("default")
    assert (refused.value.code, refused.value.details["files"]) == ("in_the_way", ["5.f"])
    assert (stage.root / "5.f").read_text() == "an hour of work\n"
    assert stage.git("status", "--porcelain") == "?? 5.f"


@pytest.mark.users_repository_changes
def test_on_a_disk_that_is_too_small_the_checkout_is_as_it_was(stage: Stage) -> None:
    with small_disk(stage.folder / "disk", 3_000_000):
        checkout = stage.folder / "disk" / "checkout"
        stage.git("worktree", "add", "-q", "-b", "small", str(checkout))
        done(stage, command="for n in 1 2 3; do head -c 1500000 /dev/urandom > big$n; done; echo more >> a.txt")
        with Orchestrator.open(str(checkout), environ=stage.environ) as there:
            for _ in range(2):
                with pytest.raises(GitProblem) as refused:
                    there.land("default", onto="small")
                assert refused.value.code == "disk_full"
                assert stage.git("status", "--porcelain", at=checkout) == ""
            subprocess.run(["mount", "-o", "remount,size=20000000", stage.folder / "disk"], check=True)
            assert there.land("default", onto="small")["landed"]
        assert (checkout / "big3").stat().st_size == 1_500_000
        stage.git("worktree", "remove", "--force", str(checkout))


def test_what_the_user_saves_while_a_landing_fails_is_theirs(stage: Stage) -> None:
    filtered(stage, "sleep 0.5; cat", "for n in 0 1 2 3 5 6; do echo n$n > $n.f; done; echo p > a.txt")
    (stage.root / "empty").mkdir()
    with ThreadPoolExecutor(1) as pool:
        landing = pool.submit(stage.orchestrion.land, "default")
        at_work = wait_for(lambda: git_at_work(stage), "it is under way")
        wait_for((stage.root / "5.f").exists, "some files are written")
        for name in ("3.f", "6.f"):
            (stage.root / "draft").write_text("an hour of work\n")
            (stage.root / "draft").rename(stage.root / name)
        os.kill(at_work, signal.SIGTERM)
        with pytest.raises(OrchestrionError):
            landing.result(30)
    assert [(stage.root / name).read_text() for name in ("3.f", "6.f")] == ["an hour of work\n"] * 2
    assert stage.git("status", "--porcelain").splitlines() == ["M 3.f", "?? 6.f"]
    assert (stage.root / "empty").is_dir()


def test_what_the_user_saves_while_it_is_looked_at_is_theirs(stage: Stage) -> None:
    filtered(stage, "read x; test $x != n2 || exit 1; echo $x", "for n in 1 2; do echo n$n > $n.f; done")
    slow = stage.folder / "slow"
    stage.git("config", "filter.f.clean", f"touch '{slow}'; sleep 1; cat")
    with ThreadPoolExecutor(1) as pool:
        landing = pool.submit(stage.orchestrion.land, "default")
        wait_for(lambda: git_at_work(stage), "it is under way")
        slow.unlink(missing_ok=True)
        wait_for(slow.exists, "what git wrote is looked at")
        (stage.root / "1.f").write_text("mine\n")
        with pytest.raises(OrchestrionError):
            landing.result(60)
    assert (stage.root / "1.f").read_text() == "mine\n"


def git_at_work(stage: Stage) -> int:
    """The git that moves the user's checkout forward; 0: there is none."""
    found = [one for one in psutil.process_iter(["cmdline", "cwd"]) if "--ff-only" in (one.info["cmdline"] or ())]
    return next((one.pid for one in found if one.info["cwd"] == str(stage.root)), 0)


def test_a_link_that_becomes_a_folder_lands(stage: Stage) -> None:
    (stage.root / "shared").mkdir()
    (stage.root / "shared" / "x.py").write_text("x")
    (stage.root / "lib").symlink_to("shared")
    for words in ("add .", "commit -qm link"):
        stage.git(*words.split())
    done(stage, command="rm lib; cp -r shared lib; echo more >> lib/x.py")
    assert stage.orchestrion.land("default")["landed"]


@pytest.mark.parametrize("command", ["mv src src2; ln -s src2 src", "rm -r src; echo f > src"])
def test_a_folder_that_becomes_something_else_lands(stage: Stage, refused: Refused, command: str) -> None:
    (stage.root / "src").mkdir()
    (stage.root / "src" / "x.c").write_text("x")
    for words in ("add .", "commit -qm src"):
        stage.git(*words.split())
    done(stage, command=command)
    (stage.root / "src" / "mine.log").write_text("mine")
    assert refused().details["files"] == ["src/mine.log"]
    (stage.root / "src" / "mine.log").unlink()
    assert stage.orchestrion.land("default")["landed"]


@pytest.mark.parametrize("what", ["dirty", "staged", "ignored", "untracked"])
def test_the_user_s_own_files_are_never_overwritten(stage: Stage, refused: Refused, what: str) -> None:
    done(stage, command="echo theirs > b.log; git add -f b.log; echo theirs > b.txt")
    name = {"dirty": "a.txt", "staged": "a.txt", "ignored": "b.log", "untracked": "b.txt"}[what]
    (stage.root / name).write_text("mine")
    if what == "staged":
        stage.git("add", name)
    error = refused()
    assert error.code == ("dirty_tree" if name == "a.txt" else "in_the_way")
    assert (stage.root / name).read_text() == "mine"
    if name != "a.txt":
        assert error.details["files"] == [name]


# -- to a remote --------------------------------------------------------------------------------------------


def test_pushing_afterwards(stage: Stage, remote: Path) -> None:
    done(stage)
    landed = stage.orchestrion.land(push=True)
    assert landed["pushed"]
    assert stage.git("rev-parse", "main", at=remote) == landed["commit"] == stage.git("rev-parse", "main")
    # The branch that showed that pushing is allowed is gone again.
    assert stage.git("for-each-ref", "--format=%(refname)", at=remote) == "refs/heads/main"


@pytest.mark.parametrize("options", [{"push": True}, {"pr": True}])
def test_without_a_remote(stage: Stage, refused: Refused, gh: Path, options: dict[str, Any]) -> None:
    done(stage)
    error = refused(**options)
    assert isinstance(error, EnvironmentProblem)
    assert error.code == "no_remote"


@pytest.mark.parametrize("options", [{"push": True}, {"pr": True}])
def test_a_remote_that_takes_nothing(
    stage: Stage, refused: Refused, remote: Path, gh: Path, options: dict[str, Any]
) -> None:
    done(stage)
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'you may not push here' >&2\nexit 1\n")
    hook.chmod(0o755)
    error = refused(**options)
    assert error.code == "push_refused"
    assert not (gh / "told").exists()


def test_a_remote_that_takes_no_push_to_main_alone(stage: Stage, remote: Path) -> None:
    """The plan has landed then; that is said, and pushing can be done again."""
    done(stage)
    hook = remote / "hooks" / "update"
    hook.write_text('#!/bin/sh\ntest "$1" != refs/heads/main\n')
    hook.chmod(0o755)
    before = stage.git("rev-parse", "main", at=remote)
    with pytest.raises(EnvironmentProblem, match="has landed, but your branch was not pushed") as error:
        stage.orchestrion.land(push=True)
    assert error.value.code == "push_refused"
    assert stage.git("rev-parse", "main", at=remote) == before
    assert (stage.root / "b.txt").exists()


def test_the_user_s_own_hook_looks_at_a_push(stage: Stage, refused: Refused, remote: Path) -> None:
    done(stage)
    hook = stage.root / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'there is a secret in it' >&2\nexit 1\n")
    hook.chmod(0o755)
    error = refused(push=True)
    assert (error.code, "there is a secret" in error.message) == ("push_refused", True)


def test_a_remote_that_has_moved(stage: Stage, refused: Refused, remote: Path) -> None:
    other = stage.folder / "other"
    stage.git("clone", "-q", remote, other)
    stage.git("commit", "-q", "--allow-empty", "-m", "theirs", at=other)
    stage.git("push", "-q", "origin", "HEAD:main", at=other)
    done(stage)
    assert refused(push=True).code == "remote_moved"


def test_a_remote_that_does_not_answer(stage: Stage, refused: Refused) -> None:
    stage.git("remote", "add", "origin", "/nowhere")
    done(stage)
    assert refused(push=True).code == "remote_unreachable"


def test_a_secret_in_a_remote_s_address_is_not_told(stage: Stage, refused: Refused) -> None:
    stage.git("remote", "add", "origin", "http://me:hidden-word@127.0.0.1:9/x.git")
    done(stage)
    error = refused(push=True)
    assert "hidden-word" not in f"{error.message} {error.hint} {error.details}"


def test_push_and_pr_exclude_each_other(stage: Stage, refused: Refused, remote: Path, gh: Path) -> None:
    done(stage)
    assert refused(push=True, pr=True).code == "push_or_pr"


# -- as a pull request -----------------------------------------------------------------------------------------


def told(gh: Path) -> list[str]:
    return (gh / "told").read_text().splitlines()


def test_neither_branch_moves_and_the_plan_s_own_is_the_head(stage: Stage, remote: Path, gh: Path) -> None:
    stage.add("echo b > b.txt", title="Write b", checks=("test -s b.txt",))
    stage.drain()
    mine, theirs = stage.git("rev-parse", "main"), stage.git("rev-parse", "main", at=remote)
    stage.git("commit", "-q", "--allow-empty", "-m", "not pushed")
    mine = stage.git("rev-parse", "main")
    tree = stage.user_sees()["tree"]
    proposed = stage.orchestrion.land(pr=True)
    assert (proposed["landed"], proposed["branch"]) == (False, "main")
    assert proposed["pull_request"] == "https://example.org/pull/1"
    assert stage.git("rev-parse", "main") == mine
    assert stage.user_sees()["tree"] == tree
    assert stage.git("rev-parse", "main", at=remote) == theirs
    assert stage.git("rev-parse", "orchestrion/default", at=remote) == proposed["commit"]
    said = told(gh)
    assert said[:2] == ["pr", "create"]
    assert said[said.index("--head") + 1] == "orchestrion/default"
    assert said[said.index("--base") + 1] == "main"
    body = (gh / "body").read_text()
    assert "- [x] T1 Write b (completed, 1 check passed)" in body
    assert stage.orchestrion.land(pr=True)["pull_request"] == "https://example.org/pull/1"


def test_commits_of_the_user_that_come_along_are_told(stage: Stage, remote: Path, gh: Path) -> None:
    stage.git("commit", "-q", "--allow-empty", "-m", "not pushed")
    done(stage)
    (note,) = stage.orchestrion.land(pr=True)["notes"]
    assert "1 commit that origin/main lacks" in note


def test_commits_that_were_merged_into_the_plan_are_told_as_well(stage: Stage, remote: Path, gh: Path) -> None:
    done(stage)
    stage.git("commit", "-q", "--allow-empty", "-m", "not pushed")
    stage.orchestrion.land()
    stage.add("echo c > c.txt")
    stage.drain()
    (note,) = stage.orchestrion.land(pr=True)["notes"]
    assert "that origin/main lacks came along" in note


def test_a_base_that_the_remote_does_not_have(stage: Stage, refused: Refused, remote: Path, gh: Path) -> None:
    stage.git("switch", "-qc", "feature")
    done(stage)
    assert refused(pr=True).code == "no_remote_branch"
    assert refused(pr=True, onto="mian").code == "no_remote_branch"


def test_a_gh_that_is_not_signed_in_is_known_before_the_push(
    stage: Stage, refused: Refused, remote: Path, gh: Path
) -> None:
    done(stage)
    (gh / "signed-out").touch()
    assert refused(pr=True).code == "gh_failed"


def test_what_a_reviewer_committed_to_the_plan_s_branch_is_taken_in(stage: Stage, remote: Path, gh: Path) -> None:
    done(stage)
    stage.orchestrion.land(pr=True)
    other = stage.folder / "other"
    stage.git("clone", "-q", "--branch", "orchestrion/default", remote, other)
    (other / "review.txt").write_text("r\n")
    for command in ("add .", "commit -qm reviewed", "push -q"):
        stage.git(*command.split(), at=other)
    stage.add("echo c > c.txt")
    stage.drain()
    (note,) = stage.orchestrion.land(pr=True)["notes"]
    assert note == "merged into the plan: 1 commit that origin/orchestrion/default had"
    assert stage.git("show", "orchestrion/default:review.txt", at=remote) == "r"
    assert stage.merged("review.txt") == "r\n"


def test_a_fork_is_named_to_gh(stage: Stage, remote: Path, gh: Path) -> None:
    fork = stage.folder / "ada" / "project.git"
    stage.git("init", "-q", "--bare", fork)
    stage.git("remote", "add", "fork", fork)
    stage.git("config", "branch.main.pushRemote", "fork")
    done(stage)
    stage.orchestrion.land(pr=True)
    said = told(gh)
    assert said[said.index("--head") + 1] == "ada:orchestrion/default"
    assert stage.git("for-each-ref", "--format=%(refname)", at=remote) == "refs/heads/main"


def test_without_gh_nothing_moves(stage: Stage, refused: Refused, remote: Path) -> None:
    done(stage)
    stage.close()
    for program in ("git", "sh"):
        (stage.folder / "few").mkdir(exist_ok=True)
        (stage.folder / "few" / program).symlink_to(shutil.which(program) or "")
    stage.environ["PATH"] = str(stage.folder / "few")
    stage.open()
    error = refused(pr=True)
    assert (error.code, isinstance(error, EnvironmentProblem)) == ("gh_missing", True)


def test_gh_that_fails_is_told_after_the_push(stage: Stage, remote: Path, gh: Path) -> None:
    done(stage)
    (gh / "fail").write_text("no commits between main and main\n")
    with pytest.raises(EnvironmentProblem, match="no commits between") as error:
        stage.orchestrion.land(pr=True)
    assert error.value.code == "gh_failed"
    (gh / "fail").write_text("a pull request already exists:\nhttps://example.org/pull/7\n")
    assert stage.orchestrion.land(pr=True)["pull_request"] == "https://example.org/pull/7"


def test_open_tasks_make_no_pull_request_either(stage: Stage, refused: Refused, remote: Path, gh: Path) -> None:
    done(stage)
    stage.add("true")
    assert refused(pr=True).code == "open_tasks"
    assert stage.orchestrion.land(pr=True, partial=True)["pull_request"]


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_large_files_go_to_the_remote_first(stage: Stage, remote: Path) -> None:
    stage.git("lfs", "install", "--local", "--skip-repo")
    (stage.root / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    stage.git("add", ".gitattributes")
    stage.git("commit", "-qm", "lfs")
    stage.git("push", "-q")
    done(stage, command="head -c 50000 /dev/urandom > new.bin")
    stage.orchestrion.land(push=True)
    fresh = stage.folder / "fresh"
    stage.git("clone", "-q", remote, fresh)
    for command in ("install --local", "pull"):
        stage.git("lfs", *command.split(), at=fresh)
    assert (fresh / "new.bin").stat().st_size == 50_000


def test_a_submodule_that_is_not_pushed_stops_the_push(stage: Stage, refused: Refused, remote: Path) -> None:
    stage.add_submodule("lib")
    stage.git("push", "-q")
    done(stage, command="cd lib && echo fix >> lib.c && git commit -qam fix")
    error = refused(push=True)
    assert error.code == "submodule_not_pushed"
    landed = stage.orchestrion.land()
    assert landed["notes"] == ["the submodule lib has moved: `git submodule update --init --recursive lib`"]
    # The submodule is where it was, which is in nobody's way.
    assert refused("default", push=True).code == "submodule_not_pushed"
    stage.add("echo more > more.txt")
    stage.drain()
    assert stage.orchestrion.land()["commits"] == 1
    stage.git("init", "-q", "--bare", stage.folder / "theirs")
    stage.git("remote", "set-url", "origin", stage.folder / "theirs", at=stage.root / "lib")
    for command in as_said(error):
        subprocess.run(command, shell=True, cwd=stage.root, env=stage.environ, check=True)
    assert stage.git("rev-parse", "refs/heads/orchestrion/default", at=stage.folder / "theirs")


# -- what happens meanwhile, and what others do ------------------------------------------------------------------


def slow(stage: Stage) -> Path:
    """A plan whose check, after a merge, waits until the file that is returned is there."""
    go, waits = stage.folder / "go", stage.folder / "waits"
    check = f"if [ -e mine.txt ]; then touch {waits}; while [ ! -e {go} ]; do sleep 0.05; done; fi"
    done(stage, command="echo b > b.txt", checks=(check,))
    (stage.root / "mine.txt").write_text("mine")
    for command in ("add .", "commit -qm mine"):
        stage.git(*command.split())
    return go


@pytest.mark.parametrize("switch", ["switch -q release", "checkout -q --detach"])
def test_a_checkout_that_is_switched_meanwhile_is_left_alone(stage: Stage, switch: str) -> None:
    stage.git("branch", "release")
    go = slow(stage)
    with ThreadPoolExecutor(1) as pool:
        landing = pool.submit(stage.orchestrion.land)
        wait_for((stage.folder / "waits").exists, "it is checked")
        stage.git(*switch.split())
        before = everything(stage)
        go.touch()
        error = landing.exception(60)
    assert isinstance(error, Conflict)
    assert error.code == "other_branch"
    assert everything(stage) == before


def test_a_file_that_comes_meanwhile_is_not_overwritten_and_no_ref_moves(stage: Stage) -> None:
    go = slow(stage)
    with ThreadPoolExecutor(1) as pool:
        landing = pool.submit(stage.orchestrion.land)
        wait_for((stage.folder / "waits").exists, "it is checked")
        (stage.root / "b.txt").write_text("mine")
        before = everything(stage)
        go.touch()
        error = landing.exception(60)
    assert isinstance(error, Conflict)
    assert error.code == "in_the_way"
    assert everything(stage) == before


DROPPED = ["reset -q --hard HEAD~1", "commit -q --amend --allow-empty -m amended", "commit -q --allow-empty -m more"]


@pytest.mark.parametrize("push", [False, True])
@pytest.mark.parametrize("does", DROPPED)
def test_a_branch_that_moves_meanwhile_counts_as_it_is_then(stage: Stage, remote: Path, does: str, push: bool) -> None:
    """What was taken off it is not brought back, and nothing of it is pushed."""
    go = slow(stage)
    dropped = stage.git("rev-parse", "main")
    with ThreadPoolExecutor(1) as pool:
        landing = pool.submit(stage.orchestrion.land, push=push)
        wait_for((stage.folder / "waits").exists, "it is checked")
        stage.git(*does.split())
        go.touch()
        landed = landing.result(60)
    commits = stage.git("rev-list", "main").split()
    assert (dropped in commits) is ("more" in does)
    assert landed["commit"] == commits[0]
    if push:
        assert (
            stage.git("for-each-ref", "--format=%(refname) %(objectname)", at=remote) == f"refs/heads/main {commits[0]}"
        )


@pytest.mark.parametrize("way", ["echo mine > b.txt", "git checkout -q --detach", "touch .git/index.lock"])
def test_nothing_is_pushed_when_something_comes_in_the_way_meanwhile(stage: Stage, remote: Path, way: str) -> None:
    go = slow(stage)
    with ThreadPoolExecutor(1) as pool:
        landing = pool.submit(stage.orchestrion.land, push=True)
        wait_for((stage.folder / "waits").exists, "it is checked")
        subprocess.run(way, shell=True, cwd=stage.root, env=stage.environ, check=True)
        before = everything(stage)
        go.touch()
        assert isinstance(landing.exception(60), OrchestrionError)
    assert everything(stage) == before


@pytest.mark.parametrize("hidden", ["--assume-unchanged", "--skip-worktree"])
def test_a_tracked_file_that_git_does_not_look_at_is_not_overwritten(
    stage: Stage, refused: Refused, hidden: str
) -> None:
    done(stage, command="echo theirs >> a.txt")
    stage.git("commit", "-q", "--allow-empty", "-m", "moved")
    stage.git("update-index", hidden, "a.txt")
    (stage.root / "a.txt").write_text("mine")
    assert refused().code == "in_the_way"


@pytest.mark.parametrize("lock", ["index.lock", "refs/heads/main.lock"])
def test_a_lock_is_named_before_anything_moves(stage: Stage, refused: Refused, lock: str) -> None:
    done(stage)
    (stage.root / ".git" / lock).touch()
    error = refused()
    assert (error.code, lock in error.message) == ("locked", True)


@pytest.mark.parametrize("what", ["in the way", "conflict"])
def test_nothing_is_pushed_when_it_cannot_land(stage: Stage, refused: Refused, remote: Path, what: str) -> None:
    done(stage, command="echo theirs > a.txt; echo b > b.txt")
    if what == "conflict":
        (stage.root / "a.txt").write_text("mine")
        stage.git("commit", "-qam", "mine")
    else:
        (stage.root / "b.txt").write_text("mine")
    assert refused(push=True).code in ("in_the_way", "merge_conflict")


def reviewed(stage: Stage, remote: Path, *commands: str) -> None:
    """Somebody else works on the plan's branch at the remote."""
    other = stage.folder / "other"
    stage.git("clone", "-q", "--branch", "orchestrion/default", remote, other)
    for command in commands:
        subprocess.run(command, shell=True, cwd=other, env=stage.environ, check=True)


def test_what_a_reviewer_committed_is_checked_also_when_the_plan_did_not_move(
    stage: Stage, refused: Refused, remote: Path, gh: Path
) -> None:
    done(stage, command="echo b > b.txt", checks=("grep -qx b b.txt",))
    stage.orchestrion.land(pr=True)
    reviewed(stage, remote, "echo broken > b.txt; git commit -qam rev; git push -q")
    assert refused(push=True).code == "remote_moved"


def test_what_somebody_took_away_is_not_put_back_without_a_word(
    stage: Stage, refused: Refused, remote: Path, gh: Path
) -> None:
    done(stage, command="echo ok > ok.txt")
    done(stage, command="echo pw > secret.txt")
    stage.orchestrion.land(pr=True)
    reviewed(stage, remote, "git reset -q --hard HEAD~1; git push -qf")
    error = refused(pr=True)
    assert (error.code, "rewrote" in error.message) == ("remote_moved", True)
    for command in as_said(error)[1:]:
        subprocess.run(command, shell=True, cwd=stage.root, env=stage.environ, check=True)
    assert stage.orchestrion.land(pr=True)["pushed"]


def test_what_does_not_go_together_is_merged_by_hand_as_it_is_said(stage: Stage, remote: Path, gh: Path) -> None:
    done(stage, command="echo b > b.txt")
    stage.orchestrion.land(pr=True)
    reviewed(stage, remote, "echo theirs > b.txt; git commit -qam rev; git push -q")
    done(stage, command="echo ours > b.txt")
    with pytest.raises(Conflict) as error:
        stage.orchestrion.land(pr=True)
    begin, add, commit, end = re.findall("`([^`]+)`", error.value.hint)
    folder = f"{stage.root}-default"
    script = f"{begin} || true\necho both > b.txt\n{add}\n{commit}\n{end}"
    subprocess.run(["bash", "-ec", script], cwd=stage.root, env=stage.environ, check=True)
    assert not Path(folder).exists()
    assert stage.orchestrion.land(pr=True)["pushed"]
    assert stage.git("show", "orchestrion/default:b.txt", at=remote) == "both"


def test_a_pull_request_that_was_merged_is_no_new_one(stage: Stage, refused: Refused, remote: Path, gh: Path) -> None:
    done(stage)
    stage.orchestrion.land(pr=True)
    stage.git("push", "-q", "origin", "refs/orchestrion/plans/default:refs/heads/main", ":orchestrion/default")
    assert refused(pr=True).code == "nothing_to_land"


def test_a_plan_that_was_merged_by_hand_begins_anew_at_the_branch(stage: Stage) -> None:
    done(stage, command="echo p > a.txt")
    (stage.root / "a.txt").write_text("m\n")
    stage.git("commit", "-qam", "m")
    stage.git("merge", "-q", "-X", "ours", "--no-edit", "refs/orchestrion/plans/default")
    (stage.root / "later.txt").write_text("later\n")
    for command in ("add .", "commit -qm later"):
        stage.git(*command.split())
    stage.add("cat a.txt later.txt > seen.txt")
    stage.drain()
    assert stage.merged("seen.txt") == "m\nlater\n"
    assert stage.orchestrion.land()["commits"] == 1


@pytest.mark.parametrize("is_new", [False, True])
def test_a_branch_of_the_plan_s_name_that_is_somebody_else_s(
    stage: Stage, remote: Path, refused: Refused, is_new: bool
) -> None:
    commit = stage.git("commit-tree", "-p", "main", "-m", "theirs", "main^{tree}")
    stage.git("push", "-q", "origin", f"{'main' if is_new else commit}:refs/heads/orchestrion/default")
    stage.git("fetch", "-q")
    done(stage)
    error = refused(push=True)
    assert error.code == "plan_branch_taken"
    (said,) = as_said(error)
    subprocess.run(said, shell=True, cwd="/", check=True)
    stage.orchestrion.land(push=True)
    assert ("theirs" in stage.git("log", "--format=%s", "main", at=remote)) is not is_new


def test_when_a_pull_request_was_merged_its_name_is_free_for_others(
    stage: Stage, remote: Path, gh: Path, refused: Refused
) -> None:
    done(stage)
    stage.orchestrion.land(pr=True)
    stage.git("push", "-q", "origin", "refs/orchestrion/plans/default:refs/heads/main", ":orchestrion/default")
    stage.git("pull", "-q", "--ff-only", "origin", "main")
    commit = stage.git("commit-tree", "-p", "main", "-m", "theirs", "main^{tree}")
    stage.git("push", "-q", "origin", f"{commit}:refs/heads/orchestrion/default")
    done(stage, file="c.txt")
    assert refused(push=True).code == "plan_branch_taken"


@pytest.mark.parametrize("by", ["reviewer", "hand"])
def test_a_branch_that_has_nothing_but_the_plan_s_work_is_the_plan_s(
    stage: Stage, remote: Path, gh: Path, by: str
) -> None:
    done(stage)
    if by == "hand":
        stage.git("push", "-q", "origin", "refs/orchestrion/plans/default:refs/heads/orchestrion/default")
    else:
        stage.orchestrion.land(pr=True)
        reviewed(stage, remote, "echo r > r.txt; git add .; git commit -qm rev; git push -q")
        stage.git("pull", "-q", "--ff-only", "origin", "orchestrion/default")
        stage.git("push", "-q", "origin", "main")
        done(stage, file="c.txt")
    assert stage.orchestrion.land(pr=True)["pushed"]


def test_what_could_not_land_is_taken_back_from_the_remote(stage: Stage, remote: Path) -> None:
    filtered(stage, "exit 1", "echo n1 > 1.f")
    stage.git("push", "-q", "origin", "main")
    with pytest.raises(OrchestrionError):
        stage.orchestrion.land(push=True)
    assert stage.git("for-each-ref", "--format=%(refname)", at=remote) == "refs/heads/main"


def test_a_branch_that_has_the_plan_and_was_not_pushed_is_pushed(stage: Stage, remote: Path) -> None:
    done(stage)
    stage.orchestrion.land()
    landed = stage.orchestrion.land("default", push=True)
    assert (landed["commits"], landed["pushed_to"]) == (0, "origin/main")
    assert stage.git("rev-parse", "main", at=remote) == stage.git("rev-parse", "main")


def test_work_of_a_store_that_was_lost_does_not_come_back(stage: Stage) -> None:
    done(stage, command="echo bad > bad.txt")
    stage.close()
    shutil.rmtree(stage.root / ".git" / "orchestrion")
    Orchestrator.init(stage.root, environ=stage.environ)
    stage.open()
    done(stage, command="echo good > good.txt")
    stage.orchestrion.land()
    assert (stage.root / "good.txt").exists()
    assert not (stage.root / "bad.txt").exists()
    assert "bad" in stage.git("for-each-ref", "--format=%(contents:subject)", "refs/orchestrion/kept/plans")
    refs = "refs/orchestrion/plans/default", "refs/heads/orchestrion/default"
    assert len(set(stage.git("rev-parse", *refs).split())) == 1


def test_what_a_plan_of_a_lost_store_had_is_not_landed_for_one_that_never_began(stage: Stage) -> None:
    done(stage, command="echo bad > bad.txt")
    stage.close()
    shutil.rmtree(stage.root / ".git" / "orchestrion")
    Orchestrator.init(stage.root, environ=stage.environ)
    stage.open()
    stage.add("true")
    assert stage.orchestrion.unlanded_plans() == []
    stage.orchestrion.take_over("default")
    for plan in (None, "default"):
        with pytest.raises(NothingReady):
            stage.orchestrion.land(plan, partial=True)
    assert not (stage.root / "bad.txt").exists()
    assert "bad" in stage.git("for-each-ref", "--format=%(contents:subject)", "refs/orchestrion/kept/plans")
    refs = "refs/orchestrion/plans/default", "refs/heads/orchestrion/default", "main"
    assert len(set(stage.git("rev-parse", *refs).split())) == 1


def test_a_plan_that_has_moved_since_its_row_was_read_keeps_its_work(stage: Stage) -> None:
    done(stage)
    with stage.direct() as database:  # as for a run that read it before the first was settled
        database.run("update plans set tip = null")
    done(stage, file="c.txt")
    stage.orchestrion.land()
    assert [(stage.root / name).exists() for name in ("b.txt", "c.txt")] == [True, True]


@pytest.mark.parametrize("goes_on", ["land", "task", "approve"])
def test_a_plan_whose_ref_was_deleted_is_where_the_store_knows_it(stage: Stage, goes_on: str) -> None:
    done(stage)
    if goes_on == "approve":
        done(stage, command="printf '<<<<<<< a\\n=======\\n>>>>>>> b\\n' > c.txt")
    for ref in ("refs/orchestrion/plans/default", "refs/heads/orchestrion/default"):
        stage.git("update-ref", "-d", ref)
    if goes_on == "task":
        done(stage, file="c.txt")
    elif goes_on == "approve":
        stage.orchestrion.approve("T2")
    stage.orchestrion.land()
    assert [(stage.root / name).exists() for name in ("b.txt", "c.txt")] == [True, goes_on != "land"]


PLAN = "refs/orchestrion/plans/default"


def move_back(stage: Stage, *, how_far: int, with_branch: bool) -> None:
    """Puts a plan's ref where it was some merges before."""
    old = stage.git("rev-parse", f"{PLAN}~{how_far}")
    for ref in (PLAN, "refs/heads/orchestrion/default")[: 1 + with_branch]:
        stage.git("update-ref", ref, old)


@pytest.mark.parametrize("with_branch", [True, False])
@pytest.mark.parametrize("goes_on", ["land", "task", "approve"])
def test_a_plan_whose_ref_was_moved_back_is_where_the_store_knows_it(
    stage: Stage, goes_on: str, with_branch: bool
) -> None:
    for file in ("b.txt", "c.txt"):
        done(stage, file=file)
    if goes_on == "approve":
        done(stage, command="printf '<<<<<<< a\\n=======\\n>>>>>>> b\\n' > d.txt")
    move_back(stage, how_far=2, with_branch=with_branch)
    work = stage.orchestrion.health()["components"]["work"]
    assert (work["status"], work["plans_behind"]) == ("degraded", ["default"])
    found = stage.orchestrion.maintain("validate_structure")
    assert [one["rule"] for one in found["found"]["problems"]] == ["plan_refs_have_the_work"]
    assert found["recommendations"] == [work["advice"]]
    if goes_on == "task":
        done(stage, file="d.txt")
    elif goes_on == "approve":
        stage.orchestrion.approve("T3")
    stage.orchestrion.land()
    assert [(stage.root / name).exists() for name in ("b.txt", "c.txt", "d.txt")] == [True, True, goes_on != "land"]
    assert stage.orchestrion.health()["components"]["work"]["status"] == "healthy"


def test_a_plan_whose_ref_is_moved_back_while_a_run_works_keeps_what_was_accepted(stage: Stage) -> None:
    for file in ("b.txt", "c.txt"):
        done(stage, file=file)
    go = stage.folder / "go"
    stage.add(f"echo at work; while ! test -e {go}; do sleep 0.05; done; echo d > d.txt")
    with stage.worker() as worker:
        stage.await_lines(run="R3")
        move_back(stage, how_far=2, with_branch=True)
        go.touch()
        assert worker.wait(60) == 0
    stage.orchestrion.land()
    assert all((stage.root / name).exists() for name in ("b.txt", "c.txt", "d.txt"))


@pytest.mark.parametrize("known", ["began_commit", "null"])
def test_a_plan_of_which_the_store_knows_no_more_than_its_moved_ref_is_not_landed_in_part(
    stage: Stage, refused: Refused, known: str
) -> None:
    for file in ("b.txt", "c.txt"):
        done(stage, file=file)
    assert stage.orchestrion.health()["components"]["work"]["status"] == "healthy"
    move_back(stage, how_far=1, with_branch=True)
    with stage.direct() as direct:
        direct.run(f"update plans set tip = {known}")
    problem = refused()
    assert (problem.code, "accepted work up to" in problem.message) == ("plan_diverged", True)
    work = stage.orchestrion.health()["components"]["work"]
    assert (work["status"], work["plans_diverged"]) == ("unhealthy", ["default"])
    assert (work["said"], work["advice"]) == (problem.message, problem.hint)
    stage.git(*str(problem.hint).split("`")[1].split()[1:])
    assert stage.orchestrion.health()["components"]["work"]["status"] == "healthy"
    stage.orchestrion.land()
    assert [(stage.root / name).exists() for name in ("b.txt", "c.txt")] == [True, True]


def test_a_plan_whose_ref_has_other_work_than_was_accepted_is_refused(stage: Stage, refused: Refused) -> None:
    done(stage)
    other = stage.git("commit-tree", "-p", f"{PLAN}~1", "-m", "of somebody else", f"{PLAN}^{{tree}}")
    stage.git("update-ref", PLAN, other)
    assert refused().code == "plan_diverged"
    work = stage.orchestrion.health()["components"]["work"]
    assert (work["status"], work["plans_not_here"], work["plans_diverged"]) == ("unhealthy", [], ["default"])
    assert (work["said"], work["advice"]) == (refused().message, refused().hint)
    found = stage.orchestrion.maintain("validate_structure")
    assert [one["rule"] for one in found["found"]["problems"]] == ["plan_refs_have_the_work"]
    assert found["recommendations"] == [work["advice"]]
    stage.add("echo c > c.txt")
    stage.drain()
    assert (stage.task("T2")["state"], stage.task("T2")["code"]) == ("failed", "plan_diverged")
    hint = str(refused().hint)
    for command in (f"git branch mine {other[:12]}", f"git update-ref -d {PLAN}"):
        assert command.replace("mine", "NAME") in hint
        stage.git(*command.split()[1:])
    stage.orchestrion.retry("T2")
    stage.drain()
    stage.orchestrion.land()
    assert (stage.root / "b.txt").exists()
    assert (stage.root / "c.txt").exists()


def test_a_plan_that_was_squashed_into_the_branch_begins_anew_and_is_sound(stage: Stage) -> None:
    done(stage)
    stage.orchestrion.land()
    stage.git("reset", "-q", "--hard", "HEAD~1")
    done(stage, file="c.txt")
    assert stage.orchestrion.health()["components"]["work"]["status"] == "healthy"
    stage.orchestrion.land()
    assert [(stage.root / name).exists() for name in ("b.txt", "c.txt")] == [False, True]


def test_a_plan_of_which_the_repository_has_nothing_any_more_is_never_begun_anew(
    stage: Stage, refused: Refused
) -> None:
    done(stage)
    for ref in stage.git("for-each-ref", "--format=%(refname)").splitlines():
        if "orchestrion" in ref:
            stage.git("update-ref", "-d", ref)
    stage.git("reflog", "expire", "--expire=now", "--all")
    stage.git("gc", "--quiet", "--prune=now")
    assert refused().code == "plan_lost"
    with pytest.raises(NotFound, match="not in this repository any more"):
        stage.orchestrion.diff("R1")
    said = {part["part"]: part["advice"] for part in stage.orchestrion.doctor()["parts"]}
    assert "git fetch" in said["repository"]
    stage.add("echo c > c.txt")
    stage.drain()
    assert (stage.task("T2")["state"], stage.task("T2")["code"]) == ("failed", "plan_lost")


@pytest.mark.parametrize("name", [":!x", ":(top)y", "*", "-n"])
def test_a_file_of_any_name_lands(stage: Stage, name: str) -> None:
    done(stage, command=f"echo 1 > './{name}'")
    stage.git("commit", "-q", "--allow-empty", "-m", "moved")
    stage.orchestrion.land()
    assert (stage.root / name).exists()
