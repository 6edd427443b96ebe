"""Asking the person behind a client, where the client can: may this be done all the same?

A tool that would take something away from others is refused; the agent may repeat it with
``force``. If the client lets us ask its user (elicitation), the user decides instead, within
the same call. The older revisions have a request of ours for that; in the newest one the call
is answered with the question, and comes again with the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from orchestrion.interfaces.mcp.catalogue import Tool

#: So long a person may think, in seconds; then the refusal stands.
PATIENCE_S = 300.0
_NAME = "confirm"
_FORM = {
    "type": "object",
    "properties": {_NAME: {"type": "boolean", "title": "Do it all the same", "default": False}},
    "required": [_NAME],
}
#: Tool and code of its refusal that a person may overrule with ``force``.
_OVERRULED = {("delete_task", "has_dependents"), ("delete_task", "in_progress")}


def question(tool: Tool, reply: Mapping[str, Any]) -> str | None:
    """What to ask about a refusal; None: it stands in any case."""
    error = reply.get("error", {})
    if (tool.name, error.get("code")) not in _OVERRULED:
        return None
    return f"{error['message']}. Delete it all the same?"


async def asked(
    context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, said: str
) -> bool | types.InputRequiredResult:
    """Whether the user agrees; or the answer that asks them, in the newest revision. False if nobody can be asked."""
    if not _can_be_asked(context.session.client_capabilities):
        return False
    if context.protocol_version < "2026-07-28":
        return await _asked_at_once(context, said)
    found = (params.input_responses or {}).get(_NAME)
    if found is not None:
        return _agrees(found)
    form = types.ElicitRequestFormParams(message=said, requested_schema=_FORM)
    return types.InputRequiredResult(input_requests={_NAME: types.ElicitRequest(params=form)})


def _can_be_asked(able: types.ClientCapabilities | None) -> bool:
    """Whether the client shows forms; one that says nothing more than ``elicitation`` does."""
    kinds = able.elicitation if able else None
    return kinds is not None and (kinds.form is not None or kinds.url is None)


async def _asked_at_once(context: ServerRequestContext[Any, Any], said: str) -> bool:
    with anyio.move_on_after(PATIENCE_S):
        try:
            return _agrees(await context.session.elicit_form(said, _FORM, context.request_id))
        except MCPError:
            return False  # it said that it can be asked, and cannot
    return False


def _agrees(answer: object) -> bool:
    if not isinstance(answer, types.ElicitResult) or answer.action != "accept":
        return False
    return (answer.content or {}).get(_NAME) is True
