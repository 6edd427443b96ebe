"""How a server of this door restarts: it stops taking calls, answers those it took, and executes itself anew."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Protocol

import anyio

from orchestrion.interfaces.mcp.desk import Desk, Seat
from orchestrion.ops import restart
from orchestrion.orchestrator import Orchestrator

#: How often it looks whether all calls are answered, in seconds.
_GLANCE_S = 0.002
#: A restart without grace still lets the reply to who asked for it out, within this time, in seconds.
_REPLY_S = 1.0


class Line(Protocol):
    """What connects a server with its clients."""

    def stop(self) -> None:
        """Takes no further call."""

    def freeze(self) -> None:
        """Looks at nothing that comes from now on: it is for the next process."""

    def go_on(self) -> None:
        """Takes calls again."""

    def busy(self) -> int:
        """Calls that have no answer yet."""

    def buffered(self) -> int:
        """Bytes that clients sent and nobody looked at yet."""

    def carry(self) -> dict[str, Any]:
        """What the next process must know of the connections."""

    def give_back(self) -> tuple[dict[str, str], list[int]]:
        """Makes the connections ready for the next process: its environment, the descriptors to keep."""


async def renew(desk: Desk, order: restart.Order, line: Line) -> None:
    """Restarts; on failure the server goes on as it was, and the journal says why."""
    cases = desk.project().on_behalf_of("mcp:server")
    desk.closing = True
    line.stop()
    try:
        await desk.do(partial(restart.note, cases, order, "maintenance_mode", in_flight=line.busy()))
        await _drain(order, line)
        await desk.do(partial(restart.note, cases, order, "serializing_state"))
        snapshot = await desk.do(partial(restart.save, cases, order, _state(desk, order, line)))
        await desk.do(partial(restart.note, cases, order, "closing_connections", cut_off=line.busy()))
        await desk.do(partial(restart.note, cases, order, "starting_process"))
        environ, keep = line.give_back()
        restart.replace_process(snapshot, {**desk.environ, **environ}, keep)
    except Exception as error:  # noqa: BLE001 - whatever it was, the clients must not lose their server
        try:
            # Before anybody is heard again: who asks next how it went is told.
            await desk.do(partial(restart.note, cases, order, restart.FAILED, error=str(error)[:500]))
        finally:
            desk.closing = False
            line.go_on()


async def _drain(order: restart.Order, line: Line) -> None:
    """Waits for the calls that were taken. Raises TimeoutError; without grace nobody waits but for the reply."""
    end = time.monotonic() + (order.timeout_s if order.graceful else _REPLY_S)
    while line.busy():
        if time.monotonic() > end:
            if not order.graceful:
                break
            raise TimeoutError(
                f"{line.busy()} calls were not answered within {order.timeout_s:g} s; nothing was restarted"
            )
        await anyio.sleep(_GLANCE_S)
    # At this very moment nothing is being answered, so at this very moment it must end.
    line.freeze()


def _state(desk: Desk, order: restart.Order, line: Line) -> dict[str, Any]:
    seats = {key: seat.as_json() for key, seat in desk.seats.items()} if order.preserve_state else {}
    return {"server": desk.name, "began": time.time(), "seats": seats, **line.carry()}


def arrive(desk: Desk, before: dict[str, Any]) -> None:
    """The new process takes its place: who sat where, and under which name."""
    state = before["state"]
    desk.name = state["server"]
    for key, kept in state["seats"].items():
        seat = desk.seats[key] = Seat(**kept)
        seat.carried += 1


def complete(desk: Desk, before: dict[str, Any]) -> None:
    """The new process serves: the journal's last lines of the restart."""
    cases: Orchestrator = desk.project().on_behalf_of("mcp:server")
    restart.finish(cases, before["order"], before["state"]["began"])
