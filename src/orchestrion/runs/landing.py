"""A plan is brought to a branch of the user's: the one place where their checkout is touched.

It happens in the checkout in which the caller stands, and only if nothing of theirs is in the
way: a clean tree, no untracked or ignored file that the plan would overwrite, no rebase under
way. If the branch has moved on the two are merged in a workspace of ours, and checked; then the
branch moves forward, and the plan after it. Whatever is refused, no ref has moved.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrion.core import private
from orchestrion.core.errors import AlreadyTaken, Conflict, GitProblem, NotFound
from orchestrion.runs.fast_forward import above_of, fast_forward, interrupted, put_back_interrupted
from orchestrion.runs.git import WITHOUT_INDEX, Git, refusal
from orchestrion.runs.merge import TRIES, Incoming, Merger, Recheck
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.workspace.changes import listed
from orchestrion.runs.workspace.project_repository import ProjectRepository

#: Whoever lands holds it.
_LOCK = "land.lock"
#: Makes what merges the user's branch (its name and commit) into the plan.
Joining = Callable[[str, str], Incoming]
#: Hears of the commit that is about to land.
Going = Callable[[str], object]


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
        going: Going = lambda _: None,
    ) -> Landed:
        """Brings a plan to a branch: the one that is checked out here, or one that nobody has checked out.

        ``going`` is called with the commit before anything moves; what it raises stops the landing. Raises Conflict
        (``dirty_tree``, ``branch_in_use``, ``in_the_way``, ``other_branch``), MergeConflict, NotFound, AlreadyTaken.
        """
        plan_tip = PlanTip(project.git, plan)
        is_here = self.refuse_unfit(plan, branch, plan_tip.get())
        for _ in range(TRIES):
            mine, tip = self._tip(branch), plan_tip.get()
            if self.git.is_ancestor(tip, mine):
                return Landed(branch, mine, mine, merged=False)
            joins = not self.git.is_ancestor(mine, tip)
            commit = merger.merged(plan, tip, joining(branch, mine), recheck) if joins else tip
            with _one_at_a_time(project) as (scratch, lock):
                try:
                    moved = self._moves(plan, branch, commit, mine, going, (scratch, lock) if is_here else None)
                    if moved and joins and plan_tip.move(commit, tip):
                        plan_tip.follow()
                finally:
                    if joins:
                        merger.forget(commit)
                if moved:
                    return Landed(branch, mine, commit, merged=joins)
        raise AlreadyTaken(f"{branch} keeps moving while plan {plan} is landed", hint="try again", code="plan_moves")

    def put_back_interrupted(self, project: ProjectRepository) -> None:
        """What a landing left here that was killed with its git goes first. Raises EnvironmentProblem, GitProblem."""
        branch = self.branch()
        if branch is not None and str(self.git.folder.resolve()) in interrupted(_scratch(project)):
            with _one_at_a_time(project) as (scratch, _):  # its git may still live
                self._refuse_locked(branch)
                put_back_interrupted(self.git, scratch)

    def refuse_unfit(self, plan: str, branch: str, commit: str) -> bool:
        """Raises Conflict when something of the user's is in the way of a commit. Whether its branch is that here."""
        if branch != self.branch():
            self._refuse_in_use(branch, plan)
            return False
        self._refuse_locked(branch)
        self._refuse_dirty()
        self._refuse_in_the_way(commit, self._tip(branch))
        return True

    def unfinished(self) -> str | None:
        """What is under way here that a branch will be moved by, in words; None: nothing."""
        used = next((one for one in _in_use(self.git) if one.is_under_way), None)
        return f"{used.branch} {used.how} in {used.folder}" if used else None

    def _tip(self, branch: str) -> str:
        tip = self.git.tip(f"refs/heads/{branch}")
        if tip is None:
            is_name = self.git.run("check-ref-format", "--branch", branch, check=False).returncode == 0
            raise NotFound(
                f"there is no branch {branch!r} with a commit",
                hint="`git branch` lists yours"
                + (f"; `git branch {shlex.quote(branch)}` makes this one" if is_name else ""),
                code="no_branch",
            )
        return tip

    def _refuse_dirty(self) -> None:
        begun = self.git.unfinished()
        if begun is not None:
            raise Conflict(
                f"`git {begun}` is under way in {self.folder}",
                hint=f"`git {begun} --continue` when all is resolved, or `git {begun} --abort`; then land again",
                code="dirty_tree",
            )
        if not self.git.is_clean():
            raise Conflict(
                f"the working tree {self.folder} has changes that are not committed",
                hint="commit or stash them, then land again",
                code="dirty_tree",
            )

    def _refuse_in_the_way(self, tip: str, mine: str) -> None:
        """Looks for what git would only find when the plan has taken the branch in already."""
        base = self.git.run("merge-base", tip, mine, check=False).stdout
        if not base:
            return
        added = self.git.lines(
            "diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A", base, tip, env=WITHOUT_INDEX
        )
        there = set(listed(self.git, mine, [*added, *(above for path in added for above in above_of(path))]))
        files = sorted({found for path in added if path not in there and (found := self._found_at(path, there))})
        if files:
            raise _in_the_way(files)

    def _found_at(self, path: str, tracked: set[str]) -> str | None:
        """The file that is where ``path`` is to be, or where a folder for it is to be; None: there is none."""
        for above in above_of(path):
            place = self.folder / above
            if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
                return None if above in tracked else above
        place = self.folder / path
        if place.is_dir() and not place.is_symlink():
            return self._others_in(path)
        return path if os.path.lexists(place) else None

    def _others_in(self, folder: str) -> str | None:
        """A file in a folder that git does not have, and so would not take away with it; None: there is none."""
        known = set(self.git.lines("--literal-pathspecs", "ls-files", "-z", "--", folder))
        for top, _, names in os.walk(self.folder / folder):
            for name in names:
                path = os.path.relpath(os.path.join(top, name), self.folder)  # noqa: PTH118 - as text
                if path not in known:
                    return path
        return None

    def _refuse_in_use(self, branch: str, plan: str) -> None:
        used = next((one for one in _in_use(self.git) if one.branch == branch), None)
        if used is None:
            return
        there = f"orchestrion -C {shlex.quote(used.folder)} land {shlex.quote(plan)} --onto {shlex.quote(branch)}"
        raise Conflict(
            f"{branch} {used.how} in {used.folder}",
            hint="finish that first, then land again" if used.is_under_way else f"land there: {there}",
            code="branch_in_use",
            folder=used.folder,
        )

    def _moves(
        self, plan: str, branch: str, commit: str, mine: str, going: Going, here: tuple[Path, int] | None
    ) -> bool:
        """Moves the branch from ``mine`` to ``commit``; False: it is not there any more. Where it is checked out here,
        ``here`` is where files can lie meanwhile, and the lock that is held.

        Checks take their time, and meanwhile the user may have done anything: all is looked at again.
        """
        if here:
            self._refuse_switched(branch)
        self.refuse_unfit(plan, branch, commit)
        if self._tip(branch) != mine:
            return False
        going(commit)
        return self._moves_here(branch, commit, mine, *here) if here else self._moves_there(branch, commit, mine)

    def _moves_there(self, branch: str, commit: str, mine: str) -> bool:
        return self.git.swap_ref(f"refs/heads/{branch}", commit, mine)

    def _moves_here(self, branch: str, commit: str, mine: str, scratch: Path, lock: int) -> bool:
        """Fast-forwards the checkout; False when the branch is not at ``mine`` any more."""
        self._refuse_locked(branch)
        self._refuse_switched(branch)
        if self._tip(branch) != mine:
            return False  # who took a commit away does not want it back
        answer = fast_forward(self.git, commit, mine, scratch, lock)
        if answer.returncode == 0:
            self._refuse_switched(branch)
            return True
        if self.git.tip("HEAD") != mine:
            return False
        files = [line.strip() for line in answer.stderr.splitlines() if line.startswith("\t")]
        raise _in_the_way(files) if files else refusal(answer)

    def _refuse_switched(self, branch: str) -> None:
        here = self.branch()
        if here != branch:
            raise Conflict(
                f"{self.folder} was switched from {branch} to {here or 'no branch'} while the plan was landed",
                hint=f"`{self.git.typed('switch', branch)}`, then land again",
                code="other_branch",
            )

    def _refuse_locked(self, branch: str) -> None:
        for name in ("index.lock", f"refs/heads/{branch}.lock"):
            file = self.folder / self.git.run("rev-parse", "--git-path", name).stdout
            if os.path.lexists(file):
                raise GitProblem(
                    f"another git is at work in {self.folder}, or was killed: {file} is there",
                    hint=f"if none is, `rm {shlex.quote(str(file))}`; nothing was changed",
                    code="locked",
                )


@contextmanager
def _one_at_a_time(project: ProjectRepository) -> Iterator[tuple[Path, int]]:
    """Who lands at the same moment waits: git notices too late that another one has the branch.

    Gives a folder in which nobody else is, and the file whose lock says so.
    """
    folder = _scratch(project)
    with _opened(folder / _LOCK) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield folder, file.fileno()


def _scratch(project: ProjectRepository) -> Path:
    return project.common_dir / "orchestrion"


def interrupted_landings(git_dir: Path) -> list[str]:
    """Checkouts in which a landing was killed with its git; none while somebody lands.

    ``git_dir`` is the one that all worktrees share.
    """
    scratch = git_dir / "orchestrion"
    found = interrupted(scratch)
    if not found:
        return []
    try:
        with (scratch / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return found
    except BlockingIOError:
        return []
    return found


def _opened(lock: Path) -> IO[str]:
    try:
        return open(lock, "a", opener=private.opener)
    except OSError as problem:
        if problem.errno not in _READ_ONLY:
            raise
        raise GitProblem(
            f"the repository may only be read here: {problem.strerror}: {lock}",
            hint="looking works; to land, give write permission to the git directory and all in it",
            code="repository_read_only",
        ) from problem


#: What the system says where nothing may be written.
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def _in_the_way(files: list[str]) -> Conflict:
    return Conflict(
        f"files of yours that git would overwrite are in the way: {', '.join(files[:20])}",
        hint="move them away, then land again; nothing was changed. A file that git was told not to look at: "
        "`git update-index --no-assume-unchanged --no-skip-worktree FILE`",
        code="in_the_way",
        files=files,
    )


@dataclass(frozen=True)
class _Use:
    """A branch that a worktree of the user's works on."""

    branch: str
    folder: str
    #: What is done with it there, in words.
    how: str
    #: Whether git will move the branch when that is finished.
    is_under_way: bool = False


#: File in a worktree's git directory with the branch that something is under way with -> in words.
_UNDER_WAY = {
    "rebase-merge/head-name": "is being rebased",
    "rebase-apply/head-name": "is being rebased",
    "BISECT_START": "is being bisected",
}


def _in_use(git: Git) -> Iterator[_Use]:
    """The branches that git itself would not let be moved: checked out, or in the middle of something."""
    for facts in git.worktrees():
        folder = facts["worktree"]
        if "branch" in facts:
            yield _Use(facts["branch"].removeprefix("refs/heads/"), folder, "is checked out")
        if "bare" not in facts and os.path.isdir(folder):  # noqa: PTH112
            git_dir = Path(folder, Git(Path(folder)).run("rev-parse", "--git-dir").stdout)
            for file, how in _UNDER_WAY.items():
                with suppress(OSError):
                    branch = (git_dir / file).read_text(encoding="utf-8", errors="surrogateescape").strip()
                    yield _Use(branch.removeprefix("refs/heads/"), folder, how, is_under_way=True)
