"""Direct SQL: what the databases refuse by themselves, whoever writes, and that the refused row is unchanged."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from orchestrion.core.model import NewTask, Wait
from orchestrion.core.states import (
    ACTIVE_RUN,
    RUN_MOVES,
    TASK_BIRTH,
    TASK_MOVES,
    EdgeKind,
    RunState,
    TaskState,
)
from orchestrion.scheduler import claim, create, finish, slots
from orchestrion.store import Store

pytestmark = pytest.mark.long

CLIENT = claim.Claimant(lease_ms=60_000)
WORKER = claim.Claimant(lease_ms=60_000, supervised=True, host="here")

#: How a task comes into each state by legal moves alone.
WAYS: dict[TaskState, tuple[TaskState, ...]] = {
    TaskState.PENDING: (),
    TaskState.READY: (TaskState.READY,),
    TaskState.IN_PROGRESS: (TaskState.READY, TaskState.IN_PROGRESS),
    TaskState.RETRYING: (TaskState.READY, TaskState.IN_PROGRESS, TaskState.RETRYING),
    TaskState.BLOCKED: (TaskState.BLOCKED,),
    TaskState.REVIEW: (TaskState.READY, TaskState.IN_PROGRESS, TaskState.REVIEW),
    TaskState.COMPLETED: (TaskState.COMPLETED,),
    TaskState.FAILED: (TaskState.BLOCKED, TaskState.FAILED),
    TaskState.CANCELLED: (TaskState.CANCELLED,),
}


@pytest.fixture
def sql(store: Store, raw: Any) -> Any:
    """Direct SQL on a store that has a project, a plan and a lane (all number 1) and no task."""
    store.write(lambda tx: (create.plan_number(tx, "default"), create.lane_number(tx, "", "", ())))
    return raw


def a_task(sql: Any, state: str = "pending", *, key: str | None = None) -> int:
    sql.run(
        "insert into tasks (project, plan, lane, state, title, key, created_at, updated_at)"
        " values (1, 1, 1, ?, 'a task', ?, 0, 0)",
        state,
        key,
    )
    return int(sql.rows("select max(id) as id from tasks")[0]["id"])


def a_run(sql: Any, task: int, *, state: str = "starting", supervised: int = 1) -> int:
    sql.run(
        "insert into runs (project, task, attempt, state, supervised, lease_ms, lease_until, claimed_at)"
        " values (1, ?, 1, ?, ?, 1, 1, 0)",
        task,
        state,
        supervised,
    )
    return int(sql.rows("select max(id) as id from runs")[0]["id"])


def move(sql: Any, task: int, to: TaskState) -> None:
    """Moves a task as the scheduler would: with a run where one is due, and none where not."""
    _end_run_of(sql, task)
    run = a_run(sql, task) if to is TaskState.IN_PROGRESS else None
    sql.run("update tasks set state = ?, run = ?, retry_at = 1 where id = ?", str(to), run, task)


def task_in(sql: Any, state: TaskState) -> int:
    task = a_task(sql)
    for step in WAYS[state]:
        move(sql, task, step)
    assert row_of(sql, task)["state"] == state
    return task


def row_of(sql: Any, task: int, table: str = "tasks") -> Any:
    return sql.rows(f"select * from {table} where id = ?", task)[0]


def refused(sql: Any, statement: str, *values: object, says: str | None = None) -> None:
    """The statement is refused, and no table is changed by it."""
    tables = ("tasks", "runs", "edges", "events", "holds", "slots")
    before = [sql.rows(f"select * from {table} order by 1, 2") for table in tables]
    with pytest.raises(sql.error, match=says):
        sql.run(statement, *values)
    assert [sql.rows(f"select * from {table} order by 1, 2") for table in tables] == before


# --- moves of a task --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", list(TaskState))
def test_of_all_moves_of_a_task_the_database_allows_exactly_those_of_the_table(sql: Any, found: TaskState) -> None:
    for asked in TaskState:
        if asked is found:
            continue
        task = task_in(sql, found)
        if asked in TASK_MOVES[found]:
            move(sql, task, asked)
            assert row_of(sql, task)["state"] == asked
            continue
        run = a_run(sql, task) if asked is TaskState.IN_PROGRESS else None
        statement = "update tasks set state = ?, run = ?, retry_at = 1 where id = ?"
        refused(sql, statement, str(asked), run, task, says="illegal_move")


@pytest.mark.parametrize("state", list(TaskState))
def test_a_task_is_born_only_where_the_table_says(sql: Any, state: TaskState) -> None:
    if state in TASK_BIRTH:
        assert row_of(sql, a_task(sql, state))["state"] == state
        return
    refused(
        sql,
        "insert into tasks (project, plan, lane, state, retry_at, title, created_at, updated_at)"
        " values (1, 1, 1, ?, 1, 'a task', 0, 0)",
        str(state),
        says="illegal_move",
    )


@pytest.mark.parametrize("state", ["", "done", "PENDING", "ready ", "nonsense"])
def test_a_state_that_does_not_exist_is_refused(sql: Any, state: str) -> None:
    task = a_task(sql)
    refused(sql, "update tasks set state = ? where id = ?", state, task)
    refused(
        sql,
        "insert into tasks (project, plan, lane, state, title, created_at, updated_at)"
        " values (1, 1, 1, ?, 'a task', 0, 0)",
        state,
    )


def test_a_state_is_never_missing(sql: Any) -> None:
    refused(sql, "update tasks set state = null where id = ?", a_task(sql))


@pytest.mark.parametrize("found", [s for s in TaskState if s is not TaskState.IN_PROGRESS])
def test_only_a_task_in_progress_has_a_run(sql: Any, found: TaskState) -> None:
    task = task_in(sql, found)
    run = a_run(sql, task)
    refused(sql, "update tasks set run = ? where id = ?", run, task)


def test_a_task_in_progress_has_a_run_of_its_own_that_is_active(sql: Any) -> None:
    task, other = task_in(sql, TaskState.READY), task_in(sql, TaskState.READY)
    theirs = a_run(sql, other)
    ended = a_run(sql, task)
    sql.run("update runs set state = 'failed', ended_at = 1 where id = ?", ended)
    statement = "update tasks set state = 'in_progress', run = ? where id = ?"
    refused(sql, statement, None, task)
    refused(sql, statement, theirs, task, says="illegal_move")
    refused(sql, statement, ended, task, says="illegal_move")
    refused(sql, statement, 999_999, task)
    refused(sql, "update tasks set state = 'in_progress' where id = ?", task)


def test_a_held_task_is_handed_to_nobody_else_and_never_let_go_alone(sql: Any) -> None:
    task, other = task_in(sql, TaskState.IN_PROGRESS), task_in(sql, TaskState.IN_PROGRESS)
    theirs = row_of(sql, other)["run"]
    refused(sql, "update tasks set run = ? where id = ?", theirs, task, says="illegal_move")
    refused(sql, "update tasks set run = null where id = ?", task)
    refused(sql, "update tasks set state = 'completed' where id = ?", task)


def test_a_retrying_task_knows_when(sql: Any) -> None:
    task = task_in(sql, TaskState.IN_PROGRESS)
    refused(sql, "update tasks set state = 'retrying', run = null, retry_at = null where id = ?", task)


def test_a_task_keeps_its_number_and_its_project(sql: Any) -> None:
    task = a_task(sql)
    sql.run("insert into projects (name, created_at) values ('another', 0)")
    other = sql.rows("select max(id) as id from projects")[0]["id"]
    refused(sql, "update tasks set id = id + 1000 where id = ?", task, says="illegal_move")
    refused(sql, "update tasks set project = ? where id = ?", other, task, says="illegal_move")


def test_a_key_belongs_to_one_task_of_a_plan(sql: Any) -> None:
    a_task(sql, key="k")
    other = a_task(sql, key="other")
    refused(sql, "update tasks set key = 'k' where id = ?", other)
    refused(
        sql,
        "insert into tasks (project, plan, lane, title, key, created_at, updated_at) values (1, 1, 1, 't', 'k', 0, 0)",
    )


@pytest.mark.parametrize(
    "change",
    [
        "priority = 0",
        "priority = 11",
        "unmet = -1",
        "dead = 1",
        "held = 1",
        "children = -1",
        "max_retries = -1",
        "title = ''",
        "effort_min = -1",
        "timeout_s = 0",
        "merge = 'maybe'",
        "urgent = 2",
        "plan = 99",
        "lane = 99",
        "parent = 99",
    ],
)
def test_values_that_no_task_may_have_are_refused(sql: Any, change: str) -> None:
    refused(sql, f"update tasks set {change} where id = ?", a_task(sql))


def test_a_task_in_progress_is_not_deleted(sql: Any) -> None:
    task = task_in(sql, TaskState.IN_PROGRESS)
    refused(sql, "delete from tasks where id = ?", task, says="illegal_move")


def test_a_task_that_others_wait_for_is_not_deleted(store: Store, sql: Any) -> None:
    first = store.write(lambda tx: create.create(tx, NewTask("first")))
    second = store.write(lambda tx: create.create(tx, NewTask("second", waits=(Wait(first),))))
    refused(sql, "delete from tasks where id = ?", first)
    parent = store.write(lambda tx: create.create(tx, NewTask("child", parent=second)))
    refused(sql, "delete from tasks where id = ?", second)
    assert parent


# --- moves of a run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", list(RunState))
def test_of_all_moves_of_a_run_the_database_allows_exactly_those_of_the_table(sql: Any, found: RunState) -> None:
    for asked in RunState:
        if asked is found:
            continue
        run = _run_in(sql, found)
        statement, ended = "update runs set state = ?, ended_at = ? where id = ?", None if asked in ACTIVE_RUN else 1
        if asked in RUN_MOVES[found]:
            sql.run(statement, str(asked), ended, run)
            assert row_of(sql, run, "runs")["state"] == asked
        else:
            refused(sql, statement, str(asked), ended, run, says="illegal_move")


@pytest.mark.parametrize(("state", "supervised"), list(itertools.product(RunState, (0, 1))))
def test_a_supervised_run_is_born_starting_and_a_clients_run_running(
    sql: Any, state: RunState, supervised: int
) -> None:
    task = task_in(sql, TaskState.READY)
    if state is (RunState.STARTING if supervised else RunState.RUNNING):
        assert a_run(sql, task, state=state, supervised=supervised)
        return
    refused(
        sql,
        "insert into runs (project, task, attempt, state, supervised, lease_ms, lease_until, claimed_at, ended_at)"
        " values (1, ?, 1, ?, ?, 1, 1, 0, ?)",
        task,
        str(state),
        supervised,
        None if state in ACTIVE_RUN else 1,
        says="illegal_move",
    )


def test_a_task_has_one_active_run(sql: Any) -> None:
    task = task_in(sql, TaskState.READY)
    first = a_run(sql, task)
    statement = (
        "insert into runs (project, task, attempt, state, supervised, lease_ms, lease_until, claimed_at)"
        " values (1, ?, 2, ?, ?, 1, 1, 0)"
    )
    refused(sql, statement, task, "starting", 1)
    refused(sql, statement, task, "running", 0)
    sql.run("update runs set state = 'running' where id = ?", first)
    refused(sql, statement, task, "starting", 1)
    sql.run("update runs set state = 'lost', ended_at = 1 where id = ?", first)
    sql.run(statement, task, "starting", 1)


def test_a_run_that_ended_says_when_and_one_that_did_not_does_not(sql: Any) -> None:
    run = _run_in(sql, RunState.RUNNING)
    refused(sql, "update runs set state = 'failed' where id = ?", run)
    refused(sql, "update runs set ended_at = 1 where id = ?", run)
    ended = _run_in(sql, RunState.FAILED)
    refused(sql, "update runs set ended_at = null where id = ?", ended)


@pytest.mark.parametrize("change", ["id = id + 1000", "task = 2", "project = 2"])
def test_a_run_keeps_its_identity(sql: Any, change: str) -> None:
    run = _run_in(sql, RunState.RUNNING)
    a_task(sql)
    sql.run("insert into projects (name, created_at) values ('another', 0)")
    refused(sql, f"update runs set {change} where id = ?", run)


@pytest.mark.parametrize("state", ACTIVE_RUN)
def test_an_active_run_is_not_deleted(sql: Any, state: RunState) -> None:
    run = _run_in(sql, state)
    refused(sql, "delete from runs where id = ?", run, says="illegal_move")


@pytest.mark.parametrize(
    "change", ["lease_ms = 0", "turns = -1", "cost_usd = -0.1", "tokens_input = -1", "phase = 'x'"]
)
def test_values_that_no_run_may_have_are_refused(sql: Any, change: str) -> None:
    refused(sql, f"update runs set {change} where id = ?", _run_in(sql, RunState.RUNNING))


# --- the side doors ---------------------------------------------------------------------------------------------------

_TASK = "(id, project, plan, lane, state, title, key, created_at, updated_at) values"
_RUN = "(id, project, task, attempt, state, supervised, lease_ms, lease_until, claimed_at) values"


def test_replacing_a_task_is_refused(sql: Any, dialect: str) -> None:
    """``insert or replace`` would delete the row without its delete trigger, and insert it in any state of birth."""
    task = task_in(sql, TaskState.IN_PROGRESS)
    a_task(sql, key="k")
    for state in ("pending", "completed"):
        if dialect == "sqlite":
            for word in ("insert or replace", "replace", "insert or ignore"):
                refused(sql, f"{word} into tasks {_TASK} (?, 1, 1, 1, ?, 'x', null, 0, 0)", task, state, says="illegal")
                refused(sql, f"{word} into tasks {_TASK} (999, 1, 1, 1, ?, 'x', 'k', 0, 0)", state, says="illegal")
    assert row_of(sql, task)["state"] == "in_progress"


def test_an_upsert_can_do_no_more_than_an_update(sql: Any) -> None:
    for found, asked in (
        (TaskState.CANCELLED, "pending"),
        (TaskState.REVIEW, "completed"),
        (TaskState.RETRYING, "completed"),
    ):
        task = task_in(sql, found)
        upsert = f"on conflict (id) do update set state = '{asked}'"
        statement = f"insert into tasks {_TASK} (?, 1, 1, 1, 'pending', 'x', null, 0, 0) {upsert}"
        if asked not in TASK_MOVES[found]:
            refused(sql, statement, task)


@pytest.mark.parametrize("word", ["update or replace", "update or ignore", "update or rollback", "update or abort"])
def test_no_way_of_writing_update_gets_around_the_table(sql: Any, dialect: str, word: str) -> None:
    if dialect == "postgres":
        word = "update"
    task, other = task_in(sql, TaskState.CANCELLED), a_task(sql, key="k")
    refused(sql, f"{word} tasks set state = 'pending' where id = ?", task, says="illegal_move")
    keyed = a_task(sql, key="mine")
    refused(sql, f"{word} tasks set key = 'k' where id = ?", keyed)
    refused(sql, f"{word} tasks set id = ? where id = ?", other, keyed, says="illegal_move")
    run = _run_in(sql, RunState.FAILED)
    refused(sql, f"{word} runs set state = 'running', ended_at = null where id = ?", run, says="illegal_move")


def test_replacing_a_run_is_refused(sql: Any, dialect: str) -> None:
    run = _run_in(sql, RunState.RUNNING)
    task = row_of(sql, run, "runs")["task"]
    words = ("insert or replace", "replace", "insert or ignore") if dialect == "sqlite" else ("insert",)
    for word in words:
        refused(sql, f"{word} into runs {_RUN} (?, 1, ?, 2, 'starting', 1, 1, 1, 0)", run, task)
        refused(sql, f"{word} into runs {_RUN} (999, 1, ?, 2, 'starting', 1, 1, 1, 0)", task)


def test_one_bad_row_of_many_spoils_the_statement(sql: Any) -> None:
    """One statement over many rows: none is changed when one may not be."""
    good, bad = task_in(sql, TaskState.BLOCKED), task_in(sql, TaskState.CANCELLED)
    refused(sql, "update tasks set state = 'failed' where id in (?, ?)", good, bad, says="illegal_move")


def test_the_journal_is_only_added_to(store: Store, sql: Any, dialect: str) -> None:
    store.write(lambda tx: tx.event("note"))
    event = sql.rows("select max(id) as id from events")[0]["id"]
    refused(sql, "update events set actor = 'somebody else'", says="illegal_move")
    refused(sql, "update events set id = id + 1 where id = ?", event, says="illegal_move")
    insert = "into events (id, project, at, kind) values (?, 1, 0, 'note')"
    for word in ("insert or replace", "replace", "insert or ignore", "insert") if dialect == "sqlite" else ("insert",):
        refused(sql, f"{word} {insert}", event)
    refused(
        sql,
        f"insert {insert} on conflict (id) do update set actor = 'somebody else'",
        event,
        says="illegal_move",
    )


# --- edges and their counters -----------------------------------------------------------------------------------------


def test_counters_follow_whatever_happens_to_an_edge(sql: Any) -> None:
    first, second = a_task(sql), a_task(sql)
    insert = "insert into edges (task, prerequisite, kind, state, heir_of, created_at) values (?, ?, ?, ?, ?, 0)"

    def counters() -> tuple[int, ...]:
        row = row_of(sql, second)
        return row["unmet"], row["dead"], row["held"], row["children"]

    for kind, state, expected in (
        ("blocks", "open", (1, 0, 0, 0)),
        ("data", "dead", (2, 1, 0, 0)),
        ("soft", "met", (2, 1, 0, 0)),
        ("on_failure", "waived", (2, 1, 0, 0)),
        ("child", "open", (3, 1, 0, 1)),
    ):
        sql.run(insert, second, first, kind, state, second)
        assert counters() == expected, kind
    for state, unmet, dead in (("dead", 3, 2), ("met", 2, 1), ("open", 3, 1), ("waived", 2, 1), ("open", 3, 1)):
        sql.run("update edges set state = ? where task = ? and kind = 'blocks'", state, second)
        assert counters() == (unmet, dead, 0, 1), state
    sql.run("update edges set state = 'met' where task = ?", second)
    assert counters() == (0, 0, 0, 1)
    sql.run("update edges set state = 'dead' where task = ?", second)
    assert counters() == (5, 5, 0, 1)
    sql.run("delete from edges where task = ? and kind <> 'child'", second)
    assert counters() == (1, 1, 0, 1)
    sql.run("delete from edges where task = ?", second)
    assert counters() == (0, 0, 0, 0)


def test_an_open_decision_is_counted_as_held(sql: Any) -> None:
    task = a_task(sql)
    for kind in ("approval", "question", "external"):
        sql.run("insert into gates (project, task, kind, created_at) values (1, ?, ?, 0)", task, kind)
        gate = sql.rows("select max(id) as id from gates")[0]["id"]
        sql.run(
            "insert into edges (task, gate, kind, heir_of, created_at) values (?, ?, ?, ?, 0)", task, gate, kind, task
        )
    assert (row_of(sql, task)["unmet"], row_of(sql, task)["held"]) == (3, 2)
    sql.run("update edges set state = 'dead' where kind = 'approval'")
    assert (row_of(sql, task)["unmet"], row_of(sql, task)["dead"], row_of(sql, task)["held"]) == (3, 1, 1)
    sql.run("update edges set state = 'waived' where kind = 'question'")
    assert (row_of(sql, task)["unmet"], row_of(sql, task)["held"]) == (2, 0)
    sql.run("delete from gates where task = ?", task)
    assert (row_of(sql, task)["unmet"], row_of(sql, task)["dead"], row_of(sql, task)["held"]) == (0, 0, 0)


@pytest.mark.parametrize("change", ["task = 3", "prerequisite = 3", "kind = 'soft'", "heir_of = 3", "id = id + 100"])
def test_an_edge_keeps_its_ends(sql: Any, change: str) -> None:
    first, second = a_task(sql), a_task(sql)
    a_task(sql)
    _edge(sql, second, first)
    refused(sql, f"update edges set {change}", says="illegal_move")


def test_an_edge_is_never_there_twice_nor_replaced(sql: Any, dialect: str) -> None:
    """A replaced edge would be counted twice."""
    first, second = a_task(sql), a_task(sql)
    _edge(sql, second, first)
    edge = sql.rows("select max(id) as id from edges")[0]["id"]
    words = ("insert", "insert or replace", "replace", "insert or ignore") if dialect == "sqlite" else ("insert",)
    for word in words:
        statement = f"{word} into edges (id, task, prerequisite, kind, heir_of, created_at) values (?, ?, ?, ?, ?, 0)"
        refused(sql, statement, 999, second, first, "blocks", second)
        refused(sql, statement, edge, second, first, "soft", second)


@pytest.mark.parametrize(
    ("prerequisite", "gate", "kind"),
    [
        ("self", None, "blocks"),
        (None, None, "blocks"),
        ("other", 1, "blocks"),
        ("other", None, "approval"),
        (None, 1, "blocks"),
        ("other", None, "nonsense"),
        (999, None, "blocks"),
        (None, 999, "approval"),
    ],
)
def test_an_edge_that_means_nothing_is_refused(sql: Any, prerequisite: Any, gate: Any, kind: str) -> None:
    task, other = a_task(sql), a_task(sql)
    sql.run("insert into gates (project, task, kind, created_at) values (1, ?, 'approval', 0)", task)
    on = {"self": task, "other": other}.get(prerequisite, prerequisite)
    refused(
        sql,
        "insert into edges (task, prerequisite, gate, kind, heir_of, created_at) values (?, ?, ?, ?, ?, 0)",
        task,
        on,
        gate,
        kind,
        task,
    )


@pytest.mark.parametrize(("kind", "opens_at"), [("time", None), ("approval", 5), ("child", None), ("blocks", None)])
def test_a_gate_that_means_nothing_is_refused(sql: Any, kind: str, opens_at: int | None) -> None:
    task = a_task(sql)
    refused(
        sql,
        "insert into gates (project, task, kind, opens_at, created_at) values (1, ?, ?, ?, 0)",
        task,
        kind,
        opens_at,
    )


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_limits_use_follows_its_holds_and_nothing_replaces_them(store: Store, sql: Any, dialect: str) -> None:
    store.write(lambda tx: slots.set_capacity(tx, "global", 2))
    task = store.write(lambda tx: create.create(tx, NewTask("t")))
    taken = store.write(lambda tx: claim.claim(tx, WORKER))
    assert taken is not None
    assert _used(sql) == 1
    words = ("insert", "insert or replace", "replace", "insert or ignore") if dialect == "sqlite" else ("insert",)
    for word in words:
        refused(sql, f"{word} into holds (run, project, slot) values (?, 1, 'global')", taken.run)
    refused(sql, "insert into holds (run, project, slot) values (?, 1, 'no such limit')", taken.run)
    refused(sql, "update slots set capacity = -1")
    refused(sql, "update slots set used = -1")
    store.write(lambda tx: finish.kill(tx, taken.run, "so"))
    assert _used(sql) == 0
    assert row_of(sql, task)["state"] == "failed"


def test_moves_made_by_sql_reach_the_program_as_refusals(store: Store) -> None:
    """The triggers' words come through the store as IllegalMove, with nothing written."""
    from orchestrion.core.errors import IllegalMove

    task = store.write(lambda tx: create.create(tx, NewTask("t", completed=True)))
    with pytest.raises(IllegalMove):
        store.write(
            lambda tx: tx.run(
                "decided_task_moves",
                id=task,
                found="completed",
                to="review",
                code=None,
                reason=None,
                feedback=None,
                reset=0,
                correlation=None,
            )
        )
    assert store.read(lambda tx: tx.the("task", id=task)["state"]) == "completed"


def _edge(sql: Any, task: int, on: int, kind: EdgeKind = EdgeKind.BLOCKS) -> None:
    sql.run(
        "insert into edges (task, prerequisite, kind, heir_of, created_at) values (?, ?, ?, ?, 0)",
        task,
        on,
        str(kind),
        task,
    )


def _run_in(sql: Any, state: RunState) -> int:
    run = a_run(sql, task_in(sql, TaskState.READY))
    if state is not RunState.STARTING:
        sql.run("update runs set state = 'running' where id = ?", run)
    if state not in ACTIVE_RUN:
        sql.run("update runs set state = ?, ended_at = 1 where id = ?", str(state), run)
    return run


def _end_run_of(sql: Any, task: int) -> None:
    sql.run("update runs set state = 'failed', ended_at = 1 where task = ? and state in ('starting', 'running')", task)


def _used(sql: Any) -> int:
    return int(sql.rows("select used from slots where name = 'global'")[0]["used"])
