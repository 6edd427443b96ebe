"""Our refs in the user's repository go when nobody needs them, and not before."""

from __future__ import annotations

import pytest

from orchestrion.runs import refs
from orchestrion.runs.git import Git
from stage import Stage

pytestmark = pytest.mark.users_repository_changes

SIDE = "git switch -qc side; echo s > s.txt; git add .; git commit -qm side; git switch -q -; echo b > b.txt"


def of_runs(stage: Stage) -> set[str]:
    prefixes = ("refs/orchestrion/runs", "refs/orchestrion/kept", "refs/heads/orchestrion/run")
    return set(stage.git("for-each-ref", "--format=%(refname)", *prefixes).split())


R1 = {"refs/orchestrion/runs/R1", "refs/heads/orchestrion/run/R1"}
R2 = {"refs/orchestrion/runs/R2", "refs/heads/orchestrion/run/R2"}


def test_they_go_when_the_plan_is_landed(stage: Stage) -> None:
    stage.add("echo b > b.txt")
    stage.add("echo c > c.txt")
    stage.drain()
    assert of_runs(stage) == R1 | R2
    stage.orchestrion.land("default")
    assert of_runs(stage) == set()


def test_those_of_work_that_is_not_landed_stay(stage: Stage) -> None:
    stage.add("echo b > b.txt")
    stage.add("echo c > c.txt; exit 1", max_retries=0)
    stage.add("echo d > d.txt", merge="none")
    stage.drain()
    stage.orchestrion.land("default")
    assert of_runs(stage) == R2 | {name.replace("R1", "R3") for name in R1}


def test_one_that_is_checked_out_stays_until_it_is_not(stage: Stage) -> None:
    stage.add("echo b > b.txt")
    stage.drain()
    stage.git("worktree", "add", "-q", stage.folder / "look", "orchestrion/run/R1")
    stage.orchestrion.land("default")
    assert of_runs(stage) == {"refs/heads/orchestrion/run/R1"}
    stage.git("worktree", "remove", "--force", stage.folder / "look")
    refs.retire(Git(stage.root), stage.orchestrion.store)
    assert of_runs(stage) == set()


def test_work_beside_the_branch_outlives_the_landing_and_goes_with_the_archive(stage: Stage) -> None:
    stage.add(SIDE)
    stage.drain()
    (kept,) = [ref for remark in stage.run()["remarks"] for ref in remark["refs"]]
    stage.orchestrion.land("default")
    assert of_runs(stage) == {kept}
    assert stage.git("show", f"{kept}:s.txt") == "s"
    stage.orchestrion.archive("T1")
    refs.retire(Git(stage.root), stage.orchestrion.store)
    assert of_runs(stage) == set()


@pytest.mark.parametrize("name", ["refs/orchestrion/runs/R01", "refs/orchestrion/runs/mine", "refs/orchestrion/x/R1"])
def test_names_that_are_none_of_ours_stay(stage: Stage, name: str) -> None:
    stage.git("update-ref", name, "HEAD")
    assert refs.retire(Git(stage.root), stage.orchestrion.store) == 0
    assert stage.git("rev-parse", name)


def test_a_branch_of_the_user_s_that_is_in_the_way_is_told(stage: Stage) -> None:
    assert refs.in_the_way(Git(stage.root)) is None
    stage.git("branch", "orchestrion")
    said = refs.in_the_way(Git(stage.root))
    assert said is not None
    assert "git branch -m orchestrion" in said
