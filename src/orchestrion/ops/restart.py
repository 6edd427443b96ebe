"""A server that replaces itself: in phases, with a snapshot, and never in a loop.

The process executes itself anew (``execve``): same pid, same descriptors, so whoever is
connected stays connected. What must not be lost goes through a *snapshot*, a file that only
its owner reads, written whole and checked when it is read. Every phase is a line of the
journal; the history is read from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrion.core import private
from orchestrion.core.errors import Backpressure, EnvironmentProblem
from orchestrion.core.model import iso
from orchestrion.core.values import readable

if TYPE_CHECKING:
    from orchestrion.orchestrator import Orchestrator

#: Phase -> how far a restart is then, in percent; in order.
PHASES: dict[str, int] = {
    "preparing": 5,
    "maintenance_mode": 10,
    "serializing_state": 40,
    "closing_connections": 55,
    "starting_process": 65,
    "loading_state": 75,
    "restoring_database": 85,
    "enabling_connections": 95,
    "complete": 100,
}
FAILED = "failed"
#: A server restarts at most so often in so many seconds.
MOST, WINDOW_S = 3, 60.0
#: Snapshots that are kept.
KEPT = 5
EVENT = "server.restart"
#: The process that comes after finds the snapshot by this.
VARIABLE = "ORCHESTRION_RESTART"
#: Events of restarts that are read for the history.
_READ = 5_000


@dataclass(frozen=True)
class Order:
    """A restart that was asked for."""

    #: Names it in the journal.
    id: str
    #: Names the server; it keeps the name over restarts.
    server: str
    reason: str
    graceful: bool
    #: Whether the clients' sessions are carried over.
    preserve_state: bool
    #: How long calls that are being answered may take, in seconds.
    timeout_s: float


def begin(cases: Orchestrator, order: Order, now: float) -> None:
    """Records that a restart was asked for. Raises Backpressure if there were too many."""
    wait = must_wait(cases, order.server, now)
    if wait:
        raise Backpressure(
            f"this server was restarted {MOST} times in {WINDOW_S:g} s; it will not be now",
            retry_after_s=wait,
            hint="find out why it does not help: orchestrator_restart_status with include_history",
        )
    note(cases, order, "preparing")


def must_wait(cases: Orchestrator, server: str, now: float) -> float:
    """Seconds until a server may restart again; 0: it may now."""
    recent = [one for one in history(cases) if one["server"] == server and now - one["began"] < WINDOW_S]
    if len(recent) < MOST:
        return 0.0
    began: float = recent[MOST - 1]["began"]
    return round(max(1.0, WINDOW_S - (now - began)), 1)


def note(cases: Orchestrator, order: Order, phase: str, **facts: Any) -> None:
    """Records a phase."""
    data = {
        "restart": order.id,
        "server": order.server,
        "phase": phase,
        "progress": PHASES.get(phase, 100),
        "reason": order.reason,
        "graceful": order.graceful,
        **facts,
    }
    cases.store.write(lambda tx: tx.event(EVENT, data=data))


def history(cases: Orchestrator) -> list[dict[str, Any]]:
    """Restarts of this project's servers, the latest first; times in seconds since 1970."""
    rows = cases.store.read(lambda tx: tx.all("events_of_kind", kind=EVENT, limit=_READ))
    found: dict[str, dict[str, Any]] = {}
    for row in reversed(rows):
        data = readable(row, f"line {row['id']} of the journal", "data")["data"]
        if not data:
            continue
        at = row["at"] / 1000
        one = found.setdefault(
            data["restart"],
            {
                "restart": data["restart"],
                "server": data["server"],
                "reason": data["reason"],
                "graceful": data["graceful"],
                "began": at,
                "phases": [],
                "errors": [],
            },
        )
        one["phases"].append({"phase": data["phase"], "at": iso(row["at"]), "progress": data["progress"]})
        one |= {"phase": data["phase"], "progress": data["progress"], "ended": at}
        one["errors"] += [data["error"]] if data.get("error") else []
    return list(reversed(found.values()))


def save(cases: Orchestrator, order: Order, state: Mapping[str, Any]) -> Path:
    """Writes the snapshot, whole or not at all, and forgets old ones. Raises OSError."""
    folder = cases.project.store_dir / "server"
    folder.mkdir(mode=0o700, exist_ok=True)
    body = {
        "order": order.__dict__,
        "server_version": _version(),
        "pid": os.getpid(),
        "working_directory": str(Path.cwd()),
        "saved_at": time.time(),
        "active_runs": [run["id"] for run in cases.status()["runs"]],
        "database": cases.schema(),
        "state": state,
    }
    text = json.dumps(body)
    file = folder / f"restart-{order.id}.json"
    fresh = file.with_suffix(".new")
    with open(fresh, "w", encoding="utf-8", opener=private.opener) as out:
        out.write(json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "body": text}))
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    for old in sorted(folder.glob("restart-*.json"), key=lambda one: one.stat().st_mtime)[:-KEPT]:
        with suppress(OSError):
            old.unlink()
    return file


def _version() -> str:
    from orchestrion import __version__

    return __version__


def load(environ: dict[str, str]) -> dict[str, Any] | None:
    """The snapshot that the process before this one left, taken out of ``environ``; None: this is a first start.

    Raises EnvironmentProblem (``state_corrupt``) if it is not as it was written.
    """
    path = environ.pop(VARIABLE, None)
    os.environ.pop(VARIABLE, None)
    if path is None:
        return None
    try:
        outer = json.loads(private.read(Path(path)))
        if hashlib.sha256(outer["body"].encode()).hexdigest() != outer["sha256"]:
            raise ValueError("its checksum is wrong")
        body = json.loads(outer["body"])
        return {**body, "order": Order(**body["order"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentProblem(
            f"the snapshot of the restart cannot be used: {error}",
            hint="start the server again; the store itself is whole",
            code="state_corrupt",
        ) from error


def replace_process(snapshot: Path, environ: Mapping[str, str], keep: Sequence[int] = ()) -> NoReturn:
    """Executes this program anew, as it was started; descriptors 0 to 2 and ``keep`` stay open. Raises OSError."""
    for descriptor in keep:
        os.set_inheritable(descriptor, True)
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environ, VARIABLE: str(snapshot)})


def finish(cases: Orchestrator, order: Order, began: float) -> None:
    """The process that came after records that it is there."""
    note(cases, order, "loading_state")
    schema = cases.schema()
    note(cases, order, "restoring_database", schema=schema["schema"])
    note(cases, order, "enabling_connections")
    note(cases, order, "complete", pid=os.getpid(), seconds=round(time.time() - began, 3))


def current(found: Sequence[Mapping[str, Any]], server: str, closing: bool) -> dict[str, Any]:
    """Where this server's last restart stands."""
    own = next((one for one in found if one["server"] == server), None)
    if own is None:
        return {"phase": "idle", "progress": 0, "message": "this server was not restarted", "maintenance_mode": closing}
    over = own["phase"] in ("complete", FAILED)
    return {
        "phase": own["phase"],
        "progress": own["progress"],
        "message": f"restart {own['restart']} is {own['phase']}",
        "started_at": iso(int(own["began"] * 1000)),
        "completed_at": iso(int(own["ended"] * 1000)) if over else None,
        "seconds": round(own["ended"] - own["began"], 3),
        "errors": list(own["errors"]),
        "maintenance_mode": closing,
    }


#: What a transport does to restart; it is called from any thread and returns at once.
Restarter = Callable[[Order], None]
