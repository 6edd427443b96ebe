"""Where the runs of a plan start from: where it began, until it has work of its own.

A plan begins at the branch on which its first task was given. Its first run starts from where
that branch is then; later ones from the plan's tip. A plan of which everything was landed
begins anew with its next task: from where its branch is then, since what the user did
meanwhile belongs to what agents build on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orchestrion.core.errors import NotFound
from orchestrion.runs.git import Git
from orchestrion.runs.plan_tip import PlanTip


class Start(NamedTuple):
    """A commit from which a run starts."""

    commit: str
    #: Whether the plan began with it just now.
    is_new: bool
    #: The commit up to which the plan was found to be on its branch; None: it is not, or that was known.
    landed: str | None = None


def start_of(tip: PlanTip, plan: Mapping[str, Any]) -> Start:
    """The commit from which a run of ``plan`` (its row) starts. Raises NotFound (``no_commit``)."""
    found = tip.read()
    if found is None:
        return Start(tip.create(_beginning(tip.git, plan)), is_new=True)
    begins = _beginning(tip.git, plan)
    if _is_stale(tip, plan, found, begins):
        # Of a store that was lost: this plan has no work yet, whatever one of its name had.
        tip.git.swap_ref(f"refs/orchestrion/kept/plans/{plan['name']}/{found[:12]}", found, None)
        tip.move(begins, found)
        tip.follow()
        return Start(tip.get(), is_new=True)
    is_landed = plan["landed_commit"] == found
    # Merged by hand, or by a pull request: whoever builds on it builds on what the user did meanwhile.
    is_contained = begins != found and tip.git.is_ancestor(found, begins)
    if begins != found and (is_landed or is_contained) and tip.move(begins, found):
        tip.follow()
        has_work = found != plan["began_commit"] and not is_landed
        return Start(begins, is_new=True, landed=found if has_work else None)
    return Start(found, is_new=False)


def _is_stale(tip: PlanTip, plan: Mapping[str, Any], found: str, begins: str) -> bool:
    """Whether the plan is somewhere though no run of it has begun; version 0.1.0 wrote down neither."""
    never_begun = plan["tip"] is None and plan["began_commit"] is not None
    return never_begun and not tip.git.is_ancestor(found, begins)


def _beginning(git: Git, plan: Mapping[str, Any]) -> str:
    branch, commit, checkout = plan["began_branch"], plan["began_commit"], plan["began_checkout"]
    found = git.tip(f"refs/heads/{branch}") if branch else None
    found = found or (git.tip(commit) if commit else None)
    if found is None and checkout and Path(checkout).is_dir():
        found = Git(Path(checkout)).tip("HEAD")
    found = found or git.tip("HEAD")
    if found is None:
        raise NotFound(
            f"there is no commit for plan {plan['name']} to begin at",
            hint="a repository needs a first commit before agents can work on it",
            code="no_commit",
        )
    return found
