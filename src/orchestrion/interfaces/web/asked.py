"""What requests may carry, as the OpenAPI document describes it.

What comes in is checked strictly: no unknown field, no text where a number belongs. What the
words mean, and further bounds, are the business of the use cases.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orchestrion.core.model import CLEARABLE


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """Refuses what JSON may spell and nobody can keep: halves of characters, numbers without end."""
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    return value


Facts = Annotated[dict[str, Any], AfterValidator(_storable)]
Text = Annotated[str, Field(max_length=1_000_000)]
Line = Annotated[str, Field(min_length=1, max_length=1_000)]
Id = Annotated[str, Field(min_length=1, max_length=60)]
Words = Annotated[list[Annotated[str, Field(max_length=1_000_000)]], Field(max_length=200)]
Entries = Annotated[list[Text | Facts], Field(max_length=200)]
Ids = Annotated[list[Id], Field(max_length=1_000)]


class Asked(BaseModel):
    """What a request carries."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self) -> dict[str, Any]:
        """The fields that the request has, null left out."""
        return {key: value for key, value in self.model_dump(exclude_unset=True).items() if value is not None}


# -- tasks ----------------------------------------------------------------------------------------


class TaskFields(Asked):
    """Values that a task is given, or given anew."""

    description: Text | None = None
    role: str | None = Field(None, max_length=128)
    agent: str | None = Field(None, max_length=128)
    run: Text | None = Field(None, description="What the agent `command` runs; refused unless doors.commands is set.")
    checks: Words | None = Field(None, description="Names of checks in the configuration.")
    setup: Text | None = None
    priority: int | None = Field(None, ge=1, le=10)
    type: str | None = Field(None, min_length=1, max_length=128)
    complexity: Literal["trivial", "simple", "moderate", "complex", "very_complex"] | None = None
    effort_min: float | None = Field(None, ge=0, allow_inf_nan=False)
    due_at: str | None = Field(None, max_length=60, description="ISO 8601.")
    max_retries: int | None = Field(None, ge=0, le=1000)
    retry_delay_s: float | None = Field(None, ge=0, le=86_400, allow_inf_nan=False)
    timeout_s: float | None = Field(None, ge=0.001, le=604_800, allow_inf_nan=False)
    needs: Words | None = None
    tags: Words | None = None
    context: Facts | None = None
    metadata: Facts | None = None
    merge: Literal["auto", "none"] | None = None


class NewTask(TaskFields):
    """A task to be made."""

    title: str = Field(min_length=1, max_length=255)
    plan: str | None = Field(None, max_length=64)
    key: str | None = Field(None, max_length=128)
    parent: Id | None = None
    reopen: bool = Field(False, description="Whether a parent that is completed may be reopened for it.")
    after: Ids = []
    after_failure: Ids = []
    soft_after: Ids = []
    data_after: Ids = []


def _say_what_can_be_cleared(schema: dict[str, Any]) -> None:
    """Leaves null out where every task has a value: there it is refused (``not_clearable``)."""
    for name, field in schema["properties"].items():
        if {"run": "command"}.get(name, name) in CLEARABLE or name == "parent":
            continue
        (only,) = (one for one in field.pop("anyOf") if one != {"type": "null"})
        field.pop("default", None)
        field.update(only)


class Changes(TaskFields):
    """New values for a task; what is left out stays, null clears. `parent` moves it, null: under no other."""

    model_config = ConfigDict(json_schema_extra=_say_what_can_be_cleared)

    title: str | None = Field(None, min_length=1, max_length=255)
    parent: Id | None = None

    def given(self) -> dict[str, Any]:
        """The fields that the request has, null among them."""
        return self.model_dump(exclude_unset=True)


class NewClaim(Asked):
    """Who takes a task."""

    agent: str | None = Field(None, max_length=128)
    lease_s: float | None = Field(None, ge=1, le=86_400, allow_inf_nan=False)


class Because(Asked):
    """Why."""

    reason: Line


class Cancel(Because):
    """Why, and what becomes of those that wait for it."""

    dependents: Literal["block", "cancel"] = "block"


class Retry(Asked):
    """How it is tried again."""

    resume: bool = False


class NewEdge(Asked):
    """A dependency."""

    on: Id
    kind: Literal["blocks", "data", "soft", "on_failure"] = "blocks"


class NewGate(Asked):
    """Something else to wait for."""

    kind: Literal["approval", "time", "external", "question"]
    name: str = Field("", max_length=1_000)
    opens_at: str | None = Field(None, max_length=60, description="ISO 8601, for a time.")


class Opening(Asked):
    """How a gate is decided."""

    answer: Text | None = None
    refuse: bool = False


class Move(Asked):
    """Where a task goes; null: under no other."""

    parent: Id | None


class NewPlan(Asked):
    """A plan file."""

    text: Annotated[str, Field(max_length=8_000_000)]
    format: Literal["yaml", "json", "markdown"] = "yaml"
    dry_run: bool = False


# -- runs -----------------------------------------------------------------------------------------


class NewRun(Asked):
    """Which task gets an agent now."""

    task: Id
    agent: str | None = Field(None, max_length=128)


class Said(Asked):
    """A text for an agent."""

    text: Annotated[str, Field(min_length=1, max_length=1_000_000)]


class MaybeBecause(Asked):
    """Why, if there is something to say."""

    reason: Line | None = None


class ChangedFile(Asked):
    """A file that was changed."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    op: Literal["created", "modified", "deleted", "moved", "copied"] = "modified"
    old_path: str | None = Field(None, max_length=4096)


class Done(Asked):
    """What was done."""

    summary: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    detail: Text | None = None
    files: Annotated[list[ChangedFile], Field(max_length=1_000)] = []
    next: Literal["complete", "continue", "needs_revision", "blocked"] = "complete"


class Failed(Asked):
    """What went wrong."""

    error: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    code: str = Field("client_failed", max_length=128)


# -- memory ---------------------------------------------------------------------------------------


class NewDecision(Asked):
    """A decision."""

    title: Line
    context: Text = ""
    decision: Text = ""
    rationale: Text = ""
    status: Literal["proposed", "accepted", "implemented", "rejected"] = "accepted"
    category: str = Field("", max_length=128)
    impact: Literal["", "low", "medium", "high", "critical"] = ""
    alternatives: Entries = Field([], description="Texts, or objects with `name`, `description`, `pros`, `cons`.")
    files: Words = []
    components: Words = []
    trade_offs: Words = []
    risks: Entries = Field([], description="Texts, or objects with `risk`, `mitigation`.")
    criteria: Words = []
    task: Id | None = None
    run: Id | None = None
    supersedes: Id | None = None
    refines: Id | None = None
    reverses: Id | None = None


# -- operating ------------------------------------------------------------------------------------


class Resume(Asked):
    """Whose breaker is closed; without it the queue goes on."""

    agent: str | None = Field(None, min_length=1, max_length=128)


class NewSlots(Asked):
    """Limits to set, by name; null takes one away."""

    slots: dict[Annotated[str, Field(min_length=1, max_length=200)], Annotated[int, Field(ge=0, le=1_000_000)] | None]
