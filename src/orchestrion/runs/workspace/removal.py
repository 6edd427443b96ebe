"""Workspaces go, and nothing with them that exists nowhere else.

A workspace is deleted only when all that is in it is in the project's refs: looked at anew
each time, as when the work was collected. Otherwise it stays, or moves aside. What is
deleted is renamed first, so that a kill leaves nothing that looks like a workspace.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.errors import EnvironmentProblem, GitProblem
from orchestrion.runs.commits import CommitStyle, committer
from orchestrion.runs.git import Git
from orchestrion.runs.workspace import publish, snapshot, trusted, work
from orchestrion.runs.workspace.places import (
    GIT_DIR_SUFFIX,
    MERGE_PREFIX,
    REMOVED_PREFIX,
    Workspace,
    git_dir_beside,
)
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.runs.workspace.submodules import Authorship
from orchestrion.runs.workspace.trusted import TrustedRepository

_INCLUDE_FILE = ".worktreeinclude"
#: Codes of remarks on work that is in no commit of the run.
_OUTSIDE = ("nested_left_out", "submodule_changed")
#: A git directory of ours without its workspace is left alone for so long, in seconds: one may be about to be made.
_BEING_MADE_S = 3600.0


def remove(project: ProjectRepository, path: Path) -> bool:
    """Delete a workspace unless that would lose something; whether it is gone."""
    path = path.absolute()
    if not os.path.lexists(path):
        delete_tree(git_dir_beside(path))
        return True
    if path.is_symlink() or _contains(path, project.root) or holds_work(project, path):
        return False
    discard(project, path)
    return True


def discard(project: ProjectRepository, path: Path) -> None:
    """Delete a workspace whose work is known to be saved. Raises EnvironmentProblem."""
    with disk_problems(path):
        _delete(project, path)


def sweep(
    project: ProjectRepository,
    home: Path,
    keep: Collection[str],
    max_age_s: float | None,
    quota_bytes: int | None,
    now: float,
) -> list[str]:
    """Remove old workspaces, the oldest first: all beyond the age, then until the quota is met; their names.

    Never one named in ``keep`` (active runs), never one with unsaved work. ``now`` in
    seconds since 1970.
    """
    if not home.is_dir():
        return []
    _sweep_removed(home, now)
    there = sorted((_last_used(path), path) for path in _workspaces_in(home))
    removed = []
    excess = 0 if quota_bytes is None else sum(_size(path) for _, path in there) - quota_bytes
    for used, path in there:
        is_old = max_age_s is not None and now - used > max_age_s
        if path.name in keep or not (is_old or excess > 0):
            continue
        size = _size(path) if quota_bytes is not None else 0
        if _discard_merge(path) if path.name.startswith(MERGE_PREFIX) else remove(project, path):
            removed.append(path.name)
            excess -= size
    return removed


def make_room(project: ProjectRepository, workspace: Workspace) -> None:
    """See to it that nothing is at the workspace's place, without losing anything."""
    path = workspace.path
    if os.path.lexists(path):
        if path.is_symlink() or not path.is_dir() or holds_work(project, path, anew=workspace):
            _set_aside(project, path)
        else:
            _delete(project, path)
    delete_tree(git_dir_beside(path))
    if workspace.isolation == "worktree":
        _drop_entry(project.git, path)
        _keep_branch(project.git, workspace)


def holds_work(project: ProjectRepository, path: Path, anew: Workspace | None = None) -> bool:
    """Whether deleting ``path`` could lose something. ``anew`` is the workspace that is to take its place,
    whose refs in the project then count for nothing."""
    try:
        ours = trusted.found(project.common_dir, path, project.handed_on) or _of_former_version(project, path)
    except GitProblem:
        return True
    if ours is None:
        return any(entry.name != ".git" for entry in path.iterdir()) or _has_objects(path / ".git")
    workspace = _workspace_of(path, ours)
    try:
        if not ours.note.finished:
            return _differs_beyond_missing(project, ours)
        return _Unsaved(project, workspace, spared=anew is not None).found()
    except GitProblem:
        return True


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[bool]:
    """Hold ``lock`` for the block, or find that somebody else does; a kill frees it."""
    with open(lock, "a", opener=private.opener) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def delete_tree(path: Path) -> None:
    """Delete a folder, also where an agent took away its own permissions, or somebody else deletes it too."""
    while os.path.lexists(path):
        with contextlib.suppress(FileNotFoundError):
            _delete_all(path)


@contextlib.contextmanager
def disk_problems(path: Path) -> Iterator[None]:
    """Say in our words what the disk refused."""
    try:
        yield
    except OSError as problem:
        raise EnvironmentProblem(
            f"the workspace {path.name} cannot be made or removed: {problem.strerror or problem}",
            hint="check free space and who may write to the folder of the workspaces",
            code="workspace_disk",
            file=str(problem.filename or path),
        ) from problem


class _Unsaved:
    """What is in a workspace, held against what the project has of it."""

    def __init__(self, project: ProjectRepository, workspace: Workspace, *, spared: bool) -> None:
        self._project = project
        self._workspace = workspace
        self._spared = spared

    def found(self) -> bool:
        """Whether the project lacks something. Raises GitProblem."""
        style = committer(CommitStyle(), self._project.handed_on.effective, {})
        authorship = Authorship(style, "unsaved work", {})
        collected = work.collect(self._project, self._workspace, authorship, keeps=False)
        if any(remark.code in _OUTSIDE and remark.asks for remark in collected.remarks):
            return True
        saved = self._saved()
        return any(self._is_missing(commit, saved) for commit in (collected.head, *collected.kept.values()))

    def _ours(self) -> TrustedRepository:
        return work.repository_of(self._project, self._workspace)

    def _saved(self) -> set[str]:
        """Trees that the project has of this run, the base's included."""
        run = self._workspace.run
        prefixes = [
            publish.RUN_REF.format(run=run),
            publish.RUN_BRANCH.format(run=run),
            publish.KEPT_PREFIX.format(run=run),
        ]
        commits = [self._workspace.base]
        if not self._spared:
            commits += self._project.git.run("for-each-ref", "--format=%(objectname)", *prefixes).stdout.split()
            if handed_over := self._ours().git.tip(trusted.HANDOVER_REF):
                commits += [handed_over] if self._is_contained(handed_over) else []
        asked = "".join(f"{commit}^{{tree}}\n" for commit in commits)
        listed = self._project.git.run("cat-file", "--batch-check=%(objectname)", input=asked).stdout
        return {line for line in listed.split("\n") if " " not in line}

    def _is_missing(self, commit: str, saved: set[str]) -> bool:
        """Whether neither a commit nor, if we made it just now, its tree and what it builds on, is in the project."""
        git = self._ours().git
        if self._is_contained(commit):
            return False
        tree, *parents = git.run("rev-list", "--no-walk", "--format=%T %P", "--no-commit-header", commit).stdout.split()
        return tree not in saved or not all(self._is_contained(parent) for parent in parents)

    def _is_contained(self, commit: str) -> bool:
        """Whether a ref of the project has a commit."""
        git = self._project.git
        if git.run("cat-file", "-e", f"{commit}^{{commit}}", check=False).returncode != 0:
            return False
        run = self._workspace.run
        own = (publish.RUN_REF.format(run=run), publish.RUN_BRANCH.format(run=run)) if self._spared else ()
        options = [f"--exclude={ref}" for ref in own]
        unreached = git.run(
            "rev-list", "--single-worktree", "--max-count=1", commit, "--not", *options, "--all", self._workspace.base
        )
        return not unreached.stdout


def _workspace_of(path: Path, ours: TrustedRepository) -> Workspace:
    isolation = "worktree" if (path / ".git").is_file() else "clone"
    run = path.name.partition(".kept-")[0]
    return Workspace(path, f"orchestrion/run/{run}", ours.note.base, isolation)


def _of_former_version(project: ProjectRepository, path: Path) -> TrustedRepository | None:
    """Our git directory for a workspace of version 0.1.0, made now; None: it is none of that version's."""
    note = work.former_note(project, path)
    if note is None:
        return None
    isolation = "worktree" if (path / ".git").is_file() else "clone"
    workspace = Workspace(path, str(note["branch"]), str(note["base"]), isolation)
    try:
        ours = work.repository_of(project, workspace)
    except GitProblem:
        return None
    ours.remember(finished=bool(note["finished"]))
    return ours


def _differs_beyond_missing(project: ProjectRepository, ours: TrustedRepository) -> bool:
    """Whether a workspace that was cut short has other files than its base; missing ones are no wonder."""
    index = ours.begin_index("index.half", None, ours.note.base)
    changed = ours.git.lines("diff-files", "-z", "--name-only", "--diff-filter=d", "--ignore-submodules=all", env=index)
    taken = snapshot.Taken()
    snapshot.put(ours.git, index, changed, taken)
    differing = ours.git.run("diff-index", "--cached", "--name-only", ours.note.base, env=index).stdout
    patterns = [f"--exclude-from={_INCLUDE_FILE}"] if (ours.tree / _INCLUDE_FILE).is_file() else []
    extra = ours.git.run("ls-files", "--others", "--exclude-standard", *patterns, env=index).stdout
    return bool(differing or extra or taken.refused)


def _set_aside(project: ProjectRepository, path: Path) -> None:
    kept = _free_name(path)
    linked = trusted.linked_git_dir(path, project.common_dir) if not path.is_symlink() else None
    if linked:
        project.git.run("worktree", "move", "--force", "--force", path, kept)
        # Its branch is wanted for the new workspace; the commits stay with the old one.
        Git(kept, git_dir=linked).run("update-ref", "--no-deref", "HEAD", "HEAD")
    else:
        path.rename(kept)
    if git_dir_beside(path).is_dir():
        git_dir_beside(path).rename(git_dir_beside(kept))


def _keep_branch(project: Git, workspace: Workspace) -> None:
    """Give the commits that a branch of this name has beyond the base another name."""
    tip = project.tip(f"refs/heads/{workspace.branch}")
    if tip and not project.is_ancestor(tip, workspace.base):
        number = 1
        while not project.swap_ref(f"refs/heads/{workspace.branch}.kept-{number}", tip, None):
            number += 1


def _free_name(path: Path) -> Path:
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.kept-{number}")):
        number += 1
    return kept


def _delete(project: ProjectRepository, path: Path) -> None:
    """Take a workspace away: first its name, so that a kill leaves nothing that looks like one."""
    is_linked = (path / ".git").is_file()
    for one in (path, git_dir_beside(path)):
        if os.path.lexists(one):
            one.rename(one.with_name(f"{REMOVED_PREFIX}{one.name}-{os.getpid()}"))
    if is_linked:
        _drop_entry(project.git, path)
        # While the worktree was there, its branch could not follow.
        if tip := project.git.tip(publish.RUN_REF.format(run=path.name)):
            publish.follow(project.git, publish.RUN_BRANCH.format(run=path.name), tip)
    for one in (path, git_dir_beside(path)):
        delete_tree(one.with_name(f"{REMOVED_PREFIX}{one.name}-{os.getpid()}"))


def _drop_entry(project: Git, path: Path) -> None:
    """Forget a linked worktree whose folder is gone, if there was one; ``worktree prune`` would forget others too."""
    assert not path.exists()
    project.run("worktree", "remove", "--force", "--force", path, check=False)


def _delete_all(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink()
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        private.set_mode(path, 0o700)
        for folder, names, _ in os.walk(path):
            for name in names:
                inner = Path(folder, name)
                if not inner.is_symlink():
                    private.set_mode(inner, 0o700)
        shutil.rmtree(path)


def _discard_merge(path: Path) -> bool:
    """Delete a merge workspace that nobody uses now; whether it is gone."""
    with exclusive(path.with_name(f"{path.name}.lock")) as mine:
        if mine:
            delete_tree(path)
            delete_tree(git_dir_beside(path))
        return mine


def _sweep_removed(home: Path, now: float) -> None:
    for path in home.glob(f"{REMOVED_PREFIX}*"):
        # Somebody else may be deleting it right now.
        with contextlib.suppress(FileNotFoundError):
            delete_tree(path)
    for path in home.glob(f"*{GIT_DIR_SUFFIX}"):
        is_alone = not os.path.lexists(path.with_name(path.name.removesuffix(GIT_DIR_SUFFIX)))
        with contextlib.suppress(FileNotFoundError):
            if is_alone and now - path.lstat().st_mtime > _BEING_MADE_S:
                delete_tree(path)


def _workspaces_in(home: Path) -> list[Path]:
    return [
        path
        for path in home.iterdir()
        if path.is_dir() and not path.is_symlink() and path.name[0] != "." and not path.name.endswith(GIT_DIR_SUFFIX)
    ]


def _last_used(path: Path) -> float:
    dot, ours = path / ".git", git_dir_beside(path)
    signs = [path, ours / "HEAD", *(dot / name for name in ("HEAD", "index", "logs/HEAD"))]
    times = []
    for sign in signs:
        with contextlib.suppress(OSError):
            times.append(sign.lstat().st_mtime)
    return max(times, default=0.0)


def _size(path: Path) -> int:
    """What a workspace takes on the disk, our git directory included, in bytes."""
    total = 0
    folders = [os.fspath(path), os.fspath(git_dir_beside(path))]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return total


def _has_objects(git_dir: Path) -> bool:
    folders = (git_dir / "objects").glob("*")
    return any(folder.name != "info" and any(folder.iterdir()) for folder in folders if folder.is_dir())


def _contains(folder: Path, inner: Path) -> bool:
    """Whether ``inner``, with links followed, lies in ``folder`` or is it."""
    return Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(folder))
