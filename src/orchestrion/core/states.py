"""The states of a task, a run and an edge, and every legal move between them.

This is the one transition table. The scheduler checks it before it writes, and the
database enforces the same moves by triggers; a test compares the two. Nothing here
reads a clock or a disk.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NoReturn

from orchestrion.core.errors import EnvironmentProblem


class _Word(StrEnum):
    """What is stored in a column that takes a few words; another one was written by something else than we."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise EnvironmentProblem(
            f"{value!r} stands where one of {', '.join(cls)} must",
            hint="something else than this program wrote it; `orchestrion health` names the row",
            code="row_damaged",
        )


class TaskState(_Word):
    """Where a task is. One line each: its meaning, and who moves it on."""

    #: Waits for edges that are still open; the scheduler moves it on.
    PENDING = "pending"
    #: May be claimed; a worker or a client moves it on.
    READY = "ready"
    #: Held by exactly one active run, which moves it on.
    IN_PROGRESS = "in_progress"
    #: Waits for ``retry_at`` after a transient failure; the reaper moves it on.
    RETRYING = "retrying"
    #: Waits for something only a decision can resolve (dead edge, approval, question).
    BLOCKED = "blocked"
    #: The work is done and waits to be accepted; a person moves it on.
    REVIEW = "review"
    #: Accepted; only a reopen moves it on.
    COMPLETED = "completed"
    #: Given up for good or for now; a manual retry moves it on.
    FAILED = "failed"
    #: Not wanted any more; final.
    CANCELLED = "cancelled"


#: A sign for each state, for trees and lists.
MARKS: dict[TaskState, str] = {
    TaskState.PENDING: "○",
    TaskState.READY: "◎",
    TaskState.IN_PROGRESS: "▶",
    TaskState.RETRYING: "↻",
    TaskState.BLOCKED: "■",
    TaskState.REVIEW: "◆",
    TaskState.COMPLETED: "✓",
    TaskState.FAILED: "✗",
    TaskState.CANCELLED: "–",
}


class RunState(_Word):
    """Where a run is. The last five are final."""

    #: Claimed; the agent process does not exist yet. The supervisor moves it on.
    STARTING = "starting"
    #: The agent works, or its result is being checked or merged. The supervisor moves it on.
    RUNNING = "running"
    #: The agent did what was asked; whether the task is completed is another question.
    SUCCEEDED = "succeeded"
    #: The agent or a check failed; ``code`` says how.
    FAILED = "failed"
    #: A limit (total, stall, turns, budget, memory) ended it.
    TIMED_OUT = "timed_out"
    #: A person or a program ended it.
    KILLED = "killed"
    #: Nobody knows how it ended: its supervisor died or its lease ran out.
    LOST = "lost"


class Phase(_Word):
    """What an active run is doing; a restart point of the settling sequence."""

    PREPARING = "preparing"
    WORKING = "working"
    CHECKING = "checking"
    MERGING = "merging"


class Merge(_Word):
    """What becomes of a task's accepted work."""

    #: It goes into the plan.
    AUTO = "auto"
    #: It stays where it is.
    NONE = "none"


class EdgeKind(_Word):
    """Why a task waits for another task, or for a gate."""

    #: Waits until the other is completed.
    BLOCKS = "blocks"
    #: As blocks, and the other's artifact goes into the brief.
    DATA = "data"
    #: Order only: any end of the other will do.
    SOFT = "soft"
    #: Runs only if the other failed.
    ON_FAILURE = "on_failure"
    #: A parent waits for its child.
    CHILD = "child"
    #: Waits for a moment.
    TIME = "time"
    #: Waits for a person's approval.
    APPROVAL = "approval"
    #: Waits for an answer.
    QUESTION = "question"
    #: Waits for a fact outside.
    EXTERNAL = "external"


class EdgeState(_Word):
    """How far an edge is. Only ``waived`` is set by hand, and it stays."""

    OPEN = "open"
    MET = "met"
    DEAD = "dead"
    WAIVED = "waived"


#: What people read of an edge, and of a gate: *open* is said of tasks alone.
_STANDINGS: dict[str, str] = {
    EdgeState.OPEN: "waiting",
    EdgeState.MET: "met",
    EdgeState.DEAD: "dead",
    EdgeState.WAIVED: "waived",
}
_GATE_STANDINGS: dict[str, str] = {EdgeState.OPEN: "waiting", EdgeState.MET: "opened", EdgeState.DEAD: "refused"}


def standing(state: str, *, is_gate: bool = False) -> str:
    """What people read of an edge, or a gate, in this state; of one that is none, what stands there."""
    return (_GATE_STANDINGS if is_gate else _STANDINGS).get(state, state)


TASK_MOVES: dict[TaskState, tuple[TaskState, ...]] = {
    TaskState.PENDING: (TaskState.READY, TaskState.BLOCKED, TaskState.COMPLETED, TaskState.CANCELLED),
    TaskState.READY: (TaskState.IN_PROGRESS, TaskState.PENDING, TaskState.BLOCKED, TaskState.CANCELLED),
    TaskState.IN_PROGRESS: (
        TaskState.COMPLETED,
        TaskState.REVIEW,
        TaskState.RETRYING,
        TaskState.FAILED,
        TaskState.PENDING,
        TaskState.CANCELLED,
    ),
    TaskState.RETRYING: (TaskState.PENDING, TaskState.FAILED, TaskState.CANCELLED),
    TaskState.BLOCKED: (TaskState.PENDING, TaskState.CANCELLED, TaskState.FAILED),
    TaskState.REVIEW: (TaskState.COMPLETED, TaskState.PENDING, TaskState.FAILED, TaskState.CANCELLED),
    TaskState.FAILED: (TaskState.PENDING, TaskState.CANCELLED),
    TaskState.COMPLETED: (TaskState.PENDING,),
    TaskState.CANCELLED: (),
}

#: States in which a new task may be written; ``completed`` is for imports and ``- [x]``.
TASK_BIRTH = (TaskState.PENDING, TaskState.COMPLETED)

RUN_MOVES: dict[RunState, tuple[RunState, ...]] = {
    RunState.STARTING: (RunState.RUNNING, RunState.FAILED, RunState.KILLED, RunState.LOST),
    RunState.RUNNING: (
        RunState.SUCCEEDED,
        RunState.FAILED,
        RunState.TIMED_OUT,
        RunState.KILLED,
        RunState.LOST,
    ),
    RunState.SUCCEEDED: (),
    RunState.FAILED: (),
    RunState.TIMED_OUT: (),
    RunState.KILLED: (),
    RunState.LOST: (),
}

#: State in which a new run may be written: a supervised one, and a client's (who works already).
RUN_BIRTH = (RunState.STARTING, RunState.RUNNING)

#: A run that still holds its task.
ACTIVE_RUN = (RunState.STARTING, RunState.RUNNING)
#: A task that nothing will move by itself any more.
SETTLED_TASK = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)
#: A task whose state is decided by its edges alone.
WAITING_TASK = (TaskState.PENDING, TaskState.READY, TaskState.BLOCKED)

#: Kinds that point at a task; the others point at a gate.
TASK_EDGES = (EdgeKind.BLOCKS, EdgeKind.DATA, EdgeKind.SOFT, EdgeKind.ON_FAILURE, EdgeKind.CHILD)
#: Kinds a caller may ask for with ``dep add``; ``child`` follows from the hierarchy.
DEPENDENCY_KINDS = (EdgeKind.BLOCKS, EdgeKind.DATA, EdgeKind.SOFT, EdgeKind.ON_FAILURE)
GATE_KINDS = (EdgeKind.TIME, EdgeKind.APPROVAL, EdgeKind.QUESTION, EdgeKind.EXTERNAL)
#: Gates that only a person's decision opens: a task that waits for one is blocked, not pending.
DECISION_GATES = (EdgeKind.APPROVAL, EdgeKind.QUESTION)

_C, _F, _X, _B = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.BLOCKED
_ALWAYS_OPEN: tuple[TaskState, ...] = ()

#: kind -> (states of the prerequisite that meet the edge, states that make it dead).
EDGE_RULES: dict[EdgeKind, tuple[tuple[TaskState, ...], tuple[TaskState, ...]]] = {
    EdgeKind.BLOCKS: ((_C,), (_F, _X)),
    EdgeKind.DATA: ((_C,), (_F, _X)),
    EdgeKind.SOFT: ((_C, _F, _X, _B), _ALWAYS_OPEN),
    EdgeKind.ON_FAILURE: ((_F,), (_C, _X)),
    EdgeKind.CHILD: ((_C, _X), (_F,)),
}


def edge_state(kind: EdgeKind, prerequisite: TaskState) -> EdgeState:
    """State of an edge that nobody waived: a pure function of its kind and the prerequisite's state."""
    met, dead = EDGE_RULES[kind]
    if prerequisite in met:
        return EdgeState.MET
    if prerequisite in dead:
        return EdgeState.DEAD
    return EdgeState.OPEN


def waiting_state(*, unmet: int, dead: int, held: int) -> TaskState:
    """State of a task that waits, from its counters alone.

    ``unmet`` counts its open and dead edges, ``dead`` the dead ones, ``held`` the open
    gates that only a decision opens. (A parent that this calls ready is completed.)
    """
    if dead or held:
        return TaskState.BLOCKED
    if unmet:
        return TaskState.PENDING
    return TaskState.READY


def is_legal_task_move(found: TaskState, asked: TaskState) -> bool:
    """Whether the transition table allows a task to go from ``found`` to ``asked``."""
    return asked in TASK_MOVES[found]


def in_words(state: str) -> str:
    """A state as a sentence about a task has it."""
    words: dict[str, str] = {TaskState.IN_PROGRESS: "in progress", TaskState.REVIEW: "in review"}
    return words.get(state, str(state))


def is_legal_run_move(found: RunState, asked: RunState) -> bool:
    """Whether the transition table allows a run to go from ``found`` to ``asked``."""
    return asked in RUN_MOVES[found]
