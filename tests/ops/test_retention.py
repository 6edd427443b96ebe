"""What is settled is archived, what is long past is forgotten, and nothing that anybody needs goes: both databases."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrion.core import config as settings
from orchestrion.core.model import NewTask, Wait
from orchestrion.ops import leases, maintenance, retention, structure
from orchestrion.ops.retention import Doers
from orchestrion.scheduler import claim, create, decide, finish, meter
from orchestrion.store import Store, Transaction

DAY_MS = 86_400_000
DOERS = Doers(decide.archive, meter.sum_up)


@pytest.fixture
def config() -> settings.Config:
    return settings.load(None, {}, {"retention.events_days": 100, "retention.metrics_days": 50})


def add(store: Store, title: str = "a task", **given: Any) -> int:
    return store.write(lambda tx: create.create(tx, NewTask(title, **given)))


def done(store: Store, **given: Any) -> tuple[int, int]:
    """A completed task and its run."""
    task = add(store, **given)

    def do(tx: Transaction) -> int:
        taken = claim.claim_task(tx, task, claim.Claimant(lease_ms=1000, agent="me"))
        meter.add(tx, taken.run, turns=1, tokens_input=10, cost_usd=0.5, tools={"Read": 1}, session_id="s")
        meter.add(tx, taken.run, turns=2, tokens_input=5, cost_usd=0.25, tools={"Read": 2}, session_id="s")
        meter.correct(tx, taken.run, field="turns", new=9, reason="counted by hand")
        finish.complete(tx, taken.run, summary="done")
        return taken.run

    return task, store.write(do)


def later(store: Store, days: float) -> None:
    """So much time goes by."""
    assert store.now is not None
    store.now += int(days * DAY_MS)


def test_settled_tasks_are_archived_by_their_age(timed_store: Store, config: settings.Config) -> None:
    old, _ = done(timed_store)
    later(timed_store, 89)
    young, _ = done(timed_store)
    assert retention.archive(timed_store, config, DOERS, dry_run=False)["completed"] == []
    later(timed_store, 2)
    assert retention.archive(timed_store, config, DOERS, dry_run=True)["completed"] == [f"T{old}"]
    assert retention.archive(timed_store, config, DOERS, dry_run=False)["completed"] == [f"T{old}"]
    assert retention.archive(timed_store, config, DOERS, dry_run=False)["completed"] == []
    archived = timed_store.read(lambda tx: [tx.the("task", id=one)["archived_at"] for one in (old, young)])
    assert archived[0] is not None
    assert archived[1] is None


def test_what_an_open_task_waits_for_or_is_part_of_stays(timed_store: Store, config: settings.Config) -> None:
    parent = add(timed_store, "whole")
    part, _ = done(timed_store, parent=parent)
    add(timed_store, "other part", parent=parent)
    needed, _ = done(timed_store)
    blocker = add(timed_store, "blocker")
    add(timed_store, "after both", waits=(Wait(needed), Wait(blocker)))
    later(timed_store, 1000)
    assert retention.archive(timed_store, config, DOERS, dry_run=False)["completed"] == []
    assert part != needed


def test_an_age_of_nothing_means_never(timed_store: Store) -> None:
    config = settings.load(None, {}, {"retention.completed_days": 0, "retention.events_days": 0})
    done(timed_store)
    later(timed_store, 10_000)
    assert "completed" not in retention.archive(timed_store, config, DOERS, dry_run=False)
    assert retention.forget(timed_store, config, DOERS, dry_run=False)["events"] == 0


def test_more_than_one_batch_is_archived_in_one_go(
    timed_store: Store, config: settings.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    tasks = [done(timed_store)[0] for _ in range(5)]
    later(timed_store, 1000)
    found = retention.archive(timed_store, config, DOERS, dry_run=False)
    assert sorted(found["completed"]) == sorted(f"T{one}" for one in tasks)


def test_the_journal_forgets_nothing_that_came_after_a_line_of_a_clock_that_ran_ahead(
    timed_store: Store, config: settings.Config
) -> None:
    before, task = done(timed_store)[0], add(timed_store)
    timed_store.write(lambda tx: decide.archive(tx, before))
    later(timed_store, 400)
    run = timed_store.write(lambda tx: claim.claim_task(tx, task, claim.Claimant(lease_ms=1000)).run)
    later(timed_store, -400)
    timed_store.write(lambda tx: finish.complete(tx, run, summary="done"))
    timed_store.write(lambda tx: decide.archive(tx, task))
    later(timed_store, 400)
    assert retention.forget(timed_store, config, DOERS, dry_run=False)["events"] > 0
    assert structure.examine(timed_store, "full_audit", None).problems == []
    later(timed_store, 101)
    assert retention.forget(timed_store, config, DOERS, dry_run=False)["events"] > 0
    assert structure.examine(timed_store, "full_audit", None).problems == []


def test_the_journal_forgets_archived_tasks_and_no_others(
    timed_store: Store, raw: Any, config: settings.Config
) -> None:
    kept, _ = done(timed_store)
    gone, _ = done(timed_store)
    later(timed_store, 120)
    timed_store.write(lambda tx: decide.archive(tx, gone))
    before = raw.rows("select count(*) as total from events where task = ?", kept)[0]["total"]
    would = retention.forget(timed_store, config, DOERS, dry_run=True)["events"]
    assert retention.forget(timed_store, config, DOERS, dry_run=False)["events"] == would > 0
    left = raw.rows("select kind from events where task = ?", gone)
    assert [row["kind"] for row in left] == ["task.archived"]
    assert raw.rows("select count(*) as total from events where task = ?", kept)[0]["total"] == before
    assert retention.forget(timed_store, config, DOERS, dry_run=False)["events"] == 0


@pytest.mark.parametrize("taken_up", ["reopened", "retried", "whole"])
def test_a_task_that_comes_back_from_the_archive_is_in_the_lists_and_what_was_forgotten_is_not_missed(
    timed_store: Store, raw: Any, config: settings.Config, taken_up: str
) -> None:
    task = whole = add(timed_store)
    if taken_up == "whole":
        task = add(timed_store, parent=whole)
    run = timed_store.write(lambda tx: claim.claim_task(tx, task, claim.Claimant(lease_ms=1000)).run)
    if taken_up == "retried":
        timed_store.write(lambda tx: finish.fail(tx, run, code="agent_failed", error="so"))
    else:
        timed_store.write(lambda tx: finish.complete(tx, run, summary="done"))
    timed_store.write(lambda tx: decide.archive(tx, whole))
    later(timed_store, 120)
    retention.forget(timed_store, config, DOERS, dry_run=False)
    take_up = decide.retry if taken_up == "retried" else partial(decide.reopen, reason="not right")
    timed_store.write(lambda tx: take_up(tx, task))
    listed = timed_store.read(lambda tx: tx.all("list_tasks", after=0, limit=9, unarchived=1))
    assert whole in [row["id"] for row in listed]
    kinds = [row["kind"] for row in raw.rows("select kind from events where task = ? order by id", whole)]
    assert "task.created" not in kinds
    assert "task.unarchived" in kinds
    assert structure.examine(timed_store, "full_audit", None).problems == []


def test_the_newest_line_of_the_journal_always_stays(timed_store: Store, raw: Any, config: settings.Config) -> None:
    timed_store.write(lambda tx: tx.event("note"))
    timed_store.write(lambda tx: tx.event("note"))
    later(timed_store, 1000)
    retention.forget(timed_store, config, DOERS, dry_run=False)
    ids = [row["id"] for row in raw.rows("select id from events")]
    timed_store.write(lambda tx: tx.event("note"))
    assert len(ids) == 1
    assert raw.rows("select max(id) as id from events")[0]["id"] > ids[0]


def test_what_a_run_used_is_kept_as_one_sum_with_what_people_corrected(
    timed_store: Store, raw: Any, config: settings.Config
) -> None:
    _, run = done(timed_store)
    said = timed_store.read(lambda tx: meter.total(tx.all("metrics_of_run", run=run)))
    of_session = timed_store.read(lambda tx: meter.of_session(tx, "s", "me"))
    assert retention.forget(timed_store, config, DOERS, dry_run=False)["metrics"] == 0
    later(timed_store, 60)
    assert retention.forget(timed_store, config, DOERS, dry_run=True)["metrics"] == 2
    assert retention.forget(timed_store, config, DOERS, dry_run=False)["metrics"] == 2
    sources = [row["source"] for row in raw.rows("select source from metrics order by id")]
    assert sources == ["correction", "sum"]
    assert timed_store.read(lambda tx: meter.total(tx.all("metrics_of_run", run=run))) == said
    assert timed_store.read(lambda tx: meter.of_session(tx, "s", "me")) == of_session
    assert timed_store.write(lambda tx: meter.rebuild(tx, run)) is False
    assert retention.forget(timed_store, config, DOERS, dry_run=False)["metrics"] == 0


def test_the_database_lets_no_difference_go_that_is_in_no_sum(timed_store: Store, raw: Any) -> None:
    done(timed_store)
    for where in ("source = 'stream'", "source = 'correction'", "1 = 1"):
        with pytest.raises(raw.error, match="illegal_move"):
            raw.run(f"delete from metrics where {where}")


def test_logs_go_when_their_task_is_settled_and_old(timed_store: Store, tmp_path: Path) -> None:
    _, old = done(timed_store)
    open_task = add(timed_store)
    running = timed_store.write(
        lambda tx: claim.claim_task(tx, open_task, claim.Claimant(lease_ms=1000, agent="me")).run
    )
    for run in (old, running):
        place = tmp_path / "runs" / f"R{run}"
        place.mkdir(parents=True)
        (place / "log.jsonl").write_text("x" * 100)
    for others in ("notes", "R\u00b2", f"r{old}", f"R0{old}"):
        (tmp_path / "runs" / others).mkdir()
    later(timed_store, 31)
    assert retention.drop_logs(timed_store, tmp_path, 30, dry_run=True) == {"runs": 1, "bytes": 100}
    assert (tmp_path / "runs" / f"R{old}").exists()
    assert retention.drop_logs(timed_store, tmp_path, 30, dry_run=False) == {"runs": 1, "bytes": 100}
    left = {path.name for path in (tmp_path / "runs").iterdir()}
    assert left == {f"R{running}", "notes", "R\u00b2", f"r{old}", f"R0{old}"}
    assert retention.drop_logs(timed_store, tmp_path, 0, dry_run=False) == {"runs": 0, "bytes": 0}


def test_sizes_are_those_of_now(timed_store: Store, tmp_path: Path) -> None:
    before = retention.sizes(timed_store, tmp_path)
    done(timed_store)
    (tmp_path / "runs" / "R1").mkdir(parents=True)
    (tmp_path / "runs" / "R1" / "log.jsonl").write_bytes(b"12345")
    (tmp_path / "runs" / "R1" / "link").symlink_to("/etc/passwd")
    after = retention.sizes(timed_store, tmp_path)
    assert (before["tasks"], after["tasks"], after["runs"], after["metrics"]) == (0, 1, 1, 3)
    assert after["events"] > before["events"]
    assert 5 <= after["logs_bytes"] < 100
    assert after["database_bytes"] > 0


# -- one at a time, and regularly -------------------------------------------------------------------


def test_a_lease_has_one_holder_until_it_runs_out_or_is_given_back(timed_store: Store) -> None:
    assert leases.take(timed_store, "it", "a", 10)
    assert leases.take(timed_store, "it", "a", 10)
    assert not leases.take(timed_store, "it", "b", 10)
    assert leases.take(timed_store, "other", "b", 10)
    later(timed_store, 11 / 86_400)
    assert leases.take(timed_store, "it", "b", 10)
    leases.keep(timed_store, "it", "a", 100)
    assert not leases.take(timed_store, "it", "a", 1, longest=100)
    assert leases.take(timed_store, "it", "a", 1)
    leases.keep(timed_store, "it", "a", 0)
    assert leases.take(timed_store, "it", "b", 1)


def test_a_round_is_made_by_one_worker_once_in_its_time(
    timed_store: Store, raw: Any, config: settings.Config, tmp_path: Path
) -> None:
    def round_of(clone: str, holder: str) -> bool:
        record = maintenance.round_of(timed_store, config, DOERS, tmp_path / clone, holder)
        return record is not None

    task, _ = done(timed_store)
    later(timed_store, 91)
    assert round_of("here", "w1")
    assert not round_of("here", "w1")
    assert not round_of("here", "w2")
    assert not round_of("there", "w3")
    assert [row["action"] for row in raw.rows("select action from maintenance")] == ["retention"]
    assert timed_store.read(lambda tx: tx.the("task", id=task))["archived_at"] is not None
    later(timed_store, 23 / 24)
    assert not round_of("here", "w2")
    later(timed_store, 2 / 24)
    assert round_of("here", "w2")


def test_a_round_whose_worker_died_is_begun_anew(
    timed_store: Store, config: settings.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(maintenance, "tidy", die)
    with pytest.raises(KeyboardInterrupt):
        maintenance.round_of(timed_store, config, DOERS, tmp_path, "w1")
    monkeypatch.undo()
    assert maintenance.round_of(timed_store, config, DOERS, tmp_path, "w2") is None
    later(timed_store, maintenance.LEASE_S / 86_400 + 0.001)
    assert maintenance.round_of(timed_store, config, DOERS, tmp_path, "w2") is not None


def test_no_round_is_made_where_none_is_wanted(timed_store: Store, tmp_path: Path) -> None:
    config = settings.load(None, {}, {"maintenance.every_h": 0})
    assert maintenance.round_of(timed_store, config, DOERS, tmp_path, "w1") is None


def test_space_that_nobody_uses_is_given_back(store: Store, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if store.dialect != "sqlite":
        store.tidy_up()
        return
    monkeypatch.setattr("orchestrion.store.sqlite.WORTH_BYTES", 10_000)
    add(store, "big", description="x" * 900_000)
    raw.run("update tasks set description = ''")
    before = os.path.getsize(store.url)  # noqa: PTH202 - its address is a path
    store.tidy_up()
    raw.run("pragma wal_checkpoint(truncate)")
    assert os.path.getsize(store.url) < before or before < 900_000  # noqa: PTH202
    assert store.read(lambda tx: tx.the("store_size"))["bytes"] < 600_000
