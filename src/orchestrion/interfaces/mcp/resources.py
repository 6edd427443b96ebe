"""What can be read whole: tasks, runs, logs, decisions, handoffs, briefs, artifacts, each at its address.

A resource is as long as it is; artifacts, logs and diffs come in pages (``?offset=``), for they
may be of any length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.interfaces.mcp import advice

if TYPE_CHECKING:
    from orchestrion.interfaces.mcp.desk import Desk, Seat
    from orchestrion.orchestrator import Orchestrator

SCHEME = "orchestrion://"
JSON, MARKDOWN, TEXT = "application/json", "text/markdown", "text/plain"
#: Entries of a list, lines of a page of a log.
LISTED, LINES = 100, 500
#: A page of a diff.
DIFF_BYTES = 40_000

FIXED: tuple[dict[str, str], ...] = (
    {"uri": f"{SCHEME}tasks", "name": "tasks", "description": "Open tasks", "mimeType": JSON},
    {"uri": f"{SCHEME}decisions", "name": "decisions", "description": "Decisions that hold", "mimeType": JSON},
    {"uri": f"{SCHEME}handoffs", "name": "handoffs", "description": "What was handed over", "mimeType": JSON},
    {"uri": f"{SCHEME}prime", "name": "prime", "description": "What is going on", "mimeType": MARKDOWN},
)
TEMPLATES: tuple[dict[str, str], ...] = (
    {"uriTemplate": SCHEME + "tasks/{id}", "name": "task", "description": "All of a task", "mimeType": JSON},
    {"uriTemplate": SCHEME + "runs/{id}", "name": "run", "description": "All of a run", "mimeType": JSON},
    {"uriTemplate": SCHEME + "runs/{id}/log", "name": "log", "description": "What its agent wrote", "mimeType": TEXT},
    {"uriTemplate": SCHEME + "runs/{id}/diff", "name": "diff", "description": "What it changed", "mimeType": TEXT},
    {"uriTemplate": SCHEME + "decisions/{id}", "name": "decision", "description": "An ADR", "mimeType": MARKDOWN},
    {"uriTemplate": SCHEME + "handoffs/{id}", "name": "handoff", "description": "A handoff", "mimeType": MARKDOWN},
    {"uriTemplate": SCHEME + "briefs/{id}", "name": "brief", "description": "A run's brief", "mimeType": MARKDOWN},
    {
        "uriTemplate": SCHEME + "artifacts/{id}",
        "name": "artifact",
        "description": "A stored result, in pages: ?offset=N",
        "mimeType": TEXT,
    },
)
_ADDRESS = re.compile(
    r"orchestrion://([a-z]+)(?:/([A-Za-z][0-9]+))?(?:/(log|diff))?(?:\?offset=([0-9]{1,12}))?\Z", re.ASCII
)


def read(desk: Desk, seat: Seat, uri: str) -> tuple[str, str]:
    """Type and text of a resource. Raises NotFound, InvalidInput."""
    match = _ADDRESS.match(uri)
    noun, thing = (match[1], match[2]) if match else ("", None)
    kind = f"{noun}/{'{id}' if thing else ''}{f'/{match[3]}' if match and match[3] else ''}".rstrip("/")
    reader = _READERS.get(kind)
    if match is None or reader is None:
        raise NotFound(
            f"there is no resource {uri[:200]!r}",
            hint="resources/list and resources/templates/list name them",
            code="no_resource",
        )
    offset = int(match[4] or 0)
    if offset and kind not in ("artifacts/{id}", "runs/{id}/log", "runs/{id}/diff"):
        raise InvalidInput(f"{noun} have no pages", hint="leave out ?offset", code="invalid_offset")
    return reader(desk.project(seat.folder), thing or "", offset, desk.profile)


def _tasks(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    states = ["pending", "ready", "in_progress", "retrying", "blocked", "review", "failed"]
    return JSON, _json(cases.list_tasks(states=states, limit=LISTED).as_json("tasks"))


def _task(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    found, reasons = cases.show(_named(thing, "T")), cases.why(thing)["reasons"]
    advised = partial(advice.for_client, profile=profile, task=found["id"])
    why = [{**one, "detail": advised(one["detail"])} for one in reasons]
    return JSON, _json({**found, "remedy": advised(found["remedy"] or "") or None, "reasons": why})


def _run(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    found = cases.run_detail(_named(thing, "R"))
    advised = partial(advice.for_client, profile=profile, task=found["task"])
    return JSON, _json({**found, "remedy": advised(found["remedy"] or "") or None})


def _log(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    found = cases.log_lines(_named(thing, "R"), offset, LINES)
    text = "\n".join(_json(line) for line in found.lines)
    more = f"\n… go on: {SCHEME}runs/{thing}/log?offset={found.next}" if found.next < found.total else ""
    return TEXT, text + more


def _diff(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    rest = f"go on: {SCHEME}runs/{thing}/diff?offset={{next}}"
    sizes = {"files": 100, "max_bytes": DIFF_BYTES, "file_bytes": DIFF_BYTES // 4}
    return TEXT, cases.diff(_named(thing, "R"), skip=offset, rest=rest, **sizes)


def _decisions(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    return JSON, _json(cases.decisions(limit=LISTED))


def _decision(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    return MARKDOWN, cases.adr(_named(thing, "D"))


def _handoffs(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    return JSON, _json(cases.list_handoffs(limit=LISTED))


def _handoff(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    return MARKDOWN, advice.for_client(cases.show(_named(thing, "H"))["text"], profile)


def _brief(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    task = cases.run(_named(thing, "R")).as_json()["task"]
    return MARKDOWN, cases.brief_of(thing, partial(advice.for_client, profile=profile, task=task))


def _artifact(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    page = cases.artifact(_named(thing, "A"), offset)
    behind = page["next_offset"]
    more = f"\n… {page['total_chars']} characters, go on: {SCHEME}artifacts/{thing}?offset={behind}" if behind else ""
    return TEXT, page["text"] + more


def _prime(cases: Orchestrator, thing: str, offset: int, profile: str) -> tuple[str, str]:
    return MARKDOWN, advice.for_client(cases.prime(), profile)


def _named(thing: str, letter: str) -> str:
    if thing[:1].upper() != letter:
        raise NotFound(
            f"{thing} is not the id of what is asked for", hint=f"such ids begin with {letter}", code="no_resource"
        )
    return thing


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_READERS: dict[str, Callable[[Orchestrator, str, int, str], tuple[str, str]]] = {
    "tasks": _tasks,
    "tasks/{id}": _task,
    "runs/{id}": _run,
    "runs/{id}/log": _log,
    "runs/{id}/diff": _diff,
    "decisions": _decisions,
    "decisions/{id}": _decision,
    "handoffs": _handoffs,
    "handoffs/{id}": _handoff,
    "briefs/{id}": _brief,
    "artifacts/{id}": _artifact,
    "prime": _prime,
}
