"""What each field of a plan file may hold: one reader per kind of value, one table of fields.

A format hands over a tree of ``Found`` values that know where they stand. The readers here
turn them into the values of a task, or refuse them with line and column. Limits that hold
for every task, wherever it comes from, are those of ``core.model``; they get a place here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrion.core import model
from orchestrion.core.config import nearest
from orchestrion.core.errors import InvalidInput, PlanRefused
from orchestrion.core.states import DEPENDENCY_KINDS, EdgeKind

#: Characters that no text of a plan may hold: control characters, halves of surrogate pairs, non-characters.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("[\t\n\r\u2028\u2029]")

#: What other programs call our fields. The first name that is known in the place is meant.
_SYNONYMS = {
    "agents": ("agent",),
    "approval": ("gates",),
    "assignee": ("role", "agent"),
    "blocked_by": ("after",),
    "cmd": ("run",),
    "command": ("run",),
    "deadline": ("due",),
    "depends": ("after",),
    "depends_on": ("after",),
    "dependencies": ("after",),
    "deps": ("after",),
    "done": ("completed",),
    "due_at": ("due",),
    "effort": ("effort_min",),
    "estimate": ("effort_min",),
    "id": ("key", "plan", "task"),
    "key": ("plan", "task"),
    "name": ("title", "plan", "task", "external"),
    "needs_approval": ("gates",),
    "on": ("task",),
    "on_failure": ("after_failure",),
    "requires": ("after",),
    "resources": ("needs",),
    "retries": ("max_retries",),
    "script": ("run",),
    "specialist": ("role",),
    "state": ("completed",),
    "status": ("completed",),
    "steps": ("children", "tasks"),
    "subtasks": ("children",),
    "summary": ("title",),
    "task": ("title",),
    "tests": ("check",),
    "time": ("until",),
}


class Found(NamedTuple):
    """A value as it stands in a file, and where."""

    #: A scalar, a list of found values, or names with their found values.
    value: str | int | float | bool | list[Found] | dict[str, Found] | None
    #: Where it begins; both count from 1.
    line: int
    column: int
    #: Where the name of the field stands whose value it is; 0: it has no name.
    name_line: int = 0
    name_column: int = 0


@dataclass(frozen=True, slots=True)
class PlannedWait:
    """A task of the plan waits for another one."""

    #: Key of the other in this plan; or the id of an existing task (``T12``), if no key is spelled so.
    task: str
    kind: EdgeKind = EdgeKind.BLOCKS
    #: Why the wait is waived from the beginning; None: it is mandatory.
    waived: str | None = None
    #: Where it stands in the file.
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class PlannedGate:
    """A task of the plan waits for a person, a moment or a fact."""

    #: ``approval``, ``time`` or ``external``.
    kind: EdgeKind
    #: What is asked or awaited, in words.
    name: str = ""
    #: For ``time``: when it opens, in milliseconds since 1970.
    opens_at: int | None = None


# --- refusing ---------------------------------------------------------------------------------------------------------


def refused(found: Found, message: str, *, hint: str = "", code: str | None = None, **details: Any) -> PlanRefused:
    """The error for a value, with its place; to be raised by the caller."""
    return refused_at(found.line, found.column, message, hint=hint, code=code, **details)


def refused_name(found: Found, message: str, *, hint: str = "") -> PlanRefused:
    """The error for the name of a field, with the name's place."""
    return refused_at(found.name_line or found.line, found.name_column or found.column, message, hint=hint)


def refused_at(
    line: int, column: int, message: str, *, hint: str = "", code: str | None = None, **details: Any
) -> PlanRefused:
    """The error for a place in the file."""
    error = PlanRefused(message, line=line, column=column, hint=hint)
    error.code = code or error.code
    error.details.update(details)
    return error


def shown(found: Found) -> str:
    """A value in a few words, for a message."""
    if isinstance(found.value, dict):
        return "a mapping"
    if isinstance(found.value, list):
        return "a list"
    if isinstance(found.value, str):
        return repr(found.value if len(found.value) <= 60 else found.value[:60] + "...")
    if found.value is None:
        return "nothing (null)"
    return str(found.value).lower() if isinstance(found.value, bool) else f"the number {found.value!s:.40}"


def mapping(what: str, found: Found, allowed: Collection[str]) -> dict[str, Found]:
    """The fields of a mapping, all of them known; refuses other names and suggests what was meant."""
    if not isinstance(found.value, dict):
        names = ", ".join(list(allowed)[:3])
        raise refused(
            found, f"{what} must be a mapping, found {shown(found)}", hint=f"write its fields by name: {names}, ..."
        )
    for name, value in found.value.items():
        if name not in allowed:
            raise refused_name(value, f"{what} has no field {name[:60]!r}" + _meant(name, allowed), hint=_list(allowed))
    return found.value


def _meant(name: str, allowed: Collection[str]) -> str:
    known = name.strip().lower().replace("-", "_")
    meant = next((other for other in (known, *_SYNONYMS.get(known, ())) if other in allowed), None)
    meant = meant or nearest(known[:60], allowed)
    return f"; did you mean {meant!r}?" if meant else ""


def _list(allowed: Collection[str]) -> str:
    return "known fields: " + ", ".join(allowed)


def _checked(found: Found, check: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a check of the core; what it refuses gets its place in the file."""
    try:
        return check(*arguments)
    except InvalidInput as error:
        raise refused(found, error.message, hint=error.hint, code=error.code, **error.details) from error


# --- readers: (name of the field, what was found) -> value -----------------------------------------------------------


def text(name: str, found: Found) -> str:
    """Text of any number of lines, without space around it."""
    if not isinstance(found.value, str):
        hint = "put quotes around it" if isinstance(found.value, bool | int | float) else "write one piece of text"
        raise refused(found, f"{name} must be text, found {shown(found)}", hint=hint)
    value = found.value.replace("\r\n", "\n").replace("\r", "\n").strip()
    _checked(found, model.check_text, name, value)
    return value


def line(name: str, found: Found) -> str:
    """One line of text that is not empty."""
    value = text(name, found)
    if not value:
        raise refused(found, f"{name} must not be empty", hint=f"say something, or leave {name} out")
    if bad := _LINE_BREAK.search(value):
        raise refused(
            found,
            f"{name} must be one line of text, found the character U+{ord(bad[0]):04X} in it",
            hint="leave it out",
        )
    return value


def title(name: str, found: Found) -> str:
    """What a task is called: one line, at most 255 characters."""
    if found.value is None or found.value == "":
        raise refused(found, "a task needs a title, found none", hint="say in a few words what is to be done")
    value = line(name, found)
    _checked(found, model.check_title, value)
    return value


def command(name: str, found: Found) -> str:
    """A command for the shell."""
    value = text(name, found)
    _checked(found, model.check_command, value)
    return value


def word(name: str, found: Found) -> str:
    """A name: of a role, an agent, a resource, a tag."""
    value = text(name, found)
    what = {"needs": "need", "tags": "tag"}.get(name, name)
    _checked(found, lambda: model.check_word(what, value, empty=False))
    return value


def plan_name(name: str, found: Found) -> str:
    """The name of a plan: a slug, for it becomes a branch."""
    value = text(name, found)
    _checked(found, model.check_plan_name, value)
    return value


def flag(name: str, found: Found) -> bool:
    """A truth value."""
    if not isinstance(found.value, bool):
        raise refused(found, f"{name} must be true or false, found {shown(found)}", hint="write true or false")
    return found.value


def moment(name: str, found: Found) -> int:
    """A point in time, in milliseconds since 1970."""
    value = text(name, found)
    return int(_checked(found, model.moment, value))


def within(low: float, high: float, *, whole: bool = False) -> Callable[[str, Found], float]:
    """A reader of numbers from ``low`` to ``high``."""
    kind = "a whole number" if whole else "a number"

    def number(name: str, found: Found) -> float:
        value = found.value
        sort = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, sort) or not low <= value <= high:
            raise refused(
                found,
                f"{name} must be {kind} from {low:g} to {high:g}, found {shown(found)}",
                hint=f"choose {kind} between them",
            )
        return value

    return number


def one_of(*choices: str) -> Callable[[str, Found], str]:
    """A reader of one of a few words."""

    def choice(name: str, found: Found) -> str:
        if found.value not in choices:
            raise refused(
                found,
                f"{name} must be one of {', '.join(choices)}; found {shown(found)}",
                hint=_near_choice(found.value, choices),
                allowed=list(choices),
            )
        return str(found.value)

    return choice


def _near_choice(value: object, choices: Collection[str]) -> str:
    meant = nearest(value.lower()[:60], choices) if isinstance(value, str) else None
    return f"did you mean {meant!r}?" if meant else "choose one of them"


def many(read: Callable[[str, Found], str]) -> Callable[[str, Found], tuple[str, ...]]:
    """A reader of a list; a single value is a list of one, and what is said twice is said once."""

    def several(name: str, found: Found) -> tuple[str, ...]:
        items = tuple(dict.fromkeys(read(name, item) for item in as_list(found)))
        _checked(found, model.check_list, name, items)
        return items

    return several


def as_list(found: Found) -> list[Found]:
    """The items of a list; a single value is a list of one, null an empty one."""
    if isinstance(found.value, list):
        return found.value
    return [] if found.value is None else [found]


def data(name: str, found: Found) -> dict[str, Any]:
    """Free data: names with any values."""
    if not isinstance(found.value, dict):
        raise refused(
            found,
            f"{name} must be a mapping, found {shown(found)}",
            hint=f"for example {name}: {{note: {shown(found)}}}",
        )
    value: dict[str, Any] = plain(found)
    return value


def plain(found: Found) -> Any:
    """The value without its places. (Formats bound the depth, so this may call itself.)"""
    if isinstance(found.value, dict):
        return {name: plain(value) for name, value in found.value.items()}
    if isinstance(found.value, list):
        return [plain(value) for value in found.value]
    return found.value


def waits(kind: EdgeKind) -> Callable[[str, Found], tuple[PlannedWait, ...]]:
    """A reader of what a task waits for; ``kind`` holds where no other is said."""

    def several(name: str, found: Found) -> tuple[PlannedWait, ...]:
        return tuple(_wait(name, item, kind) for item in as_list(found))

    return several


_KIND = one_of(*(str(kind) for kind in DEPENDENCY_KINDS))


def _wait(name: str, found: Found, kind: EdgeKind) -> PlannedWait:
    if not isinstance(found.value, dict):
        return PlannedWait(_key(name, found), kind, None, found.line, found.column)
    entries = mapping(f"an entry of {name}", found, ("task", "kind", "waive"))
    if "task" not in entries:
        raise refused(found, f"an entry of {name} does not say which task", hint="write {task: KEY, kind: soft}")
    if "kind" in entries:
        kind = EdgeKind(_KIND("kind", entries["kind"]))
    waive = entries.get("waive")
    waived = None if waive is None or waive.value is None else line("waive", waive)
    return PlannedWait(_key(name, entries["task"]), kind, waived, found.line, found.column)


def _key(name: str, found: Found) -> str:
    value = text(name, found)
    _checked(found, lambda: model.check_word("key", value, empty=False))
    return value


def gates(name: str, found: Found) -> tuple[PlannedGate, ...]:
    """What a task waits for that is not a task: ``approval``, ``{until: TIME}``, ``{external: NAME}``."""
    return tuple(_gate(item) for item in as_list(found))


_GATES = {"approval": EdgeKind.APPROVAL, "until": EdgeKind.TIME, "external": EdgeKind.EXTERNAL}


def _gate(found: Found) -> PlannedGate:
    if found.value == "approval":
        return PlannedGate(EdgeKind.APPROVAL)
    entries = mapping("a gate", found, _GATES)
    if len(entries) != 1:
        raise refused(
            found,
            f"a gate is one of approval, until and external, found {len(entries)} of them",
            hint="for example gates: [approval, {until: 2026-12-01T08:00:00Z}, {external: release-signed}]",
        )
    [(sort, value)] = entries.items()
    if sort == "until":
        return PlannedGate(EdgeKind.TIME, opens_at=moment(sort, value))
    if sort == "approval" and value.value is None:
        return PlannedGate(EdgeKind.APPROVAL)
    return PlannedGate(_GATES[sort], line(sort, value))


# --- the table --------------------------------------------------------------------------------------------------------


class Field(NamedTuple):
    """A field of a task in a plan file."""

    #: Name of the attribute of PlannedTask.
    into: str
    read: Callable[[str, Found], Any]
    #: The value when nothing, or null, is said.
    empty: Any = None
    #: Whether ``defaults`` may hold it.
    shared: bool = True


FIELDS: Mapping[str, Field] = {
    "key": Field("key", _key, shared=False),
    "title": Field("title", title, shared=False),
    "description": Field("description", text, "", shared=False),
    "role": Field("role", word, ""),
    "agent": Field("agent", word, ""),
    "run": Field("run", command),
    "check": Field("checks", many(command), ()),
    "checks": Field("checks", many(command), ()),
    "priority": Field("priority", within(1, 10, whole=True), 5),
    "type": Field("type", word, "standard"),
    "complexity": Field("complexity", one_of(*model.COMPLEXITIES), "moderate"),
    "effort_min": Field("effort_min", within(0, 10_000_000)),
    "due": Field("due", moment),
    "max_retries": Field("max_retries", within(0, 1000, whole=True)),
    "retry_delay": Field("retry_delay", within(0, 86_400)),
    "timeout": Field("timeout", within(0.001, 604_800)),
    "needs": Field("needs", many(word), ()),
    "tags": Field("tags", many(word), ()),
    "merge": Field("merge", one_of("auto", "none"), "auto"),
    "setup": Field("setup", command),
    "context": Field("context", data, {}),
    "metadata": Field("metadata", data, {}),
    "after": Field("after", waits(EdgeKind.BLOCKS), (), shared=False),
    "after_failure": Field("after", waits(EdgeKind.ON_FAILURE), (), shared=False),
    "soft_after": Field("after", waits(EdgeKind.SOFT), (), shared=False),
    "gates": Field("gates", gates, (), shared=False),
    "completed": Field("completed", flag, False, shared=False),
}
#: Fields that say the same under another name; refused side by side.
_TWINS = (("check", "checks"),)


def read_fields(entries: Mapping[str, Found]) -> dict[str, Any]:
    """The values of all fields that say something, by attribute of PlannedTask."""
    values: dict[str, Any] = {}
    for one, other in _TWINS:
        if one in entries and other in entries:
            raise refused_name(entries[other], f"{one} and {other} are the same field", hint=f"keep {one}")
    for name, found in entries.items():
        if name not in FIELDS:
            continue
        into, read, empty, _ = FIELDS[name]
        value = read(name, found) if found.value is not None or name == "title" else empty
        # `after`, `after_failure` and `soft_after` add up.
        values[into] = (*values.get(into, ()), *value) if into == "after" else value
    return values


def nulls(entries: Mapping[str, Found]) -> frozenset[str]:
    """Attributes of PlannedTask whose fields say null."""
    return frozenset(FIELDS[name].into for name, found in entries.items() if name in FIELDS and found.value is None)
