"""Waiting for a database that is away: locked, restarted, its disk full. It usually comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TypeVar

from orchestrion.core.errors import OrchestrionError, StoreProblem

Result = TypeVar("Result")

#: Codes of errors that pass by themselves.
PASSING = ("store_locked", "store_busy", "store_timeout", "store_unreachable", "disk_full")
#: Codes of what somebody puts right at once or not at all: a store that is being moved or restored, a failover.
MENDED = ("store_missing", "store_replaced", "store_read_only")
#: How often it is asked, in seconds.
PAUSE_S = 0.2


def patiently(act: Callable[[], Result], enough: Callable[[], bool], codes: Collection[str] | None = None) -> Result:
    """What ``act`` returns, done again while the database is away, until it was ``enough``.

    ``codes``: only these errors are waited out; None: all of a store. Raises the last error.
    """
    while True:
        try:
            return act()
        except OrchestrionError as problem:
            is_passing = isinstance(problem, StoreProblem) if codes is None else problem.code in codes
            if not is_passing or enough():
                raise
            time.sleep(PAUSE_S)


def after(seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed since now."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
