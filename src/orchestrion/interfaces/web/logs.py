"""The server's log: one JSON object a line on stderr, with the correlation id that the journal has too."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrion.core.masking import masked

log = logging.getLogger("orchestrion.web")
#: Asked all the time, and of no interest unless they fail.
_QUIET = ("/livez", "/readyz", "/metrics", "/assets/")


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "said": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)[-4000:]
        return masked(json.dumps(facts, ensure_ascii=False, default=str))


def begin(level: str) -> None:
    """Sends the log to stderr from now on; ``level`` is quiet, normal or all."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    log.handlers = [handler]
    log.propagate = False
    log.setLevel({"quiet": logging.WARNING, "normal": logging.INFO, "all": logging.DEBUG}[level])


def request(scope: Mapping[str, Any], status: int, took: float, actor: str, correlation: str) -> None:
    """One request and how it was answered, after ``took`` seconds; reading is only told where all is."""
    path = scope["path"]
    reads = scope["method"] in ("GET", "HEAD") or path.startswith(_QUIET)
    level = logging.WARNING if status >= 500 else logging.DEBUG if reads and status < 400 else logging.INFO
    if not log.isEnabledFor(level):
        return
    facts = {
        "method": scope["method"],
        "path": path[:500],
        "status": status,
        "ms": round(took * 1000, 1),
        "actor": actor,
        "correlation": correlation,
    }
    log.log(level, f"{scope['method']} {path[:200]} {status}", extra={"facts": facts})
