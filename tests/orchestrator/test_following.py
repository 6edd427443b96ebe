"""Following the journal: every line once and in order, even where numbers are given before lines appear."""

from __future__ import annotations

import threading
from typing import Any

from orchestrion.orchestrator.following import GRACE_S, Journal
from orchestrion.store import Store, open_store
from waiting import wait_for


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(store: Store, kind: str) -> None:
    store.write(lambda tx: tx.event(kind))


def told(journal: Journal) -> list[str]:
    found, _ = journal.advance()
    return [one["kind"] for one in found]


def test_lines_come_once_and_in_order(store: Store) -> None:
    write(store, "before")
    journal = Journal(store)
    journal.last = journal._settled = store.read(lambda tx: tx.the("last_event"))["id"]
    assert told(journal) == []
    for number in range(3):
        write(store, f"e{number}")
    assert told(journal) == ["e0", "e1", "e2"]
    assert told(journal) == []


def test_a_line_that_appears_late_is_not_lost(store: Store, store_url: str, dialect: str) -> None:
    """SQLite cannot have one; there the second writer waits for the first."""
    if dialect == "sqlite":
        return
    clock = Clock()
    journal = Journal(store, clock)
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> None:
        other = open_store(store_url)

        def work(tx: Any) -> None:
            tx.event("slow")
            tx.finish()
            tx.the("clock")  # statements go out together: with an answer to this one the line has its number
            begun.set()
            assert go_on.wait(30)

        other.write(work)
        other.close()

    writer = threading.Thread(target=slowly)
    writer.start()
    assert begun.wait(30)
    write(store, "quick")
    assert told(journal) == []
    assert journal.doubts
    clock.now += GRACE_S
    assert told(journal) == []
    assert told(journal) == []
    go_on.set()
    writer.join()
    assert wait_for(lambda: told(journal), "the lines are told") == ["slow", "quick"]


def test_a_number_that_never_comes_is_not_waited_for(store: Store, dialect: str) -> None:
    clock = Clock()
    journal = Journal(store, clock)

    def rehearsed(tx: Any) -> None:
        tx.event("never")

    store.rehearse(rehearsed)
    write(store, "next")
    found = told(journal)
    if dialect == "postgres":
        assert found == []
        clock.now += GRACE_S
        assert told(journal) == []
        # Others of this server may have begun something before; once they have ended nothing can come any more.
        found = wait_for(lambda: told(journal), "the line is told")
    assert found == ["next"]
    assert not journal.doubts


def test_more_than_a_page_comes_in_pages(store: Store) -> None:
    journal = Journal(store)

    def many(tx: Any) -> None:
        for number in range(2500):
            tx.event(f"e{number}")

    store.write(many)
    kinds: list[str] = []
    more = True
    while more or len(kinds) < 2500:
        found, more = journal.advance()
        kinds += [one["kind"] for one in found]
    assert kinds == [f"e{number}" for number in range(2500)]
