"""A plan at a remote: its own branch there, and what goes before the user's.

The plan's own branch is pushed first: that alone shows whether pushing is allowed, and it can
be taken back. What others committed to it meanwhile, as reviewers of a pull request do, is
merged into the plan and checked; what they took away is not put back without a word.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from orchestrion.core.errors import Conflict, EnvironmentProblem
from orchestrion.runs.landing import Checkout, Joining
from orchestrion.runs.landing_notes import commits, others_by_hand
from orchestrion.runs.merge import Merger, Recheck
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.remotes import Remote, Remotes
from orchestrion.runs.workspace.drivers import drivers_used
from orchestrion.runs.workspace.project_repository import ProjectRepository

_NOTHING_MOVED = "nothing has moved"
_LANDED = "the plan has landed, but your branch was not pushed"


@dataclass(frozen=True)
class PlanPush:
    """Pushes one plan from one checkout."""

    project: ProjectRepository
    checkout: Checkout
    remotes: Remotes
    tip: PlanTip
    #: The plan's own branch at the remote.
    own: Remote
    #: The branch there that its work is for, and the commit that this is at; None: there is none yet.
    target: Remote
    at_target: str | None

    @property
    def is_there(self) -> bool:
        """Whether the target has all of the plan."""
        return self.at_target is not None and self.remotes.has(self.target, self.at_target, self.tip.get())

    def take_in(self, merger: Merger, joining: Joining, recheck: Recheck | None) -> list[str]:
        """Merges into the plan what others committed to its branch there; what is to be told of it.

        Raises Conflict (``remote_moved``): they do not go together, or work of the plan was taken away there.
        """
        there = self.remotes.commit_at(self.own)
        if there is None:
            return []
        pushed = self._pushed(there)
        if pushed is None:
            self.remotes.fetch(self.own, there)
            it_is = self.remotes.git.typed("update-ref", self._record, there)
            raise Conflict(
                f"{self.own.place} is there already, and was not pushed from here; nothing has moved",
                hint="if that is another plan, give yours another name or have theirs landed first; if it is this one, "
                f"`{it_is}` says so, then land again: it is taken in and checked",
                code="plan_branch_taken",
            )
        theirs = self.remotes.others_work(self.own, there, self.tip.get(), pushed)
        if theirs is None:
            return []
        count = commits(int(self.remotes.git.run("rev-list", "--count", theirs, f"^{self.tip.get()}").stdout))
        try:
            merger.merge(self.tip.plan, replace(joining(self.own.place, theirs), is_checked=False), recheck)
        except Conflict as refused:
            if refused.code not in ("merge_conflict", "merge_recheck_failed"):
                raise
            raise Conflict(
                f"{self.own.place} has {count} that the plan lacks, and they do not go together: {refused.message}",
                hint=others_by_hand(self.checkout, self.tip, theirs, self.own),
                code="remote_moved",
            ) from refused
        return [f"merged into the plan: {count} that {self.own.place} had"]

    def push(self, commit: str) -> None:
        """Pushes the plan's own branch, which is ours or not there.

        Raises EnvironmentProblem (``push_refused``, ``submodule_not_pushed``).
        """
        self.remotes.refuse_unpushed_submodules(self.own, commit, self.at_target, _NOTHING_MOVED)
        if self._has_large_files(commit):
            self.remotes.push_large_files(self.own, commit, _NOTHING_MOVED)
        # Written down first: whoever is ended in the middle leaves a git that pushes on.
        before = self.project.git.tip(self._record)
        self.project.git.run("update-ref", self._record, commit)
        try:
            self.remotes.push(self.own, commit, _NOTHING_MOVED)
        except EnvironmentProblem:
            self.project.git.run("update-ref", *((self._record, before) if before else ("-d", self._record)))
            raise

    def take_back(self) -> None:
        """Takes the plan's own branch away again, if it is as we pushed it."""
        if pushed := self.project.git.tip(self._record):
            self.remotes.take_back(self.own, pushed)
            self.project.git.run("update-ref", "-d", self._record)

    def push_target(self, commit: str, *, keeps_own: bool) -> None:
        """Pushes the user's branch, on which the plan has landed; its own goes then, unless it is ``keeps_own``."""
        self.remotes.refuse_unpushed_submodules(self.target, commit, self.at_target, _LANDED)
        if self._has_large_files(commit):
            self.remotes.push_large_files(self.target, commit, _LANDED)
        try:
            self.remotes.push(self.target, commit, _LANDED)
        except EnvironmentProblem as refused:
            there = self.remotes.commit_at(self.target)
            here = f"orchestrion -C {shlex.quote(str(self.checkout.folder))} land {self.tip.plan}"
            if there and there != self.at_target:
                refused.hint = f"it moved meanwhile: `{self.remotes.pull(self.target)}`, then `{here} --push`"
            else:
                refused.hint += f"; or have it reviewed: `{here} --pr`"
            raise
        if not keeps_own:
            self.take_back()

    @property
    def _record(self) -> str:
        """The ref that remembers what we pushed: a branch of that name may be somebody else's."""
        return f"refs/orchestrion/pushed/{self.own.place}"

    def _pushed(self, there: str) -> str | None:
        """What we pushed to the plan's branch, which is at ``there`` now; None: it is not ours, or not any more.

        When the target has what we pushed, as after a pull request, the name is free for others: then what is there
        must be known.
        """
        git, record = self.project.git, self.project.git.tip(self._record)
        if record == there:
            return record
        is_known = git.tip(there) is not None and git.is_ancestor(there, self.tip.get())
        if record is None:  # pushed by hand, it has work of the plan
            is_theirs = self.at_target is not None and self.remotes.has(self.target, self.at_target, there)
            return there if is_known and not is_theirs else None
        is_spent = self.at_target is not None and self.remotes.has(self.target, self.at_target, record)
        return record if is_known or not is_spent else None

    def _has_large_files(self, commit: str) -> bool:
        return "lfs" in self.project.handed_on.filters and ("filter", "lfs") in drivers_used(self.project, commit)
