"""Sixteen processes do random things to one project and are killed; health is green, and other SQL agrees with it.

``ORCHESTRION_TEST_EFFORT`` multiplies the time, ``ORCHESTRION_TEST_SEED`` repeats who is killed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from direct import Raw
from orchestrion import Orchestrator
from waiting import wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

EFFORT = float(os.environ.get("ORCHESTRION_TEST_EFFORT", "1"))
SECONDS = 15.0
KINDS = ("actor",) * 10 + ("python",) * 4 + ("command",) * 2
#: Kills at least, and moves of tasks; a slow machine gets the time that it needs for them, up to a limit.
KILLS, MOVES = 20, 500

#: Written from the glossary, not from the program: each counts what must not be.
FORBIDDEN = {
    "a task in progress without exactly one active run, its own": """
        select count(*) as n from tasks t where t.state = 'in_progress' and (t.run is null or
            (select count(*) from runs r where r.task = t.id and r.state in ('starting', 'running')) <> 1
            or not exists (select 1 from runs r where r.id = t.run and r.task = t.id and r.ended_at is null))""",
    "an active run of a task that is not in progress": """
        select count(*) as n from runs r where r.ended_at is null
            and (select t.state from tasks t where t.id = r.task) <> 'in_progress'""",
    "a ready task with something unmet": """
        select count(*) as n from tasks t where t.state = 'ready'
            and exists (select 1 from edges e where e.task = t.id and e.state in ('open', 'dead'))""",
    "a pending task with nothing unmet": """
        select count(*) as n from tasks t where t.state = 'pending'
            and not exists (select 1 from edges e where e.task = t.id and e.state = 'open')""",
    "a dependency that is met by what is not completed": """
        select count(*) as n from edges e join tasks p on p.id = e.prerequisite
        where e.kind in ('blocks', 'data') and e.state = 'met' and p.state <> 'completed'""",
    "a dependency that is open on what is completed": """
        select count(*) as n from edges e join tasks p on p.id = e.prerequisite
        where e.kind in ('blocks', 'data') and e.state in ('open', 'dead') and p.state = 'completed'""",
    "another number of unmet dependencies": """
        select count(*) as n from tasks t where t.unmet <>
            (select count(*) from edges e where e.task = t.id and e.state <> 'met' and e.state <> 'waived')""",
    "a limit that counts other than its holders": """
        select count(*) as n from slots s where s.used <>
            (select count(*) from holds h where h.project = s.project and h.slot = s.name)""",
    "a limit held by a run that is over": """
        select count(*) as n from holds h where (select r.ended_at from runs r where r.id = h.run) is not null""",
    "a parent done before its part": """
        select count(*) as n from tasks c join tasks p on p.id = c.parent
        where p.state = 'completed' and c.state not in ('completed', 'cancelled')""",
    "a move that the journal does not know": """
        select count(*) as n from tasks t where t.state <> (select e.to_state from events e
            where e.task = t.id and e.kind like 'task.%' and e.to_state is not null order by e.id desc limit 1)""",
    "an end of a run that the journal does not know": """
        select count(*) as n from runs r where r.state <> (select e.to_state from events e
            where e.run = r.id and e.kind like 'run.%' and e.to_state is not null order by e.id desc limit 1)""",
    "two runs of one number": """
        select count(*) as n from runs a join runs b on b.task = a.task and b.attempt = a.attempt and b.id > a.id""",
}


def test_health_is_green_whatever_sixteen_processes_do_and_however_they_die(
    one: Orchestrator, root: Path, store_url: str, environ: dict[str, str], raw: Raw, dialect: str
) -> None:
    chance = random.Random(int(os.environ.get("ORCHESTRION_TEST_SEED", random.SystemRandom().randrange(2**32))))
    begin = "begin isolation level repeatable read" if dialect == "postgres" else "begin"
    kills, end = 0, time.monotonic() + SECONDS * EFFORT
    with storm(root, store_url, environ, chance) as members:
        while time.monotonic() < end or (kills < KILLS and time.monotonic() < end + 200):
            victim = chance.randrange(len(members))
            members[victim] = members[victim].killed()
            kills += 1
            assert wrong(raw, begin) == []
            assert ill(one) == []
            assert [member.said() for member in members if member.process.poll() is not None] == []
            before = lines(raw)
            wait_for(lambda before=before: lines(raw) > before, "somebody does something")
    assert wrong(raw, begin) == []
    assert ill(one) == []
    assert one.maintain("validate_structure", level="full_audit")["found"]["problems"] == []
    assert kills >= KILLS
    assert raw.rows("select count(*) as n from events where kind like 'task.%'")[0]["n"] > MOVES


def wrong(raw: Raw, begin: str) -> list[str]:
    raw.run(begin)
    try:
        return [what for what, sql in FORBIDDEN.items() if raw.rows(sql)[0]["n"]]
    finally:
        raw.run("rollback")


def lines(raw: Raw) -> int:
    """Of the journal."""
    return int(raw.rows("select coalesce(max(id), 0) as n from events")[0]["n"])


def ill(one: Orchestrator) -> list[Any]:
    """What health finds wrong with the rows. That the store is slow, and runs of the killed are overdue, is so."""
    looks: list[dict[str, Any]] = []
    wait_for(lambda: looks.append(one.health()["components"]) or "structure" in looks[-1], "the store answers in time")
    return [*looks[-1]["store"]["problems"], *looks[-1]["structure"]["problems"]]


class Member:
    """One of the sixteen, in a process group of its own."""

    def __init__(self, how: str, where: tuple[str, str], environ: dict[str, str], chance: random.Random) -> None:
        self._again = (how, where, environ, chance)
        program = [sys.executable, str(Path(__file__).with_name("storm_member.py")), how, *where]
        self.process = subprocess.Popen(
            [*program, str(chance.randrange(2**32))], env=environ, stderr=subprocess.PIPE, start_new_session=True
        )

    def killed(self) -> Member:
        """Its successor."""
        self.kill()
        return Member(*self._again)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def said(self) -> str:
        """Its last words."""
        return self.process.communicate()[1].decode()


@contextmanager
def storm(root: Path, url: str, environ: dict[str, str], chance: random.Random) -> Iterator[list[Member]]:
    members = [
        Member(how, (str(root), url), {**environ, "PYTHONPATH": str(Path(__file__).parents[1])}, chance)
        for how in KINDS
    ]
    try:
        yield members
    finally:
        for member in members:
            member.kill()
