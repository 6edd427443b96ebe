"""Repositories inside a workspace that the agent made or brought: whose work is in them?

A *scaffold* is a repository that begins here (``git init``, a project generator): its files
are the agent's work, its ``.git`` is not. A *clone* came from elsewhere (it has
remote-tracking refs, is shallow, or its ``.git`` is a file): it is left out. Their git is
not asked; what is in them is read as data and with a git directory of ours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import GitProblem
from orchestrion.runs.git import Git, refusal
from orchestrion.runs.workspace import snapshot
from orchestrion.runs.workspace.agent_repository import AgentRepository
from orchestrion.runs.workspace.trusted import TrustedRepository

_REMOTE_REFS = "refs/remotes/"
_GIVEN_REFS = (_REMOTE_REFS, "refs/tags/")


@dataclass(frozen=True)
class Nested:
    """A repository inside a workspace."""

    #: From the workspace's top, without a slash at its end.
    path: str
    #: Whether it came from elsewhere.
    is_clone: bool
    #: Whether its git directory is elsewhere, and is not looked into.
    is_linked: bool = False


def nested_at(workspace: Path, path: str) -> Nested | None:
    """What kind of repository is in the folder ``path``; None: none that can be told."""
    path = path.rstrip("/")
    folder = workspace / path
    dot = folder / ".git"
    if not os.path.lexists(dot):
        return None
    if not dot.is_dir() or dot.is_symlink():
        return Nested(path, is_clone=True, is_linked=True)
    repository = AgentRepository(folder)
    is_clone = bool(repository.shallow()) or any(ref.startswith(_REMOTE_REFS) for ref in repository.refs())
    return Nested(path, is_clone)


def take_in(
    ours: TrustedRepository, index: dict[str, str], taken: snapshot.Taken, own: Collection[Path], most_bytes: int
) -> tuple[list[Nested], list[Nested]]:
    """Takes the files of scaffolds into an index, as far as they are not too large. Those scaffolds, and what is
    left out. ``own`` are folders that are looked at elsewhere: worktrees and submodules.
    """
    scaffolds, left_out, todo = list[Nested](), list[Nested](), list(taken.nested)
    while todo:
        inner = nested_at(ours.tree, todo.pop(0))
        if inner is None or (ours.tree / inner.path) in own:
            continue
        files, deeper = ([], []) if inner.is_clone else files_of(ours, inner)
        if inner.is_clone or size_of(ours.tree, files) > most_bytes:
            left_out.append(inner)
            continue
        snapshot.put(ours.git, index, files, taken)
        scaffolds.append(inner)
        todo += deeper
    return scaffolds, left_out


def files_of(ours: TrustedRepository, scaffold: Nested) -> tuple[list[str], list[str]]:
    """The files of a scaffold, from the workspace's top; and the repositories inside it, each with a slash at its end.

    What it ignores itself, or the workspace ignores, is left out.
    """
    folder = ours.tree / scaffold.path
    git = Git(folder, git_dir=ours.path, ours=True)
    nothing = ours.in_other_index("index.none")
    listed = [
        f"{scaffold.path}/{name}" for name in git.lines("ls-files", "-z", "--others", "--exclude-standard", env=nothing)
    ]
    ignored = ignored_among(ours.git, listed, nothing)
    kept = [path for path in listed if path not in ignored]
    return [path for path in kept if not path.endswith("/")], [path for path in kept if path.endswith("/")]


def size_of(top: Path, paths: Iterable[str]) -> int:
    """Bytes of all these files together."""
    total = 0
    for path in paths:
        try:
            facts = (top / path).lstat()
        except OSError:
            continue
        total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total


def has_own_work(ours: TrustedRepository, clone: Nested) -> bool:
    """Whether a clone holds commits or files that are not from where it came."""
    folder = ours.tree / clone.path
    dot = folder / ".git"
    if not dot.is_dir() or dot.is_symlink():
        return True  # its git directory is elsewhere, and is not looked into
    repository = AgentRepository(folder)
    try:
        head = repository.head()
    except GitProblem:
        return True
    refs = repository.refs()
    own = {commit for ref, commit in refs.items() if not ref.startswith(_GIVEN_REFS)} | ({head} if head else set())
    given = {commit for ref, commit in refs.items() if ref.startswith(_REMOTE_REFS)}
    given |= {line for line in repository.shallow().decode("ascii", "replace").split() if line}
    try:
        return _has_own_commits(ours, repository, own - given, given) or _has_own_files(ours, folder, repository, head)
    except GitProblem:
        return True


def _has_own_commits(ours: TrustedRepository, clone: AgentRepository, own: set[str], given: set[str]) -> bool:
    if not own:
        return False
    wanted = "".join([*(f"{commit}\n" for commit in own), *(f"^{commit}\n" for commit in given)])
    answer = ours.git.run(
        "rev-list", "--max-count=1", "--ignore-missing", "--stdin", input=wanted, env=_borrowing(clone), check=False
    )
    if answer.returncode != 0:
        raise refusal(answer)
    return bool(answer.stdout)


def _has_own_files(ours: TrustedRepository, folder: Path, clone: AgentRepository, head: str | None) -> bool:
    git = Git(folder, git_dir=ours.path, ours=True)
    scratch = ours.path / "index.nested"
    index = ours.in_other_index(scratch.name) | _borrowing(clone)
    # The clone's own index knows which files are as they were: not all of them have to be read.
    if not clone.copy_index(scratch) and head:
        git.run("read-tree", head, env=index)
    if git.lines("ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard", env=index):
        return True
    staged = git.run("diff-index", "--cached", "--raw", head, env=index).stdout if head else ""
    return bool(staged)


def _borrowing(clone: AgentRepository) -> dict[str, str]:
    return {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(clone.common_dir / "objects")}


def ignored_among(git: Git, paths: list[str], index: dict[str, str]) -> set[str]:
    if not paths:
        return set()
    answer = git.run(
        "check-ignore", "-z", "--stdin", input="".join(f"{path}\0" for path in paths), env=index, check=False
    )
    if answer.returncode not in (0, 1):
        raise refusal(answer)
    return set(answer.stdout.split("\0")) - {""}
