"""Accepted work becomes part of its plan, and a plan part of the user's branch.

The truth about a plan is one ref, ``refs/orchestrion/plans/<plan>``. It moves only by
compare-and-swap to a commit that contains the old one, so a merge that was killed can
simply be called again: what is contained already is not merged twice. The merging is
done in a clone of its own; the user's checkout is touched by ``land`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import AlreadyTaken, Conflict, GitProblem, MergeConflict, NotFound
from orchestrion.core.model import check_plan_name
from orchestrion.runs.git import Git, refusal
from orchestrion.runs.workspaces import HANDOVER_REF, MERGE_PREFIX, borrow, delete_tree, exclusive

PLAN_REF = "refs/orchestrion/plans/{plan}"
PLAN_BRANCH = "refs/heads/orchestrion/{plan}"

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
class LandResult:
    """What landing a plan did to the user's branch."""

    #: The short name of the user's branch.
    branch: str
    #: Its commit before.
    tip_before: str
    #: Its commit now.
    tip_after: str
    #: Whether it moved; False: it contained the plan already.
    landed: bool
    #: Whether the branch had moved on by itself and was merged into the plan first.
    merged: bool
    #: Whether it was pushed to its upstream.
    pushed: bool


def plan_tip(project: Path, plan: str) -> str | None:
    """The commit the plan is at; None when it has none yet."""
    return Git(project).tip(_ref(PLAN_REF, plan))


def ensure_plan(project: Path, plan: str, start_commit: str) -> str:
    """The commit the plan is at; a plan that has none begins at ``start_commit`` (any name of a commit)."""
    git, ref = Git(project), _ref(PLAN_REF, plan)
    if tip := git.tip(ref):
        return tip
    start = git.tip(start_commit)
    if start is None:
        raise NotFound(
            f"there is no commit {start_commit} for plan {plan} to begin at",
            hint="a repository needs a first commit before agents can work on it",
            code="no_commit",
        )
    if not git.swap_ref(ref, start, None):
        return ensure_plan(project, plan, start_commit)
    follow(project, plan)
    return start


def merge(
    project: Path,
    home: Path,
    plan: str,
    run_name: str,
    head: str,
    message: str,
    recheck: Recheck,
    *,
    point: Point = lambda _: None,
) -> MergeResult:
    """Bring the commit ``head`` of ``run_name`` into the plan.

    A plan that ``head`` contains is moved forward; else the two are merged in a
    workspace of their own and ``recheck`` gets its folder before the plan moves: what
    it raises refuses the merge. Raises MergeConflict, NotFound for a plan that has no
    commit, AlreadyTaken when others keep moving the plan. Whatever is raised, the plan
    is as it was. ``point`` hears of every step.
    """
    result = _bring_in(Git(project), home, plan, run_name, head, message, recheck, point)
    # From here on the plan has the work: a branch that lags behind it, as whose git was
    # killed, must not make the run a failure. The next merge, or `land`, takes it along.
    for _ in range(FOLLOW_TRIES):
        with suppress(GitProblem):
            follow(project, plan)
            break
    return result


def follow(project: Path, plan: str) -> bool:
    """Let the branch orchestrion/PLAN be where the plan is; whether it is there now.

    It stays while somebody has it checked out, and when it has commits of its own.
    """
    git, branch = Git(project), _ref(PLAN_BRANCH, plan)
    tip, found = git.tip(_ref(PLAN_REF, plan)), git.tip(branch)
    if tip is None:
        return False
    if found == tip:
        return True
    if found and (branch in git.checked_out_branches() or not git.is_ancestor(found, tip)):
        return False
    return git.swap_ref(branch, tip, found)


def land(
    project: Path,
    home: Path,
    plan: str,
    recheck: Recheck,
    *,
    push: bool = False,
    point: Point = lambda _: None,
) -> LandResult:
    """Bring the plan to the branch that is checked out in ``project``; ``push`` sends it upstream too.

    If the branch has moved on it is first merged into the plan and checked again. Raises
    Conflict (``dirty_tree``, ``detached_head``, ``no_upstream``, ``in_the_way``),
    MergeConflict, NotFound. The only function that touches the user's checkout.
    """
    git = Git(project)
    branch = _landing_branch(git)
    upstream = _upstream_of(git, branch) if push else None
    before, merged = _known_tip(git, "HEAD"), False
    for _ in range(TRIES):
        mine, tip = _known_tip(git, "HEAD"), _plan_commit(git, plan)
        if git.is_ancestor(tip, mine):
            break
        if not git.is_ancestor(mine, tip):
            message = f"Merge branch '{branch}' into plan {plan}"
            _bring_in(git, home, plan, branch, mine, message, recheck, point)
            follow(project, plan)
            merged = True
        elif _moved_forward(git, tip, mine):
            break
    else:
        raise AlreadyTaken(f"{branch} keeps moving while plan {plan} is landed", hint="try again", code="plan_moves")
    after = _known_tip(git, "HEAD")
    if upstream:
        _push(git, after, *upstream)
    return LandResult(branch, before, after, landed=before != after, merged=merged, pushed=upstream is not None)


def _ref(pattern: str, plan: str) -> str:
    """The plan's ref; its name must be fit for one."""
    check_plan_name(plan)
    return pattern.format(plan=plan)


def _plan_commit(git: Git, plan: str) -> str:
    tip = git.tip(_ref(PLAN_REF, plan))
    if tip is None:
        raise NotFound(
            f"plan {plan} has no work yet", hint="orchestrion status shows the plans", code="no_plan", plan=plan
        )
    return tip


def _known_tip(git: Git, ref: str) -> str:
    tip = git.tip(ref)
    if tip is None:
        raise NotFound(f"{ref} has no commit yet", hint="make a first commit", code="no_commit")
    return tip


def _bring_in(
    git: Git, home: Path, plan: str, name: str, head: str, message: str, recheck: Recheck, point: Point
) -> MergeResult:
    """Move the plan to a commit that contains ``head``, starting again when somebody else moves it."""
    point("merge.begun")
    for _ in range(TRIES):
        tip = _plan_commit(git, plan)
        if git.is_ancestor(head, tip):
            return MergeResult(tip, tip, merged=False, fast_forward=False)
        is_forward = git.is_ancestor(tip, head)
        new = head if is_forward else _merged(git, home, plan, name, tip, head, message, recheck, point)
        if git.swap_ref(_ref(PLAN_REF, plan), new, tip):
            point("merge.swapped")
            return MergeResult(tip, new, merged=True, fast_forward=is_forward)
    raise AlreadyTaken(
        f"plan {plan} was moved by somebody else {TRIES} times while {name} was merged",
        hint="try again when fewer runs end at once",
        code="plan_moves",
    )


def _merged(
    project: Git, home: Path, plan: str, name: str, tip: str, head: str, message: str, recheck: Recheck, point: Point
) -> str:
    """A checked merge commit of ``tip`` and ``head``, brought into the project's repository."""
    with _merge_workspace(project, home, plan, tip) as git:
        new = _merge_commit(git, name, head, message)
        point("merge.merged")
        recheck(git.folder)
        point("merge.rechecked")
        git.run("update-ref", HANDOVER_REF, new)
        project.fetch(git.folder, HANDOVER_REF)
        return new


def _merge_commit(git: Git, name: str, head: str, message: str) -> str:
    """Merge ``head`` into the detached HEAD; raises MergeConflict with the files."""
    answer = git.run(
        "-c", "rerere.enabled=false",
        "merge", "--no-ff", "--quiet", "--no-verify", "--no-autostash", "--no-verify-signatures", "--no-signoff",
        "--cleanup=whitespace", "-m", message.replace("\0", "") or f"Merge {name}", head,
        check=False,
    )  # fmt: skip
    if answer.returncode == 0:
        return _known_tip(git, "HEAD")
    files = git.lines("diff", "--name-only", "--diff-filter=U", "-z")
    if not files:
        raise refusal(answer)
    raise MergeConflict(
        files, hint=f"{name} and the plan changed the same lines: merge them by hand, or let another run do it"
    )


@contextmanager
def _merge_workspace(project: Git, home: Path, plan: str, tip: str) -> Iterator[Git]:
    """A clean checkout of ``tip`` that nobody else uses; the clone is kept for the next merge."""
    home.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = home.absolute() / f"{MERGE_PREFIX}{plan}{f'-{number}' if number > 1 else ''}"
        with exclusive(path.with_name(f"{path.name}.lock")) as mine:
            if mine:
                yield _made_clean(project, path, tip)
                return
        number += 1


def _made_clean(project: Git, path: Path, tip: str) -> Git:
    git = Git(path, git_dir=path / ".git")
    try:
        _clean(git, tip)
    except GitProblem:
        # Not there yet, or a kill left it in a state that is not worth understanding.
        if path.exists():
            delete_tree(path)
        git = borrow(project, path)
        _clean(git, tip)
    return git


def _clean(git: Git, tip: str) -> None:
    for lock in (git.folder / ".git").glob("*.lock"):
        lock.unlink(missing_ok=True)
    git.run("update-ref", "--no-deref", "HEAD", tip)
    # Not checkout: that one calls it a success when files could not be written.
    git.run("reset", "--quiet", "--hard", tip)
    git.run("clean", "--quiet", "-ffdx")


def _landing_branch(git: Git) -> str:
    """The short name of the branch that is checked out, if the working tree is fit for landing."""
    found = git.run("symbolic-ref", "--quiet", "HEAD", check=False)
    if found.returncode != 0:
        if "fatal" in found.stderr:
            raise refusal(found)
        raise Conflict(
            "no branch is checked out, so there is nothing to land on",
            hint="git switch BRANCH first",
            code="detached_head",
        )
    if not git.is_clean():
        raise Conflict(
            "the working tree has changes that are not committed",
            hint="commit or stash them, then land again",
            code="dirty_tree",
        )
    return found.stdout.removeprefix("refs/heads/")


def _moved_forward(git: Git, tip: str, mine: str) -> bool:
    """Fast-forward the user's checkout to ``tip``; False when the branch is not at ``mine`` any more."""
    answer = git.run("merge", "--ff-only", "--quiet", "--no-autostash", "--no-verify-signatures", tip, check=False)
    if answer.returncode == 0:
        return True
    if git.tip("HEAD") != mine:
        return False
    files = [line.strip() for line in answer.stderr.splitlines() if line.startswith("\t")]
    if files:
        raise Conflict(
            f"files that git does not know are in the way: {', '.join(files)}",
            hint="move them away, then land again",
            code="in_the_way",
            files=files,
        )
    raise refusal(answer)


def _upstream_of(git: Git, branch: str) -> tuple[str, str]:
    """The remote of the user's branch and the name it has there."""
    remote = git.run("config", f"branch.{branch}.remote", check=False).stdout
    name = git.run("config", f"branch.{branch}.merge", check=False).stdout
    if not remote or not name:
        raise Conflict(
            f"branch {branch} has no upstream to push to",
            hint=f"git push --set-upstream REMOTE {branch}, or land without --push",
            code="no_upstream",
        )
    return remote, name


def _push(git: Git, commit: str, remote: str, name: str) -> None:
    answer = git.run("push", "--quiet", remote, f"{commit}:{name}", check=False)
    if answer.returncode != 0:
        problem = refusal(answer)
        raise GitProblem(
            f"the plan has landed, but was not pushed: {problem.message}",
            hint="git pull and git push say more; nothing has to be landed again",
            code="push_refused",
        )
