"""The database out of reach, while runs work, settle and are claimed: cut off, silent, locked, away, restarted."""

from __future__ import annotations

import time
from pathlib import Path

from chaos.ground import Ground
from chaos.scenario import at_length, scenario
from chaos.server import Network
from stage import wait_for

#: How many short tasks are claimed, worked on and settled while the database is away.
_TASKS = 6


def _away(ground: Ground) -> float:
    """How long it is away, in seconds."""
    return 10.0 if ground.long else 3.0


def _busy(ground: Ground) -> list[str]:
    """Short tasks, one of which always begins or ends; the trouble may come as soon as the first has ended."""
    tasks = [
        ground.trouble(f"echo $ORCHESTRION_ATTEMPT > b{number}.txt; sleep 0.2", checks=(f"test -f b{number}.txt",))
        for number in range(_TASKS)
    ]
    wait_for(lambda: ground.stage.runs(tasks[0]), "the first is begun")
    return tasks


def _prove_done_once(ground: Ground, tasks: list[str]) -> None:
    """All completed, none done twice: within a lease a database that is away costs time and nothing else."""
    for number, task in enumerate(tasks):
        ground.await_end(task, "completed", None)
        assert ground.ends(task) == [("succeeded", None)]
        assert ground.stage.merged(f"b{number}.txt") == "1\n"


def _pass(seconds: float) -> None:
    """The outage lasts so long: this time is the scenario's, and no guess."""
    time.sleep(seconds)


# -- PostgreSQL behind a network -------------------------------------------------------------------------


def _behind_network(ground: Ground, **settings: object) -> Network:
    network = Network(ground.play.server.port)
    ground.at_close(network.close)
    url = ground.play.server.new(network.port)
    ground.open(url=url, direct=ground.play.server.direct(url), **settings)
    return network


@scenario
def network_cut(ground: Ground) -> None:
    """The network to PostgreSQL is cut and comes back within the lease: all wait for it, and nothing is done twice."""
    network = _behind_network(ground)
    tasks = _busy(ground)
    network.cut()
    _pass(_away(ground))
    network.mend()
    assert network.refused, "somebody tried meanwhile"
    _prove_done_once(ground, tasks)


@scenario
def network_silent(ground: Ground) -> None:
    """The network swallows everything and then breaks what was said into it: as if it had been cut."""
    network = _behind_network(ground)
    tasks = _busy(ground)
    network.fall_silent()
    _pass(_away(ground))
    network.mend()
    _prove_done_once(ground, tasks)


@at_length
def network_flaps(ground: Ground) -> None:
    """The network breaks again and again, at moments drawn from the seed: nobody gives up, nothing is done twice."""
    network = _behind_network(ground)
    tasks = _busy(ground)
    end = time.monotonic() + _away(ground)
    while time.monotonic() < end:
        network.cut()
        _pass(ground.random.uniform(0.01, 0.2))
        network.mend()
        _pass(ground.random.uniform(0.05, 0.4))
    _prove_done_once(ground, tasks)


@scenario
def network_cut_when_the_agent_ends(ground: Ground) -> None:
    """The agent ends while the database is away: its work is checked and merged as soon as that is back."""
    network = _behind_network(ground)
    task = ground.trouble(
        f"while ! test -f {ground.folder}/go; do echo on; sleep 0.05; done; echo $ORCHESTRION_ATTEMPT > b0.txt",
        checks=("test -f b0.txt",),
    )
    ground.await_run(task)
    network.cut()
    (ground.folder / "go").touch()
    _pass(_away(ground))
    network.mend()
    _prove_done_once(ground, [task])


@scenario
def network_cut_for_longer_than_the_lease(ground: Ground) -> None:
    """Cut for longer than a lease: the agent is stopped before that is over, its work kept, its task done anew."""
    network = _behind_network(ground, lease__run_s=7)
    file = ground.folder / "began"
    task = ground.trouble(
        f"echo $ORCHESTRION_ATTEMPT > part.txt; test -f {file} && exit; echo $$ > {file}; sleep 600", alone=True
    )
    wait_for(lambda: file.exists() and file.read_text(), "its agent works")
    agent = int(file.read_text())
    ground.announced.add(agent)
    network.cut()
    wait_for(lambda: not Path(f"/proc/{agent}").exists(), "the agent is stopped", 12)
    network.mend()
    ground.await_end(task, "completed", None)
    assert ground.ends(task) == [("lost", "lost"), ("succeeded", None)]
    assert ground.stage.on_branch("part.txt", ground.stage.runs(task)[0]["id"]) == "1"


@scenario
def postgres_crashes(ground: Ground) -> None:
    """PostgreSQL ends at once and is started again: what was committed is there, and all go on as before."""
    server = ground.play.server
    ground.open(url=server.new())
    tasks = _busy(ground)
    server.crash()
    ground.at_close(server.start_if_away)
    _pass(_away(ground) / 3)
    server.start()
    ground.reconnect()
    _prove_done_once(ground, tasks)


# -- SQLite ------------------------------------------------------------------------------------------------


@scenario
def sqlite_locked(ground: Ground) -> None:
    """Another program holds SQLite exclusively: all wait, and nothing is done twice."""
    tasks = _busy(ground)
    with ground.stage.direct() as other:
        other.run("begin exclusive")
        _pass(_away(ground))
        other.run("rollback")
    _prove_done_once(ground, tasks)


@scenario
def sqlite_away(ground: Ground) -> None:
    """The database's files are moved away and back: nobody puts an empty one in their place, nothing is done twice."""
    tasks = _busy(ground)
    store = ground.stage.orchestrion.project.store_dir
    shelter = ground.folder / "shelter"
    shelter.mkdir()
    files = sorted(store.glob("orchestrion.db*"))
    for file in files:
        file.rename(shelter / file.name)
    _pass(_away(ground))
    assert sorted(store.glob("orchestrion.db*")) == [], "a new database was made"
    for file in files:
        (shelter / file.name).rename(file)
    _prove_done_once(ground, tasks)
