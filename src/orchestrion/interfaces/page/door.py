"""How people's requests come in, and how one that is refused is shown.

The server that the page is part of says in ``request.state.caller`` who asks. A refusal of a
use case becomes a note on the page, with what to do and the status that programs would get;
it never becomes a stack trace.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from orchestrion.core.errors import InvalidInput, OrchestrionError
from orchestrion.core.rights import Caller
from orchestrion.interfaces.page import sheet
from orchestrion.interfaces.page.wording import here
from orchestrion.interfaces.web import problems

#: A form has at most so many fields.
_MOST_FIELDS = 40


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
    told = told_of(request, problem)
    if request.method == "POST":
        return sheet.filled(request, "note.html", status=told["status"], problem=told, said="")
    return sheet.filled(request, "refused.html", status=told["status"], problem=told, view="")


def told_of(request: Request, problem: OrchestrionError) -> dict[str, Any]:
    """An error as problem details, in the page's words."""
    told = problems.as_problem(problem, problems.status_of(problem), caller_of(request).correlation or "")
    return told | {"detail": here(told["detail"]), "hint": here(told["hint"])}


def caller_of(request: Request) -> Caller:
    """Who asks, as the server's security found it."""
    return request.state.caller  # type: ignore[no-any-return]


async def form_of(request: Request) -> dict[str, str]:
    """Fields of a form, stripped, lines ended as they were written; of several values of one name the last counts.

    Raises InvalidInput.
    """
    body = await request.body()
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise InvalidInput(
            "the form is not readable", hint="send application/x-www-form-urlencoded in UTF-8", code="invalid_form"
        ) from error
    return {name: values[-1].replace("\r\n", "\n").strip() for name, values in fields.items()}
