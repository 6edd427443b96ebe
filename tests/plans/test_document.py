"""What a plan means, whatever its format: written here in YAML, for that is the shortest."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.errors import PlanRefused
from orchestrion.core.model import check_plan_name, check_word
from orchestrion.core.states import EdgeKind
from orchestrion.plans.document import MAX_LEVELS, PlanDocument, PlannedTask, slug
from orchestrion.plans.fields import PlannedGate, PlannedWait
from orchestrion.plans.source import parse


def plan(tasks: str, top: str = "") -> PlanDocument:
    """A plan of tasks in YAML's flow style; they begin in line 3."""
    return parse(f"plan: p{top}\ntasks: [\n{tasks}\n]\n", "plan.yaml")


def only(attributes: str) -> PlannedTask:
    """The one task of a plan, with these attributes besides its title."""
    [task] = plan(f"{{title: A, {attributes}}}").tasks
    return task


def refused(tasks: str, top: str = "") -> PlanRefused:
    with pytest.raises(PlanRefused) as error:
        plan(tasks, top)
    return error.value


def place(error: PlanRefused) -> tuple[Any, Any]:
    return error.details["line"], error.details["column"]


def keys(document: PlanDocument) -> list[str]:
    return [task.key for task, _ in document.walk()]


CONTRACT = """\
plan: text-tools
defaults: {agent: command, timeout: 600, max_retries: 1, retry_delay: 60}
tasks:
  - key: slugify
    title: Write slugify()
    description: Lower-case, ASCII, hyphens.
    role: implementer
    run: python tools/write_slugify.py          # agent "command": this is what the agent does
    check: ["python -m pytest -q tests/test_slugify.py"]
    priority: 7
  - key: docs
    title: Document it
    after: [slugify]
    children:
      - title: The guide
        after: {task: slugify, kind: data}
"""


class TestTheWholePlan:
    def test_of_the_contract(self) -> None:
        document = parse(CONTRACT, "plan.yaml")
        shared: dict[str, Any] = {"agent": "command", "timeout": 600, "max_retries": 1, "retry_delay": 60}
        assert document.name == document.title == "text-tools"
        assert document.defaults == shared
        guide = PlannedTask("the-guide", "The guide", after=(PlannedWait("slugify", EdgeKind.DATA),), **shared)
        assert document.tasks == (
            PlannedTask(
                "slugify",
                "Write slugify()",
                "Lower-case, ASCII, hyphens.",
                "implementer",
                run="python tools/write_slugify.py",
                checks=("python -m pytest -q tests/test_slugify.py",),
                priority=7,
                **shared,
            ),
            PlannedTask("docs", "Document it", after=(PlannedWait("slugify"),), children=(guide,), **shared),
        )
        assert [(task.key, parent) for task, parent in document.walk()] == [
            ("slugify", None),
            ("docs", None),
            ("the-guide", "docs"),
        ]
        assert [(task.line, task.column) for task, _ in document.walk()] == [(4, 5), (11, 5), (15, 9)]

    def test_every_field(self) -> None:
        task = only(
            "key: a/b.c, role: tester, agent: claude, run: make, checks: [x, y], priority: 10, type: testing, "
            "complexity: complex, effort_min: 12.5, due: 2026-12-01T08:00:00+01:00, max_retries: 0, retry_delay: 0.5, "
            "timeout: 60, needs: gpu, tags: [t, u, t], merge: none, setup: npm ci, context: {a: [1, {b: null}]}, "
            "metadata: {n: 1.5}, gates: [approval, {until: 2027-01-01}, {external: 'signed off'}], completed: true"
        )
        assert task == PlannedTask(
            "a/b.c",
            "A",
            role="tester",
            agent="claude",
            run="make",
            checks=("x", "y"),
            priority=10,
            type="testing",
            complexity="complex",
            effort_min=12.5,
            due=1796108400000,
            max_retries=0,
            retry_delay=0.5,
            timeout=60,
            needs=("gpu",),
            tags=("t", "u"),
            merge="none",
            setup="npm ci",
            context={"a": [1, {"b": None}]},
            metadata={"n": 1.5},
            gates=(
                PlannedGate(EdgeKind.APPROVAL),
                PlannedGate(EdgeKind.TIME, opens_at=1798761600000),
                PlannedGate(EdgeKind.EXTERNAL, "signed off"),
            ),
            completed=True,
        )

    @pytest.mark.parametrize("gate", ["approval", "[approval]", "{approval: null}", "[{approval: }]"])
    def test_approval_in_every_spelling(self, gate: str) -> None:
        assert only(f"gates: {gate}").gates == (PlannedGate(EdgeKind.APPROVAL),)

    def test_approval_of_something(self) -> None:
        assert only("gates: {approval: Is it good?}").gates == (PlannedGate(EdgeKind.APPROVAL, "Is it good?"),)

    def test_null_is_nothing_said(self) -> None:
        every = "key role agent run check priority type complexity effort_min due max_retries retry_delay timeout needs"
        every += (
            " tags merge setup context metadata after after_failure soft_after gates completed children description"
        )
        assert only(", ".join(f"{name}: null" for name in every.split())) == PlannedTask("a", "A")

    def test_texts_lose_the_space_around_them(self) -> None:
        document = parse(
            "plan: p\ntasks:\n- title: >\n    A long\n    title\n  description: |\n    x\n\n    y\n", "a.yaml"
        )
        assert (document.tasks[0].title, document.tasks[0].description) == ("A long title", "x\n\ny")

    def test_title_and_description_of_the_plan(self) -> None:
        document = plan("{title: A}", "\ntitle: My Plan\ndescription: Why.")
        assert (document.name, document.title, document.description) == ("p", "My Plan", "Why.")

    def test_data_of_one_task_is_not_that_of_another(self) -> None:
        first, second = plan("{title: A}, {title: B}", "\ndefaults: {metadata: {x: 1}}").tasks
        assert first.metadata == second.metadata
        assert first.metadata is not second.metadata


class TestDefaults:
    def test_hold_where_a_task_says_nothing(self) -> None:
        first, second = plan(
            "{title: A}, {title: B, role: tester, check: null}", "\ndefaults: {role: writer, check: x}"
        ).tasks
        assert (first.role, first.checks) == ("writer", ("x",))
        assert (second.role, second.checks) == ("tester", ())

    def test_hold_for_children_too(self) -> None:
        document = plan("{title: A, children: [{title: B}]}", "\ndefaults: {priority: 9}")
        assert [task.priority for task, _ in document.walk()] == [9, 9]

    @pytest.mark.parametrize("name", ["title", "key", "after", "gates", "children", "completed", "description"])
    def test_cannot_hold_what_is_each_tasks_own(self, name: str) -> None:
        error = refused("{title: A}", f"\ndefaults: {{{name}: x}}")
        assert f"defaults cannot hold '{name}'" in error.message
        assert place(error) == (2, 12)

    def test_are_checked_like_any_value(self) -> None:
        assert place(refused("{title: A}", "\ndefaults: {priority: 12}")) == (2, 22)

    def test_must_be_a_mapping(self) -> None:
        assert "defaults must be a mapping, found a list" in refused("{title: A}", "\ndefaults: [x]").message


class TestWrongFields:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("priorty", "priority"),
            ("Priority", "priority"),
            ("max-retries", "max_retries"),
            ("depends_on", "after"),
            ("command", "run"),
            ("name", "title"),
            ("subtasks", "children"),
            ("effort", "effort_min"),
            ("tests", "check"),
        ],
    )
    def test_unknown_ones_are_refused_and_the_nearest_is_named(self, name: str, meant: str) -> None:
        error = refused(f"{{title: A, {name}: x}}")
        assert error.message == f"line 3, column 12: a task has no field '{name}'; did you mean '{meant}'?"
        assert "max_retries" in error.hint

    def test_nothing_is_suggested_that_is_not_near(self) -> None:
        assert refused("{title: A, qqq: x}").message.endswith("has no field 'qqq'")

    def test_of_the_plan(self) -> None:
        assert "a plan has no field 'taks'; did you mean 'tasks'?" in refused("{title: A}", "\ntaks: []").message

    def test_check_and_checks_are_one(self) -> None:
        assert "check and checks are the same field" in refused("{title: A, check: x, checks: y}").message

    @pytest.mark.parametrize(
        ("attributes", "column", "message"),
        [
            ("priority: 0", 22, "priority must be a whole number from 1 to 10, found the number 0"),
            ("priority: 11", 22, "found the number 11"),
            ("priority: 5.5", 22, "found the number 5.5"),
            ("priority: high", 22, "found 'high'"),
            ("priority: true", 22, "found true"),
            ("priority: [1]", 22, "found a list"),
            ("complexity: medium", 24, "complexity must be one of trivial, simple, moderate, complex, very_complex"),
            ("merge: never", 19, "merge must be one of auto, none; found 'never'"),
            ("effort_min: -1", 24, "effort_min must be a number from 0"),
            ("timeout: 0", 21, "timeout must be a number from 0.001"),
            ("max_retries: 1.0", 25, "max_retries must be a whole number"),
            ("due: tomorrow", 17, "'tomorrow' is not a time"),
            ("due: 2026-13-01", 17, "'2026-13-01' is not a time"),
            ("completed: yes", 23, "completed must be true or false, found 'yes'"),
            ("description: 5", 25, "description must be text, found the number 5"),
            ("description: {a: 1}", 25, "description must be text, found a mapping"),
            ("run: ''", 17, "a command cannot be empty"),
            ("check: [x, '']", 23, "a command cannot be empty"),
            ("check: [x, null]", 23, "check must be text, found nothing (null)"),
            ("role: ../../etc/passwd", 18, "'../../etc/passwd' cannot be a role"),
            ("agent: /bin/sh", 19, "'/bin/sh' cannot be an agent"),
            ("key: a/../b", 17, "'a/../b' cannot be a key"),
            ("key: 'a b'", 17, "'a b' cannot be a key"),
            ("key: ''", 17, "'' cannot be a key"),
            ("tags: ['a b']", 19, "'a b' cannot be a tag"),
            ("needs: ['']", 20, "'' cannot be a need"),
            ("metadata: x", 22, "metadata must be a mapping, found 'x'"),
            ("context: [1]", 21, "context must be a mapping, found a list"),
            ("gates: maybe", 19, "a gate must be a mapping, found 'maybe'"),
            ("gates: [{until: 5}]", 28, "until must be text, found the number 5"),
            ("gates: [{untill: x}]", 21, "a gate has no field 'untill'; did you mean 'until'?"),
            ("gates: [{until: x, external: y}]", 20, "a gate is one of approval, until and external, found 2"),
            ("gates: [{external: null}]", 31, "external must be text, found nothing"),
            ("children: x", 22, "children must be a list of tasks, found 'x'"),
            ("children: [x]", 23, "a task must be a mapping, found 'x'"),
        ],
    )
    def test_values_are_refused_with_their_place(self, attributes: str, column: int, message: str) -> None:
        error = refused(f"{{title: A, {attributes}}}")
        assert message in error.message
        assert place(error) == (3, column)
        assert error.hint

    def test_a_near_choice_is_named(self) -> None:
        assert refused("{title: A, complexity: Moderat}").hint == "did you mean 'moderate'?"

    def test_too_many(self) -> None:
        assert refused(f"{{title: A, check: [{', '.join(f'c{i}' for i in range(201))}]}}").code == "too_many"


class TestTitles:
    @pytest.mark.parametrize(
        ("title", "message"),
        [
            ("''", "a task needs a title"),
            ("null", "a task needs a title"),
            ("'   '", "title must not be empty"),
            ("x" * 256, "a title has at most 255 characters, this one has 256"),
            ('"a\\tb"', "title must be one line of text"),
            ('"a\\nb"', "title must be one line of text"),
            ('"a\\u2028b"', "title must be one line of text"),
            ('"a\\x00b"', "control character U+0000"),
            ('"a\\eb"', "control character U+001B"),
            ("[x]", "title must be text, found a list"),
            ("2026", "title must be text, found the number 2026"),
        ],
    )
    def test_that_are_refused(self, title: str, message: str) -> None:
        error = refused(f"{{title: {title}}}")
        assert message in error.message
        assert place(error) == (3, 9)

    def test_that_is_missing(self) -> None:
        error = refused("{key: a}")
        assert "a task needs a title, found none" in error.message
        assert place(error) == (3, 1)

    def test_the_longest(self) -> None:
        [task] = plan(f"{{title: {'ü' * 255}}}").tasks
        assert len(task.title) == 255


class TestPlanNames:
    @pytest.mark.parametrize(
        ("name", "better"),
        [
            ("Text Tools", "text-tools"),
            ("Überblick", "uberblick"),
            ("run", "run-plan"),
            ("a..b", "a-b"),
            ("x.lock", "x-lock"),
            ("x.", "x"),
            ("-x", "x"),
            ("../../evil", "evil"),
            ("a/b", "a-b"),
            ("x" * 65, "x" * 56),
        ],
    )
    def test_that_are_refused_with_one_that_would_work(self, name: str, better: str) -> None:
        with pytest.raises(PlanRefused) as error:
            parse(f"plan: {name}\ntasks: [{{title: A}}]", "p.yaml")
        assert error.value.code == "invalid_plan_name"
        assert place(error.value) == (1, 7)
        assert f"'{better}' would work" in error.value.hint

    def test_that_are_no_text(self) -> None:
        with pytest.raises(PlanRefused, match="plan must be text, found the number 5"):
            parse("plan: 5\ntasks: [{title: A}]", "p.yaml")

    @pytest.mark.parametrize("text", ["tasks: [{title: A}]", "plan:\ntasks: [{title: A}]"])
    def test_there_must_be_one(self, text: str) -> None:
        with pytest.raises(PlanRefused, match="the plan has no name"):
            parse(text, "p.yaml")

    @pytest.mark.parametrize("tasks", ["", "\ntasks:", "\ntasks: []"])
    def test_there_must_be_tasks(self, tasks: str) -> None:
        with pytest.raises(PlanRefused, match="the plan has no tasks"):
            parse(f"plan: p{tasks}\n", "p.yaml")

    @given(st.text(max_size=300))
    def test_a_slug_is_always_a_good_name_and_key(self, title: str) -> None:
        made = slug(title)
        assert made == slug(title)
        check_word("key", made, empty=False)
        if made != "run":
            check_plan_name(made)


class TestKeys:
    def test_come_from_titles_and_stay_the_same(self) -> None:
        tasks = "{title: Write it!}, {title: write  it}, {key: write-it-2, title: X}, {title: Déjà vu}, {title: 日本語}"
        made = keys(plan(tasks))
        assert made == ["write-it", "write-it-3", "write-it-2", "deja-vu", slug("日本語")]
        assert made == keys(plan(tasks))

    def test_said_ones_win_over_made_ones_wherever_they_stand(self) -> None:
        assert keys(plan("{title: a}, {title: b, children: [{key: a, title: c}]}")) == ["a-2", "b", "a"]

    def test_many_equal_titles_take_no_square_of_time(self) -> None:
        before = time.process_time()
        made = keys(plan(",\n".join(["{title: Same}"] * 10_000)))
        assert len(set(made)) == 10_000
        assert time.process_time() - before < 40

    def test_said_twice_are_refused_with_both_lines(self) -> None:
        error = refused("{key: a, title: A},\n{title: B, children: [\n{key: a, title: C}]}")
        assert error.code == "duplicate_key"
        assert error.message == "line 5, column 7: the key 'a' is there twice, also in line 3"
        assert error.details["lines"] == [3, 5]


class TestWaits:
    def test_in_every_spelling(self) -> None:
        assert only("after: T1").after == (PlannedWait("T1"),)
        assert only("after: [T1, T2]").after == (PlannedWait("T1"), PlannedWait("T2"))
        assert only("after: {task: T1, kind: soft}").after == (PlannedWait("T1", EdgeKind.SOFT),)
        assert only("after: [{task: T1, waive: no need}]").after == (PlannedWait("T1", waived="no need"),)
        assert only("after: T1, after_failure: T2, soft_after: [T3]").after == (
            PlannedWait("T1"),
            PlannedWait("T2", EdgeKind.ON_FAILURE),
            PlannedWait("T3", EdgeKind.SOFT),
        )

    def test_know_where_they_stand(self) -> None:
        [wait] = only("after: [T1]").after
        assert (wait.line, wait.column) == (3, 20)

    def test_said_twice_alike_are_one(self) -> None:
        assert only("after: [T1, T1, {task: T1}]").after == (PlannedWait("T1"),)

    def test_said_twice_and_differently_are_refused(self) -> None:
        error = refused("{title: A, after: T1, after_failure: T1}")
        assert "'a' waits for 'T1' twice and differently: blocks (line 3) and on_failure" in error.message

    def test_for_nothing_name_the_nearest(self) -> None:
        error = refused("{title: slugify},\n{title: B, after: [slugfy]}")
        assert error.code == "unknown_task"
        assert error.message == (
            "line 4, column 20: 'b' waits for 'slugfy', which is not in this plan; did you mean 'slugify'?"
        )

    def test_a_key_spelled_like_an_id_is_a_key(self) -> None:
        error = refused("{key: T1, title: A, after: T2}, {key: T2, title: B, after: T1}")
        assert error.details["cycle"] == ["T1", "T2", "T1"]

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ("{kind: soft}", "an entry of after does not say which task"),
            ("{task: T1, kind: hard}", "kind must be one of blocks, data, soft, on_failure; found 'hard'"),
            ("{task: T1, kind: child}", "found 'child'"),
            ("{task: T1, reason: x}", "an entry of after has no field 'reason'"),
            ("{task: T1, waive: ''}", "waive must not be empty"),
            ("[T1]", "after must be text, found a list"),
            ("null", "after must be text, found nothing"),
            ("1", "after must be text, found the number 1"),
            ("T01", "which is not in this plan"),
        ],
    )
    def test_that_are_refused(self, entry: str, message: str) -> None:
        assert message in refused(f"{{title: A, after: [{entry}]}}").message


class TestCycles:
    def test_of_one(self) -> None:
        error = refused("{title: A, after: a}")
        assert error.message == "line 3, column 19: 'a' waits for itself"
        assert error.details["cycle"] == ["a", "a"]

    def test_are_named_whole_and_placed(self) -> None:
        error = refused(
            "{title: A, after: c},\n{title: B, after: [a]},\n{title: C, after: [T5, b]},\n{title: D, after: a}"
        )
        assert error.code == "cycle"
        assert error.details["cycle"] == ["a", "c", "b", "a"]
        assert error.message == "line 3, column 19: these tasks wait for each other: a -> c -> b -> a"

    @pytest.mark.parametrize("kind", ["blocks", "data", "soft", "on_failure"])
    def test_of_every_kind(self, kind: str) -> None:
        assert refused(f"{{title: A, after: {{task: b, kind: {kind}}}}}, {{title: B, after: a}}").code == "cycle"

    @pytest.mark.parametrize(
        ("tasks", "cycle"),
        [
            ("{title: P, children: [{title: C, after: p}]}", {"p", "c"}),
            ("{title: P, after: c, children: [{title: C}]}", {"p", "c"}),
            ("{title: P, after: x, children: [{title: C}]}, {title: X, after: c}", {"p", "x", "c"}),
            ("{title: P, children: [{title: C, after: x}]}, {title: X, after: p}", {"p", "x", "c"}),
            (
                "{title: G, after: x, children: [{title: P, children: [{title: C}]}]}, {title: X, after: c}",
                {"g", "x", "c", "p"},
            ),
            (
                "{title: P, children: [{title: C}, {title: D, after: q}]},"
                "{title: Q, children: [{title: E, after: c}, {title: F, after: p}]}",
                {"p", "d", "q", "f"},
            ),
        ],
    )
    def test_through_parents_and_children(self, tasks: str, cycle: set[str]) -> None:
        error = refused(tasks)
        assert error.code == "cycle"
        assert set(error.details["cycle"]) == cycle
        assert error.details["cycle"][0] == error.details["cycle"][-1]

    def test_siblings_and_cousins_may_wait_for_each_other(self) -> None:
        document = plan(
            "{title: P, children: [{title: A, after: b}, {title: B}]},"
            "{title: Q, after: p, children: [{title: C, after: a}]}"
        )
        assert keys(document) == ["p", "a", "b", "q", "c"]

    def test_a_chain_of_many(self) -> None:
        chain = ",\n".join(f"{{title: t{i}, after: t{i + 1}}}" for i in range(5_000))
        assert len(keys(plan(chain + ",\n{title: t5000}"))) == 5_001
        error = refused(chain + ",\n{title: t5000, after: t0}")
        assert len(error.details["cycle"]) == 5_002


class TestHierarchy:
    def test_as_deep_as_allowed(self) -> None:
        tasks = "{title: bottom}"
        for level in range(MAX_LEVELS - 1):
            tasks = f"{{title: level {level}, children: [{tasks}]}}"
        assert len(keys(plan(tasks))) == MAX_LEVELS
        assert f"more than {MAX_LEVELS} levels deep" in refused(f"{{title: top, children: [{tasks}]}}").message

    def test_a_completed_parent_has_completed_children(self) -> None:
        document = plan("{title: P, completed: true, children: [{title: A, completed: true}]}")
        assert all(task.completed for task, _ in document.walk())
        error = refused("{title: P, completed: true, children: [\n{title: A}]}")
        assert "'p' is marked completed, but its child 'a' (line 4) is not" in error.message
        assert place(error) == (3, 1)

    def test_a_completed_child_says_nothing_of_its_parent(self) -> None:
        assert not plan("{title: P, children: [{title: A, completed: true}]}").tasks[0].completed
