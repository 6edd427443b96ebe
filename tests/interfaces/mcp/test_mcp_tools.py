"""Every tool with every documented parameter, on both databases and over both transports, as any client may call it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tour
from peers import InProcess, Peer, Reply, Site, official

from orchestrion.interfaces.mcp import catalogue, resources
from orchestrion.interfaces.mcp.desk import Seat
from orchestrion.store.sqlite_file import DatabaseFile

pytestmark = pytest.mark.long


class Noting(Peer):
    """Passes calls on, and notes which parameters of which tools were used."""

    def __init__(self, other: Peer) -> None:
        self._other = other
        self.used: set[tuple[str, str]] = set()

    def raw(self, tool: str, given: Mapping[str, Any]) -> tuple[Reply, bool]:
        self.used |= {(tool, "")} | {(tool, name) for name in given}
        return self._other.raw(tool, given)


def test_every_documented_parameter_of_every_tool_works(peer: InProcess, site: Site) -> None:
    noting = Noting(peer)
    tour.work(noting, site)
    tour.older_names(noting)
    tour.runs(noting, site)
    tour.operate(noting, site)
    # Here it is refused: this server is part of the test. Those that restart have a module of their own.
    noting.refused("restart_server", graceful=True, preserve_state=True, timeout=30, reason="manual_request")
    documented = {
        (tool.full_name, param.name)
        for tool in catalogue.TOOLS
        for param in tool.params
        if tool.listed != "hidden" and param.listed != "hidden"
    }
    assert documented | {(tool.full_name, "") for tool in catalogue.TOOLS} <= noting.used


def test_inside_a_run_what_is_offered_is_allowed(site: Site, tmp_path: Path) -> None:
    with site.open() as cases:
        cases.add("held")
        cases.add("next")
        session = cases.start_session("a person's", external="theirs")["id"]
        cases.claim("T1")
        site.environ["ORCHESTRION_RUN"] = f"{cases.store.uuid}/R1"
    other = Site(tmp_path / "other", {key: value for key, value in site.environ.items() if key != "ORCHESTRION_RUN"})
    other.make()
    with InProcess(site) as agent:
        begun = agent.call("initialize_session")
        assert begun["session_initialized"]
        for folder in (other.root, tmp_path):
            assert agent.refused("initialize_session", working_directory=str(folder))["code"] == "not_for_runs"
        assert agent.refused("resume_session", session_id=session)["code"] == "not_for_runs"
        named = {"title": "theirs", "decision": "x", "rationale": "y", "session": session}
        assert agent.refused("record_decision", **named)["code"] == "not_for_runs"
        (site.root / "made.txt").write_text("made")
        assert agent.call("record_decision", title="mine", decision="x", rationale="y")["task"] == "T1"
        [tracked] = agent.call("track_files", files=[{"path": "made.txt"}])["files"]
        assert (tracked["task"], tracked["run"]) == ("T1", "R1")
        assert agent.call("track_files")["total_count"] == 1
        offered = [begun, agent.call("recover_context")]
        reported = agent.call(
            "complete_task", task_id="T1", summary="done", detailed_work="all", next_action="complete", run="R1"
        )
        assert "execute_task" not in str([*offered, reported["next_steps"]])
        assert reported["next_recommended_task"] is None
        for tool, given in (
            ("record_decision", {"title": "late", "decision": "x", "rationale": "y"}),
            ("execute_task", {"task_id": "T1"}),
        ):
            assert agent.refused(tool, **given)["code"] == "stale_run"
        assert agent.call("recover_context", task_id="T1")["context_of"] == "T1"
    site.environ["CLAUDE_CODE_SESSION_ID"] = "theirs"
    with site.open() as cases, InProcess(site) as late:
        assert not late.call("initialize_session", force_new_session=True)["session_initialized"]
        assert cases.session_detail(session)["state"] == "active"


@pytest.mark.parametrize("what", ["initialize_session", "recover_context", "recover_context T1"])
def test_where_one_may_only_read_what_can_be_read_is_told(
    site: Site, what: str, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.open() as cases:
        cases.add("to be found")
        cases.claim("T1")
        (site.root / "made.txt").write_text("made")
        cases.report_files(["made.txt"], task="T1")
    if dialect == "sqlite":
        monkeypatch.setattr(DatabaseFile, "may_be_written", lambda _: False)
    else:
        url = site.environ["ORCHESTRION_DB"]
        site.environ["ORCHESTRION_DB"] = (
            f"{url}{'&' if '?' in url else '?'}options=-c%20default_transaction_read_only%3Don"
        )
    tool, _, task = what.partition(" ")
    with InProcess(site) as reader:
        told = reader.call(tool, **({"task_id": task} if task else {}))
        assert "to be found" in str(told)
        if tool == "initialize_session":
            assert (told["session_initialized"], told["session_id"]) == (False, None)
            assert "no session was recorded" in told["next_steps"][0]
        assert reader.refused("recover_context", handoff="left")["code"] == "store_read_only"


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_official_client_works_over_stdio(site: Site, mode: str) -> None:
    with official(site, mode=mode) as client:
        tour.work(client, site)
        tour.older_names(client)


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_the_official_client_works_over_http(site: Site) -> None:
    with site.http() as house, official(house, mode="legacy") as client:
        tour.work(client, site)
        tour.runs(client, site)


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_client_without_sessions_works_over_http(site: Site) -> None:
    """The newest revision has no session: whoever took a task proves it by naming the run."""
    with site.http() as house, official(house, mode="2026-07-28") as client:
        begun = client.call("initialize_session")
        session = begun["session_id"]
        assert f"session={session}" in begun["next_steps"][0]
        task = client.call("plan_task", title="x", description="y", session=session)["task_id"]
        run = client.call("execute_task", task_id=task, session=session)["run"]
        again = client.call("execute_task", task_id=task, session=session)
        assert (again["run"], again["again"]) == (run, True)
        assert client.refused("execute_task", task_id=task)["code"] == "already_taken"
        done = client.call(
            "complete_task", task_id=task, summary="s", detailed_work="", next_action="complete", run=run
        )
        assert done["task_status"] == "completed"
        assert client.call("session_status", session_id=session)["status"] == "active"


# -- what each word means -------------------------------------------------------------------------


def planned(peer: Peer, **more: Any) -> str:
    return str(peer.call("plan_task", **{"title": "One", "description": "Do it", **more})["task_id"])


def test_every_status_can_be_reached_and_is_found_again(peer: InProcess) -> None:
    for status in catalogue.STATUSES:
        task = planned(peer, title=f"to be {status}")
        if status == "archived":
            assert peer.refused("update_task", task_id=task, status=status)["code"] == "not_settled"
            peer.call("update_task", task_id=task, status="completed")
        said = {} if status == "pending" else {"reason": "so that it is"}
        peer.call("update_task", task_id=task, status=status, **said)
        found = peer.call("query_tasks", status=[status], search_text=f"to be {status}")
        assert [(one["id"], one["status"]) for one in found["tasks"]] == [(task, status)], status


@pytest.mark.parametrize(
    ("said", "status", "state"),
    [
        ("complete", "completed", "completed"),
        ("continue", "completed", "completed"),
        ("needs_revision", "active", "review"),
        ("blocked", "blocked", "blocked"),
    ],
)
def test_next_action_says_what_becomes_of_the_task(peer: InProcess, said: str, status: str, state: str) -> None:
    task = planned(peer)
    peer.call("execute_task", task_id=task)
    done = peer.call("complete_task", task_id=task, summary="s", detailed_work="d", next_action=said)
    assert (done["task_status"], done["state"]) == (status, state)


def test_a_way_that_does_not_exist_is_refused_with_the_state_found(peer: InProcess) -> None:
    task = planned(peer)
    peer.call("cancel_task", task_id=task)
    refused = peer.refused("update_task", task_id=task, status="pending")
    assert refused["code"] == "illegal_move"
    assert "cancelled" in refused["message"]
    assert peer.call("query_tasks", task_id=task)["tasks"][0]["state"] == "cancelled"


def brief_of(peer: InProcess, task: str) -> str:
    return str(peer.call("execute_task", task_id=task, include_brief=True)["brief_text"])


def test_a_text_beside_a_status_is_read_by_who_goes_on(peer: InProcess, site: Site) -> None:
    for status in ("completed", "active", "failed", "in_progress"):
        task = planned(peer)
        peer.call("update_task", task_id=task, status=status)
        peer.call("update_task", task_id=task, status="pending", reason="use blue")
        # Said again, it is said already.
        assert peer.call("update_task", task_id=task, status="pending", reason="use blue")["changes_applied"] == []
        assert "use blue" in brief_of(peer, task), status
    killed = planned(peer)
    peer.call("kill_run", run_id=peer.call("execute_task", task_id=killed)["run"])
    peer.call("update_task", task_id=killed, status="pending", reason="use green")
    taken = peer.call("execute_task", task_id=killed)
    assert taken["feedback"] == "use green"
    begun = planned(peer)
    peer.call("update_task", task_id=begun, status="in_progress", reason="by hand")
    assert "by hand" in peer.call("recover_context", task_id=begun)["text"]
    with site.open() as cases:
        reviewed = planned(peer)
        peer.call("update_task", task_id=reviewed, status="active")
        refused = peer.refused("update_task", task_id=reviewed, status="completed", reason="well done")
        assert refused["code"] == "own_work"
        assert cases.task(reviewed).state == "review"
        with InProcess(site) as other:
            other.seat = Seat("somebody-else", "tester")
            other.call("update_task", task_id=reviewed, status="completed", reason="well done")
        assert "well done" in cases.show(reviewed)["reason"]
        peer.call("update_task", task_id=reviewed, status="archived", reason="not needed here")
        assert "not needed here" in str(cases.events(task=reviewed))


def test_a_text_that_nobody_would_read_is_refused(peer: InProcess) -> None:
    task = planned(peer)
    for given in (
        {"status": "pending"},
        {"title": "Other"},
        {"status": "pending", "title": "Other"},
    ):
        refused = peer.refused("update_task", **{"task_id": task, **given}, reason="use red")
        assert refused["code"] == "reason_unread", given
        assert "`orchestrator_recover_context(task_id=" in refused["hint"]
    found = peer.call("query_tasks", task_id=task)["tasks"][0]
    assert (found["title"], found["state"]) == ("One", "ready")
    peer.call("recover_context", task_id=task, handoff="use red")
    assert "use red" in brief_of(peer, task)


def test_another_question_is_asked_as_well(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    peer.call("update_task", task_id=task, status="blocked", reason="Which colour?")
    again = peer.call("update_task", task_id=task, status="blocked", reason="Which colour?")
    assert again["changes_applied"] == []
    more = peer.call("update_task", task_id=task, status="blocked", reason="Which size?")
    assert (more["state"], more["changes_applied"]) == ("blocked", ["question"])
    with site.open() as cases:
        assert [gate["name"] for gate in cases.show(task)["gates"]] == ["Which colour?", "Which size?"]


def test_what_blocks_a_task_is_said_with_what_to_do(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    peer.call("update_task", task_id=task, status="blocked", reason="Which colour?")
    ways = {"open": "`orchestrion gate open G1 --answer TEXT` decides it"}
    ways["refused"] = f"`orchestrator_cancel_task(task_id={task})` ends {task}"
    for stands, way in ways.items():
        if stands == "refused":
            with site.open() as cases:
                cases.open_gate("G1", refuse=True)
        refused = peer.refused("update_task", task_id=task, status="pending")
        assert refused["code"] == "not_decided"
        assert way in refused["hint"], stands
        shown = json.loads(resources.read(peer.desk, peer.seat, f"orchestrion://tasks/{task}")[1])
        assert way in shown["reasons"][0]["detail"]
        for status in ("failed", "active"):
            refused = peer.refused("update_task", task_id=task, status=status)
            assert refused["message"].endswith(f"cannot become {status}; from blocked it can go to cancelled")
            assert (refused["code"], refused["details"]["asked"]) == ("illegal_move", status)
            assert way in refused["hint"]
    peer.call("cancel_task", task_id=task)


def test_texts_advise_what_this_door_has(peer: InProcess) -> None:
    failed = planned(peer)
    peer.call("update_task", task_id=failed, status="failed", reason="no")
    handover = peer.call("maintenance_coordinator", action="prepare_handover", scope="full_project")
    steps = str(handover["handover_package"]["next_steps"])
    assert f"`orchestrator_update_task(task_id={failed}, status=pending)`" in steps
    idle = planned(peer)
    assert "agent=claude" in peer.refused("start_run", task_id=idle)["hint"]
    run = peer.call("execute_task", task_id=idle)["run"]
    assert "orchestrion message" not in peer.refused("message_run", run_id=run, text="")["hint"]
    report = {"task_id": idle, "summary": "s", "detailed_work": "d"}
    assert "is in review" in peer.call("complete_task", **report, next_action="needs_revision")["message"]
    done = planned(peer)
    peer.call("update_task", task_id=done, status="completed", reason="the old way")
    peer.call("update_task", task_id=done, status="pending", reason="the new way")
    peer.call("execute_task", task_id=done)
    tried = peer.call("recover_context", session_id=peer.seat.session)["text"].partition("## What was tried")[2]
    assert f"{done} in_progress: the old way" not in tried
    assert f"{done} in_progress" in tried


@pytest.mark.parametrize(("status", "way"), [("completed", ", reason=TEXT)"), ("failed", ")"), ("active", "")])
def test_what_is_not_ready_is_said_with_what_helps(peer: InProcess, status: str, way: str) -> None:
    task = planned(peer)
    peer.call("update_task", task_id=task, status=status)
    hint = peer.refused("execute_task", task_id=task)["hint"]
    expected = (
        f"`orchestrator_update_task(task_id={task}, status=pending{way}`" if way else f"orchestrion://tasks/{task}"
    )
    assert expected in hint
    assert "waits for" not in hint


def test_a_wrong_value_beside_a_new_status_changes_nothing(peer: InProcess) -> None:
    task = planned(peer)
    peer.refused("update_task", task_id=task, status="completed", title="")
    assert peer.call("query_tasks", task_id=task)["tasks"][0]["state"] == "ready"


def test_a_file_that_is_not_there_sends_the_task_to_review(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    peer.call("execute_task", task_id=task)
    done = peer.call(
        "complete_task", task_id=task, summary="s", detailed_work="d", next_action="complete", file_paths=["gone.py"]
    )
    assert done["state"] == "review"
    assert "gone.py" in str(done)


@pytest.mark.parametrize(
    ("decision", "named"),
    [
        ({"title": "x"}, "decision is required"),
        ({"title": "x", "decision": "y", "imapct": "low"}, "imapct is not a parameter; did you mean impact?"),
        ({"title": "x", "decision": "y", "impact": "huge"}, "impact must be one of critical, high, medium, low"),
        ({"title": "x", "decision": "y", "supersedes": "D9"}, "D9"),
    ],
)
def test_a_wrong_decision_beside_a_report_refuses_all_of_it(peer: InProcess, decision: Any, named: str) -> None:
    task = peer.call("plan_task", title="a", description="b")["task_id"]
    run = peer.call("execute_task", task_id=task)["run"]
    report = {"task_id": task, "run": run, "summary": "s", "detailed_work": "d", "next_action": "complete"}
    refused = peer.refused("complete_task", **report, decisions=[{"title": "right", "decision": "so"}, decision])
    assert named in refused["message"]
    assert peer.call("query_tasks", task_id=task)["tasks"][0]["status"] == "in_progress"
    assert peer.call("search_decisions")["decisions"] == []
    assert peer.call("complete_task", **report, decisions=[{"title": "right", "decision": "so"}])["decisions"] == ["D1"]


def test_nobody_reports_what_somebody_else_took(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    run = peer.call("execute_task", task_id=task)["run"]
    other = InProcess(site)
    other.seat.external = "stdio-other"
    with other:
        assert other.refused("execute_task", task_id=task)["code"] == "already_taken"
        report = {"task_id": task, "summary": "stolen", "detailed_work": "", "next_action": "complete"}
        unnamed = other.refused("complete_task", **report)
        assert (unnamed["code"], unnamed["details"]["run"]) == ("already_taken", run)
        assert f"name the run {run} if it is yours" in unnamed["hint"]
        for status in ("completed", "failed", "pending", "blocked", "active"):
            assert other.refused("update_task", task_id=task, status=status)["code"] == "already_taken", status
        assert peer.call("complete_task", **report)["state"] == "completed"
        second = planned(peer)
        proof = peer.call("execute_task", task_id=second)["run"]
        assert other.call("complete_task", **{**report, "task_id": second}, run=proof)["run"] == proof
        twice = other.refused("complete_task", **{**report, "task_id": second}, run=proof)
        assert "reported before" in twice["hint"]


def test_clients_without_sessions_are_not_told_from_each_other(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    with site.open() as cases:
        run = cases.on_behalf_of("mcp:one").take_up(task)["run"]["id"]
        assert cases.on_behalf_of("mcp:other").report(task, "s")["run"]["id"] == run
        assert "run.unnamed" in {event["kind"] for event in cases.events(limit=100)}


@pytest.mark.parametrize("holder", ["user:ada", "web:user:ada", "mcp:client"])
def test_what_a_person_holds_or_a_client_without_a_session_is_reported_by_no_session(
    peer: InProcess, site: Site, holder: str
) -> None:
    task = planned(peer)
    with site.open() as cases:
        run = cases.on_behalf_of(holder).claim(task)["run"]
    ways = {
        "complete_task": {"summary": "s", "detailed_work": "", "next_action": "complete"},
        "update_task": {"status": "pending"},
        "track_files": {"files": [{"path": "nope.txt", "operation": "created"}]},
    }
    for how, given in ways.items():
        refused = peer.refused(how, task_id=task, **given)
        assert (refused["code"], refused["details"]["run"]) == ("already_taken", run), how
        assert refused["hint"] == f"name the run {run} if it is yours"
    with site.open() as cases:
        assert cases.task(task).as_json()["run"] == run
        assert cases.task_files(task)["files"] == []
    assert peer.call("track_files", task_id=task, run=run, files=[{"path": "a", "operation": "deleted"}])["reported"]
    assert peer.call("complete_task", task_id=task, run=run, **ways["complete_task"])["run"] == run


@pytest.mark.parametrize("how", ["cancel_task", "update_task", "delete_task", "kill_run"])
def test_who_ends_anothers_run_is_told_whose_it_was(peer: InProcess, site: Site, how: str) -> None:
    task = planned(peer)
    run = peer.call("execute_task", task_id=task)["run"]
    with InProcess(site) as other:
        other.seat.external = "stdio-other"
        given = {
            "cancel_task": {"task_id": task},
            "update_task": {"task_id": task, "status": "cancelled"},
            "delete_task": {"task_id": task, "force": True},
            "kill_run": {"run_id": run},
        }[how]
        said = str(other.call(how, **given))
    assert run in said
    assert peer.seat.actor() in said


def test_what_is_cancelled_with_a_task_is_named(peer: InProcess) -> None:
    parent = planned(peer)
    children = [planned(peer, parent_task_id=parent) for _ in range(2)]
    cancelled = peer.call("cancel_task", task_id=parent)
    assert (cancelled["cancelled_with_it_total"], cancelled["cancelled_with_it"]) == (2, children)


def test_what_is_refused_for_a_child_is_refused_for_its_parent(peer: InProcess) -> None:
    parent = planned(peer)
    child = planned(peer, parent_task_id=parent)
    planned(peer, parent_task_id=parent, dependencies=[child])
    waiting = planned(peer, dependencies=[child])
    run = peer.call("execute_task", task_id=child)["run"]
    awaited = peer.refused("delete_task", task_id=parent)
    assert (awaited["code"], awaited["details"]["dependent_tasks"]) == ("has_dependents", [waiting])
    below = f"{child} (below {parent}) is"
    assert awaited["message"] == f"{below} awaited by {waiting}; {below} being done by {run}; nothing was deleted"
    assert f"dep rm {waiting} {child}" in awaited["hint"]
    peer.call("delete_task", task_id=waiting)
    held = peer.refused("delete_task", task_id=parent)
    assert (held["code"], held["message"]) == ("in_progress", f"{below} being done by {run}; nothing was deleted")
    assert peer.call("query_tasks", task_id=child)["tasks"][0]["status"] == "in_progress"


def test_what_goes_with_a_deleted_parent_is_named(peer: InProcess) -> None:
    parent = planned(peer)
    children = [planned(peer, parent_task_id=parent) for _ in range(2)]
    run = peer.call("execute_task", task_id=children[0])["run"]
    gone = peer.call("delete_task", task_id=parent, force=True)
    assert (gone["cancelled_with_it_total"], gone["cancelled_with_it"]) == (2, children)
    assert any(run in warning for warning in gone["warnings"])


def test_a_task_that_a_whole_family_waits_for_is_deleted_with_force(peer: InProcess) -> None:
    task = planned(peer)
    parent = planned(peer, dependencies=[task])
    child = planned(peer, parent_task_id=parent)
    gone = peer.call("delete_task", task_id=task, force=True, archive_instead=False)
    assert (gone["action"], gone["dependent_tasks"]) == ("deleted", [parent, child])
    assert peer.call("execute_task", task_id=child)["run"]


def test_a_run_that_is_over_reports_nothing(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    run = peer.call("execute_task", task_id=task)["run"]
    with site.open() as cases:
        cases.release(run, "taken back")
    late = peer.refused("complete_task", task_id=task, summary="s", detailed_work="", next_action="complete", run=run)
    assert late["code"] == "stale_run"
    again = peer.call("execute_task", task_id=task)
    assert again["run"] != run


def test_a_supervised_run_is_not_reported_by_the_way(peer: InProcess, site: Site) -> None:
    with site.open() as cases:
        task = cases.add("Sleep", command="sleep 600").as_json()["id"]
    run = peer.call("start_run", task_id=task)["run"]
    refused = peer.refused("complete_task", task_id=task, summary="s", detailed_work="", next_action="complete")
    assert refused["code"] == "supervised"
    assert peer.refused("execute_task", task_id=task)["code"] == "already_taken"
    peer.call("kill_run", run_id=run)


def test_a_run_is_not_shown_as_one_of_another_task(peer: InProcess) -> None:
    first, second = planned(peer), planned(peer)
    run = peer.call("execute_task", task_id=first)["run"]
    assert peer.call("run_status", run_id=run, task_id=first)["id"] == run
    assert peer.refused("run_status", run_id=run, task_id=second)["code"] == "wrong_run"


def test_a_long_context_says_where_it_is(peer: InProcess) -> None:
    task = planned(peer, context={"spec": "word " * 2_000})
    left_out = {"left_out": f"too long; all: orchestrion://tasks/{task}"}
    assert peer.call("update_task", task_id=task, priority=7)["context"] == left_out
    assert peer.call("execute_task", task_id=task)["context"] == left_out


def test_an_alternative_is_a_text_or_an_object(peer: InProcess) -> None:
    both = ["plain", {"name": "other", "pros": ["fast"]}]
    peer.call("record_decision", title="x", decision="y", alternatives=both)
    peer.call("record_decision", title="x", decision="y", alternatives="plain")


def test_a_single_text_is_taken_for_a_list_and_null_for_nothing(peer: InProcess) -> None:
    first = planned(peer)
    second = peer.call(
        "plan_task", title="Two", description="d", dependencies=first, specialist_type=None, context=None, due_date=""
    )
    assert second["dependencies"] == [first]
    assert peer.call("query_tasks", status="pending", limit=1.0)["total_count"] == 2


def test_a_role_of_the_project_is_listed_and_taken(peer: InProcess, site: Site) -> None:
    from orchestrion.interfaces.mcp import server

    roles = site.root / ".orchestrion" / "roles"
    roles.mkdir(parents=True)
    (roles / "translator.yaml").write_text("role_definition: You are the translator. You translate.\n")
    assert server._roles_of(peer.desk, peer.seat) == ("translator",)
    listed = catalogue.definitions("full", ("translator",))
    assert "translator" in str(next(one for one in listed if one["name"].endswith("plan_task")))
    task = planned(peer, specialist_type="translator")
    assert peer.call("query_tasks", specialist_type=["translator"])["tasks"][0]["id"] == task
    context = peer.call("execute_task", task_id=task)["specialist_context"]
    assert context["role"] == "translator"


def test_no_shell_command_comes_in_through_this_door(peer: InProcess) -> None:
    refused = peer.refused("plan_task", title="x", description="y", checks=["rm -rf /"])
    assert refused["code"] == "commands_refused"
    assert peer.refused("plan_task", title="x", description="y", run_command="rm -rf /")["code"] == "commands_refused"
    for name in ("command", "setup", "check"):
        assert (
            peer.refused("plan_task", title="x", description="y", **{name: "rm -rf /"})["code"] == "invalid_parameters"
        )
    for sneaked in ({"run_command": "touch /tmp/x"}, {"checks": ["touch /tmp/x"]}):
        subtask = json.dumps([{"title": "A", **sneaked}])
        refused = peer.refused("plan_task", description="Build", subtasks_json=subtask)
        assert refused["code"] == "commands_refused"
    assert peer.call("query_tasks")["total_count"] == 0


def test_a_subtask_takes_all_that_a_task_does(peer: InProcess, site: Site) -> None:
    (site.root / ".orchestrion").mkdir()
    (site.root / ".orchestrion" / "config.yaml").write_text("checks:\n  unit: 'true'\n")
    values = {
        "task_type": "testing",
        "complexity": "complex",
        "specialist_type": "tester",
        "estimated_effort": "2h",
        "due_date": "2099-01-01",
        "context": {"module": "parser"},
        "priority": 8,
        "checks": ["unit"],
        "tags": ["core"],
    }
    given = [{"title": "A"}, {"title": "B", "description": "b", "dependencies": ["A"], **values}]
    made = peer.call("plan_task", description="Build", subtasks_json=json.dumps(given), context="as before")
    with site.open() as cases:
        parent, first, second = (
            cases.show(one) for one in (made["task_id"], *[x["task_id"] for x in made["subtasks"]])
        )
    assert parent["context"] == {"text": "as before"}
    assert (second["role"], second["effort_min"], second["due_at"][:10]) == ("tester", 120, "2099-01-01")
    assert (second["type"], second["complexity"], second["priority"]) == ("testing", "complex", 8)
    assert (second["context"], second["checks"], second["tags"]) == ({"module": "parser"}, ["unit"], ["core"])
    assert second["after"] == [first["id"]]


@pytest.mark.parametrize("name", ["zzz", "agent", "effort", "session", "parent_task_id", "run"])
def test_a_field_that_a_subtask_has_not_is_refused_by_its_name(peer: InProcess, name: str) -> None:
    given = [{"title": "A"}, {"title": "B", name: "x"}]
    refused = peer.refused("plan_task", description="Build", subtasks_json=json.dumps(given))
    assert f"subtask 2: {name} is not a parameter" in refused["message"]
    assert peer.call("query_tasks")["total_count"] == 0


def test_shell_commands_come_in_where_they_are_allowed(peer: InProcess, site: Site) -> None:
    (site.root / ".orchestrion").mkdir()
    (site.root / ".orchestrion" / "config.yaml").write_text("doors:\n  commands: true\n")
    task = planned(peer, run_command="true", checks=["test -f a.txt"])
    with site.open() as cases:
        row = cases.show(task)
    assert row["run_command"] == "true"
    assert row["checks"] == ["test -f a.txt"]


def test_a_named_check_of_the_project_is_run(peer: InProcess, site: Site) -> None:
    (site.root / ".orchestrion").mkdir()
    (site.root / ".orchestrion" / "config.yaml").write_text("checks:\n  unit: test -f done.txt\n")
    task = planned(peer, checks=["unit"])
    given = {"task_id": task, "summary": "s", "detailed_work": "", "next_action": "complete"}
    refused = peer.refused("update_task", task_id=task, status="completed")
    assert (refused["code"], refused["details"]["run"]) == ("check_failed", "R1")
    assert "report R1 again" in refused["hint"]
    assert peer.refused("complete_task", **given)["code"] == "check_failed"
    (site.root / "done.txt").write_text("")
    assert peer.call("complete_task", **given)["state"] == "completed"
    assert peer.progress[0][2] == "verifying files and running checks"


def test_two_calls_at_once_of_one_session_take_a_task_up_together(
    peer: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrion.orchestrator import Orchestrator

    task = planned(peer)
    run = peer.call("execute_task", task_id=task)["run"]
    before = Orchestrator._held_by_caller
    looked: list[str] = []

    def late(cases: Orchestrator, one: str, named: str | None) -> str | None:
        looked.append(one)
        return None if len(looked) == 1 else before(cases, one, named)

    monkeypatch.setattr(Orchestrator, "_held_by_caller", late)
    second = peer.call("execute_task", task_id=task)
    assert (second["run"], second["again"]) == (run, True)


def test_what_no_parameter_sets_can_be_cleared_too(peer: InProcess, site: Site) -> None:
    values = {"agent": "command", "needs": ("gpu",), "setup": "true", "timeout_s": 60.0, "metadata": {"a": 1}}
    with site.open() as cases:
        task = cases.add("One", **values).as_json()["id"]
        names = ["agent", "needs", "setup", "timeout_s", "metadata"]
        cleared = peer.call("update_task", task_id=task, clear=names)
        assert cleared["changes_applied"] == sorted(names)
        shown = cases.show(task)
    assert not any(shown[field] for field in values)
    assert "in clear what is to be emptied: " in peer.refused("update_task", task_id=task, due_date=None)["hint"]


def test_an_empty_text_clears_what_can_be_cleared_and_nothing_is_dropped(peer: InProcess) -> None:
    texts = {"due_date": "2031-01-01", "estimated_effort": "2h", "specialist_type": "tester", "description": "d"}
    emptied = dict.fromkeys(texts, "")
    task = peer.call("plan_task", title="One", **texts)["task_id"]
    changed = peer.call("update_task", task_id=task, title="Two", **emptied)
    assert changed["changes_applied"] == sorted(["title", *texts])
    assert (changed["due_date"], changed["estimated_effort"]) == (None, None)
    for name, value in texts.items():
        peer.call("update_task", task_id=task, **{name: value})
        assert peer.call("update_task", task_id=task, **{name: ""})["changes_applied"] == [name]
    assert peer.refused("update_task", task_id=task, title="Three", run_command="")["code"] == "invalid_command"
    for name in ("title", "status", "complexity", "task_type"):
        assert peer.refused("update_task", task_id=task, priority=3, **{name: ""})["code"].startswith("invalid_")


def test_a_clean_up_leaves_the_session_that_asks_for_it(peer: InProcess, site: Site) -> None:
    peer.call("initialize_session")
    with site.open() as cases:
        idle = cases.start_session("idle")["id"]
    cleaned = peer.call("cleanup_sessions", cleanup_type="orphaned", older_than_days=0, dry_run=False)
    assert cleaned["ended"] == [idle]
    assert "last seen 20" in peer.call("session_status", session_id=idle)["summary"]


def other_client(site: Site) -> InProcess:
    """A second client, of another name, in a process of its own as far as anybody can tell."""
    one = InProcess(site)
    one.seat.external, one.seat.client = "stdio-other", "successor"
    return one


def test_a_successor_is_told_who_holds_a_task_and_how_to_go_on(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    run = peer.call("execute_task", task_id=task)["run"]
    session = peer.seat.session
    (site.root / "half.txt").write_text("half\n")
    peer.call("track_files", run=run, files=[{"path": "half.txt", "operation": "created"}])
    with other_client(site) as other:
        begun = other.call("initialize_session")
        way = f"`orchestrator_resume_session(session_id={session})`"
        told = next(step for step in begun["next_steps"] if run in step)
        assert way in told
        assert " s ago" in told
        assert "its lease ends at 20" in told
        assert way in begun["instructions"]
        assert "half.txt" in str(other.call("recover_context", task_id=task))
        assert way in str(other.call("recover_context", task_id=task)["next_steps"])
        shown = other.call("get_status")["runs"][0]
        assert (shown["session"], shown["held_by"]) == (session, peer.seat.actor())
        assert shown["session_seen_at"]
        resumed = other.call("resume_session", session_id=session)
        assert (resumed["session_id"], other.seat.session) == (session, session)
        # What was done already is advised no more; what is left is, and it works.
        steps = str(resumed["recovery"])
        assert way not in steps
        assert f"{run} of {task} is yours: `orchestrator_execute_task(task_id={task})`" in steps
        assert other.call("execute_task", task_id=task)["run"] == run
        # However long it takes.
        other.seat.touched_at = 0
        assert other.call("recover_context", handoff="half")["handoff_id"]
        assert other.seat.session == session
        report = {"task_id": task, "summary": "s", "detailed_work": "d", "next_action": "complete"}
        assert other.call("complete_task", **report)["run"] == run
    assert "orchestrator_resume_session" in str(catalogue.definitions("core"))


def test_a_client_that_comes_back_is_told_first_what_it_holds(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    planned(peer, title="Next")
    run = peer.call("execute_task", task_id=task)["run"]
    with InProcess(site) as again:
        begun = again.call("initialize_session")
        assert begun["resumed"]
        take = f"`orchestrator_execute_task(task_id={task})`"
        assert begun["next_steps"][0].startswith(f"{run} of {task} is yours: {take}")
        way = begun["instructions"].partition("## Go on with\n")[2].splitlines()[0]
        assert way.startswith(f"- {task} by {run}, which is yours: {take}")
        for told in (way, begun["next_steps"][0]):
            assert f"`orchestrator_complete_task(task_id={task}, run={run}" in told
        assert again.call("execute_task", task_id=task)["run"] == run


def test_who_takes_a_task_up_again_gets_what_was_left_of_it(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    run = peer.call("execute_task", task_id=task)["run"]
    (site.root / "half.txt").write_text("half\n")
    peer.call("track_files", run=run, files=[{"path": "half.txt", "operation": "created"}])
    peer.call("recover_context", task_id=task, handoff="the second half is missing")
    with site.open() as cases:
        cases.release(run)
    taken = peer.call("execute_task", task_id=task, include_brief=True)
    assert taken["files_left"] == ["created half.txt"]
    assert taken["handoffs"][0]["text"] == "the second half is missing"
    assert f"half.txt (created by {run})" in taken["brief_text"]
    assert "the second half is missing" in taken["brief_text"]


def test_who_takes_a_live_session_over_is_told_so(peer: InProcess, site: Site) -> None:
    task = planned(peer)
    run = peer.call("execute_task", task_id=task)["run"]
    session = str(peer.seat.session)
    with other_client(site) as other:
        named = other.call("execute_task", task_id=task, session=session)
        assert (named["run"], named["again"]) == (run, True)
        resumed = other.call("resume_session", session_id=session)
    for said in (named["warning"], resumed["warning"]):
        assert said.startswith(f"{session} was seen ")
        assert "by tester (stdio-test)" in said
    # Now it is the first one that acts in another one's.
    assert "(stdio-other)" in peer.call("execute_task", task_id=task, session=session)["warning"]
    assert "(stdio-other)" in peer.call("resume_session", session_id=session)["warning"]
    assert "warning" not in peer.call("execute_task", task_id=task, session=session)
    assert "warning" not in peer.call("resume_session", session_id=session)


# -- length -----------------------------------------------------------------------------------------


def test_replies_end_at_four_kilobytes_and_go_on(peer: InProcess) -> None:
    long = "ä" * 3000
    made = [planned(peer, title=f"{number} {long[:150]}", description=long) for number in range(40)]
    seen: list[str] = []
    offset: int | None = 0
    while offset is not None:
        reply = peer.call("query_tasks", offset=offset, limit=40)
        assert len(catalogue_bytes(reply)) <= 4096
        assert reply["total_count"] == 40
        seen += [task["id"] for task in reply["tasks"]]
        offset = reply["next_offset"]
    assert seen == made
    for reply in (
        peer.call("get_status", include_completed=True, include_performance_metrics=True, include_resource_usage=True),
        peer.call("initialize_session"),
        peer.call("execute_task", task_id=made[0]),
        peer.call("complete_task", task_id=made[0], summary=long, detailed_work=long, next_action="blocked"),
        peer.call("record_decision", title="t", decision=long, rationale=long, context=long, files=[long[:200]] * 30),
        peer.call("search_decisions"),
        peer.call("recover_context", task_id=made[0]),
        peer.call("recover_context"),
        peer.call("run_status"),
        peer.call("synthesize_results", parent_task_id=made[0]),
        peer.call("update_task", task_id=made[1], description=long),
    ):
        assert len(catalogue_bytes(reply)) <= 4096


@pytest.fixture
def crowded(peer: InProcess, site: Site) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """Tool -> a call of it, and all that its list has, in a project in which none of them fits into one reply."""
    count, long = 40, "x" * 140
    parent = planned(peer, title="Parent")
    children = [planned(peer, title=f"{number} {long}", parent_task_id=parent) for number in range(count)]
    for child in children[: count // 2]:
        peer.call("update_task", task_id=child, status="completed", reason=long)
    held = planned(peer, title="Held")
    run = peer.call("execute_task", task_id=held)["run"]
    paths = [f"{number:02}-{long}.txt" for number in range(count)]
    for path in paths:
        (site.root / path).write_text("")
    peer.call("track_files", run=run, files=[{"path": path, "operation": "created"} for path in paths])
    with site.open() as cases:
        decided = [cases.decide(f"{number} {long}", decision=long)["id"] for number in range(count)]
        begun = [cases.start_session(f"{number} {long}")["id"] for number in range(count)]
        runs = [one["id"] for one in cases.list_runs(limit=1000).as_json("runs")["runs"]]
    done, waiting = children[: count // 2], children[count // 2 :]
    own = str(peer.seat.session)
    return {
        "query_tasks": ({"parent_task_id": parent, "limit": 1000}, children),
        "search_decisions": ({"limit": 1000}, decided[::-1]),
        "list_sessions": ({"limit": 1000}, [*begun[::-1], own]),
        "track_files": ({"run": run}, paths),
        "synthesize_results": ({"parent_task_id": parent}, [*waiting, *done]),
        "get_status": ({"include_completed": True}, done[::-1]),
        "run_status": ({}, runs),
    }


def test_every_list_goes_on_with_next_offset(
    peer: InProcess, crowded: dict[str, tuple[dict[str, Any], list[str]]]
) -> None:
    paged = {one.name for one in catalogue.TOOLS if any(param.name == "offset" for param in one.params)}
    assert paged == crowded.keys()
    for tool, (given, expected) in crowded.items():
        listed = next(one for one in catalogue.definitions("full") if one["name"] == catalogue.PREFIX + tool)
        assert "offset" in listed["inputSchema"]["properties"], tool
        seen: list[str] = []
        offset: int | None = 0
        while offset is not None:
            reply = peer.call(tool, **given, offset=offset)
            assert len(catalogue_bytes(reply)) <= 4096, tool
            lists = ("tasks", "decisions", "sessions", "files", "missing", "key_deliverables", "completed_tasks")
            runs = reply["runs"] if tool == "run_status" else ()
            found = [one for key in lists for one in reply.get(key, ())] + list(runs)
            seen += [one.get("task_id") or one.get("session_id") or one.get("id") or one["path"] for one in found]
            assert reply["has_more"] is (reply["next_offset"] is not None)
            if tool == "query_tasks":
                assert (reply["current_page"] < reply["page_count"]) is reply["has_more"]
                assert reply["page_size"] == (len(found) if reply["has_more"] else 1000)
            offset = reply["next_offset"]
        if tool == "list_sessions":  # in the order in which they were seen last, which a call changes
            seen, expected = sorted(seen), sorted(expected)
        assert seen == expected, tool
        beyond = peer.call(tool, **given, offset=10_000)
        assert (beyond["has_more"], beyond["next_offset"]) == (False, None), tool
    behind = peer.call("query_tasks", limit=10, offset=100_000)
    assert behind["page_count"] == -(-behind["total_count"] // 10)


def catalogue_bytes(reply: Reply) -> bytes:
    from orchestrion.interfaces.mcp import replies

    return replies.as_text(reply).encode()


def test_a_long_result_is_kept_whole_and_read_in_pages(peer: InProcess) -> None:
    from orchestrion.interfaces.mcp import resources

    task = planned(peer)
    work = "".join(f"line {number} ☃\n" for number in range(20_000))
    peer.call("execute_task", task_id=task)
    done = peer.call("complete_task", task_id=task, summary="s", detailed_work=work, next_action="complete")
    address = done["artifact_references"][0]["path"]
    whole, offset = "", 0
    while True:
        _, page = resources.read(peer.desk, peer.seat, f"{address}?offset={offset}" if offset else address)
        text, _, more = page.rpartition("\n… ") if "\n… " in page else (page, "", "")
        whole += text
        if not more:
            break
        offset = int(more.rpartition("=")[2])
    assert whole == work


def test_a_question_about_a_task_that_nobody_holds_is_kept_without_secrets(peer: InProcess, site: Site) -> None:
    task = peer.call("plan_task", title="one", description="d")["task_id"]
    for _ in range(2):
        peer.raw(
            "orchestrator_update_task",
            {"task_id": task, "status": "blocked", "reason": "use ghp_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789?"},
        )
    with site.open() as cases:
        assert [gate["name"] for gate in cases.show(task)["gates"]] == ["use ghp_***?"]


def test_an_agent_is_called_as_a_task_could_call_it(peer: InProcess) -> None:
    peer.call("plan_task", title="one", description="d")
    assert peer.refused("claim_task", agent="a\0b\x1b[31m")["code"] == "invalid_agent"
    assert peer.refused("claim_task", agent="two words")["code"] == "invalid_agent"


def test_of_a_decision_that_stands_only_the_status_changes(peer: InProcess) -> None:
    first = peer.call("record_decision", title="Small", decision="No macros", rationale="nobody asked")["decision_id"]
    named = {"title": "-", "decision": "-", "decision_id": first}
    for field, value in {"title": "Large", "decision": "Macros", "rationale": "all asked", "files": ["a.py"]}.items():
        refused = peer.refused("record_decision", **{**named, field: value, "status": "rejected"})
        assert (refused["code"], field in refused["message"]) == ("invalid_parameters", True)
        assert f'supersedes: "{first}"' in refused["hint"]
    kept = peer.call("record_decision", **{**named, "title": "Small", "decision": "No macros"}, status="rejected")
    assert (kept["status"], kept["rationale"]) == ("rejected", "nobody asked")
