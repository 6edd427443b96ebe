"""Commands about tasks: add, update, list, ready, show, why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from orchestrion.core.model import CLEARABLE, Task
from orchestrion.core.states import standing
from orchestrion.core.values import in_words
from orchestrion.interfaces.cli import output, used
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command, plans, split, task_argument, tasks, things, usage

#: So many lines of a reason are shown.
_LINES = 12
#: How many edges, runs and the like ``show`` names before it counts.
_NAMED = 20

#: What a task may be given, by ``add`` and by ``update``: option, its settings.
_VALUES: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--description",), {"metavar": "TEXT", "help": "What is to be done, as long as needed."}),
    (("--role",), {"metavar": "NAME", "help": "Who does it, for example implementer; `orchestrion roles` lists them."}),
    (("--agent",), {"metavar": "NAME", "help": "The agent that does it; otherwise the role's or the setting's."}),
    (("--run", "command"), {"metavar": "CMD", "help": "What the agent `command` runs."}),
    (
        ("--check", "checks"),
        {"metavar": "CMD", "multiple": True, "help": "Accepts the work if it exits with 0. Repeatable."},
    ),
    (("--priority",), {"metavar": "1-10", "type": int, "help": "Higher goes first; 5 if not said."}),
    (("--type",), {"metavar": "WORD", "help": "Kind of task, for finding it."}),
    (("--complexity",), {"metavar": "WORD", "help": "trivial, simple, moderate, complex or very_complex."}),
    (("--effort", "effort_min"), {"metavar": "MIN", "type": float, "help": "Estimated effort in minutes."}),
    (("--due", "due_at"), {"metavar": "TIME", "help": "Deadline, ISO 8601; without a zone it is UTC."}),
    (("--max-retries",), {"metavar": "N", "type": int, "help": "Retries after transient failures."}),
    (("--retry-delay", "retry_delay_s"), {"metavar": "S", "type": float, "help": "Wait before the first retry."}),
    (("--timeout", "timeout_s"), {"metavar": "S", "type": float, "help": "Longest time of one run, in seconds."}),
    (("--needs",), {"metavar": "NAME", "multiple": True, "help": "Resource it holds while it runs. Repeatable."}),
    (("--tag", "tags"), {"metavar": "WORD", "multiple": True, "help": "For finding it. Repeatable."}),
    (("--setup",), {"metavar": "CMD", "help": "Makes a fresh workspace usable."}),
    (("--merge",), {"metavar": "auto|none", "help": "Whether accepted work is merged into the plan's branch."}),
)


def _values(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options of ``_VALUES``."""
    for names, settings in reversed(_VALUES):
        function = click.option(*names, **settings)(function)
    return function


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that were given, as the use cases name them."""
    from orchestrion.core.model import moment

    given = {field: value for field, value in values.items() if value is not None and value != ()}
    for field in ("needs", "tags"):
        if field in given:
            given[field] = tuple(split(given[field]))
    if "due_at" in given:
        given["due_at"] = moment(given["due_at"])
    return given


#: What ``update`` clears though it has no option to set it: plan files and clients do.
_ONLY_CLEARED = (("--context",), ("--metadata",))


def _clearing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command ``--no-due`` and its kin, for every field that a task can be without."""
    for names in (*_ONLY_CLEARED, *(names for names, _ in reversed(_VALUES))):
        field = names[-1].removeprefix("--").replace("-", "_")
        if field in CLEARABLE:
            option = f"--no-{names[0].removeprefix('--')}"
            function = click.option(option, f"no_{field}", is_flag=True, help=f"Clears {field}.")(function)
    return function


def _cleared(values: dict[str, Any]) -> dict[str, None]:
    """The fields that are to be cleared, taken out of a command's values."""
    fields = [field for field in CLEARABLE if values.pop(f"no_{field}")]
    if both := sorted(field for field in fields if values.get(field) not in (None, ())):
        raise usage(f"{', '.join(both)}: give a value or clear it, not both.")
    return dict.fromkeys(fields)


def _waits(option: str, meaning: str) -> Callable[[Any], Any]:
    """An option that names tasks: ``--after T1,T2``, and again."""
    return click.option(option, metavar="T,T", multiple=True, help=meaning, shell_complete=tasks)


@command(
    "add",
    'orchestrion add "Write slugify()" --run "python tools/write.py" --check "pytest -q tests/test_slugify.py"',
    'orchestrion add "Document it" --after T1 --role documenter --priority 7',
)
@click.argument("title")
@_values
@_waits("--after", "Tasks that must be completed first. Repeatable.")
@_waits("--after-failure", "Runs only if these failed. Repeatable.")
@_waits("--soft-after", "After these have ended, however they ended. Repeatable.")
@_waits("--data-after", "As --after, and their results go into the brief. Repeatable.")
@click.option("--parent", metavar="T", help="The task it is a part of.", shell_complete=tasks)
@click.option("--reopen", is_flag=True, help="Also if --parent is completed, and so reopened.")
@click.option(
    "--plan",
    metavar="NAME",
    help="The plan whose branch its work is merged into; the parent's if not said.",
    shell_complete=plans,
)
@click.option("--key", metavar="K", help="A name of your own for it, unique in its plan.")
def add(
    call: Call,
    title: str,
    after: tuple[str, ...],
    after_failure: tuple[str, ...],
    soft_after: tuple[str, ...],
    data_after: tuple[str, ...],
    parent: str | None,
    **values: Any,
) -> None:
    """It is ready at once unless it waits for something. An agent gets the title and the
    description; its work is accepted if all checks exit with 0.
    """
    if values["reopen"] and parent is None:
        raise usage("--reopen is about the task that --parent names.")
    with call.open(create=True) as orchestrion:
        reopened = orchestrion.completed_above(parent) if parent and values["reopen"] else []
        task = orchestrion.add(
            title,
            after=split(after),
            after_failure=split(after_failure),
            soft_after=split(soft_after),
            data_after=split(data_after),
            parent=parent,
            **_given(values),
        ).as_json()
        above = orchestrion.task(parent) if parent else None
    call.answer(task, lambda: [moved(task), *reopens(reopened), *_not_done(above)])


def _not_done(parent: Task | None) -> list[str]:
    """What of a parent's own is not done, for its children take its place; empty if it had nothing of its own."""
    if parent is None:
        return []
    facts = parent.as_json()
    own = [what for what, has in (("command", facts["run_command"]), ("checks", facts["checks"])) if has]
    told = f"{facts['id']} is completed by its children now: its own {' and '.join(own)} will not be run"
    return [told] if own else []


@command("update", "orchestrion update T3 --priority 9 --check 'make test'", "orchestrion update T3 --no-due")
@task_argument()
@click.option("--title", metavar="TEXT", help="What is to be done, in a line.")
@_values
@_clearing
def update(call: Call, task: str, **values: Any) -> None:
    """Options that are left out change nothing; a list that is given replaces the old one. A
    task that was started keeps its state.
    """
    cleared = _cleared(values)
    with call.open() as orchestrion:
        changed = orchestrion.update(task, **_given(values), **cleared).as_json()
    call.answer(changed, lambda: [moved(changed)])


@command("list", "orchestrion list --state ready --state blocked", "orchestrion list --search slug --limit 50")
@click.option("--state", "states", metavar="STATE", multiple=True, help="Only tasks in this state. Repeatable.")
@click.option("--role", metavar="NAME", help="Only tasks of this role.")
@click.option("--parent", metavar="T", help="Only children of this task.", shell_complete=tasks)
@click.option("--plan", metavar="NAME", help="Only tasks of this plan.", shell_complete=plans)
@click.option("--tag", metavar="WORD", help="Only tasks with this tag.")
@click.option("--type", metavar="WORD", help="Only tasks of this type.")
@click.option("--search", metavar="TEXT", help="Only tasks with this in title or description.")
@click.option("--archived", is_flag=True, help="Archived tasks as well.")
@click.option("--limit", metavar="N", type=int, default=20, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="T", help="Go on behind this task.")
def list_(call: Call, states: tuple[str, ...], parent: str | None, **filters: Any) -> None:
    """Oldest first, a page at a time."""
    with call.open_to_find() as orchestrion:
        page = orchestrion.list_tasks(states=split(states), parent=parent, **filters).as_json("tasks")
    call.answer(page, lambda: _list(page, "no task matches"))


@command("ready", "orchestrion ready --limit 5", "orchestrion claim T3")
@click.option("--limit", metavar="N", type=int, default=20, show_default=True, help="At most so many.")
def ready(call: Call, limit: int) -> None:
    """The first one is what `orchestrion claim` and a worker take next."""
    with call.open_to_find() as orchestrion:
        page = orchestrion.ready(limit).as_json("tasks")
    call.answer(page, lambda: _list(page, "nothing is ready; `orchestrion list` shows all tasks"))


@command("show", "orchestrion show T12", "orchestrion show R31", "orchestrion show A7 --json")
@click.argument("thing", metavar="ID", shell_complete=things)
def show(call: Call, thing: str) -> None:
    """T12 is a task, R31 a run, A7 an artifact, D4 a decision, S3 a session, H2 a handoff."""
    with call.open() as orchestrion:
        found = orchestrion.show(thing)
    letter = found["id"][0]
    draw = {"T": _task, "R": _run, "A": _artifact, "D": _decision, "S": _session, "H": _handoff}[letter]
    call.answer(found, lambda: draw(found))


@command("why", "orchestrion why T12")
@task_argument()
def why(call: Call, task: str) -> None:
    """Every task has an answer: what it waits for, who holds it, or which limit is used up."""
    with call.open_to_find() as orchestrion:
        answer = orchestrion.why(task)
    call.answer(answer, lambda: _why(answer))


COMMANDS = {"add": add, "update": update, "list": list_, "ready": ready, "show": show, "why": why}


# -- for people -------------------------------------------------------------------------------


def moved(task: Mapping[str, Any]) -> str:
    """A task after something was done to it, in a line: ``T3 ready  Write slugify()``."""
    label = output.heading(task["id"])
    return f"{label} is {output.state(task['state'])}: {output.plain(task['title'])}"


def reopens(tasks: Sequence[str]) -> Iterator[str]:
    """What a new child reopened."""
    if tasks:
        yield f"  {', '.join(tasks)} {'are' if len(tasks) > 1 else 'is'} reopened for it"


def _list(page: Mapping[str, Any], none: str) -> Iterator[str]:
    if not page["tasks"]:
        yield none
        return
    rows = [
        (
            task["id"],
            output.state(task["state"]),
            task["run"] or "",
            str(task["priority"]),
            output.plain(task["title"]) + output.damage(task),
        )
        for task in page["tasks"]
    ]
    yield from output.table(rows, right=(3,))
    shown, total = len(page["tasks"]), page["total"]
    if page["next_cursor"]:
        yield output.faint(f"{shown} of {total} tasks; go on with --cursor {page['next_cursor']}")
    elif shown < total:
        yield output.faint(f"{shown} of {total} tasks")


def _why(answer: Mapping[str, Any]) -> Iterator[str]:
    yield f"{output.heading(answer['task'])} is {output.state(answer['state'])}"
    for reason in answer["reasons"]:
        lines = output.block(reason["detail"]).strip().splitlines() or [""]
        yield f"  {lines[0]}"
        yield from (f"    {line}" for line in lines[1:_LINES])
        if len(lines) > _LINES:
            yield output.faint(f"    … and {len(lines) - _LINES} more lines")
    if answer["remedy"]:
        yield f"  what to do: {output.plain(answer['remedy'])}"


def _task(task: Mapping[str, Any]) -> Iterator[str]:
    yield f"{output.heading(task['id'])}  {output.heading(output.plain(task['title']))}"
    yield from output.fields(_facts(task))
    if "damaged" in task:
        yield f"{output.damage(task).strip()}; `orchestrion health` says what to do"
    yield from _part("Description", output.block(task["description"]).splitlines())
    yield from _part("Checks", [output.plain(check) for check in task["checks"]])
    yield from _part("Waits for", output.table([_edge(edge) for edge in task["edges"][:_NAMED]]))
    yield from _part("Gates", output.table([_gate(gate) for gate in task["gates"]]))
    yield from _part("Runs", output.table([_attempt(run) for run in task["runs"][-_NAMED:]]))
    yield from _part("To know", (line for run in task["runs"][-1:] for line in _remarks(run)))
    yield from _part("What to do", map(output.plain, [*task["steps"], *_remedy(task)]))
    yield from _part("Artifacts", output.table([_kept(artifact) for artifact in task["artifacts"][:_NAMED]]))


def _facts(task: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    plain, moment = output.plain, output.moment
    code = f" ({task['code']})" if task["code"] else ""
    yield "state", output.state(task["state"]) + code
    for name in ("reason", "error", "summary"):
        yield name, _said(task[name], name)
    yield "held by", task["run"]
    yield "tried again", moment(task["retry_at"])
    yield "progress", None if task["progress"] is None else f"{100 * task['progress']:.0f} %"
    yield "plan", task["plan"] + (f", key {task['key']}" if task["key"] else "")
    yield "parent", task["parent"]
    yield "children", _names(task["children"])
    yield "dependants", _names(task["dependents"])
    yield "role", task["role"]
    yield "agent", plain(task["agent"] or "")
    yield "command", plain(task["run_command"]) if task["run_command"] else None
    yield "setup", plain(task["setup"] or "")
    yield "merge", None if task["merge"] == "auto" else task["merge"]
    yield "type", None if task["type"] == "standard" else task["type"]
    yield "complexity", task["complexity"]
    yield "priority", task["priority"]
    yield "effort", f"{task['effort_min']:g} min" if task["effort_min"] else None
    yield "needs", ", ".join(task["needs"])
    yield "tags", ", ".join(task["tags"])
    retries = f"{task['retries']} of {task['max_retries']} retries, the first after {task['retry_delay_s']:g} s"
    yield "attempts", f"{task['attempts']}, {retries}"
    yield "timeout", None if task["timeout_s"] is None else f"{task['timeout_s']:g} s"
    for name in ("context", "metadata"):
        yield name, plain(in_words(task[name]))
    for name in ("created_at", "started_at", "due_at"):
        yield name.removesuffix("_at"), moment(task[name])
    yield "completed" if task["completed_at"] else "ended", moment(task["ended_at"])
    yield "archived", moment(task["archived_at"])


def _said(text: str | None, field: str) -> str | None:
    """What was said, in a line; of a reason or an error that is the first, the rest is evidence."""
    if not text:
        return None
    return output.plain(text) if field == "summary" else output.first_line(text)


def _names(ids: list[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(ids[:_NAMED]) + more


def _part(title: str, texts: Iterable[str]) -> Iterator[str]:
    found = list(texts)
    if found:
        yield ""
        yield output.heading(title)
        yield from (f"  {text}" for text in found)


def _edge(edge: Mapping[str, Any]) -> tuple[str, ...]:
    said = [edge["kind"].replace("_", " "), standing(edge["state"], is_gate=edge["on"].startswith("G"))]
    inherited = f"from {edge['inherited_from']}" if edge["inherited_from"] else ""
    return edge["on"], *said, inherited, output.plain(edge["reason"] or "")


def _gate(gate: Mapping[str, Any]) -> tuple[str, ...]:
    asked = output.plain(gate["name"] or output.moment(gate["opens_at"]))
    answer = f"{output.plain(gate['answer'] or '')} {output.faint(output.plain(gate['decided_by'] or ''))}".strip()
    return gate["id"], gate["kind"], standing(gate["state"], is_gate=True), asked, answer


def _attempt(run: Mapping[str, Any]) -> tuple[str, ...]:
    said = output.first_line(run["awaits"] or run["code"] or run["summary"] or "")
    return run["id"], output.state(run["state"]), output.seconds(run["duration_s"]), output.plain(run["agent"]), said


def _kept(artifact: Mapping[str, Any]) -> tuple[str, ...]:
    size = f"{artifact['size']} bytes"
    return artifact["id"], output.plain(artifact["name"]), f"version {artifact['version']}", size


def _run(run: Mapping[str, Any]) -> Iterator[str]:
    agent = output.plain(run["agent"] or "a client")
    yield f"{output.heading(run['id'])}  attempt {run['attempt']} at {run['task']} by {agent}"
    yield from output.fields(_run_facts(run))
    if "damaged" in run:
        yield f"{output.damage(run).strip()}; `orchestrion health` says what to do"
    yield from _part("To know", _remarks(run))
    yield from _part("What to do", map(output.plain, _remedy(run)))
    for check in run["checks"]:
        verdict = output.state("succeeded" if check["exit_code"] == 0 else "failed")
        took = output.seconds((check["duration_ms"] or 0) / 1000)
        title = f"Check, {check['stage']}, go {check['go']}: {verdict} ({check['exit_code']}) after {took}"
        yield from _part(title, [f"$ {output.plain(check['command'])}", *_tail(check["output"] or "")])


def _run_facts(run: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    plain, moment = output.plain, output.moment
    code = f" ({run['code']})" if run["code"] else ""
    yield "state", output.state(run["state"]) + code
    yield "phase", run["phase"] if run["ended_at"] is None and run["supervised"] else None
    yield "stuck", run["awaits"]
    for name in ("reason", "summary"):
        yield name, _said(run[name], name)
    yield "duration", output.seconds(run["duration_s"])
    yield "waited", output.seconds(run["queue_wait_s"])
    yield "model", plain(run["model"] or "")
    yield from used.facts(run)
    files = output.count(run["files_changed"] or 0, "file")
    changes = f"{files}, +{run['lines_added'] or 0} -{run['lines_removed'] or 0}"
    yield "changed", changes if run["files_changed"] else None
    yield "exit code", run["exit_code"]
    yield "branch", run["branch"]
    yield "commit", run["head_commit"]
    yield "workspace", plain(run["workspace"] or "")
    yield "host", f"{run['host']}, process {run['pid']}" if run["pid"] else run["host"]
    for name in ("claimed_at", "started_at", "ended_at"):
        yield name.removesuffix("_at"), moment(run[name])
    yield "lease", f"until {moment(run['lease_until'])}" if run["ended_at"] is None else None


def _remarks(run: Mapping[str, Any]) -> Iterator[str]:
    """What a person should know of a run's result: in a sentence, with the files and refs it is about."""
    for remark in run["remarks"]:
        yield f"{output.plain(remark['message'])} ({remark['code']})"
        yield from (f"  {output.plain(one)}" for one in [*remark["paths"][:_NAMED], *remark["refs"][:_NAMED]])


def _remedy(thing: Mapping[str, Any]) -> list[str]:
    return [thing["remedy"]] if thing["remedy"] else []


def _tail(text: str) -> list[str]:
    shown = output.written(text).rstrip().splitlines()
    hidden = len(shown) - _NAMED
    return [output.faint(f"… {hidden} lines before"), *shown[-_NAMED:]] if hidden > 0 else shown


def _artifact(artifact: Mapping[str, Any]) -> Iterator[str]:
    yield f"{output.heading(artifact['id'])}  {output.plain(artifact['name'])}, version {artifact['version']}"
    names = ("task", "run", "type", "size", "sha256")
    yield from output.fields(
        [*((name, artifact[name]) for name in names), ("kept", output.moment(artifact["created_at"]))]
    )
    yield ""
    yield output.block(artifact["text"])
    if artifact["next_offset"]:
        yield output.faint(f"… `orchestrion artifact {artifact['id']}` prints all {artifact['total_chars']} characters")


def _decision(found: Mapping[str, Any]) -> Iterator[str]:
    from orchestrion.interfaces.cli import memory

    return memory.decision_facts(found)


def _session(found: Mapping[str, Any]) -> Iterator[str]:
    from orchestrion.interfaces.cli import memory

    return memory.session_facts(found)


def _handoff(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{output.heading(found['id'])}  by {output.plain(found['actor'])}, {output.moment(found['created_at'])}"
    yield ""
    yield output.block(found["text"]).rstrip()
