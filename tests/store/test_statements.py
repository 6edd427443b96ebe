"""Every named statement can be prepared on both databases, in every variant, and is used somewhere."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrion
from orchestrion.core.states import TASK_EDGES, TaskState, edge_state
from orchestrion.store import Store, open_store, statements
from orchestrion.store.statements import FOLDER, edge_state_sql, read

SOURCE = Path(orchestrion.__file__).parent
SHARED = read(FOLDER)
OVERRIDES = {dialect: read(FOLDER / dialect / "override") for dialect in ("sqlite", "postgres")}
#: How PostgreSQL writes many events in one statement; SQLite executes one statement many times.
DIALECT_ONLY = {
    "claim_at_once",
    "complete_at_once",
    "journal_numbers",
    "transactions",
    "lost_references",
    "search_probe",
    "guards",
    "columns_of_tables",
    "checks_of_tables",
    "counters",
    "set_counter",
    "forget_counter",
}
NAMES = sorted(SHARED.keys() | OVERRIDES["sqlite"].keys() | OVERRIDES["postgres"].keys())


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def any_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One database for all statements: nothing is executed."""
    if request.param == "sqlite":
        opened = open_store(str(tmp_path_factory.mktemp("statements") / "a.db"))
    else:
        opened = open_store(request.getfixturevalue("postgres").new())
    yield opened
    opened.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_can_be_prepared_in_every_variant(any_store: Store, name: str) -> None:
    if name in DIALECT_ONLY and name not in OVERRIDES[any_store.dialect]:
        return
    if any_store._statements.source(name).split("\n")[-1].startswith("lock table"):
        return  # PREPARE knows no such statement; tests of limits execute it
    for given in _variants(any_store, name):
        text = any_store._statements.text(name, given)
        assert "{" not in text, text
        assert "--?" not in text, text
        _prepare(any_store, text)


def test_every_statement_is_used() -> None:
    named = re.compile(r'"(\w+)"')
    used = {n for file in SOURCE.rglob("*.py") for n in named.findall(file.read_text(encoding="utf-8"))}
    assert set(NAMES) - used == set()


def test_every_statement_that_is_asked_for_exists() -> None:
    asked = re.compile(r'\btx\.(?:one|the|all|run|each|ask|put|must)\(\s*"(\w+)"')
    found = {n for file in SOURCE.rglob("*.py") for n in asked.findall(file.read_text(encoding="utf-8"))}
    assert found
    assert found - set(NAMES) == set()


def test_every_statement_says_in_a_sentence_what_it_is_for() -> None:
    sources = [source for known in (SHARED, *OVERRIDES.values()) for source in known.values()]
    sentence = re.compile(r"-- [A-Z].*\.\n|(-- .*\n)+-- .*\.\n")
    assert [source for source in sources if not sentence.match(source)] == []


def test_shared_sql_has_nothing_that_a_driver_reads_otherwise() -> None:
    """A percent sign is a parameter to one driver, a colon in a text to the other."""
    for name, source in SHARED.items():
        code = re.sub(r"--.*", "", source)
        assert "%" not in code, name
        assert not [text for text in re.findall(r"'[^']*'", code) if ":" in text], name


def test_no_name_is_given_twice() -> None:
    for folder in (FOLDER, FOLDER / "sqlite" / "override", FOLDER / "postgres" / "override"):
        names = re.findall(
            r"^-- name: (\w+)$", "".join(f.read_text() for f in sorted(folder.glob("*.sql"))), re.MULTILINE
        )
        assert sorted(names) == sorted(set(names))


def test_an_override_overrides_something_and_takes_the_same_values() -> None:
    parameter = re.compile(r"(?<![:\w]):(\w+)|\{(\w+)\[(?:text)?\]\}|--\? (\w+)")
    for override in OVERRIDES.values():
        for name, source in override.items():
            if name in DIALECT_ONLY:
                continue
            takes, shared = ({"".join(m) for m in parameter.findall(text)} for text in (source, SHARED[name]))
            assert takes - {"project", "now"} <= shared | {"project", "now"}, name


def test_an_optional_line_is_there_only_when_its_value_is(any_store: Store) -> None:
    text = any_store._statements.text
    without, with_tag = text("list_tasks", {"tag": None}), text("list_tasks", {"tag": "x", "role": None})
    assert "tags" not in without.partition("where")[2]
    assert "g.tag" in with_tag
    assert text("list_tasks", {}) == without


def test_the_edge_rules_in_sql_are_those_of_the_table(any_store: Store) -> None:
    cases = [(kind, state) for kind in TASK_EDGES for state in TaskState]
    rows = ", ".join(f"('{kind}', '{state}')" for kind, state in cases)
    sql = (
        f"with given(kind, state) as (values {rows}) select e.kind, p.state, {edge_state_sql()} as result"
        " from (select kind, state as of from given) e join given p on p.kind = e.kind and p.state = e.of"
    )
    found = any_store.read(lambda tx: tx._query(sql, {}))
    assert {(row["kind"], row["state"]): row["result"] for row in found} == {
        (str(kind), str(state)): str(edge_state(kind, state)) for kind, state in cases
    }


def _variants(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """Each optional line alone, none of them, and all."""
    source = store._statements.source(name)
    options = statements._options(source)
    given: list[tuple[str, ...]] = [(), *((option,) for option in options), tuple(options)]
    if len(options) <= 3:
        given = [chosen for size in range(len(options) + 1) for chosen in itertools.combinations(options, size)]
    for chosen in given:
        yield dict.fromkeys(chosen, 1)


def _prepare(store: Store, text: str) -> None:
    if store.dialect == "sqlite":
        values = dict.fromkeys(re.findall(r"(?<![:\w]):(\w+)", text), "[]")
        store._connection().execute(f"explain {text}", values).fetchall()  # type: ignore[attr-defined]
        return
    numbers: dict[str, str] = {}
    text = re.sub(r"%\((\w+)\)s", lambda m: numbers.setdefault(m[1], f"${len(numbers) + 1}"), text)
    connection = store._connection()  # type: ignore[attr-defined]
    connection.execute(f"prepare a_statement as {text}".encode())
    connection.execute("deallocate a_statement")
