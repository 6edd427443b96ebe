"""What programs at every door find: nothing of the user's is in their environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from premises import clean_environ


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a server: a home of its own, no other project, run or setting."""
    return clean_environ(tmp_path)
