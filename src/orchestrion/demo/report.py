"""How the demo is introduced, and what it says at its end."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.text import Text

from orchestrion.core.states import MARKS, TaskState
from orchestrion.demo import repository
from orchestrion.demo.live import COLOURS
from orchestrion.demo.page import Page, Row
from orchestrion.demo.play import SLOTS, Played
from orchestrion.demo.proof import Proof
from orchestrion.demo.stage import Stage
from orchestrion.demo.story import Attempt, Line, Story
from orchestrion.orchestrator import Orchestrator
from orchestrion.runs.agents.known import installed
from orchestrion.runs.git import Git

#: So many lines of git's graph are shown.
_GRAPH_LINES = 16


def opening(page: Page, stage: Stage, opened: Orchestrator) -> None:
    """Says what is going to happen, and where."""
    authors = {step.author.name for step in repository.HISTORY}
    total = opened.list_tasks(plan=stage.plan_name, limit=1).total
    page.line(Text("Orchestrion demo: a plan of dependent tasks becomes merged work", style="bold"))
    page.line("")
    facts = [
        ("Folder", str(stage.folder)),
        ("Repository", f"{repository.NAME}, {len(repository.HISTORY)} commits by {len(authors)} people"),
        ("Plan", f"plan.yaml, {total} tasks; {SLOTS} agents at a time; the store is SQLite"),
        ("Agents", "plain Python scripts that take their time: no model, no key, no network"),
    ]
    page.rows([((label, "dim"), (text, "")) for label, text in facts])
    page.heading("What happens")


def closing(
    page: Page,
    stage: Stage,
    played: Played,
    told: Story,
    proven: Proof,
    environ: Mapping[str, str],
    *,
    keep: bool,
) -> None:
    """Tells what happened, shows the branch, and says what to try next."""
    page.heading("Tasks and attempts")
    page.rows([_row(line) for line in told.lines])
    page.heading("What the store, the journal and git say about it")
    for chapter in told.chapters:
        page.paragraph(chapter.text, f"{chapter.heading}.")
    _show_branch(page, stage)
    if proven.passed:
        _show_success(page, played)
        _show_next(page, stage, told, environ, keep=keep)
    else:
        _show_failure(page, stage, proven)


def _row(line: Line) -> Row:
    state = TaskState(line.state)
    title = ("   " if line.is_child else "") + line.title
    cells = [_attempt(attempt) for attempt in line.attempts] or [_without_attempt(line)]
    return ((f"{MARKS[state]} {line.task}", COLOURS[state]), (title, ""), (", then ".join(cells), ""))


def _attempt(attempt: Attempt) -> str:
    seconds = "" if attempt.seconds is None else f" ({attempt.seconds:.1f} s)"
    return f"{attempt.run} {attempt.result}{seconds}"


def _without_attempt(line: Line) -> str:
    if line.code == "not_needed":
        return "not needed"
    return "with its children" if line.state == TaskState.COMPLETED else line.state


def _show_branch(page: Page, stage: Stage) -> None:
    branch, git = f"orchestrion/{stage.plan_name}", Git(stage.repository)
    if git.tip(branch) is None:
        return
    page.heading(f"The merged branch, {branch}")
    lines = git.run("log", "--graph", "--oneline", "--no-decorate", "--no-color", branch).stdout.splitlines()
    for line in lines[:_GRAPH_LINES]:
        page.line(f"  {line.rstrip()}")
    if len(lines) > _GRAPH_LINES:
        page.line(f"  ... {len(lines) - _GRAPH_LINES} more lines: git log --graph --oneline {branch}")


def _show_success(page: Page, played: Played) -> None:
    page.heading(f"Done in {played.summary['seconds']:.0f} s: everything was completed, merged, and tested once more.")


def _show_failure(page: Page, stage: Stage, proven: Proof) -> None:
    page.heading("This demo failed:")
    for finding in proven.findings:
        if not finding.passed:
            page.paragraph(f"✗ {finding.text}")
    page.paragraph(f"The folder {stage.folder} is kept; worker.log in it has what the worker said.")


def _show_next(page: Page, stage: Stage, told: Story, environ: Mapping[str, str], *, keep: bool) -> None:
    page.heading("Try next")
    page.rows([((command, ""), (f"# {said}", "dim")) for command, said in _commands(stage, told)])
    page.line(f"  {_listen(stage)}")
    if not keep:
        page.line(Text.assemble(f"  rm -r {shlex.quote(str(stage.folder))}", ("  # when you have seen enough", "dim")))
    _show_agents(page, installed(environ))


def _commands(stage: Stage, told: Story) -> list[tuple[str, str]]:
    """Commands to copy, with what they show."""
    program = f"{_program()} -C {shlex.quote(str(stage.repository))}"
    chapters = [(chapter.command, chapter.heading.lower()) for chapter in told.chapters if chapter.command]
    landing = (f"land {stage.plan_name}", "bring the work to main; then listen to it:")
    commands = [("graph", "the plan as a tree"), *chapters, landing]
    return [(f"{program} {command}", said) for command, said in commands]


def _listen(stage: Stage) -> str:
    """Plays what the agents built; works when the plan has landed."""
    play = "-m musicbox play tunes/ode.txt tunes/ode-second.txt --output ode.wav"
    return f"cd {shlex.quote(str(stage.repository))} && PYTHONPATH=src {shlex.quote(sys.executable)} {play}"


def _program() -> str:
    """How this program is called here."""
    if shutil.which("orchestrion"):
        return "orchestrion"
    beside = Path(sys.executable).with_name("orchestrion")
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m orchestrion"


def _show_agents(page: Page, installed: Sequence[str]) -> None:
    agent = installed[0] if installed else "claude"
    page.line("")
    if installed:
        page.paragraph(f"Installed here: {', '.join(installed)}. In a repository of yours (the demo has not tried it):")
    else:
        page.paragraph(
            "None of claude, codex, gemini, qwen, opencode is on your PATH. With one of them, in a repository of yours:"
        )
    program = _program()
    commands = [
        ("init", "makes a store; your files stay as they are"),
        ("doctor", "whether the agent is there and signed in"),
        (f'run implementer "WHAT TO DO" --agent {agent}', "a task, at once"),
    ]
    page.rows([((f"{program} {command}", ""), (f"# {said}", "dim")) for command, said in commands])
