"""A server of this process, and those who look at its page with a browser."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from orchestrion.interfaces.web.app import create_app
from orchestrion.interfaces.web.house import House
from stage import Stage, wait_for


class Served:
    """A server of this process, in a thread of its own; it can be stopped and started at the same address."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.cases = stage.orchestrion
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listens; the first time at a port that is free."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self.house = House(self.cases)
        self.app = create_app(self.house)
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started, "the server listens")

    def stop(self) -> None:
        """Ends it; the project stays open."""
        self.app.state.events.stop()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """For a block it takes requests and answers nothing, as one that is stopped; it goes on afterwards."""
        reached, over = threading.Event(), threading.Event()

        def hang() -> None:
            reached.set()
            over.wait(120)

        self._server.servers[0].get_loop().call_soon_threadsafe(hang)
        assert reached.wait(20)
        try:
            yield
        finally:
            over.set()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        """What lets one browser in, as this machine's user."""
        return self.cases.make_link(f"{self.url}/")


#: What htmx says of requests whose view is left.
_CUT_SHORT = ("htmx:afterRequest", "htmx:sendError", "htmx:sendAbort")


class Looker:
    """Somebody with a browser; what the console says is kept."""

    def __init__(self, browser: Any, url: str, link: str | None = None, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1360, "height": 850}, **options)
        self.context.set_default_timeout(8_000)
        self.page = self.context.new_page()
        self.url = url
        self.said: list[str] = []
        self.page.on("console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        if link:
            self.page.goto(link)
            self.page.wait_for_selector("#live.on")

    def go(self, path: str) -> Any:
        """Opens a view and waits until it follows the journal."""
        before = len(self.said)
        self.page.goto(self.url + path)
        self.page.wait_for_selector("#live.on")
        # Of what the view before was asking for at that moment, the browser cuts the answer short.
        self.said[before:] = [one for one in self.said[before:] if not one.startswith(_CUT_SHORT)]
        return self.page

    def note(self, text: str) -> None:
        """Waits until the page says that something was done."""
        self.page.wait_for_selector(f"#notes .note:has-text('{text}')")

    def fill(self, **fields: str) -> None:
        """Fills the dialog that is open, and sends it."""
        self.page.wait_for_selector("#dialog[open]")
        for name, value in fields.items():
            field = self.page.locator(f"#dialog [name={name}]")
            if field.evaluate("one => one.tagName") == "SELECT":
                field.select_option(value)
            else:
                field.fill(value)
        self.page.click("#dialog .submit")


@contextmanager
def looking(browser: Any, url: str, **options: Any) -> Iterator[Looker]:
    """A window of the browser, for a block; with a ``link`` it is let in first."""
    one = Looker(browser, url, **options)
    try:
        yield one
    finally:
        one.context.close()
