"""A run's own copy of the repository: made, set up, emptied into the project, removed.

A workspace lies outside the project. By default it is a clone that borrows the
project's objects and shares nothing else; as ``worktree`` it is a linked worktree,
which shares configuration, stash and refs. A note in its git directory says what it
was made from and whether it was finished. Nothing is ever deleted that exists nowhere
else: a workspace goes only when the project's refs hold every commit of it and nothing
in it is uncommitted; otherwise it stays, or moves aside.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orchestrion.core.errors import EnvironmentProblem, GitProblem, InvalidInput
from orchestrion.core.project import WORKSPACE_MARK
from orchestrion.runs import leftovers
from orchestrion.runs.changes import FileChange as FileChange
from orchestrion.runs.changes import Touched, working_changes
from orchestrion.runs.changes import changes as _changes
from orchestrion.runs.git import Git, refusal

ISOLATIONS = ("clone", "worktree")
#: In a workspace, the commit that is handed over; a ref, because only refs can be fetched everywhere.
HANDOVER_REF = "refs/orchestrion/head"
#: The names of merge workspaces; they hold nobody's work and are made anew at any time.
MERGE_PREFIX = "merge-"

_INCLUDE_FILE = ".worktreeinclude"
_NOTE = "orchestrion.json"
_REMOVED_PREFIX = ".removed-"
#: Refs of ours would only be noise in a workspace, and there may be thousands.
_UPLOAD_PACK = "git -c uploadpack.hideRefs=refs/heads/orchestrion -c uploadpack.hideRefs=refs/orchestrion upload-pack"
#: Writing files waits for the disk; several at a time wait less.
_SIDE_BY_SIDE = ("-c", "checkout.workers=8", "-c", "checkout.thresholdForParallelism=100")
_PORTS_PER_RUN = 10
_PORT_RANGES = 200


@dataclass(frozen=True)
class Workspace:
    """One run's copy of the repository."""

    #: Its folder.
    path: Path
    #: The short name of its branch, ``orchestrion/run/R31``.
    branch: str
    #: The commit it was made from.
    base: str
    #: ``clone`` or ``worktree``.
    isolation: str


@dataclass(frozen=True)
class _Note:
    """What a workspace's git directory says about it."""

    #: As in ``Workspace``.
    base: str
    #: As in ``Workspace``.
    branch: str
    #: Whether ``prepare`` came to its end; before, no agent has seen the workspace.
    finished: bool
    #: Copied files that git does not ignore; they are never committed.
    included: tuple[str, ...] = ()


def workspaces_home(project: Path, environ: Mapping[str, str]) -> Path:
    """Where the workspaces of ``project`` lie: under $XDG_STATE_HOME, by default ~/.local/state."""
    import hashlib

    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    real = os.path.realpath(project)
    slug = re.sub(r"[^a-z0-9._-]+", "-", Path(real).name.lower()).strip("-.")[:40] or "project"
    return state / "orchestrion" / f"{slug}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:8]}" / "workspaces"


def port_offset(run_number: int) -> int:
    """What run ``run_number`` adds to its port numbers: 0, 10, ... 1990, a range of ten ports each.

    Runs that are 200 numbers apart share a range; so many are never active at once.
    """
    return run_number % _PORT_RANGES * _PORTS_PER_RUN


def prepare(project: Path, home: Path, run: str, base: str, isolation: str = "clone") -> Workspace:
    """Make the workspace of ``run`` (``R31``) at the commit ``base``, on branch orchestrion/run/R31.

    What a killed ``prepare`` left is removed and made anew; what holds work is moved
    aside to ``R31.kept-1``. Files that match ``.worktreeinclude`` are copied. Raises
    InvalidInput, GitProblem, and EnvironmentProblem when the disk refuses.
    """
    _check_names(run, isolation)
    workspace = Workspace(home.absolute() / run, f"orchestrion/run/{run}", base, isolation)
    with _disk_problems(workspace.path):
        _make_room(project, workspace)
        workspace.path.parent.mkdir(parents=True, exist_ok=True)
        if isolation == "clone":
            _clone(Git(project), workspace)
        else:
            _link(Git(project), workspace)
        _finish(workspace, _include(project, workspace.path))
    return workspace


def go_on(workspace: Workspace, commit: str) -> None:
    """Bring the work of an earlier run, which the project has, into a fresh workspace. Raises GitProblem."""
    _git(workspace.path).run("reset", "--hard", "--quiet", commit)


def commit_leftovers(workspace: Workspace, message: str) -> str:
    """Commit everything the agent left uncommitted; the commit that HEAD is then.

    To be called when the agent is gone: stale locks are removed. Ignored and included
    files stay out. Raises GitProblem (``left_uncommitted``) when git could not take
    every file; the others are committed all the same.
    """
    return leftovers.commit(_git(workspace.path), workspace.branch, workspace.base, _included(workspace.path), message)


def publish(project: Path, workspace: Workspace, head: str) -> None:
    """Bring ``head`` into the project as its branch orchestrion/run/R31; nothing else there changes.

    While somebody has that branch checked out only the commits are brought, the branch stays.
    """
    git = Git(project)
    ref = f"refs/heads/{workspace.branch}"
    if workspace.isolation == "worktree":
        _point(git, ref, head)
        return
    _git(workspace.path).run("update-ref", HANDOVER_REF, head)
    fetched = git.fetch(workspace.path, f"+{HANDOVER_REF}:{ref}", check=False)
    if fetched.returncode == 0:
        return
    if ref not in git.checked_out_branches():
        raise refusal(fetched)
    git.fetch(workspace.path, HANDOVER_REF)


def changes(workspace: Workspace, base: str, head: str, *, measured: bool = True) -> list[FileChange]:
    """What lies between two commits, file by file, exactly as git has it; contents are read only if ``measured``."""
    return _changes(_git(workspace.path), base, head, measured=measured)


def touched(workspace: Workspace) -> list[Touched]:
    """What differs from its base at this moment, committed or not. Raises GitProblem. Disturbs no git of the agent."""
    return working_changes(_git(workspace.path), workspace.base, set(_included(workspace.path)))


def remove(project: Path, workspace_path: Path) -> bool:
    """Delete a workspace unless that would lose something; whether it is gone.

    It stays when anything in it is uncommitted, or a commit of it is not in a ref of the project.
    """
    path = workspace_path.absolute()
    if not os.path.lexists(path):
        return True
    if path.is_symlink() or _contains(path, project) or _holds_work(project, path):
        return False
    with _disk_problems(path):
        _delete(project, path)
    return True


def sweep(
    project: Path,
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
    _sweep_removed(home)
    folders = [path for path in home.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != "."]
    there = sorted((_last_used(path), path) for path in folders)
    removed = []
    excess = 0 if quota_bytes is None else sum(_size(path) for _, path in there) - quota_bytes
    for used, path in there:
        is_old = max_age_s is not None and now - used > max_age_s
        if path.name in keep or not (is_old or excess > 0):
            continue
        size = _size(path) if quota_bytes is not None else 0
        if _discard(path) if path.name.startswith(MERGE_PREFIX) else remove(project, path):
            removed.append(path.name)
            excess -= size
    return removed


def borrow(project: Git, path: Path) -> Git:
    """A clone at ``path`` that borrows the project's objects, with nothing checked out.

    It has no hooks, templates or settings of the user; ``origin`` is the project's
    upstream, if it has one, so that nobody pushes into the project by accident.
    """
    settings = [f"--config={name}" for name in ("commit.gpgsign=false", "tag.gpgsign=false", "gc.auto=0")]
    project.run(
        "clone", "--quiet", "--shared", "--no-checkout", "--template=", "--origin=origin",
        f"--upload-pack={_UPLOAD_PACK}", *settings, "--", project.folder.absolute(), path,
    )  # fmt: skip
    git = Git(path, git_dir=path / ".git")
    _share_objects(project, path)
    remote = _upstream(project)
    if "url" not in remote:
        git.run("remote", "remove", "origin")
        return git
    git.run("remote", "set-url", "origin", _absolute(remote["url"], project.folder))
    for key in ("promisor", "partialclonefilter"):
        # Of a partial clone: what is missing comes from upstream when it is needed.
        if key in remote:
            git.run("config", f"remote.origin.{key}", remote[key])
    return git


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[bool]:
    """Hold ``lock`` for the block, or find that somebody else does; a kill frees it."""
    with lock.open("a") as file:
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


def _delete_all(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except PermissionError:
        path.chmod(0o700)
        for folder, names, _ in os.walk(path):
            for name in names:
                inner = Path(folder, name)
                if not inner.is_symlink():
                    inner.chmod(0o700)
        shutil.rmtree(path)


def _check_names(run: str, isolation: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", run):
        raise InvalidInput(f"{run!r} is not the id of a run", hint="a run is named like R31", code="bad_run_id")
    if isolation not in ISOLATIONS:
        raise InvalidInput(
            f"there is no isolation {isolation!r}", hint=f"use one of {', '.join(ISOLATIONS)}", code="bad_isolation"
        )


def _make_room(project: Path, workspace: Workspace) -> None:
    """See to it that nothing is at the workspace's place, without losing anything."""
    path = workspace.path
    if os.path.lexists(path):
        if path.is_symlink() or not path.is_dir() or _holds_work(project, path, workspace):
            _set_aside(project, workspace)
        else:
            _delete(project, path)
    if workspace.isolation == "worktree":
        _drop_entry(Git(project), path)
        _keep_branch(Git(project), workspace)


def _set_aside(project: Path, workspace: Workspace) -> None:
    path, kept = workspace.path, _free_name(workspace.path)
    if _is_linked(path):
        git = Git(project)
        git.run("worktree", "move", "--force", "--force", path, kept)
        # Its branch is wanted for the new workspace; the commits stay with the old one.
        Git(kept, git_dir=_git_dir(kept)).run("update-ref", "--no-deref", "HEAD", "HEAD")
        return
    path.rename(kept)


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


def _clone(project: Git, workspace: Workspace) -> None:
    git = borrow(project, workspace.path)
    _write_note(workspace.path, _Note(workspace.base, workspace.branch, finished=False))
    # Whoever stands in the workspace is led back to the project.
    (workspace.path / ".git" / WORKSPACE_MARK).write_text(f"{project.folder.resolve()}\n", encoding="utf-8")
    git.run("symbolic-ref", "HEAD", f"refs/heads/{workspace.branch}")
    # Not checkout: that one calls it a success when files could not be written, or who wrote them was killed.
    git.run(*_SIDE_BY_SIDE, "reset", "--quiet", "--hard", workspace.base)


def _link(project: Git, workspace: Workspace) -> None:
    project.run(
        *_SIDE_BY_SIDE,
        "worktree",
        "add",
        "--quiet",
        "--force",
        "--no-track",
        "-B",
        workspace.branch,
        workspace.path,
        workspace.base,
    )


def _finish(workspace: Workspace, copied: list[str]) -> None:
    included = leftovers.not_ignored(_git(workspace.path), copied)
    if included and workspace.isolation == "clone":
        info = workspace.path / ".git" / "info"
        info.mkdir(exist_ok=True)
        lines = "".join(f"/{_escaped(name)}\n" for name in included if "\n" not in name)
        (info / "exclude").write_bytes(os.fsencode(lines))
    _write_note(workspace.path, _Note(workspace.base, workspace.branch, finished=True, included=tuple(included)))


def _include(project: Path, path: Path) -> list[str]:
    """Copy the untracked files that ``.worktreeinclude`` names; which ones were copied."""
    if not (project / _INCLUDE_FILE).is_file():
        return []
    found = Git(project).lines("ls-files", "--others", "--ignored", f"--exclude-from={_INCLUDE_FILE}", "-z")
    return [name for name in found if not name.endswith("/") and _copied(project, path, name)]


def _copied(project: Path, path: Path, name: str) -> bool:
    """Copy one file with its mode. Leaves out what the base has, and links that lead out of the project."""
    source, target = project / name, path / name
    if os.path.lexists(target) or not _contains(path, target.parent):
        return False
    if source.is_symlink():
        if source.readlink().is_absolute() or not _contains(project, source):
            return False
    elif not source.is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)
    return True


def _escaped(name: str) -> str:
    """A file name as a line of an exclude file that means this file alone."""
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", name)


def _share_objects(project: Git, path: Path) -> None:
    """Of a shallow project git makes a full copy, which would not see what the project gets later."""
    alternates = path / ".git" / "objects" / "info" / "alternates"
    if not alternates.exists():
        objects = project.folder.absolute() / project.run("rev-parse", "--git-path", "objects").stdout
        alternates.write_bytes(os.fsencode(f"{os.path.realpath(objects)}\n"))


def _upstream(project: Git) -> dict[str, str]:
    """The settings of the project's remote: ``origin``, or else the first; empty when it has none."""
    found = project.run("config", "-z", "--get-regexp", r"^remote\..*\.(url|promisor|partialclonefilter)$", check=False)
    if found.returncode not in (0, 1):
        raise refusal(found)
    remotes: dict[str, dict[str, str]] = {}
    for entry in found.stdout.split("\0"):
        name, _, value = entry.partition("\n")
        if name:
            remote, _, key = name.removeprefix("remote.").rpartition(".")
            remotes.setdefault(remote, {}).setdefault(key, value)
    remotes = {name: settings for name, settings in remotes.items() if "url" in settings}
    return remotes.get("origin") or next(iter(remotes.values()), {})


def _absolute(url: str, folder: Path) -> str:
    """An address that means the same from anywhere; only a relative path does not yet."""
    is_address = "://" in url or re.match(r"[^/]*:", url)
    return url if is_address else os.path.normpath(folder.absolute() / url)


def _point(project: Git, ref: str, head: str) -> None:
    """Let the branch of a linked worktree be ``head``, in case the agent left another branch checked out."""
    tip = project.tip(ref)
    if tip != head and ref not in project.checked_out_branches():
        project.swap_ref(ref, head, tip)


def _holds_work(project: Path, path: Path, anew: Workspace | None = None) -> bool:
    """Whether deleting ``path`` could lose something. ``anew`` is the workspace that is to take its place,
    whose branch in the project then counts for nothing."""
    git_dir = _git_dir(path)
    if git_dir is None:
        return any(path.iterdir())
    git = Git(path, git_dir=git_dir)
    try:
        return (
            _has_own_commits(Git(project), git, anew)
            or _has_changes(git, git_dir)
            or _has_busy_worktrees(git)
            or _has_own_submodule_commits(git_dir)
            # Large files that LFS took in: publishing brings their pointers only.
            or any((git_dir / "lfs" / "objects").glob("*"))
        )
    except GitProblem:
        # Broken, or cut short while it was cloned: then there is nothing but an empty .git.
        return any(entry.name != ".git" for entry in path.iterdir()) or _has_objects(git_dir)


def _has_own_commits(project: Git, git: Git, anew: Workspace | None) -> bool:
    """Whether some commit is in no ref of the project, nor came from upstream."""
    spared = f"refs/heads/{anew.branch}" if anew else None
    refs = [
        line.split(" ", 1)
        for line in project.run("for-each-ref", "--format=%(objectname) %(refname)").stdout.splitlines()
    ]
    saved = [oid for oid, ref in refs if ref != spared] + ([anew.base] if anew else [])
    own = git.run(
        "rev-list", "--max-count=1", "--ignore-missing", "HEAD" if _is_linked(git.folder) else "--all",
        "--stdin", "--not", "--remotes",
        input="".join(f"^{oid}\n" for oid in saved),
    )  # fmt: skip
    return bool(own.stdout)


def _has_changes(git: Git, git_dir: Path) -> bool:
    note = _read_note(git_dir)
    if note and note.finished:
        return bool(leftovers.pending(git, note.included))
    if all(entry.name == ".git" for entry in git.folder.iterdir()):
        return False
    return _differs_beyond_missing(git, git_dir, note.base if note else "HEAD")


def _differs_beyond_missing(git: Git, git_dir: Path, base: str) -> bool:
    """Whether a workspace that was cut short has other files than ``base``; missing ones are no wonder."""
    index = {"GIT_INDEX_FILE": str(git_dir / "orchestrion.index")}
    git.run("read-tree", base, env=index)
    changed = git.run("diff", "--no-ext-diff", "--name-only", "--diff-filter=d", env=index).stdout
    patterns = [f"--exclude-from={_INCLUDE_FILE}"] if (git.folder / _INCLUDE_FILE).is_file() else []
    extra = git.run("ls-files", "--others", "--exclude-standard", *patterns, env=index).stdout
    return bool(changed or extra)


def _has_busy_worktrees(git: Git) -> bool:
    """Whether the agent made linked worktrees of its own in which something is uncommitted."""
    if _is_linked(git.folder) or not (git.folder / ".git" / "worktrees").is_dir():
        return False
    folders = [
        Path(line.removeprefix("worktree "))
        for line in git.run("worktree", "list", "--porcelain").stdout.splitlines()
        if line.startswith("worktree ")
    ]
    return any(
        bool(Git(folder).run("status", "--porcelain").stdout)
        for folder in folders
        if folder.is_dir() and not folder.samefile(git.folder)
    )


def _has_own_submodule_commits(git_dir: Path) -> bool:
    """Whether the agent committed in a submodule: that would be nowhere else."""
    found = [objects.parent for objects in (git_dir / "modules").rglob("objects") if (objects.parent / "HEAD").exists()]
    command = ("rev-list", "--max-count=1", "--all", "--not", "--remotes")
    return any(bool(Git(folder).run(f"--git-dir={folder}", *command).stdout) for folder in found)


def _has_objects(git_dir: Path) -> bool:
    folders = (git_dir / "objects").glob("*")
    return any(folder.name != "info" and any(folder.iterdir()) for folder in folders if folder.is_dir())


def _delete(project: Path, path: Path) -> None:
    """Take a workspace away: first its name, so that a kill leaves nothing that looks like one."""
    is_linked = _is_linked(path)
    removed = path.with_name(f"{_REMOVED_PREFIX}{path.name}-{os.getpid()}")
    path.rename(removed)
    if is_linked:
        _drop_entry(Git(project), path)
    delete_tree(removed)


def _drop_entry(project: Git, path: Path) -> None:
    """Forget a linked worktree whose folder is gone, if there was one; ``worktree prune`` would forget others too."""
    assert not path.exists()
    project.run("worktree", "remove", "--force", "--force", path, check=False)


def _discard(path: Path) -> bool:
    """Delete a merge workspace that nobody uses now; whether it is gone."""
    with exclusive(path.with_name(f"{path.name}.lock")) as mine:
        if mine:
            delete_tree(path)
        return mine


def _sweep_removed(home: Path) -> None:
    for path in home.glob(f"{_REMOVED_PREFIX}*"):
        # Somebody else may be deleting it right now.
        with contextlib.suppress(FileNotFoundError):
            delete_tree(path)


def _last_used(path: Path) -> float:
    git_dir = _git_dir(path)
    signs = [path] + ([git_dir / name for name in ("HEAD", "index", "logs/HEAD", _NOTE)] if git_dir else [])
    return max((sign.stat().st_mtime for sign in signs if sign.exists()), default=0.0)


def _size(path: Path) -> int:
    """What a folder takes on the disk, in bytes."""
    total = 0
    folders = [os.fspath(path)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return total


def _git(path: Path) -> Git:
    """git in a workspace: in this one or not at all, never in a repository further up."""
    return Git(path, git_dir=_git_dir(path) or path / ".git")


def _git_dir(path: Path) -> Path | None:
    """Where ``path`` keeps its repository; None when it is not the root of one."""
    return leftovers.git_dir(path)


def _is_linked(path: Path) -> bool:
    return (path / ".git").is_file()


def _contains(folder: Path, inner: Path) -> bool:
    """Whether ``inner``, with links followed, lies in ``folder`` or is it."""
    return Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(folder))


def _write_note(path: Path, note: _Note) -> None:
    file = (_git_dir(path) or path / ".git") / _NOTE
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(asdict(note)), encoding="ascii")
    draft.replace(file)


def _read_note(git_dir: Path) -> _Note | None:
    try:
        note = _Note(**json.loads((git_dir / _NOTE).read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None
    return replace(note, included=tuple(note.included))


def _included(path: Path) -> Iterable[str]:
    git_dir = _git_dir(path)
    note = _read_note(git_dir) if git_dir else None
    return note.included if note else ()


@contextlib.contextmanager
def _disk_problems(path: Path) -> Iterator[None]:
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
