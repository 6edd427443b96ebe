"""What is told of a landing beside where it went: what came along, what is to be done by hand."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrion.runs.commits import PLAN_TRAILER
from orchestrion.runs.git import Git
from orchestrion.runs.landing import Checkout, Landed
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.remotes import Remote
from orchestrion.runs.workspace.snapshot import GITLINK

#: So many files are named.
_NAMED = 10


def moved_submodules(git: Git, landed: Landed) -> Sequence[str]:
    """That submodules of the user's checkout are not where the plan has them."""
    before, after = landed.tip_before, landed.tip_after
    fields = git.lines("diff-tree", "-r", "-z", "--raw", "--no-renames", before, after)
    moved = [path for facts, path in zip(fields[::2], fields[1::2], strict=True) if "160000" in facts.split(" ")[:2]]
    return [
        f"the submodule {path} has moved: `git submodule update --init --recursive {shlex.quote(path)}`"
        for path in moved
    ]


def _built_on(git: Git, row: Mapping[str, Any], commit: str, lacking: Sequence[str]) -> int | None:
    """How many commits that are not of its tasks a plan was built on: where it began, and what was merged into it.

    Only those are counted that none of ``lacking`` has. None: that is not known.
    """
    if row["began_commit"] is None or not all(git.tip(one) for one in lacking):
        return None
    without = [f"^{one}" for one in lacking]
    merges = ("log", "--merges", "--format=%P", f"--grep=^{PLAN_TRAILER}: ", commit, *without)
    joined = [line.split(" ")[1] for line in git.run(*merges).stdout.splitlines()]
    return int(git.run("rev-list", "--count", row["began_commit"], *joined, *without).stdout)


def come_along(
    git: Git, base: Remote, row: Mapping[str, Any], commit: str, at_base: str, at_head: str | None
) -> Sequence[str]:
    """That commits of the user which the remote lacks come along with a pull request.

    ``at_base`` and ``at_head`` are where the two branches of the request are at the remote, ``commit`` what is pushed.
    """
    known = at_base if git.tip(at_base) else f"refs/remotes/{base.place}"
    count = _built_on(git, row, commit, [known, *([at_head] if at_head else [])])
    if count is None:
        return [f"whether commits that {base.place} lacks came along is not known: `git fetch {base.name}`"]
    return [f"{commits(count)} that {base.place} lacks came along: the plan is built on them"] if count else []


def not_on_branch(git: Git, row: Mapping[str, Any], landed: Landed) -> Sequence[str]:
    """That commits come with a plan which the user's branch does not have (any more)."""
    count = _built_on(git, row, landed.tip_after, [landed.tip_before])
    if not count:
        return []
    return [f"{commits(count)} that {landed.branch} did not have came along: the plan is built on them"]


def commits(count: int) -> str:
    """So many commits."""
    return f"{count} commit{'s' if count != 1 else ''}"


def by_hand(checkout: Checkout, tip: PlanTip, branch: str, files: Sequence[str]) -> str:
    """How a plan is merged by hand, which counts as landed. ``files`` are in conflict; none: a check failed."""
    here = f"git -C {shlex.quote(str(checkout.folder))}"
    git, begin, end = here, [], []
    if checkout.branch() != branch:
        folder = shlex.quote(f"{checkout.folder}-{branch.replace('/', '-')}")
        git = f"git -C {folder}"
        begin, end = [f"`{here} worktree add {folder} {shlex.quote(branch)}`"], [f"`{here} worktree remove {folder}`"]
    submodules = submodules_among(checkout.git, tip.get(), files)
    joins = [
        f"`git -C {shlex.quote(str(checkout.folder / path))} merge {commit[:12]}`"
        for path, commit in submodules.items()
    ]
    plain = [path for path in files if path not in submodules]
    mend = ["mend what the check found"] if not files else [f"mend {', '.join(plain[:_NAMED])}"] if plain else []
    merge, add = f"`{git} merge --no-ff --no-commit {tip.ref}`", f"`{git} add -u` (and new files)"
    steps = [*begin, merge, *joins, *mend, add, f"`{git} commit --no-edit`", *end]
    return f"nothing was changed. By hand: {', '.join(steps)}; then the plan has landed"


def submodules_among(git: Git, commit: str, paths: Sequence[str]) -> dict[str, str]:
    """Those of the paths that are submodules in a commit, and at which commit each is there."""
    if not paths:
        return {}
    lines = git.lines("--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit, "--", *paths)
    entries = (line.partition("\t") for line in lines if line.startswith(f"{GITLINK} "))
    return {path: facts.split(" ")[2] for facts, _, path in entries}


def others_by_hand(checkout: Checkout, tip: PlanTip, theirs: str, own: Remote) -> str:
    """How what others committed to a plan's branch at the remote is merged with the plan by hand."""
    folder = shlex.quote(f"{checkout.folder}-{tip.plan}")
    return (
        f"nothing was changed. By hand: `{checkout.git.typed('worktree', 'add', '--detach')} {folder} {tip.ref} && "
        f"cd {folder} && git merge --no-ff --no-commit {theirs[:12]}`, mend it, `git add -u` (and new files), "
        f"`git commit --no-edit && git push {own.name} HEAD:refs/heads/{own.branch}`, "
        f"`cd - && {checkout.git.typed('worktree', 'remove')} {folder}`; then land again"
    )
