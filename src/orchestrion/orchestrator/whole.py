"""All use cases together."""

from __future__ import annotations

from orchestrion.orchestrator.examine import ExamineCases


class Orchestrator(ExamineCases):
    """One project, open: its tasks, their runs, its plans, and what it all took."""
