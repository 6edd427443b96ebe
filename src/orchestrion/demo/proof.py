"""Whether it is all true: the demo believes nobody, not even itself.

The merged branch is checked out into a folder of its own and the whole test-suite runs
there; every accepted result must be contained; the user's branch must be as it was; and
no process may be left.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from orchestrion.core.errors import OrchestrionError
from orchestrion.core.model import Run, Task, name
from orchestrion.core.states import TaskState
from orchestrion.demo.page import Page
from orchestrion.demo.stage import Stage
from orchestrion.orchestrator import Orchestrator
from orchestrion.runs import processes
from orchestrion.runs.git import Git
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.workspace.prepare import own_repository

#: The test-suite takes a second or two.
LONGEST_S = 120.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    passed: bool
    #: What was found, in words.
    text: str


@dataclass(frozen=True)
class Proof:
    """All that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.passed for finding in self.findings)


def prove(stage: Stage, opened: Orchestrator, page: Page) -> Proof:
    """Looks at everything that the demo claims."""
    page.heading("Proof")
    looks: tuple[Callable[[Stage, Orchestrator], Finding], ...] = (
        _all_done,
        _all_contained,
        _tests_pass,
        _user_untouched,
        _nobody_left,
    )
    findings = []
    for look in looks:
        finding = _looked(look, stage, opened)
        page.paragraph(f"{'✓' if finding.passed else '✗'} {finding.text}")
        findings.append(finding)
    return Proof(tuple(findings))


def _looked(look: Callable[[Stage, Orchestrator], Finding], stage: Stage, opened: Orchestrator) -> Finding:
    try:
        return look(stage, opened)
    except (OrchestrionError, OSError, subprocess.SubprocessError) as problem:
        return Finding(False, f"this could not be looked at: {problem}")


def _all_done(stage: Stage, opened: Orchestrator) -> Finding:
    """Every task is completed, or nobody needed it."""
    tasks = _tasks(stage, opened)
    completed = [task for task in tasks if task.state == TaskState.COMPLETED]
    unneeded = [task for task in tasks if task.state == TaskState.CANCELLED and task.row["code"] == "not_needed"]
    others = [f"{name('T', task.id)} {task.state}" for task in tasks if task not in completed and task not in unneeded]
    if others:
        return Finding(False, f"{len(completed)} of {len(tasks)} tasks are completed; not so {', '.join(others)}")
    unneeded_too = f", {len(unneeded)} was not needed" if unneeded else ""
    return Finding(True, f"{len(completed)} of {len(tasks)} tasks are completed{unneeded_too}.")


def _all_contained(stage: Stage, opened: Orchestrator) -> Finding:
    """The branch is where the plan is, and contains the work of every completed task."""
    git, branch = Git(stage.repository), f"orchestrion/{stage.plan_name}"
    tip = git.tip(f"refs/heads/{branch}")
    if tip is None or tip != PlanTip(Git(stage.repository), stage.plan_name).read():
        return Finding(False, f"the branch {branch} is at {tip}, which is not where the plan is")
    heads = [run.row["head_commit"] for run in _accepted(stage, opened)]
    missing = [head for head in heads if head is None or not git.is_ancestor(head, tip)]
    if missing:
        return Finding(False, f"the branch {branch} lacks {', '.join(map(str, missing))}")
    return Finding(True, f"The branch {branch} ({tip[:7]}) contains the accepted work of all {len(heads)} runs.")


def _tests_pass(stage: Stage, opened: Orchestrator) -> Finding:
    """The whole test-suite of the branch, in a checkout that nobody has touched."""
    place = stage.folder / "proof"
    try:
        git = own_repository(Git(stage.repository).common_dir(), place, "")
        git.run("checkout", "--quiet", "--detach", PlanTip(Git(stage.repository), stage.plan_name).read() or "HEAD")
        done = subprocess.run(
            [sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", "."],
            cwd=place,
            env=dict(stage.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    ran = re.search(r"^Ran (\d+) tests?", done.stderr, re.MULTILINE)
    if done.returncode or ran is None or not int(ran[1]):
        return Finding(False, f"its tests fail in a fresh checkout:\n{done.stderr[-2000:]}")
    return Finding(True, f"All {ran[1]} tests of the branch pass in a fresh checkout of it.")


def _user_untouched(stage: Stage, _opened: Orchestrator) -> Finding:
    """The user's branch, index and working tree are as they were."""
    git = Git(stage.repository)
    head = git.run("symbolic-ref", "--short", "HEAD").stdout, git.tip("HEAD")
    changed = git.run("status", "--porcelain", "--", ".", ":(exclude).orchestrion").stdout
    if head != ("main", stage.start) or changed:
        return Finding(False, f"the checkout was touched: {head[0]} is at {head[1]}, {changed or 'nothing changed'}")
    return Finding(True, f"The checkout is untouched: main is still at {stage.start[:7]}, the working tree is clean.")


def _nobody_left(_stage: Stage, opened: Orchestrator) -> Finding:
    """No process carries the mark of a run."""
    left = processes.of_store(opened.store.uuid)
    active = opened.status()["runs"]
    if left or active:
        return Finding(False, f"still there: {', '.join(left) or 'no process'}; {len(active)} active run(s)")
    return Finding(True, "No process of any run is left.")


def _accepted(stage: Stage, opened: Orchestrator) -> list[Run]:
    runs = {task.row["work_run"] for task in _tasks(stage, opened) if task.state == TaskState.COMPLETED}
    return [opened.run(name("R", run)) for run in sorted(run for run in runs if run)]


def _tasks(stage: Stage, opened: Orchestrator) -> list[Task]:
    tasks = opened.list_tasks(plan=stage.plan_name, limit=1000).items
    return [task for task in tasks if isinstance(task, Task)]
