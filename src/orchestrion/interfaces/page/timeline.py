"""The timeline: one row for each task, one bar for each of its runs, placed in percent of the span shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

#: Spans of time that can be chosen.
SPANS = ("15min", "1h", "6h", "24h", "7d", "30d")
_SECOND = 1000
#: Distances of marks on the axis, in seconds.
_STEPS = (1, 5, 15, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 259_200, 604_800)
_MARKS = 7
#: The narrowest bar that can be seen and met with a finger, in percent.
_LEAST = 0.4


@dataclass(frozen=True)
class Bar:
    """One run."""

    run: Mapping[str, Any]
    #: Where it begins and how long it is, in percent of the span.
    left: float
    width: float
    #: How long it took so far, in seconds.
    took: float


@dataclass(frozen=True)
class Lane:
    """One task with its runs, the first run first."""

    task: str
    title: str
    plan: str
    bars: list[Bar]


@dataclass(frozen=True)
class Mark:
    """One moment of the axis."""

    left: float
    label: str


def lanes(found: Mapping[str, Any]) -> list[Lane]:
    """Rows, the task whose first run began first on top."""
    start, now = _span(found)
    rows: dict[str, list[Bar]] = {}
    first: dict[str, Mapping[str, Any]] = {}
    for run in reversed(found["runs"]):
        first.setdefault(run["task"], run)
        rows.setdefault(run["task"], []).append(_bar(run, start, now))
    return [Lane(task, first[task]["title"], first[task]["plan"], bars) for task, bars in rows.items()]


def axis(found: Mapping[str, Any]) -> list[Mark]:
    """Round moments of the span."""
    start, now = _span(found)
    step = next((s for s in _STEPS if (now - start) / _SECOND / s <= _MARKS), _STEPS[-1]) * _SECOND
    form = "%H:%M:%S" if step < 60 * _SECOND else "%H:%M" if step < 86_400 * _SECOND else "%d %b"
    moments = range((start // step + 1) * step, now + 1, step)
    return [
        Mark(_percent(at - start, now - start), datetime.fromtimestamp(at / _SECOND, UTC).strftime(form))
        for at in moments
    ]


def _span(found: Mapping[str, Any]) -> tuple[int, int]:
    """What is shown: from the first run, if that is later than what was asked for."""
    runs: Sequence[Mapping[str, Any]] = found["runs"]
    asked, now = int(found["since"]), int(found["now"])
    begun = min((run["began_at"] for run in runs), default=asked)
    return max(asked, begun - max(_SECOND, (now - begun) // 50)), now


def _bar(run: Mapping[str, Any], start: int, now: int) -> Bar:
    began, ended = max(start, run["began_at"]), run["ended_at"] or now
    width = max(_LEAST, _percent(ended - began, now - start))
    left = min(_percent(began - start, now - start), 100 - width)
    return Bar(run, left, width, max(0, ended - run["began_at"]) / _SECOND)


def _percent(part: int, whole: int) -> float:
    return round(100 * max(0, part) / max(1, whole), 3)
