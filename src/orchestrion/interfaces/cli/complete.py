"""What a shell completes: ids with titles, names of plans; and the scripts that ask for it.

A question of a shell must never print an error or make a store: whatever goes wrong, there
is nothing to complete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from orchestrion.core.errors import OrchestrionError
from orchestrion.core.values import count
from orchestrion.interfaces.cli.call import Call
from orchestrion.interfaces.cli.output import plain
from orchestrion.interfaces.cli.table import COMPLETE_VARIABLE, NAME

if TYPE_CHECKING:
    from orchestrion.orchestrator import Orchestrator

#: So many candidates are offered; more would only scroll away.
MOST = 100
#: The other name of the program.
ALIAS = "orch"

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


def script(program: click.Command, shell: str) -> str:
    """The completion script of a shell for the program, by both of its names."""
    kind = _SHELLS[shell]
    # Not .source(): click's bash class starts a bash to ask for its version.
    return "\n".join(
        kind.source_template % kind(program, {}, name, COMPLETE_VARIABLE).source_vars() for name in (NAME, ALIAS)
    )


def tasks(call: Call, incomplete: str) -> list[CompletionItem[str]]:
    """Tasks whose id begins as typed, those that still move first."""

    def find(orchestrion: Orchestrator) -> list[CompletionItem[str]]:
        moving = ("in_progress", "ready", "review", "blocked", "failed", "retrying", "pending")
        found = [
            *orchestrion.list_tasks(states=moving, limit=MOST).items,
            *orchestrion.list_tasks(states=("completed",), limit=MOST).items,
        ]
        return [_item(f"T{task.id}", task.row["title"]) for task in found]

    return _offered(call, incomplete, find)


def runs(call: Call, incomplete: str) -> list[CompletionItem[str]]:
    """Runs whose id begins as typed, the newest first."""

    def find(orchestrion: Orchestrator) -> list[CompletionItem[str]]:
        found = orchestrion.list_runs(limit=MOST).items
        return [_item(f"R{run.id}", f"{run.row['state']} {run.row['title']}") for run in found]

    return _offered(call, incomplete, find)


def plans(call: Call, incomplete: str) -> list[CompletionItem[str]]:
    """Plans whose name begins as typed, the newest first."""

    def find(orchestrion: Orchestrator) -> list[CompletionItem[str]]:
        return [_item(plan["plan"], count(plan["tasks"], "task")) for plan in orchestrion.status()["plans"]]

    return _offered(call, incomplete, find)


def _item(value: str, meaning: Any) -> CompletionItem[str]:
    return CompletionItem(value, help=plain(meaning)[:60])


def _offered(
    call: Call, incomplete: str, find: Callable[[Orchestrator], list[CompletionItem[str]]]
) -> list[CompletionItem[str]]:
    try:
        with call.open() as orchestrion:
            found = find(orchestrion)
    except (OrchestrionError, OSError):
        return []
    typed = incomplete.upper() if incomplete[:1] in ("t", "r") and incomplete[1:].isdigit() else incomplete
    return [item for item in found if item.value.startswith(typed)][:MOST]
