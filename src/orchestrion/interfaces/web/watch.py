"""What a server does besides answering: it looks for alerts, and drops what nobody asks for any more."""

from __future__ import annotations

import threading
import time

from orchestrion.core.errors import OrchestrionError
from orchestrion.interfaces.web import logs
from orchestrion.interfaces.web.house import House

#: Old answers and alerts are dropped so often, in seconds.
TIDY_S = 3600.0
#: The end of a round is waited for so long, in seconds.
GOES_S = 3.0


class Watch:
    """A thread of its own, from the server's beginning to its end."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="watch", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; a round that is going on is waited for, but not for long: an address may be slow to take an alert."""
        self._stopping.set()
        self._thread.join(GOES_S)

    def _go_on(self) -> None:
        tidied = time.monotonic()
        try:
            while not self._stopping.wait(self._house.config["alerts.every_s"]):
                self._round()
                if time.monotonic() - tidied > TIDY_S:
                    tidied = time.monotonic()
                    self._tidy()
        finally:
            self._house.cases.store.close()

    def _round(self) -> None:
        try:
            changes = self._house.cases.look_for_alerts()
        except OrchestrionError as problem:
            logs.log.warning("alerts cannot be looked for: %s", problem.message)
            return
        for change in changes:
            logs.log.warning(
                "alert %s: %s %s: %s", change.what, change.rule, change.subject, change.said,
                extra={"facts": change.as_json()},
            )  # fmt: skip

    def _tidy(self) -> None:
        try:
            self._house.cases.forget_requests()
            self._house.cases.forget_alerts()
        except OrchestrionError as problem:
            logs.log.warning("old answers stay: %s", problem.message)
