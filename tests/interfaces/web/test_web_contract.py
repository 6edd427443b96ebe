"""The OpenAPI document is what the server does: whatever is sent, every answer is one that the document promises."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from orchestrion.interfaces.web.app import create_app
from orchestrion.interfaces.web.house import House
from orchestrion.scheduler import permissions
from orchestrion.scheduler.permissions import Ask

pytestmark = pytest.mark.long

#: Requests of each kind that are tried on each route.
EXAMPLES = 8
#: An answer without an end.
ENDLESS = "/api/v1/events"
CHECKS: list[Any] = [status_code_conformance, content_type_conformance, response_schema_conformance]
#: Names of things that are there.
KNOWN: dict[str, str | int] = {
    "task": "T2",
    "on": "T1",
    "gate": "G1",
    "run": "R2",
    "decision": "D1",
    "session": "S1",
    "artifact": "A1",
    "permission": 1,
}


def fill(house: House) -> None:
    """Something of everything, so that names which are tried exist."""
    cases = house.cases
    for number in range(1, 10):
        cases.add(f"task {number}", after=[f"T{number - 1}"] if number % 3 == 0 else [])
    run = cases.claim("T1")["run"]
    cases.done(run, "done", detail="text")
    cases.claim("T2")
    cases.store.write(lambda tx: permissions.note(tx, 2, 2, [Ask("Bash", "make")]))
    cases.add_gate("T4", "approval", called="may it?")
    cases.decide("Use SQL", decision="yes")
    cases.start_session("s", client="c")


@pytest.fixture(autouse=True)
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No agent is started, and its start is not waited for."""
    monkeypatch.setattr("orchestrion.orchestrator.starting.START_S", 0.05)
    monkeypatch.setattr("orchestrion.orchestrator.starting._PROGRAM", "pass")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_every_answer_is_promised(house: House, kind: str) -> None:
    fill(house)
    # The library goes by this name.
    house.names = frozenset({"testserver"})
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", create_app(house))
    mode = schemathesis.GenerationMode.POSITIVE if kind == "right" else schemathesis.GenerationMode.NEGATIVE
    # The library asks from no address of this machine, where the key would do.
    token = house.cases.create_token("contract", "admin")["token"]
    headers = {"X-Orchestrion": "1", "Authorization": f"Bearer {token}"}
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == ENDLESS or (kind == "wrong" and not can_be_wrong(operation)):
            continue
        names = {one.name: KNOWN[one.name] for one in operation.path_parameters}
        for parameters in (names, None) if names else (None,):
            statuses = seen.setdefault(operation.label, set())
            try_out(operation.as_strategy(generation_mode=mode, path_parameters=parameters), statuses, headers)
    assert len(seen) > (40 if kind == "right" else 25)
    if kind == "right":
        reached = {label for label, statuses in seen.items() if any(status < 300 for status in statuses)}
        assert len(reached) > 30, sorted(seen.keys() - reached)


def can_be_wrong(operation: Any) -> bool:
    """Whether anything can be sent that the document does not allow."""
    return bool(operation.body or operation.query)


def try_out(requests: Any, statuses: set[int], headers: dict[str, str]) -> None:
    """Sends requests and holds each answer against the document."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=requests)
    def one(case: Any) -> None:
        answer = case.call(headers=headers)
        assert answer.status_code != 500, answer.text
        case.validate_response(answer, checks=CHECKS)
        statuses.add(answer.status_code)

    one()


def test_every_route_of_the_contract_is_there(house: House) -> None:
    paths = create_app(house).openapi()["paths"]
    have = {(method.upper(), path.removeprefix("/api/v1/")) for path, one in paths.items() for method in one}
    acts = {("POST", f"tasks/{{task}}/{act}") for act in ("claim", "cancel", "retry", "reopen", "approve", "reject")}
    acts |= {("POST", f"runs/{{run}}/{act}") for act in ("kill", "message", "heartbeat", "done", "fail", "cleanup")}
    promised = {
        ("GET", "tasks"), ("POST", "tasks"), ("GET", "tasks/{task}"), ("PATCH", "tasks/{task}"),
        ("DELETE", "tasks/{task}"), ("POST", "tasks/{task}/edges"), ("POST", "gates/{gate}/open"), ("POST", "plans"),
        ("GET", "ready"), ("GET", "graph"), ("POST", "runs"), ("GET", "runs"), ("GET", "runs/{run}"),
        ("GET", "runs/{run}/log"), ("GET", "runs/{run}/diff"), ("GET", "decisions"), ("POST", "decisions"),
        ("GET", "files"), ("GET", "sessions"), ("GET", "roles"), ("GET", "events"), ("GET", "metrics/stats"),
        ("GET", "health"),
    }  # fmt: skip
    assert promised | acts <= have


def test_the_document_says_what_everything_is(house: House) -> None:
    document = create_app(house).openapi()
    for path, one in document["paths"].items():
        for method, said in one.items():
            assert said["description"], (method, path)
            assert {"401", "403", "422", "429", "503"} <= said["responses"].keys(), (method, path)
    assert document["components"]["schemas"]["Problem"]
