"""All routes of the page: ``router(house)`` belongs into the server's application."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter, Request
from fastapi.responses import Response

from orchestrion.core.errors import NotFound
from orchestrion.interfaces.page import deeds, views
from orchestrion.interfaces.page.door import PageRoute
from orchestrion.interfaces.page.sheet import FOLDER
from orchestrion.interfaces.web.house import House

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".md": "text/markdown"}


def router(house: House) -> APIRouter:
    """Views, actions and what they are drawn with."""
    whole = APIRouter(route_class=PageRoute, include_in_schema=False)

    @whole.get("/assets/{name}")
    async def asset(request: Request, name: str) -> Response:
        found = _assets().get(name)
        if found is None:
            raise NotFound(f"the page has no file {name[:80]!r}", hint="reload it", code="no_asset")
        content, kind = found
        # Addresses have the version in them.
        return Response(content, media_type=kind, headers={"Cache-Control": "public, max-age=86400"})

    whole.include_router(views.routes(house))
    whole.include_router(deeds.routes(house))
    return whole


@cache
def _assets() -> dict[str, tuple[bytes, str]]:
    """Every file that is served, by name: what is not here cannot be asked for."""
    files = sorted((FOLDER / "assets").iterdir())
    return {file.name: (file.read_bytes(), f"{_TYPES[file.suffix]}; charset=utf-8") for file in files}
