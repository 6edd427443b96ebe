"""Workers say that they are there, so that whoever asks how well all is can tell."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from orchestrion.core.errors import StoreProblem
from orchestrion.core.host import Host
from orchestrion.store import Store

#: A worker says this often that it is there, in seconds.
ANNOUNCE_EVERY_S = 30.0


@dataclass
class Presence:
    """A worker, for whoever asks how well all is."""

    store: Store
    host: Host
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
        given: dict[str, object] = {"pid_start": self.pid_start, "slots": self.slots, "agent": self.agent}
        given |= {"host": self.host.name, "host_id": self.host.id, "pid": self.pid}
        self.store.write(lambda tx: tx.put("add_worker", **given))

    def leave(self) -> None:
        """It goes."""
        with suppress(StoreProblem):  # it is away: others see that this process is gone
            self.store.write(lambda tx: tx.put("remove_worker", host_id=self.host.id, pid=self.pid))
