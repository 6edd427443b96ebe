"""``orchestrion mcp`` as a person types it, or a client's configuration names it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from place import Place

PATIENCE_S = 60


def lines(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n" for message in messages)


HELLO: dict[str, Any] = {
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
READY: dict[str, Any] = {"method": "notifications/initialized"}


def call(number: int, tool: str, **given: Any) -> dict[str, Any]:
    return {"id": number, "method": "tools/call", "params": {"name": f"orchestrator_{tool}", "arguments": given}}


def spoken(place: Place, *arguments: str, messages: bytes, answers: int) -> dict[int, dict[str, Any]]:
    """The answers of a server that is asked ``messages``, by their numbers."""
    with place.running(*arguments, stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(messages)
        process.stdin.flush()
        heard = [json.loads(process.stdout.readline()) for _ in range(answers)]
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
        process.stdout.close()
        if process.stderr:
            process.stderr.close()
    return {one["id"]: one["result"] for one in heard}


def test_the_profile_says_which_tools_are_listed(project: Place) -> None:
    counts = {}
    for arguments in ((), ("--tools", "core"), ("--tools", "full")):
        listed = spoken(
            project, "mcp", *arguments, messages=lines(HELLO, READY, {"id": 2, "method": "tools/list"}), answers=2
        )
        counts[arguments] = len(listed[2]["tools"])
    assert counts[()] == counts[("--tools", "core")] < counts[("--tools", "full")]


def test_it_answers_in_the_revision_it_is_asked_in(project: Place) -> None:
    answer = spoken(project, "mcp", messages=lines(HELLO), answers=1)[1]
    assert answer["protocolVersion"] == "2025-06-18"
    assert answer["serverInfo"]["name"] == "orchestrion"
    assert len(answer["instructions"].encode()) < 500


def test_it_serves_the_project_that_is_named(project: Place, bare: Place) -> None:
    found = spoken(
        bare,
        *("-C", str(project.root), "mcp"),
        messages=lines(HELLO, READY, call(2, "initialize_session")),
        answers=2,
    )
    assert found[2]["structuredContent"]["working_directory"] == str(project.root)


def test_in_a_folder_that_is_no_project_a_client_may_choose_one(project: Place, bare: Place) -> None:
    messages = lines(HELLO, READY, call(2, "query_tasks"))
    refused = spoken(bare, "mcp", messages=messages, answers=2)[2]
    assert refused["isError"] is True
    error = refused["structuredContent"]["error"]
    assert error["code"] == "no_project"
    assert "orchestrator_initialize_session" in error["hint"]
    messages = lines(HELLO, READY, call(2, "initialize_session", working_directory=str(project.root)))
    chosen = spoken(bare, "mcp", messages=messages, answers=2)[2]
    assert chosen["structuredContent"]["working_directory"] == str(project.root)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--tools", "some"), 2, "core"),
        (("--http", "--port", "70000"), 2, "65535"),
        (("--http", "--host", "0.0.0.0"), 6, "127.0.0.1"),
        (("more",), 2, "more"),
    ],
)
def test_a_wrong_option_is_refused(project: Place, arguments: tuple[str, ...], code: int, said: str) -> None:
    answer = project("mcp", *arguments, code=code)
    assert said in answer.err


def test_without_the_library_it_says_what_to_install(project: Place, tmp_path: Path) -> None:
    (tmp_path / "shadow" / "mcp").mkdir(parents=True)
    (tmp_path / "shadow" / "mcp" / "__init__.py").write_text("raise ImportError('no module named mcp')\n")
    path = f"{tmp_path / 'shadow'}:{project.environ.get('PYTHONPATH', '')}"
    without = Place(project.root, {**project.environ, "PYTHONPATH": path})
    for arguments in (("mcp",), ("mcp", "--http")):
        answer = without.process(*arguments)
        assert answer.code == 7
        assert "is not installed" in answer.err
        assert f"{shlex.quote(sys.executable)} -m pip install 'orchestrion[mcp]'" in answer.err
        assert not answer.out


def test_http_says_where_it_listens_and_ends_on_ctrl_c(project: Place) -> None:
    import signal

    with project.running("mcp", "--http", "--port", "0") as process:
        assert process.stderr
        assert process.stderr.readline().startswith(b"listening on http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
        assert b"Traceback" not in process.stderr.read()
