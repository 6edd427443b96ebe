"""What happened, in plain words: every sentence is read in the store, the journal or git.

Each chapter looks for one thing. What did not happen is not told.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from orchestrion.core.model import Run, Task, moment, name
from orchestrion.core.states import EdgeKind, RunState, TaskState
from orchestrion.demo.accident import EVENT as KILLED
from orchestrion.orchestrator import Orchestrator
from orchestrion.runs import order
from orchestrion.runs.git import Git
from orchestrion.runs.plan_tip import PlanTip

Event = Mapping[str, Any]

_PAGE = 500
#: The line of a failed test that says most.
_TELLING = re.compile(r"^\w*(Error|Exception)\b.*$", re.MULTILINE)


@dataclass(frozen=True)
class Chapter:
    """One thing that happened."""

    heading: str
    text: str
    #: What shows it, as arguments of ``orchestrion``; empty: nothing shows it better than the text.
    command: str = ""


@dataclass(frozen=True)
class Attempt:
    """A run, as a line of the table."""

    #: As ``R7``; empty: the task has none.
    run: str
    #: How it ended.
    result: str
    #: In seconds.
    seconds: float | None = None


@dataclass(frozen=True)
class Line:
    """A task, as a line of the table."""

    task: str
    title: str
    state: str
    #: Why it is in that state, by code.
    code: str | None
    #: Whether it stands below another.
    is_child: bool
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class Story:
    """All that is told."""

    lines: tuple[Line, ...]
    chapters: tuple[Chapter, ...]


def tell(opened: Orchestrator, plan: str) -> Story:
    """Reads what happened to a plan."""
    facts = _Facts(opened, plan)
    chapters = (_side_by_side, _repaired, _killed, _queued, _same_file, _handed_on, _not_needed)
    return Story(tuple(_lines(facts)), tuple(chapter for read in chapters for chapter in read(facts)))


class _Facts:
    """The store and the journal, read once."""

    def __init__(self, opened: Orchestrator, plan: str) -> None:
        self.opened = opened
        self.git = Git(opened.project.root)
        self.tip = PlanTip(self.git, plan).read() or ""
        self.plan = plan
        tasks = opened.list_tasks(plan=plan, limit=1000).items
        runs = opened.list_runs(limit=1000).items
        self.tasks = {task.id: task for task in tasks if isinstance(task, Task)}
        self.runs = sorted((run for run in runs if isinstance(run, Run)), key=lambda run: run.id)
        self.checks = {run.id: opened.run_detail(name("R", run.id))["checks"] for run in self.runs}
        self.events = list(_journal(opened))

    def title(self, task: int) -> str:
        """A task by id and title."""
        return f"{name('T', task)} ({self.tasks[task].row['title']})"

    def first(self, kind: str, run: Run, **data: str) -> Event | None:
        """The first line of the journal of one kind about a run."""
        found = (e for e in self.events if e["kind"] == kind and e["run"] == name("R", run.id))
        return next((e for e in found if all((e["data"] or {}).get(k) == v for k, v in data.items())), None)

    def merged(self) -> list[tuple[Run, Event, Event]]:
        """Runs whose work went into the plan, with the beginning and the end of their merge, in that order."""
        found = [
            (run, begun, ended)
            for run in self.runs
            if run.row["files_changed"]
            and (begun := self.first("run.phase", run, phase="merging"))
            and (ended := self.first("run.succeeded", run))
        ]
        return sorted(found, key=lambda one: int(one[1]["id"]))


def _journal(opened: Orchestrator) -> Iterator[Event]:
    since = 0
    while events := opened.events(since, limit=_PAGE):
        yield from events
        since = events[-1]["id"]


def _lines(facts: _Facts) -> Iterator[Line]:
    for task in facts.tasks.values():
        row = task.row
        runs = [run for run in facts.runs if run.row["task"] == task.id]
        attempts = tuple(_attempt(run, facts) for run in runs)
        yield Line(name("T", task.id), row["title"], row["state"], row["code"], row["parent"] is not None, attempts)


def _attempt(run: Run, facts: _Facts) -> Attempt:
    goes = max((check["go"] for check in facts.checks[run.id] if check["stage"] == "check"), default=1)
    result = run.row["state"] + (f" at its {_ORDINALS.get(goes, f'{goes}th')} go" if goes > 1 else "")
    return Attempt(name("R", run.id), result, run.as_json()["duration_s"])


_ORDINALS = {2: "second", 3: "third"}


def _side_by_side(facts: _Facts) -> Iterator[Chapter]:
    spans = [(run.row["claimed_at"], run.row["ended_at"]) for run in facts.runs if run.row["ended_at"]]
    most = max((sum(a <= at < b for a, b in spans) for at, _ in spans), default=0)
    if most < 2:
        return
    work = sum(end - start for start, end in spans) / 1000
    wall = (max(end for _, end in spans) - min(start for start, _ in spans)) / 1000
    text = (
        f"Up to {most} agents worked at the same time, each in its own copy of the repository: "
        f"{len(spans)} runs of {work:.0f} s in all took {wall:.0f} s."
    )
    yield Chapter("Side by side", text)


def _repaired(facts: _Facts) -> Iterator[Chapter]:
    for run in facts.runs:
        checks = [check for check in facts.checks[run.id] if check["stage"] == "check"]
        failed = next((check for check in checks if check["exit_code"]), None)
        if failed is None or run.row["state"] != RunState.SUCCEEDED or checks[-1]["exit_code"]:
            continue
        text = (
            f"{name('R', run.id)} at {facts.title(run.row['task'])}: `{_short(failed['command'])}` ended with exit "
            f"code {failed['exit_code']} (“{_telling(failed['output'])}”). The output went into the agent's brief, "
            f"the same run got another go, and the check passed at go {checks[-1]['go']}."
        )
        yield Chapter("Repaired by feedback", text, f"show {name('R', run.id)}")


def _killed(facts: _Facts) -> Iterator[Chapter]:
    for run in facts.runs:
        killed, lost = facts.first(KILLED, run), facts.first("run.lost", run)
        later = [other for other in facts.runs if other.row["task"] == run.row["task"] and other.id > run.id]
        if not killed or not lost or not later:
            continue
        data, task = killed["data"], name("T", run.row["task"])
        passed = (moment(lost["at"]) - moment(killed["at"])) / 1000
        kept = f" What it had done is kept on the branch {run.row['branch']}." if run.row["head_commit"] else ""
        text = (
            f"When {name('R', run.id)} at {facts.title(run.row['task'])} had said “{data['after']}”, the demo sent "
            f"SIGKILL to its supervisor (pid {data['supervisor']}) and its agent "
            f"(pid {', '.join(map(str, data['agent']))}). {passed:.1f} s later the worker recorded the run as "
            f"{run.row['state']}: {run.row['reason']}.{kept} {task} went back by itself, and "
            f"{name('R', later[-1].id)}, attempt {later[-1].row['attempt']}, {later[-1].row['state']}: "
            f"“{_last_line(_summary(facts, later[-1]))}”."
        )
        yield Chapter("Killed and recovered", text, f"log {name('R', later[-1].id)}")


def _queued(facts: _Facts) -> Iterator[Chapter]:
    merges = facts.merged()
    apart = all(one[2]["id"] < other[1]["id"] for one, other in pairwise(merges))
    if len(merges) < 2 or not apart:
        return
    joined = [run for run, _, _ in merges if _merge_commit(facts, run)]
    text = (
        f"{len(merges)} results went through the merge queue one after the other: by the journal, no merge began "
        f"before the one ahead of it had ended. {len(joined)} met newer work of others and became merge commits"
    )
    if all(_is_rechecked(facts, run) for run in joined):
        text += ", checked again before they counted"
    yield Chapter("One merge at a time", f"{text}; the others only moved the branch forward.")


def _same_file(facts: _Facts) -> Iterator[Chapter]:
    changed = {run.id: _files(facts, run) for run, _, _ in facts.merged()}
    for (one, _, ended), (other, begun, _) in combinations(facts.merged(), 2):
        both = sorted(changed[one.id] & changed[other.id])
        joined = _merge_commit(facts, other)
        if not both or not joined or other.row["claimed_at"] > one.row["ended_at"]:
            continue
        if facts.git.is_ancestor(one.row["head_commit"], other.row["base_commit"]):
            continue
        again = "; its check passed again in the merged tree" if _is_rechecked(facts, other) else ""
        wait = (moment(begun["at"]) - moment(ended["at"])) / 1000
        text = (
            f"{name('R', one.id)} at {facts.title(one.row['task'])} and {name('R', other.id)} at "
            f"{facts.title(other.row['task'])} both changed {', '.join(both)} from the same state of it. The first was "
            f"merged; {wait:.1f} s after that the merge of the second began, and became {joined[:7]}{again}."
        )
        yield Chapter("Two agents, one file", text, f"diff {name('R', other.id)}")


def _handed_on(facts: _Facts) -> Iterator[Chapter]:
    for run in facts.runs:
        brief = order.folder(facts.opened.project.store_dir, run.id) / "brief.md"
        for edge in facts.opened.show(name("T", run.row["task"]))["edges"]:
            if edge["kind"] != EdgeKind.DATA:
                continue
            for artifact in facts.opened.show(edge["on"])["artifacts"]:
                if f"Artifact {artifact['id']} of {edge['on']}" not in brief.read_text(encoding="utf-8"):
                    continue
                text = (
                    f"{facts.title(int(edge['on'][1:]))} stored its result as artifact {artifact['id']} "
                    f"({artifact['size']} bytes); it stood in the brief of {name('R', run.id)} at "
                    f"{facts.title(run.row['task'])}, which says “{_last_line(_summary(facts, run))}”."
                )
                yield Chapter("A result handed on", text, f"artifact {artifact['id']}")


def _not_needed(facts: _Facts) -> Iterator[Chapter]:
    for task in facts.tasks.values():
        if task.state != TaskState.CANCELLED or task.row["code"] != "not_needed":
            continue
        edges = facts.opened.show(name("T", task.id))["edges"]
        others = [facts.tasks[int(edge["on"][1:])] for edge in edges if edge["kind"] == EdgeKind.ON_FAILURE]
        asked = ", ".join(facts.title(other.id) for other in others)
        found = ", ".join(f"{name('T', other.id)} is {other.state}" for other in others)
        text = f"{facts.title(task.id)} was to run only if {asked} failed. {found}, so nobody needed it."
        yield Chapter("Not needed", text, f"why {name('T', task.id)}")


def _summary(facts: _Facts, run: Run) -> str:
    """What a run said at its end."""
    return str(run.row["summary"] or facts.tasks[run.row["task"]].row["summary"] or "")


def _merge_commit(facts: _Facts, run: Run) -> str | None:
    """The commit that merged a run's work into the plan; None if the plan only moved forward to it."""
    log = facts.git.run("rev-list", "--merges", "--parents", facts.tip).stdout.splitlines()
    for commit, _, *merged in map(str.split, log):
        if run.row["head_commit"] in merged:
            return commit
    return None


def _is_rechecked(facts: _Facts, run: Run) -> bool:
    """Whether the checks of a run passed in the tree that the merge made."""
    codes = [check["exit_code"] for check in facts.checks[run.id] if check["stage"] == "merge"]
    return bool(codes) and not any(codes)


def _files(facts: _Facts, run: Run) -> set[str]:
    if not run.row["head_commit"] or not run.row["base_commit"]:
        return set()
    return set(facts.git.lines("diff", "--name-only", "-z", run.row["base_commit"], run.row["head_commit"]))


def _short(command: str) -> str:
    """A command without the length of this machine's paths."""
    return command.replace(shlex.quote(sys.executable), "python")


def _telling(output: str) -> str:
    found = _TELLING.search(output)
    return found[0] if found else _last_line(output)


def _last_line(text: str) -> str:
    lines: Sequence[str] = text.strip().splitlines()
    return lines[-1] if lines else ""
