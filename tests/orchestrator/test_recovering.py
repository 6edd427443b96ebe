"""Who reported is killed at any moment: a new process finds all that it was told is kept. And what nobody may write."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import InvalidInput, NotFound, OrchestrionError
from orchestrion.runs.git import Git

pytestmark = pytest.mark.long

#: Takes up a task, works on it and reports, says so, and goes on until it is killed.
REPORTS = """
import sys
from pathlib import Path
from orchestrion import Orchestrator

root = Path(sys.argv[1])
with Orchestrator.open(root, db=sys.argv[2]) as opened:
    session = opened.start_session("the parser", client="test", external="one")["id"]
    mine = opened.on_behalf_of("test/one", session)
    run = mine.claim("T1")["run"]
    (root / "new.py").write_text("new\\n")
    (root / "README").write_text("changed\\n")
    (root / "old.txt").unlink()
    changed = ["new.py", "README", {"path": "old.txt", "op": "deleted"}]
    mine.report_files(changed, run=run, session=session)
    risk = {"risk": "deep recursion", "mitigation": "a limit"}
    mine.decide("Recursive descent", decision="No generator.", run=run, session=session, risks=[risk])
    mine.handoff(task="T1", session=session, text="only the tests are missing")
    print("told", flush=True)
    number = 0
    while True:
        number += 1
        (root / f"more{number}.py").write_text(str(number))
        mine.report_files([f"more{number}.py"], run=run, session=session)
        print(mine.decide(f"More {number}", run=run, session=session)["id"], flush=True)
"""
RECOVERS = """
import json, sys
from orchestrion import Orchestrator
with Orchestrator.open(sys.argv[1], db=sys.argv[2]) as mine:
    print(json.dumps([mine.recover(one) for one in sys.argv[3:]]))
"""


class Reporter:
    """A process that reports what it does."""

    def __init__(self, project: Path, url: str, environ: dict[str, str]) -> None:
        command = [sys.executable, "-c", REPORTS, str(project), url]
        self._process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)

    def says(self) -> str:
        """Its next line."""
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def killed(self) -> list[str]:
        """Kills it as no program can help; the lines it said until then."""
        self._process.send_signal(signal.SIGKILL)
        assert self._process.wait(30) == -signal.SIGKILL
        assert self._process.stdout
        with self._process.stdout as said:  # not communicate(): what readline() has read ahead is there too
            rest = said.read()
        return [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]


def recovered(project: Path, url: str, environ: dict[str, str], *things: str) -> list[dict[str, Any]]:
    """What a new process finds."""
    command = [sys.executable, "-c", RECOVERS, str(project), url, *things]
    done = subprocess.run(command, env=environ, capture_output=True, check=True, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def paths(found: dict[str, Any], op: str) -> dict[str, str]:
    return {file["path"]: file["status"] for file in found["files"][op]}


@pytest.mark.parametrize("further", [0, 1, 7])
def test_all_that_was_told_outlives_the_process_that_told_it(
    orchestrion: Orchestrator, project: Path, store_url: str, environ: dict[str, str], further: int
) -> None:
    orchestrion.add("Write the parser")
    reporter = Reporter(project, store_url, environ)
    assert reporter.says() == "told"
    told = [reporter.says() for _ in range(further)]
    told += [line.strip() for line in reporter.killed()]
    task, session = recovered(project, store_url, environ, "T1", "S1")
    for found in (task, session):
        assert found["verification"] == "verified"
        assert paths(found, "modified") == {"README": "verified"}
        assert paths(found, "deleted") == {"old.txt": "verified"}
        assert {"new.py", *(f"more{number}.py" for number in range(1, len(told) + 1))} <= paths(found, "created").keys()
        assert found["handed_over"] == "only the tests are missing"
        assert found["decisions_total"] in (len(told) + 1, len(told) + 2)
    assert {one["id"] for one in orchestrion.decisions(limit=1000)["decisions"]} >= {"D1", *told}
    assert any("deep recursion (mitigation: a limit)" in risk for risk in orchestrion.recover("T1")["risks"]) or told
    assert (task["state"], task["next_steps"][0].partition(" ")[0]) == ("in_progress", "R1")
    assert [one["task"] for one in session["approaches"]] == ["T1"]
    assert "only the tests are missing" in orchestrion.prime()


def test_what_was_changed_behind_its_back_is_seen_in_a_new_process(
    orchestrion: Orchestrator, project: Path, store_url: str, environ: dict[str, str]
) -> None:
    orchestrion.add("Write the parser")
    reporter = Reporter(project, store_url, environ)
    assert reporter.says() == "told"
    reporter.killed()
    (project / "new.py").write_text("tampered\n")
    (project / "README").chmod(0o755)
    (project / "old.txt").write_text("back\n")
    (found,) = recovered(project, store_url, environ, "T1")
    assert found["verification"] == "failed"
    assert paths(found, "created")["new.py"] == "failed"
    assert (paths(found, "modified"), paths(found, "deleted")) == ({"README": "partial"}, {"old.txt": "failed"})
    assert found["next_steps"][0].startswith("look at what is not as it was recorded:")
    for path in ("new.py", "README", "old.txt"):
        assert any(path in risk for risk in found["risks"])
        assert path in found["text"]


def test_a_work_stream_is_recovered_as_a_whole(orchestrion: Orchestrator, later: Orchestrator, project: Path) -> None:
    orchestrion.add("Write the guide", tags=("docs",))
    orchestrion.add("Write the reference", tags=("docs", "api"))
    orchestrion.add("Fix the bug")
    run = orchestrion.claim(tag="docs")["run"]
    (project / "guide.md").write_text("guide\n")
    orchestrion.decide("One page", decision="Not a book.", run=run)
    orchestrion.decide("Elsewhere", task="T3")
    orchestrion.done(run, "the guide is written", files=["guide.md"])
    left = orchestrion.handoff(tag="docs", text="the reference is missing")
    found = later.recover_stream("docs")
    assert (found["id"], found["state"], found["verification"]) == ("docs", "1 ready, 1 completed", "verified")
    assert paths(found, "created") == {"guide.md": "verified"}
    assert [one["id"] for one in found["decisions"]] == ["D1"]
    assert [one["task"] for one in found["approaches"]] == ["T2", "T1"]
    assert found["next_steps"] == ["`orchestrion claim --tag docs` takes the next of its tasks, with its brief"]
    for said in ("guide.md", "One page", "the guide is written", "claim --tag docs"):
        assert said in left["text"]
    brief = later.claim(tag="docs")["brief"]
    assert "the reference is missing" in brief
    assert "work stream docs" in brief
    (project / "guide.md").unlink()
    assert later.recover_stream("docs")["verification"] == "failed"
    with pytest.raises(NotFound) as refused:
        later.recover_stream("dosc")
    assert (refused.value.code, "api, docs" in refused.value.hint) == ("no_stream", True)
    for wrong in ("", "two words", "a\0b"):
        with pytest.raises(InvalidInput):
            later.recover_stream(wrong)


def test_what_is_left_out_of_a_recovery_is_counted(orchestrion: Orchestrator, project: Path) -> None:
    orchestrion.add("One", tags=("all",))
    run = orchestrion.claim()["run"]
    for number in range(1100):
        (project / f"{number}.txt").write_text("x")
    for start in (0, 1000):
        orchestrion.report_files([f"{n}.txt" for n in range(start, min(start + 1000, 1100))], run=run)
    for number in range(30):
        orchestrion.decide(f"Number {number}", run=run)
    for found in (orchestrion.recover("T1"), orchestrion.recover_stream("all")):
        assert (found["files_total"], len(found["files"]["created"])) == (1100, 100)
        assert "- and 1080 more: `orchestrion context" in found["text"]
        assert "- and 10 more: `orchestrion decisions`" in found["text"]


# -- what nobody may write ----------------------------------------------------------------------

HUGE = "x" * 1_000_001
BROKEN = ("a\0b", "broken \udc80", HUGE)
CALLS = [
    *[("decide", {"title": bad}) for bad in (*BROKEN, "", "line\nbreak", "esc\x1b[2J")],
    *[("decide", {"title": "x", field: bad}) for bad in BROKEN for field in ("decision", "context", "rationale")],
    *[("decide", {"title": "x", field: [bad]}) for bad in BROKEN for field in ("risks", "components", "alternatives")],
    *[("decide", {"title": "x", "category": bad}) for bad in (*BROKEN, "two words", "../x")],
    *[("decide", {"title": "x", "files": [bad]}) for bad in (*BROKEN, "../x", "%2e%2e/x", "/etc/passwd")],
    *[
        ("decide", {"title": "x", which: bad})
        for bad in ("T", "D0", "1", "D1; drop", HUGE)
        for which in ("task", "run")
    ],
    *[("decide", {"title": "x", which: "X9"}) for which in ("supersedes", "refines", "reverses", "session")],
    *[("handoff", {"text": bad}) for bad in BROKEN],
    *[("handoff", {"text": "x", "tag": bad}) for bad in (*BROKEN, "two words", "'; --")],
    *[("handoff", {"text": "x", which: bad}) for bad in ("T9", "nothing", "") for which in ("task",) if bad],
    *[("start_session", {field: bad}) for bad in BROKEN for field in ("name", "client", "external", "folder")],
    ("end_session", {"session": "S9", "summary": "x"}),
    ("change_decision", {"decision": "D9", "status": "accepted"}),
    ("report_files", {"paths_with_op": ["README"], "task": "T9"}),
    ("report_files", {"paths_with_op": ["README"], "run": "R9"}),
    ("report_files", {"paths_with_op": ["README"], "session": "S9"}),
    *[("report_files", {"paths_with_op": ["README", bad], "task": "T1"}) for bad in (*BROKEN, "../x", "..%5cx")],
]


@pytest.mark.parametrize("kind", sorted({call for call, _ in CALLS}))
def test_what_cannot_be_kept_is_refused_and_nothing_is_written(orchestrion: Orchestrator, raw: Any, kind: str) -> None:
    orchestrion.add("One")
    tables = ("decisions", "files", "handoffs", "sessions", "texts", "events", "changes")
    before = {table: raw.rows(f"select count(*) as n from {table}") for table in tables}
    for given in [given for call, given in CALLS if call == kind]:
        with pytest.raises(OrchestrionError) as refused:
            getattr(orchestrion, kind)(**given)
        assert refused.value.code not in ("internal", "store_unreachable")
        assert refused.value.hint
        assert len(refused.value.message) < 1000
        assert {table: raw.rows(f"select count(*) as n from {table}") for table in tables} == before, given


QUESTIONS = (
    *('"', '""', '"a', "*", "a*", "^a", "NEAR(a b, 1)", "a NEAR b", "-a", "a -b", "a:b", "title:a", "{title} : a"),
    *("a AND", "NOT a", "(a", "a)", "a + b", "'; drop table texts; --", "%", "_", "\\", "<->", "!a"),
    *("a & ! b", ":*", "a <-> b", "\x1b[2J", "½", "x" * 1000, " ".join("abcdefgh" for _ in range(100)), "日本 語"),
)


def test_no_question_is_more_than_words(orchestrion: Orchestrator) -> None:
    """What SQLite and PostgreSQL would take for a query of their own finds the words in it, or there is none."""
    orchestrion.add("One")
    orchestrion.decide("a and b", decision="near the title")
    found = orchestrion.search("near title")["results"]
    for text in QUESTIONS:
        if any(sign.isalnum() for sign in text):
            assert orchestrion.search(text)["results"] in ([], found)
            assert orchestrion.decisions(text)["total"] in (0, 1)
            continue
        for ask in (orchestrion.search, orchestrion.decisions):
            with pytest.raises(InvalidInput) as refused:
                ask(text)
            assert (refused.value.code, bool(refused.value.hint)) == ("invalid_search", True)
    for text in ("a\0b", "\udc80a"):
        for ask in (orchestrion.search, orchestrion.decisions):
            with pytest.raises(InvalidInput) as refused:
                ask(text)
            assert (refused.value.code, bool(refused.value.hint)) == ("invalid_text", True)


def test_a_task_may_be_called_as_a_question(orchestrion: Orchestrator) -> None:
    """Its brief looks for decisions by its title."""
    orchestrion.decide("a and b", decision="near the title")
    for text in QUESTIONS:
        task = orchestrion.add("".join(sign for sign in text[:200] if sign.isprintable()) or "x")
        assert "## Decisions that hold" in orchestrion.claim(task.as_json()["id"])["brief"]
    assert [one["id"] for one in orchestrion.search("near title")["results"]] == ["D1"]


def test_nothing_is_written_through_a_link_or_outside(orchestrion: Orchestrator, project: Path, tmp_path: Path) -> None:
    """Reading what was reported follows no link out; exporting replaces links; nothing else writes files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret\n")
    (project / "way").symlink_to(outside)
    (project / "file").symlink_to(outside / "secret")
    orchestrion.add("One")
    run = orchestrion.claim()["run"]
    for path in ("way/secret", "file", "way/../../outside/secret", str(outside / "secret")):
        with pytest.raises(InvalidInput):
            orchestrion.report_files([path], run=run)
    (project / "inside").mkdir()
    (project / "inside" / "a.py").write_text("a\n")
    orchestrion.report_files(["inside/a.py"], run=run)
    (project / "inside" / "a.py").unlink()
    (project / "inside").rmdir()
    (outside / "a.py").write_text("a\n")
    (project / "inside").symlink_to(outside)
    assert orchestrion.verify("T1")["status"] == "failed"
    before = sorted((path.name, path.read_text()) for path in outside.iterdir())
    orchestrion.decide("../../../outside/secret")
    exported = orchestrion.export_decisions(project / "docs" / "decisions")
    assert exported["written"] == ["0001-outside-secret.md"]
    with pytest.raises(OrchestrionError):
        orchestrion.export_decisions(tmp_path / "no" / "such" / "folder")
    assert sorted((path.name, path.read_text()) for path in outside.iterdir()) == before
    assert not (tmp_path / "no").exists()


def test_a_project_that_is_gone_is_an_error_not_a_new_one(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(OrchestrionError) as refused:
        Orchestrator.open(tmp_path / "nowhere", environ=environ)
    assert refused.value.hint
    assert not (tmp_path / "nowhere").exists()


def test_git_is_asked_as_often_for_many_files_as_for_one(
    orchestrion: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchestrion.add("One", command="echo 1 > one")
    orchestrion.add("Two", command="for n in $(seq 300); do echo $n > f$n; done")
    orchestrion.work(slots=1, drain=True)
    asked: list[str] = []
    run = Git.run
    monkeypatch.setattr(Git, "run", lambda self, *words, **given: asked.append(words[0]) or run(self, *words, **given))
    counts = []
    for task, files in (("T1", 1), ("T2", 300)):
        asked.clear()
        found = orchestrion.recover(task)
        assert (found["files_total"], found["verification"]) == (files, "verified")
        counts.append(len(asked))
    assert 0 < counts[1] <= counts[0] + 1
