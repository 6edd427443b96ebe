"""The list of scenarios: each is a function that makes one kind of trouble on a ground, and says what must hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from chaos.ground import Ground

Scenario = Callable[[Ground], None]
_Any = TypeVar("_Any", bound=Scenario)

#: All of them by name, in the order in which they are played.
SCENARIOS: dict[str, Scenario] = {}
#: Those that only the long form plays.
AT_LENGTH: set[str] = set()


def scenario(play: _Any) -> _Any:
    """A scenario of both forms."""
    SCENARIOS[play.__name__] = play
    return play


def at_length(play: _Any) -> _Any:
    """A scenario that takes long, or needs root."""
    AT_LENGTH.add(play.__name__)
    return scenario(play)


def short() -> list[str]:
    """Names of those that the short form plays."""
    return [name for name in SCENARIOS if name not in AT_LENGTH]
