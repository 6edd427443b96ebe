"""Taking a task: one winner, whoever asks, from however many processes and machines.

Tasks that the same limits can refuse share a *lane*; a lane's best task is found through
an index. A claim looks at the heads of all lanes, best first, and takes the first one
whose limits have room; tasks that only another clone may take are out of its sight. The new
run's number is the fence for all that is written about the task from then on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrion.core.errors import AlreadyTaken, Backpressure, Conflict, NotFound, NothingReady
from orchestrion.core.model import iso, name
from orchestrion.core.states import RunState, TaskState
from orchestrion.core.values import check_word, stored_json
from orchestrion.scheduler import breaker, budget, clones, decide, reap, slots
from orchestrion.scheduler.budget import Budgets
from orchestrion.scheduler.unknown import unknown_task
from orchestrion.store import Transaction
from orchestrion.store.store import Answer, Row

#: Seconds after which a caller refused for want of room may ask again.
RETRY_AFTER_S = 5.0


@dataclass(frozen=True)
class Claimant:
    """Who wants a task, and which ones it may have."""

    #: How long the claim holds without a sign of life, in milliseconds.
    lease_ms: int
    #: The agent that will do it, where the task names none.
    agent: str = ""
    #: role -> agent, for tasks that name no agent.
    agent_of_role: Mapping[str, str] = field(default_factory=dict)
    #: role -> agent, while the breaker of the task's own agent is open.
    fallback_of_role: Mapping[str, str] = field(default_factory=dict)
    #: Only these roles; empty: all.
    roles: Sequence[str] = ()
    #: Only tasks with this tag.
    tag: str | None = None
    #: Only tasks for this agent, or for any.
    only_agent: str | None = None
    #: Only tasks of the plan with this number.
    plan: int | None = None
    #: A worker's claim, for a supervisor to run; the limits on runs bind it.
    supervised: bool = False
    #: Agents that need no command of the task's own; None: it does not matter who has one.
    self_sufficient: frozenset[str] | None = None
    #: What may be spent, for a worker's claims; None: any sum.
    budgets: Budgets | None = None
    host: str = ""
    #: Tells the host from others of its name; None: a client, whose process nobody asks after.
    host_id: str | None = None
    worker_pid: int | None = None
    worker_start: float | None = None
    #: Numbers of runs below this one were given before, by a store that is not as it was.
    first_run: int = 0

    def __post_init__(self) -> None:
        for agent in (self.agent, self.only_agent):
            check_word("agent", agent or "")


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
    if taken := _claim_at_once(tx, claimant):
        return taken
    if (spent := _spent_plans(tx, claimant)) is None:
        return None
    asked, best = tx.ask("claim_view"), _ask_best(tx, claimant, spent)
    view = asked.rows()[0]
    if view["due"] and reap.due(tx):
        best = _ask_best(tx, claimant, spent)
    if claimant.supervised and view["paused_at"] is not None:
        return None
    broken = breaker.blocked(tx) if claimant.supervised else frozenset()
    for task in _candidates(tx, claimant, best, spent):
        agent = agent_of(task, claimant, broken)
        if agent is None or not _can_do(task, claimant, agent):
            continue
        limits, missing = slots.room(tx, _limits(task, claimant, agent))
        if missing is None:
            return _take(tx, task, claimant, agent, limits)
    return None


def _claim_at_once(tx: Transaction, claimant: Claimant) -> Claim | None:
    """The common case in one statement, where the database has it; None: step by step, then."""
    choosy = claimant.supervised or claimant.tag or claimant.only_agent or claimant.agent_of_role or claimant.plan
    if choosy or not tx.knows("claim_at_once"):
        return None
    row = tx.one(
        "claim_at_once",
        roles=list(claimant.roles) or None,
        agent=claimant.agent,
        host=claimant.host,
        lease_ms=claimant.lease_ms,
        holder=_holder(tx, claimant),
        **tx.origin.as_dict(),
    )
    if row is None:
        return None
    return Claim(row["run"], row["task"], row["attempt"], row["agent"], row["role"], row["lease_until"])


def claim_task(tx: Transaction, task: int, claimant: Claimant) -> Claim:
    """Takes the named task. Raises NotFound, AlreadyTaken, NothingReady (not ready), Backpressure, or Conflict
    (``budget_exhausted``, ``other_clone``).
    """
    if tx.the("claim_view")["due"]:
        reap.due(tx)
    # Waits for whoever is about to take it, so that the refusal can say who did.
    tx.one("task_for_update", id=task)
    row = tx.one("take_ready", id=task)
    if row is None:
        raise _refusal(tx, task)
    if row["clone"]:
        clones.refuse_elsewhere(tx, tx.the("plan_by_number", id=row["plan"]), name("T", task))
    _refuse_spent(tx, task, claimant)
    agent = agent_of(row, claimant) or claimant.only_agent or ""
    limits, missing = slots.room(tx, _limits(row, claimant, agent))
    if missing is not None:
        raise no_room(task, missing)
    return _take(tx, row, claimant, agent, limits)


def _spent_plans(tx: Transaction, claimant: Claimant) -> list[int] | None:
    """Plans of which nothing may start, because of what they cost; None: nothing may start at all."""
    if claimant.budgets is None or not claimant.supervised:
        return []
    if budget.is_day_over(tx, claimant.budgets):
        return None
    return budget.spent_plans(tx, claimant.budgets)


def _refuse_spent(tx: Transaction, task: int, claimant: Claimant) -> None:
    if claimant.budgets is None or not claimant.supervised:
        return
    refusal = budget.refusal(tx, tx.the("task", id=task)["plan"], claimant.budgets)
    if refusal is not None:
        raise Conflict(
            f"{name('T', task)} is ready, but {refusal}",
            hint="raise the budget in .orchestrion/config.yaml, or wait until it is renewed",
            code="budget_exhausted",
        )


def _ask_best(tx: Transaction, claimant: Claimant, spent: Sequence[int], closed: Sequence[int] = ()) -> Answer:
    wanted = {"roles": list(claimant.roles) or None, "spent": list(spent) or None, "plan": claimant.plan}
    if claimant.tag is not None:
        return tx.ask("tagged_heads", tag=claimant.tag, **wanted)
    return tx.ask("take_best", closed=list(closed) or None, **wanted)


def _candidates(tx: Transaction, claimant: Claimant, best: Answer, spent: Sequence[int]) -> Iterator[Row]:
    """Ready tasks, best first, one of each lane: a lane whose first task is passed over is closed.

    So is a lane of which others are taking every task at this moment.
    """
    if claimant.tag is not None:
        yield from (row for head in best.rows() if (row := tx.one("take_ready", id=head["id"])))
        return
    closed: list[int] = []
    while rows := best.rows():
        if rows[0]["id"] is not None:
            yield rows[0]
        closed.append(rows[0]["lane"])
        best = _ask_best(tx, claimant, spent, closed)


def lanes_of(tx: Transaction, claimant: Claimant) -> list[int] | None:
    """The lanes whose tasks are for the agent that the claimant is asked for; None: all."""
    if claimant.only_agent is None:
        return None
    return [lane["id"] for lane in tx.all("lanes") if agent_of(lane, claimant) is not None]


def no_room(task: int, limit: str) -> Backpressure:
    """The refusal of a claim for want of room under a limit."""
    return Backpressure(
        f"{name('T', task)} is ready, but the limit {limit} is used up",
        retry_after_s=RETRY_AFTER_S,
        hint=f"wait for a run to end, or raise the limit: `orchestrion slots {limit}=N`",
        limit=limit,
    )


def agent_of(head: Row, claimant: Claimant, broken: Collection[str] = ()) -> str | None:
    """The agent that will do the task; None when it is another than the one asked for, or broken without a fallback."""
    agent = head["agent"] or claimant.agent_of_role.get(head["role"]) or claimant.only_agent or claimant.agent
    if agent in broken:
        agent = claimant.fallback_of_role.get(head["role"], "")
        if not agent or agent in broken:
            return None
    if claimant.only_agent and agent != claimant.only_agent:
        return None
    return str(agent)


def _can_do(task: Row, claimant: Claimant, agent: str) -> bool:
    """A task that says nothing of what is to be run waits for a client, or for an agent that knows by itself."""
    return bool(task["command"]) or claimant.self_sufficient is None or agent in claimant.self_sufficient


def _limits(task: Row, claimant: Claimant, agent: str) -> list[str]:
    return slots.names_for(
        host=claimant.host,
        agent=agent,
        role=task["role"],
        needs=stored_json(task, "needs", name("T", task["id"])) if task["needs"] != "[]" else (),
        supervised=claimant.supervised,
    )


def _take(tx: Transaction, task: Row, claimant: Claimant, agent: str, limits: Sequence[str]) -> Claim:
    state = RunState.STARTING if claimant.supervised else RunState.RUNNING
    run = tx.the(
        "add_run",
        task=task["id"],
        attempt=task["attempts"] + 1,
        state=str(state),
        supervised=int(claimant.supervised),
        agent=agent,
        role=task["role"],
        actor=_holder(tx, claimant),
        host=claimant.host,
        host_id=claimant.host_id,
        worker_pid=claimant.worker_pid,
        worker_start=claimant.worker_start,
        lease_ms=claimant.lease_ms,
        queued_at=task["ready_at"],
        least=claimant.first_run,
    )
    if claimant.supervised:
        breaker.try_out(tx, agent, run["id"])
    slots.hold(tx, run["id"], limits)
    tx.put("task_becomes_in_progress", id=task["id"], run=run["id"])
    tx.event(f"run.{state}", task=task["id"], run=run["id"], to=state)
    tx.event("task.in_progress", task=task["id"], run=run["id"], found=TaskState.READY, to=TaskState.IN_PROGRESS)
    return Claim(run["id"], task["id"], task["attempts"] + 1, agent, task["role"], run["lease_until"])


def _holder(tx: Transaction, claimant: Claimant) -> str:
    return tx.origin.actor if claimant.supervised else tx.origin.holder


def _refusal(tx: Transaction, task: int) -> Conflict | NothingReady | NotFound:
    found = tx.one("task", id=task)
    label = name("T", task)
    if found is None:
        return unknown_task(task)
    if found["run"]:
        return AlreadyTaken(
            f"{label} is held by {name('R', found['run'])}",
            hint="choose another: `orchestrion ready`",
            run=name("R", found["run"]),
        )
    return NothingReady(
        f"{label} is {found['state']}, not ready",
        hint=decide.INSTEAD[TaskState(found["state"])].format(label),
        state=found["state"],
    )


def nothing_ready(tx: Transaction) -> NothingReady:
    """The answer to a claim that found nothing, with what there is instead."""
    timer = tx.the("next_timer")["at"]
    full = [row["name"] for row in tx.all("full_slots")]
    return NothingReady(
        "no task is ready for this claim",
        hint="`orchestrion list` shows all tasks, `orchestrion why TASK` what one waits for",
        full_limits=full,
        next_timer=iso(timer),
    )
