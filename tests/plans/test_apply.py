"""A plan meets tasks that are there already: what is refused, and that nothing of it stays."""

from __future__ import annotations

import pytest

from orchestrion.core.errors import Conflict, CycleRefused, InvalidInput, NotFound
from orchestrion.core.model import NewTask, Wait
from orchestrion.plans.apply import Applied, Defaults, apply
from orchestrion.plans.source import parse
from orchestrion.scheduler import create, decide
from orchestrion.store import Store


def put(store: Store, text: str, limits: create.Limits | None = None) -> Applied:
    document = parse(text, "plan.yaml")
    return store.write(lambda tx: apply(tx, document, Defaults(), limits))


def states(store: Store) -> dict[str, str]:
    rows = store.read(lambda tx: tx.all("list_tasks", after=0, limit=100))
    return {row["title"]: row["state"] for row in rows}


def test_a_new_child_cannot_wait_for_what_waits_for_its_parent(store: Store) -> None:
    known = put(store, "plan: p\ntasks: [{key: top, title: Top, children: [{key: a, title: A}]}]")
    outsider = store.write(lambda tx: create.create(tx, NewTask("Outsider", waits=(Wait(known.tasks["top"]),))))
    again = f"""
plan: p
tasks:
  - key: top
    title: Top
    children: [{{key: a, title: A}}, {{key: b, title: B, after: [T{outsider}]}}]
"""
    with pytest.raises(CycleRefused) as refused:
        put(store, again)
    assert f"T{outsider}" in refused.value.details["cycle"]
    assert "B" not in states(store)


def test_limits_of_the_hierarchy_hold(store: Store) -> None:
    deep = "plan: p\ntasks: [{title: A, children: [{title: B, children: [{title: C}]}]}]"
    with pytest.raises(InvalidInput, match="depth 3"):
        put(store, deep, create.Limits(max_depth=2))
    wide = "plan: p\ntasks: [{title: A, children: [{title: B}, {title: C}, {title: D}]}]"
    with pytest.raises(InvalidInput, match="3 children"):
        put(store, wide, create.Limits(max_children=2))
    assert states(store) == {}


def test_a_cancelled_parent_takes_no_children(store: Store) -> None:
    known = put(store, "plan: p\ntasks: [{key: top, title: Top, children: [{key: a, title: A}]}]")
    store.write(lambda tx: decide.cancel(tx, known.tasks["top"], "not wanted"))
    with pytest.raises(Conflict, match="takes no children"):
        put(store, "plan: p\ntasks: [{key: top, title: Top, children: [{key: b, title: B}]}]")


def test_a_plan_waits_for_a_task_outside(store: Store) -> None:
    outside = store.write(lambda tx: create.create(tx, NewTask("Outside")))
    put(store, f"plan: p\ntasks: [{{title: A, after: [T{outside}]}}]")
    assert states(store) == {"Outside": "ready", "A": "pending"}
    with pytest.raises(NotFound):
        put(store, "plan: q\ntasks: [{title: A, after: [T99]}]")


def test_waits_and_parents_follow_the_document(store: Store) -> None:
    first = put(store, "plan: p\ntasks: [{key: a, title: A}, {key: b, title: B, after: [a]}, {key: top, title: Top}]")
    assert states(store)["B"] == "pending"
    put(store, "plan: p\ntasks: [{key: a, title: A}, {key: top, title: Top, children: [{key: b, title: B}]}]")
    assert states(store) == {"A": "ready", "B": "ready", "Top": "pending"}
    row = store.read(lambda tx: tx.the("task", id=first.tasks["b"]))
    assert row["parent"] == first.tasks["top"]
