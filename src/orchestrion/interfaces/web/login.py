"""How a browser comes in: by a one-time address or a token; from then on by a cookie that no script can read.

The cookie is a session, neither key nor token, and ends at the server when somebody logs out.
Who was sent to the login on the way to a view comes to that view afterwards.
"""

from __future__ import annotations

import re
from html import escape
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from orchestrion import __version__
from orchestrion.core.errors import InvalidInput
from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.security import is_here, session_of
from orchestrion.ops.logins import SESSION_MS

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Orchestrion</title><meta name="viewport" content="width=device-width">{further}
<link rel="icon" href="/assets/mark.svg?v={version}" type="image/svg+xml">
<link rel="stylesheet" href="/assets/page.css?v={version}"></head>
<body>
<main class="login">
<h1>Orchestrion</h1>
{content}
</main>
</body>
</html>
"""
_FORM = """<form class="ask-form" method="post" action="/login">
<input type="hidden" name="next" value="{onward}">
<label for="token">Token</label> <input id="token" name="token" type="password" required autofocus>
<div class="row"><button class="button main">Log in</button></div>
</form>
<p class="hint">{said}</p>
"""
_HOW = (
    "On the server's machine <code>orchestrion open</code> prints an address that lets you in, and "
    "<code>orchestrion token create NAME --role operate</code> makes a token."
)
#: A page of our own leads on: a browser that came from another page would not send a new cookie with a redirect.
_ON = '<meta http-equiv="refresh" content="0;url=/">'
#: A path of this server; what browsers read as the address of another one is none.
_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")


@router.get("/login")
async def form(next: str = "/") -> Response:  # noqa: A002
    """Asks for a token."""
    return _ask(next, _HOW)


@router.post("/login")
async def come_in(request: Request) -> Response:
    """Takes a token, and leads to the page."""
    house: House = request.app.state.house
    given = parse_qs((await request.body()).decode("utf-8", "replace"))
    token, onward = given.get("token", [""])[0].strip(), given.get("next", ["/"])[0]
    try:
        session = await house.do(lambda: house.cases.log_in(token))
    except InvalidInput:
        request.state.count_stranger()
        return _ask(onward, f"This token opens nothing. {_HOW}", status=401)
    return _with_session(request, RedirectResponse(_local(onward), 303), session)


@router.get("/enter")
async def enter(request: Request, link: str = "") -> Response:
    """Takes a one-time address, and leads to the page; what it opens is for this machine alone."""
    house: House = request.app.state.house
    if not is_here(request.scope, dict(request.scope["headers"])):
        request.state.count_stranger()
        return _ask("/", f"This address works on the server's machine alone, and through no proxy. {_HOW}", status=403)
    try:
        session = await house.do(lambda: house.cases.follow_link(link))
    except InvalidInput:
        request.state.count_stranger()
        said = "This address was opened before, or its hour is over: <code>orchestrion open</code> makes another."
        return _page(f'<p>{said}</p><p><a href="/">To the board</a></p>', status=403)
    return _with_session(request, _page('<p><a href="/">To the board</a></p>', _ON), session)


@router.post("/logout")
async def leave(request: Request) -> Response:
    """The session is over, here and in the browser."""
    house: House = request.app.state.house
    session = session_of(dict(request.scope["headers"]), house.cookie)
    if session:
        await house.do(lambda: house.cases.log_out(session))
    answer = RedirectResponse("/login" if house.tokens_needed else "/", 303)
    answer.delete_cookie(house.cookie, httponly=True, samesite="strict")
    return answer


def _ask(onward: str, said: str, status: int = 200) -> HTMLResponse:
    return _page(_FORM.format(onward=escape(_local(onward)), said=said), status=status)


def _local(onward: str) -> str:
    return onward if _PATH.fullmatch(onward) else "/"


def _page(content: str, further: str = "", status: int = 200) -> HTMLResponse:
    page = _PAGE.format(content=content, further=further, version=__version__)
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})


def _with_session(request: Request, answer: Response, session: str) -> Response:
    house: House = request.app.state.house
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    age_s = SESSION_MS // 1000
    answer.set_cookie(house.cookie, session, age_s, httponly=True, samesite="strict", secure=secure)
    return answer
