"""Opening a store: which database an address means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrion.core.errors import InvalidInput
from orchestrion.store.store import ProjectKey, Store

#: How addresses of PostgreSQL begin.
_POSTGRES = ("postgresql://", "postgres://")


def open_store(
    url: str, *, project: str | ProjectKey = "default", create: bool = True, now: int | None = None
) -> Store:
    """Opens the database at ``url`` (a file's path, or ``postgresql://...``) for one project.

    With ``create`` a missing database is made; an older one is brought to this program's
    schema in any case (``Store.upgrade`` says so). Raises StoreProblem (missing, locked, read-only,
    corrupt, too new, unreachable), EnvironmentProblem (``extra_missing``), NotFound when there is none
    and ``create`` is false, InvalidInput for another scheme.
    """
    made, address = _kind_of(url)
    store = made(address, create=create, now=now)
    try:
        store.choose_project(ProjectKey(project) if isinstance(project, str) else project)
    except BaseException:
        store.close()
        raise
    return store


def prepare_store(url: str) -> None:
    """Loads what ``open_store`` will need for ``url``, and opens nothing. Raises InvalidInput for another scheme."""
    _kind_of(url)


def file_of(url: str) -> Path | None:
    """The SQLite file that ``url`` means; None: it is none. Raises InvalidInput for another scheme."""
    if url.startswith(_POSTGRES):
        return None
    return Path(_kind_of(url)[1]).absolute()


def _kind_of(url: str) -> tuple[Callable[..., Store], str]:
    if url.startswith(_POSTGRES):
        from orchestrion.core.extras import extra

        with extra("postgres", "a PostgreSQL database"):
            from orchestrion.store.postgres import PostgresStore

        return PostgresStore, url
    scheme, separator, rest = url.partition("://")
    if separator and scheme != "sqlite":
        raise InvalidInput(
            f"no store for {scheme}://...",
            hint="use a file's path for SQLite, or postgresql://user@host/database",
            code="invalid_store_url",
        )
    from orchestrion.store.sqlite import SqliteStore

    return SqliteStore, _path(url, rest) if separator else url


def _path(url: str, rest: str) -> str:
    """The file that ``sqlite:///path`` means, however many slashes begin it. Raises InvalidInput for none."""
    inner = rest.lstrip("/")
    if not inner or inner == rest or inner.startswith(":memory:") or "?" in rest or "#" in rest:
        raise InvalidInput(
            f"{url[:200]!r} names no file",
            hint="use a file's path, or sqlite:///whole/path.db",
            code="invalid_store_url",
        )
    return f"/{inner}"
