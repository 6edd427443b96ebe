"""Writes documents about the project into its folder, and never over what a person wrote.

A document of ours ends with a line that holds the hash of the rest. If the hash is not that
of the rest any more, somebody changed the file: it is theirs from then on and is left alone,
as is a file that never was ours. A document whose text has not changed is not touched.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from orchestrion.core.errors import InvalidInput

_SEAL = re.compile(r"\n<!-- orchestrion ([0-9a-f]{16}): written by `orchestrion maintain`.*-->\n\Z")
_NOTE = "written by `orchestrion maintain`; change it and it is yours, it will not be written again"
#: A larger file is none of ours.
_LARGEST = 16 * 1024 * 1024


def write_all(root: Path, folder: str, documents: Mapping[str, str], *, dry_run: bool) -> dict[str, list[str]]:
    """Writes documents (name -> text) below ``folder`` of the project ``root``.

    Returns their paths: ``created``, ``updated``, ``unchanged``, and ``kept``, those that a
    person wrote or changed. Raises InvalidInput if the folder is not one of the project's.
    """
    place = _place(root, folder)
    outcome: dict[str, list[str]] = {"created": [], "updated": [], "unchanged": [], "kept": []}
    for called, text in documents.items():
        file = place / called
        became = _became(file, text)
        if became in ("created", "updated") and not dry_run:
            _put(root, file, _sealed(text))
        outcome[became].append(str(file.relative_to(root)))
    return outcome


def _place(root: Path, folder: str) -> Path:
    """The folder; a link that leads out of the project is none of it."""
    place = root / folder
    if Path(folder).is_absolute() or not _is_within(root, place):
        raise InvalidInput(
            f"maintenance.docs is {folder!r}, which is not a folder of the project",
            hint="set it to a folder below the project's: .orchestrion/docs",
            code="invalid_folder",
        )
    return Path(os.path.normpath(place))


def _is_within(root: Path, place: Path) -> bool:
    found = place.resolve()
    real = root.resolve()
    return found.is_relative_to(real) and found != real and ".git" not in found.relative_to(real).parts


def _became(file: Path, text: str) -> str:
    if not file.exists() and not file.is_symlink():
        return "created"
    found = _read(file)
    if found is None or not is_ours(found):
        return "kept"
    return "unchanged" if found == _sealed(text) else "updated"


def _read(file: Path) -> str | None:
    """The text of a plain file; None for anything else."""
    if file.is_symlink() or not file.is_file() or file.stat().st_size > _LARGEST:
        return None
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def is_ours(text: str) -> bool:
    """Whether we wrote this text, and nobody changed it since."""
    found = _SEAL.search(text)
    return found is not None and found[1] == _hash(text[: found.start()])


def _sealed(text: str) -> str:
    # Half of a character, as broken input has it, is written out: else the file's hash could never be right.
    body = text.encode("utf-8", "backslashreplace").decode().rstrip("\n") + "\n"
    return f"{body}\n<!-- orchestrion {_hash(body)}: {_NOTE} -->\n"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _put(root: Path, file: Path, text: str) -> None:
    """Puts a whole file in place at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not _is_within(root, file.parent):
        raise InvalidInput(f"{file.parent} is not in the project", hint="a link leads away", code="invalid_folder")
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=".draft-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            os.fchmod(out.fileno(), 0o644)
        Path(draft).replace(file)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
