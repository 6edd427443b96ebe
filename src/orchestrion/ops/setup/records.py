"""What a set-up found before it changed a file: the backup, and the way back.

Each change has a folder of its own below ``$XDG_STATE_HOME/orchestrion/setup/`` with the file as
it was and a note of what it became. If nothing else has changed the file since, undoing gives
back the very bytes; else our part alone is taken out, with what we had to make around it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

_NOTE = "note.json"


@dataclass(frozen=True)
class Record:
    """One change of one file."""

    folder: Path
    #: The file's real path.
    file: str
    #: Whether there was a file before.
    existed: bool
    #: Digest of what it became.
    after: str
    #: Paths of parts that had to be made to hold ours.
    made: tuple[tuple[str, ...], ...]
    #: Folders that had to be made, the deepest first.
    folders: tuple[str, ...]
    #: Whether it undid a set-up.
    undo: bool = False

    def before(self) -> bytes | None:
        """The file as it was; None: there was none."""
        return (self.folder / Path(self.file).name).read_bytes() if self.existed else None


def folder_of(environ: Mapping[str, str]) -> Path:
    """Where records are kept."""
    base = environ.get("XDG_STATE_HOME", "")
    # The XDG specification: a path that is not absolute is to be ignored.
    state = Path(base) if base.startswith("/") else Path(environ.get("HOME") or Path.home(), ".local", "state")
    return state / "orchestrion" / "setup"


def keep(
    place: Path,
    stamp: str,
    file: Path,
    before: bytes | None,
    after: bytes,
    made: tuple[tuple[str, ...], ...],
    undo: bool,
) -> Record:
    """Backs a file up before it is changed to ``after``. ``stamp`` says when, and sorts. Raises OSError."""
    missing = tuple(str(folder) for folder in file.parents if not folder.exists())
    folder = _new_folder(place, stamp)
    record = Record(folder, str(file), before is not None, _digest(after), made, missing, undo)
    if before is not None:
        _write(folder / file.name, before)
    note = {"file": record.file, "existed": record.existed, "after": record.after, "made": made, "folders": missing}
    _write(folder / _NOTE, json.dumps({**note, "undo": undo}, indent=2).encode())
    return record


def of_file(place: Path, file: Path) -> list[Record]:
    """Changes of a file, newest first. A note that cannot be read counts as none."""
    found = [record for record in _all(place) if record.file == str(file)]
    return sorted(found, key=lambda record: record.folder.name, reverse=True)


def way_back(records: list[Record], now: bytes) -> Record | None:
    """The first of an unbroken row of changes of ours that ends with what the file is ``now``."""
    first, current = None, now
    for record in records:
        if record.after != _digest(current):
            continue
        first = record
        if not record.existed:
            break
        current = record.before() or b""
    return first


def before_ours(records: list[Record]) -> bytes | None:
    """What a file was before the last set-up of it, further ones over that one left out; None: there was none."""
    period = list(takewhile(lambda one: not one.undo, dropwhile(lambda one: one.undo, records)))
    return period[-1].before() if period else None


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _new_folder(place: Path, stamp: str) -> Path:
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in range(1, 10_000):
        folder = place / f"{stamp}-{number:04}"
        if not folder.exists():
            folder.mkdir(mode=0o700)
            return folder
    raise FileExistsError(f"{place} has no room for {stamp}")


def _write(file: Path, raw: bytes) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(raw)


def _all(place: Path) -> Iterator[Record]:
    for note in place.glob(f"*/{_NOTE}"):
        try:
            said: dict[str, Any] = json.loads(note.read_bytes())
            made = tuple(tuple(path) for path in said["made"])
            folders, undo = tuple(said["folders"]), said.get("undo") is True
            record = Record(note.parent, said["file"], said["existed"], said["after"], made, folders, undo)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        yield record
