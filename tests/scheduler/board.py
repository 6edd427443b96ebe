"""A board: a store with a clock that a test turns, and the scheduler's verbs as one-liners."""

from __future__ import annotations

from typing import Any

from invariants import look, violations

from orchestrion.core.model import NewGate, NewTask, Wait
from orchestrion.core.states import EdgeKind, TaskState
from orchestrion.scheduler import claim, create, decide, explain, finish, reap, shape, slots
from orchestrion.store import Store

MINUTE = 60_000
HOUR = 3_600_000
LEASE = 15 * MINUTE


class Board:
    """The scheduler on one database, each verb in a transaction of its own."""

    def __init__(self, store: Store, raw: Any) -> None:
        self.store = store
        self.raw = raw

    # what is there

    def state(self, task: int) -> TaskState:
        return TaskState(self.task(task)["state"])

    def states(self, *tasks: int) -> list[str]:
        return [str(self.state(task)) for task in tasks]

    def task(self, task: int) -> dict[str, Any]:
        return dict(self.store.read(lambda tx: tx.the("task", id=task)))

    def run(self, run: int) -> dict[str, Any]:
        return dict(self.store.read(lambda tx: tx.the("run", id=run)))

    def edges(self, task: int) -> dict[int, str]:
        """Prerequisite -> state of the edge."""
        rows = self.raw.rows("select * from edges where task = ? and prerequisite is not null", task)
        return {row["prerequisite"]: row["state"] for row in rows}

    def events(self, task: int) -> list[dict[str, Any]]:
        return [dict(r) for r in self.store.read(lambda tx: tx.all("events", since=0, task=task, limit=1000))]

    def slots(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, capacity)."""
        rows = self.store.read(slots.all_slots)
        assert all(row["free"] == max(0, row["capacity"] - row["used"]) for row in rows)  # type: ignore[operator]
        return {str(row["name"]): (row["used"], row["capacity"]) for row in rows}  # type: ignore[misc]

    def why(self, task: int) -> list[tuple[str, str]]:
        state, reasons = self.store.read(lambda tx: explain.why(tx, task))
        assert state == self.state(task)
        return [(reason.kind, reason.detail) for reason in reasons]

    def pass_time(self, milliseconds: float) -> None:
        assert self.store.now is not None
        self.store.now += int(milliseconds)

    # what is done

    def add(self, title: str = "a task", *, after: Any = (), limits: Any = None, **fields: Any) -> int:
        """A new task; ``after`` are numbers or (number, kind) pairs."""
        waits = [Wait(*on) if isinstance(on, tuple) else Wait(on) for on in after]
        new = NewTask(title, waits=tuple(waits), **fields)
        return self.store.write(lambda tx: create.create(tx, new, limits))

    def depend(self, task: int, on: int, kind: EdgeKind = EdgeKind.BLOCKS) -> None:
        self.store.write(lambda tx: shape.add_dependency(tx, task, on, kind))

    def undepend(self, task: int, on: int, kind: EdgeKind | None = None) -> None:
        self.store.write(lambda tx: shape.remove_dependency(tx, task, on, kind))

    def waive(self, task: int, on: int, reason: str = "not worth it") -> None:
        self.store.write(lambda tx: shape.waive_dependency(tx, task, on, reason))

    def gate(self, task: int, kind: EdgeKind = EdgeKind.APPROVAL, name: str = "", opens_at: int | None = None) -> int:
        return self.store.write(lambda tx: shape.add_gate(tx, task, NewGate(kind, name, opens_at)))

    def open_gate(self, gate: int, *, refuse: bool = False, answer: str | None = None) -> None:
        self.store.write(
            lambda tx: shape.decide_gate(tx, gate, opened=not refuse, answer=answer, decided_by="user:ada")
        )

    def move(self, task: int, parent: int | None, limits: Any = None) -> None:
        self.store.write(lambda tx: shape.move(tx, task, parent, limits))

    def claim(self, **claimant: Any) -> claim.Claim | None:
        return self.store.write(lambda tx: claim.claim(tx, claim.Claimant(**{"lease_ms": LEASE, **claimant})))

    def take(self, task: int, **claimant: Any) -> int:
        """Claims the named task; its run."""
        who = claim.Claimant(**{"lease_ms": LEASE, **claimant})
        return self.store.write(lambda tx: claim.claim_task(tx, task, who)).run

    def complete(self, run: int, **facts: Any) -> list[int]:
        return self.store.write(lambda tx: finish.complete(tx, run, **facts))

    def fail(self, run: int, code: str = "agent_failed", **facts: Any) -> int | None:
        facts.setdefault("error", "it broke")
        return self.store.write(lambda tx: finish.fail(tx, run, code=code, **facts))

    def lose(self, run: int) -> TaskState | None:
        return self.store.write(lambda tx: finish.lose(tx, run, "gone"))

    def do(self, task: int) -> list[int]:
        """Claims and completes the task; what became ready."""
        return self.complete(self.take(task))

    def spoil(self, task: int) -> None:
        """Claims the task and fails it for good."""
        self.fail(self.take(task))

    def retry(self, task: int) -> None:
        self.store.write(lambda tx: decide.retry(tx, task))

    def reopen(self, task: int, reason: str = "not good enough") -> None:
        self.store.write(lambda tx: decide.reopen(tx, task, reason))

    def cancel(self, task: int, reason: str = "not wanted", **how: Any) -> list[int]:
        return self.store.write(lambda tx: decide.cancel(tx, task, reason, **how))

    def update(self, task: int, **changes: Any) -> list[str]:
        return self.store.write(lambda tx: decide.update(tx, task, changes))

    def limit(self, slot: str, capacity: int | None) -> None:
        self.store.write(lambda tx: slots.set_capacity(tx, slot, capacity))

    def reap(self) -> int:
        """Moves on whatever the clock decides."""
        return self.store.write(reap.due)

    def check(self) -> None:
        assert violations(look(self.raw)) == []
