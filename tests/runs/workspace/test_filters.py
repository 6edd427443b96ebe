"""Filters and merge drivers: a workspace has what the user's checkout has, or the run is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import GitProblem
from orchestrion.runs.workspace import drivers

pytestmark = pytest.mark.long

#: Stores text turned round, and needs no program but the shell's.
ROT = "tr a-z n-za-m"

needs_git_crypt = pytest.mark.skipif(shutil.which("git-crypt") is None, reason="git-crypt is not installed")
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")


def run(folder: Path, command: str) -> str:
    done = subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def rot(project: Path, user: UserGit) -> str:
    """A repository with a filter; its commit."""
    user("config", "filter.rot.clean", ROT)
    user("config", "filter.rot.smudge", ROT)
    (project / ".gitattributes").write_text("*.rot filter=rot\n")
    (project / "a.rot").write_text("hello\n")
    user("add", ".")
    user("commit", "-qm", "rot")
    assert run(project, "git cat-file blob HEAD:a.rot") == "uryyb\n"
    return user("rev-parse", "HEAD")


@pytest.mark.parametrize("isolation", ["clone", "worktree"])
def test_a_filter_works_both_ways(seam: RunSeam, project: Path, rot: str, isolation: str) -> None:
    workspace = seam.prepare("R1", rot, isolation)
    assert (workspace.path / "a.rot").read_text() == "hello\n"
    (workspace.path / "left.rot").write_text("left\n")
    run(workspace.path, "echo own > own.rot; git add own.rot; git commit -qm own")
    head = seam.hand_over(workspace).head
    assert run(project, f"git cat-file blob {head}:left.rot") == "yrsg\n"
    assert run(project, f"git cat-file blob {head}:own.rot") == "bja\n"


def test_a_filter_of_the_user_s_own_attributes_works_too(seam: RunSeam, project: Path, user: UserGit) -> None:
    user("config", "filter.rot.clean", ROT)
    (project / ".git" / "info" / "attributes").write_text("*.rot filter=rot\n")
    workspace = seam.prepare("R1", user("rev-parse", "HEAD"))
    (workspace.path / "a.rot").write_text("hello\n")
    head = seam.hand_over(workspace).head
    assert run(project, f"git cat-file blob {head}:a.rot") == "uryyb\n"


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("kind", ["clean", "smudge", "process"])
def test_a_program_that_is_not_there_refuses_the_run(
    seam: RunSeam, user: UserGit, rot: str, kind: str, required: bool
) -> None:
    user("config", f"filter.rot.{kind}", "nosuch-program --now")
    if required:
        user("config", "filter.rot.required", "true")
    with pytest.raises(GitProblem) as refused:
        seam.prepare("R1", rot)
    assert (refused.value.code, refused.value.details["program"]) == ("filter_missing", "nosuch-program")


def test_a_merge_driver_that_is_not_there_refuses_it_too(seam: RunSeam, project: Path, user: UserGit) -> None:
    user("config", "merge.mine.driver", "nosuch-driver %O %A %B")
    (project / ".gitattributes").write_text("*.lock merge=mine\n")
    user("add", ".")
    user("commit", "-qm", "driver")
    with pytest.raises(GitProblem) as refused:
        seam.prepare("R1", user("rev-parse", "HEAD"))
    assert refused.value.code == "filter_missing"


def test_a_program_that_no_file_needs_does_not_matter(seam: RunSeam, user: UserGit) -> None:
    user("config", "filter.other.clean", "nosuch-program")
    assert seam.prepare("R1", user("rev-parse", "HEAD")).path.is_dir()


def test_a_filter_that_is_not_set_is_as_in_the_checkout(seam: RunSeam, project: Path, user: UserGit) -> None:
    (project / ".gitattributes").write_text("*.psd filter=lfs\n*.x filter=own\n")
    user("add", ".")
    user("commit", "-qm", "attributes")
    base = user("rev-parse", "HEAD")
    # An administrator may have set LFS up for everybody on this machine.
    user("config", "--global", "--remove-section", "filter.lfs") if "lfs" in seam.project.handed_on.filters else None
    assert drivers.not_set_up(seam.project, base)["own"] == ""
    workspace = seam.prepare("R1", base)
    (workspace.path / "a.x").write_text("x\n")
    assert run(project, f"git cat-file blob {seam.hand_over(workspace).head}:a.x") == "x\n"


def test_the_merge_into_the_plan_uses_the_user_s_driver(
    seam: RunSeam, project: Path, user: UserGit, tmp_path: Path
) -> None:
    driver = tmp_path / "keep-both"
    driver.write_text('#!/bin/sh\ncat "$3" >> "$2"\nexit 0\n')
    driver.chmod(0o755)
    user("config", "merge.both.driver", f"{driver} %O %A %B")
    (project / ".gitattributes").write_text("*.list merge=both\n")
    (project / "a.list").write_text("first\n")
    user("add", ".")
    user("commit", "-qm", "list")
    base = seam.tip("p").create(user("rev-parse", "HEAD"))
    for number in (1, 2):
        workspace = seam.prepare(f"R{number}", base)
        (workspace.path / "a.list").write_text(f"of R{number}\n")
        tip = seam.merge("p", f"R{number}", seam.hand_over(workspace).head, "work", None).tip_after
    assert run(project, f"git cat-file blob {tip}:a.list") == "of R1\nof R2\n"


@pytest.mark.parametrize(("autocrlf", "stored"), [("input", b"a\nb\n"), ("true", b"a\nb\n"), ("false", b"a\r\nb\r\n")])
def test_line_ends_are_stored_as_the_user_has_it(
    seam: RunSeam, project: Path, user: UserGit, autocrlf: str, stored: bytes
) -> None:
    user("config", "core.autocrlf", autocrlf)
    workspace = seam.prepare("R1", user("rev-parse", "HEAD"))
    (workspace.path / "new.txt").write_bytes(b"a\r\nb\r\n")
    head = seam.hand_over(workspace).head
    blob = subprocess.run(["git", "cat-file", "blob", f"{head}:new.txt"], cwd=project, capture_output=True).stdout
    assert blob == stored
    assert ((workspace.path / "b.txt").read_bytes().count(b"\r\n") > 0) == (autocrlf == "true")


# -- git-crypt ------------------------------------------------------------------------------------


@pytest.fixture
def secrets(project: Path, user: UserGit) -> str:
    """A repository that is unlocked; its commit."""
    run(project, "git-crypt init")
    (project / ".gitattributes").write_text("*.secret filter=git-crypt diff=git-crypt\n")
    (project / "old.secret").write_text("old secret\n")
    user("add", ".")
    user("commit", "-qm", "secrets")
    return user("rev-parse", "HEAD")


def stored(project: Path, commit: str, path: str) -> bytes:
    return subprocess.run(
        ["git", "cat-file", "blob", f"{commit}:{path}"], cwd=project, check=True, capture_output=True
    ).stdout


@needs_git_crypt
@pytest.mark.parametrize("isolation", ["clone", "worktree"])
@pytest.mark.parametrize("own", [True, False])
def test_new_secrets_are_never_stored_in_clear(
    seam: RunSeam, project: Path, secrets: str, isolation: str, own: bool
) -> None:
    workspace = seam.prepare("R1", secrets, isolation)
    assert (workspace.path / "old.secret").read_text() == "old secret\n"
    (workspace.path / "new.secret").write_text("new secret\n")
    if own:
        run(workspace.path, "git add new.secret; git commit -qm own")
    head = seam.hand_over(workspace).head
    assert stored(project, head, "new.secret").startswith(b"\0GITCRYPT")
    assert stored(project, head, "old.secret") == stored(project, secrets, "old.secret")


@needs_git_crypt
def test_a_locked_repository_stays_locked(seam: RunSeam, project: Path, secrets: str) -> None:
    run(project, "git-crypt export-key ../key; git-crypt lock")
    workspace = seam.prepare("R1", secrets)
    assert (workspace.path / "old.secret").read_bytes().startswith(b"\0GITCRYPT")
    assert seam.hand_over(workspace).head == secrets


@needs_git_crypt
def test_merging_and_landing_secrets(seam: RunSeam, project: Path, user: UserGit, secrets: str) -> None:
    base = seam.tip("p").create(secrets)
    for number in (1, 2):
        workspace = seam.prepare(f"R{number}", base)
        (workspace.path / f"{number}.secret").write_text(f"secret {number}\n")
        seam.merge("p", f"R{number}", seam.hand_over(workspace).head, "work", None)
    seam.land("p", None)
    assert (project / "2.secret").read_text() == "secret 2\n"
    assert stored(project, "HEAD", "1.secret").startswith(b"\0GITCRYPT")
    assert user("status", "--porcelain") == ""


# -- LFS ------------------------------------------------------------------------------------------


@pytest.fixture
def large(project: Path, user: UserGit) -> str:
    """A repository with a large file; its commit."""
    run(project, "git lfs install --local; git lfs track '*.bin'")
    (project / "a.bin").write_bytes(b"a" * 100_000)
    user("add", ".")
    user("commit", "-qm", "lfs")
    return user("rev-parse", "HEAD")


def left(folder: Path) -> None:
    (folder / "new.bin").write_bytes(b"n" * 50_000)


def own_commit(folder: Path) -> None:
    left(folder)
    run(folder, "git add new.bin; git commit -qm own")


def in_a_stash(folder: Path) -> None:
    own_commit(folder)
    run(folder, "cp a.bin b.bin; echo x >> b.bin; git stash push -uq")


def changed(folder: Path) -> None:
    left(folder)
    (folder / "a.bin").write_bytes(b"b" * 100_000)


@needs_lfs
@pytest.mark.parametrize("isolation", ["clone", "worktree"])
@pytest.mark.parametrize("make", [left, own_commit, in_a_stash, changed])
def test_large_files_come_home_with_the_commits(
    seam: RunSeam, project: Path, user: UserGit, large: str, isolation: str, make: Callable[[Path], None]
) -> None:
    base = seam.tip("p").create(large)
    workspace = seam.prepare("R1", base, isolation)
    assert (workspace.path / "a.bin").stat().st_size == 100_000
    make(workspace.path)
    seam.merge("p", "R1", seam.hand_over(workspace).head, "work", None)
    shutil.rmtree(workspace.path)
    seam.land("p", None)
    assert (project / "new.bin").stat().st_size == 50_000
    assert stored(project, "HEAD", "new.bin").startswith(b"version https://git-lfs")
    assert "Git LFS fsck OK" in run(project, "git lfs fsck")
    assert user("status", "--porcelain") == ""


@needs_lfs
@pytest.mark.parametrize("storage", ["elsewhere", "{tmp}/store"])
def test_large_files_that_are_stored_elsewhere(
    seam: RunSeam, project: Path, user: UserGit, large: str, storage: str, tmp_path: Path
) -> None:
    place = project / ".git" / storage.format(tmp=tmp_path)
    (project / ".git" / "lfs").rename(place)
    user("config", "lfs.storage", storage.format(tmp=tmp_path))
    test_large_files_come_home_with_the_commits(seam, project, user, large, "clone", left)


@needs_lfs
def test_a_pointer_to_content_that_is_nowhere_asks(seam: RunSeam, large: str) -> None:
    workspace = seam.prepare("R1", large)
    pointer = "version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 12345\\n"
    run(workspace.path, f"printf '{pointer}' 7 > c.bin; echo z > z.txt")
    assert [(remark.code, remark.asks) for remark in seam.hand_over(workspace).remarks] == [
        ("large_file_missing", True)
    ]


@needs_lfs
def test_checks_after_a_merge_see_the_large_files(seam: RunSeam, user: UserGit, large: str) -> None:
    base = seam.tip("p").create(large)
    sizes: list[int] = []
    for number in (1, 2):
        workspace = seam.prepare(f"R{number}", base)
        (workspace.path / f"{number}.bin").write_bytes(bytes([number]) * 40_000)
        seam.merge(
            "p", f"R{number}", seam.hand_over(workspace).head, "work",
            lambda folder: sizes.extend(file.stat().st_size for file in folder.glob("*.bin")),
        )  # fmt: skip
    assert sorted(sizes) == [40_000, 40_000, 100_000]


@needs_lfs
def test_a_file_that_only_says_to_be_an_object_is_none(seam: RunSeam, project: Path, large: str) -> None:
    """A pointer whose content the agent has not, and files of other content under its name."""
    workspace = seam.prepare("R1", large)
    oid = "4" * 64
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 7\n"
    place = workspace.path / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    place.parent.mkdir(parents=True)
    place.write_text("no such")
    (workspace.path / "fake.bin").write_text(pointer)
    run(
        workspace.path,
        "git update-index --add --cacheinfo 100644,$(git hash-object -w --no-filters fake.bin),fake.bin;"
        "git commit -qm fake",
    )
    seam.hand_over(workspace)
    assert not list((project / ".git" / "lfs").rglob(oid))


def test_what_the_agent_stored_through_a_filter_of_its_own_is_not_stored_in_clear(
    seam: RunSeam, user: UserGit, project: Path
) -> None:
    workspace = seam.prepare("R1", user("rev-parse", "HEAD"))
    run(
        workspace.path,
        "git config filter.own.clean 'sed s/^/ENC:/'; git config filter.own.smudge 'sed s/^ENC://'; "
        "echo '*.sec filter=own' > .gitattributes; echo secret > s.sec; git add .; git commit -qm own",
    )
    collected = seam.hand_over(workspace)
    assert user("show", f"{collected.head}:s.sec") == "ENC:secret"
    assert [(remark.code, remark.asks) for remark in collected.remarks] == [("filter_unknown", True)]


def test_what_lies_there_as_it_is_stored_is_not_filtered_twice(seam: RunSeam, user: UserGit, project: Path) -> None:
    for key, value in {"clean": "sed s/^/ENC:/", "smudge": "sed s/^ENC://"}.items():
        user("config", f"filter.enc.{key}", value)
    (project / ".gitattributes").write_text("*.sec filter=enc\n")
    (project / "s.sec").write_text("secret\n")
    user("add", ".")
    user("commit", "-qm", "secrets")
    workspace = seam.prepare("R1", user("rev-parse", "HEAD"))
    (workspace.path / "s.sec").write_text("ENC:secret\n")
    (workspace.path / "w.txt").write_text("w\n")
    head = seam.hand_over(workspace).head
    assert user("diff", "--name-only", f"{workspace.base}..{head}") == "w.txt"
