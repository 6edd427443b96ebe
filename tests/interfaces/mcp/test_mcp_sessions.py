"""Sessions that go from one connection to another: the later one has them, the earlier one learns so."""

from __future__ import annotations

from typing import Any

import pytest
from peers import InProcess, Site

pytestmark = pytest.mark.long

REPORT: dict[str, Any] = {"summary": "s", "detailed_work": "d", "next_action": "complete"}


def client(site: Site, called: str) -> InProcess:
    """A client in a process of its own, as far as anybody can tell."""
    one = InProcess(site)
    one.seat.external, one.seat.client = f"stdio-{called}", called
    return one


def assert_taken_over(peer: InProcess, session: str, tool: str, **given: Any) -> None:
    """The next call that would change something is refused; the one after it works in another session."""
    assert peer.call("get_status")["session_info"]["session_id"] is None
    error = peer.refused(tool, **given)
    assert error["code"] == "session_taken_over"
    assert error["details"]["session"] == session
    assert "`orchestrator_initialize_session()` begins another" in error["hint"]
    assert f"`orchestrator_resume_session(session_id={session})` takes {session} back" in error["hint"]
    assert peer.refused(tool, **given)["code"] == "already_taken"
    assert peer.seat.session not in (None, session)


def test_each_client_that_had_a_session_learns_that_another_resumed_it(peer: InProcess, site: Site) -> None:
    task = peer.call("plan_task", title="x", description="y")["task_id"]
    run = peer.call("execute_task", task_id=task)["run"]
    session = str(peer.seat.session)
    with client(site, "d") as earlier, client(site, "e") as later:
        earlier.call("resume_session", session_id=session)
        assert earlier.call("execute_task", task_id=task)["run"] == run
        later.call("resume_session", session_id=session)
        assert_taken_over(peer, session, "complete_task", task_id=task, **REPORT)
        assert_taken_over(earlier, session, "execute_task", task_id=task)
        for tool, given in (("execute_task", {}), ("recover_context", {"handoff": "half"})):
            assert later.call(tool, task_id=task, **given)
        assert later.seat.session == session
        # Whoever names the run shows that it is theirs.
        assert peer.call("complete_task", task_id=task, run=run, **REPORT)["run"] == run


def test_a_client_learns_that_a_shell_resumed_its_session(peer: InProcess, site: Site) -> None:
    task = peer.call("plan_task", title="x", description="y")["task_id"]
    peer.call("execute_task", task_id=task)
    session = str(peer.seat.session)
    with site.open() as shell:
        shell.resume_session(session)
    # However long it was silent.
    peer.seat.touched_at = 0
    assert_taken_over(peer, session, "execute_task", task_id=task)
    # It may take it back, and is not told that it lost what it left.
    with site.open() as shell:
        shell.resume_session(str(peer.seat.session))
    peer.call("resume_session", session_id=session)
    assert peer.call("execute_task", task_id=task)["again"]


def test_texts_for_clients_name_no_shell(peer: InProcess, site: Site) -> None:
    task = peer.call("plan_task", title="x", description="y")["task_id"]
    peer.call("execute_task", task_id=task)
    with client(site, "d") as other:
        told = [
            other.call("initialize_session"),
            other.call("recover_context"),
            other.refused("execute_task", task_id=task),
        ]
    for text in map(str, told):
        assert f"`orchestrator_resume_session(session_id={peer.seat.session})`" in text
        assert "ORCHESTRION_SESSION" not in text


def test_a_run_resumes_the_session_that_it_began(site: Site) -> None:
    with site.open() as cases:
        cases.add("held")
        cases.claim("T1")
        site.environ["ORCHESTRION_RUN"] = f"{cases.store.uuid}/R1"
    with client(site, "agent") as agent:
        session = agent.call("initialize_session")["session_id"]
    with client(site, "its successor") as agent:
        decided = agent.call("record_decision", title="t", decision="d", rationale="r", session=session)
        assert decided["session_id"] == session if "session_id" in decided else decided
        agent.call("resume_session", session_id=session)
        assert agent.seat.session == session
