"""Owns one agent: prepares its workspace, starts it, watches it, checks and merges its work, settles.

A plain, synchronous program. The database knows at every moment which phase the run is
in; a kill at any point leaves something that the reaper can recognise:

    prepare   the workspace's path follows from the run, so a half-made one is found again
    work      leftovers are committed, the branch is published; the work is never lost
    check     evidence is recorded; a failure gives the agent another go in the same workspace
    merge     one run of a plan at a time; the swap of the plan's tip is the point of no return
    settle    one transaction

While it works it renews its lease. A supervisor that learns that its run is over, or
that cannot renew, stops its agent before anybody else may start on the task.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeGuard, TypeVar

from orchestrion.core import host, private, tracing
from orchestrion.core.errors import (
    AlreadyTaken,
    Conflict,
    GitProblem,
    MergeConflict,
    NotFound,
    StaleRun,
    StoreProblem,
)
from orchestrion.core.masking import Masker
from orchestrion.core.model import name
from orchestrion.core.retry import FAILURES, is_transient
from orchestrion.core.states import Phase, RunState
from orchestrion.runs import checks, git_process, older_copy, plan_clone, plan_start, processes, tools
from orchestrion.runs.account import Account, Spent
from orchestrion.runs.agents.agent import Assignment, Permissions, Usage, Verdict
from orchestrion.runs.agents.command import reaching_us, shell_environment
from orchestrion.runs.agents.known import agent_named, speaks_in_events
from orchestrion.runs.attend import Attendant
from orchestrion.runs.commits import RUN_TRAILER, TASK_TRAILER, CommitStyle, committer
from orchestrion.runs.failures import code_of, is_hopeless, printable, tell_traceback, words_of
from orchestrion.runs.go import Go, first_line
from orchestrion.runs.log import RunLog
from orchestrion.runs.merge import Incoming, Merger
from orchestrion.runs.order import STEPS, Order
from orchestrion.runs.outcome import Failed, HandedIn, Over
from orchestrion.runs.plan_tip import PlanTip
from orchestrion.runs.points import reach
from orchestrion.runs.watch import Ended, Silent, TimeUp, watch
from orchestrion.runs.workspace import ports, prepare, removal, work
from orchestrion.runs.workspace.changes import changes_of
from orchestrion.runs.workspace.places import Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.runs.workspace.publish import publish
from orchestrion.runs.workspace.remarks import Remark
from orchestrion.runs.workspace.submodules import Authorship
from orchestrion.scheduler import breaker, clones, files, finish, reports
from orchestrion.store import Origin, Store, Transaction
from orchestrion.store.patience import MENDED, PASSING, PAUSE_S, after, patiently
from orchestrion.store.store import Row

Result = TypeVar("Result")

#: The supervisor looks this often whether its run was killed, in seconds.
LOOK_S = 0.5
#: It stops its agent so long before a lease that it cannot renew ends, in seconds.
MARGIN_S = 5.0
#: So often git is asked before an agent's work is given up because it refuses.
GIT_TRIES = 3
#: How long it insists on telling a database that is away how the run ended, in seconds.
PATIENCE_S = 3600.0
#: Saving a run's work may take so much longer than the run itself may, in seconds.
SAVE_S = 60.0
#: Why it ends when its folder is away for longer than its lease.
_GONE = "its folder is gone: the project or its store was moved or deleted"
#: Why it ends when the store does not know it.
_UNKNOWN = "the store does not know this run: an older copy of it was put in its place"


def supervise(store: Store, order: Order, place: Path, environ: Mapping[str, str]) -> int:
    """Carries out an order to its end. Returns an exit code: 0 when the run ended as it was to, whatever its result."""
    processes.become_subreaper()
    # What this process starts belongs to the run, our own git included: whoever ends the
    # run in our place must be able to wait until all of it is over.
    os.environ[processes.MARKER] = order.marker
    store.origin = Origin(actor=f"run:{name('R', order.run)}", correlation=order.correlation or name("R", order.run))
    store.masker, store.fence = Masker(environ), _fence(order)
    supervisor = Supervisor(store, order, place, environ)
    signal.signal(signal.SIGTERM, supervisor.told_to_stop)
    signal.signal(signal.SIGINT, supervisor.told_to_stop)
    return supervisor.run()


class Supervisor:
    """One run from its claim to its settlement."""

    def __init__(self, store: Store, order: Order, place: Path, environ: Mapping[str, str]) -> None:
        self._store = store
        self._order = order
        self._place = place
        self._environ = environ
        self._agent = agent_named(order.agent, order.settings)
        self._account = Account(f"{os.getpid()}", order.max_turns, order.budget_usd)
        self._session = order.session
        self._spent = Usage(**order.spent)
        self._go: Go | None = None
        self._record = processes.Record(place / "processes")
        self._masker = Masker(environ)
        self._log = RunLog(place / "log.jsonl", environ)
        self._stop_reason: str | None = None
        self._renewed = self._looked = self._recorded = time.monotonic()
        self._lease_s = 60.0
        self._is_missed = False
        self._workspace: Workspace | None = None
        self._project = (
            ProjectRepository.of_run(order.project, order.git_dir, order.carry, order.checkout)
            if order.workspaces is not None
            else None
        )
        self._attendant = Attendant(
            store, order.task, order.run, self._account, self._log, order.memory_mb, self._project
        )
        self._ports: ports.Range | None = None
        self._work: work.Work | None = None
        self._remarks: tuple[Remark, ...] = ()
        self._tip: str | None = None
        self._summary = ""

    def told_to_stop(self, _signal: int, _frame: object) -> None:
        """Somebody ends this process politely: stop the agent, keep its work, give the task back."""
        self._stop_reason = "its supervisor was told to stop"

    def run(self) -> int:
        """The sequence, and what becomes of each way it can be left."""
        try:
            self._take()
        except (Conflict, NotFound, Over) as refused:
            # Cancelled, or reaped, before we came; or another supervisor has it. Not ours to end.
            self._log.note(f"not started: {refused}")
            return 0
        try:
            self._carry_out()
        except StaleRun as stale:
            self._give_up(stale.message)
        except StoreProblem as away:
            # Whoever finds the run in the store where it is now sees to it.
            self._log.note(f"ended without telling: {away.message}")
            return 1
        finally:
            processes.reap_adopted()
            self._log.close()
        return 0

    def _carry_out(self) -> None:
        try:
            self._prepare()
            self._work_until_checked()
            self._merge()
            self._settle()
        except Over as over:
            self._give_up(str(over))
        except HandedIn as work:
            self._hand_in(work)
        except Failed as failure:
            self._fail(failure)
        except StaleRun:
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is, the task must not hang on it
            if gone := self._is_over_by(problem):
                self._give_up(gone)
                return
            tell_traceback(self._masker)
            self._save_what_there_is()
            transient = False if is_hopeless(problem) else None
            self._fail(Failed(code_of(problem), words_of(problem), transient=transient))

    def _is_over_by(self, problem: Exception) -> str | None:
        """Why there is nothing to end any more: the run's folder went, or the store has no such run."""
        if isinstance(problem, NotFound) and problem.code == "no_run":
            return _UNKNOWN
        return None if self._place.exists() else _GONE

    # -- the steps ----------------------------------------------------------------------

    def _take(self) -> None:
        pid = os.getpid()
        started = processes.start_time(pid) or 0.0
        row = self._read(lambda tx: finish.held(tx, self._order.run, write=False))
        self._lease_s = row["lease_ms"] / 1000
        at = host.here(self._environ)
        self._write(
            lambda tx: finish.start(tx, self._order.run, pid=pid, pid_start=started, host=at.name, host_id=at.id)
        )
        self._deadline = time.monotonic() + self._order.timeout_s
        self._reach("supervise.started")

    def _prepare(self) -> None:
        if self._order.ports:
            self._ports = ports.take(self._order.run)
        if self._order.workspaces is None:
            return
        project, home, run = self._repository, Path(self._order.workspaces), name("R", self._order.run)
        base = self._base(project)
        path, branch = str(home / run), f"orchestrion/run/{run}"
        self._write(lambda tx: finish.note(tx, self._order.run, base_commit=base, workspace=path, branch=branch))
        self._reach("prepare.begun")
        with git_process.pulsing(self._beat_in_time):
            self._workspace = prepare.prepare(
                project,
                home,
                run,
                base,
                self._order.isolation,
                may_push=self._order.may_push,
                signs=CommitStyle(**self._order.commits).sign,
                earlier=self._order.earlier,
            )
            if self._order.resume_from:
                prepare.go_on(project, self._workspace, self._order.resume_from)
        if self._order.setup:
            self._set_up(self._order.setup, self._workspace.path)
            work.record_ground(project, self._workspace)
        self._reach("prepare.done")

    def _base(self, project: ProjectRepository) -> str:
        """The commit that the run starts from."""
        tip = PlanTip(project.git, self._order.plan)
        plan = self._bound_plan(tip)
        if self._is_elsewhere(plan):
            start = plan_start.start_elsewhere(tip.git, plan)
        else:
            start = plan_start.start_of(
                tip,
                plan,
                self._plan,
                lambda: self._has_begun(plan),
            )
        if start.is_new:
            self._write(lambda tx: plan_start.record(tx, plan, start))
        if start.aside:
            self._log.note(f"{start.aside} keeps what a plan of this name had in a store that is gone")
        if not self._order.resume_from:
            return start.commit
        # The plan may have moved on; the work goes on where it was, and they are joined at the merge.
        return project.git.run("merge-base", start.commit, self._order.resume_from).stdout

    def _has_begun(self, plan: Row) -> bool:
        """Whether any run of the plan had a commit to start from, be it one that an older copy does not know."""
        known = self._read(lambda tx: tx.one("run_that_began", plan=plan["id"]))
        return known is not None or older_copy.has_begun(
            self._place.parent.parent, self._order.store, self._order.clone, plan["name"]
        )

    def _bound_plan(self, tip: PlanTip) -> Row:
        """The plan's row; it is this clone's, unless this work goes into no plan. Raises Conflict (``other_clone``)."""
        plan = self._plan()
        if self._order.clone is not None and not clones.is_bound(plan):
            is_here = plan_start.has_work(tip, plan, self._read(lambda tx: clones.accepted(tx, plan)))
            self._write(lambda tx: plan_clone.settle(tx, plan, host.name(), is_here=is_here))
            plan = self._plan()
        if self._order.merge and self._is_elsewhere(plan):
            self._read(lambda tx: clones.refuse_elsewhere(tx, plan, f"the merge of {name('R', self._order.run)}"))
        return plan

    def _plan(self) -> Row:
        task = self._order.task
        return self._read(lambda tx: tx.the("plan_by_number", id=tx.the("task", id=task)["plan"]))

    def _is_elsewhere(self, plan: Row) -> bool:
        """Whether another clone has the plan's work; a worker of an older program knows of none."""
        return self._order.clone is not None and plan["began_clone"] != self._order.clone

    def _set_up(self, command: str, folder: Path) -> None:
        evidence = self._check("setup", 1, command, folder)
        if not evidence.passed:
            raise Failed("setup_failed", f"the set-up command failed:\n{evidence.output[-2000:]}")

    def _work_until_checked(self) -> None:
        """The agent works until its checks pass; after a failure it gets the output and another go."""
        prompt = private.read(self._place / "brief.md")
        for go in range(1, self._order.feedback + 2):
            self._work_on(go, prompt)
            while said := self._unheard():
                self._work_on(go, said)
            if go <= self._order.feedback and (news := self._unfinished()):
                prompt = self._feed_back(go, news)
                continue
            failed = self._failed_checks(go)
            if not failed:
                self._ask_if_needed()
                return
            self._log.note(f"go {go}: {len(failed)} check(s) failed")
            prompt = self._feed_back(go, checks.told(failed))
        raise Failed("check_failed", checks.told(failed))

    def _unfinished(self) -> str | None:
        """What the agent could still conclude itself, if it is one that can be told."""
        if self._work is None or not self._work.is_unfinished or not self._has_breaker():
            return None
        said = self._work.asks.message if self._work.asks else ""
        return f"{said}. Conclude the merge with a commit, or abort it (`git merge --abort`)."

    def _ask_if_needed(self) -> None:
        """Raises HandedIn when only a person can say whether the work is to be accepted as it is."""
        if self._work is not None and (remark := self._work.asks):
            raise HandedIn(remark.code, remark.message)

    def _work_on(self, number: int, prompt: str) -> None:
        self._note(phase=str(Phase.WORKING))
        self._log.note(f"go {number}: {self._order.agent}")
        self._log.begin_go()
        go = self._begin(number, prompt)
        try:
            if time.monotonic() > self._deadline:
                raise TimeUp(f"it ran longer than {self._order.timeout_s:g} s")
            exit_code = self._watched(number, go)
        except TimeUp as up:
            self._keep_work()
            raise Failed("timed_out", str(up), RunState.TIMED_OUT) from up
        except Silent as silent:
            self._keep_work()
            raise Failed("stalled", str(silent), RunState.TIMED_OUT) from silent
        except Spent as spent:
            self._keep_work()
            raise Failed(spent.code, spent.message) from spent
        finally:
            self._end_go(go)
        self._reach("work.ended")
        self._keep_work()
        self._note(exit_code=exit_code)
        self._judge(go.dialogue.judge(exit_code, self._log.last_words()), go)

    def _begin(self, number: int, prompt: str) -> Go:
        order = self._order
        assignment = Assignment(
            prompt=prompt,
            folder=self._workspace.path if self._workspace else Path(order.project),
            place=self._place,
            command=order.command,
            program=tuple(order.settings.get("program", ())),
            session=self._session if self._agent.resumes else None,
            spent=self._spent + self._account.used(),
            model=order.model,
            max_turns=order.max_turns,
            budget_usd=self._account.left_usd(),
            allowed_tools=tools.allowed(order),
            permissions=Permissions(order.permissions),
            servers=tools.servers(order, self._belonging(number)),
        )
        self._log.add("go", first_line(number, order.agent, order.settings, assignment))
        go = Go(self._agent.begin(assignment), self._log, speaks_in_events(order.agent, order.settings))
        self._account.begin(go.tally)
        return go

    def _watched(self, number: int, go: Go) -> int:
        self._go = go
        return watch(
            go.dialogue.argv(),
            folder=self._workspace.path if self._workspace else Path(self._order.project),
            environ=self._environment(number, go.dialogue.environment(self._environ)),
            log=self._log,
            record=self._record,
            marker=self._order.marker,
            limits=Ended(self._deadline, self._order.timeout_s, self._order.stall_s, self._order.grace_s),
            beat=self._beat,
            started=lambda: self._reach("work.started"),
            talk=go,
        )

    def _end_go(self, go: Go) -> None:
        """Whatever ended it, what it used is told, and its session is remembered."""
        self._go = None
        self._session = go.tally.session or self._session
        self._persist(self._attendant.tell_used)
        self._persist(lambda: self._attendant.tell_denied(go))

    def _judge(self, verdict: Verdict, go: Go) -> None:
        if verdict.code:
            raise Failed(verdict.code, verdict.text, retry_after_s=verdict.retry_after_s)
        if self._masker.knows_values:
            self._write(self._mask_reports)
        run = self._read(lambda tx: tx.the("run", id=self._order.run))
        if run["next_action"] == "needs_revision":
            raise HandedIn("needs_revision", run["summary"] or "the agent asks for a look")
        if run["next_action"] == "failed":
            raise Failed("agent_failed", run["summary"] or "the agent reported a failure")
        if run["next_action"] == "blocked":
            self._insist(lambda tx: finish.ask(tx, self._order.run, run["summary"] or "the agent is blocked"))
            raise Over("the agent asked a question")
        self._summary = printable(run["summary"] or self._masker(go.words())[-4000:])

    def _unheard(self) -> str | None:
        """What people said while the agent could not hear, for one more turn of its session."""
        if not self._agent.resumes or self._session is None:
            return None
        return self._patiently(self._attendant.unheard)

    def _failed_checks(self, go: int) -> list[checks.Evidence]:
        self._note(phase=str(Phase.CHECKING))
        folder = self._workspace.path if self._workspace else Path(self._order.project)
        failed = [e for _, command in self._order.checks if not (e := self._check("check", go, command, folder)).passed]
        self._reach("check.done")
        return failed

    def _feed_back(self, go: int, said: str) -> str:
        """Adds it to the brief. What the next go is told: that, or all, if the agent forgot the rest."""
        news = f"## Your work was checked (go {go}) and not accepted yet\n\n{said}\n"
        brief = private.plain_folder(self._place) / "brief.md"
        with open(brief, "a", encoding="utf-8", opener=private.opener) as file:
            file.write(f"\n{news}")
        return news if self._agent.resumes and self._session else private.read(brief)

    def _merge(self) -> None:
        """Brings the work into the plan: one run of a plan at a time, checked again if the plan moved."""
        if self._workspace is None or not self._order.merge or self._work is None:
            return
        self._wait_for_merge_queue()
        self._reach("merge.queued")
        self._await_folder()
        # From here on whoever finds this run dead looks whether its work is in the plan.
        self._note(phase=str(Phase.MERGING), summary=self._summary or None)
        try:
            self._persistently(self._merge_once)
        except MergeConflict as conflict:
            self._tell_conflict(conflict)
            raise HandedIn("merge_conflict", conflict.message) from conflict
        self._reach("merge.done")

    def _merge_once(self) -> None:
        assert self._work is not None
        merger = Merger(self._repository, Path(self._order.workspaces or ""), self._merge_point)
        made = self._authorship()
        incoming = Incoming(name("R", self._order.run), self._work.head, made.subject, made.trailers, made.committer)
        recheck = self._recheck if self._order.checks else None
        plan_start.restored(PlanTip(self._repository.git, self._order.plan), self._plan(), self._plan)
        self._tip = merger.merge(self._order.plan, incoming, recheck).tip_after

    def _tell_conflict(self, conflict: MergeConflict) -> None:
        """Keeps who changed the same files, for whoever resolves it."""
        run, files = self._order.run, tuple(conflict.details["files"])
        plan = self._read(lambda tx: tx.the("run", id=run))["plan"]
        others = self._read(lambda tx: tx.all("work_at_paths", paths=list(files), plan=plan, run=run))
        who = ", ".join(f"{name('T', row['task'])} ({name('R', row['id'])}: {row['title']})" for row in others)
        said = f"conflicts with {who}" if who else "conflicts with newer work of the plan"
        self._tell(*self._remarks, Remark("merge_conflict", said, files, asks=True))

    def _persistently(self, act: Callable[[], Result]) -> Result:
        """A git that was killed or met a lock is asked again: the agent's work is too dear to be done anew for that."""
        for _ in range(GIT_TRIES - 1):
            try:
                return act()
            except (GitProblem, AlreadyTaken) as problem:
                if problem.code in FAILURES and not is_transient(problem.code):
                    raise  # it will be the same the next time
                self._log.note(f"once more: {words_of(problem)}")
                time.sleep(1.0)
                self._beat()
        return act()

    def _merge_point(self, point: str) -> None:
        if point in ("merge.begun", "merge.rechecked"):
            # From the second point on nobody can end the run any more: its work is about to be in the plan.
            act = finish.seal if point == "merge.rechecked" else finish.unseal
            self._write(lambda tx: act(tx, self._order.run))
            self._renewed = self._looked = time.monotonic()
        self._reach(point)

    def _wait_for_merge_queue(self) -> None:
        plan = self._read(lambda tx: tx.the("run", id=self._order.run))["plan"]
        began = time.monotonic()
        while not self._write(lambda tx: tx.run("take_merge_queue", run=self._order.run, plan=plan)):
            self._patiently(lambda: self._store.wait_for_change(0.25))
            self._beat()
        # Others took this time, not this run.
        self._deadline += time.monotonic() - began

    def _recheck(self, folder: Path) -> None:
        if self._order.setup:
            self._set_up(self._order.setup, folder)
        failed = [e for _, command in self._order.checks if not (e := self._check("merge", 1, command, folder)).passed]
        if failed:
            raise Failed("merge_recheck_failed", "after the merge with newer work:\n" + checks.told(failed))

    def _settle(self) -> None:
        def settle(tx: Transaction) -> None:
            finish.complete(tx, self._order.run, summary=self._summary)
            if self._tip is not None:
                tx.run("plan_moves", plan=tx.the("run", id=self._order.run)["plan"], tip=self._tip)

        self._insist(lambda tx: self._finish(tx, lambda: settle(tx)))
        self._reach("settle.done")
        if self._workspace is not None:
            # All of it is published, and nobody has been in it since but checks.
            removal.discard(self._repository, self._workspace.path)

    # -- what is done at several steps --------------------------------------------------

    def _check(self, stage: str, go: int, command: str, folder: Path) -> checks.Evidence:
        self._await_folder()
        kept = private.plain_folder(self._place) / "evidence"
        private.make_folder(kept)
        log = private.plain_folder(kept) / f"{stage}-{go}-{time.monotonic_ns()}.log"
        left = max(1.0, self._deadline - time.monotonic())
        environment = self._environment(go, shell_environment(self._environ))
        evidence = checks.run_check(command, folder, environment, left, log, pulse=self._beat)
        processes.reap_adopted()
        self._write(
            lambda tx: tx.run(
                "add_check",
                run=self._order.run,
                stage=stage,
                go=go,
                command=command,
                exit_code=evidence.exit_code,
                output=printable(evidence.output),
                log=str(log),
                duration_ms=evidence.duration_ms,
            )
        )
        return evidence

    def _keep_work(self) -> None:
        """Makes one commit of what the agent left, and saves it in the project's repository.

        Raises Failed when that takes longer than the run has, as of a file without end.
        """
        if self._workspace is None:
            return
        self._await_folder()
        try:
            with git_process.pulsing(self._beat_in_time):
                self._keep_work_of(self._workspace)
        except TimeUp as up:
            raise Failed("timed_out", f"its work could not be saved in time: {up}", RunState.TIMED_OUT) from up

    def _beat_in_time(self) -> None:
        """The beat while git works. Raises what that raises, and TimeUp."""
        self._beat()
        if time.monotonic() > self._deadline + SAVE_S:
            raise TimeUp(f"it is {SAVE_S:g} s over its {self._order.timeout_s:g} s")

    def _keep_work_of(self, workspace: Workspace) -> None:
        made = self._authorship()
        incomplete: work.LeftUncommitted | None = None
        try:
            collected = self._persistently(lambda: self._collected(workspace, made))
        except work.LeftUncommitted as problem:
            collected, incomplete = problem.work, problem
        self._reach("work.committed")
        collected = self._persistently(lambda: publish(self._repository, workspace, collected))
        self._work = collected
        self._record_files(workspace, collected.head)
        self._tell(*collected.remarks)
        self._reach("work.published")
        if incomplete is not None:
            raise incomplete

    def _collected(self, workspace: Workspace, made: Authorship) -> work.Work:
        most = int(self._order.nested_mb * 1_000_000)
        return work.collect(self._repository, workspace, made, nested_bytes=most)

    def _authorship(self, kind: str = "") -> Authorship:
        """How the commits look that are made for this run; ``kind`` is added to the subject."""
        order, style = self._order, CommitStyle(**self._order.commits)
        task, run = name("T", order.task), name("R", order.run)
        subject = style.subject(title=order.title, task=task, run=run, plan=order.plan)
        who = committer(style, self._repository.handed_on.effective, self._environ)
        return Authorship(who, f"{subject}{kind}", {TASK_TRAILER: task, RUN_TRAILER: run})

    @property
    def _repository(self) -> ProjectRepository:
        """The user's repository; asked for only where there is one."""
        assert self._project is not None
        return self._project

    def _tell(self, *remarks: Remark) -> None:
        """Keeps what a person should know of the result; what was told before is replaced."""
        if remarks == self._remarks:
            return
        text = printable(json.dumps([remark.as_json() for remark in remarks], ensure_ascii=False))
        self._write(lambda tx: tx.run("run_remarks", run=self._order.run, remarks=text))
        for remark in remarks:
            if remark not in self._remarks:
                self._log.note(f"{remark.code}: {remark.message}")
        self._remarks = remarks

    def _record_files(self, workspace: Workspace, head: str) -> None:
        """What the run changed until now, exactly as git has it, and how much that is."""
        run = self._order.run
        changes = self._persistently(lambda: changes_of(self._repository, workspace, head))
        facts: dict[str, object] = {
            "head_commit": head,
            "files_changed": len(changes),
            "lines_added": sum(change.lines_added or 0 for change in changes),
            "lines_removed": sum(change.lines_removed or 0 for change in changes),
        }

        def record(tx: Transaction) -> None:
            finish.note(tx, run, **facts)
            files.note_git(tx, run, head, changes)

        self._write(record)
        self._renewed = time.monotonic()

    def _environment(self, go: int, own: dict[str, str]) -> dict[str, str]:
        """What an agent or a check gets: its own, and what tells it where it belongs."""
        return reaching_us(own | self._belonging(go))

    def _belonging(self, go: int) -> dict[str, str]:
        """What tells a process that it belongs to this run, and how to call back."""
        order = self._order
        environment = {
            "ORCHESTRION_RUN": order.marker,
            "ORCHESTRION_TASK": name("T", order.task),
            "ORCHESTRION_ATTEMPT": str(order.attempt),
            "ORCHESTRION_GO": str(go),
            "ORCHESTRION_CORRELATION": order.correlation or name("R", order.run),
            tracing.VARIABLE: order.traceparent,
            "ORCHESTRION_BRIEF": str(self._place / "brief.md"),
            "ORCHESTRION_PROJECT": order.project,
            "ORCHESTRION_DB": self._store.url,
        }
        if self._ports is not None:
            environment["ORCHESTRION_PORT_OFFSET"] = str(self._ports.offset)
        if self._project and self._workspace and self._workspace.isolation == "worktree":
            environment |= prepare.settings_of_worktree(self._project, order.may_push, self._environ)
        return environment

    def _hand_in(self, work: HandedIn) -> None:
        reason, summary = printable(self._masker(work.text)), self._summary or None
        run, code = self._order.run, work.code
        self._insist(
            lambda tx: self._finish(tx, lambda: finish.hand_in(tx, run, code=code, reason=reason, summary=summary))
        )

    def _fail(self, failure: Failed) -> None:
        self._log.note(f"failed: {failure.code}")
        back_off = finish.BackOff(self._order.retry_cap_s, self._order.retry_jitter, _random)

        def fail(tx: Transaction) -> None:
            self._mask_reports(tx)
            finish.fail(
                tx,
                self._order.run,
                code=failure.code,
                error=printable(self._masker(failure.text)[-8000:]),
                state=failure.state,
                back_off=back_off,
                transient=failure.transient,
                retry_after_s=failure.retry_after_s,
            )
            if self._has_breaker():
                rules = breaker.Rules(self._order.breaker_failures, self._order.breaker_cooldown_s)
                breaker.failed(tx, self._order.agent, failure.code, rules, failure.retry_after_s)

        self._insist(fail)

    def _finish(self, tx: Transaction, end: Callable[[], object]) -> None:
        """The run's end, which shows that its agent works."""
        self._mask_reports(tx)
        end()
        if self._has_breaker():
            breaker.succeeded(tx, self._order.agent)

    def _mask_reports(self, tx: Transaction) -> None:
        """What the agent said until now is kept without our secrets: it has not all of our variables."""
        reports.mask(tx, self._order.run, self._masker)

    def _has_breaker(self) -> bool:
        """A command is each task's own: that one cannot be started says nothing of the next."""
        return speaks_in_events(self._order.agent, self._order.settings)

    def _give_up(self, why: str) -> None:
        """The run is over: what the agent did is saved all the same."""
        self._log.note(f"stopped: {why}")
        self._save_what_there_is()
        if self._stop_reason:
            with suppress(StaleRun):
                self._fail(Failed("interrupted", self._stop_reason, RunState.KILLED))
        # Nothing of it is left, so nobody need look; if that cannot be said now, a worker does what is missing.
        with suppress(StoreProblem, StaleRun):
            self._store.write(self._see_off)

    def _see_off(self, tx: Transaction) -> None:
        self._mask_reports(tx)
        tx.run("run_swept", run=self._order.run)

    def _save_what_there_is(self) -> None:
        try:
            with git_process.together_within(work.SALVAGE_S):
                self._save_for_later()
        except Exception as problem:  # noqa: BLE001 - whatever it is, the run must still be told to be over
            self._log.note(f"its work stays in the workspace: {words_of(problem)}")

    def _save_for_later(self) -> None:
        if self._workspace is None or not self._workspace.path.exists():
            return
        workspace = self._workspace
        saved = work.salvage(self._repository, workspace, self._authorship(" (unfinished)"))
        publish(self._repository, workspace, saved)
        run, branch = self._order.run, workspace.branch
        changes = changes_of(self._repository, workspace, saved.head)

        def keep(tx: Transaction) -> None:
            tx.run("run_work_kept", run=run, head_commit=saved.head, branch=branch)
            files.note_git(tx, run, saved.head, changes)

        self._insist(keep)
        self._tell(*saved.remarks)

    # -- the lease ------------------------------------------------------------------------

    def _beat(self) -> None:
        """Called several times a second: renews the lease, and learns whether the run is still ours."""
        if self._stop_reason:
            raise Over(self._stop_reason)
        now = time.monotonic()
        processes.reap_adopted()
        if self._misses_folder():
            return
        self._record_processes(now)
        if now - self._renewed > self._lease_s / 4:
            self._renew_or_stop(now)
        elif now - self._looked > LOOK_S:
            self._looked = now
            self._look(now)
        if self._go:
            self._attendant.attend(self._go, self._workspace, now)

    def _record_processes(self, now: float) -> None:
        """Writes down who belongs to the run, for whoever must end it in our place."""
        with suppress(FileNotFoundError):  # the folder went just now
            # Who left its family is ours at once; the rest of the tree is looked at less often.
            self._record.write(processes.children())
            if now - self._recorded > 1.0:
                self._recorded = now
                self._record.write(processes.descendants(os.getpid()))

    def _misses_folder(self) -> bool:
        """Whether the run's folder is away for now. Raises Over when it was for as long as the lease allows."""
        was_missed, self._is_missed = self._is_missed, not self._place.exists()
        if self._is_missed and not was_missed:
            self._log.note("its folder is away: waiting for it")
            self._log.flush()
        if self._is_missed and self._is_lease_over():
            raise Over(_GONE)
        return self._is_missed

    def _await_folder(self) -> None:
        """Waits for the run's folder, which was moved away with the store's, for as long as the lease allows."""
        while not self._place.exists():
            self._beat()
            time.sleep(PAUSE_S)

    def _is_lease_over(self) -> bool:
        """Whether others may take the run from now on, as far as this is known without asking."""
        return time.monotonic() - self._renewed > self._lease_s - MARGIN_S

    def _renew(self) -> None:
        self._store.write(lambda tx: finish.renew(tx, self._order.run))
        self._renewed = self._looked = time.monotonic()

    def _renew_or_stop(self, now: float) -> None:
        try:
            self._renew()
        except StoreProblem as problem:
            if self._is_lease_over():
                raise Over(f"the lease cannot be renewed: {problem.message}") from problem

    def _look(self, now: float) -> None:
        with suppress(FileNotFoundError):  # it went just now, and is waited for
            private.plain_folder(self._place)
        try:
            run = self._store.read(lambda tx: tx.one("run", id=self._order.run))
        except StoreProblem:
            self._renew_or_stop(now)
            return
        if not _is_of(run, self._order):
            raise Over(_UNKNOWN)
        if run["task_run"] != self._order.run:
            raise Over(
                f"{name('R', self._order.run)} is {run['state']}: {run['reason'] or run['code'] or 'ended by others'}"
            )

    def _reach(self, point: str) -> None:
        """A step of the sequence; when it was is written down, if that can be."""
        with suppress(OSError):
            file = private.plain_folder(self._place) / STEPS
            with open(file, "a", encoding="utf-8", opener=private.opener) as steps:
                steps.write(f"{time.time_ns() // 1_000_000} {point}\n")
        reach(point)

    def _note(self, **facts: object) -> None:
        self._write(lambda tx: finish.note(tx, self._order.run, **facts))
        self._renewed = time.monotonic()

    def _write(self, work: Callable[[Transaction], Result]) -> Result:
        return self._patiently(lambda: self._store.write(work))

    def _read(self, look: Callable[[Transaction], Result]) -> Result:
        return self._patiently(lambda: self._store.read(look))

    def _patiently(self, act: Callable[[], Result]) -> Result:
        """Waits for a database that is away for as long as the lease allows."""
        try:
            return patiently(act, self._is_lease_over)
        except StoreProblem as problem:
            raise Over(f"the database is away: {problem.message}") from problem

    def _insist(self, work: Callable[[Transaction], Result]) -> Result:
        return self._persist(lambda: self._store.write(work))

    def _persist(self, act: Callable[[], Result]) -> Result:
        """Tells the database what must not be lost, however long that is away; one that was moved or replaced is
        waited for as long as the lease lasts. Raises StoreProblem.
        """
        return patiently(lambda: patiently(act, self._is_lease_over, MENDED), after(PATIENCE_S), PASSING)


def _fence(order: Order) -> Callable[[Transaction], None]:
    """What each of its writes begins with. Raises StaleRun in a store that knows another run by its number, or none."""

    def refuse_other(tx: Transaction) -> None:
        if not _is_of(tx.one("run", id=order.run), order):
            raise StaleRun(_UNKNOWN, hint="its work stays in its workspace", run=name("R", order.run))

    return refuse_other


def _is_of(run: Row | None, order: Order) -> TypeGuard[Row]:
    """Whether a row is of the run that was ordered: an older copy of the store gives its number again."""
    return run is not None and order.claimed_at in (None, run["claimed_at"])


def _random() -> float:
    import random

    return random.random()
