"""Maintenance: what can be asked for, how it is recorded, and what a worker does by itself.

Each action finds something and does something about it; both are kept in a row of the store,
also those of a dry run, which does nothing. What a worker does by itself is only what nobody
could miss: no open task is touched.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrion.core.config import Config
from orchestrion.core.model import iso, name
from orchestrion.core.values import readable
from orchestrion.ops import leases, retention
from orchestrion.ops.retention import Doers as Doers
from orchestrion.store import Store, Transaction
from orchestrion.store.store import Row

ACTIONS = ("scan_cleanup", "validate_structure", "update_documentation", "prepare_handover", "retention")
SCOPES = ("current_session", "full_project", "specific_subtask")
LEVELS = ("basic", "comprehensive", "full_audit")
#: Only one process at a time changes something.
LEASE = "maintenance"
#: How long it may have to, in seconds: after that another may think that it died.
LEASE_S = 900.0
#: The lease that a worker takes for its regular round, and keeps until the next.
ROUND = "maintenance round"


@dataclass(frozen=True)
class Record:
    """What was asked for, found and done."""

    action: str
    scope: str
    level: str
    dry_run: bool
    found: Mapping[str, Any]
    #: One line for each thing that was done.
    done: Sequence[Mapping[str, Any]]


def keep(tx: Transaction, record: Record) -> dict[str, Any]:
    """Records a maintenance; its number and time."""
    row = tx.the(
        "add_maintenance",
        action=record.action,
        scope=record.scope,
        level=record.level,
        dry_run=int(record.dry_run),
        found=json.dumps(record.found, ensure_ascii=False),
        done=json.dumps(list(record.done), ensure_ascii=False),
        actor=tx.origin.actor,
    )
    data = {"maintenance": row["id"], "action": record.action, "dry_run": record.dry_run, "done": len(record.done)}
    tx.event("maintenance.done", data=data)
    return {"maintenance": int(row["id"]), "at": iso(row["at"])}


def history(tx: Transaction, action: str | None, limit: int) -> list[dict[str, Any]]:
    """What was done before, the latest first."""
    return [_shown(row) for row in tx.all("list_maintenance", action=action, limit=limit)]


def _shown(row: Row) -> dict[str, Any]:
    return {
        "maintenance": row["id"],
        "action": row["action"],
        "scope": row["scope"],
        "level": row["level"],
        "dry_run": bool(row["dry_run"]),
        **readable(row, name("M", row["id"]), "found", "done"),
        "actor": row["actor"],
        "at": iso(row["at"]),
    }


def tidy(store: Store, config: Config, doers: Doers, store_dir: Path, *, dry_run: bool) -> Record:
    """Archives what is settled, forgets what is long past, and measures; raises StoreProblem."""
    archived = retention.archive(store, config, doers, dry_run=dry_run)
    forgotten = retention.forget(store, config, doers, dry_run=dry_run)
    logs = retention.drop_logs(store, store_dir, config["retention.logs_days"], dry_run=dry_run)
    found: dict[str, Any] = {
        "to_archive": {state: len(tasks) for state, tasks in archived.items()},
        "to_forget": {**forgotten, "logs": logs["runs"], "log_bytes": logs["bytes"]},
    }
    if not dry_run:
        store.tidy_up()
    found["sizes"] = retention.sizes(store, store_dir)
    done = [] if dry_run else _done(archived, forgotten, logs)
    return Record("retention", "full_project", "comprehensive", dry_run, found, done)


def _done(
    archived: Mapping[str, Sequence[str]], forgotten: Mapping[str, int], logs: Mapping[str, int]
) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = [
        {"did": "archived", "state": state, "total": len(tasks), "tasks": list(tasks[: retention.NAMED])}
        for state, tasks in archived.items()
        if tasks
    ]
    done += [{"did": "forgot", "what": what, "total": total} for what, total in forgotten.items() if total]
    return done + ([{"did": "removed_logs", "total": logs["runs"], "bytes": logs["bytes"]}] if logs["runs"] else [])


def round_of(store: Store, config: Config, doers: Doers, store_dir: Path, holder: str) -> Record | None:
    """A worker's regular round, if it is time and no other worker is at it; None: it is not.

    Whoever begins one has it for a while only: if it dies another one begins anew. Logs lie in
    each clone, so each clone sees to its own.
    """
    period = config["maintenance.every_h"] * 3600
    # A holder may take its lease again; a round is not to be made twice even by the same worker.
    holder = f"{holder}/{uuid.uuid4().hex[:8]}"
    own = f"{ROUND} of {store.clone or store_dir}"
    if not period or not leases.take(store, own, holder, min(LEASE_S, period), period):
        return None
    record: Record | None = None
    if leases.take(store, ROUND, holder, min(LEASE_S, period), period):
        record = tidy(store, config, doers, store_dir, dry_run=False)
        kept = record
        store.write(lambda tx: keep(tx, kept))
        leases.keep(store, ROUND, holder, period)
    else:
        retention.drop_logs(store, store_dir, config["retention.logs_days"], dry_run=False)
    leases.keep(store, own, holder, period)
    return record
