"""What went wrong, by its code in the failure taxonomy: our own errors and the system's."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import suppress

from orchestrion.core import private
from orchestrion.core.errors import DamagedRow, GitProblem, InvalidInput, NotFound, OrchestrionError
from orchestrion.core.retry import FAILURES

_BY_NUMBER = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EFBIG: "disk_full",
    errno.ENOMEM: "host_exhausted",
    errno.EAGAIN: "host_exhausted",
    errno.EMFILE: "host_exhausted",
    errno.ENFILE: "host_exhausted",
    errno.EACCES: "not_permitted",
    errno.EPERM: "not_permitted",
    errno.EROFS: "not_permitted",
    errno.ENOTDIR: "not_permitted",
}


def code_of(problem: BaseException) -> str:
    """The code of the taxonomy for an exception that ended a run, its causes considered."""
    is_of_workspaces = isinstance(problem, OrchestrionError) and problem.code == "workspace_disk"
    cause: BaseException | None = problem
    while cause is not None:
        # What has the place of the workspaces' folder is no run's.
        if (known := _known(cause)) and not (is_of_workspaces and isinstance(cause, private.NotPlain)):
            return known
        cause = cause.__cause__
    if is_of_workspaces:
        return "not_permitted"
    return "workspace_failed" if isinstance(problem, GitProblem | NotFound) else "internal"


def _known(problem: BaseException) -> str | None:
    if isinstance(problem, private.NotPlain):
        return "run_folder_bent"
    if isinstance(problem, OSError):
        return _BY_NUMBER.get(problem.errno or 0)
    if isinstance(problem, MemoryError):
        return "out_of_memory"
    return problem.code if isinstance(problem, OrchestrionError) and problem.code in FAILURES else None


def is_hopeless(problem: BaseException) -> bool:
    """Whether trying again cannot help, whatever the taxonomy says of the code: what is asked or stored is wrong."""
    return isinstance(problem, InvalidInput | NotFound | DamagedRow)


def words_of(problem: BaseException) -> str:
    """The exception in words that every database and log can hold."""
    if isinstance(problem, OrchestrionError):
        return printable(f"{problem.message} ({problem.hint})" if problem.hint else problem.message)
    return printable(f"{type(problem).__name__}: {problem}")


def tell_traceback(masker: Callable[[str], str]) -> None:
    """Prints where the exception that is being handled came from, for whoever mends this program."""
    import traceback

    with suppress(OSError):  # a full disk may be what this is about
        print(masker(traceback.format_exc()), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """``text`` without what UTF-8 or PostgreSQL cannot hold: bytes that were no text, and NUL."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\ufffd")
