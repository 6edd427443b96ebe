"""``/metrics`` in the text format of Prometheus, and the two questions of whoever keeps a server alive.

``/livez``: somebody answers. ``/readyz``: work can be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psutil
from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from orchestrion.core.errors import OrchestrionError
from orchestrion.core.states import ACTIVE_RUN
from orchestrion.interfaces.web.house import BOUNDS, House
from orchestrion.interfaces.web.problems import Json
from orchestrion.interfaces.web.routing import At

router = APIRouter(include_in_schema=False)

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
#: A sample: its labels and its value.
Sample = tuple[Mapping[str, Any], float]


@router.get("/livez")
async def livez() -> Response:
    """Somebody answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether work can be done; 503 with why not."""
    house: House = request.app.state.house
    try:
        found = await house.do_once("health", lambda: house.cases.health(closing=house.closing))
    except OrchestrionError as problem:
        found = {"ready": False, "not_ready": [problem.message]}
    return Json({"ready": found["ready"], "not_ready": found["not_ready"]}, 200 if found["ready"] else 503)


@router.get("/metrics")
async def metrics(at: At, request: Request) -> Response:
    """Numbers for a monitor."""
    found = await at.do(lambda cases: cases.measures())
    lines = [*_of_project(found), *_of_server(at.house, request.app.state.events.open)]
    return PlainTextResponse("\n".join(lines) + "\n", media_type=MEDIA)


def _of_project(found: Mapping[str, Any]) -> Iterator[str]:
    parts = found["health"]["components"]
    queue, store = parts.get("queue", {}), parts.get("store", {})
    levels = {"healthy": 2, "degraded": 1, "unhealthy": 0}
    wellness = [({"component": part}, levels[one["status"]]) for part, one in parts.items()]
    yield from _gauge("component_health", "2 healthy, 1 degraded, 0 unhealthy", wellness)
    yield from _gauge("ready", "Whether work can be done", [({}, found["health"]["ready"])])
    yield from _gauge("tasks", "Tasks by state", [({"state": s}, n) for s, n in queue.get("tasks", {}).items()])
    is_told = "oldest_ready_s" in queue
    waits: list[Sample] = [({}, queue["oldest_ready_s"] or 0)] if is_told else []
    yield from _gauge("tasks_ready_oldest_seconds", "How long the oldest ready task waits", waits)
    paused: list[Sample] = [({}, queue["paused_at"] is not None)] if is_told else []
    yield from _gauge("paused", "Whether the queue is paused", paused)
    slots = queue.get("slots", [])
    yield from _gauge("slots_used", "Runs in each limit", [({"slot": one["name"]}, one["used"]) for one in slots])
    yield from _gauge(
        "slots_capacity", "Room of each limit", [({"slot": one["name"]}, one["capacity"]) for one in slots]
    )
    stands = found["health"].get("runs", {})
    counted = [({"status": s}, stands.get(s, 0)) for s in ("working", "waiting", "silent", "stuck")]
    yield from _gauge("runs_active", "Active runs by how they stand", counted)
    yield from _gauge("workers", "Workers that are alive", [({}, parts.get("workers", {}).get("alive", 0))])
    broken = parts.get("breakers", {}).get("breakers", [])
    yield from _gauge("breaker_open", "Breakers that are not closed", [({"agent": one["agent"]}, 1) for one in broken])
    yield from _gauge("alerts", "Open alerts by rule", [({"rule": rule}, n) for rule, n in found["alerts"].items()])
    yield from _of_roles(found["levels"])
    for what in ("read", "write"):
        yield from _gauge(
            f"store_{what}_seconds", f"How long the store took to {what}", [({}, store.get(f"{what}_ms", 0) / 1000)]
        )
    yield from _gauge("store_bytes", "Size of the database", [({}, store.get("bytes", 0))])
    free = parts.get("disk", {}).get("free_bytes", {})
    yield from _gauge("disk_free_bytes", "Free space", [({"for": what}, n) for what, n in free.items()])
    yield from _of_runs(found["runs"])
    yield from _counter("journal_lines", "Number of the journal's last line", [({}, found["journal"])])


def _of_roles(levels: list[Mapping[str, Any]]) -> Iterator[str]:
    late = [({"role": one["role"]}, one["late"]) for one in levels]
    yield from _gauge("tasks_late", "Open tasks that are beyond what their role is allowed", late)
    for key, said in (("p50", "Median"), ("p95", "95th percentile")):
        took = [({"role": one["role"]}, one[f"{key}_s"]) for one in levels if one[f"{key}_s"] is not None]
        yield from _gauge(f"ready_to_completed_{key}_seconds", f"{said} from ready to completed in 7 days", took)


def _of_runs(found: list[Mapping[str, Any]]) -> Iterator[str]:
    # An active run leaves its state again, and a counter never falls.
    rows = [row for row in found if row["state"] not in ACTIVE_RUN]
    for key, called, said in (
        ("total", "runs", "Ended runs by agent and state"),
        ("usd", "cost_usd", "What ended runs cost, as far as known"),
        ("input", "tokens_input", "Tokens that ended runs read"),
        ("output", "tokens_output", "Tokens that ended runs wrote"),
    ):
        yield from _counter(called, said, [({"agent": r["agent"], "state": r["state"]}, r[key]) for r in rows])
    seconds = [({"agent": r["agent"], "state": r["state"]}, r["ms"] / 1000) for r in rows]
    yield from _counter("run_seconds", "How long ended runs lasted", seconds)


def _of_server(house: House, streams: int) -> Iterator[str]:
    answers = house.answers
    counted = [({"method": method, "status": status}, n) for (method, status), n in sorted(answers.by_status.items())]
    yield from _counter("http_requests", "Answers by method and status", counted)
    yield "# HELP orchestrion_http_request_seconds How long answers took"
    yield "# TYPE orchestrion_http_request_seconds histogram"
    for bound in BOUNDS:
        yield f'orchestrion_http_request_seconds_bucket{{le="{bound:g}"}} {answers.within[bound]}'
    yield f'orchestrion_http_request_seconds_bucket{{le="+Inf"}} {answers.total}'
    yield f"orchestrion_http_request_seconds_sum {answers.seconds:.6f}"
    yield f"orchestrion_http_request_seconds_count {answers.total}"
    yield from _gauge("event_streams", "Streams that are open", [({}, streams)])
    process = psutil.Process()
    yield from _gauge("process_resident_bytes", "Memory of the server", [({}, process.memory_info().rss)])
    yield from _gauge("process_start_seconds", "When the server began, since 1970", [({}, house.started_at)])


def _gauge(name: str, said: str, samples: Iterable[Sample]) -> Iterator[str]:
    return _family(f"orchestrion_{name}", "gauge", said, samples)


def _counter(name: str, said: str, samples: Iterable[Sample]) -> Iterator[str]:
    return _family(f"orchestrion_{name}_total", "counter", said, samples)


def _family(name: str, kind: str, said: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {said}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        marked = ",".join(f'{key}="{_escaped(str(one))}"' for key, one in labels.items())
        yield f"{name}{{{marked}}} {float(value)!r}" if marked else f"{name} {float(value)!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
