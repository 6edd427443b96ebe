"""What a person does with work in review: the commands, in order, for each reason there is.

They work as they stand, in the project's folder, whatever state the user's own tree is in:
work is looked at and mended in a worktree beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrion.core.errors import GitProblem
from orchestrion.core.states import TaskState
from orchestrion.orchestrator.opening import Opening

#: Reasons for which the run's branch is to be mended before it is approved.
_TO_MEND = ("merge_conflict", "merge_recheck_failed", "open_merge", "work_elsewhere")


def steps(opened: Opening, task: Mapping[str, Any]) -> list[str]:
    """The commands for a task (as ``show`` gives it) that waits in review; empty for any other."""
    if task["state"] != TaskState.REVIEW:
        return []
    approve, reject = f"orchestrion approve {task['id']}", f'orchestrion reject {task["id"]} --reason "..."'
    run = next((run for run in reversed(task["runs"]) if run["head_commit"]), None)
    if run is None or opened.project.git_root is None:
        return [approve, reject]
    if task["code"] not in _TO_MEND:
        return [f"orchestrion diff {run['id']}", approve, reject]
    return [*_mending(opened, task, run), approve, f"{reject}   # instead, to have it done again"]


def _mending(opened: Opening, task: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    folder = f"../{opened.project.root.name}-{run['id']}"
    begin, end = _worktree(opened, run, folder)
    return [begin, f"cd '{folder}'", *_what(task, run), *end, f"cd - && git worktree remove '{folder}'"]


def _what(task: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    remark = next((one for one in run["remarks"] if one["code"] == task["code"]), None)
    files = " ".join(f"'{path}'" for path in remark["paths"][:5]) if remark else ""
    mend = f"# mend {files or 'the files'}, then"
    if task["code"] == "merge_conflict":
        return [
            f"git merge refs/orchestrion/plans/{task['plan']}",
            mend,
            f"git add {files or '-u'}",
            "git commit --no-edit",
        ]
    if task["code"] == "work_elsewhere":
        return [f"git merge {ref}" for ref in _kept(run)]
    return [mend, 'git commit -am "Mended by hand"']


def _kept(run: Mapping[str, Any]) -> Sequence[str]:
    return [ref for remark in run["remarks"] for ref in remark["refs"]]


def _worktree(opened: Opening, run: Mapping[str, Any], folder: str) -> tuple[str, list[str]]:
    """How a worktree of the run's work is made, and what is to be done before it goes."""
    from orchestrion.runs.git import Git
    from orchestrion.runs.workspace.publish import RUN_BRANCH, RUN_REF

    branch, ref = RUN_BRANCH.format(run=run["id"]), RUN_REF.format(run=run["id"])
    try:
        has_branch = Git(opened.project.root).tip(branch) is not None
    except GitProblem:
        has_branch = True
    if has_branch:
        return f"git worktree add '{folder}' {branch.removeprefix('refs/heads/')}", []
    return f"git worktree add --detach '{folder}' {ref}", [f"git update-ref {ref} HEAD"]
