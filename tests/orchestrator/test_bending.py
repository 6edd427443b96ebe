"""Health is green while everything that must be true is, and red as soon as a hand has bent a row.

The hand is one with the database's own shell: it has switched off whatever refuses.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from direct import Hand, Raw
from orchestrion import Orchestrator
from orchestrion.core.errors import Conflict, DamagedRow, EnvironmentProblem, NotFound, StoreProblem
from orchestrion.core.model import NewGate, NewTask, Wait
from orchestrion.core.states import EdgeKind
from orchestrion.core.values import stored_json
from orchestrion.memory import artifacts, decisions
from orchestrion.ops import structure
from orchestrion.scheduler import claim, create, decide, finish, meter
from orchestrion.store import open_store
from stage import Stage


@pytest.fixture
def store_url(new_database: Callable[[], str]) -> str:
    """A database of its own for each test: what refuses is taken away."""
    return new_database()


class Bend(NamedTuple):
    """What a hand does, and the rule that it breaks."""

    rule: str
    #: Statements; in braces the numbers of the scene.
    sql: tuple[str, ...]


EDGES, COUNTERS = "edges_follow_their_prerequisites", "counters_equal_their_edges"
HOLDERS, PARENTS = "tasks_in_progress_have_one_run", "parents_wait_for_their_children"
JOURNAL, WAITING = "the_journal_ends_where_tasks_are", "waiting_tasks_are_where_their_counters_say"
TIMES, STRAYS = "times_fit_what_happened", "active_runs_have_their_task"
PROJECT, ARCHIVE = "everything_is_of_its_owners_project", "what_is_archived_is_over"
TAGS = "tasks_are_found_by_their_tags"
ANOTHER = "insert into projects (id, name, created_at) values (77, 'another', 0)"
#: What is said of what a cleanup sets right.
CLEANUP = "`orchestrion cleanup` sets it right"
NO_TIME = "times_are_of_the_years_1970_to_9999"
READABLE = "lists_and_objects_can_be_read"
BENDS = {
    "an edge is met that is open": Bend(EDGES, ("update edges set state = 'met' where task = {second}",)),
    "an edge is open that is met": Bend(EDGES, ("update edges set state = 'open' where prerequisite = {over}",)),
    "a task is failed that others count as done": Bend(EDGES, ("update tasks set state = 'failed' where id = {over}",)),
    "a gate is open in its edge alone": Bend(
        "gates_are_followed", ("update gates set state = 'met' where id = {gate}",)
    ),
    "a gate nobody waits for": Bend("gates_are_followed", ("delete from edges where gate = {gate}",)),
    "more is unmet": Bend(COUNTERS, ("update tasks set unmet = unmet + 1 where id = {second}",)),
    "something is dead": Bend(COUNTERS, ("update tasks set dead = 1 where id = {second}",)),
    "nothing is held": Bend(COUNTERS, ("update tasks set held = 0 where id = {asks}",)),
    "another child": Bend(COUNTERS, ("update tasks set children = children + 1 where id = {parent}",)),
    "ready though it waits": Bend(
        WAITING, ("update tasks set state = 'ready', ready_at = 0, rank = -18000000 where id = {second}",)
    ),
    "pending though nothing is missing": Bend(WAITING, ("update tasks set state = 'pending' where id = {first}",)),
    "in progress without a run": Bend(
        HOLDERS, ("update runs set state = 'lost', ended_at = claimed_at where id = {run}",)
    ),
    "a run without a task": Bend(STRAYS, ("update runs set state = 'running', ended_at = null where id = {ended}",)),
    "two runs of one task": Bend(
        STRAYS,
        (
            "drop index runs_one_active",
            "insert into runs (id, project, task, attempt, state, supervised, lease_ms, lease_until, claimed_at)"
            " select 900, project, task, 2, 'running', 0, lease_ms, lease_until, claimed_at from runs where id = {run}",
        ),
    ),
    "a parent before its part": Bend(PARENTS, ("update tasks set state = 'completed' where id = {parent}",)),
    "a part of nothing": Bend(PARENTS, ("update tasks set parent = null where id = {part}",)),
    "a part that waits for less": Bend(
        "parts_wait_as_their_parents_do", ("delete from edges where task = {part} and heir_of = {parent}",)
    ),
    "a dependency on nothing": Bend(
        "references_are_there", ("update edges set prerequisite = 900 where task = {second}",)
    ),
    "the work of another task's run": Bend(
        "references_are_there", ("update tasks set work_run = {run} where id = {over}",)
    ),
    "first in the queue": Bend(
        "ready_tasks_stand_where_their_priority_says", ("update tasks set rank = 0 where id = {first}",)
    ),
    "a lane of others": Bend("tasks_are_in_their_lane", ("update tasks set command = 'true' where id = {first}",)),
    "an attempt that never was": Bend("attempts_are_runs", ("update runs set attempt = 7 where id = {ended}",)),
    "settled at no time": Bend(TIMES, ("update tasks set completed_at = null where id = {over}",)),
    "settled before it began": Bend(TIMES, ("update tasks set completed_at = 1 where id = {first}",)),
    "attempts that never began": Bend(TIMES, ("update tasks set started_at = null where id = {over}",)),
    "begun without an attempt": Bend(TIMES, ("update tasks set started_at = 1 where id = {first}",)),
    "a lease for ever": Bend(
        "leases_end_in_time", ("update runs set lease_until = lease_until + 10 * lease_ms where id = {run}",)
    ),
    "a line less of a task": Bend(
        "the_journal_has_no_gap", ("delete from events where kind = 'task.ready' and task = {over}",)
    ),
    "a line less of a run": Bend(
        "the_journal_has_no_gap",
        (
            "insert into events (id, project, at, kind, task, run, from_state, to_state)"
            " select 900, id, 0, 'run.succeeded', {over}, {ended}, 'starting', 'succeeded' from projects",
        ),
    ),
    "a project less": Bend(
        "every_project_is_there",
        ("insert into plans (project, name, created_at) values (77, 'of nobody', 0)",),
    ),
    "a unique index less": Bend("the_database_refuses_too", ("drop index tasks_by_key",)),
    "one attempt less": Bend("attempts_are_runs", ("update tasks set attempts = 0 where id = {over}",)),
    "a run that cost nothing": Bend("what_runs_used_adds_up", ("update runs set cost_usd = 0 where id = {ended}",)),
    "tokens of nobody": Bend("what_runs_used_adds_up", ("update runs set tokens_input = 1 where id = {run}",)),
    "a circle": Bend(
        "nothing_waits_in_a_circle",
        (
            "insert into edges (task, prerequisite, kind, state, heir_of, created_at)"
            " values ({first}, {second}, 'blocks', 'open', {first}, 0)",
        ),
    ),
    "more is used": Bend("limits_count_their_holders", ("update slots set used = used + 1",)),
    "a hold forgotten": Bend("limits_count_their_holders", ("delete from holds",)),
    "a hold of the past": Bend(
        "limits_count_their_holders",
        (
            "insert into holds (run, project, slot) select {ended}, project, name from slots",
            "update slots set used = used + 1",
        ),
    ),
    "a merge queue of others": Bend("merge_queues_are_of_their_plan", ("update plans set merge_run = 900",)),
    "superseded by nothing": Bend(
        "decisions_give_way_to_others", ("update decisions set replaces = null, relation = null",)
    ),
    "a line of the journal": Bend(
        JOURNAL,
        (
            "insert into events (id, project, at, kind, task, to_state)"
            " select 900, id, 0, 'task.failed', {first}, 'failed' from projects",
        ),
    ),
    "a task cancelled in silence": Bend(JOURNAL, ("update tasks set state = 'cancelled' where id = {first}",)),
    "a run failed in silence": Bend(JOURNAL, ("update runs set state = 'failed' where id = {ended}",)),
    "checks that are no JSON": Bend(READABLE, ("update tasks set checks = 'not json' where id = {first}",)),
    "a list instead of an object": Bend(READABLE, ("update tasks set metadata = '[]' where id = {first}",)),
    "needs that are cut off": Bend(READABLE, ("update lanes set needs = '[\"gpu' where needs <> '[]'",)),
    "remarks that are a text": Bend(READABLE, ("update runs set remarks = '\"so\"' where id = {ended}",)),
    "a metric's tools": Bend(READABLE, ("update metrics set tools = ''",)),
    "a decision's files": Bend(READABLE, ("update decisions set files = '[1,' where number = 1",)),
    "a line that cannot be read": Bend(READABLE, ("update events set data = '{{' where kind = 'run.succeeded'",)),
    "a tag that the task has not": Bend(TAGS, ("insert into tags (task, tag) values ({first}, 'x')",)),
    "a tag by which nothing is found": Bend(TAGS, ("delete from tags where tag = 'a-b'",)),
    "no tag by which anything is found": Bend(TAGS, ("delete from tags",)),
    "another tag": Bend(TAGS, ("update tags set tag = 'x' where tag = 'a'",)),
    "a list with other tags": Bend(TAGS, ('update tasks set tags = \'[ "a","b"]\' where id = {second}',)),
    "a list without tags": Bend(TAGS, ("update tasks set tags = '[]' where id = {second}",)),
    "a result of nobody": Bend("results_are_of_a_run", ("update tasks set work_run = null where id = {over}",)),
    "failed for no reason": Bend("failures_have_a_code", ("update tasks set state = 'failed' where id = {over}",)),
    "a task of another clone": Bend(
        "tasks_are_for_the_clone_of_their_plan", ("update tasks set clone = 'elsewhere' where id = {first}",)
    ),
    "a plan of another clone": Bend(
        "tasks_are_for_the_clone_of_their_plan", ("update plans set began_clone = 'elsewhere'",)
    ),
    "landed at no commit": Bend("landings_are_whole", ("update plans set landed_at = 1000",)),
    "landed at no time": Bend("landings_are_whole", ("update plans set landed_commit = '0123'",)),
    "a task that was never made": Bend(
        "the_journal_has_no_gap", ("delete from events where kind = 'task.created' and task = {over}",)
    ),
    "a journal that is gone": Bend("the_journal_has_no_gap", ("delete from events",)),
    "a settled task without a line": Bend("the_journal_has_no_gap", ("delete from events where task = {over}",)),
    "a task in progress without a line": Bend(
        "the_journal_has_no_gap", ("delete from events where task = (select task from runs where id = {run})",)
    ),
    "a run without a line": Bend(
        "the_journal_has_no_gap",
        ("delete from events where run = {ended} and kind in ('run.running', 'run.succeeded')",),
    ),
    "a run that never began": Bend(
        "the_journal_has_no_gap", ("delete from events where run = {run} and kind = 'run.running'",)
    ),
    "a task of another project": Bend(PROJECT, (ANOTHER, "update tasks set project = 77 where id = {over}")),
    "a task in progress of another project": Bend(
        PROJECT, (ANOTHER, "update tasks set project = 77 where run = {run}")
    ),
    "a run of another project": Bend(PROJECT, (ANOTHER, "update runs set project = 77 where id = {ended}")),
    "a gate of another project": Bend(PROJECT, (ANOTHER, "update gates set project = 77 where id = {gate}")),
    "a result of another project": Bend(PROJECT, (ANOTHER, "update artifacts set project = 77")),
    "what a run used of another project": Bend(PROJECT, (ANOTHER, "update metrics set project = 77")),
    "a plan of another project": Bend(PROJECT, (ANOTHER, "update plans set project = 77")),
    "a run that holds nothing": Bend(
        "active_runs_hold_their_limits", ("delete from holds", "update slots set used = 0")
    ),
    "a supervised run beyond a limit": Bend(
        "active_runs_hold_their_limits",
        (
            "update runs set supervised = 1 where id = {run}",
            "insert into slots (project, name, capacity) select id, 'agent:me', 5 from projects",
        ),
    ),
    "superseded and holding again": Bend(
        "decisions_give_way_to_others", ("update decisions set status = 'accepted', was = null where number = 1",)
    ),
    "superseded by a rejected one": Bend(
        "decisions_give_way_to_others", ("update decisions set status = 'rejected' where number = 2",)
    ),
    "superseded from nowhere": Bend(
        "decisions_give_way_to_others", ("update decisions set was = 'nonsense' where number = 1",)
    ),
    "a decision less": Bend(
        "decisions_are_numbered_without_gaps", ("update decisions set number = 5 where number = 2",)
    ),
    "the work of a run that did not succeed": Bend(
        "results_are_of_a_run", ("update tasks set work_run = {run} where run = {run}",)
    ),
    "archived in progress": Bend(ARCHIVE, ("update tasks set archived_at = updated_at where run = {run}",)),
    "archived while it waits": Bend(ARCHIVE, ("update tasks set archived_at = updated_at where id = {asks}",)),
    "completed by nobody": Bend(
        "results_are_of_a_run",
        (
            "update tasks set state = 'completed', completed_at = 1 where id = {first}",
            "insert into events (id, project, at, kind, task, from_state, to_state)"
            " select 900, id, 0, 'task.pending', {first}, 'ready', 'pending' from projects",
            "insert into events (id, project, at, kind, task, from_state, to_state)"
            " select 901, id, 0, 'task.completed', {first}, 'pending', 'completed' from projects",
        ),
    ),
    "a move that nothing makes": Bend(
        "the_journal_tells_what_can_be",
        (
            "insert into events (id, project, at, kind, task, from_state, to_state)"
            " select 900, id, 0, 'task.completed', {first}, 'ready', 'completed' from projects",
        ),
    ),
    "a task that is gone": Bend("the_journal_has_no_gap", ("delete from tasks where id = {first}",)),
    "ready at no time": Bend(TIMES, ("update tasks set ready_at = null where id = {first}",)),
    "a limit less": Bend("limits_that_are_held_are_there", ("delete from slots",)),
    "a hold of the past that is not counted": Bend(
        "limits_count_their_holders",
        ("insert into holds (run, project, slot) select {ended}, project, name from slots",),
    ),
    "a hold of the past, and none is counted": Bend(
        "limits_count_their_holders",
        (
            "insert into holds (run, project, slot) select {ended}, project, name from slots",
            "update slots set used = 0",
        ),
    ),
    "made in the year 28521834": Bend(
        NO_TIME, ("update tasks set created_at = 900000000000000000 where id = {first}",)
    ),
    "due before 1970": Bend(NO_TIME, ("update tasks set due_at = -1 where id = {first}",)),
    "claimed in the year 28521834": Bend(
        NO_TIME, ("update runs set claimed_at = 900000000000000000 where id = {ended}",)
    ),
    "a line of the year 28521834": Bend(NO_TIME, ("update events set at = 900000000000000000 where id = 3",)),
    "decided before there was time": Bend(
        NO_TIME, ("update decisions set created_at = -900000000000000000 where number = 1",)
    ),
    "a gate of the year 28521834": Bend(
        NO_TIME, ("update gates set created_at = 900000000000000000 where id = {gate}",)
    ),
    "another result": Bend("results_are_as_they_were_stored", ("update artifacts set content = 'better'",)),
}


def ill(one: Orchestrator) -> dict[str, str]:
    """Parts that are not healthy, and what is said of them."""
    parts = one.health()["components"]
    return {name: part["said"] for name, part in parts.items() if part["status"] != "healthy"}


@pytest.mark.long
@pytest.mark.parametrize("bend", BENDS.values(), ids=[name.replace(" ", "-") for name in BENDS])
def test_health_is_green_until_a_row_is_bent(one: Orchestrator, scene: dict[str, int], hand: Hand, bend: Bend) -> None:
    assert ill(one) == {}
    assert one.maintain("validate_structure", level="full_audit")["found"]["valid"] is True
    for statement in bend.sql:
        hand.run(statement.format_map(scene))
    found = one.health()
    assert found["status"] == "degraded"
    assert found["components"]["structure"]["said"]
    assert bend.rule in {problem["rule"] for problem in found["components"]["structure"]["problems"]}
    audit = one.maintain("validate_structure", level="full_audit")
    assert audit["found"]["valid"] is False
    assert bend.rule in {problem["rule"] for problem in audit["found"]["problems"]}
    advice = found["components"]["structure"]["advice"]
    assert all(problem["thing"] in problem["said"] for problem in audit["found"]["problems"])
    is_mended = all("mend" in problem for problem in found["components"]["structure"]["problems"])
    assert (one.store.how_to_copy in advice) is not is_mended
    if {problem.get("mend") for problem in audit["found"]["problems"]} == {CLEANUP}:
        assert audit["recommendations"] == [CLEANUP]
        one.cleanup_stale_locks()
        assert "structure" not in ill(one)
    elif not is_mended:
        assert one.store.how_to_copy in audit["recommendations"][0]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("update tasks set work_run = {run} where id = {over}", "T{over} has the work of R{run}, which is of T{held}"),
        ("update tasks set work_run = 900 where id = {over}", "T{over} has the work of R900, which is not there"),
        ("update edges set task = 900 where task = {second}", "T900 is not there, and has dependencies"),
        ("update runs set task = 900 where id = {ended}", "T900 is not there, and has R{ended}"),
    ],
)
def test_what_is_not_there_is_said_of_what_is_not_there(
    one: Orchestrator, scene: dict[str, int], hand: Hand, sql: str, said: str
) -> None:
    held = hand.rows("select task from runs where id = ?", scene["run"])[0]["task"]
    hand.run(sql.format_map(scene))
    problems = one.maintain("validate_structure", level="basic")["found"]["problems"]
    assert said.format_map({**scene, "held": held}) in [problem["said"] for problem in problems]


@pytest.mark.parametrize("left_out", ["tasks_move", "all"])
def test_triggers_that_are_gone_are_missed(one: Orchestrator, raw: Raw, dialect: str, left_out: str) -> None:
    assert ill(one) == {}
    triggers = "select name, tbl_name as of from sqlite_schema where type = 'trigger'"
    if dialect == "postgres":
        triggers = "select tgname as name, tgrelid::regclass as of from pg_trigger where not tgisinternal"
    for trigger in raw.rows(triggers):
        if left_out in ("all", trigger["name"]):
            raw.run(f"drop trigger {trigger['name']}" + (f" on {trigger['of']}" if dialect == "postgres" else ""))
    said = ill(one)["structure"]
    assert said.startswith("the_database_refuses_too: the trigger "), said
    found = one.maintain("validate_structure", level="basic")["found"]
    assert "the trigger tasks_move is gone" in " ".join(problem["said"] for problem in found["problems"])


def test_a_trigger_that_is_switched_off_and_a_check_that_is_gone_are_missed(
    one: Orchestrator, raw: Raw, dialect: str
) -> None:
    if dialect == "sqlite":
        raw.run("pragma writable_schema = on")
        raw.run("update sqlite_schema set sql = replace(sql, 'check (unmet >= 0)', '') where name = 'tasks'")
    else:
        raw.run("alter table tasks drop constraint tasks_unmet_check")
        raw.run("alter table runs disable trigger runs_move")
    problems = one.maintain("validate_structure", level="basic")["found"]["problems"]
    said = " ".join(problem["said"] for problem in problems)
    assert "1 of 79 CHECKs" in said
    assert ("the trigger runs_move is gone or switched off" in said) is (dialect == "postgres")


#: Of a guard that refuses nothing: what is run on SQLite, and on PostgreSQL.
IDLE = {
    "the trigger tasks_move": (
        ("drop trigger tasks_move", "create trigger tasks_move before update of state on tasks begin select 1; end"),
        (
            "create or replace function orchestrion_tasks_move() returns trigger language plpgsql as"
            " 'begin return new; end'",
        ),
    ),
    "the trigger events_append_only": (
        (
            "drop trigger events_append_only",
            "create trigger events_append_only before update of id on events begin"
            " select raise(abort, 'illegal_move: the journal is append-only'); end",
        ),
        (
            "drop trigger events_append_only on events",
            "create trigger events_append_only before update of id on events for each row"
            " execute function orchestrion_events_append_only()",
        ),
    ),
    "the unique index runs_one_active": (
        (
            "drop index runs_one_active",
            "create unique index runs_one_active on runs (task) where state in ('starting', 'lost')",
        ),
    )
    * 2,
}


@pytest.mark.parametrize("guard", IDLE)
def test_a_guard_that_refuses_something_else_is_found(one: Orchestrator, raw: Raw, dialect: str, guard: str) -> None:
    assert ill(one) == {}
    for statement in IDLE[guard][dialect == "postgres"]:
        raw.run(statement)
    found = one.maintain("validate_structure", level="basic")["found"]["problems"]
    assert [(problem["rule"], problem["said"]) for problem in found] == [
        (
            "the_database_refuses_too",
            f"{guard} is another than the migrations make: what must not be is not refused any more",
        )
    ]
    assert ill(one)["structure"].endswith(found[0]["said"])


#: What is taken away -> how health says it.
TAKEN = {
    "drop table tags": "the table tags is gone",
    "alter table tasks drop column feedback": "the column feedback of the table tasks is gone",
    "alter table edges rename column reason to why": "the column reason of the table edges is gone",
}


@pytest.mark.parametrize("taken", TAKEN)
def test_a_table_or_a_column_that_is_gone_is_named(one: Orchestrator, raw: Raw, dialect: str, taken: str) -> None:
    assert ill(one) == {}
    raw.run(taken + " cascade" if dialect == "postgres" and "rename" not in taken else taken)
    assert ill(one)["structure"].startswith(f"every_table_is_there: {TAKEN[taken]}")
    found = one.maintain("validate_structure", level="full_audit")["found"]
    assert [problem["said"] for problem in found["problems"]] == [TAKEN[taken]]


def test_whoever_needs_a_column_that_is_gone_is_told_what_makes_it_anew(
    one: Orchestrator, raw: Raw, dialect: str
) -> None:
    if dialect == "postgres":
        pytest.skip("its rows say nothing of a column that they lack")
    one.add("a task")
    raw.run("alter table tasks drop column feedback")
    with pytest.raises(StoreProblem) as refused:
        one.claim()
    assert refused.value.code == "store_missing"
    assert "`orchestrion rebuild`" in refused.value.hint
    assert raw.rows("select state from tasks")[0]["state"] == "ready"


@pytest.mark.usefixtures("one")
def test_a_store_without_a_table_that_every_look_reads_is_a_missing_one(
    raw: Raw, root: Path, store_url: str, environ: dict[str, str], dialect: str
) -> None:
    raw.run("drop table workers" + (" cascade" if dialect == "postgres" else ""))
    found = Orchestrator.health_of(root, db=store_url, environ=environ)
    assert (found["status"], found["components"]["store"]["code"]) == ("unhealthy", "store_missing")


def test_a_trigger_of_somebody_s_is_named(one: Orchestrator, raw: Raw, dialect: str) -> None:
    if dialect == "postgres":
        raw.run(
            "create function strange() returns trigger language plpgsql as 'begin delete from events; return null; end'"
        )
        raw.run("create trigger strange after update on tasks for each row execute function strange()")
    else:
        raw.run("create trigger strange after update on tasks begin delete from events; end")
    assert "the trigger strange is none that the migrations make" in ill(one)["structure"]


def test_a_reference_that_need_not_be_is_named(one: Orchestrator, raw: Raw, dialect: str) -> None:
    if dialect == "postgres":
        raw.run("alter table holds drop constraint holds_run_fkey")
    else:
        raw.run("pragma writable_schema = on")
        raw.run("update sqlite_schema set sql = replace(sql, 'references runs (id)', '') where name = 'holds'")
        raw.run("pragma schema_version = 999")
    assert "holds.run need not name a row of runs any more" in ill(one)["structure"]


@pytest.mark.parametrize("lost", ["version = 3", "version > 1", "true"])
@pytest.mark.parametrize("create", [True, False])
def test_a_store_whose_migrations_lack_a_row_says_so(
    one: Orchestrator, raw: Raw, root: Path, store_url: str, environ: dict[str, str], lost: str, create: bool
) -> None:
    rows = raw.rows("select * from migrations")
    raw.run(f"delete from migrations where {lost}")
    found = Orchestrator.health_of(root, db=store_url, environ=environ)
    assert (found["status"], found["components"]["store"]["code"]) == ("unhealthy", "store_corrupt")
    assert "the store lacks a row that it always has: migrations of schema" in found["components"]["store"]["said"]
    assert "put a whole copy of before in its place" in found["components"]["store"]["advice"]
    with pytest.raises(StoreProblem, match="migrations of schema") as refused:
        open_store(store_url, create=create)
    assert refused.value.code == "store_corrupt"
    assert list(root.rglob("*.schema-*")) == []
    for row in rows[-len(rows) :]:
        raw.run("delete from migrations where version = ?", row["version"])
        raw.run("insert into migrations values (?, ?, ?, ?)", *row.values())
    assert Orchestrator.health_of(root, db=store_url, environ=environ)["status"] == "healthy"


def test_an_open_store_whose_migrations_lack_a_row_is_red(one: Orchestrator, raw: Raw) -> None:
    raw.run("delete from migrations where version = 3")
    assert "the row of schema 3 in migrations is gone" in ill(one)["structure"]


@pytest.mark.parametrize("bytes_of", ["text", "no text"])
def test_a_row_that_cannot_be_read_is_named_wherever_it_is_shown_and_can_be_mended(
    one: Orchestrator, hand: Hand, dialect: str, bytes_of: str
) -> None:
    task, other = one.add("a task"), one.add("another")
    if bytes_of == "no text" and dialect == "postgres":
        pytest.skip("PostgreSQL keeps no text that is none")
    bent = "'{'" if bytes_of == "text" else "cast(x'7bff7d' as text)"
    hand.run(f"update tasks set metadata = {bent} where id = ?", task.id)
    for shown in (one.list_tasks().as_json("tasks")["tasks"][0], one.task(f"T{task.id}").as_json()):
        assert (shown["id"], shown["metadata"], shown["damaged"]) == (f"T{task.id}", {}, ["metadata"])
    assert "damaged" not in one.task(f"T{other.id}").as_json()
    with pytest.raises(DamagedRow, match=f"metadata of T{task.id} cannot be read") as refused:
        stored_json(one.task(f"T{task.id}").row, "metadata", f"T{task.id}")
    assert refused.value.details == {"thing": f"T{task.id}", "column": "metadata"}
    assert f"`orchestrion update T{task.id} --no-metadata` clears it" in refused.value.hint
    sick = one.health()["components"]["structure"]
    assert f"metadata of T{task.id} cannot be read" in sick["said"]
    assert "--no-metadata` clears it" in sick["advice"]
    one.update(f"T{task.id}", metadata=None)
    assert "damaged" not in one.task(f"T{task.id}").as_json()
    assert ill(one) == {}


@pytest.mark.parametrize(
    ("column", "bent"),
    [
        *((column, bent) for column in ("checks", "tags") for bent in ("[1]", "[null]", "[[]]", '[""]')),
        ("checks", "[" * 3000),
        ("metadata", '{"a":' * 3000 + "1" + "}" * 3000),
    ],
)
def test_lists_of_something_else_and_what_is_nested_too_deeply_are_named_and_hide_nothing(
    one: Orchestrator, hand: Hand, column: str, bent: str
) -> None:
    one.add("a task")
    one.add("another")
    hand.run(f"update tasks set {column} = ? where id = 1", bent)
    assert f"{column} of T1 cannot be read" in ill(one)["structure"]
    assert [row.get("damaged") for row in one.list_tasks().as_json("tasks")["tasks"]] == [[column], None]
    if column == "checks":
        run = one.claim("T2")["run"]  # of the other task
        one.done(run, "done")
        with pytest.raises(DamagedRow):
            one.claim("T1")
    one.update("T1", **{column: None if column == "metadata" else ()})
    assert ill(one) == {}


def test_a_task_is_found_by_the_tags_of_its_list_again(one: Orchestrator, hand: Hand) -> None:
    one.add("a task", tags=("x", "y"))
    one.add("another", tags=("x",))
    one.add("a third")
    hand.run("delete from tags where task = 1")
    hand.run("insert into tags (task, tag) values (3, 'x')")
    hand.run("update tasks set tags = '[\"z\", ]' where id = 2")
    assert [task.id for task in one.list_tasks(tag="x").items] == [2, 3]
    named = [p for p in one.health()["components"]["structure"]["problems"] if p["rule"] == TAGS]
    assert [(p["said"], p["mend"]) for p in named] == [
        (f"{task} is found by other tags than it has", CLEANUP) for task in ("T1", "T2", "T3")
    ]
    assert one.clean_up_locks()["righted"] == 2  # the list of T2 cannot be read
    assert [task.id for task in one.list_tasks(tag="x").items] == [1, 2]
    assert "`orchestrion update T2 --no-tag` clears it" in one.health()["components"]["structure"]["advice"]
    one.update("T2", tags=())
    assert ill(one) == {}


@pytest.mark.parametrize("form", ["tree", "json", "mermaid", "dot"])
def test_a_graph_with_a_circle_is_drawn_or_said_to_have_one(one: Orchestrator, hand: Hand, form: str) -> None:
    """It was refused as if it had been asked to make one."""
    one.add("first")
    one.add("second", after=["T1"])
    hand.run(
        "insert into edges (task, prerequisite, kind, state, heir_of, created_at) values (1, 2, 'blocks', 'open', 1, 0)"
    )
    if form != "json":  # which says what can be worked on at the same time
        assert one.graph(format=form)
        return
    with pytest.raises(EnvironmentProblem, match="these tasks wait for each other already: T1 -> T2 -> T1") as refused:
        one.graph(format=form)
    assert refused.value.code == "row_damaged"
    assert "`orchestrion maintain validate --level comprehensive`" in refused.value.hint


def test_why_says_of_a_prerequisite_that_is_gone_that_it_is(one: Orchestrator, hand: Hand) -> None:
    one.add("first")
    one.add("second", after=["T1"])
    hand.run("update edges set prerequisite = 4444")
    [reason] = one.why("T2")["reasons"]
    assert "T4444 (blocks), a task that is gone: `orchestrion maintain validate`" in reason["detail"]


def test_a_client_does_not_get_round_the_checks_by_way_of_review(one: Orchestrator) -> None:
    one.add("a task", checks=("test -e nothing",))
    one.done(one.claim("T1")["run"], "look at it", next_action="needs_revision")
    with pytest.raises(Conflict, match="the check `test -e nothing` failed") as refused:
        one.change("T1", {}, "completed")
    assert (refused.value.code, one.task("T1").state) == ("check_failed", "review")
    assert "orchestrion approve T1" in str(refused.value.hint)
    assert one.approve("T1")["state"] == "completed"  # a person looked at it


def test_what_is_in_review_with_checks_that_nobody_can_read_is_not_accepted(one: Orchestrator, hand: Hand) -> None:
    one.add("a task", checks=("true",))
    one.done(one.claim("T1")["run"], "look at it", next_action="needs_revision")
    hand.run("update tasks set checks = '[' where id = 1")
    for accept in (lambda: one.approve("T1"), lambda: one.change("T1", {}, "completed")):
        with pytest.raises(DamagedRow):
            accept()
    assert one.task("T1").state == "review"


def test_runs_with_what_cannot_be_read_are_listed_and_counted(one: Orchestrator, hand: Hand) -> None:
    one.add("a task")
    one.done(one.claim("T1")["run"], "done")
    hand.run("update runs set tools = 'x', remarks = '[' where id = 1")
    (shown,) = one.list_runs().as_json("runs")["runs"]
    assert shown["damaged"] == ["tools", "remarks"]
    assert one.stats()["runs"] == 1


@pytest.mark.parametrize("called", ["", "Über", "run", "a.lock"])
def test_a_plan_whose_name_no_branch_can_have_is_told_and_hides_nothing(stage: Stage, called: str) -> None:
    stage.add("echo b > b.txt")
    assert stage.drain().all_completed
    with stage.open() as one, stage.direct() as database:
        Hand(database, "sqlite").run("update plans set name = ?", called)
        found = one.health()
        problems = found["components"]["structure"]["problems"]
        assert [p["thing"] for p in problems if p["rule"] == "plans_can_be_branches"] == [called]
        assert found["components"]["work"]["status"] == "healthy"
        assert one.maintain("validate_structure", level="full_audit")["found"]["valid"] is False


def test_a_run_that_no_task_knows_is_as_it_was_after_cleanup(one: Orchestrator, hand: Hand) -> None:
    one.add("a task")
    one.done(one.claim("T1")["run"], "done")
    hand.run("update runs set state = 'running', ended_at = null, supervised = 1, pid = 999999, pid_start = 1")
    found = one.health()["components"]
    assert found["supervisors"]["status"] == "healthy"
    assert "`orchestrion cleanup` sets it right" in found["structure"]["advice"]
    assert one.clean_up_locks() == {
        "freed": 0,
        "righted": 1,
        "mended": ["R1 is succeeded: T1 does not know of it"],
        "notes": [],
    }
    hand.run("update runs set supervised = 0, pid = null, pid_start = null")
    assert one.run("R1").row["state"] == "succeeded"
    assert ill(one) == {}


#: Counters that were set back, or to where there is no next number: what a hand does in SQLite, and in PostgreSQL.
COUNTERS = [
    ("delete from sqlite_sequence", "alter sequence tasks_id_seq restart"),
    ("update sqlite_sequence set seq = 9223372036854775807", "select setval('tasks_id_seq', 9223372036854775807)"),
]


@pytest.mark.parametrize("bent", COUNTERS)
def test_numbers_go_on_behind_those_that_were_given(
    one: Orchestrator, hand: Hand, dialect: str, bent: tuple[str, str]
) -> None:
    one.add("a task")
    two = one.add("another")
    one.delete(f"T{two.id}")
    hand.run(bent[dialect == "postgres"])
    assert ill(one)["structure"].startswith("numbers_go_on: the next row of the table ")
    assert one.clean_up_locks()["righted"]
    assert ill(one) == {}
    assert one.add("a third").id == two.id + 1


def test_a_restored_database_without_its_counters_says_so(one: Orchestrator, hand: Hand, dialect: str) -> None:
    """As after a restore of the rows alone, which every administrator of PostgreSQL makes once."""
    if dialect == "sqlite":
        pytest.skip("a SQLite file is restored with its counters")
    for number in range(9):
        one.add(f"task {number}")
    for table in ("tasks", "runs", "events"):
        hand.run(f"alter sequence {table}_id_seq restart")
    with pytest.raises(EnvironmentProblem) as refused:
        one.add("a task")
    assert refused.value.code == "row_damaged"
    assert "`orchestrion cleanup`" in refused.value.hint
    assert "events" in ill(one)["structure"]
    assert one.clean_up_locks()["righted"]
    assert ill(one) == {}
    assert one.add("a task").id == 10


@pytest.mark.parametrize(
    "bent", ["update tasks set parent = 1 where id = 1", "update tasks set parent = 3 where id = 2"]
)
def test_tasks_that_are_parts_of_themselves_hold_nobody_up(one: Orchestrator, hand: Hand, bent: str) -> None:
    """The look upwards had no end, and a claim kept the write lock meanwhile."""
    one.add("alone")
    one.add("whole")
    one.add("part", parent="T2")
    one.add("another")
    hand.run(bent)
    named = [
        p for p in one.health()["components"]["structure"]["problems"] if p["rule"] == "no_task_is_a_part_of_itself"
    ]
    assert {p["thing"] for p in named} == ({"T1"} if "id = 1" in bent else {"T2", "T3"})
    assert all(f"`orchestrion move {p['thing']} --top`" in p["mend"] for p in named)
    assert [one.claim()["run"] for _ in range(2)] == ["R1", "R2"]
    one.brief_of_task("T3")
    for problem in named:
        one.move(problem["thing"], None)
    assert ill(one) == {}


def test_a_text_where_a_number_belongs_is_named_and_shown(one: Orchestrator, store_url: str, dialect: str) -> None:
    """In a table that somebody made lenient; it ended `health` and every list."""
    if dialect == "postgres":
        pytest.skip("PostgreSQL has no lenient tables")
    one.add("bent")
    one.add("sound")
    for text in (["pragma writable_schema = on", LENIENT], ["update tasks set created_at = 'yesterday' where id = 1"]):
        with closing(sqlite3.connect(store_url, isolation_level=None)) as hand:
            for statement in text:
                hand.execute(statement)
    found = one.maintain("validate_structure", level="comprehensive")["found"]["problems"]
    assert "created_at of T1 is yesterday, which is no time" in [problem["said"] for problem in found]
    assert one.health()["status"] == "degraded"
    shown = [task.as_json()["created_at"] for task in one.list_tasks().items]
    assert shown[0] == "yesterday"
    assert shown[1].startswith("20")


LENIENT = "update sqlite_schema set sql = replace(sql, ') strict', ')') where name = 'tasks'"


def test_a_task_whose_work_goes_nobody_knows_where_fails_alone(stage: Stage) -> None:
    """It was completed and landed, and its work was in no branch."""
    stage.open()
    bent, sound = stage.add("echo 1 > one.txt"), stage.add("echo 2 > two.txt")
    with stage.direct() as database:
        Hand(database, "sqlite").unfit("tasks", "update tasks set merge = 'maybe' where id = 1")
    stage.drain()
    assert (stage.task(bent)["state"], stage.task(sound)["state"]) == ("failed", "completed")
    assert "'maybe' stands where one of auto, none must" in stage.run("R1")["reason"]
    assert stage.merged("two.txt") == "2\n"


def test_a_task_that_cannot_be_read_fails_alone(orchestrion: Orchestrator, hand: Hand) -> None:
    bent, sound = (orchestrion.add(title, command="true", max_retries=3) for title in ("bent", "sound"))
    hand.run("update tasks set checks = '[' where id = ?", bent.id)
    summary = orchestrion.work(drain=True)
    assert (summary.completed, summary.failed) == (1, 1)
    row = orchestrion.task(f"T{sound.id}").row
    assert row["state"] == "completed"
    [run] = hand.rows("select code, reason from runs where task = ?", bent.id)
    assert f"checks of T{bent.id} cannot be read" in run["reason"]


def test_a_store_without_its_id_or_its_project_says_so(
    one: Orchestrator, raw: Raw, root: Path, store_url: str, environ: dict[str, str], hand: Hand
) -> None:
    raw.run("delete from meta where key = 'uuid'")
    found = Orchestrator.health_of(root, db=store_url, environ=environ)
    assert found["status"] == "unhealthy"
    assert found["components"]["store"]["code"] == "store_corrupt"
    assert "the store lacks a row that it always has: meta of {'key': 'uuid'}" in found["components"]["store"]["said"]
    assert "put a whole copy of before in its place" in found["components"]["store"]["advice"]
    raw.run("insert into meta (key, value) values ('uuid', ?)", one.store.uuid)
    assert Orchestrator.health_of(root, db=store_url, environ=environ)["status"] == "healthy"
    one.add("a task")
    hand.run("delete from projects")
    with pytest.raises(NotFound) as missed:
        Orchestrator.health_of(root, db=store_url, environ=environ)
    assert missed.value.code == "no_project"
    found = one.health()
    assert (found["status"], found["ready"]) == ("unhealthy", False)
    assert found["components"]["store"]["code"] == "store_corrupt"


def test_in_a_large_store_each_look_goes_on_and_stays_where_something_is_wrong(
    one: Orchestrator, scene: dict[str, int], hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structure, "GLANCED_TASKS", 2)
    total = len(hand.rows("select id from tasks"))
    assert {one.health()["status"] for _ in range(total)} == {"healthy"}
    hand.run("update tasks set unmet = unmet + 1 where id = ?", scene["asks"])
    looks = [one.health()["components"]["structure"]["status"] for _ in range(total)]
    assert looks == sorted(looks, reverse=True), "once seen it is said until it is mended"
    assert looks[-1] == "degraded"
    hand.run("update tasks set unmet = unmet - 1 where id = ?", scene["asks"])
    assert ill(one) == {}


@pytest.fixture
def scene(one: Orchestrator) -> dict[str, int]:
    """Something of everything, each in a transaction of its own."""

    def do(act: Callable[..., Any], *values: Any, **given: Any) -> Any:
        return one.store.write(lambda tx: act(tx, *values, **given))

    def add(title: str, **given: Any) -> int:
        return int(do(create.create, NewTask(title, **given)))

    first = add("first")
    second = add("second", waits=(Wait(first),), tags=("a", "a-b", "a"))
    over = add("over")
    client = claim.Claimant(lease_ms=600_000, agent="me")
    ended = do(claim.claim_task, over, client).run
    add("after it", waits=(Wait(over),))
    parent = add("parent", waits=(Wait(first, EdgeKind.SOFT),))
    part = add("part", parent=parent)
    asks = add("asks", gates=(NewGate(EdgeKind.APPROVAL, "so?"),))
    run = do(claim.claim_task, add("running", needs=("gpu",)), client).run
    do(artifacts.keep, over, ended, "a result", called="detail", kind="general")
    do(meter.add, ended, turns=2, tokens_input=100, cost_usd=0.25)
    do(finish.complete, ended, summary="done")
    do(decide.cancel, add("not wanted"), "so")
    do(decisions.record, decisions.NewDecision("this way"))
    do(decisions.record, decisions.NewDecision("that way", changes=("supersedes", 1)))
    gate = one.store.read(lambda tx: tx.all("open_gates_of", task=asks))[0]["id"]
    return {
        "first": first, "second": second, "over": over, "ended": ended, "parent": parent, "part": part, "asks": asks,
        "run": run, "gate": gate,
    }  # fmt: skip
