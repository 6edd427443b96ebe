from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrion.core.config import SETTINGS, Config, load
from orchestrion.core.errors import InvalidInput
from orchestrion.core.settings import valid

NOTHING: Mapping[str, str] = {}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".orchestrion").mkdir(parents=True)
    return tmp_path / "project"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / ".config" / "orchestrion").mkdir(parents=True)
    return tmp_path / "home"


def write(project: Path, text: str) -> None:
    (project / ".orchestrion" / "config.yaml").write_text(text)


def loaded(project: Path, text: str) -> Config:
    write(project, text)
    return load(project, NOTHING, {})


def refusal(project: Path | None, environ: Mapping[str, str] = NOTHING, **flags: object) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        load(project, environ, {name.replace("__", "."): value for name, value in flags.items()})
    assert caught.value.code == "invalid_config"
    return caught.value


def test_without_anything_the_defaults_hold():
    config = load(None, NOTHING, {})
    assert config["work.slots"] == 4
    assert config.get("run.stall_s") is None
    assert config["retry.cap_s"] == 3600
    assert {config.origin(setting.name) for setting in SETTINGS} == {"default"}


def test_every_default_is_a_value_that_the_table_allows():
    for setting in SETTINGS:
        assert valid(setting, setting.default) == setting.default, setting.name


def test_no_two_settings_share_a_name_or_a_variable():
    variables = [setting.variable for setting in SETTINGS if setting.variable]
    assert len(set(variables)) == len(variables)
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    # These the agent's environment holds for another purpose.
    assert not set(variables) & {f"ORCHESTRION_{word}" for word in ("RUN", "TASK", "ATTEMPT", "BRIEF", "PROJECT")}


def test_the_best_layer_wins(project, home):
    environ = {"HOME": str(home)}
    (home / ".config/orchestrion/config.yaml").write_text("# mine\nwork:\n  slots: 2\n")
    config = load(project, environ, {})
    assert (config["work.slots"], config.origin("work.slots")) == (2, "user (~/.config/orchestrion/config.yaml:3)")

    write(project, "work: {slots: 3}\n")
    config = load(project, environ, {})
    assert (config["work.slots"], config.origin("work.slots")) == (3, "project (.orchestrion/config.yaml:1)")

    environ["ORCHESTRION_WORK_SLOTS"] = "5"
    config = load(project, environ, {})
    assert (config["work.slots"], config.origin("work.slots")) == (5, "environment ORCHESTRION_WORK_SLOTS")

    config = load(project, environ, {"work.slots": 6})
    assert (config["work.slots"], config.origin("work.slots")) == (6, "flag")
    assert load(project, environ, {"work.slots": None})["work.slots"] == 5


def test_the_users_file_follows_the_xdg_folder(tmp_path, home):
    (tmp_path / "xdg" / "orchestrion").mkdir(parents=True)
    (tmp_path / "xdg/orchestrion/config.yaml").write_text("run.feedback: 7")
    environ = {"HOME": str(home), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert load(None, environ, {})["run.feedback"] == 7
    assert load(None, {**environ, "XDG_CONFIG_HOME": "relative"}, {})["run.feedback"] == 2


def test_named_things_are_joined_name_by_name(project, home):
    (home / ".config/orchestrion/config.yaml").write_text("slots:\n  agents:\n    claude: 1\n    codex: 2\n")
    write(project, "slots:\n  agents:\n    claude: 3\n")
    config = load(project, {"HOME": str(home), "ORCHESTRION_SLOTS_AGENTS": "qwen=4"}, {})
    assert config["slots.agents"] == {"claude": 3, "codex": 2, "qwen": 4}
    assert config.origin("slots.agents.claude") == "project (.orchestrion/config.yaml:3)"
    assert config.origin("slots.agents.codex") == "user (~/.config/orchestrion/config.yaml:4)"
    assert config.origin("slots.agents").count(",") == 2
    assert load(None, NOTHING, {})["slots.agents"] == {}


def test_a_whole_file_is_understood(project):
    config = loaded(
        project,
        """
project: {name: text-tools}
db: postgresql://me@host/db
agent: {default: claude}
agents:
  mine: {command: "mine --brief $ORCHESTRION_BRIEF"}
resources: {gpu: 2, port:}
checks:
  test: make test
  lint: |
    ruff check
    mypy
workspace: {isolation: worktree, setup: npm ci, ports: no}
run.timeout_s: 0.5
slots:
retry: {jitter: 0.25}
hierarchy: {max_depth: none}
""",
    )
    assert config["project.name"] == "text-tools"
    assert config["agents"] == {"mine": {"command": "mine --brief $ORCHESTRION_BRIEF"}}
    assert config["resources"] == {"gpu": 2, "port": 1}
    assert config["checks"]["lint"] == "ruff check\nmypy\n"
    assert config["workspace.isolation"] == "worktree"
    assert config["workspace.ports"] is False
    assert config["run.timeout_s"] == 0.5
    assert config["retry.jitter"] == 0.25
    assert config["hierarchy.max_depth"] is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("work.slots", "8", 8),
        ("run.timeout_s", "1.5", 1.5),
        ("run.stall_s", "none", None),
        ("workspace.ports", "off", False),
        ("workspace.ports", "TRUE", True),
        ("workspace.isolation", "worktree", "worktree"),
        ("db", "postgresql://x/y", "postgresql://x/y"),
        ("resources", "gpu=2, port", {"gpu": 2, "port": 1}),
        ("project.name", "p.1", "p.1"),
        ("work.slots", "", 4),
    ],
)
def test_text_from_the_environment_becomes_a_value(name, text, value):
    variable = "ORCHESTRION_" + name.upper().replace(".", "_")
    assert load(None, {variable: text}, {})[name] == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("WORK_SLOTS", "0"),
        ("WORK_SLOTS", "four"),
        ("WORK_SLOTS", "4.5"),
        ("WORK_SLOTS", "none"),
        ("WORK_SLOTS", "1_0"),
        ("WORK_SLOTS", "9" * 5000),
        ("RUN_TIMEOUT_S", "nan"),
        ("RUN_TIMEOUT_S", "inf"),
        ("RUN_TIMEOUT_S", "-1"),
        ("RUN_TIMEOUT_S", "30m"),
        ("RETRY_JITTER", "1.1"),
        ("WORKSPACE_PORTS", "maybe"),
        ("WORKSPACE_ISOLATION", "copy"),
        ("SLOTS_AGENTS", "claude"),
        ("SLOTS_AGENTS", "claude=two"),
        ("SLOTS_AGENTS", "=2"),
        ("PROJECT_NAME", "../up"),
        ("PROJECT_NAME", "a/b"),
        ("PLAN_DEFAULT", ".."),
        ("DB", "a\0b"),
        ("DB", "\udcff"),
        ("DB", "  "),
    ],
)
def test_wrong_text_in_the_environment_is_refused_by_its_name(variable, text):
    error = refusal(None, {f"ORCHESTRION_{variable}": text})
    assert error.message.startswith(f"environment ORCHESTRION_{variable}: ")
    assert error.details["allowed"] in error.message
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("yaml", "setting", "found"),
    [
        ("work: {slots: '4'}", "work.slots", "'4'"),
        ("work: {slots: true}", "work.slots", "true"),
        ("work: {slots: }", "work.slots", "nothing"),
        ("work: {slots: 4.0}", "work.slots", "4.0"),
        ("run: {timeout_s: .nan}", "run.timeout_s", "nan"),
        ("run: {timeout_s: .inf}", "run.timeout_s", "inf"),
        ("run: {timeout_s: true}", "run.timeout_s", "true"),
        ("workspace: {isolation: copy}", "workspace.isolation", "'copy'"),
        ("workspace: {isolation: [clone]}", "workspace.isolation", "a list of 1"),
        ("workspace: {ports: 1}", "workspace.ports", "1"),
        ("workspace: {setup: [a]}", "workspace.setup", "a list of 1"),
        ("slots: {agents: 3}", "slots.agents", "3"),
        ("slots: {agents: {claude: -1}}", "slots.agents", "-1"),
        ("slots: {agents: {claude: }}", "slots.agents", "nothing"),
        ("slots: {agents: {'../x': 1}}", "slots.agents", "'../x'"),
        ("checks: {test: }", "checks", "nothing"),
        ("checks: {test: [a, b]}", "checks", "a list of 2"),
        ("agents: {mine: do it}", "agents", "'do it'"),
        ("agents: {mine: {cmd: x}}", "agents", "a mapping (cmd)"),
        ("agents: {mine: {command: x, args: y}}", "agents", "a mapping (command, args)"),
        ("project: {name: 2026-01-01}", "project.name", "2026-01-01"),
        ("work: 4", "work", "4"),
        ("- work", None, "a list of 1"),
        ("hello", None, "'hello'"),
    ],
)
def test_wrong_values_in_a_file_are_refused_with_place_and_what_is_allowed(project, yaml, setting, found):
    write(project, "# settings\n" + yaml)
    error = refusal(project)
    assert ".orchestrion/config.yaml" in error.message
    assert found in error.message
    assert error.details.get("setting") == setting
    assert setting is None or (error.details["line"] == 2 and error.details["allowed"])


def test_an_unknown_setting_is_refused_with_the_nearest_one(project):
    write(project, "run:\n  timeout: 5\n")
    error = refusal(project)
    assert ".orchestrion/config.yaml:2: there is no setting 'run.timeout'" in error.message
    assert "run.timeout_s" in error.hint
    assert "run.timeout_s" in refusal(None, run__timeout=1).hint
    write(project, "zzz: 1\n")
    assert "config show" in refusal(project).hint


def test_a_setting_that_is_set_twice_is_refused(project):
    write(project, "run:\n  timeout_s: 5\nrun.timeout_s: 6\n")
    error = refusal(project)
    assert "run.timeout_s" in error.message
    assert error.details["line"] == 3


def test_asking_for_an_unknown_setting_is_an_error():
    with pytest.raises(InvalidInput, match=r"work\.slot"):
        load(None, NOTHING, {})["work.slot"]


def test_broken_files_are_refused(project):
    write(project, "run: [1\n")
    assert ".orchestrion/config.yaml:2:1" in refusal(project).message
    (project / ".orchestrion/config.yaml").write_bytes(b"db: \xff")
    assert "UTF-8" in refusal(project).message
    (project / ".orchestrion/config.yaml").unlink()
    (project / ".orchestrion/config.yaml").mkdir()
    assert "not a file" in refusal(project).message


def test_flags_are_checked_as_well():
    assert load(None, NOTHING, {"work.slots": "7"})["work.slots"] == 7
    assert "flag: work.slots" in refusal(None, work__slots=0).message


def test_a_password_is_never_shown(project):
    for address in ("postgresql://me:s3cret@host/db", "postgresql://me:s3:c@ret@h/db", "host=h password=s3cret user=u"):
        config = load(None, {"ORCHESTRION_DB": address}, {})
        assert config["db"] == address
        shown = {row.name: row.value for row in config.rows()}["db"]
        assert "***" in shown
        assert "s3" not in shown
    write(project, "work: {slots: 'postgresql://me:s3cret@host/db'}")
    assert "s3cret" not in str(refusal(project).as_dict())


def test_the_rows_are_the_table(project):
    rows = loaded(project, "run: {timeout_s: 60}").rows()
    assert [row.name for row in rows] == [setting.name for setting in SETTINGS]
    row = next(row for row in rows if row.name == "run.timeout_s")
    assert row == (
        "run.timeout_s",
        60,
        "project (.orchestrion/config.yaml:1)",
        "s",
        "longest time of a run in all",
        "ORCHESTRION_RUN_TIMEOUT_S",
        "",
    )


def test_a_file_of_comments_costs_no_import_of_yaml(project):
    write(project, "# run:\n#   timeout_s: 60\n")
    program = (
        "import sys, pathlib; before = set(sys.modules); from orchestrion.core.config import load; "
        f"load(pathlib.Path({str(project)!r}), {{}}, {{}}); "
        "print(sorted({'yaml', 'dataclasses', 'difflib', 'json', 'click'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
