"""The program ``orchestrion`` as click sees it: sections of commands, each loaded when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from orchestrion.interfaces.cli.command import Group, global_options, sentence
from orchestrion.interfaces.cli.table import BY_NAME, COMPLETE_VARIABLE, NAME, SECTIONS

_HELP = "An orchestra of coding agents that never loses its place."
_FIRST_STEPS = """
First steps:
  orchestrion demo                        watch a plan become merged work
  orchestrion init                        make your repository a project
  orchestrion apply plan.yaml             give it a plan
  orchestrion work --drain                have it done
  orchestrion land                        bring the result to your branch

`orchestrion COMMAND --help` explains a command and shows examples.
"""


class Program(Group):
    """The commands of the table; a command's module is imported when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(BY_NAME)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = BY_NAME.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"orchestrion.interfaces.cli.{entry.module}")
        found: click.Command = module.COMMANDS[cmd_name]
        return found

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[-C DIR] [--db URL] [--json] COMMAND ...")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, BY_NAME))
        for section in SECTIONS:
            with formatter.section(section.title):
                formatter.write_dl(
                    [(entry.name.ljust(widest), sentence(entry.summary)[:-1]) for entry in section.commands]
                )
        with formatter.section("Global options, before or after the command"):
            options = [*global_options(), *click.Group.get_params(self, ctx)]
            formatter.write_dl([record for option in options if (record := option.get_help_record(ctx))])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(_FIRST_STEPS)


@click.pass_context
def _greet(context: click.Context) -> None:
    """Called without a command, the program explains itself."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _version(context: click.Context, option: click.Parameter, value: bool) -> None:
    from orchestrion import __version__

    if value and not context.resilient_parsing:
        click.echo(f"orchestrion {__version__}")
        context.exit()


program = Program(
    NAME,
    help=_HELP,
    callback=_greet,
    invoke_without_command=True,
    params=[
        click.Option(
            ["--version", "-V"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Say the version and end.",
        )
    ],
)


def run(arguments: Sequence[str]) -> int:
    """Runs the command line ``arguments``. Returns the exit code; every error has been said."""
    from orchestrion.interfaces.cli import errors, output

    output.prepare_streams()
    try:
        code = _answered(arguments)
    except BrokenPipeError:
        # A reader that has read enough (`| head`) is no error.
        code = errors.OK
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # of stdout it was said already, and nobody hears what stderr has
        output.drop()
    return code


def _answered(arguments: Sequence[str]) -> int:
    """The call itself, with every error but a reader's put into words."""
    from orchestrion.interfaces.cli import errors, output

    wants_json = _wants_json(arguments)
    try:
        result = _run(list(arguments), os.environ.get(COMPLETE_VARIABLE))
        output.flush()
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return errors.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where an error can still be put into words
        known = errors.foreseen(error)
        if known is None:
            return errors.show_unforeseen(error, wants_json, os.environ)
        return errors.show(known, wants_json)
    return result if isinstance(result, int) else errors.OK


def _run(arguments: list[str], completion: str | None) -> object:
    # Not click's own main(): it ends with 1 when a reader has read enough.
    if completion:
        from click.shell_completion import shell_complete

        return shell_complete(program, {}, NAME, COMPLETE_VARIABLE, completion)
    try:
        with program.make_context(NAME, arguments) as context:
            return program.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether errors are for a program; asked before anything is parsed, for parsing may fail."""
    before = list(arguments)[: list(arguments).index("--")] if "--" in arguments else arguments
    return "--json" in before
