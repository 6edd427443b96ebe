"""The use cases: what every door calls, and nothing deeper.

    with Orchestrator.open() as orchestrion:
        task = orchestrion.add("Write slugify()", command="python tools/write_slugify.py")
        orchestrion.work(slots=4, drain=True)

Use cases are grouped by noun, each file on top of the one before: ``opening`` finds the
project and opens its store, then ``tasks``, ``runs``, ``plans``. Names (``T12``) come in and go out;
numbers stay inside.
"""

from __future__ import annotations

from orchestrion.orchestrator.plans import PlanCases


class Orchestrator(PlanCases):
    """One project, open: its tasks, their runs, its plans."""


__all__ = ["Orchestrator"]
