"""Routes about runs: start one, watch it, talk to it, report it, end it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from orchestrion.interfaces.web import asked as bodies
from orchestrion.interfaces.web import shapes
from orchestrion.interfaces.web.diffs import DiffResponse
from orchestrion.interfaces.web.problems import refusals
from orchestrion.interfaces.web.routing import At
from orchestrion.interfaces.web.tasks import Limit
from orchestrion.orchestrator.runs import diff_bounds

router = APIRouter(prefix="/api/v1/runs", tags=["runs"], responses=refusals())

_ACT = refusals(404, 409)


@router.post("", response_model=shapes.Run, status_code=201, responses=_ACT)
async def start_run(at: At, new: bodies.NewRun) -> Any:
    """Has an agent of the server's machine do a task; the run, as soon as it is there."""
    return await at.do(lambda cases: cases.start_run(new.task, agent=new.agent))


@router.get("", response_model=shapes.RunPage, responses=refusals(304, 404))
async def list_runs(
    at: At,
    task: str | None = None,
    state: Annotated[list[str], Query()] = [],  # noqa: B006 - the framework reads it
    limit: Limit = 20,
    cursor: str | None = None,
) -> Any:
    """Runs, newest first."""
    page = lambda cases: cases.list_runs(task=task, states=state, limit=limit, cursor=cursor).as_json("runs")  # noqa: E731
    return await at.do(page)


@router.get("/{run}", response_model=shapes.RunDetail, responses=refusals(304, 404))
async def show_run(at: At, run: str) -> Any:
    """A run with the evidence of its checks and what was said to its agent."""
    return await at.do(lambda cases: cases.run_detail(run))


@router.get("/{run}/log", response_model=shapes.Log, responses=refusals(304, 404))
async def log(at: At, run: str, offset: Annotated[int, Query(ge=0, le=2**53)] = 0, limit: Limit = 200) -> Any:
    """Lines of a run's log from a place on; `next_offset` is where the next piece begins."""
    return await at.do(lambda cases: cases.log_page(run, offset, limit))


@router.get("/{run}/debug", response_model=dict[str, Any], responses=refusals(304, 404))
async def debug(at: At, run: str) -> Any:
    """All that is known of a run: its steps and how long each took, order, journal, end of the log, processes."""
    return await at.do(lambda cases: cases.debug(run))


@router.get(
    "/{run}/diff",
    status_code=200,
    response_class=DiffResponse,
    responses={**refusals(304, 404), 200: {"content": {"text/plain": {}}, "description": "a unified diff"}},
)
async def diff(
    at: At,
    run: str,
    skip: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Limit = 200,
    max_bytes: Annotated[int, Query(ge=1, le=2**26)] = 1_000_000,
    file_bytes: Annotated[int, Query(ge=1, le=2**24)] = 100_000,
) -> Response:
    """What a run changed, as a unified diff: `limit` files behind the first `skip`, of each at most `file_bytes`,
    of all together `max_bytes`. Lines that begin with `#` say what is left out and how to go on.
    """
    bounds = diff_bounds(skip=skip, files=limit, max_bytes=max_bytes, file_bytes=file_bytes)
    found = await at.do(lambda cases: cases.run_diff(run))
    return DiffResponse(at.house, found, bounds, f"?skip={{next}} goes on; `orchestrion diff {run}` shows all")


@router.post("/{run}/kill", response_model=shapes.Run, responses=_ACT)
async def kill(at: At, run: str, asked: bodies.MaybeBecause | None = None) -> Any:
    """Ends a run; its agent is stopped within a second."""
    reason = (asked.reason if asked else None) or f"killed by {at.caller.actor}"
    return await at.do(lambda cases: cases.kill(run, reason).as_json())


@router.post("/{run}/message", response_model=shapes.Message, responses=_ACT)
async def message(at: At, run: str, asked: bodies.Said) -> Any:
    """Says something to a run's agent, and waits a moment for it to be heard."""
    return await at.do(lambda cases: cases.message(run, asked.text))


@router.post("/{run}/heartbeat", response_model=shapes.Run, responses=_ACT)
async def heartbeat(at: At, run: str) -> Any:
    """A sign of life: the lease is extended."""
    return await at.do(lambda cases: cases.heartbeat(run).as_json())


@router.post("/{run}/release", response_model=shapes.Run, responses=_ACT)
async def release(at: At, run: str, asked: bodies.MaybeBecause | None = None) -> Any:
    """Gives the task back, untouched."""
    reason = (asked.reason if asked else None) or "given back by its holder"
    return await at.do(lambda cases: cases.release(run, reason).as_json())


@router.post("/{run}/done", response_model=shapes.Outcome, responses=_ACT)
async def done(at: At, run: str, asked: bodies.Done) -> Any:
    """Reports a task as done; its checks must pass."""
    files = [one.given() for one in asked.files]
    return await at.do(
        lambda cases: cases.done(run, asked.summary, detail=asked.detail, files=files, next_action=asked.next)
    )


@router.post("/{run}/fail", response_model=shapes.FailOutcome, responses=_ACT)
async def fail(at: At, run: str, asked: bodies.Failed) -> Any:
    """Reports a task as failed: tried again or given up, by the taxonomy."""
    return await at.do(lambda cases: cases.fail(run, asked.error, asked.code))


@router.post("/{run}/cleanup", response_model=shapes.CleanedUp, responses=_ACT)
async def clean_up(at: At, run: str) -> Any:
    """Removes the workspace of a run that is over, unless that would lose work."""
    return await at.do(lambda cases: cases.clean_up_run(run))
