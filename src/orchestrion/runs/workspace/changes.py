"""What a run changed, file by file, as git has it between two commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from sys import intern

from orchestrion.runs.git import DETECTED, WITHOUT_INDEX, Blob, Git
from orchestrion.runs.workspace.agent_repository import read_bytes
from orchestrion.runs.workspace.places import Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository

KINDS = {"A": "created", "M": "modified", "T": "modified", "D": "deleted", "R": "moved", "C": "copied"}
_GITLINK = "160000"
_GONE = "000000"
#: Lines added and removed; None where there are none, in what git takes for binary.
_Lines = tuple[int | None, int | None]
#: A content larger than this is large, in bytes.
_LARGE_BYTES = 64 * 1024
#: So many paths are named in one call of git.
_ASKED_AT_ONCE = 200
#: While an agent works, lines are counted of so many untracked files at most, each of so many bytes at most.
_COUNTED_FILES = 500
_COUNTED_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that was created, modified, deleted, moved or copied."""

    #: Where it is, or was if it is deleted, from the root of the repository.
    path: str
    #: ``created``, ``modified``, ``deleted``, ``moved`` or ``copied``.
    kind: str
    #: Where a moved file was, or what a copied one was copied from.
    old_path: str | None
    #: Lines added; None when git takes the content for binary.
    lines_added: int | None
    #: Lines removed; None as above.
    lines_removed: int | None
    #: SHA-256 of the new content in hex (of a link: its target); None when deleted, a submodule, or not measured.
    sha256: str | None
    #: Bytes of the new content; None as above.
    size: int | None
    #: The new mode as git writes it, ``100644``; None when deleted.
    mode: str | None


@dataclass(frozen=True, slots=True)
class _Raw:
    """One entry of ``git diff-tree --raw``."""

    kind: str
    path: str
    old_path: str | None
    mode: str
    oid: str

    @property
    def has_content(self) -> bool:
        """Whether there is something to measure: it is not gone, and no submodule."""
        return self.mode not in (_GITLINK, _GONE)


def changes(git: Git, base: str, head: str, *, measured: bool = True) -> list[FileChange]:
    """The changes from ``base`` to ``head``, moves and copies recognised; contents are read only if ``measured``."""
    said = git.fields(
        "diff-tree", "-r", "-z", "--raw", "--numstat", "--no-abbrev", "--no-ext-diff", "--no-textconv",
        *DETECTED, "--ignore-submodules=none", base, head,
        env=WITHOUT_INDEX,
    )  # fmt: skip
    return list(_changes(git, said, measured))


def _changes(git: Git, said: Iterable[str], measured: bool) -> Iterator[FileChange]:
    """One by one, of what git said: its entries, its counts and the contents are gone through side by side."""
    lines = _Counts(said)
    # What is large is measured once, however often it lies there.
    large: dict[str, Blob] = {}
    asked = (one.oid for one in _raw(said) if one.has_content and one.oid not in large)
    with closing(git.blobs(asked)) as blobs:
        for entry in _raw(said):
            blob = (large.get(entry.oid) or next(blobs)) if measured and entry.has_content else None
            if blob and blob.size > _LARGE_BYTES:
                large[entry.oid] = blob
            yield _change(entry, lines.of(entry.path), blob)


def changes_of(project: ProjectRepository, workspace: Workspace, head: str) -> list[FileChange]:
    """What a run changed from its base to ``head``, which is published. Raises GitProblem."""
    return changes(project.git, workspace.base, head)


def tree(git: Git, commit: str, paths: Iterable[str]) -> dict[str, FileChange]:
    """What a commit has at these paths, measured; a path that is no file there is left out. Raises GitProblem."""
    entries = _entries(git, commit, paths)
    contents = [entry.oid for entry in entries if entry.mode != _GITLINK]
    blobs = {blob.oid: blob for blob in git.blobs(dict.fromkeys(contents))} if contents else {}
    return {entry.path: _change(entry, (None, None), blobs.get(entry.oid)) for entry in entries}


def listed(git: Git, commit: str, paths: Iterable[str]) -> list[str]:
    """Those of the paths that are files in a commit. Raises GitProblem."""
    return [entry.path for entry in _entries(git, commit, paths)]


def _entries(git: Git, commit: str, paths: Iterable[str]) -> list[_Raw]:
    wanted, found = list(dict.fromkeys(paths)), []
    for start in range(0, len(wanted), _ASKED_AT_ONCE):
        piece = wanted[start : start + _ASKED_AT_ONCE]
        for line in git.lines("--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit, "--", *piece):
            facts, _, path = line.partition("\t")
            mode, kind, oid = facts.split(" ")
            if kind != "tree":
                found.append(_Raw("modified", path, None, mode, oid))
    return found


@dataclass(frozen=True, slots=True)
class Touched:
    """A file that differs from the base, committed or not."""

    path: str
    #: ``created``, ``modified`` or ``deleted``: a moved file is one deleted and one created.
    kind: str
    #: None: it is no text, or too large to be counted in passing.
    lines_added: int | None = None
    lines_removed: int | None = None


def working_changes(git: Git, base: str) -> list[Touched]:
    """What differs from ``base`` in a working tree at this moment, untracked files included. Raises GitProblem.

    Repositories inside it are not entered. A binary file that was written anew, with the same
    content, counts as modified: git would have to write its index to know better.
    """
    said = git.fields(
        "--no-optional-locks", "-c", "diff.autoRefreshIndex=false",
        "diff", "-z", "--raw", "--numstat", "--no-abbrev", "--no-renames", "--no-relative",
        "-O/dev/null", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all", base, "--",
    )  # fmt: skip
    lines = dict(_counted(said))
    # A file with another time than git remembers, but the same content, is listed without lines.
    kinds = {entry.path: entry.kind for entry in _raw(said) if entry.path in lines}
    listed = git.lines("--no-optional-locks", "ls-files", "-z", "--others", "--exclude-standard")
    others = [path for path in listed if not path.endswith("/")]
    # A file of the base that is there, but not tracked any more, counts as both: deleted, and not.
    again = kinds.keys() & set(others)
    tracked = [
        Touched(path, "modified") if path in again else Touched(path, kind, *lines[path])
        for path, kind in kinds.items()
    ]
    created = [
        _untracked(f"{git.folder}/{path}" if place < _COUNTED_FILES else None, path)
        for place, path in enumerate(others)
        if path not in again
    ]
    return [*tracked, *created]


def _untracked(file: str | None, path: str) -> Touched:
    """A new file; its lines are counted only where it is said to be."""
    lines = _lines_of(file) if file else None
    return Touched(path, "created", lines, None if lines is None else 0)


def _lines_of(file: str) -> int | None:
    """Lines of a small text, as git would count them; None for anything else, and for what is gone already."""
    content = read_bytes(file, _COUNTED_BYTES)
    if content is None or b"\0" in content[:8000]:
        return None
    return content.count(b"\n") + (bool(content) and not content.endswith(b"\n"))


def _raw(said: Iterable[str]) -> Iterator[_Raw]:
    """The raw entries, which come first."""
    fields = iter(said)
    for field in fields:
        if not field.startswith(":"):
            return
        _, mode, _, oid, kind = field.split(" ")
        first = next(fields)
        old, path = (first, next(fields)) if kind[0] in "RC" else (None, first)
        # U: the agent is in the middle of a merge.
        yield _Raw(KINDS.get(kind[0], "modified"), path, old, intern(mode), oid)


def _counted(said: Iterable[str]) -> Iterator[tuple[str, _Lines]]:
    """Paths with the lines added and removed, which come after the raw entries and in the same order."""
    fields = iter(said)
    for field in fields:
        if field.startswith(":"):
            for _ in range(2 if field.rpartition(" ")[2][0] in "RC" else 1):
                next(fields)
        elif field:
            added, removed, path = field.split("\t", 2)
            if not path:
                _, path = next(fields), next(fields)
            yield path, (_count(added), _count(removed))


class _Counts:
    """The lines of each path, looked up in about the order in which git tells them."""

    def __init__(self, said: Iterable[str]) -> None:
        self._told = _counted(said)
        self._ahead: dict[str, _Lines] = {}

    def of(self, path: str) -> _Lines:
        """Lines added and removed; None and None where git has not said any."""
        while path not in self._ahead:
            other, lines = next(self._told, (path, (None, None)))
            self._ahead[other] = lines
        return self._ahead.pop(path)


def _count(number: str) -> int | None:
    return None if number == "-" else int(number)


def _change(entry: _Raw, lines: _Lines, blob: Blob | None) -> FileChange:
    return FileChange(
        path=entry.path,
        kind=entry.kind,
        old_path=entry.old_path,
        lines_added=lines[0],
        lines_removed=lines[1],
        sha256=blob.sha256 if blob else None,
        size=blob.size if blob else None,
        mode=None if entry.mode == _GONE else entry.mode,
    )
