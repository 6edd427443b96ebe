"""The views: each reads what was asked, and fills a template with what use cases say. None of them changes anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.core.values import name, number_named
from orchestrion.interfaces.page import board, contents
from orchestrion.interfaces.page.door import PageRoute, caller_of
from orchestrion.interfaces.page.sheet import filled
from orchestrion.interfaces.web.house import House
from orchestrion.orchestrator import Orchestrator

#: A list grows by so many.
STEP, MOST = 100, 1000


def routes(house: House) -> APIRouter:
    """All views."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    _overviews(router, house)
    _things(router, house)
    _records(router, house)
    return router


async def _show(
    house: House, request: Request, template: str, view: str, find: Callable[[Orchestrator], dict[str, Any]]
) -> Response:
    """A view: ``find`` asks the use cases, in a thread; where the journal ends is asked first, so nothing is missed."""

    cases = house.on_behalf_of(caller_of(request))

    def look() -> dict[str, Any]:
        last = cases.last_event()
        return {"last_event": last, "project": cases.store.project_name, **find(cases)}

    found = await house.do(look)
    return filled(request, template, view=view, **found)


def _overviews(router: APIRouter, house: House) -> None:
    @router.get("/")
    async def show_board(request: Request) -> Response:
        asked = _asked(request, "q", "plan", "role")
        shown = {name: _bounded(request, f"n_{name}", 20, board.MOST) for name in board.HEADINGS}
        may_act = _may_act(request)
        return await _show(
            house, request, "board.html", "/", lambda cases: contents.of_board(cases, asked, shown, may_act)
        )

    @router.get("/graph")
    async def show_graph(request: Request) -> Response:
        asked = _asked(request, "q", "plan")
        return await _show(house, request, "graph.html", "/graph", lambda cases: contents.of_graph(cases, asked))

    @router.get("/timeline")
    async def show_timeline(request: Request) -> Response:
        asked = _asked(request, "q", "plan", "agent", since="6h")
        return await _show(
            house, request, "timeline.html", "/timeline", lambda cases: contents.of_timeline(cases, asked)
        )

    @router.get("/stats")
    async def show_stats(request: Request) -> Response:
        asked = _asked(request, "plan", since="7d")
        return await _show(house, request, "stats.html", "/stats", lambda cases: contents.of_statistics(cases, asked))

    @router.get("/health")
    async def show_health(request: Request) -> Response:
        return await _show(house, request, "health.html", "/health", contents.of_health)


def _things(router: APIRouter, house: House) -> None:
    @router.get("/tasks/{task}")
    async def show_task(request: Request, task: str) -> Response:
        name, may_act = _named(task, "T"), _may_act(request)
        return await _show(house, request, "task.html", "", lambda cases: contents.of_task(cases, name, may_act))

    @router.get("/runs/{run}")
    async def show_run(request: Request, run: str) -> Response:
        name, may_act = _named(run, "R"), _may_act(request)
        return await _show(house, request, "run.html", "", lambda cases: contents.of_run(cases, name, may_act))

    @router.get("/runs/{run}/log")
    async def show_log(request: Request, run: str) -> Response:
        name, offset = _named(run, "R"), _bounded(request, "from", 0, 2**53, least=0)
        return filled(request, "log.html", **await house.do(lambda: contents.of_log(house.cases, name, offset)))

    @router.get("/runs/{run}/diff")
    async def show_diff(request: Request, run: str) -> Response:
        name, skip = _named(run, "R"), _bounded(request, "skip", 0, 2**53, least=0)
        async with house.diffs.one():
            return await house.do(lambda: filled(request, "diff.html", **contents.of_diff(house.cases, name, skip)))

    @router.get("/artifacts/{artifact}")
    async def show_artifact(request: Request, artifact: str) -> Response:
        name, offset = _named(artifact, "A"), _bounded(request, "from", 0, 2**53, least=0)
        return await _show(
            house,
            request,
            "artifact.html",
            "",
            lambda cases: {"artifact": cases.artifact(name, offset), "name": name},
        )


def _records(router: APIRouter, house: House) -> None:
    @router.get("/decisions")
    async def show_decisions(request: Request) -> Response:
        asked, limit = _asked(request, "q", "status", "impact"), _bounded(request, "n", STEP, MOST)
        return await _show(
            house,
            request,
            "decisions.html",
            "/decisions",
            lambda cases: contents.of_decisions(cases, asked, limit),
        )

    @router.get("/decisions/{decision}")
    async def show_decision(request: Request, decision: str) -> Response:
        name = _named(decision, "D")
        return await _show(
            house, request, "decision.html", "/decisions", lambda cases: contents.of_decision(cases, name)
        )

    @router.get("/files")
    async def show_files(request: Request) -> Response:
        asked, limit = _asked(request, "q"), _bounded(request, "n", STEP, MOST)

        def find(cases: Orchestrator) -> dict[str, Any]:
            return {"asked": asked, "found": cases.touched_files(search=asked["q"], limit=limit), "limit": limit}

        return await _show(house, request, "files.html", "/files", find)

    @router.get("/search")
    async def search(request: Request) -> Response:
        """Things that answer the search of the bar, as JSON for its list."""
        text = _asked(request, "q")["q"]
        found = await house.do(lambda: contents.of_search(house.cases, text)) if text else []
        return JSONResponse({"results": found}, headers={"Cache-Control": "no-store"})


def _may_act(request: Request) -> bool:
    return caller_of(request).may("update")


def _asked(request: Request, *names: str, since: str = "") -> dict[str, str]:
    """Filters of a view; an absent one is empty. With ``since`` there is that one too, of this usual value."""
    asked = {name: request.query_params.get(name, "").strip()[:200] for name in names}
    return {**asked, "since": request.query_params.get("since") or since} if since else asked


def _bounded(request: Request, name: str, usual: int, most: int, *, least: int = 1) -> int:
    text = request.query_params.get(name) or str(usual)
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise InvalidInput(f"{name} is not a number: {text[:40]!r}", hint=f"for example {usual}", code="invalid_number")
    return max(least, min(most, int(text)))


def _named(thing: str, letter: str) -> str:
    """The name of a thing of this kind. Raises NotFound: an address that names nothing is no bad input."""
    number = number_named(thing, letter)
    if number is None:
        raise NotFound(f"there is nothing called {thing[:40]!r}", hint="look for it with /", code="not_found")
    return name(letter, number)
