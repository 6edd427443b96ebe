"""Accepted work becomes part of its plan.

A plan moves only by compare-and-swap to a commit that contains the old one, so a merge that
was killed can simply be called again: what is contained already is not merged twice. The
merging is done in a workspace of its own, with a git directory of ours beside it; checks
that run there may write what they like into a repository that is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.errors import AlreadyTaken, GitProblem, MergeConflict
from orchestrion.runs import checks, quarantine
from orchestrion.runs.commits import Committer
from orchestrion.runs.git import Git, refusal
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.refs import MERGING
from orchestrion.runs.workspace import prepare, submodules, trusted
from orchestrion.runs.workspace.places import MERGE_PREFIX, git_dir_beside
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.runs.workspace.removal import delete_tree, exclusive
from orchestrion.runs.workspace.trusted import TrustedRepository

#: How often a merge begins anew because somebody else moved the plan meanwhile.
TRIES = 5
#: So often the branch of a plan is asked to follow it.
FOLLOW_TRIES = 3

Recheck = Callable[[Path], None]
Point = Callable[[str], None]


@dataclass(frozen=True)
class MergeResult:
    """What a merge did to a plan."""

    #: The plan's commit before.
    tip_before: str
    #: The plan's commit now.
    tip_after: str
    #: Whether the plan moved; False: it contained the work already.
    merged: bool
    #: Whether it moved without a merge commit.
    fast_forward: bool


@dataclass(frozen=True)
class Incoming:
    """A commit that is to be merged into a plan."""

    #: The run or branch it is of.
    name: str
    commit: str
    #: Subject and trailers of the merge commit, and who makes it.
    subject: str
    trailers: Mapping[str, str]
    committer: Committer
    #: Whether its checks have passed; else they are run also when the plan only moves forward to it.
    is_checked: bool = True


class Merger:
    """Merges into the plans of one project."""

    def __init__(self, project: ProjectRepository, home: Path, point: Point = lambda _: None) -> None:
        """``home`` is where workspaces lie; ``point`` hears of every step."""
        self._project = project
        self._home = home
        self._point = point

    def merge(self, plan: str, incoming: Incoming, recheck: Recheck | None) -> MergeResult:
        """Brings a commit into a plan.

        A plan that it contains is moved forward; else the two are merged in a workspace of their own and
        ``recheck`` (None: nothing is to be checked) gets its folder before the plan moves: what it raises
        refuses the merge. Raises MergeConflict, NotFound for a plan that has no commit, AlreadyTaken when
        others keep moving the plan. Whatever is raised, the plan is as it was.
        """
        tip = PlanTip(self._project.git, plan)
        result = self._bring_in(tip, incoming, recheck)
        # From here on the plan has the work: a branch that lags behind it, as whose git was
        # killed, must not make the run a failure. The next merge, or `land`, takes it along.
        for _ in range(FOLLOW_TRIES):
            with suppress(GitProblem):
                tip.follow()
                break
        return result

    def _bring_in(self, tip: PlanTip, incoming: Incoming, recheck: Recheck | None) -> MergeResult:
        """Moves the plan to a commit that contains the incoming one, starting again when somebody else moves it."""
        git = self._project.git
        for _ in range(TRIES):
            before = tip.get()
            # Looked at first: whose git was killed just after the swap has its work in the plan, and is still sealed.
            if git.is_ancestor(incoming.commit, before):
                self._point("merge.rechecked")
                return MergeResult(before, before, merged=False, fast_forward=False)
            self._point("merge.begun")
            is_forward = git.is_ancestor(before, incoming.commit)
            if is_forward and not incoming.is_checked and recheck is not None:
                self._check(tip.plan, incoming.commit, recheck)
            new = incoming.commit if is_forward else self.merged(tip.plan, before, incoming, recheck)
            self._point("merge.rechecked")
            is_moved = tip.move(new, before)
            if not is_forward:
                self.forget(new)
            if is_moved:
                self._point("merge.swapped")
                return MergeResult(before, new, merged=True, fast_forward=is_forward)
        raise AlreadyTaken(
            f"plan {tip.plan} was moved by somebody else {TRIES} times while {incoming.name} was merged",
            hint="try again when fewer runs end at once",
            code="plan_moves",
        )

    def merged(self, plan: str, before: str, incoming: Incoming, recheck: Recheck | None) -> str:
        """A checked merge commit of the plan at ``before`` and what comes in. The project gets it; until it is in a
        branch, or ``forget`` is called, a ref of its own has nobody take it away.

        Raises MergeConflict, and what ``recheck`` raises.
        """
        with self._workspace(plan, before) as ours:
            new = _merge_commit(ours.git, before, incoming)
            # Whoever looks finds no merge half-way.
            (ours.path / "MERGE_HEAD").unlink(missing_ok=True)
            self._point("merge.merged")
            if recheck is not None:
                prepare.fit_out(self._project, ours, new)
                recheck(ours.tree)
            ours.git.run("update-ref", trusted.HANDOVER_REF, new)
            quarantine.fetch(self._project.git, ours.path, f"+{trusted.HANDOVER_REF}:{MERGING}{new}")
            return new

    def forget(self, commit: str) -> None:
        """A commit that ``merged`` made is in a branch, or not wanted any more."""
        self._project.git.run("update-ref", "-d", f"{MERGING}{commit}", check=False)

    def _check(self, plan: str, commit: str, recheck: Recheck) -> None:
        with self._workspace(plan, commit) as ours:
            prepare.fit_out(self._project, ours, commit)
            recheck(ours.tree)

    @contextmanager
    def _workspace(self, plan: str, tip: str) -> Iterator[TrustedRepository]:
        """A clean checkout of ``tip`` that nobody else uses; it is kept for the next merge."""
        private.make_folder(self._home, parents=True)
        number = 1
        while True:
            path = self._home.absolute() / f"{MERGE_PREFIX}{plan}{f'-{number}' if number > 1 else ''}"
            with exclusive(path.with_name(f"{path.name}.lock")) as mine:
                if mine:
                    if path.exists():  # a merge that was killed may have left its check running there
                        checks.end_left_behind(path)
                    yield self._made_clean(path, tip)
                    return
            number += 1

    def _made_clean(self, path: Path, tip: str) -> TrustedRepository:
        try:
            return self._clean(path, tip)
        except GitProblem:
            # A kill left it in a state that is not worth understanding.
            delete_tree(path)
            delete_tree(git_dir_beside(path))
            return self._clean(path, tip)

    def _clean(self, path: Path, tip: str) -> TrustedRepository:
        path.mkdir(exist_ok=True)
        # What checks may have written to is no repository of ours.
        delete_tree(path / ".git")
        project, handed_on = self._project, self._project.handed_on
        objects = trusted.lent_by(project.common_dir, handed_on)
        settings = trusted.as_in_project(handed_on)
        ours = trusted.bare(git_dir_beside(path), path, handed_on, tip, objects, settings)
        trusted.copy_needed(handed_on, project.common_dir, ours)
        for lock in ours.path.glob("*.lock"):
            lock.unlink(missing_ok=True)
        # Not checkout: that one calls it a success when files could not be written.
        ours.git.run("reset", "--quiet", "--hard", tip)
        ours.git.run("clean", "--quiet", "-ffdx")
        # Submodules of the use before had their git directories in the one that went.
        for submodule in submodules.submodules_of(ours.git, tip):
            delete_tree(path / submodule.path)
            (path / submodule.path).mkdir(parents=True)
        return ours


def _merge_commit(git: Git, tip: str, incoming: Incoming) -> str:
    """Merges into the detached HEAD; raises MergeConflict with the files."""
    answer = git.run(
        "-c", "rerere.enabled=false", "-c", "merge.stat=false",
        "merge", "--no-ff", "--no-commit", "--quiet", "--no-verify", "--no-autostash", "--no-verify-signatures",
        incoming.commit,
        check=False, env=incoming.committer.environment,
    )  # fmt: skip
    if answer.returncode != 0:
        files = git.lines("diff", "--name-only", "--diff-filter=U", "--ignore-submodules=dirty", "-z")
        if not files:
            raise refusal(answer)
        raise MergeConflict(files, hint=f"{incoming.name} and the plan changed the same lines")
    tree = git.run("write-tree").stdout
    new = incoming.committer.commit(git, tree, [tip, incoming.commit], incoming.subject, incoming.trailers)
    git.run("update-ref", "--no-deref", "HEAD", new)
    return new
