"""Each earlier version's store, in the middle of its work, opens in this program with every row; killed, it is before
or after.

Every schema number but the newest is tried, so each later migration is tested by itself.
"""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from versions import SCHEMAS, TABLES, TASKS, Table, rows, rows_of_work, store_of

from direct import connect_raw
from orchestrion.ops import health, structure
from orchestrion.scheduler import finish
from orchestrion.store import migrate, open_store
from scheduler.invariants import look, violations

NEWEST = migrate.scripts("sqlite")[-1].version


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    made = rows_of_work(tmp_path_factory.mktemp("work") / "orchestrion.db")
    assert [table for table in TABLES if not made[table]] == []
    assert len(made["tasks"]) > TASKS
    return made


@pytest.fixture(params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def url(new_database: Callable[[], str], schema: int, content: dict[str, Table]) -> str:
    """A store of that schema, full of work."""
    made = new_database()
    store_of(schema, made, content)
    return made


def as_before(now: dict[str, Table], before: dict[str, Table]) -> dict[str, Table]:
    """Today's rows with the columns that there were."""
    return {table: [{name: row[name] for name in before[table][0]} for row in there] for table, there in now.items()}


def in_order(content: dict[str, Table]) -> dict[str, list[str]]:
    return {table: sorted(repr(sorted(row.items())) for row in there) for table, there in content.items()}


def seen(url: str) -> dict[str, Table]:
    with connect_raw(url) as raw:
        return rows(raw)


def test_every_row_is_there_and_the_runs_go_on(url: str, schema: int) -> None:
    before = seen(url)
    store = open_store(url)
    copy = None if url.startswith("postgres") else Path(f"{url}.schema-{schema}")
    assert store.upgrade == migrate.Upgrade(schema, NEWEST, copy)
    assert in_order(as_before(seen(url), before)) == in_order(before)
    if copy:
        assert in_order(seen(str(copy))) == in_order(before)
    assert structure.examine(store, "full_audit", None)[1:] == ([], [])
    assert [health.of_store(store).status, health.of_structure(store).status] == ["healthy", "healthy"]
    for run in (1, 4):
        store.write(lambda tx, run=run: finish.renew(tx, run))
        store.write(lambda tx, run=run: finish.complete(tx, run, summary="by the new one"))
    with connect_raw(url) as raw:
        assert violations(look(raw)) == []
    store.close()


#: Where the process dies: while the file is copied, before and after anything is changed.
MOMENTS = {"copying": "os.fsync", "copied": "split", "changed": "_line"}


@pytest.mark.long
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_the_middle_it_is_as_before(url: str, schema: int, moment: str) -> None:
    if moment != "changed" and url.startswith("postgres"):
        moment = "changed"  # it has no copy, and its scripts are one statement each
    before = seen(url)
    died = subprocess.run([sys.executable, "-c", _DIES.format(url=url, at=MOMENTS[moment])], check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL
    assert in_order(seen(url)) == in_order(before)
    with connect_raw(url) as raw:
        assert raw.rows("select max(version) as version from migrations") == [{"version": schema}]
    store = open_store(url)
    assert in_order(as_before(seen(url), before)) == in_order(before)
    assert structure.examine(store, "full_audit", None)[1:] == ([], [])
    store.close()
    if not url.startswith("postgres"):
        assert not list(Path(url).parent.glob("*.half-*")), "nobody takes half a copy for a whole one"


_DIES = """
import os, signal
from orchestrion.store import migrate, open_store
migrate.{at} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
open_store({url!r})
"""


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_the_copy_is_no_more_open_than_the_store(url: str, schema: int) -> None:
    Path(url).chmod(0o600)
    store = open_store(url)
    assert store.upgrade is not None
    assert store.upgrade.copy is not None
    assert stat.S_IMODE(store.upgrade.copy.stat().st_mode) == 0o600
    store.close()
