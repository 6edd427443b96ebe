"""The worker: it fills slots, looks after the dead, adopts the orphaned, and knows when it is done."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from direct import RawSqlite
from orchestrion import Orchestrator
from orchestrion.core.errors import Backpressure, Conflict, GitProblem, NotFound, StoreProblem
from orchestrion.runs import launch, points, processes
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.workspace import removal
from orchestrion.scheduler import claim as claims
from orchestrion.scheduler import finish
from orchestrion.store import sqlite
from orchestrion.worker import Worker
from stage import PATIENCE_S, Stage, python, wait_for

pytestmark = pytest.mark.long

#: Points that only a worker comes past.
OF_WORKERS = ("claim.done", "launch.introduced", "launch.done", "dead.swept", "dead.saved", "dead.settled")


def counting(stage: Stage, seconds: float = 0.3, meets: int = 1) -> str:
    """A command that writes down when it begins and ends; it waits until so many have begun, itself included."""
    diary = stage.folder / "diary"
    meeting = f"until [ $(grep -cF + {diary}) -ge {meets} ]; do sleep 0.05; done"
    return f"echo + >> {diary}; {meeting}; sleep {seconds}; echo - >> {diary}"


def most_at_once(stage: Stage) -> int:
    """How many of the ``counting`` ran at the same time."""
    now = most = 0
    for line in (stage.folder / "diary").read_text().split():
        now += 1 if line == "+" else -1
        most = max(most, now)
    assert now == 0
    return most


def database(stage: Stage) -> RawSqlite:
    return stage.direct()


# -- limits ------------------------------------------------------------------------------------------


def test_no_more_runs_than_slots(stage: Stage) -> None:
    for _ in range(5):
        stage.add(counting(stage, meets=2))
    assert stage.drain(slots=2).all_completed
    assert most_at_once(stage) == 2


@pytest.mark.parametrize(
    ("settings", "values", "most"),
    [
        ({"slots__global": 2}, {}, 2),
        ({"slots__host": 1}, {}, 1),
        ({"slots__agents": {"command": 2}}, {}, 2),
        ({"slots__roles": {"tester": 1}}, {"role": "tester"}, 1),
        ({"resources": {"gpu": 2}}, {"needs": ("gpu",)}, 2),
        ({}, {"needs": ("gpu",)}, 1),
    ],
)
def test_every_limit_holds_over_two_workers(stage: Stage, settings: Any, values: Any, most: int) -> None:
    stage.close()
    stage.open(**settings)
    for _ in range(4):
        stage.add(counting(stage, meets=most), **values)
    with stage.worker(slots=4) as one, stage.worker(slots=4) as other:
        assert {one.wait(100), other.wait(100)} <= {0, 8}
    assert stage.drain().all_completed
    assert most_at_once(stage) == most
    assert all(slot["used"] == 0 for slot in stage.orchestrion.slots())


def test_a_limit_that_was_set_by_hand_outlives_the_settings(stage: Stage) -> None:
    stage.close()
    stage.open(slots__global=4)
    stage.orchestrion.set_slots({"global": 1})
    for _ in range(3):
        stage.add(counting(stage))
    assert stage.drain(slots=3).all_completed
    assert most_at_once(stage) == 1


def test_two_workers_share_the_work_and_nothing_is_done_twice(stage: Stage) -> None:
    for number in range(8):
        stage.add(f"echo {number} >> f{number}.txt; {counting(stage, 0.1)}")
    with stage.worker(slots=2) as one, stage.worker(slots=2) as other:
        one.wait(100)
        other.wait(100)
    assert [run["state"] for run in (r.as_json() for r in stage.orchestrion.list_runs().items)] == ["succeeded"] * 8
    assert most_at_once(stage) <= 4
    assert [stage.merged(f"f{number}.txt") for number in range(8)] == [f"{number}\n" for number in range(8)]
    with database(stage) as direct:
        assert len(direct.rows("select distinct worker_pid from runs")) == 2


# -- when a drain ends ---------------------------------------------------------------------------------


def test_it_does_not_wait_for_people_gates_or_other_holders(stage: Stage) -> None:
    stage.add("true", title="for a person")
    stage.orchestrion.add_gate("T1", "approval")
    stage.add("true", title="later")
    now = stage.orchestrion.store.read(lambda tx: tx.the("clock")["now"])
    stage.orchestrion.add_gate("T2", "time", opens_at=now + 3_600_000)
    stage.add("true", title="held by a client")
    stage.orchestrion.claim("T3")
    stage.add("true", title="behind the held one", after=["T3"])
    stage.add("true", title="possible")
    summary = stage.drain()
    assert (summary.completed, summary.failed, summary.blocked, summary.runs) == (1, 0, 4, 1)
    assert not summary.all_completed


def test_it_waits_for_retries(stage: Stage) -> None:
    stage.add("test $ORCHESTRION_ATTEMPT = 2 || exit 75", retry_delay_s=1.0)
    began = time.monotonic()
    assert stage.drain().all_completed
    assert time.monotonic() - began > 1


def test_an_empty_project_is_drained_at_once(stage: Stage) -> None:
    assert stage.drain().as_json() | {"seconds": 0} == {
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
        "blocked": 0,
        "runs": 0,
        "seconds": 0,
    }


def test_a_paused_queue_is_not_drained_by_force(stage: Stage) -> None:
    stage.add("true")
    stage.orchestrion.pause()
    summary = stage.drain()
    assert (summary.runs, summary.blocked) == (0, 1)
    stage.orchestrion.resume()
    assert stage.drain().all_completed


def test_only_one_agent_s_tasks(stage: Stage) -> None:
    stage.close()
    stage.open(agents={"mine": {"command": "echo mine"}})
    stage.add("echo other", agent="command")
    stage.orchestrion.add("for mine", agent="mine")
    done = stage.orchestrion.work(slots=2, drain=True, agent="mine")
    # The other one is not for this call.
    assert (done.completed, done.blocked) == (1, 0)
    assert stage.lines("R1") == ["mine"]


def test_a_failed_dependency_blocks_and_on_failure_runs(stage: Stage) -> None:
    stage.add("exit 1")
    stage.add("true", after=["T1"])
    stage.add("echo b > b.txt", after_failure=["T1"])
    summary = stage.drain()
    assert (summary.completed, summary.failed, summary.blocked) == (1, 1, 1)
    assert stage.task("T2")["state"] == "blocked"


def test_parents_complete_with_their_children_and_hold_no_slot(stage: Stage) -> None:
    stage.orchestrion.add("parent")
    stage.add("true", parent="T1")
    stage.add("true", parent="T1")
    assert stage.drain(slots=1).completed == 3
    assert len(stage.orchestrion.list_runs().items) == 2


def test_a_task_without_a_command_waits_for_somebody_who_can_do_it(stage: Stage) -> None:
    stage.orchestrion.add("no command at all")
    summary = stage.drain()
    assert (summary.blocked, summary.runs) == (1, 0)
    assert stage.task()["state"] == "ready"


def test_an_agent_that_nobody_defined(stage: Stage) -> None:
    with pytest.raises(NotFound) as refused:
        stage.orchestrion.add("for a stranger", agent="comand")
    assert (refused.value.code, refused.value.hint) == ("no_agent", "did you mean command?")
    with pytest.raises(NotFound):
        stage.orchestrion.work(slots=1, drain=True, agent="stranger")


def test_an_agent_that_the_settings_have_lost(stage: Stage) -> None:
    stage.close()
    stage.open(agents={"mine": {"command": "echo mine"}})
    stage.add("true", agent="mine")
    stage.close()
    stage.open()
    stage.drain()
    assert (stage.task()["state"], stage.task()["code"]) == ("failed", "agent_missing")
    assert "there is no agent 'mine'" in stage.task()["error"]
    assert len(stage.runs()) == 1


def test_the_summary_and_exit_code_of_a_worker_process(stage: Stage) -> None:
    stage.add("true")
    stage.add("exit 1")
    with stage.worker() as worker:
        said = worker.communicate(timeout=100)[0].splitlines()
    summary = json.loads(said[-1])
    assert (summary["completed"], summary["failed"], summary["runs"]) == (1, 1, 2)
    assert worker.returncode == 8


# -- workers that stop or die ---------------------------------------------------------------------------


def test_sigterm_stops_claiming_and_the_run_goes_on(stage: Stage) -> None:
    stage.add(f"echo on; while [ ! -f {stage.folder}/go ]; do sleep 0.05; done; echo b > b.txt")
    stage.add("true", after=["T1"])
    with stage.worker(drain=False) as worker:
        stage.await_lines()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 8
    assert stage.run()["state"] == "running"
    (stage.folder / "go").touch()
    wait_for(lambda: stage.task()["state"] == "completed", "the run settles without any worker")
    assert stage.merged("b.txt") == "b\n"
    assert stage.task("T2")["state"] == "ready"
    assert stage.drain().all_completed


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_new_worker_adopts_and_waits_for_the_runs_of_the_old(stage: Stage, end: signal.Signals) -> None:
    stage.add(f"echo on; while [ ! -f {stage.folder}/go ]; do sleep 0.05; done; echo b > b.txt")
    with stage.worker() as first:
        stage.await_lines()
        first.send_signal(end)
        first.wait(60)
    with stage.worker() as second:
        wait_for(lambda: "run.adopted" in stage.kinds(), "the run is adopted")
        assert second.poll() is None
        (stage.folder / "go").touch()
        assert second.wait(60) == 0
    assert [run["state"] for run in stage.runs()] == ["succeeded"]
    assert stage.kinds().count("run.adopted") == 1


def test_adopted_runs_count_for_the_slots(stage: Stage) -> None:
    stage.add(f"echo on; while [ ! -f {stage.folder}/go ]; do sleep 0.05; done")
    stage.add("true")
    with stage.worker(slots=1) as first:
        stage.await_lines()
        first.kill()
    with stage.worker(slots=1) as second:
        wait_for(lambda: "run.adopted" in stage.kinds(), "the run is adopted")
        time.sleep(1)
        assert len(stage.orchestrion.list_runs().items) == 1
        (stage.folder / "go").touch()
        assert second.wait(60) == 0


def test_a_run_whose_supervisor_has_not_announced_itself_is_not_taken_for_dead(stage: Stage) -> None:
    """The old worker is killed right behind the launch; the new one knows the supervisor all the same."""
    stage.add("echo b > b.txt")
    accident = {points.VARIABLE: "launch.done:once", points.DIARY: str(stage.folder / "accidents")}
    with stage.worker(**accident) as first:
        first.wait(60)
    assert first.returncode == -signal.SIGKILL
    assert stage.drain().all_completed
    assert [run["state"] for run in stage.runs()] == ["succeeded"]


def test_a_claim_whose_worker_died_is_lost_and_done_again(stage: Stage) -> None:
    stage.add("echo b > b.txt")
    accident = {points.VARIABLE: "claim.done:once", points.DIARY: str(stage.folder / "accidents")}
    with stage.worker(**accident) as first:
        first.wait(60)
    assert stage.run()["state"] == "starting"
    assert stage.drain().all_completed
    assert [run["state"] for run in stage.runs()] == ["lost", "succeeded"]
    assert stage.task()["retries"] == 1


def one_at_work(stage: Stage) -> tuple[int, float]:
    """The process of the run that is at work: its id, and when it started."""
    wait_for(stage.runs, "a run begins")
    stage.supervisor()
    (row,) = stage.orchestrion.store.read(lambda tx: tx.all("active_runs"))
    return int(row["pid"]), float(row["pid_start"])


# -- supervisors that die -----------------------------------------------------------------------------------

#: In the background: own session, no marker, deaf to SIGTERM.
ESCAPED = python(
    "import os, signal, time; signal.signal(15, signal.SIG_IGN); print('pid', os.getpid(), flush=True); time.sleep(300)"
)


def test_a_dead_supervisor_leaves_no_process_and_its_work_is_kept(stage: Stage) -> None:
    wait = f"test $ORCHESTRION_ATTEMPT = 2 && cat $ORCHESTRION_BRIEF && exit; (env -i setsid {ESCAPED} &) ; sleep 300"
    stage.add(f"echo $ORCHESTRION_ATTEMPT > n.txt; {wait}")
    with stage.worker() as worker:
        pid = int(stage.await_lines()[0].split()[1])
        recorded = stage.run_folder() / "processes"
        wait_for(lambda: any(line.split()[0] == str(pid) for line in recorded.read_text().splitlines()), "it is seen")
        os.kill(stage.supervisor(), signal.SIGKILL)
        assert worker.wait(60) == 0
    assert not Path(f"/proc/{pid}").exists() or processes.start_time(pid) is None or not _lives(pid)
    first, second = stage.runs()
    assert (first["state"], first["code"], second["state"]) == ("lost", "lost", "succeeded")
    assert stage.on_branch("n.txt") == "1"
    assert first["head_commit"] == stage.git("rev-parse", "orchestrion/run/R1")
    assert "orchestrion/run/R1" in "\n".join(stage.lines("R2"))
    assert stage.merged("n.txt") == "2\n"


def test_a_run_that_a_person_ended_and_whose_supervisor_died_leaves_no_process(stage: Stage) -> None:
    stage.add(f"echo $ORCHESTRION_ATTEMPT > n.txt; (env -i setsid {ESCAPED} &) ; sleep 300")
    with stage.worker() as worker:
        pid = int(stage.await_lines()[0].split()[1])
        recorded = stage.run_folder() / "processes"
        wait_for(lambda: any(line.split()[0] == str(pid) for line in recorded.read_text().splitlines()), "it is seen")
        supervisor = stage.supervisor()
        stage.suspend(supervisor)  # so that it does not hear of it
        stage.orchestrion.kill("R1", "enough")
        os.kill(supervisor, signal.SIGKILL)
        wait_for(lambda: not _lives(pid), "what it started is ended")
        wait_for(lambda: stage.run()["head_commit"], "its work is kept")
        assert worker.wait(60) == 8
    assert stage.on_branch("n.txt") == "1"
    assert (stage.run()["state"], stage.task()["code"]) == ("killed", "killed")
    assert not stage.carriers()


def test_a_poison_task_ends(stage: Stage) -> None:
    """It kills its supervisor every time."""
    stage.add("kill -9 $PPID; sleep 300", max_retries=2)
    summary = stage.drain()
    assert summary.failed == 1
    assert (stage.task()["state"], stage.task()["code"]) == ("failed", "lost_repeatedly")
    assert [run["state"] for run in stage.runs()] == ["lost"] * 3


@pytest.mark.parametrize("point", [point for point in points.POINTS if point not in OF_WORKERS])
def test_a_supervisor_killed_at_any_point(stage: Stage, point: str) -> None:
    """Once at each: afterwards the work is in the plan exactly once, and nobody is left."""
    stage.add("true")
    stage.drain()
    # The plan has moved on from the base when it merges, so that there is something to merge and to recheck.
    stage.add(
        "echo c > c.txt; while ! git -C $ORCHESTRION_PROJECT cat-file -e orchestrion/default:d.txt; do sleep 0.05; done"
    )
    stage.add("echo d > d.txt")
    stage.add("echo e >> e.txt", after=["T2"], checks=("test -f e.txt",))
    accident = {points.VARIABLE: f"{point}:once", points.DIARY: str(stage.folder / "accidents")}
    with stage.worker(slots=2, **accident) as worker:
        assert worker.wait(100) == 0
    assert (stage.folder / "accidents").read_text() == f"{point}\n"
    assert [stage.merged(file) for file in ("c.txt", "d.txt", "e.txt")] == ["c\n", "d\n", "e\n"]
    lost = [run.as_json() for run in stage.orchestrion.list_runs(states=["lost"]).items]
    settled_all_the_same = point in ("merge.swapped", "merge.done", "settle.done")
    assert len(lost) == (0 if settled_all_the_same else 1)
    kept = point not in ("supervise.started", "prepare.begun", "prepare.done")
    assert all((run["head_commit"] is not None) is kept for run in lost)


@pytest.mark.parametrize("point", ["dead.swept", "dead.saved", "dead.settled"])
def test_a_worker_killed_while_it_looks_after_the_dead(stage: Stage, point: str) -> None:
    stage.add("echo $ORCHESTRION_ATTEMPT > n.txt; test $ORCHESTRION_ATTEMPT = 2 || kill -9 $PPID; sleep 0.2")
    accident = {points.VARIABLE: f"{point}:once", points.DIARY: str(stage.folder / "accidents")}
    with stage.worker(**accident) as worker:
        worker.wait(60)
    assert worker.returncode == -signal.SIGKILL
    assert stage.drain().all_completed
    assert [run["state"] for run in stage.runs()] == ["lost", "succeeded"]
    assert stage.on_branch("n.txt") == "1"


def test_two_workers_find_the_same_dead_run(stage: Stage) -> None:
    stage.add("echo $ORCHESTRION_ATTEMPT > n.txt; echo on; test $ORCHESTRION_ATTEMPT = 2 || sleep 300")
    with stage.worker() as one, stage.worker() as other:
        stage.await_lines()
        os.kill(stage.supervisor(), signal.SIGKILL)
        one.wait(60)
        other.wait(60)
    assert stage.drain().all_completed
    assert [run["state"] for run in stage.runs()] == ["lost", "succeeded"]


def test_a_dead_run_is_judged_by_its_last_word(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker saw it being checked; it went on, swapped the plan's tip and died before it was found dead."""
    stage.add("echo b > b.txt")
    accident = {points.VARIABLE: "merge.swapped:once", points.DIARY: str(stage.folder / "accidents")}
    with stage.worker(drain=False, **accident) as worker:
        wait_for(lambda: stage.runs() and stage.run()["phase"] == "working", "it works")
        stage.suspend(worker.pid)
        supervisor = one_at_work(stage)
        wait_for((stage.folder / "accidents").exists, "the supervisor dies behind the swap")
        wait_for(lambda: not processes.is_alive(*supervisor), "it is dead")
        one = stage.orchestrion
        with pytest.raises(Conflict):  # its work is in the plan
            one.kill("R1")
        late = Worker(one.store, one.project, one.config, one.environ, 1)
        seen = [{**row, "phase": "checking"} for row in map(dict, late._active_here())]
        monkeypatch.setattr(late, "_active_here", lambda: seen)
        late._look_after_runs()
        assert [run["state"] for run in stage.runs()] == ["succeeded"]
        assert stage.task()["state"] == "completed"
        assert not stage.workspace().exists()


@pytest.mark.users_repository_changes
def test_contents_that_the_user_replaced_are_what_is_stored(stage: Stage) -> None:
    """git's commands differ in whether they look at replacements: two lists of the same change did not fit."""
    (stage.root / "b.txt").write_text("b\n")
    stage.git("add", ".")
    stage.git("commit", "-qm", "b")
    stage.git("replace", stage.git("rev-parse", "HEAD:a.txt"), stage.git("rev-parse", "HEAD:b.txt"))
    stage.add("cp b.txt a.txt; echo n > n.txt")
    assert stage.drain().all_completed
    assert stage.merged("a.txt") == "b\n"


def test_a_dead_run_that_breaks_us_stops_no_other(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.add("echo on; sleep 300")
    with stage.worker(drain=False) as worker:
        stage.await_lines()
        worker.kill()
        worker.wait()
        os.kill(stage.supervisor(), signal.SIGKILL)
    one = stage.orchestrion
    late = Worker(one.store, one.project, one.config, one.environ, 1)
    monkeypatch.setattr(late._dead, "_save_work", lambda run: {}["nothing"])
    late._look_after_runs()
    assert stage.run()["state"] == "running"
    monkeypatch.undo()
    late._look_after_runs()
    assert stage.run()["state"] == "lost"


def test_a_worker_ends_where_its_project_was_moved_away(stage: Stage) -> None:
    """An open database moves along: it would be asked for more tasks, and folders made where nobody looks."""
    stage.add("true")
    elsewhere = stage.root.with_name("elsewhere")
    with stage.worker(drain=False) as worker:
        wait_for(lambda: stage.task()["state"] == "completed", "it works")
        stage.add("true")
        stage.root.rename(elsewhere)
        assert worker.wait(30) == 1
        assert not stage.root.exists()
        elsewhere.rename(stage.root)
    assert stage.drain().all_completed


def test_a_run_goes_by_the_request_that_wanted_its_task(stage: Stage) -> None:
    """Whoever made the task, then whoever decided about it last; else the run has a name of its own."""
    command = "echo $ORCHESTRION_CORRELATION >> c.txt; test $ORCHESTRION_ATTEMPT = 2"
    stage.orchestrion.on_behalf_of("web:local", correlation="trace-1").add("wanted", command=command, max_retries=0)
    assert stage.drain().failed == 1
    assert stage.on_branch("c.txt") == "trace-1"
    stage.orchestrion.on_behalf_of("web:local", correlation="trace-2").retry("T1")
    assert stage.drain().all_completed
    assert stage.merged("c.txt") == "trace-2\n"
    seen = {one["correlation"] for one in stage.orchestrion.events(limit=1000) if one["kind"] == "run.succeeded"}
    assert seen == {"trace-2"}
    stage.add("echo $ORCHESTRION_CORRELATION > own.txt")
    stage.drain()
    assert stage.merged("own.txt") == "R3\n"


# -- the clock, other machines, clients -----------------------------------------------------------------------


def test_a_client_s_lease_that_ran_out(stage: Stage) -> None:
    stage.add("echo b > b.txt")
    stage.orchestrion.claim("T1", lease_s=1)
    with stage.worker(drain=False):
        wait_for(lambda: stage.task()["state"] == "completed", "a worker takes over")
    assert [run["state"] for run in stage.runs()] == ["lost", "succeeded"]


def test_another_machine_s_run_is_left_alone_until_its_lease_is_over(stage: Stage) -> None:
    stage.add("echo b > b.txt")
    elsewhere = claims.Claimant(lease_ms=2000, agent="command", supervised=True, host="elsewhere", worker_pid=1)
    stage.orchestrion.store.write(lambda tx: claims.claim(tx, elsewhere))
    summary = stage.drain()
    assert (summary.completed, summary.blocked) == (0, 1)
    with stage.worker(drain=False):
        wait_for(lambda: stage.task()["state"] == "completed", "its lease is over")
    assert [run["state"] for run in stage.runs()] == ["lost", "succeeded"]


def test_a_suspended_supervisor_loses_nothing(stage: Stage) -> None:
    """Its lease is long over, but its process lives: on its own machine that is what counts."""
    stage.close()
    stage.open(lease__run_s=1)
    stage.add("echo on; sleep 1; echo b > b.txt")
    with stage.worker() as worker:
        stage.await_lines()
        pid = stage.supervisor()
        stage.suspend(pid)
        time.sleep(3)
        assert stage.run()["state"] == "running"
        os.kill(pid, signal.SIGCONT)
        assert worker.wait(60) == 0
    assert [run["state"] for run in stage.runs()] == ["succeeded"]


def test_a_timer_that_is_due_while_all_slots_are_taken_spins_nothing(stage: Stage) -> None:
    stage.add("sleep 2")
    stage.add("true")
    now = stage.orchestrion.store.read(lambda tx: tx.the("clock")["now"])
    stage.orchestrion.add_gate("T2", "time", opens_at=now + 200)
    looks: list[float] = []
    done = stage.orchestrion.work(slots=1, drain=True, seen=lambda: looks.append(time.monotonic()))
    assert done.completed == 2 or done.blocked == 1
    assert len(looks) < 100


# -- sweeping ------------------------------------------------------------------------------------------------


def test_a_worker_ends_what_a_settled_run_left_running(stage: Stage) -> None:
    stage.add("true")
    stage.drain()
    marker = {processes.MARKER: f"{stage.orchestrion.store.uuid}/R1"}
    with subprocess.Popen(["sleep", "300"], env={**os.environ, **marker}, start_new_session=True) as orphan:
        stage.drain()
        assert orphan.wait(30) == -signal.SIGTERM


def test_a_strange_marker_is_nothing_to_stumble_over(stage: Stage) -> None:
    marker = {processes.MARKER: f"{stage.orchestrion.store.uuid}/../../etc"}
    with subprocess.Popen(["sleep", "300"], env={**os.environ, **marker}, start_new_session=True) as orphan:
        stage.add("true")
        assert stage.drain().all_completed
        orphan.kill()


def test_old_workspaces_go_unless_they_hold_unmerged_work(stage: Stage) -> None:
    stage.add("echo saved > b.txt; exit 1")
    stage.drain()
    workspace = stage.workspace()
    stage.close()
    stage.open(workspace__keep_days=0)
    (workspace / "unsaved.txt").write_text("a person looked around")
    stage.drain()
    assert (workspace / "unsaved.txt").exists()
    (workspace / "unsaved.txt").unlink()
    stage.drain()
    assert not workspace.exists()
    assert stage.on_branch("b.txt") == "saved"


def test_workspaces_that_cannot_be_swept_are_no_reason_to_stop(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage.add("true")
    stage.drain()

    def sweep(*_: Any) -> None:
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(removal, "sweep", sweep)
    stage.add("true")
    assert stage.drain().all_completed
    assert caplog.text.count("not yours") == 1


# -- agents that are broken ----------------------------------------------------------------------------------------


def broken(stage: Stage, **settings: Any) -> None:
    """An agent whose program is gone, which is the tester's."""
    stage.close()
    gone = {"adapter": "claude", "program": str(stage.folder / "gone")}
    stage.open(agents={"frail": gone}, breaker__failures=2, breaker__cooldown_s=300, retry__max=0, **settings)


def test_an_open_breaker_spares_the_other_tasks_and_says_so(stage: Stage) -> None:
    broken(stage)
    tasks = [stage.add("true", agent="frail") for _ in range(5)]
    done = stage.drain(slots=1)
    assert (done.failed, done.blocked) == (2, 3)
    assert [stage.task(task)["code"] for task in tasks[:2]] == ["agent_missing"] * 2
    (found,) = stage.orchestrion.status()["breakers"]
    assert (found["agent"], found["state"], found["code"]) == ("frail", "open", "agent_missing")
    assert stage.orchestrion.why(tasks[4])["reasons"][0]["kind"] == "breaker"
    assert "breaker.opened" in stage.kinds()


def test_the_fallback_of_a_role_takes_over(stage: Stage) -> None:
    roles = stage.root / ".orchestrion" / "roles"
    roles.mkdir(parents=True)
    (roles / "tester.yaml").write_text("agent: frail\nfallback_agent: command\n")
    broken(stage)
    tasks = [stage.add("true", role="tester") for _ in range(4)]
    done = stage.drain(slots=1)
    assert (done.completed, done.failed) == (2, 2)
    assert [stage.runs(task)[0]["agent"] for task in tasks] == ["frail", "frail", "command", "command"]
    waiting = stage.add("true", role="tester", needs=("gpu",))
    assert "breaker" in [reason["kind"] for reason in stage.orchestrion.why(waiting)["reasons"]]


def test_a_person_lets_a_breaker_close(stage: Stage) -> None:
    broken(stage)
    for _ in range(3):
        stage.add("true", agent="frail")
    stage.drain(slots=1)
    assert stage.orchestrion.resume("frail")
    assert stage.drain(slots=1).failed == 1
    assert [stage.task(task)["state"] for task in ("T1", "T2", "T3")] == ["failed"] * 3


# -- what cannot be launched or settled now -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "code", "transient"),
    [
        (OSError(errno.EAGAIN, "no more processes"), "host_exhausted", True),
        (OSError(errno.ENOSPC, "disk full"), "disk_full", True),
        (OSError(errno.ENOENT, "no interpreter"), "agent_not_started", False),
    ],
)
def test_a_supervisor_that_cannot_be_launched(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, problem: OSError, code: str, transient: bool
) -> None:
    problems = [problem]
    real = launch.Launcher.launch

    def refuse_once(*args: Any) -> Any:
        if problems:
            raise problems.pop()
        return real(*args)

    monkeypatch.setattr(launch.Launcher, "launch", refuse_once)
    stage.add("true")
    assert stage.drain().all_completed is transient
    first = stage.runs()[0]
    assert (first["state"], first["code"]) == ("failed", code)
    assert "could not be launched" in first["reason"]


def test_a_store_that_is_moved_between_a_claim_and_its_launch_costs_time_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.add("echo a > b.txt")
    files = sorted(Path(stage.orchestrion.store.url).parent.glob("orchestrion.db*"))
    shelter = stage.folder / "shelter"
    shelter.mkdir()
    real = Worker._order

    def put_back() -> None:
        for file in files:
            (shelter / file.name).rename(file)

    def move_once(self: Worker, tx: Any, claimed: claims.Claim) -> Any:
        if not list(shelter.iterdir()):
            monkeypatch.setattr(Worker, "_order", real)
            for file in files:
                file.rename(shelter / file.name)
            threading.Timer(0.5, put_back).start()
            raise StoreProblem("it is gone", hint="put it back", code="store_missing")
        return real(self, tx, claimed)

    monkeypatch.setattr(Worker, "_order", move_once)
    assert stage.drain().completed == 1
    assert [run["state"] for run in stage.runs()] == ["succeeded"]


def test_a_slot_that_another_worker_took_at_the_same_moment(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [Backpressure("the last slot is gone", retry_after_s=5)]
    real = claims.claim

    def refuse_once(*args: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return real(*args)

    monkeypatch.setattr(claims, "claim", refuse_once)
    stage.add("true")
    stage.drain()
    assert stage.drain().all_completed


def test_a_dead_run_that_cannot_be_settled_keeps_nobody_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """git refuses for a while; other tasks are done meanwhile, and the dead run is settled when it can be."""
    refusals: list[int] = []
    real = PlanTip.read

    def refuse_until_t2_is_done(*args: Any) -> Any:
        if stage.task("T2")["state"] != "completed":
            refusals.append(1)
            raise GitProblem("git is being upgraded")
        return real(*args)

    accident = {points.VARIABLE: "merge.queued", points.DIARY: str(stage.folder / "accidents")}
    stage.add("echo b > b.txt")
    with stage.worker(drain=False, **accident) as worker:
        supervisor = one_at_work(stage)
        wait_for((stage.folder / "accidents").exists, "the supervisor dies")
        worker.kill()
        wait_for(lambda: not processes.is_alive(*supervisor), "it is dead")
    one = stage.orchestrion
    one.store.write(lambda tx: tx.run("run_notes", **{**dict.fromkeys(finish._FACTS), "run": 1, "phase": "merging"}))
    monkeypatch.setattr(PlanTip, "read", refuse_until_t2_is_done)
    stage.add("true", merge="none")
    assert stage.drain().all_completed
    assert refusals
    assert caplog.text.count("git is being upgraded") == 1


def test_a_dead_run_is_settled_by_one(stage: Stage) -> None:
    stage.add("echo on; sleep 300", max_retries=0)
    with stage.worker(drain=False) as worker:
        stage.await_lines()
        worker.kill()
    with removal.exclusive(stage.run_folder() / "settle.lock"), stage.worker() as worker:
        os.kill(stage.supervisor(), signal.SIGKILL)
        time.sleep(2)
        assert stage.run()["state"] == "running"
        worker.kill()
    stage.drain()
    assert stage.run()["state"] == "lost"


def test_a_dead_run_whose_workspace_is_gone(stage: Stage) -> None:
    stage.add("echo on; test $ORCHESTRION_ATTEMPT = 2 || sleep 300")
    with stage.worker() as worker:
        stage.await_lines()
        stage.suspend(worker.pid)
        stage.workspace().rename(stage.folder / "gone")
        os.kill(stage.supervisor(), signal.SIGKILL)
        worker.send_signal(signal.SIGCONT)
        assert worker.wait(60) == 0
    assert [run["state"] for run in stage.runs()] == ["lost", "succeeded"]
    assert stage.runs()[0]["head_commit"] is None


def test_a_dead_run_whose_workspace_is_broken(stage: Stage) -> None:
    stage.add("test $ORCHESTRION_ATTEMPT = 2 || { rm -rf .git; echo b > b.txt; kill -9 $PPID; sleep 300; }")
    assert stage.drain().all_completed
    assert [run["state"] for run in stage.runs()] == ["lost", "succeeded"]
    assert (stage.workspace("R1") / "b.txt").exists()


# -- dead runs while no worker is there ----------------------------------------------------------------------------


def leave_agent_alone(stage: Stage) -> list[processes.Process]:
    """A run whose worker and supervisor were killed while its agent works on; the agent's processes."""
    stage.add("echo half > b.txt; echo on; sleep 300")
    with stage.worker(drain=False) as worker:
        stage.await_lines()
        worker.kill()
        worker.wait()
    supervisor = stage.supervisor()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: stage.orchestrion.health()["components"]["supervisors"]["dead"], "its supervisor is dead")
    return list(wait_for(lambda: stage.carriers().get("R1"), "its agent works on"))


def test_a_kill_ends_the_agent_of_a_dead_supervisor_and_keeps_its_work(stage: Stage) -> None:
    agent = leave_agent_alone(stage)
    assert stage.orchestrion.kill("R1", "no sign of life").as_json()["state"] == "killed"
    assert not any(processes.is_alive(*process) for process in agent)
    assert stage.on_branch("b.txt") == "half"
    assert stage.orchestrion.ended_elsewhere("R1") is None


def test_a_cancelled_task_leaves_no_agent_of_a_dead_supervisor(stage: Stage) -> None:
    agent = leave_agent_alone(stage)
    stage.orchestrion.cancel("T1", "enough")
    assert not any(processes.is_alive(*process) for process in agent)


@pytest.mark.parametrize("door", ["cleanup", "maintain"])
def test_no_task_is_freed_while_the_agent_of_a_dead_supervisor_works(stage: Stage, door: str) -> None:
    agent = leave_agent_alone(stage)
    with database(stage) as direct:
        direct.run("update runs set lease_until = 1, lease_ms = 1")
    if door == "cleanup":
        assert stage.orchestrion.clean_up_locks(3600) == {"freed": 1, "righted": 0, "mended": [], "notes": []}
    else:
        stage.orchestrion.maintain("scan_cleanup", level="comprehensive")
    assert not any(processes.is_alive(*process) for process in agent)
    assert (stage.run()["state"], stage.task()["state"]) == ("lost", "retrying")
    assert stage.on_branch("b.txt") == "half"


def test_a_cleanup_leaves_a_run_alone_that_another_settles_or_whose_processes_are_of_another_clone(
    stage: Stage,
) -> None:
    agent = leave_agent_alone(stage)
    with removal.exclusive(stage.run_folder() / "settle.lock"):
        assert stage.orchestrion.cleanup_stale_locks(0) == 0
    with database(stage) as direct:
        direct.run("update runs set clone = 'another'")
    assert stage.orchestrion.cleanup_stale_locks(0) == 0
    assert stage.run()["state"] == "running"
    assert processes.end_tree(agent, grace_s=0) == []
    assert stage.orchestrion.cleanup_stale_locks(0) == 1


def test_what_runs_on_another_host_is_ended_there_and_that_is_said(stage: Stage) -> None:
    for _ in range(2):
        stage.add("true")
    elsewhere = claims.Claimant(
        lease_ms=60_000, agent="command", supervised=True, host="far", host_id="far-1-1", worker_pid=1
    )
    for _ in range(2):
        stage.orchestrion.store.write(lambda tx: claims.claim(tx, elsewhere))
    stage.orchestrion.kill("R1")
    said = "its processes are on far and are ended there"
    assert said in (stage.orchestrion.ended_elsewhere("R1") or "")
    done = stage.orchestrion.clean_up_locks(0)
    assert done["freed"] == 1
    assert [note.startswith(f"R2: {said}") for note in done["notes"]] == [True]
    unswept = stage.orchestrion.store.read(lambda tx: tx.all("unswept_runs"))
    assert [row["id"] for row in unswept] == [1, 2]


def test_nobody_is_told_that_a_dead_supervisor_s_agent_will_hear_a_message(stage: Stage) -> None:
    leave_agent_alone(stage)
    with pytest.raises(Conflict) as refused:
        stage.orchestrion.message("R1", "hurry")
    assert refused.value.code == "supervisor_died"
    stage.orchestrion.kill("R1")


# -- the database -------------------------------------------------------------------------------------------------


def test_a_worker_outlives_a_database_that_is_locked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE_S", 0.05)
    stage.add("echo b > b.txt")
    locked, release = threading.Event(), threading.Event()

    def lock() -> None:
        with database(stage) as direct:
            direct.run("begin immediate")
            locked.set()
            release.wait(30)
            direct.run("rollback")

    locker = threading.Thread(target=lock)
    locker.start()
    locked.wait()
    threading.Timer(1.5, release.set).start()
    assert stage.drain().all_completed
    locker.join()


def test_a_database_that_is_broken_is_no_reason_to_wait(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def corrupt(*_: Any) -> None:
        raise StoreProblem("the file is damaged", code="store_corrupt")

    stage.add("true")
    monkeypatch.setattr(claims, "claim", corrupt)
    with pytest.raises(StoreProblem):
        stage.drain()


def test_a_whole_plan_on_postgresql(stage: Stage, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres").new()
    with Orchestrator.open(stage.root, db=url) as orchestrion:
        orchestrion.add("b", command="printf 'a\\0b\\n'; echo b > b.txt", checks=("printf 'x\\0y'; test -f b.txt",))
        orchestrion.add("c", command="cat b.txt > c.txt; test $ORCHESTRION_ATTEMPT = 2 || kill -9 $PPID", after=["T1"])
        orchestrion.add("d", command="env | grep ORCHESTRION_DB; exit 1", after=["T1"])
        done = orchestrion.work(slots=2, drain=True)
        assert (done.completed, done.failed) == (2, 1)
        states = [run.as_json()["state"] for run in orchestrion.list_runs().items]
        assert sorted(states) == ["failed", "lost", "succeeded", "succeeded"]
    assert stage.merged("c.txt") == "b\n"


# -- helpers ---------------------------------------------------------------------------------------------------


def _lives(pid: int) -> bool:
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]


# -- a copy of the whole repository ------------------------------------------------------------------------


def test_a_copied_repository_takes_nothing_of_the_original_s_runs(stage: Stage) -> None:
    go = stage.folder / "go"
    stage.add(f"echo original > who.txt; while [ ! -e {go} ]; do sleep 0.05; done; cat who.txt")
    stage.add("echo other > other.txt")
    with stage.worker(slots=1) as worker:
        wait_for(lambda: [run["state"] for run in stage.runs()] == ["running"], "it runs")
        copy = stage.folder / "copy"
        subprocess.run(["cp", "-r", stage.root, copy], check=True)
        with Orchestrator.open(copy, environ=stage.environ) as copied:
            assert copied.store.uuid != stage.orchestrion.store.uuid
            assert copied.task("T1").row["state"] == "ready"
            assert [run.as_json()["state"] for run in copied.list_runs(task="T1").items] == ["killed"]
            go.touch()
            assert copied.work(slots=1, drain=True).all_completed
        assert worker.wait(60) == 0
    assert stage.lines() == ["original"]
    assert stage.merged("who.txt") == "original\n"
    assert [run["state"] for run in stage.runs()] == ["succeeded"]


# -- a store that is not as it was ---------------------------------------------------------------------------


def test_an_older_copy_put_back_under_a_run_gives_its_number_to_no_other(stage: Stage) -> None:
    """The run that the copy does not know ends, and the worker, before it claims anything. Whoever looked goes on, with
    another number, at a place of its own."""
    go = stage.folder / "go"
    stage.add(f"echo part > f; echo here; while [ ! -e {go} ]; do sleep 0.05; done; echo whole >> f")
    file = Path(stage.orchestrion.store.url)
    stage.close()
    older = stage.folder / "older.db"
    with sqlite3.connect(file) as source, sqlite3.connect(older) as target:
        source.backup(target)
    stage.orchestrion = Orchestrator.open(stage.root, environ=stage.environ)
    with stage.worker(slots=2) as worker:
        stage.await_lines(1)
        first = stage.supervisor()
        stage.close()
        for ending in ("", "-wal", "-shm"):
            file.with_name(file.name + ending).unlink(missing_ok=True)
        shutil.copy2(older, file)
        wait_for(lambda: not psutil.pid_exists(first), "the run that nobody knows ends")
        assert worker.wait(PATIENCE_S) != 0
    stage.orchestrion = Orchestrator.open(stage.root, environ=stage.environ)
    assert stage.runs() == []
    go.touch()
    assert stage.orchestrion.work(slots=2, drain=True, older_copy=True).all_completed
    assert [(run["id"], run["state"]) for run in stage.runs()] == [("R2", "succeeded")]
    assert stage.merged("f") == "part\nwhole\n"
    assert not list(stage.workspace("R2").parent.glob("*.kept-*"))


def test_another_store_of_the_same_clone_takes_no_number_of_the_first_one_s_runs(
    stage: Stage, request: pytest.FixtureRequest
) -> None:
    go = stage.folder / "go"
    stage.add(f"echo part > f; echo here; while [ ! -e {go} ]; do sleep 0.05; done; echo whole >> f")
    with stage.worker(slots=1) as worker:
        stage.await_lines(1)
        with Orchestrator.open(stage.root, db=request.getfixturevalue("postgres").new()) as other:
            other.add("Other", command="echo other > other.txt", plan="other")
            assert other.work(slots=1, drain=True).all_completed
            assert [run.as_json()["id"] for run in other.list_runs().items] == ["R2"]
            other.add("Further", command="true", plan="other")
            assert other.claim()["run"] == "R3"
        go.touch()
        assert worker.wait(PATIENCE_S) == 0
    assert stage.merged("f") == "part\nwhole\n"
