"""Limits: used + free = capacity, whoever comes, goes or dies, and whatever is changed meanwhile."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from board import LEASE, Board

from orchestrion.core.errors import Backpressure, Conflict, InvalidInput, NotFound
from orchestrion.core.model import NewTask
from orchestrion.scheduler import claim, create, finish, reap, slots
from orchestrion.store import open_store


def test_a_supervised_run_takes_a_unit_of_every_limit_it_falls_under(board: Board) -> None:
    limits = ("global", "host:here", "host:there", "agent:claude", "agent:codex", "role:tester", "role:writer")
    for limit in limits:
        board.limit(limit, 2)
    task = board.add(role="tester", needs=("gpu",))
    run = board.take(task, supervised=True, agent="claude", host="here")
    held = {name for name, (used, _) in board.slots().items() if used}
    assert held == {"global", "host:here", "agent:claude", "role:tester", "resource:gpu"}
    board.fail(run, code="workspace_failed")
    assert all(used == 0 for used, _ in board.slots().values())


def test_a_clients_claim_takes_named_resources_only(board: Board) -> None:
    board.limit("global", 0)
    board.limit("role:tester", 0)
    one, two = board.add(role="tester", needs=("gpu",)), board.add(needs=("gpu",))
    run = board.take(one)
    assert board.slots() == {"global": (0, 0), "role:tester": (0, 0), "resource:gpu": (1, 1)}
    with pytest.raises(Backpressure) as refused:
        board.take(two)
    assert refused.value.code == "no_room"
    assert "resource:gpu" in refused.value.message
    board.complete(run)
    board.take(two)


@pytest.mark.parametrize("end", ["complete", "fail", "kill", "release", "lose", "hand_in", "ask"])
def test_every_end_of_a_run_frees_its_slots(board: Board, end: str) -> None:
    board.limit("global", 3)
    run = board.take(board.add(needs=("gpu",)), supervised=True)
    board.store.write(lambda tx: finish.start(tx, run, pid=1, pid_start=1, host="here"))
    ends: dict[str, Any] = {
        "complete": lambda tx: finish.complete(tx, run),
        "fail": lambda tx: finish.fail(tx, run, code="network", error="x"),
        "kill": lambda tx: finish.kill(tx, run, "x"),
        "release": lambda tx: finish.release(tx, run),
        "lose": lambda tx: finish.lose(tx, run, "x"),
        "hand_in": lambda tx: finish.hand_in(tx, run, code="merge_conflict", reason="x"),
        "ask": lambda tx: finish.ask(tx, run, "x"),
    }
    board.store.write(ends[end])
    assert board.slots() == {"global": (0, 3), "resource:gpu": (0, 1)}


def test_a_limit_lowered_below_its_use_ends_nothing_and_lets_nothing_in_until_there_is_room(board: Board) -> None:
    board.limit("global", 3)
    runs = [board.take(board.add(), supervised=True) for _ in range(3)]
    board.limit("global", 1)
    assert board.slots()["global"] == (3, 1)
    board.add()
    for run in runs:
        assert board.claim(supervised=True) is None
        board.fail(run)
    assert board.slots()["global"] == (0, 1)
    assert board.claim(supervised=True) is not None
    assert board.claim(supervised=True) is None


def test_a_limit_raised_lets_more_in_at_once(board: Board) -> None:
    board.limit("global", 1)
    board.add()
    board.add()
    assert board.claim(supervised=True)
    assert board.claim(supervised=True) is None
    board.limit("global", 2)
    assert board.claim(supervised=True)


def test_a_limit_of_nothing_stops_it(board: Board) -> None:
    board.limit("agent:codex", 0)
    board.add(agent="codex")
    assert board.claim(supervised=True) is None
    assert board.slots()["agent:codex"] == (0, 0)


def test_a_limit_that_is_made_late_counts_who_is_there(board: Board) -> None:
    run = board.take(board.add(role="tester"), supervised=True, host="here", agent="claude")
    board.take(board.add(role="tester"))
    for limit in ("global", "host:here", "role:tester", "agent:claude", "host:there"):
        board.limit(limit, 1)
    assert board.slots() == {
        "agent:claude": (1, 1),
        "global": (1, 1),
        "host:here": (1, 1),
        "host:there": (0, 1),
        "role:tester": (1, 1),
    }
    board.add()
    assert board.claim(supervised=True) is None
    board.fail(run)
    assert board.slots()["global"] == (0, 1)


def test_a_limit_that_is_taken_away_binds_nobody_and_those_who_held_it_go_on(board: Board) -> None:
    for limit in ("global", "agent:claude", "resource:desk"):
        board.limit(limit, 1)
    run = board.take(board.add(agent="claude"), supervised=True)
    board.add(agent="claude")
    assert board.claim(supervised=True) is None
    board.raw.run("update slots set used = 0 where name = 'global'")  # a count that went wrong is no hindrance
    for limit in ("global", "agent:claude", "resource:desk"):
        board.limit(limit, None)
    assert board.slots() == {}
    assert board.raw.rows("select * from holds") == []
    second = board.claim(supervised=True)
    assert second is not None
    board.fail(run)
    board.limit("global", 1)
    assert board.slots() == {"global": (1, 1)}
    told = [row["data"] for row in board.raw.rows("select * from events where kind = 'slots.set' order by id")]
    assert [json.loads(data)["capacity"] for data in told] == [1, 1, 1, None, None, None, 1]


def test_a_limit_that_is_not_there_or_counts_what_tasks_need_is_not_taken_away(board: Board) -> None:
    task = board.add(needs=("gpu",))
    with pytest.raises(Conflict) as needed:
        board.limit("resource:gpu", None)
    with pytest.raises(NotFound) as unknown:
        board.limit("global", None)
    assert (needed.value.code, unknown.value.code) == ("resource_needed", "no_slot")
    assert board.slots() == {"resource:gpu": (0, 1)}
    board.take(task)


def test_a_resource_has_the_units_that_the_settings_give(board: Board) -> None:
    limits = create.Limits(resources={"gpu": 2})
    for _ in range(3):
        board.add(needs=("gpu",), limits=limits)
    assert [board.claim() is not None for _ in range(3)] == [True, True, False]
    assert board.slots() == {"resource:gpu": (2, 2)}


def test_a_resource_needed_twice_is_one_unit(board: Board) -> None:
    task = board.add(needs=("gpu", "gpu"))
    board.take(task)
    assert board.slots() == {"resource:gpu": (1, 1)}


@pytest.mark.parametrize(
    "name",
    ["", "globall", "host:", "host", "agent:a b", "role:../x", "resource:\0", "resource:" + "x" * 200, "GLOBAL", "x:y"],
)
def test_names_that_can_be_no_limit_are_refused(board: Board, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        board.limit(name, 1)
    assert refused.value.code == "invalid_slot"
    assert board.slots() == {}


@pytest.mark.parametrize("capacity", [-1, 10**7, float("nan"), 1.5])
def test_numbers_that_can_be_no_limit_are_refused(board: Board, capacity: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        board.limit("global", capacity)
    assert refused.value.code == "invalid_slot"
    assert board.slots() == {}


def test_a_count_that_went_wrong_is_put_right(board: Board) -> None:
    board.limit("global", 5)
    board.take(board.add(), supervised=True)
    board.raw.run("update slots set used = 4")
    assert board.store.write(slots.recount) == 1
    assert board.slots()["global"] == (1, 5)
    assert board.store.write(slots.recount) == 0


def test_limits_of_two_projects_are_two_limits(store_url: str) -> None:
    one, two = open_store(store_url, project="one"), open_store(store_url, project="two")
    for store in (one, two):
        store.write(lambda tx: slots.set_capacity(tx, "global", 1))
        store.write(lambda tx: create.create(tx, NewTask("t", needs=("gpu",))))
        assert store.write(lambda tx: claim.claim(tx, claim.Claimant(lease_ms=LEASE, supervised=True)))
    assert [row["used"] for row in one.read(slots.all_slots)] == [1, 1]
    one.close()
    two.close()


def test_never_more_hold_a_limit_than_it_allows(store_url: str, raw: Any) -> None:
    """Eight at once take what they can and give it back; nobody sees more than three."""
    store = open_store(store_url)
    store.write(lambda tx: slots.set_capacity(tx, "global", 3))
    store.write(
        lambda tx: create.create_all(tx, [NewTask("t", needs=("desk",) if n % 4 == 0 else ()) for n in range(80)])
    )
    errors: list[str] = []
    most = [0]

    def work() -> None:
        mine = open_store(store_url)
        try:
            for _ in range(12):
                try:
                    got = mine.write(lambda tx: claim.claim(tx, claim.Claimant(lease_ms=LEASE, supervised=True)))
                except Backpressure:
                    continue
                used = {row["name"]: row["used"] for row in mine.read(slots.all_slots)}
                most[0] = max(most[0], used["global"])
                if used["global"] > 3 or used["resource:desk"] > 1:
                    errors.append(str(used))
                if got is not None:
                    mine.write(lambda tx, got=got: finish.fail(tx, got.run, code="workspace_failed", error="x"))
        except Conflict as error:
            errors.append(str(error))
        finally:
            mine.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert most[0] >= 1
    assert {row["used"] for row in store.read(slots.all_slots)} == {0}
    assert raw.rows("select * from holds") == []
    store.close()


def test_a_run_that_lost_its_hold_gets_it_back(board: Board) -> None:
    board.limit("global", 5)
    board.take(board.add(needs=("gpu",)), supervised=True)
    ended = board.take(board.add(), supervised=True)
    board.fail(ended, code="workspace_failed")
    before = board.slots()
    board.raw.run("delete from holds")
    assert board.slots() != before
    assert board.store.write(slots.recount) > 0
    assert board.slots() == before
    assert board.store.write(slots.recount) == 0


@pytest.mark.parametrize("used", [0, 1, 7])
def test_a_hold_of_a_run_that_is_over_goes_whatever_its_limit_counted(board: Board, used: int) -> None:
    board.limit("global", 5)
    ended = board.take(board.add(), supervised=True)
    board.fail(ended, code="workspace_failed")
    board.take(board.add(), supervised=True)
    board.raw.run("insert into holds (run, project, slot) select ?, id, 'global' from projects", ended)
    board.raw.run("update slots set used = ?", used)
    assert board.store.write(lambda tx: reap.cleanup_stale_locks(tx, 3600, ())) > 0
    assert board.slots() == {"global": (1, 5)}
