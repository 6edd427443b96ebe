"""The use cases: what every door calls, and nothing deeper.

    with Orchestrator.open() as orchestrion:
        task = orchestrion.add("Write slugify()", command="python tools/write_slugify.py")
        orchestrion.work(slots=4, drain=True)

Use cases are grouped by noun, each file on top of the one before: ``opening`` finds the
project and opens its store, then ``finding`` (tasks), ``tasks``, ``runs``, ``plans``, ``metrics``,
``talking``, ``examine``, ``remembering``, and all of them in ``whole``. Names (``T12``) come in
and go out; numbers stay inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrion.orchestrator.whole import Orchestrator

__all__ = ["Orchestrator"]


def __getattr__(name: str) -> object:
    # Agents ask for ready tasks at every turn: that needs ``finding``, not the rest.
    if name == "Orchestrator":
        from orchestrion.orchestrator.whole import Orchestrator

        return Orchestrator
    raise AttributeError(f"module 'orchestrion.orchestrator' has no attribute {name!r}")
