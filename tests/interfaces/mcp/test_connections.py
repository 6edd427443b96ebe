"""Connections of the HTTP door, at moments that clients meet by chance."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from functools import partial
from typing import Any

import uvicorn

from orchestrion.interfaces.mcp.connections import Connection, Connections, Server

ASKED = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Says that it is there."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def test_who_is_accepted_when_the_server_stops_listening_is_served_all_the_same() -> None:
    """Both happen in one turn of the loop; so did a client's connection and a restart, one time in ten."""

    async def play(listener: socket.socket, client: socket.socket, signal: socket.socket, heard: socket.socket) -> None:
        connections = Connections()
        settings: dict[str, Any] = {"http": partial(Connection, of=connections), "lifespan": "off", "ws": "none"}
        server = Server(uvicorn.Config(application, **settings), connections, listener)
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup([listener])
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()

        def stop() -> None:
            loop.remove_reader(heard)
            server.stop_listening()
            stopped.set()

        loop.add_reader(heard, stop)
        # The loop looks when both are there, and at the client first.
        client.connect(listener.getsockname())
        signal.send(b"!")
        await stopped.wait()
        client.setblocking(False)
        await loop.sock_sendall(client, ASKED)
        answer = await loop.sock_recv(client, 1000)
        await server.shutdown()
        assert answer.startswith(b"HTTP/1.1 200")

    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = opened.enter_context(socket.socket())
        signal, heard = map(opened.enter_context, socket.socketpair())
        asyncio.run(play(listener, client, signal, heard))
