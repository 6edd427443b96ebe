"""One call of the command line: its global options, the project it opens, and how it answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from orchestrion.core.rights import RUN_VARIABLE, refuse_runs

if TYPE_CHECKING:
    from orchestrion.orchestrator import Orchestrator
    from orchestrion.orchestrator.finding import Finding


class Call:
    """What a command is given: the options that all commands share."""

    def __init__(self) -> None:
        #: ``-C``: the project's folder.
        self.folder: str | None = None
        #: ``--db``: another database.
        self.db: str | None = None
        #: ``--json``: for a program.
        self.json = False

    def open(self, *, create: bool = False) -> Orchestrator:
        """The project with all its use cases. Only what adds to a project may ``create`` its store."""
        from orchestrion.orchestrator import Orchestrator

        return Orchestrator.open(self.folder, db=self.db, create=create)

    def open_to_find(self) -> Finding:
        """The project for a command that only looks at tasks: imports a third of the rest."""
        from orchestrion.orchestrator.finding import Finding

        return Finding.open(self.folder, db=self.db, create=False)

    def leave_run(self, action: str) -> None:
        """Goes on outside of the run from inside which it was called, if any: what it starts is not that run's.

        Raises InvalidInput (``not_for_runs``), unless the run is a mere name.
        """
        if RUN_VARIABLE not in os.environ:
            return
        from orchestrion.runs.launch import leave_run

        refuse_runs(os.environ, action)
        leave_run()

    def answer(self, document: Any, draw: Callable[[], Iterable[str]]) -> None:
        """Prints ``document`` for a program, or the lines that ``draw`` makes of it for people."""
        from orchestrion.interfaces.cli import output

        if self.json:
            output.document(document)
        else:
            output.lines(draw())


def own_run(run: str | None, store: str) -> str:
    """The run that a command is about: the one named, else that of the agent which calls.

    Raises InvalidInput if that agent's run belongs to another store than ``store``, for its
    number would mean somebody else's run here.
    """
    from orchestrion.core.errors import InvalidInput

    if run is not None:
        return run
    uuid, _, number = os.environ[RUN_VARIABLE].rpartition("/")
    if uuid and uuid != store:
        raise InvalidInput(
            f"{RUN_VARIABLE} names {number} of another store than this project's",
            hint="go to its project with -C DIR",
            code="foreign_run",
        )
    return number
