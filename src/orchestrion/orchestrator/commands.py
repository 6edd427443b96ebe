"""Which shell commands of tasks a caller may bring in who may not bring any: those that the settings name.

Whoever may write a command into a task may run it as the user of this machine. The command
line may: it is that user's own shell. Other doors may only if a setting says so, runs never.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrion.core.config import Config
from orchestrion.core.errors import InvalidInput
from orchestrion.core.rights import Caller, not_for_runs

#: Fields of a task that hold one command.
_SINGLE = ("command", "setup")


def taken_by_servers(config: Config) -> bool:
    """Whether MCP, REST and the page take any command. Both names of the setting count."""
    return bool(config["doors.commands"] or config["serve.commands"])


def refuse(values: Mapping[str, Any], named_checks: Callable[[], Mapping[str, str]], caller: Caller) -> None:
    """Raises InvalidInput (``commands_refused``, ``not_for_runs``) for a command among a task's ``values``.

    Checks that the settings name may come from anybody.
    """
    wanted = values.get("checks") or ()
    commands = [values[field] for field in _SINGLE if values.get(field)]
    if caller.may_run_commands or not (commands or wanted):
        return
    named = sorted(named_checks())
    commands += [check for check in wanted if check not in named]
    if not commands:
        return
    if caller.run:
        raise not_for_runs(caller.run, f"a task with the shell command {commands[0][:100]!r}", allowed=named)
    known = f"; named checks: {', '.join(named)}" if named and wanted else ""
    name_it = "" if any(values.get(field) for field in _SINGLE) else "name it under `checks` in the configuration, "
    raise InvalidInput(
        f"this door takes no shell commands, and {commands[0][:100]!r} is one{known}",
        hint=f"{name_it}add it with the command line, or set doors.commands",
        code="commands_refused",
        allowed=named,
    )
