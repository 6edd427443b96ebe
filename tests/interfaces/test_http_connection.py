"""Raw sockets against the web server's connections: half requests end, whole ones are answered, however slow we are."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import uvicorn

from orchestrion.core.rights import KEYLESS, Caller
from orchestrion.interfaces import http_connection
from orchestrion.interfaces.http_connection import TimedConnection
from waiting import wait_for

pytestmark = pytest.mark.long

SLOWEST_S = 0.5
GET = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads all, then answers at once, after a while, without an end, or more than anybody reads."""
    scope["state"]["caller"] = Caller("token:ci" if b"key" in scope["query_string"] else KEYLESS)
    message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * SLOWEST_S)
    length = [] if scope["path"] in ("/stream", "/large") else [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    if scope["path"] == "/stream":
        while (await receive())["type"] != "http.disconnect":
            pass
    if scope["path"] == "/large":
        for _ in range(1_000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that is not patient at all."""
    monkeypatch.setattr(http_connection, "HEAD_S", SLOWEST_S)
    monkeypatch.setattr(http_connection, "BODY_S", SLOWEST_S)
    listener = socket.create_server(("127.0.0.1", 0))
    settings: dict[str, Any] = {"ws": "none", "lifespan": "off", "log_level": "error", "timeout_graceful_shutdown": 1}
    config = uvicorn.Config(application, http=TimedConnection, **settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_for(lambda: server.started, "the server listens")
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def client(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def all_of(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "begun", [b"G", GET[:-2], GET[:-1], b"POST / HTTP/1.1\r\nx: " + b"y" * 5000, POST, POST + b"ab"]
)
def test_half_a_request_ends_the_connection(port: int, begun: bytes) -> None:
    with client(port) as connection:
        connection.sendall(begun)
        assert all_of(connection).startswith(b"HTTP/1.1 408 ")


def test_who_says_nothing_is_sent_away_without_a_word(port: int) -> None:
    with client(port) as connection:
        assert all_of(connection) == b""


def test_a_head_that_drips_gains_no_time(port: int) -> None:
    with client(port) as connection:
        connection.settimeout(0.05)
        began = time.monotonic()
        answer = b""
        for sign in GET[:-2] + b"x: " + b"y" * 10_000:
            try:
                connection.sendall(bytes([sign]))
                answer += connection.recv(100)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 20 * SLOWEST_S
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_half_a_second_request_ends_the_connection_too(port: int) -> None:
    with client(port) as connection:
        connection.sendall(GET + GET[:-2])
        answers = all_of(connection)
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in answers


def test_a_body_may_take_longer_as_long_as_it_comes(port: int) -> None:
    with client(port) as connection:
        connection.sendall(POST)
        for sign in b"abcd":
            time.sleep(0.6 * SLOWEST_S)
            connection.sendall(bytes([sign]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_drips_is_ended(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "WHOLE_BODY_S", 2 * SLOWEST_S)
    with client(port) as connection:
        connection.sendall(POST.replace(b"length: 4", b"length: 4000"))
        connection.settimeout(0.4 * SLOWEST_S)
        answer = b""
        for _ in range(40):
            try:
                connection.sendall(b"x")
                answer += connection.recv(100)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_long_body_may_take_longer_than_a_short_one(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "WHOLE_BODY_S", SLOWEST_S)
    with client(port) as connection:
        connection.sendall(POST.replace(b"length: 4", b"length: 4000"))
        for _ in range(4):
            time.sleep(0.6 * SLOWEST_S)
            connection.sendall(b"x" * 1000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("begun", [b"", GET[:-2], POST + b"ab"])
def test_of_too_many_connections_one_that_is_waited_for_makes_room(
    port: int, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http_connection, "MOST_OF_ONE", 5)
    for name in ("HEAD_S", "BODY_S"):
        monkeypatch.setattr(http_connection, name, 60)
    half = [client(port) for _ in range(5)]
    for one in half:
        one.sendall(begun)
    for _ in range(3):
        with client(port) as whole:
            whole.sendall(GET)
            assert whole.recv(65536).startswith(b"HTTP/1.1 200 ")
    with suppress(ConnectionResetError):  # it had said something that nobody had read yet
        assert all_of(half[0]) == b""
    for one in half:
        one.close()


def begun(port: int, target: bytes) -> socket.socket:
    """A connection on which the answer has begun."""
    connection = client(port)
    connection.sendall(GET.replace(b"/", target, 1))
    assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    return connection


def test_of_too_many_answers_those_without_the_key_make_room_and_nobody_new_is_kept_out(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "MOST_OF_ONE", 3)
    monkeypatch.setattr(http_connection, "HEAD_S", 60)
    with ExitStack() as opened:
        known, strangers = (
            [opened.enter_context(begun(port, target)) for _ in range(6)] for target in (b"/stream?key", b"/stream")
        )
        waiting = [opened.enter_context(client(port)) for _ in range(2)]
        for _ in range(3):
            with client(port) as whole:
                whole.sendall(GET)
                assert whole.recv(65536).startswith(b"HTTP/1.1 200 ")
        with suppress(ConnectionResetError):
            assert all_of(strangers[0]) == b""
        for one in (*known, *strangers[3:], *waiting):
            one.setblocking(False)
            with pytest.raises(BlockingIOError):  # it is open, and nothing is said
                one.recv(100)


@pytest.mark.parametrize("target", [b"/large", b"/large?key"])
def test_who_does_not_read_is_waited_for(port: int, monkeypatch: pytest.MonkeyPatch, target: bytes) -> None:
    monkeypatch.setattr(http_connection, "MOST_OF_ONE", 2)
    with ExitStack() as opened:
        deaf = [opened.enter_context(begun(port, target)) for _ in range(2)]
        time.sleep(SLOWEST_S)  # until there is no room for more that was not read
        with client(port) as whole:
            whole.sendall(GET)
            assert whole.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert not all_of(deaf[0]).endswith(b"0\r\n\r\n")


def test_a_slow_answer_is_waited_for(port: int) -> None:
    with client(port) as connection:
        connection.sendall(GET.replace(b"GET /", b"GET /slow"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_fifty_half_requests_keep_nobody_out_and_are_gone_soon(port: int) -> None:
    half = [client(port) for _ in range(50)]
    for one in half:
        one.sendall(GET[:-2])
    with client(port) as whole:
        whole.sendall(GET)
        assert whole.recv(65536).startswith(b"HTTP/1.1 200 ")
    for one in half:
        with one:
            assert all_of(one).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "lengths",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked",
        b"Transfer-Encoding: Chunked\r\nContent-Length: 0",
        b"content-length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nx: y\r\nCONTENT-LENGTH:5",
        b"content-length: 5, 5",
        b"content-length: 5\r\ncontent-length: 0",
    ],
)
def test_a_request_with_two_lengths_is_refused(port: int, lengths: bytes) -> None:
    with client(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: here\r\n" + lengths + b"\r\n\r\n0\r\n\r\n" + GET)
        answers = all_of(connection)
        assert answers.startswith(b"HTTP/1.1 400 ")
        assert answers.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("body", [b"content-length: 5\r\ncontent-length: 5\r\n\r\n", b"content-length: 5,5\n\n"])
def test_what_a_body_says_is_no_length(port: int, body: bytes) -> None:
    with client(port) as connection:
        head = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n" % len(body)
        for _ in range(2):
            connection.sendall(head + body)
            answer = b""
            while not answer.endswith(b"ok"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
