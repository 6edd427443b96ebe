"""A database that a clone had is not made anew where it is gone; both databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import NotFound, OrchestrionError, StoreProblem
from orchestrion.orchestrator import register
from premises import Premises, clean_environ


@pytest.fixture
def place(tmp_path: Path) -> Premises:
    one = Premises(tmp_path / "project", clean_environ(tmp_path))
    one.make()
    return one


def gone(place: Premises, **given: Any) -> str:
    with pytest.raises(OrchestrionError) as refused:
        Orchestrator.open(place.root, environ=place.environ, **given)
    return refused.value.code


def test_a_file_that_was_moved_away_is_missed(place: Premises) -> None:
    with place.open() as opened:
        opened.add("first")
    file = place.root / ".git" / "orchestrion" / "orchestrion.db"
    away = file.replace(file.with_name("away.db"))
    for create in (True, False):
        assert gone(place, create=create) == "store_missing"
        assert not file.exists()
        file.touch()
        assert gone(place, create=create) == "store_missing"
        assert file.read_bytes() == b""
        file.unlink()
    away.replace(file)
    place.root = place.root.rename(place.root.with_name("renamed"))
    with place.open() as opened:
        assert [task.as_json()["title"] for task in opened.list_tasks().items] == ["first"]
    (place.root / ".git" / "orchestrion" / "orchestrion.db").unlink()
    assert gone(place) == "store_missing"
    Orchestrator.init(place.root, environ=place.environ)
    with place.open() as opened:
        assert not opened.list_tasks().items


def test_a_store_s_folder_that_is_gone_is_missed_where_refs_say_that_there_was_one(place: Premises) -> None:
    with place.open() as opened:
        opened.add("first", command="echo first > first")
        opened.work(slots=1, drain=True)
    folder = place.root / ".git" / "orchestrion"
    away = folder.rename(folder.with_name("away"))
    for create in (True, False):
        assert gone(place, create=create) == "store_missing"
        assert not folder.exists()
    away.rename(folder)
    with place.open() as opened:
        assert [task.as_json()["state"] for task in opened.list_tasks().items] == ["completed"]
    folder.rename(away)
    Orchestrator.init(place.root, environ=place.environ)
    with place.open() as opened:
        assert not opened.list_tasks().items


def test_what_a_project_never_had_is_made(place: Premises, tmp_path: Path) -> None:
    other = str(tmp_path / "other.db")
    with pytest.raises(NotFound):
        Orchestrator.open(place.root, db=other, environ=place.environ, create=False)
    Orchestrator.open(place.root, db=other, environ=place.environ).close()
    Path(other).unlink()
    assert gone(place, db=other) == "store_missing"


def test_a_database_without_its_tables_is_missed(place: Premises, postgres: Any) -> None:
    database = postgres.new()
    with Orchestrator.open(place.root, db=database, environ=place.environ) as opened:
        opened.add("first")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop schema public cascade; create schema public")
    assert gone(place, db=database) == "store_missing"


def test_the_error_names_no_password(place: Premises) -> None:
    error = register.gone("postgresql://ada:secret-of-ada@host/db")
    assert isinstance(error, StoreProblem)
    assert "secret-of-ada" not in str(error)


def test_init_says_that_it_made_a_project_in_a_database_where_there_was_none(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    """The clone of a team has the file of settings before it has the project."""
    (tmp_path / ".orchestrion").mkdir()
    (tmp_path / ".orchestrion" / "config.yaml").write_text("project: {name: team}\n")
    environ = clean_environ(tmp_path)
    url = new_database()
    assert [Orchestrator.init(tmp_path, db=url, environ=environ)["created"] for _ in range(2)] == [True, False]
    assert Orchestrator.init(tmp_path, db=new_database(), environ=environ)["created"]
