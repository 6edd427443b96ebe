"""Streamable HTTP: only this machine may come in, sessions are the clients' own, no other project is served."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from peers import PATIENCE_S, House, InProcess, Site, official

from orchestrion.core.errors import EnvironmentProblem, InvalidInput
from orchestrion.interfaces.mcp import http
from premises import key_of

pytestmark = pytest.mark.long

ACCEPT = "application/json, text/event-stream"
HANDSHAKE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "web", "version": "1"},
    },
}


@pytest.fixture
def dialect() -> str:
    return "sqlite"


@pytest.fixture
def house(site: Site) -> Iterator[House]:
    with site.http() as one:
        yield one


def post(url: str, body: bytes | dict[str, Any], method: str = "POST", **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body of the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", "Accept": ACCEPT, **headers}
    asked = urllib.request.Request(url, data=data, headers=given, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Host", "evil.example"),
        ("Host", "127.0.0.1.evil.example:7117"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1.evil.example"),
    ],
)
def test_who_is_not_of_this_machine_is_refused(house: House, header: str, value: str) -> None:
    status, _, _ = post(house.url, HANDSHAKE, **{header: value})
    assert status in (403, 421)


def test_behind_a_proxy_nobody_is_from_this_machine(house: House, site: Site) -> None:
    for header in ("Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Server", "X-Envoy-External-Address"):
        for key in ({}, {"Authorization": f"Bearer {key_of(site.root)}"}):
            status, _, said = post(house.url, HANDSHAKE, **{header: "10.0.0.1"}, **key)
            assert (status, json.loads(said)["error"]["code"]) == (403, "proxied")
    assert post(house.url, HANDSHAKE)[0] == 200


def test_every_address_of_this_machine_is_guarded(site: Site) -> None:
    with site.http("--host", "127.0.0.2") as house:
        assert post(house.url, HANDSHAKE)[0] == 200
        assert post(house.url, HANDSHAKE, Host="evil.example")[0] in (403, 421)
        assert post(house.url, HANDSHAKE, Origin="https://evil.example")[0] in (403, 421)


def test_a_page_of_this_machine_may_ask(house: House) -> None:
    status, _, _ = post(house.url, HANDSHAKE, Origin=house.url.removesuffix("/mcp"))
    assert status == 200


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"not json", {}),
        (b"", {}),
        (b"[" * 100_000, {}),
        (b"\xff\xfe", {}),
        (b"{}", {"Content-Type": "text/plain"}),
        (b"{}", {"Accept": "text/html"}),
        (b"{}", {"Content-Type": "application/json; charset=utf-16"}),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}', {"Mcp-Session-Id": "no-such-session"}),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}', {"Mcp-Protocol-Version": "1999-01-01"}),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}', {"Mcp-Session-Id": "../../x"}),
    ],
)
def test_what_is_no_request_is_refused_and_harms_nobody(house: House, body: bytes, headers: dict[str, str]) -> None:
    status, _, said = post(house.url, body, **headers)
    assert 400 <= status < 500
    assert b"Traceback" not in said
    assert post(house.url, HANDSHAKE)[0] == 200


@pytest.mark.parametrize("path", ["", "/", "/mcp/../etc/passwd", "/api", "/.git/config"])
def test_nothing_else_is_served(house: House, path: str) -> None:
    status, _, _ = post(house.url.removesuffix("/mcp") + path, HANDSHAKE)
    assert status in (404, 405)


def test_a_body_of_ten_megabytes_is_taken(house: House) -> None:
    big = {**HANDSHAKE, "params": {**HANDSHAKE["params"], "more": "x" * 10_000_000}}  # type: ignore[dict-item]
    assert post(house.url, big)[0] == 200
    assert post(house.url, HANDSHAKE)[0] == 200


def test_who_goes_within_a_body_is_no_bug() -> None:
    came = [{"type": "http.request", "body": b"to", "more_body": True}, {"type": "http.disconnect"}]

    async def never(*_: Any) -> None:
        raise AssertionError("the library was asked")

    async def receive() -> Any:
        return came.pop(0)

    asyncio.run(http.Sessions(never, {})({"type": "http", "method": "POST", "headers": []}, receive, never))
    assert came == []


def test_a_session_ends_when_its_client_says_so(house: House) -> None:
    _, headers, _ = post(house.url, HANDSHAKE)
    session = headers["mcp-session-id"]
    asked = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
    assert post(house.url, asked, **{"Mcp-Session-Id": session})[0] == 200
    assert post(house.url, b"", method="DELETE", **{"Mcp-Session-Id": session})[0] in (200, 204)
    assert post(house.url, asked, **{"Mcp-Session-Id": session})[0] == 404


def test_two_clients_hold_tasks_of_their_own(house: House) -> None:
    with official(house, mode="legacy") as first, official(house, mode="legacy") as second:
        task = first.call("plan_task", title="x", description="y")["task_id"]
        run = first.call("execute_task", task_id=task)["run"]
        assert first.call("execute_task", task_id=task)["run"] == run
        assert second.refused("execute_task", task_id=task)["code"] == "already_taken"
        sessions = {one.call("get_status")["session_info"]["session_id"] for one in (first, second)}
        second.call("initialize_session")
        assert len(sessions | {second.call("get_status")["session_info"]["session_id"]}) >= 2


def test_no_other_project_can_be_chosen_from_here(house: House, site: Site) -> None:
    other = site.root.parent / "other"
    other.mkdir()
    with official(house) as client:
        for folder in (str(other), "/", "..", "~"):
            assert client.refused("initialize_session", working_directory=folder)["code"] == "other_project"
        assert client.call("initialize_session", working_directory=str(site.root))["session_id"]
    assert not list(other.iterdir())


def test_sigterm_ends_the_server(site: Site) -> None:
    with site.http() as house:
        house.process.send_signal(signal.SIGTERM)
        assert house.process.wait(PATIENCE_S) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", "127.0.0.1:80", "", "x" * 1000])
def test_it_listens_on_this_machine_alone(host: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        http.listen(host, 0, {})
    assert refused.value.code == "not_loopback"
    assert len(str(refused.value)) < 300


def test_a_port_in_use_is_said(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentProblem) as refused:
            http.listen("localhost", port, {})
        assert refused.value.code == "port_in_use"
        assert "--port" in refused.value.hint
        process = site.start("--http", "--port", str(port), stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 7
    assert b"cannot listen" in said


# -- choosing a project on stdio --------------------------------------------------------------------------


def test_on_stdio_a_client_chooses_its_project(peer: InProcess, site: Site) -> None:
    other = site.root.parent / "other"
    other.mkdir()
    peer.desk._db = None
    begun = peer.call("initialize_session", working_directory=str(other))
    assert begun["working_directory"] == str(other)
    assert begun["detection"]["created"] is True
    task = peer.call("plan_task", title="there", description="x")["task_id"]
    assert (other / ".orchestrion").is_dir()
    with site.open() as cases:
        assert task not in [one["id"] for one in cases.list_tasks().as_json("tasks")["tasks"]]


def test_it_is_said_where_nothing_was_remembered_yet(peer: InProcess, site: Site) -> None:
    other = site.root.parent / "repository"
    other.mkdir()
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    peer.desk._db = None
    for created in (True, False):
        begun = peer.call("initialize_session", working_directory=str(other))
        assert begun["detection"]["created"] is created


def test_a_folder_that_is_not_there_is_not_made(peer: InProcess, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (str(site.root / "no" / "such"), str(site.root / "a.txt"), "relative", "a\0b", "~nobody/x"):
        peer.refused("initialize_session", working_directory=folder)
    assert not (site.root / "no").exists()
    # Nor is one made a project that holds everything there is.
    monkeypatch.setenv("HOME", site.environ["HOME"])
    for everything in ("/", "~", site.environ["HOME"]):
        assert peer.refused("initialize_session", working_directory=everything)["code"]
