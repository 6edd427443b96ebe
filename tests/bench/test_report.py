"""The page, the stored ratios and the comparison; nothing is timed here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench.bound import Journal, SqliteBound
from bench.graph import PARENTS, pairs, random_graph
from bench.measure import Measurement, alternate, percentile
from bench.report import Machine

from bench import report

ONE = Measurement(
    row=1,
    key="drain.sqlite.durable",
    what="SQLite: drain 10,000 tasks",
    value=6.0,
    unit="s",
    bound=5.0,
    bound_is="bare driver",
    target=1.5,
)
OTHER = replace(ONE, row=3, key="history", value=12.0, unit="ms", bound=4.0, target=10.0, judged="value")
MACHINE = Machine({"system": "Test 1.0", "processors": "2 x Any"})


def test_a_target_is_for_the_ratio_or_for_the_value() -> None:
    assert ONE.ratio == pytest.approx(1.2)
    assert ONE.met is True
    assert replace(ONE, value=7.6).met is False
    assert OTHER.met is False
    assert replace(OTHER, value=9.9).met is True
    assert replace(ONE, target=None).met is None


def test_a_line_says_value_bound_ratio_target_and_whether_it_is_met() -> None:
    lines = report.table([ONE, OTHER]).splitlines()
    assert lines[2] == "| SQLite: drain 10,000 tasks | 6.00 s | 5.00 s (bare driver) | 1.20 | <= 1.5x | yes |"
    assert lines[3].endswith("| 12.0 ms | 4.00 ms (bare driver) | 3.00 | <= 10 ms | **no** |")


def test_the_page_has_the_machine_the_date_and_only_measured_rows() -> None:
    page = report.page([ONE, OTHER], MACHINE, "2026-11-20")
    assert "Measured on 2026-11-20." in page
    assert "- processors: 2 x Any" in page
    assert "## 1. Draining a graph" in page
    assert "## 3. Claims beside a long history" in page
    assert "## 2." not in page


def test_worse_is_more_than_thirty_percent_above_the_stored_ratio() -> None:
    stored = {ONE.key: 1.0, OTHER.key: 2.2}
    assert [one.key for one in report.worse([ONE, OTHER], stored)] == [OTHER.key]
    [found] = report.worse([replace(ONE, value=6.6)], stored)
    assert str(found) == "drain.sqlite.durable: ratio 1.32, stored 1.00 (32 % worse): SQLite: drain 10,000 tasks"


def test_what_was_never_stored_is_not_worse() -> None:
    assert report.worse([ONE], {}) == []


def test_stored_measurements_come_back_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "stored.json"
    assert report.read_stored(file) == []
    report.write_stored(file, [ONE, OTHER], MACHINE, "2026-11-20")
    assert report.read_stored(file) == [ONE, OTHER]


def test_a_row_measured_again_replaces_the_whole_stored_row() -> None:
    old = replace(ONE, key="gone"), OTHER
    assert report.merged(old, [ONE]) == [ONE, OTHER]


def test_a_row_that_was_not_measured_again_says_when_and_on_what_it_was(tmp_path: Path) -> None:
    file = tmp_path / "stored.json"
    assert report.of_before(file) == []
    report.write_stored(file, [ONE, OTHER], MACHINE, "2026-11-20")
    for date in ("2026-11-21", "2026-11-22"):
        everything = report.merged(report.of_before(file), [ONE])
        report.write_stored(file, everything, Machine({"processors": "1 x Another"}), date)
    page = report.page(everything, Machine({"processors": "1 x Another"}), "2026-11-22")
    first, third = page.partition("## 3.")[::2]
    assert "Measured on 2026-11-20, 2 x Any." in third
    assert "2 x Any" not in first


def test_percentiles() -> None:
    samples = [float(number) for number in range(1, 101)]
    assert percentile(samples, 0.99) == 99
    assert percentile(samples, 0.5) == 50
    assert percentile(samples, 1.0) == 100
    assert percentile([3.0], 0.99) == 3


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    def note(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    samples = alternate(2, {"a": lambda: note("a"), "b": lambda: note("b")})
    assert turns == ["a", "b", "a", "b"]
    assert samples == {"a": [1, 3], "b": [2, 4]}


def test_graphs() -> None:
    graph = random_graph(50)
    assert graph == random_graph(50)
    assert all(len(set(parents)) == min(place, PARENTS) for place, parents in enumerate(graph))
    assert all(parent < place for place, parents in enumerate(graph) for parent in parents)
    assert pairs(5) == [[], [], [], [0], [1]]


def test_the_bound_drains_its_graph_in_order_and_leaves_all_rows(tmp_path: Path) -> None:
    graph = random_graph(30)
    journal = Journal([("run.running", None, "running")], [("task.completed", None, None)], ("task.ready", None, None))
    program = SqliteBound(str(tmp_path / "bound.db"), journal, durable=False)
    program.load(graph)
    completed: list[int] = []
    while taken := program.claim():
        run, task = taken
        assert all(parent + 1 in completed for parent in graph[task - 1])
        program.finish(run, task)
        completed.append(task)
        with pytest.raises(RuntimeError, match="does not hold"):
            program.finish(run, task)
        program._db.execute("rollback")
    assert program.counts() == {
        "completed": 30,
        "runs": 30,
        "edges": sum(map(len, graph)),
        "events": 2 * 30 + 29,
    }
    program.close()
