"""The commands health and maintain, as people and scripts call them."""

from __future__ import annotations

from pathlib import Path

from place import Place


def test_health_tells_of_every_part_and_ends_well(project: Place) -> None:
    told = project("health").out
    assert told.startswith("healthy, ready\n")
    for part in ("store", "disk", "git", "workers", "supervisors", "queue", "breakers", "runs", "maintenance"):
        assert f"\n{part}" in told
    found = project.json("health")
    assert found["components"]["store"]["write_ms"] > 0
    assert project("health", "--ready").code == 0


def test_health_ends_with_7_when_something_is_unhealthy(project: Place) -> None:
    project("pause")
    assert project("health", code=0).out.startswith("degraded, ready")
    project("health", "--strict", code=7)
    (project.root / ".git" / "HEAD").write_text("nonsense")
    found = project("-C", str(project.root), "health", "--json", code=7).json
    assert (found["healthy"], found["ready"]) == (False, True)
    project("-C", str(project.root), "health", "--ready", code=0)


def test_a_corrupt_store_is_an_answer_and_no_crash(project: Place) -> None:
    file = Path(project.json("init")["db"])
    data = bytearray(file.read_bytes())
    data[100:3000] = b"\xff" * 2900
    file.write_bytes(data)
    told = project("health", code=7)
    assert told.out.startswith("unhealthy, not ready\n")
    assert f"copy `{file}`" in told.out
    assert "in its place" not in told.out
    assert project("health", "--ready", "--json", code=7).json["not_ready"]


def test_health_outside_of_a_project_is_not_found(bare: Place) -> None:
    assert "error" in bare("health", code=4).err


def test_waiting_tasks_and_advice_stand_below(project: Place) -> None:
    project("add", "Look at it")
    run = project.json("claim")["run"]
    project("done", run, "--summary", "Which one?", "--next", "blocked")
    project("pause")
    told = project("health").out
    assert "Waiting (1)" in told
    assert "T1  blocked" in told
    assert "`orchestrion resume`" in told


def test_maintain_looks_by_default_and_says_what_it_found(project: Place) -> None:
    project("add", "a task")
    told = project("maintain").out
    assert told.startswith("M1 scan_cleanup, full_project, basic\n")
    assert "stale" in told
    assert "Done\n  nothing" in told


def test_a_history_of_one_action_says_whose_it_is(project: Place) -> None:
    assert project("maintain", "--history").out == "nothing was maintained yet\n"
    project("maintain", "scan")
    assert project("maintain", "validate", "--history").out == "validate_structure was not done yet\n"


def test_every_action_has_a_short_name(project: Place) -> None:
    project("add", "a task")
    for word, action in (
        ("scan", "scan_cleanup"), ("validate", "validate_structure"), ("document", "update_documentation"),
        ("handover", "prepare_handover"), ("retention", "retention"), ("scan_cleanup", "scan_cleanup"),
    ):  # fmt: skip
        assert project.json("maintain", word)["action"] == action
    assert (project.root / ".orchestrion" / "docs" / "STATUS.md").exists()
    history = project.json("maintain", "--history")["maintenance"]
    assert [one["id"] for one in history] == ["M6", "M5", "M4", "M3", "M2", "M1"]
    assert [one["action"] for one in project.json("maintain", "scan", "--history")["maintenance"]] == 2 * [
        "scan_cleanup"
    ]
    assert "M6" in project("maintain", "--history").out


def test_a_task_or_a_session_says_which_scope_is_meant(project: Place) -> None:
    project("add", "a task")
    assert project.json("maintain", "handover", "--task", "T1", "--text", "go on")["scope"] == "specific_subtask"
    session = project.json("sessions", "--start", "mine")["id"]
    assert project.json("maintain", "--session", session)["scope"] == "current_session"
    assert project.json("handoff", "--last")["text"].startswith("go on")


def test_what_cannot_be_meant_is_refused(project: Place) -> None:
    assert "retention" in project("maintain", "tidy", code=6).err
    assert "comprehensive" in project("maintain", "--level", "full_cleanup", code=6).err
    assert "full_project" in project("maintain", "--scope", "all", code=6).err
    assert "T12" in project("maintain", "--scope", "specific_subtask", code=6).err
    project("maintain", "--task", "T99", code=4)
    project("maintain", "--history", "--dry-run", code=2)


def test_a_damaged_structure_ends_with_7(project: Place) -> None:
    import sqlite3

    project("add", "a task")
    with sqlite3.connect(project.json("init")["db"]) as connection:
        connection.execute("update tasks set unmet = 1")
    connection.close()
    told = project("maintain", "validate", code=7).out
    assert "T1" in told
    assert project("maintain", "validate", "--json", code=7).json["found"]["valid"] is False
