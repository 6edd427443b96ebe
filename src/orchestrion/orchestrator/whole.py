"""All use cases together."""

from __future__ import annotations

from orchestrion.orchestrator.metrics import MetricCases


class Orchestrator(MetricCases):
    """One project, open: its tasks, their runs, its plans, and what it all took."""
