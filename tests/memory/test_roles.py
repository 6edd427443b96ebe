from __future__ import annotations

from pathlib import Path

import pytest

from orchestrion.core import documents
from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.memory import roles
from orchestrion.memory.roles import Role, canonical, load_role, load_roles

PACKAGED = {
    "analyst",
    "architect",
    "coordinator",
    "debugger",
    "devops",
    "documenter",
    "implementer",
    "planner",
    "researcher",
    "reviewer",
    "tester",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".orchestrion" / "roles").mkdir(parents=True)
    return tmp_path / "project"


def write(project: Path, name: str, text: str) -> Path:
    file = project / ".orchestrion" / "roles" / name
    file.write_text(text)
    return file


def role_of(project: Path | None, name: str) -> Role:
    role = load_role(project, name)
    assert role is not None
    assert load_roles(project)[role.name] == role
    return role


def refusal(project: Path, name: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        load_role(project, name)
    assert caught.value.code == "invalid_role"
    return caught.value


def test_the_packaged_roles_are_complete():
    found = load_roles(None)
    assert found.keys() == PACKAGED
    for name, role in found.items():
        assert role.name == name
        assert role.role_definition.startswith("You are the ")
        assert len(role.expertise) >= 3
        assert len(role.approach) >= 4
        assert role.output_format
        assert role.origin == "packaged"
        assert role.agent is None


def test_one_role_reads_one_packaged_file(project, monkeypatch):
    read = []
    roles._packaged.cache_clear()
    monkeypatch.setattr(
        roles, "read_yaml", lambda file, *more: read.append(file.name) or documents.read_yaml(file, *more)
    )
    write(project, "other.yaml", "role_definition: somebody else\n")
    assert load_role(project, "tester")
    assert read == ["tester.yaml"]


def test_coder_is_the_implementer_and_generic_is_nobody():
    assert role_of(None, "coder") == role_of(None, "implementer")
    assert load_role(None, "generic") is None
    assert (canonical("coder"), canonical("generic"), canonical("wizard")) == ("implementer", None, "wizard")


def test_a_file_of_the_project_replaces_the_packaged_role(project):
    write(project, "tester.yaml", "role_definition: Our tester.\nexpertise: one thing\nagent: claude\n")
    role = role_of(project, "tester")
    assert role == Role(
        "tester", "Our tester.", ("one thing",), agent="claude", origin=".orchestrion/roles/tester.yaml"
    )


def test_a_definition_without_a_prompt_amends_the_packaged_role(project):
    write(project, "coder.yaml", "agent: codex\nmax_turns: 20\nexpertise: [Rust]\n")
    packaged, amended = role_of(None, "implementer"), role_of(project, "coder")
    assert amended.role_definition == packaged.role_definition
    assert amended.approach == packaged.approach
    assert (amended.agent, amended.max_turns, amended.expertise) == ("codex", 20, ("Rust",))
    assert amended.origin.startswith(".orchestrion/roles/coder.yaml")


def test_a_new_role_can_be_used_at_once(project):
    write(
        project,
        "security_auditor.yaml",
        """
role_definition: You look for holes.
expertise: [crypto, web]
approach:
output_format: A list.
agent: claude
fallback_agent: codex
model: some/model-1
allowed_tools: [Read, "Bash(git *)"]
max_turns: 30
timeout: 600
budget: 1.5
""",
    )
    assert role_of(project, "security_auditor") == Role(
        name="security_auditor",
        role_definition="You look for holes.",
        expertise=("crypto", "web"),
        approach=(),
        output_format="A list.",
        agent="claude",
        fallback_agent="codex",
        model="some/model-1",
        allowed_tools=("Read", "Bash(git *)"),
        max_turns=30,
        timeout_s=600,
        budget_usd=1.5,
        origin=".orchestrion/roles/security_auditor.yaml",
    )


def test_one_file_may_define_several_roles(project):
    write(
        project,
        "team.yml",
        """
task_orchestrator:
  role_definition: the orchestrator itself
  specialist_roles: {wizard: does magic}
wizard:
  role_definition: You do magic.
architect:
  agent: claude
""",
    )
    assert role_of(project, "wizard").role_definition == "You do magic."
    assert role_of(project, "architect").agent == "claude"
    assert load_roles(project).keys() == PACKAGED | {"wizard"}


def test_the_file_named_for_a_role_counts_before_others(project):
    write(project, "a.yaml", "wizard: {role_definition: first}\nwitch: {role_definition: a}")
    write(project, "b.yaml", "witch: {role_definition: b}")
    write(project, "wizard.yaml", "wizard: {role_definition: second}")
    assert role_of(project, "wizard").role_definition == "second"
    assert role_of(project, "witch").role_definition == "a"


def test_what_is_no_role_file_is_left_alone(project):
    write(project, "README.md", "# roles")
    write(project, ".hidden.yaml", "[broken")
    write(project, "empty.yaml", "# nothing yet\n")
    assert load_roles(project).keys() == PACKAGED


def test_an_unknown_role_is_refused_with_the_known_ones(project):
    write(project, "wizard.yaml", "role_definition: magic")
    with pytest.raises(NotFound) as caught:
        load_role(project, "implementor")
    assert caught.value.code == "no_role"
    assert "implementer" in caught.value.hint
    assert {"wizard", "coder", *PACKAGED} <= set(caught.value.details["known"])


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "..", ".", "", "a\0b", "%2e%2e", "x" * 65, "tester\n", "tester.yaml", "-x", "é"]
)
def test_a_name_that_could_be_a_path_is_refused(project, name):
    refusal(project, name)


def test_a_file_that_leads_out_of_the_project_is_refused(project, tmp_path):
    (tmp_path / "secret.yaml").write_text("role_definition: secret")
    link = project / ".orchestrion" / "roles" / "spy.yaml"
    link.symlink_to(tmp_path / "secret.yaml")
    error = refusal(project, "spy")
    assert "leads out of the project" in error.message
    assert "secret" not in str(error.as_dict())
    link.unlink()
    link.symlink_to(link)
    refusal(project, "spy")


def test_a_link_within_the_project_is_followed(project):
    (project / "shared.yaml").write_text("role_definition: shared")
    (project / ".orchestrion/roles/mate.yaml").symlink_to(project / "shared.yaml")
    assert role_of(project, "mate").role_definition == "shared"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("role_definition: x\nexpertise: [a\n", 3, "broken YAML"),
        ("role_definition: x\nrole_definition: y\n", 2, "twice"),
        ("role_definition: x\nmax_turns: 0\n", 2, "max_turns must be a whole number"),
        ("role_definition: x\nmax_turns: ten\n", 2, "'ten'"),
        ("role_definition: x\ntimeout_s: -1\n", 2, "timeout_s must be a number"),
        ("role_definition: x\nbudget_usd: .nan\n", 2, "budget_usd"),
        ("role_definition: x\nexpertise: {a: b}\n", 2, "a list of texts"),
        ("role_definition: x\nexpertise: [1]\n", 2, "a list of texts"),
        ("role_definition: x\nagent: ../sh\n", 2, "agent must be a name"),
        ("role_definition: [x]\n", 1, "role_definition must be text"),
        ('role_definition: "  "\n', 1, "role_definition must be text"),
        ("role_definition: x\nexpertice: y\n", 2, "no field 'expertice'"),
        ("expertise: [a]\n", None, "no role_definition"),
        ("- a\n", None, "a list of 1"),
        ("mate:\n  role_definition: x\n  max_turns: 0\n", 3, "max_turns"),
    ],
)
def test_broken_files_are_refused_with_their_place(project, text, line, words):
    write(project, "mate.yaml", text)
    error = refusal(project, "mate")
    assert ".orchestrion/roles/mate.yaml" in error.message
    assert words in error.message
    assert error.details.get("line") == line
    with pytest.raises(InvalidInput):
        load_roles(project)


def test_a_file_that_is_not_text_is_refused(project):
    write(project, "mate.yaml", "").write_bytes(b"role_definition: \xff\n")
    assert "UTF-8" in refusal(project, "mate").message
    (project / ".orchestrion/roles/mate.yaml").unlink()
    (project / ".orchestrion/roles/mate.yaml").mkdir()
    assert "not a file" in refusal(project, "mate").message


def test_no_role_cannot_be_defined(project):
    write(project, "generic.yaml", "role_definition: x")
    with pytest.raises(InvalidInput, match="generic"):
        load_roles(project)
