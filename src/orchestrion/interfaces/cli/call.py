"""One call of the command line: its global options, the project it opens, and how it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from orchestrion.core.rights import foreign_run

if TYPE_CHECKING:
    from orchestrion.core.rights import Caller
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

    def answer(self, document: Any, draw: Callable[[], Iterable[str]]) -> None:
        """Prints ``document`` for a program, or the lines that ``draw`` makes of it for people."""
        from orchestrion.interfaces.cli import output

        if self.json:
            output.document(document)
        else:
            output.lines(draw())


def own_run(run: str | None, caller: Caller) -> str:
    """The run that a command is about: the one named, else that of the agent which calls.

    Raises InvalidInput (``foreign_run``) if that agent's run is none of this store.
    """
    if run is not None:
        return run
    if caller.run is None:
        raise foreign_run(str(caller.elsewhere), "foreign_run")
    return caller.run
