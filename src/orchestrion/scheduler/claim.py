"""Taking a task: one winner, whoever asks, from however many processes and machines.

Tasks that the same limits can refuse share a *lane*; a lane's best task is found through
an index. A claim looks at the heads of all lanes, best first, and takes the first one
whose limits have room. The new run's number is the fence for all that is written about
the task from then on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrion.core.errors import AlreadyTaken, Backpressure, Conflict, NothingReady
from orchestrion.core.model import iso, name
from orchestrion.core.states import RunState, TaskState
from orchestrion.scheduler import reap, slots
from orchestrion.scheduler.create import unknown_task
from orchestrion.store import Transaction
from orchestrion.store.store import Row


@dataclass(frozen=True)
class Claimant:
    """Who wants a task, and which ones it may have."""

    #: How long the claim holds without a sign of life, in milliseconds.
    lease_ms: int
    #: The agent that will do it, where the task names none.
    agent: str = ""
    #: role -> agent, for tasks that name no agent.
    agent_of_role: Mapping[str, str] = field(default_factory=dict)
    #: Only these roles; empty: all.
    roles: Sequence[str] = ()
    #: Only tasks with this tag.
    tag: str | None = None
    #: Only tasks for this agent, or for any.
    only_agent: str | None = None
    #: A worker's claim, for a supervisor to run; the limits on runs bind it.
    supervised: bool = False
    host: str = ""
    worker_pid: int | None = None
    worker_start: float | None = None


@dataclass(frozen=True)
class Claim:
    """A task that was taken."""

    run: int
    task: int
    attempt: int
    agent: str
    role: str
    #: Milliseconds since 1970.
    lease_until: int


def claim(tx: Transaction, claimant: Claimant) -> Claim | None:
    """Takes the best task that ``claimant`` may have now; None when there is none."""
    reap.due(tx)
    if claimant.supervised and tx.the("paused")["paused_at"] is not None:
        return None
    full = {row["name"] for row in tx.all("full_slots")}
    for head in _heads(tx, claimant):
        agent = _agent(head, claimant)
        if agent is None or full.intersection(_limits(head, claimant, agent)):
            continue
        task = tx.one("take_head", lane=head["lane"]) if claimant.tag is None else tx.one("take_ready", id=head["id"])
        if task is None:
            continue
        taken = _take(tx, task, head, claimant, agent)
        if taken is not None:
            return taken
    return None


def claim_task(tx: Transaction, task: int, claimant: Claimant) -> Claim:
    """Takes the named task. Raises NotFound, AlreadyTaken, NothingReady (not ready) or Backpressure."""
    reap.due(tx)
    head = tx.one("lane_of_task", id=task)
    if head is None:
        raise unknown_task(task)
    row = tx.one("take_ready", id=task)
    if row is None:
        raise _refusal(head)
    agent = _agent(head, claimant) or claimant.only_agent or ""
    taken = _take(tx, row, head, claimant, agent)
    if taken is None:
        raise no_room(head, sorted(_limits(head, claimant, agent)))
    return taken


def no_room(head: Row, limits: Sequence[str]) -> Backpressure:
    """The refusal of a claim whose limits are used up."""
    return Backpressure(
        f"{name('T', head['id'])} is ready, but a limit it needs is used up ({', '.join(limits)})",
        retry_after_s=5.0,
        hint="wait for a run to end, or raise the limit: `orchestrion slots NAME=N`",
        limits=list(limits),
    )


def _heads(tx: Transaction, claimant: Claimant) -> list[Row]:
    if claimant.tag is not None:
        heads = tx.all("tagged_heads", tag=claimant.tag)
        return [head for head in heads if not claimant.roles or head["role"] in claimant.roles]
    return tx.all("lane_heads", roles=list(claimant.roles) or None)


def _agent(head: Row, claimant: Claimant) -> str | None:
    """The agent that will do the task; None when it is another than the one asked for."""
    agent = head["agent"] or claimant.agent_of_role.get(head["role"]) or claimant.only_agent or claimant.agent
    if claimant.only_agent and agent != claimant.only_agent:
        return None
    return str(agent)


def _limits(head: Row, claimant: Claimant, agent: str) -> set[str]:
    needs = json.loads(head["needs"])
    return set(
        slots.names_for(host=claimant.host, agent=agent, role=head["role"], needs=needs, supervised=claimant.supervised)
    )


def _take(tx: Transaction, task: Row, head: Row, claimant: Claimant, agent: str) -> Claim | None:
    run = tx.the(
        "add_run",
        task=task["id"],
        attempt=task["attempts"] + 1,
        supervised=int(claimant.supervised),
        agent=agent,
        role=head["role"],
        actor=tx.origin.actor,
        host=claimant.host,
        worker_pid=claimant.worker_pid,
        worker_start=claimant.worker_start,
        lease_ms=claimant.lease_ms,
        queued_at=task["ready_at"],
    )
    limits = _limits(head, claimant, agent)
    if limits and (missing := slots.hold(tx, run["id"], limits)):
        raise no_room({**dict(head), "id": task["id"]}, [missing])
    tx.run("task_becomes_in_progress", id=task["id"], run=run["id"])
    tx.event("run.starting", task=task["id"], run=run["id"], to=RunState.STARTING)
    tx.event("task.in_progress", task=task["id"], run=run["id"], found=TaskState.READY, to=TaskState.IN_PROGRESS)
    return Claim(run["id"], task["id"], task["attempts"] + 1, agent, head["role"], run["lease_until"])


def _refusal(head: Row) -> Conflict | NothingReady:
    label = name("T", head["id"])
    if head["run"]:
        return AlreadyTaken(
            f"{label} is held by {name('R', head['run'])}",
            hint="choose another: `orchestrion ready`",
            run=name("R", head["run"]),
        )
    return NothingReady(
        f"{label} is {head['state']}, not ready",
        hint=f"`orchestrion why {label}` says what it waits for",
        state=head["state"],
    )


def nothing_ready(tx: Transaction) -> NothingReady:
    """The answer to a claim that found nothing, with what there is instead."""
    counts = {row["state"]: row["total"] for row in tx.all("count_states")}
    timer = tx.the("next_timer")["at"]
    full = [row["name"] for row in tx.all("full_slots")]
    return NothingReady(
        "no task is ready for this claim",
        hint="`orchestrion list` shows all tasks, `orchestrion why TASK` what one waits for",
        states=counts,
        full_limits=full,
        next_timer=iso(timer),
    )
