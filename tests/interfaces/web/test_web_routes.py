"""The routes: what they do is what the use cases do, on both databases."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from visitors import Site, Visitor

from orchestrion.interfaces.web.house import House
from orchestrion.scheduler import permissions
from orchestrion.scheduler.permissions import Ask

pytestmark = pytest.mark.long


def test_a_task_is_made_found_changed_and_removed(visitor: Visitor) -> None:
    made = visitor.ask("POST", "tasks", json={"title": "one", "priority": 7, "tags": ["a"], "due_at": "2027-01-01"})
    assert made.status_code == 201
    assert made.headers["location"] == "/api/v1/tasks/T1"
    assert made.json()["due_at"] == "2027-01-01T00:00:00.000Z"
    visitor.post("tasks", {"title": "two", "after": ["T1"]})
    assert [task["id"] for task in visitor.get("ready")["tasks"]] == ["T1"]
    assert visitor.get("tasks/T2/why")["reasons"][0]["ids"] == ["T1"]
    assert visitor.ask("PATCH", "tasks/T2", json={"title": "second"}).json()["title"] == "second"
    assert visitor.get("tasks/T2")["edges"][0]["on"] == "T1"
    assert visitor.get("tasks?tag=a")["total"] == 1
    assert visitor.get("graph")["critical_path"] == ["T1", "T2"]
    assert visitor.ask("DELETE", "tasks/T2").status_code == 200
    visitor.refused("GET", "tasks/T2", 404, "no_task")


def test_lists_go_on_where_they_stopped(visitor: Visitor) -> None:
    for number in range(5):
        visitor.post("tasks", {"title": f"task {number}"})
    seen, cursor = [], None
    while True:
        page = visitor.get("tasks", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        seen += [task["id"] for task in page["tasks"]]
        assert page["total"] == 5
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == ["T1", "T2", "T3", "T4", "T5"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("tasks?parent=T99", 404, "no_task"),
        ("tasks?role=nope", 404, "no_role"),
        ("tasks?plan=nope", 404, "no_plan"),
        ("runs?task=T99", 404, "no_task"),
        ("decisions?task=T99", 404, "no_task"),
        ("decisions?session=S99", 404, "no_session"),
        ("permissions?task=T99", 404, "no_task"),
        ("permissions?run=R99", 404, "no_run"),
        ("files?task=T99", 404, "no_task"),
        ("files?run=R99", 404, "no_run"),
        ("metrics/stats?role=nope", 404, "no_role"),
        ("metrics/stats?plan=nope", 404, "no_plan"),
    ],
)
def test_a_list_of_what_is_not_there_is_not_empty(visitor: Visitor, path: str, status: int, code: str) -> None:
    visitor.post("tasks", {"title": "one"})
    visitor.refused("GET", path, status, code)


def test_a_role_is_found_by_any_of_its_names(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one", "role": "coder"})
    visitor.post("tasks", {"title": "two"})
    assert [one["id"] for one in visitor.get("tasks?role=coder")["tasks"]] == ["T1"]
    assert [one["id"] for one in visitor.get("tasks?role=implementer")["tasks"]] == ["T1"]
    assert [one["id"] for one in visitor.get("tasks?role=generic")["tasks"]] == ["T2"]


def test_no_route_takes_a_parameter_that_it_does_not_have(visitor: Visitor) -> None:
    routes = [(method, path) for path, one in visitor.get("openapi.json")["paths"].items() for method in one]
    for method, path in routes:
        known = re.sub("{[a-z]+}", "1", path)
        answer = visitor.ask(method.upper(), f"{known}?bogus=1", json={})
        if answer.json()["code"] != "no_route":
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameters"), (method, path)
    problem = visitor.refused("GET", "tasks?stat=ready", 422, "invalid_parameters")
    assert "did you mean state?" in problem["hint"]


def test_no_route_takes_a_body_that_it_does_not_have(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    run = visitor.post("tasks/T1/claim", {"lease_s": 30})["run"]
    before = visitor.get(f"runs/{run}")["lease_until"]
    bodiless = [
        (method, path)
        for path, one in visitor.get("openapi.json")["paths"].items()
        for method, operation in one.items()
        if "requestBody" not in operation and path != "/api/v1/events"
    ]
    assert ("post", "/api/v1/pause") in bodiless
    for method, path in bodiless:
        answer = visitor.ask(method.upper(), re.sub("{[a-z]+}", "1", path), json={"lease_s": 5})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameters"), (method, path)
    visitor.refused("POST", f"runs/{run}/heartbeat", 422, "invalid_parameters", json={"lease_s": 5})
    assert visitor.get(f"runs/{run}")["lease_until"] == before
    for nothing in ({}, None):
        assert visitor.ask("POST", f"runs/{run}/heartbeat", json=nothing).status_code == 200


def test_what_a_task_waits_for_in_two_ways_is_named_once(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    visitor.post("tasks", {"title": "two", "after": ["T1"], "data_after": ["T1"]})
    assert len(visitor.get("tasks/T2")["edges"]) == 2
    assert visitor.get("tasks/T2")["after"] == ["T1"]


def test_the_schema_of_a_change_says_what_can_be_cleared(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    fields = visitor.get("openapi.json")["components"]["schemas"]["Changes"]["properties"]
    clearable = {name for name, field in fields.items() if {"type": "null"} in field.get("anyOf", [])}
    for name in fields:
        answer = visitor.ask("PATCH", "tasks/T1", json={name: None})
        assert answer.status_code == (200 if name in clearable else 422), (name, answer.text)
        assert name in clearable or answer.json()["code"] == "not_clearable"


@pytest.mark.parametrize("send", ["POST", "PATCH"])
def test_every_task_has_a_type(visitor: Visitor, send: str) -> None:
    visitor.post("tasks", {"title": "one"})
    path, body = ("tasks", {"title": "two"}) if send == "POST" else ("tasks/T1", {})
    visitor.refused(send, path, 422, "invalid_parameters", json={**body, "type": ""})
    assert visitor.get("tasks")["total"] == 1
    assert visitor.get("tasks/T1")["type"] == "standard"


def test_a_client_claims_and_reports(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    visitor.post("tasks", {"title": "two", "after": ["T1"]})
    claimed = visitor.post("tasks/T1/claim", {"agent": "me", "lease_s": 60})
    assert "one" in claimed["brief"]
    assert visitor.post(f"runs/{claimed['run']}/heartbeat")["state"] == "running"
    taken = visitor.refused("POST", "tasks/T1/claim", 409, "already_taken")
    assert "`POST /api/v1/tasks/T1/claim` takes T1 then" in taken["hint"]
    done = visitor.post("runs/R1/done", {"summary": "it works", "detail": "long"})
    assert done["unblocked"] == ["T2"]
    assert visitor.get("runs/R1")["summary"] == "it works"
    assert visitor.get("runs?task=T1")["total"] == 1
    assert visitor.get("artifacts/A1")["text"] == "long"
    visitor.refused("POST", "runs/R1/kill", 409, "stale_run")
    visitor.refused("GET", "runs/R1/diff", 404, "no_commits")
    assert visitor.get("runs/R1/log") == {"run": "R1", "lines": [], "next_offset": 0, "over": True}
    assert visitor.post("runs/R1/cleanup")["removed"] is True
    visitor.post("tasks/T2/claim")
    assert visitor.post("runs/R2/fail", {"error": "no", "code": "client_failed"})["task"]["state"] == "failed"
    assert visitor.post("tasks/T2/retry")["state"] == "ready"
    assert visitor.post("tasks/T1/reopen", {"reason": "wrong"})["state"] == "ready"


def test_people_decide(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    assert visitor.post("tasks/T1/gates", {"kind": "approval", "name": "may it?"})["state"] == "blocked"
    assert visitor.post("gates/G1/open", {"answer": "yes"})["state"] == "ready"
    visitor.post("tasks", {"title": "two"})
    assert visitor.post("tasks/T1/edges", {"on": "T2"})["after"] == ["T2"]
    assert visitor.post("tasks/T1/edges/T2/waive", {"reason": "stub"})["state"] == "ready"
    assert visitor.ask("DELETE", "tasks/T1/edges/T2").json()["after"] == []
    assert visitor.post("tasks/T1/move", {"parent": "T2"})["parent"] == "T2"
    assert visitor.post("tasks/T1/move", {"parent": None})["parent"] is None
    assert visitor.post("tasks/T1/cancel", {"reason": "no"})["state"] == "cancelled"
    assert visitor.post("tasks/T1/archive")["archived_at"]


def test_people_decide_what_agents_may(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "x"})
    visitor.post("tasks/T1/claim", {"agent": "me"})
    visitor.house.cases.store.write(lambda tx: permissions.note(tx, 1, 1, [Ask("Bash", "make"), Ask("Bash", "a; b")]))
    listed = visitor.get("permissions")
    assert (listed["total"], [one["rule"] for one in listed["permissions"]]) == (2, [None, "Bash(make)"])
    allowed = visitor.post("permissions/1/allow")
    assert (allowed["state"], allowed["decided_by"], allowed["retried"]) == ("allowed", "web:local", False)
    visitor.refused("POST", "permissions/1/refuse", 409, "decided")
    visitor.refused("POST", "permissions/2/allow", 409, "no_rule")
    visitor.refused("POST", "permissions/3/allow", 404, "no_permission")
    assert visitor.post("permissions/2/refuse")["state"] == "refused"
    assert visitor.get("permissions")["total"] == 0
    levels = visitor.get("metrics/service-levels")["levels"]
    assert [(one["role"], one["open"], one["limit_s"]) for one in levels] == [("", 1, None)]


def test_a_plan_becomes_tasks(visitor: Visitor) -> None:
    text = "plan: p\ntasks:\n  - key: a\n    title: A\n  - key: b\n    title: B\n    after: [a]\n"
    assert visitor.post("plans", {"text": text, "dry_run": True})["dry_run"] is True
    assert visitor.get("tasks")["total"] == 0
    made = visitor.post("plans", {"text": text})["tasks"]
    assert visitor.get(f"tasks/{made['b']}")["after"] == [made["a"]]
    problem = visitor.refused("POST", "plans", 422, "plan_refused", json={"text": "plan: [\n"})
    assert "line" in problem["detail"]


def test_no_counter_of_runs_falls(visitor: Visitor) -> None:
    """A run is counted once it is over: an active one would leave its state again."""

    def counted() -> list[str]:
        lines = visitor.ask("GET", "/metrics").text.splitlines()
        return [line for line in lines if line.startswith("orchestrion_run") and "_total{" in line]

    visitor.post("tasks", {"title": "x"})
    run = visitor.post("tasks/T1/claim")["run"]
    assert counted() == []
    visitor.post(f"runs/{run}/done", {"summary": "done"})
    assert 'orchestrion_runs_total{agent="",state="succeeded"} 1.0' in counted()


def test_memory_is_there(visitor: Visitor) -> None:
    made = visitor.ask("POST", "decisions", json={"title": "Use SQL", "decision": "yes", "impact": "high"})
    assert (made.status_code, made.headers["location"]) == (201, "/api/v1/decisions/D1")
    assert visitor.get("decisions?search=sql")["total"] == 1
    assert visitor.get("decisions/D1")["title"] == "Use SQL"
    alternatives = ["files", {"name": "a broker", "cons": ["one more"]}]
    visitor.post("decisions", {"title": "Once more", "decision": "yes", "alternatives": alternatives})
    assert visitor.get("decisions/D2")["alternatives"] == [{"name": "files"}, alternatives[1]]
    assert visitor.get("search?text=sql")
    assert {"implementer", "tester"} <= {role["name"] for role in visitor.get("roles")["roles"]}
    assert visitor.get("sessions")["sessions"] == []
    assert visitor.get("files") == {"files": [], "overlaps": []}


def test_the_queue_is_steered(visitor: Visitor) -> None:
    assert visitor.post("pause") == {"paused": True}
    assert visitor.get("status")["paused_at"]
    assert visitor.post("resume") == {"paused": False, "was_open": None}
    assert visitor.post("resume", {"agent": "nosuch"}) == {"paused": False, "was_open": False}
    visitor.ask("PATCH", "slots", json={"slots": {"global": 3}})
    taken = visitor.ask("PATCH", "slots", json={"slots": {"global": None}})
    assert (taken.status_code, taken.json()) == (200, {"slots": [], "notes": []})
    visitor.refused("PATCH", "slots", 404, "no_slot", json={"slots": {"global": None}})
    changed = visitor.ask("PATCH", "slots", json={"slots": {"agent:claude": 2}}).json()["slots"]
    assert {"name": "agent:claude", "capacity": 2, "used": 0}.items() <= changed[0].items()
    assert visitor.get("health")["ready"] is True
    assert visitor.get("metrics/stats?since=24h")["runs"] == 0
    visitor.refused("GET", "metrics/stats?since=yesterday", 422, "invalid_time")


def test_who_did_it_and_under_which_request_stands_in_the_journal(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"}, headers={"X-Request-Id": "trace-7"})
    event = visitor.get("journal")["events"][0]
    assert (event["actor"], event["correlation"]) == ("web:local", "trace-7")
    answer = visitor.ask("GET", "tasks", headers={"X-Request-Id": "bad id\t"})
    assert answer.headers["x-request-id"].startswith("web-")


def test_commands_come_from_trusted_doors_alone(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    for method, path, body in (
        ("POST", "tasks", {"title": "x", "run": "true"}),
        ("POST", "tasks", {"title": "x", "checks": ["true"]}),
        ("POST", "tasks", {"title": "x", "setup": "true"}),
        ("PATCH", "tasks/T1", {"checks": ["true"]}),
        ("POST", "plans", {"text": "plan: p\ntasks:\n  - title: a\n    run: 'true'\n"}),
        ("POST", "plans", {"text": "plan: p\ndefaults: {check: 'true'}\ntasks:\n  - title: a\n"}),
    ):
        refused = visitor.refused(method, path, 403, "commands_refused", json=body)
        # Only a check can have a name; a command of another field is refused whatever the settings say.
        assert ("name it under `checks`" in refused["hint"]) is ("check" in str(body)), body
    assert visitor.get("tasks")["total"] == 1


def test_named_checks_come_from_every_door(site: Site) -> None:
    site.configure({"checks": {"unit": "true"}})
    house = House.open(str(site.root), None, site.environ)
    with Visitor(house, site.key) as visitor:
        assert visitor.post("tasks", {"title": "x", "checks": ["unit"]})["checks"] == ["unit"]
    house.close()


def test_commands_come_if_a_setting_says_so(site: Site) -> None:
    site.configure({"serve": {"commands": True}})
    house = House.open(str(site.root), None, site.environ)
    with Visitor(house, site.key) as visitor:
        assert visitor.post("tasks", {"title": "x", "run": "true"})["run_command"] == "true"
    house.close()


def test_what_the_caller_has_is_not_sent_again(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    for path in ("tasks", "tasks/T1", "ready", "status", "roles"):
        tag = visitor.ask("GET", path).headers["etag"]
        again = visitor.ask("GET", path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b""), path
    tag = visitor.ask("GET", "tasks").headers["etag"]
    visitor.post("tasks", {"title": "two"})
    assert visitor.ask("GET", "tasks", headers={"If-None-Match": tag}).status_code == 200


def test_a_change_does_not_overwrite_another(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    tag = visitor.ask("GET", "tasks/T1").headers["etag"]
    assert visitor.ask("PATCH", "tasks/T1", json={"title": "mine"}, headers={"If-Match": tag}).status_code == 200
    visitor.refused("PATCH", "tasks/T1", 412, "version_changed", json={"title": "yours"}, headers={"If-Match": tag})
    assert visitor.get("tasks/T1")["title"] == "mine"


def test_of_many_changes_of_one_version_one_wins(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    tag = visitor.ask("GET", "tasks/T1").headers["etag"]
    found: list[Any] = []

    def change(number: int) -> None:
        answer = visitor.ask("PATCH", "tasks/T1", json={"title": f"by {number}"}, headers={"If-Match": tag})
        found.append(answer.status_code)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [412] * 7


def test_an_agent_is_called_as_a_task_could_call_it(visitor: Visitor) -> None:
    visitor.post("tasks", {"title": "one"})
    for agent in ("a\0b\x1b[31m", "two words"):
        for path in ("tasks/T1/claim", "resume"):
            visitor.refused("POST", path, 422, "invalid_agent", json={"agent": agent})
    assert visitor.get("runs")["total"] == 0
