"""What a person does with work in review: the commands, in order, for each reason there is.

They work as they stand, from any folder, whatever state the user's own tree is in: work is
looked at and mended in a worktree beside it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrion.core.errors import GitProblem
from orchestrion.core.states import TaskState
from orchestrion.orchestrator.opening import Opening

#: Reasons for which the run's branch is to be mended before it is approved.
_TO_MEND = ("merge_conflict", "merge_recheck_failed", "open_merge", "work_elsewhere")
#: Reasons for which something in the run's workspace is to be looked at, because nothing else has it.
_TO_SAVE = ("nested_left_out", "submodule_changed")


def steps(opened: Opening, task: Mapping[str, Any]) -> list[str]:
    """The commands for a task (as ``show`` gives it) that waits in review; empty for any other."""
    if task["state"] != TaskState.REVIEW:
        return []
    root = shlex.quote(str(opened.project.root))
    ours = f"orchestrion -C {root}"
    approve, reject = f"{ours} approve {task['id']}", f'{ours} reject {task["id"]} --reason "..."'
    run = next((run for run in reversed(task["runs"]) if run["head_commit"]), None)
    if run is None or opened.project.git_root is None:
        return [approve, reject]
    if task["code"] in _TO_MEND:
        return [*_mending(opened, task, run), approve, f"{reject}   # instead, to have it done again"]
    saving = _saving(opened, task, run, f"git -C {root}") if task["code"] in _TO_SAVE else ()
    return [f"{ours} diff {run['id']}", *saving, approve, reject]


def _saving(opened: Opening, task: Mapping[str, Any], run: Mapping[str, Any], git: str) -> Iterator[str]:
    """Where that is which approving and rejecting leave behind."""
    for remark in run["remarks"]:
        if remark["code"] == task["code"]:
            if not remark["refs"]:
                for path in remark["paths"]:
                    place = shlex.quote(str(Path(run["workspace"] or ".") / path))
                    yield f"cd {place}   # look at what is to stay: it is in no other place"
                    yield f"cp -a {place} {_beside(opened, run, path)}   # keeps all of it"
            yield from (f"{git} log --stat {shlex.quote(ref)}" for ref in remark["refs"])
            yield from (command.replace("git ", f"{git} ", 1) for command in remark.get("commands", ()))
            if task["code"] == "submodule_changed" and remark["refs"] and not remark.get("commands"):
                yield _words(f"push {remark['refs'][0]} to the remote of the submodule, if it is one that you trust")


def _beside(opened: Opening, run: Mapping[str, Any], path: str) -> str:
    """A place beside the project for something of a run, quoted."""
    root = opened.project.root
    return shlex.quote(str(root.with_name(f"{root.name}-{run['id']}-{path.replace('/', '-')}")))


def _mending(opened: Opening, task: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    root = opened.project.root
    folder = shlex.quote(str(root.with_name(f"{root.name}-{run['id']}")))
    here, there = f"git -C {shlex.quote(str(root))}", f"git -C {folder}"
    added, end = _worktree(opened, run, folder)
    what = [f"{there} {command}" if mends else command for mends, command in _what(opened, task, run, folder)]
    return [f"{here} {added}", *what, *(f"{there} {one}" for one in end), f"{here} worktree remove {folder}"]


def _what(opened: Opening, task: Mapping[str, Any], run: Mapping[str, Any], folder: str) -> Iterator[tuple[bool, str]]:
    """What is to be done in the worktree ``folder``: git's commands, and what is not one of them."""
    remark = next((one for one in run["remarks"] if one["code"] == task["code"]), None)
    files = " ".join(shlex.quote(path) for path in remark["paths"]) if remark else ""
    mend = False, _words(f"mend {files or 'the files'} in {folder}, then")
    submodules = _submodules_among(opened, run, remark["paths"]) if remark else {}
    if task["code"] == "merge_conflict" and submodules:
        yield True, f"merge {shlex.quote('refs/orchestrion/plans/' + task['plan'])}"
        for path, mine in submodules.items():
            yield from ((False, line) for line in _joining(opened, task, run, path, mine, folder))
        others = [path for path in remark["paths"] if path not in submodules] if remark else []
        if others:
            yield False, _words(f"mend {' '.join(map(shlex.quote, others))} in {folder}, then")
            yield True, f"add -- {' '.join(map(shlex.quote, others))}"
        yield True, "commit --no-edit"
    elif task["code"] == "merge_conflict":
        yield True, f"merge {shlex.quote('refs/orchestrion/plans/' + task['plan'])}"
        yield mend
        yield True, "add -A"
        yield True, "commit --no-edit"
    elif task["code"] == "work_elsewhere":
        yield from ((True, command) for ref in _kept(run) for command in _taking(ref, run["id"]))
        yield from ((False, _words(f"{one['message']}: {' '.join(one['refs'])}")) for one in _kept_in_submodules(run))
    else:
        if files or task["code"] != "open_merge":
            yield mend
            yield True, "add -A"
            yield True, 'commit -m "Mended by hand"'
        beside = [one for one in run["remarks"] if one["code"] == "side_work_kept"]
        yield from ((True, line) for one in beside for ref in one["refs"] for line in _taking(ref, run["id"]))


def _words(text: str) -> str:
    """What is no command, in one line: a name with a line end in it must not begin one."""
    return f"# {' '.join(text.splitlines())}"


def _submodules_among(opened: Opening, run: Mapping[str, Any], paths: Sequence[str]) -> dict[str, str]:
    from orchestrion.runs.git import Git
    from orchestrion.runs.landing_notes import submodules_among

    return submodules_among(Git(opened.project.root), run["head_commit"], paths) if run["head_commit"] else {}


def _joining(
    opened: Opening, task: Mapping[str, Any], run: Mapping[str, Any], path: str, mine: str, folder: str
) -> list[str]:
    """How two commits of a submodule become one: in the user's own repository of it, beside its working tree."""
    root = opened.project.root
    own = f"git -C {shlex.quote(str(root / path))}"
    place = _beside(opened, run, path)
    plan = shlex.quote(f"refs/orchestrion/plans/{task['plan']}:{path}")
    return [
        f"{own} worktree add --detach {place} {mine}",
        f"git -C {place} merge --no-edit $(git -C {shlex.quote(str(root))} rev-parse {plan})",
        _words(f"mend it in {place} if it says so, `git -C {place} commit -am merged`, then"),
        f"{own} update-ref refs/orchestrion/kept/{run['id']}/merged $(git -C {place} rev-parse HEAD)",
        f"git -C {folder} update-index --cacheinfo 160000,$(git -C {place} rev-parse HEAD),{shlex.quote(path)}",
        f"{own} worktree remove {place}",
    ]


def _taking(ref: str, run: str) -> list[str]:
    """How a kept commit comes into the worktree. A merge of a stash would leave out its untracked files."""
    quoted = shlex.quote(ref)
    if f"/{run}/stash/" not in ref:
        return [f"merge {quoted}"]
    return [f"stash apply {quoted}", "add -A", f'commit -m "From a stash of {run}"']


def _kept(run: Mapping[str, Any]) -> Sequence[str]:
    """The refs with what an agent left beside its branch, in the project."""
    in_submodules = _kept_in_submodules(run)
    return [ref for remark in run["remarks"] if remark not in in_submodules for ref in remark["refs"]]


def _kept_in_submodules(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [remark for remark in run["remarks"] if remark["code"] == "submodule_side_work"]


def _worktree(opened: Opening, run: Mapping[str, Any], folder: str) -> tuple[str, list[str]]:
    """How a worktree of the run's work is made, and what is to be done in it before it goes."""
    from orchestrion.runs.git import Git
    from orchestrion.runs.workspace.publish import RUN_BRANCH, RUN_REF

    branch, ref = RUN_BRANCH.format(run=run["id"]), RUN_REF.format(run=run["id"])
    try:
        git = Git(opened.project.root)
        shown, truth = git.tip(branch), git.tip(ref)
        has_branch = shown is not None and (truth is None or git.is_ancestor(truth, shown))
        has_branch = has_branch and branch not in git.checked_out_branches()  # of a run in a linked worktree
    except GitProblem:
        has_branch = True
    if has_branch:
        return f"worktree add {folder} {branch.removeprefix('refs/heads/')}", []
    return f"worktree add --detach {folder} {ref}", [f"update-ref {ref} HEAD"]
