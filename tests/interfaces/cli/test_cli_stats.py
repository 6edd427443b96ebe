"""``stats``, ``correct`` and budgets in ``status``: what they print for people, for programs and into a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from place import Place

from orchestrion import Orchestrator
from orchestrion.interfaces.cli import stats
from orchestrion.scheduler import meter


def use(project: Place, run: int, **used: Any) -> None:
    with Orchestrator.open(project.root, environ=project.environ) as opened:
        opened.store.write(lambda tx: meter.add(tx, run, **used))


@pytest.fixture
def used(project: Place) -> Place:
    """A project with two runs: one that succeeded and said what it used, one that goes on."""
    project("add", '=first, with a "comma"', "--plan", "tools")
    project("add", "second")
    project("claim", "T1", "--agent", "claude")
    use(project, 1, turns=3, tokens_input=1200, tokens_output=34, cost_usd=0.1234, tools={"Bash": 2}, model="m1")
    project("done", "R1", "--summary", "did it")
    project("claim", "T2")
    return project


def test_service_levels_by_role(used: Place) -> None:
    settings = used.root / ".orchestrion" / "config.yaml"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text("alerts:\n  sla: {tester: 30}\n")
    used("add", "third", "--role", "tester")
    levels = used.json("stats", "--levels")["levels"]
    assert [(one["role"], one["completed"], one["open"], one["limit_s"]) for one in levels] == [
        ("", 1, 1, None),
        ("tester", 0, 1, 1800),
    ]
    head, *rows = used("stats", "--levels", "--since", "24h").out.splitlines()[1:]
    assert head.split() == ["Role", "allowed", "kept", "completed", "p50", "p95", "open", "late", "oldest"]
    assert [row.split()[0] for row in rows] == ["none", "tester"]
    assert used("stats", "--levels", "--since", "soon", "--json", code=6).error["code"]
    used("stats", "--levels", "--runs", code=2)


def test_an_empty_project_says_what_to_do(project: Place) -> None:
    assert "orchestrion work" in project("stats").out
    assert project.json("stats")["runs"] == 0
    empty = project("stats", "--runs")
    assert (empty.out, empty.err) == ("", "no run matches\n")
    assert project("stats", "--events", "--json").out == ""


def test_figures_for_people(used: Place) -> None:
    out = used("stats").out
    for part in ("2 runs", "100.0 %", "1,200 in, 34 out", "$0.1234", "Bash 2", "By agent", "claude", "client"):
        assert part in out, part
    assert "of unknown cost  1 run" in out
    assert "By plan" in out
    assert "tools" in out


def test_figures_for_programs_agree_with_the_runs(used: Place) -> None:
    found = used.json("stats", "--since", "1h")
    runs = used.json("runs")["runs"]
    assert found["runs"] == len(runs) == 2
    assert found["cost_usd"] == sum(run["cost_usd"] or 0 for run in runs) == 0.1234
    assert found["tokens"]["input"] == 1200
    assert used.json("stats", "--format", "json")["by_agent"] == found["by_agent"]
    shown = used.json("show", "R1")
    assert (shown["turns"], shown["tools"], shown["model"]) == (3, {"Bash": 2}, "m1")
    assert shown["queue_wait_s"] >= 0
    assert shown["duration_s"] == runs[1]["duration_s"]
    assert runs[0]["duration_s"] >= 0


def test_a_run_shows_people_what_it_used(used: Place) -> None:
    out = used("show", "R1").out
    for part in ("$0.1234", "1,200 in", "Bash 2", "m1", "waited"):
        assert part in out, part
    assert "tokens" not in used("show", "R2").out


def test_runs_as_csv(used: Place) -> None:
    out = used("stats", "--runs", "--format", "csv").out
    assert used("stats", "--runs").out.splitlines()[:2] == out.splitlines()[:2]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["id"] for row in rows] == ["R1", "R2"]
    first, second = rows
    assert first["title"] == '\'=first, with a "comma"'
    assert (first["plan"], first["turns"], first["tokens_input"], first["cost_usd"]) == ("tools", "3", "1200", "0.1234")
    assert json.loads(first["tools"]) == {"Bash": 2}
    assert (second["turns"], second["tokens_input"], second["cost_usd"], second["ended_at"]) == ("", "", "", "")


def test_runs_as_json_lines(used: Place) -> None:
    lines = used("stats", "--runs", "--format", "json").out.splitlines()
    runs = used.json("runs")["runs"]
    exported = [json.loads(line) for line in lines]
    assert [one["id"] for one in exported] == ["R1", "R2"]
    assert {key: exported[0][key] for key in runs[1]} == runs[1]
    assert used("stats", "--runs", "--json").out.splitlines()[0] == lines[0]


def test_events_are_exported_with_corrections(used: Place) -> None:
    out = used("correct", "R1", "turns=5", "cost_usd=1.5", "--reason", "the bill").out
    assert out == "R1 corrected: turns=5, cost_usd=1.5\n"
    told = [json.loads(line) for line in used("stats", "--events", "--json").out.splitlines()]
    assert [one["source"] for one in told] == ["stream", "correction", "correction"]
    assert told[1]["correction"] == {"field": "turns", "reason": "the bill", "old": 3, "new": 5}
    assert told[1]["actor"].startswith("user:")
    assert used.json("show", "R1")["cost_usd"] == 1.5
    rows = list(csv.DictReader(io.StringIO(used("stats", "--events").out)))
    assert [row["turns"] for row in rows] == ["3", "2", "0"]


def test_a_correction_gives_the_run(used: Place) -> None:
    assert used.json("correct", "R1", "turns=4", "--reason", "x")["turns"] == 4


def test_reconciliation_says_what_it_did(used: Place) -> None:
    answer = used("stats", "--reconcile")
    assert answer.err == "0 logs read again: nothing was missing\n"
    assert "2 runs" in answer.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("stats", "--since", "yesterday"), 6, "24h"),
        (("stats", "--plan", "nonsense"), 4, "nonsense"),
        (("stats", "--role", "nonsense"), 4, "nonsense"),
        (("stats", "--format", "xml"), 6, "csv"),
        (("stats", "--format", "csv"), 2, "--runs"),
        (("stats", "--runs", "--events"), 2, "--events"),
        (("stats", "--runs", "--format", "text"), 2, "csv or json"),
        (("stats", "--runs", "--format", "csv", "--json"), 2, "contradict"),
        (("correct", "R1", "turns=5"), 2, "--reason"),
        (("correct", "R1", "--reason", "x"), 2, "FIELD=N"),
        (("correct", "R1", "turns", "--reason", "x"), 6, "turns=12"),
        (("correct", "R1", "turns=-1", "--reason", "x"), 6, "turns=12"),
        (("correct", "R1", "turns=nan", "--reason", "x"), 6, "turns=12"),
        (("correct", "R1", "turns=1_0", "--reason", "x"), 6, "turns=12"),
        (("correct", "R1", "turns=1.5", "--reason", "x"), 6, "whole number"),
        (("correct", "R1", "cost_usd=1e300", "--reason", "x"), 6, "from 0"),
        (("correct", "R1", "colour=3", "--reason", "x"), 6, "tokens_cache_write"),
        (("correct", "R1", "turns=3", "--reason", " "), 6, "reason"),
        (("correct", "T1", "turns=3", "--reason", "x"), 6, "R12"),
        (("correct", "R77", "turns=3", "--reason", "x"), 4, "R77"),
    ],
)
def test_slips_of_the_pen_are_told_what_would_be_right(
    used: Place, arguments: tuple[str, ...], code: int, says: str
) -> None:
    refused = used(*arguments, code=code)
    assert says in refused.err
    assert "Traceback" not in refused.err
    assert used.json("show", "R1")["turns"] == 3


# -- budgets ----------------------------------------------------------------------------------


def test_status_shows_budgets_and_warns_when_they_are_used_up(used: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Budgets" not in used("status").out
    assert used.json("status")["budget"] is None
    monkeypatch.setenv("ORCHESTRION_BUDGET_DAY_USD", "5")
    monkeypatch.setenv("ORCHESTRION_BUDGET_PLAN_USD", "0.1")
    out = used("status").out
    assert "$0.12 of $5.00 spent" in out
    assert "the budget of tools is used up" in out
    assert "today" not in out.splitlines()[1]
    monkeypatch.setenv("ORCHESTRION_BUDGET_DAY_USD", "0.1")
    assert "today's budget is used up" in used("status").out
    assert used.json("status")["budget"]["day"]["reached"] is True


@pytest.mark.parametrize("value", ["-1", "lots", "1e3", "nan"])
def test_a_budget_is_a_number(project: Place, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ORCHESTRION_BUDGET_DAY_USD", value)
    refused = project("status", "--json", code=6).error
    assert "USD" in json.dumps(refused)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\tx"])
def test_what_an_agent_wrote_is_no_formula_in_a_spreadsheet(
    text: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    stats._csv_line([text, "plain", None, -1])
    (row,) = csv.reader(io.StringIO(capsysbinary.readouterr().out.decode()))
    assert row == [f"'{text}", "plain", "", "-1"]
