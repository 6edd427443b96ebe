"""Orchestrion: an orchestra of coding agents that never loses its place.

    from orchestrion import Orchestrator

The folders, from the ground up: ``core`` says what things are, ``store`` remembers
them, ``scheduler`` makes every move, ``memory`` holds what agents should know,
``plans`` turns files into graphs and back, ``runs`` owns one agent in one workspace,
``worker`` keeps agents busy, ``orchestrator`` holds the use cases, ``interfaces`` are
the doors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrion.orchestrator import Orchestrator

__version__ = "0.2.0.dev0"
__all__ = ["Orchestrator", "__version__"]


def __getattr__(name: str) -> object:
    # The command line is called at every tool call of an agent: importing the package stays free.
    if name == "Orchestrator":
        from orchestrion.orchestrator import Orchestrator

        return Orchestrator
    raise AttributeError(f"module 'orchestrion' has no attribute {name!r}")
