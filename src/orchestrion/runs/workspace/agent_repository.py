"""An agent's own repository, read as data: no git of ours ever runs in it.

What an agent wrote into its ``.git`` (a filter, a hook, a link to somewhere else) must not
make our git do anything. So of that folder only bytes are read here: HEAD, refs, the list
of ignored patterns, where objects are borrowed from. A folder that is not the one that we
made, or that borrows from elsewhere, is refused (``workspace_broken``); nothing that an
agent puts there (a pipe, a loop of links, a huge file) holds us up.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrion.core.errors import GitProblem
from orchestrion.runs.git import UNFINISHED

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"refs/[^\0-\x20\x7f~^:?*\[\\]+")
#: More of a small file of git's is not read, in bytes.
_SMALL = 64 * 1024
#: The same for packed refs, the index and the list of ignored patterns.
_LARGE = 64 * 1024 * 1024
_PIECE = 64 * 1024
#: So many refs are looked at.
_MOST_REFS = 100_000
_BRANCH = "refs/heads/"
#: Where git puts changes aside for the time of a merge or a rebase.
_AUTOSTASHES = ("MERGE_AUTOSTASH", "rebase-merge/autostash", "rebase-apply/autostash")
#: The same as in the user's; and a search, which has another commit than the last one in the folder.
_UNFINISHED = {**UNFINISHED, "BISECT_START": "bisect"}


@dataclass(frozen=True)
class InnerWorktree:
    """A linked worktree that the agent made of its own repository."""

    folder: Path
    #: Its commit; None: it cannot be told.
    head: str | None


class AgentRepository:
    """The repository in a workspace, as its files describe it."""

    def __init__(self, workspace: Path, linked_to: Path | None = None, *, git_dir: Path | None = None) -> None:
        """``linked_to``: for a linked worktree of the project, the git directory that its ``.git`` file must name;
        ``git_dir``: where the repository is, if not in ``.git``.
        """
        self.workspace = workspace
        self.git_dir = linked_to or git_dir or workspace / ".git"
        self._linked_to = linked_to

    @property
    def common_dir(self) -> Path:
        """Where its refs and objects are."""
        return self._linked_to.parent.parent if self._linked_to else self.git_dir

    def verify(self, alternates: bytes) -> None:
        """Refuses a repository that is not the one we made, in its place, borrowing from ``alternates``.

        Raises GitProblem (``workspace_broken``).
        """
        try:
            self._verify(alternates)
        except OSError as problem:
            raise broken(self.workspace, f"it cannot be read: {problem.strerror}") from problem

    def _verify(self, alternates: bytes) -> None:
        dot = self.workspace / ".git"
        if self._linked_to is not None:
            if self._words(dot) != f"gitdir: {self._linked_to}":
                raise broken(self.workspace, "its .git file leads elsewhere")
            return
        for folder in (dot, dot / "objects", dot / "objects" / "info", dot / "refs"):
            if folder.is_symlink() or not folder.is_dir():
                what = folder.relative_to(self.workspace)
                raise broken(self.workspace, f"{what} is not the folder that was made for it")
        if (dot / "commondir").exists():
            raise broken(self.workspace, ".git leads to another repository")
        borrows = read_bytes(dot / "objects" / "info" / "alternates", _SMALL)
        if borrows is None:
            raise broken(self.workspace, ".git is another repository than the one that was made")
        if borrows != alternates:
            raise broken(self.workspace, ".git borrows objects from elsewhere")

    def refuse_odd_alternates(self) -> None:
        """Refuses a list of places for objects for which git would wait. Raises GitProblem (``workspace_broken``)."""
        file = self.common_dir / "objects" / "info" / "alternates"
        if os.path.lexists(file) and read_bytes(file, _SMALL) is None:
            raise broken(self.workspace, ".git borrows objects from elsewhere")

    def head(self) -> str | None:
        """The commit that HEAD is; None: it is a branch without one. Raises GitProblem (``workspace_broken``)."""
        content = self._words(self.git_dir / "HEAD")
        if _COMMIT.fullmatch(content):
            return content
        if not content.startswith("ref: "):
            raise broken(self.workspace, "its HEAD cannot be read")
        return self.refs().get(content.removeprefix("ref: "))

    def branch(self) -> str | None:
        """The full name of the branch that is checked out; None: HEAD is detached, or cannot be read."""
        content = self._words(self.git_dir / "HEAD")
        return content.removeprefix("ref: ") if content.startswith("ref: ") else None

    def refs(self) -> dict[str, str]:
        """Every ref, by its full name."""
        found = dict(self._packed())
        for name, content in self._loose():
            if _COMMIT.fullmatch(content):
                found[name] = content
        return found

    def stashes(self) -> list[str]:
        """The commits of the stash, newest first, and what a merge or rebase put aside to bring it back later."""
        aside = [self._words(self.git_dir / file) for file in _AUTOSTASHES]
        found = [self.refs().get("refs/stash", "")] if self._linked_to is None else []
        lines = reversed(self._words(self.common_dir / "logs" / "refs" / "stash", _LARGE).splitlines())
        found += [line.split(" ", 2)[1] for line in lines if line.count(" ") > 2 and self._is_own_stash(line)]
        return list(dict.fromkeys(one for one in [*found, *aside] if _COMMIT.fullmatch(one)))

    def _is_own_stash(self, line: str) -> bool:
        """Whether a line of the stash's log is the agent's: of a linked worktree it is everybody's log."""
        if self._linked_to is None:
            return True
        log = self._words(self.git_dir / "logs" / "HEAD", _LARGE).splitlines()
        moves = (re.search(r"\tcheckout: moving from (\S+) to (\S+)$", entry) for entry in log)
        names = {name for move in moves if move for name in move.groups()} | {"(no branch)"}
        names.add((self.branch() or "").removeprefix(_BRANCH))
        made = re.search(r" (\d+) \S+\t(?:WIP on|On) (.+?): ", line)
        born = re.search(r" (\d+) \S+(?:\t|$)", log[0]) if log else None
        return bool(made and born and int(made[1]) >= int(born[1]) and made[2] in names)

    def logged(self) -> list[str]:
        """Commits at which HEAD or a branch was at some time, of its worktrees' too; newest first in each log."""
        logs = [self.git_dir / "logs" / "HEAD"]
        if self._linked_to is not None:  # its own worktrees are among the project's
            others = [entry for entry in _entries(self.common_dir / "worktrees") if self._is_inside(entry)]
            logs += [entry / "logs" / "HEAD" for entry in others]
        else:
            logs += [entry / "logs" / "HEAD" for entry in _entries(self.git_dir / "worktrees")]
            logs += _files_below(self.git_dir / "logs" / "refs" / "heads")
        found: dict[str, None] = {}
        for log in logs:
            for line in reversed(self._words(log, _LARGE).splitlines()):
                found.update(dict.fromkeys(word for word in line.split(" ", 2)[:2] if _COMMIT.fullmatch(word)))
        return list(found)

    def objects(self) -> list[str]:
        """Names of the objects that lie in its own store by themselves, in no pack."""
        top, found = self.common_dir / "objects", []
        if self._linked_to is None:
            for folder in _entries(top):
                if re.fullmatch(r"[0-9a-f]{2}", folder.name):
                    with suppress(OSError):
                        found += [folder.name + name for name in os.listdir(folder)]  # noqa: PTH208 - as text
        return [one for one in found if _COMMIT.fullmatch(one)][:_MOST_REFS]

    def packs(self) -> list[bytes]:
        """The lists of contents of its own packs."""
        files = sorted((self.common_dir / "objects" / "pack").glob("*.idx")) if self._linked_to is None else []
        return [content for file in files if (content := read_bytes(file, _LARGE)) is not None]

    def has_fetched(self) -> bool:
        """Whether it was brought anything from another repository."""
        return os.path.lexists(self.common_dir / "FETCH_HEAD")

    def is_sparse(self) -> bool:
        """Whether it writes only a part of its files into the folder."""
        return read_bytes(self.git_dir / "info" / "sparse-checkout", _LARGE) is not None

    def unfinished(self) -> str | None:
        """What was begun in it and not ended, in a word; None: nothing."""
        return next((what for file, what in _UNFINISHED.items() if _is_plain(self.git_dir / file)), None)

    def merged_with(self) -> list[str]:
        """Commits that a merge which is not concluded brings in."""
        return [line for line in self._words(self.git_dir / "MERGE_HEAD").split() if _COMMIT.fullmatch(line)]

    def excludes(self) -> bytes:
        """What the agent's tools ignore beside ``.gitignore``; empty when it cannot be read."""
        return read_bytes(self.common_dir / "info" / "exclude", _LARGE) or b""

    def copy_index(self, to: Path) -> bool:
        """Writes its index to a file of ours, whatever is there; False: it has none that can be read."""
        to.unlink(missing_ok=True)
        pieces = read_pieces(self.git_dir / "index", _LARGE)
        if pieces is None:
            return False
        with to.open("xb") as copy:
            copy.writelines(pieces)
        return True

    def shallow(self) -> bytes:
        """Commits whose parents it does not have, one in a line."""
        return read_bytes(self.common_dir / "shallow", _LARGE) or b""

    def worktrees(self) -> list[InnerWorktree]:
        """Linked worktrees of it that are still there."""
        entries = _entries(self.common_dir / "worktrees")
        if self._linked_to is not None:  # among the user's own
            entries = [entry for entry in entries if self._is_inside(entry)]
        found = []
        for entry in entries:
            folder = Path(self._words(entry / "gitdir")).parent
            if folder.is_absolute() and folder.is_dir() and not folder.is_symlink():
                found.append(InnerWorktree(folder, self._head_of(entry)))
        return found

    def lfs_objects(self) -> Iterator[Path]:
        """Files in its own store of LFS objects."""
        top = self.git_dir / "lfs" / "objects"
        if self._linked_to is None and top.is_dir() and not top.is_symlink():
            for folder, _, names in os.walk(top):
                yield from (Path(folder, name) for name in names)

    def _is_inside(self, entry: Path) -> bool:
        """Whether a linked worktree of the project lies in this workspace."""
        return Path(self._words(entry / "gitdir")).is_relative_to(self.workspace) and entry != self._linked_to

    def _head_of(self, git_dir: Path) -> str | None:
        content = self._words(git_dir / "HEAD")
        if _COMMIT.fullmatch(content):
            return content
        return self.refs().get(content.removeprefix("ref: "))

    def _packed(self) -> Iterator[tuple[str, str]]:
        for line in self._words(self.common_dir / "packed-refs", _LARGE).splitlines():
            commit, _, name = line.partition(" ")
            if _COMMIT.fullmatch(commit) and _REF.fullmatch(name):
                yield name, commit

    def _loose(self) -> Iterator[tuple[str, str]]:
        count = 0
        for folder, _, names in os.walk(self.common_dir / "refs"):
            for name in names:
                count += 1
                if count > _MOST_REFS:
                    raise broken(self.workspace, f"it has more than {_MOST_REFS:,} loose refs")
                ref = os.path.relpath(os.path.join(folder, name), self.common_dir)  # noqa: PTH118
                if _REF.fullmatch(ref) and not ref.endswith(".lock"):
                    yield ref, self._words(Path(folder, name))

    def _words(self, file: Path, most: int = _SMALL) -> str:
        return (read_bytes(file, most) or b"").decode("utf-8", "surrogateescape").strip()


def broken(workspace: Path, what: str) -> GitProblem:
    """The error for a workspace whose repository is not believed."""
    return GitProblem(
        f"the repository of the workspace {workspace.name} is not as it was made: {what}",
        hint=f"the workspace is kept: look into {workspace}; what is worth it can be copied from there",
        code="workspace_broken",
        workspace=str(workspace),
    )


def read_bytes(file: Path | str, most: int) -> bytes | None:
    """A plain file of at most ``most`` bytes; None for anything else. Follows no link and waits for no pipe."""
    stream = _opened(file, most)
    if stream is None:
        return None
    with stream:
        # Not as much as is allowed: Python asks for all of it at once.
        content = stream.read(os.fstat(stream.fileno()).st_size + 1)
    return content if len(content) <= most else None


def read_pieces(file: Path, most: int) -> Iterator[bytes] | None:
    """The same piece by piece, for what may be large; of a file that grows meanwhile, as much as there was."""
    stream = _opened(file, most)
    return None if stream is None else _pieces(stream)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        left = os.fstat(stream.fileno()).st_size
        while left > 0 and (piece := stream.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece


def _opened(file: Path | str, most: int) -> BinaryIO | None:
    try:
        number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    facts = os.fstat(number)
    # Looked at before anything is made of it: Python makes no stream of a folder.
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > most:
        os.close(number)
        return None
    return os.fdopen(number, "rb")


def _is_plain(file: Path) -> bool:
    try:
        mode = file.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
    except OSError:
        return []


def _files_below(folder: Path) -> list[Path]:
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names][:_MOST_REFS]
