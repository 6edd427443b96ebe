"""Health is green while everything that must be true is, and red as soon as a hand has bent a row.

The hand is one with the database's own shell: it has switched off whatever refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from direct import Raw
from orchestrion import Orchestrator
from orchestrion.core.errors import DamagedRow, NotFound, StoreProblem
from orchestrion.core.model import NewGate, NewTask, Wait
from orchestrion.core.states import EdgeKind
from orchestrion.memory import artifacts, decisions
from orchestrion.ops import structure
from orchestrion.scheduler import claim, create, decide, finish, meter
from orchestrion.store import open_store


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
TIMES = "times_fit_what_happened"
PROJECT, ARCHIVE = "everything_is_of_its_owners_project", "what_is_archived_is_over"
ANOTHER = "insert into projects (id, name, created_at) values (77, 'another', 0)"
#: What a cleanup sets right.
MENDED = {"leases_end_in_time", "limits_count_their_holders"}
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
    "a run without a task": Bend(HOLDERS, ("update runs set state = 'running', ended_at = null where id = {ended}",)),
    "two runs of one task": Bend(
        HOLDERS,
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
    "another result": Bend("results_are_as_they_were_stored", ("update artifacts set content = 'better'",)),
}


class Hand:
    """Bends rows while whatever refuses is switched off."""

    def __init__(self, raw: Raw, dialect: str) -> None:
        self.rows = raw.rows
        self._raw = raw
        self._is_sqlite = dialect == "sqlite"
        raw.run("pragma foreign_keys = off" if self._is_sqlite else "set session_replication_role = replica")

    def run(self, sql: str, *values: object) -> None:
        triggers = self.rows(TRIGGERS) if self._is_sqlite else []
        for trigger in triggers:
            self._raw.run(f"drop trigger {trigger['name']}")
        self._raw.run(sql, *values)
        for trigger in triggers:
            self._raw.run(trigger["sql"])


TRIGGERS = "select name, sql from sqlite_schema where type = 'trigger'"


@pytest.fixture
def hand(raw: Raw, dialect: str) -> Hand:
    return Hand(raw, dialect)


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
    if {problem["rule"] for problem in audit["found"]["problems"]} <= MENDED:
        assert audit["recommendations"] == [advice] == ["`orchestrion cleanup` sets it right"]
        one.cleanup_stale_locks()
        assert ill(one) == {}
        return
    assert one.store.how_to_copy in advice
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
    for show in (lambda: one.list_tasks().as_json("tasks"), lambda: one.task(f"T{task.id}").as_json()):
        with pytest.raises(DamagedRow, match=f"metadata of T{task.id} cannot be read") as refused:
            show()
        assert (refused.value.code, refused.value.details) == (
            "row_damaged",
            {"thing": f"T{task.id}", "column": "metadata"},
        )
    assert one.task(f"T{other.id}").as_json()["title"] == "another"
    assert f"metadata of T{task.id} cannot be read" in ill(one)["structure"]
    one.update(f"T{task.id}", metadata=None)
    assert len(one.list_tasks().items) == 2
    assert ill(one) == {}


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
    second = add("second", waits=(Wait(first),))
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
