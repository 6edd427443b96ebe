"""The log of a run as people read it: what was said, and each call of a tool folded with its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrion.core.values import without_escapes

#: More of one line is not shown; the log itself has all.
MOST = 20_000


@dataclass
class Entry:
    """One piece of the log."""

    #: ``said``, ``tool``, ``output``, ``error``, ``note`` or ``aside``.
    kind: str
    text: str
    #: When, in milliseconds.
    at: int | None = None
    #: Name of the tool.
    tool: str = ""
    #: What came back from the tool.
    results: list[str] = field(default_factory=list)
    failed: bool = False


def entries(lines: Iterable[Mapping[str, Any]], *, plain: bool) -> list[Entry]:
    """Lines of a log in readable pieces; lines that came together stay together.

    Of an agent that speaks in events those are shown, and not the lines they were made of; a
    ``plain`` one means what it writes.
    """
    shown: list[Entry] = []
    for line in lines:
        entry = _entry(line, plain)
        if entry is None:
            continue
        last = shown[-1] if shown else None
        if line.get("kind") == "tool_result" and last is not None and last.kind == "tool":
            last.results.append(entry.text)
            last.failed |= entry.failed
        elif last is not None and last.kind == entry.kind and entry.kind in ("output", "error"):
            last.text += f"\n{entry.text}"
        else:
            shown.append(entry)
    return shown


def _entry(line: Mapping[str, Any], plain: bool) -> Entry | None:
    stream, text, at = line.get("stream"), without_escapes(str(line.get("text", ""))[:MOST]), line.get("at")
    if stream == "note":
        return Entry("note", text, at)
    if stream == "err":
        return Entry("error", text, at)
    if stream == "out":
        return Entry("output", text, at) if plain else None
    if stream != "event":
        return None
    return _event(line, text, at)


def _event(line: Mapping[str, Any], text: str, at: int | None) -> Entry | None:
    kind, failed = line.get("kind"), bool(line.get("failed"))
    if kind == "tool":
        return Entry("tool", text, at, tool=str(line.get("tool", "")), failed=failed)
    if kind == "result" and not failed:
        return None  # an agent's result is what it said last
    if kind in ("tool_result", "permission", "notice"):
        return Entry("aside", text, at, tool=str(kind), failed=failed)
    if kind in ("session", "plan"):
        return Entry("note", f"{kind} {text}", at)
    return Entry("said", text, at, failed=failed)
