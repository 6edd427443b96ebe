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
    if reason_of(task, run) in _TO_MEND:
        return [*_mending(opened, task, run), approve, f"{reject}   # instead, to have it done again"]
    saving = _saving(opened, task, run, f"git -C {root}") if task["code"] in _TO_SAVE else ()
    return [f"{ours} diff {run['id']}", *saving, approve, reject]


def reason_of(task: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Why it waits: for what was found when it was approved, else for what brought it there."""
    is_conflict = any(remark["code"] == "merge_conflict" for remark in run["remarks"])
    return "merge_conflict" if is_conflict else str(task["code"])


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
    reason = reason_of(task, run)
    remark = next((one for one in run["remarks"] if one["code"] == reason), None)
    files = " ".join(shlex.quote(path) for path in remark["paths"]) if remark else ""
    mend = False, _words(f"mend {files or 'the files'} in {folder}, then")
    plan_ref = f"refs/orchestrion/plans/{task['plan']}"
    plan = shlex.quote(plan_ref)
    submodules = _submodules_among(opened, run, remark["paths"]) if remark else {}
    if reason == "merge_conflict" and submodules:
        yield True, f"merge {plan}"
        there = _submodules_at(opened, plan_ref, remark["paths"]) if remark else {}
        for path, mine in submodules.items():
            if path in there and (opened.project.root / path / ".git").exists():
                yield from ((False, line) for line in _joining(opened, run, path, mine, [there[path]], folder))
            else:
                other = f"at {there[path]}" if path in there else "taken out (`rm --cached` in place of this)"
                yield False, _words(f"the plan has {path} {other}: decide which of the two, or another, is right")
                yield True, f"update-index --cacheinfo 160000,{mine},{shlex.quote(path)}"
        others = [path for path in remark["paths"] if path not in submodules] if remark else []
        if others:
            yield False, _words(f"mend {' '.join(map(shlex.quote, others))} in {folder}, then")
            yield True, f"add -- {' '.join(map(shlex.quote, others))}"
        yield True, "commit --no-edit"
    elif reason == "merge_conflict":
        yield True, f"merge {plan}"
        yield mend
        yield True, "add -A"
        yield True, "commit --no-edit"
    else:
        if files or reason not in ("open_merge", "work_elsewhere"):
            yield mend
            yield True, "add -A"
            yield True, 'commit --allow-empty -m "Mended by hand"'
        if reason in ("open_merge", "work_elsewhere"):
            yield from _taking_in(opened, run, folder)


def _taking_in(opened: Opening, run: Mapping[str, Any], folder: str) -> Iterator[tuple[bool, str]]:
    """How what an agent left beside its branch comes in."""
    for ref in kept_beside(run):
        yield True, f"merge --no-edit {shlex.quote(ref)}"
        yield False, _words(f"mend it if it says so, `git -C {folder} commit -am Mended`, then")
    for remark in run["remarks"]:
        if remark["code"] != "submodule_side_work":
            continue
        (path,) = remark["paths"]
        mine = _submodules_among(opened, run, [path]).get(path)
        if mine is None or not all(_is_in_submodule(opened, path, ref) for ref in remark["refs"]):
            yield False, _words(f"{remark['message']}: {' '.join(remark['refs'])}")
            continue
        yield from ((False, line) for line in _joining(opened, run, path, mine, remark["refs"], folder))
        yield True, 'commit -m "What was beside the commit of a submodule"'


def kept_beside(run: Mapping[str, Any]) -> list[str]:
    """The refs in the project with what an agent left beside its branch."""
    return [ref for remark in run["remarks"] if remark["code"] == "side_work_kept" for ref in remark["refs"]]


def _is_in_submodule(opened: Opening, path: str, ref: str) -> bool:
    from orchestrion.runs.git import Git

    folder = opened.project.root / path
    return (folder / ".git").exists() and Git(folder).tip(ref) is not None


def _words(text: str) -> str:
    """What is no command, in one line: a name with a line end in it must not begin one."""
    return f"# {' '.join(text.splitlines())}"


def _submodules_among(opened: Opening, run: Mapping[str, Any], paths: Sequence[str]) -> dict[str, str]:
    return _submodules_at(opened, run["head_commit"], paths) if run["head_commit"] else {}


def _submodules_at(opened: Opening, commit: str, paths: Sequence[str]) -> dict[str, str]:
    from orchestrion.runs.git import Git
    from orchestrion.runs.landing_notes import submodules_among

    return submodules_among(Git(opened.project.root), commit, paths)


def _joining(
    opened: Opening, run: Mapping[str, Any], path: str, mine: str, theirs: Sequence[str], folder: str
) -> Iterator[str]:
    """How commits of a submodule become one: in the user's own repository of it, beside its working tree."""
    own = f"git -C {shlex.quote(str(opened.project.root / path))}"
    place = _beside(opened, run, path)
    yield f"{own} worktree add --detach {place} {mine}"
    for one in theirs:
        yield f"git -C {place} merge --no-edit {one}"
        yield _words(f"mend it in {place} if it says so, `git -C {place} commit -am merged`, then")
    yield f"{own} update-ref refs/orchestrion/kept/{run['id']}/merged $(git -C {place} rev-parse HEAD)"
    yield f"git -C {folder} update-index --cacheinfo 160000,$(git -C {place} rev-parse HEAD),{shlex.quote(path)}"
    yield f"{own} worktree remove {place}"


def _worktree(opened: Opening, run: Mapping[str, Any], folder: str) -> tuple[str, list[str]]:
    """How a worktree of the run's work is made, and what is to be done in it before it goes."""
    from orchestrion.runs.git import Git
    from orchestrion.runs.workspace.publish import RUN_BRANCH, RUN_REF

    branch, ref = RUN_BRANCH.format(run=run["id"]), RUN_REF.format(run=run["id"])
    try:
        git = Git(opened.project.root)
        shown, truth = git.tip(branch), git.tip(ref)
        has_branch = shown is not None and (truth is None or git.is_ancestor(truth, shown))
    except GitProblem:
        has_branch = True
    # A run in a linked worktree holds its branch, also where it is in the middle of a rebase.
    is_held = run["workspace"] and (Path(run["workspace"]) / ".git").is_file()
    if has_branch and not is_held:
        return f"worktree add {folder} {branch.removeprefix('refs/heads/')}", []
    return f"worktree add --detach {folder} {ref}", [f"update-ref {ref} HEAD"]
