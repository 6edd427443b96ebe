"""What the page says of work that was done, against what git and the store have."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from orchestrion.core.errors import Conflict, InvalidInput
from orchestrion.interfaces.page import contents
from orchestrion.interfaces.web.app import create_app
from orchestrion.interfaces.web.house import House
from orchestrion.ops import alerts
from orchestrion.ops.alerts import Finding
from orchestrion.scheduler import meter
from premises import key_of
from stage import Stage, python

#: More than the page names.
_FILES = contents.FILES + 20


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path / "stage", os.environ)
    made.open(retry__delay_s=0, run__grace_s=1)
    yield made
    made.close()


def test_a_run_with_a_bent_log_is_shown_with_a_word_in_its_place(stage: Stage) -> None:
    stage.add("echo b > b.txt")
    stage.drain(1)
    (stage.run_folder() / "log.jsonl").unlink()
    os.mkfifo(stage.run_folder() / "log.jsonl")
    app = create_app(House(stage.orchestrion))
    client = TestClient(app, base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000))
    page = client.get("/runs/R1")
    assert page.status_code == 200
    assert "run_folder_bent: this is no plain file" in page.text
    assert "b.txt" in page.text
    [line] = client.get("/api/v1/runs/R1/log").json()["lines"]
    assert line["text"].startswith("run_folder_bent: ")
    [told] = client.get("/api/v1/runs/R1/debug").json()["bent"]
    assert told == line["text"]


def test_files_of_a_run_are_those_of_its_diff_and_all_are_counted(stage: Stage) -> None:
    write = f"import pathlib\nfor n in range({_FILES}): pathlib.Path(f'f{{n}}').write_text('x\\n')"
    write += "\npathlib.Path('a.txt').unlink()"
    task = stage.add(python(write))
    stage.drain(1)
    cases = stage.orchestrion
    files = cases.files_of("R1")
    assert len(files) == stage.run()["files_changed"] == _FILES + 1
    assert files[0] == {
        "path": "a.txt", "kind": "deleted", "lines_added": 0, "lines_removed": 10, "seen_at": stage.run()["ended_at"],
    }  # fmt: skip
    page = (
        TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000))
        .get("/runs/R1")
        .text
    )
    told = re.search(r'id="files">Files <span class="total">(\S+)</span>', page)
    assert told
    assert told[1] == str(_FILES + 1)
    assert "and 21 more, which" in page
    assert "<code>orchestrion diff R1</code>" in page
    assert "changed none" not in page
    assert cases.task(task).as_json()["completed_at"] == cases.task(task).as_json()["ended_at"] is not None


def test_what_failed_or_was_cancelled_ended_and_was_not_completed(stage: Stage) -> None:
    failed = stage.add("exit 3", max_retries=0)
    stage.drain(1)
    cancelled = stage.add("true")
    cases = stage.orchestrion
    cases.cancel(cancelled, "not wanted")
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000))
    for task in (failed, cancelled):
        shown = client.get(f"/api/v1/tasks/{task}").json()
        assert shown["completed_at"] is None
        assert shown["ended_at"]
        page = client.get(f"/tasks/{task}").text
        assert "<dt>Ended</dt>" in page
        assert "<dt>Completed</dt>" not in page


def test_a_gate_waits_until_it_is_opened_or_refused(stage: Stage) -> None:
    cases = stage.orchestrion
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000))
    headers = {"X-Orchestrion": "1", "HX-Request": "true", "Authorization": f"Bearer {key_of(stage.root)}"}
    for act, said in (("open", "opened"), ("refuse", "refused")):
        task = stage.add("true")
        cases.add_gate(task, "approval", called="Ship it?")
        gate = cases.show(task)["gates"][0]["id"]
        page = client.get(f"/tasks/{task}").text
        assert f"approval {gate} is waiting: Ship it?<" in page.replace("</li>", "<")
        note = client.post(f"/gates/{gate}/{act}", headers=headers, data={"answer": "so be it"})
        assert f"{gate} is {said}" in note.text
        assert f'<span class="meta">{said}</span>' in client.get(f"/tasks/{task}").text


def test_a_dialog_says_what_is_asked_and_of_which_task(stage: Stage) -> None:
    cases = stage.orchestrion
    task = cases.add("Pay <b>them</b> back").as_json()["id"]
    cases.add_gate(task, "question", called="To which\naccount?")
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000))
    headers = {"X-Orchestrion": "1", "HX-Request": "true", "Authorization": f"Bearer {key_of(stage.root)}"}
    for verb in ("answer", "refuse"):
        dialog = client.get(f"/gates/G1/{verb}/form", headers=headers).text
        assert "To which\naccount?" in dialog
        assert f"{task} Pay &lt;b&gt;them&lt;/b&gt; back" in dialog
    again = client.post("/gates/G1/answer", headers=headers, data={"answer": ""})
    assert again.status_code == 422
    assert "To which\naccount?" in again.text
    gone = client.post("/gates/G9/answer", headers=headers, data={"answer": "yes"})
    assert gone.status_code == 404
    assert "there is no gate G9" in gone.text


def test_a_gate_that_waits_for_a_moment_names_it_and_is_opened_before(stage: Stage) -> None:
    cases = stage.orchestrion
    task = cases.add("Later").as_json()["id"]
    cases.add_gate(task, "time", opens_at=2_111_634_000_000)
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000))
    headers = {"X-Orchestrion": "1", "HX-Request": "true", "Authorization": f"Bearer {key_of(stage.root)}"}
    page = client.get(f"/tasks/{task}", headers=headers).text
    moment = '<time datetime="2036-11-30T05:00:00'
    assert moment in page.split('class="gate open"')[1].split("</section>")[0]
    assert moment in page.split('id="waits"')[1].split("</section>")[0]
    assert 'aria-label="Open now G1"' in page
    assert "Approve" not in page
    assert "G1 is opened" in client.post("/gates/G1/now", headers=headers).text


def test_work_in_review_says_what_to_do_on_the_views_of_its_task_and_its_run(stage: Stage) -> None:
    for text in ("one", "two"):
        stage.add(f"sleep 0.3; echo {text} > a.txt")
    stage.drain(2)
    cases = stage.orchestrion
    task = next(one for one in ("T1", "T2") if stage.task(one)["state"] == "review")
    run = stage.runs(task)[-1]["id"]
    steps = cases.show(task)["steps"]
    assert any(" merge " in step for step in steps)
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000))
    for view in (f"/tasks/{task}", f"/runs/{run}"):
        page = html.unescape(client.get(view).text)
        assert "\n".join(steps) in page
        assert 'merge_conflict</span> <span class="path">a.txt</span>' in page
        assert "its view" not in page
    assert f"the view of {task} says what to do" in client.get(f"/tasks/{task}").text
    cases.reject(task, "again")
    assert "What to do" not in client.get(f"/runs/{run}").text


def test_the_evidence_of_a_failed_check_is_on_the_view_that_is_named(stage: Stage) -> None:
    task = stage.add("true", checks=("echo because; exit 1",), max_retries=0)
    stage.drain(1)
    run = stage.runs(task)[-1]["id"]
    cases = stage.orchestrion
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000))
    assert f"read the evidence with the view of {run}" in client.get(f"/tasks/{task}").text
    assert "because" in client.get(f"/runs/{run}").text.split('id="checks"')[1]


def test_whoever_decides_a_gate_after_somebody_else_is_told_what_stands(stage: Stage) -> None:
    cases = stage.orchestrion
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000))
    headers = {"X-Orchestrion": "1", "HX-Request": "true", "Authorization": f"Bearer {key_of(stage.root)}"}
    for kind, acts in (("approval", ("refuse", "open")), ("question", ("answer", "answer"))):
        task = stage.add("true")
        cases.add_gate(task, kind, called="Now?")
        gate = cases.show(task)["gates"][0]["id"]
        assert client.post(f"/gates/{gate}/{acts[0]}", headers=headers, data={"answer": "the first"}).status_code == 200
        later = client.post(f"/gates/{gate}/{acts[1]}", headers=headers, data={"answer": "the second"})
        assert later.status_code == 409
        assert (
            f"{gate} was {'refused' if kind == 'approval' else 'opened'} by web:local before: the first" in later.text
        )
        assert f"the view of {task} has all of it" in later.text
        told = client.post(f"/api/v1/gates/{gate}/open", headers=headers, json={}).json()
        assert told["code"] == "gate_decided"
        assert (told["details"]["decided_by"], told["details"]["answer"]) == ("web:local", "the first")
        with pytest.raises(Conflict, match=f"{gate} was .* by web:local before: the first"):
            cases.open_gate(gate, refuse=True)
        assert cases.show(task)["gates"][0]["answer"] == "the first"


def test_a_dependency_that_is_there_already_changes_nothing_and_that_is_said(stage: Stage) -> None:
    first, task = stage.add("true"), stage.add("true")
    client = TestClient(create_app(House(stage.orchestrion)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 1))
    headers = {"X-Orchestrion": "1", "HX-Request": "true", "Authorization": f"Bearer {key_of(stage.root)}"}
    notes = [
        client.post(f"/tasks/{task}/dependency", headers=headers, data={"on": on, "kind": kind}).text
        for on, kind in ((first, "blocks"), (first.lower(), "blocks"), (first, "soft"))
    ]
    nothing = f"Nothing changed: {task} waits for {first} already"
    assert [nothing in note for note in notes] == [False, True, False]


def test_a_command_keeps_its_lines(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", os.environ)
    cases = stage.open(doors__commands=True)
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 1))
    headers = {"X-Orchestrion": "1", "HX-Request": "true", "Authorization": f"Bearer {key_of(stage.root)}"}
    lines = "echo one\necho two # x\necho three"
    assert re.search(r"<textarea [^>]*name=.command.", client.get("/new", headers=headers).text)
    for written in (lines, lines.replace("\n", "\r\n")):  # as a script sends it, and as a form does
        client.post("/tasks", headers=headers, data={"title": "One", "command": written})
    assert [cases.show(task)["run_command"] for task in ("T1", "T2")] == [lines, lines]
    stage.close()


def test_a_text_that_is_too_long_is_refused_at_its_field_and_nothing_is_cut(stage: Stage) -> None:
    stage.add("true")
    client = TestClient(create_app(House(stage.orchestrion)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 1))
    headers = {"X-Orchestrion": "1", "HX-Request": "true", "Authorization": f"Bearer {key_of(stage.root)}"}
    for path, given, field, said in (
        ("/tasks", {"title": "t" * 256}, "title", "at most 255 characters, this one has 256"),
        ("/tasks", {"title": "One", "description": "d" * 1_000_001}, "description", "at most 1000000 are kept"),
        ("/tasks/T1/cancel", {"reason": "r" * 1_000_001}, "reason", "at most 1000000 are kept"),
    ):
        answer = client.post(path, headers=headers, data=given)
        assert answer.status_code == 422
        assert f'data-wrong="{field}"' in answer.text
        assert said in answer.text
        assert given[field] in answer.text  # all of it is still there
    views = ("/new", "/tasks/T1/cancel/form", "/tasks/T1/dependency/form", "/tasks/T1/priority/form")
    assert not [view for view in views if "maxlength" in client.get(view, headers=headers).text]


def test_tokens_and_costs_are_those_of_the_statistics(stage: Stage) -> None:
    cases = stage.orchestrion
    for task in (stage.add("true"), stage.add("true")):
        cases.claim(task)
    used = {"tokens_input": 40, "tokens_output": 8, "tokens_cache_read": 4_000, "tokens_cache_write": 200}
    cases.correct("R1", {**used, "cost_usd": 0.5}, "as the bill says")
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 1))
    apart = ["Tokens in", "40", "Tokens out", "8", "From cache", "4,000", "To cache", "200", "Cost", "$0.50"]
    for view in ("/stats", "/runs/R1"):
        shown = re.findall(r"<d[td]>(.*?)</d[td]>", client.get(view).text)
        assert shown[shown.index("Tokens in") :][: len(apart)] == apart
    statistics = client.get("/stats").text
    assert "<dt>Of unknown cost</dt><dd>1 run</dd>" in statistics
    assert "<td>client</td>" in statistics.split('id="by-agent"')[1].split("</section>")[0]
    together = f'<td class="n">{sum(used.values()):,}</td>'
    assert [part.count(together) for part in statistics.split("<section")] == [0, 1, 1, 1]
    assert together in client.get("/tasks/T1").text
    assert f"{sum(used.values()):,} tok" in client.get("/").text


def test_what_a_dialog_sends_again_with_its_key_is_done_once(stage: Stage) -> None:
    cases = stage.orchestrion
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 1))
    let_in = {"X-Orchestrion": "1", "HX-Request": "true", "Authorization": f"Bearer {key_of(stage.root)}"}
    keys = [re.findall(r'"Idempotency-Key":"(\w+)"', client.get("/new", headers=let_in).text) for _ in range(2)]
    assert [len(key) for key in keys] == [1, 1]
    assert keys[0] != keys[1]
    keyed = {**let_in, "Idempotency-Key": keys[0][0]}
    refused = client.post("/tasks", headers=keyed, data={"title": ""})
    assert refused.status_code == 422
    answers = [client.post("/tasks", headers=keyed, data={"title": "One"}).text for _ in range(2)]
    assert answers[0] == answers[1]
    assert "T1 is added" in answers[0]
    changed = client.post("/tasks", headers=keyed, data={"title": "Another"})
    assert (changed.status_code, changed.json()["code"]) == (422, "key_reused")
    assert cases.status()["tasks"]["ready"] == 1
    reading = {"X-Orchestrion": "1", "HX-Request": "true", "Idempotency-Key": "k1"}
    assert [client.post("/tasks", headers=reading, data={"title": "One"}).status_code for _ in range(2)] == [401, 401]
    assert cases.store.read(lambda tx: tx.one("request", actor="web:keyless", label="k1")) is None


@pytest.mark.parametrize("nothing", ["", " \n", "\u00a0\u200b", "\u3164\u2800"])
def test_a_reason_of_which_nothing_is_seen_is_none(stage: Stage, nothing: str) -> None:
    cases = stage.orchestrion
    task = stage.add("true")
    cases.done(cases.claim(task)["run"], "look", next_action="needs_revision")
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 1))
    headers = {"X-Orchestrion": "1", "HX-Request": "true", "Authorization": f"Bearer {key_of(stage.root)}"}
    answer = client.post(f"/tasks/{task}/reject", headers=headers, data={"reason": nothing})
    assert answer.status_code == 422
    assert 'data-wrong="reason"' in answer.text
    for door in (lambda: cases.reject(task, nothing), lambda: cases.correct("R1", {"turns": 1}, nothing)):
        with pytest.raises(InvalidInput, match="needs a reason"):
            door()
    with pytest.raises(InvalidInput, match="needs a title"):
        cases.add(nothing)


def test_what_nobody_reported_and_what_is_over_is_not_counted(stage: Stage) -> None:
    stage.add("true")
    stage.drain(1)
    cases = stage.orchestrion
    alerts.settle(cases.store, [Finding("stuck", "R4", "R4 is stuck for 1328.5 s since 2026-11-30T05:12:20.123Z")])
    alerts.settle(cases.store, [])
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 1))
    assert cases.stats()["tokens"]["input"] is None
    assert "<dt>Tokens in</dt><dd>–</dd>" in client.get("/stats").text
    health = client.get("/health").text
    assert 'id="alerts">Alerts <span class="total">0 open</span>' in health
    assert 'for 22 min 8 s since <time datetime="2026-11-30T05:12:20.123Z" data-at>' in health


@pytest.mark.parametrize("session", [True, False])
def test_a_failed_task_and_its_run_offer_its_session_if_it_had_one(stage: Stage, session: bool) -> None:
    cases = stage.orchestrion
    task = cases.add("One", max_retries=0).as_json()["id"]
    run = cases.claim(task, agent="claude")["run"]
    if session:
        cases.store.write(lambda tx: meter.add(tx, int(run[1:]), turns=1, session_id="s1"))
    cases.fail(run, "it cannot be done")
    client = TestClient(create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 1))
    headers = {"Authorization": f"Bearer {key_of(stage.root)}"}
    for view in (f"/tasks/{task}", f"/runs/{run}"):
        page = client.get(view, headers=headers).text
        assert "Retry</button>" in page
        assert ("Retry in its session" in page) == session
