"""The tools, resources and prompts on the official SDK: one server for every transport and revision.

The SDK's low-level server is used: our tools are described by hand, in fewer characters than
generated ones, and a tool's function is imported when it is first called. Calls run in threads;
a call that a client gives up is finished all the same, for its transaction is whole or nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

from orchestrion import __version__
from orchestrion.core.rights import Caller
from orchestrion.interfaces.mcp import catalogue, consent, replies
from orchestrion.interfaces.mcp.desk import Desk, Seat, ToolCall

Context = ServerRequestContext[Any, Any]

INSTRUCTIONS = (
    "Durable task graph and memory of this project. Begin with orchestrator_initialize_session. "
    "orchestrator_plan_task creates tasks with dependencies; orchestrator_execute_task claims one and gives its "
    "context and a run; name that run in orchestrator_complete_task. Record decisions that others rely on. "
    "Replies end at 4 KB: go on with next_offset, read orchestrion:// resources for whole texts."
)


def make(desk: Desk, profile: str) -> Server[dict[str, Any]]:
    """A server that answers for ``desk`` and lists the tools of ``profile``."""
    desk.profile = profile
    server: Server[dict[str, Any]] = Server(
        "orchestrion",
        version=__version__,
        title="Orchestrion",
        instructions=INSTRUCTIONS,
        on_list_tools=partial(_list_tools, desk, profile),
        on_call_tool=partial(_call_tool, desk),
        on_list_resources=partial(_list_resources, desk),
        on_list_resource_templates=_list_templates,
        on_read_resource=partial(_read_resource, desk),
        on_list_prompts=_list_prompts,
        on_get_prompt=partial(_get_prompt, desk),
    )
    return server


# -- tools --------------------------------------------------------------------------------------


async def _list_tools(
    desk: Desk, profile: str, context: Context, params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    roles = await desk.do(partial(_roles_of, desk, _seat(desk, context)))
    tools = [types.Tool.model_validate(one) for one in catalogue.definitions(profile, roles)]
    return types.ListToolsResult(tools=tools)


def _roles_of(desk: Desk, seat: Seat) -> tuple[str, ...]:
    """Names of the roles that the project adds, judged by its files alone; reading them would cost a start its time."""
    from pathlib import Path

    from orchestrion.core.errors import OrchestrionError
    from orchestrion.core.project import SHARED_FOLDER, find_project

    try:
        found = find_project(Path.cwd(), Path(seat.folder) if seat.folder else desk.folder, desk.environ)
        files = sorted((found.root / SHARED_FOLDER / "roles").glob("*.y*ml"))
    except (OrchestrionError, OSError):
        return ()
    return tuple(file.stem for file in files if not file.name.startswith("."))[:50]


async def _call_tool(
    desk: Desk, context: Context, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    tool = catalogue.BY_NAME.get(params.name)
    if tool is None:
        raise _unknown_tool(params.name)
    seat = _seat(desk, context)
    work = partial(answer, desk, seat, tool, report=_reporter(context), caller=_caller(context))
    with desk.serving(seat):
        reply, failed = await desk.do(partial(work, params.arguments))
        said = consent.question(tool, reply) if failed else None
        agreed = await consent.asked(context, params, said) if said else False
        if isinstance(agreed, types.InputRequiredResult):
            return agreed
        if agreed:
            reply, failed = await desk.do(partial(work, {**(params.arguments or {}), "force": True}))
    text = types.TextContent(type="text", text=replies.as_text(reply))
    return types.CallToolResult(content=[text], structured_content=reply, is_error=failed)


def answer(
    desk: Desk,
    seat: Seat,
    tool: catalogue.Tool,
    sent: Mapping[str, Any] | None,
    report: Callable[[float, float | None, str], None] = lambda done, total, said: None,
    caller: Caller | None = None,
) -> tuple[dict[str, Any], bool]:
    """The reply to one call, and whether it is an error. Never raises."""
    from orchestrion.interfaces.mcp import arguments

    if sent and "subtasks_json" in sent and tool.function == "tasks.plan":
        tool = catalogue.BREAKDOWN
    try:
        given = arguments.read(tool, sent)
        module, _, name = tool.function.partition(".")
        function = getattr(importlib.import_module(f"orchestrion.interfaces.mcp.tools.{module}"), name)
        call = ToolCall(tool, given, desk, seat, report, f"mcp-{uuid.uuid4().hex[:12]}", caller)
        warning = call.warning()
        return {"success": True, **function(call), **warning}, False
    except Exception as problem:  # noqa: BLE001 - the last place where an error can still be put into words
        known = replies.foreseen(problem) or replies.unforeseen(problem, partial(_keep, desk, tool))
        return replies.error(known, desk.profile), True


def _keep(desk: Desk, tool: catalogue.Tool, problem: Exception) -> None:
    """A mistake of ours: its traceback goes to the file of errors and a line to stderr."""
    import time

    from orchestrion.interfaces.cli.errors import show_unforeseen

    desk.failures.append((time.time(), tool.name, type(problem).__name__))
    del desk.failures[:-100]
    show_unforeseen(problem, False, desk.environ)


def _unknown_tool(name: str) -> MCPError:
    import difflib

    near = difflib.get_close_matches(name, catalogue.BY_NAME, n=1)
    hint = f"did you mean {near[0]}?" if near else "tools/list names them"
    return MCPError(
        code=types.INVALID_PARAMS,
        message=f"there is no tool {name[:80]!r}; {hint}",
        data={"code": "no_tool", "hint": hint},
    )


def _seat(desk: Desk, context: Context) -> Seat:
    """Where the caller sits: by its conversation's id, if it or its transport has one."""
    who = context.session.client_params
    return desk.seat(_conversation(context), who.client_info.name if who else "", context.protocol_version)


def _caller(context: Context) -> Caller | None:
    """Who calls, as the server found it before the call came here; None on stdio."""
    request = context.request
    return request.scope["state"]["caller"] if request is not None else None


def _conversation(context: Context) -> str | None:
    thread = _thread(context.meta)
    if thread:
        return thread
    request = context.request
    return request.scope.get("orchestrion.session") if request is not None else None


def _thread(meta: Any) -> str | None:
    """The client's own id of its conversation, where it sends one with each call."""
    found = dict(meta or {}).get("x-codex-turn-metadata")
    try:
        found = json.loads(found) if isinstance(found, str) else found
    except ValueError:
        return None
    thread = found.get("thread_id") or found.get("session_id") if isinstance(found, dict) else None
    return f"codex-{thread}"[:100] if isinstance(thread, str) and thread else None


def _reporter(context: Context) -> Callable[[float, float | None, str], None]:
    """Sends progress from a use case's thread; the SDK drops it when the client asked for none."""
    loop = asyncio.get_running_loop()

    def report(done: float, total: float | None, said: str) -> None:
        asyncio.run_coroutine_threadsafe(context.session.report_progress(done, total, said), loop)

    return report


# -- resources and prompts ------------------------------------------------------------------------


async def _list_resources(
    desk: Desk, context: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourcesResult:
    from orchestrion.interfaces.mcp import resources

    found = [types.Resource.model_validate(one) for one in resources.FIXED]
    return types.ListResourcesResult(resources=found)


async def _list_templates(
    context: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    from orchestrion.interfaces.mcp import resources

    found = [types.ResourceTemplate.model_validate(one) for one in resources.TEMPLATES]
    return types.ListResourceTemplatesResult(resource_templates=found)


async def _read_resource(
    desk: Desk, context: Context, params: types.ReadResourceRequestParams
) -> types.ReadResourceResult:
    from orchestrion.interfaces.mcp import resources

    seat = _seat(desk, context)
    with desk.serving(seat):
        kind, text = await _translated(
            desk, partial(resources.read, desk, seat, params.uri), context.protocol_version, params.uri
        )
    content = types.TextResourceContents(uri=params.uri, mime_type=kind, text=text)
    return types.ReadResourceResult(contents=[content])


async def _list_prompts(context: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    from orchestrion.interfaces.mcp import prompts

    return types.ListPromptsResult(prompts=[types.Prompt.model_validate(one) for one in prompts.PROMPTS])


async def _get_prompt(desk: Desk, context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    from orchestrion.interfaces.mcp import prompts

    seat = _seat(desk, context)
    with desk.serving(seat):
        said = await _translated(desk, partial(prompts.write, desk, seat, params.name, params.arguments or {}))
    message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=said))
    return types.GetPromptResult(description=prompts.BY_NAME[params.name]["description"], messages=[message])


async def _translated(desk: Desk, work: Callable[[], Any], revision: str = "", uri: str = "") -> Any:
    """Does ``work``; what it refuses becomes an error of the protocol, with our code and hint."""
    from orchestrion.core.errors import NotFound

    try:
        return await desk.do(work)
    except Exception as problem:  # noqa: BLE001 - the last place where an error can still be put into words
        known = replies.foreseen(problem) or replies.unforeseen(
            problem, partial(_keep, desk, catalogue.BY_NAME["orchestrator_query_tasks"])
        )
    facts = replies.error(known, desk.profile)["error"]
    data = {**facts, "uri": uri} if uri else facts
    code = _no_resource(revision) if uri and isinstance(known, NotFound) else types.INVALID_PARAMS
    raise MCPError(code=code, message=facts["message"], data=data)


def _no_resource(revision: str) -> int:
    """The code for a resource that is not there: the older revisions have one of their own."""
    return types.INVALID_PARAMS if revision >= "2026-07-28" else -32002
