"""What a person should know of a run's result, beside its commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Remark:
    """One thing about the work of a run."""

    #: Stable name; the codes that ask for a decision are in the failure taxonomy.
    code: str
    #: In a sentence or two, with what can be done about it.
    message: str
    #: Files it is about, from the top of the repository.
    paths: tuple[str, ...] = ()
    #: Refs of the project under which something is kept.
    refs: tuple[str, ...] = ()
    #: Whether the work waits for a person because of it.
    asks: bool = False
    #: Commands that help, fit for a shell, to be given in the project's folder.
    commands: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As it is stored and shown."""
        return {
            "code": self.code,
            "message": self.message,
            "paths": list(self.paths),
            "refs": list(self.refs),
            "asks": self.asks,
            "commands": list(self.commands),
        }
