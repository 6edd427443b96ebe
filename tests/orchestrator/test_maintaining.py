"""Maintenance as a door asks for it, on both databases: every action, scope and level; and what it must not touch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import AlreadyTaken, InvalidInput, NotFound, StoreProblem
from orchestrion.ops import leases, maintenance
from orchestrion.ops.maintenance import ACTIONS, LEVELS, SCOPES
from orchestrion.orchestrator import maintaining
from orchestrion.store.sqlite_file import DatabaseFile

pytestmark = pytest.mark.long

HOUR_MS = 3_600_000


def add(one: Orchestrator, title: str = "a task", **given: Any) -> str:
    return str(one.add(title, **given).as_json()["id"])


def age(raw: Any, hours: float, *tasks: str) -> None:
    """Nobody touched these tasks for so long."""
    for task in tasks:
        assert raw.run("update tasks set updated_at = updated_at - ? where id = ?", int(hours * HOUR_MS), int(task[1:]))


def reasons(found: dict[str, Any]) -> dict[str, str]:
    return {row["task"]: row["reason"] for row in found["found"]["stale"]["tasks"]}


# -- scan and clean up ------------------------------------------------------------------------------


def test_a_task_is_stale_at_the_age_of_its_role(one: Orchestrator, raw: Any) -> None:
    tasks = {role: add(one, role=role) for role in ("documenter", "tester", "architect", "analyst")}
    age(raw, 12, *tasks.values())
    assert reasons(one.maintain()) == {tasks["documenter"]: "inactivity_timeout"}
    age(raw, 13, *tasks.values())
    assert set(reasons(one.maintain())) == {tasks["documenter"], tasks["tester"], tasks["analyst"]}
    age(raw, 48, *tasks.values())
    assert set(reasons(one.maintain())) == set(tasks.values())


def test_each_kind_of_stale_work_is_told_apart(one: Orchestrator, raw: Any, root: Path) -> None:
    idle = add(one, "idle")
    awaited = add(one, "awaited")
    waits = add(one, "waits", after=[awaited])
    failed = add(one, "failed", max_retries=0)
    one.fail(one.claim(failed)["run"], "it broke", "client_failed")
    after_failed = add(one, "after failed", after=[failed])
    gated = add(one, "gated")
    one.add_gate(gated, "approval", called="ship it?")
    (root / ".orchestrion" / "roles").mkdir(parents=True)
    (root / ".orchestrion" / "roles" / "alchemist.yaml").write_text("role_definition: makes gold\n")
    strange = add(one, "strange", role="alchemist")
    (root / ".orchestrion" / "roles" / "alchemist.yaml").unlink()
    parent = add(one, "parent")
    part = add(one, "part", parent=parent)
    age(raw, 200, idle, awaited, waits, failed, after_failed, gated, strange, parent, part)
    found = one.maintain()
    assert reasons(found) == {
        idle: "inactivity_timeout",
        awaited: "inactivity_timeout",
        waits: "stale_dependency",
        failed: "failed_task",
        after_failed: "dependency_failure",
        gated: "awaits_decision",
        strange: "specialist_unavailable",
        part: "inactivity_timeout",
        parent: "abandoned_workflow",
    }
    assert found["found"]["stale"]["by_reason"]["inactivity_timeout"] == 3
    assert found["done"] == []
    assert any("comprehensive" in line for line in found["recommendations"])


def test_basic_looks_and_comprehensive_puts_away_what_nobody_needs(one: Orchestrator, raw: Any) -> None:
    idle, awaited = add(one, "idle"), add(one, "awaited")
    waits = add(one, "waits", after=[awaited])
    fresh = add(one, "fresh")
    age(raw, 100, idle, awaited, waits)
    would = one.maintain(level="comprehensive", dry_run=True)
    assert [row["task"] for row in would["would_do"]] == [idle]
    assert one.task(idle).state == "ready"
    done = one.maintain(level="comprehensive")
    assert [(row["did"], row["task"], row["reason"]) for row in done["done"]] == [
        ("archived", idle, "inactivity_timeout")
    ]
    gone = one.task(idle).as_json()
    assert gone["state"] == "cancelled"
    assert gone["archived_at"]
    assert "inactivity_timeout" in gone["reason"]
    assert [one.task(task).state for task in (awaited, waits, fresh)] == ["ready", "pending", "ready"]
    assert one.maintain(level="comprehensive")["done"] == []


def test_a_task_that_was_touched_meanwhile_is_left(
    one: Orchestrator, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle, taken = add(one, "idle"), add(one, "taken")
    age(raw, 100, idle, taken)
    before = Orchestrator._clean_up

    def meanwhile(self: Orchestrator, *given: Any) -> Any:
        one.claim(taken)
        one.update(idle, priority=9)
        return before(self, *given)

    monkeypatch.setattr(Orchestrator, "_clean_up", meanwhile)
    assert one.maintain(level="comprehensive")["done"] == []
    assert one.task(taken).state == "in_progress"
    assert one.task(idle).state == "ready"


def test_the_claim_of_an_absent_client_ends_and_that_of_one_who_is_there_does_not(one: Orchestrator, raw: Any) -> None:
    gone, there = add(one, "gone"), add(one, "there")
    run = one.claim(gone)["run"]
    kept = one.claim(there)["run"]
    raw.run("update runs set lease_until = 1000 where id = ?", int(run[1:]))
    found = one.maintain()
    assert [row["run"] for row in found["found"]["expired_claims"]] == [run]
    assert one.task(gone).state == "in_progress"
    done = one.maintain(level="comprehensive")
    assert {"did": "ended_claim", "run": run, "task": gone} in done["done"]
    assert one.run(run).as_json()["state"] == "lost"
    assert one.run(kept).as_json()["state"] == "running"


def test_the_claim_of_a_clock_that_ran_ahead_is_bounded_and_not_ended(one: Orchestrator, raw: Any) -> None:
    run = one.claim(add(one, "ahead"))["run"]
    raw.run("update runs set lease_until = lease_until + 10 * lease_ms")
    assert "ended_claim" not in [row["did"] for row in one.maintain(level="comprehensive")["done"]]
    assert one.run(run).as_json()["state"] == "running"
    assert one.health()["components"]["structure"]["status"] == "healthy"


def test_sessions_of_the_absent_are_ended(one: Orchestrator, raw: Any) -> None:
    old, new = one.start_session("old")["id"], one.start_session("new")["id"]
    raw.run("update sessions set seen_at = seen_at - ? where id = ?", 8 * 24 * HOUR_MS, int(old[1:]))
    assert one.maintain()["found"]["silent_sessions"] == [old]
    assert one.session_detail(old)["state"] == "active"
    done = one.maintain(level="comprehensive")
    assert [row["sessions"] for row in done["done"]] == [[old]]
    assert one.session_detail(old)["state"] == "ended"
    assert one.session_detail(new)["state"] == "active"


def test_what_is_left_of_a_parent_that_was_given_up_is_removed(one: Orchestrator, raw: Any) -> None:
    parent = add(one, "parent")
    part = add(one, "part", parent=parent)
    done = add(one, "done part", parent=parent)
    one.done(one.claim(done)["run"], "done")
    raw.run("update tasks set archived_at = 5 where id = ?", int(parent[1:]))
    assert reasons(one.maintain())[part] == "orphaned_task"
    assert part in [row.get("task") for row in one.maintain(level="comprehensive")["done"]]
    assert one.task(part).as_json()["archived_at"]


def test_one_call_puts_away_a_bounded_number_and_says_that_there_is_more(
    one: Orchestrator, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrion.orchestrator.maintaining.MOST_PUT_AWAY", 3)
    age(raw, 100, *[add(one, f"idle {n}") for n in range(5)])
    first = one.maintain(level="comprehensive")
    assert len(first["done"]) == 3
    assert "2 more stale tasks are left for the next call" in first["recommendations"]
    assert len(one.maintain(level="comprehensive")["done"]) == 2


def test_a_full_audit_measures_and_forgets_lost_workers(one: Orchestrator, raw: Any) -> None:
    raw.run("insert into workers (project, host, pid, pid_start, slots, started_at, seen_at)"
            " select id, 'gone', 1, 1.0, 4, 0, 0 from projects")  # fmt: skip
    found = one.maintain(level="full_audit")
    assert found["found"]["sizes"]["tasks"] == 0
    assert {"did": "forgot", "what": "workers", "total": 1} in found["done"]
    assert raw.rows("select * from workers") == []


# -- scopes -----------------------------------------------------------------------------------------


def test_a_subtask_is_meant_with_all_below_it_and_a_part_stays_with_its_whole(one: Orchestrator, raw: Any) -> None:
    parent = add(one, "parent")
    below = add(one, "below", parent=add(one, "part", parent=parent))
    other, alone = add(one, "other"), add(one, "alone")
    age(raw, 100, below, other, alone)
    found = one.maintain(scope="specific_subtask", task=parent, level="comprehensive")
    assert reasons(found) == {below: "inactivity_timeout"}
    # Without this part its parent would be completed: that is for a person to say.
    assert found["done"] == []
    assert "other tasks wait for it" in found["recommendations"][0]
    done = one.maintain(scope="specific_subtask", task=alone, level="comprehensive")["done"]
    assert [row["task"] for row in done] == [alone]
    assert one.task(other).state == "ready"


def test_a_session_means_the_tasks_it_had_to_do_with(one: Orchestrator, raw: Any) -> None:
    session = one.start_session("mine")["id"]
    mine = add(one.on_behalf_of("me", session), "mine")
    other = add(one, "other")
    age(raw, 100, mine, other)
    assert set(reasons(one.on_behalf_of("me", session).maintain(scope="current_session"))) == {mine}
    assert set(reasons(one.maintain(scope="current_session", session=session))) == {mine}
    without = one.maintain(scope="current_session")
    assert without["scope"] == "full_project"
    assert "no session is known" in without["notes"][0]
    assert set(reasons(without)) == {mine, other}


def test_nothing_is_cleaned_up_for_a_session_that_nobody_knows(one: Orchestrator) -> None:
    with pytest.raises(InvalidInput, match="no session is known"):
        one.maintain(scope="current_session", level="comprehensive")
    assert one.maintenance_history()["maintenance"] == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"action": "clean"}, ACTIONS),
        ({"scope": "everything"}, SCOPES),
        ({"level": "full_cleanup"}, LEVELS),
        ({"scope": "specific_subtask"}, ("task",)),
        ({"task": "S1"}, ("T12",)),
        ({"action": "retention", "scope": "current_session"}, ("the whole project", "current_session")),
        ({"action": "retention", "task": "T1"}, ("the whole project", "T1")),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_right_values(
    one: Orchestrator, given: dict[str, str], said: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        one.maintain(**given)
    assert all(word in f"{refused.value.message} {refused.value.hint}" for word in said)


def test_unknown_tasks_and_sessions_are_refused(one: Orchestrator) -> None:
    for given in ({"task": "T99"}, {"task": "T99", "scope": "specific_subtask"}):
        with pytest.raises(NotFound):
            one.maintain(**given)
    with pytest.raises(NotFound):
        one.maintain(scope="current_session", session="S99")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("level", LEVELS)
def test_every_action_works_in_every_scope_and_level_and_a_dry_run_changes_nothing(
    one: Orchestrator, raw: Any, root: Path, action: str, level: str
) -> None:
    session = one.start_session("mine")["id"]
    mine = one.on_behalf_of("me", session)
    task = add(mine, "mine")
    age(raw, 1000, task)
    mine.decide("Use SQLite", decision="one file", task=task)
    scopes, about = (("full_project",), None) if action == "retention" else (SCOPES, task)
    for scope in scopes:
        before = _state(raw, root)
        found = mine.maintain(action, scope=scope, level=level, task=about, dry_run=True)
        assert found["dry_run"] is True
        assert "would_do" in found
        assert _state(raw, root) == before
    for scope in scopes:
        assert mine.maintain(action, scope=scope, level=level, task=about)["action"] == action
    history = one.maintenance_history(action)["maintenance"]
    assert [row["dry_run"] for row in history] == [False] * len(scopes) + [True] * len(scopes)
    assert all(row["actor"] == "me" for row in history)


def _state(raw: Any, root: Path) -> Any:
    tables = ("tasks", "runs", "sessions", "handoffs", "decisions", "metrics", "artifacts")
    files = {str(path): path.read_bytes() for path in (root / ".orchestrion").rglob("*") if path.is_file()}
    return [raw.rows(f"select * from {table} order by id") for table in tables], files


def test_every_action_is_recorded_with_what_was_found_and_done(one: Orchestrator, raw: Any) -> None:
    idle = add(one, "idle")
    age(raw, 100, idle)
    done = one.maintain(level="comprehensive")
    [record] = one.maintenance_history()["maintenance"]
    assert record["id"] == done["id"]
    assert record["found"]["stale"]["total"] == 1
    assert record["done"] == done["done"]
    assert (record["scope"], record["level"]) == ("full_project", "comprehensive")
    assert [event["kind"] for event in one.events(limit=1000)][-1] == "maintenance.done"


def test_two_do_not_clean_up_at_once(one: Orchestrator) -> None:
    with leases.held(one.store, maintenance.LEASE, "somebody else", 60):
        assert one.maintain()["done"] == []
        assert one.maintain(level="comprehensive", dry_run=True)["would_do"] == []
        with pytest.raises(AlreadyTaken, match="somebody else"):
            one.maintain(level="comprehensive")
    assert one.maintain(level="comprehensive")["done"] == []


def test_many_at_once_lose_nothing_and_do_nothing_twice(
    one: Orchestrator, root: Path, store_url: str, environ: dict[str, str], raw: Any
) -> None:
    idle = [add(one, f"idle {n}") for n in range(20)]
    age(raw, 100, *idle)
    outcomes: list[Any] = []

    def clean() -> None:
        with Orchestrator.open(root, db=store_url, environ=environ) as mine:
            try:
                outcomes.append(mine.maintain(level="comprehensive")["done"])
            except AlreadyTaken as refused:
                outcomes.append(refused)

    threads = [threading.Thread(target=clean) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    put_away = [row["task"] for done in outcomes if isinstance(done, list) for row in done]
    assert sorted(put_away) == sorted(idle)


# -- validate ---------------------------------------------------------------------------------------


def test_a_damaged_structure_is_said_to_be_so(one: Orchestrator, raw: Any) -> None:
    first = add(one, "first")
    second = add(one, "second", after=[first])
    assert one.maintain("validate_structure", level="full_audit")["found"]["valid"] is True
    raw.run("update tasks set unmet = 2 where id = ?", int(second[1:]))
    found = one.maintain("validate_structure")["found"]
    assert found["valid"] is False
    assert found["problems"][0]["thing"] == second
    elsewhere = one.maintain("validate_structure", scope="specific_subtask", task=first)["found"]
    assert (elsewhere["valid"], elsewhere["tasks"]) == (True, 1)


def test_a_task_that_can_never_run_is_named(one: Orchestrator) -> None:
    first = add(one, "first")
    second = add(one, "second", after=[first])
    one.cancel(first, "not wanted")
    found = one.maintain("validate_structure", level="comprehensive")
    assert second in found["found"]["dead_ends"]
    assert any(second in line for line in found["recommendations"])


# -- document and hand over ---------------------------------------------------------------------------


def test_documents_tell_where_the_project_stands(one: Orchestrator, root: Path) -> None:
    task = add(one, "Write <b>it</b>")
    one.done(one.claim(task)["run"], "all of it\n\n# written")
    add(one, "Next")
    one.decide("Use SQLite", decision="one file")
    one.handoff(text="go on with Next")
    found = one.maintain("update_documentation", level="full_audit")
    place = root / ".orchestrion" / "docs"
    names = sorted(str(path.relative_to(place)) for path in place.rglob("*.md"))
    assert names == ["HANDOVER.md", "STATUS.md", "WORK.md", "decisions/0001-use-sqlite.md", "decisions/README.md"]
    status = (place / "STATUS.md").read_text()
    assert "1 ready, 1 completed" in status
    assert "- T1 Write &lt;b>it&lt;/b>: all of it # written" in status
    assert "- D1 Use SQLite (accepted)" in status
    assert "# Use SQLite" in (place / "decisions/0001-use-sqlite.md").read_text().replace("# 1. ", "# ")
    assert "> go on with Next" in (place / "HANDOVER.md").read_text()
    assert found["found"]["created"] == 5
    assert one.maintain("update_documentation", level="full_audit")["done"] == []
    (place / "STATUS.md").write_text("my own words\n")
    add(one, "Another")
    again = one.maintain("update_documentation", level="full_audit")
    assert again["found"]["kept_files"] == [".orchestrion/docs/STATUS.md"]
    assert (place / "STATUS.md").read_text() == "my own words\n"


def test_a_subtask_has_a_page_of_its_own(one: Orchestrator, root: Path) -> None:
    task = add(one, "Part")
    one.decide("Of the part", decision="so", task=task)
    one.decide("Of something else", decision="so")
    one.maintain("update_documentation", scope="specific_subtask", task=task, level="comprehensive")
    place = root / ".orchestrion" / "docs"
    names = sorted(str(path.relative_to(place)) for path in place.rglob("*.md"))
    assert names == [f"{task}.md", "decisions/0001-of-the-part.md"]


def test_a_handover_is_kept_and_says_what_is_next(one: Orchestrator) -> None:
    done = add(one, "done")
    one.done(one.claim(done)["run"], "it works", detail="how it works")
    ready = add(one, "ready")
    one.decide("Use SQLite", decision="one file")
    found = one.maintain("prepare_handover", level="full_audit", text="mind the gap")
    package = found["found"]
    assert [row["id"] for row in package["completed_tasks"]] == [done]
    assert [row["id"] for row in package["in_progress_tasks"]] == [ready]
    assert ready in package["next_steps"][0]
    assert package["decisions_log"] == [{"id": "D1", "title": "Use SQLite", "status": "accepted"}]
    assert package["artifacts"][0]["id"] == "A1"
    assert one.last_handoff()["id"] == found["done"][0]["handoff"]
    assert one.last_handoff()["text"].startswith("mind the gap")
    of_task = one.maintain("prepare_handover", scope="specific_subtask", task=ready)
    assert one.last_handoff()["task"] == ready
    assert of_task["found"]["in_progress_total"] == 1


def test_an_empty_project_is_in_order(one: Orchestrator) -> None:
    for action in ACTIONS:
        for level in LEVELS:
            found = one.maintain(action, level=level)
            assert found["recommendations"] == [] or action == "prepare_handover"


# -- where the store may only be read ---------------------------------------------------------------


@pytest.fixture
def reader(
    one: Orchestrator, root: Path, store_url: str, environ: dict[str, str], dialect: str, monkeypatch: Any
) -> Iterator[Orchestrator]:
    """The same project, opened by somebody who may only read its store."""
    add(one, "found before")
    one.search("found")
    add(one, "found later")
    url = store_url
    if dialect == "sqlite":
        monkeypatch.setattr(DatabaseFile, "may_be_written", lambda _: False)
    else:
        url += ("&" if "?" in url else "?") + "options=-c%20default_transaction_read_only%3Don"
    with Orchestrator.open(root, db=url, environ=environ) as opened:
        yield opened


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("level", LEVELS)
def test_looking_works_without_a_record(reader: Orchestrator, action: str, level: str) -> None:
    for dry_run in (True, False) if action == "validate_structure" else (True,):
        looked = reader.maintain(action, level=level, dry_run=dry_run)
        assert (looked["id"], looked["notes"]) == (None, [maintaining.UNRECORDED])
        assert looked["at"].endswith("Z")
    assert reader.maintain()["id"] is None, "the basic scan only looks as well"
    assert reader.maintenance_history()["maintenance"] == []


def test_looking_at_files_needs_no_record(reader: Orchestrator, one: Orchestrator, root: Path) -> None:
    (root / "a.txt").write_text("a\n")
    one.report_files([{"path": "a.txt", "op": "create"}], task="T1")
    (root / "a.txt").unlink()
    assert [(file["path"], file["status"]) for file in reader.verify("T1")["files"]] == [("a.txt", "failed")]
    assert "a.txt" in str(reader.recover("T1")["files"])


def test_what_changes_something_is_refused(reader: Orchestrator) -> None:
    with pytest.raises(StoreProblem) as refused:
        reader.maintain("retention")
    assert refused.value.code == "store_read_only"


def test_searching_finds_what_was_there_before_and_says_so(reader: Orchestrator, one: Orchestrator) -> None:
    found = reader.search("found")
    assert [result["title"] for result in found["results"]] == ["found before"]
    assert "the store may only be read here" in found["note"]
