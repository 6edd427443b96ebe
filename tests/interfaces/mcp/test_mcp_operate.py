"""The tools that look after the project and the server: what they tell is measured, and fits into a reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peers import InProcess, Pipe, Site

from orchestrion.interfaces.mcp.replies import LIMIT, size

pytestmark = pytest.mark.long

HOUR_MS = 3_600_000


def age(raw: Any, hours: float) -> None:
    raw.run("update tasks set updated_at = updated_at - ?", int(hours * HOUR_MS))


# -- maintenance ------------------------------------------------------------------------------------


def test_a_scan_tells_what_is_stale_and_a_clean_up_what_it_did(peer: InProcess, raw: Any) -> None:
    peer.call("initialize_session")
    task = peer.call("plan_task", title="Idle", description="-")["task_id"]
    age(raw, 100)
    found = peer.call("maintenance_coordinator", action="scan_cleanup")
    assert (found["status"], found["scope"]) == ("maintenance_completed", "current_session")
    assert found["scan_results"]["stale"]["tasks"][0]["task"] == task
    assert found["cleanup_actions"] == []
    assert any("comprehensive" in line for line in found["recommendations"])
    would = peer.call("maintenance_coordinator", action="scan_cleanup", validation_level="comprehensive", dry_run=True)
    assert [one["task"] for one in would["cleanup_actions"]] == [task]
    assert peer.call("query_tasks", task_id=task)["tasks"][0]["status"] == "pending"
    done = peer.call("maintenance_coordinator", action="scan_cleanup", validation_level="comprehensive")
    assert [one["task"] for one in done["cleanup_actions"]] == [task]
    assert peer.call("query_tasks", task_id=task)["tasks"][0]["status"] == "archived"
    assert done["operation_id"] == "M3"


def test_a_call_without_a_session_means_the_whole_project_and_says_so(site: Site) -> None:
    with InProcess(site, confined=True) as client:
        found = client.call("maintenance_coordinator", action="validate_structure")
        assert found["scope"] == "full_project"
        assert "no session is known" in found["notes"][0]
        assert found["validation_results"]["valid"] is True
        error = client.refused("maintenance_coordinator", action="scan_cleanup", validation_level="comprehensive")
        assert error["code"] == "no_current_session"


@pytest.mark.parametrize("level", ["basic", "comprehensive", "full_audit"])
@pytest.mark.parametrize("action", ["scan_cleanup", "validate_structure", "update_documentation", "prepare_handover"])
def test_a_large_project_fits_into_a_reply(peer: InProcess, site: Site, raw: Any, action: str, level: str) -> None:
    with site.open() as project:
        for number in range(60):
            project.add(f"{number} " + "a long title of a task " * 9, role=["tester", "reviewer"][number % 2])
            project.decide(f"{number} " + "decided " * 20, decision="so " * 100)
    age(raw, 500)
    found = peer.call("maintenance_coordinator", action=action, scope="full_project", validation_level=level)
    assert size(found) <= LIMIT
    if action in ("scan_cleanup", "prepare_handover"):
        assert found["left_out"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "scan_cleanup"),
        ({"action": "clean"}, "prepare_handover"),
        ({"action": "scan_cleanup", "scope": "all"}, "full_project"),
        ({"action": "scan_cleanup", "validation_level": "deep"}, "full_audit"),
        ({"action": "scan_cleanup", "scope": "specific_subtask"}, "target_task_id"),
        ({"action": "scan_cleanup", "scope": "specific_subtask", "target_task_id": "T99"}, "T99"),
        ({"action": "scan_cleanup", "target_task_id": "../../etc/passwd"}, "T12"),
        ({"action": "scan_cleanup", "dry_run": "yes"}, "dry_run"),
        ({"action": "scan_cleanup", "level": "basic"}, "level"),
    ],
)
def test_a_wrong_parameter_of_maintenance_is_named(peer: InProcess, given: dict[str, Any], named: str) -> None:
    error = peer.refused("maintenance_coordinator", **given)
    assert named in f"{error['message']} {error['hint']} {error['details']}"


# -- health -----------------------------------------------------------------------------------------


def test_health_has_the_parts_that_were_asked_for(peer: InProcess) -> None:
    whole = peer.call("health_check")
    assert whole["healthy"] is True
    assert whole["timestamp"]
    assert whole["server_version"]
    assert set(whole["checks"]) == {"reboot_readiness", "database", "connections"}
    assert whole["checks"]["database"]["connected"] is True
    assert whole["checks"]["database"]["write_ms"] > 0
    bare = peer.call(
        "health_check",
        include_reboot_readiness=False,
        include_connection_status=False,
        include_database_status=False,
    )
    assert bare["checks"] == {}


def test_health_counts_calls_and_clients(site: Site) -> None:
    with Pipe(site) as client:
        client.open()
        before = client.call("health_check")
        for _ in range(3):
            client.call("get_status")
        after = client.call("health_check")
        assert after["components"]["server"]["calls"] == before["components"]["server"]["calls"] + 4
        assert after["components"]["server"]["uptime_s"] > before["components"]["server"]["uptime_s"]
        assert after["checks"]["connections"]["active_connections"] == 1
        assert after["checks"]["connections"]["protocols"] == ["2025-11-25"]
        assert after["checks"]["reboot_readiness"] == {
            "ready": True, "issues": [], "details": {"requests_in_flight": 1}
        }  # fmt: skip


def test_a_mistake_of_ours_is_seen_in_health(peer: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrion.interfaces.mcp.tools import tasks

    def broken(call: Any) -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setattr(tasks, "status", broken)
    reply, failed = peer.raw("orchestrator_get_status", {})
    assert failed
    assert reply["error"]["code"] == "unexpected"
    found = peer.call("health_check")
    assert found["components"]["server"]["status"] == "degraded"
    assert found["status"] == "degraded"


def test_a_large_projects_health_fits_into_a_reply(peer: InProcess, site: Site) -> None:
    with site.open() as project:
        for number in range(40):
            task = project.add(f"{number} " + "a long title " * 15).as_json()["id"]
            project.done(project.claim(task)["run"], "Which one? " * 50, next_action="blocked")
    found = peer.call("health_check")
    assert size(found) <= LIMIT
    assert found["waiting_tasks_total"] == 40
    assert found["left_out"]["waiting_tasks"] > 0


# -- shutting down and coming back ------------------------------------------------------------------


def test_shutdown_says_what_would_be_lost(peer: InProcess) -> None:
    task = peer.call("plan_task", title="Held", description="-")["task_id"]
    assert peer.call("shutdown_prepare")["would_be_lost"] == []
    run = peer.call("execute_task", task_id=task)["run"]
    told = peer.call("shutdown_prepare")
    assert told["ready_for_shutdown"] is True
    assert told["checks"]["active_tasks"] == {
        "count": 1, "supervised": 0, "held_by_clients": 1, "suspendable": 1, "status": "active"
    }  # fmt: skip
    assert told["would_be_lost"][0].startswith(f"{run} of {task} goes back at ")
    bare = peer.call(
        "shutdown_prepare", check_active_tasks=False, check_database_state=False, check_client_connections=False
    )
    assert bare["checks"] == {}


def test_a_session_that_ended_or_is_not_there_fails_the_test_of_reconnecting(peer: InProcess, site: Site) -> None:
    session = peer.call("initialize_session")["session_id"]
    found = peer.call("reconnect_test", session_id=session)
    assert found["overall_status"] == "pass"
    assert found["results"]["store"]["read_ms"] > 0
    with site.open() as project:
        project.end_session(session)
    found = peer.call("reconnect_test", session_id=session)
    assert found["overall_status"] == "partial"
    assert found["results"]["session_test"]["status"] == "fail"
    assert peer.refused("reconnect_test", session_id="S99")["code"] == "no_session"
    bare = peer.call("reconnect_test", include_buffer_status=False, include_reconnection_stats=False)
    assert set(bare["results"]) == {"store", "all_sessions"}


def test_a_server_that_was_never_restarted_says_so(peer: InProcess) -> None:
    found = peer.call("restart_status", include_history=True)
    assert found["current_status"]["phase"] == "idle"
    assert found["history"] == {"recent_restarts": [], "total_restarts": 0, "last_successful_restart": None}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_store_that_is_broken_is_unhealthy_and_no_error(site: Site, store_url: str) -> None:
    data = bytearray(Path(store_url).read_bytes())
    data[100:4000] = b"\xff" * 3900
    Path(store_url).write_bytes(data)
    with InProcess(site) as client:
        found = client.call("health_check")
        assert (found["healthy"], found["ready"], found["live"]) == (False, False, True)
        assert found["checks"]["database"]["code"] == "store_corrupt"
        assert "the store is away" in found["checks"]["reboot_readiness"]["issues"][-1]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_store_that_vanished_is_missed_and_not_made_anew(site: Site, store_url: str) -> None:
    file = Path(store_url)
    with Pipe(site) as client:
        client.open()
        client.call("initialize_session")
        client.call("plan_task", title="Kept", description="-")
        away = file.with_name("away.db")
        file.rename(away)
        assert client.refused("plan_task", title="Lost", description="-")["code"] == "store_missing"
        assert client.refused("query_tasks")["code"] == "store_missing"
        found = client.call("health_check")
        assert (found["healthy"], found["checks"]["database"]["code"]) == (False, "store_missing")
        assert not file.exists()
        away.rename(file)
        client.call("plan_task", title="Second", description="-")
        assert [task["title"] for task in client.call("query_tasks")["tasks"]] == ["Kept", "Second"]
