"""What Claude Code calls us for: the groups of hooks in its settings, and which of them are ours.

A hook is ours if its command starts this program with ``hook EVENT``. Groups of others are
never touched; a group that somebody mixed keeps what is theirs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from orchestrion.ops.setup import jsonc
from orchestrion.ops.setup.clients import NAME

SECTION = "hooks"


class Wanted(NamedTuple):
    """An event that we are called for."""

    #: As Claude Code names it.
    event: str
    #: Which starts, or which tools; empty: all.
    matcher: str
    #: How long it waits for us, in seconds.
    timeout_s: int


WANTED = (
    Wanted("SessionStart", "startup|resume|compact", 60),
    Wanted("PostToolUse", "Write|Edit|MultiEdit|NotebookEdit", 30),
    # The checks of a task may take as long as they may elsewhere.
    Wanted("Stop", "", 1800),
    Wanted("TaskCompleted", "", 1800),
)


def put(text: str, program: Sequence[str]) -> str:
    """The settings with our hooks, each once. Raises Broken."""
    for wanted in WANTED:
        group = _group(wanted, program)
        ours = [number for number, found in _groups(text, wanted.event) if _is_ours(found, wanted.event)]
        if not ours:
            text = jsonc.append(text, (SECTION, wanted.event), group, comments=False)
            continue
        if _groups_at(text, wanted.event)[ours[0]] != group:
            text = jsonc.put(text, (SECTION, wanted.event, ours[0]), group, comments=False)
        for number in reversed(ours[1:]):
            text = jsonc.take_out(text, (SECTION, wanted.event, number), comments=False)
    return text


def take_out(text: str) -> str:
    """The settings without our hooks. Raises Broken."""
    for wanted in WANTED:
        for number, group in reversed(list(_groups(text, wanted.event))):
            hooks = group["hooks"]
            theirs = [hook for hook in hooks if not _calls_us(hook, wanted.event)]
            if not theirs and hooks:
                text = jsonc.take_out(text, (SECTION, wanted.event, number), comments=False)
            elif len(theirs) < len(hooks):
                text = jsonc.put(text, (SECTION, wanted.event, number, "hooks"), theirs, comments=False)
    return text


def has(text: str) -> bool:
    """Whether any hook there is ours. Raises Broken."""
    return take_out(text) != text


def made(text: str) -> tuple[tuple[str, ...], ...]:
    """What has to be made to hold our hooks."""
    if jsonc.get(text, (SECTION,), comments=False) is None:
        return ((SECTION,), *((SECTION, wanted.event) for wanted in WANTED))
    return tuple(
        (SECTION, wanted.event) for wanted in WANTED if jsonc.get(text, (SECTION, wanted.event), comments=False) is None
    )


def _group(wanted: Wanted, program: Sequence[str]) -> dict[str, Any]:
    command = f"{shlex.join(program)} hook {wanted.event}"
    hooks = [{"type": "command", "command": command, "timeout": wanted.timeout_s}]
    return {"matcher": wanted.matcher, "hooks": hooks} if wanted.matcher else {"hooks": hooks}


def _groups(text: str, event: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The groups of an event that are what groups should be, with their numbers."""
    for number, group in enumerate(_groups_at(text, event)):
        if isinstance(group, dict) and isinstance(group.get("hooks"), list):
            yield number, group


def _groups_at(text: str, event: str) -> list[Any]:
    found = jsonc.get(text, (SECTION, event), comments=False)
    return found if isinstance(found, list) else []


def _is_ours(group: dict[str, Any], event: str) -> bool:
    return bool(group["hooks"]) and all(_calls_us(hook, event) for hook in group["hooks"])


def _calls_us(hook: Any, event: str) -> bool:
    command = hook.get("command") if isinstance(hook, dict) else None
    return isinstance(command, str) and command.endswith(f" hook {event}") and NAME in command
