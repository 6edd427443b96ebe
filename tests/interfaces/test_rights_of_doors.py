"""Every action of every door, with each kind of caller: what becomes of it is what the one table says.

The use cases of these projects end as soon as their caller is let in (``rights_probe``), so that a
door is judged by what it reaches and by nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from orchestrion.core.rights import KEYLESS, LOCAL, RIGHTS, RUN_VARIABLE, Caller
from orchestrion.interfaces.cli.app import program, run
from orchestrion.interfaces.cli.table import BY_NAME
from orchestrion.interfaces.mcp import catalogue, server
from orchestrion.interfaces.mcp.desk import Desk, Seat
from orchestrion.interfaces.page.deeds import DEEDS
from orchestrion.interfaces.web.app import create_app
from orchestrion.interfaces.web.house import House
from premises import Premises, key_of
from rights_probe import Probe, expected

#: What each caller of a server shows, and who that is.
CALLERS = {
    "keyless": Caller(KEYLESS, role="read"),
    "key": Caller(LOCAL),
    "read": Caller("token:read", role="read"),
    "operate": Caller("token:operate", role="operate"),
    "admin": Caller("token:admin", role="admin"),
}
#: From inside R1; the server knows of no such caller yet, so it is told.
INSIDE = Caller(LOCAL, run="R1", may_run_commands=False)
#: From inside a run of another store.
ELSEWHERE = Caller("run:other/R1", role="read", elsewhere="R1", may_run_commands=False)


@pytest.fixture
def dialect() -> str:
    """Who may do what is the same on both databases: the use cases are tried on either."""
    return "sqlite"


@pytest.fixture
def premises(tmp_path: Path, environ: dict[str, str], store_url: str) -> Premises:
    made = Premises(tmp_path / "project", environ | {"ORCHESTRION_DB": store_url})
    made.make()
    with made.open() as cases:
        cases.add("held")
        cases.claim("T1")
    return made


# -- what a schema asks for -------------------------------------------------------------------------


def sample(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Any:
    """The least that a schema takes."""
    if "$ref" in schema:
        schema = whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    options = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if options:
        return sample(options[0], whole)
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if schema.get("type") == "object":
        fields = {name: sample(schema["properties"][name], whole) for name in schema.get("required", ())}
        return fields or ({"global": 1} if schema.get("additionalProperties") else {})
    return {"integer": 1, "number": 1, "boolean": True, "array": []}.get(schema.get("type", ""), "x")


# -- REST and the page ------------------------------------------------------------------------------


@pytest.fixture
def house(premises: Premises) -> Iterator[House]:
    opened = House(Probe.open(premises.root, environ=premises.environ, actor="web:server"))
    yield opened
    opened.close()


@pytest.fixture
def clients(house: House, premises: Premises) -> dict[str, TestClient]:
    """Each kind of caller, and its client."""
    with premises.open() as cases:
        shown = {role: cases.create_token(role, role)["token"] for role in ("read", "operate", "admin")}
    shown |= {"key": key_of(premises.root), "keyless": ""}
    app = create_app(house)
    return {
        who: TestClient(
            app,
            base_url="http://127.0.0.1:7117",
            headers={"X-Orchestrion": "1"} | ({"Authorization": f"Bearer {one}"} if one else {}),
            client=("127.0.0.1", 50000),
        )
        for who, one in shown.items()
    }


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Method, path and least body of every operation but the stream of events, which only begins to read."""
    names = {"task": "T2", "run": "R2", "gate": "G1", "on": "T1", "decision": "D1", "artifact": "A1", "session": "S1"}
    for path, methods in document["paths"].items():
        if path.endswith("/events"):
            continue
        filled = re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "1"), path)
        for method, one in methods.items():
            asked = [p for p in one.get("parameters", ()) if p["in"] == "query" and p.get("required")]
            query = "&".join(f"{p['name']}={sample(p['schema'], document)}" for p in asked)
            body = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            yield method.upper(), f"{filled}?{query}", None if body is None else sample(body, document)


def judged(client: TestClient, method: str, path: str, body: Any) -> tuple[str, str]:
    """How a request was answered, and which use case it reached."""
    answer = client.request(method, path, json=body).json()
    return answer["code"], answer["details"].get("action", "")


def test_rest(clients: dict[str, TestClient], house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    document = clients["key"].get("/api/v1/openapi.json").json()
    every = list(operations(document))
    reached = {(method, path): judged(clients["key"], method, path, body) for method, path, body in every}
    assert {code for code, _ in reached.values()} == {"let_in"}, reached
    assert len(every) > 50
    for who, client in clients.items():
        for method, path, body in every:
            _, action = reached[method, path]
            assert judged(client, method, path, body)[0] == expected(CALLERS[who], action), (who, method, path)
    for who, (method, path, body) in product(("read", "operate"), every):
        problem, right = clients[who].request(method, path, json=body).json(), RIGHTS[reached[method, path][1]]
        if problem["code"] == "forbidden":
            assert f"and this needs {right.role}" in problem["detail"], (who, method, path)
            assert f"a token of the role {right.role};" in problem["hint"]
    monkeypatch.setattr(house, "on_behalf_of", lambda caller: house.cases.as_(INSIDE))
    for method, path, body in every:
        _, action = reached[method, path]
        own = not re.search("[TR]2", path)  # nobody else's task or run is named
        assert judged(clients["key"], method, path, body)[0] == expected(INSIDE, action, own=own), (method, path)


def test_page(clients: dict[str, TestClient], house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    things = {"tasks": "T2", "gates": "G1", "runs": "R2", "permissions": "1", "agents": "claude", "queue": "all"}
    form = {"reason": "x", "priority": "5", "on": "T1", "answer": "x", "text": "x"}
    every = [f"/{noun}/{things[noun]}/{verb}" for noun, verbs in DEEDS.items() for verb in verbs]
    told = {"let_in": "was reached", "forbidden": "has the role", "key_needed": "without the key"}
    told["not_for_runs"] = "not allowed from inside R1"
    for path in [*every, "/tasks"]:
        reached = re.search(r"(\w+) was reached", clients["key"].post(path, data={**form, "title": "x"}).text)
        assert reached, path
        for who, client in clients.items():
            answer = client.post(path, data={**form, "title": "x"}).text
            if "has the role" in answer:
                assert f"and this needs {RIGHTS[reached[1]].role}" in answer, (who, path, answer)
            assert told[expected(CALLERS[who], reached[1])] in answer, (who, path, answer)
        with monkeypatch.context() as patch:
            patch.setattr(house, "on_behalf_of", lambda caller: house.cases.as_(INSIDE))
            answer = clients["key"].post(path, data={**form, "title": "x"}).text
            assert told[expected(INSIDE, reached[1])] in answer, (path, answer)


# -- MCP --------------------------------------------------------------------------------------------


def test_mcp(premises: Premises, monkeypatch: pytest.MonkeyPatch) -> None:
    with premises.open() as cases:
        assert cases.start_session()["id"] == "S1"
    monkeypatch.setattr("orchestrion.orchestrator.whole.Orchestrator", Probe)
    desk = Desk(str(premises.root), premises.environ["ORCHESTRION_DB"], premises.environ, confined=True)
    desk.project()
    monkeypatch.setattr(Probe, "start_session", vars(Probe)["start_session"])
    callers: dict[str, Caller] = {**CALLERS, "inside": INSIDE, "elsewhere": ELSEWHERE}
    named = {"task_id": "T2", "run_id": "R2", "parent_task_id": "T2"}
    unreached = []
    for one in catalogue.definitions("full", ()):
        tool = catalogue.BY_NAME[one["name"]]
        given = {key: named.get(key, value) for key, value in sample(one["inputSchema"], {}).items()}
        seat = Seat("", "tester", session="S1")
        code, action, _ = _called(desk, seat, tool, given, callers["key"])
        if code == "cannot_restart":
            action = "restart_server"
        elif code != "let_in":
            unreached.append(tool.name)
            continue
        for who, caller in callers.items():
            # A run speaks in no sessions but its own.
            at = Seat("", "tester") if caller.run else seat
            found, _, needs = _called(desk, at, tool, given, caller)
            own = not named.keys() & given.keys()
            right = expected(caller, action, own=own)
            if action == "start_session" and right != "let_in":
                right = "let_in"  # what can be read is told without a session
            assert found == (code if right == "let_in" else right), (who, tool.name, action)
            assert found != "forbidden" or needs.endswith(f"this needs {RIGHTS[action].role}"), (who, tool.name, needs)
    desk.close()
    for opened in desk.opened():
        opened.close()
    # These read what the server itself knows.
    assert unreached == ["reconnect_test", "restart_status"]


def _called(desk: Desk, seat: Seat, tool: Any, given: Mapping[str, Any], caller: Caller) -> tuple[str, str, str]:
    reply, _ = server.answer(desk, seat, tool, given, caller=caller)
    error = reply.get("error", {"code": "done"})
    return error["code"], error.get("details", error).get("action", ""), error.get("message", "")


# -- the command line -------------------------------------------------------------------------------

#: What is judged before it reaches a use case, and by which name.
BY_NAME_ALONE = {
    "serve": "serve", "up": "serve", "work": "work", "run": "run_role", "setup": "set_up_client", "init": "init",
    "migrate": "migrate", "rebuild": "rebuild",
}  # fmt: skip
#: What nobody judges: it opens no project, or one of its own.
FREE = {"completion", "config", "demo", "hook", "mcp"}


def examples() -> Iterator[tuple[str, list[str]]]:
    """Each command with the first of its examples; of a group each of its commands."""
    context = click.Context(program)
    for name in BY_NAME:
        command = program.get_command(context, name)
        commands = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        for one in commands:
            words = shlex.split(one.examples[0].rpartition("| ")[2])  # type: ignore[union-attr]
            yield name, words[1:]


def test_command_line(premises: Premises, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrion.orchestrator.whole.Orchestrator", Probe)
    monkeypatch.setattr("orchestrion.orchestrator.finding.Finding", Probe)
    monkeypatch.chdir(premises.root)
    Path("plan.yaml").write_text("plan: p\ntasks: [{title: a}]\n")
    with premises.open() as cases:
        marks = {f"{cases.store.uuid}/R1": INSIDE, f"{cases.store.uuid[::-1]}/R1": ELSEWHERE}
    for variable in [one for one in os.environ if one not in premises.environ]:
        monkeypatch.delenv(variable)
    for variable, value in premises.environ.items():
        monkeypatch.setenv(variable, value)
    unreached = []
    for (name, words), (mark, caller) in product(examples(), marks.items()):
        if name in FREE:
            continue
        with monkeypatch.context() as patch:
            action = BY_NAME_ALONE.get(name) or _typed(words)[1]
            patch.setenv(RUN_VARIABLE, mark)
            code, _ = _typed(words)
        if not action:
            unreached.append(words)
            continue
        own = not any(re.fullmatch(r"[TR]\d+", word) for word in words)
        # A command that names no run is about the caller's own, which is not of this store.
        right = {expected(caller, action, own=own)} | ({"foreign_run"} if own and caller is ELSEWHERE else set())
        assert code in right, (words, action)
    assert unreached == []


def _typed(words: list[str]) -> tuple[str, str]:
    with CliRunner().isolation(input=b"x") as (_, err, _both):
        run([*words, "--json"])
        said = err.getvalue().decode()
    error = json.loads(said[said.index("{") :])["error"] if "{" in said else {"code": "done", "details": {}}
    return error["code"], error["details"].get("action", "")
