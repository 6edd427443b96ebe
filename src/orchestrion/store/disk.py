"""Whether a disk is full: programs often say only that they could not write."""

from __future__ import annotations

import os

#: With less left a small file may still fit and a larger one not, in bytes.
TOO_LITTLE_BYTES = 256 * 1024


def is_full(place: str | os.PathLike[str], too_little: int = TOO_LITTLE_BYTES) -> bool:
    """Whether there is hardly any room (less than ``too_little`` bytes), or no file can be added, where ``place`` is.

    False where nobody can tell.
    """
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < too_little or (found.f_files > 0 and found.f_favail == 0)
