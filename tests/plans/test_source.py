"""From bytes to text, and which format a text has."""

from __future__ import annotations

import pytest

from orchestrion.core.errors import PlanRefused
from orchestrion.plans.source import MAX_BYTES, parse

YAML = "plan: p\ntasks:\n- title: A\n"
JSON = '{"plan": "p", "tasks": [{"title": "A"}]}'
MARKDOWN = "# p\n- A\n"


def refused(text: bytes | str, name: str = "p.yaml") -> PlanRefused:
    with pytest.raises(PlanRefused) as error:
        parse(text, name)
    return error.value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", YAML),
        ("some/dir.md/p.yml", YAML),
        ("p.YAML", YAML),
        ("p.json", JSON),
        ("p.md", MARKDOWN),
        ("p.markdown", MARKDOWN),
        ("-", YAML),
        ("-", JSON),
        ("-", MARKDOWN),
        ("/dev/stdin", MARKDOWN),
        ("plan.txt", YAML),
        ("-", "# a comment\nplan: p\ntasks: [{title: A}]"),
        ("-", "---\nplan: p\ntasks: [{title: A}]"),
        ("-", "%YAML 1.2\n---\nplan: p\ntasks: [{title: A}]"),
        ("-", '"plan": p\n"tasks": [{title: A}]'),
        ("-", "\n  " + JSON),
        ("-", "p\n=====\n- A\n"),
        ("-", "---\nplan: p\n---\n\n# P\n- A\n"),
    ],
)
def test_the_format_follows_from_suffix_or_content(name: str, text: str) -> None:
    document = parse(text, name)
    assert (document.name, [task.title for task in document.tasks]) == ("p", ["A"])
    assert parse(text.encode(), name) == document


@pytest.mark.parametrize(("name", "text"), [("p.yaml", YAML), ("p.json", JSON), ("p.md", MARKDOWN)])
def test_a_byte_order_mark_and_foreign_line_ends_are_nothing(name: str, text: str) -> None:
    assert parse(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(), name) == parse(text, name)


def test_the_suffix_wins_over_the_content() -> None:
    assert "this is not JSON" in refused(YAML, "p.json").message


@pytest.mark.parametrize("nothing", [b"", "", "  \n\t\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["p.yaml", "p.json", "p.md", "-"])
def test_an_empty_file_is_refused(nothing: bytes | str, name: str) -> None:
    assert refused(nothing, name).message == "line 1, column 1: the file is empty"


def test_other_encodings_are_refused_at_the_byte() -> None:
    error = refused("plan: p\ntasks: [{title: Ä".encode() + "ö}]".encode("latin-1"))
    assert error.message == "line 2, column 18: the file is not UTF-8: byte 26 is 0xf6"
    assert error.details["byte"] == 26
    assert "not UTF-8: byte 0 is 0xff" in refused("plan: p".encode("utf-16")).message


@pytest.mark.parametrize("sign", ["\0", "\x1b", "\x7f", "\x85", "\x9b", "\ufffe", "\ud800"])
@pytest.mark.parametrize("name", ["p.yaml", "p.json", "p.md"])
def test_control_characters_are_refused(sign: str, name: str) -> None:
    error = refused(f"ok\nab{sign}c", name)
    assert error.message == f"line 2, column 3: the control character U+{ord(sign):04X} stands here"


def test_a_file_that_is_too_large_is_not_even_read() -> None:
    assert "larger than 16 MiB" in refused(b"\xff" * (MAX_BYTES + 1)).message
    assert "larger than 16 MiB" in refused(" " * (MAX_BYTES + 1)).message
