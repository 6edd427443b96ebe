"""Many calls at once and many servers on one project: nothing is lost, nothing is doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from peers import Pipe, Site, official

pytestmark = pytest.mark.long

CALLS, SERVERS = 50, 8


@pytest.fixture
def pipes(site: Site) -> Iterator[Callable[[int], list[Pipe]]]:
    """Starts servers that are ready to be asked."""
    with ExitStack() as stack:

        def start(count: int) -> list[Pipe]:
            started = [stack.enter_context(Pipe(site, name=f"client{number}")) for number in range(count)]
            for one in started:
                one.open()
            return started

        yield start


def at_once(jobs: list[Callable[[], None]]) -> None:
    """Does all of them at the same time; raises what one of them raises."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result()


def test_fifty_calls_at_once_on_one_server(pipes: Callable[[int], list[Pipe]], site: Site) -> None:
    (pipe,) = pipes(1)
    planned = [
        pipe.post("tools/call", name="orchestrator_plan_task", arguments={"title": f"t{number}", "description": "d"})
        for number in range(CALLS)
    ]
    tasks = [pipe.result(number)[0]["task_id"] for number in planned]
    assert len(set(tasks)) == CALLS
    taken = [pipe.post("tools/call", name="orchestrator_execute_task", arguments={"task_id": task}) for task in tasks]
    runs = [pipe.result(number)[0]["run"] for number in taken]
    assert len(set(runs)) == CALLS
    report = {"summary": "s", "detailed_work": "d", "next_action": "complete"}
    done = [
        pipe.post("tools/call", name="orchestrator_complete_task", arguments={"task_id": task, "run": run, **report})
        for task, run in zip(tasks, runs, strict=True)
    ]
    # Questions in between are answered meanwhile.
    asked = [pipe.post("tools/call", name="orchestrator_query_tasks", arguments={}) for _ in range(10)]
    assert all(pipe.result(number)[0]["total_count"] == CALLS for number in asked)
    assert all(pipe.result(number)[0]["state"] == "completed" for number in done)
    assert pipe.call("get_status")["task_status"]["completed"] == CALLS
    with site.open() as cases:
        kinds = Counter(event["kind"] for event in cases.events(limit=1000))
    assert kinds["task.created"] == CALLS


def test_eight_servers_take_every_task_once(pipes: Callable[[int], list[Pipe]], site: Site) -> None:
    servers = pipes(SERVERS)
    made: list[str] = []
    at_once([lambda one=one: made.extend(plan(one, 5)) for one in servers])
    assert len(set(made)) == len(made) == 5 * SERVERS
    won: list[str] = []
    at_once([lambda one=one: won.extend(claim_all(one)) for one in servers])
    assert sorted(won) == sorted(made)
    with site.open() as cases:
        found = cases.list_tasks(limit=100).as_json("tasks")["tasks"]
        runs = cases.list_runs(limit=100).as_json("runs")
    assert {task["state"] for task in found} == {"completed"}
    assert runs["total"] == len(made)


def plan(pipe: Pipe, count: int) -> list[str]:
    return [
        pipe.call("plan_task", title=f"{pipe.name} {number}", description="d")["task_id"] for number in range(count)
    ]


def claim_all(pipe: Pipe) -> list[str]:
    """Takes tasks until none is left, and reports each."""
    won = []
    while True:
        taken, failed = pipe.raw("orchestrator_claim_task", {})
        if failed:
            assert taken["error"]["code"] == "nothing_ready", taken
            return won
        task, run = taken["task_id"], taken["run"]
        done = pipe.call("complete_task", task_id=task, summary="s", detailed_work="", next_action="complete", run=run)
        assert done["state"] == "completed"
        won.append(task)


def test_eight_servers_want_the_same_task(pipes: Callable[[int], list[Pipe]]) -> None:
    servers = pipes(SERVERS)
    task = plan(servers[0], 1)[0]
    ends: list[str] = []

    def take(pipe: Pipe) -> None:
        taken, failed = pipe.raw("orchestrator_execute_task", {"task_id": task})
        ends.append(taken["error"]["code"] if failed else taken["run"])

    at_once([lambda one=one: take(one) for one in servers])
    assert sorted(ends) == ["R1", *["already_taken"] * (SERVERS - 1)]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_many_clients_on_one_address(site: Site) -> None:
    with site.http() as house:

        def visit(number: int) -> None:
            with official(house, mode="legacy" if number % 2 else "2026-07-28") as client:
                task = client.call("plan_task", title=f"c{number}", description="d")["task_id"]
                run = client.call("execute_task", task_id=task)["run"]
                client.call(
                    "complete_task", task_id=task, summary="s", detailed_work="", next_action="complete", run=run
                )

        at_once([lambda number=number: visit(number) for number in range(10)])
        with official(house) as client:
            assert client.call("get_status")["task_status"]["tasks_by_status"] == {"completed": 10}
