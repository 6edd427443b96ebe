"""Which shell commands may come in through a door that is not trusted: those that the settings name, and no other.

Whoever may write a command into a task may run it as the user of this machine. The command
line may: it is that user's own shell. A server may only if a setting says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from orchestrion.core.errors import InvalidInput

#: Fields of a task that hold one command.
_SINGLE = ("command", "setup")


def refuse(values: Mapping[str, Any], named: Collection[str]) -> None:
    """Raises InvalidInput (``commands_refused``) for a command among a task's ``values`` that no setting names."""
    commands: list[str] = [values[field] for field in _SINGLE if values.get(field)]
    refuse_all([*commands, *(check for check in values.get("checks") or () if check not in named)], named)


def refuse_all(commands: Iterable[str], named: Collection[str]) -> None:
    """Raises InvalidInput if there is any command."""
    for command in commands:
        known = f"; named checks: {', '.join(sorted(named))}" if named else ""
        raise InvalidInput(
            f"this door takes no shell commands, and {command[:100]!r} is one{known}",
            hint="name it under `checks` in the configuration, add it with the command line, or set serve.commands",
            code="commands_refused",
        )
