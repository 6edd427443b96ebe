"""Use case ``setup``: another program is told to start our server, or no longer."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrion.core.errors import NotFound
from orchestrion.core.extras import require
from orchestrion.core.model import check_choice
from orchestrion.core.project import find_project
from orchestrion.core.rights import refuse_runs
from orchestrion.ops.setup import change, records
from orchestrion.ops.setup.clients import SCOPES, client_named
from orchestrion.ops.setup.files import Content

TOOLS = ("core", "full")


def set_up(
    client: str,
    *,
    folder: Path | str | None = None,
    scope: str = "user",
    tools: str | None = None,
    agents_md: bool = True,
    undo: bool = False,
    dry_run: bool = False,
    environ: Mapping[str, str] | None = None,
    program: Sequence[str] | None = None,
    platform: str = sys.platform,
) -> dict[str, Any]:
    """Makes a client start ``orchestrion mcp``, or takes exactly that out again with ``undo``.

    ``files`` says of each file what became of it, where its backup is, and the difference.
    Scope ``project`` needs a project, ``user`` works without one. Opens no store.
    Raises InvalidInput (no such client, scope or tools; a broken file; ``not_for_runs``), NotFound,
    EnvironmentProblem (``extra_missing``: the server could not start).
    """
    environ = os.environ if environ is None else environ
    refuse_runs(environ, "set_up_client")  # clients are their user's, whichever store the run is of
    check_choice("scope", scope, SCOPES)
    if tools is not None:
        check_choice("tools", tools, TOOLS)
    known = client_named(client)
    if not undo and not program:
        require("mcp", "the server that the client is to start", "mcp")
    request = change.Request(
        client=known,
        scope=scope,
        project=_project(folder, scope, environ),
        program=tuple(program or our_program()),
        shared_program=tuple(program or _known_everywhere(our_program(), environ)),
        tools=tools,
        instructions=agents_md,
        environ=environ,
        platform=platform,
    )
    changes = change.undo(request) if undo else change.set_up(request)
    backups = {} if dry_run else _carried_out(changes, environ, undo=undo)
    return {
        "client": client,
        "scope": scope,
        "project": str(request.project) if request.project else None,
        "undo": undo,
        "dry_run": dry_run,
        "command": list(request.command()),
        "files": [_shown(one, backups) for one in changes],
        "then": _then(request),
    }


def our_program() -> tuple[str, ...]:
    """How this very program is started, from any folder and without PATH."""
    beside = Path(sys.executable).with_name("orchestrion")
    return (str(beside),) if beside.exists() else (sys.executable, "-P", "-m", "orchestrion")


def _known_everywhere(program: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The program by its name, where that is what PATH has under it: so it may be called on other machines."""
    name = Path(program[0]).name
    found = shutil.which(name, path=environ.get("PATH"))
    is_it = len(program) == 1 and found is not None and Path(found).samefile(program[0])
    return (name,) if is_it else program


def _then(request: change.Request) -> str:
    asks = request.client.asks if request.scope == "project" else ""
    return f"{request.client.then}; {asks}" if asks else request.client.then


def _project(folder: Path | str | None, scope: str, environ: Mapping[str, str]) -> Path | None:
    try:
        return find_project(Path.cwd(), Path(folder) if folder is not None else None, environ).root
    except NotFound:
        if scope == "project" or folder is not None:
            raise
        return None


def _carried_out(changes: Sequence[change.Change], environ: Mapping[str, str], *, undo: bool) -> dict[Path, Path]:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    return change.carry_out(changes, records.folder_of(environ), stamp, undo=undo)


def _shown(one: change.Change, backups: Mapping[Path, Path]) -> dict[str, Any]:
    content: Content = one.content
    backup = backups.get(content.path)
    return {
        "part": one.part,
        "path": str(content.path),
        "state": one.state,
        "backup": str(backup) if backup else None,
        "diff": one.diff(),
    }
