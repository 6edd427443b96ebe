"""A git directory of our own beside each workspace, and all that our git does there.

``workspaces/R31`` is the agent's; ``workspaces/R31.git`` is ours: configuration, attributes,
ignored patterns and index are written by us, objects are borrowed from the project and from
the workspace. Our git is given this directory with the workspace as its tree, so it sees
the agent's files and none of the agent's settings. A note in it says what the workspace
was made from, and what was there before the agent came.

An agent can find that directory all the same. So each time it is used again it is looked at
first (no link, no pipe, nothing that leads elsewhere), its configuration is written anew, and
note and index must be as we left them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.digest import keyed, sha256
from orchestrion.core.errors import GitProblem
from orchestrion.core.project import refuse_missing
from orchestrion.runs.git import Git
from orchestrion.runs.workspace import carried, lfs
from orchestrion.runs.workspace.agent_repository import AgentRepository, broken, read_bytes, read_pieces
from orchestrion.runs.workspace.carried import Carried, Setting
from orchestrion.runs.workspace.places import Workspace, git_dir_beside

#: In our git directory, the commit that is handed over; a ref, because only refs can be fetched everywhere.
HANDOVER_REF = "refs/orchestrion/head"
#: Further commits that are handed over, each by a name of its own.
KEPT_REFS = "refs/orchestrion/kept"

_NOTE = "orchestrion.json"
_COMMIT = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ALWAYS = (("core.bare", "false"), ("core.logallrefupdates", "false"), ("core.safecrlf", "false"), ("gc.auto", "0"))
#: Settings of a fresh repository that say what the file system can do.
_OF_FILE_SYSTEM = ("core.filemode", "core.ignorecase", "core.symlinks", "core.precomposeunicode")


@dataclass(frozen=True)
class Note:
    """What we know of a workspace."""

    #: The commit it was made from.
    base: str
    #: Whether it was made to its end; before, no agent has seen it.
    finished: bool = False
    #: The tree of all that was there when the agent came, if that was not the base alone.
    ground: str | None = None
    #: Repositories that were there then, each with a slash at its end.
    ground_nested: tuple[str, ...] = ()
    #: What we wrote into the list of ignored patterns of the agent's repository.
    excludes: str = ""
    #: From where the agent's repository borrows objects.
    alternates: str = ""
    #: Of a linked worktree, the git directory that it has in the project; empty for a clone.
    linked_to: str = ""
    #: What the file system of the workspace can do, as git found it.
    file_system: dict[str, str] = field(default_factory=dict)
    #: The commits that were, or were about to be, published as the run's work.
    published: tuple[str, ...] = ()
    #: SHA-256 of our index as we left it: what somebody else wrote into it is not believed.
    index: str = ""


class TrustedRepository:
    """Our git directory of one workspace."""

    def __init__(self, path: Path, tree: Path, note: Note, key: bytes = b"") -> None:
        """``key`` seals the note; a directory that has none of its own needs no key."""
        self.path = path
        self.tree = tree
        self.note = note
        self._key = key
        self.git = Git(tree, git_dir=path, ours=True)

    def remember(self, **facts: object) -> None:
        """Writes facts of the note, all or none."""
        self.note = replace(self.note, **facts)  # type: ignore[arg-type]
        told = json.dumps(asdict(self.note)).encode("utf-8", "surrogateescape")
        draft = self.path / f"{_NOTE}.new"
        draft.write_bytes(_sealed(self._key, told) + b"\n" + told)
        draft.replace(self.path / _NOTE)

    def configure(self, handed_on: Carried) -> None:
        """Writes our configuration anew: whatever an agent wrote there does not count."""
        file_system = [(key, self.note.file_system[key]) for key in _OF_FILE_SYSTEM if key in self.note.file_system]
        settings = [*as_in_project(handed_on), *_promised(handed_on), *file_system]
        _configure(self.path, handed_on, self.note.base, settings)

    def borrow(self, objects: Path) -> None:
        """Finds objects in one more place."""
        file = self.path / "objects" / "info" / "alternates"
        line = os.fsencode(f"{objects}\n")
        if b"\n" not in os.fsencode(objects) and line not in file.read_bytes():
            with file.open("ab") as places:
                places.write(line)

    def borrow_only(self, objects: Iterable[Path]) -> None:
        """Finds objects in these other places alone."""
        (self.path / "objects" / "info" / "alternates").write_bytes(as_alternates(objects))

    def take_index(self, index: Path) -> None:
        """Takes over an index, with what it knows of the files: nothing has to be read again."""
        shutil.copy2(index, self.path / "index")
        self.seal_index()

    def take_shallow(self, content: bytes) -> None:
        """Which commits have no parents here: the agent's repository may have fetched more history, or cut it."""
        lines = [line for line in content.split() if _COMMIT.fullmatch(line)]
        file = self.path / "shallow"
        if lines:
            file.write_bytes(b"".join(line + b"\n" for line in lines))
        else:
            file.unlink(missing_ok=True)

    def exclude(self, patterns: bytes) -> None:
        """What our git ignores here, beside ``.gitignore``."""
        (self.path / "info" / "exclude").write_bytes(patterns)

    def seal_index(self) -> None:
        """Remembers how our index is now."""
        self.remember(index=self._digest_of_index())

    def sound_index(self, commit: str) -> dict[str, str]:
        """The environment of our index; made anew at ``commit`` where it is not as we left it."""
        (self.path / "index.lock").unlink(missing_ok=True)
        if self.note.index and self.note.index == self._digest_of_index():
            return self.in_other_index("index")
        return self.begin_index("index", None, commit)

    def _digest_of_index(self) -> str:
        pieces = read_pieces(self.path / "index", 1 << 30)
        if pieces is None:
            return ""
        digest = sha256()
        for piece in pieces:
            digest.update(piece)
        return digest.hexdigest()

    def begin_index(self, name: str, agent: AgentRepository | None, commit: str) -> dict[str, str]:
        """An index of this directory at ``commit``, and the environment in which git uses it.

        The index of an agent's repository is not believed, but may spare reading every file.
        """
        index, file = self.in_other_index(name), self.path / name
        file.unlink(missing_ok=True)
        if agent is not None and agent.copy_index(file):
            if self.git.run("read-tree", "--reset", commit, env=index, check=False).returncode == 0:
                return index
            file.unlink(missing_ok=True)
        self.git.run("read-tree", commit, env=index)
        return index

    def in_other_index(self, name: str) -> dict[str, str]:
        """The environment in which git uses another index of this directory."""
        return {"GIT_INDEX_FILE": str(self.path / name)}


def make(common_dir: Path, workspace: Workspace, handed_on: Carried) -> TrustedRepository:
    """Makes our git directory of a workspace anew."""
    path = git_dir_beside(workspace.path)
    if path.is_symlink() or (os.path.lexists(path) and not path.is_dir()):
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
    objects = lent_by(common_dir, handed_on)
    if workspace.isolation == "clone":
        objects.append(workspace.path / ".git" / "objects")
    settings = [*as_in_project(handed_on), *_promised(handed_on)]
    repository = bare(path, workspace.path, handed_on, workspace.base, objects, settings, _key_of(common_dir))
    copy_needed(handed_on, common_dir, repository)
    repository.remember(base=workspace.base)
    return repository


def copy_needed(handed_on: Carried, common_dir: Path, ours: TrustedRepository) -> None:
    """What our git needs of the project's git directory: files of filters, and where history is cut off."""
    carried.copy_files(handed_on, ours.path)
    if (common_dir / "shallow").is_file():
        shutil.copy2(common_dir / "shallow", ours.path / "shallow")


def _configure(path: Path, handed_on: Carried, head: str, settings: Iterable[Setting]) -> None:
    for folder in ("objects/info", "objects/pack", "refs/heads", "info"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    ours = [*_format(head), *_ALWAYS, *settings, *handed_on.content]
    (path / "config").write_bytes(carried.as_config(ours))
    carried.write_info(handed_on, path, handed_on.excludes)
    (path / "HEAD").write_text(f"{head}\n", encoding="ascii")


def bare(
    path: Path,
    tree: Path,
    handed_on: Carried,
    head: str,
    objects: Iterable[Path],
    settings: Iterable[Setting] = (),
    key: bytes = b"",
) -> TrustedRepository:
    """A git directory of ours at ``path`` for the files in ``tree``, at the commit ``head``, which borrows objects."""
    _refuse_bent(path, tree)
    _configure(path, handed_on, head, settings)
    (path / "objects" / "info" / "alternates").write_bytes(as_alternates(objects))
    return TrustedRepository(path, tree, Note(head), key)


def found(common_dir: Path, workspace: Path, handed_on: Carried) -> TrustedRepository | None:
    """Our git directory of the workspace at this path; None: it has none, as in version 0.1.0, or half of one.

    Raises GitProblem (``workspace_broken``) when somebody put something else in its place, or changed the note.
    """
    path = git_dir_beside(workspace)
    _refuse_bent(path, workspace)
    content = read_bytes(path / _NOTE, 16 * 1024 * 1024)
    if content is None:
        return None
    seal, _, told = content.partition(b"\n")
    key = _key_of(common_dir)
    if seal != _sealed(key, told):
        raise broken(workspace, f"{path / _NOTE} is not as we wrote it")
    ours = TrustedRepository(path, workspace, Note(**json.loads(told.decode("utf-8", "surrogateescape"))), key)
    try:
        ours.configure(handed_on)
    except PermissionError as problem:
        raise broken(workspace, f"{problem.filename} may not be written") from problem
    return ours


#: No file with a key is longer, in bytes.
_LONGEST_KEY = 1024


def _key_of(common_dir: Path) -> bytes:
    """What our notes are sealed with: a secret of this clone, as far from a workspace as its store. Raises NotPlain
    where something else has its place.
    """
    file = common_dir / "orchestrion" / "seal"
    if os.path.lexists(file):
        return _read_key(file)
    refuse_missing(file.parent)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:  # noqa: PTH123
        written.write(os.urandom(32).hex().encode())
    with suppress(FileExistsError):  # another process was first
        os.link(draft, file)
    draft.unlink()
    return _read_key(file)


def _read_key(file: Path) -> bytes:
    with private.opened(file) as stream:
        key = stream.read(_LONGEST_KEY + 1)
    if not 0 < len(key) <= _LONGEST_KEY:
        raise private.NotPlain(file, "this holds no key of ours")
    return key


def _sealed(key: bytes, content: bytes) -> bytes:
    return keyed(key, content).encode()


#: What is ours in such a directory, from its top; each is looked at for links.
_FOLDERS = ("", "info", "objects", "objects/info", "objects/pack", "refs", "refs/orchestrion")
#: Files with which git would look somewhere else, or at something else.
_LEADING_ELSEWHERE = ("commondir", "gitdir", "config.worktree", "info/grafts", "info/sparse-checkout")


def _refuse_bent(path: Path, tree: Path) -> None:
    """Raises GitProblem when a directory of ours, or a part of it, is no plain one, or leads elsewhere."""
    if not os.path.lexists(path):
        return
    try:
        bent = next((path / folder for folder in _FOLDERS if (path / folder).is_symlink()), None)
        bent = bent or next((entry for folder in _FOLDERS for entry in _odd_in(path / folder)), None)
        bent = bent or next((path / file for file in _LEADING_ELSEWHERE if os.path.lexists(path / file)), None)
        is_folder = path.is_dir()
    except PermissionError as problem:
        raise broken(tree, f"{problem.filename} may not be read") from problem
    if bent is not None or not is_folder:
        raise broken(tree, f"{bent or path} is not as we made it")


def _odd_in(folder: Path) -> list[Path]:
    """What is neither a plain file nor a folder there."""
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if not entry.is_file(follow_symlinks=False) and not entry.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def agent_repository(ours: TrustedRepository) -> AgentRepository:
    """The agent's repository in a workspace."""
    linked_to = Path(ours.note.linked_to) if ours.note.linked_to else None
    return AgentRepository(ours.tree, linked_to)


def linked_git_dir(workspace: Path, common_dir: Path) -> Path | None:
    """The git directory in the project of the linked worktree at ``workspace``; None: it is none of the project's."""
    words = (read_bytes(workspace / ".git", 64 * 1024) or b"").decode("utf-8", "surrogateescape").strip()
    found = Path(words.removeprefix("gitdir: "))
    if not words.startswith("gitdir: ") or found.parent != common_dir / "worktrees":
        return None
    back = (read_bytes(found / "gitdir", 64 * 1024) or b"").decode("utf-8", "surrogateescape").strip()
    return found if Path(back) == workspace / ".git" else None


def lent_by(common_dir: Path, handed_on: Carried) -> list[Path]:
    """The places from which a workspace, or a directory of ours, borrows the project's objects."""
    storage = handed_on.effective.get("lfs.storage")
    return [objects_of(common_dir), *([lfs.lent_by(common_dir, storage)] if storage else [])]


def as_alternates(places: Iterable[Path]) -> bytes:
    """The file in which git has the places that objects are borrowed from."""
    return b"".join(os.fsencode(f"{place}\n") for place in places)


def objects_of(git_dir: Path) -> Path:
    """Where a repository keeps its objects."""
    return Path(os.path.realpath(git_dir / "objects"))


def file_system_of(config: Git) -> list[Setting]:
    """What a repository that git made just now says of its file system."""
    answer = config.run("config", "--local", "--list", "-z").stdout.split("\0")
    settings = [entry.partition("\n")[::2] for entry in answer if entry]
    return [(key, value) for key, value in settings if key in _OF_FILE_SYSTEM]


def _format(head: str) -> list[Setting]:
    # A commit's name is as long as the hash of its repository.
    if len(head) == 64:
        return [("core.repositoryformatversion", "1"), ("extensions.objectformat", "sha256")]
    return [("core.repositoryformatversion", "0")]


def as_in_project(handed_on: Carried) -> list[Setting]:
    """What the project's repository says of its file system."""
    return [(key, handed_on.effective[key]) for key in _OF_FILE_SYSTEM if key in handed_on.effective]


def _promised(handed_on: Carried) -> list[Setting]:
    """Of a partial clone: what is missing comes from where the project gets it."""
    return [
        (key, value)
        for key, value in handed_on.effective.items()
        if key.startswith("remote.")
        and key.rpartition(".")[2] in ("url", "promisor", "partialclonefilter")
        and handed_on.effective.get(f"{key.rpartition('.')[0]}.promisor") == "true"
    ]


def refuse_if_gone(workspace: Path) -> None:
    """Raises GitProblem for a workspace whose folder is not there."""
    if not workspace.is_dir():
        raise GitProblem(
            f"the workspace {workspace.name} is gone",
            hint="somebody deleted or renamed it; `orchestrion show RUN` says what was saved of it before",
            code="workspace_broken",
        )
