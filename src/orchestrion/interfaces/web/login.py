"""How a browser shows a token: once, in a form; from then on in a cookie that no script can read."""

from __future__ import annotations

from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from orchestrion.core.errors import InvalidInput
from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.security import COOKIE

router = APIRouter(include_in_schema=False)

#: A browser keeps it for so long, in seconds: 30 days. The token may end sooner.
KEPT_S = 30 * 86_400
_FORM = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Orchestrion</title><meta name="viewport" content="width=device-width"></head>
<body>
<main>
<h1>Orchestrion</h1>
<form method="post" action="/login">
<p><label for="token">Token</label> <input id="token" name="token" type="password" required autofocus></p>
<p><button>Come in</button></p>
</form>
<p>{said}</p>
</main>
</body>
</html>
"""
_HOW = "<code>orchestrion token create NAME --role operate</code> makes one, on the server's machine."


@router.get("/login")
async def form() -> Response:
    """Asks for a token."""
    return HTMLResponse(_FORM.format(said=_HOW))


@router.post("/login")
async def come_in(request: Request) -> Response:
    """Takes a token, and leads to the page."""
    house: House = request.app.state.house
    token = parse_qs((await request.body()).decode("utf-8", "replace")).get("token", [""])[0].strip()
    try:
        await house.do(lambda: house.cases.holder_of(token))
    except InvalidInput:
        return HTMLResponse(_FORM.format(said="This token opens nothing. " + _HOW), 401)
    answer = RedirectResponse("/", 303)
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(COOKIE, quote(token), KEPT_S, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/logout")
async def leave() -> Response:
    """The browser forgets the token."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
