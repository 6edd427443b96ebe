"""Processes by pid *and* start time: who descends from whom, and how to end all of them.

An agent's tools make their own sessions and daemons, so a process group says little.
Three things find them all the same: the tree as the kernel shows it, a marker in the
environment that descendants inherit, and a file in the run's folder with everybody
who was ever seen. Ending them takes two steps: a polite SIGTERM, and for those who
stay a freeze (a stopped process cannot fork) followed by SIGKILL.

On Linux all of this reads ``/proc``; elsewhere psutil answers, as well as it can.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from orchestrion.core import private

#: A process for good: its pid and the moment it started (clock ticks since boot on
#: Linux, seconds since 1970 elsewhere). A pid alone may already mean somebody else.
Process = tuple[int, float]

#: The variable that every process of a run inherits.
MARKER = "ORCHESTRION_RUN"

#: Where a process of a run belongs, beside that. A copied store may have the other's name and run numbers: who has
#: another value is another's.
PLACES = ("ORCHESTRION_PROJECT", "ORCHESTRION_DB")

#: Wherever it is.
NOWHERE: Mapping[str, str] = MappingProxyType({})

#: Children of this process that a ``Popen`` waits for. ``reap_adopted`` leaves them
#: alone: a status collected behind Popen's back would read as exit code 0.
OWNED: set[int] = set()

_LINUX = sys.platform == "linux"
_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.02
_SCAN_EVERY_S = 0.1
_KILL_S = 10.0
_LOOKS = 4


@dataclass(frozen=True)
class _Seen:
    """One line of the process table."""

    #: The process that made it, or adopted it.
    parent: int
    #: When it started, as in ``Process``.
    started: float
    #: Whether it is over and only waits to be reaped.
    zombie: bool


def become_subreaper() -> bool:
    """Make orphans among our descendants our children instead of init's. Whether that worked."""
    if not _LINUX:
        return False
    import ctypes

    return bool(ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def start_time(pid: int) -> float | None:
    """When ``pid`` started, or None when there is no such process."""
    seen = _look_up(pid)
    return seen.started if seen else None


def is_alive(pid: int, started: float) -> bool:
    """Whether this very process still runs; a zombie does not."""
    seen = _look_up(pid)
    return seen is not None and not seen.zombie and seen.started == started


def descendants(pid: int) -> list[Process]:
    """Everybody below ``pid`` in the process tree who is alive."""
    table = _table()
    return sorted(_living(_below({pid}, table), table))


def children() -> list[Process]:
    """Our own children that are alive, adopted orphans included; a hundred times cheaper than ``descendants``."""
    return [(pid, seen.started) for pid in _children() if (seen := _look_up(pid)) and not seen.zombie]


def memory_mb(family: Iterable[Process]) -> float:
    """Resident memory of these processes, in MB (10^6 bytes); pages that they share count for each."""
    import psutil

    total = 0
    for pid, started in family:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if start_time(pid) == started:
                total += process.memory_info().rss
    return total / 1e6


def marked(value: str, name: str = MARKER) -> list[Process]:
    """Everybody alive whose environment has ``name=value``, as far as we may read it."""
    return sorted(_carriers(f"{name}={value}", _table()))


def of_store(store: str, places: Mapping[str, str] = NOWHERE) -> dict[str, list[Process]]:
    """Everybody alive who carries a marker of the store and is of no other ``places``, by the run's name (``R31``)."""
    prefix = f"{MARKER}={store}/".encode()
    found: dict[str, list[Process]] = {}
    for pid, seen in _table().items():
        environment = _environment(pid)
        for setting in environment:
            if setting.startswith(prefix) and not _is_of_others(environment, places):
                found.setdefault(setting[len(prefix) :].decode("utf-8", "replace"), []).append((pid, seen.started))
    return found


@contextlib.contextmanager
def ended_at_worst(root: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever ending a tree comes to, its root, which leads a group, is over then: that group is killed if it is not.

    Where no file can be opened any more nobody is found; and whoever waits for the root would wait for ever. Where the
    rest of the tree is stands in the run's record.
    """
    try:
        yield
    finally:
        if root.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(root.pid, signal.SIGKILL)


def end_tree(
    roots: Iterable[Process],
    marker: str | None = None,
    grace_s: float = 5.0,
    *,
    name: str = MARKER,
    places: Mapping[str, str] = NOWHERE,
) -> list[Process]:
    """End ``roots``, all who descend from them, and who carries the marker and is of no other ``places``. Who survived.

    They get SIGTERM and ``grace_s`` seconds; whoever is left is frozen and killed. Never
    touches this process, its ancestors, or a pid that means somebody else by now. Roots
    and ``OWNED`` children are left for the caller to wait for, adopted ones are collected.
    """
    return _end(_Quarry(roots, f"{name}={marker}" if marker else None, places), grace_s)


def sweep(marker: str | None, record_file: Path, grace_s: float = 2.0, *, places: Mapping[str, str] = NOWHERE) -> int:
    """End what a supervisor that is gone left behind; how many processes that were."""
    quarry = _Quarry(Record(record_file).read(), f"{MARKER}={marker}" if marker else None, places)
    survivors = _end(quarry, grace_s)
    return len(quarry.met) - len(survivors)


@contextlib.contextmanager
def owned(pid: int) -> Iterator[None]:
    """Within this block the child belongs to a ``Popen``, which collects it itself."""
    OWNED.add(pid)
    try:
        yield
    finally:
        OWNED.discard(pid)


def reap_adopted(exclude: set[int] | frozenset[int] = frozenset()) -> list[int]:
    """Collect adopted children that are over, one by one; their pids.

    Leaves ``exclude`` and ``OWNED`` to the Popen objects that wait for them.
    """
    return [pid for pid in _children() if pid not in exclude and pid not in OWNED and _collected(pid)]


class Record:
    """The processes a run was ever seen with: a file that outlives its supervisor."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._written: set[Process] = set()

    def write(self, processes: Iterable[Process]) -> None:
        """Add those that are not in the file yet."""
        new = [process for process in processes if process not in self._written]
        if not new:
            return
        with open(self.file, "a", encoding="ascii", opener=private.opener) as lines:
            lines.write("".join(f"{pid} {started!r}\n" for pid, started in new))
        self._written.update(new)

    def read(self) -> set[Process]:
        """Everybody in the file; a line that a kill cut short is left out. One that was bent holds nobody."""
        try:
            lines = private.read(self.file).splitlines(keepends=True)
        except (FileNotFoundError, private.NotPlain):
            return set()
        return {process for line in lines if line.endswith("\n") and (process := _parsed(line))}


def _parsed(line: str) -> Process | None:
    try:
        pid, started = line.split()
        return int(pid), int(started) if started.isdigit() else float(started)
    except ValueError:
        return None


class _Quarry:
    """Those to be ended: it grows as they fork, and forgets nobody who changed parents."""

    def __init__(self, roots: Iterable[Process], marker: str | None, places: Mapping[str, str]) -> None:
        self.marker = marker
        self.places = places
        #: Everybody who belongs to it, dead or alive.
        self.known: set[Process] = set(roots)
        #: The caller may wait for these with a Popen.
        self.roots = frozenset(pid for pid, _ in self.known)
        #: Everybody of them who was seen alive.
        self.met: set[Process] = set()
        #: Whether the last look met nobody new, dead or alive.
        self.is_known = False
        #: Whether nobody on this machine forked during the last look, so that it missed nobody.
        self.is_sure = False

    def look(self) -> set[Process]:
        """Read the process table anew: who of them is alive now. Collects the dead we adopted."""
        newest, number = _newest(), len(self.known)
        table = _table()
        if self.marker:
            self.known |= _carriers(self.marker, table, self.places)
        self.known |= _below({pid for pid, _ in _living(self.known, table)}, table)
        spared = _self_and_ancestors(table)
        alive = {process for process in _living(self.known, table) if process[0] not in spared}
        self.met |= alive
        self.is_known = len(self.known) == number
        self.is_sure = self.is_known and newest is not None and newest == _newest()
        self._collect(table)
        return alive

    def _collect(self, table: dict[int, _Seen]) -> None:
        """Those who fork and die fast would fill the table, until reading it takes longer than they live."""
        here = os.getpid()
        for pid, started in self.known:
            seen = table.get(pid)
            is_ours = seen and seen.zombie and seen.parent == here and seen.started == started
            if is_ours and pid not in OWNED and pid not in self.roots:
                _collected(pid)


def _end(quarry: _Quarry, grace_s: float) -> list[Process]:
    if grace_s > 0:
        _ask(quarry, grace_s)
    return _kill(quarry)


def _ask(quarry: _Quarry, grace_s: float) -> None:
    """SIGTERM for everybody, newcomers too, until all are gone or the time is up."""
    deadline = time.monotonic() + grace_s
    asked: set[Process] = set()
    while (alive := quarry.look()) and time.monotonic() < deadline:
        for process in alive - asked:
            # One who is stopped hears SIGTERM only after SIGCONT.
            _signal(process, signal.SIGTERM, signal.SIGCONT)
        asked |= alive
        _wait(alive, min(deadline, time.monotonic() + _SCAN_EVERY_S))


def _kill(quarry: _Quarry) -> list[Process]:
    """Freeze everybody, then SIGKILL; again until none is left. Who is left when the time is up."""
    deadline = time.monotonic() + _KILL_S
    while alive := _frozen(quarry, deadline):
        for process in alive:
            _signal(process, signal.SIGKILL)
        _wait(alive, time.monotonic() + 1.0)
        if time.monotonic() >= deadline:
            break
    return sorted(process for process in alive if is_alive(*process))


def _frozen(quarry: _Quarry, deadline: float) -> set[Process]:
    """Stop everybody, until a look finds nobody who still moves and is sure to have missed nobody.

    Where others fork all the time no look is sure; then several in a row must agree.
    """
    stopped: set[Process] = set()
    agreed = 0
    while True:
        alive = quarry.look()
        agreed = agreed + 1 if quarry.is_known and alive <= stopped else 0
        if (agreed and quarry.is_sure) or agreed >= _LOOKS or time.monotonic() >= deadline:
            return alive
        for process in alive - stopped:
            _signal(process, signal.SIGSTOP)
        stopped |= alive


def _wait(processes: set[Process], deadline: float) -> None:
    """Wait until all of them are over, at most to ``deadline``."""
    waiting = processes
    while (waiting := {process for process in waiting if is_alive(*process)}) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _signal(process: Process, *signals: signal.Signals) -> None:
    """Send ``signals`` to this very process; nothing when it is gone or not ours to end."""
    pid, started = process
    with contextlib.suppress(ProcessLookupError, PermissionError), _handle(pid) as handle:
        if not is_alive(pid, started):
            return
        for each in signals:
            if handle is None:
                os.kill(pid, each)
            else:
                signal.pidfd_send_signal(handle, each)


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[int | None]:
    """A descriptor that means this one process, whatever becomes of the pid; None where there is no such thing."""
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        # An old kernel, or a sandbox that forbids the call.
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _living(processes: Iterable[Process], table: dict[int, _Seen]) -> set[Process]:
    return {
        (pid, started)
        for pid, started in processes
        if (seen := table.get(pid)) and not seen.zombie and seen.started == started
    }


def _below(roots: set[int], table: dict[int, _Seen]) -> set[Process]:
    children: dict[int, list[int]] = {}
    for pid, seen in table.items():
        children.setdefault(seen.parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return {(pid, table[pid].started) for pid in found}


def _carriers(setting: str, table: dict[int, _Seen], places: Mapping[str, str] = NOWHERE) -> set[Process]:
    wanted = os.fsencode(setting)
    return {
        (pid, seen.started)
        for pid, seen in table.items()
        if not seen.zombie and wanted in (environment := _environment(pid)) and not _is_of_others(environment, places)
    }


def places_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Where a process with this environment belongs."""
    return {variable: environ[variable] for variable in PLACES if variable in environ}


def belongs_to(pid: int) -> dict[str, str]:
    """Where a process belongs, by its environment; nothing where that may not be read."""
    settings = (os.fsdecode(setting).partition("=") for setting in _environment(pid))
    return places_in({variable: value for variable, _, value in settings})


def _is_of_others(environment: Iterable[bytes], places: Mapping[str, str]) -> bool:
    """Whether an environment says that its process belongs elsewhere."""
    wanted = {os.fsencode(variable): os.fsencode(value) for variable, value in places.items()}
    pairs = (setting.partition(b"=") for setting in environment)
    return any(variable in wanted and wanted[variable] != value for variable, _, value in pairs)


def _newest() -> bytes | None:
    """The pid that was given out last: if it has changed, somebody forked."""
    try:
        return Path("/proc/loadavg").read_bytes().split()[-1]
    except OSError:
        return None


def _self_and_ancestors(table: dict[int, _Seen]) -> set[int]:
    line = {0, 1}
    pid = os.getpid()
    while pid not in line:
        line.add(pid)
        pid = table[pid].parent if pid in table else 0
    return line


def _children() -> list[int]:
    """Pids of this process's children, adopted ones and zombies included."""
    try:
        threads = Path("/proc/self/task").iterdir()
        return [int(pid) for thread in threads for pid in (thread / "children").read_bytes().split()]
    except OSError:
        # No such files: not Linux, or a kernel built without them.
        here = os.getpid()
        return [pid for pid, seen in _table().items() if seen.parent == here]


def _collected(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _look_up(pid: int) -> _Seen | None:
    return _read_stat(pid) if _LINUX else _psutil_table([pid]).get(pid)


def _table() -> dict[int, _Seen]:
    if not _LINUX:
        return _psutil_table()
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    # The youngest first: they are the likeliest to be gone in a moment.
    return {pid: seen for pid in reversed(pids) if (seen := _read_stat(pid))}


def _read_stat(pid: int) -> _Seen | None:
    try:
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        line = os.read(handle, 4096)
    except OSError:
        return None
    finally:
        os.close(handle)
    # The name, in brackets, may hold anything: fields are counted from its last bracket.
    fields = line[line.rindex(b")") + 2 :].split()
    return _Seen(parent=int(fields[1]), started=int(fields[19]), zombie=fields[0] in (b"Z", b"X", b"x"))


def _environment(pid: int) -> Sequence[bytes]:
    if not _LINUX:
        return _psutil_environment(pid)
    try:
        # A Path would let Python keep room for the number of every process that there ever was.
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read().split(b"\0")
    except OSError:
        return ()


def _psutil_table(pids: Iterable[int] | None = None) -> dict[int, _Seen]:
    import psutil

    table: dict[int, _Seen] = {}
    for pid in psutil.pids() if pids is None else pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            with process.oneshot():
                table[pid] = _Seen(
                    parent=process.ppid(),
                    started=process.create_time(),
                    zombie=process.status() == psutil.STATUS_ZOMBIE,
                )
    return table


def _psutil_environment(pid: int) -> Sequence[bytes]:
    import psutil

    try:
        return [os.fsencode(f"{name}={value}") for name, value in psutil.Process(pid).environ().items()]
    except (psutil.Error, OSError):
        return ()
