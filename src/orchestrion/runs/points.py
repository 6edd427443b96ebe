"""Named points of the settling sequence, at which the failure tests kill.

``reach("merge.swapped")`` does nothing, unless the environment asks for an accident:
``ORCHESTRION_ACCIDENT=merge.swapped`` ends the process there as a power cut would
(SIGKILL); ``ORCHESTRION_ACCIDENT=any:0.05:42`` does so at every point with a chance of
5 %, drawn from seed 42, the process and the point. ``ORCHESTRION_ACCIDENTS`` names a file
that gets a line for each; with it ``merge.swapped:once`` spares whoever comes there next.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

VARIABLE = "ORCHESTRION_ACCIDENT"
DIARY = "ORCHESTRION_ACCIDENTS"

#: Every point there is, in the order in which a run passes them; the last are the worker's with a dead run.
POINTS = (
    "claim.done",
    "launch.introduced",
    "launch.done",
    "supervise.started",
    "prepare.begun",
    "prepare.done",
    "work.started",
    "work.ended",
    "work.committed",
    "quarantine.arrived",
    "quarantine.whole",
    "quarantine.moved",
    "work.published",
    "check.done",
    "merge.queued",
    "merge.begun",
    "merge.merged",
    "merge.rechecked",
    "merge.swapped",
    "merge.done",
    "settle.done",
    "dead.swept",
    "dead.saved",
    "dead.settled",
)


def reach(point: str) -> None:
    """The process is at ``point``; here it may have an accident."""
    wish = os.environ.get(VARIABLE)
    if wish and _due(wish, point):
        _write_down(point)
        os.kill(os.getpid(), signal.SIGKILL)


def _due(wish: str, point: str) -> bool:
    where, _, rest = wish.partition(":")
    if where not in ("any", point):
        return False
    if not rest:
        return True
    if rest == "once":
        return _is_first(point)
    from random import Random

    chance, _, seed = rest.partition(":")
    return Random(f"{seed}/{os.getpid()}/{point}").random() < float(chance)


def _write_down(point: str) -> None:
    diary = os.environ.get(DIARY)
    if diary:
        with Path(diary).open("a", encoding="ascii") as lines:
            lines.write(f"{point}\n")


def _is_first(point: str) -> bool:
    """Whether nobody was here before, be it at the same moment."""
    try:
        os.close(os.open(f"{os.environ[DIARY]}.{point}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
