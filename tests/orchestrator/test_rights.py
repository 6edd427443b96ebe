"""The table of rights: complete, and what it says of roles and of runs is what happens."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from repository import git

from orchestrion import Orchestrator
from orchestrion.core.errors import InvalidInput, NotFound, StaleRun
from orchestrion.core.project import VARIABLE
from orchestrion.core.rights import KEYLESS, RIGHTS, ROLES, RUN_VARIABLE, Caller, Role
from orchestrion.orchestrator.finding import Finding
from orchestrion.orchestrator.hooking import FileHooks
from orchestrion.orchestrator.opening import Opening
from orchestrion.orchestrator.settingup import set_up
from rights_probe import Probe, expected, outcome
from stage import Stage

#: What is judged by its name alone: doors do it.
BY_NAME = {"demo", "migrate", "restart_server", "serve", "set_up_client"}
#: What opens, closes and judges.
NOT_JUDGED = {"as_", "close", "collector", "has_left", "host", "judge", "ledger", "on_behalf_of", "open"}
PROBED = sorted(name for name in RIGHTS if name in vars(Probe))


def test_every_use_case_has_a_line_and_every_line_a_use_case() -> None:
    public = {name for kind in (Orchestrator, Finding, FileHooks) for name in dir(kind) if not name.startswith("_")}
    assert public - NOT_JUDGED == set(RIGHTS) - BY_NAME
    assert len(PROBED) > 120


def test_a_use_case_without_a_line_cannot_be_defined() -> None:
    with pytest.raises(LookupError, match="launder has no line"):
        type("Further", (Opening,), {"launder": lambda self: None})


@pytest.fixture
def probe(root: Path, store_url: str, environ: dict[str, str], one: Orchestrator) -> Iterator[Orchestrator]:
    """A project with a run, R1 of T1, and another task."""
    one.add("held")
    one.add("other")
    one.claim("T1")
    with Probe.open(root, db=store_url, environ=environ) as opened:
        yield opened


def asked(probe: Orchestrator, action: str, run: str, task: str) -> str:
    """What becomes of a use case that is about a run and a task."""
    named: dict[str, Any] = {"run": run, "task": task, "parent": task}
    given: dict[str, Any] = {"task": task} if action == "decide" else {}
    for one in inspect.signature(getattr(probe, action)).parameters.values():
        if one.kind is not one.VAR_KEYWORD and (one.default is one.empty or one.name in named):
            given[one.name] = named.get(one.name, "x")
    return outcome(lambda: getattr(probe, action)(**given))


@pytest.mark.parametrize("role", ROLES)
def test_python_with_each_role(probe: Orchestrator, role: Role) -> None:
    caller = Caller("token:x", role=role)
    found = {action: asked(probe.as_(caller), action, "R1", "T1") for action in PROBED}
    assert found == {action: expected(caller, action) for action in PROBED}


def test_python_without_the_key(probe: Orchestrator) -> None:
    caller = Caller(KEYLESS, role="read")
    found = {action: asked(probe.as_(caller), action, "R1", "T1") for action in PROBED}
    assert found == {action: expected(caller, action) for action in PROBED}
    assert "key_needed" in found.values()


@pytest.mark.parametrize(("run", "task"), [("R1", "T1"), ("R2", "T2"), ("R1", "T2")])
def test_python_from_inside_a_run(probe: Orchestrator, run: str, task: str) -> None:
    inside = Caller("run:R1", run="R1", may_run_commands=False)
    foreign = {name for name, is_own in (("run", run == "R1"), ("task", task == "T1")) if not is_own}
    foreign |= {"parent"} if "task" in foreign else set()
    found = {action: asked(probe.as_(inside), action, run, task) for action in PROBED}
    assert found == {action: expected(inside, action, own=not foreign & _about(action)) for action in PROBED}


def _about(action: str) -> set[str]:
    return {"task"} if action == "decide" else set(inspect.signature(getattr(Probe, action)).parameters)


# -- from inside a run ------------------------------------------------------------------------------


def inside(opened: Orchestrator, environ: dict[str, str], run: str = "R1") -> dict[str, str]:
    return environ | {RUN_VARIABLE: f"{opened.store.uuid}/{run}"}


def test_a_run_decides_nothing_and_reports(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator
) -> None:
    one.add("held")
    one.add("gated")
    one.add_gate("T2", "approval", called="ship it?")
    one.claim("T1")
    with Orchestrator.open(root, db=store_url, environ=inside(one, environ)) as agent:
        assert (agent.caller.run, agent.caller.actor) == ("R1", "run:R1")
        for act in (
            lambda: agent.open_gate("G1"),
            lambda: agent.create_token("sneaky", "admin"),
            lambda: agent.add("more", command="touch x"),
            lambda: agent.approve("T2"),
            lambda: agent.set_slots({"global": 9}),
            lambda: agent.fail("R2", "not mine"),
            lambda: agent.decide("Not mine", task="T2"),
            lambda: agent.work(),
            lambda: Orchestrator.init(root, db=store_url, environ=agent.environ),
            lambda: set_up("claude", environ=agent.environ),
        ):
            with pytest.raises(InvalidInput) as refused:
                act()
            assert refused.value.code == "not_for_runs"
        assert agent.why("T2")["reasons"]
        agent.heartbeat("R1")
        agent.decide("Mine", task="T1")
        agent.done("R1", "it is done")
    assert one.task("T1").as_json()["state"] == "completed"
    assert one.show("T2")["gates"][0]["state"] == "open"
    assert one.tokens() == []


def test_an_empty_name_is_no_run(root: Path, store_url: str, environ: dict[str, str], one: Orchestrator) -> None:
    with Orchestrator.open(root, db=store_url, environ=environ | {RUN_VARIABLE: ""}) as free:
        assert (free.caller.run, free.caller.elsewhere, free.caller.role) == (None, None, "admin")


#: Runs of other stores, however they are written, and of none that can be told.
ELSEWHERE = (
    "00000000-0000-0000-0000-000000000000/R1",
    "00000000-0000-0000-0000-000000000000",
    " 00000000000000000000000000000000 / r1",
    "x/R1",
    "R1",
    "/R1",
    "x",
    " ",
    "/",
)


@pytest.mark.parametrize("mark", ELSEWHERE)
def test_from_inside_a_run_of_another_store_one_only_reads(
    tmp_path: Path, root: Path, store_url: str, environ: dict[str, str], one: Orchestrator, mark: str
) -> None:
    one.add("held")
    one.add_gate("T1", "approval", called="ship it?")
    within = environ | {RUN_VARIABLE: mark}
    with Probe.open(root, db=store_url, environ=within) as agent:
        assert agent.caller.run is None
        assert not agent.caller.actor.startswith("run:")
        found = {action: asked(agent, action, "R1", "T1") for action in PROBED}
        assert found == {action: "let_in" if RIGHTS[action].role == "read" else "not_for_runs" for action in PROBED}
        with pytest.raises(InvalidInput, match="is no run of this project's store") as foreign:
            agent.pause()
        assert "orchestrion done" not in foreign.value.hint
    new = tmp_path / "new"
    (new / ".orchestrion").mkdir(parents=True)
    before = one.last_event()
    for act in (
        lambda: Orchestrator.init(root, db=store_url, environ=within),
        lambda: Orchestrator.init(new, environ=within),
        lambda: set_up("claude", environ=within),
    ):
        with pytest.raises(InvalidInput) as refused:
            act()
        assert refused.value.code == "not_for_runs"
    with pytest.raises(NotFound):
        Orchestrator.open(new, environ=within)
    assert not list((new / ".orchestrion").iterdir())
    assert one.last_event() == before


def test_a_run_that_is_written_oddly_is_confined(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator
) -> None:
    uuid = one.store.uuid
    one.add("held")
    one.claim("T1")
    for mark in (f"{uuid.upper()}/R1", f" {uuid}/R1 ", f"{uuid}//R1", f"{uuid} / r1", f"{uuid.replace('-', '')}/R1"):
        with Orchestrator.open(root, db=store_url, environ=environ | {RUN_VARIABLE: mark}) as agent:
            assert (agent.caller.run, agent.caller.actor) == ("R1", "run:R1")
            with pytest.raises(InvalidInput) as refused:
                agent.pause()
            assert refused.value.code == "not_for_runs"
    for mark in (uuid, f"{uuid}/", f" {uuid}", f"{uuid}/x", f"{uuid}/R1/R", f"{uuid}/R0", f"{uuid}/R-1", f"{uuid}/-R1"):
        for act in (
            lambda mark=mark: Orchestrator.open(root, db=store_url, environ=environ | {RUN_VARIABLE: mark}),
            lambda mark=mark: Orchestrator.init(root, db=store_url, environ=environ | {RUN_VARIABLE: mark}),
            lambda mark=mark: set_up("claude", environ=environ | {RUN_VARIABLE: mark}),
        ):
            with pytest.raises(InvalidInput) as refused:
                act()
            assert refused.value.code == "not_for_runs"
            assert "orchestrion done" not in refused.value.hint


@pytest.mark.parametrize(("role", "may"), [("coordinator", True), ("implementer", False), ("planner", False)])
def test_tasks_are_added_where_the_role_says_so(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator, role: str, may: bool
) -> None:
    (root / ".orchestrion" / "roles").mkdir(parents=True)
    (root / ".orchestrion" / "roles" / "planner.yaml").write_text("may_add_tasks: true\n")
    one.add("held", role=role)
    one.claim("T1")
    with Orchestrator.open(root, db=store_url, environ=inside(one, environ)) as agent:
        if may:
            agent.add("found on the way", after=["T1"])
            agent.apply(b"plan: default\ntasks: [{title: a}]\n", "plan.yaml")
        for act in (
            *(() if may else (lambda: agent.add("more"),)),
            lambda: agent.add("more", command="touch x"),
            lambda: agent.add("more", setup="touch x"),
            lambda: agent.add("more", checks=("touch x",)),
            lambda: agent.apply(b"plan: more\ntasks: [{title: b, run: touch x}]\n", "plan.yaml"),
        ):
            with pytest.raises(InvalidInput) as refused:
                act()
            assert refused.value.code == "not_for_runs"
    assert one.list_tasks().total == (3 if may else 1)


PLAN = b"plan: default\ntasks: [{title: changed, key: theirs, priority: 9, checks: []}, {title: new, key: new}]\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda agent: agent.apply(PLAN, "plan.yaml"),
        lambda agent: agent.apply(PLAN, "plan.yaml", dry_run=True),
        lambda agent: agent.apply(PLAN.replace(b"theirs", b"mine"), "plan.yaml"),
        lambda agent: agent.apply(b"plan: other\ntasks: [{title: a}]\n", "plan.yaml"),
        lambda agent: agent.apply(b"plan: unknown\ntasks: [{title: a}]\n", "plan.yaml"),
        lambda agent: agent.add("more", plan="other"),
        lambda agent: agent.add("more", parent="T2"),
        lambda agent: agent.add("more", parent="T3", reopen=True),
        lambda agent: agent.add("more", parent="T3"),
        lambda agent: agent.add("more", reopen=True),
    ],
)
def test_who_may_add_changes_nothing_that_is_there(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator, change: Any
) -> None:
    one.add("held", role="coordinator", key="mine", checks=("true",))
    one.add("theirs", key="theirs", checks=("true",))
    one.add("over", completed=True)
    one.add("elsewhere", plan="other")
    one.claim("T1")
    before = one.last_event(), [one.versioned(f"T{number}") for number in (2, 3, 4)]
    with Orchestrator.open(root, db=store_url, environ=inside(one, environ)) as agent:
        with pytest.raises(InvalidInput) as refused:
            change(agent)
        assert refused.value.code == "not_for_runs"
    assert (one.last_event(), [one.versioned(f"T{number}") for number in (2, 3, 4)]) == before


def test_what_a_run_adds_is_in_its_plan_and_may_be_below_its_task(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator
) -> None:
    one.add("held", role="coordinator", plan="release")
    one.claim("T1")
    with Orchestrator.open(root, db=store_url, environ=inside(one, environ)) as agent:
        agent.add("beside", after=["T1"])
        agent.add("below", parent="T1")
        agent.add("further below", parent="T3")
        agent.apply(b"plan: release\ntasks: [{title: a, key: a, children: [{title: b}]}]\n", "plan.yaml")
    assert {task.row["plan_name"] for task in one.list_tasks().items} == {"release"}
    assert one.list_tasks().total == 6


#: What a run may call -> the call, of R1 that has T1 and began the session S1.
BY_A_RUN: dict[str, Callable[[Orchestrator], object]] = {
    "add": lambda agent: agent.add("more"),
    "apply": lambda agent: agent.apply(b"plan: default\ntasks: [{title: a}]\n", "plan.yaml"),
    "change_decision": lambda agent: agent.change_decision("D1", "rejected"),
    "decide": lambda agent: agent.decide("late"),
    "done": lambda agent: agent.done("R1", "late"),
    "fail": lambda agent: agent.fail("R1", "late"),
    "handoff": lambda agent: agent.handoff(task="T1", text="late"),
    "heartbeat": lambda agent: agent.heartbeat("R1"),
    "release": lambda agent: agent.release("R1"),
    "report": lambda agent: agent.report("T1", "late", run="R1"),
    "report_changed": lambda agent: agent.report_changed(["late.txt"]),
    "report_files": lambda agent: agent.report_files(["late.txt"], session="S1"),
    "resume_session": lambda agent: agent.resume_session("S1"),
    "start_session": lambda agent: agent.start_session("late"),
    "synthesize": lambda agent: agent.synthesize("T1"),
    "take_up": lambda agent: agent.take_up("T1"),
}
#: These only note what they saw, and say nothing where that is too late.
NOTING = {"verify", "written_by_run"}


@pytest.mark.parametrize("end", ["reported", "killed", "ready again", "held by another"])
def test_a_run_that_is_over_reads_and_writes_nothing(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator, end: str
) -> None:
    open_to_runs = {name for name, right in RIGHTS.items() if right.role == "operate" and right.in_run != "closed"}
    assert open_to_runs == BY_A_RUN.keys() | NOTING
    one.add("held", role="coordinator")
    one.claim("T1")
    (root / "late.txt").write_text("late")
    with (
        Orchestrator.open(root, db=store_url, environ=inside(one, environ)) as agent,
        FileHooks.open(root, db=store_url, environ=inside(one, environ)) as hook,
    ):
        agent.start_session("its own")
        agent.report_files(["late.txt"])
        agent.decide("in time")
        if end == "reported":
            agent.done("R1", "in time")
        else:
            one.kill("R1")
        if end in ("ready again", "held by another"):
            one.retry("T1")
        if end == "held by another":
            one.claim("T1")
        before = one.last_event(), one.task("T1").row, one.task_files("T1")["total"]
        for act in BY_A_RUN.values():
            with pytest.raises(StaleRun, match="R1 is"):
                act(agent)
        assert agent.verify("T1")["total"] == 1
        assert agent.search("held")["results"]
        assert "T1" in agent.prime() + agent.recover("T1")["text"]
        with pytest.raises(InvalidInput) as refused:
            agent.land()
        assert refused.value.hint == "a person may", "nobody answers a run that is over"
        hook.written_by_run("R1", "late.txt", "modified")
    assert (one.last_event(), one.task("T1").row, one.task_files("T1")["total"]) == before
    assert (one.decisions()["total"], one.list_sessions()["total"]) == (1, 1)
    assert one.decision("D1")["run"] == "R1"
    with pytest.raises(NotFound):
        one.last_handoff()


def test_a_hook_that_meets_the_end_of_its_run_says_nothing(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.add("held")
    one.claim("T1")
    (root / "late.txt").write_text("late")

    def meanwhile(*_: object) -> list[object]:
        one.kill("R1")
        return []

    monkeypatch.setattr("orchestrion.orchestrator.hooking.Filing.reported", meanwhile)
    with FileHooks.open(root, db=store_url, environ=inside(one, environ)) as hook:
        hook.written_by_run("R1", "late.txt", "modified")


def test_what_a_run_says_without_a_task_is_of_its_own(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator
) -> None:
    one.add("held")
    one.add("another's")
    one.claim("T1")
    (root / "made.txt").write_text("made")
    with Orchestrator.open(root, db=store_url, environ=inside(one, environ)) as agent:
        decided = agent.decide("in the run")
        [made] = agent.report_files(["made.txt"])["files"]
    assert (decided["task"], decided["run"]) == ("T1", "R1")
    assert (made["task"], made["run"]) == ("T1", "R1")
    assert one.decide("by a person")["task"] is None


def test_a_run_speaks_in_the_sessions_that_it_or_an_earlier_attempt_began(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator
) -> None:
    def in_session(session: str, run: str = "R1") -> Orchestrator:
        within = inside(one, environ, run) | {"ORCHESTRION_SESSION": session}
        return Orchestrator.open(root, db=store_url, environ=within)

    theirs = one.start_session("a person's", external="claude-1")["id"]
    one.add("held")
    one.add("another's")
    one.claim("T1")
    one.claim("T2")
    with in_session("") as agent:
        own = agent.start_session("its own", external="claude-2")["id"]
        assert agent.decide("by name", session=own)["session"] == own
        assert agent.start_session(external="claude-2")["resumed"]
        own_handle = agent.resume_session(own)["handle"]
        for fresh in (False, True):
            with pytest.raises(InvalidInput) as refused:
                agent.start_session(external="claude-1", fresh=fresh)
            assert refused.value.code == "not_for_runs"
    with in_session(own_handle) as agent:
        assert agent.decide("by the variable")["session"] == own
    for session, run in ((theirs, "R1"), (own_handle, "R2")):
        session, handle = session.partition(".")[0], session
        before = one.last_event(), one.session_detail(session)
        with in_session(handle, run) as agent:
            for act in (
                lambda agent=agent: agent.decide("in another's"),
                lambda agent=agent: agent.handoff(text="in another's"),
                lambda agent=agent, run=run: agent.heartbeat(run),
            ):
                with pytest.raises(InvalidInput, match=f"speaking for the session {session}"):
                    act()
            assert agent.prime()
        assert (one.last_event(), one.session_detail(session)) == before
    one.kill("R1")
    one.retry("T1")
    again = one.claim("T1")["run"]
    with in_session(own_handle, again) as agent:
        assert agent.decide("the next attempt, in the same conversation")["session"] == own


@pytest.mark.parametrize("session", ["boss", "S0", "S9", " "])
def test_a_session_that_is_none_is_not_written_down(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator, session: str
) -> None:
    one.add("held")
    one.claim("T1")
    for within in (environ, inside(one, environ)):
        with Orchestrator.open(root, db=store_url, environ=within | {"ORCHESTRION_SESSION": session}) as opened:
            assert opened.decide("somewhere")["session"] is None
    assert {event["session"] for event in one.events(limit=100)} == {None}


def test_a_run_speaks_for_itself_and_overrules_no_person(
    tmp_path: Path, root: Path, store_url: str, environ: dict[str, str], one: Orchestrator
) -> None:
    one.add("held")
    session = one.start_session("a person's")["id"]
    one.decide("by a person")
    one.decide("by a person, a proposal", status="proposed")
    one.claim("T1")
    with Orchestrator.open(root, db=store_url, environ=inside(one, environ)) as agent:
        agent.decide("mine", task="T1")
        for act in (
            lambda: agent.resume_session(session),
            lambda: agent.handoff(session=session, text="hijack"),
            lambda: agent.decide("not mine", session=session),
            lambda: agent.decide("the other way round", reverses="D1"),
            lambda: agent.decide("another", supersedes="D1"),
            lambda: agent.change_decision("D1", "rejected"),
            lambda: agent.change_decision("D1", "implemented"),
            lambda: agent.change_decision("D2", "accepted"),
            lambda: agent.change_decision("D2", "rejected"),
            lambda: agent.decide("in its place", supersedes="D2"),
            lambda: agent.export_decisions(tmp_path),
        ):
            with pytest.raises(InvalidInput) as refused:
                act()
            assert refused.value.code == "not_for_runs"
        proposed = agent.decide("another", supersedes="D1", status="proposed")
        with pytest.raises(InvalidInput):
            agent.change_decision(proposed["id"], "accepted")
        agent.decide("mine anew", task="T1", supersedes="D3")
        agent.decide("adds to it", refines="D1")
        assert "orchestrion claim" not in agent.prime()
    assert [one.decision(f"D{number}")["status"] for number in (1, 3)] == ["accepted", "superseded"]
    one.change_decision(proposed["id"], "accepted")
    assert one.decision("D1")["status"] == "superseded"


def test_what_a_run_proposed_is_a_person_s_once_they_gave_it_a_status(
    root: Path, store_url: str, environ: dict[str, str], one: Orchestrator
) -> None:
    one.add("held")
    one.claim("T1")
    before = one.decide("by a person")["id"]
    with Orchestrator.open(root, db=store_url, environ=inside(one, environ)) as agent:
        accepted = agent.decide("accepted", supersedes=before, status="proposed")["id"]
        rejected = agent.decide("rejected", status="proposed")["id"]
        own = agent.decide("its own", status="proposed")["id"]
        assert agent.change_decision(own, "accepted")["status"] == "accepted"
        one.change_decision(accepted, "accepted")
        one.change_decision(rejected, "rejected")
        for act in (
            lambda: agent.change_decision(accepted, "rejected"),
            lambda: agent.change_decision(accepted, "proposed"),
            lambda: agent.decide("in its place", supersedes=accepted),
            lambda: agent.change_decision(rejected, "accepted"),
        ):
            with pytest.raises(InvalidInput) as refused:
                act()
            assert refused.value.code == "not_for_runs"
    statuses = [one.decision(each)["status"] for each in (before, accepted, rejected, own)]
    assert statuses == ["superseded", "accepted", "rejected", "accepted"]
    assert [one.decision(each)["actor"] for each in (accepted, own)] == [one.caller.actor, "run:R1"]


def test_from_another_project_of_the_store_a_run_only_reads(
    tmp_path: Path, store_url: str, environ: dict[str, str], one: Orchestrator
) -> None:
    one.add("held")
    one.claim("T1")
    other = tmp_path / "other"
    (other / ".orchestrion").mkdir(parents=True)
    with Orchestrator.open(other, db=store_url, environ=environ):
        pass
    with Orchestrator.open(other, db=store_url, environ=inside(one, environ)) as agent:
        assert agent.list_tasks().total == 0
        with pytest.raises(InvalidInput) as refused:
            agent.start_session("somewhere else")
        assert refused.value.code == "not_for_runs"


def test_inside_a_run_no_other_project_gets_a_store_a_row_or_an_id(
    tmp_path: Path, root: Path, store_url: str, environ: dict[str, str], one: Orchestrator
) -> None:
    one.add("held")
    one.claim("T1")
    new, theirs = tmp_path / "new", tmp_path / "theirs"
    for folder in (new, theirs):
        folder.mkdir()
        git(folder, "init", "-q")
    with Orchestrator.open(theirs, environ=environ) as other:
        other.add("another's")
    theirs = theirs.rename(tmp_path / "moved")
    beside = theirs / ".git" / "orchestrion"
    before = [(beside / name).read_bytes() for name in ("id", "stores")]
    within = inside(one, environ) | {"ORCHESTRION_DB": store_url, VARIABLE: str(root)}
    for folder, given in ((new, {}), (new, {"db": store_url}), (theirs, {"db": store_url})):
        with pytest.raises(NotFound) as refused:
            Orchestrator.open(folder, environ=within, **given)
        assert refused.value.code == "no_store"
    with Orchestrator.open(theirs, environ=within) as agent:
        assert [task.row["title"] for task in agent.list_tasks().items] == ["another's"]
        assert agent.caller.role == "read"
    assert not (new / ".git" / "orchestrion").exists()
    assert [(beside / name).read_bytes() for name in ("id", "stores")] == before
    assert len(one.store.read(lambda tx: tx.all("projects"))) == 1


# -- how a browser comes in -------------------------------------------------------------------------


def test_a_link_is_followed_once_and_a_session_ends_with_its_token(one: Orchestrator) -> None:
    link = one.make_link("").rpartition("=")[2]
    session = one.follow_link(link)
    assert one.visitor_of(session) == {"name": None, "role": None}
    with pytest.raises(InvalidInput) as refused:
        one.follow_link(link)
    assert refused.value.code == "link_used"
    assert one.visitor_of(link) is None
    one.log_out(session)
    assert one.visitor_of(session) is None
    held = one.log_in(one.create_token("ci", "operate", days=1)["token"])
    assert one.visitor_of(held) == {"name": "ci", "role": "operate"}
    one.revoke_token("ci")
    assert one.visitor_of(held) is None


def test_an_agent_does_not_give_its_task_back_for_ever(stage: Stage) -> None:
    program = shlex.quote(sys.executable)
    stage.add(f"{program} -m orchestrion release; echo $? > said.txt", checks=("test $(cat said.txt) = 6",))
    assert stage.drain().all_completed
    assert len(stage.runs()) == 1


def test_what_a_supervised_run_reports_is_the_project_s(stage: Stage) -> None:
    program = shlex.quote(sys.executable)
    report = f"{program} -m orchestrion done --summary made"
    stage.add(
        f"echo made > made.txt; {report} --file made.txt --file $PWD/made.txt; echo $? > said.txt;"
        f"for path in /etc/passwd ../../etc/passwd; do {report} --file $path; echo $? >> said.txt; done"
    )
    assert stage.drain().all_completed
    assert stage.merged("said.txt") == "0\n6\n6\n"
    assert sum("is outside the project" in line for line in stage.lines(stream="err")) == 2
