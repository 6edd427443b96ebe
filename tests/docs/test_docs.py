"""The documentation is held to the code: samples run, generated pages are current, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from orchestrion.plans.source import parse
from orchestrion.scheduler import explain

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "AGENTS.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(generator().pages()))
def test_a_generated_page_is_current(name: str) -> None:
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == generator().pages()[name], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_sample_of_the_readme_is_the_file() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, block in re.findall(r"<!-- sample: (\S+) -->\n```\w+\n(.*?)```", readme, re.DOTALL):
        assert (ROOT / name).read_text(encoding="utf-8") == block


def samples() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for language, block in re.findall(r"```(yaml|markdown)\n(.*?)```", text, re.DOTALL):
            if "plan:" in block or block.startswith("# "):
                found.append((f"{page.stem}.{'md' if language == 'markdown' else 'yaml'}", block))
    return found


@pytest.mark.parametrize(("name", "block"), samples(), ids=lambda value: value[:20])
def test_a_plan_in_the_docs_is_a_plan(name: str, block: str) -> None:
    assert list(parse(block, name).walk())


def test_commands_in_the_docs_exist() -> None:
    from orchestrion.interfaces.cli.table import SECTIONS

    known = {entry.name for section in SECTIONS for entry in section.commands} | {"supervise"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for command in re.findall(r"(?:^\$ |`)orchestrion (?:-C DIR )?([a-z][a-z-]*)", text, re.MULTILINE):
            assert command in known, f"{page.name} names `orchestrion {command}`"


def test_every_kind_of_reason_is_named() -> None:
    source = Path(explain.__file__).read_text(encoding="utf-8")
    named = re.search(r"#: (dependency, .*)", re.sub(r",\n +#: ", ", ", source))
    assert named
    used = set(re.findall(r'Reason\(\s*"(\w+)"', source)) | {"dead_dependency"}
    assert used <= set(named[1].split(", "))
