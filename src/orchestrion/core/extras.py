"""Libraries that not everybody needs: they come with an *extra* of the package, and may be missing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrion.core.errors import EnvironmentProblem


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Around the imports that ``what`` needs. Raises EnvironmentProblem (``extra_missing``) if one fails."""
    try:
        yield
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] == "orchestrion":
            raise  # that is a mistake of ours
        raise missing(name, what, error.name or str(error)) from error


def require(name: str, what: str, *libraries: str) -> None:
    """Looks whether libraries are there, without loading them. Raises EnvironmentProblem (``extra_missing``)."""
    from importlib.util import find_spec

    for library in libraries:
        if find_spec(library) is None:
            raise missing(name, what, library)


def missing(name: str, what: str, library: str) -> EnvironmentProblem:
    """The error for a library of an extra that is not installed."""
    return EnvironmentProblem(
        f"{what} needs {library}, which is not installed",
        hint=f"{install(name)}; nothing was changed",
        code="extra_missing",
        extra=name,
        library=library,
    )


def install(name: str) -> str:
    """The command that installs an extra where this program is, whatever ``pip`` means in the caller's shell."""
    return f"{shlex.quote(sys.executable)} -m pip install 'orchestrion[{name}]'"
