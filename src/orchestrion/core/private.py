"""Files and folders that only their owner may enter, whatever the umask: the store, the runs' folders, their logs.

Who can read them reads prompts and logs, who can write them has commands started in their owner's name. So they
are made for one user, also in a repository that is shared by a group (``core.sharedRepository``): several users
share a PostgreSQL database or a server, which knows who they are.

Agents run as that owner and may put anything in the place of a file: a pipe, for which one would wait for ever, or a
link. So these files are opened here, for reading and for writing, and what is no plain file is refused.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

FOLDER_MODE = 0o700
FILE_MODE = 0o600
#: What others than the owner might do.
_OTHERS = 0o077
#: No file that is read whole is larger, in bytes.
_MOST = 64 * 1024 * 1024


class NotPlain(OSError):
    """In the place of a file or folder of ours is something else: somebody put it there."""

    def __init__(self, path: Path | str, what: str = "this is no plain file, but a pipe, a link or the like") -> None:
        super().__init__(errno.ENXIO, what, str(path))


def opener(path: str, flags: int) -> int:
    """For ``open(..., opener=opener)``, which a path's own ``open`` does not take: a new file is its owner's alone.

    Follows no link and waits for no pipe. Raises NotPlain, OSError.
    """
    try:
        number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)
    except OSError as refused:
        if refused.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.ENOTDIR):
            raise NotPlain(path) from refused
        raise
    if stat.S_ISREG(os.fstat(number).st_mode):
        return number
    os.close(number)
    raise NotPlain(path)


def opened(file: Path) -> BinaryIO:
    """A file to be read piece by piece. Raises NotPlain, OSError."""
    return open(file, "rb", opener=opener)


def read(file: Path) -> str:
    """The text of a file; what is no UTF-8 in it is replaced. Raises NotPlain, OSError."""
    with open(file, encoding="utf-8", errors="replace", opener=opener) as stream:
        text = stream.read(_MOST + 1)
    if len(text) > _MOST:
        raise NotPlain(file, "this file is far larger than we make any")
    return text


def set_aside(path: Path, *, unless: Callable[[int], bool] = stat.S_ISREG) -> None:
    """Gives what has the place of a file of ours, and is none, another name; ``unless`` knows the mode of ours."""
    with suppress(OSError):
        if not unless(path.lstat().st_mode):
            path.rename(path.with_name(f"{path.name}.not-ours-{os.urandom(4).hex()}"))


def write(file: Path, text: str, errors: str = "strict") -> None:
    """Writes a file of the owner's alone, in UTF-8; one that is there is replaced, and tightened."""
    with open(file, "w", encoding="utf-8", errors=errors, opener=opener) as stream:
        stream.write(text)
    tighten(file)


def replace(file: Path, text: str) -> None:
    """Writes a file so that whoever reads it finds all of the old or all of the new. Raises NotPlain, OSError."""
    half = file.with_name(f"{file.name}.half")
    write(half, text)
    half.replace(file)


def make_file(file: Path) -> None:
    """Makes an empty file if there is none; whoever opens it next says what is wrong if it cannot be made."""
    # Never an open one: that SQLite's locks hold, closing it here would let them go.
    with suppress(OSError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


def make_folder(folder: Path, *, parents: bool = False) -> None:
    """Makes a folder, with ``parents`` also those above that are missing; one that is there is tightened.

    Raises NotPlain where something else has its place, OSError where it cannot be made.
    """
    if parents and not folder.parent.exists():
        make_folder(folder.parent, parents=True)
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as taken:
        raise NotPlain(folder, "this is no folder") from taken
    tighten(folder)


def plain_folder(folder: Path) -> Path:
    """A folder of ours, where something else, a link included, has not its place. Raises NotPlain, OSError."""
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise NotPlain(folder, "this is no plain folder, but a link or the like")
    return folder


def tighten(path: Path) -> bool:
    """Takes from others what they may do with ``path``, if it is ours, and on a file system that can be written.

    Whether they could do something, and can no longer. What a link leads to, or what is no file or folder, stays.
    """
    with suppress(OSError):
        mode = path.lstat().st_mode
        if mode & _OTHERS and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            set_mode(path, mode & 0o7777 & ~_OTHERS)
            return not path.lstat().st_mode & _OTHERS
    return False


def set_mode(path: Path, mode: int) -> None:
    """As ``chmod``, and never of what a link leads to, whenever somebody puts it there. Raises OSError."""
    if os.chmod in os.supports_follow_symlinks:
        os.chmod(path, mode, follow_symlinks=False)  # noqa: PTH101 - a Path's own is not there on every system
        return
    # A file that is only named, not opened: SQLite's locks on it stay when this is closed.
    number = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.chmod(f"/proc/self/fd/{number}", mode)  # noqa: PTH101
    finally:
        os.close(number)
