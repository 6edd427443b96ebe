"""A client's connection that has to say in time what it wants, and in one way only.

The web server's library waits for ever for the head of a request and for its body: who opens connections and sends
half a request on each keeps them all. It also takes a request that gives its length in two ways, of which whoever
stands before the server may have believed the other. Both ends the connection here.

Nor has one address, behind which may be a proxy and everybody, more connections than the server can do without: of
too many that wait for their client the one that has waited longest makes room, and of too many that are answered
without key or token, which are streams, the one that has been answered longest. They are counted apart, so that
neither takes the place of the other. Whoever connects anew comes in: it may be a probe, or who has the key.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrion.core.rights import Caller

#: So long the head of a request may take from its first byte on, or from the moment of connecting, in seconds.
HEAD_S = 10.0
#: So long a client may pause within the body of a request, in seconds.
BODY_S = 30.0
#: So long the whole body may take, in seconds, and longer by what came of it.
WHOLE_BODY_S = 60.0
#: Bytes of a body that give its client a second more.
LEAST_RATE = 1_000
#: Connections from one address that wait for their client, at most, and as many that are answered to strangers.
MOST_OF_ONE = 250
#: A connection on which nothing is asked any more is closed after this time, in seconds.
IDLE_S = 30

#: Bytes of a head at most.
_HEAD_BYTES = 64 * 1024
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"(?im)^content-length[ \t]*:(.*)$")
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class TimedConnection(H11Protocol):
    """One connection of the library's, with an end to its patience."""

    def __init__(self, *given: Any, **further: Any) -> None:
        super().__init__(*given, **further)
        self.conn = _OneLength(h11.SERVER, self.config.h11_max_incomplete_event_size or _HEAD_BYTES)
        self._end: asyncio.TimerHandle | None = None
        #: When the body that is being sent must be there, by the loop's clock.
        self._body_due: float | None = None
        #: When its client, or we, began to be waited for, by the loop's clock.
        self._since = self.loop.time()
        self._made_room = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there, and should say what it wants."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait(HEAD_S)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        self.stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It said something."""
        super().data_received(data)
        if self._body_due is not None:
            self._body_due += len(data) / LEAST_RATE
        self.wait_for_more()

    def handle_events(self) -> None:
        """What it said may be the whole head of a request."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._since = self.loop.time()

    def on_response_complete(self) -> None:
        """It was answered; the beginning of the next request may be there."""
        self._since = self.loop.time()
        super().on_response_complete()
        self.wait_for_more()

    def wait_for_more(self) -> None:
        """Begins to wait for the rest of what has begun, if something has."""
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            now = self.loop.time()
            self._body_due = self._body_due or now + WHOLE_BODY_S
            self._wait(min(BODY_S, max(0.0, self._body_due - now)))
            return
        self._body_due = None
        if state is not h11.IDLE or not self.conn.trailing_data[0]:
            self.stop_waiting()
        elif self._end is None:
            # Each further byte of a head gives no further time.
            self._wait(HEAD_S)

    def stop_waiting(self) -> None:
        """Nothing is owed."""
        if self._end is not None:
            self._end.cancel()
            self._end = None

    def _wait(self, seconds: float) -> None:
        self.stop_waiting()
        self._end = self.loop.call_later(seconds, self._is_too_slow)

    def _is_too_slow(self) -> None:
        self._end = None
        if self.conn.their_state is h11.SEND_BODY and self.flow.read_paused:
            # It is we who do not read.
            self._body_due = None
            self.wait_for_more()
            return
        if not self.transport.is_closing():
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and self._has_begun():
                self.transport.write(_TOO_SLOW)
            self.transport.close()

    def _make_room(self) -> None:
        """Ends the connections of the same address that it has too many of."""
        if not self.client:
            return
        all_open: set[TimedConnection] = self.connections  # type: ignore[assignment]
        same = [one for one in all_open if one.client and one.client[0] == self.client[0] and not one._made_room]
        waiting = [one for one in same if one.is_waited_for]
        strangers = [one for one in same if not one.is_waited_for and not one.is_known]
        for crowd in (waiting, strangers):
            if len(crowd) > MOST_OF_ONE:
                min(crowd, key=lambda one: one._since).make_room()

    def make_room(self) -> None:
        """Ends it at once, though its client may not have read all that it was sent."""
        self._made_room = True
        self.transport.abort()

    @property
    def is_waited_for(self) -> bool:
        """Whether its client is to say or to read something, and nothing is being answered."""
        is_owed = self._end is not None or self.flow.write_paused or self.transport.is_closing()
        return is_owed or self.cycle is None or self.cycle.response_complete

    @property
    def is_known(self) -> bool:
        """Whether who is being answered showed the key or a token."""
        caller: Caller | None = self.scope["state"].get("caller")
        return caller is not None and caller.is_known

    def _has_begun(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])


class _OneLength(h11.Connection):
    """Reads requests, but none that gives its length twice, be it the same."""

    def next_event(self) -> Any:
        """What was read last. Raises RemoteProtocolError."""
        # The library makes one of lengths that are equal: they are counted in what came.
        came = self.trailing_data[0] if self.their_state is h11.IDLE else b""
        event = super().next_event()
        if isinstance(event, h11.Request):
            lengths = b",".join(_LENGTH.findall(_END_OF_HEAD.split(came, maxsplit=1)[0])).split(b",")
            has_own = any(name == b"transfer-encoding" for name, _ in event.headers)
            if len(lengths) + (has_own and lengths != [b""]) > 1:
                raise h11.RemoteProtocolError("more than one length", error_status_hint=400)
        return event
