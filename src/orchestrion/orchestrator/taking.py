"""Use cases for clients that do the work themselves: take up a task, and report it.

A client is an agent with a conversation of its own, behind any door. It thinks in tasks, not
in runs: it takes up T5 and reports T5, and whoever took it up may take it up again (after a
lost context, say) without harm. What it did is known by its *actor*, which names its session;
a run that is named outright is always believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestrion.core.errors import AlreadyTaken, Conflict, InvalidInput, NotFound, NothingReady
from orchestrion.core.model import Run, iso, name, number
from orchestrion.core.states import EdgeState, TaskState, in_words
from orchestrion.memory import artifacts, context, successors
from orchestrion.orchestrator import holding, views
from orchestrion.orchestrator.asking import AskingCases
from orchestrion.orchestrator.runs import claims_next
from orchestrion.scheduler import finish
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: The artifact that holds a report's detailed work.
DETAIL = "detail"
_HOW_TO_REPORT = {
    "ready": "take it up first: `orchestrion claim {0}`",
    "pending": "it waits for others: `orchestrion why {0}`; a parent is completed by its children",
    "completed": "it was reported before; `orchestrion reopen {0} --reason TEXT` has it done again",
    "review": "it waits for approval: `orchestrion approve {0}`",
    "failed": "`orchestrion retry {0}` tries it again",
    "blocked": "it waits for a decision: `orchestrion why {0}`",
    "retrying": "it will be tried again by itself: `orchestrion why {0}`",
    "cancelled": "this is final; create a new task",
}


class TakingCases(AskingCases):
    """How a client holds a task, from taking it up to reporting it."""

    # -- taking up ----------------------------------------------------------------------------

    def take_up(self, task: str, *, run: str | None = None) -> dict[str, Any]:
        """Claims a task for the caller and gives all that is needed to do it; again the same to who holds it.

        ``run`` proves that the caller holds the task. Raises NotFound, NothingReady (with what it
        waits for), AlreadyTaken, Backpressure, StaleRun.
        """
        held = self._held_by_caller(task, run)
        if held is not None:
            self.heartbeat(held)
            return self._taken(task, held, again=True)
        if run is not None:
            self.heartbeat(run)
            raise _other_task(run, task)
        try:
            claimed = self.claim(task)
        except NothingReady as refused:
            raise self._why_not_ready(task, refused) from refused
        return self._newly_taken(claimed)

    def take_next(
        self, *, roles: Sequence[str] = (), agent: str | None = None, tag: str | None = None
    ) -> dict[str, Any]:
        """Claims the best ready task for the caller, as ``take_up``. Raises NothingReady."""
        claimed = self.claim(roles=roles, agent=agent, tag=tag)
        return self._newly_taken(claimed)

    def _newly_taken(self, claimed: Mapping[str, Any]) -> dict[str, Any]:
        """With the warning of the claim, if it has one."""
        task, again, brief = claimed["task"]["id"], claimed["again"], claimed["brief"]
        warned = {"warning": claimed["warning"]} if "warning" in claimed else {}
        return {**self._taken(task, claimed["run"], again=again, brief=brief), **warned}

    def _held_by_caller(self, task: str, run: str | None) -> str | None:
        """The run by which the caller holds the task; None: it does not. Raises NotFound."""
        named = number(run, "R") if run is not None else None
        held = self.store.read(lambda tx: holding.run_of_caller(tx, number(task, "T"), named))
        return name("R", held) if held else None

    def _why_not_ready(self, task: str, refused: NothingReady) -> NothingReady:
        reasons = self.why(task)["reasons"][:5]
        told = "; ".join(str(reason["detail"]) for reason in reasons)
        return NothingReady(
            f"{refused.message}: {told}" if told else refused.message,
            hint=refused.hint,
            code=refused.code,
            **{**refused.details, "reasons": reasons},
        )

    def _taken(self, task: str, run: str, *, again: bool, brief: str | None = None) -> dict[str, Any]:
        """Everything about a task that its holder should know."""
        from orchestrion.memory.roles import load_role

        one, current = number(task, "T"), number(run, "R")

        def read(tx: Transaction) -> dict[str, Any]:
            row = tx.the("task", id=one)
            return {
                "task": views.task(tx, one).as_json(),
                "run": Run(tx.the("run", id=current)).as_json(),
                "brief": brief or context.brief(tx, one, current, root=self.project.root, named=self._named_checks()),
                "dependencies": _dependencies(tx, one),
                "failures": _failures(tx, one, current),
                "feedback": row["feedback"],
                "handoffs": [asdict(left) for left in context.handoffs_for(tx, row)],
                "files": [f"{file['op']} {file['path']}" for file in context.left_files(tx, one)],
            }

        found = self.store.read(read)
        try:
            role = load_role(self.project.root, found["task"]["role"] or "generic")
        except NotFound:
            role = None  # its file went after the task was made
        return {**found, "again": again, "role": None if role is None else asdict(role)}

    def brief_of(self, run: str, advise: Callable[[str], str] = str) -> str:
        """The brief of a run that is active; ``advise`` words what it advises.

        Raises NotFound, StaleRun when it is over.
        """
        one, named = number(run, "R"), self._named_checks()

        def read(tx: Transaction) -> str:
            row = finish.held(tx, one, write=False)
            return context.brief(tx, row["task"], one, root=self.project.root, named=named, advise=advise)

        return self.store.read(read)

    # -- reporting ----------------------------------------------------------------------------

    def report(
        self,
        task: str,
        summary: str,
        *,
        run: str | None = None,
        detail: str | None = None,
        kind: str = "general",
        files: Sequence[str] = (),
        further: Sequence[str] = (),
        decided: Sequence[Mapping[str, Any]] = (),
        next_action: str = "complete",
    ) -> dict[str, Any]:
        """Reports the task as ``done`` does its run; ``further`` are more results, each kept as an artifact.

        ``decided`` are decisions that came with it, as ``decide`` takes them: a wrong one refuses all of it.
        Without ``run`` it is the caller's own; of MCP's clients that keep no session one is not told from another, and
        the journal says that none was named. Raises what ``done`` raises, Conflict (``not_claimed``, ``supervised``),
        and AlreadyTaken when somebody else holds the task.
        """
        current = self._run_to_report(task, run)
        results = [artifacts.Text(detail, DETAIL, kind)] if detail else []
        results += [artifacts.Text(text, f"result-{place}") for place, text in enumerate(further, 1) if text]
        records = [self.to_record(**{**one, "task": task, "run": current}) for one in decided]
        kept_decisions: list[dict[str, Any]] = []

        def record(tx: Transaction) -> None:
            kept_decisions[:] = [one(tx) for one in records]

        outcome = self.done(current, summary, results=results, files=files, next_action=next_action, also=record)
        one, known = number(task, "T"), number(current, "R")

        def read(tx: Transaction) -> dict[str, Any]:
            following = claims_next(tx)
            return {
                "artifacts": [artifacts.facts(row) for row in tx.all("artifacts_of", ids=[one]) if row["run"] == known],
                "parent": _parent_progress(tx, one),
                "next": following.as_json() if following else None,
            }

        return {**outcome, "decisions": [decision["id"] for decision in kept_decisions], **self.store.read(read)}

    def report_changed(
        self, changes: Sequence[Any], *, task: str | None = None, run: str | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """Reports files as ``report_files`` does; those of a task that somebody holds only by who may report it.

        Raises what ``report_files`` and ``report`` raise.
        """
        if task is not None and run is None and self.task(task).row["run"] is not None:
            run = self._run_to_report(task, None)
        return self.report_files(changes, task=task, run=run, session=session)

    def _run_to_report(self, task: str, run: str | None) -> str:
        if run is not None:
            if self.run(run).row["task"] != number(task, "T"):
                raise _other_task(run, task)
            return run
        mine = self._held_by_caller(task, None)
        if mine is not None:
            return mine
        row = self.task(task).row
        if row["run"] is None:
            raise Conflict(
                f"{task} is {in_words(row['state'])}: nobody holds it, so nobody can report it",
                hint=_HOW_TO_REPORT.get(row["state"], "look at it again").format(task),
                code="not_claimed",
                state=row["state"],
            )
        current = self.run(name("R", row["run"]))
        if current.row["supervised"]:
            raise Conflict(
                f"{task} is being done by {name('R', current.id)}, which a supervisor looks after",
                hint=f"name the run to report for it, or end it first: `orchestrion kill {name('R', current.id)}`",
                code="supervised",
                run=name("R", current.id),
            )
        if not (holding.keeps_no_session(self.store.origin.actor) and holding.keeps_no_session(current.row["actor"])):
            raise self.store.read(lambda tx: _held_by_other(tx, task, current.row))
        self.store.write(
            lambda tx: tx.event("run.unnamed", task=row["id"], run=current.id, data={"holder": current.row["actor"]})
        )
        return name("R", current.id)


def _held_by_other(tx: Transaction, task: str, run: Row) -> AlreadyTaken:
    """The refusal to report a run that somebody else holds; whoever names it shows that it is theirs."""
    held, holder = name("R", run["id"]), successors.holder(tx, run)
    going_on = f"; {holder.resuming()} goes on with the session that holds it" if holder.session else ""
    return AlreadyTaken(
        f"{task} is held by {held} of {run['actor']}, not by this session; nothing was changed",
        hint=f"name the run {held} if it is yours{going_on}",
        run=held,
        holder=run["actor"],
    )


def _parent_progress(tx: Transaction, task: int) -> dict[str, Any] | None:
    parent = tx.the("task", id=task)["parent"]
    if not parent:
        return None
    states = [tx.the("task", id=row["id"])["state"] for row in tx.all("children", parent=parent)]
    above = views.task(tx, parent)
    return {
        "parent_task_id": name("T", parent),
        "state": str(above.state),
        "completed_subtasks": sum(state == TaskState.COMPLETED for state in states),
        "total_subtasks": len(states),
        "progress_percentage": None if above.progress is None else round(100 * above.progress, 1),
    }


def _other_task(run: str, task: str) -> InvalidInput:
    return InvalidInput(
        f"{run} is not a run of {task}", hint="leave the run out, or name the one you were given", code="wrong_run"
    )


def _dependencies(tx: Transaction, task: int) -> list[dict[str, Any]]:
    """The truth about what a task waits for, children left out."""
    found = []
    for edge in tx.all("edges_of", task=task, limit=200):
        if edge["prerequisite"] is None or edge["kind"] == "child":
            continue
        other = tx.the("task", id=edge["prerequisite"])
        found.append(
            {
                "id": name("T", other["id"]),
                "title": other["title"],
                "state": other["state"],
                "kind": edge["kind"],
                "met": edge["state"] in (EdgeState.MET, EdgeState.WAIVED),
                "waived": edge["state"] == EdgeState.WAIVED,
                "summary": other["summary"],
                "artifacts": [name("A", row["id"]) for row in tx.all("artifacts_of", ids=[other["id"]])],
            }
        )
    return found


def _failures(tx: Transaction, task: int, run: int) -> list[dict[str, Any]]:
    """Earlier attempts that did not succeed, the latest first."""
    earlier = [row for row in tx.all("runs_of_task", task=task) if row["id"] != run and row["code"]]
    return [
        {"run": name("R", row["id"]), "code": row["code"], "error": row["reason"], "ended_at": iso(row["ended_at"])}
        for row in reversed(earlier[-10:])
    ]
