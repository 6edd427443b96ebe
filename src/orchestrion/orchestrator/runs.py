"""Use cases about runs: claim and report, watch, stop, and keep a worker going."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrion.core import host, private
from orchestrion.core.errors import Conflict, GitProblem, InvalidInput, NotFound
from orchestrion.core.model import (
    NEXT_ACTIONS,
    Run,
    Task,
    check_choice,
    check_number,
    check_text,
    check_word,
    iso,
    name,
    number,
)
from orchestrion.core.rights import not_for_runs
from orchestrion.core.states import RunState, TaskState
from orchestrion.core.values import is_blank, stored_json
from orchestrion.memory import artifacts, context, sessions
from orchestrion.memory.files import MOST_VERIFIED, Owner
from orchestrion.orchestrator import holding, older_copies, standing, views
from orchestrion.orchestrator.approval import refuse_unready
from orchestrion.orchestrator.filing import Changed, Filing
from orchestrion.orchestrator.finding import bounded, plan_named
from orchestrion.orchestrator.outcomes import outcome, unblocked
from orchestrion.orchestrator.remains import dead_runs, elsewhere, end_remains, settle_merged
from orchestrion.orchestrator.repository import committer_of, plan_found, repository_of, workspaces_home_of
from orchestrion.orchestrator.tasks import TaskCases
from orchestrion.orchestrator.views import Page
from orchestrion.scheduler import breaker, clones, decide, finish, messages, overlap, reap, slots
from orchestrion.scheduler import claim as claims
from orchestrion.store import Origin, Transaction
from orchestrion.store.store import Row

if TYPE_CHECKING:
    from orchestrion.runs.log import Numbered
    from orchestrion.runs.patches import Bounds, RunDiff

#: A client's checks renew its lease this often, in seconds.
RENEW_EVERY_S = 10.0


class RunCases(TaskCases):
    """What can be done with runs."""

    # -- a client's own work ----------------------------------------------------------------

    def claim(
        self,
        task: str | None = None,
        *,
        roles: Sequence[str] = (),
        agent: str | None = None,
        tag: str | None = None,
        lease_s: float | None = None,
    ) -> dict[str, Any]:
        """Takes one task and gives its brief at once; a named one ``again`` to the session that holds it.

        Raises NothingReady, and for a named task NotFound, AlreadyTaken, Backpressure; InvalidInput
        (``invalid_parameters``) for one with ``roles`` or ``tag``, by which others are chosen.
        """
        from orchestrion.runs import given

        if task and (roles or tag):
            raise InvalidInput(
                f"roles and tag choose among tasks, and {task[:60]} is named",
                hint="name the task, or say by what it is chosen",
                code="invalid_parameters",
            )
        claimant = claims.Claimant(
            lease_ms=self._lease_ms(lease_s),
            agent=agent or "",
            only_agent=agent,
            roles=[self.role_name(role) for role in roles],
            tag=tag,
        )

        def take(tx: Transaction, first_run: int = 0) -> dict[str, Any]:
            who = replace(claimant, first_run=first_run)
            if task:
                lease_ms = None if lease_s is None else who.lease_ms
                taken = holding.claim_task(tx, number(task, "T"), who, lease_ms)
            else:
                taken = holding.claim_next(tx, who)
            if not taken.again:
                given.refuse(tx, self.ledger, taken.run, self.store.uuid)
            return {
                "run": name("R", taken.run),
                "lease_until": iso(taken.lease_until),
                "task": views.task(tx, taken.task).as_json(),
                "brief": context.brief(tx, taken.task, taken.run, root=self.project.root, named=self._named_checks()),
                "again": taken.again,
            }

        return self._by_a_new_number(take)

    def _lease_ms(self, asked_s: float | None) -> int:
        seconds = self.config["lease.client_s"] if asked_s is None else asked_s
        if not 1 <= seconds <= 86_400:
            raise InvalidInput(
                f"a lease must be from 1 to 86400 s, not {seconds}", hint="900 is usual", code="invalid_lease"
            )
        return int(seconds * 1000)

    def _by_a_new_number(self, take: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """What ``take`` claims; in an older copy of the store, or in another one, above all numbers that were given."""
        from orchestrion.runs import given, older_copy

        unknown = older_copy.remembered(self.store, self.ledger)
        try:
            claimed = self.store.write(take)
        except given.NumberGiven:
            unknown = older_copy.keep_in_mind(self.store, self.ledger)
            claimed = self.store.write(lambda tx: take(tx, given.beyond(self.ledger, self.store.uuid)))
        if unknown:
            claimed["warning"] = f"{older_copy.Missed(unknown, [])}; {older_copy.RUNBOOK}"
        if not claimed["again"]:
            given.note(self.ledger, self.store.uuid, run=number(claimed["run"], "R"))
        return claimed

    def heartbeat(self, run: str) -> Run:
        """A sign of life: the lease is extended. Raises StaleRun."""
        return self._on_run(run, holding.renew)

    def release(self, run: str, reason: str = "given back by its holder") -> Run:
        """Gives the task back, untouched. Raises StaleRun, InvalidInput (``not_for_runs``).

        The agent of a supervised run may not: its task would be given to the next one at once, and for ever.
        """

        def give_back(tx: Transaction, one: int) -> None:
            if self.caller.run and finish.held(tx, one)["supervised"]:
                raise not_for_runs(self.caller.run, "giving the task of a supervised run back")
            finish.release(tx, one, reason)

        return self._on_run(run, give_back)

    def done(
        self,
        run: str,
        summary: str,
        *,
        detail: str | None = None,
        results: Sequence[artifacts.Text] = (),
        files: Sequence[Any] = (),
        next_action: str = "complete",
        also: Callable[[Transaction], object] = lambda tx: None,
    ) -> dict[str, Any]:
        """Reports a task as done; what becomes of it depends on ``next_action`` and on its checks.

        ``detail`` and ``results`` are kept as artifacts, in the transaction that settles the task; ``also``
        records more in it, or refuses all of it.
        A supervised run only leaves its report: its supervisor checks, merges and settles, and
        git knows its files; of ``files`` it is only looked whether they are the project's. A client's ``files``
        are paths, or mappings with ``path``, ``op`` and ``old_path``; work whose files are not as reported goes to
        review. Its checks must pass.
        Raises StaleRun, InvalidInput, Conflict (``check_failed``: the run goes on).
        """
        check_choice("next", next_action, NEXT_ACTIONS)
        check_text("summary", summary)
        if is_blank(summary):
            raise InvalidInput("done needs a summary", hint="say in a sentence what was done", code="summary_missing")
        one = number(run, "R")
        results = [*([artifacts.Text(detail)] if detail is not None else []), *results]
        held = self.store.read(lambda tx: finish.held(tx, one, write=False))
        if held["supervised"]:
            workspace = self.store.read(lambda tx: tx.the("run", id=one))["workspace"]
            told = [files] if isinstance(files, str) else files
            Filing(self.project).placed(told, Path(workspace) if workspace else None)
            return self._leave_report(one, summary, results, next_action, also)
        found = self._look_at_files(one, files)
        if next_action in ("complete", "continue") and not found.problems():
            self._check(one, held["task"])
            if found.told or found.before:
                # A check may have written files too.
                found = self._look_at_files(one, files)
        return self.store.write(lambda tx: self._settle(tx, one, summary, results, found, next_action, also))

    def _look_at_files(self, run: int, told: Sequence[Any]) -> Changed:
        """What a client says it changed, and what was recorded of its run before, as it is now."""
        before = self.store.read(lambda tx: tx.all("list_files", run=run, limit=MOST_VERIFIED))
        return Filing(self.project).changed([told] if isinstance(told, str) else told, before)

    def _leave_report(
        self,
        run: int,
        summary: str,
        results: Sequence[artifacts.Text],
        next_action: str,
        also: Callable[[Transaction], object],
    ) -> dict[str, Any]:
        def leave(tx: Transaction) -> dict[str, Any]:
            also(tx)
            row, said = self._report(tx, run, summary, next_action)
            for result in results:
                artifacts.keep(tx, row["task"], run, result.content, called=result.name, kind=result.kind)
            return outcome(tx, row["task"], run, [], recorded=said)

        return self.store.write(leave)

    def _report(self, tx: Transaction, run: int, summary: str, next_action: str) -> tuple[Row, str]:
        """Leaves what an agent says to its supervisor; that of a dead one renews nothing. What becomes of it."""
        row = tx.one("run", id=run)
        if row is not None and standing.is_dead(self, row):
            finish.say(tx, run, summary)
        else:
            finish.note(tx, run, summary=summary, next_action=next_action)
        return finish.held(tx, run), standing.reported(self, tx.the("run", id=run))

    def _settle(
        self,
        tx: Transaction,
        run: int,
        summary: str,
        results: Sequence[artifacts.Text],
        found: Changed,
        next_action: str,
        also: Callable[[Transaction], object],
    ) -> dict[str, Any]:
        row = finish.held(tx, run)
        also(tx)
        for result in results:
            artifacts.keep(tx, row["task"], run, result.content, called=result.name, kind=result.kind)
        found.record(tx, Owner(row["task"], run, sessions.current(tx)))
        ready: list[int] = []
        if next_action == "blocked":
            finish.ask(tx, run, summary)
        elif problems := found.problems():
            reason = f"not as reported: {'; '.join(problems[:20])}"
            finish.hand_in(tx, run, code="verification_failed", reason=reason, summary=summary)
        elif next_action == "needs_revision":
            finish.hand_in(tx, run, code="needs_revision", reason=summary, summary=summary)
        else:
            ready = finish.complete(tx, run, summary=summary)
        found_now = outcome(tx, row["task"], run, ready)
        if next_action == "continue":
            following = claims_next(tx)
            found_now["next"] = following.as_json() if following else None
        return found_now

    def _check_in_review(self, task: str) -> None:
        """The checks of a task in review that a client handed in: who says that it is completed has not looked at it.

        Raises Conflict (``check_failed``: it stays in review), DamagedRow.
        """
        one = number(task, "T")
        runs = self.store.read(lambda tx: tx.all("runs_of_task", task=one))
        if runs and not runs[-1]["supervised"]:
            self._check(runs[-1]["id"], one, goes_on=False)

    def _check(self, run: int, task: int, *, goes_on: bool = True) -> None:
        """The task's checks, in the project's folder; evidence is kept. Raises Conflict when one fails."""
        import time

        from orchestrion.runs import checks

        row = self.store.read(lambda tx: tx.the("task", id=task))
        renewed = time.monotonic()
        hint = f"mend it and report {name('R', run)} again; that run goes on"
        if not goes_on:
            hint = f"it stays in review: a person accepts it all the same with `orchestrion approve {name('T', task)}`"

        def pulse() -> None:
            nonlocal renewed
            if goes_on and time.monotonic() - renewed > RENEW_EVERY_S:
                renewed = time.monotonic()
                self.store.write(lambda tx: finish.renew(tx, run))

        for command in self.checks_of(row):
            evidence = checks.run_check(
                command, self.project.root, self.environ, self.config["run.timeout_s"], pulse=pulse
            )
            self.store.write(lambda tx, e=evidence: _keep_evidence(tx, run, e))  # type: ignore[misc]
            if not evidence.passed:
                raise Conflict(
                    f"the check `{command}` failed with exit code {evidence.exit_code}; the task is not completed",
                    hint=hint,
                    code="check_failed",
                    run=name("R", run),
                    command=command,
                    exit_code=evidence.exit_code,
                    output=evidence.output[-4000:],
                )

    def checks_of(self, row: Row) -> list[str]:
        """Commands of a task's checks; a name that the settings know stands for its command."""
        named = self._named_checks()
        return [named.get(check, check) for check in stored_json(row, "checks", name("T", row["id"]))]

    def fail(self, run: str, error: str, code: str = "client_failed") -> dict[str, Any]:
        """Reports a task as failed: tried again or given up, by the taxonomy. Raises StaleRun, InvalidInput."""
        check_text("error", error)
        one = number(run, "R")

        def failed(tx: Transaction) -> dict[str, Any]:
            row = finish.held(tx, one)
            if row["supervised"]:
                _, said = self._report(tx, one, error, "failed")
                return {**outcome(tx, row["task"], one, [], recorded=said), "retry_at": None}
            at = finish.fail(tx, one, code=code, error=error, back_off=self._back_off())
            return {**outcome(tx, row["task"], one, []), "retry_at": iso(at)}

        return self.store.write(failed)

    def _back_off(self) -> finish.BackOff:
        import random

        return finish.BackOff(self.config["retry.cap_s"], self.config["retry.jitter"], random.random)

    # -- watching -----------------------------------------------------------------------------

    def list_runs(
        self,
        *,
        task: str | None = None,
        states: Sequence[str] = (),
        limit: int = 20,
        cursor: str | None = None,
        offset: int = 0,
    ) -> Page:
        """Runs, newest first. Raises NotFound for an unknown task."""
        for state in states:
            check_choice("state", state, tuple(RunState))
        given = {"task": number(task, "T") if task else None, "states": list(states) or None}
        before = number(cursor, "R") if cursor else None
        bound = bounded(limit)

        def read(tx: Transaction) -> Page:
            if task:
                views.task(tx, number(task, "T"))
            rows = tx.all("list_runs", limit=bound + 1, before=before, offset=offset or None, **given)
            runs = [standing.shown(self, row) for row in rows[:bound]]
            return Page(
                runs, tx.the("count_runs", **given)["total"], name("R", runs[-1].id) if len(rows) > bound else None
            )

        return self.store.read(read)

    def run(self, run: str) -> Run:
        """One run. Raises NotFound."""
        return self.store.read(lambda tx: _run(tx, number(run, "R")))

    def run_detail(self, run: str) -> dict[str, Any]:
        """A run with the evidence of its checks, what was said to its agent, and who else is at its files."""

        def read(tx: Transaction) -> dict[str, Any]:
            one = standing.shown(self, _run(tx, number(run, "R")).row)
            evidence = [
                {
                    "stage": row["stage"],
                    "go": row["go"],
                    "command": row["command"],
                    "exit_code": row["exit_code"],
                    "output": row["output"],
                    "duration_ms": row["duration_ms"],
                    "at": iso(row["at"]),
                    "log": row["log"],
                }
                for row in tx.all("checks_of", run=one.id)
            ]
            said = [views.message(row) for row in messages.of_run(tx, one.id)]
            met = [dict(found) for found in overlap.overlaps(tx, one.id)]
            found = {**one.as_json(), "checks": evidence, "messages": said, "overlaps": met}
            return {**found, "remedy": views.remedy_of_run(tx, one.row)}

        return self.store.read(read)

    def log(self, run: str, *, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Lines of a run's log, oldest first; with ``follow`` until the run is over. Raises NotFound.

        Where something else has the log's place, a line says so; so it is for those that follow here.
        """
        from orchestrion.runs import log, order

        one = number(run, "R")
        self.store.read(lambda tx: _run(tx, one))
        file = order.folder(self.project.store_dir, one) / "log.jsonl"
        offset = 0
        while True:
            over = self.store.read(lambda tx: _run(tx, one)).row["ended_at"] is not None
            try:
                for behind, line in log.read(file, offset):
                    offset = behind
                    yield line
            except private.NotPlain as bent:
                yield log.in_its_place(bent)
                return
            if not follow or over:
                return
            self.store.wait_for_change(0.1)

    def log_page(self, run: str, offset: int = 0, limit: int = 200) -> dict[str, Any]:
        """Lines of a run's log from a byte on: ``lines``, ``next_offset``, and whether the run is ``over``.

        Long lines make a page shorter than ``limit``; one without lines is the last for now. Raises NotFound,
        InvalidInput.
        """
        from orchestrion.runs import log, order

        one, bound = number(run, "R"), bounded(limit)
        check_number("offset", offset, 0, 2**53)
        over = self.store.read(lambda tx: _run(tx, one)).row["ended_at"] is not None
        file = order.folder(self.project.store_dir, one) / "log.jsonl"
        try:
            lines, behind = log.page(file, offset, bound)
        except private.NotPlain as bent:
            lines, behind = ([] if offset else [log.in_its_place(bent)]), max(offset, 1)
        return {"run": name("R", one), "lines": lines, "next_offset": behind, "over": over}

    def log_lines(self, run: str, skip: int, limit: int) -> Numbered:
        """Lines of a run's log behind the first ``skip``, and how many it has. Raises NotFound."""
        from orchestrion.runs import log, order

        one = number(run, "R")
        self.store.read(lambda tx: _run(tx, one))
        try:
            return log.numbered(order.folder(self.project.store_dir, one) / "log.jsonl", skip, limit)
        except private.NotPlain as bent:
            return log.Numbered([] if skip else [log.in_its_place(bent)], max(skip, 1), 1)

    def clean_up_run(self, run: str) -> dict[str, Any]:
        """Removes the workspace of a run that is over, unless that would lose work: ``removed``.

        Raises NotFound, Conflict (``run_active``; ``other_host``: its workspace is on another machine).
        """
        from orchestrion.runs.workspace.removal import remove

        row = self.run(run).row
        if row["ended_at"] is None:
            raise Conflict(f"{run} is not over", hint=f"`orchestrion kill {run}` ends it", code="run_active")
        if row["workspace"] and not self.has_left(row):
            raise Conflict(
                f"the workspace of {run} is on {row['host']}",
                hint="clean up there",
                code="other_host",
                host=row["host"],
            )
        gone = not row["workspace"] or remove(repository_of(self), Path(row["workspace"]))
        return {"run": name("R", row["id"]), "workspace": row["workspace"], "removed": gone}

    def diff(
        self,
        run: str,
        *,
        skip: int = 0,
        files: int = 200,
        max_bytes: int = 1_000_000,
        file_bytes: int = 100_000,
        rest: str = "skip={next} goes on",
    ) -> str:
        """What a run changed, as a unified diff for reading: of each file so many bytes, of all together so many.

        ``skip`` passes over so many files. Lines that begin with ``#`` say what is left out, and in the words of
        ``rest`` how to go on; ``run_diff`` has all of it. Raises what that raises, InvalidInput.
        """
        bounds = diff_bounds(skip=skip, files=files, max_bytes=max_bytes, file_bytes=file_bytes)
        return b"".join(self.run_diff(run).text(bounds, rest)).decode("utf-8", "replace").removesuffix("\n")

    def run_diff(self, run: str) -> RunDiff:
        """What a run changed, to be read piece by piece.

        Raises NotFound when it has no commits, or they are gone; Conflict (``other_clone``) when they are elsewhere.
        """
        from orchestrion.runs.git import Git
        from orchestrion.runs.patches import RunDiff

        row = self.run(run).row
        if not row["head_commit"] or not row["base_commit"]:
            raise NotFound(f"{run} has no commits", hint=f"`orchestrion show {run}` shows the run", code="no_commits")
        git = Git(self.project.root)
        if git.tip(row["head_commit"]) is None or git.tip(row["base_commit"]) is None:
            self.store.read(lambda tx: clones.refuse_elsewhere(tx, _plan_of(tx, row), f"a diff of {run}"))
            raise NotFound(
                f"the commits of {run} are not in this repository any more",
                hint=f"`orchestrion show {run}` tells which files it changed",
                code="commits_gone",
            )
        return RunDiff(git, row["base_commit"], row["head_commit"])

    def artifact(self, artifact: str, offset: int = 0) -> dict[str, Any]:
        """A page of a stored result. Raises NotFound."""
        return self.store.read(lambda tx: artifacts.read(tx, number(artifact, "A"), offset).as_json())

    # -- steering -----------------------------------------------------------------------------

    def kill(self, run: str, reason: str = "killed by a person") -> Run:
        """Ends a run; its agent is stopped within a second, here if its supervisor died. Raises StaleRun when it is
        over, and where that died with its work in the plan: then it is completed.
        """
        settle_merged(self, self.run(run).row)
        self._on_run(run, lambda tx, one: finish.kill(tx, one, reason))
        end_remains(self)
        return self.run(run)

    def ended_elsewhere(self, run: str) -> str | None:
        """Who ends the processes of a run that was ended, where they are on another host; None: they are not."""
        return elsewhere(self, self.run(run).row)

    def pause(self) -> None:
        """Workers claim nothing any more; runs go on."""
        self._set_paused(1, "queue.paused")

    def resume(self, agent: str | None = None) -> bool:
        """Workers claim again; with ``agent`` the breaker of that agent is closed instead. Whether it was open."""
        if agent is not None:
            check_word("agent", agent, empty=False)
            return self.store.write(lambda tx: breaker.close(tx, agent))
        self._set_paused(0, "queue.resumed")
        return True

    def _set_paused(self, paused: int, event: str) -> None:
        def set_paused(tx: Transaction) -> None:
            tx.run("pause", paused=paused)
            tx.event(event)

        self.store.write(set_paused)

    def slots(self) -> list[dict[str, Any]]:
        """All limits with their use."""
        return self.store.read(lambda tx: [dict(slot) for slot in slots.all_slots(tx)])

    def set_slots(self, changes: Mapping[str, int | None]) -> list[dict[str, Any]]:
        """Sets limits by their names, None takes one away; all of them with their use then.

        Raises InvalidInput, NotFound (``no_slot``), Conflict (``resource_needed``).
        """

        def set_and_list(tx: Transaction) -> list[dict[str, Any]]:
            for slot, capacity in changes.items():
                slots.set_capacity(tx, slot, capacity)
            return [dict(slot) for slot in slots.all_slots(tx)]

        return self.store.write(set_and_list)

    def limits_that_return(self, changes: Mapping[str, int | None]) -> list[str]:
        """In words, which of the limits that ``changes`` take away the settings name: those come back."""
        found = []
        for slot in (slot for slot, capacity in changes.items() if capacity is None):
            wanted = slots.of_settings(self.config, slot.removeprefix("host:")).get(slot)
            if wanted is not None:
                found.append(
                    f"the settings say {slot}={wanted}: the next worker that starts sets it again; "
                    "`orchestrion config show` says where"
                )
        return found

    def cleanup_stale_locks(self, max_age_seconds: float = 3600) -> int:
        """Ends claims without a sign of life for so long, and frees what ended runs still hold. Returns how many."""
        return int(self.clean_up_locks(max_age_seconds)["freed"])

    def clean_up_locks(self, max_age_s: float = 3600) -> dict[str, Any]:
        """The same: ``freed``, ``righted`` (values that were wrong), ``mended`` (what that meant for tasks and runs, a
        sentence for each), and ``notes`` on what other hosts have to end.

        A supervised run with a living process on this machine is never touched; what is left of one whose supervisor
        died is ended first, and its work kept.
        """
        # What recovers a run gives its limits back, which they must count for that.
        righted, mended = self.store.write(reap.put_right)
        dead, silent = dead_runs(self), self.store.read(lambda tx: reap.silent(tx, max_age_s))
        recovered = {row["id"]: dead.recovered(row, "no sign of life") for row in silent}
        seen_to = {run for run, is_over in recovered.items() if is_over is not None}
        ends = recovered.keys() - seen_to
        freed = self.store.write(lambda tx: reap.cleanup_stale_locks(tx, max_age_s, ends))
        notes = [
            f"{name('R', row['id'])}: {said}"
            for row in silent
            if row["id"] not in seen_to and (said := elsewhere(self, row))
        ]
        freed += sum(map(bool, recovered.values()))
        try:
            mended = [*mended, *self._forget_gone_refs()]
        except GitProblem as problem:  # what is in the store is done
            notes.append(f"refs without commits were not looked for: {problem.message}")
        return {"freed": freed, "righted": righted, "mended": mended, "notes": notes}

    def _forget_gone_refs(self) -> list[str]:
        """Removes refs of runs whose commits are gone, which git lets nobody past; a sentence for each."""
        if self.project.git_root is None:
            return []
        from orchestrion.runs import refs
        from orchestrion.runs.git import Git

        return [f"{ref} named a commit that is gone" for ref in refs.forget_gone(Git(self.project.root))]

    def work(
        self,
        *,
        slots: int | None = None,
        drain: bool = False,
        agent: str | None = None,
        plan: str | None = None,
        older_copy: bool = False,
        seen: Callable[[], None] = lambda: None,
        worker: Callable[[Any], None] = lambda _: None,
    ) -> Any:
        """Keeps agents busy; with ``drain`` until nothing is left to run. Returns the worker's Summary.

        Only with tasks for ``agent``, or of ``plan``, if these are named. Raises NotFound for one that is not there,
        Conflict (``older_copy``) where runs began here that the store does not know, unless that is accepted by
        ``older_copy``.
        ``worker`` is given the Worker before it starts (to stop it from a signal handler),
        ``seen`` is called whenever it looked around.
        """
        from orchestrion.ops.housekeeping import Housekeeper
        from orchestrion.orchestrator.maintaining import DOERS
        from orchestrion.worker import Worker

        count = self.config["work.slots"] if slots is None else slots
        if not 1 <= count <= 1000:
            raise InvalidInput(f"slots must be from 1 to 1000, not {count}", hint="for example 4", code="invalid_slots")
        self._refuse_unknown_agent(agent)
        only = self.store.read(lambda tx: plan_named(tx, plan))["id"] if plan else None
        one = Worker(self.store, self.project, self.config, self.environ, count, agent, seen, plan=only)
        (older_copies.accept if older_copy else older_copies.refuse)(self)
        holder = f"worker:{self.host.process()}"
        one.put_in_order = Housekeeper(self.store, self.config, DOERS, self.project.store_dir, holder, one.warn).keep
        self.store.origin = _as_worker(self.store.origin)
        worker(one)
        return one.work(drain=drain)

    def approve(self, task: str, said: str = "") -> dict[str, Any]:
        """Accepts work in review: it is merged into the plan, then the task is completed.

        ``said`` stands in its reason. Raises IllegalMove, MergeConflict (resolve it on the run's branch, then approve
        again), Conflict (``other_clone``, ...).
        """
        one = number(task, "T")
        row = self.store.read(lambda tx: views.task(tx, one).row)
        stored_json(row, "checks", task)  # what cannot be read was not looked at either
        if row["state"] == TaskState.REVIEW and row["work_run"]:
            self._merge_accepted(row)

        def approved(tx: Transaction) -> dict[str, Any]:
            ready = decide.approve(tx, one, tx.origin.actor, said)
            return {**views.task(tx, one).as_json(), **unblocked(ready)}

        return self.store.write(approved)

    def _merge_accepted(self, row: Row) -> None:
        from orchestrion.core.errors import MergeConflict
        from orchestrion.runs.commits import RUN_TRAILER, TASK_TRAILER
        from orchestrion.runs.merge import Incoming, Merger
        from orchestrion.runs.plan_start import restored
        from orchestrion.runs.plan_tip import PlanTip
        from orchestrion.runs.workspace.publish import run_tip
        from orchestrion.runs.workspace.remarks import Remark

        run = self.store.read(lambda tx: tx.the("run", id=row["work_run"]))
        if not run["head_commit"] or row["merge"] != "auto":
            return
        if self.project.git_root is None:
            return
        plan = plan_found(self, run["plan_name"])
        self.store.read(lambda tx: clones.refuse_elsewhere(tx, plan, f"the merge of {name('T', row['id'])}"))
        repository = repository_of(self)
        who = committer_of(self, repository)
        label, task = name("R", run["id"]), name("T", row["id"])
        head = run_tip(repository.git, label) or run["head_commit"]
        remarks = stored_json(run, "remarks", label)
        refuse_unready(repository.git, row, run, remarks, head)
        incoming = Incoming(
            label,
            head,
            who.style.subject(title=row["title"], task=task, run=label, plan=run["plan_name"]),
            {TASK_TRAILER: task, RUN_TRAILER: label},
            who,
        )
        recheck = self._recheck_merged(row)
        restored(PlanTip(repository.git, plan["name"]), plan, lambda: plan_found(self, plan["name"]))
        try:
            merged = Merger(repository, workspaces_home_of(self)).merge(plan["name"], incoming, recheck)
        except MergeConflict as conflict:
            found = Remark("merge_conflict", "conflicts with the plan", tuple(conflict.details["files"]), asks=True)
            told = json.dumps([*(one for one in remarks if one["code"] != found.code), found.as_json()])
            self.store.write(lambda tx: tx.run("run_remarks", run=run["id"], remarks=told))
            conflict.hint = (
                f"`orchestrion show {task}` says how to resolve it; or `orchestrion reject {task} --reason TEXT`"
            )
            raise
        self.store.write(lambda tx: tx.run("plan_moves", plan=plan["id"], tip=merged.tip_after))

    def _recheck_merged(self, row: Row) -> Callable[[Path], None] | None:
        if not self.checks_of(row):
            return None

        def recheck(folder: Path) -> None:
            self.set_up(folder, row["setup"])
            self.recheck(row, folder)

        return recheck

    def set_up(self, folder: Path, command: str | None = None) -> None:
        """Makes a merged tree fit for checks, as a workspace is made. Raises Conflict (``setup_failed``)."""
        command = command or self.config["workspace.setup"]
        if command:
            words = f"in the merged tree the set-up command `{command}`"
            self._refuse_failing(command, folder, words, "setup_failed", "correct workspace.setup, then do this again")

    def recheck(self, row: Row, folder: Path) -> None:
        """A task's checks in a merged tree. Raises Conflict (``merge_recheck_failed``)."""
        for command in self.checks_of(row):
            words = f"after the merge the check `{command}`"
            hint = "mend it on the run's branch, then approve again; or reject the work"
            self._refuse_failing(command, folder, words, "merge_recheck_failed", hint)

    def _refuse_failing(self, command: str, folder: Path, words: str, code: str, hint: str) -> None:
        from orchestrion.runs import checks

        evidence = checks.run_check(command, folder, self.environ, self.config["run.timeout_s"])
        if not evidence.passed:
            said = f"{words} failed with exit code {evidence.exit_code}"
            raise Conflict(said, hint=hint, code=code, output=evidence.output[-4000:])

    def _on_run(self, run: str, act: Callable[[Transaction, int], object]) -> Run:
        one = number(run, "R")

        def acted(tx: Transaction) -> Run:
            act(tx, one)
            return _run(tx, one)

        return self.store.write(acted)


def diff_bounds(*, skip: int = 0, files: int, max_bytes: int, file_bytes: int) -> Bounds:
    """How much of a diff is asked for. Raises InvalidInput."""
    from orchestrion.runs.patches import Bounds

    check_number("skip", skip, 0, 2**53)
    check_number("files", files, 1, 10_000)
    check_number("max_bytes", max_bytes, 1, 2**53)
    check_number("file_bytes", file_bytes, 1, 2**26)
    return Bounds(skip, files, file_bytes, max_bytes)


def claims_next(tx: Transaction) -> Task | None:
    """The task that a claim would take next; None when there is none."""
    from orchestrion.scheduler import explain

    rows = explain.ready(tx, 1)
    return views.tasks(tx, rows)[0] if rows else None


def _run(tx: Transaction, run: int) -> Run:
    row = tx.one("run", id=run)
    if row is None:
        raise NotFound(f"there is no run {name('R', run)}", hint="`orchestrion runs` shows the runs", code="no_run")
    return Run(row)


def _plan_of(tx: Transaction, run: Row) -> Row:
    return tx.the("plan_by_number", id=tx.the("task", id=run["task"])["plan"])


def _keep_evidence(tx: Transaction, run: int, evidence: Any) -> None:
    tx.run(
        "add_check",
        run=run,
        stage="done",
        go=1,
        command=evidence.command,
        exit_code=evidence.exit_code,
        output=evidence.output,
        log=None,
        duration_ms=evidence.duration_ms,
    )


def _as_worker(origin: Origin) -> Origin:
    return origin._replace(actor=f"worker:{host.name()}/{os.getpid()}")
