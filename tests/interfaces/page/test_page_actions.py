"""A real Chromium does everything that a person can do on the page."""

from __future__ import annotations

import re
from typing import Any

import pytest
import scene
from lookers import looking

from orchestrion import Orchestrator
from orchestrion.scheduler import permissions
from orchestrion.scheduler.permissions import Ask
from orchestrion.store import Transaction
from stage import python, wait_for


def state(cases: Orchestrator, task: str) -> str:
    return str(cases.task(task).state)


def in_review(cases: Orchestrator, title: str) -> str:
    task = cases.add(title, plan="shop").as_json()["id"]
    cases.done(cases.claim(task, agent="claude")["run"], "look at it", next_action="needs_revision")
    return str(task)


def test_work_in_review_is_approved_on_the_board(served: Any, looker: Any) -> None:
    page = looker.go("/")
    page.locator("#card-T6").get_by_role("button", name="Approve T6").click()
    looker.note("T6 is approved")
    page.wait_for_selector(".column.done #card-T6")
    assert state(served.cases, "T6") == "completed"
    approved = [event for event in served.cases.events(task="T6") if event["to"] == "completed"]
    assert approved[-1]["actor"] == "web:local"


def test_work_in_review_is_rejected_with_a_reason(served: Any, looker: Any) -> None:
    task = in_review(served.cases, "To be rejected")
    page = looker.go(f"/tasks/{task}")
    page.get_by_role("button", name=f"Reject {task}").click()
    looker.fill(reason="The rates of 2027 are missing")
    looker.note(f"{task} goes back")
    page.wait_for_selector(".under .state.ready")
    again = served.cases.claim(task, agent="claude")
    assert "The rates of 2027 are missing" in again["brief"]


def test_a_reason_that_is_missing_is_asked_for(served: Any, looker: Any) -> None:
    task = in_review(served.cases, "Not without a reason")
    page = looker.go(f"/tasks/{task}")
    page.get_by_role("button", name=f"Reject {task}").click()
    looker.fill(reason="")
    assert page.locator("#dialog[open]").count() == 1  # the browser itself asks for it
    assert state(served.cases, task) == "review"


def test_a_question_is_answered(served: Any, looker: Any) -> None:
    page = looker.go("/")
    page.locator("#card-T7").get_by_role("button", name="Answer G1").click()
    looker.fill(answer="Yes, it does.")
    looker.note("G1 is answered")
    page.wait_for_selector(".column.ready #card-T7")
    assert served.cases.show("T7")["gates"][0]["answer"] == "Yes, it does."


def test_an_approval_is_refused(served: Any, looker: Any) -> None:
    task = served.cases.add("Not on a Friday").as_json()["id"]
    served.cases.add_gate(task, "approval", called="Now?")
    gate = served.cases.show(task)["gates"][0]["id"]
    page = looker.go(f"/tasks/{task}")
    page.get_by_role("button", name=f"Refuse {gate}").click()
    looker.fill(answer="not today")
    looker.note(f"{gate} is refused")
    assert served.cases.show(task)["gates"][0]["state"] == "dead"


def test_a_failed_task_is_tried_again(served: Any, looker: Any) -> None:
    page = looker.go("/tasks/T3")
    page.get_by_role("button", name="Retry T3", exact=True).click()
    looker.note("T3 is tried again")
    page.wait_for_selector(".under .state.ready")


def test_a_completed_task_is_reopened_and_cancelled(served: Any, looker: Any) -> None:
    task = served.cases.add("Done too soon", completed=True).as_json()["id"]
    page = looker.go(f"/tasks/{task}")
    page.get_by_role("button", name=f"Reopen {task}").click()
    looker.fill(reason="it was not done")
    page.wait_for_selector(".under .state.ready")
    page.get_by_role("button", name=f"Cancel {task}").click()
    looker.fill(reason="nobody wants it", dependents="cancel")
    page.wait_for_selector(".under .state.cancelled")
    assert state(served.cases, task) == "cancelled"


def test_priority_and_dependency_are_changed(served: Any, looker: Any) -> None:
    task = served.cases.add("To be shaped").as_json()["id"]
    other = served.cases.add("Before it").as_json()["id"]
    page = looker.go(f"/tasks/{task}")
    page.get_by_role("button", name=f"Priority {task}").click()
    looker.fill(priority="9")
    page.wait_for_selector(".under:has-text('priority 9')")
    page.get_by_role("button", name=f"Add dependency {task}").click()
    looker.fill(on=other, kind="soft")
    page.wait_for_selector(f".links a[href='/tasks/{other}']")
    assert served.cases.task(task).as_json()["after"] == [other]


def test_a_refusal_stands_at_its_field_until_that_is_corrected(served: Any, looker: Any) -> None:
    task = served.cases.add("Waits for itself").as_json()["id"]
    page = looker.go(f"/tasks/{task}")
    page.get_by_role("button", name=f"Add dependency {task}").click()
    for wrong, said in (
        ("T9999", "there is no task T9999"),
        (task, task),
        ("nonsense", "'nonsense' is not the id of a task"),
    ):
        looker.fill(on=wrong)
        field = page.wait_for_selector("#dialog [name=on][aria-invalid]")
        assert field.input_value() == wrong  # what was written is not lost
        problem = page.locator("#dialog .wrong")
        assert problem.get_attribute("id") in (field.get_attribute("aria-describedby") or "")
        assert said in problem.inner_text()
        assert "orchestrion" not in problem.inner_text()
        assert page.evaluate("document.activeElement.name") == "on"
        page.locator("#dialog [name=on]").press_sequentially("1")
        assert page.locator("#dialog .wrong").count() == 0
    assert page.locator("#notes .note").count() == 0
    page.get_by_role("button", name="Not now").click()
    page.wait_for_selector("#dialog", state="hidden")
    looker.said = [line for line in looker.said if "status of 4" not in line]  # the browser tells every refusal


def test_a_refusal_of_no_field_stands_on_top_of_the_dialog(served: Any, looker: Any) -> None:
    task = in_review(served.cases, "Rejected by two")
    page = looker.go(f"/tasks/{task}")
    page.get_by_role("button", name=f"Reject {task}").click()
    page.wait_for_selector("#dialog[open]")
    served.cases.reject(task, "I was first")
    looker.fill(reason="me too")
    assert "ready" in page.wait_for_selector("#dialog[open] .wrong").inner_text()
    page.locator("#dialog [name=reason]").press_sequentially("!")
    assert page.locator("#dialog .wrong").count() == 0
    looker.said = [line for line in looker.said if "status of 4" not in line]


def test_dialogs_say_what_their_buttons_do_and_begin_with_what_there_is(served: Any, looker: Any) -> None:
    task = served.cases.add("To be kept", priority=3).as_json()["id"]
    page = looker.go(f"/tasks/{task}")
    page.get_by_role("button", name=f"Cancel {task}").click()
    page.wait_for_selector("#dialog[open]")
    assert page.locator("#dialog .row .button").all_inner_texts() == ["Keep it", "Cancel the task"]
    assert "Stay blocked" in page.locator("#dialog option").all_inner_texts()
    page.get_by_role("button", name="Keep it").click()
    page.wait_for_selector("#dialog", state="hidden")
    assert state(served.cases, task) == "ready"
    page.get_by_role("button", name=f"Priority {task}").click()
    page.wait_for_selector("#dialog[open]")
    assert page.locator("#dialog [name=priority]").input_value() == "3"
    page.locator("#dialog [name=priority]").fill("4")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".under:has-text('priority 4')")
    page.get_by_role("button", name="New task").click()
    page.wait_for_selector("#dialog[open]")
    looker.fill(title="x" * 300)
    assert "at most 255 characters" in page.wait_for_selector("#dialog[open] #wrong-title").inner_text()
    assert page.locator("#dialog [name=title]").input_value() == "x" * 300
    looker.said = [line for line in looker.said if "status of 4" not in line]


def test_while_the_server_is_away_nothing_is_done_and_nothing_is_lost_in_silence(chromium: Any, served: Any) -> None:
    task = in_review(served.cases, "Approved when it is back")
    with looking(chromium, served.url, link=served.link) as looker:
        page = looker.go(f"/tasks/{task}")
        sent: list[str] = []
        page.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
        page.get_by_role("button", name=f"Reject {task}").click()
        page.locator("#dialog [name=reason]").fill("half a sentence")
        served.stop()
        try:
            page.wait_for_selector("#dialog .away:has-text('No connection since')")
            assert page.locator("#dialog .submit").is_disabled()
            page.keyboard.press("Control+Enter")
            page.keyboard.press("Escape")
            page.wait_for_selector("#away:has-text('Actions are off')")
            assert page.locator("button[hx-post]:enabled, [data-new]:enabled").count() == 0
            page.keyboard.press("a")
            looker.note(f"“Approve {task}” was not done")
            page.keyboard.press("n")
            looker.note("“New task” was not done")
            page.evaluate("htmx.ajax('POST', '/tasks/T1/reopen', '#notes')")  # whatever asks for it
        finally:
            served.start()
        page.wait_for_selector("#live.on")
        page.wait_for_selector("#away", state="hidden")
        assert sent == []
        assert state(served.cases, task) == "review"
        page.get_by_role("button", name=f"Approve {task}").click()
        page.wait_for_selector(".under .state.completed")
        assert len(sent) == 1


@pytest.mark.parametrize("found_by", ["silence", "action"])
def test_a_server_that_hangs_is_away_since_it_was_heard_last(chromium: Any, served: Any, found_by: str) -> None:
    task = in_review(served.cases, f"While it hung, {found_by}")
    with looking(chromium, served.url, link=served.link) as looker:
        page = looker.go(f"/tasks/{task}")
        with served.hanging():
            hung = page.evaluate("new Date(Date.now() + 1000).toTimeString().slice(0, 8)")
            if found_by == "action":
                page.keyboard.press("n")
                looker.note("“New task” got no answer")
            page.wait_for_selector("#away:has-text('No connection since')", timeout=20_000)
            since = re.search(r"since (\S+)\.", page.locator("#away").inner_text())
            assert since
            assert since[1] <= hung or hung < "00:01"  # at midnight it starts anew
            assert page.locator("button[hx-post]:enabled, [data-new]:enabled").count() == 0
            page.keyboard.press("n")
            looker.note("“New task” was not done: there is no connection")
        page.wait_for_selector("#live.on")
        page.wait_for_selector("#away", state="hidden")
        assert page.locator("#dialog[open]").count() == 0  # nothing was kept until it was back
        page.keyboard.press("n")
        page.wait_for_selector("#dialog[open] [name=title]")
        assert state(served.cases, task) == "review"


def test_an_action_that_takes_long_is_waited_for(served: Any, looker: Any) -> None:
    task = in_review(served.cases, "Takes its time")
    page = looker.go(f"/tasks/{task}")
    lives: list[str] = []
    page.on("request", lambda one: lives.append(one.url) if one.url.endswith("/livez") else None)
    held: list[Any] = []
    page.route("**/approve", lambda route: held.append(route))
    page.get_by_role("button", name=f"Approve {task}").click()
    page.wait_for_event("response", lambda one: one.url.endswith("/livez"))
    assert page.locator("#away").is_hidden()
    assert len(held) == 1
    held[0].continue_()
    looker.note(f"{task} is approved")
    assert len(lives) == 1


def test_an_action_without_an_answer_is_told_and_not_sent_again(served: Any, looker: Any) -> None:
    task = in_review(served.cases, "The wire was cut")
    page = looker.go(f"/tasks/{task}")
    page.route("**/approve", lambda route: route.abort())
    page.get_by_role("button", name=f"Approve {task}").click()
    looker.note(f"“Approve {task}” got no answer")
    page.unroute("**/approve")
    page.route("**/approve", lambda route: route.fulfill(status=502, body="<html>bad gateway</html>"))
    page.get_by_role("button", name=f"Approve {task}").click()
    looker.note("the answer was 502")
    assert page.locator(".note.problem").count() == 2  # they stay until they are read
    page.unroute("**/approve")
    page.route("**/reject", lambda route: route.abort())
    page.get_by_role("button", name=f"Reject {task}").click()
    looker.fill(reason="said once")
    assert "got no answer" in page.wait_for_selector("#dialog[open] .wrong").inner_text()
    assert page.locator("#dialog [name=reason]").input_value() == "said once"
    page.unroute("**/reject")
    page.click("#dialog .submit")
    page.wait_for_selector(".under .state.ready")
    looker.said.clear()  # the browser tells of every one


def test_a_new_task_whose_answer_was_lost_is_not_made_twice(served: Any, looker: Any) -> None:
    page = looker.go("/")

    def lose(route: Any) -> None:
        route.fetch()
        route.abort()

    page.route("**/tasks", lose)
    page.get_by_role("button", name="New task").click()
    looker.fill(title="The answer was lost")
    assert "it is done once" in page.wait_for_selector("#dialog[open] .wrong:has-text('got no answer')").inner_text()
    page.unroute("**/tasks")
    looker.fill(title="The answer was lost, I think")
    page.wait_for_selector("#dialog[open] .wrong:has-text('“New task” was done already, with what it said before.')")
    looker.fill(title="The answer was lost")
    looker.note("is added")
    page.wait_for_selector("#dialog", state="hidden")
    page.locator(".card:has-text('The answer was lost')").wait_for()  # there is one alone
    assert served.cases.list_tasks(search="The answer was lost").total == 1
    looker.said = [
        line for line in looker.said if "ERR_FAILED" not in line and "422" not in line and "htmx" not in line
    ]


def test_a_task_is_added(served: Any, looker: Any) -> None:
    page = looker.go("/")
    page.get_by_role("button", name="New task").click()
    looker.fill(title="Made on the page", plan="shop", after="T1 T2", priority="8")
    page.wait_for_selector(".card:has-text('Made on the page')")
    made = served.cases.list_tasks(search="Made on the page").items[0].as_json()
    assert (made["after"], made["priority"], made["plan"]) == (["T1", "T2"], 8, "shop")


def test_a_run_gets_a_message_and_is_killed(served: Any, looker: Any) -> None:
    command = python("import time\nfor n in range(1200): print('line', n, flush=True); time.sleep(0.1)")
    task = served.cases.add("Takes long", command=command, max_retries=0).as_json()["id"]
    run = served.cases.start_run(task)["id"]
    page = looker.go(f"/runs/{run}")
    page.wait_for_selector(".log :text('line 9')")  # the log grows while one looks
    page.get_by_role("button", name=f"Message {run}").click()
    looker.fill(text=f"Please hurry {scene.HOSTILE}")
    page.wait_for_selector(".message:has-text('Please hurry <img')")
    page.get_by_role("button", name=f"Kill {run}").click()
    looker.fill(reason="seen enough")
    page.wait_for_selector(".under .state.killed")
    assert served.cases.run(run).as_json()["reason"] == "seen enough"
    wait_for(lambda: not served.stage.carriers(), "its supervisor is gone")


def test_what_an_agent_was_denied_is_allowed_or_refused(served: Any, looker: Any) -> None:
    task = served.cases.add("Publish it", plan="shop").as_json()["id"]
    run = served.cases.claim(task, agent="claude")["run"]
    asks = [Ask("Bash", "make release"), Ask("Bash", "rm -rf dist; make"), Ask("WebFetch", scene.HOSTILE)]
    served.cases.store.write(lambda tx: permissions.note(tx, int(task[1:]), int(run[1:]), asks))
    page = looker.go("/")
    cards = page.locator(".card.permission")
    assert cards.count() == 3
    assert cards.filter(has_text="no single rule").get_by_role("button", name="Allow").count() == 0
    cards.filter(has_text="make release").get_by_role("button", name="Allow").click()
    looker.note("The next attempt may")
    cards.filter(has_text="no single rule").get_by_role("button", name="Refuse").click()
    wait_for(lambda: cards.count() == 1, "one card is left")
    assert scene.HOSTILE in (cards.text_content() or "")
    assert page.title() != "owned"
    listed = served.cases.permissions(pending=False, task=task)["permissions"]
    decided = {one["said"]: (one["state"], one["decided_by"]) for one in listed}
    assert decided["make release"] == ("allowed", "web:local")
    assert decided["rm -rf dist; make"] == ("refused", "web:local")


def test_the_queue_is_paused_and_goes_on(served: Any, looker: Any) -> None:
    page = looker.go("/health")
    page.get_by_role("button", name="Pause the queue").click()
    page.wait_for_selector("button:has-text('Resume the queue')")
    assert served.cases.status()["paused_at"]
    page = looker.go("/")
    page.locator(".banner").get_by_role("button", name="Resume").click()
    page.wait_for_selector(".banner", state="detached")
    assert served.cases.status()["paused_at"] is None


def test_a_breaker_is_closed(served: Any, looker: Any) -> None:
    def open_one(tx: Transaction) -> None:
        tx.all("breaker_fails", agent="gemini")
        tx.run("breaker_opens", agent="gemini", code="agent_signed_out", ms=600_000)

    served.cases.store.write(open_one)
    page = looker.go("/")
    page.locator(".banner:has-text('gemini')").get_by_role("button", name="Try again").click()
    page.wait_for_selector(".banner", state="detached")
    assert served.cases.status()["breakers"] == []
