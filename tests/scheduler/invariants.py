"""What is true of every store at every moment, whoever did what to it.

``violations`` reads all tables in one transaction and names everything that does not hold;
``Watch`` compares two moments, for what must never change back. The rules are written here
a second time, from the tables of ``core.states`` and in plain Python, so that a mistake in
SQL has nothing to agree with.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from orchestrion.core.graph import find_cycle
from orchestrion.core.states import (
    ACTIVE_RUN,
    DECISION_GATES,
    GATE_KINDS,
    TASK_BIRTH,
    WAITING_TASK,
    EdgeKind,
    EdgeState,
    RunState,
    TaskState,
    edge_state,
    is_legal_run_move,
    is_legal_task_move,
    waiting_state,
)

HOUR_MS = 3_600_000
#: One statement may read the clock twice.
TICK_MS = 50

Row = dict[str, Any]


@dataclass
class Moment:
    """All rows of one project's scheduler tables at one moment."""

    tasks: dict[int, Row]
    edges: list[Row]
    gates: dict[int, Row]
    runs: dict[int, Row]
    slots: list[Row]
    holds: list[Row]
    events: list[Row]
    edges_of: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for edge in self.edges:
            self.edges_of[edge["task"]].append(edge)


def look(raw: Any, project: int | None = None) -> Moment:
    """Reads everything on one consistent view of the database."""
    consistent = " isolation level repeatable read" if type(raw).__name__ == "RawPostgres" else ""
    raw.run(f"begin{consistent}")
    try:
        of = "" if project is None else f" where project = {int(project)}"
        tasks = {row["id"]: row for row in raw.rows(f"select * from tasks{of}")}
        return Moment(
            tasks,
            [e for e in raw.rows("select * from edges order by id") if e["task"] in tasks],
            {row["id"]: row for row in raw.rows(f"select * from gates{of}")},
            {row["id"]: row for row in raw.rows(f"select * from runs{of}")},
            raw.rows(f"select * from slots{of}"),
            raw.rows(f"select * from holds{of}"),
            raw.rows(f"select * from events{of} order by id"),
        )
    finally:
        raw.run("rollback")


def violations(moment: Moment) -> list[str]:
    """Everything that does not hold, in words; nothing when all is well."""
    rules = (
        _edges_are_their_function,
        _counters_equal_their_edges,
        _waiting_tasks_are_where_their_edges_say,
        _parents_follow_their_children,
        _hierarchy_and_edges_agree,
        _one_active_run_per_task_in_progress,
        _slots_equal_their_holds,
        _ranks_follow_from_priorities,
        _journal_is_unbroken,
        _nothing_waits_in_a_circle,
    )
    return [f"{rule.__name__[1:]}: {problem}" for rule in rules for problem in rule(moment)]


def _edges_are_their_function(now: Moment) -> list[str]:
    found = []
    for edge in now.edges:
        if edge["state"] == EdgeState.WAIVED:
            continue
        if edge["kind"] in GATE_KINDS:
            right = now.gates[edge["gate"]]["state"]
        else:
            right = edge_state(EdgeKind(edge["kind"]), TaskState(now.tasks[edge["prerequisite"]]["state"]))
        if edge["state"] != right:
            found.append(f"edge {_short(edge)} is {edge['state']}, should be {right}")
    return found


def _counted(now: Moment, task: int) -> dict[str, int]:
    edges = now.edges_of[task]
    return {
        "unmet": sum(e["state"] in ("open", "dead") for e in edges),
        "dead": sum(e["state"] == "dead" for e in edges),
        "held": sum(e["state"] == "open" and e["kind"] in DECISION_GATES for e in edges),
        "children": sum(e["kind"] == "child" for e in edges),
    }


def _counters_equal_their_edges(now: Moment) -> list[str]:
    return [
        f"T{task} has {counter} {row[counter]}, its edges say {right}"
        for task, row in now.tasks.items()
        for counter, right in _counted(now, task).items()
        if row[counter] != right
    ]


def _waiting_tasks_are_where_their_edges_say(now: Moment) -> list[str]:
    found = []
    for task, row in now.tasks.items():
        if row["state"] not in WAITING_TASK:
            continue
        count = _counted(now, task)
        right = waiting_state(unmet=count["unmet"], dead=count["dead"], held=count["held"])
        is_completed_by_children = bool(count["children"]) and not _is_owed_a_run(now, task)
        if row["state"] != right or (right is TaskState.READY and is_completed_by_children):
            found.append(f"T{task} is {row['state']}, its edges {count} say {right}")
        if any(e["kind"] == EdgeKind.ON_FAILURE and e["state"] == "dead" for e in now.edges_of[task]):
            found.append(f"T{task} is {row['state']}, but what it handles did not fail")
    return found


def _is_owed_a_run(now: Moment, task: int) -> bool:
    """Whether a run of the task got it children and did not succeed, and none of it succeeded since."""
    runs = [run for run in now.runs.values() if run["task"] == task]
    succeeded = max((run["id"] for run in runs if run["state"] == RunState.SUCCEEDED), default=0)
    in_vain = [run for run in runs if run["state"] not in (*ACTIVE_RUN, RunState.SUCCEEDED) and run["id"] > succeeded]
    born = [row["created_at"] for row in now.tasks.values() if row["parent"] == task]
    return any(run["claimed_at"] <= at <= run["ended_at"] for run in in_vain for at in born)


def _parents_follow_their_children(now: Moment) -> list[str]:
    """A completed parent has no open child."""
    return [
        f"T{edge['task']} is completed, its child T{edge['prerequisite']} is {edge['state']}"
        for edge in now.edges
        if edge["kind"] == EdgeKind.CHILD
        and edge["state"] in ("open", "dead")
        and now.tasks[edge["task"]]["state"] == TaskState.COMPLETED
    ]


def _hierarchy_and_edges_agree(now: Moment) -> list[str]:
    child_edges = {(e["task"], e["prerequisite"]) for e in now.edges if e["kind"] == EdgeKind.CHILD}
    parents = {(row["parent"], task) for task, row in now.tasks.items() if row["parent"]}
    found = [f"T{p} and its child T{c}: row and edge disagree" for p, c in child_edges ^ parents]
    own = defaultdict(set)
    for edge in now.edges:
        if edge["kind"] != EdgeKind.CHILD and edge["heir_of"] == edge["task"]:
            own[edge["task"]].add((edge["prerequisite"], edge["gate"], edge["kind"]))
    for task in now.tasks:
        inherited = {
            (e["heir_of"], e["prerequisite"], e["gate"], e["kind"])
            for e in now.edges_of[task]
            if e["kind"] != EdgeKind.CHILD and e["heir_of"] != task
        }
        right = {(above, *wait) for above in _ancestors(now, task) for wait in own[above]}
        found += [f"T{task} does not inherit {wait}" for wait in right - inherited]
        found += [f"T{task} inherits {wait} from nobody" for wait in inherited - right]
    return found


def _ancestors(now: Moment, task: int) -> list[int]:
    above: list[int] = []
    parent = now.tasks[task]["parent"]
    while parent and parent not in above:
        above.append(parent)
        parent = now.tasks[parent]["parent"]
    return above


def _one_active_run_per_task_in_progress(now: Moment) -> list[str]:
    active = defaultdict(list)
    for run, row in now.runs.items():
        if row["state"] in ACTIVE_RUN:
            active[row["task"]].append(run)
    found = []
    for task, row in now.tasks.items():
        right = [row["run"]] if row["state"] == TaskState.IN_PROGRESS else []
        if active[task] != right:
            found.append(f"T{task} is {row['state']} with run {row['run']}, active runs are {active[task]}")
        attempts = sorted(r["attempt"] for r in now.runs.values() if r["task"] == task)
        if attempts != list(range(1, row["attempts"] + 1)):
            found.append(f"T{task} counts {row['attempts']} attempts, its runs are {attempts}")
    return found


def _slots_equal_their_holds(now: Moment) -> list[str]:
    found = []
    for slot in now.slots:
        holds = [h for h in now.holds if h["slot"] == slot["name"]]
        if slot["used"] != len(holds):
            found.append(f"{slot['name']} says {slot['used']} used, {len(holds)} hold it")
    for hold in now.holds:
        if now.runs[hold["run"]]["state"] not in ACTIVE_RUN:
            found.append(f"R{hold['run']} has ended and still holds {hold['slot']}")
    return found


def _ranks_follow_from_priorities(now: Moment) -> list[str]:
    """One step of effective priority outweighs one hour of waiting."""
    blockers = {e["prerequisite"] for e in now.edges if e["state"] == "open" and e["kind"] != EdgeKind.CHILD}
    found = []
    for task, row in now.tasks.items():
        if row["state"] == TaskState.READY:
            steps = row["priority"] + 2 * row["urgent"] + (task in blockers) - (row["retries"] > 0)
            right = row["ready_at"] - HOUR_MS * max(1, steps)
            if abs(row["rank"] - right) > TICK_MS:
                off = (row["rank"] - right) / HOUR_MS
                found.append(f"T{task} has rank {row['rank']}, should have {right} ({off:+} steps)")
    return found


def _journal_is_unbroken(now: Moment) -> list[str]:
    task_now: dict[int, str | None] = {}
    run_now: dict[int, str | None] = {}
    found = []
    for event in now.events:
        noun, _, what = event["kind"].partition(".")
        if noun == "task" and what == "deleted":
            task_now.pop(event["task"], None)
        elif event["to_state"] is None:
            continue
        elif noun == "task":
            found += _step(event, "task", task_now, TASK_BIRTH, TaskState, is_legal_task_move)
        elif noun == "run":
            found += _step(event, "run", run_now, ACTIVE_RUN, RunState, is_legal_run_move)
    for noun, known, rows in (("task", task_now, now.tasks), ("run", run_now, now.runs)):
        for number in known.keys() | rows.keys():
            said, is_now = known.get(number), rows[number]["state"] if number in rows else None
            if said != is_now:
                found.append(f"the journal leaves {noun} {number} {said}, it is {is_now}")
    return found


def _step(event: Row, noun: str, known: dict[int, str | None], birth: Any, kind: Any, legal: Any) -> list[str]:
    number, found, to = event[noun], event["from_state"], event["to_state"]
    before = known.get(number)
    known[number] = to
    if found != before:
        return [f"{noun} {number} was {before}, event {event['id']} says it went from {found} to {to}"]
    if found is None:
        return [] if to in birth else [f"{noun} {number} was born {to}"]
    if not legal(kind(found), kind(to)):
        return [f"{noun} {number} went from {found} to {to}"]
    return []


def _nothing_waits_in_a_circle(now: Moment) -> list[str]:
    waits = defaultdict(list)
    for edge in now.edges:
        if edge["prerequisite"]:
            waits[edge["task"]].append(edge["prerequisite"])
    circle = find_cycle(waits)
    return [f"circle {circle}"] if circle else []


def _short(edge: Row) -> str:
    on = f"T{edge['prerequisite']}" if edge["prerequisite"] else f"G{edge['gate']}"
    return f"T{edge['task']} -{edge['kind']}-> {on} (of T{edge['heir_of']})"


class Watch:
    """Compares a moment with the one before: what may never change back."""

    def __init__(self) -> None:
        self._ended: dict[int, str] = {}
        self._waived: set[int] = set()
        self._events: dict[int, str] = {}
        self._cancelled: set[int] = set()

    def compare(self, now: Moment) -> list[str]:
        """What ended and is not over, what was waived and binds again, what the journal no longer says."""
        edges = {e["id"]: e["state"] for e in now.edges}
        events = {e["id"]: json.dumps(e, default=str) for e in now.events}
        found = [
            f"R{run} was {state} and is {now.runs[run]['state']}"
            for run, state in self._ended.items()
            if now.runs[run]["state"] != state
        ]
        found += [f"edge {e} was waived and is {edges[e]}" for e in self._waived if edges.get(e, "waived") != "waived"]
        found += [f"event {e} changed" for e, text in self._events.items() if events.get(e) != text]
        found += [
            f"T{task} was cancelled and is {now.tasks[task]['state']}"
            for task in self._cancelled
            if task in now.tasks and now.tasks[task]["state"] != TaskState.CANCELLED
        ]
        self._ended = {run: row["state"] for run, row in now.runs.items() if row["state"] not in ACTIVE_RUN}
        self._waived = {e for e, state in edges.items() if state == "waived"}
        self._cancelled = {t for t, row in now.tasks.items() if row["state"] == TaskState.CANCELLED}
        self._events = events
        return found
