"""Twenty actors do random things to one store at once; what must always hold, holds.

``ORCHESTRION_TEST_EFFORT`` (1 by default) multiplies the time; ``ORCHESTRION_TEST_SEED`` repeats
the choices of a failure as far as threads can be repeated. The state machine below is the
same with one actor, where hypothesis finds the shortest way to a failure.
"""

from __future__ import annotations

import os
import random
import threading
import time
import traceback
from typing import Any

from actor import Actor
from invariants import Watch, look, violations

from orchestrion.store import open_store

EFFORT = float(os.environ.get("ORCHESTRION_TEST_EFFORT", "1"))
ACTORS = 20
SECONDS = 7.0
#: How long they act between two moments at which nobody does.
ROUND_S = 0.7


def test_random_operations_by_twenty_actors_leave_nothing_wrong(store_url: str, raw: Any) -> None:
    seed = int(os.environ.get("ORCHESTRION_TEST_SEED", random.SystemRandom().randrange(2**32)))
    crowd = Crowd(store_url, seed)
    watch = Watch()
    end = time.monotonic() + SECONDS * EFFORT
    while time.monotonic() < end:
        crowd.act(min(ROUND_S, SECONDS))
        now = look(raw)
        wrong = [*crowd.errors, *violations(now), *watch.compare(now)]
        assert not wrong, f"seed {seed}:\n" + "\n".join(wrong[:20])
    crowd.refuse_to_have_done_nothing()


class Crowd:
    """Threads that each act on a store of their own."""

    def __init__(self, url: str, seed: int) -> None:
        open_store(url).close()
        self._url = url
        self._seeds = random.Random(seed)
        self._actors: list[Actor] = []
        self.errors: list[str] = []

    def act(self, seconds: float) -> None:
        """All act at once; afterwards nobody does."""
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._one, args=(self._seeds.randrange(2**32), end)) for _ in range(ACTORS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _one(self, seed: int, end: float) -> None:
        try:
            store = open_store(self._url)
            try:
                actor = Actor(store, seed)
                self._actors.append(actor)
                while time.monotonic() < end and not self.errors:
                    actor.act()
            finally:
                store.close()
        except BaseException:  # noqa: BLE001 - the test shows it, whatever it was
            self.errors.append(traceback.format_exc())

    def refuse_to_have_done_nothing(self) -> None:
        """A test in which most operations were refused would prove little."""
        did = sum((actor.did for actor in self._actors), start=self._actors[0].did.__class__())
        print(dict(sorted(did.items())))
        never = [name for name in ("claim", "complete", "fail", "move", "cancel", "reopen", "create") if not did[name]]
        assert not never, did
