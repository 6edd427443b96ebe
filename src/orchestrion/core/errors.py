"""Everything that can be refused, and in which words.

An error says what was asked, what was found and what to do. It carries a stable
``code`` (a program may rely on it), a ``hint`` (what to do, in words) and
``details`` (the same facts as data). Each door maps the *classes* to its own
language: exit codes, HTTP statuses, MCP errors.

    OrchestrionError
    ├── InvalidInput            what was asked cannot be meant
    │   ├── CycleRefused        the edge would close a circle; names all of it
    │   └── PlanRefused         a plan file is wrong; names line and column
    ├── NotFound                no such task, run, plan, gate, ...
    ├── NothingReady            a claim found nothing to take
    ├── Conflict                somebody or something was first
    │   ├── IllegalMove         the state found does not allow the move asked
    │   ├── StaleRun            the run is no longer its task's current one
    │   ├── AlreadyTaken        another run or process holds it
    │   ├── Backpressure        no room now; ``details["retry_after_s"]`` says when
    │   └── MergeConflict       git could not merge; names the files
    └── EnvironmentProblem      the machine, not the request
        ├── GitProblem          git is missing or refused
        ├── AgentProblem        an agent program is missing or cannot start
        ├── DamagedRow          one row holds what this program never writes
        └── StoreProblem        the database is missing, locked, read-only, corrupt or too new
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class OrchestrionError(Exception):
    """Root of all errors that a caller is meant to read."""

    #: Stable name of the kind of refusal; subclasses and call sites refine it.
    code = "error"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        """The error as the JSON object that every door shows."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


class InvalidInput(OrchestrionError):
    """The request itself is wrong; repeating it will not help."""

    code = "invalid_input"


class CycleRefused(InvalidInput):
    """An edge or a move would make tasks wait for each other in a circle."""

    code = "cycle"

    def __init__(self, cycle: Sequence[str], *, hint: str = "") -> None:
        super().__init__(
            f"this would make tasks wait for each other: {' -> '.join(cycle)}",
            hint=hint or "remove one of the edges named, or leave this one out",
            cycle=list(cycle),
        )


class PlanRefused(InvalidInput):
    """A plan file cannot be read as a plan; nothing of it was applied."""

    code = "plan_refused"

    def __init__(self, message: str, *, line: int | None = None, column: int | None = None, hint: str = "") -> None:
        place = "" if line is None else f"line {line}" + ("" if column is None else f", column {column}") + ": "
        super().__init__(place + message, hint=hint, line=line, column=column)


class NotFound(OrchestrionError):
    """Nothing goes by the name that was given."""

    code = "not_found"


class NothingReady(OrchestrionError):
    """A claim found no task it may take now."""

    code = "nothing_ready"


class Conflict(OrchestrionError):
    """The request was sound, but the state found does not allow it."""

    code = "conflict"


class IllegalMove(Conflict):
    """The transition table has no such move, or not for this decision; the row is as it was.

    ``only`` are the states on which the decision that was asked for works.
    """

    code = "illegal_move"

    def __init__(
        self, what: str, found: str, asked: str, possible: Sequence[str], *, only: Sequence[str] = (), hint: str = ""
    ) -> None:
        ways = ", ".join(possible) or "nowhere: this state is final"
        rule = f"this works on what is {', '.join(only)}"
        super().__init__(
            f"{what} is {found}; {rule}"
            if only
            else f"{what} is {found} and cannot become {asked}; from {found} it can go to {ways}",
            hint=hint,
            what=what,
            found=found,
            asked=asked,
            possible=list(possible),
        )


class StaleRun(Conflict):
    """A write names a run that is no longer its task's current one."""

    code = "stale_run"


class AlreadyTaken(Conflict):
    """Another run or process holds what was asked for."""

    code = "already_taken"


class Backpressure(Conflict):
    """There is no room; nothing was started or stored. Try again later."""

    code = "no_room"

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "", **details: Any) -> None:
        super().__init__(message, hint=hint, retry_after_s=retry_after_s, **details)


class MergeConflict(Conflict):
    """Two pieces of work changed the same lines."""

    code = "merge_conflict"

    def __init__(self, files: Sequence[str], *, hint: str = "") -> None:
        super().__init__(f"merge conflict in {', '.join(files)}", hint=hint, files=list(files))


class EnvironmentProblem(OrchestrionError):
    """The machine cannot do it: a program, a file system or a database is at fault."""

    code = "environment"


class GitProblem(EnvironmentProblem):
    """git is missing, too old, or refused what it was asked."""

    code = "git"


class AgentProblem(EnvironmentProblem):
    """An agent program is missing or cannot be started."""

    code = "agent"


class DamagedRow(EnvironmentProblem):
    """A row of the database holds what this program never writes; all other rows can be used."""

    code = "row_damaged"

    def __init__(self, thing: str, column: str, found: str) -> None:
        #: The command that clears it; empty: none does.
        self.mend = _CLEARED_BY.get(column, "").format(thing=thing) if thing.startswith("T") else ""
        super().__init__(
            f"{column} of {thing} cannot be read: {found}",
            hint="something else than this program changed it: copy the store, then put in its place what a copy of "
            f"before has there{f', or {self.mend}' if self.mend else ''}; `orchestrion health` names all that it finds",
            thing=thing,
            column=column,
        )


#: What puts right what a hand did to tasks and runs.
CLEANUP = "`orchestrion cleanup` sets it right"
#: A list or an object of a task -> what clears it.
_CLEARED_BY = {
    "checks": "`orchestrion update {thing} --no-check` clears it",
    "tags": "`orchestrion update {thing} --no-tag` clears it",
    "context": "`orchestrion update {thing} --no-context` clears it",
    "metadata": "`orchestrion update {thing} --no-metadata` clears it",
}


class StoreProblem(EnvironmentProblem):
    """The database cannot be used as it is."""

    code = "store"
