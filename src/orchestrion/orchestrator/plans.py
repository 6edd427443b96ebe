"""Use cases about plans: apply a file, see the graph, know where everything stands."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrion.core import graph
from orchestrion.core.errors import CycleRefused, EnvironmentProblem, NotFound, StoreProblem
from orchestrion.core.model import check_choice, iso, name
from orchestrion.core.states import EdgeKind, EdgeState, TaskState
from orchestrion.orchestrator import standing
from orchestrion.orchestrator.finding import plan_named
from orchestrion.orchestrator.judging import refuse_to_touch
from orchestrion.orchestrator.runs import RunCases
from orchestrion.scheduler import breaker, budget, overlap, slots
from orchestrion.store import Transaction
from orchestrion.store.store import Row

if TYPE_CHECKING:
    from orchestrion.plans.document import PlanDocument

FORMATS = ("tree", "mermaid", "dot", "json")
#: A drawing has at most so many tasks and edges.
DRAWN = 200_000


class PlanCases(RunCases):
    """What can be done with plans."""

    def apply(self, text: bytes, source: str, *, dry_run: bool = False) -> dict[str, Any]:
        """A plan file becomes tasks, all or nothing. ``source`` is its name, or ``-``.

        With ``dry_run`` everything is done and undone. Raises PlanRefused with line and column, InvalidInput
        (``not_for_runs``) from inside a run if it would not only add.
        """
        from orchestrion.plans.apply import Applied, Defaults, apply
        from orchestrion.plans.source import parse

        document = parse(text, source)
        for task, _ in document.walk():
            self._check_commands({"command": task.run, "setup": task.setup, "checks": task.checks})
        defaults = Defaults(self.config["retry.max"], self.config["retry.delay_s"], self._roles_of(document))
        limits, began = self._limits(), self.began()
        keys = {task.key for task, _ in document.walk()}

        def applying(tx: Transaction) -> Applied:
            refuse_to_touch(tx, self.caller, document.name, keys=keys)
            return apply(tx, document, defaults, limits, began)

        try:
            applied = (self.store.rehearse if dry_run else self.store.write)(applying)
        except StoreProblem as problem:
            if dry_run and problem.code == "store_read_only":
                problem.hint = f"a dry run of a plan does all of it and undoes it; {problem.hint}"
            raise
        idle = [name("T", applied.tasks[key]) for key in self._without_agent(document, set(applied.created))]
        return {**applied.as_json(), "without_agent": idle, "dry_run": dry_run}

    def _without_agent(self, document: PlanDocument, created: set[str]) -> list[str]:
        """Keys of new tasks that no worker can run: they have neither a command nor an agent that needs none."""
        from orchestrion.runs.agents.known import self_sufficient

        able, roles = self_sufficient(self.config["agents"]), self._roles_of(document)
        pairs = {(task.role, task.agent) for task, _ in document.walk()}
        idle = {(r, a) for r, a in pairs if self._agent_of({"role": roles.get(r, ""), "agent": a}) not in able}
        return [
            task.key
            for task, _ in document.walk()
            if task.key in created
            and (task.role, task.agent) in idle
            and not (task.run or task.children or task.completed)
        ]

    def _roles_of(self, document: PlanDocument) -> dict[str, str]:
        """Role as a plan names it -> as it is kept. Raises NotFound for a role or an agent that nobody knows."""
        known: dict[str, str] = {}
        agents: set[str] = set()
        for task, _ in document.walk():
            try:
                if task.role and task.role not in known:
                    known[task.role] = self.role_name(task.role)
                if task.agent and task.agent not in agents:
                    self._refuse_unknown_agent(task.agent)
                    agents.add(task.agent)
            except NotFound as problem:
                problem.message = f"line {task.line}: {problem.message}"
                problem.details["line"] = task.line
                raise
        return known

    def graph(self, plan: str | None = None, format: str = "tree") -> str | dict[str, Any]:  # noqa: A002 - the option's name
        """The graph as text, or as data with what it allows: groups, critical path, speed-up, dead ends."""
        check_choice("format", format, FORMATS)
        tasks, edges = self.store.read(lambda tx: _graph(tx, plan))
        if plan and not tasks:
            self.store.read(lambda tx: plan_named(tx, plan))
        from orchestrion.plans import drawing

        boxes = [
            drawing.Box(name("T", t["id"]), t["title"], t["state"], name("T", t["parent"]) if t["parent"] else None)
            for t in tasks
        ]
        arrows = [
            drawing.Arrow(name("T", e["task"]), name("T", e["prerequisite"]), e["kind"], e["state"]) for e in edges
        ]
        try:
            if format == "json":
                return {**drawing.as_json(boxes, arrows), **_analysis(tasks, edges)}
            return {"tree": drawing.tree, "mermaid": drawing.mermaid, "dot": drawing.dot}[format](boxes, arrows)
        except CycleRefused as circle:
            raise _in_a_circle(circle) from circle

    def status(self) -> dict[str, Any]:
        """Where everything stands: tasks by state, active runs, limits, plans, the queue."""

        def read(tx: Transaction) -> dict[str, Any]:
            runs = tx.all("active_runs")
            paused = tx.the("paused")["paused_at"]
            needs = tx.all("needs_you", limit=20)
            return {
                "project": str(self.project.root),
                "tasks": {row["state"]: row["total"] for row in tx.all("count_states")},
                "paused_at": iso(paused),
                "breakers": [dict(one) for one in breaker.overview(tx)],
                "budget": budget.overview(tx, self.budgets()),
                "runs": [{**standing.shown(self, run).as_json(), "title": run["title"]} for run in runs],
                "slots": [dict(slot) for slot in slots.all_slots(tx)],
                "plans": [{"plan": row["name"], "tasks": row["tasks"]} for row in tx.all("plans", limit=20)],
                "overlaps": [dict(one) for one in overlap.overlaps(tx)][:20],
                "needs_you": [_needs_you(row) for row in needs],
                "needs_you_total": needs[0]["total"] if needs else 0,
                "permissions": tx.the("count_permissions", pending=1)["total"],
            }

        return self.store.read(read)

    def overview(self, limit: int = 500) -> dict[str, Any]:
        """What a live view needs, in one look: ``status`` with the tasks to draw and what is awaited.

        Of more than ``limit`` tasks, those that move or need somebody.
        """
        found = self.status()
        moving = ("in_progress", "retrying", "review", "failed", "blocked")

        def read(tx: Transaction) -> dict[str, Any]:
            if sum(found["tasks"].values()) <= limit:
                rows = tx.all("graph_tasks", limit=limit)
            else:
                rows = tx.all("list_tasks", after=0, limit=limit, states=list(moving), unarchived=1)
            return {
                "tree": [_leaf(row) for row in rows],
                "retrying": [
                    {"task": name("T", row["id"]), "retry_at": iso(row["retry_at"])}
                    for row in tx.all("list_tasks", after=0, limit=20, states=["retrying"])
                ],
                "gates": [_awaited_gate(row) for row in tx.all("open_gates", limit=20)],
            }

        return {**found, **self.store.read(read)}


def _in_a_circle(circle: CycleRefused) -> EnvironmentProblem:
    """The error for tasks that wait for each other already, which nothing of ours lets them."""
    return EnvironmentProblem(
        f"these tasks wait for each other already: {' -> '.join(map(_task_name, circle.details['cycle']))}",
        hint="something else than this program changed the store: "
        "`orchestrion maintain validate --level comprehensive` names what is wrong; "
        "`orchestrion list` and `orchestrion ready` show the tasks meanwhile",
        code="row_damaged",
    )


def _task_name(node: str) -> str:
    return name("T", int(node)) if node.isdigit() else node


def _graph(tx: Transaction, plan: str | None) -> tuple[list[Row], list[Row]]:
    return tx.all("graph_tasks", plan=plan, limit=DRAWN), tx.all("graph_edges", plan=plan, limit=DRAWN)


def _analysis(tasks: list[Row], edges: list[Row]) -> dict[str, Any]:
    """What the graph allows, over the work that is left."""
    states: dict[int, str] = {t["id"]: t["state"] for t in tasks}
    left = {one for one, state in states.items() if state not in (TaskState.COMPLETED, TaskState.CANCELLED)}
    waits: dict[int, list[int]] = {one: [] for one in left}
    for edge in edges:
        if edge["task"] in left and edge["prerequisite"] in left and edge["state"] != EdgeState.WAIVED:
            waits[edge["task"]].append(edge["prerequisite"])
    minutes = {t["id"]: t["effort_min"] for t in tasks if t["id"] in left}
    hard: dict[int, list[int]] = {}
    for edge in edges:
        if edge["state"] in (EdgeState.OPEN, EdgeState.DEAD) and edge["kind"] != EdgeKind.SOFT:
            hard.setdefault(edge["task"], []).append(edge["prerequisite"])
    path, _ = graph.critical_path(waits, minutes)
    return {
        "parallel_groups": [[name("T", one) for one in group] for group in graph.levels(waits)],
        "critical_path": [name("T", one) for one in path],
        "speed_up": asdict(graph.speed_up(waits, minutes)),
        "dead_ends": {
            name("T", one): [name("T", cause) for cause in causes]
            for one, causes in graph.dead_ends(hard, states).items()
        },
    }


def _leaf(row: Row) -> dict[str, Any]:
    return {
        "id": name("T", row["id"]),
        "title": row["title"],
        "state": row["state"],
        "parent": name("T", row["parent"]) if row["parent"] else None,
        "code": row["code"],
    }


def _awaited_gate(row: Row) -> dict[str, Any]:
    return {
        "gate": name("G", row["id"]),
        "task": name("T", row["task"]),
        "kind": row["kind"],
        "name": row["name"],
        "opens_at": iso(row["opens_at"]),
    }


def _needs_you(row: Row) -> dict[str, Any]:
    return {
        "task": name("T", row["id"]),
        "title": row["title"],
        "state": row["state"],
        "reason": row["reason"] or row["error"],
    }
