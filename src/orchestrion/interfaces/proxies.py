"""Whether a request came through a proxy: then whoever asks is not of this machine, whatever its address says."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrion.core.errors import InvalidInput

#: What proxies add to a request, in lower case.
HEADERS = (
    b"cf-connecting-ip",
    b"forwarded",
    b"true-client-ip",
    b"via",
    b"x-client-ip",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
)


def is_proxied(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a proxy says so. One that adds nothing cannot be told from a caller of this machine."""
    return any(header in headers for header in HEADERS)


def proxied() -> InvalidInput:
    """The error for who comes through a proxy without a token."""
    return InvalidInput(
        "the request came through a proxy, and this server asks nobody for a token",
        hint="behind a proxy use `orchestrion serve --tokens`",
        code="proxied",
    )
