"""One actor who does whatever comes to mind, as any number of them do at once in the property test.

Every operation of the scheduler is among them. A refusal (a cycle, an illegal move, a run
that is stale) is an answer; anything else that is raised is a bug.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from orchestrion.core.errors import EnvironmentProblem, OrchestrionError
from orchestrion.core.model import NewGate, NewTask, Wait
from orchestrion.core.states import DEPENDENCY_KINDS, EdgeKind, RunState, TaskState
from orchestrion.scheduler import claim, create, decide, finish, reap, shape, slots
from orchestrion.store import Store, Transaction

CODES = ("agent_failed", "agent_tempfail", "rate_limited", "check_failed", "network")
ROLES = ("", "tester", "writer")
RESOURCES = ("gpu", "desk")
LIMITS = ("global", "role:tester", "agent:claude", "host:here", "resource:gpu", "resource:desk")
#: The tasks of one store are kept few, so that actors meet.
MOST_TASKS = 60


class Actor:
    """Does random things to one store; the same seed makes the same choices from the same rows."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store = store
        self._random = random.Random(seed)
        self._runs: list[int] = []
        #: Operation -> how often it was done; with a ``!`` how often it was refused.
        self.did: Counter[str] = Counter()

    def act(self) -> None:
        """One random operation in one transaction."""
        operation = self._random.choices(OPERATIONS, weights=_WEIGHTS)[0]
        seed = self._random.random()
        # A transaction may be begun again: then it must choose the same.
        try:
            self._store.write(lambda tx: operation(self, tx, random.Random(seed)))
        except EnvironmentProblem:
            raise
        except OrchestrionError:
            self.did[operation.__name__[1:] + "!"] += 1
        else:
            self.did[operation.__name__[1:]] += 1

    def _create(self, tx: Transaction, rng: random.Random) -> None:
        tasks = _tasks(tx)
        if len(tasks) >= MOST_TASKS:
            return self._delete(tx, rng)
        waits = {on: rng.choice(DEPENDENCY_KINDS) for on in rng.sample(tasks, min(len(tasks), rng.randrange(4)))}
        new = NewTask(
            "a task",
            parent=rng.choice(tasks) if tasks and rng.random() < 0.3 else None,
            waits=tuple(Wait(on, kind, "so" if rng.random() < 0.1 else None) for on, kind in waits.items()),
            gates=(_gate(tx, rng),) if rng.random() < 0.1 else (),
            role=rng.choice(ROLES),
            needs=tuple(rng.sample(RESOURCES, rng.choice((0, 0, 0, 1, 2)))),
            priority=rng.randint(1, 10),
            max_retries=rng.randrange(3),
            retry_delay_s=rng.choice((0, 0.01, 60)),
            due_at=tx.the("clock")["now"] + rng.randrange(10_000_000) if rng.random() < 0.1 else None,
            completed=rng.random() < 0.05,
        )
        create.create(tx, new)
        return None

    def _add_dependency(self, tx: Transaction, rng: random.Random) -> None:
        shape.add_dependency(tx, _any(tx, rng), _any(tx, rng), rng.choice(DEPENDENCY_KINDS))

    def _remove_dependency(self, tx: Transaction, rng: random.Random) -> None:
        shape.remove_dependency(tx, *_edge(tx, rng))

    def _waive(self, tx: Transaction, rng: random.Random) -> None:
        shape.waive_dependency(tx, *_edge(tx, rng), "so")

    def _add_gate(self, tx: Transaction, rng: random.Random) -> None:
        shape.add_gate(tx, _any(tx, rng), _gate(tx, rng))

    def _decide_gate(self, tx: Transaction, rng: random.Random) -> None:
        gates = [g["id"] for task in _tasks(tx) for g in tx.all("open_gates_of", task=task)]
        if gates:
            shape.decide_gate(tx, rng.choice(gates), opened=rng.random() < 0.7, answer="so", decided_by="user:ada")

    def _move(self, tx: Transaction, rng: random.Random) -> None:
        shape.move(tx, _any(tx, rng), _any(tx, rng) if rng.random() < 0.7 else None)

    def _claim(self, tx: Transaction, rng: random.Random) -> None:
        supervised = rng.random() < 0.5
        who = claim.Claimant(
            lease_ms=rng.choice((50, 60_000, 60_000, 60_000)),
            agent="claude",
            supervised=supervised,
            host="here",
            roles=_roles(rng),
        )
        taken = claim.claim(tx, who)
        if taken:
            self._hold(taken.run)

    def _claim_task(self, tx: Transaction, rng: random.Random) -> None:
        taken = claim.claim_task(tx, _any(tx, rng), claim.Claimant(lease_ms=60_000))
        self._hold(taken.run)

    def _start(self, tx: Transaction, rng: random.Random) -> None:
        finish.start(tx, self._run(tx, rng), pid=rng.randrange(1, 1000), pid_start=1, host="here")

    def _renew(self, tx: Transaction, rng: random.Random) -> None:
        finish.renew(tx, self._run(tx, rng))

    def _note(self, tx: Transaction, rng: random.Random) -> None:
        finish.note(tx, self._run(tx, rng), phase="working", summary="so")

    def _complete(self, tx: Transaction, rng: random.Random) -> None:
        finish.complete(tx, self._run(tx, rng), summary="so")

    def _hand_in(self, tx: Transaction, rng: random.Random) -> None:
        finish.hand_in(tx, self._run(tx, rng), code="merge_conflict", reason="so")

    def _ask(self, tx: Transaction, rng: random.Random) -> None:
        finish.ask(tx, self._run(tx, rng), "so?")

    def _fail(self, tx: Transaction, rng: random.Random) -> None:
        state = rng.choice((RunState.FAILED, RunState.TIMED_OUT))
        finish.fail(tx, self._run(tx, rng), code=rng.choice(CODES), error="so", state=state)

    def _release(self, tx: Transaction, rng: random.Random) -> None:
        finish.release(tx, self._run(tx, rng))

    def _kill(self, tx: Transaction, rng: random.Random) -> None:
        active = [run["id"] for run in tx.all("active_runs")]
        if active:
            finish.kill(tx, rng.choice(active), "so")

    def _reap(self, tx: Transaction, rng: random.Random) -> None:
        reap.due(tx)
        for run in reap.expired(tx):
            finish.lose(tx, run["id"], "gone")

    def _clean_up(self, tx: Transaction, rng: random.Random) -> None:
        age_s = rng.choice((0.05, 3600))
        reap.cleanup_stale_locks(tx, age_s, [row["id"] for row in reap.silent(tx, age_s)])

    def _retry(self, tx: Transaction, rng: random.Random) -> None:
        decide.retry(tx, _any(tx, rng, TaskState.FAILED, TaskState.RETRYING))

    def _reopen(self, tx: Transaction, rng: random.Random) -> None:
        decide.reopen(tx, _any(tx, rng, TaskState.COMPLETED), "so")

    def _approve(self, tx: Transaction, rng: random.Random) -> None:
        decide.approve(tx, _any(tx, rng, TaskState.REVIEW))

    def _reject(self, tx: Transaction, rng: random.Random) -> None:
        decide.reject(tx, _any(tx, rng, TaskState.REVIEW), "so")

    def _cancel(self, tx: Transaction, rng: random.Random) -> None:
        decide.cancel(tx, _any(tx, rng), "so", cancel_dependents=rng.random() < 0.3)

    def _archive(self, tx: Transaction, rng: random.Random) -> None:
        decide.archive(tx, _any(tx, rng))

    def _delete(self, tx: Transaction, rng: random.Random) -> None:
        decide.delete(tx, _any(tx, rng))

    def _forget(self, tx: Transaction, rng: random.Random) -> None:
        """Cancels a whole crowd, so that there is room for new tasks: final tasks cannot be deleted."""
        for task in [
            t for t in tx.all("list_tasks", after=0, limit=1000, states=["cancelled"]) if not t["archived_at"]
        ]:
            decide.archive(tx, task["id"])

    def _update(self, tx: Transaction, rng: random.Random) -> None:
        changes = {
            "priority": rng.randint(1, 10),
            "role": rng.choice(ROLES),
            "needs": rng.sample(RESOURCES, rng.randrange(2)),
        }
        decide.update(tx, _any(tx, rng), {"needs": tuple(changes.pop("needs")), **changes})  # type: ignore[arg-type]

    def _limit(self, tx: Transaction, rng: random.Random) -> None:
        slots.set_capacity(tx, rng.choice(LIMITS), rng.randrange(1, 6) if rng.random() < 0.8 else None)

    def _hold(self, run: int) -> None:
        self._runs = [*self._runs[-3:], run]

    def _run(self, tx: Transaction, rng: random.Random) -> int:
        """One of its own runs (it may be over by now), or of whoever holds a task now, or of anybody."""
        active = [run["id"] for run in tx.all("active_runs")]
        chance = rng.random()
        if active and chance < 0.6:
            return rng.choice(active)
        return rng.choice(self._runs) if self._runs and chance < 0.95 else rng.randrange(1, 100)


_CHANCES: dict[Callable[[Actor, Transaction, random.Random], None], int] = {
    Actor._create: 10,
    Actor._add_dependency: 5,
    Actor._remove_dependency: 2,
    Actor._waive: 1,
    Actor._add_gate: 1,
    Actor._decide_gate: 3,
    Actor._move: 4,
    Actor._claim: 20,
    Actor._claim_task: 3,
    Actor._start: 5,
    Actor._renew: 1,
    Actor._note: 1,
    Actor._complete: 14,
    Actor._hand_in: 3,
    Actor._ask: 1,
    Actor._fail: 5,
    Actor._release: 2,
    Actor._kill: 1,
    Actor._reap: 3,
    Actor._clean_up: 1,
    Actor._retry: 3,
    Actor._reopen: 2,
    Actor._approve: 2,
    Actor._reject: 1,
    Actor._cancel: 2,
    Actor._archive: 1,
    Actor._forget: 1,
    Actor._delete: 2,
    Actor._update: 2,
    Actor._limit: 1,
}
OPERATIONS = tuple(_CHANCES)
_WEIGHTS = tuple(_CHANCES.values())


def _tasks(tx: Transaction) -> list[int]:
    return [t["id"] for t in tx.all("list_tasks", after=0, limit=1000, unarchived=1)]


def _any(tx: Transaction, rng: random.Random, *states: str) -> int:
    """A task, preferably in one of these states; now and then one that does not exist."""
    fit = [t["id"] for t in tx.all("list_tasks", after=0, limit=1000, states=[*states] or None, unarchived=1)]
    return rng.choice(fit or _tasks(tx) or [999]) if rng.random() < 0.99 else 999_999


def _edge(tx: Transaction, rng: random.Random) -> tuple[int, int]:
    own = tx.all("own_prerequisites", ids=_tasks(tx))
    return (rng.choice([(e["task"], e["prerequisite"]) for e in own])) if own else (999_999, 1)


def _gate(tx: Transaction, rng: random.Random) -> NewGate:
    kind = rng.choice((EdgeKind.TIME, EdgeKind.APPROVAL, EdgeKind.QUESTION, EdgeKind.EXTERNAL))
    moment = tx.the("clock")["now"] + rng.choice((-1000, 100, 5000)) if kind is EdgeKind.TIME else None
    return NewGate(kind, "so", moment)


def _roles(rng: random.Random) -> tuple[str, ...]:
    return rng.choice(((), (), ("tester",), ("", "writer")))
