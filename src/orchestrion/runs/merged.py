"""Whether a plan has the work of a run, asked of git alone: whoever died, or a store that is an older copy, cannot say.

A run's work is what its ref or its branch has beyond the commit that it began at; where these went, as after a landing,
the commits of the plan name the run.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrion.core.model import name
from orchestrion.core.states import Phase
from orchestrion.runs.commits import RUN_TRAILER, TASK_TRAILER
from orchestrion.runs.git import Git
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.workspace.publish import RUN_REF, run_tip
from orchestrion.store.store import Row


def work_in_plan(git: Git, run: Row, plan: Row) -> str | None:
    """The commit with the work of a run (its row), if its plan (its row) has it. Raises GitProblem."""
    tip = PlanTip(git, plan["name"]).read()
    if tip is None:
        return None
    if run["phase"] == Phase.MERGING and run["head_commit"] and git.is_ancestor(run["head_commit"], tip):
        return str(run["head_commit"])
    # Where the store does not know where the run began, it did not begin before where the plan was then.
    base = run["base_commit"] or plan["tip"] or plan["began_commit"]
    if base is None or git.missing([base]):
        return None
    heads = _heads(git, run, base, tip)
    return next((one for one in heads if git.is_ancestor(one, tip) and not git.is_ancestor(one, base)), None)


def _heads(git: Git, run: Row, base: str, tip: str) -> Iterator[str]:
    """Commits that may have the work of a run, the best first."""
    label = name("R", run["id"])
    known = (run_tip(git, label), git.tip(RUN_REF.format(run=label)))
    yield from (head for head in known if head is not None)
    yield from _naming(git, {RUN_TRAILER: label, TASK_TRAILER: name("T", run["task"])}, base, tip)


def _naming(git: Git, trailers: dict[str, str], base: str, tip: str) -> list[str]:
    """The newest commit of a plan since ``base`` that has all these trailers, if there is one."""
    wanted = [f"--grep=^{key}: {value}$" for key, value in trailers.items()]
    return git.run(
        "rev-list", "--max-count=1", "--basic-regexp", "--all-match", *wanted, f"{base}..{tip}"
    ).stdout.split()
