"""The journal as a stream of server-sent events, for many clients at once.

One thread follows the journal for all of them and keeps its last lines. A client is no more
than a number: the last line that it was sent. One that is behind what is kept reads the
database; one that is slow is simply behind. So none costs memory, and none keeps another waiting.
Of too many, those of callers without the key make room for callers with the key or a token.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from orchestrion.core.errors import Backpressure, OrchestrionError
from orchestrion.core.rights import KEYLESS, Caller
from orchestrion.interfaces.web import logs
from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.security import CALLER_HEADER, caller_known, signature
from orchestrion.orchestrator.following import Journal

#: A client that is told nothing else is told so often that the line is alive, in seconds.
ALIVE_S = 5.0
#: Lines that are kept for all; half of them go when there are more.
KEPT = 2_000
#: Lines that a client which is behind gets at a time.
PAGE = 500
#: The thread looks so often, if nobody tells it that something changed, in seconds.
_GLANCE_S, _DOUBTING_S, _AWAY_S = 0.25, 0.1, 1.0


class Events:
    """All streams of one server."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._most = int(house.config["serve.streams"])
        self._numbers: list[int] = []
        self._lines: list[bytes] = []
        #: Lines up to this number are not kept.
        self._floor = 0
        #: The journal's last line.
        self.last = 0
        #: Streams that are open, the oldest first -> whose each is. One that is gone from here ends.
        self._streams: dict[object, Caller] = {}
        self._news = asyncio.Event()
        self._stopping = threading.Event()
        self._ready = asyncio.Event()
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Events:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._follow, args=(loop,), name="journal", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._thread is not None:
            await self._house.do(self._thread.join)

    def stop(self) -> None:
        """Ends all streams; their clients come again, and go on where they were."""
        self._stopping.set()
        self._ready.set()
        self._tell()

    @property
    def open(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    # -- the thread that follows ----------------------------------------------------------------

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        store = self._house.cases.store
        journal: Journal | None = None
        trouble = ""
        try:
            while not self._stopping.is_set():
                try:
                    journal = journal or self._begun(Journal(store), loop)
                    found, more = journal.advance()
                    if trouble:
                        logs.log.warning("the journal can be read again")
                        trouble = ""
                    self._hand_over(loop, found, journal.last, there=not more and not journal.doubts)
                    if not more:
                        store.wait_for_change(_DOUBTING_S if journal.doubts else _GLANCE_S)
                except OrchestrionError as problem:
                    if problem.code != trouble:
                        logs.log.warning("the journal cannot be read: %s", problem.message)
                    trouble = problem.code
                    store.close()
                    self._stopping.wait(_AWAY_S)
        finally:
            store.close()

    def _begun(self, journal: Journal, loop: asyncio.AbstractEventLoop) -> Journal:
        def begin() -> None:
            self._floor = self.last = journal.last

        loop.call_soon_threadsafe(begin)
        return journal

    def _hand_over(
        self, loop: asyncio.AbstractEventLoop, found: list[dict[str, Any]], last: int, *, there: bool
    ) -> None:
        lines = [(one["id"], as_event(one)) for one in found]
        # The loop may have ended meanwhile; then there is nobody left to tell.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._take, lines, last, there)

    # -- in the event loop ------------------------------------------------------------------------

    def _take(self, lines: list[tuple[int, bytes]], last: int, there: bool) -> None:
        if there:
            # Only now is it known where "from now on" begins.
            self._ready.set()
        if last == self.last and not lines:
            return
        self.last = last
        for number, line in lines:
            self._numbers.append(number)
            self._lines.append(line)
        if len(self._lines) > KEPT:
            gone = len(self._lines) - KEPT // 2
            self._floor = self._numbers[gone - 1]
            del self._numbers[:gone], self._lines[:gone]
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def stream(self, caller: Caller, start: int | None, request: Request) -> StreamingResponse:
        """The journal after line ``start``; without it from now on. Raises Backpressure (too many streams)."""
        if self.open >= self._most and not self._make_room(caller):
            raise Backpressure(
                f"{self.open} streams are open, and more are not allowed",
                hint="close one, or raise serve.streams",
                code="too_many_streams",
                retry_after_s=5.0,
            )
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", CALLER_HEADER: signature(caller)}
        return StreamingResponse(self._told(caller, start, request), headers=headers, media_type="text/event-stream")

    def _make_room(self, caller: Caller) -> bool:
        """Ends a stream of somebody unknown for ``caller``; False: there is none, or the caller is such a one."""
        strangers = (stream for stream, whose in self._streams.items() if not whose.is_known)
        oldest = next(strangers, None) if caller.is_known else None
        if oldest is None:
            return False
        del self._streams[oldest]
        self._tell()
        return True

    async def _told(self, caller: Caller, start: int | None, request: Request) -> AsyncIterator[bytes]:
        this = object()
        self._streams[this] = caller
        try:
            yield b"retry: 2000\n\n"
            await self._ready.wait()
            last = self.last if start is None else min(start, self.last)
            checked = time.monotonic()
            while this in self._streams and not self._stopping.is_set():
                news = self._news
                lines, last = await self._after(last)
                if lines:
                    yield lines
                elif not await _within(ALIVE_S, news):
                    yield b": alive\n\n"
                # However much there is to tell: a token that has ended ends its streams.
                if time.monotonic() - checked >= ALIVE_S:
                    checked = time.monotonic()
                    if not await self._may_stay(caller, request):
                        return
        finally:
            self._streams.pop(this, None)

    async def _after(self, last: int) -> tuple[bytes, int]:
        """What comes after a line, in pieces, and the number of the last line of the piece."""
        if last >= self._floor:
            place = bisect_right(self._numbers, last)
            piece = self._lines[place : place + PAGE]
            behind = self._numbers[place + len(piece) - 1] if place + PAGE < len(self._lines) else self.last
            return b"".join(piece), max(last, behind)
        found = await self._house.do(partial(self._house.cases.events, last, limit=PAGE))
        known = [one for one in found if one["id"] <= self._floor]
        behind = known[-1]["id"] if len(known) == PAGE else self._floor
        return b"".join(as_event(one) for one in known) or b": read\n\n", behind

    async def _may_stay(self, caller: Caller, request: Request) -> bool:
        """Whether what a client showed is still good; who showed nothing may read."""
        if caller.actor == KEYLESS:
            return True
        try:
            known = await caller_known(self._house, request.scope, "")
        except OrchestrionError:
            return False
        return known is not None and known.actor == caller.actor


async def _within(seconds: float, news: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True


def as_event(line: dict[str, Any]) -> bytes:
    """A line of the journal as a server-sent event."""
    data = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    return f"id: {line['id']}\nevent: {line['kind']}\ndata: {data}\n\n".encode("utf-8", "replace")
