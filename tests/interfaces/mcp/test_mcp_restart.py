"""A server that replaces itself, with clients that are real processes or the official client: none of them notices."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from peers import House, InProcess, Peer, Pipe, Reply, Site, official

from waiting import wait_for

pytestmark = [pytest.mark.parametrize("dialect", ["sqlite"], indirect=True), pytest.mark.long]
PATIENCE_S = 30.0


def is_over(peer: Peer) -> Reply:
    """The state of the restart once it is over."""

    def look() -> Reply | None:
        now: Reply = peer.call("restart_status", include_history=True)["current_status"]
        return now if now["phase"] in ("complete", "failed") else None

    return dict(wait_for(look, "the restart is over"))


def started(pid: int) -> str:
    """What a process is: its environment shows which snapshot it was started from."""
    return " ".join(psutil.Process(pid).environ())


# -- stdio ---------------------------------------------------------------------------------------


def test_over_stdio_the_process_executes_itself_anew_and_the_client_goes_on(site: Site) -> None:
    with Pipe(site) as client:
        client.open()
        session = client.call("initialize_session")["session_id"]
        task = client.call("plan_task", title="Long", description="-")["task_id"]
        run = client.call("execute_task", task_id=task)["run"]
        before = client.call("health_check")["components"]["server"]
        pid = client.process.pid
        asked = client.call("restart_server", reason="configuration_update", timeout=10)
        assert (asked["phase"], asked["restart_reason"]) == ("preparing", "configuration_update")
        over = is_over(client)
        assert over["errors"] == []
        assert over["phase"] == "complete"
        assert over["maintenance_mode"] is False
        assert client.process.pid == pid
        assert "ORCHESTRION_RESTART" in started(pid)
        after = client.call("health_check")["components"]["server"]
        assert after["uptime_s"] < before["uptime_s"] + 60
        assert client.call("execute_task", task_id=task)["run"] == run
        test = client.call("reconnect_test", session_id=session)
        assert test["overall_status"] == "pass"
        assert test["results"]["session_test"]["connection"]["restarts_survived"] == 1
        assert test["results"]["reconnection_stats"]["successful"] == 1
        done = client.call(
            "complete_task", task_id=task, run=run, summary="s", detailed_work="w", next_action="complete"
        )
        assert done["task_status"] == "completed"
    with site.open() as project:
        mine = [one["session"] for one in project.events(task=task) if one["session"]]
        assert set(mine) == {session}


def test_calls_sent_before_during_and_after_a_restart_are_all_answered(site: Site) -> None:
    with Pipe(site) as client:
        client.open()
        client.call("initialize_session")
        numbers = []
        for batch in range(3):
            numbers += [_plan(client, f"{batch}-{place}") for place in range(20)]
            numbers.append(client.post("tools/call", name="orchestrator_restart_server", arguments={}))
            numbers += [_plan(client, f"{batch}-{place}") for place in range(20, 40)]
            # The next one is asked for when this one is over, else it is refused as one too many at a time.
            for number in numbers[-41:]:
                reply, failed = client.result(number)
                assert not failed, reply
            assert is_over(client)["phase"] == "complete"
        assert client.call("query_tasks", limit=1)["total_count"] == 120
        error = client.refused("restart_server")
        assert error["code"] == "no_room"
        assert error["details"]["retry_after_s"] > 0
        assert "3 times" in error["message"]
        issues = client.call("health_check")["checks"]["reboot_readiness"]
        assert issues["ready"] is False
        history = client.call("restart_status", include_history=True)["history"]
        assert history["total_restarts"] == 3
        assert all(one["success"] for one in history["recent_restarts"])


def _plan(client: Pipe, title: str) -> int:
    return client.post("tools/call", name="orchestrator_plan_task", arguments={"title": title, "description": "-"})


def test_a_line_that_was_half_sent_when_the_restart_came_is_read_whole(site: Site) -> None:
    with Pipe(site) as client:
        client.open()
        message = {"jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": {"name": "orchestrator_get_status"}}
        data = json.dumps(message).encode() + b"\n"
        number = client.post("tools/call", name="orchestrator_restart_server", arguments={})
        client.write(data[:30])
        assert client.result(number)[1] is False
        wait_for(lambda: "ORCHESTRION_RESTART" in started(client.process.pid), "the process is a new one")
        client.write(data[30:])
        assert client.result(77)[1] is False


def test_a_client_of_the_newest_revision_goes_on_without_a_handshake(site: Site) -> None:
    with official(site, mode="auto") as client:
        client.call("initialize_session")
        client.call("restart_server")
        assert is_over(client)["phase"] == "complete"
        assert client.call("plan_task", title="After", description="-")["task_id"] == "T1"


def test_without_grace_a_call_that_takes_too_long_is_told_to_ask_again(site: Site) -> None:
    """A check of a completion runs for a minute; a restart without grace does not wait for it."""
    (site.root / ".orchestrion").mkdir(exist_ok=True)
    (site.root / ".orchestrion" / "config.yaml").write_text("checks:\n  slow: sleep 60\n")
    with Pipe(site, "--tools", "full") as client:
        client.open()
        client.call("initialize_session")
        task = client.call("plan_task", title="Slow", description="-", checks=["slow"])["task_id"]
        run = client.call("execute_task", task_id=task)["run"]
        given = {"task_id": task, "run": run, "summary": "s", "detailed_work": "-", "next_action": "complete"}
        slow = client.post("tools/call", name="orchestrator_complete_task", arguments=given)
        wait_for(lambda: client.call("shutdown_prepare")["blocking_issues"], "the call is being answered")
        told = client.call("shutdown_prepare")
        assert told["ready_for_shutdown"] is False
        assert any("1 calls" in one for one in told["blocking_issues"])
        assert any(run in one for one in told["would_be_lost"])
        client.call("restart_server", graceful=False, reason="emergency_shutdown")
        answer = client.answer(slow)
        assert "restarted" in answer["error"]["message"]
        assert is_over(client)["phase"] == "complete"
        assert client.call("execute_task", task_id=task)["run"] == run


def test_a_restart_that_cannot_finish_in_time_leaves_the_server_as_it_was(site: Site) -> None:
    (site.root / ".orchestrion").mkdir(exist_ok=True)
    (site.root / ".orchestrion" / "config.yaml").write_text("checks:\n  slow: sleep 14\n")
    with Pipe(site, "--tools", "full") as client:
        client.open()
        task = client.call("plan_task", title="Slow", description="-", checks=["slow"])["task_id"]
        run = client.call("execute_task", task_id=task)["run"]
        given = {"task_id": task, "run": run, "summary": "s", "detailed_work": "-", "next_action": "complete"}
        slow = client.post("tools/call", name="orchestrator_complete_task", arguments=given)
        wait_for(lambda: client.call("shutdown_prepare")["blocking_issues"], "the call is being answered")
        client.call("restart_server", timeout=10)
        # It reads nothing while it tries, so this answer is that of the server that goes on.
        status = client.call("restart_status", include_error_details=True)["current_status"]
        assert status["phase"] == "failed"
        assert "nothing was restarted" in status["errors"][0]
        assert "ORCHESTRION_RESTART" not in started(client.process.pid)
        assert client.result(slow)[0]["task_status"] == "completed"
        assert client.call("health_check")["ready"] is True


def test_a_server_that_is_killed_while_it_restarts_leaves_all_to_the_next_one(site: Site) -> None:
    with Pipe(site) as client:
        client.open()
        client.call("initialize_session")
        task = client.call("plan_task", title="Kept", description="-")["task_id"]
        run = client.call("execute_task", task_id=task)["run"]
        client.call("restart_server")
        client.kill()
    with Pipe(site) as again:
        again.open()
        status = again.call("restart_status", include_history=True)
        assert status["current_status"]["phase"] == "idle"
        assert again.call("health_check")["healthy"] is True
        assert again.call("shutdown_prepare")["ready_for_shutdown"] is True
        assert again.call("execute_task", task_id=task, run=run)["again"] is True
        again.call("restart_server")
        assert is_over(again)["phase"] == "complete"


# -- HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_over_http_the_official_client_notices_nothing(site: Site, mode: str) -> None:
    with site.http() as house, official(house, mode=mode) as client:
        session = client.call("initialize_session")["session_id"]
        task = client.call("plan_task", title="Long", description="-")["task_id"]
        run = client.call("execute_task", task_id=task)["run"]
        for _ in range(3):
            client.call("restart_server")
            assert client.call("get_status")["total_tasks"] == 1
            assert is_over(client)["phase"] == "complete"
        assert "ORCHESTRION_RESTART" in started(house.process.pid)
        assert client.call("execute_task", task_id=task, run=run)["again"] is True
        assert client.call("reconnect_test", session_id=session)["overall_status"] == "pass"
        assert client.refused("restart_server")["code"] == "no_room"


def test_over_http_many_clients_call_through_a_restart(site: Site) -> None:
    with site.http() as house, official(house, mode="legacy") as first:
        problems: list[BaseException] = []
        over = threading.Event()
        made: list[int] = []

        def keep_calling(place: int) -> None:
            try:
                with official(house, mode="legacy" if place % 2 else "2026-07-28") as client:
                    number = 0
                    while not over.is_set() or number < 5:
                        client.call("plan_task", title=f"{place}-{number}", description="-")
                        number += 1
                    made.append(number)
            except BaseException as problem:  # noqa: BLE001 - it is told by the thread that waits
                problems.append(problem)

        threads = [threading.Thread(target=keep_calling, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: first.call("get_status")["total_tasks"] > 4, "they are calling")
        try:
            first.call("restart_server", timeout=60)
            assert is_over(first)["phase"] == "complete"
        finally:
            over.set()
            for thread in threads:
                thread.join(PATIENCE_S)
        assert problems == []
        assert first.call("get_status")["total_tasks"] == sum(made)


@contextmanager
def stream(url: str, session: str) -> Iterator[socket.socket]:
    """The stream on which a server speaks by itself, byte by byte."""
    host, port = url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as wire:
        head = (
            f"GET /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/event-stream\r\n"
            f"Mcp-Session-Id: {session}\r\nMcp-Protocol-Version: 2025-11-25\r\n\r\n"
        )
        wire.sendall(head.encode())
        yield wire


def post(house: House, message: Reply, session: str | None = None) -> tuple[dict[str, str], bytes]:
    import urllib.request

    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream", **house.headers}
    headers |= {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"} if session else {}
    request = urllib.request.Request(house.url, json.dumps(message).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return {key.lower(): value for key, value in answer.headers.items()}, answer.read()


def opened(house: House) -> str:
    """A session of the older revisions."""
    opening = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    found, _ = post(house, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening})
    post(house, {"jsonrpc": "2.0", "method": "notifications/initialized"}, found["mcp-session-id"])
    return found["mcp-session-id"]


def test_over_http_who_is_cut_off_is_told_to_ask_again_in_the_stream_that_began(site: Site) -> None:
    (site.root / ".orchestrion").mkdir(exist_ok=True)
    (site.root / ".orchestrion" / "config.yaml").write_text("checks:\n  slow: sleep 60\n")
    with site.http("--tools", "full") as house, official(house, mode="legacy") as other:
        session = opened(house)
        task = other.call("plan_task", title="Slow", description="-", checks=["slow"])["task_id"]
        run = other.call("execute_task", task_id=task)["run"]
        given = {"task_id": task, "run": run, "summary": "s", "detailed_work": "-", "next_action": "complete"}
        call = {"name": "orchestrator_complete_task", "arguments": given}
        answers: list[bytes] = []
        ask = {"jsonrpc": "2.0", "id": "slow one", "method": "tools/call", "params": call}
        asking = threading.Thread(target=lambda: answers.append(post(house, ask, session)[1]))
        asking.start()
        wait_for(lambda: other.call("shutdown_prepare")["blocking_issues"], "the call is being answered")
        told = other.call("restart_server", graceful=False)
        assert told["message"].startswith("the server tells who still waits to ask again")
        asking.join(PATIENCE_S)
        event = next(line for line in answers[0].splitlines() if b"-32000" in line)
        said = json.loads(event.removeprefix(b"data: "))
        assert said["id"] == "slow one"
        assert "ask again" in said["error"]["message"]
        assert is_over(other)["phase"] == "complete"
        assert other.call("execute_task", task_id=task)["run"] == run


def test_over_http_a_stream_stays_open_through_a_restart(site: Site) -> None:
    with site.http() as house:
        session = opened(house)
        with stream(house.url, session) as wire:
            head = wire.recv(65536)
            assert head.startswith(b"HTTP/1.1 200")
            call = {"name": "orchestrator_restart_server", "arguments": {}}
            post(house, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}, session)
            wait_for(lambda: "ORCHESTRION_RESTART" in started(house.process.pid), "the process is a new one")
            ask = {"name": "orchestrator_get_status", "arguments": {}}
            _, body = post(house, {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": ask}, session)
            assert b'"success":true' in body.replace(b'\\"', b'"')
            wire.settimeout(0.5)
            with pytest.raises(TimeoutError):
                assert wire.recv(1) != b"", "the stream was closed"
        assert house.process.poll() is None


def test_over_http_a_request_that_was_half_sent_is_read_whole(site: Site) -> None:
    with site.http() as house, official(house, mode="legacy") as client:
        host, port = house.url.split("/")[2].split(":")
        meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
        ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}})
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nMcp-Protocol-Version: 2026-07-28\r\n"
            f"Mcp-Method: tools/list\r\nContent-Length: {len(ping)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as wire:
            wire.sendall(head[:40].encode())
            client.call("restart_server")
            assert is_over(client)["phase"] == "complete"
            wire.sendall((head[40:] + ping).encode())
            assert wire.recv(65536).startswith(b"HTTP/1.1 ")


def test_a_server_over_http_that_is_killed_comes_back_on_the_same_store(site: Site) -> None:
    with site.http() as house, official(house, mode="2026-07-28") as client:
        task = client.call("plan_task", title="Kept", description="-")["task_id"]
        run = client.call("execute_task", task_id=task)["run"]
        client.call("restart_server")
        house.process.send_signal(signal.SIGKILL)
        house.process.wait(PATIENCE_S)
    with site.http() as house, official(house, mode="2026-07-28") as client:
        assert client.call("execute_task", task_id=task, run=run)["again"] is True
        assert client.call("health_check")["healthy"] is True


# -- what is refused -----------------------------------------------------------------------------


def test_a_server_inside_another_program_cannot_restart_itself(peer: InProcess) -> None:
    error = peer.refused("restart_server", graceful=True, preserve_state=True, timeout=10, reason="schema_migration")
    assert error["code"] == "cannot_restart"
    assert peer.call("health_check")["checks"]["reboot_readiness"]["ready"] is False


@pytest.mark.parametrize("timeout", [9, 301, "30", 0])
def test_a_wrong_time_to_wait_is_named_with_the_right_ones(peer: InProcess, timeout: Any) -> None:
    error = peer.refused("restart_server", timeout=timeout)
    assert "timeout" in error["message"]
    assert "from 10 to 300" in error["message"]


def test_the_snapshot_is_whole_its_owners_alone_and_refused_if_it_was_changed(site: Site) -> None:
    with Pipe(site) as client:
        client.open()
        client.call("restart_server")
        is_over(client)
    folder = site.open().project.store_dir / "server"
    [snapshot] = folder.glob("restart-*.json")
    assert snapshot.stat().st_mode & 0o777 == 0o600
    snapshot.write_text(snapshot.read_text().replace("handshake", "handshape"))
    from orchestrion.core.errors import EnvironmentProblem
    from orchestrion.ops import restart

    with pytest.raises(EnvironmentProblem, match="checksum"):
        restart.load({"ORCHESTRION_RESTART": str(snapshot)})
    assert os.environ.get("ORCHESTRION_RESTART") is None
