"""The sockets of clients over HTTP, handed to the process that comes after this one.

A restart must not cost a client its connection: what it sent may lie in the socket already,
and a program that loses its connection gives its call up. So connections that rest are handed
over as they are, with the bytes that were read and not yet used. A stream on which the server
speaks (a GET) is handed over too: the new process answers its request once more, and leaves
out the head of the answer, which the client has had.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

import h11
import uvicorn

from orchestrion.interfaces.http_connection import TimedConnection
from orchestrion.interfaces.mcp.http import ASKED

#: Told to a client whose call is cut off by a restart that does not wait.
_RESTARTS = {"code": -32000, "message": "the server restarts; ask again in a second"}
_HEAD = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n"
)


class Connections:
    """All connections of a server."""

    def __init__(self) -> None:
        self.open: set[Connection] = set()
        #: Whether nothing is read; who was accepted a moment before and comes now is not read either.
        self.frozen = False

    @property
    def unanswered(self) -> int:
        """Connections on which an answer is still being written."""
        return sum(not (one.is_idle or one.is_standing) or one.unsent > 0 for one in self.open)

    @property
    def buffered(self) -> int:
        """Bytes that were read and not used."""
        return sum(len(one.unused) for one in self.open)

    def freeze(self) -> None:
        """Reads nothing more; who still waits for an answer is told to ask again."""
        self.frozen = True
        for one in self.open:
            one.freeze()

    def thaw(self) -> None:
        """Reads again."""
        self.frozen = False
        for one in list(self.open):
            one.thaw()

    def carry(self) -> list[dict[str, Any]]:
        """Connections that the process after this one goes on with; only while they are frozen."""
        return [one.carry() for one in self.open if one.is_idle or one.is_standing]

    async def take_over(self, factory: Any, carried: Iterable[Mapping[str, Any]]) -> None:
        """Goes on with connections of the process before this one; ``factory`` makes a Connection."""
        loop = asyncio.get_running_loop()
        for one in carried:
            with suppress(OSError):  # the client has gone meanwhile
                made = partial(factory, headless=bool(one["request"]))
                sock = socket.socket(fileno=one["descriptor"])
                sock.setblocking(False)
                _, connection = await loop.connect_accepted_socket(made, sock)
                connection.data_received((one["request"] + one["unused"]).encode("latin-1"))


class Connection(TimedConnection):
    """One connection."""

    def __init__(self, *, of: Connections, headless: bool = False, **given: Any) -> None:
        super().__init__(**given)
        self._of = of
        self._headless = headless
        self._frozen = False
        #: What came while nothing was read.
        self._kept = bytearray()
        #: Whether its client was told to ask again, elsewhere than on this connection.
        self._cut_off = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        known = _Headless(transport) if self._headless else transport
        super().connection_made(cast(asyncio.Transport, known))
        self._of.open.add(self)
        if self._of.frozen:
            self.freeze()

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        self._of.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It said something."""
        if self._frozen:
            self._kept += data
        elif data:
            super().data_received(data)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being read or answered; the beginning of one may have come."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and self.conn.their_state is h11.IDLE and not self.transport.is_closing()

    @property
    def is_standing(self) -> bool:
        """Whether it is a stream on which the server speaks when it has something to say."""
        cycle = self.cycle
        open_end = cycle is not None and cycle.response_started and not cycle.response_complete
        return open_end and cycle.scope["method"] == "GET" and not self.transport.is_closing()

    @property
    def unsent(self) -> int:
        """Bytes that the system has not taken yet."""
        return self.transport.get_write_buffer_size()

    @property
    def unused(self) -> bytes:
        """Bytes that were read and not used."""
        return self.conn.trailing_data[0] + bytes(self._kept)

    def freeze(self) -> None:
        """Reads nothing more."""
        self._frozen = True
        self._unset_keepalive_if_required()
        self.stop_waiting()
        if self.transport.is_closing():
            return
        self.transport.pause_reading()
        if self.cycle is not None and not (self.is_idle or self.is_standing):
            self._cut()

    def _cut(self) -> None:
        """Tells a client that waits for an answer to ask again; what would have come is not sent any more.

        An answer that has begun and is not complete is a stream of events: its next one says so, and is the last.
        """
        said = json.dumps({"jsonrpc": "2.0", "id": _id_of(self.cycle.scope.get(ASKED)), "error": _RESTARTS}).encode()
        if not self.cycle.response_started:
            self.transport.write(_HEAD % len(said) + said)
        elif self.conn.our_state is h11.SEND_BODY:
            event = h11.Data(data=b"event: message\r\ndata: " + said + b"\r\n\r\n")
            self.transport.write((self.conn.send(event) or b"") + (self.conn.send(h11.EndOfMessage()) or b""))
        self.cycle.disconnected = self._cut_off = True

    def thaw(self) -> None:
        """Reads again; who was told to ask again does so on a new connection."""
        self._frozen = False
        if self._cut_off:
            self.transport.close()
        kept, self._kept = bytes(self._kept), bytearray()
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self.data_received(kept)
            self.wait_for_more()

    def carry(self) -> dict[str, Any]:
        """What the next process must know of it."""
        return {
            "descriptor": self.transport.get_extra_info("socket").fileno(),
            "request": self._request().decode("latin-1") if self.is_standing else "",
            "unused": self.unused.decode("latin-1"),
        }

    def _request(self) -> bytes:
        """The head of the request that is being answered, as it would have come."""
        scope = self.cycle.scope
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        lines = [b"GET " + scope["raw_path"] + query + b" HTTP/1.1"]
        lines += [key + b": " + value for key, value in scope["headers"]]
        return b"\r\n".join(lines) + b"\r\n\r\n"


def _id_of(asked: Any) -> Any:
    """The id of the request that a body has; None: it has none, or was not sent to its end."""
    try:
        request = json.loads(asked or b"null")
    except ValueError:
        return None
    return request.get("id") if isinstance(request, dict) else None


class _Headless:
    """A transport that leaves out the head of the first answer; if that is another one than before, it closes."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._left_out = False

    def write(self, data: bytes) -> None:
        """Writes, but for the head."""
        if self._left_out:
            self._transport.write(data)
            return
        self._left_out = True
        if not data.startswith(b"HTTP/1.1 200"):
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Server(uvicorn.Server):
    """The web server, which can stop listening and begin again, and goes on where another left off."""

    def __init__(self, config: uvicorn.Config, connections: Connections, listener: socket.socket) -> None:
        super().__init__(config)
        self._connections = connections
        #: Stays open when the server stops listening: who connects meanwhile waits in it.
        self._listener = listener
        self._carried: list[dict[str, Any]] = []
        self.listening = asyncio.Event()

    def go_on_with(self, carried: list[dict[str, Any]]) -> None:
        """Takes these connections over as soon as it serves."""
        self._carried = carried

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and goes on with what was carried."""
        await super().startup(sockets)
        await self._connections.take_over(self._protocol(), self._carried)
        self.listening.set()

    def stop_listening(self) -> None:
        """Takes no new connection; they wait.

        The servers are not closed: asyncio drops connections that it accepted in this moment, if they are.
        """
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for listening in server.sockets:
                loop.remove_reader(listening.fileno())

    async def listen_again(self) -> None:
        """Takes new connections again."""
        loop = asyncio.get_running_loop()
        for server in self.servers:
            server.close()
        self.servers = [await loop.create_server(self._protocol(), sock=self._listener.dup())]

    def _protocol(self) -> Any:
        made: Any = self.config.http_protocol_class
        return partial(
            made,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
