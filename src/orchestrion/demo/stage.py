"""The folder of a demo: the repository, the plan, the scripts of the agents, and all state.

Nothing outside of this folder is written to. What the user's environment says about other
projects, stores and runs stays out; their git settings hold as they would in daily work.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from orchestrion.core.errors import Conflict, EnvironmentProblem
from orchestrion.demo import repository
from orchestrion.orchestrator import Orchestrator

#: What in an inherited environment means another project, another store or another repository.
_FOREIGN = ("ORCHESTRION_", "GIT_")
#: Settings that the story depends on, whatever the user's own are.
_SETTINGS = """\
project:
  name: {name}
run:
  feedback: 2
  stall_s: none
workspace:
  isolation: clone
  setup: none
slots:
  global: none
  host: none
queue:
  max_open: none
"""


@dataclass(frozen=True)
class Stage:
    """Where a demo plays."""

    #: Holds everything else.
    folder: Path
    #: The project: a git repository.
    repository: Path
    #: The newest commit that people made.
    start: str
    #: The plan file as it was applied.
    plan: Path
    #: The plan's name in the store.
    plan_name: str
    #: key of the plan -> id, as ``T7``.
    tasks: Mapping[str, str]
    #: The environment of the worker, and thereby of all runs.
    environ: Mapping[str, str]


def set_up(folder: Path | None, environ: Mapping[str, str]) -> Stage:
    """Makes the folder with all that belongs into it, and applies the plan. Raises Conflict, EnvironmentProblem."""
    place = _provided(folder)
    try:
        return _filled(place, environ)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _filled(place: Path, environ: Mapping[str, str]) -> Stage:
    project = place / repository.NAME
    start = repository.make(project)
    ours = _environment(environ, place)
    shared = project / ".orchestrion"
    shared.mkdir()
    (shared / "config.yaml").write_text(_SETTINGS.format(name=repository.NAME), encoding="utf-8")
    plan = _plan_with_agents(place)
    with Orchestrator.open(project, environ=ours, actor="demo") as opened:
        applied = opened.apply(plan.read_bytes(), plan.name)
    return Stage(place, project, start, plan, applied["plan"], applied["tasks"], ours)


def _provided(folder: Path | None) -> Path:
    try:
        if folder is None:
            return Path(tempfile.mkdtemp(prefix="orchestrion-demo-")).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Conflict(
                f"the folder {folder} is not empty; the demo wants one of its own",
                hint="name a folder that is empty or does not exist yet",
                code="folder_not_empty",
                folder=str(folder),
            )
        return folder.resolve()
    except OSError as problem:
        raise EnvironmentProblem(
            f"no folder for the demo: {problem}",
            hint="name one that you may write to with --folder DIR",
            code="no_folder",
        ) from problem


def _environment(inherited: Mapping[str, str], folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in inherited.items() if not name.startswith(_FOREIGN)}
    # A repair within the same second and of the same length would be hidden by the old bytecode.
    return {**kept, "XDG_STATE_HOME": str(folder / "state"), "PYTHONDONTWRITEBYTECODE": "1"}


def _plan_with_agents(folder: Path) -> Path:
    """Copies the plan and the scripts; the plan's commands get this machine's paths."""
    packaged = resources.files("orchestrion.demo")
    agents = folder / "agents"
    agents.mkdir()
    for script in packaged.joinpath("agents").iterdir():
        if script.name.endswith(".py"):
            (agents / script.name).write_bytes(script.read_bytes())
    text = packaged.joinpath("plan.yaml").read_text(encoding="utf-8")
    text = text.replace("{python}", _in_quotes(sys.executable)).replace("{agents}", _in_quotes(str(agents)))
    plan = folder / "plan.yaml"
    plan.write_text(text, encoding="utf-8")
    return plan


def _in_quotes(path: str) -> str:
    """A path for the shell, inside of a double-quoted scalar of YAML."""
    return json.dumps(shlex.quote(os.fspath(path)), ensure_ascii=False)[1:-1]
