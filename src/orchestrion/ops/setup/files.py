"""A person's file, read whole and replaced whole: same mode, same place, through a link if there is one.

A file is written beside its target and then takes its name, so that no program ever sees half
of it. One that nobody may write is left alone, even where we could: somebody else keeps it.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE, S_ISREG

from orchestrion.core.errors import Conflict, EnvironmentProblem, InvalidInput

#: A file that is larger is taken for a mistake. Claude Code keeps its history where its servers are.
MOST_BYTES = 32 * 1024 * 1024
_BOM = "\ufeff"
#: What a new file may be read by: configuration has secrets in it.
_NEW_MODE = 0o600


@dataclass(frozen=True)
class Content:
    """What a file holds."""

    #: As it is named to people.
    path: Path
    #: Where it really lies; ``path`` may be a link.
    target: Path
    #: All of it; None if there is no such file.
    raw: bytes | None
    #: Its text without the byte order mark.
    text: str
    #: Whether it begins with a byte order mark.
    marked: bool
    #: Its permissions.
    mode: int

    def encoded(self, text: str) -> bytes:
        """``text`` as the bytes of this file."""
        return ((_BOM if self.marked else "") + text).encode("utf-8")


def read(path: Path, *, new_mode: int = _NEW_MODE) -> Content:
    """The file at ``path``, which may not be there. Raises InvalidInput, EnvironmentProblem."""
    target = _target(path)
    try:
        found = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Content(path, target, None, "", False, new_mode)
    except PermissionError as error:
        raise _no_permission(path, "read") from error
    if not S_ISREG(found.st_mode):
        raise _refused(path, "is not a file", "move it away, or set up another scope")
    if found.st_size > MOST_BYTES:
        raise _refused(path, f"has {found.st_size:,} bytes, more than {MOST_BYTES:,}", "is it the right file?")
    try:
        raw = target.read_bytes()
    except PermissionError as error:
        raise _no_permission(path, "read") from error
    text = _decoded(path, raw)
    return Content(path, target, raw, text.removeprefix(_BOM), text.startswith(_BOM), S_IMODE(found.st_mode))


def refuse_unwritable(content: Content) -> None:
    """Raises EnvironmentProblem for a file that its owner protects, or that we may not write."""
    if content.raw is not None and (not content.mode & 0o222 or not os.access(content.target, os.W_OK)):
        raise EnvironmentProblem(
            f"{content.path} is read-only; nothing was changed",
            hint="make it writable, or change it where it is made (a dotfiles or Nix configuration)",
            code="read_only",
            file=str(content.path),
        )
    place = next(folder for folder in content.target.parents if folder.exists())
    if not place.is_dir():
        raise _refused(content.path, f"cannot be made: {place} is not a folder", "move that file away")
    if not os.access(place, os.W_OK):
        raise _no_permission(place, "written")


def replace(content: Content, raw: bytes | None) -> None:
    """Makes ``raw`` the content of a file that is still as it was read. Raises Conflict, OSError.

    Programs such as Claude Code write their configuration whenever they run. Between this look
    and the change lies less than a millisecond.
    """
    if _now(content.target) != content.raw:
        raise Conflict(
            f"{content.path} was changed by another program meanwhile; nothing was changed",
            hint="try again; close the program if it happens again",
            code="changed_meanwhile",
            file=str(content.path),
        )
    write(content, raw)


def write(content: Content, raw: bytes | None) -> None:
    """Makes ``raw`` the file's content at once and for good; None removes the file. Raises OSError."""
    if raw is None:
        content.target.unlink(missing_ok=True)
        return
    content.target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{content.target.name[:80]}.", dir=content.target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fchmod(stream.fileno(), content.mode)
            _keep_owner(content.target, stream.fileno())
            os.fsync(stream.fileno())
        os.replace(name, content.target)  # noqa: PTH105 - there is a name, not a Path
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108
        raise


def _now(target: Path) -> bytes | None:
    try:
        return target.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _keep_owner(target: Path, handle: int) -> None:
    """Root may set up for somebody else."""
    if os.geteuid() == 0 and target.exists():
        found = target.stat()
        os.fchown(handle, found.st_uid, found.st_gid)


def _target(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise _refused(path, "is a link that leads nowhere", "correct the link") from error


def _decoded(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise InvalidInput(
            f"{path}:{line}:{column}: not UTF-8; nothing was changed",
            hint="save the file as UTF-8",
            code="broken_client_config",
            file=str(path),
            line=line,
            column=column,
        ) from error


def _refused(path: Path, what: str, hint: str) -> InvalidInput:
    return InvalidInput(f"{path} {what}", hint=hint, code="broken_client_config", file=str(path))


def _no_permission(path: Path, verb: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{path} may not be {verb}", hint="check its owner and permissions", code="permission", file=str(path)
    )
