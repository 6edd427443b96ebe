"""Serves one client on standard input and output, across restarts of this process."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import anyio
from mcp.server.stdio import stdio_server

from orchestrion.interfaces.mcp import renewal, server
from orchestrion.interfaces.mcp.desk import Desk
from orchestrion.interfaces.mcp.wire import Wire
from orchestrion.ops import restart


async def serve(desk: Desk, profile: str, before: dict[str, Any] | None = None) -> None:
    """Serves until the client closes its side; ``before`` is what the process before this one left."""
    wire = Wire((before or {}).get("state", {}).get("wire"))
    one = server.make(desk, profile)
    stream = cast(Any, wire)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    line = desk.line = _Line(wire)

    def ask(order: restart.Order) -> None:
        task = loop.create_task(renewal.renew(desk, order, line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    desk.restart = lambda order: loop.call_soon_threadsafe(ask, order)
    async with stdio_server(stdin=stream, stdout=stream) as (reading, writing):
        if before is not None:
            renewal.arrive(desk, before)
            await desk.do(partial(renewal.complete, desk, before))
        await one.run(reading, writing, one.create_initialization_options())
    await anyio.lowlevel.checkpoint()


class _Line:
    """The one client's wire, for a restart."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def stop(self) -> None:
        self._wire.stop()

    def freeze(self) -> None:
        """Nothing was read since it stopped."""

    def go_on(self) -> None:
        self._wire.go_on()

    def busy(self) -> int:
        return self._wire.unanswered

    def buffered(self) -> int:
        return self._wire.buffered

    def carry(self) -> dict[str, Any]:
        return {"wire": self._wire.carry()}

    def give_back(self) -> tuple[dict[str, str], list[int]]:
        self._wire.give_back()
        return {}, []
