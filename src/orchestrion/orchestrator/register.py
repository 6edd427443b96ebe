"""Which databases a clone had: one that is gone must not be taken for one that never was.

Whoever asks a project for its tasks makes its database on first use. If that happened where the
database was moved away, or lies on a disk that is not mounted, an empty one would take its place
and nobody would be told. So each clone keeps a list beside its store, in the file ``stores``.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.errors import NotFound, StoreProblem
from orchestrion.core.masking import masked_address
from orchestrion.core.project import Project

#: Stands for the file in the store's folder, which moves with the project.
_OWN = "own"


def had(project: Project, url: str) -> bool:
    """Whether this clone had the database at ``url``, an address or a path.

    Where the store's folder is gone, and the list with it, the refs of what runs did say that there was one.
    """
    line = _line(project, url)
    return line in _lines(project) or (line == _OWN and not project.store_dir.exists() and _has_refs(project))


def had_a_project(project: Project, url: str, clone: str | None) -> bool:
    """Whether this very clone, not the one that it is a copy of, had a project in the database at ``url``."""
    return clone is not None and f"{clone} {_line(project, url)}" in _lines(project)


def note(project: Project, url: str, clone: str | None) -> None:
    """This clone has the database at ``url``, and its project there. A folder that cannot be written keeps no list."""
    lines, line = _lines(project), _line(project, url)
    news = [one for one in (line, *([f"{clone} {line}"] if clone else [])) if one not in lines]
    if news:
        with suppress(OSError):
            private.write(_file(project), "".join(f"{one}\n" for one in [*lines, *news]))


def refuse_new(project: Project, url: str) -> None:
    """Raises NotFound unless this clone had the database at ``url``: from inside a run one only reads what is there."""
    if not had(project, url):
        raise NotFound(
            f"the project {project.root} has no store at {masked_address(url)}, and inside a run none is made",
            hint="a person may: `orchestrion init`",
            code="no_store",
        )


def gone(url: str) -> StoreProblem:
    """The error for a database that this clone had, and that is not there."""
    return StoreProblem(
        f"there is no store at {masked_address(url)}, where this project had one",
        hint="put it back, or mount what it lies on; `orchestrion init` begins a new one, without its tasks",
        code="store_missing",
    )


def _has_refs(project: Project) -> bool:
    if project.git_root is None:
        return False
    from orchestrion.runs.git import Git  # only a project's first use comes here

    return bool(Git(project.git_root).run("for-each-ref", "--count=1", "refs/orchestrion", check=False).stdout)


def _lines(project: Project) -> list[str]:
    try:
        return private.read(_file(project)).splitlines()
    except OSError:
        return []


def _line(project: Project, url: str) -> str:
    is_own = "://" not in url and Path(url).parent == project.store_dir
    return _OWN if is_own else masked_address(url)


def _file(project: Project) -> Path:
    return project.store_dir / "stores"
