"""What a run changed, file by file, as git has it between two commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import intern

from orchestrion.runs.git import DETECTED, WITHOUT_INDEX, Blob, Git
from orchestrion.runs.workspace.agent_repository import read_bytes
from orchestrion.runs.workspace.places import Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository

KINDS = {"A": "created", "M": "modified", "T": "modified", "D": "deleted", "R": "moved", "C": "copied"}
_GITLINK = "160000"
_GONE = "000000"
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


def changes(git: Git, base: str, head: str, *, measured: bool = True) -> list[FileChange]:
    """The changes from ``base`` to ``head``, moves and copies recognised; contents are read only if ``measured``."""
    fields = git.fields(
        "diff-tree", "-r", "-z", "--raw", "--numstat", "--no-abbrev", "--no-ext-diff", "--no-textconv",
        *DETECTED, "--ignore-submodules=none", base, head,
        env=WITHOUT_INDEX,
    )  # fmt: skip
    entries, lines = _parsed(fields)
    contents = dict.fromkeys(entry.oid for entry in entries if measured and entry.mode not in (_GITLINK, _GONE))
    blobs = {blob.oid: blob for blob in git.blobs(contents)} if contents else {}
    return [_change(entry, lines.pop(entry.path), blobs.get(entry.oid)) for entry in entries]


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
    fields = git.fields(
        "--no-optional-locks", "-c", "diff.autoRefreshIndex=false",
        "diff", "-z", "--raw", "--numstat", "--no-abbrev", "--no-renames", "--no-relative",
        "-O/dev/null", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all", base, "--",
    )  # fmt: skip
    entries, lines = _parsed(fields)
    # A file with another time than git remembers, but the same content, is listed without lines.
    kinds = {entry.path: entry.kind for entry in entries if entry.path in lines}
    listed = git.lines("--no-optional-locks", "ls-files", "-z", "--others", "--exclude-standard")
    others = [path for path in listed if not path.endswith("/")]
    # A file of the base that is there, but not tracked any more, counts as both: deleted, and not.
    again = kinds.keys() & set(others)
    tracked = [
        Touched(path, "modified") if path in again else Touched(path, kind, *lines[path])
        for path, kind in kinds.items()
    ]
    created = [
        _untracked(git.folder, path, place < _COUNTED_FILES) for place, path in enumerate(others) if path not in again
    ]
    return [*tracked, *created]


def _untracked(folder: Path, path: str, counted: bool) -> Touched:
    lines = _lines_of(folder / path) if counted else None
    return Touched(path, "created", lines, None if lines is None else 0)


def _lines_of(file: Path) -> int | None:
    """Lines of a small text, as git would count them; None for anything else, and for what is gone already."""
    content = read_bytes(file, _COUNTED_BYTES)
    if content is None or b"\0" in content[:8000]:
        return None
    return content.count(b"\n") + (bool(content) and not content.endswith(b"\n"))


def _parsed(fields: Iterator[str]) -> tuple[list[_Raw], dict[str, tuple[int | None, int | None]]]:
    """The raw entries, and for each path the lines added and removed."""
    entries: list[_Raw] = []
    lines: dict[str, tuple[int | None, int | None]] = {}
    for field in fields:
        if field.startswith(":"):
            _, mode, _, oid, kind = field.split(" ")
            first = next(fields)
            old, path = (first, next(fields)) if kind[0] in "RC" else (None, first)
            # U: the agent is in the middle of a merge.
            entries.append(_Raw(KINDS.get(kind[0], "modified"), path, old, intern(mode), oid))
        elif field:
            added, removed, path = field.split("\t", 2)
            if not path:
                _, path = next(fields), next(fields)
            lines[path] = (_count(added), _count(removed))
    return entries, lines


def _count(number: str) -> int | None:
    return None if number == "-" else int(number)


def _change(entry: _Raw, lines: tuple[int | None, int | None], blob: Blob | None) -> FileChange:
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
