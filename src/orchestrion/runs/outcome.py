"""How the sequence of a run is left before its end: it failed, it is over for others, or a person must look."""

from __future__ import annotations

from orchestrion.core.states import RunState


class Failed(Exception):
    """The attempt failed: how, by code, and in words."""

    def __init__(
        self,
        code: str,
        text: str,
        state: RunState = RunState.FAILED,
        *,
        transient: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.state = state
        #: When the service behind the agent wants to be asked again.
        self.retry_after_s = retry_after_s
        #: Whether it is tried again; None: as the taxonomy says.
        self.transient = transient


class Over(Exception):
    """The run is over for others already, or must be: its agent has to stop now."""


class HandedIn(Exception):
    """The work waits for a person."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
