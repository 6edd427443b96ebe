"""Twenty actors do random things to one store at once; what must always hold, holds.

``ORCHESTRION_TEST_EFFORT`` (1 by default) multiplies the time; ``ORCHESTRION_TEST_SEED`` repeats
the choices of a failure as far as threads can be repeated. The state machine below is the
same with one actor, where hypothesis finds the shortest way to a failure.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
import traceback
from collections import Counter
from typing import Any

import pytest
from actor import OPERATIONS, Actor
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from invariants import Watch, look, violations

from orchestrion.core.errors import EnvironmentProblem, OrchestrionError
from orchestrion.store import open_store

pytestmark = pytest.mark.long

EFFORT = float(os.environ.get("ORCHESTRION_TEST_EFFORT", "1"))
ACTORS = 20
SECONDS = 7.0
#: How long they act between two moments at which nobody does.
ROUND_S = 0.7


def test_random_operations_by_twenty_actors_leave_nothing_wrong(store_url: str, raw: Any) -> None:
    seed = int(os.environ.get("ORCHESTRION_TEST_SEED", random.SystemRandom().randrange(2**32)))
    store = open_store(store_url)
    crowd = Crowd(store_url, seed)
    watch = Watch()
    end = time.monotonic() + SECONDS * EFFORT
    # A slow machine gets the time that it needs, up to a limit.
    while (now := time.monotonic()) < end or (crowd.never_did() and now < end + 60):
        crowd.act(ROUND_S)
        seen = look(raw)
        wrong = [*crowd.errors, *violations(seen), *watch.compare(seen)]
        assert not wrong, f"seed {seed}:\n" + "\n".join(wrong[:20])
    crowd.leave()
    store.close()
    assert not crowd.never_did(), "a test in which most operations were refused would prove little"


def test_random_operations_one_after_the_other_leave_nothing_wrong(store_url: str, raw: Any) -> None:
    limits = settings(
        max_examples=max(1, int(20 * EFFORT)),
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    open_store(store_url).close()
    run_state_machine_as_test(lambda: OneActor(store_url, raw), settings=limits)


class OneActor(RuleBasedStateMachine):
    """One actor in a project of its own, whose clock is turned by a rule."""

    projects = itertools.count(1)

    def __init__(self, url: str, raw: Any) -> None:
        super().__init__()
        self._raw = raw
        self._store = open_store(url, project=f"machine-{next(self.projects)}", now=10**12)
        self._actor = Actor(self._store, 0)
        self._watch = Watch()

    @rule(minutes=st.sampled_from((1, 2, 60, 600)))
    def time_passes(self, minutes: int) -> None:
        assert self._store.now is not None
        self._store.now += minutes * 60_000

    @invariant()
    def all_is_well(self) -> None:
        now = look(self._raw, self._store.project_number)
        assert [*violations(now), *self._watch.compare(now)] == []

    def teardown(self) -> None:
        self._store.close()

    def _do(self, operation: Any, chance: random.Random) -> None:
        try:
            self._store.write(lambda tx: operation(self._actor, tx, chance))
        except EnvironmentProblem:
            raise
        except OrchestrionError:
            pass


def _rule_for(operation: Any) -> Any:
    def act(self: OneActor, chance: random.Random) -> None:
        self._do(operation, chance)

    act.__name__ = operation.__name__[1:]
    return rule(chance=st.randoms(use_true_random=False))(act)


for _operation in OPERATIONS:
    setattr(OneActor, _operation.__name__[1:], _rule_for(_operation))


class Crowd:
    """Threads that each act on a store of their own, and all rest between two rounds."""

    def __init__(self, url: str, seed: int) -> None:
        open_store(url).close()
        seeds = random.Random(seed)
        self._url = url
        self._actors: list[Actor] = []
        self._meeting = threading.Barrier(ACTORS + 1, timeout=100)
        self._end = 0.0
        self._over = False
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._live, args=(seeds.randrange(2**32),)) for _ in range(ACTORS)]
        for thread in self._threads:
            thread.start()

    def act(self, seconds: float) -> None:
        """All act at once; afterwards nobody does."""
        self._end = time.monotonic() + seconds
        self._meeting.wait()
        self._meeting.wait()
        if self.errors:
            self.leave()

    def leave(self) -> None:
        """All go home."""
        self._over = True
        self._meeting.wait()
        for thread in self._threads:
            thread.join()

    def _live(self, seed: int) -> None:
        store = open_store(self._url)
        actor = Actor(store, seed)
        self._actors.append(actor)
        while True:
            self._meeting.wait()
            if self._over:
                break
            try:
                while time.monotonic() < self._end and not self.errors:
                    actor.act()
            except BaseException:  # noqa: BLE001 - the test shows it, whatever it was
                self.errors.append(traceback.format_exc())
            self._meeting.wait()
        store.close()

    def never_did(self) -> list[str]:
        """Operations that nobody has done yet."""
        did = sum((actor.did for actor in self._actors), start=Counter())
        return [name for name in ("claim", "complete", "fail", "move", "cancel", "reopen", "create") if not did[name]]
