"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["read", "operate", "admin"]

#: From least to most; each may do what those before it may.
ROLES: tuple[Role, ...] = ("read", "operate", "admin")


@dataclass(frozen=True)
class Caller:
    """One caller of one request."""

    #: As the journal names it: ``web:local``, ``token:ci``.
    actor: str
    role: Role
    #: Follows the request into the journal and the logs.
    correlation: str = ""

    def may(self, role: Role) -> bool:
        """Whether the caller may do what ``role`` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


#: Whoever reaches a server that listens on this machine alone.
LOCAL = Caller("web:local", "admin")
