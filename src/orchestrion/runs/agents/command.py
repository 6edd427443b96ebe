"""The agent ``command``: any shell command, judged by its exit code alone.

0 is success, 75 (EX_TEMPFAIL) asks to be tried again; a program that crashed, itself or below
a shell that only says 128 and the signal's number, is tried again too. Anything else is a
failure that trying again would not mend.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrion.runs.agents.agent import Assignment, Event, Health, Verdict, signalled

EX_TEMPFAIL = 75
#: Signals by which programs crash.
_CRASHES = (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV)
_SHELL = "/bin/sh"

#: What would lead the command's own git, Python or orchestrion astray.
_PRIVATE = ("GIT_", "ORCHESTRION_", "PYTHONHOME", "VIRTUAL_ENV_PROMPT")


class CommandAgent:
    """Runs a command through ``/bin/sh``."""

    resumes = False

    def begin(self, assignment: Assignment) -> CommandDialogue:
        """A new go of the task's command."""
        return CommandDialogue(assignment)

    def examine(self, environ: Mapping[str, str], program: Sequence[str] = ()) -> Health:
        """Always there: every system that we run on has this shell."""
        return Health(_SHELL, signed_in=True)


class CommandDialogue:
    """One go: the command says nothing that we would understand, and hears nothing."""

    def __init__(self, assignment: Assignment) -> None:
        self._command = assignment.command

    def argv(self) -> list[str]:
        """The shell with the command."""
        return [_SHELL, "-c", self._command]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """All of ours that a shell command may have."""
        return shell_environment(inherited)

    def opening(self) -> None:
        """Nothing: it gets no input."""

    def hear(self, line: str) -> list[Event]:
        """Nothing: its lines are its own."""
        return []

    def say(self, text: str) -> None:
        """It cannot hear."""

    def is_over(self) -> bool:
        """It has no input to be closed."""
        return False

    def judge(self, exit_code: int, last_words: str) -> Verdict:
        """By exit code: 0, 75, a signal, or a failure."""
        if exit_code == 0:
            return Verdict(None, last_words)
        if exit_code == EX_TEMPFAIL:
            return Verdict("agent_tempfail", last_words or "exit code 75: try again later")
        if crashed := signalled(128 - exit_code if exit_code - 128 in _CRASHES else exit_code):
            return crashed
        if exit_code in (126, 127):
            return Verdict("agent_missing", last_words or f"exit code {exit_code}: no such program")
        return Verdict("agent_failed", last_words or f"exit code {exit_code}")


def reaching_us(environment: dict[str, str]) -> dict[str, str]:
    """An agent can call back: ``orchestrion`` is found, behind everything else on its path."""
    path = environment.get("PATH", os.defpath)
    if not any(os.access(f"{folder}/orchestrion", os.X_OK) for folder in path.split(os.pathsep)):
        environment["PATH"] = f"{path}{os.pathsep}{Path(sys.executable).parent}"
    return environment


def shell_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """All of an environment but what belongs to another repository, run or project: for commands and checks."""
    return {key: value for key, value in inherited.items() if not key.startswith(_PRIVATE)}
