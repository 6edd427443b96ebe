"""JSON edited where it stands: nothing but the part meant changes, and it comes out again to the byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.ops.setup import jsonc
from orchestrion.ops.setup.broken import Broken

PATH = ("mcpServers", "orchestrion")
OURS = {"command": "/opt/orchestrion", "args": ["mcp"]}

#: Files as people and programs write them, in which there is a place for servers.
FILES = {
    "other servers": '{\n  "mcpServers": {\n    "a": {"command": "a"},\n    "b": {\n      "x": 1\n    }\n  }\n}\n',
    "settings behind": '{\n\t"mcpServers": {\n\t\t"a": {}\n\t},\n\t"theme": "dark"\n}',
    "comments": (
        '// mine\n{\n  "mcpServers": { // servers\n    "a": {}, // first\n    /* two */ "b": {} // last\n  }\n}\n'
    ),
    "a comma at the end": '{\n  "mcpServers": {\n    "a": {}, // one\n  },\n}\n',
    "windows": '{\r\n    "mcpServers": {\r\n        "a": {}\r\n    }\r\n}\r\n',
    "one line": '{"mcpServers":{"a":{"command":"a"}},"x":1}',
    "one line, loose": '{ "mcpServers": { "a": {}, "b": {} } }\n',
    "one line, comma": '{ "mcpServers": { "a": {}, } }\n',
    "twice": '{\n  "mcpServers": {},\n  "mcpServers": {\n    "a": {}\n  }\n}\n',
    "own lines": '{\n  "mcpServers": {\n    "a": {}\n    // behind\n  }\n}\n',
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_in_and_out_again(text: str) -> None:
    changed = jsonc.put(text, PATH, OURS)
    assert jsonc.get(changed, PATH) == OURS
    assert jsonc.get(changed, ("mcpServers", "a")) == jsonc.get(text, ("mcpServers", "a"))
    assert ("\r\n" in changed) == ("\r\n" in text)
    assert "\n" not in changed.replace("\r\n", "") or "\r\n" not in text
    rest = iter(changed)
    assert all(sign in rest for sign in text), "something was taken away"
    assert jsonc.take_out(changed, PATH) == text


def test_a_comment_stays_with_its_line() -> None:
    changed = jsonc.put(FILES["comments"], PATH, 1)
    assert changed == (
        '// mine\n{\n  "mcpServers": { // servers\n    "a": {}, // first\n    /* two */ "b": {}, // last\n'
        '    "orchestrion": 1\n  }\n}\n'
    )


def test_what_is_not_there_is_made_in_the_layout_of_the_file() -> None:
    assert jsonc.put("", PATH, {"a": 1}) == (
        '{\n  "mcpServers": {\n    "orchestrion": {\n      "a": 1\n    }\n  }\n}\n'
    )
    assert jsonc.put("{}", ("x",), 1) == '{\n  "x": 1\n}'
    assert jsonc.put('{\n\t"x": 1\n}', ("y", "z"), 2) == '{\n\t"x": 1,\n\t"y": {\n\t\t"z": 2\n\t}\n}'
    assert jsonc.put('{\r\n "x": {}\r\n}', ("x", "z"), 2) == '{\r\n "x": {\r\n  "z": 2\r\n }\r\n}'
    assert jsonc.put("{ // nothing yet\n}", ("x",), 1) == '{ // nothing yet\n  "x": 1\n}'


def test_a_value_is_replaced_where_it_stands() -> None:
    text = '{\n  "a": 1, // one\n  "b": {"c": [1, 2]}\n}'
    assert jsonc.put(text, ("a",), "ä") == text.replace("1,", '"ä",', 1)
    assert jsonc.put(text, ("b", "c", 1), 3) == text.replace("2]", "3]")


def test_elements_of_a_list() -> None:
    text = '{\n  "a": [\n    1\n  ]\n}'
    assert jsonc.append(text, ("a",), 2) == '{\n  "a": [\n    1,\n    2\n  ]\n}'
    assert jsonc.take_out(jsonc.append(text, ("a",), 2), ("a", 1)) == text
    assert jsonc.append("{}", ("a", "b"), 1) == '{\n  "a": {\n    "b": [\n      1\n    ]\n  }\n}'
    assert jsonc.take_out('{"a": [1, 2, 3]}', ("a", 0)) == '{"a": [2, 3]}'
    assert jsonc.take_out('{"a": [1]}', ("a", 0)) == '{"a": []}'
    assert jsonc.take_out(text, ("a", 5)) == text


def test_what_is_not_there_cannot_be_taken_out() -> None:
    assert jsonc.take_out('{"a": 1}', ("b", "c")) == '{"a": 1}'
    assert jsonc.take_out("", ("b",)) == ""


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ('{\n  "a": 1\n  "b": 2\n}', 3, 3, "comma"),
        ('{\n  "a": tru\n}', 2, 8, "value"),
        ('{"a": 1} x', 1, 10, "behind the end"),
        ('{\n "a"', 2, 5, "colon"),
        ('{\n a: 1}', 2, 2, "name in quotes"),
        ('{"a": "x\ny"}', 1, 9, "control character"),
        ('{"a": 1', 1, 8, "the end"),
        ('{"a": 01}', 1, 8, "comma"),
        ("[" * 100_000, 1, 202, "deep"),
        ('{"mcpServers": []}', 1, 16, "must be an object, and is a list"),
        ("[]", 1, 1, "the file must be an object"),
        ('{"a": /* 1}', 1, 7, "value"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_place(text: str, line: int, column: int, problem: str) -> None:
    with pytest.raises(Broken) as found:
        jsonc.put(text, PATH, OURS)
    assert (found.value.line, found.value.column) == (line, column)
    assert problem in found.value.problem


@pytest.mark.parametrize(
    ("text", "column", "problem"), [('{"a": 1} // x', 10, "a comment"), ('{"a": 1, }', 8, "a comma behind")]
)
def test_some_programs_read_no_comments(text: str, column: int, problem: str) -> None:
    jsonc.parse(text)
    with pytest.raises(Broken, match=problem) as found:
        jsonc.parse(text, comments=False)
    assert found.value.column == column


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), values, max_size=5), st.sampled_from([None, 2, "\t"]), st.booleans())
def test_whatever_python_writes_is_read_and_edited(
    document: dict[str, object], indent: int | str | None, plain: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=plain)
    assert jsonc.parse(text, comments=False).value == document
    changed = jsonc.put(text, ("new key", "x"), [1], comments=False) if "new key" not in document else text
    assert json.loads(changed) == {"new key": {"x": [1]}, **document}
    if document and "new key" not in document:
        assert jsonc.take_out(changed, ("new key",), comments=False) == text
