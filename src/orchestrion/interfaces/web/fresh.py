"""What a caller has already is not sent again: every JSON answer has an ``ETag``, ``If-None-Match`` is answered 304."""

from __future__ import annotations

import hashlib

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
    """Holds an answer back until it is whole."""

    def __init__(self, send: Send, known: str) -> None:
        self._send = send
        self._known = known
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start["status"] != 200:
            await self._pass_on(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = [(key, value) for key, value in self._start["headers"] if key.lower() != b"content-length"]
        tag = next((value for key, value in headers if key.lower() == b"etag"), None)
        if tag is None:
            tag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'.encode()
            headers.append((b"etag", tag))
        if _has(self._known, tag.decode("latin-1")):
            kept = [pair for pair in headers if pair[0].lower() not in (b"content-type",)]
            await self._send({**self._start, "status": 304, "headers": kept})
            await self._send({"type": "http.response.body", "body": b""})
            return
        headers.append((b"content-length", str(len(self._body)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": self._body})

    async def _pass_on(self, message: Message) -> None:
        if self._start:
            start, self._start = self._start, {"status": 0}
            if start["status"]:
                await self._send(start)
        await self._send(message)


def _has(known: str, tag: str) -> bool:
    """Whether an ``If-None-Match`` names a tag."""
    return known.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in known.split(",")]
