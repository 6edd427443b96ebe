"""Listens and serves until it is told to stop: SIGTERM answers what was asked, ends the streams, and goes.

Nothing that runs is a child of the server: its end, however sudden, ends no run.
"""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
from collections.abc import Callable
from types import FrameType

from orchestrion.core.errors import EnvironmentProblem, InvalidInput
from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.security import names_of

#: Answers that were begun get so long after SIGTERM, in seconds.
GRACE_S = 10
#: Connections that wait to be taken.
BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """The socket to serve on. Raises InvalidInput, EnvironmentProblem (``port_in_use``, ``no_port``)."""
    name = "127.0.0.1" if host == "localhost" else host
    try:
        address = ipaddress.ip_address(name)
    except ValueError as error:
        raise InvalidInput(
            f"--host {host[:80]!r} is no address",
            hint="write it in numbers: 127.0.0.1, 0.0.0.0, ::1",
            code="invalid_host",
        ) from error
    listener = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((name, port))
    except OSError as error:
        listener.close()
        raise EnvironmentProblem(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="choose another with --port; 0 takes any that is free",
            code="port_in_use" if error.errno == errno.EADDRINUSE else "no_port",
        ) from error
    listener.listen(BACKLOG)
    return listener


def is_this_machine(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def serve(house: House, listener: socket.socket, host: str, said: Callable[[str], None]) -> None:
    """Serves ``house``; ``said`` is told the address."""
    import uvicorn

    from orchestrion.interfaces.web.app import create_app

    house.names = names_of(host, house.config["serve.names"])
    app = create_app(house)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            house.closing = True
            for stop in house.stopping:
                stop()
            # Asked twice by a person, it does not wait. The library would end as if killed by the signal.
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True

    config = uvicorn.Config(
        app,
        log_level="error",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
        backlog=BACKLOG,
    )
    bound = listener.getsockname()
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    said(f"http://{shown}:{bound[1]}/")
    Server(config).run(sockets=[listener])
