"""The use cases as a door calls them, from end to end, on both databases: real git, real processes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import (
    AlreadyTaken,
    Conflict,
    CycleRefused,
    IllegalMove,
    InvalidInput,
    MergeConflict,
    NotFound,
    NothingReady,
    PlanRefused,
    StaleRun,
)
from orchestrion.orchestrator.asking import Question

pytestmark = pytest.mark.long

PLAN = b"""
plan: greetings
defaults: {max_retries: 2, retry_delay: 0}
tasks:
  - key: base
    title: Write the base
    run: echo base > base.txt
    check: test -s base.txt
  - key: left
    title: Write the left
    after: [base]
    run: cat base.txt > left.txt
  - key: right
    title: Write the right
    after: [{task: base, kind: data}]
    run: cat base.txt > right.txt
  - key: end
    title: Join both
    after: [left, right]
    run: cat left.txt right.txt > end.txt
    check: test "$(wc -l < end.txt)" -eq 2
"""


def git(root: Path, *arguments: str, check: bool = True) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    return subprocess.run(
        ["git", "-C", str(root), *who, *arguments], check=check, capture_output=True, text=True
    ).stdout.strip()


def states(orchestrion: Orchestrator) -> dict[str, str]:
    return {task.as_json()["id"]: task.state for task in orchestrion.list_tasks(limit=100).items}  # type: ignore[union-attr]


def test_a_plan_becomes_merged_work(orchestrion: Orchestrator, project: Path) -> None:
    applied = orchestrion.apply(PLAN, "plan.yaml")
    assert applied["created"] == 4
    summary = orchestrion.work(slots=3, drain=True)
    assert summary.all_completed
    assert summary.completed == 4
    assert git(project, "show", "orchestrion/greetings:end.txt") == "base\nbase"
    assert git(project, "rev-parse", "main") != git(project, "rev-parse", "orchestrion/greetings")
    landed = orchestrion.land("greetings")
    assert landed["landed"]
    assert (project / "end.txt").read_text() == "base\nbase\n"


def test_a_plan_can_be_applied_again(orchestrion: Orchestrator) -> None:
    first = orchestrion.apply(PLAN, "plan.yaml")
    again = orchestrion.apply(PLAN, "plan.yaml")
    assert again["tasks"] == first["tasks"]
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 0, 4)
    changed = orchestrion.apply(PLAN.replace(b"Join both", b"Join all"), "plan.yaml")
    assert (changed["updated"], changed["unchanged"]) == (1, 3)
    shorter = PLAN[: PLAN.index(b"  - key: end")]
    assert orchestrion.apply(shorter, "plan.yaml")["missing"] == ["end"]


def test_a_rehearsal_leaves_nothing(orchestrion: Orchestrator) -> None:
    rehearsed = orchestrion.apply(PLAN, "plan.yaml", dry_run=True)
    assert rehearsed["created"] == 4
    assert orchestrion.list_tasks().total == 0
    assert orchestrion.events() == []


def test_a_refused_plan_leaves_nothing(orchestrion: Orchestrator) -> None:
    with pytest.raises(PlanRefused) as refused:
        orchestrion.apply(PLAN.replace(b"[base]", b"[bass]"), "plan.yaml")
    assert refused.value.details["line"]
    assert orchestrion.list_tasks().total == 0


def test_a_client_claims_and_reports(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("First", checks=("test -s found.txt",))
    orchestrion.add("Second", after=["T1"])
    claimed = orchestrion.claim()
    assert claimed["task"]["id"] == "T1"
    assert "First" in claimed["brief"]
    with pytest.raises(NothingReady):
        orchestrion.claim()
    with pytest.raises(AlreadyTaken):
        orchestrion.claim("T1")
    with pytest.raises(Conflict) as unchecked:
        orchestrion.done(claimed["run"], "it is done")
    assert unchecked.value.code == "check_failed"
    (project / "found.txt").write_text("here\n")
    done = orchestrion.done(claimed["run"], "it is done", detail="how it was done", files=["found.txt"])
    assert done["unblocked"] == ["T2"]
    assert done["task"]["state"] == "completed"
    assert orchestrion.artifact("A1")["text"] == "how it was done"
    with pytest.raises(StaleRun):
        orchestrion.done(claimed["run"], "again")


def test_named_checks_are_those_of_now(orchestrion: Orchestrator) -> None:
    """For who reports, for doors that take names alone, and for a worker; nonsense there stops none that is at work."""
    file = orchestrion.project.root / ".orchestrion" / "config.yaml"
    file.parent.mkdir(exist_ok=True)
    server = orchestrion.as_(orchestrion.caller._replace(may_run_commands=False))
    with pytest.raises(InvalidInput, match="no shell commands"):
        server.add("a", checks=["unit"])
    file.write_text("checks: {unit: 'true'}\n")
    server.add("a", checks=["unit"])
    run = orchestrion.claim("T1")["run"]
    file.write_text("checks: {unit: echo anew; exit 1}\n")
    with pytest.raises(Conflict, match="the check `echo anew; exit 1` failed"):
        orchestrion.done(run, "s")
    orchestrion.release(run)
    file.write_text("checks: [")
    with pytest.raises(InvalidInput) as refused:
        server.add("b", checks=["unit"])
    assert refused.value.code == "invalid_config"


def test_a_worker_takes_the_checks_of_now(orchestrion: Orchestrator) -> None:
    file = orchestrion.project.root / ".orchestrion" / "config.yaml"
    file.parent.mkdir(exist_ok=True)
    orchestrion.add("a", command="true", checks=["unit"])
    file.write_text("checks: {unit: 'true'}\n")
    assert orchestrion.work(slots=1, drain=True).all_completed
    orchestrion.add("b", command="true", checks=["true"])
    file.write_text("checks: [")
    assert orchestrion.work(slots=1, drain=True).all_completed


def test_work_that_is_not_there_goes_to_review(orchestrion: Orchestrator) -> None:
    orchestrion.add("First")
    run = orchestrion.claim()["run"]
    assert orchestrion.done(run, "said", files=["nowhere.txt"])["task"]["state"] == "review"
    assert orchestrion.approve("T1")["state"] == "completed"
    with pytest.raises(IllegalMove):
        orchestrion.approve("T1")


def test_what_a_client_wants_next(orchestrion: Orchestrator) -> None:
    for title in ("One", "Two", "Three", "Four"):
        orchestrion.add(title)
    one = orchestrion.done(orchestrion.claim()["run"], "done", next_action="continue")
    assert one["next"]["id"] == "T2"
    two = orchestrion.done(orchestrion.claim()["run"], "look at it", next_action="needs_revision")
    assert two["task"]["state"] == "review"
    assert orchestrion.reject("T2", "the wording").state == "ready"
    three = orchestrion.claim("T3")
    assert orchestrion.done(three["run"], "which colour?", next_action="blocked")["task"]["state"] == "blocked"
    assert orchestrion.why("T3")["reasons"][0]["kind"] == "gate"
    assert orchestrion.open_gate("T3", answer="blue").state == "ready"
    assert "the wording" in orchestrion.claim("T2")["brief"]


def test_of_several_gates_one_of_the_task_s_own_is_advised(orchestrion: Orchestrator) -> None:
    orchestrion.add("a task")
    for gate in ("approval", "question"):
        orchestrion.add_gate("T1", gate)
    with pytest.raises(Conflict, match="T1 waits for 2 gates: G1, G2") as refused:
        orchestrion.open_gate("T1")
    assert (refused.value.code, refused.value.hint) == (
        "several_gates",
        "name the one that is meant: `orchestrion gate open G1`",
    )


@pytest.mark.parametrize("file", ["../outside", "/etc/passwd", "a\0b", "", "link/passwd"])
def test_files_outside_the_project_are_refused(orchestrion: Orchestrator, project: Path, file: str) -> None:
    assert (project / "link").readlink() == Path("/etc")
    orchestrion.add("First")
    run = orchestrion.claim()["run"]
    with pytest.raises(InvalidInput):
        orchestrion.done(run, "done", files=[file])
    assert orchestrion.run(run).row["state"] == "running"


def test_a_conflict_goes_to_review_and_is_resolved_on_the_branch(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add(
        "One", command="until [ -e go ]; do sleep 0.02; done; echo one > same.txt".replace("go", "../../go")
    )
    orchestrion.add("Two", command="echo two > same.txt; touch ../../go")
    assert not orchestrion.work(slots=2, drain=True).all_completed
    (reviewed,) = [task for task, state in states(orchestrion).items() if state == "review"]
    shown = orchestrion.task(reviewed)
    assert "same.txt" in shown.row["reason"]
    with pytest.raises(MergeConflict) as conflict:
        orchestrion.approve(reviewed)
    assert conflict.value.details["files"] == ["same.txt"]
    branch = orchestrion.run(f"R{shown.row['work_run']}").row["branch"]
    resolve(project, branch)
    assert orchestrion.approve(reviewed)["state"] == "completed"
    assert git(project, "show", "orchestrion/default:same.txt") == "one and two"


def resolve(project: Path, branch: str) -> None:
    folder = project.parent / "resolving"
    git(project, "worktree", "add", "-q", str(folder), branch)
    git(folder, "merge", "-q", "orchestrion/default", check=False)
    (folder / "same.txt").write_text("one and two\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "resolved")


def test_failures_are_tried_again_or_given_up(orchestrion: Orchestrator) -> None:
    orchestrion.add("Again", command='test "$ORCHESTRION_ATTEMPT" = 2 || exit 75', retry_delay_s=0.0)
    orchestrion.add("Never", command="exit 1")
    orchestrion.add("Instead", after_failure=["T2"], command="true")
    orchestrion.add("Only then", after=["T2"], command="true")
    summary = orchestrion.work(slots=2, drain=True)
    assert states(orchestrion) == {"T1": "completed", "T2": "failed", "T3": "completed", "T4": "blocked"}
    assert (summary.failed, summary.blocked) == (1, 1)
    assert [run.row["code"] for run in orchestrion.list_runs(task="T1").items] == [None, "agent_tempfail"]
    orchestrion.update("T2", command="true")
    assert orchestrion.retry("T2").state == "ready"
    assert orchestrion.work(slots=2, drain=True).completed == 2
    assert set(states(orchestrion).values()) == {"completed"}


def test_killing_and_cancelling(orchestrion: Orchestrator) -> None:
    orchestrion.add("One")
    orchestrion.add("Two", after=["T1"])
    run = orchestrion.claim()["run"]
    assert orchestrion.kill(run).row["state"] == "killed"
    assert states(orchestrion) == {"T1": "failed", "T2": "blocked"}
    with pytest.raises(StaleRun):
        orchestrion.heartbeat(run)
    orchestrion.retry("T1")
    again = orchestrion.claim("T1")["run"]
    assert orchestrion.cancel("T1", "not wanted", dependents="cancel").state == "cancelled"
    assert orchestrion.run(again).row["state"] == "killed"
    assert states(orchestrion) == {"T1": "cancelled", "T2": "cancelled"}


@pytest.mark.parametrize(
    "value",
    [{"due_at": "2027-01-01"}, {"priority": "5"}, {"effort_min": "2h"}, {"context": {"n": float("inf")}}],
)
def test_a_value_of_another_kind_is_refused_in_words(orchestrion: Orchestrator, value: Any) -> None:
    with pytest.raises(InvalidInput, match="unknown complexity 'huge'"):
        orchestrion.add("One", complexity="huge")
    with pytest.raises(InvalidInput) as refused:
        orchestrion.add("One", **value)
    assert refused.value.code.startswith("invalid_")
    orchestrion.add("Two")
    with pytest.raises(InvalidInput):
        orchestrion.update("T1", **value)


def test_the_shape_of_the_graph(orchestrion: Orchestrator) -> None:
    orchestrion.add("Parent")
    orchestrion.add("Child", parent="T1")
    orchestrion.add("Other")
    orchestrion.add_dependency("T1", "T3")
    assert states(orchestrion)["T2"] == "pending"
    with pytest.raises(CycleRefused) as refused:
        orchestrion.add_dependency("T3", "T2")
    assert refused.value.details["cycle"][0] == refused.value.details["cycle"][-1]
    orchestrion.waive_dependency("T1", "T3", "not needed after all")
    assert states(orchestrion)["T2"] == "ready"
    drawn = orchestrion.graph(format="json")
    assert isinstance(drawn, dict)
    assert set(drawn["critical_path"]) <= {"T1", "T2", "T3"}
    for form in ("tree", "mermaid", "dot"):
        assert "Parent" in str(orchestrion.graph(format=form))


def test_the_queue_can_be_paused_and_limited(orchestrion: Orchestrator) -> None:
    orchestrion.add("One", command="true", needs=("gpu",))
    orchestrion.pause()
    assert orchestrion.work(slots=1, drain=True).runs == 0
    assert {"paused"} <= {reason["kind"] for reason in orchestrion.why("T1")["reasons"]}
    orchestrion.resume()
    assert {slot["name"]: slot["free"] for slot in orchestrion.set_slots({"resource:gpu": 0})} == {"resource:gpu": 0}
    assert orchestrion.work(slots=1, drain=True).runs == 0
    orchestrion.set_slots({"resource:gpu": 1})
    assert orchestrion.work(slots=1, drain=True).completed == 1
    assert orchestrion.slots()[0]["used"] == 0


def test_two_projects_share_a_database(store_url: str, tmp_path: Path, environ: dict[str, str]) -> None:
    opened = []
    for name in ("one", "two"):
        root = tmp_path / name
        (root / ".orchestrion").mkdir(parents=True)
        opened.append(Orchestrator.open(root, db=store_url, environ=environ))
    one, two = opened
    one.add("Mine")
    two.add("Theirs")
    assert [task.row["title"] for task in one.list_tasks().items] == ["Mine"]  # type: ignore[union-attr]
    with pytest.raises(NotFound):
        two.task("T1")
    assert two.claim()["task"]["title"] == "Theirs"
    with pytest.raises(NothingReady):
        two.claim()
    one.close()
    two.close()


def test_stale_locks_are_cleaned_up(orchestrion: Orchestrator) -> None:
    orchestrion.add("One")
    orchestrion.claim(lease_s=86_400)
    assert orchestrion.cleanup_stale_locks(max_age_seconds=3600) == 0
    assert orchestrion.cleanup_stale_locks(max_age_seconds=0) == 1
    assert states(orchestrion) == {"T1": "ready"}
    with pytest.raises(InvalidInput):
        orchestrion.cleanup_stale_locks(max_age_seconds=-1)


@pytest.mark.parametrize("name", ["T0", "R1", "", "T1;drop", "../T1", "T" + "9" * 30, "T1\0"])
def test_names_that_are_none(orchestrion: Orchestrator, name: str) -> None:
    with pytest.raises(InvalidInput):
        orchestrion.task(name)


def test_a_child_reopens_a_completed_parent_only_if_that_is_meant(orchestrion: Orchestrator) -> None:
    orchestrion.add("Top")
    orchestrion.add("Parent", parent="T1", command="true")
    orchestrion.work(slots=1, drain=True)
    assert states(orchestrion) == {"T1": "completed", "T2": "completed"}
    with pytest.raises(Conflict) as refused:
        orchestrion.add("Child", parent="T2")
    assert (refused.value.code, refused.value.details["reopens"]) == ("parent_completed", ["T2", "T1"])
    orchestrion.add("Done before", parent="T2", completed=True)
    orchestrion.add("Elsewhere")
    with pytest.raises(Conflict):
        orchestrion.move("T4", "T2")
    assert states(orchestrion) == {"T1": "completed", "T2": "completed", "T3": "completed", "T4": "ready"}
    assert orchestrion.completed_above("T2") == ["T2", "T1"]
    orchestrion.move("T4", "T2", reopen=True)
    orchestrion.add("Child", parent="T2", reopen=True)
    assert states(orchestrion) == dict.fromkeys(("T1", "T2"), "pending") | {
        "T3": "completed",
        "T4": "ready",
        "T5": "ready",
    }


def test_a_plan_says_which_tasks_it_reopens(orchestrion: Orchestrator) -> None:
    plan = b"plan: p\ntasks:\n  - key: top\n    title: Top\n    children:\n      - {key: a, title: A, run: 'true'}\n"
    orchestrion.apply(plan, "plan.yaml")
    orchestrion.work(slots=1, drain=True)
    assert orchestrion.apply(plan, "plan.yaml")["reopened"] == []
    more = plan + b"      - {key: b, title: B, run: 'true'}\n"
    assert orchestrion.apply(more, "plan.yaml", dry_run=True)["reopened"] == ["T1"]
    assert orchestrion.apply(more, "plan.yaml")["reopened"] == ["T1"]
    assert states(orchestrion)["T1"] == "pending"


def test_an_agent_that_nobody_knows_is_refused_from_every_door(orchestrion: Orchestrator) -> None:
    orchestrion.add("One")
    plan = b"plan: p\ntasks:\n  - title: A\n    agent: claud\n"
    for refuse in (
        lambda: orchestrion.add("Two", agent="claud"),
        lambda: orchestrion.update("T1", agent="claud"),
        lambda: orchestrion.start_run("T1", agent="claud"),
        lambda: orchestrion.apply(plan, "plan.yaml"),
    ):
        with pytest.raises(NotFound) as refused:
            refuse()
        assert (refused.value.code, refused.value.hint) == ("no_agent", "did you mean claude?")
    assert refused.value.message.startswith("line 3: ")
    assert orchestrion.list_tasks().total == 1


def test_a_drain_speaks_of_what_it_could_work_on(orchestrion: Orchestrator) -> None:
    orchestrion.add("Fails", command="exit 1", plan="old", max_retries=0)
    orchestrion.add("Behind it", command="true", plan="old", after=["T1"])
    orchestrion.add("Behind that", command="true", plan="old", after=["T2"])
    first = orchestrion.work(slots=2, drain=True)
    assert (first.completed, first.failed, first.blocked) == (0, 1, 2)
    orchestrion.add("Unwanted", command="true")
    orchestrion.cancel("T4", "not needed")
    orchestrion.add("New", command="true")
    second = orchestrion.work(slots=2, drain=True)
    assert (second.completed, second.failed, second.cancelled, second.blocked) == (1, 0, 0, 0)
    assert second.all_completed
    assert second.runs == 1
    nothing = orchestrion.work(slots=2, drain=True)
    assert (nothing.completed, nothing.all_completed) == (0, True)


def test_a_drain_of_one_plan(orchestrion: Orchestrator) -> None:
    orchestrion.add("One", command="true", plan="one")
    orchestrion.add("Later", command="true", plan="two", retry_delay_s=3600.0)
    orchestrion.add("Two", command="exit 75", plan="two", retry_delay_s=3600.0, after=["T1"])
    done = orchestrion.work(slots=2, drain=True, plan="one")
    assert (done.completed, done.blocked, done.runs, done.all_completed) == (1, 0, 1, True)
    assert states(orchestrion) == {"T1": "completed", "T2": "ready", "T3": "ready"}
    with pytest.raises(NotFound):
        orchestrion.work(slots=1, drain=True, plan="three")


def test_a_drain_says_why_nothing_can_be_run(orchestrion: Orchestrator) -> None:
    orchestrion.add("By nobody")
    orchestrion.add("By nobody either")
    waiting = orchestrion.work(slots=1, drain=True).waiting
    assert [one.tasks for one in waiting] == [["T1"], ["T2"]]
    assert "orchestrion update T1 --run COMMAND" in waiting[0].reason
    orchestrion.pause()
    reasons = [one.reason for one in orchestrion.work(slots=1, drain=True).waiting]
    assert any("paused" in reason for reason in reasons)


def test_a_drain_names_what_it_had_to_do_with(orchestrion: Orchestrator) -> None:
    orchestrion.add("Old failure", command="exit 1", plan="old", max_retries=0)
    orchestrion.work(slots=1, drain=True)
    for number in range(25):
        orchestrion.add(f"Bad {number}", plan="new", after_failure=["T1"], command="exit 1", max_retries=0)
    orchestrion.add("Held", plan="new", command="true")
    orchestrion.claim("T27")
    orchestrion.add("Behind it", plan="new", command="true", after=["T27"])
    summary = orchestrion.work(slots=4, drain=True, plan="new")
    assert (summary.failed, summary.blocked, summary.needs_you_total) == (25, 2, 25)
    assert [row["id"] for row in summary.needs_you] == list(range(2, 22))
    assert [(one.tasks, "another worker" in one.reason) for one in summary.waiting] == [(["T27"], True)]
    assert orchestrion.status()["needs_you_total"] == 26


def test_a_question_of_a_client_is_kept_without_secrets(one: Orchestrator) -> None:
    one.add("held")
    one.claim("T1")
    one.done("R1", "may I use ghp_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789?", next_action="blocked")
    assert one.show("T1")["gates"][0]["name"] == "may I use ghp_***?"
    for _ in range(2):  # a new session, and the same again
        named = one.start_session("with ghp_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", external="x")
        assert named["name"] == "with ghp_***"
    assert "ABCDEFGHIJKLMNOP" not in str([one.show("T1"), one.why("T1"), list(one.events(limit=1000))])


@pytest.mark.parametrize("chosen", [{"roles": ["tester"]}, {"tag": "zz"}])
def test_a_task_that_is_named_is_not_chosen_by_anything_else(one: Orchestrator, chosen: dict[str, Any]) -> None:
    one.add("first", role="coder")
    with pytest.raises(InvalidInput) as refused:
        one.claim("T1", **chosen)
    assert refused.value.code == "invalid_parameters"
    assert one.show("T1")["state"] == "ready"


@pytest.mark.parametrize("refuse", [False, True])
def test_a_gate_of_a_cancelled_task_is_not_opened(one: Orchestrator, refuse: bool) -> None:
    one.add("gated")
    one.add_gate("T1", "approval", called="ship it?")
    one.cancel("T1", "no longer wanted")
    with pytest.raises(Conflict) as refused:
        one.open_gate("G1", refuse=refuse)
    assert (refused.value.code, "cancelled" in refused.value.message) == ("task_over", True)


@pytest.mark.parametrize("field", ["role", "parent", "plan", "tag", "type", "search", "cursor"])
def test_an_empty_filter_is_none(orchestrion: Orchestrator, field: str) -> None:
    orchestrion.add("one", role="tester", tags=["a"])
    empty: Any = {field: ""}
    assert orchestrion.list_tasks(**empty).total == 1


@pytest.mark.parametrize("search", ["\0", "a\0b", "\ud800"])
def test_a_search_for_what_is_no_text_is_refused(orchestrion: Orchestrator, search: str) -> None:
    orchestrion.add("one")
    for act in (
        lambda: orchestrion.list_tasks(search=search),
        lambda: orchestrion.ask(Question(search=search)),
        lambda: orchestrion.decisions(search),
        lambda: orchestrion.search(search),
        lambda: orchestrion.touched_files(search=search),
    ):
        with pytest.raises(InvalidInput) as refused:
            act()
        assert refused.value.code == "invalid_text"


def test_a_search_has_bounds_of_its_own(orchestrion: Orchestrator) -> None:
    orchestrion.add("one")
    for search in ("x" * 1000, "_" * 1000, "\U0001f994" * 1000):
        assert orchestrion.list_tasks(search=search).total == 0
    for act in (
        lambda: orchestrion.list_tasks(search="x" * 60_000),
        lambda: orchestrion.ask(Question(search="x" * 60_000)),
        lambda: orchestrion.decisions("x" * 60_000),
        lambda: orchestrion.search("x" * 60_000),
        lambda: orchestrion.touched_files(search="x" * 60_000),
    ):
        with pytest.raises(InvalidInput) as refused:
            act()
        assert refused.value.code == "invalid_search"


def test_a_type_cannot_be_empty(orchestrion: Orchestrator) -> None:
    orchestrion.add("one")
    for act in (lambda: orchestrion.add("two", type=""), lambda: orchestrion.update("T1", type="")):
        with pytest.raises(InvalidInput) as refused:
            act()
        assert refused.value.code == "invalid_type"
