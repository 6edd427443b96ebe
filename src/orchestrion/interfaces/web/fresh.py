"""What a caller has already is not sent again: every answer has an ``ETag``, ``If-None-Match`` is answered 304."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from orchestrion.interfaces.web.security import App, Message, Receive, Scope, Send

#: Streams, and what is new each time.
_NOT = ("/api/v1/events", "/api/v1/health")


class Fresh:
    """Between the guard and the routes."""

    def __init__(self, inner: App) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "GET" or not path.startswith("/api/") or path in _NOT:
            await self._inner(scope, receive, send)
            return
        known = dict(scope["headers"]).get(b"if-none-match", b"").decode("latin-1")
        await self._inner(scope, receive, _Held(send, known))


class _Held:
    """Holds an answer back until it is whole; one that brings its own tag is passed on as it comes."""

    def __init__(self, send: Send, known: str) -> None:
        self._send = send
        self._known = known
        self._start: Message = {}
        self._body = b""
        #: What is done with the pieces of the body.
        self._take: Callable[[Message], Awaitable[None]] = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        else:
            await self._take(message)

    async def _begin(self, start: Message) -> None:
        tag = next((value for key, value in start["headers"] if key.lower() == b"etag"), None)
        if start["status"] == 200 and tag is None:
            self._start, self._take = start, self._hold
        elif start["status"] == 200 and tag is not None and _has(self._known, tag.decode("latin-1")):
            self._take = _drop
            await self._unchanged(start)
        else:
            await self._send(start)

    async def _hold(self, message: Message) -> None:
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            await self._end()

    async def _end(self) -> None:
        tag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'
        headers = [(key, value) for key, value in self._start["headers"] if key.lower() != b"content-length"]
        start = {**self._start, "headers": [*headers, (b"etag", tag.encode())]}
        if _has(self._known, tag):
            await self._unchanged(start)
            return
        start["headers"].append((b"content-length", str(len(self._body)).encode()))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": self._body})

    async def _unchanged(self, start: Message) -> None:
        kept = [pair for pair in start["headers"] if pair[0].lower() not in (b"content-type", b"content-length")]
        await self._send({**start, "status": 304, "headers": kept})
        await self._send({"type": "http.response.body", "body": b""})


async def _drop(message: Message) -> None:
    """The caller has it already."""


def _has(known: str, tag: str) -> bool:
    """Whether an ``If-None-Match`` names a tag."""
    return known.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in known.split(",")]
