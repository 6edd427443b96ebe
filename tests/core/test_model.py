"""Values of tasks and runs that more than one door shows."""

from __future__ import annotations

import pytest

from orchestrion.core.model import TOKENS, all_tokens


@pytest.mark.parametrize(
    ("used", "together"),
    [
        ((None, None, None, None), None),
        ((0, None, None, 0), 0),
        ((5, None, None, None), 5),
        ((None, None, None, 7), 7),
        ((5, 7, 1_000, 200), 1_212),
    ],
)
def test_tokens_of_every_kind_count_together_and_unknown_ones_are_no_zero(
    used: tuple[int | None, ...], together: int | None
) -> None:
    assert all_tokens(dict(zip(TOKENS, used, strict=True))) == together
