"""What a PostgreSQL server may say: what passes is begun again or told as passing, never as a mistake of ours."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from orchestrion.core.errors import StoreProblem
from orchestrion.core.model import NewTask
from orchestrion.scheduler.create import create
from orchestrion.store import Store, Transaction, open_store, postgres
from orchestrion.store.patience import MENDED, PASSING
from orchestrion.store.store import Again
from stage import Stage
from waiting import wait_for


def add(title: str) -> Any:
    return lambda tx: create(tx, NewTask(title))


@pytest.fixture
def url(postgres: Any) -> str:
    made: str = postgres.new()
    open_store(made).close()
    return made


@contextmanager
def having(url: str, *settings: str) -> Iterator[Store]:
    """A store whose connections have these settings of the database."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as server:
        for setting in settings:
            server.execute(f"alter database {name} set {setting}".encode())
    with closing(open_store(url)) as store:
        yield store


def test_what_the_driver_says_of_a_broken_connection_is_not_said_beside_our_words() -> None:
    said = "import logging, orchestrion.store.postgres; logging.getLogger('psycopg').warning('error ignored')"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stderr == ""


def idle_for(seconds: float, tx: Transaction) -> int:
    """Reads, and does nothing for a while in the middle."""
    tx.the("clock")
    time.sleep(seconds)
    return len(tx.all("list_tasks", after=0, limit=9))


def test_a_transaction_that_was_cut_off_for_idling_is_begun_again(url: str) -> None:
    pauses = iter([0.5, 0.0])
    with having(url, "idle_in_transaction_session_timeout = '100ms'") as store:
        store.write(add("x"))
        assert store.read(lambda tx: idle_for(next(pauses), tx)) == 1
    assert list(pauses) == []


def count_tasks(store: Store) -> int:
    return int(store.read(lambda tx: tx.the("count_things"))["tasks"])


@pytest.mark.parametrize("act", [count_tasks, lambda store: store.write(add("one more"))], ids=["read", "write"])
@pytest.mark.parametrize("said", ["deallocate all", "deallocate all; prepare {name} as select 1"])
def test_a_connection_that_does_not_know_what_was_prepared_is_left(url: str, act: Any, said: str) -> None:
    with closing(open_store(url)) as store:
        for _ in range(20):  # until all of it is prepared
            act(store)
        before, tasks = store._connection(), count_tasks(store)  # type: ignore[attr-defined]
        [name, *_] = [row["name"] for row in before.execute("select name from pg_prepared_statements").fetchall()]
        before.pgconn.exec_(said.format(name=name).encode())  # as a pooler does that hands out another connection
        act(store)
        assert before.closed
        assert count_tasks(store) == tasks + (act is not count_tasks)


def test_a_name_that_is_taken_is_left_with_its_connection(url: str) -> None:
    with closing(open_store(url)) as store:
        before = store._connection()  # type: ignore[attr-defined]
        for number in range(100):
            before.pgconn.exec_(f"prepare _pg3_{number} as select 1".encode())
        assert [count_tasks(store) for _ in range(20)] == [0] * 20
        assert before.closed


def test_who_could_not_listen_listens_the_next_time(url: str) -> None:
    with closing(open_store(url)) as store, pytest.MonkeyPatch.context() as patch:
        real = store._connected  # type: ignore[attr-defined]
        patch.setattr(store, "_connected", lambda: _in_vain(real()))
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            store.wait_for_change(0)
        patch.undo()
        assert store.wait_for_change(0) is True, "what was said meanwhile is not known"
        store.write(add("news"))
        assert store.wait_for_change(5) is True


def _in_vain(connection: Any) -> Any:
    connection.pgconn.exec_(b"begin; select 1/0")  # whatever follows is refused
    return connection


def test_one_that_is_cut_off_each_time_is_told_as_passing(url: str) -> None:
    with having(url, "idle_in_transaction_session_timeout = '50ms'") as store:
        assert code_of(lambda: store.read(lambda tx: idle_for(0.3, tx))) == "store_timeout"


def test_connections_that_the_server_ends_when_idle_are_made_anew(url: str) -> None:
    with having(url, "idle_session_timeout = '100ms'") as store:
        store.wait_for_change(0.01)
        for number in (1, 2):
            time.sleep(0.4)
            assert store.write(add("x")) == number
            time.sleep(0.4)
            assert store.wait_for_change(0.01)


def test_a_statement_that_takes_too_long_is_told_as_passing(url: str) -> None:
    with having(url, "statement_timeout = '200ms'") as store, psycopg.connect(url) as other:
        task = store.write(add("x"))
        other.execute(f"select * from tasks where id = {task} for update".encode())
        assert code_of(lambda: store.write(lambda tx: tx.run("set_parent", id=task, parent=None))) == "store_timeout"
        other.rollback()
        assert store.write(lambda tx: tx.run("set_parent", id=task, parent=None)) == 1


def test_a_server_that_only_reads_is_left_for_the_one_that_takes_changes(url: str) -> None:
    """As after a failover: the address is the same, and the connection that was open leads to the wrong one."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with having(url, "default_transaction_read_only = on") as store:
        assert code_of(lambda: store.write(add("x"))) == "store_read_only"
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("set default_transaction_read_only = off")
            server.execute(f"alter database {name} reset default_transaction_read_only".encode())
        assert store.write(add("x")) == 1


def test_a_server_without_a_free_connection_is_busy(url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("drop role if exists crowded")
        server.execute("create role crowded login connection limit 1 in role pg_read_all_data")
        server.execute(f"grant connect on database {name} to crowded".encode())
    try:
        as_crowded = psycopg.conninfo.make_conninfo(url, user="crowded")
        address = f"postgresql:///{name}?user=crowded&host={psycopg.conninfo.conninfo_to_dict(url)['host']}"
        with psycopg.connect(as_crowded):
            assert code_of(lambda: open_store(address, create=False)) == "store_busy"
    finally:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("drop owned by crowded")
            server.execute("drop role crowded")


@pytest.mark.parametrize("state", sorted(postgres.REFUSALS))
def test_each_state_of_the_table_is_ours(state: str) -> None:
    error = psycopg.errors.lookup(state)("said") if len(state) == 5 else _of_class(state)
    said = postgres._ours(error, "postgresql://ada:secret@host/db")
    problem = said.problem if isinstance(said, Again) else said
    assert isinstance(problem, StoreProblem)
    assert "secret" not in problem.message
    assert problem.hint
    assert problem.code in (*PASSING, *MENDED, "store_corrupt")


def _of_class(state: str) -> psycopg.Error:
    error = psycopg.OperationalError("said")
    error.sqlstate = f"{state}P99"
    return error


def test_a_worker_goes_on_under_a_server_that_cuts_it_off(stage: Stage, url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    stage.open(db=url)
    with psycopg.connect(url, autocommit=True) as server:
        for setting in ("idle_in_transaction_session_timeout = '40ms'", "idle_session_timeout = '200ms'"):
            server.execute(f"alter database {name} set {setting}".encode())
    for number in range(3):
        stage.add(f"echo {number} > {number}.txt")
    with stage.worker(drain=False) as worker:
        wait_for(lambda: all(one["state"] == "completed" for one in _tasks(url)), "all are done")
        assert worker.poll() is None
    assert [(one["retries"], one["attempts"]) for one in _tasks(url)] == [(0, 1)] * 3


def _tasks(url: str) -> list[dict[str, Any]]:
    free = "-c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0"
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row, options=free) as server:
        return server.execute("select state, retries, attempts from tasks").fetchall()


def code_of(act: Any) -> str | None:
    try:
        act()
    except StoreProblem as problem:
        return problem.code
    return None
