"""Programs in the place of agents: they say when they were started, and little else.

``python -m bench.stand_in`` is the one that speaks the Agent Client Protocol: it answers what
it must, and ends its only turn after half a second without having done anything.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.project import BenchProject

#: One of each kind of agent: those that have an adapter of their own, and the protocol for all others.
AGENTS = ("claude", "codex", "acp")
#: How long one works, in seconds.
WORKS_S = 0.5
_STAMP = "started"


def put_in_place(project: BenchProject, agent: str, *, works: bool = False) -> Path:
    """Makes the project's agent of that name a stand-in. Returns the file where it writes the time when it is started.

    With ``works`` it stays a moment.
    """
    folder = project.folder / "agents"
    folder.mkdir(exist_ok=True)
    program, stamp = folder / agent, folder / _STAMP
    then = f"sleep {WORKS_S}"
    if agent == "acp":
        then = f"PYTHONPATH='{Path(__file__).parent.parent}' exec '{sys.executable}' -m bench.stand_in"
    program.write_text(f"#!/bin/sh\ndate +%s%N > '{stamp}'\n{then if works else ''}\n", encoding="utf-8")
    program.chmod(0o755)
    settings = {"agents": {agent: {"program": str(program)}}, "breaker": {"failures": 1_000_000}}
    shared = project.tree / ".orchestrion"
    shared.mkdir(exist_ok=True)
    (shared / "config.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return stamp


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    match asked["method"]:
        case "initialize":
            return {"protocolVersion": 1, "agentCapabilities": {}}
        case "session/new":
            return {"sessionId": "s-1"}
        case "session/prompt":
            time.sleep(WORKS_S)
            return {"stopReason": "end_turn"}
    return {}


def main() -> None:
    """Answers request after request, until nobody asks any more."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            answer = {"jsonrpc": "2.0", "id": asked["id"], "result": _answer(asked)}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
