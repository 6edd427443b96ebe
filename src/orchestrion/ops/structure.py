"""Holds what the store says against what must be true of it, in the database itself.

Nothing of this should ever be found: triggers and transactions see to it. It is looked for
all the same, because a database can be damaged, restored in part, or written by hand. What is
looked at depends on the level: ``basic`` reads what decides about every task, ``comprehensive``
also the graph as a whole, the journal and the limits, ``full_audit`` every stored result and
every page of the database. A glance takes a few milliseconds however large the store is.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from orchestrion.core.errors import CLEANUP, DamagedRow, StoreProblem
from orchestrion.core.graph import find_cycle
from orchestrion.core.model import name
from orchestrion.core.values import JSON_COLUMNS, is_plan_name, stored_json
from orchestrion.ops import times, unfit
from orchestrion.scheduler import reap, waits
from orchestrion.store import Store, Transaction, guards
from orchestrion.store.misfits import Proof
from orchestrion.store.store import Row

LEVELS = ("basic", "comprehensive", "full_audit")
#: The rule that a damaged database breaks.
WHOLE = "the_database_is_whole"
#: Where it is broken no other can be asked for.
_TABLES = "every_table_is_there"
#: Rule -> what sets it right, whatever caused its breach.
_MENDED = dict.fromkeys(
    (
        "tasks_in_progress_have_one_run",
        "active_runs_have_their_task",
        "leases_end_in_time",
        "limits_count_their_holders",
        "active_runs_hold_their_limits",
        "numbers_go_on",
        "tasks_are_found_by_their_tags",
    ),
    CLEANUP,
) | {
    "no_task_is_a_part_of_itself": "`orchestrion move {thing} --top` ends that; then move it to where it belongs",
}
#: Statement -> what sets right what it finds, where that is not so of all that breaks its rule.
_MENDED_OF = {
    "lost_parents": "`orchestrion move {thing} --top` ends that; then move it to where it belongs",
    "work_of_nobody": "`orchestrion reopen {thing} --reason TEXT` has it done again",
}
#: Rules that a task and its run break that do not name each other -> those broken along with them, and mended so.
_HOLDERS = ("tasks_in_progress_have_one_run", "active_runs_have_their_task")
_FOLLOW_HOLDERS = ("the_journal_ends_where_tasks_are", "the_journal_has_no_gap", "attempts_are_runs")
#: Rules about what follows from other rows.
_WAITS = (
    "edges_follow_their_prerequisites",
    "counters_equal_their_edges",
    "waiting_tasks_are_where_their_counters_say",
)
#: Rules that read more than the tasks they are asked about: a glance leaves them out where it cannot see all.
_UNBOUNDED = ("nothing_waits_in_a_circle", "tasks_are_found_by_their_tags")
#: So many problems of each rule are named.
NAMED = 50
#: Stored results that are read at a time.
_AT_ONCE = 100
#: The rule that is broken by a list or an object that cannot be read.
READABLE = "lists_and_objects_can_be_read"
#: Statements that read them, a bounded number at a time, the newest first -> what a row is called.
_JSON = {
    "json_of_tasks": "T{id}",
    "json_of_runs": "R{id}",
    "json_of_decisions": "D{id}",
    "json_of_metrics": "metric {id} of R{run}",
    "json_of_alerts": "alert {id}",
    "json_of_maintenance": "M{id}",
    "json_of_events": "line {id} of the journal",
}
#: Those that are about some tasks.
_JSON_OF_TASKS = ("json_of_tasks", "json_of_runs")
#: A glance is at so many tasks, at so many of their stored results of at most so many bytes, and at so many lines of
#: the journal.
GLANCED_TASKS, _GLANCED_RESULTS, _GLANCED_BYTES, _GLANCED_LINES = 250, 50, 20_000, 1000


class Problem(NamedTuple):
    """Something that does not hold."""

    rule: str
    #: What it is about, as ``T12``; empty: all.
    thing: str
    #: A sentence that names the thing, too.
    said: str
    #: What sets it right, in words with the command; empty: no command does.
    mend: str = ""

    def as_json(self) -> dict[str, str]:
        """For every door."""
        return {key: value for key, value in self._asdict().items() if value or key != "mend"}


class Verdict(NamedTuple):
    """What was looked at, and what was found."""

    #: Names of the rules, in order.
    rules: list[str]
    problems: list[Problem]
    #: What the database says is wrong with itself, though all of it can be read and fits.
    doubts: list[str]


class Integrity(NamedTuple):
    """How whole the database is."""

    #: What it says is wrong with itself.
    doubts: list[str]
    #: What cannot be read, in a line; empty: all is there.
    lost: str
    #: Rows that can be read and that their table would refuse.
    unfit: list[Problem]


class Glance(NamedTuple):
    """What a short look found."""

    problems: list[Problem]
    #: How many tasks were looked at, and the last of them; 0: all were, or the next look begins anew.
    tasks: int
    until: int


Ids = list[int] | None
#: Of a problem: the thing, what is said, and what sets it right if it is not the rule's.
Facts = tuple[str, ...]

#: Rule -> the statements that find tasks against which it is broken, and what is said of such a task.
_OF_TASKS: dict[str, dict[str, str]] = {
    "edges_follow_their_prerequisites": {
        "wrong_edges": "waits for {prerequisite} ({kind}) as {state}, which does not follow from that task's state"
    },
    "gates_are_followed": {
        "wrong_gate_edges": "waits for G{gate} ({kind}) as {state}, the gate says else",
        "wrong_gates": "does not wait for its G{gate} ({kind})",
    },
    "counters_equal_their_edges": {"wrong_counters": "counts other edges than it has"},
    "waiting_tasks_are_where_their_counters_say": {"wrong_waiting": "is {state} against its counters"},
    "tasks_in_progress_have_one_run": {"wrong_holders": "and its active run do not know each other"},
    "active_runs_have_their_task": {"stray_runs": "does not know of R{run}, which is said to be at work on it"},
    "parents_wait_for_their_children": {
        "wrong_parents": "is completed, its part {prerequisite} is not",
        "wrong_hierarchy": "and {parent} disagree on being part and whole",
    },
    "no_task_is_a_part_of_itself": {
        "own_ancestors": "is a part of itself",
    },
    "parts_wait_as_their_parents_do": {
        "wrong_inheritance": "and {ancestor} disagree on what it waits for because {ancestor} does ({kind})"
    },
    "ready_tasks_stand_where_their_priority_says": {"wrong_ranks": "has another place in the queue"},
    "everything_is_of_its_owners_project": {"wrong_projects": "{said}"},
    "tasks_are_in_their_lane": {"wrong_lanes": "is in a lane or a plan that is not its own"},
    "attempts_are_runs": {
        "wrong_attempts": "counts {attempts} attempts and has {runs} runs",
        "wrong_attempt_numbers": "has R{run} as attempt {attempt}, which is its run number {place}",
    },
    "times_fit_what_happened": {
        "wrong_times": "is {state} after {attempts} attempts; when it was ready, began and was settled says else"
    },
    "leases_end_in_time": {
        "wrong_leases": "has R{run}, whose lease lasts longer than any does, as if a clock had run ahead"
    },
    "references_are_there": {
        "wrong_references": "{said}",
        "lost_parents": "is a part of {parent}, which is not there",
    },
    "results_are_of_a_run": {
        "wrong_work": "is {state} and has no run's work, though R{run} succeeded",
        "wrong_work_run": "has the work of R{run}, which is {state}",
        "work_of_nobody": "is completed, and no run of it succeeded",
    },
    "what_is_archived_is_over": {"wrong_archive": "is archived, and is {state}"},
    "tasks_are_found_by_their_tags": {"wrong_tags": "is found by other tags than it has"},
    "failures_have_a_code": {"wrong_failures": "is failed, and nothing says why"},
    "tasks_are_for_the_clone_of_their_plan": {
        "wrong_clones": "is for the clone {clone!r}, and its plan is in the clone {plan_clone!r}"
    },
    "what_runs_used_adds_up": {"wrong_sums": "has R{run}, which is said to have used something else than was told"},
    "the_journal_ends_where_tasks_are": {
        "wrong_journal": "is {state}, the journal's last line about it says {to_state}",
        "wrong_run_journal": "has R{run}, which is {state}; the journal's last line about it says {to_state}",
    },
    "the_journal_has_no_gap": {
        "wrong_chain": "was {before} in the journal, then line {line} says it was {from_state}: lines between are gone",
        "wrong_beginning": "{said}",
        "lost_tasks": "was made by line {line} of the journal, was not deleted, and is not there",
    },
    "the_journal_tells_what_can_be": {
        "wrong_moves": "went from {from_state} to {to_state} by line {line} of the journal, which nothing does"
    },
}


def examine(store: Store, level: str, only: Sequence[int] | None) -> Verdict:
    """All rules of a level, over the tasks ``only`` if some are meant; a damaged database's rows are not judged."""
    ids = None if only is None else list(only)
    rules = [_TABLES, *(rule for known in LEVELS[: LEVELS.index(level) + 1] for rule in _RULES[known])]
    if ids is not None:
        rules = [rule for rule in rules if rule in _OF_TASKS]
    whole = integrity(store) if level == "full_audit" and ids is None else Integrity([], "", [])
    if whole.lost:
        return Verdict([WHOLE], [Problem(WHOLE, "", f"{whole.lost}; {one}") for one in whole.doubts], [])
    if lost := store.read(lambda tx: _broken(tx, _TABLES, None)):
        return Verdict([_TABLES], lost, whole.doubts)
    found = store.read(
        lambda tx: _mended_with_waits(tx, [problem for rule in rules for problem in _broken(tx, rule, ids)], ids)
    )
    problems = whole.unfit + _mended_with_holders(found)
    if level != "basic":
        rules += [READABLE, times.RULE]
        problems += _all_unreadable(store, ids) + store.read(lambda tx: _wrong_times(times.wrong(tx, ids, limit=NAMED)))
    if level == "full_audit":
        rules += ["results_are_as_they_were_stored", *([WHOLE, unfit.RULE] if ids is None else [])]
        problems += _changed_results(store, ids)
    return Verdict(rules, problems, whole.doubts)


def mends(problems: Iterable[Problem]) -> tuple[list[str], bool]:
    """What sets problems right, each once, and whether that is all of them."""
    known = [problem.mend for problem in problems]
    return list(dict.fromkeys(filter(None, known))), all(known)


def integrity(store: Store) -> Integrity:
    """What the database finds wrong with itself, and what a second, independent look finds then."""
    found = _asked(store, "integrity") + search_doubts(store)
    if not found:
        return Integrity([], "", [])
    proof = store.second_look()
    return judged(found, proof)


def judged(doubts: list[str], proof: Proof) -> Integrity:
    """What a second look makes of what the database says: rows that do not fit explain what is said of their table."""
    rows = [Problem(unfit.RULE, unfit.called(row), unfit.said_of(row), unfit.mend_of(row)) for row in proof.misfits]
    left = [doubt for doubt in doubts if not (rows and unfit.is_about(doubt))]
    return Integrity(doubts if proof.lost else left, proof.lost, rows)


def search_doubts(store: Store) -> list[str]:
    """That what the search keeps cannot be read, in a line; empty: it can."""
    return ["what the full-text search keeps cannot be read"] if _asked(store, "search_probe") else []


def _asked(store: Store, statement: str) -> list[str]:
    try:
        rows = store.read(lambda tx: tx.all(statement) if tx.knows(statement) else [])
    except StoreProblem as problem:
        if problem.code != "store_corrupt":
            raise
        return [problem.message]
    return [str(row["problem"]) for row in rows]


def glance(tx: Transaction, after: int) -> Glance:
    """Looks at what is bounded: limits, plans, the journal's end, and the tasks that follow ``after``.

    Whoever goes on each time where the last look ended has looked at every task in the end; where something is wrong
    the next look is at the same tasks.
    """
    if lost := _broken(tx, _TABLES, None):
        return Glance(lost, 0, after)
    tasks = [row["id"] for row in tx.all("tasks_to_look_at", after=after, limit=GLANCED_TASKS)]
    is_last = len(tasks) < GLANCED_TASKS
    is_whole = is_last and not after
    line = max(0, tx.the("newest_line")["id"] - _GLANCED_LINES)
    problems = [
        problem
        for rule in [*_RULES["basic"], *_RULES["comprehensive"]]
        if is_whole or rule not in _UNBOUNDED
        for problem in _broken(tx, rule, None if is_whole or rule in _OF_JOURNAL else tasks, line)
    ]
    problems = _mended_with_waits(tx, _mended_with_holders(problems), None if is_whole else tasks)
    for statement in _JSON:
        of_tasks = {"ids": tasks, "most": _GLANCED_BYTES} if statement in _JSON_OF_TASKS else {}
        problems += _unreadable(statement, tx.all(statement, limit=GLANCED_TASKS, **of_tasks))
    found = times.wrong(tx, tasks, limit=NAMED, newest=GLANCED_TASKS, lines=_GLANCED_LINES)
    problems += _wrong_times(found)
    results = tx.all("results_to_look_at", ids=tasks, most=_GLANCED_BYTES, limit=_GLANCED_RESULTS)
    problems += _changed(results)
    return Glance(problems, len(tasks), after if problems else 0 if is_last else tasks[-1])


def _broken(tx: Transaction, rule: str, ids: Ids, after: int = 0) -> list[Problem]:
    try:
        return _breaches(tx, rule, ids, after)
    except (TypeError, ValueError, LookupError) as odd:  # a value of another kind than its column has
        return [Problem(rule, "", f"this cannot be judged, something stored is of no kind that it may be: {odd}")]


def _mended_with_waits(tx: Transaction, problems: list[Problem], ids: Ids) -> list[Problem]:
    """What follows from other rows is set right where nothing else is odd about it."""
    if not any(problem.rule in _WAITS for problem in problems):
        return problems
    found = waits.wrong(tx, ids)
    right = dict(zip(_WAITS, (found.edges, found.counters, found.waiting), strict=True))
    return [
        one._replace(mend=CLEANUP) if one.thing in {_t(task) for task in right.get(one.rule, ())} else one
        for one in problems
    ]


def _breaches(tx: Transaction, rule: str, ids: Ids, after: int) -> list[Problem]:
    if rule in _OF_ALL:
        problems = [Problem(rule, *facts) for facts in _OF_ALL[rule](tx)]
        return [one if one.mend else one._replace(mend=_MENDED.get(rule, "")) for one in problems]
    found = []
    for statement, says in _OF_TASKS[rule].items():
        for row in tx.all(statement, ids=ids, limit=NAMED, after=after):
            task = _t(row["task"])
            facts = {key: _t(value) if key in _TASKS else value for key, value in dict(row).items()}
            said = f"{task} {says.format_map(facts)}"
            mend = _MENDED_OF.get(statement) or _MENDED.get(rule, "")
            found.append(Problem(rule, task, said, mend.format(thing=task)))
    return found


def _mended_with_holders(problems: list[Problem]) -> list[Problem]:
    tasks = {problem.thing for problem in problems if problem.rule in _HOLDERS}
    return [
        one._replace(mend=CLEANUP) if one.rule in _FOLLOW_HOLDERS and one.thing in tasks else one for one in problems
    ]


def _nothing_waits_in_a_circle(tx: Transaction) -> Iterator[Facts]:
    waits: dict[int, list[int]] = defaultdict(list)
    for row in tx.all("open_edges"):
        waits[row["task"]].append(row["prerequisite"])
    if circle := find_cycle(waits):
        first, second = map(_t, circle[:2])
        mend = f"`orchestrion dep rm {first} {second}` ends that, or without another of them"
        yield first, f"{first} waits for itself: {' -> '.join(map(_t, circle))}", mend


def _every_table_is_there(tx: Transaction) -> Iterator[Facts]:
    for column in guards.lost_columns(tx):
        yield "", column, guards.how_to_remake_tables(tx.dialect)


def _the_database_refuses_too(tx: Transaction) -> Iterator[Facts]:
    for row in guards.lost_row(tx):
        yield "", row
    for guard in guards.missing(tx):
        yield "", guard, guards.how_to_remake(tx.dialect)


def _every_project_is_there(tx: Transaction) -> Iterator[Facts]:
    for row in tx.all("lost_projects", limit=NAMED):
        yield "", f"{row['things']} plans and lanes are of the project {row['project']}, which is not there"


def _numbers_go_on(tx: Transaction) -> Iterator[Facts]:
    for table, given, last in reap.lagging_counters(tx):
        yield "", f"the next row of the table {table} follows number {given}, and {last} was given"


def _limits_count_their_holders(tx: Transaction) -> Iterator[Facts]:
    for row in tx.all("wrong_slots", limit=NAMED):
        yield row["name"], f"{row['name']} says {row['used']} are used, {row['holds']} hold it"
    for row in tx.all("wrong_holds", limit=NAMED):
        yield _r(row), f"{_r(row)} has ended and still holds {row['slot']}"


def _limits_that_are_held_are_there(tx: Transaction) -> Iterator[Facts]:
    for row in tx.all("lost_slots", limit=NAMED):
        said = f"{_r(row)} holds {row['slot']}, a limit that is not there"
        made = f"`orchestrion slots {row['slot']}=1`, or as many as there are, makes the limit, then {CLEANUP}"
        yield _r(row), said, made


def _active_runs_hold_their_limits(tx: Transaction) -> Iterator[Facts]:
    for row in tx.all("unheld_slots", of_agent="agent:", of_role="role:", of_resource="resource:", limit=NAMED):
        yield _r(row), f"{_r(row)} is active and does not hold {row['slot']}, which it needs"


def _plans_can_be_branches(tx: Transaction) -> Iterator[Facts]:
    wrong = [row for row in tx.all("plan_names") if not is_plan_name(row["name"])]
    for row in wrong[:NAMED]:
        yield row["name"], f"the plan number {row['id']} is called {row['name']!r}, which no branch can be"


def _merge_queues_are_of_their_plan(tx: Transaction) -> Iterator[Facts]:
    for row in tx.all("wrong_merges", limit=NAMED):
        yield row["name"], f"the plan {row['name']} says that R{row['merge_run']} merges into it, which is not its own"


def _landings_are_whole(tx: Transaction) -> Iterator[Facts]:
    for row in tx.all("wrong_landings", limit=NAMED):
        yield row["name"], f"of the landing of plan {row['name']} the commit or the time is unknown"


def _decisions_give_way_to_others(tx: Transaction) -> Iterator[Facts]:
    for row in tx.all("wrong_decisions", limit=NAMED):
        decision = name("D", row["number"])
        if row["other"] is None and row["status"] == "superseded":
            yield decision, f"{decision} is superseded, and by no other that holds"
        elif row["other"] is not None and row["status"] != "superseded":
            yield decision, f"{decision} is {row['status']}, though {name('D', row['other'])} holds in its place"
        else:
            yield decision, f"{decision} had a status before it was superseded that no decision has"


def _decisions_are_numbered_without_gaps(tx: Transaction) -> Iterator[Facts]:
    numbers = tx.the("decision_numbers")
    if numbers["total"] != numbers["last"]:
        last = name("D", numbers["last"])
        yield last, f"{last} is the last decision, and there are {numbers['total']}"


def _every_reference_is_there(tx: Transaction) -> Iterator[Facts]:
    if tx.knows("lost_references"):
        for row in tx.all("lost_references", limit=NAMED):
            yield "", str(row["problem"])


def _all_unreadable(store: Store, ids: Ids) -> list[Problem]:
    """Lists and objects that cannot be read; those of some tasks are read alone."""
    found: list[Problem] = []
    for statement in _JSON if ids is None else _JSON_OF_TASKS:
        asked: dict[str, Any] = {"ids": ids, "limit": _AT_ONCE}
        while rows := store.read(lambda tx, s=statement, a=asked: tx.all(s, **a)):  # type: ignore[misc]
            found += _unreadable(statement, rows)
            asked["before"] = rows[-1]["id"]
    return found[:NAMED]


def _unreadable(statement: str, rows: Iterable[Row]) -> Iterator[Problem]:
    for row in rows:
        thing = _JSON[statement].format_map(dict(row))
        for column in JSON_COLUMNS.keys() & row.keys():
            try:
                if row[column] is not None:
                    stored_json(row, column, thing)
            except DamagedRow as damage:
                yield Problem(READABLE, thing, damage.message, damage.mend)


def _wrong_times(found: Iterable[times.WrongTime]) -> list[Problem]:
    return [
        Problem(times.RULE, one.thing, f"{one.column} of {one.thing} is {one.value}, which is no time", one.command)
        for one in found
    ]


def _changed_results(store: Store, ids: Ids) -> list[Problem]:
    """Stored results whose content is not what was hashed; read a few at a time."""
    found: list[Problem] = []
    after = 0
    while True:
        rows = store.read(lambda tx, a=after: tx.all("artifacts_after", after=a, limit=_AT_ONCE))  # type: ignore[misc]
        found += _changed(row for row in rows if ids is None or row["task"] in ids)
        if len(rows) < _AT_ONCE:
            return found[:NAMED]
        after = rows[-1]["id"]


def _changed(rows: Iterable[Row]) -> list[Problem]:
    found = []
    for row in rows:
        data = row["content"].encode()
        if len(data) != row["size"] or hashlib.sha256(data).hexdigest() != row["sha256"]:
            thing = name("A", row["id"])
            said = f"{thing}, {row['name']!r} of {_t(row['task'])}, is not what was stored"
            found.append(Problem("results_are_as_they_were_stored", thing, said))
    return found


def _t(task: int) -> str:
    return name("T", task)


def _r(row: Row) -> str:
    return name("R", row["run"])


#: What statements call a task.
_TASKS = ("prerequisite", "parent", "ancestor")
#: Rules that are about everything together; they mean nothing for some tasks alone.
_OF_ALL: dict[str, Callable[[Transaction], Iterator[Facts]]] = {
    _TABLES: _every_table_is_there,
    "the_database_refuses_too": _the_database_refuses_too,
    "every_project_is_there": _every_project_is_there,
    "nothing_waits_in_a_circle": _nothing_waits_in_a_circle,
    "numbers_go_on": _numbers_go_on,
    "limits_count_their_holders": _limits_count_their_holders,
    "limits_that_are_held_are_there": _limits_that_are_held_are_there,
    "plans_can_be_branches": _plans_can_be_branches,
    "merge_queues_are_of_their_plan": _merge_queues_are_of_their_plan,
    "landings_are_whole": _landings_are_whole,
    "active_runs_hold_their_limits": _active_runs_hold_their_limits,
    "decisions_give_way_to_others": _decisions_give_way_to_others,
    "decisions_are_numbered_without_gaps": _decisions_are_numbered_without_gaps,
    "every_reference_is_there": _every_reference_is_there,
}
#: Rules that a glance bounds by lines of the journal.
_OF_JOURNAL = ("the_journal_ends_where_tasks_are", "the_journal_has_no_gap", "the_journal_tells_what_can_be")
_RULES: dict[str, tuple[str, ...]] = {
    "basic": (
        "the_database_refuses_too",
        "every_project_is_there",
        "everything_is_of_its_owners_project",
        "edges_follow_their_prerequisites",
        "gates_are_followed",
        "counters_equal_their_edges",
        "waiting_tasks_are_where_their_counters_say",
        "tasks_in_progress_have_one_run",
        "active_runs_have_their_task",
        "numbers_go_on",
        "parents_wait_for_their_children",
        "no_task_is_a_part_of_itself",
        "parts_wait_as_their_parents_do",
        "references_are_there",
    ),
    "comprehensive": (
        "ready_tasks_stand_where_their_priority_says",
        "tasks_are_in_their_lane",
        "tasks_are_for_the_clone_of_their_plan",
        "attempts_are_runs",
        "results_are_of_a_run",
        "what_is_archived_is_over",
        "tasks_are_found_by_their_tags",
        "failures_have_a_code",
        "times_fit_what_happened",
        "leases_end_in_time",
        "what_runs_used_adds_up",
        "nothing_waits_in_a_circle",
        "limits_count_their_holders",
        "limits_that_are_held_are_there",
        "active_runs_hold_their_limits",
        "plans_can_be_branches",
        "merge_queues_are_of_their_plan",
        "landings_are_whole",
        "decisions_give_way_to_others",
        "decisions_are_numbered_without_gaps",
        "the_journal_ends_where_tasks_are",
        "the_journal_has_no_gap",
        "the_journal_tells_what_can_be",
    ),
    "full_audit": ("every_reference_is_there",),
}
