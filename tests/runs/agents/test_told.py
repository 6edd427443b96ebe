"""What agents tell is read without trust: whatever the shape, nothing is raised and no number is made up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.runs.agents import told


@pytest.mark.parametrize(
    "line", ["", "x", "7", "[]", '"a"', "NaN", "[" * 100_000, '{"a":' * 50_000, "{", b"\xff\xfe", "null"]
)
def test_what_is_no_object_is_an_empty_one(line: str | bytes) -> None:
    assert told.parsed(line) == {}


def test_an_object_is_one() -> None:
    assert told.parsed('{"a": [1]}') == told.parsed(b'{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "number", "amount"),
    [
        (3, 3, 3.0),
        (-3, 0, 0.0),
        (2.5, 0, 2.5),
        (float("nan"), 0, 0.0),
        (float("inf"), 0, 0.0),
        ("7", 0, 0.0),
        (None, 0, 0.0),
        (10**400, 0, 0.0),
        (2**60, 0, 0.0),
    ],
)
def test_numbers(value: object, number: int, amount: float) -> None:
    assert (told.number(value), told.amount(value)) == (number, amount)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_any_value_has_a_reading(value: Any) -> None:
    assert isinstance(told.mapping(value), dict)
    assert list(told.sequence(value)) == (value if isinstance(value, list) else [])
    assert told.number(value) >= 0
    assert 0 <= told.amount(value) < float("inf")
