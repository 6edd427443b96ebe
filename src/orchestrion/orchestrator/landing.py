"""Use case ``land``: a plan's work comes to the user's branch, to a remote, or becomes a pull request.

Everything that can be looked at is looked at before anything moves: which plan, whether it is
done, on which branch and in which checkout, whether there is a remote and a program. A plan
remembers where it was landed.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrion.core import host
from orchestrion.core.errors import (
    Conflict,
    EnvironmentProblem,
    GitProblem,
    InvalidInput,
    MergeConflict,
    NotFound,
    NothingReady,
    OrchestrionError,
    StoreProblem,
)
from orchestrion.core.model import check_plan_name, name
from orchestrion.orchestrator import older_copies
from orchestrion.orchestrator.finding import plan_named
from orchestrion.orchestrator.plans import PlanCases
from orchestrion.orchestrator.repository import committer_of, plan_found, repository_of, workspaces_home_of
from orchestrion.scheduler import clones
from orchestrion.store import Transaction
from orchestrion.store.store import Row

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrion.runs.landing import Checkout, Going, Landed
    from orchestrion.runs.merge import Incoming, Merger, Recheck
    from orchestrion.runs.plan_push import PlanPush
    from orchestrion.runs.plan_tip import PlanTip
    from orchestrion.runs.remotes import Remote, Remotes
    from orchestrion.runs.workspace.project_repository import ProjectRepository

#: So many tasks or plans are named.
_NAMED = 10


class LandingCases(PlanCases):
    """How plans are landed."""

    def land(
        self,
        plan: str | None = None,
        *,
        onto: str | None = None,
        partial: bool = False,
        push: bool = False,
        pr: bool = False,
    ) -> dict[str, Any]:
        """Brings a plan to the user's branch. The one use case that touches their checkout, because they ask.

        Without ``plan`` it is the only one that is not landed. ``onto``: another branch than the one on which the
        plan began; ``partial``: also if tasks of it are open; ``push`` sends the branch to its remote afterwards;
        ``pr`` moves nothing of the user's: the plan's branch is pushed and a pull request opened from it.
        Raises NothingReady (``nothing_to_land``), InvalidInput (``several_plans``), NotFound, MergeConflict,
        Conflict (``other_clone``, ``open_tasks``, ``other_branch``, ``dirty_tree``, ``in_the_way``, ...),
        EnvironmentProblem (``detached_head``, ``no_remote``, ``gh_missing``, ``push_refused``, ...).
        """
        from orchestrion.runs.plan_start import refuse_lacking, restored, set_aside

        if onto is not None and not onto.strip():
            raise InvalidInput(
                "--onto names no branch", hint="name one, or leave --onto out: then it is the branch you are on",
                code="invalid_branch",
            )  # fmt: skip
        if push and pr:
            raise InvalidInput(
                "--push and --pr exclude each other: one moves your branch, the other does not",
                hint="choose one",
                code="push_or_pr",
            )
        chosen = self._only_unlanded(with_push=push) if plan is None else plan
        check_plan_name(chosen)
        row = plan_found(self, chosen)
        self.store.read(lambda tx: clones.refuse_elsewhere(tx, row, "landing"))
        if not pr:
            self._checkout().put_back_interrupted(self._repository)
        tip = self._tip_of(chosen)
        is_another_s = set_aside(tip, row, lambda: self._has_begun(row))
        accepted = self.store.read(lambda tx: clones.accepted(tx, row))
        commit = restored(tip, row, lambda: plan_found(self, chosen))
        if commit is not None and not is_another_s:
            refuse_lacking(tip, commit, accepted)
        if is_another_s or commit is None or commit == row["began_commit"]:
            more = "".join(f"; {said}" for said in self._what_else(row))
            raise _nothing(f"plan {chosen} has no accepted work{more}", f"`orchestrion graph {chosen}` shows its tasks")
        if not partial:
            self._refuse_open(row)
        known = self._what_else(row)
        landed = self._propose(row, tip, onto) if pr else self._land(row, tip, onto, with_push=push)
        return {**landed, "notes": [*landed["notes"], *known]}

    def _what_else(self, row: Row) -> list[str]:
        """What a person should know of a plan beside what is landed of it."""
        from orchestrion.runs.plan_start import kept_aside

        found, aside = older_copies.told(self), kept_aside(self._repository.git, row["name"])
        kept = [f"{ref} keeps what a plan of this name had in a store that is gone: it is not landed" for ref in aside]
        return [*([found] if found else []), *kept]

    def take_over(self, plan: str) -> dict[str, Any]:
        """A plan whose clone is gone belongs to this one from now on, which must have its commits.

        Raises NotFound (``no_plan``; ``plan_lost``: says what to fetch), Conflict (``run_active``, ``plan_diverged``).
        """
        from orchestrion.runs.plan_start import regained, set_aside

        row = self.store.read(lambda tx: plan_named(tx, plan))
        self.store.read(lambda tx: _refuse_active(tx, row))
        set_aside(self._tip_of(plan), row, lambda: self._has_begun(row))
        commit = regained(self._tip_of(plan), row, self.store.read(lambda tx: clones.accepted(tx, row)))

        def bound(tx: Transaction) -> bool:
            _refuse_active(tx, row)
            return clones.bind(tx, tx.the("plan_by_number", id=row["id"]), host.name(), str(self.project.root))

        taken = self.store.write(bound)
        return {"plan": plan, "commit": commit, "taken_over": taken, "from": clones.place_of(row) if taken else None}

    def unlanded_plans(self) -> list[str]:
        """Plans of this clone with accepted work that is on no branch of the user's yet, oldest first."""

        def of_clone(tx: Transaction) -> list[Row]:
            return [row for row in tx.all("plans", limit=10_000) if not clones.is_elsewhere(tx, row)]

        rows = {row["name"]: row for row in self.store.read(of_clone)}
        return [plan for plan in sorted(rows, key=lambda one: rows[one]["id"]) if self._is_unlanded(rows[plan])]

    def finished_plans(self) -> list[str]:
        """Those of them of which no task is open; empty outside git."""
        if self.project.git_root is None:
            return []

        def finished(tx: Transaction) -> list[str]:
            rows = [plan_named(tx, plan) for plan in unlanded]
            return [row["name"] for row in rows if tx.one("open_task_of_plan", plan=row["id"]) is None]

        unlanded = self.unlanded_plans()
        return self.store.read(finished)

    # -- which plan, and whether it is done -----------------------------------------------------

    def _only_unlanded(self, *, with_push: bool) -> str:
        plans = self.unlanded_plans()
        if not plans:
            pushes = "; `orchestrion land PLAN --push` pushes one that has landed" if with_push else ""
            raise _nothing("there is no plan with work to land", f"`orchestrion status` shows the plans{pushes}")
        if len(plans) > 1:
            raise InvalidInput(
                f"{len(plans)} plans can be landed: {', '.join(plans[:_NAMED])}",
                hint=f"name one: orchestrion land {plans[0]}",
                code="several_plans",
                plans=plans,
            )
        return plans[0]

    def _has_begun(self, row: Row) -> bool:
        """Whether any run of a plan began here, be it one that an older copy of the store does not know."""
        if self.store.read(lambda tx: tx.one("run_that_began", plan=row["id"])) is not None:
            return True
        from orchestrion.runs import older_copy

        is_there = self._tip_of(row["name"]).read() is not None
        return is_there and older_copy.has_begun(self.project.store_dir, self.store.uuid, self.store.clone, row["name"])

    def _is_unlanded(self, row: Row) -> bool:
        from orchestrion.runs.plan_start import never_began, place_of

        git = self._repository.git
        if never_began(row, lambda: self._has_begun(row)):
            return False
        try:
            commit = place_of(self._tip_of(row["name"]), row, lambda: plan_found(self, row["name"]))
        except (NotFound, Conflict):  # whoever lands it hears what to do
            return True
        if commit is None or commit in (row["landed_commit"], row["began_commit"]):
            return False
        target = git.tip(f"refs/heads/{row['began_branch']}") if row["began_branch"] else None
        target = target or git.tip("HEAD")
        if target is None or not git.is_ancestor(commit, target):
            return True
        if row["began_branch"]:  # merged by hand, or by others
            self._remember_landed(row, row["began_branch"], commit)
        return False

    def _refuse_open(self, row: Row) -> None:
        tasks = self.store.read(lambda tx: tx.all("open_tasks_of_plan", plan=row["id"], limit=_NAMED + 1))
        if tasks:
            named = ", ".join(f"{name('T', one['id'])} ({one['state']})" for one in tasks[:_NAMED])
            more = ", ..." if len(tasks) > _NAMED else ""
            found = older_copies.told(self)
            raise Conflict(
                f"plan {row['name']} is not finished: {named}{more}{f'; {found}' if found else ''}",
                hint=f"`orchestrion why {name('T', tasks[0]['id'])}`; "
                f"or land what there is: `orchestrion land {row['name']} --partial`",
                code="open_tasks",
                tasks=[name("T", one["id"]) for one in tasks],
            )

    # -- to the user's branch -------------------------------------------------------------------

    def _land(self, row: Row, tip: PlanTip, onto: str | None, *, with_push: bool) -> dict[str, Any]:
        from orchestrion.runs import landing_notes as notes_on
        from orchestrion.runs.landing import Landed

        checkout = self._checkout()
        branch = onto or self._branch_here(checkout, row)
        commit = tip.get()
        there = checkout.git.tip(f"refs/heads/{branch}")
        is_there = there is not None and checkout.git.is_ancestor(commit, there)
        if is_there:
            self._remember_landed(row, branch, commit)
        push = self._push_after(checkout, tip, branch) if with_push else None
        if is_there and (push is None or push.is_there):
            raise _nothing(f"plan {row['name']} is on {branch} already", "nothing has to be done")
        notes = []
        if push is not None:
            push.remotes.refuse_ahead(push.target, *([there] if there else []), commit)
            if not is_there:
                checkout.refuse_unfit(row["name"], branch, commit)
            notes = self._taken_in(row, push)
        if there and checkout.git.is_ancestor(tip.get(), there):
            landed = Landed(branch, there, there, merged=False)
        else:
            landed = self._brought(checkout, row, tip, branch, push)
        self._remember_landed(row, branch, tip.get())
        if push is not None:
            push.push_target(landed.tip_after, keeps_own=row["pull_request"] is not None)
        return {
            "plan": row["name"],
            "branch": branch,
            "commit": landed.tip_after,
            "landed": True,
            "pull_request": row["pull_request"],
            "tip_before": landed.tip_before,
            "tip_after": landed.tip_after,
            "merged": landed.merged,
            "pushed": push is not None,
            "pushed_to": push.target.place if push else None,
            "commits": int(checkout.git.run("rev-list", "--count", f"{landed.tip_before}..{landed.tip_after}").stdout),
            "notes": [
                *notes,
                *self._failed(row),
                *notes_on.not_on_branch(checkout.git, row, landed),
                *notes_on.moved_submodules(checkout.git, landed),
            ],
        }

    def _brought(self, checkout: Checkout, row: Row, tip: PlanTip, branch: str, push: PlanPush | None) -> Landed:
        """Lands; what only a person can decide is led to a merge by hand, which is a landing as well."""
        from orchestrion.runs.landing_notes import by_hand

        plan = row["name"]
        merger, joining, recheck = self._merger(), self._joining(plan), self._recheck_of(plan)
        going: Going = push.push if push else (lambda _: None)
        try:
            with self._withdrawn(push if row["pull_request"] is None else None):
                return checkout.land(self._repository, merger, plan, branch, joining, recheck, going)
        except MergeConflict as conflict:
            files = conflict.details["files"]
            raise MergeConflict(files, hint=by_hand(checkout, tip, branch, files)) from conflict
        except Conflict as refused:
            if refused.code == "merge_recheck_failed":
                refused.hint = by_hand(checkout, tip, branch, [])
            raise

    def _taken_in(self, row: Row, push: PlanPush) -> list[str]:
        """Merges what the plan's own branch at the remote has into the plan; what was, in words."""
        plan = push.tip.plan
        notes = push.take_in(self._merger(), self._joining(plan), self._recheck_of(plan))
        if notes:
            commit = push.tip.get()
            self.store.write(lambda tx: tx.run("plan_moves", plan=row["id"], tip=commit))
        return notes

    @contextmanager
    def _withdrawn(self, push: PlanPush | None) -> Iterator[None]:
        """What was pushed of a plan goes again when it could not land."""
        try:
            yield
        except OrchestrionError:
            if push is not None:
                push.take_back()
            raise

    def _merger(self) -> Merger:
        from orchestrion.runs.merge import Merger

        return Merger(self._repository, workspaces_home_of(self))

    def _branch_here(self, checkout: Checkout, row: Row) -> str:
        """The branch of the checkout in which the caller stands, if the plan began there."""
        here = checkout.branch()
        if here is None:
            under_way = checkout.unfinished()
            raise EnvironmentProblem(
                "no branch is checked out here, so there is nothing to land on"
                + (f": {under_way}" if under_way else ""),
                hint="finish or abort that first (`git status` says how)"
                if under_way
                else f"`git switch BRANCH` first, or name one: `orchestrion land {row['name']} --onto BRANCH`",
                code="detached_head",
            )
        began = row["began_branch"]
        if began is not None and began != here:
            raise Conflict(
                f"plan {row['name']} began on {began}; {checkout.folder} is on {here}",
                hint=f"`orchestrion land {row['name']} --onto {shlex.quote(here)}` lands it here; "
                f"or call it where {began} is checked out",
                code="other_branch",
                began=began,
                here=here,
                began_in=row["began_checkout"],
            )
        return here

    def _push_after(self, checkout: Checkout, tip: PlanTip, branch: str) -> PlanPush:
        """What pushes the user's branch when the plan has landed on it."""
        from orchestrion.runs.remotes import Remotes

        remotes = Remotes(checkout.git)
        remote = remotes.pushed_to(branch)
        return self._push_of(checkout, remotes, tip, remote.name, remote, remotes.commit_at(remote))

    def _push_of(
        self, checkout: Checkout, remotes: Remotes, tip: PlanTip, pushed_to: str, target: Remote, at_target: str | None
    ) -> PlanPush:
        from orchestrion.runs.plan_push import PlanPush
        from orchestrion.runs.remotes import Remote

        own = Remote(pushed_to, f"orchestrion/{tip.plan}")
        return PlanPush(self._repository, checkout, remotes, tip, own, target, at_target)

    # -- as a pull request ----------------------------------------------------------------------

    def _propose(self, row: Row, tip: PlanTip, onto: str | None) -> dict[str, Any]:
        from orchestrion.runs import landing_notes as notes_on
        from orchestrion.runs.pull_request import open_pull_request, refuse_signed_out
        from orchestrion.runs.remotes import Remotes

        checkout = self._checkout()
        remotes = Remotes(checkout.git)
        branch = onto or row["began_branch"] or self._branch_here(checkout, row)
        remote, base = remotes.push_remote(branch), remotes.comes_from(branch)
        program = self._gh(remote, tip)
        there = remotes.refuse_without(base)
        push = self._push_of(checkout, remotes, tip, remote, base, there)
        if push.is_there:
            self._remember_landed(row, branch, tip.get())
            raise _nothing(f"{base.place} has plan {row['name']} already", f"`{remotes.pull(base)}`")
        refuse_signed_out(program, checkout.folder)
        notes = self._taken_in(row, push)
        at_head = remotes.commit_at(push.own)
        notes += [*self._failed(row), *notes_on.come_along(checkout.git, base, row, tip.get(), there, at_head)]
        push.push(tip.get())
        owner = remotes.owner(push.own) if remote != base.name else ""
        url = open_pull_request(
            program,
            checkout.folder,
            head=f"{owner}:{push.own.branch}" if owner else push.own.branch,
            base=base.branch,
            title=row["title"] or f"Plan {row['name']}",
            body=self._proposal(row),
        )

        def proposed(tx: Transaction) -> None:
            tx.run("plan_is_proposed", plan=row["id"], url=url)
            tx.event("plan.proposed", data={"plan": row["name"], "commit": tip.get(), "pull_request": url})

        self.store.write(proposed)
        return {
            "plan": row["name"],
            "branch": base.branch,
            "commit": tip.get(),
            "landed": False,
            "pull_request": url,
            "pushed": True,
            "pushed_to": push.own.place,
            "notes": notes,
        }

    def _gh(self, remote: str, tip: PlanTip) -> str:
        program = shutil.which("gh", path=self.environ.get("PATH"))
        if program is None:
            own = f"orchestrion/{tip.plan}"
            raise EnvironmentProblem(
                "a pull request needs the program gh, which is not installed; nothing has moved",
                hint=f"install it (https://cli.github.com), or `git push {remote} {tip.ref}:refs/heads/{own}` "
                "and open it by hand",
                code="gh_missing",
            )
        return program

    def _proposal(self, row: Row) -> str:
        """What a pull request says: the tasks with their evidence, and what they cost."""
        found = self.store.read(lambda tx: tx.all("tasks_to_propose", plan=row["id"]))
        lines = [f"Plan `{row['name']}`, worked on by agents and checked. Each line is a task.", ""]
        for task in found:
            mark = "x" if task["state"] == "completed" else " "
            passed = task["checks_passed"]
            evidence = f", {passed} check{'s' if passed > 1 else ''} passed" if passed else ""
            lines.append(f"- [{mark}] {name('T', task['id'])} {task['title']} ({task['state']}{evidence})")
        costs = [task["cost_usd"] for task in found if task["cost_usd"] is not None]
        if costs:
            lines += ["", f"Cost of the runs whose cost is known: ${sum(costs):.2f}."]
        return "\n".join(lines) + "\n"

    # -- what is needed for it ------------------------------------------------------------------

    @cached_property
    def _repository(self) -> ProjectRepository:
        return repository_of(self)

    def _checkout(self) -> Checkout:
        from orchestrion.runs.landing import Checkout

        return Checkout(self.project.checkout)

    def _tip_of(self, plan: str) -> PlanTip:
        from orchestrion.runs.plan_tip import PlanTip

        return PlanTip(self._repository.git, plan)

    def _joining(self, plan: str) -> Any:
        from orchestrion.runs.commits import PLAN_TRAILER
        from orchestrion.runs.merge import Incoming

        who = committer_of(self, self._repository)

        def joining(branch: str, commit: str) -> Incoming:
            return Incoming(branch, commit, f"Merge branch '{branch}' into plan {plan}", {PLAN_TRAILER: plan}, who)

        return joining

    def _recheck_of(self, plan: str) -> Recheck | None:
        """All distinct checks of the plan's completed tasks, for a tree that the user's branch was merged into."""
        rows = self.store.read(lambda tx: tx.all("checks_of_plan", plan=plan))
        if not rows:
            return None

        def recheck(folder: Path) -> None:
            self.set_up(folder)
            for row in rows:
                self.recheck(row, folder)

        return recheck

    def _remember_landed(self, row: Row, branch: str, commit: str) -> None:
        from orchestrion.runs import refs

        if row["landed_commit"] != commit:

            def landed(tx: Transaction) -> None:
                tx.run("plan_is_landed", plan=row["id"], branch=branch, commit=commit)
                tx.event("plan.landed", data={"plan": row["name"], "branch": branch, "commit": commit})

            self.store.write(landed)
        # What cannot go now goes with the next sweep.
        with suppress(GitProblem, StoreProblem):
            refs.retire(self._repository.git, self.store)

    def _failed(self, row: Row) -> list[str]:
        tasks = self.store.read(lambda tx: tx.all("failed_tasks_of_plan", plan=row["id"], limit=_NAMED))
        return [f"{name('T', one['id'])} failed and is not part of it: {one['title']}" for one in tasks]


def _refuse_active(tx: Transaction, plan: Row) -> None:
    """Raises Conflict (``run_active``) while a run of a plan is at work in another clone."""
    for run in tx.all("active_runs", supervised=1):
        if run["plan_name"] == plan["name"] and run["clone"] != tx.clone:
            raise Conflict(
                f"{name('R', run['id'])} of plan {plan['name']} is active on {run['host']}",
                hint=f"let it end, or end it: `orchestrion kill {name('R', run['id'])}`",
                code="run_active",
                run=name("R", run["id"]),
            )


def _nothing(message: str, hint: str) -> NothingReady:
    return NothingReady(message, hint=hint, code="nothing_to_land")
