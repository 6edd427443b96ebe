"""How a route gets its caller's use cases, and does its work in a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request

from orchestrion.core.config import nearest
from orchestrion.core.errors import InvalidInput
from orchestrion.core.rights import Caller
from orchestrion.interfaces.web.house import House
from orchestrion.orchestrator import Orchestrator


class Desk:
    """One request: who asks, and the project on their behalf."""

    def __init__(self, request: Request) -> None:
        self.house: House = request.app.state.house
        self.caller: Caller = request.state.caller
        self.cases: Orchestrator = self.house.on_behalf_of(self.caller)

    async def do(self, work: Callable[[Orchestrator], Any]) -> Any:
        """What ``work`` does with the use cases, in a thread."""
        return await self.house.do(lambda: work(self.cases))


# Not plain functions: those would each be given a thread of the framework's own.
async def _desk(request: Request) -> Desk:
    _refuse_unknown(request)
    await _refuse_body(request)
    return Desk(request)


def _refuse_unknown(request: Request) -> None:
    """Refuses a parameter that the route does not have: without a filter that was meant, all would be listed."""
    known = [one.alias for one in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            near = nearest(name, known)
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InvalidInput(
                f"{request.method} {request.url.path[:200]} has no parameter {name[:60]!r}",
                hint=f"did you mean {near}? {has}" if near else has,
                code="invalid_parameters",
                known=known,
            )


async def _refuse_body(request: Request) -> None:
    """Refuses a body where the route has none: what was meant by it would not be done."""
    if request.scope["route"].body_field is None and (await request.body()).strip() not in _NOTHING:
        raise InvalidInput(
            f"{request.method} {request.url.path[:200]} takes no body, and one came",
            hint="leave it out; GET /openapi.json says what each route takes",
            code="invalid_parameters",
        )


#: Bodies that say nothing.
_NOTHING = (b"", b"{}", b"null")
At = Annotated[Desk, Depends(_desk)]
