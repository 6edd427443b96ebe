"""The reference page is made from the commands, and what is committed is what they say now."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrion.interfaces.cli.errors import EXIT_CODES, MEANINGS
from orchestrion.interfaces.cli.reference import page
from orchestrion.interfaces.cli.table import BY_NAME

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8").endswith(page()), "run `make docs`"


def test_every_command_is_documented() -> None:
    text = page()
    for name in BY_NAME:
        assert f"\n### orchestrion {name}\n" in text
    for name in ("dep add", "dep rm", "dep waive", "gate add", "gate open", "config show"):
        assert f"\n### orchestrion {name}\n" in text


def test_every_exit_code_is_documented() -> None:
    for code in {*EXIT_CODES.values(), *MEANINGS}:
        assert f"| {code} | " in page()


def test_the_page_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert PAGE.read_text(encoding="utf-8").endswith(page())
