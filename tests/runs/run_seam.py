"""What a supervisor does with a workspace, in the words of the tests: prepare, collect, publish, remove."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrion.runs.commits import RUN_TRAILER, CommitStyle, committer
from orchestrion.runs.landing import Checkout, Landed
from orchestrion.runs.merge import Incoming, Merger, MergeResult, Recheck
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.workspace import live, prepare, publish, removal, trusted, work
from orchestrion.runs.workspace.changes import Touched
from orchestrion.runs.workspace.places import Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.runs.workspace.submodules import Authorship
from orchestrion.runs.workspace.work import Work


class RunSeam:
    """One project with a place for its workspaces."""

    def __init__(self, project: Path, home: Path, style: CommitStyle | None = None) -> None:
        self.root = project
        self.home = home
        self.style = style or CommitStyle()
        #: Where the work began, if not in the main checkout.
        self.checkout: Path | None = None
        # Its store would be there, and nobody but who opens that makes the folder.
        (ProjectRepository.at(project).common_dir / "orchestrion").mkdir(exist_ok=True)

    @property
    def project(self) -> ProjectRepository:
        """The repository as it is set now."""
        return replace(ProjectRepository.at(self.root), checkout=self.checkout)

    def prepare(self, run: str, base: str, isolation: str = "clone", **options: Any) -> Workspace:
        """A run's workspace."""
        return prepare.prepare(self.project, self.home, run, base, isolation, **options)

    def authorship(self, subject: str = "work", run: str = "R1") -> Authorship:
        """How our commits look."""
        who = committer(self.style, self.project.handed_on.effective, os.environ)
        return Authorship(who, subject, {RUN_TRAILER: run})

    def collect(self, workspace: Workspace, subject: str = "work", **options: Any) -> Work:
        """What the agent left, as one commit."""
        return work.collect(self.project, workspace, self.authorship(subject, workspace.run), **options)

    def unfinish(self, path: Path) -> None:
        """As if making the workspace had been cut short."""
        ours = trusted.found(self.project.common_dir, path, self.project.handed_on)
        assert ours is not None
        ours.remember(finished=False)

    def touched(self, workspace: Workspace) -> list[Touched]:
        """What the agent has changed until now."""
        return live.touched(self.project, workspace)

    def publish(self, workspace: Workspace, collected: Work | str) -> None:
        """The work comes into the project."""
        publish.publish(self.project, workspace, Work(collected) if isinstance(collected, str) else collected)

    def hand_over(self, workspace: Workspace, subject: str = "work") -> Work:
        """Both."""
        return publish.publish(self.project, workspace, self.collect(workspace, subject))

    def tip(self, plan: str) -> PlanTip:
        """Where a plan is."""
        return PlanTip(self.project.git, plan)

    def incoming(self, name: str, commit: str, subject: str) -> Incoming:
        """A commit that is to be merged."""
        made = self.authorship(subject, name)
        return Incoming(name, commit, subject, made.trailers, made.committer)

    def merge(
        self, plan: str, name: str, commit: str, subject: str, recheck: Recheck | None,
        point: Callable[[str], None] = lambda _: None,
    ) -> MergeResult:  # fmt: skip
        """Brings a commit into a plan."""
        return Merger(self.project, self.home, point).merge(plan, self.incoming(name, commit, subject), recheck)

    def land(self, plan: str, recheck: Recheck | None, branch: str = "main", folder: Path | None = None) -> Landed:
        """Brings a plan to a branch of the user's."""

        def joining(name: str, commit: str) -> Incoming:
            return self.incoming(name, commit, f"Merge branch '{name}' into plan {plan}")

        merger = Merger(self.project, self.home)
        return Checkout(folder or self.root).land(self.project, merger, plan, branch, joining, recheck)

    def remove(self, path: Path) -> bool:
        """Whether the workspace is gone."""
        return removal.remove(self.project, path)

    def sweep(self, keep: set[str], max_age_s: float | None, quota: int | None, now: float) -> list[str]:
        """The workspaces that went."""
        return removal.sweep(self.project, self.home, keep, max_age_s, quota, now)
