"""Commands that remember, as they are typed: prime, context, handoff, decide, decisions, verify, search, sessions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from place import Place

from orchestrion import Orchestrator

ESCAPE = "evil \x1b[2J\u202etext"


def test_prime(project: Place) -> None:
    project("add", "first")
    text = project("prime").out
    assert "1 task: 1 ready." in text
    assert "`orchestrion claim T1`" in text
    assert project.json("prime")["text"].strip() == text.strip()
    assert len(project("prime", "--tokens", "200").out.encode()) <= 801
    assert project("prime", "--tokens", "1", "--json", code=6).error["code"] == "invalid_budget_tokens"
    assert project("prime", "--role", "nobody", "--json", code=4).error["code"] == "no_role"


def test_a_task_from_claim_to_recovery(project: Place) -> None:
    project("add", "first")
    project("claim")
    (project.root / "new.txt").write_text("new\n")
    (project.root / "a.txt").unlink()
    project("decide", "Keep it small", "--decision", "one page", "--task", "T1")
    done = project.json("done", "R1", "--summary", "half", "--file", "new.txt", "--deleted", "a.txt")
    assert done["task"]["state"] == "completed"
    found = project.json("files", "T1")
    assert (found["task"], found["status"], found["total"]) == ("T1", "verified", 2)
    assert [(file["path"], file["op"]) for file in found["files"]] == [("a.txt", "deleted"), ("new.txt", "created")]
    assert project("files", "T1").out.splitlines()[1].split() == ["verified", "deleted", "R1", "a.txt"]
    again = project.json("verify", "T1")
    assert [file["path"] for file in again["files"]] == ["a.txt", "new.txt"]
    assert again["files"][0]["checked_at"] > found["files"][0]["seen_at"]
    text = project("context", "T1").out
    for said in ("created new.txt [verified]", "deleted a.txt [verified]", "D1 Keep it small: one page"):
        assert said in text


def test_tampering_is_told_by_the_exit_code(project: Place) -> None:
    project("add", "first")
    project("claim")
    (project.root / "new.txt").write_text("new\n")
    project("done", "R1", "--summary", "x", "--file", "new.txt")
    assert "verified" in project("verify", "T1").out
    (project.root / "new.txt").write_text("tampered\n")
    answer = project("verify", "T1", code=8)
    assert "failed" in answer.out
    assert "content differs" in answer.out
    assert project("files", "T1").out == answer.out
    assert project.json("verify", "T1", code=8)["status"] == "failed"


@pytest.mark.parametrize("option", ["--file", "--deleted"])
@pytest.mark.parametrize("path", ["../x", "/etc/passwd", ""])
def test_paths_that_lead_out(project: Place, option: str, path: str) -> None:
    project("add", "first")
    project("claim")
    error = project("done", "R1", "--summary", "x", option, path, "--json", code=6).error
    assert error["code"] in ("outside_project", "invalid_path")
    assert error["hint"]
    assert project.json("show", "R1")["state"] == "running"


def test_work_that_is_not_there(project: Place) -> None:
    project("add", "first")
    project("claim")
    done = project.json("done", "R1", "--summary", "x", "--file", "nowhere.txt")
    assert (done["task"]["state"], done["task"]["code"]) == ("review", "verification_failed")
    assert project("verify", "T1", code=8).out.startswith("T1: 1 file, failed\n")


def test_files_without_a_name(project: Place) -> None:
    assert "which run or task?" in project("files", code=2).err
    project("add", "first")
    assert project("files", "T1").out == "T1: no file is recorded\n"
    assert project("files", "T9", "--json", code=4).error["code"] == "no_task"
    assert project("files", "S9", "--json", code=4).error["code"] == "no_session"


def test_decisions(project: Place) -> None:
    said = project("decide", "Use SQLite", "--impact", "high", "--category", "storage", "--file", "src/a.py").out
    assert said == "D1 is accepted: Use SQLite\n"
    more = ("--alternative", "files", "--risk", "locks", "--trade-off", "one machine", "--criterion", "fast")
    full = project.json("decide", "Use PostgreSQL", "--supersedes", "D1", "--decision", "-", *more, stdin=b"a server\n")
    assert (full["decision"], full["replaces"]) == ("a server\n", {"id": "D1", "relation": "supersedes"})
    assert (full["alternatives"], full["risks"]) == ([{"name": "files"}], [{"risk": "locks"}])
    assert project("decide", "D2", "--status", "implemented").out.startswith("D2 is implemented: Use PostgreSQL")
    listed = project("decisions").out.splitlines()
    assert listed[0].split() == ["D2", "implemented", "Use", "PostgreSQL", "supersedes", "D1"]
    assert listed[1].split() == ["D1", "superseded", "high", "storage", "Use", "SQLite"]
    assert [one["id"] for one in project.json("decisions", "--search", "server")["decisions"]] == ["D2"]
    assert [one["id"] for one in project.json("decisions", "--file", "src/a.py")["decisions"]] == ["D1"]
    assert "go on with --cursor D2" in project("decisions", "--limit", "1").out
    assert "goes back to D1 (superseded): Use SQLite" in project("decisions", "D2").out
    assert project("show", "D2").out.splitlines()[0] == "D2 is implemented: Use PostgreSQL; supersedes D1"
    assert project.json("show", "D2") == project.json("decisions", "D2")


def test_what_never_held_is_not_shown_as_a_change(project: Place) -> None:
    project("decide", "Use SQLite")
    assert project("decide", "Use Postgres", "--status", "proposed", "--supersedes", "D1").out == (
        "D2 is proposed: Use Postgres; would supersede D1\n"
    )
    project("decide", "Use Oracle", "--status", "rejected", "--reverses", "D1")
    project("decide", "In WAL mode", "--refines", "D1")
    project("decide", "In memory", "--status", "proposed", "--reverses", "D1")
    for command in ("show", "decisions"):
        facts = project(command, "D1").out
        assert re.search(r"proposed instead:? +D2$", facts, re.MULTILINE | re.IGNORECASE)
        assert re.search(r"refined by:? +D4$", facts, re.MULTILINE | re.IGNORECASE)
        assert re.search(r"proposed to reverse it:? +D5$", facts, re.MULTILINE | re.IGNORECASE)
        assert "D3" not in facts
        assert "superseded" not in facts.lower()
    assert "- Would supersede: D1\n" in project("decisions", "D2").out
    assert "- Was to reverse: D1\n" in project("decisions", "D3").out
    listed = {line.split()[0]: line for line in project("decisions").out.splitlines()}
    assert listed["D2"].endswith("would supersede D1")
    assert listed["D3"].endswith("was to reverse D1")
    project("decide", "D2", "--status", "accepted")
    assert "- Superseded by: D2\n" in project("decisions", "D1").out
    project("decide", "Files", "--supersedes", "D2")
    assert "- Superseded by: D2\n" in project("decisions", "D1").out


def test_decisions_that_are_refused(project: Place) -> None:
    project("decide", "one")
    for arguments, code, error in (
        (["decide", " "], 6, "invalid_title"),
        (["decide", "x", "--impact", "huge"], 6, "invalid_impact"),
        (["decide", "x", "--task", "T9"], 4, "no_task"),
        (["decide", "x", "--supersedes", "D9"], 4, "no_decision"),
        (["decide", "x", "--file", "../x"], 6, "outside_project"),
        (["decide", "D1", "--status", "superseded"], 5, "illegal_move"),
        (["decide", "D1"], 2, "usage"),
        (["decide", "D1", "--status", "rejected", "--impact", "low"], 2, "usage"),
        (["decisions", "D9"], 4, "no_decision"),
        (["decisions", "--search", "?"], 6, "invalid_search"),
        (["decisions", "--cursor", "T1"], 6, "invalid_id"),
    ):
        assert project(*arguments, "--json", code=code).error["code"] == error, arguments
    assert project.json("decisions")["total"] == 1


def test_an_agent_decides_in_its_run(project: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    project("add", "first", "--run", "orchestrion decide 'In the run'; orchestrion prime > primed.txt")
    project("work", "--drain")
    (decided,) = project.json("decisions")["decisions"]
    assert (decided["task"], decided["run"]) == ("T1", "R1")
    assert [file["path"] for file in project.json("files", "T1")["files"]] == ["primed.txt"]
    monkeypatch.setenv("ORCHESTRION_RUN", "another-store/R1")
    refused = [project(*words, "--json", code=6).error for words in (["decide", "elsewhere"], ["pause"], ["release"])]
    assert [one["code"] for one in refused] == ["not_for_runs", "not_for_runs", "foreign_run"]
    assert len({one["message"] for one in refused}) == 1


def test_decisions_as_files(project: Place, tmp_path: Path) -> None:
    project("decide", "../../Up and away", "--decision", "text")
    answer = project("decisions", "--export", "adr")
    assert answer.out == f"1 decision written to {project.root / 'adr'}\n"
    assert [path.name for path in (project.root / "adr").iterdir()] == ["0001-up-and-away.md"]
    assert project("decisions", "--export", "a.txt", "--json", code=6).error["code"] == "not_a_folder"
    assert project("decisions", "--export", "../no/such", "--json", code=4).error["code"] == "no_such_folder"


def test_handoffs(project: Place) -> None:
    assert project("handoff", "--last", "--json", code=4).error["code"] == "no_handoff"
    project("add", "first")
    assert project("handoff", "--text", "mind the gap").out.splitlines()[:2] == ["H1", "mind the gap"]
    assert project.json("handoff", "T1", "--text", "-", stdin=b"from a pipe")["task"] == "T1"
    assert project("handoff", "--last").out.splitlines()[:2] == ["H2", "from a pipe"]
    assert "from a pipe" in project("prime").out
    assert "mind the gap" in project("show", "H1").out
    listed = project("handoff", "--list").out.splitlines()
    assert [line.split()[0] for line in listed] == ["H2", "H1"]
    assert re.search(r"for T1 +from a pipe$", listed[0])
    assert project("handoff", "T1", "--list").out.count("\n") == 1
    assert project("handoff", "--list", "--limit", "1").out.endswith("1 of 2 handoffs; go on with --cursor H2\n")
    assert "nothing was handed over" in project("handoff", "--list", "--tag", "docs").out
    assert project("search", "pipe").out.startswith("H2  handoff of ")
    for wrong in (["--list", "--text", "x"], ["--list", "--last"]):
        assert project("handoff", *wrong, "--json", code=2).error["code"] == "usage"
    assert project("handoff", "--last", "T1", "--json", code=2).error["code"] == "usage"
    assert project("handoff", "T9", "--json", code=4).error["code"] == "no_task"
    assert project("handoff", "--tag", "two words", "--json", code=6).error["code"] == "invalid_tag"


def test_sessions(project: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no session is active" in project("sessions").out
    assert project("sessions", "--start", "docs").out == "export ORCHESTRION_SESSION=S1\n"
    monkeypatch.setenv("ORCHESTRION_SESSION", "S1")
    project("add", "first")
    project("decide", "one")
    assert project("sessions").out.startswith("S1  active  ")
    shown = project("sessions", "S1").out
    assert "docs" in shown
    assert "T1" in shown
    assert project("show", "S1").out == shown
    assert "`orchestrion claim T1`" in project("sessions", "S1", "--resume").out
    assert "## Decisions" in project("context", "S1").out
    assert project("sessions", "S1", "--end", "--summary", "all done").out == "S1 has ended\n"
    assert project.json("sessions")["total"] == 0
    assert project.json("sessions", "--all")["sessions"][0]["summary"] == "all done"
    assert project("verify", "S1").out == "S1: no file is recorded\n"
    project("sessions", "--start", "idle")
    cleaning = ("sessions", "--clean-up", "orphaned", "--older-than", "0")
    assert project(*cleaning).out == "would be ended: S2\n--apply does it\n"
    assert project(*cleaning, "--apply").out == "ended: S2\n"
    assert project(*cleaning).out == "there is nothing to clean up\n"
    assert project("sessions", "--clean-up", "some", "--json", code=6).error["code"] == "invalid_kind"
    assert project("sessions", "--end", "--json", code=2).error["code"] == "usage"
    assert project("sessions", "S9", "--json", code=4).error["code"] == "no_session"


def test_a_session_is_gone_on_with_as_it_is_told(project: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    project("add", "first")
    with Orchestrator.open(project.root, environ=project.environ) as opened:
        session = opened.start_session(client="claude-code", external="c1")["id"]
        opened.on_behalf_of(f"mcp:claude-code/{session}", session).claim("T1")
    assert project("claim", "T1", "--json", code=5).error["code"] == "already_taken"
    for command in (("why", "T1"), ("status",), ("prime",), ("context", "T1")):
        told = project(*command).out
        assert "`orchestrion sessions S1 --resume`" in told, command
        assert "`export ORCHESTRION_SESSION=...`" in told, command
    export, *rest = project("sessions", "S1", "--resume").out.splitlines()
    assert "S1 was seen " in rest[0]
    assert "R1 of T1 is yours: `orchestrion claim T1`" in str(rest)
    assert project("claim", "T1", "--json", code=5).error["code"] == "already_taken"
    assert export.startswith("export ORCHESTRION_SESSION=S1.")
    monkeypatch.setenv("ORCHESTRION_SESSION", export.partition("=")[2])
    assert project("claim", "T1").out.startswith("R1 holds T1 until ")
    assert project.json("claim", "T1")["again"] is True
    monkeypatch.setenv("ORCHESTRION_SESSION", session)
    assert project("claim", "T1", "--json", code=5).error["code"] == "session_taken_over"


def test_a_work_stream(project: Place) -> None:
    project("add", "Write the guide", "--tag", "docs")
    project("add", "Fix the bug")
    assert project("claim", "--tag", "docs").out.startswith("R1 holds T1")
    (project.root / "guide.md").write_text("guide\n")
    project("done", "R1", "--summary", "written", "--file", "guide.md")
    assert project("handoff", "--tag", "docs", "--text", "print it").out.splitlines()[:2] == ["H1", "print it"]
    text = project("context", "--tag", "docs").out
    for said in ("# docs work stream (1 completed)", "> print it", "created guide.md [verified]", "T1 completed"):
        assert said in text
    assert project.json("context", "--tag", "docs")["files_total"] == 1
    assert project("verify", "--tag", "docs").out.splitlines()[0] == "docs: 1 file, verified"
    (project.root / "guide.md").chmod(0o755)
    answer = project("verify", "--tag", "docs", code=8)
    assert answer.out.splitlines()[0] == "docs: 1 file, partial"
    assert project("verify", "R1", code=8).out == project("verify", "T1", code=8).out
    assert "No task has the tag dosc." in project("prime", "--tag", "dosc").out
    assert project("context", "--tag", "dosc", "--json", code=4).error["hint"] == "tags there are: docs"
    for command in ("context", "verify"):
        assert project(command, "--json", code=2).error["code"] == "usage"
        assert project(command, "T1", "--tag", "docs", "--json", code=2).error["code"] == "usage"


def test_alternatives_and_risks_in_parts(project: Place) -> None:
    parts = (
        "--alternative",
        '{"name": "files", "pros": ["simple"]}',
        "--risk",
        '{"risk": "locks", "mitigation": "wait"}',
    )
    found = project.json("decide", "one", *parts, "--alternative", "plain")
    assert found["alternatives"] == [{"name": "files", "pros": ["simple"]}, {"name": "plain"}]
    assert found["risks"] == [{"risk": "locks", "mitigation": "wait"}]
    for wrong, code, error in (("{broken", 2, "usage"), ('{"title": "x"}', 6, "invalid_alternatives")):
        assert project("decide", "two", "--alternative", wrong, "--json", code=code).error["code"] == error
    assert project.json("decisions")["total"] == 1


def test_search(project: Place) -> None:
    project("add", "Write the parser")
    project("decide", "Parser by hand", "--decision", "no generator")
    assert {one["id"] for one in project.json("search", "parser")["results"]} == {"T1", "D1"}
    assert "no generator" in project("search", "hand", "--kind", "decision").out
    assert project("search", "nowhere").out == "nothing has all of these words\n"
    assert project("search", "x", "--kind", "run", "--json", code=6).error["code"] == "invalid_kind"


def test_no_terminal_obeys_what_others_wrote(project: Place) -> None:
    project("add", "first", "--description", ESCAPE)
    project("decide", "one", "--decision", ESCAPE, "--risk", ESCAPE, "--task", "T1")
    project("handoff", "--text", ESCAPE)
    project("sessions", "--start", ESCAPE)
    project("claim", "T1")
    project("done", "R1", "--summary", ESCAPE)
    for arguments in (
        ["prime"], ["context", "T1"], ["handoff", "--last"], ["decisions", "D1"], ["show", "D1"], ["sessions"],
        ["sessions", "S1"], ["show", "H1"], ["search", "evil"], ["decisions"], ["prime", "--json"],
    ):  # fmt: skip
        out = project(*arguments).out
        assert "\x1b" not in out, arguments
        assert "\u202e" not in out, arguments
