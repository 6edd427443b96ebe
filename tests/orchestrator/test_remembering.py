"""What outlives a session, as a door asks for it, on both databases: real git, real files, real processes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from repository import git

from orchestrion import Orchestrator
from orchestrion.core.errors import Conflict, IllegalMove, InvalidInput, NotFound, StaleRun
from orchestrion.core.masking import MASK, Masker
from orchestrion.memory.decisions import STATUSES
from orchestrion.scheduler import reports

pytestmark = pytest.mark.long

TRAVERSALS = [
    "../outside",
    "/etc/passwd",
    "a/../../outside",
    "a\0b",
    "",
    " ",
    "link/passwd",
    "loop/x",
    "x" * 5000,
    "..",
    ".",
    "..%2foutside",
    "%2e%2e/outside",
    "%252e%252e%252foutside",
    "a%00b",
    "..\\outside",
    "\uff0e\uff0e/outside",
    "..\uff0foutside",
    "C:\\outside",
    "file:///etc/passwd",
    "/proc/self/environ",
    "a/" * 1500 + "../" * 1501 + "outside",
    "broken\udcff",
    "link",
]


def statuses(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {file["path"]: (file["op"], file["status"]) for file in found["files"]}


# -- sessions ------------------------------------------------------------------------------------


def test_a_client_finds_its_session_again_in_another_process(orchestrion: Orchestrator, later: Orchestrator) -> None:
    first = orchestrion.start_session("docs", client="claude", external="abc", folder="/x")
    assert (first["id"], first["state"], first["resumed"]) == ("S1", "active", False)
    again = later.start_session(client="claude", external="abc")
    assert (again["id"], again["name"], again["resumed"]) == ("S1", "docs", True)
    assert later.start_session(client="claude")["id"] == "S2"
    fresh = later.start_session("docs", external="abc", fresh=True)
    assert (fresh["id"], fresh["resumed"]) == ("S3", False)
    assert later.session_detail("S1")["state"] == "ended"
    assert later.start_session(external="abc")["id"] == "S3"


def test_a_session_ends_and_goes_on(orchestrion: Orchestrator) -> None:
    orchestrion.start_session("one", external="e")
    ended = orchestrion.end_session("S1", "all done")
    assert (ended["state"], ended["summary"], bool(ended["ended_at"])) == ("ended", "all done", True)
    assert orchestrion.end_session("S1", "again")["summary"] == "all done"
    assert orchestrion.list_sessions() == {"sessions": [], "total": 0}
    assert orchestrion.list_sessions(include_ended=True)["total"] == 1
    resumed = orchestrion.resume_session("S1")
    assert (resumed["state"], resumed["ended_at"]) == ("active", None)
    assert resumed["context"]["id"] == "S1"
    with pytest.raises(NotFound):
        orchestrion.session_detail("S9")
    with pytest.raises(InvalidInput):
        orchestrion.end_session("T1")


def held_by_first_session(opened: Orchestrator) -> str:
    """A session whose client, of the name c1, claimed T1, and is gone."""
    opened.add("One")
    opened.add("Two")
    session = opened.start_session(client="claude-code", external="c1")["id"]
    opened.on_behalf_of(f"mcp:claude-code/{session}", session).claim("T1")
    return str(session)


@pytest.mark.parametrize("own", [None, "S2"])
def test_who_goes_on_with_a_session_gets_its_tasks_again(
    orchestrion: Orchestrator, later: Orchestrator, own: str | None
) -> None:
    session = held_by_first_session(orchestrion)
    successor = later.on_behalf_of("user:ada", own and later.start_session(external="c2")["id"])
    with pytest.raises(Conflict, match="is held by R1") as refused:
        successor.claim("T1")
    assert f"`orchestrion sessions {session} --resume` goes on with it (type the `export" in refused.value.hint
    steps = successor.resume_session(session)["context"]["next_steps"]
    successor = later.on_behalf_of("user:ada", own or session)
    assert steps[0].startswith("R1 of T1 is yours: `orchestrion claim T1` gives it again")
    assert "resume" not in str(steps)
    again = successor.claim("T1", lease_s=7200)
    assert (again["run"], again["again"]) == ("R1", True)
    assert again["lease_until"] > successor.claim("T2", lease_s=3600)["lease_until"]
    assert "--resume` takes over" not in successor.prime()
    with pytest.raises(Conflict, match="is held by R"):
        later.on_behalf_of("user:bob").claim("T1")
    assert later.on_behalf_of("mcp:claude-code/S1", "S1").take_up("T1")["again"]


def test_the_name_of_who_goes_on_leads_to_the_session(orchestrion: Orchestrator) -> None:
    session = held_by_first_session(orchestrion)
    own = orchestrion.start_session(external="c2")["id"]
    successor = orchestrion.on_behalf_of(f"mcp:claude-code/{own}", own)
    successor.claim("T2")
    successor.resume_session(session)
    assert orchestrion.start_session(external="c2")["id"] == session
    # As of now it acts in that session, and what it held before is its own still.
    now = orchestrion.on_behalf_of(f"mcp:claude-code/{session}", session)
    assert [now.take_up(task)["run"]["id"] for task in ("T1", "T2")] == ["R1", "R2"]
    assert "Session S1 holds T1 by R1, T2 by R2." in now.prime()
    # Whose name it was begins anew, and holds nothing.
    first = orchestrion.start_session(external="c1")["id"]
    assert first not in (session, own)
    with pytest.raises(Conflict, match="is held by R"):
        orchestrion.on_behalf_of(f"mcp:claude-code/{first}", first).take_up("T1")
    # Who goes on after that one has what the session holds, not what its client held elsewhere.
    third = orchestrion.start_session(external="c3")["id"]
    last = orchestrion.on_behalf_of(f"mcp:claude-code/{third}", third)
    last.resume_session(session)
    assert last.take_up("T1")["again"]
    with pytest.raises(Conflict, match="is held by R"):
        last.take_up("T2")


def test_a_session_that_comes_back_is_told_what_it_holds(orchestrion: Orchestrator) -> None:
    session = held_by_first_session(orchestrion)
    text = orchestrion.prime(session=session)
    assert f"Session {session} holds T1 by R1." in text
    first = text.partition("## Go on with\n")[2].splitlines()[0]
    assert first.startswith("- T1 by R1, which is yours: `orchestrion claim T1` gives it again, with its brief; ")
    assert "`orchestrion done R1 --summary TEXT` reports it" in first
    mine = orchestrion.on_behalf_of(f"mcp:claude-code/{session}", session)
    assert mine.recover(session)["next_steps"][0].startswith("R1 of T1 is yours")
    # What is left for others says nothing of whose it is.
    for about in ({}, {"task": "T1"}, {"session": session}):
        assert "yours" not in mine.handoff(text="bye", **about)["text"]


def test_what_a_session_did_is_its_own(project: Path, store_url: str, environ: dict[str, str]) -> None:
    with Orchestrator.open(project, db=store_url, environ=environ) as first:
        first.start_session("one")
        first.add("Theirs")
    with Orchestrator.open(project, db=store_url, environ={**environ, "ORCHESTRION_SESSION": "S1"}) as inside:
        inside.add("Ours")
        run = inside.claim("T2")["run"]
        (project / "new.txt").write_text("new\n")
        inside.done(run, "written", files=["new.txt"])
        inside.decide("Write it")
        detail = inside.session_detail("S1")
        assert detail["tasks"] == ["T2"]
        assert (detail["decisions"], detail["files"]) == (1, {"created": 1})
        assert "Session S1 worked on T2." in inside.prime()
        found = inside.recover("S1")
    assert [one["path"] for one in found["files"]["created"]] == ["new.txt"]
    assert [one["id"] for one in found["decisions"]] == ["D1"]
    assert [one["task"] for one in found["approaches"]] == ["T2"]
    assert found["verification"] == "verified"


def test_a_session_of_another_store_is_nobody(project: Path, store_url: str, environ: dict[str, str]) -> None:
    for named in ("S77", "whatever", "S0", ""):
        with Orchestrator.open(project, db=store_url, environ={**environ, "ORCHESTRION_SESSION": named}) as opened:
            assert opened.decide("Go on")["session"] is None


def test_cleaning_up_sessions(orchestrion: Orchestrator) -> None:
    for external in ("idle", "ended", "decided"):
        orchestrion.start_session(external=external)
    orchestrion.end_session("S2")
    orchestrion.decide("Kept", session="S3")
    orchestrion.end_session("S3")
    assert orchestrion.clean_up_sessions("all", 1, dry_run=False)["ended"] == []
    rehearsed = orchestrion.clean_up_sessions("all", 0)
    assert (rehearsed["ended"], rehearsed["removed"], rehearsed["dry_run"]) == (["S1"], ["S2"], True)
    assert orchestrion.list_sessions(include_ended=True)["total"] == 3
    assert orchestrion.clean_up_sessions("completed", 0, dry_run=False)["removed"] == ["S2"]
    assert orchestrion.clean_up_sessions("orphaned", 0, dry_run=False)["ended"] == ["S1"]
    assert orchestrion.clean_up_sessions("old", 0, dry_run=False)["removed"] == []
    assert orchestrion.list_sessions(include_ended=True)["total"] == 2
    with pytest.raises(InvalidInput) as refused:
        orchestrion.clean_up_sessions("everything")
    assert "orphaned" in refused.value.hint
    with pytest.raises(InvalidInput):
        orchestrion.clean_up_sessions("all", -1)


def test_cleaning_up_leaves_a_session_that_holds_a_task(orchestrion: Orchestrator, raw: Any) -> None:
    session = held_by_first_session(orchestrion)
    assert orchestrion.clean_up_sessions("all", 0)["ended"] == []
    raw.run("update runs set lease_until = 1")
    assert orchestrion.clean_up_sessions("all", 0)["ended"] == [session]


# -- decisions -----------------------------------------------------------------------------------


def test_a_decision_has_all_its_parts(orchestrion: Orchestrator) -> None:
    orchestrion.add("Store it")
    given = {
        "context": "where to keep it",
        "decision": "In one SQLite file.",
        "rationale": "no server",
        "category": "architecture",
        "impact": "high",
        "alternatives": ["files", {"name": "PostgreSQL", "pros": ["many machines"], "cons": "a server"}],
        "files": ["src/store.py"],
        "components": "store",
        "trade_offs": ["one machine"],
        "risks": [{"risk": "it grows", "mitigation": "vacuum"}, "locks"],
        "criteria": None,
        "task": "T1",
    }
    found = orchestrion.decide("Use SQLite", **given)
    assert (found["id"], found["status"], found["task"]) == ("D1", "accepted", "T1")
    assert found["alternatives"] == [
        {"name": "files"},
        {"name": "PostgreSQL", "pros": ["many machines"], "cons": "a server"},
    ]
    assert found["risks"] == [{"risk": "it grows", "mitigation": "vacuum"}, {"risk": "locks"}]
    assert (found["components"], found["criteria"]) == (["store"], [])
    assert orchestrion.show("d1") == orchestrion.decision("D1") == found
    text = orchestrion.adr("D1")
    assert text.startswith("# 1. Use SQLite\n\n- Status: accepted\n")
    for said in (
        "In one SQLite file.",
        "PostgreSQL (pros: many machines; cons: a server)",
        "it grows (mitigation: vacuum)",
    ):
        assert said in text


@pytest.mark.parametrize(
    "given",
    [
        {"title": " "},
        {"title": "x" * 256},
        {"title": "a\x1bb"},
        {"impact": "huge"},
        {"status": "superseded"},
        {"status": "done"},
        {"category": "two words"},
        {"decision": "x" * 1_000_001},
        {"alternatives": [{"title": "no name"}]},
        {"alternatives": [3]},
        {"trade_offs": [{"a": 1}]},
        {"risks": 3},
        {"components": ["x"] * 201},
        {"context": "a\0b"},
        {"rationale": 3},
        {"files": ["../outside"]},
        {"supersedes": "D1", "refines": "D1"},
        {"supersedes": "T1"},
    ],
    ids=lambda given: str(given)[:40],
)
def test_decisions_that_cannot_be_meant(orchestrion: Orchestrator, given: dict[str, Any]) -> None:
    orchestrion.decide("The first")
    with pytest.raises(InvalidInput):
        orchestrion.decide(**{"title": "The second", **given})
    assert orchestrion.decisions()["total"] == 1


def test_decisions_of_what_is_not_there(orchestrion: Orchestrator) -> None:
    for given in ({"task": "T9"}, {"run": "R9"}, {"session": "S9"}, {"supersedes": "D9"}):
        with pytest.raises(NotFound):
            orchestrion.decide("A decision", **given)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        orchestrion.decision("D1")


def test_a_chain_of_decisions_is_kept(orchestrion: Orchestrator) -> None:
    orchestrion.decide("Files")
    orchestrion.decide("SQLite", supersedes="D1")
    orchestrion.decide("In WAL mode", refines="D2")
    orchestrion.decide("No WAL", reverses="D3")
    states = {one["id"]: one["status"] for one in orchestrion.decisions()["decisions"]}
    assert states == {"D1": "superseded", "D2": "accepted", "D3": "superseded", "D4": "accepted"}
    last = orchestrion.decision("D4")
    assert [one["id"] for one in last["chain"]] == ["D3", "D2", "D1"]
    assert last["replaces"] == {"id": "D3", "relation": "reverses"}
    [by] = orchestrion.decision("D2")["replaced_by"]
    assert by == {"id": "D3", "relation": "refines", "status": "superseded", "took_effect": True}
    with pytest.raises(Conflict) as refused:
        orchestrion.decide("Files again", supersedes="D1")
    assert "D2" in refused.value.message
    assert orchestrion.decisions()["total"] == 4
    assert "Superseded by: D2" in orchestrion.adr("D1")


def test_who_goes_on_is_told_which_decisions_hold(orchestrion: Orchestrator) -> None:
    orchestrion.add("One")
    session = orchestrion.start_session("s")["id"]
    orchestrion.add("Another")
    for title, more in (
        ("Files", {}),
        ("Directories", {"supersedes": "D1", "task": "T2", "session": None}),
        ("SQLite", {"supersedes": "D2", "task": None, "session": None}),
        ("Maybe", {"status": "proposed"}),
        ("Never", {"status": "rejected"}),
    ):
        orchestrion.decide(title, **{"decision": "so", "task": "T1", "session": session, **more})
    for number in range(25):
        orchestrion.decide(f"Later {number}")
    for asked in ("T1", session):
        found = orchestrion.recover(asked)
        assert [one["id"] for one in found["decisions"]] == ["D3", "D5", "D4", "D1"]
        assert found["decisions_total"] == 4
        told = found["text"].partition("## Decisions\n")[2].partition("\n\n")[0].splitlines()
        assert told == [
            "- D3 SQLite: so",
            "- D5 Never (rejected, does not hold): so",
            "- D4 Maybe (proposed, does not hold): so",
            "- D1 Files (superseded; D3 holds instead): so",
        ]
    brief = orchestrion.claim("T1")["brief"]
    assert "SQLite" in brief
    assert "Files" not in brief
    states = {one["id"]: one["state"] for one in orchestrion.search("so", kinds=["decision"])["results"]}
    assert (states["D1"], states["D3"], states["D5"]) == ("superseded", "accepted", "rejected")


def test_a_proposal_supersedes_only_when_it_is_accepted(orchestrion: Orchestrator) -> None:
    orchestrion.decide("Files")
    orchestrion.decide("SQLite", supersedes="D1", status="proposed")
    assert orchestrion.decision("D1")["status"] == "accepted"
    assert orchestrion.change_decision("D2", "accepted")["status"] == "accepted"
    assert orchestrion.decision("D1")["status"] == "superseded"
    assert orchestrion.change_decision("D2", "implemented")["status"] == "implemented"
    with pytest.raises(IllegalMove):
        orchestrion.change_decision("D1", "accepted")
    with pytest.raises(IllegalMove) as refused:
        orchestrion.change_decision("D2", "superseded")
    assert "supersedes" in refused.value.hint
    with pytest.raises(InvalidInput):
        orchestrion.change_decision("D2", "gone")


def test_decisions_are_found(orchestrion: Orchestrator) -> None:
    orchestrion.add("One")
    orchestrion.decide("Cache on disk", decision="Pages of 16 KB", category="performance", impact="high", task="T1")
    orchestrion.decide("Cache nothing", rationale="Simple, until it hurts", files=["src/100%_a.py"])
    orchestrion.decide("Größe der Seiten", decision="cache_size = 8", status="proposed")

    def found(*words: str, **wanted: Any) -> list[str]:
        return [one["id"] for one in orchestrion.decisions(*words, **wanted)["decisions"]]

    assert found("cache") == ["D3", "D2", "D1"]
    assert found("CACHE pages") == ["D1"]
    assert found("größ") == ["D3"]
    assert found("simple hurts") == ["D2"]
    assert found('"); drop table decisions; --') == []
    assert found("cache", impact="high", category="performance") == ["D1"]
    assert found(file="src/100%_a.py") == ["D2"]
    assert found(file="src/100xx_a.py") == found(file="src/100%_A.py") == found(file="100%_a.py") == []
    assert (found(status="proposed"), found(task="T1")) == (["D3"], ["D1"])
    for wrong in ({"impact": "big"}, {"status": "x"}, {"search": "!!"}, {"file": "/etc/passwd"}, {"limit": 0}):
        with pytest.raises(InvalidInput):
            orchestrion.decisions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("search", "found"),
    [("D2", ["D2"]), (" d2 ", ["D2"]), ("D1", ["D2", "D1"]), ("D4", []), ("T2", []), ("D99999999999999999999", [])],
)
def test_a_decision_is_found_by_its_id(orchestrion: Orchestrator, search: str, found: list[str]) -> None:
    for title in ("One", "Not as D1", "Three"):
        orchestrion.decide(title, decision="x")
    answer = orchestrion.decisions(search)
    assert ([one["id"] for one in answer["decisions"]], answer["total"]) == (found, len(found))


def test_decisions_come_in_pages(orchestrion: Orchestrator) -> None:
    for number in range(5):
        orchestrion.decide(f"Number {number}")
    page = orchestrion.decisions(limit=2)
    assert ([one["id"] for one in page["decisions"]], page["total"], page["next_cursor"]) == (["D5", "D4"], 5, "D4")
    rest = orchestrion.decisions(limit=3, cursor="D4")
    assert ([one["id"] for one in rest["decisions"]], rest["next_cursor"]) == (["D3", "D2", "D1"], None)


DECIDES = """
import sys
from orchestrion import Orchestrator
with Orchestrator.open(sys.argv[1], db=sys.argv[2]) as mine:
    sys.stdin.readline()
    for number in range(5):
        print(mine.decide(f"Decision {number}")["id"], flush=True)
"""


def test_decisions_of_eight_processes_have_no_gaps(
    project: Path, store_url: str, environ: dict[str, str], orchestrion: Orchestrator
) -> None:
    command = [sys.executable, "-c", DECIDES, str(project), store_url]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environ, **pipes) for _ in range(8)]
    for process in processes:
        print(file=process.stdin, flush=True)
    said = [line for process in processes for line in process.communicate(timeout=90)[0].split()]
    assert [process.returncode for process in processes] == [0] * 8
    assert sorted(said, key=lambda one: int(one[1:])) == [f"D{number}" for number in range(1, 41)]
    page = orchestrion.decisions(limit=100)
    assert [one["id"] for one in page["decisions"]] == [f"D{number}" for number in range(40, 0, -1)]


@pytest.mark.parametrize("seed", range(4))
def test_no_chain_of_decisions_is_a_circle(orchestrion: Orchestrator, raw: Any, seed: int) -> None:
    """Whatever is recorded and changed: chains go back only, and whose place was taken knows by whom."""
    chance = random.Random(seed)
    for number in range(60):
        with suppress(Conflict, IllegalMove):
            if number < 3 or chance.random() < 0.5:
                relation = chance.choice([None, "supersedes", "refines", "reverses"])
                other = {relation: f"D{chance.randint(1, _decided(orchestrion))}"} if relation and number else {}
                status = chance.choice(["proposed", "accepted"])
                orchestrion.decide(f"Number {number}", status=status, **other)  # type: ignore[arg-type]
            else:
                one, status = f"D{chance.randint(1, _decided(orchestrion))}", chance.choice(STATUSES)
                orchestrion.change_decision(one, status)
        _is_in_order(orchestrion, raw)


def _decided(orchestrion: Orchestrator) -> int:
    return int(orchestrion.decisions(limit=1)["total"])


def _is_in_order(orchestrion: Orchestrator, raw: Any) -> None:
    kept = {row["id"]: row for row in raw.rows("select * from decisions")}
    for row in kept.values():
        chain = orchestrion.decision(f"D{row['number']}")["chain"]
        numbers = [row["number"], *(int(older["id"][1:]) for older in chain)]
        assert numbers == sorted(set(numbers), reverse=True)
        later = [one for one in kept.values() if one["replaces"] == row["id"] and one["relation"] != "refines"]
        holding = [one for one in later if (one["was"] or one["status"]) in ("accepted", "implemented")]
        assert len(holding) == (1 if row["status"] == "superseded" else 0), (row, later)


def test_the_database_refuses_a_circle_too(orchestrion: Orchestrator, raw: Any) -> None:
    orchestrion.decide("One")
    orchestrion.decide("Two", refines="D1")
    for older, newer in ((1, 2), (2, 2)):
        with pytest.raises(raw.error):
            raw.run("update decisions set replaces = ?, relation = 'refines' where id = ?", newer, older)


def test_what_was_superseded_holds_again_when_that_is_rejected(orchestrion: Orchestrator) -> None:
    orchestrion.decide("Files", status="proposed")
    orchestrion.decide("SQLite", supersedes="D1")
    orchestrion.decide("PostgreSQL", reverses="D2")
    assert [orchestrion.decision(one)["status"] for one in ("D1", "D2")] == ["superseded", "superseded"]
    orchestrion.change_decision("D3", "rejected")
    assert [orchestrion.decision(one)["status"] for one in ("D1", "D2")] == ["superseded", "accepted"]
    orchestrion.change_decision("D2", "proposed")
    assert orchestrion.decision("D1")["status"] == "proposed"
    orchestrion.change_decision("D3", "accepted")
    assert orchestrion.decision("D2")["status"] == "superseded"


def test_two_proposals_cannot_take_one_place(orchestrion: Orchestrator) -> None:
    orchestrion.decide("Files")
    for title in ("SQLite", "PostgreSQL"):
        orchestrion.decide(title, supersedes="D1", status="proposed")
    orchestrion.change_decision("D2", "accepted")
    with pytest.raises(Conflict) as refused:
        orchestrion.change_decision("D3", "accepted")
    assert "D2" in refused.value.message
    assert orchestrion.decision("D3")["status"] == "proposed"


def test_decisions_are_exported_into_one_folder_alone(orchestrion: Orchestrator, tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    for title in ("../../Evil: a title", "Über alles", "日本"):
        orchestrion.decide(title)
    target = tmp_path / "adr"
    target.mkdir()
    (target / "0002-uber-alles.md").symlink_to(victim)
    exported = orchestrion.export_decisions(target)
    assert exported["written"] == ["0001-evil-a-title.md", "0002-uber-alles.md", "0003-decision.md"]
    assert sorted(path.name for path in target.iterdir()) == exported["written"]
    assert victim.read_text() == "mine"
    assert (target / "0002-uber-alles.md").read_text().startswith("# 2. Über alles")
    assert orchestrion.export_decisions(tmp_path / "new")["written"] == exported["written"]
    for wrong, error in ((victim, InvalidInput), (tmp_path / "a" / "b", NotFound), (tmp_path / "a\0b", InvalidInput)):
        with pytest.raises(error):
            orchestrion.export_decisions(wrong)
    (target / "0003-decision.md").unlink()
    (target / "0003-decision.md").mkdir()
    with pytest.raises(Conflict):
        orchestrion.export_decisions(target)
    assert not list(target.glob(".adr-*"))


# -- files of a client ---------------------------------------------------------------------------


def test_a_client_reports_its_files_and_they_are_verified(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    (project / "src").mkdir()
    (project / "src" / "new.py").write_text("new\n")
    (project / "src" / "new.py").chmod(0o755)
    (project / "README").write_text("changed\n")
    (project / "old.txt").unlink()
    changed = ["src/new.py", "./README", {"path": "old.txt", "op": "deleted"}]
    assert orchestrion.done(run, "done", files=changed)["task"]["state"] == "completed"
    kept = orchestrion.task_files("T1")
    assert statuses(kept) == {
        "README": ("modified", "verified"),
        "old.txt": ("deleted", "verified"),
        "src/new.py": ("created", "verified"),
    }
    new = next(file for file in kept["files"] if file["path"] == "src/new.py")
    assert (new["size"], new["mode"], new["source"], new["run"]) == (4, "100755", "reported", "R1")
    assert new["sha256"] == "7aa7a5359173d05b63cfd682e3c38487f3cb4f7f1d60659fe59fab1505977d4c"
    assert orchestrion.verify("T1")["status"] == "verified"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "new.py").write_text("tampered\n"), "content differs"),
        (lambda root: (root / "new.py").unlink(), "no file is there"),
        (lambda root: (root / "new.py").chmod(0o755), "mode differs"),
        (lambda root: ((root / "new.py").unlink(), (root / "new.py").symlink_to("README")), "content differs"),
        (lambda root: ((root / "new.py").unlink(), (root / "new.py").mkdir()), "no file is there"),
        (lambda root: ((root / "new.py").unlink(), os.mkfifo(root / "new.py")), "no file is there"),
    ],
)
def test_tampering_is_detected_and_named(
    orchestrion: Orchestrator, later: Orchestrator, project: Path, change: Any, said: str
) -> None:
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    for called in ("new.py", "fine.py"):
        (project / called).write_text("new\n")
    orchestrion.done(run, "done", files=["new.py", "fine.py"])
    change(project)
    found = later.verify("T1")
    worst = "partial" if said == "mode differs" else "failed"
    assert found["status"] == worst
    assert (found["files"][0]["path"], found["files"][0]["status"]) == ("new.py", worst)
    assert said in found["files"][0]["detail"]
    assert found["files"][1]["status"] == "verified"
    assert later.task_files("T1")["status"] == worst
    recovered = later.recover("T1")
    assert any("new.py" in risk for risk in recovered["risks"])
    assert "new.py" in recovered["next_steps"][0]


def test_a_deleted_file_that_comes_back_is_detected(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    (project / "old.txt").unlink()
    orchestrion.done(run, "done", files=[{"path": "old.txt", "op": "delete"}])
    (project / "old.txt").write_text("back\n")
    (file,) = orchestrion.verify("T1")["files"]
    assert (file["status"], file["detail"]) == ("failed", "should be gone, but is there")


def test_moved_and_copied_files(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    (project / "old.txt").rename(project / "moved.txt")
    shutil.copy(project / "README", project / "copy")
    changed = [
        {"path": "moved.txt", "op": "moved", "old_path": "old.txt"},
        {"path": "copy", "op": "copied", "old_path": "README"},
    ]
    assert orchestrion.done(run, "done", files=changed)["task"]["state"] == "completed"
    assert orchestrion.verify("T1")["status"] == "verified"
    (project / "old.txt").write_text("back\n")
    half = orchestrion.verify("T1")["files"][0]
    assert (half["path"], half["status"]) == ("moved.txt", "partial")
    assert half["detail"] == "is still at its old place old.txt"
    (project / "moved.txt").write_text("other\n")
    assert orchestrion.verify("T1")["files"][0]["status"] == "failed"


@pytest.mark.parametrize(
    "file",
    [
        "nowhere.txt",
        {"path": "README", "op": "deleted"},
        {"path": "moved.txt", "op": "moved", "old_path": "old.txt"},
        {"path": "gone.txt", "op": "modified"},
    ],
    ids=str,
)
def test_work_that_is_not_as_reported_goes_to_review(orchestrion: Orchestrator, project: Path, file: Any) -> None:
    orchestrion.add("One", checks=("echo checked > evidence",))
    run = orchestrion.claim()["run"]
    outcome = orchestrion.done(run, "said", files=["README", file])
    assert (outcome["task"]["state"], outcome["task"]["code"]) == ("review", "verification_failed")
    assert (file if isinstance(file, str) else file["path"]) in outcome["task"]["reason"]
    assert not (project / "evidence").exists()
    assert orchestrion.task_files("T1")["status"] == "failed"


@pytest.mark.parametrize("path", TRAVERSALS, ids=lambda path: repr(path)[:30])
def test_paths_that_lead_out_are_refused_everywhere(orchestrion: Orchestrator, path: str) -> None:
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    for file in (path, {"path": path, "op": "deleted"}, {"path": "README", "op": "moved", "old_path": path or "\0"}):
        for attempt in (
            lambda file=file: orchestrion.done(run, "done", files=[file]),
            lambda file=file: orchestrion.report_files([file], run=run),
        ):
            with pytest.raises(InvalidInput) as refused:
                attempt()
            assert refused.value.code in ("outside_project", "invalid_path")
            assert refused.value.hint
    assert orchestrion.run(run).row["state"] == "running"
    assert orchestrion.task_files("T1")["total"] == 0


def test_reports_that_cannot_be_meant(orchestrion: Orchestrator) -> None:
    orchestrion.add("One")
    orchestrion.add("Two")
    run = orchestrion.claim()["run"]
    for file in (
        3,
        {"path": 3},
        {"op": "created"},
        {"path": "README", "op": "read"},
        {"path": "README", "op": "moved"},
    ):
        with pytest.raises(InvalidInput):
            orchestrion.report_files([file], run=run)
    with pytest.raises(InvalidInput):
        orchestrion.report_files(["README"])
    with pytest.raises(InvalidInput):
        orchestrion.report_files(["README"], run=run, source="git")
    with pytest.raises(InvalidInput):
        orchestrion.report_files(["README"], run=run, task="T2")
    with pytest.raises(InvalidInput):
        orchestrion.report_files(["README"] * 1001, run=run)
    with pytest.raises(NotFound):
        orchestrion.report_files(["README"], task="T9")
    with pytest.raises(InvalidInput):
        orchestrion.verify()


def test_what_a_hook_saw_is_measured_again_at_the_end(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    for called in ("kept.py", "draft.py"):
        (project / called).write_text("first\n")
        orchestrion.report_files([{"path": str(project / called), "op": "created"}], run=run, source="hook")
    orchestrion.report_files([{"path": "kept.py", "op": "modified"}, "old.txt"], task="T1", source="hook")
    (project / "kept.py").write_text("second\n")
    (project / "draft.py").unlink()
    (project / "old.txt").unlink()
    assert orchestrion.done(run, "done")["task"]["state"] == "completed"
    assert statuses(orchestrion.verify("T1")) == {
        "kept.py": ("created", "verified"),
        "old.txt": ("deleted", "verified"),
    }


def test_what_a_client_said_before_is_held_against_it_at_the_end(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    (project / "new.py").write_text("first\n")
    assert orchestrion.report_files(["new.py"], run=run)["status"] == "verified"
    (project / "new.py").unlink()
    assert orchestrion.done(run, "done")["task"]["code"] == "verification_failed"


def test_what_is_recorded_of_work_that_is_over_is_evidence(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    (project / "new.py").write_text("new\n")
    orchestrion.done(run, "done", files=["new.py"])
    (project / "new.py").write_text("tampered\n")
    with pytest.raises(StaleRun):
        orchestrion.report_files(["new.py"], run=run)
    with pytest.raises(Conflict) as refused:
        orchestrion.report_files(["new.py"], task="T1")
    assert (refused.value.code, bool(refused.value.hint)) == ("task_is_over", True)
    assert orchestrion.verify("T1")["status"] == "failed"


def test_a_report_is_a_sign_of_life(orchestrion: Orchestrator, raw: Any) -> None:
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    for tell in (lambda: orchestrion.report_files(["README"], run=run), lambda: orchestrion.decide("So", run=run)):
        raw.run("update runs set lease_until = 1")
        tell()
        assert raw.rows("select lease_until from runs")[0]["lease_until"] > 1


def test_many_reports_of_one_file_at_once(
    orchestrion: Orchestrator, project: Path, store_url: str, environ: dict[str, str]
) -> None:
    """Hooks of one agent come as they like: each is answered, and the file is recorded once."""
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    orchestrion.start_session("one")
    told: list[str] = []

    def tell(owner: dict[str, str]) -> None:
        with Orchestrator.open(project, db=store_url, environ=environ) as mine:
            for paths in (["README", "old.txt"], ["old.txt", "README"]) * 3:
                told.append(mine.report_files(paths, source="hook", **owner)["status"])

    threads = [threading.Thread(target=tell, args=({what: one},)) for what, one in OWNERS * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["verified"] * 72
    assert statuses(orchestrion.verify("T1")) == dict.fromkeys(("README", "old.txt"), ("modified", "verified"))
    assert orchestrion.verify(session="S1")["total"] == 2
    assert orchestrion.run(run).row["state"] == "running"


OWNERS = [("run", "R1"), ("task", "T1"), ("session", "S1")]


def test_two_clients_at_one_file_are_told(orchestrion: Orchestrator, project: Path) -> None:
    (project / "link2").symlink_to("README")
    for title in ("One", "Two"):
        orchestrion.add(title)
        orchestrion.claim()
    orchestrion.report_files(["README"], run="R1")
    assert orchestrion.overlaps() == []
    orchestrion.report_files(["old.txt", "README"], run="R2")
    assert orchestrion.overlaps() == [{"path": "README", "runs": ["R1", "R2"]}]
    assert [one["path"] for one in orchestrion.files_of("R2")] == ["README", "old.txt"]
    orchestrion.done("R2", "look", files=["link2"], next_action="needs_revision")
    orchestrion.report_files(["link2"], run="R1")
    assert {one["path"] for one in orchestrion.overlaps()} == {"README", "link2"}


def test_later_work_on_a_file_is_no_tampering(orchestrion: Orchestrator, project: Path) -> None:
    for title in ("One", "Two"):
        orchestrion.add(title)
        run = orchestrion.claim()["run"]
        (project / "README").write_text(f"{title}\n")
        orchestrion.done(run, title, files=["README"])
    (file,) = orchestrion.verify("T1")["files"]
    assert (file["status"], file["detail"]) == ("verified", "changed since by T2 (R2)")
    (project / "README").write_text("tampered\n")
    assert orchestrion.verify("T1")["status"] == orchestrion.verify("T2")["status"] == "failed"


def test_files_of_a_session_without_a_task(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.start_session("one")
    assert orchestrion.report_files(["README"], session="S1")["files"][0]["session"] == "S1"
    assert statuses(orchestrion.verify(session="S1")) == {"README": ("modified", "verified")}
    (project / "README").write_text("tampered\n")
    assert orchestrion.verify(session="S1")["status"] == "failed"


def test_files_outside_git(store_url: str, tmp_path: Path, environ: dict[str, str]) -> None:
    root = tmp_path / "plain"
    (root / ".orchestrion").mkdir(parents=True)
    with Orchestrator.open(root, db=store_url, environ=environ) as orchestrion:
        orchestrion.add("One")
        run = orchestrion.claim()["run"]
        (root / "new.txt").write_text("new\n")
        orchestrion.done(run, "done", files=["new.txt"])
        assert statuses(orchestrion.verify("T1")) == {"new.txt": ("created", "verified")}


# -- files of supervised runs --------------------------------------------------------------------

WORK = """
echo new > new.txt; chmod +x new.txt; echo changed > README; git mv old.txt moved.txt; ln -s README linked
printf 'x' > "$(printf 'odd\\nname')"
"""


def test_the_files_of_a_supervised_run_are_those_that_git_has(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("One", command=WORK)
    assert orchestrion.work(slots=1, drain=True).completed == 1
    found = orchestrion.verify("T1")
    assert found["status"] == "verified"
    assert statuses(found) == {
        "README": ("modified", "verified"),
        "linked": ("created", "verified"),
        "moved.txt": ("moved", "verified"),
        "new.txt": ("created", "verified"),
        "odd\nname": ("created", "verified"),
    }
    by_path = {file["path"]: file for file in found["files"]}
    assert (by_path["new.txt"]["mode"], by_path["new.txt"]["size"]) == ("100755", 4)
    assert by_path["moved.txt"]["old_path"] == "old.txt"
    assert by_path["linked"]["mode"] == "120000"
    assert {file["source"] for file in found["files"]} == {"git"}


def test_a_plan_that_somebody_else_changed_is_detected(
    orchestrion: Orchestrator, project: Path, tmp_path: Path
) -> None:
    orchestrion.add("One", command="echo new > new.txt; echo other > other.txt; rm old.txt")
    orchestrion.work(slots=1, drain=True)
    folder = tmp_path / "tampering"
    git(project, "worktree", "add", "-q", "--detach", str(folder), "refs/orchestrion/plans/default")
    (folder / "new.txt").write_text("tampered\n")
    (folder / "old.txt").write_text("back\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "tampered")
    git(project, "update-ref", "refs/orchestrion/plans/default", git(folder, "rev-parse", "HEAD"))
    found = orchestrion.verify("T1")
    assert found["status"] == "failed"
    assert statuses(found) == {
        "new.txt": ("created", "failed"),
        "old.txt": ("deleted", "failed"),
        "other.txt": ("created", "verified"),
    }


def test_work_that_goes_on_in_a_plan_is_no_tampering(orchestrion: Orchestrator) -> None:
    """One after the other, and two at once whose lines are joined by a merge."""
    orchestrion.add("Base", command="seq 1 30 > lines.txt; echo one > same.txt")
    orchestrion.add("Next", after=["T1"], command="echo two > same.txt")
    wait = "touch ../../{0}; until [ -e ../../{1} ]; do sleep 0.02; done; sed -i {2} lines.txt"
    orchestrion.add("Top", after=["T2"], command=wait.format("top", "end", "1s/.*/top/"))
    orchestrion.add("End", after=["T2"], command=wait.format("end", "top", "30s/.*/end/"))
    assert orchestrion.work(slots=2, drain=True).completed == 4
    for task in ("T1", "T2", "T3", "T4"):
        assert orchestrion.verify(task)["status"] == "verified", orchestrion.verify(task)
    details = [file["detail"] for file in orchestrion.verify("T1")["files"]]
    assert any("joined with" in (detail or "") for detail in details)
    assert any("changed since by T2" in (detail or "") for detail in details)


def test_work_that_is_not_merged_is_held_against_its_commit(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("One", command="echo new > new.txt", merge="none")
    orchestrion.work(slots=1, drain=True)
    assert statuses(orchestrion.verify("T1")) == {"new.txt": ("created", "verified")}
    ours = ("refs/heads/orchestrion", "refs/orchestrion")
    for ref in git(project, "for-each-ref", "--format=%(refname)", *ours).split():
        git(project, "update-ref", "-d", ref)
    git(project, "reflog", "expire", "--expire=now", "--all")
    git(project, "gc", "-q", "--prune=now")
    assert orchestrion.verify("T1")["status"] == "failed"


def test_the_files_of_an_attempt_that_failed_are_there_for_the_next(orchestrion: Orchestrator) -> None:
    orchestrion.add("One", command="echo half > half.txt; exit 3")
    orchestrion.work(slots=1, drain=True)
    found = orchestrion.recover("T1")
    assert [one["path"] for one in found["files"]["created"]] == ["half.txt"]
    assert found["approaches"][0]["code"] == "agent_failed"
    assert found["approaches"][0]["branch"] == "orchestrion/run/R1"
    assert "orchestrion retry T1" in " ".join(found["next_steps"])
    orchestrion.update("T1", command="echo whole > whole.txt")
    orchestrion.retry("T1")
    orchestrion.work(slots=1, drain=True)
    assert statuses(orchestrion.verify("T1")) == {"whole.txt": ("created", "verified")}


def test_without_git_nothing_is_claimed(
    orchestrion: Orchestrator, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    orchestrion.add("One", command="echo new > new.txt")
    orchestrion.work(slots=1, drain=True)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    found = orchestrion.verify("T1")
    assert (found["status"], found["files"][0]["status"]) == ("pending", "pending")
    assert "git" in found["files"][0]["detail"]
    assert orchestrion.recover("T1")["verification"] == "pending"


# -- prime, recovery, handoff ---------------------------------------------------------------------


def tokens(text: str) -> float:
    return len(text.encode()) / 4


def test_an_empty_project_can_be_primed(orchestrion: Orchestrator) -> None:
    text = orchestrion.prime()
    assert "No tasks yet." in text
    assert text.count("`orchestrion ") == 3


def test_a_fresh_session_learns_what_is_going_on(orchestrion: Orchestrator, later: Orchestrator, project: Path) -> None:
    for title in ("Write it", "Look at it", "Hold it", "Next one"):
        orchestrion.add(title, role="tester" if title == "Next one" else "")
    orchestrion.done(orchestrion.claim("T1")["run"], "the parser is written", detail="all of it")
    orchestrion.done(orchestrion.claim("T2")["run"], "is it right?", next_action="needs_revision")
    orchestrion.claim("T3", agent="ada")
    orchestrion.decide("Use SQLite", decision="One file.")
    orchestrion.decide("Use files", status="rejected")
    orchestrion.handoff(text="mind the gap in the tests")
    text = later.prime()
    for said in (
        "4 tasks: 1 ready, 1 in progress, 1 review, 1 completed.",
        "Plans: default (4).",
        "R3 T3 Hold it (ada, holds it",
        "T2 review: Look at it (needs_revision: is it right?)",
        "T1 Write it: the parser is written",
        "D1 Use SQLite: One file.",
        "mind the gap in the tests",
        "T4 Next one (tester)",
        "`orchestrion claim T4`",
        "`orchestrion context T2`",
    ):
        assert said in text, text
    assert "Use files" not in text
    assert "T4" not in later.prime(role="documenter").partition("## Ready next")[2]
    assert tokens(text) <= 1500
    with pytest.raises(NotFound):
        later.prime(role="nobody")
    for wrong in ({"budget_tokens": 10}, {"tag": "two words"}, {"session": "T1"}):
        with pytest.raises(InvalidInput):
            later.prime(**wrong)  # type: ignore[arg-type]


@pytest.mark.long
def test_prime_is_small_whatever_the_project_holds(orchestrion: Orchestrator) -> None:
    huge = "日本語 " * 100_000
    for number in range(30):
        orchestrion.add(f"{number} " + "ü" * 250, tags=("docs",), description=huge)
        run = orchestrion.claim(f"T{number + 1}")["run"]
        if number % 3 == 0:
            orchestrion.done(run, huge)
        elif number % 3 == 1:
            orchestrion.done(run, huge, next_action="needs_revision")
        orchestrion.decide(f"{number} " + "ß" * 250, decision=huge)
    orchestrion.handoff(text=huge, tag="docs")
    for asked in ({}, {"tag": "docs"}, {"budget_tokens": 200}, {"budget_tokens": 600}):
        text = orchestrion.prime(**asked)  # type: ignore[arg-type]
        assert tokens(text) <= asked.get("budget_tokens", 1500)
        assert "## Go on with" in text
    assert re_more(orchestrion.prime()) >= 3


def re_more(text: str) -> int:
    return sum(line.startswith("- and ") and " more: `orchestrion " in line for line in text.splitlines())


@pytest.mark.long
def test_prime_of_ten_thousand_tasks(orchestrion: Orchestrator) -> None:
    from orchestrion.core.model import NewTask
    from orchestrion.scheduler import create

    def fill(tx: Any) -> None:
        create.create_all(tx, [NewTask(f"Task {number} " + "x" * 200) for number in range(10_000)])

    orchestrion.store.write(fill)
    text = orchestrion.prime()
    assert "10000 tasks: 10000 ready." in text
    assert tokens(text) <= 1500


def test_a_work_stream_is_handed_over_by_itself(orchestrion: Orchestrator, later: Orchestrator) -> None:
    orchestrion.add("Write the guide", tags=("docs",))
    orchestrion.add("Fix the bug")
    left = orchestrion.handoff(tag="docs", text="the guide is half done")
    assert (left["id"], left["tag"], left["task"]) == ("H1", "docs", None)
    assert "Write the guide" in left["text"]
    assert "Fix the bug" not in left["text"]
    assert later.last_handoff("docs")["text"] == left["text"]
    assert later.show("H1")["text"] == left["text"]
    orchestrion.handoff(text="all else")
    assert "half done" in later.prime(tag="docs")
    assert "all else" in later.prime(tag="docs")
    with pytest.raises(NotFound):
        later.last_handoff("tests")
    with pytest.raises(NotFound):
        later.show("H9")


def test_handoffs_do_not_grow_by_those_before(orchestrion: Orchestrator) -> None:
    orchestrion.add("One")
    sizes = [len(orchestrion.handoff(text="go on")["text"]) for _ in range(5)]
    assert max(sizes) - min(sizes) < 10
    about = orchestrion.handoff(task="T1", text="only the tests are missing")
    assert about["text"].startswith("only the tests are missing\n\n# T1 One (ready)")


def test_a_task_is_recovered_in_a_new_process(
    orchestrion: Orchestrator, project: Path, store_url: str, environ: dict[str, str]
) -> None:
    orchestrion.add("Before")
    orchestrion.add("Write it", after=["T1"])
    orchestrion.decide("Keep it small", task="T1", impact="high", risks=[{"risk": "too small", "mitigation": "grow"}])
    orchestrion.done(orchestrion.claim()["run"], "prepared")
    first = orchestrion.claim("T2")["run"]
    (project / "new.py").write_text("new\n")
    (project / "old.txt").unlink()
    orchestrion.done(
        first,
        "half of it",
        detail="how it was tried",
        files=["new.py", {"path": "old.txt", "op": "deleted"}],
        next_action="needs_revision",
    )
    orchestrion.reject("T2", "the other half")
    program = (
        "import json, sys; from orchestrion import Orchestrator;"
        "print(json.dumps(Orchestrator.open(sys.argv[1], db=sys.argv[2]).recover('T2')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(project), store_url],
        env=environ,
        capture_output=True,
        check=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert (found["id"], found["state"], found["verification"]) == ("T2", "ready", "verified")
    assert [one["path"] for one in found["files"]["created"]] == ["new.py"]
    assert [one["path"] for one in found["files"]["deleted"]] == ["old.txt"]
    assert found["files"]["deleted"][0]["status"] == "verified"
    assert [one["id"] for one in found["decisions"]] == ["D1"]
    assert found["approaches"][0]["summary"] == "half of it"
    assert found["approaches"][0]["artifacts"][0]["id"] == "A1"
    assert any("too small (mitigation: grow)" in risk for risk in found["risks"])
    assert any("the other half" in risk for risk in found["risks"])
    assert found["next_steps"] == ["`orchestrion claim T2` takes it, with its brief"]
    for said in ("created new.py", "deleted old.txt", "D1 Keep it small", "R2 succeeded", "## Next"):
        assert said in found["text"]


def test_recovery_is_bounded(orchestrion: Orchestrator, project: Path) -> None:
    huge = "x" * 500_000
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    (project / "many").mkdir()
    for number in range(300):
        (project / "many" / f"{number}.txt").write_text("x")
    for number in range(30):
        orchestrion.decide(f"Decision {number}", decision=huge, risks=[huge], task="T1")
    orchestrion.done(run, huge, files=[f"many/{number}.txt" for number in range(300)])
    found = orchestrion.recover("T1")
    assert (found["files_total"], len(found["files"]["created"])) == (300, 100)
    assert (found["decisions_total"], len(found["decisions"])) == (30, 20)
    assert len(json.dumps(found)) < 150_000
    assert len(found["text"]) < 17_000


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda o: None, "`orchestrion show R1`"),
        (lambda o: o.release("R1"), "orchestrion claim T1"),
        (lambda o: o.kill("R1"), "orchestrion retry T1"),
        (lambda o: o.done("R1", "which?", next_action="blocked"), "orchestrion why T1"),
        (lambda o: o.done("R1", "look", next_action="needs_revision"), "orchestrion approve T1"),
        (lambda o: o.done("R1", "done"), "orchestrion claim T2"),
        (lambda o: o.fail("R1", "later", "client_tempfail"), "orchestrion retry T1"),
    ],
)
def test_every_state_has_a_next_step(orchestrion: Orchestrator, end: Any, said: str) -> None:
    orchestrion.add("One")
    orchestrion.add("Two", after=["T1"])
    orchestrion.claim("T1")
    end(orchestrion)
    assert said in " ".join(orchestrion.recover("T1")["next_steps"])
    assert said in " ".join(orchestrion.recover("R1")["next_steps"])


def test_nothing_is_recovered_of_what_is_not_there(orchestrion: Orchestrator) -> None:
    for thing, error in (
        ("T9", NotFound),
        ("S9", NotFound),
        ("R9", NotFound),
        ("D1", InvalidInput),
        ("", InvalidInput),
    ):
        with pytest.raises(error):
            orchestrion.recover(thing)


def test_a_brief_names_decisions_and_files_of_what_came_before(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("First")
    orchestrion.add("Second", after=["T1"])
    run = orchestrion.claim()["run"]
    (project / "new.py").write_text("x")
    orchestrion.decide("Keep it small", decision="At most a page.", task="T1")
    orchestrion.done(run, "done", files=["new.py"])
    brief = orchestrion.claim()["brief"]
    assert "At most a page." in brief
    assert "new.py (created by T1)" in brief


# -- search --------------------------------------------------------------------------------------


def test_decisions_tasks_and_artifacts_are_found_by_words(orchestrion: Orchestrator, later: Orchestrator) -> None:
    orchestrion.add("Write the Parser", description="for YAML")
    orchestrion.add("Document it")
    orchestrion.decide("Parser by hand", decision="No generator for the parser")
    orchestrion.done(orchestrion.claim("T1")["run"], "recursive descent", detail="lots about parser speed: 3x_faster")

    def found(text: str, **wanted: Any) -> set[str]:
        return {one["id"] for one in later.search(text, **wanted)["results"]}

    assert found("parser") == {"T1", "D1", "A1"}
    assert found("PARS") == {"T1", "D1", "A1"}
    assert found("recursive parser") == {"T1"}
    assert found("faster 3x") == {"A1"}
    assert found("parser", kinds=["decision"]) == {"D1"}
    assert found("parser nothing") == set()
    orchestrion.update("T2", title="Document the parser")
    assert "T2" in found("parser")
    orchestrion.delete("T2")
    assert "T2" not in found("parser")
    assert "parser speed" in next(one for one in later.search("speed")["results"])["excerpt"]
    for wrong in ({"text": "?!"}, {"text": "a", "kinds": ["run"]}, {"text": "a", "limit": 0}):
        with pytest.raises(InvalidInput):
            later.search(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ['"', "a OR b", "parser*", "NEAR(a b)", "a' --", "a & b | !c", ":*", "日本", "_" * 50 + "a"]
)
def test_no_question_breaks_the_search(orchestrion: Orchestrator, text: str) -> None:
    orchestrion.add("a b c 日本")
    with suppress(InvalidInput):
        assert len(orchestrion.search(text)["results"]) <= 1
    assert orchestrion.search("a b")["results"][0]["id"] == "T1"


def test_search_reads_a_long_journal_to_its_end(orchestrion: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrion.memory import search

    monkeypatch.setattr(search, "AT_ONCE", 3)
    for number in range(10):
        orchestrion.add(f"Number{number}")
    assert len(orchestrion.search("number")["results"]) == 10
    assert [one["id"] for one in orchestrion.search("number9")["results"]] == ["T10"]


def test_projects_find_only_their_own(store_url: str, tmp_path: Path, environ: dict[str, str]) -> None:
    opened = []
    for called in ("one", "two"):
        (tmp_path / called / ".orchestrion").mkdir(parents=True)
        opened.append(Orchestrator.open(tmp_path / called, db=store_url, environ=environ))
    one, two = opened
    one.add("A secret task")
    one.decide("A secret decision")
    one.start_session("secret")
    one.handoff(text="secret")
    two.decide("Their own")
    assert two.search("secret")["results"] == []
    assert [d["id"] for d in two.decisions()["decisions"]] == ["D1"]
    assert two.list_sessions()["total"] == 0
    assert "secret" not in two.prime()
    for thing in ("S1", "T1"):
        with pytest.raises(NotFound):
            two.recover(thing)
    for each in opened:
        each.close()


def test_what_a_run_said_is_gone_through_once_more(
    project: Path, store_url: str, environ: dict[str, str], orchestrion: Orchestrator
) -> None:
    secret = "plain old passwörd"
    theirs = orchestrion.handoff(text=f"a person says {secret}")["id"]
    orchestrion.start_session(f"a person's, with {secret}")
    orchestrion.add("held")
    orchestrion.claim("T1")
    within = {**environ, "ORCHESTRION_RUN": f"{orchestrion.store.uuid}/R1"}
    with Orchestrator.open(project, db=store_url, environ=within) as agent:
        first = agent.handoff(text=f"{secret} is it, {secret}")["id"]
        agent.start_session(f"with {secret}")
        agent.decide("in between")
    for _ in range(25):
        last = orchestrion.handoff(text=f"a person says {secret}")["id"]
    orchestrion.done("R1", f"used {secret}")
    before = orchestrion.last_event()
    orchestrion.store.write(lambda tx: reports.mask(tx, 1, Masker({"MY_PATH": secret})))
    assert orchestrion.last_event() == before
    orchestrion.store.write(lambda tx: reports.mask(tx, 1, Masker({"MY_PASS": secret})))
    assert orchestrion.show(first)["text"].startswith(f"{MASK} is it, {MASK}\n")
    assert orchestrion.store.read(lambda tx: tx.the("handoff", id=int(first[1:])))["said"] == len(
        f"{MASK} is it, {MASK}"
    )
    assert orchestrion.session_detail("S2")["name"] == f"with {MASK}"
    assert orchestrion.task("T1").row["summary"] == orchestrion.run("R1").row["summary"] == f"used {MASK}"
    for one in (theirs, last):
        assert secret in orchestrion.show(one)["text"]
    assert secret in orchestrion.session_detail("S1")["name"]
    assert [event["kind"] for event in orchestrion.events(since=before)] == ["run.masked"]
    orchestrion.store.write(lambda tx: reports.mask(tx, 1, Masker({"MY_PASS": secret})))
    assert len(orchestrion.events(since=before)) == 1
