"""What a hint advises, for programs that send requests: the route that does the same; else it stays a command."""

from __future__ import annotations

import re

#: How commands begin.
PROGRAM = "orchestrion"
_ADVISED = re.compile(rf"`{PROGRAM} ([^`]+)`")
#: A command, without its program -> the route. The first that fits.
_INSTEAD = (
    (r"(claim|retry|reopen|approve|reject|cancel|archive) (T\d+)\b.*", r"POST /api/v1/tasks/\2/\1"),
    (r"(done|fail|release|heartbeat|kill|message) (R\d+)\b.*", r"POST /api/v1/runs/\2/\1"),
    (r"why (T\d+)", r"GET /api/v1/tasks/\1/why"),
    (r"show (T\d+)", r"GET /api/v1/tasks/\1"),
    (r"show (R\d+)", r"GET /api/v1/runs/\1"),
    (r"ready", "GET /api/v1/ready"),
    (r"status", "GET /api/v1/status"),
)


def for_requests(text: str) -> str:
    """A text that advises commands, with routes in their place."""
    return _ADVISED.sub(lambda command: _instead(command[1]) or command[0], text)


def _instead(command: str) -> str | None:
    for pattern, route in _INSTEAD:
        if fits := re.fullmatch(pattern, command):
            return f"`{fits.expand(route)}`"
    return None
