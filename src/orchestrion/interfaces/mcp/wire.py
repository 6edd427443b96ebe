"""stdio as a server's wire: lines in, lines out, and nothing lost when the process replaces itself.

While we serve, descriptor 0 leads nowhere and 1 to stderr, so that no stray print of ours or
of a child gets between the messages. Input is read by the event loop, not by a thread, so at
any moment it is known which bytes were read and not yet used: a restart hands them over, with
the handshake, which the new process plays to itself so that the client need not.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import anyio.to_thread

#: Bytes that are read at once.
_CHUNK = 1 << 16
#: The id under which a handshake is played again; its answer is for nobody.
REPLAYED = "orchestrion-restart"
#: Told to a client whose call was cut off by a restart that does not wait.
_RESTARTED = {"code": -32000, "message": "the server was restarted before it could answer; ask again"}


class Wire:
    """This process's standard input and output, as the protocol's two streams."""

    def __init__(self, carried: Mapping[str, Any] | None = None) -> None:
        carried = carried or {}
        self._buffer = bytearray(str(carried.get("unread", "")).encode("latin-1"))
        #: The client's ``initialize``, as it came; None: it sent none.
        self._handshake: dict[str, Any] | None = carried.get("handshake")
        self._replaying = self._handshake is not None
        #: Ids of requests that have no answer yet, as JSON; and those that the process before did not come to answer.
        self._open: set[str] = set()
        self._cut_off: list[str] = list(carried.get("cut_off", ()))
        self._stopped: anyio.Event | None = None
        self._in = _moved(0, os.open(os.devnull, os.O_RDONLY))
        self._out = _moved(1, os.dup(2))

    async def __aiter__(self) -> AsyncIterator[str]:
        """The client's messages, one line each; ends with the input."""
        for asked in self._cut_off:
            await self.write(json.dumps({"jsonrpc": "2.0", "id": json.loads(asked), "error": _RESTARTED}) + "\n")
        for replayed in self._played_again():
            yield replayed
        while True:
            while self._stopped is not None:
                await self._stopped.wait()
            line = self._line()
            if line is not None:
                refused = refusal(line)
                if refused is not None:
                    await self.write(refused)
                    continue
                self._remember(line)
                yield line
            elif not await self._more():
                break
        if self._buffer:
            yield self._buffer.decode("utf-8", "replace")

    def _played_again(self) -> list[str]:
        if self._handshake is None:
            return []
        opening = {**self._handshake, "id": REPLAYED}
        return [json.dumps(opening), json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})]

    def _line(self) -> str | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = self._buffer[:end].decode("utf-8", "replace")
        del self._buffer[: end + 1]
        return line

    async def _more(self) -> bool:
        """Reads on, unless it was told to stop meanwhile; whether there may be more."""
        try:
            await anyio.wait_readable(self._in)
            found = None if self._stopped is not None else os.read(self._in, _CHUNK)
        except (OSError, ValueError):
            # A file cannot be waited for.
            found = await anyio.to_thread.run_sync(os.read, self._in, _CHUNK, abandon_on_cancel=True)
        self._buffer += found or b""
        return found is None or bool(found)

    def _remember(self, line: str) -> None:
        """Keeps the handshake, and which requests wait for an answer."""
        message = _parsed(line)
        if message is None:
            return
        method, asked = message.get("method"), message.get("id")
        if method == "initialize" and self._handshake is None:
            self._handshake = message
        if method == "notifications/cancelled":
            params = message.get("params")
            self._open.discard(json.dumps(params.get("requestId")) if isinstance(params, dict) else "")
        elif method is not None and asked is not None:
            self._open.add(json.dumps(asked))

    async def write(self, text: str) -> int:
        """Writes one message, but for the answer to a handshake that was played again."""
        if self._replaying and f'"{REPLAYED}"' in text:
            self._replaying = False
            return len(text)
        await anyio.to_thread.run_sync(_write_all, self._out, text.encode("utf-8"))
        if self._open and '"method"' not in text[:200]:
            self._open.discard(json.dumps((_parsed(text) or {}).get("id")))
        return len(text)

    async def flush(self) -> None:
        """Nothing is held back."""

    def stop(self) -> None:
        """Takes no further message; those that were taken are still answered."""
        self._stopped = self._stopped or anyio.Event()

    def go_on(self) -> None:
        """Takes messages again."""
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.set()

    @property
    def unanswered(self) -> int:
        """Requests that have no answer yet."""
        return len(self._open)

    def carry(self) -> dict[str, Any]:
        """What the process that comes after this one must know."""
        unread = self._buffer.decode("latin-1")
        return {"handshake": self._handshake, "unread": unread, "cut_off": sorted(self._open)}

    @property
    def buffered(self) -> int:
        """Bytes that were read and not used."""
        return len(self._buffer)

    def give_back(self) -> None:
        """Puts the wire back to descriptors 0 and 1, for whoever comes next."""
        os.dup2(self._in, 0)
        os.dup2(self._out, 1)


def refusal(line: str) -> str | None:
    """The answer to a line that is no message; None if it is one, or wants no answer.

    The library drops such lines, and their senders would wait for ever.
    """
    import mcp_types as types
    from pydantic import ValidationError

    try:
        types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError as error:
        found = _parsed(line)
        wants_none = found is not None and ("id" not in found or "result" in found or "error" in found)
        if wants_none or not line.strip():
            return None
        first = error.errors(include_url=False, include_input=False)[0]
        broken = first["type"] == "json_invalid"
        said = first["msg"][:200] if broken else "not a request of JSON-RPC 2.0"
        problem = {"code": types.PARSE_ERROR if broken else types.INVALID_REQUEST, "message": said}
        asked = found.get("id") if found else None
        answer = {"jsonrpc": "2.0", "id": asked if isinstance(asked, int | str) else None, "error": problem}
        return json.dumps(answer) + "\n"
    return None


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _moved(descriptor: int, instead: int) -> int:
    """Puts ``instead`` in the place of a descriptor; returns where it is now."""
    import fcntl

    sys.stdout.flush()
    kept = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.dup2(instead, descriptor)
    os.close(instead)
    return kept


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
