"""Whether a request came through a proxy: then whoever asks is not of this machine, whatever its address says."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrion.core.errors import InvalidInput

#: What the headers that proxies add to a request are named like, in lower case: they are too many to list.
_ADDED = re.compile(
    rb"via|cdn-loop|.*forwarded.*|.*(?:client|connecting|real|remote|peer|source|user)-(?:ip|addr|address|cert.*)"
    rb"|x-(?:proxy|proxied).*|x-(?:original|rewrite|external|envoy|cluster|ssl|amzn|amz-cf|azure|arr|appengine|vercel)-.*"
    rb"|x-(?:scheme|cloud-trace-context)|(?:cf|fastly|fly|ssl-client|akamai)-.*"
)


def is_proxied(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a proxy says so. One that adds nothing cannot be told from a caller of this machine."""
    return any(_ADDED.fullmatch(header) for header in headers)


def proxied() -> InvalidInput:
    """The error for who comes through a proxy without a token."""
    return InvalidInput(
        "the request came through a proxy, and this server asks nobody for a token",
        hint="behind a proxy use `orchestrion serve --tokens`",
        code="proxied",
    )
