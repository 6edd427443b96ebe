"""What shells complete: commands, options, ids with titles, plans; cheaply, and never with an error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from place import Place


def completions(place: Place, words: str, shell: str = "zsh") -> list[str]:
    """What the shell is offered for the last of ``words``."""
    count = len(words.split(" ")) - 1
    environ = {"_ORCHESTRION_COMPLETE": f"{shell}_complete", "COMP_WORDS": words.strip(), "COMP_CWORD": str(count)}
    answer = Place(place.root, {**place.environ, **environ}).process()
    assert answer.err == ""
    return answer.out.rstrip("\n").split("\n") if answer.out.strip() else []


def test_commands_and_options(project: Place) -> None:
    assert "claim" in completions(project, "orchestrion cl", "bash")[0]
    assert any("--priority" in line for line in completions(project, "orchestrion add --pri", "bash"))
    assert any(line == "plain,waive" for line in completions(project, "orchestrion dep ", "bash"))


def test_ids_complete_with_their_titles(project: Place) -> None:
    project("add", "first \u202e one")
    project("add", "second", "--plan", "tools")
    project("claim", "T1")
    assert completions(project, "orchestrion show ") == ["plain", "T1", "first \\u202e one", "plain", "T2", "second"]
    assert completions(project, "orchestrion why t2") == ["plain", "T2", "second"]
    assert completions(project, "orchestrion log ")[:2] == ["plain", "R1"]
    assert completions(project, "orchestrion show R")[:2] == ["plain", "R1"]
    assert "tools" in completions(project, "orchestrion land ")
    assert "T2" in completions(project, "orchestrion add x --after ")


def test_another_project_is_completed_too(project: Place, bare: Place) -> None:
    project("add", "here")
    assert "T1" in completions(bare, f"orchestrion -C {project.root} show ")


def test_there_is_never_an_error(bare: Place) -> None:
    assert completions(bare, "orchestrion show ") == []
    bare.git("init", "-q")
    assert completions(bare, "orchestrion show ") == []
    assert not (bare.root / ".git" / "orchestrion").exists()


def test_files_are_left_to_the_shell(project: Place) -> None:
    assert completions(project, "orchestrion apply pl", "bash") == ["file,pl"]
    assert completions(project, "orchestrion init ", "bash") == ["dir,"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_serve_both_names(shell: str, project: Place, tmp_path: Path) -> None:
    script = project("completion", shell).out
    assert "_ORCHESTRION_COMPLETE" in script
    for name in ("orchestrion", "orch"):
        assert f"_{name}_completion" in script
    assert project.json("completion", shell) == {"shell": shell, "script": script}
    program = shutil.which(shell)
    if program:
        file = tmp_path / "script"
        file.write_text(script)
        subprocess.run([program, "-n", str(file)], check=True)


def test_bash_really_completes(project: Place, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    project("add", "only one")
    (tmp_path / "script").write_text(project("completion", "bash").out)
    typed = "COMP_WORDS=(orchestrion why T); COMP_CWORD=2"
    ask = f'source "$1"; {typed}; _orchestrion_completion orchestrion; echo "${{COMPREPLY[@]}}"'
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "orchestrion").write_text(f'#!/bin/sh\nexec {sys.executable} -m orchestrion "$@"\n')
    (binaries / "orchestrion").chmod(0o755)
    environ = {**project.environ, "PATH": f"{binaries}:{project.environ['PATH']}"}
    done = subprocess.run(
        [bash, "--norc", "-c", ask, "bash", str(tmp_path / "script")],
        cwd=project.root,
        env=environ,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split() == ["T1"]


def test_an_unknown_shell(project: Place) -> None:
    message = project("completion", "tcsh", "--json", code=2).error["message"]
    assert all(shell in message for shell in ("bash", "zsh", "fish"))
