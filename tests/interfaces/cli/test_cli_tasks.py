"""Commands about tasks: what they print for people and for programs."""

from __future__ import annotations

from pathlib import Path

from place import Place

#: What CONTRACT promises of a task in JSON.
TASK_KEYS = {
    *("id", "key", "title", "description", "state", "plan", "type", "role", "agent", "complexity", "effort_min"),
    *("priority", "parent", "after", "tags", "checks", "context", "metadata", "result", "error", "attempts"),
    *("max_retries", "retry_at", "progress", "summary", "reason", "created_at", "updated_at", "started_at", "due_at"),
    *("completed_at", "archived_at"),
}


def test_add_takes_everything_a_task_has(project: Place) -> None:
    project("add", "parent")
    project("add", "first")
    task = project.json(
        *(
            "add",
            "Write slugify()",
            "--description",
            "two\nlines",
            "--parent",
            "T1",
            "--after",
            "T2",
            "--role",
            "coder",
        ),
        *("--agent", "command", "--run", "make", "--check", "true", "--check", "make test", "--priority", "7"),
        *("--type", "code", "--complexity", "simple", "--effort", "12.5", "--due", "2027-01-02T03:04:05Z"),
        *("--max-retries", "1", "--timeout", "60", "--needs", "gpu", "--plan", "tools", "--tag", "a,b", "--tag", "c"),
        *("--key", "slug", "--setup", "make deps", "--merge", "none", "--retry-delay", "2"),
    )
    assert set(task) >= TASK_KEYS
    wanted = {
        "id": "T3", "title": "Write slugify()", "description": "two\nlines", "parent": "T1", "after": ["T2"],
        "role": "implementer", "agent": "command", "run_command": "make", "checks": ["true", "make test"],
        "priority": 7, "type": "code", "complexity": "simple", "effort_min": 12.5, "due_at": "2027-01-02T03:04:05.000Z",
        "max_retries": 1, "needs": ["gpu"], "plan": "tools", "tags": ["a", "b", "c"], "key": "slug", "state": "pending",
    }  # fmt: skip
    assert {name: task[name] for name in wanted} == wanted


def test_every_kind_of_wait(project: Place) -> None:
    for title in "abcd":
        project("add", title)
    task = project.json(
        *("add", "x", "--after", "T1,T2", "--soft-after", "T3", "--data-after", "T4"),
        *("--after-failure", "T1"),
    )
    edges = {(edge["on"], edge["kind"]) for edge in project.json("show", task["id"])["edges"]}
    assert edges == {("T1", "blocks"), ("T2", "blocks"), ("T3", "soft"), ("T4", "data"), ("T1", "on_failure")}


def test_people_read_a_line(project: Place) -> None:
    assert project("add", "first").out == "T1 is ready: first\n"
    assert project("add", "second", "--after", "t1").out == "T2 is pending: second\n"


def test_lists_are_bounded_and_go_on(project: Place) -> None:
    for number in range(5):
        project("add", f"task {number}", "--tag", "odd" if number % 2 else "even")
    page = project.json("list", "--limit", "3")
    assert [task["id"] for task in page["tasks"]] == ["T1", "T2", "T3"]
    assert (page["total"], page["next_cursor"]) == (5, "T3")
    page = project.json("list", "--limit", "3", "--cursor", page["next_cursor"])
    assert ([task["id"] for task in page["tasks"]], page["next_cursor"]) == (["T4", "T5"], None)
    assert "go on with --cursor T3" in project("list", "--limit", "3").out
    assert [task["id"] for task in project.json("list", "--tag", "odd")["tasks"]] == ["T2", "T4"]
    assert [task["id"] for task in project.json("list", "--search", "K 3")["tasks"]] == ["T4"]
    assert project.json("list", "--state", "completed,failed", "--state", "review")["tasks"] == []
    assert project("list", "--state", "completed").out == "no task matches\n"
    assert project("list", "--parent", "T99", "--json", code=4).error["code"] == "no_task"
    assert "in_progress" in project("list", "--state", "doing", "--json", code=6).error["hint"]


def test_lists_are_aligned(project: Place) -> None:
    project("add", "one")
    project("add", "two", "--after", "T1", "--priority", "10")
    assert project("list").out == "T1  ready     5  one\nT2  pending  10  two\n"


def test_ready_is_in_the_order_of_claims(project: Place) -> None:
    project("add", "low", "--priority", "2")
    project("add", "high", "--priority", "9")
    assert [task["id"] for task in project.json("ready")["tasks"]] == ["T2", "T1"]
    assert project("ready", "--limit", "1").out == "T2  ready  9  high\n1 of 2 tasks\n"
    assert project.json("claim")["task"]["id"] == "T2"


def test_show_and_why(project: Place) -> None:
    project("add", "first")
    project("add", "second", "--after", "T1", "--description", "in\nwords", "--check", "true", "--effort", "30")
    shown = project("show", "T2").out
    for part in ("T2  second", "pending", "30 min", "Description\n  in\n  words", "Checks\n  true", "Waits for\n  T1"):
        assert part in shown
    assert project("why", "T2").out == "T2 is pending\n  blocks T1 (first) is ready\n"
    answer = project.json("why", "T2")
    assert answer["task"] == "T2"
    assert answer["reasons"] == [{"kind": "dependency", "detail": "blocks T1 (first) is ready", "ids": ["T1"]}]


def test_update_changes_what_is_named(project: Place) -> None:
    project("add", "x", "--priority", "3", "--tag", "a")
    task = project.json("update", "T1", "--title", "y", "--tag", "b")
    assert (task["title"], task["priority"], task["tags"]) == ("y", 3, ["b"])
    assert project("update", "T1", "--json", code=6).error["code"] == "nothing_to_change"


def test_titles_of_agents_command_no_terminal(project: Place) -> None:
    # A title with control characters is refused; a description and a reason are texts of any kind.
    project("add", "x \u202e reversed", "--description", "\x1b[2J\x07")
    for shown in (project("list"), project("show", "T1"), project("graph"), project("ready"), project("events")):
        assert "\x1b" not in shown.out
        assert "\u202e" not in shown.out
        assert "\x07" not in shown.out
    assert "\\u202e" in project("list").out


def test_decisions(project: Place) -> None:
    project("add", "x", "--max-retries", "0")
    project("claim", "T1")
    project("fail", "R1", "--error", "no")
    assert project("retry", "T1").out == "T1 is ready: x\n"
    project("claim", "T1")
    project("done", "R2", "--summary", "half", "--next", "needs_revision")
    assert project.json("reject", "T1", "--reason", "not enough")["state"] == "ready"
    assert "not enough" in project.json("claim", "T1")["brief"]
    project("done", "R3", "--summary", "half", "--next", "needs_revision")
    approved = project.json("approve", "T1")
    assert (approved["state"], approved["unblocked"], approved["unblocked_total"]) == ("completed", [], 0)
    assert project.json("reopen", "T1", "--reason", "again")["state"] == "ready"
    assert project("approve", "T1", "--json", code=5).error["code"] == "illegal_move"
    assert project("cancel", "T1", "--reason", "enough").out == "T1 is cancelled: x\n"
    assert project("archive", "T1").out == "T1 is archived: x\n"
    assert project.json("list")["total"] == 0
    assert project.json("list", "--archived")["total"] == 1
    project("add", "y")
    assert project.json("delete", "T2")["title"] == "y"
    assert project("delete", "T1", "--json", code=5).error["code"] == "in_use"
    project("reopen", "T1", code=2)
    project("reject", "T1", code=2)


def test_what_a_parent_has_of_its_own_and_will_not_run_is_said(project: Place) -> None:
    project("add", "with", "--run", "echo s", "--check", "false")
    assert "its own command and checks will not be run" in project("add", "child", "--parent", "T1").out
    project("add", "without")
    assert "will not be run" not in project("add", "child", "--parent", "T3").out


def test_cancelling_dependents(project: Place) -> None:
    project("add", "a")
    project("add", "b", "--after", "T1")
    project("cancel", "T1", "--dependents", "cancel")
    assert project.json("show", "T2")["state"] == "cancelled"
    assert "block, cancel" in project("cancel", "T2", "--dependents", "x", "--json", code=6).error["hint"]


def test_shape(project: Place) -> None:
    for title in "abc":
        project("add", title)
    assert project("move", "T2", "--parent", "T1").out == "T2 is ready: b (under T1)\n"
    assert project("move", "T2", "--top").out == "T2 is ready: b (at the top)\n"
    assert project("dep", "add", "T2", "T1", "--kind", "data").out == "T2 is pending: b (waits for T1)\n"
    assert project("dep", "add", "T1", "T2", "--json", code=6).error["details"]["cycle"] == ["T1", "T2", "T1"]
    assert project.json("dep", "waive", "T2", "T1", "--reason", "stub")["state"] == "ready"
    assert project.json("dep", "add", "T3", "T1")["state"] == "pending"
    assert project.json("dep", "rm", "T3", "T1")["state"] == "ready"
    assert project("dep", "rm", "T3", "T1", "--json", code=4).error["code"] == "no_dependency"
    assert "on_failure" in project("dep", "add", "T3", "T1", "--kind", "x", "--json", code=6).error["hint"]


def test_gates(project: Place) -> None:
    project("add", "x")
    answer = project("gate", "add", "T1", "--approval", "Ship it?")
    assert answer.out == "T1 is blocked: x\n  G1 waits for a decision: `orchestrion gate open G1`\n"
    assert project.json("gate", "open", "T1", "--answer", "yes")["state"] == "ready"
    assert project.json("show", "T1")["gates"][0]["answer"] == "yes"
    project("gate", "open", "G1", code=5)
    assert project.json("gate", "add", "T1", "--external", "release")["state"] == "pending"
    assert project.json("gate", "add", "T1", "--question", "which colour?")["state"] == "blocked"
    assert project("gate", "open", "T1", "--json", code=5).error["details"]["gates"] == ["G2", "G3"]
    assert project.json("gate", "open", "T1", "--name", "which colour?", "--answer", "red")["state"] == "pending"
    assert project.json("gate", "open", "T1", "--refuse")["state"] == "blocked"
    project("add", "y")
    answer = project("gate", "add", "T2", "--until", "2999-01-01")
    assert answer.out == "T2 is pending: y\n  G4 opens at 2999-01-01 00:00:00 UTC\n"
    project("add", "z")
    assert project.json("gate", "add", "T3", "--approval")["state"] == "blocked"
    project("gate", "add", "T3", code=2)
    project("gate", "add", "T3", "--approval", "--external", "x", code=2)
    assert project("gate", "add", "T3", "--until", "soon", "--json", code=6).error["code"] == "invalid_time"


def test_a_failure_comes_with_its_remedy(project: Place) -> None:
    project("add", "fails", "--run", "exit 3", "--max-retries", "0")
    assert project.json("why", "T1")["remedy"] is None
    project("work", "--drain", code=8)
    remedy = "read its last words with `orchestrion log R1`, correct the task, then `orchestrion retry T1`"
    for look in (("why", "T1"), ("show", "T1"), ("show", "R1")):
        assert project.json(*look)["remedy"] == remedy
        assert remedy in project(*look).out
    project("retry", "T1")
    project("work", "--drain", code=8)
    assert project.json("show", "R1")["remedy"] is None
    assert "`orchestrion log R2`" in project.json("show", "R2")["remedy"]


def test_a_repository_without_a_commit_is_told_what_it_needs(bare: Place) -> None:
    bare.git("init", "-q")
    bare("add", "works", "--run", "true", "--plan", "new")
    bare("work", "--drain", code=8)
    shown = bare.json("show", "T1")
    assert (shown["state"], shown["code"]) == ("failed", "no_commit")
    assert shown["remedy"] == "make a first commit, then `orchestrion retry T1`"
    bare.git("commit", "-q", "--allow-empty", "-m", "first")
    bare("retry", "T1")
    bare("work", "--drain")


def test_a_child_is_in_its_parents_plan(project: Place) -> None:
    project("add", "parent", "--plan", "tools")
    assert project.json("add", "child", "--parent", "T1")["plan"] == "tools"
    assert project.json("add", "elsewhere", "--parent", "T1", "--plan", "docs")["plan"] == "docs"
    assert project("add", "orphan", "--parent", "T9", "--json", code=4).error["code"] == "no_task"


def test_a_drain_says_how_many_it_does_not_name(project: Place) -> None:
    project("add", "old", "--run", "exit 1", "--max-retries", "0", "--plan", "old")
    project("work", "--drain", code=8)
    for _ in range(7):
        project("add", "bad", "--check", "echo why; false", "--run", "true", "--plan", "new")
    said = project("work", "--drain", "--plan", "new", code=8).out
    assert "T1 " not in said
    assert "  … and 2 more\n" in said
    assert "```" not in said + project("status").out


def test_apply_says_which_tasks_no_worker_can_run(project: Place) -> None:
    plan = project.root / "plan.md"
    plan.write_text("# P\n\n- [ ] Parent\n  - [ ] One\n  - [ ] Two\n- [x] Done\n")
    assert project.json("apply", str(plan), "--dry-run")["without_agent"] == ["T2", "T3"]
    said = project("apply", str(plan)).out
    assert "T2, T3 need a command or an agent:\n  `orchestrion update T2 --run COMMAND`" in said
    assert said.endswith("then `orchestrion work --drain` has it done\n")
    assert "work" not in project("apply", str(plan)).out
    (project.root / "q.yaml").write_text(
        "plan: q\ntasks:\n  - title: One\n    agent: claude\n  - title: Two\n    run: 'true'\n"
    )
    said = project("apply", "q.yaml").out
    assert "need" not in said
    assert said.endswith("\n`orchestrion work --drain` has it done\n")


def test_a_decision_that_does_not_fit_says_which_one_does(project: Place) -> None:
    project("add", "done", "--run", "true")
    project("add", "by nobody")
    project("work", "--drain", code=8)
    for decision in (["retry", "T1"], ["approve", "T1"], ["reject", "T1", "--reason", "x"]):
        error = project(*decision, "--json", code=5).error
        assert error["message"].startswith("T1 is completed; this works on what is ")
        assert error["hint"] == '`orchestrion reopen T1 --reason "..."` has it done again'
    assert "`orchestrion why T2`" in project("retry", "T2", "--json", code=5).error["hint"]
    project("reopen", "T1", "--reason", "again")


def test_why_says_only_what_matters(project: Place) -> None:
    project("add", "by nobody")
    project("add", "by a command", "--run", "true")
    assert [one["kind"] for one in project.json("why", "T1")["reasons"]] == ["command"]
    assert "1 ready task is before it" in project("why", "T2").out


def test_unknown_plans_and_sessions_that_never_were(project: Place) -> None:
    assert project("list", "--plan", "nosuch", "--json", code=4).error["code"] == "no_plan"
    assert project("sessions").out.endswith("`orchestrion sessions --all` shows those that ended\n")
    assert project("sessions", "--all").out == "there was no session yet\n"


def test_a_check_that_fails_is_told_in_a_line(project: Place) -> None:
    project("add", "bad", "--run", "true", "--check", "echo the evidence; false")
    project("work", "--drain", code=8)
    for look in (("status",), ("runs",), ("show", "T1"), ("show", "R1")):
        said = project(*look).out
        assert "\\n" not in said
        assert "check" in said
    assert "the evidence" in project("show", "R1").out


def test_the_branch_of_a_run_is_named_as_long_as_it_is_there(project: Place) -> None:
    project("add", "works", "--run", "echo b > b.txt")
    project("work", "--drain")
    assert project.json("show", "R1")["branch"] == "orchestrion/run/R1"
    project("land")
    assert project.json("show", "R1")["branch"] is None
    assert "orchestrion/run/R1" not in project("show", "R1").out


def test_git_that_knows_nobody_is_told(bare: Place) -> None:
    bare.git("init", "-q")
    assert not any("git config" in note for note in bare.json("init")["notes"])
    (Path(bare.environ["HOME"]) / ".gitconfig").write_text("")
    told = 'by Orchestrion <orchestrion@localhost>: `git config --global user.name "NAME"`'
    assert any(told in note for note in bare.json("init")["notes"])
    assert told in bare("doctor", code=None).out
