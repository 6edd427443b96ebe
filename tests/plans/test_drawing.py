"""Pictures of graphs: what they show, and that no title can break out of them."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.states import TaskState
from orchestrion.plans.drawing import Arrow, Box, as_json, dot, mermaid, tree

PARENT = Box("T1", "Tools", TaskState.IN_PROGRESS, None, 33.3)
FIRST = Box("T2", "Write it", TaskState.COMPLETED, "T1")
SECOND = Box("T3", "Test it", TaskState.BLOCKED, "T1")
DEEP = Box("T4", "Edge cases", TaskState.PENDING, "T3")
LAST = Box("T5", "Ship it", TaskState.PENDING)
BOXES = [PARENT, FIRST, SECOND, DEEP, LAST]
ARROWS = [
    Arrow("T1", "T2", "child", "met"),
    Arrow("T3", "T2", "data", "met"),
    Arrow("T5", "T1", "blocks", "open"),
    Arrow("T5", "T3", "on_failure", "dead"),
    Arrow("T5", "T4", "soft", "open"),
    Arrow("T5", "T9", "blocks", "waived"),
]

HOSTILE = [
    'say "hi"',
    '"]:::evil; click T1 "javascript:alert(1)"',
    '"]; evil [label="',
    'back\\slash \\" \\N \\',
    "<script>alert(1)</script>",
    "&lt;b&gt; &amp; #quot; #35;",
    "%%{init: {'securityLevel': 'loose'}}%%",
    "line\nbreak\r\nand\u2028more\u2029and\ttab",
    "`code` **bold** $$x$$",
    "[a](javascript:alert(1)) {b} (c) |d|",
    "\x1b[31mred\x07 \x9b2J",
    "\u202eright to left\u2066",
    "日本語 👩‍💻 é",
    "end",
    "x" * 255,
    "",
]


class TestTree:
    def test_shows_hierarchy_states_and_open_waits(self) -> None:
        assert tree(BOXES, ARROWS) == (
            "▶ T1 Tools  33 %\n"
            "├─ ✓ T2 Write it\n"
            "└─ ■ T3 Test it\n"
            "   └─ ○ T4 Edge cases\n"
            "○ T5 Ship it  (waits for T1, T3 on failure dead, T4 soft)"
        )

    def test_draws_lines_past_what_is_nested(self) -> None:
        boxes = [Box("a", "A"), Box("b", "B", parent="a"), Box("c", "C", parent="b"), Box("d", "D", parent="a")]
        assert tree(boxes) == "○ a A\n├─ ○ b B\n│  └─ ○ c C\n└─ ○ d D"

    def test_counts_what_is_below_the_depth(self) -> None:
        assert tree(BOXES, depth=1) == "▶ T1 Tools  33 %  (+3 below)\n○ T5 Ship it"
        assert tree(BOXES, depth=2).splitlines()[2] == "└─ ■ T3 Test it  (+1 below)"

    def test_counts_what_is_beyond_the_limit(self) -> None:
        assert tree(BOXES, limit=2).splitlines()[1:] == ["├─ ✓ T2 Write it", "… and 3 more"]
        assert tree(BOXES, limit=5) == tree(BOXES, limit=None) == tree(BOXES)

    def test_names_few_waits_and_counts_the_others(self) -> None:
        arrows = [Arrow("T5", f"T{place}") for place in range(10, 20)]
        assert "(waits for T10, T11, T12, T13, T14 and 5 more)" in tree([LAST], arrows)

    def test_of_nothing(self) -> None:
        assert tree([]) == ""

    def test_bad_data_is_drawn_once_and_ends(self) -> None:
        boxes = [
            Box("a", "A", parent="b"),
            Box("b", "B", parent="a"),
            Box("c", "C", parent="gone"),
            Box("d", "D", parent="d"),
        ]
        assert tree(boxes) == "○ c C\n○ a A\n└─ ○ b B\n○ d D"

    def test_a_state_that_is_none_looks_like_pending(self) -> None:
        assert tree([Box("T1", "A", "vanished")]) == "○ T1 A"

    @pytest.mark.parametrize("state", TaskState)
    def test_every_state_has_a_mark_of_its_own(self, state: TaskState) -> None:
        others = {tree([Box("T1", "A", other)])[0] for other in TaskState if other is not state}
        assert tree([Box("T1", "A", state)])[0] not in others

    @pytest.mark.parametrize("title", HOSTILE)
    def test_a_title_is_one_harmless_line(self, title: str) -> None:
        drawn = tree([Box("T1", title)])
        assert len(drawn.splitlines()) == 1
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e\u2066]", drawn)
        assert len(drawn) < 100

    def test_a_joined_emoji_stays_joined(self) -> None:
        assert tree([Box("T1", "👩‍💻")]) == "○ T1 👩‍💻"


#: The whole grammar of what we write: anything a title could add would not match.
MERMAID_LINE = re.compile(
    r"flowchart LR"
    r'|  \w+\["[^"\n]*"\](:::[a-z_]+)?'
    r'|  \w+ (-\.-|-->|-\.->|--x)(\|"[^"\n]*"\|)? \w+'
    r"|  classDef [a-z_]+ fill:#[0-9a-f]{6},stroke:#[0-9a-f]{6},color:#18181b"
)


class TestMermaid:
    def test_shows_hierarchy_states_and_waits(self) -> None:
        assert mermaid(BOXES, ARROWS) == (
            "flowchart LR\n"
            '  T1["▶ T1 Tools  33 %"]:::in_progress\n'
            '  T2["✓ T2 Write it"]:::completed\n'
            '  T3["■ T3 Test it"]:::blocked\n'
            '  T4["○ T4 Edge cases"]:::pending\n'
            '  T5["○ T5 Ship it"]:::pending\n'
            '  T9["T9"]\n'
            "  T1 -.- T2\n"
            "  T1 -.- T3\n"
            "  T3 -.- T4\n"
            '  T2 -->|"data"| T3\n'
            "  T1 --> T5\n"
            '  T3 --x|"on failure, dead"| T5\n'
            '  T4 -.->|"soft"| T5\n'
            '  T9 -.->|"waived"| T5\n'
            "  classDef blocked fill:#ffedd5,stroke:#c2410c,color:#18181b\n"
            "  classDef completed fill:#dcfce7,stroke:#15803d,color:#18181b\n"
            "  classDef in_progress fill:#dbeafe,stroke:#1d4ed8,color:#18181b\n"
            "  classDef pending fill:#f4f4f5,stroke:#a1a1aa,color:#18181b\n"
        )

    def test_ids_that_mean_something_get_another_name(self) -> None:
        drawn = mermaid([Box("end", "A"), Box("docs/a b", "B", parent="end")], [Arrow("docs/a b", "end")])
        assert drawn.splitlines()[1:5] == [
            '  n0["○ end A"]:::pending',
            '  n1["○ docs/a b B"]:::pending',
            "  n0 -.- n1",
            "  n0 --> n1",
        ]

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nothing_breaks_out(self, text: str) -> None:
        box = Box(text, text, text, parent="T1")
        for line in mermaid([PARENT, box], [Arrow(text, "T1", text, text), Arrow("T1", text)]).splitlines():
            assert MERMAID_LINE.fullmatch(line), line
            assert not re.search(r"[<>`$]|%%", line.replace("-->", "").replace("-.->", ""))

    def test_what_looks_like_a_style_loses_no_sign(self) -> None:
        assert "style a#58;b#35;c#59;" in mermaid([Box("T1", "style a:b#c;")])

    def test_signs_become_numbers_that_mermaid_turns_back(self) -> None:
        drawn = mermaid([Box("T1", 'a "b" #1; <c> & snake_case')])
        label = re.search(r'\["○ T1 (.*)"\]', drawn)
        assert label is not None
        assert "snake_case" in label[1]
        assert re.sub(r"#(\d+);", lambda number: chr(int(number[1])), label[1]) == 'a "b" #1; <c> & snake_case'


DOT_TEXT = r'"(?:[^"\\\n]|\\["\\])*"'
DOT_LINE = re.compile(
    rf"digraph plan {{|  rankdir=LR;|  node \[[^\n]*\];|}}"
    rf'|  {DOT_TEXT} \[label={DOT_TEXT}, fillcolor="#[0-9a-f]{{6}}", color="#[0-9a-f]{{6}}"\];'
    rf'|  {DOT_TEXT} -> {DOT_TEXT}( \[(label={DOT_TEXT}|style=\w+|arrowhead=\w+|color="#[0-9a-f]{{6}}"|, )+\])?;'
)


class TestDot:
    def test_shows_hierarchy_states_and_waits(self) -> None:
        lines = dot(BOXES, ARROWS).splitlines()
        assert lines[0] == "digraph plan {"
        assert lines[-1] == "}"
        assert '  "T2" [label="✓ T2 Write it", fillcolor="#dcfce7", color="#15803d"];' in lines
        assert '  "T1" -> "T2" [style=dotted, arrowhead=none, color="#a1a1aa"];' in lines
        assert '  "T1" -> "T5";' in lines
        assert '  "T2" -> "T3" [label="data"];' in lines
        assert '  "T3" -> "T5" [label="on failure, dead", color="#b91c1c", arrowhead=tee];' in lines
        assert '  "T4" -> "T5" [label="soft", style=dashed];' in lines
        assert '  "T9" -> "T5" [label="waived", style=dashed];' in lines

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nothing_breaks_out(self, text: str) -> None:
        box = Box(text, text, text, parent="T1")
        for line in dot([PARENT, box], [Arrow(text, "T1", text, text), Arrow("T1", text)]).splitlines():
            assert DOT_LINE.fullmatch(line), line

    def test_entities_stay_what_they_are(self) -> None:
        assert "&amp;lt;" in dot([Box("T1", "&lt;")])


class TestJson:
    def test_has_everything_uncut(self) -> None:
        long = Box("T7", "x" * 255 + "\n", "ready", None, 12.34)
        found = as_json([long], [Arrow("T7", "T8", "soft", "open")])
        assert json.loads(json.dumps(found)) == {
            "tasks": [{"id": "T7", "title": "x" * 255 + "\n", "state": "ready", "parent": None, "progress": 12.34}],
            "edges": [{"task": "T7", "after": "T8", "kind": "soft", "state": "open"}],
        }

    def test_of_states_as_plain_words(self) -> None:
        assert as_json([PARENT])["tasks"][0]["state"] == "in_progress"
        assert type(as_json([PARENT])["tasks"][0]["state"]) is str


texts = st.text(max_size=30)
boxes = st.lists(st.builds(Box, texts, texts, texts, st.none() | texts, st.none() | st.floats(0, 100)), max_size=5)
arrows = st.lists(st.builds(Arrow, texts, texts, texts, texts), max_size=5)


class TestAnything:
    @given(boxes, arrows)
    def test_can_be_drawn_and_stays_in_its_lines(self, boxes: list[Box], arrows: list[Arrow]) -> None:
        assert len(tree(boxes, arrows, limit=None).split("\n")) == max(1, len({box.id for box in boxes}))
        assert all(MERMAID_LINE.fullmatch(line) for line in mermaid(boxes, arrows).split("\n")[:-1])
        assert all(DOT_LINE.fullmatch(line) for line in dot(boxes, arrows).split("\n")[:-1])
        json.dumps(as_json(boxes, arrows))

    @pytest.mark.parametrize("shape", ["chain", "fan", "ring"])
    def test_of_any_size(self, shape: str) -> None:
        size = 20_000
        places = range(size)
        parents: dict[str, list[int]] = {
            "chain": [place - 1 for place in places],
            "fan": [min(place, 1) - 1 for place in places],
            "ring": [(place - 1) % size for place in places],
        }
        boxes = [Box(f"T{place}", "t", parent=f"T{above}") for place, above in enumerate(parents[shape])]
        arrows = [Arrow(f"T{i}", f"T{i - 1}") for i in range(1, size)]
        before = time.process_time()
        assert len(tree(boxes, arrows, limit=None).splitlines()) == size
        assert mermaid(boxes, arrows).count("\n") > size
        assert dot(boxes, arrows).count("\n") > size
        assert time.process_time() - before < 30
