"""Files and folders that only their owner may enter, whatever the umask: the store, the runs' folders, their logs.

Who can read them reads prompts and logs, who can write them has commands started in their owner's name. So they
are made for one user, also in a repository that is shared by a group (``core.sharedRepository``): several users
share a PostgreSQL database or a server, which knows who they are.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
#: What others than the owner might do.
_OTHERS = 0o077


def opener(path: str, flags: int) -> int:
    """For ``open(..., opener=opener)``, which a path's own ``open`` does not take: a new file is its owner's alone."""
    return os.open(path, flags, FILE_MODE)


def write(file: Path, text: str, errors: str = "strict") -> None:
    """Writes a file of the owner's alone, in UTF-8; one that is there is replaced, and tightened."""
    with open(file, "w", encoding="utf-8", errors=errors, opener=opener) as stream:
        stream.write(text)
    tighten(file)


def make_file(file: Path) -> None:
    """Makes an empty file if there is none; whoever opens it next says what is wrong if it cannot be made."""
    # Never an open one: that SQLite's locks hold, closing it here would let them go.
    with suppress(OSError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


def make_folder(folder: Path, *, parents: bool = False) -> None:
    """Makes a folder, with ``parents`` also those above that are missing; one that is there is tightened.

    Raises OSError where it cannot be made.
    """
    if parents and not folder.parent.exists():
        make_folder(folder.parent, parents=True)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    tighten(folder)


def tighten(path: Path) -> bool:
    """Takes from others what they may do with ``path``, if it is ours, and on a file system that can be written.

    Whether they could do something, and can no longer.
    """
    with suppress(OSError):
        mode = path.stat().st_mode
        if mode & _OTHERS:
            path.chmod(mode & 0o7777 & ~_OTHERS)
            return not path.stat().st_mode & _OTHERS
    return False
