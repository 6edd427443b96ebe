"""Between a supervisor, which talks in lines, and an agent that speaks the Agent Client Protocol.

``python -m orchestrion.runs.agents.acp_bridge`` is told once what to do (see ``acp``),
starts the agent in its own environment, and holds the conversation (``acp_talk``): it opens
or resumes a session, gives prompt after prompt, serves files of the workspace, and answers
questions for permission by a policy, for nobody is there to ask. What happens it tells as
one JSON object a line.

The agent's standard error is ours. When the input ends, or a signal comes, the agent and
all that descends from it is ended first.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from orchestrion.runs.agents.acp_order import Failed, Start
from orchestrion.runs.agents.acp_story import Tell

if TYPE_CHECKING:
    from orchestrion.runs.agents.acp_talk import Talk

#: An agent may take so long to end by itself, then to end when told to, in seconds.
LEAVE_S, OBEY_S = 2.0, 2.0
#: A message of the agent is taken in pieces of this size, in bytes.
_CHUNK = 1024 * 1024


def main() -> int:
    """Holds one conversation. Returns an exit code: 0 if every prompt was answered."""
    try:
        return asyncio.run(_Bridge(_tell).run())
    except BrokenPipeError:
        return 1  # nobody listens any more; the agent has been ended


def _tell(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class _Bridge:
    """The conversation from its first order to the agent's end."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._prompts: asyncio.Queue[str | None] = asyncio.Queue()
        self._is_busy = True
        self._cancel: Callable[[], object] = _nothing
        self._stop: Callable[[], object] = _nothing

    async def run(self) -> int:
        """Until nothing more is asked of it, or it fails, or is told to stop."""
        work = asyncio.ensure_future(self._hold())
        self._stop = work.cancel
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: self._stop())
        try:
            await work
        except asyncio.CancelledError:
            return 128 + signal.SIGTERM
        except Failed as failed:
            self._tell("error", code=failed.code, text=str(failed))
            return 1
        return 0

    async def _hold(self) -> None:
        orders = await _standard_input()
        start = Start(**json.loads(await orders.readline() or b'{"start": {}}')["start"])
        process = await _start_agent(start)
        listening = asyncio.ensure_future(self._listen(orders))
        talk: Talk | None = None
        try:
            talk = _begin_talk(start, process, self._tell)
            self._cancel = talk.cancel
            await talk.open()
            await self._converse(talk, start.prompt)
            await talk.close()
            await _end(process, LEAVE_S)
        finally:
            # The agent's end is under way: whoever wants it now must not get in between.
            self._stop = _nothing
            listening.cancel()
            await _end(process, 0.0)
            if talk:
                await talk.hang_up()

    async def _listen(self, orders: asyncio.StreamReader) -> None:
        """What the supervisor says while the agent works. The end of it in the midst of work ends all."""
        while line := await orders.readline():
            order = json.loads(line)
            if "say" in order:
                self._prompts.put_nowait(order["say"])
            elif order.get("cancel"):
                self._cancel()
            elif order.get("end"):
                self._prompts.put_nowait(None)
                return
        if self._is_busy:
            self._stop()
        self._prompts.put_nowait(None)

    async def _converse(self, talk: Talk, prompt: str | None) -> None:
        while prompt is not None:
            await talk.ask(prompt)
            self._is_busy = not self._prompts.empty()
            prompt = await self._prompts.get()
            self._is_busy = prompt is not None


def _begin_talk(start: Start, process: Process, tell: Tell) -> Talk:
    # Loaded only now, while the agent is starting: both take their time.
    from orchestrion.runs.agents import acp_talk

    acp_talk.log_in_short()
    return acp_talk.Talk(start, process, tell)


def _nothing() -> None:
    """There is nothing to be stopped now."""


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=64 * _CHUNK)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


# -- the agent's process -------------------------------------------------------------------


async def _start_agent(start: Start) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *start.command, stdin=PIPE, stdout=PIPE, cwd=start.folder, limit=_CHUNK, start_new_session=True
        )
    except FileNotFoundError as error:
        raise Failed("agent_missing", f"the agent's program was not found: {error}") from error
    except OSError as error:
        raise Failed("agent_not_started", f"the agent cannot be started: {error}") from error


async def _end(process: Process, patience_s: float) -> None:
    """Ends the agent and all that descends from it: by the end of its input, politely, then for good."""
    import psutil

    family: list[psutil.Process] = []
    with suppress(psutil.Error):
        root = psutil.Process(process.pid)
        family = [*root.children(recursive=True), root]
    if process.stdin:
        process.stdin.close()
    if patience_s and await _are_gone(process, family, patience_s):
        return
    for act in (psutil.Process.terminate, psutil.Process.kill):
        for member in family:
            with suppress(psutil.Error):
                family += [child for child in member.children(recursive=True) if child not in family]
                act(member)
        if await _are_gone(process, family, OBEY_S):
            return


async def _are_gone(process: Process, family: list[Any], patience_s: float) -> bool:
    """Waits until none of them lives; whether that came to pass in time."""
    end = time.monotonic() + patience_s
    while any(_is_alive(member) for member in family):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.02)
    await process.wait()
    return True


def _is_alive(member: Any) -> bool:
    import psutil

    try:
        return bool(member.is_running() and member.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


if __name__ == "__main__":
    sys.exit(main())
