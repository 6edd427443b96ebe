"""The agent ``command``: any shell command, judged by its exit code alone.

0 is success, 75 (EX_TEMPFAIL) asks to be tried again, anything else is a failure that
trying again would not mend.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

from orchestrion.runs.agents.agent import Verdict

EX_TEMPFAIL = 75

#: What would lead the command's own git, Python or orchestrion astray.
_PRIVATE = ("GIT_", "ORCHESTRION_", "PYTHONHOME", "VIRTUAL_ENV_PROMPT")


class CommandAgent:
    """Runs a command through ``/bin/sh``."""

    def argv(self, command: str) -> list[str]:
        """The shell with the command."""
        return ["/bin/sh", "-c", command]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """All of ours but what belongs to another repository, run or project."""
        return {key: value for key, value in inherited.items() if not key.startswith(_PRIVATE)}

    def judge(self, exit_code: int, last_words: str) -> Verdict:
        """By exit code: 0, 75, a signal, or a failure."""
        if exit_code == 0:
            return Verdict(None, last_words)
        if exit_code == EX_TEMPFAIL:
            return Verdict("agent_tempfail", last_words or "exit code 75: try again later")
        if exit_code < 0:
            return Verdict("agent_crashed", f"ended by {_signal_name(-exit_code)}")
        if exit_code in (126, 127):
            return Verdict("agent_missing", last_words or f"exit code {exit_code}: no such program")
        return Verdict("agent_failed", last_words or f"exit code {exit_code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
