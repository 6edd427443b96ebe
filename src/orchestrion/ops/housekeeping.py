"""What a worker does for the project beside its runs: it says that it is there, and puts things in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.config import Config
from orchestrion.core.errors import OrchestrionError, StoreProblem
from orchestrion.ops import maintenance
from orchestrion.ops.retention import Doers
from orchestrion.store import Store

#: A worker says this often that it is there, in seconds.
ANNOUNCE_EVERY_S = 30.0


@dataclass
class Presence:
    """A worker, for whoever asks how well all is."""

    store: Store
    host: str
    pid: int
    #: When its process started.
    pid_start: float
    slots: int
    #: The one agent it works for; None: all.
    agent: str | None
    _announced: float = float("-inf")

    def announce(self) -> None:
        """Says that it is there, unless it did so a moment ago. Raises StoreProblem."""
        if time.monotonic() - self._announced < ANNOUNCE_EVERY_S:
            return
        self._announced = time.monotonic()
        given = {"pid_start": self.pid_start, "slots": self.slots, "agent": self.agent}
        self.store.write(lambda tx: tx.put("add_worker", host=self.host, pid=self.pid, **given))

    def leave(self) -> None:
        """It goes."""
        with suppress(StoreProblem):  # it is away: others see that this process is gone
            self.store.write(lambda tx: tx.put("remove_worker", host=self.host, pid=self.pid))


@dataclass
class Housekeeper:
    """Makes the regular round of maintenance when it is time."""

    store: Store
    config: Config
    doers: Doers
    store_dir: Path
    host: str
    pid: int
    #: Told what went wrong.
    tell: Callable[[str], None]
    _thread: threading.Thread | None = None

    def keep(self, *, beside: bool) -> None:
        """Puts the project in order when it is time, ``beside`` the work; one worker does it for all."""
        if self._thread is not None and self._thread.is_alive():
            return
        if not beside:
            self._put_in_order()
            return
        self._thread = threading.Thread(target=self._put_in_order_beside, name="maintenance", daemon=True)
        self._thread.start()

    def _put_in_order_beside(self) -> None:
        try:
            self._put_in_order()
        finally:
            self.store.close()  # this thread's connection

    def _put_in_order(self) -> None:
        holder = f"worker:{self.host}/{self.pid}"
        try:
            maintenance.round_of(self.store, self.config, self.doers, self.store_dir, self.host, holder)
        except (OrchestrionError, OSError) as problem:
            self.tell(f"the project could not be put in order: {problem}")
