"""Named points of the settling sequence, at which the failure tests kill.

``reach("merge.swapped")`` does nothing, unless the environment asks for an accident:
``ORCHESTRION_ACCIDENT=merge.swapped`` ends the process there as a power cut would
(SIGKILL); ``ORCHESTRION_ACCIDENT=any:0.05:42`` does so at every point with a chance of
5 %, drawn from seed 42, the process and the point.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "ORCHESTRION_ACCIDENT"

#: Every point there is, in the order in which a run passes them.
POINTS = (
    "claim.done",
    "launch.done",
    "supervise.started",
    "prepare.done",
    "work.started",
    "work.ended",
    "work.committed",
    "work.published",
    "check.done",
    "merge.begun",
    "merge.merged",
    "merge.rechecked",
    "merge.swapped",
    "settle.done",
)


def reach(point: str) -> None:
    """The process is at ``point``; here it may have an accident."""
    wish = os.environ.get(VARIABLE)
    if wish and _due(wish, point):
        os.kill(os.getpid(), signal.SIGKILL)


def _due(wish: str, point: str) -> bool:
    where, _, rest = wish.partition(":")
    if where not in ("any", point):
        return False
    if not rest:
        return True
    from random import Random

    chance, _, seed = rest.partition(":")
    return Random(f"{seed}/{os.getpid()}/{point}").random() < float(chance)
