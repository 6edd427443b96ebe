"""The seam: what an agent program must tell us to be run.

An agent is a command line and environment to start, and a judgement of how it ended. It
holds no state and touches no database; the supervisor starts, watches and ends the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Verdict:
    """How an agent's process ended."""

    #: None: it did what was asked. Else a code of the failure taxonomy.
    code: str | None
    #: In words: its last ones, or what ended it.
    text: str


class Agent(Protocol):
    """One kind of agent program."""

    def argv(self, command: str) -> Sequence[str]:
        """The command line of one go."""
        ...

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What the process gets of our own environment."""
        ...

    def judge(self, exit_code: int, last_words: str) -> Verdict:
        """Whether it did what was asked; a negative ``exit_code`` is the number of a signal."""
        ...
