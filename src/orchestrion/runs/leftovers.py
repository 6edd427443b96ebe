"""What an agent left uncommitted becomes a commit, whatever state it left git in.

A detached HEAD, another branch, a merge half-way, a lock nobody holds: ``git commit``
copes with all of them once stale locks are gone. Repositories that the agent made
*inside* the workspace do not go by themselves: git would store a bare commit id, or
refuse. Their files are committed as plain files, and commits that exist nowhere else
are fetched into the workspace, where they keep it from being deleted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import GitProblem
from orchestrion.runs.git import Git, refusal

_GITLINK = "160000"


@dataclass(frozen=True)
class _Status:
    """What git says about a working tree."""

    #: HEAD's commit, or None when HEAD is a branch without one.
    head: str | None
    #: Paths that differ from HEAD; a nested repository ends with a slash.
    pending: tuple[str, ...]
    #: The untracked ones among them.
    untracked: tuple[str, ...]


def commit(git: Git, branch: str, base: str, left_out: Iterable[str], message: str) -> str:
    """Commit everything but ignored files and ``left_out``; the commit that HEAD is then.

    ``branch`` takes a HEAD that has no commit, ``base`` is the commit the work began at.
    """
    home = git_dir(git.folder) or git.folder / ".git"
    _drop_locks(home)
    left_out = set(left_out)
    status = _status(git)
    if status.head is None:
        git.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        status = _status(git)
    nested = [path for path in status.untracked if path.endswith("/")] + _stray_gitlinks(git, base)
    is_merging = (home / "MERGE_HEAD").exists()
    if status.head and not nested and not is_merging and not set(status.pending) - left_out:
        return status.head
    for path in nested:
        left_out |= _take_in(git, path)
    problem = _add_all(git, left_out)
    _commit(git, message, is_merging)
    if problem:
        files = pending(git, left_out)
        raise GitProblem(
            f"git could not commit {', '.join(files) or 'everything'}: {problem.message}",
            hint="the rest is committed; look into the workspace, which is kept",
            code="left_uncommitted",
            files=files,
        ) from problem
    return git.run("rev-parse", "HEAD").stdout


def pending(git: Git, left_out: Collection[str]) -> list[str]:
    """The paths that are not committed; ignored files, ``left_out`` and empty repositories aside."""
    return [path for path in _status(git).pending if path not in left_out and not _is_hollow(git, path)]


def not_ignored(git: Git, names: Collection[str]) -> list[str]:
    """Those of the untracked files ``names`` that git would add."""
    if not names:
        return []
    answer = git.run("check-ignore", "-z", "--stdin", input="".join(f"{name}\0" for name in names), check=False)
    if answer.returncode not in (0, 1):
        raise refusal(answer)
    ignored = set(answer.stdout.split("\0"))
    return [name for name in names if name not in ignored]


def git_dir(folder: Path) -> Path | None:
    """Where ``folder`` keeps its repository; None when it is not the root of one."""
    dot = folder / ".git"
    if dot.is_dir():
        return dot
    try:
        words = os.fsdecode(dot.read_bytes())
    except OSError:
        return None
    found = folder / words.removeprefix("gitdir: ").rstrip("\n")
    return found if words.startswith("gitdir: ") and found.is_dir() else None


def _drop_locks(home: Path) -> None:
    """Remove locks of the workspace itself; what a linked worktree shares with the project is not ours."""
    for lock in [*home.glob("*.lock"), *(home / "refs").rglob("*.lock")]:
        lock.unlink(missing_ok=True)


def _status(git: Git) -> _Status:
    fields = git.lines(
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=none",
    )
    head: str | None = None
    paths, untracked = [], []
    for field in fields:
        kind = field[0]
        if kind == "#":
            name, _, value = field[2:].partition(" ")
            head = value if name == "branch.oid" and value != "(initial)" else head
            continue
        paths.append(field.split(" ", {"1": 8, "u": 10, "?": 1}[kind])[-1])
        if kind == "?":
            untracked.append(paths[-1])
    return _Status(head, tuple(paths), tuple(untracked))


def _stray_gitlinks(git: Git, base: str) -> list[str]:
    """Nested repositories that the agent added, or even committed, as a bare commit id; submodules are not meant."""
    fields = git.lines("diff-index", "--cached", "--raw", "-z", "--no-renames", "--ignore-submodules=none", base)
    found = [path for facts, path in zip(fields[::2], fields[1::2], strict=True) if facts.split()[1] == _GITLINK]
    if not found:
        return []
    settings = git.run("config", "-z", "--file", ".gitmodules", "--get-regexp", r"\.path$", check=False).stdout
    submodules = {entry.partition("\n")[2] for entry in settings.split("\0")}
    return [f"{path}/" for path in found if path not in submodules and git_dir(git.folder / path)]


def _is_hollow(git: Git, path: str) -> bool:
    """Whether this is a nested repository that holds nothing of its own."""
    if not path.endswith("/"):
        return False
    inner_dir = git_dir(git.folder / path)
    if inner_dir is None:
        return False
    if _is_own_worktree(git, inner_dir):
        return True
    inner = Git(git.folder / path, git_dir=inner_dir)
    has_commits = inner.run("rev-list", "--max-count=1", "--all").stdout
    return not has_commits and not inner.run("ls-files", "--cached", "--others", "--exclude-standard").stdout


def _is_own_worktree(git: Git, inner_dir: Path) -> bool:
    """Whether a nested repository is a worktree of the workspace itself: then its commits are here already."""
    home = git_dir(git.folder)
    return home is not None and inner_dir.resolve().is_relative_to(home.resolve())


def _take_in(git: Git, path: str) -> set[str]:
    """Put the files of a nested repository into the index; the paths that must be left out instead."""
    folder = git.folder / path
    inner_dir = git_dir(folder)
    if inner_dir is None or _is_own_worktree(git, inner_dir):
        return {path.rstrip("/")}
    inner = Git(folder, git_dir=inner_dir)
    _fetch_own_commits(git, inner, path)
    listed = dict.fromkeys(inner.lines("ls-files", "-z", "--cached", "--others", "--exclude-standard"))
    deeper = [name for name in listed if (folder / name).is_dir() and not (folder / name).is_symlink()]
    files = [f"{path}{name}" for name in listed if name not in deeper and os.path.lexists(folder / name)]
    git.run("update-index", "--force-remove", "-z", "--stdin", input=f"{path.rstrip('/')}\0")
    git.run("update-index", "--add", "-z", "--stdin", input="".join(f"{file}\0" for file in files))
    left_out = set() if files else {path.rstrip("/")}
    for name in deeper:
        left_out |= _take_in(git, f"{path}{name.rstrip('/')}/")
    return left_out


def _fetch_own_commits(git: Git, inner: Git, path: str) -> None:
    with contextlib.suppress(GitProblem):
        if not inner.run("rev-list", "--max-count=1", "--all", "--not", "--remotes").stdout:
            return
    import hashlib

    place = f"refs/orchestrion/nested/{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
    git.fetch(inner.folder, f"+refs/heads/*:{place}/heads/*")
    if inner.has_commits():
        git.fetch(inner.folder, f"+HEAD:{place}/HEAD")


def _add_all(git: Git, left_out: set[str]) -> GitProblem | None:
    """Stage everything but ``left_out``; why not all of it could be staged, if so."""
    # git takes a path that is both excluded here and ignored for an attempt to add it.
    excluded = not_ignored(git, sorted(left_out))
    paths = "".join([".\0", *(f":(exclude,top,literal){path}\0" for path in excluded)])
    command = ("-c", "core.safecrlf=false", "add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul")
    try:
        git.run(*command, input=paths)
    except GitProblem as problem:
        git.run(*command, "--ignore-errors", input=paths, check=False)
        return problem
    return None


def _commit(git: Git, message: str, is_merging: bool) -> None:
    staged = git.run("diff-index", "--cached", "--quiet", "HEAD", check=False).returncode != 0
    if staged or is_merging or not git.has_commits():
        git.run(
            "commit", "--quiet", "--no-verify", "--no-status", "--allow-empty-message", "--cleanup=whitespace",
            "--file=-",
            input=message.replace("\0", ""),
        )  # fmt: skip
