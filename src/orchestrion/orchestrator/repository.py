"""The user's repository of an open project, for the use cases that need it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrion.core.errors import Conflict
from orchestrion.orchestrator.finding import plan_named
from orchestrion.orchestrator.opening import Opening
from orchestrion.scheduler import clones
from orchestrion.store.store import Row

if TYPE_CHECKING:
    from orchestrion.runs.commits import Committer
    from orchestrion.runs.workspace.project_repository import ProjectRepository


def repository_of(opened: Opening) -> ProjectRepository:
    """Raises Conflict (``no_git``) for a project that is no git repository."""
    from orchestrion.runs.workspace.project_repository import ProjectRepository

    root, git_dir = opened.project.git_root, opened.project.git_common_dir
    if root is None or git_dir is None:
        raise Conflict(
            "the project is no git repository, so there are no branches and no plans to land",
            hint="`git init`, then `orchestrion init`, which takes the tasks along, then a first commit",
            code="no_git",
        )
    return ProjectRepository(root, git_dir, tuple(opened.config["workspace.carry"]), opened.project.checkout)


def plan_found(opened: Opening, plan: str) -> Row:
    """A plan's row; who began it with an older program did not write down in which clone, and this one may be it.

    Raises NotFound (``no_plan``), Conflict (``no_git``).
    """
    row = opened.store.read(lambda tx: plan_named(tx, plan))
    if clones.is_bound(row):
        return row
    from orchestrion.runs import plan_clone

    plan_clone.find(opened.store, repository_of(opened).git, opened.host.name)
    return opened.store.read(lambda tx: plan_named(tx, plan))


def workspaces_home_of(opened: Opening) -> Path:
    """Where the project's workspaces lie."""
    from orchestrion.runs.workspace.places import workspaces_home

    return workspaces_home(opened.store.project_name, opened.store.clone, opened.project.root, opened.environ)


def anonymity_of(opened: Opening) -> str | None:
    """What to do where git does not know who the user is, so that our commits are in nobody's name; else None."""
    from orchestrion.runs.commits import NOBODY

    who = committer_of(opened, repository_of(opened)).environment
    if (who["GIT_AUTHOR_NAME"], who["GIT_AUTHOR_EMAIL"]) != NOBODY:
        return None
    return (
        f"git does not know who you are, so commits of agents' work are by {NOBODY[0]} <{NOBODY[1]}>: "
        '`git config --global user.name "NAME"` and `git config --global user.email "MAIL"` tell it'
    )


def committer_of(opened: Opening, repository: ProjectRepository) -> Committer:
    """Who makes our commits in the project."""
    from orchestrion.runs.commits import committer, style_of

    return committer(style_of(opened.config), repository.handed_on.effective, opened.environ)
