from __future__ import annotations

import dataclasses
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrion.core.errors import InvalidInput
from orchestrion.memory.brief import (
    DEFAULT_TOKENS,
    LEAST_TOKENS,
    SHORTENED_FIRST,
    ArtifactText,
    Attempt,
    BriefParts,
    DecisionText,
    Feedback,
    Place,
    Result,
    TaskRef,
    compose,
)
from orchestrion.memory.roles import load_role

PLAIN = BriefParts(run="R31", attempt=1, task="T12", title="Write slugify()")
WHOLE = dataclasses.replace(
    PLAIN,
    attempt=3,
    description="Lower-case, ASCII, hyphens.",
    checks=(("python -m pytest -q tests/test_slugify.py",) * 2, ("style", "ruff check .")),
    role=load_role(None, "implementer"),
    place=Place("text-tools", (TaskRef("T1", "Text tools"),), (TaskRef("T13", "Document it"),)),
    results=(
        Result(TaskRef("T3", "Choose a library"), "None is needed.", (ArtifactText("A7", "notes.md", "unicodedata"),)),
    ),
    decisions=(DecisionText("D4", "No dependencies", "The standard library is enough."),),
    files=("src/slug.py (modified by R12)",),
    attempts=(Attempt("R30", "lost", "the supervisor died", "orchestrion/run/R30"),),
    feedback=(Feedback("check `make test` ended with exit code 1", "E assert 'a b' == 'a-b'", "orchestrion show R31"),),
)


def size(text: str) -> int:
    return len(text.encode())


def test_a_task_alone_makes_a_short_brief():
    brief = compose(PLAIN)
    assert brief.startswith("# T12: Write slugify()\n\nRun R31.\n")
    assert re.findall("^## (.*)$", brief, re.MULTILINE) == ["How to report back"]
    assert size(brief) < 800


def test_everything_that_is_known_is_told():
    brief = compose(WHOLE)
    assert "attempt 3" in brief
    for words in (
        "Lower-case, ASCII, hyphens.",
        "succeed\n\n```\npython -m pytest -q tests/test_slugify.py\n```",
        "`style`:\n\n```\nruff check .\n```",
        "You are the implementer.",
        "- Run the checks of the task before you stop",
        "It belongs to plan text-tools.",
        "- part of T1 Text tools\n- T13 Document it waits for this task",
        "**T3** Choose a library:\n\nNone is needed.",
        "Artifact A7 of T3, notes.md:\n\n```\nunicodedata\n```",
        "**D4** No dependencies:\n\nThe standard library is enough.",
        "- src/slug.py (modified by R12)",
        "**R30** ended with `lost` (the run's supervisor died",
        "Its work is kept on the branch `orchestrion/run/R30`.",
        "```\nthe supervisor died\n```",
        "check `make test` ended with exit code 1:\n\n```\nE assert 'a b' == 'a-b'\n```",
    ):
        assert words in brief, words
    assert "left out" not in brief


def test_what_must_be_repaired_comes_first():
    headings = re.findall("^## (.*)$", compose(WHOLE), re.MULTILINE)
    assert headings[:2] == ["Not accepted yet: repair this first", "What is to be done"]
    assert headings[-1] == "How to report back"


def test_a_supervised_agent_hears_that_its_work_is_taken_care_of():
    brief = compose(PLAIN)
    assert "your work is committed, checked and merged" in brief
    assert 'orchestrion done R31 --summary "' in brief
    assert 'orchestrion fail R31 --error "' in brief
    assert "heartbeat" not in brief


def test_a_client_hears_how_to_keep_and_end_its_run():
    brief = compose(dataclasses.replace(PLAIN, supervised=False))
    for command in ("heartbeat R31", "done R31 --summary", "fail R31 --error", "release R31"):
        assert f"orchestrion {command}" in brief
    assert "merged" not in brief


def test_the_least_important_is_shortened_first():
    filler = "words and more words. " * 400
    parts = dataclasses.replace(
        WHOLE,
        files=tuple(f"src/module_{n}.py (modified by R{n})" for n in range(400)),
        decisions=tuple(DecisionText(f"D{n}", "A decision", filler) for n in range(1, 6)),
    )
    brief = compose(parts, 10_000)
    assert "left out for length: `orchestrion show T12`)" in brief.partition("## Files")[2].partition("##")[0]
    assert re.search(r"characters left out for length: `orchestrion show D5`\)", brief)
    assert "left out" not in brief.partition("## Decisions")[0]
    assert "left out" not in brief.partition("## Earlier attempts")[2]


def test_a_section_that_is_cut_says_how_much_is_missing_and_how_to_get_it():
    text = "".join(f"line {n}\n" for n in range(10_000))
    result = Result(TaskRef("T3", "Measure"), "Measured.", (ArtifactText("A7", "log", text),))
    brief = compose(dataclasses.replace(PLAIN, results=(result,)), 2_000)
    said = re.search(r"\(([\d,]+) of ([\d,]+) characters left out for length: `orchestrion artifact A7`\)", brief)
    assert said
    missing, whole = (int(number.replace(",", "")) for number in said.groups())
    shown = brief.partition("```\n")[2].partition("\n[...]")[0]
    assert whole == len(text.strip())
    assert missing == whole - len(shown)
    assert text.startswith(shown)
    assert size(brief) > 2_000 * 4 * 0.98


def test_of_the_output_of_a_check_the_end_is_kept():
    output = "start\n" + "noise\n" * 10_000 + "the last line says why"
    brief = compose(dataclasses.replace(PLAIN, feedback=(Feedback("check failed", output, "orchestrion show R31"),)))
    assert "start\n" in brief
    assert "the last line says why\n```" in brief
    assert size(brief) <= DEFAULT_TOKENS * 4


def test_a_long_artifact_leaves_room_for_the_others():
    artifacts = (ArtifactText("A1", "huge", "x" * 500_000), ArtifactText("A2", "small", "the small one, whole"))
    parts = dataclasses.replace(PLAIN, results=(Result(TaskRef("T3", "t"), "A summary.", artifacts),))
    brief = compose(parts, 1_000)
    assert "A summary." in brief
    assert "the small one, whole" in brief


def test_one_huge_text_does_not_push_out_all_else():
    huge = Result(TaskRef("T3", "t"), "A summary.", (ArtifactText("A1", "huge", "x" * 1_000_000),))
    brief = compose(dataclasses.replace(WHOLE, results=(huge,)))
    assert brief.count("left out for length") == 1
    assert "You are the implementer." in brief
    assert size(brief) > DEFAULT_TOKENS * 4 * 0.98


def test_the_least_budget_is_enough_for_the_worst_of_tasks():
    big, title = "word " * 20_000, "😀" * 255
    parts = dataclasses.replace(
        WHOLE,
        run="R999999999",
        task="T999999999",
        title=title,
        description=big,
        checks=((big, big), (title, big)) * 3,
        results=(Result(TaskRef("T3", title), big, (ArtifactText("A1", big, big),)),) * 20,
        decisions=(DecisionText("D1", title, big),) * 20,
        files=("x" * 4_000,) * 100,
        attempts=(Attempt("R1", big, big, "b" * 200),) * 9,
        feedback=(Feedback(big, big, "orchestrion show R9"),) * 5,
    )
    for supervised in (True, False):
        brief = compose(dataclasses.replace(parts, supervised=supervised), LEAST_TOKENS)
        assert size(brief) <= LEAST_TOKENS * 4
        assert title in brief


def test_what_it_advises_has_the_words_of_a_door_and_nothing_else_has():
    said = "say `orchestrion ready` " * 2_000
    parts = dataclasses.replace(WHOLE, description=said, advise=lambda text: text.replace("`orchestrion ", "`do "))
    brief = compose(parts, LEAST_TOKENS * 2)
    assert "say `orchestrion ready`" in brief
    assert "left out for length: `do show T12`)" in brief
    assert '`do done R31 --summary "WHAT WAS DONE"`' in brief


def test_half_a_check_is_never_shown():
    checks = tuple(f"test -n {'x' * 500} && echo {n}-end" for n in range(20))
    brief = compose(dataclasses.replace(PLAIN, checks=tuple((check, check) for check in checks)), 1_500)
    shown = [check for check in checks if check in brief]
    assert 0 < len(shown) < len(checks)
    assert brief.count("test -n") == len(shown)
    assert f"({len(checks) - len(shown)} more left out for length: `orchestrion show T12`)" in brief


def test_a_fence_in_a_text_closes_nothing():
    brief = compose(dataclasses.replace(PLAIN, feedback=(Feedback("check failed", "a\n```\n````\nb", "x"),)))
    assert "`````\na\n```\n````\nb\n`````" in brief


def test_a_description_that_is_cut_inside_a_fence_leaves_none_open():
    parts = dataclasses.replace(PLAIN, description="Like this:\n```\n" + "code\n" * 5_000 + "```\n")
    before = compose(parts, 1_000).partition("## How to report back")[0]
    assert "left out" in before
    assert before.count("\n```") % 2 == 0


def test_bytes_that_are_no_text_do_no_harm():
    brief = compose(dataclasses.replace(PLAIN, feedback=(Feedback("c\0\udcff", "a\0b\udcff", "x"),)))
    brief.encode()
    assert "\0" not in brief


def test_an_impossible_budget_is_refused():
    with pytest.raises(InvalidInput) as caught:
        compose(PLAIN, 10)
    assert caught.value.code == "brief_budget"


def test_work_grows_with_the_pieces_and_not_with_their_square() -> None:
    few, many = _calls(2_000), _calls(20_000)
    assert few * 5 < many < few * 15


def _calls(pieces: int) -> int:
    """How many calls it takes to make a brief of so many files and a tenth as many results."""
    parts = dataclasses.replace(
        PLAIN,
        files=tuple(f"src/{n}.py" for n in range(pieces)),
        results=tuple(Result(TaskRef(f"T{n}", "t"), "word " * 50) for n in range(pieces // 10)),
    )
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        brief = compose(parts)
    finally:
        sys.setprofile(before)
    assert size(brief) <= DEFAULT_TOKENS * 4
    return calls


TEXT = st.text(max_size=30) | st.builds(
    lambda word, times: word * times,
    st.sampled_from(["word ", "ä", "漢", "😀", "`", "```\n", "\n", "- ", "\udcff", "# x\n"]),
    st.integers(0, 4_000),
)
TITLE = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=255) | st.integers(
    1, 255
).map(lambda times: "😀" * times)
IDS = st.integers(1, 10**9)
REF = st.builds(TaskRef, IDS.map("T{}".format), TITLE)
PARTS = st.builds(
    BriefParts,
    run=IDS.map("R{}".format),
    attempt=st.integers(1, 99),
    task=IDS.map("T{}".format),
    title=TITLE,
    description=TEXT,
    checks=st.lists(st.tuples(TEXT, TEXT), max_size=4).map(tuple),
    supervised=st.booleans(),
    role=st.sampled_from([None, load_role(None, "tester")]),
    place=st.none()
    | st.builds(
        Place,
        st.just("some-plan"),
        st.lists(REF, max_size=3).map(tuple),
        st.lists(REF, max_size=20).map(tuple),
    ),
    results=st.lists(
        st.builds(
            Result,
            REF,
            TEXT,
            st.lists(st.builds(ArtifactText, IDS.map("A{}".format), TEXT, TEXT), max_size=2).map(tuple),
        ),
        max_size=4,
    ).map(tuple),
    decisions=st.lists(st.builds(DecisionText, IDS.map("D{}".format), TITLE, TEXT), max_size=4).map(tuple),
    files=st.lists(TEXT, max_size=20).map(tuple),
    attempts=st.lists(
        st.builds(Attempt, IDS.map("R{}".format), st.sampled_from(["lost", "free"]), TEXT, st.none() | st.just("b")),
        max_size=4,
    ).map(tuple),
    feedback=st.lists(st.builds(Feedback, TEXT, TEXT, st.just("orchestrion show R1")), max_size=3).map(tuple),
)


@pytest.mark.timeout(400)  # hundreds of briefs, on a machine that may have other work
@settings(max_examples=150)
@given(parts=PARTS, tokens=st.integers(LEAST_TOKENS, 8_000))
def test_no_brief_is_over_its_budget_or_without_its_task(parts, tokens):
    brief = compose(parts, tokens)
    assert size(brief) <= tokens * 4
    assert brief.startswith(f"# {parts.task}: {parts.title}\n")
    assert f"orchestrion done {parts.run}" in brief
    whole = compose(parts, 10**9)
    assert brief == whole or "left out for length: `orchestrion " in brief


def test_every_section_that_can_be_shortened_is_named_once():
    assert len(set(SHORTENED_FIRST)) == len(SHORTENED_FIRST) == 11
