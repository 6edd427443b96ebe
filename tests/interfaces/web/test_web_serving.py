"""The server as a process: how it begins, how it ends, and that no run ends with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest
from visitors import PROGRAM, Served, Site

from orchestrion.interfaces.http_connection import MOST_OF_ONE
from orchestrion.runs import processes
from waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.long


@pytest.fixture
def dialect() -> str:
    """The database has no part in this."""
    return "sqlite"


def test_sigterm_ends_it_in_order(site: Site) -> None:
    with site.served() as served:
        assert served.ask("GET", "/readyz") == (200, {"ready": True, "not_ready": []})
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0


def test_the_server_that_lives_is_found_whatever_became_of_others(site: Site) -> None:
    with site.served() as first:
        with site.served() as second:
            assert second.address in site.run("open", "--json").stdout
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(20) == 0
        assert first.address in site.run("open", "--json").stdout
        with site.served() as killed:
            killed.process.kill()
            killed.process.wait()
        for cut, text in enumerate(("", "http", "nowhere/")):  # a program of before was killed while it wrote this
            (site.root / ".git" / "orchestrion" / f"address-{cut}").write_text(text)
        assert first.address in site.run("open", "--json").stdout
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(20) == 0
    assert json.loads(site.run("open", "--json").stderr)["error"]["code"] == "no_server"


@pytest.mark.parametrize("command", ["serve", "up"])
def test_it_ends_when_its_project_is_moved_and_says_so_once(site: Site, command: str) -> None:
    with site.served(command=command) as served:
        site.root.rename(site.root.with_name("moved"))
        assert served.process.wait(PATIENCE_S) == 7
        wait_for(lambda: any("start it again where the project is now" in line for line in served.said))
    said = "".join(served.said)
    assert said.count("was moved or deleted while this program was at work there") == 1
    assert "begins anew" not in said
    assert said.count("the journal cannot be read") <= 1


@pytest.mark.parametrize("has_key", [True, False])
def test_a_project_that_may_only_be_read_is_served_for_looking(site: Site, has_key: bool) -> None:
    del site.environ["ORCHESTRION_DB"]
    with site.open() as orchestrion:
        orchestrion.add("shown")
        if has_key:
            orchestrion.provide_key()
    with read_only(site.root), site.served() as served:
        way_in = wait_for(lambda: next((line for line in served.said if "can look" in line), None))
        assert ("nobody can act" in way_in) is not has_key
        assert any("`orchestrion open` will not find it" in line for line in served.said)
        status, found = served.ask("GET", "/api/v1/tasks", **({} if has_key else {"Authorization": ""}))
        assert (status, [task["title"] for task in found["tasks"]]) == (200, ["shown"])
        assert served.ask("POST", "/api/v1/tasks", {"title": "x"}, Authorization="Bearer orch_key_x")[0] == 401
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """For a block a folder is on a file system that is mounted read-only."""
    mounted = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_port_in_use_is_said(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = site.run("serve", "--port", str(taken.getsockname()[1]), "--json")
    assert done.returncode == 7
    assert json.loads(done.stderr)["error"]["code"] == "port_in_use"


def test_what_is_no_address_is_said(site: Site) -> None:
    done = site.run("serve", "--host", "example.org")
    assert done.returncode == 6
    assert "is no address" in done.stderr
    done = site.run("serve", "--host", "203.0.113.9", "--port", "0")
    assert done.returncode == 7
    assert "with --host" in done.stderr
    assert "--port" not in done.stderr


def test_every_other_address_demands_tokens(site: Site) -> None:
    with site.served("--host", "0.0.0.0") as served:
        assert "everybody needs a token; 0 are valid; there is none" in served.said[0]
        port = served.address.rpartition(":")[2]
        served.address = f"127.0.0.1:{port}"
        assert served.ask("GET", "/api/v1/tasks", Authorization="")[0] == 401
        token = json.loads(site.run("token", "create", "ci", "--role", "operate", "--json").stdout)["token"]
        assert served.ask("GET", "/api/v1/tasks", Authorization=f"Bearer {token}")[0] == 200


def test_the_log_is_json_with_the_journals_correlation(site: Site) -> None:
    with site.served("--log", "all") as served:
        served.ask("POST", "/api/v1/tasks", {"title": "x"}, X_Request_Id="trace-1")
        line = json.loads(wait_for(lambda: next((one for one in served.said if "trace-1" in one), None)))
    assert {"method": "POST", "status": 201, "actor": "web:local", "correlation": "trace-1"}.items() <= line.items()
    with site.open() as orchestrion:
        assert orchestrion.events()[0]["correlation"] == "trace-1"


def test_who_asks_without_a_token_is_counted_by_address_and_health_never(site: Site) -> None:
    site.environ["ORCHESTRION_SERVE_RATE"] = "2"
    with site.served("--tokens") as served:
        assert [status(served, "127.0.0.1", "/livez") for _ in range(50)] == [200] * 50
        assert {status(served, "127.0.0.1", "/assets/page.css") for _ in range(50)} == {200, 429}
        assert {status(served, "127.0.0.1", "/readyz") for _ in range(50)} == {200}
        assert status(served, "127.0.0.9", "/login") == 200
        assert status(served, "127.0.0.9", "/assets/page.css") == 200
        assert status(served, "127.0.0.9", "/livez") == 200


def test_streams_without_the_key_keep_neither_probes_nor_anybody_else_out(site: Site) -> None:
    # All from one address, as behind a proxy; without a limit of the rate they come at once.
    site.environ |= {"ORCHESTRION_SERVE_RATE": "0"}
    with site.served() as served, ExitStack() as opened:
        host, _, port = served.address.rpartition(":")
        for _ in range(2 * MOST_OF_ONE + 20):
            stream = opened.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_S))
            stream.sendall(f"GET /api/v1/events HTTP/1.1\r\nhost: {served.address}\r\n\r\n".encode())
        for path in ("/livez", "/readyz", "/api/v1/status"):
            assert served.ask("GET", path)[0] == 200
        with served.stream(Authorization=f"Bearer {site.key}"):
            assert served.ask("POST", "/api/v1/tasks", {"title": "x"})[0] == 201


def status(served: Served, source: str, path: str) -> int:
    """The answer to somebody at the address ``source``."""
    connection = HTTPConnection(served.address, timeout=PATIENCE_S, source_address=(source, 0))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_half_a_request_and_one_with_two_lengths_end_the_connection(site: Site) -> None:
    with site.served() as served:
        host, _, port = served.address.rpartition(":")
        both = b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        for begun, answer in ((b"GET /livez HTTP/1.1\r\nhost: ", b"408"), (b"POST / HTTP/1.1\r\n" + both, b"400")):
            with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
                client.sendall(begun)
                assert b"".join(iter(partial(client.recv, 65536), b"")).startswith(b"HTTP/1.1 " + answer)


@pytest.mark.parametrize(
    ("path", "size", "key", "status"),
    [
        ("/api/v1/tasks", 9_000_000, True, 413),
        ("/api/v1/tasks", 9_000_000, False, 413),
        ("/api/v1/tasks", 4_000_000, False, 401),
        ("/api/v1/nothing", 4_000_000, True, 404),
    ],
)
def test_who_sends_too_much_gets_to_read_why(site: Site, path: str, size: int, key: bool, status: int) -> None:
    with site.served() as served:
        sent = {"Connection": "close", "Content-Type": "application/json"}
        sent |= {"Authorization": f"Bearer {site.key}"} if key else {}
        for _ in range(3):
            connection = HTTPConnection(served.address, timeout=PATIENCE_S)
            connection.request("POST", path, b"x" * size, sent)
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["status"]) == (status, status)
            connection.close()


def test_a_probe_of_http_1_0_names_no_host(site: Site) -> None:
    with site.served() as served:
        host, _, port = served.address.rpartition(":")
        for path, answer in (("livez", b"200"), ("readyz", b"200"), ("login", b"403"), ("api/v1/tasks", b"403")):
            with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
                client.sendall(f"GET /{path} HTTP/1.0\r\n\r\n".encode())
                assert client.recv(65536).startswith(b"HTTP/1.1 " + answer), path


def test_tokens_are_made_listed_and_revoked(site: Site) -> None:
    made = site.run("token", "create", "ci", "--days", "30").stdout.strip()
    assert made.startswith("orch_")
    assert made not in site.run("token", "list").stdout
    assert site.run("token", "create", "ci").returncode == 5
    assert site.run("token", "revoke", "ci").returncode == 0
    assert site.run("token", "revoke", "ci").returncode == 4
    assert json.loads(site.run("token", "list", "--json").stdout)["tokens"][0]["status"] == "revoked"


def slow_task(site: Site, folder: Path) -> Path:
    """A task whose agent waits until it is let go; the file that lets it."""
    gate = folder / "go"
    with site.open() as orchestrion:
        orchestrion.add(
            "slow", command=f"while [ ! -e {gate} ]; do sleep 0.05; done; echo $ORCHESTRION_CORRELATION > result.txt"
        )
    return gate


def run_of(site: Site) -> dict[str, object] | None:
    with site.open() as orchestrion:
        runs = orchestrion.list_runs().as_json("runs")["runs"]
        return next((run for run in runs if run["state"] == "running" and run["pid"]), None)


def test_killing_up_kills_no_run(site: Site, tmp_path: Path) -> None:
    gate = slow_task(site, tmp_path)
    with site.served("--slots", "1", command="up") as served:
        run = wait_for(lambda: run_of(site))
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(20)
    assert processes.is_alive(run["pid"], processes.start_time(run["pid"]) or 0)
    gate.touch()
    with site.open() as orchestrion:
        wait_for(lambda: orchestrion.task("T1").state == "completed")
        assert orchestrion.run("R1").row["attempt"] == 1


def test_stopping_up_leaves_runs_and_the_next_takes_them_over(site: Site, tmp_path: Path) -> None:
    gate = slow_task(site, tmp_path)
    with site.served("--slots", "1", command="up") as served:
        wait_for(lambda: run_of(site))
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
        assert run_of(site)
    with site.served("--slots", "1", command="up") as served:
        gate.touch()
        with site.open() as orchestrion:
            wait_for(lambda: orchestrion.task("T1").state == "completed")
        assert served.ask("GET", "/api/v1/runs")[1]["total"] == 1


def test_killing_serve_kills_no_run_that_it_started(site: Site, tmp_path: Path) -> None:
    gate = slow_task(site, tmp_path)
    with site.served() as served:
        status, run = served.ask("POST", "/api/v1/runs", {"task": "T1"}, X_Request_Id="trace-9")
        assert (status, run["id"]) == (201, "R1")
        wait_for(lambda: run_of(site))
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(20)
    gate.touch()
    with site.open() as orchestrion:
        wait_for(lambda: orchestrion.task("T1").state == "completed")
        kinds = {one["kind"] for one in orchestrion.events(limit=1000) if one["correlation"] == "trace-9"}
        assert {"run.starting", "run.succeeded", "task.completed"} <= kinds, kinds
        assert "+trace-9" in orchestrion.diff("R1")


def test_agents_connect_at_the_same_address(site: Site) -> None:
    with site.served() as served:
        hello = {
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}},  # noqa: E501
        }  # fmt: skip
        accept = "application/json, text/event-stream"
        status, text = served.ask("POST", "/mcp", hello, Accept=accept)
        assert status == 200
        assert '"name":"orchestrion"' in text
        assert served.ask("POST", "/mcp", hello, Accept=accept, Host="evil.example")[0] == 403
        numbers = served.ask("GET", "/metrics")[1]
        assert 'orchestrion_http_requests_total{method="POST",status="200"} 1.0' in numbers
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0


def test_without_its_libraries_it_says_what_to_install(site: Site) -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'fastapi' else found(name, *more)\n"
        "from orchestrion.interfaces.cli.app import run; sys.exit(run(['serve']))"
    )
    done = subprocess.run(
        [PROGRAM[0], "-c", code], cwd=site.root, env=site.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 7
    assert "pip install 'orchestrion[serve]'" in done.stderr


def test_alerts_are_shown_at_the_command_line(site: Site) -> None:
    site.configure({"alerts": {"disk_gb": 1_000_000_000}})
    assert "nothing asks" in site.run("alerts").stdout
    assert "disk" in site.run("alerts", "--look").stdout
    assert json.loads(site.run("alerts", "--all", "--json").stdout)["total"] >= 1


def test_a_server_looks_for_alerts_by_itself(site: Site) -> None:
    site.configure({"alerts": {"disk_gb": 1_000_000_000, "every_s": 1}})
    with site.served() as served:
        assert wait_for(lambda: served.ask("GET", "/api/v1/alerts?unclosed=true")[1]["alerts"])
        line = wait_for(lambda: next((one for one in served.said if '"rule": "disk"' in one), None))
        assert json.loads(line)["level"] == "warning"
        assert 'orchestrion_alerts{rule="disk"}' in served.ask("GET", "/metrics")[1]
