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


def provide(folder: Path) -> Path:
    """The file with the key, made if it is not there. Raises OSError."""
    private.tighten(folder)
    file = folder / NAME
    if not file.exists():
        _make(file)
    _tighten(file)
    return file


def is_key(folder: Path, shown: str) -> bool:
    """Whether a caller showed the key."""
    file = folder / NAME
    try:
        key = file.read_bytes().strip()
    except (FileNotFoundError, PermissionError):
        return False
    _tighten(file)
    return bool(key) and hmac.compare_digest(key, shown.encode("utf-8", "replace"))


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
        stream.write(f"{PREFIX}key_{secrets.token_urlsafe(32)}\n")
    try:
        with suppress(FileExistsError):  # then the other one's counts
            os.link(draft, file)
    finally:
        draft.unlink()
