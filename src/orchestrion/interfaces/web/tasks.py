"""Routes about tasks: find, make, change, take and decide; the graph and its edges, gates and plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from orchestrion.core.model import moment
from orchestrion.interfaces.web import asked as bodies
from orchestrion.interfaces.web import shapes
from orchestrion.interfaces.web.problems import refusals
from orchestrion.interfaces.web.routing import At
from orchestrion.orchestrator.finding import SEARCH_LIMIT

router = APIRouter(prefix="/api/v1", tags=["tasks"], responses=refusals())

Limit = Annotated[int, Query(ge=1, le=1000)]
_ONE = refusals(404)
_ACT = refusals(404, 409)
#: How the file of a plan is called, by its format; its reader goes by the name.
_FILES = {"yaml": "plan.yaml", "json": "plan.json", "markdown": "plan.md"}


@router.get("/tasks", response_model=shapes.TaskPage, responses=refusals(304, 404))
async def list_tasks(
    at: At,
    state: Annotated[list[shapes.State], Query()] = [],  # noqa: B006 - the framework reads it
    role: str | None = None,
    parent: str | None = None,
    plan: str | None = None,
    tag: str | None = None,
    type: str | None = None,  # noqa: A002 - the field's name
    search: Annotated[str | None, Query(max_length=SEARCH_LIMIT)] = None,
    archived: bool = False,
    limit: Limit = 20,
    cursor: str | None = None,
) -> Any:
    """Tasks, oldest first; `cursor` goes on where the last page ended."""
    filters: dict[str, Any] = {"role": role, "parent": parent, "plan": plan, "tag": tag, "type": type}
    filters |= {"search": search, "archived": archived, "limit": limit, "cursor": cursor}
    return await at.do(lambda cases: cases.list_tasks(states=state, **filters).as_json("tasks"))


@router.post("/tasks", response_model=shapes.Task, status_code=201, responses=refusals(404, 409))
async def add_task(at: At, new: bodies.NewTask, response: Response) -> Any:
    """Makes a task."""
    given = _values(new.given())
    waits = {key: given.pop(key, ()) for key in ("after", "after_failure", "soft_after", "data_after")}
    made = await at.do(lambda cases: cases.add(given.pop("title"), **waits, **given).as_json())
    response.headers["Location"] = f"/api/v1/tasks/{made['id']}"
    return made


@router.get("/tasks/{task}", response_model=shapes.TaskDetail, responses=refusals(304, 404))
async def show_task(at: At, task: str, response: Response) -> Any:
    """A task with its edges, gates, runs and artifacts. `ETag` is for a change that is not to overwrite another."""
    detail, version = await at.do(lambda cases: cases.versioned(task))
    response.headers["ETag"] = f'"{version}"'
    return detail


@router.patch("/tasks/{task}", response_model=shapes.Task, responses=refusals(404, 409, 412))
async def change_task(
    at: At, task: str, changes: bodies.Changes, if_match: Annotated[str | None, Header()] = None
) -> Any:
    """New values for a task; null clears a field. With `If-Match` only if it is still as its `ETag` said."""
    given = _values(changes.given())
    version = None if if_match in (None, "*") else str(if_match).removeprefix("W/").strip('"')
    return await at.do(lambda cases: cases.update(task, version=version, **given).as_json())


@router.delete("/tasks/{task}", response_model=shapes.Task, responses=_ACT)
async def delete_task(at: At, task: str) -> Any:
    """Removes a task that was never tried and that nothing refers to; it, as it was."""
    return await at.do(lambda cases: cases.delete(task).as_json())


@router.get("/tasks/{task}/why", response_model=shapes.Why, responses=refusals(304, 404))
async def why(at: At, task: str) -> Any:
    """Why a task is not running."""
    return await at.do(lambda cases: cases.why(task))


@router.post("/tasks/{task}/claim", response_model=shapes.Claim, responses=_ACT)
async def claim(at: At, task: str, asked: bodies.NewClaim | None = None) -> Any:
    """Takes a task and gives its brief; whoever took it renews and reports the run that is named."""
    given = asked.given() if asked else {}
    return await at.do(lambda cases: cases.claim(task, **given))


@router.post("/tasks/{task}/cancel", response_model=shapes.Task, responses=_ACT)
async def cancel(at: At, task: str, asked: bodies.Cancel) -> Any:
    """Nobody wants the task any more; its children neither."""
    act = lambda cases: cases.cancel(task, asked.reason, dependents=asked.dependents).as_json()  # noqa: E731
    return await at.do(act)


@router.post("/tasks/{task}/retry", response_model=shapes.Task, responses=_ACT)
async def retry(at: At, task: str, asked: bodies.Retry | None = None) -> Any:
    """A failed task gets all its attempts again."""
    resume = (asked or bodies.Retry()).resume
    return await at.do(lambda cases: cases.retry(task, resume=resume).as_json())


@router.post("/tasks/{task}/reopen", response_model=shapes.Task, responses=_ACT)
async def reopen(at: At, task: str, asked: bodies.Because) -> Any:
    """A completed task is to be done again."""
    return await at.do(lambda cases: cases.reopen(task, asked.reason).as_json())


@router.post("/tasks/{task}/approve", response_model=shapes.Approved, responses=_ACT)
async def approve(at: At, task: str) -> Any:
    """Accepts work in review: it is merged into the plan, then the task is completed."""
    return await at.do(lambda cases: cases.approve(task))


@router.post("/tasks/{task}/reject", response_model=shapes.Task, responses=_ACT)
async def reject(at: At, task: str, asked: bodies.Because) -> Any:
    """Work in review goes back; the reason stands in the next brief."""
    return await at.do(lambda cases: cases.reject(task, asked.reason).as_json())


@router.post("/tasks/{task}/archive", response_model=shapes.Task, responses=_ACT)
async def archive(at: At, task: str) -> Any:
    """Takes a settled task out of the lists."""
    return await at.do(lambda cases: cases.archive(task).as_json())


@router.post("/tasks/{task}/move", response_model=shapes.Task, responses=_ACT)
async def move(at: At, task: str, asked: bodies.Move) -> Any:
    """Puts a task, with all below it, under another parent."""
    return await at.do(lambda cases: cases.move(task, asked.parent).as_json())


@router.post("/tasks/{task}/edges", response_model=shapes.Task, responses=_ACT)
async def add_edge(at: At, task: str, asked: bodies.NewEdge) -> Any:
    """The task waits for another from now on."""
    return await at.do(lambda cases: cases.add_dependency(task, asked.on, asked.kind).as_json())


@router.delete("/tasks/{task}/edges/{on}", response_model=shapes.Task, responses=_ACT)
async def remove_edge(at: At, task: str, on: str) -> Any:
    """The task no longer waits for another."""
    return await at.do(lambda cases: cases.remove_dependency(task, on).as_json())


@router.post("/tasks/{task}/edges/{on}/waive", response_model=shapes.Task, responses=_ACT)
async def waive_edge(at: At, task: str, on: str, asked: bodies.Because) -> Any:
    """The wait no longer binds, and why."""
    return await at.do(lambda cases: cases.waive_dependency(task, on, asked.reason).as_json())


@router.post("/tasks/{task}/gates", response_model=shapes.Task, responses=_ACT)
async def add_gate(at: At, task: str, asked: bodies.NewGate) -> Any:
    """The task waits for a moment, an approval, an answer or a fact outside."""
    opens = moment(asked.opens_at) if asked.opens_at else None
    act = lambda cases: cases.add_gate(task, asked.kind, called=asked.name, opens_at=opens).as_json()  # noqa: E731
    return await at.do(act)


@router.post("/gates/{gate}/open", response_model=shapes.Task, responses=_ACT)
async def open_gate(at: At, gate: str, asked: bodies.Opening | None = None) -> Any:
    """Opens a gate (`G3`), or the one gate that a task waits for; `refuse` decides against it."""
    given = asked or bodies.Opening()
    act = lambda cases: cases.open_gate(gate, answer=given.answer, refuse=given.refuse).as_json()  # noqa: E731
    return await at.do(act)


@router.post("/plans", response_model=shapes.Applied, responses=_ACT)
async def apply_plan(at: At, new: bodies.NewPlan) -> Any:
    """A plan file becomes tasks, all or nothing. With `dry_run` nothing is kept."""
    text, file = new.text.encode("utf-8", "replace"), _FILES[new.format]
    return await at.do(lambda cases: cases.apply(text, file, dry_run=new.dry_run))


@router.get("/ready", response_model=shapes.TaskPage, responses=refusals(304))
async def ready(at: At, limit: Limit = 20) -> Any:
    """Tasks that may be claimed, in the order in which they will be."""
    return await at.do(lambda cases: cases.ready(limit).as_json("tasks"))


@router.get("/graph", response_model=shapes.Graph, responses=refusals(304, 404))
async def graph(at: At, plan: str | None = None) -> Any:
    """The graph with what it allows: groups, critical path, speed-up, dead ends."""
    return await at.do(lambda cases: cases.graph(plan, "json"))


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a request as the use cases name them."""
    values = dict(given)
    if "run" in values:
        values["command"] = values.pop("run")
    if values.get("due_at") is not None:
        values["due_at"] = moment(values["due_at"])
    for field in ("checks", "needs", "tags"):
        if values.get(field) is not None:
            values[field] = tuple(values[field])
    return values
