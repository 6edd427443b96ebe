"""What somebody bent by hand, and an older copy of the store, at every door: the rest is shown, and a word of it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_task_fields import Cli, Mcp, Refused, Rest

from direct import Hand, Raw, lenient
from orchestrion import Orchestrator
from orchestrion.runs import given
from premises import Premises
from stage import Stage


@pytest.fixture
def place(tmp_path: Path, environ: dict[str, str], store_url: str) -> Premises:
    made = Premises(tmp_path / "project", environ | {"ORCHESTRION_DB": store_url})
    made.make({"serve": {"commands": True}, "doors": {"commands": True}})
    return made


@pytest.fixture
def cases(place: Premises) -> Iterator[Orchestrator]:
    with place.open() as opened:
        yield opened


@pytest.fixture
def mcp(place: Premises, cases: Orchestrator) -> Iterator[Mcp]:
    door = Mcp(place, cases)
    yield door
    door.close()


@pytest.mark.parametrize("state", ["ready", "in_progress", "review"])
@pytest.mark.parametrize("checks", ["[", "[1]"])
def test_a_task_whose_checks_nobody_can_read(
    place: Premises, cases: Orchestrator, mcp: Mcp, raw: Raw, state: str, checks: str
) -> None:
    bent, sound = (cases.add(title, command="true").as_json()["id"] for title in ("the bent one", "the sound one"))
    if state != "ready":
        run = cases.claim(bent)["run"]
    if state == "review":
        cases.done(run, "look at it", next_action="needs_revision")
    raw.run("update tasks set checks = ? where id = 1", checks)

    rest, cli = Rest(place, cases), Cli(place, cases)
    word = "its checks cannot be read"
    for shown in (cli("list"), cli("show", bent)):
        assert word in shown
    assert "the sound one" in cli("list")
    for listed in (rest.ask("GET", "tasks")["tasks"], mcp.call("query_tasks")["tasks"]):
        assert {one["id"]: one.get("damaged") for one in listed} == {bent: ["checks"], sound: None}
    assert rest.shown(bent)["damaged"] == ["checks"]
    page = rest.client.get(f"/tasks/{bent}")
    assert page.status_code == 200
    assert "Its checks cannot be read" in html.unescape(page.text)
    assert "cannot be read" not in rest.client.get(f"/tasks/{sound}").text

    accept = {
        "ready": lambda: mcp.call("update_task", task_id=bent, status="completed"),
        "in_progress": lambda: cases_done(rest, run),
        "review": lambda: rest.ask("POST", f"tasks/{bent}/approve", {}),
    }
    with pytest.raises(Refused, match="row_damaged"):
        accept[state]()
    assert cases.task(bent).state == state
    cli("update", bent, "--no-check")
    assert "damaged" not in rest.shown(bent)


def cases_done(rest: Rest, run: str) -> object:
    return rest.ask("POST", f"runs/{run}/done", {"summary": "done"})


def test_a_run_with_what_nobody_can_read(place: Premises, cases: Orchestrator, raw: Raw) -> None:
    cases.add("a task")
    cases.done(cases.claim("T1")["run"], "done")
    raw.run("update runs set tools = 'x', remarks = '[3]' where id = 1")
    rest, cli = Rest(place, cases), Cli(place, cases)
    for shown in (cli("runs"), cli("show", "R1")):
        assert "its tools and remarks cannot be read" in shown
    assert rest.ask("GET", "runs")["runs"][0]["damaged"] == ["tools", "remarks"]
    assert "Its tools and remarks cannot be read" in html.unescape(rest.client.get("/runs/R1").text)


#: Table -> what no row of it may hold.
BENT = {
    "tasks": "update tasks set state = 'frozen' where id = 1",
    "gates": "update gates set state = 'frob'",
    "edges": "update edges set state = 'frob' where prerequisite is not null",
    "events": "update events set data = '[' where kind = 'task.completed'",
    "decisions": "update decisions set files = '[\"a' where number = 1",
}


@pytest.mark.parametrize("table", BENT)
def test_what_no_column_may_hold_hides_nothing_else(
    place: Premises, cases: Orchestrator, mcp: Mcp, hand: Hand, table: str
) -> None:
    cases.add("the bent one")
    cases.add("the sound one", after=["T1"])
    cases.add_gate("T2", "approval", called="may it?")
    cases.add("over")
    cases.done(cases.claim("T3")["run"], "done")
    for number in (1, 2):
        cases.decide(f"decision {number}", context="so it is", decision="we do so", files=["a.txt"])
    hand.unfit(table, BENT[table])
    rest, cli = Rest(place, cases), Cli(place, cases)
    assert {one["id"] for one in rest.ask("GET", "tasks")["tasks"]} == {"T1", "T2", "T3"}
    assert {one["id"] for one in mcp.call("query_tasks")["tasks"]} == {"T1", "T2", "T3"}
    assert {one["id"] for one in rest.ask("GET", "decisions")["decisions"]} == {"D1", "D2"}
    for asked in (["list"], ["show", "T1"], ["show", "T2"], ["status"], ["events"], ["decisions"], ["graph"]):
        assert cli(*asked)
    for call in ("get_status", "search_decisions"):
        assert mcp.call(call)
    for path in ("/", "/tasks/T1", "/tasks/T2", "/decisions", "/graph", "/timeline", "/health"):
        assert rest.client.get(path).status_code == 200, path
    assert cases.health()["status"] == "degraded"
    assert cases.maintain("validate_structure", level="full_audit")["found"]["problems"]


#: What a hand writes while the tables take it -> what is said of the row, and commands that cannot be answered then.
OF_ANOTHER_KIND = {
    "update runs set lease_until = 'soon'": ('R1 does not fit its table: lease_until is "soon"', ["status", "prime"]),
    "update tasks set ready_at = 'x' where id = 1": ('T1 does not fit its table: ready_at is "x"', []),
    "insert into slots (project, name, capacity) values (1, 'global', 'lots')": (
        'the limit global does not fit its table: capacity is "lots"',
        ["status"],
    ),
    "update runs set claimed_at = 'soon'": ('R1 does not fit its table: claimed_at is "soon"', ["stats"]),
}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("sql", OF_ANOTHER_KIND)
def test_a_text_in_place_of_a_number_is_named_at_every_door(
    place: Premises, cases: Orchestrator, store_url: str, sql: str
) -> None:
    said, refused = OF_ANOTHER_KIND[sql]
    cases.add("the bent one")
    cases.add("the sound one")
    cases.claim("T2")
    cases.store.close()
    with lenient(store_url, is_strict_again=True) as hand:
        hand.run(sql)
    rest, cli = Rest(place, cases), Cli(place, cases)
    for asked in (["list"], ["runs"], ["show", "T1"], ["show", "R1"], ["graph"], ["events"]):
        assert cli(*asked)
    for command in refused:
        with pytest.raises(Refused, match="row_damaged"):
            cli(command, "--json")
    found = cases.health()
    assert said in " ".join(part["said"] for part in found["components"].values())
    ready = rest.client.get("/readyz")
    assert ready.status_code == (200 if found["ready"] else 503)
    if found["status"] == "unhealthy":
        assert not found["ready"]
        assert said in " ".join(ready.json()["not_ready"])
    assert (found["status"] == "unhealthy") is ("claimed_at" not in sql)
    assert rest.client.get("/api/v1/health").status_code == ready.status_code
    metrics = rest.client.get("/metrics")
    assert metrics.status_code == 200
    assert "orchestrion_component_health" in metrics.text


def test_a_mistake_of_ours_is_not_taken_for_a_row(cases: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    cases.add("a task")
    cases.set_slots({"global": 3})
    monkeypatch.setattr("orchestrion.scheduler.slots.with_free", lambda row: row + 1)
    for use_case in (cases.health, cases.status):
        with pytest.raises(TypeError):
            use_case()


def test_whoever_takes_something_up_in_an_older_copy_is_warned(place: Premises, cases: Orchestrator, mcp: Mcp) -> None:
    for number in range(4):
        cases.add(f"task {number}")
    given.note(cases.ledger, cases.store.uuid, run=2)  # R1 and R2 were clients', and the store knows of none
    warned = [
        Cli(place, cases)("claim", "T1"),
        Rest(place, cases).ask("POST", "tasks/T2/claim", {})["warning"],
        mcp.call("execute_task", task_id="T3")["warning"],
        mcp.call("claim_task")["warning"],
    ]
    for said in warned:
        assert "R1, R2 began here, and this store does not know of it" in said
        assert "damaged-database.md" in said
    assert "warning" not in mcp.call("execute_task", task_id="T3")  # it has it already


def test_a_plan_of_which_the_name_is_no_text_stops_no_other(stage: Stage) -> None:
    stage.add("echo one > one.txt", plan="bent")
    stage.add("echo two > two.txt", plan="sound")
    with stage.direct() as database:
        triggers = database.rows("select name, sql from sqlite_schema where type = 'trigger' and tbl_name = 'plans'")
        for trigger in triggers:
            database.run(f"drop trigger {trigger['name']}")
        database.run("update plans set name = cast(x'ff' as text) where name = 'bent'")
        for trigger in triggers:
            database.run(trigger["sql"])
    stage.drain()
    assert (stage.task("T1")["state"], stage.task("T2")["state"]) == ("failed", "completed")
    assert [ref for ref in stage.git("for-each-ref", "--format=%(refname)").split() if "plans" in ref] == [
        "refs/orchestrion/plans/sound"
    ]
