"""The program as a whole: help, global options, loading of commands, suggestions, pipes."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from place import Place

from orchestrion import __version__
from orchestrion.interfaces.cli.app import program
from orchestrion.interfaces.cli.command import Command
from orchestrion.interfaces.cli.table import BY_NAME, SECTIONS

#: Commands that CONTRACT promises and that have a use case.
PROMISED = [
    "init", "add", "apply", "list", "ready", "show", "why", "graph", "claim", "heartbeat", "release", "done", "fail",
    "retry", "reopen", "cancel", "approve", "reject", "archive", "delete", "move", "dep", "gate", "update", "work",
    "status", "runs", "log", "diff", "kill", "pause", "resume", "slots", "land", "artifact", "roles", "config",
    "events", "cleanup", "completion", "demo", "migrate", "stats", "correct", "message", "files", "run", "doctor",
    "prime", "context", "handoff", "decide", "decisions", "verify", "search", "sessions", "health", "maintain",
    "mcp", "setup", "hook", "serve", "up", "token", "alerts", "permissions", "debug", "open", "take-over", "rebuild",
]  # fmt: skip
#: What nobody needs to list ready tasks: importing one of these would slow down every call of an agent.
HEAVY = [
    "orchestrion.scheduler.create", "orchestrion.scheduler.shape",
    "rich", "yaml", "psutil", "asyncio", "psycopg", "importlib.metadata", "subprocess", "shutil", "hashlib", "socket",
    "ssl", "email", "logging", "difflib", "orchestrion.orchestrator.whole", "orchestrion.orchestrator.runs",
    "orchestrion.memory", "orchestrion.plans", "orchestrion.runs", "orchestrion.worker", "orchestrion.demo",
    "orchestrion.interfaces.cli.runs", "orchestrion.interfaces.cli.plans", "orchestrion.interfaces.cli.claims",
    "orchestrion.interfaces.cli.project", "orchestrion.interfaces.cli.progress", "click.shell_completion",
    "concurrent", "tempfile", "selectors",
]  # fmt: skip


def every_command() -> list[tuple[str, click.Command]]:
    """All commands with their full names, subcommands included."""
    context = click.Context(program, info_name="orchestrion")
    found: list[tuple[str, click.Command]] = []
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        assert command is not None, name
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {below}", one) for below, one in command.commands.items()]
    return found


def test_every_promised_command_exists() -> None:
    assert sorted(BY_NAME) == sorted(PROMISED)
    assert {name for name, _ in every_command()} >= {
        *("dep add", "dep rm", "dep waive", "gate add", "gate open", "config show")
    }


@pytest.mark.parametrize(("name", "command"), every_command(), ids=[name for name, _ in every_command()])
def test_every_command_explains_itself_with_an_example(name: str, command: click.Command, bare: Place) -> None:
    assert command.name == name.split()[-1]
    text = bare(*name.split(), "--help").out
    assert text.startswith(f"Usage: orchestrion {name} ")
    assert re.search(rf"Examples:\n  .*orchestrion {name.split()[0]}", text)
    for option in command.params:
        if isinstance(command, Command) and isinstance(option, click.Option):
            assert option.help, f"{name} {option.name} says nothing"


def test_every_example_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRION_RUN", "R1")
    for name, command in every_command():
        for example in getattr(command, "examples", ()):
            words = shlex.split(
                example.split("|")[-1] if "orchestrion" in example.split("|")[-1] else example.split("|")[0]
            )
            if words[0] != "orchestrion":
                continue
            words = words[1 : next((place for place, word in enumerate(words) if word[0] in "<>"), None)]
            context = program.make_context("orchestrion", words)
            found, one, rest = program.resolve_command(context, [*context._protected_args, *context.args])
            assert one is not None, (name, example)
            one.make_context(found, rest, parent=context)


def test_help_groups_all_commands(bare: Place) -> None:
    text = bare("--help").out
    places = [text.index(f"\n{section.title}:\n") for section in SECTIONS]
    assert places == sorted(places)
    for name in BY_NAME:
        assert re.search(rf"^  {name} +\S", text, re.MULTILINE), name
    assert "-C DIR" in text
    assert "--json" in text
    assert bare().out == text


def test_help_imports_no_command(bare: Place) -> None:
    code = (
        "import sys; from orchestrion.interfaces.cli.app import run; run(['--help']);"
        "print([m for m in sys.modules if m.startswith('orchestrion.') and m.count('.') > 2 or 'sqlite' in m])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=bare.environ, text=True
    ).stdout
    loaded = out.splitlines()[-1]
    assert "cli.table" in loaded
    assert "cli.tasks" not in loaded
    assert "sqlite" not in loaded


def test_ready_imports_only_what_it_needs(project: Place) -> None:
    project("add", "one")
    code = "import sys; from orchestrion.interfaces.cli.app import run; assert run(['ready']) == 0; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=project.environ, text=True, cwd=project.root
    )
    listed, modules = done.stdout.splitlines()
    assert listed.startswith("T1")
    # What this interpreter brings along by itself (site, .pth files) is not ours.
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, check=True)
    ours = set(modules.split()) - set(bare.stdout.decode().split())
    assert "orchestrion.orchestrator.finding" in ours
    heavy = [module for module in sorted(ours) if any(module == h or module.startswith(f"{h}.") for h in HEAVY)]
    assert heavy == []
    assert len(ours) < 139


def test_version(bare: Place) -> None:
    assert bare("--version").out == f"orchestrion {__version__}\n"
    assert bare("-C", "/", "--version").out == f"orchestrion {__version__}\n"
    assert bare.process("--version").out == f"orchestrion {__version__}\n"


def test_global_options_stand_before_and_after(project: Place, bare: Place) -> None:
    project("add", "here")
    root = str(project.root)
    assert bare("-C", root, "--json", "list").json["total"] == 1
    assert bare("list", "-C", root, "--json").json["total"] == 1
    assert bare("--json", "-C", root, "dep", "add", "T1", "T1", code=6).error["code"] == "cycle"
    assert bare("dep", "add", "T1", "T1", "--json", "-C", root, code=6).error["code"] == "cycle"
    other = str(project.root / "other.db")
    assert project("--db", other, "add", "there", "--json").json["id"] == "T1"
    assert project("list", "--db", "other.db", "--json").json["tasks"][0]["title"] == "there"
    assert project("list", "--json").json["tasks"][0]["title"] == "here"


def test_the_environment_names_the_project(project: Place, bare: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRION_PROJECT", str(project.root))
    assert bare("list", "--json").json["total"] == 0


def test_the_near_command_is_suggested(bare: Place) -> None:
    answer = bare("lst", code=2)
    assert answer.out == ""
    assert "there is no command 'lst'" in answer.err
    assert "did you mean `orchestrion list`?" in answer.err
    assert "orchestrion dep add" in bare("dep", "ad", "T1", "T2", code=2).err
    assert "did you mean" not in bare("qqqqqqqqq", code=2).err


def test_the_near_option_is_suggested(bare: Place) -> None:
    answer = bare("list", "--jsn", code=2)
    assert "did you mean --json? `orchestrion list --help`" in answer.err
    assert answer.err.count("--json") == 1


def test_usage_errors_are_json_too(bare: Place) -> None:
    for arguments in (
        ["add"],
        ["add", "x", "--nope"],
        ["nope"],
        ["add", "x", "--priority", "high"],
        ["dep"],
        ["move", "T1"],
    ):
        answer = bare(*arguments, "--json", code=2)
        assert answer.out == ""
        assert answer.error["code"] == "usage"
        assert "--help" in answer.error["hint"]
        assert bare("--json", *arguments, code=2).error == answer.error


def test_after_two_dashes_nothing_is_an_option(project: Place) -> None:
    answer = project("add", "--", "--json")
    assert answer.out == "T1 is ready: --json\n"


def test_a_reader_that_has_read_enough_is_no_error(project: Place) -> None:
    for number in range(40):
        project("add", f"{number} " + "x" * 240)
    with project.running("list", "--limit", "1000", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_a_full_disk_is_said(project: Place) -> None:
    with Path("/dev/full").open("wb") as full:
        answer = project.process("list", "--json", stdout=full)
    assert answer.code == 7
    assert answer.error["code"] == "disk_full"


def test_no_encoding_can_break_the_output(project: Place) -> None:
    project("add", "Überschrift ✓ 日本")
    poor = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    place = Place(project.root, {**project.environ, **poor})
    answer = place.process("graph")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "* T1 \\xdcberschrift + \\u65e5\\u672c\n"
    assert place.process("list", "--json").json["tasks"][0]["title"] == "Überschrift ✓ 日本"
    for locale in ({"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}):
        answer = Place(project.root, {**project.environ, **locale}).process("list", "--json")
        assert answer.json["tasks"][0]["title"] == "Überschrift ✓ 日本"


def test_ctrl_c_ends_quietly(project: Place) -> None:
    project("add", "x")
    with project.running("runs", "--watch") as process:
        project("claim")
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"R1 T1 running - -\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_all_json_is_one_document(project: Place) -> None:
    project("add", "x")
    for arguments in (
        ["list"],
        ["ready"],
        ["show", "T1"],
        ["why", "T1"],
        ["graph"],
        ["status"],
        ["runs"],
        ["slots"],
        ["roles"],
    ):
        assert isinstance(json.loads(project(*arguments, "--json").out), dict), arguments


@pytest.mark.parametrize(
    "words",
    [
        "sessions S1 --end --resume",
        "sessions S1 --summary x",
        "sessions S1 --start y",
        "sessions S1 --clean-up all --apply",
        "sessions --start y --limit 3",
        "sessions --clean-up all --all",
        "sessions --apply",
        "sessions --older-than 3",
        "handoff --limit 5 --cursor H1",
        "handoff --last --limit 5",
        "handoff --list --text x",
        "handoff --last --list",
        "decisions D1 --search x",
        "decisions --export there --impact high",
        "files T1 --overlaps",
        "stats --levels --agent claude",
        "graph --json --format mermaid",
        "maintain --history --level full_audit",
        "maintain --history --scope full_project",
        "maintain --text x",
        "maintain --session S1 --scope full_project",
        "health --ready --strict",
        "mcp --port 7",
        "setup claude --undo --tools full",
        "move T1 --top --reopen",
        "gate open G1 --name x",
        "add second --reopen",
        "claim T1 --role tester",
        "claim T1 --tag zz",
        "correct R1 turns=5 turns=6 --reason x",
        "slots global=1 global=2",
    ],
)
def test_what_would_be_ignored_beside_another_option_is_refused(project: Place, words: str) -> None:
    project("add", "first")
    project("sessions", "--start", "mine")
    before = project("events").out
    assert project(*words.split(), "--json", code=2).error["code"] == "usage"
    assert project("events").out == before
    assert project.json("handoff", "--list")["handoffs"] == []
