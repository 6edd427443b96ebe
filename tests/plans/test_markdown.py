"""Markdown plans: what a line means, where mistakes stand, and that writing and reading agree."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrion.core.errors import PlanRefused
from orchestrion.core.model import COMPLEXITIES
from orchestrion.core.states import EdgeKind
from orchestrion.plans.document import PlanDocument, PlannedTask
from orchestrion.plans.fields import UNPRINTABLE, PlannedGate, PlannedWait
from orchestrion.plans.markdown import render
from orchestrion.plans.source import parse


def read(text: str) -> PlanDocument:
    return parse(text, "plan.md")


def items(text: str) -> PlanDocument:
    """A plan of these lines below its heading; they begin in line 2."""
    return read("# Plan\n" + text)


def outline(document: PlanDocument) -> list[str]:
    """``parent/title`` of every task."""
    titles = {task.key: task.title for task, _ in document.walk()}
    return [f"{titles.get(parent or '', '')}/{task.title}" for task, parent in document.walk()]


def refused(text: str) -> PlanRefused:
    with pytest.raises(PlanRefused) as error:
        read(text)
    return error.value


def place(error: PlanRefused) -> tuple[Any, Any]:
    return error.details["line"], error.details["column"]


EXAMPLE = """\
# Text tools {defaults: {agent: command, timeout: 600}}

Small tools for texts.

## Code

- [x] Look around
- [ ] Write slugify() {key: slugify, run: "python w.py {x}", check: "pytest -q"}
  Lower-case, ASCII, hyphens.

  ```python
  - [ ] not a task
  # not a heading
  ```
  1. Edge cases {role: tester}
     Empty, and longer than 255.

## Notes

Nothing to do here.

## Docs {after: [slugify]}

All of it.

* Document it {after: {task: edge-cases, kind: data}}
"""


class TestTheExample:
    def test_is_read_whole(self) -> None:
        shared: dict[str, Any] = {"agent": "command", "timeout": 600}
        code = "Lower-case, ASCII, hyphens.\n\n```python\n- [ ] not a task\n# not a heading\n```"
        edge_cases = PlannedTask("edge-cases", "Edge cases", "Empty, and longer than 255.", role="tester", **shared)
        slugify = PlannedTask(
            "slugify",
            "Write slugify()",
            code,
            run="python w.py {x}",
            checks=("pytest -q",),
            children=(edge_cases,),
            **shared,
        )
        look = PlannedTask("look-around", "Look around", completed=True, **shared)
        document_it = PlannedTask(
            "document-it", "Document it", after=(PlannedWait("edge-cases", EdgeKind.DATA),), **shared
        )
        assert read(EXAMPLE) == PlanDocument(
            "text-tools",
            "Text tools",
            "Small tools for texts.",
            shared,
            (
                PlannedTask("code", "Code", children=(look, slugify), **shared),
                PlannedTask(
                    "docs", "Docs", "All of it.", after=(PlannedWait("slugify"),), children=(document_it,), **shared
                ),
            ),
        )

    def test_knows_its_lines(self) -> None:
        assert {task.key: (task.line, task.column) for task, _ in read(EXAMPLE).walk()} == {
            "code": (5, 1),
            "look-around": (7, 1),
            "slugify": (8, 1),
            "edge-cases": (15, 3),
            "docs": (22, 1),
            "document-it": (26, 1),
        }

    def test_is_written_so_that_it_is_read_again(self) -> None:
        assert read(render(read(EXAMPLE))) == read(EXAMPLE)


class TestHeadings:
    def test_nest_by_level(self) -> None:
        text = "# P\n- a\n## B\n- c\n#### D\n- e\n### F\n- g\n# H\n- i\n"
        assert outline(read(text)) == ["/a", "/B", "B/c", "B/D", "D/e", "B/F", "F/g", "/H", "H/i"]

    def test_the_first_is_the_plan_whatever_its_level(self) -> None:
        document = read("### My *Plan*!\n## A\n- b\n")
        assert (document.name, document.title) == ("my-plan", "My *Plan*!")
        assert outline(document) == ["/A", "A/b"]

    def test_without_tasks_are_only_text(self) -> None:
        assert outline(read("# P\n## Why\ntext\n### Really\n## Tasks\n- a\n## After\n")) == ["/Tasks", "Tasks/a"]

    def test_with_attributes_are_tasks(self) -> None:
        document = read("# P\n## A {key: x}\nHow.\n## B\n### C {role: tester}\n")
        assert outline(document) == ["/A", "/B", "B/C"]
        assert (document.tasks[0].key, document.tasks[0].description) == ("x", "How.")

    def test_of_the_other_kind(self) -> None:
        document = read("My plan {plan: p}\n=======\nWhy.\n\nPart\n----\n- a\n")
        assert (document.name, document.title, document.description) == ("p", "My plan", "Why.")
        assert outline(document) == ["/Part", "Part/a"]

    def test_may_be_closed(self) -> None:
        assert outline(read("# P #\n## C# ##\n- a\n")) == ["/C#", "C#/a"]

    def test_need_a_space(self) -> None:
        assert read("# P\n#hashtag\n- a\n").description == "#hashtag"

    def test_plan_attributes(self) -> None:
        document = read("# Über uns {plan: about, defaults: {role: writer}}\n- a\n")
        assert (document.name, document.title, document.tasks[0].role) == ("about", "Über uns", "writer")

    def test_front_matter(self) -> None:
        document = read("---\nplan: about\ndefaults:\n  role: writer\n---\n\n# About us\n- a\n")
        assert (document.name, document.title, document.tasks[0].role) == ("about", "About us", "writer")
        assert document.tasks[0].line == 8


class TestItems:
    @pytest.mark.parametrize("marker", ["-", "*", "+", "1.", "12)", "- [ ]", "* [ ]", "1. [ ]"])
    def test_of_every_kind(self, marker: str) -> None:
        assert items(f"{marker} Do it").tasks == (PlannedTask("do-it", "Do it"),)

    @pytest.mark.parametrize("box", ["- [x]", "- [X]", "3. [x]"])
    def test_that_are_completed(self, box: str) -> None:
        assert items(f"{box} Done").tasks[0].completed

    def test_with_links_are_not_boxes(self) -> None:
        assert items("- [x](http://example.org) read").tasks[0].title == "[x](http://example.org) read"

    @pytest.mark.parametrize("indent", ["  ", "    ", "\t", "   "])
    def test_nest_by_indentation(self, indent: str) -> None:
        text = f"- a\n{indent}- b\n{indent}{indent}- c\n{indent}- d\n- e\n"
        assert outline(items(text)) == ["/a", "a/b", "b/c", "a/d", "/e"]

    def test_one_space_more_is_the_same_level(self) -> None:
        assert outline(items("- a\n - b\n")) == ["/a", "/b"]

    def test_numbered_ones_nest_too(self) -> None:
        assert outline(items("1. a\n   1. b\n2. c\n  - d\n")) == ["/a", "a/b", "/c", "c/d"]

    def test_blank_lines_and_rules_between(self) -> None:
        assert outline(items("- a\n\n\n  - b\n\n***\n\n- c\n* * *\n- d\n")) == ["/a", "a/b", "/c", "/d"]

    def test_indented_code_outside_a_list_is_no_task(self) -> None:
        assert outline(items("For example:\n\n    - not me\n\n- me\n")) == ["/me"]

    def test_in_comments_are_not_there(self) -> None:
        assert outline(items("<!-- - one -->\n- a\n<!--\n- two\n-->\n- b\n")) == ["/a", "/b"]

    def test_in_code_blocks_are_text(self) -> None:
        document = items("- a\n  ~~~~\n  - b\n  ~~~\n  - c\n  ~~~~\n- d\n```\n- e\n```\n")
        assert outline(document) == ["/a", "/d"]
        assert document.tasks[0].description == "~~~~\n- b\n~~~\n- c\n~~~~"
        assert document.description == "```\n- e\n```"

    def test_deeper_than_a_stack(self) -> None:
        text = "# P\n" + "".join("  " * level + f"- l{level}\n" for level in range(1500))
        assert "levels deep" in refused(text).message


class TestDescriptions:
    def test_are_what_is_indented_below(self) -> None:
        document = items("- a\n  one\n\n  two\n    more\n- b\nnot of b\n")
        assert [task.description for task in document.tasks] == ["one\n\ntwo\n  more", ""]
        assert document.description == "not of b"

    def test_belong_to_the_item_they_are_indented_under(self) -> None:
        document = items("- a\n  - b\n    of b\n  of a\n  - c\n")
        a = document.tasks[0]
        assert (a.description, a.children[0].description, a.children[1].description) == ("of a", "of b", "")

    def test_go_on_after_children(self) -> None:
        assert items("- a\n  first\n  - b\n\n  second\n").tasks[0].description == "first\n\nsecond"

    def test_of_the_plan_before_and_after_its_heading(self) -> None:
        assert read("before\n\n# P\n\nafter\n- a\n").description == "before\n\nafter"

    def test_said_twice_are_refused(self) -> None:
        error = refused("# P\n- a {description: x}\n  y\n")
        assert "description is said twice: the text in line 3 is one too" in error.message
        assert place(error) == (2, 19)


class TestAttributes:
    @pytest.mark.parametrize(
        ("line", "title", "run"),
        [
            ('- a {run: "x {y} }"}', "a", "x {y} }"),
            ("- a {run: 'it''s }'}", "a", "it's }"),
            ('- a {run: "say \\"}\\""}', "a", 'say "}"'),
            ("- a {run: don't}", "a", "don't"),
            ("- a {b} {run: x}", "a {b}", "x"),
            ("- a {b {run: x}", "a {b", "x"),
            ("- a `{b}` {run: x}  ", "a `{b}`", "x"),
            ("- a{b}", "a{b}", None),
            ("- a ${HOME}", "a ${HOME}", None),
            ("- a `{run: x}`", "a `{run: x}`", None),
            (r"- a \{run: x\}", "a {run: x}", None),
            (r"- a \{b} {run: x}", "a {b} ", "x"),
            ("- a {}", "a", None),
            ("- {title: a, run: x}", "a", "x"),
            ("- a\n  {run: x}", "a", "x"),
            ("- [ ] a\n      {run: x}  ", "a", "x"),
        ],
    )
    def test_where_they_begin(self, line: str, title: str, run: str | None) -> None:
        [task] = items(line).tasks
        assert (task.title, task.run, task.description) == (title.strip(), run, "")

    def test_on_a_line_further_down_are_text(self) -> None:
        assert items("- a\n\n  {run: x}\n").tasks[0].description == "{run: x}"

    def test_a_line_of_attributes_does_not_end_the_item(self) -> None:
        [task] = items("- a\n  {run: x}\n  text\n  - b\n").tasks
        assert (task.run, task.description, task.children[0].title) == ("x", "text", "b")

    @pytest.mark.parametrize(
        ("text", "where", "message"),
        [
            ("# P\n- a {priority: 11}", (2, 16), "priority must be a whole number from 1 to 10"),
            ("# P\n- a {priorty: 1}", (2, 6), "a task has no field 'priorty'; did you mean 'priority'?"),
            ("# P\n- Explain {foo}", (2, 12), "a task has no field 'foo'"),
            ("# P\n-   [ ]   a {after: [b]}", (2, 22), "'a' waits for 'b', which is not in this plan"),
            ("# P\n- a\n  {priority: x}", (3, 14), "priority must be a whole number"),
            ("# P\n- a {role: x, role: y}", (2, 15), "the name 'role' is there twice"),
            ("# P\n- a {run: [}", (2, 12), "this is not YAML"),
            ("# P\n- a {run: x #}", (2, 5), "this is not YAML"),
            ("# P\n- a {key: a", (2, 5), "attributes begin here, but do not close at the end of the line"),
            ("# P\n- a {key: a} b", (2, 5), "attributes begin here"),
            ("# P\n- a {key: a}.", (2, 5), "attributes begin here"),
            ('# P\n- a {key: "a}', (2, 5), "attributes begin here"),
            ("# P\n- a {children: [{title: b}]}", (2, 6), "a task has no field 'children'"),
            ("# P\n- a {title: b}", (2, 6), "title is said twice"),
            ("# P\n- [ ] a {completed: true}", (2, 10), "completed is said twice"),
            ("# P {key: x}\n- a", (1, 6), "a plan has no field 'key'; did you mean 'plan'?"),
            ("# P {tasks: []}\n- a", (1, 6), "a plan has no field 'tasks'"),
            ("# run\n- a", (1, 3), "the plan name 'run' is reserved"),
            ("# P {plan: Two Words}\n- a", (1, 12), "'Two Words' cannot be the name of a plan"),
            ("- a\n# P", (1, 1), "a task stands before the plan has a name"),
            ("words only", (1, 1), "no heading names the plan"),
            ("# P\n\nwords only", (1, 1), "the plan has no tasks"),
            ("# P\n## A\n- \n", (3, 1), "a task needs a title, found none"),
            ("# P\n- [ ]", (2, 1), "a task needs a title, found none"),
            ("# P\n##\n- a", (2, 1), "a task needs a title, found none"),
            ("# P\n- " + "x" * 256, (2, 3), "a title has at most 255 characters"),
            ("# P\n- a\n  ```\n- b", (3, 3), "a code block begins here and never ends"),
            ("# P\n- a\n<!-- x\n- b", (3, 1), "a comment begins here and never ends"),
            ("# P\n- ```\n  x\n  ```", (2, 3), "a code block stands where a title should"),
            (
                "# P\n- {key: a, title: A}\n  - {key: a, title: B}",
                (3, 11),
                "the key 'a' is there twice, also in line 2",
            ),
            ("# P\n- a {after: b}\n- b {after: a}", (2, 13), "these tasks wait for each other: a -> b -> a"),
            ("# P\n- [x] a\n  - [ ] b", (2, 1), "'a' is marked completed, but its child 'b' (line 3) is not"),
            ("---\nplan: p", (1, 1), "'---' opens front matter that never ends"),
            ("---\nplan: p\nrole: x\n---\n- a", (3, 1), "front matter has no field 'role'"),
            ("---\ntitle: p\n---\n# P\n- a", (4, 3), "title is said twice"),
            ("---\nplan: [\n---\n# P\n- a", (3, 1), "this is not YAML"),
        ],
    )
    def test_mistakes_have_their_place(self, text: str, where: tuple[int, int], message: str) -> None:
        error = refused(text)
        assert message in error.message
        assert error.hint
        line, column = place(error)
        if "not YAML" not in message:
            assert (line, column) == where

    def test_a_title_in_braces_is_told_how_to_stay_one(self) -> None:
        assert r"write \{ if the braces belong to the title" in refused("# P\n- Explain {foo}").hint


# --- writing and reading ----------------------------------------------------------------------------------------------

words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,4}([.][A-Za-z0-9]{1,3})?", fullmatch=True)
#: Texts full of what means something in Markdown or YAML, and any other text.
marked = st.lists(
    st.sampled_from(
        [*"{}\\\"':# \n|>%@`é😀\t\u2028", "{key: a}", "# ", "- ", "* ", "1. ", "[x] ", "```", "~~~", "<!--"]
    )
    | st.sampled_from(["-->", "\n\n", "    ", "---", "===", "word", "null", "&a", "*a", "!!x"]),
    max_size=12,
).map("".join)
any_text = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=40)
texts = (marked | any_text).map(lambda text: UNPRINTABLE.sub("?", text))
titles = texts.map(lambda text: " ".join(text.split())[:255].strip() or "title")
descriptions = texts.map(lambda text: text.replace("\r\n", "\n").replace("\r", "\n").strip())
commands = descriptions.map(lambda text: text or "make")
moments = st.integers(0, 4_000_000_000).map(lambda seconds: seconds * 1000)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
free_data = st.dictionaries(
    texts, st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5), max_size=3
)
gates = (
    st.builds(PlannedGate, st.just(EdgeKind.APPROVAL), st.just("") | titles)
    | st.builds(PlannedGate, st.just(EdgeKind.EXTERNAL), titles)
    | st.builds(PlannedGate, st.just(EdgeKind.TIME), st.just(""), moments)
)
kinds = st.sampled_from([EdgeKind.BLOCKS, EdgeKind.DATA, EdgeKind.SOFT, EdgeKind.ON_FAILURE])
unique_words = st.lists(words, max_size=3, unique=True).map(tuple)

#: Values that a task may have and ``defaults`` may hold.
shared_values: dict[str, st.SearchStrategy[Any]] = {
    "role": st.just("") | words,
    "agent": st.just("") | words,
    "run": st.none() | commands,
    "checks": st.lists(commands, max_size=2, unique=True).map(tuple),
    "priority": st.integers(1, 10),
    "type": words,
    "complexity": st.sampled_from(COMPLEXITIES),
    "effort_min": st.none() | st.floats(0, 1e6) | st.integers(0, 1000),
    "due": st.none() | moments,
    "max_retries": st.none() | st.integers(0, 9),
    "retry_delay": st.none() | st.floats(0, 1000),
    "timeout": st.none() | st.floats(0.001, 1000),
    "needs": unique_words,
    "tags": unique_words,
    "merge": st.sampled_from(["auto", "none"]),
    "setup": st.none() | commands,
    "context": free_data,
    "metadata": free_data,
}


@st.composite
def tasks(draw: st.DrawFn, key: str, earlier: list[str], children: tuple[PlannedTask, ...]) -> PlannedTask:
    waits = draw(st.lists(st.sampled_from([*earlier, "T12"]), max_size=3, unique=True))
    values = {name: draw(value) for name, value in shared_values.items() if draw(st.booleans())}
    return PlannedTask(
        key,
        draw(titles),
        draw(descriptions),
        after=tuple(PlannedWait(other, draw(kinds), draw(st.none() | titles)) for other in waits),
        gates=tuple(draw(st.lists(gates, max_size=2))),
        completed=all(child.completed for child in children) and draw(st.booleans()),
        children=children,
        **values,
    )


@st.composite
def documents(draw: st.DrawFn) -> PlanDocument:
    """Sound plans of up to six tasks in any hierarchy."""
    made: list[PlannedTask] = []
    # A task waits for leaves of earlier trees only, so that there is no cycle.
    finished: list[str] = []
    keys = draw(st.lists(words, min_size=1, max_size=6, unique=True))
    for key in keys:
        below = draw(st.integers(0, len(made)))
        children, made = tuple(made[len(made) - below :]), made[: len(made) - below]
        made.append(draw(tasks(key, finished if not children else [], children)))
        if not below and draw(st.booleans()):
            finished.append(key)
            finished = [one for one in finished if all(one == task.key for task in made[-1:])] if children else finished
    return PlanDocument(
        draw(words.map(lambda word: f"p-{word.lower()}".replace(".lock", ".log"))),
        draw(titles),
        draw(descriptions),
        {name: draw(value) for name, value in shared_values.items() if draw(st.integers(0, 4)) == 0},
        tuple(made),
    )


class TestRendering:
    @settings(max_examples=30)
    @given(documents())
    def test_what_is_written_is_read_back_equal(self, document: PlanDocument) -> None:
        assert read(render(document)) == document

    @settings(max_examples=80)
    @given(titles, descriptions, titles, descriptions)
    def test_hostile_texts_stay_what_they_are(self, title: str, below: str, other: str, further: str) -> None:
        inner = PlannedTask("inner", other, further)
        document = PlanDocument(
            "p",
            other,
            further,
            {},
            (PlannedTask("outer", title, below, children=(inner,)), PlannedTask("last", title, below)),
        )
        assert read(render(document)) == document

    def test_a_plain_plan_looks_like_one(self) -> None:
        assert render(read("# My plan\nWhy.\n- [x] a\n- b {after: a, run: make it}\n  How.\n  - c\n")) == (
            "# My plan\n"
            "\n"
            "Why.\n"
            "\n"
            "- [x] a {key: a}\n"
            '- [ ] b {key: b, run: "make it", after: [a]}\n'
            "  How.\n"
            "  - [ ] c {key: c}\n"
        )

    def test_what_differs_from_the_defaults_is_said(self) -> None:
        text = "# P {defaults: {role: tester, check: [x]}}\n\n- [ ] a {key: a, role: null, check: null}\n"
        assert render(read(text)) == text

    def test_of_a_yaml_plan(self) -> None:
        document = parse("plan: p\ntasks:\n- {title: A, description: '- [ ] no task'}", "a.yaml")
        assert read(render(document)) == document


class TestHostileFiles:
    @pytest.mark.parametrize(
        "line",
        [
            "# " + " " * 200_000 + "x",
            "- a " + "{ " * 100_000 + "}",
            "- a " + "{" * 200_000 + "}",
            "- a {key: '" + "{" * 200_000,
            " " * 200_000 + "- a",
            "- " * 100_000,
            "* " * 100_000,
            "`" * 200_000,
            "=" * 200_000,
            "> " * 100_000,
            "\t" * 100_000 + "x",
            "- a\n" + " " * 200_000 + "- b\n" + " " * 300_000 + "x",
        ],
        ids=range(12),
    )
    def test_long_lines_take_no_square_of_time(self, line: str) -> None:
        before = time.process_time()
        try:
            read(f"# P\n- first\n{line}\n")
        except PlanRefused:
            pass
        finally:
            assert time.process_time() - before < 20

    def test_ten_thousand_tasks_take_seconds(self) -> None:
        text = "# P\n" + "".join(f"- [ ] Task {i} {{key: k{i}, role: tester}}\n" for i in range(10_000))
        before = time.process_time()
        assert sum(1 for _ in read(text).walk()) == 10_000
        assert time.process_time() - before < 40
