"""Hostile input, over a real pipe: nothing crashes, nothing leaks, nothing is written outside of the project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import InProcess, Pipe, Reply, Site

from premises import clean_environ

pytestmark = pytest.mark.long

#: Names that lead out of a folder, one way or another.
PATHS = [
    "../../../../outside",
    "/etc/passwd",
    "..%2f..%2foutside",
    "..\\..\\outside",
    "link/outside",
    "ok/../../outside",
    "a\0b",
    "/proc/self/environ",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data",
    "．．／outside",
    "\ud800",
    "x" * 5000,
    "",
    ".git/config",
]
TEXTS = [
    "'; drop table tasks; --",
    "<script>alert(1)</script>",
    "$(touch /tmp/pwned) `id` ; | &",
    '{"__proto__": {"admin": true}}',
    "раураl\u202egnp.exe",
    "\x1b[2J\x07\x00",
    "%s%n{}{0}",
    "ﷺ" * 200,
]


@pytest.fixture
def dialect() -> str:
    """What is hostile is so before any database sees it; the store's own tests have both."""
    return "sqlite"


@pytest.fixture(scope="module")
def one_pipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipe]:
    folder = tmp_path_factory.mktemp("hostile")
    site = Site(folder / "project", clean_environ(folder) | {"ORCHESTRION_DB": str(folder / "orchestrion.db")})
    site.make()
    with Pipe(site) as one:
        one.open()
        yield one
        assert one.leave() == 0
        # Nor is anything of ours kept in the file of errors.
        assert not list(folder.rglob("errors.log"))
        assert b"Traceback" not in one.said, one.said.decode()


@pytest.fixture
def pipe(one_pipe: Pipe) -> Iterator[Pipe]:
    """One server for all that is sent to it: it must bear the sum of it, too."""
    one_pipe.heard.clear()
    yield one_pipe
    assert one_pipe.call("query_tasks", limit=1)["success"]


def still_there(pipe: Pipe) -> None:
    assert pipe.ask("tools/list")["result"]["tools"]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# -- the wire ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"not json\n",
        b"{\n",
        b'{"jsonrpc":"2.0"}\n',
        b'{"jsonrpc":"2.0","id":1}\n',
        b'{"jsonrpc":"1.0","id":70007,"method":"tools/list"}\n',
        b'{"jsonrpc":"2.0","id":{"a":1},"method":"tools/list"}\n',
        b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}\n',
        b'{"jsonrpc":"2.0","id":70007,"method":5}\n',
        b'{"jsonrpc":"2.0","id":70007,"method":"tools/call","params":[]}\n',
        b'{"jsonrpc":"2.0","id":70007,"method":"tools/call","params":{"name":5}}\n',
        b'{"jsonrpc":"2.0","id":70007,"method":"tools/call","params":{"name":"orchestrator_get_status","arguments":[]}}\n',
        b'{"jsonrpc":"2.0","id":70007,"method":"initialize","params":{"protocolVersion":7}}\n',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"no such"}}\n',
        b'{"jsonrpc":"2.0","method":"notifications/no-such"}\n',
        b'{"jsonrpc":"2.0","id":99,"result":{}}\n',
        b"[]\n",
        b'[{"jsonrpc":"2.0","id":70007,"method":"tools/list"}]\n',
        b"null\n",
        b'"text"\n',
        b"\xff\xfe\x00\x01\n",
        b"\x00\n",
        b'{"jsonrpc":"2.0","id":70007,"method":"tools/list","params":{"cursor":"\xc3\x28"}}\n',
        b'{"jsonrpc":"2.0","id":70007,"method":"tools/list","params":{"_meta":{"progressToken":{"a":1}}}}\n',
        b'{"jsonrpc":"2.0","id":70007,"method":"\\ud800"}\n',
        b"[" * 100_000 + b"\n",
        b'{"a":' * 50_000 + b"\n",
        b'{"jsonrpc":"2.0","id":1e999,"method":"tools/list"}\n',
        b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"tools/list"}\n',
    ],
    ids=lambda sent: repr(sent[:50]),
)
def test_a_message_that_is_none_harms_nobody(pipe: Pipe, sent: bytes) -> None:
    pipe.write(sent)
    still_there(pipe)
    assert "Traceback" not in json.dumps(pipe.heard)


@pytest.mark.parametrize(
    ("sent", "code", "number"),
    [
        (b"not json", -32700, None),
        (b"[]", -32600, None),
        (b"null", -32600, None),
        (b"[" * 100_000, -32700, None),
        (b'{"jsonrpc":"1.0","id":70007,"method":"tools/list"}', -32600, 70007),
        (b'{"jsonrpc":"2.0","id":"a","method":5}', -32600, "a"),
        (b'{"jsonrpc":"2.0","id":70008,"method":"tools/list","params":[]}', -32600, 70008),
        (b'{"jsonrpc":"2.0","id":70009,"method":"tools/list","params":{"cursor":"\\ud800"}}', -32700, 70009),
    ],
)
def test_who_sends_what_is_none_gets_an_answer(pipe: Pipe, sent: bytes, code: int, number: int | str | None) -> None:
    pipe.write(sent + b"\n")
    assert pipe.answer(number)["error"]["code"] == code


def test_a_message_may_come_in_pieces_and_several_at_once(pipe: Pipe) -> None:
    one = b'{"jsonrpc":"2.0","id":"p","method":"ping"}\n'
    for place in range(len(one)):
        pipe.write(one[place : place + 1])
    assert pipe.answer("p")["result"] == {}
    pipe.write(b"".join(b'{"jsonrpc":"2.0","id":"n%d","method":"ping"}\n' % number for number in range(100)))
    for number in range(100):
        assert pipe.answer(f"n{number}")["result"] == {}


def test_a_lone_half_of_a_pair_is_no_text(pipe: Pipe) -> None:
    """JSON can say what no encoding can; nothing of it is stored, and the answer can be read."""
    for tool, given in every_tool_with("\ud800"):
        number = pipe.post("tools/call", name=f"orchestrator_{tool}", arguments=given)
        answer = pipe.answer(number)
        assert '"unexpected"' not in json.dumps(answer), (tool, given, answer)
    for method, params in (("resources/read", {"uri": "\udfff"}), ("prompts/get", {"name": "\udfff"})):
        assert "error" in pipe.ask(method, **params)
    assert "error" in pipe.ask("tools/call", name="\ud800", arguments={})


def test_ten_megabytes_are_kept_or_refused_and_never_cut(pipe: Pipe) -> None:
    task = pipe.call("plan_task", title="big", description="x")["task_id"]
    run = pipe.call("execute_task", task_id=task)["run"]
    big = "ä" * 5_000_000
    done = pipe.call("complete_task", task_id=task, summary="s", detailed_work=big, next_action="complete", run=run)
    assert done["artifact_references"][0]["size"] == 10_000_000
    refused = pipe.refused("plan_task", title="x", description=big)
    assert refused["code"]
    assert len(json.dumps(refused)) < 4096


@pytest.mark.parametrize("depth", [50, 500, 5000])
def test_deep_values_are_kept_or_refused(pipe: Pipe, depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    arguments = b'{"title":"x","description":"y","context":' + deep + b"}"
    pipe.write(
        b'{"jsonrpc":"2.0","id":"d","method":"tools/call","params":{"name":"orchestrator_plan_task","arguments":'
        + arguments
        + b"}}\n"
    )
    # What is too deep to be read has no id that could be read.
    answer = pipe.hear(lambda one: one.get("id", "") in ("d", None))
    assert '"unexpected"' not in json.dumps(answer), answer
    still_there(pipe)


def test_the_client_leaves_in_the_middle_of_a_message(site: Site) -> None:
    with Pipe(site) as pipe:
        pipe.open()
        pipe.write(b'{"jsonrpc":"2.0","id":70005,"method":"tools/call","par')
        assert pipe.leave() == 0


def test_the_client_leaves_before_its_answers(site: Site) -> None:
    with Pipe(site) as pipe:
        pipe.open()
        for number in range(20):
            arguments = {"title": f"t{number}", "description": "x"}
            pipe.post("tools/call", name="orchestrator_plan_task", arguments=arguments)
        assert pipe.leave() == 0
    with site.open() as cases:
        titles = [task["title"] for task in cases.list_tasks(limit=100).as_json("tasks")["tasks"]]
    assert len(titles) == len(set(titles))


def test_nothing_but_messages_is_on_stdout(site: Site) -> None:
    """A child of the server, or a stray print, writes where no message is."""
    with site.open() as cases:
        task = cases.add("Talk", command="echo loud; echo louder >&2").as_json()["id"]
    with Pipe(site) as pipe:
        pipe.open()
        assert pipe.call("start_run", task_id=task)["run"]
        still_there(pipe)
        assert pipe.leave() == 0
        assert all(one["jsonrpc"] == "2.0" for one in pipe.heard)


# -- values -------------------------------------------------------------------------------------------


def every_tool_with(value: str) -> list[tuple[str, dict[str, Any]]]:
    """Calls with ``value`` wherever a text is taken."""
    report = {"summary": "s", "detailed_work": "d", "next_action": "complete"}
    return [
        ("execute_task", {"task_id": value}),
        ("complete_task", {"task_id": value, **report}),
        ("complete_task", {"task_id": "T1", **report, "file_paths": [value]}),
        ("complete_task", {"task_id": "T1", **report, "run": value}),
        ("synthesize_results", {"parent_task_id": value}),
        ("cancel_task", {"task_id": value}),
        ("delete_task", {"task_id": value}),
        ("update_task", {"task_id": value, "title": "x"}),
        ("update_task", {"task_id": "T1", "title": value}),
        ("plan_task", {"title": value, "description": value, "context": {value: value}, "tags": [value]}),
        ("plan_task", {"title": "x", "description": "y", "key": value}),
        ("plan_task", {"title": "x", "description": "y", "plan": value}),
        ("plan_task", {"title": "x", "description": "y", "specialist_type": value}),
        ("plan_task", {"title": "x", "description": "y", "checks": [value]}),
        ("plan_task", {"description": value, "subtasks_json": value}),
        ("query_tasks", {"search_text": value, "plan": value}),
        ("query_tasks", {"task_id": value}),
        ("initialize_session", {"session_name": value}),
        ("resume_session", {"session_id": value}),
        ("record_decision", {"title": value, "decision": value, "files": [value], "category": value}),
        ("record_decision", {"title": "x", "decision": "y", "alternatives": [{value: value}]}),
        ("search_decisions", {"search_text": value, "file": value}),
        ("search_decisions", {"cursor": value}),
        ("track_files", {"files": [{"path": value, "operation": "created"}], "task_id": "T1"}),
        ("track_files", {"files": [{"path": "a.txt", "operation": "moved", "old_path": value}], "task_id": "T1"}),
        ("recover_context", {"handoff": value}),
        ("recover_context", {"task_id": value}),
        ("run_status", {"run_id": value}),
        ("start_run", {"task_id": value}),
        ("start_run", {"task_id": "T2", "agent": value}),
        ("kill_run", {"run_id": value, "reason": value}),
        ("claim_task", {"specialist_type": value}),
        ("claim_task", {"tag": value or "-", "agent": value}),
        ("query_tasks", {"session": value}),
    ]


@pytest.mark.parametrize("value", PATHS + TEXTS, ids=lambda value: ascii(value[:30]))
def test_hostile_values_are_stored_as_they_are_or_refused(
    peer: InProcess, site: Site, tmp_path: Path, value: str
) -> None:
    (site.root / "link").symlink_to(tmp_path)
    for title in ("One", "Two"):
        peer.call("plan_task", title=title, description="x")
    with site.open() as cases:
        cases.add("Blocked", gates=())
    peer.call("update_task", task_id="T2", status="blocked", reason="so that nothing starts it")
    before = tree(tmp_path)
    for tool, given in every_tool_with(value):
        reply, failed = peer.raw(f"orchestrator_{tool}", given)
        said = json.dumps(reply)
        assert reply["success"] is not failed
        assert not failed or reply["error"]["code"] != "unexpected", (tool, given, reply)
        assert len(said.encode()) < 16_384
        for leak in ("Traceback", "root:x:", "ami-id", "PYTHONPATH"):
            assert leak not in said
    allowed = ("project/.git/", "orchestrion.db", "project/.git/orchestrion")
    new = {path for path in tree(tmp_path) - before if not path.startswith(allowed)}
    assert not new, new


def test_a_link_in_the_project_leads_nowhere_outside(peer: InProcess, site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (site.root / "inside").symlink_to(tmp_path / "secret")
    task = peer.call("plan_task", title="x", description="y")["task_id"]
    error = peer.refused("track_files", files=[{"path": "inside", "operation": "created"}], task_id=task)
    assert "secret\n" not in json.dumps(error)


@pytest.mark.parametrize(
    "uri",
    [
        "orchestrion://tasks/../../etc/passwd",
        "orchestrion://tasks/T1/../../..",
        "orchestrion://artifacts/A1?offset=-1",
        "orchestrion://artifacts/A1?offset=99999999999999999999",
        "orchestrion://tasks?offset=1",
        "orchestrion://nothing",
        "orchestrion://runs/T1",
        "orchestrion://",
        "file:///etc/passwd",
        "orchestrion://tasks/" + "9" * 5000,
        "orchestrion://tasks/T٣",
        "x",
        "",
    ],
    ids=lambda uri: ascii(uri[:40]),
)
def test_a_resource_that_is_none_is_refused(pipe: Pipe, uri: str) -> None:
    answer: Reply = pipe.ask("resources/read", uri=uri)
    assert "error" in answer
    assert answer["error"]["code"] in (-32002, -32602)
    assert "root:x:" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("no-such", {}),
        ("plan", {}),
        ("plan", {"goal": " "}),
        ("plan", {"goal": "x", "more": "y"}),
        ("review", {"task": "T99"}),
        ("work-next", {"role": "wizard"}),
    ],
)
def test_a_prompt_that_cannot_be_written_is_refused(pipe: Pipe, name: str, given: dict[str, str]) -> None:
    answer = pipe.ask("prompts/get", name=name, arguments=given)
    assert answer["error"]["code"] == -32602
    assert answer["error"]["data"]["hint"]


def test_a_mistake_of_ours_is_told_without_its_traceback(
    peer: InProcess, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrion.interfaces.mcp.tools import tasks

    def broken(call: object) -> dict[str, Any]:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(tasks, "query", broken)
    reply, failed = peer.raw("orchestrator_query_tasks", {})
    assert failed
    assert reply["error"]["code"] == "unexpected"
    assert "hunter2" not in json.dumps(reply)
    assert peer.desk.failures[0][1:] == ("query_tasks", "RuntimeError")


def test_passwords_of_databases_are_masked(peer: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrion.core.errors import EnvironmentProblem
    from orchestrion.interfaces.mcp.tools import tasks

    def away(call: object) -> dict[str, Any]:
        raise EnvironmentProblem("cannot reach postgresql://me:hunter2@db/x", hint="is it up?", code="store_away")

    monkeypatch.setattr(tasks, "query", away)
    assert "hunter2" not in json.dumps(peer.refused("query_tasks"))
