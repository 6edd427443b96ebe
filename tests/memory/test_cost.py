"""What memory costs those who have no use for it: nothing."""

from __future__ import annotations

import subprocess
import sys


def test_a_supervisor_loads_nothing_of_memory() -> None:
    """Its brief comes as a text; a run's files are recorded by a module that knows no more than SQL."""
    code = "import sys, orchestrion.runs.supervise; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    loaded = set(said.split())
    assert "orchestrion.scheduler.files" in loaded
    unwanted = ("orchestrion.memory", "orchestrion.orchestrator", "orchestrion.interfaces", "yaml", "click", "rich")
    assert [one for one in sorted(loaded) if one.startswith(unwanted)] == []
