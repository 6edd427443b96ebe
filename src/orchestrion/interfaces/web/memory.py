"""Routes about what outlives a session: decisions, files, sessions, roles, stored results, search."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from orchestrion.interfaces.web import asked as bodies
from orchestrion.interfaces.web import shapes
from orchestrion.interfaces.web.problems import refusals
from orchestrion.interfaces.web.routing import At
from orchestrion.interfaces.web.tasks import Limit
from orchestrion.orchestrator.finding import SEARCH_LIMIT

router = APIRouter(prefix="/api/v1", tags=["memory"], responses=refusals())

_SEEN = refusals(304, 404)


@router.get("/decisions", response_model=shapes.DecisionPage, responses=_SEEN)
async def list_decisions(
    at: At,
    search: Annotated[str | None, Query(max_length=SEARCH_LIMIT)] = None,
    category: str | None = None,
    impact: Literal["low", "medium", "high", "critical"] | None = None,
    file: Annotated[str | None, Query(max_length=4096)] = None,
    status: Literal["proposed", "accepted", "implemented", "superseded", "rejected"] | None = None,
    task: str | None = None,
    session: str | None = None,
    limit: Limit = 20,
    cursor: str | None = None,
) -> Any:
    """Decisions, newest first, that have all that is asked for."""
    asked: dict[str, Any] = {"category": category, "impact": impact, "file": file, "status": status, "task": task}
    asked |= {"session": session, "limit": limit, "cursor": cursor}
    return await at.do(lambda cases: cases.decisions(search, **asked))


@router.post("/decisions", response_model=shapes.Decision, status_code=201, responses=refusals(404, 409))
async def decide(at: At, new: bodies.NewDecision, response: Response) -> Any:
    """Records a decision."""
    given = new.given()
    made = await at.do(lambda cases: cases.decide(given.pop("title"), **given))
    response.headers["Location"] = f"/api/v1/decisions/{made['id']}"
    return made


@router.get("/decisions/{decision}", response_model=shapes.Decision, responses=_SEEN)
async def show_decision(at: At, decision: str) -> Any:
    """A decision, the chain it goes back to, and what changed it."""
    return await at.do(lambda cases: cases.decision(decision))


@router.get("/files", response_model=shapes.Files, responses=_SEEN)
async def files(at: At, task: str | None = None, run: str | None = None) -> Any:
    """Files that a task or a run changed, and where runs are at the same file."""
    return await at.do(lambda cases: _files(cases, task, run))


def _files(cases: Any, task: str | None, run: str | None) -> dict[str, Any]:
    found = list(cases.files_of(run)) if run else []
    if task:
        found += cases.task_files(task)["files"]
    return {"files": found, "overlaps": cases.overlaps()}


@router.get("/sessions", response_model=shapes.SessionPage, responses=_SEEN)
async def list_sessions(at: At, ended: bool = False, limit: Limit = 20) -> Any:
    """Sessions, those seen last first."""
    return await at.do(lambda cases: cases.list_sessions(ended, limit))


@router.get("/sessions/{session}", response_model=shapes.Session, responses=_SEEN)
async def show_session(at: At, session: str) -> Any:
    """A session with the tasks it had to do with."""
    return await at.do(lambda cases: cases.session_detail(session))


@router.get("/roles", response_model=shapes.Roles, responses=_SEEN)
async def list_roles(at: At) -> Any:
    """All roles that a task can have."""
    return await at.do(lambda cases: {"roles": cases.roles()})


@router.get("/artifacts/{artifact}", response_model=dict[str, Any], responses=_SEEN)
async def show_artifact(at: At, artifact: str, offset: Annotated[int, Query(ge=0, le=2**53)] = 0) -> Any:
    """A page of a stored result."""
    return await at.do(lambda cases: cases.artifact(artifact, offset))


@router.get("/search", response_model=dict[str, Any], responses=_SEEN)
async def search(at: At, text: Annotated[str, Query(min_length=1, max_length=SEARCH_LIMIT)], limit: Limit = 20) -> Any:
    """Decisions, tasks, stored results and handoffs that have these words."""
    return await at.do(lambda cases: cases.search(text, limit=limit))
