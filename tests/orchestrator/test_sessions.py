"""Who speaks for a session: whoever it was given to last, on both databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import AlreadyTaken, Conflict
from orchestrion.core.rights import Voice
from orchestrion.orchestrator.opening import voice_in

pytestmark = pytest.mark.long


class Shells:
    """Shells of one user: each call opens the project as a new process of theirs does."""

    def __init__(self, root: Path, db: str, environ: dict[str, str]) -> None:
        self._given: dict[str, Any] = {"folder": root, "db": db}
        self._environ = environ

    def __call__(self, handle: str | None = None) -> Orchestrator:
        return Orchestrator.open(
            **self._given, environ=self._environ | ({"ORCHESTRION_SESSION": handle} if handle else {})
        )


@pytest.fixture
def shell(project: Path, store_url: str, environ: dict[str, str], orchestrion: Orchestrator) -> Shells:
    """After one shell began a session, and claimed T1 in it."""
    one = Shells(project, store_url, environ)
    orchestrion.add("One")
    orchestrion.start_session("one", client="cli")
    with one("S1") as first:
        assert first.claim("T1")["run"] == "R1"
    return one


def resumed(shell: Shells, handle: str | None = None, session: str = "S1") -> str:
    with shell(handle) as opened:
        return str(opened.resume_session(session)["handle"])


def claimed(shell: Shells, handle: str | None = None) -> dict[str, Any]:
    with shell(handle) as opened:
        return opened.claim("T1")


def test_a_successor_is_told_the_session_of_a_shell(shell: Shells) -> None:
    way = "`orchestrion sessions S1 --resume`"
    with shell() as successor:
        with pytest.raises(AlreadyTaken) as refused:
            successor.claim("T1")
        [held] = successor.held_by_clients()
        told = [refused.value.hint, held["said"], successor.why("T1")["reasons"][0]["detail"]]
        told += [successor.prime(), successor.recover("T1")["text"]]
        for text in told:
            assert way in text
            assert "`export ORCHESTRION_SESSION=...`" in text
        assert (held["session"], held["held_by"].partition("/")[2]) == ("S1", "S1")


def test_who_resumes_in_a_shell_alone_is_given_the_run(shell: Shells) -> None:
    assert claimed(shell, "S1")["again"]
    with shell() as successor:
        found = successor.resume_session("S1")
        assert found["context"]["next_steps"][0].startswith("R1 of T1 is yours: `orchestrion claim T1`")
    assert claimed(shell, found["handle"])["again"]
    # Others of the same user hold nothing, and the one that had it learns so.
    with pytest.raises(AlreadyTaken, match="is held by R1"):
        claimed(shell)
    with pytest.raises(Conflict, match="S1 was resumed by") as refused:
        claimed(shell, "S1")
    assert refused.value.code == "session_taken_over"
    assert "`orchestrion sessions S1 --resume` takes S1 back" in refused.value.hint
    with shell("S1") as former:
        assert "yours" not in former.prime()
        with pytest.raises(Conflict) as refused:
            former.add("Another")
        assert refused.value.code == "session_taken_over"


def test_the_later_of_two_successors_has_the_session(shell: Shells) -> None:
    first, second = resumed(shell), resumed(shell)
    assert claimed(shell, second)["again"]
    with pytest.raises(Conflict) as refused:
        claimed(shell, first)
    assert refused.value.code == "session_taken_over"
    # It may be taken back, by whoever had it too; resuming what is one's own changes nothing.
    back = resumed(shell, first)
    assert claimed(shell, back)["again"]
    assert resumed(shell, back) == back
    with pytest.raises(Conflict):
        claimed(shell, second)


def test_a_client_whose_session_a_shell_resumed_has_it_no_longer(shell: Shells, orchestrion: Orchestrator) -> None:
    orchestrion.add("Two")
    theirs = orchestrion.start_session(client="claude-code", external="c1")
    client = orchestrion.on_behalf_of(f"mcp:claude-code/{theirs['id']}", theirs["id"])
    client.claim("T2")
    assert voice_in(orchestrion.store, theirs["handle"]) == Voice("S2")
    handle = resumed(shell, session="S2")
    assert voice_in(orchestrion.store, theirs["handle"]) == Voice(taken_over="S2")
    assert voice_in(orchestrion.store, handle) == Voice("S2")
    # Its name leads to another session, which holds nothing.
    again = orchestrion.start_session(external="c1")["id"]
    assert again not in ("S1", "S2")
    assert "holds T2" not in orchestrion.prime(session=again)
    with shell() as other, pytest.raises(AlreadyTaken):
        other.claim("T2")
    with shell(handle) as successor:
        assert successor.claim("T2")["again"]


@pytest.mark.parametrize("handle", ["S1.", "S1.x", "S1.-1", "S1.²", "S1.1.1", "S9.1", ".1", "S1 .x"])
def test_what_is_no_handle_speaks_for_nobody(shell: Shells, orchestrion: Orchestrator, handle: str) -> None:
    assert voice_in(orchestrion.store, handle) == Voice()
    with pytest.raises(AlreadyTaken):
        claimed(shell, handle)


def test_a_session_that_ended_goes_on_with_what_is_done_in_it(shell: Shells, orchestrion: Orchestrator) -> None:
    orchestrion.end_session("S1", "for today")
    with shell("S1") as opened:
        opened.prime()
        assert orchestrion.list_sessions()["total"] == 0
        opened.decide("Go on")
    assert [one["id"] for one in orchestrion.list_sessions()["sessions"]] == ["S1"]
    assert orchestrion.session_detail("S1")["summary"] == "for today"
    # To end it again is no life.
    orchestrion.end_session("S1")
    with shell("S1") as opened:
        opened.end_session("S1")
    assert orchestrion.session_detail("S1")["state"] == "ended"


def test_a_session_that_a_clean_up_ended_says_so_only_until_it_goes_on(
    shell: Shells, orchestrion: Orchestrator, raw: Any
) -> None:
    raw.run("update runs set lease_until = 1")
    assert orchestrion.clean_up_sessions("orphaned", 0, dry_run=False)["ended"] == ["S1"]
    assert orchestrion.session_detail("S1")["summary"].startswith("ended by a clean-up; last seen ")
    with shell() as successor:
        found = successor.resume_session("S1")
    assert (found["state"], found["summary"]) == ("active", None)
