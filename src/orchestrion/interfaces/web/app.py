"""The server's program: its routes, what stands before them, and its description."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response

from orchestrion import __version__
from orchestrion.core.errors import NotFound, OrchestrionError
from orchestrion.interfaces.page import routes as page
from orchestrion.interfaces.page.door import refusal
from orchestrion.interfaces.web import login, memory, metrics, operate, problems, runs, tasks
from orchestrion.interfaces.web.events import Events
from orchestrion.interfaces.web.fresh import Fresh
from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.mcp import Mcp
from orchestrion.interfaces.web.repeats import Repeats
from orchestrion.interfaces.web.security import Guard
from orchestrion.interfaces.web.watch import Watch

TITLE = "Orchestrion"


def create_app(house: House) -> FastAPI:
    """The program that serves ``house``."""
    app = _with_routes()
    app.state.house = house
    app.state.events = Events(house)
    app.state.watch = Watch(house)
    house.stopping.append(app.state.events.stop)
    app.include_router(page.router(house), include_in_schema=False)
    _add_errors(app, house)
    # The last one stands in front.
    app.add_middleware(Fresh)
    app.add_middleware(Mcp, house=house)
    app.add_middleware(Repeats, house=house)
    app.add_middleware(Guard, house=house)
    return app


def document() -> dict[str, Any]:
    """The OpenAPI document, without a project."""
    return _described(_with_routes())


def _with_routes() -> FastAPI:
    app = FastAPI(
        title=TITLE,
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        separate_input_output_schemas=False,
        default_response_class=problems.Json,
    )
    for part in (tasks, runs, memory, operate, metrics, login):
        app.include_router(part.router)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    house: House = app.state.house
    watch: Watch = app.state.watch
    async with app.state.events:
        watch.start()
        yield
        for leave in house.leaving:
            await leave()
        await house.do(watch.stop)


def _add_errors(app: FastAPI, house: House) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        problem = problems.from_exception(error, house.environ)
        return problems.answer(problem, getattr(request.state, "correlation", ""))

    async def unknown(request: Request, error: Exception) -> Response:
        path = request.url.path
        is_of_page = request.method == "GET" and not path.startswith("/api/")
        if is_of_page and getattr(error, "status_code", 0) == 404 and "text/html" in request.headers.get("accept", ""):
            found = NotFound(f"there is no page {path[:200]}", hint="look for it with Find", code="no_page")
            return refusal(request, found)
        return await problems.from_http(request, error)

    for kind in (OrchestrionError, RequestValidationError):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(HTTPException, unknown)


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; what the framework would say of refused requests is replaced by what we answer."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes, description=_ABOUT)
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = problems.SCHEMA
        _tell_of_keys(found)
        for gone in ("HTTPValidationError", "ValidationError"):
            schemas.pop(gone, None)
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{}, {"token": []}]
        app.openapi_schema = found
    return app.openapi_schema


def _tell_of_keys(document: dict[str, Any]) -> None:
    """Every POST may have a key; the answer is then the same each time."""
    header = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[!-~]+$"},
        "description": "The request is done once, however often it is sent with this key within a day.",
    }
    problem = {"description": "it is being done, or its answer is lost", "content": {problems.MEDIA: _PROBLEM}}
    for path in document["paths"].values():
        if "post" in path:
            path["post"].setdefault("parameters", []).append(header)
            path["post"]["responses"].setdefault("409", problem)


_PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}
_ABOUT = (
    "The task graph, the runs and the memory of one project. Errors are problem details (RFC 9457) with a stable "
    "`code` and a `hint`. A POST with an `Idempotency-Key` may be sent again. Lists are bounded; `cursor` goes on."
)
