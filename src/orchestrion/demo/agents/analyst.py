"""A scripted agent that surveys the code: every public function, with its first sentence.

It changes nothing. What it found is stored as an artifact of its task, and goes into the
brief of the task that has a ``data`` dependency on it.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

#: Seconds that it thinks about each module.
PACE = float(os.environ.get("DEMO_PACE", "0.7")) / 5

PACKAGE = Path("src/musicbox")


def main() -> None:
    """Reads the package and reports what it found."""
    found = []
    for module in sorted(PACKAGE.glob("*.py")):
        print(f"reading {module}", flush=True)
        time.sleep(PACE)
        found += survey(module)
    report("\n".join(found) + "\n", f"surveyed {len(found)} public functions in {PACKAGE}")


def survey(module: Path) -> list[str]:
    """One line for each public function of a module."""
    name = "musicbox" if module.stem == "__init__" else f"musicbox.{module.stem}"
    functions = [
        node for node in ast.parse(module.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    ]
    return [
        f"- `{name}.{function.name}({ast.unparse(function.args)})`: {_first_line(function)}"
        for function in functions
        if not function.name.startswith("_")
    ]


def report(detail: str, summary: str) -> None:
    """Hands the result to orchestrion, as any agent would."""
    run = os.environ["ORCHESTRION_RUN"].rpartition("/")[2]
    command = [sys.executable, "-P", "-m", "orchestrion", "done", run, "--summary", summary, "--detail", "-"]
    told = subprocess.run(command, input=detail, text=True, capture_output=True, check=False)
    if told.returncode:
        sys.exit(f"could not report: {told.stderr.strip()}")
    print(summary)


def _first_line(function: ast.FunctionDef) -> str:
    return (ast.get_docstring(function) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
