"""Use case ``doctor``: what is installed, what is wrong with it, and what to do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrion.core.errors import AgentProblem, OrchestrionError
from orchestrion.orchestrator.talking import TalkCases

#: Less free space than this on the store's disk is worth a word, in bytes.
LEAST_FREE = 1_000_000_000


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
        parts = [self._git(), self._store(), self._disk()]
        healthy = not any(one["advice"] for one in [*found, *parts])
        return {"healthy": healthy, "agents": found, "parts": parts}

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
        program = shutil.which("git", path=self.environ.get("PATH"))
        if program is None:
            return _part("git", "not found", "install git 2.31 or newer")
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
        if self.project.git_root is None:
            return _part("git", f"{said}; this folder is no repository", "", "agents work in the folder itself")
        return _part("git", said)

    def _store(self) -> dict[str, Any]:
        def look(tx: Any) -> int:
            return sum(row["total"] for row in tx.all("count_states"))

        return _part("store", f"{self.store.dialect}, {self.store.read(look)} tasks")

    def _disk(self) -> dict[str, Any]:
        free = shutil.disk_usage(self.project.store_dir).free
        advice = "" if free > LEAST_FREE else "free some space: `orchestrion cleanup`, or lower workspace.quota_gb"
        return _part("disk", f"{free / 1e9:.1f} GB free", advice)


def _agent(name: str, program: str | None, version: str | None, signed_in: bool | None, advice: str) -> dict[str, Any]:
    return {"agent": name, "program": program, "version": version, "signed_in": signed_in, "advice": advice}


def _part(name: str, found: str, advice: str = "", note: str = "") -> dict[str, Any]:
    return {"part": name, "found": found, "advice": advice, "note": note}
