"""What a real Chromium shows: changes at once, text as text, keys, themes, a phone, a server that comes back."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import scene
from lookers import Looker, looking

from orchestrion.interfaces.web import events
from orchestrion.ops import alerts
from orchestrion.ops.alerts import Finding

VIEWS = ("/", "/graph", "/timeline", "/decisions", "/files", "/stats", "/health", "/tasks/T13", "/runs/R7", "/runs/R1")


@pytest.mark.parametrize("path", VIEWS)
def test_what_somebody_wrote_is_text(looker: Any, path: str) -> None:
    page = looker.go(path)
    page.wait_for_selector(".htmx-request", state="detached")
    assert page.title() != "owned"
    assert page.locator("img, script:not([src]), style, [onerror]").count() == 0


def test_hostile_words_are_readable(looker: Any) -> None:
    page = looker.go("/runs/R7")
    assert scene.HOSTILE in page.locator(".log").inner_text()
    assert "<script>alert(1)</script>.txt" in page.locator("#run-side").inner_text()
    page = looker.go("/tasks/T13")
    assert page.locator("h1").inner_text() == f"Hostile {scene.HOSTILE}"
    assert page.title().startswith("T13 Hostile <img")


def test_a_change_of_anybody_shows_within_half_a_second(served: Any, looker: Any) -> None:
    page = looker.go("/")
    took = []
    for number in range(5):
        title = f"Appears by itself {number}"
        page.evaluate(
            """title => { window.seen = new Promise(tell => new MutationObserver((_, watch) => {
                if (!document.body.textContent.includes(title)) return;
                watch.disconnect();
                tell(performance.timeOrigin + performance.now());
            }).observe(document.body, {subtree: true, childList: true, characterData: true})); }""",
            title,
        )
        began = time.time() * 1000
        # A thread of its own has a connection of its own, as another process has.
        adding = threading.Thread(target=lambda title=title: served.cases.add(title))
        adding.start()
        took.append(page.evaluate("window.seen") - began)
        adding.join()
    assert sorted(took)[2] < 500, took


def test_folds_and_the_chosen_card_stay_when_a_view_is_renewed(served: Any, looker: Any) -> None:
    page = looker.go("/tasks/T4")
    page.locator("details.fold summary").click()
    served.cases.update("T4", priority=6)
    page.wait_for_selector(".under:has-text('priority 6')")
    assert page.locator("details.fold[open]").count() == 1
    page = looker.go("/")
    page.keyboard.press("j")
    chosen = page.locator(".card.chosen").get_attribute("id")
    served.cases.add("Comes in between")
    page.wait_for_selector(".card:has-text('Comes in between')")
    assert page.locator(".card.chosen").get_attribute("id") == chosen


def test_times_stay_relative_when_a_view_is_renewed(served: Any, looker: Any) -> None:
    page = looker.go("/tasks/T4")
    page.evaluate(
        """() => {
            window.absolute = [];
            const look = () => document.querySelectorAll("time[data-ago]").forEach(time => {
                if (/^\\d{4}-/.test(time.textContent)) window.absolute.push(time.textContent);
            });
            new MutationObserver(look).observe(document.body, {childList: true, characterData: true, subtree: true});
        }"""
    )
    served.cases.update("T4", tags=("renewed",))
    page.wait_for_selector(".under .tag:has-text('renewed')")
    assert page.evaluate("window.absolute") == []


def test_keys_walk_and_act(looker: Any) -> None:
    page = looker.go("/")
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#help", state="hidden")
    page.keyboard.press("l")
    page.keyboard.press("l")
    page.keyboard.press("j")
    assert page.locator(".column .card:focus").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks/T*")
    page.wait_for_selector("#live.on")
    page.keyboard.press("p")
    page.wait_for_selector("#dialog[open] input[name=priority]:focus")
    page.keyboard.press("Escape")
    page.wait_for_selector("#dialog", state="hidden")
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_url("**/timeline")
    page.wait_for_selector("#live.on")
    page.keyboard.press("n")
    page.wait_for_selector("#dialog[open] input[name=title]")


def test_a_key_acts_on_the_card_that_has_the_focus_and_that_alone_looks_chosen(looker: Any) -> None:
    page = looker.go("/")
    page.keyboard.press("l")
    page.keyboard.press("j")
    others = page.locator(".card:not(.chosen):has([data-key='d']) .title a")
    last = others.nth(others.count() - 1)
    name = last.get_attribute("href").rpartition("/")[2]
    page.locator(f".card:has(a[href='/tasks/{name}'])").click(position={"x": 3, "y": 3})
    assert page.locator(".card.chosen, .card:focus").count() == 1
    page.keyboard.press("d")
    assert name in page.wait_for_selector("#dialog[open] h2").inner_text()


def test_log_out_is_off_while_the_server_is_away(chromium: Any, served: Any) -> None:
    with looking(chromium, served.url, link=served.link) as one:
        page = one.go("/")
        served.stop()
        page.wait_for_selector(".who button[disabled]")
        served.start()
        page.wait_for_selector(".who button:not([disabled])")


def test_find_leads_to_a_task(looker: Any) -> None:
    page = looker.go("/stats")
    page.keyboard.press("/")
    page.keyboard.type("vouchers")
    page.wait_for_selector("#found li.chosen")
    assert {"T4", "D2"} <= {text.split(" ")[0] for text in page.locator("#found a").all_inner_texts()}
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks/T4")


@pytest.mark.parametrize(("text", "path"), [("t4", "/tasks/T4"), ("D1", "/decisions/D1"), ("d2", "/decisions/D2")])
def test_find_takes_an_id(looker: Any, text: str, path: str) -> None:
    page = looker.go("/stats")
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.wait_for_selector(f"#found li.chosen a[href='{path}']")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{path}")


@pytest.mark.parametrize("text", ['"', "-", "*"])
def test_a_search_without_a_word_finds_nothing_and_leaves_nothing_of_the_one_before(looker: Any, text: str) -> None:
    page = looker.go("/decisions")
    page.fill("#find", "vouchers")
    page.wait_for_selector("#found li.chosen")
    page.fill("#find", text)
    page.wait_for_selector("#found a[href='/tasks/T4']", state="detached")
    page.locator(".filters [name=q]").fill(text)
    page.wait_for_selector("#live-view:has-text('No decision matches.')")
    assert page.locator(".record").count() == 0
    page.reload()
    assert page.locator(".filters [name=q]").input_value() == text


def test_a_search_that_is_refused_leaves_nothing_of_the_one_before(looker: Any) -> None:
    page = looker.go("/")
    page.fill("#find", "vouchers")
    page.wait_for_selector("#found li.chosen")
    page.route("**/search?*", lambda route: route.fulfill(status=429, body="{}"))
    page.fill("#find", "refunds")
    page.wait_for_selector("#found", state="hidden")
    looker.said = [line for line in looker.said if "429" not in line]


def test_filters_are_part_of_the_address(looker: Any) -> None:
    page = looker.go("/")
    page.locator(".filters [name=q]").fill("vouchers")
    page.wait_for_url("**/?q=vouchers*")
    page.wait_for_selector("#card-T9", state="detached")
    page.reload()
    assert page.locator(".card:not(.overlap)").evaluate_all("cards => cards.map(card => card.id)") == ["card-T4"]
    assert page.locator(".filters [name=q]").input_value() == "vouchers"


def test_the_graph_and_the_charts_are_drawn(looker: Any) -> None:
    page = looker.go("/graph")
    page.wait_for_selector("#graph[data-drawn] canvas")
    assert page.locator("#path ~ .links, [aria-labelledby=path] .links").count() >= 1
    page.locator("#theme").click()
    looker.go("/stats")
    page.wait_for_selector("#plot-runs canvas")
    assert page.locator(".plot canvas").count() == 3


@pytest.mark.parametrize("cost", [None, 0.004, 12_345.5])
def test_the_labels_of_a_chart_differ_and_none_is_cut(served: Any, looker: Any, cost: float | None) -> None:
    plan = f"costs-{cost}".lower()
    run = served.cases.claim(served.cases.add("Has a price", plan=plan).as_json()["id"], agent="claude")["run"]
    if cost is not None:
        served.cases.correct(run, {"cost_usd": cost}, "as the bill says")
    looker.page.add_init_script(_WRITTEN)
    page = looker.go(f"/stats?plan={plan}")
    page.wait_for_selector("#plot-cost canvas")
    written = page.evaluate("[...document.querySelector('#plot-cost canvas').written]")
    labels = [text for text, _ in written if text.startswith("$")]
    assert len(labels) == len(set(labels)) >= 3
    assert min(left for _, left in written) >= 0
    assert [text for text, _ in written if "/" in text] == []


def test_a_title_of_many_lines_stays_within_its_box_of_the_graph(served: Any, looker: Any) -> None:
    for title in ("Every one of the long words of this title wants a line alone", "W" * 60):
        served.cases.add(title, plan="tall")
    page = looker.go("/graph?plan=tall")
    page.wait_for_selector("#graph[data-drawn]")
    outside = """() => document.getElementById("graph")._cyreg.cy.nodes().filter(node => {
        const label = node.boundingBox({ includeNodes: false, includeLabels: true });
        const box = node.boundingBox({ includeLabels: false });
        return label.y1 < box.y1 || label.y2 > box.y2 || label.x1 < box.x1 || label.x2 > box.x2;
    }).map(node => node.id())"""
    assert page.evaluate(outside) == []


def test_a_moment_in_a_sentence_is_a_time_of_the_clock(served: Any, looker: Any) -> None:
    served.cases.pause()
    try:
        page = looker.go("/")
        page.wait_for_function(
            "/since \\d\\d:\\d\\d: workers/.test(document.querySelector('.banner:not(.reading)').innerText)"
        )
        shown = page.locator(".banner time").evaluate(
            "time => [time.innerText, new Date(time.dateTime).toTimeString()]"
        )
        assert shown[1].startswith(shown[0])
    finally:
        served.cases.resume()


def test_all_of_a_graph_is_seen_at_first_and_its_size_is_chosen_by_keys(served: Any, looker: Any) -> None:
    root = served.cases.add("Before all", plan="wide").as_json()["id"]
    for number in range(60):
        served.cases.add(f"Of a wide plan {number}", plan="wide", after=[root])
    page = looker.go("/graph?plan=wide")
    graph = page.wait_for_selector("#graph[data-drawn]")
    assert graph.get_attribute("data-seen") == "61"
    first = float(graph.get_attribute("data-zoom"))
    page.get_by_role("button", name="Larger").press("Enter")
    larger = float(graph.get_attribute("data-zoom"))
    page.get_by_role("button", name="Smaller").press("Enter")
    page.get_by_role("button", name="Smaller").press("Enter")
    assert float(graph.get_attribute("data-zoom")) < first < larger
    page.get_by_role("button", name="Fit").press("Enter")
    assert abs(float(graph.get_attribute("data-zoom")) - first) < 0.01


def test_on_a_phone_the_tab_of_the_view_and_who_one_is_are_seen(chromium: Any, served: Any) -> None:
    with looking(chromium, served.url, link=served.link) as one:
        one.page.set_viewport_size({"width": 390, "height": 844})
        page = one.go("/health")
        box = page.locator(".bar nav [aria-current]").bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert page.locator(".bar .who .name").inner_text() == served.house.user
        brand, find = (page.locator(part).bounding_box() for part in (".brand", ".find"))
        assert brand["x"] + brand["width"] <= find["x"]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("path", ["/files", "/health", "/stats", "/tasks/T4", "/runs/R1"])
def test_what_scrolls_is_reached_by_keys_and_has_a_name(looker: Any, path: str) -> None:
    page = looker.go(path)
    page.wait_for_selector(".htmx-request", state="detached")
    if path == "/runs/R1":
        page.wait_for_selector(".patch .scroll", state="attached")
    assert page.locator(".scroll").count() > 0
    nameless = """() => [...document.querySelectorAll(".scroll")].filter(one => one.tabIndex !== 0
        || one.getAttribute("role") !== "region"
        || !(one.ariaLabel || document.getElementById(one.getAttribute("aria-labelledby"))?.innerText || "").trim())
        .map(one => one.outerHTML.slice(0, 200))"""
    assert page.evaluate(nameless) == []


def test_an_alert_is_shown_on_the_board_and_with_the_health(served: Any, looker: Any) -> None:
    served.cases.pause()
    found = [Finding("stuck", "R4", f"R4 is stuck {scene.HOSTILE}")]
    alerts.settle(served.cases.store, found)
    page = looker.go("/")
    assert "R4 is stuck <img" in page.locator(".banner.alert").inner_text()
    page.locator(".banner.alert a").click()
    page.wait_for_selector("#alerts")
    assert "R4 is stuck <img" in page.locator("section[aria-labelledby=alerts]").inner_text()
    alerts.settle(served.cases.store, [])
    served.cases.resume()


def test_light_and_dark(chromium: Any, served: Any) -> None:
    with looking(chromium, served.url, link=served.link, color_scheme="dark") as one:
        page = one.go("/")
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        dark = page.evaluate(ground)
        page.locator("#theme").click()
        light = page.evaluate(ground)
        page.reload()
        assert page.evaluate(ground) == light != dark


@pytest.mark.parametrize("path", VIEWS)
def test_nothing_is_wider_than_a_phone(chromium: Any, served: Any, path: str) -> None:
    with looking(chromium, served.url, link=served.link) as one:
        one.page.set_viewport_size({"width": 375, "height": 740})
        page = one.go(path)
        page.wait_for_selector(".htmx-request", state="detached")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/tasks/T4", "/runs/R4", "/health"])
def test_everything_has_a_name_and_enough_contrast(chromium: Any, served: Any, path: str, scheme: str) -> None:
    with looking(chromium, served.url, link=served.link, color_scheme=scheme) as one:
        page = one.go(path)
        assert page.evaluate(_NAMELESS) == []
        assert page.evaluate(_FAINT) == []


def test_the_page_survives_a_restart_of_the_server(chromium: Any, served: Any) -> None:
    with looking(chromium, served.url, link=served.link) as one:
        page = one.go("/")
        served.stop()
        page.wait_for_selector("#live:not(.on)")
        served.cases.add("Made while the server was away")
        served.start()
        page.wait_for_selector(".card:has-text('Made while the server was away')")
        page.wait_for_selector("#live.on")


def test_who_may_only_read_sees_no_buttons(chromium: Any, served: Any) -> None:
    token = served.cases.create_token("watcher", "read")["token"]
    served.house.tokens_needed = True
    try:
        with looking(chromium, served.url, extra_http_headers={"Authorization": f"Bearer {token}"}) as one:
            page = one.go("/")
            assert page.locator(".card").count() > 5
            assert page.locator(".card button, [data-new]").count() == 0
    finally:
        served.house.tokens_needed = False


def test_who_logged_out_is_told_to_be_reading_and_how_to_get_in(chromium: Any, served: Any) -> None:
    with looking(chromium, served.url, link=served.link) as one:
        page = one.go("/")
        page.get_by_role("button", name="Log out").click()
        page.wait_for_selector(".bar .who:has-text('reading only')")
        page.wait_for_selector("#live.on")
        page.keyboard.press("n")
        one.note("“n” does nothing here: you may only read")
        page.keyboard.press("j")
        page.keyboard.press("a")
        one.note("“a” does nothing here: you may only read")
        one.go("/tasks/T4")
        assert "orchestrion open" in page.locator(".reading").inner_text()
        page.locator(".bar .who a").click()
        page.fill("#token", served.cases.create_token("back", "operate")["token"])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/tasks/T4")
        page.wait_for_selector(".bar .who:has-text('back, operate')")


def end_session(one: Looker) -> None:
    """As logging out does, but no tab tells the others."""
    assert one.page.evaluate("fetch('/logout', {method: 'POST', headers: {'X-Orchestrion': '1'}}).then(({ok}) => ok)")


@pytest.mark.parametrize("found_by", ["stream", "action", "refetch"])
def test_who_is_somebody_else_now_sees_what_that_one_may(
    chromium: Any, served: Any, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    if found_by == "stream":
        monkeypatch.setattr(events, "ALIVE_S", 0.1)
    with looking(chromium, served.url, link=served.link) as one:
        page = one.go("/")
        page.wait_for_selector(".bar .who:has-text('admin')")
        end_session(one)
        if found_by == "action":
            page.evaluate("htmx.ajax('POST', '/queue/all/pause', '#notes')")
        elif found_by == "refetch":
            served.cases.update("T4", tags=["changed"])
        page.wait_for_selector(".bar .who:has-text('reading only')")
        page.wait_for_selector("#live.on")
        assert page.locator(".card button, [data-new]").count() == 0
        assert served.cases.status()["paused_at"] is None


@pytest.mark.parametrize("writes", [False, True])
def test_who_logged_in_again_in_another_tab_goes_on_in_this_one(chromium: Any, served: Any, writes: bool) -> None:
    with looking(chromium, served.url, link=served.link) as one:
        page = one.go("/")
        if writes:
            page.keyboard.press("n")
            page.locator("#dialog [name=title]").fill("half a sentence")
        other = one.context.new_page()
        other.goto(served.url)
        other.get_by_role("button", name="Log out").click()
        if writes:
            page.wait_for_selector("#dialog .away:has-text('You are no longer let in')")
        else:
            page.wait_for_selector(".bar .who:has-text('reading only')")
        other.goto(served.link)
        other.wait_for_selector("#live.on")
        page.wait_for_selector(".bar .who:has-text('admin')")
        page.wait_for_selector("#live.on")
        if writes:
            assert page.locator("#dialog [name=title]").input_value() == "half a sentence"
            page.click("#dialog .submit")
            one.note("is added")
        else:
            assert page.locator("[data-new]:enabled").count() == 1


def test_who_came_in_with_a_token_that_is_revoked_is_told_of_that_and_not_of_a_key(chromium: Any, served: Any) -> None:
    token = served.cases.create_token("gone", "operate")["token"]
    task = served.cases.add("Rejected in vain", plan="shop").as_json()["id"]
    served.cases.done(served.cases.claim(task, agent="claude")["run"], "look", next_action="needs_revision")
    with looking(chromium, served.url) as one:
        page = one.page
        page.goto(f"{served.url}/login")
        page.fill("#token", token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector("#live.on")
        one.go(f"/tasks/{task}")
        page.get_by_role("button", name=f"Reject {task}").click()
        page.locator("#dialog [name=reason]").fill("said by nobody")
        served.cases.revoke_token("gone")
        page.click("#dialog .submit")
        told = page.wait_for_selector("#dialog .wrong").inner_text()
        assert "was not done: you are no longer let in" in told
        assert "key" not in page.locator("#dialog").inner_text()
        assert page.locator("#dialog [name=reason]").input_value() == "said by nobody"


def test_who_is_somebody_else_now_keeps_what_was_written(chromium: Any, served: Any) -> None:
    with looking(chromium, served.url, link=served.link) as one:
        page = one.go("/")
        page.keyboard.press("n")
        page.locator("#dialog [name=title]").fill("half a sentence")
        end_session(one)
        page.click("#dialog .submit")
        page.wait_for_selector("#dialog .away:has-text('You are no longer let in')")
        assert page.locator("#dialog [name=title]").input_value() == "half a sentence"
        assert page.locator("#dialog .submit").is_disabled()
        page.get_by_role("button", name="Not now").click()
        page.wait_for_selector(".bar .who:has-text('reading only')")
        assert page.locator("[data-new]").count() == 0


def test_a_key_that_does_nothing_says_why(looker: Any) -> None:
    page = looker.go("/")
    page.keyboard.press("a")
    looker.note("“a” does nothing here: no card is chosen")
    looker.go("/tasks/T1")
    page.keyboard.press("m")
    looker.note("“m” does nothing here: no button that is there now has it")


@pytest.mark.parametrize("found_by", ["refetch", "stream", "action", "find"])
def test_whose_token_was_revoked_is_told_and_comes_back_to_where_one_was(
    chromium: Any, served: Any, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    served.house.tokens_needed = True
    tokens = iter(("first", "second"))

    def log_in(page: Any) -> str:
        name = f"{next(tokens)}-{found_by}"
        page.fill("#token", served.cases.create_token(name, "operate")["token"])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector("#live.on")
        return name

    if found_by == "stream":
        monkeypatch.setattr(events, "ALIVE_S", 0.1)
    try:
        with looking(chromium, served.url) as one:
            page = one.page
            page.goto(f"{served.url}/?q=Vouchers")
            name = log_in(page)
            assert page.url == f"{served.url}/?q=Vouchers"
            page.locator("#card-T4").wait_for()
            served.cases.revoke_token(name)
            if found_by == "refetch":
                served.cases.update("T4", tags=[name])
            elif found_by == "action":
                page.keyboard.press("n")
                one.note("was not done: you are no longer let in")
            elif found_by == "find":
                page.fill("#find", "T4")
            page.wait_for_selector("#away:has-text('You are no longer let in')")
            assert "not let in" in page.locator("#live").inner_text()
            assert page.locator("button[hx-post]:enabled, [data-new]:enabled").count() == 0
            assert "Bearer" not in page.locator("body").inner_text()
            page.locator("#away a").click()
            log_in(page)
            assert page.url == f"{served.url}/?q=Vouchers"
            assert page.locator("[data-new]:enabled").count() == 1
    finally:
        served.house.tokens_needed = False


#: Keeps for each canvas what is written on it, and where that begins.
_WRITTEN = """
    const { fillText: write, clearRect: clear } = CanvasRenderingContext2D.prototype;
    CanvasRenderingContext2D.prototype.clearRect = function (...box) {
        this.canvas.written = [];
        return clear.call(this, ...box);
    };
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y, ...more) {
        const share = { right: 1, center: 0.5 }[this.textAlign] || 0;
        (this.canvas.written ||= []).push([text, x - share * this.measureText(text).width]);
        return write.call(this, text, x, y, ...more);
    };"""
#: Things to press or to fill that a screen reader could not name.
_NAMELESS = """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea')]
    .filter(one => one.offsetParent && !(one.innerText || one.ariaLabel || one.labels?.[0]?.innerText || '').trim())
    .map(one => one.outerHTML)"""
#: Texts whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.2, 1.4.3).
_FAINT = """() => {
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const behind = one => {
        for (; one; one = one.parentElement) {
            const [r, g, b, a = 1] = parse(getComputedStyle(one).backgroundColor);
            if (a === 1) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const linear = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const light = rgb => { const [r, g, b] = rgb.map(linear); return .2126 * r + .7152 * g + .0722 * b; };
    const found = new Set(), walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; node = walk.nextNode();) {
        const one = node.parentElement;
        if (!node.data.trim() || !one.checkVisibility() || one.closest('svg, .unseen, [aria-hidden=true]')) continue;
        const both = [light(parse(getComputedStyle(one).color).slice(0, 3)), light(behind(one))];
        const ratio = (Math.max(...both) + .05) / (Math.min(...both) + .05);
        if (ratio < 4.5) found.add(`${one.className}: ${node.data.trim().slice(0, 40)} ${ratio.toFixed(2)}`);
    }
    return [...found];
}"""


def test_ids_states_and_times_stay_whole_in_tables_on_a_phone(chromium: Any, served: Any) -> None:
    title = "Rework every one of the reports so that no number is written twice anywhere in any of them"
    task = served.cases.add(title, plan="shop").as_json()["id"]
    run = served.cases.claim(task, agent="claude")["run"]
    path = "reports/" + "a-long-name-of-a-report-" * 3 + ".py"
    (served.cases.project.root / "reports").mkdir(exist_ok=True)
    (served.cases.project.root / path).write_text("x")
    served.cases.report_files([{"path": path, "op": "created"}], run=run)
    with looking(chromium, served.url, link=served.link) as looker:
        looker.page.set_viewport_size({"width": 390, "height": 844})
        for view in ("/files", "/health", f"/tasks/{task}"):
            page = looker.go(view)
            broken = page.evaluate(
                """() => [...document.querySelectorAll("td.whole, td time, td .id")].filter(cell => {
                    const lines = document.createRange();
                    lines.selectNodeContents(cell);
                    return new Set([...lines.getClientRects()].map(box => Math.round(box.top / 6))).size > 2;
                }).map(cell => cell.textContent)"""
            )
            assert broken == []
            assert page.locator("td.whole").count() > 0
            assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_address_that_does_not_exist_is_a_page(served: Any, looker: Any) -> None:
    for path in ("/nothing", "/tasks/T1/nothing", "/tasks/nothing"):
        answer = looker.page.goto(served.url + path)
        assert answer.status == 404
        assert looker.page.locator("main h1").count() == 1
        assert looker.page.title()
        assert looker.page.locator("html").get_attribute("lang") == "en"
    looker.said = [line for line in looker.said if "404" not in line]
