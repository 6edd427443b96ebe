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

SIDE_WORK = "git checkout -qb side; echo b > b.txt; git add .; git commit -qm b; git checkout -q -"
STASH = "echo changed > a.txt; echo new > new.txt; git stash -qu"


def steps(stage: Stage, task: str) -> list[str]:
    return list(stage.orchestrion.show(task)["steps"])


def typed(stage: Stage, commands: list[str], cwd: Path) -> None:
    """Types commands but those that reject; of a merge that meets a conflict the failure is expected."""
    environ = {**stage.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        if " reject " not in command:
            done = subprocess.run(
                command, shell=True, cwd=cwd, env=environ, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0 or " merge " in command, (command, done.stderr)


@pytest.fixture
def below(stage: Stage) -> Path:
    made = stage.root / "a folder" / "below"
    made.mkdir(parents=True)
    return made


def test_a_conflict(stage: Stage, below: Path) -> None:
    stage.add("sleep 0.3; echo one > a.txt")
    stage.add("sleep 0.3; echo two > a.txt")
    stage.drain(slots=2)
    task = next(one for one in ("T1", "T2") if stage.task(one)["state"] == "review")
    said = steps(stage, task)
    at = next(place for place, step in enumerate(said) if step.startswith("# mend "))
    typed(stage, said[:at], below)
    worktree = said[0].split(" worktree add ")[1].split()[0]
    (Path(worktree) / "a.txt").write_text("both\n")
    typed(stage, said[at:], below)
    assert stage.task(task)["state"] == "completed"
    assert stage.merged("a.txt") == "both\n"
    assert not Path(worktree).exists()


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
    worktree = Path(said[0].split(" worktree add ")[1].split()[0])
    # Who mends nothing is not believed.
    typed(stage, said[:at], below)
    with pytest.raises(Conflict) as refused:
        stage.orchestrion.approve("T1")
    assert sorted(refused.value.details["files"]) == sorted(ODD)
    for name in ODD:
        (worktree / name).write_text("both\n")
    typed(stage, said[at:], below)
    assert stage.task()["state"] == "completed"
    assert {name: stage.merged(name) for name in ODD} == dict.fromkeys(ODD, "both\n")
    assert not (below / "ran").exists()


def test_a_conflict_of_many_files_of_any_name(stage: Stage, below: Path) -> None:
    files = " ".join(shlex.quote(name) for name in ODD)
    for word in ("one", "two"):
        stage.add(f'sleep 0.3; for f in {files}; do echo {word} > "./$f"; done', title=word)
    stage.drain(slots=2)
    task = next(one for one in ("T1", "T2") if stage.task(one)["state"] == "review")
    said = steps(stage, task)
    at = next(place for place, step in enumerate(said) if step.startswith("# mend "))
    typed(stage, said[:at], below)
    for name in ODD:
        (Path(said[0].split(" worktree add ")[1].split()[0]) / name).write_text("both\n")
    typed(stage, said[at:], below)
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
    assert refused.value.code == "nothing_taken_in"
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
    task = next(one for one in ("T1", "T2") if stage.task(one)["state"] == "review")
    typed(stage, [step for step in steps(stage, task) if not step.startswith("# ")], below)
    assert stage.task(task)["state"] == "completed"
    commit = stage.git("rev-parse", "refs/orchestrion/plans/default:vendor/a lib")
    files = stage.git("ls-tree", "--name-only", commit, at=stage.root / "vendor/a lib").split()
    assert files == ["lib.c", "one", "two"]
    assert stage.git("worktree", "list", at=stage.root / "vendor/a lib").count("\n") == 0
