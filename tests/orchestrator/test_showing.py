"""What a screen shows, bounded, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.runs import order


@pytest.fixture
def cases(tmp_path: Path, store_url: str) -> Iterator[Orchestrator]:
    (tmp_path / "project" / ".orchestrion").mkdir(parents=True)
    environ = {"HOME": str(tmp_path), "USER": "ada"}
    with Orchestrator.open(tmp_path / "project", db=store_url, environ=environ) as opened:
        yield opened


def add(cases: Orchestrator, title: str, **values: Any) -> str:
    return str(cases.add(title, **values).as_json()["id"])


def shown(board: dict[str, Any], column: str) -> list[str]:
    return [task["id"] for task in board["columns"][column]["tasks"]]


def test_columns_follow_from_facts(cases: Orchestrator) -> None:
    review, failed, asked, ready, waits, done = (add(cases, f"task {n}") for n in range(6))
    cases.done(cases.claim(review)["run"], "look", next_action="needs_revision")
    cases.fail(cases.claim(failed)["run"], "no", code="agent_failed")
    cases.add_gate(asked, "question", called="Which?")
    cases.add_dependency(waits, ready)
    cases.done(cases.claim(done, agent="claude")["run"], "did it")
    works = add(cases, "works")
    run = cases.claim(works, agent="claude")["run"]
    cases.correct(run, {"tokens_input": 10, "tokens_cache_read": 5, "cost_usd": 0.5}, "told")
    board = cases.board()
    assert shown(board, "needs")[:2] == [review, asked]
    assert (shown(board, "ready"), shown(board, "working"), shown(board, "done")) == ([ready], [works], [done])
    assert waits in shown(board, "waiting")
    assert board["columns"]["needs"]["tasks"][1]["gates"] == [
        {"id": "G1", "kind": "question", "name": "Which?", "opens_at": None}
    ]
    held = board["columns"]["working"]["tasks"][0]["run"]
    assert (held["id"], held["agent"], held["tokens"], held["cost_usd"]) == (run, "claude", 15, 0.5)


def test_a_column_is_bounded_and_counts_all(cases: Orchestrator) -> None:
    for number in range(25):
        add(cases, f"task {number}")
    assert (len(shown(cases.board(), "ready")), cases.board()["columns"]["ready"]["total"]) == (20, 25)
    assert len(shown(cases.board(shown={"ready": 22}), "ready")) == 22
    with pytest.raises(InvalidInput):
        cases.board(shown={"ready": 100_000})


def test_the_board_is_searched_by_words_and_by_name(cases: Orchestrator) -> None:
    one, two = add(cases, "Apples 100%", plan="fruit"), add(cases, "Pears", description="no apples")
    assert shown(cases.board(search="APPLES"), "ready") == [one, two]
    assert shown(cases.board(search="100%"), "ready") == [one]
    assert shown(cases.board(search=two.lower()), "ready") == [two]
    assert shown(cases.board(plan="fruit"), "ready") == [one]
    assert shown(cases.board(search="T99999999999999999999"), "ready") == []


def test_the_timeline_has_what_was_active_in_its_span(cases: Orchestrator) -> None:
    task = add(cases, "timed")
    cases.done(cases.claim(task, agent="claude")["run"], "done")
    held = cases.claim(add(cases, "held"), agent="codex")["run"]
    found = cases.timeline(since="1h")
    assert [run["id"] for run in found["runs"]] == [held, "R1"]
    assert found["runs"][0]["ended_at"] is None
    assert found["since"] < found["runs"][1]["began_at"] <= found["now"]
    assert [run["id"] for run in cases.timeline(agent="codex")["runs"]] == [held]
    assert (len(cases.timeline(limit=1)["runs"]), cases.timeline(limit=1)["total"]) == (1, 2)
    with pytest.raises(InvalidInput):
        cases.timeline(since="yesterday")


def test_the_trend_adds_up_to_the_figures(cases: Orchestrator) -> None:
    for _ in range(3):
        cases.done(cases.claim(add(cases, "one"), agent="claude")["run"], "done")
    found = cases.trend(since="1h", buckets=6)
    assert len(found["at"]) == len(found["pieces"]) == 6
    assert sum(piece["runs"] for piece in found["pieces"]) == cases.stats(since="1h")["runs"] == 3
    assert found["pieces"][-1]["states"] == {"succeeded": 3}


def test_a_long_log_is_read_from_its_end(cases: Orchestrator) -> None:
    run = cases.claim(add(cases, "talks"), agent="claude")["run"]
    assert cases.log_tail(run)["lines"] == []
    folder = order.folder(cases.project.store_dir, 1)
    folder.mkdir(parents=True)
    lines = [json.dumps({"at": 1, "stream": "out", "text": f"{number} {'x' * 1000}"}) for number in range(300)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    tail = cases.log_tail(run)
    assert (tail["cut"], tail["over"], tail["lines"][-1]["text"][:4]) == (True, False, "299 ")
    assert len(tail["lines"]) < 200
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"at": 2, "stream": "note", "text": "later"}\n')
    more = cases.log_tail(run, tail["next_offset"])
    assert ([line["text"] for line in more["lines"]], more["cut"]) == (["later"], False)
    with pytest.raises(NotFound):
        cases.log_tail("R9")


def test_the_brief_of_the_last_attempt(cases: Orchestrator) -> None:
    task = add(cases, "Briefed", description="what is wanted")
    assert cases.brief_of_task(task) is None
    cases.claim(task)
    assert "what is wanted" in str(cases.brief_of_task(task))


def test_files_at_which_runs_are_and_were(cases: Orchestrator) -> None:
    runs = [cases.claim(add(cases, f"writes {n}"), agent="claude")["run"] for n in range(2)]
    (cases.project.root / "a.txt").write_text("a")
    for run in runs:
        cases.report_files([{"path": "a.txt", "op": "created"}], run=run)
    found = cases.touched_files(search="A.TXT")
    assert [(one["path"], one["run"]) for one in found["now"]] == [("a.txt", run) for run in runs]
    assert found["overlaps"] == [{"path": "a.txt", "runs": runs}]
    assert [(one["path"], one["changes"], one["tasks"]) for one in found["changed"]] == [("a.txt", 2, 2)]
    assert cases.touched_files(search="b.txt")["total"] == 0
    assert cases.board()["overlaps_total"] == 1


def test_limits_and_what_may_be_spent(cases: Orchestrator) -> None:
    cases.set_slots({"global": 3})
    found = cases.limits_in_force()
    assert [(one["name"], one["capacity"]) for one in found["slots"]] == [("global", 3)]
    assert found["breakers"] == []


def test_tags_are_no_damage(cases: Orchestrator) -> None:
    add(cases, "tagged", tags=("one", "two"))
    assert cases.store.read(lambda tx: [row["problem"] for row in tx.all("integrity")]) == []
