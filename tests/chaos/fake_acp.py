"""An agent that speaks ACP and does one thing only: ``fake_acp.py BEHAVIOUR FOLDER``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import acp
from acp import schema

from runs.agents.fake_acp_agent import FakeAgent

ATTEMPT = int(os.environ.get("ORCHESTRION_ATTEMPT", "1"))


class Patient(FakeAgent):
    """Works until it is told by a file to be done, deaf to SIGTERM; at once, when it is tried again."""

    async def prompt(self, prompt: list[Any], session_id: str, **_: Any) -> schema.PromptResponse:
        with Path(sys.argv[2], f"pids-{os.environ['ORCHESTRION_TASK']}").open("a") as pids:
            pids.write(f"{os.getpid()}\n{os.getppid()}\n")
        Path("part.txt").write_text(f"{ATTEMPT}\n")
        while ATTEMPT == 1 and not Path(sys.argv[2], "go").exists():
            await self.do_say(["I work.\n"])
            await asyncio.sleep(0.1)
        Path("done.txt").write_text(f"{ATTEMPT}\n")
        await self.do_say(["All done."])
        return schema.PromptResponse(stop_reason="end_turn")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(acp.run_agent(Patient(), use_unstable_protocol=True))  # type: ignore[arg-type]
