"""Fresh databases, SQLite's and PostgreSQL's, seen alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import count
from pathlib import Path

import psycopg

from orchestrion.store import Store, open_store


class Databases(ABC):
    """Makes databases of one kind."""

    #: ``sqlite`` or ``postgres``.
    dialect: str
    #: The name for people.
    title: str
    #: What a relaxed database trades for speed, as the documentation of its maker calls it.
    relaxed: str

    @abstractmethod
    def fresh(self) -> str:
        """The address of a new, empty database."""

    @abstractmethod
    def open(self, url: str, *, durable: bool = True) -> Store:
        """A store at ``url``; one that is not durable may forget the last moments at a power cut."""

    @abstractmethod
    def analyse(self, url: str) -> None:
        """Lets the database look at its tables, as it would by itself after a while."""

    @abstractmethod
    def drop(self, url: str) -> None:
        """Removes a database that nobody uses any more."""


class SqliteFiles(Databases):
    """Files below one folder."""

    dialect = "sqlite"
    title = "SQLite"
    relaxed = "synchronous=NORMAL"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)

    def fresh(self) -> str:
        return str(self._folder / f"bench{next(self._numbers)}.db")

    def open(self, url: str, *, durable: bool = True) -> Store:
        store = open_store(url)
        if not durable:
            # No caller may relax the store, so there is no public way to.
            store._connection().execute("pragma synchronous = normal")  # type: ignore[attr-defined]
        return store

    def analyse(self, url: str) -> None:
        """SQLite decides without statistics, in the product and here."""

    def drop(self, url: str) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(url + suffix).unlink(missing_ok=True)


class PostgresDatabases(Databases):
    """Databases of one server."""

    dialect = "postgres"
    title = "PostgreSQL"
    relaxed = "synchronous_commit=off"

    def __init__(self, address: str) -> None:
        self._address = address
        self._numbers = count(1)

    def fresh(self) -> str:
        name = f"bench{next(self._numbers)}"
        self._run(f"create database {name}")
        return self._address.replace("/postgres?", f"/{name}?")

    def open(self, url: str, *, durable: bool = True) -> Store:
        if not durable:
            self._run(f"alter database {self._name(url)} set synchronous_commit = off")
        return open_store(url)

    def analyse(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("analyze")

    def drop(self, url: str) -> None:
        self._run(f"drop database {self._name(url)} with (force)")

    def _name(self, url: str) -> str:
        return psycopg.conninfo.conninfo_to_dict(url)["dbname"]  # type: ignore[return-value]

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(statement.encode())
