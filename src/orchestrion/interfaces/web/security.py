"""Stands before everything: who may come in, how much they may bring, and what browsers are told.

A request is refused if it was sent to a name that is not this server's (a page that rebinds
its name to our address), or from a page of another origin. On this machine everybody may read,
and who has the key (a file that only its user can read) may do all; browsers have a session in
its place. A token that is given counts anywhere, and beyond this machine one is demanded. A
request that came through a proxy is not from this machine, whatever its address says.
"""

from __future__ import annotations

import ipaddress
import re
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from starlette.responses import RedirectResponse

from orchestrion.core import host as hosts
from orchestrion.core.errors import Backpressure, InvalidInput, OrchestrionError
from orchestrion.core.rights import KEYLESS, LOCAL, NOBODY, Caller, Role, key_needed, refuse_less
from orchestrion.interfaces.proxies import is_proxied, proxied
from orchestrion.interfaces.web import logs, problems
from orchestrion.interfaces.web.house import House
from orchestrion.orchestrator.commands import taken_by_servers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Bytes of a request's body at most.
BODY_LIMIT = 8 * 1024 * 1024
#: Bytes of a body that are read and thrown away, at most, so that its client gets to read why it is refused.
DRAINED = 8 * BODY_LIMIT
#: A script of the page's own must say that it is one, where a browser names no origin.
MARK = b"x-orchestrion"
REQUEST_ID = b"x-request-id"
#: Says to a page of ours whom the server takes it for; one that was made for another caller is made anew.
CALLER_HEADER = "X-Orchestrion-Caller"
#: A burst may be so many times what a second may bring.
BURST = 2.0
#: Callers whose rate is remembered.
_COUNTED = 10_000
_SAFE = ("GET", "HEAD", "OPTIONS")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
#: Whether the server lives: asked by those who would take a server away that does not answer, some in HTTP/1.0.
#: Never refused for being asked often, and answered without a look into the store.
_PROBES = ("/livez", "/readyz")
#: Reachable by anybody, too: how to come in and go.
_OPEN = ("/login", "/logout", "/enter")
#: Counted only if what is shown opens nothing: strangers must not use up what one needs to be told from them. The
#: form itself costs no more than a refusal.
_WAYS_IN = ("/login", "/enter")
#: Answers to one known caller that are made at the same time; of strangers, connections have a bound.
AT_ONCE = 250
#: Not among them: streams have a bound of their own, ``serve.streams``.
_EVENTS = "/api/v1/events"
#: What needs the role admin, of all that is no GET; a test holds it against ``core.rights``.
_ADMIN = re.compile(r"(POST /api/v1/(pause|resume)|PATCH /api/v1/slots|DELETE /api/v1/tasks/[^/]+)/?")
#: What sends a browser to the login.
_LOGIN = ("unauthenticated", "key_needed")

#: What every answer tells a browser.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_HEADERS = [(key.encode(), value.encode()) for key, value in HEADERS.items()]


class Guard:
    """Lets requests in, or answers them."""

    def __init__(self, inner: App, house: House) -> None:
        self._inner = inner
        self._house = house
        self._rates = Rates(float(house.config["serve.rate"]))
        self._answering: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = _by_name(scope)
        correlation = _correlation(headers)
        state = scope.setdefault("state", {})
        state["correlation"] = correlation
        body = _Body(scope, receive)
        told = _Telling(scope, send, body, correlation, self._house)
        try:
            state["caller"] = caller = await self._admit(scope, headers, correlation)
            told.actor = caller.actor
            with self._answered(scope, caller):
                await self._inner(scope, body.receive, told)
        except Exception as error:
            if told.began:
                raise
            refused = problems.from_exception(error, self._house.environ)
            if refused.code in _LOGIN and _wants_page(scope, headers):
                await RedirectResponse(path_to_login(scope), 303)(scope, receive, told)
                return
            await problems.answer(refused, correlation)(scope, receive, told)

    async def _admit(self, scope: Scope, headers: Mapping[bytes, bytes], correlation: str) -> Caller:
        """Who calls. Raises what refuses the request."""
        if self._house.closing:
            raise Backpressure("the server is stopping", hint="ask again in a moment", retry_after_s=2.0)
        if b"host" in headers or scope["path"] not in _PROBES:
            self._check_host(headers)
        _check_origin(scope, headers)
        _check_size(headers)
        count_stranger = partial(self._rates.count, f"at {(scope.get('client') or ('', 0))[0]}")
        scope["state"]["count_stranger"] = count_stranger
        try:
            caller = await self._caller(scope, headers, correlation)
        except InvalidInput:
            # Who tries tokens out is counted, too.
            count_stranger()
            raise
        if caller.is_known:
            self._rates.count(caller.actor)
        elif scope["path"] not in (*_PROBES, *_WAYS_IN):
            count_stranger()
        if scope["method"] not in _SAFE and scope["path"].startswith("/api/"):
            # Whoever may only read is told so before anything is read of the body.
            refuse_less(caller, "admin" if _ADMIN.fullmatch(f"{scope['method']} {scope['path']}") else "operate")
        return caller

    @contextmanager
    def _answered(self, scope: Scope, caller: Caller) -> Iterator[None]:
        """Counts an answer to a known caller while it is made. Raises Backpressure."""
        if not caller.is_known or scope["path"] == _EVENTS:
            yield
            return
        if self._answering[caller.actor] >= AT_ONCE:
            raise Backpressure(
                f"{AT_ONCE} requests of {caller.actor} are being answered",
                hint="wait for an answer before you ask more",
                code="too_many_requests",
                retry_after_s=1.0,
            )
        self._answering[caller.actor] += 1
        try:
            yield
        finally:
            self._answering[caller.actor] -= 1
            if not self._answering[caller.actor]:
                del self._answering[caller.actor]

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if not is_own_name(host, self._house.names):
            raise InvalidInput(
                f"this server does not go by the name {host[:100]!r}",
                hint="use its address; further names are set with serve.names",
                code="foreign_host",
            )

    async def _caller(self, scope: Scope, headers: Mapping[bytes, bytes], correlation: str) -> Caller:
        nobody = _signed(self._house, NOBODY, "read", correlation)
        if scope["path"] in _PROBES:
            return nobody
        is_open = scope["path"] in _OPEN or scope["path"].startswith("/assets/")
        try:
            known = await caller_known(self._house, scope, correlation)
        except OrchestrionError:
            # Whoever is at the login may have a token that has ended.
            if not is_open:
                raise
            known = None
        if known is not None or is_open:
            return known or nobody
        if self._house.tokens_needed:
            raise InvalidInput(
                "this server wants a token",
                hint="send `Authorization: Bearer TOKEN`; `orchestrion token create` makes one; browsers: /login",
                code="unauthenticated",
            )
        if is_proxied(headers):
            raise proxied()
        if self._house.config["serve.key"] == "all":
            raise key_needed("this server is for who has its key")
        return _signed(self._house, KEYLESS, "read", correlation)


async def caller_known(house: House, scope: Scope, correlation: str) -> Caller | None:
    """Who shows the key, a token or a session of the page; None: nobody does. Raises InvalidInput for what is none."""
    headers = _by_name(scope)
    shown, here = _bearer(headers), is_here(scope, headers)
    if shown is not None:
        if here and await house.do(partial(house.cases.is_key, shown)):
            return _signed(house, LOCAL, "admin", correlation)
        holder = await house.do(partial(house.cases.holder_of, shown))
        return _signed(house, f"token:{holder['name']}", holder["role"], correlation)
    session = session_of(headers, house.cookie)
    visitor = await house.do(partial(house.cases.visitor_of, session)) if session else None
    if visitor is None:
        return None
    if visitor["name"] is None:
        return _signed(house, LOCAL, "admin", correlation) if here else None
    return _signed(house, f"token:{visitor['name']}", visitor["role"], correlation)


def _signed(house: House, actor: str, role: Role, correlation: str) -> Caller:
    return Caller(actor, None, correlation, role=role, may_run_commands=taken_by_servers(house.config))


def signature(caller: Caller) -> str:
    """Who it is and as what, for a header."""
    return quote(f"{caller.actor} {caller.role}", safe=":")


def is_here(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request comes from this machine, and through no proxy."""
    try:
        address = ipaddress.ip_address((scope.get("client") or ("", 0))[0])
    except ValueError:
        return False
    plain = getattr(address, "ipv4_mapped", None) or address
    return bool(plain.is_loopback) and not is_proxied(headers)


def _wants_page(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks for something to show, and can be led to the login."""
    is_page = not scope["path"].startswith(("/api/", "/mcp", "/metrics"))
    return is_page and scope["method"] == "GET" and b"text/html" in headers.get(b"accept", b"")


def path_to_login(scope: Scope) -> str:
    """Where one logs in on the way to what a request asks for."""
    query = scope["query_string"].decode("latin-1")
    onward = quote(scope["path"]) + (f"?{query}" if query else "")
    return "/login" if onward == "/" else f"/login?{urlencode({'next': onward})}"


def is_own_name(host: str, names: frozenset[str]) -> bool:
    """Whether a ``Host`` header names this machine by itself, or by one of ``names``; ``*`` is any plain address."""
    if any(character in host for character in "/@?#\\ \t"):
        return False
    try:
        found = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if found == "localhost" or found in names:
        return True
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return False
    # Rebinding needs a name: a plain address is where the browser really went.
    return address.is_loopback or "*" in names


def names_of(host: str, further: str | None) -> frozenset[str]:
    """The names of a server that listens on ``host``; ``further`` are those that the settings add."""
    own = {name.strip().lower() for name in (further or "").split(",") if name.strip()}
    if host in ("0.0.0.0", "::", ""):
        return frozenset({*own, "*", hosts.name().lower()})
    return frozenset({*own, host.lower().strip("[]")})


def _check_origin(scope: Scope, headers: Mapping[bytes, bytes]) -> None:
    """Refuses what a page of another origin sends, and a form that no script of ours vouches for."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if origin and urlsplit(origin).netloc.lower() != host:
        raise _foreign(f"the request comes from {origin[:100]!r}, another origin than {host[:100]!r}")
    site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
    if scope["method"] in _SAFE:
        return
    if site in ("cross-site", "same-site"):
        raise _foreign(f"the request comes from a page of another site (Sec-Fetch-Site: {site})")
    if origin or MARK in headers or b"authorization" in headers:
        return
    if not scope["path"].startswith(("/api/", "/mcp")):
        raise _foreign("a request that changes something names neither its origin nor X-Orchestrion")
    # No form of any browser sends JSON; one that a script of another page sends is asked about first.
    media = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if media in ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"):
        raise _foreign(f"a body of the kind {media} could be any page's form")


def _foreign(said: str) -> InvalidInput:
    return InvalidInput(
        said, hint="only this server's own pages may ask this; programs send JSON", code="foreign_origin"
    )


def _check_size(headers: Mapping[bytes, bytes]) -> None:
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > BODY_LIMIT:
        raise _too_large()


def _too_large() -> InvalidInput:
    return InvalidInput(
        f"a body has at most {BODY_LIMIT} bytes", hint="send less at a time; long texts are artifacts", code="too_large"
    )


class _Body:
    """The body of a request as it comes."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._seen = 0
        self._is_whole = scope["method"] in _SAFE
        # Who waits for our word before the body does not send it.
        self._is_sent = b"expect" not in _by_name(scope)

    @property
    def is_coming(self) -> bool:
        """Whether there is more of it, as far as is known."""
        return self._is_sent and not self._is_whole

    async def receive(self) -> Message:
        """The next piece. Refuses a body that grows too large, whatever was announced, or whose end never comes."""
        message = await self._next()
        if message["type"] == "http.disconnect" and not self._is_whole:
            raise InvalidInput(
                "the client went before it had sent all of the body", hint="send it again", code="body_unfinished"
            )
        if self._seen > BODY_LIMIT:
            raise _too_large()
        return message

    async def drain(self) -> None:
        """Reads what comes of it and is of no use any more."""
        while self.is_coming and self._seen < DRAINED:
            await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._is_sent = message["type"] != "http.disconnect"
        self._is_whole = self._is_whole or (self._is_sent and not message.get("more_body"))
        self._seen += len(message.get("body", b""))
        return message


def _bearer(headers: Mapping[bytes, bytes]) -> str | None:
    """The key or token in a request's header."""
    kind, _, shown = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return shown.strip() if kind.lower() == "bearer" else None


def session_of(headers: Mapping[bytes, bytes], cookie: str) -> str | None:
    """The page's session in a request's cookie."""
    for part in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == cookie:
            return value
    return None


def _correlation(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(REQUEST_ID, b"").decode("latin-1")
    return given if _ID.fullmatch(given) else f"web-{uuid.uuid4().hex[:12]}"


def _by_name(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


class Rates:
    """How much each caller asked lately: a bucket that refills by ``per_second``. 0: any."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        #: Caller -> (what is left, when it was counted).
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, caller: str) -> None:
        """One request more. Raises Backpressure when it is one too many."""
        if not self._per_second:
            return
        now, most = self._clock(), self._per_second * BURST
        left, before = self._left.pop(caller, (most, now))
        left = min(most, left + (now - before) * self._per_second)
        enough = left >= 1
        self._left[caller] = (left - 1 if enough else left, now)
        if len(self._left) > _COUNTED:
            self._left.popitem(last=False)
        if not enough:
            wait = (1 - left) / self._per_second
            raise Backpressure(
                f"more than {self._per_second:g} requests a second",
                hint="wait, then go on more slowly; the limit is serve.rate",
                code="too_many_requests",
                retry_after_s=max(0.05, round(wait, 3)),
            )


class _Telling:
    """Sends the answer with what every answer has, and writes the request's line in the log."""

    def __init__(self, scope: Scope, send: Send, body: _Body, correlation: str, house: House) -> None:
        self._scope = scope
        self._send = send
        self._body = body
        self._correlation = correlation
        self._house = house
        self._began_at = time.perf_counter()
        self.actor = ""
        self.began = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            given = message.setdefault("headers", [])
            had = {key.lower() for key, _ in given}
            more = [*_HEADERS, (REQUEST_ID, self._correlation.encode()), (b"cache-control", b"no-cache")]
            message["headers"] = [*given, *(pair for pair in more if pair[0] not in had)]
            took = time.perf_counter() - self._began_at
            self._house.answers.count(self._scope["method"], message["status"], took)
            logs.request(self._scope, message["status"], took, self.actor, self._correlation)
        elif not message.get("more_body") and self._body.is_coming:
            # A connection that is closed while its client still sends is reset, and the answer is lost with it.
            await self._send({**message, "more_body": True})
            await self._body.drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)
