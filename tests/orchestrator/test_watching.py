"""Alerts: noticed once, told once, kept; by one process at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import InvalidInput
from stage import Stage


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that takes alerts, and what it was told."""
    seen: list[dict[str, Any]] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Taker)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", seen
    server.shutdown()
    thread.join()
    server.server_close()


def later(orchestrion: Orchestrator, minutes: float) -> None:
    """The store's clock goes on."""
    store = orchestrion.store
    now = store.now or int(store.read(lambda tx: tx.the("clock"))["now"])
    store.now = now + int(minutes * 60_000)


def open_ones(orchestrion: Orchestrator) -> list[tuple[str, str]]:
    return [(one["rule"], one["subject"]) for one in orchestrion.alerts(unclosed=True)["alerts"]]


def test_a_late_task_is_told_once_and_again_when_it_is_over(
    stage: Stage, told: tuple[str, list[dict[str, Any]]]
) -> None:
    file = stage.folder / "alerts.jsonl"
    stage.close()
    orchestrion = stage.open(alerts={"sla": {"tester": 30}, "webhook": told[0], "command": f"cat >> {file}"})
    orchestrion.add("late", role="tester")
    orchestrion.add("somebody else's", role="implementer")
    assert orchestrion.look_for_alerts() == []
    later(orchestrion, 31)
    changes = orchestrion.look_for_alerts()
    assert [(one.rule, one.subject, one.what) for one in changes] == [("sla", "T1", "opened")]
    later(orchestrion, 5)
    assert orchestrion.look_for_alerts() == []
    orchestrion.cancel("T1", "no")
    assert [one.what for one in orchestrion.look_for_alerts()] == ["closed"]
    assert [one["what"] for one in told[1]] == ["opened", "closed"]
    assert [json.loads(line)["what"] for line in file.read_text().splitlines()] == ["opened", "closed"]
    kept = orchestrion.alerts()["alerts"][0]
    assert kept["closed_at"] > kept["opened_at"]
    assert [(one["to"], one["ok"]) for one in kept["told"]] == [("command", True), ("webhook", True)] * 2
    kinds = [event["kind"] for event in orchestrion.events(limit=1000)]
    assert (kinds.count("alert.opened"), kinds.count("alert.closed")) == (1, 1)


def test_service_levels_say_what_was_kept_and_what_is_late(stage: Stage) -> None:
    stage.close()
    orchestrion = stage.open(alerts={"sla": {"tester": 30, "architect": 5}})
    for title in ("quick", "slow", "late", "young"):
        if title == "young":
            later(orchestrion, 40)
        orchestrion.add(title, role="tester")
        if title == "quick":
            later(orchestrion, 10)
            orchestrion.done(orchestrion.claim("T1")["run"], "done")
        if title == "slow":
            later(orchestrion, 50)
            orchestrion.done(orchestrion.claim("T2")["run"], "done")
    orchestrion.add("of nobody")
    levels = {one["role"]: one for one in orchestrion.service_levels()["levels"]}
    tester = levels["tester"]
    assert (tester["limit_s"], tester["completed"], tester["within"]) == (1800, 2, 0.5)
    assert 600 <= tester["p50_s"] < 660
    assert 3000 <= tester["p95_s"] < 3060
    assert (tester["open"], tester["late"]) == (2, 1)
    assert 2400 <= tester["oldest_s"] < 2460
    assert (levels[""]["limit_s"], levels[""]["within"], levels[""]["open"], levels[""]["late"]) == (None, None, 1, 0)
    assert levels["architect"]["limit_s"] == 300
    assert (levels["architect"]["completed"], levels["architect"]["oldest_s"]) == (0, None)
    assert orchestrion.measures()["levels"] == list(levels.values())
    later(orchestrion, 60 * 24 * 8)
    assert {one["completed"] for one in orchestrion.service_levels()["levels"]} == {0}
    with pytest.raises(InvalidInput, match="not a time"):
        orchestrion.service_levels(since="soon")


def test_what_cannot_be_told_is_kept_with_the_reason(stage: Stage) -> None:
    stage.close()
    orchestrion = stage.open(alerts={"disk_gb": 1_000_000, "webhook": "http://127.0.0.1:9/", "command": "exit 3"})
    assert {one.rule for one in orchestrion.look_for_alerts()} == {"disk"}
    told_how = orchestrion.alerts()["alerts"][0]["told"]
    assert [one["ok"] for one in told_how] == [False, False]
    assert "exit code 3" in told_how[0]["error"]


def test_failures_breakers_and_stuck_runs_are_noticed(stage: Stage) -> None:
    stage.close()
    orchestrion = stage.open(alerts={"failure_runs": 2})
    for _ in range(2):
        orchestrion.add("x")
        orchestrion.fail(orchestrion.claim()["run"], "no")
    assert open_ones(orchestrion) == []
    orchestrion.look_for_alerts()
    assert open_ones(orchestrion) == [("failures", "runs")]
    orchestrion.add("held")
    run = orchestrion.claim(lease_s=60)["run"]
    later(orchestrion, 2)
    orchestrion.look_for_alerts()
    assert ("stuck", run) in open_ones(orchestrion)
    orchestrion.cleanup_stale_locks(0)
    orchestrion.look_for_alerts()
    assert ("stuck", run) not in open_ones(orchestrion)
    orchestrion.store.now = None


def test_one_process_looks(stage: Stage) -> None:
    orchestrion = stage.orchestrion
    orchestrion.store.write(
        lambda tx: tx.one("take_lease", name="alerts", holder="another", ms=60_000, longest_ms=60_000)
    )
    assert orchestrion.look_for_alerts() == []


def test_the_history_goes_on_where_it_stopped_and_is_forgotten(stage: Stage) -> None:
    stage.close()
    orchestrion = stage.open(alerts={"sla": {"tester": 1}})
    for _ in range(5):
        orchestrion.add("late", role="tester")
    later(orchestrion, 2)
    orchestrion.look_for_alerts()
    first = orchestrion.alerts(limit=3)
    rest = orchestrion.alerts(limit=3, cursor=first["next_cursor"])
    assert [one["subject"] for one in first["alerts"] + rest["alerts"]] == ["T5", "T4", "T3", "T2", "T1"]
    assert (first["total"], rest["next_cursor"]) == (5, None)
    for number in range(1, 6):
        orchestrion.cancel(f"T{number}", "no")
    orchestrion.look_for_alerts()
    later(orchestrion, 60 * 24 * 91)
    assert orchestrion.forget_alerts() == 5
    orchestrion.store.now = None


def test_numbers_for_a_monitor(stage: Stage) -> None:
    orchestrion = stage.orchestrion
    orchestrion.add("x")
    orchestrion.done(orchestrion.claim(agent=None)["run"], "done")
    found = orchestrion.measures()
    assert [(row["state"], row["total"]) for row in found["runs"]] == [("succeeded", 1)]
    assert found["health"]["healthy"]
