"""Which host this is, and whether what the store says of a process or a folder is about this one.

A host's name is for people: two containers may have one name, and process ids mean others
after a restart. So a host is a random id in its state folder, with the kernel's boot and the
namespace of its process ids. Only on the very same one a pid tells whether a process lives;
everywhere else the lease alone decides. Folders outlive a restart: they are there for whoever
has the same state folder. Rows of older programs know the name alone, which decides as it did
then.

Read when a worker, a supervisor or a check of health asks, never by the commands that are
called at every step of an agent.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from orchestrion.core import private

#: File in the state folder with the random id.
_FILE = "host"
#: What says that this host has no such thing. One that cannot be read for now (no file handle is left, say) must not
#: make it another host, whose runs nobody here would look after.
_NOT_THERE = (FileNotFoundError, NotADirectoryError, PermissionError)
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Host(NamedTuple):
    """Where this process is."""

    #: What people call it.
    name: str
    #: Whoever has the same state folder has the same.
    folders: str
    #: Whoever has the same sees the same processes by the same ids.
    id: str

    def sees(self, row: Mapping[str, Any]) -> bool:
        """Whether the pids of a run or a worker mean processes here."""
        return bool(row["host"] == self.name if row["host_id"] is None else row["host_id"] == self.id)

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether the folders of a run (its workspace, its log) are on this host."""
        known = row["host_id"]
        return bool(row["host"] == self.name if known is None else known.partition("-")[0] == self.folders)

    def process(self) -> str:
        """Names this process among those of all hosts; it begins with what people know it by."""
        return f"{self.name}/{os.getpid()} on {self.id}"


def name() -> str:
    """What people call this host."""
    return os.uname().nodename


def here(environ: Mapping[str, str]) -> Host:
    """The host of this process. Where its state folder cannot be written, its folders are nobody's.

    Raises OSError where that cannot be told for now.
    """
    folders = _kept_id(state_folder(environ) / _FILE)
    return Host(name(), folders, f"{folders}-{_boot()[:8]}-{_pid_namespace()}")


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where what belongs to this host lies: in $XDG_STATE_HOME, by default ~/.local/state."""
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return state / "orchestrion"


def _kept_id(file: Path) -> str:
    if known := _read_id(file):
        return known
    draft = file.with_name(f"{_FILE}.{os.getpid()}-{os.urandom(4).hex()}")
    with suppress(OSError):
        private.make_folder(file.parent, parents=True)
        private.write(draft, f"{os.urandom(8).hex()}\n")
        with suppress(FileExistsError):  # another process was first: its id counts
            os.link(draft, file)
    with suppress(OSError):
        draft.unlink(missing_ok=True)
    return _read_id(file) or f"unkept{_boot()[:8]}"


def _read_id(file: Path) -> str | None:
    with suppress(*_NOT_THERE):
        words = file.read_text(encoding="ascii", errors="replace").strip()
        return words if re.fullmatch(r"[0-9a-f]{16}", words) else None
    return None


def _boot() -> str:
    """Changes with every start of the machine."""
    with suppress(*_NOT_THERE):
        return _BOOT.read_text(encoding="ascii").strip()
    if sys.platform == "darwin":
        import subprocess  # no file says it there; the time of the start would move with the clock

        asked = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip().lower()
    return "unknown"


def _pid_namespace() -> str:
    """In which space process ids are counted; where there is only one, it needs no name."""
    with suppress(*_NOT_THERE):
        return "".join(re.findall(r"\d+", os.readlink("/proc/self/ns/pid")))  # noqa: PTH115 - it is no path
    return "0"
