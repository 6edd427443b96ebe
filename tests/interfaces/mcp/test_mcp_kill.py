"""kill -9 of server or client at any point: a new process knows session, files, decisions and the way on."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peers import PATIENCE_S, PROGRAM, Pipe, Site

from waiting import wait_for

pytestmark = pytest.mark.long

#: A client that starts a server, asks for something, tells its own child's number, and waits for ever.
_CLIENT = """
import json, subprocess, sys, time
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def ask(number, method, **params):
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    server.stdin.write(json.dumps(message).encode() + b"\\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())
who = {"name": "mortal", "version": "1"}
ask(1, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=who)
call = lambda number, tool, **given: ask(number, "tools/call", name="orchestrator_" + tool, arguments=given)
call(2, "initialize_session", session_name="mortal")
made = call(3, "plan_task", title="x", description="y")["result"]["structuredContent"]["task_id"]
run = call(4, "execute_task", task_id=made)["result"]["structuredContent"]["run"]
print(json.dumps([server.pid, made, run]), flush=True)
time.sleep(600)
"""


def test_all_of_a_session_is_there_after_a_kill(site: Site) -> None:
    with Pipe(site, name="first") as pipe:
        pipe.open()
        session = pipe.call("initialize_session", session_name="the work")["session_id"]
        pipe.call("record_decision", title="Use SQLite", decision="SQLite", rationale="it is there", files=["db.py"])
        done, open_ = (pipe.call("plan_task", title=title, description="d")["task_id"] for title in ("Done", "Open"))
        first = pipe.call("execute_task", task_id=done)["run"]
        (site.root / "new.py").write_text("1\n")
        (site.root / "a.txt").write_text("changed\n")
        (site.root / "old.py").write_text("gone\n")
        (site.root / "old.py").unlink()
        changes = [
            {"path": "new.py", "operation": "created"},
            {"path": "a.txt", "operation": "modified"},
            {"path": "old.py", "operation": "deleted"},
        ]
        pipe.call("track_files", files=changes, task_id=done, run=first)
        pipe.call(
            "complete_task", task_id=done, summary="did it", detailed_work="all", next_action="complete", run=first
        )
        run = pipe.call("execute_task", task_id=open_)["run"]
        pipe.kill()
    with Pipe(site, name="second") as pipe:
        pipe.open()
        assert session in [one["session_id"] for one in pipe.call("list_sessions")["sessions"]]
        resumed = json.dumps(pipe.call("resume_session", session_id=session))
        for known in ("Use SQLite", "new.py", "a.txt", "old.py", open_):
            assert known in resumed
        recovered = pipe.call("recover_context", task_id=done)
        assert recovered["files"]["created"][0]["path"] == "new.py"
        assert recovered["files"]["modified"][0]["path"] == "a.txt"
        assert recovered["files"]["deleted"][0]["path"] == "old.py"
        assert {one["status"] for some in recovered["files"].values() for one in some} == {"verified"}
        # Its task is still held: by the session, which this client goes on with.
        again = pipe.call("execute_task", task_id=open_)
        assert (again["run"], again["again"]) == (run, True)
        (site.root / "new.py").write_text("tampered\n")
        (site.root / "old.py").write_text("back\n")
        checked = pipe.call("track_files", task_id=done)
        assert {one["path"]: one["status"] for one in checked["files"]} == {
            "new.py": "failed",
            "a.txt": "verified",
            "old.py": "failed",
        }
        assert checked["verification_status"] == "failed"


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_server_ends_with_its_client(site: Site) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, *PROGRAM, "mcp"],
        cwd=site.root,
        env=site.environ,
        stdout=subprocess.PIPE,
    )
    try:
        assert client.stdout
        server, task, run = json.loads(client.stdout.readline())
        client.send_signal(signal.SIGKILL)
        client.wait(PATIENCE_S)
        wait_for(lambda: not Path(f"/proc/{server}").exists(), "the server ends with its client")
    finally:
        client.kill()
        if client.stdout:
            client.stdout.close()
        client.wait()
    with Pipe(site, name="heir") as pipe:
        pipe.open()
        session = pipe.call("list_sessions")["sessions"][0]
        assert session["name"] == "mortal"
        pipe.call("resume_session", session_id=session["session_id"])
        assert pipe.call("execute_task", task_id=task)["run"] == run


@pytest.mark.parametrize("seed", range(4))
def test_what_was_answered_is_there_whenever_the_server_dies(site: Site, seed: int) -> None:
    """The client asks without a pause; the server is killed somewhere in between."""
    dice = random.Random(seed)
    answered: dict[int, str] = {}
    with Pipe(site) as pipe:
        pipe.open()
        pipe.call("get_status")
        posted = []
        for number in range(60):
            arguments = {"title": f"t{number}", "description": "d"}
            posted.append(pipe.post("tools/call", name="orchestrator_plan_task", arguments=arguments))
        for number in posted[: dice.randrange(1, 50)]:
            reply, failed = pipe.result(number)
            assert not failed
            answered[number] = reply["task_id"]
        pipe.kill()
    with Pipe(site) as pipe:
        pipe.open()
        found = []
        offset: int | None = 0
        while offset is not None:
            page = pipe.call("query_tasks", offset=offset)
            found += page["tasks"]
            offset = page["next_offset"]
        titles = [task["title"] for task in found]
        assert len(titles) == len(set(titles))
        assert set(answered.values()) <= {task["id"] for task in found}
        # Whole or not at all: whatever is there can be worked on.
        for task in found[:3]:
            run = pipe.call("execute_task", task_id=task["id"])["run"]
            report = {"summary": "s", "detailed_work": "d", "next_action": "complete"}
            assert pipe.call("complete_task", task_id=task["id"], run=run, **report)["state"] == "completed"


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_in_the_middle_of_a_report_leaves_it_whole_or_undone(site: Site, seed: int) -> None:
    dice = random.Random(seed)
    with Pipe(site) as pipe:
        pipe.open()
        session = pipe.call("initialize_session")["session_id"]
        task = pipe.call("plan_task", title="x", description="y")["task_id"]
        run = pipe.call("execute_task", task_id=task)["run"]
        work = "w" * 200_000
        report = {"summary": "s", "detailed_work": work, "next_action": "complete", "run": run}
        pipe.post("tools/call", name="orchestrator_complete_task", arguments={"task_id": task, **report})
        time.sleep(dice.random() * 0.06)
        pipe.kill()
    with Pipe(site) as pipe:
        pipe.open()
        pipe.call("resume_session", session_id=session)
        found = pipe.call("query_tasks", task_id=task, include_artifacts=True)["tasks"][0]
        if found["state"] != "completed":
            assert found["state"] == "in_progress"
            assert found["artifacts"] == []
            done = pipe.call("complete_task", task_id=task, **report)
            assert done["state"] == "completed"
            found = pipe.call("query_tasks", task_id=task, include_artifacts=True)["tasks"][0]
        assert [one["size"] for one in found["artifacts"]] == [200_000]
