"""What the page needs of the server it is part of, and how a request fails.

The server gives the page its project and threads (``House``) and says in
``request.state.caller`` who asks. A refusal of a use case becomes a note on the page, with what
to do; it never becomes a stack trace.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from orchestrion.core.config import Config
from orchestrion.core.errors import (
    Conflict,
    EnvironmentProblem,
    InvalidInput,
    NotFound,
    NothingReady,
    OrchestrionError,
    StoreProblem,
)
from orchestrion.interfaces.page import sheet
from orchestrion.orchestrator import Orchestrator

Result = TypeVar("Result")

#: The first class that fits says which HTTP status a refusal has.
_STATUSES: tuple[tuple[type[OrchestrionError], int], ...] = (
    (NotFound, 404),
    (NothingReady, 404),
    (InvalidInput, 422),
    (Conflict, 409),
    (StoreProblem, 503),
    (EnvironmentProblem, 503),
)
#: A form has at most so many fields.
_MOST_FIELDS = 40


class Caller(Protocol):
    """Who asks."""

    @property
    def actor(self) -> str:
        """How what they change is signed."""
        ...

    @property
    def role(self) -> str:
        """``read``, ``operate`` or ``admin``."""
        ...


class House(Protocol):
    """One server's project and threads."""

    @property
    def cases(self) -> Orchestrator:
        """The use cases, signed as the server."""
        ...

    @property
    def config(self) -> Config:
        """The settings in force."""
        ...

    @property
    def environ(self) -> Mapping[str, str]:
        """The server's environment."""
        ...

    async def do(self, work: Callable[[], Result]) -> Result:
        """Does work that waits for disks or databases, in a thread."""
        ...

    def on_behalf_of(self, caller: Any) -> Orchestrator:
        """The use cases, signed for a caller."""
        ...


class PageRoute(APIRoute):
    """A route whose refusals are shown to people."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with refusals turned into pages or notes."""
        handle = super().get_route_handler()

        async def shown(request: Request) -> Response:
            try:
                return await handle(request)
            except OrchestrionError as problem:
                return refusal(request, problem)

        return shown


def refusal(request: Request, problem: OrchestrionError) -> Response:
    """What was refused and what to do: a note for an action, a page for a view."""
    status = next((status for kind, status in _STATUSES if isinstance(problem, kind)), 500)
    if request.method == "POST":
        return sheet.filled(request, "note.html", status=status, problem=problem, said="")
    return sheet.filled(request, "refused.html", status=status, problem=problem, view="")


def caller_of(request: Request) -> Caller:
    """Who asks, as the server's security found it."""
    return request.state.caller  # type: ignore[no-any-return]


async def form_of(request: Request) -> dict[str, str]:
    """Fields of a form, stripped; of several values of one name the last counts. Raises InvalidInput."""
    body = await request.body()
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise InvalidInput(
            "the form is not readable", hint="send application/x-www-form-urlencoded in UTF-8", code="invalid_form"
        ) from error
    return {name: values[-1].strip() for name, values in fields.items()}
