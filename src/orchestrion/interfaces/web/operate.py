"""Routes about the whole: health, status, numbers, limits, alerts, and the stream of events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from orchestrion.core.errors import InvalidInput
from orchestrion.interfaces.web import asked as bodies
from orchestrion.interfaces.web import shapes
from orchestrion.interfaces.web.events import Events
from orchestrion.interfaces.web.problems import MEDIA, refusals
from orchestrion.interfaces.web.routing import At
from orchestrion.interfaces.web.tasks import Limit

router = APIRouter(prefix="/api/v1", tags=["operate"], responses=refusals())

_SEEN = refusals(304, 404)


_UNHEALTHY = {
    "description": "something is unhealthy, or the store cannot be asked",
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/Health"}},
        MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}},
    },
}


@router.get("/health", response_model=shapes.Health, responses={**refusals(), 503: _UNHEALTHY})
async def health(at: At, response: Response) -> Any:
    """Every part, measured now; runs and tasks that wait or are stuck. 503 if something is unhealthy."""
    found = await at.do(lambda cases: cases.health(closing=at.house.closing))
    response.headers["Cache-Control"] = "no-store"
    if not found["healthy"]:
        response.status_code = 503
    return found


@router.get("/status", response_model=shapes.Status, responses=_SEEN)
async def status(at: At) -> Any:
    """Where everything stands: tasks by state, active runs, limits, plans, what needs a person."""
    return await at.do(lambda cases: cases.status())


@router.get("/metrics/stats", response_model=shapes.Stats, responses=_SEEN)
async def stats(
    at: At,
    since: Annotated[str | None, Query(description="A time, or an age: 24h, 7d.", max_length=60)] = None,
    agent: str | None = None,
    role: str | None = None,
    plan: str | None = None,
) -> Any:
    """Success, durations, queue wait, tokens and cost: of all runs, and by agent, role and plan."""
    asked = {"since": since, "agent": agent, "role": role, "plan": plan}
    return await at.do(lambda cases: cases.stats(**asked))


@router.get("/metrics/service-levels", response_model=shapes.ServiceLevels, responses=refusals())
async def service_levels(
    at: At, since: Annotated[str, Query(description="A time, or an age: 24h, 7d.", max_length=60)] = "7d"
) -> Any:
    """How long tasks of each role took from ready to completed, against `alerts.sla`; how many open ones are late."""
    return await at.do(lambda cases: cases.service_levels(since=since))


@router.post("/pause", response_model=shapes.Paused, responses=refusals(409))
async def pause(at: At) -> Any:
    """Workers claim nothing any more; runs go on."""
    await at.do(lambda cases: cases.pause())
    return shapes.Paused(paused=True)


@router.post("/resume", response_model=shapes.Resumed, responses=refusals(409))
async def resume(at: At, asked: bodies.Resume | None = None) -> Any:
    """Workers claim again; with `agent` the breaker of that agent is closed instead."""
    agent = asked.agent if asked else None
    was_open = await at.do(lambda cases: cases.resume(agent))
    found = await at.do(lambda cases: cases.status()["paused_at"])
    return shapes.Resumed(paused=found is not None, was_open=was_open if agent else None)


@router.get("/slots", response_model=shapes.Slots, responses=_SEEN)
async def list_slots(at: At) -> Any:
    """All limits with their use."""
    return await at.do(lambda cases: {"slots": cases.slots()})


@router.patch("/slots", response_model=shapes.Slots, responses=refusals(404, 409))
async def set_slots(at: At, asked: bodies.NewSlots) -> Any:
    """Sets limits; null takes one away."""
    return await at.do(
        lambda cases: {"slots": cases.set_slots(asked.slots), "notes": cases.limits_that_return(asked.slots)}
    )


@router.get("/alerts", response_model=shapes.Alerts, responses=_SEEN)
async def alerts(at: At, unclosed: bool = False, limit: Limit = 20, cursor: str | None = None) -> Any:
    """What asks for attention, and asked for it before, the latest first."""
    return await at.do(lambda cases: cases.alerts(unclosed=unclosed, limit=limit, cursor=cursor))


@router.get("/permissions", response_model=shapes.Permissions, responses=_SEEN)
async def permissions(
    at: At, pending: bool = True, task: str | None = None, run: str | None = None, limit: Limit = 50
) -> Any:
    """What agents asked for and were denied, the latest first; `pending`: what nobody decided about yet."""
    return await at.do(lambda cases: cases.permissions(pending=pending, task=task, run=run, limit=limit))


@router.post("/permissions/{permission}/allow", response_model=shapes.Permission, responses=refusals(404, 409))
async def allow(at: At, permission: Annotated[int, Path(ge=1, le=2**53)]) -> Any:
    """The next attempts of its task may do that; a task that failed is tried again."""
    return await at.do(lambda cases: cases.allow(permission))


@router.post("/permissions/{permission}/refuse", response_model=shapes.Permission, responses=refusals(404, 409))
async def refuse(at: At, permission: Annotated[int, Path(ge=1, le=2**53)]) -> Any:
    """It stays denied, and nobody is asked again."""
    return await at.do(lambda cases: cases.refuse(permission))


@router.get("/journal", response_model=dict[str, list[shapes.Event]], responses=_SEEN)
async def journal(
    at: At,
    since: Annotated[int, Query(ge=0, le=2**62)] = 0,
    task: str | None = None,
    run: str | None = None,
    limit: Limit = 100,
) -> Any:
    """Lines of the journal after a number, oldest first."""
    asked: dict[str, Any] = {"task": task, "run": run, "limit": limit}
    return await at.do(lambda cases: {"events": cases.events(since, **asked)})


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        **refusals(),
        200: {"content": {"text/event-stream": {}}, "description": "the journal, line by line, as it grows"},
    },
)
async def events(
    at: At,
    request: Request,
    since: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """The journal as server-sent events. `since` or `Last-Event-ID` replays what came after that line."""
    start = _place(last_event_id) if last_event_id else since
    streams: Events = request.app.state.events
    return await streams.stream(at.caller, start, request)


def _place(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise InvalidInput(
            f"Last-Event-ID {text[:60]!r} is not the number of a line", hint="leave it out", code="invalid_event_id"
        )
    return int(text)
