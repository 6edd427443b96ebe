"""How a run ends, and what becomes of its task.

Every function here names a run. If that run is no longer its task's current one, the
write is refused (StaleRun) and nothing changes: the run is the fence. The run's end, the
task's move, the freed slots, the settled edges and the events are one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrion.core import retry
from orchestrion.core.errors import CLEANUP, Conflict, IllegalMove, NotFound, StaleRun
from orchestrion.core.model import TEXT_LIMIT, NewGate, name
from orchestrion.core.states import ACTIVE_RUN, RUN_MOVES, EdgeKind, RunState, TaskState, in_words, is_legal_run_move
from orchestrion.scheduler import shape
from orchestrion.scheduler.settle import settle
from orchestrion.store import Transaction
from orchestrion.store.store import Answer, Row

#: A task whose supervisor vanished waits this long at first, in seconds: tried at once it would meet the same trouble.
LOST_DELAY_S = 5.0


#: Gives a random number from 0 to 1; only used when jitter is asked for.
Random = Callable[[], float]


@dataclass(frozen=True)
class BackOff:
    """How long a task waits before its next attempt."""

    cap_s: float = 3600.0
    #: Share of the delay that is added at random, 0..1.
    jitter: float = 0.0
    random: Random | None = None

    def delay(self, retries: int, base_s: float) -> float:
        """Seconds to wait after so many earlier retries."""
        return retry.delay(retries, base_s, cap_s=self.cap_s, jitter=self.jitter, random=self.random)


def held(tx: Transaction, run: int, *, write: bool = True) -> Row:
    """The run with the task it holds. Raises NotFound, or StaleRun when it holds it no longer.

    With ``write`` the task's row stays as it is until the transaction ends: nobody gives it a child meanwhile.
    """
    return _held(run, _ask_held(tx, run, write=write).rows())


def _ask_held(tx: Transaction, run: int, *, write: bool) -> Answer:
    return tx.ask("held_task", run=run, write=write or None)


def _held(run: int, rows: Sequence[Row]) -> Row:
    if not rows:
        raise NotFound(f"there is no run {name('R', run)}", hint="`orchestrion runs` shows the runs", code="no_run")
    row = rows[0]
    if row["run"] != run or row["run_state"] not in ACTIVE_RUN:
        raise stale(run, row)
    return row


def stale(run: int, row: Row) -> StaleRun:
    """The refusal of a write by a run that no longer holds its task, or of which a hand made its task say else."""
    task = name("T", row["task"])
    current = f"is now held by {name('R', row['run'])}" if row["run"] else f"is {in_words(row['state'])}"
    said = f"{name('R', run)} is {row['run_state']} and no longer holds {task}, which {current}"
    hint = "nothing was written; an agent ends here, a client claims the task again if it is ready"
    if row["run"] == run:
        said = f"{name('R', run)} is {row['run_state']}, and {task} is still said to be held by it"
        hint = f"nothing was written; something else than this program ended the run: {CLEANUP}, and {task} goes back"
    elif row["run_state"] in ACTIVE_RUN:
        said = f"{name('R', run)} is {row['run_state']}, and {task} does not know of it: it {current}"
        by_hand = "something else than this program changed that"
        hint = f"nothing was written; {by_hand}: {CLEANUP}, and says whether the run holds a task"
    elif row["run_state"] == RunState.SUCCEEDED:
        hint = "it was reported before, and that stands; nothing was written now"
    return StaleRun(
        said,
        hint=hint,
        run=name("R", run),
        task=task,
        state=row["state"],
        run_state=row["run_state"],
    )


def start(tx: Transaction, run: int, *, pid: int, pid_start: float, host: str, host_id: str | None = None) -> None:
    """The supervisor with this process id owns the run from now on."""
    row = held(tx, run)
    if row["run_state"] != RunState.STARTING or not tx.run(
        "run_starts", run=run, pid=pid, pid_start=pid_start, host=host, host_id=host_id
    ):
        raise Conflict(f"{name('R', run)} has a supervisor already", hint="nothing to do", code="run_started")
    tx.event("run.running", task=row["task"], run=run, found=RunState.STARTING, to=RunState.RUNNING, data={"pid": pid})


def renew(tx: Transaction, run: int) -> int:
    """A sign of life: the lease is extended. Returns until when, in milliseconds. Raises StaleRun."""
    row = tx.one("renew_lease", run=run)
    if row is None:
        # Held after all: it was claimed by another transaction between the two looks.
        held(tx, run)
        row = tx.the("renew_lease", run=run)
    return int(row["lease_until"])


def seal(tx: Transaction, run: int) -> None:
    """The point of no return: the run's work goes into the plan now, and nobody ends it any more. Raises StaleRun."""
    held(tx, run)
    tx.put("run_seals", run=run)


def unseal(tx: Transaction, run: int) -> None:
    """The work did not go into the plan after all, or not yet. Raises StaleRun."""
    held(tx, run)
    tx.put("run_unseals", run=run)


def note(tx: Transaction, run: int, **facts: object) -> None:
    """Records facts about an active run (phase, workspace, commits, ...) and renews its lease. Raises StaleRun."""
    known = dict.fromkeys(_FACTS)
    unknown = facts.keys() - known.keys()
    if unknown:
        raise TypeError(f"no such facts of a run: {sorted(unknown)}")
    facts = {fact: _text(value) if isinstance(value, str) else value for fact, value in facts.items()}
    if not tx.run("run_notes", run=run, **{**known, **facts}):
        held(tx, run)
    if "phase" in facts:
        tx.event("run.phase", task=held(tx, run)["task"], run=run, data={"phase": str(facts["phase"])})


def say(tx: Transaction, run: int, summary: str) -> None:
    """Keeps what is said of an active run that nobody supervises; its lease stays as it is. Raises StaleRun."""
    held(tx, run)
    tx.run("run_said", run=run, summary=_text(summary))


_FACTS = (
    "phase",
    "workspace",
    "branch",
    "base_commit",
    "head_commit",
    "exit_code",
    "session_id",
    "files_changed",
    "lines_added",
    "lines_removed",
    "summary",
    "next_action",
)


def complete(tx: Transaction, run: int, *, summary: str | None = None, result: str | None = None) -> list[int]:
    """The run succeeded and its work is accepted. Returns the tasks that became ready.

    A task whose children are still open waits for them and is completed with them.
    """
    asked = _ask_held(tx, run, write=True)
    if (ready := _complete_at_once(tx, run, summary, result)) is not None:
        return ready
    row = _held(run, asked.rows())
    to = TaskState.PENDING if row["children"] and row["unmet"] else TaskState.COMPLETED
    _end(tx, row, RunState.SUCCEEDED, to, summary=summary, result=result, work_run=run)
    return settle(tx, changed=[row["task"]], waiting=[row["task"]] if to is TaskState.PENDING else [])


def _complete_at_once(tx: Transaction, run: int, summary: str | None, result: str | None) -> list[int] | None:
    """The common case in one statement, where the database has it; None: step by step, then."""
    if not tx.knows("complete_at_once"):
        return None
    done = tx.one("complete_at_once", run=run, summary=_text(summary), result=_text(result), **tx.origin.as_dict())
    if done is None:
        return None
    return sorted({*done["ready"], *settle(tx, waiting=done["others"])})


def hand_in(
    tx: Transaction,
    run: int,
    *,
    code: str,
    reason: str,
    summary: str | None = None,
    result: str | None = None,
) -> None:
    """The run succeeded, but its work needs a person's eye: the task goes to review."""
    row = held(tx, run)
    _end(
        tx,
        row,
        RunState.SUCCEEDED,
        TaskState.REVIEW,
        code=code,
        reason=reason,
        summary=summary,
        result=result,
        work_run=run,
    )
    settle(tx, changed=[row["task"]])


def ask(tx: Transaction, run: int, question: str, *, summary: str | None = None) -> int:
    """The run cannot go on without an answer: the task waits behind a question gate. Returns the gate."""
    question = tx.said(_text(question) or "")
    tx.one("lock_shape")
    row = held(tx, run)
    _end(tx, row, RunState.SUCCEEDED, TaskState.PENDING, code="question", reason=question, summary=summary)
    heirs = [below["id"] for below in tx.all("descendants", id=row["task"])]
    gate = shape.put_gate(tx, row["task"], NewGate(EdgeKind.QUESTION, question), heirs)
    settle(tx, changed=[row["task"]], waiting=[row["task"], *heirs])
    return gate


def fail(
    tx: Transaction,
    run: int,
    *,
    code: str,
    error: str,
    state: RunState = RunState.FAILED,
    back_off: BackOff | None = None,
    transient: bool | None = None,
    retry_after_s: float | None = None,
) -> int | None:
    """The attempt failed. A transient failure is tried again while there are retries; any other is final.

    A service that wants to be asked later costs no retry, and the agent's session goes on then.

    ``state`` is how the run ends (failed, timed_out); ``transient`` overrides the taxonomy;
    ``retry_after_s`` is the least time after which the service behind the agent wants to be asked again.
    Returns when the task is tried again, in milliseconds, or None when it is not.
    """
    row = held(tx, run)
    again = retry.is_transient(code) if transient is None else transient
    delays = _delays(tx, row, code) if again else None
    if not again or (delays is None and row["retries"] >= row["max_retries"]):
        _end(tx, row, state, TaskState.FAILED, code=code, error=error)
        settle(tx, changed=[row["task"]])
        return None
    back_off = back_off or BackOff()
    delay = back_off.delay(row["retries"] if delays is None else delays, row["retry_delay_s"])
    at = int(tx.the("clock")["now"] + max(delay, min(retry_after_s or 0.0, back_off.cap_s)) * 1000)
    if delays is not None:
        tx.put("go_on_with_session", task=row["task"], run=run)
    retried = 1 if delays is None else 0
    _end(tx, row, state, TaskState.RETRYING, code=code, error=error, retry_at=at, retried=retried)
    settle(tx, changed=[row["task"]])
    return at


def _delays(tx: Transaction, row: Row, code: str) -> int | None:
    """How often the task waited for a service before; None when this failure costs a retry."""
    if not retry.is_delay(code):
        return None
    before = int(tx.the("delays_of_task", task=row["task"], code=code)["total"])
    return before if before < retry.MOST_DELAYS else None


def release(tx: Transaction, run: int, reason: str = "given back by its holder") -> None:
    """The holder gives its task back, untouched; this costs no retry."""
    row = held(tx, run)
    _end(tx, row, RunState.KILLED, TaskState.PENDING, code="released", reason=reason)
    settle(tx, changed=[row["task"]], waiting=[row["task"]])


def kill(tx: Transaction, run: int, reason: str) -> None:
    """A person ends the run. Its supervisor stops the agent as soon as it learns of it, within a second.

    The task fails with code ``killed``: starting it again at once would undo the decision.
    Raises StaleRun, and Conflict (``run_landing``) when its work goes into the plan at this moment.
    """
    row = held(tx, run)
    _interrupt(tx, row)
    _end(tx, row, RunState.KILLED, TaskState.FAILED, code="killed", reason=reason, error=f"killed: {reason}")
    settle(tx, changed=[row["task"]])


def lose(tx: Transaction, run: int, reason: str, back_off: BackOff | None = None) -> TaskState | None:
    """Nobody knows how the run ended: its task goes back, a bounded number of times.

    One whose supervisor vanished waits before it is tried again; for a client's lease we have waited already.
    Returns where the task went, or None when the run was over before.
    """
    row = tx.one("held_task", run=run, write=True)
    if row is None or row["run"] != run or row["run_state"] not in ACTIVE_RUN:
        return None
    to, values = after_loss(tx, row, reason, supervised=bool(row["supervised"]), back_off=back_off)
    _end(tx, row, RunState.LOST, to, **values)
    settle(tx, changed=[row["task"]], waiting=[row["task"]] if to is TaskState.PENDING else [])
    return to


def after_loss(
    tx: Transaction, row: Row, reason: str, *, supervised: bool, back_off: BackOff | None = None
) -> tuple[TaskState, dict[str, Any]]:
    """Where a task goes whose run was lost, and the values that it has then. ``row`` has the task's retries."""
    if row["retries"] >= row["max_retries"]:
        return TaskState.FAILED, {"code": "lost_repeatedly", "reason": reason, "error": reason}
    if not supervised:
        return TaskState.PENDING, {"code": "lost", "reason": reason, "error": reason, "retried": 1}
    delay = (back_off or BackOff()).delay(row["retries"], min(LOST_DELAY_S, row["retry_delay_s"]))
    at = int(tx.the("clock")["now"] + delay * 1000)
    return TaskState.RETRYING, {"code": "lost", "error": reason, "retry_at": at, "retried": 1}


def give_up(tx: Transaction, run: int, reason: str) -> None:
    """As ``lose``, by somebody who cannot see to what the run left: that is kept in mind for its own host."""
    tx.run("run_interrupted", run=run)
    lose(tx, run, reason)


def _interrupt(tx: Transaction, row: Row) -> None:
    """Somebody else ends a run: what it leaves is to be swept, by its supervisor or in its place."""
    if not tx.run("run_interrupted", run=row["id"]):
        raise Conflict(
            f"{name('R', row['id'])} is putting its work into the plan at this moment",
            hint="it is over in a moment; if it is not wanted then: "
            f"`orchestrion reopen {name('T', row['task'])} --reason TEXT`",
            code="run_landing",
        )


def end_with_cancelled_task(tx: Transaction, run: int, reason: str) -> None:
    """The run's task was cancelled, in the caller's transaction; so is the run. Raises Conflict as ``kill`` does."""
    row = tx.the("held_task", run=run)
    _interrupt(tx, row)
    _end_run(tx, row, RunState.KILLED, code="cancelled", reason=reason)


def end_stray(tx: Transaction, run: int) -> RunState:
    """A run that somebody made active by hand, and of which its task knows nothing: it alone is over. As what.

    One that had ended is as it was: the journal has told of that already.
    """
    row, told = tx.the("held_task", run=run), tx.one("last_told_of_run", run=run)
    if told and is_legal_run_move(RunState(row["run_state"]), RunState(told["to_state"])):
        tx.put("run_has_ended", run=run, to=told["to_state"], at=told["at"])
        tx.put("free_slots", run=run)
        return RunState(told["to_state"])
    tx.run("run_interrupted", run=run)
    _end_run(tx, row, RunState.LOST, code="lost", reason="its task does not know of it")
    return RunState.LOST


def _end(
    tx: Transaction,
    row: Row,
    run_to: RunState,
    task_to: TaskState,
    *,
    code: str | None = None,
    reason: str | None = None,
    error: str | None = None,
    summary: str | None = None,
    result: str | None = None,
    work_run: int | None = None,
    retry_at: int | None = None,
    retried: int = 0,
) -> None:
    """The run's end and its task's move, both guarded by the state and the run that were found."""
    _end_run(tx, row, run_to, code=code, reason=reason or error, summary=summary)
    tx.must(
        "held_task_moves",
        lambda: stale(row["id"], row),
        id=row["task"],
        run=row["id"],
        to=str(task_to),
        code=code,
        reason=_text(reason),
        error=_text(error),
        summary=_text(summary) if summary is not None else row["run_summary"],
        result=_text(result),
        work_run=work_run,
        retry_at=retry_at,
        retried=retried,
    )
    data = {"code": code} if code else None
    tx.event(f"task.{task_to}", task=row["task"], run=row["id"], found=TaskState.IN_PROGRESS, to=task_to, data=data)


def _end_run(
    tx: Transaction,
    row: Row,
    to: RunState,
    *,
    code: str | None = None,
    reason: str | None = None,
    summary: str | None = None,
) -> None:
    found = RunState(row["run_state"])
    if not is_legal_run_move(found, to):
        raise IllegalMove(name("R", row["id"]), found, to, RUN_MOVES[found])
    said = {"reason": _text(reason), "summary": _text(summary)}
    tx.must("run_ends", lambda: stale(row["id"], row), run=row["id"], found=str(found), to=str(to), code=code, **said)
    if row["holds"]:
        tx.put("free_slots", run=row["id"])
    if row["unheard"]:
        tx.put("drop_messages", run=row["id"])
    tx.event(f"run.{to}", task=row["task"], run=row["id"], found=found, to=to, data={"code": code} if code else None)


def _text(said: str | None) -> str | None:
    """What an agent said, as every database can keep it: a stray byte must not prevent the end of its run."""
    if said is None:
        return None
    return said[:TEXT_LIMIT].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
