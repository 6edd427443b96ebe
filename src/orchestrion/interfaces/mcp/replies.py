"""What a tool answers: one JSON object, never longer than a model should have to read.

A reply stops at 4 KB. A list is filled as far as there is room and says where it goes on
(``has_more``, ``next_offset``); a long text is cut and says where all of it is. Errors are real
errors (``isError``) with our code, what was found, and what to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrion.core.errors import EnvironmentProblem, OrchestrionError
from orchestrion.core.masking import masked_value
from orchestrion.interfaces.mcp import advice

#: Bytes of a reply at most.
LIMIT = 4096
#: Characters of an error's message at most.
MESSAGE_LIMIT = 1200


def as_text(value: Mapping[str, Any]) -> str:
    """A reply as it is sent: compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def size(value: Any) -> int:
    """Bytes of a value in a reply."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def shortened(text: str | None, most: int, whole: str) -> str | None:
    """``text``, or its beginning and where ``whole`` of it is."""
    if text is None or len(text) <= most:
        return text
    return f"{text[:most].rstrip()} … [{len(text)} characters; all: {whole}]"


def page(
    reply: dict[str, Any],
    key: str,
    items: Iterable[Any],
    *,
    total: int,
    offset: int = 0,
    limit: int = LIMIT,
) -> dict[str, Any]:
    """``reply`` with as many ``items`` under ``key`` as there is room for; says whether and where it goes on."""
    return pages({**reply, key: []}, ((key, item) for item in items), total=total, offset=offset, limit=limit)


def pages(
    reply: dict[str, Any], items: Iterable[tuple[str, Any]], *, total: int, offset: int = 0, limit: int = LIMIT
) -> dict[str, Any]:
    """As ``page``, with items of several lists, each beside the key of its own: one after the other they are one list.

    At least one item is always given, else a reader could never come past it; behind the end there is none.
    """
    shown: dict[str, list[Any]] = {}
    behind = offset
    room = limit - size({**reply, "has_more": True, "next_offset": offset + 1_000_000})
    for key, item in items:
        room -= size(item) + 1
        if behind > offset and room < 0:
            break
        shown.setdefault(key, []).append(item)
        behind += 1
    more = offset < behind < total
    return {**reply, **shown, "has_more": more, "next_offset": behind if more else None}


def fitted(reply: dict[str, Any], lists: Sequence[str], texts: Sequence[str] = ()) -> dict[str, Any]:
    """``reply`` cut to the limit: the ends of ``lists`` go first, then those of ``texts``, and it says so."""
    shown = dict(reply)
    left: dict[str, int] = {}
    for key in lists:
        values = list(shown.get(key) or [])
        while values and size(shown) > LIMIT - 120:
            values.pop()
            left[key] = len(reply[key]) - len(values)
            shown = {**shown, key: values, "left_out": left}
    for key in texts:
        excess = size(shown) - (LIMIT - 120)
        text = shown.get(key)
        if excess > 0 and isinstance(text, str):
            kept = text.encode()[: max(0, len(text.encode()) - excess)].decode("utf-8", "ignore")
            left[key] = len(text) - len(kept)
            shown = {**shown, key: kept, "left_out": left}
    return shown


def error(problem: OrchestrionError, profile: str) -> dict[str, Any]:
    """An error as a reply to a client with the tools of ``profile``."""
    facts = masked_value(problem.as_dict())
    half = MESSAGE_LIMIT // 2
    if len(facts["message"]) > MESSAGE_LIMIT:
        facts["message"] = f"{facts['message'][:half]} … {facts['message'][-half:]}"
    facts["hint"] = advice.for_client(facts["hint"], profile)[:MESSAGE_LIMIT]
    reply = {"success": False, "error": facts}
    if size(reply) > LIMIT:
        facts["details"] = {"left_out": "too long for a reply"}
    return reply


def foreseen(problem: Exception) -> OrchestrionError | None:
    """``problem`` as an error that callers are meant to read; None if nobody thought of it."""
    if isinstance(problem, OrchestrionError):
        return problem
    if isinstance(problem, OSError) and problem.errno is not None:
        from orchestrion.interfaces.cli.errors import refused

        return refused(problem)
    return None


def unforeseen(problem: Exception, keep: Callable[[Exception], object]) -> OrchestrionError:
    """The error for a mistake of ours: its traceback is kept, the client reads only that it happened."""
    keep(problem)
    return EnvironmentProblem(
        f"unexpected {type(problem).__name__}: a mistake of this program, not of the call",
        hint="the traceback is in orchestrion's errors.log on the server's machine; please report it",
        code="unexpected",
    )
