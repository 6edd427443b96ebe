"""The errors for what is not there; apart, so that looking for tasks need not import how they are made."""

from __future__ import annotations

from orchestrion.core.errors import NotFound
from orchestrion.core.model import name


def unknown_task(task: int) -> NotFound:
    """The error for a task that is not there."""
    return NotFound(f"there is no task {name('T', task)}", hint="`orchestrion list` shows the tasks", code="no_task")
