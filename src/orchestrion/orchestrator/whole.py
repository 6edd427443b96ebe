"""All use cases together."""

from __future__ import annotations

from orchestrion.orchestrator.showing import ShowingCases
from orchestrion.orchestrator.watching import WatchingCases


class Orchestrator(ShowingCases, WatchingCases):
    """One project, open: its tasks, their runs, its plans, and what it all took."""
