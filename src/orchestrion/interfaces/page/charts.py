"""Series for the charts of the statistics, as the browser draws them: one list per line, times in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: States of a run that count as a failure in the picture.
_FAILED = ("failed", "timed_out", "lost")


def series(trend: Mapping[str, Any]) -> dict[str, Any]:
    """How runs ended, how long they took, and what they cost, over time."""
    pieces: Sequence[Mapping[str, Any]] = trend["pieces"]
    at = [moment // 1000 for moment in trend["at"]]
    return {
        "runs": {
            "kind": "bars",
            "unit": "runs",
            "labels": ["succeeded", "failed"],
            "data": [at, [_ended(p, "succeeded") for p in pieces], [_ended(p, *_FAILED) for p in pieces]],
        },
        "duration": {
            "kind": "lines",
            "unit": "s",
            "labels": ["p50", "p95"],
            "data": [at, [p["duration_s"]["p50"] for p in pieces], [p["duration_s"]["p95"] for p in pieces]],
        },
        "cost": {"kind": "bars", "unit": "$", "labels": ["cost"], "data": [at, [p["cost_usd"] or 0 for p in pieces]]},
    }


def _ended(piece: Mapping[str, Any], *states: str) -> int:
    return sum(piece["states"].get(state, 0) for state in states)


def widest(rows: Sequence[Mapping[str, Any]]) -> int:
    """The most runs of a group: what the longest bar of a table stands for."""
    return max((int(row["runs"]) for row in rows), default=0)
