"""What work in review must have before a person's approval is taken for one.

A person who pastes commands one after the other goes on after one that failed. So approving looks
whether what was to be mended is mended and what was to be taken in is in; git's own ``merge -s ours``
says that something is not wanted.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrion.core.errors import Conflict
from orchestrion.core.model import name
from orchestrion.orchestrator.resolution import kept_beside, reason_of

if TYPE_CHECKING:
    from orchestrion.runs.git import Git

Remarks = Sequence[Mapping[str, Any]]


def refuse_unready(git: Git, task: Mapping[str, Any], run: Mapping[str, Any], remarks: Remarks, head: str) -> None:
    """Raises Conflict (``conflict_markers``, ``not_taken_in``) when ``head``, the run's work as it is now, is not what
    a person can have meant to approve. ``git`` is the project's.
    """
    reason = reason_of(task, {"remarks": remarks})
    if reason not in ("open_merge", "merge_conflict", "work_elsewhere"):
        return
    one = name("T", task["id"])
    _refuse_markers(git, run["base_commit"], head, remarks, one)
    wanted = _both_sides(git, run, remarks, head) if reason == "merge_conflict" else _beside_in_submodules(remarks)
    left = _left_in_submodules(git, head, wanted)
    if reason != "merge_conflict":
        left += [ref for ref in kept_beside({"remarks": remarks}) if not _has(git, head, ref)]
    if left:
        raise Conflict(
            f"{name('R', run['id'])} lacks what belongs to it: {', '.join(left[:10])}",
            hint=f"`orchestrion show {one}` says how to take it in (`git merge -s ours COMMIT` in place of a merge "
            f"says that it is not wanted); or `orchestrion reject {one} --reason TEXT`",
            code="not_taken_in",
            refs=left,
        )


def _refuse_markers(git: Git, base: str, head: str, remarks: Remarks, task: str) -> None:
    from orchestrion.runs.workspace.markers import files_with_new_markers

    shown = {path for remark in remarks if remark["code"] == "conflict_markers" for path in remark["paths"]}
    files = [path for path in files_with_new_markers(git, base, head) if path not in shown]
    if files:
        raise Conflict(
            f"conflict markers stand in {', '.join(files[:10])}",
            hint=f"`orchestrion show {task}` says how to resolve it; or `orchestrion reject {task} --reason TEXT`",
            code="conflict_markers",
            files=files,
        )


def _beside_in_submodules(remarks: Remarks) -> dict[str, list[str]]:
    """Path of a submodule -> the refs with what the agent left beside its commit."""
    return {one["paths"][0]: one["refs"] for one in remarks if one["code"] == "submodule_side_work"}


def _both_sides(git: Git, run: Mapping[str, Any], remarks: Remarks, head: str) -> dict[str, list[str]]:
    """Path of a submodule in conflict -> its commits in the run, and in the plan as far as that was merged."""
    from orchestrion.runs.landing_notes import submodules_among

    paths = [path for one in remarks if one["code"] == "merge_conflict" for path in one["paths"]]
    plan = git.run("merge-base", f"refs/orchestrion/plans/{run['plan_name']}", head).stdout
    sides = [submodules_among(git, commit, paths) for commit in (run["head_commit"], plan)]
    return {path: [side[path] for side in sides if path in side] for path in paths}


def _left_in_submodules(git: Git, head: str, wanted: Mapping[str, Sequence[str]]) -> list[str]:
    """What the submodules of ``head`` lack, as far as the user has repositories of them."""
    from orchestrion.runs.git import Git as GitAt
    from orchestrion.runs.landing_notes import submodules_among

    left = []
    for path, now in submodules_among(git, head, list(wanted)).items():
        folder = Path(git.folder) / path
        inner = GitAt(folder) if (folder / ".git").exists() else None
        if inner is not None and inner.tip(now) is not None:
            left += [f"{shlex.quote(path)}: {one}" for one in wanted[path] if not _has(inner, now, one)]
    return left


def _has(git: Git, head: str, commit: str) -> bool:
    """Whether ``head`` contains a commit; one that is gone is not asked for."""
    found = git.tip(commit)
    return found is None or git.is_ancestor(found, head)
