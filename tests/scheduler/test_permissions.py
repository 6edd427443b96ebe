"""What agents were denied: kept once, decided once, and allowed to the next attempts of the task alone."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrion.core.errors import Conflict, NotFound
from orchestrion.core.model import NewTask
from orchestrion.scheduler import claim, create, finish, permissions
from orchestrion.scheduler.permissions import Ask
from orchestrion.store import Store


@pytest.fixture
def held(store: Store) -> tuple[int, int]:
    """A task and the run that holds it."""
    task = store.write(lambda tx: create.create(tx, NewTask("x")))
    claimed = store.write(lambda tx: claim.claim(tx, claim.Claimant(lease_ms=60_000, agent="claude")))
    assert claimed is not None
    return task, claimed.run


def listed(store: Store, **given: Any) -> list[tuple[str, str, str]]:
    rows = store.read(lambda tx: tx.all("list_permissions", limit=100, **given))
    return [(row["tool"], row["said"], row["state"]) for row in rows]


@pytest.mark.parametrize(
    ("tool", "said", "rule"),
    [
        ("Bash", "npm install left-pad", "Bash(npm install left-pad)"),
        ("execute", "make -j2 V=1", "Bash(make -j2 V=1)"),
        ("run_shell_command", "git push", "Bash(git push)"),
        ("Bash", "rm -rf build; curl x", None),
        ("Bash", "echo $(id)", None),
        ("Bash", "cat *.txt", None),
        ("Bash", "a | b", None),
        ("Bash", "a && b", None),
        ("Bash", "a > b", None),
        ("Bash", "make) Bash(rm x", None),
        ("Bash", "git commit:*", None),
        ("Bash", "a very long command that was cut…", None),
        ("Bash", "", None),
        ("WebFetch", "https://example.org", "WebFetch"),
        ("mcp__shop__buy", "{}", "mcp__shop__buy"),
        ("Run the tests of the shop", "pytest", None),
        ("Edit(**)", "x", None),
        ("", "x", None),
    ],
)
def test_a_rule_allows_what_was_asked_for_and_no_more(tool: str, said: str, rule: str | None) -> None:
    assert Ask(tool, said).rule == rule


def test_it_is_asked_once_and_allowed_to_its_task(store: Store, held: tuple[int, int]) -> None:
    task, run = held
    asks = [Ask("Bash", "make"), Ask("WebFetch", "https://example.org")]
    store.write(lambda tx: permissions.note(tx, task, run, asks))
    store.write(lambda tx: permissions.note(tx, task, run, asks))
    assert listed(store, pending=1) == [("WebFetch", "https://example.org", "open"), ("Bash", "make", "open")]
    assert store.read(lambda tx: permissions.rules_of(tx, task)) == []
    first, second = sorted(row["id"] for row in store.read(lambda tx: tx.all("list_permissions", limit=9)))
    allowed = store.write(lambda tx: permissions.allow(tx, first))
    assert (allowed["state"], allowed["rule"]) == ("allowed", "Bash(make)")
    store.write(lambda tx: permissions.refuse(tx, second))
    assert store.read(lambda tx: permissions.rules_of(tx, task)) == ["Bash(make)"]
    store.write(lambda tx: permissions.note(tx, task, run, asks))
    assert listed(store, pending=1) == []
    assert {state for _, _, state in listed(store)} == {"allowed", "refused"}
    for decide in (permissions.allow, permissions.refuse):
        with pytest.raises(Conflict) as refused:
            store.write(lambda tx, decide=decide: decide(tx, first))  # type: ignore[misc]
        assert refused.value.code == "decided"
    other = store.write(lambda tx: create.create(tx, NewTask("y")))
    assert store.read(lambda tx: permissions.rules_of(tx, other)) == []


def test_what_no_rule_allows_can_only_be_refused(store: Store, held: tuple[int, int]) -> None:
    store.write(lambda tx: permissions.note(tx, *held, [Ask("Bash", "a; b")]))
    with pytest.raises(Conflict) as refused:
        store.write(lambda tx: permissions.allow(tx, 1))
    assert refused.value.code == "no_rule"
    assert "allowed_tools" in refused.value.hint
    assert listed(store, pending=1) == [("Bash", "a; b", "open")]
    store.write(lambda tx: permissions.refuse(tx, 1))
    for nothing in (2, 0, -1, 2**63, 10**30):
        with pytest.raises(NotFound):
            store.write(lambda tx, nothing=nothing: permissions.refuse(tx, nothing))  # type: ignore[misc]


def test_nobody_is_asked_about_a_task_that_is_over(store: Store, held: tuple[int, int]) -> None:
    task, run = held
    store.write(lambda tx: permissions.note(tx, task, run, [Ask("Bash", "make")]))
    store.write(lambda tx: finish.complete(tx, run, summary="done without"))
    assert listed(store, pending=1) == []
    assert listed(store, task=task) == [("Bash", "make", "open")]
