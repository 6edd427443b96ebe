"""Clients of our server: in this process, over a pipe byte by byte, and the official one over either transport."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Self

from orchestrion.interfaces.mcp import catalogue
from orchestrion.interfaces.mcp.desk import Desk, Seat
from premises import PROGRAM, Premises, key_of

#: So long anything may take, in seconds.
PATIENCE_S = 60.0
PREFIX = catalogue.PREFIX
Reply = dict[str, Any]


class Site(Premises):
    """A folder with a project, and servers for it."""

    def start(self, *arguments: str, **given: Any) -> subprocess.Popen[bytes]:
        """A server in a process of its own."""
        return subprocess.Popen([*PROGRAM, "mcp", *arguments], cwd=self.root, env=self.environ, **given)

    @contextmanager
    def http(self, *arguments: str) -> Iterator[House]:
        """A server that listens, for a block."""
        process = self.start("--http", "--port", "0", *arguments, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            assert process.stderr
            line = process.stderr.readline().decode()
            assert line.startswith("listening on "), line + process.stderr.read().decode()
            yield House(line.split()[-1], process, key_of(self.root))
        finally:
            _end(process)


class House:
    """A server that listens."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], key: str) -> None:
        self.url = url
        self.process = process
        #: What shows that a client is its user's.
        self.headers = {"Authorization": f"Bearer {key}"}


class Peer:
    """Somebody who calls tools; how, is for those that derive from it."""

    def raw(self, tool: str, given: Mapping[str, Any]) -> tuple[Reply, bool]:
        """The reply to a call of a tool, and whether it is an error."""
        raise NotImplementedError

    def call(self, tool: str, **given: Any) -> Reply:
        """The reply to a call that succeeds. The tool's name may lack its prefix."""
        reply, failed = self.raw(_full(tool), given)
        assert not failed, reply
        assert reply["success"] is True
        return reply

    def refused(self, tool: str, **given: Any) -> Reply:
        """The error of a call that is refused."""
        reply, failed = self.raw(_full(tool), given)
        assert failed, reply
        assert reply["success"] is False
        error: Reply = reply["error"]
        assert error["code"]
        assert error["message"]
        assert error["code"] != "unexpected", error
        return error


def _full(tool: str) -> str:
    return tool if tool.startswith(PREFIX) else PREFIX + tool


class InProcess(Peer):
    """A client whose calls are answered in this process, without a transport."""

    def __init__(self, site: Site, *, confined: bool = False) -> None:
        self.site = site
        self.desk = Desk(str(site.root), site.environ["ORCHESTRION_DB"], site.environ, confined=confined)
        self.seat = Seat("" if confined else "stdio-test", "tester")
        self.progress: list[tuple[float, float | None, str]] = []

    def raw(self, tool: str, given: Mapping[str, Any]) -> tuple[Reply, bool]:
        from orchestrion.interfaces.mcp import server

        reply, failed = server.answer(
            self.desk, self.seat, catalogue.BY_NAME[tool], given, lambda *one: self.progress.append(one)
        )
        # As a client would get it: nothing but JSON, and not too much of it.
        return json.loads(json.dumps(reply)), failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.desk.close()
        for one in self.desk.opened():
            one.close()


class Pipe(Peer):
    """A client that writes its own bytes to a server on stdio, and reads what comes."""

    def __init__(self, site: Site, *arguments: str, name: str = "pipe") -> None:
        self.name = name
        self.process = site.start(
            *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        #: What came and nobody took: answers by id, all else in order.
        self.heard: list[Reply] = []
        self.said = bytearray()
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._threads = [threading.Thread(target=self._read, daemon=True), threading.Thread(target=self._listen)]
        for thread in self._threads:
            thread.start()
        self._number = 0

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as out:
            for line in out:
                self._lines.put(line)
        self._lines.put(None)

    def _listen(self) -> None:
        assert self.process.stderr
        with self.process.stderr as out:
            while more := out.read(1 << 16):
                self.said += more

    def open(self, version: str = "2025-11-25", capabilities: Mapping[str, Any] | None = None) -> Reply:
        """The handshake of the older revisions."""
        who = {"name": self.name, "version": "1"}
        reply = self.ask("initialize", protocolVersion=version, capabilities=capabilities or {}, clientInfo=who)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return reply

    def send(self, message: Mapping[str, Any]) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Any bytes at all."""
        assert self.process.stdin
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) or 0 :]

    def post(self, method: str, **params: Any) -> int:
        """Asks, and does not wait; the number of the request."""
        self._number += 1
        self.send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        return self._number

    def ask(self, method: str, **params: Any) -> Reply:
        """The whole answer to a request."""
        return self.answer(self.post(method, **params))

    def answer(self, number: int | str | None) -> Reply:
        """The answer to the request of that number."""
        return self.hear(lambda one: one.get("id") == number and "method" not in one)

    def hear(self, wanted: Callable[[Reply], bool]) -> Reply:
        """The first message that is wanted; others are kept."""
        end = time.monotonic() + PATIENCE_S
        while True:
            for place, one in enumerate(self.heard):
                if wanted(one):
                    return self.heard.pop(place)
            line = self._lines.get(timeout=max(0.1, end - time.monotonic()))
            assert line is not None, f"the server left: {self.said.decode()}"
            self.heard.append(json.loads(line))

    def raw(self, tool: str, given: Mapping[str, Any]) -> tuple[Reply, bool]:
        return self.result(self.post("tools/call", name=tool, arguments=dict(given)))

    def result(self, number: int) -> tuple[Reply, bool]:
        """Reply and isError of the call of that number; the text says the same as the structure."""
        answer = self.answer(number)
        result = answer["result"]
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
        return result["structuredContent"], result.get("isError", False)

    def leave(self) -> int:
        """Closes its side; the exit code of the server."""
        assert self.process.stdin
        self.process.stdin.close()
        code = self.process.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        return code

    def kill(self) -> None:
        """The server dies at once."""
        self.process.send_signal(signal.SIGKILL)
        self.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.leave()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        if process.stderr:
            process.stderr.close()


class Official(Peer):
    """The official client, over the transport that it was given."""

    def __init__(self, portal: Any, client: Any) -> None:
        self._portal = portal
        self._client = client

    def raw(self, tool: str, given: Mapping[str, Any]) -> tuple[Reply, bool]:
        result = self.do("call_tool", tool, dict(given))
        return result.structured_content, bool(result.is_error)

    def do(self, method: str, *arguments: Any, **given: Any) -> Any:
        """What a method of the client returns."""

        async def wait() -> Any:
            return await getattr(self._client, method)(*arguments, **given)

        return self._portal.call(wait)


@contextmanager
def official(server: Any, **given: Any) -> Iterator[Official]:
    """The official client, connected for a block; ``server`` is one that listens, or a Site to start one for."""
    from anyio.from_thread import start_blocking_portal
    from mcp.client.client import Client
    from mcp.client.stdio import StdioServerParameters
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    with start_blocking_portal() as portal, ExitStack() as opened_before:
        if isinstance(server, House):
            http = portal.wrap_async_context_manager(create_mcp_http_client(server.headers))
            server = streamable_http_client(server.url, http_client=opened_before.enter_context(http))
        if isinstance(server, Site):
            command, *words = [*PROGRAM, "mcp"]
            server = StdioServerParameters(command=command, args=words, cwd=server.root, env=dict(server.environ))
        client = Client(server, read_timeout_seconds=PATIENCE_S, **given)
        whole: AbstractContextManager[Any] = portal.wrap_async_context_manager(client)
        with whole as opened:
            yield Official(portal, opened)
