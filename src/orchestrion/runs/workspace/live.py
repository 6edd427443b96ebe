"""What an agent has changed until now, looked at while it works.

Takes no lock, writes nothing where the agent is, and runs no git in its repository.
"""

from __future__ import annotations

from orchestrion.runs.workspace import trusted
from orchestrion.runs.workspace.changes import Touched, working_changes
from orchestrion.runs.workspace.places import Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository

#: A look that takes longer is given up, in seconds.
LOOK_S = 10.0


def touched(project: ProjectRepository, workspace: Workspace) -> list[Touched]:
    """What differs at this moment from what was there when the agent came, committed or not. Raises GitProblem."""
    trusted.refuse_if_gone(workspace.path)
    ours = trusted.found(project.common_dir, workspace.path, project.handed_on)
    if ours is None:
        return []  # a workspace of version 0.1.0: it is known when the run ends
    trusted.agent_repository(ours).refuse_odd_alternates()
    return working_changes(ours.git.within(LOOK_S), ours.note.ground or workspace.base)
