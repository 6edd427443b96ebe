"""The performance as it happens: a tree that is painted anew on a terminal, else one line per event.

Both show what the store says at that moment, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Group
from rich.live import Live as Painting
from rich.text import Text

from orchestrion.core.model import Task, name
from orchestrion.core.states import MARKS, TaskState
from orchestrion.demo.accident import EVENT as KILLED
from orchestrion.demo.page import Page
from orchestrion.orchestrator import Orchestrator

Event = Mapping[str, Any]

#: Each state's colour.
COLOURS = {
    TaskState.PENDING: "dim",
    TaskState.READY: "cyan",
    TaskState.IN_PROGRESS: "blue",
    TaskState.RETRYING: "yellow",
    TaskState.BLOCKED: "yellow",
    TaskState.REVIEW: "magenta",
    TaskState.COMPLETED: "green",
    TaskState.FAILED: "red",
    TaskState.CANCELLED: "dim",
}
#: Events that are told even where the tree shows how things stand.
_REMARKABLE = (KILLED, "run.lost", "run.phase", "task.failed", "task.blocked", "task.review", "task.retrying")
#: As much of the journal as is read at a time.
_PAGE = 500


class Live:
    """Shows how the plan gets on, between ``with`` and its end."""

    def __init__(self, opened: Orchestrator, page: Page) -> None:
        self._opened = opened
        self._page = page
        self._words = Words({task.as_json()["id"]: task.row["title"] for task in _tasks(opened)})
        self._seen = self._last_event()
        self._painting = Painting(console=page.console, refresh_per_second=10, transient=True) if page.is_live else None

    def __enter__(self) -> Self:
        if self._painting:
            self._painting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._painting:
            self._painting.stop()

    def update(self) -> None:
        """Shows what has happened since the last look."""
        while events := self._opened.events(self._seen, limit=_PAGE):
            self._seen = events[-1]["id"]
            for event in events:
                self._tell(event)
        if self._painting:
            self._painting.update(_tree(_tasks(self._opened), self._opened.status()["runs"]))

    def _tell(self, event: Event) -> None:
        line = self._words.of(event)
        if line and (not self._painting or event["kind"] in _REMARKABLE):
            self._page.line(line)

    def _last_event(self) -> int:
        last = 0
        while events := self._opened.events(last, limit=_PAGE):
            last = events[-1]["id"]
        return last


class Words:
    """Lines of the journal in words; remembers when it began and which runs are at work."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self._began: datetime | None = None
        self._at_work: set[str] = set()
        self._attempts: dict[str, int] = {}

    def of(self, event: Event) -> str | None:
        """A line for people, with the seconds since the first one; None for what they need not know."""
        at = datetime.fromisoformat(event["at"])
        self._began = self._began or at
        words = self._words(event)
        return f"{(at - self._began).total_seconds():6.1f} s  {words}" if words else None

    def _words(self, event: Event) -> str | None:
        task, run, data = event["task"] or "", event["run"] or "", event["data"] or {}
        match event["kind"]:
            case "task.in_progress":
                return f"{task:<4} {run:<4} begins: {self._titles.get(task, '')}{self._attempt(task)}"
            case "run.phase" if data["phase"] == "working":
                return self._another_go(run)
            case "task.completed":
                return f"{task:<4} {'' if data else run:<4} completed"
            case "run.lost":
                return f"     {run:<4} is lost: nobody answers for it any more; {task} goes back"
            case "task.cancelled" if data.get("code") == "not_needed":
                return f"{task:<4}      not needed: {self._titles.get(task, '')}"
            case "task.failed" | "task.blocked" | "task.review" | "task.retrying" | "task.cancelled" as kind:
                return f"{task:<4} {run:<4} {kind.removeprefix('task.')}: {data.get('reason') or data.get('code', '')}"
            case kind if kind == KILLED:
                agent = ", ".join(map(str, data["agent"]))
                return f"     {run:<4} KILLED by the demo: supervisor {data['supervisor']}, agent {agent}"
        return None

    def _attempt(self, task: str) -> str:
        self._attempts[task] = self._attempts.get(task, 0) + 1
        return f" (attempt {self._attempts[task]})" if self._attempts[task] > 1 else ""

    def _another_go(self, run: str) -> str | None:
        if run in self._at_work:
            return f"     {run:<4} its check failed: the agent gets the output and another go"
        self._at_work.add(run)
        return None


def _tasks(opened: Orchestrator) -> list[Task]:
    return [task for task in opened.list_tasks(limit=1000).items if isinstance(task, Task)]


def _tree(tasks: Sequence[Task], runs: Sequence[Mapping[str, Any]]) -> Group:
    working = {run["task"]: run for run in runs}
    known = {task.id: task for task in tasks}
    done = {task.id for task in tasks if task.state in (TaskState.COMPLETED, TaskState.CANCELLED)}
    lines = [_line(task, working.get(name("T", task.id)), _awaited(task, known) - done) for task in tasks]
    return Group(*lines, Text(f"\n  {len(done)} of {len(tasks)} tasks, agents at work: {len(runs)}", style="dim"))


def _awaited(task: Task, known: Mapping[int, Task]) -> set[int]:
    """What a task waits for: by itself, and because it is part of something that waits."""
    awaited = set(task.after)
    while task.row["parent"] in known:
        task = known[task.row["parent"]]
        awaited |= set(task.after)
    return awaited


def _line(task: Task, run: Mapping[str, Any] | None, awaited: set[int]) -> Text:
    style = COLOURS[task.state]
    indent = "     " if task.row["parent"] else "  "
    line = Text.assemble((f"{indent}{MARKS[task.state]} {name('T', task.id):<4}", style), f" {task.row['title']}")
    line.no_wrap = True
    line.pad_right(max(0, 52 - len(line)))
    if run:
        line.append(f"{run['id']:<4} {run['phase']:<9} {run['duration_s'] or 0:5.1f} s", style)
    elif task.state == TaskState.PENDING:
        waits = [name("T", one) for one in sorted(awaited)]
        line.append(f"waits for {', '.join(waits) or 'its children'}", "dim")
    elif task.state != TaskState.COMPLETED:
        line.append("not needed" if task.row["code"] == "not_needed" else str(task.state), style)
    return line
