"""A project whose use cases end as soon as their caller is let in: what is left is who is."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.core.errors import Conflict, OrchestrionError
from orchestrion.core.rights import RIGHTS, Caller

#: Use cases that doors call to find out who and what there is; they do what they always do.
_REAL = frozenset(
    {"follow_link", "holder_of", "is_key", "last_event", "log_in", "log_out", "make_link", "provide_key", "visitor_of"}
)


class LetIn(Conflict):
    """A use case was reached; ``details["action"]`` says which."""

    code = "let_in"


def _probed(use_case: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(use_case)
    def reached(self: Any, *args: Any, **given: Any) -> Any:
        raise LetIn(f"{use_case.__name__} was reached", action=use_case.__name__)

    return reached


def _of(whole: type[Any]) -> dict[str, Any]:
    found = {name: getattr(whole, name) for name in dir(whole) if name in RIGHTS and name not in _REAL}
    return {name: _probed(one.__wrapped__) for name, one in found.items() if hasattr(one, "__wrapped__")}


#: ``Orchestrator`` whose use cases are only judged.
Probe: type[Orchestrator] = type("Probe", (Orchestrator,), _of(Orchestrator))


def outcome(act: Callable[[], Any]) -> str:
    """``let_in``, or the code by which a call was refused."""
    with pytest.raises(OrchestrionError) as refused:
        act()
    return refused.value.code


def expected(caller: Caller, action: str, *, own: bool = False, adds: bool = False) -> str:
    """What the table says about a caller and a use case; ``own``: it is about the caller's run."""
    right = RIGHTS[action]
    if not caller.has(right.role):
        if caller.elsewhere:
            return "not_for_runs"
        return "key_needed" if caller.actor == "web:keyless" else "forbidden"
    free = {"free": True, "own": own, "adds": adds, "closed": False}[right.in_run]
    return "let_in" if caller.run is None or free else "not_for_runs"
