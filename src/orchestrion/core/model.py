"""What a task, a run and their parts are, as values; and how they are named and shown.

Numbers are for the database, names (``T12``, ``R31``) for everybody else. ``Task`` and
``Run`` are read from rows and shown as the JSON that CONTRACT promises; ``NewTask`` is a
task that does not exist yet, checked on construction.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.core.states import DEPENDENCY_KINDS, GATE_KINDS, EdgeKind, TaskState

#: letter of a name -> what it names
NOUNS = {"T": "task", "R": "run", "A": "artifact", "D": "decision", "S": "session", "G": "gate"}
COMPLEXITIES = ("trivial", "simple", "moderate", "complex", "very_complex")
NEXT_ACTIONS = ("complete", "continue", "needs_revision", "blocked")

#: The end of the year 9999, in milliseconds: later moments cannot be shown.
LAST_MOMENT = 253_402_300_799_999
TITLE_LIMIT = 255
TEXT_LIMIT = 1_000_000
LIST_LIMIT = 200

_NAME = re.compile(r"([A-Za-z])([1-9][0-9]{0,17})\Z")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}\Z")
_PLAN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


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
        check_number("due_at", self.due_at, 0, LAST_MOMENT)
        check_choice("complexity", self.complexity, COMPLEXITIES)
        check_choice("merge", self.merge, ("auto", "none"))
        for what, word in (("role", self.role), ("agent", self.agent), ("type", self.type), ("key", self.key or "")):
            check_word(what, word)
        for what, words in (("need", self.needs), ("tag", self.tags)):
            check_list(what, words)
            for word in words:
                check_word(what, word, empty=False)
        check_list("check", self.checks)
        for command in (self.command, self.setup, *self.checks):
            check_command(command)
        for wait in self.waits:
            check_choice("kind", wait.kind, DEPENDENCY_KINDS)
        for gate in self.gates:
            check_choice("gate", gate.kind, GATE_KINDS)


@dataclass(frozen=True)
class Run:
    """One attempt at a task by one agent, as the database has it."""

    row: Mapping[str, Any]

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
            "duration_s": _seconds(began, row["ended_at"] or row["now"]),
            "queue_wait_s": None if queued is None else _seconds(queued, row["claimed_at"]),
            "turns": row["turns"],
            "tokens": {
                "input": row["tokens_input"],
                "output": row["tokens_output"],
                "cache_read": row["tokens_cache_read"],
                "cache_write": row["tokens_cache_write"],
            },
            "cost_usd": row["cost_usd"],
            "model": row["model"],
            "tools": json.loads(row["tools"]),
            "files_changed": row["files_changed"],
            "lines_added": row["lines_added"],
            "lines_removed": row["lines_removed"],
            "exit_code": row["exit_code"],
        }


def _seconds(start: int, end: int) -> float:
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
            "needs": json.loads(row["needs"]),
            "tags": json.loads(row["tags"]),
            "run_command": row["command"],
            "checks": json.loads(row["checks"]),
            "context": json.loads(row["context"]),
            "metadata": json.loads(row["metadata"]),
            "run": name("R", row["run"]) if row["run"] else None,
            "result": row["result"],
            "error": row["error"],
            "code": row["code"],
            "attempts": row["attempts"],
            "retries": row["retries"],
            "max_retries": row["max_retries"],
            "retry_at": iso(row["retry_at"]),
            "progress": self.progress,
            "summary": row["summary"],
            "reason": row["reason"],
            "created_at": iso(row["created_at"]),
            "updated_at": iso(row["updated_at"]),
            "started_at": iso(row["started_at"]),
            "due_at": iso(row["due_at"]),
            "completed_at": iso(row["completed_at"]),
            "archived_at": iso(row["archived_at"]),
        }


def name(letter: str, number: int) -> str:
    """The short name of a thing: ``name("T", 12)`` is ``T12``."""
    return f"{letter}{number}"


def number(text: str, letter: str) -> int:
    """The number behind a short name; raises InvalidInput for anything else.

    A marker as an agent's environment carries it (``<store-uuid>/R31``) is understood too.
    """
    shown = text if len(text) <= 60 else text[:60] + "..."
    match = _NAME.match(text.rpartition("/")[2] if letter == "R" else text)
    if match is None or match[1].upper() != letter:
        raise InvalidInput(
            f"{shown!r} is not the id of a {NOUNS[letter]}",
            hint=f"ids of {NOUNS[letter]}s look like {letter}12",
            code="invalid_id",
        )
    return int(match[2])


def iso(milliseconds: int | None) -> str | None:
    """Milliseconds since 1970 as ISO 8601 in UTC; None stays None."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time; without a zone it is taken as UTC."""
    try:
        parsed = datetime.fromisoformat(text)
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{text[:60]!r} is not a time",
            hint="write ISO 8601, for example 2026-11-20T18:00:00Z",
            code="invalid_time",
        ) from error


def check_title(title: str) -> None:
    """Refuses a title that is empty, too long, or not one line of printable text."""
    if not title.strip():
        raise InvalidInput("a task needs a title", hint="say in a few words what is to be done", code="invalid_title")
    if len(title) > TITLE_LIMIT:
        raise InvalidInput(
            f"a title has at most {TITLE_LIMIT} characters, this one has {len(title)}",
            hint="put the rest into the description",
            code="invalid_title",
        )
    for character in title:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidInput(
                f"a title is one line of text; this one has the control character U+{ord(character):04X}",
                hint="leave it out",
                code="invalid_title",
            )


def check_text(what: str, text: str) -> None:
    """Refuses a text that is too long or that no database can hold."""
    if len(text) > TEXT_LIMIT:
        raise InvalidInput(
            f"the {what} has {len(text)} characters; at most {TEXT_LIMIT} are kept in a task",
            hint="put it into a file or an artifact",
            code="too_long",
        )
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(
            f"the {what} has characters that are not text (NUL or broken UTF-8)",
            hint="leave them out",
            code="invalid_text",
        )


def check_command(command: str | None) -> None:
    """Refuses a command that no shell can run."""
    if command is None:
        return
    check_text("command", command)
    if not command.strip():
        raise InvalidInput("a command cannot be empty", hint="leave it out, or say what to run", code="invalid_command")


def check_plan_name(plan: str) -> None:
    """Refuses a plan name that cannot be a branch's name, and the reserved ``run``."""
    if plan == "run":
        raise InvalidInput("the plan name 'run' is reserved", hint="choose another", code="invalid_plan_name")
    if not _PLAN.match(plan) or ".." in plan or plan.endswith((".lock", ".")):
        suggestion = re.sub(r"[^a-z0-9]+", "-", plan.lower()).strip("-")[:64] or "my-plan"
        raise InvalidInput(
            f"{plan[:80]!r} cannot be the name of a plan",
            hint=f"a plan's name becomes a branch: lower-case letters, digits, '-', '_', '.'; try {suggestion!r}",
            code="invalid_plan_name",
        )


def check_word(what: str, word: str, *, empty: bool = True) -> None:
    """Refuses a name that is not one plain word (letters, digits and ``._:/@+-``)."""
    if empty and not word:
        return
    if not _WORD.match(word) or ".." in word:
        raise InvalidInput(
            f"{word[:80]!r} cannot be a {what}",
            hint="use letters, digits and . _ : / @ + -, at most 128 of them, beginning with a letter or digit",
            code=f"invalid_{what}",
        )


def check_choice(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuses a value that is not one of ``allowed``, and names them."""
    if value not in allowed:
        raise InvalidInput(
            f"{str(value)[:60]!r} is not a {what}",
            hint=f"one of: {', '.join(allowed)}",
            code=f"invalid_{what}",
            allowed=list(allowed),
        )


def check_number(what: str, value: float | None, low: float, high: float) -> None:
    """Refuses a number outside ``low`` to ``high`` (NaN included); None is not checked."""
    if value is not None and not low <= value <= high:
        raise InvalidInput(
            f"{what} must be from {low:g} to {high:g}, not {value}",
            hint="choose a number between",
            code=f"invalid_{what}",
        )


def check_list(what: str, values: tuple[object, ...]) -> None:
    """Refuses a list that is longer than any task needs."""
    if len(values) > LIST_LIMIT:
        raise InvalidInput(
            f"a task has at most {LIST_LIMIT} {what}s, not {len(values)}", hint="split the task", code="too_many"
        )
