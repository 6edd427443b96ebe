"""What a task, a run and their parts are, as values; and how they are named and shown.

Numbers are for the database, names (``T12``, ``R31``) for everybody else. ``Task`` and
``Run`` are read from rows and shown as the JSON that CONTRACT promises; ``NewTask`` is a
task that does not exist yet, checked on construction. Names and bounds are those of ``values``,
and can be had here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.core.states import DEPENDENCY_KINDS, GATE_KINDS, EdgeKind, Merge, TaskState
from orchestrion.core.values import (
    LAST_MOMENT,
    LIST_LIMIT,
    NOUNS,
    TEXT_LIMIT,
    TITLE_LIMIT,
    check_choice,
    check_command,
    check_data,
    check_list,
    check_moment,
    check_number,
    check_plan_name,
    check_text,
    check_title,
    check_word,
    iso,
    moment,
    name,
    number,
    readable,
)

__all__ = [
    "CHANGEABLE",
    "CLEARABLE",
    "COMPLEXITIES",
    "LAST_MOMENT",
    "LIST_LIMIT",
    "NEXT_ACTIONS",
    "NOUNS",
    "TEXT_LIMIT",
    "TITLE_LIMIT",
    "NewGate",
    "NewTask",
    "Run",
    "Task",
    "Wait",
    "check_choice",
    "check_command",
    "check_data",
    "check_list",
    "check_moment",
    "check_number",
    "check_plan_name",
    "check_text",
    "check_title",
    "check_word",
    "cleared",
    "iso",
    "moment",
    "name",
    "number",
]

COMPLEXITIES = ("trivial", "simple", "moderate", "complex", "very_complex")
NEXT_ACTIONS = ("complete", "continue", "needs_revision", "blocked")


@dataclass(frozen=True)
class Wait:
    """A dependency of a task that is about to be written."""

    #: Number of the task it waits for.
    on: int
    kind: EdgeKind = EdgeKind.BLOCKS
    #: Why the wait is waived from the beginning; None: it is mandatory.
    waived: str | None = None


@dataclass(frozen=True)
class NewGate:
    """A gate of a task that is about to be written."""

    kind: EdgeKind
    #: What is asked or awaited, in words.
    name: str = ""
    #: For a time gate: when it opens, in milliseconds.
    opens_at: int | None = None


@dataclass(frozen=True)
class NewTask:
    """A task that does not exist yet. Construction refuses values that no task may have."""

    title: str
    description: str = ""
    plan: str = "default"
    key: str | None = None
    #: Number of the parent task.
    parent: int | None = None
    waits: tuple[Wait, ...] = ()
    gates: tuple[NewGate, ...] = ()
    role: str = ""
    agent: str = ""
    #: Named resources it holds while it runs.
    needs: tuple[str, ...] = ()
    #: What the agent "command" runs.
    command: str | None = None
    checks: tuple[str, ...] = ()
    #: Command that makes a fresh workspace usable.
    setup: str | None = None
    #: ``auto``: accepted work is merged into the plan; ``none``: it is not.
    merge: str = "auto"
    priority: int = 5
    type: str = "standard"
    complexity: str = "moderate"
    #: Estimated effort in minutes.
    effort_min: float | None = None
    #: Deadline in milliseconds.
    due_at: int | None = None
    max_retries: int = 3
    #: Base of the back-off, in seconds.
    retry_delay_s: float = 60.0
    #: Total time of one run, in seconds; None: the role's or the setting's.
    timeout_s: float | None = None
    tags: tuple[str, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: Born completed: an import, or ``- [x]``.
    completed: bool = False

    def __post_init__(self) -> None:
        check_title(self.title)
        check_text("description", self.description)
        check_plan_name(self.plan)
        check_number("priority", self.priority, 1, 10)
        check_number("max_retries", self.max_retries, 0, 1000)
        check_number("retry_delay", self.retry_delay_s, 0, 86_400)
        check_number("timeout", self.timeout_s, 0.001, 604_800)
        check_number("effort", self.effort_min, 0, 10_000_000)
        check_moment("due_at", self.due_at)
        check_choice("complexity", self.complexity, COMPLEXITIES)
        check_choice("merge", self.merge, tuple(Merge))
        for what, word in (("role", self.role), ("agent", self.agent), ("key", self.key or "")):
            check_word(what, word)
        check_word("type", self.type, empty=False)
        for what, words in (("need", self.needs), ("tag", self.tags)):
            check_list(what, words)
            for word in words:
                check_word(what, word, empty=False)
        check_list("check", self.checks)
        for command in (self.command, self.setup, *self.checks):
            check_command(command)
        for what, data in (("context", self.context), ("metadata", self.metadata)):
            check_data(what, data)
        for wait in self.waits:
            check_choice("kind", wait.kind, DEPENDENCY_KINDS)
        for gate in self.gates:
            check_choice("gate", gate.kind, GATE_KINDS)


#: What only a task that is made is given; where it stands and what it waits for is changed by moves of their own.
_MADE_WITH = frozenset({"plan", "key", "parent", "waits", "gates", "completed"})
#: Fields of a task that can be changed -> their value in a task that was given none; MISSING: every task has one.
CHANGEABLE: Mapping[str, Any] = {
    one.name: one.default if one.default_factory is MISSING else one.default_factory()
    for one in fields(NewTask)
    if one.name not in _MADE_WITH
}
#: Those of them that a task can be without.
CLEARABLE = frozenset(one for one, unset in CHANGEABLE.items() if unset in (None, "", (), {}))
#: Fields whose usual value is a setting.
_SETTINGS = {"max_retries": "retry.max", "retry_delay_s": "retry.delay_s"}


def cleared(what: str) -> Any:
    """The value that a field of a task has once it is cleared.

    Raises InvalidInput (``not_clearable``) for a field that no task is without; the hint names its usual value.
    """
    if what in CLEARABLE:
        return CHANGEABLE[what]
    hint = f"set it to its default, {CHANGEABLE[what]}"
    if what in _SETTINGS:
        hint = f"set it to its default, which is the setting {_SETTINGS[what]}"
    if CHANGEABLE[what] is MISSING:
        hint = "give it another one; it has no default"
    raise InvalidInput(f"{what} cannot be cleared: every task has one", hint=hint, code="not_clearable", field=what)


@dataclass(frozen=True)
class Run:
    """One attempt at a task by one agent, as the database has it."""

    row: Mapping[str, Any]
    #: What settles it, if it is active and its supervisor died on this host; None: it did not, or nobody looked.
    awaits: str | None = None

    @property
    def id(self) -> int:
        """Its number."""
        return int(self.row["id"])

    def as_json(self) -> dict[str, Any]:
        """The run as CONTRACT promises it; that of a run still active lasted until its row was read (``now``)."""
        row = self.row
        queued, began = row["queued_at"], row["started_at"] or row["claimed_at"]
        return {
            "id": name("R", row["id"]),
            "task": name("T", row["task"]),
            "attempt": row["attempt"],
            "agent": row["agent"],
            "role": row["role"],
            "state": row["state"],
            "phase": row["phase"],
            "code": row["code"],
            "reason": row["reason"],
            "awaits": self.awaits,
            "supervised": bool(row["supervised"]),
            "host": row["host"],
            "pid": row["pid"],
            "workspace": row["workspace"],
            "branch": row["branch"],
            "base_commit": row["base_commit"],
            "head_commit": row["head_commit"],
            "session_id": row["session_id"],
            "summary": row["summary"],
            "lease_until": iso(row["lease_until"]),
            "queued_at": iso(row["queued_at"]),
            "claimed_at": iso(row["claimed_at"]),
            "started_at": iso(row["started_at"]),
            "ended_at": iso(row["ended_at"]),
            "duration_s": _duration(began, row["ended_at"] or row["now"]),
            "queue_wait_s": _duration(queued, row["claimed_at"]),
            "turns": row["turns"],
            "tokens": {kind: row[f"tokens_{kind}"] for kind in TOKENS},
            "cost_usd": row["cost_usd"],
            "model": row["model"],
            **readable(row, name("R", row["id"]), "tools", "remarks"),
            "files_changed": row["files_changed"],
            "lines_added": row["lines_added"],
            "lines_removed": row["lines_removed"],
            "exit_code": row["exit_code"],
        }


#: Kinds of tokens. Those that a cache holds are not among ``input``.
TOKENS = ("input", "output", "cache_read", "cache_write")


def all_tokens(used: Mapping[str, Any]) -> int | None:
    """Tokens of every kind together, which is what ``tokens`` means where one number stands; None: none is known."""
    known = [int(used[kind]) for kind in TOKENS if used[kind] is not None]
    return sum(known) if known else None


def _duration(start: int | None, end: int | None) -> float | None:
    """The same for whoever shows it; None: one of them is not known, or was changed by hand and is no number."""
    return seconds_between(start, end) if isinstance(start, int) and isinstance(end, int) else None


def seconds_between(start: int, end: int) -> float:
    """Between two moments in milliseconds; clocks of different machines may disagree, durations are never negative."""
    return round(max(0, end - start) / 1000, 3)


@dataclass(frozen=True)
class Task:
    """What is to be done, as the database has it, with the few facts that live beside its row."""

    row: Mapping[str, Any]
    #: Numbers of the tasks it waits for by edges of its own.
    after: tuple[int, ...] = ()
    #: 0..1; None: unknown.
    progress: float | None = None

    @property
    def id(self) -> int:
        """Its number."""
        return int(self.row["id"])

    @property
    def state(self) -> TaskState:
        """Its state."""
        return TaskState(self.row["state"])

    def as_json(self) -> dict[str, Any]:
        """The task as CONTRACT promises it."""
        row = self.row
        return {
            "id": name("T", row["id"]),
            "key": row["key"],
            "title": row["title"],
            "description": row["description"],
            "state": row["state"],
            "plan": row["plan_name"],
            "type": row["type"],
            "role": row["role"] or None,
            "agent": row["agent"] or None,
            "complexity": row["complexity"],
            "effort_min": row["effort_min"],
            "priority": row["priority"],
            "parent": name("T", row["parent"]) if row["parent"] else None,
            "after": [name("T", other) for other in self.after],
            **readable(row, name("T", row["id"]), "needs", "tags", "checks", "context", "metadata"),
            "run_command": row["command"],
            "setup": row["setup"],
            "merge": row["merge"],
            "timeout_s": row["timeout_s"],
            "run": name("R", row["run"]) if row["run"] else None,
            "result": row["result"],
            "error": row["error"],
            "code": row["code"],
            "attempts": row["attempts"],
            "retries": row["retries"],
            "max_retries": row["max_retries"],
            "retry_delay_s": row["retry_delay_s"],
            "retry_at": iso(row["retry_at"]),
            "progress": self.progress,
            "summary": row["summary"],
            "reason": row["reason"],
            "created_at": iso(row["created_at"]),
            "updated_at": iso(row["updated_at"]),
            "started_at": iso(row["started_at"]),
            "due_at": iso(row["due_at"]),
            "completed_at": iso(row["completed_at"]) if row["state"] == TaskState.COMPLETED else None,
            # The column holds when the task was settled, in whatever way.
            "ended_at": iso(row["completed_at"]),
            "archived_at": iso(row["archived_at"]),
        }
