from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrion.core.documents import MOST_BYTES, MOST_DEPTH, Document, read_yaml
from orchestrion.core.errors import InvalidInput


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.yaml"


def read(file: Path) -> Document | None:
    return read_yaml(file, "some.yaml", "invalid_some")


def refusal(file: Path) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read(file)
    assert caught.value.code == "invalid_some"
    assert caught.value.message.startswith("some.yaml")
    return caught.value


def test_values_come_with_the_lines_of_their_keys(file):
    file.write_text("a: 1\nb:\n  c: [x, y]\n  d:\n    - e: 2\n")
    document = read(file)
    assert document is not None
    assert document.value == {"a": 1, "b": {"c": ["x", "y"], "d": [{"e": 2}]}}
    assert document.lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "d"): 4, ("b", "d", "0", "e"): 5}


def test_a_missing_file_is_none_and_an_empty_one_holds_nothing(file):
    assert read(file) is None
    assert read(file / "below") is None
    for nothing in ("", "\n \n", "# a\n  # b: 1\n", "---\n...\n", "\ufeff"):
        file.write_text(nothing, encoding="utf-8")
        assert read(file) == Document(None, {})


def test_a_byte_order_mark_is_no_key(file):
    file.write_bytes(b"\xef\xbb\xbfa: 1")
    document = read(file)
    assert document is not None
    assert document.value == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: 1\nb: [1, 2\n", 3, 1),
        ("a: 1\n\tb: 2\n", 2, 1),
        ("a: 1\nb: c: d\n", 2, 5),
        ("a: 1\n--- \nb: 2\n", 2, 1),
        ("a: 1\nb: 2\na: 3\n", 3, 1),
        ("a:\n  x: 1\n  x: 2\n", 3, 3),
        ("a: 1\n2: x\n", 2, 1),
        ("on: 1\n", 1, 1),
        ("? [a, b]\n: 1\n", 1, 3),
        ("a: 1\nb: x\x01y\n", 2, 5),
        ("a: *nowhere\n", 1, 4),
        ("a: &a {x: 1}\nb: {<<: *a}\n", 2, 5),
        ("a: !!python/object/apply:os.system [id]\n", 1, 4),
    ],
)
def test_broken_yaml_is_refused_with_line_and_column(file, text, line, column):
    file.write_text(text)
    error = refusal(file)
    assert (error.details["line"], error.details["column"]) == (line, column)
    assert f"some.yaml:{line}:{column}: " in error.message


def test_text_that_is_not_utf8_is_refused_with_its_line(file):
    file.write_bytes(b"a: 1\nb: \xff\xfe\n")
    assert refusal(file).details["line"] == 2


@pytest.mark.parametrize("text", ["[" * 50_000, "- " * 20_000, "{a: " * 50_000])
def test_deep_nesting_is_refused_not_a_crash(file, text):
    file.write_text(text)
    assert "deeply" in refusal(file).message


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}"), ("- ", "")])
def test_the_first_level_that_is_too_deep_is_refused_with_its_place(file, opening, closing):
    file.write_text(opening * MOST_DEPTH + "x" + closing * MOST_DEPTH)
    assert read(file) is not None
    file.write_text(opening * (MOST_DEPTH + 1) + "x" + closing * (MOST_DEPTH + 1))
    column = len(opening) * MOST_DEPTH + 1
    assert refusal(file).message == (
        f"some.yaml:1:{column}: broken YAML: it nests too deeply, more than {MOST_DEPTH} levels"
    )


def test_a_date_that_is_none_is_refused(file):
    file.write_text("a: 2026-99-99\n")
    refusal(file)


def test_aliases_upon_aliases_cost_no_time(file):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    file.write_text(bomb)
    started = time.monotonic()
    assert read(file) is not None
    assert time.monotonic() - started < 5


def test_what_is_not_a_readable_file_is_refused(file, tmp_path):
    file.mkdir()
    assert "not a file" in refusal(file).message
    file.rmdir()
    os.mkfifo(file)
    assert "not a file" in refusal(file).message
    file.unlink()
    file.symlink_to(file)
    refusal(file)
    file.unlink()
    file.write_bytes(b"#" * (MOST_BYTES + 1))
    assert f"{MOST_BYTES + 1:,}" in refusal(file).message
    refusal(tmp_path / "a\0b")
