"""Diffs and logs over the network: bounded, in pages, only so many at a time, and nothing of them stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from visitors import Served, Site, Visitor

from orchestrion.interfaces.web import house as houses

pytestmark = pytest.mark.long


def changed(site: Site, files: int, lines: int) -> None:
    """R1 made so many files."""
    command = f"mkdir d; for n in $(seq {files}); do seq {lines} > d/$n.txt; echo made $n; done"
    assert site.run("add", "many", "--run", command).returncode == 0
    done = site.run("work", "--drain")
    assert done.returncode == 0, done.stderr


def test_a_diff_comes_in_pages_within_bounds(site: Site, visitor: Visitor) -> None:
    changed(site, 10, 20)

    def text(**bounds: int) -> str:
        answer = visitor.ask("GET", "runs/R1/diff", params=bounds)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        return str(answer.text)

    whole = text()
    assert (whole.count("diff --git"), whole.count("left out")) == (10, 0)
    first, behind = text(limit=4), text(skip=4, limit=6)
    assert first.endswith("# files left out: 6 of 10; ?skip=4 goes on; `orchestrion diff R1` shows all\n")
    assert "".join(first.splitlines(keepends=True)[:-1]) + behind == whole
    assert len(text(max_bytes=1000)) < 1200
    assert text(file_bytes=150, limit=1).count("# lines of this file left out: ") == 1
    visitor.refused("GET", "runs/R1/diff?limit=0", 422, "invalid_parameters")


def test_a_diff_that_is_known_is_not_made_again(site: Site, visitor: Visitor) -> None:
    changed(site, 3, 3)
    known = visitor.ask("GET", "runs/R1/diff").headers["etag"]
    again = visitor.ask("GET", "runs/R1/diff", headers={"If-None-Match": known})
    assert (again.status_code, again.text) == (304, "")
    other = visitor.ask("GET", "runs/R1/diff?limit=1", headers={"If-None-Match": known})
    assert other.status_code == 200


def test_only_so_many_are_made_at_a_time(site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(site, 1, 1)
    monkeypatch.setattr(houses, "DIFF_PATIENCE_S", 0.05)
    portal: Any = visitor.client.portal
    others = [portal.wrap_async_context_manager(visitor.house.diffs.one()) for _ in range(houses.DIFFS_AT_ONCE)]
    for other in others:
        other.__enter__()
    visitor.refused("GET", "runs/R1/diff", 429, "no_room")
    assert visitor.ask("GET", "/runs/R1/diff").status_code == 429
    others[0].__exit__(None, None, None)
    assert visitor.ask("GET", "runs/R1/diff").status_code == 200
    for other in others[1:]:
        other.__exit__(None, None, None)


def test_a_page_of_a_log_is_bounded_by_its_size(site: Site, visitor: Visitor) -> None:
    site.run("add", "loud", "--run", "for n in $(seq 40); do head -c 30000 /dev/zero | tr '\\0' x; echo; done")
    site.run("work", "--drain")
    seen, offset = 0, 0
    while lines := (page := visitor.get(f"runs/R1/log?offset={offset}&limit=1000"))["lines"]:
        assert sum(len(line["text"]) for line in lines) <= 300_000
        seen, offset = seen + sum(line["stream"] == "out" for line in lines), page["next_offset"]
    assert seen == 40


def test_the_memory_of_a_server_comes_back_after_a_large_diff(site: Site) -> None:
    changed(site, 3_000, 150)
    with site.served() as served:
        # As after a while of use: all threads are there, and every view was looked at.
        for _ in range(4):
            together(served, ["/", "/runs/R1", "/timeline", "/graph", "/api/v1/runs", "/api/v1/tasks"] * 3)
            together(served, ["/runs/R1/diff", "/api/v1/runs/R1/diff?limit=5"])
        server = psutil.Process(served.process.pid)
        before = server.memory_info().rss
        for _ in range(3):
            together(served, ["/api/v1/runs/R1/diff?limit=1000&max_bytes=10000000"] * 3)
            together(served, ["/runs/R1/diff?skip=100"] * 3)
        assert server.memory_info().rss < 1.2 * before


def together(served: Served, paths: list[str]) -> None:
    """Asks all of it at the same moment; every answer must be a success."""
    answers: list[int] = []
    ask: Callable[[str], None] = lambda path: answers.append(served.ask("GET", path)[0])  # noqa: E731
    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * len(paths)
