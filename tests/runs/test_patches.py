"""A run's diff: in pieces, within bounds, and what is left out is told."""

from __future__ import annotations

import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from user_git import UserGit

from orchestrion.core.errors import GitProblem
from orchestrion.runs.git import Git
from orchestrion.runs.patches import Bounds, RunDiff

FILES = 12
Commit = Callable[[], RunDiff]


@pytest.fixture
def committed(project: Path, user: UserGit, base: str) -> Commit:
    """Commits what is in the project; the diff to what it was before."""

    def commit() -> RunDiff:
        user("add", "-A")
        user("commit", "-qm", "work")
        return RunDiff(Git(project), base, user("rev-parse", "HEAD"))

    return commit


@pytest.fixture
def diff(project: Path, committed: Commit) -> RunDiff:
    """Twelve new files of five lines."""
    for number in range(FILES):
        (project / f"new{number:02}.txt").write_text(f"{number}\n" * 5)
    return committed()


def whole(diff: RunDiff) -> bytes:
    """What git itself says."""
    words = ["git", "diff", diff.base, diff.head]
    return subprocess.run(words, cwd=diff.git.folder, check=True, capture_output=True).stdout


@pytest.mark.parametrize("bounds", [Bounds(files=1), Bounds(files=5), Bounds(max_bytes=400), Bounds(max_bytes=1000)])
def test_pages_one_after_the_other_are_the_whole_diff(diff: RunDiff, bounds: Bounds) -> None:
    pages, skip = [], 0
    while skip is not None:
        page = diff.page(Bounds(skip, bounds.files, bounds.file_bytes, bounds.max_bytes))
        pages.append(b"".join(bytes(file.text) for file in page))
        assert page.total == FILES
        skip = page.next  # type: ignore[assignment]
    assert b"".join(pages) == whole(diff) == b"".join(diff.whole())
    assert len(pages) > 1
    assert all(len(page) <= bounds.max_bytes for page in pages)


def test_what_is_left_out_is_counted_and_said(diff: RunDiff, project: Path) -> None:
    text = b"".join(diff.text(Bounds(skip=1, files=2), "ask for {next}")).decode()
    assert text.count("diff --git") == 2
    assert text.endswith(f"+2\n# files left out: {FILES - 3} of {FILES}; ask for 3\n")
    assert "left out" not in b"".join(diff.text(Bounds(), "")).decode()


def test_of_a_long_file_whole_lines_are_shown_and_the_others_counted(project: Path, committed: Commit) -> None:
    (project / "b.txt").write_text("new\n" * 1000)
    [file] = committed().page(Bounds(file_bytes=500))
    assert (file.added, file.removed) == (1000, 20)
    assert len(file.text) <= 500
    assert file.text.endswith(b"\n")
    shown = file.text.count(b"\n+") + file.text.count(b"\n-") - file.text.count(b"\n+++") - file.text.count(b"\n---")
    assert file.hidden == 1020 - shown


def test_a_line_of_many_pieces_is_one_line(project: Path, committed: Commit) -> None:
    long = "diff --git " * 60_000
    (project / "b.txt").write_text(f"{long}\nlast\n")
    [file] = committed().page(Bounds(file_bytes=100_000))
    assert (file.added, file.removed, file.hidden) == (2, 20, 2)
    assert file.text.endswith(b"-b\n")
    [file] = committed_again(project).page(Bounds(file_bytes=2_000_000, max_bytes=2_000_000))
    assert file.hidden == 0
    assert f"+{long}\n".encode() in file.text


def committed_again(project: Path) -> RunDiff:
    """The same diff, looked at anew."""
    return RunDiff(Git(project), "HEAD~1", "HEAD")


def test_a_file_that_became_a_link_is_one_file(project: Path, committed: Commit) -> None:
    (project / "b.txt").unlink()
    (project / "b.txt").symlink_to("a.txt")
    page = committed().page(Bounds())
    [file] = page
    assert (page.total, page.next, file.added, file.removed) == (1, None, 1, 20)


def test_nothing_of_a_large_diff_is_held(project: Path, committed: Commit) -> None:
    for number in range(100):
        (project / f"big{number}.txt").write_text("a line of a large file\n" * 10_000)
    diff = committed()
    tracemalloc.start()
    try:
        sizes = [sum(map(len, pieces)) for pieces in (diff.whole(), diff.text(Bounds(skip=90), ""))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes[0] > 20_000_000
    assert peak < 2_000_000


def test_who_has_seen_enough_leaves_no_git_behind(diff: RunDiff) -> None:
    before = set(psutil.Process().children())
    next(diff.text(Bounds(files=1), ""))
    pieces = diff.whole()
    next(pieces)
    del pieces
    assert set(psutil.Process().children()) == before


def test_a_git_that_refuses_is_told(diff: RunDiff) -> None:
    gone = RunDiff(diff.git, diff.base, "0" * 40)
    with pytest.raises(GitProblem, match="bad object"):
        list(gone.whole())
    with pytest.raises(GitProblem, match="bad object"):
        gone.page(Bounds())
