"""What ``show`` says to do with work in review is done as it stands, from a folder below the project's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrion.core.errors import Conflict
from stage import Stage

pytestmark = pytest.mark.long

SIDE_WORK = "git checkout -qb side; echo b > b.txt; git add .; git commit -qm b; git checkout -q -"
STASH = "echo changed > a.txt; echo new > new.txt; git stash -qu"


def steps(stage: Stage, task: str) -> list[str]:
    return list(stage.orchestrion.show(task)["steps"])


def typed(stage: Stage, commands: list[str], cwd: Path, *, strict: bool = True) -> None:
    """Types commands but those that reject; of a merge that meets a conflict the failure is expected, and what comes
    after it if it is not ``strict``.
    """
    environ = {**stage.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        if " reject " not in command:
            done = subprocess.run(
                command, shell=True, cwd=cwd, env=environ, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0 or " merge " in command or not strict, (command, done.stderr)


def waiting(stage: Stage) -> str:
    """The one of two tasks that waits for a person."""
    return next(one for one in ("T1", "T2") if stage.task(one)["state"] == "review")


def worktree_in(said: list[str]) -> Path:
    """Where the steps have work mended."""
    return Path(said[0].split(" worktree add ")[1].removeprefix("--detach ").split()[0])


def mended(stage: Stage, task: str, cwd: Path, files: dict[str, str]) -> None:
    """Types the steps, and where it says so writes ``files``."""
    said = steps(stage, task)
    at = next(place for place, step in enumerate(said) if step.startswith("# mend "))
    typed(stage, said[:at], cwd)
    for name, content in files.items():
        (worktree_in(said) / name).write_text(content)
    typed(stage, said[at:], cwd)


@pytest.fixture
def below(stage: Stage) -> Path:
    made = stage.root / "a folder" / "below"
    made.mkdir(parents=True)
    return made


def test_a_conflict(stage: Stage, below: Path) -> None:
    stage.add("sleep 0.3; echo one > a.txt")
    stage.add("sleep 0.3; echo two > a.txt")
    stage.drain(slots=2)
    task = waiting(stage)
    worktree = worktree_in(steps(stage, task))
    mended(stage, task, below, {"a.txt": "both\n"})
    assert stage.task(task)["state"] == "completed"
    assert stage.merged("a.txt") == "both\n"
    assert not worktree.exists()


ODD = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "-rf", "*", ":!x", "new\nline", "$(touch ran)"]
MERGE = """for f in {files}; do echo o > "./$f"; done; git add -A .; git commit -qm o; git checkout -q -
for f in {files}; do echo m > "./$f"; done; git add -A .; git commit -qm m; git merge other"""


def test_an_open_merge_of_many_files_of_any_name(stage: Stage, below: Path) -> None:
    files = " ".join(shlex.quote(name) for name in ODD)
    stage.add(f"git checkout -qb other; {MERGE.format(files=files)} >/dev/null; true", title="merges")
    stage.drain()
    assert stage.task()["code"] == "open_merge"
    said = steps(stage, "T1")
    at = next(place for place, step in enumerate(said) if step.startswith("# mend "))
    # Who mends nothing is not believed.
    typed(stage, said[:at], below)
    with pytest.raises(Conflict) as refused:
        stage.orchestrion.approve("T1")
    assert sorted(refused.value.details["files"]) == sorted(ODD)
    for name in ODD:
        (worktree_in(said) / name).write_text("both\n")
    typed(stage, said[at:], below)
    assert stage.task()["state"] == "completed"
    assert {name: stage.merged(name) for name in ODD} == dict.fromkeys(ODD, "both\n")
    assert not (below / "ran").exists()


def test_a_conflict_of_many_files_of_any_name(stage: Stage, below: Path) -> None:
    files = " ".join(shlex.quote(name) for name in ODD)
    for word in ("one", "two"):
        stage.add(f'sleep 0.3; for f in {files}; do echo {word} > "./$f"; done', title=word)
    stage.drain(slots=2)
    task = waiting(stage)
    mended(stage, task, below, dict.fromkeys(ODD, "both\n"))
    assert stage.task(task)["state"] == "completed"
    assert {name: stage.merged(name) for name in ODD} == dict.fromkeys(ODD, "both\n")


@pytest.mark.parametrize(
    ("command", "files"), [(SIDE_WORK, {"b.txt": "b\n"}), (STASH, {"a.txt": "changed\n", "new.txt": "new\n"})]
)
@pytest.mark.parametrize("isolation", ["clone", "worktree"])
@pytest.mark.users_repository_changes
def test_work_elsewhere(stage: Stage, below: Path, command: str, files: dict[str, str], isolation: str) -> None:
    stage.open(workspace__isolation=isolation)
    stage.add(command)
    stage.drain()
    assert stage.task()["code"] == "work_elsewhere"
    with pytest.raises(Conflict) as refused:
        stage.orchestrion.approve("T1")
    assert refused.value.code == "not_taken_in"
    typed(stage, steps(stage, "T1"), below)
    assert stage.task()["state"] == "completed"
    assert {name: stage.merged(name) for name in files} == files


BISECT = "echo b > b.txt; git add .; git commit -qm b; git bisect start -q HEAD HEAD~1; git checkout -q HEAD~1"
EDIT = """for n in b c; do echo $n > $n.txt; git add .; git commit -qm $n; done
GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/' git rebase -q -i HEAD~2"""


@pytest.mark.parametrize(("command", "files"), [(BISECT, ["b.txt"]), (EDIT, ["b.txt", "c.txt"])])
def test_what_is_beside_an_open_merge_comes_in_as_well(
    stage: Stage, below: Path, command: str, files: list[str]
) -> None:
    stage.add(f"{command}; true")
    stage.drain()
    assert stage.task()["code"] == "open_merge"
    typed(stage, steps(stage, "T1"), below)
    assert stage.task()["state"] == "completed"
    assert [stage.merged(name) for name in files] == [f"{Path(name).stem}\n" for name in files]


STASHES = "for n in 1 2; do echo s$n >> a.txt; git stash -q; done"
NEW = """echo mine > new.txt; git stash -qu
git checkout -qb o; echo o > new.txt; git add .; git commit -qm o; git checkout -q -"""


@pytest.mark.parametrize("command", [STASHES, NEW])
def test_what_does_not_go_together_is_not_approved_half(stage: Stage, below: Path, command: str) -> None:
    stage.add(command)
    stage.drain()
    said = steps(stage, "T1")
    at = next(place for place, step in enumerate(said) if " worktree remove " in step)
    typed(stage, said[:at], below, strict=False)
    with pytest.raises(Conflict) as refused:
        stage.orchestrion.approve("T1")
    assert refused.value.code in ("not_taken_in", "conflict_markers")
    (left,) = refused.value.details["refs"]
    for words in ("merge --abort", f"merge -s ours --no-edit {left}"):
        stage.git(*words.split(), at=worktree_in(said))
    typed(stage, said[at:], below)
    assert stage.task()["state"] == "completed"


@pytest.mark.users_repository_changes
def test_work_beside_the_commit_of_a_submodule(stage: Stage, below: Path) -> None:
    stage.add_submodule("lib")
    stage.add("cd lib; git checkout -qb feat; echo f > f.txt; git add .; git commit -qm f; git checkout -q -")
    stage.drain()
    assert stage.task()["code"] == "work_elsewhere"
    typed(stage, steps(stage, "T1"), below)
    assert stage.task()["state"] == "completed"
    commit = stage.git("rev-parse", "refs/orchestrion/plans/default:lib")
    assert "f.txt" in stage.git("ls-tree", "--name-only", commit, at=stage.root / "lib")


@pytest.mark.users_repository_changes
def test_a_submodule_that_was_not_joined_is_not_approved(stage: Stage, below: Path) -> None:
    stage.add_submodule("lib")
    for name in ("one", "two"):
        stage.add(f"sleep 0.3; cd lib; echo {name} > lib.c; git commit -qam {name}")
    stage.drain(slots=2)
    task = waiting(stage)
    typed(stage, [one for one in steps(stage, task) if not one.startswith("# ")][:-2], below, strict=False)
    with pytest.raises(Conflict) as refused:
        stage.orchestrion.approve(task)
    assert refused.value.code == "not_taken_in"


@pytest.mark.parametrize(
    "command",
    [
        "git checkout -qb o; echo o > o; git add .; git commit -qm o; git checkout -; git merge --no-ff --no-commit o",
        "git checkout -qb o; git rm -q a.txt; git commit -qm o; git checkout -q -; echo m > a.txt; git commit -qam m; "
        "git merge o || true",
    ],
)
def test_an_open_merge_with_nothing_beside_is_approved(stage: Stage, below: Path, command: str) -> None:
    stage.add(command)
    stage.drain()
    assert stage.task()["code"] == "open_merge"
    typed(stage, steps(stage, "T1"), below)
    assert stage.task()["state"] == "completed"


def test_markers_that_were_shown_do_not_hold_up_a_conflict(stage: Stage, below: Path) -> None:
    stage.add("echo A > a.txt; printf '<<<<<<< a\\n=======\\n>>>>>>> b\\n' > doc.md")
    stage.add("echo B > a.txt", after=[])
    stage.drain(slots=2)
    with pytest.raises(Conflict):
        stage.orchestrion.approve("T1")
    mended(stage, "T1", below, {"a.txt": "both\n"})
    assert stage.task()["state"] == "completed"


def test_a_conflict_that_is_met_when_work_is_approved(stage: Stage, below: Path) -> None:
    stage.add("printf '<<<<<<< a\\n=======\\n>>>>>>> b\\n' > b.txt; sleep 0.5")
    stage.add("sleep 0.3; echo other > b.txt")
    stage.drain(slots=2)
    assert [stage.task(one)["state"] for one in ("T1", "T2")] == ["review", "completed"]
    with pytest.raises(Conflict):
        stage.orchestrion.approve("T1")
    mended(stage, "T1", below, {"b.txt": "both\n"})
    assert stage.merged("b.txt") == "both\n"


@pytest.mark.users_repository_changes
def test_a_bisect_in_a_linked_worktree(stage: Stage, below: Path) -> None:
    stage.open(workspace__isolation="worktree")
    stage.add(f"{BISECT}; true")
    stage.drain()
    typed(stage, steps(stage, "T1"), below)
    assert (stage.task()["state"], stage.merged("b.txt")) == ("completed", "b\n")


def test_what_was_left_out_is_named_with_its_place(stage: Stage, below: Path) -> None:
    stage.add(f"git clone -q {stage.root} 'a clone'; echo x > 'a clone/x'; echo y > y.txt")
    stage.drain()
    assert stage.task()["code"] == "nested_left_out"
    said = steps(stage, "T1")
    place = stage.workspace() / "a clone"
    assert any(step.startswith(f"cd '{place}' ") for step in said)
    typed(stage, said, below)
    assert stage.task()["state"] == "completed"
    assert (stage.root.with_name(f"{stage.root.name}-R1-a clone") / "x").read_text() == "x\n"


@pytest.mark.users_repository_changes
def test_a_conflict_of_two_commits_of_a_submodule(stage: Stage, below: Path) -> None:
    stage.add_submodule("vendor/a lib")
    for name in ("one", "two"):
        stage.add(f"sleep 0.3; cd 'vendor/a lib'; echo {name} > {name}; git add .; git commit -qm {name}")
    stage.drain(slots=2)
    task = waiting(stage)
    typed(stage, [step for step in steps(stage, task) if not step.startswith("# ")], below)
    assert stage.task(task)["state"] == "completed"
    commit = stage.git("rev-parse", "refs/orchestrion/plans/default:vendor/a lib")
    files = stage.git("ls-tree", "--name-only", commit, at=stage.root / "vendor/a lib").split()
    assert files == ["lib.c", "one", "two"]
    assert stage.git("worktree", "list", at=stage.root / "vendor/a lib").count("\n") == 0
