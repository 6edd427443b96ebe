"""What happens by itself: timers that run out, and runs that are dead.

Whether a process lives is asked by the caller, who is on its machine; here is only what
follows. The database's clock is the only clock.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from orchestrion.core.errors import DamagedRow, InvalidInput
from orchestrion.core.states import TaskState
from orchestrion.core.values import name, stored_json
from orchestrion.scheduler import breaker, finish, holders, slots, waits
from orchestrion.scheduler.settle import settle
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Why a run is lost of which nothing was heard.
LEASE_OVER = "its lease ran out without a sign of life"

#: So many tasks get their tags anew at once.
_AT_ONCE = 1000
#: No table has more; a counter beyond it was set by hand, and soon has no next number.
_MOST_ROWS = 10**12
_LONGEST_BREAKER_MS = int(breaker.LONGEST_ASKED_S * 1000)


def due(tx: Transaction) -> int:
    """Moves on what a clock decides: leases of clients, back-offs, time gates, near deadlines. Returns how many.

    Bounded: a hundred of each kind at a time, so that no claim pays for a crowd.
    """
    return _client_leases(tx) + _retries(tx) + _time_gates(tx) + tx.run("promote_deadlines")


def expired(tx: Transaction) -> list[Row]:
    """Active runs whose lease has run out; the caller knows which of them still live."""
    return tx.all("expired_runs")


def bound(tx: Transaction) -> int:
    """Sets right what holds for years because it was set while the clock ran ahead. Returns how much it was.

    A clock that jumps by less than a lease is left alone, and whoever lives renews its lease in time.
    """
    if not is_ahead(tx):
        return 0
    found = {"runs": tx.run("bound_leases"), "tasks": tx.run("bound_retries")}
    found["breakers"] = tx.run("bound_breakers", breaker_ms=_LONGEST_BREAKER_MS)
    tx.event("clock.set_back", data=found)
    return sum(found.values())


def put_right(tx: Transaction) -> tuple[int, list[str]]:
    """Makes tasks and runs name each other, has tasks wait for what they wait for, bounds what a clock set, lets
    numbers go on behind the last one, has tasks found by the tags in their lists, and counts limits by their holds.
    Returns how many of these were wrong, and what was done with tasks and runs, in sentences.
    """
    counted = slots.count_holds(tx)
    done = holders.put_right(tx)
    waits_right = waits.put_right(tx)
    done += [f"{name('T', task)} waits for what it has to wait for again" for task in waits_right]
    return counted + len(done) + bound(tx) + _count_on(tx) + _tag(tx) + slots.recount(tx), done


def _count_on(tx: Transaction) -> int:
    """Tables whose next number was given before, or is none, go on behind the last of their rows."""
    wrong = lagging_counters(tx)
    for counter in wrong:
        if tx.knows("forget_counter"):
            tx.run("forget_counter", table=counter.table)
        told = tx.the("last_task_told_of")["id"] if counter.table == "tasks" else 0
        tx.put("set_counter", table=counter.table, last=max(counter.last, told))
    return len(wrong)


class Counter(NamedTuple):
    """What a table numbers its rows by."""

    table: str
    #: The number that it says it gave last; a hand may have written anything there.
    given: object
    #: The highest number of a row.
    last: int


def lagging_counters(tx: Transaction) -> list[Counter]:
    """Counters whose next number was given before, or is none that a row can have."""
    last = {row["table"]: row["last"] or 0 for row in tx.all("last_numbers")}
    found = [Counter(row["table"], row["given"], last[row["table"]]) for row in tx.all("counters")]
    return sorted(one for one in found if not (isinstance(one.given, int) and one.last <= one.given <= _MOST_ROWS))


def _tag(tx: Transaction) -> int:
    """Tasks that are found by other tags than their list has; one whose list cannot be read stays as it is."""
    found = [row["task"] for row in tx.all("wrong_tags", limit=_AT_ONCE)]
    if not found:
        return 0
    righted = 0
    for row in tx.all("lock_tasks", ids=found):  # now nobody else gives them others
        task = row["id"]
        if not tx.all("wrong_tags", ids=[task], limit=1):
            continue
        try:
            tags = stored_json(tx.the("task", id=task), "tags", name("T", task))
        except DamagedRow:
            continue
        tx.put("remove_tags", task=task)
        tx.each("add_tag", [{"task": task, "tag": tag} for tag in sorted(set(tags))])
        righted += 1
    return righted


def is_ahead(tx: Transaction) -> bool:
    """Whether ``bound`` has something to do."""
    return bool(tx.the("set_ahead_of_time", breaker_ms=_LONGEST_BREAKER_MS)["found"])


def next_timer(tx: Transaction) -> int | None:
    """When the next back-off or time gate ends, in milliseconds; None: there is none."""
    at = tx.the("next_timer")["at"]
    return None if at is None else int(at)


def silent(tx: Transaction, max_age_s: float) -> list[Row]:
    """Active runs that ``cleanup_stale_locks`` would end if none of them lived. Raises InvalidInput."""
    if not 0 <= max_age_s <= 1e9:
        raise InvalidInput(
            f"an age must be from 0 to 1e9 seconds, not {max_age_s}", hint="3600 is an hour", code="invalid_age"
        )
    return tx.all("silent_runs", age_ms=int(max_age_s * 1000))


def cleanup_stale_locks(tx: Transaction, max_age_s: float, only: Collection[int]) -> int:
    """Ends claims that gave no sign of life for ``max_age_s`` seconds or whose lease is over.

    A claim of a clock that ran ahead is bounded first, and counts as one that gave a sign of life now. ``only`` are the
    runs whose process was looked for, and is not known to live; others stay. Slots and merge queues of runs that
    ended are freed. Returns how many locks were released.
    """
    bound(tx)
    stale = [run["id"] for run in silent(tx, max_age_s) if run["id"] in only]
    released = slots.recount(tx)
    for run in stale:
        finish.give_up(tx, run, "no sign of life")
    return released + len(stale)


def _client_leases(tx: Transaction) -> int:
    """A client is known by its lease alone, so whoever claims may end it; a worker asks after processes first."""
    ended = [row["id"] for row in tx.all("ended_leases") if finish.lose(tx, row["id"], LEASE_OVER) is not None]
    return len(ended)


def _retries(tx: Transaction) -> int:
    ids = [row["id"] for row in tx.all("due_retries") if _goes_back(tx, row["id"])]
    for task in ids:
        tx.event("task.pending", task=task, found=TaskState.RETRYING, to=TaskState.PENDING, data={"by": "back-off"})
    settle(tx, waiting=ids)
    return len(ids)


def _goes_back(tx: Transaction, task: int) -> bool:
    """Moves a task whose back-off has ended; false when another claim was first."""
    moved = tx.run(
        "decided_task_moves",
        id=task,
        found=str(TaskState.RETRYING),
        to=str(TaskState.PENDING),
        code=None,
        reason=None,
        feedback=None,
        reset=0,
        correlation=None,
    )
    return moved > 0


def _time_gates(tx: Transaction) -> int:
    gates = [row["id"] for row in tx.all("due_gates")]
    # Whoever changes the shape now may wait for a row that this claim holds; the next look opens them.
    if not gates or not tx.the("try_lock_shape")["locked"]:
        return 0
    for gate in gates:
        tx.run("open_gate", gate=gate, state="met", answer=None, decided_by="clock")
    settle(tx, waiting=[row["task"] for row in tx.all("gate_edges_follow", gates=gates, state="met")])
    return len(gates)
