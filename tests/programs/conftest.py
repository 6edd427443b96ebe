"""Tests with the real agent programs. They run where ``ORCHESTRION_TEST_AGENTS`` names a folder with them.

``python tests/programs/install.py FOLDER`` makes such a folder. Without one nothing here is
collected: these tests are no part of ``make test``, and are never skipped one by one either.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_FOLDER = os.environ.get("ORCHESTRION_TEST_AGENTS")

if not _FOLDER:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder whose files ``claude``, ``codex``, ``gemini`` and so on start these programs."""
    assert _FOLDER, "ORCHESTRION_TEST_AGENTS names no folder: python tests/programs/install.py FOLDER makes one"
    folder = Path(_FOLDER).resolve() / "bin"
    assert folder.is_dir(), f"{folder} is missing: python tests/programs/install.py {folder.parent}"
    return folder
