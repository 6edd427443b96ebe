"""Errors at this door: one table from their class to the exit code, one shape for people, one for programs.

People read what happened and what to do next, on stderr. With ``--json`` it is
``{"error": {"code", "message", "hint", "details"}}``. Nobody is ever shown a stack trace: an
error that we did not foresee is kept in a file, and its name is said.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from orchestrion.core import private
from orchestrion.core.errors import (
    Conflict,
    EnvironmentProblem,
    InvalidInput,
    NotFound,
    NothingReady,
    OrchestrionError,
)
from orchestrion.core.masking import masked_value

OK, UNEXPECTED, USAGE, ENVIRONMENT, NOT_ALL_COMPLETED, INTERRUPTED = 0, 1, 2, 7, 8, 130

#: exit code -> what it means; the table of the reference page.
MEANINGS = {
    OK: "done",
    UNEXPECTED: "unexpected: a mistake of ours; the traceback is in a file that the message names",
    USAGE: "usage: an option or argument is wrong or missing",
    3: "nothing to do: no task is ready for this claim",
    4: "not found: no such task, run, plan, gate, file, project",
    5: "conflict: an illegal move, a run that is no longer current, a task that is taken, a merge conflict",
    6: "invalid input: a value that no task, plan or setting may have",
    ENVIRONMENT: "environment: git, agent or database missing, locked, read-only, too new; disk full; no permission",
    NOT_ALL_COMPLETED: "finished, but not everything completed (`work --drain`, `demo`)",
    INTERRUPTED: "ended by Ctrl-C",
}

#: class of an error -> exit code; a subclass that is not named has its parent's.
EXIT_CODES: dict[type[Exception], int] = {
    OrchestrionError: UNEXPECTED,
    click.ClickException: USAGE,
    NothingReady: 3,
    NotFound: 4,
    Conflict: 5,
    InvalidInput: 6,
    EnvironmentProblem: ENVIRONMENT,
}

#: What the operating system refuses -> our code and what to do.
_REFUSED = {
    errno.EACCES: ("permission", "check the owner and the permissions"),
    errno.EPERM: ("permission", "check the owner and the permissions"),
    errno.EROFS: ("read_only", "the file system is read-only; name another place"),
    errno.ENOSPC: ("disk_full", "free some disk space, then try again"),
    errno.EDQUOT: ("disk_full", "free some disk space, or have the quota raised, then try again"),
    errno.EMFILE: ("host_exhausted", "raise the limit of open files (`ulimit -n`)"),
}
_BENT = "an agent may have put it there; look at it (`ls -l`), and move it away"
#: Lines of a failed command's output that people are shown.
_OUTPUT_SHOWN = 20
#: Characters of a message at most.
_LONGEST = 2_000
#: The file of unforeseen errors begins anew beyond this size.
_MOST_KEPT = 1_000_000


def exit_code(error: Exception) -> int:
    """The exit code of an error that callers are meant to read."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def foreseen(error: Exception) -> OrchestrionError | click.ClickException | None:
    """``error`` as one that has a place in the table; None if nobody thought of it."""
    if isinstance(error, OrchestrionError | click.ClickException):
        return error
    return refused(error) if isinstance(error, OSError) and error.errno is not None else None


def refused(error: OSError) -> EnvironmentProblem:
    """What the operating system refused, in our words."""
    if isinstance(error, private.NotPlain):
        return EnvironmentProblem(f"{error.strerror}: {error.filename}", hint=_BENT, code="not_plain")
    code, hint = _REFUSED.get(error.errno or 0, ("os_error", "check the path and the machine"))
    where = f": {_path(error.filename)}" if error.filename else ""
    return EnvironmentProblem(f"{error.strerror}{where}", hint=hint, code=code)


def _path(name: str | bytes | int) -> str:
    return os.fsdecode(name) if isinstance(name, str | bytes) else str(name)


def show(error: OrchestrionError | click.ClickException, as_json: bool) -> int:
    """Says what went wrong and what to do, on stderr. Returns the exit code."""
    facts = masked_value(as_facts(error))
    facts["message"] = _bounded(facts["message"])
    _show(facts, as_json)
    return exit_code(error)


def _bounded(message: str) -> str:
    """A message that names something endless is cut in the middle: both ends say what it is about."""
    half = _LONGEST // 2
    return message if len(message) <= _LONGEST else f"{message[:half]} … {message[-half:]}"


def as_facts(error: OrchestrionError | click.ClickException) -> dict[str, Any]:
    """``{code, message, hint, details}`` of an error."""
    if isinstance(error, OrchestrionError):
        return error.as_dict()
    # What is like the word that nobody knows stands in an attribute; in the message each release words it anew.
    near = getattr(error, "possibilities", None)
    message = error.message if near else error.format_message()
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "orchestrion"
    return {
        "code": "usage",
        "message": message[:1].lower() + message[1:].rstrip("."),
        "hint": f"{hint}`{path} --help` shows how it is used",
        "details": {},
    }


def show_unforeseen(error: Exception, as_json: bool, environ: Mapping[str, str]) -> int:
    """Keeps the traceback in a file, and says in one line that there is one."""
    file = _keep(error, environ)
    said = masked_value(str(error)).partition("\n")[0][:200]
    facts = {
        "code": "unexpected",
        "message": f"unexpected {type(error).__name__}{f': {said}' if said else ''}",
        "hint": f"please report it with the traceback in {file}" if file else "please report it",
        "details": {"traceback": str(file) if file else None},
    }
    _show(facts, as_json)
    return UNEXPECTED


def _show(facts: dict[str, Any], as_json: bool) -> None:
    from orchestrion.interfaces.cli import output

    if as_json:
        output.document({"error": facts}, sys.stderr)
        return
    for line in _for_people(facts):
        output.note(line)


def _for_people(facts: dict[str, Any]) -> Sequence[str]:
    from orchestrion.interfaces.cli.output import block, paint, plain

    said = [f"{paint('error:', 'red', 'bold', stream=sys.stderr)} {plain(facts['message'])}"]
    evidence = facts["details"].get("output")
    if isinstance(evidence, str) and evidence.strip():
        said += [f"  | {line}" for line in block(evidence).rstrip().split("\n")[-_OUTPUT_SHOWN:]]
    if facts["hint"]:
        said.append(f"{paint('hint:', 'cyan', 'bold', stream=sys.stderr)} {plain(facts['hint'])}")
    return said


def _keep(error: Exception, environ: Mapping[str, str]) -> Path | None:
    """Writes the traceback where only this user reads it; None where that is not possible."""
    import traceback
    from datetime import UTC, datetime

    home = Path(environ.get("HOME", "/nonexistent"), ".local", "state")
    file = Path(environ.get("XDG_STATE_HOME") or home, "orchestrion", "errors.log")
    text = masked_value("".join(traceback.format_exception(error)))
    try:
        private.make_folder(file.parent, parents=True)
        fresh = not file.exists() or file.stat().st_size > _MOST_KEPT
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if fresh else os.O_APPEND)
        with os.fdopen(os.open(file, flags, 0o600), "w", encoding="utf-8", errors="backslashreplace") as kept:
            kept.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}\n{text}\n")
    except (OSError, ValueError):
        return None
    return file
