"""Listens and serves until it is told to stop: SIGTERM answers what was asked, ends the streams, and goes.

Nothing that runs is a child of the server: its end, however sudden, ends no run.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

from orchestrion.interfaces.listening import BACKLOG
from orchestrion.interfaces.web import heap
from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.security import names_of

#: Answers that were begun get so long after SIGTERM, in seconds.
GRACE_S = 10


def serve(house: House, listener: socket.socket, host: str, said: Callable[[str], None]) -> None:
    """Serves ``house``; ``said`` is told the address."""
    import uvicorn

    from orchestrion.interfaces.http_connection import IDLE_S, TimedConnection
    from orchestrion.interfaces.web.app import create_app

    heap.bound()
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
        timeout_keep_alive=IDLE_S,
        http=TimedConnection,
        ws="none",
        backlog=BACKLOG,
    )
    server = Server(config)
    if threading.current_thread() is threading.main_thread():
        # The library listens for them only once it has begun, and a worker of ours may be at work before.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle_exit)
    bound = listener.getsockname()
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    said(f"http://{shown}:{bound[1]}/")
    server.run(sockets=[listener])
