"""A plan is brought to a branch of the user's: the one place where their checkout is touched.

It happens in the checkout in which the caller stands, and only if nothing of theirs is in the
way: a clean tree, no untracked or ignored file that the plan would overwrite. If the branch
has moved on it is merged into the plan first, in a workspace of ours, and checked; then the
branch moves forward. What goes to a remote is pushed plainly, the plan's own branch first:
only that shows whether pushing is allowed, before anything of the user's has moved.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import AlreadyTaken, Conflict, EnvironmentProblem, NotFound
from orchestrion.runs.git import Git, refusal
from orchestrion.runs.merge import TRIES, Incoming, Merger, Recheck
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.workspace.project_repository import ProjectRepository

#: Makes what merges the user's branch (its name and commit) into the plan.
Joining = Callable[[str, str], Incoming]


@dataclass(frozen=True)
class Landed:
    """What landing did to a branch."""

    #: Its short name.
    branch: str
    #: Its commit before and now.
    tip_before: str
    tip_after: str
    #: Whether it had moved on by itself, and was merged into the plan first.
    merged: bool

    @property
    def moved(self) -> bool:
        """Whether the branch moved; False: it contained the plan already."""
        return self.tip_before != self.tip_after


@dataclass(frozen=True)
class Remote:
    """Where a branch is pushed to."""

    name: str
    #: The short name that the branch has there.
    branch: str


class Checkout:
    """A working tree of the user's, in which a plan is landed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git = Git(folder)

    def branch(self) -> str | None:
        """The short name of its branch; None: HEAD is detached. Raises GitProblem."""
        found = self.git.run("symbolic-ref", "--quiet", "HEAD", check=False)
        if found.returncode == 0:
            return found.stdout.removeprefix("refs/heads/")
        if "fatal" in found.stderr:
            raise refusal(found)
        return None

    def land(
        self,
        project: ProjectRepository,
        merger: Merger,
        plan: str,
        branch: str,
        joining: Joining,
        recheck: Recheck | None,
    ) -> Landed:
        """Brings a plan to a branch: the one that is checked out here, or one that nobody has checked out.

        Raises Conflict (``dirty_tree``, ``checked_out_elsewhere``, ``in_the_way``), MergeConflict, NotFound,
        AlreadyTaken.
        """
        is_here = branch == self.branch()
        if is_here:
            self._refuse_dirty()
        else:
            self._refuse_elsewhere(branch)
        before, merged = self._tip(branch), False
        plan_tip = PlanTip(project.git, plan)
        for _ in range(TRIES):
            mine, tip = self._tip(branch), plan_tip.get()
            if self.git.is_ancestor(tip, mine):
                return Landed(branch, before, mine, merged)
            if not self.git.is_ancestor(mine, tip):
                merger.merge(plan, joining(branch, mine), recheck)
                merged = True
            elif self._moves_forward(tip, mine) if is_here else self.git.swap_ref(f"refs/heads/{branch}", tip, mine):
                return Landed(branch, before, tip, merged)
        raise AlreadyTaken(f"{branch} keeps moving while plan {plan} is landed", hint="try again", code="plan_moves")

    def remote_for(self, branch: str) -> Remote:
        """Where a branch is pushed to, as git would push it. Raises EnvironmentProblem (``no_remote``)."""
        settings = (f"branch.{branch}.pushRemote", "remote.pushDefault", f"branch.{branch}.remote")
        names = [self.git.run("config", setting, check=False).stdout for setting in settings]
        known = self.git.run("remote").stdout.split("\n")
        remote = next((one for one in [*names, "origin", *known] if one and one in known), None)
        if remote is None:
            raise EnvironmentProblem(
                "this repository has no remote to push to",
                hint="git remote add origin URL; or land without --push and --pr",
                code="no_remote",
            )
        upstream = self.git.run("config", f"branch.{branch}.merge", check=False).stdout
        return Remote(remote, upstream.removeprefix("refs/heads/") or branch)

    def refuse_behind(self, remote: Remote, branch: str, plan_tip: str) -> None:
        """Raises Conflict (``remote_moved``) when the remote's branch has what neither ours nor the plan has;
        EnvironmentProblem (``remote_unreachable``) when it does not answer.
        """
        answer = self.git.run("ls-remote", "--refs", remote.name, f"refs/heads/{remote.branch}", check=False)
        if answer.returncode != 0:
            problem = refusal(answer)
            raise EnvironmentProblem(
                f"the remote {remote.name} does not answer: {problem.message}",
                hint="nothing has moved; `git fetch` says more",
                code="remote_unreachable",
            )
        there = answer.stdout.partition("\t")[0]
        is_known = there and self.git.tip(there) is not None
        if there and not (
            is_known and any(self.git.is_ancestor(there, mine) for mine in (self._tip(branch), plan_tip))
        ):
            raise Conflict(
                f"{remote.name} has commits on {remote.branch} that your {branch} lacks",
                hint="nothing has moved; `git pull` first, then land again",
                code="remote_moved",
            )

    def push(self, remote: Remote, commit: str, branch: str, done: str) -> None:
        """Pushes a commit to a branch of the remote, plainly. ``done`` says in an error what is done already.

        Raises EnvironmentProblem (``push_refused``, ``submodule_not_pushed``).
        """
        place = f"{commit}:refs/heads/{branch}"
        answer = self.git.run("push", "--quiet", "--recurse-submodules=check", remote.name, place, check=False)
        if answer.returncode == 0:
            return
        if "not be found on any remote" in answer.stderr:
            raise EnvironmentProblem(
                f"{done}: commits in submodules are not at their remotes yet",
                hint="push them there first: `git submodule foreach --recursive git push`, or by hand",
                code="submodule_not_pushed",
            )
        raise EnvironmentProblem(
            f"{done}: {remote.name} did not take {branch}: {_last_words(answer.stderr)}",
            hint="the same push by hand says more; nothing has to be done again",
            code="push_refused",
        )

    def push_large_files(self, remote: Remote, ref: str) -> None:
        """Sends the LFS objects of a ref, which git's own push would leave to a hook. Raises EnvironmentProblem."""
        answer = self.git.run("lfs", "push", remote.name, ref, check=False)
        if answer.returncode != 0:
            raise EnvironmentProblem(
                f"nothing has moved: large files could not be pushed: {_last_words(answer.stderr or answer.stdout)}",
                hint=f"`git lfs push {remote.name} {ref}` says more",
                code="push_refused",
            )

    def has_on_remote(self, remote: Remote, branch: str) -> bool:
        """Whether the remote has a branch."""
        return bool(self.git.run("ls-remote", "--refs", remote.name, f"refs/heads/{branch}", check=False).stdout)

    def take_back(self, remote: Remote, branch: str) -> None:
        """Takes a branch of ours away from the remote again, if it lets us."""
        self.git.run("push", "--quiet", remote.name, f":refs/heads/{branch}", check=False)

    def _tip(self, branch: str) -> str:
        tip = self.git.tip(f"refs/heads/{branch}")
        if tip is None:
            raise NotFound(
                f"there is no branch {branch!r} with a commit", hint=f"git branch {branch}", code="no_branch"
            )
        return tip

    def _refuse_dirty(self) -> None:
        if not self.git.is_clean():
            raise Conflict(
                f"the working tree {self.folder} has changes that are not committed",
                hint="commit or stash them, then land again",
                code="dirty_tree",
            )

    def _refuse_elsewhere(self, branch: str) -> None:
        where = checked_out_at(self.git, branch)
        if where is not None:
            raise Conflict(
                f"{branch} is checked out in {where}",
                hint=f"land there: orchestrion -C {where} land",
                code="checked_out_elsewhere",
                folder=where,
            )

    def _moves_forward(self, tip: str, mine: str) -> bool:
        """Fast-forwards the checkout to ``tip``; False when the branch is not at ``mine`` any more."""
        left_at = self.git.tip("ORIG_HEAD")
        answer = self.git.run(
            "merge", "--ff-only", "--quiet", "--no-autostash", "--no-verify-signatures", "--no-overwrite-ignore", tip,
            check=False,
        )  # fmt: skip
        if answer.returncode == 0:
            return True
        # git has noted already where it was about to leave; nothing was left.
        back = ("ORIG_HEAD", left_at) if left_at else ("-d", "ORIG_HEAD")
        self.git.run("update-ref", *back, check=False)
        if self.git.tip("HEAD") != mine:
            return False
        files = [line.strip() for line in answer.stderr.splitlines() if line.startswith("\t")]
        if files:
            raise Conflict(
                f"files of yours that git does not track are in the way: {', '.join(files[:20])}",
                hint="move them away, then land again; nothing was changed",
                code="in_the_way",
                files=files,
            )
        raise refusal(answer)


def checked_out_at(git: Git, branch: str) -> str | None:
    """The folder of the worktree that has a branch checked out; None: none has."""
    folder = None
    for line in git.run("worktree", "list", "--porcelain").stdout.splitlines():
        if line.startswith("worktree "):
            folder = line.removeprefix("worktree ")
        if line == f"branch refs/heads/{branch}":
            return folder
    return None


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"://[^/@\s]+@", "://", lines[-1])[:300] if lines else "it said nothing"


def open_pull_request(program: str, folder: Path, *, head: str, base: str, title: str, body: str) -> str:
    """Opens a pull request with ``gh``, or finds the one that is open already. Returns its address.

    Raises EnvironmentProblem (``gh_failed``).
    """
    command = [program, "pr", "create", "--head", head, "--base", base, "--title", title, "--body-file", "-"]
    answer = subprocess.run(command, cwd=folder, input=body, capture_output=True, text=True, check=False)
    said = f"{answer.stdout}\n{answer.stderr}"
    address = next((word for word in said.split() if word.startswith("https://")), "")
    if answer.returncode == 0 or ("already exists" in said and address):
        return address or answer.stdout.strip()
    raise EnvironmentProblem(
        f"the branch {head} is pushed, but gh could not open a pull request: {_last_words(answer.stderr)}",
        hint=f"`gh auth status` says whether you are signed in; or open it by hand, from {head} to {base}",
        code="gh_failed",
    )
