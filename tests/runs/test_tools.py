"""Which servers of tools an agent is given."""

from __future__ import annotations

from dataclasses import replace

from orchestrion.runs import tools
from orchestrion.runs.agents.agent import McpServer
from runs.test_order import ORDER

ENVIRON = {"ORCHESTRION_RUN": "u/R1"}
OTHER = {"name": "other", "url": "http://127.0.0.1:1/mcp", "headers": {"A": "b"}}


def test_none_but_those_of_the_settings_unless_asked() -> None:
    order = replace(ORDER, servers=[OTHER], allowed_tools=["Bash"])
    assert tools.servers(order, ENVIRON) == (McpServer("other", url=OTHER["url"], headers={"A": "b"}),)
    assert tools.allowed(order) == ("Bash",)


def test_ours_knows_the_run_and_may_be_used() -> None:
    order = replace(ORDER, servers=[OTHER], allowed_tools=["Bash"], tools="full")
    ours = tools.servers(order, ENVIRON)[-1]
    assert (ours.name, ours.command[-3:], ours.env) == ("orchestrion", ("mcp", "--tools", "full"), ENVIRON)
    assert tools.allowed(order) == ("Bash", "mcp__orchestrion")


def test_a_server_of_that_name_stands_in_its_place() -> None:
    mine = {"name": "orchestrion", "command": ["mine", "mcp"], "env": {}}
    order = replace(ORDER, servers=[mine], tools="core")
    assert [one.command for one in tools.servers(order, ENVIRON)] == [("mine", "mcp")]
    assert tools.allowed(order) == ()
