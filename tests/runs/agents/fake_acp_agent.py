"""An agent that speaks ACP and does what its prompt says: a JSON list of steps, each one thing.

Options: ``--forgets`` resumes nothing, ``--loads`` only by telling all again, ``--locked`` wants
to be signed in to, ``--deaf`` ends neither with its input nor when asked to, ``--asks`` has modes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import acp
from acp import schema

OPTIONS = set(sys.argv[1:])


class FakeAgent:
    """Keeps nothing in mind but what it was asked to do now."""

    def __init__(self) -> None:
        self.client: Any = None
        self.session = "s-1"
        self.stopped = asyncio.Event()
        self.signed_in = "--locked" not in OPTIONS

    def on_connect(self, conn: Any) -> None:
        self.client = conn

    async def initialize(self, protocol_version: int, **_: Any) -> schema.InitializeResponse:
        can = schema.SessionCapabilities(close=schema.SessionCloseCapabilities())
        if not OPTIONS & {"--forgets", "--loads"}:
            can.resume = schema.SessionResumeCapabilities()
        return schema.InitializeResponse(
            protocol_version=9 if "--newer" in OPTIONS else protocol_version,
            agent_capabilities=schema.AgentCapabilities(load_session="--loads" in OPTIONS, session_capabilities=can),
            auth_methods=[schema.AuthMethodAgent(id="key", name="A key")],
        )

    async def authenticate(self, method_id: str, **_: Any) -> None:
        self.signed_in = True

    async def new_session(self, cwd: str, mcp_servers: Any = None, **_: Any) -> schema.NewSessionResponse:
        if not self.signed_in:
            raise acp.RequestError.auth_required()
        self.servers = [server.model_dump(exclude_none=True, by_alias=True) for server in mcp_servers or []]
        return schema.NewSessionResponse(session_id=self.session, modes=self._modes())

    def _modes(self) -> Any:
        if "--asks" not in OPTIONS:
            return None
        modes = [schema.SessionMode(id=name, name=name) for name in ("yolo", "default")]
        return schema.SessionModeState(current_mode_id="yolo", available_modes=modes)

    async def set_session_mode(self, mode_id: str, session_id: str, **_: Any) -> None:
        self.mode = mode_id

    async def resume_session(self, cwd: str, session_id: str, **_: Any) -> schema.ResumeSessionResponse:
        if session_id != self.session:
            raise acp.RequestError.resource_not_found(session_id)
        return schema.ResumeSessionResponse()

    async def load_session(self, cwd: str, session_id: str, **_: Any) -> schema.LoadSessionResponse:
        await self.update(acp.update_agent_message_text("said long ago"))
        await self.update(acp.start_tool_call("old", "old", kind="edit", status="completed"))
        return schema.LoadSessionResponse()

    async def close_session(self, session_id: str, **_: Any) -> None:
        print("closed", file=sys.stderr)

    async def cancel(self, session_id: str, **_: Any) -> None:
        self.stopped.set()

    async def prompt(self, prompt: list[Any], session_id: str, **_: Any) -> schema.PromptResponse:
        answer: dict[str, Any] = {"stop_reason": "end_turn"}
        for step in json.loads(prompt[0].text):
            ((what, value),) = step.items()
            answer |= await getattr(self, f"do_{what}")(value) or {}
        return schema.PromptResponse(**answer)

    async def update(self, update: Any) -> None:
        await self.client.session_update(session_id=self.session, update=update)

    async def do_say(self, pieces: list[str]) -> None:
        for piece in pieces:
            await self.update(acp.update_agent_message_text(piece))

    async def do_tool(self, call: dict[str, Any]) -> None:
        """A call as some agents tell it: first that there will be one, then what it is, then its end."""
        start = {"sessionUpdate": "tool_call", "toolCallId": call["id"], "title": call["name"], "kind": call["kind"]}
        await self.update(schema.ToolCallStart(**start, status="pending"))
        start["sessionUpdate"] = "tool_call_update"
        await self.update(schema.ToolCallProgress(**start, status="in_progress", raw_input=call["input"]))
        text = acp.tool_content(acp.text_block(call.get("output", "")))
        await self.update(schema.ToolCallProgress(**start, status=call.get("status", "completed"), content=[text]))

    async def do_ask(self, call: dict[str, Any]) -> None:
        """Asks for permission, and says what the answer was."""
        tool = schema.ToolCallUpdate(
            tool_call_id=call["id"], kind=call["kind"], title=call.get("title", call["id"]), raw_input=call.get("input")
        )
        kinds = call.get("options", ["allow_always", "allow_once", "reject_once"])
        options = [schema.PermissionOption(option_id=kind, name=kind, kind=kind) for kind in kinds]
        answer = await self.client.request_permission(session_id=self.session, tool_call=tool, options=options)
        await self.do_say([f"{call['id']}:{getattr(answer.outcome, 'option_id', 'cancelled')}\n"])

    async def do_read(self, path: str) -> None:
        try:
            answer = await self.client.read_text_file(session_id=self.session, path=path)
            await self.do_say([f"read {answer.content!r}\n"])
        except acp.RequestError as error:
            await self.do_say([f"read error {error.code}\n"])

    async def do_write(self, what: list[str]) -> None:
        try:
            await self.client.write_text_file(session_id=self.session, path=what[0], content=what[1])
            await self.do_say(["written\n"])
        except acp.RequestError as error:
            await self.do_say([f"write error {error.code}\n"])

    async def do_plan(self, steps: dict[str, str]) -> None:
        await self.update(acp.update_plan([acp.plan_entry(step, status=status) for step, status in steps.items()]))

    async def do_cost(self, amount: float) -> None:
        cost = schema.Cost(amount=amount, currency="USD")
        await self.update(schema.UsageUpdate(session_update="usage_update", used=1, size=2, cost=cost))

    async def do_call_usage(self, spent: dict[str, int]) -> None:
        """One answer's tokens, in the part of a message that is the agent's own."""
        update = acp.update_agent_message_text("")
        update.field_meta = {"usage": spent}
        await self.update(update)

    async def do_usage(self, spent: dict[str, int]) -> dict[str, Any]:
        return {"usage": schema.Usage(**spent)}

    async def do_quota(self, counted: dict[str, int]) -> dict[str, Any]:
        return {"field_meta": {"quota": {"token_count": counted}}}

    async def do_stop(self, reason: str) -> dict[str, Any]:
        return {"stop_reason": reason}

    async def do_fail(self, error: list[Any]) -> None:
        raise acp.RequestError(*error)

    async def do_die(self, how: int) -> None:
        os._exit(how) if how >= 0 else os.kill(os.getpid(), -how)

    async def do_hang(self, _: Any) -> dict[str, Any]:
        await self.stopped.wait()
        return {"stop_reason": "cancelled"}

    async def do_detach(self, file: str) -> None:
        """A tool that leaves the family: its own session, and deaf to SIGTERM."""
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
        tool = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        assert tool.stdout
        tool.stdout.readline()
        Path(file).write_text(f"{tool.pid} {os.getpid()}")

    async def do_tell(self, what: str) -> None:
        """Says something of itself: ``servers``, ``mode``, or a variable of its environment."""
        await self.do_say([json.dumps(getattr(self, what, os.environ.get(what)))])

    async def do_noise(self, line: str) -> None:
        """Writes what is no message at all."""
        print(line, flush=True)


async def main() -> None:
    if "--deaf" in OPTIONS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await acp.run_agent(FakeAgent(), use_unstable_protocol=True)  # type: ignore[arg-type]
    while "--deaf" in OPTIONS:
        await asyncio.sleep(600)


if __name__ == "__main__":
    if "--version" in OPTIONS:
        print("fake 1.2.3")
    elif "--silent" in OPTIONS:
        signal.pause()
    else:
        asyncio.run(main())
