"""Use cases ``doctor`` and ``debug``: what is installed, what is wrong with it or with a run, and what to do."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrion.core import private, tracing
from orchestrion.core.errors import AgentProblem, OrchestrionError, StoreProblem
from orchestrion.core.masking import masked_value
from orchestrion.core.model import iso, name
from orchestrion.core.values import count
from orchestrion.ops import health
from orchestrion.orchestrator import older_copies
from orchestrion.orchestrator.opening import FIRST_COMMIT
from orchestrion.orchestrator.repository import anonymity_of, plan_found, repository_of
from orchestrion.orchestrator.talking import TalkCases
from orchestrion.scheduler import clones
from orchestrion.store import Transaction
from orchestrion.store.store import Row

if TYPE_CHECKING:
    from orchestrion.runs.workspace.project_repository import ProjectRepository

Result = TypeVar("Result")

#: So many lines of a log, and characters of each, are enough to see how it ended.
_SHOWN, _LONGEST = 40, 2000
#: And so many bytes of its end: a log may have 256 MB.
_TAIL = 256 * 1024
#: Digits of a moment in milliseconds.
_MOMENT = 13
#: So many plans are looked at, the newest.
MOST_PLANS = 100


class ExamineCases(TalkCases):
    """A look at everything that a run needs."""

    def doctor(self, agents: Sequence[str] = ()) -> dict[str, Any]:
        """Agents (those named, else those that are installed or set), git, store and disk, each with advice.

        Nothing is spent and nothing changed. ``healthy`` says whether nothing asks for action:
        an agent that is merely not installed does only if it is named or set.
        """
        from orchestrion.runs.agents.known import installed

        wanted = list(agents) or sorted(
            {*installed(self.environ), *self.config["agents"], self.config["agent.default"]}
        )
        with ThreadPoolExecutor(max_workers=8) as pool:
            found = list(pool.map(self._examined, wanted))
        parts = [self._git(), self._repository_part(), self._store(), self._disk()]
        healthy = not any(one["advice"] for one in [*found, *parts])
        return {"healthy": healthy, "agents": found, "parts": parts}

    def debug(self, run: str) -> dict[str, Any]:
        """Everything that is known of a run, for whoever looks into what went wrong.

        ``steps``: the points of the sequence that it reached, and how long it took to each (``after_s``);
        ``order``: what its supervisor was told, without values of environments and headers; ``journal``,
        ``notes``, ``last_words``, ``processes`` that live, ``files`` of its folder in bytes; ``bent``: what of these
        cannot be known, for something else has the place of a file. Raises NotFound.
        """
        from orchestrion.runs import launch, order, processes

        row = self.run(run).row
        place = order.folder(self.project.store_dir, row["id"])
        bent: list[str] = []
        lines = _unless_bent(bent, lambda: _end_of(place / "log.jsonl")) or []
        told = _unless_bent(bent, lambda: _order_in(place / "order.json"))
        places = launch.places(self.project.root, self.store.url)
        alive = processes.of_store(self.store.uuid, places).get(name("R", row["id"]), [])
        correlation = str((told or {}).get("correlation") or name("R", row["id"]))
        known = {
            "run": self.run_detail(run),
            "correlation": correlation,
            "trace": tracing.place_of(self.store.uuid, name("T", row["task"]), name("R", row["id"])),
            "host": row["host"],
            "steps": _unless_bent(bent, lambda: _steps(row["claimed_at"], place / order.STEPS)) or [],
            "order": _without_values(told),
            "journal": self.events(run=run, limit=1000),
            "notes": [_said(line) for line in lines if line.get("stream") == "note"][-_SHOWN:],
            "last_words": [_said(line) for line in lines if line.get("stream") in ("out", "err")][-_SHOWN:],
            "processes": [{"pid": pid, "started": started} for pid, started in alive],
            "folder": str(place),
            "files": _unless_bent(bent, lambda: _files(place)) or {},
            "bent": bent,
        }
        return dict(masked_value(known))

    def _examined(self, agent: str) -> dict[str, Any]:
        from orchestrion.runs.agents.known import agent_named

        settings = self.config["agents"].get(agent, {})
        try:
            health = agent_named(agent, settings).examine(self.environ, settings.get("program", ()))
        except AgentProblem as problem:
            return _agent(agent, None, None, None, f"{problem.message}; {problem.hint}")
        except OrchestrionError as problem:
            return _agent(agent, None, None, None, problem.message)
        return _agent(agent, health.program, health.version, health.signed_in, health.advice)

    def _git(self) -> dict[str, Any]:
        from orchestrion.runs.git import INSTALL_GIT

        program = shutil.which("git", path=self.environ.get("PATH"))
        if program is None:
            return _part("git", "not found", INSTALL_GIT)
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
        return _part("git", said)

    def _repository_part(self) -> dict[str, Any]:
        """Whether runs can get their own copies of it; what an agent's copy will lack."""
        from orchestrion.runs import refs
        from orchestrion.runs.workspace import drivers

        if self.project.git_root is None:
            return _part("repository", "this folder is none", "", "agents work in the folder itself")
        try:
            project = repository_of(self)
            commit = project.git.tip("HEAD")
            if commit is None:
                return _part("repository", "it has no commit yet", FIRST_COMMIT, anonymity_of(self) or "")
            drivers.refuse_missing(project, commit)
            unset = drivers.not_set_up(project, commit).items()
            self._refuse_lost_plans(project)
            notes = [
                f"its filter {one} is not set up, here or for agents{f': {how}' if how else ''}" for one, how in unset
            ]
            way, nobody = refs.in_the_way(project.git), anonymity_of(self)
        except OrchestrionError as problem:
            return _part("repository", problem.message, problem.hint)
        return _part("repository", str(self.project.checkout), "", "; ".join([*notes, *filter(None, (way, nobody))]))

    def _refuse_lost_plans(self, project: ProjectRepository) -> None:
        """Raises NotFound or Conflict for a plan of this clone whose work is not in the repository any more."""
        from orchestrion.runs.plan_start import place_of
        from orchestrion.runs.plan_tip import PlanTip

        def of_clone(tx: Transaction) -> list[Row]:
            return [row for row in tx.all("plans", limit=MOST_PLANS) if not clones.is_elsewhere(tx, row)]

        for row in self.store.read(of_clone):
            place_of(PlanTip(project.git, row["name"]), row, partial(plan_found, self, row["name"]))

    def _store(self) -> dict[str, Any]:
        def look(tx: Any) -> int:
            return sum(row["total"] for row in tx.all("count_states"))

        return _part(
            "store",
            f"{self.store.dialect}, {count(self.store.read(look), 'task')}",
            self._cannot_write() or older_copies.told(self),
        )

    def _cannot_write(self) -> str:
        """Why nothing can be written to the store, and what to do; empty: it can be. Nothing is."""
        try:
            self.store.rehearse(lambda tx: tx.put("write_probe", key="probe"))
        except StoreProblem as problem:
            return f"{problem.message}; {problem.hint}"
        return ""

    def _disk(self) -> dict[str, Any]:
        disk = health.of_disk(health.places_of(self.store, self.project.store_dir, self.environ))
        return _part("disk", disk.said, disk.advice)


def _unless_bent(bent: list[str], read: Callable[[], Result]) -> Result | None:
    """What ``read`` finds in a run's folder; None: it is not there, or somebody bent it, which ``bent`` says then."""
    from orchestrion.runs import log

    try:
        return read()
    except FileNotFoundError:
        return None
    except private.NotPlain as problem:
        bent.append(log.bent(problem))
        return None


def _end_of(file: Path) -> list[dict[str, Any]]:
    from orchestrion.runs import log

    return [line for _, line in log.read(file, max(0, log.size(file) - _TAIL))]


def _order_in(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(private.read(file))
    except (ValueError, RecursionError) as problem:
        raise private.NotPlain(file, f"this is no JSON ({problem})") from problem
    if not isinstance(found, dict):
        raise private.NotPlain(file, "this is no order of ours")
    return found


def _files(folder: Path) -> dict[str, int]:
    """All that is in a folder but folders, and how large it is; of a link, the link itself."""
    found = [(one, one.lstat()) for one in sorted(private.plain_folder(folder).rglob("*"))]
    return {str(one.relative_to(folder)): is_.st_size for one, is_ in found if not stat.S_ISDIR(is_.st_mode)}


def _steps(claimed: int, file: Path) -> list[dict[str, Any]]:
    """When each point was reached, and how long after the one before."""
    found, before = [], claimed
    for line in private.read(file).splitlines():
        at, _, step = line.partition(" ")
        if not (at.isdecimal() and len(at) <= _MOMENT and step):
            continue  # a full disk cut it short, or it is not ours
        found.append({"step": step, "at": iso(int(at)), "after_s": max(0, int(at) - before) / 1000})
        before = int(at)
    return found


def _said(line: Mapping[str, Any]) -> str:
    text = str(line.get("text", ""))
    return f"{iso(line.get('at'))} {line.get('stream')}: {text[:_LONGEST]}"


def _without_values(order: Any) -> Any:
    """An order without what may be secret: of environments and headers only the names are told."""
    if isinstance(order, dict):
        return {
            key: sorted(value) if key in ("env", "headers") and isinstance(value, dict) else _without_values(value)
            for key, value in order.items()
        }
    return [_without_values(one) for one in order] if isinstance(order, list) else order


def _agent(name: str, program: str | None, version: str | None, signed_in: bool | None, advice: str) -> dict[str, Any]:
    return {"agent": name, "program": program, "version": version, "signed_in": signed_in, "advice": advice}


def _part(name: str, found: str, advice: str = "", note: str = "") -> dict[str, Any]:
    return {"part": name, "found": found, "advice": advice, "note": note}
