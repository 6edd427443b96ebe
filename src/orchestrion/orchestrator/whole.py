"""All use cases together."""

from __future__ import annotations

from orchestrion.orchestrator.plans import PlanCases


class Orchestrator(PlanCases):
    """One project, open: its tasks, their runs, its plans."""
