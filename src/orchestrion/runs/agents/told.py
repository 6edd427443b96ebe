"""Reading what agents tell: JSON of which nothing is certain, neither its shape nor its numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

#: Nobody has as many tokens or dollars; a database could not hold their sum.
_ABSURD = 2**53


def parsed(line: str | bytes) -> Mapping[str, Any]:
    """The object that a line holds; an empty one if it holds none."""
    try:
        return mapping(json.loads(line))
    except (ValueError, RecursionError):
        return {}


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> Sequence[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else ()


def number(value: object) -> int:
    """The value if it is a whole number of something, else 0."""
    return value if isinstance(value, int) and 0 < value < _ABSURD else 0


def amount(value: object) -> float:
    """The value if it is a finite amount of something, else 0."""
    return float(value) if isinstance(value, int | float) and 0 < value < _ABSURD else 0.0
