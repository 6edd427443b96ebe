"""Commands that change the shape of the graph: move, dep, gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import (
    command,
    group,
    reason_option,
    refuse_besides,
    task_argument,
    tasks,
    usage,
)
from orchestrion.interfaces.cli.tasks import moved, reopens


@command("move", "orchestrion move T12 --parent T3", "orchestrion move T12 --top")
@task_argument()
@click.option("--parent", metavar="T", help="The task it becomes a part of.", shell_complete=tasks)
@click.option("--top", is_flag=True, help="It becomes part of no other.")
@click.option("--reopen", is_flag=True, help="Also if --parent is completed, and so reopened.")
def move(call: Call, task: str, parent: str | None, top: bool, reopen: bool) -> None:
    """What is below it moves along; it waits for what its new parent waits for."""
    if (parent is None) != top:
        raise usage("say where to: --parent T, or --top.")
    if top:
        refuse_besides("--top", "task")
    with call.open() as orchestrion:
        reopened = orchestrion.completed_above(parent) if parent and reopen else []
        found = orchestrion.move(task, parent, reopen=reopen).as_json()
    under = f"under {found['parent']}" if found["parent"] else "at the top"
    call.answer(found, lambda: [f"{moved(found)} ({under})", *reopens(reopened)])


dep = group("dep", "A task waits for its dependencies; so do its children.", "orchestrion dep add T2 T1")


@command(
    "add", "orchestrion dep add T2 T1", "orchestrion dep add T2 T1 --kind data", group=dep, summary="let T wait for ON"
)
@task_argument()
@task_argument("on", metavar="ON")
@click.option(
    "--kind", metavar="KIND", default="blocks", show_default=True, help="blocks, data, soft (order only) or on_failure."
)
def dep_add(call: Call, task: str, on: str, kind: str) -> None:
    """A dependency that would close a circle is refused, naming the whole circle."""
    with call.open() as orchestrion:
        _answer(call, orchestrion.add_dependency(task, on, kind).as_json())


@command("rm", "orchestrion dep rm T2 T1", group=dep, summary="let T no longer wait for ON")
@task_argument()
@task_argument("on", metavar="ON")
def dep_rm(call: Call, task: str, on: str) -> None:
    """The dependency is removed as if it had never been."""
    with call.open() as orchestrion:
        _answer(call, orchestrion.remove_dependency(task, on).as_json())


@command("waive", "orchestrion dep waive T2 T1 --reason 'stub is enough'", group=dep, summary="let T go on without ON")
@task_argument()
@task_argument("on", metavar="ON")
@reason_option("Why it does not need it; it is kept.")
def dep_waive(call: Call, task: str, on: str, reason: str) -> None:
    """The dependency stays on record, with the reason; it does not bind any more."""
    with call.open() as orchestrion:
        _answer(call, orchestrion.waive_dependency(task, on, reason).as_json())


gate = group(
    "gate",
    "A gate is something a task waits for that is not a task.",
    "orchestrion gate add T5 --approval",
    "orchestrion gate open T5",
)


@command(
    "add",
    "orchestrion gate add T5 --approval 'Ship it?'",
    "orchestrion gate add T5 --until 2026-12-01T09:00:00Z",
    group=gate,
    summary="let T wait for a person, a time or a fact",
)
@task_argument()
@click.option("--approval", metavar="[TEXT]", is_flag=False, flag_value="", help="A person's approval.")
@click.option("--question", metavar="TEXT", help="An answer to this.")
@click.option("--until", metavar="TIME", help="A moment, ISO 8601; without a zone it is UTC.")
@click.option("--external", metavar="NAME", help="A fact outside, by a name of your own.")
def gate_add(call: Call, task: str, until: str | None, **asked: str | None) -> None:
    """Give exactly one of the options. `orchestrion gate open` opens it; time opens the last kind by itself."""
    from orchestrion.core.model import moment

    given = [(kind, text) for kind, text in asked.items() if text is not None]
    if len(given) + (until is not None) != 1:
        raise usage("give one of --approval, --question, --until, --external.")
    kind, text = given[0] if given else ("time", "")
    with call.open() as orchestrion:
        found = orchestrion.add_gate(task, kind, called=text or "", opens_at=moment(until) if until else None).as_json()
        newest = orchestrion.show(task)["gates"][-1]
    call.answer(found, lambda: _gated(found, newest))


@command(
    "open",
    "orchestrion gate open T5 --answer 'yes, on Monday'",
    "orchestrion gate open G3 --refuse",
    group=gate,
    summary="decide a gate",
)
@click.argument("thing", metavar="T|G", shell_complete=tasks)
@click.option("--answer", metavar="TEXT", help="What was decided; it is kept.")
@click.option("--name", "called", metavar="NAME", help="Which gate of the task, if it has several.")
@click.option("--refuse", is_flag=True, help="Decide against it: the task stays blocked.")
def gate_open(call: Call, thing: str, answer: str | None, called: str | None, refuse: bool) -> None:
    """Name the gate (G3), or a task of which one gate waits (T5)."""
    if called is not None and thing[:1].upper() == "G":
        raise usage("--name chooses among the gates of a task; G3 is one already.")
    with call.open() as orchestrion:
        _answer(call, orchestrion.open_gate(thing, answer=answer, called=called, refuse=refuse).as_json())


COMMANDS = {"move": move, "dep": dep, "gate": gate}


def _answer(call: Call, task: Mapping[str, Any]) -> None:
    after = (
        f" (waits for {', '.join(task['after'])})" if task["after"] and task["state"] in ("pending", "blocked") else ""
    )
    call.answer(task, lambda: [moved(task) + after])


def _gated(task: Mapping[str, Any], gate: Mapping[str, Any]) -> Iterator[str]:
    yield moved(task)
    if gate["kind"] == "time":
        yield f"  {gate['id']} opens at {output.moment(gate['opens_at'])}"
    else:
        answer = " --answer TEXT" if gate["kind"] == "question" else ""
        yield f"  {gate['id']} waits for a decision: `orchestrion gate open {gate['id']}{answer}`"
