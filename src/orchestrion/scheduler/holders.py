"""Tasks and active runs that do not name each other: no move leaves them so, only a hand that wrote rows does.

An active run whose task names no active run of its own gets that task back: it may be at work. Any other run that its
task does not name is over. A task that is in progress without an active run goes back as if that run had been lost.
Where the journal says that a task or a run was elsewhere when the hand came, it is put there again.
"""

from __future__ import annotations

from collections.abc import Collection

from orchestrion.core.model import name
from orchestrion.core.states import (
    ACTIVE_RUN,
    SETTLED_TASK,
    WAITING_TASK,
    RunState,
    TaskState,
    in_words,
    is_legal_run_move,
    is_legal_task_move,
)
from orchestrion.scheduler import finish
from orchestrion.scheduler.settle import settle
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: So many of each kind are seen to at once.
_AT_ONCE = 1000
#: States in which a task may get its run back.
_HELD_AGAIN = (TaskState.IN_PROGRESS, TaskState.READY)


def put_right(tx: Transaction, only: Collection[int] | None = None) -> list[str]:
    """Makes tasks and active runs name each other, those of the tasks ``only`` if some are meant. What it did, a
    sentence for each.
    """
    ids = None if only is None else sorted(only)
    strays = tx.all("stray_runs", ids=ids, limit=_AT_ONCE)
    done = [_see_to_stray(tx, row["run"]) for row in strays]
    unheld = tx.all("wrong_holders", ids=ids, limit=_AT_ONCE)
    done += [_take_back(tx, row["task"]) for row in unheld]
    for task in sorted({row["task"] for row in (*strays, *unheld)}):
        _count_attempts(tx, task)
    return [said for said in done if said]


def is_unheld(tx: Transaction, task: int) -> bool:
    """Whether a task is in progress without an active run of its own."""
    return bool(tx.all("wrong_holders", ids=[task], limit=1))


def _see_to_stray(tx: Transaction, run: int) -> str:
    row = tx.the("held_task", run=run, write=True)
    if row["run"] == run or row["run_state"] not in ACTIVE_RUN:
        return ""  # it was put right meanwhile, or ended
    told = tx.one("last_told_of_run", run=run)
    if told and told["task"] != row["task"]:
        # The journal tells of every run of a task from its beginning on.
        found = {"by": "hand", "was_of": name("T", told["task"])}
        tx.event(f"run.{row['run_state']}", task=row["task"], run=run, to=row["run_state"], data=found)
    elif (told is None or told["to_state"] in ACTIVE_RUN) and _gets_task_back(tx, row):
        return f"{name('R', run)} holds {name('T', row['task'])} again"
    to = finish.end_stray(tx, run)
    _tell_of_leaving(tx, row)
    return f"{name('R', run)} is {to}: {name('T', row['task'])} does not know of it"


def _gets_task_back(tx: Transaction, row: Row) -> bool:
    """Refused where the task may not be in progress, or has another active run."""
    if row["state"] not in _HELD_AGAIN or not tx.run(
        "task_is_held_again", id=row["task"], run=row["id"], found=row["state"]
    ):
        return False
    found = {"found": name("R", row["run"])} if row["run"] else None
    tx.event("task.held_again", task=row["task"], run=row["id"], data=found)
    return True


def _tell_of_leaving(tx: Transaction, row: Row) -> None:
    """A task that was taken from its run in silence: the journal says where it went."""
    told = tx.one("last_told_of_task", task=row["task"])
    if told is None or told["to_state"] != TaskState.IN_PROGRESS or row["state"] == TaskState.IN_PROGRESS:
        return
    to = TaskState(row["state"])
    steps = (to,) if is_legal_task_move(TaskState.IN_PROGRESS, to) else (TaskState.PENDING, to)
    for found, step in zip((TaskState.IN_PROGRESS, *steps), steps, strict=False):
        tx.event(f"task.{step}", task=row["task"], found=found, to=step, data={"by": "hand"})


def _take_back(tx: Transaction, task: int) -> str:
    row = tx.the("task_for_update", id=task)
    run = tx.one("run_to_take_from", task=task, named=row["run"] or 0)
    told = tx.one("last_told_of_task", task=task)
    if told is not None and told["to_state"] != TaskState.IN_PROGRESS:
        return _put_where_it_was(tx, row, TaskState(told["to_state"]), told["at"])
    named = run if run and run["id"] == row["run"] else None
    why = f"{name('R', named['id'])} is {named['state']}" if named else "no run of it is active"
    to, values = _after(tx, row, run, named, f"in progress, and {why}")
    facts = {"reason": None, "error": None, "work_run": None, "retry_at": None, "retried": 0, **values}
    if not tx.run("unheld_task_moves", id=task, run=row["run"] or 0, to=str(to), **facts):
        return ""
    if named:
        _tell_of_end(tx, task, named)
    tx.event(
        f"task.{to}",
        task=task,
        run=named["id"] if named else None,
        found=TaskState.IN_PROGRESS,
        to=to,
        data={"code": values["code"]},
    )
    settle(tx, changed=[task], waiting=[task] if to is TaskState.PENDING else [])
    return f"{name('T', task)} was in progress, and {why}: it is {_state(tx, task)}"


def _after(
    tx: Transaction, row: Row, run: Row | None, named: Row | None, reason: str
) -> tuple[TaskState, dict[str, object]]:
    """Where a task goes that no run holds: as after a loss; work that is said to be done is for a person to look at."""
    if named and named["state"] == RunState.SUCCEEDED and named["code"] != "question":
        return TaskState.REVIEW, {"code": "needs_revision", "reason": reason, "work_run": named["id"]}
    return finish.after_loss(tx, row, reason, supervised=bool(run and run["supervised"]))


def _put_where_it_was(tx: Transaction, row: Row, was: TaskState, at: int) -> str:
    """A task that a hand made to be in progress; where it waited, its edges say where it stands now."""
    to = TaskState.PENDING if was in WAITING_TASK else was
    values = {"run": row["run"] or 0, "to": str(to), "is_settled": int(to in SETTLED_TASK), "at": at}
    if not is_legal_task_move(TaskState.IN_PROGRESS, to) or not tx.run("task_is_where_it_was", id=row["id"], **values):
        return ""
    if to != was:
        tx.event(f"task.{to}", task=row["id"], found=was, to=to, data={"by": "hand"})
    settle(tx, changed=[row["id"]], waiting=[row["id"]] if to is TaskState.PENDING else [])
    return f"{name('T', row['id'])} is {_state(tx, row['id'])} again: no run had taken it"


def _tell_of_end(tx: Transaction, task: int, run: Row) -> None:
    """A run that was ended in silence: the journal tells of it, and what it left is to be seen to."""
    told = tx.one("last_told_of_run", run=run["id"])
    if told is None or not is_legal_run_move(RunState(told["to_state"]), RunState(run["state"])):
        return
    tx.run("run_interrupted", run=run["id"])
    tx.put("free_slots", run=run["id"])
    tx.put("drop_messages", run=run["id"])
    tx.event(
        f"run.{run['state']}", task=task, run=run["id"], found=told["to_state"], to=run["state"], data={"by": "hand"}
    )


def _count_attempts(tx: Transaction, task: int) -> None:
    """A task has as many attempts as runs: a hand may have given one of them to another task."""
    numbered = tx.run("number_attempts", task=task)
    if tx.run("count_attempts", id=task) + numbered:
        tx.event("task.attempts_counted", task=task)


def _state(tx: Transaction, task: int) -> str:
    return in_words(tx.the("task_for_update", id=task)["state"])
