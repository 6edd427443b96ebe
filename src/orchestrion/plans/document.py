"""What a plan file says, checked as a whole: the same for YAML, JSON and Markdown.

``build`` takes the tree that a format has read and walks it once into drafts, gives keys
to the tasks that have none, checks what no single field can show (keys said twice, waits
for nothing, cycles, a finished parent with unfinished children), and only then makes the
frozen ``PlanDocument``. Whatever is wrong is refused with line and column, before anything
is stored. The hierarchy may be 100 levels deep in one file; nothing here calls itself.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from orchestrion.core.config import nearest
from orchestrion.core.errors import InvalidInput
from orchestrion.core.graph import find_cycle
from orchestrion.core.model import check_plan_name
from orchestrion.plans import fields
from orchestrion.plans.fields import FIELDS, Found, PlannedGate, PlannedWait, refused, refused_at, refused_name

#: How deep children may be nested in one file.
MAX_LEVELS = 100
_PLAN_FIELDS = ("plan", "title", "description", "defaults", "tasks")
_TASK_FIELDS = (*FIELDS, "children")
_SHARED_FIELDS = tuple(name for name, known in FIELDS.items() if known.shared)
_TASK_ID = re.compile(r"T[1-9][0-9]{0,17}\Z")
#: A slug made of a title is cut here: room for ``-12345`` within the limits of keys and plan names.
_SLUG_LIMIT = 56
#: So many keys are compared with a misspelt one.
_NEAR_KEYS = 5_000


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task as a plan file says it, with the plan's defaults where it says nothing."""

    #: Unique in the plan; made of the title where the file has none.
    key: str
    title: str
    description: str = ""
    #: Empty: any.
    role: str = ""
    agent: str = ""
    #: What the agent ``command`` runs.
    run: str | None = None
    checks: tuple[str, ...] = ()
    priority: int = 5
    type: str = "standard"
    complexity: str = "moderate"
    #: Estimated effort in minutes.
    effort_min: float | None = None
    #: Deadline, in milliseconds since 1970.
    due: int | None = None
    #: None, here and for the two below: what the settings say.
    max_retries: int | None = None
    #: Base of the back-off, in seconds.
    retry_delay: float | None = None
    #: Total time of a run, in seconds.
    timeout: float | None = None
    needs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    #: ``auto`` or ``none``.
    merge: str = "auto"
    #: Command that makes a fresh workspace usable.
    setup: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[PlannedWait, ...] = ()
    gates: tuple[PlannedGate, ...] = ()
    #: Born completed (``- [x]``).
    completed: bool = False
    children: tuple[PlannedTask, ...] = ()
    #: Attributes for which it says null: a task that had a value has none afterwards.
    nulls: frozenset[str] = field(default=frozenset(), compare=False)
    #: Where it stands in the file.
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """A plan file that was found to be sound."""

    #: Slug; becomes the branch ``orchestrion/<name>``.
    name: str
    #: The name as a person would write it.
    title: str
    description: str
    #: What tasks have that say nothing, by attribute of PlannedTask; already applied to them.
    defaults: Mapping[str, Any]
    #: Tasks at the top, in the order of the file.
    tasks: tuple[PlannedTask, ...]

    def walk(self) -> Iterator[tuple[PlannedTask, str | None]]:
        """Every task with its parent's key, in the order of the file: a parent before its children."""
        stack: list[tuple[PlannedTask, str | None]] = [(task, None) for task in reversed(self.tasks)]
        while stack:
            task, parent = stack.pop()
            yield task, parent
            stack.extend((child, task.key) for child in reversed(task.children))


@dataclass(slots=True)
class _Draft:
    """A task on its way: its fields are read, its key may still be missing."""

    found: Found
    #: Values by attribute of PlannedTask.
    values: dict[str, Any]
    #: Places in the list of drafts.
    parent: int | None
    level: int
    children: list[int] = field(default_factory=list)

    @property
    def key(self) -> str:
        return str(self.values["key"])

    @property
    def waits(self) -> Sequence[PlannedWait]:
        found: Sequence[PlannedWait] = self.values["after"]
        return found


def build(root: Found) -> PlanDocument:
    """The plan that a tree of found values describes. Raises PlanRefused with line and column."""
    entries = fields.mapping("a plan", root, _PLAN_FIELDS)
    name = _plan_name(root, entries)
    defaults = _defaults(entries)
    drafts = _drafts(root, entries, defaults)
    _give_keys(drafts)
    _check_waits(drafts)
    _check_cycles(drafts)
    _check_completed(drafts)
    return PlanDocument(
        name=name,
        title=fields.line("title", entries["title"]) if _says(entries, "title") else name,
        description=fields.text("description", entries["description"]) if _says(entries, "description") else "",
        defaults=defaults,
        tasks=_assemble(drafts),
    )


def slug(title: str) -> str:
    """A title as a key or a plan's name: lower-case ASCII words joined by hyphens; a hash where nothing is left."""
    ascii_only = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_only.replace("'", "")).strip("-")[:_SLUG_LIMIT].rstrip("-")
    return words or "t-" + hashlib.sha256(title.encode("utf-8", "replace")).hexdigest()[:8]


def _says(entries: Mapping[str, Found], name: str) -> bool:
    return name in entries and entries[name].value is not None


# --- the parts --------------------------------------------------------------------------------------------------------


def _plan_name(root: Found, entries: Mapping[str, Found]) -> str:
    if not _says(entries, "plan"):
        raise refused(
            entries.get("plan", root),
            "the plan has no name",
            hint="say plan: some-name; it becomes the branch orchestrion/some-name",
            code="invalid_plan_name",
        )
    found = entries["plan"]
    try:
        return fields.plan_name("plan", found)
    except InvalidInput as error:
        error.hint = _better_name(found) or error.hint
        raise


def _better_name(found: Found) -> str | None:
    """The hint with the slug that would work, if there is one."""
    if not isinstance(found.value, str):
        return None
    better = slug(found.value)
    better = "run-plan" if better == "run" else better
    check_plan_name(better)
    return f"a plan's name becomes a branch: lower-case letters, digits, '-', '_' and '.'; {better!r} would work"


def _defaults(entries: Mapping[str, Found]) -> dict[str, Any]:
    if not _says(entries, "defaults"):
        return {}
    found = entries["defaults"]
    if isinstance(found.value, dict):
        for name, value in found.value.items():
            if name in _TASK_FIELDS and name not in _SHARED_FIELDS:
                raise refused_name(
                    value,
                    f"defaults cannot hold {name!r}: each task has its own",
                    hint=f"say {name} in the task itself",
                )
    return fields.read_fields(fields.mapping("defaults", found, _SHARED_FIELDS))


def _drafts(root: Found, entries: Mapping[str, Found], defaults: Mapping[str, Any]) -> list[_Draft]:
    """Every task of the file with its fields read, in the order of the file."""
    start = {known.into: known.empty for known in FIELDS.values()} | {"key": None} | dict(defaults)
    drafts: list[_Draft] = []
    stack: list[tuple[Found, int | None]] = [(item, None) for item in reversed(_items("tasks", entries))]
    if not stack:
        raise refused(entries.get("tasks", root), "the plan has no tasks", hint="add at least one task with a title")
    while stack:
        found, parent = stack.pop()
        draft = _draft(found, parent, drafts, start)
        place = len(drafts)
        drafts.append(draft)
        if parent is not None:
            drafts[parent].children.append(place)
        children = _items("children", found.value if isinstance(found.value, dict) else {})
        stack.extend((child, place) for child in reversed(children))
    return drafts


def _items(name: str, entries: Mapping[str, Found]) -> list[Found]:
    if not _says(entries, name):
        return []
    found = entries[name]
    if not isinstance(found.value, list):
        raise refused(
            found, f"{name} must be a list of tasks, found {fields.shown(found)}", hint="begin each with '- '"
        )
    return found.value


def _draft(found: Found, parent: int | None, drafts: Sequence[_Draft], start: Mapping[str, Any]) -> _Draft:
    level = 1 if parent is None else drafts[parent].level + 1
    if level > MAX_LEVELS:
        raise refused(found, f"tasks are nested more than {MAX_LEVELS} levels deep", hint="make the plan flatter")
    entries = fields.mapping("a task", found, _TASK_FIELDS)
    if "title" not in entries:
        raise refused(found, "a task needs a title, found none", hint="say in a few words what is to be done")
    values = {**start, **fields.read_fields(entries), "nulls": fields.nulls(entries)}
    return _Draft(found, values, parent, level)


# --- keys -------------------------------------------------------------------------------------------------------------


def _give_keys(drafts: Sequence[_Draft]) -> None:
    """Refuses a key said twice; then makes the missing ones of the titles.

    They follow from the titles and their order alone, so the same file gives the same keys.
    """
    taken: dict[str, _Draft] = {}
    for draft in drafts:
        if draft.values["key"] is None:
            continue
        if draft.key in taken:
            raise _said_twice(draft, taken[draft.key])
        taken[draft.key] = draft
    used: dict[str, int] = {}
    for draft in drafts:
        if draft.values["key"] is None:
            draft.values["key"] = key = _free_key(slug(draft.values["title"]), taken, used)
            taken[key] = draft


def _free_key(base: str, taken: Mapping[str, _Draft], used: dict[str, int]) -> str:
    """``base``, else ``base-2``, ``base-3``, ...; ``used`` remembers how far each base has come."""
    while True:
        used[base] = count = used.get(base, 0) + 1
        key = base if count == 1 else f"{base}-{count}"
        if key not in taken:
            return key


def _said_twice(draft: _Draft, other: _Draft) -> InvalidInput:
    here, there = _place_of_key(draft), _place_of_key(other)
    return refused(
        here,
        f"the key {draft.key!r} is there twice, also in line {there.line}",
        hint="a key names one task in the whole plan, children included; change one of the two",
        code="duplicate_key",
        key=draft.key,
        lines=[there.line, here.line],
    )


def _place_of_key(draft: _Draft) -> Found:
    entries = draft.found.value
    return entries["key"] if isinstance(entries, dict) and _says(entries, "key") else draft.found


# --- waits ------------------------------------------------------------------------------------------------------------


def _check_waits(drafts: Sequence[_Draft]) -> None:
    """Refuses waits for oneself, for nothing, and two different waits for the same task."""
    known = {draft.key for draft in drafts}
    for draft in drafts:
        if draft.waits:
            draft.values["after"] = _distinct(draft)
        for wait in draft.waits:
            _check_wait(draft, wait, known)


def _check_wait(draft: _Draft, wait: PlannedWait, known: set[str]) -> None:
    if wait.task == draft.key:
        raise refused_at(
            wait.line,
            wait.column,
            f"{draft.key!r} waits for itself",
            hint="leave it out, or name another task",
            code="cycle",
            cycle=[draft.key, draft.key],
        )
    if wait.task not in known and not _TASK_ID.match(wait.task):
        meant = nearest(wait.task, sorted(known)[:_NEAR_KEYS])
        raise refused_at(
            wait.line,
            wait.column,
            f"{draft.key!r} waits for {wait.task!r}, which is not in this plan"
            + (f"; did you mean {meant!r}?" * bool(meant)),
            hint="name the key of a task in this file, or the id of an existing task such as T12",
            code="unknown_task",
            missing=wait.task,
        )


def _distinct(draft: _Draft) -> tuple[PlannedWait, ...]:
    """The waits of a task, each once."""
    kept: dict[str, PlannedWait] = {}
    for wait in draft.waits:
        earlier = kept.setdefault(wait.task, wait)
        if earlier != wait:
            raise refused_at(
                wait.line,
                wait.column,
                f"{draft.key!r} waits for {wait.task!r} twice and differently: {earlier.kind} (line {earlier.line}) "
                f"and {wait.kind}",
                hint="keep one of the two",
            )
    return tuple(kept.values())


def _check_cycles(drafts: Sequence[_Draft]) -> None:
    """Refuses tasks that wait for each other in a circle, also through parents and children.

    Each task is two nodes, its start (even) and its end (odd). An end waits for its own start and for
    the ends of its children; a start waits for the start of its parent (a child inherits
    what its parent waits for) and for the ends of what the task waits for. So the graph stays
    as small as the file, however much is inherited.
    """
    places = {draft.key: place for place, draft in enumerate(drafts)}
    edges: dict[int, list[int]] = {}
    for place, draft in enumerate(drafts):
        before = [places[wait.task] for wait in draft.waits if wait.task in places]
        edges[2 * place] = [2 * other + 1 for other in before] + ([] if draft.parent is None else [2 * draft.parent])
        edges[2 * place + 1] = [2 * place] + [2 * child + 1 for child in draft.children]
    if cycle := find_cycle(edges):
        raise _circle(drafts, [node // 2 for node in cycle])


def _circle(drafts: Sequence[_Draft], places: Sequence[int]) -> InvalidInput:
    tasks = [drafts[place] for place, after in pairwise(places) if place != after]
    cycle = [draft.key for draft in [*tasks, tasks[0]]]
    steps = ((draft, after) for draft, after in pairwise([*tasks, tasks[0]]))
    wait = next(wait for draft, after in steps for wait in draft.waits if wait.task == after.key)
    return refused_at(
        wait.line,
        wait.column,
        f"these tasks wait for each other: {' -> '.join(cycle)}",
        hint="leave one of the waits out; a parent waits for its children, and a child for what its parent waits for",
        code="cycle",
        cycle=cycle,
    )


def _check_completed(drafts: Sequence[_Draft]) -> None:
    """A parent completes when its children do, so it cannot be completed before them."""
    for draft in drafts:
        parent = None if draft.parent is None else drafts[draft.parent]
        if parent and parent.values["completed"] and not draft.values["completed"]:
            raise refused(
                parent.found,
                f"{parent.key!r} is marked completed, but its child {draft.key!r} (line {draft.found.line}) is not",
                hint="mark the child completed too, or the parent not; a parent completes when its children do",
            )


def _assemble(drafts: Sequence[_Draft]) -> tuple[PlannedTask, ...]:
    """The tasks at the top, their children inside: made from the bottom up, for a child stands after its parent."""
    made: dict[int, PlannedTask] = {}
    for place in range(len(drafts) - 1, -1, -1):
        draft = drafts[place]
        children = tuple(made.pop(child) for child in draft.children)
        values = draft.values | {"context": dict(draft.values["context"]), "metadata": dict(draft.values["metadata"])}
        made[place] = PlannedTask(**values, children=children, line=draft.found.line, column=draft.found.column)
    return tuple(made[place] for place in sorted(made))
