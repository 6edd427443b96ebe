"""The pool of threads: work goes to the one that was idle last, and each gives back what is its own."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from orchestrion.interfaces.pool import Pool


def test_one_thread_does_what_comes_one_after_the_other() -> None:
    pool = Pool(8, "test")
    who = {pool.submit(threading.get_ident).result() for _ in range(50)}
    assert len(who) == pool.size == 1
    pool.shutdown()


def test_what_comes_at_once_is_done_at_once_and_the_rest_waits_its_turn() -> None:
    pool, meeting, order = Pool(4, "test"), threading.Barrier(4), []
    together = [pool.submit(meeting.wait, 10) for _ in range(4)]
    later = [pool.submit(order.append, number) for number in range(20)]
    assert sorted(one.result() for one in together) == [0, 1, 2, 3]
    for one in later:
        one.result()
    assert sorted(order) == list(range(20))
    assert pool.size == 4
    pool.shutdown()


def test_a_call_that_fails_tells_who_waits_and_the_thread_goes_on() -> None:
    pool = Pool(1, "test")
    failed = pool.submit(int, "no number")
    with pytest.raises(ValueError, match="no number"):
        failed.result()
    assert pool.submit(int, "7").result() == 7
    pool.shutdown()


def test_at_the_end_each_thread_leaves_and_nothing_is_taken_any_more() -> None:
    left: list[int] = []
    pool, meeting = Pool(3, "test", lambda: left.append(threading.get_ident())), threading.Barrier(3)
    for one in [pool.submit(meeting.wait, 10) for _ in range(3)]:
        one.result()
    pool.shutdown()
    assert len(set(left)) == 3
    with pytest.raises(RuntimeError):
        pool.submit(print)


@pytest.mark.parametrize("gives_up", [True, False])
def test_at_the_end_what_waits_is_done_or_given_up(gives_up: bool) -> None:
    pool, may_end, began = Pool(1, "test"), threading.Event(), threading.Event()
    first = pool.submit(lambda: (began.set(), may_end.wait(10)))
    waits = pool.submit(int, "7")
    assert began.wait(10)
    pool.shutdown(wait=False, cancel_futures=gives_up)
    may_end.set()
    pool.shutdown()
    assert first.done()
    if gives_up:
        with pytest.raises(CancelledError):
            waits.result(10)
    else:
        assert waits.result(10) == 7
