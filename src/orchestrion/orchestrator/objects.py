"""What lies half-written among the objects of the user's repository, and takes room there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrion.core.values import count
from orchestrion.orchestrator.opening import Opening

#: Nobody writes any more to a file that was not written to for so long, in seconds.
_OVER_S = 3600.0
#: So many files are named.
_NAMED = 20


@dataclass(frozen=True)
class HalfWritten:
    """What was begun and not ended."""

    #: What a run of ours that was killed left, and what each takes in bytes.
    ours: Mapping[Path, int]
    #: What some git left that is over: the user's, or that of an older version of ours.
    others: Mapping[Path, int]

    def as_json(self) -> dict[str, Any]:
        """As a finding."""
        return {
            "ours": len(self.ours),
            "our_bytes": sum(self.ours.values()),
            "of_other_gits": len(self.others),
            "their_bytes": sum(self.others.values()),
            "files": [str(one) for one in [*self.ours, *self.others][:_NAMED]],
        }

    def removal(self) -> dict[str, Any]:
        """What is done about ours."""
        return {"did": "removed_half_written", "total": len(self.ours), "bytes": sum(self.ours.values())}

    def advice(self) -> list[str]:
        """What to do about the others, which may be anybody's."""
        if not self.others:
            return []
        size = f"{sum(self.others.values()) / 1_000_000:.1f} MB"
        folders = ", ".join(sorted({str(one.parent / "tmp_*") for one in self.others})[:_NAMED])
        what = f"{count(len(self.others), 'file')} ({size}) that a git began and did not end"
        return [f"{what} can be deleted while no git is at work in the repository: {folders}"]


def half_written(opened: Opening) -> HalfWritten:
    """What there is now."""
    from orchestrion.orchestrator.repository import repository_of
    from orchestrion.runs import quarantine

    git_dir = repository_of(opened).common_dir
    return HalfWritten(quarantine.left_in(git_dir), quarantine.foreign_in(git_dir, time.time() - _OVER_S))


def removed(opened: Opening) -> HalfWritten:
    """Ours, which are gone now."""
    from orchestrion.orchestrator.repository import repository_of
    from orchestrion.runs import quarantine

    git_dir = repository_of(opened).common_dir
    sizes = quarantine.left_in(git_dir)
    return HalfWritten({one: sizes.get(one, 0) for one in quarantine.clear(git_dir)}, {})
