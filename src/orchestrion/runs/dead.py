"""What becomes of a run whose supervisor died: whoever finds it so ends it, in this one way.

What it left running on this host is ended, then what it left in its workspace is kept, and its
task moves on. A worker does so at every look around; kill, cancel and cleanup do it at once, for
there may be no worker. What is of another host or another clone is never touched here: its pids
mean others, and its folders are not there.
"""

from __future__ import annotations

import json
import random
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrion.core import private
from orchestrion.core.config import Config
from orchestrion.core.errors import EnvironmentProblem, NotFound, OrchestrionError, StaleRun, StoreProblem
from orchestrion.core.host import Host
from orchestrion.core.masking import Masker
from orchestrion.core.model import name
from orchestrion.core.project import Project
from orchestrion.core.states import ACTIVE_RUN, Phase, RunState
from orchestrion.runs import git_process, order, processes, reckoning
from orchestrion.runs.commits import RUN_TRAILER, TASK_TRAILER, committer, style_of
from orchestrion.runs.failures import words_of
from orchestrion.runs.launch import is_supervised, launched
from orchestrion.runs.launch import places as places_of
from orchestrion.runs.merged import work_in_plan
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.points import reach
from orchestrion.runs.workspace import removal, work
from orchestrion.runs.workspace.changes import FileChange, changes, changes_of
from orchestrion.runs.workspace.places import Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.runs.workspace.publish import publish
from orchestrion.runs.workspace.submodules import Authorship
from orchestrion.scheduler import files, finish, reports
from orchestrion.store import Store, Transaction
from orchestrion.store.store import Row


@dataclass
class DeadRuns:
    """Tells which runs of this host and clone are dead, and recovers what they left."""

    store: Store
    project: Project
    #: The user's repository; None: the project has none.
    repository: ProjectRepository | None
    config: Config
    environ: Mapping[str, str]
    host: Host
    #: Called with what a person should know.
    warn: Callable[[str], None]
    #: The worker that looks, which knows what it launched itself; None: somebody else.
    worker: processes.Process | None = None

    def has_left(self, run: Row) -> bool:
        """Whether what a run left (its workspace, its log) is here and of this clone."""
        return self.is_of_clone(run) and self.host.keeps(run)

    def is_of_clone(self, run: Row) -> bool:
        """Whether a worker of this clone launched the run; an older program did not say."""
        return run["clone"] in (None, self.store.clone)

    def is_dead(self, run: Row) -> bool:
        """Whether nobody supervises a run that left something here. Elsewhere its lease alone can say so."""
        if not self.host.sees(run):
            return bool(run["lease_until"] <= run["now"])
        if run["pid"] is not None:
            return not supervisor_lives(run) or self._is_left_behind(run)
        if is_supervised(order.folder(self.project.store_dir, run["id"])):
            return False
        # Claimed and not launched: it is on its way only while its worker lives, if that is not the one that looks.
        return self._is_of_worker(run) or not worker_lives(run)

    def _is_left_behind(self, run: Row) -> bool:
        """Whether the project was moved away from the supervisor of a run, for longer than its lease: it can neither
        renew that nor tell anybody how the run ended.
        """
        if run["lease_until"] > run["now"]:
            return False
        folder = processes.belongs_to(run["pid"]).get("ORCHESTRION_PROJECT")
        return folder is not None and not _is_same(Path(folder), self.project.root)

    def lives_here(self, run: Row) -> bool:
        """Whether a supervised run has processes on this host that are not this clone's to end, or are at work."""
        if not run["supervised"] or not self.host.sees(run):
            return False
        if self.has_left(run):
            return not self.is_dead(run)
        is_on_its_way = run["pid"] is None and worker_lives(run)
        return is_on_its_way or supervisor_lives(run) or bool(processes.marked(self._marker(run["id"])))

    def recover_interrupted(self) -> None:
        """Sees to the runs that somebody ended whose supervisor is not there to do so."""
        for run in self.store.read(lambda tx: tx.all("unswept_runs")):
            if self.has_left(run) and self.is_dead(run):
                self.recover(run["id"], "it was ended, and its supervisor died")

    def recovered(self, run: Row, reason: str) -> bool | None:
        """Recovers a silent run that is dead and of this host; whether it is over now.

        False: it lives, or cannot be settled yet, so it is not to be ended; None: nothing of it is to be seen to here.
        """
        if self.lives_here(run):
            return False
        if not run["supervised"] or not self.has_left(run) or not self.is_dead(run):
            return None
        self.recover(run["id"], reason)
        return self._find(run["id"])["state"] not in ACTIVE_RUN

    def recover(self, run: int, reason: str) -> None:
        """Ends what a dead run left running, keeps its work, and moves its task on. Raises StoreProblem."""
        private.set_aside(order.folder(self.project.store_dir, run), unless=stat.S_ISDIR)
        place = order.made_folder(self.project.store_dir, run)
        private.set_aside(place / "settle.lock")
        with removal.exclusive(place / "settle.lock") as mine:
            if not mine:
                return
            try:
                self._recover_alone(run, place, reason)
            except StoreProblem:
                raise
            except Exception as problem:  # noqa: BLE001 - git is broken, say, or we are; it is looked at again
                # The other runs must not wait for this one.
                self.warn(f"{name('R', run)} is dead, but cannot be settled yet: {words_of(problem)}")

    def _recover_alone(self, one: int, place: Path, reason: str) -> None:
        run = self._find(one)
        if self.has_left(run) and self.host.sees(run):
            if supervisor_lives(run) and self._is_left_behind(run):
                processes.end_tree([(run["pid"], run["pid_start"])])
            processes.sweep(self._marker(one), place / "processes", places=self._places_of(one))
        if self.has_left(run):
            # What the dead did not tell stands in its log.
            with suppress(private.NotPlain):
                reckoning.reconcile(self.store, one, place / "log.jsonl", reckoning.begin_again)
        reach("dead.swept")
        # Only what is read now is the last word of the dead: it may have gone on since it was
        # found active, and its own git may have moved the plan until a moment ago.
        run = self._find(one)
        merged = self._merged(run) if run["state"] in ACTIVE_RUN else None
        if merged:
            self._settle_merged(run, merged)
        elif run["state"] in ACTIVE_RUN or run["unswept"]:
            saved = self._save_work(run)
            reach("dead.saved")
            back_off = finish.BackOff(self.config["retry.cap_s"], self.config["retry.jitter"], random.random)
            masker = Masker(self.environ)
            self.store.write(lambda tx: _lose(tx, run, reason, saved, back_off, masker))
        reach("dead.settled")

    def settle_if_merged(self, run: Row) -> None:
        """Completes an active run of this host that is dead and whose work is in the plan; leaves any other alone."""
        if self.has_left(run) and self.is_dead(run) and self._merged(run):
            self.recover(run["id"], "its supervisor died")

    def _merged(self, run: Row) -> str | None:
        """The work of a run, if its plan has it; None: it has not.

        It died between the swap of the plan's tip and its settlement; or the store is an older copy, which knows
        neither of its commits nor how far it came.
        """
        if self.repository is None:
            return None
        return work_in_plan(self.repository.git, run, self._plan_of(run))

    def _plan_of(self, run: Row) -> Row:
        return self.store.read(lambda tx: tx.the("plan_by_number", id=tx.the("task", id=run["task"])["plan"]))

    def _settle_merged(self, run: Row, head: str) -> None:
        assert self.repository is not None
        changed = None if run["head_commit"] == head else self._changes_until(run, head)
        tip = PlanTip(self.repository.git, run["plan_name"])
        tip.follow()
        commit = tip.get()

        def settle(tx: Transaction) -> None:
            self._has_started(tx, run)
            if changed is not None:
                finish.note(tx, run["id"], head_commit=head)
                files.note_git(tx, run["id"], head, changed)
            reports.mask(tx, run["id"], Masker(self.environ))
            finish.complete(tx, run["id"])
            tx.run("plan_moves", plan=run["plan"], tip=commit)

        with suppress(StaleRun):
            self.store.write(settle)
        if self.has_left(run) and run["workspace"]:
            with suppress(EnvironmentProblem):  # the sweep removes it
                removal.remove(self.repository, Path(run["workspace"]))

    def _has_started(self, tx: Transaction, run: Row) -> None:
        """An older copy may know a run as one that is about to start."""
        if run["state"] == RunState.STARTING:
            pid, began = next(iter(launched(order.folder(self.project.store_dir, run["id"]))), (0, 0.0))
            finish.start(tx, run["id"], pid=pid, pid_start=began, host=run["host"], host_id=run["host_id"])

    def _changes_until(self, run: Row, head: str) -> list[FileChange]:
        """What a run changed from its base to ``head``, of which the store knows nothing."""
        assert self.repository is not None
        return changes(self.repository.git, run["base_commit"], head) if run["base_commit"] else []

    def _save_work(self, run: Row) -> _Saved | None:
        """Commits and publishes what the run left in its workspace, if there is any."""
        if self.repository is None or run["phase"] == Phase.PREPARING or not self.has_left(run):
            return None
        path = Path(run["workspace"])
        if not path.exists():
            return None
        isolation = "worktree" if (path / ".git").is_file() else "clone"
        workspace = Workspace(path, run["branch"], run["base_commit"], isolation)
        style = style_of(self.config)
        project = self.repository.as_seen_from(self._plan_of(run)["began_checkout"])
        try:
            who = committer(style, project.handed_on.effective, self.environ)
            label, task = name("R", run["id"]), name("T", run["task"])
            made = Authorship(who, f"{run['title']} (unfinished)", {TASK_TRAILER: task, RUN_TRAILER: label})
            with git_process.together_within(work.SALVAGE_S):  # others wait for whoever does this
                saved = work.salvage(project, workspace, made)
                publish(project, workspace, saved)
                changed = changes_of(project, workspace, saved.head)
            return _Saved(saved.head, changed, json.dumps([remark.as_json() for remark in saved.remarks]))
        except (OrchestrionError, OSError):
            return None  # broken by the kill: it stays on disk, the sweep keeps what is unsaved

    def _marker(self, run: int) -> str:
        """What the environment of every process of a run carries."""
        return f"{self.store.uuid}/{name('R', run)}"

    def _places_of(self, run: int) -> dict[str, str]:
        """Where the processes of a run belong; by its order, for the project may have been moved since."""
        with suppress(NotFound, private.NotPlain):
            return {"ORCHESTRION_PROJECT": order.read(self.project.store_dir, run).project}
        return places_of(self.project.root, self.store.url)

    def _find(self, run: int) -> Row:
        return self.store.read(lambda tx: tx.the("run", id=run))

    def _is_of_worker(self, run: Row) -> bool:
        return self.worker is not None and self.worker == (run["worker_pid"], run["worker_start"])


def supervisor_lives(run: Row) -> bool:
    """Whether the supervisor of a run of this host lives."""
    return run["pid"] is not None and processes.is_alive(run["pid"], run["pid_start"])


def worker_lives(run: Row) -> bool:
    """Whether the worker that looks after a run of this host lives."""
    return run["worker_pid"] is not None and processes.is_alive(run["worker_pid"], run["worker_start"])


def _is_same(folder: Path, other: Path) -> bool:
    """Whether two paths lead to one folder."""
    try:
        return folder.samefile(other)
    except OSError:
        return False


class _Saved(NamedTuple):
    """The work of a run that died."""

    #: The commit that has it.
    head: str
    changes: list[FileChange]
    #: What a person should know, as JSON.
    remarks: str


def _lose(
    tx: Transaction, run: Row, reason: str, saved: _Saved | None, back_off: finish.BackOff, masker: Masker
) -> None:
    if saved:
        tx.run("run_work_kept", run=run["id"], head_commit=saved.head, branch=run["branch"])
        tx.run("run_remarks", run=run["id"], remarks=saved.remarks)
        files.note_git(tx, run["id"], saved.head, saved.changes)
    reports.mask(tx, run["id"], masker)
    finish.lose(tx, run["id"], reason, back_off)
    tx.run("run_swept", run=run["id"])
