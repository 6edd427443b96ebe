"""What reading every row of a store found: rows that cannot be read, and rows that their table would refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Misfit(NamedTuple):
    """A row that its table would refuse."""

    table: str
    row: Mapping[str, Any]
    #: What the database says of it.
    said: str


class Proof(NamedTuple):
    """What was found."""

    #: What cannot be read, in a line; empty: all is there.
    lost: str = ""
    #: Rows that can be read and do not fit.
    misfits: tuple[Misfit, ...] = ()
