"""Bounds on what may be created; they come from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Limits:
    """Bounds on what may be created; None: no bound."""

    #: Pending and ready tasks together.
    max_open: int | None = None
    #: Depth of the hierarchy.
    max_depth: int | None = None
    #: Children of one parent.
    max_children: int | None = None
    #: Units of a named resource that the settings give; others have one.
    resources: Mapping[str, int] = field(default_factory=dict)
