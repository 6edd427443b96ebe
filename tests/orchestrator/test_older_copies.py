"""An older copy of a store that was put in its place: it gives no number again, is told, and does nothing twice."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import Conflict, NotFound, NothingReady, StaleRun
from orchestrion.core.values import number
from orchestrion.interfaces.cli.errors import exit_code
from orchestrion.orchestrator import older_copies
from orchestrion.orchestrator.hooking import FileHooks, SessionHooks, Sitting
from orchestrion.runs import given, order, supervise
from orchestrion.scheduler import finish
from stage import PATIENCE_S, Stage, wait_for

RUNBOOK = "docs/runbooks/damaged-database.md"


def copied(stage: Stage) -> Path:
    """A whole copy of the store as it is now."""
    older = stage.folder / "older.db"
    with sqlite3.connect(stage.orchestrion.store.url) as source, sqlite3.connect(older) as target:
        source.backup(target)
    return older


def put_back(stage: Stage, older: Path) -> None:
    """The copy takes the store's place."""
    file = Path(stage.orchestrion.store.url)
    stage.close()
    for ending in ("", "-wal", "-shm"):
        file.with_name(file.name + ending).unlink(missing_ok=True)
    shutil.copy2(older, file)
    stage.orchestrion = type(stage.orchestrion).open(stage.root, environ=stage.environ)


def work_part(stage: Stage) -> dict[str, Any]:
    return dict(stage.orchestrion.health()["components"]["work"])


@pytest.fixture
def stage_with_an_older_copy(stage: Stage) -> Stage:
    """T1 was done by R1 and T2 by R2, which the store that is there now does not know."""
    stage.open()
    stage.add("echo 1 >> f", title="one")
    stage.add("echo 2 >> f", title="two")
    older = copied(stage)
    assert stage.drain(slots=1).completed == 2
    put_back(stage, older)
    return stage


@pytest.mark.parametrize("asked", [{"task": "T2"}, {}], ids=["a task", "any task"])
def test_a_client_s_run_begins_above_those_that_were_here(
    stage_with_an_older_copy: Stage, asked: dict[str, Any]
) -> None:
    stage = stage_with_an_older_copy
    claimed = stage.orchestrion.claim(**asked)
    assert claimed["run"] == "R3"
    assert stage.orchestrion.done("R3", "done by a person")["task"]["state"] == "completed"
    stage.close()


def test_a_number_that_a_client_had_is_given_to_no_other(stage: Stage) -> None:
    """Its run has no folder; whoever comes back to it reports nobody else's task."""
    stage.open()
    stage.add("true", title="one")
    stage.add("true", title="two")
    older = copied(stage)
    assert stage.orchestrion.claim("T1")["run"] == "R1"
    put_back(stage, older)
    part = work_part(stage)
    assert (part["status"], part["runs_unknown"]) == ("degraded", ["R1"])
    assert stage.orchestrion.claim("T2")["run"] == "R2"
    with pytest.raises(NotFound):
        stage.orchestrion.done("R1", "one is written")
    assert stage.task("T2")["state"] == "in_progress"
    stage.close()


def test_what_a_client_claims_in_an_older_copy_lifts_nothing(stage: Stage) -> None:
    """R2 and R3 were reported after the copy was made; both stay unknown until somebody accepts that."""
    stage.open()
    for title in ("one", "two", "three", "four"):
        stage.add("echo again >> f", title=title, merge="none")
    for task in ("T1", "T2", "T3"):
        if task == "T2":
            older = copied(stage)
        stage.orchestrion.done(stage.orchestrion.claim(task)["run"], "done")
    put_back(stage, older)
    one = stage.orchestrion
    assert work_part(stage)["runs_unknown"] == ["R2", "R3"]
    claimed = one.claim("T4")
    assert claimed["run"] == "R4"
    assert "R2, R3 began here" in claimed["warning"]
    assert RUNBOOK in claimed["warning"]
    assert "R2, R3 began here" in one.claim("T2")["warning"]  # to everybody who takes something up
    assert work_part(stage)["runs_unknown"] == ["R2", "R3"]
    stage.close()
    with pytest.raises(Conflict) as refused:
        stage.drain()
    assert (refused.value.code, refused.value.details["runs"]) == ("older_copy", ["R2", "R3"])
    with stage.open() as again:
        older_copies.accept(again)
        assert work_part(stage)["status"] == "healthy"
        assert "warning" not in again.claim("T3")


def test_a_session_s_number_is_given_to_no_other_after_an_older_copy_was_put_back(stage: Stage) -> None:
    """By whichever door the next one begins: a hook, or whoever asks for one."""
    stage.open()
    older = copied(stage)
    assert [stage.orchestrion.start_session()["id"] for _ in range(3)] == ["S1", "S2", "S3"]
    put_back(stage, older)
    with FileHooks.open(stage.root, environ=stage.environ) as hooks:
        assert SessionHooks(hooks).begins(Sitting("one"), "startup")[0] == "S4"
        assert SessionHooks(hooks).begins(Sitting("one"), "resume")[0] == "S4"
    assert [stage.orchestrion.start_session()["id"] for _ in range(2)] == ["S5", "S6"]
    put_back(stage, older)
    assert stage.orchestrion.start_session()["id"] == "S7"
    stage.close()


@pytest.fixture
def ledger(tmp_path: Path) -> given.Ledger:
    return given.Ledger(tmp_path, tmp_path / "state")


def put_back_whole(stage: Stage, before: Path) -> None:
    """All that the store's folder held, also the runs' folders and what is written down beside them."""
    place = stage.root / ".git" / "orchestrion"
    shutil.rmtree(place)
    shutil.copytree(before, place, symlinks=True)


def test_the_whole_folder_of_the_store_put_back_gives_no_number_again(stage: Stage) -> None:
    with stage.open() as first:
        for title in ("one", "two"):
            first.add(title)
        session = first.start_session()["id"]
    before = stage.folder / "before"
    shutil.copytree(stage.root / ".git" / "orchestrion", before, symlinks=True)
    with stage.open() as later:
        assert (later.claim("T1")["run"], later.start_session()["id"]) == ("R1", "S2")
    put_back_whole(stage, before)
    with stage.open() as again:
        assert "R1 began here" in again.health()["components"]["work"]["said"]
        taken = again.claim("T2")
        assert (taken["run"], session, again.start_session()["id"]) == ("R2", "S1", "S3")
        assert "R1 began here" in taken["warning"]
        with pytest.raises(NotFound):
            again.done("R1", "T1 is done")  # whoever had it before


def test_of_two_copies_that_are_there_each_gives_its_own_numbers(tmp_path: Path) -> None:
    """And a store that was moved goes on behind what it gave where it lay before."""
    uuid, files = "11112222-3333", [tmp_path / name / "orchestrion.db" for name in ("original", "copy", "moved")]
    original, copy, moved = (given.Ledger(file.parent, tmp_path / "state", file) for file in files)
    for file in files[:2]:
        file.parent.mkdir()
        file.touch()
    given.note(original, uuid, run=7, session=3, lost=[5])
    assert given.of(copy, uuid) == given.Given()
    given.note(copy, uuid, run=2)
    assert (given.of(original, uuid), given.of(copy, uuid)) == (given.Given(7, 3, (5,)), given.Given(2))
    on_a_server = given.Ledger(tmp_path / "third", tmp_path / "state")
    assert given.of(on_a_server, uuid).run == 7
    files[0].unlink()
    files[2].parent.mkdir()
    assert given.of(moved, uuid) == given.Given(7, 3)


def test_a_worker_begins_nothing_when_the_whole_folder_was_put_back(stage: Stage) -> None:
    stage.open()
    stage.add("echo 1 > one.txt")
    stage.drain()
    stage.close()
    before = stage.folder / "before"
    shutil.copytree(stage.root / ".git" / "orchestrion", before, symlinks=True)
    stage.open()
    stage.add("echo 2 > two.txt; exit 1", max_retries=0)
    stage.drain()
    stage.close()
    put_back_whole(stage, before)
    stage.open()
    stage.add("echo o > other.txt")
    with pytest.raises(Conflict, match="R2 began here") as refused:
        stage.drain()
    assert refused.value.code == "older_copy"
    assert stage.orchestrion.work(drain=True, older_copy=True).completed == 1
    assert stage.run("R3")["state"] == "succeeded"


def test_the_next_session_follows_the_last_that_was_given_on_both_databases(one: Orchestrator) -> None:
    assert one.start_session()["id"] == "S1"
    given.note(one.ledger, one.store.uuid, session=41)
    assert [one.start_session()["id"] for _ in range(2)] == ["S42", "S43"]
    given.note(one.ledger, one.store.uuid, session=7)
    assert one.start_session()["id"] == "S44"


def test_after_a_dump_was_restored_the_numbers_can_begin_far_above_as_the_runbook_says(
    one: Orchestrator, raw: Any, dialect: str
) -> None:
    if dialect == "sqlite":
        pytest.skip("a file is no database that machines share")
    page = Path(__file__).parents[2] / "docs" / "runbooks" / "damaged-database.md"
    statements = re.findall(r'-c "(select setval.*)"', page.read_text(encoding="utf-8"))
    assert len(statements) == 2
    one.add("a task")
    for statement in statements:
        raw.run(statement)
    given_then = number(one.claim()["run"], "R"), number(one.start_session()["id"], "S")
    assert min(given_then) > 10_000
    assert one.maintain("validate_structure", level="full_audit")["found"]["problems"] == []


def test_numbers_that_processes_write_down_at_the_same_time_are_all_kept(tmp_path: Path, ledger: given.Ledger) -> None:
    """One that reads before another has written must not put its own in the other's place."""
    many = """
import sys
from pathlib import Path
from orchestrion.runs import given
place, which = Path(sys.argv[1]), int(sys.argv[2])
for number in range(100):
    last, lost = which + 4 * number, 10_000 + which * 100 + number
    given.note(given.Ledger(place, place / "state"), "11112222-3333", run=last, session=last, lost=[lost])
"""
    processes = [subprocess.Popen([sys.executable, "-c", many, str(tmp_path), str(n)]) for n in range(4)]
    assert [process.wait(PATIENCE_S) for process in processes] == [0] * 4
    found = given.of(ledger, "11112222-3333")
    assert (found.run, found.session) == (399, 399)
    assert found.lost == tuple(10_000 + n for n in range(400))
    given.note(ledger, "another", run=3)
    given.forget_lost(ledger, "11112222-3333")
    assert (given.of(ledger, "11112222-3333"), given.of(ledger, "another")) == (
        given.Given(399, 399),
        given.Given(3),
    )
    assert given.beyond(ledger, "11112222-3333") == 400


@pytest.mark.parametrize(
    "told", ["", "[", "[]", '{"11112222-3333": 4}', '{"11112222-3333": {"run": "x", "lost": 3}}', "[" * 4000]
)
def test_what_somebody_wrote_in_its_place_is_no_number(tmp_path: Path, ledger: given.Ledger, told: str) -> None:
    (tmp_path / given.FILE).write_text(told)
    assert given.of(ledger, "11112222-3333").run == (4 if told.endswith("4}") else 0)
    given.note(ledger, "11112222-3333", run=9)
    assert given.of(ledger, "11112222-3333") == given.Given(9)


def test_a_client_s_higher_number_that_the_store_knows_is_no_sign_of_a_copy(
    one: Orchestrator, ledger: given.Ledger
) -> None:
    """Two claims at one moment: who got the higher number was first to write it down."""
    one.add("a task")
    known, uuid = int(one.claim("T1")["run"][1:]), one.store.uuid
    assert given.of(one.ledger, uuid).run == known
    given.note(ledger, uuid, run=known)
    one.store.read(lambda tx: given.refuse(tx, ledger, known - 1, uuid))
    given.note(ledger, uuid, run=known + 5)
    for that in (known + 1, known + 5):
        with pytest.raises(given.NumberGiven):
            one.store.read(lambda tx, that=that: given.refuse(tx, ledger, that, uuid))
    one.store.read(lambda tx: given.refuse(tx, ledger, known + 6, uuid))
    one.store.read(lambda tx: given.refuse(tx, ledger, known + 1, "another store"))


@pytest.mark.users_repository_changes
def test_two_stores_of_a_clone_that_share_a_plan_are_no_older_copies(stage: Stage) -> None:
    def other() -> Orchestrator:
        return Orchestrator.open(stage.root, db=str(stage.folder / "other.db"), environ=stage.environ)

    with stage.open() as first:
        stage.add("echo 1 > one.txt")
        assert stage.drain().all_completed
        first.land("default")
        with other() as second:
            second.add("Other", command="echo 2 > two.txt")
            assert second.work(slots=1, drain=True).all_completed
            assert not older_copies.missed(first).is_any
            assert not older_copies.missed(second).is_any


def test_a_supervisor_writes_into_no_other_run_of_its_number(stage: Stage) -> None:
    with stage.open() as orchestrion:
        stage.add("true")
        run = orchestrion.claim("T1")["run"]
        row = orchestrion.run(run).row
        ordered = replace(_ORDER, run=row["id"], task=row["task"], claimed_at=row["claimed_at"])
        store = orchestrion.store
        store.fence = supervise._fence(ordered)
        store.write(lambda tx: finish.note(tx, row["id"], summary="mine"))
        store.fence = supervise._fence(replace(ordered, claimed_at=row["claimed_at"] - 1))
        with pytest.raises(StaleRun, match="older copy"):
            store.write(lambda tx: finish.note(tx, row["id"], summary="of another"))
        store.fence = supervise._fence(replace(ordered, run=row["id"] + 7))
        with pytest.raises(StaleRun, match="older copy"):
            store.write(lambda tx: finish.note(tx, row["id"], summary="of another"))
        store.fence = None
        assert orchestrion.run(run).row["summary"] == "mine"


# -- it is told ------------------------------------------------------------------------------------------------


def test_health_and_validation_name_the_runs_and_the_runbook(stage_with_an_older_copy: Stage) -> None:
    stage = stage_with_an_older_copy
    part = work_part(stage)
    assert (part["status"], part["runs_unknown"], part["plans_ahead"]) == ("degraded", ["R1", "R2"], ["default"])
    assert stage.orchestrion.health()["components"]["workers"].get("advice", part["advice"]) == part["advice"]
    assert "R1, R2" in part["said"]
    assert RUNBOOK in part["advice"]
    found = stage.orchestrion.maintain("validate_structure")
    assert not found["found"]["valid"]
    assert [one["rule"] for one in found["found"]["problems"]] == ["the_store_knows_what_was_done"]
    assert any(RUNBOOK in said for said in found["recommendations"])
    store = next(one for one in stage.orchestrion.doctor()["parts"] if one["part"] == "store")
    assert RUNBOOK in store["advice"]


def test_work_says_so_before_it_claims_anything_and_goes_on_when_that_is_accepted(
    stage_with_an_older_copy: Stage,
) -> None:
    stage = stage_with_an_older_copy
    last = stage.orchestrion.last_event()
    with pytest.raises(Conflict, match="R1, R2") as refused:
        stage.drain()
    assert (refused.value.code, exit_code(refused.value)) == ("older_copy", 5)
    assert RUNBOOK in refused.value.hint
    assert "`orchestrion work --older-copy`" in refused.value.hint
    with pytest.raises(Conflict, match="R1, R2"):
        stage.orchestrion.start_run("T1")
    assert stage.orchestrion.last_event() == last
    # Some of it was looked at, and reported: it still asks.
    assert stage.orchestrion.done(stage.orchestrion.claim("T1")["run"], "there already")["run"]["id"] == "R3"
    with pytest.raises(Conflict, match="R1, R2"):
        stage.drain()
    assert stage.orchestrion.work(slots=1, drain=True, older_copy=True).completed == 1
    assert stage.merged("f") == "1\n2\n2\n"
    assert work_part(stage)["status"] == "healthy"
    assert stage.drain().runs == 0


@pytest.mark.users_repository_changes
def test_a_plan_that_is_ahead_of_the_store_is_told_where_nothing_else_of_a_run_is_left(stage: Stage) -> None:
    stage.open()
    stage.add("echo 1 >> f")
    assert stage.drain().completed == 1
    older = copied(stage)
    stage.add("echo 2 >> f")
    assert stage.drain().completed == 1
    put_back(stage, older)
    shutil.rmtree(stage.run_folder("R2"))
    for written, _ in stage.orchestrion.ledger.pages(stage.orchestrion.store.uuid):
        written.unlink()
    part = work_part(stage)
    assert (part["status"], part["runs_unknown"], part["plans_ahead"]) == ("degraded", [], ["default"])
    assert RUNBOOK in part["advice"]
    landed = stage.orchestrion.land()
    assert any(RUNBOOK in note for note in landed["notes"])
    assert work_part(stage)["status"] == "healthy"  # the store knows what it landed


@pytest.mark.users_repository_changes
def test_landing_says_so_and_takes_what_is_there_for_the_plan_s_own(stage_with_an_older_copy: Stage) -> None:
    stage = stage_with_an_older_copy
    with pytest.raises(Conflict, match="R1, R2") as refused:
        stage.orchestrion.land()
    assert refused.value.code == "open_tasks"
    landed = stage.orchestrion.land(partial=True)
    assert any("R1, R2" in note and RUNBOOK in note for note in landed["notes"])
    assert (stage.root / "f").read_text() == "1\n2\n"
    assert not stage.git("for-each-ref", "refs/orchestrion/kept")


@pytest.mark.users_repository_changes
def test_runs_and_landings_of_every_day_are_no_older_copy(stage: Stage) -> None:
    stage.open()
    go = stage.folder / "go"
    stage.add(f"echo 1 > f; while [ ! -e {go} ]; do sleep 0.05; done")
    with stage.worker(slots=1) as worker:
        wait_for(lambda: [run["phase"] for run in stage.runs()] == ["working"], "it works")
        assert work_part(stage)["status"] == "healthy"
        go.touch()
        assert worker.wait(PATIENCE_S) == 0
    (stage.root / "mine").write_text("mine\n")
    stage.git("add", "mine")
    stage.git("commit", "-qm", "mine")
    assert stage.orchestrion.land()["merged"]
    assert work_part(stage)["status"] == "healthy"
    stage.add("echo 2 > g")
    assert stage.drain().completed == 1
    assert work_part(stage)["status"] == "healthy"


def test_only_runs_of_this_very_store_count_and_they_are_accepted_once(one: Orchestrator) -> None:
    for run, store in (("R7", one.store.uuid), ("R8", "another")):
        folder = one.ledger.store_dir / "runs" / run
        folder.mkdir(parents=True)
        (folder / "order.json").write_text(json.dumps({"store": store}))
    part = one.health()["components"]["work"]
    assert (part["status"], part["runs_unknown"]) == ("degraded", ["R7"])
    with pytest.raises(Conflict, match="R7 began here") as refused:
        older_copies.refuse(one)
    assert refused.value.details == {"runs": ["R7"]}
    older_copies.accept(one)
    older_copies.refuse(one)
    assert one.health()["components"]["work"]["status"] == "healthy"


@pytest.mark.users_repository_changes
def test_the_runbook_s_commands_lead_through(stage: Stage) -> None:
    stage.open()
    stage.add("echo 1 >> f", checks=["grep 1 f"])
    stage.add("echo 2 >> f", after=["T1"], checks=["grep 2 f"])
    older = copied(stage)
    assert stage.drain().completed == 2
    put_back(stage, older)

    def said(*words: str) -> str:
        command = [sys.executable, "-P", "-m", "orchestrion", *words]
        done = subprocess.run(command, cwd=stage.root, env=stage.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert RUNBOOK in said("health")
    said("runs", "--state", "starting,running")
    assert RUNBOOK in said("land", "default", "--partial")
    for task in ("T1", "T2"):
        said("done", json.loads(said("claim", task, "--json"))["run"], "--summary", "there already")
    assert "0 runs" in said("work", "--older-copy", "--drain")
    assert RUNBOOK not in said("health", "--strict")
    assert stage.merged("f") == "1\n2\n"


# -- nothing is done twice -------------------------------------------------------------------------------------


def by_worker(stage: Stage) -> None:
    stage.orchestrion.work(slots=1, drain=True, older_copy=True)


def by_kill(stage: Stage) -> None:
    with pytest.raises(StaleRun, match="completed"):
        stage.orchestrion.kill("R1")


def by_cleanup(stage: Stage) -> None:
    stage.orchestrion.clean_up_locks(0)


def nothing(stage: Stage) -> None:
    """All that a run leaves is there."""


def refs_went(stage: Stage) -> None:
    for ref in ("refs/orchestrion/runs/R1", "refs/heads/orchestrion/run/R1"):
        stage.git("update-ref", "-d", ref)


def is_starting(stage: Stage) -> None:
    """The copy was made when the run was claimed and not begun."""
    unknown = ("pid", "pid_start", "started_at", "base_commit", "workspace", "branch")
    forgotten = ", ".join(f"{column} = null" for column in unknown)
    with stage.direct() as database:
        [guard] = database.rows("select sql from sqlite_master where name = 'runs_move'")
        database.run("drop trigger runs_move")
        database.run(f"update runs set state = 'starting', phase = 'preparing', {forgotten} where id = 1")
        database.run(guard["sql"])
        database.run("delete from events where kind in ('run.running', 'run.phase')")
        database.run("update plans set tip = null")


@pytest.mark.parametrize("settle", [by_worker, by_kill, by_cleanup])
@pytest.mark.parametrize("left", [nothing, refs_went, is_starting])
def test_a_held_run_whose_work_is_in_the_plan_is_completed_by_whoever_settles_it(
    stage: Stage, settle: Callable[[Stage], None], left: Callable[[Stage], None]
) -> None:
    stage.open()
    go = stage.folder / "go"
    stage.add(f"echo 1 >> f; while [ ! -e {go} ]; do sleep 0.05; done")
    with stage.worker(slots=1) as worker:
        wait_for(lambda: [run["phase"] for run in stage.runs()] == ["working"], "it works")
        older = copied(stage)
        go.touch()
        assert worker.wait(PATIENCE_S) == 0
    head = stage.git("rev-parse", "refs/orchestrion/runs/R1")
    put_back(stage, older)
    assert stage.run()["head_commit"] is None
    left(stage)
    settle(stage)
    task, run = stage.task(), stage.run()
    assert (task["state"], task["work_run"], run["state"]) == ("completed", 1, "succeeded")
    assert run["head_commit"] == head
    assert len(stage.runs()) == 1
    assert stage.merged("f") == "1\n"
    assert work_part(stage)["status"] == "healthy"


def test_a_dead_run_whose_work_is_not_in_the_plan_is_tried_again(stage: Stage) -> None:
    stage.open(retry__cap_s=0.1)
    stage.add("echo 1 >> f; git add f; git commit -qm x; test $ORCHESTRION_ATTEMPT = 2 || kill -9 $PPID")
    assert stage.drain().completed == 1
    assert [run["state"] for run in stage.runs()] == ["lost", "succeeded"]


# -- another store ---------------------------------------------------------------------------------------------


@pytest.mark.users_repository_changes
def test_what_a_plan_had_in_a_store_that_is_gone_is_named(stage: Stage) -> None:
    stage.open()
    stage.add("echo 1 > f")
    assert stage.drain().completed == 1
    store = stage.orchestrion.project.store_dir
    stage.close()
    for file in store.glob("orchestrion.db*"):
        file.unlink()
    stage.orchestrion = type(stage.orchestrion).open(stage.root, environ=stage.environ, anew=True)
    stage.add("echo 2 > g")
    assert stage.drain().completed == 1
    kept = stage.git("for-each-ref", "--format=%(refname)", "refs/orchestrion/kept/plans")
    assert kept.startswith("refs/orchestrion/kept/plans/default/")
    [event] = [one for one in stage.orchestrion.events(limit=1000) if one["kind"] == "plan.set_aside"]
    assert event["data"] == {"plan": "default", "ref": kept}
    part = work_part(stage)
    assert (part["status"], part["kept_aside"]) == ("healthy", [kept])
    assert kept in part["said"]
    assert any(kept in note for note in stage.orchestrion.land()["notes"])
    with pytest.raises(NothingReady, match="already"):
        stage.orchestrion.land("default")


_ORDER = order.Order(
    run=1, task=1, attempt=1, title="a", plan="default", agent="command", command="true", checks=[], setup=None,
    merge=True, project="/", project_name="stage", workspaces=None, isolation="clone", store="u", timeout_s=1.0,
    stall_s=None, feedback=0, grace_s=1.0, retry_cap_s=1.0, retry_jitter=0.0,
)  # fmt: skip
