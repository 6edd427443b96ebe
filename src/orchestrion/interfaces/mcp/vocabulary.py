"""The words of this door: statuses, types and roles as the first orchestrator's clients say them, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrion.core.errors import InvalidInput

#: state -> status; an archived task is ``archived`` whatever its state.
STATUS_OF: dict[str, str] = {
    "pending": "pending",
    "ready": "pending",
    "retrying": "pending",
    "in_progress": "in_progress",
    "blocked": "blocked",
    "review": "active",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
ARCHIVED = "archived"
#: role -> the name that clients know it by.
SPECIALIST_OF = {"implementer": "coder", "": "generic"}

_EFFORT = re.compile(
    r"\s*([0-9]{1,7}(?:\.[0-9]{1,3})?)(?![0-9.])\s*"
    r"(minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w|)\s*",
    re.ASCII | re.IGNORECASE,
)
#: A working day has eight hours, a week five days.
_MINUTES = {"m": 1, "h": 60, "d": 480, "w": 2400}


def status(task: Mapping[str, Any]) -> str:
    """The status of a task that is given as JSON."""
    return ARCHIVED if task.get("archived_at") else status_of(task["state"])


def status_of(state: str) -> str:
    """A state as clients know it; one that is none is shown as it is."""
    return STATUS_OF.get(state, state)


def states(statuses: Sequence[str]) -> list[str]:
    """All states that a filter of statuses means; ``archived`` is none."""
    return [state for state, word in STATUS_OF.items() if word in statuses]


def specialist(role: str | None) -> str:
    """A role as clients know it."""
    return SPECIALIST_OF.get(role or "", role or "")


def minutes(effort: str | None) -> float | None:
    """An effort in words (``2h``, ``30 min``, ``1h 30m``) in minutes; a bare number is minutes. Raises InvalidInput."""
    if effort is None or not effort.strip():
        return None
    parts, end = [], 0
    while end < len(effort) and (match := _EFFORT.match(effort, end)) is not None:
        parts.append(float(match[1]) * _MINUTES[(match[2] or "m")[0].lower()])
        end = match.end()
    if not parts or end < len(effort):
        raise InvalidInput(
            f"estimated_effort: {effort[:60]!r} is not an effort",
            hint="write 30 min, 2h, 1h 30m, 3 days; a bare number is minutes",
            code="invalid_effort",
        )
    return sum(parts)
