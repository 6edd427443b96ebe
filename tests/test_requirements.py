"""What make installs has the versions of the lock, and the lock goes with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
BUILD: list[str] = PYPROJECT["build-system"]["requires"]


def versions(file: str) -> dict[str, Version]:
    """Name -> version of all that a file in ``requirements`` has."""
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    return {name: Version(version) for name, version in re.findall(r"^([a-z0-9-]+)==([^ \n]+)", text, re.MULTILINE)}


def requirements(*without: str) -> dict[str, Requirement]:
    """Every requirement of pyproject.toml by its name, ourselves and some extras left out."""
    lines = [*BUILD, *PYPROJECT["project"]["dependencies"]]
    lines += [line for extra, more in EXTRAS.items() if extra not in without for line in more]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in found if one.name != "orchestrion"}


@pytest.mark.parametrize(("file", "without"), [("lock.txt", ()), ("oldest.txt", ("claude", "dev"))])
def test_every_requirement_has_a_version_in_its_range(file: str, without: tuple[str, ...]) -> None:
    chosen = versions(file)
    for name, requirement in requirements(*without).items():
        assert name in chosen, f"{name} is missing in {file}: run `make lock`"
        assert requirement.specifier.contains(chosen[name]), f"{file} has {name} {chosen[name]}: run `make lock`"


def test_the_oldest_version_is_the_lower_end_of_the_range() -> None:
    oldest = versions("oldest.txt")
    for name, requirement in requirements("claude", "dev").items():
        (lower,) = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
        assert oldest[name].release[: len(lower.release)] == lower.release, f"{name} {oldest[name]}: run `make lock`"


def test_tools_have_no_range_for_the_lock_says_which_they_are() -> None:
    for line in EXTRAS["dev"]:
        assert not Requirement(line).specifier, line
