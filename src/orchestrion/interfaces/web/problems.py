"""Errors at this door: one table from their class to the HTTP status, one shape (RFC 9457 problem details).

``code`` is ours and stable, ``hint`` says what to do. Nobody is shown a stack trace: an error
that we did not foresee is kept in a file on the server's machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from orchestrion.core.errors import (
    Backpressure,
    Conflict,
    EnvironmentProblem,
    InvalidInput,
    NotFound,
    NothingReady,
    OrchestrionError,
)
from orchestrion.core.masking import masked_value
from orchestrion.interfaces.web import advice

MEDIA = "application/problem+json"

#: class of an error -> status; a subclass that is not named has its parent's.
STATUSES: dict[type[Exception], int] = {
    NotFound: 404,
    NothingReady: 409,
    Backpressure: 429,
    Conflict: 409,
    InvalidInput: 422,
    EnvironmentProblem: 503,
    OrchestrionError: 500,
}
#: code -> status, where the code says more than the class.
_BY_CODE = {
    "unauthenticated": 401,
    "key_needed": 401,
    "forbidden": 403,
    "not_for_runs": 403,
    "link_used": 403,
    "commands_refused": 403,
    "foreign_host": 403,
    "foreign_origin": 403,
    "proxied": 403,
    "invalid_json": 400,
    "body_unfinished": 400,
    "too_large": 413,
    "wrong_media": 415,
    "version_changed": 412,
    "key_reused": 422,
    "unexpected": 500,
}
#: Characters of a message at most.
_LONGEST = 2_000


def status_of(problem: OrchestrionError) -> int:
    """The HTTP status of an error that callers are meant to read."""
    known = _BY_CODE.get(problem.code)
    return known or next(STATUSES[kind] for kind in type(problem).__mro__ if kind in STATUSES)


def as_problem(problem: OrchestrionError, status: int, correlation: str) -> dict[str, Any]:
    """An error as problem details."""
    message = problem.message
    half = _LONGEST // 2
    return {
        "type": f"urn:orchestrion:problem:{problem.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": masked_value(message if len(message) <= _LONGEST else f"{message[:half]} … {message[-half:]}"),
        "code": problem.code,
        "hint": masked_value(problem.hint),
        "details": masked_value(problem.details),
        "correlation": correlation,
    }


class Json(JSONResponse):
    """A JSON answer; what no UTF-8 can carry is replaced."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace")


def answer(problem: OrchestrionError, correlation: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response that tells an error."""
    status = status_of(problem)
    further = dict(headers or {})
    if "retry_after_s" in problem.details:
        further["Retry-After"] = str(max(1, round(float(problem.details["retry_after_s"]))))
    if status == HTTPStatus.UNAUTHORIZED:
        further["WWW-Authenticate"] = 'Bearer realm="orchestrion"'
    told = as_problem(problem, status, correlation)
    return Json({**told, "hint": advice.for_requests(told["hint"])}, status, further, MEDIA)


def from_exception(error: Exception, environ: Mapping[str, str]) -> OrchestrionError:
    """Any exception as an error that callers are meant to read."""
    from orchestrion.interfaces.cli.errors import show_unforeseen
    from orchestrion.interfaces.mcp.replies import foreseen, unforeseen

    if isinstance(error, RequestValidationError):
        return _invalid(error)
    return foreseen(error) or unforeseen(error, lambda one: show_unforeseen(one, False, environ))


def _invalid(error: RequestValidationError) -> InvalidInput:
    found = error.errors()
    for one in found:
        if one["type"] == "json_invalid":
            said = one.get("ctx", {}).get("error", one["msg"])
            return InvalidInput(
                f"the body is not JSON: {said}, at character {one['loc'][-1]}",
                hint="send one JSON object, UTF-8",
                code="invalid_json",
            )
    problems = [{"where": ".".join(map(str, one["loc"])), "problem": one["msg"]} for one in found[:20]]
    return InvalidInput(
        "; ".join(f"{one['where']}: {one['problem']}" for one in problems)[:1000],
        hint="/api/v1/openapi.json describes what this route takes",
        code="invalid_parameters",
        problems=problems,
    )


async def from_http(request: Request, error: Exception) -> Response:
    """The response to what the router itself refused: no such route, no such method."""
    assert isinstance(error, HTTPException)
    correlation = getattr(request.state, "correlation", "")
    if isinstance(error.__cause__, OrchestrionError):
        return answer(error.__cause__, correlation)
    if error.status_code == HTTPStatus.BAD_REQUEST:
        told = InvalidInput("the body cannot be read as JSON", hint="send one JSON object, UTF-8", code="invalid_json")
        return answer(told, correlation)
    codes = {404: ("no_route", NotFound), 405: ("no_method", InvalidInput)}
    code, kind = codes.get(error.status_code, ("refused", InvalidInput))
    problem = kind(
        f"{request.method} {request.url.path[:200]}: {str(error.detail)[:200]}",
        hint="/api/v1/openapi.json lists the routes",
        code=code,
    )
    body = as_problem(problem, error.status_code, correlation)
    return Json(body, error.status_code, dict(error.headers or {}), MEDIA)


#: What a problem looks like, for the OpenAPI document.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "detail", "code", "hint", "details", "correlation"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "hint": {"type": "string"},
        "details": {"type": "object"},
        "correlation": {"type": "string"},
    },
}
_MEANINGS = {
    304: "what the caller has is current",
    400: "the body is not JSON, or not whole",
    401: "a token is needed, or the key of this machine",
    403: "the caller may not",
    404: "there is no such thing",
    409: "the state found does not allow it",
    412: "it was changed meanwhile",
    413: "the body is too large",
    415: "the body is of a kind that this route does not take",
    422: "the request cannot be meant",
    429: "too much at once; Retry-After says when",
    503: "the machine or the store cannot do it now",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: those that every route has, and ``statuses``."""
    every = (400, 401, 403, 413, 422, 429, 503, *statuses)
    content = {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": _MEANINGS[status], "content": content} for status in sorted(set(every))
    }
    if 304 in statuses:
        found[304] = {"description": _MEANINGS[304]}
    return found
