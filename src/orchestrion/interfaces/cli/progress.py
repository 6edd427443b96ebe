"""What ``work`` shows while it works.

On a terminal a drawing that changes in place: the tree of tasks, running agents with their
phase and time, what is awaited, the slots. Elsewhere one line for each event, quiet and easy
to parse (``T3 completed R5 1.2s``). For a program (``--json``) nothing but the summary at the
end. All three only look at the store: what is shown is what is so.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self

from orchestrion.core.states import MARKS, TaskState
from orchestrion.interfaces.cli import output

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from orchestrion.orchestrator import Orchestrator

#: The drawing is renewed this often in a second, so that times run.
FRAMES_PER_SECOND = 5
#: The store is looked at again after this time at the earliest, in seconds.
LOOK_EVERY_S = 0.1
#: ... and after this many times what a look took.
_PATIENCE = 10
#: Awaited things are named up to this number, then counted.
_AWAITED = 5
#: Moves that are told line by line; going back to pending only counts when a run was lost.
_TOLD = frozenset(("in_progress", "completed", "review", "failed", "retrying", "blocked", "cancelled"))
#: What a plan of its name had is not this plan's.
_SET_ASIDE = "plan.set_aside"
_COLOURS = {
    "ready": "cyan",
    "in_progress": "bold blue",
    "retrying": "yellow",
    "blocked": "yellow",
    "review": "magenta",
    "completed": "green",
    "failed": "red",
}
#: States whose titles stand out, and states that are explained by a code.
_BRIGHT = ("in_progress", "completed")
_EXPLAINED = ("failed", "review", "retrying", "blocked")
#: What is kept in sight when a tree is higher than the screen: best first.
_IN_SIGHT = ("in_progress", "failed", "review", "blocked", "retrying", "ready", "pending", "completed", "cancelled")


class Progress:
    """Shows nothing: for a program that only wants the summary."""

    def look(self) -> None:
        """Called whenever something may have changed."""

    def say(self, text: str) -> None:
        """Something that people should know now."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The end; a terminal is as it was before."""


def progress(orchestrion: Orchestrator, *, as_json: bool) -> Progress:
    """The way of showing that fits whoever is looking."""
    if as_json:
        return Progress()
    if output.is_terminal(sys.stdout) and os.environ.get("TERM", "dumb") != "dumb":
        return Drawn(orchestrion)
    return Told(orchestrion)


# -- line by line -----------------------------------------------------------------------------


class Told(Progress):
    """One line per event: task, its new state, the run, and how long it took.

    The work goes on when nobody reads that any more, or there is no room for it.
    """

    def __init__(self, orchestrion: Orchestrator) -> None:
        self._orchestrion = orchestrion
        self._last = orchestrion.last_event()

    def look(self) -> None:
        while found := self._orchestrion.events(self._last, limit=500):
            self._last = found[-1]["id"]
            self._tell([self._line(event) for event in found if _is_told(event)])

    def _tell(self, lines: Sequence[str]) -> None:
        try:
            output.lines(lines)
            output.flush()
        except (BrokenPipeError, output.Unwritten) as lost:
            output.drop_answers()
            output.note(f"nothing more is told on stdout ({lost}); the work goes on")

    def say(self, text: str) -> None:
        output.note(text)

    def _line(self, event: Mapping[str, Any]) -> str:
        if event["kind"] == _SET_ASIDE:
            return f"{event['data']['ref']} keeps what plan {event['data']['plan']} had in a store that is gone"
        words = [event["task"], event["to"]]
        if event["run"]:
            words.append(event["run"])
            if event["to"] != TaskState.IN_PROGRESS:
                words.append(f"{self._orchestrion.run(event['run']).as_json()['duration_s']:.1f}s")
        code = (event["data"] or {}).get("code")
        return " ".join([*words, f"code={code}"] if code else words)


def _is_told(event: Mapping[str, Any]) -> bool:
    if event["kind"] == _SET_ASIDE:
        return True
    if not event["kind"].startswith("task.") or not event["task"]:
        return False
    return event["to"] in _TOLD or (event["to"] == TaskState.PENDING and event["run"] is not None)


# -- drawn ------------------------------------------------------------------------------------


class Drawn(Progress):
    """A drawing in place, renewed from the store whenever something changed, and for its clocks."""

    def __init__(self, orchestrion: Orchestrator) -> None:
        from rich.console import Console
        from rich.live import Live

        self._orchestrion = orchestrion
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._began = time.monotonic()
        self._look()
        self._said = ""
        self._live: Live = Live(
            console=self._console, get_renderable=self._frame, refresh_per_second=FRAMES_PER_SECOND, transient=False
        )

    def look(self) -> None:
        # Where looking takes long (a hundred thousand tasks) it is done less often: the work goes first.
        if time.monotonic() - self._looked >= max(LOOK_EVERY_S, _PATIENCE * self._cost):
            self._look()

    def _look(self) -> None:
        began = time.monotonic()
        self._found, self._looked = self._orchestrion.overview(), time.monotonic()
        self._cost = self._looked - began

    def say(self, text: str) -> None:
        self._said = text

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._look()
        finally:
            # Restores the cursor whatever happens, a store that is away included.
            self._live.stop()

    def _frame(self) -> Text:
        """All of it. Called by rich's own thread: touches no database."""
        from rich.text import Text

        found, since = self._found, time.monotonic() - self._looked
        below = [*_awaited(found), self._counts(found)]
        room = max(3, self._console.height - len(below) - 2)
        rows = [*_fitting(list(_tree(found, since, self._console.width)), room), Text(), *below]
        for row in rows:
            row.no_wrap, row.overflow = True, "ellipsis"
            row.truncate(self._console.width, overflow="ellipsis")
        return Text("\n").join(rows)

    def _counts(self, found: Mapping[str, Any]) -> Text:
        from rich.text import Text

        counts, line = found["tasks"], Text()
        line.append(f"{counts.get('completed', 0)} of {sum(counts.values())} completed", "bold")
        for state in ("in_progress", "ready", "retrying", "review", "blocked", "failed"):
            if counts.get(state):
                line.append(" · ").append(f"{counts[state]} {state.replace('_', ' ')}", _COLOURS[state])
        for slot in found["slots"]:
            line.append(f" · {output.plain(slot['name'])} {slot['used']}/{slot['capacity']}", "dim")
        line.append(f" · {output.seconds(time.monotonic() - self._began)}", "dim")
        if found["paused_at"]:
            line.append(" · paused: `orchestrion resume` goes on", "yellow")
        return line.append(f" · {self._said}", "yellow") if self._said else line


#: A line of the tree: state of its task, the line itself.
_Row = tuple[str, "Text"]


def _tree(found: Mapping[str, Any], since: float, width: int) -> Iterator[_Row]:
    """Every task in a line, parents first; what is running shows by whom, in which phase and how long."""
    from rich.text import Text

    runs = {run["task"]: run for run in found["runs"]}
    widest = max((len(task["id"]) for task in found["tree"]), default=0)
    for task, level in _outline(found["tree"]):
        state, look = task["state"], _COLOURS.get(task["state"], "dim")
        line = Text("  " * min(level, 20))
        line.append(f"{MARKS[TaskState(state)]} ", look).append(f"{task['id'].ljust(widest)} ", "dim")
        remark = _remark(task, runs.get(task["id"]), since)
        # A long title must not push out who works on it.
        room = max(12, width - line.cell_len - len(remark))
        line.append(output.shorten(output.plain(task["title"]), room), "" if state in _BRIGHT else "dim")
        yield state, line.append(remark, look)


def _remark(task: Mapping[str, Any], run: Mapping[str, Any] | None, since: float) -> str:
    """What stands behind a task's title: its run, or why it is where it is."""
    if run is not None:
        phase = (run["phase"] or run["state"]) if run["supervised"] else "held"
        phase = "stuck" if run["awaits"] else phase
        agent = output.plain(run["agent"] or "client")
        return f"  {run['id']} {agent} {phase} {output.seconds(run['duration_s'] + since)}"
    return f"  {task['code']}" if task["code"] and task["state"] in _EXPLAINED else ""


def _outline(tasks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], int]]:
    known = {task["id"] for task in tasks}
    children: dict[str | None, list[Mapping[str, Any]]] = {}
    for task in tasks:
        children.setdefault(task["parent"] if task["parent"] in known else None, []).append(task)
    stack = [(task, 0) for task in reversed(children.get(None, []))]
    while stack:
        task, level = stack.pop()
        yield task, level
        stack += [(child, level + 1) for child in reversed(children.get(task["id"], []))]


def _fitting(rows: Sequence[_Row], room: int) -> list[Text]:
    """As many lines as there is room for, the most interesting ones, in their order; the others are counted."""
    if len(rows) <= room:
        return [line for _, line in rows]
    ranked = sorted(range(len(rows)), key=lambda place: (_IN_SIGHT.index(rows[place][0]), place))
    shown = set(ranked[: room - 1])
    hidden = [state for place, (state, _) in enumerate(rows) if place not in shown]
    return [*(line for place, (_, line) in enumerate(rows) if place in shown), _hidden(hidden)]


def _hidden(states: Sequence[str]) -> Text:
    from rich.text import Text

    counts = ", ".join(f"{states.count(one)} {one.replace('_', ' ')}" for one in _IN_SIGHT if one in states)
    return Text(f"… and {counts}", "dim")


def _awaited(found: Mapping[str, Any]) -> list[Text]:
    """What it waits for: times, people, facts."""
    from rich.text import Text

    waits = [*_retries(found), *_gates(found), *_reviews(found)]
    lines = [Text("  waits: ", "yellow").append(one) for one in waits[:_AWAITED]]
    return [*lines, Text(f"  … and {len(waits) - _AWAITED} more", "dim")] if len(waits) > _AWAITED else lines


def _retries(found: Mapping[str, Any]) -> Iterable[str]:
    for task in found["retrying"]:
        yield f"{task['task']} is tried again {_in(task['retry_at'])}"


def _gates(found: Mapping[str, Any]) -> Iterable[str]:
    for gate in found["gates"]:
        if gate["opens_at"]:
            yield f"{gate['task']} may go on {_in(gate['opens_at'])}"
        else:
            asked = f" ({output.plain(gate['name'])})" if gate["name"] else ""
            answer = " --answer TEXT" if gate["kind"] == "question" else ""
            yield f"{gate['task']} for {gate['kind']}{asked}: orchestrion gate open {gate['gate']}{answer}"


def _reviews(found: Mapping[str, Any]) -> Iterable[str]:
    for task in found["needs_you"]:
        if task["state"] == TaskState.REVIEW:
            yield f"{task['task']} for review: orchestrion show {task['task']}"


def _in(iso: str) -> str:
    """``in 43 s``; the clocks of two machines may differ, so a moment that has passed is "now"."""
    left = (datetime.fromisoformat(iso) - datetime.now(UTC)).total_seconds()
    return f"in {output.seconds(left)}" if left > 0 else "now"


# -- runs --watch -----------------------------------------------------------------------------


def watch_runs(orchestrion: Orchestrator, draw: Callable[[], Iterable[str]]) -> NoReturn:
    """Draws lines anew whenever the store changes, until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            shown = list(draw())[: max(3, console.height - 1)]
            live.update(Text.from_ansi("\n".join(shown)), refresh=True)
            orchestrion.store.wait_for_change(1.0)
