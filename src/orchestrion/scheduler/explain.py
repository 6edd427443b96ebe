"""Why a task is not running: an answer for every task, from the rows that decide it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from orchestrion.core.errors import CLEANUP
from orchestrion.core.model import iso, name
from orchestrion.core.states import ACTIVE_RUN, DECISION_GATES, SETTLED_TASK, EdgeKind, EdgeState, TaskState, standing
from orchestrion.core.values import count, stored_json
from orchestrion.scheduler import breaker, budget, clones, slots
from orchestrion.scheduler.budget import Budgets
from orchestrion.scheduler.unknown import unknown_task
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: An answer names this many edges; a fan of 100,000 is counted, not listed.
SHOWN = 50
#: Ends what says when something was due: nobody looks at the clock but whoever takes work.
_NEXT_CLAIM = ", and the next claim lets it go on"


class Reason(NamedTuple):
    """One thing that keeps a task where it is."""

    #: dependency, dead_dependency, child, gate, retry, run, limit, paused, budget, breaker, command, other_clone,
    #: queue, review, ended, stale, damaged
    kind: str
    detail: str
    ids: list[str]

    def as_json(self) -> dict[str, Any]:
        """As CONTRACT promises it."""
        return {"kind": self.kind, "detail": self.detail, "ids": self.ids}


def why(
    tx: Transaction,
    task: int,
    budgets: Budgets | None = None,
    agent_of: Callable[[Row], str] = lambda row: row["agent"] or "",
    self_sufficient: Collection[str] = (),
    dead: Callable[[Row], str | None] = lambda run: None,
) -> tuple[str, list[Reason]]:
    """State of a task, and what keeps it from running (or that nothing does).

    ``agent_of`` says which agent a worker would give the task to, ``self_sufficient`` which agents need no command,
    ``dead`` what settles a run whose supervisor died, if it did.
    """
    row = tx.one("task", id=task)
    if row is None:
        raise unknown_task(task)
    if row["state"] not in set(TaskState):
        said = "which is no state of a task: somebody wrote it by hand"
        return row["state"], [Reason("damaged", f"its state is {row['state']!r}, {said}", [])]
    state = TaskState(row["state"])
    reasons = [*_of_state(tx, row, state, dead), *_of_edges(tx, row, state)]
    if state is TaskState.READY:
        reasons += not_taken(tx, row, budgets, agent_of(row), self_sufficient)
        if not any(reason.kind in ("command", "other_clone") for reason in reasons):  # else no worker here takes it
            reasons.append(_place_in_queue(tx, row))
    return state, reasons or [Reason("queue", "nothing keeps it; a worker will take it", [])]


def _of_state(tx: Transaction, row: Row, state: TaskState, dead: Callable[[Row], str | None]) -> list[Reason]:
    if state is TaskState.IN_PROGRESS:
        run = tx.one("run", id=row["run"])
        if run is None or run["task"] != row["id"] or run["state"] not in ACTIVE_RUN:
            return [Reason("damaged", f"it is in progress, and names no active run of its own: {CLEANUP}", [])]
        held, until = name("R", run["id"]), f"lease until {iso(run['lease_until'])}"
        if not run["supervised"] and run["lease_until"] <= tx.the("clock")["now"]:
            return [
                Reason("run", f"{held} held it, {until}, and is not heard of since; the next claim frees it", [held])
            ]
        if said := dead(run):
            return [Reason("run", f"{held} held it ({run['phase']}), and {said}", [held])]
        return [Reason("run", f"{held} works on it ({run['phase']}), {until}", [held])]
    if state is TaskState.RETRYING:
        said = f": {_first_line(row['error'])}" if row["error"] else ""
        if row["retry_at"] is None:
            now = f"`orchestrion retry {name('T', row['id'])}` does it now"
            return [
                Reason("damaged", f"{row['code']}{said}; it is to be tried again, and nothing says when: {now}", [])
            ]
        is_due = row["retry_at"] <= tx.the("clock")["now"]
        again = f"{'was due' if is_due else 'is tried again'} at {iso(row['retry_at'])}"
        return [Reason("retry", f"{row['code']}{said}; it {again}{_NEXT_CLAIM if is_due else ''}", [])]
    if state is TaskState.REVIEW:
        said = f": {row['reason']}" if row["reason"] else ""
        todo = f"`orchestrion show {name('T', row['id'])}` says what to do"
        return [Reason("review", f"done ({row['code'] or 'handed in'}{said}); it waits for a person: {todo}", [])]
    if state in SETTLED_TASK:
        said = row["error"] or row["reason"] or row["summary"] or ""
        code = f" ({row['code']})" if row["code"] else ""
        return [Reason("ended", f"{state}{code}{f': {said}' if said else ''}", [])]
    return []


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 300 else f"{line[:299]}…"


def _of_edges(tx: Transaction, row: Row, state: TaskState) -> list[Reason]:
    """Open and dead edges; for work that started or ended they only say that it is stale."""
    if not row["unmet"]:
        return []
    edges = tx.all("unmet_edges", task=row["id"], limit=SHOWN)
    if state in (TaskState.COMPLETED, TaskState.IN_PROGRESS, TaskState.REVIEW):
        again = [name("T", e["prerequisite"]) for e in edges if e["prerequisite"] and e["kind"] != "child"]
        return [Reason("stale", "a prerequisite was reopened or failed after this was started", again)] if again else []
    if state in SETTLED_TASK:
        return []
    now = tx.the("clock")["now"]
    reasons = [_of_edge(edge, now) for edge in edges]
    hidden = row["unmet"] - len(edges)
    return [*reasons, Reason("dependency", f"... and {hidden} more", [])] if hidden > 0 else reasons


def _of_edge(edge: Row, now: int) -> Reason:
    if edge["gate"]:
        label = name("G", edge["gate"])
        is_due = bool(edge["opens_at"]) and edge["opens_at"] <= now and edge["state"] == EdgeState.OPEN
        when = f" until {iso(edge['opens_at'])}{_NEXT_CLAIM if is_due else ''}" if edge["opens_at"] else ""
        text = f": {edge['gate_name']}" if edge["gate_name"] else ""
        how = standing(edge["state"], is_gate=True)
        decided = edge["state"] == EdgeState.OPEN and edge["kind"] in DECISION_GATES
        answer = " --answer TEXT" if edge["kind"] == EdgeKind.QUESTION else ""
        todo = f"; `orchestrion gate open {label}{answer}` decides it" if decided else ""
        if edge["state"] == EdgeState.DEAD:
            owner = name("T", edge["heir_of"])
            todo = f"; that is final: `orchestrion cancel {owner} --reason TEXT` ends {owner}"
        return Reason("gate", f"{edge['kind']} {label} is {how}{when}{text}{todo}", [label])
    label = name("T", edge["prerequisite"])
    if edge["prerequisite_state"] is None:
        said = f"it waits for {label} ({edge['kind']}), a task that is gone: `orchestrion maintain validate` names it"
        return Reason("damaged", said, [label])
    detail = f"{label} ({edge['prerequisite_title']}) is {edge['prerequisite_state']}"
    if edge["kind"] == "child":
        return Reason("child", f"its child {detail}", [label])
    kind = "dead_dependency" if edge["state"] == "dead" else "dependency"
    inherited = f", inherited from {name('T', edge['heir_of'])}" if edge["heir_of"] != edge["task"] else ""
    todo = f"; `orchestrion retry {label}` tries it again" if edge["prerequisite_state"] == TaskState.FAILED else ""
    if edge["prerequisite_state"] == TaskState.CANCELLED and kind == "dead_dependency":
        todo = f"; `orchestrion dep waive {name('T', edge['heir_of'])} {label} --reason TEXT` goes on without it"
    return Reason(kind, f"{edge['kind']} {detail}{inherited}{todo}", [label])


def not_taken(
    tx: Transaction, row: Row, budgets: Budgets | None, agent: str, self_sufficient: Collection[str] | None
) -> list[Reason]:
    """Why no worker takes a ready task that is for ``agent``; empty: nothing but others before it."""
    reasons = []
    if row["clone"] not in ("", tx.clone):
        reasons.append(_elsewhere(tx.the("plan_by_number", id=row["plan"])))
    if tx.the("paused")["paused_at"] is not None:
        reasons.append(Reason("paused", "the queue is paused: `orchestrion resume` lets it go on", []))
    if budgets is not None and (refusal := budget.refusal(tx, row["plan"], budgets)):
        reasons.append(Reason("budget", f"{refusal}; workers start nothing of it", []))
    for one in breaker.overview(tx):
        if one["agent"] == agent:
            detail = f"the agent {one['agent']} is left alone until {one['until']} ({one['code']})"
            reasons.append(Reason("breaker", detail, []))
    needs = stored_json(row, "needs", name("T", row["id"]))
    wanted = slots.names_for(host="", agent=agent, role=row["role"], needs=needs, supervised=True)
    for slot in tx.all("full_slots"):
        if slot["name"] in wanted:
            reasons.append(Reason("limit", f"the limit {slot['name']} is used up", []))
    if not row["command"] and self_sufficient is not None and agent not in self_sufficient:
        change = f"`orchestrion update {name('T', row['id'])}"
        ways = f"{change} --run COMMAND` or {change} --agent claude` (say) gives it one"
        reasons.append(Reason("command", f"the agent {agent!r} needs a command and it has none: {ways}", []))
    return reasons


def _elsewhere(plan: Row) -> Reason:
    return Reason("other_clone", f"{clones.reason(plan)}; a worker or client there can take it", [])


def elsewhere(tx: Transaction, limit: int, *, plan: int | None = None) -> list[tuple[Row, str]]:
    """The first ``limit`` ready tasks that only another clone may take, each with why."""
    return [(row, _elsewhere(row).detail) for row in tx.all("ready_elsewhere", limit=limit, plan=plan)]


def _place_in_queue(tx: Transaction, row: Row) -> Reason:
    ahead = tx.the("ready_before", rank=row["rank"], id=row["id"], limit=1000)["total"]
    more = (
        f"{ahead}+ ready tasks are"
        if ahead >= 1000
        else f"{count(ahead, 'ready task')} {'is' if ahead == 1 else 'are'}"
    )
    place = f"{more} before it" if ahead else "next"
    return Reason("queue", f"ready; {place}. It runs when a worker that may take it has room", [])


def ready(tx: Transaction, limit: int, *, plan: int | None = None) -> list[Row]:
    """The first ``limit`` ready tasks that this clone may take, of a plan or of all, in the order of their claims.

    Each lane gives its first ones through its index; so the length of the queue does not matter.
    """
    first = [
        row
        for lane in tx.all("lanes")
        for home in dict.fromkeys(("", tx.clone or ""))
        for row in tx.all("ready_of_lane", lane=lane["id"], home=home, limit=limit, plan=plan)
    ]
    first.sort(key=lambda row: (row["rank"], row["id"]))
    return first[:limit]
