"""A store of version 0.1.0 that has work at hand: it is copied, opened, and the work goes on."""

from __future__ import annotations

import itertools
import os
import re
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import StoreProblem
from orchestrion.core.project import find_project
from orchestrion.runs import launch, processes
from orchestrion.runs.workspace.places import former_home
from orchestrion.store import migrate
from stage import Stage
from waiting import wait_for

ROWS = Path(__file__).parent / "store" / "version-0.1.0.sql"
NEWEST = migrate.scripts("sqlite")[-1].version
#: What a client says first over MCP.
_HELLO = (
    '{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", '
    '"capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}\n'
    '{"jsonrpc": "2.0", "method": "notifications/initialized"}\n'
    '{"jsonrpc": "2.0", "id": 2, "method": "resources/read", "params": {"uri": "orchestrion://tasks"}}\n'
)
#: When it was written, in milliseconds.
WRITTEN = 1_795_942_235_000


class Old:
    """A project as version 0.1.0 left it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.store_dir = stage.root / ".git" / "orchestrion"
        self.db = self.store_dir / "orchestrion.db"
        self.base = stage.git("rev-parse", "HEAD")
        for ref in ("refs/orchestrion/plans/p", "refs/heads/orchestrion/p"):
            stage.git("update-ref", ref, self.base)
        self.store_dir.mkdir()
        self._write_store()

    def _write_store(self) -> None:
        shift = int(time.time() * 1000) - WRITTEN
        rows = re.sub(r"\b179[56]\d{9}\b", lambda found: str(int(found[0]) + shift), ROWS.read_text())
        home = former_home(self.stage.root, self.stage.environ)
        rows = rows.replace("/FOLDER/state/orchestrion/proj-c237780e/workspaces", str(home))
        rows = rows.replace("HOST", socket.gethostname()).replace("'proj'", "'project'")
        rows = re.sub(r"\b[0-9a-f]{40}\b", self.base, rows)
        first = migrate.scripts("sqlite")[0]
        statements = list(migrate.split(first.script))
        triggers = [one for one in statements if re.search(r"^create trigger", one, re.MULTILINE)]
        with sqlite3.connect(self.db) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.execute(migrate._BOOK)
            connection.execute(f"{migrate._WRITE} (1, 'begin', 1, 0)")
            for statement in statements:
                if statement not in triggers:
                    connection.execute(statement)
            connection.executescript(rows)
            for trigger in triggers:
                connection.execute(trigger)
            connection.execute("insert into meta (key, value) values ('uuid', 'dde36a42-d6fd-4fd7-97b3-a0efd6c20980')")
            connection.execute(f"pragma application_id = {migrate.APPLICATION_ID}")
        connection.close()

    def bring_to(self, schema: int) -> None:
        """Opens it as a version between did."""
        with closing(sqlite3.connect(self.db, isolation_level=None)) as connection:
            migrate.sqlite(connection, create=False, known=migrate.scripts("sqlite")[:schema])

    def workspace(self, run: str) -> Path:
        """Makes the clone in which a run of that version worked."""
        path = former_home(self.stage.root, self.stage.environ) / run
        path.parent.mkdir(parents=True, exist_ok=True)
        self.stage.git("clone", "-q", "--shared", "--template=", self.stage.root, path)
        self.stage.git("switch", "-qc", f"orchestrion/run/{run}", at=path)
        note = f'{{"base": "{self.base}", "branch": "orchestrion/run/{run}", "finished": true, "included": []}}'
        (path / ".git" / "orchestrion.json").write_text(note)
        return path

    def open(self) -> Orchestrator:
        return Orchestrator.open(self.stage.root, environ=self.stage.environ)


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(Stage(tmp_path / "stage", os.environ))


@pytest.fixture
def living(old: Old) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is the supervisor of R2."""
    with subprocess.Popen(["sleep", "300"]) as process:
        with sqlite3.connect(old.db) as connection:
            told = (process.pid, processes.start_time(process.pid))
            connection.execute("update runs set pid = ?, pid_start = ? where id = 2", told)
        connection.close()
        yield process
        process.kill()


def tables(file: Path) -> dict[str, int]:
    """Tables of a store, and how many columns each has."""
    with sqlite3.connect(file) as connection:
        names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        return {name: len(connection.execute(f"pragma table_info({name})").fetchall()) for name in names}


def test_it_is_copied_and_everything_is_there(old: Old) -> None:
    before = tables(old.db)
    with old.open() as opened:
        copy = old.db.with_name("orchestrion.db.schema-1")
        assert opened.store.upgrade == migrate.Upgrade(1, NEWEST, copy)
        assert tables(copy) == before
        states = {task.as_json()["id"]: str(task.state) for task in opened.list_tasks().items}
        assert states == {"T1": "completed", "T2": "in_progress", "T3": "in_progress", "T4": "in_progress"}
        assert opened.store.project_name == "project"
        (event,) = [one for one in opened.events(limit=100) if one["kind"] == "store.upgraded"]
        assert event["data"] == {"before": 1, "now": NEWEST, "copy": str(copy)}
    with old.open() as again:
        assert again.store.upgrade is None
    assert sqlite3.connect(copy).execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("command", ["list", "health", "ready", "init"])
def test_who_opens_it_first_is_told_where_the_copy_is(old: Old, command: str) -> None:
    for told in (True, False):
        asked = [*launch.OURSELVES, "-C", str(old.stage.root), command]
        said = subprocess.run(asked, env=old.stage.environ, capture_output=True, text=True, check=False)
        assert (f"schema 1 to {NEWEST}; as it was: {old.db}.schema-1\n" in said.stderr) == told, said.stderr


def test_a_client_over_mcp_writes_it_into_its_log(old: Old) -> None:
    asked = [*launch.OURSELVES, "-C", str(old.stage.root), "mcp"]
    pipe = subprocess.PIPE
    with subprocess.Popen(asked, env=old.stage.environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(_HELLO)
        server.stdin.flush()
        next(line for line in server.stdout if '"id":2' in line)
        assert "as it was: " in server.communicate()[1]


def test_a_server_writes_it_into_its_log(old: Old) -> None:
    asked = [*launch.OURSELVES, "-C", str(old.stage.root), "serve", "--port", "0"]
    with subprocess.Popen(asked, env=old.stage.environ, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        told = [
            line for line in itertools.takewhile(lambda line: "listening" not in line, lines) if "as it was" in line
        ]
        server.terminate()
    assert [line.startswith("{") for line in told] == [False, True]


def test_without_a_copy_nobody_is_sent_to_make_one_of_before() -> None:
    assert str(migrate.Upgrade(1, 3, None)) == (
        "the store was brought from schema 1 to 3; no copy was made, and one made from now on has the new schema"
    )


@pytest.mark.parametrize("schema", range(1, NEWEST))
def test_runs_that_live_are_adopted_and_the_dead_are_settled(
    old: Old, living: subprocess.Popen[bytes], schema: int
) -> None:
    old.bring_to(schema)
    workspace = old.workspace("R3")
    (workspace / "d.txt").write_text("half\n")
    with old.open() as opened, ThreadPoolExecutor(1) as pool:
        working = pool.submit(opened.work, slots=4, drain=True)
        wait_for(lambda: opened.task("T3").state == "completed", "the dead run is settled and its task done")
        runs = {run.as_json()["id"]: run.as_json()["state"] for run in opened.list_runs().items}
        assert runs == {"R1": "succeeded", "R2": "running", "R3": "lost", "R4": "running", "R5": "succeeded"}
        assert opened.run("R2").row["worker_pid"] == os.getpid()
        # What the dead one had done is kept.
        assert old.stage.git("show", "orchestrion/run/R3:d.txt") == "half"
        living.kill()
        assert working.result(60).completed == 2
        opened.done("R4", summary="by the client")
        assert opened.land()["landed"]
    assert (old.stage.root / "l.txt").read_text() == "l\n"


def test_two_at_once_upgrade_it_once(old: Old) -> None:
    program = f"from orchestrion import Orchestrator; Orchestrator.open({str(old.stage.root)!r}, create=False)"
    command = [launch.OURSELVES[0], "-c", program]
    several = [subprocess.Popen(command, env=old.stage.environ) for _ in range(4)]
    assert [one.wait(60) for one in several] == [0, 0, 0, 0]
    copies = sorted(file.name for file in old.store_dir.glob("*.schema-*"))
    assert copies == ["orchestrion.db.schema-1"]


def test_without_room_for_the_copy_nothing_is_changed(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(half: Path, _: Path) -> None:
        half.with_name(f"{half.name}-journal").touch()
        raise OSError(28, "No space left on device")

    before = tables(old.db)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StoreProblem) as refused:
        old.open()
    assert refused.value.code == "upgrade_refused"
    assert tables(old.db) == before
    assert not list(old.store_dir.glob("*.schema-*"))


@pytest.mark.parametrize("changed", [False, True])
def test_after_an_upgrade_that_failed_one_copy_of_each_state_is_kept(
    old: Old, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    def refuse(_: str) -> Iterator[str]:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(migrate, "split", refuse)
        with pytest.raises(OSError, match="No space"):
            old.open()
    if changed:
        with closing(sqlite3.connect(old.db)) as connection, connection:
            connection.execute("update tasks set title = 'other' where id = 1")
    with old.open() as opened:
        assert opened.store.upgrade is not None
        copy = opened.store.upgrade.copy
    first = old.db.with_name("orchestrion.db.schema-1")
    copies = {first, first.with_name(f"{first.name}-2")} if changed else {first}
    assert set(old.store_dir.glob("*.schema-*")) == copies
    assert copy == max(copies)


def test_the_name_of_the_project_is_that_of_before(old: Old) -> None:
    old.open().close()
    moved = old.stage.root.with_name("renamed")
    old.stage.root.rename(moved)
    with Orchestrator.open(moved, environ=old.stage.environ) as opened:
        assert (opened.store.project_name, opened.list_tasks().total) == ("project", 4)
    assert find_project(moved, None, {}).root == moved
