"""Writes the reference page of the command line from the commands themselves.

    python -m orchestrion.interfaces.cli.reference > cli.md

Nothing on the page is written by hand: every line comes from the table of commands, from
their options, docstrings and examples, or from the table of exit codes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from orchestrion.interfaces.cli.app import program
from orchestrion.interfaces.cli.errors import MEANINGS
from orchestrion.interfaces.cli.table import NAME, SECTIONS

#: Help on the page is set to this width.
_WIDTH = 100
_INTRO = """\
# Command line

`orchestrion` has the short name `orch`. Answers go to stdout, everything else to stderr. With `--json`, before or
after the command, the answer is one JSON document (`log`, `events` and `runs --watch`: one on each line) and an error
is `{"error": {"code", "message", "hint", "details"}}` on stderr. `orchestrion completion bash` (or `zsh`, `fish`)
prints the script that completes commands, ids and plans.

"""


def page() -> str:
    """The page as Markdown."""
    return "".join([_INTRO, *_exit_codes(), *_global_options(), *_sections()])


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n\n| code | meaning |\n| --- | --- |\n"
    for code, meaning in MEANINGS.items():
        yield f"| {code} | {meaning} |\n"


def _global_options() -> Iterator[str]:
    yield "\n## Without a command\n\n"
    yield _block(program.get_help(_context(program, NAME, None)))


def _sections() -> Iterator[str]:
    top = _context(program, NAME, None)
    for section in SECTIONS:
        yield f"\n## {section.title}\n"
        for entry in section.commands:
            found = program.get_command(top, entry.name)
            if found is not None:
                yield from _command(found, _context(found, entry.name, top))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"\n### {context.command_path}\n\n"
    yield _block(command.get_help(context))
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            below = command.commands[name]
            yield from _command(below, _context(below, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings = {**command.context_settings, "terminal_width": _WIDTH}
    return click.Context(command, info_name=name, parent=parent, **settings)


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(page())
