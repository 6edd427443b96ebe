"""Following the journal as it grows, whoever writes it: every line once, in order, none left out.

On PostgreSQL a line gets its number before its transaction ends, so that line 7 may be there
before line 6, or line 6 may never come. A reader that went on from 7 would lose 6. Lines are
therefore held back while an earlier number is missing, until no transaction is left that could
bring it. SQLite writes one transaction after the other and has no such gaps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrion.orchestrator.tasks import event_as_json
from orchestrion.store import Store, Transaction

#: Lines that are read at a time.
PAGE = 1000
#: So far back a new reader looks for lines that are still to come.
LOOK_BACK = 1000
#: A transaction that took a number is known to the database by then, in seconds.
GRACE_S = 0.25


@dataclass
class _Doubt:
    """Numbers that were missing at a moment."""

    #: The highest number that was there.
    upto: int
    since: float
    #: Transactions before this one may still bring a number; None: not asked yet.
    mark: int | None = None


class Journal:
    """One reader of the journal."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        end = int(store.read(lambda tx: tx.the("last_event"))["id"])
        #: All lines up to this number are known.
        self.last = max(0, end - LOOK_BACK) if store.read(lambda tx: tx.knows("journal_numbers")) else end
        self._settled = self.last
        self._doubt: _Doubt | None = None

    @property
    def doubts(self) -> bool:
        """Whether lines are held back: it is worth to look again soon, whether or not anybody writes."""
        return self._doubt is not None

    def advance(self) -> tuple[list[dict[str, Any]], bool]:
        """The lines after ``last``, oldest first, and whether there are more already."""
        return self._store.read(self._advance)

    def _advance(self, tx: Transaction) -> tuple[list[dict[str, Any]], bool]:
        end = self._certain(tx) if tx.knows("journal_numbers") else None
        rows = tx.all("events", since=self.last, limit=PAGE)
        kept = [row for row in rows if end is None or row["id"] <= end]
        full = len(rows) == PAGE and len(kept) == PAGE
        if full or end is None:
            self.last = kept[-1]["id"] if kept else self.last
        else:
            self.last = end
        return [event_as_json(row) for row in kept], full

    def _certain(self, tx: Transaction) -> int:
        """Up to which number nothing can be missing any more."""
        numbers = [int(row["id"]) for row in tx.all("journal_numbers", since=self.last, limit=PAGE)]
        if not numbers:
            return self.last
        self._settle(tx, numbers)
        certain = self.last
        for one in numbers:
            if one != certain + 1 and one > self._settled:
                self._doubt = self._doubt or _Doubt(numbers[-1], self._clock())
                return certain
            certain = one
        return certain

    def _settle(self, tx: Transaction, numbers: list[int]) -> None:
        """Numbers that are still missing when all transactions of that time have ended never come."""
        doubt = self._doubt
        if doubt is None:
            return
        if doubt.mark is None:
            if self._clock() - doubt.since >= GRACE_S:
                doubt.mark = int(tx.the("transactions")["newest"])
        elif int(tx.the("transactions")["oldest"]) >= doubt.mark:
            self._settled, self._doubt = doubt.upto, None
