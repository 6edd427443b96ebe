"""What a run has changed so far: seen while its agent works, without being in its way."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest
from run_seam import RunSeam
from user_git import UserGit

from orchestrion.core.errors import GitProblem
from orchestrion.runs.git import Blob, Git
from orchestrion.runs.workspace.changes import FileChange, Touched, changes, working_changes

HOSTILE = ["with space.txt", "tab\there", "line\nbreak", '"quoted"', "ünï", "-dash", ":colon", "\udcff\udcfe", "a\\b"]


def seen(folder: Path, base: str = "HEAD") -> list[tuple[str, str]]:
    return sorted((one.path, one.kind) for one in working_changes(Git(folder), base))


def test_committed_uncommitted_and_untracked_count_alike(project: Path, user: UserGit) -> None:
    base = user("rev-parse", "HEAD")
    assert working_changes(Git(project), base) == []
    (project / "b.txt").write_text("b\n" * 18 + "c\n")
    user("commit", "-qam", "second")
    (project / "src" / "main.py").unlink()
    (project / "staged.txt").write_text("1\n2\n")
    user("add", "staged.txt")
    (project / "new.txt").write_text("one\ntwo")
    (project / "ignored.log").write_text("x")
    assert sorted(working_changes(Git(project), base), key=lambda one: one.path) == [
        Touched("b.txt", "modified", 1, 2),
        Touched("new.txt", "created", 2, 0),
        Touched("src/main.py", "deleted", 0, 1),
        Touched("staged.txt", "created", 2, 0),
    ]
    (project / "b.txt").write_text("b\n" * 20)
    assert ("b.txt", "modified") not in seen(project, base)


def test_a_moved_file_touches_both_places(project: Path, user: UserGit) -> None:
    user("config", "diff.renames", "copies")
    user("mv", "a.txt", "z.txt")
    assert seen(project) == [("a.txt", "deleted"), ("z.txt", "created")]


def test_a_file_that_is_no_longer_tracked_is_still_there(project: Path, user: UserGit) -> None:
    user("rm", "-q", "--cached", "a.txt")
    assert seen(project) == [("a.txt", "modified")]


def test_names_may_be_anything(project: Path) -> None:
    for name in HOSTILE:
        (project / name).write_text("x\n")
    assert [path for path, _ in seen(project)] == sorted(HOSTILE)


def test_what_is_no_text_is_not_counted(project: Path) -> None:
    (project / "binary").write_bytes(b"\0\1")
    (project / "large").write_bytes(b"x\n" * 200_000)
    (project / "empty").write_bytes(b"")
    (project / "a.txt").write_bytes(b"\0")
    (project / "link").symlink_to("/etc/passwd")
    found = {one.path: one.lines_added for one in working_changes(Git(project), "HEAD")}
    assert found == {"binary": None, "large": None, "empty": 0, "a.txt": None, "link": None}


def test_a_pipe_does_not_hold_it_up(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(project / "pipe")
    assert seen(project) == []
    monkeypatch.setattr(Git, "lines", lambda *_: ["pipe"])
    assert working_changes(Git(project), "HEAD") == [Touched("pipe", "created")]


def test_it_writes_nothing_and_runs_nothing(project: Path, user: UserGit, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    program.chmod(0o755)
    for key in ("diff.external", "core.fsmonitor", "diff.x.textconv", "diff.x.command", "core.pager"):
        user("config", key, str(program))
    user("config", "diff.orderFile", str(tmp_path / "gone"))
    user("config", "diff.relative", "true")
    (project / ".gitattributes").write_text("* diff=x\n")
    for hook in ("post-index-change", "pre-commit"):
        (project / ".git" / "hooks" / hook).write_text(program.read_text())
        (project / ".git" / "hooks" / hook).chmod(0o755)
    # The same content at another time: a porcelain git would write the index anew.
    os.utime(project / "b.txt", (1, 1))
    (project / "a.txt").write_text("changed\n")
    before = (project / ".git" / "index").read_bytes()
    assert seen(project) == [(".gitattributes", "created"), ("a.txt", "modified")]
    assert (project / ".git" / "index").read_bytes() == before
    assert not (tmp_path / "ran").exists()


def test_the_locks_of_the_agents_own_git_are_not_in_the_way(project: Path) -> None:
    (project / ".git" / "index.lock").write_text("")
    (project / "a.txt").write_text("changed\n")
    assert seen(project) == [("a.txt", "modified")]


def test_a_merge_half_way(project: Path, user: UserGit) -> None:
    base = user("rev-parse", "HEAD")
    user("checkout", "-qb", "side")
    (project / "a.txt").write_text("theirs\n")
    user("commit", "-qam", "theirs")
    user("checkout", "-q", "main")
    (project / "a.txt").write_text("ours\n")
    user("commit", "-qam", "ours")
    subprocess.run(["git", "merge", "side"], cwd=project, check=False, capture_output=True)
    assert seen(project, base) == [("a.txt", "modified")]


@pytest.mark.parametrize("isolation", ["clone", "worktree"])
def test_a_workspace_is_never_mistaken_for_another(seam: RunSeam, project: Path, user: UserGit, isolation: str) -> None:
    (project / ".worktreeinclude").write_text("notes.txt\n")
    (project / "notes.txt").write_text("mine\n")
    made = seam.prepare("R1", user("rev-parse", "HEAD"), isolation)
    assert seam.touched(made) == []
    (made.path / "a.txt").unlink()
    assert seam.touched(made) == [Touched("a.txt", "deleted", 0, 20)]
    # Not even without its own repository: ours is asked.
    subprocess.run(["rm", "-rf", made.path / ".git"], check=True)
    assert seam.touched(made) == [Touched("a.txt", "deleted", 0, 20)]
    subprocess.run(["rm", "-rf", made.path], check=True)
    with pytest.raises(GitProblem):
        seam.touched(made)


def test_changes_are_exact(seam: RunSeam, project: Path, user: UserGit) -> None:
    base = user("rev-parse", "HEAD")
    workspace = seam.prepare("R1", base)
    path = workspace.path
    strange = os.fsdecode(b"new \xff\n.txt")
    (path / strange).write_text("1\n2\n3\n")
    (path / strange).chmod(0o755)
    (path / "a.txt").write_text("changed\n" + "a\n" * 19)
    shutil.copy(path / "a.txt", path / "copy.txt")
    (path / "b.txt").rename(path / "moved.txt")
    (path / "src" / "main.py").unlink()
    (path / "image.bin").write_bytes(b"\0\1\2")
    (path / "link").symlink_to("a.txt")

    head = seam.hand_over(workspace).head
    found = {change.path: change for change in changes(Git(project), base, head)}

    def sha(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    changed = b"changed\n" + b"a\n" * 19
    assert found == {
        strange: FileChange(strange, "created", None, 3, 0, sha(b"1\n2\n3\n"), 6, "100755"),
        "a.txt": FileChange("a.txt", "modified", None, 1, 1, sha(changed), 46, "100644"),
        "copy.txt": FileChange("copy.txt", "copied", "a.txt", 1, 1, sha(changed), 46, "100644"),
        "moved.txt": FileChange("moved.txt", "moved", "b.txt", 0, 0, sha(b"b\n" * 20), 40, "100644"),
        "src/main.py": FileChange("src/main.py", "deleted", None, 0, 1, None, None, None),
        "image.bin": FileChange("image.bin", "created", None, None, None, sha(b"\0\1\2"), 3, "100644"),
        "link": FileChange("link", "created", None, 1, 0, sha(b"a.txt"), 5, "120000"),
    }
    assert changes(Git(project), head, head) == []


def test_a_large_content_is_measured_once_wherever_it_lies(project: Path, user: UserGit) -> None:
    class Recorded(Git):
        def blobs(self, oids: Iterable[str]) -> Generator[Blob, None, None]:
            return super().blobs(asked.append(oid) or oid for oid in oids)  # type: ignore[func-returns-value]

    asked: list[str] = []
    base = user("rev-parse", "HEAD")
    large = b"fifteen letters\n" * 5_000
    for number in range(6):
        (project / f"large{number}").write_bytes(large if number % 2 else large.upper())
        (project / f"m{number}.txt").write_text(f"{number // 2}\n")
    user("rm", "-q", "a.txt")
    user("mv", "b.txt", "n.txt")
    user("add", ".")
    user("commit", "-qm", "many")

    found = changes(Recorded(project), base, "HEAD")
    assert len(found) == 14
    for one in found:
        content = (project / one.path).read_bytes() if one.kind != "deleted" else None
        assert one.size == (None if content is None else len(content))
        assert one.sha256 == (None if content is None else hashlib.sha256(content).hexdigest())
        lines = 0 if one.kind == "moved" else None if content is None else content.count(b"\n")
        assert one.lines_added == (lines or 0)
    assert len(asked) == 2 + 6 + 1  # two large contents, six small files, and the one that moved
