"""Commands about plans: apply, graph, status, land."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import FILE, command, plans, usage
from orchestrion.interfaces.cli.source import read_bytes

#: ``apply`` names so many keys with their tasks.
_NAMED = 40
#: And so many of those that no worker can run.
_LISTED = 5
#: What a graph of more tasks allows is only computed for --format json.
_ANALYSED = 2_000
#: States in the order in which people want to hear of them.
_STATES = ("completed", "in_progress", "ready", "pending", "retrying", "review", "blocked", "failed", "cancelled")


@command("apply", "orchestrion apply plan.yaml --dry-run", "cat plan.md | orchestrion apply -")
@click.argument("file", metavar="FILE|-", type=FILE)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def apply(call: Call, file: str, dry_run: bool) -> None:
    """YAML, JSON or Markdown; all of it or nothing. A key that is known updates its task, a task that was
    started keeps its state, a key that is gone is left alone and named.
    """
    text = read_bytes(file)
    with call.open(create=True) as orchestrion:
        applied = orchestrion.apply(text, file, dry_run=dry_run)
    call.answer(applied, lambda: _applied(applied))


@command("graph", "orchestrion graph text-tools", "orchestrion graph --format mermaid > graph.mmd")
@click.argument("plan", required=False, shell_complete=plans)
@click.option(
    "--format", "form", metavar="FORMAT", default="tree", show_default=True, help="tree, mermaid, dot or json."
)
def graph(call: Call, plan: str | None, form: str) -> None:
    """Without PLAN all tasks are drawn. JSON also has what may run side by side, the critical path, the
    expected speed-up and dead ends.
    """
    from orchestrion.core.model import check_choice
    from orchestrion.orchestrator.plans import FORMATS

    check_choice("format", form, FORMATS)
    if call.json and form not in ("tree", "json"):
        raise usage(f"--json and --format {form} contradict each other.")
    with call.open() as orchestrion:
        drawn = orchestrion.graph(plan, "json" if call.json else form)
        small = form == "tree" and isinstance(drawn, str) and drawn.count("\n") < _ANALYSED
        facts = orchestrion.graph(plan, "json") if small else None
    if not isinstance(drawn, str):
        output.document(drawn)
        return
    output.lines([drawn.rstrip("\n") or "no tasks; `orchestrion add` creates one"])
    if isinstance(facts, dict):
        output.lines(_allowed(facts))


@command("status", "orchestrion status", "orchestrion status --json")
def status(call: Call) -> None:
    """Tasks by state, active runs, limits, plans, and what needs you."""
    with call.open() as orchestrion:
        found = {**orchestrion.status(), "held_by_clients": orchestrion.held_by_clients()}
    call.answer(found, lambda: _status(found))


@command(
    "land",
    "orchestrion land",
    "orchestrion land text-tools --push",
    "orchestrion land text-tools --pr",
    "orchestrion land text-tools --onto release-2",
)
@click.argument("plan", required=False, shell_complete=plans)
@click.option("--onto", metavar="BRANCH", help="To this branch, if the plan began on another one.")
@click.option("--partial", is_flag=True, help="Also if tasks of the plan are open.")
@click.option("--push", is_flag=True, help="Push your branch to its remote afterwards.")
@click.option("--pr", is_flag=True, help="Move nothing here: push the plan's branch and open a pull request from it.")
def land(call: Call, plan: str | None, onto: str | None, partial: bool, push: bool, pr: bool) -> None:
    """Without PLAN it is the only one that is not landed. The plan's work comes to the branch of the checkout
    in which you stand; if that has moved, it is merged into the plan first and checked. This is the only
    command that touches your checkout, which must have no uncommitted changes.

    With --pr neither your branch nor the remote's moves: orchestrion/PLAN is pushed, and the program gh opens
    the pull request. Ends with 3 if there is nothing to land, 5 if tasks are open, 6 if several plans can be
    landed, 7 without a remote, a program or a branch.
    """
    with call.open() as orchestrion:
        landed = orchestrion.land(plan, onto=onto, partial=partial, push=push, pr=pr)
    call.answer(landed, lambda: _landed(landed))


@command("take-over", "orchestrion take-over text-tools")
@click.argument("plan", shell_complete=plans)
def take_over(call: Call, plan: str) -> None:
    """For a plan whose clone is gone for good: from now on this clone has its work. What was accepted of it must be
    here (else it says what to fetch), and nothing of it may be at work elsewhere. Branches of its runs that were
    not merged stay where they are.
    """
    with call.open() as orchestrion:
        taken = orchestrion.take_over(plan)
    call.answer(taken, lambda: _taken_over(taken))


COMMANDS = {"apply": apply, "graph": graph, "status": status, "land": land, "take-over": take_over}


def _taken_over(taken: Mapping[str, Any]) -> Iterator[str]:
    at = f"at {taken['commit'][:12]}" if taken["commit"] else "without work yet"
    came = f"taken over from {output.plain(taken['from'])}" if taken["taken_over"] else "belongs to this clone already"
    yield f"plan {output.heading(taken['plan'])} {came}, {at}"


def _applied(applied: Mapping[str, Any]) -> Iterator[str]:
    would = "would be " if applied["dry_run"] else ""
    counts = ", ".join(f"{applied[what]} {would}{what}" for what in ("created", "updated"))
    yield f"{output.heading(applied['plan'])}: {counts}, {applied['unchanged']} unchanged"
    known = [(task, output.plain(key)) for key, task in applied["tasks"].items()]
    yield from (f"  {line}" for line in output.table(known[:_NAMED]))
    if len(known) > _NAMED:
        yield output.faint(f"  … and {len(known) - _NAMED} more")
    if applied["missing"]:
        names = ", ".join(output.plain(key) for key in applied["missing"][:_NAMED])
        yield f"  left alone, not in the file any more: {names}"
    if applied["reopened"]:
        yield f"  {would}reopened, because of new children: {', '.join(applied['reopened'][:_NAMED])}"
    if applied["dry_run"]:
        yield "nothing was done; leave --dry-run out to do it"
    elif applied["created"]:
        yield from _next(applied["without_agent"])


def _next(idle: Sequence[str]) -> Iterator[str]:
    """How the new tasks get done; ``idle`` are those that no worker can run."""
    if idle:
        more = f" and {len(idle) - _LISTED} more" if len(idle) > _LISTED else ""
        need = "needs" if len(idle) == 1 else "need"
        change = f"`orchestrion update {idle[0]}"
        yield f"{', '.join(idle[:_LISTED])}{more} {need} a command or an agent:"
        yield f"  {change} --run COMMAND` or {change} --agent claude` (say) gives it one"
    yield f"{'then ' if idle else ''}`orchestrion work --drain` has it done"


def _allowed(facts: Mapping[str, Any]) -> Iterator[str]:
    """What the shape of the work that is left allows."""
    groups: Sequence[Sequence[str]] = facts["parallel_groups"]
    if len(groups) < 2 and not facts["dead_ends"]:
        return
    path = facts["critical_path"]
    named = " → ".join(path if len(path) <= 12 else [*path[:6], "…", *path[-5:]])
    yield ""
    yield from output.fields(
        [
            ("critical path", named),
            ("side by side", f"up to {max(map(len, groups), default=0)} tasks, in {len(groups)} steps{_faster(facts)}"),
            ("never", ", ".join(f"{one} (because of {', '.join(c[:5])})" for one, c in _first(facts["dead_ends"]))),
        ],
        indent="",
    )


def _faster(facts: Mapping[str, Any]) -> str:
    factor = facts["speed_up"].get("factor") or 0
    return f", {factor:.1f} times as fast as one after the other" if factor > 1 else ""


def _first(dead_ends: Mapping[str, Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    return list(islice(dead_ends.items(), 10))


def _status(found: Mapping[str, Any]) -> Iterator[str]:
    yield output.heading(output.plain(found["project"]))
    if found["paused_at"]:
        yield output.paint(f"paused since {output.moment(found['paused_at'])}; `orchestrion resume` goes on", "yellow")
    yield from (output.paint(_breaker(one), "yellow") for one in found["breakers"])
    yield from _budget_alarm(found["budget"])
    total = sum(found["tasks"].values())
    yield f"{output.count(total, 'task')}: {output.tally(found['tasks'], _STATES)}" if total else "no tasks yet"
    yield from _part("Runs", [_active(run) for run in found["runs"]])
    yield from _part("Held by clients", [(output.plain(held["said"]),) for held in found["held_by_clients"]])
    yield from _part("Limits", [(s["name"], f"{s['used']} of {s['capacity']} used") for s in found["slots"]])
    yield from _part("Budgets", _budgets(found["budget"]))
    yield from _part("Plans", [(plan["plan"], output.count(plan["tasks"], "task")) for plan in found["plans"]])
    yield from _part("At the same file", [(output.plain(o["path"]), " ".join(o["runs"])) for o in found["overlaps"]])
    asked = found["permissions"]
    wanted = [("", "denied", "`orchestrion permissions`", f"{output.count(asked, 'permission')} that agents asked for")]
    yield from _part("Needs you", [*map(_needs, found["needs_you"]), *(wanted if asked else ())])
    if hidden := found["needs_you_total"] - len(found["needs_you"]):
        yield output.faint(f"  … and {hidden} more: `orchestrion list --state review,blocked,failed`")


def _breaker(one: Mapping[str, Any]) -> str:
    agent, until = output.plain(one["agent"]), output.moment(one["until"])
    if one["code"] == "rate_limited":
        return f"the service of the agent {agent} asked for less: it is left alone until {until}"
    said = f"the agent {agent} failed {one['failures']} times in a row ({one['code']}): breaker {one['state']}"
    return f"{said}, until {until}; `orchestrion doctor` looks at it"


def _budget_alarm(budget: Mapping[str, Any] | None) -> Iterator[str]:
    """What is used up stands where nobody misses it."""
    if budget and budget["day"] and budget["day"]["reached"]:
        yield output.paint("today's budget is used up: workers start nothing until midnight UTC", "yellow")
    for plan in budget["plans"] if budget else ():
        if plan["reached"]:
            yield output.paint(f"the budget of {plan['plan']} is used up: workers start nothing of it", "yellow")


def _budgets(budget: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    if budget is None:
        return []
    day = [("today", budget["day"])] if budget["day"] else []
    accounts = [*day, *((plan["plan"], plan) for plan in budget["plans"])]
    return [(noun, f"${one['spent_usd']:.2f} of ${one['limit_usd']:.2f} spent") for noun, one in accounts]


def _part(title: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield ""
        yield output.heading(title)
        yield from (f"  {line}" for line in output.table(rows))


def _active(run: Mapping[str, Any]) -> tuple[str, ...]:
    phase = (run["phase"] or run["state"]) if run["supervised"] else "held"
    title = output.plain(run["title"])
    return (
        run["id"],
        run["task"],
        "stuck" if run["awaits"] else phase,
        output.seconds(run["duration_s"]),
        output.plain(run["agent"] or "client"),
        f"{title}: {run['awaits']}" if run["awaits"] else title,
    )


def _needs(task: Mapping[str, Any]) -> tuple[str, ...]:
    todo = {
        "review": f"`orchestrion show {task['task']}`",
        "blocked": f"`orchestrion why {task['task']}`",
        "failed": f"`orchestrion retry {task['task']}`",
    }
    why = output.first_line(task["reason"] or task["title"])
    return task["task"], output.state(task["state"]), todo.get(task["state"], ""), output.shorten(why, 80)


def _landed(landed: Mapping[str, Any]) -> Iterator[str]:
    plan, branch = output.heading(landed["plan"]), output.plain(landed["branch"])
    if landed["landed"]:
        pushed = f", pushed to {output.plain(landed['pushed_to'])}" if landed["pushed"] else ""
        joined = ", after your branch was merged into it" if landed["merged"] else ""
        what = output.count(landed["commits"], "commit")
        range_ = f"{landed['tip_before'][:7]}..{landed['tip_after'][:7]}"
        yield f"{plan} is on your branch"
        yield f"  {branch}: {f'{what}, {range_}' if landed['commits'] else 'nothing new'}{joined}{pushed}"
    else:
        yield f"{plan} is pushed; its pull request to {branch}: {output.plain(landed['pull_request'])}"
    yield from (f"  {output.plain(note)}" for note in landed["notes"])
