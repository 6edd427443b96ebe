"""Commands of whoever does a task by hand or by an agent of their own: claim, heartbeat, done, fail, release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call, own_run
from orchestrion.interfaces.cli.command import FILE, command, refuse_besides, run_argument, split, task_argument
from orchestrion.interfaces.cli.decisions import unblocked
from orchestrion.interfaces.cli.source import read_text
from orchestrion.interfaces.cli.tasks import moved


@command("claim", "orchestrion claim", "orchestrion claim T12 --lease 3600", "orchestrion claim --role tester --json")
@task_argument(required=False)
@click.option("--role", "roles", metavar="NAME", multiple=True, help="Only tasks of this role. Repeatable.")
@click.option("--agent", metavar="NAME", help="Who claims; tasks for other agents are passed over.")
@click.option("--tag", metavar="WORD", help="Only tasks with this tag.")
@click.option("--lease", "lease_s", metavar="S", type=float, help="Seconds the claim holds without a sign of life.")
def claim(call: Call, task: str | None, roles: tuple[str, ...], **wanted: Any) -> None:
    """Exactly one claimer gets a task; the session that holds T, or goes on with the one that does, gets its
    run again. Without T it is the best one that is ready; ends with 3 if there is none. The brief says what
    is to be done and how to report back.
    """
    if task is not None:
        refuse_besides("a task that is named", "task", "agent", "lease_s")
    with call.open() as orchestrion:
        claimed = orchestrion.claim(task, roles=split(roles), **wanted)
    call.answer(claimed, lambda: _claimed(claimed))


@command("heartbeat", "orchestrion heartbeat R31")
@run_argument()
def heartbeat(call: Call, run: str | None) -> None:
    """The lease begins anew. Without R it is the run of the agent that calls (ORCHESTRION_RUN)."""
    with call.open() as orchestrion:
        found = orchestrion.heartbeat(own_run(run, orchestrion.caller)).as_json()
    call.answer(found, lambda: [f"{found['id']} holds {found['task']} until {output.moment(found['lease_until'])}"])


@command("release", "orchestrion release R31")
@run_argument()
def release(call: Call, run: str | None) -> None:
    """The task is ready again for others; this costs it no retry."""
    with call.open() as orchestrion:
        found = orchestrion.release(own_run(run, orchestrion.caller)).as_json()
    call.answer(found, lambda: [f"{found['id']} gave {found['task']} back"])


@command(
    "done",
    "orchestrion done R31 --summary 'slugify() written' --file src/slugify.py",
    "make report | orchestrion done --summary 'measured' --detail -",
)
@run_argument()
@click.option("--summary", metavar="TEXT", required=True, help="What was done, in a sentence.")
@click.option("--detail", metavar="FILE|-", type=FILE, help="All of it, kept as an artifact.")
@click.option("--file", "files", metavar="PATH", multiple=True, help="A file that was changed. Repeatable.")
@click.option("--deleted", metavar="PATH", multiple=True, help="A file that was deleted. Repeatable.")
@click.option(
    "--next",
    "next_action",
    metavar="WORD",
    default="complete",
    show_default=True,
    help="complete; continue (names the next task); needs_revision (to review); blocked (SUMMARY is the question).",
)
def done(
    call: Call,
    run: str | None,
    summary: str,
    detail: str | None,
    files: tuple[str, ...],
    deleted: tuple[str, ...],
    **report: Any,
) -> None:
    """The task's checks run first: if one fails, nothing is completed and the run goes on. Work whose files
    are not there goes to review.
    """
    changed = [*files, *({"path": path, "op": "deleted"} for path in deleted)]
    text = None if detail is None else read_text(detail)
    with call.open() as orchestrion:
        one = own_run(run, orchestrion.caller)
        outcome = orchestrion.done(one, summary, detail=text, files=changed, **report)
    call.answer(outcome, lambda: _done(outcome))


@command(
    "fail", "orchestrion fail R31 --error 'the API is gone'", "orchestrion fail --error busy --code client_tempfail"
)
@run_argument()
@click.option("--error", metavar="TEXT", required=True, help="Why it cannot be done.")
@click.option(
    "--code",
    metavar="CODE",
    default="client_failed",
    show_default=True,
    help="Code of the failure; says if it is retried.",
)
def fail(call: Call, run: str | None, error: str, code: str) -> None:
    """A transient failure is tried again by itself after a while, any other one waits for a decision."""
    with call.open() as orchestrion:
        outcome = orchestrion.fail(own_run(run, orchestrion.caller), error, code)
    call.answer(outcome, lambda: _failed(outcome))


COMMANDS = {"claim": claim, "heartbeat": heartbeat, "release": release, "done": done, "fail": fail}


def _claimed(claimed: Mapping[str, Any]) -> Iterator[str]:
    task = claimed["task"]
    until = output.moment(claimed["lease_until"])
    yield f"{output.heading(claimed['run'])} holds {task['id']} until {until}: {output.plain(task['title'])}"
    if "warning" in claimed:
        yield output.paint(output.plain(claimed["warning"]), "yellow")
    yield ""
    yield output.block(claimed["brief"]).rstrip()


def _done(outcome: Mapping[str, Any]) -> Iterator[str]:
    yield f"{outcome['run']['id']} reported; {moved(outcome['task'])}"
    if "recorded" in outcome:
        yield f"  {outcome['recorded']}"
    yield from unblocked(outcome)
    if outcome.get("next"):
        task = outcome["next"]
        yield f"  next: `orchestrion claim {task['id']}` ({output.plain(task['title'])})"


def _failed(outcome: Mapping[str, Any]) -> Iterator[str]:
    yield f"{outcome['run']['id']} ended; {moved(outcome['task'])}"
    if outcome["retry_at"]:
        yield f"  it is tried again at {output.moment(outcome['retry_at'])}"
    elif "recorded" in outcome:
        yield f"  {outcome['recorded']}"
    else:
        yield f"  `orchestrion retry {outcome['task']['id']}` tries it again"
