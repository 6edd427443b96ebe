"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: A condition that does not come true in this time never will, in seconds.
PATIENCE_S = 60.0
_GLANCE_S = 0.02


def wait_for(condition: Callable[[], Any], what: str = "what is waited for", patience_s: float = PATIENCE_S) -> Any:
    """The first truth that ``condition`` says."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(_GLANCE_S)
    raise AssertionError(f"this did not happen in {patience_s:g} s: {what}")
