"""A run's own copy of the repository: made at a commit, filled, set up, and known from then on.

A workspace lies outside the project. By default it is a repository of its own that borrows
the project's objects and shares nothing else; as ``worktree`` it is a linked worktree, which
shares configuration, stash and refs. It gets the settings that change content from the
project, LFS content and submodules as the user has them, and a ``origin`` from which can be
fetched. Beside it lies a git directory of ours (``trusted``).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.errors import InvalidInput
from orchestrion.core.project import WORKSPACE_MARK
from orchestrion.runs.git import Git
from orchestrion.runs.workspace import carried, drivers, removal, submodules, trusted, work
from orchestrion.runs.workspace.carried import Carried, Setting
from orchestrion.runs.workspace.places import ISOLATIONS, Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.runs.workspace.trusted import TrustedRepository

_INCLUDE_FILE = ".worktreeinclude"
#: Writing files waits for the disk; several at a time wait less.
_SIDE_BY_SIDE = ("-c", "checkout.workers=8", "-c", "checkout.thresholdForParallelism=100")
#: Where a push from a workspace goes: nowhere, and the name says so.
NO_PUSH = "/pushing-is-off-in-a-workspace/see-the-setting-workspace.push"


def prepare(
    project: ProjectRepository,
    home: Path,
    run: str,
    base: str,
    isolation: str = "clone",
    *,
    may_push: bool = False,
    signs: bool = False,
    earlier: Sequence[str] = (),
) -> Workspace:
    """Make the workspace of ``run`` (``R31``) at the commit ``base``, on branch orchestrion/run/R31.

    What a killed ``prepare`` left is removed and made anew; what holds work is moved
    aside to ``R31.kept-1``. Files that match ``.worktreeinclude`` are copied. The work of ``earlier``
    runs is found there by the names of their branches. Raises
    InvalidInput, GitProblem, and EnvironmentProblem when the disk refuses.
    """
    _check_names(run, isolation)
    workspace = Workspace(home.absolute() / run, f"orchestrion/run/{run}", base, isolation)
    drivers.refuse_missing(project, base)
    with removal.disk_problems(workspace.path):
        removal.make_room(project, workspace)
        private.make_folder(workspace.path.parent, parents=True)
        if isolation == "clone":
            ours = _make_clone(project, workspace, may_push, signs)
            _show_earlier(project.git, workspace.path / ".git", earlier)
        else:
            ours = _make_worktree(project, workspace)
        modules = trusted.agent_repository(ours).git_dir / "modules"
        submodules.fill(project.git, base, project.users_checkout, workspace.path, modules)
        if _include(project.users_checkout, workspace.path):
            work.record_ground(project, workspace)
        ours = trusted.found(project.common_dir, workspace.path, project.handed_on) or ours
        ours.remember(finished=True)
    return workspace


def go_on(project: ProjectRepository, workspace: Workspace, commit: str) -> None:
    """Bring the work of an earlier run, which the project has, into a fresh workspace. Raises GitProblem."""
    ours = work.repository_of(project, workspace)
    git_dir = trusted.agent_repository(ours).git_dir
    # No agent has seen this workspace yet, so its own repository can be asked.
    Git(workspace.path, git_dir=git_dir).run("reset", "--hard", "--quiet", commit)
    ours.take_index(git_dir / "index")


def fit_out(project: ProjectRepository, ours: TrustedRepository, commit: str) -> None:
    """Makes a working tree of ours at ``commit`` fit for checks: a repository to ask, submodules, included files.

    What a check writes into that repository is not believed, and goes before the next use. Raises GitProblem.
    """
    handed_on = project.handed_on
    git = own_repository(project.common_dir, ours.tree, commit, handed_on)
    dot = ours.tree / ".git"
    with (dot / "objects" / "info" / "alternates").open("ab") as places:
        places.write(os.fsencode(f"{ours.path / 'objects'}\n"))
    with (dot / "config").open("ab") as config:
        config.write(carried.as_config(handed_on.content))
    carried.write_info(handed_on, dot, handed_on.excludes)
    carried.copy_files(handed_on, dot)
    (dot / WORKSPACE_MARK).write_text(f"{project.root.resolve()}\n", encoding="utf-8")
    _copy_refs(project.git, dot)
    git.run("update-ref", "--no-deref", "HEAD", commit)
    shutil.copy2(ours.path / "index", dot / "index")
    submodules.fill(ours.git, commit, project.users_checkout, ours.tree, dot / "modules")
    _include(project.users_checkout, ours.tree)


def own_repository(common_dir: Path, path: Path, commit: str, handed_on: Carried = carried.NOTHING) -> Git:
    """A repository at ``path`` that borrows the project's objects and has nothing else of it; ``commit`` is
    one of its commits. Raises GitProblem.
    """
    path.mkdir(parents=True, exist_ok=True)
    kind = "sha256" if len(commit) == 64 else "sha1"
    Git(path).run("init", "--quiet", "--template=", f"--object-format={kind}")
    alternates = path / ".git" / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_bytes(trusted.as_alternates(trusted.lent_by(common_dir, handed_on)))
    if (common_dir / "shallow").is_file():
        shutil.copy2(common_dir / "shallow", path / ".git" / "shallow")
    return Git(path, git_dir=path / ".git")


def _make_clone(project: ProjectRepository, workspace: Workspace, may_push: bool, signs: bool) -> TrustedRepository:
    handed_on = project.handed_on
    ours = trusted.make(project.common_dir, workspace, handed_on)
    git = own_repository(project.common_dir, workspace.path, workspace.base, handed_on)
    dot = workspace.path / ".git"
    file_system = trusted.file_system_of(git)
    # Whoever stands in the workspace is led back to the project.
    (dot / WORKSPACE_MARK).write_text(f"{project.root.resolve()}\n", encoding="utf-8")
    settings = [
        ("commit.gpgsign", "true" if signs else "false"),
        ("tag.gpgsign", "false"),
        ("gc.auto", "0"),
        *handed_on.content,
        *_origin(project, handed_on, may_push),
    ]
    with (dot / "config").open("ab") as config:
        config.write(carried.as_config(settings))
    carried.write_info(handed_on, dot, handed_on.excludes)
    carried.copy_files(handed_on, dot)
    _copy_refs(project.git, dot)
    git.run("symbolic-ref", "HEAD", f"refs/heads/{workspace.branch}")
    # Not checkout: that one calls it a success when files could not be written, or who wrote them was killed.
    git.run(*_SIDE_BY_SIDE, "reset", "--quiet", "--hard", workspace.base)
    ours.take_index(dot / "index")
    ours.remember(
        file_system=dict(file_system),
        excludes=handed_on.excludes.decode("utf-8", "surrogateescape"),
        alternates=os.fsdecode((dot / "objects" / "info" / "alternates").read_bytes()),
    )
    ours.configure(handed_on)
    return ours


def _make_worktree(project: ProjectRepository, workspace: Workspace) -> TrustedRepository:
    project.git.run(
        "worktree", "add", "--quiet", "--force", "--no-track", "--no-checkout", "-B",
        workspace.branch, workspace.path, workspace.base,
    )  # fmt: skip
    ours = trusted.make(project.common_dir, workspace, project.handed_on)
    linked_to = trusted.linked_git_dir(workspace.path, project.common_dir)
    assert linked_to is not None, "git made it a moment ago"
    # Filters look for their files in a worktree's own git directory.
    carried.copy_files(project.handed_on, linked_to)
    Git(workspace.path, git_dir=linked_to).run(*_SIDE_BY_SIDE, "reset", "--quiet", "--hard")
    ours.take_index(linked_to / "index")
    ours.remember(linked_to=str(linked_to))
    return ours


def settings_of_worktree(project: ProjectRepository, may_push: bool, environ: Mapping[str, str]) -> dict[str, str]:
    """What an agent in a linked worktree must not do, as variables: its configuration is the user's own file."""
    settings = [("core.hooksPath", os.devnull)]
    if not may_push:
        settings += [(f"remote.{name}.pushurl", NO_PUSH) for name in _remotes(project.handed_on)]
    given = environ.get("GIT_CONFIG_COUNT", "")
    first = int(given) if given.isdecimal() else 0
    found = {"GIT_CONFIG_COUNT": str(first + len(settings))}
    for number, (key, value) in enumerate(settings, first):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return found


def _origin(project: ProjectRepository, handed_on: Carried, may_push: bool) -> list[Setting]:
    """The project's upstream as ``origin``: from it can be fetched, to it cannot be pushed unless that is set."""
    remotes = _remotes(handed_on)
    remote = remotes.get("origin") or next(iter(remotes.values()), None)
    if remote is None:
        return []
    url = _absolute(remote["url"], project.root)
    found = [("remote.origin.url", url), ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")]
    if not may_push:
        found.append(("remote.origin.pushurl", NO_PUSH))
    # Of a partial clone: what is missing comes from upstream when it is needed.
    found += [(f"remote.origin.{key}", remote[key]) for key in ("promisor", "partialclonefilter") if key in remote]
    return [*found, *handed_on.reaching(url)]


def _remotes(handed_on: Carried) -> dict[str, dict[str, str]]:
    """The remotes that have an address, with their settings."""
    remotes: dict[str, dict[str, str]] = {}
    for key, value in handed_on.effective.items():
        section, _, rest = key.partition(".")
        name, _, field = rest.rpartition(".")
        if section == "remote" and name:
            remotes.setdefault(name, {})[field] = value
    return {name: settings for name, settings in remotes.items() if settings.get("url")}


def _absolute(url: str, folder: Path) -> str:
    """An address that means the same from anywhere; only a relative path does not yet."""
    is_address = "://" in url or re.match(r"[^/]*:", url)
    return url if is_address else os.path.normpath(folder.absolute() / url)


def _copy_refs(project: Git, dot: Path) -> None:
    """The project's branches as those of ``origin``, and its tags; refs of ours would only be noise, in thousands."""
    lines = project.run(
        "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"
    ).stdout.splitlines()
    shown = [
        line.replace(" refs/heads/", " refs/remotes/origin/", 1)
        for line in lines
        if " refs/heads/orchestrion/" not in line
    ]
    if shown:
        (dot / "packed-refs").write_bytes(
            os.fsencode("# pack-refs with: sorted \n" + "".join(f"{one}\n" for one in shown))
        )


def _show_earlier(project: Git, dot: Path, runs: Sequence[str]) -> None:
    """Makes ``orchestrion/run/R6`` mean in a workspace what that run left; it is no branch there."""
    for run in runs:
        commit = project.tip(f"refs/orchestrion/runs/{run}")
        if commit is not None:
            file = dot / "refs" / "orchestrion" / "run" / run
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{commit}\n", encoding="ascii")


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


def _contains(folder: Path, inner: Path) -> bool:
    """Whether ``inner``, with links followed, lies in ``folder`` or is it."""
    return Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(folder))


def _check_names(run: str, isolation: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", run):
        raise InvalidInput(f"{run!r} is not the id of a run", hint="a run is named like R31", code="bad_run_id")
    if isolation not in ISOLATIONS:
        raise InvalidInput(
            f"there is no isolation {isolation!r}", hint=f"use one of {', '.join(ISOLATIONS)}", code="bad_isolation"
        )
