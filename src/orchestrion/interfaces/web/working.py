"""The worker of ``orchestrion up``: beside the server, in the same process.

Runs are nobody's children: when this process ends, however suddenly, they go on, and the next
worker takes them over. A worker that breaks (the database was away too long) begins anew; one
whose project was moved ends with the server, one that meets an older copy of the store waits until it is accepted.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from orchestrion.core.errors import OrchestrionError
from orchestrion.interfaces.web import logs
from orchestrion.interfaces.web.house import House

if TYPE_CHECKING:
    from orchestrion.worker import Worker

#: A worker that broke begins anew after so long, in seconds.
AGAIN_S = 5.0
#: A worker that is told to stop has so long to do it, in seconds.
GOES_S = 30.0


class Working:
    """A thread that keeps agents busy as long as the server serves."""

    def __init__(self, house: House, slots: int | None, agent: str | None) -> None:
        self._house = house
        self._cases = house.cases.on_behalf_of("worker")
        self._slots = slots
        self._agent = agent
        self._worker: Worker | None = None
        self._told = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="worker", daemon=True)
        house.stopping.append(self.stop)

    def start(self) -> None:
        """Begins to claim."""
        self._thread.start()

    def stop(self) -> None:
        """Claims nothing any more; runs go on."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.stop()

    def wait(self) -> None:
        """Until it has stopped."""
        self.stop()
        self._thread.join(GOES_S)

    def _go_on(self) -> None:
        try:
            while not self._stopping.is_set():
                self._work()
                self._stopping.wait(AGAIN_S)
        finally:
            self._cases.store.close()

    def _work(self) -> None:
        try:
            self._cases.work(slots=self._slots, agent=self._agent, worker=self._begin)
        except OrchestrionError as problem:
            if problem.code == "project_moved":
                self._stopping.set()
                self._house.end(problem)
                return
            if problem.code == "older_copy":
                self._tell(f"the worker waits: {problem.message}; {problem.hint}")
                return
            logs.log.error("the worker broke, and begins anew: %s", problem.message)
        except Exception:  # noqa: BLE001 - whatever it was, the server must not be left without a worker
            logs.log.exception("the worker broke, and begins anew")

    def _tell(self, said: str) -> None:
        """What only a person can change is said once, not at every try."""
        if said != self._told:
            self._told = said
            logs.log.error("%s", said)

    def _begin(self, worker: Worker) -> None:
        self._worker = worker
        if self._stopping.is_set():
            worker.stop()
