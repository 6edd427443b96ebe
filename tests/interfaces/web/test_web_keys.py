"""A POST with a key is done once: sent again, sent at once by many, and sent again after its server died."""

from __future__ import annotations

import os
import threading
import uuid
from typing import Any

import pytest
from visitors import Visitor

from orchestrion.core.errors import Conflict
from orchestrion.core.rights import Caller
from orchestrion.interfaces.web.house import House

pytestmark = pytest.mark.long


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_the_answer_comes_again(visitor: Visitor) -> None:
    first = visitor.ask("POST", "tasks", json={"title": "one"}, headers=keyed("k1"))
    again = visitor.ask("POST", "tasks", json={"title": "one"}, headers=keyed("k1"))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"
    assert visitor.get("tasks")["total"] == 1
    visitor.refused("POST", "tasks", 422, "key_reused", json={"title": "two"}, headers=keyed("k1"))
    visitor.refused("POST", "pause", 422, "key_reused", headers=keyed("k1"))


def test_what_was_refused_may_be_sent_again(visitor: Visitor) -> None:
    visitor.refused("POST", "tasks/T1/claim", 404, "no_task", headers=keyed("k1"))
    visitor.post("tasks", {"title": "one"})
    assert visitor.post("tasks/T1/claim", headers=keyed("k1"))["run"] == "R1"


def test_keys_belong_to_their_senders(visitor: Visitor, house: House) -> None:
    visitor.post("tasks", {"title": "one"}, headers=keyed("k1"))
    token = house.cases.create_token("ci", "operate")["token"]
    other = {"Authorization": f"Bearer {token}", **keyed("k1")}
    assert visitor.post("tasks", {"title": "one"}, headers=other)["id"] == "T2"


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 101, "\xe4"])
def test_what_is_no_key_is_refused(visitor: Visitor, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    visitor.refused("POST", "tasks", 422, "invalid_key", json={"title": "one"}, headers=headers)


def test_of_many_at_once_one_is_done(visitor: Visitor) -> None:
    answers: list[Any] = []

    def send() -> None:
        answers.append(visitor.ask("POST", "tasks", json={"title": "one"}, headers=keyed("k1")))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert visitor.get("tasks")["total"] == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes <= {"in_progress"}


def test_a_request_whose_server_died_is_done_or_said_to_be_done(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def cases() -> Any:
        return house.on_behalf_of(Caller("web:local", correlation=uuid.uuid4().hex))

    with monkeypatch.context() as patch:
        # No process has this number and began at that time.
        patch.setattr(
            "orchestrion.orchestrator.guarding.GuardingCases._holder", lambda self: f"{self.host.id}/{os.getpid()}/1.0"
        )
        idle = cases()
        assert idle.begin_request("idle", "f")[1] is None
        busy = cases()
        assert busy.begin_request("busy", "f")[1] is None
        busy.add("one")
    assert cases().begin_request("idle", "f")[1] is None
    with pytest.raises(Conflict) as refused:
        cases().begin_request("idle", "f")
    assert refused.value.code == "in_progress"
    with pytest.raises(Conflict) as refused:
        cases().begin_request("busy", "f")
    assert refused.value.code == "already_done"
    assert refused.value.details["tasks"] == ["T1"]


def test_old_answers_are_forgotten(visitor: Visitor, house: House) -> None:
    visitor.post("tasks", {"title": "one"}, headers=keyed("k1"))
    assert house.cases.forget_requests() == 0
    house.cases.store.now = house.cases.store.read(lambda tx: tx.the("clock"))["now"] + 86_500_000
    assert house.cases.forget_requests() == 1
