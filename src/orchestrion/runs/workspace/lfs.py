"""Large files that git stores elsewhere (git-lfs): their content goes where the commits go.

A workspace borrows the project's LFS objects as it borrows its git objects. What an agent adds,
or our own git for it, lies in the workspace's store and in that of our git directory; before
a run is published, what its commits point to is put into the project's.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.digest import sha256
from orchestrion.runs.git import Git

_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\n")
#: No pointer is longer, in bytes.
_LONGEST = 1024


def store_of(common_dir: Path, effective_storage: str | None) -> Path:
    """The folder with the LFS objects of a repository; ``effective_storage`` is its setting ``lfs.storage``."""
    storage = Path(effective_storage).expanduser() if effective_storage else Path("lfs")
    return common_dir / storage / "objects"


def lent_by(common_dir: Path, storage: str) -> Path:
    """A place for objects beside which git-lfs finds the repository's own, which are in ``storage``.

    It looks beside each place that git borrows objects from, and nowhere else. Raises OSError.
    """
    place, store = common_dir / "orchestrion" / "lfs-storage", store_of(common_dir, storage)
    (place / "objects").mkdir(parents=True, exist_ok=True)
    link = place / "lfs" / "objects"
    if not link.is_symlink() or link.readlink() != store:
        link.parent.mkdir(exist_ok=True)
        draft = link.with_name(f"objects.{os.getpid()}")
        draft.symlink_to(store)
        draft.replace(link)
    return place / "objects"


def hand_over(git: Git, new_blobs: Iterable[str], found: Iterable[Path], store: Path) -> list[str]:
    """Puts the LFS objects that ``new_blobs`` point to into ``store``, from among the files ``found``.

    Returns those that are in neither: pointers whose content nobody has here. Raises OSError (a full disk).
    """
    wanted = _pointed_to(git, new_blobs)
    if not wanted:
        return []
    there = {file.name: file for file in found if file.name in wanted}
    return [oid for oid in sorted(wanted) if not _is_in(store, oid) and not _put(there.get(oid), oid, store)]


def objects_in(store: Path) -> Iterable[Path]:
    """The files of a store of ours."""
    for folder, _, names in os.walk(store):
        yield from (Path(folder, name) for name in names)


def _pointed_to(git: Git, blobs: Iterable[str]) -> set[str]:
    """The objects that are named by those of the blobs that are pointers."""
    named = "".join(f"{oid}\n" for oid in dict.fromkeys(blobs))
    if not named:
        return set()
    sizes = git.run("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", input=named).stdout
    small = [
        oid
        for oid, kind, size in (line.split(" ") for line in sizes.splitlines() if line.count(" ") == 2)
        if kind == "blob" and int(size) <= _LONGEST
    ]
    return {match[1].decode() for oid in small if (match := _POINTER.match(_content(git, oid)))}


def _content(git: Git, oid: str) -> bytes:
    return git.run("cat-file", "blob", oid).stdout.encode("utf-8", "surrogateescape") + b"\n"


def _is_in(store: Path, oid: str) -> bool:
    return _place(store, oid).exists()


def _place(store: Path, oid: str) -> Path:
    return store / oid[:2] / oid[2:4] / oid


def _put(file: Path | None, oid: str, store: Path) -> bool:
    """Copies an object. What is checked is the copy: an agent may still write into the original."""
    if file is None:
        return False
    target = _place(store, oid)
    target.parent.mkdir(parents=True, exist_ok=True)
    _drop_drafts(target)
    draft = target.with_name(f"{oid}.{os.getpid()}")
    digest = sha256()
    draft.unlink(missing_ok=True)  # a link that somebody put there
    try:
        number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as source, draft.open("xb") as copy:
            fcntl.flock(copy, fcntl.LOCK_EX)
            while piece := source.read(1 << 20):
                digest.update(piece)
                copy.write(piece)
            os.fchmod(copy.fileno(), 0o444)
        if digest.hexdigest() == oid:
            draft.replace(target)
            return True
    finally:
        draft.unlink(missing_ok=True)
    return False


def _drop_drafts(target: Path) -> None:
    """Removes what processes that were killed have begun of an object: nobody holds it."""
    for draft in target.parent.glob(f"{target.name}.*"):
        with suppress(OSError), open(draft, "rb", opener=private.opener) as begun:
            fcntl.flock(begun, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
