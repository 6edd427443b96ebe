"""``orchestrion supervise R31``: how a worker starts the supervisor of a run. Not for people.

``orchestrion supervise -`` loads everything first, and reads the run's name when there is
one. Neither imports a command-line library: an agent's start waits for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

#: A database that is away is waited for as long as a lease usually lasts, in seconds.
PATIENCE_S = 60.0


def main(arguments: list[str]) -> int:
    """Opens the project, reads the run's order and carries it out."""
    _do_without_what_nobody_asks()
    from orchestrion.core.errors import OrchestrionError
    from orchestrion.core.masking import masked
    from orchestrion.core.model import number
    from orchestrion.core.project import find_project
    from orchestrion.runs import launch, order
    from orchestrion.runs.supervise import supervise
    from orchestrion.store import ProjectKey, open_store, prepare_store
    from orchestrion.store.patience import MENDED, PASSING, after, patiently

    launch.leave_run()
    run = arguments[0] if arguments else ""
    try:
        project = find_project(Path.cwd(), None, os.environ)
        url = os.environ.get("ORCHESTRION_DB") or str(project.store_dir / "orchestrion.db")
        if run == launch.AWAITED:
            prepare_store(url)
            if not (run := launch.await_run()):
                return 0
            launch.speak_to(order.folder_named(project.store_dir, run))
        one = number(run, "R")
        instruction = order.read(project.store_dir, one)
        # What is away for a moment must not cost the run: it was launched because there was a database.
        key = ProjectKey(instruction.project_name, begins=False, number=instruction.project_number)
        store = patiently(
            lambda: open_store(url, project=key, create=False),
            after(PATIENCE_S),
            (*PASSING, *MENDED, "no_store"),
        )
        store.clone = instruction.clone
        store.keep_little()
    except OrchestrionError as error:
        print(masked(f"orchestrion supervise: {error.message}"), file=sys.stderr)
        return 7
    return supervise(store, instruction, order.folder(project.store_dir, one), os.environ)


def _do_without_what_nobody_asks() -> None:
    """Keeps out what libraries load only to look whether it is there: of what a supervisor holds, a sixth on
    PostgreSQL.

    ``shutil`` loads compressors, and asyncio, which psycopg loads, ``ssl``: libpq has a TLS of its own. To know its own
    version, which nobody asks, psycopg reads all that Python knows of installed packages, and the parser of mail.
    """
    for name in ("ssl", "bz2", "lzma"):
        sys.modules[name] = cast("ModuleType", None)  # as the import system marks what is not to be found
    for name in ("psycopg.version", "psycopg_binary.version"):
        module = sys.modules[name] = ModuleType(name)
        module.__version__ = "unknown"  # type: ignore[attr-defined]
