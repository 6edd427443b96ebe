"""Which project a folder belongs to, and where that project's store is.

Asked in this order: the folder given with ``-C``, else ``ORCHESTRION_PROJECT``, else the
folder itself. Its git repository is the project: a linked worktree leads to the main
working tree, a run's workspace to the project that it was made for (the supervisor wrote
the path into its git directory). Outside git the nearest ``.orchestrion/`` upward is it.

The command line is called at every tool call of an agent, so no git is started: the few
files of git's repository layout that matter (``.git``, ``commondir``, ``config``) are
read here. Nothing is created but, beside a store, the id by which the project is known
whatever its folder is called. With ``config.py`` this is the part of the core that reads
files.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from orchestrion.core import private
from orchestrion.core.errors import EnvironmentProblem, GitProblem, InvalidInput, NotFound, StoreProblem

#: Folder in the tree that a team shares, and outside git the home of everything.
SHARED_FOLDER = ".orchestrion"
#: File in the git directory of a run's workspace; holds the absolute path of its project.
WORKSPACE_MARK = "orchestrion-project"
#: Folder in the git directory with the store and all that belongs to it.
_STORE_FOLDER = "orchestrion"
#: File beside the store with the id of this clone, and where that was.
_ID_FILE = "id"
#: The environment's way to name the project.
VARIABLE = "ORCHESTRION_PROJECT"


class Project(NamedTuple):
    """A project's folders; all paths are absolute and free of symbolic links."""

    #: The folder that people mean: the main working tree, or the one that holds ``.orchestrion/``.
    root: Path
    #: The same folder if it is a git repository.
    git_root: Path | None
    #: The git directory that all its worktrees share.
    git_common_dir: Path | None
    #: Where the database and the run folders are; it may not exist yet.
    store_dir: Path
    #: The working tree in which the caller stands: ``root``, or a linked worktree of it.
    checkout: Path
    #: The git directory of ``checkout``, with a HEAD and an index of its own.
    git_dir: Path | None = None


class Standing:
    """Where a project stands while a program works in it: an open database file moves along with its folder."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._folder = project.git_common_dir or project.root
        self._first = _identity(self._folder)

    def refuse_moved(self) -> None:
        """Raises EnvironmentProblem (``project_moved``) when the project is not where it was, StoreProblem
        (``store_missing``) when the folder of its store alone is away.
        """
        if _identity(self._folder) != self._first:
            raise EnvironmentProblem(
                f"{self._project.root} was moved or deleted while this program was at work there",
                hint="start it again where the project is now",
                code="project_moved",
            )
        refuse_missing(self._project.store_dir)


def refuse_missing(store_dir: Path) -> None:
    """Raises StoreProblem (``store_missing``) when the folder of a store that was there is away."""
    if not store_dir.is_dir():
        raise StoreProblem(
            f"{store_dir} is gone: it was moved or deleted while in use",
            hint="nothing was made in its place; put it back, and the work goes on",
            code="store_missing",
        )


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another one at the same place; None: there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Repository(NamedTuple):
    """A repository as its files describe it."""

    #: The working tree that was found, be it the main or a linked one.
    worktree: Path
    #: Its own git directory.
    git_dir: Path
    #: The git directory that all worktrees share.
    common_dir: Path

    @property
    def linked(self) -> bool:
        """Whether ``worktree`` is a linked one."""
        return self.git_dir != self.common_dir


def find_project(start: Path, explicit: Path | None, environ: Mapping[str, str]) -> Project:
    """The project of ``start``, unless ``explicit`` or the environment names another folder.

    Raises NotFound for a folder that does not exist or has no project, InvalidInput for a
    path that cannot be meant, GitProblem for a bare or broken repository.
    """
    folder, repository = _leave_workspaces(_folder_meant(start, explicit, environ))
    _refuse_unfit(repository.worktree if repository else folder)
    if repository:
        return _in_git(repository)
    _refuse_git_dir(environ)
    root = _nearest_shared_folder(folder)
    if root:
        return _outside_git(root)
    raise NotFound(
        f"no project at {folder}: it is in no git repository, and neither it nor a folder above has {SHARED_FOLDER}/",
        hint="`orchestrion init DIR` makes the folder DIR a project; -C DIR names one that is elsewhere",
        code="no_project",
        folder=str(folder),
    )


def project_at(start: Path, explicit: Path | None, environ: Mapping[str, str]) -> Project:
    """The project that ``init`` makes: the git repository of the folder meant, else that very folder."""
    folder, repository = _leave_workspaces(_folder_meant(start, explicit, environ))
    _refuse_unfit(repository.worktree if repository else folder)
    if repository:
        return _in_git(repository)
    _refuse_git_dir(environ)
    return _outside_git(folder)


def _refuse_unfit(folder: Path) -> None:
    """Neither git's lists of places nor a database can hold every path that a file system can."""
    path = os.fsencode(folder)
    if b"\n" in path or path != path.decode("utf-8", "replace").encode("utf-8"):
        raise InvalidInput(
            f"{str(folder)!r} cannot be a project: its path has a line end, or is no UTF-8",
            hint="rename the folder, or use a clone elsewhere",
            code="invalid_path",
            path=repr(str(folder)),
        )


def _refuse_git_dir(environ: Mapping[str, str]) -> None:
    """A folder that git calls a repository by a variable alone is none to us: agents would work in it directly."""
    if environ.get("GIT_DIR"):
        raise GitProblem(
            f"GIT_DIR is set to {environ['GIT_DIR']}, and the folder itself is no git repository",
            hint="a file `.git` with the line `gitdir: PATH` makes it one; or unset GIT_DIR to work without git",
            code="git_dir_set",
        )


def make_store_dir(project: Project) -> None:
    """Makes the folder of the store; in git it is the user's alone, outside it is the one that a team shares."""
    if project.git_common_dir is None:
        project.store_dir.mkdir(exist_ok=True)
    else:
        private.make_folder(project.store_dir)


def clone_id(project: Project, *, create: bool) -> str | None:
    """The id of this clone of the project, which stays when its folder is renamed or moved.

    With ``create`` one is made if there is none; a clone that was copied with its store gets one of its own, for
    two must not take each other's workspaces. None: there is none, and none could be made. Raises NotPlain where
    something else has its place: whose plans these are nobody could tell.
    """
    file, here = project.store_dir / _ID_FILE, str(project.store_dir)
    found = _read_id(file)
    if not create or (found and found.place == here):
        return found.id if found else None
    try:
        make_store_dir(project)
        if found is None:
            return _made_id(file, _Id(os.urandom(16).hex(), here))
        mine = _Id(_id_of_copy(found.id, here) if _is_copied(found, file) else found.id, here)
        _draft_of(file, mine).replace(file)
    except OSError:
        return found.id if found else None
    return mine.id


#: No file with an id is longer, in bytes: it holds that and a path.
_LONGEST_ID = 8192


class _Id(NamedTuple):
    """What the file with the id says."""

    id: str
    #: Where the store was when that was written; empty: it does not say.
    place: str


def _is_copied(found: _Id, file: Path) -> bool:
    """Whether the place that a file names still has this id, in a file of its own."""
    other = Path(found.place) / _ID_FILE
    there = None
    with suppress(private.NotPlain):
        there = _read_id(other) if found.place else None
    return there is not None and there.id == found.id and not other.samefile(file)


def _id_of_copy(original: str, here: str) -> str:
    """The same for everybody who finds the copy at the same moment."""
    from orchestrion.core.digest import sha256

    return sha256(os.fsencode(f"{original} {here}")).hexdigest()[:32]


def _made_id(file: Path, mine: _Id) -> str | None:
    draft = _draft_of(file, mine)
    with suppress(FileExistsError):  # another process was first: its id counts
        os.link(draft, file)
    draft.unlink()
    made = _read_id(file)
    return made.id if made else None


def _draft_of(file: Path, content: _Id) -> Path:
    draft = file.with_name(f"{_ID_FILE}.{os.getpid()}-{threading.get_ident()}")
    private.write(draft, f"{content.id}\n{content.place}\n", errors="surrogateescape")
    return draft


def _read_id(file: Path) -> _Id | None:
    """What a file says; None: there is none, or this user may not read it. Raises NotPlain."""
    try:
        with private.opened(file) as stream:
            words = stream.read(_LONGEST_ID).decode("utf-8", "surrogateescape")
    except private.NotPlain:
        raise
    except OSError:
        return None
    first, _, place = words.partition("\n")
    if not re.fullmatch(r"[0-9a-f]{32}", first):
        raise private.NotPlain(file, "this holds no id of a clone, which has 32 characters")
    return _Id(first, place.removesuffix("\n"))


def _folder_meant(start: Path, explicit: Path | None, environ: Mapping[str, str]) -> Path:
    if explicit is not None:
        return _existing_folder(start / explicit, f"-C {explicit}")
    if environ.get(VARIABLE):
        return _existing_folder(start / environ[VARIABLE], f"{VARIABLE}={environ[VARIABLE]}")
    return _existing_folder(start, str(start))


def _existing_folder(path: Path, asked: str) -> Path:
    """``path`` without symbolic links; refuses one that is not an existing folder."""
    with _path_problems(asked):
        folder = path.resolve(strict=True)
        if folder.is_dir():
            return folder
    raise InvalidInput(
        f"{asked!r} is not a folder",
        hint="name the project's folder",
        code="not_a_folder",
        path=str(path),
    )


@contextmanager
def _path_problems(asked: str) -> Iterator[None]:
    """Say in our words why the operating system refuses a path."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"{asked!r}: there is no such folder",
            hint="check the path; a project's folder is never made by itself",
            code="no_such_folder",
            path=asked,
        ) from error
    except PermissionError as error:
        raise EnvironmentProblem(
            f"{asked!r} may not be read",
            hint="check the folder's owner and permissions",
            code="permission",
            path=asked,
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        # A NUL byte is a ValueError, a loop of links a RuntimeError, a path that is too long an OSError.
        raise InvalidInput(
            f"{asked!r} is not a path that can be followed: {_reason(error)}",
            hint="name an existing folder; links must not lead in a circle",
            code="invalid_path",
            path=asked,
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "links lead in a circle" if isinstance(error, RuntimeError) else str(error)


def _leave_workspaces(folder: Path) -> tuple[Path, _Repository | None]:
    """The folder to judge by and its repository: a run's workspace stands for the project it was made for."""
    been: set[Path] = set()
    repository = _find_repository(folder)
    while repository and (home := _workspace_home(repository)):
        if repository.common_dir in been:
            raise InvalidInput(
                f"{repository.worktree} is marked as a workspace of a workspace, in a circle",
                hint=f"remove {repository.common_dir / WORKSPACE_MARK}, or name the project with -C DIR",
                code="invalid_path",
                path=str(repository.worktree),
            )
        been.add(repository.common_dir)
        folder = home
        repository = _find_repository(folder)
    return folder, repository


def _find_repository(folder: Path) -> _Repository | None:
    """The nearest repository upward, as git would find it; refuses a bare one."""
    with _path_problems(str(folder)):
        for place in (folder, *folder.parents):
            dot_git = place / ".git"
            if dot_git.is_file():
                return _repository_of_link(place, dot_git)
            if _is_git_dir(dot_git):
                return _Repository(place, dot_git.resolve(), dot_git.resolve())
            if (dot_git / _STORE_FOLDER).is_dir():
                # Whoever went on upward, as git does, would find another project, or make an empty one.
                raise _broken(dot_git, f"holds {dot_git / _STORE_FOLDER}, but is no git directory any more")
            if _is_git_dir(place) and _settings(place).get("bare") == "true":
                raise _bare(place)
    return None


def _is_git_dir(path: Path) -> bool:
    """Git's own test: a folder that lacks one of these is not a repository, whatever its name."""
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def _repository_of_link(place: Path, dot_git: Path) -> _Repository:
    """Follow a ``.git`` file: a linked worktree, a submodule, or a git directory kept elsewhere."""
    git_dir = _path_in(dot_git, "gitdir:", place)
    linked = (git_dir / "commondir").is_file()
    common_dir = _path_in(git_dir / "commondir", "", git_dir) if linked else git_dir
    if not _is_git_dir(common_dir):
        raise _broken(dot_git, f"leads to {common_dir}, which is not a git directory")
    if not linked and _settings(common_dir).get("bare") == "true":
        raise _bare(common_dir)
    return _Repository(place, git_dir, common_dir)


def _path_in(file: Path, prefix: str, base: Path) -> Path:
    """The path that a small file of git's holds after ``prefix``, taken from ``base``."""
    content = file.read_bytes()
    text = content.decode("utf-8", "surrogateescape").rstrip("\r\n")
    if not text.startswith(prefix) or "\0" in text or not text[len(prefix) :].strip():
        raise _broken(file, "does not hold the path that git writes there")
    target = base / text[len(prefix) :].lstrip(" ")
    if not target.is_dir():
        raise _broken(file, f"leads to {target}, which is not a folder")
    return target.resolve()


def _workspace_home(repository: _Repository) -> Path | None:
    """The project that a run's workspace was made for; None for a repository of the user's own."""
    mark = repository.common_dir / WORKSPACE_MARK
    if not mark.is_file():
        return None
    home = Path(mark.read_bytes().decode("utf-8", "surrogateescape").rstrip("\r\n"))
    if home.is_absolute():
        return _existing_folder(home, str(home))
    raise InvalidInput(
        f"{mark} does not hold the absolute path of a project",
        hint="name the project with -C DIR, or remove this workspace",
        code="invalid_path",
        path=str(mark),
    )


def _in_git(repository: _Repository) -> Project:
    root = _main_worktree(repository)
    store_dir = repository.common_dir / _STORE_FOLDER
    return Project(root, root, repository.common_dir, store_dir, repository.worktree, repository.git_dir)


def _main_worktree(repository: _Repository) -> Path:
    """The main working tree; where there is none or git does not record it, the linked one that was found."""
    if not repository.linked:
        return repository.worktree
    common_dir = repository.common_dir
    settings = _settings(common_dir)
    if settings.get("bare") == "true":
        return repository.worktree
    if "worktree" in settings:
        return _existing_folder(common_dir / settings["worktree"], settings["worktree"])
    return common_dir.parent if common_dir.name == ".git" else repository.worktree


def _settings(git_dir: Path) -> dict[str, str]:
    """``bare`` and ``worktree`` of the section ``core``; git keeps them in one of two files."""
    found: dict[str, str] = {}
    for name in ("config", "config.worktree"):
        file = git_dir / name
        if file.is_file():
            found.update(_core_section(file.read_bytes().decode("utf-8", "surrogateescape")))
    return found


def _core_section(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section, _, line = line[1:].partition("]")
        key, separator, value = line.partition("=")
        if section.strip().lower() == "core" and key.strip().lower() in ("bare", "worktree"):
            yield key.strip().lower(), _value(value) if separator else "true"


def _value(text: str) -> str:
    """A value as git reads it: comments and quotes go, a switch is ``true`` however it is spelt."""
    value = text.strip()
    if value.startswith('"'):
        value = value[1:].rpartition('"')[0].replace('\\"', '"').replace("\\\\", "\\")
    else:
        value = value.partition("#")[0].partition(";")[0].rstrip()
    return "true" if value.lower() in ("true", "yes", "on", "1") else value


def _nearest_shared_folder(folder: Path) -> Path | None:
    with _path_problems(str(folder)):
        for place in (folder, *folder.parents):
            if (place / SHARED_FOLDER).is_dir():
                return place
    return None


def _outside_git(root: Path) -> Project:
    return Project(root, None, None, root / SHARED_FOLDER, root)


def _bare(place: Path) -> GitProblem:
    return GitProblem(
        f"{place} is a bare git repository: it has no files to work on",
        hint="go into one of its worktrees, or clone it and use the clone",
        code="bare_repository",
        path=str(place),
    )


def _broken(file: Path, what: str) -> GitProblem:
    return GitProblem(
        f"{file} {what}",
        hint="`git status` there says more; if a main repository was moved, run `git worktree repair` in it",
        code="broken_repository",
        path=str(file),
    )
