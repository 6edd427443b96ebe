"""A POST with an ``Idempotency-Key`` is done once, however often it is sent; the same answer comes each time."""

from __future__ import annotations

import hashlib
import uuid
from functools import partial

from starlette.responses import Response

from orchestrion.core.rights import Caller
from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.mcp import PATH
from orchestrion.interfaces.web.security import App, Message, Receive, Scope, Send
from orchestrion.ops.requests import Kept

KEY = b"idempotency-key"
REPLAYED = "Idempotency-Replayed"


class Repeats:
    """Between the guard and the routes."""

    def __init__(self, inner: App, house: House) -> None:
        self._inner = inner
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = dict(scope["headers"]).get(KEY) if scope["type"] == "http" and scope["method"] == "POST" else None
        # Messages of MCP have numbers of their own; for whoever may do nothing, nothing is kept.
        if key is None or scope["path"] == PATH or not scope["state"]["caller"].may("update"):
            await self._inner(scope, receive, send)
            return
        caller: Caller = scope["state"]["caller"]
        # What the journal has under it must have been done by this very request.
        own = caller._replace(correlation=f"{str(caller.correlation)[:50]}.{uuid.uuid4().hex[:8]}")
        scope["state"]["caller"] = own
        cases = self._house.on_behalf_of(own)
        body = await _whole(receive)
        print_ = _fingerprint(scope, body)
        sent, kept = await self._house.do(partial(cases.begin_request, key.decode("latin-1"), print_))
        if kept is not None:
            await Response(kept.body, kept.status, {REPLAYED: "true"}, kept.media)(scope, receive, send)
            return
        answer = _Answer()
        try:
            await self._inner(scope, _again(body, receive), answer)
        finally:
            if answer.is_success():
                await self._house.do(partial(cases.finish_request, sent, answer.kept()))
            else:
                await self._house.do(partial(cases.give_up_request, sent))
        for message in answer.messages:
            await send(message)


class _Answer:
    """An answer on its way: it goes out when it is kept."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    def is_success(self) -> bool:
        return bool(self.messages) and 200 <= self.messages[0]["status"] < 300

    def kept(self) -> Kept:
        headers = dict(self.messages[0]["headers"])
        body = b"".join(message.get("body", b"") for message in self.messages[1:])
        media = headers.get(b"content-type", b"application/json").decode("latin-1")
        return Kept(self.messages[0]["status"], media, body.decode("utf-8", "replace"))


async def _whole(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """``receive`` that gives a body which was read already."""
    waiting = [body]

    async def received() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return received


def _fingerprint(scope: Scope, body: bytes) -> str:
    what = f"{scope['path']}?{scope.get('query_string', b'').decode('latin-1')}\n".encode()
    return hashlib.sha256(what + body).hexdigest()
