"""The pictures of the docs, made by a real Chromium; ``make pictures`` writes them to docs/pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from lookers import looking

DOCS = Path(__file__).parents[3] / "docs"
#: Where they are written; empty: nowhere, they are only looked at. (Tests run without such variables.)
WANTED = os.environ.get("ORCHESTRION_PICTURES", "")
#: Name -> what is shown, in which colours, how wide and how high.
PICTURES = {
    "board": ("/", "light", 1280, 720),
    "board-dark": ("/", "dark", 1280, 720),
    "run": ("/runs/R4", "light", 1280, 720),
    "diff": ("/runs/R1", "dark", 1280, 720),
    "graph": ("/graph", "light", 1280, 640),
    "timeline": ("/timeline", "light", 1280, 420),
    "statistics": ("/stats", "light", 1280, 640),
    "phone": ("/", "light", 390, 780),
}
#: A page with pictures is to load fast, in bytes.
LARGEST = 150_000


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_a_view(chromium: Any, calm: Any, tmp_path: Path, name: str) -> None:
    path, scheme, width, height = PICTURES[name]
    folder = Path(WANTED or tmp_path)
    with looking(chromium, calm.url, link=calm.link, color_scheme=scheme) as one:
        one.page.set_viewport_size({"width": width, "height": height})
        page = one.go(path)
        if path in ("/graph", "/stats"):
            page.wait_for_selector("main canvas")
        page.wait_for_selector(".htmx-request", state="detached")
        page.screenshot(path=folder / f"{name}.png")
        assert one.said == []
    assert 5_000 < (folder / f"{name}.png").stat().st_size < LARGEST


def test_the_docs_show_these_pictures() -> None:
    shown = re.findall(r"\.\./pictures/([\w-]+)\.png", (DOCS / "concepts" / "page.md").read_text())
    assert sorted(set(shown)) == sorted(PICTURES)
    assert sorted(file.stem for file in (DOCS / "pictures").glob("*.png")) == sorted(PICTURES)
    assert all(file.stat().st_size < LARGEST for file in (DOCS / "pictures").glob("*.png"))
