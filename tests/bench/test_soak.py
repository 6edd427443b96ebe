"""The judgement of a soak; how long one takes is no matter for tests."""

from __future__ import annotations

import pytest
from bench.soak import READERS, Sample, Seen, judge

from bench import report


def seen(growth: float = 0.0, server: float = 90.0, supervisor: float = 20.0, completed: int = 1000) -> Seen:
    """Two hours; in the first half everything grows, in the second by ``growth`` MB an hour."""
    hours = [step / 100 for step in range(200)]
    samples = [Sample(hour, {"server": server - 2 + min(hour, 1.0) + max(0, hour - 1) * growth}) for hour in hours]
    return Seen(samples, {(1, 0.0): supervisor}, completed=completed)


def missed(found: Seen, dialect: str = "sqlite") -> list[str]:
    """What is judged as not met."""
    return [verdict.what for verdict in judge(found, dialect, 2.0) if not verdict.met]


def test_what_settled_in_the_first_half_passes() -> None:
    assert missed(seen()) == []
    assert missed(seen(growth=0.9)) == []


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (seen(growth=1.1), "server: slope over the second half"),
        (seen(server=102.0), f"server with {READERS} readers: the most"),
        (seen(supervisor=26.0), "1 supervisors: the most of any"),
        (seen(completed=10), "tasks completed"),
    ],
)
def test_each_promise_that_is_broken_fails_the_soak(found: Seen, what: str) -> None:
    assert missed(found) == [what]


def test_a_failed_request_fails_the_soak_and_postgres_has_its_own_bound() -> None:
    found = seen(supervisor=30.0)
    assert missed(found, "postgres") == []
    found.failures.append("GET / was not answered")
    assert missed(found, "postgres") == ["requests that failed"]


def test_the_page_shows_the_judgement_and_the_curve() -> None:
    found = {
        "hours": 2.0,
        "date": "2026-11-30",
        "verdicts": [{"what": "server: slope", "value": 0.25, "unit": "MB/h", "target": 1.0, "at_least": False}],
        "curve": [{"hours": 0.5, "server": 80.0}, {"hours": 1.5, "server": 80.5}],
    }
    text = report.page([], report.Machine({}), "2026-11-30", {"sqlite": found})
    assert "- server: slope: 0.25 MB/h (at most 1)\n" in text
    found["verdicts"] = [{"what": "server: slope", "value": 1.4, "unit": "MB/h", "target": 1.0, "at_least": False}]
    missed_it = report.page([], report.Machine({}), "2026-11-30", {"sqlite": found})
    assert "- server: slope: 1.40 MB/h (at most 1): **not met**" in missed_it
    assert "| 1.50 | 80.50 |" in text
