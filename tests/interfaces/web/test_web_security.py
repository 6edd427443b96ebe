"""Who may come in: hosts, origins, tokens, roles, sizes, rates; and that what comes in is harmless."""

from __future__ import annotations

import html
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from visitors import Site, Visitor

from orchestrion.core.errors import Backpressure, EnvironmentProblem, StoreProblem
from orchestrion.interfaces.proxies import is_proxied
from orchestrion.interfaces.web import security
from orchestrion.interfaces.web.house import House
from orchestrion.interfaces.web.security import BODY_LIMIT, HEADERS, Rates, is_own_name, names_of

pytestmark = pytest.mark.long

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def dialect() -> str:
    """The database has no part in this."""
    return "sqlite"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "x/y"]
)
def test_a_foreign_host_is_refused(visitor: Visitor, host: str) -> None:
    for path in ("/api/v1/tasks", "/metrics", "/livez", "/mcp", "/", "/login", "/api/v1/openapi.json"):
        visitor.refused("GET", path, 403, "foreign_host", headers={"Host": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:80", "[::1]:7117", "127.0.0.2:1"])
def test_this_machine_goes_by_its_names(visitor: Visitor, host: str) -> None:
    assert visitor.ask("GET", "tasks", headers={"Host": host}).status_code == 200


def test_names_are_exact() -> None:
    assert is_own_name("Build.Example:7117", names_of("10.0.0.1", "build.example, other"))
    assert not is_own_name("sub.build.example", names_of("10.0.0.1", "build.example"))
    assert is_own_name("10.0.0.9", names_of("0.0.0.0", None))
    assert not is_own_name("10.0.0.9", names_of("10.0.0.1", None))
    assert not is_own_name("evil.example", names_of("0.0.0.0", None))


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:8000", "http://localhost:7117", "file://"]
)
def test_a_foreign_origin_is_refused(visitor: Visitor, origin: str) -> None:
    for method, path in (("GET", "tasks"), ("POST", "tasks"), ("POST", "/mcp"), ("POST", "/login")):
        visitor.refused(method, path, 403, "foreign_origin", headers={"Origin": origin})


def test_a_page_of_another_site_is_refused(visitor: Visitor) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    visitor.refused("POST", "tasks", 403, "foreign_origin", headers=headers, json={"title": "x"})
    assert visitor.ask("GET", "tasks", headers=headers).status_code == 200


@pytest.mark.parametrize("media", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_a_form_cannot_act(stranger: Visitor, media: str) -> None:
    body = '{"title": "x"}'
    stranger.refused("POST", "tasks", 403, "foreign_origin", content=body, headers={"Content-Type": media})
    stranger.refused("POST", "/tasks/T1/approve", 403, "foreign_origin")
    assert stranger.get("tasks")["total"] == 0


def test_our_own_page_acts(visitor: Visitor) -> None:
    assert visitor.ask("POST", "tasks", json={"title": "x"}, headers={"Origin": "http://127.0.0.1:7117"}).is_success
    assert visitor.ask("POST", "tasks", json={"title": "x"}, headers={"X-Orchestrion": "1"}).is_success


# -- tokens ---------------------------------------------------------------------------------------


@pytest.fixture
def asked(house: House) -> Iterator[Visitor]:
    """A server that asks everybody for a token."""
    house.tokens_needed = True
    with Visitor(house) as one:
        yield one


def test_whether_it_is_ready_is_told_in_one_shape(
    asked: Visitor, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def health(**_: Any) -> None:
        raise StoreProblem("the store is away")

    monkeypatch.setattr(house.cases, "health", health)
    answer = asked.ask("GET", "/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "not_ready": ["the store is away"]})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_a_token_nobody_comes_in(asked: Visitor) -> None:
    for path in ("/api/v1/tasks", "/api/v1/events", "/api/v1/openapi.json", "/metrics", "/mcp"):
        problem = asked.ask("GET", path)
        assert (problem.status_code, problem.json()["code"]) == (401, "unauthenticated"), path
        assert problem.headers["www-authenticate"].startswith("Bearer")
    assert asked.ask("GET", "/livez").status_code == 200
    assert asked.ask("GET", "/readyz").status_code == 200


@pytest.mark.parametrize("header", ["Bearer", "Bearer x", "Basic eDp5", "Bearer " + "a" * 5000, "Bearer \xff"])
def test_what_is_no_token_opens_nothing(asked: Visitor, header: str) -> None:
    asked.refused("GET", "tasks", 401, "unauthenticated", headers={"Authorization": header.encode("latin-1")})


def test_a_read_token_cannot_act(visitor: Visitor, house: House) -> None:
    visitor.post("tasks", {"title": "one"})
    headers = bearer(house.cases.create_token("watcher")["token"])
    assert visitor.ask("GET", "tasks", headers=headers).status_code == 200
    document = visitor.get("openapi.json")
    acts = [(method, path) for path, one in document["paths"].items() for method in one if method != "get"]
    assert len(acts) > 20
    for method, path in acts:
        filled = path.replace("{task}", "T1").replace("{run}", "R1").replace("{gate}", "G1").replace("{on}", "T1")
        problem = visitor.refused(method.upper(), filled, 403, "forbidden", headers=headers, json={})
        assert "token:watcher" in problem["detail"]


def test_an_operator_cannot_do_what_admins_do(visitor: Visitor, house: House) -> None:
    headers = bearer(house.cases.create_token("ci", "operate")["token"])
    assert visitor.ask("POST", "tasks", json={"title": "x"}, headers=headers).status_code == 201
    visitor.refused("DELETE", "tasks/T1", 403, "forbidden", headers=headers)
    visitor.refused("POST", "pause", 403, "forbidden", headers=headers)
    assert visitor.get("journal?task=T1")["events"][0]["actor"] == "token:ci"
    boss = bearer(house.cases.create_token("boss", "admin")["token"])
    assert visitor.ask("DELETE", "tasks/T1", headers=boss).status_code == 200


def test_a_token_ends(asked: Visitor, house: House) -> None:
    made = house.cases.create_token("ci", days=1)
    assert asked.ask("GET", "tasks", headers=bearer(made["token"])).status_code == 200
    house.cases.store.now = 10**13
    asked.refused("GET", "tasks", 401, "unauthenticated", headers=bearer(made["token"]))
    house.cases.store.now = None
    house.cases.revoke_token("ci")
    problem = asked.refused("GET", "tasks", 401, "unauthenticated", headers=bearer(made["token"]))
    assert "revoked" in problem["detail"]


def test_a_token_is_kept_as_a_hash(house: House, site: Site) -> None:
    made = house.cases.create_token("ci")
    assert made["token"].startswith("orch_")
    assert made["token"] not in str(house.cases.tokens())
    with open(site.environ["ORCHESTRION_DB"], "rb") as file:  # noqa: PTH123 - bytes, whatever is in them
        assert made["token"].encode() not in file.read()


#: What proxies, balancers and services that stand before servers are known to add.
PROXIES = """
    Via Forwarded X-Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Forwarded-Server
    X-Forwarded-Ssl X-Forwarded-Prefix X-Forwarded-User X-Forwarded-By X-Forwarded-Scheme X-Forwarded-Protocol
    X-Forwarded-Uri X-Forwarded-Client-Cert X-Original-Forwarded-For X-Original-Uri X-Original-Host X-Cluster-Client-Ip
    X-Real-Ip X-Client-Ip True-Client-Ip Cf-Connecting-Ip Cf-Ray Fastly-Client-Ip Fly-Client-Ip X-Envoy-External-Address
    X-Envoy-Expected-Rq-Timeout-Ms X-Amzn-Trace-Id X-Azure-ClientIp X-Arr-Ssl X-Appengine-User-Ip CDN-Loop X-Scheme
    Client-Ip X-Remote-Addr X-ProxyUser-Ip Ssl-Client-Cert
"""


def test_what_a_client_says_is_no_sign_of_a_proxy() -> None:
    said = """
        Host User-Agent Accept Accept-Encoding Accept-Language Authorization Cookie Origin Referer Connection
        Content-Type Content-Length Transfer-Encoding Expect Idempotency-Key If-Match If-None-Match Last-Event-Id
        Mcp-Session-Id Mcp-Protocol-Version X-Request-Id X-Orchestrion X-Requested-With Traceparent Sec-Fetch-Site
        Hx-Request Dnt Upgrade-Insecure-Requests Cache-Control Pragma Te Priority
    """
    assert not is_proxied(dict.fromkeys(said.lower().encode().split(), b""))


def test_behind_a_proxy_nobody_is_from_this_machine(stranger: Visitor, house: House, site: Site) -> None:
    for header in PROXIES.split():
        stranger.refused("GET", "tasks", 403, "proxied", headers={header: "10.0.0.1"})
        stranger.refused("GET", "tasks", 401, "unauthenticated", headers={header: "::1", **bearer(site.key)})
    link = house.cases.make_link("").rpartition("=")[2]
    assert stranger.ask("GET", f"/enter?link={link}", headers={"X-Forwarded-For": "1"}).status_code == 403
    assert stranger.ask("GET", f"/enter?link={link}").status_code == 200
    token = house.cases.create_token("ci")["token"]
    assert stranger.ask("GET", "tasks", headers={"X-Forwarded-For": "1", **bearer(token)}).status_code == 200


def test_a_browser_logs_in_once(asked: Visitor, house: House) -> None:
    answer = asked.ask("GET", "/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "<form" in asked.ask("GET", "/login").text
    headers = {"Origin": "http://127.0.0.1:7117"}
    wrong = asked.ask("POST", "/login", data={"token": SCRIPT}, headers=headers)
    assert wrong.status_code == 401
    assert SCRIPT not in wrong.text
    token = house.cases.create_token("me", "operate")["token"]
    came = asked.ask("POST", "/login", data={"token": token}, headers=headers, follow_redirects=False)
    assert came.status_code == 303
    cookie = came.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token.lower() not in cookie
    assert asked.ask("GET", "tasks").status_code == 200
    house.cases.revoke_token("me")
    assert asked.ask("GET", "tasks").status_code == 401


@pytest.mark.parametrize("view", ["/tasks/T1", "/?q=a+b&plan=x%20y", "/decisions?q=%22%3E"])
def test_who_logs_in_on_the_way_to_a_view_comes_there(asked: Visitor, house: House, view: str) -> None:
    login = asked.ask("GET", view, headers={"Accept": "text/html"}, follow_redirects=False).headers["location"]
    assert login.startswith("/login?next=")
    headers, token = {"Origin": "http://127.0.0.1:7117"}, house.cases.create_token("me")["token"]
    form = asked.ask("GET", login).text
    for _ in range(2):
        onward = html.unescape(form.partition('name="next" value="')[2].partition('"')[0])
        form = asked.ask("POST", "/login", data={"token": "wrong", "next": onward}, headers=headers).text
    data = {"token": token, "next": onward}
    came = asked.ask("POST", "/login", data=data, headers=headers, follow_redirects=False)
    assert (came.status_code, came.headers["location"]) == (303, view)


@pytest.mark.parametrize(
    "onward",
    ["//evil.example", "/\\evil.example", "/\t/evil.example", "https://evil.example", "evil", "", "/a\r\nb: c"],
)
def test_the_login_leads_to_no_other_server(asked: Visitor, house: House, onward: str) -> None:
    headers = {"Origin": "http://127.0.0.1:7117"}
    data = {"token": house.cases.create_token("me")["token"], "next": onward}
    came = asked.ask("POST", "/login", data=data, headers=headers, follow_redirects=False)
    assert came.headers["location"] == "/"
    assert 'name="next" value="/"' in asked.ask("GET", "/login", params={"next": onward}).text


# -- the key of this machine ------------------------------------------------------------------------


@pytest.fixture
def host(house: House) -> Iterator[Visitor]:
    """A browser of this machine, which shows nothing yet; it sends its origin with what it asks."""
    with Visitor(house) as one:
        one.client.headers["Origin"] = "http://127.0.0.1:7117"
        yield one


def test_without_the_key_one_reads_and_does_nothing(stranger: Visitor, house: House) -> None:
    house.cases.add("one")
    house.cases.add_gate("T1", "approval", called="ship it?")
    assert stranger.get("tasks")["total"] == 1
    problem = stranger.refused("POST", "gates/G1/open", 401, "key_needed", json={})
    assert "orchestrion open" in problem["hint"]
    page = stranger.ask("POST", "/gates/G1/open", headers={"X-Orchestrion": "1"})
    assert page.status_code == 401
    assert "orchestrion open" in page.text
    assert house.cases.show("T1")["gates"][0]["state"] == "open"


def test_the_key_is_a_file_of_this_user_alone(visitor: Visitor, site: Site, house: House) -> None:
    file = site.root / ".git" / "orchestrion" / "key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert visitor.post("tasks", {"title": "x"})["id"] == "T1"
    assert visitor.get("journal?task=T1")["events"][0]["actor"] == "web:local"
    file.write_text("another\n")
    visitor.refused("GET", "tasks", 401, "unauthenticated")
    file.unlink()
    file.touch(0o644)
    visitor.refused("GET", "tasks", 401, "unauthenticated", headers=bearer(""))
    file.unlink()
    house.cases.provide_key()
    assert len(site.key) > 40
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_is_set_right_and_said(
    visitor: Visitor, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    file = site.root / ".git" / "orchestrion" / "key"
    file.chmod(0o644)
    for _ in range(2):
        visitor.get("tasks")
    assert file.stat().st_mode & 0o777 == 0o600
    (said,) = [one.getMessage() for one in caplog.records if "readable by others" in one.getMessage()]
    assert str(file) in said


def _short(file: Path, elsewhere: Path) -> None:
    elsewhere.write_text("short")
    file.write_text("short")


def _leads_to_short(file: Path, elsewhere: Path) -> None:
    elsewhere.write_text("short")
    file.symlink_to(elsewhere)


def _leads_to_a_key(file: Path, elsewhere: Path) -> None:
    elsewhere.write_text(f"orch_key_{'x' * 43}")
    file.symlink_to(elsewhere)


def _huge(file: Path, elsewhere: Path) -> None:
    elsewhere.write_text("x" * 100_000)
    file.write_text("x" * 100_000)


@pytest.mark.parametrize(
    "bend",
    [
        lambda file, _: os.mkfifo(file),
        lambda file, _: file.symlink_to("/dev/zero"),
        lambda file, _: file.symlink_to("nowhere"),
        lambda file, _: file.mkdir(),
        _leads_to_short,
        _leads_to_a_key,
        _short,
        _huge,
    ],
    ids=["a pipe", "endless", "a link to nothing", "a folder", "a link", "a link to a key", "short", "huge"],
)
def test_what_has_the_place_of_the_key_and_is_none_opens_nothing_and_holds_nobody_up(
    house: House, site: Site, tmp_path: Path, bend: Callable[[Path, Path], object]
) -> None:
    file, elsewhere = site.root / ".git" / "orchestrion" / "key", tmp_path / "elsewhere"
    elsewhere.touch()
    elsewhere.chmod(0o644)
    file.unlink()
    bend(file, elsewhere)
    shown = elsewhere.read_text() or "x"
    zero = Path("/dev/zero").stat()
    with Visitor(house, shown[:5_000]) as visitor:
        visitor.refused("GET", "tasks", 401, "unauthenticated")
    with pytest.raises(EnvironmentProblem) as refused:
        house.cases.provide_key()
    assert refused.value.code == "no_key"
    assert str(file) in refused.value.hint
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644
    assert (Path("/dev/zero").stat().st_mode, Path("/dev/zero").stat().st_ctime_ns) == (zero.st_mode, zero.st_ctime_ns)


def test_the_key_opens_nothing_from_elsewhere(house: House, site: Site) -> None:
    house.tokens_needed = True
    link = house.cases.make_link("http://x/").rpartition("=")[2]
    for address, status in (("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("10.0.0.9", 401)):
        with Visitor(house, site.key, address=address) as one:
            assert one.ask("GET", "tasks").status_code == status
    with Visitor(house, address="10.0.0.9") as far, Visitor(house) as near:
        assert far.ask("GET", f"/enter?link={link}").status_code == 403
        assert near.ask("GET", f"/enter?link={link}").status_code == 200
        far.client.cookies.update(near.client.cookies)
        far.refused("GET", "tasks", 401, "unauthenticated")


def test_a_link_lets_one_browser_in_once(host: Visitor, house: House, site: Site) -> None:
    path = house.cases.make_link("http://127.0.0.1:7117/").removeprefix("http://127.0.0.1:7117")
    came = host.ask("GET", path)
    cookie = came.headers["set-cookie"].lower()
    assert (came.status_code, came.headers["cache-control"]) == (200, "no-store")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert site.key.lower() not in cookie
    assert path.rpartition("=")[2].lower() not in cookie
    assert host.post("tasks", {"title": "x"})["id"] == "T1"
    with Visitor(house) as thief:
        stolen = thief.ask("GET", path)
        assert stolen.status_code == 403
        assert "set-cookie" not in stolen.headers
        thief.refused("POST", "tasks", 401, "key_needed", json={"title": "x"})
    # A session outlives the server.
    with Visitor(house) as later:
        later.client.cookies = host.client.cookies
        assert later.post("tasks", {"title": "y"}, headers={"X-Orchestrion": "1"})["id"] == "T2"


def test_a_link_has_an_hour(host: Visitor, house: House) -> None:
    path = house.cases.make_link("/")
    house.cases.store.now = 10**13
    assert host.ask("GET", path).status_code == 403


def test_who_leaves_is_out_at_the_server(host: Visitor, house: House) -> None:
    for come_in, code in (
        (lambda: host.ask("GET", house.cases.make_link("/")), "key_needed"),
        (lambda: host.ask("POST", "/login", data={"token": house.cases.create_token("w")["token"]}), "key_needed"),
    ):
        come_in()
        kept = dict(host.client.cookies)
        assert kept
        left = host.ask("POST", "/logout", follow_redirects=False)
        assert (left.status_code, left.headers["location"]) == (303, "/")
        assert not host.client.cookies
        host.client.cookies.update(kept)
        host.refused("POST", "tasks", 401, code, json={"title": "x"})
        host.client.cookies.clear()


def test_the_key_may_be_asked_for_all(site: Site) -> None:
    site.configure({"serve": {"key": "all"}})
    house = House.open(str(site.root), None, site.environ)
    with Visitor(house) as stranger, Visitor(house, site.key) as user:
        for path in ("tasks", "/", "/metrics", "/mcp", "events", "openapi.json"):
            stranger.refused("GET", path, 401, "key_needed")
        browser = stranger.ask("GET", "/", headers={"Accept": "text/html"})
        assert "orchestrion open" in browser.text
        assert stranger.ask("GET", "/livez").status_code == 200
        assert user.get("tasks")["total"] == 0
    house.close()


# -- sizes, rates, headers ------------------------------------------------------------------------


def test_a_body_has_bounds(visitor: Visitor) -> None:
    visitor.refused("POST", "tasks", 413, "too_large", content=b"x" * (BODY_LIMIT + 1), headers={"X-Orchestrion": "1"})

    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_LIMIT // 65536 + 2):
            yield b"x" * 65536

    visitor.refused("POST", "tasks", 413, "too_large", content=pieces(), headers={"X-Orchestrion": "1"})


def test_who_asks_too_much_waits() -> None:
    now = [100.0]
    rates = Rates(5, lambda: now[0])
    for _ in range(10):
        rates.count("ada")
    with pytest.raises(Backpressure) as refused:
        rates.count("ada")
    assert refused.value.details["retry_after_s"] == 0.2
    rates.count("bob")
    now[0] += 0.2
    rates.count("ada")
    with pytest.raises(Backpressure):
        rates.count("ada")


def test_the_rate_is_refused_with_when(site: Site) -> None:
    site.configure({"serve": {"rate": 2}})
    house = House.open(str(site.root), None, site.environ)
    with Visitor(house) as visitor:
        answers = [visitor.ask("GET", "roles") for _ in range(12)]
    house.close()
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1


def test_nobody_without_the_key_uses_up_what_its_holder_may_ask(site: Site) -> None:
    site.configure({"serve": {"rate": 2}})
    house = House.open(str(site.root), None, site.environ)
    with Visitor(house) as visitor:
        assert {visitor.ask("GET", "roles").status_code for _ in range(12)} == {200, 429}
        assert visitor.ask("GET", "roles", headers=bearer(site.key)).status_code == 200
    house.close()


@pytest.mark.parametrize("tokens_needed", [False, True])
def test_who_is_signed_in_or_signs_in_is_not_held_up_by_those_who_are_not(site: Site, tokens_needed: bool) -> None:
    site.configure({"serve": {"rate": 5}})
    house = House.open(str(site.root), None, site.environ)
    house.tokens_needed = tokens_needed
    token = house.cases.create_token("ci")["token"]
    origin = {"Origin": "http://127.0.0.1:7117"}
    with Visitor(house) as browser:
        flood = Visitor(house)
        flood.app, flood.client.app = browser.app, browser.app

        def exhausted() -> None:
            for _ in range(100):
                if flood.ask("GET", "/assets/page.css").status_code == 429:
                    return
            raise AssertionError("nobody is refused")

        exhausted()
        assert browser.ask("GET", "/login").status_code == 200
        assert browser.ask("POST", "/login", data={"token": token}, headers=origin, follow_redirects=False).is_redirect
        for path in ("/", "/assets/page.js", "/assets/page.css"):
            exhausted()
            assert browser.ask("GET", path).status_code == 200, path
        exhausted()
        assert browser.ask("POST", "/logout", headers=origin, follow_redirects=False).is_redirect
        exhausted()
        assert browser.ask("GET", house.cases.make_link("/")).status_code == 200
        # A token or a link that opens nothing is one of a stranger.
        statuses = {flood.ask("POST", "/login", data={"token": "x"}, headers=origin).status_code for _ in range(30)}
        assert 429 in statuses <= {401, 429}
        assert 429 in {flood.ask("GET", "/enter?link=x").status_code for _ in range(30)}
    house.close()


def test_of_one_caller_so_many_requests_are_answered_at_once(
    visitor: Visitor, stranger: Visitor, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "AT_ONCE", 1)
    entered, go = threading.Event(), threading.Event()

    def roles(self: object) -> list[object]:
        entered.set()
        assert go.wait(60)
        return []

    monkeypatch.setattr(type(house.cases), "roles", roles)
    slow = threading.Thread(target=lambda: visitor.get("roles"))
    slow.start()
    assert entered.wait(60)
    assert visitor.refused("GET", "tasks", 429, "too_many_requests")["details"]["retry_after_s"] == 1
    assert visitor.ask("GET", "/livez").status_code == 200
    token = house.cases.create_token("ci")["token"]
    assert visitor.ask("GET", "tasks", headers=bearer(token)).status_code == 200
    go.set()
    slow.join()
    assert visitor.get("tasks")["total"] == 0


@pytest.mark.parametrize(
    ("path", "media", "more"),
    [
        ("/login", "application/x-www-form-urlencoded", {"origin": "http://127.0.0.1:7117"}),
        ("/api/v1/tasks", "application/json", {}),
        ("/api/v1/tasks", "application/json", {"idempotency-key": "a-key"}),
        ("/mcp", "application/json", {"accept": "application/json, text/event-stream"}),
    ],
)
@pytest.mark.parametrize("came", [[b"to"], []])
def test_who_goes_within_a_body_is_no_bug(
    visitor: Visitor,
    site: Site,
    caplog: pytest.LogCaptureFixture,
    path: str,
    media: str,
    more: dict[str, str],
    came: list[bytes],
) -> None:
    told = {"host": "127.0.0.1:7117", "content-type": media, "content-length": "100", **bearer(site.key), **more}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(key.lower().encode(), value.encode()) for key, value in told.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 7117),
        "state": {},
    }
    waiting = [{"type": "http.request", "body": body, "more_body": True} for body in came]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    assert visitor.client.portal is not None
    visitor.client.portal.call(visitor.app, scope, receive, send)
    assert sent[0]["status"] == 400
    assert b"body_unfinished" in b"".join(one.get("body", b"") for one in sent)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


def test_who_tries_tokens_out_is_counted_too(site: Site) -> None:
    site.configure({"serve": {"rate": 2}})
    house = House.open(str(site.root), None, site.environ)
    with Visitor(house, "orch_guess") as visitor:
        statuses = [visitor.ask("GET", "roles").status_code for _ in range(12)]
    house.close()
    assert set(statuses) == {401, 429}


def test_every_answer_tells_browsers_what_is_allowed(visitor: Visitor) -> None:
    for path in ("/api/v1/tasks", "/api/v1/tasks/T9", "/nothing", "/login", "/livez"):
        answer = visitor.ask("GET", path)
        for header, value in HEADERS.items():
            assert answer.headers[header] == value, path
    assert "unsafe" not in HEADERS["content-security-policy"]


# -- what was written by others -----------------------------------------------------------------


@pytest.mark.parametrize(
    "title", [SCRIPT, "'; drop table tasks; --", "{{7*7}}", "‮evil", "a" * 255, "🦔", '"><img src=x onerror=1>']
)
def test_what_is_written_comes_back_as_data(visitor: Visitor, title: str) -> None:
    made = visitor.post("tasks", {"title": title, "description": title})
    assert made["title"] == title
    answer = visitor.ask("GET", "tasks/T1")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["description"] == title


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"[]", 422, "invalid_parameters"),
        (b"null", 422, "invalid_parameters"),
        (b'{"title": 3}', 422, "invalid_parameters"),
        (b'{"title": ""}', 422, "invalid_parameters"),
        (b'{"title": " "}', 422, "invalid_title"),
        (b'{"title": "a\\u0000b"}', 422, "invalid_title"),
        (b'{"title": "\\ud800"}', 422, "invalid_parameters"),
        (b'{"title": "x", "description": "\\u0000"}', 422, "invalid_text"),
        (b'{"title": "x", "priority": 99}', 422, "invalid_parameters"),
        (b'{"title": "x", "priority": "5"}', 422, "invalid_parameters"),
        (b'{"title": "x", "effort_min": NaN}', 422, "invalid_parameters"),
        (b'{"title": "x", "effort_min": 1e999}', 422, "invalid_parameters"),
        (b'{"title": "x", "plan": "../x"}', 422, "invalid_plan_name"),
        (b'{"title": "x", "role": "../../etc/passwd"}', 422, "invalid_role"),
        (b'{"title": "x", "after": ["T999"]}', 404, "no_task"),
        (b'{"title": "x", "parent": "T0"}', 422, "invalid_id"),
        (b'{"title": "x", "due_at": "soon"}', 422, "invalid_time"),
        (b'{"title": "x", "context": {"a": "\\ud800"}}', 422, "invalid_parameters"),
        (b'{"title": "x", "context": {"a": NaN}}', 422, "invalid_parameters"),
        (b'{"title": "x", "unknown": 1}', 422, "invalid_parameters"),
    ],
)
def test_bad_input_gets_a_clear_answer(visitor: Visitor, body: bytes, status: int, code: str) -> None:
    answer = visitor.ask("POST", "tasks", content=body, headers={"Content-Type": "application/json"})
    problem = answer.json()
    assert answer.status_code == status, problem
    assert problem["hint"]
    assert problem["code"] == code, problem
    assert visitor.get("tasks")["total"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "tasks/..%2f..%2fetc%2fpasswd", "tasks/T1%00", "tasks/%ff", "tasks/T" + "9" * 400, "runs/../../x/log",
        "runs/R1%2f..%2fR2/log", "artifacts/A-1", "sessions/S1;drop", "decisions/D1'--", "gates/%2e%2e/open",
    ],
)  # fmt: skip
def test_a_name_is_no_path(visitor: Visitor, path: str) -> None:
    answer = visitor.ask("GET", path)
    assert answer.status_code in (404, 405, 422)
    assert "passwd" not in answer.json()["details"]
