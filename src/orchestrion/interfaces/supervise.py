"""``orchestrion supervise R31``: how a worker starts the supervisor of a run. Not for people.

Imports no command-line library: an agent's start waits for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Opens the project, reads the run's order and carries it out."""
    from orchestrion.core.errors import OrchestrionError
    from orchestrion.core.model import number
    from orchestrion.core.project import find_project
    from orchestrion.runs import launch, order
    from orchestrion.runs.supervise import supervise
    from orchestrion.store import open_store

    launch.leave_run()
    try:
        run = number(arguments[0] if arguments else "", "R")
        project = find_project(Path.cwd(), None, os.environ)
        instruction = order.read(project.store_dir, run)
        url = os.environ.get("ORCHESTRION_DB") or str(project.store_dir / "orchestrion.db")
        store = open_store(url, project=instruction.project_name, create=False)
    except OrchestrionError as error:
        print(f"orchestrion supervise: {error.message}", file=sys.stderr)
        return 7
    return supervise(store, instruction, order.folder(project.store_dir, run), os.environ)
