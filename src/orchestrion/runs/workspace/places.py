"""Where workspaces lie, and what they are called."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.digest import sha256
from orchestrion.core.host import state_folder

#: A clone of its own, or a linked worktree of the project.
ISOLATIONS = ("clone", "worktree")
#: The names of the workspaces in which merges are made; they hold nobody's work and are made anew at any time.
MERGE_PREFIX = "merge-"
#: Folders that are about to be deleted.
REMOVED_PREFIX = ".removed-"
#: Ends the name of the git directory that we keep beside a workspace.
GIT_DIR_SUFFIX = ".git"


@dataclass(frozen=True)
class Workspace:
    """One run's copy of the repository."""

    #: Its folder.
    path: Path
    #: The short name of its branch, ``orchestrion/run/R31``.
    branch: str
    #: The commit it was made from.
    base: str
    #: ``clone`` or ``worktree``.
    isolation: str

    @property
    def run(self) -> str:
        """The name of its run, ``R31``."""
        return self.branch.rpartition("/")[2]


def git_dir_beside(path: Path) -> Path:
    """The git directory of ours that belongs to the workspace at ``path``."""
    return path.with_name(f"{path.name}{GIT_DIR_SUFFIX}")


def workspaces_home(name: str, clone: str | None, project: Path, environ: Mapping[str, str]) -> Path:
    """Where the workspaces of a project lie: under $XDG_STATE_HOME, by default ~/.local/state.

    ``name`` is the project's in its store, ``clone`` the id of this clone of it: so they are
    found again when its folder is renamed or moved.
    """
    if clone is None:
        return former_home(project, environ)
    return state_folder(environ) / f"{_slug(name)}-{clone[:8]}" / "workspaces"


def former_home(project: Path, environ: Mapping[str, str]) -> Path:
    """Where version 0.1.0 kept them: the folder's name and path decided."""
    real = os.path.realpath(project)
    digest = sha256(os.fsencode(real)).hexdigest()[:8]
    return state_folder(environ) / f"{_slug(Path(real).name)}-{digest}" / "workspaces"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.")[:40] or "project"
