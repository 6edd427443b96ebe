"""Serves whoever connects on this machine: streamable HTTP at ``/mcp``, all revisions on one address.

The library keeps a protocol session for each client of the older revisions. Those sessions
end with the process; so that a restart does not end them for the clients, the handshake that
opened each is remembered and played again, under the id that the client knows, when it comes
back; ``connections`` sees to the sockets themselves. A request whose ``Host`` or ``Origin``
is not this machine, or that came through a proxy, is refused. Who has the key of this machine's
servers may do all, everybody else reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrion.core.errors import InvalidInput
from orchestrion.core.rights import KEYLESS, Caller, key_needed
from orchestrion.interfaces import listening
from orchestrion.interfaces.mcp import renewal, server
from orchestrion.interfaces.mcp.desk import Desk
from orchestrion.interfaces.proxies import is_proxied, proxied
from orchestrion.ops import restart

if TYPE_CHECKING:
    from mcp.server.transport_security import TransportSecuritySettings

    from orchestrion.interfaces.mcp.connections import Connections, Server

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATH = "/mcp"
#: The process that comes after finds the listening socket by this.
SOCKET = "ORCHESTRION_MCP_SOCKET"
_SESSION = b"mcp-session-id"
#: Where a request carries the session's id as its client knows it.
SEAT = "orchestrion.session"
#: Where it carries its body.
ASKED = "orchestrion.asked"
#: Bytes of a request; the longest results come in one.
_BODY_LIMIT = 1 << 26
#: Bytes of a handshake that are remembered.
_HANDSHAKE_LIMIT = 1 << 16
#: Sessions whose handshake is remembered.
_SESSIONS = 10_000


def listen(host: str, port: int, environ: dict[str, str]) -> socket.socket:
    """The socket to serve on; that of the process before this one, if it left one.

    Raises InvalidInput for an address that others can reach, EnvironmentProblem (``port_in_use``).
    """
    kept = environ.pop(SOCKET, None)
    os.environ.pop(SOCKET, None)
    if kept is not None:
        return socket.socket(fileno=int(kept))
    try:
        reaches_others = not listening.is_this_machine(host)
    except InvalidInput:
        reaches_others = True
    if reaches_others:
        raise InvalidInput(
            f"--host {host[:80]!r} is not an address of this machine alone",
            hint="use 127.0.0.1, ::1 or localhost; there is no login at this door",
            code="not_loopback",
        )
    return listening.listen(host, port)


async def serve(
    desk: Desk,
    profile: str,
    listener: socket.socket,
    said: Callable[[str], None] = lambda line: None,
    before: dict[str, Any] | None = None,
) -> None:
    """Serves until it is told to stop (SIGTERM, SIGINT). ``said`` is told the address."""
    import uvicorn

    from orchestrion.interfaces.mcp.connections import Connection, Connections, Server

    host = listener.getsockname()[0]
    shown = f"[{host}]" if ":" in host else host
    inner = server.make(desk, profile).streamable_http_app(
        streamable_http_path=PATH,
        host=host,
        max_request_body_size=_BODY_LIMIT,
        transport_security=_this_machine(shown),
    )
    state = (before or {}).get("state", {})
    sessions = Sessions(inner, state.get("sessions", {}))
    connections = Connections()
    protocol = partial(Connection, of=connections)
    settings: dict[str, Any] = {"http": protocol, "ws": "none", "log_level": "error", "timeout_graceful_shutdown": 5}
    keyed = _Keyed(sessions, desk)
    one = Server(uvicorn.Config(keyed, lifespan="on", **settings), connections, listener.dup())
    house = desk.line = _House(sessions, one, connections, listener.dup())
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def begin(work: Coroutine[Any, Any, None]) -> None:
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def ask(order: restart.Order) -> None:
        begin(renewal.renew(desk, order, house))

    desk.restart = lambda order: loop.call_soon_threadsafe(ask, order)
    if before is not None:
        renewal.arrive(desk, before)
        one.go_on_with(state.get("connections", []))
    begin(_announce(desk, one, listener, said, before))
    await one.serve(sockets=[listener])


async def _announce(
    desk: Desk, one: Server, listener: socket.socket, said: Callable[[str], None], before: dict[str, Any] | None
) -> None:
    """Says where it listens as soon as it does, and that a restart is over."""
    await one.listening.wait()
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    said(f"http://{shown}:{port}{PATH}")
    if before is not None:
        await desk.do(partial(renewal.complete, desk, before))


def _this_machine(host: str) -> TransportSecuritySettings:
    """Which ``Host`` and ``Origin`` are this machine's; the library knows but three of its addresses."""
    from mcp.server.transport_security import TransportSecuritySettings

    hosts = list(dict.fromkeys([host, "127.0.0.1", "localhost", "[::1]"]))
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f"{one}:*" for one in hosts],
        allowed_origins=[f"http://{one}:*" for one in hosts],
    )


class Sessions:
    """Between the web server and the library: knows each protocol session by its client's id, over restarts."""

    def __init__(self, inner: App, carried: dict[str, Any]) -> None:
        self._inner = inner
        #: The client's id -> the handshake that opened the session.
        self._handshakes: dict[str, Any] = dict(carried)
        #: The client's id -> the library's; the same, unless the session was played again.
        self._ids: dict[str, str | None] = dict.fromkeys(carried)
        self._reviving = asyncio.Lock()
        #: Requests that are being answered, streams of the server left out.
        self.busy = 0

    @property
    def carried(self) -> dict[str, Any]:
        """Handshakes by the client's id."""
        return self._handshakes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        counted = scope["method"] != "GET"
        self.busy += counted
        try:
            came = await _read(receive) if counted else deque[Message]()
            if came is not None:
                scope[ASKED] = b"".join(message.get("body", b"") for message in came)
                await self._answer(scope, _again(came, receive), send)
        finally:
            self.busy -= counted

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = next((value.decode("latin-1") for key, value in scope["headers"] if key == _SESSION), None)
        if known is None:
            await self._maybe_open(scope, receive, send)
            return
        if known in self._ids and self._ids[known] is None:
            await self._revive(known, scope)
        own = self._ids.get(known) or known
        headers = [(key, own.encode("latin-1") if key == _SESSION else value) for key, value in scope["headers"]]
        gone = False

        async def named(message: Message) -> None:
            nonlocal gone
            if message["type"] == "http.response.start":
                gone = message["status"] == 404
                message["headers"] = [
                    (key, known.encode("latin-1") if key.lower() == _SESSION else value)
                    for key, value in message.get("headers", [])
                ]
            await send(message)

        await self._inner({**scope, "headers": headers, SEAT: known}, receive, named)
        if gone or scope["method"] == "DELETE":
            self._ids.pop(known, None)
            self._handshakes.pop(known, None)

    async def _maybe_open(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request without a session: if it opens one, its handshake is remembered."""
        body = bytearray()
        opened: str | None = None

        async def overheard() -> Message:
            message = await receive()
            if message["type"] == "http.request" and len(body) <= _HANDSHAKE_LIMIT:
                body.extend(message.get("body", b""))
            return message

        async def seen(message: Message) -> None:
            nonlocal opened
            if message["type"] == "http.response.start" and message["status"] < 400:
                found = {key.lower(): value for key, value in message.get("headers", [])}
                opened = found[_SESSION].decode("latin-1") if _SESSION in found else None
            await send(message)

        await self._inner(scope, overheard, seen)
        if opened is not None and len(body) <= _HANDSHAKE_LIMIT and len(self._ids) < _SESSIONS:
            self._handshakes[opened] = json.loads(bytes(body))
            self._ids[opened] = opened

    async def _revive(self, known: str, scope: Scope) -> None:
        """Plays a session's handshake to the library, which opens a session of its own for it."""
        async with self._reviving:
            if self._ids.get(known) is not None:
                return
            handshake = self._handshakes[known]
            _, headers = await self._post(scope, handshake, [])
            own = headers.get(_SESSION)
            if own is None:
                self._ids.pop(known, None)
                return
            version = str(handshake.get("params", {}).get("protocolVersion", "")).encode()
            more = [(_SESSION, own), (b"mcp-protocol-version", version)]
            await self._post(scope, {"jsonrpc": "2.0", "method": "notifications/initialized"}, more)
            self._ids[known] = own.decode("latin-1")

    async def _post(
        self, scope: Scope, message: dict[str, Any], more: list[tuple[bytes, bytes]]
    ) -> tuple[int, dict[bytes, bytes]]:
        """Posts a message to the library as the client would; status and headers of its answer."""
        body = json.dumps(message).encode()
        kept = [(key, value) for key, value in scope["headers"] if key in (b"host", b"origin", b"authorization")]
        headers = [
            *kept,
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
            (b"content-length", str(len(body)).encode()),
            *more,
        ]
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        status, found = 0, {}

        async def receive() -> Message:
            if waiting:
                return waiting.pop()
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(answer: Message) -> None:
            nonlocal status, found
            if answer["type"] == "http.response.start":
                status, found = answer["status"], {key.lower(): value for key, value in answer.get("headers", [])}

        await self._inner({**scope, "method": "POST", "headers": headers}, receive, send)
        return status, found


async def _read(receive: Receive) -> deque[Message] | None:
    """What came once the body is there, or more of it than is taken; None: its client went before.

    The library would take that for an error of ours.
    """
    came: deque[Message] = deque()
    size = 0
    while size <= _BODY_LIMIT and (not came or came[-1].get("more_body")):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        came.append(message)
        size += len(message.get("body", b""))
    return came


def _again(came: deque[Message], receive: Receive) -> Receive:
    """``receive``, with what came already."""

    async def again() -> Message:
        return came.popleft() if came else await receive()

    return again


class _Keyed:
    """In front of the sessions: says who calls, by the key that a request shows."""

    def __init__(self, inner: App, desk: Desk) -> None:
        self._inner = inner
        self._desk = desk
        desk.project().provide_key()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            project = self._desk.project()
            headers = dict(scope["headers"])
            if is_proxied(headers):
                await _refused(proxied(), 403, {})(scope, receive, send)
                return
            kind, _, shown = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            has_key = kind.lower() == "bearer" and await self._desk.do(partial(project.is_key, shown.strip()))
            if not has_key and project.config["serve.key"] == "all":
                problem = key_needed("this server is for who has its key")
                await _refused(problem, 401, {"WWW-Authenticate": 'Bearer realm="orchestrion"'})(scope, receive, send)
                return
            caller = project.caller if has_key else Caller(KEYLESS, role="read")
            scope.setdefault("state", {})["caller"] = caller
        await self._inner(scope, receive, send)


def _refused(problem: InvalidInput, status: int, headers: dict[str, str]) -> App:
    from starlette.responses import JSONResponse  # comes with the library, which is loaded by now

    return JSONResponse({"error": problem.as_dict()}, status, headers)


class _House:
    """All clients' connections, for a restart: who connects meanwhile waits in the listening socket."""

    def __init__(self, sessions: Sessions, server: Server, connections: Connections, listener: socket.socket) -> None:
        self._sessions = sessions
        self._server = server
        self._connections = connections
        self._listener = listener
        self._again: asyncio.Task[None] | None = None
        self._carried: list[dict[str, Any]] = []

    def stop(self) -> None:
        self._server.stop_listening()

    def freeze(self) -> None:
        self._connections.freeze()

    def go_on(self) -> None:
        self._connections.thaw()
        self._again = asyncio.get_running_loop().create_task(self._server.listen_again())

    def busy(self) -> int:
        return max(self._sessions.busy, self._connections.unanswered)

    def buffered(self) -> int:
        return self._connections.buffered

    def carry(self) -> dict[str, Any]:
        self._carried = self._connections.carry()
        return {"sessions": self._sessions.carried, "connections": self._carried}

    def give_back(self) -> tuple[dict[str, str], list[int]]:
        own = self._listener.fileno()
        return {SOCKET: str(own)}, [own, *(one["descriptor"] for one in self._carried)]
