"""Git, as the user of a project calls it."""

from collections.abc import Callable

UserGit = Callable[..., str]
