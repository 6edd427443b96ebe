"""The page about all tools, resources and prompts, made of the tables by which they are served."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrion.interfaces.mcp import catalogue, prompts, resources
from orchestrion.interfaces.mcp.catalogue import Param, Tool

_INTRO = """\
# MCP tools

`orchestrion mcp` serves these on stdio, `orchestrion mcp --http` at `http://127.0.0.1:7117/mcp`, in every revision of
the Model Context Protocol from 2025-06-18 to 2026-07-28. The profile `core` (the default) lists the tools and
parameters marked *core*, `--tools full` lists all; what is not listed may be used all the same. Over HTTP a client
reads; to act it sends `Authorization: Bearer KEY` with the content of the file `key` in the store's folder.

Each reply is one JSON object with `success`, as structured content and as text, of at most 4 KB; a brief that was asked
for (`include_brief`) comes whole beside it. The list that a call asks for ends with `has_more` and `next_offset`: the
same call with that `offset` goes on; where others change what is listed meanwhile (pending tasks that they take up),
what is left moves up, and one asks again from the beginning. Other lists are counted (`left_out`, `..._total`), a long
text ends with the resource that has all of it. A refused call has `isError` and `error` with `code`, `message`, `hint`
and `details`; for a wrong parameter `details.problems` names each with the values that would have been right. Where a
list of texts is taken, a single text is too.

What a text advises is a tool of the client's profile (`orchestrator_execute_task(task_id=T4)`), the address of a
resource, or, where there is neither, a command for a terminal.

A `reason` of `orchestrator_update_task` is kept where whoever goes on with the task reads it; where nobody would, it is
refused (`reason_unread`).

A client that asks for progress is told how far a report or a start is. Where the client lets a server ask its user
(elicitation), deleting a task that others wait for or work on asks; elsewhere it is refused until it is repeated with
`force`. What is below a task goes with it, and counts as the task itself does.

Each tool also takes `session` (as `S3`): a client whose connection has no id of its own, as in the newest revision
over HTTP, names with it the session that it works in.

`orchestrator_initialize_session` with `working_directory` makes a project in an existing folder that has none, be it
the wrong one, and begins a store in a git repository that had none. The reply then says `created: true`, below
`detection`. A folder that does not exist is not made, and `/` and your home are never made a project.
"""
_EFFECTS = {"read": "only reads", "add": "adds, takes nothing away", "change": "may take something away"}
_KINDS = {
    "strings": "list of text",
    "objects": "list of objects",
    "entries": "list of texts or objects",
    "string": "text",
    "integer": "whole number",
}


def page() -> str:
    """The page as Markdown."""
    listed = [tool for tool in catalogue.TOOLS if tool.listed != "hidden"]
    aliases = [tool for tool in catalogue.TOOLS if tool.listed == "hidden"]
    parts = [_INTRO, *map(_section, listed), _older(aliases), _resources(), _prompts()]
    return "\n".join(parts)


def _section(tool: Tool) -> str:
    facts = [_EFFECTS[tool.effect]]
    facts += ["calling it again changes nothing more"] if tool.again else []
    facts += ["*core*"] if tool.listed == "core" else []
    shown = [param for param in tool.params if param.listed != "hidden"]
    table = _table(("parameter", "kind", "default", "profile", "meaning"), map(_row, shown))
    return f"## {tool.full_name}\n\n{tool.says} ({'; '.join(facts)})\n" + (f"\n{table}" if shown else "")


def _row(param: Param) -> tuple[str, ...]:
    kind = _KINDS.get(param.kind, param.kind)
    if param.choices:
        words = ", ".join(f"`{choice}`" for choice in param.choices)
        kind = f"{'any of' if param.kind == 'strings' else 'one of'} {words}" + (
            ", or a role of the project" if param.open else ""
        )
    if param.least is not None:
        kind += f", {param.least} to {param.most}" if param.most is not None else f", {param.least} or more"
    default = "**required**" if param.required else "" if param.default is None else f"`{_json(param.default)}`"
    return f"`{param.name}`", kind, default, param.listed, param.says


def _json(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _older(aliases: Iterable[Tool]) -> str:
    names = ", ".join(f"`{tool.full_name}`" for tool in aliases)
    breakdown = ", ".join(f"`{param.name}`" for param in catalogue.BREAKDOWN.params)
    return (
        f"## Older names\n\n{names} are understood, and `{catalogue.BREAKDOWN.full_name}` with {breakdown}: a whole "
        "breakdown in one call. A subtask there has the parameters of a task, and titles of others as dependencies.\n"
    )


def _resources() -> str:
    fixed = ((f"`{one['uri']}`", one["description"], one["mimeType"]) for one in resources.FIXED)
    patterns = ((f"`{one['uriTemplate']}`", one["description"], one["mimeType"]) for one in resources.TEMPLATES)
    return "## Resources\n\n" + _table(("address", "what", "type"), [*fixed, *patterns])


def _prompts() -> str:
    def arguments(one: dict[str, object]) -> str:
        given = one["arguments"]
        assert isinstance(given, list)
        return ", ".join(f"`{each['name']}`" + (" (required)" if each["required"] else "") for each in given)

    rows = ((f"`{one['name']}`", one["description"], arguments(one)) for one in prompts.PROMPTS)
    return "## Prompts\n\n" + _table(("prompt", "what", "arguments"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
