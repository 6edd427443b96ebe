"""Numbers of many runs, on both databases: figures that can be reckoned by hand, exports that agree with everything."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.orchestrator import metrics
from orchestrion.runs import order, reckoning
from orchestrion.runs.agents.agent import Assignment, Event, Kind, Usage
from orchestrion.runs.go import first_line
from orchestrion.runs.log import RunLog
from orchestrion.scheduler import claim, finish, meter


@pytest.fixture
def orchestrion(tmp_path: Path, store_url: str) -> Iterator[Orchestrator]:
    root = tmp_path / "project"
    (root / ".orchestrion").mkdir(parents=True)
    environ = {"HOME": str(tmp_path / "home"), "XDG_STATE_HOME": str(tmp_path / "state"), "PATH": "/usr/bin:/bin"}
    with Orchestrator.open(root, db=store_url, environ=environ) as opened:
        opened.store.now = 1_795_132_800_000
        yield opened


def pass_time(orchestrion: Orchestrator, seconds: float) -> None:
    assert orchestrion.store.now is not None
    orchestrion.store.now += round(seconds * 1000)


def a_run(
    orchestrion: Orchestrator,
    *,
    agent: str = "claude",
    role: str = "",
    plan: str = "default",
    waited: float = 0,
    lasted: float = 1,
    end: str = "complete",
    **used: Any,
) -> str:
    """A run that a worker started, from its birth to its end."""
    task = orchestrion.add("a task", role=role, plan=plan).id
    pass_time(orchestrion, waited)
    who = claim.Claimant(60_000, agent=agent, supervised=True, host=socket.gethostname())
    run = orchestrion.store.write(lambda tx: claim.claim_task(tx, task, who)).run
    orchestrion.store.write(lambda tx: finish.start(tx, run, pid=1, pid_start=1, host=socket.gethostname()))
    if used:
        orchestrion.store.write(lambda tx: meter.add(tx, run, **used))
    pass_time(orchestrion, lasted)
    ends = {
        "complete": lambda tx: finish.complete(tx, run),
        "fail": lambda tx: finish.fail(tx, run, code="agent_failed", error="x"),
        "kill": lambda tx: finish.kill(tx, run, "x"),
        "nothing": lambda tx: None,
    }
    orchestrion.store.write(ends[end])
    return f"R{run}"


def test_nothing_ran_and_nothing_is_made_up(orchestrion: Orchestrator) -> None:
    found = orchestrion.stats()
    assert (found["runs"], found["active"], found["states"], found["success_rate"]) == (0, 0, {}, None)
    assert found["duration_s"] == found["queue_wait_s"] == {"p50": None, "p95": None}
    assert found["cost_usd"] is None
    assert found["turns"] is None
    assert found["by_agent"] == found["by_role"] == found["by_plan"] == []
    assert list(orchestrion.all_runs()) == []


def test_figures_are_those_of_the_runs(orchestrion: Orchestrator) -> None:
    a_run(orchestrion, waited=2, lasted=10, role="tester", plan="one", turns=3, tokens_input=5, cost_usd=0.25)
    a_run(orchestrion, waited=4, lasted=20, role="tester", plan="one", end="fail", turns=1, tokens_input=1)
    a_run(orchestrion, waited=6, lasted=30, plan="two", agent="codex", turns=2, tools={"Bash": 2, "Read": 1})
    a_run(orchestrion, lasted=40, plan="two", agent="codex", end="kill", cost_usd=0.5, tools={"Bash": 1})
    a_run(orchestrion, lasted=50, plan="two", agent="command", end="nothing")
    found = orchestrion.stats()
    assert (found["runs"], found["active"]) == (5, 1)
    assert found["states"] == {"running": 1, "succeeded": 2, "failed": 1, "killed": 1}
    assert found["success_rate"] == round(2 / 3, 4)
    assert found["duration_s"] == {"p50": 20.0, "p95": 40.0}
    assert found["queue_wait_s"] == {"p50": 2.0, "p95": 6.0}
    assert (found["turns"], found["cost_usd"], found["runs_without_cost"]) == (6, 0.75, 3)
    assert found["tokens"] == {"input": 6, "output": 0, "cache_read": 0, "cache_write": 0}
    assert found["tools"] == {"Bash": 3, "Read": 1}
    assert [(one["agent"], one["runs"], one["success_rate"]) for one in found["by_agent"]] == [
        ("claude", 2, 0.5),
        ("codex", 2, 1.0),
        ("command", 1, None),
    ]
    assert [(one["role"], one["runs"], one["turns"]) for one in found["by_role"]] == [(None, 3, 2), ("tester", 2, 4)]
    assert [(one["plan"], one["runs"], one["cost_usd"]) for one in found["by_plan"]] == [
        ("two", 3, 0.5),
        ("one", 2, 0.25),
    ]
    assert found["by_agent"][2]["turns"] is None


def test_percentiles_are_values_that_occurred(orchestrion: Orchestrator) -> None:
    for seconds in range(1, 21):
        a_run(orchestrion, lasted=seconds)
    assert orchestrion.stats()["duration_s"] == {"p50": 10.0, "p95": 19.0}


def test_filters(orchestrion: Orchestrator) -> None:
    a_run(orchestrion, plan="one", role="tester")
    pass_time(orchestrion, 3600)
    a_run(orchestrion, plan="two", agent="codex")
    assert orchestrion.stats(plan="one")["runs"] == 1
    assert orchestrion.stats(agent="codex")["by_plan"][0]["plan"] == "two"
    assert orchestrion.stats(role="tester")["runs"] == 1
    assert orchestrion.stats(agent="nobody")["runs"] == 0
    for since, runs in (
        ("30min", 1),
        ("2h", 2),
        ("1d", 2),
        ("10s", 1),
        ("0s", 0),
        ("2026-11-20T00:30:00Z", 1),
        ("1w", 2),
        ("0001-01-01T00:00:00+14:00", 2),
        ("9999-12-31T23:59:59-12:00", 0),
    ):
        assert orchestrion.stats(since=since)["runs"] == runs, since
        assert len(list(orchestrion.all_runs(since=since))) == runs
    assert orchestrion.stats(since="30min")["since"] == "2026-11-20T00:30:02.000Z"


@pytest.mark.parametrize("since", ["yesterday", "", "5", "-5h", "5 h", "1e3s", "٣h", "2026-13-01"])
def test_times_that_are_none_are_refused_with_what_would_be_one(orchestrion: Orchestrator, since: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        orchestrion.stats(since=since)
    assert refused.value.code == "invalid_time"
    assert "24h" in refused.value.hint


def test_unknown_plans_and_roles_are_not_found(orchestrion: Orchestrator) -> None:
    for ask in (orchestrion.stats, lambda **f: list(orchestrion.all_runs(**f)), orchestrion.reconcile):
        with pytest.raises(NotFound):
            ask(plan="nonsense")
        with pytest.raises(NotFound):
            ask(role="nonsense")


def test_every_surface_says_the_same_of_a_run(orchestrion: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PAGE", 2)
    for n in range(5):
        a_run(orchestrion, turns=n, cost_usd=0.1 * n, tools={"Bash": n}, model="m", session_id=f"s{n}")
    exported = list(orchestrion.all_runs())
    assert [one["id"] for one in exported] == ["R1", "R2", "R3", "R4", "R5"]
    listed = {run["id"]: run for run in orchestrion.list_runs().as_json("runs")["runs"]}
    for one in exported:
        assert one == {**listed[one["id"]], "plan": "default", "title": "a task"}
        shown = orchestrion.run_detail(one["id"])
        assert {key: shown[key] for key in listed[one["id"]]} == listed[one["id"]]
    assert orchestrion.stats()["turns"] == sum(one["turns"] for one in exported)


def test_metric_events_add_up_to_the_runs(orchestrion: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PAGE", 2)
    run = a_run(orchestrion, turns=2, plan="one", tools={"Bash": 1}, session_id="s", model="m")
    a_run(orchestrion, turns=4)
    orchestrion.correct(run, {"turns": 5, "cost_usd": 0.5}, "counted by hand")
    told = list(orchestrion.metric_events())
    assert [(one["run"], one["source"], one["turns"]) for one in told] == [
        ("R1", "stream", 2),
        ("R2", "stream", 4),
        ("R1", "correction", 3),
        ("R1", "correction", 0),
    ]
    assert told[0]["correction"] is None
    assert told[2]["correction"] == {"field": "turns", "reason": "counted by hand", "old": 2, "new": 5}
    assert told[3]["correction"] == {"field": "cost_usd", "reason": "counted by hand", "old": None, "new": 0.5}
    assert (told[0]["tools"], told[0]["model"], told[0]["session_id"]) == ({"Bash": 1}, "m", "s")
    assert [one["id"] for one in orchestrion.metric_events(plan="one")] == [1, 3, 4]


def test_a_correction_is_all_or_nothing(orchestrion: Orchestrator) -> None:
    run = a_run(orchestrion, turns=2)
    corrected = orchestrion.correct(run, {"turns": 3, "tokens_output": 9}, "x").as_json()
    assert (corrected["turns"], corrected["tokens"]["output"]) == (3, 9)
    with pytest.raises(InvalidInput):
        orchestrion.correct(run, {"turns": 7, "nonsense": 1}, "x")
    with pytest.raises(InvalidInput):
        orchestrion.correct(run, {}, "x")
    with pytest.raises(NotFound):
        orchestrion.correct("R99", {"turns": 1}, "x")
    assert orchestrion.run(run).as_json()["turns"] == 3


def test_logs_of_ended_runs_of_this_machine_are_read_again(
    orchestrion: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counts:
        def hear(self, line: str) -> list[Event]:
            return [Event(Kind.USAGE, usage=Usage(turns=len(line))), Event(Kind.RESULT)]

    monkeypatch.setattr(reckoning, "begin_again", lambda line: Counts())
    runs = [a_run(orchestrion, end=end, turns=1) for end in ("complete", "fail", "nothing", "complete")]
    elsewhere = a_run(orchestrion)
    with_raw = orchestrion.store.write
    with_raw(lambda tx: tx.run("run_used", run=2, **_used(tools={}, turns=77)))  # somebody meddled with the sum
    for run in (*runs[:3], elsewhere):
        place = order.folder_named(orchestrion.project.store_dir, run)
        place.mkdir(parents=True)
        kept = RunLog(place / "log.jsonl")
        kept.add("go", first_line(1, "scripted", {}, Assignment("", place, place)))
        kept.add("out", "seven..")
        kept.close()
    assert orchestrion.reconcile() == {"read": 3, "mended": ["R1", "R2", "R5"], "bent": []}
    assert [one["turns"] for one in orchestrion.all_runs()] == [7, 7, 1, 1, 7]
    assert orchestrion.reconcile() == {"read": 3, "mended": [], "bent": []}
    assert orchestrion.reconcile(since="0s") == {"read": 0, "mended": [], "bent": []}
    log = order.folder_named(orchestrion.project.store_dir, runs[0]) / "log.jsonl"
    log.unlink()
    log.symlink_to("/dev/zero")
    assert orchestrion.reconcile() == {"read": 2, "mended": [], "bent": ["R1"]}


def _used(**used: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys((*meter.FIELDS, "model", "session_id")),
        **used,
        "tools": json.dumps(used["tools"]),
    }


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_budgets_come_from_the_settings_and_are_shown(
    orchestrion: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert orchestrion.budgets() is None
    assert orchestrion.status()["budget"] is None
    a_run(orchestrion, plan="dear", cost_usd=2.0)
    waiting = orchestrion.add("waits", plan="dear").as_json()["id"]
    assert "budget" not in [reason["kind"] for reason in orchestrion.why(waiting)["reasons"]]
    environ = {**orchestrion.environ, "ORCHESTRION_BUDGET_PLAN_USD": "2", "ORCHESTRION_BUDGET_DAY_USD": "10.5"}
    with Orchestrator.open(orchestrion.project.root, db=orchestrion.store.url, environ=environ) as bound:
        bound.store.now = orchestrion.store.now
        assert bound.status()["budget"] == {
            "day": {"spent_usd": 2.0, "limit_usd": 10.5, "reached": False},
            "plans": [{"plan": "dear", "spent_usd": 2.0, "limit_usd": 2, "reached": True}],
            "plan_usd": 2,
        }
        assert "budget" in [reason["kind"] for reason in bound.why(waiting)["reasons"]]
