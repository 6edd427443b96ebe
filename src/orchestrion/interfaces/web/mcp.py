"""``/mcp``: the tools for agents, at the server's own address.

The library is as large as the rest of the server: it is loaded when the first client comes.
Its connections live in one task, which began them and ends them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from orchestrion.core.extras import missing
from orchestrion.interfaces.web import logs
from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.security import App, Receive, Scope, Send

if TYPE_CHECKING:
    from orchestrion.interfaces.mcp.desk import Desk

PATH = "/mcp"


class Mcp:
    """Between the guard and the routes: takes what is sent to ``/mcp``."""

    def __init__(self, inner: App, house: House) -> None:
        self._inner = inner
        self._house = house
        self._app: App | None = None
        self._opening = asyncio.Lock()
        self._life: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        house.stopping.append(self._ending.set)
        house.leaving.append(self._end)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") != PATH:
            await self._inner(scope, receive, send)
            return
        async with self._opening:
            self._app = self._app or await self._open()
        await self._app(scope, receive, send)

    async def _open(self) -> App:
        opened: asyncio.Future[App] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(opened))
        return await opened

    async def _live(self, opened: asyncio.Future[App]) -> None:
        """Holds the library's connections from the first client to the server's end."""
        try:
            desk, inner = await self._house.do(self._loaded)
        except ImportError as error:
            opened.set_exception(missing("mcp", "/mcp", error.name or str(error)))
            return
        try:
            async with inner.router.lifespan_context(inner):  # type: ignore[attr-defined]
                from orchestrion.interfaces.mcp.http import Sessions

                opened.set_result(Sessions(inner, {}))
                await self._ending.wait()
        except Exception:
            logs.log.exception("the connections of /mcp broke")
            if not opened.done():
                raise
        finally:
            await self._house.do(desk.close)

    def _loaded(self) -> tuple[Desk, App]:
        from orchestrion.interfaces.mcp import http, server
        from orchestrion.interfaces.mcp.desk import Desk

        cases = self._house.cases
        desk = Desk(str(cases.project.root), cases.store.url, self._house.environ, confined=True)
        # Whom a request may name was decided before it came here.
        return desk, server.make(desk, "core").streamable_http_app(streamable_http_path=http.PATH, host="guarded")

    async def _end(self) -> None:
        self._ending.set()
        if self._life is not None:
            await self._life
