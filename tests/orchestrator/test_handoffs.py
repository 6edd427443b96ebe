"""What somebody who leaves says is told to whoever comes next, and no other word puts it aside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_remembering import tokens

from orchestrion import Orchestrator
from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.orchestrator.documenting import documents

pytestmark = pytest.mark.long


@pytest.fixture
def agent(project: Path, store_url: str, environ: dict[str, str], orchestrion: Orchestrator) -> Iterator[Orchestrator]:
    """A run of T1 and what it may say."""
    orchestrion.add("Held", tags=("docs",))
    orchestrion.claim("T1")
    within = {**environ, "ORCHESTRION_RUN": f"{orchestrion.store.uuid}/R1"}
    with Orchestrator.open(project, db=store_url, environ=within) as opened:
        yield opened


def test_the_last_one_of_each_scope_is_told_until_its_task_is_over(orchestrion: Orchestrator) -> None:
    for title in ("One", "Two"):
        orchestrion.add(title)
    orchestrion.handoff(text="not yet")
    orchestrion.handoff(text="release is frozen")
    orchestrion.handoff(task="T1", text="first this")
    orchestrion.handoff(task="T2", text="mind the gap")
    orchestrion.handoff(tag="docs", text="short sentences")
    orchestrion.handoff(task="T1")
    text = orchestrion.prime()
    said = ["H2 for everybody, by", "> release is frozen", "H5 for work stream docs, by", "> short sentences"]
    said += ["H4 for T2, by", "> mind the gap", "H3 for T1, by", "> first this"]
    places = [text.find(one) for one in said]
    assert places == sorted(places), text
    assert -1 not in places, text
    assert "not yet" not in text
    assert "- and 2 more: `orchestrion handoff --list`" in text
    orchestrion.done(orchestrion.claim("T1")["run"], "done")
    orchestrion.cancel("T2", "no")
    text = orchestrion.prime()
    assert "first this" not in text
    assert "mind the gap" not in text
    assert "- and 4 more: `orchestrion handoff --list`" in text
    assert "release is frozen" in orchestrion.prime(tag="docs")


def test_of_a_work_stream_no_other_stream_and_no_other_task_is_told(orchestrion: Orchestrator) -> None:
    orchestrion.add("One", tags=("docs",))
    orchestrion.add("Two")
    for where in ({"task": "T1"}, {"task": "T2"}, {"tag": "docs"}, {"tag": "tests"}, {"task": "T2", "tag": "docs"}):
        orchestrion.handoff(text=f"word {' '.join(where.values())}.", **where)  # type: ignore[arg-type]
    text = orchestrion.prime(tag="docs")
    assert [one for one in ("T1.", "T2.", "docs.", "tests.", "T2 docs.") if f"> word {one}" in text] == [
        "T1.",
        "docs.",
        "T2 docs.",
    ]


def test_what_a_run_leaves_stands_beside_what_a_person_said(orchestrion: Orchestrator, agent: Orchestrator) -> None:
    orchestrion.handoff(text="release is frozen")
    agent.handoff(text="nothing special")
    agent.handoff(text="nothing at all")
    text = orchestrion.prime()
    assert "release is frozen" in text
    assert "H3 for everybody, by run:R1" in text
    assert "nothing special" not in text
    orchestrion.handoff(text="all is well again")
    text = orchestrion.prime()
    assert "all is well again" in text
    assert "frozen" not in text
    assert "nothing at all" not in text


def test_so_it_is_for_who_goes_on_with_the_task_or_the_stream(orchestrion: Orchestrator, agent: Orchestrator) -> None:
    orchestrion.handoff(task="T1", text="an older word")
    orchestrion.handoff(task="T1", text="keep the tests")
    agent.handoff(task="T1", text="half done")
    orchestrion.handoff(tag="docs", text="short sentences")
    agent.handoff(tag="docs", text="long words")
    context = orchestrion.recover("T1")["text"]
    for said in ("H3 of run:R1: half done", "keep the tests", "- and 1 more: `orchestrion handoff T1 --list`"):
        assert said in context, context
    stream = orchestrion.recover_stream("docs")["text"]
    assert "short sentences" in stream
    assert "long words" in stream
    orchestrion.release("R1")
    brief = orchestrion.claim("T1")["brief"]
    for said in ("half done", "keep the tests", "short sentences", "long words"):
        assert said in brief, brief
    assert "an older word" not in brief


def test_all_are_listed_and_found(orchestrion: Orchestrator) -> None:
    orchestrion.add("One")
    for number in range(5):
        orchestrion.handoff(text=f"word {number}")
    orchestrion.handoff(task="T1", text="Release is\n\nFROZEN")
    page = orchestrion.list_handoffs(limit=4)
    assert [one["id"] for one in page["handoffs"]] == ["H6", "H5", "H4", "H3"]
    assert (page["total"], page["next_cursor"]) == (6, "H3")
    assert page["handoffs"][0]["about"] == "for T1"
    assert page["handoffs"][0]["said"] == "Release is\n\nFROZEN"
    rest = orchestrion.list_handoffs(cursor="H3")
    assert [one["id"] for one in rest["handoffs"]] == ["H2", "H1"]
    assert rest["next_cursor"] is None
    assert [one["id"] for one in orchestrion.list_handoffs(task="T1")["handoffs"]] == ["H6"]
    assert orchestrion.list_handoffs(tag="docs")["total"] == 0
    for unknown in ({"task": "T9"}, {"session": "S9"}):
        with pytest.raises(NotFound):
            orchestrion.list_handoffs(**unknown)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        orchestrion.list_handoffs(cursor="T1")
    [found] = orchestrion.search("froz release")["results"]
    assert (found["id"], found["state"]) == ("H6", None)
    assert "FROZEN" in found["excerpt"]
    assert [one["id"] for one in orchestrion.search("word", limit=2)["results"]] == ["H5", "H4"]
    assert orchestrion.search("frozen", kinds=["decision"])["results"] == []
    assert [one["id"] for one in orchestrion.search("frozen", kinds=["handoff"])["results"]] == ["H6"]
    # How all stood is in the text, but nobody said it.
    assert [one["id"] for one in orchestrion.search("one")["results"]] == ["T1"]


def test_long_ones_leave_room_for_short_ones(orchestrion: Orchestrator) -> None:
    huge = "\n".join(f"line {number} {'ü' * 100}" for number in range(500))
    for tag in (None, "a", "b", "c", "d", "e", "f", "g", "h", "i"):
        orchestrion.handoff(text="short" if tag == "f" else huge, tag=tag)
    text = orchestrion.prime()
    assert tokens(text) <= 1500
    assert "H1 for everybody" in text
    assert "> short" in text
    assert "more lines: `orchestrion show H1`" in text
    assert tokens(orchestrion.prime(budget_tokens=200)) <= 200


def test_what_stands_is_in_the_document_to_hand_over(orchestrion: Orchestrator, agent: Orchestrator) -> None:
    orchestrion.handoff(text="release is frozen")
    agent.handoff(text="nothing special")
    text = documents(orchestrion, "full_audit", task=None, session=None)["HANDOVER.md"]
    assert "> release is frozen" in text
    assert "> nothing special" in text
    assert "H2 for everybody, " in text
