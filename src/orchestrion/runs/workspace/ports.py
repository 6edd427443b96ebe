"""Port numbers of a run's own: no two runs on a host share a range, whatever project they are of.

A range is taken by binding a name in the kernel's own space of socket names, which is one for
each network namespace, as ports are. It is given back when the process ends, however it ends.
Where there is no such space (macOS) a locked file in the temporary folder stands in.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PORTS_PER_RUN = 10
RANGES = 200


@dataclass(frozen=True)
class Range:
    """A range of port numbers, held as long as this is kept."""

    #: Added to the port numbers that the run's programs use: 10, 20, ... 2000.
    offset: int
    #: What holds it.
    holder: socket.socket | IO[bytes]

    def release(self) -> None:
        """Gives it back before this process ends."""
        self.holder.close()


def take(run: int) -> Range | None:
    """Takes a free range, trying the one that follows from the run's number first; None: all are taken."""
    for number in range(RANGES):
        place = (run - 1 + number) % RANGES + 1
        holder = _hold(place)
        if holder is not None:
            return Range(place * PORTS_PER_RUN, holder)
    return None


def _hold(place: int) -> socket.socket | IO[bytes] | None:
    return _hold_name(place) if sys.platform == "linux" else _hold_file(place)


def _hold_name(place: int) -> socket.socket | None:
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0orchestrion/ports/{place}")
    except OSError:
        holder.close()
        return None
    return holder


def _hold_file(place: int) -> IO[bytes] | None:
    path = Path(tempfile.gettempdir(), f"orchestrion-ports-{os.getuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    holder = (path / str(place)).open("ab")
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder.close()
        return None
    return holder
