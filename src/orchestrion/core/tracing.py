"""Where work stands in a distributed trace: identifiers that anybody can reckon, on any machine, at any time.

Each task is one trace, its runs are spans of it. Both follow from the store and the names of
task and run alone, so that an agent can be told its place (``TRACEPARENT``) long before the span
of its run is sent, and sending a span again makes no second one.
Source of the form: W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

from orchestrion.core.digest import sha256

#: The variable by which a process is told where it stands.
VARIABLE = "TRACEPARENT"


def trace_id(store: str, task: str) -> str:
    """32 hexadecimal digits. ``store`` is a store's UUID, ``task`` as ``T5``."""
    return sha256(f"trace:{store}/{task}".encode()).hexdigest()[:32]


def span_id(store: str, thing: str) -> str:
    """16 hexadecimal digits; ``thing`` as ``T5``, ``R31`` or ``R31/check/2``."""
    return sha256(f"span:{store}/{thing}".encode()).hexdigest()[:16]


def place_of(store: str, task: str, run: str) -> str:
    """What a process of ``run`` is told."""
    return f"00-{trace_id(store, task)}-{span_id(store, run)}-01"
