"""Eight processes at once on one store, some of them killed: every answer they gave is true, and nothing is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invariants import look, violations

from orchestrion.core.model import NewTask
from orchestrion.scheduler import create
from orchestrion.store import open_store
from waiting import wait_for

pytestmark = pytest.mark.long

RACERS = 8
PATIENCE_S = 90


class Racer:
    """A racing process and what it said."""

    def __init__(self, url: str, what: str, number: int, folder: Path) -> None:
        self._said = folder / f"{what}{number}.jsonl"
        with self._said.open("wb") as out:
            command = [sys.executable, str(Path(__file__).with_name("racer.py")), url, what, str(number)]
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> None:
        """Waits for its end, which must be a good one."""
        errors = self.process.communicate(timeout=PATIENCE_S)[1]
        assert self.process.returncode == 0, errors.decode()

    def said(self) -> list[dict[str, Any]]:
        """Its lines; the last of a killed one may be torn."""
        lines = self._said.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]


def race(url: str, what: str, folder: Path) -> list[dict[str, Any]]:
    racers = [Racer(url, what, number, folder) for number in range(RACERS)]
    for racer in racers:
        racer.end()
    return [line for racer in racers for line in racer.said()]


def test_eight_processes_that_create_ten_tasks_each_create_eighty(store_url: str, raw: Any, tmp_path: Path) -> None:
    """They also open the new database at once, so one of them migrates it."""
    ids = [line["task"] for line in race(store_url, "creates", tmp_path)]
    assert len(ids) == len(set(ids)) == 80
    assert {row["id"] for row in raw.rows("select id from tasks")} == set(ids)
    assert {row["state"] for row in raw.rows("select state from tasks")} == {"ready"}
    assert violations(look(raw)) == []


def test_eight_processes_that_race_for_tasks_while_some_are_killed(store_url: str, raw: Any, tmp_path: Path) -> None:
    """One winner at a time, none lost once leases have run out, and what is stale is refused."""
    count = 200
    store = open_store(store_url)
    store.write(lambda tx: create.create_all(tx, [NewTask(f"task {n}", max_retries=100) for n in range(count)]))
    store.close()
    racers = [Racer(store_url, "claims", number, tmp_path) for number in range(RACERS)]
    killed = _kill_some_on_the_way(raw, racers, lambda number: Racer(store_url, "claims", number, tmp_path))
    for racer in racers:
        racer.end()
    said = [line for racer in [*racers, *killed] for line in racer.said()]

    claims = Counter(line["run"] for line in said if "claimed" in line)
    assert set(claims.values()) == {1}, "a run was given to two"
    completed = Counter(line["completed"] for line in said if "completed" in line)
    assert set(completed.values()) == {1}, "a task was completed twice"
    assert {row["state"] for row in raw.rows("select state from tasks")} == {"completed"}
    succeeded = {row["task"]: row["id"] for row in raw.rows("select id, task from runs where state = 'succeeded'")}
    assert len(succeeded) == count
    assert all(succeeded[line["completed"]] == line["run"] for line in said if "completed" in line)
    stale = {line["run"] for line in said if "stale" in line}
    assert stale <= {row["id"] for row in raw.rows("select id from runs where state = 'lost'")}
    assert violations(look(raw)) == []


def _kill_some_on_the_way(raw: Any, racers: list[Racer], another: Callable[[int], Racer]) -> list[Racer]:
    """Kills the oldest racer whenever some more tasks are done, and sends another into the race."""
    killed = []
    for done in (15, 45, 75, 105, 135):
        wait_for(
            lambda done=done: raw.rows("select count(*) as n from tasks where state = 'completed'")[0]["n"] >= done
        )
        killed.append(racers.pop(0))
        killed[-1].kill()
        racers.append(another(RACERS + len(killed)))
    return killed


def test_eight_processes_that_add_edges_and_move_tasks_close_no_circle(
    store_url: str, raw: Any, tmp_path: Path
) -> None:
    """Each edge is fine by itself; the one that would close a circle is refused, whoever was first."""
    store = open_store(store_url)
    store.write(lambda tx: create.create_all(tx, [NewTask(f"task {n}") for n in range(8)]))
    store.close()
    said = race(store_url, "depends", tmp_path)
    answers = Counter("added" if "added" in line else line["refused"] for line in said)
    assert set(answers) == {"added", "cycle"}, answers
    assert sum(answers.values()) == RACERS * 40
    assert violations(look(raw)) == []
