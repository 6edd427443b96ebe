"""Pipes and devices where git would read a file: it would wait for ever, and whoever waits for git with it.

They hold nothing, so they are taken away before git looks at a workspace. An agent that goes on
putting them there meets the time limit of every git of ours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrion.runs.workspace.agent_repository import read_bytes

#: Files in a working tree that git reads wherever they are.
_IN_TREE = (".gitattributes", ".gitignore", ".gitmodules")
#: Files of a repository inside a working tree that git reads to see whether it is one.
_OF_REPOSITORY = (
    "HEAD",
    "commondir",
    "gitdir",
    "config",
    "packed-refs",
    "index",
    "info/exclude",
    "objects/info/alternates",
)
_SMALL = 64 * 1024


def take_away(workspace: Path) -> list[str]:
    """Removes what git would wait for, in the files of a workspace and in its loose objects. The paths that went."""
    gone = []
    for file in _read_by_git(workspace):
        with suppress(OSError):
            if _is_waited_for(file):
                file.unlink()
                gone.append(os.path.relpath(file, workspace))
    return gone


def _read_by_git(workspace: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(workspace):
        place = Path(folder)
        yield from (place / name for name in _IN_TREE if name in names)
        if ".git" in folders:
            folders.remove(".git")
            yield from (place / ".git" / name for name in _OF_REPOSITORY)
            if place == workspace:
                yield from _objects_in(place / ".git" / "objects")
        elif ".git" in names:
            yield place / ".git"
            yield from (git_dir / name for git_dir in _led_to(place / ".git") for name in _OF_REPOSITORY)


def _objects_in(objects: Path) -> Iterator[Path]:
    """What lies among the loose objects and is no plain file."""
    for folder in _scanned(objects):
        if folder.is_dir(follow_symlinks=False):
            yield from (Path(entry.path) for entry in _scanned(Path(folder.path)) if not entry.is_file())


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _led_to(link: Path) -> list[Path]:
    """Where a ``.git`` file leads."""
    words = (read_bytes(link, _SMALL) or b"").decode("utf-8", "surrogateescape").strip()
    return [link.parent / words.removeprefix("gitdir: ")] if words.startswith("gitdir: ") else []


def _is_waited_for(file: Path) -> bool:
    mode = file.lstat().st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode)
