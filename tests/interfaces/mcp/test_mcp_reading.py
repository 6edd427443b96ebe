"""Resources, prompts and progress: what is read whole, what a person begins with, and how far a long call is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from peers import InProcess, Pipe, Reply, Site, official

from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.interfaces.mcp import prompts, resources


def read(peer: InProcess, uri: str) -> str:
    kind, text = resources.read(peer.desk, peer.seat, uri)
    assert kind in (resources.JSON, resources.MARKDOWN, resources.TEXT)
    return text


def test_every_resource_can_be_read(peer: InProcess) -> None:
    task = peer.call("plan_task", title="Parser", description="Write it")["task_id"]
    peer.call("record_decision", title="Small", decision="No macros", rationale="nobody asked")
    run = peer.call("execute_task", task_id=task)["run"]
    assert json.loads(read(peer, f"orchestrion://tasks/{task}"))["title"] == "Parser"
    assert json.loads(read(peer, f"orchestrion://runs/{run}"))["task"] == task
    assert "Write it" in read(peer, f"orchestrion://briefs/{run}")
    assert read(peer, f"orchestrion://runs/{run}/log") == ""
    assert "No macros" in read(peer, "orchestrion://decisions/D1")
    peer.call("complete_task", task_id=task, summary="s", detailed_work="the work", next_action="complete", run=run)
    assert read(peer, "orchestrion://artifacts/A1") == "the work"
    assert read(peer, "orchestrion://artifacts/A1?offset=4") == "work"
    assert json.loads(read(peer, "orchestrion://tasks"))["tasks"] == []
    assert json.loads(read(peer, "orchestrion://decisions"))["decisions"][0]["id"] == "D1"
    assert "Small" in read(peer, "orchestrion://prime")
    peer.call("recover_context", handoff="mind the gap")
    assert json.loads(read(peer, "orchestrion://handoffs"))["handoffs"][0]["said"] == "mind the gap"
    assert read(peer, "orchestrion://handoffs/H1").startswith("mind the gap\n")
    with pytest.raises(NotFound):
        read(peer, "orchestrion://tasks/T99")
    with pytest.raises(InvalidInput):
        read(peer, "orchestrion://tasks?offset=1")


def test_a_brief_advises_what_its_reader_was_given(peer: InProcess, site: Site) -> None:
    (site.root / ".orchestrion").mkdir(exist_ok=True)
    (site.root / ".orchestrion" / "config.yaml").write_text("checks:\n  unit: test -s parser.py\n")
    task = peer.call("plan_task", title="Parser", description="word " * 20_000, checks=["unit"])["task_id"]
    taken = peer.call("execute_task", task_id=task, include_brief=True)
    brief = taken["brief_text"]
    assert brief == read(peer, f"orchestrion://briefs/{taken['run']}")
    report = f"task_id={task}, run={taken['run']}"
    assert f"`orchestrator_complete_task({report}, summary=TEXT, detailed_work=TEXT, next_action=complete)`" in brief
    assert f"`orchestrator_update_task({report}, status=failed, reason=TEXT)`" in brief
    assert f"`orchestrator_update_task({report}, status=pending)`" in brief
    assert f"left out for length: `orchestrion://tasks/{task}`)" in brief
    assert "`unit`:\n\n```\ntest -s parser.py\n```" in brief


def test_every_resource_that_is_listed_has_a_reader() -> None:
    listed = [one["uri"] for one in resources.FIXED] + [one["uriTemplate"] for one in resources.TEMPLATES]
    assert {uri.removeprefix(resources.SCHEME) for uri in listed} == set(resources._READERS)


def test_every_prompt_tells_what_is_true_now(peer: InProcess) -> None:
    ready = peer.call("plan_task", title="Ready one", description="d", specialist_type="tester")["task_id"]
    handed = peer.call("plan_task", title="Handed in", description="d")["task_id"]
    peer.call("update_task", task_id=handed, status="active")

    def said(name: str, **given: str) -> str:
        return prompts.write(peer.desk, peer.seat, name, given)

    assert "World peace" in said("plan", goal="World peace")
    assert "implementer" in said("plan", goal="x")
    assert ready in said("work-next")
    assert ready in said("work-next", role="tester")
    assert ready not in said("work-next", role="architect")
    assert handed in said("review")
    assert "Ready one" in said("review", task=ready)
    assert "Do not forget" in said("handoff", note="Do not forget")


@pytest.fixture
def pipe(site: Site) -> Iterator[Pipe]:
    with Pipe(site) as one:
        one.open()
        yield one


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_who_asks_for_progress_is_told(pipe: Pipe) -> None:
    task = pipe.call("plan_task", title="x", description="y")["task_id"]
    run = pipe.call("execute_task", task_id=task)["run"]
    report = {"task_id": task, "run": run, "summary": "s", "detailed_work": "", "next_action": "complete"}
    meta = {"progressToken": "how far"}
    number = pipe.post("tools/call", name="orchestrator_complete_task", arguments=report, _meta=meta)

    def is_progress(one: Reply) -> bool:
        return one.get("method") == "notifications/progress" and one["params"]["progressToken"] == "how far"

    first = pipe.hear(is_progress)["params"]
    assert first["message"] == "verifying files and running checks"
    assert first["progress"] == 0
    assert pipe.result(number)[0]["state"] == "completed"
    unasked = pipe.call("plan_task", title="x", description="y")["task_id"]
    pipe.call("execute_task", task_id=unasked)
    pipe.call("complete_task", task_id=unasked, summary="s", detailed_work="", next_action="complete")
    assert not [one for one in pipe.heard if is_progress(one) and one["params"]["progress"] == 0]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_resource_that_is_not_there_has_the_code_of_the_revision(site: Site, pipe: Pipe) -> None:
    older = pipe.ask("resources/read", uri="orchestrion://tasks/T9")["error"]
    assert older["code"] == -32002
    assert older["data"]["uri"] == "orchestrion://tasks/T9"
    assert older["data"]["hint"]
    with official(site, mode="2026-07-28") as client, pytest.raises(Exception, match="there is no task T9") as refused:
        client.do("read_resource", "orchestrion://tasks/T9")
    assert refused.value.error.code == -32602  # type: ignore[attr-defined]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_texts_name_only_tools_that_the_client_was_listed(pipe: Pipe) -> None:
    begun = pipe.call("initialize_session")
    assert "orchestrator_plan_task" in begun["instructions"]
    task = pipe.call("plan_task", title="x", description="y")["task_id"]
    texts = [begun, pipe.call("execute_task", task_id=task), pipe.call("recover_context", task_id=task)]
    texts += [pipe.refused("session_status", session_id="S99"), pipe.refused("complete_task", **_report("T1", "R99"))]
    names = {"plan": {"goal": "g"}, "work-next": {}, "review": {}, "handoff": {}}
    texts += [pipe.ask("prompts/get", name=name, arguments=given) for name, given in names.items()]
    listed = {tool["name"] for tool in pipe.ask("tools/list")["result"]["tools"]}
    assert set(re.findall(r"orchestrator_[a-z_]+", str(texts))) <= listed
    assert begun["specialist_roles"]["tester"] != "You are the tester"


def _report(task: str, run: str) -> dict[str, str]:
    return {"task_id": task, "run": run, "summary": "s", "detailed_work": "d", "next_action": "complete"}


def test_that_no_file_is_recorded_is_said(peer: InProcess) -> None:
    task = peer.call("plan_task", title="Parser", description="x")["task_id"]
    found = peer.call("track_files", task_id=task)
    assert (found["verification_status"], found["total_count"]) == ("pending", 0)
    assert found["note"].startswith("no file is recorded")
