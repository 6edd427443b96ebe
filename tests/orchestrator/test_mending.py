"""What health and validate advise for what a hand did really mends it."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from test_bending import ill

from direct import Hand, Raw, lenient
from orchestrion import Orchestrator
from orchestrion.core.errors import OrchestrionError
from orchestrion.core.model import NewGate, NewTask
from orchestrion.core.states import EdgeKind
from orchestrion.core.values import LAST_MOMENT
from orchestrion.memory import decisions
from orchestrion.ops import times
from orchestrion.scheduler import claim, create
from orchestrion.store import migrate, open_store
from orchestrion.store.statements import FOLDER

#: Far behind the year 9999, and far before 1970.
NEVER = (9 * 10**17, -9 * 10**17, -1)


@pytest.fixture
def store_url(new_database: Callable[[], str]) -> str:
    """A database of its own for each test: what refuses is taken away."""
    return new_database()


@pytest.fixture
def held(one: Orchestrator) -> int:
    """A run that holds a resource."""
    task = one.store.write(lambda tx: create.create(tx, NewTask("a task", needs=("gpu",))))
    return one.store.write(lambda tx: claim.claim_task(tx, task, claim.Claimant(lease_ms=600_000, agent="me"))).run


def advice(one: Orchestrator, part: str) -> str:
    return str(one.health()["components"][part]["advice"])


def rebuilt(one: Orchestrator) -> str:
    """Does what is advised; what it says."""
    command = [sys.executable, "-m", "orchestrion", "--db", one.store.url, "-C", str(one.project.root), "rebuild"]
    done = subprocess.run(command, env={**os.environ, **one.environ}, check=True, capture_output=True, text=True)
    Path(f"{one.store.url}.damaged").unlink()
    return done.stdout


# -- limits --------------------------------------------------------------------------------------


def test_cleanup_goes_on_where_a_hold_of_the_past_was_not_counted(one: Orchestrator, held: int, hand: Hand) -> None:
    other = one.store.write(lambda tx: create.create(tx, NewTask("another")))
    who = claim.Claimant(lease_ms=600_000, agent="me")
    silent = one.store.write(lambda tx: claim.claim_task(tx, other, who)).run
    hand.run("update runs set state = 'lost', ended_at = claimed_at, code = 'lost' where id = ?", held)
    hand.run("update slots set used = 0")
    hand.run("update runs set lease_until = claimed_at - 1 where id = ?", silent)
    assert one.clean_up_locks(0)["righted"] > 0
    assert hand.rows("select state from runs where id = ?", silent) == [{"state": "lost"}]
    assert hand.rows("select * from holds") == []


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_limit_that_counts_nothing_at_all_is_counted_anew(one: Orchestrator, held: int, raw: Raw) -> None:
    raw.run("pragma writable_schema = on")
    raw.run(
        "update sqlite_schema set sql = replace(sql, 'used    integer not null', 'used integer') where name = 'slots'"
    )
    raw.run("pragma writable_schema = reset")
    raw.run("update slots set used = null")
    assert one.clean_up_locks()["righted"] > 0
    assert raw.rows("select used from slots") == [{"used": 1}]


def test_a_limit_that_is_gone_and_held_comes_back_as_is_advised(one: Orchestrator, held: int, hand: Hand) -> None:
    hand.run("delete from slots")
    said = f"R{held} holds resource:gpu, a limit that is not there"
    problems = one.health()["components"]["structure"]["problems"]
    assert [(problem["thing"], problem["said"]) for problem in problems] == [(f"R{held}", said)]
    assert advice(one, "structure").startswith("`orchestrion slots resource:gpu=1`")
    one.set_slots({"resource:gpu": 1})
    one.cleanup_stale_locks()
    assert ill(one) == {}
    assert [(row["used"], row["capacity"]) for row in hand.rows("select used, capacity from slots")] == [(1, 1)]


# -- times ---------------------------------------------------------------------------------------


def test_every_column_that_holds_a_time_is_looked_at() -> None:
    looked = dict(re.findall(r"-- name: (times_of_\w+)\n(.*?)limit :limit", (FOLDER / "times.sql").read_text(), re.S))
    assert looked.keys() == times.TABLES.keys()
    empty = migrate.in_memory()
    tables = [name for (name,) in empty.execute("select name from sqlite_schema where sql like 'create table%'")]
    for table in (name for name in tables if "_found" not in name and name != "migrations"):
        columns = [row[1] for row in empty.execute(f"pragma table_info({table})") if times.is_time(row[1])]
        found = re.findall(r"w\.(\w+) not between 0 and :last", looked.get(f"times_of_{table}", ""))
        assert sorted(found) == sorted(columns), table
    empty.close()


@pytest.mark.parametrize("never", NEVER)
def test_a_row_with_a_time_that_is_none_is_shown(one: Orchestrator, held: int, hand: Hand, never: int) -> None:
    gate = one.add("gated").id
    one.add_gate(f"T{gate}", "approval")
    one.store.write(lambda tx: decisions.record(tx, decisions.NewDecision("this way")))
    hand.run("update tasks set created_at = ?, updated_at = ?, due_at = ?", never, never, never)
    hand.run("update runs set claimed_at = ?, started_at = ?, lease_until = ?", never, never, never)
    hand.run("update events set at = ?", never)
    hand.run("update gates set created_at = ?", never)
    hand.run("update decisions set created_at = ?", never)
    shown = "9999-12-31T23:59:59.99" if never > 0 else "1970-01-01T00:00:00.000Z"
    assert {task["created_at"][:22] for task in one.list_tasks().as_json("tasks")["tasks"]} == {shown[:22]}
    commands = ["list", "ready", "show T1", "show T2", "why T1", "why T2", "runs", f"show R{held}", "status", "events"]
    for command in [*commands, "decisions", "prime", "stats", "graph", "context T1", f"debug R{held}", "search task"]:
        done = cli(one, *command.split())
        assert done.returncode == 0, (command, done.stderr)
    said = one.health()["components"]["structure"]["problems"]
    assert said
    found = one.maintain("validate_structure", level="comprehensive")["found"]["problems"]
    assert f"created_at of T1 is {never}, which is no time" in [problem["said"] for problem in found]
    assert f"claimed_at of R{held} is {never}, which is no time" in [problem["said"] for problem in found]


def cli(one: Orchestrator, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrion", "--db", one.store.url, "-C", str(one.project.root), *words]
    return subprocess.run(command, env={**os.environ, **one.environ}, check=False, capture_output=True, text=True)


def test_a_deadline_that_is_none_is_cleared_as_is_advised(one: Orchestrator, hand: Hand) -> None:
    task = one.add("a task")
    hand.run("update tasks set due_at = ?", LAST_MOMENT + 1)
    assert f"due_at of T{task.id} is" in ill(one)["structure"]
    assert advice(one, "structure") == f"`orchestrion update T{task.id} --no-due` clears it"
    one.update(f"T{task.id}", due_at=None)
    assert ill(one) == {}


# -- rows that do not fit ------------------------------------------------------------------------

#: What a hand writes past the database -> the row and what is said of it, the advice, and what that does.
UNFIT = {
    "update tasks set priority = 42": (
        "T1 does not fit its table: priority is 42, against priority between 1 and 10",
        "`orchestrion update T1 --priority 5` sets it",
        "update T1 --priority 5",
    ),
    "update tasks set retry_delay_s = -1": (
        "T1 does not fit its table: retry_delay_s is -1.0, against retry_delay_s >= 0",
        "`orchestrion update T1 --retry-delay 60` sets it",
        "update T1 --retry-delay 60",
    ),
    "insert into slots (project, name, capacity) values (1, 'global', -1)": (
        "the limit global does not fit its table: capacity is -1, against capacity >= 0",
        "`orchestrion slots global=8`, or as many as may run, sets it",
        "slots global=8",
    ),
    "insert into slots (project, name, capacity, used) values (1, 'global', 5, -3)": (
        "the limit global does not fit its table: used is -3, against used >= 0",
        "`orchestrion cleanup` sets it right",
        "cleanup",
    ),
}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("sql", UNFIT)
def test_a_row_that_does_not_fit_is_named_and_mended_by_what_is_advised(one: Orchestrator, raw: Raw, sql: str) -> None:
    said, advised, command = UNFIT[sql]
    one.add("a task")
    raw.run("pragma ignore_check_constraints = on")
    raw.run(sql)
    store = one.health()["components"]["store"]
    assert (store["status"], store["said"], store["advice"]) == ("degraded", said, advised)
    audit = one.maintain("validate_structure", level="full_audit")
    assert (said, advised) in [(problem["said"], problem.get("mend")) for problem in audit["found"]["problems"]]
    assert "doubts" not in audit["found"]
    assert "in its place" not in " ".join(audit["recommendations"])
    assert cli(one, *command.split()).returncode == 0
    assert ill(one) == {}


#: What a hand writes where a table was lenient for a while -> what is said of T1, and the command that is advised.
OF_ANOTHER_KIND = {
    "update tasks set priority = 'high'": ('priority is "high"', "update T1 --priority 5"),
    "update tasks set max_retries = 'few'": ('max_retries is "few"', "update T1 --max-retries 3"),
    "update tasks set created_at = 'x'": ('created_at is "x"', ""),
    "update tasks set unmet = 'x'": ('unmet is "x"', ""),
    "update tasks set rank = 'x'": ('rank is "x"', ""),
    "update tasks set archived_at = 'x'": ('archived_at is "x"', ""),
}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("is_strict_again", [True, False])
@pytest.mark.parametrize("sql", OF_ANOTHER_KIND)
def test_a_value_of_another_kind_than_its_column_is_said_to_be_one(
    one: Orchestrator, store_url: str, sql: str, is_strict_again: bool
) -> None:
    """SQLite's own check says so of a column, and the rows were taken to fit: a rebuild was advised, and refused."""
    said, command = OF_ANOTHER_KIND[sql]
    one.add("a task")
    one.store.close()
    with lenient(store_url, is_strict_again=is_strict_again) as hand:
        hand.run(sql)
    if not is_strict_again:  # of what no CHECK is about the own check says nothing then
        with lenient(store_url, is_strict_again=False) as hand:
            hand.run("update tasks set state = 'retrying'")
    store = one.health()["components"]["store"]
    assert store["status"] == "degraded"
    assert store["said"] == f"T1 does not fit its table: {said}, against the kind of its column, INTEGER"
    assert "rebuild" not in store["advice"]
    assert f"`orchestrion {command}` sets it" in store["advice"] or not command
    audit = one.maintain("validate_structure", level="full_audit")
    assert store["said"] in [problem["said"] for problem in audit["found"]["problems"]]
    assert "doubts" not in audit["found"]
    if command and is_strict_again:
        assert cli(one, *command.split()).returncode == 0
        assert ill(one) == {}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_of_several_rows_that_do_not_fit_each_is_named(one: Orchestrator, hand: Hand, raw: Raw) -> None:
    for title in ("one", "two", "three"):
        one.add(title)
    raw.run("pragma ignore_check_constraints = on")
    hand.run("update tasks set state = 'retrying' where id = 2")
    hand.run("update tasks set priority = 0 where id = 3")
    store = one.health()["components"]["store"]
    assert [row["thing"] for row in store["unfit"]] == ["T2", "T3"]
    assert 'state is "retrying" and retry_at is null' in store["said"]
    assert store["said"].endswith(", and 1 row more")
    assert store["advice"].startswith("`orchestrion retry T2` has it tried again now; `orchestrion update T3")
    assert ill(one)["store"] == store["said"]
    one.store.close()
    raw.close()
    refused = cli(one, "rebuild")
    assert refused.returncode == 7
    assert "the row with id 2 of the table tasks does not fit" in refused.stderr


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_rows_that_are_the_same_where_none_may_be_are_named(one: Orchestrator, raw: Raw, hand: Hand) -> None:
    one.add("one", key="first")
    one.add("two", key="second")
    raw.run("drop index tasks_by_key")
    hand.run("update tasks set key = 'first'")
    one.store.close()
    raw.close()
    refused = cli(one, "rebuild")
    assert refused.returncode == 7
    assert "does not fit its table: UNIQUE constraint failed: tasks.plan, tasks.key" in refused.stderr


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_what_is_advised_leads_on(one: Orchestrator, raw: Raw, hand: Hand) -> None:
    """A task whose parent is gone, two that wait for each other, one that nobody did, one that nothing tries again."""
    for title in ("a part", "first", "second", "nobody did it", "waits"):
        one.add(title)
    run = one.claim("T5")["run"]
    one.fail(run, "busy", "client_tempfail")
    raw.run("pragma ignore_check_constraints = on")
    hand.run("update tasks set parent = 900 where id = 1")
    for task, other in ((2, 3), (3, 2)):
        hand.run(
            "insert into edges (task, prerequisite, kind, state, heir_of, created_at)"
            f" values ({task}, {other}, 'blocks', 'open', {task}, 0)"
        )
    hand.run("update tasks set state = 'completed', completed_at = 1 where id = 4")
    hand.run("update tasks set retry_at = null where id = 5")
    assert "`orchestrion retry T5`" in str(one.why("T5"))
    done = []
    for _ in range(8):
        found = one.maintain("validate_structure", level="full_audit")["found"]["problems"]
        advised = [re.search(r"`orchestrion ([^`]+)`", problem.get("mend", "")) for problem in found]
        commands = [one[1].replace("TEXT", "again") for one in advised if one and one[1] not in done]
        if not commands:
            break
        done.append(commands[0])
        assert cli(one, *shlex.split(commands[0])).returncode == 0, commands[0]
    assert {"move T1 --top", "reopen T4 --reason again", "retry T5"} <= set(done)
    assert [command for command in done if command.startswith("dep rm")]
    # Nobody can tell what happened in between.
    assert [(problem["rule"], problem["thing"]) for problem in found] == [("the_journal_has_no_gap", "T4")]


# -- what the migrations make --------------------------------------------------------------------

#: What a hand takes away or adds -> what `rebuild` says.
TAKEN = {
    "drop trigger tasks_move": "it has again: the trigger tasks_move",
    "drop index runs_one_active": "it has again: the index runs_one_active",
    "drop table handoffs": "it has again: the table handoffs, without rows",
    "drop table texts": "it has again: the table texts, without rows",
    "alter table tasks drop column feedback": "it has again: the column feedback of the table tasks",
    "create trigger strange after update on tasks begin delete from events; end": "left out: the trigger strange",
}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("taken", TAKEN)
def test_what_is_gone_is_made_anew_and_what_is_foreign_left_out(one: Orchestrator, raw: Raw, taken: str) -> None:
    one.add("a task", tags=("a",))
    raw.run("create table theirs (a integer); ")
    raw.run("insert into theirs values (7)")
    raw.run("create index theirs_by_a on theirs (a)")
    raw.run(taken)
    assert advice(one, "structure").startswith("`orchestrion rebuild` makes it")
    audit = one.maintain("validate_structure", level="full_audit")
    assert audit["recommendations"] == [advice(one, "structure")]
    one.store.close()
    raw.close()
    assert TAKEN[taken] in rebuilt(one).splitlines()
    assert ill(one) == {}
    assert one.maintain("validate_structure", level="full_audit")["found"]["valid"] is True
    assert one.show("T1")["title"] == "a task"
    one.store.close()
    assert rebuilt(one).splitlines()[1:-1] == [], "nothing is left to be made"
    with closing(sqlite3.connect(one.store.url)) as made:
        assert made.execute("select a from theirs indexed by theirs_by_a").fetchall() == [(7,)]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_check_that_is_gone_is_there_again(one: Orchestrator, raw: Raw) -> None:
    one.add("a task")
    raw.run("pragma writable_schema = on")
    raw.run("update sqlite_schema set sql = replace(sql, 'check (unmet >= 0)', '') where name = 'tasks'")
    one.store.close()
    raw.close()
    assert "it has again: the table tasks, which was another" in rebuilt(one)
    assert ill(one) == {}


def test_a_check_that_was_not_looked_at_is_missed(one: Orchestrator, raw: Raw, dialect: str) -> None:
    if dialect == "sqlite":
        pytest.skip("SQLite has all of its CHECKs or none")
    one.add("a task")
    raw.run("alter table tasks drop constraint tasks_priority_check")
    raw.run("update tasks set priority = 42")
    raw.run("alter table tasks add constraint tasks_priority_check check (priority between 1 and 10) not valid")
    assert "1 of 79 CHECKs are gone" in ill(one)["structure"]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_search_that_cannot_be_read_is_missed(one: Orchestrator, raw: Raw) -> None:
    one.add("a task")
    before = one.search("task")
    raw.run("delete from texts_found_data")
    store = one.health()["components"]["store"]
    assert (store["status"], "the full-text search keeps cannot be read" in store["said"]) == ("degraded", True)
    assert "`orchestrion rebuild`" in store["advice"]
    assert one.maintain("validate_structure", level="full_audit")["found"]["doubts"]
    one.store.close()
    raw.close()
    rebuilt(one)
    assert ill(one) == {}
    assert one.search("task") == before


# -- no file in the store's place ----------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
@pytest.mark.parametrize("create_it", [True, False])
def test_what_can_be_no_store_is_told_as_what_it_is(dialect: str, tmp_path: Path, kind: str, create_it: bool) -> None:
    place = tmp_path / "orchestrion.db"
    made = {"folder": place.mkdir, "fifo": lambda: os.mkfifo(place), "device": lambda: place.symlink_to("/dev/null")}
    made[kind]()
    with pytest.raises(OrchestrionError, match="a folder" if kind == "folder" else "a pipe or a device") as refused:
        open_store(str(place), create=create_it)
    assert refused.value.code == "store_replaced"


# -- how it is said ------------------------------------------------------------------------------


def test_the_text_names_what_a_problem_is_about(one: Orchestrator, held: int, hand: Hand) -> None:
    hand.run("update slots set used = 3")
    assert "limits_count_their_holders: resource:gpu says 3 are used, 1 hold it" in cli(one, "health").stdout
    told = cli(one, "maintain", "validate", "--level", "comprehensive").stdout
    assert "limits_count_their_holders resource:gpu says 3 are used" in told


def test_tasks_that_can_never_run_are_named(one: Orchestrator) -> None:
    first = one.add("first")
    one.add("second", after=[f"T{first.id}"])
    one.cancel(f"T{first.id}", "not wanted")
    told = cli(one, "maintain", "validate", "--level", "comprehensive").stdout
    assert re.search(rf"dead_ends +T\d+ because of T{first.id}", told), told


def test_several_values_of_a_row_that_do_not_fit_are_set_together(one: Orchestrator, hand: Hand, dialect: str) -> None:
    if dialect == "postgres":
        pytest.skip("PostgreSQL takes no such value from any hand, unless the rule is gone")
    task = one.store.write(lambda tx: create.create(tx, NewTask("a task")))
    with closing(sqlite3.connect(one.store.url)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute("update tasks set max_retries = -2, priority = 77 where id = ?", (task,))
    with pytest.raises(OrchestrionError) as refused:
        one.update(f"T{task}", max_retries=3)
    assert refused.value.code == "row_damaged"
    assert "all those of a row" in refused.value.hint
    one.update(f"T{task}", max_retries=3, priority=5)
    assert one.health()["components"]["store"]["status"] == "healthy"


def test_what_misses_a_table_advises_to_make_it_anew(one: Orchestrator, hand: Hand, dialect: str) -> None:
    if dialect == "postgres":
        pytest.skip("PostgreSQL's tables are made anew from a copy")
    hand.run("drop table texts_found")
    with pytest.raises(OrchestrionError) as refused:
        one.search("anything")
    assert "`orchestrion rebuild` makes it anew" in refused.value.hint
    assert "copy of before" not in str(one.health()["components"])


# -- what tasks wait for -------------------------------------------------------------------------

#: What a hand writes -> what nobody may be led to believe by it: (task, states that it may be in after a cleanup).
UNBELIEVED = {
    "delete from edges where task = 1 and prerequisite = 3": ("T1", {"pending"}),
    "update edges set state = 'waived' where task = 1 and prerequisite = 3": ("T1", {"pending"}),
    "delete from edges where task = 5": ("T5", {"blocked"}),
    "update edges set state = 'met' where task = 5": ("T5", {"blocked"}),
    "update edges set state = 'waived' where task = 5": ("T5", {"blocked"}),
    "update edges set state = 'dead' where task = 6": ("T6", {"pending"}),
    "update edges set state = 'met' where task = 6": ("T6", {"pending"}),
    "update tasks set state = 'pending' where id = 2": ("T2", {"pending"}),
    "update tasks set state = 'ready', ready_at = 1, rank = 0 where id = 5": ("T5", {"ready"}),
    "update tasks set unmet = 0, held = 0 where id = 5": ("T5", {"blocked"}),
    "update tasks set unmet = 7 where id = 4": ("T4", {"pending"}),
}


@pytest.mark.parametrize("sql", UNBELIEVED)
def test_a_cleanup_believes_no_row_that_others_contradict(one: Orchestrator, hand: Hand, sql: str) -> None:
    """A parent with one part that is done and one that is not, a task behind it, one with an approval, and one that
    waits for an event."""
    one.add("the whole")
    one.add("done", parent="T1")
    one.add("not done", parent="T1")
    one.add("behind", after=["T1"])
    one.add("ship", gates=[NewGate(EdgeKind.APPROVAL, "Ship?")])
    one.add("told", gates=[NewGate(EdgeKind.EXTERNAL, "ci")])
    one.done(one.claim("T2")["run"], "done")
    hand.run(sql)
    task, states = UNBELIEVED[sql]
    one.clean_up_locks()
    assert one.show(task)["state"] in states
    assert one.show("T4")["state"] == "pending"
    assert one.show("T3")["state"] == "ready"
    # Nothing is advised that does nothing.
    problems = one.maintain("validate_structure", level="full_audit")["found"]["problems"]
    assert [problem for problem in problems if problem.get("mend") == "`orchestrion cleanup` sets it right"] == []


@pytest.mark.parametrize(
    "sql",
    [
        "update tasks set unmet = 0 where id = 4",
        "update tasks set children = 0 where id = 1",
        "update edges set state = 'met' where task = 1 and prerequisite = 3",
        "update edges set state = 'open' where task = 1 and prerequisite = 2",
    ],
)
def test_what_follows_from_other_rows_follows_again(one: Orchestrator, hand: Hand, sql: str) -> None:
    one.add("the whole")
    one.add("done", parent="T1")
    one.add("not done", parent="T1")
    one.add("behind", after=["T1"])
    one.done(one.claim("T2")["run"], "done")
    hand.run(sql)
    assert "structure" in ill(one)
    assert advice(one, "structure") == "`orchestrion cleanup` sets it right"
    one.clean_up_locks()
    assert ill(one) == {}
    assert [one.show(f"T{number}")["state"] for number in (1, 3, 4)] == ["pending", "ready", "pending"]
