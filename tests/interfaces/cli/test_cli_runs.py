"""Commands about runs and plans and the project: what they print for people and for programs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from place import Place

#: What CONTRACT promises of a run in JSON.
RUN_KEYS = {
    *("id", "task", "attempt", "agent", "state", "phase", "code", "reason", "host", "pid", "workspace", "branch"),
    *(
        "base_commit",
        "head_commit",
        "session_id",
        "queued_at",
        "started_at",
        "ended_at",
        "duration_s",
        "turns",
        "tokens",
    ),
    *("cost_usd", "files_changed", "lines_added", "lines_removed", "exit_code"),
}
PLAN = """\
plan: tools
tasks:
  - {key: a, title: First, run: "true"}
  - {key: b, title: Second, after: [a]}
"""


# -- claims -----------------------------------------------------------------------------------


def test_claim_heartbeat_done(project: Place) -> None:
    project("add", "first")
    project("add", "second", "--after", "T1")
    claimed = project.json("claim", "--lease", "60")
    assert set(claimed) == {"run", "lease_until", "task", "brief", "again"}
    assert (claimed["run"], claimed["task"]["id"], claimed["task"]["state"]) == ("R1", "T1", "in_progress")
    assert set(project.json("heartbeat", "R1")) >= RUN_KEYS
    assert project("heartbeat", "R1").out.startswith("R1 holds T1 until ")
    (project.root / "made.txt").write_text("x")
    outcome = project.json("done", "R1", "--summary", "made it", "--file", "made.txt", "--next", "continue")
    assert set(outcome) >= {"task", "run", "unblocked", "unblocked_total"}
    assert (outcome["unblocked"], outcome["next"]["id"]) == (["T2"], "T2")
    stale = project("done", "R1", "--summary", "twice", "--json", code=5).error
    assert stale["code"] == "stale_run"


def test_claim_prints_the_brief(project: Place) -> None:
    project("add", "do \u202e it")
    text = project("claim").out
    assert text.startswith("R1 holds T1 until ")
    assert "orchestrion done" in text
    assert "\u202e" not in text


def test_nothing_to_claim(project: Place) -> None:
    assert project("claim", "--json", code=3).error["code"] == "nothing_ready"
    project("add", "x")
    project("add", "y", "--after", "T1")
    project("claim", "T2", code=3)
    project("claim", "T1")
    assert project("claim", "T1", "--json", code=5).error["code"] == "already_taken"
    project("claim", "T9", code=4)


def test_the_run_comes_from_the_environment(project: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (
        ["heartbeat"],
        ["release"],
        ["done", "--summary", "s"],
        ["fail", "--error", "e"],
        ["log"],
        ["diff"],
    ):
        answer = project(*command, "--json", code=2)
        assert "ORCHESTRION_RUN" in answer.error["message"]
    project("add", "x")
    project("claim")
    for foreign in ("00000000-0000-0000-0000-000000000000/R1", "R1", "x"):
        monkeypatch.setenv("ORCHESTRION_RUN", foreign)
        assert project("release", "--json", code=6).error["code"] == "foreign_run"
    uuid = _uuid(project)
    monkeypatch.setenv("ORCHESTRION_RUN", f"{uuid}/R1")
    assert project.json("heartbeat")["id"] == "R1"
    # A run that is named goes before the environment's.
    assert project("log", "R7", "--json", code=4).error["code"] == "no_run"
    assert project("release").out == "R1 gave T1 back\n"


def _uuid(project: Place) -> str:
    from orchestrion import Orchestrator

    with Orchestrator.open(project.root) as orchestrion:
        return orchestrion.store.uuid


def test_detail_comes_from_a_file_or_a_pipe(project: Place) -> None:
    project("add", "x")
    project("claim")
    long = "line\n" * 10_000
    project("done", "R1", "--summary", "s", "--detail", "-", stdin=long.encode())
    artifact = project.json("show", "T1")["artifacts"][0]["id"]
    assert project("artifact", artifact).out == long
    page = project.json("artifact", artifact, "--offset", "16000")
    assert (page["offset"], page["total_chars"], page["next_offset"]) == (16_000, 50_000, 32_000)
    assert artifact in project("show", artifact).out
    project("add", "y")
    project("claim", "T2")
    assert project("done", "R2", "--summary", "s", "--detail", "nope.md", "--json", code=4).error["code"] == "no_file"
    (project.root / "latin.txt").write_bytes(b"\xff")
    assert project("done", "R2", "--summary", "s", "--detail", "latin.txt", code=6)
    assert project("done", "R2", "--summary", "s", "--detail", ".", code=6)
    assert project.json("show", "T2")["state"] == "in_progress"


def test_a_question_blocks_and_failures_follow_the_taxonomy(project: Place) -> None:
    project("add", "x", "--retry-delay", "3600")
    project("claim")
    assert project.json("done", "R1", "--summary", "which?", "--next", "blocked")["task"]["state"] == "blocked"
    project("gate", "open", "T1", "--answer", "that one")
    project("claim")
    outcome = project.json("fail", "R2", "--error", "busy", "--code", "client_tempfail")
    assert outcome["task"]["state"] == "retrying"
    assert outcome["retry_at"] is not None
    project("retry", "T1")
    project("claim")
    assert "client_failed" in project("fail", "R3", "--error", "x", "--code", "oops", "--json", code=6).error["message"]
    text = project("fail", "R3", "--error", "gone").out
    assert text == "R3 ended; T1 is failed: x\n  `orchestrion retry T1` tries it again\n"


# -- watching and steering --------------------------------------------------------------------


def test_runs_are_listed(project: Place) -> None:
    assert project("runs").out == "no run matches; `orchestrion work` starts some\n"
    for number in range(3):
        project("add", f"t{number}")
        project("claim")
    page = project.json("runs", "--limit", "2")
    assert [run["id"] for run in page["runs"]] == ["R3", "R2"]
    assert (page["total"], page["next_cursor"]) == (3, "R2")
    assert set(page["runs"][0]) >= RUN_KEYS
    assert "go on with --cursor R2" in project("runs", "--limit", "2").out
    assert project.json("runs", "--task", "T1")["total"] == 1
    assert project.json("runs", "--state", "running,lost")["total"] == 3
    assert "timed_out" in project("runs", "--state", "nope", "--json", code=6).error["hint"]
    assert project("log", "R1").err == "R1 has written nothing\n"
    assert project("diff", "R1", "--json", code=4).error["code"] == "no_commits"
    said = project("kill", "R1").out.splitlines()
    assert said[0] == "R1 is killed; `orchestrion retry T1` goes on"
    assert said[1].endswith(" held it")
    assert project.json("kill", "R2", "--reason", "why not")["reason"] == "why not"
    project("kill", "R1", code=5)


def test_pause_and_slots(project: Place) -> None:
    assert project.json("pause") == {"paused": True}
    assert "paused since" in project("status").out
    assert project.json("resume") == {"paused": False}
    assert project("slots").out.startswith("no limits are set")
    project("slots", "global=8", "agent:claude=2")
    assert {s["name"]: s["capacity"] for s in project.json("slots")["slots"]} == {"global": 8, "agent:claude": 2}
    assert project("slots").out == "agent:claude  0 used  2 free  of 2\nglobal        0 used  8 free  of 8\n"
    for change in ("global", "global=x", "global=-1", "nope=1", "agent:=1", "global=9999999"):
        assert project("slots", change, "--json", code=6).error["code"] == "invalid_slot"


def test_work_log_diff_land(project: Place) -> None:
    project("add", "make b", "--run", "echo hello; printf '\\033[2J\\n'; echo b > b.txt", "--check", "test -f b.txt")
    answer = project("work", "--drain")
    assert answer.out.splitlines()[0] == "T1 in_progress R1"
    assert answer.out.splitlines()[1].startswith("T1 completed R1 ")
    assert "1 completed; 1 run in" in answer.out
    text = project("log", "R1").out
    assert "hello\n" in text
    assert "\\x1b[2J" in text
    lines = [json.loads(line) for line in project("log", "R1", "--json", "--follow").out.splitlines()]
    assert {"at", "stream", "text"} == set(lines[0])
    diff = project("diff", "R1").out
    assert diff.startswith("diff --git a/b.txt b/b.txt")
    (project.root / "check.patch").write_text(diff)
    project.git("apply", "--check", "check.patch")
    (project.root / "check.patch").unlink()
    assert project.json("diff", "r1")["diff"] == diff.rstrip("\n")
    assert "test -f b.txt" in project("show", "R1").out
    assert project.json("show", "R1")["checks"][0]["exit_code"] == 0
    assert project("land").out.startswith("default is on your branch\n")
    assert (project.root / "b.txt").read_text() == "b\n"
    assert project("land", "nope", "--json", code=4).error["code"] == "no_plan"


def test_a_diff_can_be_applied_whatever_the_user_set_for_reading(project: Place) -> None:
    for key, value in {"diff.t.textconv": "tr a b", "diff.context": "0", "diff.noprefix": "true"}.items():
        project.git("config", key, value)
    (project.root / ".git" / "info" / "attributes").write_text("*.txt diff=t\n")
    project("add", "changes", "--run", "echo more >> a.txt; head -c 500 /dev/zero > zero.bin")
    project("work", "--drain")
    (project.root / "check.patch").write_text(project("diff", "R1").out)
    project.git("apply", "check.patch")
    assert (project.root / "zero.bin").read_bytes() == bytes(500)
    assert (project.root / "a.txt").read_text().endswith("more\n")


def test_land_refuses_uncommitted_work(project: Place) -> None:
    project("add", "make b", "--run", "echo b > b.txt")
    project("work", "--drain", "--json")
    (project.root / "a.txt").write_text("mine\n")
    assert project("land", "--json", code=5).error["code"] == "dirty_tree"
    assert (project.root / "a.txt").read_text() == "mine\n"


# -- plans ------------------------------------------------------------------------------------


def test_apply(project: Place) -> None:
    (project.root / "plan.yaml").write_text(PLAN)
    answer = project.json("apply", "plan.yaml", "--dry-run")
    assert (answer["created"], project.json("list")["total"]) == (2, 0)
    assert "nothing was done" in project("apply", "plan.yaml", "--dry-run").out
    answer = project.json("apply", "plan.yaml")
    assert set(answer) >= {"plan", "tasks", "created", "updated", "unchanged", "missing"}
    assert answer["tasks"] == {"a": "T1", "b": "T2"}
    text = project("apply", "-", stdin=PLAN.replace("Second", "Other").encode()).out
    assert text == "tools: 0 created, 1 updated, 1 unchanged\n  T1  a\n  T2  b\n"
    text = project("apply", "-", stdin=b"plan: tools\ntasks: [{key: a, title: First, run: 'true'}]").out
    assert "left alone, not in the file any more: b" in text


def test_a_broken_plan_is_refused_with_its_place(project: Place) -> None:
    error = project("apply", "-", "--json", stdin=b"plan: x\ntasks: [}\n", code=6).error
    assert (error["details"]["line"], error["details"]["column"]) == (2, 9)
    for text in (b"", b"\xff\xfe", b"plan: x\ntasks: [{title: a, after: [zz]}]", b"\0", b"{", b"- a\n- b"):
        assert project("apply", "-", "--json", stdin=text, code=None).code in (4, 6), text
    assert project("apply", "gone.yaml", "--json", code=4).error["code"] == "no_file"
    assert project("apply", ".", "--json", code=6).error["code"] == "not_a_file"
    assert project.json("list")["total"] == 0


def test_graph(project: Place) -> None:
    assert project("graph").out == "no tasks; `orchestrion add` creates one\n"
    (project.root / "plan.yaml").write_text(PLAN)
    project("apply", "plan.yaml")
    text = project("graph", "tools").out
    assert "◎ T1 First\n○ T2 Second  (waits for T1)\n" in text
    assert "critical path  T1 → T2" in text
    assert project("graph", "--format", "mermaid").out.startswith("flowchart LR\n")
    assert project("graph", "--format", "dot").out.startswith("digraph")
    assert project.json("graph") == json.loads(project("graph", "--format", "json").out)
    assert project.json("graph")["critical_path"] == ["T1", "T2"]
    assert "mermaid" in project("graph", "--format", "svg", "--json", code=6).error["hint"]
    project("graph", "nope", code=4)


def test_status(project: Place) -> None:
    project("add", "x")
    project("add", "y", "--after", "T1")
    project("claim")
    text = project("status").out
    assert "2 tasks: 1 in progress · 1 pending" in text
    assert "R1  T1  held" in text
    found = project.json("status")
    assert found["tasks"] == {"in_progress": 1, "pending": 1}
    project("fail", "R1", "--error", "no")
    assert "`orchestrion retry T1`" in project("status").out


# -- project ----------------------------------------------------------------------------------


def test_init(bare: Place) -> None:
    assert bare("list", "--json", code=4).error["code"] == "no_project"
    made = bare.json("init")
    assert set(made) >= {"project", "db", "agents"}
    assert made["project"] == str(bare.root)
    assert bare("init").out.splitlines()[0] == f"{bare.root} is a project already; nothing was changed"
    assert bare("add", "works").out == "T1 is ready: works\n"
    assert bare("init", "nowhere", "--json", code=4).error["code"] == "no_such_folder"
    (bare.root / "file").write_text("")
    assert bare("init", "file", "--json", code=6).error["code"] == "not_a_folder"
    (bare.root / "below").mkdir()
    assert bare.json("init", "below")["project"] == str(bare.root / "below")


def test_init_says_that_a_project_is_called_otherwise_now(bare: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bare("init")
    monkeypatch.setenv("ORCHESTRION_PROJECT_NAME", "shop")
    assert bare("init").out.splitlines()[0] == f"{bare.root} is called shop now, and no longer bare"
    assert bare("init").out.splitlines()[0] == f"{bare.root} is a project already; nothing was changed"


def test_init_of_a_folder_that_a_colleague_made_a_project(bare: Place) -> None:
    (bare.root / ".orchestrion").mkdir()
    (bare.root / ".orchestrion" / "config.yaml").write_text("work:\n  slots: 2\n")
    assert bare("init").out.splitlines()[0] == f"{bare.root} is a project now"
    assert (bare.root / ".orchestrion" / "config.yaml").read_text() == "work:\n  slots: 2\n"


def test_init_takes_a_project_of_before_git_along(bare: Place) -> None:
    bare("init")
    bare("add", "works", "--run", "echo done >made.txt")
    bare("work", "--drain")
    error = bare("land", "--json", code=5).error
    assert (error["code"], "`orchestrion init`" in error["hint"]) == ("no_git", True)
    old, new = bare.root / ".orchestrion", bare.root / ".git" / "orchestrion"
    identity = (old / "id").read_text().split()[0]
    bare.git("init", "-q")
    for command in (["list"], ["add", "lost"], ["status"], ["work", "--drain"]):
        error = bare(*command, "--json", code=5).error
        assert (error["code"], str(old / "orchestrion.db") in error["message"]) == ("begun_outside_git", True)
    assert not new.exists()
    said = bare("init").out
    assert said.startswith(f"{bare.root} is in git now; its store was moved:\n  {old / 'orchestrion.db'} -> {new}")
    assert (new / "id").read_text().split()[0] == identity
    assert {file.name for file in old.iterdir()} == {"config.yaml"}
    assert "is a project already; nothing was changed" in bare("init").out
    assert bare.json("show", "T1")["state"] == "completed"
    assert bare("log", "R1").code == 0
    assert bare("add", "more").out == "T2 is ready: more\n"


def test_init_moves_no_store_while_a_worker_s_run_is_active_and_takes_along_what_a_client_holds(bare: Place) -> None:
    bare("init")
    bare("add", "works")
    bare("claim", "T1")
    bare.git("init", "-q")
    file = bare.root / ".orchestrion" / "orchestrion.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("update runs set supervised = 1")
    error = bare("init", "--json", code=5).error
    assert (error["code"], error["details"]["runs"]) == ("runs_active", ["R1"])
    assert file.exists()
    assert not (bare.root / ".git" / "orchestrion").exists()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("update runs set supervised = 0")
    bare("init")
    assert "T1" in bare("release", "R1").out


def test_reading_makes_no_store(tmp_path: Path, bare: Place) -> None:
    bare.git("init", "-q")
    for command in (["list"], ["ready"], ["status"], ["runs"], ["migrate"]):
        error = bare(*command, "--json", code=4).error
        assert error["code"] == "no_store"
        assert "orchestrion init" in error["hint"]
    assert not (bare.root / ".git" / "orchestrion").exists()
    assert bare("list", "--db", str(tmp_path / "x.db"), code=4)
    assert not (tmp_path / "x.db").exists()
    assert bare("add", "one").out == "T1 is ready: one\n"


def test_events(project: Place) -> None:
    assert project("events").out == "no events\n"
    project("add", "x")
    project("claim")
    project("done", "R1", "--summary", "s")
    events = [json.loads(line) for line in project("events", "--json").out.splitlines()]
    assert [event["kind"] for event in events][-1] == "task.completed"
    since = str(events[-2]["id"])
    assert [json.loads(line)["id"] for line in project("events", "--since", since, "--json").out.splitlines()] == [
        events[-1]["id"]
    ]
    assert len(project("events", "--limit", "2").out.splitlines()) == 2
    assert project("events", "--task", "T9").out == "no events\n"
    project("events", "--since", "-1", code=6)
    project("events", "--since", str(2**70), code=6)


def test_roles_and_config(project: Place) -> None:
    (project.root / ".orchestrion" / "roles").mkdir()
    (project.root / ".orchestrion" / "roles" / "poet.yaml").write_text(
        "role_definition: You rhyme.\nexpertise: [rhymes]\n"
    )
    roles = {role["name"] for role in project.json("roles")["roles"]}
    assert roles >= {"architect", "implementer", "tester", "poet"}
    assert "rhymes" in project("roles").out
    (project.root / ".orchestrion" / "config.yaml").write_text("work: {slots: 7}\n")
    rows = {row["name"]: row for row in project.json("config", "show")["settings"]}
    assert (rows["work.slots"]["value"], rows["work.slots"]["origin"]) == (7, "project (.orchestrion/config.yaml:1)")
    assert "7 runs" in project("config", "show").out
    assert (rows["db"]["value"], Path(rows["db"]["instead"]).name) == (None, "orchestrion.db")
    assert f"none ({rows['db']['instead']})" in project("config", "show").out
    assert {row["instead"] for row in project.json("config", "show", "--db", "x.db")["settings"]} == {""}
    (project.root / ".orchestrion" / "config.yaml").write_text("work: {slots: many}\n")
    error = project("config", "show", "--json", code=6).error
    assert error["details"]["line"] == 1
    assert project("list", "--json", code=6).error["code"] == "invalid_config"


def test_cleanup_and_migrate(project: Place) -> None:
    project("add", "x")
    project("claim", "--lease", "1")
    assert project.json("cleanup", "--max-age", "0") == {"freed": 1, "righted": 0, "mended": [], "notes": []}
    assert project("cleanup").out == "nothing was stale\n"
    for age in ("-1", "nan", "inf"):
        project("cleanup", "--max-age", age, code=6)
    found = project.json("migrate")
    assert found["schema"] >= 1
    assert project("migrate").out.startswith(f"schema {found['schema']} (")


def test_the_database_of_the_environment(project: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORCHESTRION_DB", str(tmp_path / "other.db"))
    project("add", "there")
    monkeypatch.delenv("ORCHESTRION_DB")
    assert project.json("list")["total"] == 0
    assert (tmp_path / "other.db").exists()
    # A path is taken from where the call is made, by the worker's supervisors too.
    project("--db", "own.db", "add", "there", "--run", "true")
    assert project.json("--db", "own.db", "work", "--drain")["completed"] == 1
    assert (project.root / "own.db").exists()


def test_a_limit_is_taken_away_and_said_to_come_back_if_the_settings_name_it(project: Place) -> None:
    project("add", "first", "--agent", "claude")
    project("slots", "global=8", "agent:claude=2", "host:elsewhere=1")
    config = project.root / ".orchestrion" / "config.yaml"
    config.write_text("slots: {global: 3, host: 4}\n")
    assert project("slots", "agent:claude=none").out.startswith("global ")
    taken = project.json("slots", "global=none", "host:elsewhere=none")
    assert taken["slots"] == []
    assert ["global=3" in taken["notes"][0], "host:elsewhere=4" in taken["notes"][1]] == [True, True]
    assert project("slots", "global=none", "--json", code=4).error["code"] == "no_slot"
    assert project.json("health")["status"] == "healthy"
    project("work", "--drain", code=None)
    assert {one["name"]: one["capacity"] for one in project.json("slots")["slots"]}["global"] == 3


# -- names of agents --------------------------------------------------------------------------


def test_an_agent_is_called_as_a_task_could_call_it(project: Place) -> None:
    project("add", "first")
    for command in (["claim"], ["claim", "T1"], ["resume"], ["work", "--drain"]):
        refused = project(*command, "--agent", "evil\x1b]0;pwn\a\nY", "--json", code=None)
        assert refused.error["code"] in ("invalid_agent", "no_agent"), command
    assert project.json("runs")["runs"] == []


def test_a_name_that_stands_in_an_old_store_moves_no_cursor(project: Place) -> None:
    project("add", "first", "--agent", "command")
    project("claim", "T1")
    with closing(sqlite3.connect(project.root / ".git" / "orchestrion" / "orchestrion.db")) as database, database:
        database.execute("update runs set agent = ?", ("evil\x1b]0;pwn\a\nY",))
    for command in (["runs"], ["status"], ["show", "R1"], ["show", "T1"]):
        shown = project(*command).out
        assert "evil\\x1b]0;pwn\\x07 Y" in shown, command
