"""The command that keeps agents busy. How it shows what happens is in ``progress.py``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from orchestrion.core.model import name
from orchestrion.core.rights import refuse_runs
from orchestrion.interfaces.cli import output
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.command import command
from orchestrion.interfaces.cli.complete import plans
from orchestrion.interfaces.cli.errors import NOT_ALL_COMPLETED, OK

if TYPE_CHECKING:
    from orchestrion.interfaces.cli.progress import Progress
    from orchestrion.worker import Summary, Worker

#: So many tasks, reasons and plans are named at the end.
_SHOWN = 5


@command(
    "work",
    "orchestrion work --drain",
    "orchestrion work --drain --plan text-tools",
    "orchestrion work --slots 8",
    "orchestrion work --agent claude",
)
@click.option("--slots", metavar="N", type=int, help="Runs at the same time; the setting work.slots if not said.")
@click.option("--drain", is_flag=True, help="End when nothing is left that it could run.")
@click.option("--agent", metavar="NAME", help="Only tasks of this agent.")
@click.option("--plan", metavar="PLAN", help="Only tasks of this plan.", shell_complete=plans)
@click.option(
    "--older-copy", is_flag=True, help="You looked at what this older copy of the store does not know: go on."
)
def work(call: Call, slots: int | None, drain: bool, agent: str | None, plan: str | None, older_copy: bool) -> int:
    """Claims ready tasks and runs each in its own copy of the repository, until it is told to stop. What
    it starts goes on without it: SIGTERM or Ctrl-C stops claiming, a second Ctrl-C ends at once.

    With --drain it waits for its own runs and for retries, not for people, gates or other
    holders' leases. Its summary and exit code are about what this call could work on: it ends with 8 if
    a task of that failed or is left. What had failed before it began, or was in review, does not count.

    Where runs began here that the store does not know, an older copy of it was put back: nothing is claimed
    (`older_copy`, 5) until --older-copy says once that you looked at what is there.
    """
    from orchestrion.interfaces.cli.progress import progress

    refuse_runs(os.environ, "work")
    with call.open() as orchestrion, progress(orchestrion, as_json=call.json) as shown, Stop(shown) as stop:
        summary = orchestrion.work(
            slots=slots,
            drain=drain,
            agent=agent,
            plan=plan,
            older_copy=older_copy,
            seen=shown.look,
            worker=stop.watch,
        )
        shown.look()
        done = orchestrion.finished_plans() if summary.completed and not call.json else []
    call.answer(summary.as_json(), lambda: _summary(summary, [one for one in done if plan in (None, one)]))
    return NOT_ALL_COMPLETED if drain and not summary.all_completed else OK


COMMANDS = {"work": work}


class Stop:
    """Turns signals into a worker that claims no more, between ``with`` and its end."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._worker: Worker | None = None
        self._asked = False
        self._before: dict[int, Any] = {}

    def watch(self, worker: Worker) -> None:
        """The worker to stop; it may have been asked for already."""
        self._worker = worker
        if self._asked:
            worker.stop()

    def __enter__(self) -> Stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            # A program in the background of a shell script is started with Ctrl-C ignored; so it stays.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self._asked:
            self._shown.say("stopping: claims nothing more, runs go on; Ctrl-C once more ends at once")
        self._asked = True
        if self._worker is not None:
            self._worker.stop()


def _summary(summary: Summary, done: Sequence[str]) -> Iterator[str]:
    """What became of what it could work on, then what it could not, and what comes next."""
    counts = [(summary.completed, "completed"), (summary.failed, "failed")]
    counts += [(summary.cancelled, "cancelled"), (summary.blocked, "left")]
    parts = [f"{count} {word}" for count, word in counts if count or word == "completed"]
    verdict = output.paint(", ".join(parts), "green" if summary.all_completed else "yellow")
    yield f"{verdict}; {output.count(summary.runs, 'run')} in {output.seconds(summary.seconds)}"
    yield from _first([output.plain(str(waiting)) for waiting in summary.waiting], len(summary.waiting))
    needs = summary.needs_you
    yield from _first([_needs(task) for task in needs], summary.needs_you_total)
    if needs:
        yield f"`orchestrion status` says what needs you, `orchestrion why {name('T', needs[0]['id'])}` why"
    yield from (f"`orchestrion land {plan}` brings its work to your branch" for plan in done[:_SHOWN])
    if len(done) > _SHOWN:
        yield f"and {len(done) - _SHOWN} more plans can be landed; `orchestrion status` names the plans"


def _first(lines: Sequence[str], total: int) -> Iterator[str]:
    """The first lines of a list, and how many there are beside them."""
    yield from (f"  {line}" for line in lines[:_SHOWN])
    if total > _SHOWN:
        yield output.faint(f"  … and {total - _SHOWN} more")


def _needs(task: Mapping[str, Any]) -> str:
    said = output.first_line(task["reason"] or task["error"] or task["title"])
    return f"{name('T', task['id'])} {output.state(task['state'])}: {output.shorten(said, 90)}"
