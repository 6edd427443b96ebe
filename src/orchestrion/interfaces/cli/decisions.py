"""Commands with which people decide about tasks: retry, reopen, cancel, approve, reject, archive, delete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command, reason_option, task_argument
from orchestrion.interfaces.cli.tasks import moved

if TYPE_CHECKING:
    from orchestrion.orchestrator.tasks import Cancelled

#: So many tasks and runs that went with a task are named.
_NAMED = 20


@command("retry", "orchestrion retry T12", "orchestrion retry T12 --resume")
@task_argument()
@click.option("--resume", is_flag=True, help="Go on with the agent's last session and its work, not afresh.")
def retry(call: Call, task: str, resume: bool) -> None:
    """A task that failed, or that waits for its next try, goes back at once with all its attempts."""
    with call.open() as orchestrion:
        _answer(call, orchestrion.retry(task, resume=resume).as_json())


@command("reopen", "orchestrion reopen T12 --reason 'the API changed'")
@task_argument()
@reason_option("Why it is to be done again; it stands in the next brief.")
def reopen(call: Call, task: str, reason: str) -> None:
    """Tasks that wait for it and were not started wait again."""
    with call.open() as orchestrion:
        _answer(call, orchestrion.reopen(task, reason).as_json())


@command("cancel", "orchestrion cancel T12 --reason 'not needed any more'", "orchestrion cancel T1 --dependents cancel")
@task_argument()
@reason_option("Why; it is kept.", required=False)
@click.option(
    "--dependents",
    metavar="block|cancel",
    default="block",
    show_default=True,
    help="What happens to what waits for it.",
)
def cancel(call: Call, task: str, reason: str | None, dependents: str) -> None:
    """Its children are cancelled with it, and a run that holds one of them is ended. This is final."""
    with call.open() as orchestrion:
        cancelled = orchestrion.cancel_all(task, reason or "", dependents=dependents)
    shown = cancelled.task.as_json()
    call.answer(shown, lambda: [moved(shown), *_with_it(cancelled)])


@command("approve", "orchestrion approve T12")
@task_argument()
def approve(call: Call, task: str) -> None:
    """The work is merged into the plan's branch and its checks run once more there; then the task is
    completed.
    """
    with call.open() as orchestrion:
        approved = orchestrion.approve(task)
    call.answer(approved, lambda: [moved(approved), *unblocked(approved)])


@command("reject", "orchestrion reject T12 --reason 'handle empty input too'")
@task_argument()
@reason_option("What is wrong; it stands in the next brief.")
def reject(call: Call, task: str, reason: str) -> None:
    """The task is done again, by an agent that is told why."""
    with call.open() as orchestrion:
        _answer(call, orchestrion.reject(task, reason).as_json())


@command("archive", "orchestrion archive T12")
@task_argument()
def archive(call: Call, task: str) -> None:
    """Only a completed, failed or cancelled task can be archived; its history stays."""
    with call.open() as orchestrion:
        archived = orchestrion.archive(task).as_json()
    call.answer(archived, lambda: [f"{archived['id']} is archived: {output.plain(archived['title'])}"])


@command("delete", "orchestrion delete T12")
@task_argument()
def delete(call: Call, task: str) -> None:
    """A task with runs, children or dependants has a history: cancel or archive that instead."""
    with call.open() as orchestrion:
        gone = orchestrion.delete(task).as_json()
    call.answer(gone, lambda: [f"{gone['id']} is deleted: {output.plain(gone['title'])}"])


COMMANDS = {
    "retry": retry,
    "reopen": reopen,
    "cancel": cancel,
    "approve": approve,
    "reject": reject,
    "archive": archive,
    "delete": delete,
}


def unblocked(outcome: Mapping[str, Any]) -> Iterator[str]:
    """What became ready by it, in a line."""
    names = outcome["unblocked"]
    if names:
        more = outcome["unblocked_total"] - len(names)
        yield f"  ready now: {', '.join(names)}{f' and {more} more' if more else ''}"


def _with_it(cancelled: Cancelled) -> Iterator[str]:
    """What else was cancelled, and whose runs that ended."""
    if others := cancelled.others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        yield f"  cancelled with it: {', '.join(others[:_NAMED])}{more}"
    for one in cancelled.ended[:_NAMED]:
        yield f"  {one['run']} of {one['task']} is ended; {output.plain(one['holder'])} held it"


def _answer(call: Call, task: Mapping[str, Any]) -> None:
    call.answer(task, lambda: [moved(task)])
