"""What the tests of setting up ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: How our program is started: its path needs quotes.
PROGRAM = ("/opt/our own/orchestrion",)
#: Sets a client up, or undoes it.
SetUp = Callable[..., dict[str, Any]]
