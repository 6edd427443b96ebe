"""Setting clients up and undoing it: real files of each, whatever state they are in."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from asked import PROGRAM, SetUp

from orchestrion.core.errors import Conflict, EnvironmentProblem, InvalidInput, NotFound
from orchestrion.ops.setup import block, files, hooks, records
from orchestrion.ops.setup.clients import CLIENTS
from orchestrion.orchestrator.settingup import set_up

NAMES = [client.name for client in CLIENTS]
#: client -> its file for a user on Linux, and in a project; a file of it as people have it.
WHERE = {
    "claude": (".claude.json", ".mcp.json", '{\n  "n": 3,\n  "mcpServers": {\n    "a": {"command": "a"}\n  }\n}\n'),
    "claude-desktop": (".config/Claude/claude_desktop_config.json", None, '{"mcpServers": {"a": {"command": "a"}}}'),
    "cursor": (".cursor/mcp.json", ".cursor/mcp.json", '{\n\t"mcpServers": {\n\t\t"a": {"url": "http://a"}\n\t}\n}'),
    "windsurf": (".codeium/windsurf/mcp_config.json", None, '{\r\n  "mcpServers": {\r\n    "a": {}\r\n  }\r\n}\r\n'),
    "vscode": (
        ".config/Code/User/mcp.json",
        ".vscode/mcp.json",
        '// ours\n{\n  "inputs": [], // none\n  "servers": {\n    "a": {"type": "stdio"}, // one\n  },\n}\n',
    ),
    "codex": (".codex/config.toml", ".codex/config.toml", 'model = "x" # mine\n\n[mcp_servers.a]\ncommand = "a"\n'),
    "gemini": (
        ".gemini/settings.json",
        ".gemini/settings.json",
        '\ufeff{\n  // dark\n  "theme": "x",\n  "mcpServers": {"a": {}}\n}\n',
    ),
    "qwen": (".qwen/settings.json", ".qwen/settings.json", '{"mcpServers": {"a": {"command": "a"}}, "$version": 4}'),
    "opencode": (
        ".config/opencode/opencode.json",
        "opencode.json",
        '{\n  "$schema": "https://opencode.ai/",\n  "mcp": {\n    "a": {"type": "local", "command": ["a"]}\n  }\n}\n',
    ),
}  # fmt: skip


def file_of(home: Path, project: Path, client: str, scope: str) -> Path | None:
    place = WHERE[client][0 if scope == "user" else 1]
    return (home if scope == "user" else project) / place if place else None


def servers(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix == ".toml":
        return tomllib.loads(text)["mcp_servers"]  # type: ignore[no-any-return]
    bare = "\n".join(line.partition("//")[0] if "://" not in line else line for line in text.splitlines())
    document = json.loads(bare.replace(",\n  },\n}", "\n  }\n}").replace("},\n  }", "}\n  }"))
    return next(document[key] for key in ("mcpServers", "servers", "mcp") if key in document)  # type: ignore[no-any-return]


def everything(*folders: Path) -> dict[Path, bytes | None]:
    """All there is below folders, but the records."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for folder in folders
        for path in folder.rglob("*")
        if ".local" not in path.parts
    }


@pytest.mark.parametrize("scope", ["user", "project"])
@pytest.mark.parametrize("client", NAMES)
def test_a_new_file_starts_our_server_and_goes_again(
    setup: SetUp, home: Path, project: Path, client: str, scope: str
) -> None:
    file = file_of(home, project, client, scope)
    before = everything(home, project)
    if file is None:
        with pytest.raises(InvalidInput, match="no configuration of single projects"):
            setup(client, scope=scope)
        return
    done = setup(client, scope=scope, tools="core")
    told = servers(file)["orchestrion"]
    command = told["command"] if isinstance(told["command"], list) else [told["command"], *told["args"]]
    folder = (
        {"cursor": "${workspaceFolder}", "vscode": "${workspaceFolder}"}.get(client) if scope == "project" else None
    )
    named = ["-C", str(folder or project)] if folder or WHERE[client][1] is None else []
    assert command == [*PROGRAM, "mcp", *named, "--tools", "core"]
    assert {one["state"] for one in done["files"]} == {"created"}
    assert {one["state"] for one in setup(client, scope=scope, tools="core")["files"]} == {"unchanged"}
    assert {one["state"] for one in setup(client, scope=scope, undo=True)["files"]} == {"removed"}
    assert everything(home, project) == before


@pytest.mark.parametrize("client", NAMES)
def test_what_others_wrote_stays_to_the_byte(setup: SetUp, home: Path, project: Path, client: str) -> None:
    file = file_of(home, project, client, "user")
    assert file
    file.parent.mkdir(parents=True, exist_ok=True)
    raw = WHERE[client][2].encode()
    file.write_bytes(raw)
    file.chmod(0o640)
    done = setup(client)
    changed = file.read_bytes()
    rest = iter(changed)
    assert all(byte in rest for byte in raw), "something was taken away"
    assert set(servers(file)) == {"a", "orchestrion"}
    assert file.stat().st_mode & 0o777 == 0o640
    backup = Path(done["files"][0]["backup"])
    assert backup.read_bytes() == raw
    assert backup.stat().st_mode & 0o077 == 0
    setup(client)
    assert file.read_bytes() == changed
    setup(client, tools="full")
    assert "full" in str(servers(file)["orchestrion"])
    setup(client, undo=True)
    assert file.read_bytes() == raw
    assert file.stat().st_mode & 0o777 == 0o640
    assert {one["state"] for one in setup(client, undo=True)["files"]} == {"unchanged"}


@pytest.mark.parametrize("client", NAMES)
def test_only_our_part_goes_when_the_file_was_changed_since(
    setup: SetUp, home: Path, project: Path, client: str
) -> None:
    setup(client)
    file = file_of(home, project, client, "user")
    assert file
    more = b"\n# later\n" if file.suffix == ".toml" else b"  \n"
    file.write_bytes(file.read_bytes() + more)
    setup(client, undo=True)
    left = file.read_bytes()
    assert b"orchestrion" not in left
    assert b"later" in left if file.suffix == ".toml" else json.loads(left) == {}


#: Client's format -> a file with an entry of our name that is not ours.
NAMESAKES = {
    "toml": '[mcp_servers.orchestrion] # mine\ncommand = "x"\n\n[mcp_servers.orchestrion.env]\nA = "b"\n',
    "opencode": '{"mcp": {"orchestrion": {"command": ["mine"], "environment": {"A": "b"}}}}',
    "vscode": '{"servers": {"orchestrion": {"command": "mine", "env": {"A": "b"}}}}',
    "json": '{"mcpServers":{"orchestrion":{"command":"mine","env":{"A":"b"}}}}',
}


@pytest.fixture(params=NAMES)
def namesake(request: pytest.FixtureRequest, home: Path, project: Path) -> tuple[str, Path, bytes]:
    """A client, its file, and what that says of a server of our name which is somebody else's."""
    file = file_of(home, project, request.param, "user")
    assert file
    kind = "toml" if file.suffix == ".toml" else request.param
    raw = NAMESAKES.get(kind, NAMESAKES["json"]).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(raw)
    return request.param, file, raw


def test_an_entry_of_our_name_comes_back_to_the_byte(setup: SetUp, namesake: tuple[str, Path, bytes]) -> None:
    client, file, raw = namesake
    for tools in (None, "core", "full"):
        setup(client, tools=tools)
    setup(client, undo=True)
    assert file.read_bytes() == raw
    assert {one["state"] for one in setup(client, undo=True)["files"]} == {"unchanged"}


def test_an_entry_of_our_name_comes_back_into_a_file_that_was_changed_since(
    setup: SetUp, namesake: tuple[str, Path, bytes]
) -> None:
    client, file, _ = namesake
    theirs = servers(file)["orchestrion"]
    more = b"\n# later\n" if file.suffix == ".toml" else b" \n"
    for tools in ("core", "full"):
        setup(client, tools=tools)
        file.write_bytes(file.read_bytes() + more)
    for _ in range(2):
        setup(client, undo=True)
        assert servers(file) == {"orchestrion": theirs}
        assert (b"# later" in file.read_bytes()) == (file.suffix == ".toml")
        file.write_bytes(file.read_bytes() + more)


def test_an_entry_of_our_name_that_its_owner_took_away_stays_away(
    setup: SetUp, namesake: tuple[str, Path, bytes]
) -> None:
    client, file, _ = namesake
    setup(client)
    setup(client, undo=True)
    file.unlink()
    setup(client)
    file.write_bytes(file.read_bytes() + b"\n")
    setup(client, undo=True)
    assert b"orchestrion" not in file.read_bytes()


def test_what_a_person_added_to_our_entry_stays(setup: SetUp, home: Path) -> None:
    setup("cursor")
    file = home / ".cursor/mcp.json"
    document = json.loads(file.read_text())
    document["mcpServers"]["orchestrion"] |= {"env": {"A": "1"}, "command": "old"}
    file.write_text(json.dumps(document))
    setup("cursor")
    told = servers(file)["orchestrion"]
    assert (told["env"], told["command"]) == ({"A": "1"}, PROGRAM[0])


BROKEN_JSON = [(b"{\n  x\n}", "2:3"), (b'{"a": "\xff"}', "1:8"), (b'{"a": 1}}', "1:9")]
BROKEN_TOML = [(b"[x]\ny", "2:2"), (b'a = "\xff"', "1:6"), (b"a = 1\na = 1", "2:6")]


@pytest.mark.parametrize(
    ("client", "raw", "place"),
    [(name, *case) for name in NAMES for case in (BROKEN_TOML if name == "codex" else BROKEN_JSON)],
)
def test_a_broken_file_is_refused_and_nothing_is_written(
    setup: SetUp, home: Path, project: Path, client: str, raw: bytes, place: str
) -> None:
    file = file_of(home, project, client, "user")
    assert file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(raw)
    before = everything(home, project)
    for undo in (False, True):
        with pytest.raises(InvalidInput) as found:
            setup(client, undo=undo)
        assert found.value.code == "broken_client_config"
        assert found.value.message.startswith(f"{file}:{place}: ")
        assert f"{found.value.details['line']}:{found.value.details['column']}" == place
        assert everything(home, project) == before


def test_one_broken_file_keeps_all_others_as_they_are(setup: SetUp, home: Path, project: Path) -> None:
    (home / ".claude").mkdir()
    (home / ".claude/settings.json").write_text('{"hooks": {"Stop": {}}}')
    before = everything(home, project)
    with pytest.raises(InvalidInput, match=r"settings\.json:1:20: hooks\.Stop must be a list, and is an object"):
        setup("claude")
    assert everything(home, project) == before


def test_a_read_only_file_belongs_to_somebody_else(setup: SetUp, home: Path) -> None:
    file = home / ".gemini/settings.json"
    file.parent.mkdir()
    file.write_text("{}")
    file.chmod(0o444)
    with pytest.raises(EnvironmentProblem, match="read-only") as found:
        setup("gemini")
    assert found.value.code == "read_only"
    assert file.read_text() == "{}"
    assert {one["state"] for one in setup("gemini", undo=True)["files"]} == {"unchanged"}


def test_a_link_stays_a_link(setup: SetUp, home: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "settings.json"
    real.parent.mkdir()
    real.write_text('{"a": 1}')
    link = home / ".gemini/settings.json"
    link.parent.mkdir()
    link.symlink_to("../../dotfiles/settings.json")
    setup("gemini")
    assert link.is_symlink()
    assert "orchestrion" in real.read_text()
    setup("gemini", undo=True)
    assert link.is_symlink()
    assert real.read_text() == '{"a": 1}'


def test_a_link_to_a_file_that_is_not_there_yet(setup: SetUp, home: Path, tmp_path: Path) -> None:
    link = home / ".codex/config.toml"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "dotfiles/config.toml")
    setup("codex")
    assert link.is_symlink()
    assert "orchestrion" in servers(link)
    setup("codex", undo=True)
    assert link.is_symlink()
    assert not (tmp_path / "dotfiles").exists()


@pytest.mark.parametrize("kind", ["folder", "circle", "file above", "huge"])
def test_what_is_no_file_is_refused(setup: SetUp, home: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / ".cursor/mcp.json"
    if kind == "file above":
        file.parent.write_text("x")
    else:
        file.parent.mkdir()
    if kind == "folder":
        file.mkdir()
    if kind == "circle":
        file.symlink_to(file)
    if kind == "huge":
        monkeypatch.setattr(files, "MOST_BYTES", 3)
        file.write_text("{   }")
    with pytest.raises(InvalidInput) as found:
        setup("cursor")
    assert found.value.code == "broken_client_config"
    assert ".cursor" in found.value.message


@pytest.mark.parametrize("text", ["", "\n", "{}", "{\n}\n"])
def test_an_empty_file_is_a_file(setup: SetUp, home: Path, text: str) -> None:
    file = home / ".cursor/mcp.json"
    file.parent.mkdir()
    file.write_text(text)
    setup("cursor")
    assert set(servers(file)) == {"orchestrion"}
    setup("cursor", undo=True)
    assert file.read_text() == text


def test_a_rehearsal_shows_the_difference_and_changes_nothing(setup: SetUp, home: Path, project: Path) -> None:
    file = home / ".codex/config.toml"
    file.parent.mkdir()
    file.write_text('model = "x"')
    before = everything(home, project)
    shown = setup("codex", dry_run=True)["files"]
    assert everything(home, project) == before
    assert not (home / ".local").exists()
    assert shown[0]["diff"].splitlines()[:4] == [f"--- {file}", f"+++ {file}", "@@ -1 +1,6 @@", '-model = "x"']
    assert "+[mcp_servers.orchestrion]" in shown[0]["diff"].splitlines()
    assert shown[1]["diff"].startswith(f"--- /dev/null\n+++ {project / 'AGENTS.md'}\n")
    setup("codex")
    assert "-[mcp_servers.orchestrion]" in setup("codex", undo=True, dry_run=True)["files"][0]["diff"].splitlines()
    assert "orchestrion" in file.read_text()


def test_what_was_written_comes_back_when_a_later_file_cannot_be(
    setup: SetUp, home: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(home, project)
    write, written = files.write, list[Path]()

    def fails(content: files.Content, raw: bytes | None) -> None:
        written.append(content.path)
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(content.path))
        write(content, raw)

    monkeypatch.setattr(files, "write", fails)
    with pytest.raises(OSError, match="No space"):
        setup("claude")
    assert {path: raw for path, raw in everything(home, project).items() if raw} == {
        path: raw for path, raw in before.items() if raw
    }


@pytest.mark.parametrize("other", [b'{"theirs": 1}', None], ids=["changed", "removed"])
def test_what_another_program_wrote_meanwhile_is_not_lost(
    setup: SetUp, home: Path, project: Path, monkeypatch: pytest.MonkeyPatch, other: bytes | None
) -> None:
    """Its second file is changed between our look and our writing: the first comes back."""
    (home / ".claude").mkdir()
    first, second = home / ".claude.json", home / ".claude/settings.json"
    first.write_text("{}")
    second.write_text("{}")
    keep = records.keep

    def meanwhile(place: Path, stamp: str, file: Path, *more: Any) -> records.Record:
        if file == second:
            second.write_bytes(other) if other else second.unlink()
        return keep(place, stamp, file, *more)

    monkeypatch.setattr(records, "keep", meanwhile)
    with pytest.raises(Conflict, match=r"settings\.json was changed by another program meanwhile"):
        setup("claude")
    assert first.read_text() == "{}"
    assert (second.read_bytes() if second.exists() else None) == other
    assert not (project / "AGENTS.md").exists()


def test_nothing_is_left_beside_a_file(setup: SetUp, home: Path) -> None:
    setup("cursor")
    setup("cursor", tools="core")
    assert os.listdir(home / ".cursor") == ["mcp.json"]  # noqa: PTH208


# -- Claude Code's hooks --------------------------------------------------------------------------

THEIRS = {
    "permissions": {"allow": ["Bash(ls)"]},
    "hooks": {
        "Stop": [{"hooks": [{"type": "command", "command": "say done"}]}],
        "PostToolUse": [{"matcher": "Write", "hooks": [{"type": "command", "command": "fmt"}]}],
        "Notification": [],
    },
}


def groups(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())["hooks"]  # type: ignore[no-any-return]


def test_hooks_are_added_to_those_of_others(setup: SetUp, home: Path) -> None:
    file = home / ".claude/settings.json"
    file.parent.mkdir()
    text = json.dumps(THEIRS, indent=2)
    file.write_text(text)
    setup("claude")
    found = groups(file)
    for wanted in hooks.WANTED:
        [ours] = [one for one in found[wanted.event] if "orchestrion" in str(one)]
        assert ours.get("matcher", "") == wanted.matcher
        assert ours["hooks"] == [
            {
                "type": "command",
                "command": f"'{PROGRAM[0]}' hook {wanted.event}",
                "timeout": wanted.timeout_s,
            }
        ]
    assert found["Stop"][0] == THEIRS["hooks"]["Stop"][0]  # type: ignore[index]
    assert found["Notification"] == []
    setup("claude")
    assert groups(file) == found
    setup("claude", undo=True)
    assert file.read_text() == text


def test_hooks_of_another_program_of_ours_are_replaced_and_doubled_ones_go(setup: SetUp, home: Path) -> None:
    setup("claude", program=("/old/orchestrion",))
    file = home / ".claude/settings.json"
    document = json.loads(file.read_text())
    document["hooks"]["Stop"] *= 2
    file.write_text(json.dumps(document))
    setup("claude")
    assert "/old/" not in file.read_text()
    assert [len(found) for found in groups(file).values()] == [1, 1, 1, 1]


def test_a_group_that_somebody_mixed_keeps_what_is_theirs(setup: SetUp, home: Path) -> None:
    setup("claude")
    file = home / ".claude/settings.json"
    document = json.loads(file.read_text())
    document["hooks"]["Stop"][0]["hooks"].append({"type": "command", "command": "say done"})
    document["hooks"]["Stop"].append("nonsense")
    file.write_text(json.dumps(document, indent=2))
    setup("claude", undo=True)
    assert json.loads(file.read_text()) == {
        "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}, "nonsense"]}
    }


def test_hooks_of_a_project_are_not_shared(setup: SetUp, project: Path) -> None:
    setup("claude", scope="project")
    assert groups(project / ".claude/settings.local.json").keys() == {wanted.event for wanted in hooks.WANTED}
    assert not (project / ".claude/settings.json").exists()


# -- AGENTS.md ------------------------------------------------------------------------------------


def test_instructions_are_for_all_clients_of_a_project(setup: SetUp, project: Path) -> None:
    file = project / "AGENTS.md"
    file.write_text("# Ours")
    setup("cursor")
    setup("codex", scope="project")
    assert block.has(file.read_text())
    assert file.read_text().startswith("# Ours\n")
    setup("cursor", undo=True)
    assert block.has(file.read_text())
    setup("codex", scope="project", undo=True)
    assert file.read_text() == "# Ours"


def test_instructions_can_be_left_out(setup: SetUp, project: Path) -> None:
    done = setup("cursor", agents_md=False)
    assert [one["part"] for one in done["files"]] == ["server"]
    assert not (project / "AGENTS.md").exists()


def test_broken_markers_are_named(setup: SetUp, project: Path) -> None:
    (project / "AGENTS.md").write_text("a\n<!-- orchestrion:begin v1 -->\n")
    with pytest.raises(InvalidInput, match=r"AGENTS\.md:2:1: the markers"):
        setup("cursor")


# -- how we are started ---------------------------------------------------------------------------


def test_what_a_team_shares_names_nothing_of_this_machine(home: Path, project: Path) -> None:
    """Where our program is found by its name; else there is no other way than its path."""
    own = Path(sys.executable).with_name("orchestrion")
    told = []
    for path in (str(own.parent), "/nowhere"):
        set_up("gemini", folder=project, scope="project", environ={"HOME": str(home), "PATH": path})
        told.append(servers(project / ".gemini/settings.json")["orchestrion"])
    assert told == [{"command": "orchestrion", "args": ["mcp"]}, {"command": str(own), "args": ["mcp"]}]
    set_up("gemini", folder=project, environ={"HOME": str(home), "PATH": str(own.parent)})
    assert servers(home / ".gemini/settings.json")["orchestrion"]["command"] == str(own)


def test_a_library_that_is_missing_is_named(home: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"HOME": str(home), "PATH": os.defpath}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem) as refused:
        set_up("cursor", folder=project, environ=environ)
    assert (refused.value.code, "orchestrion[mcp]" in refused.value.hint) == ("extra_missing", True)
    assert not (home / ".cursor").exists()
    # What is there can be taken out without it.
    assert {one["state"] for one in set_up("cursor", folder=project, environ=environ, undo=True)["files"]} == {
        "unchanged"
    }


# -- what is asked --------------------------------------------------------------------------------


def test_without_a_project_there_is_only_the_user(
    setup: SetUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    monkeypatch.chdir(nowhere)
    done = setup("claude-desktop", folder=None)
    assert done["project"] is None
    assert done["command"] == [*PROGRAM, "mcp"]
    assert len(done["files"]) == 1
    with pytest.raises(NotFound):
        setup("cursor", folder=None, scope="project")
    with pytest.raises(NotFound):
        setup("cursor", folder=nowhere)


@pytest.mark.parametrize(
    ("client", "asked", "named"),
    [("emacs", {}, "opencode"), ("cursor", {"scope": "team"}, "project"), ("cursor", {"tools": "all"}, "full")],
)
def test_wrong_words_are_answered_with_the_right_ones(
    setup: SetUp, client: str, asked: dict[str, str], named: str
) -> None:
    with pytest.raises(InvalidInput) as found:
        setup(client, **asked)
    assert named in f"{found.value.message} {found.value.hint} {found.value.details}"


@pytest.mark.parametrize(
    ("client", "platform", "environ", "place"),
    [
        ("claude-desktop", "darwin", {}, "Library/Application Support/Claude/claude_desktop_config.json"),
        ("vscode", "darwin", {}, "Library/Application Support/Code/User/mcp.json"),
        ("opencode", "darwin", {}, ".config/opencode/opencode.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "{home}/x"}, "x/Code/User/mcp.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "x"}, ".config/Code/User/mcp.json"),
        ("claude", "linux", {"CLAUDE_CONFIG_DIR": "{home}/c"}, "c/.claude.json"),
        ("codex", "linux", {"CODEX_HOME": "{home}/c"}, "c/config.toml"),
    ],
)
def test_where_files_are(
    setup: SetUp, home: Path, client: str, platform: str, environ: dict[str, str], place: str
) -> None:
    own = {key: value.format(home=home) for key, value in environ.items()}
    setup(client, platform=platform, environ=own)
    assert (home / place).is_file()


def test_opencodes_file_with_comments_is_found(setup: SetUp, project: Path) -> None:
    (project / "opencode.jsonc").write_text("{ // mine\n}\n")
    setup("opencode", scope="project")
    assert "orchestrion" in (project / "opencode.jsonc").read_text()
    assert not (project / "opencode.json").exists()
