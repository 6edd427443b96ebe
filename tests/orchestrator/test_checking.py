"""Health, measured on both databases with real processes: each trouble is seen, named, and nothing else is."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import NotFound
from orchestrion.ops import health
from orchestrion.ops.health import Part
from stage import Stage, python, wait_for


def part(found: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(found["components"][name])


def ill(found: dict[str, Any]) -> dict[str, str]:
    """Parts that are not healthy."""
    return {name: one["status"] for name, one in found["components"].items() if one["status"] != "healthy"}


def test_a_new_project_is_healthy_and_every_number_is_measured(one: Orchestrator) -> None:
    one.add("tagged", tags=("a", "b"))
    found = one.health()
    assert ill(found) == {}
    assert (found["healthy"], found["status"], found["live"], found["ready"]) == (True, "healthy", True, True)
    store = part(found, "store")
    assert store["read_ms"] > 0
    assert store["write_ms"] > 0
    assert store["bytes"] > 10_000
    assert store["integrity"] is True
    assert store["schema"] == store["known_schema"]
    again = part(one.health(), "store")
    assert (again["read_ms"], again["write_ms"]) != (store["read_ms"], store["write_ms"])
    assert part(found, "disk")["free_bytes"]["the store"] == pytest.approx(shutil.disk_usage("/tmp").free, rel=0.2)
    assert part(found, "git")["answered_ms"] > 0


def test_a_health_check_changes_nothing_that_anybody_sees(one: Orchestrator, raw: Any) -> None:
    one.add("a task")
    before = raw.rows("select * from tasks"), raw.rows("select * from events")
    one.health()
    assert (raw.rows("select * from tasks"), raw.rows("select * from events")) == before


def test_tasks_that_wait_say_for_what_and_since_when(one: Orchestrator) -> None:
    ready = one.add("ready").as_json()["id"]
    review = one.add("review").as_json()["id"]
    one.done(one.claim(review)["run"], "look at it", next_action="needs_revision")
    asks = one.add("asks").as_json()["id"]
    one.done(one.claim(asks)["run"], "Which one?", next_action="blocked")
    retrying = one.add("retrying").as_json()["id"]
    at = one.fail(one.claim(retrying)["run"], "busy", "client_tempfail")["retry_at"]
    found = one.health()
    waiting = {row["task"]: row for row in found["waiting_tasks"]["tasks"]}
    assert found["waiting_tasks"]["total"] == 3
    assert set(waiting) == {review, asks, retrying}
    assert "approves or rejects" in waiting[review]["awaits"]
    assert "decision" in waiting[asks]["awaits"]
    assert at in waiting[retrying]["awaits"]
    assert all(row["since"] for row in waiting.values())
    queue = part(found, "queue")
    assert queue["ready"] == 1
    assert queue["oldest_ready_s"] >= 0
    assert ready not in waiting


def test_a_run_of_a_client_works_until_its_lease_is_over_and_is_stuck_then(one: Orchestrator, raw: Any) -> None:
    one.add("a task")
    run = one.claim()["run"]
    [working] = one.health()["runs"]["runs"]
    assert (working["run"], working["status"], working["awaits"]) == (run, "working", None)
    assert working["last_sign_of_life"]
    raw.run("update runs set lease_until = 1000000, lease_ms = 1000")
    found = one.health()
    [stuck] = found["runs"]["runs"]
    assert stuck["status"] == "stuck"
    assert "lease ran out" in stuck["awaits"]
    assert stuck["since"] == "1970-01-01T00:16:39.000Z" or stuck["since"].startswith("1970-01-01T00:16:39")
    assert ill(found) == {"runs": "degraded"}
    assert found["healthy"] is True


def test_a_paused_queue_and_an_open_breaker_ask_for_attention(one: Orchestrator, raw: Any) -> None:
    one.pause()
    raw.run("insert into breakers (project, agent, failures, until, code, trips)"
            " select id, 'claude', 5, 99999999999999, 'auth_failed', 1 from projects")  # fmt: skip
    found = one.health()
    assert ill(found) == {"queue": "degraded", "breakers": "degraded"}
    assert "claude" in part(found, "breakers")["said"]
    assert "orchestrion resume" in part(found, "queue")["advice"]
    assert (found["healthy"], found["ready"], found["status"]) == (True, True, "degraded")


def test_workers_are_those_whose_process_lives(one: Orchestrator, raw: Any) -> None:
    import socket

    from orchestrion.runs import processes

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
        rows = [
            (socket.gethostname(), alive.pid, processes.start_time(alive.pid), 0),
            (socket.gethostname(), os.getpid(), 1.0, 10**14),  # another process of that number
            ("elsewhere", 1, 1.0, 10**14),
            ("long-ago", 1, 1.0, 0),
        ]
        for row in rows:
            raw.run("insert into workers (project, host, pid, pid_start, slots, started_at, seen_at)"
                    " select id, ?, ?, ?, 4, 0, ? from projects", *row)  # fmt: skip
        workers = part(one.health(), "workers")
        assert [(row["host"], row["pid"]) for row in workers["workers"]] == [rows[0][:2], ("elsewhere", 1)]
        alive.communicate(b"\n")
    assert part(one.health(), "workers")["alive"] == 1


def test_a_row_that_does_not_fit_its_table_is_called_so(one: Orchestrator, raw: Any, dialect: str) -> None:
    if dialect == "postgres":
        pytest.skip("PostgreSQL checks whoever writes")
    one.add("a task")
    raw.run("pragma ignore_check_constraints = on")
    raw.run("update tasks set priority = 11")
    store = part(one.health(), "store")
    assert store["status"] == "degraded"
    assert store["said"] == "T1 does not fit its table: priority is 11, against priority between 1 and 10"


def test_the_disk_is_that_of_the_database(one: Orchestrator, monkeypatch: pytest.MonkeyPatch, dialect: str) -> None:
    asked: dict[str, Path] = {}
    monkeypatch.setattr(health, "of_disk", lambda places: asked.update(places) or Part("disk", "healthy", ""))
    one.health()
    elsewhere = Path(one.store.url).parent if dialect == "sqlite" else one.project.store_dir
    assert (asked["the store"], asked["logs of runs"]) == (elsewhere, one.project.store_dir)


def test_a_disk_that_is_full_makes_it_not_ready(one: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LITTLE_BYTES", 10**18)
    found = one.health()
    assert (ill(found), found["ready"]) == ({"disk": "degraded"}, True)
    monkeypatch.setattr(health, "TOO_LITTLE_BYTES", 10**18)
    found = one.health()
    assert (found["healthy"], found["ready"]) == (False, False)
    assert found["not_ready"][0].startswith("disk: ")


def test_a_repository_that_git_cannot_read_is_seen(one: Orchestrator, root: Path) -> None:
    (root / ".git" / "HEAD").write_text("nonsense")
    found = one.health()
    assert ill(found) == {"git": "unhealthy"}
    assert (found["healthy"], found["ready"]) == (False, True)


def test_git_that_is_not_there_is_seen(root: Path, store_url: str, environ: dict[str, str], tmp_path: Path) -> None:
    with Orchestrator.open(root, db=store_url, environ={**environ, "PATH": str(tmp_path)}) as one:
        assert part(one.health(), "git")["advice"] == "install git 2.30 or newer"


def test_doctor_looks_at_the_same_disks_as_health(one: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full state folder stops every run, wherever the store lies."""
    home = one.environ["XDG_STATE_HOME"]
    Path(home).mkdir(exist_ok=True)
    usage = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage(path)._replace(free=0 if str(path) == home else 10**12)
    )
    (disk,) = [found for found in one.doctor()["parts"] if found["part"] == "disk"]
    wanted = part(one.health(), "disk")
    assert wanted["said"] == "0.0 GB free for workspaces"
    assert (disk["found"], disk["advice"]) == (wanted["said"], wanted["advice"])


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_store_that_somebody_holds_is_said_to_be_slow_and_not_waited_for(
    one: Orchestrator, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.3)
    monkeypatch.setattr(health.of_store, "__defaults__", (0.3,))
    holder = sqlite3.connect(store_url, isolation_level=None)
    holder.execute("begin immediate")
    try:
        found = one.health()
    finally:
        holder.close()
    assert part(found, "store")["code"] == "store_slow"
    assert (found["healthy"], found["live"], found["ready"]) == (False, True, False)
    wait_for(lambda: not [t for t in threading.enumerate() if t.name == "health"], "the thread that asked is gone")
    assert one.health()["healthy"] is True


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_store_that_cannot_be_opened_is_part_of_the_answer(
    root: Path, store_url: str, environ: dict[str, str]
) -> None:
    Orchestrator.open(root, db=store_url, environ=environ).close()
    assert Orchestrator.health_of(root, db=store_url, environ=environ)["healthy"] is True
    data = bytearray(Path(store_url).read_bytes())
    data[100:4000] = b"\xff" * 3900
    Path(store_url).write_bytes(data)
    found = Orchestrator.health_of(root, db=store_url, environ=environ)
    assert (found["healthy"], found["ready"]) == (False, False)
    assert part(found, "store")["code"] == "store_corrupt"
    Path(store_url).unlink()
    gone = Orchestrator.health_of(root, db=store_url, environ=environ)
    assert (gone["ready"], part(gone, "store")["code"]) == (False, "store_missing")
    with pytest.raises(NotFound):
        Orchestrator.health_of(root, db=f"{store_url}.never", environ=environ)


def test_a_server_that_takes_connections_and_never_answers_is_not_waited_for(
    root: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = Orchestrator.health_of(root, db=f"postgresql://nobody@127.0.0.1:{port}/none", environ=environ)
    assert (found["ready"], part(found, "store")["code"]) == (False, "store_slow")
    assert part(found, "store")["said"] == "the store did not answer within 0.3 s"


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_what_the_database_alone_reports_is_no_damage(one: Orchestrator, raw: Any) -> None:
    """An index without a row: SQLite's own check reports it, and every row can be read."""
    one.add("a task")
    raw.run("pragma writable_schema = on")
    [index] = raw.rows("select * from sqlite_schema where name = 'tasks_by_plan'")
    raw.run("delete from sqlite_schema where name = 'tasks_by_plan'")
    with sqlite3.connect(one.store.url) as elsewhere:  # which reads the tables anew
        elsewhere.execute("update tasks set plan = plan + 0, id = id")
        elsewhere.execute("insert into tasks (project, plan, lane, title, created_at, updated_at)"
                          " select project, plan, lane, 'another', 1, 1 from tasks")  # fmt: skip
    elsewhere.close()
    raw.run(
        "insert into sqlite_schema values ('index', ?, 'tasks', ?, ?)", *(index[n] for n in ("name", "rootpage", "sql"))
    )
    found = one.health()
    store = part(found, "store")
    assert (store["status"], found["ready"]) == ("degraded", True)
    assert "missing from index tasks_by_plan" in store["said"]
    assert "nothing is lost" in store["said"]
    assert store["advice"].startswith(one.store.how_to_copy)
    audit = one.maintain("validate_structure", level="full_audit")
    assert [problem for problem in audit["found"]["problems"] if problem["rule"] == "the_database_is_whole"] == []
    assert "missing from index tasks_by_plan" in audit["found"]["doubts"][0]
    assert not any("in its place" in line for line in [store["advice"], *audit["recommendations"]])
    # What is said to be done helps.
    one.store.close()
    raw.close()
    rebuilt(one)
    assert part(one.health(), "store")["integrity"] is True


#: An index that no command reads to look at tasks; one that health reads; one without which no store can be opened.
@pytest.mark.parametrize("index", ["metrics_once", "metrics_by_run", "sqlite_autoindex_meta_1"])
@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_what_is_advised_for_a_damaged_index_mends_it(one: Orchestrator, raw: Any, index: str) -> None:
    one.add("a task")
    [found] = raw.rows("select rootpage from sqlite_schema where name = ?", index)
    one.store.close()
    raw.rows("pragma wal_checkpoint(truncate)")
    raw.close()
    spoil(Path(one.store.url), found["rootpage"])
    sick = Orchestrator.health_of(one.project.root, db=one.store.url, environ=one.environ)
    store = part(sick, "store")
    assert store["status"] != "healthy"
    assert store["advice"].startswith(one.store.how_to_copy)
    assert "`orchestrion rebuild` makes" in store["advice"]
    assert "then try again" not in store["advice"]
    rebuilt(one)
    assert one.show("T1")["title"] == "a task"
    assert ill(one.health()) == {}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_validate_names_the_same_command(one: Orchestrator, raw: Any) -> None:
    [found] = raw.rows("select rootpage from sqlite_schema where name = 'metrics_once'")
    one.store.close()
    raw.rows("pragma wal_checkpoint(truncate)")
    spoil(Path(one.store.url), found["rootpage"])
    audit = one.maintain("validate_structure", level="full_audit")
    assert audit["found"]["valid"] is True
    copy, mend = audit["recommendations"]
    assert one.store.how_to_copy in copy
    assert f"nothing is lost: {one.store.how_to_reindex} makes the indexes anew" in mend


def spoil(file: Path, page: int) -> None:
    """Overwrites a page of a store."""
    data = bytearray(file.read_bytes())
    data[(page - 1) * 2048 : page * 2048] = b"\xff" * 2048
    file.write_bytes(data)


def rebuilt(one: Orchestrator) -> None:
    """Does what is advised."""
    command = [sys.executable, "-m", "orchestrion", "--db", one.store.url, "-C", str(one.project.root), "rebuild"]
    subprocess.run(command, env={**os.environ, **one.environ}, check=True)


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_what_two_looks_agree_on_is_damage(one: Orchestrator, raw: Any) -> None:
    one.add("a task")
    run = one.claim("T1")["run"]
    one.done(run, "done")
    raw.run("update artifacts set content = ?", "needle" * 100) or raw.run(
        "insert into artifacts (project, task, name, version, content, size, sha256, created_at)"
        " values (1, 1, 'a', 1, ?, 1, '', 1)", "needle" * 100
    )  # fmt: skip
    one.store.close()
    raw.rows("pragma wal_checkpoint(truncate)")
    file = Path(one.store.url)
    data = bytearray(file.read_bytes())
    page = data.index(b"needle") // 2048 * 2048
    data[page : page + 100] = b"\xff" * 100
    file.write_bytes(data)
    found = one.health()
    store = part(found, "store")
    assert (store["status"], found["ready"]) == ("unhealthy", False)
    assert "table artifacts cannot be copied" in store["said"]
    assert store["advice"].startswith(one.store.how_to_copy)
    assert "in its place" in store["advice"]
    audit = one.maintain("validate_structure", level="full_audit")
    assert "table artifacts cannot be copied" in audit["found"]["problems"][0]["said"]
    assert one.store.how_to_copy in audit["recommendations"][0]


# -- with real workers and supervisors --------------------------------------------------------------


def test_a_worker_and_its_runs_are_seen_while_they_are_there(stage: Stage) -> None:
    stage.add(python("import time, sys; print('here', flush=True); sys.stdin.read(); time.sleep(60)"))
    one = stage.orchestrion
    with stage.worker(drain=False) as worker:
        stage.await_lines()
        found = one.health()
        assert [row["pid"] for row in part(found, "workers")["workers"]] == [worker.pid]
        [run] = found["runs"]["runs"]
        assert (run["status"], run["phase"]) == ("working", "working")
        assert run["last_output"]
        assert part(found, "supervisors")["here"] == 1
        worker.kill()
        worker.wait()
        found = one.health()
        assert ill(found) == {"workers": "degraded"}
        os.kill(stage.supervisor(), 9)
        wait_for(lambda: ill(one.health()).get("supervisors") == "unhealthy", "the dead supervisor is seen")
        found = one.health()
        assert found["healthy"] is False
        assert found["runs"]["runs"][0]["status"] == "stuck"
        assert "supervisor died" in found["runs"]["runs"][0]["awaits"]
    one.cancel("T1", "enough")
    one.cleanup_stale_locks(0)
    stage.drain()
    assert ill(one.health()) == {}


def test_an_agent_that_says_nothing_is_called_silent(stage: Stage) -> None:
    stage.close()
    one = stage.open(run__stall_s=30, run__grace_s=1)
    stage.add(python("import time; print('here', flush=True); time.sleep(60)"))
    with stage.worker(drain=False):
        stage.await_lines()
        log = stage.run_folder() / "log.jsonl"
        os.utime(log, (1_000_000, 1_000_000))
        [run] = one.health()["runs"]["runs"]
        assert (run["status"], run["awaits"]) == ("silent", "a word of its agent")
        assert run["since"].startswith("1970-01-12")
        one.kill("R1")
        wait_for(lambda: one.run("R1").as_json()["state"] == "killed", "it is killed")
        wait_for(lambda: not stage.carriers(), "nobody is left")


def test_a_worker_that_drained_has_put_the_project_in_order_and_left(stage: Stage) -> None:
    stage.add("true")
    stage.drain()
    one = stage.orchestrion
    [record] = one.maintenance_history("retention")["maintenance"]
    assert record["actor"].startswith("worker:")
    assert record["found"]["sizes"]["runs"] == 1
    assert one.store.read(lambda tx: tx.all("workers")) == []
    stage.add("true")
    stage.drain()
    assert len(one.maintenance_history("retention")["maintenance"]) == 1
