"""File systems with little room or none, where mounting is allowed; elsewhere the test is skipped."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    with _mounted(place, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield


@contextmanager
def full_file(file: Path, disk: Path) -> Iterator[None]:
    """An empty file to which nothing can be written, for its disk, mounted at ``disk``, is full."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    with small_disk(disk, 64 * 1024):
        (disk / file.name).touch(mode=0o600)
        fill(disk)
        with _mounted(file, "--bind", str(disk / file.name)):
            yield


def fill(place: Path) -> Path:
    """Takes all the room that is left."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as stream, suppress(OSError):
        while stream.write(bytes(4096)):
            pass
    assert os.statvfs(place).f_bavail == 0
    return filler


@contextmanager
def _mounted(place: Path, *what: str) -> Iterator[None]:
    made = subprocess.run(["mount", *what, place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)
