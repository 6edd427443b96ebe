"""The key to a server of this machine: a file in the store's folder that only its user can read.

Whoever can read it is that user, so on the loopback interface it counts as admin. It is made
when a server first needs it; without the file the next server makes another.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

from orchestrion.core import private
from orchestrion.ops.tokens import PREFIX

#: The file in the store's folder.
NAME = "key"
#: What a key begins with, how many random bytes are in it, and how long it is.
_BEGIN, _BYTES = f"{PREFIX}key_", 32
_LENGTH = len(_BEGIN) + len(secrets.token_urlsafe(_BYTES))
#: Of a file so much is read, in bytes.
_MOST = 4096


def provide(folder: Path) -> Path:
    """The file with the key, made if it is not there. Raises OSError, NotPlain where something else has its place."""
    private.tighten(folder)
    file = folder / NAME
    if not file.exists() and not file.is_symlink():
        _make(file)
    if not _read(file):
        raise private.NotPlain(file, f"the file {NAME} holds no key, which has {_LENGTH} characters")
    _tighten(file)
    return file


def is_key(folder: Path, shown: str) -> bool:
    """Whether a caller showed the key."""
    file = folder / NAME
    try:
        key = _read(file)
    except (FileNotFoundError, PermissionError, private.NotPlain):
        return False
    _tighten(file)
    return bool(key) and hmac.compare_digest(key, shown.encode("utf-8", "replace"))


def _read(file: Path) -> bytes:
    """The key; empty: what the file holds is too short, or too much, to be one. Raises NotPlain, OSError."""
    with private.opened(file) as stream:
        held = stream.read(_MOST + 1).strip()
    return held if _LENGTH <= len(held) <= _MOST else b""


def _tighten(file: Path) -> None:
    """Others could read it: no longer, but whoever runs the server should know."""
    if private.tighten(file):
        logging.getLogger("orchestrion.web").warning(
            "the key was readable by others: %s now is its owner's alone; if others have read it, delete it and "
            "start the server again, which makes another",
            file,
        )


def _make(file: Path) -> None:
    """Whole or not at all; of two servers that make it at once one is first."""
    draft = file.with_name(f"{NAME}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, private.FILE_MODE), "w") as stream:
        stream.write(f"{_BEGIN}{secrets.token_urlsafe(_BYTES)}\n")
    try:
        with suppress(FileExistsError):  # then the other one's counts
            os.link(draft, file)
    finally:
        draft.unlink()
