"""A project at work behind a real server, and one real Chromium to look at it.

What needs the browser runs in ``make test-page``, which says so in ``ORCHESTRION_TEST_PAGE``; ``make test``
leaves it out, so that it needs nothing but Python.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import scene
from lookers import Looker, Served, looking

if not os.environ.get("ORCHESTRION_TEST_PAGE"):
    collect_ignore = ["test_page_actions.py", "test_page_looks.py", "test_page_pictures.py"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The scene, served; tests of one file share it and each acts on tasks of its own."""
    with _serving(tmp_path_factory.mktemp("scene") / "stage", hostile=True) as one:
        yield one


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The scene as it is shown to visitors."""
    with _serving(tmp_path_factory.mktemp("calm") / "stage", hostile=False) as one:
        yield one


@contextmanager
def _serving(folder: Path, *, hostile: bool) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in [key for key in os.environ if key.startswith(("GIT_", "ORCHESTRION_"))]:
            patch.delenv(variable)
        stage = scene.make(folder, hostile=hostile)
        for variable, value in stage.environ.items():
            patch.setenv(variable, value)
        one = Served(stage)
        yield one
        one.stop()
        stage.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One browser for all tests."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome") or os.environ.get("CHROMIUM")
    assert program, "the page is tested with a real Chromium: install chromium, or say where it is in CHROMIUM"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def looker(chromium: Any, served: Served) -> Iterator[Looker]:
    """A browser with an empty past; at the end its console must be silent."""
    with looking(chromium, served.url, link=served.link) as one:
        yield one
        assert one.said == []
