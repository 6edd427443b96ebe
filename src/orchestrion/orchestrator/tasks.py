"""Use cases about tasks: add, find, explain, decide, shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

from orchestrion.core import host
from orchestrion.core.errors import Conflict, GitProblem, InvalidInput, NotFound
from orchestrion.core.git_head import head_of
from orchestrion.core.model import NewGate, NewTask, Task, Wait, check_choice, check_number, name, number
from orchestrion.core.states import GATE_KINDS, EdgeKind, TaskState
from orchestrion.core.values import readable
from orchestrion.orchestrator import commands, resolution, standing, views
from orchestrion.orchestrator.finding import Finding, bounded
from orchestrion.orchestrator.judging import own_task, refuse_to_touch
from orchestrion.orchestrator.remains import end_remains
from orchestrion.scheduler import create, decide, shape
from orchestrion.store import Transaction

#: Branches of the workspaces that agents work in.
_RUN_BRANCHES = "orchestrion/run/"


class Cancelled(NamedTuple):
    """What cancelling a task did."""

    task: Task
    #: The tasks that were cancelled with it, as ``T13``.
    others: list[str]
    #: The runs that it ended: ``run``, ``task``, ``holder``.
    ended: list[dict[str, str]]


class TaskCases(Finding):
    """What can be done with tasks."""

    def add(
        self,
        title: str,
        *,
        after: Sequence[str] = (),
        after_failure: Sequence[str] = (),
        soft_after: Sequence[str] = (),
        data_after: Sequence[str] = (),
        parent: str | None = None,
        reopen: bool = False,
        **values: Any,
    ) -> Task:
        """Creates a task. ``values`` are further fields of ``core.model.NewTask``; ``reopen``: also under a parent that
        is completed, and so reopened. Without a plan it is in its parent's, in that of the run from inside which it is
        added, or in the one of the settings.

        Raises InvalidInput (``not_for_runs`` from inside a run, if it would do more than add), NotFound (parent,
        prerequisite, role, agent), Conflict (key, ``parent_completed``), Backpressure.
        """
        new = NewTask(
            title=title,
            parent=number(parent, "T") if parent else None,
            waits=tuple(
                Wait(number(one, "T"), kind)
                for kind, names in (
                    (EdgeKind.BLOCKS, after),
                    (EdgeKind.ON_FAILURE, after_failure),
                    (EdgeKind.SOFT, soft_after),
                    (EdgeKind.DATA, data_after),
                )
                for one in dict.fromkeys(names)
            ),
            **self._with_defaults({**values, "plan": values.get("plan") or self._plan_above(parent)}),
        )
        limits, began = self._limits(), self.began()

        def make(tx: Transaction) -> Task:
            refuse_to_touch(tx, self.caller, new.plan, parent=new.parent, reopen=reopen)
            if new.parent and not reopen and not new.completed:
                shape.refuse_to_reopen(tx, new.parent)
            return views.task(tx, create.create(tx, new, limits, began))

        return self.store.write(make)

    def _plan_above(self, parent: str | None) -> str | None:
        if parent:
            return str(self.task(parent).row["plan_name"])
        own = self.store.read(lambda tx: own_task(tx, self.caller)) if self.caller.run else None
        return str(own["plan_name"]) if own else None

    def began(self) -> create.Began | None:
        """Where a plan begins that is given its first task now; None: outside git, or a HEAD that cannot be read."""
        project = self.project
        if project.git_dir is None or project.git_common_dir is None:
            return None
        checkout, head = project.checkout, head_of(project.git_dir, project.git_common_dir)
        if head and (head.branch or "").startswith(_RUN_BRANCHES):
            # An agent calls from its workspace: a plan begins where its user stands.
            checkout, head = project.root, head_of(project.git_common_dir, project.git_common_dir)
        return create.Began(head.branch, head.commit, str(checkout), host.name()) if head else None

    def _with_defaults(self, values: Mapping[str, Any]) -> dict[str, Any]:
        given = {field: value for field, value in values.items() if value is not None}
        self._check_commands(given)
        self._refuse_unknown_agent(given.get("agent"))
        given.setdefault("plan", self.config["plan.default"])
        given.setdefault("max_retries", self.config["retry.max"])
        given.setdefault("retry_delay_s", float(self.config["retry.delay_s"]))
        if given.get("role"):
            given["role"] = self.role_name(given["role"])
        return given

    def _check_commands(self, values: Mapping[str, Any]) -> None:
        commands.refuse(values, self._named_checks, self.caller)

    def _refuse_unknown_agent(self, agent: str | None) -> None:
        from orchestrion.runs.agents.known import refuse_unknown

        if agent:
            refuse_unknown(agent, self.config["agents"])

    def _limits(self) -> create.Limits:
        return create.Limits(
            max_open=self.config["queue.max_open"],
            max_depth=self.config["hierarchy.max_depth"],
            max_children=self.config["hierarchy.max_children"],
            resources=self.config["resources"],
        )

    # -- finding ------------------------------------------------------------------------------

    def show(self, thing: str) -> dict[str, Any]:
        """Everything about a task (T12), a run (R31), an artifact (A7)."""
        letter = thing[:1].upper()
        if letter == "R":
            return self._with_branch(self.run_detail(thing))  # type: ignore[attr-defined]
        if letter == "A":
            return self.artifact(thing)  # type: ignore[attr-defined, no-any-return]
        found = self.store.read(lambda tx: views.detail(tx, number(thing, "T"), partial(standing.shown, self)))
        return {**found, "steps": resolution.steps(self, found)}

    def _with_branch(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run without its branch if that is gone: it goes when its plan has landed."""
        from orchestrion.runs.git import Git

        if not run["branch"] or self.project.git_root is None:
            return run
        with suppress(GitProblem):  # nobody knows then
            if Git(self.project.git_root).tip(f"refs/heads/{run['branch']}") is None:
                return {**run, "branch": None}
        return run

    # -- deciding -----------------------------------------------------------------------------

    def retry(self, task: str, *, resume: bool = False, reason: str = "") -> Task:
        """A failed task gets all its attempts again; with ``resume`` in the last one's agent session.

        The ``reason`` stands in the next brief.
        """
        return self._decide(task, lambda tx, one: decide.retry(tx, one, resume=resume, reason=reason))

    def reopen(self, task: str, reason: str) -> Task:
        """A completed task is to be done again."""
        return self._decide(task, lambda tx, one: decide.reopen(tx, one, reason))

    def cancel(self, task: str, reason: str, *, dependents: str = "block") -> Task:
        """Nobody wants the task any more; its children neither. ``dependents``: block or cancel."""
        return self.cancel_all(task, reason, dependents=dependents).task

    def cancel_all(self, task: str, reason: str, *, dependents: str = "block") -> Cancelled:
        """As ``cancel``; says what else was cancelled with it, and whose runs that ended."""
        check_choice("dependents", dependents, ("block", "cancel"))
        one = number(task, "T")

        def cancel(tx: Transaction) -> Cancelled:
            ids = decide.cancel(tx, one, reason, cancel_dependents=dependents == "cancel")
            ended = [
                {"run": name("R", row["id"]), "task": name("T", row["task"]), "holder": row["actor"]}
                for row in tx.all("runs_cancelled_with", ids=ids)
            ]
            return Cancelled(views.task(tx, one), [name("T", other) for other in ids if other != one], ended)

        cancelled = self.store.write(cancel)
        end_remains(self)
        return cancelled

    def reject(self, task: str, reason: str) -> Task:
        """Work in review goes back; the reason stands in the next brief."""
        return self._decide(task, lambda tx, one: decide.reject(tx, one, reason))

    def archive(self, task: str, reason: str = "") -> Task:
        """Takes a settled task out of the lists."""
        return self._decide(task, lambda tx, one: decide.archive(tx, one, reason))

    def delete(self, task: str) -> Task:
        """Removes a task that was never tried and that nothing refers to; returns it as it was."""
        one = number(task, "T")

        def delete(tx: Transaction) -> Task:
            gone = views.task(tx, one)
            decide.delete(tx, one)
            return gone

        return self.store.write(delete)

    def versioned(self, task: str) -> tuple[dict[str, Any], str]:
        """All about a task, and a word for what it is like now: it changes when anything of that does."""
        detail = self.store.read(lambda tx: views.detail(tx, number(task, "T")))
        return detail, views.version(detail)

    def update(self, task: str, *, version: str | None = None, **changes: Any) -> Task:
        """New values for fields of ``core.model.NewTask``; None clears a field, one that is not named stays.

        ``parent`` moves the task as ``move`` does. With ``version`` only if the task is still what it was then.
        Raises InvalidInput (``nothing_to_change``, ``not_clearable``), NotFound, Conflict (``version_changed``,
        ``parent_completed``).
        """
        if not changes:
            raise nothing_to_change()
        values, limits = self._changes(changes), self._limits()
        moves, parent = "parent" in values, values.pop("parent", None)

        def change(tx: Transaction, one: int) -> None:
            if version is not None:
                _check_version(tx, one, version)
            if moves:
                _move(tx, one, number(parent, "T") if parent else None, limits)
            if values:
                decide.update(tx, one, values, limits)

        return self._decide(task, change)

    def _changes(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Changes as the scheduler takes them; what is named in them is there, and may be given by the caller."""
        values = dict(changes)
        if values.get("role"):
            values["role"] = self.role_name(values["role"])
        self._check_commands(values)
        self._refuse_unknown_agent(values.get("agent"))
        return values

    def _decide(self, task: str, act: Any) -> Task:
        one = number(task, "T")

        def decided(tx: Transaction) -> Task:
            act(tx, one)
            return views.task(tx, one)

        return self.store.write(decided)

    # -- shape --------------------------------------------------------------------------------

    def move(self, task: str, parent: str | None, *, reopen: bool = False) -> Task:
        """Puts a task, with all below it, under another parent; None: under none. ``reopen``: a completed one too."""
        under = number(parent, "T") if parent else None
        limits = self._limits()
        return self._decide(task, lambda tx, one: _move(tx, one, under, limits, reopen=reopen))

    def completed_above(self, task: str) -> list[str]:
        """The task and what is above it, as far as they are completed: what a new child under it reopens."""
        one = number(task, "T")
        return self.store.read(lambda tx: [name("T", row["id"]) for row in tx.all("completed_above", ids=[one])])

    def add_dependency(self, task: str, on: str, kind: str = "blocks") -> Task:
        """The task waits for another from now on."""
        check_choice("kind", kind, ("blocks", "data", "soft", "on_failure"))
        other = number(on, "T")
        return self._decide(task, lambda tx, one: shape.add_dependency(tx, one, other, EdgeKind(kind)))

    def remove_dependency(self, task: str, on: str) -> Task:
        """The task no longer waits for another."""
        other = number(on, "T")
        return self._decide(task, lambda tx, one: shape.remove_dependency(tx, one, other))

    def waive_dependency(self, task: str, on: str, reason: str) -> Task:
        """The wait no longer binds, and why."""
        other = number(on, "T")
        return self._decide(task, lambda tx, one: shape.waive_dependency(tx, one, other, reason))

    def add_gate(self, task: str, kind: str, *, called: str = "", opens_at: int | None = None) -> Task:
        """The task waits for a moment, an approval, an answer or a fact outside."""
        check_choice("gate", kind, GATE_KINDS)
        gate = NewGate(EdgeKind(kind), called, opens_at)
        return self._decide(task, lambda tx, one: shape.add_gate(tx, one, gate))

    def gate(self, gate: str) -> dict[str, Any]:
        """A gate with its ``task`` and ``title``. Raises NotFound."""

        def read(tx: Transaction) -> dict[str, Any]:
            row = shape.find_gate(tx, number(gate, "G"))
            return {**views.gate(row), "task": name("T", row["task"]), "title": tx.the("task", id=row["task"])["title"]}

        return self.store.read(read)

    def open_gate(
        self, thing: str, *, answer: str | None = None, called: str | None = None, refuse: bool = False
    ) -> Task:
        """Opens a gate (G3), or the one gate that a task waits for (T12); ``refuse`` decides against it."""

        def opened(tx: Transaction) -> Task:
            gate = number(thing, "G") if thing[:1].upper() == "G" else _only_gate(tx, number(thing, "T"), called)
            task = shape.decide_gate(tx, gate, opened=not refuse, answer=answer, decided_by=tx.origin.actor)
            return views.task(tx, task)

        return self.store.write(opened)

    # -- what the project has -------------------------------------------------------------------

    def events(
        self, since: int = 0, *, task: str | None = None, run: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The journal after an event's number, oldest first."""
        given = {"task": number(task, "T") if task else None, "run": number(run, "R") if run else None}
        check_number("since", since, 0, 2**62)
        rows = self.store.read(lambda tx: tx.all("events", since=since, limit=bounded(limit), **given))
        return [event_as_json(row) for row in rows]

    def last_event(self) -> int:
        """Number of the journal's last event; ``events(since=...)`` goes on from there."""
        return int(self.store.read(lambda tx: tx.the("last_event"))["id"])

    def roles(self) -> list[dict[str, Any]]:
        """All roles that a task can have, by name."""
        from orchestrion.memory.roles import load_roles

        return [asdict(role) for _, role in sorted(load_roles(self.project.root).items())]


def _check_version(tx: Transaction, task: int, version: str) -> None:
    tx.one("lock_shape")
    if views.version(views.detail(tx, task)) != version:
        raise Conflict(
            f"{name('T', task)} was changed meanwhile",
            hint="read it again, and send the change with its new version",
            code="version_changed",
        )


def _move(tx: Transaction, task: int, parent: int | None, limits: create.Limits, *, reopen: bool = False) -> None:
    row = tx.one("task", id=task)
    if parent and row and not reopen and row["state"] != TaskState.COMPLETED:
        shape.refuse_to_reopen(tx, parent)
    shape.move(tx, task, parent, limits)


def nothing_to_change() -> InvalidInput:
    """The error for a change of nothing."""
    return InvalidInput("nothing to change was named", hint="name a field and its new value", code="nothing_to_change")


def _only_gate(tx: Transaction, task: int, called: str | None) -> int:
    decide.find(tx, task)
    gates = tx.all("open_gates_of", task=task, name=called)
    decisions = [gate for gate in gates if gate["kind"] != EdgeKind.TIME] or gates
    if not decisions:
        raise NotFound(
            f"{name('T', task)} has no gate{f' called {called!r}' if called else ''} of its own that waits",
            hint=f"`orchestrion why {name('T', task)}` shows what it waits for",
            code="no_gate",
        )
    if len(decisions) > 1:
        names = [name("G", gate["id"]) for gate in decisions]
        raise Conflict(
            f"{name('T', task)} waits for {len(names)} gates: {', '.join(names)}",
            hint=f"name the one that is meant: `orchestrion gate open {names[0]}`",
            code="several_gates",
            gates=names,
        )
    return int(decisions[0]["id"])


def event_as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the journal, as every door shows it."""
    from orchestrion.core.model import iso

    return {
        "id": row["id"],
        "at": iso(row["at"]),
        "kind": row["kind"],
        "task": name("T", row["task"]) if row["task"] else None,
        "run": name("R", row["run"]) if row["run"] else None,
        "from": row["from_state"],
        "to": row["to_state"],
        "actor": row["actor"],
        "session": row["session"],
        "correlation": row["correlation"],
        **(readable(row, f"line {row['id']} of the journal", "data") if row["data"] else {"data": None}),
    }
