"""Our part of AGENTS.md: between its markers, with the team's text around it."""

from __future__ import annotations

import re

import pytest

from orchestrion.interfaces.cli.table import BY_NAME
from orchestrion.interfaces.mcp import catalogue
from orchestrion.ops.setup import block
from orchestrion.ops.setup.broken import Broken


@pytest.mark.parametrize(
    "text", ["", "# Ours\n", "# Ours\n\n", "a\r\nb\r\n", "\n", "<!-- other:begin -->\nx\n<!-- other:end -->\n"]
)
def test_in_and_out_again(text: str) -> None:
    changed = block.put(text)
    assert changed.startswith(text)
    assert block.has(changed)
    assert block.put(changed) == changed
    assert changed.count("\n") == changed.count("\r\n") or "\r\n" not in text
    assert block.take_out(changed) == text
    assert not block.has(text)
    assert block.take_out(text) == text


def test_a_text_without_an_end_of_line_gets_one() -> None:
    assert block.put("# Ours").startswith("# Ours\n\n<!-- orchestrion:begin v1")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_older_block_is_replaced_where_it_stands(end: str) -> None:
    old = end.join(["before", "<!-- orchestrion:begin v0 -->", "old", "<!-- orchestrion:end -->", "after", ""])
    changed = block.put(old)
    assert changed.startswith(f"before{end}<!-- orchestrion:begin v1 ")
    assert changed.endswith(f"<!-- orchestrion:end -->{end}after{end}")
    assert f"old{end}" not in changed
    assert block.take_out(changed) == f"before{end}after{end}"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- orchestrion:begin v1 -->\n",
        "a\n<!-- orchestrion:end -->\n",
        "<!-- orchestrion:end -->\n<!-- orchestrion:begin v1 -->\n",
        block.put(block.put("").replace("orchestrion:", "x:")) + "<!-- orchestrion:end -->\n",
    ],
)
def test_markers_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(Broken, match="markers") as found:
        block.put(text)
    assert found.value.line >= 1


def test_it_names_commands_and_tools_that_exist() -> None:
    named = set(re.findall(r"`orchestrion (\w+)", block.put("")))
    assert {"claim", "done", "fail", "release", "setup"} <= named <= set(BY_NAME)
    tools = set(re.findall(r"`(orchestrator_\w+)`", block.put("")))
    listed = {tool["name"] for tool in catalogue.definitions("core", ())}
    assert "orchestrator_execute_task" in tools
    assert tools <= listed
