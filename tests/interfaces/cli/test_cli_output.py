"""What is printed can be read, parsed and does nothing to a terminal."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.interfaces.cli import output

HOSTILE = "a\x1b[2Jb\x07c\rd\u202ee\x9b31mf\u2028g\x00h\x7f"


def test_hostile_text_is_written_out() -> None:
    assert output.plain(HOSTILE) == r"a\x1b[2Jb\x07c d\u202ee\x9b31mf\u2028g\x00h\x7f"
    assert output.plain("two\nlines\tand") == "two lines and"
    assert output.block("two\r\nlines\tand\x1b") == "two\nlines\tand\\x1b"


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("Überschrift ✓ 日本 👩‍💻", "a\u00a0b", "نص", ""):
        assert output.plain(text) == text
        assert output.block(text) == text


def test_colours_of_agents_are_left_out() -> None:
    assert output.block("\x1b[32mPASSED\x1b[0m\n\x1b[1;31mno\x1b[m") == "PASSED\nno"


def test_what_a_carriage_return_would_hide_is_shown() -> None:
    assert output.block("kept\nsecret\rharmless\r\n") == "kept\nsecret\\x0dharmless\n"
    assert output.written("kept\n 10 %\r100 %\r\n") == "kept\n100 % (writing 2 of this line; --json has all)\n"
    assert output.written("secret\rharm\x1b[0mless").startswith("harmless (writing 2 of this line")


@given(st.text(st.characters()))
def test_no_text_can_command_a_terminal(text: str) -> None:
    for shown in (
        output.plain(text),
        *(say(text).replace("\n", "").replace("\t", "") for say in (output.block, output.written)),
    ):
        bad = [
            c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\u200c\u200d"
        ]
        assert bad == []


@given(st.text(st.characters()))
def test_json_says_the_same_and_commands_nothing(text: str) -> None:
    shown = output.as_json({"text": text})
    assert json.loads(shown) == {"text": text}
    assert all(c >= " " and not "\x7f" <= c <= "\x9f" and not "\u202a" <= c <= "\u202e" for c in shown)


def test_json_for_a_stream_without_unicode_is_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert output.as_json("✓") == '"\\u2713"'


def test_a_stream_that_cannot_show_a_sign_shows_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.prepare_streams()
    output.lines(["✓ T1 → é 日 \udcff 👩"])
    sys.stdout.flush()
    assert raw.getvalue() == b"+ T1 -> \\xe9 \\u65e5 \\udcff \\U0001f469\n"


def test_columns_stand_under_each_other() -> None:
    rows = [("T1", "ready", "5", "first"), ("T12", "日本", "10", "second")]
    assert list(output.table(rows, right=(2,))) == ["T1   ready   5  first", "T12  日本   10  second"]
    assert list(output.table([])) == []


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [
        ("short", 10, "short"),
        ("a longer one", 8, "a longe…"),
        ("日本語の", 5, "日本…"),
        ("\x1b[31mred text\x1b[0m", 4, "\x1b[31mred…\x1b[0m"),
    ],
)
def test_shortening(text: str, room: int, shown: str) -> None:
    assert output.shorten(text, room) == shown
    assert output.width(shown) <= room


@pytest.mark.parametrize(
    ("value", "said"), [(None, ""), (0, "0.0 s"), (1.23, "1.2 s"), (61, "1 min 1 s"), (3 * 3600 + 61, "3 h 1 min")]
)
def test_durations(value: float | None, said: str) -> None:
    assert output.seconds(value) == said


def test_colours_only_where_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.paint("x", "red", stream=Terminal()) == "\x1b[31mx\x1b[0m"
    assert output.paint("x", "red", stream=io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.paint("x", "red", stream=Terminal()) == "x"


def test_a_text_of_several_lines_is_one_line_without_escapes_where_one_is_shown() -> None:
    assert output.plain("1 check failed\n\n```\n  E assert\tFalse\r\n```") == "1 check failed ``` E assert False ```"
    shown = output.written("building\n 10 %\r 60 %\r100 %\r\nbuilt\r\n")
    assert shown == "building\n100 % (writing 3 of this line; --json has all)\nbuilt\n"
