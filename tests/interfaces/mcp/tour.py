"""A tour through the tools with every documented parameter: what any client must be able to do, over any transport."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from peers import Peer, Site


def work(peer: Peer, site: Site) -> None:
    """From a session's begin over a plan and its work to the joined result."""
    session = _begin(peer, site)
    goal, first, second = _plan(peer)
    _do_first(peer, site, first, second)
    _ask(peer, goal, first, second)
    _do_second(peer, goal, second)
    _join(peer, goal, first, second)
    _remember(peer, site, first, session)
    _take_away(peer, goal)
    _sessions(peer, session)


def _begin(peer: Peer, site: Site) -> str:
    begun = peer.call(
        "initialize_session", working_directory=str(site.root), session_name="tour", force_new_session=True
    )
    assert begun["status"] == "session_initialized"
    assert begun["session_initialized"] is True
    assert begun["session_name"] == "tour"
    assert begun["working_directory"] == str(site.root)
    assert begun["database_status"]["connected"] is True
    assert "implementer" in begun["specialist_roles"]
    assert begun["detection"]["git_root"] == str(site.root)
    assert "a new task" in begun["instructions"]
    return str(begun["session_id"])


def _plan(peer: Peer) -> tuple[str, str, str]:
    due = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    goal = peer.call("plan_task", title="Goal", description="All of it", task_type="breakdown")["task_id"]
    first = peer.call(
        "plan_task",
        title="First",
        description="Write the parser",
        task_type="implementation",
        parent_task_id=goal,
        complexity="complex",
        specialist_type="coder",
        estimated_effort="1h 30m",
        due_date=due,
        context={"module": "parser"},
        dependencies=[],
        priority=9,
        checks=[],
        tags=["core"],
        plan="default",
        key="first",
    )
    assert first["status"] == "pending"
    assert first["state"] == "ready"
    assert first["specialist_type"] == "coder"
    assert first["complexity"] == "complex"
    assert first["estimated_effort"] == "90 min"
    assert first["due_date"][:10] == due[:10]
    assert first["priority"] == 9
    second = peer.call(
        "plan_task",
        title="Second",
        description="Test the parser",
        parent_task_id=goal,
        specialist_type="tester",
        dependencies=[first["task_id"]],
        data_dependencies=[first["task_id"]],
    )
    assert second["state"] == "pending"
    assert second["dependencies"] == [first["task_id"]]
    return goal, first["task_id"], second["task_id"]


def _do_first(peer: Peer, site: Site, first: str, second: str) -> None:
    early = peer.refused("execute_task", task_id=second)
    assert early["code"] == "nothing_ready"
    assert first in early["message"]
    taken = peer.call("execute_task", task_id=first, include_brief=True)
    assert taken["status"] == "ready_for_execution"
    assert taken["dependencies_completed"] is True
    assert taken["specialist_context"]["role"] == "implementer"
    assert taken["context"] == {"module": "parser"}
    assert "Write the parser" in taken["brief_text"]
    again = peer.call("execute_task", task_id=first, run=taken["run"])
    assert (again["run"], again["again"]) == (taken["run"], True)
    found = peer.call("query_tasks", status=["in_progress"])
    assert [one["id"] for one in found["tasks"]] == [first]
    assert found["tasks"][0]["status"] == "in_progress"
    assert peer.call("heartbeat_run", run_id=taken["run"])["lease_until"]
    updated = peer.call(
        "update_task",
        task_id=first,
        title="First, better",
        description="Write the parser well",
        specialist_type="coder",
        complexity="moderate",
        estimated_effort="45",
        due_date="2099-01-01",
        context={"module": "reader"},
        priority=8,
        task_type="implementation",
        status="in_progress",
        reason="clearer",
        run=taken["run"],
    )
    assert updated["title"] == "First, better"
    assert updated["status"] == "in_progress"
    assert {"title", "description", "complexity", "estimated_effort", "due_date"} <= set(updated["changes_applied"])
    (site.root / "parser.py").write_text("def parse(): ...\n")
    done = peer.call(
        "complete_task",
        task_id=first,
        summary="The parser is written",
        detailed_work="def parse(): ...\n" * 500,
        file_paths=["parser.py"],
        artifact_type="code",
        next_action="continue",
        legacy_artifacts=["an older result"],
        run=taken["run"],
        decisions=[{"title": "Recursive descent", "decision": "No generator", "rationale": "small grammar"}],
    )
    assert done["status"] == "success"
    assert done["task_status"] == "completed"
    assert done["artifact_count"] == 2
    assert done["unblocked"] == [second]
    assert done["next_recommended_task"]["id"] == second
    assert done["parent_task_progress"]["completed_subtasks"] == 1
    assert done["decisions"] == ["D1"]
    twice = peer.refused(
        "complete_task", task_id=first, summary="again", detailed_work="", next_action="complete", run=taken["run"]
    )
    assert twice["code"] in ("stale_run", "not_claimed")


def _ask(peer: Peer, goal: str, first: str, second: str) -> None:
    found = peer.call(
        "query_tasks",
        status=["completed", "pending"],
        task_type=["implementation", "standard"],
        specialist_type=["coder", "tester"],
        parent_task_id=goal,
        complexity=["moderate"],
        search_text="parser",
        created_after="2020-01-01",
        created_before="2099-01-01T00:00:00Z",
        include_children=True,
        include_artifacts=True,
        limit=1,
        offset=1,
        plan="default",
    )
    assert found["total_count"] == 2
    assert [one["id"] for one in found["tasks"]] == [second]
    assert found["current_page"] == 2
    assert found["page_count"] == 2
    assert found["has_more"] is False
    assert found["filters_applied"]["search_text"] == "parser"
    one = peer.call("query_tasks", task_id=first, include_artifacts=True)["tasks"][0]
    assert one["id"] == first
    assert {artifact["name"] for artifact in one["artifacts"]} == {"detail", "result-1"}
    status = peer.call(
        "get_status",
        include_completed=True,
        include_performance_metrics=True,
        include_resource_usage=True,
        offset=0,
    )
    assert status["task_status"]["completed"] == 1
    assert [task["id"] for task in status["completed_tasks"]] == [first]
    assert status["performance_metrics"]["runs"] == 1
    assert status["resource_usage"]["rss_mb"] > 1


def _do_second(peer: Peer, goal: str, second: str) -> None:
    partial = peer.call("synthesize_results", parent_task_id=goal)
    assert partial["synthesis_complete"] is False
    assert [part["task_id"] for part in partial["missing"]] == [second]
    peer.call("update_task", task_id=second, remove_dependencies=[], add_dependencies=[], title="Second!")
    peer.call("update_task", task_id=second, due_date="2099-01-01", estimated_effort="30 min")
    cleared = peer.call("update_task", task_id=second, clear=["due_date", "estimated_effort"])
    assert (cleared["due_date"], cleared["estimated_effort"]) == (None, None)
    assert cleared["changes_applied"] == ["due_date", "estimated_effort"]
    taken = peer.call("claim_task", specialist_type="tester", agent="tester-7")
    assert taken["task_id"] == second
    assert [one["summary"] for one in taken["dependencies"]] == ["The parser is written"] * len(taken["dependencies"])
    assert peer.refused("claim_task", tag="nobody-has-it")["code"] == "nothing_ready"
    done = peer.call(
        "complete_task",
        task_id=second,
        summary="Ten tests",
        detailed_work="all pass",
        next_action="complete",
        run=taken["run"],
    )
    assert done["parent_task_progress"]["state"] == "completed"


def _join(peer: Peer, goal: str, first: str, second: str) -> None:
    whole = peer.call("synthesize_results", parent_task_id=goal, offset=0)
    assert whole["synthesis_complete"] is True
    assert whole["completed_subtasks"] == whole["total_subtasks"] == 2
    assert [one["task_id"] for one in whole["key_deliverables"]] == [first, second]
    assert peer.call("synthesize_results", parent_task_id=first)["synthesis_complete"] is True


def _remember(peer: Peer, site: Site, first: str, session: str) -> None:
    decided = peer.call(
        "record_decision",
        title="Keep the grammar small",
        decision="No macros",
        rationale="nobody asked",
        context="The parser",
        status="accepted",
        category="architecture",
        impact="high",
        alternatives=[{"name": "macros", "pros": ["power"], "cons": ["size"]}],
        files=["parser.py"],
        components=["parser"],
        trade_offs=["less power"],
        risks=["users want them"],
        criteria=["parses all samples"],
        task_id=first,
        run=None,
        refines="D1",
    )
    assert decided["decision_id"] == "D2"
    assert peer.call("record_decision", title="x", decision="y", supersedes="D2")["decision_id"] == "D3"
    assert peer.call("record_decision", title="x", decision="y", reverses="D3")["decision_id"] == "D4"
    changed = peer.call("record_decision", title="-", decision="-", decision_id="D4", status="rejected")
    assert changed["status"] == "rejected"
    found = peer.call(
        "search_decisions",
        search_text="macros",
        category="architecture",
        impact="high",
        file="parser.py",
        status="superseded",
        task_id=first,
        limit=5,
    )
    assert [one["id"] for one in found["decisions"]] == ["D2"]
    assert peer.call("search_decisions", limit=1)["next_offset"] == 1
    assert peer.call("search_decisions", limit=1, offset=1)["decisions"][0]["id"] == "D3"
    late = peer.call("plan_task", title="a file", description="that is reported while it is written")["task_id"]
    run = peer.call("execute_task", task_id=late)["run"]
    (site.root / "late.py").write_text("pass\n")
    tracked = peer.call(
        "track_files",
        files=[{"path": "late.py", "operation": "created"}],
        task_id=late,
        run=None,
        verify=True,
        offset=0,
    )
    assert tracked["verification_status"] == "verified"
    peer.call("complete_task", task_id=late, run=run, summary="written", detailed_work="d", next_action="complete")
    (site.root / "late.py").write_text("tampered\n")
    assert peer.call("track_files", task_id=late)["verification_status"] == "failed"
    recovered = peer.call("recover_context", task_id=late)
    assert "late.py" in str(recovered)
    kept = peer.call("recover_context", session_id=session, handoff="Go on with the docs")
    assert kept["handoff_id"] == "H1"
    assert "Go on with the docs" in str(peer.call("recover_context"))


def _take_away(peer: Peer, goal: str) -> None:
    held = peer.call("plan_task", title="Held", description="-")["task_id"]
    waiting = peer.call("plan_task", title="Waits", description="-", dependencies=[held])["task_id"]
    refused = peer.refused("delete_task", task_id=held, force=False, archive_instead=False)
    assert refused["code"] == "has_dependents"
    assert refused["details"]["dependent_tasks"] == [waiting]
    cancelled = peer.call("cancel_task", task_id=held, reason="not now", preserve_work=False, dependents="block")
    assert cancelled["previous_status"] == "pending"
    assert cancelled["reason"] == "not now"
    assert cancelled["dependent_tasks_updated"] == [waiting]
    assert peer.call("query_tasks", task_id=waiting)["tasks"][0]["status"] == "blocked"
    deleted = peer.call("delete_task", task_id=waiting, force=True, archive_instead=False)
    assert deleted["action"] == "deleted"
    assert peer.refused("execute_task", task_id=waiting)["code"] == "no_task"
    archived = peer.call("delete_task", task_id=goal, archive_instead=True)
    assert archived["action"] == "archived"
    assert peer.call("query_tasks", status=["archived"])["tasks"][0]["status"] == "archived"


def _sessions(peer: Peer, session: str) -> None:
    listed = peer.call("list_sessions", include_completed=True, limit=5, offset=0)
    assert session in [one["session_id"] for one in listed["sessions"]]
    detail = peer.call("session_status", session_id=session)
    assert detail["status"] == "active"
    resumed = peer.call("resume_session", session_id=session)
    assert resumed["resumed"] is True
    assert "parser.py" in str(resumed["recovery"])
    for kind in ("completed", "orphaned", "old", "all"):
        would = peer.call("cleanup_sessions", cleanup_type=kind, older_than_days=0, dry_run=True)
        assert would["cleaned_up"] == 0
    assert peer.call("cleanup_sessions", cleanup_type="completed", dry_run=False)["dry_run"] is False


def runs(peer: Peer, site: Site) -> None:
    """Agents of this machine: started, talked to, watched, ended."""
    with site.open() as trusted:
        task = trusted.add("Sleep", command="sleep 600").as_json()["id"]
    started = peer.call("start_run", task_id=task, agent="command")
    assert started["task_id"] == task
    run = started["run"]
    assert peer.call("message_run", run_id=run, text="hello")["state"]
    watched = peer.call("run_status", run_id=run, include_log=True, offset=0)
    assert watched["run"] == run
    assert peer.call("run_status", task_id=task)["runs"][0]["id"] == run
    assert peer.call("run_status")["total_count"] >= 1
    assert peer.call("kill_run", run_id=run, reason="enough")["code"]


def older_names(peer: Peer) -> None:
    """What the first orchestrator's older clients call."""
    made: dict[str, Any] = peer.call(
        "plan_task",
        description="Build it",
        subtasks_json='[{"title":"A","description":"a","specialist_type":"implementer"},'
        '{"title":"B","description":"b","dependencies":["A"]}]',
        complexity_level="complex",
        context="none",
    )
    assert made["task_created"] is True
    first, second = (one["task_id"] for one in made["subtasks"])
    assert peer.call("execute_subtask", task_id=first)["status"] == "ready_for_execution"
    done = peer.call(
        "complete_subtask", task_id=first, summary="did", results="it", artifacts="one", next_action="complete"
    )
    assert done["artifact_count"] == 2
    assert done["unblocked"] == [second]
    assert peer.call("create_generic_task", title="C", description="c")["task_id"]


def operate(peer: Peer, site: Site) -> None:
    """The server itself: its health, its upkeep, its restart."""
    for part in ("include_reboot_readiness", "include_connection_status", "include_database_status"):
        found = peer.call("health_check", **{part: True})
        assert found["healthy"] is True, found
    for part in ("check_active_tasks", "check_database_state", "check_client_connections"):
        assert "ready_for_shutdown" in peer.call("shutdown_prepare", **{part: True})
    session = peer.call("initialize_session")["session_id"]
    tested = peer.call(
        "reconnect_test", session_id=session, include_buffer_status=True, include_reconnection_stats=True
    )
    assert tested["test_completed"] is True
    task = peer.call("plan_task", title="Upkeep", description="-")["task_id"]
    for action in ("scan_cleanup", "validate_structure", "update_documentation", "prepare_handover"):
        for scope in ("current_session", "full_project", "specific_subtask"):
            for level in ("basic", "comprehensive", "full_audit"):
                done = peer.call(
                    "maintenance_coordinator",
                    action=action,
                    scope=scope,
                    validation_level=level,
                    target_task_id=task,
                    dry_run=True,
                )
                assert done["status"] == "maintenance_completed"
    status = peer.call("restart_status", include_history=True, include_error_details=True)
    assert status["current_status"]["phase"] == "idle"
