"""A person behind the client may overrule a refusal, in every revision, where their client lets us ask."""

from __future__ import annotations

from typing import Any

import pytest
from peers import Official, Site, official

pytestmark = pytest.mark.long


@pytest.fixture
def dialect() -> str:
    return "sqlite"


class Person:
    """Somebody who is asked, and always answers the same."""

    def __init__(self, action: str, content: dict[str, Any] | None = None) -> None:
        self.asked: list[str] = []
        self._answer = {"action": action, "content": content}

    async def __call__(self, context: object, params: Any) -> Any:
        from mcp_types import ElicitResult

        self.asked.append(params.message)
        return ElicitResult.model_validate(self._answer)


def awaited_task(client: Official) -> str:
    task = client.call("plan_task", title="Awaited", description="-")["task_id"]
    client.call("plan_task", title="Waits", description="-", dependencies=[task])
    return str(task)


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_who_agrees_overrules_the_refusal(site: Site, mode: str) -> None:
    person = Person("accept", {"confirm": True})
    with official(site, mode=mode, elicitation_callback=person) as client:
        task = awaited_task(client)
        assert client.call("delete_task", task_id=task)["action"] == "archived"
    assert len(person.asked) == 1
    assert person.asked[0].startswith(f"{task} is awaited by T2")


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize(
    "person", [Person("decline"), Person("cancel"), Person("accept", {"confirm": False}), Person("accept", {})]
)
def test_otherwise_it_stands(site: Site, mode: str, person: Person) -> None:
    person.asked.clear()
    with official(site, mode=mode, elicitation_callback=person) as client:
        task = awaited_task(client)
        assert client.refused("delete_task", task_id=task)["code"] == "has_dependents"
        assert client.call("query_tasks", task_id=task)["tasks"][0]["status"] == "pending"
    assert len(person.asked) == 1


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_nobody_is_asked_who_cannot_be(site: Site, mode: str) -> None:
    with official(site, mode=mode) as client:
        assert client.refused("delete_task", task_id=awaited_task(client))["code"] == "has_dependents"


def test_over_http_too(site: Site) -> None:
    person = Person("accept", {"confirm": True})
    with site.http() as house, official(house, mode="legacy", elicitation_callback=person) as client:
        assert client.call("delete_task", task_id=awaited_task(client))["action"] == "archived"
    assert len(person.asked) == 1
