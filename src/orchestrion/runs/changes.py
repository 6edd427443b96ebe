"""What a run changed, file by file, as git has it between two commits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrion.runs.git import Blob, Git

KINDS = {"A": "created", "M": "modified", "T": "modified", "D": "deleted", "R": "moved", "C": "copied"}
_GITLINK = "160000"
_GONE = "000000"


@dataclass(frozen=True)
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
    #: SHA-256 of the new content in hex (of a link: its target); None when deleted or a submodule.
    sha256: str | None
    #: Bytes of the new content; None as above.
    size: int | None
    #: The new mode as git writes it, ``100644``; None when deleted.
    mode: str | None


@dataclass(frozen=True)
class _Raw:
    """One entry of ``git diff-tree --raw``."""

    kind: str
    path: str
    old_path: str | None
    mode: str
    oid: str


def changes(git: Git, base: str, head: str) -> list[FileChange]:
    """The changes from ``base`` to ``head``, moves and copies recognised."""
    fields = git.run(
        "diff-tree", "-r", "-z", "--raw", "--numstat", "--no-abbrev", "--no-ext-diff", "--no-textconv",
        "-M", "-C", "--ignore-submodules=none", base, head,
    ).stdout.split("\0")  # fmt: skip
    entries, lines = _parsed(iter(fields))
    contents = [entry.oid for entry in entries if entry.mode not in (_GITLINK, _GONE)]
    blobs = {blob.oid: blob for blob in git.blobs(dict.fromkeys(contents))} if contents else {}
    return [_change(entry, lines[entry.path], blobs.get(entry.oid)) for entry in entries]


@dataclass(frozen=True)
class Touched:
    """A file that differs from the base, committed or not."""

    path: str
    #: ``created``, ``modified`` or ``deleted``.
    kind: str


def working_changes(folder: Path, base: str) -> list[Touched]:
    """What differs from ``base`` in a workspace at this moment, untracked files included. Raises GitProblem.

    Takes no lock and writes nothing, so that the agent's own git is not disturbed.
    """
    git = Git(folder)
    fields = iter(
        git.run(
            "--no-optional-locks", "diff", "-z", "--name-status", "--no-renames", "--no-ext-diff", "--no-textconv",
            "--ignore-submodules=all", base, "--",
        ).stdout.split("\0")
    )  # fmt: skip
    tracked = [Touched(path, KINDS.get(kind, "modified")) for kind, path in zip(fields, fields, strict=False)]
    others = git.lines("--no-optional-locks", "ls-files", "-z", "--others", "--exclude-standard")
    return [*tracked, *(Touched(path, "created") for path in others)]


def _parsed(fields: Iterator[str]) -> tuple[list[_Raw], dict[str, tuple[int | None, int | None]]]:
    """The raw entries, and for each path the lines added and removed."""
    entries: list[_Raw] = []
    lines: dict[str, tuple[int | None, int | None]] = {}
    for field in fields:
        if field.startswith(":"):
            _, mode, _, oid, kind = field.split(" ")
            first = next(fields)
            old, path = (first, next(fields)) if kind[0] in "RC" else (None, first)
            entries.append(_Raw(KINDS[kind[0]], path, old, mode, oid))
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
