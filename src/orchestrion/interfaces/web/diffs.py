"""A run's diff on its way to a client: it is sent while git writes it."""

from __future__ import annotations

import asyncio
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.security import Receive, Scope, Send
from orchestrion.runs.patches import Bounds, RunDiff

#: So long sending one may take, in seconds.
LONGEST_S = 60.0


class DiffResponse(Response):
    """A page of a diff as text, sent piece by piece."""

    media_type = "text/plain"

    def __init__(self, house: House, diff: RunDiff, bounds: Bounds, rest: str) -> None:
        super().__init__(headers={"ETag": _tag(diff, bounds)})
        # How long it becomes is known at its end.
        del self.headers["content-length"]
        self._house = house
        self._pieces = diff.text(bounds, rest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        async with self._house.diffs.one(), asyncio.timeout(LONGEST_S):
            # Whatever stops it stops it here, before anything is sent.
            piece = await self._next()
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece is not None and not await request.is_disconnected():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await self._next()
            await self._house.do(self._pieces.close)
            await send({"type": "http.response.body", "body": b""})

    async def _next(self) -> bytes | None:
        return await self._house.do(partial(next, self._pieces, None))


def _tag(diff: RunDiff, bounds: Bounds) -> str:
    return f'"{diff.base}..{diff.head}/{bounds.skip}/{bounds.files}/{bounds.max_bytes}/{bounds.file_bytes}"'
