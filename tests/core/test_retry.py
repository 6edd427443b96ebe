from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.errors import InvalidInput
from orchestrion.core.retry import FAILURES, delay, failure, is_transient, remedy


def test_the_delay_doubles_from_a_minute_and_stops_at_an_hour():
    assert [delay(n) for n in range(8)] == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_the_base_is_the_callers():
    assert [delay(n, base_s=1, cap_s=5) for n in range(4)] == [1, 2, 4, 5]
    assert delay(50, base_s=0) == 0


def test_jitter_only_adds_and_only_its_share():
    assert delay(1, jitter=0.5, random=lambda: 0.0) == 120
    assert delay(1, jitter=0.5, random=lambda: 0.5) == 150
    assert delay(1, jitter=0.0, random=lambda: 0.9) == 120
    assert delay(1, jitter=0.5) == 120


@given(
    retries=st.integers(0, 10**30),
    base=st.floats(0, 1e12, allow_subnormal=True),
    cap=st.floats(0, 1e12),
    jitter=st.floats(0, 1),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_no_number_of_retries_overflows_or_goes_over_the_cap(retries, base, cap, jitter, draw):
    waited = delay(retries, base, cap, jitter, lambda: draw)
    assert 0 <= waited <= cap * 2
    assert delay(retries, base, cap) <= delay(retries + 1, base, cap) <= cap


@pytest.mark.parametrize(
    "bad", [{"retries": -1}, {"base_s": -1}, {"cap_s": -1}, {"jitter": 1.1}, {"jitter": -0.1}, {"jitter": float("nan")}]
)
def test_impossible_numbers_are_refused(bad):
    with pytest.raises(InvalidInput):
        delay(**{"retries": 0, **bad})


@pytest.mark.parametrize(
    "code",
    ["agent_tempfail", "out_of_memory", "lost", "rate_limited", "network", "workspace_failed", "agent_crashed"],
)
def test_what_lies_outside_the_task_is_retried(code):
    assert is_transient(code)


@pytest.mark.parametrize(
    "code",
    [
        "agent_failed",
        "check_failed",
        "timed_out",
        "stalled",
        "max_turns",
        "auth_failed",
        "lost_repeatedly",
        "killed",
        "no_commit",
    ],
)
def test_a_verdict_or_a_limit_is_final(code):
    assert not is_transient(code)


def test_an_unknown_code_is_refused_with_the_known_ones():
    with pytest.raises(InvalidInput) as caught:
        is_transient("nertwork")
    assert caught.value.code == "unknown_failure_code"
    assert "'nertwork'" in caught.value.message
    assert caught.value.details["allowed"] == sorted(FAILURES)


def test_every_code_has_words_of_its_own():
    assert all(name == entry.code and entry.meaning and entry.remedy for name, entry in FAILURES.items())
    assert len({entry.meaning for entry in FAILURES.values()}) == len(FAILURES)
    assert failure("timed_out") is FAILURES["timed_out"]


def test_a_remedy_names_the_task_and_the_run():
    assert remedy("merge_recheck_failed", "T2", "R3") == (
        "read the evidence with `orchestrion show R3`, then `orchestrion retry T2` to redo it from the new tip"
    )
    assert "TASK" not in "".join(remedy(code, "T2", "R3") or "" for code in FAILURES)
    assert remedy("needs_revision", "T2", "R3") is remedy(None, "T2", None) is None
