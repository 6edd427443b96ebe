"""What runs used, in words: of one run or of many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrion.interfaces.cli import output

#: So many tools are named.
_TOOLS_SHOWN = 12
_TOKENS = {"input": "in", "output": "out", "cache_read": "read from the cache", "cache_write": "written to it"}


def facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Turns, tokens, cost and tools; what is not known is empty."""
    yield "turns", number(found["turns"])
    yield "tokens", _tokens(found["tokens"])
    yield "cost", usd(found["cost_usd"])
    yield "tools", _tools(found["tools"])


def number(value: int | None) -> str:
    """``1,234``."""
    return "" if value is None else f"{value:,}"


def usd(value: float | None) -> str:
    """``$0.1234``."""
    return "" if value is None else f"${value:,.4f}"


def _tokens(tokens: Mapping[str, int | None]) -> str:
    return ", ".join(f"{tokens[kind]:,} {word}" for kind, word in _TOKENS.items() if tokens[kind] is not None)


def _tools(tools: Mapping[str, int]) -> str:
    named = [f"{output.plain(tool)} {count:,}" for tool, count in list(tools.items())[:_TOOLS_SHOWN]]
    return " · ".join([*named, "…"] if len(tools) > _TOOLS_SHOWN else named)
