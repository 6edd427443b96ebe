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


def start_of(tip: PlanTip, plan: Mapping[str, Any]) -> Start:
    """The commit from which a run of ``plan`` (its row) starts. Raises NotFound (``no_commit``)."""
    found = tip.read()
    if found is None:
        return Start(tip.create(_beginning(tip.git, plan)), is_new=True)
    if plan["landed_commit"] == found:
        begins = _beginning(tip.git, plan)
        if begins != found and tip.move(begins, found):
            tip.follow()
            return Start(begins, is_new=True)
    return Start(tip.get(), is_new=False)


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
