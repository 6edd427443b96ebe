"""Keeps agents busy: reap, claim, brief, launch, wait; and again.

A worker holds nothing that would be missed: what it launches goes on without it, and
what it knows it reads from the store. Several may work side by side, on one machine or
on many. Each one looks after the runs of its own machine: it alone can see whether their
processes live.
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from orchestrion.core import host, tracing
from orchestrion.core.config import Config, named_checks
from orchestrion.core.errors import (
    AgentProblem,
    AlreadyTaken,
    Backpressure,
    GitProblem,
    InvalidInput,
    OrchestrionError,
    StaleRun,
    StoreProblem,
)
from orchestrion.core.masking import masked
from orchestrion.core.model import name
from orchestrion.core.project import Project, Standing
from orchestrion.core.states import ACTIVE_RUN, Merge, Phase, TaskState
from orchestrion.core.values import number_named, stored_json
from orchestrion.memory import context
from orchestrion.memory.roles import Role, load_role, load_roles
from orchestrion.runs import given, older_copy, order, plan_clone, processes, quarantine, refs
from orchestrion.runs.agents.known import agent_named, needs_no_command, self_sufficient
from orchestrion.runs.commits import style_of
from orchestrion.runs.dead import DeadRuns, supervisor_lives, worker_lives
from orchestrion.runs.failures import code_of, is_hopeless, words_of
from orchestrion.runs.launch import Launcher, is_supervised
from orchestrion.runs.launch import places as places_of
from orchestrion.runs.points import reach
from orchestrion.runs.workspace import removal
from orchestrion.runs.workspace.places import former_home, workspaces_home
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.scheduler import budget, explain, finish, meter, permissions, reap, slots, tally
from orchestrion.scheduler import claim as claims
from orchestrion.scheduler.presence import Presence
from orchestrion.store import Store, Transaction
from orchestrion.store.patience import MENDED, PASSING, after, patiently
from orchestrion.store.store import Row

Result = TypeVar("Result")
Taken = TypeVar("Taken", claims.Claim, claims.Claim | None)

_log = logging.getLogger(__name__)

#: A worker looks around this often even if nothing changes, in seconds.
GLANCE_S = 1.0
#: It looks this often whether one of its supervisors ended without a word, in seconds.
CHILDREN_S = 0.1
#: Old workspaces are swept this often, in seconds.
SWEEP_EVERY_S = 600.0
#: And measured this often, by one worker for all: that reads every folder in them.
MEASURE_EVERY_S = 3600.0
#: So often one that has nothing to do says why ready tasks are not for it, in seconds.
TELL_EVERY_S = 10.0
#: It looks at so many of them.
_LOOKED_AT = 20
#: It names so many processes.
_NAMED = 5
#: How long it waits for a database that is away, in seconds.
PATIENCE_S = 3600.0
#: And for one that somebody may put back, or make writable again, once it has worked with it.
MENDING_S = 60.0


class Waiting(NamedTuple):
    """Tasks that nothing here can run: ready ones, and those that somebody else holds."""

    tasks: list[str]
    reason: str

    def __str__(self) -> str:
        more = f" and {len(self.tasks) - 3} more" if len(self.tasks) > 3 else ""
        return f"{', '.join(self.tasks[:3])}{more}: {self.reason}"


@dataclass
class Summary:
    """What became of the tasks that a worker could work on, since it began."""

    completed: int = 0
    failed: int = 0
    #: By somebody, while it worked.
    cancelled: int = 0
    #: Tasks that wait for something this worker cannot give: a decision, a gate, another's lease.
    blocked: int = 0
    #: Runs that this worker launched.
    runs: int = 0
    seconds: float = 0.0
    #: Why tasks are not run: tasks and a reason.
    waiting: Sequence[Waiting] = ()
    #: The first of the tasks that only a person moves on, and how many there are.
    needs_you: Sequence[Row] = ()
    needs_you_total: int = 0

    def as_json(self) -> dict[str, object]:
        """As CONTRACT promises it."""
        return {
            "completed": self.completed,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "blocked": self.blocked,
            "runs": self.runs,
            "seconds": round(self.seconds, 3),
        }

    @property
    def all_completed(self) -> bool:
        """Whether nothing is left that was wanted."""
        return not self.failed and not self.blocked


@dataclass
class Worker:
    """One worker process on one machine."""

    store: Store
    project: Project
    config: Config
    environ: Mapping[str, str]
    #: Its own bound on runs at the same time.
    slots: int
    #: Only tasks of this agent; None: all.
    agent: str | None = None
    #: Called after every look around, to draw progress.
    seen: Callable[[], None] = lambda: None
    #: Called now and then, to put the project in order; whether that is to be done beside the work.
    put_in_order: Callable[[bool], None] = lambda beside: None
    #: Only tasks of the plan with this number; None: all.
    plan: int | None = None
    _stopping: bool = False
    _children: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _launched: int = 0
    _swept: float = float("-inf")
    #: Warnings are given once.
    _told: set[str] = field(default_factory=set)
    #: Since when the database is away; None: it is there.
    _away: float | None = None
    #: Whether it could write to its store.
    _has_worked: bool = False
    #: Where it began.
    _mark: tally.Mark | None = None
    _told_waiting: float = float("-inf")
    #: Lower numbers are given to no run: they were given before.
    _first_run: int = 0

    def __post_init__(self) -> None:
        self._host = host.here(self.environ)
        self._ledger = given.Ledger(self.project.store_dir, host.state_folder(self.environ), self.store.file)
        self._pid = os.getpid()
        self._start = processes.start_time(self._pid) or 0.0
        self._dead = DeadRuns(
            self.store,
            self.project,
            self._repository,
            self.config,
            self.environ,
            self._host,
            self.warn,
            (self._pid, self._start),
        )
        self._standing = Standing(self.project)
        self._checks: Mapping[str, str] = self.config["checks"]
        self._roles = load_roles(self.project.root)
        self._home = workspaces_home(self.store.project_name, self.store.clone, self.project.root, self.environ)
        self._launcher = Launcher(self.project.root, self.store.url, self.environ)
        self._presence = Presence(self.store, self._host, self._pid, self._start, self.slots, self.agent)

    def stop(self) -> None:
        """Claims nothing any more; runs go on."""
        self._stopping = True

    def work(self, *, drain: bool) -> Summary:
        """Works until it is told to stop; with ``drain``, until nothing is left that it could run."""
        began = time.monotonic()
        while not self._stopping and not self._patiently(self._begin):
            continue
        with closing(self._launcher):
            while not self._stopping and not self._patiently(lambda: self._turn(drain)):
                continue
        self._collect_children()
        self._presence.leave()
        return self._summary(time.monotonic() - began)

    def work_on(self, task: int) -> None:
        """Runs one task at once, and waits until that attempt is over or it is told to stop.

        Another worker may have been quicker; then it waits for that one's run. Raises
        NothingReady, Backpressure and what else a claim can be refused for.
        """
        self._provide_limits()
        self._find_plans()
        with suppress(AlreadyTaken):
            self._launch(self._taken_up(lambda tx: claims.claim_task(tx, task, self._claimant())))
        while not self._stopping and not self._patiently(lambda: self._turn_for(task)):
            continue
        self._presence.leave()

    def _turn_for(self, task: int) -> bool:
        """Looks after runs until something changes, as long as the task has one. Whether it has none."""
        if not self._is_active(task) and not self._children:
            return True
        self._presence.announce()
        self._has_worked = True
        self._look_after_runs()
        self.seen()
        self._wait()
        return False

    def _is_active(self, task: int) -> bool:
        return bool(self.store.read(lambda tx: tx.the("task", id=task))["state"] == TaskState.IN_PROGRESS)

    def _begin(self) -> bool:
        if self._repository is not None:
            with suppress(GitProblem):  # its runs will say so
                if said := refs.in_the_way(self._repository.git):
                    self.warn(said)
        self._mark = self.store.read(tally.mark)
        return self._provide_limits()

    def _find_plans(self) -> None:
        """Plans of older programs, which may be at work meanwhile, belong to the clone that has their work."""
        if self._repository is not None:
            with suppress(GitProblem):  # its runs will say so
                plan_clone.find(self.store, self._repository.git, self._host.name)

    def _turn(self, drain: bool) -> bool:
        """Looks around once, and waits until there is a reason to look again. Whether it is done."""
        self._standing.refuse_moved()
        self._look_after_runs()
        self._find_plans()
        launched = self._launched
        busy = self._fill_slots()
        self.seen()
        if not busy and not drain:
            self._tell_waiting()
        drained = drain and not busy and not self._children and self._is_drained()
        self._presence.announce()
        self._has_worked = True
        if drained or time.monotonic() - self._swept > SWEEP_EVERY_S:
            self._sweep()
            self.put_in_order(not drained)
        if not drained:
            if self._launched == launched:  # those that start now need the processors more
                self._launcher.make_ready()
            self._wait()
        return drained

    def _patiently(self, act: Callable[[], bool]) -> bool:
        """What ``act`` says; False while the database is away. A worker outlives that, its runs do anyway."""
        try:
            done = act()
            self._away = None
        except StoreProblem as problem:
            now = time.monotonic()
            since = now if self._away is None else self._away
            if now - since >= self._patience_for(problem.code):
                raise
            self._away = since
            if problem.code == "disk_full":
                self._clear_half_written()
            self.warn(f"waiting for the store: {problem.message}")
            time.sleep(GLANCE_S)
            return False
        return done

    def _patience_for(self, code: str) -> float:
        """How long the store may refuse for this reason before the worker ends, in seconds."""
        if code in PASSING:
            return PATIENCE_S
        return MENDING_S if code in MENDED and self._has_worked else 0.0

    def _wait(self) -> None:
        """Until somebody changes something, a timer runs out, or a supervisor ends without a word."""
        end = time.monotonic() + self._pause()
        while not self._stopping and not self._collect_children():
            left = end - time.monotonic()
            if left <= 0 or self.store.wait_for_change(min(CHILDREN_S, left)):
                return

    # -- claiming and launching -------------------------------------------------------------

    def _fill_slots(self) -> bool:
        """Claims and launches while there is room. Whether runs of this worker are active afterwards."""
        active = len(self._own_runs())
        while active < self.slots and not self._stopping:
            claimed = self._claim()
            if claimed is None:
                break
            self._launch(claimed)
            active += 1
        return active > 0

    def _claim(self) -> claims.Claim | None:
        self._standing.refuse_moved()
        try:
            claimed = self._taken_up(lambda tx: claims.claim(tx, self._claimant()))
        except Backpressure:
            return None  # another worker took the last slot at the same moment
        if claimed is not None:
            reach("claim.done")
        return claimed

    def _taken_up(self, take: Callable[[Transaction], Taken]) -> Taken:
        """What ``take`` claims, by a number that no run had here.

        An older copy of the store that was put in its place, or another store, would give a number again: that run's
        supervisor may live, and its folder and workspace are there. Raises Conflict (``older_copy``) in a copy.
        """

        def anew(tx: Transaction) -> Taken:
            claimed = take(tx)
            if claimed is not None:
                given.refuse(tx, self._ledger, claimed.run, self.store.uuid)
            return claimed

        claimed = self._written(anew)
        if claimed is not None:
            given.note(self._ledger, self.store.uuid, run=claimed.run)
        return claimed

    def _written(self, anew: Callable[[Transaction], Taken]) -> Taken:
        try:
            return self.store.write(anew)
        except given.NumberGiven as number:
            older_copy.refuse(self.store, self._ledger)
            self._first_run = given.beyond(self._ledger, self.store.uuid)
            self.warn(
                f"this store would give the number {number}, which a run had here: it is another store, or an older "
                f"copy that was accepted; its runs begin at {name('R', self._first_run)}"
            )
            return self.store.write(anew)

    def _claimant(self) -> claims.Claimant:
        return claims.Claimant(
            lease_ms=int(self.config["lease.run_s"] * 1000),
            agent=self.config["agent.default"],
            agent_of_role={role.name: role.agent for role in self._roles.values() if role.agent},
            fallback_of_role={role.name: role.fallback_agent for role in self._roles.values() if role.fallback_agent},
            only_agent=self.agent,
            plan=self.plan,
            supervised=True,
            self_sufficient=self_sufficient(self.config["agents"]),
            host=self._host.name,
            host_id=self._host.id,
            worker_pid=self._pid,
            worker_start=self._start,
            budgets=budget.budgets(self.config["budget.plan_usd"], self.config["budget.day_usd"]),
            first_run=self._first_run,
        )

    def _launch(self, claimed: claims.Claim) -> None:
        try:
            agent_named(claimed.agent, self.config["agents"].get(claimed.agent, {}))  # the settings may have lost it
            instruction, brief = self._read_patiently(lambda tx: self._order(tx, claimed))
            place = order.write(instruction, brief, self.project.store_dir)
            child = self._launcher.launch(claimed.run, place)
        except StoreProblem:
            raise  # the run stays as it is: whoever reads it next finds it claimed and not launched
        except (OrchestrionError, OSError) as problem:
            self._not_launched(claimed, problem)
            return
        self._children[claimed.run] = child
        self._launched += 1
        reach("launch.done")

    def _read_patiently(self, look: Callable[[Transaction], Result]) -> Result:
        """Waits for a database that is away for as long as the lease of what was just claimed allows, and this worker
        goes on: nobody else would launch that, and it would count as lost.
        """
        is_over = after(self.config["lease.run_s"])
        return patiently(lambda: self.store.read(look), lambda: self._stopping or is_over(), (*PASSING, *MENDED))

    def _not_launched(self, claimed: claims.Claim, problem: Exception) -> None:
        """The run ends before it began; a system that has no room now may have some later."""
        code = code_of(problem)
        code = "agent_not_started" if code in ("internal", "workspace_failed") else code
        text = f"{name('R', claimed.run)} could not be launched: {words_of(problem)}"
        transient = False if is_hopeless(problem) else None
        with suppress(StaleRun):
            self.store.write(lambda tx: finish.fail(tx, claimed.run, code=code, error=text, transient=transient))

    def _named_checks(self) -> Mapping[str, str]:
        """As the files have them now; while somebody writes nonsense there, as they were."""
        try:
            self._checks = named_checks(self.config, self.project.root, self.environ)
        except InvalidInput as problem:
            self.warn(f"the checks are those of before: {problem.message}")
        return self._checks

    def _order(self, tx: Transaction, claimed: claims.Claim) -> tuple[order.Order, str]:
        task = tx.the("task", id=claimed.task)
        role = self._role_of(claimed.role)
        named = self._named_checks()
        text = context.brief(tx, claimed.task, claimed.run, root=self.project.root, named=named)
        settings = dict(self.config["agents"].get(claimed.agent, {}))
        instruction = order.Order(
            run=claimed.run,
            task=claimed.task,
            attempt=claimed.attempt,
            claimed_at=tx.the("run", id=claimed.run)["claimed_at"],
            title=task["title"],
            plan=task["plan_name"],
            agent=claimed.agent,
            command=_command(task, claimed.agent, self.config),
            checks=_checks(task, named),
            setup=task["setup"] or self.config["workspace.setup"],
            project=str(self.project.root),
            project_name=self.store.project_name,
            project_number=self.store.project_number,
            store=self.store.uuid,
            clone=self.store.clone,
            timeout_s=task["timeout_s"] or (role.timeout_s if role else None) or self.config["run.timeout_s"],
            stall_s=self.config["run.stall_s"],
            feedback=self.config["run.feedback"],
            grace_s=self.config["run.grace_s"],
            retry_cap_s=self.config["retry.cap_s"],
            retry_jitter=self.config["retry.jitter"],
            breaker_failures=self.config["breaker.failures"],
            breaker_cooldown_s=self.config["breaker.cooldown_s"],
            settings=settings,
            model=(role.model if role else None) or settings.get("model"),
            max_turns=(role.max_turns if role else None) or self.config["run.max_turns"],
            budget_usd=(role.budget_usd if role else None) or self.config["budget.run_usd"],
            memory_mb=self.config["run.memory_mb"],
            allowed_tools=[*(role.allowed_tools if role else ()), *permissions.rules_of(tx, claimed.task)],
            permissions=settings.get("permissions", "edit"),
            servers=_servers(self.config),
            tools=self.config["run.tools"],
            correlation=self.store.origin.correlation or task["correlation"] or "",
            traceparent=tracing.place_of(self.store.uuid, name("T", claimed.task), name("R", claimed.run)),
            **self._copy_of_repository(tx, task, claimed),
            **self._continued(tx, task, claimed.agent),
        )
        return instruction, text

    def _copy_of_repository(self, tx: Transaction, task: Row, claimed: claims.Claim) -> dict[str, Any]:
        """Where a run's own copy is made, what it gets, and what becomes of the work in it."""
        in_git = self.project.git_root is not None
        return {
            "merge": in_git and Merge(task["merge"]) is Merge.AUTO,
            "workspaces": str(self._home) if in_git else None,
            "isolation": self.config["workspace.isolation"],
            "git_dir": str(self.project.git_common_dir) if in_git else None,
            "checkout": tx.the("plan_by_number", id=task["plan"])["began_checkout"],
            "earlier": _earlier(tx, claimed),
            "carry": list(self.config["workspace.carry"]),
            "may_push": self.config["workspace.push"] == "allow",
            "nested_mb": self.config["workspace.nested_mb"],
            "ports": self.config["workspace.ports"],
            "commits": asdict(style_of(self.config)),
        }

    def _continued(self, tx: Transaction, task: Row, agent: str) -> dict[str, Any]:
        """What an attempt needs to go on with the agent session of an earlier one, if somebody asked for that."""
        before = tx.one("run_of_session", task=task["id"], session=task["session"]) if task["session"] else None
        # A session lies on the machine where the agent worked.
        if before is None or before["agent"] != agent or not self._host.keeps(before):
            return {}
        used = meter.of_session(tx, task["session"], agent)
        return {"session": task["session"], "spent": used, "resume_from": before["head_commit"]}

    def _role_of(self, role: str) -> Role | None:
        return self._roles.get(role) or (load_role(self.project.root, role) if role else None)

    # -- runs of this machine -----------------------------------------------------------------

    def _look_after_runs(self) -> None:
        """Adopts runs whose worker is gone, settles those whose supervisor is, and lets timers run out."""
        self._collect_children()
        orphaned = []
        for run in self._active_here():
            if self._dead.is_dead(run):
                self._dead.recover(run["id"], "its supervisor died")
            elif not self._is_mine(run) and not worker_lives(run):
                orphaned.append(run)
        if orphaned:
            self.store.write(lambda tx: self._adopt(tx, orphaned))
        self._dead.recover_interrupted()
        if self.store.read(reap.is_ahead):
            self.store.write(reap.bound)
        for run in self.store.read(reap.expired):
            if self._is_lost(run):
                self._dead.recover(run["id"], reap.LEASE_OVER)
        if self.store.read(_is_anything_due):
            self.store.write(reap.due)

    def _adopt(self, tx: Transaction, runs: list[Row]) -> None:
        tx.run("adopt_runs", ids=[run["id"] for run in runs], pid=self._pid, start=self._start)
        for run in runs:
            tx.event("run.adopted", task=run["task"], run=run["id"])

    def _is_lost(self, run: Row) -> bool:
        """Whether a run whose lease is over is to be given up. Where processes can be seen they decide, not the clock:
        a suspended machine loses nothing."""
        if not run["supervised"]:
            return True
        if self._host.sees(run) and (self._dead.is_of_clone(run) or supervisor_lives(run)):
            return False
        # Whether the work is in the plan already can only be told where the plan is.
        return self._dead.is_of_clone(run) or bool(run["phase"] != Phase.MERGING)

    @cached_property
    def _repository(self) -> ProjectRepository | None:
        """The user's repository; None: the project has none."""
        root, git_dir = self.project.git_root, self.project.git_common_dir
        if root is None or git_dir is None:
            return None
        return ProjectRepository(root, git_dir, tuple(self.config["workspace.carry"]))

    def warn(self, warning: str) -> None:
        """Logs something; the same only once."""
        if warning not in self._told:
            self._told.add(warning)
            _log.warning(masked(warning))

    def _active_here(self) -> list[Row]:
        runs = self.store.read(lambda tx: tx.all("active_runs", supervised=1))
        return [run for run in runs if self._dead.has_left(run) and self._host.sees(run)]

    def _own_runs(self) -> list[Row]:
        return [run for run in self._active_here() if self._is_mine(run)]

    def _is_mine(self, run: Row) -> bool:
        return bool(run["worker_pid"] == self._pid and run["worker_start"] == self._start)

    def _collect_children(self) -> bool:
        """Forgets supervisors that ended; whether there were any."""
        ended = [run for run, child in self._children.items() if child.poll() is not None]
        for run in ended:
            del self._children[run]
        return bool(ended)

    # -- housekeeping -------------------------------------------------------------------------

    def _provide_limits(self) -> bool:
        """Limits of the settings exist before the first claim; what ``orchestrion slots`` set since stays."""
        wanted = slots.of_settings(self.config, self._host.name)

        def provide(tx: Transaction) -> None:
            known = {row["name"] for row in tx.all("slots")}
            for slot, capacity in wanted.items():
                if slot not in known:
                    slots.set_capacity(tx, slot, capacity)
            slots.recount(tx)

        self.store.write(provide)
        return True

    def _sweep(self) -> None:
        """Ends processes of runs that are over, and removes old workspaces that hold nothing unsaved."""
        self._swept = time.monotonic()
        self._sweep_processes()
        if self._repository is None:
            return
        active = {name("R", run["id"]) for run in self.store.read(lambda tx: tx.all("active_runs"))}
        try:
            for home in {self._home, former_home(self.project.root, self.environ)}:
                if home.exists():
                    self._sweep_workspaces(home, active | self._supervised(path.name for path in home.iterdir()))
            refs.retire(self._repository.git, self.store)
            self._clear_half_written()
        except (OrchestrionError, OSError) as problem:
            self.warn(f"old workspaces and refs cannot be removed: {words_of(problem)}")

    def _clear_half_written(self) -> None:
        """What a run of ours that was killed left among the objects may be what fills the disk."""
        if self._repository is not None:
            quarantine.clear(self._repository.common_dir)

    def _sweep_processes(self) -> None:
        """Ends what runs left that the store, asked for all its projects, knows to be over, here; nothing else."""
        places = places_of(self.project.root, self.store.url)
        carriers = processes.of_store(self.store.uuid, places)
        named = {run: number for run in carriers if (number := number_named(run, "R"))}
        numbers = {run: number for run, number in named.items() if run == name("R", number)}
        known = self.store.read(lambda tx: tx.all("runs_anywhere", ids=sorted(numbers.values()))) if numbers else []
        over = {row["id"] for row in known if self._is_over_here(row)}
        supervised = self._supervised(numbers)
        for run, number in numbers.items():
            if number in over and run not in supervised:
                marker = f"{self.store.uuid}/{run}"
                processes.end_tree(carriers[run], marker, self.config["run.grace_s"], places=places)
        for run in sorted(carriers.keys() - {name("R", row["id"]) for row in known}):
            pids = ", ".join(str(pid) for pid, _ in carriers[run][:_NAMED])
            self.warn(
                f"processes ({pids}) say that they belong to {run[:40]}, which this store does not know: left alone"
            )

    def _is_over_here(self, run: Row) -> bool:
        """Whether a run of any project is over and its supervisor, which was here, gone."""
        return run["state"] not in ACTIVE_RUN and self._host.sees(run) and not supervisor_lives(run)

    def _supervised(self, runs: Iterable[str]) -> set[str]:
        """Those whose supervisor lives: a run that was killed a moment ago is over, but may still save its work."""
        return {run for run in runs if is_supervised(order.folder_named(self.project.store_dir, run))}

    def _sweep_workspaces(self, home: Path, active: set[str]) -> None:
        assert self._repository is not None
        removal.sweep(
            self._repository,
            home,
            active,
            self.config["workspace.keep_days"] * 86_400,
            int(self.config["workspace.quota_gb"] * 1_000_000_000) if self._measures(home, time.time()) else None,
            time.time(),
        )

    def _measures(self, home: Path, now: float) -> bool:
        """Whether the size of all workspaces is to be measured now."""
        stamp = home / ".measured"
        if stamp.exists() and now - stamp.stat().st_mtime < MEASURE_EVERY_S:
            return False
        stamp.touch()
        return True

    def _is_drained(self) -> bool:
        """Nothing runs here, nothing may be claimed, and nothing comes back by itself."""

        def left(tx: Transaction) -> bool:
            return tx.one("comes_back", plan=self.plan, lanes=claims.lanes_of(tx, self._claimant())) is not None

        return not self.store.read(left) and not self._own_runs()

    def _pause(self) -> float:
        """Seconds to wait: until the next timer, or a glance."""
        at, now = self.store.read(lambda tx: (reap.next_timer(tx), tx.the("clock")["now"]))
        if at is None:
            return GLANCE_S
        return float(min(GLANCE_S, max(0.0, (at - now) / 1000)))

    def _summary(self, seconds: float) -> Summary:
        def count(tx: Transaction) -> Summary:
            if self._mark is None:
                return Summary(seconds=seconds)  # told to stop before it began
            asked = (tx, self._mark, self.plan, claims.lanes_of(tx, self._claimant()))
            found, need = tally.tally(*asked), tally.named(*asked, tally.NEEDS_SOMEBODY, _LOOKED_AT)
            held = tally.named(*asked, [TaskState.IN_PROGRESS], _LOOKED_AT) if found.left else []
            waiting = [*self._held_by_others(held), *self._waiting(tx)] if found.left else []
            if found.left and not waiting and not need:
                waiting = self._behind_others(tally.named(*asked, [TaskState.PENDING, TaskState.RETRYING], _LOOKED_AT))
            return Summary(
                found.completed,
                found.failed,
                found.cancelled,
                found.left,
                self._launched,
                seconds,
                waiting,
                need,
                need[0]["total"] if need else 0,
            )

        return self.store.read(count)

    def _held_by_others(self, held: Sequence[Row]) -> list[Waiting]:
        """Tasks that another worker, or a client, works on: what waits for them is not run here either."""
        tasks = [name("T", row["id"]) for row in held if not self._is_mine(row)]
        reason = "held by another worker or a client; `orchestrion runs --state running` shows by whom"
        return [Waiting(tasks, reason)] if tasks else []

    def _behind_others(self, rows: Sequence[Row]) -> list[Waiting]:
        """Tasks that wait for others, which are not among those that were asked for."""
        tasks = [name("T", row["id"]) for row in rows]
        return [Waiting(tasks, f"waits for others; `orchestrion why {tasks[0]}` says for which")] if tasks else []

    def _waiting(self, tx: Transaction) -> list[Waiting]:
        """Ready tasks that this worker may have and cannot run, by the reason; the first of them."""
        claimant = self._claimant()
        lanes = claims.lanes_of(tx, claimant)
        by_reason: dict[str, list[str]] = {}
        for task in explain.ready(tx, _LOOKED_AT, plan=self.plan):
            if lanes is None or task["lane"] in lanes:
                agent = claims.agent_of(task, claimant) or ""
                for reason in explain.not_taken(tx, task, claimant.budgets, agent, claimant.self_sufficient):
                    by_reason.setdefault(reason.detail, []).append(name("T", task["id"]))
        for task, detail in explain.elsewhere(tx, _LOOKED_AT, plan=self.plan):
            if lanes is None or task["lane"] in lanes:
                by_reason.setdefault(detail, []).append(name("T", task["id"]))
        return [Waiting(tasks, reason) for reason, tasks in by_reason.items()]

    def _tell_waiting(self) -> None:
        if time.monotonic() - self._told_waiting > TELL_EVERY_S:
            self._told_waiting = time.monotonic()
            for waiting in self.store.read(self._waiting):
                self.warn(str(waiting))


def _is_anything_due(tx: Transaction) -> bool:
    at = reap.next_timer(tx)
    return at is not None and at <= tx.the("clock")["now"]


def _checks(task: Row, named: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(check, named.get(check, check)) for check in stored_json(task, "checks", name("T", task["id"]))]


def _earlier(tx: Transaction, claimed: claims.Claim) -> list[str]:
    """Earlier runs of the task with work of their own, the newest first."""
    rows = tx.all("list_runs", task=claimed.task, before=claimed.run, limit=20)
    return [name("R", row["id"]) for row in rows if row["head_commit"]]


def _servers(config: Config) -> list[dict[str, Any]]:
    """The servers of tools that the settings name, as ``McpServer`` has them."""
    return [
        {"name": one, **found, "command": shlex.split(found["command"])}
        if "command" in found
        else {"name": one, **found}
        for one, found in config["servers"].items()
    ]


def _command(task: Row, agent: str, config: Config) -> str:
    """What a command agent runs: the task's own command, or the one the settings have; others bring their own."""
    command = config["agents"].get(agent, {}).get("command") or task["command"] or ""
    if not command and not needs_no_command(agent, config["agents"]):
        raise AgentProblem(
            f"{name('T', task['id'])} has no command for the agent {agent!r}",
            hint="give the task `run: COMMAND`, or define the agent in .orchestrion/config.yaml",
            code="agent_missing",
        )
    return str(command)
