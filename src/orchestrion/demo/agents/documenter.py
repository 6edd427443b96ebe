"""A scripted agent that writes documentation: ``documenter.py api``, ``readme`` or ``changelog``.

``api`` builds on the survey in its brief, ``readme`` runs what it describes, and
``changelog`` reads the history of the repository.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

#: Seconds that it thinks about each step.
PACE = float(os.environ.get("DEMO_PACE", "0.7"))

_SURVEYED = re.compile(r"^- `(musicbox[\w.]*)\.(\w+\(.*\))`: (.*)$", re.MULTILINE)

TEST_DOCS = """\
import ast
import unittest
from pathlib import Path

ROOT = Path(__file__).parents[1]


class DocsTest(unittest.TestCase):
    def test_every_public_function_is_documented(self):
        api = (ROOT / "docs" / "api.md").read_text()
        for module in (ROOT / "src" / "musicbox").glob("*.py"):
            for node in ast.parse(module.read_text()).body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    self.assertIn(f"`{node.name}(", api, f"{module.name}: {node.name}")
"""

USAGE = """
## Use

```
export PYTHONPATH=src
python -m musicbox instruments
python -m musicbox play tunes/ode.txt tunes/ode-second.txt --instrument flute --output ode.wav
```

The first command prints:

```
{instruments}
```

`docs/api.md` lists all functions, `docs/tunes.md` says how tunes are written.
"""


def api() -> None:
    """Makes a page of the survey that another task left."""
    surveyed = _SURVEYED.findall(Path(os.environ["ORCHESTRION_BRIEF"]).read_text(encoding="utf-8"))
    if not surveyed:
        sys.exit("the brief has no survey to build on")
    print(f"the brief brings a survey of {len(surveyed)} functions", flush=True)
    time.sleep(PACE)
    page = ["# Functions\n"]
    for module in dict.fromkeys(module for module, _, _ in surveyed):
        page.append(f"\n## {module}\n\n")
        page += [f"- `{call}`: {said}\n" for where, call, said in surveyed if where == module]
    _write("docs/api.md", "".join(page))
    _write("tests/test_docs.py", TEST_DOCS)
    print(f"documented {len(surveyed)} functions in docs/api.md")


def readme() -> None:
    """Says in the README how to play, with what the program really prints."""
    said = subprocess.run(
        [sys.executable, "-m", "musicbox", "instruments"],
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    text = Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"It knows the pitch .*\n", "It knows notes, scales, tunes and a few instruments.\n", text)
    _write("README.md", text + USAGE.format(instruments=said.strip()))
    Path("docs/wanted.md").unlink()
    print("the README says how to play; docs/wanted.md is gone, for nothing is missing")


def changelog() -> None:
    """Lists what the agents added, from the history."""
    log = ["git", "log", "--no-merges", "--reverse", "--format=%s", "--grep=^Orchestrion-Run:"]
    said = subprocess.run(log, capture_output=True, text=True, check=True).stdout.splitlines()
    entries = "".join(f"- {subject}.\n" for subject in dict.fromkeys(said) if "(unfinished" not in subject)
    text = Path("CHANGELOG.md").read_text(encoding="utf-8")
    _write("CHANGELOG.md", text.replace("# Changelog\n", f"# Changelog\n\n## 0.2\n\n{entries}", 1))
    print(f"CHANGELOG.md has {len(entries.splitlines())} entries from the history")


def _write(name: str, text: str) -> None:
    print(f"writing {name}", flush=True)
    time.sleep(PACE)
    Path(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    {"api": api, "readme": readme, "changelog": changelog}[sys.argv[1]]()
