"""Bad input, on every command: a clear error with a stable code, nothing half-written, no stack trace."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from place import Place

pytestmark = pytest.mark.long

#: Values that are not ids, names, numbers, times or paths of anything.
HOSTILE = (
    "", " ", "T0", "T99", "R1x", "T1;ls", "../../etc/passwd", "%2e%2e%2f", "/etc/passwd", "a\0b", "\udcff", "x" * 5000,
    "\x1b[31m", "-1", "nan", "inf", "1e400", "9" * 30, "T" + "9" * 18, "T" + "9" * 30, "\u202e", "²", "T²", "٣",
)  # fmt: skip

#: One call for each thing that can be said; @ is where the bad value goes.
CALLS = (
    "show @", "why @", "claim @", "claim --role @", "claim --lease @", "claim --tag @", "heartbeat @", "release @",
    "done @ --summary x", "done R1 --summary @", "done R1 --summary x --next @", "done R1 --summary x --file @",
    "done R1 --summary x --detail @", "fail @ --error x", "fail R1 --error x --code @", "retry @",
    "reopen @ --reason x", "cancel @", "cancel T1 --dependents @", "approve @", "reject @ --reason x", "archive @",
    "delete @", "move @ --parent T1", "move T1 --parent @", "dep add @ T1", "dep add T1 @",
    "dep add T1 T2 --kind @", "dep rm T1 @", "dep waive T1 @ --reason x", "gate add @ --approval",
    "gate add T1 --until @", "gate open @", "update @ --priority 3", "update T1 --title @", "update T1 --due @",
    "add @", "add x --parent @", "add x --after @", "add x --role @", "add x --priority @", "add x --complexity @",
    "add x --due @", "add x --effort @", "add x --timeout @", "add x --max-retries @", "add x --needs @",
    "add x --plan @", "add x --tag @", "add x --key @", "add x --merge @", "apply @", "list --state @",
    "list --parent @", "list --limit @", "list --cursor @", "list --search @", "ready --limit @", "runs --state @",
    "runs --task @", "runs --cursor @", "log @", "diff @", "kill @", "slots @", "slots global=@", "slots @=1",
    "land @", "artifact @", "artifact A1 --offset @", "graph @", "graph --format @", "events --since @",
    "events --task @", "events --run @", "cleanup --max-age @", "work --drain --slots @", "init @/nowhere",
    "completion @", "-C @/nowhere list", "--db mysql://@ list",
)  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_bad_value_is_refused_in_words(call: str, project: Place) -> None:
    project("add", "one", "--run", "true")
    for value in HOSTILE:
        arguments = [word.replace("@", value) for word in call.split()]
        answer = project(*arguments, "--json", code=None, stdin=b"")
        assert answer.code in (0, 2, 3, 4, 5, 6), (arguments, answer)
        if answer.code:
            assert answer.out == "", arguments
            assert answer.error["code"] != "unexpected"
            assert answer.error["message"]
            assert len(answer.error["message"]) < 2_010, arguments
        assert "Traceback" not in answer.err
    with sqlite3.connect(project.root / ".git" / "orchestrion" / "orchestrion.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.mark.parametrize("title", ["", "   ", "x" * 256, "two\nlines", "a\tb", "\x1b[31mred", "nul\0", "\udcff"])
def test_titles_that_no_task_may_have(title: str, project: Place) -> None:
    error = project("add", title, "--json", code=6).error
    assert error["code"] in ("invalid_title", "invalid_text")
    assert project.json("list")["total"] == 0


def test_bytes_that_are_no_text(project: Place) -> None:
    answer = project.process("add", b"\xff\xfe", "--json")
    assert (answer.code, answer.error["code"]) == (6, "invalid_text")
    answer = project.process("list", "--search", b"\xff", "--json")
    assert (answer.code, answer.error["code"]) == (6, "invalid_text")
    # A path may have any bytes; it only has to exist.
    (project.root / os.fsdecode(b"plan\xff.yaml")).write_text("plan: x\ntasks: [{title: a, run: 'true'}]\n")
    assert project.process("apply", b"plan\xff.yaml", "--json").json["created"] == 1


def test_files_outside_the_project_are_not_reported(project: Place) -> None:
    project("add", "x")
    project("claim")
    (project.root / "link").symlink_to("/etc")
    for path in ("/etc/passwd", "../../x", "link/passwd", "a/../../b"):
        error = project("done", "R1", "--summary", "s", "--file", path, "--json", code=6).error
        assert error["code"] == "outside_project"
    assert project.json("show", "T1")["state"] == "in_progress"


def test_a_folder_that_is_no_project(bare: Place) -> None:
    error = bare("add", "x", "--json", code=4).error
    assert error["code"] == "no_project"
    assert "orchestrion init" in error["hint"]
    assert bare("-C", "nowhere", "list", "--json", code=4).error["code"] == "no_such_folder"
    (bare.root / "file").write_text("")
    assert bare("-C", "file", "list", "--json", code=6).error["code"] == "not_a_folder"
    (bare.root / "loop").symlink_to("loop")
    assert bare("-C", "loop", "list", "--json", code=6).error["code"] == "invalid_path"
    assert list(bare.root.glob(".orch*")) == []


def test_a_corrupt_database(project: Place, tmp_path: Path) -> None:
    project("add", "x")
    file = project.root / ".git" / "orchestrion" / "orchestrion.db"
    for wal in file.parent.glob("orchestrion.db-*"):
        wal.unlink()
    file.write_bytes(b"this is no database at all, and it is long enough to look at" * 100)
    for command in (["list"], ["add", "y"], ["work", "--drain"], ["status"]):
        error = project(*command, "--json", code=7).error
        assert error["code"] == "store_corrupt"
        assert error["hint"]
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as database:
        database.execute("create table t (x)")
    database.close()
    assert project("list", "--db", str(foreign), "--json", code=7).error["code"] == "store_foreign"
    assert project("list", "--db", str(tmp_path), "--json", code=None).code in (6, 7)


def test_a_store_of_a_newer_program(project: Place) -> None:
    with sqlite3.connect(project.root / ".git" / "orchestrion" / "orchestrion.db") as database:
        database.execute(
            "insert into migrations (version, name, serves_from, applied_at) values (999, 'later', 999, 0)"
        )
    database.close()
    assert project("list", "--json", code=7).error["code"] == "store_too_new"


def test_a_store_that_may_not_be_written(project: Place) -> None:
    project("add", "x")
    store = project.root / ".git" / "orchestrion"
    (store / "orchestrion.db").chmod(0o444)
    store.chmod(0o555)
    project.root.chmod(0o555)
    try:
        for command in (["add", "y"], ["claim"], ["pause"]):
            answer = project.process(*command, "--json", preexec_fn=obey_permissions)
            assert answer.code == 7, answer
            assert answer.error["code"] in ("store_read_only", "store_unreachable", "permission")
        project.root.chmod(0o755)
        (project.root / ".orchestrion").rename(project.root.parent / "away")
        project.root.chmod(0o555)
        answer = project.process("init", "--json", preexec_fn=obey_permissions)
        assert (answer.code, answer.error["code"]) == (7, "permission")
    finally:
        store.chmod(0o755)
        project.root.chmod(0o755)
    assert project.json("list")["total"] == 1


def obey_permissions() -> None:
    """Root may do everything; in a container tests run as root. This takes that away (Linux only)."""
    if os.geteuid() == 0:
        drop, dac_override = 24, 1
        ctypes.CDLL(None).prctl(drop, dac_override, 0, 0, 0)


def test_a_missing_git(project: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project("add", "make b", "--run", "echo b > b.txt")
    project("work", "--drain", "--json")
    monkeypatch.setenv("PATH", str(tmp_path))
    # What needs no git works without.
    assert project.json("list")["total"] == 1
    for command in (["land"], ["diff", "R1"]):
        error = project(*command, "--json", code=7).error
        assert "git" in error["message"]
        assert error["hint"]


def test_a_project_without_git(bare: Place) -> None:
    bare("init")
    bare("add", "x", "--run", "true")
    assert bare.json("work", "--drain")["completed"] == 1
    assert bare("land", "--json", code=5).error["code"] == "no_git"
    assert bare("diff", "R1", "--json", code=4).error["code"] == "no_commits"


def test_a_locked_database_is_said(project: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrion.store import sqlite

    monkeypatch.setattr(sqlite, "PATIENCE_S", 0.05)
    holder = sqlite3.connect(project.root / ".git" / "orchestrion" / "orchestrion.db", isolation_level=None)
    holder.execute("begin immediate")
    try:
        assert project("add", "x", "--json", code=7).error["code"] == "store_locked"
        assert project.json("list")["total"] == 0
    finally:
        holder.close()


READS = (
    *("list", "show T1", "show R1", "status", "log R1", "why T2", "graph", "events", "runs", "ready", "diff R1"),
    *("prime", "stats", "doctor", "config show", "init"),
)
CHANGES = ("add x", "claim", "pause", "cancel T2", "update T2 --title x", "work --drain")


def test_a_project_on_a_read_only_file_system_is_read(project: Place, tmp_path: Path) -> None:
    project("add", "one", "--run", "echo a > b.txt")
    project("work", "--drain", "--json")
    project("add", "two", "--run", "true")
    place = tmp_path / "mounted"
    place.mkdir()
    mounted = subprocess.run(["mount", "--bind", project.root, place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        there = Place(place, project.environ)
        for command in READS:
            answer = there.process(*command.split())
            assert answer.code == (7 if command == "doctor" else 0), (command, answer)
        assert [task["title"] for task in there.process("list", "--json").json["tasks"]] == ["one", "two"]
        assert "may only be read here" in there.process("doctor").out
        assert "may only be read here" in there.process("health").out
        for command in CHANGES:
            answer = there.process(*command.split(), "--json")
            assert (answer.code, answer.error["code"]) == (7, "store_read_only"), (command, answer)
            assert "give write permission" in answer.error["hint"]
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_file_that_vanished_is_not_made_anew_beside_its_log(project: Place) -> None:
    project("add", "kept")
    file = project.root / ".git" / "orchestrion" / "orchestrion.db"
    reader = sqlite3.connect(file)
    reader.execute("select * from tasks").fetchall()
    try:
        file.rename(file.with_name("away.db"))
        assert project("add", "lost", "--json", code=7).error["code"] == "store_missing"
        assert not file.exists()
        assert project("list", "--json", code=None).error["code"] in ("store_missing", "no_store")
    finally:
        file.with_name("away.db").rename(file)
        reader.close()
    assert project.json("list")["total"] == 1


@pytest.mark.parametrize("command", [("apply", "-"), ("decide", "x", "--decision", "-"), ("handoff", "--text", "-")])
def test_a_standard_input_that_is_closed_or_empty_gives_nothing(project: Place, command: tuple[str, ...]) -> None:
    assert project(*command, "--json", code=6).error["code"] == "nothing_given"
    closed = project.process(*command, preexec_fn=lambda: os.close(0))
    assert (closed.code, closed.err.splitlines()[0]) == (6, "error: nothing was given on standard input")
