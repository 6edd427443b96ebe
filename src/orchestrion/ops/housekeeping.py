"""A worker puts the project in order now and then, beside its runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.config import Config
from orchestrion.core.errors import OrchestrionError
from orchestrion.ops import maintenance
from orchestrion.ops.retention import Doers
from orchestrion.store import Store


@dataclass
class Housekeeper:
    """Makes the regular round of maintenance when it is time."""

    store: Store
    config: Config
    doers: Doers
    store_dir: Path
    #: Who makes it, among the processes of all hosts.
    holder: str
    #: Told what went wrong.
    tell: Callable[[str], None]
    _thread: threading.Thread | None = None

    def keep(self, beside: bool) -> None:
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
        try:
            maintenance.round_of(self.store, self.config, self.doers, self.store_dir, self.holder)
        except (OrchestrionError, OSError) as problem:
            self.tell(f"the project could not be put in order: {problem}")
