"""Several projects, clones, hosts and copies on one store: nobody ends or splits what is another's."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from direct import connect_raw
from orchestrion import Orchestrator
from orchestrion.core.errors import Conflict, NotFound, NothingReady
from orchestrion.core.host import here
from orchestrion.runs import processes
from orchestrion.runs.launch import places
from orchestrion.scheduler import claim
from stage import Stage
from waiting import wait_for

pytestmark = pytest.mark.long


class Field:
    """Repositories that share one store."""

    def __init__(self, folder: Path, db: str | None) -> None:
        self.folder = folder
        self.db = db
        self.first = Stage(folder / "stage", os.environ)
        self.environ = self.first.environ

    def repository(self, name: str, *, of: Path | None = None) -> Path:
        """A repository with one commit, or a clone of another one."""
        root = self.folder / name
        if of is not None:
            self.first.git("clone", "-q", of, root, at=self.folder)
            return root
        shutil.copytree(self.first.root, root)
        return root

    @contextmanager
    def open(self, root: Path, **environ: str) -> Iterator[Orchestrator]:
        with Orchestrator.open(root, db=self.db, environ={**self.environ, **environ}) as opened:
            yield opened

    def name(self, root: Path, name: str) -> None:
        """The project's name is set, as for all who share a database."""
        (root / ".orchestrion").mkdir(exist_ok=True)
        (root / ".orchestrion" / "config.yaml").write_text(
            f"db: {json.dumps(self.db)}\nproject: {{name: {name}}}\nretry: {{delay_s: 0}}\nrun: {{grace_s: 1}}\n"
        )
        (root / ".git" / "info" / "exclude").write_text(".orchestrion/\n")

    @contextmanager
    def worker(
        self, root: Path, *wrapped: str, drain: bool = True, **environ: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """``orchestrion work`` as a process of its own; killed when the block is left."""
        command = [*wrapped, sys.executable, "-P", "-m", "orchestrion", "-C", str(root), "work", "--slots", "2"]
        command += ["--drain"] if drain else []
        told = {**self.environ, **environ}
        with subprocess.Popen(
            command, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def field(tmp_path: Path, store_url: str) -> Field:
    return Field(tmp_path, store_url)


@pytest.fixture
def two(field: Field) -> tuple[Path, Path]:
    """Two clones of one remote, for one project."""
    remote = field.folder / "r.git"
    field.first.git("clone", "-q", "--bare", field.first.root, remote, at=field.folder)
    roots = field.repository("p", of=remote), field.repository("q", of=remote)
    for root in roots:
        field.name(root, "two")
    return roots


def states(opened: Orchestrator) -> dict[str, str]:
    return {task.as_json()["id"]: str(task.state) for task in opened.list_tasks().items}


def runs(opened: Orchestrator, task: str | None = None) -> list[str]:
    """States of runs, the newest first."""
    return [str(run.row["state"]) for run in opened.list_runs(task=task).items]


def gated(field: Field, go: str, then: str) -> str:
    """A command that waits for a file."""
    return f"echo on; while [ ! -e {field.folder / go} ]; do sleep 0.05; done; {then}"


def run_of(opened: Orchestrator, run: str = "R1") -> dict[str, Any]:
    return dict(opened.run(run).row)


# -- sweeps --------------------------------------------------------------------------------------------------


def test_a_worker_leaves_the_agents_of_another_project_in_its_store_alone(field: Field) -> None:
    mine, others = field.repository("mine"), field.repository("others")
    field.name(mine, "mine")
    field.name(others, "others")
    with field.open(others) as opened:
        opened.add("long", command=gated(field, "go", "echo b > b.txt"))
        with field.worker(others) as worker:
            wait_for(lambda: processes.of_store(opened.store.uuid).get("R1"), "its agent works")
            with field.open(mine) as own:
                own.add("short", command="true")
                assert own.work(slots=1, drain=True).all_completed
            (field.folder / "go").touch()
            assert worker.wait(60) == 0
        assert runs(opened, "T1") == ["succeeded"]


def test_it_ends_what_a_run_of_another_project_left_once_that_is_over(field: Field) -> None:
    """But not what says that it belongs to another folder, and not what the store does not know."""
    mine = field.repository("mine")
    field.name(mine, "mine")
    with field.open(mine) as own:
        own.add("short", command="true")
        own.work(slots=1, drain=True)
        own.add("shorter", command="true")
        marker = f"{own.store.uuid}/R1"
        here_, there = places(mine, own.store.url), places(field.folder / "copy", own.store.url)
        told = [
            {**os.environ, processes.MARKER: marker, **here_},
            {**os.environ, processes.MARKER: marker, **there},
            {**os.environ, processes.MARKER: f"{own.store.uuid}/R99", **here_},
        ]
        sleepers = [
            subprocess.Popen(["sleep", "300"], env={**os.environ, **one}, start_new_session=True) for one in told
        ]
        try:
            assert own.work(slots=1, drain=True).all_completed
            assert sleepers[0].wait(30) == -signal.SIGTERM
            assert [one.poll() for one in sleepers[1:]] == [None, None]
        finally:
            for one in sleepers:
                one.kill()
                one.wait()


def test_two_stores_of_one_id_do_not_end_each_others_agents(tmp_path: Path) -> None:
    """As copies of a store of version 0.1.0 have it: the same id, the same numbers of runs."""
    field = Field(tmp_path, None)
    roots = field.repository("original"), field.repository("copy")
    with field.open(roots[0]) as original, field.open(roots[1]) as copy:
        with sqlite3.connect(copy.store.url) as connection:
            connection.execute("update meta set value = ? where key = 'uuid'", (original.store.uuid,))
        connection.close()
        original.add("long", command=gated(field, "go", "echo b > b.txt"))
        with field.worker(roots[0]) as worker:
            wait_for(lambda: processes.of_store(original.store.uuid).get("R1"), "its agent works")
    with field.open(roots[0]) as original, field.open(roots[1]) as copy:
        assert copy.store.uuid == original.store.uuid
        with field.worker(roots[0]) as worker:
            copy.add("short", command="true")
            copy.add("dies", command="kill -9 $PPID", max_retries=0)
            summary = copy.work(slots=1, drain=True)
            assert (summary.completed, summary.failed) == (1, 1)
            (field.folder / "go").touch()
            assert worker.wait(60) == 0
        assert (states(original), runs(original)) == ({"T1": "completed"}, ["succeeded"])


# -- hosts ---------------------------------------------------------------------------------------------------


def test_two_namespaces_of_one_name_on_one_store(field: Field) -> None:
    """Equal names, equal pids: each sees to its own runs, and what the other's agents are at goes on."""
    unshare = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a namespace of process ids")
    root = field.repository("p")
    field.name(root, "p")
    with field.open(root) as opened:
        for _ in range(4):
            opened.add("long", command=gated(field, "go", "true"), merge="none")
        with field.worker(root, *unshare) as first, field.worker(root, *unshare) as second:
            wait_for(lambda: opened.status()["tasks"].get("in_progress") == 4, "each has two")
            wait_for(lambda: all(run_of(opened, f"R{n}")["pid"] for n in (1, 2, 3, 4)), "all are supervised")
            workers = opened.store.read(lambda tx: tx.all("workers"))
            assert len(workers) == 2
            assert len({row["host"] for row in workers}) == 1
            assert len({row["host_id"] for row in workers}) == 2
            assert opened.health()["components"]["workers"]["alive"] == 2
            assert opened.health()["runs"]["stuck"] == 0
            (field.folder / "go").touch()
            assert (first.wait(120), second.wait(120)) == (0, 0)
        assert runs(opened) == ["succeeded"] * 4


def test_work_of_a_run_from_before_the_machine_was_restarted_is_kept(field: Field) -> None:
    """Its pids mean nothing any more, perhaps somebody else; its folders are there."""
    root = field.repository("p")
    field.name(root, "p")
    with field.open(root) as opened:
        opened.add("half", command="echo half > b.txt; echo on; test $ORCHESTRION_ATTEMPT = 2 || sleep 300")
        with field.worker(root):
            wait_for(
                lambda: (log := root / ".git/orchestrion/runs/R1/log.jsonl").exists() and "on" in log.read_text(), ""
            )
            row = run_of(opened)
        processes.end_tree([(row["pid"], row["pid_start"])], f"{opened.store.uuid}/R1", 0)
        # As if the machine had been started since: the supervisor's pid is somebody's who lives.
        before = f"{here(field.environ).folders}-b4b4b4b4-1"
        lives = (before, os.getpid(), processes.start_time(os.getpid()))
        change(field, "update runs set host_id = ?, pid = ?, pid_start = ?, lease_until = 0 where id = 1", *lives)
        with field.worker(root, drain=False):
            wait_for(lambda: states(opened) == {"T1": "completed"}, "its lease is over")
        assert runs(opened) == ["succeeded", "lost"]
        assert run_of(opened)["head_commit"] is not None
        assert field.first.git("show", "orchestrion/run/R1:b.txt", at=root) == "half"


def change(field: Field, sql: str, *values: object) -> None:
    assert field.db is not None
    raw = connect_raw(field.db)
    assert raw.run(sql, *values)
    raw.close()


# -- clones --------------------------------------------------------------------------------------------------


def test_who_only_looks_takes_the_project_from_no_clone(field: Field, two: tuple[Path, Path]) -> None:
    """By a name that was set by mistake, by a run's command too; a name is given by ``init`` alone."""
    p, q = two
    with field.open(p) as opened, field.open(q):
        opened.add("kept", command="ORCHESTRION_PROJECT_NAME=evil orchestrion list")
    wrong = {**field.environ, "ORCHESTRION_PROJECT_NAME": "evil"}
    for root in two:
        with pytest.raises(NotFound) as refused:
            Orchestrator.open(root, environ=wrong)
        assert refused.value.code == "no_project"
    with field.open(p) as opened:
        opened.work(slots=1, drain=True)
        assert runs(opened) == ["failed"]
        assert "the database has no project 'evil'" in str(list(opened.log("R1")))
    for root in two:
        with field.open(root) as opened:
            assert (opened.store.project_name, list(states(opened))) == ("two", ["T1"])
    with field.open(q) as other:
        other.add("goes on", command="echo on > on", plan="other")
        field.name(p, "renamed")
        assert Orchestrator.init(p, environ=field.environ)["renamed"] == {"from": "two", "to": "renamed"}
        other.work(slots=1, drain=True)
        assert runs(other, "T2") == ["succeeded"]
    with field.open(p) as opened:
        assert (opened.store.project_name, list(states(opened))) == ("renamed", ["T1", "T2"])
    with pytest.raises(NotFound, match="no project 'two'"):
        Orchestrator.open(q, environ=field.environ)


def test_a_plan_stays_in_the_clone_in_which_it_began(field: Field, two: tuple[Path, Path]) -> None:
    p, q = two
    with field.open(p) as opened, field.open(q) as other:
        for number in range(4):
            opened.add(f"w{number}", command=f"echo {number} > w{number}")
        for number in range(4, 8):
            opened.add(f"w{number}", command=f"echo {number} > w{number}", after=[f"T{number - 3}"])
        free = str(other.add("free", command="echo free > free; cat a.txt", merge="none").as_json()["id"])
        for refused in (lambda: other.claim("T1"), lambda: other.land("default"), lambda: other.take_up("T1")):
            with pytest.raises(Conflict) as error:
                refused()
            assert error.value.code == "other_clone"
            assert str(p) in str(error.value)
        assert [reason["kind"] for reason in other.why("T1")["reasons"]] == ["other_clone"]
        with field.worker(p) as worker, field.worker(q) as helper:
            assert (worker.wait(120) in (0, 8), helper.wait(120) in (0, 8)) == (True, True)
        assert set(states(opened).values()) == {"completed"}
        merged = [run.row for run in opened.list_runs().items if run.row["task"] != int(free[1:])]
        assert {(run["clone"], run["state"]) for run in merged} == {(opened.store.clone, "succeeded")}
        work = opened.task("T1").row["work_run"]
        with pytest.raises(Conflict) as error:
            other.diff(f"R{work}")
        assert error.value.code == "other_clone"
        assert opened.land()["landed"]
        assert other.maintain("validate_structure")["found"]["valid"]
    assert all((p / f"w{number}").exists() for number in range(8))
    assert field.first.git("for-each-ref", "refs/orchestrion/plans", at=q) == ""


def test_a_worker_says_what_it_leaves_to_another_clone(field: Field, two: tuple[Path, Path]) -> None:
    p, q = two
    with field.open(p) as opened, field.open(q) as other:
        opened.add("a", command="true")
        summary = other.work(slots=1, drain=True)
        assert (summary.runs, summary.blocked) == (0, 1)
        (waiting,) = summary.waiting
        assert waiting.tasks == ["T1"]
        assert f"plan default belongs to the clone {os.uname().nodename}:{p}" in waiting.reason


def test_accepting_work_is_for_the_clone_that_has_it(field: Field, two: tuple[Path, Path]) -> None:
    p, q = two
    with field.open(p) as opened, field.open(q) as other:
        opened.add("a", command="echo a > a2.txt; orchestrion done --summary look --next needs_revision")
        assert opened.work(slots=1, drain=True).blocked == 1
        assert states(opened) == {"T1": "review"}
        with pytest.raises(Conflict) as error:
            other.approve("T1")
        assert error.value.code == "other_clone"
        assert opened.approve("T1")["state"] == "completed"


def test_a_clone_that_is_moved_keeps_its_plans(field: Field, two: tuple[Path, Path]) -> None:
    p, _ = two
    with field.open(p) as opened:
        opened.add("a", command="echo a > a2.txt")
    moved = p.rename(p.with_name("moved"))
    with field.open(moved) as opened:
        assert opened.work(slots=1, drain=True).all_completed
        assert opened.land()["landed"]


def test_plans_of_a_copied_store_are_the_copys(tmp_path: Path) -> None:
    field = Field(tmp_path, None)
    root = field.repository("p")
    with field.open(root) as opened:
        opened.add("a", command="echo a > a2.txt")
    copy = shutil.copytree(root, tmp_path / "copy")
    with field.open(copy) as copied, field.open(root) as opened:
        assert copied.store.clone != opened.store.clone
        for one in (copied, opened):
            assert one.work(slots=1, drain=True).all_completed
            assert one.land()["landed"]


def test_a_copied_clone_lands_none_of_the_work_of_the_first(field: Field, tmp_path: Path) -> None:
    root = field.repository("one")
    with field.open(root) as opened:
        opened.add("a", command="echo a > a2.txt")
        assert opened.work(slots=1, drain=True).all_completed
        copy = shutil.copytree(root, tmp_path / "copy")
        with field.open(copy) as copied:
            copied.add("b", command="echo b > b2.txt")
            assert copied.unlanded_plans() == []
            with pytest.raises(NothingReady):
                copied.land("default", partial=True)
            assert copied.work(slots=1, drain=True).all_completed
            assert copied.land()["landed"]
        assert opened.land()["landed"]
    assert [(copy / name).exists() for name in ("a2.txt", "b2.txt")] == [False, True]
    assert [(root / name).exists() for name in ("a2.txt", "b2.txt")] == [True, False]


def test_taking_over_a_plan_whose_clone_is_gone(field: Field, two: tuple[Path, Path]) -> None:
    p, q = two
    with field.open(p) as opened, field.open(q) as other:
        opened.add("a", command="echo a > a2.txt")
        assert opened.work(slots=1, drain=True).all_completed
        opened.add("b", command="cat a2.txt > b2.txt", after=["T1"])
        with pytest.raises(NotFound) as lost:
            other.take_over("default")
        assert lost.value.code == "plan_lost"
        ref = "refs/orchestrion/plans/default"
        assert f"{ref}:{ref}" in str(lost.value.hint)
        field.first.git("fetch", "-q", p, f"{ref}:{ref}", at=q)
        shutil.rmtree(p)
        assert other.take_over("default")["taken_over"]
        assert not other.take_over("default")["taken_over"], "it is its own already"
        assert other.work(slots=1, drain=True).all_completed
        assert other.land()["landed"]
    assert (q / "b2.txt").read_text() == "a\n"


def test_nothing_is_taken_over_from_a_run_that_is_at_work(field: Field, two: tuple[Path, Path]) -> None:
    p, q = two
    with field.open(p) as opened, field.open(q) as other:
        opened.add("a", command="true")
        elsewhere = claim.Claimant(60_000, agent="command", supervised=True, host="elsewhere", host_id="x-y-z")
        opened.store.write(lambda tx: claim.claim(tx, elsewhere))
        with pytest.raises(Conflict) as error:
            other.take_over("default")
        assert error.value.code == "run_active"


def test_a_run_that_may_be_merged_elsewhere_is_not_given_up_here(field: Field, two: tuple[Path, Path]) -> None:
    p, q = two
    with field.open(p) as opened, field.open(q) as other:
        opened.add("a", command="true")
        opened.add("b", command="true")
        elsewhere = claim.Claimant(60_000, agent="command", supervised=True, host="elsewhere", host_id="x-y-z")
        for _ in range(2):
            opened.store.write(lambda tx: claim.claim(tx, elsewhere))
        change(field, "update runs set lease_until = 0")
        change(field, "update runs set phase = 'merging', head_commit = 'abc' where id = 1")
        other.work(slots=1, drain=True)
        assert runs(other) == ["lost", "starting"]


def test_plans_of_older_programs_belong_to_the_clone_that_has_their_work(field: Field, two: tuple[Path, Path]) -> None:
    p, q = two
    with field.open(p) as opened, field.open(q) as other:
        opened.add("a", command="echo a > a2.txt")
        opened.work(slots=1, drain=True)
        opened.add("b", command="true")
        change(field, "update plans set began_clone = null, began_host = null, tip = null")
        change(field, "update tasks set clone = ''")
        opened.work(slots=1, drain=True)
        opened.add("c", command="true")
        assert other.work(slots=1, drain=True).runs == 0


# -- plans of older programs -----------------------------------------------------------------------------------


@pytest.fixture
def unbound(field: Field, two: tuple[Path, Path]) -> tuple[Path, Path]:
    """As version 0.1.0 left it: a plan of which the first clone has accepted work, and another task is ready."""
    p, q = two
    with field.open(p) as opened:
        opened.add("a", command="echo a > a2.txt")
        assert opened.work(slots=1, drain=True).all_completed
        opened.add("b", command="cat a2.txt > b2.txt", after=["T1"])
    change(field, "update plans set began_clone = null, began_host = null, began_checkout = null, tip = null")
    change(field, "update plans set began_branch = null, began_commit = null")
    change(field, "update runs set clone = null")
    change(field, "update tasks set clone = ''")
    return p, q


def test_a_clone_without_the_accepted_work_of_a_plan_does_not_begin_it(
    field: Field, unbound: tuple[Path, Path]
) -> None:
    p, q = unbound
    with field.open(p) as opened, field.open(q) as other:
        summary = other.work(slots=1, drain=True)
        assert (summary.runs, summary.blocked) == (0, 1)
        said = "the accepted work of plan default was not found in this clone, and no clone has the plan yet"
        assert said in summary.waiting[0].reason
        (reason,) = other.why("T2")["reasons"]
        assert (reason["kind"], said in reason["detail"]) == ("other_clone", True)
        for refused in (lambda: other.claim("T2"), lambda: other.work_on("T2"), lambda: other.land("default")):
            with pytest.raises(Conflict) as error:
                refused()
            assert (error.value.code, said in error.value.message) == ("other_clone", True)
        assert other.health()["components"]["work"]["not_here"] == ["R1"]
        assert not other.maintain("validate_structure")["found"]["valid"]
        assert opened.work(slots=1, drain=True).all_completed
        assert other.health()["components"]["work"]["status"] == "healthy"
        assert opened.land()["landed"]
    assert (p / "b2.txt").read_text() == "a\n"


def test_work_that_was_landed_without_what_came_before_it_is_seen(field: Field, unbound: tuple[Path, Path]) -> None:
    _, q = unbound
    with field.open(q) as other:
        change(field, "update plans set began_clone = ?", str(other.store.clone))
        other.update("T2", command="echo b > b2.txt")
        assert other.work(slots=1, drain=True).all_completed
        assert other.land()["landed"]
        assert other.health()["components"]["work"]["not_here"] == ["R1"]
        assert not other.maintain("validate_structure")["found"]["valid"]


def test_the_clone_that_has_the_work_lands_it(field: Field, unbound: tuple[Path, Path]) -> None:
    p, q = unbound
    with field.open(p) as opened, field.open(q) as other:
        with pytest.raises(Conflict):
            other.land("default", partial=True)
        assert opened.land("default", partial=True)["landed"]
    assert (p / "a2.txt").exists()


def test_work_that_was_pulled_is_in_the_clone(field: Field, unbound: tuple[Path, Path]) -> None:
    p, q = unbound
    field.first.git("pull", "-q", p, "refs/orchestrion/plans/default", at=q)
    with field.open(q) as other:
        assert other.work(slots=1, drain=True).all_completed
        assert other.land()["landed"]
    assert (q / "b2.txt").read_text() == "a\n"


def test_a_plan_is_not_taken_over_without_its_work(field: Field, unbound: tuple[Path, Path]) -> None:
    p, q = unbound
    ref = "refs/orchestrion/plans/default"
    with field.open(q) as other:
        with pytest.raises(NotFound) as lost:
            other.take_over("default")
        assert (lost.value.code, f"`git fetch PLACE {ref}:{ref}`" in str(lost.value.hint)) == ("plan_lost", True)
        field.first.git("fetch", "-q", p, f"{ref}:{ref}", at=q)
        assert other.take_over("default")["taken_over"]


def test_what_is_here_of_a_plan_is_not_fetched_over(field: Field, two: tuple[Path, Path]) -> None:
    """Two clones have each a part of it; the hint's commands lead to one that has what the row knows."""
    p, q = two
    ref = "refs/orchestrion/plans/default"
    field.first.git("commit", "-q", "--allow-empty", "-m", "other", at=q)
    field.first.git("update-ref", ref, "HEAD", at=q)
    with field.open(p) as opened, field.open(q) as other:
        opened.add("a", command="echo a > a2.txt")
        assert opened.work(slots=1, drain=True).all_completed
        with pytest.raises(Conflict) as diverged:
            other.take_over("default")
        assert diverged.value.code == "plan_diverged"
        for command in re.findall("`(.*?)`", str(diverged.value.hint)):
            words = command.replace("PLACE", str(p)).replace("NAME", "kept").split()
            field.first.git(*words[1:], at=q)
        assert other.take_over("default")["taken_over"]
        assert other.land(onto=field.first.git("branch", "--show-current", at=q))["landed"]


def test_a_plan_that_version_0_1_0_split_is_merged_as_is_said(field: Field, unbound: tuple[Path, Path]) -> None:
    """Each clone has a half of what was accepted; what is printed leads to one that has both."""
    p, q = unbound
    ref = "refs/orchestrion/plans/default"
    with field.open(q) as other:
        change(field, "update plans set began_clone = ?", str(other.store.clone))
        other.update("T2", command="echo b > b2.txt")
        assert other.work(slots=1, drain=True).all_completed
        change(field, "update plans set began_clone = ?, began_branch = null, began_commit = null, tip = null", "?")
        halves = [field.first.git("rev-parse", ref, at=clone)[:12] for clone in (p, q)]
        with pytest.raises(Conflict) as part:
            other.take_over("default")
        assert part.value.code == "plan_diverged"
        missing = re.search(r"accepted work \((\w+)\), which is not in what is here", part.value.message)
        assert missing
        assert field.first.git("cat-file", "-t", missing[1], at=p) == "commit"
        follow(field, str(part.value.hint), q, PLACE=p)
        work = other.health()["components"]["work"]
        assert (work["status"], work["plans_split"]) == ("unhealthy", ["default"])
        assert work["advice"] == "`orchestrion take-over default` says how to merge them"
        with pytest.raises(Conflict, match="is here in 2 parts") as split:
            other.take_over("default")
        assert all(half in split.value.message for half in halves)
        follow(field, str(split.value.hint), q, DIR=q.with_name("merged"))
        assert other.take_over("default")["taken_over"]
        assert other.health()["components"]["work"]["status"] == "healthy"
        assert other.land(onto=field.first.git("branch", "--show-current", at=q))["landed"]
    assert [(q / file).exists() for file in ("a2.txt", "b2.txt")] == [True, True]


def follow(field: Field, hint: str, folder: Path, **places: Path) -> None:
    """Types what a hint says."""
    commands = re.findall("`(.*?)`", hint)
    assert commands
    for command in commands:
        for word, place in places.items():
            command = command.replace(word, str(place))
        subprocess.run(command, shell=True, cwd=folder, env=field.environ, check=True)


def test_what_can_be_landed_here_is_named_here_alone(field: Field, two: tuple[Path, Path]) -> None:
    p, q = two
    with field.open(p) as opened, field.open(q) as other:
        opened.add("a", command="echo a > a2.txt")
        assert opened.work(slots=1, drain=True).all_completed
        assert (opened.finished_plans(), other.finished_plans()) == (["default"], [])
        (part,) = [one for one in other.doctor()["parts"] if one["part"] == "repository"]
        assert part["advice"] == "", "nothing of it has to be here"


# -- work that is not here -------------------------------------------------------------------------------------


def test_commits_that_are_not_here_are_seen(field: Field, two: tuple[Path, Path]) -> None:
    p, _ = two
    with field.open(p) as opened:
        for number in range(2):
            opened.add(f"w{number}", command=f"echo {number} > w{number}")
        opened.work(slots=1, drain=True)
        assert opened.health()["components"]["work"]["status"] == "healthy"
        change(field, "update runs set head_commit = ? where id = 2", "c0ffee" + "0" * 34)
        work = opened.health()["components"]["work"]
        assert (work["status"], work["not_here"]) == ("unhealthy", ["R2"])
        found = opened.maintain("validate_structure")
        assert [(one["rule"], one["thing"]) for one in found["found"]["problems"]] == [
            ("work_is_in_the_repository", "R2")
        ]
        assert found["recommendations"] == [work["advice"]], "nobody is told to replace the store"
        opened.land()
        assert opened.health()["components"]["work"]["status"] == "healthy", "what has landed is in the branch"


def test_a_plan_whose_work_is_said_to_be_a_commit_that_is_not_here_is_seen(
    field: Field, two: tuple[Path, Path]
) -> None:
    p, _ = two
    with field.open(p) as opened:
        opened.add("w", command="echo w > w")
        opened.work(slots=1, drain=True)
        tip = opened.store.read(lambda tx: tx.the("plan_by_name", name="default"))["tip"]
        change(field, "update plans set tip = ?", "c0ffee" + "0" * 34)
        work = opened.health()["components"]["work"]
        assert (work["status"], work["plans_not_here"]) == ("unhealthy", ["default"])
        [problem] = opened.maintain("validate_structure")["found"]["problems"]
        assert (problem["rule"], problem["thing"]) == ("work_is_in_the_repository", "default")
        change(field, "update plans set tip = ?", tip)
        assert opened.health()["components"]["work"]["status"] == "healthy"
        opened.land()
        change(field, "update plans set tip = ?, landed_commit = ?", *["c0ffee" + "0" * 34] * 2)
        assert opened.health()["components"]["work"]["status"] == "healthy", "what has landed is in the branch"
