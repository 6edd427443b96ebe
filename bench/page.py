"""Row 9: the page of a project with 10,000 tasks and 50 live runs, in a real Chromium.

First paint is the browser's own mark, from the start of the navigation, with an empty cache. An event shows when the
text of a new task stands in the page, from the moment before it is committed by another connection. The bound is the
same page of a project with ten tasks and no run.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.databases import Databases
from bench.measure import Measurement, median
from bench.project import BenchProject, until
from orchestrion import Orchestrator
from orchestrion.core.model import NewTask
from orchestrion.scheduler.create import create_all

FULL_ROUNDS, QUICK_ROUNDS = 15, 3
TASKS, LIVE, FEW = 10_000, 50, 10
#: In milliseconds.
PAINT_TARGET, EVENT_TARGET = 1000.0, 500.0
_SEEN = """title => { window.seen = new Promise(tell => new MutationObserver((_, watch) => {
    if (!document.querySelector('.ready').textContent.includes(title)) return;
    watch.disconnect();
    requestAnimationFrame(() => tell(performance.timeOrigin + performance.now()));
}).observe(document.body, {subtree: true, childList: true, characterData: true})); }"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def measure(databases: Databases, folder: Path, *, quick: bool = False) -> list[Measurement]:
    """The measurements of row 9 on one kind of database; none where there is no Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return []
    from playwright.sync_api import sync_playwright

    rounds = QUICK_ROUNDS if quick else FULL_ROUNDS
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        many = _looked_at(databases, folder / f"page-{databases.dialect}-many", browser, TASKS, LIVE, rounds)
        few = _looked_at(databases, folder / f"page-{databases.dialect}-few", browser, FEW, 0, rounds)
        browser.close()
    described = (("paint", "first paint of the board", PAINT_TARGET), ("event", "until an event shows", EVENT_TARGET))
    return [
        Measurement(
            row=9,
            key=f"page.{databases.dialect}.{key}",
            what=f"{databases.title}: {what}, {TASKS:,} tasks, {LIVE} live runs",
            value=median(many[key]),
            unit="ms",
            bound=median(few[key]),
            bound_is=f"the same of {FEW} tasks",
            target=target,
            judged="value",
        )
        for key, what, target in described
    ]


def _looked_at(
    databases: Databases, folder: Path, browser: Any, tasks: int, live: int, rounds: int
) -> dict[str, list[float]]:
    project = BenchProject(folder, databases)
    project.call("init")
    with project.open() as cases:
        _fill(cases, tasks, live)
        with _served(cases) as url:
            found = {
                "paint": [_first_paint(browser, url) for _ in range(rounds + 1)][1:],
                "event": _until_shown(browser, url, cases, rounds),
            }
    project.drop()
    return found


def _fill(cases: Orchestrator, tasks: int, live: int) -> None:
    # Urgent ones are added later and stand first, so that a new one is among those shown.
    new = [NewTask(f"Task {number} of a plan of the usual size", priority=5) for number in range(tasks)]
    cases.store.write(lambda tx: create_all(tx, new))
    for _ in range(live):
        cases.claim(agent="claude")


@contextmanager
def _served(cases: Orchestrator) -> Iterator[str]:
    import uvicorn

    from orchestrion.interfaces.web.app import create_app
    from orchestrion.interfaces.web.house import House

    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(House(cases))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started, "the server")
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    app.state.events.stop()
    server.should_exit = True
    thread.join()


def _first_paint(browser: Any, url: str) -> float:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(url)
    until(lambda: page.evaluate(_PAINT) is not None, "a paint")
    paint = float(page.evaluate(_PAINT))
    context.close()
    return paint


def _until_shown(browser: Any, url: str, cases: Orchestrator, rounds: int) -> list[float]:
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector("#live.on")
    took = []
    for number in range(rounds):
        title = f"News {number} of {rounds}"
        page.evaluate(_SEEN, title)
        began = time.time() * 1000
        adding = threading.Thread(target=lambda title=title: cases.add(title, priority=10))
        adding.start()
        took.append(float(page.evaluate("window.seen")) - began)
        adding.join()
    page.close()
    return took
