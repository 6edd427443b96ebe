"""The views: each asks use cases for what it shows and fills a template. None of them changes anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.interfaces.page import board, charts, deeds, graph, patch, timeline, transcript
from orchestrion.interfaces.page.door import House, PageRoute, caller_of
from orchestrion.interfaces.page.sheet import filled
from orchestrion.orchestrator import Orchestrator

#: So many lines of a history, and files of a run, are shown.
HISTORY, FILES = 200, 300
#: The board names so many alerts; the view of health has them all.
ALERTS = 3
#: A list grows by so many.
STEP, MOST = 100, 1000


def routes(house: House) -> APIRouter:
    """All views."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    _overviews(router, house)
    _things(router, house)
    _records(router, house)
    return router


async def _show(house: House, request: Request, template: str, view: str, find: Any) -> Response:
    """A view: ``find`` asks the use cases, in a thread; where the journal ends is asked first, so nothing is missed."""

    def look() -> dict[str, Any]:
        last = house.cases.last_event()
        return {"last_event": last, "project": house.cases.store.project_name, **find(house.cases)}

    found = await house.do(look)
    return filled(request, template, view=view, **found)


def _overviews(router: APIRouter, house: House) -> None:
    @router.get("/")
    async def show_board(request: Request) -> Response:
        asked = _asked(request, "q", "plan", "role")
        may_act = caller_of(request).role != "read"

        def find(cases: Orchestrator) -> dict[str, Any]:
            shown = {name: _bounded(request, f"n_{name}", 20, board.MOST) for name in board.HEADINGS}
            found = cases.board(search=asked["q"], plan=asked["plan"], role=asked["role"], shown=shown)
            return {
                "board": found,
                "columns": board.columns(found, may_act),
                "alerts": cases.alerts(unclosed=True, limit=ALERTS),
                "asked": asked,
            }

        return await _show(house, request, "board.html", "/", find)

    @router.get("/graph")
    async def show_graph(request: Request) -> Response:
        asked = _asked(request, "q", "plan")

        def find(cases: Orchestrator) -> dict[str, Any]:
            whole = cases.graph(asked["plan"] or None, "json")
            standing = cases.status()
            assert isinstance(whole, Mapping)
            titles = {task["id"]: task for task in whole["tasks"]}
            return {
                "asked": asked,
                "picture": graph.picture(whole, standing["runs"], asked["q"]),
                "path": [titles[one] for one in whole["critical_path"]][: graph.DRAWN],
                "speed_up": whole["speed_up"],
                "left": sum(map(len, whole["parallel_groups"])),
                "dead_ends": whole["dead_ends"],
                "plans": [one["plan"] for one in standing["plans"]],
                "total": len(whole["tasks"]),
            }

        return await _show(house, request, "graph.html", "/graph", find)

    @router.get("/timeline")
    async def show_timeline(request: Request) -> Response:
        asked = {**_asked(request, "q", "plan", "agent"), "since": request.query_params.get("since") or "6h"}

        def find(cases: Orchestrator) -> dict[str, Any]:
            found = cases.timeline(
                since=asked["since"], plan=asked["plan"], agent=asked["agent"], search=asked["q"], limit=300
            )
            return {
                "asked": asked,
                "found": found,
                "lanes": timeline.lanes(found),
                "axis": timeline.axis(found),
                "spans": timeline.SPANS,
            }

        return await _show(house, request, "timeline.html", "/timeline", find)

    @router.get("/stats")
    async def show_stats(request: Request) -> Response:
        asked = {**_asked(request, "plan"), "since": request.query_params.get("since") or "7d"}

        def find(cases: Orchestrator) -> dict[str, Any]:
            plan = asked["plan"] or None
            return {
                "asked": asked,
                "stats": cases.stats(since=asked["since"], plan=plan),
                "series": charts.series(cases.trend(since=asked["since"], plan=plan)),
                "plans": [one["plan"] for one in cases.status()["plans"]],
                "spans": timeline.SPANS,
                "widest": charts.widest,
            }

        return await _show(house, request, "stats.html", "/stats", find)

    @router.get("/health")
    async def show_health(request: Request) -> Response:
        def find(cases: Orchestrator) -> dict[str, Any]:
            return {"health": cases.health(), "limits": cases.limits_in_force(), "alerts": cases.alerts(limit=20)}

        return await _show(house, request, "health.html", "/health", find)


def _things(router: APIRouter, house: House) -> None:
    @router.get("/tasks/{task}")
    async def show_task(request: Request, task: str) -> Response:
        may_act = caller_of(request).role != "read"

        def find(cases: Orchestrator) -> dict[str, Any]:
            found = cases.show(_named(task, "T"))
            return {
                "task": found,
                "why": cases.why(task)["reasons"],
                "related": _related(cases, found),
                "brief": cases.brief_of_task(task),
                "decisions": cases.decisions(task=task, limit=50)["decisions"],
                "files": cases.task_files(task),
                "history": cases.events(task=task, limit=HISTORY),
                "buttons": _task_buttons(found) if may_act else [],
            }

        return await _show(house, request, "task.html", "", find)

    @router.get("/runs/{run}")
    async def show_run(request: Request, run: str) -> Response:
        may_act = caller_of(request).role != "read"

        def find(cases: Orchestrator) -> dict[str, Any]:
            found = cases.run_detail(_named(run, "R"))
            task = cases.task(found["task"]).as_json()
            page = cases.log_tail(run)
            active = found["ended_at"] is None
            return {
                "run": found,
                "task": task,
                "files": cases.files_of(run)[:FILES],
                "log": page,
                "entries": transcript.entries(page["lines"], plain=page["plain"]),
                "buttons": _run_buttons(found, task, active) if may_act else [],
                "active": active,
            }

        return await _show(house, request, "run.html", "", find)

    @router.get("/runs/{run}/log")
    async def show_log(request: Request, run: str) -> Response:
        offset = _bounded(request, "from", 0, 2**53, least=0)
        page = await house.do(lambda: house.cases.log_tail(_named(run, "R"), offset))
        found = transcript.entries(page["lines"], plain=page["plain"])
        return filled(request, "log.html", log=page, entries=found)

    @router.get("/runs/{run}/diff")
    async def show_diff(request: Request, run: str) -> Response:
        def find() -> str | None:
            try:
                return house.cases.diff(_named(run, "R"))
            except NotFound as problem:
                if problem.code != "no_commits":
                    raise
                return None

        diff = await house.do(find)
        found = None if diff is None else patch.files(diff)
        return filled(
            request, "diff.html", files=None if found is None else found[: patch.MOST_FILES], total=len(found or ())
        )

    @router.get("/artifacts/{artifact}")
    async def show_artifact(request: Request, artifact: str) -> Response:
        offset = _bounded(request, "from", 0, 2**53, least=0)
        return await _show(
            house,
            request,
            "artifact.html",
            "",
            lambda cases: {"artifact": cases.artifact(_named(artifact, "A"), offset), "name": artifact},
        )


def _records(router: APIRouter, house: House) -> None:
    @router.get("/decisions")
    async def show_decisions(request: Request) -> Response:
        asked = _asked(request, "q", "status", "impact")

        def find(cases: Orchestrator) -> dict[str, Any]:
            limit = _bounded(request, "n", STEP, MOST)
            found = cases.decisions(
                asked["q"] or None, status=asked["status"] or None, impact=asked["impact"] or None, limit=limit
            )
            return {"asked": asked, "found": found, "limit": limit}

        return await _show(house, request, "decisions.html", "/decisions", find)

    @router.get("/decisions/{decision}")
    async def show_decision(request: Request, decision: str) -> Response:
        return await _show(
            house,
            request,
            "decision.html",
            "/decisions",
            lambda cases: {"decision": cases.decision(_named(decision, "D"))},
        )

    @router.get("/files")
    async def show_files(request: Request) -> Response:
        asked = _asked(request, "q")

        def find(cases: Orchestrator) -> dict[str, Any]:
            limit = _bounded(request, "n", STEP, MOST)
            return {"asked": asked, "found": cases.touched_files(search=asked["q"], limit=limit), "limit": limit}

        return await _show(house, request, "files.html", "/files", find)

    @router.get("/search")
    async def search(request: Request) -> Response:
        """Things that answer the search of the bar, as JSON for its list."""
        text = request.query_params.get("q", "").strip()
        found = await house.do(lambda: _search(house.cases, text)) if text else []
        return JSONResponse({"results": found}, headers={"Cache-Control": "no-store"})


def _search(cases: Orchestrator, text: str) -> list[dict[str, str]]:
    board_ = cases.board(search=text, shown=dict.fromkeys(board.HEADINGS, 6))
    tasks = [task for column in board_["columns"].values() for task in column["tasks"]][:12]
    made = cases.decisions(text, limit=6)["decisions"]
    return [
        *(
            {"path": f"/tasks/{one['id']}", "id": one["id"], "title": one["title"], "state": one["state"]}
            for one in tasks
        ),
        *(
            {"path": f"/decisions/{one['id']}", "id": one["id"], "title": one["title"], "state": one["status"]}
            for one in made
        ),
    ]


def _related(cases: Orchestrator, task: Mapping[str, Any]) -> dict[str, Any]:
    """Titles and states of the tasks that a task names."""
    named = [task["parent"], *task["children"][:50], *task["dependents"][:50]]
    named += [edge["on"] for edge in task["edges"] if edge["on"].startswith("T")][:100]
    return {one: cases.task(one).as_json() for one in dict.fromkeys(named) if one}


def _task_buttons(task: Mapping[str, Any]) -> list[deeds.Button]:
    gates = [gate for gate in task["gates"] if gate["state"] == "open"]
    supervised = any(run["supervised"] for run in task["runs"] if run["id"] == task["run"])
    return deeds.for_task(task["id"], task["state"], gates, task["run"], supervised=supervised)


def _run_buttons(run: Mapping[str, Any], task: Mapping[str, Any], active: bool) -> list[deeds.Button]:
    if active:
        return deeds.for_run(run["id"], supervised=run["supervised"])
    return [one for one in deeds.for_task(task["id"], task["state"]) if task["state"] in ("failed", "review")]


def _asked(request: Request, *names: str) -> dict[str, str]:
    """Filters of a view; an absent one is empty."""
    return {name: request.query_params.get(name, "").strip()[:200] for name in names}


def _bounded(request: Request, name: str, usual: int, most: int, *, least: int = 1) -> int:
    text = request.query_params.get(name) or str(usual)
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise InvalidInput(f"{name} is not a number: {text[:40]!r}", hint=f"for example {usual}", code="invalid_number")
    return max(least, min(most, int(text)))


def _named(thing: str, letter: str) -> str:
    """The name of a thing of this kind. Raises NotFound: an address that names nothing is no bad input."""
    digits = thing[1:]
    if thing[:1].upper() != letter or not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise NotFound(f"there is nothing called {thing[:40]!r}", hint="look for it with /", code="not_found")
    return thing.upper()
