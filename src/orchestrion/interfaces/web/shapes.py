"""What answers promise, as the OpenAPI document describes it. They may have more fields than that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from orchestrion.core.states import EdgeState, Merge


def _one_of(words: Iterable[str]) -> WithJsonSchema:
    """One of these is promised; another one, which somebody wrote into the store by hand, is shown all the same."""
    return WithJsonSchema({"type": "string", "enum": list(words)})


State = Literal["pending", "ready", "in_progress", "retrying", "review", "blocked", "completed", "failed", "cancelled"]
StateShown = Annotated[str, _one_of(get_args(State))]
GateState = Annotated[str, _one_of((EdgeState.OPEN, EdgeState.MET, EdgeState.DEAD))]


class Told(BaseModel):
    """What an answer carries, at least."""

    model_config = ConfigDict(extra="allow")


# -- tasks ----------------------------------------------------------------------------------------


class Task(Told):
    """A task."""

    id: str
    key: str | None
    title: str
    description: str
    state: StateShown
    plan: str
    type: str
    role: str | None
    agent: str | None
    complexity: str
    effort_min: float | None
    priority: int
    parent: str | None
    after: list[str]
    needs: list[str]
    tags: list[str]
    run_command: str | None
    checks: list[str]
    setup: str | None
    merge: Annotated[str, _one_of(Merge)]
    timeout_s: float | None
    context: dict[str, Any]
    metadata: dict[str, Any]
    run: str | None
    result: Any
    error: str | None
    code: str | None
    attempts: int
    retries: int
    max_retries: int
    retry_delay_s: float
    retry_at: str | None
    progress: float | None
    summary: str | None
    reason: str | None
    created_at: str
    updated_at: str
    started_at: str | None
    due_at: str | None
    completed_at: str | None
    ended_at: str | None
    archived_at: str | None


class Tokens(Told):
    """Tokens of a model."""

    input: int | None
    output: int | None
    cache_read: int | None
    cache_write: int | None


class Run(Told):
    """A run."""

    id: str
    task: str
    attempt: int
    agent: str
    role: str
    state: str
    phase: str | None
    code: str | None
    reason: str | None
    awaits: str | None = Field(description="What settles it, if it is active and its supervisor died on this host.")
    supervised: bool
    host: str | None
    pid: int | None
    workspace: str | None
    branch: str | None
    base_commit: str | None
    head_commit: str | None
    session_id: str | None
    summary: str | None
    lease_until: str | None
    queued_at: str | None
    claimed_at: str
    started_at: str | None
    ended_at: str | None
    duration_s: float
    queue_wait_s: float | None
    turns: int | None
    tokens: Tokens
    cost_usd: float | None
    model: str | None
    tools: dict[str, int]
    files_changed: int | None
    lines_added: int | None
    lines_removed: int | None
    exit_code: int | None


class Edge(Told):
    """What a task waits for."""

    on: str
    kind: str
    state: EdgeState = Field(description="`open` still waits; `dead` will never be met; `waived` need not be.")
    inherited_from: str | None
    reason: str | None


class Gate(Told):
    """Something a task waits for that is not a task."""

    id: str
    kind: str
    state: GateState = Field(description="`open` waits for its decision, `met` was opened, `dead` was refused.")
    name: str
    opens_at: str | None
    answer: str | None
    decided_by: str | None
    decided_at: str | None


class TaskDetail(Task):
    """A task with all that belongs to it."""

    children: list[str]
    dependents: list[str]
    edges: list[Edge]
    gates: list[Gate]
    runs: list[Run]
    artifacts: list[dict[str, Any]]
    remedy: str | None = Field(description="What a person can do about a failure.")


class TaskPage(Told):
    """A bounded piece of a list."""

    tasks: list[Task]
    total: int
    next_cursor: str | None


class Reason(Told):
    """One thing that a task waits for."""

    kind: str
    detail: str
    ids: list[str]


class Why(Told):
    """Why a task is not running."""

    task: str
    state: StateShown
    reasons: list[Reason]
    remedy: str | None = Field(description="What a person can do about a failure.")


class Approved(Task):
    """A task that was accepted, and what it made ready."""

    unblocked: list[str]
    unblocked_total: int


class Claim(Told):
    """A task that was taken."""

    run: str
    lease_until: str
    task: Task
    brief: str
    again: bool = Field(description="Whether the caller's session held it before, by this run.")


class Applied(Told):
    """What a plan file made."""

    plan: str
    tasks: dict[str, str]
    created: int
    updated: int
    unchanged: int
    missing: list[str]
    reopened: list[str]
    without_agent: list[str] = Field(description="New tasks with neither a command nor an agent: no worker runs them.")
    dry_run: bool


class Graph(Told):
    """The graph, and what it allows."""

    parallel_groups: list[list[str]]
    critical_path: list[str]
    speed_up: dict[str, Any]
    dead_ends: dict[str, list[str]]


# -- runs -----------------------------------------------------------------------------------------


class RunPage(Told):
    """A bounded piece of a list."""

    runs: list[Run]
    total: int
    next_cursor: str | None


class Evidence(Told):
    """A check, and how it went."""

    stage: str
    go: int
    command: str
    exit_code: int | None
    output: str | None
    duration_ms: int | None
    at: str


class Message(Told):
    """Something said to an agent."""

    run: str
    message: int
    text: str
    actor: str
    state: str
    how: str | None
    created_at: str
    given_at: str | None


class RunDetail(Run):
    """A run with its evidence."""

    checks: list[Evidence]
    messages: list[Message]
    overlaps: list[dict[str, Any]]
    remedy: str | None = Field(description="What a person can do about a failure.")


class Log(Told):
    """A piece of a run's log."""

    run: str
    lines: list[dict[str, Any]]
    next_offset: int
    over: bool


class Outcome(Told):
    """What a report did."""

    task: Task
    run: Run
    unblocked: list[str]
    unblocked_total: int


class FailOutcome(Outcome):
    """What a failure did."""

    retry_at: str | None


class CleanedUp(Told):
    """Whether a workspace is gone."""

    run: str
    workspace: str | None
    removed: bool


# -- memory ---------------------------------------------------------------------------------------


class Decision(Told):
    """A decision."""

    id: str
    title: str
    status: str


class DecisionPage(Told):
    """A bounded piece of a list."""

    decisions: list[Decision]
    total: int
    next_cursor: str | None


class Session(Told):
    """A sitting of a client."""

    id: str


class SessionPage(Told):
    """Sessions, those seen last first."""

    sessions: list[Session]
    total: int


class Role(Told):
    """Who does a task."""

    name: str


class Roles(Told):
    """All roles."""

    roles: list[Role]


class Files(Told):
    """Files of a task or run, or where runs are at the same file."""

    files: list[dict[str, Any]]
    overlaps: list[dict[str, Any]]


class Found(Told):
    """What a search found."""

    results: list[dict[str, Any]]
    #: What may be missing; empty: nothing.
    note: str = ""


# -- operating ------------------------------------------------------------------------------------


class Event(Told):
    """A line of the journal."""

    id: int
    at: str
    kind: str
    task: str | None
    run: str | None
    actor: str
    data: dict[str, Any] | None


class Health(Told):
    """How well everything is."""

    healthy: bool
    status: Literal["healthy", "degraded", "unhealthy"]
    live: bool
    ready: bool
    components: dict[str, dict[str, Any]]


class Status(Told):
    """Where everything stands."""

    tasks: dict[str, int]
    paused_at: str | None
    runs: list[dict[str, Any]]
    slots: list[dict[str, Any]]
    plans: list[dict[str, Any]]
    needs_you: list[dict[str, Any]]
    needs_you_total: int


class Stats(Told):
    """What runs took, used and cost."""

    since: str | None
    until: str
    runs: int
    success_rate: float | None
    duration_s: dict[str, float | None]
    queue_wait_s: dict[str, float | None]
    by_agent: list[dict[str, Any]]
    by_role: list[dict[str, Any]]
    by_plan: list[dict[str, Any]]


class ServiceLevel(Told):
    """How long tasks of a role take from ready to completed; times in seconds."""

    role: str
    limit_s: float | None
    completed: int
    p50_s: float | None
    p95_s: float | None
    within: float | None
    open: int
    late: int
    oldest_s: float | None


class ServiceLevels(Told):
    """How long tasks of each role take."""

    since: str
    levels: list[ServiceLevel]


class Paused(Told):
    """Whether workers claim."""

    paused: bool


class Resumed(Paused):
    """The same, and what became of the breaker of an agent that was named."""

    was_open: bool | None = Field(description="Whether that breaker was open; null: no agent was named.")


class Slots(Told):
    """Limits and their use."""

    slots: list[dict[str, Any]]
    notes: list[str] = Field([], description="Limits that were taken away and come back.")


class Permission(Told):
    """Something that an agent asked for and was denied; `rule` is what would allow it."""

    permission: int
    task: str
    title: str
    task_state: str
    run: str
    tool: str
    said: str
    rule: str | None
    state: Annotated[str, _one_of(("open", "allowed", "refused"))]
    asked_at: str
    decided_at: str | None
    decided_by: str | None


class Permissions(Told):
    """What agents asked for."""

    permissions: list[Permission]
    total: int


class Alert(Told):
    """Something that asks for attention."""

    id: int
    rule: str
    subject: str
    said: str
    opened_at: str
    seen_at: str
    closed_at: str | None


class Alerts(Told):
    """What asks, or asked, for attention."""

    alerts: list[Alert]
    total: int
    next_cursor: str | None
