"""Runbooks can be typed: every command in them parses, every setting, code, metric and route exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from orchestrion.core.retry import FAILURES
from orchestrion.core.settings import BY_NAME
from orchestrion.interfaces.cli.app import program
from orchestrion.interfaces.web import metrics, reference

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*(DOCS / "runbooks").glob("*.md"), DOCS / "deployment.md"])
BOOKS = [page for page in PAGES if page.parent.name == "runbooks" and page.name != "README.md"]


def commands(text: str) -> list[str]:
    """What follows a prompt."""
    return re.findall(r"^\$ (orchestrion .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_can_be_typed(page: Path) -> None:
    for line in commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line)[1:]
        context = program.make_context("orchestrion", words)
        found, one, rest = program.resolve_command(context, [*context._protected_args, *context.args])
        assert one is not None, line
        one.make_context(found, rest, parent=context)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_a_variable_that_is_not_set_stops_a_command(page: Path) -> None:
    """Given an empty address, PostgreSQL's programs take another database."""
    assert re.findall(r"\$\{?ORCHESTRION_DB\b(?!:\?)", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_setting_exists(page: Path) -> None:
    sections = {name.partition(".")[0] for name in BY_NAME}
    for word in re.findall(r"`([a-z]+\.[a-z_]+)`", page.read_text(encoding="utf-8")):
        assert word.partition(".")[0] not in sections or word in BY_NAME, word


@pytest.mark.parametrize("page", BOOKS, ids=lambda page: page.stem)
def test_each_says_what_is_seen_how_to_be_sure_and_what_to_do(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    places = [text.index(part) for part in ("**You see**", "**Be sure", "**Do")]
    assert places == sorted(places)
    assert f"({page.name})" in (DOCS / "runbooks" / "README.md").read_text(encoding="utf-8")


def test_codes_of_runs_exist() -> None:
    assert {"disk_full", "auth_failed"} <= FAILURES.keys()


def test_metrics_that_are_named_exist() -> None:
    source = Path(metrics.__file__).read_text(encoding="utf-8")
    text = (DOCS / "runbooks" / "slow-page.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"`orchestrion_([a-z_]+)", text)):
        assert re.sub(r"_(total|seconds)$", "", name).split("_read")[0] in source, name


def test_routes_that_are_named_exist() -> None:
    listed = reference.page()
    for page in PAGES:
        for method, path in re.findall(r"`(GET|POST) /api/v1/([a-zA-Z0-9/]+)`", page.read_text(encoding="utf-8")):
            assert f"### {method} /{re.sub('R31', '{run}', path)}" in listed, path
