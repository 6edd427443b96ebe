"""The journal as a stream: from any process, from any line, over a restart of the server."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest
from starlette.requests import Request
from visitors import Served, Site

from orchestrion.core.rights import Caller
from orchestrion.interfaces.web import events
from orchestrion.interfaces.web.house import House
from waiting import wait_for

pytestmark = pytest.mark.long


def take(served: Served, count: int, path: str = "/api/v1/events", **headers: str) -> list[dict[str, Any]]:
    with served.stream(path, **headers) as stream:
        return list(itertools.islice(stream, count))


def test_changes_of_other_processes_arrive(site: Site) -> None:
    with site.served() as served:
        found: list[dict[str, Any]] = []
        with served.stream("/api/v1/events?since=0") as stream:
            reader = threading.Thread(target=lambda: found.extend(itertools.islice(stream, 3)))
            reader.start()
            assert site.run("add", "from the command line").returncode == 0
            served.ask("POST", "/api/v1/tasks", {"title": "from here", "after": ["T1"]}, X_Request_Id="r1")
            reader.join(30)
        assert [(one["event"], one["task"]) for one in found] == [
            ("task.created", "T1"), ("task.ready", "T1"), ("task.created", "T2"),
        ]  # fmt: skip
        assert found[0]["kind"] == found[0]["event"]
        assert found[0]["id"] == found[0]["line"]
        assert (found[2]["actor"], found[2]["correlation"]) == ("web:local", "r1")


def test_a_client_goes_on_where_it_was(site: Site) -> None:
    with site.open() as orchestrion:
        for number in range(700):
            orchestrion.add(f"task {number}")
    with site.served() as served:
        whole = take(served, 1400, "/api/v1/events?since=0")
        numbers = [one["line"] for one in whole]
        assert numbers == sorted(set(numbers))
        middle = numbers[650]
        rest = take(served, 749, Last_Event_ID=str(middle))
        assert [one["line"] for one in rest] == numbers[651:]
        status, problem = served.ask("GET", "/api/v1/events", Last_Event_ID="x")
        assert (status, problem["code"]) == (422, "invalid_event_id")


def test_streams_end_when_the_server_does_and_go_on_at_the_next(site: Site) -> None:
    with site.served() as served, served.stream("/api/v1/events?since=0") as stream:
        site.run("add", "one")
        first = list(itertools.islice(stream, 2))
        served.process.terminate()
        assert list(stream) == []
        assert served.process.wait(20) == 0
    site.run("add", "two")
    with site.served() as served:
        rest = take(served, 2, Last_Event_ID=str(first[-1]["line"]))
    assert [one["task"] for one in rest] == ["T2", "T2"]


def test_streams_have_a_bound(site: Site) -> None:
    site.configure({"serve": {"streams": 2}})
    with site.served() as served, served.stream() as one, served.stream() as other:
        assert one is not other
        wait_for(lambda: served.ask("GET", "/api/v1/events", Authorization="")[0] == 429)


def test_streams_without_the_key_make_room_for_those_with_it(site: Site) -> None:
    site.configure({"serve": {"streams": 2}})
    with site.served() as served, served.stream() as first, served.stream() as second:
        key = {"Authorization": f"Bearer {site.key}"}
        wait_for(lambda: served.ask("GET", "/api/v1/events", Authorization="")[0] == 429)
        with served.stream(**key), served.stream(**key):
            assert list(first) == list(second) == []
            wait_for(lambda: served.ask("GET", "/api/v1/events")[0] == 429)
            assert served.ask("GET", "/api/v1/events", Authorization="")[0] == 429


def test_a_stream_does_not_outlive_its_token(site: Site, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is to tell meanwhile."""
    monkeypatch.setattr(events, "ALIVE_S", 0.2)
    token = house.cases.create_token("ci")["token"]
    told, ended = threading.Event(), threading.Event()

    async def read() -> None:
        streams = events.Events(house)
        request = Request({"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]})
        async with streams:
            answer = await streams.stream(Caller("token:ci", "read"), None, request)
            async for piece in answer.body_iterator:
                if b"event: " in piece:
                    told.set()
        ended.set()

    reader = threading.Thread(target=lambda: asyncio.run(read()))
    reader.start()
    writing = threading.Event()

    def write() -> None:
        with site.open() as orchestrion:
            while not writing.wait(0.02):
                orchestrion.add("more")

    writer = threading.Thread(target=write)
    writer.start()
    assert told.wait(60)
    assert not ended.is_set()
    house.cases.revoke_token("ci")
    assert ended.wait(60)
    writing.set()
    writer.join()
    reader.join()
