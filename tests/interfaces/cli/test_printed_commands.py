"""Every command that a text names can be typed as it stands, and works where it is printed."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from place import Place

import orchestrion
from orchestrion.interfaces.cli.app import program

pytestmark = pytest.mark.long

SOURCES = Path(orchestrion.__file__).parent
DOCS = Path(__file__).parents[3] / "docs"
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
#: Commands of our own processes, and words that stand for any command.
NOT_FOR_PEOPLE = re.compile(r"orchestrion (supervise|COMMAND|\(\[a-z\])")
#: What an expression in a text becomes -> what it may look like.
FILLED = (
    (r"plan|chosen", "default"),
    (r"run", "R1"),
    (r"gate", "G1"),
    (r"slot|limit", "global"),
    (r"here|onto", "main"),
)


def filled(expression: str) -> str:
    """Something that could stand in a text in place of an expression."""
    return next((word for pattern, word in FILLED if re.search(pattern, expression)), "T1")


def texts(file: Path) -> Iterator[str]:
    """Every string of a module, with something in place of its expressions."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else filled(ast.unparse(part))
                for part in node.values
                if isinstance(part, ast.Constant | ast.FormattedValue)
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def quoted(text: str) -> Iterator[str]:
    """The commands between backticks."""
    for found in re.findall(r"`(orchestrion [^`]+)`", text):
        command = " ".join(found.split()).rstrip(".")
        if not NOT_FOR_PEOPLE.match(command) and "..." not in command:
            yield command


def typed(command: str) -> None:
    """Refuses, as the program does, what is no command; a name alone is that of a command."""
    words = shlex.split(command.replace("{0}", "T1"), comments=True)[1:]
    context = program.make_context("orchestrion", words)
    found, one, rest = program.resolve_command(context, [*context._protected_args, *context.args])
    while isinstance(one, click.Group) and rest:
        context = one.make_context(found, rest, parent=context)
        found, one, rest = one.resolve_command(context, [*context._protected_args, *context.args])
    assert one is not None
    if rest:  # else only its name is mentioned
        one.make_context(found, rest, parent=context)


def test_commands_in_texts_of_the_program_can_be_typed() -> None:
    found = {command for file in SOURCES.rglob("*.py") for text in texts(file) for command in quoted(text)}
    assert len(found) > 60
    refused = []
    for command in sorted(found):
        try:
            typed(command)
        except (click.ClickException, ValueError) as error:
            refused.append(f"{command}: {error}")
    assert not refused


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_the_docs_can_be_typed(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRION_RUN", "store/R1")  # some are for agents
    text = page.read_text(encoding="utf-8")
    commands = [*quoted(text), *re.findall(r"^\$ (orchestrion .*)$", text, re.MULTILINE)]
    for command in commands:
        typed(re.split(r" [|<>]", command)[0])


def test_the_first_steps_of_the_help(project: Place) -> None:
    (project.root / "plan.yaml").write_text("plan: first\ntasks:\n  - title: A\n    run: echo a > new.txt\n")
    project.git("add", ".")
    project.git("commit", "-qm", "plan")
    steps = re.findall(r"^  (orchestrion .*?)  ", project("--help").out, re.MULTILINE)
    assert [step.split()[1] for step in steps][-3:] == ["apply", "work", "land"]
    for step in steps:
        project(*shlex.split(step)[1:])
    assert (project.root / "new.txt").exists()


#: Tasks in every state that asks for somebody.
SITUATION = (
    ("add", "fails", "--run", "exit 3"),
    ("add", "behind it", "--run", "true", "--after", "T1"),
    ("add", "asks", "--run", "orchestrion done --summary 'look at it' --next needs_revision; echo a > b.txt"),
    ("add", "wonders", "--run", "orchestrion done --summary 'which colour?' --next blocked"),
    ("add", "to be allowed", "--run", "true"),
    ("gate", "add", "T5", "--approval", "Ship it?"),
    ("add", "by nobody"),
    ("add", "one line", "--run", "sleep 0.5; echo one > a.txt"),
    ("add", "the same line", "--run", "sleep 0.5; echo two > a.txt"),
)


@pytest.fixture
def situation(project: Place) -> Place:
    for step in SITUATION:
        project(*step)
    assert project.process("work", "--slots", "8", "--drain").code == 8
    return project


def test_commands_that_are_printed_work_there_and_then(situation: Place, tmp_path: Path) -> None:
    tasks = [task["id"] for task in situation.json("list")["tasks"]]
    runs = [run["id"] for run in situation.json("runs")["runs"]]
    looks = [("status",), ("work", "--drain"), ("list",), ("ready",)]
    looks += [(look, task) for task in tasks for look in ("why", "show")]
    looks += [(look, run) for run in runs for look in ("show", "log", "debug")]
    said = {look: situation(*look, code=None).out for look in looks}
    commands = {command for text in said.values() for command in quoted(text)}
    assert {command.split()[1] for command in commands} >= {"why", "retry", "show", "gate", "update"}
    for number, command in enumerate(sorted(commands)):
        copy = Place(tmp_path / f"copy-{number}", situation.environ)
        shutil.copytree(situation.root, copy.root, symlinks=True)
        words = {"TEXT": "because", "COMMAND": "true"}
        copy(*[words.get(word, word) for word in shlex.split(command)[1:]])


def test_commands_in_templates_of_the_page_can_be_typed() -> None:
    files = [*SOURCES.rglob("*.html"), *(SOURCES / "interfaces/page/assets").glob("page.js")]
    text = " ".join(re.sub(r"\{\{.*?\}\}", "R1", file.read_text(encoding="utf-8")) for file in files)
    found = {re.split(r"[<`]", command)[0].strip() for command in re.findall(r"\borchestrion [a-z][^;.,]*", text)}
    assert {"orchestrion log R1", "orchestrion decide"} <= found
    for command in sorted(found):
        typed(command)
