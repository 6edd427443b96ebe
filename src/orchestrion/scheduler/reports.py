"""What a run said in words of its own, without secrets that its agent could not tell to be some.

Whoever writes masks what is said, by the variables that it has. An agent's door has not all of its worker's, so whoever
sees to the end of the run looks through that once more.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrion.core.masking import Masker
from orchestrion.core.model import name
from orchestrion.core.rights import RUN
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: So many handoffs are looked at with one statement.
_PIECE = 20


def mask(tx: Transaction, run: int, masker: Masker) -> None:
    """Replaces what ``masker`` knows in the run's summary, in its handoffs and in names of its sessions.

    The journal stays as it is: of what a run says it holds nothing but titles, codes and names of files.
    """
    if not masker.knows_values:
        return
    row = tx.the("said_by_run", run=run)
    sessions = tx.all("sessions_of_task", task=row["task"], since=row["claimed_at"], begins=f"{RUN}R")
    changed = [
        _mask_summary(tx, run, row, masker),
        *(_mask_handoff(tx, one, masker) for one in _handoffs(tx, run, row["claimed_at"])),
        *(_mask_name(tx, one, masker) for one in sessions),
    ]
    if any(changed):
        # Whoever searches finds the task by its words of now.
        tx.event("run.masked", task=row["task"], run=run)


def _mask_summary(tx: Transaction, run: int, row: Row, masker: Masker) -> bool:
    summary = masker(row["summary"] or "")
    if summary == (row["summary"] or ""):
        return False
    tx.one("held_task", run=run, write=True)  # the task's row is taken first, as everywhere
    tx.run("run_said", run=run, summary=summary)
    tx.run("task_said", id=row["task"], found=row["summary"], summary=summary)
    return True


def _handoffs(tx: Transaction, run: int, since: int) -> Iterator[Row]:
    """Those that a run left: it began at ``since``, and the newest come first."""
    before: int | None = None
    while rows := tx.all("handoffs_before", before=before, limit=_PIECE):
        for row in rows:
            if row["created_at"] < since:
                return
            if row["actor"] == f"{RUN}{name('R', run)}":
                yield row
        before = rows[-1]["id"]


def _mask_handoff(tx: Transaction, row: Row, masker: Masker) -> bool:
    said, rest = masker(row["text"][: row["said"]]), masker(row["text"][row["said"] :])
    if said + rest == row["text"]:
        return False
    tx.run("handoff_said", id=row["id"], text=said + rest, length=len(said))
    return True


def _mask_name(tx: Transaction, row: Row, masker: Masker) -> bool:
    called = masker(row["name"])
    if called == row["name"]:
        return False
    tx.run("name_session", id=row["id"], name=called)
    return True
