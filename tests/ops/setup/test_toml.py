"""One table of a TOML file, put in and taken out by its lines."""

from __future__ import annotations

import tomllib

import pytest

from orchestrion.ops.setup import toml
from orchestrion.ops.setup.broken import Broken

PATH = ("mcp_servers", "orchestrion")
OURS = {"command": "/opt/orchestrion", "args": ["mcp", "-C", "/a b"]}

FILES = {
    "nothing": "",
    "settings": 'model = "x" # mine\n\n[model_providers.fake]\nname = "y"\n',
    "other servers": '[mcp_servers.a]\ncommand = "a"\nargs = [\n  "x", # one\n]\n\n[mcp_servers.a.env]\nK = "v"\n',
    "windows": 'model = "x"\r\n\r\n[mcp_servers.a]\r\ncommand = "a"\r\n',
    "a header": "[mcp_servers]\n",
    "a text with brackets": 'note = """\n[mcp_servers.orchestrion]\n"""\n'.replace("[mcp_servers.orchestrion]", "[x]"),
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_in_and_out_again(text: str) -> None:
    changed = toml.put(text, PATH, OURS)
    assert toml.get(changed, PATH) == OURS
    assert changed.startswith(text)
    assert changed.count("\n") == changed.count("\r\n") or "\r\n" not in text
    assert toml.put(changed, PATH, OURS) == changed
    assert toml.take_out(changed, PATH) == text


def test_our_table_is_changed_where_it_stands() -> None:
    text = (
        '[mcp_servers.orchestrion] # ours\nargs = [\n  "old",\n  "[x]",\n]\ncommand = "old" # old\n'
        'startup_timeout_sec = 20\n\n# of others\n[mcp_servers.b]\ncommand = "b"\n'
    )
    changed = toml.put(text, PATH, OURS)
    assert toml.get(changed, PATH) == {**OURS, "startup_timeout_sec": 20}
    assert changed.startswith("[mcp_servers.orchestrion] # ours\nargs = [")
    assert changed.endswith('startup_timeout_sec = 20\n\n# of others\n[mcp_servers.b]\ncommand = "b"\n')


def test_it_goes_with_the_tables_below_it() -> None:
    other = '[mcp_servers.b]\ncommand = "b"\n'
    text = f'[mcp_servers."orchestrion".env]\nA = "1"\n\n{other}\n[ mcp_servers . orchestrion ]\ncommand = "x"'
    assert tomllib.loads(toml.take_out(text, PATH)) == {"mcp_servers": {"b": {"command": "b"}}}
    assert toml.take_out("x = 1\n", PATH) == "x = 1\n"


def test_a_file_without_an_end_of_line() -> None:
    assert toml.put("x = 1", PATH, {"command": "c"}) == 'x = 1\n\n[mcp_servers.orchestrion]\ncommand = "c"\n'
    changed = toml.put('[mcp_servers.orchestrion]\ncommand = "c"', PATH, OURS)
    assert toml.get(changed, PATH) == OURS


@pytest.mark.parametrize(
    "text",
    [
        'mcp_servers = {a = {command = "a"}}\n',
        'mcp_servers.orchestrion.command = "old"\n',
        'note = """\n[mcp_servers.orchestrion]\n"""\n',
        "mcp_servers = 1\n",
        "[[mcp_servers]]\na = 1\n",
    ],
)
def test_an_unusual_form_is_refused_and_not_spoilt(text: str) -> None:
    with pytest.raises(Broken, match="table"):
        toml.put(text, PATH, OURS)


@pytest.mark.parametrize(
    ("text", "line", "column"), [("a = 1\nb = \n", 2, 5), ("a = 1\na = 2\n", 2, 6), ("[a\n", 1, 3), ("x = 'é' y", 1, 9)]
)
def test_a_broken_file_is_refused_with_its_place(text: str, line: int, column: int) -> None:
    with pytest.raises(Broken) as found:
        toml.put(text, PATH, OURS)
    assert (found.value.line, found.value.column) == (line, column)
    assert "column" not in found.value.problem
