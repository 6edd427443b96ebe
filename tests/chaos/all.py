"""All scenarios: whoever imports this has them in the list, in the order in which they are played."""

from __future__ import annotations

from chaos import agents, databases, deaths, machine
from chaos.ground import Impossible, Play
from chaos.scenario import AT_LENGTH, SCENARIOS, short

__all__ = ["AT_LENGTH", "SCENARIOS", "Impossible", "Play", "agents", "databases", "deaths", "machine", "short"]
