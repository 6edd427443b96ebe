"""One run from its claim to its settlement, with real git and real processes."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import Conflict, MergeConflict
from orchestrion.core.masking import MASK
from orchestrion.scheduler import reap
from small_disk import full_file
from stage import PATIENCE_S, Stage, python, wait_for

pytestmark = pytest.mark.long

#: Prints its pid, then sleeps without hearing SIGTERM.
DEAF = (
    'import signal, time, os; signal.signal(15, signal.SIG_IGN); print("pid", os.getpid(), flush=True); time.sleep(300)'
)


# -- the way it should go ---------------------------------------------------------------------------


def test_work_is_committed_checked_merged_and_settled(stage: Stage) -> None:
    stage.add("echo hello > b.txt; echo said", checks=("test -f b.txt",))
    summary = stage.drain()
    assert (summary.completed, summary.failed, summary.blocked, summary.runs) == (1, 0, 0, 1)
    assert stage.merged("b.txt") == "hello\n"
    run = stage.run()
    assert run["state"] == "succeeded"
    assert run["code"] is None
    assert (run["exit_code"], run["files_changed"], run["lines_added"], run["lines_removed"]) == (0, 1, 1, 0)
    assert run["duration_s"] > 0
    assert [(c["stage"], c["go"], c["command"], c["exit_code"]) for c in run["checks"]] == [
        ("check", 1, "test -f b.txt", 0)
    ]
    assert stage.task()["summary"] == "said"
    assert not stage.workspace().exists()
    assert stage.git("rev-parse", "orchestrion/default") == stage.git("rev-parse", "refs/orchestrion/plans/default")


def test_the_journal_tells_every_step(stage: Stage) -> None:
    stage.add("echo b > b.txt", checks=("true",))
    stage.drain()
    events = stage.orchestrion.events(run="R1")
    phases = [event["data"]["phase"] for event in events if event["kind"] == "run.phase"]
    assert phases == ["working", "checking", "merging"]
    moves = [event["kind"] for event in events if event["to"]]
    assert moves == ["run.starting", "task.in_progress", "run.running", "run.succeeded", "task.completed"]
    assert {event["actor"] for event in events[2:]} == {"run:R1"}


def test_a_dependent_starts_from_the_new_tip(stage: Stage) -> None:
    stage.add("echo one > b.txt")
    stage.add("cat b.txt > c.txt", after=["T1"])
    assert stage.drain().all_completed
    assert stage.merged("c.txt") == "one\n"


def test_parallel_work_is_merged_one_after_the_other(stage: Stage) -> None:
    for number in range(4):
        stage.add(f"echo {number} > f{number}.txt; sleep 0.2", checks=(f"test -f f{number}.txt",))
    assert stage.drain(slots=4).all_completed
    assert [stage.merged(f"f{number}.txt") for number in range(4)] == [f"{number}\n" for number in range(4)]
    merges = [stage.orchestrion.events(run=f"R{number}", limit=100) for number in range(1, 5)]
    spans = sorted(
        (next(e["id"] for e in run if e["data"] and e["data"].get("phase") == "merging"), run[-1]["id"])
        for run in merges
    )
    assert all(end < begin for (_, end), (begin, _) in pairwise(spans)), spans


def test_work_that_changes_nothing_is_accepted(stage: Stage) -> None:
    stage.add("true", checks=("true",))
    assert stage.drain().all_completed
    assert stage.run()["files_changed"] == 0
    assert stage.git("rev-parse", "refs/orchestrion/plans/default") == stage.git("rev-parse", "HEAD")


def test_an_agent_that_commits_by_itself(stage: Stage) -> None:
    stage.add("echo 1 > b.txt; git add .; git commit -qm mine; echo 2 > c.txt")
    assert stage.drain().all_completed
    assert (stage.merged("b.txt"), stage.merged("c.txt")) == ("1\n", "2\n")
    assert "mine" in stage.git("log", "--format=%s", "refs/orchestrion/plans/default")


def test_merge_none_keeps_the_work_on_its_branch(stage: Stage) -> None:
    stage.add("echo b > b.txt", merge="none")
    assert stage.drain().all_completed
    assert stage.merged("b.txt") is None
    assert stage.on_branch("b.txt") == "b"


@pytest.mark.parametrize("isolation", ["clone", "worktree"])
def test_both_isolations(stage: Stage, isolation: str) -> None:
    stage.close()
    stage.open(workspace__isolation=isolation)
    stage.add("echo b > b.txt; git rev-parse --git-common-dir")
    stage.add("echo c > c.txt")
    assert stage.drain().all_completed
    assert (stage.merged("b.txt"), stage.merged("c.txt")) == ("b\n", "c\n")
    assert (stage.lines() == [str(stage.root / ".git")]) is (isolation == "worktree")
    assert stage.git("worktree", "list").count("\n") == 0


def test_a_project_without_git_is_worked_on_in_its_folder(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "plain", os.environ, git=False)
    stage.open()
    stage.add("echo b > b.txt; pwd", checks=("test -f b.txt",))
    stage.add("test -f b.txt", after=["T1"])
    assert stage.drain().all_completed
    assert stage.lines() == [str(stage.root)]
    assert (stage.root / "b.txt").read_text() == "b\n"
    assert stage.run()["workspace"] is None
    stage.check({})
    stage.close()


def test_a_repository_without_a_commit_fails_at_once_and_says_why(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "empty", os.environ, git=False)
    stage.git("init", "-q")
    stage.open()
    stage.add("true")
    stage.drain()
    assert (stage.task()["state"], stage.task()["code"]) == ("failed", "no_commit")
    assert "no commit for plan default" in stage.task()["error"]
    assert "first commit" in stage.task()["error"]
    stage.close()


def test_what_the_agent_gets(stage: Stage) -> None:
    stage.add("env | sort; cat $ORCHESTRION_BRIEF; orchestrion --version", title="Look around", description="See all.")
    assert stage.drain().all_completed
    lines = stage.lines()
    said = dict(line.partition("=")[::2] for line in lines)
    assert said["ORCHESTRION_RUN"] == f"{stage.orchestrion.store.uuid}/R1"
    assert (said["ORCHESTRION_TASK"], said["ORCHESTRION_ATTEMPT"], said["ORCHESTRION_GO"]) == ("T1", "1", "1")
    assert said["ORCHESTRION_PROJECT"] == str(stage.root)
    assert said["ORCHESTRION_DB"] == str(stage.root / ".git/orchestrion/orchestrion.db")
    assert int(said["ORCHESTRION_PORT_OFFSET"]) % 10 == 0
    assert "See all." in lines
    assert lines[-1].startswith("orchestrion ")
    assert not [key for key in said if key.startswith("GIT_") and key != "GIT_CONFIG_NOSYSTEM"]


def test_the_agent_calls_back_wherever_the_database_is(stage: Stage, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres").new()
    url += f"{'&' if '?' in url else '?'}password=hidden-in-it"
    with Orchestrator.open(stage.root, db=url) as one:
        one.add("calls back", command="orchestrion decide 'In the run'; env; echo b > b.txt")
        assert one.work(drain=True).all_completed
        assert [decision["run"] for decision in one.decisions()["decisions"]] == ["R1"]
        printed = [line["text"] for line in one.log("R1")]
    assert f"ORCHESTRION_DB={url.replace('hidden-in-it', MASK)}" in printed


def test_port_offsets_differ_and_can_be_left_out(stage: Stage) -> None:
    stage.add("echo $ORCHESTRION_PORT_OFFSET")
    stage.add("echo $ORCHESTRION_PORT_OFFSET")
    stage.drain()
    assert len(set(stage.lines("R1") + stage.lines("R2"))) == 2
    stage.close()
    stage.open(workspace__ports=False)
    stage.add("echo [$ORCHESTRION_PORT_OFFSET]")
    stage.drain()
    assert stage.lines("R3") == ["[]"]


def test_included_files_and_the_set_up_command(stage: Stage) -> None:
    (stage.root / ".env").write_text("SECRET=1\n")
    (stage.root / ".worktreeinclude").write_text(".env\n")
    try:
        stage.close()
        stage.open(workspace__setup="echo ready > setup.log")
        stage.add("cat .env setup.log")
        stage.add("cat setup.log", setup="echo own > setup.log")
        assert stage.drain().all_completed
        assert stage.lines("R1") == ["SECRET=1", "ready"]
        assert stage.lines("R2") == ["own"]
        assert [check["stage"] for check in stage.run("R1")["checks"]] == ["setup"]
        assert stage.merged(".env") is None
    finally:
        (stage.root / ".env").unlink()
        (stage.root / ".worktreeinclude").unlink()


def test_a_set_up_command_that_fails(stage: Stage) -> None:
    stage.add("echo never", setup="echo no compiler; exit 3")
    stage.drain()
    task = stage.task()
    assert (task["state"], task["code"], task["retries"]) == ("failed", "setup_failed", 0)
    assert "no compiler" in task["error"]
    assert stage.lines() == []


# -- how an agent may end ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code", "runs", "words"),
    [
        ("echo partly > b.txt; echo my last words >&2; exit 1", "agent_failed", 1, "my last words"),
        ("exit 127", "agent_missing", 1, "127"),
        ("no-such-program-anywhere", "agent_missing", 1, "no-such-program-anywhere"),
        ("echo busy; exit 75", "agent_tempfail", 3, "busy"),
        ("kill -9 $$", "agent_crashed", 3, "SIGKILL"),
        ("kill -15 $$", "agent_crashed", 3, "SIGTERM"),
    ],
)
def test_ends_of_an_agent(stage: Stage, command: str, code: str, runs: int, words: str) -> None:
    """Transient ends are tried again, here twice; what was done is kept on the run's branch."""
    stage.add(command, max_retries=2)
    summary = stage.drain()
    task = stage.task()
    assert (task["state"], task["code"]) == ("failed", code)
    assert words in task["error"]
    assert [run["state"] for run in stage.runs()] == ["failed"] * runs
    assert (summary.failed, summary.all_completed) == (1, False)
    if "partly" in command:
        assert stage.on_branch("b.txt") == "partly"
        assert stage.merged("b.txt") is None


def test_a_later_attempt_succeeds_and_is_told_of_the_first(stage: Stage) -> None:
    stage.add('echo $ORCHESTRION_ATTEMPT > n.txt; cat "$ORCHESTRION_BRIEF"; test $ORCHESTRION_ATTEMPT = 2 || exit 75')
    assert stage.drain().all_completed
    assert stage.merged("n.txt") == "2\n"
    brief = "\n".join(stage.lines("R2"))
    assert "R1" in brief
    assert "agent_tempfail" in brief
    assert "orchestrion/run/R1" in brief


# -- checks and further goes ------------------------------------------------------------------------


def test_a_failed_check_gives_another_go_in_the_same_workspace(stage: Stage) -> None:
    agent = (
        'pwd; cat "$ORCHESTRION_BRIEF"; echo go $ORCHESTRION_GO >> gos.txt; test $ORCHESTRION_GO = 1 || echo y > b.txt'
    )
    stage.add(agent, checks=("test -f b.txt || { echo where is b; exit 1; }",))
    assert stage.drain().all_completed
    assert len(stage.runs()) == 1
    assert stage.task()["retries"] == 0
    assert stage.merged("gos.txt") == "go 1\ngo 2\n"
    lines = stage.lines()
    workspace = str(stage.workspace())
    assert lines.count(workspace) == 2
    first, second = "\n".join(lines).split(workspace)[1:]
    assert "where is b" not in first.replace("echo where is b", "")
    assert "where is b\n```" in second
    assert [(check["go"], check["exit_code"]) for check in stage.run()["checks"]] == [(1, 1), (2, 0)]


def test_further_goes_are_bounded_and_cost_no_retry(stage: Stage) -> None:
    stage.add("echo $ORCHESTRION_GO >> gos.txt", checks=("echo it is wrong; false",))
    stage.drain()
    task = stage.task()
    assert (task["state"], task["code"], task["retries"]) == ("failed", "check_failed", 0)
    assert "it is wrong" in task["error"]
    assert stage.on_branch("gos.txt") == "1\n2\n3"
    assert len(stage.runs()) == 1


def test_named_checks_and_all_failures_are_told(stage: Stage) -> None:
    stage.close()
    stage.open(checks={"unit": "echo unit is red; false"}, run__feedback=0)
    stage.add("true", checks=("unit", "echo lint is red; false", "true"))
    stage.drain()
    assert "unit is red" in stage.task()["error"]
    assert "lint is red" in stage.task()["error"]
    assert [check["exit_code"] for check in stage.run()["checks"]] == [1, 1, 0]


def test_a_check_that_hangs_ends_with_the_run_s_time(stage: Stage) -> None:
    stage.add("true", checks=("sleep 300",), timeout_s=1)
    stage.drain()
    assert stage.task()["state"] == "failed"
    assert stage.task()["code"] == "timed_out"
    assert stage.run()["checks"][0]["exit_code"] == 124


# -- limits, and the end of everything that was started -----------------------------------------------

RUNAWAYS = {
    "deaf": python(DEAF),
    "own session": f"setsid {python(DEAF)} & wait",
    "double fork": f"(setsid {python(DEAF)} &) ; sleep 300",
    "no marker": f"(env -i setsid {python(DEAF)} &) ; sleep 300",
}


@pytest.mark.parametrize("kind", RUNAWAYS)
def test_the_total_limit_ends_the_whole_tree(stage: Stage, kind: str) -> None:
    stage.add(f"echo partly > b.txt; {RUNAWAYS[kind]}", timeout_s=2)
    stage.drain()
    run = stage.run()
    assert (run["state"], run["code"]) == ("timed_out", "timed_out")
    assert "longer than 2 s" in run["reason"]
    assert _gone(_pids(stage))
    assert stage.on_branch("b.txt") == "partly"
    assert stage.task()["retries"] == 0


def test_silence_ends_a_run(stage: Stage) -> None:
    stage.close()
    stage.open(run__stall_s=0.5, run__grace_s=1)
    stage.add("for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done; sleep 300")
    stage.drain()
    run = stage.run()
    assert (run["state"], run["code"]) == ("timed_out", "stalled")
    assert stage.lines() == ["1", "2", "3", "4", "5", "6"]


def test_what_an_agent_leaves_in_the_background_ends_with_it(stage: Stage) -> None:
    stage.add(f"(setsid {python(DEAF)} &) ; sleep 0.5; echo done")
    assert stage.drain().all_completed
    assert _gone(_pids(stage))


def test_a_check_leaves_nothing_running(stage: Stage) -> None:
    stage.add("true", checks=(f"(setsid {python(DEAF)} > pid.log &) ; sleep 0.5; cp pid.log {stage.folder}/pid",))
    assert stage.drain().all_completed
    assert _gone([int((stage.folder / "pid").read_text().split()[1])])


@pytest.mark.parametrize("kind", ["kill", "cancel"])
def test_killed_or_cancelled_it_stops_within_a_second_and_keeps_the_work(stage: Stage, kind: str) -> None:
    stage.add(f"echo partly > b.txt; {RUNAWAYS['double fork']}")
    with stage.worker():
        pids = _await_pids(stage)
        began = time.monotonic()
        if kind == "kill":
            stage.orchestrion.kill("R1", "enough")
        else:
            stage.orchestrion.cancel("T1", "not wanted")
        wait_for(lambda: any("stopped" in line for line in stage.lines(stream="note")), "the supervisor noticed")
        noticed = time.monotonic() - began
        wait_for(lambda: _gone(pids) and not stage.carriers(), "everything is over")
        wait_for(lambda: stage.run()["head_commit"], "the work is kept")
    # The agent is deaf: one second to notice, one of grace, and the machine may be busy.
    assert noticed < 6
    assert stage.on_branch("b.txt") == "partly"
    assert stage.run()["state"] == "killed"
    expected = ("failed", "killed") if kind == "kill" else ("cancelled", "cancelled")
    assert (stage.task()["state"], stage.task()["code"]) == expected


def test_killed_while_a_check_runs(stage: Stage) -> None:
    stage.add("echo b > b.txt", checks=("echo $$; sleep 300",))
    with stage.worker():
        wait_for(lambda: stage.orchestrion.list_runs().items and stage.run()["phase"] == "checking", "it is checked")
        stage.orchestrion.kill("R1")
        wait_for(lambda: not stage.carriers(), "the check is over")
    assert stage.merged("b.txt") is None
    assert stage.on_branch("b.txt") == "b"


def test_a_supervisor_that_is_told_to_stop_gives_the_task_back(stage: Stage) -> None:
    stage.add("echo $ORCHESTRION_ATTEMPT > b.txt; echo on; test $ORCHESTRION_ATTEMPT = 2 || sleep 300")
    with stage.worker() as worker:
        stage.await_lines()
        os.kill(stage.supervisor(), signal.SIGTERM)
        worker.wait(60)
    first, second = stage.runs()
    assert (first["state"], first["code"]) == ("killed", "interrupted")
    assert second["state"] == "succeeded"
    assert stage.on_branch("b.txt", "R1") == "1"
    assert stage.merged("b.txt") == "2\n"


# -- what an agent writes -----------------------------------------------------------------------------


def test_odd_output_is_kept(stage: Stage) -> None:
    program = (
        "import os; w = lambda b: os.write(1, b); w(b'caf\\xc3'); w(b'\\xa9\\n'); w(b'\\xff\\xfe\\n');"
        "w(b'a\\0b\\r\\n');"
        "os.write(2, b'err\\n'); w(b'x' * 100000 + b'\\n'); w(b'half')"
    )
    stage.add(python(program))
    assert stage.drain().all_completed
    lines = stage.lines()
    assert lines[:3] == ["café", "\ufffd\ufffd", "a\0b"]
    assert "".join(lines[3:-1]) == "x" * 100_000
    assert lines[-1] == "half"
    assert stage.lines(stream="err") == ["err"]


def test_a_closed_output_is_no_end(stage: Stage) -> None:
    stage.add("exec >&- 2>&-; sleep 0.5; echo b > b.txt")
    assert stage.drain().all_completed
    assert stage.merged("b.txt") == "b\n"


def test_a_flood_does_not_keep_a_run_from_being_killed(stage: Stage) -> None:
    stage.add("yes")
    log = stage.run_folder() / "log.jsonl"
    with stage.worker():
        wait_for(lambda: log.exists() and log.stat().st_size > 1_000_000, "the flood has come")
        stage.orchestrion.kill("R1")
        wait_for(lambda: not stage.carriers(), "the flood is over")
    first = itertools.islice(stage.orchestrion.log("R1"), 1000)
    assert {line["text"] for line in first if line["stream"] == "out"} == {"y"}


# -- an agent that reports ------------------------------------------------------------------------------


def report(call: str, after: str = "") -> str:
    """A command that calls the use cases as an agent does, from inside its run."""
    program = (
        "import os; from orchestrion import Orchestrator\n"
        "run = os.environ['ORCHESTRION_RUN'].rpartition('/')[2]\n"
        f"with Orchestrator.open() as o: o.{call}\n"
    )
    return f"echo b > b.txt; {python(program)}; {after or 'true'}"


def test_done_in_a_supervised_run_only_leaves_the_summary(stage: Stage) -> None:
    stage.add(report("done(run, 'all well', detail='in detail')"), checks=("test -f b.txt",))
    assert stage.drain().all_completed
    assert stage.task()["summary"] == "all well"
    assert stage.run()["state"] == "succeeded"
    assert stage.orchestrion.artifact("A1")["text"] == "in detail"
    assert stage.merged("b.txt") == "b\n"


def test_done_does_not_excuse_a_failed_check(stage: Stage) -> None:
    stage.add(report("done(run, 'all well')"), checks=("false",))
    stage.drain()
    assert (stage.task()["state"], stage.task()["code"]) == ("failed", "check_failed")


def test_fail_in_a_supervised_run(stage: Stage) -> None:
    stage.add(report("fail(run, 'it cannot be done')"))
    stage.drain()
    task = stage.task()
    assert (task["state"], task["code"], task["error"]) == ("failed", "agent_failed", "it cannot be done")
    assert stage.on_branch("b.txt") == "b"


def test_needs_revision_goes_to_review_and_approve_merges_it(stage: Stage) -> None:
    stage.add(report("done(run, 'please look', next_action='needs_revision')"))
    stage.add("cat b.txt > c.txt", after=["T1"])
    stage.drain()
    assert (stage.task()["state"], stage.task()["code"]) == ("review", "needs_revision")
    assert stage.merged("b.txt") is None
    assert stage.orchestrion.approve("T1")["unblocked"] == ["T2"]
    assert stage.merged("b.txt") == "b\n"
    assert stage.drain().all_completed


def test_blocked_asks_a_question_and_the_answer_starts_it_again(stage: Stage) -> None:
    stage.add(report("done(run, 'which colour?', next_action='blocked')", 'cat "$ORCHESTRION_BRIEF"'))
    stage.drain()
    assert stage.task()["state"] == "blocked"
    assert stage.runs()[0]["state"] == "succeeded"
    stage.orchestrion.open_gate("T1", answer="blue")
    stage.orchestrion.update("T1", command="echo c > c.txt")
    assert stage.drain().all_completed


# -- merging ------------------------------------------------------------------------------------------


def one_after_the_other(stage: Stage, first: str, second: str, **of_the_second: Any) -> None:
    """T1 and T2 start from the same base; T2 ends when T1 is merged."""
    for number, command in ((1, first), (2, second)):
        more = of_the_second if number == 2 else {}
        stage.add(f"while [ ! -f {stage.folder}/go{number} ]; do sleep 0.05; done; {command}", **more)
    with stage.worker() as worker:
        for task in ("T1", "T2"):
            wait_for(lambda task=task: any(run["phase"] == "working" for run in stage.runs(task)), f"{task} works")
        (stage.folder / "go1").touch()
        wait_for(lambda: stage.task("T1")["state"] == "completed", "T1 is merged")
        (stage.folder / "go2").touch()
        worker.wait(60)
    one, two = stage.runs("T1")[0], stage.runs("T2")[0]
    assert one["base_commit"] == two["base_commit"]


def test_a_conflict_goes_to_review_with_the_files_and_is_resolved_on_the_branch(stage: Stage) -> None:
    one_after_the_other(stage, "echo one > a.txt", "echo two > a.txt")
    task, run = stage.task("T2"), stage.runs("T2")[0]["id"]
    assert (task["state"], task["code"]) == ("review", "merge_conflict")
    assert "a.txt" in task["reason"]
    assert stage.merged("a.txt") == "one\n"
    with pytest.raises(MergeConflict) as refused:
        stage.orchestrion.approve("T2")
    assert refused.value.details["files"] == ["a.txt"]
    resolved = stage.folder / "resolved"
    stage.git("worktree", "add", "-q", resolved, f"orchestrion/run/{run}")
    stage.git("merge", "-q", "-X", "ours", "refs/orchestrion/plans/default", at=resolved)
    stage.orchestrion.approve("T2")
    stage.git("worktree", "remove", resolved)
    assert stage.merged("a.txt") == "two\n"
    assert stage.task("T2")["state"] == "completed"


def test_a_rejected_conflict_is_done_anew_from_the_new_tip(stage: Stage) -> None:
    one_after_the_other(stage, "echo one > a.txt", "echo two > a.txt")
    stage.orchestrion.reject("T2", "start from the new text")
    assert stage.drain().all_completed
    assert stage.merged("a.txt") == "two\n"
    first, second = stage.runs("T2")
    assert first["base_commit"] != second["base_commit"]
    assert "start from the new text" in (stage.run_folder(second["id"]) / "brief.md").read_text()


def test_a_conflict_in_a_file_whose_name_is_no_text(stage: Stage) -> None:
    name = "$(printf 'caf\\351.txt')"
    one_after_the_other(stage, f'echo one > "{name}"', f'echo two > "{name}"')
    assert (stage.task("T2")["state"], stage.task("T2")["code"]) == ("review", "merge_conflict")
    assert "caf\\udce9.txt" in stage.task("T2")["reason"]


def test_the_merged_tree_is_checked_again(stage: Stage) -> None:
    """Each is right alone, together they are wrong: the second is refused and the plan stays as it was."""
    one_after_the_other(stage, "echo b > b.txt", "echo c > c.txt", checks=("echo looked; test ! -f b.txt",))
    task = stage.task("T2")
    assert (task["state"], task["code"]) == ("failed", "merge_recheck_failed")
    assert "looked" in task["error"]
    assert stage.merged("c.txt") is None
    run = stage.runs("T2")[0]["id"]
    assert [check["stage"] for check in stage.run(run)["checks"]] == ["check", "merge"]
    assert stage.on_branch("c.txt", run) == "c"


def test_a_run_that_waits_for_the_merge_queue_loses_no_time_of_its_own(stage: Stage) -> None:
    stage.add("echo b > b.txt", checks=("test ! -f c.txt || sleep 0.2",), timeout_s=4)
    stage.add("true")
    stage.orchestrion.claim("T2")
    with stage.direct() as database:
        database.run("update plans set merge_run = 1")
    with stage.worker() as worker:
        wait_for(lambda: stage.runs() and stage.run("R2")["phase"] == "checking", "R2 waits for the queue")
        time.sleep(4)
        assert stage.run("R2")["state"] == "running"
        stage.orchestrion.release("R1")
        stage.orchestrion.cancel("T2", "only held the queue")
        worker.wait(60)
    assert stage.task()["state"] == "completed"


def test_a_person_s_work_in_the_plan_is_merged_with(stage: Stage) -> None:
    stage.add("echo b > b.txt; while [ ! -f ../go ]; do sleep 0.05; done")
    with stage.worker() as worker:
        wait_for(lambda: stage.orchestrion.list_runs().items and stage.run()["phase"] == "working", "it works")
        there = stage.folder / "there"
        stage.git("worktree", "add", "-q", "--detach", there, "refs/orchestrion/plans/default")
        (there / "mine.txt").write_text("mine\n")
        stage.git("add", ".", at=there)
        stage.git("commit", "-qm", "mine", at=there)
        stage.git("update-ref", "refs/orchestrion/plans/default", "HEAD", at=there)
        stage.git("worktree", "remove", there)
        (stage.workspace().parent / "go").touch()
        worker.wait(60)
    assert (stage.merged("b.txt"), stage.merged("mine.txt")) == ("b\n", "mine\n")


# -- the lease and the database -----------------------------------------------------------------------


def test_the_lease_is_renewed_while_the_agent_works(stage: Stage) -> None:
    stage.close()
    stage.open(lease__run_s=2, run__grace_s=1)
    stage.add("echo on; sleep 4")
    with stage.worker() as worker:
        stage.await_lines()
        first = stage.run()["lease_until"]
        wait_for(lambda: stage.run()["lease_until"] > first, "the lease is renewed")
        worker.wait(60)
    assert [run["state"] for run in stage.runs()] == ["succeeded"]


def test_a_database_that_is_locked_for_a_while(stage: Stage) -> None:
    stage.add("echo on; sleep 1; echo b > b.txt", checks=("true",))
    with stage.worker() as worker:
        stage.await_lines()
        with stage.direct() as database:
            database.run("begin immediate")
            time.sleep(3)
            database.run("rollback")
        worker.wait(60)
    assert [run["state"] for run in stage.runs()] == ["succeeded"]
    assert stage.merged("b.txt") == "b\n"


def test_an_order_that_is_carried_out_twice_is_refused(stage: Stage) -> None:
    stage.add("echo on; sleep 2; echo b > b.txt")
    with stage.worker() as worker:
        stage.await_lines()
        first = stage.supervisor()
        again = _supervise(stage, "R1")
        assert again == 0
        assert stage.supervisor() == first
        worker.wait(60)
    assert [run["state"] for run in stage.runs()] == ["succeeded"]
    assert any("not started" in line for line in stage.lines(stream="note"))


def test_a_supervisor_that_comes_too_late_does_nothing(stage: Stage) -> None:
    stage.add("echo b > b.txt")
    stage.drain()
    assert _supervise(stage, "R1") == 0
    assert stage.run()["state"] == "succeeded"
    assert _supervise(stage, "R99") == 7


def test_a_person_cannot_report_for_a_run_that_is_over(stage: Stage) -> None:
    stage.add("true")
    stage.drain()
    with pytest.raises(Conflict):
        stage.orchestrion.done("R1", "me too")


def test_a_full_disk_is_transient(stage: Stage) -> None:
    """Whatever is written to the log cannot be."""
    stage.add("echo b", max_retries=0)
    with full_file(stage.run_folder() / "log.jsonl", stage.folder / "disk"):
        stage.drain()
    assert stage.task()["state"] == "failed"
    assert stage.task()["code"] == "disk_full"


def test_killed_between_two_looks(stage: Stage) -> None:
    """Its user kills the run just when the agent ends: the supervisor learns of it when it wants to write."""
    program = "from orchestrion import Orchestrator\nwith Orchestrator.open() as o: o.kill('R1', 'no use')\n"
    stage.add(f"echo b > b.txt; env -u ORCHESTRION_RUN sh -c {shlex.quote(python(program))}")
    stage.drain()
    assert (stage.run()["state"], stage.task()["code"]) == ("killed", "killed")
    assert stage.on_branch("b.txt") == "b"
    assert stage.merged("b.txt") is None


def test_a_file_that_git_cannot_take_stays_in_the_workspace(stage: Stage) -> None:
    stage.add("echo b > b.txt; echo c > git~1; echo on; sleep 300")
    with stage.worker() as worker:
        stage.await_lines()
        stage.orchestrion.kill("R1")
        worker.wait(60)
    assert (stage.workspace() / "git~1").read_text() == "c\n"
    assert stage.on_branch("b.txt") == "b"
    (remark,) = stage.run()["remarks"]
    assert (remark["code"], "git~1" in remark["message"]) == ("left_uncommitted", True)


def test_a_workspace_that_was_broken_by_its_agent(stage: Stage) -> None:
    stage.add("rm -rf .git; echo b > b.txt", max_retries=0)
    stage.drain()
    assert (stage.task()["state"], stage.task()["code"]) == ("failed", "workspace_broken")
    assert (stage.workspace() / "b.txt").exists()
    # What was made is safe all the same.
    assert stage.on_branch("b.txt") == "b"


BENT = {
    "what is written all the time": "rm -f steps processes && mkfifo steps processes",
    "the evidence": "rm -rf evidence && mkfifo evidence",
    "the evidence, by a link": "rm -rf evidence && mkdir ../../elsewhere && ln -s ../../elsewhere evidence",
    "the brief": "rm brief.md && ln -s /dev/zero brief.md",
    "all of it": "cd .. && rm -rf R1 && mkfifo R1",
    "all of it, by a link": "cd .. && mv R1 ../elsewhere && ln -s ../elsewhere R1",
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT)
def test_a_run_that_bends_its_own_folder_ends_and_gives_its_slot_back(stage: Stage, bend: str) -> None:
    stage.open(slots__host=1, run__feedback=1)
    stage.add(f"(cd $(dirname $ORCHESTRION_BRIEF) && {bend}) && sleep 1 & sleep 1", checks=("false",), timeout_s=25)
    stage.add("true")
    with stage.worker() as worker:
        worker.wait(60)
    assert stage.task("T2")["state"] == "completed"
    assert (stage.run()["state"], stage.run()["code"]) == ("failed", "run_folder_bent")
    assert stage.task()["state"] == "failed"
    assert not [*(stage.orchestrion.project.store_dir / "elsewhere").glob("**/*-*-*.log")]


@pytest.mark.parametrize(
    "bend",
    [
        "rm -f log.jsonl order.json settle.lock && mkfifo log.jsonl order.json settle.lock",
        "echo garbage > order.json; echo '{}' > log.jsonl",
        "echo '{}' > order.json",
        "echo '[]' > order.json",
    ],
)
def test_a_run_whose_supervisor_died_over_a_bent_folder_is_settled(stage: Stage, bend: str) -> None:
    stage.add(f"(cd $(dirname $ORCHESTRION_BRIEF) && {bend}); touch bent; sleep 300", max_retries=0)
    with stage.worker() as worker:
        wait_for(
            lambda: stage.runs() and stage.run()["workspace"] and (stage.workspace() / "bent").exists(), "it is bent"
        )
        os.kill(stage.supervisor(), signal.SIGKILL)
        wait_for(lambda: stage.run()["ended_at"], "it is settled")
        worker.wait(60)
    assert stage.run()["state"] == "lost"


#: What somebody may put in the place of a file of a run -> how it is told.
BENT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "this is no plain file"),
    "endless": (lambda file: file.symlink_to("/dev/zero"), "this is no plain file"),
    "a folder": (lambda file: file.mkdir(), "this is no plain file"),
}


@pytest.mark.parametrize("kind", BENT)
def test_reading_of_a_run_whose_folder_was_bent_waits_for_nothing_and_shows_the_rest(stage: Stage, kind: str) -> None:
    bend, told = BENT[kind]
    stage.add("true")
    stage.drain()
    for file in (stage.run_folder() / name for name in ("log.jsonl", "steps", "order.json")):
        file.unlink()
        bend(file)
    for command in ("log", "debug"):
        asked = [sys.executable, "-m", "orchestrion", command, "R1"]
        shown = subprocess.run(
            asked, cwd=stage.root, env=stage.environ, timeout=PATIENCE_S, capture_output=True, text=True, check=True
        ).stdout
        assert f"run_folder_bent: {told}" in shown
    one = stage.orchestrion
    found = one.debug("R1")
    assert [line.rpartition("/")[2] for line in found["bent"]] == ["log.jsonl", "order.json", "steps"]
    assert (found["run"]["state"], found["order"], found["steps"]) == ("succeeded", None, [])
    assert any(event["kind"] == "run.succeeded" for event in found["journal"])
    page, tail, numbered = one.log_page("R1"), one.log_tail("R1"), one.log_lines("R1", 0, 10)
    for lines in (page["lines"], tail["lines"], numbered.lines):
        [line] = lines
        assert line["text"].startswith(f"run_folder_bent: {told}")
    assert not tail["more"]
    assert one.log_page("R1", page["next_offset"])["lines"] == one.log_lines("R1", numbered.next, 10).lines == []
    assert one.reconcile()["mended"] == []


def test_what_an_agent_wrote_into_the_files_of_its_run_is_not_believed(stage: Stage) -> None:
    stage.add("true")
    stage.drain()
    folder = stage.run_folder()
    (folder / "order.json").write_text("[" * 100_000)
    (folder / "steps").write_text("9" * 30 + " forged\n\u00b2 forged\n")
    with (folder / "log.jsonl").open("a") as log:
        for line in ({"stream": "note"}, {"at": "now", "stream": "out", "text": ""}, {"at": 1, "text": "x"}):
            log.write(json.dumps(line) + "\n")
        log.write(json.dumps({"at": 10**30, "stream": "out", "text": "x"}) + "\n" + "[" * 100_000 + "\n")
    (folder / "away").symlink_to("/")
    found = stage.orchestrion.debug("R1")
    assert [line.rpartition("/")[2] for line in found["bent"]] == ["order.json"]
    assert found["steps"] == []
    assert found["files"]["away"] == 1
    assert all(line["stream"] in ("note", "go", "out") for line in stage.orchestrion.log("R1"))
    moved = folder.rename(folder.with_name("moved"))
    folder.symlink_to("/")
    assert stage.orchestrion.debug("R1")["files"] == {}
    folder.unlink()
    moved.rename(folder)


def test_a_deleted_project_ends_its_runs(stage: Stage) -> None:
    stage.open(lease__run_s=8, run__grace_s=1)
    stage.add("echo on; sleep 300")
    with stage.worker():
        stage.await_lines()
        pid = stage.supervisor()
        gone = stage.folder / "gone"
        (stage.root / ".git" / "orchestrion" / "runs").rename(gone)
        wait_for(lambda: not Path(f"/proc/{pid}").exists() or not stage.carriers(), "its agent is stopped")
        gone.rename(stage.root / ".git" / "orchestrion" / "runs")


def test_a_store_that_is_put_back_within_the_lease_costs_nothing(stage: Stage) -> None:
    """Its agent ends meanwhile; and nothing is made where the store was, or it could not be put back."""
    go = stage.folder / "go"
    stage.add(f"echo pid $$; while ! test -f {go}; do sleep 0.1; done; echo b > b.txt", checks=("true",))
    store, away = stage.root / ".git" / "orchestrion", stage.folder / "away"
    with stage.worker() as worker:
        pids = _await_pids(stage)
        store.rename(away)
        log = away / "runs" / "R1" / "log.jsonl"
        wait_for(lambda: "its folder is away" in log.read_text(), "its supervisor misses it")
        go.touch()
        wait_for(lambda: _gone(pids), "its agent ended")
        assert not store.exists()
        away.rename(store)
        assert worker.wait(60) == 0
    assert [run["state"] for run in stage.runs()] == ["succeeded"]
    assert stage.merged("b.txt") == "b\n"
    assert store.stat().st_mode & 0o777 == 0o700


#: An agent that goes on, one of which new processes are written down all the time, and one that ends just then.
@pytest.mark.parametrize("agent", ["sleep 300", "while :; do sleep 0.1; done", "read go < go; mv project moved"])
def test_a_supervisor_ends_when_its_project_was_moved_for_longer_than_its_lease(stage: Stage, agent: str) -> None:
    stage.open(lease__run_s=8, run__grace_s=1)
    stage.add(f"echo pid $$; test $ORCHESTRION_ATTEMPT != 1 || {{ cd {stage.folder}; {agent}; }}")
    moved, go = stage.folder / "moved", stage.folder / "go"
    os.mkfifo(go)
    with stage.worker():
        pids = [*_await_pids(stage), stage.supervisor()]
        if "mv" in agent:
            go.write_text("go\n")
        else:
            stage.root.rename(moved)
        wait_for(lambda: _ended(pids), "all of it has ended")
    with Orchestrator.open(moved, environ=stage.environ) as there:
        there.work(drain=True)
        assert [run.as_json()["state"] for run in reversed(there.list_runs().items)] == ["lost", "succeeded"]
    moved.rename(stage.root)


@pytest.mark.parametrize(
    ("settle", "becomes"),
    [
        (lambda there: there.work(drain=True), "lost"),
        (lambda there: there.cleanup_stale_locks(0), "lost"),
        (lambda there: there.kill("R1"), "killed"),
    ],
    ids=["work", "cleanup", "kill"],
)
def test_a_supervisor_that_was_left_behind_keeps_no_run(
    stage: Stage, settle: Callable[[Orchestrator], object], becomes: str
) -> None:
    """It does not end by itself, for it hangs."""
    stage.open(lease__run_s=2, run__grace_s=1)
    stage.add("echo on; test $ORCHESTRION_ATTEMPT != 1 || sleep 300")
    moved = stage.folder / "moved"
    with stage.worker() as worker:
        stage.await_lines()
        worker.kill()
        pid = stage.supervisor()
        stage.suspend(pid)
    stage.root.rename(moved)
    with Orchestrator.open(moved, environ=stage.environ) as there:

        def is_over() -> bool:
            run = there.store.read(lambda tx: tx.the("run", id=1))
            return bool(run["lease_until"] <= run["now"])

        wait_for(is_over, "its lease is over")
        settle(there)
        assert there.run("R1").as_json()["state"] == becomes
    assert _ended([pid])
    moved.rename(stage.root)


def test_a_supervisor_of_a_project_that_is_reached_by_another_path_is_left_alone(stage: Stage) -> None:
    """Its lease is over, for the machine slept: it goes on when it wakes."""
    stage.open(lease__run_s=2)
    stage.add("echo on; sleep 1")
    link = stage.folder / "link"
    link.symlink_to(stage.root)
    with stage.worker() as worker:
        stage.await_lines()
        pid = stage.supervisor()
        stage.suspend(pid)
        wait_for(lambda: stage.orchestrion.store.read(reap.expired), "its lease is over")
        with Orchestrator.open(link, environ=stage.environ) as there:
            there.cleanup_stale_locks(0)
        os.kill(pid, signal.SIGCONT)
        assert worker.wait(60) == 0
    assert [run["state"] for run in stage.runs()] == ["succeeded"]


def test_chance_may_lengthen_a_wait(stage: Stage) -> None:
    stage.close()
    stage.open(retry__jitter=1)
    stage.add("exit 75", max_retries=1, retry_delay_s=0.2)
    stage.drain()
    assert len(stage.runs()) == 2


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_supervisor_loads_no_openssl_of_python(stage: Stage, request: pytest.FixtureRequest, database: str) -> None:
    """A quarter of what it would hold. The check looks, when the agent's work is committed and measured."""
    url = request.getfixturevalue("postgres").new() if database == "postgres" else ""
    told = {"ORCHESTRION_DB": url} if url else {}
    loaded = stage.folder / "loaded"
    with Orchestrator.open(stage.root, db=url or None) as one:
        one.add("looks", command="echo b > b.txt", checks=(f"grep -o '/[^/]*[.]so' /proc/$PPID/maps > {loaded}",))
    with stage.worker(**told) as worker:
        assert worker.wait(60) == 0
    modules = set(loaded.read_text().split())
    assert any("libc.so" in module for module in modules)
    assert not [module for module in modules if module.startswith(("/_ssl.", "/_hashlib."))], modules


# -- a database that goes away: PostgreSQL, so that it can ---------------------------------------------


@pytest.mark.parametrize(("away_s", "runs"), [(1, ["succeeded"]), (6, ["lost", "succeeded"])])
def test_a_database_that_is_away(stage: Stage, request: pytest.FixtureRequest, away_s: float, runs: list[str]) -> None:
    """Within the lease nothing happens; before the lease is over the agent is stopped, and the task done again."""
    server = request.getfixturevalue("postgres")
    url = server.new()
    database = url.partition("?")[0].rpartition("/")[2]
    stage.close()
    stage.open(lease__run_s=8, run__grace_s=1)
    file = stage.folder / "on"
    wait = f"test -f {file} || {{ touch {file}; sleep {away_s + 2}; }}"
    with Orchestrator.open(stage.root, db=url) as one:
        one.add("works on", command=f"echo b > b.txt; {wait}; echo $ORCHESTRION_ATTEMPT > n.txt")
    with stage.worker(ORCHESTRION_DB=url) as worker:
        wait_for(file.exists, "the agent works")
        server.shut(database)
        time.sleep(away_s)
        server.admit(database)
        assert worker.wait(60) == 0
    with Orchestrator.open(stage.root, db=url) as one:
        assert [run.as_json()["state"] for run in reversed(one.list_runs().items)] == runs
    assert stage.merged("n.txt") == f"{len(runs)}\n"
    assert stage.on_branch("b.txt") == "b"


# -- helpers -----------------------------------------------------------------------------------------


def _supervise(stage: Stage, run: str) -> int:
    command = [sys.executable, "-m", "orchestrion", "supervise", run]
    return subprocess.run(command, cwd=stage.root, env=stage.environ, check=False, capture_output=True).returncode


def _pids(stage: Stage) -> list[int]:
    return [int(line.split()[1]) for line in stage.lines() if line.startswith("pid ")]


def _await_pids(stage: Stage) -> list[int]:
    stage.await_lines()
    return list(wait_for(lambda: _pids(stage), "the agent said its pid"))


def _ended(pids: list[int]) -> bool:
    """Whether all are over, reaped or not."""
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def _gone(pids: list[int]) -> bool:
    assert pids
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)
