"""How commands are made: global options before and after the name, help with examples, subcommands by name.

The help of a command is its summary from the table, its docstring (what there is to know
besides), its options and its examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from orchestrion.core.rights import RUN_VARIABLE
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.table import BY_NAME

Value = TypeVar("Value")

#: Help is set to this width at most; longer lines are hard to read.
WIDEST = 110
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": WIDEST}


class PathType(click.ParamType):  # type: ignore[type-arg] # generic in some versions only
    """A path as it was typed, whatever bytes it has; whoever opens it says what is wrong with it."""

    name = "path"

    def __init__(self, kind: str) -> None:
        #: ``file`` or ``dir``: what a shell completes.
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self.kind)]


FILE, FOLDER = PathType("file"), PathType("dir")


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Keeps a global option on the call, wherever it stood; the last one counts."""
    call = context.ensure_object(Call)
    if value and option.name:
        setattr(call, option.name, value)


def global_options() -> list[click.Parameter]:
    """``-C``, ``--db`` and ``--json``: known before the command and after it."""
    common: dict[str, Any] = {"expose_value": False, "is_eager": True, "callback": _remember}
    return [
        click.Option(
            ["-C", "folder"],
            metavar="DIR",
            type=FOLDER,
            help="The project's folder, instead of the current one.",
            **common,
        ),
        click.Option(["--db"], metavar="URL", help="The database, instead of the project's own file.", **common),
        click.Option(["--json"], is_flag=True, help="One JSON document on stdout, errors as JSON on stderr.", **common),
    ]


class Command(click.Command):
    """A command that takes the global options too, and shows examples."""

    def __init__(self, name: str | None, *, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(name, context_settings=_SETTINGS, **settings)
        self.examples = examples
        self._global_options = global_options()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self._global_options]

    def invoke(self, ctx: click.Context) -> Any:
        _refuse_broken_text(ctx)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [one.get_help_record(ctx) for one in super().get_params(ctx) if isinstance(one, click.Option)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in own if record])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)
        formatter.write("\nThe global options -C DIR, --db URL and --json work here too.\n")


class Group(click.Group):
    """Commands that share a first word, as ``dep add``."""

    command_class = Command

    def __init__(self, name: str | None, *, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(name, context_settings=_SETTINGS, **settings)
        self.examples = examples
        self._global_options = global_options()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self._global_options]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = None if ctx.resilient_parsing else self.get_command(ctx, args[0])
        if found is None and not ctx.resilient_parsing:
            raise _unknown_command(ctx, args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(f"{self.name} {name}", one.get_short_help_str(WIDEST)) for name, one in sorted(self.commands.items())]
            )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


def command(
    name: str, *examples: str, group: Group | None = None, summary: str = ""
) -> Callable[[Callable[..., Any]], Command]:
    """Makes a function the command ``name``; one that is not in a ``group`` has its summary in the table."""
    said = sentence(summary or BY_NAME[name].summary)

    def made(function: Callable[..., Any]) -> Command:
        help_text = f"{said}\n\n{click_paragraphs(function.__doc__ or '')}".strip()
        wrapped = click.pass_obj(function)
        one = click.command(name, cls=Command, help=help_text, short_help=said, examples=examples)(wrapped)
        if group is not None:
            group.add_command(one)
        return one

    return made


def group(name: str, doc: str, *examples: str) -> Group:
    """A group of commands, with its summary from the table."""
    said = sentence(BY_NAME[name].summary)
    return Group(name, help=f"{said}\n\n{doc}".strip(), short_help=said, examples=examples, no_args_is_help=False)


def sentence(summary: str) -> str:
    """A summary of the table as a sentence of its own."""
    return f"{summary[:1].upper()}{summary[1:]}."


def click_paragraphs(doc: str) -> str:
    """A docstring as click wants it: without the indentation of the code."""
    import inspect

    return inspect.cleandoc(doc)


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """Examples stand as they are typed: never wrapped."""
    if examples:
        formatter.write("\nExamples:\n")
        formatter.write("".join(f"  {example}\n" for example in examples))


# -- parameters that several commands have ----------------------------------------------------


def task_argument(name: str = "task", *, required: bool = True, metavar: str = "T") -> Callable[[Any], Any]:
    """A task by its id."""
    shown = metavar if required else f"[{metavar}]"
    return click.argument(name, metavar=shown, required=required, shell_complete=tasks)


def run_argument() -> Callable[[Any], Any]:
    """A run by its id; left out, it is the run of the agent that calls."""
    return click.argument("run", metavar="[R]", required=False, callback=_run_or_own, shell_complete=runs)


def reason_option(meaning: str, *, required: bool = True) -> Callable[[Any], Any]:
    """Why something is decided; it is kept."""
    return click.option("--reason", metavar="TEXT", required=required, help=meaning)


def _run_or_own(context: click.Context, argument: click.Parameter, value: str | None) -> str | None:
    import os

    if value is None and not os.environ.get(RUN_VARIABLE) and not context.resilient_parsing:
        raise usage(f"which run? Name it (R31); inside a run, {RUN_VARIABLE} does.")
    return value


def split(values: Sequence[str]) -> list[str]:
    """``--after T1,T2 --after T3`` as a list."""
    return [one.strip() for value in values for one in value.split(",") if one.strip()]


# -- completion: looked up only when a shell asks -----------------------------------------------


def tasks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Ids of tasks, with their titles."""
    from orchestrion.interfaces.cli import complete

    return complete.tasks(context.ensure_object(Call), incomplete)


def runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Ids of runs, with what they are about."""
    from orchestrion.interfaces.cli import complete

    return complete.runs(context.ensure_object(Call), incomplete)


def things(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Ids of tasks, and of runs once an R is typed."""
    letter = incomplete[:1].upper()
    return runs(context, parameter, incomplete) if letter == "R" else tasks(context, parameter, incomplete)


def plans(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Names of plans."""
    from orchestrion.interfaces.cli import complete

    return complete.plans(context.ensure_object(Call), incomplete)


# -- refusals ---------------------------------------------------------------------------------


def usage(message: str) -> click.UsageError:
    """The error for options that do not go together."""
    return click.UsageError(message, ctx=click.get_current_context())


def once(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Names and their values; one that is named twice is refused, for the first would be ignored."""
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise usage(f"{name[:80]} is given twice; leave one of the two out.")
        found[name] = value
    return found


def refuse_besides(mode: str, *with_it: str) -> None:
    """Refuses what was typed besides ``mode`` and the parameters that go ``with_it``: it would be ignored."""
    from click.core import ParameterSource

    context = click.get_current_context()
    ignored = [
        one.opts[0] if isinstance(one, click.Option) else one.human_readable_name.strip("[]")
        for one in context.command.params
        if one.name not in with_it
        and context.get_parameter_source(one.name or "") is ParameterSource.COMMANDLINE
        and mode not in one.opts
    ]
    if ignored:
        raise usage(f"{mode} goes without {', '.join(ignored)}; leave one of the two out.")


class UnknownCommand(click.UsageError):
    """There is no such command; ``possibilities`` are the commands like it."""

    def __init__(self, asked: str, possibilities: Sequence[str], context: click.Context) -> None:
        super().__init__(f"there is no command {asked[:60]!r}", ctx=context)
        self.possibilities = possibilities


def _unknown_command(context: click.Context, asked: str, known: Sequence[str]) -> UnknownCommand:
    import difflib

    near = difflib.get_close_matches(asked, known, n=1, cutoff=0.5)
    return UnknownCommand(asked, [f"`{context.command_path} {name}`" for name in near], context)


def _refuse_broken_text(context: click.Context) -> None:
    """No database can hold bytes that are not UTF-8; only paths may have them."""
    from orchestrion.core.errors import InvalidInput

    for parameter in context.command.params:
        if isinstance(parameter.type, PathType):
            continue
        value = context.params.get(parameter.name or "")
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
                raise InvalidInput(
                    f"{parameter.get_error_hint(context)}: {text[:60]!r} is not text (NUL or broken UTF-8)",
                    hint="write it in UTF-8",
                    code="invalid_text",
                )
