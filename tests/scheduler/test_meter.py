"""What runs use: whatever is told, in whichever order and by whomever, the numbers of a run are the sum of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from board import Board
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrion.core.errors import IllegalMove, InvalidInput, NotFound
from orchestrion.core.model import Run
from orchestrion.scheduler import finish, meter
from orchestrion.store import Origin, Store, open_store

#: Adds what it is told, line by line: ``python -c TELLER URL RUN COUNT``.
TELLER = """
import sys
from orchestrion.scheduler import meter
from orchestrion.store import open_store
url, run, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = open_store(url)
for n in range(count):
    store.write(lambda tx: meter.add(tx, run, turns=1, tokens_input=n, cost_usd=0.1, tools={"Bash": 1, f"t{n % 3}": 2}))
store.close()
"""


def tell(board: Board, run: int, **news: Any) -> bool:
    return board.store.write(lambda tx: meter.add(tx, run, **news))


def rows(board: Board, run: int) -> list[dict[str, Any]]:
    return [dict(row) for row in board.store.read(lambda tx: tx.all("metrics_of_run", run=run))]


def is_sum(store: Store, run: int) -> bool:
    """Whether the run's numbers are the sum of its differences, reckoned here once more."""
    found = store.read(lambda tx: tx.all("metrics_of_run", run=run))
    row = store.read(lambda tx: tx.the("run", id=run))
    tools: dict[str, int] = {}
    for one in found:
        for tool, calls in json.loads(one["tools"]).items():
            tools[tool] = tools.get(tool, 0) + calls
    costs = [one["cost_usd"] for one in found if one["cost_usd"] is not None]
    return (
        all((row[count] or 0) == sum(one[count] for one in found) for count in meter.COUNTS)
        and row["cost_usd"] == (pytest.approx(sum(costs), abs=1e-9) if costs else None)
        and json.loads(row["tools"]) == {tool: calls for tool, calls in tools.items() if calls}
    )


@pytest.fixture
def run(board: Board) -> int:
    return board.take(board.add(), supervised=True, agent="claude")


def test_nothing_is_known_until_something_is_told(board: Board, run: int) -> None:
    row = board.run(run)
    assert [row[field] for field in meter.FIELDS] == [None] * len(meter.FIELDS)
    assert (row["tools"], row["model"]) == ("{}", None)


def test_differences_add_up(board: Board, run: int) -> None:
    tell(board, run, turns=2, tokens_input=10, tokens_output=5, cost_usd=0.1, tools={"Bash": 1}, model="m1")
    tell(board, run, turns=1, tokens_cache_read=7, tokens_cache_write=3, tools={"Bash": 2, "Read": 1}, session_id="s1")
    tell(board, run, cost_usd=0.2, model="m2")
    row = board.run(run)
    assert (row["turns"], row["tokens_input"], row["tokens_output"]) == (3, 10, 5)
    assert (row["tokens_cache_read"], row["tokens_cache_write"], row["cost_usd"]) == (7, 3, 0.3)
    assert (json.loads(row["tools"]), row["model"], row["session_id"]) == ({"Bash": 3, "Read": 1}, "m2", "s1")
    assert [one["source"] for one in rows(board, run)] == ["stream"] * 3
    assert is_sum(board.store, run)


def test_a_cost_that_nobody_told_stays_unknown_and_one_of_nothing_is_known(board: Board, run: int) -> None:
    tell(board, run, turns=1)
    assert board.run(run)["cost_usd"] is None
    tell(board, run, cost_usd=0.0)
    assert board.run(run)["cost_usd"] == 0.0


def test_every_number_is_as_the_surfaces_show_it(board: Board, run: int) -> None:
    tell(board, run, turns=2, tokens_input=10, cost_usd=0.5, tools={"Bash": 1}, model="m", session_id="s")
    board.pass_time(4000)
    shown = Run(board.run(run)).as_json()
    assert (shown["turns"], shown["tokens"]["input"], shown["cost_usd"]) == (2, 10, 0.5)
    assert (shown["model"], shown["tools"], shown["session_id"]) == ("m", {"Bash": 1}, "s")


def test_a_duration_is_never_missing_and_the_wait_ends_with_the_claim(board: Board) -> None:
    task = board.add()
    board.pass_time(2000)
    run = board.take(task, supervised=True)
    board.pass_time(3500)
    assert (Run(board.run(run)).as_json()["queue_wait_s"], Run(board.run(run)).as_json()["duration_s"]) == (2.0, 3.5)
    board.store.write(lambda tx: finish.start(tx, run, pid=1, pid_start=1, host="here"))
    board.pass_time(1000)
    assert Run(board.run(run)).as_json()["duration_s"] == 1.0
    board.complete(run)
    board.pass_time(9000)
    assert Run(board.run(run)).as_json()["duration_s"] == 1.0


def test_a_late_word_is_counted_and_moves_nothing(board: Board, run: int) -> None:
    board.fail(run)
    before = board.run(run)
    tell(board, run, turns=4, source="log")
    after = board.run(run)
    assert after["turns"] == 4
    assert {k: v for k, v in after.items() if k not in (*meter.FIELDS, "now")} == {
        k: v for k, v in before.items() if k not in (*meter.FIELDS, "now")
    }


def test_news_that_are_told_twice_count_once(board: Board, run: int) -> None:
    assert tell(board, run, turns=1, once="7/1")
    assert not tell(board, run, turns=1, once="7/1")
    assert tell(board, run, turns=1, once="7/2")
    assert board.run(run)["turns"] == 2
    other = board.take(board.add())
    assert tell(board, other, turns=1, once="7/1")


@pytest.mark.parametrize(
    "news",
    [
        {"turns": -1},
        {"tokens_input": -5},
        {"cost_usd": -0.1},
        {"cost_usd": float("nan")},
        {"cost_usd": float("inf")},
        {"cost_usd": True},
        {"turns": 1.5},
        {"turns": True},
        {"turns": 10**400},
        {"tokens_output": 10**13},
        {"tools": {"Bash": -1}},
        {"tools": {"Bash": 0.5}},
        {"source": "gossip"},
        {"turns": -(10**13), "source": "log"},
        {"tools": {"Bash": 1.5}, "source": "correction"},
    ],
)
def test_numbers_that_cannot_be_are_refused_and_nothing_is_counted(
    board: Board, run: int, news: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        tell(board, run, **{"tokens_input": 1, **news})
    assert refused.value.code in ("invalid_metric", "invalid_source")
    assert refused.value.hint
    assert rows(board, run) == []


def test_a_log_may_take_back_what_is_there(board: Board, run: int) -> None:
    tell(board, run, turns=3, cost_usd=0.3, tools={"Bash": 2})
    tell(board, run, turns=-1, cost_usd=-0.1, tools={"Bash": -2}, source="log")
    row = board.run(run)
    assert (row["turns"], row["cost_usd"], row["tools"]) == (2, 0.2, "{}")
    tell(board, run, cost_usd=-0.2, source="correction")
    assert board.run(run)["cost_usd"] == 0.0


def test_nothing_is_taken_back_that_is_not_there(board: Board, run: int) -> None:
    assert not tell(board, run, turns=-3, cost_usd=-1.0, tools={"Bash": -1}, source="log")
    assert rows(board, run) == []
    tell(board, run, turns=2, tokens_input=5, tools={"Bash": 1})
    assert tell(board, run, turns=-3, tokens_input=1, cost_usd=-1.0, tools={"Bash": -4, "Read": 1}, source="correction")
    row = board.run(run)
    assert (row["turns"], row["tokens_input"], row["cost_usd"]) == (0, 6, None)
    assert json.loads(row["tools"]) == {"Read": 1}
    assert is_sum(board.store, run)


def test_an_unknown_run_is_not_found(board: Board) -> None:
    for act in (
        lambda tx: meter.add(tx, 99, turns=1),
        lambda tx: meter.rebuild(tx, 99),
        lambda tx: meter.correct(tx, 99, field="turns", new=1, reason="x"),
    ):
        with pytest.raises(NotFound):
            board.store.write(act)


def test_odd_names_of_tools_and_models_are_counted_all_the_same(board: Board, run: int) -> None:
    tell(board, run, tools={"a\0b": 1, "\ud800": 1, "x" * 5000: 1, "": 1}, model="m\0", session_id="s\0")
    assert sum(json.loads(board.run(run)["tools"]).values()) == 4


# --- what is never lost -----------------------------------------------------------------------------------------------


def test_the_database_refuses_to_forget(board: Board, run: int) -> None:
    tell(board, run, turns=1)
    board.take(board.add())
    for statement in ("update metrics set turns = 9", "delete from metrics"):
        with pytest.raises(board.raw.error, match="illegal_move"):
            board.raw.run(statement)
    assert board.raw.rows("select turns from metrics") == [{"turns": 1}]


def test_what_a_run_used_goes_with_the_run(store: Store, raw: Any) -> None:
    board = Board(store, raw)
    run = board.take(board.add())
    tell(board, run, turns=1)
    board.fail(run)
    board.take(board.add())
    board.raw.run("delete from runs where id = ?", run)
    assert board.raw.rows("select * from metrics") == []


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_no_difference_is_replaced(board: Board, run: int) -> None:
    tell(board, run, turns=1, once="1")
    more = "plan, project, run, at, source) values (1, 1, ?, 0, 'log'"
    for statement in (
        f"insert or replace into metrics (id, {more.replace('(1,', '(1, 1,')})",
        f"insert or replace into metrics (once, {more.replace('(1,', chr(40) + chr(39) + '1' + chr(39) + ', 1,')})",
    ):
        with pytest.raises(board.raw.error, match="illegal_move"):
            board.raw.run(statement, run)


def test_aggregates_are_rebuilt_from_what_was_told(board: Board, run: int) -> None:
    tell(board, run, turns=3, tokens_input=5, cost_usd=0.25, tools={"Bash": 1}, model="m")
    assert not board.store.write(lambda tx: meter.rebuild(tx, run))
    before = board.run(run)
    board.raw.run("update runs set turns = 99, cost_usd = null, tools = '{}', model = 'other' where id = ?", run)
    assert board.store.write(lambda tx: meter.rebuild(tx, run))
    assert board.run(run) == before


def test_a_run_of_which_nothing_was_told_is_left_as_it_is(board: Board, run: int) -> None:
    assert not board.store.write(lambda tx: meter.rebuild(tx, run))
    assert board.run(run)["turns"] is None


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_has_used_what_all_its_runs_did(board: Board) -> None:
    first, second, other = (board.take(board.add(), agent=agent) for agent in ("claude", "claude", "codex"))
    tell(board, first, turns=1, tokens_input=1)  # before its session was known
    tell(board, first, turns=2, cost_usd=0.1, session_id="s", tools={"Bash": 1})
    tell(board, second, turns=4, cost_usd=0.2, session_id="s", tools={"Bash": 2})
    tell(board, second, turns=8)  # still of the same session
    tell(board, second, turns=16, session_id="t")
    tell(board, other, turns=32, session_id="s")
    board.store.write(lambda tx: meter.correct(tx, first, field="turns", new=99, reason="its program miscounts"))
    used = board.store.read(lambda tx: meter.of_session(tx, "s", "claude"))
    # The first row of all belongs to the session that its run had in the end.
    nothing = {"turns": 0, "input": 0, "output": 0, "cache_read": 0, "cache_write": 0, "cost_usd": None}
    assert used == {**nothing, "turns": 15, "input": 1, "cost_usd": 0.3}
    assert board.store.read(lambda tx: meter.of_session(tx, "t", "claude"))["turns"] == 16
    assert board.store.read(lambda tx: meter.of_session(tx, "nobody's", "claude")) == nothing


# --- corrections ------------------------------------------------------------------------------------------------------


def test_a_correction_keeps_old_new_and_who(board: Board, run: int) -> None:
    tell(board, run, turns=3)
    board.store.write(
        lambda tx: meter.correct(tx, run, field="turns", new=5, reason="counted by hand"), origin=Origin("user:ada")
    )
    board.store.write(lambda tx: meter.correct(tx, run, field="cost_usd", new=0.5, reason="the bill", actor="user:bob"))
    assert (board.run(run)["turns"], board.run(run)["cost_usd"]) == (5, 0.5)
    kept = ("source", "field", "old_value", "new_value", "actor", "reason", "turns", "cost_usd")
    assert [tuple(one[field] for field in kept) for one in rows(board, run)[1:]] == [
        ("correction", "turns", "3", "5", "user:ada", "counted by hand", 2, None),
        ("correction", "cost_usd", None, "0.5", "user:bob", "the bill", 0, 0.5),
    ]
    told = [event["kind"] for event in board.events(board.run(run)["task"])]
    assert told.count("run.corrected") == 2
    assert is_sum(board.store, run)


def test_what_people_corrected_is_not_what_was_observed(board: Board, run: int) -> None:
    tell(board, run, turns=3)
    tell(board, run, turns=-1, source="correction")  # an agent's own last word
    board.store.write(lambda tx: meter.correct(tx, run, field="turns", new=9, reason="x"))
    assert board.store.read(lambda tx: meter.observed(tx, run)).turns == 2
    assert board.run(run)["turns"] == 9


@pytest.mark.parametrize(
    "correction",
    [
        {"field": "tools", "new": 1},
        {"field": "id", "new": 1},
        {"field": "turns", "new": -1},
        {"field": "turns", "new": 1.5},
        {"field": "cost_usd", "new": float("inf")},
        {"reason": " "},
        {"reason": "a\0b"},
    ],
)
def test_corrections_that_mean_nothing_are_refused(board: Board, run: int, correction: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        board.store.write(
            lambda tx: meter.correct(tx, run, **{"field": "turns", "new": 1, "reason": "x", **correction})
        )
    assert rows(board, run) == []


# --- many at once -----------------------------------------------------------------------------------------------------

_news = st.fixed_dictionaries(
    {},
    optional={
        **{count: st.integers(0, 10**6) for count in meter.COUNTS},
        "cost_usd": st.floats(0, 100, allow_nan=False),
        "tools": st.dictionaries(st.sampled_from(["Bash", "Read", "Edit"]), st.integers(0, 9)),
        "session_id": st.sampled_from(["s", "t"]),
        "model": st.sampled_from(["m", "n"]),
    },
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.lists(_news, max_size=12), order=st.randoms(use_true_random=False))
def test_numbers_are_the_sum_of_what_was_told_in_any_order(
    board: Board, told: list[dict[str, Any]], order: Any
) -> None:
    run = board.take(board.add())
    for news in told:
        tell(board, run, **news)
    again = list(told)
    order.shuffle(again)
    other = board.take(board.add())
    for news in again:
        tell(board, other, **news)
    assert is_sum(board.store, run)
    assert not board.store.write(lambda tx: meter.rebuild(tx, run))
    one, two = board.run(run), board.run(other)
    for field in (*meter.COUNTS, "tools"):
        assert one[field] == two[field]
    assert one["cost_usd"] == pytest.approx(two["cost_usd"], abs=1e-9)


def test_nothing_is_lost_or_doubled_when_processes_and_threads_tell_at_once(
    store: Store, store_url: str, raw: Any
) -> None:
    board = Board(store, raw)
    run = board.take(board.add())
    processes, threads, each = 3, 4, 15

    def work() -> None:
        opened = open_store(store_url)
        for n in range(each):
            opened.write(
                lambda tx, n=n: meter.add(  # type: ignore[misc]
                    tx, run, turns=1, tokens_input=n, cost_usd=0.1, tools={"Bash": 1, f"t{n % 3}": 2}
                )
            )
        opened.close()

    tellers = [
        subprocess.Popen([sys.executable, "-c", TELLER, store_url, str(run), str(each)], cwd=Path(__file__).parent)
        for _ in range(processes)
    ]
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [teller.wait(60) for teller in tellers] == [0] * processes
    row, all_of_them = board.run(run), processes + threads
    assert row["turns"] == all_of_them * each
    assert row["tokens_input"] == all_of_them * sum(range(each))
    assert row["cost_usd"] == pytest.approx(all_of_them * each * 0.1, abs=1e-12)
    assert json.loads(row["tools"]) == {
        "Bash": all_of_them * each,
        **{f"t{n}": all_of_them * each * 2 // 3 for n in range(3)},
    }
    assert is_sum(store, run)
    assert not store.write(lambda tx: meter.rebuild(tx, run))


def test_the_same_news_from_many_at_once_count_once(store: Store, store_url: str, raw: Any) -> None:
    board = Board(store, raw)
    run = board.take(board.add())
    counted: list[bool] = []

    def work() -> None:
        opened = open_store(store_url)
        counted.append(opened.write(lambda tx: meter.add(tx, run, turns=1, once="1")))
        opened.close()

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(counted) == [False] * 7 + [True]
    assert board.run(run)["turns"] == 1


def test_a_refused_transaction_counts_nothing(board: Board, run: int) -> None:
    def act(tx: Any) -> None:
        meter.add(tx, run, turns=1)
        raise IllegalMove("it", "so", "else", [])

    with pytest.raises(IllegalMove):
        board.store.write(act)
    assert board.run(run)["turns"] is None
    assert rows(board, run) == []
