"""Every test of the scheduler plays on a board; whatever it did, at its end all invariants are checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from board import Board

from orchestrion.store import Store


@pytest.fixture
def board(timed_store: Store, raw: Any) -> Iterator[Board]:
    """A board on either database; its invariants hold at the end."""
    made = Board(timed_store, raw)
    yield made
    made.check()
