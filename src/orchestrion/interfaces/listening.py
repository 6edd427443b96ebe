"""A socket to serve on, in words that people understand when there is none."""

from __future__ import annotations

import errno
import ipaddress
import socket

from orchestrion.core.errors import EnvironmentProblem, InvalidInput

#: Connections that wait to be taken.
BACKLOG = 512


def parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that ``host`` means, ``localhost`` or numbers. Raises InvalidInput (``invalid_host``)."""
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise InvalidInput(
            f"--host {host[:80]!r} is no address",
            hint="write it in numbers: 127.0.0.1, 0.0.0.0, ::1",
            code="invalid_host",
        ) from error


def is_this_machine(host: str) -> bool:
    """Whether only this machine reaches an address. Raises InvalidInput."""
    return parsed(host).is_loopback


def listen(host: str, port: int) -> socket.socket:
    """Listens there. Raises InvalidInput, EnvironmentProblem (``port_in_use``, ``no_port``)."""
    address = parsed(host)
    listener = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
    except OSError as error:
        listener.close()
        raise EnvironmentProblem(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint=(
                "this machine has no such address: name one that it has with --host; 0.0.0.0 means all"
                if error.errno == errno.EADDRNOTAVAIL
                else "choose another with --port; 0 takes any that is free"
            ),
            code="port_in_use" if error.errno == errno.EADDRINUSE else "no_port",
        ) from error
    listener.listen(BACKLOG)
    return listener
