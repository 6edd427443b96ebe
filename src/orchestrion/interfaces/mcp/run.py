"""Serves until the client leaves: on stdio, or over HTTP."""

from __future__ import annotations

from types import ModuleType

from orchestrion.core.extras import extra


def over_stdio(folder: str | None, db: str | None, environ: dict[str, str], profile: str) -> None:
    """Serves the one client that started this process, until it closes its side. Raises EnvironmentProblem."""
    anyio = _library()
    from orchestrion.interfaces.mcp.desk import Desk
    from orchestrion.interfaces.mcp.stdio import serve
    from orchestrion.ops import restart

    before = restart.load(environ)
    desk = Desk(folder, db, environ, confined=False)
    try:
        anyio.run(serve, desk, profile, before)
    finally:
        desk.close()


def over_http(folder: str | None, db: str | None, environ: dict[str, str], profile: str, host: str, port: int) -> None:
    """Serves whoever connects on this machine, until it is told to stop. Raises InvalidInput, EnvironmentProblem."""
    anyio = _library()
    from orchestrion.interfaces.mcp import http
    from orchestrion.interfaces.mcp.desk import Desk
    from orchestrion.ops import restart

    before = restart.load(environ)
    listener = http.listen(host, port, environ)
    desk = Desk(folder, db, environ, confined=True)
    try:
        desk.project()
        anyio.run(http.serve, desk, profile, listener, _say, before)
    finally:
        listener.close()
        desk.close()


def _library() -> ModuleType:
    """The library that this door stands on. Raises EnvironmentProblem when it is not installed."""
    import logging

    # Clients show each line on stderr as an error.
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    # That a store was brought up to date is said once, and only there.
    logging.getLogger("orchestrion.upgrade").setLevel(logging.WARNING)
    with extra("mcp", "the MCP server"):
        import anyio
        import mcp.server.lowlevel  # noqa: F401 - whether it is there
    return anyio


def _say(address: str) -> None:
    import sys

    print(f"listening on {address}", file=sys.stderr, flush=True)
