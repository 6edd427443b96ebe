"""YAML and JSON as text: what is read, where things stand, and what is refused, hostile files included."""

from __future__ import annotations

import contextlib
import json
import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.errors import PlanRefused
from orchestrion.plans.fields import UNPRINTABLE, Found, plain
from orchestrion.plans.source import parse
from orchestrion.plans.structured import MAX_DEPTH, read_json, read_yaml


def refused(text: str, name: str = "plan.yaml") -> PlanRefused:
    with pytest.raises(PlanRefused) as error:
        parse(text, name)
    return error.value


def place(error: PlanRefused) -> tuple[Any, Any]:
    return error.details["line"], error.details["column"]


@pytest.fixture(params=["libyaml", "pure Python"])
def either_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with PyYAML's reader in C, and with the one it has where libyaml is missing."""
    if request.param == "pure Python":
        monkeypatch.delattr(yaml, "CBaseLoader", raising=False)
    else:
        assert hasattr(yaml, "CBaseLoader"), "this PyYAML was built without libyaml"
    return str(request.param)


@pytest.mark.usefixtures("either_reader")
class TestYaml:
    def test_places_of_values_and_names(self) -> None:
        root = read_yaml("a: 1\nb:\n  - x\n  - {c: ü, d: y}\n")
        assert isinstance(root.value, dict)
        assert root.value["a"] == Found(1, 1, 4, 1, 1)
        items = root.value["b"].value
        assert isinstance(items, list)
        assert items[0] == Found("x", 3, 5)
        assert isinstance(items[1].value, dict)
        assert items[1].value["d"] == Found("y", 4, 15, 4, 12)

    def test_places_in_a_part_of_a_file(self) -> None:
        root = read_yaml("{a: 1,\n b: 2}", 10, 5)
        assert isinstance(root.value, dict)
        assert root.value["a"] == Found(1, 10, 9, 10, 6)
        assert root.value["b"] == Found(2, 11, 5, 11, 2)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("no", "no"),
            ("on", "on"),
            ("true", True),
            ("False", False),
            ("~", None),
            ("null", None),
            ("12", 12),
            ("-12", -12),
            ("1_000", "1_000"),
            ("12:30:00", "12:30:00"),
            ("0x1f", "0x1f"),
            ("1.5", 1.5),
            ("1e3", 1000.0),
            (".5", 0.5),
            (".inf", ".inf"),
            ("-", None),
            ("2026-12-01", "2026-12-01"),
            ("1.2.3", "1.2.3"),
            ("'12'", "12"),
            ('"null"', "null"),
            ("!!str 12", "12"),
            ("! 12", "12"),
            ("|\n  a\n  b\n", "a\nb\n"),
        ],
    )
    def test_scalars(self, text: str, value: object) -> None:
        found = plain(read_yaml(f"x: {text}" if text != "-" else "x:"))["x"]
        assert found == value
        assert type(found) is type(value)

    def test_anchors_and_aliases(self) -> None:
        document = parse(
            "plan: p\ntasks:\n- {title: A, check: &c [x, y], context: {n: &n 5}}\n"
            "- {title: B, check: *c, priority: *n}\n",
            "p.yaml",
        )
        assert document.tasks[1].checks == ("x", "y")
        assert document.tasks[1].priority == 5

    @pytest.mark.parametrize(
        ("text", "where", "message"),
        [
            ("plan: [x\ntasks: 1", (2, 6), "this is not YAML"),
            ("plan: x\n\ttasks: 1", (2, 1), "this is not YAML"),
            ("plan: 'x", (1, 9), "this is not YAML"),
            ("plan: x: y", (1, 8), "this is not YAML"),
            ("plan: x\nplan: y", (2, 1), "the name 'plan' is there twice, also in line 1"),
            ("plan: x\ntasks: [{title: a, title: b}]", (2, 20), "the name 'title' is there twice, also in line 2"),
            ("plan: x\ntasks: []\n---\nplan: y", (3, 1), "a second document begins here"),
            (
                "plan: !!python/object/apply:os.system ['ls']",
                (1, 7),
                "python/object/apply:os.system' is not used in plans",
            ),
            ("plan: !!binary aGk=", (1, 7), "is not used in plans"),
            ("plan: !mine x", (1, 7), "the YAML tag '!mine' is not used in plans"),
            ("plan: !!set {a}", (1, 7), "is not used in plans"),
            ("plan: *x", (1, 7), "*x names nothing"),
            ("plan: &x [*x]", (1, 11), "*x stands inside of &x itself"),
            ("? [a]\n: b", (1, 3), "a list or mapping where the name of a field should be"),
            ("a: &a b\n*a : c", (2, 1), "a list or mapping where the name"),
            ("plan: 1" + "0" * 400, (1, 7), "is too large"),
            ("plan: 1e999", (1, 7), "is too large"),
            ('plan: "a\\x07"', (1, 7), "control character U+0007"),
            ("- plan: x", (1, 1), "a plan must be a mapping, found a list"),
            ("just words", (1, 1), "a plan must be a mapping, found 'just words'"),
            ("# only a comment", (1, 1), "the file is empty"),
            ("--- ~", (1, 5), "a plan must be a mapping, found nothing"),
            ("plan: x\n<<: {a: 1}\ntasks: []", (2, 1), "a plan has no field '<<'"),
            ("plan: x\ntasks: {a: {title: b}}", (2, 8), "tasks must be a list of tasks, found a mapping"),
        ],
    )
    def test_refused_with_line_and_column(self, text: str, where: tuple[int, int], message: str) -> None:
        error = refused(text)
        assert message in error.message
        assert error.hint
        line, column = place(error)
        assert line == where[0]
        # The two readers of PyYAML disagree by a little on where their own complaints begin.
        assert column == where[1] or "not YAML" in message

    def test_what_no_reader_takes_is_refused_too(self) -> None:
        with pytest.raises(PlanRefused, match="this is not YAML"):
            read_yaml("a\0")

    def test_tabs_are_named_as_the_mistake(self) -> None:
        assert "never by tabs" in refused("plan: x\ntasks:\n\t- title: a").hint

    def test_a_bomb_of_aliases_costs_nothing(self) -> None:
        bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        for name, before in zip("bcdefghi", "abcdefgh", strict=True):
            bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
        before_cpu = time.process_time()
        error = refused(bomb)
        assert "aliases copy more than 100000 values" in error.message
        assert time.process_time() - before_cpu < 20

    @pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
    def test_deep_nesting_ends_in_an_error_not_in_a_crash(self, opening: str) -> None:
        before = time.process_time()
        error = refused("plan: x\ntasks:\n  " + opening * 20_000)
        assert f"nested more than {MAX_DEPTH} levels deep" in error.message
        assert place(error)[0] == 3
        assert time.process_time() - before < 20

    def test_many_brackets_before_a_mistake_are_no_nesting(self) -> None:
        assert "this is not YAML" in refused(f"plan: '{'[' * 900}'\n\ttasks: 1").message


class TestJson:
    @pytest.mark.parametrize(
        ("text", "where", "message"),
        [
            ('{"plan": "x",}', (1, 14), "expected a name in double quotes, found '}'"),
            ('{"plan": ["x",]}', (1, 15), "expected a value, found ']'"),
            ('{"plan": "x" "tasks": []}', (1, 14), "expected ',' or '}', found '\"'"),
            ('{"plan"\n "x"}', (2, 2), "expected ':', found '\"'"),
            ("{'plan': 'x'}", (1, 2), 'expected a name in double quotes, found "\'"'),
            ('{"plan": x}', (1, 10), "expected a value, found 'x'"),
            ('{"plan": NaN}', (1, 10), "expected a value, found 'N'"),
            ('{"plan": -Infinity}', (1, 10), "expected a value, found '-'"),
            ('{"plan": 01}', (1, 11), "expected ',' or '}', found '1'"),
            ('{"plan": "x"', (1, 13), "found the end of the file"),
            ('{"plan": "x"} {', (1, 15), "expected the end of the text, found '{'"),
            ('{"plan": "x\n"}', (1, 12), "Invalid control character at"),
            ('{"plan": "\\q"}', (1, 11), "Invalid \\escape"),
            ('{"plan": "\\ud800"}', (1, 10), "control character U+D800"),
            ('{"plan": "\\u0000"}', (1, 10), "control character U+0000"),
            ('{"plan": "x",\n "plan": "y"}', (2, 2), "the name 'plan' is there twice, also in line 1"),
            ('{"plan": "x", "tasks": [{"title": "A", "priority": 11}]}', (1, 52), "priority must be"),
            ('{"plan": "x", "tasks": [\n{"title": "A", "prio": 1}]}', (2, 16), "has no field 'prio'"),
            ("# comment\n{}", (1, 1), "expected a value, found '#'"),
            ("plan: x", (1, 1), "expected a value, found 'p'"),
            ('{"plan": 1' + "0" * 5000 + "}", (1, 10), "is too large"),
            ('{"plan": 1e999}', (1, 10), "is too large"),
            ("[]", (1, 1), "a plan must be a mapping, found a list"),
            ("null", (1, 1), "a plan must be a mapping, found nothing"),
        ],
    )
    def test_refused_with_line_and_column(self, text: str, where: tuple[int, int], message: str) -> None:
        error = refused(text, "plan.json")
        assert message in error.message
        assert place(error) == where
        assert error.hint

    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    def test_deep_nesting_ends_in_an_error_not_in_a_crash(self, opening: str) -> None:
        assert f"nested more than {MAX_DEPTH} levels deep" in refused(opening * 100_000, "plan.json").message

    def test_nothing_is_no_value(self) -> None:
        with pytest.raises(PlanRefused, match="expected a value, found the end of the file"):
            read_json(" ")

    def test_surrogate_pairs_and_slashes_are_text(self) -> None:
        text = '{"plan": "p", "tasks": [{"title": "\\ud83d\\ude00 a\\/b"}]}'
        assert parse(text, "p.json").tasks[0].title == "😀 a/b"

    def test_tabs_are_space(self) -> None:
        assert parse('{\n\t"plan":\t"p",\n\t"tasks": [{"title": "A"}]\n}', "p.JSON").tasks[0].key == "a"


#: Anything that JSON can say and a plan may hold.
printable = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda text: not UNPRINTABLE.search(text)
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | printable,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(printable, inner, max_size=4),
    max_leaves=20,
)


#: Other programs on the machine must not decide whether a test is green.


class TestAgainstOthers:
    @given(values, st.booleans(), st.sampled_from([None, 2, "\t"]))
    def test_json_is_read_like_the_standard_library_does(
        self, value: object, ascii_only: bool, indent: int | str | None
    ) -> None:
        assert plain(read_json(json.dumps(value, ensure_ascii=ascii_only, indent=indent))) == value

    # PyYAML writes YAML 1.1, where 0E0 is text that needs no quotes.
    @given(values.filter(lambda value: not re.search(r"'[-+.]*[0-9][-+.0-9eE]*'", repr(value))))
    def test_yaml_gives_back_what_was_written(self, value: object) -> None:
        written = yaml.safe_dump({"x": value}, allow_unicode=False)
        assert plain(read_yaml(written)) == {"x": value}

    @given(st.text(max_size=200))
    def test_any_text_is_a_plan_or_is_refused(self, text: str) -> None:
        for name in ("a.yaml", "a.json", "a.md", "-"):
            with contextlib.suppress(PlanRefused):
                parse(text, name)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_plan_or_are_refused(self, raw: bytes) -> None:
        with pytest.raises(PlanRefused):
            parse(b"plan: x\ntasks: " + raw, "a.yaml")


class TestSize:
    @pytest.mark.parametrize("name", ["a.yaml", "a.json"])
    def test_ten_thousand_tasks_take_seconds(self, name: str) -> None:
        tasks = [{"key": f"k{i}", "title": f"Task {i}", "after": [f"k{i - 1}"] if i else []} for i in range(10_000)]
        text = json.dumps({"plan": "p", "tasks": tasks})
        before = time.process_time()
        document = parse(text, name)
        assert sum(1 for _ in document.walk()) == 10_000
        assert time.process_time() - before < 40
