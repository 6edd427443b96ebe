"""Filters and merge drivers that the user's checkout has and a run cannot have: the run is refused.

A workspace without git-crypt's filter would store secrets in clear, one without LFS whole files
in place of pointers. So a driver that is set and whose program cannot be found refuses the
run, if any file is to go through it; whether git calls it *required* does not matter. One
that the user has not set either is as in the user's checkout.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator

from orchestrion.core.errors import GitProblem
from orchestrion.runs.workspace.project_repository import ProjectRepository

#: Drivers of git itself.
_BUILT_IN = frozenset({"text", "binary", "union"})
#: How the well-known ones are set up.
_SET_UP = {"lfs": "`git lfs install` sets it up", "git-crypt": "`git-crypt unlock` sets it up"}


def refuse_missing(project: ProjectRepository, commit: str) -> None:
    """Raises GitProblem (``filter_missing``) when files of ``commit`` go through a driver that cannot run here."""
    missing = {
        (kind, name): program
        for kind, drivers in (("filter", project.handed_on.filters), ("merge", project.handed_on.merge_drivers))
        for name, commands in drivers.items()
        if (program := _missing_program(commands))
    }
    if not missing:
        return
    used = drivers_used(project, commit)
    for (kind, name), program in missing.items():
        if (kind, name) in used:
            raise GitProblem(
                f"files of this repository go through the {kind} {name!r}, whose program {program} is not found",
                hint=f"install it, or put it on the PATH of `orchestrion work`; git config {kind}.{name}",
                code="filter_missing",
                driver=name,
                program=program,
            )


def not_set_up(project: ProjectRepository, commit: str) -> dict[str, str]:
    """Filters that files of ``commit`` name and the user has not set -> how they are set up, as far as we know."""
    names = {name for kind, name in drivers_used(project, commit) if kind == "filter"}
    return {name: _SET_UP.get(name, "") for name in sorted(names - project.handed_on.filters.keys())}


def drivers_used(project: ProjectRepository, commit: str) -> set[tuple[str, str]]:
    """The filters and merge drivers that attributes name: in files of ``commit``, or beside them."""
    answer = project.git.run(
        "grep", "--no-color", "-h", "-I", "-E", "(filter|merge)=", commit, "--", ":(top,glob)**/.gitattributes",
        check=False,
    )  # fmt: skip
    text = answer.stdout + "\n" + project.handed_on.attributes.decode("utf-8", "replace")
    found = re.findall(r"(?:^|\s)(filter|merge)=(\S+)", text)
    return {(kind, name) for kind, name in found if name not in _BUILT_IN}


def _missing_program(commands: list[str]) -> str | None:
    """The first program of the commands that is nowhere on the PATH; None: all are there."""
    return next((program for command in commands for program in _programs(command) if not _is_there(program)), None)


def _programs(command: str) -> Iterator[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        return
    while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
        words.pop(0)
    if not words:
        return
    # `git lfs smudge` is the program git-lfs, if git itself does not know the word.
    if words[:2] == ["git", "lfs"]:
        yield "git-lfs"
    yield words[0]


def _is_there(program: str) -> bool:
    # A path within the repository is looked for by git where the files are.
    if "/" in program:
        return not program.startswith("/") or os.access(program, os.X_OK)
    return program in _SHELL or shutil.which(program) is not None


#: What the shell does itself.
_SHELL = frozenset(
    ("cd", "echo", "eval", "exec", "export", "false", "printf", "test", "true", "[", ":", "(", "{", "if")
)
