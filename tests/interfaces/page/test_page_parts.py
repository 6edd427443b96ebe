"""What turns facts into what a template shows, without a server or a browser."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrion.core.rights import HOW_TO_ACT
from orchestrion.interfaces.page import board, charts, deeds, graph, patch, sheet, timeline, transcript, wording
from orchestrion.runs.failures import printable
from orchestrion.runs.git import Git
from orchestrion.runs.patches import RunDiff, files
from orchestrion.runs.workspace.changes import changes


def card(state: str, **values: Any) -> dict[str, Any]:
    usual = {
        "id": "T1", "title": "One", "state": state, "plan": "shop", "role": None, "agent": None, "priority": 5,
        "code": None, "said": None, "unmet": 0, "attempts": 0, "retry_at": None, "due_at": None, "updated_at": None,
        "run": None, "gates": [],
    }  # fmt: skip
    return usual | values


def columns(may_act: bool = True, total: int = 1, **column: list[dict[str, Any]]) -> dict[str, board.Column]:
    found = {name: {"total": 0, "tasks": []} for name in board.HEADINGS}
    found |= {name: {"total": total, "tasks": tasks} for name, tasks in column.items()}
    return {one.name: one for one in board.columns({"columns": found}, may_act)}


def test_a_card_says_what_a_person_is_asked_for() -> None:
    gate = {"id": "G1", "kind": "question", "name": "Which   one?", "opens_at": None}
    tasks = [
        card("review"),
        card("blocked", gates=[gate]),
        card("blocked", said="T2 failed"),
        card("failed", code="check_failed", said="x" * 500),
    ]
    needs = columns(needs=tasks)["needs"]
    assert [one.ask for one in needs.cards] == ["review", "question", "blocked", "check failed"]
    assert [one.line for one in needs.cards[:3]] == ["", "Which one?", "T2 failed"]
    assert len(needs.cards[3].line) == 180


def test_a_column_offers_more_until_all_or_enough_is_shown() -> None:
    some = [card("ready")] * 20
    assert columns(ready=some, total=20)["ready"].more is None
    assert columns(ready=some, total=30)["ready"].more == 60
    assert columns(ready=[card("ready")] * board.MOST, total=9000)["ready"].more is None


def test_who_may_not_act_has_no_buttons() -> None:
    assert columns(may_act=False, needs=[card("review")])["needs"].cards[0].buttons == []


@pytest.mark.parametrize("state", list(deeds.OFFERED))
def test_every_button_is_a_deed(state: str) -> None:
    for kind in ("question", "approval", "external", "time"):
        for button in deeds.for_task("T1", state, [{"id": "G1", "kind": kind, "name": ""}], "R1"):
            _, noun, _, verb = button.path.split("/")
            assert button.label == deeds.DEEDS[noun][verb].label
            assert button.asks == bool(deeds.DEEDS[noun][verb].fields)


def test_a_session_is_gone_on_with_only_where_there_was_one() -> None:
    offered = [[one.label for one in deeds.for_task("T1", "failed", has_session=had)] for had in (True, False)]
    assert offered == [["Retry", "Cancel", "Retry in its session"], ["Retry", "Cancel"]]


def test_of_several_gates_each_button_names_its_own() -> None:
    gates = [
        {"id": "G1", "kind": "approval", "name": "Ship it?", "opens_at": None},
        {"id": "G2", "kind": "question", "name": "Where to?", "opens_at": None},
    ]
    (shown,) = columns(needs=[card("blocked", gates=gates)])["needs"].cards
    assert shown.line == "G1 Ship it?; G2 Where to?"
    of_gates = [one for one in shown.buttons if one.path.startswith("/gates/")]
    assert [one.label for one in of_gates] == ["Approve G1", "Refuse G1", "Answer G2", "Refuse G2"]
    assert [one.label for one in deeds.for_task("T1", "blocked", gates[:1])][:2] == ["Approve", "Refuse"]
    assert {one.key for one in of_gates} == {""}


def test_a_run_that_a_client_holds_gets_no_messages() -> None:
    assert [one.label for one in deeds.for_run("R1", supervised=False)] == ["Kill"]


def plan(count: int) -> dict[str, Any]:
    tasks = [{"id": f"T{n}", "title": f"Task {n}", "state": "completed", "parent": None} for n in range(count)]
    edges = [{"task": f"T{n}", "after": f"T{n - 1}", "kind": "blocks", "state": "met"} for n in range(1, count)]
    return {"tasks": tasks, "edges": edges, "critical_path": ["T5", "T6"]}


def test_a_small_graph_is_drawn_whole() -> None:
    drawn = graph.picture(plan(10), [{"id": "R1", "task": "T6"}], "task 7")
    assert (len(drawn["nodes"]), len(drawn["edges"]), drawn["left_out"]) == (10, 9, 0)
    assert [one["id"] for one in drawn["nodes"] if one["critical"]] == ["T5", "T6"]
    assert [one["run"] for one in drawn["nodes"] if one["run"]] == ["R1"]
    assert [one["id"] for one in drawn["nodes"] if one["found"]] == ["T7"]
    assert [(one["from"], one["to"]) for one in drawn["edges"] if one["critical"]] == [("T5", "T6")]


def test_of_a_large_graph_what_matters_is_drawn() -> None:
    large = plan(10_000)
    large["tasks"][9000]["state"] = "in_progress"
    drawn = graph.picture(large, [], "T8000")
    names = {one["id"] for one in drawn["nodes"]}
    assert graph.DRAWN - 1 <= len(names) <= graph.DRAWN
    assert {"T5", "T6", "T8000", "T9000"} <= names
    assert drawn["left_out"] == 10_000 - len(names)
    assert all(edge["from"] in names and edge["to"] in names for edge in drawn["edges"])


def bar(run: str, task: str, began: int, ended: int | None) -> dict[str, Any]:
    return {
        "id": run,
        "task": task,
        "title": task,
        "plan": "p",
        "state": "succeeded",
        "began_at": began,
        "ended_at": ended,
    }


def test_runs_of_a_task_share_a_row_and_stay_within_the_span() -> None:
    found = {
        "since": 0,
        "now": 100_000,
        "runs": [bar("R3", "T1", 99_999, None), bar("R2", "T2", 60_000, 80_000), bar("R1", "T1", -5000, 50_000)],
    }
    rows = timeline.lanes(found)
    assert [(row.task, [one.run["id"] for one in row.bars]) for row in rows] == [("T1", ["R1", "R3"]), ("T2", ["R2"])]
    assert (rows[0].bars[0].left, rows[0].bars[0].width) == (0, 50)
    assert rows[0].bars[0].took == 55
    for row in rows:
        assert all(one.left >= 0 and one.left + one.width <= 100.001 for one in row.bars)
    assert [mark.label for mark in timeline.axis(found)] == [
        "00:00:15",
        "00:00:30",
        "00:00:45",
        "00:01:00",
        "00:01:15",
        "00:01:30",
    ]


def test_an_empty_timeline_has_an_axis() -> None:
    assert timeline.lanes({"since": 0, "now": 10, "runs": []}) == []
    assert timeline.axis({"since": 0, "now": 10, "runs": []}) == []


def test_results_of_a_tool_are_folded_into_its_call() -> None:
    lines = [
        {"stream": "event", "kind": "text", "text": "I look."},
        {"stream": "event", "kind": "tool", "tool": "Bash", "text": "pytest"},
        {"stream": "event", "kind": "tool_result", "text": "1 failed", "failed": True},
        {"stream": "out", "text": '{"raw": 1}'},
        {"stream": "event", "kind": "result", "text": "I look."},
        {"stream": "note", "text": "go 2"},
    ]
    shown = transcript.entries(lines, plain=False)
    assert [(one.kind, one.text) for one in shown] == [("said", "I look."), ("tool", "pytest"), ("note", "go 2")]
    assert (shown[1].results, shown[1].failed, shown[1].tool) == (["1 failed"], True, "Bash")


def test_lines_of_a_plain_agent_are_joined() -> None:
    lines = [{"stream": "out", "text": "a"}, {"stream": "out", "text": "b"}, {"stream": "err", "text": "c"}]
    assert [(one.kind, one.text) for one in transcript.entries(lines, plain=True)] == [
        ("output", "a\nb"),
        ("error", "c"),
    ]


DIFF = """diff --git a/a.txt b/a.txt
index 1..2 100644
--- a/a.txt
+++ b/a.txt
@@ -1,3 +1,3 @@ def f():
 one
-two
+++ two
 three
diff --git a/new b/new
new file mode 100644
--- /dev/null
+++ b/new
@@ -0,0 +1 @@
+x
\\ No newline at end of file
diff --git a/pic.png b/pic.png
Binary files a/pic.png and b/pic.png differ
"""


def test_a_diff_is_taken_apart_by_file() -> None:
    found = [patch.file(one) for one in files(io.BytesIO(DIFF.encode()), patch.BOUNDS)]
    assert [(one.path, one.note, one.added, one.removed) for one in found] == [
        ("a.txt", "", 1, 1),
        ("new", "new file", 1, 0),
        ("pic.png", "binary", 0, 0),
    ]
    assert [(one.kind, one.old, one.new, one.text) for one in found[0].lines] == [
        ("hunk", None, None, "def f():"),
        ("same", 1, 1, "one"),
        ("del", 2, None, "two"),
        ("add", None, 2, "++ two"),
        ("same", 3, 3, "three"),
    ]
    assert [(one.kind, one.text) for one in found[1].lines[1:]] == [("add", "x"), ("end", "No newline at end of file")]


def test_modes_links_and_what_is_no_text_are_told(tmp_path: Path) -> None:
    git = Git(tmp_path)
    git.run("init", "-q")
    commit = ("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "x")
    for name in ("run.sh", "plain.sh", "changed.sh", "gone.sh", "file", "other"):
        (tmp_path / name).write_text(f"1\n{name}\n3\n")
    for name in ("plain.sh", "gone.sh"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "gone").symlink_to("file")
    for name in ("gone.png", "changed.png"):
        (tmp_path / name).write_bytes(b"\0")
    git.run("add", ".")
    git.run(*commit)
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "plain.sh").chmod(0o644)
    (tmp_path / "changed.sh").write_text("2\nchanged.sh\n3\n")
    (tmp_path / "changed.sh").chmod(0o755)
    for name in ("gone.sh", "gone", "gone.png", "link", "file"):
        (tmp_path / name).unlink()
    (tmp_path / "new").symlink_to("other")
    (tmp_path / "file").symlink_to("other")
    (tmp_path / "link").write_text("x\n")
    (tmp_path / "changed.png").write_bytes(b"\0\1")
    (tmp_path / "new.png").write_bytes(b"\0\2")
    (tmp_path / "new.sh").touch(0o755)
    git.run("add", "-A")
    git.run(*commit)
    page = RunDiff(git, "HEAD~1", "HEAD").page(patch.BOUNDS)
    told = {one.path: (one.note, one.added, one.removed) for one in map(patch.file, page)}
    assert told == {
        "run.sh": ("made executable", 0, 0),
        "plain.sh": ("no longer executable", 0, 0),
        "changed.sh": ("made executable", 1, 1),
        "gone.sh": ("deleted executable file", 0, 3),
        "gone": ("deleted link", 0, 1),
        "gone.png": ("deleted file, binary", 0, 0),
        "changed.png": ("binary", 0, 0),
        "new.png": ("new file, binary", 0, 0),
        "new": ("new link", 1, 0),
        "new.sh": ("new executable file", 0, 0),
        "file": ("file replaced by a link", 1, 3),
        "link": ("link replaced by a file", 1, 1),
    }


def test_a_file_with_an_odd_name_has_that_name(tmp_path: Path) -> None:
    changed, binary, old, new, empty = 'a b"c<i>.txt', 'tab\tä"\\\x01.png', 'old"1', 'new\n"2', 'emp"ty'
    git = Git(tmp_path)
    git.run("init", "-q")
    commit = ("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "x")
    for name, content in ((changed, b"1\n"), (binary, b"\0"), (old, b"1\n2\n3\n")):
        (tmp_path / name).write_bytes(content)
    git.run("add", ".")
    git.run(*commit)
    (tmp_path / changed).write_bytes(b"2\n")
    (tmp_path / binary).write_bytes(b"\0\0")
    (tmp_path / old).rename(tmp_path / new)
    (tmp_path / empty).touch()
    git.run("add", "-A")
    git.run(*commit)
    page = RunDiff(git, "HEAD~1", "HEAD").page(patch.BOUNDS)
    assert {(one.path, one.note) for one in map(patch.file, page)} == {
        (changed, ""),
        (binary, "binary"),
        (new, f"renamed from {old}"),
        (empty, "new file"),
    }


def test_what_became_of_a_file_is_the_same_among_the_files_and_among_the_changes(tmp_path: Path) -> None:
    git = Git(tmp_path)
    git.run("init", "-q")
    commit = ("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "x")
    (tmp_path / "gone").touch()
    (tmp_path / "kept").write_text("1\n2\n3\n")
    git.run("add", ".")
    git.run(*commit)
    (tmp_path / "gone").unlink()
    (tmp_path / "kept").write_text("1\n2\n3\n4\n")
    for name in ("a", "b", os.fsdecode(b"bad\xff\xfe.txt")):
        (tmp_path / name).touch()
    (tmp_path / "copy").write_text("1\n2\n3\n")
    git.run("add", "-A")
    git.run(*commit)
    words = {"created": "new file", "modified": "", "moved": "renamed from", "copied": "copied from"}
    listed = {printable(one.path): words[one.kind] for one in changes(git, "HEAD~1", "HEAD", measured=False)}
    shown = {one.path: one.note for one in map(patch.file, RunDiff(git, "HEAD~1", "HEAD").page(patch.BOUNDS))}
    assert shown.keys() == listed.keys() == {"a", "b", r"bad\udcff\udcfe.txt", "copy", "kept"}
    assert [path for path, note in shown.items() if not note.startswith(listed[path])] == []
    assert shown["copy"] == "copied from kept"


def test_charts_count_what_failed_together() -> None:
    piece = {
        "states": {"succeeded": 2, "failed": 1, "lost": 1, "killed": 5},
        "duration_s": {"p50": 1.0, "p95": None},
        "cost_usd": None,
    }
    found = charts.series({"at": [5000], "pieces": [piece]})
    assert found["runs"]["data"] == [[5], [2], [2]]
    assert found["duration"]["data"] == [[5], [1.0], [None]]
    assert found["cost"]["data"] == [[5], [0]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.01, "0 s"),
        (4.21, "4.2 s"),
        (59.6, "60 s"),
        (192, "3 min 12 s"),
        (7500, "2 h 5 min"),
        (360_000, "4 d 4 h"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert sheet.seconds(value) == text


def test_numbers_are_short() -> None:
    assert [sheet.count(one) for one in (None, 950, 9_999, 12_345, 4_100_000)] == ["–", "950", "9,999", "12.3k", "4.1M"]
    assert [sheet.usd(one) for one in (None, 0, 0.001, 0.4, 1234)] == ["–", "$0.00", "$0.0010", "$0.40", "$1,234.00"]
    assert [sheet.percent(one) for one in (None, 0, 0.6667, 1)] == ["–", "0 %", "66.7 %", "100 %"]
    assert [sheet.size(one) for one in (None, 12, 1500, 2.5e13)] == ["–", "12 B", "1.5 kB", "25.0 TB"]


@pytest.mark.parametrize(
    ("refusal", "line"),
    [
        ("there is no task T9", "There is no task T9"),
        ("write ISO 8601, or an age", "Write ISO 8601, or an age"),
        ("'bogus' is not a time", "'bogus' is not a time"),
        ("n_done is not a number: 'abc'", "n_done is not a number: 'abc'"),
        ("`orchestrion open` makes one", "`orchestrion open` makes one"),
        ("", ""),
    ],
)
def test_a_refusal_begins_with_a_capital_and_what_somebody_wrote_stays(refusal: str, line: str) -> None:
    assert sheet.sentence(refusal) == line


def test_times_in_texts_are_shown_as_the_page_shows_times() -> None:
    assert sheet.measured("4 ready, the oldest for 1328.5 s, of 12 s") == "4 ready, the oldest for 22 min 8 s, of 12 s"
    told = str(sheet.told("paused since 2026-11-30T05:12:20.123Z <b> `x`"))
    assert told == (
        'paused since <time datetime="2026-11-30T05:12:20.123Z" data-at>2026-11-30 05:12</time> &lt;b&gt; '
        "<code>x</code>"
    )


def test_a_tab_or_the_end_of_a_line_in_a_name_is_written_out() -> None:
    assert [sheet.path(name) for name in ("a b", "a\tb", "a\nb", "ä\x01")] == ["a b", "a\\tb", "a\\nb", "ä\\x01"]


def test_code_between_backticks_is_marked_and_escaped() -> None:
    assert str(sheet.ticked("run `a <b>` & go")) == "run <code>a &lt;b&gt;</code> &amp; go"


def test_what_was_meant_for_a_terminal_is_not_shown() -> None:
    lines = [
        {"stream": "out", "text": "\x1b[1;31mred bold\x1b[0m and \x1b[38;5;200mpink"},
        {"stream": "out", "text": " 10 %\r 60 %\r100 %\r"},
        {"stream": "out", "text": "\x1b]0;a title\x07\x1b[2K\x1b[1Gat the end\x1b(B"},
    ]
    assert transcript.entries(lines, plain=True)[0].text == "red bold and pink\n100 %\nat the end"


@pytest.mark.parametrize(
    ("said", "here"),
    [
        ("`orchestrion list` shows the tasks", "Find shows the tasks"),
        (
            "approval G1 is waiting: Go?; `orchestrion gate open G1 --answer TEXT` decides it",
            "approval G1 is waiting: Go?",
        ),
        (
            "read the log with `orchestrion log R4`, then `orchestrion retry T3`",
            "read the log with the log of R4, then Retry",
        ),
        ("it waits: `orchestrion show T9` says what to do", "it waits: the view of T9 says what to do"),
        ("read the evidence with `orchestrion show RUN`", "read the evidence with the view of the run"),
        ("it waits: `orchestrion why`", "it waits: the view of the task"),
        ("`orchestrion slots global=8` sets one", "`orchestrion slots global=8` sets one"),
        (HOW_TO_ACT, "open the address that `orchestrion serve` printed, or `orchestrion open`"),
        (None, ""),
    ],
)
def test_commands_are_told_in_the_words_of_the_page(said: str | None, here: str) -> None:
    assert wording.here(said) == here


def test_a_sign_that_turns_what_follows_is_written_out() -> None:
    shown = (
        sheet.templates()
        .from_string("{{ title }}|{{ name | ticked }}")
        .render(title="live\u202egnp.exe", name="a\u2067`b`")
    )
    assert shown == "live\\u202egnp.exe|a\\u2067<code>b</code>"


def test_data_is_told_without_escapes() -> None:
    assert sheet.compact({"why": "two\nlines", "ids": ["T1", "T2"], "n": 1.5}) == "why: two\nlines, ids: T1, T2, n: 1.5"


@pytest.mark.parametrize("deed", [deed for verbs in deeds.DEEDS.values() for deed in verbs.values()] + [deeds._NEW])
def test_no_button_of_a_dialog_can_be_taken_for_the_other(deed: deeds.Deed) -> None:
    submit = deed.submit or deed.label
    assert deed.leave not in (submit, "Close", "Cancel")
    assert submit != "Cancel"
    for field in deed.fields:
        assert all(label[0].isupper() and "_" not in label and ":" not in label for _, label in field.choices)
